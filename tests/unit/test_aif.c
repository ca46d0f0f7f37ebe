#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/aif.h"
#include "domain/refusal.h"
#include "format/aif.h"
#include "format/cbor.h"

static struct scope made(const char *text) {
        struct scope scope = {};

        if (*text != '\0' && aif_parse(bytes_text(text), &scope) != 0)
                fail_msg("\"%s\" is no scope", text);
        return scope;
}

static const char *printed(const struct scope *scope, char text[static AIF_TEXT_SIZE_MAX]) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(AIF_TEXT_SIZE_MAX);

        text[0] = '\0';
        if (scope->kind == SCOPE_NONE)
                return text;
        assert_int_equal(scope->kind, SCOPE_AIF);
        assert_true(aif_is_valid(scope_bytes(scope)));
        assert_int_equal(aif_print(scope, &out), 0);
        (void)snprintf(text, AIF_TEXT_SIZE_MAX, "%.*s", (int)out.size, (const char *)out.data);
        return text;
}

static void expect(const char *what, const struct scope *scope, const char *wanted) {
        char text[AIF_TEXT_SIZE_MAX];

        if (strcmp(printed(scope, text), wanted) != 0)
                fail_msg("%s: \"%s\" instead of \"%s\"", what, text, wanted);
}

/* ---- CBOR */

static const struct {
        const char *hex, *wanted; /* NULL: refused */
} encoded[] = {
        /* RFC 9237 §2.1, §3.1: [["/s/temp", 1], ["/a/led", 5], ["/dtls", 2]] */
        { "8382672f732f74656d700182662f612f6c65640582652f64746c7302", "aif:/a/led=GET,PUT;/dtls=POST;/s/temp=GET" },
        { "8182612f01", "aif:/=GET" },
        { "81826001", "aif:=1" },                                 /* an empty object is one */
        { "9f9f612f01ffff", "aif:/=GET" },                        /* indefinite lengths */
        { "8282612f0182612f04", "aif:/=GET,PUT" },                /* one object twice */
        { "8382612f0182616205826162187f", "aif:/=GET;b=127" },
        { "8282612f0082612f01", "aif:/=GET" },                    /* nothing on an object adds nothing */
        { "8182612f1bffffffffffffffff", "aif:/=GET,POST,PUT,DELETE,FETCH,PATCH,iPATCH,Dynamic-GET,Dynamic-POST,"
          "Dynamic-PUT,Dynamic-DELETE,Dynamic-FETCH,Dynamic-PATCH,Dynamic-iPATCH,18446743528248704896" },
        { "8182612f1b0000000100000000", "aif:/=Dynamic-GET" },
        { "8182612f1801", "aif:/=GET" },                          /* a long way to write 1 */
        { "818263c3a96101", "aif:éa=1" },
        { "81826667726f75703106", "aif:group1=6" },               /* Group OSCORE: requester and responder */
        { "80", NULL },
        { "8182612f00", NULL },                                   /* nothing left */
        { "", NULL },
        { "a1612f01", NULL },                                     /* a map */
        { "82612f01", NULL },                                     /* a pair alone */
        { "8181612f", NULL },
        { "8183612f0102", NULL },
        { "8182412f01", NULL },                                   /* bytes for an object */
        { "81820101", NULL },
        { "81826120f5", NULL },
        { "8182612f20", NULL },                                   /* -1 */
        { "8182612f613f", NULL },
        { "8182612ff93c00", NULL },                               /* 1.0 */
        { "8182612fc101", NULL },
        { "8182610101", NULL },                                   /* a control character */
        { "8182611f01", NULL },
        { "8182611e01", NULL },
        { "8182617f01", NULL },
        { "8182610001", NULL },
        { "818261ff01", NULL },                                   /* no UTF-8 */
        { "8182612f0100", NULL },                                 /* something behind it */
        { "8182612f", NULL },
        { "81827f612fff01", NULL },                               /* text in chunks */
};

static void test_decode(void **state) {
        uint8_t raw[AIF_ENCODED_SIZE_MAX];
        size_t size;

        for (size_t i = 0; i < N_ELEMENTS(encoded); i++) {
                struct scope scope = made("aif:before=1");
                int r;

                assert_int_equal(bytes_from_hex(encoded[i].hex, raw, sizeof(raw), &size), 0);
                r = aif_decode(bytes_of(raw, size), &scope);
                if (r != (encoded[i].wanted ? 0 : REFUSE_SCOPE))
                        fail_msg("%s: %d", encoded[i].hex, r);
                expect(encoded[i].hex, &scope, encoded[i].wanted ? encoded[i].wanted : "aif:before=1");
        }
}

/* What is put is a byte string with the shortest encoding, and the same however the scope was made. */
static void test_put(void **state) {
        static const struct {
                const char *text, *hex;
        } cases[] = {
                { "aif:/s/temp=GET;/a/led=PUT,GET;/dtls=2",
                  "581c8382662f612f6c65640582652f64746c730282672f732f74656d7001" },
                { "aif:/a=1;/a=4", "468182622f6105" },
                { "aif:/=24", "468182612f1818" },
                { "aif:/=4294967296", "4d8182612f1b0000000100000000" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf out = BUF_INIT(AIF_ENCODED_SIZE_MAX);
                struct scope scope = made(cases[i].text), again;
                struct cbor_writer w = CBOR_WRITER(&out);
                struct cbor_item item;
                char hex[2 * AIF_ENCODED_SIZE_MAX + 1];

                aif_put(&w, &scope);
                assert_int_equal(cbor_end(&w), 0);
                bytes_to_hex(buf_bytes(&out), hex, sizeof(hex));
                assert_string_equal(hex, cases[i].hex);
                assert_int_equal(cbor_item(buf_bytes(&out), &item), 0);
                assert_int_equal(item.kind, CBOR_BYTES);
                assert_int_equal(aif_decode(item.content, &again), 0);
                assert_true(scope_equal(&scope, &again));
        }
}

/* The largest scope that there is fits the bounds of its encoding; one object more does not fit a scope. */
static void test_sizes(void **state) {
        struct scope scope = {}, before;
        uint8_t name[SCOPE_SIZE_MAX];
        size_t n = 0;

        for (unsigned c = '!'; c < 0x7f; c++) {
                name[0] = (uint8_t)c;
                if (aif_add(&scope, bytes_of(name, 1), 15) != 0)
                        break;
                n++;
        }
        assert_int_equal(n, (SCOPE_SIZE_MAX - 1) / 4);
        before = scope;
        assert_int_equal(aif_add(&scope, BYTES_LITERAL("zz"), 1), REFUSE_SCOPE);
        assert_true(scope_equal(&scope, &before));

        memset(name, 'a', sizeof(name));
        scope = (struct scope){};
        assert_int_equal(aif_add(&scope, bytes_of(name, SCOPE_SIZE_MAX - 3), 1), REFUSE_SCOPE);
        assert_int_equal(scope.kind, SCOPE_NONE);
        assert_int_equal(aif_add(&scope, bytes_of(name, SCOPE_SIZE_MAX - 4), 1), 0);
        assert_int_equal(scope.size, SCOPE_SIZE_MAX);
        assert_int_equal(aif_add(&scope, bytes_of(name, SCOPE_SIZE_MAX - 4), 16), REFUSE_SCOPE); /* a digit more */
        assert_int_equal(aif_add(&scope, bytes_of(name, SCOPE_SIZE_MAX - 4), 8), 0);
}

/* ---- text */

static void test_text(void **state) {
        static const struct {
                const char *text, *wanted; /* NULL: refused */
        } cases[] = {
                { "aif:/s/temp=GET,PUT;/a/led=3", "aif:/a/led=GET,POST;/s/temp=GET,PUT" },
                { "aif:/a=PUT,GET,PUT", "aif:/a=GET,PUT" },
                { "aif:/a=GET,128", "aif:/a=GET,128" },
                { "aif:a=b=1", "aif:a=b=1" }, /* the last '=' counts */
                { "aif:a\\;b=1;c\\\\=2", "aif:a\\;b=1;c\\\\=2" },
                { "aif:a b=1", "aif:a b=1" },
                { "aif:/a=18446744073709551615", "aif:/a=GET,POST,PUT,DELETE,FETCH,PATCH,iPATCH,Dynamic-GET,"
                  "Dynamic-POST,Dynamic-PUT,Dynamic-DELETE,Dynamic-FETCH,Dynamic-PATCH,Dynamic-iPATCH,"
                  "18446743528248704896" },
                { "aif:/a=18446744073709551616", NULL },
                { "aif:/a=0", NULL },
                { "aif:/a=-1", NULL },
                { "aif:/a=1;", "aif:/a=GET" },
                { "aif:/a=1;;/b=1", NULL },
                { "aif:/a=", NULL },
                { "aif:/a=GET,", NULL },
                { "aif:/a=get", NULL },
                { "aif:/a=G", NULL },
                { "aif:/a", NULL },
                { "aif:a\\=1", NULL },
                { "aif:a\\n=1", NULL },
                { "aif:a\t=1", NULL },
                { "aif:caf\xe9=1", NULL },
                { "aif:", NULL },
                { "aif", NULL },
                { "AIF:/a=1", NULL },
                { "", NULL },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct scope scope = {}, again = {};
                char text[AIF_TEXT_SIZE_MAX];
                int r = aif_parse(bytes_text(cases[i].text), &scope);

                if (r != (cases[i].wanted ? 0 : REFUSE_SCOPE))
                        fail_msg("%s: %d", cases[i].text, r);
                expect(cases[i].text, &scope, cases[i].wanted ? cases[i].wanted : "");
                if (r != 0)
                        continue;
                assert_int_equal(aif_parse(bytes_text(printed(&scope, text)), &again), 0);
                assert_true(scope_equal(&scope, &again));
        }
}

static void test_print_cut(void **state) {
        struct scope scope = made("aif:/s/temp=GET,PUT");
        char text[24];

        aif_print_cut(&scope, text, sizeof(text));
        assert_string_equal(text, "aif:/s/temp=GET,PUT");
        aif_print_cut(&scope, text, 16);
        assert_string_equal(text, "aif:/s/temp=...");
}

/* ---- the algebra */

static const struct {
        const char *a, *b, *both, *either, *rest; /* rest: of a, without b */
} pairs[] = {
        { "aif:/a=3", "aif:/a=6", "aif:/a=POST", "aif:/a=GET,POST,PUT", "aif:/a=GET" },
        { "aif:/a=1", "aif:/b=1", "", "aif:/a=GET;/b=GET", "aif:/a=GET" },
        { "aif:/a=1;/b=2;/c=4", "aif:/b=2", "aif:/b=POST", "aif:/a=GET;/b=POST;/c=PUT", "aif:/a=GET;/c=PUT" },
        { "aif:/a=1", "aif:/a=1", "aif:/a=GET", "aif:/a=GET", "" },
        { "aif:/a=1", "aif:/aa=1", "", "aif:/a=GET;/aa=GET", "aif:/a=GET" }, /* objects are whole */
        { "aif:/A=1", "aif:/a=1", "", "aif:/A=GET;/a=GET", "aif:/A=GET" },
        { "aif:=1", "aif:a=1", "", "aif:=1;a=1", "aif:=1" },
        { "aif:/a=1", "", "", "aif:/a=GET", "aif:/a=GET" },
        { "", "aif:/a=1", "", "aif:/a=GET", "" },
};

static void test_algebra(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(pairs); i++) {
                struct scope a = made(pairs[i].a), b = made(pairs[i].b), scope = {};

                assert_int_equal(scope_intersect(&a, &b, &scope), pairs[i].both[0] != '\0');
                expect("both", &scope, pairs[i].both);
                assert_int_equal(scope_intersect(&b, &a, &scope), pairs[i].both[0] != '\0');
                expect("both, the other way", &scope, pairs[i].both);
                scope = a;
                assert_int_equal(scope_unite(&scope, &b), 0);
                expect("either", &scope, pairs[i].either);
                scope = a;
                assert_int_equal(scope_subtract(&scope, &b), pairs[i].rest[0] != '\0');
                expect("the rest", &scope, pairs[i].rest);
        }
}

/* Of another kind there is nothing in common. */
static void test_kinds(void **state) {
        struct scope aif = made("aif:/a=1"), text = {}, bytes = {}, scope;

        assert_int_equal(scope_set(&text, SCOPE_TEXT, BYTES_LITERAL("/a")), 0);
        assert_int_equal(scope_set(&bytes, SCOPE_BYTES, scope_bytes(&aif)), 0);
        for (int i = 0; i < 2; i++) {
                const struct scope *other = i == 0 ? &text : &bytes;

                assert_false(scope_intersect(&aif, other, &scope));
                assert_false(scope_intersect(other, &aif, &scope));
                assert_false(scope_equal(&aif, other));
                scope = aif;
                assert_int_equal(scope_unite(&scope, other), REFUSE_SCOPE);
                assert_true(scope_subtract(&scope, other));
                assert_true(scope_equal(&scope, &aif));
        }
        /* and scope_set() takes only what aif_add() makes */
        assert_int_equal(scope_set(&scope, SCOPE_AIF, scope_bytes(&aif)), 0);
        assert_int_equal(scope_set(&scope, SCOPE_AIF, scope_bytes(&text)), REFUSE_SCOPE);
        assert_int_equal(scope_set(&scope, SCOPE_AIF, BYTES_LITERAL("\x01")), REFUSE_SCOPE);
        assert_int_equal(scope_set(&scope, SCOPE_AIF, BYTES_LITERAL("\x01/a\x1f" "01\x1e")), REFUSE_SCOPE);
        assert_int_equal(scope_set(&scope, SCOPE_AIF, BYTES_LITERAL("\x01/b\x1f" "1\x1e/a\x1f" "1\x1e")), REFUSE_SCOPE);
        assert_int_equal(scope_set(&scope, SCOPE_AIF, BYTES_LITERAL("\x01/a\x1f" "1\x1e/a\x1f" "2\x1e")), REFUSE_SCOPE);
        assert_int_equal(scope_set(&scope, SCOPE_AIF, BYTES_LITERAL("\x01/a\x1f" "11112222333344445\x1e")),
                         REFUSE_SCOPE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_decode),    cmocka_unit_test(test_put),     cmocka_unit_test(test_sizes),
                cmocka_unit_test(test_text),      cmocka_unit_test(test_print_cut),
                cmocka_unit_test(test_algebra),   cmocka_unit_test(test_kinds),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
