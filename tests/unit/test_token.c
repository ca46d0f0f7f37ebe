#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/policy.h"
#include "domain/token.h"

static void test_active(void **state) {
        static const struct {
                const char *name;
                int64_t server_id, issued_s, expires_s, revoked_s;
                int64_t asker_id, now_s;
                bool active;
                int64_t nbf_s;
                bool is_of_group;
        } cases[] = {
                { "AS-165 just issued", 7, 100, 200, 0, 7, 100, true, 0, false },
                { "AS-165 last second", 7, 100, 200, 0, 7, 199, true, 0, false },
                { "AS-155 expired", 7, 100, 200, 0, 7, 200, false, 0, false },
                { "AS-155 long expired", 7, 100, 200, 0, 7, 100000, false, 0, false },
                { "AS-165 not yet valid", 7, 100, 200, 0, 7, 99, false, 0, false },
                { "AS-155 revoked", 7, 100, 200, 150, 7, 160, false, 0, false },
                { "AS-195 revoked in this second", 7, 100, 200, 150, 7, 150, false, 0, false },
                { "AS-195 revoked, though the clock was set back", 7, 100, 200, 150, 7, 140, false, 0, false },
                { "AS-159 another server's", 7, 100, 200, 0, 8, 150, false, 0, false },
                { "AS-159 nobody asks", 7, 100, 200, 0, 0, 150, false, 0, false },
                { "AS-159 nobody asks about a group's", 0, 100, 200, 0, 0, 150, false, 0, true },
                { "AS-165 nbf to come", 7, 100, 200, 0, 7, 149, false, 150, false },
                { "AS-165 nbf now", 7, 100, 200, 0, 7, 150, true, 150, false },
                { "AS-162 of the group", 0, 100, 200, 0, 8, 150, true, 0, true },
                { "AS-159 not of the group", 0, 100, 200, 0, 8, 150, false, 0, false },
                { "AS-159 of some group, another server's token", 7, 100, 200, 0, 8, 150, false, 0, true },
                { "AS-155 of the group, expired", 0, 100, 200, 0, 8, 200, false, 0, true },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct token token = {
                        .server_id = cases[i].server_id,
                        .issued_s = cases[i].issued_s,
                        .expires_s = cases[i].expires_s,
                        .revoked_s = cases[i].revoked_s,
                        .nbf_s = cases[i].nbf_s,
                };

                if (token_is_active(&token, cases[i].asker_id, cases[i].is_of_group, cases[i].now_s) !=
                    cases[i].active)
                        fail_msg("%s", cases[i].name);
                if (cases[i].active) /* to its client it is good as well */
                        assert_true(token_is_live(&token, cases[i].now_s));
        }
}

static void test_numbers(void **state) {
        static const struct {
                uint64_t number;
                struct bytes bytes;
        } cases[] = {
                { 0, BYTES_LITERAL("\x00\x00\x00\x00") },
                { 1, BYTES_LITERAL("\x00\x00\x00\x01") },
                { 0x01020304, BYTES_LITERAL("\x01\x02\x03\x04") },
                { 0xffffffff, BYTES_LITERAL("\xff\xff\xff\xff") },
                { 0x100000000, BYTES_LITERAL("\x01\x00\x00\x00\x00") },
                { 0xffffffffff, BYTES_LITERAL("\xff\xff\xff\xff\xff") },
                { 0x10000000000, BYTES_LITERAL("\x01\x00\x00\x00\x00\x00") },
                { 0x1000000000000, BYTES_LITERAL("\x01\x00\x00\x00\x00\x00\x00") },
                { 0x100000000000000, BYTES_LITERAL("\x01\x00\x00\x00\x00\x00\x00\x00") },
                { UINT64_MAX, BYTES_LITERAL("\xff\xff\xff\xff\xff\xff\xff\xff") },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                uint8_t data[NUMBER_SIZE_MAX];
                uint64_t number = 77;

                assert_int_equal(number_to_bytes(cases[i].number, data), cases[i].bytes.size);
                assert_memory_equal(data, cases[i].bytes.data, cases[i].bytes.size);
                assert_int_equal(number_from_bytes(cases[i].bytes, &number), 0);
                assert_true(number == cases[i].number);
        }
}

/* AS-069: one number, one form; another form must not be another name of the same key. */
static void test_number_forms(void **state) {
        static const struct bytes refused[] = {
                { NULL, 0 },
                BYTES_LITERAL("\x01"),
                BYTES_LITERAL("\x01\x02\x03"),
                BYTES_LITERAL("\x00\x00\x00\x00\x01"),
                BYTES_LITERAL("\x00\xff\xff\xff\xff"),
                BYTES_LITERAL("\x00\x01\x02\x03\x04\x05\x06\x07"),
                BYTES_LITERAL("\x01\x02\x03\x04\x05\x06\x07\x08\x09"),
        };

        for (size_t i = 0; i < N_ELEMENTS(refused); i++) {
                uint64_t number = 77;

                assert_int_equal(number_from_bytes(refused[i], &number), -EINVAL);
                assert_int_equal(number, 77);
        }
}

/* AS-174, AS-175: of one server in order of the sequence numbers, and never another's */
static void test_exi_cti(void **state) {
        static const struct {
                int64_t server_id;
                uint64_t exi;
                struct bytes bytes;
        } cases[] = {
                { 7, 1, BYTES_LITERAL("\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x01") },
                { 7, 0x100000000, BYTES_LITERAL("\x00\x00\x00\x07\x00\x00\x00\x01\x00\x00\x00\x00") },
                { 0x100000000, UINT64_MAX,
                  BYTES_LITERAL("\x01\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff") },
                { INT64_MAX, 2, BYTES_LITERAL("\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x02") },
        };
        static const struct bytes refused[] = {
                { NULL, 0 },
                BYTES_LITERAL("\x00\x00\x00\x01"),
                BYTES_LITERAL("\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x01"),
                BYTES_LITERAL("\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x01"),
                BYTES_LITERAL("\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"),
                BYTES_LITERAL("\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"),
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                uint8_t data[EXI_CTI_SIZE_MAX];
                int64_t server_id = 0;
                uint64_t exi = 0;

                assert_int_equal(exi_to_cti(cases[i].server_id, cases[i].exi, data), cases[i].bytes.size);
                assert_memory_equal(data, cases[i].bytes.data, cases[i].bytes.size);
                assert_int_equal(exi_from_cti(cases[i].bytes, &server_id, &exi), 0);
                assert_true(server_id == cases[i].server_id && exi == cases[i].exi);
        }
        for (size_t i = 0; i < N_ELEMENTS(refused); i++) {
                int64_t server_id = 77;
                uint64_t exi = 77;

                assert_int_equal(exi_from_cti(refused[i], &server_id, &exi), -EINVAL);
                assert_true(server_id == 77 && exi == 77);
        }
}

static void test_policy_period(void **state) {
        static const struct {
                int64_t from_s, until_s, now_s;
                bool active;
        } cases[] = {
                { 0, 0, 0, true },   { 0, 0, 1000, true },   { 100, 0, 99, false },   { 100, 0, 100, true },
                { 0, 200, 199, true }, { 0, 200, 200, false }, { 100, 200, 150, true }, { 100, 200, 50, false },
                { 100, 200, 250, false },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct policy policy = { .valid_from_s = cases[i].from_s, .valid_until_s = cases[i].until_s };

                if (policy_is_active(&policy, cases[i].now_s) != cases[i].active)
                        fail_msg("case %zu", i);
        }
}

static void test_done_wipes(void **state) {
        static const struct secret none;
        struct token token = { .pop_key = { .data = { 1, 2, 3 }, .size = 3 } };

        token_done(&token);
        assert_memory_equal(&token.pop_key, &none, sizeof(none));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_active),
                cmocka_unit_test(test_numbers),
                cmocka_unit_test(test_number_forms),
                cmocka_unit_test(test_exi_cti),
                cmocka_unit_test(test_policy_period),
                cmocka_unit_test(test_done_wipes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
