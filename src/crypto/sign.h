#pragma once

#include "crypto/key.h"

/* The signatures of COSE (RFC 9053 §2) that we use, as COSE has them: r ‖ s for ECDSA. */
enum sign_alg { /* kept in databases */
        SIGN_NONE,
        SIGN_ES256,
        SIGN_ES384,
        SIGN_EDDSA,
        SIGN_ALGS,
};

#define SIGNATURE_SIZE_MAX 96
#define SIGNATURE_DER_SIZE_MAX (SIGNATURE_SIZE_MAX + 16) /* a SEQUENCE of two INTEGERs of up to 49 bytes */

size_t sign_size(enum sign_alg alg); /* of a signature; 0 for SIGN_NONE */
enum curve sign_curve(enum sign_alg alg);
enum sign_alg sign_alg_of(enum curve curve); /* SIGN_NONE: keys on it do not sign */
/* "ES256", "ES384", "EdDSA"; NULL. The reverse: SIGN_NONE for another name. */
const char *sign_alg_name(enum sign_alg alg);
enum sign_alg sign_alg_from_name(const char *name);

/* A private key set up for many signatures; sign_key_free() wipes it. */
struct sign_key;
int sign_key_new(enum sign_alg alg, struct bytes private_key, struct sign_key **ret); /* -EINVAL, -ENOMEM, -EIO */
/* The same from PKCS #8 or SEC 1 (RFC 5915), DER or PEM, not encrypted. -EINVAL: it is no such key of our curves. */
int sign_key_read(struct bytes text, struct sign_key **ret, struct public_key *ret_public);
void sign_key_free(struct sign_key *key);
enum sign_alg sign_key_alg(const struct sign_key *key);
int sign(struct sign_key *key, struct bytes data, uint8_t ret[static SIGNATURE_SIZE_MAX]); /* sign_size() bytes */
/*
 * ECDSA of what has been hashed already, by whatever hash, in DER: what TLS wants (RFC 8422 §5.4). -EINVAL: the key is
 * for EdDSA, which signs the data itself; -EIO, -ENOMEM.
 */
int sign_hash(struct sign_key *key, struct bytes hash, uint8_t ret[static SIGNATURE_DER_SIZE_MAX], size_t *ret_size);

/* 0; -EBADMSG: it is not that key's signature; -EINVAL: the key is not for alg; -ENOMEM, -EIO. */
int sign_verify(enum sign_alg alg, const struct public_key *key, struct bytes data, struct bytes signature);
