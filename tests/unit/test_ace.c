#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cleanup.h"
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

static void assert_edn(struct bytes bytes, const char *text) {
        _cleanup_(buf_done) struct buf printed = BUF_INIT(SIZE_MAX_TEST);

        assert_int_equal(cbor_print(bytes, &printed), 0);
        assert_int_equal(buf_add_byte(&printed, 0), 0);
        assert_string_equal((char *)printed.data, text);
}

static void assert_text(struct bytes bytes, const char *text) {
        assert_non_null(bytes.data);
        assert_true(bytes_equal(bytes, bytes_text(text)));
}

/* ---- POST /token */

static int decode_token(const char *text, struct token_ask *ret) {
        _cleanup_(buf_done) struct buf payload = from_edn(text);

        return token_ask_decode(buf_bytes(&payload), ret); /* views into payload are not looked at behind this */
}

static void requests_are_accepted_or_refused(void **state) {
        static const struct {
                const char *text;
                int r;
        } cases[] = {
                /* AS-010, AS-020, AS-023, AS-025, AS-026, AS-027 */
                { "{}", 0 },
                { "{5: \"rs1\", 9999: 1}", 0 },
                { "{5: \"rs1\", \"scope\": 1}", 0 },
                { "{_ 5: \"rs1\"}", 0 },
                { "{5: \"rs1\", 9: \"read\", 33: 2}", 0 },
                { "{5: \"rs1\", 9: h'0102'}", 0 },
                { "{5: \"rs1\", 38: null}", 0 },
                { "{5: \"rs1\", 38: 1}", 0 },
                { "{5: \"rs1\", 39: h'e0a156bb3f'}", 0 },
                { "{5: \"rs1\", 26: \"token\", 25: h'00', 37: h'01'}", 0 },
                /* AS-029 */
                { "{33: 3, 37: h'01'}", 0 },
                { "{33: 3, 37: h''}", 0 },
                { "{33: 3}", REFUSE_MISSING },
                { "{33: 3, 5: \"rs1\"}", REFUSE_MISSING },
                { "{33: 3, 37: \"01\"}", REFUSE_WRONG_TYPE },
                { "{37: 1}", REFUSE_WRONG_TYPE },
                { "{5: h'00'}", REFUSE_WRONG_TYPE },
                { "{5: 1}", REFUSE_WRONG_TYPE },
                { "{5: null}", REFUSE_WRONG_TYPE },
                { "{5: [\"rs1\"]}", REFUSE_WRONG_TYPE },
                { "{5: (_ \"rs\", \"1\")}", REFUSE_WRONG_TYPE },
                { "{9: 1}", REFUSE_WRONG_TYPE },
                { "{9: [\"read\"]}", REFUSE_WRONG_TYPE },
                { "{24: h'00'}", REFUSE_WRONG_TYPE },
                { "{33: \"client_credentials\"}", REFUSE_WRONG_TYPE },
                { "{33: -1}", REFUSE_WRONG_TYPE },
                { "{33: null}", REFUSE_WRONG_TYPE },
                { "{33: 2.0}", REFUSE_WRONG_TYPE },
                { "{38: \"coap_dtls\"}", REFUSE_WRONG_TYPE },
                { "{38: true}", REFUSE_WRONG_TYPE },
                { "{39: \"nonce\"}", REFUSE_WRONG_TYPE },
                { "{4: h'00'}", REFUSE_WRONG_TYPE },
                { "{4: [1]}", REFUSE_WRONG_TYPE },
                { "{4: null}", REFUSE_WRONG_TYPE },
                { "{5: \"rs1\", 5: \"rs1\"}", REFUSE_WRONG_TYPE },
                { "{5: \"rs1\", 5: \"rs2\"}", REFUSE_WRONG_TYPE },
                { "{9999: 1, 9999: 1}", REFUSE_WRONG_TYPE },
                { "{4: {3: h'01', 3: h'01'}}", REFUSE_WRONG_TYPE },
                { "{4: {1: {1: 4, 2: h'01', 2: h'02'}}}", REFUSE_WRONG_TYPE },
                { "{4: {1: {}}}", REFUSE_WRONG_TYPE },
                { "{4: {1: {2: h'01'}}}", REFUSE_WRONG_TYPE },
                { "{4: {1: {1: 4, 2: \"01\"}}}", REFUSE_WRONG_TYPE },
                { "{4: {1: {1: 4, 2: h'01', -1: null}}}", REFUSE_WRONG_TYPE },
                { "{4: {1: {1: 2, 2: h'11'}}}", REFUSE_WRONG_TYPE },
                { "[5, \"rs1\"]", REFUSE_MALFORMED },
                { "null", REFUSE_MALFORMED },
                { "61({5: \"rs1\"})", REFUSE_MALFORMED },
                { "{5: [[[[[[[1]]]]]]]}", REFUSE_WRONG_TYPE },
                { "{5: [[[[[[[[1]]]]]]]]}", REFUSE_MALFORMED }, /* over-deep */
                { "{77: [[[[[[[1]]]]]]]}", 0 },
                { "{77: [[[[[[[[1]]]]]]]]}", REFUSE_MALFORMED },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct token_ask ask;
                int r;

                r = decode_token(cases[i].text, &ask);
                if (r != cases[i].r)
                        fail_msg("%s: %d, should be %d", cases[i].text, r, cases[i].r);
        }
}

static void what_is_no_cbor_is_malformed(void **state) {
        static const struct bytes payloads[] = {
                BYTES_NONE,
                BYTES_LITERAL("\xa1"),
                BYTES_LITERAL("\xa1\x05\x63rs"),
                BYTES_LITERAL("\xa1\x05\x63rs1\x00"),
                BYTES_LITERAL("\xa1\x05\x63r\xff\x31"),
                BYTES_LITERAL("\xbb\xff\xff\xff\xff\xff\xff\xff\xff\x05\x63rs1"),
                BYTES_LITERAL("\xa1\x05\x7b\x7f\xff\xff\xff\xff\xff\xff\xffrs1"),
                BYTES_LITERAL("grant_type=client_credentials"),
                BYTES_LITERAL("{\"audience\":\"rs1\"}"),
        };

        for (size_t i = 0; i < N_ELEMENTS(payloads); i++) {
                struct token_ask ask;

                assert_int_equal(token_ask_decode(payloads[i], &ask), REFUSE_MALFORMED);
        }
}

static void parameters_are_read(void **state) {
        _cleanup_(buf_done) struct buf payload =
                from_edn("{24: \"C1\", 5: \"rs1\", 9: \"read write\", 33: 2, 38: null, 4: {3: h'00001234'}, "
                         "39: h'e0a156bb3f', 37: h'0102'}");
        struct token_ask ask;

        assert_int_equal(token_ask_decode(buf_bytes(&payload), &ask), 0);
        assert_text(ask.client_id, "C1");
        assert_text(ask.audience, "rs1");
        assert_int_equal(ask.scope_kind, SCOPE_TEXT);
        assert_text(ask.scope, "read write");
        assert_int_equal(ask.grant_type, ASK_CLIENT_CREDENTIALS);
        assert_true(ask.wants_profile);
        assert_int_equal(ask.cnf, ASK_CNF_KID);
        assert_true(bytes_equal(ask.kid, BYTES_LITERAL("\x00\x00\x12\x34")));
        assert_true(bytes_equal(ask.cnonce, BYTES_LITERAL("\xe0\xa1\x56\xbb\x3f")));
        assert_true(bytes_equal(ask.refresh_token, BYTES_LITERAL("\x01\x02")));
}

static void absent_parameters_are_absent(void **state) {
        struct token_ask ask;

        memset(&ask, 0xaa, sizeof(ask));
        assert_int_equal(token_ask_decode(BYTES_LITERAL("\xa0"), &ask), 0);
        assert_null(ask.client_id.data);
        assert_null(ask.audience.data);
        assert_int_equal(ask.scope_kind, SCOPE_NONE);
        assert_int_equal(ask.grant_type, ASK_CLIENT_CREDENTIALS);
        assert_false(ask.wants_profile);
        assert_int_equal(ask.cnf, ASK_CNF_NONE);
        assert_null(ask.cnonce.data);
        assert_null(ask.refresh_token.data);
        assert_int_equal(ask.public_key.curve, CURVE_NONE);

        /* an empty one is there all the same, and is refused for what it is */
        assert_int_equal(token_ask_decode(BYTES_LITERAL("\xa3\x05\x60\x09\x60\x18\x18\x60"), &ask), 0);
        assert_non_null(ask.audience.data);
        assert_non_null(ask.client_id.data);
        assert_int_equal(ask.scope_kind, SCOPE_TEXT);
        assert_int_equal(ask.scope.size, 0);
}

static void grant_types_and_profiles_are_told(void **state) {
        static const struct {
                const char *text;
                enum ask_grant_type grant_type;
                bool wants_profile;
        } cases[] = {
                { "{33: 2}", ASK_CLIENT_CREDENTIALS, false },
                { "{33: 0}", ASK_OTHER_GRANT, false },
                { "{33: 1}", ASK_OTHER_GRANT, false },
                { "{33: 3, 37: h'01'}", ASK_REFRESH_TOKEN, false },
                { "{33: 4294967298}", ASK_OTHER_GRANT, false }, /* 2 in its lower half */
                { "{33: 18446744073709551615}", ASK_OTHER_GRANT, false },
                { "{38: null}", ASK_CLIENT_CREDENTIALS, true },
                { "{38: 1}", ASK_CLIENT_CREDENTIALS, false },
                { "{38: -1}", ASK_CLIENT_CREDENTIALS, false },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct token_ask ask;

                assert_int_equal(decode_token(cases[i].text, &ask), 0);
                assert_int_equal(ask.grant_type, cases[i].grant_type);
                assert_int_equal(ask.wants_profile, cases[i].wants_profile);
        }
}

/* The key of RFC 6979 §A.2.5. */
#define P256_MEMBERS                                                                                                \
        "1: 2, -1: 1, -2: h'60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6', "                    \
        "-3: h'7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299'"
#define P256_KEY "{" P256_MEMBERS "}"

/* AS-060, AS-062, AS-071, AS-080, AS-100 */
static void confirmation_methods_are_told(void **state) {
        static const struct {
                const char *text;
                enum ask_cnf cnf;
        } cases[] = {
                { "{3: h'01'}", ASK_CNF_KID },
                { "{1: {1: 4, 2: h'01'}}", ASK_CNF_KID },
                { "{1: {1: 4, 2: h'01', 3: 10}}", ASK_CNF_KID },
                { "{3: h'01', 99: 1, \"x\": {}}", ASK_CNF_KID },
                { "{1: {1: 4, -1: h'00000000000000000000000000000000'}}", ASK_CNF_SYMMETRIC_VALUE },
                { "{1: {1: 4, 2: h'01', -1: h'00'}}", ASK_CNF_SYMMETRIC_VALUE },
                /* AS-057, AS-073, AS-080 */
                { "{1: " P256_KEY "}", ASK_CNF_PUBLIC },
                { "{1: {2: h'11', " P256_MEMBERS "}}", ASK_CNF_PUBLIC },
                { "{1: {2: h'000102030405060708090a0b0c0d0e0f', " P256_MEMBERS "}}", ASK_CNF_PUBLIC },
                { "{1: {2: h'000102030405060708090a0b0c0d0e0f10', " P256_MEMBERS "}}", ASK_CNF_BAD_KEY },
                { "{1: {3: -7, " P256_MEMBERS "}}", ASK_CNF_PUBLIC },
                { "{1: {4: [1, 2], " P256_MEMBERS "}}", ASK_CNF_PUBLIC },
                { "{1: {99: 1, \"x\": 1, " P256_MEMBERS "}}", ASK_CNF_PUBLIC },
                { "{1: {-4: h'00', " P256_MEMBERS "}}", ASK_CNF_BAD_KEY },
                { "{1: {1: 2, -1: 1, -2: h'00', -3: h'00'}}", ASK_CNF_BAD_KEY },
                { "{1: {1: 1, -1: 6, -2: h'00'}}", ASK_CNF_BAD_KEY },
                { "{1: {1: 2, -1: 3, -2: h'00', -3: h'00'}}", ASK_CNF_UNSUPPORTED },
                { "{1: {1: 2, -1: \"P-256\", -2: h'00', -3: h'00'}}", ASK_CNF_UNSUPPORTED },
                { "{1: {1: 1, -1: 7, -2: h'00'}}", ASK_CNF_UNSUPPORTED },
                { "{1: {1: \"EC2\"}}", ASK_CNF_UNSUPPORTED },
                { "{1: {1: 3}}", ASK_CNF_UNSUPPORTED },
                { "{1: {1: 18446744073709551615}}", ASK_CNF_UNSUPPORTED },
                { "{}", ASK_CNF_UNREADABLE },
                { "{99: 1}", ASK_CNF_UNREADABLE },
                { "{\"kid\": h'01'}", ASK_CNF_UNREADABLE },
                { "{3: \"01\"}", ASK_CNF_UNREADABLE },
                { "{3: null}", ASK_CNF_UNREADABLE },
                { "{1: h'01'}", ASK_CNF_UNREADABLE },
                { "{1: {1: 4}}", ASK_CNF_UNREADABLE },
                { "{2: [h'', {}, h'']}", ASK_CNF_UNREADABLE },
                { "{4: {0: h'01', 2: h'00'}}", ASK_CNF_SYMMETRIC_VALUE },
                { "{4: {}}", ASK_CNF_SYMMETRIC_VALUE },
                { "{4: h'01'}", ASK_CNF_UNREADABLE },
                { "{1: {1: 4, 2: h'01'}, 3: h'01'}", ASK_CNF_UNREADABLE },
                { "{1: {1: 4, 2: h'01'}, 2: []}", ASK_CNF_UNREADABLE },
                { "{3: h'01', 4: {}}", ASK_CNF_UNREADABLE },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                char text[400];
                struct token_ask ask;

                snprintf(text, sizeof(text), "{5: \"rs1\", 4: %s}", cases[i].text);
                assert_int_equal(decode_token(text, &ask), 0);
                if (ask.cnf != cases[i].cnf)
                        fail_msg("%s: %d, should be %d", cases[i].text, ask.cnf, cases[i].cnf);
                if (ask.cnf != ASK_CNF_PUBLIC)
                        assert_int_equal(ask.kid.data != NULL, ask.cnf == ASK_CNF_KID);
                /* RFC 9203 names material by { 3: kid } alone */
                assert_int_equal(ask.kid_in_key, ask.cnf == ASK_CNF_KID && cases[i].text[1] == '1');
                assert_int_equal(ask.public_key.curve, ask.cnf == ASK_CNF_PUBLIC ? CURVE_P256 : CURVE_NONE);
        }
}

/* ---- the examples of RFC 9200 to 9203 */

static void example_requests_are_read(void **state) {
        static const struct {
                const char *name, *client_id, *audience, *scope;
                enum ask_cnf cnf;
        } cases[] = {
                { "token-req-symmetric", "myclient", "tempSensor4711", NULL, ASK_CNF_NONE },
                { "token-req-asymmetric-rpk", "myclient", NULL, NULL, ASK_CNF_PUBLIC },
                { "token-req-kid-reference", "myclient", "valve424", "read", ASK_CNF_KID },
                { "app-f-token-req", "myclient", "tempSensorInLivingRoom", NULL, ASK_CNF_PUBLIC },
                { "app-f2-token-req", "keyfob", "PACS1337", NULL, ASK_CNF_NONE },
                { "9201-req-cnf", NULL, NULL, NULL, ASK_CNF_PUBLIC },
                { "dtls-psk-token-req", NULL, "smokeSensor1807", NULL, ASK_CNF_NONE },
                { "oscore-token-req", NULL, "tempSensor4711", "read", ASK_CNF_NONE },
                { "oscore-update-req", NULL, "tempSensor4711", "write", ASK_CNF_KID },
        };
        json_t *root = vectors_load("ace-examples");

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf payload =
                        vectors_bytes(vectors_find(vectors_get(root, "vectors"), cases[i].name), "hex");
                struct token_ask ask;

                assert_int_equal(token_ask_decode(buf_bytes(&payload), &ask), 0);
                assert_true(bytes_equal(ask.client_id, bytes_text(cases[i].client_id)));
                assert_true(bytes_equal(ask.audience, bytes_text(cases[i].audience)));
                assert_true(bytes_equal(ask.scope, bytes_text(cases[i].scope)));
                assert_int_equal(ask.cnf, cases[i].cnf);
                assert_int_equal(ask.grant_type, ASK_CLIENT_CREDENTIALS);
        }
        json_decref(root);
}

static struct buf example(json_t *root, const char *name) {
        return vectors_bytes(vectors_find(vectors_get(root, "vectors"), name), "hex");
}

static void example_introspections_are_read(void **state) {
        static const struct {
                const char *name;
                struct bytes token;
        } cases[] = {
                { "introspect-req", BYTES_LITERAL("\xee\x08\xf4\x75\x72\x50\xe3\x75") },
                { "app-f2-introspect-req", BYTES_LITERAL("Test token") },
        };
        json_t *root = vectors_load("ace-examples");

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf payload = example(root, cases[i].name);
                struct introspect_ask ask;

                assert_int_equal(introspect_ask_decode(buf_bytes(&payload), &ask), 0);
                assert_true(bytes_equal(ask.token, cases[i].token));
        }
        json_decref(root);
}

/* What we write of these, we write byte for byte. */
static void example_answers_are_written(void **state) {
        json_t *root = vectors_load("ace-examples");
        _cleanup_(buf_done) struct buf error = example(root, "dtls-error");
        _cleanup_(buf_done) struct buf cnf = example(root, "dtls-psk-token-cnf-kid-only");
        _cleanup_(buf_done) struct buf by_value = example(root, "dtls-psk-resp-cnf");
        _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST), kid = BUF_INIT(SIZE_MAX_TEST);
        _cleanup_(buf_done) struct buf key = BUF_INIT(SIZE_MAX_TEST);
        struct cbor_writer w = CBOR_WRITER(&kid), v = CBOR_WRITER(&key);

        assert_int_equal(ace_error_encode(ACE_INVALID_REQUEST, NULL, &out), 0);
        assert_true(bytes_equal(buf_bytes(&out), buf_bytes(&error)));

        cbor_put_map(&w, 1);
        cbor_put_uint(&w, CLAIM_CNF);
        ace_put_symmetric_cnf(&w, UINT64_C(0x3d027833fc6267ce), BYTES_NONE);
        assert_int_equal(cbor_end(&w), 0);
        assert_true(bytes_equal(buf_bytes(&kid), buf_bytes(&cnf)));

        ace_put_symmetric_cnf(&v, UINT64_C(0x3d027833fc6267ce), BYTES_LITERAL("sessionkey"));
        assert_int_equal(cbor_end(&v), 0);
        assert_true(bytes_equal(buf_bytes(&key), buf_bytes(&by_value)));
        json_decref(root);
}

/* { 4: osc } of the example, which has neither salt nor contextId. */
static void put_example_osc(struct cbor_writer *w) {
        cbor_put_map(w, 1);
        cbor_put_uint(w, CNF_OSC);
        ace_put_osc(w, &(struct osc_input){
                .id = BYTES_LITERAL("\x01"), .alg = AEAD_AES_CCM_16_64_128, .hkdf = OSCORE_HKDF_SHA256,
                .ms = BYTES_LITERAL("\xf9\xaf\x83\x83\x68\xe3\x53\xe7\x88\x88\xe1\x42\x6b\xd9\x4e\x6f"),
        });
}

/* RFC 9203 §3.2: the cnf of the answer, and the same bytes at the end of the claims (AS-130, AS-131, AS-138). */
static void example_materials_are_written(void **state) {
        json_t *root = vectors_load("ace-examples");
        _cleanup_(buf_done) struct buf answer = example(root, "oscore-resp-cnf");
        _cleanup_(buf_done) struct buf claims = example(root, "oscore-claims");
        _cleanup_(buf_done) struct buf update = example(root, "oscore-update-claims"), out = BUF_INIT(SIZE_MAX_TEST);
        struct cbor_writer w = CBOR_WRITER(&out);
        char why[200];

        put_example_osc(&w);
        assert_int_equal(cbor_end(&w), 0);
        assert_true(bytes_equal(buf_bytes(&out), buf_bytes(&answer)));
        assert_true(bytes_equal(bytes_of(claims.data + claims.size - out.size, out.size), buf_bytes(&out)));
        assert_int_equal(edn_match("{8: {4: {0: h'01', 2: bstr[16]}}, ...}", buf_bytes(&claims), NULL, why,
                                   sizeof(why)), 0);
        assert_int_equal(edn_match("{8: {3: h'01'}, ...}", buf_bytes(&update), NULL, why, sizeof(why)), 0);
        json_decref(root);
}

/* Algorithms stand there unless they are the defaults, salt and contextId when there are some. */
static void materials_are_written(void **state) {
        static const struct {
                enum aead_alg alg;
                enum oscore_hkdf hkdf;
                struct bytes salt, context_id;
                const char *text;
        } cases[] = {
                { AEAD_AES_CCM_16_64_128, OSCORE_HKDF_SHA256, BYTES_NONE, BYTES_NONE, "{0: h'01', 2: h'02'}" },
                { AEAD_AES_CCM_16_64_128, OSCORE_HKDF_SHA256, BYTES_LITERAL("s"), BYTES_LITERAL("c"),
                  "{0: h'01', 2: h'02', 5: h'73', 6: h'63'}" },
                { AEAD_AES_CCM_16_128_128, OSCORE_HKDF_SHA256, BYTES_NONE, BYTES_LITERAL(""),
                  "{0: h'01', 2: h'02', 4: 30, 6: h''}" },
                { AEAD_AES_CCM_16_64_128, OSCORE_HKDF_SHA512, BYTES_LITERAL("s"), BYTES_NONE,
                  "{0: h'01', 2: h'02', 3: 7, 5: h'73'}" },
                { AEAD_A256GCM, OSCORE_HKDF_SHA512, BYTES_NONE, BYTES_NONE, "{0: h'01', 2: h'02', 3: 7, 4: 3}" },
                { AEAD_CHACHA20_POLY1305, OSCORE_HKDF_SHA256, BYTES_NONE, BYTES_NONE, "{0: h'01', 2: h'02', 4: 24}" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST);
                struct cbor_writer w = CBOR_WRITER(&out);

                ace_put_osc(&w, &(struct osc_input){ BYTES_LITERAL("\x01"), BYTES_LITERAL("\x02"), cases[i].salt,
                                                     cases[i].context_id, cases[i].alg, cases[i].hkdf });
                assert_int_equal(cbor_end(&w), 0);
                assert_edn(buf_bytes(&out), cases[i].text);
        }
}

/* Confirmation methods with public keys: read, and written again byte for byte. */
static void example_keys_are_written(void **state) {
        static const char *const names[] = { "9201-rs-cnf-value", "9201-introspect-resp" };
        static const struct cbor_field fields[] = { { INTRO_CNF, CBOR_MAP, 0 } };
        static const struct cbor_field cnf_fields[] = { { CNF_COSE_KEY, CBOR_MAP, 0 } };
        json_t *root = vectors_load("ace-examples");

        for (size_t i = 0; i < N_ELEMENTS(names); i++) {
                _cleanup_(buf_done) struct buf payload = example(root, names[i]), out = BUF_INIT(SIZE_MAX_TEST);
                struct cbor_writer w = CBOR_WRITER(&out);
                struct bytes cnf = buf_bytes(&payload);
                struct cbor_item item;
                struct cose_key key;

                if (i == 1) { /* it stands in an answer */
                        assert_int_equal(cbor_map(cnf, fields, 1, &item), 0);
                        cnf = item.raw;
                }
                assert_int_equal(cbor_map(cnf, cnf_fields, 1, &item), 0);
                assert_int_equal(cose_key_decode(item.raw, &key), 0);
                assert_false(key.is_bad);
                ace_put_public_cnf(&w, &key.public_key, key.kid);
                assert_int_equal(cbor_end(&w), 0);
                assert_true(bytes_equal(buf_bytes(&out), cnf));
        }
        json_decref(root);
}

/* ---- answers */

/* AS-040 ff, AS-046, AS-101 */
static void token_answers_are_written(void **state) {
        static const struct {
                bool new_key, scope_differs, tell_profile;
                const char *text;
        } cases[] = {
                { true, false, false, "{1: h'aabb', 2: 3600, 8: {1: {1: 4, 2: h'00001234', -1: "
                                      "h'30313233343536373839616263646566'}}}" },
                { false, false, false, "{1: h'aabb', 2: 3600, 8: {1: {1: 4, 2: h'00001234'}}}" },
                { true, true, false, "{1: h'aabb', 2: 3600, 8: {1: {1: 4, 2: h'00001234', -1: "
                                     "h'30313233343536373839616263646566'}}, 9: \"read\"}" },
                { false, true, true, "{1: h'aabb', 2: 3600, 8: {1: {1: 4, 2: h'00001234'}}, 9: \"read\", 38: 1}" },
                { false, false, true, "{1: h'aabb', 2: 3600, 8: {1: {1: 4, 2: h'00001234'}}, 38: 1}" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST);
                struct grant grant = typical_grant();

                grant.new_key = cases[i].new_key;
                grant.scope_differs = cases[i].scope_differs;
                grant.tell_profile = cases[i].tell_profile;
                assert_int_equal(token_answer_encode(&grant, BYTES_LITERAL("\xaa\xbb"), &out), 0);
                assert_edn(buf_bytes(&out), cases[i].text);
        }
}

static struct public_key example_key(void) {
        struct public_key key = { .curve = CURVE_ED25519 };

        memset(key.x, 0x77, 32);
        return key;
}
#define EXAMPLE_X "h'7777777777777777777777777777777777777777777777777777777777777777'"

/* AS-083, AS-047: rs_cnf and no cnf; AS-029: the refresh token */
static void answers_with_public_keys_are_written(void **state) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST), refreshed = BUF_INIT(SIZE_MAX_TEST);
        struct grant grant = typical_grant();

        grant.new_key = false;
        grant.pop_key.size = 0;
        grant.public_key = example_key();
        grant.tell_server_key = true;
        grant.server_key = example_key();
        grant.tell_profile = true;
        assert_int_equal(token_answer_encode(&grant, BYTES_LITERAL("\xaa\xbb"), &out), 0);
        assert_edn(buf_bytes(&out), "{1: h'aabb', 2: 3600, 38: 1, 41: {1: {1: 1, -1: 6, -2: " EXAMPLE_X "}}}");

        grant.tell_server_key = grant.tell_profile = false;
        grant.scope_differs = true;
        refresh_token_write(UINT64_C(0x0102030405060708), (const uint8_t *)"0123456789abcdef", &grant.refresh_token);
        assert_int_equal(token_answer_encode(&grant, BYTES_LITERAL("\xaa\xbb"), &refreshed), 0);
        assert_edn(buf_bytes(&refreshed), "{1: h'aabb', 2: 3600, 9: \"read\", "
                                          "37: h'010203040506070830313233343536373839616263646566'}");
        grant_done(&grant);
}

/* AS-130, AS-124: new material by value, nothing in an update; by its id when a refresh token brought the token */
static void answers_with_material_are_written(void **state) {
        _cleanup_(buf_done) struct buf new = BUF_INIT(SIZE_MAX_TEST), update = BUF_INIT(SIZE_MAX_TEST);
        _cleanup_(buf_done) struct buf refreshed = BUF_INIT(SIZE_MAX_TEST);
        struct grant grant = typical_oscore_grant();

        grant.tell_profile = true;
        assert_int_equal(token_answer_encode(&grant, BYTES_LITERAL("\xaa\xbb"), &new), 0);
        assert_edn(buf_bytes(&new), "{1: h'aabb', 2: 3600, 8: {4: " TYPICAL_OSC "}, 38: 2}");

        grant.new_key = grant.tell_profile = false;
        assert_int_equal(token_answer_encode(&grant, BYTES_LITERAL("\xaa\xbb"), &refreshed), 0);
        assert_edn(buf_bytes(&refreshed), "{1: h'aabb', 2: 3600, 8: {3: h'00001234'}}");

        grant.is_update = true;
        assert_int_equal(token_answer_encode(&grant, BYTES_LITERAL("\xaa\xbb"), &update), 0);
        assert_edn(buf_bytes(&update), "{1: h'aabb', 2: 3600}");
        grant_done(&grant);
}

static void refresh_tokens_have_their_number_in_front(void **state) {
        static const uint8_t random[REFRESH_RANDOM_SIZE] = { 9 };
        struct secret bytes = {};
        uint64_t number = 0;

        refresh_token_write(UINT64_C(0x0102030405060708), random, &bytes);
        assert_int_equal(bytes.size, 24);
        assert_int_equal(refresh_token_number(secret_bytes(&bytes), &number), 0);
        assert_true(number == UINT64_C(0x0102030405060708));
        for (size_t size = 0; size < 24; size++)
                assert_int_equal(refresh_token_number(bytes_of(bytes.data, size), &number), REFUSE_MALFORMED);
        assert_int_equal(refresh_token_number(bytes_of(bytes.data, 25), &number), REFUSE_MALFORMED);
}

static void byte_scopes_stay_bytes(void **state) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST);
        struct grant grant = typical_grant();

        grant.new_key = false;
        grant.scope_differs = true;
        assert_int_equal(scope_set(&grant.scope, SCOPE_BYTES, BYTES_LITERAL("\x82\x01")), 0);
        assert_int_equal(token_answer_encode(&grant, BYTES_LITERAL("\xaa"), &out), 0);
        assert_edn(buf_bytes(&out), "{1: h'aa', 2: 3600, 8: {1: {1: 4, 2: h'00001234'}}, 9: h'8201'}");
}

/* The token and the answer with it, as the endpoint makes them. */
static size_t answer_size(bool tagged, bool with_kid, bool tell_profile) {
        static const uint8_t zeros[16];
        _cleanup_(buf_done) struct buf claims = BUF_INIT(SIZE_MAX_TEST), token = BUF_INIT(SIZE_MAX_TEST);
        _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST);
        struct cbor_writer w = CBOR_WRITER(&token);
        struct grant grant = typical_grant();
        char why[200];

        grant.tell_profile = tell_profile;
        assert_int_equal(cwt_claims_encode(&grant, BYTES_LITERAL("coaps://as.example"), NULL, &claims), 0);
        if (tagged)
                cbor_put_tag(&w, TAG_CWT);
        assert_int_equal(cbor_end(&w), 0);
        assert_int_equal(cose_encrypt0(AEAD_AES_CCM_16_64_128, bytes_of(zeros, 16),
                                       with_kid ? BYTES_LITERAL("k1") : BYTES_NONE,
                                       bytes_of(zeros, 13), buf_bytes(&claims), tagged, &token), 0);
        assert_int_equal(token_answer_encode(&grant, buf_bytes(&token), &out), 0);
        assert_int_equal(edn_match("{1: bstr, 2: 3600, 8: {1: {1: 4, 2: bstr[4], -1: bstr[16]}}, ...}", buf_bytes(&out),
                                   NULL, why,
                                   sizeof(why)), 0);
        return out.size;
}

static void a_typical_answer_is_at_most_160_bytes(void **state) {
        assert_in_range(answer_size(false, false, false), 120, 160);
        assert_in_range(answer_size(true, false, false), 120, 160);
        assert_in_range(answer_size(false, true, true), 120, 160);
        assert_in_range(answer_size(true, true, true), 120, 160);
        /* tags cost their three bytes, a profile its three */
        assert_int_equal(answer_size(true, false, false), answer_size(false, false, false) + 3);
        assert_int_equal(answer_size(false, false, true), answer_size(false, false, false) + 3);
}

static void errors_are_written(void **state) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(SIZE_MAX_TEST), described = BUF_INIT(SIZE_MAX_TEST);
        _cleanup_(buf_done) struct buf tight = BUF_INIT(4);

        assert_int_equal(ace_error_encode(ACE_INCOMPATIBLE_PROFILES, NULL, &plain), 0);
        assert_edn(buf_bytes(&plain), "{30: 8}");
        assert_int_equal(ace_error_encode(ACE_INVALID_SCOPE, "no part", &described), 0);
        assert_edn(buf_bytes(&described), "{30: 6, 31: \"no part\"}");
        assert_int_equal(ace_error_encode(ACE_INVALID_SCOPE, "no part", &tight), -EOVERFLOW);
}

/* ---- POST /introspect */

static void introspections_are_accepted_or_refused(void **state) {
        static const struct {
                const char *text;
                int r;
        } cases[] = {
                /* AS-152, AS-153 */
                { "{11: h'aabb'}", 0 },
                { "{11: h''}", 0 },
                { "{11: h'aabb', 33: 2}", 0 },
                { "{11: h'aabb', 33: \"pop\"}", 0 },
                { "{11: h'aabb', 99: [1]}", 0 },
                { "{}", REFUSE_MISSING },
                { "{33: 2}", REFUSE_MISSING },
                { "{11: \"aabb\"}", REFUSE_WRONG_TYPE },
                { "{11: (_ h'aa')}", REFUSE_WRONG_TYPE },
                { "{11: null}", REFUSE_WRONG_TYPE },
                { "{11: h'aabb', 33: h'00'}", REFUSE_WRONG_TYPE },
                { "{11: h'aabb', 11: h'aabb'}", REFUSE_WRONG_TYPE },
                { "h'aabb'", REFUSE_MALFORMED },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf payload = from_edn(cases[i].text);
                struct introspect_ask ask;
                int r;

                r = introspect_ask_decode(buf_bytes(&payload), &ask);
                if (r != cases[i].r)
                        fail_msg("%s: %d, should be %d", cases[i].text, r, cases[i].r);
        }
        struct introspect_ask ask;
        assert_int_equal(introspect_ask_decode(BYTES_NONE, &ask), REFUSE_MALFORMED);
}

/* AS-154, AS-156, AS-160, AS-161, AS-177 */
static void introspection_answers_are_written(void **state) {
        _cleanup_(buf_done) struct buf active = BUF_INIT(SIZE_MAX_TEST), inactive = BUF_INIT(SIZE_MAX_TEST);
        _cleanup_(buf_done) struct buf bare = BUF_INIT(SIZE_MAX_TEST);
        struct token token = typical_token();

        assert_int_equal(introspect_answer_encode(&token, BYTES_LITERAL("coaps://as.example"), &active), 0);
        assert_edn(buf_bytes(&active),
                   "{1: \"coaps://as.example\", 3: \"rs1\", 4: 1700003600, 6: 1700000000, 7: h'00001235', "
                   "8: {1: {1: 4, 2: h'00001234', -1: h'30313233343536373839616263646566'}}, 9: \"read\", 10: true, "
                   "38: 1}");
        assert_int_equal(introspect_answer_encode(NULL, BYTES_LITERAL("coaps://as.example"), &inactive), 0);
        assert_edn(buf_bytes(&inactive), "{10: false}");

        token.scope.kind = SCOPE_NONE;
        token.profile = 0;
        assert_int_equal(introspect_answer_encode(&token, BYTES_LITERAL("as"), &bare), 0);
        assert_edn(buf_bytes(&bare),
                   "{1: \"as\", 3: \"rs1\", 4: 1700003600, 6: 1700000000, 7: h'00001235', "
                   "8: {1: {1: 4, 2: h'00001234', -1: h'30313233343536373839616263646566'}}, 10: true}");
}

/* AS-160, AS-161: what else a token may have */
static void all_that_a_token_has_is_told(void **state) {
        _cleanup_(buf_done) struct buf whole = BUF_INIT(SIZE_MAX_TEST), named = BUF_INIT(SIZE_MAX_TEST);
        struct token token = typical_token();

        token.pop_key.size = 0; /* to a client that asks: it has the key */
        assert_int_equal(introspect_answer_encode(&token, BYTES_LITERAL("as"), &named), 0);
        assert_edn(buf_bytes(&named), "{1: \"as\", 3: \"rs1\", 4: 1700003600, 6: 1700000000, 7: h'00001235', "
                                      "8: {1: {1: 4, 2: h'00001234'}}, 9: \"read\", 10: true, 38: 1}");

        token.public_key = example_key();
        token.kid_size = 2;
        memcpy(token.kid, "k1", 2);
        token.nbf_s = 1700000100;
        token.exi = 7;
        token.cnonce_size = 5;
        memcpy(token.cnonce, "nonce", 5);
        assert_int_equal(introspect_answer_encode(&token, BYTES_LITERAL("as"), &whole), 0);
        assert_edn(buf_bytes(&whole), "{1: \"as\", 3: \"rs1\", 5: 1700000100, 6: 1700000000, "
                                      "7: h'000000510000000000000007', 8: {1: {1: 1, 2: h'6b31', -1: 6, -2: " EXAMPLE_X
                                      "}}, 9: \"read\", 10: true, 38: 1, 39: h'6e6f6e6365', 40: 3600}");
}

/* AS-130, AS-160: as the token has it */
static void introspections_with_material_are_written(void **state) {
        static const struct {
                bool names_osc, is_named;
                const char *cnf;
        } cases[] = {
                { false, false, "{4: " TYPICAL_OSC "}" },
                { true, false, "{3: h'00001234'}" },
                { false, true, "{3: h'00001234'}" }, /* to a client that asks */
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST);
                struct grant grant = typical_oscore_grant();
                struct token token = typical_token();
                char text[400];

                token.profile = grant.profile;
                token.osc = grant.osc;
                token.names_osc = cases[i].names_osc;
                if (cases[i].is_named)
                        secret_done(&token.pop_key);
                assert_int_equal(introspect_answer_encode(&token, BYTES_LITERAL("as"), &out), 0);
                snprintf(text, sizeof(text), "{1: \"as\", 3: \"rs1\", 4: 1700003600, 6: 1700000000, 7: h'00001235', "
                         "8: %s, 9: \"read\", 10: true, 38: 2}", cases[i].cnf);
                assert_edn(buf_bytes(&out), text);
        }
}

/* The encoders hold ACE_KEY_ROOM at once, so that no buffer grows, and leaves memory behind, with a key in it. */
static void the_largest_answers_fit_the_room_held(void **state) {
        _cleanup_(buf_done) struct buf answer = BUF_INIT(SIZE_MAX_TEST), introspection = BUF_INIT(SIZE_MAX_TEST);
        struct grant grant = typical_grant();
        struct token token = typical_token();

        memset(token.audience, 'a', AUDIENCE_SIZE_MAX);
        memset(token.scope.data, 's', SCOPE_SIZE_MAX);
        token.scope.size = SCOPE_SIZE_MAX;
        token.pop_key.size = SECRET_SIZE_MAX;
        token.number = token.key_number = UINT64_MAX;
        token.expires_s = token.issued_s = INT64_MAX;
        token.profile = UINT32_MAX;
        token.nbf_s = INT64_MAX;
        token.cnonce_size = CNONCE_SIZE_MAX;
        grant.refresh_token.size = 24;
        grant.scope = token.scope;
        grant.pop_key.size = SECRET_SIZE_MAX;
        grant.key_number = UINT64_MAX;
        grant.lifetime_s = INT64_MAX;
        grant.scope_differs = grant.tell_profile = true;
        grant.profile = UINT32_MAX;
        assert_int_equal(introspect_answer_encode(&token, BYTES_LITERAL("as"), &introspection), 0);
        assert_in_range(introspection.size, AUDIENCE_SIZE_MAX + SCOPE_SIZE_MAX + SECRET_SIZE_MAX, 2 + ACE_KEY_ROOM);
        assert_int_equal(token_answer_encode(&grant, BYTES_LITERAL("token"), &answer), 0);
        assert_in_range(answer.size, SCOPE_SIZE_MAX + SECRET_SIZE_MAX, 5 + ACE_KEY_ROOM);

        /* the largest keys of the other kinds */
        buf_clear(&answer);
        buf_clear(&introspection);
        token.osc = grant.osc = typical_oscore_grant().osc;
        token.osc.alg = grant.osc.alg = AEAD_AES_CCM_16_128_128;
        assert_int_equal(introspect_answer_encode(&token, BYTES_LITERAL("as"), &introspection), 0);
        assert_in_range(introspection.size, AUDIENCE_SIZE_MAX + SCOPE_SIZE_MAX + SECRET_SIZE_MAX, 2 + ACE_KEY_ROOM);
        assert_int_equal(token_answer_encode(&grant, BYTES_LITERAL("token"), &answer), 0);
        assert_in_range(answer.size, SCOPE_SIZE_MAX + SECRET_SIZE_MAX, 5 + ACE_KEY_ROOM);
        buf_clear(&answer);
        buf_clear(&introspection);
        token.osc.alg = grant.osc.alg = AEAD_NONE;
        token.public_key.curve = grant.public_key.curve = grant.server_key.curve = CURVE_P384;
        token.kid_size = grant.kid_size = CREDENTIAL_KID_MAX;
        token.exi = UINT64_MAX;
        token.server_id = INT64_MAX;
        grant.tell_server_key = true;
        assert_int_equal(introspect_answer_encode(&token, BYTES_LITERAL("as"), &introspection), 0);
        assert_in_range(introspection.size, AUDIENCE_SIZE_MAX + SCOPE_SIZE_MAX + 96, 2 + ACE_KEY_ROOM);
        assert_int_equal(token_answer_encode(&grant, BYTES_LITERAL("token"), &answer), 0);
        assert_in_range(answer.size, SCOPE_SIZE_MAX + 96, 5 + ACE_KEY_ROOM);
}

static void answers_respect_the_buffers_limit(void **state) {
        struct grant grant = typical_grant();
        struct token token = typical_token();

        for (size_t limit = 0; limit < 39; limit++) {
                _cleanup_(buf_done) struct buf a = BUF_INIT(limit), b = BUF_INIT(limit), c = BUF_INIT(limit);

                assert_int_equal(token_answer_encode(&grant, BYTES_LITERAL("\xaa\xbb"), &a), -EOVERFLOW);
                assert_int_equal(introspect_answer_encode(&token, BYTES_LITERAL("as"), &b), -EOVERFLOW);
                assert_int_equal(cwt_claims_encode(&grant, BYTES_LITERAL("as"), NULL, &c), -EOVERFLOW);
        }
}

/* ---- all that can be made of a request */

static void judge(struct bytes mutant, void *context) {
        struct introspect_ask introspect;
        struct token_ask ask;
        size_t *n_good = context;
        int r;

        r = token_ask_decode(mutant, &ask);
        assert_true(r == 0 || r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE || r == REFUSE_MISSING);
        if (r == 0) {
                ++*n_good;
                assert_true(ask.cnf <= ASK_CNF_UNREADABLE && ask.scope_kind <= SCOPE_BYTES);
                if (ask.cnf == ASK_CNF_PUBLIC)
                        assert_int_equal(public_key_check(&ask.public_key), 0);
                /* every view lies inside of the payload */
                const struct bytes views[] = { ask.client_id, ask.audience, ask.scope,
                                               ask.kid,       ask.cnonce,   ask.refresh_token };
                for (size_t i = 0; i < N_ELEMENTS(views); i++)
                        assert_true(!views[i].data || (views[i].data >= mutant.data &&
                                                       views[i].data + views[i].size <= mutant.data + mutant.size));
        }
        r = introspect_ask_decode(mutant, &introspect);
        assert_true(r == 0 || r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE || r == REFUSE_MISSING);
        if (r == 0)
                ++*n_good;
}

static void mutants_are_refused_or_sound(void **state) {
        json_t *root = vectors_load("ace-examples"), *vector;
        size_t i, n_good = 0;

        json_array_foreach(vectors_get(root, "vectors"), i, vector) {
                _cleanup_(buf_done) struct buf payload = vectors_bytes(vector, "hex");

                mutate(buf_bytes(&payload), judge, &n_good);
        }
        assert_true(n_good > 1000);
        json_decref(root);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(requests_are_accepted_or_refused),
                cmocka_unit_test(what_is_no_cbor_is_malformed),
                cmocka_unit_test(parameters_are_read),
                cmocka_unit_test(absent_parameters_are_absent),
                cmocka_unit_test(grant_types_and_profiles_are_told),
                cmocka_unit_test(confirmation_methods_are_told),
                cmocka_unit_test(example_requests_are_read),
                cmocka_unit_test(example_introspections_are_read),
                cmocka_unit_test(example_answers_are_written),
                cmocka_unit_test(example_materials_are_written),
                cmocka_unit_test(materials_are_written),
                cmocka_unit_test(example_keys_are_written),
                cmocka_unit_test(token_answers_are_written),
                cmocka_unit_test(answers_with_public_keys_are_written),
                cmocka_unit_test(answers_with_material_are_written),
                cmocka_unit_test(refresh_tokens_have_their_number_in_front),
                cmocka_unit_test(byte_scopes_stay_bytes),
                cmocka_unit_test(a_typical_answer_is_at_most_160_bytes),
                cmocka_unit_test(errors_are_written),
                cmocka_unit_test(introspections_are_accepted_or_refused),
                cmocka_unit_test(introspection_answers_are_written),
                cmocka_unit_test(all_that_a_token_has_is_told),
                cmocka_unit_test(introspections_with_material_are_written),
                cmocka_unit_test(the_largest_answers_fit_the_room_held),
                cmocka_unit_test(answers_respect_the_buffers_limit),
                cmocka_unit_test(mutants_are_refused_or_sound),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
