#include "store/trl.h"

#include <errno.h>

#include "store/private.h"

#define PAIRS_MAX 20000 /* of a hash and a party in one step: a group audience may have many servers */
#define ROWS_AT_FIRST 16

/* A token, as far as revoking it goes. Of a refresh token: number, expires_s and revoked_s. */
struct row {
        uint64_t number;
        int64_t client_id, server_id, expires_s, revoked_s;
        char audience[AUDIENCE_SIZE_MAX + 1];
        bool has_hash;
        uint8_t hash[TRL_HASH_SIZE];
};

struct rows {
        struct row *items;
        size_t n_items, capacity;
};

static void rows_done(struct rows *rows) {
        free(rows->items);
        *rows = (struct rows){};
}

static int rows_grow(struct rows *rows) {
        size_t capacity = rows->capacity > 0 ? 2 * rows->capacity : ROWS_AT_FIRST;
        struct row *items = reallocarray(rows->items, capacity, sizeof(*items));

        if (!items)
                return -ENOMEM;
        rows->items = items;
        rows->capacity = capacity;
        return 0;
}

/* Columns in the order of REVOCATION_COLUMNS in query.c. */
static int row_read(struct query *query, struct row *ret) {
        struct bytes hash = row_bytes(query, 6);

        *ret = (struct row){
                .number = (uint64_t)row_int(query, 0),
                .client_id = row_int(query, 1),
                .server_id = row_int(query, 2),
                .expires_s = row_int(query, 4),
                .revoked_s = row_int(query, 5),
                .has_hash = hash.size > 0,
        };
        if (hash.size != 0 && hash.size != TRL_HASH_SIZE)
                return -EIO;
        if (hash.size > 0)
                memcpy(ret->hash, hash.data, hash.size);
        return row_text(query, 3, ret->audience, sizeof(ret->audience));
}

/* All of them before anything is changed: no walk over what changes under it. */
static int rows_read(struct query *query, struct rows *rows) {
        int r;

        while ((r = query_next(query)) == 0) {
                if (rows->n_items == rows->capacity && (r = rows_grow(rows)) != 0)
                        return r;
                if ((r = row_read(query, &rows->items[rows->n_items])) != 0)
                        return r;
                rows->n_items++;
        }
        return query_end(r);
}

/* A page of those of somebody (or the one, or those of a family, when that is what the statement asks for). */
static int rows_find(struct store *store, enum query_id id, int64_t about, uint64_t after, size_t limit,
                     struct rows *rows) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, id, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, about);
        if (limit > 0) {
                query_int(&q, 2, (int64_t)after);
                query_int(&q, 3, (int64_t)limit);
        }
        return rows_read(&q, rows);
}

/* ---- one change of the list, as each party sees it */

struct pair {
        int64_t party_id;
        size_t hash;
};

struct update {
        bool is_removal;
        uint8_t (*hashes)[TRL_HASH_SIZE];
        size_t n_hashes, hashes_capacity;
        struct pair *pairs;
        size_t n_pairs, pairs_capacity;
};

static void update_done(struct update *update) {
        free(update->hashes);
        free(update->pairs);
        *update = (struct update){};
}

static int update_add_pair(struct update *update, int64_t party_id) {
        if (update->n_pairs == update->pairs_capacity) {
                size_t capacity = update->pairs_capacity > 0 ? 2 * update->pairs_capacity : ROWS_AT_FIRST;
                struct pair *pairs = reallocarray(update->pairs, capacity, sizeof(*pairs));

                if (!pairs)
                        return -ENOMEM;
                update->pairs = pairs;
                update->pairs_capacity = capacity;
        }
        update->pairs[update->n_pairs++] = (struct pair){ .party_id = party_id, .hash = update->n_hashes };
        return 0;
}

static int update_add_members(struct store *store, struct update *update, const char *audience) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_AUDIENCE_MEMBERS, &q);

        if (r != 0)
                return r;
        query_text(&q, 1, bytes_text(audience));
        while ((r = query_next(&q)) == 0)
                if ((r = update_add_pair(update, row_int(&q, 0))) != 0)
                        return r;
        return query_end(r);
}

static int update_add(struct store *store, struct update *update, const struct row *row) {
        int r;

        if (update->n_hashes == update->hashes_capacity) {
                size_t capacity = update->hashes_capacity > 0 ? 2 * update->hashes_capacity : ROWS_AT_FIRST;
                uint8_t(*hashes)[TRL_HASH_SIZE] = reallocarray(update->hashes, capacity, sizeof(*hashes));

                if (!hashes)
                        return -ENOMEM;
                update->hashes = hashes;
                update->hashes_capacity = capacity;
        }
        if ((r = update_add_pair(update, PARTY_ALL)) != 0 || (r = update_add_pair(update, row->client_id)) != 0 ||
            (r = row->server_id != 0 ? update_add_pair(update, row->server_id) :
                                       update_add_members(store, update, row->audience)) != 0)
                return r;
        memcpy(update->hashes[update->n_hashes++], row->hash, TRL_HASH_SIZE);
        return 0;
}

static int compare_pairs(const void *one, const void *other) {
        const struct pair *a = one, *b = other;

        if (a->party_id != b->party_id)
                return a->party_id < b->party_id ? -1 : 1;
        return a->hash < b->hash ? -1 : a->hash > b->hash;
}

/* One more item for a party, unless it is gone; older ones go. */
static int write_item(struct store *store, int64_t party_id, bool is_removal, struct bytes hashes) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_TRL_ITEM_ADD, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, party_id);
        query_blob(&q, 2, is_removal ? hashes : BYTES_NONE);
        query_blob(&q, 3, is_removal ? BYTES_NONE : hashes);
        if ((r = query_run(&q)) != 0)
                return r < 0 ? r : -EIO;
        query_done(&q);

        if ((r = query_begin(store, QUERY_TRL_ITEMS_PRUNE, &q)) != 0)
                return r;
        query_int(&q, 1, party_id);
        query_int(&q, 2, TRL_UPDATES_MAX);
        if ((r = query_run(&q)) == 0 && store->trl_touch)
                store->trl_touch(store->trl_context, party_id);
        return r;
}

static int update_write(struct store *store, struct update *update) {
        _cleanup_(buf_done) struct buf hashes = BUF_INIT(update->n_hashes * TRL_HASH_SIZE);
        size_t i = 0;
        int r;

        if (update->n_pairs > 0)
                qsort(update->pairs, update->n_pairs, sizeof(*update->pairs), compare_pairs);
        while (i < update->n_pairs) {
                int64_t party_id = update->pairs[i].party_id;

                buf_clear(&hashes);
                for (; i < update->n_pairs && update->pairs[i].party_id == party_id; i++)
                        if ((r = buf_add(&hashes, bytes_of(update->hashes[update->pairs[i].hash], TRL_HASH_SIZE))) != 0)
                                return r;
                if ((r = write_item(store, party_id, update->is_removal, buf_bytes(&hashes))) != 0)
                        return r;
        }
        return 0;
}

void store_trl_listen(struct store *store, trl_touch touch, void *context) {
        store->trl_touch = touch;
        store->trl_context = context;
}

/* ---- revoking */

/* What has expired is of no interest to anybody (RFC 9770 §5); what is in the list stays as it is. */
static int list_add(struct store *store, const struct row *row, int64_t now_s, struct update *update) {
        _cleanup_(query_done) struct query q = {};
        int r;

        if (!row->has_hash || row->expires_s <= now_s)
                return 0;
        if ((r = query_begin(store, QUERY_TRL_ADD, &q)) != 0)
                return r;
        query_int(&q, 1, (int64_t)row->number);
        query_blob(&q, 2, bytes_of(row->hash, TRL_HASH_SIZE));
        query_int(&q, 3, row->client_id);
        query_int(&q, 4, row->server_id);
        query_text(&q, 5, bytes_text(row->audience));
        query_int(&q, 6, row->expires_s);
        if ((r = query_run(&q)) != 0)
                return r;
        return store_changed(store) == 0 ? update_add(store, update, row) : 0;
}

static int mark(struct store *store, enum query_id id, uint64_t number, int64_t now_s) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, id, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, (int64_t)number);
        query_int(&q, 2, now_s > 0 ? now_s : 1);
        return query_run(&q);
}

/* One access token; one that was revoked already stays as it was. */
static int revoke_one(struct store *store, const struct row *row, int64_t now_s, struct update *update) {
        int r = mark(store, QUERY_TOKEN_REVOKE, row->number, now_s);

        if (r != 0 || store_changed(store) != 0)
                return r;
        store->generation++; /* its client has one less */
        return list_add(store, row, now_s, update);
}

static int revoke_all(struct store *store, const struct rows *rows, int64_t now_s) {
        _cleanup_(update_done) struct update update = {};
        int r;

        for (size_t i = 0; i < rows->n_items; i++)
                if ((r = revoke_one(store, &rows->items[i], now_s, &update)) != 0)
                        return r;
        return update_write(store, &update);
}

int store_token_revoke(struct store *store, uint64_t number, int64_t now_s) {
        _cleanup_(update_done) struct update update = {};
        _cleanup_(rows_done) struct rows rows = {};
        bool changed;
        int r;

        if (number > INT64_MAX)
                return REFUSE_ADMIN_UNKNOWN;
        if ((r = mark(store, QUERY_TOKEN_REVOKE, number, now_s)) != 0)
                return r;
        changed = store_changed(store) == 0;
        store->generation += changed;
        if ((r = rows_find(store, QUERY_REVOCATION_OF_ONE, (int64_t)number, 0, 0, &rows)) != 0)
                return r;
        if (rows.n_items == 0)
                return REFUSE_ADMIN_UNKNOWN;
        r = changed ? list_add(store, &rows.items[0], now_s, &update) : 0;
        return r != 0 ? r : update_write(store, &update);
}

int store_tokens_revoke_family(struct store *store, uint64_t family, int64_t now_s) {
        _cleanup_(rows_done) struct rows rows = {};
        int r;

        if (family == 0 || family > INT64_MAX)
                return 0;
        r = rows_find(store, QUERY_REVOCATION_OF_FAMILY, (int64_t)family, 0, 0, &rows);
        return r != 0 ? r : revoke_all(store, &rows, now_s);
}

/* ---- revoking by and by */

struct step {
        const struct revocation *what;
        int64_t now_s;
        struct revocation_place *place;
        size_t left; /* tokens that may yet be looked at */
        int64_t n;   /* revoked */
        struct update update;
};

static bool is_live(const struct row *row, int64_t now_s) {
        return row->revoked_s == 0 && row->expires_s > now_s;
}

static int step_one(struct store *store, struct step *step, const struct row *row) {
        int r = 0;

        if (!is_live(row, step->now_s))
                return 0;
        if (step->place->refresh_tokens)
                r = mark(store, QUERY_REFRESH_TOKEN_REVOKE, row->number, step->now_s);
        else
                r = revoke_one(store, row, step->now_s, &step->update);
        step->n += r == 0;
        return r;
}

/* Of one client or for one server, as far as the step may go. *ret_done: that were all. */
static int step_over(struct store *store, struct step *step, bool of_server, int64_t id, bool *ret_done) {
        static const enum query_id queries[2][2] = {
                { QUERY_REVOCATION_OF_CLIENT, QUERY_REVOCATION_OF_SERVER },
                { QUERY_REFRESH_TOKENS_OF_CLIENT, QUERY_REFRESH_TOKENS_OF_SERVER },
        };
        _cleanup_(rows_done) struct rows rows = {};
        size_t i;
        int r;

        r = rows_find(store, queries[step->place->refresh_tokens][of_server], id, step->place->number, step->left,
                      &rows);
        for (i = 0; r == 0 && i < rows.n_items && step->update.n_pairs < PAIRS_MAX; i++) {
                r = step_one(store, step, &rows.items[i]);
                step->place->number = rows.items[i].number;
        }
        *ret_done = i == rows.n_items && rows.n_items < step->left;
        step->left = step->update.n_pairs < PAIRS_MAX ? step->left - rows.n_items : 0;
        return r;
}

static int next_of_label(struct store *store, struct bytes label, int64_t from_id, int64_t *ret_id) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_CLIENT_OF_LABEL, &q);

        if (r != 0)
                return r;
        query_text(&q, 1, label);
        query_int(&q, 2, from_id);
        r = query_next(&q);
        *ret_id = r == 0 ? row_int(&q, 0) : 0;
        return query_end(r);
}

/* Clients in order of ids; the place is in the midst of one of them. */
static int step_over_label(struct store *store, struct step *step, bool *ret_done) {
        struct revocation_place *place = step->place;
        bool client_done;
        int64_t id;
        int r;

        *ret_done = false;
        while (step->left > 0) {
                if ((r = next_of_label(store, step->what->label, place->client_id, &id)) != 0)
                        return r;
                *ret_done = id == 0;
                if (id == 0)
                        return 0;
                if (id != place->client_id)
                        place->number = 0;
                place->client_id = id;
                step->left--; /* one that has no tokens is looked at, too */
                if (step->left > 0 && (r = step_over(store, step, false, id, &client_done)) != 0)
                        return r;
                if (step->left > 0 && client_done)
                        *place = (struct revocation_place){ .refresh_tokens = place->refresh_tokens,
                                                            .client_id = id + 1 };
        }
        return 0;
}

static int step_kind(struct store *store, struct step *step, bool *ret_done) {
        const struct revocation *what = step->what;

        if (what->label.data)
                return step_over_label(store, step, ret_done);
        return step_over(store, step, what->server_id != 0, what->server_id != 0 ? what->server_id : what->client_id,
                         ret_done);
}

int store_revoke_step(struct store *store, const struct revocation *what, int64_t now_s,
                      struct revocation_place *place, int64_t *n, bool *ret_again) {
        _cleanup_(update_done) struct update update = {};
        struct step step = { .what = what, .now_s = now_s, .place = place, .left = TRL_STEP_MAX };
        bool done = false;
        int r;

        r = step_kind(store, &step, &done);
        update = step.update; /* to be freed, whatever became of it */
        *ret_again = true;
        if (r == 0 && done) {
                *ret_again = !place->refresh_tokens;
                *place = (struct revocation_place){ .refresh_tokens = true };
        }
        if (r == 0)
                r = update_write(store, &update);
        *n += step.n;
        return r;
}

/* ---- deleted clients and servers */

/* One page of the tokens of who is gone. *after: the last one looked at; -1: these were all. */
static int list_gone(struct store *store, int64_t id, bool is_server, int64_t now_s, int64_t *after) {
        _cleanup_(update_done) struct update update = {};
        _cleanup_(rows_done) struct rows rows = {};
        size_t i;
        int r;

        r = rows_find(store, is_server ? QUERY_TRL_TOKENS_OF_SERVER : QUERY_REVOCATION_OF_CLIENT, id,
                      (uint64_t)*after, TRL_STEP_MAX, &rows);
        for (i = 0; r == 0 && i < rows.n_items && update.n_pairs < PAIRS_MAX; i++) {
                r = list_add(store, &rows.items[i], now_s, &update);
                *after = (int64_t)rows.items[i].number;
        }
        if (i == rows.n_items && rows.n_items < TRL_STEP_MAX)
                *after = -1;
        return r != 0 ? r : update_write(store, &update);
}

static int set_gone_after(struct store *store, int64_t id, int64_t after) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_GONE_TRL_AFTER, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, id);
        query_int(&q, 2, after);
        return query_run(&q);
}

int trl_gone(struct store *store, int64_t id, bool is_server, int64_t now_s) {
        int64_t after = 0;
        int r;

        r = list_gone(store, id, is_server, now_s, &after);
        if (r == 0 && after >= 0)
                r = set_gone_after(store, id, after);
        if (r == 0)
                r = query_about(store, QUERY_TRL_ITEMS_DELETE, id);
        if (r == 0 && store->trl_touch)
                store->trl_touch(store->trl_context, id); /* it is not to see anything any more */
        return r;
}

int store_trl_catch_up(struct store *store, int64_t now_s, bool *ret_again) {
        int64_t id, after = 0;
        bool is_server;
        int r;

        {
                _cleanup_(query_done) struct query q = {};

                *ret_again = false;
                if ((r = query_begin(store, QUERY_GONE_NOT_IN_TRL, &q)) != 0)
                        return r;
                if ((r = query_next(&q)) != 0)
                        return query_end(r);
                id = row_int(&q, 0);
                is_server = row_int(&q, 1) != 0;
                after = row_int(&q, 2);
        }
        r = list_gone(store, id, is_server, now_s, &after);
        *ret_again = true; /* somebody else may be gone, too */
        return r != 0 ? r : set_gone_after(store, id, after);
}

/* ---- expiry */

static int list_remove(struct store *store, const struct rows *rows, int64_t *ret_n) {
        _cleanup_(update_done) struct update update = { .is_removal = true };
        size_t i;
        int r;

        for (i = 0; i < rows->n_items && update.n_pairs < PAIRS_MAX; i++)
                if ((r = query_about(store, QUERY_TRL_REMOVE, (int64_t)rows->items[i].number)) != 0 ||
                    (r = update_add(store, &update, &rows->items[i])) != 0)
                        return r;
        r = update_write(store, &update);
        if (r == 0)
                *ret_n = (int64_t)i;
        return r;
}

int store_trl_purge(struct store *store, int64_t now_s, int64_t *ret_n) {
        _cleanup_(rows_done) struct rows rows = {};
        int r = rows_find(store, QUERY_TRL_EXPIRED, now_s, 0, TRL_STEP_MAX, &rows);

        *ret_n = 0;
        return r != 0 || rows.n_items == 0 ? r : list_remove(store, &rows, ret_n);
}

/* ---- reading */

int store_trl_each(struct store *store, const struct trl_party *party, int64_t limit,
                   int (*row)(void *context, struct bytes hash), void *context) {
        static const enum query_id queries[] = {
                [PARTY_ADMIN] = QUERY_TRL,
                [PARTY_CLIENT] = QUERY_TRL_OF_CLIENT,
                [PARTY_SERVER] = QUERY_TRL_OF_SERVER,
        };
        _cleanup_(query_done) struct query q = {};
        struct bytes hash;
        int r = query_begin(store, queries[party->kind], &q);

        if (r != 0)
                return r;
        query_int(&q, 1, party->id);
        query_int(&q, 2, limit);
        while ((r = query_next(&q)) == 0) {
                hash = row_bytes(&q, 0);
                if (hash.size != TRL_HASH_SIZE)
                        return -EIO;
                if ((r = row(context, hash)) != 0)
                        return r;
        }
        return query_end(r);
}

int store_trl_count(struct store *store, int64_t client_id, int64_t limit, int64_t *ret_n) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_TRL_COUNT, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, client_id);
        query_int(&q, 2, limit);
        if ((r = query_next(&q)) != 0)
                return r < 0 ? r : -EIO;
        *ret_n = row_int(&q, 0);
        return 0;
}

int store_trl_items(struct store *store, int64_t party_id, int64_t *ret_first, int64_t *ret_last) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_TRL_ITEMS, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, party_id);
        if ((r = query_next(&q)) != 0)
                return r < 0 ? r : -EIO;
        *ret_first = row_int(&q, 0);
        *ret_last = row_int(&q, 1);
        return *ret_first < 0 ? REFUSE_ADMIN_UNKNOWN : 0;
}

int store_trl_items_each(struct store *store, int64_t party_id, int64_t first, int64_t last,
                         int (*row)(void *context, const struct trl_item *item), void *context) {
        _cleanup_(query_done) struct query q = {};
        struct trl_item item;
        int r = query_begin(store, QUERY_TRL_ITEMS_EACH, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, party_id);
        query_int(&q, 2, first);
        query_int(&q, 3, last);
        while ((r = query_next(&q)) == 0) {
                item = (struct trl_item){ .item = row_int(&q, 0), .removed = row_bytes(&q, 1),
                                          .added = row_bytes(&q, 2) };
                if (item.removed.size % TRL_HASH_SIZE != 0 || item.added.size % TRL_HASH_SIZE != 0)
                        return -EIO;
                if ((r = row(context, &item)) != 0)
                        return r;
        }
        return query_end(r);
}

static int entry_read(struct query *query, struct trl_entry *ret) {
        struct row row;
        int r = row_read(query, &row);

        if (r != 0 || !row.has_hash)
                return r != 0 ? r : -EIO;
        ret->number = row.number;
        ret->client_id = row.client_id;
        ret->server_id = row.server_id;
        ret->expires_s = row.expires_s;
        memcpy(ret->hash, row.hash, TRL_HASH_SIZE);
        memcpy(ret->audience, row.audience, sizeof(ret->audience));
        if ((r = row_text(query, 7, ret->client_name, sizeof(ret->client_name))) != 0)
                return r;
        return row_text(query, 8, ret->server_name, sizeof(ret->server_name));
}

int store_trl_list(struct store *store, uint64_t after, int64_t limit,
                   int (*row)(void *context, const struct trl_entry *entry), void *context) {
        _cleanup_(query_done) struct query q = {};
        struct trl_entry entry;
        int r;

        if (after > INT64_MAX)
                return 0;
        if ((r = query_begin(store, QUERY_TRL_LIST, &q)) != 0)
                return r;
        query_int(&q, 1, (int64_t)after);
        query_int(&q, 2, limit);
        while ((r = query_next(&q)) == 0)
                if ((r = entry_read(&q, &entry)) != 0 || (r = row(context, &entry)) != 0)
                        return r;
        return query_end(r);
}
