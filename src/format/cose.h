#pragma once

#include "base/buf.h"
#include "crypto/aead.h"
#include "crypto/key.h"
#include "crypto/mac.h"
#include "crypto/sign.h"

/* COSE objects with one signer or recipient (RFC 9052 §4.2, §5.2, §6.2) and keys (§7). */

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

/*
 * The same of many: aead is borrowed, see aead_seal_with(). all_protected: every header parameter is protected, under an
 * empty unprotected map (RFC 9770 §3), protected { 1: alg, ? 4: kid, 5: nonce }. cose_encrypt0_parse() reads either
 * form.
 */
struct cose_encrypting {
        struct aead *aead;
        enum aead_alg alg;
        struct bytes key, kid, nonce;
        bool tagged, all_protected;
};
int cose_encrypt0_with(const struct cose_encrypting *how, struct bytes plain, struct buf *out);

/*
 * Append a COSE_Mac0, a COSE_Sign1 of payload: protected { 1: alg }, unprotected { ? 4: kid }, or with all_protected
 * { 1: alg, ? 4: kid } and {}. tagged puts tag 17, 18 in front. 0, -ENOMEM, -EOVERFLOW, -EINVAL, -EIO.
 */
int cose_mac0(enum mac_alg alg, struct bytes key, struct bytes kid, bool all_protected, struct bytes payload,
              bool tagged, struct buf *out);
int cose_sign1(struct sign_key *key, struct bytes kid, bool all_protected, struct bytes payload, bool tagged,
               struct buf *out);

/* The parts of a COSE_Mac0 or COSE_Sign1 without tags; views into the object. */
struct cose_signed_parts {
        int64_t alg;                   /* COSE's number */
        struct bytes protected_header; /* the bstr's content */
        struct bytes kid;              /* data NULL: absent */
        struct bytes payload;
        struct bytes proof;            /* tag or signature */
};

/* With or without its tag. REFUSE_MALFORMED; REFUSE_WRONG_TYPE for headers that we do not know (crit too). */
int cose_mac0_parse(struct bytes object, struct cose_signed_parts *ret);
int cose_sign1_parse(struct bytes object, struct cose_signed_parts *ret);
/* Parse and verify; *ret_payload borrows from object. REFUSE_MALFORMED also for what does not verify. */
int cose_mac0_open(struct bytes object, struct bytes key, struct bytes *ret_payload);
int cose_sign1_open(struct bytes object, const struct public_key *key, struct bytes *ret_payload);

struct cbor_writer;

/*
 * A public key as a COSE_Key: { 1: kty, ? 2: kid, -1: crv, -2: x, ? -3: y }; kid with data NULL is left out. A key of
 * CURVE_NONE makes the writer fail with -EINVAL.
 */
void cose_put_key(struct cbor_writer *w, const struct public_key *key, struct bytes kid);
int cose_key_encode(const struct public_key *key, struct buf *out); /* without kid: what the store keeps */

struct cose_key {
        int64_t kty;                  /* 0: no number */
        struct bytes kid;             /* data NULL: absent */
        struct bytes k;               /* symmetric: data NULL when absent */
        struct public_key public_key; /* CURVE_NONE: none of our curves or no asymmetric key at all */
        bool is_bad;                  /* of a curve of ours, but no good: point, length, private part, alg or key_ops */
        int64_t alg;                  /* 0: absent, or no number */
};
/*
 * Read a COSE_Key and check what is in it (RFC 9053 §7, AS-073). REFUSE_MALFORMED, REFUSE_WRONG_TYPE (a known label of
 * a wrong kind, one twice, none for kty or crv); -ENOMEM, -EIO. A private part (-4) makes it bad: nobody else should have
 * it. alg and key_ops must let a key of P-256, P-384, Ed25519 sign, one of X25519 agree on keys.
 */
int cose_key_decode(struct bytes raw, struct cose_key *ret);

int cose_mac_label(enum mac_alg alg);
enum mac_alg cose_mac_from_label(int64_t label);
int cose_sign_label(enum sign_alg alg);
enum sign_alg cose_sign_from_label(int64_t label);
