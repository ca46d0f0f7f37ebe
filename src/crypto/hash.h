#pragma once

#include "base/bytes.h"
#include "base/cleanup.h"

#define SHA256_SIZE 32

/* Each returns 0 or -EIO (OpenSSL failed; nothing in ret may be used). */
int sha256(struct bytes data, uint8_t ret[static SHA256_SIZE]);

/* A context that hashes one thing after the other without allocating. NULL: no memory, or OpenSSL failed. */
struct sha256;
struct sha256 *sha256_new(void);
void sha256_free(struct sha256 *sha256);
DEFINE_FREEP(struct sha256, sha256_free)
int sha256_with(struct sha256 *sha256, struct bytes data, uint8_t ret[static SHA256_SIZE]);

int hmac_sha256(struct bytes key, struct bytes data, uint8_t ret[static SHA256_SIZE]);
/* RFC 5869 extract and expand; ret_size at most 255 * 32. */
int hkdf_sha256(struct bytes salt, struct bytes ikm, struct bytes info, uint8_t *ret, size_t ret_size);
int hkdf_sha512(struct bytes salt, struct bytes ikm, struct bytes info, uint8_t *ret, size_t ret_size);
