#pragma once

#include "base/buf.h"
#include "base/secret.h"
#include "crypto/aead.h"
#include "domain/oscore.h"
#include "format/coap.h"

/*
 * OSCORE (RFC 8613) on messages in memory: keys, the option, protecting and unprotecting, the replay window. Who a
 * message is from, which numbers are free and what is answered is transport/oscore.c's.
 */
#define OSCORE_PIV_SIZE_MAX 5
#define OSCORE_PIV_MAX ((UINT64_C(1) << 40) - 1)
#define OSCORE_KID_CONTEXT_SIZE_MAX (OSCORE_ID_CONTEXT_SIZE_MAX + 2) /* an ID Context, or one in a CBOR byte string */
#define OSCORE_OPTION_SIZE_MAX (1 + OSCORE_PIV_SIZE_MAX + 1 + OSCORE_KID_CONTEXT_SIZE_MAX + OSCORE_ID_SIZE_MAX)

/* What both ends agreed on (§3.2). id_context with data NULL: none, which is not the one of no bytes. */
struct oscore_input {
        enum aead_alg alg;
        enum oscore_hkdf hkdf;
        struct bytes master_secret, master_salt, id_context;
        struct bytes sender_id, recipient_id;
};

/* Of parameters with their registered ID Context; borrows from both. */
struct oscore_input oscore_input_of(const struct oscore_parameters *parameters, struct bytes master_secret);

/* How COSE calls an HKDF: by its HMAC. 0 / 0 for what is not ours. */
int oscore_hkdf_label(enum oscore_hkdf hkdf);
enum oscore_hkdf oscore_hkdf_from_label(int64_t label);

/* What is derived from it. oscore_keys_done() wipes it. */
struct oscore_keys {
        enum aead_alg alg;
        struct oscore_id sender_id, recipient_id;
        struct secret sender_key, recipient_key;
        uint8_t common_iv[AEAD_NONCE_SIZE_MAX];
        struct aead *aead; /* borrowed: what all keys may share; NULL, as derived: nothing */
};

/* 0; -EINVAL: an algorithm that is none of ours, IDs that are too long or the same; -EIO. */
int oscore_derive(const struct oscore_input *input, struct oscore_keys *ret);
void oscore_keys_done(struct oscore_keys *keys);

/* ---- the option's value (§6.1) */

struct oscore_option {
        struct bytes piv, kid_context, kid; /* data NULL: absent */
};

/*
 * REFUSE_MALFORMED: reserved bits, a Partial IV of 6 or 7 bytes or with leading zeros, lengths beyond the end. Whether
 * a request has what it must have (Partial IV and kid) is the caller's to see. The result borrows.
 */
int oscore_option_decode(struct bytes value, struct oscore_option *ret);
/* Returns the size; 0 when all is absent. */
size_t oscore_option_encode(const struct oscore_option *option, uint8_t ret[static OSCORE_OPTION_SIZE_MAX]);

/* A Partial IV: the shortest big-endian form, of 0 one byte (§5). Returns the size, 1 to 5. */
size_t oscore_piv_encode(uint64_t number, uint8_t ret[static OSCORE_PIV_SIZE_MAX]);
/* The reverse; piv has 1 to 5 bytes. */
uint64_t oscore_piv_decode(struct bytes piv);

/* ---- messages */

/* What the request was that a response belongs to (§5.4): the bytes as they stood in its option. */
struct oscore_request {
        struct oscore_id kid;
        size_t piv_size;
        uint8_t piv[OSCORE_PIV_SIZE_MAX];
};

/* A protected message under construction: the outer message borrows from here, and from the inner one. */
struct oscore_outer {
        struct coap_message message;
        uint8_t option[OSCORE_OPTION_SIZE_MAX];
        struct buf payload; /* BUF_INIT() by the caller, who wipes and frees it */
};

/*
 * Server: a request that has the OSCORE option, whose context was found by option's kid. What was inside is in
 * *ret_inner, with type, MID and token of outer and its Class U options (Uri-Host, Uri-Port, Proxy-*): outer's code and
 * all its other options are dropped (§8.2 step 1). *plain (wiped and freed by the caller) holds what it borrows.
 * 0; -EBADMSG: does not decrypt; REFUSE_MALFORMED: it does, but is no message, or has an OSCORE option inside;
 * -ENOMEM, -EOVERFLOW, -EIO. The replay window is the caller's.
 */
int oscore_unprotect_request(const struct oscore_keys *keys, const struct oscore_option *option,
                             const struct coap_message *outer, struct buf *plain, struct coap_message *ret_inner,
                             struct oscore_request *ret_request);

/*
 * Server: the response to request. piv: a number of our own that was never used (always for notifications but the
 * first), or NULL: under the nonce of the request, once for each.
 */
int oscore_protect_response(const struct oscore_keys *keys, const struct oscore_request *request, const uint64_t *piv,
                            const struct coap_message *inner, struct oscore_outer *ret);

/*
 * Response 1 of a renewal (Appendix B.2), the only message under keys: kid_context is told along, and our own number 0.
 * The nonce of request 1 would be another for whom it is what was computed then (§8.3), with the Common IV of R1, and
 * for whom it follows from the keys at hand.
 */
int oscore_protect_renewing(const struct oscore_keys *keys, const struct oscore_request *request,
                            struct bytes kid_context, const struct coap_message *inner, struct oscore_outer *ret);

/* Client: piv was never used. kid_context with data NULL: not told. *ret_request is for the responses to it. */
int oscore_protect_request(const struct oscore_keys *keys, uint64_t piv, struct bytes kid_context,
                           const struct coap_message *inner, struct oscore_outer *ret,
                           struct oscore_request *ret_request);

/* Client: as oscore_unprotect_request(). A notification is ordered by option's Partial IV (§4.1.3.5). */
int oscore_unprotect_response(const struct oscore_keys *keys, const struct oscore_request *request,
                              const struct oscore_option *option, const struct coap_message *outer, struct buf *plain,
                              struct coap_message *ret_inner);

/* ---- renewal (Appendix B.2), what both sides need */

/* The kid context of a renewal: an ID Context as CBOR byte string. Returns the size; 0: it is too long. */
size_t oscore_kid_context_wrap(struct bytes id_context, uint8_t ret[static OSCORE_KID_CONTEXT_SIZE_MAX]);
/* The reverse, no longer than an ID Context may be, borrowed; false: it is no CBOR byte string, or there is more. */
bool oscore_kid_context_unwrap(struct bytes kid_context, struct bytes *ret_id_context);
/* As oscore_derive(), with one || two as ID Context in place of input's. */
int oscore_derive_under(const struct oscore_input *input, struct bytes one, struct bytes two, struct oscore_keys *ret);

#define OSCORE_R_SIZE_MIN 8 /* of R1, R2 and R3: "typically, at least 8 bytes long" */

/*
 * The client's side. input is what was agreed on; its id_context is of no concern. All Partial IVs may begin with 0
 * again, as each context is one that never was before.
 *
 *     oscore_renewing_begin(): with a random R1, derives the keys for request 1. Send it by oscore_protect_request()
 *             with oscore_renewing_kid_context(). It is never acted upon, so it may be any request.
 *     oscore_renewing_heard(): response 1, a 4.01 with a kid context in its option, was received: verifies it, and
 *             with a random R3 derives the keys for request 2, which is what was to be asked, and is sent as request 1
 *             was. Any other answer: begin again later (an unprotected 5.03: too often).
 *
 * Once a response to request 2 verifies by oscore_unprotect_response() (also a 4.01 with Echo, followed as ever), the
 * context's ID Context is id_context from then on: keep it with the next Partial IV. Requests need not tell it any
 * more, but may, wrapped or as it is.
 */
struct oscore_renewing {
        size_t id_context_size;
        uint8_t id_context[OSCORE_ID_CONTEXT_SIZE_MAX]; /* R1, then R2 || R3 */
};

/* ret_keys: as oscore_derive(). r1: OSCORE_RENEWING_R_SIZE random bytes. */
#define OSCORE_RENEWING_R_SIZE 8
int oscore_renewing_begin(struct oscore_renewing *renewing, const struct oscore_input *input,
                          const uint8_t r1[static OSCORE_RENEWING_R_SIZE], struct oscore_keys *ret_keys);
/*
 * outer: with the token of request 1, whose *request is. 0; -EBADMSG: it is not from the server, go on waiting;
 * REFUSE_MALFORMED: it is, but is no response 1; as oscore_derive(). Only with 0 anything is changed.
 */
int oscore_renewing_heard(struct oscore_renewing *renewing, const struct oscore_input *input,
                          const struct oscore_request *request, const struct coap_message *outer,
                          const uint8_t r3[static OSCORE_RENEWING_R_SIZE], struct oscore_keys *ret_keys);
/* For request 1 or 2: id_context, wrapped. Returns its size. */
size_t oscore_renewing_kid_context(const struct oscore_renewing *renewing,
                                   uint8_t ret[static OSCORE_KID_CONTEXT_SIZE_MAX]);

/* ---- the replay window (§7.4) */

#define OSCORE_WINDOW 32

struct oscore_window {
        uint64_t next; /* one more than the highest that was seen; 0: none was */
        uint32_t seen; /* bit n: next - 1 - n was */
};

/* Would this number be accepted? Nothing is changed: what did not decrypt leaves no mark. */
bool oscore_window_accepts(const struct oscore_window *window, uint64_t piv);
/* It decrypted. */
void oscore_window_mark(struct oscore_window *window, uint64_t piv);
