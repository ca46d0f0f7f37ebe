#pragma once

#include <jansson.h>
#include <stdio.h>

#include "base/diag.h"

/*
 * Files of rows, as acectl export writes and acectl apply reads them: JSON, or CSV with a column for each member. What
 * a row means aced knows (aced-control(7)); here is only which members are lists, numbers, yes or no, as cells are all
 * text.
 */
enum rows_format { ROWS_ANY, ROWS_JSON, ROWS_CSV };

/*
 * Call row() for each row of a text, which is changed where cells are quoted; line is where the row begins (in arrays:
 * its number). JSON is one object after the other, an array of them, or an object of arrays named clients, servers,
 * credentials, keys, policies, whose objects need no kind. ROWS_ANY: as the text looks. Returns 0, what row() returned
 * when that is not 0, REFUSE_ADMIN_SYNTAX with a fault, -ENOMEM. row() takes nothing over.
 */
int rows_read(char *text, size_t size, enum rows_format format, int (*row)(void *context, json_t *row, size_t line),
              void *context, struct diags *faults);

/*
 * The first line of a CSV file, then a line for each row. 0; -EINVAL with *ret_member: CSV has no column for it, or no
 * way to write its value.
 */
void rows_csv_begin(FILE *to);
int rows_csv_write(FILE *to, const json_t *row, const char **ret_member);
