#pragma once

#include <stdbool.h>

/*
 * SQLite's memory, which runs out when told to. Installed once, before anything else is asked of SQLite. For cmocka.
 * fails: asked about each allocation; NULL: sqlite_memory_fail_at() decides.
 */
void sqlite_memory_install(bool (*fails)(void));

/* From the n-th allocation on (1: the next) all fail; 0: none does. */
void sqlite_memory_fail_at(unsigned n);
