#pragma once

#include "base/buf.h"
#include "domain/grant.h"
#include "domain/token.h"

/* The maps of RFC 9200 and 9201, application/ace+cbor. Decoded structs borrow from the payload. */

/*
 * POST /token. REFUSE_MALFORMED (also an empty payload), REFUSE_WRONG_TYPE; what is well-formed but cannot be granted
 * (grant type, req_cnf) is told in *ret_ask and refused by grant_decide() in its turn (AS-059).
 */
int token_ask_decode(struct bytes payload, struct token_ask *ret_ask);

/* 2.01 of the token endpoint: access_token, expires_in, scope and ace_profile when due, cnf when due (AS-046). */
int token_answer_encode(const struct grant *grant, struct bytes access_token, struct buf *out);

/* { 30: error, ? 31: description } (RFC 9200 §5.8.3). description NULL: none. */
int ace_error_encode(int error, const char *description, struct buf *out);

struct introspect_ask {
        struct bytes token;
};
int introspect_ask_decode(struct bytes payload, struct introspect_ask *ret_ask);

/* token NULL: { 10: false } and nothing else (AS-156). */
int introspect_answer_encode(const struct token *token, struct bytes issuer, struct buf *out);

/*
 * { 1: { 1: 4, 2: kid, -1: k } }: a cnf with a symmetric key by value (RFC 8747 §3.2), as the value of a map pair that
 * the caller has begun.
 */
struct cbor_writer;
void ace_put_symmetric_cnf(struct cbor_writer *w, uint64_t key_number, struct bytes key);
