#pragma once

#include "base/buf.h"
#include "domain/token.h"

struct grant;

/*
 * The claims of a token (RFC 8392 §3, RFC 8747 §3, RFC 9200 §5.10): iss, aud, exp, iat, cti, cnf with the symmetric
 * COSE_Key by value, scope. *claims is appended to. The buffer holds the PoP key: the caller wipes it. Errors of
 * buf_add().
 */
int cwt_claims_encode(const struct grant *grant, struct bytes issuer, struct buf *claims);

/*
 * The bytes that identify a token whatever tags stand around it (AS-173): token without a CWT tag and without the COSE
 * tag under it. What is no CBOR is its own core (an opaque token). The result borrows from token.
 */
struct bytes cwt_core(struct bytes token);

/*
 * The number of a token of ours, whatever tags stand around it: the last eight bytes of its IV. Anybody can write one;
 * a token is known by its hash. REFUSE_MALFORMED: none that could be ours.
 */
int cwt_number(struct bytes token, uint64_t *ret_number);

/* SHA-256 of cwt_core(token): what a token is known by. 0 or -EIO. */
int cwt_hash(struct bytes token, uint8_t ret[static TOKEN_HASH_SIZE]);
