#include "main/rows.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "domain/refusal.h"
#include "format/csv.h"

/* A cell that says that a text or a list is empty; one that has nothing in it says nothing. No name has quotes. */
#define CELL_EMPTY "\"\""
#define NUMBER_DIGITS_MAX 18

enum cell { CELL_TEXT, CELL_LIST, CELL_NUMBER, CELL_BOOLEAN };

/* In the order of an export: who it is about first. */
static const struct {
        const char *name;
        enum cell cell;
} columns[] = {
        { "kind", CELL_TEXT },
        { "name", CELL_TEXT },
        { "client", CELL_TEXT },
        { "server", CELL_TEXT },
        { "label", CELL_TEXT },
        { "absent", CELL_BOOLEAN },
        { "suspended", CELL_BOOLEAN },
        { "labels", CELL_LIST },
        { "profiles", CELL_LIST },
        { "default_audience", CELL_TEXT },
        { "max_lifetime_s", CELL_NUMBER },
        { "tokens_max", CELL_NUMBER },
        { "refresh_lifetime_s", CELL_NUMBER },
        { "may_introspect", CELL_BOOLEAN },
        { "credential", CELL_TEXT },
        { "identity", CELL_TEXT },
        { "identity_hex", CELL_TEXT },
        { "key_hex", CELL_TEXT },
        { "public_key_hex", CELL_TEXT },
        { "kid_hex", CELL_TEXT },
        { "match", CELL_TEXT },
        { "master_secret_hex", CELL_TEXT },
        { "master_salt_hex", CELL_TEXT },
        { "sender_id_hex", CELL_TEXT },
        { "recipient_id_hex", CELL_TEXT },
        { "id_context_hex", CELL_TEXT },
        { "alg", CELL_TEXT },
        { "hkdf", CELL_TEXT },
        { "renews", CELL_BOOLEAN },
        { "sender_number", CELL_NUMBER },
        { "audiences", CELL_LIST },
        { "group_audiences", CELL_LIST },
        { "scopes", CELL_TEXT },
        { "scope_kind", CELL_TEXT },
        { "default_scope", CELL_TEXT },
        { "default_lifetime_s", CELL_NUMBER },
        { "token_format", CELL_TEXT },
        { "token_alg", CELL_TEXT },
        { "wrap_alg", CELL_TEXT },
        { "sign_alg", CELL_TEXT },
        { "token_tagged", CELL_BOOLEAN },
        { "token_key_hex", CELL_TEXT },
        { "token_kid_hex", CELL_TEXT },
        { "trl", CELL_BOOLEAN },
        { "pop_keys", CELL_LIST },
        { "derives_key", CELL_BOOLEAN },
        { "has_clock", CELL_BOOLEAN },
        { "preferred_profile", CELL_TEXT },
        { "oscore_alg", CELL_TEXT },
        { "oscore_hkdf", CELL_TEXT },
        { "role", CELL_TEXT },
        { "active_from_s", CELL_NUMBER },
        { "audience", CELL_TEXT },
        { "scope", CELL_TEXT },
        { "effect", CELL_TEXT },
        { "shadow", CELL_BOOLEAN },
        { "from_s", CELL_NUMBER },
        { "until_s", CELL_NUMBER },
        { "advance_s", CELL_NUMBER },
        { "days", CELL_TEXT },
        { "hours", CELL_TEXT },
};

struct reading {
        int (*row)(void *context, json_t *row, size_t line);
        void *context;
        struct diags *faults;
};

static int fault(struct reading *reading, size_t line, const char *text) {
        int r = diags_add(reading->faults, NULL, (unsigned)line, "%s", text);

        return r < 0 ? r : REFUSE_ADMIN_SYNTAX;
}

/* ---- CSV → rows */

static int column_find(struct bytes name) {
        for (size_t i = 0; i < N_ELEMENTS(columns); i++)
                if (bytes_equal(name, bytes_text(columns[i].name)))
                        return (int)i;
        return -1;
}

static json_t *list_from_cell(struct bytes cell) {
        json_t *list = json_array();
        const char *at = (const char *)cell.data, *end = at + cell.size;

        while (list && at < end) {
                const char *space = memchr(at, ' ', (size_t)(end - at));
                size_t size = (size_t)((space ? space : end) - at);

                if (size > 0 && json_array_append_new(list, json_stringn(at, size)) != 0) {
                        json_decref(list);
                        return NULL;
                }
                at += size + (space != NULL);
        }
        return list;
}

static json_t *number_from_cell(struct bytes cell) {
        int64_t number = 0;
        size_t i;

        for (i = 0; i < cell.size && i < NUMBER_DIGITS_MAX && cell.data[i] >= '0' && cell.data[i] <= '9'; i++)
                number = number * 10 + (cell.data[i] - '0');
        return i == cell.size ? json_integer(number) : NULL;
}

static bool cell_is(struct bytes cell, const char *word) {
        return cell.size == strlen(word) && strncasecmp((const char *)cell.data, word, cell.size) == 0;
}

/* What cannot be what it should be is told as the text it is: aced says what is expected. NULL: no text, no memory. */
static json_t *value_from_cell(struct bytes name, struct bytes cell) {
        int column = column_find(name);
        enum cell kind = column >= 0 ? columns[column].cell : CELL_TEXT;
        bool is_empty = bytes_equal(cell, BYTES_LITERAL(CELL_EMPTY));
        json_t *value = NULL;

        if (memchr(cell.data, 0, cell.size))
                return NULL;
        if (kind == CELL_LIST)
                return is_empty ? json_array() : list_from_cell(cell);
        if (is_empty)
                return json_string("");
        if (kind == CELL_NUMBER)
                value = number_from_cell(cell);
        else if (kind == CELL_BOOLEAN && (cell_is(cell, "yes") || cell_is(cell, "true")))
                value = json_true();
        else if (kind == CELL_BOOLEAN && (cell_is(cell, "no") || cell_is(cell, "false")))
                value = json_false();
        return value ? value : json_stringn((const char *)cell.data, cell.size);
}

static int csv_row(struct reading *reading, const struct csv_record *names, const struct csv_record *record) {
        _cleanup_(json_decrefp) json_t *row = json_object();

        if (!row)
                return -ENOMEM;
        for (size_t i = 0; i < record->n_cells; i++) {
                _cleanup_(freep) char *name = NULL;
                json_t *value;

                if (record->cells[i].size == 0)
                        continue;
                if (i >= names->n_cells)
                        return fault(reading, record->line, "there are more cells than names in the first line");
                name = strndup((const char *)names->cells[i].data, names->cells[i].size);
                value = value_from_cell(names->cells[i], record->cells[i]);
                if (!name || !value || json_object_set_new(row, name, value) != 0)
                        return fault(reading, record->line, "a cell, or the name over it, is no text in UTF-8");
        }
        return json_object_size(row) > 0 ? reading->row(reading->context, row, record->line) : 0;
}

static int check_names(struct reading *reading, const struct csv_record *names) {
        for (size_t i = 0; i < names->n_cells; i++) {
                if (names->cells[i].size == 0)
                        return fault(reading, names->line, "a column has no name in the first line");
                for (size_t j = 0; j < i; j++)
                        if (bytes_equal(names->cells[i], names->cells[j]))
                                return fault(reading, names->line, "two columns have one name");
        }
        return 0;
}

static int read_csv(struct reading *reading, char *text, size_t size) {
        struct csv_record names, record;
        const char *what = NULL;
        struct csv csv;
        int r;

        csv_begin(&csv, text, size);
        r = csv_next(&csv, &names, &what);
        if (r == REFUSE_ADMIN_UNKNOWN)
                return 0;
        if (r != 0)
                return fault(reading, names.line, what);
        if ((r = check_names(reading, &names)) != 0)
                return r;
        while ((r = csv_next(&csv, &record, &what)) == 0)
                if ((r = csv_row(reading, &names, &record)) != 0)
                        return r;
        return r == REFUSE_ADMIN_UNKNOWN ? 0 : fault(reading, record.line, what);
}

/* ---- JSON → rows */

/* Rows of a kind that the name of their array tells. */
static const struct {
        const char *name, *kind;
} collections[] = {
        { "servers", "server" }, { "clients", "client" }, { "credentials", "credential" }, { "keys", "key" },
        { "policies", "policy" },
};

static int array_rows(struct reading *reading, const json_t *array, const char *kind, size_t *n) {
        json_t *item;
        size_t i;
        int r;

        json_array_foreach(array, i, item) {
                ++*n;
                if (kind && json_is_object(item) && !json_object_get(item, "kind") &&
                    json_object_set_new(item, "kind", json_string(kind)) != 0)
                        return -ENOMEM;
                if ((r = reading->row(reading->context, item, *n)) != 0)
                        return r;
        }
        return 0;
}

/* An object whose members are all such arrays: servers and clients come first, as others name them. */
static bool is_document(const json_t *value) {
        size_t n = 0;

        for (size_t i = 0; i < N_ELEMENTS(collections); i++)
                n += json_is_array(json_object_get(value, collections[i].name));
        return n > 0 && n == json_object_size(value);
}

static int json_value(struct reading *reading, json_t *value, size_t line, size_t *n) {
        int r = 0;

        if (json_is_array(value))
                return array_rows(reading, value, NULL, n);
        if (!is_document(value)) {
                ++*n;
                return reading->row(reading->context, value, line);
        }
        for (size_t i = 0; i < N_ELEMENTS(collections) && r == 0; i++)
                r = array_rows(reading, json_object_get(value, collections[i].name), collections[i].kind, n);
        return r;
}

/* Where the next value begins. */
static const char *skip_blank(const char *at, const char *end, size_t *line) {
        for (; at < end && strchr(" \t\r\n", *at) && *at != '\0'; at++)
                *line += *at == '\n';
        return at;
}

static size_t count_lines(const char *at, const char *end) {
        size_t n = 0;

        while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
                n++;
                at++;
        }
        return n;
}

static int read_json(struct reading *reading, const char *text, size_t size) {
        const char *end = text + size, *at = text;
        size_t line = 1, n = 0;
        int r;

        for (;;) {
                _cleanup_(json_decrefp) json_t *value = NULL;
                json_error_t error;

                at = skip_blank(at, end, &line);
                if (at == end)
                        return 0;
                value = json_loadb(at, (size_t)(end - at), JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK, &error);
                if (!value)
                        return fault(reading, line + (error.line > 0 ? (size_t)error.line - 1 : 0), error.text);
                if ((r = json_value(reading, value, line, &n)) != 0)
                        return r;
                line += count_lines(at, at + error.position);
                at += error.position;
        }
}

int rows_read(char *text, size_t size, enum rows_format format, int (*row)(void *context, json_t *row, size_t line),
              void *context, struct diags *faults) {
        struct reading reading = { row, context, faults };
        size_t blank = 0;

        if (size == 0)
                return 0;
        while (blank < size && strchr(" \t\r\n", text[blank]) && text[blank] != '\0')
                blank++;
        if (format == ROWS_ANY)
                format = blank < size && (text[blank] == '{' || text[blank] == '[') ? ROWS_JSON : ROWS_CSV;
        return format == ROWS_JSON ? read_json(&reading, text, size) : read_csv(&reading, text, size);
}

/* ---- rows → CSV */

static void write_cell(FILE *to, const char *text) {
        if (!strpbrk(text, ",;\t\"\r\n")) {
                fputs(text, to);
                return;
        }
        putc('"', to);
        for (; *text != '\0'; text++) {
                if (*text == '"')
                        putc('"', to);
                putc(*text, to);
        }
        putc('"', to);
}

/* Names have no quotes, but an audience may have a comma. */
static void write_list(FILE *to, const json_t *list) {
        json_t *item;
        size_t i;

        if (json_array_size(list) == 0)
                write_cell(to, CELL_EMPTY);
        else
                putc('"', to);
        json_array_foreach(list, i, item)
                fprintf(to, "%s%s", i > 0 ? " " : "", json_string_value(item));
        if (json_array_size(list) > 0)
                putc('"', to);
}

static void write_value(FILE *to, const json_t *value) {
        if (json_is_array(value))
                write_list(to, value);
        else if (json_is_boolean(value))
                fputs(json_is_true(value) ? "yes" : "no", to);
        else if (json_is_integer(value))
                fprintf(to, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        else if (json_is_string(value))
                write_cell(to, json_string_length(value) > 0 ? json_string_value(value) : CELL_EMPTY);
}

/* Of texts and lists of texts; one text would be read as none. */
static bool can_be_written(const json_t *value) {
        json_t *item;
        size_t i;

        json_array_foreach(value, i, item)
                if (json_string_length(item) == 0 || strpbrk(json_string_value(item), "\" "))
                        return false;
        return !json_is_object(value) && !json_is_null(value) && !json_is_real(value) &&
               (!json_is_string(value) || strcmp(json_string_value(value), CELL_EMPTY) != 0);
}

void rows_csv_begin(FILE *to) {
        for (size_t i = 0; i < N_ELEMENTS(columns); i++)
                fprintf(to, "%s%s", i > 0 ? "," : "", columns[i].name);
        putc('\n', to);
}

int rows_csv_write(FILE *to, const json_t *row, const char **ret_member) {
        const char *member;
        json_t *value;

        json_object_foreach((json_t *)row, member, value)
                if (column_find(bytes_text(member)) < 0 || !can_be_written(value)) {
                        *ret_member = member;
                        return -EINVAL;
                }
        for (size_t i = 0; i < N_ELEMENTS(columns); i++) {
                if (i > 0)
                        putc(',', to);
                write_value(to, json_object_get(row, columns[i].name));
        }
        putc('\n', to);
        return 0;
}
