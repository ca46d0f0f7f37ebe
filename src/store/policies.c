#include "store/policies.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "domain/variable.h"
#include "store/clients.h"
#include "store/private.h"

#define POLICIES_AT_FIRST 4
#define POLICY_CREATED 15 /* column behind those that policy_from_row() reads */

_Static_assert(POLICY_ALLOW == 1 && POLICY_DENY == 2, "kept in databases");

/* Empty bytes stand for no scopes: what is unique has no NULL in it. */
static int scopes_from_row(struct query *query, int at, struct scope *ret) {
        if (row_bytes(query, at).size > 0)
                return row_scope(query, at, ret);
        ret->kind = SCOPE_NONE;
        ret->size = 0;
        return 0;
}

/* All but created_s. */
static int policy_from_row(struct query *query, struct policy *ret) {
        int r;

        ret->id = row_int(query, 0);
        ret->for_label = row_int(query, 1) != 0;
        ret->max_lifetime_s = row_int(query, 5);
        ret->valid_from_s = row_int(query, 6);
        ret->valid_until_s = row_int(query, 7);
        ret->effect = (enum policy_effect)row_int(query, 8);
        ret->is_shadow = row_int(query, 9) != 0;
        ret->advance_s = row_int(query, 10);
        ret->weekdays = (unsigned)row_int(query, 11);
        ret->day_from_s = row_int(query, 12);
        ret->day_until_s = row_int(query, 13);
        ret->audience_varies = row_int(query, 14) != 0;
        ret->fit = POLICY_FITS;
        ret->created_s = 0;
        if (ret->effect != POLICY_ALLOW && ret->effect != POLICY_DENY)
                return -EIO;
        if ((r = row_text(query, 2, ret->subject, sizeof(ret->subject))) != 0 ||
            (r = row_text(query, 3, ret->audience, sizeof(ret->audience))) != 0)
                return r;
        return scopes_from_row(query, 4, &ret->scopes);
}

/* Not the one we look for: go on. The same but for the order of its tokens: it exists. */
static int refuse_equal(void *context, const struct policy *other) {
        const struct policy *policy = context;
        bool equal = policy->for_label == other->for_label && policy->max_lifetime_s == other->max_lifetime_s &&
                     policy->valid_from_s == other->valid_from_s && policy->valid_until_s == other->valid_until_s &&
                     policy->effect == other->effect && policy->is_shadow == other->is_shadow &&
                     policy->advance_s == other->advance_s && policy->weekdays == other->weekdays &&
                     policy->day_from_s == other->day_from_s && policy->day_until_s == other->day_until_s &&
                     scope_equal(&policy->scopes, &other->scopes);

        return equal ? REFUSE_ADMIN_EXISTS : 0;
}

static void bind_policy(struct query *q, const struct policy *policy) {
        query_int(q, 1, policy->id);
        query_int(q, 2, policy->for_label);
        query_text(q, 3, bytes_text(policy->subject));
        query_text(q, 4, bytes_text(policy->audience));
        if (policy->scopes.kind == SCOPE_NONE)
                query_blob(q, 5, BYTES_NONE);
        else
                query_scope(q, 5, &policy->scopes);
        query_int(q, 6, policy->max_lifetime_s);
        query_int(q, 7, policy->valid_from_s);
        query_int(q, 8, policy->valid_until_s);
        query_int(q, 9, policy->effect);
        query_int(q, 10, policy->is_shadow);
        query_int(q, 11, policy->advance_s);
        query_int(q, 12, policy->weekdays);
        query_int(q, 13, policy->day_from_s);
        query_int(q, 14, policy->day_until_s);
        query_int(q, 15, policy->audience_varies);
        query_int(q, 16, policy->created_s);
}

int store_policy_add(struct store *store, struct policy *policy) {
        _cleanup_(query_done) struct query q = {};
        uint64_t id;
        int r;

        if (policy->effect != POLICY_DENY)
                policy->effect = POLICY_ALLOW;
        policy->audience_varies = variables_in_text(bytes_text(policy->audience));
        if ((r = store_policy_each(store, 0, INT64_MAX, bytes_text(policy->subject), bytes_text(policy->audience),
                                   refuse_equal, policy)) != 0 ||
            (r = store_number(store, NUMBER_ROW, &id)) != 0 || (r = query_begin(store, QUERY_POLICY_ADD, &q)) != 0)
                return r;

        policy->id = (int64_t)id;
        store->policies_vary = store->policies_vary || policy->audience_varies; /* stays so, also after a roll-back */
        bind_policy(&q, policy);
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

/* ---- for a decision */

int policies_look(struct store *store) {
        int64_t vary;
        int r = pragma_int(store, "SELECT EXISTS (SELECT 1 FROM policies WHERE audience_varies = 1)", &vary);

        if (r == 0)
                store->policies_vary = vary != 0;
        return r;
}

struct policy_list {
        struct policy *policies;
        size_t n, capacity;
};

static int make_room(struct policy_list *list) {
        size_t wanted = list->capacity > 0 ? 2 * list->capacity : POLICIES_AT_FIRST;
        struct policy *grown;

        if (list->n < list->capacity)
                return 0;
        grown = reallocarray(list->policies, wanted, sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        list->policies = grown;
        list->capacity = wanted;
        return 0;
}

static int find_policies(struct store *store, const struct client *client, const char *audience,
                         struct policy_list *list) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, store->policies_vary ? QUERY_POLICIES_AND_VARYING : QUERY_POLICIES_FOR_CLIENT, &q);

        if (r != 0)
                return r;
        query_text(&q, 1, bytes_text(client->name));
        query_text(&q, 2, bytes_text(audience));
        query_int(&q, 3, client->id);
        while ((r = query_next(&q)) == 0) {
                if ((r = make_room(list)) != 0 || (r = policy_from_row(&q, &list->policies[list->n])) != 0)
                        return r;
                list->n++;
        }
        return query_end(r);
}

struct label_list {
        char labels[LABELS_PER_CLIENT_MAX][NAME_SIZE_MAX + 1];
        size_t n;
};

static int note_label(void *context, const char *label) {
        struct label_list *list = context;

        if (list->n == LABELS_PER_CLIENT_MAX)
                return -EIO;
        (void)snprintf(list->labels[list->n++], sizeof(list->labels[0]), "%s", label);
        return 0;
}

/* Few policies have variables: labels are read for those alone. */
static int expand(struct store *store, const struct client *client, const char *audience, struct policy_list *list) {
        struct label_list labels;
        bool has_variables = false, needs_labels = false;
        size_t n_left = 0;
        int r;

        for (size_t i = 0; i < list->n; i++) {
                has_variables = has_variables || variables_in_policy(&list->policies[i]);
                needs_labels = needs_labels || variables_need_labels(&list->policies[i]);
        }
        if (!has_variables)
                return 0;

        labels.n = 0;
        if (needs_labels && (r = store_client_labels_each(store, client->id, note_label, &labels)) != 0)
                return r;
        for (size_t i = 0; i < list->n; i++) {
                variables_expand(&list->policies[i], &(struct variable_values){ .client = client->name,
                                 .audience = audience, .labels = labels.labels, .n_labels = labels.n });
                if (list->policies[i].fit == POLICY_ELSEWHERE)
                        continue;
                if (n_left != i)
                        list->policies[n_left] = list->policies[i];
                n_left++;
        }
        list->n = n_left;
        return 0;
}

int store_policies_for(struct store *store, const struct client *client, const char *audience, struct policy **ret,
                       size_t *ret_n) {
        struct policy_list list = {};
        int r = find_policies(store, client, audience, &list);

        if (r == 0)
                r = expand(store, client, audience, &list);
        *ret = list.policies;
        *ret_n = r == 0 ? list.n : 0;
        return r;
}
