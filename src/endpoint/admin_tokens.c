#include "endpoint/handlers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/admin.h"
#include "format/describe.h"
#include "store/refresh.h"
#include "store/tokens.h"
#include "store/trl.h"

static const char *token_state(const struct token *token, int64_t now_s) {
        if (token->revoked_s != 0)
                return "revoked";
        return now_s < token->expires_s ? "live" : "expired";
}

static json_t *token_json(const struct token *token, int64_t now_s) {
        return json_pack("{s:o, s:s, s:s, s:s, s:s, s:o, s:s?, s:o, s:I, s:I, s:I}", "cti", admin_cti(token->number),
                         "state", token_state(token, now_s), "client", token->client_name, "server", token->server_name,
                         "audience", token->audience, "scope", admin_scope(&token->scope),
                         "profile", describe_name(VOCABULARY_PROFILE, token->profile),
                         "kid", admin_cti(token->key_number), "issued_s", (json_int_t)token->issued_s,
                         "expires_s", (json_int_t)token->expires_s,
                         "revoked_s", (json_int_t)token->revoked_s);
}

static int say_unknown(struct response *response, int r, struct bytes cti) {
        if (r == REFUSE_ADMIN_UNKNOWN)
                response_why(response, "there is no token %.*s: acectl token list --all shows those that are kept",
                             (int)cti.size, (const char *)cti.data);
        return r;
}

/* ---- list */

struct token_list {
        struct admin_list list;
        struct token_filter filter;
};

/* What a page ends with: a cti, behind when it expires where that is the order. */
static int list_token(void *context, const struct token *token) {
        struct token_list *tokens = context;
        json_t *cti = admin_cti(token->number);
        char key[64] = "";
        bool offered;

        if (!cti)
                return -ENOMEM;
        if (token_filter_by_end(&tokens->filter))
                snprintf(key, sizeof(key), "%" PRId64 "-", token->expires_s);
        snprintf(key + strlen(key), sizeof(key) - strlen(key), "%s", json_string_value(cti));
        json_decref(cti);
        offered = admin_list_offer(&tokens->list, key);
        if (!offered)
                return 0; /* it was the last asked for */
        return admin_list_add(&tokens->list, token_json(token, tokens->filter.now_s));
}

/* all=true, all=false: live ones alone */
static int read_all(const struct request *request, struct response *response, bool *ret) {
        struct bytes text = request_query(request, "all");

        *ret = text.data && bytes_equal(text, BYTES_LITERAL("true"));
        if (!text.data || *ret || bytes_equal(text, BYTES_LITERAL("false")))
                return 0;
        response_why(response, "query parameter \"all\": true or false is expected");
        return REFUSE_ADMIN_VALUE;
}

/* Where the page begins; *ret_after stays 0 at the first one. */
static int read_after(struct token_list *tokens, struct response *response, uint64_t *ret_after) {
        struct bytes text = tokens->list.after;
        const uint8_t *dash = text.size > 0 ? memchr(text.data, '-', text.size) : NULL;
        int64_t end_s = 0;

        if (text.size == 0)
                return 0;
        if (token_filter_by_end(&tokens->filter)) {
                if (!dash || admin_read_number(response, "after", bytes_of(text.data, (size_t)(dash - text.data)),
                                               INT64_MAX / 10, &end_s) != 0) {
                        response_why(response, "query parameter \"after\": what an earlier page had as \"next\" is "
                                     "expected");
                        return REFUSE_ADMIN_VALUE;
                }
                tokens->filter.after_s = end_s;
                text = bytes_of(dash + 1, (size_t)(text.data + text.size - dash - 1));
        }
        return admin_read_cti(response, text, ret_after) == 0 ? 0 : REFUSE_ADMIN_VALUE;
}

static int token_list_begin(struct token_list *tokens, const struct request *request, struct response *response,
                            uint64_t *ret_after) {
        struct bytes expiring = request_query(request, "expiring_s"), since = request_query(request, "since");
        struct token_filter *filter = &tokens->filter;
        int64_t within_s = 0;
        bool all = false;
        int r = admin_list_begin(&tokens->list, request, response,
                                 (const char *const[]){ "client", "server", "expiring_s", "since", "all", NULL });

        *filter = (struct token_filter){ .client = request_query(request, "client"),
                                         .server = request_query(request, "server"), .now_s = request->now_s };
        if (r != 0 || (r = read_all(request, response, &all)) != 0 ||
            (since.data && (r = admin_read_number(response, "since", since, INSTANT_MAX_S,
                                                  &filter->issued_from_s)) != 0) ||
            (expiring.data && (r = admin_read_number(response, "expiring_s", expiring, LIFETIME_MAX_S,
                                                     &within_s)) != 0))
                return r;
        filter->live_only = !all;
        filter->expires_until_s = expiring.data ? request->now_s + within_s : 0;
        *ret_after = 0;
        return read_after(tokens, response, ret_after);
}

/* A name that is mistyped has no tokens, either: that is not what was asked. */
static int find_parties(struct store *store, const struct token_filter *filter, struct response *response) {
        struct client client;
        struct server server;
        int r = 0;

        if (filter->client.data)
                r = admin_client_find(store, filter->client, response, &client);
        if (r == 0 && filter->server.data)
                r = admin_server_find(store, filter->server, response, &server);
        return r;
}

int admin_tokens_get(struct aced *as, const struct request *request, struct response *response) {
        struct token_list tokens = {};
        uint64_t after = 0;
        int r = token_list_begin(&tokens, request, response, &after);

        if (r == 0)
                r = find_parties(as->store, &tokens.filter, response);
        if (r == 0)
                r = store_token_each(as->store, after, admin_list_ask(&tokens.list), &tokens.filter, list_token,
                                     &tokens);
        if (r == 0)
                r = admin_list_reply(&tokens.list, response);
        admin_list_done(&tokens.list);
        return r;
}

/* ---- one */

int admin_token_get(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(token_done) struct token token = {};
        uint64_t number = 0;
        json_t *object;
        int r = admin_read_cti(response, request->segments[2], &number);

        if (r != 0)
                return r;
        r = say_unknown(response, store_token_by_number(as->store, number, &token), request->segments[2]);
        if (r != 0)
                return r;
        object = token_json(&token, request->now_s);
        return admin_reply(response, &object);
}

/*
 * Revoked, not removed: introspection and `acectl token list --all` still know it. Twice is no error. What comes from the
 * same refresh tokens goes with it: else the client could exchange one for the next token.
 */
int admin_token_delete(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(token_done) struct token token = {};
        uint64_t number = 0;
        int r = admin_read_cti(response, request->segments[2], &number);

        if (r != 0)
                return r;
        response->token_number = number;
        if ((r = store_token_revoke(as->store, number, request->now_s)) == 0 &&
            (r = store_token_by_number(as->store, number, &token)) == 0 && token.family != 0)
                r = store_family_revoke(as->store, token.family, request->now_s);
        return say_unknown(response, r, request->segments[2]);
}

/* ---- many */

struct revoke_ask {
        const char *client, *server, *label, *after;
};

static const struct json_field revoke_fields[] = {
        ADMIN_FIELD(revoke_ask, client, TEXT),
        ADMIN_FIELD(revoke_ask, server, TEXT),
        ADMIN_FIELD(revoke_ask, label, TEXT),
        ADMIN_FIELD(revoke_ask, after, TEXT),
};

/* Where the next step begins, for the member "after" of the next request: opaque to who sends it. */
#define PLACE_TEXT_SIZE 36

static void place_text(const struct revocation_place *place, char text[static PLACE_TEXT_SIZE]) {
        snprintf(text, PLACE_TEXT_SIZE, "%c%" PRIx64 ".%" PRIx64, place->refresh_tokens ? 'r' : 'a',
                 (uint64_t)place->client_id, place->number);
}

static int place_read(const char *text, struct response *response, struct revocation_place *ret) {
        uint64_t client_id, number;
        char kind, end;

        *ret = (struct revocation_place){};
        if (!text)
                return 0;
        if (sscanf(text, "%c%" SCNx64 ".%" SCNx64 "%c", &kind, &client_id, &number, &end) != 3 ||
            (kind != 'a' && kind != 'r') || client_id > INT64_MAX || number > INT64_MAX)
                return admin_refuse_value(response, "after", text, "is not what \"next\" of an answer said");
        *ret = (struct revocation_place){ kind == 'r', (int64_t)client_id, number };
        return 0;
}

static int revocation_read(struct aced *as, const struct revoke_ask *ask, struct response *response,
                           struct revocation *ret) {
        struct client client;
        struct server server;
        int r = 0;

        *ret = (struct revocation){};
        if (!!ask->client + !!ask->server + !!ask->label != 1) {
                response_why(response, "members \"client\", \"server\" and \"label\": one of them is expected");
                return REFUSE_ADMIN_VALUE;
        }
        if (ask->client && (r = admin_client_find(as->store, bytes_text(ask->client), response, &client)) == 0)
                ret->client_id = client.id;
        if (ask->server && (r = admin_server_find(as->store, bytes_text(ask->server), response, &server)) == 0)
                ret->server_id = server.id;
        if (ask->label && (r = admin_check_name(response, "label", ask->label)) == 0)
                ret->label = bytes_text(ask->label);
        return r;
}

/*
 * One step, so that no number of tokens holds others up: {"revoked", "refresh_tokens", "next"}. next is null at the end,
 * else the "after" of the next request.
 */
int admin_tokens_revoke_post(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(json_document_done) struct json_document document = {};
        struct revocation_place place;
        struct revocation what;
        struct revoke_ask ask;
        char next[PLACE_TEXT_SIZE];
        bool again, of_refresh;
        json_t *object;
        int64_t n = 0;
        int r;

        if ((r = admin_read(request, response, revoke_fields, N_ELEMENTS(revoke_fields), &ask, &document)) != 0 ||
            (r = revocation_read(as, &ask, response, &what)) != 0 ||
            (r = place_read(ask.after, response, &place)) != 0)
                return r;
        of_refresh = place.refresh_tokens;
        if ((r = store_revoke_step(as->store, &what, request->now_s, &place, &n, &again)) != 0)
                return r;
        place_text(&place, next);
        object = json_pack("{s:I, s:I, s:s?}", "revoked", (json_int_t)(of_refresh ? 0 : n),
                           "refresh_tokens", (json_int_t)(of_refresh ? n : 0), "next", again ? next : NULL);
        return admin_reply(response, &object);
}
