#pragma once

#include "base/buf.h"
#include "crypto/aead.h"

/* COSE_Encrypt0 (RFC 9052 §5.2, §5.3). */

/* COSE algorithm number ⇄ enum aead_alg; AEAD_NONE / 0 for what is not ours. */
enum aead_alg cose_aead_from_label(int64_t label);
int cose_aead_label(enum aead_alg alg);

/*
 * Append a COSE_Encrypt0 of plain: protected { 1: alg }, unprotected { ? 4: kid, 5: nonce }, empty external AAD; kid
 * with data NULL is left out. tagged puts tag 16 in front. 0, -ENOMEM, -EOVERFLOW, -EINVAL (sizes), -EIO.
 */
int cose_encrypt0(enum aead_alg alg, struct bytes key, struct bytes kid, struct bytes nonce, struct bytes plain,
                  bool tagged, struct buf *out);

/* The parts of a COSE_Encrypt0 without tags; views into the object. */
struct cose_encrypt0_parts {
        enum aead_alg alg;
        struct bytes protected_header; /* the bstr's content */
        struct bytes kid;              /* data NULL: absent */
        struct bytes nonce;            /* of the algorithm's size, built from IV */
        struct bytes cipher;
};

/*
 * Take a COSE_Encrypt0 apart, with or without tag 16. REFUSE_MALFORMED, or REFUSE_WRONG_TYPE for an algorithm or
 * header (crit too) that we do not know.
 */
int cose_encrypt0_parse(struct bytes object, struct cose_encrypt0_parts *ret);

/* Parse, then decrypt into plain (appended). REFUSE_MALFORMED also for what does not authenticate. */
int cose_encrypt0_open(struct bytes object, struct bytes key, struct buf *plain);
