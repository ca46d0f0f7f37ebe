#include "main/print.h"

#include <errno.h>
#include <libsmartcols.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/cleanup.h"

#define TEXT_MAX ((size_t)16 * 1024 * 1024) /* of one value as text */
#define NAME_MAX_SIZE ((size_t)1024)        /* of a member's name from the top */

/* Members that are instants, in seconds since 1970 UTC; people read them as RFC 3339, 0 is never. */
static const char *const instants[] = { "created_s", "started_s", "issued_s", "expires_s", "revoked_s", "from_s",
                                        "until_s", "at_s", "not_before_s", "active_from_s" };

static bool is_instant(const char *member) {
        for (size_t i = 0; i < N_ELEMENTS(instants); i++)
                if (strcmp(instants[i], member) == 0)
                        return true;
        return false;
}

static int add(struct buf *out, const char *text) {
        return buf_add(out, bytes_text(text));
}

static int add_safe(struct buf *out, const char *text) {
        struct bytes rest = bytes_text(text);
        int r = 0;

        while (rest.size > 0 && r == 0) {
                size_t size = bytes_shown_size(rest);

                r = size > 0 ? buf_add(out, bytes_of(rest.data, size)) : buf_printf(out, "\\x%02x", *rest.data);
                size = size > 0 ? size : 1;
                rest = bytes_of(rest.data + size, rest.size - size);
        }
        return r;
}

/* The text of a buffer, its own from now on. */
static int take_text(struct buf *out, char **ret) {
        int r = buf_add_byte(out, 0);

        if (r != 0)
                return r;
        *ret = (char *)out->data;
        *out = (struct buf){};
        return 0;
}

char *print_safe(const char *text) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(TEXT_MAX);
        char *safe;

        return add_safe(&out, text) == 0 && take_text(&out, &safe) == 0 ? safe : NULL;
}

/* ---- values as text */

static int add_instant(struct buf *out, json_int_t seconds) {
        time_t at = (time_t)seconds;
        struct tm parts;
        char text[40];

        if (seconds == 0)
                return add(out, "-");
        if (!gmtime_r(&at, &parts) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
                return buf_printf(out, "%" JSON_INTEGER_FORMAT, seconds);
        return add(out, text);
}

/* people: instants as dates, booleans as yes and no. */
static int add_value(struct buf *out, const char *member, const json_t *value, bool people) {
        const char *separator = "";
        const char *key;
        json_t *inner;
        size_t i;
        int r = 0;

        switch (json_typeof(value)) {
        case JSON_STRING:
                return add_safe(out, json_string_value(value));
        case JSON_INTEGER:
                if (people && is_instant(member))
                        return add_instant(out, json_integer_value(value));
                return buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        case JSON_REAL:
                return buf_printf(out, "%.17g", json_real_value(value));
        case JSON_TRUE:
                return add(out, people ? "yes" : "true");
        case JSON_FALSE:
                return add(out, people ? "no" : "false");
        case JSON_NULL:
                return people ? add(out, "-") : 0;
        case JSON_ARRAY:
                json_array_foreach(value, i, inner) {
                        if (r == 0 && i > 0)
                                r = add(out, people ? ", " : " ");
                        if (r == 0)
                                r = add_value(out, member, inner, people);
                }
                return r;
        case JSON_OBJECT:
                json_object_foreach((json_t *)value, key, inner) {
                        if (r == 0)
                                r = add(out, separator);
                        if (r == 0)
                                r = add_value(out, key, inner, people);
                        separator = people ? ": " : ":";
                }
                return r;
        }
        return 0;
}

/* RFC 4180 §2: quotes around what has a comma, a quote or a line break; quotes doubled. */
static int print_csv_field(const char *text, bool first) {
        if (!first)
                putchar(',');
        if (!strpbrk(text, ",\"\r\n")) {
                fputs(text, stdout);
                return 0;
        }
        putchar('"');
        for (; *text != '\0'; text++) {
                if (*text == '"')
                        putchar('"');
                putchar(*text);
        }
        putchar('"');
        return 0;
}

static int print_csv_value(const char *member, const json_t *value, bool first) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(TEXT_MAX);
        _cleanup_(freep) char *text = NULL;
        int r = value ? add_value(&out, member, value, false) : 0;

        if (r == 0)
                r = take_text(&out, &text);
        return r == 0 ? print_csv_field(text, first) : r;
}

/* A line feed alone ends a line, other than RFC 4180 has it: what reads this is cut, awk or a shell as often as not. */
static void print_csv_end(void) {
        putchar('\n');
}

/* JSON with two spaces a level, indented by margin more. */
static int print_json(const json_t *value, unsigned margin) {
        _cleanup_(freep) char *text = json_dumps(value, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_ENSURE_ASCII);

        if (!text)
                return -ENOMEM;
        for (const char *at = text; *at != '\0'; at++) {
                if (*at == 0x7f)
                        fputs("\\u007f", stdout);
                else
                        putchar(*at);
                if (*at == '\n')
                        printf("%*s", (int)margin, "");
        }
        return 0;
}

/* ---- tables */

static int table_new(bool headings, struct libscols_table **ret) {
        struct libscols_table *table = scols_new_table();

        if (!table)
                return -ENOMEM;
        scols_table_enable_noheadings(table, !headings);
        *ret = table;
        return 0;
}

static int table_set(struct libscols_line *line, size_t n, const char *member, const json_t *value) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(TEXT_MAX);
        _cleanup_(freep) char *text = NULL;
        int r = value ? add_value(&out, member, value, true) : 0;

        if (r == 0)
                r = take_text(&out, &text);
        if (r == 0 && scols_line_set_data(line, n, text) != 0)
                r = -ENOMEM;
        return r;
}

static int table_line(struct printer *printer, const json_t *item) {
        struct libscols_line *line = scols_table_new_line(printer->table, NULL);
        int r = line ? 0 : -ENOMEM;

        for (size_t i = 0; r == 0 && printer->columns[i].member; i++)
                r = table_set(line, i, printer->columns[i].member, json_object_get(item, printer->columns[i].member));
        return r;
}

/* ---- lists */

int printer_begin(struct printer *printer, enum print_format format, const struct print_column *columns) {
        int r = 0;

        *printer = (struct printer){ .format = format, .columns = columns };
        if (format == PRINT_JSON)
                fputs("{\n  \"items\": [", stdout);
        if (format == PRINT_TABLE)
                r = table_new(true, &printer->table);
        for (size_t i = 0; r == 0 && columns[i].member; i++) {
                if (format == PRINT_CSV)
                        print_csv_field(columns[i].member, i == 0);
                if (format == PRINT_TABLE && !scols_table_new_column(printer->table, columns[i].heading, 0, 0))
                        r = -ENOMEM;
        }
        if (format == PRINT_CSV)
                print_csv_end();
        return r;
}

static int printer_item(struct printer *printer, const json_t *item) {
        int r = 0;

        if (printer->format == PRINT_TABLE)
                return table_line(printer, item);
        if (printer->format == PRINT_JSON) {
                fputs(printer->n_items > 0 ? ",\n    " : "\n    ", stdout);
                return print_json(item, 4);
        }
        for (size_t i = 0; r == 0 && printer->columns[i].member; i++)
                r = print_csv_value(printer->columns[i].member, json_object_get(item, printer->columns[i].member),
                                    i == 0);
        print_csv_end();
        return r;
}

int printer_items(struct printer *printer, const json_t *items) {
        json_t *item;
        size_t i;

        json_array_foreach(items, i, item) {
                int r = printer_item(printer, item);

                if (r != 0)
                        return r;
                printer->n_items++;
        }
        return 0;
}

int printer_end(struct printer *printer) {
        if (printer->format == PRINT_JSON)
                fputs(printer->n_items > 0 ? "\n  ]\n}\n" : "]\n}\n", stdout);
        if (printer->format == PRINT_TABLE && printer->n_items == 0)
                fputs("none\n", stdout);
        if (printer->format == PRINT_TABLE && printer->n_items > 0 && scols_print_table(printer->table) != 0)
                return -ENOMEM;
        return 0;
}

void printer_done(struct printer *printer) {
        scols_unref_table(printer->table);
        printer->table = NULL;
}

/* ---- one object */

/* each() is called for every member that is no object itself, with its name from the top. */
static int walk(const json_t *object, const char *prefix,
                int (*each)(void *context, const char *name, const char *member, const json_t *value), void *context) {
        const char *member;
        json_t *value;

        json_object_foreach((json_t *)object, member, value) {
                _cleanup_(buf_done) struct buf out = BUF_INIT(NAME_MAX_SIZE);
                _cleanup_(freep) char *name = NULL;
                int r = buf_printf(&out, "%s%s%s", prefix, *prefix != '\0' ? "." : "", member);

                if (r == 0)
                        r = take_text(&out, &name);
                if (r == 0)
                        r = json_is_object(value) ? walk(value, name, each, context) :
                                                    each(context, name, member, value);
                if (r != 0)
                        return r;
        }
        return 0;
}

struct object_printer {
        struct libscols_table *table;
        bool names; /* CSV: the first line */
        bool begun;
};

static int csv_member(void *context, const char *name, const char *member, const json_t *value) {
        struct object_printer *printer = context;
        bool first = !printer->begun;

        printer->begun = true;
        return printer->names ? print_csv_field(name, first) : print_csv_value(member, value, first);
}

static int object_line(struct object_printer *printer, const char *name, const char *member, const json_t *value) {
        struct libscols_line *line = scols_table_new_line(printer->table, NULL);
        _cleanup_(freep) char *safe = print_safe(name);

        if (!line || !safe || scols_line_set_data(line, 0, safe) != 0)
                return -ENOMEM;
        return table_set(line, 1, member, value);
}

/* An array of objects has a line for each. */
static int table_member(void *context, const char *name, const char *member, const json_t *value) {
        json_t *item;
        size_t i;

        if (!json_is_object(json_array_get(value, 0)))
                return object_line(context, name, member, value);
        json_array_foreach(value, i, item) {
                int r = object_line(context, i == 0 ? name : "", member, item);

                if (r != 0)
                        return r;
        }
        return 0;
}

static int print_object_csv(const json_t *object) {
        struct object_printer names = { .names = true }, values = {};
        int r = walk(object, "", csv_member, &names);

        print_csv_end();
        if (r == 0)
                r = walk(object, "", csv_member, &values);
        print_csv_end();
        return r;
}

static int print_object_table(const json_t *object) {
        struct object_printer printer = {};
        int r = table_new(false, &printer.table);

        if (r == 0 && (!scols_table_new_column(printer.table, "NAME", 0, 0) ||
                       !scols_table_new_column(printer.table, "VALUE", 0, 0)))
                r = -ENOMEM;
        if (r == 0)
                r = walk(object, "", table_member, &printer);
        if (r == 0 && scols_print_table(printer.table) != 0)
                r = -ENOMEM;
        scols_unref_table(printer.table);
        return r;
}

int print_object(enum print_format format, const json_t *object) {
        int r;

        if (format == PRINT_TABLE)
                return print_object_table(object);
        if (format == PRINT_CSV)
                return print_object_csv(object);
        r = print_json(object, 0);
        putchar('\n');
        return r;
}

int print_finish(void) {
        if (fflush(stdout) != 0)
                return -errno;
        return ferror(stdout) ? -EIO : 0;
}
