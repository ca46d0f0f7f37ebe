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

/* EVP_Digest() looks its algorithm up and makes a context each time, which takes longer than a short hash. */
struct sha256 {
        EVP_MD_CTX *ctx;
};

struct sha256 *sha256_new(void) {
        _cleanup_(sha256_freep) struct sha256 *sha256 = calloc(1, sizeof(*sha256));

        if (!sha256)
                return NULL;
        sha256->ctx = EVP_MD_CTX_new();
        if (!sha256->ctx || done(EVP_DigestInit_ex(sha256->ctx, EVP_sha256(), NULL)) != 0)
                return NULL;
        return TAKE_PTR(sha256);
}

void sha256_free(struct sha256 *sha256) {
        if (!sha256)
                return;
        EVP_MD_CTX_free(sha256->ctx);
        free(sha256);
}

int sha256_with(struct sha256 *sha256, struct bytes data, uint8_t ret[static SHA256_SIZE]) {
        return done(EVP_DigestInit_ex(sha256->ctx, NULL, NULL) == 1 &&
                    EVP_DigestUpdate(sha256->ctx, present(data), data.size) == 1 &&
                    EVP_DigestFinal_ex(sha256->ctx, ret, NULL) == 1);
}

int hmac_sha256(struct bytes key, struct bytes data, uint8_t ret[static SHA256_SIZE]) {
        if (key.size > INT_MAX)
                return -EIO;
        return done(HMAC(EVP_sha256(), present(key), (int)key.size, present(data), data.size, ret, NULL) != NULL);
}

static int hkdf(const char *digest, struct bytes salt, struct bytes ikm, struct bytes info, uint8_t *ret,
                size_t ret_size) {
        _cleanup_(EVP_KDF_freep) EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
        _cleanup_(EVP_KDF_CTX_freep) EVP_KDF_CTX *ctx = NULL;
        const OSSL_PARAM params[] = {
                OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)digest, 0),
                OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, present(ikm), ikm.size),
                OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, present(salt), salt.size),
                OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, present(info), info.size),
                OSSL_PARAM_construct_end(),
        };

        if (!kdf || !(ctx = EVP_KDF_CTX_new(kdf)))
                return done(0);
        return done(EVP_KDF_derive(ctx, ret, ret_size, params));
}

int hkdf_sha256(struct bytes salt, struct bytes ikm, struct bytes info, uint8_t *ret, size_t ret_size) {
        return hkdf("SHA256", salt, ikm, info, ret, ret_size);
}

int hkdf_sha512(struct bytes salt, struct bytes ikm, struct bytes info, uint8_t *ret, size_t ret_size) {
        return hkdf("SHA512", salt, ikm, info, ret, ret_size);
}
