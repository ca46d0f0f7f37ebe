#include "store/clients.h"

#include "store/private.h"

int client_from_row(struct query *query, int at, struct client *ret) {
        int r;

        *ret = (struct client){
                .id = row_int(query, at),
                .suspended = row_int(query, at + 2) != 0,
                .profiles = (profile_set)row_int(query, at + 3),
                .created_s = row_int(query, at + 5),
                .max_lifetime_s = row_int(query, at + 6),
                .tokens_max = row_int(query, at + 7),
                .refresh_lifetime_s = row_int(query, at + 8),
                .may_introspect = row_int(query, at + 9) != 0,
        };
        r = row_text(query, at + 1, ret->name, sizeof(ret->name));
        return r != 0 ? r : row_text(query, at + 4, ret->default_audience, sizeof(ret->default_audience));
}

/* What QUERY_CLIENT_ADD and QUERY_CLIENT_UPDATE have in common. */
static void bind_client(struct query *query, const struct client *client) {
        query_int(query, 1, client->id);
        query_int(query, 3, client->suspended);
        query_int(query, 4, client->profiles);
        query_text(query, 5, bytes_text(client->default_audience));
        query_int(query, 6, client->max_lifetime_s);
        query_int(query, 7, client->tokens_max);
        query_int(query, 8, client->refresh_lifetime_s);
        query_int(query, 9, client->may_introspect);
}

int store_client_add(struct store *store, struct client *client) {
        _cleanup_(query_done) struct query q = {};
        uint64_t id;
        int r;

        if ((r = store_number(store, NUMBER_ROW, &id)) != 0 || (r = query_begin(store, QUERY_CLIENT_ADD, &q)) != 0)
                return r;
        client->id = (int64_t)id;
        bind_client(&q, client);
        query_text(&q, 2, bytes_text(client->name));
        query_int(&q, 10, client->created_s);
        return query_run(&q);
}

int store_client_update(struct store *store, const struct client *client) {
        _cleanup_(query_done) struct query q = {};
        int r;

        credentials_touch(store);
        if (client->suspended && (r = oscore_tell_gone(store, client->id, 0, 0)) != 0)
                return r;
        if ((r = query_begin(store, QUERY_CLIENT_UPDATE, &q)) != 0)
                return r;
        bind_client(&q, client);
        r = query_run(&q);
        return r != 0 ? r : store_changed(store);
}

/* Its tokens count as revoked from now on: one row says so for all of them. */
static int remember_gone(struct store *store, int64_t id, int64_t now_s) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_CLIENT_GONE, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, id);
        query_int(&q, 2, now_s > 0 ? now_s : 1);
        return query_run(&q);
}

int store_client_delete(struct store *store, int64_t id, int64_t now_s) {
        int r;

        credentials_touch(store);
        if ((r = oscore_tell_gone(store, id, 0, 0)) != 0 ||
            (r = query_about(store, QUERY_CLIENT_POLICIES_DELETE, id)) != 0 ||
            (r = remember_gone(store, id, now_s)) != 0 || (r = trl_gone(store, id, false, now_s)) != 0 ||
            (r = query_about(store, QUERY_CLIENT_DELETE, id)) != 0)
                return r;
        return store_changed(store);
}

int store_client_by_name(struct store *store, struct bytes name, struct client *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_CLIENT_BY_NAME, &q);

        if (r != 0)
                return r;
        query_text(&q, 1, name);
        r = query_next(&q);
        return r != 0 ? r : client_from_row(&q, 0, ret);
}

int store_client_by_id(struct store *store, int64_t id, struct client *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_CLIENT_BY_ID, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, id);
        r = query_next(&q);
        return r != 0 ? r : client_from_row(&q, 0, ret);
}

int store_client_each(struct store *store, struct bytes after, int64_t limit,
                      int (*row)(void *context, const struct client *client), void *context) {
        _cleanup_(query_done) struct query q = {};
        struct client client;
        int r = query_begin(store, QUERY_CLIENT_EACH, &q);

        if (r != 0)
                return r;
        query_text(&q, 1, after);
        query_int(&q, 2, limit);
        while ((r = query_next(&q)) == 0)
                if ((r = client_from_row(&q, 0, &client)) != 0 || (r = row(context, &client)) != 0)
                        return r;
        return query_end(r);
}

static int add_label(struct store *store, int64_t client_id, struct bytes label) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_LABEL_ADD, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, client_id);
        query_text(&q, 2, label);
        return query_run(&q);
}

int store_client_labels_set(struct store *store, int64_t client_id, const struct bytes *labels, size_t n_labels) {
        int r;

        if (n_labels > LABELS_PER_CLIENT_MAX)
                return REFUSE_ADMIN_VALUE;
        r = query_about(store, QUERY_LABELS_DELETE, client_id);
        for (size_t i = 0; i < n_labels && r == 0; i++)
                r = add_label(store, client_id, labels[i]);
        return r;
}

int store_client_labels_each(struct store *store, int64_t client_id,
                             int (*row)(void *context, const char *label), void *context) {
        _cleanup_(query_done) struct query q = {};
        char label[NAME_SIZE_MAX + 1];
        int r = query_begin(store, QUERY_LABELS, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, client_id);
        while ((r = query_next(&q)) == 0)
                if ((r = row_text(&q, 0, label, sizeof(label))) != 0 || (r = row(context, label)) != 0)
                        return r;
        return query_end(r);
}
