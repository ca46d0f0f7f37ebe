#include "base/cleanup.h"
#include "base/config.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/handlers.h"
#include "endpoint/request.h"
#include "format/ace.h"
#include "format/cwt.h"
#include "store/clients.h"
#include "store/credentials.h"
#include "store/servers.h"
#include "store/tokens.h"

/* Who asks: one of the two has an id. */
struct asker {
        struct server server;
        struct client client;
};

/* AS-166: a client's credential is good for what it is registered for, which is its own tokens or nothing (AS-158). */
static int admit_client(struct aced *as, int64_t client_id, struct response *response, struct client *ret) {
        int r = store_client_by_id(as->store, client_id, ret);

        if (r != 0)
                return r;
        if (ret->suspended) {
                response_why(response, "RFC 9200 §5.9.3: client %s is suspended", ret->name);
                return REFUSE_SUSPENDED_CLIENT;
        }
        if (ret->may_introspect)
                return 0;
        response_why(response, "RFC 9200 §5.9.3: client %s asked; introspection is for resource servers, and for "
                     "clients that are registered for it: acectl client set %s --introspect yes", ret->name, ret->name);
        return REFUSE_FORBIDDEN;
}

static int admit_server(struct aced *as, int64_t server_id, struct response *response, struct server *ret) {
        int r = store_server_by_id(as->store, server_id, ret);

        if (r != 0 || !ret->suspended)
                return r;
        response_why(response, "RFC 9200 §5.9.3: resource server %s is suspended", ret->name);
        return REFUSE_SUSPENDED_CLIENT;
}

/*
 * Who asks (RFC 9200 §5.9.3): a resource server, or a client that may. Credentials that are nobody's any more, or of
 * somebody suspended, are bad credentials (AS-157).
 */
static int find_asker(struct aced *as, const struct request *request, struct response *response, struct asker *ret) {
        struct credential credential;
        int r;

        r = store_credential_by_id(as->store, request->peer->credential_id, &credential);
        if (r == 0 && credential.server_id != 0)
                r = admit_server(as, credential.server_id, response, &ret->server);
        else if (r == 0)
                r = admit_client(as, credential.client_id, response, &ret->client);
        if (r == REFUSE_ADMIN_UNKNOWN) {
                response_why(response, "RFC 9200 §5.9.3: the channel's credential belongs to nobody registered");
                return REFUSE_UNKNOWN_CLIENT;
        }
        return r;
}

/* One that is not known is as inactive as a foreign or an expired one (AS-155): no refusal. */
static int find_token(struct aced *as, struct bytes bytes, struct token *ret, bool *ret_found) {
        uint8_t hash[TOKEN_HASH_SIZE];
        struct cwt_place place;
        int r;

        *ret_found = false;
        if (cwt_find_place(bytes, &place) != 0)
                return 0;
        r = cwt_hash(bytes, hash);
        if (r != 0)
                return r;
        r = store_token_find(as->store, &place, hash, ret);
        *ret_found = r == 0;
        return r > 0 ? 0 : r;
}

/* AS-162: of a token for a group each server learns what is left of it there; nothing is left: it is none for it. */
static bool narrow_scope(const struct server *server, struct token *token) {
        return token->server_id != 0 || server->scopes.kind == SCOPE_NONE ||
               scope_intersect(&token->scope, &server->scopes, &token->scope);
}

static int judge_for_server(struct aced *as, const struct server *server, int64_t now_s, struct token *token,
                            bool *ret_active) {
        bool is_of_group = false;
        int r = 0;

        if (token->server_id == 0)
                r = store_token_is_for(as->store, token, server->id, &is_of_group);
        *ret_active = r == 0 && token_is_active(token, server->id, is_of_group, now_s) && narrow_scope(server, token);
        return r;
}

/* A client has the key already: from here it learns its name alone (AS-177). */
static bool judge_for_client(const struct client *client, int64_t now_s, struct token *token) {
        secret_done(&token->pop_key);
        return token->client_id == client->id && token_is_live(token, now_s);
}

static void note_asker(const struct asker *asker, struct response *response) {
        const char *name = asker->server.id != 0 ? asker->server.name : asker->client.name;

        memcpy(response->note.party, name, sizeof(response->note.party));
}

int introspect_post(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(token_done) struct token token = {};
        struct introspect_ask ask; /* borrows request->payload */
        struct asker asker = {};
        int64_t now_s = request->now_s > as->expired_s ? request->now_s : as->expired_s;
        bool found, active = false;
        int r;

        if ((r = find_asker(as, request, response, &asker)) != 0 ||
            (r = introspect_ask_decode(request->payload, &ask)) != 0 ||
            (r = find_token(as, ask.token, &token, &found)) != 0)
                return r;

        note_asker(&asker, response);
        if (found && asker.server.id != 0)
                r = judge_for_server(as, &asker.server, now_s, &token, &active);
        else if (found)
                active = judge_for_client(&asker.client, now_s, &token);
        if (r != 0)
                return r;
        response->token_number = found ? token.number : 0;
        return introspect_answer_encode(active ? &token : NULL, bytes_text(as->config->issuer), &response->payload);
}
