#pragma once

#include "base/bytes.h"

/*
 * Comma-separated values (RFC 4180), as spreadsheets write them: lines end with LF or CR LF, the separator is a comma,
 * a semicolon or a tab, whichever stands behind the first cell, and a byte order mark in front is passed over.
 */
#define CSV_CELLS_MAX 128

struct csv {
        char *at, *end; /* of what is not read yet */
        size_t line;    /* that it begins with, from 1 */
        char separator; /* 0: not known yet */
};

struct csv_record {
        size_t line; /* where it begins */
        size_t n_cells;
        struct bytes cells[CSV_CELLS_MAX]; /* in the text, without quotes */
};

/* text is changed, where cells are quoted, and lent until the last record has been used. */
void csv_begin(struct csv *csv, char *text, size_t size);

/*
 * The next record that is not an empty line. 0; REFUSE_ADMIN_UNKNOWN: there is none; REFUSE_ADMIN_SYNTAX: a quote that
 * does not end, or that stands in the midst of a cell, or too many cells; ret->line says where and *ret_what what.
 */
int csv_next(struct csv *csv, struct csv_record *ret, const char **ret_what);
