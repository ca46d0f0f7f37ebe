#pragma once

#include "base/bytes.h"

/*
 * Key material of at most SECRET_SIZE_MAX bytes, held in place and wiped by secret_done(), which every owner calls
 * (use _cleanup_(secret_done)). There is no way to print one.
 */
#define SECRET_SIZE_MAX 64

struct secret {
        uint8_t data[SECRET_SIZE_MAX];
        size_t size;
};

/* Copy in, wiping what was there. Returns 0, or -EOVERFLOW (nothing changed) when bytes are too many. */
int secret_set(struct secret *secret, struct bytes bytes);

/* Move: *to gets the key, *from is wiped. */
void secret_move(struct secret *to, struct secret *from);

void secret_done(struct secret *secret);

static inline struct bytes secret_bytes(const struct secret *secret) {
        return (struct bytes){ secret->data, secret->size };
}

/* Overwrite memory in a way that the compiler keeps. */
void wipe(void *data, size_t size);
