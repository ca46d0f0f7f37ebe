#pragma once

#include "domain/steady.h"

struct aced;

/*
 * What the server does for itself now and then, beside requests: expired tokens go, and rows of the audit trail that are
 * older than they have to be kept, in steps that hold nobody up, so that the database's size follows what is alive and
 * not what has been. The audit trail's newest hash goes to the log, so that it stands where nobody who has the database
 * can change it.
 */
#define HOUSEKEEPING_KEEP_S 3600       /* expired tokens stay so long, so that an operator can still see them */
#define HOUSEKEEPING_ROWS_MAX 500      /* in one step */
#define HOUSEKEEPING_SAVE_S 600        /* the believed time is noted that often, and whenever something goes */
#define HOUSEKEEPING_TELL_US INT64_C(3600000000) /* the audit trail's hash is told that often when there are new rows */

struct housekeeping {
        struct steady steady;
        int64_t saved_s;
        int64_t told_seq, told_us; /* of the audit trail */
};

/* Go on from the time that an earlier run believed last. Outside of a transaction. 0, < 0. */
int housekeeping_init(struct housekeeping *housekeeping, struct aced *as, int64_t wall_s, int64_t monotonic_us);

/*
 * One step, in a transaction of its own; sets as->expired_s. *ret_again: there may be more to do at once. 0; < 0:
 * nothing was done, try again later.
 */
int housekeeping_step(struct housekeeping *housekeeping, struct aced *as, int64_t wall_s, int64_t monotonic_us,
                      bool *ret_again);
