#pragma once

#include "base/bytes.h"

#define SHA256_SIZE 32

/* Each returns 0 or -EIO (OpenSSL failed; nothing in ret may be used). */
int sha256(struct bytes data, uint8_t ret[static SHA256_SIZE]);
int hmac_sha256(struct bytes key, struct bytes data, uint8_t ret[static SHA256_SIZE]);
/* RFC 5869 extract and expand; ret_size at most 255 * 32. */
int hkdf_sha256(struct bytes salt, struct bytes ikm, struct bytes info, uint8_t *ret, size_t ret_size);
