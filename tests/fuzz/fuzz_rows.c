/*
 * A file of rows, as acectl apply reads it: CSV or JSON. What is read as rows and CSV can say is the same when it was
 * written as CSV and read again.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "fuzz.h"
#include "main/rows.h"

struct rows {
        json_t *items;
        FILE *csv; /* NULL: these were read from it */
};

static int on_row(void *context, json_t *row, size_t line) {
        struct rows *rows = context;
        const char *member = NULL;

        MUST(line > 0);
        if (rows->csv && (!json_is_object(row) || json_object_size(row) == 0 ||
                          rows_csv_write(rows->csv, row, &member) != 0))
                return 0;
        return json_array_append(rows->items, row) == 0 ? 0 : -ENOMEM;
}

static int read_text(char *text, size_t size, enum rows_format format, struct rows *rows) {
        _cleanup_(diags_done) struct diags faults = {};
        int r = rows_read(text, size, format, on_row, rows, &faults);

        MUST(r == 0 || r == REFUSE_ADMIN_SYNTAX);
        MUST((r != 0) == (faults.n_items > 0));
        return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct rows first = { .items = json_array() }, again = { .items = json_array() };
        _cleanup_(freep) char *text = malloc(size + 1), *csv = NULL;
        size_t csv_size = 0;

        MUST(text && first.items && again.items);
        if (size > 0)
                memcpy(text, data, size);
        first.csv = open_memstream(&csv, &csv_size);
        MUST(first.csv);
        rows_csv_begin(first.csv);
        (void)read_text(text, size, ROWS_ANY, &first);
        MUST(fclose(first.csv) == 0);
        MUST(read_text(csv, csv_size, ROWS_CSV, &again) == 0);
        MUST(json_array_size(first.items) == json_array_size(again.items));
        json_decref(first.items);
        json_decref(again.items);
        return 0;
}
