#include "base/diag.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int diags_add(struct diags *diags, const char *file, unsigned line, const char *format, ...) {
        struct diag *items = reallocarray(diags->items, diags->n_items + 1, sizeof(*items));
        struct diag item = { .line = line };
        va_list args;
        int n;

        if (!items)
                return -ENOMEM;
        diags->items = items;

        va_start(args, format);
        n = vasprintf(&item.text, format, args);
        va_end(args);
        if (n < 0)
                return -ENOMEM;
        if (file && !(item.file = strdup(file))) {
                free(item.text);
                return -ENOMEM;
        }
        diags->items[diags->n_items++] = item;
        return 0;
}

void diags_done(struct diags *diags) {
        for (size_t i = 0; i < diags->n_items; i++) {
                free(diags->items[i].file);
                free(diags->items[i].text);
        }
        free(diags->items);
        *diags = (struct diags){};
}
