#include "main/policy_test.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain/scope.h"
#include "format/aif.h"
#include "main/invocation.h"

#define WORDS_MAX 6
#define WHY_SIZE 1024

/* A file on its way to expectations, an object each: line, text, allow, ask (the query of /v1/explain), granted. */
struct reading {
        const char *file;
        unsigned line;
        bool has_at;
        json_int_t at_s;
        char key[16];
        json_t *expectations;
        bool failed; /* something has been said */
};

/* ---- the file */

static void fault(struct reading *reading, const char *what) {
        say("%s:%u: %s", reading->file, reading->line, what);
        reading->failed = true;
}

/* Cut a line into words in place: white space between, unless quoted. False: a quote without end, too many words. */
static bool split(char *line, char *words[static WORDS_MAX], size_t *ret_n) {
        size_t n = 0;

        for (char *at = line; *(at += strspn(at, " \t\r\n")) != '\0' && *at != '#';) {
                char quote = *at == '"' || *at == '\'' ? *at : '\0';
                const char end[2] = { quote, '\0' };

                if (n == WORDS_MAX)
                        return false;
                words[n++] = at += quote != '\0';
                at += strcspn(at, quote != '\0' ? end : " \t\r\n");
                if (*at == '\0' && quote != '\0')
                        return false;
                if (*at != '\0')
                        *at++ = '\0';
        }
        *ret_n = n;
        return true;
}

static void read_at(struct reading *reading, char *const *words, size_t n) {
        reading->has_at = n == 2 && strcmp(words[1], "now") != 0;
        if (n != 2 || (reading->has_at && !time_parse(words[1], &reading->at_s)))
                fault(reading, "at: a time is expected, such as 2030-01-31T12:00:00Z, or now");
}

static void read_key(struct reading *reading, char *const *words, size_t n) {
        if (n != 2 || strlen(words[1]) >= sizeof(reading->key))
                fault(reading, "key: symmetric, P-256, P-384, Ed25519 or X25519 is expected");
        else
                snprintf(reading->key, sizeof(reading->key), "%s", words[1]);
}

static json_t *query_of(const struct reading *reading, char *const *words, size_t n) {
        json_t *ask = json_pack("{s:s, s:s}", "client", words[1], "audience", words[2]);
        int r = ask ? 0 : -1;

        if (r == 0 && n > 3)
                r = json_object_set_new(ask, "scope", json_string(words[3]));
        if (r == 0 && reading->has_at)
                r = json_object_set_new(ask, "at", json_integer(reading->at_s));
        if (r == 0 && reading->key[0] != '\0')
                r = json_object_set_new(ask, "key", json_string(reading->key));
        if (r == 0)
                return ask;
        json_decref(ask);
        return NULL;
}

/* "allow CLIENT AUDIENCE [SCOPE] [=> SCOPE]", "deny CLIENT AUDIENCE [SCOPE]" */
static void read_expectation(struct reading *reading, char *const *words, size_t n, const char *text) {
        bool allow = strcmp(words[0], "allow") == 0;
        const char *granted = NULL;
        json_t *expectation;

        if (allow && n >= 5 && strcmp(words[n - 2], "=>") == 0) {
                granted = words[n - 1];
                n -= 2;
        } else if (n == 4) {
                granted = words[3];
        }
        if (n < 3 || n > 4) {
                fault(reading, allow ? "allow: CLIENT AUDIENCE [SCOPE] [=> SCOPE] is expected" :
                                       "deny: CLIENT AUDIENCE [SCOPE] is expected");
                return;
        }
        expectation = json_pack("{s:I, s:s, s:b, s:o, s:s?}", "line", (json_int_t)reading->line, "text", text, "allow",
                                (int)allow, "ask", query_of(reading, words, n), "granted", granted);
        if (!expectation || json_array_append_new(reading->expectations, expectation) != 0)
                fault(reading, "it is no UTF-8 text, or memory is out");
}

static void read_line(struct reading *reading, char *line) {
        _cleanup_(freep) char *text = strdup(line + strspn(line, " \t"));
        char *words[WORDS_MAX];
        size_t n;

        if (!text || !split(line, words, &n)) {
                fault(reading, "a quote has no end, or there are too many words");
                return;
        }
        text[strcspn(text, "\r\n")] = '\0';
        if (n == 0)
                return;
        if (strcmp(words[0], "at") == 0)
                read_at(reading, words, n);
        else if (strcmp(words[0], "key") == 0)
                read_key(reading, words, n);
        else if (strcmp(words[0], "allow") == 0 || strcmp(words[0], "deny") == 0)
                read_expectation(reading, words, n, text);
        else
                fault(reading, "allow, deny, at or key is expected in front");
}

static void filep_close(FILE **file) {
        if (*file)
                (void)fclose(*file);
}

static int read_file(struct reading *reading) {
        _cleanup_(filep_close) FILE *file = fopen(reading->file, "re");
        _cleanup_(freep) char *line = NULL;
        size_t size = 0;

        while (file && getline(&line, &size, file) >= 0) {
                reading->line++;
                read_line(reading, line);
        }
        if (!file || ferror(file)) {
                say("%s: %s", reading->file, strerror(errno));
                return STATUS_USAGE;
        }
        return reading->failed ? STATUS_USAGE : STATUS_DONE;
}

/* ---- what aced says */

static bool read_scope(const char *text, struct scope *ret) {
        uint8_t bytes[SCOPE_SIZE_MAX];
        size_t size;

        if (strncmp(text, AIF_PREFIX, strlen(AIF_PREFIX)) == 0)
                return aif_parse(bytes_text(text), ret) == 0;
        if (strncmp(text, "hex:", 4) == 0)
                return bytes_from_hex(text + 4, bytes, sizeof(bytes), &size) == 0 &&
                       scope_set(ret, SCOPE_BYTES, bytes_of(bytes, size)) == 0;
        return scope_set(ret, SCOPE_TEXT, bytes_text(text)) == 0;
}

static bool same_scope(const char *wanted, const char *got) {
        struct scope a, b;

        return read_scope(wanted, &a) && read_scope(got, &b) && scope_equal(&a, &b);
}

static const char *member(const json_t *answer, const char *name) {
        const char *text = json_string_value(json_object_get(answer, name));

        return text ? text : "";
}

/* Behind what is there already; cut where it does not fit. */
static void __attribute__((format(printf, 2, 3))) add(char *why, const char *format, ...) {
        size_t n = strlen(why);
        va_list arguments;

        if (n > 0 && n + 2 < WHY_SIZE)
                n += (size_t)snprintf(why + n, WHY_SIZE - n, "; ");
        va_start(arguments, format);
        (void)vsnprintf(why + n, WHY_SIZE - n, format, arguments);
        va_end(arguments);
}

/* It was refused, in whole or in part. */
static void tell_dropped(const json_t *answer, char *why) {
        const json_t *dropped = json_object_get(answer, "dropped");

        if (strcmp(member(answer, "decision"), "granted") != 0)
                add(why, "refused: %s", member(answer, "why"));
        else
                add(why, "granted is \"%s\"", member(answer, "granted_scope"));
        for (size_t i = 0; i < json_array_size(dropped); i++)
                add(why, "%s: %s", member(json_array_get(dropped, i), "scope"),
                    member(json_array_get(dropped, i), "reason"));
}

static void tell_granted(const json_t *answer, char *why) {
        const json_t *policies = json_object_get(answer, "policies");

        add(why, "granted is \"%s\"", member(answer, "granted_scope"));
        for (size_t i = 0; i < json_array_size(policies); i++)
                add(why, "policy %" JSON_INTEGER_FORMAT " allows \"%s\"",
                    json_integer_value(json_object_get(json_array_get(policies, i), "id")),
                    member(json_array_get(policies, i), "scope"));
}

/* Does the expectation hold? If not, why says what is otherwise. */
static bool holds(const json_t *expectation, const json_t *answer, char *why) {
        const char *granted = json_string_value(json_object_get(expectation, "granted"));
        bool is_granted = strcmp(member(answer, "decision"), "granted") == 0;

        if (*member(answer, "server") == '\0') { /* most likely a typing error, which must not pass for a denial */
                add(why, "%s", member(answer, "why"));
                return false;
        }
        if (!json_is_true(json_object_get(expectation, "allow"))) {
                if (is_granted)
                        tell_granted(answer, why);
                return !is_granted;
        }
        if (is_granted && (!granted || same_scope(granted, member(answer, "granted_scope"))))
                return true;
        tell_dropped(answer, why);
        return false;
}

static int ask(const struct invocation *invocation, json_t *expectation, json_t *rows) {
        static const struct verb explain = { .words = "policy test", .method = "GET", .path = "/v1/explain" };
        const struct invocation one = { .socket = invocation->socket, .format = invocation->format, .verb = &explain,
                                        .values = json_object_get(expectation, "ask") };
        _cleanup_(answer_done) struct answer answer = {};
        char why[WHY_SIZE] = "";
        bool passed = false;
        json_t *row;
        int r = request_send(&one, NULL, &answer);

        if (r == STATUS_REFUSED)
                add(why, "%s", answer.json ? member(answer.json, "detail") : "refused");
        else if (r != STATUS_DONE)
                return r;
        else
                passed = holds(expectation, answer.json, why);
        row = json_pack("{s:O, s:O, s:b, s:s, s:s, s:s}", "line", json_object_get(expectation, "line"), "expectation",
                        json_object_get(expectation, "text"), "passed", (int)passed, "decision",
                        answer.json ? member(answer.json, "decision") : "", "scope",
                        answer.json ? member(answer.json, "granted_scope") : "", "why", why);
        return row && json_array_append_new(rows, row) == 0 ? STATUS_DONE : out_of_memory();
}

/* ---- what is said */

static const struct print_column columns[] = {
        { "line", "LINE" }, { "expectation", "EXPECTATION" }, { "passed", "PASSED" }, { "decision", "DECISION" },
        { "scope", "SCOPE" }, { "why", "WHY" }, {},
};

static size_t count_failed(const json_t *rows) {
        size_t n = 0;

        for (size_t i = 0; i < json_array_size(rows); i++)
                n += json_is_false(json_object_get(json_array_get(rows, i), "passed"));
        return n;
}

/* For people: what does not hold, as compilers say it, and how many there were. */
static int print_failures(const char *file, const json_t *rows) {
        for (size_t i = 0; i < json_array_size(rows); i++) {
                const json_t *row = json_array_get(rows, i);
                _cleanup_(freep) char *text = print_safe(member(row, "expectation"));
                _cleanup_(freep) char *why = print_safe(member(row, "why"));

                if (!text || !why)
                        return -ENOMEM;
                if (json_is_false(json_object_get(row, "passed")))
                        printf("%s:%" JSON_INTEGER_FORMAT ": %s: %s\n", file,
                               json_integer_value(json_object_get(row, "line")), text, why);
        }
        printf("%zu expectations, %zu failed\n", json_array_size(rows), count_failed(rows));
        return 0;
}

static int print_rows(enum print_format format, const json_t *rows) {
        struct printer printer = {};
        int r = printer_begin(&printer, format, columns);

        if (r == 0)
                r = printer_items(&printer, rows);
        if (r == 0)
                r = printer_end(&printer);
        printer_done(&printer);
        return r;
}

int run_policy_test(struct invocation *invocation) {
        _cleanup_(json_decrefp) json_t *expectations = json_array(), *rows = json_array();
        struct reading reading = { .file = json_string_value(json_object_get(invocation->values, "file")),
                                   .expectations = expectations };
        int r;

        if (!expectations || !rows)
                return out_of_memory();
        r = read_file(&reading);
        for (size_t i = 0; i < json_array_size(expectations) && r == STATUS_DONE; i++)
                r = ask(invocation, json_array_get(expectations, i), rows);
        if (r != STATUS_DONE)
                return r;
        r = check_printed(invocation->format == PRINT_TABLE ? print_failures(reading.file, rows) :
                                                              print_rows(invocation->format, rows));
        return r == STATUS_DONE && count_failed(rows) > 0 ? STATUS_REFUSED : r;
}
