#include "store/refresh.h"

#include <errno.h>

#include "crypto/hash.h"
#include "format/ace.h"
#include "store/private.h"
#include "store/trl.h"

#define POP_KEY_COLUMN "refresh_tokens.pop_key"

/* Only a page of the family is looked at, and only when a token is exchanged. */
static int forget_used(struct store *store, uint64_t family) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_REFRESH_TOKENS_FORGET, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, (int64_t)family);
        query_int(&q, 2, REFRESH_TOKENS_KEPT);
        return query_run(&q);
}

int store_refresh_add(struct store *store, const struct grant *grant, uint64_t number,
                      const uint8_t hash[static TOKEN_HASH_SIZE]) {
        _cleanup_(query_done) struct query q = {};
        uint8_t sealed[POP_KEY_SEALED_MAX], public_key[PUBLIC_SIZE_MAX], osc[OSC_COLUMN_SIZE];
        size_t sealed_size;
        int r;

        if ((r = seal_pop_key(store, POP_KEY_COLUMN, number, &grant->pop_key, sealed, &sealed_size)) != 0 ||
            (r = query_begin(store, QUERY_REFRESH_TOKEN_ADD, &q)) != 0)
                return r;
        query_int(&q, 1, (int64_t)number);
        query_int(&q, 2, (int64_t)grant->family);
        query_blob(&q, 3, bytes_of(hash, TOKEN_HASH_SIZE));
        query_int(&q, 4, grant->client_id);
        query_int(&q, 5, grant->server_id);
        query_text(&q, 6, bytes_text(grant->audience));
        query_scope(&q, 7, &grant->refresh_scope);
        query_int(&q, 8, (int64_t)grant->key_number);
        query_blob(&q, 9, bytes_of(sealed, sealed_size));
        query_public_key(&q, 10, &grant->public_key, bytes_of(grant->kid, grant->kid_size), public_key);
        query_int(&q, 12, grant->issued_s);
        query_int(&q, 13, grant->issued_s + grant->refresh_lifetime_s);
        query_osc(&q, 14, &grant->osc, false, osc);
        r = query_run(&q);
        if (r != 0)
                return r < 0 ? r : -EIO; /* a number came twice */
        return number == grant->family ? 0 : forget_used(store, grant->family);
}

static int refresh_token_from_row(struct query *query, struct refresh_token *ret) {
        bool names_osc;
        int r;

        ret->number = (uint64_t)row_int(query, 0);
        ret->family = (uint64_t)row_int(query, 1);
        memcpy(ret->hash, row_bytes(query, 2).data, TOKEN_HASH_SIZE);
        ret->client_id = row_int(query, 3);
        ret->server_id = row_int(query, 4);
        ret->key_number = (uint64_t)row_int(query, 7);
        ret->issued_s = row_int(query, 10);
        ret->expires_s = row_int(query, 11);
        ret->used_s = row_int(query, 12);
        ret->revoked_s = row_int(query, 13);
        if ((r = row_text(query, 5, ret->audience, sizeof(ret->audience))) != 0 ||
            (r = row_scope(query, 6, &ret->scope)) != 0 ||
            (r = row_public_key(query, 8, &ret->public_key, ret->kid, &ret->kid_size)) != 0 ||
            (r = row_osc(query, 15, &ret->osc, &names_osc)) != 0)
                return r;
        return row_pop_key(query, 14, POP_KEY_COLUMN, ret->number, &ret->pop_key);
}

int store_refresh_find(struct store *store, struct bytes bytes, struct refresh_token *ret) {
        _cleanup_(query_done) struct query q = {};
        uint8_t hash[TOKEN_HASH_SIZE];
        uint64_t number;
        int r;

        if (refresh_token_number(bytes, &number) != 0 || number > INT64_MAX)
                return REFUSE_ADMIN_UNKNOWN;
        if ((r = sha256(bytes, hash)) != 0 || (r = query_begin(store, QUERY_REFRESH_TOKEN_FIND, &q)) != 0)
                return r;
        query_int(&q, 1, (int64_t)number);
        if ((r = query_next(&q)) != 0)
                return r;
        if (!bytes_equal_ct(row_bytes(&q, 2), bytes_of(hash, sizeof(hash))))
                return REFUSE_ADMIN_UNKNOWN;
        return refresh_token_from_row(&q, ret);
}

/* Statements about one row, or one family, that note when. */
static int note_time(struct store *store, enum query_id id, uint64_t about, int64_t now_s) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, id, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, (int64_t)about);
        query_int(&q, 2, now_s > 0 ? now_s : 1);
        return query_run(&q);
}

int store_refresh_use(struct store *store, uint64_t number, int64_t now_s) {
        int r = note_time(store, QUERY_REFRESH_TOKEN_USE, number, now_s);

        return r != 0 ? r : store_changed(store);
}

int store_refresh_count(struct store *store, int64_t client_id, int64_t now_s, int64_t limit, int64_t *ret_n) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_REFRESH_TOKENS_LIVE, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, client_id);
        query_int(&q, 2, now_s);
        query_int(&q, 3, limit);
        if ((r = query_next(&q)) != 0)
                return r < 0 ? r : -EIO;
        *ret_n = row_int(&q, 0);
        return 0;
}

int store_family_revoke(struct store *store, uint64_t family, int64_t now_s) {
        int r = note_time(store, QUERY_REFRESH_FAMILY_REVOKE, family, now_s);

        if (r == 0)
                r = store_tokens_revoke_family(store, family, now_s);
        return r;
}

int store_refresh_purge(struct store *store, int64_t before_s, int64_t limit, int64_t *ret_n) {
        return query_purge(store, QUERY_REFRESH_TOKENS_PURGE, before_s, limit, ret_n);
}
