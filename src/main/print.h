#pragma once

#include <jansson.h>
#include <stdbool.h>

/*
 * What acectl shows, on standard output: a table for people, JSON as aced sent it, or CSV (RFC 4180). Control
 * characters never reach the terminal. Results are 0 or -ENOMEM; print_finish() tells whether all could be written.
 */
enum print_format { PRINT_TABLE, PRINT_JSON, PRINT_CSV };

/* A member of an item, and what stands over it in a table; CSV has the member's name. */
struct print_column {
        const char *member, *heading;
};

struct libscols_table;

/* A list that comes in pages: CSV and JSON are printed as they come, a table at the end. */
struct printer {
        enum print_format format;
        const struct print_column *columns; /* up to one whose member is NULL */
        size_t n_items;
        struct libscols_table *table;
};

int printer_begin(struct printer *printer, enum print_format format, const struct print_column *columns);
int printer_items(struct printer *printer, const json_t *items);
int printer_end(struct printer *printer);
void printer_done(struct printer *printer);

/* One object: a line a member, JSON, or a CSV line of names and one of values. Inner objects: "store.wal_size". */
int print_object(enum print_format format, const json_t *object);

/* Text with control characters as \xNN, to be freed; what is no UTF-8 too. NULL: no memory. */
char *print_safe(const char *text);

/* Flush. 0 or -errno, also of anything printed before. */
int print_finish(void);
