#include "endpoint/housekeeping.h"

#include <inttypes.h>

#include "base/config.h"
#include "base/log.h"
#include "endpoint/aced.h"
#include "store/audit.h"
#include "store/store.h"
#include "store/tokens.h"
#include "store/trl.h"

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

struct removed {
        int64_t n_tokens, n_audit, n_listed;
        bool again;
};

static bool is_nothing(const struct removed *removed) {
        return removed->n_tokens == 0 && removed->n_audit == 0 && removed->n_listed == 0;
}

static int purge_audit(const struct aced *as, int64_t believed_s, int64_t *ret_n) {
        int64_t keep_s = as->config->audit_keep_s;

        return keep_s > 0 ? store_audit_purge(as->store, believed_s - keep_s, HOUSEKEEPING_ROWS_MAX, ret_n) : 0;
}

/* RFC 9770 §5: what expires leaves the revocation list, at once. Tokens of who is gone enter it. */
static int purge_list(const struct aced *as, int64_t believed_s, struct removed *ret) {
        int r = store_trl_purge(as->store, believed_s, &ret->n_listed);

        if (r == 0)
                r = store_trl_catch_up(as->store, believed_s, &ret->again);
        ret->again = ret->again || ret->n_listed > 0;
        return r;
}

/* Noted with what it made go, so that after a restart the time is not an earlier one. */
static int purge(struct housekeeping *housekeeping, struct aced *as, int64_t before_s, struct removed *ret) {
        int64_t believed_s = housekeeping->steady.believed_s;
        bool is_due = believed_s - housekeeping->saved_s >= HOUSEKEEPING_SAVE_S || believed_s < housekeeping->saved_s;
        int r = store_token_purge(as->store, before_s, HOUSEKEEPING_ROWS_MAX, &ret->n_tokens);

        if (r == 0)
                r = purge_audit(as, believed_s, &ret->n_audit);
        if (r == 0)
                r = purge_list(as, believed_s, ret);
        if (r != 0 || (is_nothing(ret) && !is_due))
                return r;
        return store_clock_set(as->store, believed_s);
}

static int transact(struct housekeeping *housekeeping, struct aced *as, int64_t before_s, struct removed *ret) {
        int r = store_begin(as->store);

        if (r != 0)
                return r;
        r = purge(housekeeping, as, before_s, ret);
        if (r == 0)
                return store_commit(as->store);
        store_rollback(as->store);
        return r;
}

/* Nothing of it is worth an error: it is told the next time. */
static void tell_audit(struct housekeeping *housekeeping, struct aced *as, int64_t monotonic_us) {
        char hash[2 * AUDIT_HASH_SIZE + 1];
        struct audit_mark head;

        if ((housekeeping->told_seq != 0 && monotonic_us - housekeeping->told_us < HOUSEKEEPING_TELL_US) ||
            store_audit_head(as->store, &head) != 0 || head.seq == housekeeping->told_seq)
                return;
        bytes_to_hex(bytes_of(head.hash, sizeof(head.hash)), hash, sizeof(hash));
        log_line(LOG_LEVEL_NOTICE, "the audit trail stands at %" PRId64 ":%s", head.seq, hash);
        housekeeping->told_seq = head.seq;
        housekeeping->told_us = monotonic_us;
}

int housekeeping_step(struct housekeeping *housekeeping, struct aced *as, int64_t wall_s, int64_t monotonic_us,
                      bool *ret_again) {
        struct steady *steady = &housekeeping->steady;
        int64_t believed_s = steady_look(steady, wall_s, monotonic_us);
        struct removed removed = {};
        int r;

        *ret_again = false;
        as->expired_s = believed_s;
        /* the clock was set back: whatever has expired goes now, before it could come to life again */
        r = transact(housekeeping, as, steady->is_behind ? believed_s + 1 : believed_s - HOUSEKEEPING_KEEP_S,
                     &removed);
        if (r != 0)
                return r;
        housekeeping->saved_s = !is_nothing(&removed) ||
                                believed_s - housekeeping->saved_s >= HOUSEKEEPING_SAVE_S ||
                                believed_s < housekeeping->saved_s ? believed_s : housekeeping->saved_s;
        as->metrics.n_purged += (uint64_t)removed.n_tokens;
        as->metrics.n_audit_purged += (uint64_t)removed.n_audit;
        tell_audit(housekeeping, as, monotonic_us);
        *ret_again = removed.n_tokens >= HOUSEKEEPING_ROWS_MAX || removed.n_audit >= HOUSEKEEPING_ROWS_MAX ||
                     removed.again;
        if (steady->is_behind && removed.n_tokens < HOUSEKEEPING_ROWS_MAX) {
                log_line(LOG_LEVEL_WARNING, "the clock was set back by %" PRId64 " s; tokens that had expired before "
                         "are removed", believed_s - wall_s);
                steady_accept(steady, wall_s, monotonic_us);
                as->expired_s = wall_s;
        }
        return 0;
}
