#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "domain/grant.h"
#include "domain/refusal.h"
#include "format/ace.h"
#include "format/cbor.h"
#include "format/cose.h"
#include "format/cwt.h"
#include "format/labels.h"
#include "support/edn.h"
#include "support/grants.h"
#include "support/mutate.h"
#include "support/notation.h"
#include "support/vectors.h"

static void algorithms_have_their_numbers(void **state) {
        static const int labels[] = { 1, 3, 10, 24, 30 };

        for (size_t i = 0; i < N_ELEMENTS(labels); i++) {
                assert_int_not_equal(cose_aead_from_label(labels[i]), AEAD_NONE);
                assert_int_equal(cose_aead_label(cose_aead_from_label(labels[i])), labels[i]);
        }
        assert_int_equal(cose_aead_from_label(0), AEAD_NONE);
        assert_int_equal(cose_aead_from_label(2), AEAD_NONE); /* A192GCM */
        assert_int_equal(cose_aead_from_label(-7), AEAD_NONE);
        assert_int_equal(cose_aead_from_label(INT64_C(0x10000000a)), AEAD_NONE);
        assert_int_equal(cose_aead_label(AEAD_NONE), 0);
}

/* ---- the examples of the COSE working group */

/* Sealing again with what the object says gives the object again. */
static void assert_reencodes(struct bytes object, struct bytes key, struct bytes plain) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST);
        struct cose_encrypt0_parts parts;

        assert_int_equal(cose_encrypt0_parse(object, &parts), 0);
        assert_int_equal(cose_encrypt0(parts.alg, key, parts.kid, parts.nonce, plain, object.data[0] == 0xd0, &out), 0);
        assert_true(bytes_equal(buf_bytes(&out), object));
}

static void try_example(json_t *vector) {
        _cleanup_(buf_done) struct buf object = vectors_bytes(vector, "cbor"), key = vectors_bytes(vector, "key.k");
        _cleanup_(buf_done) struct buf expected = vectors_bytes(vector, "plaintext"), plain = BUF_INIT(SIZE_MAX_TEST);
        bool good = strcmp(vectors_text(vector, "expect"), "valid") == 0;
        int r;

        r = cose_encrypt0_open(buf_bytes(&object), buf_bytes(&key), &plain);
        if (vectors_has(vector, "full_iv")) { /* a Partial IV needs a Base IV from elsewhere */
                assert_int_equal(r, REFUSE_WRONG_TYPE);
        } else if (!good || *vectors_text(vector, "external_aad")) {
                assert_int_equal(r, REFUSE_MALFORMED);
                assert_int_equal(plain.size, 0);
        } else {
                assert_int_equal(r, 0);
                assert_true(bytes_equal(buf_bytes(&plain), buf_bytes(&expected)));
                assert_reencodes(buf_bytes(&object), buf_bytes(&key), buf_bytes(&plain));
        }
}

static void examples_open_and_seal(void **state) {
        json_t *root = vectors_load("cose"), *vector;
        size_t i, n = 0;

        json_array_foreach(vectors_get(root, "vectors"), i, vector) {
                if (strcmp(vectors_text(vector, "type"), "COSE_Encrypt0") != 0)
                        continue;
                try_example(vector);
                n++;
        }
        assert_int_equal(n, 10);
        json_decref(root);
}

/* ---- MACs and signatures of the same examples */

static struct public_key vector_key(json_t *vector, const char *at) {
        struct public_key key = {};
        char path[40];
        size_t size;

        snprintf(path, sizeof(path), "%s.crv_name", at);
        key.curve = curve_from_name(vectors_text(vector, path));
        snprintf(path, sizeof(path), "%s.x", at);
        assert_int_equal(bytes_from_hex(vectors_text(vector, path), key.x, sizeof(key.x), &size), 0);
        snprintf(path, sizeof(path), "%s.y", at);
        if (vectors_has(vector, path))
                assert_int_equal(bytes_from_hex(vectors_text(vector, path), key.y, sizeof(key.y), &size), 0);
        return key;
}

/* Where the object's headers stand as we write them, the same comes out; for ECDSA but for the signature. */
static void assert_remakes(struct bytes object, struct bytes payload, const struct cose_signed_parts *parts,
                           struct bytes secret) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST);
        bool tagged = object.data[0] >> 5 == 6, is_mac = cose_mac_from_label(parts->alg) != MAC_NONE;
        struct sign_key *signer = NULL;
        struct bytes again;

        if (is_mac) {
                assert_int_equal(cose_mac0(cose_mac_from_label(parts->alg), secret, parts->kid, false, payload, tagged,
                                           &out), 0);
        } else {
                assert_int_equal(sign_key_new(cose_sign_from_label(parts->alg), secret, &signer), 0);
                assert_int_equal(cose_sign1(signer, parts->kid, false, payload, tagged, &out), 0);
        }
        again = buf_bytes(&out);
        if (!is_mac && sign_key_alg(signer) != SIGN_EDDSA)
                again.size = object.size = object.size - parts->proof.size;
        assert_true(bytes_equal(again, object));
        sign_key_free(signer);
}

static void try_signed(json_t *vector) {
        const char *name = vectors_text(vector, "name");
        bool is_mac = strcmp(vectors_text(vector, "type"), "COSE_Mac0") == 0;
        /* we have no data from outside, and take no algorithm that is not vouched for */
        bool good = strcmp(vectors_text(vector, "expect"), "valid") == 0 && !*vectors_text(vector, "external_aad") &&
                    strcmp(name, "sign1-es256-protected-a0") != 0;
        _cleanup_(buf_done) struct buf object = vectors_bytes(vector, "cbor");
        _cleanup_(buf_done) struct buf payload = vectors_bytes(vector, "payload");
        _cleanup_(buf_done) struct buf secret = vectors_bytes(vector, is_mac ? "key.k" : "key.d");
        struct cose_signed_parts parts;
        struct bytes opened = BYTES_NONE;
        struct public_key key;
        int r;

        if (is_mac) {
                r = cose_mac0_open(buf_bytes(&object), buf_bytes(&secret), &opened);
        } else {
                key = vector_key(vector, "key");
                r = cose_sign1_open(buf_bytes(&object), &key, &opened);
        }
        if (!good) {
                assert_true(r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE);
                assert_null(opened.data);
                return;
        }
        assert_int_equal(r, 0);
        assert_true(bytes_equal(opened, buf_bytes(&payload)));
        assert_int_equal((is_mac ? cose_mac0_parse : cose_sign1_parse)(buf_bytes(&object), &parts), 0);
        assert_int_equal(parts.alg, vectors_number(vector, "alg"));
        if (parts.protected_header.size <= 4) /* { 1: alg }: some say of what type the content is, which we do not */
                assert_remakes(buf_bytes(&object), opened, &parts, buf_bytes(&secret));
}

static void examples_verify_and_sign(void **state) {
        json_t *root = vectors_load("cose"), *vector;
        size_t i, n = 0;

        json_array_foreach(vectors_get(root, "vectors"), i, vector) {
                if (strcmp(vectors_text(vector, "type"), "COSE_Encrypt0") == 0)
                        continue;
                try_signed(vector);
                n++;
        }
        assert_int_equal(n, 18);
        json_decref(root);
}

struct proving {
        struct bytes secret, payload;
        const struct public_key *key; /* NULL: a MAC */
        size_t n_opened, n_refused;
};

static void judge_proven(struct bytes mutant, void *context) {
        struct proving *proving = context;
        struct bytes payload;
        int r = proving->key ? cose_sign1_open(mutant, proving->key, &payload) :
                               cose_mac0_open(mutant, proving->secret, &payload);

        if (r == 0) {
                assert_true(bytes_equal(payload, proving->payload)); /* the kid is not authenticated */
                proving->n_opened++;
        } else {
                assert_true(r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE);
                proving->n_refused++;
        }
}

static void mutants_do_not_verify(void **state) {
        static const char *const names[] = { "sign1-es256-rfc9052-c2.1", "sign1-eddsa-ed25519", "mac0-hmac256-64",
                                             "mac0-hmac256-256" };
        json_t *root = vectors_load("cose");

        for (size_t i = 0; i < N_ELEMENTS(names); i++) {
                json_t *vector = vectors_find(vectors_get(root, "vectors"), names[i]);
                bool is_mac = strncmp(names[i], "mac0", 4) == 0;
                _cleanup_(buf_done) struct buf object = vectors_bytes(vector, "cbor");
                _cleanup_(buf_done) struct buf secret = vectors_bytes(vector, is_mac ? "key.k" : "key.d");
                _cleanup_(buf_done) struct buf payload = vectors_bytes(vector, "payload");
                struct public_key key = is_mac ? (struct public_key){} : vector_key(vector, "key");
                struct proving proving = { .secret = buf_bytes(&secret), .payload = buf_bytes(&payload),
                                           .key = is_mac ? NULL : &key };

                mutate(buf_bytes(&object), judge_proven, &proving);
                assert_true(proving.n_refused > 300);
        }
        json_decref(root);
}

static const char *const signed_cases[] = {
        "[<<{1: 5}>>, {}, 'p']",                                       /* no proof */
        "[<<{1: 5}>>, {}, null, h'00']",                               /* detached */
        "[<<{1: 5}>>, {}, 'p', h'00', h'00']",
        "[{1: 5}, {}, 'p', h'00']",
        "[<<{1: 5}>>, [], 'p', h'00']",
        "[<<{1: \"HS256\"}>>, {}, 'p', h'00']",
        "[h'', {1: 5}, 'p', h'00']",                                   /* an algorithm that nobody vouches for */
        "[<<{1: 5, 2: [1]}>>, {}, 'p', h'00']",                        /* crit */
        "[<<{1: 5}>>, {2: [4]}, 'p', h'00']",
        "[<<{1: 5}>>, {4: \"kid\"}, 'p', h'00']",
        "[<<{1: 5, 1: 5}>>, {}, 'p', h'00']",
        "16([<<{1: 5}>>, {}, 'p', h'00'])",
        "61([<<{1: 5}>>, {}, 'p', h'00'])",
        "[]", "{}", "1",
};

static void objects_without_proof_are_refused(void **state) {
        struct cose_signed_parts parts;

        for (size_t i = 0; i < N_ELEMENTS(signed_cases); i++) {
                _cleanup_(buf_done) struct buf object = from_edn(signed_cases[i]);

                assert_int_equal(cose_mac0_parse(buf_bytes(&object), &parts), REFUSE_WRONG_TYPE);
                assert_int_equal(cose_sign1_parse(buf_bytes(&object), &parts), REFUSE_WRONG_TYPE);
        }
        /* each its own tag */
        _cleanup_(buf_done) struct buf mac = from_edn("17([<<{1: 5}>>, {}, 'p', h'00'])");
        _cleanup_(buf_done) struct buf signature = from_edn("18([<<{1: -7}>>, {}, 'p', h'00'])");

        assert_int_equal(cose_mac0_parse(buf_bytes(&mac), &parts), 0);
        assert_int_equal(cose_sign1_parse(buf_bytes(&mac), &parts), REFUSE_WRONG_TYPE);
        assert_int_equal(cose_sign1_parse(buf_bytes(&signature), &parts), 0);
        assert_int_equal(cose_mac0_parse(buf_bytes(&signature), &parts), REFUSE_WRONG_TYPE);
}

/* Nobody chooses by the algorithm in the header how a key is used. */
static void algorithms_are_not_mixed(void **state) {
        static const uint8_t zeros[MAC_KEY_SIZE];
        _cleanup_(buf_done) struct buf tagged = from_edn("[<<{1: -7}>>, {}, 'p', h'0000000000000000']");
        _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST);
        struct public_key key = { .curve = CURVE_P256 };
        struct bytes payload;

        assert_int_equal(cose_mac0_open(buf_bytes(&tagged), bytes_of(zeros, sizeof(zeros)), &payload),
                         REFUSE_MALFORMED);
        assert_int_equal(cose_sign1_open(buf_bytes(&tagged), &key, &payload), REFUSE_MALFORMED);
        assert_int_equal(cose_mac0(MAC_HMAC_256_64, bytes_of(zeros, 32), BYTES_NONE, false, BYTES_NONE, true, &out), 0);
        assert_int_equal(cose_mac0_open(buf_bytes(&out), bytes_of(zeros, 32), &payload), 0);
        assert_int_equal(payload.size, 0);
        assert_int_equal(cose_mac0_open(buf_bytes(&out), bytes_of(zeros, 16), &payload), REFUSE_MALFORMED);
        assert_int_equal(cose_mac0(MAC_NONE, bytes_of(zeros, 32), BYTES_NONE, false, BYTES_NONE, true, &out), -EINVAL);
        assert_int_equal(cose_mac0(MAC_HMAC_256_64, bytes_of(zeros, 16), BYTES_NONE, false, BYTES_NONE, true, &out),
                         -EINVAL);
}

/* RFC 9770 §3: kid and nonce among the protected headers, nothing beside them */
static void all_headers_can_be_protected(void **state) {
        static const uint8_t zeros[32];
        _cleanup_(buf_done) struct buf encrypted = BUF_INIT(SIZE_MAX_TEST), mac = BUF_INIT(SIZE_MAX_TEST);
        _cleanup_(buf_done) struct buf signature = BUF_INIT(SIZE_MAX_TEST), plain = BUF_INIT(SIZE_MAX_TEST);
        struct bytes key = bytes_of(zeros, 16), kid = BYTES_LITERAL("k"), payload;
        struct public_key public_key;
        struct secret private_key = {};
        struct sign_key *signer = NULL;
        char why[200];

        const struct cose_encrypting how = { .alg = AEAD_AES_CCM_16_64_128, .key = key, .kid = kid,
                                             .nonce = bytes_of(zeros, 13), .tagged = true, .all_protected = true };

        assert_int_equal(cose_encrypt0_with(&how, BYTES_LITERAL("p"), &encrypted), 0);
        assert_int_equal(edn_match("16([<< {1: 10, 4: 'k', 5: bstr[13]} >>, {}, bstr[9]])", buf_bytes(&encrypted), NULL,
                                   why, sizeof(why)), 0);
        assert_int_equal(cose_encrypt0_open(buf_bytes(&encrypted), key, &plain), 0);

        assert_int_equal(cose_mac0(MAC_HMAC_256_256, bytes_of(zeros, 32), kid, true, BYTES_LITERAL("p"), false, &mac),
                         0);
        assert_int_equal(edn_match("[<< {1: 5, 4: 'k'} >>, {}, 'p', bstr[32]]", buf_bytes(&mac), NULL, why,
                                   sizeof(why)), 0);
        assert_int_equal(cose_mac0_open(buf_bytes(&mac), bytes_of(zeros, 32), &payload), 0);

        assert_int_equal(key_generate(CURVE_ED25519, &public_key, &private_key), 0);
        assert_int_equal(sign_key_new(SIGN_EDDSA, secret_bytes(&private_key), &signer), 0);
        assert_int_equal(cose_sign1(signer, kid, true, BYTES_LITERAL("p"), true, &signature), 0);
        assert_int_equal(edn_match("18([<< {1: -8, 4: 'k'} >>, {}, 'p', bstr[64]])", buf_bytes(&signature), NULL, why,
                                   sizeof(why)), 0);
        assert_int_equal(cose_sign1_open(buf_bytes(&signature), &public_key, &payload), 0);
        sign_key_free(signer);
        secret_done(&private_key);
}

static void no_half_proof_stays(void **state) {
        static const uint8_t zeros[32];

        for (size_t limit = 0; limit < 60; limit++) {
                _cleanup_(buf_done) struct buf out = BUF_INIT(limit);
                int r = cose_mac0(MAC_HMAC_256_256, bytes_of(zeros, 32), BYTES_NONE, false, BYTES_LITERAL("x"), true,
                                  &out);

                assert_int_equal(r, limit < 43 ? -EOVERFLOW : 0); /* d1 84 43a10105 a0 4178 5820... */
                assert_int_equal(out.size, limit < 43 ? 0 : 43);
        }
}

/* ---- keys (AS-073) */

#define X_256 "h'60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6'"
#define Y_256 "h'7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299'"
#define X_384 "h'ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13'"
#define Y_384 "h'8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720'"
#define X_ED "h'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a'"
#define X_X "h'de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f'"
#define P_256 "-1: 1, -2: " X_256 ", -3: " Y_256

static void keys_are_judged(void **state) {
        static const struct {
                const char *text;
                int r;
                enum curve curve;
                bool is_bad;
        } cases[] = {
                { "{1: 2, " P_256 "}", 0, CURVE_P256, false },
                { "{1: 2, 2: 'kid', 3: -7, 4: [2], 99: 1, \"x\": 2, " P_256 "}", 0, CURVE_P256, false },
                { "{1: 2, -1: 1, -2: " X_256 ", -3: true}", 0, CURVE_P256, false },
                { "{1: 2, -1: 2, -2: " X_384 ", -3: " Y_384 "}", 0, CURVE_P384, false },
                { "{1: 2, -1: 2, -2: " X_384 ", -3: false, 3: -35}", 0, CURVE_P384, false },
                { "{1: 1, -1: 6, -2: " X_ED "}", 0, CURVE_ED25519, false },
                { "{1: 1, -1: 6, -2: " X_ED ", 3: -8, 4: [1, 2]}", 0, CURVE_ED25519, false },
                { "{1: 1, -1: 4, -2: " X_X "}", 0, CURVE_X25519, false },
                { "{1: 1, -1: 4, -2: " X_X ", 4: [], 3: -25}", 0, CURVE_X25519, false },
                { "{1: 1, -1: 4, -2: " X_X ", 4: [8]}", 0, CURVE_X25519, false },
                /* no good: point, sizes */
                { "{1: 2, -1: 1, -2: " X_256 ", -3: " X_256 "}", 0, CURVE_P256, true },
                { "{1: 2, -1: 1, -2: " X_384 ", -3: " Y_384 "}", 0, CURVE_P256, true },
                { "{1: 2, -1: 2, -2: " X_256 ", -3: " Y_256 "}", 0, CURVE_P384, true },
                { "{1: 2, -1: 1, -2: h'', -3: h''}", 0, CURVE_P256, true },
                { "{1: 2, -1: 1, -2: " X_256 "}", 0, CURVE_P256, true },
                { "{1: 2, -1: 1, -3: " Y_256 "}", 0, CURVE_P256, true },
                { "{1: 2, -1: 1}", 0, CURVE_P256, true },
                { "{1: 2, -1: 1, -2: h'0000000000000000000000000000000000000000000000000000000000000001', -3: true}", 0,
                  CURVE_P256, true },
                { "{1: 1, -1: 6}", 0, CURVE_ED25519, true },
                { "{1: 1, -1: 6, -2: h'00'}", 0, CURVE_ED25519, true },
                { "{1: 1, -1: 6, -2: h'0100000000000000000000000000000000000000000000000000000000000000'}", 0,
                  CURVE_ED25519, true },
                { "{1: 1, -1: 4, -2: h'0100000000000000000000000000000000000000000000000000000000000000'}", 0,
                  CURVE_X25519, true },
                /* no good: nobody else should have the private part; alg and key_ops against the use */
                { "{1: 2, " P_256 ", -4: h'00'}", 0, CURVE_P256, true },
                { "{1: 2, " P_256 ", 3: -35}", 0, CURVE_P256, true },
                { "{1: 2, " P_256 ", 3: -25}", 0, CURVE_P256, true },
                { "{1: 2, " P_256 ", 3: -8}", 0, CURVE_P256, true },
                { "{1: 2, " P_256 ", 3: \"ES256\"}", 0, CURVE_P256, true },
                { "{1: 2, " P_256 ", 4: [7]}", 0, CURVE_P256, true },
                { "{1: 2, " P_256 ", 4: [8, 7]}", 0, CURVE_P256, true },
                { "{1: 2, " P_256 ", 4: []}", 0, CURVE_P256, true },
                { "{1: 2, " P_256 ", 4: [\"verify\"]}", 0, CURVE_P256, true },
                { "{1: 1, -1: 6, -2: " X_ED ", 3: -7}", 0, CURVE_ED25519, true },
                { "{1: 1, -1: 4, -2: " X_X ", 4: [2]}", 0, CURVE_X25519, true },
                { "{1: 1, -1: 4, -2: " X_X ", 3: -8}", 0, CURVE_X25519, true },
                /* none of our curves, or types */
                { "{1: 2, -1: 3, -2: h'00', -3: h'00'}", 0, CURVE_NONE, false },
                { "{1: 2, -1: 6, -2: " X_ED "}", 0, CURVE_NONE, false },
                { "{1: 1, -1: 1, -2: " X_256 "}", 0, CURVE_NONE, false },
                { "{1: 2, -1: \"P-256\", -2: " X_256 "}", 0, CURVE_NONE, false },
                { "{1: 3, -1: h'00', -2: h'010001', -3: h'00'}", 0, CURVE_NONE, false },
                { "{1: 7, -1: h'00'}", 0, CURVE_NONE, false },
                { "{1: \"EC\"}", 0, CURVE_NONE, false },
                { "{1: 4, -1: 'key'}", 0, CURVE_NONE, false },
                { "{1: 4}", 0, CURVE_NONE, false },
                /* no keys */
                { "{}", REFUSE_WRONG_TYPE, CURVE_NONE, false },
                { "{1: h'02', " P_256 "}", REFUSE_WRONG_TYPE, CURVE_NONE, false },
                { "{1: 2, 2: \"kid\", " P_256 "}", REFUSE_WRONG_TYPE, CURVE_NONE, false },
                { "{1: 2, 3: h'', " P_256 "}", REFUSE_WRONG_TYPE, CURVE_NONE, false },
                { "{1: 2, 4: 2, " P_256 "}", REFUSE_WRONG_TYPE, CURVE_NONE, false },
                { "{1: 2, -2: " X_256 "}", REFUSE_WRONG_TYPE, CURVE_NONE, false },
                { "{1: 2, -1: h'01', -2: " X_256 "}", REFUSE_WRONG_TYPE, CURVE_NONE, false },
                { "{1: 2, -1: 1, -2: \"x\", -3: true}", REFUSE_WRONG_TYPE, CURVE_NONE, false },
                { "{1: 2, -1: 1, -2: " X_256 ", -3: 1}", REFUSE_WRONG_TYPE, CURVE_NONE, false },
                { "{1: 2, -4: 1, " P_256 "}", REFUSE_WRONG_TYPE, CURVE_NONE, false },
                { "{1: 2, 1: 2, " P_256 "}", REFUSE_WRONG_TYPE, CURVE_NONE, false },
                { "{1: 4, -1: 1}", REFUSE_WRONG_TYPE, CURVE_NONE, false },
                { "[]", REFUSE_MALFORMED, CURVE_NONE, false },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf raw = from_edn(cases[i].text);
                struct cose_key key = {};
                int r = cose_key_decode(buf_bytes(&raw), &key);

                if (r != cases[i].r || (r == 0 && (key.public_key.curve != cases[i].curve ||
                                                   key.is_bad != cases[i].is_bad)))
                        fail_msg("%s: %d, curve %d, bad %d", cases[i].text, r, (int)key.public_key.curve, key.is_bad);
        }
}

static void keys_come_back(void **state) {
        static const char *const cases[] = {
                "{1: 2, " P_256 "}",
                "{1: 2, -1: 2, -2: " X_384 ", -3: " Y_384 "}",
                "{1: 1, -1: 6, -2: " X_ED "}",
                "{1: 1, -1: 4, -2: " X_X "}",
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf raw = from_edn(cases[i]), again = BUF_INIT(SIZE_MAX_TEST);
                _cleanup_(buf_done) struct buf named = BUF_INIT(SIZE_MAX_TEST);
                struct cbor_writer w = CBOR_WRITER(&named);
                struct cose_key key;

                assert_int_equal(cose_key_decode(buf_bytes(&raw), &key), 0);
                assert_null(key.kid.data);
                assert_int_equal(cose_key_encode(&key.public_key, &again), 0);
                assert_true(bytes_equal(buf_bytes(&again), buf_bytes(&raw)));

                cose_put_key(&w, &key.public_key, BYTES_LITERAL("me"));
                assert_int_equal(cbor_end(&w), 0);
                assert_int_equal(cose_key_decode(buf_bytes(&named), &key), 0);
                assert_true(bytes_equal(key.kid, BYTES_LITERAL("me")) && !key.is_bad);
        }
        _cleanup_(buf_done) struct buf none = BUF_INIT(SIZE_MAX_TEST);

        assert_int_equal(cose_key_encode(&(struct public_key){}, &none), -EINVAL);
        assert_int_equal(none.size, 0);
}

static void other_algorithms_have_their_numbers(void **state) {
        static const int macs[] = { 4, 5 }, signs[] = { -7, -8, -35 };

        for (size_t i = 0; i < N_ELEMENTS(macs); i++)
                assert_int_equal(cose_mac_label(cose_mac_from_label(macs[i])), macs[i]);
        for (size_t i = 0; i < N_ELEMENTS(signs); i++)
                assert_int_equal(cose_sign_label(cose_sign_from_label(signs[i])), signs[i]);
        assert_int_equal(cose_mac_from_label(6), MAC_NONE);
        assert_int_equal(cose_mac_label(MAC_NONE), 0);
        assert_int_equal(cose_sign_from_label(-36), SIGN_NONE);
        assert_int_equal(cose_sign_from_label(0), SIGN_NONE);
        assert_int_equal(cose_sign_label(SIGN_NONE), 0);
}

/* Signed and authenticated objects are none of this kind. */
static void other_objects_are_refused(void **state) {
        json_t *root = vectors_load("cose"), *vector;
        size_t i, n = 0;

        json_array_foreach(vectors_get(root, "vectors"), i, vector) {
                _cleanup_(buf_done) struct buf object = vectors_bytes(vector, "cbor");
                struct cose_encrypt0_parts parts;

                if (strcmp(vectors_text(vector, "type"), "COSE_Encrypt0") == 0)
                        continue;
                assert_int_equal(cose_encrypt0_parse(buf_bytes(&object), &parts), REFUSE_WRONG_TYPE);
                n++;
        }
        assert_int_equal(n, 18);
        json_decref(root);
}

/* ---- RFC 8392 Appendix A */

static void try_cwt(json_t *root, const char *list, const char *name, const char *plain_name) {
        json_t *vector = vectors_find(vectors_get(root, list), name);
        json_t *plain_vector = vectors_find(vectors_get(root, "vectors"), plain_name);
        _cleanup_(buf_done) struct buf object = vectors_bytes(vector, "cbor");
        _cleanup_(buf_done) struct buf key = vectors_bytes(root, "keys.symmetric128.k");
        _cleanup_(buf_done) struct buf expected = vectors_bytes(plain_vector,
                                                                strcmp(plain_name, "A.1") == 0 ? "cbor" : "plaintext");
        _cleanup_(buf_done) struct buf plain = BUF_INIT(SIZE_MAX_TEST);

        assert_int_equal(cose_encrypt0_open(buf_bytes(&object), buf_bytes(&key), &plain), 0);
        if (strcmp(name, "A.6-nokid") != 0) /* its inner object has no kid either */
                assert_true(bytes_equal(buf_bytes(&plain), buf_bytes(&expected)));
        assert_reencodes(buf_bytes(&object), buf_bytes(&key), buf_bytes(&plain));
}

static void tokens_of_rfc_8392_open_and_seal(void **state) {
        json_t *root = vectors_load("cwt-rfc8392");
        struct cose_encrypt0_parts parts;
        _cleanup_(buf_done) struct buf object = BUF_INIT(0);

        try_cwt(root, "vectors", "A.5", "A.1");
        try_cwt(root, "vectors", "A.6", "A.6");
        try_cwt(root, "variants_without_kid", "A.5-nokid", "A.1");
        try_cwt(root, "variants_without_kid", "A.6-nokid", "A.6");

        object = vectors_bytes(vectors_find(vectors_get(root, "vectors"), "A.5"), "cbor");
        assert_int_equal(cose_encrypt0_parse(buf_bytes(&object), &parts), 0);
        assert_int_equal(parts.alg, AEAD_AES_CCM_16_64_128);
        assert_hex(parts.kid, "53796d6d6574726963313238");
        assert_hex(parts.nonce, "99a0d7846e762c49ffe8a63e0b");
        assert_hex(parts.protected_header, "a1010a");
        json_decref(root);
}

static void faulty_tokens_of_rfc_8392_are_refused(void **state) {
        json_t *root = vectors_load("cwt-rfc8392"), *vector;
        _cleanup_(buf_done) struct buf key = vectors_bytes(root, "keys.symmetric128.k");
        size_t i, n = 0;

        json_array_foreach(vectors_get(root, "negative"), i, vector) {
                _cleanup_(buf_done) struct buf object = vectors_bytes(vector, "cbor"), plain = BUF_INIT(SIZE_MAX_TEST);
                bool ours = strcmp(vectors_text(vector, "type"), "encrypt0") == 0;

                assert_int_equal(cose_encrypt0_open(buf_bytes(&object), buf_bytes(&key), &plain),
                                 ours ? REFUSE_MALFORMED : REFUSE_WRONG_TYPE);
                assert_int_equal(plain.size, 0);
                n += ours;
        }
        assert_true(n >= 1);
        json_decref(root);
}

/* ---- objects that nobody should make */

static void headers_are_judged(void **state) {
        static const struct {
                const char *text;
                int r;
        } cases[] = {
                { "[<<{1: 10}>>, {5: h'00000000000000000000000000'}, h'0011223344556677']", 0 },
                { "16([<<{1: 10}>>, {5: h'00000000000000000000000000'}, h'0011223344556677'])", 0 },
                /* IV and kid may be protected; headers that nobody knows are not asked about */
                { "[<<{1: 10, 4: h'01', 5: h'00000000000000000000000000'}>>, {}, h'0011223344556677']", 0 },
                { "[<<{1: 10}>>, {5: h'00000000000000000000000000', 99: 1, \"x\": 2}, h'0011223344556677']", 0 },
                /* structure */
                { "16(16([<<{1: 10}>>, {5: h'00000000000000000000000000'}, h'0011223344556677']))", REFUSE_WRONG_TYPE },
                { "61(16([<<{1: 10}>>, {5: h'00000000000000000000000000'}, h'0011223344556677']))", REFUSE_WRONG_TYPE },
                { "17([<<{1: 10}>>, {5: h'00000000000000000000000000'}, h'0011223344556677'])", REFUSE_WRONG_TYPE },
                { "{1: 2}", REFUSE_WRONG_TYPE },
                { "[]", REFUSE_WRONG_TYPE },
                { "[<<{1: 10}>>, {5: h'00000000000000000000000000'}]", REFUSE_WRONG_TYPE },
                { "[<<{1: 10}>>, {5: h'00000000000000000000000000'}, h'0011223344556677', []]", REFUSE_WRONG_TYPE },
                { "[{1: 10}, {5: h'00000000000000000000000000'}, h'0011223344556677']", REFUSE_WRONG_TYPE },
                { "[<<{1: 10}>>, h'', h'0011223344556677']", REFUSE_WRONG_TYPE },
                { "[<<{1: 10}>>, {5: h'00000000000000000000000000'}, null]", REFUSE_WRONG_TYPE },
                { "[<<{1: 10}>>, {5: h'00000000000000000000000000'}, (_ h'0011223344556677')]", REFUSE_WRONG_TYPE },
                { "[h'01', {5: h'00000000000000000000000000'}, h'0011223344556677']", REFUSE_MALFORMED },
                { "[h'a1010aff', {5: h'00000000000000000000000000'}, h'0011223344556677']", REFUSE_MALFORMED },
                /* algorithm: protected, an integer, one of ours */
                { "[h'', {1: 10, 5: h'00000000000000000000000000'}, h'0011223344556677']", REFUSE_WRONG_TYPE },
                { "[<<{}>>, {1: 10, 5: h'00000000000000000000000000'}, h'0011223344556677']", REFUSE_WRONG_TYPE },
                { "[h'', {5: h'00000000000000000000000000'}, h'0011223344556677']", REFUSE_WRONG_TYPE },
                { "[<<{1: \"AES-CCM-16-64-128\"}>>, {5: h'00000000000000000000000000'}, h'0011223344556677']",
                  REFUSE_WRONG_TYPE },
                { "[<<{1: 2}>>, {5: h'000000000000000000000000'}, h'00112233445566778899aabbccddeeff']",
                  REFUSE_WRONG_TYPE },
                { "[<<{1: -7}>>, {5: h'000000000000000000000000'}, h'00112233445566778899aabbccddeeff']",
                  REFUSE_WRONG_TYPE },
                /* twice */
                { "[<<{1: 10, 1: 10}>>, {5: h'00000000000000000000000000'}, h'0011223344556677']", REFUSE_WRONG_TYPE },
                { "[<<{1: 10}>>, {1: 10, 5: h'00000000000000000000000000'}, h'0011223344556677']", REFUSE_WRONG_TYPE },
                { "[<<{1: 10, 5: h'00000000000000000000000000'}>>, {5: h'00000000000000000000000000'}, "
                  "h'0011223344556677']",
                  REFUSE_MALFORMED },
                { "[<<{1: 10, 4: h'01'}>>, {4: h'01', 5: h'00000000000000000000000000'}, h'0011223344556677']",
                  REFUSE_MALFORMED },
                /* crit and Partial IV */
                { "[<<{1: 10, 2: [1]}>>, {5: h'00000000000000000000000000'}, h'0011223344556677']", REFUSE_WRONG_TYPE },
                { "[<<{1: 10, 2: [99], 99: 1}>>, {5: h'00000000000000000000000000'}, h'0011223344556677']",
                  REFUSE_WRONG_TYPE },
                { "[<<{1: 10}>>, {2: [5], 5: h'00000000000000000000000000'}, h'0011223344556677']", REFUSE_WRONG_TYPE },
                { "[<<{1: 10}>>, {6: h'01'}, h'0011223344556677']", REFUSE_WRONG_TYPE },
                { "[<<{1: 10}>>, {5: h'00000000000000000000000000', 6: h'01'}, h'0011223344556677']",
                  REFUSE_WRONG_TYPE },
                /* wrong kinds */
                { "[<<{1: 10}>>, {4: \"kid\", 5: h'00000000000000000000000000'}, h'0011223344556677']",
                  REFUSE_WRONG_TYPE },
                { "[<<{1: 10}>>, {5: 0}, h'0011223344556677']", REFUSE_WRONG_TYPE },
                /* sizes: nonce of 13 for CCM, 12 for GCM; a ciphertext has at least its tag */
                { "[<<{1: 10}>>, {}, h'0011223344556677']", REFUSE_MALFORMED },
                { "[<<{1: 10}>>, {5: h'000000000000000000000000'}, h'0011223344556677']", REFUSE_MALFORMED },
                { "[<<{1: 1}>>, {5: h'00000000000000000000000000'}, h'00112233445566778899aabbccddeeff']",
                  REFUSE_MALFORMED },
                { "[<<{1: 1}>>, {5: h'000000000000000000000000'}, h'00112233445566778899aabbccddeeff']", 0 },
                { "[<<{1: 10}>>, {5: h'00000000000000000000000000'}, h'00112233445566']", REFUSE_MALFORMED },
                { "[<<{1: 10}>>, {5: h'00000000000000000000000000'}, h'']", REFUSE_MALFORMED },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf object = from_edn(cases[i].text);
                struct cose_encrypt0_parts parts;
                int r;

                r = cose_encrypt0_parse(buf_bytes(&object), &parts);
                if (r != cases[i].r)
                        fail_msg("%s: %d, should be %d", cases[i].text, r, cases[i].r);
        }
        struct cose_encrypt0_parts parts;
        assert_int_equal(cose_encrypt0_parse(BYTES_NONE, &parts), REFUSE_MALFORMED);
        assert_int_equal(cose_encrypt0_parse(BYTES_LITERAL("\xd0"), &parts), REFUSE_MALFORMED);
}

static void sealing_needs_the_right_sizes(void **state) {
        static const uint8_t zeros[64];
        static const struct {
                enum aead_alg alg;
                size_t key_size, nonce_size;
                int r;
        } cases[] = {
                { AEAD_AES_CCM_16_64_128, 16, 13, 0 },       { AEAD_A128GCM, 16, 12, 0 },
                { AEAD_A256GCM, 32, 12, 0 },                 { AEAD_AES_CCM_16_128_128, 16, 13, 0 },
                { AEAD_CHACHA20_POLY1305, 32, 12, 0 },       { AEAD_NONE, 16, 13, -EINVAL },
                { AEAD_AES_CCM_16_64_128, 15, 13, -EINVAL }, { AEAD_AES_CCM_16_64_128, 16, 12, -EINVAL },
                { AEAD_A256GCM, 16, 12, -EINVAL },           { AEAD_A128GCM, 16, 13, -EINVAL },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST), plain = BUF_INIT(SIZE_MAX_TEST);
                struct bytes key = bytes_of(zeros, cases[i].key_size);

                assert_int_equal(cose_encrypt0(cases[i].alg, key, BYTES_NONE, bytes_of(zeros, cases[i].nonce_size),
                                               BYTES_LITERAL("hello"), true, &out), cases[i].r);
                if (cases[i].r != 0) {
                        assert_int_equal(out.size, 0);
                        continue;
                }
                assert_int_equal(cose_encrypt0_open(buf_bytes(&out), key, &plain), 0);
                assert_true(bytes_equal(buf_bytes(&plain), BYTES_LITERAL("hello")));
                /* another key, also of another size */
                assert_int_equal(cose_encrypt0_open(buf_bytes(&out),
                                                    bytes_of("0123456789abcdef0123456789abcdef", key.size),
                                                    &plain), REFUSE_MALFORMED);
                assert_int_equal(cose_encrypt0_open(buf_bytes(&out), bytes_of(zeros, 24), &plain), REFUSE_MALFORMED);
                assert_int_equal(plain.size, 5);
        }
}

static void no_half_object_stays(void **state) {
        static const uint8_t zeros[64];

        for (size_t limit = 0; limit < 40; limit++) {
                _cleanup_(buf_done) struct buf out = BUF_INIT(limit);
                int r;

                r = cose_encrypt0(AEAD_AES_CCM_16_64_128, bytes_of(zeros, 16), BYTES_NONE, bytes_of(zeros, 13),
                                  BYTES_LITERAL("x"), true, &out);
                assert_int_equal(r, limit < 32 ? -EOVERFLOW : 0); /* d0 83 43a1010a a1054d... 49... */
                assert_int_equal(out.size, limit < 32 ? 0 : 32);
        }
}

static void nothing_can_be_sealed(void **state) {
        static const uint8_t zeros[64];
        _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST), plain = BUF_INIT(SIZE_MAX_TEST);

        assert_int_equal(cose_encrypt0(AEAD_A128GCM, bytes_of(zeros, 16), BYTES_LITERAL(""), bytes_of(zeros, 12),
                                       BYTES_NONE,
                                       false, &out), 0);
        assert_int_equal(cose_encrypt0_open(buf_bytes(&out), bytes_of(zeros, 16), &plain), 0);
        assert_int_equal(plain.size, 0);
}

/* ---- all that can be made of an object: what still opens says the same (kid is not authenticated) */

struct opening {
        struct bytes key, plain;
        size_t n_opened, n_refused;
};

static void judge(struct bytes mutant, void *context) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(SIZE_MAX_TEST);
        struct opening *opening = context;
        uint8_t hash[TOKEN_HASH_SIZE];
        int r;

        r = cose_encrypt0_open(mutant, opening->key, &plain);
        if (r == 0) {
                assert_true(bytes_equal(buf_bytes(&plain), opening->plain));
                opening->n_opened++;
        } else {
                assert_true(r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE);
                assert_int_equal(plain.size, 0);
                opening->n_refused++;
        }
        assert_int_equal(cwt_hash(mutant, hash), 0);
}

static void mutants_do_not_open(void **state) {
        json_t *root = vectors_load("cwt-rfc8392");
        _cleanup_(buf_done) struct buf key = vectors_bytes(root, "keys.symmetric128.k");
        _cleanup_(buf_done) struct buf plain = vectors_bytes(vectors_find(vectors_get(root, "vectors"), "A.5"),
                                                             "plaintext");
        _cleanup_(buf_done) struct buf object = vectors_bytes(vectors_find(vectors_get(root, "vectors"), "A.5"),
                                                              "cbor");
        struct opening opening = { .key = buf_bytes(&key), .plain = buf_bytes(&plain) };

        mutate(buf_bytes(&object), judge, &opening);
        /* kid: 12 bytes of 10 mutants each, its label and its length in some; a byte set to what it was */
        assert_in_range(opening.n_opened, 100, 160);
        assert_true(opening.n_refused > 1000);
        json_decref(root);
}

static void mutants_of_all_examples_are_refused_or_sound(void **state) {
        json_t *root = vectors_load("cose"), *vector;
        size_t i;

        json_array_foreach(vectors_get(root, "vectors"), i, vector) {
                _cleanup_(buf_done) struct buf object = vectors_bytes(vector, "cbor");
                _cleanup_(buf_done) struct buf key = BUF_INIT(0), plain = BUF_INIT(0);
                struct opening opening = {};

                if (strcmp(vectors_text(vector, "type"), "COSE_Encrypt0") != 0 ||
                    *vectors_text(vector, "external_aad") ||
                    strcmp(vectors_text(vector, "expect"), "valid") != 0)
                        continue;
                key = vectors_bytes(vector, "key.k");
                plain = vectors_bytes(vector, "plaintext");
                opening = (struct opening){ .key = buf_bytes(&key), .plain = buf_bytes(&plain) };
                mutate(buf_bytes(&object), judge, &opening);
                assert_true(opening.n_refused > 300);
        }
        json_decref(root);
}

/* ---- tokens */

static void a_tokens_core_has_no_tags(void **state) {
        static const struct {
                const char *token, *core;
        } cases[] = {
                { "[h'', {}, h'']", "[h'', {}, h'']" },
                { "16([h'', {}, h''])", "[h'', {}, h'']" },
                { "61(16([h'', {}, h'']))", "[h'', {}, h'']" },
                { "17([])", "[]" },
                { "18([])", "[]" },
                { "61(18([]))", "[]" },
                { "61([])", "[]" },
                /* not taken off: others, or a second time */
                { "16(16([]))", "16([])" },
                { "61(61(16([])))", "61(16([]))" },
                { "16(61([]))", "61([])" },
                { "61(16(16([])))", "16([])" },
                { "98([])", "98([])" },
                { "61(98([]))", "98([])" },
                { "55799(16([]))", "55799(16([]))" },
                { "h'd83dd080'", "h'd83dd080'" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf token = from_edn(cases[i].token), core = from_edn(cases[i].core);

                assert_true(bytes_equal(cwt_core(buf_bytes(&token)), buf_bytes(&core)));
        }
}

static void an_opaque_token_is_its_own_core(void **state) {
        static const char *const tokens[] = { "", "d0", "d83d", "d83dd0", "d83dd0ff", "5465737420746f6b656e",
                                              "d0808000", "ff", "d83dd081" };

        for (size_t i = 0; i < N_ELEMENTS(tokens); i++) {
                uint8_t data[SIZE_MAX_TEST];

                assert_hex(cwt_core(from_hex(tokens[i], data)), tokens[i]);
        }
}

/* AS-173 */
static void tags_do_not_change_a_tokens_hash(void **state) {
        json_t *root = vectors_load("ace-examples");
        _cleanup_(buf_done) struct buf token = vectors_bytes(vectors_find(vectors_get(root, "vectors"),
                                                                          "trl-tagged-token"), "hex");
        struct bytes forms[] = {
                buf_bytes(&token),                              /* 61, 16 */
                bytes_of(token.data + 2, token.size - 2),       /* 16 */
                bytes_of(token.data + 3, token.size - 3),       /* bare */
        };
        uint8_t expected[SHA256_SIZE], hash[TOKEN_HASH_SIZE], tail[8];
        struct cose_encrypt0_parts parts;
        struct cwt_place place;

        assert_int_equal(sha256(forms[2], expected), 0);
        assert_int_equal(cose_encrypt0_parse(forms[2], &parts), 0);
        for (size_t i = 0; i < N_ELEMENTS(forms); i++) {
                assert_int_equal(cwt_hash(forms[i], hash), 0);
                assert_memory_equal(hash, expected, sizeof(hash));
                assert_int_equal(cwt_find_place(forms[i], &place), 0);
                for (size_t k = 0; k < sizeof(tail); k++)
                        tail[k] = (uint8_t)(place.number >> (56 - 8 * k));
                assert_memory_equal(parts.nonce.data + parts.nonce.size - sizeof(tail), tail, sizeof(tail));
        }
        assert_int_equal(cwt_find_place(BYTES_LITERAL("no token"), &place), REFUSE_MALFORMED);
        assert_int_equal(cwt_find_place(BYTES_NONE, &place), REFUSE_MALFORMED);
        token.data[token.size - 1] ^= 1;
        assert_int_equal(cwt_hash(forms[0], hash), 0);
        assert_memory_not_equal(hash, expected, sizeof(hash));
        json_decref(root);
}

static void claims_are_written_in_order(void **state) {
        _cleanup_(buf_done) struct buf claims = BUF_INIT(SIZE_MAX_TEST), expected = BUF_INIT(0);
        struct grant grant = typical_grant();

        assert_int_equal(cwt_claims_encode(&grant, BYTES_LITERAL("coaps://as.example"), NULL, &claims), 0);
        expected = from_edn("{1: \"coaps://as.example\", 3: \"rs1\", 4: 1700003600, 6: 1700000000, 7: h'00001234', "
                            "8: {1: {1: 4, 2: h'00001234', -1: '0123456789abcdef'}}, 9: \"read\"}");
        assert_true(bytes_equal(buf_bytes(&claims), buf_bytes(&expected)));
}

static void claims_have_byte_scopes_and_old_keys(void **state) {
        _cleanup_(buf_done) struct buf claims = BUF_INIT(SIZE_MAX_TEST), none = BUF_INIT(SIZE_MAX_TEST);
        struct grant grant = typical_grant();
        char why[200];

        grant.new_key = false;
        grant.number = 0x123456789a;
        assert_int_equal(scope_set(&grant.scope, SCOPE_BYTES, BYTES_LITERAL("\x01\x00\x02")), 0);
        assert_int_equal(cwt_claims_encode(&grant, BYTES_LITERAL("as"), NULL, &claims), 0);
        assert_int_equal(edn_match("{1: \"as\", 3: \"rs1\", 4: uint, 6: uint, 7: h'123456789a', "
                                   "8: {1: {1: 4, 2: h'00001234', -1: bstr[16]}}, 9: h'010002'}",
                                   buf_bytes(&claims), NULL, why, sizeof(why)), 0);
        grant.scope.kind = SCOPE_NONE;
        assert_int_equal(cwt_claims_encode(&grant, BYTES_LITERAL("as"), NULL, &none), 0);
        assert_int_equal(edn_match("{1: *, 3: *, 4: *, 6: *, 7: *, 8: *}", buf_bytes(&none), NULL, why, sizeof(why)),
                         0);
}

/*
 * The encoder holds ACE_KEY_ROOM at once, so that the buffer never grows, and leaves memory behind, with a key in it.
 */
static void the_largest_claims_fit_the_room_held(void **state) {
        _cleanup_(buf_done) struct buf claims = BUF_INIT(SIZE_MAX_TEST);
        struct grant grant = typical_grant();

        memset(grant.audience, 'a', AUDIENCE_SIZE_MAX);
        memset(grant.scope.data, 's', SCOPE_SIZE_MAX);
        grant.scope.size = SCOPE_SIZE_MAX;
        grant.pop_key.size = SECRET_SIZE_MAX;
        grant.number = grant.key_number = UINT64_MAX;
        grant.expires_s = grant.issued_s = INT64_MAX;
        assert_int_equal(cwt_claims_encode(&grant, BYTES_LITERAL("as"), NULL, &claims), 0);
        assert_in_range(claims.size, AUDIENCE_SIZE_MAX + SCOPE_SIZE_MAX + SECRET_SIZE_MAX, 2 + ACE_KEY_ROOM);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(algorithms_have_their_numbers),
                cmocka_unit_test(examples_open_and_seal),
                cmocka_unit_test(examples_verify_and_sign),
                cmocka_unit_test(mutants_do_not_verify),
                cmocka_unit_test(objects_without_proof_are_refused),
                cmocka_unit_test(algorithms_are_not_mixed),
                cmocka_unit_test(all_headers_can_be_protected),
                cmocka_unit_test(no_half_proof_stays),
                cmocka_unit_test(keys_are_judged),
                cmocka_unit_test(keys_come_back),
                cmocka_unit_test(other_algorithms_have_their_numbers),
                cmocka_unit_test(other_objects_are_refused),
                cmocka_unit_test(tokens_of_rfc_8392_open_and_seal),
                cmocka_unit_test(faulty_tokens_of_rfc_8392_are_refused),
                cmocka_unit_test(headers_are_judged),
                cmocka_unit_test(sealing_needs_the_right_sizes),
                cmocka_unit_test(no_half_object_stays),
                cmocka_unit_test(nothing_can_be_sealed),
                cmocka_unit_test(mutants_do_not_open),
                cmocka_unit_test(mutants_of_all_examples_are_refused_or_sound),
                cmocka_unit_test(a_tokens_core_has_no_tags),
                cmocka_unit_test(an_opaque_token_is_its_own_core),
                cmocka_unit_test(tags_do_not_change_a_tokens_hash),
                cmocka_unit_test(claims_are_written_in_order),
                cmocka_unit_test(claims_have_byte_scopes_and_old_keys),
                cmocka_unit_test(the_largest_claims_fit_the_room_held),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
