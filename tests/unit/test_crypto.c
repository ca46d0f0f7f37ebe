#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "crypto/aead.h"
#include "crypto/hash.h"
#include "support/vectors.h"

#define ROOM 256

static const enum aead_alg algs[] = {
        AEAD_AES_CCM_16_64_128, AEAD_AES_CCM_16_128_128, AEAD_A128GCM, AEAD_A256GCM, AEAD_CHACHA20_POLY1305,
};

/* ---- AEAD vectors */

static enum aead_alg alg_of(int64_t cose_number) {
        static const struct {
                int64_t number;
                enum aead_alg alg;
        } rows[] = {
                { 10, AEAD_AES_CCM_16_64_128 }, { 30, AEAD_AES_CCM_16_128_128 }, { 1, AEAD_A128GCM },
                { 3, AEAD_A256GCM },            { 24, AEAD_CHACHA20_POLY1305 },
        };

        for (size_t i = 0; i < N_ELEMENTS(rows); i++)
                if (rows[i].number == cose_number)
                        return rows[i].alg;
        return AEAD_NONE;
}

static void check_vector(enum aead_alg alg, struct bytes key, struct bytes nonce, struct bytes aad, struct bytes plain,
                         struct bytes cipher) {
        uint8_t out[ROOM];

        assert_true(cipher.size <= ROOM);
        assert_int_equal(cipher.size, plain.size + aead_info(alg)->tag_size);
        assert_int_equal(aead_seal(alg, key, nonce, aad, plain, out), 0);
        assert_memory_equal(out, cipher.data, cipher.size);
        assert_int_equal(aead_open(alg, key, nonce, aad, cipher, out), 0);
        assert_memory_equal(out, plain.data, plain.size);
}

/* In these examples the unprotected header is { 5: nonce } and the ciphertext is a string of 24 to 255 bytes. */
static bool cose_parts(struct bytes cose, struct bytes *ret_nonce, struct bytes *ret_cipher) {
        const uint8_t *at = bytes_find(cose, BYTES_LITERAL("\xa1\x05")), *end = cose.data + cose.size;
        size_t size;

        if (!at)
                return false;
        size = at[2] & 0x1f;
        *ret_nonce = bytes_of(at + 3, size);
        at += 3 + size;
        assert_int_equal(at[0], 0x58);
        *ret_cipher = bytes_of(at + 2, at[1]);
        assert_ptr_equal(at + 2 + at[1], end);
        return true;
}

static void aead_agrees_with_cose_vectors(void **state) {
        _cleanup_(json_decrefp) json_t *file = vectors_load("cose");
        unsigned n_valid = 0, n_invalid = 0;
        const json_t *v;
        size_t i;

        json_array_foreach(vectors_get(file, "vectors"), i, v) {
                _cleanup_(buf_done) struct buf key = {}, aad = {}, plain = {}, cose = {};
                struct bytes nonce, cipher;
                enum aead_alg alg;
                uint8_t out[ROOM];

                if (strcmp(vectors_text(v, "type"), "COSE_Encrypt0") != 0)
                        continue;
                cose = vectors_bytes(v, "cbor");
                if (!cose_parts(buf_bytes(&cose), &nonce, &cipher))
                        continue;
                alg = alg_of(vectors_number(v, "alg"));
                assert_int_not_equal(alg, AEAD_NONE);
                key = vectors_bytes(v, "key.k");
                aad = vectors_bytes(v, "enc_structure");
                plain = vectors_bytes(v, "plaintext");
                if (strcmp(vectors_text(v, "expect"), "valid") == 0) {
                        check_vector(alg, buf_bytes(&key), nonce, buf_bytes(&aad), buf_bytes(&plain), cipher);
                        n_valid++;
                } else {
                        assert_int_equal(aead_open(alg, buf_bytes(&key), nonce, buf_bytes(&aad), cipher, out),
                                         -EBADMSG);
                        n_invalid++;
                }
        }
        assert_int_equal(n_valid, 7);
        assert_int_equal(n_invalid, 2);
}

static void aead_agrees_with_oscore_vectors(void **state) {
        _cleanup_(json_decrefp) json_t *file = vectors_load("oscore-rfc8613");
        unsigned n = 0;
        const json_t *v;
        size_t i;

        json_array_foreach(vectors_get(file, "messages"), i, v) {
                _cleanup_(buf_done) struct buf key = vectors_bytes(v, "input.sender_key");
                _cleanup_(buf_done) struct buf nonce = vectors_bytes(v, "output.nonce");
                _cleanup_(buf_done) struct buf aad = vectors_bytes(v, "output.aad");
                _cleanup_(buf_done) struct buf plain = vectors_bytes(v, "output.plaintext");
                _cleanup_(buf_done) struct buf cipher = vectors_bytes(v, "output.ciphertext");

                check_vector(AEAD_AES_CCM_16_64_128, buf_bytes(&key), buf_bytes(&nonce), buf_bytes(&aad),
                             buf_bytes(&plain), buf_bytes(&cipher));
                n++;
        }
        assert_true(n >= 5);
}

/* ---- AEAD against damage */

/* Something to seal: every byte known, every size from the algorithm. */
struct box {
        enum aead_alg alg;
        uint8_t key[32], nonce[AEAD_NONCE_SIZE_MAX], aad[20], plain[ROOM], cipher[ROOM + AEAD_TAG_SIZE_MAX];
        size_t aad_size, plain_size, cipher_size;
};

static int box_seal(struct box *box) {
        const struct aead_info *info = aead_info(box->alg);

        box->cipher_size = box->plain_size + info->tag_size;
        return aead_seal(box->alg, bytes_of(box->key, info->key_size), bytes_of(box->nonce, info->nonce_size),
                         bytes_of(box->aad, box->aad_size), bytes_of(box->plain, box->plain_size), box->cipher);
}

static int box_open(const struct box *box, uint8_t *ret_plain) {
        const struct aead_info *info = aead_info(box->alg);

        return aead_open(box->alg, bytes_of(box->key, info->key_size), bytes_of(box->nonce, info->nonce_size),
                         bytes_of(box->aad, box->aad_size), bytes_of(box->cipher, box->cipher_size), ret_plain);
}

static void box_fill(struct box *box, enum aead_alg alg, size_t plain_size, size_t aad_size) {
        *box = (struct box){ .alg = alg, .plain_size = plain_size, .aad_size = aad_size };
        for (size_t i = 0; i < sizeof(box->key); i++)
                box->key[i] = (uint8_t)(i * 7 + 1);
        for (size_t i = 0; i < sizeof(box->nonce); i++)
                box->nonce[i] = (uint8_t)(i * 11 + 2);
        for (size_t i = 0; i < sizeof(box->aad); i++)
                box->aad[i] = (uint8_t)(i * 13 + 3);
        for (size_t i = 0; i < plain_size; i++)
                box->plain[i] = (uint8_t)(i * 17 + 4);
        assert_int_equal(box_seal(box), 0);
}

/* Refused, and nothing of the plaintext left where the caller could use it. */
static void assert_refused(const struct box *box) {
        size_t tag_size = aead_info(box->alg)->tag_size;
        uint8_t out[ROOM];

        memset(out, 0xee, sizeof(out));
        assert_int_equal(box_open(box, out), -EBADMSG);
        for (size_t i = 0; i + tag_size < box->cipher_size; i++)
                assert_true(out[i] == 0 || out[i] == 0xee);
}

static void flip_each_bit(struct box *box, uint8_t *data, size_t size) {
        for (size_t bit = 0; bit < size * 8; bit++) {
                data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                assert_refused(box);
                data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
}

static const struct {
        size_t plain_size, aad_size;
} shapes[] = { { 0, 0 }, { 0, 20 }, { 1, 0 }, { 15, 5 }, { 16, 16 }, { 17, 20 }, { 100, 0 } };

static void aead_refuses_every_flipped_bit(void **state) {
        for (size_t a = 0; a < N_ELEMENTS(algs); a++)
                for (size_t s = 0; s < N_ELEMENTS(shapes); s++) {
                        const struct aead_info *info = aead_info(algs[a]);
                        struct box box;
                        uint8_t out[ROOM];

                        box_fill(&box, algs[a], shapes[s].plain_size, shapes[s].aad_size);
                        assert_int_equal(box_open(&box, out), 0);
                        assert_memory_equal(out, box.plain, box.plain_size);
                        flip_each_bit(&box, box.cipher, box.cipher_size);
                        flip_each_bit(&box, box.nonce, info->nonce_size);
                        flip_each_bit(&box, box.key, info->key_size);
                        flip_each_bit(&box, box.aad, box.aad_size);
                        assert_int_equal(box_open(&box, out), 0);
                }
}

/* Whatever was sealed or opened before, under whatever key, and whether that went well. */
static void aead_does_the_same_with_what_was_kept(void **state) {
        struct aead *aead = aead_new();
        uint8_t cipher[ROOM + AEAD_TAG_SIZE_MAX], plain[ROOM];

        assert_non_null(aead);
        for (unsigned run = 0; run < 4 * N_ELEMENTS(algs) * N_ELEMENTS(shapes); run++) {
                size_t shape = run / N_ELEMENTS(algs) % N_ELEMENTS(shapes);
                struct box box;

                box_fill(&box, algs[run % N_ELEMENTS(algs)], shapes[shape].plain_size, shapes[shape].aad_size);
                box.key[0] = box.nonce[0] = (uint8_t)run;
                assert_int_equal(box_seal(&box), 0);
                const struct aead_info *info = aead_info(box.alg);
                const struct bytes key = bytes_of(box.key, info->key_size), aad = bytes_of(box.aad, box.aad_size);
                const struct bytes nonce = bytes_of(box.nonce, info->nonce_size);

                assert_int_equal(aead_seal_with(aead, box.alg, key, nonce, aad, bytes_of(box.plain, box.plain_size),
                                                cipher), 0);
                assert_memory_equal(cipher, box.cipher, box.cipher_size);
                cipher[run % box.cipher_size] ^= 1;
                assert_int_equal(aead_open_with(aead, box.alg, key, nonce, aad, bytes_of(cipher, box.cipher_size),
                                                plain), -EBADMSG);
                cipher[run % box.cipher_size] ^= 1;
                assert_int_equal(aead_open_with(aead, box.alg, key, nonce, aad, bytes_of(cipher, box.cipher_size),
                                                plain), 0);
                assert_memory_equal(plain, box.plain, box.plain_size);
                assert_int_equal(aead_seal_with(aead, box.alg, key, aad, aad, aad, cipher), -EINVAL);
                assert_int_equal(aead_open_with(aead, box.alg, nonce, nonce, aad, aad, plain), -EINVAL);
        }
        aead_free(aead);
}

static void aead_seals_where_the_plain_text_stands(void **state) {
        for (size_t run = 0; run < N_ELEMENTS(algs) * N_ELEMENTS(shapes); run++) {
                size_t shape = run / N_ELEMENTS(algs);
                uint8_t space[ROOM + AEAD_TAG_SIZE_MAX];
                const struct aead_info *info;
                struct box box;

                box_fill(&box, algs[run % N_ELEMENTS(algs)], shapes[shape].plain_size, shapes[shape].aad_size);
                info = aead_info(box.alg);
                memcpy(space, box.plain, box.plain_size);
                assert_int_equal(aead_seal(box.alg, bytes_of(box.key, info->key_size),
                                           bytes_of(box.nonce, info->nonce_size), bytes_of(box.aad, box.aad_size),
                                           bytes_of(space, box.plain_size), space), 0);
                assert_memory_equal(space, box.cipher, box.cipher_size);
        }
}

static void aead_refuses_every_cut(void **state) {
        for (size_t a = 0; a < N_ELEMENTS(algs); a++)
                for (size_t s = 0; s < N_ELEMENTS(shapes); s++) {
                        struct box box;

                        box_fill(&box, algs[a], shapes[s].plain_size, shapes[s].aad_size);
                        for (size_t size = box.cipher_size; size-- > 0;) {
                                box.cipher_size = size;
                                assert_refused(&box);
                        }
                        box_fill(&box, algs[a], shapes[s].plain_size, shapes[s].aad_size);
                        box.cipher_size++; /* one byte more */
                        assert_refused(&box);
                        if (box.aad_size > 0) {
                                box.cipher_size--;
                                box.aad_size--;
                                assert_refused(&box);
                        }
                }
}

static void aead_refuses_wrong_sizes(void **state) {
        uint8_t zeros[64] = {}, out[ROOM];
        struct bytes none = BYTES_NONE;

        for (size_t a = 0; a < N_ELEMENTS(algs); a++) {
                const struct aead_info *info = aead_info(algs[a]);
                struct bytes key = bytes_of(zeros, info->key_size), nonce = bytes_of(zeros, info->nonce_size);

                for (size_t size = 0; size < sizeof(zeros); size++) {
                        struct bytes other = bytes_of(zeros, size);

                        if (size != info->key_size) {
                                assert_int_equal(aead_seal(algs[a], other, nonce, none, none, out), -EINVAL);
                                assert_int_equal(aead_open(algs[a], other, nonce, none, key, out), -EINVAL);
                        }
                        if (size != info->nonce_size) {
                                assert_int_equal(aead_seal(algs[a], key, other, none, none, out), -EINVAL);
                                assert_int_equal(aead_open(algs[a], key, other, none, key, out), -EINVAL);
                        }
                }
        }
        assert_int_equal(aead_seal(AEAD_NONE, none, none, none, none, out), -EINVAL);
        assert_int_equal(aead_open((enum aead_alg)99, none, none, none, none, out), -EINVAL);
        assert_null(aead_info(AEAD_NONE));
        assert_null(aead_info((enum aead_alg)99));
}

/* CCM with a nonce of 13 bytes has 2 for the length (RFC 3610 §2.1). */
static void ccm_has_a_greatest_size(void **state) {
        enum { TOO_MUCH = 65536 };
        _cleanup_(freep) uint8_t *plain = calloc(1, TOO_MUCH), *cipher = calloc(1, TOO_MUCH + 16);
        _cleanup_(freep) uint8_t *back = calloc(1, TOO_MUCH);
        uint8_t zeros[16] = {};
        struct bytes key = bytes_of(zeros, 16), nonce = bytes_of(zeros, 13), none = BYTES_NONE;
        enum aead_alg alg = AEAD_AES_CCM_16_64_128;

        assert_int_equal(aead_seal(alg, key, nonce, none, bytes_of(plain, TOO_MUCH), cipher), -EINVAL);
        assert_int_equal(aead_seal(alg, key, nonce, none, bytes_of(plain, TOO_MUCH - 1), cipher), 0);
        assert_int_equal(aead_open(alg, key, nonce, none, bytes_of(cipher, TOO_MUCH - 1 + 8), back), 0);
        assert_memory_equal(plain, back, TOO_MUCH - 1);
        assert_int_equal(aead_open(alg, key, nonce, none, bytes_of(cipher, TOO_MUCH + 8), back), -EBADMSG);
}

/* Two algorithms of equal key and nonce sizes do not take each other's messages. */
static void aead_algorithms_differ(void **state) {
        struct box box;
        uint8_t out[ROOM];

        box_fill(&box, AEAD_A256GCM, 20, 0);
        box.alg = AEAD_CHACHA20_POLY1305;
        assert_refused(&box);
        box_fill(&box, AEAD_AES_CCM_16_128_128, 20, 0);
        box.alg = AEAD_AES_CCM_16_64_128;
        assert_refused(&box);
        assert_int_equal(box_open(&box, out), -EBADMSG);
}

/* ---- hashes */

static void assert_hex(const uint8_t *data, size_t size, const char *hex) {
        char text[2 * ROOM + 1];

        bytes_to_hex(bytes_of(data, size), text, sizeof(text));
        assert_string_equal(text, hex);
}

/* FIPS 180 examples */
/* Sealing, opening and failing in turn under one key: nothing of a call is left in the next. */
static void aead_keys_do_as_single_calls_do(void **state) {
        static const enum aead_alg with_keys[] = { AEAD_A128GCM, AEAD_A256GCM, AEAD_CHACHA20_POLY1305 };
        static const uint8_t bytes[64] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };

        for (size_t a = 0; a < N_ELEMENTS(with_keys); a++) {
                const struct aead_info *info = aead_info(with_keys[a]);
                struct bytes secret = bytes_of(bytes + 1, info->key_size);
                struct aead_key *key = NULL;

                assert_int_equal(aead_key_new(with_keys[a], secret, &key), 0);
                for (uint8_t i = 0; i < 40; i++) {
                        uint8_t nonce_bytes[AEAD_NONCE_SIZE_MAX] = { i }, one[80], other[80], plain[64];
                        struct bytes nonce = bytes_of(nonce_bytes, info->nonce_size), cipher;
                        struct bytes aad = bytes_of(bytes, i % 5), text = bytes_of(bytes + 9, i);

                        assert_int_equal(aead_seal(with_keys[a], secret, nonce, aad, text, one), 0);
                        assert_int_equal(aead_key_seal(key, nonce, aad, text, other), 0);
                        cipher = bytes_of(other, text.size + info->tag_size);
                        assert_memory_equal(one, other, cipher.size);
                        other[i % cipher.size] ^= 1;
                        assert_int_equal(aead_key_open(key, nonce, aad, cipher, plain), -EBADMSG);
                        other[i % cipher.size] ^= 1;
                        assert_int_equal(aead_key_open(key, nonce, aad, cipher, plain), 0);
                        assert_true(bytes_equal(bytes_of(plain, text.size), text));
                }
                aead_key_free(key);
        }
}

static void aead_keys_refuse_what_they_cannot(void **state) {
        static const uint8_t bytes[64];
        struct aead_key *key = NULL;
        uint8_t out[64];

        assert_int_equal(aead_key_new(AEAD_NONE, BYTES_NONE, &key), -EINVAL);
        assert_int_equal(aead_key_new(AEAD_AES_CCM_16_64_128, bytes_of(bytes, 16), &key), -EINVAL);
        assert_int_equal(aead_key_new(AEAD_A256GCM, bytes_of(bytes, 31), &key), -EINVAL);
        assert_null(key);
        assert_int_equal(aead_key_new(AEAD_A256GCM, bytes_of(bytes, 32), &key), 0);
        assert_int_equal(aead_key_seal(key, bytes_of(bytes, 13), BYTES_NONE, BYTES_NONE, out), -EINVAL);
        assert_int_equal(aead_key_open(key, bytes_of(bytes, 11), BYTES_NONE, bytes_of(bytes, 16), out), -EINVAL);
        assert_int_equal(aead_key_open(key, bytes_of(bytes, 12), BYTES_NONE, bytes_of(bytes, 15), out), -EBADMSG);
        aead_key_free(key);
        aead_key_free(NULL);
}

static void sha256_agrees_with_its_examples(void **state) {
        uint8_t out[SHA256_SIZE];

        assert_int_equal(sha256(BYTES_NONE, out), 0);
        assert_hex(out, sizeof(out), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_int_equal(sha256(BYTES_LITERAL("abc"), out), 0);
        assert_hex(out, sizeof(out), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* RFC 4231 §4.2, §4.3, §4.7; an empty key and message */
static void hmac_agrees_with_rfc4231(void **state) {
        uint8_t key[131], out[SHA256_SIZE];

        memset(key, 0x0b, 20);
        assert_int_equal(hmac_sha256(bytes_of(key, 20), BYTES_LITERAL("Hi There"), out), 0);
        assert_hex(out, sizeof(out), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        assert_int_equal(hmac_sha256(BYTES_LITERAL("Jefe"), BYTES_LITERAL("what do ya want for nothing?"), out), 0);
        assert_hex(out, sizeof(out), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        memset(key, 0xaa, sizeof(key));
        assert_int_equal(hmac_sha256(bytes_of(key, sizeof(key)),
                                     BYTES_LITERAL("Test Using Larger Than Block-Size Key - Hash Key First"), out),
                         0);
        assert_hex(out, sizeof(out), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
        assert_int_equal(hmac_sha256(BYTES_NONE, BYTES_NONE, out), 0);
        assert_hex(out, sizeof(out), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

/* RFC 5869 appendix A.1 to A.3 */
static void hkdf_agrees_with_rfc5869(void **state) {
        uint8_t count[256], ikm[22], out[82];

        for (size_t i = 0; i < sizeof(count); i++)
                count[i] = (uint8_t)i;
        memset(ikm, 0x0b, sizeof(ikm));

        assert_int_equal(hkdf_sha256(bytes_of(count, 13), bytes_of(ikm, 22), bytes_of(count + 0xf0, 10), out, 42), 0);
        assert_hex(out, 42, "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
        assert_int_equal(hkdf_sha256(bytes_of(count + 0x60, 80), bytes_of(count, 80), bytes_of(count + 0xb0, 80), out,
                                     82), 0);
        assert_hex(out, 82, "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c6"
                            "5e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87");
        assert_int_equal(hkdf_sha256(BYTES_NONE, bytes_of(ikm, 22), BYTES_NONE, out, 42), 0);
        assert_hex(out, 42, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

static void hkdf_agrees_with_oscore_vectors(void **state) {
        static const struct {
                const char *info, *result;
        } keys[] = {
                { "output.info_sender_key", "output.sender_key" },
                { "output.info_recipient_key", "output.recipient_key" },
                { "output.info_common_iv", "output.common_iv" },
        };
        _cleanup_(json_decrefp) json_t *file = vectors_load("oscore-rfc8613");
        unsigned n = 0;
        const json_t *v;
        size_t i;

        json_array_foreach(vectors_get(file, "key_derivation"), i, v) {
                _cleanup_(buf_done) struct buf secret = vectors_bytes(v, "input.master_secret");
                _cleanup_(buf_done) struct buf salt = vectors_bytes(v, "input.master_salt");

                for (size_t k = 0; k < N_ELEMENTS(keys); k++, n++) {
                        _cleanup_(buf_done) struct buf info = vectors_bytes(v, keys[k].info);
                        _cleanup_(buf_done) struct buf result = vectors_bytes(v, keys[k].result);
                        uint8_t out[ROOM];

                        assert_int_equal(hkdf_sha256(buf_bytes(&salt), buf_bytes(&secret), buf_bytes(&info), out,
                                                     result.size), 0);
                        assert_memory_equal(out, result.data, result.size);
                }
        }
        assert_int_equal(n, 18);
}

static void hkdf_has_a_greatest_size(void **state) {
        _cleanup_(freep) uint8_t *out = malloc(255 * SHA256_SIZE + 1);

        assert_int_equal(hkdf_sha256(BYTES_NONE, BYTES_LITERAL("k"), BYTES_NONE, out, 255 * SHA256_SIZE), 0);
        assert_int_equal(hkdf_sha256(BYTES_NONE, BYTES_LITERAL("k"), BYTES_NONE, out, 255 * SHA256_SIZE + 1), -EIO);
        assert_int_equal(hkdf_sha256(BYTES_NONE, BYTES_LITERAL("k"), BYTES_NONE, out, 0), -EIO);
        assert_int_equal(hkdf_sha256(BYTES_NONE, BYTES_NONE, BYTES_NONE, out, 16), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(aead_agrees_with_cose_vectors),
                cmocka_unit_test(aead_agrees_with_oscore_vectors),
                cmocka_unit_test(aead_refuses_every_flipped_bit),
                cmocka_unit_test(aead_does_the_same_with_what_was_kept),
                cmocka_unit_test(aead_seals_where_the_plain_text_stands),
                cmocka_unit_test(aead_refuses_every_cut),
                cmocka_unit_test(aead_refuses_wrong_sizes),
                cmocka_unit_test(ccm_has_a_greatest_size),
                cmocka_unit_test(aead_algorithms_differ),
                cmocka_unit_test(aead_keys_do_as_single_calls_do),
                cmocka_unit_test(aead_keys_refuse_what_they_cannot),
                cmocka_unit_test(sha256_agrees_with_its_examples),
                cmocka_unit_test(hmac_agrees_with_rfc4231),
                cmocka_unit_test(hkdf_agrees_with_rfc5869),
                cmocka_unit_test(hkdf_agrees_with_oscore_vectors),
                cmocka_unit_test(hkdf_has_a_greatest_size),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
