#pragma once

#include "base/bytes.h"

/*
 * Call judge with every mutant of valid: each bit flipped, each byte set to 00 and ff, cut at every length, a byte more
 * at the end. Each mutant lies in memory of exactly its size, so that a sanitizer sees every step beyond it.
 */
void mutate(struct bytes valid, void (*judge)(struct bytes mutant, void *context), void *context);
