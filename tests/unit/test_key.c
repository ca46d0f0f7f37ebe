#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "crypto/key.h"
#include "crypto/mac.h"
#include "crypto/sign.h"
#include "support/fake.h"
#include "support/mutate.h"

#define ROOM 512

static struct bytes from_hex(const char *hex, uint8_t data[static ROOM]) {
        size_t size;

        assert_int_equal(bytes_from_hex(hex, data, ROOM, &size), 0);
        return bytes_of(data, size);
}

static void assert_hex(struct bytes bytes, const char *hex) {
        char text[2 * ROOM + 1];

        bytes_to_hex(bytes, text, sizeof(text));
        assert_string_equal(text, hex);
}

#define P256_PRIVATE "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"
#define P256_X "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
#define P256_Y "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
#define P256_SPKI "3059301306072a8648ce3d020106082a8648ce3d03010703420004" P256_X P256_Y
#define P384_PRIVATE "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5"
#define P384_X "ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13"
#define P384_Y "8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720"
#define P384_SPKI "3076301006072a8648ce3d020106052b8104002203620004" P384_X P384_Y
#define ED25519_PRIVATE "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
#define ED25519_PUBLIC "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
#define X25519_PRIVATE "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
#define X25519_PUBLIC "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"

/* RFC 6979 A.2.5 and A.2.6, RFC 8032 §7.1, RFC 8410 §10, RFC 7748 §6.1 */
static const struct {
        enum curve curve;
        const char *private_key, *spki, *pkcs8;
} pairs[] = {
        { CURVE_P256, P256_PRIVATE, P256_SPKI,
          "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420" P256_PRIVATE "a14403420004" P256_X P256_Y },
        { CURVE_P384, P384_PRIVATE, P384_SPKI,
          "3081b6020100301006072a8648ce3d020106052b8104002204819e30819b0201010430" P384_PRIVATE "a16403620004" P384_X P384_Y },
        { CURVE_ED25519, ED25519_PRIVATE, "302a300506032b6570032100" ED25519_PUBLIC,
          "302e020100300506032b657004220420" ED25519_PRIVATE },
        { CURVE_ED25519, "d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842",
          "302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1",
          "302e020100300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842" },
        { CURVE_X25519, X25519_PRIVATE, "302a300506032b656e032100" X25519_PUBLIC,
          "302e020100300506032b656e04220420" X25519_PRIVATE },
};

static void curves_have_names_and_sizes(void **state) {
        static const struct {
                enum curve curve;
                const char *name;
                size_t size;
        } rows[] = {
                { CURVE_P256, "P-256", 32 },
                { CURVE_P384, "P-384", 48 },
                { CURVE_ED25519, "Ed25519", 32 },
                { CURVE_X25519, "X25519", 32 },
        };

        assert_int_equal(N_ELEMENTS(rows), CURVES - 1);
        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                assert_string_equal(curve_name(rows[i].curve), rows[i].name);
                assert_int_equal(curve_from_name(rows[i].name), rows[i].curve);
                assert_int_equal(curve_size(rows[i].curve), rows[i].size);
        }
        assert_null(curve_name(CURVE_NONE));
        assert_null(curve_name(CURVES));
        assert_int_equal(curve_size(CURVE_NONE), 0);
        assert_int_equal(curve_from_name("P-521"), CURVE_NONE);
        assert_int_equal(curve_from_name("p-256"), CURVE_NONE);
}

static void pairs_agree_with_the_rfcs(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(pairs); i++) {
                _cleanup_(buf_done) struct buf pkcs8 = BUF_INIT(ROOM);
                uint8_t space[ROOM], der[ROOM], spki[SPKI_SIZE_MAX];
                struct bytes private_key = from_hex(pairs[i].private_key, space);
                struct public_key key, again;
                size_t size;

                assert_int_equal(key_public(pairs[i].curve, private_key, &key), 0);
                assert_int_equal(key.curve, pairs[i].curve);
                assert_int_equal(public_key_check(&key), 0);
                assert_int_equal(public_key_spki(&key, spki, &size), 0);
                assert_hex(bytes_of(spki, size), pairs[i].spki);
                assert_int_equal(public_key_from_spki(from_hex(pairs[i].spki, der), &again), 0);
                assert_true(public_key_equal(&key, &again));
                assert_int_equal(key_pkcs8(pairs[i].curve, private_key, &pkcs8), 0);
                assert_hex(buf_bytes(&pkcs8), pairs[i].pkcs8);
        }
}

static void keys_differ(void **state) {
        struct public_key key = { .curve = CURVE_P256 }, other;

        other = key;
        assert_true(public_key_equal(&key, &other));
        other.y[31] = 1;
        assert_false(public_key_equal(&key, &other));
        other = key;
        other.x[0] = 1;
        assert_false(public_key_equal(&key, &other));
        other = key;
        other.x[32] = other.y[32] = 1; /* nothing of it */
        assert_true(public_key_equal(&key, &other));
        key.curve = other.curve = CURVE_ED25519;
        other.y[0] = 1;
        assert_true(public_key_equal(&key, &other));
        other.curve = CURVE_X25519;
        assert_false(public_key_equal(&key, &other));
        key.curve = other.curve = CURVE_NONE;
        assert_false(public_key_equal(&key, &other));
}

/* ---- what is no key */

#define FIELD_P256 "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff"
#define ZERO_32 "0000000000000000000000000000000000000000000000000000000000000000"
#define ONES_32 "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"

static void bad_points_are_refused(void **state) {
        static const struct {
                const char *what;
                enum curve curve;
                const char *x, *y;
        } rows[] = {
                { "neutral, as some write it", CURVE_P256, ZERO_32, ZERO_32 },
                { "y changed", CURVE_P256, P256_X, "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462298" },
                { "x and y swapped", CURVE_P256, P256_Y, P256_X },
                { "x is the prime: 0 once more", CURVE_P256, FIELD_P256,
                  "66485c780e2f83d72433bd5d84a06bb6541c2af31dae871728bf856a174f93f4" },
                { "x above the prime", CURVE_P256, ONES_32, P256_Y },
                { "y above the prime", CURVE_P256, P256_X, ONES_32 },
                { "a point of P-384, cut", CURVE_P256,
                  "ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64",
                  "8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1" },
                { "neutral", CURVE_P384, ZERO_32 "00000000000000000000000000000000",
                  ZERO_32 "00000000000000000000000000000000" },
                { "off P-384", CURVE_P384, P384_X, P384_X },
                { "0: order 4", CURVE_ED25519, ZERO_32, NULL },
                { "1: neutral", CURVE_ED25519,
                  "0100000000000000000000000000000000000000000000000000000000000000", NULL },
                { "1 with a sign", CURVE_ED25519,
                  "0100000000000000000000000000000000000000000000000000000000000080", NULL },
                { "-1: order 2", CURVE_ED25519,
                  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", NULL },
                { "order 8", CURVE_ED25519,
                  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", NULL },
                { "order 8, other sign", CURVE_ED25519,
                  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa", NULL },
                { "order 8, the other", CURVE_ED25519,
                  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", NULL },
                { "the prime: 0 once more", CURVE_ED25519,
                  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", NULL },
                { "1 once more", CURVE_ED25519,
                  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", NULL },
                { "no point has this y", CURVE_ED25519,
                  "0200000000000000000000000000000000000000000000000000000000000000", NULL },
                { "all ones", CURVE_ED25519, ONES_32, NULL },
                { "0", CURVE_X25519, ZERO_32, NULL },
                { "1", CURVE_X25519, "0100000000000000000000000000000000000000000000000000000000000000", NULL },
                { "-1", CURVE_X25519, "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", NULL },
                { "order 8", CURVE_X25519, "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800", NULL },
                { "order 8", CURVE_X25519, "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157", NULL },
                { "the prime", CURVE_X25519, "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", NULL },
                { "above the prime", CURVE_X25519,
                  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", NULL },
                { "a bit too many", CURVE_X25519,
                  "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882bcf", NULL },
                { "on the twist", CURVE_X25519,
                  "0200000000000000000000000000000000000000000000000000000000000000", NULL },
                { "no curve", CURVE_NONE, ZERO_32, NULL },
                { "none of ours", CURVES, ZERO_32, NULL },
        };

        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                struct public_key key = { .curve = rows[i].curve };
                size_t size;

                assert_int_equal(bytes_from_hex(rows[i].x, key.x, sizeof(key.x), &size), 0);
                if (rows[i].y)
                        assert_int_equal(bytes_from_hex(rows[i].y, key.y, sizeof(key.y), &size), 0);
                if (public_key_check(&key) != -EINVAL)
                        fail_msg("%s", rows[i].what);
        }
}

/* Every bit flipped, every cut, a byte more: no SubjectPublicKeyInfo, or another key that has this very encoding. */
static void judge_spki(struct bytes mutant, void *context) {
        uint8_t spki[SPKI_SIZE_MAX];
        struct public_key key;
        unsigned *n_refused = context;
        size_t size;
        int r = public_key_from_spki(mutant, &key);

        if (r != 0) {
                assert_int_equal(r, -EINVAL);
                ++*n_refused;
                return;
        }
        assert_int_equal(public_key_check(&key), 0);
        assert_int_equal(public_key_spki(&key, spki, &size), 0);
        assert_true(bytes_equal(bytes_of(spki, size), mutant));
}

static void mutants_of_spki_are_refused(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(pairs); i++) {
                uint8_t space[ROOM];
                struct bytes spki = from_hex(pairs[i].spki, space);
                bool is_okp = pairs[i].curve == CURVE_ED25519 || pairs[i].curve == CURVE_X25519;
                unsigned n_refused = 0;

                mutate(spki, judge_spki, &n_refused);
                /* half of all numbers are on an OKP curve, of P-* next to none of all pairs */
                assert_true(n_refused > (is_okp ? 4 : 10) * spki.size);
        }
}

static void other_spki_are_refused(void **state) {
        static const char *const rows[] = {
                "",
                "3000",
                /* compressed, hybrid, neutral */
                "3039301306072a8648ce3d020106082a8648ce3d03010703220003" P256_X,
                "3059301306072a8648ce3d020106082a8648ce3d03010703420006" P256_X P256_Y,
                "3059301306072a8648ce3d020106082a8648ce3d03010703420007" P256_X P256_Y,
                "3019301306072a8648ce3d020106082a8648ce3d030107030200" "00",
                /* secp256k1; P-256 with its length written long (BER); one more byte */
                "3056301006072a8648ce3d020106052b8104000a03420004" P256_X P256_Y,
                "308159301306072a8648ce3d020106082a8648ce3d03010703420004" P256_X P256_Y,
                P256_SPKI "00",
                /* Ed25519 with NULL parameters, Ed448's identifier */
                "302c300706032b65700500032100" ED25519_PUBLIC,
                "302a300506032b6571032100" ED25519_PUBLIC,
        };

        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                struct public_key key;
                uint8_t space[ROOM];

                assert_int_equal(public_key_from_spki(from_hex(rows[i], space), &key), -EINVAL);
        }
}

static void points_are_decompressed(void **state) {
        static const struct {
                enum curve curve;
                const char *x, *y;
                bool odd;
        } rows[] = {
                { CURVE_P256, P256_X, P256_Y, true },
                { CURVE_P384, P384_X, P384_Y, false },
        };

        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                struct public_key key = { .curve = rows[i].curve };
                uint8_t y[ROOM];
                size_t size;

                assert_int_equal(bytes_from_hex(rows[i].x, key.x, sizeof(key.x), &size), 0);
                assert_int_equal(public_key_decompress(&key, rows[i].odd), 0);
                assert_memory_equal(key.y, from_hex(rows[i].y, y).data, size);
                assert_int_equal(public_key_decompress(&key, !rows[i].odd), 0);
                assert_int_equal(public_key_check(&key), 0);
                assert_memory_not_equal(key.y, y, size);
        }
        /* no point has this x; one above the prime; OKP has no other form */
        struct public_key key = { .curve = CURVE_P256, .x = { [31] = 1 } };

        assert_int_equal(public_key_decompress(&key, false), -EINVAL);
        memset(key.x, 0xff, sizeof(key.x));
        assert_int_equal(public_key_decompress(&key, false), -EINVAL);
        key.curve = CURVE_ED25519;
        assert_int_equal(public_key_decompress(&key, false), -EINVAL);
}

static void private_keys_are_in_range(void **state) {
        static const struct {
                enum curve curve;
                const char *key;
                int r;
        } rows[] = {
                { CURVE_P256, ZERO_32, -EINVAL },
                { CURVE_P256, "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", -EINVAL }, /* order */
                { CURVE_P256, "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550", 0 },
                { CURVE_P256, "0000000000000000000000000000000000000000000000000000000000000001", 0 },
                { CURVE_P256, ONES_32, -EINVAL },
                { CURVE_P256, "01", -EINVAL },
                { CURVE_P256, P384_PRIVATE, -EINVAL },
                { CURVE_P384, P256_PRIVATE, -EINVAL },
                { CURVE_ED25519, "01", -EINVAL },
                { CURVE_ED25519, ED25519_PRIVATE "00", -EINVAL },
                { CURVE_X25519, "", -EINVAL },
                { CURVE_NONE, "", -EINVAL },
        };

        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                _cleanup_(buf_done) struct buf out = BUF_INIT(ROOM);
                struct public_key key;
                uint8_t space[ROOM];

                assert_int_equal(key_public(rows[i].curve, from_hex(rows[i].key, space), &key), rows[i].r);
                assert_int_equal(key_pkcs8(rows[i].curve, from_hex(rows[i].key, space), &out), rows[i].r);
                assert_int_equal(out.size > 0, rows[i].r == 0);
        }
}

static void new_pairs_fit(void **state) {
        fake_random_seed(7);
        for (enum curve curve = CURVE_NONE + 1; curve < CURVES; curve++) {
                struct public_key key, other, again;
                struct secret private_key = {};

                assert_int_equal(key_generate(curve, &key, &private_key), 0);
                assert_int_equal(private_key.size, curve_size(curve));
                assert_int_equal(key_public(curve, secret_bytes(&private_key), &again), 0);
                assert_true(public_key_equal(&key, &again));
                assert_int_equal(key_generate(curve, &other, &private_key), 0);
                assert_false(public_key_equal(&key, &other));
                secret_done(&private_key);
                fake_random_fail_at(1);
                assert_int_equal(key_generate(curve, &key, &private_key), -EIO);
                fake_random_fail_at(0);
                assert_int_equal(private_key.size, 0);
        }
        struct public_key key;
        struct secret private_key = {};

        assert_int_equal(key_generate(CURVE_NONE, &key, &private_key), -EINVAL);
}

static void thumbprints_are_of_the_spki(void **state) {
        uint8_t space[ROOM], thumbprint[THUMBPRINT_SIZE];
        struct public_key key;

        assert_int_equal(public_key_from_spki(from_hex(P256_SPKI, space), &key), 0);
        assert_int_equal(public_key_thumbprint(&key, thumbprint), 0);
        assert_hex(bytes_of(thumbprint, sizeof(thumbprint)),
                   "5a7a78cca4a0f420d9bc62bb669c3c2759e39f723d3ae10dcbe0f0815a07ecd4");
        key.curve = CURVE_NONE;
        assert_int_equal(public_key_thumbprint(&key, thumbprint), -EINVAL);
}

/* ---- signatures */

static const struct {
        enum sign_alg alg;
        const char *name;
        enum curve curve;
        size_t size;
        const char *private_key, *message, *signature;
} examples[] = {
        { SIGN_ES256, "ES256", CURVE_P256, 64, P256_PRIVATE, "73616d706c65",
          "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
          "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8" },
        { SIGN_ES384, "ES384", CURVE_P384, 96, P384_PRIVATE, "73616d706c65",
          "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46"
          "99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8" },
        { SIGN_EDDSA, "EdDSA", CURVE_ED25519, 64, ED25519_PRIVATE, "",
          "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
          "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b" },
        { SIGN_EDDSA, "EdDSA", CURVE_ED25519, 64, "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
          "72",
          "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
          "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00" },
        { SIGN_EDDSA, "EdDSA", CURVE_ED25519, 64, "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
          "af82",
          "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
          "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a" },
};

static void signatures_agree_with_the_rfcs(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(examples); i++) {
                uint8_t private_space[ROOM], message_space[ROOM], space[ROOM], made[SIGNATURE_SIZE_MAX];
                struct bytes private_key = from_hex(examples[i].private_key, private_space);
                struct bytes message = from_hex(examples[i].message, message_space);
                struct bytes signature = from_hex(examples[i].signature, space);
                enum sign_alg alg = examples[i].alg;
                struct sign_key *key = NULL;
                struct public_key public_key;

                assert_string_equal(sign_alg_name(alg), examples[i].name);
                assert_int_equal(sign_alg_from_name(examples[i].name), alg);
                assert_int_equal(sign_curve(alg), examples[i].curve);
                assert_int_equal(sign_size(alg), examples[i].size);
                assert_int_equal(key_public(examples[i].curve, private_key, &public_key), 0);
                assert_int_equal(sign_verify(alg, &public_key, message, signature), 0);

                /* with one key again and again; EdDSA gives one signature, ECDSA another each time */
                assert_int_equal(sign_key_new(alg, private_key, &key), 0);
                assert_int_equal(sign_key_alg(key), alg);
                for (int k = 0; k < 5; k++) {
                        assert_int_equal(sign(key, message, made), 0);
                        assert_int_equal(bytes_equal(bytes_of(made, signature.size), signature), alg == SIGN_EDDSA);
                        assert_int_equal(sign_verify(alg, &public_key, message, bytes_of(made, signature.size)), 0);
                }
                sign_key_free(key);
        }
        assert_int_equal(sign_size(SIGN_NONE), 0);
        assert_null(sign_alg_name(SIGN_ALGS));
        assert_int_equal(sign_alg_from_name("RS256"), SIGN_NONE);
        sign_key_free(NULL);
}

/* r and s are as long as the curve's order, also when they begin with zeros: one signature in 128 does. */
static void short_numbers_are_filled_up(void **state) {
        static const enum sign_alg algs[] = { SIGN_ES256, SIGN_ES384 };

        fake_random_seed(3);
        for (size_t a = 0; a < N_ELEMENTS(algs); a++) {
                struct secret private_key = {};
                struct public_key public_key;
                struct sign_key *key = NULL;
                size_t size = sign_size(algs[a]);
                bool seen = false;

                assert_int_equal(key_generate(sign_curve(algs[a]), &public_key, &private_key), 0);
                assert_int_equal(sign_key_new(algs[a], secret_bytes(&private_key), &key), 0);
                for (unsigned i = 0; i < 5000 && !seen; i++) {
                        uint8_t made[SIGNATURE_SIZE_MAX];

                        assert_int_equal(sign(key, bytes_of(&i, sizeof(i)), made), 0);
                        seen = made[0] == 0 || made[size / 2] == 0;
                        if (seen)
                                assert_int_equal(sign_verify(algs[a], &public_key, bytes_of(&i, sizeof(i)),
                                                             bytes_of(made, size)), 0);
                }
                assert_true(seen);
                sign_key_free(key);
                secret_done(&private_key);
        }
}

struct verifying {
        enum sign_alg alg;
        struct public_key key;
        struct bytes message, signature;
        unsigned n_refused;
};

static void judge_signature(struct bytes mutant, void *context) {
        struct verifying *v = context;

        if (bytes_equal(mutant, v->signature))
                return; /* a byte set to what it was */
        assert_int_equal(sign_verify(v->alg, &v->key, v->message, mutant), -EBADMSG);
        v->n_refused++;
}

static void mutants_of_signatures_are_refused(void **state) {
        for (size_t i = 0; i < 3; i++) {
                uint8_t private_space[ROOM], message_space[ROOM], space[ROOM];
                struct verifying v = { .alg = examples[i].alg,
                                       .message = from_hex(examples[i].message, message_space),
                                       .signature = from_hex(examples[i].signature, space) };

                assert_int_equal(key_public(examples[i].curve, from_hex(examples[i].private_key, private_space),
                                            &v.key), 0);
                mutate(v.signature, judge_signature, &v);
                assert_true(v.n_refused > 600);
                assert_int_equal(sign_verify(v.alg, &v.key, BYTES_LITERAL("another"), v.signature), -EBADMSG);
        }
}

static void signatures_that_prove_nothing_are_refused(void **state) {
        static const uint8_t zeros[SIGNATURE_SIZE_MAX];
        uint8_t space[ROOM], signature[ROOM];
        struct public_key key;

        assert_int_equal(key_public(CURVE_P256, from_hex(P256_PRIVATE, space), &key), 0);
        assert_int_equal(sign_verify(SIGN_ES256, &key, BYTES_NONE, bytes_of(zeros, 64)), -EBADMSG);
        assert_int_equal(sign_verify(SIGN_ES256, &key, BYTES_NONE, BYTES_NONE), -EBADMSG);
        /* s is the group's order */
        (void)from_hex("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
                       "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", signature);
        assert_int_equal(sign_verify(SIGN_ES256, &key, BYTES_LITERAL("sample"), bytes_of(signature, 64)), -EBADMSG);

        /* a key for another algorithm, and one that is none: under the neutral point anybody could sign */
        assert_int_equal(sign_verify(SIGN_ES384, &key, BYTES_NONE, bytes_of(zeros, 96)), -EINVAL);
        assert_int_equal(sign_verify(SIGN_EDDSA, &key, BYTES_NONE, bytes_of(zeros, 64)), -EINVAL);
        assert_int_equal(sign_verify(SIGN_NONE, &key, BYTES_NONE, bytes_of(zeros, 64)), -EINVAL);
        key = (struct public_key){ .curve = CURVE_ED25519, .x = { 1 } };
        (void)from_hex("0100000000000000000000000000000000000000000000000000000000000000" ZERO_32, signature);
        assert_int_equal(sign_verify(SIGN_EDDSA, &key, BYTES_LITERAL("anything"), bytes_of(signature, 64)), -EINVAL);
        key = (struct public_key){ .curve = CURVE_P256 };
        assert_int_equal(sign_verify(SIGN_ES256, &key, BYTES_NONE, bytes_of(zeros, 64)), -EINVAL);
}

static void bad_keys_do_not_sign(void **state) {
        struct sign_key *key = NULL;
        uint8_t space[ROOM];

        assert_int_equal(sign_key_new(SIGN_NONE, BYTES_NONE, &key), -EINVAL);
        assert_int_equal(sign_key_new(SIGN_ES256, from_hex(ZERO_32, space), &key), -EINVAL);
        assert_int_equal(sign_key_new(SIGN_ES256, from_hex(P384_PRIVATE, space), &key), -EINVAL);
        assert_int_equal(sign_key_new(SIGN_ES384, from_hex(P256_PRIVATE, space), &key), -EINVAL);
        assert_int_equal(sign_key_new(SIGN_EDDSA, BYTES_NONE, &key), -EINVAL);
        assert_null(key);
}

/* ---- MACs */

/* One key in each form that tools write, and what is none. */
static void key_files_are_read(void **state) {
        static const struct {
                const char *text;
                int r;
        } files[] = {
                { "-----BEGIN EC PRIVATE KEY-----\n"
                  "MHcCAQEEIMmvqdhFunUWa1whV2ex1pNOUMPbNuibEnuKYisSD2choAoGCCqGSM49\n"
                  "AwEHoUQDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7Yfps5mliLmDyn7Z5A/4QCLi8\n"
                  "maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimQ==\n"
                  "-----END EC PRIVATE KEY-----\n", 0 },
                /* encrypted: nobody is asked for a password */
                { "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
                  "MIHrMFYGCSqGSIb3DQEFDTBJMCgGCSqGSIb3DQEFDDAbBAiH8PPknM5kcAIBATAM\n"
                  "BggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQAZd72BZk9cHAxex5WMNdbASBkKNT\n"
                  "bEnF+gitDELxa95WwuqpFbVb5wTIK/Dvy6PaTiboyFk0Mq8jyHJ7AXjq/in1deRb\n"
                  "yld3CHJQWEJX2jUP148F4Ro+TrQFD7KwLJoVaoZPAjjBKOGvUuh45lJjIEKzsa9m\n"
                  "jA4/Ub9ZIGgacmCmMohpb0THaSlWr1dxkBWVYK1pioD6gYKl2LL9HZHsCENdag==\n"
                  "-----END ENCRYPTED PRIVATE KEY-----\n", -EINVAL },
                { "-----BEGIN PUBLIC KEY-----\n"
                  "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
                  "-----END PUBLIC KEY-----\n", -EINVAL },
                { "no key", -EINVAL },
                { "", -EINVAL },
        };
        struct public_key public_key, expected;
        struct sign_key *key = NULL;
        uint8_t space[ROOM];

        assert_int_equal(public_key_from_spki(from_hex(P256_SPKI, space), &expected), 0);
        for (size_t i = 0; i < N_ELEMENTS(files); i++) {
                assert_int_equal(sign_key_read(bytes_text(files[i].text), &key, &public_key), files[i].r);
                if (files[i].r == 0)
                        assert_true(public_key_equal(&public_key, &expected));
                sign_key_free(TAKE_PTR(key));
        }
        for (size_t i = 0; i < N_ELEMENTS(pairs); i++) {
                enum sign_alg alg = sign_alg_of(pairs[i].curve);

                assert_int_equal(sign_key_read(from_hex(pairs[i].pkcs8, space), &key, &public_key),
                                 alg == SIGN_NONE ? -EINVAL : 0); /* keys on X25519 sign nothing */
                if (alg == SIGN_NONE)
                        continue;
                assert_int_equal(sign_key_alg(key), alg);
                assert_int_equal(public_key_from_spki(from_hex(pairs[i].spki, space), &expected), 0);
                assert_true(public_key_equal(&public_key, &expected));
                sign_key_free(TAKE_PTR(key));
        }
}

/* TLS may want any hash with any curve (RFC 8422 §5.4); EdDSA has none. */
static void hashes_are_signed(void **state) {
        uint8_t space[ROOM], hash[48] = { 1 }, signature[SIGNATURE_DER_SIZE_MAX];
        static const struct {
                enum sign_alg alg;
                const char *private_key;
                int r;
        } keys[] = { { SIGN_ES256, P256_PRIVATE, 0 }, { SIGN_ES384, P384_PRIVATE, 0 },
                     { SIGN_EDDSA, ED25519_PRIVATE, -EINVAL } };

        for (size_t i = 0; i < N_ELEMENTS(keys); i++)
                for (size_t size = 32; size <= sizeof(hash); size += 16) {
                        struct sign_key *key = NULL;
                        size_t n = 0;

                        assert_int_equal(sign_key_new(keys[i].alg, from_hex(keys[i].private_key, space), &key), 0);
                        assert_int_equal(sign_hash(key, bytes_of(hash, size), signature, &n), keys[i].r);
                        if (keys[i].r == 0) { /* SEQUENCE */
                                assert_in_range(n, sign_size(keys[i].alg) - 8, sizeof(signature));
                                assert_int_equal(signature[0], 0x30);
                                assert_int_equal(signature[1], n - 2);
                        }
                        sign_key_free(key);
                }
}

static void macs_are_hmac_and_cut(void **state) {
        static const uint8_t key[MAC_KEY_SIZE] = { 1, 2, 3 };
        uint8_t whole[MAC_SIZE_MAX], cut[MAC_SIZE_MAX];

        assert_int_equal(mac_size(MAC_HMAC_256_256), 32);
        assert_int_equal(mac_size(MAC_HMAC_256_64), 8);
        assert_int_equal(mac_size(MAC_NONE), 0);
        assert_int_equal(mac_alg_from_name(mac_alg_name(MAC_HMAC_256_64)), MAC_HMAC_256_64);
        assert_int_equal(mac_alg_from_name(mac_alg_name(MAC_HMAC_256_256)), MAC_HMAC_256_256);
        assert_int_equal(mac_alg_from_name("HMAC-512-512"), MAC_NONE);
        assert_null(mac_alg_name(MAC_ALGS));

        assert_int_equal(mac(MAC_HMAC_256_256, bytes_of(key, sizeof(key)), BYTES_LITERAL("data"), whole), 0);
        assert_int_equal(mac(MAC_HMAC_256_64, bytes_of(key, sizeof(key)), BYTES_LITERAL("data"), cut), 0);
        assert_memory_equal(whole, cut, 8);
        for (size_t i = 8; i < sizeof(cut); i++)
                assert_int_equal(cut[i], 0);
        assert_int_equal(mac(MAC_HMAC_256_64, bytes_of(key, 31), BYTES_NONE, cut), -EINVAL);
        assert_int_equal(mac(MAC_HMAC_256_64, BYTES_NONE, BYTES_NONE, cut), -EINVAL);
        assert_int_equal(mac(MAC_NONE, bytes_of(key, sizeof(key)), BYTES_NONE, cut), -EINVAL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(curves_have_names_and_sizes),
                cmocka_unit_test(pairs_agree_with_the_rfcs),
                cmocka_unit_test(keys_differ),
                cmocka_unit_test(bad_points_are_refused),
                cmocka_unit_test(mutants_of_spki_are_refused),
                cmocka_unit_test(other_spki_are_refused),
                cmocka_unit_test(points_are_decompressed),
                cmocka_unit_test(private_keys_are_in_range),
                cmocka_unit_test(new_pairs_fit),
                cmocka_unit_test(thumbprints_are_of_the_spki),
                cmocka_unit_test(signatures_agree_with_the_rfcs),
                cmocka_unit_test(short_numbers_are_filled_up),
                cmocka_unit_test(mutants_of_signatures_are_refused),
                cmocka_unit_test(signatures_that_prove_nothing_are_refused),
                cmocka_unit_test(bad_keys_do_not_sign),
                cmocka_unit_test(key_files_are_read),
                cmocka_unit_test(hashes_are_signed),
                cmocka_unit_test(macs_are_hmac_and_cut),
        };

        return cmocka_run_group_tests_name("keys and signatures", tests, NULL, NULL);
}
