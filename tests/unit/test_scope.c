#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/name.h"
#include "domain/refusal.h"
#include "domain/scope.h"

/* A scope as tests write it: text, or bytes when it starts with '#', or none when NULL. */
static struct scope made(const char *text) {
        struct scope scope = {};

        if (text && text[0] == '#')
                assert_int_equal(scope_set(&scope, SCOPE_BYTES, bytes_text(text + 1)), 0);
        else if (text)
                assert_int_equal(scope_set(&scope, SCOPE_TEXT, bytes_text(text)), 0);
        return scope;
}

static void expect_scope(const char *what, const struct scope *scope, const char *wanted) {
        const char *text = wanted && wanted[0] == '#' ? wanted + 1 : wanted;
        enum scope_kind kind = !wanted ? SCOPE_NONE : wanted[0] == '#' ? SCOPE_BYTES : SCOPE_TEXT;

        if (scope->kind != kind || !bytes_equal(scope_bytes(scope), bytes_text(text)))
                fail_msg("%s: kind %d \"%.*s\" instead of \"%s\"", what, scope->kind, (int)scope->size, scope->data,
                         wanted ? wanted : "none");
}

static void test_set_text(void **state) {
        static const struct {
                const char *given, *wanted; /* NULL: refused */
        } cases[] = {
                { "read", "read" },
                { "read write", "read write" },
                { "read write read", "read write" },
                { "a a a", "a" },
                { "a aa a", "a aa" },
                { "  read   write ", "read write" },
                { "!#[]~", "!#[]~" }, /* the ends of RFC 6749's ranges */
                { "https://example.com/x:read", "https://example.com/x:read" },
                { "", NULL },
                { " ", NULL },
                { "   ", NULL },
                { "re\"ad", NULL },
                { "re\\ad", NULL },
                { "re\tad", NULL },
                { "read\n", NULL },
                { "caf\xc3\xa9", NULL },
                { "read\x7f", NULL },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct scope scope = made("before");
                int r = scope_set(&scope, SCOPE_TEXT, bytes_text(cases[i].given));

                if (r != (cases[i].wanted ? 0 : REFUSE_SCOPE))
                        fail_msg("\"%s\": %d", cases[i].given, r);
                expect_scope(cases[i].given, &scope, cases[i].wanted ? cases[i].wanted : "before");
        }
}

static void test_set_zero_byte(void **state) {
        struct scope scope;

        assert_int_equal(scope_set(&scope, SCOPE_TEXT, bytes_of("a\0b", 3)), REFUSE_SCOPE);
        assert_int_equal(scope_set(&scope, SCOPE_BYTES, bytes_of("a\0b", 3)), 0);
        assert_int_equal(scope.size, 3);
        assert_memory_equal(scope.data, "a\0b", 3);
}

static void test_set_sizes(void **state) {
        uint8_t data[SCOPE_SIZE_MAX + 1];
        struct scope scope;

        memset(data, 'a', sizeof(data));
        for (enum scope_kind kind = SCOPE_TEXT; kind <= SCOPE_BYTES; kind++) {
                assert_int_equal(scope_set(&scope, kind, bytes_of(data, 0)), REFUSE_SCOPE);
                assert_int_equal(scope_set(&scope, kind, bytes_of(data, 1)), 0);
                assert_int_equal(scope_set(&scope, kind, bytes_of(data, SCOPE_SIZE_MAX)), 0);
                assert_int_equal(scope.size, SCOPE_SIZE_MAX);
                assert_int_equal(scope_set(&scope, kind, bytes_of(data, SCOPE_SIZE_MAX + 1)), REFUSE_SCOPE);
        }
        assert_int_equal(scope_set(&scope, SCOPE_NONE, bytes_of(data, 1)), REFUSE_SCOPE);
        assert_int_equal(scope_set(&scope, SCOPE_TEXT, BYTES_NONE), REFUSE_SCOPE);
}

static void test_set_from_itself(void **state) {
        struct scope scope = made("b a b");

        assert_int_equal(scope_set(&scope, SCOPE_TEXT, scope_bytes(&scope)), 0);
        expect_scope("text", &scope, "b a");
        assert_int_equal(scope_set(&scope, SCOPE_BYTES, bytes_of(scope.data + 1, 2)), 0);
        expect_scope("bytes", &scope, "# a");
}

static void test_intersect(void **state) {
        static const struct {
                const char *asked, *allowed, *wanted;
        } cases[] = {
                { "read", "read", "read" },
                { "read admin", "read write", "read" },
                { "write read", "read write", "write read" }, /* asked's order */
                { "admin", "read write", NULL },
                { "rea", "read", NULL }, /* tokens are whole */
                { "read", "rea d", NULL },
                { "Read", "read", NULL }, /* case counts, RFC 6749 §3.3 */
                { "a b c d e", "e c a", "a c e" },
                { "#\x01\x02", "#\x01\x02", "#\x01\x02" },
                { "#\x01\x02", "#\x01\x03", NULL },
                { "#\x01\x02", "#\x01", NULL },
                { "#a b", "#a", NULL }, /* bytes are opaque, whatever they look like */
                { "read", "#read", NULL },
                { "#read", "read", NULL },
                { NULL, "read", NULL },
                { "read", NULL, NULL },
                { NULL, NULL, NULL },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct scope asked = made(cases[i].asked), allowed = made(cases[i].allowed), left = made("before");

                if (scope_intersect(&asked, &allowed, &left) != (cases[i].wanted != NULL))
                        fail_msg("%zu: result and scope differ", i);
                expect_scope(cases[i].asked ? cases[i].asked : "none", &left, cases[i].wanted);
                (void)scope_intersect(&asked, &allowed, &asked);
                expect_scope("in place", &asked, cases[i].wanted);
        }
}

static void test_subtract(void **state) {
        static const struct {
                const char *scope, *taken, *wanted;
        } cases[] = {
                { "read write", "read", "write" },
                { "c b a", "b", "c a" }, /* its own order */
                { "read", "read", NULL },
                { "read", "rea", "read" },
                { "read", "write", "read" },
                { "read", NULL, "read" },
                { NULL, "read", NULL },
                { NULL, NULL, NULL },
                { "#\x01\x02", "#\x01\x02", NULL },
                { "#\x01\x02", "#\x01", "#\x01\x02" }, /* bytes are opaque */
                { "#read", "read", "#read" },
                { "read", "#read", "read" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct scope scope = made(cases[i].scope), taken = made(cases[i].taken);

                if (scope_subtract(&scope, &taken) != (cases[i].wanted != NULL))
                        fail_msg("%zu: result and scope differ", i);
                expect_scope(cases[i].scope ? cases[i].scope : "none", &scope, cases[i].wanted);
        }
}

static void test_unite(void **state) {
        static const struct {
                const char *scope, *other, *wanted;
                int r;
        } cases[] = {
                { "read", "write", "read write", 0 },
                { "read", "read", "read", 0 },
                { "read write", "write admin read", "read write admin", 0 },
                { NULL, "read", "read", 0 },
                { NULL, "#\x01", "#\x01", 0 },
                { "read", NULL, "read", 0 },
                { NULL, NULL, NULL, 0 },
                { "#\x01", "#\x01", "#\x01", 0 },
                { "#\x01", "#\x02", "#\x01", REFUSE_SCOPE },
                { "read", "#read", "read", REFUSE_SCOPE },
                { "#read", "read", "#read", REFUSE_SCOPE },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct scope scope = made(cases[i].scope), other = made(cases[i].other);

                assert_int_equal(scope_unite(&scope, &other), cases[i].r);
                expect_scope(cases[i].scope ? cases[i].scope : "none", &scope, cases[i].wanted);
        }
}

static void test_unite_too_long(void **state) {
        uint8_t data[SCOPE_SIZE_MAX];
        struct scope scope, other = made("b"), before;

        memset(data, 'a', sizeof(data));
        assert_int_equal(scope_set(&scope, SCOPE_TEXT, bytes_of(data, SCOPE_SIZE_MAX - 2)), 0);
        assert_int_equal(scope_unite(&scope, &other), 0); /* exactly full */
        assert_int_equal(scope.size, SCOPE_SIZE_MAX);

        before = scope;
        other = made("c");
        assert_int_equal(scope_unite(&scope, &other), REFUSE_SCOPE);
        assert_true(scope_equal(&scope, &before));
}

static void test_equal(void **state) {
        static const struct {
                const char *a, *b;
                bool equal;
        } cases[] = {
                { "read write", "write read", true },
                { "read", "read", true },
                { "read", "write", false },
                { "read", "read write", false },
                { "ab c", "a bc", false },
                { "#a b", "#b a", false },
                { "#\x01", "#\x01", true },
                { "read", "#read", false },
                { NULL, NULL, true },
                { NULL, "read", false },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct scope a = made(cases[i].a), b = made(cases[i].b);

                if (scope_equal(&a, &b) != cases[i].equal || scope_equal(&b, &a) != cases[i].equal)
                        fail_msg("\"%s\" and \"%s\"", cases[i].a, cases[i].b);
        }
}

static void test_names(void **state) {
        static const struct {
                const char *name;
                bool valid, valid_audience;
        } cases[] = {
                { "c1", true, true },
                { "A.Z_a-z:0@9+", true, true },
                { "", false, false },
                { "-c1", false, true },
                { ".hidden", false, true },
                { "..", false, true },
                { "a/b", false, true },
                { "coaps://rs1.example.com:5684/x?y=%20&z", false, true },
                { "a b", false, false },
                { "a\"b", false, false },
                { "a\\b", false, false },
                { "a\nb", false, false },
                { "a\x7f", false, false },
                { "caf\xc3\xa9", false, false },
                { "0123456789012345678901234567890123456789012345678901234567890123", true, true },
                { "01234567890123456789012345678901234567890123456789012345678901234", false, true },
        };
        uint8_t longest[AUDIENCE_SIZE_MAX + 1];

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct bytes name = bytes_text(cases[i].name);

                if (name_is_valid(name) != cases[i].valid || audience_is_valid(name) != cases[i].valid_audience)
                        fail_msg("\"%s\"", cases[i].name);
        }
        memset(longest, 'a', sizeof(longest));
        assert_true(audience_is_valid(bytes_of(longest, AUDIENCE_SIZE_MAX)));
        assert_false(audience_is_valid(bytes_of(longest, AUDIENCE_SIZE_MAX + 1)));
        assert_false(audience_is_valid(bytes_of("a\0b", 3)));
        assert_false(name_is_valid(bytes_of("a\0b", 3)));
        assert_false(name_is_valid(BYTES_NONE));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_set_text),
                cmocka_unit_test(test_set_zero_byte),
                cmocka_unit_test(test_set_sizes),
                cmocka_unit_test(test_set_from_itself),
                cmocka_unit_test(test_intersect),
                cmocka_unit_test(test_subtract),
                cmocka_unit_test(test_unite),
                cmocka_unit_test(test_unite_too_long),
                cmocka_unit_test(test_equal),
                cmocka_unit_test(test_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
