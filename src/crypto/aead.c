#include "crypto/aead.h"

#include <errno.h>
#include <limits.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "base/cleanup.h"
#include "base/secret.h"

DEFINE_FREEP(EVP_CIPHER_CTX, EVP_CIPHER_CTX_free)
DEFINE_FREEP(struct aead_key, aead_key_free)

/* ccm: RFC 3610 puts the length first, so OpenSSL wants it before the data and everything in one call. */
static const struct aead_row {
        const char *name;
        struct aead_info info;
        const EVP_CIPHER *(*cipher)(void);
        bool ccm;
        size_t plain_max; /* CCM with a length field of L bytes takes less than 2^(8L) */
} aead_rows[] = {
        [AEAD_AES_CCM_16_64_128] = { "AES-CCM-16-64-128", { 16, 13, 8 }, EVP_aes_128_ccm, true, UINT16_MAX },
        [AEAD_AES_CCM_16_128_128] = { "AES-CCM-16-128-128", { 16, 13, 16 }, EVP_aes_128_ccm, true, UINT16_MAX },
        [AEAD_A128GCM] = { "A128GCM", { 16, 12, 16 }, EVP_aes_128_gcm, false, INT_MAX - AEAD_TAG_SIZE_MAX },
        [AEAD_A256GCM] = { "A256GCM", { 32, 12, 16 }, EVP_aes_256_gcm, false, INT_MAX - AEAD_TAG_SIZE_MAX },
        [AEAD_CHACHA20_POLY1305] = { "ChaCha20-Poly1305", { 32, 12, 16 }, EVP_chacha20_poly1305, false,
                                     INT_MAX - AEAD_TAG_SIZE_MAX },
};

static const struct aead_row *aead_row(enum aead_alg alg) {
        if ((size_t)alg >= N_ELEMENTS(aead_rows) || !aead_rows[alg].cipher)
                return NULL;
        return &aead_rows[alg];
}

const struct aead_info *aead_info(enum aead_alg alg) {
        const struct aead_row *row = aead_row(alg);

        return row ? &row->info : NULL;
}

const char *aead_name(enum aead_alg alg) {
        const struct aead_row *row = aead_row(alg);

        return row ? row->name : NULL;
}

enum aead_alg aead_from_name(const char *name) {
        for (size_t i = 0; i < N_ELEMENTS(aead_rows); i++)
                if (aead_rows[i].name && strcmp(aead_rows[i].name, name) == 0)
                        return (enum aead_alg)i;
        return AEAD_NONE;
}

static int failed(int result) {
        ERR_clear_error();
        return result;
}

static bool sizes_fit(const struct aead_row *row, struct bytes key, struct bytes nonce, struct bytes aad,
                      size_t plain_size) {
        return key.size == row->info.key_size && nonce.size == row->info.nonce_size && aad.size <= INT_MAX &&
                plain_size <= row->plain_max;
}

/* What does not depend on the key. The size of tags stays what it is. */
static bool aead_prepare(EVP_CIPHER_CTX *ctx, const struct aead_row *row, bool seal) {
        return EVP_CipherInit_ex(ctx, row->cipher(), NULL, NULL, NULL, seal) == 1 &&
                EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, (int)row->info.nonce_size, NULL) == 1 &&
                (!row->ccm || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, (int)row->info.tag_size, NULL) == 1);
}

/*
 * Nonce, and key unless it stays. tag: the one to check when opening, told along as that takes less than a call of its
 * own; NULL when sealing.
 */
static bool aead_init(EVP_CIPHER_CTX *ctx, const struct aead_row *row, const uint8_t *key, struct bytes nonce,
                      const uint8_t *tag) {
        const OSSL_PARAM with_tag[] = {
                OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, (void *)tag, row->info.tag_size), OSSL_PARAM_END };

        return EVP_CipherInit_ex2(ctx, NULL, key, nonce.data, -1, tag ? with_tag : NULL) == 1;
}

static bool aead_aad(EVP_CIPHER_CTX *ctx, struct bytes aad) {
        int n;

        return aad.size == 0 || EVP_CipherUpdate(ctx, NULL, &n, aad.data, (int)aad.size) == 1;
}

/*
 * All that comes before the data. The order matters to CCM: sizes of nonce and tag before the key, which
 * aead_prepare() saw to, the data's size before the additional data.
 */
static bool aead_begin(EVP_CIPHER_CTX *ctx, const struct aead_row *row, struct bytes key, struct bytes nonce,
                       struct bytes aad, size_t data_size, const uint8_t *tag) {
        int n;

        return aead_init(ctx, row, key.data, nonce, tag) &&
                (!row->ccm || EVP_CipherUpdate(ctx, NULL, &n, NULL, (int)data_size) == 1) && aead_aad(ctx, aad);
}

/* The data in one call, then the end, which for CCM has nothing left to do. */
static bool aead_data(EVP_CIPHER_CTX *ctx, const struct aead_row *row, struct bytes data, uint8_t *ret) {
        static const uint8_t nothing;
        uint8_t end[16];
        int n = 0, n_end;

        /* A null pointer would mean additional data or the end; for CCM an empty message still has a tag to make */
        if ((data.size > 0 || row->ccm) &&
            EVP_CipherUpdate(ctx, ret, &n, data.size > 0 ? data.data : &nothing, (int)data.size) != 1)
                return false;
        return (size_t)n == data.size && (row->ccm || EVP_CipherFinal_ex(ctx, end, &n_end) == 1);
}

struct aead {
        EVP_CIPHER_CTX *seal[N_ELEMENTS(aead_rows)], *open[N_ELEMENTS(aead_rows)]; /* made when first asked for */
};

struct aead *aead_new(void) {
        return calloc(1, sizeof(struct aead));
}

void aead_forget(struct aead *aead) {
        for (size_t i = 0; i < N_ELEMENTS(aead_rows); i++) {
                EVP_CIPHER_CTX_free(aead->seal[i]);
                EVP_CIPHER_CTX_free(aead->open[i]);
                aead->seal[i] = aead->open[i] = NULL;
        }
}

void aead_free(struct aead *aead) {
        if (!aead)
                return;
        aead_forget(aead);
        free(aead);
}

static EVP_CIPHER_CTX *prepared(const struct aead_row *row, bool seal) {
        _cleanup_(EVP_CIPHER_CTX_freep) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

        return ctx && aead_prepare(ctx, row, seal) ? TAKE_PTR(ctx) : NULL;
}

/* *own: one that is for this call alone, when there is none to keep. */
static EVP_CIPHER_CTX *ctx_for(EVP_CIPHER_CTX **kept, EVP_CIPHER_CTX **own, const struct aead_row *row, bool seal) {
        EVP_CIPHER_CTX **ctx = kept ? kept : own;

        if (!*ctx)
                *ctx = prepared(row, seal);
        return *ctx;
}

int aead_seal_with(struct aead *aead, enum aead_alg alg, struct bytes key, struct bytes nonce, struct bytes aad,
                   struct bytes plain, uint8_t *ret_cipher) {
        _cleanup_(EVP_CIPHER_CTX_freep) EVP_CIPHER_CTX *own = NULL;
        const struct aead_row *row = aead_row(alg);
        EVP_CIPHER_CTX *ctx;

        if (!row || !sizes_fit(row, key, nonce, aad, plain.size))
                return -EINVAL;
        if (!(ctx = ctx_for(aead ? &aead->seal[alg] : NULL, &own, row, true)))
                return failed(-EIO);
        if (!aead_begin(ctx, row, key, nonce, aad, plain.size, NULL) || !aead_data(ctx, row, plain, ret_cipher) ||
            EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, (int)row->info.tag_size, ret_cipher + plain.size) != 1)
                return failed(-EIO);
        return 0;
}

int aead_seal(enum aead_alg alg, struct bytes key, struct bytes nonce, struct bytes aad, struct bytes plain,
              uint8_t *ret_cipher) {
        return aead_seal_with(NULL, alg, key, nonce, aad, plain, ret_cipher);
}

int aead_open_with(struct aead *aead, enum aead_alg alg, struct bytes key, struct bytes nonce, struct bytes aad,
                   struct bytes cipher, uint8_t *ret_plain) {
        _cleanup_(EVP_CIPHER_CTX_freep) EVP_CIPHER_CTX *own = NULL;
        const struct aead_row *row = aead_row(alg);
        EVP_CIPHER_CTX *ctx;
        struct bytes data;

        if (!row || !sizes_fit(row, key, nonce, aad, 0))
                return -EINVAL;
        /* What a peer sends: too short or too long to be one of ours does not authenticate */
        if (cipher.size < row->info.tag_size || cipher.size - row->info.tag_size > row->plain_max)
                return -EBADMSG;
        data = bytes_of(cipher.data, cipher.size - row->info.tag_size);

        if (!(ctx = ctx_for(aead ? &aead->open[alg] : NULL, &own, row, false)) ||
            !aead_begin(ctx, row, key, nonce, aad, data.size, cipher.data + data.size))
                return failed(-EIO);
        if (!aead_data(ctx, row, data, ret_plain)) {
                wipe(ret_plain, data.size);
                return failed(-EBADMSG);
        }
        return 0;
}

int aead_open(enum aead_alg alg, struct bytes key, struct bytes nonce, struct bytes aad, struct bytes cipher,
              uint8_t *ret_plain) {
        return aead_open_with(NULL, alg, key, nonce, aad, cipher, ret_plain);
}

/* ---- keys set up once */

struct aead_key {
        const struct aead_row *row;
        EVP_CIPHER_CTX *seal, *open;
};

void aead_key_free(struct aead_key *key) {
        if (!key)
                return;
        EVP_CIPHER_CTX_free(key->seal); /* OpenSSL wipes the schedule */
        EVP_CIPHER_CTX_free(key->open);
        free(key);
}

int aead_key_new(enum aead_alg alg, struct bytes key, struct aead_key **ret) {
        _cleanup_(aead_key_freep) struct aead_key *made = NULL;
        const struct aead_row *row = aead_row(alg);

        if (!row || row->ccm || key.size != row->info.key_size)
                return -EINVAL;
        if (!(made = calloc(1, sizeof(*made))) || !(made->seal = EVP_CIPHER_CTX_new()) ||
            !(made->open = EVP_CIPHER_CTX_new()))
                return failed(-ENOMEM);
        made->row = row;
        if (EVP_CipherInit_ex(made->seal, row->cipher(), NULL, key.data, NULL, 1) != 1 ||
            EVP_CipherInit_ex(made->open, row->cipher(), NULL, key.data, NULL, 0) != 1)
                return failed(-EIO);
        *ret = TAKE_PTR(made);
        return 0;
}

/* Key and direction stay; tag as for aead_begin(). */
static bool aead_key_begin(EVP_CIPHER_CTX *ctx, const struct aead_row *row, struct bytes nonce, struct bytes aad,
                           const uint8_t *tag) {
        return aead_init(ctx, row, NULL, nonce, tag) && aead_aad(ctx, aad);
}

int aead_key_seal(struct aead_key *key, struct bytes nonce, struct bytes aad, struct bytes plain, uint8_t *ret_cipher) {
        const struct aead_row *row = key->row;

        if (nonce.size != row->info.nonce_size || aad.size > INT_MAX || plain.size > row->plain_max)
                return -EINVAL;
        if (!aead_key_begin(key->seal, row, nonce, aad, NULL) || !aead_data(key->seal, row, plain, ret_cipher) ||
            EVP_CIPHER_CTX_ctrl(key->seal, EVP_CTRL_AEAD_GET_TAG, (int)row->info.tag_size,
                                ret_cipher + plain.size) != 1)
                return failed(-EIO);
        return 0;
}

int aead_key_open(struct aead_key *key, struct bytes nonce, struct bytes aad, struct bytes cipher, uint8_t *ret_plain) {
        const struct aead_row *row = key->row;
        struct bytes data;

        if (nonce.size != row->info.nonce_size || aad.size > INT_MAX)
                return -EINVAL;
        if (cipher.size < row->info.tag_size || cipher.size - row->info.tag_size > row->plain_max)
                return -EBADMSG;
        data = bytes_of(cipher.data, cipher.size - row->info.tag_size);
        if (!aead_key_begin(key->open, row, nonce, aad, cipher.data + data.size))
                return failed(-EIO);
        if (!aead_data(key->open, row, data, ret_plain)) {
                wipe(ret_plain, data.size);
                return failed(-EBADMSG);
        }
        return 0;
}
