#include "store/servers.h"

#include <errno.h>

#include "store/private.h"

/* What databases hold: these numbers never change. */
_Static_assert(SCOPE_TEXT == 1 && SCOPE_BYTES == 2, "kept in databases");
_Static_assert(TOKEN_FORMAT_ENCRYPT0 == 1 && TOKEN_FORMAT_MAC0 == 2 && TOKEN_FORMAT_SIGN1 == 3 &&
               TOKEN_FORMAT_SIGN_ENCRYPT == 4 && TOKEN_FORMAT_OPAQUE == 5, "kept in databases");
_Static_assert(MAC_HMAC_256_64 == 1 && MAC_HMAC_256_256 == 2 && SIGN_ES256 == 1 && SIGN_ES384 == 2 && SIGN_EDDSA == 3,
               "kept in databases");
_Static_assert(CURVE_P256 == 1 && CURVE_P384 == 2 && CURVE_ED25519 == 3 && CURVE_X25519 == 4, "bits of pop_keys");
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
        ret->mac_alg = (enum mac_alg)row_int(query, at + 14);
        ret->sign_alg = (enum sign_alg)row_int(query, at + 15);
        ret->pop_keys = (pop_key_set)row_int(query, at + 16);
        ret->derives_key = row_int(query, at + 17) != 0;
        ret->has_trl = row_int(query, at + 18) != 0;
        ret->preferred_profile = (unsigned)row_int(query, at + 19);
        ret->oscore_alg = (enum aead_alg)row_int(query, at + 20);
        ret->oscore_hkdf = (enum oscore_hkdf)row_int(query, at + 21);
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
        query_int(query, 14, server->mac_alg);
        query_int(query, 15, server->sign_alg);
        query_int(query, 16, server->pop_keys);
        query_int(query, 17, server->derives_key);
        query_int(query, 18, server->has_trl);
        query_int(query, 19, server->preferred_profile);
        query_int(query, 20, server->oscore_alg);
        query_int(query, 21, server->oscore_hkdf);
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
        query_int(&q, 22, server->created_s);
        return query_run(&q);
}

int store_server_update(struct store *store, const struct server *server) {
        _cleanup_(query_done) struct query q = {};
        int r;

        credentials_touch(store);
        if (server->suspended && (r = oscore_tell_gone(store, 0, server->id, 0)) != 0)
                return r;
        if ((r = query_begin(store, QUERY_SERVER_UPDATE, &q)) != 0)
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

        credentials_touch(store);
        if ((r = oscore_tell_gone(store, 0, id, 0)) != 0 ||
            (r = query_about(store, QUERY_SERVER_POLICIES_DELETE, id)) != 0 ||
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

/* Of two lifetimes the shorter; 0 is the configured one. */
static int64_t shorter(int64_t a, int64_t b) {
        return a == 0 || (b != 0 && b < a) ? b : a;
}

/* A server that knows any scope (NONE) knows what the others know. Nothing in common is an empty scope, not any. */
static void keep_common_scope(struct scope *common, const struct scope *other) {
        enum scope_kind kind = common->kind;

        if (kind == SCOPE_NONE)
                *common = *other;
        else if (other->kind != SCOPE_NONE && !scope_intersect(common, other, common))
                *common = (struct scope){ .kind = kind };
}

/* One more member: what is left of what the whole group can do. */
static void keep_common(struct server *group, const struct server *member) {
        group->profiles &= member->profiles;
        group->pop_keys &= member->pop_keys;
        keep_common_scope(&group->scopes, &member->scopes);
        if (group->default_scope.kind != SCOPE_NONE &&
            !scope_intersect(&group->default_scope, &member->default_scope, &group->default_scope))
                group->default_scope.kind = SCOPE_NONE;
        group->default_lifetime_s = shorter(group->default_lifetime_s, member->default_lifetime_s);
        group->max_lifetime_s = shorter(group->max_lifetime_s, member->max_lifetime_s);
        group->has_clock = group->has_clock && member->has_clock;
        group->has_trl = group->has_trl || member->has_trl;
}

/* AS-065, AS-066: signed, and bound to public keys alone. */
static void make_group(struct server *first) {
        first->id = 0;
        first->token_format = TOKEN_FORMAT_SIGN1;
        first->token_tagged = true;
        first->derives_key = false;
        first->pop_keys &= ~POP_KEY_SYMMETRIC;
}

int store_audience_find(struct store *store, struct bytes audience, size_t *ret_n, bool *ret_is_group,
                        struct server *ret) {
        _cleanup_(query_done) struct query q = {};
        struct server member;
        int r = query_begin(store, QUERY_AUDIENCE_SERVERS, &q);

        if (r != 0)
                return r;
        *ret_n = 0;
        *ret_is_group = false;
        query_text(&q, 1, audience);
        while ((r = query_next(&q)) == 0) {
                *ret_is_group = row_int(&q, 0) != 0;
                if ((r = server_from_row(&q, 1, *ret_n == 0 ? ret : &member)) != 0)
                        return r;
                if (*ret_is_group && *ret_n == 0)
                        make_group(ret);
                else if (*ret_is_group)
                        keep_common(ret, &member);
                (*ret_n)++;
        }
        return query_end(r);
}

int store_group_conflict(struct store *store, int64_t server_id, struct group_conflict *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_GROUP_CONFLICT, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, server_id);
        if ((r = query_next(&q)) != 0 || (r = row_text(&q, 0, ret->audience, sizeof(ret->audience))) != 0)
                return r;
        return row_text(&q, 1, ret->other, sizeof(ret->other));
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

void server_key_done(struct server_key *key) {
        secret_done(&key->key);
}

static void bind_key(struct query *query, const struct server_key *key, struct bytes mark) {
        query_int(query, 1, key->server_id);
        query_int(query, 2, key->role);
        query_blob(query, 3, mark);
        query_int(query, 4, key->created_s);
}

/* May it come, and when is it in force? Then those that it takes the place of go. */
static int make_place(struct store *store, struct server_key *key, struct bytes mark) {
        _cleanup_(query_done) struct query count = {}, replace = {};
        bool is_announced = key->active_from_s > key->created_s;
        int r = query_begin(store, QUERY_SERVER_KEY_COUNT, &count);

        if (r != 0)
                return r;
        bind_key(&count, key, mark);
        if ((r = query_next(&count)) != 0)
                return r < 0 ? r : -EIO;
        if (row_int(&count, 0) == 0) {
                key->active_from_s = 0; /* nobody has to wait for it */
                return 0;
        }
        if (row_int(&count, 1) > 0 && is_announced)
                return REFUSE_ADMIN_EXISTS; /* to take it away until then would leave none */
        if (row_int(&count, 0) >= SERVER_KEYS_MAX)
                return REFUSE_ADMIN_CONFLICT;
        if ((r = query_begin(store, QUERY_SERVER_KEY_REPLACE, &replace)) != 0)
                return r;
        bind_key(&replace, key, mark);
        return query_run(&replace);
}

int store_server_key_set(struct store *store, struct server_key *key) {
        _cleanup_(query_done) struct query q = {};
        uint8_t mark[32], sealed[SECRET_SIZE_MAX + SEALED_OVERHEAD];
        size_t sealed_size;
        uint64_t id;
        int r;

        if (key->kid_size > sizeof(key->kid) || key->role <= 0 || key->role >= SERVER_KEY_ROLES)
                return -EINVAL;
        if ((r = store_secret_mark(store, secret_bytes(&key->key), mark)) != 0 ||
            (r = secret_is_free(store, mark, key->server_id)) != 0 ||
            (r = make_place(store, key, bytes_of(mark, sizeof(mark)))) != 0 ||
            (r = store_number(store, NUMBER_ROW, &id)) != 0 ||
            (r = seal_into(store, "server_keys.secret", (int64_t)id, secret_bytes(&key->key), sealed,
                           &sealed_size)) != 0 ||
            (r = query_begin(store, QUERY_SERVER_KEY_SET, &q)) != 0)
                return r;

        key->id = (int64_t)id;
        query_int(&q, 1, key->id);
        query_int(&q, 2, key->server_id);
        query_int(&q, 3, key->role);
        query_blob(&q, 4, bytes_of(key->kid, key->kid_size));
        query_blob(&q, 5, bytes_of(sealed, sealed_size));
        query_blob(&q, 6, bytes_of(mark, sizeof(mark)));
        query_int(&q, 7, key->active_from_s);
        query_int(&q, 8, key->created_s);
        return query_run(&q);
}

static int take_kid(struct bytes kid, struct server_key *ret) {
        if (kid.size > sizeof(ret->kid))
                return -EIO;
        if (kid.size > 0)
                memcpy(ret->kid, kid.data, kid.size);
        ret->kid_size = kid.size;
        return 0;
}

static int read_key(struct store *store, enum query_id id, int64_t server_id, enum server_key_role role, int64_t now_s,
                    struct server_key *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, id, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, server_id);
        query_int(&q, 2, role);
        if (id == QUERY_SERVER_KEY_GET)
                query_int(&q, 3, now_s);
        if ((r = query_next(&q)) != 0 || (r = take_kid(row_bytes(&q, 1), ret)) != 0)
                return r;
        ret->id = row_int(&q, 0);
        ret->server_id = server_id;
        ret->role = role;
        ret->active_from_s = row_int(&q, 3);
        ret->created_s = row_int(&q, 4);
        return row_secret(&q, 2, "server_keys.secret", ret->id, &ret->key);
}

int store_server_key_get(struct store *store, int64_t server_id, enum server_key_role role, int64_t now_s,
                         struct server_key *ret) {
        int r = read_key(store, QUERY_SERVER_KEY_GET, server_id, role, now_s, ret);

        return r == REFUSE_ADMIN_UNKNOWN ? read_key(store, QUERY_SERVER_KEY_EARLIEST, server_id, role, now_s, ret) : r;
}

int store_server_key_each(struct store *store, int64_t server_id,
                          int (*row)(void *context, const struct server_key *key), void *context) {
        _cleanup_(query_done) struct query q = {};
        struct server_key key = { .server_id = server_id };
        int r = query_begin(store, QUERY_SERVER_KEYS, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, server_id);
        while ((r = query_next(&q)) == 0) {
                key.id = row_int(&q, 0);
                key.role = (enum server_key_role)row_int(&q, 1);
                key.active_from_s = row_int(&q, 3);
                key.created_s = row_int(&q, 4);
                if ((r = take_kid(row_bytes(&q, 2), &key)) != 0 || (r = row(context, &key)) != 0)
                        return r;
        }
        return query_end(r);
}

int store_server_keys_drop(struct store *store, int64_t server_id, int64_t before_s) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_SERVER_KEYS_DROP, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, server_id);
        query_int(&q, 2, before_s);
        return query_run(&q);
}

int store_exi_next(struct store *store, int64_t server_id, uint64_t *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_EXI_NEXT, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, server_id);
        if ((r = query_next(&q)) != 0)
                return r;
        *ret = (uint64_t)row_int(&q, 0);
        return query_run(&q);
}
