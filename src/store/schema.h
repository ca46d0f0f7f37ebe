#pragma once

#include <stddef.h>

/* A step of the schema: sql/NNNN-name.sql, embedded at build. A released step is never edited. */
struct schema_step {
        int version;
        const char *name;
        const char *sql;
};

extern const struct schema_step schema_steps[];
extern const size_t n_schema_steps;
