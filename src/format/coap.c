#include "format/coap.h"

#include <coap3/coap.h>
#include <errno.h>
#include <stdio.h>

#include "domain/refusal.h"

#define HEADER_SIZE 4
#define VERSION 1
#define BYTE_PAYLOAD_MARKER 0xff
#define OPTION_VALUE_SIZE_MAX 65804 /* what the 16-bit length extension can say: 65535 + 269 */

/* libcoap counts deltas in 16 bits, and some releases let one that is too large come out as a small one */
static bool delta_is_too_large(struct bytes option) {
        if (option.size < 3 || option.data[0] >> 4 != 14)
                return false;
        return 269 + (option.data[1] << 8 | option.data[2]) > UINT16_MAX;
}

static int decode_options(struct bytes *in, struct coap_message *message) {
        uint32_t number = 0;

        while (in->size > 0 && in->data[0] != BYTE_PAYLOAD_MARKER) {
                coap_option_t option;
                size_t n;

                if (delta_is_too_large(*in))
                        return REFUSE_MALFORMED;
                n = coap_opt_parse(in->data, in->size, &option);
                if (n == 0 || n > in->size || message->n_options == COAP_OPTIONS_MAX)
                        return REFUSE_MALFORMED;
                number += option.delta;
                if (number > UINT16_MAX)
                        return REFUSE_MALFORMED;
                message->options[message->n_options++] = (struct coap_option){
                        .number = (uint16_t)number,
                        .value = bytes_of(option.value, option.length),
                };
                *in = bytes_of(in->data + n, in->size - n);
        }
        return 0;
}

/* RFC 7252 §4.2: 1, 6 and 7 are reserved */
static bool class_is_reserved(uint8_t code) {
        unsigned class = code >> 5;

        return class == 1 || class == 6 || class == 7;
}

/* Options, and payload if there is a marker. */
static int decode_body(struct bytes in, struct coap_message *message) {
        int r = decode_options(&in, message);

        if (r != 0 || in.size == 0)
                return r;
        if (in.size == 1)
                return REFUSE_MALFORMED; /* §3: a payload marker and no payload */
        message->payload = bytes_of(in.data + 1, in.size - 1);
        return 0;
}

/* What follows the four bytes of the header. */
static int decode_rest(struct bytes in, size_t token_size, struct coap_message *message) {
        /* RFC 7252 §4.1: nothing may follow the message ID of an empty message */
        if (message->code == CODE_EMPTY)
                return token_size > 0 || in.size > 0 ? REFUSE_MALFORMED : 0;
        if (class_is_reserved(message->code) || token_size > COAP_TOKEN_SIZE_MAX || token_size > in.size)
                return REFUSE_MALFORMED;
        message->token = bytes_of(in.data, token_size);
        return decode_body(bytes_of(in.data + token_size, in.size - token_size), message);
}

int coap_message_decode(struct bytes datagram, struct coap_message *ret, bool *ret_header_ok) {
        *ret_header_ok = false;
        if (datagram.size < HEADER_SIZE || datagram.data[0] >> 6 != VERSION)
                return REFUSE_MALFORMED;
        *ret_header_ok = true;
        ret->type = datagram.data[0] >> 4 & 3;
        ret->code = datagram.data[1];
        ret->mid = (uint16_t)(datagram.data[2] << 8 | datagram.data[3]);
        ret->token = BYTES_NONE;
        ret->n_options = 0;
        ret->payload = BYTES_NONE;
        return decode_rest(bytes_of(datagram.data + HEADER_SIZE, datagram.size - HEADER_SIZE), datagram.data[0] & 15,
                           ret);
}

void coap_message_begin(struct coap_message *ret) {
        ret->type = (enum coap_type)0;
        ret->code = CODE_EMPTY;
        ret->mid = 0;
        ret->token = BYTES_NONE;
        ret->n_options = 0;
        ret->payload = BYTES_NONE;
}

int coap_inner_decode(struct bytes plain, struct coap_message *ret) {
        coap_message_begin(ret);
        if (plain.size == 0 || plain.data[0] == CODE_EMPTY || class_is_reserved(plain.data[0]))
                return REFUSE_MALFORMED;
        ret->code = plain.data[0];
        return decode_body(bytes_of(plain.data + 1, plain.size - 1), ret);
}

/* RFC 7252 §3.1: in order of their numbers, equal ones in the order they were given */
static void sort_options(const struct coap_message *message, const struct coap_option *ret[COAP_OPTIONS_MAX]) {
        for (size_t i = 0; i < message->n_options; i++) {
                size_t at = i;

                for (; at > 0 && ret[at - 1]->number > message->options[i].number; at--)
                        ret[at] = ret[at - 1];
                ret[at] = &message->options[i];
        }
}

void coap_message_sort(struct coap_message *message) {
        const struct coap_option *sorted[COAP_OPTIONS_MAX];
        struct coap_option options[COAP_OPTIONS_MAX];

        sort_options(message, sorted);
        for (size_t i = 0; i < message->n_options; i++)
                options[i] = *sorted[i];
        memcpy(message->options, options, message->n_options * sizeof(options[0]));
}

static int encode_option(uint16_t delta, struct bytes value, struct buf *out) {
        size_t size = coap_opt_encode_size(delta, value.size);
        uint8_t *space;
        int r;

        r = buf_reserve(out, size, &space);
        if (r != 0)
                return r;
        if (coap_opt_encode(space, size, delta, value.data, value.size) != size)
                return -EINVAL;
        buf_added(out, size);
        return 0;
}

static int encode_header(const struct coap_message *message, struct buf *out) {
        const uint8_t header[HEADER_SIZE] = {
                (uint8_t)(VERSION << 6 | (message->type & 3) << 4 | message->token.size),
                message->code,
                (uint8_t)(message->mid >> 8),
                (uint8_t)message->mid,
        };
        int r;

        r = buf_add(out, bytes_of(header, sizeof(header)));
        return r != 0 ? r : buf_add(out, message->token);
}

/* Options, and the payload behind its marker. */
static int encode_body(const struct coap_message *message, struct buf *out) {
        const struct coap_option *options[COAP_OPTIONS_MAX];
        uint16_t before = 0;
        int r;

        sort_options(message, options);
        for (size_t i = 0; i < message->n_options; i++) {
                r = encode_option((uint16_t)(options[i]->number - before), options[i]->value, out);
                if (r != 0)
                        return r;
                before = options[i]->number;
        }
        if (message->payload.size == 0)
                return 0;
        r = buf_add_byte(out, BYTE_PAYLOAD_MARKER);
        return r != 0 ? r : buf_add(out, message->payload);
}

static bool message_fits_format(const struct coap_message *message) {
        if (message->token.size > COAP_TOKEN_SIZE_MAX || message->n_options > COAP_OPTIONS_MAX)
                return false;
        if (message->code == CODE_EMPTY)
                return message->token.size == 0 && message->n_options == 0 && message->payload.size == 0;
        for (size_t i = 0; i < message->n_options; i++)
                if (message->options[i].value.size > OPTION_VALUE_SIZE_MAX)
                        return false;
        return true;
}

int coap_message_encode(const struct coap_message *message, struct buf *out) {
        size_t before = out->size;
        int r;

        if (!message_fits_format(message))
                return -EINVAL;
        r = encode_header(message, out);
        if (r == 0)
                r = encode_body(message, out);
        if (r != 0)
                out->size = before; /* no half message stays */
        return r;
}

size_t coap_message_size(const struct coap_message *message, size_t token_size) {
        size_t size = HEADER_SIZE + token_size + (message->payload.size > 0 ? 1 + message->payload.size : 0);
        uint16_t before = 0;

        for (size_t i = 0; i < message->n_options; i++) {
                uint16_t delta = (uint16_t)(message->options[i].number - before);

                size += 1 + (delta >= 13) + (delta >= 269) + message->options[i].value.size;
                before = message->options[i].number;
        }
        return size;
}

int coap_inner_encode(const struct coap_message *message, struct buf *out) {
        size_t before = out->size;
        int r;

        if (message->code == CODE_EMPTY || !message_fits_format(message))
                return -EINVAL;
        r = buf_add_byte(out, message->code);
        if (r == 0)
                r = encode_body(message, out);
        if (r != 0)
                out->size = before;
        return r;
}

int coap_message_add(struct coap_message *message, uint16_t number, struct bytes value) {
        if (message->n_options >= COAP_OPTIONS_MAX)
                return -EOVERFLOW;
        message->options[message->n_options++] = (struct coap_option){ .number = number, .value = value };
        return 0;
}

int coap_message_add_uint(struct coap_message *message, uint16_t number, uint32_t value, uint8_t scratch[static 4]) {
        size_t size = 0;

        /* RFC 7252 §3.2: no leading zero bytes; 0 is the empty string */
        for (int shift = 24; shift >= 0; shift -= 8)
                if (size > 0 || value >> shift != 0)
                        scratch[size++] = (uint8_t)(value >> shift);
        return coap_message_add(message, number, bytes_of(scratch, size));
}

bool coap_option_uint(const struct coap_option *option, uint32_t *ret) {
        uint32_t value = 0;

        if (option->value.size > 4)
                return false;
        for (size_t i = 0; i < option->value.size; i++)
                value = value << 8 | option->value.data[i];
        *ret = value;
        return true;
}

/* ---- which options may stand in a request */

struct option_rule {
        uint16_t number;
        uint16_t size_min, size_max;
        bool repeatable;
};

/*
 * RFC 7252 §5.10, RFC 7641, 7959, 7967, 8613, 8768, 9175. What is critical and not here is refused: If-Match and
 * If-None-Match, as no resource here has a condition to check; Proxy-Uri and Proxy-Scheme.
 */
static const struct option_rule rules[] = {
        { OPTION_URI_HOST, 1, 255, false },
        { OPTION_ETAG, 1, 8, true },
        { OPTION_OBSERVE, 0, 3, false },
        { OPTION_URI_PORT, 0, 2, false },
        { OPTION_LOCATION_PATH, 0, 255, true },
        { OPTION_OSCORE, 0, 255, false },
        { OPTION_URI_PATH, 0, 255, true },
        { OPTION_CONTENT_FORMAT, 0, 2, false },
        { OPTION_MAX_AGE, 0, 4, false },
        { OPTION_URI_QUERY, 0, 255, true },
        { OPTION_HOP_LIMIT, 1, 1, false },
        { OPTION_ACCEPT, 0, 2, false },
        { OPTION_BLOCK2, 0, 3, false },
        { OPTION_BLOCK1, 0, 3, false },
        { OPTION_SIZE2, 0, 4, false },
        { OPTION_SIZE1, 0, 4, false },
        { OPTION_ECHO, 1, 40, false },
        { OPTION_NO_RESPONSE, 0, 1, false },
        { OPTION_REQUEST_TAG, 0, 8, true },
};

static const struct option_rule *find_rule(uint16_t number) {
        for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
                if (rules[i].number == number)
                        return &rules[i];
        return NULL;
}

static bool size_is_allowed(const struct option_rule *rule, const struct coap_option *option) {
        return option->value.size >= rule->size_min && option->value.size <= rule->size_max;
}

static bool option_is_allowed(const struct coap_option *option, bool again) {
        const struct option_rule *rule = find_rule(option->number);

        return rule && size_is_allowed(rule, option) && (!again || rule->repeatable);
}

const struct coap_option *coap_message_option(const struct coap_message *message, uint16_t number, unsigned n) {
        for (size_t i = 0; i < message->n_options; i++) {
                const struct coap_option *option = &message->options[i];
                const struct option_rule *rule;

                if (option->number != number)
                        continue;
                rule = find_rule(number);
                if ((!rule || size_is_allowed(rule, option)) && n-- == 0)
                        return option;
        }
        return NULL;
}

bool coap_option_is_outer(uint16_t number) {
        return number == OPTION_URI_HOST || number == OPTION_URI_PORT || number == OPTION_OSCORE ||
               number == OPTION_EDHOC || number == OPTION_PROXY_URI || number == OPTION_PROXY_SCHEME;
}

int coap_request_check_options(const struct coap_message *message, uint16_t *ret_bad) {
        bool is_protected = coap_message_option(message, OPTION_OSCORE, 0);

        for (size_t i = 0; i < message->n_options; i++) {
                const struct coap_option *option = &message->options[i];
                bool critical = option->number & 1;
                bool again = i > 0 && message->options[i - 1].number == option->number;

                if (critical && !option_is_allowed(option, again) &&
                    (!is_protected || coap_option_is_outer(option->number))) {
                        *ret_bad = option->number;
                        return REFUSE_BAD_OPTION;
                }
        }
        return 0;
}

void coap_code_text(uint8_t code, char text[static 5]) {
        snprintf(text, 5, "%u.%02u", code >> 5 & 7u, code & 31u);
}
