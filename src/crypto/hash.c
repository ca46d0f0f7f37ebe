#include "crypto/hash.h"

#include <errno.h>
#include <limits.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>

#include "base/cleanup.h"

DEFINE_FREEP(EVP_KDF, EVP_KDF_free)
DEFINE_FREEP(EVP_KDF_CTX, EVP_KDF_CTX_free)

/* OpenSSL takes a null pointer for "as before" or "none given", which no bytes are not. */
static void *present(struct bytes bytes) {
        return (void *)(bytes.data ? bytes.data : (const uint8_t *)"");
}

static int done(int ok) {
        if (ok == 1)
                return 0;
        ERR_clear_error();
        return -EIO;
}

int sha256(struct bytes data, uint8_t ret[static SHA256_SIZE]) {
        return done(EVP_Digest(present(data), data.size, ret, NULL, EVP_sha256(), NULL));
}

int hmac_sha256(struct bytes key, struct bytes data, uint8_t ret[static SHA256_SIZE]) {
        if (key.size > INT_MAX)
                return -EIO;
        return done(HMAC(EVP_sha256(), present(key), (int)key.size, present(data), data.size, ret, NULL) != NULL);
}

int hkdf_sha256(struct bytes salt, struct bytes ikm, struct bytes info, uint8_t *ret, size_t ret_size) {
        _cleanup_(EVP_KDF_freep) EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
        _cleanup_(EVP_KDF_CTX_freep) EVP_KDF_CTX *ctx = NULL;
        const OSSL_PARAM params[] = {
                OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
                OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, present(ikm), ikm.size),
                OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, present(salt), salt.size),
                OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, present(info), info.size),
                OSSL_PARAM_construct_end(),
        };

        if (!kdf || !(ctx = EVP_KDF_CTX_new(kdf)))
                return done(0);
        return done(EVP_KDF_derive(ctx, ret, ret_size, params));
}
