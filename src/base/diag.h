#pragma once

#include <stddef.h>

/*
 * What an administrator did wrong, and where: all of the faults at once, not the first. file may be NULL (a command
 * line, a request) and line 0 (no line).
 */
struct diag {
        char *file;
        unsigned line;
        char *text;
};

struct diags {
        struct diag *items;
        size_t n_items;
};

/* Append a fault. Returns 0 or -ENOMEM. */
int diags_add(struct diags *diags, const char *file, unsigned line, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
void diags_done(struct diags *diags);
