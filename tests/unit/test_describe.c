#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/describe.h"
#include "format/labels.h"

#define CBOR_MAX 256

static size_t unhex(const char *hex, uint8_t data[static CBOR_MAX]) {
        size_t size;

        assert_int_equal(bytes_from_hex(hex, data, CBOR_MAX, &size), 0);
        return size;
}

/* CBOR, what its labels are, and the JSON it becomes, members in the order of the map. */
static const struct {
        const char *cbor;
        enum vocabulary vocabulary;
        const char *json;
} cases[] = {
        /* a token answer: bytes are hexadecimal, registered numbers their names */
        { "a40142abcd02190e10096472656164182601", VOCABULARY_TOKEN,
          "{\"access_token\":\"abcd\",\"expires_in\":3600,\"scope\":\"read\",\"ace_profile\":\"coap_dtls\"}" },
        { "a108a101a301040242000120420102", VOCABULARY_TOKEN,
          "{\"cnf\":{\"COSE_Key\":{\"kty\":\"Symmetric\",\"kid\":\"0001\",\"k\":\"0102\"}}}" },
        { "a108a104a700440000123401010242010203070418180542030406420506", VOCABULARY_TOKEN,
          "{\"cnf\":{\"osc\":{\"id\":\"00001234\",\"version\":1,\"ms\":\"0102\",\"hkdf\":\"HKDF SHA-512\","
          "\"alg\":\"ChaCha20/Poly1305\",\"salt\":\"0304\",\"contextId\":\"0506\"}}}" },
        { "a108a104a10305", VOCABULARY_CLAIMS, "{\"cnf\":{\"osc\":{\"hkdf\":\"HKDF SHA-256\"}}}" },
        { "a2181e06181f626e6f", VOCABULARY_TOKEN, "{\"error\":\"invalid_scope\",\"error_description\":\"no\"}" },
        /* bytes where text is usual say so; an unregistered value stays a number */
        { "a109420102", VOCABULARY_TOKEN, "{\"scope\":\"hex:0102\"}" },
        { "a1181e1863", VOCABULARY_TOKEN, "{\"error\":99}" },
        /* unknown labels, of any kind */
        { "a1190bb801", VOCABULARY_TOKEN, "{\"3000\":1}" },
        { "a13903e701", VOCABULARY_TOKEN, "{\"-1000\":1}" },
        { "a1617801", VOCABULARY_TOKEN, "{\"x\":1}" },
        { "a1410001", VOCABULARY_TOKEN, "{\"h'00'\":1}" },
        { "a101f5", VOCABULARY_NONE, "{\"1\":true}" },
        /* the same number means something else in another map */
        { "a401617803617904186406f6", VOCABULARY_CLAIMS, "{\"iss\":\"x\",\"aud\":\"y\",\"exp\":100,\"iat\":null}" },
        { "a10af4", VOCABULARY_INTROSPECT, "{\"active\":false}" },
        { "a2010a0443616263", VOCABULARY_HEADER, "{\"alg\":\"AES-CCM-16-64-128\",\"kid\":\"616263\"}" },
        /* in a key -1 means what its kty says, wherever that stands in the map */
        { "a40101200621410122f4", VOCABULARY_KEY, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"01\",\"y\":false}" },
        { "a2204201020104", VOCABULARY_KEY, "{\"k\":\"0102\",\"kty\":\"Symmetric\"}" },
        { "a220010102", VOCABULARY_KEY, "{\"crv\":\"P-256\",\"kty\":\"EC2\"}" },
        { "a12041ff", VOCABULARY_KEY, "{\"k\":\"ff\"}" },
        /* revocation lists, and what may be wrong with a question about one */
        { "a2008241014102" "0207", VOCABULARY_TRL, "{\"full_set\":[\"01\",\"02\"],\"cursor\":7}" },
        { "a3018182" "8041020207" "03f5", VOCABULARY_TRL, "{\"diff_set\":[[[],\"02\"]],\"cursor\":7,\"more\":true}" },
        { "a101a200020107", VOCABULARY_TRL_PROBLEM,
          "{\"ace-trl-error\":{\"error-id\":\"out of bound cursor value\",\"cursor\":7}}" },
        /* the other kinds */
        { "83018102820304", VOCABULARY_NONE, "[1,[2],[3,4]]" },
        { "d83dd08040", VOCABULARY_NONE, NULL },
        { "d83dd080", VOCABULARY_NONE, "{\"tag\":61,\"value\":{\"tag\":16,\"value\":[]}}" },
        { "f93e00", VOCABULARY_NONE, "1.5" },
        { "f97c00", VOCABULARY_NONE, "null" }, /* infinity, which JSON has not */
        { "60", VOCABULARY_NONE, "\"\"" },
        { "1bffffffffffffffff", VOCABULARY_NONE, "\"18446744073709551615\"" },
        { "3bffffffffffffffff", VOCABULARY_NONE, "\"-1-18446744073709551615\"" },
        /* no CBOR */
        { "", VOCABULARY_NONE, NULL },
        { "a101", VOCABULARY_TOKEN, NULL },
        { "818181818181818181818100", VOCABULARY_NONE, NULL },
};

static void cbor_becomes_json(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(json_decrefp) json_t *value = NULL;
                _cleanup_(freep) char *text = NULL;
                uint8_t data[CBOR_MAX];
                size_t size = unhex(cases[i].cbor, data);
                int r = describe_cbor(bytes_of(data, size), cases[i].vocabulary, &value);

                if (!cases[i].json) {
                        assert_int_equal(r, REFUSE_MALFORMED);
                        assert_null(value);
                        continue;
                }
                assert_int_equal(r, 0);
                text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_PRESERVE_ORDER);
                assert_non_null(text);
                assert_string_equal(text, cases[i].json);
        }
}

static void long_arrays_are_refused(void **state) {
        static uint8_t data[3 + 4097] = { 0x99, 0x10, 0x00 };
        _cleanup_(json_decrefp) json_t *whole = NULL;
        json_t *value = NULL;

        assert_int_equal(describe_cbor(bytes_of(data, 3 + 4096), VOCABULARY_NONE, &whole), 0);
        assert_int_equal(json_array_size(whole), 4096);
        data[2] = 1;
        assert_int_equal(describe_cbor(bytes_of(data, 3 + 4097), VOCABULARY_NONE, &value), REFUSE_MALFORMED);
        assert_null(value);
}

static void names_are_found(void **state) {
        assert_string_equal(describe_name(VOCABULARY_ERROR, ACE_INCOMPATIBLE_PROFILES), "incompatible_ace_profiles");
        assert_null(describe_name(VOCABULARY_ERROR, 0));
        assert_null(describe_name(VOCABULARY_NONE, 0));
}

/* JSON, and the lines that a terminal gets. */
static const struct {
        const char *json, *lines;
} prints[] = {
        { "{\"a\":1,\"b\":{\"c\":\"x\",\"d\":[true,null]},\"e\":[],\"f\":1.5}",
          "a: 1\nb:\n  c: x\n  d:\n    -: true\n    -: null\ne: none\nf: 1.5\n" },
        { "{\"exp\":1700000000}", "exp: 1700000000 (2023-11-14T22:13:20Z)\n" },
        { "{\"exp\":\"soon\",\"expires_in\":60}", "exp: soon\nexpires_in: 60\n" },
        { "{\"scope\":\"\\u001b[31m\\n\\u007f\",\"\\u0007\":\"\"}", "scope: \\x1b[31m\\x0a\\x7f\n\\x07: \n" },
        { "{\"scope\":\"\\u009b31m\\u2028\\u00e9\"}", "scope: \\xc2\\x9b31m\\xe2\\x80\\xa8\xc3\xa9\n" },
};

static void json_becomes_lines(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(prints); i++) {
                _cleanup_(json_decrefp) json_t *value = json_loads(prints[i].json, JSON_DECODE_ANY, NULL);
                _cleanup_(freep) char *lines = NULL;
                size_t size = 0;
                FILE *out = open_memstream(&lines, &size);

                assert_non_null(value);
                assert_non_null(out);
                describe_print(value, 0, out);
                fclose(out);
                assert_string_equal(lines, prints[i].lines);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(cbor_becomes_json),
                cmocka_unit_test(long_arrays_are_refused),
                cmocka_unit_test(names_are_found),
                cmocka_unit_test(json_becomes_lines),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
