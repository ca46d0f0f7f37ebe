#include "domain/policy.h"

bool policy_is_active(const struct policy *policy, int64_t now_s) {
        return (policy->valid_from_s == 0 || policy->valid_from_s <= now_s) &&
               (policy->valid_until_s == 0 || now_s < policy->valid_until_s);
}

bool policy_is_open(const struct policy_question *question) {
        for (size_t i = 0; i < question->n_policies; i++)
                if (policy_is_active(&question->policies[i], question->now_s))
                        return true;
        return false;
}

static void shorten(int64_t *value, int64_t bound) {
        if (bound > 0 && (*value == 0 || bound < *value))
                *value = bound;
}

/* Rights must not outlive the period they were given for. */
static void bound_time(const struct policy_question *question, struct policy_answer *answer) {
        struct scope part;

        for (size_t i = 0; i < question->n_policies; i++) {
                const struct policy *policy = &question->policies[i];

                if (!policy_is_active(policy, question->now_s) ||
                    !scope_intersect(&answer->scope, &policy->scopes, &part))
                        continue;
                shorten(&answer->max_lifetime_s, policy->max_lifetime_s);
                shorten(&answer->until_s, policy->valid_until_s);
        }
}

bool policy_evaluate(const struct policy_question *question, const struct scope *wanted, struct policy_answer *ret) {
        struct scope part;

        *ret = (struct policy_answer){ 0 };
        for (size_t i = 0; i < question->n_policies; i++) {
                const struct policy *policy = &question->policies[i];
                const struct scope *known = question->known->kind == SCOPE_NONE ? &policy->scopes : question->known;

                if (!policy_is_active(policy, question->now_s) || !scope_intersect(&policy->scopes, known, &part))
                        continue;
                (void)scope_unite(&ret->allowed, &part); /* as much as can be told */
                if (!scope_intersect(wanted, &part, &part))
                        continue;

                (void)scope_unite(&ret->scope, &part); /* fits: all of it is in wanted */
                if (ret->n_policies++ < EXPLAIN_POLICIES_MAX)
                        ret->policies[ret->n_policies - 1] = policy->id;
        }
        if (ret->scope.kind == SCOPE_NONE)
                return false;
        if (ret->scope.kind == SCOPE_TEXT)
                (void)scope_intersect(wanted, &ret->scope, &ret->scope); /* wanted's order */
        bound_time(question, ret);
        return true;
}
