#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/json.h"
#include "support/mutate.h"

struct message {
        const char *name;
        struct json_texts profiles;
        struct json_int lifetime_s, any;
        struct json_bool suspended;
        const char *note;
};

static const struct json_field fields[] = {
        { "name", JSON_FIELD_TEXT, offsetof(struct message, name), .required = true, .min = 1, .max = 8 },
        { "profiles", JSON_FIELD_TEXTS, offsetof(struct message, profiles), .max = 10 },
        { "lifetime_s", JSON_FIELD_INT, offsetof(struct message, lifetime_s), .min = 1, .max = 3600 },
        { "any", JSON_FIELD_INT, offsetof(struct message, any), .required = false },
        { "suspended", JSON_FIELD_BOOL, offsetof(struct message, suspended), .required = false },
        { "note", JSON_FIELD_TEXT, offsetof(struct message, note), .min = 2 },
};

static int read_message(const char *text, struct message *message, struct json_document *document,
                        struct diags *faults) {
        return json_read(bytes_text(text), fields, N_ELEMENTS(fields), message, document, faults);
}

static void members_are_read(void **state) {
        _cleanup_(json_document_done) struct json_document document = {};
        _cleanup_(diags_done) struct diags faults = {};
        struct message message;

        assert_int_equal(read_message(" {\"any\":-9223372036854775808,\"name\":\"caf\\u00e9\","
                                      "\"profiles\":[\"coap_dtls\",\"\"],\"suspended\":true,\"lifetime_s\":3600}\n",
                                      &message, &document, &faults), 0);
        assert_string_equal(message.name, "caf\xc3\xa9");
        assert_true(message.profiles.set);
        assert_int_equal(message.profiles.n_items, 2);
        assert_string_equal(message.profiles.items[0], "coap_dtls");
        assert_string_equal(message.profiles.items[1], "");
        assert_true(message.suspended.set && message.suspended.value);
        assert_true(message.lifetime_s.set && message.lifetime_s.value == 3600);
        assert_true(message.any.set && message.any.value == INT64_MIN);
        assert_null(message.note);
        assert_int_equal(faults.n_items, 0);
}

static void absent_members_are_absent(void **state) {
        _cleanup_(json_document_done) struct json_document document = {};
        _cleanup_(diags_done) struct diags faults = {};
        struct message message;

        memset(&message, 0xaa, sizeof(message));
        assert_int_equal(read_message("{\"name\":\"a\"}", &message, &document, &faults), 0);
        assert_string_equal(message.name, "a");
        assert_null(message.note);
        assert_false(message.profiles.set || message.lifetime_s.set || message.any.set || message.suspended.set);

        /* an empty array and false are there */
        json_document_done(&document);
        assert_int_equal(read_message("{\"name\":\"a\",\"profiles\":[],\"suspended\":false,\"any\":0}", &message,
                                      &document, &faults), 0);
        assert_true(message.profiles.set && message.profiles.n_items == 0);
        assert_true(message.suspended.set && !message.suspended.value);
        assert_true(message.any.set && message.any.value == 0);
}

static void faults_name_the_member(void **state) {
        static const struct {
                const char *text;
                int r;
                const char *line; /* NULL: jansson's words */
        } cases[] = {
                { "{}", REFUSE_ADMIN_VALUE, "member \"name\": it is missing" },
                { "{\"name\":1}", REFUSE_ADMIN_VALUE, "member \"name\": a string is expected" },
                { "{\"name\":null}", REFUSE_ADMIN_VALUE, "member \"name\": a string is expected" },
                { "{\"name\":\"\"}", REFUSE_ADMIN_VALUE, "member \"name\": 1 to 8 bytes are expected" },
                { "{\"name\":\"123456789\"}", REFUSE_ADMIN_VALUE, "member \"name\": 1 to 8 bytes are expected" },
                { "{\"name\":\"a\",\"note\":\"1\"}", REFUSE_ADMIN_VALUE,
                  "member \"note\": at least 2 bytes are expected" },
                { "{\"name\":\"a\",\"profiles\":\"coap_dtls\"}", REFUSE_ADMIN_VALUE,
                  "member \"profiles\": an array of strings is expected" },
                { "{\"name\":\"a\",\"profiles\":[\"a\",1]}", REFUSE_ADMIN_VALUE,
                  "member \"profiles\": an array of strings is expected" },
                { "{\"name\":\"a\",\"profiles\":[\"a\",[\"b\"]]}", REFUSE_ADMIN_VALUE,
                  "member \"profiles\": an array of strings is expected" },
                { "{\"name\":\"a\",\"profiles\":[\"12345678901\"]}", REFUSE_ADMIN_VALUE,
                  "member \"profiles\": in each string 0 to 10 bytes are expected" },
                { "{\"name\":\"a\",\"lifetime_s\":\"1\"}", REFUSE_ADMIN_VALUE,
                  "member \"lifetime_s\": an integer is expected" },
                { "{\"name\":\"a\",\"lifetime_s\":1.0}", REFUSE_ADMIN_VALUE,
                  "member \"lifetime_s\": an integer is expected" },
                { "{\"name\":\"a\",\"lifetime_s\":0}", REFUSE_ADMIN_VALUE,
                  "member \"lifetime_s\": 1 to 3600 is expected" },
                { "{\"name\":\"a\",\"lifetime_s\":3601}", REFUSE_ADMIN_VALUE,
                  "member \"lifetime_s\": 1 to 3600 is expected" },
                { "{\"name\":\"a\",\"suspended\":1}", REFUSE_ADMIN_VALUE,
                  "member \"suspended\": true or false is expected" },
                { "{\"name\":\"a\",\"suspended\":\"true\"}", REFUSE_ADMIN_VALUE,
                  "member \"suspended\": true or false is expected" },
                { "{\"name\":\"a\",\"proflies\":[]}", REFUSE_ADMIN_VALUE,
                  "member \"proflies\": there is no such member" },
                { "{\"name\":\"a\",\"Name\":\"b\"}", REFUSE_ADMIN_VALUE, "member \"Name\": there is no such member" },
                /* all at once, in the table's order, unknown ones last */
                { "{\"x\":1,\"suspended\":0,\"any\":[]}", REFUSE_ADMIN_VALUE,
                  "member \"name\": it is missing; member \"any\": an integer is expected; "
                  "member \"suspended\": true or false is expected; member \"x\": there is no such member" },
                { "", REFUSE_ADMIN_SYNTAX, "a JSON text is expected, there is none" },
                { "[]", REFUSE_ADMIN_SYNTAX, "a JSON object is expected" },
                { "\"name\"", REFUSE_ADMIN_SYNTAX, "a JSON object is expected" },
                { "null", REFUSE_ADMIN_SYNTAX, "a JSON object is expected" },
                { "{", REFUSE_ADMIN_SYNTAX, NULL },
                { "{\"name\":\"a\"", REFUSE_ADMIN_SYNTAX, NULL },
                { "{\"name\":\"a\"}}", REFUSE_ADMIN_SYNTAX, NULL },
                { "{\"name\":\"a\"} {}", REFUSE_ADMIN_SYNTAX, NULL },
                { "{\"name\":\"a\",}", REFUSE_ADMIN_SYNTAX, NULL },
                { "{'name':'a'}", REFUSE_ADMIN_SYNTAX, NULL },
                { "{\"name\":\"a\",\"name\":\"a\"}", REFUSE_ADMIN_SYNTAX, NULL },
                { "{\"name\":\"a\",\"any\":99999999999999999999}", REFUSE_ADMIN_SYNTAX, NULL },
                { "{\"name\":\"\\u0000\"}", REFUSE_ADMIN_SYNTAX, NULL },
                { "{\"name\":\"\xff\"}", REFUSE_ADMIN_SYNTAX, NULL },
                { "{\"name\":\"\xc0\x80\"}", REFUSE_ADMIN_SYNTAX, NULL },
                { "{\"name\":\"a\nb\"}", REFUSE_ADMIN_SYNTAX, NULL },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(json_document_done) struct json_document document = {};
                _cleanup_(diags_done) struct diags faults = {};
                struct message message;
                char line[400];
                int r;

                memset(&message, 0xaa, sizeof(message));
                r = read_message(cases[i].text, &message, &document, &faults);
                if (r != cases[i].r)
                        fail_msg("%s: %d, should be %d", cases[i].text, r, cases[i].r);
                assert_null(document.root);
                assert_null(message.name); /* nothing is handed out of a document that is gone */
                json_faults_line(&faults, line, sizeof(line));
                if (cases[i].line)
                        assert_string_equal(line, cases[i].line);
                else
                        assert_true(faults.n_items == 1 && strlen(line) > 10);
        }
}

static void syntax_faults_have_a_line(void **state) {
        _cleanup_(json_document_done) struct json_document document = {};
        _cleanup_(diags_done) struct diags faults = {};
        struct message message;
        char line[200], cut[8];

        assert_int_equal(read_message("{\n\"name\":\n!}", &message, &document, &faults), REFUSE_ADMIN_SYNTAX);
        assert_int_equal(faults.n_items, 1);
        assert_int_equal(faults.items[0].line, 3);
        json_faults_line(&faults, line, sizeof(line));
        assert_memory_equal(line, "line 3: ", 8);
        json_faults_line(&faults, cut, sizeof(cut));
        assert_string_equal(cut, "line 3:");
}

static void too_many_faults_are_cut_off(void **state) {
        _cleanup_(json_document_done) struct json_document document = {};
        _cleanup_(diags_done) struct diags faults = {};
        _cleanup_(buf_done) struct buf text = BUF_INIT(100000);
        struct message message;
        char line[64];

        assert_int_equal(buf_printf(&text, "{\"name\":\"a\""), 0);
        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(buf_printf(&text, ",\"x%u\":0", i), 0);
        assert_int_equal(buf_printf(&text, "}"), 0);
        assert_int_equal(json_read(buf_bytes(&text), fields, N_ELEMENTS(fields), &message, &document, &faults),
                         REFUSE_ADMIN_VALUE);
        assert_int_equal(faults.n_items, JSON_FAULTS_MAX);
        json_faults_line(&faults, line, sizeof(line));
        assert_int_equal(strlen(line), sizeof(line) - 1);
}

static int parse_nested(size_t depth, char open, char close) {
        _cleanup_(json_document_done) struct json_document document = {};
        _cleanup_(diags_done) struct diags faults = {};
        _cleanup_(buf_done) struct buf text = BUF_INIT(JSON_TEXT_MAX);
        int r;

        for (size_t i = 0; i < depth; i++)
                assert_int_equal(buf_printf(&text, open == '{' && i > 0 ? "\"a\":%c" : "%c", open), 0);
        for (size_t i = 0; i < depth; i++)
                assert_int_equal(buf_add_byte(&text, (uint8_t)close), 0);
        r = json_parse(buf_bytes(&text), &document, &faults);
        assert_int_equal(faults.n_items, r == 0 ? 0 : 1);
        return r;
}

static void nesting_and_size_are_limited(void **state) {
        _cleanup_(json_document_done) struct json_document document = {};
        _cleanup_(diags_done) struct diags faults = {};
        _cleanup_(buf_done) struct buf text = BUF_INIT(2 * JSON_TEXT_MAX);
        uint8_t *space;

        assert_int_equal(parse_nested(JSON_DEPTH_MAX, '[', ']'), 0);
        assert_int_equal(parse_nested(JSON_DEPTH_MAX + 1, '[', ']'), REFUSE_ADMIN_SYNTAX);
        assert_int_equal(parse_nested(JSON_DEPTH_MAX, '{', '}'), 0);
        assert_int_equal(parse_nested(JSON_DEPTH_MAX + 1, '{', '}'), REFUSE_ADMIN_SYNTAX);
        assert_int_equal(parse_nested(100000, '[', ']'), REFUSE_ADMIN_SYNTAX);

        /* brackets in strings do not count, escaped quotes do not end them */
        assert_int_equal(json_parse(BYTES_LITERAL("[\"[[[[[[[[[[\\\"[[[[[[[[[\"]"), &document, &faults), 0);
        json_document_done(&document);

        assert_int_equal(buf_reserve(&text, JSON_TEXT_MAX + 1, &space), 0);
        memset(space, ' ', JSON_TEXT_MAX + 1);
        space[0] = '0';
        buf_added(&text, JSON_TEXT_MAX + 1);
        assert_int_equal(json_parse(buf_bytes(&text), &document, &faults), REFUSE_ADMIN_SYNTAX);
        assert_int_equal(json_parse(bytes_of(text.data, JSON_TEXT_MAX), &document, &faults), 0);
}

static void strings_in_an_array_are_limited(void **state) {
        for (size_t n = JSON_TEXTS_MAX; n <= JSON_TEXTS_MAX + 1; n++) {
                _cleanup_(json_document_done) struct json_document document = {};
                _cleanup_(diags_done) struct diags faults = {};
                _cleanup_(buf_done) struct buf text = BUF_INIT(100000);
                struct message message;

                assert_int_equal(buf_printf(&text, "{\"name\":\"a\",\"profiles\":["), 0);
                for (size_t i = 0; i < n; i++)
                        assert_int_equal(buf_printf(&text, "%s\"p\"", i > 0 ? "," : ""), 0);
                assert_int_equal(buf_printf(&text, "]}"), 0);
                assert_int_equal(json_read(buf_bytes(&text), fields, N_ELEMENTS(fields), &message, &document, &faults),
                                 n > JSON_TEXTS_MAX ? REFUSE_ADMIN_VALUE : 0);
                assert_int_equal(message.profiles.n_items, n > JSON_TEXTS_MAX ? 0 : n);
                if (n > JSON_TEXTS_MAX)
                        assert_string_equal(faults.items[0].text, "member \"profiles\": at most 32 strings are expected");
        }
}

static void values_are_printed_compactly(void **state) {
        static const char *const texts[] = { "{\"b\":1,\"a\":[true,null,\"x\\ny\",-5,1.5]}", "[]", "\"caf\xc3\xa9\"",
                                             "null" };

        for (size_t i = 0; i < N_ELEMENTS(texts); i++) {
                _cleanup_(json_document_done) struct json_document document = {};
                _cleanup_(diags_done) struct diags faults = {};
                _cleanup_(buf_done) struct buf out = BUF_INIT(1000), tight = BUF_INIT(3);

                assert_int_equal(json_parse(bytes_text(texts[i]), &document, &faults), 0);
                assert_int_equal(json_print(document.root, &out), 0);
                assert_true(bytes_equal(buf_bytes(&out), bytes_text(texts[i])));
                assert_int_equal(json_print(document.root, &tight), strlen(texts[i]) > 3 ? -EOVERFLOW : 0);
                assert_int_equal(tight.size, strlen(texts[i]) > 3 ? 0 : strlen(texts[i]));
        }
        struct buf out = BUF_INIT(1000);
        assert_int_equal(json_print(NULL, &out), -EINVAL);
}

static void judge(struct bytes mutant, void *context) {
        _cleanup_(json_document_done) struct json_document document = {};
        _cleanup_(diags_done) struct diags faults = {};
        struct message message;
        size_t *n_good = context;
        int r;

        r = json_read(mutant, fields, N_ELEMENTS(fields), &message, &document, &faults);
        assert_true(r == 0 || r == REFUSE_ADMIN_SYNTAX || r == REFUSE_ADMIN_VALUE);
        assert_int_equal(faults.n_items > 0, r != 0);
        assert_int_equal(document.root != NULL, r == 0);
        *n_good += r == 0;
}

static void mutants_are_refused_or_sound(void **state) {
        size_t n_good = 0;

        mutate(BYTES_LITERAL("{\"name\":\"a\\u00e9\",\"profiles\":[\"coap_dtls\"],\"lifetime_s\":60,"
                             "\"suspended\":false}"),
               judge, &n_good);
        assert_in_range(n_good, 10, 500);
}

/* Every wipe() of this program comes by here (ld's --wrap): was it the key's turn? */
void __real_wipe(void *data, size_t size);
void __wrap_wipe(void *data, size_t size);

static struct bytes awaited;
static unsigned n_awaited;

void __wrap_wipe(void *data, size_t size) {
        if (awaited.size > 0 && bytes_find(bytes_of(data, size), awaited))
                n_awaited++;
        __real_wipe(data, size);
}

static void keys_are_wiped_from_freed_memory(void **state) {
        struct json_document document = {};
        _cleanup_(diags_done) struct diags faults = {};

        json_wipe_what_is_freed();
        assert_int_equal(json_parse(BYTES_LITERAL("{\"key_hex\":\"0123456789abcdef0123456789abcdef\"}"), &document,
                                    &faults), 0);
        awaited = BYTES_LITERAL("0123456789abcdef0123456789abcdef");
        n_awaited = 0;
        json_document_done(&document);
        awaited = BYTES_NONE;
        json_set_alloc_funcs(malloc, free);
        assert_int_equal(n_awaited, 1);
        assert_null(document.root);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(members_are_read),
                cmocka_unit_test(absent_members_are_absent),
                cmocka_unit_test(faults_name_the_member),
                cmocka_unit_test(syntax_faults_have_a_line),
                cmocka_unit_test(too_many_faults_are_cut_off),
                cmocka_unit_test(nesting_and_size_are_limited),
                cmocka_unit_test(strings_in_an_array_are_limited),
                cmocka_unit_test(values_are_printed_compactly),
                cmocka_unit_test(mutants_are_refused_or_sound),
                cmocka_unit_test(keys_are_wiped_from_freed_memory),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
