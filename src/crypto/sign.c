#include "crypto/sign.h"

#include <errno.h>
#include <limits.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/cleanup.h"

DEFINE_FREEP(EVP_PKEY, EVP_PKEY_free)
DEFINE_FREEP(EVP_PKEY_CTX, EVP_PKEY_CTX_free)
DEFINE_FREEP(EVP_MD_CTX, EVP_MD_CTX_free)
DEFINE_FREEP(OSSL_PARAM_BLD, OSSL_PARAM_BLD_free)
DEFINE_FREEP(OSSL_PARAM, OSSL_PARAM_free)
DEFINE_FREEP(ECDSA_SIG, ECDSA_SIG_free)
DEFINE_FREEP(BIGNUM, BN_clear_free)
DEFINE_FREEP(struct sign_key, sign_key_free)

#define DIGEST_SIZE_MAX 48
#define POINT_SIZE_MAX (1 + 2 * COORDINATE_SIZE_MAX)

/* group, digest: of ECDSA */
static const struct sign_row {
        const char *name;
        enum curve curve;
        const char *group;
        const EVP_MD *(*digest)(void);
        size_t digest_size;
} sign_rows[] = {
        [SIGN_ES256] = { "ES256", CURVE_P256, "P-256", EVP_sha256, 32 },
        [SIGN_ES384] = { "ES384", CURVE_P384, "P-384", EVP_sha384, 48 },
        [SIGN_EDDSA] = { "EdDSA", CURVE_ED25519, NULL, NULL, 0 },
};

static const struct sign_row *sign_row(enum sign_alg alg) {
        return alg > SIGN_NONE && alg < SIGN_ALGS ? &sign_rows[alg] : NULL;
}

size_t sign_size(enum sign_alg alg) {
        const struct sign_row *row = sign_row(alg);

        return row ? 2 * curve_size(row->curve) : 0;
}

enum curve sign_curve(enum sign_alg alg) {
        const struct sign_row *row = sign_row(alg);

        return row ? row->curve : CURVE_NONE;
}

enum sign_alg sign_alg_of(enum curve curve) {
        for (enum sign_alg alg = SIGN_NONE + 1; alg < SIGN_ALGS; alg++)
                if (sign_rows[alg].curve == curve)
                        return alg;
        return SIGN_NONE;
}

const char *sign_alg_name(enum sign_alg alg) {
        const struct sign_row *row = sign_row(alg);

        return row ? row->name : NULL;
}

enum sign_alg sign_alg_from_name(const char *name) {
        for (enum sign_alg alg = SIGN_NONE + 1; alg < SIGN_ALGS; alg++)
                if (strcmp(sign_rows[alg].name, name) == 0)
                        return alg;
        return SIGN_NONE;
}

/* For want of memory, or r. */
static int failed(int r) {
        unsigned long error;

        while ((error = ERR_get_error()) != 0)
                if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE)
                        r = -ENOMEM;
        return r;
}

/* ---- keys as OpenSSL has them */

/* private_key: data NULL for a public one. NULL: failed. */
static EVP_PKEY *ec_key(const struct sign_row *row, const struct public_key *public_key, struct bytes private_key) {
        _cleanup_(OSSL_PARAM_BLD_freep) OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
        _cleanup_(EVP_PKEY_CTX_freep) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
        _cleanup_(BN_clear_freep) BIGNUM *number = NULL;
        _cleanup_(OSSL_PARAM_freep) OSSL_PARAM *params = NULL;
        int what = private_key.data ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY;
        size_t size = curve_size(row->curve);
        uint8_t point[POINT_SIZE_MAX] = { 0x04 };
        EVP_PKEY *key = NULL;

        memcpy(point + 1, public_key->x, size);
        memcpy(point + 1 + size, public_key->y, size);
        if (!build || !ctx || !OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, row->group, 0) ||
            !OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * size))
                return NULL;
        if (private_key.data) {
                /* secure: OpenSSL then wipes the parameter, too */
                number = BN_secure_new();
                if (!number || !BN_bin2bn(private_key.data, (int)private_key.size, number) ||
                    !OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, number))
                        return NULL;
        }
        if (!(params = OSSL_PARAM_BLD_to_param(build)) || EVP_PKEY_fromdata_init(ctx) != 1 ||
            EVP_PKEY_fromdata(ctx, &key, what, params) != 1)
                return NULL;
        return key;
}

static EVP_PKEY *pair_new(const struct sign_row *row, const struct public_key *public_key, struct bytes private_key) {
        return row->digest ? ec_key(row, public_key, private_key)
                           : EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private_key.data, private_key.size);
}

static EVP_PKEY *public_new(const struct sign_row *row, const struct public_key *public_key) {
        return row->digest ? ec_key(row, public_key, BYTES_NONE)
                           : EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key->x,
                                                         curve_size(row->curve));
}

static bool digest_of(const struct sign_row *row, struct bytes data, uint8_t ret[static DIGEST_SIZE_MAX]) {
        return EVP_Digest(data.data ? data.data : (const uint8_t *)"", data.size, ret, NULL, row->digest(), NULL) == 1;
}

/* ---- signing */

/* ecdsa: set up once and used again and again; EdDSA signs the data itself, in one call for which nothing is kept. */
struct sign_key {
        enum sign_alg alg;
        EVP_PKEY *pair;
        EVP_PKEY_CTX *ecdsa;
};

void sign_key_free(struct sign_key *key) {
        if (!key)
                return;
        EVP_PKEY_CTX_free(key->ecdsa);
        EVP_PKEY_free(key->pair); /* OpenSSL wipes the private part */
        free(key);
}

/* Consumes *pair, whatever it returns. */
static int key_new(enum sign_alg alg, EVP_PKEY **pair, struct sign_key **ret) {
        _cleanup_(sign_key_freep) struct sign_key *key = calloc(1, sizeof(*key));

        if (!key) {
                EVP_PKEY_free(TAKE_PTR(*pair));
                return -ENOMEM;
        }
        key->alg = alg;
        key->pair = TAKE_PTR(*pair);
        if (sign_rows[alg].digest && (!(key->ecdsa = EVP_PKEY_CTX_new_from_pkey(NULL, key->pair, NULL)) ||
                                      EVP_PKEY_sign_init(key->ecdsa) != 1))
                return failed(-EIO);
        *ret = TAKE_PTR(key);
        return 0;
}

int sign_key_new(enum sign_alg alg, struct bytes private_key, struct sign_key **ret) {
        const struct sign_row *row = sign_row(alg);
        struct public_key public_key;
        EVP_PKEY *pair;
        int r;

        if (!row)
                return -EINVAL;
        if ((r = key_public(row->curve, private_key, &public_key)) != 0)
                return r;
        if (!(pair = pair_new(row, &public_key, private_key)))
                return failed(-EIO);
        return key_new(alg, &pair, ret);
}

/* Nobody is asked: a key that is encrypted is none. */
static int no_password(char *text, int size, int is_written, void *context) {
        return -1;
}

static EVP_PKEY *pair_read(struct bytes text) {
        const unsigned char *at = text.data;
        EVP_PKEY *pair = text.size <= INT_MAX ? d2i_AutoPrivateKey(NULL, &at, (long)text.size) : NULL;
        BIO *bio;

        if (pair || text.size == 0 || text.size > INT_MAX || !(bio = BIO_new_mem_buf(text.data, (int)text.size)))
                return pair;
        pair = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
        BIO_free_all(bio);
        return pair;
}

static int pair_public(EVP_PKEY *pair, struct public_key *ret) {
        unsigned char *spki = NULL;
        int size = i2d_PUBKEY(pair, &spki);
        int r = size > 0 ? public_key_from_spki(bytes_of(spki, (size_t)size), ret) : failed(-EINVAL);

        OPENSSL_free(spki);
        return r;
}

int sign_key_read(struct bytes text, struct sign_key **ret, struct public_key *ret_public) {
        EVP_PKEY *pair = pair_read(text);
        struct public_key public_key;
        int r = pair ? pair_public(pair, &public_key) : failed(-EINVAL);

        ERR_clear_error(); /* of the form that it was not in */
        if (r == 0 && sign_alg_of(public_key.curve) == SIGN_NONE)
                r = -EINVAL;
        if (r != 0) {
                EVP_PKEY_free(pair);
                return r;
        }
        r = key_new(sign_alg_of(public_key.curve), &pair, ret);
        if (r == 0)
                *ret_public = public_key;
        return r;
}

enum sign_alg sign_key_alg(const struct sign_key *key) {
        return key->alg;
}

/* RFC 9053 §2.1: r ‖ s, both as long as the group's order. 0, -EIO. */
static int ecdsa_to_raw(const struct sign_row *row, struct bytes der, uint8_t *ret) {
        const uint8_t *at = der.data;
        _cleanup_(ECDSA_SIG_freep) ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)der.size);
        int size = (int)curve_size(row->curve);

        if (!pair || BN_bn2binpad(ECDSA_SIG_get0_r(pair), ret, size) != size ||
            BN_bn2binpad(ECDSA_SIG_get0_s(pair), ret + size, size) != size)
                return failed(-EIO);
        return 0;
}

static int eddsa_sign(struct sign_key *key, struct bytes data, uint8_t *ret) {
        _cleanup_(EVP_MD_CTX_freep) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        size_t size = SIGNATURE_SIZE_MAX;

        if (!ctx || EVP_DigestSignInit(ctx, NULL, NULL, NULL, key->pair) != 1 ||
            EVP_DigestSign(ctx, ret, &size, data.data ? data.data : (const uint8_t *)"", data.size) != 1)
                return failed(-EIO);
        return size == sign_size(key->alg) ? 0 : -EIO;
}

int sign(struct sign_key *key, struct bytes data, uint8_t ret[static SIGNATURE_SIZE_MAX]) {
        const struct sign_row *row = sign_row(key->alg);
        uint8_t digest[DIGEST_SIZE_MAX], der[SIGNATURE_DER_SIZE_MAX];
        size_t size;
        int r;

        if (!row->digest)
                return eddsa_sign(key, data, ret);
        if (!digest_of(row, data, digest))
                return failed(-EIO);
        r = sign_hash(key, bytes_of(digest, row->digest_size), der, &size);
        return r != 0 ? r : ecdsa_to_raw(row, bytes_of(der, size), ret);
}

int sign_hash(struct sign_key *key, struct bytes hash, uint8_t ret[static SIGNATURE_DER_SIZE_MAX], size_t *ret_size) {
        size_t size = SIGNATURE_DER_SIZE_MAX;

        if (!key->ecdsa)
                return -EINVAL;
        if (EVP_PKEY_sign(key->ecdsa, ret, &size, hash.data, hash.size) != 1)
                return failed(-EIO);
        *ret_size = size;
        return 0;
}

/* ---- verifying */

/* r ‖ s as the DER that OpenSSL reads. The size of it, 0: failed. */
static size_t ecdsa_from_raw(struct bytes raw, uint8_t ret[static SIGNATURE_DER_SIZE_MAX]) {
        _cleanup_(ECDSA_SIG_freep) ECDSA_SIG *pair = ECDSA_SIG_new();
        int half = (int)(raw.size / 2), size;
        _cleanup_(BN_clear_freep) BIGNUM *r = BN_bin2bn(raw.data, half, NULL);
        _cleanup_(BN_clear_freep) BIGNUM *s = BN_bin2bn(raw.data + half, half, NULL);
        uint8_t *at = ret;

        if (!pair || !r || !s || ECDSA_SIG_set0(pair, r, s) != 1)
                return 0;
        (void)TAKE_PTR(r);
        (void)TAKE_PTR(s);
        size = i2d_ECDSA_SIG(pair, NULL);
        return size > 0 && size <= SIGNATURE_DER_SIZE_MAX && i2d_ECDSA_SIG(pair, &at) == size ? (size_t)size : 0;
}

static int ecdsa_verify(const struct sign_row *row, EVP_PKEY *key, struct bytes data, struct bytes signature) {
        _cleanup_(EVP_PKEY_CTX_freep) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
        uint8_t digest[DIGEST_SIZE_MAX], der[SIGNATURE_DER_SIZE_MAX];
        size_t size = ecdsa_from_raw(signature, der);

        if (!ctx || size == 0 || EVP_PKEY_verify_init(ctx) != 1 || !digest_of(row, data, digest))
                return failed(-EIO);
        return EVP_PKEY_verify(ctx, der, size, digest, row->digest_size) == 1 ? 0 : failed(-EBADMSG);
}

static int eddsa_verify(EVP_PKEY *key, struct bytes data, struct bytes signature) {
        _cleanup_(EVP_MD_CTX_freep) EVP_MD_CTX *ctx = EVP_MD_CTX_new();

        if (!ctx || EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) != 1)
                return failed(-EIO);
        return EVP_DigestVerify(ctx, signature.data, signature.size, data.data ? data.data : (const uint8_t *)"",
                                data.size) == 1 ? 0 : failed(-EBADMSG);
}

int sign_verify(enum sign_alg alg, const struct public_key *key, struct bytes data, struct bytes signature) {
        _cleanup_(EVP_PKEY_freep) EVP_PKEY *pkey = NULL;
        const struct sign_row *row = sign_row(alg);
        int r;

        if (!row || key->curve != row->curve)
                return -EINVAL;
        if ((r = public_key_check(key)) != 0)
                return r;
        if (signature.size != sign_size(alg))
                return -EBADMSG;
        if (!(pkey = public_new(row, key)))
                return failed(-EIO);
        return row->digest ? ecdsa_verify(row, pkey, data, signature) : eddsa_verify(pkey, data, signature);
}
