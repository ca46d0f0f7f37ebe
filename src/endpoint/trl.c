#include <errno.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/handlers.h"
#include "endpoint/request.h"
#include "format/trl.h"
#include "store/clients.h"
#include "store/credentials.h"
#include "store/servers.h"
#include "store/trl.h"

_Static_assert(TRL_HASH_BYTES == TRL_HASH_SIZE, "hashes are what the list has");

/* ---- who asks */

static int match_label(void *context, const char *label) {
        const struct aced *as = context;

        return strcmp(label, as->config->trl_label) == 0 ? REFUSE_ADMIN_EXISTS : 0;
}

/* RFC 9770 §6: administrators see the whole list. Over CoAP that are clients which the operator has labelled so. */
static int is_administrator(struct aced *as, int64_t client_id, bool *ret) {
        int r = 0;

        if (as->config->trl_label[0] != '\0')
                r = store_client_labels_each(as->store, client_id, match_label, as);
        *ret = r == REFUSE_ADMIN_EXISTS;
        return *ret ? 0 : r;
}

static int refuse_suspended(struct response *response, const char *name) {
        response_why(response, "RFC 9770 §6: %s is suspended", name);
        return REFUSE_SUSPENDED_CLIENT;
}

static int find_client(struct aced *as, int64_t id, struct response *response, struct trl_party *ret) {
        struct client client;
        bool is_admin;
        int r;

        if ((r = store_client_by_id(as->store, id, &client)) != 0)
                return r;
        memcpy(response->note.party, client.name, sizeof(client.name));
        if (client.suspended)
                return refuse_suspended(response, client.name);
        if ((r = is_administrator(as, id, &is_admin)) != 0)
                return r;
        *ret = is_admin ? (struct trl_party){ PARTY_ADMIN, PARTY_ALL } : (struct trl_party){ PARTY_CLIENT, id };
        return 0;
}

static int find_server(struct aced *as, int64_t id, struct response *response, struct trl_party *ret) {
        struct server server;
        int r;

        if ((r = store_server_by_id(as->store, id, &server)) != 0)
                return r;
        memcpy(response->note.party, server.name, sizeof(server.name));
        if (server.suspended)
                return refuse_suspended(response, server.name);
        *ret = (struct trl_party){ PARTY_SERVER, id };
        return 0;
}

static int find_party(struct aced *as, const struct request *request, struct response *response,
                      struct trl_party *ret) {
        struct credential credential;
        int r;

        r = store_credential_by_id(as->store, request->peer->credential_id, &credential);
        if (r == 0)
                r = credential.client_id != 0 ? find_client(as, credential.client_id, response, ret) :
                                                find_server(as, credential.server_id, response, ret);
        if (r != REFUSE_ADMIN_UNKNOWN)
                return r;
        response_why(response, "RFC 9770 §6: the channel's credential belongs to nobody registered");
        return REFUSE_UNKNOWN_CLIENT;
}

/* ---- what is asked */

struct trl_query {
        bool diff, cursor;
        int64_t n;    /* of diff: as many updates; 0: all */
        int64_t item; /* of cursor */
};

/* Digits alone; what is over INT64_MAX counts as that. False: no number. */
static bool read_number(struct bytes text, int64_t *ret, bool *ret_over) {
        int64_t value = 0;

        *ret_over = false;
        for (size_t i = 0; i < text.size; i++) {
                if (text.data[i] < '0' || text.data[i] > '9')
                        return false;
                if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, text.data[i] - '0', &value))
                        *ret_over = true;
        }
        *ret = *ret_over ? INT64_MAX : value;
        return text.size > 0;
}

static int refuse(struct response *response, int refusal, int64_t cursor, const char *why) {
        response->cursor = cursor;
        response_why(response, "RFC 9770 §6.1: %s", why);
        return refusal;
}

/* last: of the update collection, or CURSOR_NULL. Parameters that are not known are ignored (§6.1). */
static int read_query(const struct request *request, int64_t last, struct response *response, struct trl_query *ret) {
        struct bytes diff = request_query(request, "diff"), cursor = request_query(request, "cursor");
        bool over;

        *ret = (struct trl_query){ .diff = diff.data != NULL, .cursor = cursor.data != NULL };
        if (ret->diff && !read_number(diff, &ret->n, &over))
                return refuse(response, REFUSE_TRL_VALUE, CURSOR_NONE, "diff is no unsigned integer");
        if (ret->cursor && !ret->diff)
                return refuse(response, REFUSE_TRL_SET, CURSOR_NONE, "cursor comes without diff");
        if (ret->cursor && (!read_number(cursor, &ret->item, &over) || over))
                return refuse(response, REFUSE_TRL_VALUE, last, "cursor is no item that could be");
        if (ret->cursor && last >= 0 && ret->item > last)
                return refuse(response, REFUSE_TRL_OUT_OF_BOUND, last, "cursor is behind the last update");
        return 0;
}

/* ---- what is answered */

static int add_hash(void *context, struct bytes hash) {
        return buf_add(context, hash);
}

/* §7, §9.1 */
static int answer_full(struct aced *as, const struct trl_party *party, int64_t last, struct response *response) {
        _cleanup_(buf_done) struct buf hashes = BUF_INIT(ANSWER_SIZE_MAX);
        int r = store_trl_each(as->store, party, INT64_MAX, add_hash, &hashes);

        return r != 0 ? r : trl_full_encode(buf_bytes(&hashes), last, &response->payload);
}

static int put_item(void *context, const struct trl_item *item) {
        trl_diff_item(context, item->removed, item->added);
        return 0;
}

/* Items from first to last; none when last is before first. */
static int answer_items(struct aced *as, const struct trl_party *party, int64_t first, int64_t last, int64_t cursor,
                        bool more, struct response *response) {
        struct cbor_writer w = CBOR_WRITER(&response->payload);
        int r = 0;

        trl_diff_begin(&w, last < first ? 0 : (size_t)(last - first + 1));
        if (last >= first)
                r = store_trl_items_each(as->store, party->id, first, last, put_item, &w);
        return r != 0 ? r : trl_diff_end(&w, cursor, more);
}

/* §8 with §9.2. first, last: the items that are kept. */
static int answer_diff(struct aced *as, const struct trl_party *party, const struct trl_query *query, int64_t first,
                       int64_t last, struct response *response) {
        int64_t n_max = as->config->trl_updates_max, batch = as->config->trl_batch_max, n;

        if (last < 0) /* §9.2.1: no update yet */
                return answer_items(as, party, 0, -1, CURSOR_NULL, false, response);
        if (first < last - n_max + 1)
                first = last - n_max + 1; /* more are kept than are told of: the limit can be raised */
        if (query->cursor && query->item + 1 < first) /* §9.2.3, case A: some that come behind are lost */
                return answer_items(as, party, 0, -1, CURSOR_NULL, true, response);
        if (query->cursor && query->item + 1 > first)
                first = query->item + 1;

        n = query->n == 0 || query->n > n_max ? n_max : query->n;
        if (n > last - first + 1)
                n = last - first + 1;
        if (batch > n_max)
                batch = n_max;
        if (n <= batch)
                return answer_items(as, party, last - n + 1, last, last, false, response);
        /* the eldest of the n newest: the others follow with the cursor */
        return answer_items(as, party, last - n + 1, last - n + batch, last - n + batch, true, response);
}

int trl_get(struct aced *as, const struct request *request, struct response *response) {
        int64_t first = CURSOR_NULL, last = CURSOR_NULL;
        struct trl_query query;
        struct trl_party party;
        int r;

        if ((r = find_party(as, request, response, &party)) != 0)
                return r;
        r = store_trl_items(as->store, party.id, &first, &last);
        if ((r != 0 && r != REFUSE_ADMIN_UNKNOWN) || (r = read_query(request, last, response, &query)) != 0)
                return r;
        response->topic = party.id;
        return query.diff ? answer_diff(as, &party, &query, first, last, response) :
                            answer_full(as, &party, last, response);
}
