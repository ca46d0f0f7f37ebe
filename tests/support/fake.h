#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The seams: this library has its own clock_wall_s(), clock_monotonic_us() and random_bytes(). */
void fake_clock_set(int64_t wall_s, int64_t monotonic_us);
void fake_clock_advance_us(int64_t us);

/* random_bytes() gives a repeatable stream from this seed (never the same bytes twice in a row). */
void fake_random_seed(uint64_t seed);
/* From the n-th call on (1: the next) random_bytes() fails; 0: never. */
void fake_random_fail_at(unsigned n);
