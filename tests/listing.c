/*
 * What there is, from the tables themselves, for tests/man-sync: a line "resource METHOD PATH" or "config SECTION KEY".
 */
#include <stdio.h>

#include "base/config.h"
#include "endpoint/router.h"

static const char *const methods[] = {
        [METHOD_GET] = "GET",     [METHOD_POST] = "POST",   [METHOD_PUT] = "PUT",      [METHOD_DELETE] = "DELETE",
        [METHOD_FETCH] = "FETCH", [METHOD_PATCH] = "PATCH", [METHOD_IPATCH] = "IPATCH",
};

int main(void) {
        const char *section, *key, *help;
        const struct resource *row;

        for (size_t n = 0; (row = router_resource(n)) != NULL; n++)
                printf("resource %s %s\n", methods[row->method], row->path);
        for (unsigned n = 0; config_option(n, &section, &key, &help); n++)
                printf("config %s %s\n", section, key);
        return fflush(stdout) == 0 ? 0 : 1;
}
