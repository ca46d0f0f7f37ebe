#include "endpoint/housekeeping.h"

#include <inttypes.h>

#include "base/log.h"
#include "endpoint/aced.h"
#include "store/store.h"
#include "store/tokens.h"

int housekeeping_init(struct housekeeping *housekeeping, struct aced *as, int64_t wall_s, int64_t monotonic_us) {
        int64_t known_s = 0;
        int r = store_clock_get(as->store, &known_s);

        if (r != 0)
                return r;
        *housekeeping = (struct housekeeping){ .saved_s = known_s };
        steady_init(&housekeeping->steady, known_s, wall_s, monotonic_us);
        as->expired_s = housekeeping->steady.believed_s;
        return 0;
}

/* Noted with what it made go, so that after a restart the time is not an earlier one. */
static int purge(struct housekeeping *housekeeping, struct aced *as, int64_t before_s, int64_t *ret_n) {
        int64_t believed_s = housekeeping->steady.believed_s;
        bool is_due = believed_s - housekeeping->saved_s >= HOUSEKEEPING_SAVE_S || believed_s < housekeeping->saved_s;
        int r = store_token_purge(as->store, before_s, HOUSEKEEPING_ROWS_MAX, ret_n);

        if (r != 0 || (*ret_n == 0 && !is_due))
                return r;
        return store_clock_set(as->store, believed_s);
}

static int transact(struct housekeeping *housekeeping, struct aced *as, int64_t before_s, int64_t *ret_n) {
        int r = store_begin(as->store);

        if (r != 0)
                return r;
        r = purge(housekeeping, as, before_s, ret_n);
        if (r == 0)
                return store_commit(as->store);
        store_rollback(as->store);
        return r;
}

int housekeeping_step(struct housekeeping *housekeeping, struct aced *as, int64_t wall_s, int64_t monotonic_us,
                      bool *ret_again) {
        struct steady *steady = &housekeeping->steady;
        int64_t believed_s = steady_look(steady, wall_s, monotonic_us), n = 0;
        int r;

        *ret_again = false;
        as->expired_s = believed_s;
        /* the clock was set back: whatever has expired goes now, before it could come to life again */
        r = transact(housekeeping, as, steady->is_behind ? believed_s + 1 : believed_s - HOUSEKEEPING_KEEP_S, &n);
        if (r != 0)
                return r;
        housekeeping->saved_s = n > 0 || believed_s - housekeeping->saved_s >= HOUSEKEEPING_SAVE_S ||
                                believed_s < housekeeping->saved_s ? believed_s : housekeeping->saved_s;
        as->metrics.n_purged += (uint64_t)n;
        *ret_again = n >= HOUSEKEEPING_ROWS_MAX;
        if (steady->is_behind && !*ret_again) {
                log_line(LOG_LEVEL_WARNING, "the clock was set back by %" PRId64 " s; tokens that had expired before "
                         "are removed", believed_s - wall_s);
                steady_accept(steady, wall_s, monotonic_us);
                as->expired_s = wall_s;
        }
        return 0;
}
