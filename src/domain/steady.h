#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * The time of day as far as it can be believed: what has expired by it may be forgotten for good, and stays expired.
 * The wall clock may jump either way, by mistake or by malice. Between two looks the believed time moves on with the
 * monotonic clock; a wall clock that agrees corrects it. One that is ahead is believed once it has been so for
 * STEADY_HOLD_S. One that is behind is believed as soon as the caller has removed what had expired by then, so that
 * nothing expired comes to life again: steady_accept().
 */
#define STEADY_TOLERANCE_S 5    /* that far apart the clocks agree: a leap second, an adjustment */
#define STEADY_HOLD_S 3600
#define STEADY_GAP_S 86400      /* not running for so long is believed at once at the start */

struct steady {
        int64_t believed_s, at_us; /* the believed time, and the monotonic clock's then */
        int64_t ahead_s;           /* by how much the wall clock has been ahead … */
        int64_t ahead_since_us;    /* … since then; < 0: it is not */
        bool is_behind;            /* the wall clock is: steady_accept() is waited for */
};

/* known_s: what an earlier run believed last, 0 when there was none. All times in seconds since 1970 UTC. */
void steady_init(struct steady *steady, int64_t known_s, int64_t wall_s, int64_t monotonic_us);

/* Look at both clocks; returns the believed time. */
int64_t steady_look(struct steady *steady, int64_t wall_s, int64_t monotonic_us);

/* What had expired is gone: go on from the wall clock that is behind. No effect when it is not. */
void steady_accept(struct steady *steady, int64_t wall_s, int64_t monotonic_us);
