#include "store/tokens.h"

#include <errno.h>

#include "store/clients.h"
#include "store/policies.h"
#include "store/private.h"
#include "store/servers.h"

#define TOKEN_HASH_COLUMN 2
#define TOKEN_POP_KEY_COLUMN 13

/* ---- facts */

static int find_asker(struct store *store, int64_t credential_id, struct token_facts *facts) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_ASKER, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, credential_id);
        if ((r = query_next(&q)) != 0)
                return query_end(r);
        facts->asker_is_server = row_int(&q, 0) != 0;
        return facts->asker_is_server ? 0 : client_from_row(&q, 1, &facts->client);
}

/* RFC 9200 §5.8.1 leaves the default to us: the client's own, else the only audience that there is (AS-021). */
static int default_audience(struct store *store, struct token_facts *facts) {
        _cleanup_(query_done) struct query q = {};
        int r;

        memcpy(facts->audience, facts->client.default_audience, sizeof(facts->audience));
        if (facts->audience[0] != '\0')
                return 0;

        if ((r = query_begin(store, QUERY_AUDIENCE_ONLY, &q)) != 0)
                return r;
        if ((r = query_next(&q)) != 0)
                return r < 0 ? r : -EIO;
        return bytes_equal(row_bytes(&q, 0), row_bytes(&q, 1)) ? /* of none: both empty */
                       row_text(&q, 0, facts->audience, sizeof(facts->audience)) : 0;
}

static int find_audience(struct store *store, const struct token_ask *ask, struct token_facts *facts) {
        int r;

        if (!ask->audience.data) {
                if ((r = default_audience(store, facts)) != 0)
                        return r;
        } else if (audience_is_valid(ask->audience)) {
                memcpy(facts->audience, ask->audience.data, ask->audience.size);
                facts->audience[ask->audience.size] = '\0';
        }
        if (facts->audience[0] == '\0')
                return 0; /* none, or none that could be registered */
        return store_audience_find(store, bytes_text(facts->audience), &facts->n_servers, &facts->is_group,
                                   &facts->server);
}

/* RFC 9202 §3.3.1, §4: of this client and this server, and still in use; anything else is nobody's key. */
static int find_pop_key(struct store *store, struct bytes kid, int64_t now_s, struct token_facts *facts) {
        _cleanup_(query_done) struct query q = {};
        uint64_t number;
        int r;

        if (number_from_bytes(kid, &number) != 0 || number > INT64_MAX)
                return 0;
        if ((r = query_begin(store, QUERY_KEY_BY_KID, &q)) != 0)
                return r;
        query_int(&q, 1, (int64_t)number);
        query_int(&q, 2, facts->client.id);
        query_int(&q, 3, facts->server.id);
        query_int(&q, 4, now_s);
        if ((r = query_next(&q)) != 0)
                return query_end(r);

        r = row_secret(&q, 1, "tokens.pop_key", row_int(&q, 0), &facts->pop_key);
        if (r != 0)
                return r;
        facts->pop_key_number = number;
        facts->pop_key_found = true;
        return 0;
}

static struct live_count *live_count_of(struct store *store, int64_t client_id) {
        return &store->live_counts[(uint64_t)client_id & (LIVE_COUNTS - 1)];
}

/*
 * Counting is skipped while the last count and what was added since stay under the limit: it can only be too high,
 * by what has expired. At the limit it is made anew, but once a second only, so that a client that hammers there costs
 * no more than others.
 */
static int count_live(struct store *store, int64_t now_s, struct token_facts *facts) {
        _cleanup_(query_done) struct query q = {};
        struct live_count *count = live_count_of(store, facts->client.id);
        bool known = count->client_id == facts->client.id && count->generation == store->generation &&
                     count->max == facts->tokens_max && count->counted_s <= now_s;
        int r;

        if (known && (count->n < count->max || count->counted_s == now_s)) {
                facts->n_live_tokens = count->n;
                return 0;
        }

        if ((r = query_begin(store, QUERY_TOKENS_LIVE, &q)) != 0)
                return r;
        query_int(&q, 1, facts->client.id);
        query_int(&q, 2, now_s);
        query_int(&q, 3, facts->tokens_max);
        if ((r = query_next(&q)) != 0)
                return r < 0 ? r : -EIO;

        facts->n_live_tokens = row_int(&q, 0);
        *count = (struct live_count){
                .client_id = facts->client.id,
                .counted_s = now_s,
                .n = facts->n_live_tokens,
                .max = facts->tokens_max,
                .generation = store->generation,
        };
        return 0;
}

int store_token_facts(struct store *store, int64_t credential_id, int64_t client_id, const struct token_ask *ask,
                      int64_t now_s, struct token_facts *facts) {
        int r;

        if (client_id != 0)
                r = query_end(store_client_by_id(store, client_id, &facts->client));
        else
                r = credential_id != 0 ? find_asker(store, credential_id, facts) : 0;
        if (r != 0 || facts->client.id == 0)
                return r;

        if ((r = find_audience(store, ask, facts)) != 0)
                return r;
        if (facts->n_servers > 0 &&
            (r = store_policies_for(store, &facts->client, facts->audience, &facts->policies, &facts->n_policies)) != 0)
                return r;
        if (facts->n_servers == 1 && !facts->is_group && ask->cnf == ASK_CNF_KID &&
            (r = find_pop_key(store, ask->kid, now_s, facts)) != 0)
                return r;
        return facts->tokens_max > 0 ? count_live(store, now_s, facts) : 0;
}

/* ---- tokens */

int store_token_add(struct store *store, const struct grant *grant, const uint8_t hash[static TOKEN_HASH_SIZE]) {
        _cleanup_(query_done) struct query q = {};
        uint8_t sealed[SECRET_SIZE_MAX + SEALED_OVERHEAD];
        struct live_count *count = live_count_of(store, grant->client_id);
        size_t sealed_size;
        int r;

        if ((r = seal_into(store, "tokens.pop_key", (int64_t)grant->number, secret_bytes(&grant->pop_key), sealed,
                           &sealed_size)) != 0 ||
            (r = query_begin(store, QUERY_TOKEN_ADD, &q)) != 0)
                return r;
        query_int(&q, 1, (int64_t)grant->number);
        query_int(&q, 2, (int64_t)grant->key_number);
        query_blob(&q, 3, bytes_of(hash, TOKEN_HASH_SIZE));
        query_int(&q, 4, grant->client_id);
        query_int(&q, 5, grant->server_id);
        query_text(&q, 6, bytes_text(grant->audience));
        query_scope(&q, 7, &grant->scope);
        query_int(&q, 8, grant->profile);
        query_int(&q, 9, grant->issued_s);
        query_int(&q, 10, grant->expires_s);
        query_blob(&q, 11, bytes_of(sealed, sealed_size));
        r = query_run(&q);
        if (r != 0)
                return r < 0 ? r : -EIO; /* a number or a token came twice: that is no decision, that is a bug */

        store->tokens_added = store->tokens_added_in_savepoint = true;
        if (store->savepoint_wanted && !store->savepoint_open)
                store->token_to_undo = grant->number;
        if (count->client_id == grant->client_id)
                count->n++;
        return 0;
}

static int token_from_row(struct query *query, struct token *ret) {
        struct bytes hash = row_bytes(query, TOKEN_HASH_COLUMN);
        int r;

        if (hash.size != TOKEN_HASH_SIZE)
                return -EIO;
        memcpy(ret->hash, hash.data, TOKEN_HASH_SIZE);
        ret->number = (uint64_t)row_int(query, 0);
        ret->key_number = (uint64_t)row_int(query, 1);
        ret->client_id = row_int(query, 3);
        ret->server_id = row_int(query, 4);
        ret->profile = (unsigned)row_int(query, 9);
        ret->issued_s = row_int(query, 10);
        ret->expires_s = row_int(query, 11);
        ret->revoked_s = row_int(query, 12);
        ret->pop_key.size = 0;
        if ((r = row_text(query, 5, ret->client_name, sizeof(ret->client_name))) != 0 ||
            (r = row_text(query, 6, ret->server_name, sizeof(ret->server_name))) != 0 ||
            (r = row_text(query, 7, ret->audience, sizeof(ret->audience))) != 0)
                return r;
        return row_scope(query, 8, &ret->scope);
}

int store_token_find(struct store *store, uint64_t number, const uint8_t hash[static TOKEN_HASH_SIZE],
                     struct token *ret) {
        _cleanup_(query_done) struct query q = {};
        int r;

        if (number > INT64_MAX)
                return REFUSE_ADMIN_UNKNOWN;
        if ((r = query_begin(store, QUERY_TOKEN_FIND, &q)) != 0)
                return r;
        query_int(&q, 1, (int64_t)number);
        if ((r = query_next(&q)) != 0)
                return r;
        if (!bytes_equal_ct(row_bytes(&q, TOKEN_HASH_COLUMN), bytes_of(hash, TOKEN_HASH_SIZE)))
                return REFUSE_ADMIN_UNKNOWN;
        if ((r = token_from_row(&q, ret)) != 0)
                return r;
        return row_secret(&q, TOKEN_POP_KEY_COLUMN, "tokens.pop_key", (int64_t)ret->number, &ret->pop_key);
}

int store_token_by_number(struct store *store, uint64_t number, struct token *ret) {
        _cleanup_(query_done) struct query q = {};
        int r;

        if (number > INT64_MAX)
                return REFUSE_ADMIN_UNKNOWN;
        if ((r = query_begin(store, QUERY_TOKEN_BY_NUMBER, &q)) != 0)
                return r;
        query_int(&q, 1, (int64_t)number);
        r = query_next(&q);
        return r != 0 ? r : token_from_row(&q, ret);
}

/* Of the one registered now, else of the one of that name that went last. 0 in *ret_id: nobody. */
static int find_party(struct store *store, struct bytes name, bool is_server, int64_t *ret_id) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_PARTY_ID, &q);

        if (r != 0)
                return r;
        query_text(&q, 1, name);
        query_int(&q, 2, is_server);
        r = query_next(&q);
        *ret_id = r == 0 ? row_int(&q, 0) : 0;
        return query_end(r);
}

int store_token_each(struct store *store, uint64_t after, int64_t limit, const struct token_filter *filter,
                     int (*row)(void *context, const struct token *token), void *context) {
        _cleanup_(query_done) struct query q = {};
        enum query_id id = filter->client.data ? QUERY_TOKENS_OF_CLIENT :
                           filter->server.data ? QUERY_TOKENS_OF_SERVER : QUERY_TOKENS;
        int64_t client_id = 0, server_id = 0;
        struct token token;
        int r;

        if ((filter->client.data && (r = find_party(store, filter->client, false, &client_id)) != 0) ||
            (filter->server.data && (r = find_party(store, filter->server, true, &server_id)) != 0))
                return r;
        if (after > INT64_MAX || (filter->client.data && client_id == 0) || (filter->server.data && server_id == 0))
                return 0;

        if ((r = query_begin(store, id, &q)) != 0)
                return r;
        query_int(&q, 1, (int64_t)after);
        query_int(&q, 2, limit);
        query_int(&q, 3, filter->live_only);
        query_int(&q, 4, filter->now_s);
        if (filter->client.data)
                query_int(&q, 5, client_id);
        if (id != QUERY_TOKENS)
                query_int(&q, 6, server_id);
        while ((r = query_next(&q)) == 0)
                if ((r = token_from_row(&q, &token)) != 0 || (r = row(context, &token)) != 0)
                        return r;
        return query_end(r);
}

int store_token_oldest(struct store *store, int64_t *ret_expires_s) {
        return pragma_int(store, "SELECT coalesce(min(expires_s), 0) FROM tokens", ret_expires_s);
}

static int purge(struct store *store, enum query_id id, int64_t before_s, int64_t limit, int64_t *ret_n) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, id, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, before_s);
        query_int(&q, 2, limit);
        r = query_run(&q);
        if (r == 0)
                *ret_n = sqlite3_changes64(store->db);
        return r;
}

int store_token_purge(struct store *store, int64_t before_s, int64_t limit, int64_t *ret_n) {
        int64_t n_gone;
        int r = purge(store, QUERY_TOKENS_PURGE, before_s, limit, ret_n);

        /* who is gone is remembered as long as a token may need the name */
        if (r == 0 && *ret_n < limit)
                r = purge(store, QUERY_GONE_PURGE, before_s, limit, &n_gone);
        return r;
}
