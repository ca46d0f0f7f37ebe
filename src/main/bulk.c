#include "main/bulk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/diag.h"
#include "base/secret.h"
#include "main/rows.h"

#define APPLY_TIMEOUT_S 3600L            /* a request's rows are applied while nobody says anything */
#define FILE_SIZE_MAX ((size_t)4 * 1024 * 1024 * 1024)
#define LINE_SIZE_MAX ((size_t)1024 * 1024)
#define RESULTS_SIZE_MAX ((size_t)1024 * 1024 * 1024)
#define PART_SUFFIX ".XXXXXX"
#define CREATED_SHOWN_MAX 100            /* rows of a file whose creation is worth a line in a table */

const struct option bulk_export_options[] = {
        { "--with-keys", "with_keys", OPTION_FLAG, NULL, "all keys, too: the file is as secret as they are" },
        {},
};

const struct option bulk_apply_options[] = {
        { "--dry-run", "dry_run", OPTION_FLAG, NULL, "change nothing, say what would be done" },
        { "--diff", "diff", OPTION_FLAG, NULL, "the same, with each member that differs" },
        { "--keep-going", "each", OPTION_FLAG, NULL, "apply the good rows, though others are refused" },
        { "--batch", "batch", OPTION_INT, "ROWS", "so many at once: devices are served in between" },
        { "--format", "format", OPTION_TEXT, "json|csv", "of the file; else as it looks" },
        {},
};

static bool is_set(const struct invocation *invocation, const char *member) {
        return json_is_true(json_object_get(invocation->values, member));
}

/* ---- where an export goes: standard output, or a file that is there as a whole or not at all */

struct sink {
        FILE *to;
        char *part; /* of the file that is not yet in place; NULL: standard output */
};

static void sink_done(struct sink *sink) {
        if (sink->part) {
                if (sink->to)
                        fclose(sink->to);
                unlink(sink->part);
        }
        free(sink->part);
}

static int sink_open(const char *path, struct sink *ret) {
        int fd;

        ret->to = stdout;
        if (!path || strcmp(path, "-") == 0)
                return STATUS_DONE;
        if (asprintf(&ret->part, "%s" PART_SUFFIX, path) < 0) {
                ret->part = NULL;
                return out_of_memory();
        }
        fd = mkostemp(ret->part, O_CLOEXEC); /* mode 0600 */
        ret->to = fd >= 0 ? fdopen(fd, "w") : NULL;
        if (ret->to)
                return STATUS_DONE;
        say("export: cannot create a file beside %s: %s", path, strerror(errno));
        if (fd < 0) {
                free(ret->part);
                ret->part = NULL;
        }
        return STATUS_REFUSED;
}

static int sink_close(struct sink *sink, const char *path) {
        if (!sink->part)
                return check_printed(0);
        if (fflush(sink->to) == 0 && fsync(fileno(sink->to)) == 0 && !ferror(sink->to) &&
            rename(sink->part, path) == 0) {
                fclose(sink->to);
                free(sink->part);
                sink->part = NULL;
                return STATUS_DONE;
        }
        say("export: cannot write %s: %s", path, strerror(errno));
        return STATUS_REFUSED;
}

/* ---- export */

struct exporting {
        const struct invocation *invocation;
        struct sink sink;
        struct buf line; /* of a row, as far as it has come; CSV only */
};

static void exporting_done(struct exporting *exporting) {
        sink_done(&exporting->sink);
        buf_wiped(&exporting->line);
}

static int export_csv_row(struct exporting *exporting, struct bytes line) {
        _cleanup_(json_decrefp) json_t *row = json_loadb((const char *)line.data, line.size, 0, NULL);
        const char *member = NULL;

        if (!json_is_object(row)) {
                say("export: what answers on %s does not speak as aced does", exporting->invocation->socket);
                return STATUS_INTERNAL;
        }
        if (rows_csv_write(exporting->sink.to, row, &member) == 0)
                return STATUS_DONE;
        say("export: CSV cannot say %s: use -o json", member);
        return STATUS_REFUSED;
}

/* Rows may be cut anywhere between the pieces that they come in. */
static int export_csv(struct exporting *exporting, struct bytes piece) {
        while (piece.size > 0) {
                const uint8_t *end = memchr(piece.data, '\n', piece.size);
                size_t size = end ? (size_t)(end - piece.data) : piece.size;
                int r;

                if (buf_add_secret(&exporting->line, bytes_of(piece.data, size)) != 0)
                        return out_of_memory();
                if (!end)
                        return STATUS_DONE;
                r = export_csv_row(exporting, buf_bytes(&exporting->line));
                if (r != STATUS_DONE)
                        return r;
                buf_clear(&exporting->line);
                piece = bytes_of(end + 1, piece.size - size - 1);
        }
        return STATUS_DONE;
}

static int on_rows(void *context, struct bytes piece) {
        struct exporting *exporting = context;

        if (exporting->invocation->format == PRINT_CSV)
                return export_csv(exporting, piece);
        fwrite(piece.data, 1, piece.size, exporting->sink.to); /* whether that went well is looked at in the end */
        return STATUS_DONE;
}

static int export_fetch(struct exporting *exporting) {
        const struct invocation *invocation = exporting->invocation;

        if (invocation->format == PRINT_CSV)
                rows_csv_begin(exporting->sink.to);
        return request_stream(invocation, is_set(invocation, "with_keys") ? "http://localhost/v1/export?keys=true" :
                                                                            "http://localhost/v1/export",
                              on_rows, exporting);
}

int bulk_export(struct invocation *invocation) {
        const char *path = json_string_value(json_object_get(invocation->values, "file"));
        _cleanup_(exporting_done) struct exporting exporting = { .invocation = invocation,
                                                                 .line = BUF_INIT(LINE_SIZE_MAX) };
        int r;

        if ((r = sink_open(path, &exporting.sink)) != STATUS_DONE || (r = export_fetch(&exporting)) != STATUS_DONE)
                return r;
        return sink_close(&exporting.sink, path);
}

/* ---- apply: the file */

struct applying {
        const struct invocation *invocation;
        char url[128];
        int64_t batch;       /* rows in one request; 0: all */
        struct buf body;     /* rows of the next request */
        size_t n_body;
        size_t *lines;       /* of the file, where they begin */
        size_t n_lines_max;
        json_t *items, *sums; /* results so far */
        bool applied, stopped; /* stopped: a batch was refused, those behind it were not sent */
        int status;
};

static void applying_done(struct applying *applying) {
        buf_wiped(&applying->body);
        json_decref(applying->items);
        json_decref(applying->sums);
        free(applying->lines);
}

static int file_read(const char *path, struct buf *ret) {
        bool is_stdin = strcmp(path, "-") == 0;
        FILE *from = is_stdin ? stdin : fopen(path, "re");
        char piece[64 * 1024];
        struct stat at;
        size_t n;
        int r = 0, error = 0;

        if (from && fstat(fileno(from), &at) == 0 && S_ISREG(at.st_mode) && at.st_size > 0) {
                uint8_t *space;

                r = buf_reserve(ret, (size_t)at.st_size + 1, &space);
        }
        while (from && r == 0 && (n = fread(piece, 1, sizeof(piece), from)) > 0)
                r = buf_add_secret(ret, bytes_of(piece, n));
        if (!from || ferror(from))
                error = errno != 0 ? errno : EIO;
        wipe(piece, sizeof(piece));
        if (from && !is_stdin)
                fclose(from);
        if (error != 0) {
                say("apply: cannot read %s: %s", path, strerror(error));
                return STATUS_REFUSED;
        }
        return r == 0 ? STATUS_DONE : out_of_memory();
}

/* ---- apply: requests */

/* Of what was not applied the keys are not in force, and must not get into a device. */
static void drop_keys(json_t *item) {
        static const char *const keys[] = { "key_hex", "token_key_hex", "wrap_key_hex", "derivation_key_hex",
                                            "record_hex" };

        for (size_t i = 0; i < N_ELEMENTS(keys); i++)
                json_object_del(item, keys[i]);
}

/* Results are in the order of rows: what aced calls line n of a request stands elsewhere in the file. */
static int take_results(struct applying *applying, const json_t *answer) {
        bool applied = json_is_true(json_object_get(answer, "applied"));
        json_t *item, *value;
        const char *name;
        size_t i;

        json_array_foreach(json_object_get(answer, "items"), i, item) {
                json_int_t line = json_integer_value(json_object_get(item, "line"));

                if (line >= 1 && (size_t)line <= applying->n_body)
                        json_object_set_new(item, "line", json_integer((json_int_t)applying->lines[line - 1]));
                if (!applied)
                        drop_keys(item);
                if (json_array_append(applying->items, item) != 0)
                        return out_of_memory();
        }
        json_object_foreach((json_t *)answer, name, value) {
                json_int_t sum = json_integer_value(json_object_get(applying->sums, name));

                if (json_is_integer(value) &&
                    json_object_set_new(applying->sums, name, json_integer(sum + json_integer_value(value))) != 0)
                        return out_of_memory();
        }
        applying->applied = applying->applied || applied;
        if (json_integer_value(json_object_get(answer, "refused")) > 0 && !is_set(applying->invocation, "each") &&
            !is_set(applying->invocation, "dry_run") && !is_set(applying->invocation, "diff"))
                applying->stopped = true;
        return STATUS_DONE;
}

static int request_rows(struct applying *applying, struct answer *answer) {
        const struct invocation *invocation = applying->invocation;
        _cleanup_(curl_easy_cleanupp) CURL *curl = curl_easy_init();
        _cleanup_(curl_slist_free_allp) struct curl_slist *headers = NULL;

        headers = curl_slist_append(NULL, "Content-Type: application/x-ndjson");
        if (!curl || !headers)
                return out_of_memory();
        answer->body.limit = RESULTS_SIZE_MAX;
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, invocation->socket);
        curl_easy_setopt(curl, CURLOPT_URL, applying->url);
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, APPLY_TIMEOUT_S);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)applying->body.size);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, (const char *)applying->body.data);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
        return request_perform(invocation, curl, answer);
}

static int send_rows(struct applying *applying) {
        _cleanup_(answer_done) struct answer answer = {};
        int r;

        if (applying->n_body == 0 || applying->stopped)
                return STATUS_DONE;
        r = request_rows(applying, &answer);
        if (r == STATUS_DONE)
                r = take_results(applying, answer.json);
        buf_clear(&applying->body);
        applying->n_body = 0;
        if (applying->batch > 0 && isatty(STDERR_FILENO))
                fprintf(stderr, "\r%zu rows", json_array_size(applying->items));
        return r;
}

static int note_line(struct applying *applying, size_t line) {
        if (applying->n_body == applying->n_lines_max) {
                size_t n = applying->n_lines_max > 0 ? 2 * applying->n_lines_max : 1024;
                size_t *lines = reallocarray(applying->lines, n, sizeof(*lines));

                if (!lines)
                        return -ENOMEM;
                applying->lines = lines;
                applying->n_lines_max = n;
        }
        applying->lines[applying->n_body++] = line;
        return 0;
}

/* > 0 ends the reading; applying->status says why. */
static int on_row(void *context, json_t *row, size_t line) {
        struct applying *applying = context;
        char *text = json_dumps(row, JSON_COMPACT | JSON_ENCODE_ANY);
        int r = text ? buf_add_secret(&applying->body, bytes_text(text)) : -ENOMEM;

        if (text)
                wipe(text, strlen(text));
        free(text);
        if (r == 0)
                r = buf_add_byte(&applying->body, '\n');
        if (r == 0)
                r = note_line(applying, line);
        if (r != 0) {
                applying->status = out_of_memory();
                return 1;
        }
        if (applying->batch > 0 && applying->n_body == (size_t)applying->batch)
                applying->status = send_rows(applying);
        return applying->status != STATUS_DONE || applying->stopped;
}

/* The text of the whole file is faulty: nothing of it was sent, but for batches in front of the fault. */
static int say_fault(const struct applying *applying, const char *path, const struct diags *faults) {
        for (size_t i = 0; i < faults->n_items; i++)
                say("apply: %s:%u: %s", path, faults->items[i].line, faults->items[i].text);
        say("apply: %s", json_array_size(applying->items) > 0 ? "rows in front of this were applied, the rest was not" :
                                                                "nothing was applied");
        return STATUS_REFUSED;
}

static int send_file(struct applying *applying, const char *path, enum rows_format format) {
        _cleanup_(buf_wiped) struct buf text = BUF_INIT(FILE_SIZE_MAX);
        _cleanup_(diags_done) struct diags faults = {};
        int r = file_read(path, &text);

        if (r != STATUS_DONE)
                return r;
        r = rows_read((char *)text.data, text.size, format, on_row, applying, &faults);
        if (applying->status != STATUS_DONE)
                return applying->status;
        if (r < 0)
                return out_of_memory();
        if (faults.n_items > 0)
                return say_fault(applying, path, &faults);
        return send_rows(applying);
}

/* ---- apply: what is printed */

static const struct print_column result_columns[] = {
        { "line", "LINE" }, { "kind", "KIND" }, { "about", "NAME" }, { "result", "RESULT" }, { "note", "" }, {},
};

static const struct print_column csv_columns[] = {
        { "line", "" }, { "kind", "" }, { "name", "" }, { "client", "" }, { "server", "" }, { "role", "" },
        { "label", "" }, { "audience", "" }, { "result", "" }, { "error", "" }, { "detail", "" }, { "key_hex", "" },
        { "token_key_hex", "" }, { "wrap_key_hex", "" }, { "derivation_key_hex", "" }, { "record_hex", "" },
        {},
};

static int add_text(struct buf *text, const char *between, const char *name, const json_t *value) {
        _cleanup_(freep) char *printed = json_is_string(value) ? strdup(json_string_value(value)) :
                                         json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

        return buf_printf(text, "%s%s%s", text->size > 0 ? between : "", name, printed ? printed : "?");
}

static json_t *text_of(const struct buf *text) {
        return text->size > 0 ? json_stringn((const char *)text->data, text->size) : json_string("");
}

/* What changes from what to what, what is wrong, which keys were made: for people, in one cell. */
static json_t *note_of(const json_t *item) {
        static const char *const told[] = { "detail", "key_hex", "token_key_hex", "wrap_key_hex",
                                            "derivation_key_hex", "record_hex" };
        _cleanup_(buf_wiped) struct buf text = BUF_INIT(LINE_SIZE_MAX);
        const char *member;
        json_t *value;
        char name[96];
        int r = 0;

        for (size_t i = 0; i < N_ELEMENTS(told) && r == 0; i++)
                if ((value = json_object_get(item, told[i]))) {
                        snprintf(name, sizeof(name), "%s%s", i > 0 ? told[i] : "", i > 0 ? " " : "");
                        r = add_text(&text, ", ", name, value);
                }
        json_object_foreach(json_object_get(item, "changes"), member, value) {
                snprintf(name, sizeof(name), "%s: ", member);
                if (r == 0)
                        r = add_text(&text, ", ", name, json_is_string(value) ? value : json_object_get(value, "from"));
                if (r == 0 && json_is_object(value))
                        r = add_text(&text, "", " -> ", json_object_get(value, "to"));
        }
        return r == 0 ? text_of(&text) : NULL;
}

static json_t *about_of(const json_t *item) {
        static const char *const names[] = { "name", "client", "server", "label", "role", "audience" };
        _cleanup_(buf_done) struct buf text = BUF_INIT(LINE_SIZE_MAX);
        int r = 0;

        for (size_t i = 0; i < N_ELEMENTS(names) && r == 0; i++)
                if (json_object_get(item, names[i]))
                        r = add_text(&text, strcmp(names[i], "audience") == 0 ? " at " : " ", "",
                                     json_object_get(item, names[i]));
        return r == 0 ? text_of(&text) : NULL;
}

/* People are told what is worth it: not each of a hundred thousand rows that went as it should. */
static bool is_worth_a_line(const struct applying *applying, const json_t *item) {
        const char *result = json_string_value(json_object_get(item, "result"));
        bool is_asked = is_set(applying->invocation, "dry_run") || is_set(applying->invocation, "diff");

        if (!result || strcmp(result, "unchanged") == 0)
                return !result;
        if (strcmp(result, "created") != 0 || is_asked || json_array_size(applying->items) <= CREATED_SHOWN_MAX)
                return true;
        return json_object_get(item, "key_hex") || json_object_get(item, "token_key_hex") ||
               json_object_get(item, "record_hex");
}

static json_t *lines_for_people(const struct applying *applying) {
        json_t *lines = json_array(), *item;
        size_t i;

        json_array_foreach(applying->items, i, item) {
                if (!is_worth_a_line(applying, item))
                        continue;
                if (json_object_set_new(item, "about", about_of(item)) != 0 ||
                    json_object_set_new(item, "note", note_of(item)) != 0 || json_array_append(lines, item) != 0) {
                        json_decref(lines);
                        return NULL;
                }
        }
        return lines;
}

static int print_lines(const struct applying *applying, const struct print_column *columns, const json_t *lines) {
        struct printer printer = {};
        int r = lines ? printer_begin(&printer, applying->invocation->format, columns) : -ENOMEM;

        if (r == 0)
                r = printer_items(&printer, lines);
        if (r == 0)
                r = printer_end(&printer);
        printer_done(&printer);
        return r;
}

static void print_sums(const struct applying *applying) {
        static const char *const names[] = { "created", "changed", "deleted", "unchanged", "refused" };

        printf("%" JSON_INTEGER_FORMAT " rows:", json_integer_value(json_object_get(applying->sums, "rows")));
        for (size_t i = 0; i < N_ELEMENTS(names); i++)
                printf("%s %" JSON_INTEGER_FORMAT " %s", i > 0 ? "," : "",
                       json_integer_value(json_object_get(applying->sums, names[i])), names[i]);
        if (!applying->applied)
                puts("; nothing was applied");
        else
                puts(applying->stopped ? "; batches in front of the refused one were applied, the others not" : "");
}

static int print_results(struct applying *applying) {
        _cleanup_(json_decrefp) json_t *lines = NULL;
        int r;

        switch (applying->invocation->format) {
        case PRINT_CSV:
                return print_lines(applying, csv_columns, applying->items);
        case PRINT_JSON:
                if (json_object_set(applying->sums, "items", applying->items) != 0 ||
                    json_object_set_new(applying->sums, "applied", json_boolean(applying->applied)) != 0)
                        return -ENOMEM;
                return print_object(PRINT_JSON, applying->sums);
        default:
                lines = lines_for_people(applying);
                r = lines && json_array_size(lines) == 0 ? 0 : print_lines(applying, result_columns, lines);
                print_sums(applying);
                return r;
        }
}

/* ---- apply */

static int read_format(const struct invocation *invocation, enum rows_format *ret) {
        const char *format = json_string_value(json_object_get(invocation->values, "format"));

        *ret = !format ? ROWS_ANY : strcmp(format, "csv") == 0 ? ROWS_CSV : ROWS_JSON;
        if (!format || strcmp(format, "csv") == 0 || strcmp(format, "json") == 0)
                return STATUS_DONE;
        say("apply: --format is json or csv, not %s", format);
        return STATUS_USAGE;
}

int bulk_apply(struct invocation *invocation) {
        const char *path = json_string_value(json_object_get(invocation->values, "file"));
        _cleanup_(applying_done) struct applying applying = {
                .invocation = invocation, .body = BUF_INIT(FILE_SIZE_MAX), .items = json_array(),
                .sums = json_pack("{s:i}", "rows", 0),
                .batch = json_integer_value(json_object_get(invocation->values, "batch")),
        };
        enum rows_format format;
        int r = read_format(invocation, &format);

        if (r != STATUS_DONE)
                return r;
        snprintf(applying.url, sizeof(applying.url), "http://localhost/v1/apply?dry_run=%s&diff=%s&each=%s",
                 is_set(invocation, "dry_run") ? "true" : "false", is_set(invocation, "diff") ? "true" : "false",
                 is_set(invocation, "each") ? "true" : "false");
        if (!applying.items || !applying.sums)
                return out_of_memory();
        r = send_file(&applying, path, format);
        if (applying.batch > 0 && isatty(STDERR_FILENO))
                fputc('\n', stderr);
        if (r != STATUS_DONE && json_array_size(applying.items) == 0)
                return r;
        if (print_results(&applying) != 0)
                return out_of_memory();
        if (r == STATUS_DONE && json_integer_value(json_object_get(applying.sums, "refused")) > 0)
                r = STATUS_REFUSED;
        return r == STATUS_DONE ? check_printed(0) : r;
}
