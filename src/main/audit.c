#include "main/audit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "main/invocation.h"
#include "store/audit.h"

#define EXPORT_PAGE 500 /* rows that one answer brings */

/* The next page of the verb's list; *after is what the last one named, and becomes what this one does, or NULL. */
static int next_page(const struct invocation *invocation, json_t **after, struct answer *answer) {
        json_t *next;
        int r;

        answer_done(answer);
        *answer = (struct answer){};
        r = request_send(invocation, *after, answer);
        json_decref(*after);
        *after = NULL;
        if (r != STATUS_DONE)
                return r;
        next = json_object_get(answer->json, "next");
        if (json_is_string(next))
                *after = json_incref(next);
        return STATUS_DONE;
}

/* ---- verify */

/* What all pages say together. */
struct verdict {
        json_int_t n_rows;
        json_t *newest, *faults;
};

static int verify_pages(const struct invocation *invocation, struct verdict *verdict) {
        _cleanup_(answer_done) struct answer answer = {};
        json_t *after = NULL;
        int r;

        do {
                if ((r = next_page(invocation, &after, &answer)) != STATUS_DONE)
                        return r;
                verdict->n_rows += json_integer_value(json_object_get(answer.json, "rows"));
                json_decref(verdict->newest);
                verdict->newest = json_incref(json_object_get(answer.json, "last"));
                if (json_array_extend(verdict->faults, json_object_get(answer.json, "items")) != 0) {
                        json_decref(after);
                        return out_of_memory();
                }
        } while (after);
        return STATUS_DONE;
}

/* Faults for people go where complaints go; the rest is an object in every format. */
static int verify_print(const struct invocation *invocation, const struct verdict *verdict) {
        size_t n_faults = json_array_size(verdict->faults);
        json_t *object, *fault;
        size_t i;
        int r;

        json_array_foreach(verdict->faults, i, fault)
                say("%s: %s", invocation->verb->words, json_string_value(json_object_get(fault, "fault")));
        object = json_pack("{s:I, s:O, s:I}", "rows", verdict->n_rows, "newest", verdict->newest, "faults",
                           (json_int_t)n_faults);
        if (!object)
                return out_of_memory();
        r = check_printed(print_object(invocation->format, object));
        json_decref(object);
        return r == STATUS_DONE && n_faults > 0 ? STATUS_REFUSED : r;
}

int run_audit_verify(struct invocation *invocation) {
        struct verdict verdict = { .faults = json_array() };
        int r = verdict.faults ? verify_pages(invocation, &verdict) : out_of_memory();

        if (r == STATUS_DONE)
                r = verify_print(invocation, &verdict);
        json_decref(verdict.newest);
        json_decref(verdict.faults);
        return r;
}

/* ---- export */

/* "SEQ:HASH" */
static bool read_mark(const json_t *text, struct audit_mark *ret) {
        const char *value = json_string_value(text), *colon = value ? strchr(value, ':') : NULL;
        size_t size;

        return colon && sscanf(value, "%18" SCNd64, &ret->seq) == 1 &&
               bytes_from_hex(colon + 1, ret->hash, sizeof(ret->hash), &size) == 0 && size == sizeof(ret->hash);
}

/* Is this row the one behind last? Then *last becomes it. 0: no; < 0: broken. */
static int follows(const json_t *item, struct audit_mark *last) {
        const char *record_hex = json_string_value(json_object_get(item, "record_hex"));
        const char *hash_hex = json_string_value(json_object_get(item, "hash"));
        struct audit_row row = { .seq = json_integer_value(json_object_get(item, "seq")),
                                 .at_s = json_integer_value(json_object_get(item, "at_s")) };
        uint8_t record[AUDIT_RECORD_MAX], expected[AUDIT_HASH_SIZE];
        size_t record_size, hash_size;
        int r;

        if (!record_hex || !hash_hex || row.seq != last->seq + 1 ||
            bytes_from_hex(record_hex, record, sizeof(record), &record_size) != 0 ||
            bytes_from_hex(hash_hex, row.hash, sizeof(row.hash), &hash_size) != 0 || hash_size != sizeof(row.hash))
                return 0;
        row.record = bytes_of(record, record_size);
        if ((r = audit_row_hash(&row, last->hash, expected)) < 0)
                return r;
        if (memcmp(expected, row.hash, sizeof(expected)) != 0)
                return 0;
        last->seq = row.seq;
        memcpy(last->hash, row.hash, sizeof(row.hash));
        return 1;
}

static int print_line(const json_t *object) {
        return json_dumpf(object, stdout, JSON_COMPACT) == 0 && putchar('\n') != EOF ? STATUS_DONE :
                                                                                      check_printed(0);
}

/* The first line says what the first row's hash stands on. */
static int print_before(const json_t *before, struct audit_mark *last) {
        json_t *line;
        int r;

        if (!read_mark(before, last)) {
                say("audit export: the answer does not say what its first row stands on");
                return STATUS_INTERNAL;
        }
        line = json_pack("{s:O}", "before", before);
        if (!line)
                return out_of_memory();
        r = print_line(line);
        json_decref(line);
        return r;
}

static int print_rows(const json_t *items, struct audit_mark *last) {
        const json_t *item;
        size_t i;

        json_array_foreach(items, i, item) {
                int r = follows(item, last);

                if (r < 0)
                        return out_of_memory();
                if (r == 0) {
                        say("audit export: row %" JSON_INTEGER_FORMAT " does not follow from the one before: rows were "
                            "removed meanwhile, or the trail was tampered with; ask acectl audit verify",
                            json_integer_value(json_object_get(item, "seq")));
                        return STATUS_REFUSED;
                }
                if ((r = print_line(item)) != STATUS_DONE)
                        return r;
        }
        return STATUS_DONE;
}

static int export_pages(const struct invocation *invocation) {
        _cleanup_(answer_done) struct answer answer = {};
        struct audit_mark last;
        json_t *after = NULL;
        bool begun = false;
        int r;

        do {
                r = next_page(invocation, &after, &answer);
                if (r == STATUS_DONE && !begun)
                        r = print_before(json_object_get(answer.json, "before"), &last);
                begun = true;
                if (r == STATUS_DONE)
                        r = print_rows(json_object_get(answer.json, "items"), &last);
        } while (r == STATUS_DONE && after);
        json_decref(after);
        return r == STATUS_DONE ? check_printed(0) : r;
}

int run_audit_export(struct invocation *invocation) {
        if (json_object_set_new(invocation->values, "limit", json_integer(EXPORT_PAGE)) != 0)
                return out_of_memory();
        return export_pages(invocation);
}
