#include "store/policies.h"

#include <limits.h>

#include "store/private.h"

#define POLICY_CREATED 8 /* column after those that policy_from_row() reads */

int policy_from_row(struct query *query, struct policy *ret) {
        int r;

        ret->id = row_int(query, 0);
        ret->for_label = row_int(query, 1) != 0;
        ret->max_lifetime_s = row_int(query, 5);
        ret->valid_from_s = row_int(query, 6);
        ret->valid_until_s = row_int(query, 7);
        ret->created_s = 0;
        if ((r = row_text(query, 2, ret->subject, sizeof(ret->subject))) != 0 ||
            (r = row_text(query, 3, ret->audience, sizeof(ret->audience))) != 0)
                return r;
        return row_scope(query, 4, &ret->scopes);
}

/* Not the one we look for: go on. The same but for the order of its tokens: it exists. */
static int refuse_equal(void *context, const struct policy *other) {
        const struct policy *policy = context;
        bool equal = policy->for_label == other->for_label && policy->max_lifetime_s == other->max_lifetime_s &&
                     policy->valid_from_s == other->valid_from_s && policy->valid_until_s == other->valid_until_s &&
                     scope_equal(&policy->scopes, &other->scopes);

        return equal ? REFUSE_ADMIN_EXISTS : 0;
}

int store_policy_add(struct store *store, struct policy *policy) {
        _cleanup_(query_done) struct query q = {};
        uint64_t id;
        int r;

        if ((r = store_policy_each(store, 0, INT64_MAX, bytes_text(policy->subject), bytes_text(policy->audience),
                                   refuse_equal, policy)) != 0 ||
            (r = store_number(store, NUMBER_ROW, &id)) != 0 || (r = query_begin(store, QUERY_POLICY_ADD, &q)) != 0)
                return r;

        policy->id = (int64_t)id;
        query_int(&q, 1, policy->id);
        query_int(&q, 2, policy->for_label);
        query_text(&q, 3, bytes_text(policy->subject));
        query_text(&q, 4, bytes_text(policy->audience));
        query_scope(&q, 5, &policy->scopes);
        query_int(&q, 6, policy->max_lifetime_s);
        query_int(&q, 7, policy->valid_from_s);
        query_int(&q, 8, policy->valid_until_s);
        query_int(&q, 9, policy->created_s);
        return query_run(&q);
}

int store_policy_delete(struct store *store, int64_t id) {
        int r = query_about(store, QUERY_POLICY_DELETE, id);

        return r != 0 ? r : store_changed(store);
}

int store_policy_each(struct store *store, int64_t after, int64_t limit, struct bytes subject, struct bytes audience,
                      int (*row)(void *context, const struct policy *policy), void *context) {
        static const enum query_id queries[2][2] = {
                { QUERY_POLICIES, QUERY_POLICIES_AT_AUDIENCE },
                { QUERY_POLICIES_OF_SUBJECT, QUERY_POLICIES_OF_SUBJECT_AT_AUDIENCE },
        };
        _cleanup_(query_done) struct query q = {};
        struct policy policy;
        int r = query_begin(store, queries[subject.data != NULL][audience.data != NULL], &q);

        if (r != 0)
                return r;
        query_int(&q, 1, after);
        query_int(&q, 2, limit);
        if (subject.data)
                query_text(&q, 3, subject);
        if (audience.data)
                query_text(&q, 4, audience);
        while ((r = query_next(&q)) == 0) {
                if ((r = policy_from_row(&q, &policy)) != 0)
                        return r;
                policy.created_s = row_int(&q, POLICY_CREATED);
                if ((r = row(context, &policy)) != 0)
                        return r;
        }
        return query_end(r);
}
