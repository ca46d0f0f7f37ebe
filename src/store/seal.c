#include <errno.h>
#include <stdio.h>

#include "crypto/aead.h"
#include "crypto/hash.h"
#include "store/private.h"

#define SEAL_NONCE_SIZE 12
#define NUMBER_SIZE 8
#define COLUMN_TEXT_MAX 64 /* "table.column:row" */

_Static_assert(SEALED_OVERHEAD == SEAL_NONCE_SIZE + AEAD_TAG_SIZE_MAX, "nonce and tag");

/* One key, one use: what leaves as a mark must say nothing about what sealing does with the key. */
int seal_keys_derive(struct store *store, struct bytes seal_key) {
        uint8_t subkey[SUBKEY_SIZE];
        int r;

        r = hkdf_sha256(BYTES_NONE, seal_key, BYTES_LITERAL("aced: seal secrets at rest"), subkey, sizeof(subkey));
        if (r == 0)
                r = aead_key_new(AEAD_A256GCM, bytes_of(subkey, sizeof(subkey)), &store->sealing);
        if (r == 0)
                r = hkdf_sha256(BYTES_NONE, seal_key, BYTES_LITERAL("aced: mark secrets"), subkey, sizeof(subkey));
        if (r == 0)
                r = secret_set(&store->mark_key, bytes_of(subkey, sizeof(subkey)));
        wipe(subkey, sizeof(subkey));
        return r;
}

int store_nonce_of(const struct store *store, uint64_t number, uint8_t *ret, size_t size) {
        size_t stamp_size = size - NUMBER_SIZE;

        if (size < NUMBER_SIZE || stamp_size > NONCE_STAMP_SIZE)
                return -EINVAL;
        memcpy(ret, store->nonce_stamp, stamp_size);
        for (size_t i = 0; i < NUMBER_SIZE; i++)
                ret[stamp_size + i] = (uint8_t)(number >> (8 * (NUMBER_SIZE - 1 - i)));
        return 0;
}

int store_nonce(struct store *store, uint8_t *ret, size_t size) {
        uint64_t number;
        int r = store_number(store, NUMBER_NONCE, &number);

        return r != 0 ? r : store_nonce_of(store, number, ret, size);
}

/* Where a secret stands is authenticated with it, so that nobody who can write the file can move one elsewhere. */
static int place(const char *column, int64_t row, char *text, size_t size, struct bytes *ret) {
        int n = snprintf(text, size, "%s:%lld", column, (long long)row);

        if (n < 0 || (size_t)n >= size)
                return -EINVAL;
        *ret = bytes_of(text, (size_t)n);
        return 0;
}

int seal_into(struct store *store, const char *column, int64_t row, struct bytes plain, uint8_t *ret,
              size_t *ret_size) {
        char text[COLUMN_TEXT_MAX];
        struct bytes aad;
        int r;

        if ((r = place(column, row, text, sizeof(text), &aad)) != 0 ||
            (r = store_nonce(store, ret, SEAL_NONCE_SIZE)) != 0 ||
            (r = aead_key_seal(store->sealing, bytes_of(ret, SEAL_NONCE_SIZE), aad, plain, ret + SEAL_NONCE_SIZE)) != 0)
                return r;
        *ret_size = plain.size + SEALED_OVERHEAD;
        return 0;
}

int store_seal(struct store *store, const char *column, int64_t row, struct bytes plain, struct buf *ret_sealed) {
        uint8_t *space;
        size_t size;
        int r;

        r = buf_reserve(ret_sealed, plain.size + SEALED_OVERHEAD, &space);
        if (r == 0)
                r = seal_into(store, column, row, plain, space, &size);
        if (r == 0)
                buf_added(ret_sealed, size);
        return r;
}

int store_unseal(struct store *store, const char *column, int64_t row, struct bytes sealed, struct secret *ret) {
        _cleanup_(secret_done) struct secret plain = {};
        char text[COLUMN_TEXT_MAX];
        struct bytes aad;
        int r;

        if (sealed.size < SEALED_OVERHEAD || sealed.size > SEALED_OVERHEAD + SECRET_SIZE_MAX)
                return -EBADMSG;
        r = place(column, row, text, sizeof(text), &aad);
        if (r != 0)
                return r;

        r = aead_key_open(store->sealing, bytes_of(sealed.data, SEAL_NONCE_SIZE), aad,
                          bytes_of(sealed.data + SEAL_NONCE_SIZE, sealed.size - SEAL_NONCE_SIZE), plain.data);
        if (r != 0)
                return r;
        plain.size = sealed.size - SEALED_OVERHEAD;
        secret_move(ret, &plain);
        return 0;
}

int store_secret_mark(struct store *store, struct bytes secret, uint8_t ret[static 32]) {
        return hmac_sha256(secret_bytes(&store->mark_key), secret, ret);
}
