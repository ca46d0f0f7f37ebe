#include "store/servers.h"

#include <errno.h>

#include "store/private.h"

/* What databases hold: these numbers never change. */
_Static_assert(SCOPE_TEXT == 1 && SCOPE_BYTES == 2 && TOKEN_FORMAT_ENCRYPT0 == 1, "kept in databases");
_Static_assert(AEAD_AES_CCM_16_64_128 == 1 && AEAD_AES_CCM_16_128_128 == 2 && AEAD_A128GCM == 3 && AEAD_A256GCM == 4 &&
               AEAD_CHACHA20_POLY1305 == 5, "kept in databases");

int server_from_row(struct query *query, int at, struct server *ret) {
        int r;

        ret->id = row_int(query, at);
        ret->suspended = row_int(query, at + 2) != 0;
        ret->profiles = (profile_set)row_int(query, at + 3);
        ret->scope_kind = (enum scope_kind)row_int(query, at + 4);
        ret->token_format = (enum token_format)row_int(query, at + 7);
        ret->token_alg = (enum aead_alg)row_int(query, at + 8);
        ret->token_tagged = row_int(query, at + 9) != 0;
        ret->default_lifetime_s = row_int(query, at + 10);
        ret->max_lifetime_s = row_int(query, at + 11);
        ret->has_clock = row_int(query, at + 12) != 0;
        ret->created_s = row_int(query, at + 13);
        if ((r = row_text(query, at + 1, ret->name, sizeof(ret->name))) != 0 ||
            (r = row_scope(query, at + 5, &ret->scopes)) != 0)
                return r;
        return row_scope(query, at + 6, &ret->default_scope);
}

/* What QUERY_SERVER_ADD and QUERY_SERVER_UPDATE have in common. */
static void bind_server(struct query *query, const struct server *server) {
        query_int(query, 1, server->id);
        query_int(query, 3, server->suspended);
        query_int(query, 4, server->profiles);
        query_int(query, 5, server->scope_kind);
        query_scope(query, 6, &server->scopes);
        query_scope(query, 7, &server->default_scope);
        query_int(query, 8, server->token_format);
        query_int(query, 9, server->token_alg);
        query_int(query, 10, server->token_tagged);
        query_int(query, 11, server->default_lifetime_s);
        query_int(query, 12, server->max_lifetime_s);
        query_int(query, 13, server->has_clock);
}

int store_server_add(struct store *store, struct server *server) {
        _cleanup_(query_done) struct query q = {};
        uint64_t id;
        int r;

        if ((r = store_number(store, NUMBER_ROW, &id)) != 0 || (r = query_begin(store, QUERY_SERVER_ADD, &q)) != 0)
                return r;
        server->id = (int64_t)id;
        bind_server(&q, server);
        query_text(&q, 2, bytes_text(server->name));
        query_int(&q, 14, server->created_s);
        return query_run(&q);
}

int store_server_update(struct store *store, const struct server *server) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_SERVER_UPDATE, &q);

        if (r != 0)
                return r;
        bind_server(&q, server);
        r = query_run(&q);
        return r != 0 ? r : store_changed(store);
}

/* Its tokens count as revoked from now on: one row says so for all of them. */
static int remember_gone(struct store *store, int64_t id, int64_t now_s) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_SERVER_GONE, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, id);
        query_int(&q, 2, now_s > 0 ? now_s : 1);
        return query_run(&q);
}

int store_server_delete(struct store *store, int64_t id, int64_t now_s) {
        int r;

        if ((r = query_about(store, QUERY_SERVER_POLICIES_DELETE, id)) != 0 ||
            (r = remember_gone(store, id, now_s)) != 0 || (r = trl_gone(store, id, true, now_s)) != 0 ||
            (r = query_about(store, QUERY_SERVER_DELETE, id)) != 0)
                return r;
        return store_changed(store);
}

int store_server_by_name(struct store *store, struct bytes name, struct server *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_SERVER_BY_NAME, &q);

        if (r != 0)
                return r;
        query_text(&q, 1, name);
        r = query_next(&q);
        return r != 0 ? r : server_from_row(&q, 0, ret);
}

int store_server_by_id(struct store *store, int64_t id, struct server *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_SERVER_BY_ID, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, id);
        r = query_next(&q);
        return r != 0 ? r : server_from_row(&q, 0, ret);
}

int store_server_each(struct store *store, struct bytes after, int64_t limit,
                      int (*row)(void *context, const struct server *server), void *context) {
        _cleanup_(query_done) struct query q = {};
        struct server server;
        int r = query_begin(store, QUERY_SERVER_EACH, &q);

        if (r != 0)
                return r;
        query_text(&q, 1, after);
        query_int(&q, 2, limit);
        while ((r = query_next(&q)) == 0)
                if ((r = server_from_row(&q, 0, &server)) != 0 || (r = row(context, &server)) != 0)
                        return r;
        return query_end(r);
}

/* ---- audiences */

static int check_conflict(struct store *store, int64_t server_id, struct bytes audience, bool is_group) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_AUDIENCE_CONFLICT, &q);

        if (r != 0)
                return r;
        query_text(&q, 1, audience);
        query_int(&q, 2, server_id);
        query_int(&q, 3, is_group);
        r = query_next(&q);
        return r == 0 ? REFUSE_ADMIN_EXISTS : query_end(r);
}

int store_audience_add(struct store *store, int64_t server_id, struct bytes audience, bool is_group) {
        _cleanup_(query_done) struct query q = {};
        int r;

        if ((r = check_conflict(store, server_id, audience, is_group)) != 0 ||
            (r = query_begin(store, QUERY_AUDIENCE_ADD, &q)) != 0)
                return r;
        query_text(&q, 1, audience);
        query_int(&q, 2, server_id);
        query_int(&q, 3, is_group);
        r = query_run(&q);
        return r != 0 ? r : store_changed(store);
}

int store_audience_delete(struct store *store, int64_t server_id, struct bytes audience) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_AUDIENCE_DELETE, &q);

        if (r != 0)
                return r;
        query_text(&q, 1, audience);
        query_int(&q, 2, server_id);
        r = query_run(&q);
        return r != 0 ? r : store_changed(store);
}

int store_audience_each(struct store *store, int64_t server_id,
                        int (*row)(void *context, const char *audience, bool is_group), void *context) {
        _cleanup_(query_done) struct query q = {};
        char audience[AUDIENCE_SIZE_MAX + 1];
        int r = query_begin(store, QUERY_AUDIENCES, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, server_id);
        while ((r = query_next(&q)) == 0)
                if ((r = row_text(&q, 0, audience, sizeof(audience))) != 0 ||
                    (r = row(context, audience, row_int(&q, 1) != 0)) != 0)
                        return r;
        return query_end(r);
}

int audience_find(struct store *store, struct bytes audience, int64_t limit, size_t *ret_n, bool *ret_is_group,
                  struct server *ret_first) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_AUDIENCE_SERVERS, &q);

        if (r != 0)
                return r;
        *ret_n = 0;
        *ret_is_group = false;
        query_text(&q, 1, audience);
        query_int(&q, 2, limit);
        while ((r = query_next(&q)) == 0) {
                *ret_is_group = row_int(&q, 0) != 0;
                if ((*ret_n)++ == 0 && (r = server_from_row(&q, 1, ret_first)) != 0)
                        return r;
        }
        return query_end(r);
}

int store_audience_find(struct store *store, struct bytes audience, size_t *ret_n, bool *ret_is_group,
                        struct server *ret_first) {
        return audience_find(store, audience, INT64_MAX, ret_n, ret_is_group, ret_first);
}

int store_audience_server(struct store *store, struct bytes audience, struct server *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_AUDIENCE_SERVER, &q);

        if (r != 0)
                return r;
        query_text(&q, 1, audience);
        r = query_next(&q);
        return r != 0 ? r : server_from_row(&q, 0, ret);
}

/* ---- keys */

int store_server_key_set(struct store *store, struct server_key *key) {
        _cleanup_(query_done) struct query q = {};
        uint8_t mark[32], sealed[SECRET_SIZE_MAX + SEALED_OVERHEAD];
        size_t sealed_size;
        uint64_t id;
        int r;

        if (key->kid_size > sizeof(key->kid))
                return -EINVAL;
        if ((r = store_secret_mark(store, secret_bytes(&key->key), mark)) != 0 ||
            (r = secret_is_free(store, mark, key->server_id)) != 0 ||
            (r = store_number(store, NUMBER_ROW, &id)) != 0 ||
            (r = seal_into(store, "server_keys.secret", (int64_t)id, secret_bytes(&key->key), sealed,
                           &sealed_size)) != 0 ||
            (r = query_about(store, QUERY_SERVER_KEYS_DELETE, key->server_id)) != 0 ||
            (r = query_begin(store, QUERY_SERVER_KEY_SET, &q)) != 0)
                return r;

        key->id = (int64_t)id;
        query_int(&q, 1, key->id);
        query_int(&q, 2, key->server_id);
        query_blob(&q, 3, bytes_of(key->kid, key->kid_size));
        query_blob(&q, 4, bytes_of(sealed, sealed_size));
        query_blob(&q, 5, bytes_of(mark, sizeof(mark)));
        query_int(&q, 6, key->created_s);
        return query_run(&q);
}

int store_server_key_get(struct store *store, int64_t server_id, struct server_key *ret) {
        _cleanup_(query_done) struct query q = {};
        struct bytes kid;
        int r = query_begin(store, QUERY_SERVER_KEY_GET, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, server_id);
        if ((r = query_next(&q)) != 0)
                return r;

        kid = row_bytes(&q, 1);
        if (kid.size > sizeof(ret->kid))
                return -EIO;
        if (kid.size > 0)
                memcpy(ret->kid, kid.data, kid.size);
        ret->kid_size = kid.size;
        ret->id = row_int(&q, 0);
        ret->server_id = server_id;
        ret->created_s = row_int(&q, 3);
        return row_secret(&q, 2, "server_keys.secret", ret->id, &ret->key);
}
