#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/coap.h"
#include "support/mutate.h"
#include "support/notation.h"

/* ---- decoding */

static void messages_are_told_from_others(void **state) {
        static const struct {
                const char *hex;
                int r;
                bool header_ok;
        } cases[] = {
                /* RFC 7252 Appendix A: GET /temperature and its answers; a ping; an RST; an empty ACK */
                { "40017d34bb74656d7065726174757265", 0, true },
                { "60457d34ff32322e332043", 0, true },
                { "41017d3520bb74656d7065726174757265", 0, true },
                { "61457d3520ff32322e332043", 0, true },
                { "40001234", 0, true },
                { "70001234", 0, true },
                { "60001234", 0, true },
                { "480112340102030405060708", 0, true },
                /* POST /token with Content-Format 19 and a payload */
                { "4202beef0102b5746f6b656e1113ffa0", 0, true },
                /* no header, or of another protocol's version */
                { "", REFUSE_MALFORMED, false },
                { "40", REFUSE_MALFORMED, false },
                { "400112", REFUSE_MALFORMED, false },
                { "00011234", REFUSE_MALFORMED, false },
                { "80011234", REFUSE_MALFORMED, false },
                { "c0011234", REFUSE_MALFORMED, false },
                /* token lengths 9 to 15 are reserved; a token that is cut */
                { "49011234010203040506070809", REFUSE_MALFORMED, true },
                { "4f0112340102030405060708090a0b0c0d0e0f", REFUSE_MALFORMED, true },
                { "41011234", REFUSE_MALFORMED, true },
                { "4801123401020304050607", REFUSE_MALFORMED, true },
                /* an empty message has its header and no more */
                { "4100123401", REFUSE_MALFORMED, true },
                { "40001234ff00", REFUSE_MALFORMED, true },
                { "40001234b161", REFUSE_MALFORMED, true },
                { "70001234ff", REFUSE_MALFORMED, true },
                /* reserved classes */
                { "40201234", REFUSE_MALFORMED, true },
                { "403f1234", REFUSE_MALFORMED, true },
                { "40c01234", REFUSE_MALFORMED, true },
                { "40e11234", REFUSE_MALFORMED, true },
                /* a payload marker and no payload */
                { "40011234ff", REFUSE_MALFORMED, true },
                { "4001123460ff", REFUSE_MALFORMED, true },
                /* options: reserved 15, cut extensions, cut values, numbers beyond 65535 */
                { "40011234f0", REFUSE_MALFORMED, true },
                { "40011234f1", REFUSE_MALFORMED, true },
                { "400112340f", REFUSE_MALFORMED, true },
                { "40011234b5746f6b65", REFUSE_MALFORMED, true },
                { "40011234d0", REFUSE_MALFORMED, true },
                { "40011234e001", REFUSE_MALFORMED, true },
                { "40011234e0", REFUSE_MALFORMED, true },
                { "400112340d", REFUSE_MALFORMED, true },
                { "400112340e00", REFUSE_MALFORMED, true },
                { "400112340effff", REFUSE_MALFORMED, true },
                { "40011234e0fef2", 0, true },                /* 269 + 65266 = 65535 */
                { "40011234e0fef3", REFUSE_MALFORMED, true }, /* 65536 */
                { "40011234e0ffff", REFUSE_MALFORMED, true },
                { "40011234e0fef210", REFUSE_MALFORMED, true },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                uint8_t data[SIZE_MAX_TEST];
                struct coap_message message;
                bool header_ok;
                int r;

                r = coap_message_decode(from_hex(cases[i].hex, data), &message, &header_ok);
                if (r != cases[i].r || header_ok != cases[i].header_ok)
                        fail_msg("%s: %d, header %d", cases[i].hex, r, header_ok);
        }
}

static void a_request_is_taken_apart(void **state) {
        uint8_t data[SIZE_MAX_TEST];
        struct coap_message message;
        uint32_t format;
        bool header_ok;

        assert_int_equal(coap_message_decode(from_hex("5202beef0102b5746f6b656e01611113ffa0", data), &message,
                                             &header_ok), 0);
        assert_int_equal(message.type, TYPE_NON);
        assert_int_equal(message.code, CODE_POST);
        assert_int_equal(message.mid, 0xbeef);
        assert_hex(message.token, "0102");
        assert_int_equal(message.n_options, 3);
        assert_hex(coap_message_option(&message, OPTION_URI_PATH, 0)->value, "746f6b656e");
        assert_hex(coap_message_option(&message, OPTION_URI_PATH, 1)->value, "61");
        assert_null(coap_message_option(&message, OPTION_URI_PATH, 2));
        assert_null(coap_message_option(&message, OPTION_ACCEPT, 0));
        assert_true(coap_option_uint(coap_message_option(&message, OPTION_CONTENT_FORMAT, 0), &format));
        assert_int_equal(format, CF_ACE_CBOR);
        assert_hex(message.payload, "a0");
}

/* A header that can be read is given even when the rest is not: the caller answers RST with its message ID. */
static void a_faulty_message_has_its_header(void **state) {
        struct coap_message message;
        bool header_ok;

        assert_int_equal(coap_message_decode(BYTES_LITERAL("\x40\x01\x12\x34\xff"), &message, &header_ok),
                         REFUSE_MALFORMED);
        assert_true(header_ok);
        assert_int_equal(message.type, TYPE_CON);
        assert_int_equal(message.mid, 0x1234);
}

static int decode_options(size_t n) {
        uint8_t data[4 + COAP_OPTIONS_MAX + 1] = { 0x40, 0x01, 0x12, 0x34 }; /* then If-Match, empty, n times */
        struct coap_message message;
        bool header_ok;

        assert_true(n <= COAP_OPTIONS_MAX + 1);
        if (n > 0)
                data[4] = 0x10;
        return coap_message_decode(bytes_of(data, 4 + n), &message, &header_ok);
}

static void options_are_limited(void **state) {
        assert_int_equal(decode_options(0), 0);
        assert_int_equal(decode_options(COAP_OPTIONS_MAX), 0);
        assert_int_equal(decode_options(COAP_OPTIONS_MAX + 1), REFUSE_MALFORMED);
}

/* ---- encoding */

static void messages_are_encoded(void **state) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST);
        struct coap_message message = {
                .type = TYPE_ACK,
                .code = CODE_CREATED,
                .mid = 0xbeef,
                .token = BYTES_LITERAL("\x01\x02"),
                .payload = BYTES_LITERAL("\xa0"),
        };
        uint8_t scratch[3][4];

        /* in any order; equal numbers keep theirs */
        assert_int_equal(coap_message_add_uint(&message, OPTION_MAX_AGE, 3600, scratch[0]), 0);
        assert_int_equal(coap_message_add(&message, OPTION_LOCATION_PATH, BYTES_LITERAL("b")), 0);
        assert_int_equal(coap_message_add_uint(&message, OPTION_CONTENT_FORMAT, CF_ACE_CBOR, scratch[1]), 0);
        assert_int_equal(coap_message_add(&message, OPTION_LOCATION_PATH, BYTES_LITERAL("a")), 0);
        assert_int_equal(coap_message_add_uint(&message, OPTION_SIZE1, 0, scratch[2]), 0);
        assert_int_equal(coap_message_encode(&message, &out), 0);
        assert_hex(buf_bytes(&out), "6241beef0102" "8162" "0161" "4113" "220e10" "d021" "ffa0");
}

static void empty_messages_are_encoded(void **state) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST);

        assert_int_equal(coap_message_encode(&(struct coap_message){ .type = TYPE_RST, .mid = 0x1234 }, &out), 0);
        assert_hex(buf_bytes(&out), "70001234");
}

static void numbers_and_sizes_use_every_extension(void **state) {
        static const uint16_t numbers[] = { 0, 12, 13, 268, 269, 1000, 65535 };
        static const size_t sizes[] = { 0, 12, 13, 268, 269, 1000 };
        static const uint8_t value[1000] = { 1, 2, 3 };

        for (size_t i = 0; i < N_ELEMENTS(numbers); i++)
                for (size_t j = 0; j < N_ELEMENTS(sizes); j++) {
                        _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST);
                        struct coap_message message = { .code = CODE_GET, .payload = BYTES_LITERAL("p") }, decoded;
                        bool header_ok;

                        assert_int_equal(coap_message_add(&message, numbers[i], bytes_of(value, sizes[j])), 0);
                        assert_int_equal(coap_message_encode(&message, &out), 0);
                        assert_int_equal(coap_message_decode(buf_bytes(&out), &decoded, &header_ok), 0);
                        assert_int_equal(decoded.n_options, 1);
                        assert_int_equal(decoded.options[0].number, numbers[i]);
                        assert_true(bytes_equal(decoded.options[0].value, bytes_of(value, sizes[j])));
                        assert_hex(decoded.payload, "70");
                }
}

static void uints_have_no_leading_zeros(void **state) {
        static const struct {
                uint32_t value;
                const char *hex;
        } cases[] = {
                { 0, "" }, { 1, "01" }, { 255, "ff" }, { 256, "0100" }, { 65536, "010000" }, { 0x1000000, "01000000" },
                { UINT32_MAX, "ffffffff" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct coap_message message = {};
                uint8_t scratch[4];
                uint32_t value;

                assert_int_equal(coap_message_add_uint(&message, OPTION_MAX_AGE, cases[i].value, scratch), 0);
                assert_hex(message.options[0].value, cases[i].hex);
                assert_true(coap_option_uint(&message.options[0], &value));
                assert_int_equal(value, cases[i].value);
        }
        uint32_t value;
        assert_false(coap_option_uint(&(struct coap_option){ .value = BYTES_LITERAL("12345") }, &value));
}

static void what_the_format_cannot_say_is_refused(void **state) {
        static const uint8_t big[65805];
        _cleanup_(buf_done) struct buf out = BUF_INIT(100000), tight = BUF_INIT(10);
        struct coap_message message = { .code = CODE_GET };

        message.token = bytes_of(big, COAP_TOKEN_SIZE_MAX + 1);
        assert_int_equal(coap_message_encode(&message, &out), -EINVAL);
        message.token = BYTES_NONE;
        assert_int_equal(coap_message_add(&message, 1, bytes_of(big, sizeof(big))), 0);
        assert_int_equal(coap_message_encode(&message, &out), -EINVAL);
        message.options[0].value.size = sizeof(big) - 1;
        assert_int_equal(coap_message_encode(&message, &out), 0);

        assert_int_equal(coap_message_encode(&(struct coap_message){ .payload = BYTES_LITERAL("a") }, &out), -EINVAL);
        assert_int_equal(coap_message_encode(&(struct coap_message){ .token = BYTES_LITERAL("a") }, &out), -EINVAL);
        message.n_options = COAP_OPTIONS_MAX + 1;
        assert_int_equal(coap_message_encode(&message, &out), -EINVAL);

        /* over the buffer's limit nothing stays */
        assert_int_equal(coap_message_encode(&(struct coap_message){ .code = CODE_GET,
                                                                     .payload = BYTES_LITERAL("123456") },
                                             &tight), -EOVERFLOW);
        assert_int_equal(tight.size, 0);

        message.n_options = 0;
        for (size_t i = 0; i < COAP_OPTIONS_MAX; i++)
                assert_int_equal(coap_message_add(&message, 11, BYTES_NONE), 0);
        assert_int_equal(coap_message_add(&message, 11, BYTES_NONE), -EOVERFLOW);
}

/* ---- options of a request */

static void critical_options_are_known_and_in_their_limits(void **state) {
        static const struct {
                uint16_t number;
                size_t size;
                unsigned times;
                uint16_t bad; /* 0: none */
        } cases[] = {
                { OPTION_URI_PATH, 0, 1, 0 },
                { OPTION_URI_PATH, 255, 8, 0 },
                { OPTION_URI_PATH, 256, 1, OPTION_URI_PATH },
                { OPTION_URI_QUERY, 255, 2, 0 },
                { OPTION_URI_QUERY, 256, 1, OPTION_URI_QUERY },
                { OPTION_URI_HOST, 1, 1, 0 },
                { OPTION_URI_HOST, 0, 1, OPTION_URI_HOST },
                { OPTION_URI_HOST, 256, 1, OPTION_URI_HOST },
                { OPTION_URI_HOST, 1, 2, OPTION_URI_HOST },
                { OPTION_URI_PORT, 0, 1, 0 },
                { OPTION_URI_PORT, 2, 1, 0 },
                { OPTION_URI_PORT, 3, 1, OPTION_URI_PORT },
                { OPTION_ACCEPT, 2, 1, 0 },
                { OPTION_ACCEPT, 3, 1, OPTION_ACCEPT },
                { OPTION_ACCEPT, 1, 2, OPTION_ACCEPT },
                { OPTION_OSCORE, 0, 1, 0 },
                { OPTION_OSCORE, 255, 1, 0 },
                { OPTION_OSCORE, 256, 1, OPTION_OSCORE },
                { OPTION_OSCORE, 0, 2, OPTION_OSCORE },
                /* not here: conditions, proxying, numbers that nobody knows */
                { OPTION_IF_MATCH, 1, 1, OPTION_IF_MATCH },
                { OPTION_IF_NONE_MATCH, 0, 1, OPTION_IF_NONE_MATCH },
                { OPTION_PROXY_URI, 5, 1, OPTION_PROXY_URI },
                { OPTION_PROXY_SCHEME, 4, 1, OPTION_PROXY_SCHEME },
                { 9999, 0, 1, 9999 },
                { 65535, 0, 1, 65535 },
                /* elective ones never hurt, known or not, in their limits or not */
                { OPTION_OBSERVE, 0, 1, 0 },
                { OPTION_OBSERVE, 9, 2, 0 },
                { OPTION_ETAG, 8, 3, 0 },
                { OPTION_ETAG, 20, 1, 0 },
                { OPTION_CONTENT_FORMAT, 2, 2, 0 },
                { OPTION_CONTENT_FORMAT, 3, 1, 0 },
                { OPTION_SIZE1, 4, 1, 0 },
                { OPTION_NO_RESPONSE, 1, 1, 0 },
                { 9998, 300, 4, 0 },
        };
        static const uint8_t value[300];

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct coap_message message = { .code = CODE_POST };
                uint16_t bad = 0;
                int r;

                for (unsigned n = 0; n < cases[i].times; n++)
                        assert_int_equal(coap_message_add(&message, cases[i].number, bytes_of(value, cases[i].size)),
                                         0);
                r = coap_request_check_options(&message, &bad);
                if (r != (cases[i].bad ? REFUSE_BAD_OPTION : 0) || bad != cases[i].bad)
                        fail_msg("option %u of %zu bytes, %u times: %d, bad %u", cases[i].number, cases[i].size,
                                 cases[i].times,
                                 r, bad);
        }
}

/* RFC 7959: a body in one block is whole; one in several would have to be put together. */
static void only_whole_bodies_are_taken(void **state) {
        static const struct {
                struct bytes value;
                int r;
        } cases[] = {
                { BYTES_LITERAL(""), 0 },          /* first block of 16 bytes, no more */
                { BYTES_LITERAL("\x06"), 0 },      /* of 1024 bytes */
                { BYTES_LITERAL("\x00\x06"), 0 },
                { BYTES_LITERAL("\x07"), 0 },      /* reserved size: RFC 7959 §2.2 wants 4.00, not 4.02 */
                { BYTES_LITERAL("\x0e"), 0 },      /* more to come */
                { BYTES_LITERAL("\x16"), 0 },      /* the second one */
                { BYTES_LITERAL("\xff\xff\xff"), 0 },
                { BYTES_LITERAL("\x00\x00\x00\x06"), REFUSE_BAD_OPTION },
        };
        static const uint16_t numbers[] = { OPTION_BLOCK1, OPTION_BLOCK2 };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++)
                for (size_t j = 0; j < N_ELEMENTS(numbers); j++) {
                        struct coap_message message = { .code = CODE_POST };
                        uint16_t bad;

                        assert_int_equal(coap_message_add(&message, numbers[j], cases[i].value), 0);
                        assert_int_equal(coap_request_check_options(&message, &bad), cases[i].r);
                }
}

/* RFC 7252 §5.4.3: out of its limits an option is like an unknown one, and unknown elective ones are ignored. */
static void options_out_of_their_limits_are_not_found(void **state) {
        struct coap_message message = { .code = CODE_POST };

        assert_int_equal(coap_message_add(&message, OPTION_CONTENT_FORMAT, BYTES_LITERAL("\x00\x00\x13")), 0);
        assert_null(coap_message_option(&message, OPTION_CONTENT_FORMAT, 0));
        assert_int_equal(coap_message_add(&message, OPTION_CONTENT_FORMAT, BYTES_LITERAL("\x13")), 0);
        assert_hex(coap_message_option(&message, OPTION_CONTENT_FORMAT, 0)->value, "13");
        assert_int_equal(coap_message_add(&message, 9998, BYTES_LITERAL("anything")), 0);
        assert_non_null(coap_message_option(&message, 9998, 0));
}

static void codes_are_printed(void **state) {
        static const struct {
                uint8_t code;
                const char *text;
        } cases[] = {
                { CODE_EMPTY, "0.00" }, { CODE_POST, "0.02" }, { CODE_CREATED, "2.01" },
                { CODE_UNSUPPORTED_FORMAT, "4.15" }, { CODE_TOO_MANY_REQUESTS, "4.29" },
                { CODE_INTERNAL_ERROR, "5.00" }, { 0xff, "7.31" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                char text[5];

                coap_code_text(cases[i].code, text);
                assert_string_equal(text, cases[i].text);
        }
}

/* ---- all that can be made of messages */

/* What decodes encodes to a message that decodes to the same. */
static void judge(struct bytes mutant, void *context) {
        _cleanup_(buf_done) struct buf first = BUF_INIT(SIZE_MAX_TEST), second = BUF_INIT(SIZE_MAX_TEST);
        struct coap_message message, again;
        size_t *n_good = context;
        uint16_t bad;
        bool ok;
        int r;

        r = coap_message_decode(mutant, &message, &ok);
        if (r != 0) {
                assert_int_equal(r, REFUSE_MALFORMED);
                return;
        }
        ++*n_good;
        r = coap_request_check_options(&message, &bad);
        assert_true(r == 0 || (r == REFUSE_BAD_OPTION && bad & 1));
        assert_int_equal(coap_message_encode(&message, &first), 0);
        assert_int_equal(coap_message_decode(buf_bytes(&first), &again, &ok), 0);
        assert_int_equal(message.n_options, again.n_options);
        assert_int_equal(coap_message_encode(&again, &second), 0);
        assert_true(bytes_equal(buf_bytes(&first), buf_bytes(&second)));
}

static void mutants_are_refused_or_sound(void **state) {
        static const char *const messages[] = {
                "40017d34bb74656d7065726174757265",
                "60457d34ff32322e332043",
                "4202beef0102b5746f6b656e1113ffa205637273310963726561",
                "40001234",
                "48021234010203040506070835686f7374320102" "8261620361626311136127d10306d1210dd0d9ff70",
                "44011234aabbccddbb2e77656c6c2d6b6e6f776e04636f72654772743d6f6175746800",
        };
        size_t n_good = 0;

        for (size_t i = 0; i < N_ELEMENTS(messages); i++) {
                uint8_t data[SIZE_MAX_TEST];

                mutate(from_hex(messages[i], data), judge, &n_good);
        }
        assert_true(n_good > 200);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(messages_are_told_from_others),
                cmocka_unit_test(a_request_is_taken_apart),
                cmocka_unit_test(a_faulty_message_has_its_header),
                cmocka_unit_test(options_are_limited),
                cmocka_unit_test(messages_are_encoded),
                cmocka_unit_test(empty_messages_are_encoded),
                cmocka_unit_test(numbers_and_sizes_use_every_extension),
                cmocka_unit_test(uints_have_no_leading_zeros),
                cmocka_unit_test(what_the_format_cannot_say_is_refused),
                cmocka_unit_test(critical_options_are_known_and_in_their_limits),
                cmocka_unit_test(only_whole_bodies_are_taken),
                cmocka_unit_test(options_out_of_their_limits_are_not_found),
                cmocka_unit_test(codes_are_printed),
                cmocka_unit_test(mutants_are_refused_or_sound),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
