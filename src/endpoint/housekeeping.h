#pragma once

#include "domain/steady.h"

struct aced;

/*
 * What the server does for itself now and then, beside requests: expired tokens go, in steps that hold nobody up, so
 * that the database's size follows what is alive and not what has been.
 */
#define HOUSEKEEPING_KEEP_S 3600       /* expired tokens stay so long, so that an operator can still see them */
#define HOUSEKEEPING_ROWS_MAX 500      /* in one step */
#define HOUSEKEEPING_SAVE_S 600        /* the believed time is noted that often, and whenever something goes */

struct housekeeping {
        struct steady steady;
        int64_t saved_s;
};

/* Go on from the time that an earlier run believed last. Outside of a transaction. 0, < 0. */
int housekeeping_init(struct housekeeping *housekeeping, struct aced *as, int64_t wall_s, int64_t monotonic_us);

/*
 * One step, in a transaction of its own; sets as->expired_s. *ret_again: there may be more to do at once. 0; < 0:
 * nothing was done, try again later.
 */
int housekeeping_step(struct housekeeping *housekeeping, struct aced *as, int64_t wall_s, int64_t monotonic_us,
                      bool *ret_again);
