#pragma once

#include <stddef.h>

/* The only source of randomness; tests link their own. Returns 0 or -EIO, which is fatal to the request. */
int random_bytes(void *data, size_t size);
