#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/cbor.h"
#include "support/edn.h"
#include "support/mutate.h"
#include "support/notation.h"
#include "support/vectors.h"

/* ---- well-formed or not */

static void well_formed_items_are_told_from_others(void **state) {
        static const struct {
                const char *hex;
                bool good;
        } cases[] = {
                { "00", true },
                { "17", true },
                { "1818", true },
                { "1800", true }, /* not the shortest, but well-formed */
                { "1bffffffffffffffff", true },
                { "3bffffffffffffffff", true },
                { "40", true },
                { "4401020304", true },
                { "60", true },
                { "6161", true },
                { "80", true },
                { "9fff", true },
                { "9f01820203ff", true },
                { "a0", true },
                { "bfff", true },
                { "bf0102ff", true },
                { "c000", true },
                { "d83dd08343a1010aa040", true },
                { "5fff", true },
                { "5f41004101ff", true },
                { "7f61616162ff", true },
                { "f4", true },
                { "f7", true },
                { "f0", true },
                { "f820", true },
                { "f8ff", true },
                { "f93c00", true },
                { "fa47c35000", true },
                { "fb3ff199999999999a", true },
                /* nothing, or the end in the middle of a head */
                { "", false },
                { "18", false },
                { "1901", false },
                { "1a010203", false },
                { "1b01020304050607", false },
                { "f8", false },
                { "f900", false },
                { "fb00000000000000", false },
                /* strings, arrays, maps, tags cut */
                { "41", false },
                { "61", false },
                { "5affffffff00", false },
                { "5bffffffffffffffff010203", false },
                { "7bffffffffffffffff616263", false },
                { "81", false },
                { "8200", false },
                { "9affffffff00", false },
                { "9bffffffffffffffff", false },
                { "9b8000000000000000", false },
                { "a1", false },
                { "a101", false },
                { "a2010203", false },
                { "bbffffffffffffffff0102", false },
                { "bb8000000000000000", false },
                { "c0", false },
                { "d8", false },
                { "dbffffffffffffffff", false },
                /* indefinite ones without their end, or half a pair */
                { "9f", false },
                { "9f00", false },
                { "bf00ff", false },
                { "bf000000ff", false },
                { "bf01", false },
                { "5f", false },
                { "5f4100", false },
                { "7f6161", false },
                /* chunks of another kind, or indefinite in themselves */
                { "5f00ff", false },
                { "5f6100ff", false },
                { "7f4100ff", false },
                { "5f5f4100ffff", false },
                { "7f7f6161ffff", false },
                { "5f80ff", false },
                { "5fc04100ff", false },
                { "7fa0ff", false },
                /* reserved additional information */
                { "1c", false },
                { "1d", false },
                { "1e", false },
                { "3c", false },
                { "5d00", false },
                { "7e00", false },
                { "9c00", false },
                { "bd00", false },
                { "dc00", false },
                { "fc", false },
                { "fd", false },
                { "fe", false },
                /* indefinite where there is no such thing */
                { "1f", false },
                { "3f", false },
                { "df00ff", false },
                /* a break outside */
                { "ff", false },
                { "81ff", false },
                { "a1ff", false },
                { "a100ff", false },
                { "8200ff", false },
                { "c0ff", false },
                { "9f81ffff", false },
                /* small simple values in two bytes */
                { "f800", false },
                { "f814", false },
                { "f81f", false },
                /* something behind the end */
                { "0000", false },
                { "a000", false },
                { "40ff", false },
                /* text that is no UTF-8: lone continuation, overlong, surrogate, too high, cut, bad byte */
                { "62c3a9", true },
                { "64f09f9880", true },
                { "64f48fbfbf", true },
                { "63ed9fbf", true },
                { "63ee8080", true },
                { "6180", false },
                { "62c080", false },
                { "62c1bf", false },
                { "63e08080", false },
                { "63e09fbf", false },
                { "64f0808080", false },
                { "64f08fbfbf", false },
                { "63eda080", false },
                { "63edbfbf", false },
                { "64f4908080", false },
                { "64f5808080", false },
                { "61c3", false },
                { "62c328", false },
                { "63e28228", false },
                { "64f0288cbc", false },
                { "61ff", false },
                { "7f61c361a9ff", false }, /* a character may not be split between chunks */
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                uint8_t data[SIZE_MAX_TEST];
                struct bytes raw = from_hex(cases[i].hex, data);
                struct cbor_item item;
                int r = cases[i].good ? 0 : REFUSE_MALFORMED;

                if (cbor_check(raw, CBOR_DEPTH_MAX) != r || cbor_item(raw, &item) != r)
                        fail_msg("%s: should be %s", cases[i].hex, cases[i].good ? "well-formed" : "refused");
        }
}

/* n heads around an integer */
static int check_nested(size_t n, const char *head_hex, unsigned depth_max) {
        _cleanup_(buf_done) struct buf raw = BUF_INIT(1 << 20);
        uint8_t data[SIZE_MAX_TEST];
        struct bytes head = from_hex(head_hex, data);

        for (size_t i = 0; i < n; i++)
                assert_int_equal(buf_add(&raw, head), 0);
        assert_int_equal(buf_add_byte(&raw, 0), 0);
        return cbor_check(buf_bytes(&raw), depth_max);
}

static void nesting_is_limited(void **state) {
        static const char *const heads[] = { "81", "a100", "c1", "d83d" };

        for (size_t i = 0; i < N_ELEMENTS(heads); i++) {
                assert_int_equal(check_nested(0, heads[i], 0), 0);
                assert_int_equal(check_nested(1, heads[i], 0), REFUSE_MALFORMED);
                assert_int_equal(check_nested(CBOR_DEPTH_MAX, heads[i], CBOR_DEPTH_MAX), 0);
                assert_int_equal(check_nested(CBOR_DEPTH_MAX + 1, heads[i], CBOR_DEPTH_MAX), REFUSE_MALFORMED);
                assert_int_equal(check_nested(100000, heads[i], CBOR_DEPTH_MAX), REFUSE_MALFORMED);
        }
        /* left open as well */
        assert_int_equal(check_nested(CBOR_DEPTH_MAX + 1, "9f", CBOR_DEPTH_MAX), REFUSE_MALFORMED);
        assert_int_equal(check_nested(100000, "bf00", CBOR_DEPTH_MAX), REFUSE_MALFORMED);
}

/* ---- single items */

static void items_have_their_values(void **state) {
        static const struct {
                const char *hex;
                enum cbor_kind kind;
                uint64_t argument;
                const char *content;
        } cases[] = {
                { "00", CBOR_UINT, 0, "" },
                { "17", CBOR_UINT, 23, "" },
                { "1817", CBOR_UINT, 23, "" },
                { "1903e8", CBOR_UINT, 1000, "" },
                { "1a000f4240", CBOR_UINT, 1000000, "" },
                { "1bffffffffffffffff", CBOR_UINT, UINT64_MAX, "" },
                { "20", CBOR_NEGINT, 0, "" },
                { "3903e7", CBOR_NEGINT, 999, "" },
                { "43010203", CBOR_BYTES, 3, "010203" },
                { "40", CBOR_BYTES, 0, "" },
                { "580101", CBOR_BYTES, 1, "01" },
                { "626162", CBOR_TEXT, 2, "6162" },
                { "5f4100ff", CBOR_CHUNKS, 0, "" },
                { "7fff", CBOR_CHUNKS, 0, "" },
                { "820102", CBOR_ARRAY, 2, "" },
                { "9fff", CBOR_ARRAY, 0, "" },
                { "a10102", CBOR_MAP, 1, "" },
                { "d83d820102", CBOR_TAG, 61, "820102" },
                { "f4", CBOR_BOOL, 0, "" },
                { "f5", CBOR_BOOL, 1, "" },
                { "f6", CBOR_NULL, 0, "" },
                { "f7", CBOR_SIMPLE, 23, "" },
                { "f8ff", CBOR_SIMPLE, 255, "" },
                { "f93e00", CBOR_FLOAT, 0, "" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                uint8_t data[SIZE_MAX_TEST];
                struct bytes raw = from_hex(cases[i].hex, data);
                struct cbor_item item;

                assert_int_equal(cbor_item(raw, &item), 0);
                assert_int_equal(item.kind, cases[i].kind);
                assert_true(item.argument == cases[i].argument);
                assert_hex(item.content, cases[i].content);
                assert_true(bytes_equal(item.raw, raw));
        }
}

static void floats_of_every_size_are_read(void **state) {
        static const struct {
                const char *hex;
                double number;
        } cases[] = {
                { "f90000", 0.0 },
                { "f93c00", 1.0 },
                { "f97bff", 65504.0 },
                { "f90001", 5.960464477539063e-8 },
                { "f9c400", -4.0 },
                { "fa47c35000", 100000.0 },
                { "fb3ff199999999999a", 1.1 },
                { "fb41d584367c200000", 1443944944.5 }, /* iat of RFC 8392 A.7 */
                { "f97c00", INFINITY },
                { "fbfff0000000000000", -INFINITY },
        };
        uint8_t data[SIZE_MAX_TEST];
        struct cbor_item item;

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                assert_int_equal(cbor_item(from_hex(cases[i].hex, data), &item), 0);
                assert_int_equal(item.kind, CBOR_FLOAT);
                assert_true(item.number == cases[i].number);
        }
        assert_int_equal(cbor_item(from_hex("f97e00", data), &item), 0);
        assert_true(isnan(item.number));
}

static void integers_fit_or_are_told_not_to(void **state) {
        static const struct {
                const char *hex;
                bool fits;
                int64_t value;
        } cases[] = {
                { "00", true, 0 },
                { "20", true, -1 },
                { "1b7fffffffffffffff", true, INT64_MAX },
                { "1b8000000000000000", false, 0 },
                { "3b7fffffffffffffff", true, INT64_MIN },
                { "3b8000000000000000", false, 0 },
                { "3bffffffffffffffff", false, 0 },
                { "4101", false, 0 },
                { "f5", false, 0 },
                { "c001", false, 0 },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                uint8_t data[SIZE_MAX_TEST];
                struct cbor_item item;
                int64_t value = 0;

                assert_int_equal(cbor_item(from_hex(cases[i].hex, data), &item), 0);
                assert_int_equal(cbor_item_int(&item, &value), cases[i].fits);
                assert_true(value == cases[i].value);
        }
}

/* ---- maps by field tables */

struct message {
        struct cbor_item number, text, scope, map, any, negative;
};

static const struct cbor_field fields[] = {
        { 1, CBOR_UINT, offsetof(struct message, number) },
        { 5, CBOR_TEXT, offsetof(struct message, text) },
        { 9, CBOR_TEXT_OR_BYTES, offsetof(struct message, scope) },
        { 8, CBOR_MAP, offsetof(struct message, map) },
        { 300, CBOR_ANY, offsetof(struct message, any) },
        { -1, CBOR_BYTES, offsetof(struct message, negative) },
};

static void maps_are_read_by_their_table(void **state) {
        static const struct {
                const char *hex;
                int r;
        } cases[] = {
                { "a0", 0 },
                { "bfff", 0 },
                { "a10107", 0 },
                { "bf010705627273ff", 0 },
                { "a2190fa00163616263f6", 0 },           /* unknown labels: integer and text */
                { "a1192710a1192710f7", 0 },             /* what is inside an unknown label is nobody's business */
                { "a11bffffffffffffffff00", 0 },         /* a label that fits no int64 */
                { "a1096161", 0 },
                { "a1094161", 0 },
                { "a108a0", 0 },
                { "a119012cf6", 0 },
                { "a1204101", 0 },
                /* not one map */
                { "", REFUSE_MALFORMED },
                { "00", REFUSE_MALFORMED },
                { "80", REFUSE_MALFORMED },
                { "8101", REFUSE_MALFORMED },
                { "d83da0", REFUSE_MALFORMED },
                { "a000", REFUSE_MALFORMED },
                { "a101", REFUSE_MALFORMED },
                { "a20107", REFUSE_MALFORMED },
                { "bf01ff", REFUSE_MALFORMED },
                { "bb00000000ffffffff0107", REFUSE_MALFORMED },
                /* wrong kinds */
                { "a10120", REFUSE_WRONG_TYPE },
                { "a10100ff", REFUSE_MALFORMED },
                { "a1054161", REFUSE_WRONG_TYPE },
                { "a105f6", REFUSE_WRONG_TYPE },
                { "a1057f6161ff", REFUSE_WRONG_TYPE },   /* chunks where text is asked for */
                { "a1095f4161ff", REFUSE_WRONG_TYPE },
                { "a119012c5fff", REFUSE_WRONG_TYPE },   /* nor does CBOR_ANY take them */
                { "a10880", REFUSE_WRONG_TYPE },
                { "a101c107", REFUSE_WRONG_TYPE },       /* a tag in front makes another kind */
                { "a120206161", REFUSE_MALFORMED },
                /* twice, known or not, however encoded */
                { "a201070107", REFUSE_WRONG_TYPE },
                { "a2010718010a", REFUSE_WRONG_TYPE },
                { "a201071b000000000000000108", REFUSE_WRONG_TYPE },
                { "bf01070107ff", REFUSE_WRONG_TYPE },
                { "a2190fa000190fa000", REFUSE_WRONG_TYPE },
                { "a2190fa0001a00000fa000", REFUSE_WRONG_TYPE },
                { "a2616100616100", REFUSE_WRONG_TYPE },
                { "a261610078016100", REFUSE_WRONG_TYPE },
                { "a229002900", REFUSE_WRONG_TYPE },
                { "a3010702006107000000", REFUSE_MALFORMED },
                { "a209002900", REFUSE_WRONG_TYPE },
                /* keys that are no labels */
                { "a1410100", REFUSE_WRONG_TYPE },
                { "a1f600", REFUSE_WRONG_TYPE },
                { "a18000", REFUSE_WRONG_TYPE },
                { "a1f93c0000", REFUSE_WRONG_TYPE },
                { "a17f6161ff00", REFUSE_WRONG_TYPE },
                /* 1 and -2 differ, "1" and 1 too */
                { "a301072100613100", 0 },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                uint8_t data[SIZE_MAX_TEST];
                struct message message;
                int r;

                r = cbor_map(from_hex(cases[i].hex, data), fields, N_ELEMENTS(fields), &message);
                if (r != cases[i].r)
                        fail_msg("%s: %d, should be %d", cases[i].hex, r, cases[i].r);
        }
}

static void maps_fill_every_field(void **state) {
        _cleanup_(buf_done) struct buf raw = BUF_INIT(SIZE_MAX_TEST);
        struct message message;
        int64_t number;

        memset(&message, 0xaa, sizeof(message));
        assert_int_equal(edn_encode("{9: h'0102', 77: [1, {2: 3}], -1: h'ff', 1: 12, \"x\": null, 300: true}", &raw,
                                    NULL), 0);
        assert_int_equal(cbor_map(buf_bytes(&raw), fields, N_ELEMENTS(fields), &message), 0);
        assert_true(cbor_item_int(&message.number, &number) && number == 12);
        assert_int_equal(message.text.kind, CBOR_ABSENT);
        assert_null(message.text.content.data);
        assert_int_equal(message.map.kind, CBOR_ABSENT);
        assert_int_equal(message.scope.kind, CBOR_BYTES);
        assert_hex(message.scope.content, "0102");
        assert_hex(message.scope.raw, "420102");
        assert_hex(message.negative.content, "ff");
        assert_int_equal(message.any.kind, CBOR_BOOL);
}

static void an_empty_string_is_not_an_absent_one(void **state) {
        struct message message;

        assert_int_equal(cbor_map(BYTES_LITERAL("\xa1\x05\x60"), fields, N_ELEMENTS(fields), &message), 0);
        assert_int_equal(message.text.kind, CBOR_TEXT);
        assert_non_null(message.text.content.data);
        assert_int_equal(message.text.content.size, 0);
}

static int read_pairs(size_t n) {
        _cleanup_(buf_done) struct buf raw = BUF_INIT(SIZE_MAX_TEST);
        struct cbor_writer w = CBOR_WRITER(&raw);
        struct message message;

        cbor_put_map(&w, n);
        for (size_t i = 0; i < n; i++) {
                cbor_put_uint(&w, 1000 + i);
                cbor_put_null(&w);
        }
        assert_int_equal(cbor_end(&w), 0);
        return cbor_map(buf_bytes(&raw), fields, N_ELEMENTS(fields), &message);
}

static void pairs_are_limited(void **state) {
        assert_int_equal(read_pairs(CBOR_PAIRS_MAX), 0);
        assert_int_equal(read_pairs(CBOR_PAIRS_MAX + 1), REFUSE_WRONG_TYPE);
}

static void maps_are_walked_in_order(void **state) {
        static const char *const texts[] = { "{}", "{1: 2}", "{3: [1, 2], \"a\": {1: 1}, h'00': null}",
                                             "{_ 3: [1, 2], \"a\": {1: 1}, h'00': null}", "{1: 2, 1: 3}" };
        static const size_t n_pairs[] = { 0, 1, 3, 3, 2 };

        for (size_t i = 0; i < N_ELEMENTS(texts); i++) {
                _cleanup_(buf_done) struct buf raw = BUF_INIT(SIZE_MAX_TEST);
                struct cbor_item key, value;
                size_t pos = 0, n = 0;
                int r;

                assert_int_equal(edn_encode(texts[i], &raw, NULL), 0);
                while ((r = cbor_map_next(buf_bytes(&raw), &pos, &key, &value)) == 1)
                        n++;
                assert_int_equal(r, 0);
                assert_int_equal(n, n_pairs[i]);
                if (n == 3) {
                        assert_hex(key.raw, "4100");
                        assert_hex(value.raw, "f6");
                }
        }
        static const char *const faulty[] = { "", "80", "a1" };

        for (size_t i = 0; i < N_ELEMENTS(faulty); i++) {
                uint8_t data[SIZE_MAX_TEST];
                struct cbor_item key, value;
                size_t pos = 0;

                assert_int_equal(cbor_map_next(from_hex(faulty[i], data), &pos, &key, &value), REFUSE_MALFORMED);
        }
}

static void arrays_are_limited(void **state) {
        static const struct {
                const char *hex;
                int r;
                size_t n;
        } cases[] = {
                { "80", 0, 0 },
                { "83010203", 0, 3 },
                { "9f010203ff", 0, 3 },
                { "838101820203a0", 0, 3 },
                { "8401020304", REFUSE_WRONG_TYPE, 0 },
                { "9f01020304ff", REFUSE_WRONG_TYPE, 0 },
                { "a0", REFUSE_WRONG_TYPE, 0 },
                { "01", REFUSE_WRONG_TYPE, 0 },
                { "830102", REFUSE_MALFORMED, 0 },
                { "8000", REFUSE_MALFORMED, 0 },
                { "9bffffffffffffffff0000", REFUSE_MALFORMED, 0 },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                uint8_t data[SIZE_MAX_TEST];
                struct cbor_item items[3];
                size_t n = 0;

                assert_int_equal(cbor_array(from_hex(cases[i].hex, data), items, N_ELEMENTS(items), &n), cases[i].r);
                assert_int_equal(n, cases[i].n);
        }
}

/* ---- writing */

static void heads_are_the_shortest(void **state) {
        static const struct {
                int64_t value;
                const char *hex;
        } cases[] = {
                { 0, "00" },
                { 23, "17" },
                { 24, "1818" },
                { 255, "18ff" },
                { 256, "190100" },
                { 65535, "19ffff" },
                { 65536, "1a00010000" },
                { UINT32_MAX, "1affffffff" },
                { (int64_t)UINT32_MAX + 1, "1b0000000100000000" },
                { INT64_MAX, "1b7fffffffffffffff" },
                { -1, "20" },
                { -24, "37" },
                { -25, "3818" },
                { -256, "38ff" },
                { -257, "390100" },
                { INT64_MIN, "3b7fffffffffffffff" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST);
                struct cbor_writer w = CBOR_WRITER(&out);

                cbor_put_int(&w, cases[i].value);
                assert_int_equal(cbor_end(&w), 0);
                assert_hex(buf_bytes(&out), cases[i].hex);
        }
}

static void messages_are_written(void **state) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(SIZE_MAX_TEST);
        struct cbor_writer w = CBOR_WRITER(&out);
        uint8_t *space;

        cbor_put_tag(&w, 61);
        cbor_put_map(&w, 5);
        cbor_put_uint(&w, UINT64_MAX);
        cbor_put_array(&w, 2);
        cbor_put_bytes(&w, BYTES_LITERAL("\x01\x00"));
        cbor_put_text(&w, BYTES_LITERAL("\xc3\xa9"));
        cbor_put_int(&w, -1);
        cbor_put_null(&w);
        cbor_put_uint(&w, 2);
        cbor_put_bool(&w, true);
        cbor_put_uint(&w, 3);
        cbor_put_raw(&w, BYTES_LITERAL("\x9f\xff"));
        cbor_put_uint(&w, 4);
        cbor_put_bytes_head(&w, 30);
        assert_int_equal(cbor_end(&w), 0);
        assert_int_equal(buf_reserve(&out, 30, &space), 0);
        memset(space, 0x11, 30);
        buf_added(&out, 30);
        assert_int_equal(cbor_check(buf_bytes(&out), CBOR_DEPTH_MAX), 0);
        assert_hex(buf_bytes(&out), "d83da51bffffffffffffffff8242010062c3a920f602f5039fff04581e"
                                    "111111111111111111111111111111111111111111111111111111111111");
}

static void the_first_failure_stays(void **state) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(4);
        struct cbor_writer w = CBOR_WRITER(&out);

        cbor_put_uint(&w, 1);
        cbor_put_bytes(&w, BYTES_LITERAL("12345"));
        cbor_put_uint(&w, 2); /* would fit */
        assert_int_equal(cbor_end(&w), -EOVERFLOW);
        assert_int_equal(cbor_end(&w), -EOVERFLOW);
        assert_true(out.size <= 2);
}

static void held_room_is_bounded_by_the_limit(void **state) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(100);
        struct cbor_writer w = CBOR_WRITER(&out);
        const uint8_t *before;

        cbor_put_null(&w);
        cbor_hold(&w, 1000);
        before = out.data;
        for (unsigned i = 0; i < 99; i++)
                cbor_put_null(&w);
        assert_int_equal(cbor_end(&w), 0);
        assert_ptr_equal(out.data, before);
        cbor_put_null(&w);
        assert_int_equal(cbor_end(&w), -EOVERFLOW);
}

/* ---- diagnostic notation: RFC 8949 Appendix A, and what people should not get on their terminal */

static const struct {
        const char *hex, *text;
} notation[] = {
        { "00", "0" },
        { "1864", "100" },
        { "1bffffffffffffffff", "18446744073709551615" },
        { "3bffffffffffffffff", "-18446744073709551616" },
        { "20", "-1" },
        { "3903e7", "-1000" },
        { "f90000", "0.0" },
        { "f98000", "-0.0" },
        { "f93c00", "1.0" },
        { "fb3ff199999999999a", "1.1" },
        { "f93e00", "1.5" },
        { "f97bff", "65504.0" },
        { "fa47c35000", "100000.0" },
        { "fa7f7fffff", "3.4028234663852886e+38" },
        { "fb7e37e43c8800759c", "1e+300" },
        { "f90001", "5.9604644775390625e-08" },
        { "f90400", "6.103515625e-05" },
        { "f9c400", "-4.0" },
        { "fbc010666666666666", "-4.1" },
        { "f97c00", "Infinity" },
        { "f97e00", "NaN" },
        { "f9fc00", "-Infinity" },
        { "f4", "false" },
        { "f5", "true" },
        { "f6", "null" },
        { "f7", "undefined" },
        { "f0", "simple(16)" },
        { "f8ff", "simple(255)" },
        { "c11a514b67b0", "1(1363896240)" },
        { "d818456449455446", "24(h'6449455446')" },
        { "40", "h''" },
        { "4401020304", "h'01020304'" },
        { "60", "\"\"" },
        { "6449455446", "\"IETF\"" },
        { "62225c", "\"\\\"\\\\\"" },
        { "62c3bc", "\"\xc3\xbc\"" },
        { "63e6b0b4", "\"\xe6\xb0\xb4\"" },
        { "64f0908591", "\"\xf0\x90\x85\x91\"" },
        { "63610a1b", "\"a\\u000a\\u001b\"" },
        { "62c29b", "\"\\u009b\"" },
        { "80", "[]" },
        { "8301820203820405", "[1, [2, 3], [4, 5]]" },
        { "a0", "{}" },
        { "a201020304", "{1: 2, 3: 4}" },
        { "826161a161626163", "[\"a\", {\"b\": \"c\"}]" },
        { "5f42010243030405ff", "(_ h'0102', h'030405')" },
        { "7f657374726561646d696e67ff", "(_ \"strea\", \"ming\")" },
        { "5fff", "''_" },
        { "7fff", "\"\"_" },
        { "9fff", "[_ ]" },
        { "9f018202039f0405ffff", "[_ 1, [2, 3], [_ 4, 5]]" },
        { "bf61610161629f0203ffff", "{_ \"a\": 1, \"b\": [_ 2, 3]}" },
};

static void notation_is_printed_and_read_back(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(notation); i++) {
                _cleanup_(buf_done) struct buf text = BUF_INIT(SIZE_MAX_TEST), raw = BUF_INIT(SIZE_MAX_TEST);
                uint8_t data[SIZE_MAX_TEST];

                assert_int_equal(cbor_print(from_hex(notation[i].hex, data), &text), 0);
                assert_int_equal(buf_add_byte(&text, 0), 0);
                assert_string_equal((char *)text.data, notation[i].text);
                assert_int_equal(edn_encode(notation[i].text, &raw, NULL), 0);
                assert_hex(buf_bytes(&raw), notation[i].hex);
        }
}

static void printing_respects_limits(void **state) {
        _cleanup_(buf_done) struct buf text = BUF_INIT(10);

        assert_int_equal(cbor_print(BYTES_LITERAL("\xff"), &text), REFUSE_MALFORMED);
        assert_int_equal(cbor_print(BYTES_LITERAL("\x45" "12345"), &text), -EOVERFLOW);
}

/* ---- the examples of the ACE documents, and all that can be made of them */

/* What is well-formed prints, and what is printed is read back to the same text; tables refuse it or take it. */
static void judge(struct bytes mutant, void *context) {
        _cleanup_(buf_done) struct buf text = BUF_INIT(65536), again = BUF_INIT(65536), raw = BUF_INIT(65536);
        struct cbor_item item, items[8];
        struct message message;
        size_t n, *n_good = context;
        int r;

        r = cbor_map(mutant, fields, N_ELEMENTS(fields), &message);
        assert_true(r == 0 || r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE);
        r = cbor_array(mutant, items, N_ELEMENTS(items), &n);
        assert_true(r == 0 || r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE);
        r = cbor_item(mutant, &item);
        assert_int_equal(r, cbor_print(mutant, &text));
        if (r != 0) {
                assert_int_equal(r, REFUSE_MALFORMED);
                return;
        }
        ++*n_good;
        assert_int_equal(buf_add_byte(&text, 0), 0);
        assert_int_equal(edn_encode((char *)text.data, &raw, NULL), 0);
        assert_int_equal(cbor_print(buf_bytes(&raw), &again), 0);
        assert_int_equal(buf_add_byte(&again, 0), 0);
        assert_string_equal((char *)text.data, (char *)again.data);
}

static void examples_survive_mutation(void **state) {
        json_t *root = vectors_load("ace-examples"), *vector;
        size_t i, n_good = 0;

        json_array_foreach(vectors_get(root, "vectors"), i, vector) {
                _cleanup_(buf_done) struct buf raw = vectors_bytes(vector, "hex");

                mutate(buf_bytes(&raw), judge, &n_good);
        }
        assert_true(i > 50);
        assert_true(n_good > 1000); /* most flips are inside of strings */
        json_decref(root);
}

static void examples_match_their_notation(void **state) {
        json_t *root = vectors_load("ace-examples"), *vector;
        size_t i, n = 0;

        json_array_foreach(vectors_get(root, "vectors"), i, vector) {
                _cleanup_(buf_done) struct buf raw = vectors_bytes(vector, "hex");
                _cleanup_(buf_done) struct buf written = BUF_INIT(65536), text = BUF_INIT(65536);
                const char *diagnostic = vectors_text(vector, "diagnostic");

                if (vectors_has(vector, "kind")) /* several items in a row */
                        continue;
                n++;
                assert_int_equal(edn_encode(diagnostic, &written, NULL), 0);
                assert_true(bytes_equal(buf_bytes(&written), buf_bytes(&raw)));
                assert_int_equal(cbor_print(buf_bytes(&raw), &text), 0);
                assert_int_equal(buf_add_byte(&text, 0), 0);
                if (!strstr(diagnostic, "<<"))
                        assert_string_equal((char *)text.data, diagnostic);
        }
        assert_true(n > 40);
        json_decref(root);
}

/* ---- the notation's own rules, as the conversation tests rely on them */

static void notation_is_written(void **state) {
        static const struct {
                const char *text, *hex; /* hex NULL: faulty */
        } cases[] = {
                { " 1 ", "01" },
                { "/ a comment / 1 # another", "01" },
                { "h'00 Ff'", "4200ff" },
                { "'abc'", "43616263" },
                { "\"a\\n\\u00e9\\u20ac\"", "67610ac3a9e282ac" },
                { "<< 1, \"a\" >>", "43016161" },
                { "[1, 2,]", "820102" },
                { "61(16([]))", "d83dd080" },
                { "{1: {2: 3}, -1: h''}", "a201a102032040" },
                { "-0", "00" },
                { "simple(16)", "f0" },
                { "", NULL },
                { "[1", NULL },
                { "[1 2]", NULL },
                { "{1}", NULL },
                { "{1: 2, 3}", NULL },
                { "h'0'", NULL },
                { "h'0x'", NULL },
                { "\"a", NULL },
                { "1 2", NULL },
                { "61(1", NULL },
                { "word", NULL },
                { "simple(24)", NULL },
                { "99999999999999999999", NULL },
                { "$unknown", NULL },
                { "(_ )", NULL },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf raw = BUF_INIT(SIZE_MAX_TEST);
                const char *at = NULL;

                assert_int_equal(edn_encode(cases[i].text, &raw, &at), cases[i].hex ? 0 : -EINVAL);
                assert_hex(buf_bytes(&raw), cases[i].hex ? cases[i].hex : "");
                assert_true(cases[i].hex ? at == NULL : at >= cases[i].text &&
                            at <= cases[i].text + strlen(cases[i].text));
        }
}

static void patterns_match(void **state) {
        static const struct {
                const char *pattern, *item;
                int r;
        } cases[] = {
                { "1", "1", 0 },
                { "1", "2", -ENOENT },
                { "*", "{1: 2}", 0 },
                { "bstr", "h'00'", 0 },
                { "bstr", "\"\"", -ENOENT },
                { "bstr[2]", "h'0000'", 0 },
                { "bstr[2]", "h'00'", -ENOENT },
                { "bstr[1..2]", "h'00'", 0 },
                { "tstr[1..2]", "\"abc\"", -ENOENT },
                { "uint", "-1", -ENOENT },
                { "int", "-1", 0 },
                { "uint[1..99]", "99", 0 },
                { "uint[1..99]", "100", -ENOENT },
                { "bool", "false", 0 },
                { "true", "false", -ENOENT },
                { "float", "1.5", 0 },
                { "1.5", "1.5", 0 },
                { "map", "{}", 0 },
                { "array", "{}", -ENOENT },
                { "{}", "{}", 0 },
                { "{}", "{1: 2}", -ENOENT },
                { "{2: 1, 1: *}", "{1: 2, 2: 1}", 0 },
                { "{1: *}", "{1: 2, 2: 1}", -ENOENT },
                { "{1: *, ...}", "{1: 2, 2: 1}", 0 },
                { "{...}", "{1: 2, 2: 1}", 0 },
                { "{3: *, ...}", "{1: 2, 2: 1}", -ENOENT },
                { "{8: {1: {1: 4, 2: bstr, -1: bstr[16]}}}",
                  "{8: {1: {1: 4, 2: h'01', -1: h'00000000000000000000000000000000'}}}", 0 },
                { "[1, *]", "[1, 2]", 0 },
                { "[1]", "[1, 2]", -ENOENT },
                { "[1, 2, 3]", "[1, 2]", -ENOENT },
                { "[1, ...]", "[1, 2]", 0 },
                { "[...]", "[]", 0 },
                { "61(16([bstr, map, bstr]))", "61(16([h'', {}, h'']))", 0 },
                { "61(*)", "16([])", -ENOENT },
                { "<< {1: 2} >>", "<< {1: 2} >>", 0 },
                { "<< {1: 2} >>", "<< {1: 3} >>", -ENOENT },
                { "[=a, $a]", "[h'01', h'01']", 0 },
                { "[=a, $a]", "[h'01', h'02']", -ENOENT },
                { "[=a bstr[1], =b]", "[h'01', h'02']", 0 },
                { "[=a bstr[2], =b]", "[h'01', h'02']", -ENOENT },
                { "$a", "1", -EINVAL },
                { "[1", "[1]", -EINVAL },
                { "{1 2}", "{1: 2}", -EINVAL },
                { "bstr[", "h''", -EINVAL },
                { "1 2", "1", -EINVAL },
                { "rubbish", "1", -EINVAL },
        };
        static struct edn_captures captures;

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf raw = BUF_INIT(SIZE_MAX_TEST);
                char why[200];

                captures.n_items = 0;
                assert_int_equal(edn_encode(cases[i].item, &raw, NULL), 0);
                if (edn_match(cases[i].pattern, buf_bytes(&raw), &captures, why, sizeof(why)) != cases[i].r)
                        fail_msg("%s against %s: should be %d; %s", cases[i].pattern, cases[i].item, cases[i].r, why);
                assert_int_equal(why[0] == '\0', cases[i].r == 0);
        }
        /* 1 in two bytes is 1 all the same */
        char why[200];
        assert_int_equal(edn_match("{1: 1}", BYTES_LITERAL("\xa1\x18\x01\x19\x00\x01"), NULL, why, sizeof(why)), 0);
        assert_int_equal(edn_match("=a", BYTES_LITERAL("\x01"), NULL, why, sizeof(why)), -EINVAL);
        assert_int_equal(edn_match("*", BYTES_LITERAL("\xa1"), NULL, why, sizeof(why)), -EINVAL);
}

static void mismatches_say_where(void **state) {
        char why[200];

        assert_int_equal(edn_match("{8: {1: [1, bstr[2]]}}", BYTES_LITERAL("\xa1\x08\xa1\x01\x82\x01\x41\xff"), NULL,
                                   why,
                                   sizeof(why)), -ENOENT);
        assert_string_equal(why, "at /8/1/1: bstr[2] expected, h'ff' found");
}

static void captures_are_put_in(void **state) {
        _cleanup_(buf_done) struct buf raw = BUF_INIT(SIZE_MAX_TEST);
        static struct edn_captures captures;
        struct bytes content;
        char why[200];

        assert_int_equal(edn_match("{1: =token, 2: *}", BYTES_LITERAL("\xa2\x01\x42\xaa\xbb\x02\x03"), &captures, why,
                                   sizeof(why)), 0);
        assert_hex(edn_captured(&captures, "token", &content), "42aabb");
        assert_hex(content, "aabb");
        assert_null(edn_captured(&captures, "other", NULL).data);
        assert_int_equal(edn_encode_with("{11: $token}", &captures, &raw, NULL), 0);
        assert_hex(buf_bytes(&raw), "a10b42aabb");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(well_formed_items_are_told_from_others),
                cmocka_unit_test(nesting_is_limited),
                cmocka_unit_test(items_have_their_values),
                cmocka_unit_test(floats_of_every_size_are_read),
                cmocka_unit_test(integers_fit_or_are_told_not_to),
                cmocka_unit_test(maps_are_read_by_their_table),
                cmocka_unit_test(maps_fill_every_field),
                cmocka_unit_test(an_empty_string_is_not_an_absent_one),
                cmocka_unit_test(pairs_are_limited),
                cmocka_unit_test(maps_are_walked_in_order),
                cmocka_unit_test(arrays_are_limited),
                cmocka_unit_test(heads_are_the_shortest),
                cmocka_unit_test(messages_are_written),
                cmocka_unit_test(the_first_failure_stays),
                cmocka_unit_test(held_room_is_bounded_by_the_limit),
                cmocka_unit_test(notation_is_printed_and_read_back),
                cmocka_unit_test(printing_respects_limits),
                cmocka_unit_test(examples_survive_mutation),
                cmocka_unit_test(examples_match_their_notation),
                cmocka_unit_test(notation_is_written),
                cmocka_unit_test(patterns_match),
                cmocka_unit_test(mismatches_say_where),
                cmocka_unit_test(captures_are_put_in),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
