#pragma once

#include <stdint.h>

/*
 * The only sources of time. Called by what stands at the outermost edge (event sources, mains) and handed down;
 * tests link their own.
 */

/* Seconds since 1970 UTC, as tokens count them. */
int64_t clock_wall_s(void);

/* Microseconds of a clock that never jumps: timers, latencies. */
int64_t clock_monotonic_us(void);
