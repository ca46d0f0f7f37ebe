#include "format/csv.h"

#include "domain/refusal.h"

#define BYTE_ORDER_MARK "\xef\xbb\xbf"

void csv_begin(struct csv *csv, char *text, size_t size) {
        size_t mark = strlen(BYTE_ORDER_MARK);

        if (size >= mark && bytes_equal(bytes_of(text, mark), BYTES_LITERAL(BYTE_ORDER_MARK))) {
                text += mark;
                size -= mark;
        }
        *csv = (struct csv){ .at = text, .end = text + size, .line = 1 };
}

static bool is_separator(const struct csv *csv, char c) {
        return csv->separator != 0 ? c == csv->separator : c == ',' || c == ';' || c == '\t';
}

static bool at_line_end(const struct csv *csv) {
        return csv->at == csv->end || *csv->at == '\n' ||
               (*csv->at == '\r' && csv->at + 1 < csv->end && csv->at[1] == '\n');
}

/* Doubled quotes become one, in the place where the cell stands. */
static int take_quoted(struct csv *csv, struct bytes *ret, const char **ret_what) {
        char *start = ++csv->at, *to = start;

        for (; csv->at < csv->end; csv->at++) {
                if (*csv->at == '"') {
                        if (csv->at + 1 == csv->end || csv->at[1] != '"')
                                break;
                        csv->at++;
                }
                csv->line += *csv->at == '\n';
                *to++ = *csv->at;
        }
        if (csv->at == csv->end) {
                *ret_what = "a quote begins a cell and none ends it";
                return REFUSE_ADMIN_SYNTAX;
        }
        csv->at++;
        *ret = bytes_of(start, (size_t)(to - start));
        return 0;
}

static int take_cell(struct csv *csv, struct bytes *ret, const char **ret_what) {
        char *start = csv->at;
        int r = 0;

        if (csv->at < csv->end && *csv->at == '"') {
                r = take_quoted(csv, ret, ret_what);
        } else {
                while (!at_line_end(csv) && !is_separator(csv, *csv->at) && *csv->at != '"')
                        csv->at++;
                *ret = bytes_of(start, (size_t)(csv->at - start));
        }
        if (r != 0 || at_line_end(csv) || is_separator(csv, *csv->at))
                return r;
        *ret_what = "a quote stands in the midst of a cell: quote the whole cell, and double the quotes in it";
        return REFUSE_ADMIN_SYNTAX;
}

static void skip_line_end(struct csv *csv) {
        if (csv->at < csv->end && *csv->at == '\r')
                csv->at++;
        if (csv->at < csv->end) {
                csv->at++;
                csv->line++;
        }
}

int csv_next(struct csv *csv, struct csv_record *ret, const char **ret_what) {
        while (csv->at < csv->end && at_line_end(csv))
                skip_line_end(csv);
        ret->line = csv->line;
        ret->n_cells = 0;
        if (csv->at == csv->end)
                return REFUSE_ADMIN_UNKNOWN;
        for (;;) {
                int r;

                if (ret->n_cells == CSV_CELLS_MAX) {
                        *ret_what = "there are too many cells";
                        return REFUSE_ADMIN_SYNTAX;
                }
                r = take_cell(csv, &ret->cells[ret->n_cells], ret_what);
                if (r != 0)
                        return r;
                ret->n_cells++;
                if (at_line_end(csv))
                        break;
                csv->separator = *csv->at++;
        }
        skip_line_end(csv);
        return 0;
}
