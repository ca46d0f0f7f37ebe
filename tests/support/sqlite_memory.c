#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "sqlite_memory.h"

#include <cmocka.h>
#include <sqlite3.h>

static struct sqlite3_mem_methods real;
static bool (*allocation_fails)(void);
static unsigned fail_at;

static bool is_out(void) {
        if (fail_at > 1)
                fail_at--;
        return fail_at == 1;
}

static void *try_malloc(int size) {
        return allocation_fails() ? NULL : real.xMalloc(size);
}

static void *try_realloc(void *memory, int size) {
        return allocation_fails() ? NULL : real.xRealloc(memory, size);
}

void sqlite_memory_install(bool (*fails)(void)) {
        struct sqlite3_mem_methods ours;

        allocation_fails = fails ? fails : is_out;
        assert_int_equal(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real), SQLITE_OK);
        ours = real;
        ours.xMalloc = try_malloc;
        ours.xRealloc = try_realloc;
        assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &ours), SQLITE_OK);
}

void sqlite_memory_fail_at(unsigned n) {
        fail_at = n;
}
