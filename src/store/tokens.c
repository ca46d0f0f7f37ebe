#include "store/tokens.h"

#include <errno.h>

#include "format/cwt.h"
#include "store/clients.h"
#include "store/credentials.h"
#include "store/policies.h"
#include "store/private.h"
#include "store/refresh.h"
#include "store/servers.h"

#define TOKEN_HASH_COLUMN 2
#define TOKEN_POP_KEY_COLUMN 21

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

/* Of this client only: what was given to somebody else is nothing here (RFC 6749 §6). */
static int find_refresh_token(struct store *store, struct bytes bytes, int64_t now_s, struct token_facts *facts) {
        _cleanup_(refresh_token_done) struct refresh_token token = {};
        int r = store_refresh_find(store, bytes, &token);

        if (r != 0 || token.client_id != facts->client.id)
                return r < 0 ? r : 0;
        facts->refresh_reused = token.used_s != 0;
        facts->refresh_found = token.used_s == 0 && token.revoked_s == 0 && token.issued_s <= now_s &&
                               now_s < token.expires_s;
        facts->refresh = token;
        return 0;
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

        if (facts->refresh_found) {
                memcpy(facts->audience, facts->refresh.audience, sizeof(facts->audience));
        } else if (!ask->audience.data) {
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

/* RFC 9202 §3.3.1, §4, RFC 9203 §3.1: of this client and this server, and in use; anything else is nobody's key. */
static int find_pop_key(struct store *store, const struct token_ask *ask, int64_t now_s, struct token_facts *facts) {
        _cleanup_(query_done) struct query q = {};
        uint64_t number;
        bool names_osc;
        int r;

        /* 0 is what tokens have for a public key: no number of a symmetric one */
        if (number_from_bytes(ask->kid, &number) != 0 || number == 0 || number > INT64_MAX)
                return 0;
        if ((r = query_begin(store, QUERY_KEY_BY_KID, &q)) != 0)
                return r;
        query_int(&q, 1, (int64_t)number);
        query_int(&q, 2, facts->client.id);
        query_int(&q, 3, facts->server.id);
        query_int(&q, 4, now_s);
        if ((r = query_next(&q)) != 0)
                return query_end(r);

        if ((r = row_secret(&q, 1, "tokens.pop_key", row_int(&q, 0), &facts->pop_key)) != 0 ||
            (r = row_osc(&q, 2, &facts->pop_osc, &names_osc)) != 0)
                return r;
        facts->pop_key_number = number;
        /* a COSE_Key with this kid is another one */
        facts->pop_key_found = facts->pop_osc.alg == AEAD_NONE || !ask->kid_in_key;
        return 0;
}

/* What a client called its key when it asked for a token that is live yet. */
static int find_key_of_token(struct store *store, struct bytes kid, int64_t now_s, struct token_facts *facts) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_KEY_BY_CLIENTS_KID, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, facts->client.id);
        query_blob(&q, 2, kid);
        query_int(&q, 3, now_s);
        r = query_next(&q);
        return r == 0 ? public_key_from_column(row_bytes(&q, 0), &facts->public_key) : query_end(r);
}

/* A public key that was made known before: registered under the kid, else in a token under it. */
static int find_key_by_kid(struct store *store, struct bytes kid, int64_t now_s, struct token_facts *facts) {
        struct credential credential;
        int r;

        if (kid.size == 0 || kid.size > CREDENTIAL_KID_MAX)
                return 0;
        r = store_client_key_find(store, facts->client.id, NULL, kid, &credential);
        if (r == 0)
                facts->public_key = credential.key;
        return r > 0 ? find_key_of_token(store, kid, now_s, facts) : r;
}

/*
 * AS-061: the client has shown that it holds the private key when it set the channel up with it; or whoever registered
 * the key as the client's has seen to it.
 */
static int prove_key(struct store *store, struct token_facts *facts) {
        uint8_t thumbprint[THUMBPRINT_SIZE];
        struct credential credential;
        int r = public_key_thumbprint(&facts->public_key, thumbprint);

        if (r != 0)
                return r;
        facts->public_key_proven = facts->channel_key && memcmp(thumbprint, facts->channel_key, THUMBPRINT_SIZE) == 0;
        if (facts->public_key_proven)
                return 0;
        r = store_client_key_find(store, facts->client.id, thumbprint, BYTES_NONE, &credential);
        facts->public_key_proven = r == 0;
        return query_end(r);
}

static int find_server_key(struct store *store, struct token_facts *facts) {
        struct credential credential;
        int r = store_server_public_key(store, facts->server.id, facts->public_key.curve, &credential);

        facts->server_has_key = r == 0;
        if (r == 0)
                facts->server_key = credential.key;
        return query_end(r);
}

/* The public key that the request means, whose it is, and with which one the server answers. */
static int find_public_key(struct store *store, const struct token_ask *ask, int64_t now_s,
                           struct token_facts *facts) {
        struct bytes kid = ask->cnf == ASK_CNF_PUBLIC || ask->cnf == ASK_CNF_KID ? ask->kid : BYTES_NONE;
        int r;

        if (facts->refresh_found) {
                facts->public_key = facts->refresh.public_key;
                kid = bytes_of(facts->refresh.kid, facts->refresh.kid_size);
        } else if (ask->cnf == ASK_CNF_PUBLIC) {
                facts->public_key = ask->public_key;
        } else if (ask->cnf == ASK_CNF_KID && !facts->pop_key_found &&
                   (r = find_key_by_kid(store, kid, now_s, facts)) != 0) {
                return r;
        }
        if (facts->public_key.curve == CURVE_NONE)
                return 0;
        facts->kid_size = kid.size <= CREDENTIAL_KID_MAX ? kid.size : 0;
        if (facts->kid_size > 0)
                memcpy(facts->kid, kid.data, facts->kid_size);
        r = prove_key(store, facts);
        return r == 0 && !facts->is_group ? find_server_key(store, facts) : r;
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

/* Keys are looked for only when the request names one, or has one behind it. */
static int find_keys(struct store *store, const struct token_ask *ask, int64_t now_s, struct token_facts *facts) {
        int r;

        if (facts->n_servers == 0 || (ask->cnf != ASK_CNF_KID && ask->cnf != ASK_CNF_PUBLIC && !facts->refresh_found))
                return 0;
        /* a symmetric key is never that of a group (RFC 9200 §6.9) */
        if (ask->cnf == ASK_CNF_KID && !facts->is_group && !facts->refresh_found &&
            (r = find_pop_key(store, ask, now_s, facts)) != 0)
                return r;
        return find_public_key(store, ask, now_s, facts);
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

        if (facts->client.tokens_max > 0)
                facts->tokens_max = facts->client.tokens_max;
        if (ask->grant_type == ASK_REFRESH_TOKEN &&
            ((r = find_refresh_token(store, ask->refresh_token, now_s, facts)) != 0 || !facts->refresh_found))
                return r; /* without one nothing else matters */
        if ((r = find_audience(store, ask, facts)) != 0)
                return r;
        if (facts->n_servers > 0 &&
            (r = store_policies_for(store, &facts->client, facts->audience, &facts->policies, &facts->n_policies)) != 0)
                return r;
        if ((r = find_keys(store, ask, now_s, facts)) != 0)
                return r;
        return facts->tokens_max > 0 ? count_live(store, now_s, facts) : 0;
}

/* ---- tokens */

int seal_pop_key(struct store *store, const char *column, uint64_t row, const struct secret *key,
                 uint8_t ret[static POP_KEY_SEALED_MAX], size_t *ret_size) {
        *ret_size = 0;
        return key->size == 0 ? 0 : seal_into(store, column, (int64_t)row, secret_bytes(key), ret, ret_size);
}

int row_pop_key(struct query *query, int at, const char *column, uint64_t row, struct secret *ret) {
        if (row_bytes(query, at).size > 0)
                return row_secret(query, at, column, (int64_t)row, ret);
        secret_done(ret);
        return 0;
}

void query_public_key(struct query *query, int at, const struct public_key *key, struct bytes kid,
                      uint8_t space[static PUBLIC_SIZE_MAX]) {
        size_t size;

        if (key->curve == CURVE_NONE)
                return; /* NULL, both */
        public_key_to_column(key, space, &size);
        query_blob(query, at, bytes_of(space, size));
        if (kid.size > 0)
                query_blob(query, at + 1, kid);
}

int row_public_key(struct query *query, int at, struct public_key *ret, uint8_t *ret_kid, size_t *ret_kid_size) {
        struct bytes column = row_bytes(query, at), kid;
        int r;

        *ret = (struct public_key){};
        *ret_kid_size = 0;
        if (column.size == 0)
                return 0;
        r = public_key_from_column(column, ret);
        kid = row_bytes(query, at + 1);
        if (r != 0 || kid.size > TOKEN_KID_SIZE_MAX)
                return -EIO;
        if (kid.size > 0)
                memcpy(ret_kid, kid.data, kid.size);
        *ret_kid_size = kid.size;
        return 0;
}

void query_osc(struct query *query, int at, const struct osc *osc, bool names_osc,
               uint8_t space[static OSC_COLUMN_SIZE]) {
        _Static_assert(OSCORE_HKDF_SHA256 == 1 && OSCORE_HKDF_SHA512 == 2, "kept in databases; AEADs: servers.c");

        if (osc->alg == AEAD_NONE)
                return; /* NULL */
        space[0] = (uint8_t)osc->alg;
        space[1] = (uint8_t)osc->hkdf;
        space[2] = names_osc;
        memcpy(space + 3, osc->salt, OSC_SALT_SIZE);
        memcpy(space + 3 + OSC_SALT_SIZE, osc->context_id, OSC_CONTEXT_ID_SIZE);
        query_blob(query, at, bytes_of(space, OSC_COLUMN_SIZE));
}

int row_osc(struct query *query, int at, struct osc *ret, bool *ret_names_osc) {
        struct bytes column = row_bytes(query, at);

        *ret = (struct osc){};
        *ret_names_osc = false;
        if (column.size == 0)
                return 0;
        if (column.size != OSC_COLUMN_SIZE || !aead_info((enum aead_alg)column.data[0]) ||
            !oscore_hkdf_name((enum oscore_hkdf)column.data[1]))
                return -EIO;
        ret->alg = (enum aead_alg)column.data[0];
        ret->hkdf = (enum oscore_hkdf)column.data[1];
        *ret_names_osc = column.data[2] != 0;
        memcpy(ret->salt, column.data + 3, OSC_SALT_SIZE);
        memcpy(ret->context_id, column.data + 3 + OSC_SALT_SIZE, OSC_CONTEXT_ID_SIZE);
        return 0;
}

/* What most tokens have nothing of. Unbound parameters are NULL. */
static void bind_rare(struct query *query, const struct grant *grant, uint8_t space[static PUBLIC_SIZE_MAX]) {
        query_public_key(query, 12, &grant->public_key, bytes_of(grant->kid, grant->kid_size), space);
        query_int(query, 14, grant->has_exi ? (int64_t)grant->exi : 0);
        query_int(query, 15, grant->nbf_s);
        if (grant->cnonce_size > 0)
                query_blob(query, 16, bytes_of(grant->cnonce, grant->cnonce_size));
        query_int(query, 17, (int64_t)grant->family);
        if (grant->has_trl_hash)
                query_blob(query, 18, bytes_of(grant->trl_hash, sizeof(grant->trl_hash)));
}

int store_token_add(struct store *store, const struct grant *grant, const uint8_t hash[static TOKEN_HASH_SIZE]) {
        _cleanup_(query_done) struct query q = {};
        uint8_t sealed[POP_KEY_SEALED_MAX], public_key[PUBLIC_SIZE_MAX], osc[OSC_COLUMN_SIZE];
        struct live_count *count = live_count_of(store, grant->client_id);
        size_t sealed_size;
        int r;

        if ((r = seal_pop_key(store, "tokens.pop_key", grant->number, &grant->pop_key, sealed, &sealed_size)) != 0 ||
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
        bind_rare(&q, grant, public_key);
        query_osc(&q, 19, &grant->osc, grant->is_update, osc);
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

/* A string of bytes of exactly or at most max; NULL is none of size 0. */
static int row_string(struct query *query, int at, uint8_t *ret, size_t max, bool exactly, size_t *ret_size) {
        struct bytes value = row_bytes(query, at);

        if (value.size > max || (exactly && value.size > 0 && value.size != max))
                return -EIO;
        if (value.size > 0)
                memcpy(ret, value.data, value.size);
        *ret_size = value.size;
        return 0;
}

static int rare_from_row(struct query *query, struct token *ret) {
        size_t trl_size;
        int r;

        ret->exi = (uint64_t)row_int(query, 15);
        ret->nbf_s = row_int(query, 16);
        ret->family = (uint64_t)row_int(query, 18);
        if ((r = row_public_key(query, 13, &ret->public_key, ret->kid, &ret->kid_size)) != 0 ||
            (r = row_string(query, 17, ret->cnonce, sizeof(ret->cnonce), false, &ret->cnonce_size)) != 0 ||
            (r = row_string(query, 19, ret->trl_hash, sizeof(ret->trl_hash), true, &trl_size)) != 0)
                return r;
        ret->has_trl_hash = trl_size > 0;
        return row_osc(query, 20, &ret->osc, &ret->names_osc);
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
            (r = row_text(query, 7, ret->audience, sizeof(ret->audience))) != 0 ||
            (r = row_scope(query, 8, &ret->scope)) != 0)
                return r;
        return rare_from_row(query, ret);
}

int store_token_find(struct store *store, const struct cwt_place *place, const uint8_t hash[static TOKEN_HASH_SIZE],
                     struct token *ret) {
        _cleanup_(query_done) struct query q = {};
        uint64_t number = place->by_exi ? place->exi : place->number;
        int r;

        if (number > INT64_MAX)
                return REFUSE_ADMIN_UNKNOWN;
        if ((r = query_begin(store, place->by_exi ? QUERY_TOKEN_FIND_BY_EXI : QUERY_TOKEN_FIND, &q)) != 0)
                return r;
        query_int(&q, 1, place->by_exi ? place->server_id : (int64_t)number);
        if (place->by_exi)
                query_int(&q, 2, (int64_t)number);
        if ((r = query_next(&q)) != 0)
                return r;
        if (!bytes_equal_ct(row_bytes(&q, TOKEN_HASH_COLUMN), bytes_of(hash, TOKEN_HASH_SIZE)))
                return REFUSE_ADMIN_UNKNOWN;
        if ((r = token_from_row(&q, ret)) != 0)
                return r;
        return row_pop_key(&q, TOKEN_POP_KEY_COLUMN, "tokens.pop_key", ret->number, &ret->pop_key);
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

int store_token_is_for(struct store *store, const struct token *token, int64_t server_id, bool *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_AUDIENCE_HAS, &q);

        if (r != 0)
                return r;
        query_text(&q, 1, bytes_text(token->audience));
        query_int(&q, 2, server_id);
        r = query_next(&q);
        *ret = r == 0;
        return query_end(r);
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

/* Of the first token from this number on. 0 in *ret_number: there is none. */
static int look(struct store *store, int64_t from, int64_t *ret_number, int64_t *ret_issued_s) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_TOKEN_FROM, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, from);
        r = query_next(&q);
        *ret_number = r == 0 ? row_int(&q, 0) : 0;
        *ret_issued_s = r == 0 ? row_int(&q, 1) : 0;
        return query_end(r);
}

/*
 * Numbers are drawn in the order of time: no token before *ret was issued at issued_s or later, as long as the clock
 * was not set back. By halving, as an index by that time would be one more page to write for every token.
 */
static int skip_older(struct store *store, int64_t issued_s, int64_t *ret) {
        int64_t low = 0, high = INT64_MAX, number, found_s;

        while (low < high) {
                int64_t middle = low + (high - low) / 2;
                int r = look(store, middle, &number, &found_s);

                if (r != 0)
                        return r;
                if (number == 0 || found_s >= issued_s)
                        high = middle;
                else
                        low = number + 1;
        }
        *ret = low;
        return 0;
}

static enum query_id query_of(const struct token_filter *filter) {
        if (token_filter_by_end(filter))
                return QUERY_TOKENS_BY_END;
        return filter->client.data ? QUERY_TOKENS_OF_CLIENT : filter->server.data ? QUERY_TOKENS_OF_SERVER :
                                                                                    QUERY_TOKENS;
}

static int bind_filter(struct query *query, enum query_id id, int64_t after, const struct token_filter *filter) {
        struct store *store = query->store;
        int64_t client_id = 0, server_id = 0, first = 0;
        int r;

        if ((filter->client.data && (r = find_party(store, filter->client, false, &client_id)) != 0) ||
            (filter->server.data && (r = find_party(store, filter->server, true, &server_id)) != 0) ||
            (filter->issued_from_s > 0 && id != QUERY_TOKENS_BY_END &&
             (r = skip_older(store, filter->issued_from_s, &first)) != 0))
                return r;
        if ((filter->client.data && client_id == 0) || (filter->server.data && server_id == 0))
                return REFUSE_ADMIN_UNKNOWN;
        if (id == QUERY_TOKENS_BY_END) /* what has expired is not looked at when it is not asked for */
                query_int(query, 9, filter->live_only && filter->after_s < filter->now_s ? filter->now_s :
                                                                                         filter->after_s);
        else
                after = first > after ? first - 1 : after;
        query_int(query, 1, after);
        query_int(query, 3, filter->live_only);
        query_int(query, 4, filter->now_s);
        if (id == QUERY_TOKENS_OF_CLIENT)
                query_int(query, 5, client_id);
        if (id != QUERY_TOKENS)
                query_int(query, 6, server_id);
        query_int(query, 7, filter->issued_from_s);
        if (id == QUERY_TOKENS_BY_END || id == QUERY_TOKENS_OF_CLIENT)
                query_int(query, 8, filter->expires_until_s);
        return 0;
}

int store_token_each(struct store *store, uint64_t after, int64_t limit, const struct token_filter *filter,
                     int (*row)(void *context, const struct token *token), void *context) {
        _cleanup_(query_done) struct query q = {};
        enum query_id id = query_of(filter);
        struct token token;
        int r;

        if (after > INT64_MAX)
                return 0;
        if ((r = query_begin(store, id, &q)) != 0)
                return r;
        if ((r = bind_filter(&q, id, (int64_t)after, filter)) != 0)
                return query_end(r);
        query_int(&q, 2, limit);
        while ((r = query_next(&q)) == 0)
                if ((r = token_from_row(&q, &token)) != 0 || (r = row(context, &token)) != 0)
                        return r;
        return query_end(r);
}

int store_token_oldest(struct store *store, int64_t *ret_expires_s) {
        return pragma_int(store, "SELECT coalesce(min(expires_s), 0) FROM tokens", ret_expires_s);
}

int query_purge(struct store *store, enum query_id id, int64_t before_s, int64_t limit, int64_t *ret_n) {
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
        int64_t n_gone, n_refresh;
        int r = query_purge(store, QUERY_TOKENS_PURGE, before_s, limit, ret_n);

        if (r == 0 && *ret_n < limit) {
                r = store_refresh_purge(store, before_s, limit - *ret_n, &n_refresh);
                if (r == 0)
                        *ret_n += n_refresh;
        }
        /* who is gone is remembered as long as a token may need the name */
        if (r == 0 && *ret_n < limit)
                r = query_purge(store, QUERY_GONE_PURGE, before_s, limit, &n_gone);
        return r;
}
