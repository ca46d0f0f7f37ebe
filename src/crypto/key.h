#pragma once

#include "base/buf.h"
#include "base/secret.h"

/* Asymmetric keys (RFC 9053 §7.1, §7.2; RFC 8410): on which curve, in which bytes, and whether they are good. */
enum curve { /* kept in databases */
        CURVE_NONE,
        CURVE_P256,
        CURVE_P384,
        CURVE_ED25519,
        CURVE_X25519,
        CURVES,
};

#define COORDINATE_SIZE_MAX 48
#define SPKI_SIZE_MAX 128
#define THUMBPRINT_SIZE 32

struct public_key {
        enum curve curve;
        uint8_t x[COORDINATE_SIZE_MAX]; /* curve_size() bytes, big-endian for P-*, as RFC 7748 and 8032 have them else */
        uint8_t y[COORDINATE_SIZE_MAX]; /* P-* alone */
};

/* Bytes of a coordinate and of a private key: 32 or 48; 0 for CURVE_NONE. */
size_t curve_size(enum curve curve);
/* "P-256", "P-384", "Ed25519", "X25519"; NULL. The reverse: CURVE_NONE for another name. */
const char *curve_name(enum curve curve);
enum curve curve_from_name(const char *name);

/*
 * Is it a point of its curve, not the neutral one, coordinates below the field's prime; for OKP a point that is not of
 * small order? 0; -EINVAL: it is not; -ENOMEM, -EIO.
 */
int public_key_check(const struct public_key *key);
bool public_key_equal(const struct public_key *a, const struct public_key *b);

/* SubjectPublicKeyInfo, DER, points uncompressed (RFC 5480, RFC 8410): what TLS shows as a raw public key. */
int public_key_spki(const struct public_key *key, uint8_t ret[static SPKI_SIZE_MAX], size_t *ret_size);
/* The reverse, of exactly one SPKI of one of our curves, checked. -EINVAL. A compressed point is none of ours. */
int public_key_from_spki(struct bytes spki, struct public_key *ret);
/* Which curve it says that it is on, unchecked; CURVE_NONE: public_key_from_spki() does not read it. */
enum curve spki_curve(struct bytes spki);
/* y from its sign (RFC 9053 §7.1.1 allows a bool for y), checked. -EINVAL. */
int public_key_decompress(struct public_key *key, bool y_is_odd);
/* SHA-256 of the SubjectPublicKeyInfo: what a key is known by. */
int public_key_thumbprint(const struct public_key *key, uint8_t ret[static THUMBPRINT_SIZE]);

/* A new pair. ret_private: curve_size() bytes. */
int key_generate(enum curve curve, struct public_key *ret_public, struct secret *ret_private);
/* The public key of a private one. -EINVAL: it is none. */
int key_public(enum curve curve, struct bytes private_key, struct public_key *ret);
/* PKCS #8 DER of a private key, for GnuTLS. The buffer holds the key: the caller wipes it. */
int key_pkcs8(enum curve curve, struct bytes private_key, struct buf *out);
