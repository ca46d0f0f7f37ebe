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
#include "format/cose.h"
#include "format/cwt.h"
#include "format/labels.h"
#include "support/edn.h"
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

static struct grant typical_grant(void) {
        struct grant grant = {
                .client_id = 1,
                .server_id = 1,
                .audience = "rs1",
                .profile = PROFILE_COAP_DTLS,
                .issued_s = 1700000000,
                .lifetime_s = 3600,
                .expires_s = 1700003600,
                .new_key = true,
                .number = 0x1234,
                .key_number = 0x1234,
        };

        assert_int_equal(scope_set(&grant.scope, SCOPE_TEXT, BYTES_LITERAL("read")), 0);
        assert_int_equal(secret_set(&grant.pop_key, BYTES_LITERAL("0123456789abcdef")), 0);
        return grant;
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
