#pragma once

#include "base/buf.h"
#include "domain/grant.h"
#include "domain/token.h"

/* The maps of RFC 9200 and 9201, application/ace+cbor. Decoded structs borrow from the payload. */

/*
 * POST /token. REFUSE_MALFORMED (also an empty payload); REFUSE_WRONG_TYPE: a parameter of a wrong kind, a key twice,
 * in the request, its req_cnf or the COSE_Key there. What is well-formed but cannot be granted (grant type, req_cnf) is
 * told in *ret_ask and refused by grant_decide() in its turn (AS-059). req_cnf is read when it has exactly one
 * confirmation method that we know; unknown members are ignored (RFC 8747 §3.1). ace_profile with an integer, which RFC
 * 9200 does not define, is ignored like an unknown parameter.
 */
int token_ask_decode(struct bytes payload, struct token_ask *ret_ask);

/*
 * 2.01 of the token endpoint: access_token, expires_in, and cnf, scope, refresh_token, ace_profile and rs_cnf when due.
 * cnf has a new key by value (RFC 9202 §3.3.1, RFC 9203 §3.2); a key that the client named by its kid is named in
 * return, not sent again (RFC 9201 §3.2); there is none in an update of access rights over OSCORE (RFC 9203 §3.2), nor
 * with a public key, the client's own, where rs_cnf has the server's (RFC 9202 §3.2.1). The buffer may hold a key: the
 * caller wipes it.
 */
int token_answer_encode(const struct grant *grant, struct bytes access_token, struct buf *out);

/*
 * A refresh token, opaque to who has it: the number of its row in eight bytes, then random ones. It is known by its
 * hash. Reading: REFUSE_MALFORMED, it is none of ours.
 */
#define REFRESH_RANDOM_SIZE 16
void refresh_token_write(uint64_t number, const uint8_t random[static REFRESH_RANDOM_SIZE], struct secret *ret);
int refresh_token_number(struct bytes token, uint64_t *ret_number);

/* { 30: error, ? 31: description } (RFC 9200 §5.8.3). description NULL: none. */
int ace_error_encode(int error, const char *description, struct buf *out);

/* POST /introspect. REFUSE_MALFORMED, REFUSE_WRONG_TYPE, REFUSE_MISSING. A token_type_hint is ignored. */
struct introspect_ask {
        struct bytes token;
};
int introspect_ask_decode(struct bytes payload, struct introspect_ask *ret_ask);

/*
 * token NULL: { 10: false } and nothing else (AS-156). Else iss, aud, exp or exi, nbf, iat, cti, cnf with the key by
 * value (by its name when the token has no bytes of it, or names an OSCORE_Input_Material itself), scope, active,
 * ace_profile, cnonce: what the token itself says, and not whose it is (AS-177). The buffer may then hold a key: the
 * caller wipes it.
 */
int introspect_answer_encode(const struct token *token, struct bytes issuer, struct buf *out);

/* Enough for every map here and in cwt.h beside its token or issuer: held at once, so that no key is left behind. */
#define ACE_COSE_KEY_ROOM (2 * COORDINATE_SIZE_MAX + CREDENTIAL_KID_MAX + 24)
#define ACE_KEY_ROOM                                                                                                \
        (AUDIENCE_SIZE_MAX + SCOPE_SIZE_MAX + SECRET_SIZE_MAX + 2 * ACE_COSE_KEY_ROOM + OSC_SALT_SIZE +             \
         OSC_CONTEXT_ID_SIZE + CNONCE_SIZE_MAX + 192)

struct cbor_writer;

/*
 * { 1: { 1: 4, 2: kid, -1: k } }: a cnf with a symmetric key by value (RFC 8747 §3.2), as the value of a map pair that
 * the caller has begun. Without key bytes: { 1: { 1: 4, 2: kid } }, the key by its name.
 */
void ace_put_symmetric_cnf(struct cbor_writer *w, uint64_t key_number, struct bytes key);
/* { 3: kid }: a cnf with the name of a key. */
void ace_put_kid_cnf(struct cbor_writer *w, uint64_t key_number);

/* An OSCORE_Input_Material (RFC 9203 §3.2.1) as bytes; no salt, context_id with data NULL: left out. */
struct osc_input {
        struct bytes id, ms, salt, context_id;
        enum aead_alg alg;
        enum oscore_hkdf hkdf;
};
/* { 0: id, 2: ms, ? 3: hkdf, ? 4: alg, ? 5: salt, ? 6: contextId }: algorithms unless they are the defaults. */
void ace_put_osc(struct cbor_writer *w, const struct osc_input *input);
/* { 4: that }: a cnf with the key of this number, whose bytes are ms. */
void ace_put_osc_cnf(struct cbor_writer *w, uint64_t key_number, struct bytes ms, const struct osc *osc);

/* The COSE_Key in ace_put_symmetric_cnf(): { 1: 4, 2: kid, ? -1: k }. */
void ace_put_symmetric_key(struct cbor_writer *w, uint64_t key_number, struct bytes key);

/* { 1: COSE_Key }: a cnf or rs_cnf with a public key; kid with data NULL is left out. */
void ace_put_public_cnf(struct cbor_writer *w, const struct public_key *key, struct bytes kid);

/* The pair label: scope, as text or bytes; nothing for SCOPE_NONE. */
void ace_put_scope(struct cbor_writer *w, int label, const struct scope *scope);
