/* The provisioning record of a device: in CBOR and JSON, there and back, and what is none. */
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/json.h"
#include "format/oscore_record.h"
#include "support/mutate.h"

/* RFC 8613 Appendix C.1.1, the client */
#define C1_HEX "a4" "0250" "0102030405060708090a0b0c0d0e0f10" "0548" "9e7ca92223786340" "2040" "214101"
#define C1_JSON                                                                                                       \
        "{\"master_secret_hex\":\"0102030405060708090a0b0c0d0e0f10\",\"master_salt_hex\":\"9e7ca92223786340\","       \
        "\"sender_id_hex\":\"\",\"recipient_id_hex\":\"01\",\"alg\":\"AES-CCM-16-64-128\",\"hkdf\":\"SHA-256\"}"
/* All that there is: A256GCM, SHA-512, no salt, an ID Context of no bytes, to be renewed. */
#define ALL_HEX "a7" "0250" "0102030405060708090a0b0c0d0e0f10" "0307" "0403" "0640" "204300ff01" "2140" "22f5"
#define ALL_JSON                                                                                                      \
        "{\"master_secret_hex\":\"0102030405060708090a0b0c0d0e0f10\",\"master_salt_hex\":\"\","                       \
        "\"sender_id_hex\":\"00ff01\",\"recipient_id_hex\":\"\",\"id_context_hex\":\"\",\"alg\":\"A256GCM\","         \
        "\"hkdf\":\"SHA-512\",\"renews\":true}"

static size_t from_hex(const char *hex, uint8_t *ret, size_t size) {
        size_t n;

        assert_int_equal(bytes_from_hex(hex, ret, size, &n), 0);
        return n;
}

static void expect_cbor(const struct oscore_record *record, const char *hex) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(OSCORE_RECORD_SIZE_MAX);
        char text[2 * OSCORE_RECORD_SIZE_MAX + 1];

        assert_int_equal(oscore_record_encode(record, &out), 0);
        bytes_to_hex(buf_bytes(&out), text, sizeof(text));
        assert_string_equal(text, hex);
}

static void expect_json(const struct oscore_record *record, const char *wanted) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(JSON_TEXT_MAX);
        json_t *object = oscore_record_json(record);

        assert_non_null(object);
        assert_int_equal(json_print(object, &out), 0);
        assert_true(bytes_equal(buf_bytes(&out), bytes_text(wanted)));
        json_decref(object);
}

static int read_text(const char *text, struct oscore_record *ret) {
        _cleanup_(diags_done) struct diags faults = {};
        int r = oscore_record_read(bytes_text(text), ret, &faults);

        assert_int_equal(faults.n_items > 0, r > 0);
        return r;
}

static void both_ways(void **state) {
        static const struct {
                const char *hex, *json;
        } cases[] = { { C1_HEX, C1_JSON }, { ALL_HEX, ALL_JSON } };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(oscore_record_done) struct oscore_record record = {}, read = {}, digits = {};
                uint8_t raw[OSCORE_RECORD_SIZE_MAX];
                size_t size = from_hex(cases[i].hex, raw, sizeof(raw));

                assert_int_equal(oscore_record_decode(bytes_of(raw, size), &record), 0);
                expect_cbor(&record, cases[i].hex);
                expect_json(&record, cases[i].json);
                assert_int_equal(read_text(cases[i].json, &read), 0);
                expect_cbor(&read, cases[i].hex);
                assert_int_equal(read_text(cases[i].hex, &digits), 0);
                expect_cbor(&digits, cases[i].hex);
        }
}

static void what_it_says(void **state) {
        _cleanup_(oscore_record_done) struct oscore_record record = {};

        assert_int_equal(read_text(ALL_HEX, &record), 0);
        assert_int_equal(record.parameters.alg, AEAD_A256GCM);
        assert_int_equal(record.parameters.hkdf, OSCORE_HKDF_SHA512);
        assert_int_equal(record.parameters.sender_id.size, 3);
        assert_memory_equal(record.parameters.sender_id.data, "\x00\xff\x01", 3);
        assert_int_equal(record.parameters.recipient_id.size, 0);
        assert_int_equal(record.parameters.salt_size, 0);
        assert_true(record.parameters.has_id_context);
        assert_int_equal(record.parameters.id_context_size, 0);
        assert_true(record.parameters.renews);
        assert_int_equal(record.master_secret.size, 16);
        assert_int_equal(read_text(C1_HEX, &record), 0);
        assert_int_equal(record.parameters.alg, AEAD_AES_CCM_16_64_128);
        assert_false(record.parameters.has_id_context);
        assert_false(record.parameters.renews);
}

/* The longest of everything fits what it is encoded into. */
static void longest(void **state) {
        struct oscore_record record = {
                .parameters = { .alg = AEAD_AES_CCM_16_128_128, .hkdf = OSCORE_HKDF_SHA512,
                                .sender_id = { OSCORE_ID_SIZE_MAX, { 1 } },
                                .recipient_id = { OSCORE_ID_SIZE_MAX, { 2 } }, .salt_size = OSCORE_SALT_SIZE_MAX,
                                .has_id_context = true, .id_context_size = OSCORE_ID_CONTEXT_SIZE_MAX,
                                .renews = true },
                .master_secret = { .size = SECRET_SIZE_MAX },
        }, again = {};
        _cleanup_(buf_done) struct buf out = BUF_INIT(OSCORE_RECORD_SIZE_MAX);

        assert_int_equal(oscore_record_encode(&record, &out), 0);
        assert_int_equal(oscore_record_decode(buf_bytes(&out), &again), 0);
        assert_memory_equal(&again, &record, sizeof(record));
}

static void as_a_file_has_it(void **state) {
        static const char *const good[] = {
                "  " C1_HEX "\n", "\n" C1_JSON "\r\n",
                "{\"id\": 7, \"kind\": \"oscore\", \"record\": " C1_JSON ", \"record_hex\": \"" C1_HEX "\"}",
                "{\"master_secret_hex\":\"0102030405060708090A0B0C0D0E0F10\",\"sender_id_hex\":\"\","
                "\"recipient_id_hex\":\"01\"}",
        };
        struct oscore_record record = {};

        for (size_t i = 0; i < N_ELEMENTS(good); i++)
                if (read_text(good[i], &record) != 0)
                        fail_msg("%s", good[i]);
        oscore_record_done(&record);
}

#define SECRET "\"master_secret_hex\":\"0102030405060708090a0b0c0d0e0f10\""
#define IDS "\"sender_id_hex\":\"\",\"recipient_id_hex\":\"01\""

static void no_text_of_one(void **state) {
        static const struct {
                const char *text;
                int wanted;
        } cases[] = {
                { "", REFUSE_ADMIN_SYNTAX },
                { "{", REFUSE_ADMIN_SYNTAX },
                { "[]", REFUSE_ADMIN_SYNTAX },
                { "a", REFUSE_ADMIN_SYNTAX },
                { "a0", REFUSE_ADMIN_SYNTAX },
                { C1_HEX "00", REFUSE_ADMIN_SYNTAX },
                { C1_HEX " 00", REFUSE_ADMIN_SYNTAX },
                { "{}", REFUSE_ADMIN_VALUE },
                { "{\"record\": 7}", REFUSE_ADMIN_SYNTAX },
                { "{" SECRET "}", REFUSE_ADMIN_VALUE },
                { "{" IDS "}", REFUSE_ADMIN_VALUE },
                { "{" SECRET "," IDS ",\"more\":1}", REFUSE_ADMIN_VALUE },
                { "{" SECRET "," IDS "," IDS "}", REFUSE_ADMIN_SYNTAX },
                { "{" SECRET "," IDS ",\"alg\":\"AES\"}", REFUSE_ADMIN_VALUE },
                { "{" SECRET "," IDS ",\"hkdf\":\"SHA-1\"}", REFUSE_ADMIN_VALUE },
                { "{" SECRET "," IDS ",\"renews\":1}", REFUSE_ADMIN_VALUE },
                { "{" SECRET "," IDS ",\"id_context_hex\":null}", REFUSE_ADMIN_VALUE },
                { "{" SECRET "," IDS ",\"master_salt_hex\":\"0\"}", REFUSE_ADMIN_VALUE },
                { "{" SECRET ",\"sender_id_hex\":\"01\",\"recipient_id_hex\":\"01\"}", REFUSE_ADMIN_VALUE },
                { "{" SECRET ",\"sender_id_hex\":\"0102030405060708\",\"recipient_id_hex\":\"\"}", REFUSE_ADMIN_VALUE },
                { "{" SECRET ",\"sender_id_hex\":\"01020304050607\",\"recipient_id_hex\":\"\",\"alg\":\"A128GCM\"}",
                  REFUSE_ADMIN_VALUE },
                { "{\"master_secret_hex\":\"0102030405060708090a0b0c0d0e0f\"," IDS "}", REFUSE_ADMIN_VALUE },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct oscore_record record = {};
                int r = read_text(cases[i].text, &record);

                if (r != cases[i].wanted)
                        fail_msg("%s: %d", cases[i].text, r);
                assert_int_equal(record.master_secret.size, 0);
        }
}

static void no_cbor_of_one(void **state) {
        static const char *const cases[] = {
                "80",                                                                /* no map */
                "a3" "0250" "0102030405060708090a0b0c0d0e0f10" "2040",               /* cut */
                "a2" "0250" "0102030405060708090a0b0c0d0e0f10" "2040",               /* no recipient ID */
                "a3" "024f" "0102030405060708090a0b0c0d0e0f" "2040" "214101",        /* a short secret */
                "a4" "0250" "0102030405060708090a0b0c0d0e0f10" "0540" "2040" "214101", /* a salt that is left out */
                "a4" "0250" "0102030405060708090a0b0c0d0e0f10" "040a" "2040" "214101", /* a default likewise */
                "a4" "0250" "0102030405060708090a0b0c0d0e0f10" "040b" "2040" "214101", /* none of our AEADs */
                "a4" "0250" "0102030405060708090a0b0c0d0e0f10" "0306" "2040" "214101", /* none of our HKDFs */
                "a4" "0250" "0102030405060708090a0b0c0d0e0f10" "2040" "214101" "22f4", /* false is left out */
                "a4" "0250" "0102030405060708090a0b0c0d0e0f10" "2040" "214101" "2300", /* a label that nobody knows */
                "a3" "0250" "0102030405060708090a0b0c0d0e0f10" "2040" "2140",        /* the same IDs */
                "a3" "0250" "0102030405060708090a0b0c0d0e0f10" "214101" "2040",      /* another order */
                "a3" "025810" "0102030405060708090a0b0c0d0e0f10" "2040" "214101",    /* a longer head */
                "bf" "0250" "0102030405060708090a0b0c0d0e0f10" "2040" "214101" "ff", /* of no stated length */
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct oscore_record record = {};
                uint8_t raw[OSCORE_RECORD_SIZE_MAX];
                size_t size = from_hex(cases[i], raw, sizeof(raw));

                if (oscore_record_decode(bytes_of(raw, size), &record) <= 0)
                        fail_msg("%s", cases[i]);
        }
}

/* What is taken for one comes out as it went in. */
static void judge(struct bytes mutant, void *context) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(OSCORE_RECORD_SIZE_MAX);
        struct oscore_record record = {};
        int r = oscore_record_decode(mutant, &record);

        assert_true(r >= 0);
        if (r > 0)
                return;
        assert_int_equal(oscore_record_encode(&record, &out), 0);
        assert_true(bytes_equal(buf_bytes(&out), mutant));
        oscore_record_done(&record);
}

static void mutants(void **state) {
        uint8_t raw[OSCORE_RECORD_SIZE_MAX];

        mutate(bytes_of(raw, from_hex(C1_HEX, raw, sizeof(raw))), judge, NULL);
        mutate(bytes_of(raw, from_hex(ALL_HEX, raw, sizeof(raw))), judge, NULL);
}

static void judge_text(struct bytes mutant, void *context) {
        _cleanup_(diags_done) struct diags faults = {};
        struct oscore_record record = {};

        assert_true(oscore_record_read(mutant, &record, &faults) >= 0);
        oscore_record_done(&record);
}

static void mutants_of_text(void **state) {
        mutate(BYTES_LITERAL(ALL_JSON), judge_text, NULL);
        mutate(BYTES_LITERAL(ALL_HEX), judge_text, NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(both_ways),
                cmocka_unit_test(what_it_says),
                cmocka_unit_test(longest),
                cmocka_unit_test(as_a_file_has_it),
                cmocka_unit_test(no_text_of_one),
                cmocka_unit_test(no_cbor_of_one),
                cmocka_unit_test(mutants),
                cmocka_unit_test(mutants_of_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
