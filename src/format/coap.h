#pragma once

#include "base/buf.h"
#include "format/labels.h"

/* CoAP messages over UDP and DTLS (RFC 7252 §3): bytes ⇄ struct. libcoap's option codec is underneath. */
enum coap_type { TYPE_CON = 0, TYPE_NON = 1, TYPE_ACK = 2, TYPE_RST = 3 };

#define COAP_OPTIONS_MAX 32 /* in one message; more is a format error */
#define COAP_TOKEN_SIZE_MAX 8

struct coap_option {
        uint16_t number;
        struct bytes value;
};

struct coap_message {
        enum coap_type type;
        uint8_t code;
        uint16_t mid;
        struct bytes token;
        struct coap_option options[COAP_OPTIONS_MAX]; /* in ascending order of number */
        size_t n_options;
        struct bytes payload;
};

/*
 * Decode a datagram; the struct borrows from it. Returns 0, or REFUSE_MALFORMED for a message format error (RFC 7252
 * §3, §4.2: wrong version is not for us either, reserved token length, payload marker without payload, empty message
 * with more than its header, reserved code class, option out of range, a token longer than 8). *ret_header_ok says
 * whether type, version and MID could at least be read, so that a confirmable can be rejected with RST.
 */
int coap_message_decode(struct bytes datagram, struct coap_message *ret, bool *ret_header_ok);

/* Encode; options in any order. 0, -ENOMEM, -EOVERFLOW, -EINVAL (more than fits the format). */
int coap_message_encode(const struct coap_message *message, struct buf *out);

/* Bytes that it takes, with a token of that size; its options are in order, and none has more than 12 bytes. */
size_t coap_message_size(const struct coap_message *message, size_t token_size);

/*
 * What OSCORE encrypts (RFC 8613 §5.3): code, options, payload, without type, MID and token. Encoding as above.
 * Decoding returns 0, or REFUSE_MALFORMED as coap_message_decode(), also for an empty message; *ret gets type, MID and
 * token of nothing.
 */
int coap_inner_encode(const struct coap_message *message, struct buf *out);
int coap_inner_decode(struct bytes plain, struct coap_message *ret);

/* Put the options in order of their numbers, equal ones staying as they were. */
void coap_message_sort(struct coap_message *message);

/* An empty message without options: all but the room for them is set, which is nine tenths of it. */
void coap_message_begin(struct coap_message *ret);
/* Append an option to a message under construction; value is borrowed. -EOVERFLOW when COAP_OPTIONS_MAX is reached. */
int coap_message_add(struct coap_message *message, uint16_t number, struct bytes value);
/* The same for a uint option; scratch (4 bytes) keeps the encoded value as long as the message lives. */
int coap_message_add_uint(struct coap_message *message, uint16_t number, uint32_t value, uint8_t scratch[static 4]);

/*
 * The n-th (from 0) option with this number, or NULL. One whose size is out of its limits is treated like an unknown
 * one (RFC 7252 §5.4.3): not found.
 */
const struct coap_option *coap_message_option(const struct coap_message *message, uint16_t number, unsigned n);

/* A uint option's value (at most 4 bytes, else false). */
bool coap_option_uint(const struct coap_option *option, uint32_t *ret);

/*
 * May an option with this value stand in a request (RFC 7252 §5.10 table 4 and the RFCs of the others: length limits,
 * repeatable or not)? A known option that breaks its limits is treated like an unknown one (§5.4.3). *message as
 * decoded. Returns 0 when no critical option is unknown or out of its limits, else REFUSE_BAD_OPTION with the number.
 *
 * Refused with the unknown ones: If-Match, If-None-Match; Proxy-Uri and Proxy-Scheme (the caller may turn those two
 * into 5.05, RFC 7252 §5.10.2). Of a message that has an OSCORE option only those count that stay outside: the others
 * are nobody's word (RFC 8613 §8.2).
 */
int coap_request_check_options(const struct coap_message *message, uint16_t *ret_bad);

/* Class U of RFC 8613 §4.1: for proxies, never encrypted. Every other option is encrypted. */
bool coap_option_is_outer(uint16_t number);

/* "2.05" etc. for people; text has at least 5 bytes. */
void coap_code_text(uint8_t code, char text[static 5]);
