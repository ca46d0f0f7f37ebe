#pragma once

#include "crypto/key.h"

/* Keys in the text form that tools exchange (RFC 7468). */

/*
 * The public key of the first block that has one of ours: PUBLIC KEY, PRIVATE KEY, EC PRIVATE KEY or CERTIFICATE. Other
 * blocks are passed over. 0; -EINVAL: there is none; -ENOMEM.
 */
int pem_public_key(struct bytes pem, struct public_key *ret);

/*
 * Append a PRIVATE KEY (PKCS #8, not encrypted), a PUBLIC KEY. The caller wipes the first. -EINVAL, errors of
 * buf_add().
 */
int pem_put_private_key(enum curve curve, struct bytes private_key, struct buf *out);
int pem_put_public_key(const struct public_key *key, struct buf *out);
