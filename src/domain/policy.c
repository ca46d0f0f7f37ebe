#include "domain/policy.h"

#define DAY_S INT64_C(86400)
#define WEEK_DAYS 7
#define ALL_DAYS 0x7fu
#define EPOCH_WEEKDAY 3 /* 1970-01-01 was a Thursday */

/* ---- time */

static int64_t day_of(int64_t at_s) {
        return at_s >= 0 ? at_s / DAY_S : -((-at_s + DAY_S - 1) / DAY_S);
}

static bool has_windows(const struct policy *policy) {
        unsigned days = policy->weekdays & ALL_DAYS;

        return (days != 0 && days != ALL_DAYS) || policy->day_from_s != 0 || policy->day_until_s != 0;
}

/* The hours that begin on a day; false on a day that has none. */
static bool window_of_day(const struct policy *policy, int64_t day, struct policy_period *ret) {
        unsigned weekday = (unsigned)(((day + EPOCH_WEEKDAY) % WEEK_DAYS + WEEK_DAYS) % WEEK_DAYS);
        int64_t length_s = policy->day_until_s - policy->day_from_s;

        if ((policy->weekdays & ALL_DAYS) != 0 && (policy->weekdays & 1u << weekday) == 0)
                return false;
        if (length_s <= 0) /* over midnight, or all day */
                length_s += DAY_S;
        ret->from_s = day * DAY_S + policy->day_from_s;
        ret->until_s = ret->from_s + length_s;
        return true;
}

/* Days that follow each other without a gap are one period. */
static void join_days(const struct policy *policy, int64_t day, struct policy_period *period) {
        struct policy_period next;

        for (int i = 1; i <= WEEK_DAYS && window_of_day(policy, day + i, &next) && next.from_s <= period->until_s; i++)
                period->until_s = next.until_s;
}

static bool next_window(const struct policy *policy, int64_t at_s, struct policy_period *ret) {
        int64_t day = day_of(at_s);

        /* from a week ago, so that a period of several days is found by its first; on one day at least there is none */
        for (int64_t i = -WEEK_DAYS; i <= WEEK_DAYS; i++) {
                if (!window_of_day(policy, day + i, ret))
                        continue;
                join_days(policy, day + i, ret);
                if (ret->until_s > at_s)
                        return true;
        }
        return false;
}

bool policy_period(const struct policy *policy, int64_t at_s, struct policy_period *ret) {
        int64_t from_s = policy->valid_from_s != 0 ? policy->valid_from_s : INT64_MIN;
        int64_t until_s = policy->valid_until_s != 0 ? policy->valid_until_s : INT64_MAX;
        struct policy_period window = { INT64_MIN, INT64_MAX };

        if (at_s >= until_s || (has_windows(policy) && !next_window(policy, at_s > from_s ? at_s : from_s, &window)))
                return false;
        if (window.from_s >= until_s)
                return false;
        ret->from_s = window.from_s > from_s ? window.from_s : from_s;
        ret->until_s = window.until_s < until_s ? window.until_s : until_s;
        return true;
}

bool policy_is_active(const struct policy *policy, int64_t now_s) {
        struct policy_period period;

        return policy_period(policy, now_s, &period) && period.from_s <= now_s;
}

/* ---- decision */

static bool is_denial(const struct policy *policy) {
        return policy->effect == POLICY_DENY;
}

/* Of a denial that cannot be read as it was meant, the safe reading is that it denies everything. */
static bool denies_all(const struct policy *policy) {
        return is_denial(policy) && (policy->scopes.kind == SCOPE_NONE || policy->fit == POLICY_TOO_LARGE);
}

static bool takes_part(const struct policy_question *question, const struct policy *policy) {
        if (policy->is_shadow && !question->with_shadow)
                return false;
        return policy->fit == POLICY_FITS || (policy->fit == POLICY_TOO_LARGE && is_denial(policy));
}

/* Is its time come at at_s, which is now or, for tokens given in advance, later? */
static bool period_at(const struct policy_question *question, const struct policy *policy, int64_t at_s,
                      struct policy_period *ret) {
        if (!takes_part(question, policy) || !policy_period(policy, at_s, ret) || ret->from_s > at_s)
                return false;
        return ret->from_s <= question->now_s || is_denial(policy) ||
               ret->from_s - policy->advance_s <= question->now_s;
}

/* What of a policy the resource server knows. */
static bool part_known(const struct policy_question *question, const struct policy *policy, struct scope *ret) {
        const struct scope *known = question->known->kind == SCOPE_NONE ? &policy->scopes : question->known;

        return scope_intersect(&policy->scopes, known, ret);
}

/* The first moment at which a policy begins that allows something of wanted (NULL: anything) in advance; 0: none. */
static int64_t first_ahead(const struct policy_question *question, const struct scope *wanted) {
        int64_t first_s = 0;
        struct policy_period period;
        struct scope part;

        for (size_t i = 0; i < question->n_policies && question->takes_nbf; i++) {
                const struct policy *policy = &question->policies[i];

                if (policy->advance_s == 0 || is_denial(policy) || !takes_part(question, policy) ||
                    !policy_period(policy, question->now_s, &period) || period.from_s <= question->now_s ||
                    period.from_s - policy->advance_s > question->now_s)
                        continue;
                if (wanted && !(part_known(question, policy, &part) && scope_intersect(wanted, &part, &part)))
                        continue;
                if (first_s == 0 || period.from_s < first_s)
                        first_s = period.from_s;
        }
        return first_s;
}

static bool is_open_at(const struct policy_question *question, int64_t at_s) {
        struct policy_period period;
        bool open = false;

        for (size_t i = 0; i < question->n_policies; i++) {
                const struct policy *policy = &question->policies[i];

                if (!period_at(question, policy, at_s, &period))
                        continue;
                if (denies_all(policy))
                        return false;
                open = open || !is_denial(policy);
        }
        return open;
}

bool policy_is_open(const struct policy_question *question) {
        int64_t ahead_s;

        if (is_open_at(question, question->now_s))
                return true;
        ahead_s = first_ahead(question, NULL);
        return ahead_s != 0 && is_open_at(question, ahead_s);
}

static void unite(const struct policy_question *question, const struct scope *wanted, int64_t at_s,
                  struct policy_answer *answer) {
        struct policy_period period;
        struct scope part;

        for (size_t i = 0; i < question->n_policies; i++) {
                const struct policy *policy = &question->policies[i];

                if (is_denial(policy) || !period_at(question, policy, at_s, &period) ||
                    !part_known(question, policy, &part))
                        continue;
                (void)scope_unite(&answer->allowed, &part); /* as much as can be told */
                if (scope_intersect(wanted, &part, &part))
                        (void)scope_unite(&answer->scope, &part); /* fits: all of it is in wanted */
        }
        if (answer->scope.kind == SCOPE_TEXT)
                (void)scope_intersect(wanted, &answer->scope, &answer->scope); /* wanted's order */
}

static void scope_clear(struct scope *scope) {
        scope->kind = SCOPE_NONE;
        scope->size = 0;
}

static void deny(const struct policy_question *question, int64_t at_s, struct policy_answer *answer) {
        struct policy_period period;

        for (size_t i = 0; i < question->n_policies; i++) {
                const struct policy *policy = &question->policies[i];

                if (!is_denial(policy) || !period_at(question, policy, at_s, &period))
                        continue;
                if (denies_all(policy)) {
                        scope_clear(&answer->scope);
                        scope_clear(&answer->allowed);
                        return;
                }
                (void)scope_subtract(&answer->scope, &policy->scopes);
                (void)scope_subtract(&answer->allowed, &policy->scopes);
        }
}

static void shorten(int64_t *value, int64_t bound) {
        if (bound != 0 && (*value == 0 || bound < *value))
                *value = bound;
}

static void bound_by(const struct policy_question *question, const struct policy *policy, int64_t at_s,
                     struct policy_answer *answer) {
        struct policy_period period;
        struct scope part;

        if (denies_all(policy) ? !takes_part(question, policy) :
                                 !scope_intersect(&answer->scope, &policy->scopes, &part))
                return;
        if (is_denial(policy)) { /* not in force at at_s, or there would be no part: when does it come? */
                if (takes_part(question, policy) && policy_period(policy, at_s, &period))
                        shorten(&answer->until_s, period.from_s);
                return;
        }
        if (!period_at(question, policy, at_s, &period))
                return;
        shorten(&answer->max_lifetime_s, policy->max_lifetime_s);
        if (period.until_s != INT64_MAX)
                shorten(&answer->until_s, period.until_s);
        if (answer->n_policies++ < EXPLAIN_POLICIES_MAX)
                answer->policies[answer->n_policies - 1] = policy->id;
}

static bool evaluate_at(const struct policy_question *question, const struct scope *wanted, int64_t at_s,
                        struct policy_answer *answer) {
        unite(question, wanted, at_s, answer);
        deny(question, at_s, answer);
        if (answer->scope.kind == SCOPE_NONE)
                return false;
        for (size_t i = 0; i < question->n_policies; i++) /* rights must not outlive the period they were given for */
                bound_by(question, &question->policies[i], at_s, answer);
        return true;
}

static void answer_clear(struct policy_answer *answer) {
        scope_clear(&answer->scope);
        scope_clear(&answer->allowed);
        answer->n_policies = 0;
        answer->max_lifetime_s = answer->until_s = answer->nbf_s = 0;
}

bool policy_evaluate(const struct policy_question *question, const struct scope *wanted, struct policy_answer *ret) {
        int64_t ahead_s;

        answer_clear(ret);
        if (evaluate_at(question, wanted, question->now_s, ret))
                return true;
        ahead_s = first_ahead(question, wanted);
        if (ahead_s == 0)
                return false;
        answer_clear(ret);
        ret->nbf_s = ahead_s;
        if (evaluate_at(question, wanted, ahead_s, ret))
                return true;
        ret->nbf_s = 0;
        return false;
}

bool policy_has_shadow(const struct policy_question *question) {
        for (size_t i = 0; i < question->n_policies; i++)
                if (question->policies[i].is_shadow)
                        return true;
        return false;
}

bool policy_try_shadow(const struct policy_question *question, const struct scope *wanted,
                       const struct policy_answer *enforced, struct policy_answer *ret) {
        struct policy_question tried = *question;

        if (!policy_has_shadow(question))
                return false;
        tried.with_shadow = true;
        (void)policy_evaluate(&tried, wanted, ret);
        return !scope_equal(&ret->scope, &enforced->scope) || ret->max_lifetime_s != enforced->max_lifetime_s ||
               ret->until_s != enforced->until_s || ret->nbf_s != enforced->nbf_s;
}

enum policy_part policy_part(const struct policy *policy, int64_t now_s, bool takes_nbf) {
        struct policy_period period;

        if (policy->fit != POLICY_FITS && !(policy->fit == POLICY_TOO_LARGE && is_denial(policy)))
                return POLICY_NOT_FITTING;
        if (!policy_period(policy, now_s, &period))
                return POLICY_OVER;
        if (period.from_s <= now_s)
                return POLICY_IN_FORCE;
        if (takes_nbf && !is_denial(policy) && period.from_s - policy->advance_s <= now_s)
                return POLICY_AHEAD;
        return policy->valid_from_s > now_s ? POLICY_NOT_YET : POLICY_OUT_OF_HOURS;
}
