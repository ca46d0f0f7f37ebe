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
#include "store/refresh.h"
#include "store/tokens.h"
#include "store/trl.h"

/*
 * Revocation over CoAP (AS-190): RFC 9200 points to RFC 7009 and maps nothing, so the request is that of introspection,
 * { 11: token, ? 33: token_type_hint }, and success is 2.04 without payload, as the same request again changes nothing.
 */

/*
 * Who asks (RFC 7009 §2.1): a client. A resource server that has lost its trust in a token stops accepting it; whose
 * token it is, it cannot decide.
 */
static int find_asker(struct aced *as, const struct request *request, struct response *response, struct client *ret) {
        struct credential credential;
        int r;

        r = store_credential_by_id(as->store, request->peer->credential_id, &credential);
        if (r == 0 && credential.client_id == 0) {
                response_why(response, "RFC 7009 §2.1: a resource server asked; revocation is for clients");
                return REFUSE_FORBIDDEN;
        }
        if (r == 0)
                r = store_client_by_id(as->store, credential.client_id, ret);
        if (r > 0) {
                response_why(response, "RFC 7009 §2.1: the channel's credential belongs to nobody registered");
                return REFUSE_UNKNOWN_CLIENT;
        }
        if (r == 0 && ret->suspended) {
                response_why(response, "RFC 7009 §2.1: client %s is suspended", ret->name);
                return REFUSE_SUSPENDED_CLIENT;
        }
        return r;
}

/* RFC 7009 §2.1: nobody revokes what was issued to somebody else, and is told so, unlike at introspection. */
static int check_owner(const struct client *asker, int64_t client_id, struct response *response) {
        if (client_id == asker->id)
                return 0;
        response_why(response, "RFC 7009 §2.1: the token was issued to somebody else than %s", asker->name);
        return REFUSE_TOKEN_NOT_YOURS;
}

/*
 * What a client gives back may fill the list until it expires: as many tokens of one client may be there as it may have
 * live ones. It is told to come back (AS-198); until then the token stays good.
 */
static int check_room(struct aced *as, const struct client *asker, struct response *response) {
        int64_t max = asker->tokens_max > 0 ? asker->tokens_max : as->config->tokens_per_client_max, n;
        int r = store_trl_count(as->store, asker->id, max, &n);

        if (r != 0 || n < max)
                return r;
        response_why(response, "%s has as many tokens in the revocation list as it may have live ones, which are %lld",
                     asker->name, (long long)max);
        return REFUSE_OVERLOAD;
}

static int revoke_access_token(struct aced *as, const struct client *asker, const struct token *token, int64_t now_s,
                               struct response *response) {
        int r;

        response->token_number = token->number;
        if ((r = check_owner(asker, token->client_id, response)) != 0)
                return r;
        if (token->revoked_s != 0 || token->expires_s <= now_s)
                return 0; /* RFC 7009 §2.2: it is what was asked for */
        if (token->has_trl_hash && (r = check_room(as, asker, response)) != 0)
                return r;
        return store_token_revoke(as->store, token->number, now_s);
}

static int find_access_token(struct aced *as, struct bytes bytes, struct token *ret, bool *ret_found) {
        uint8_t hash[TOKEN_HASH_SIZE];
        struct cwt_place place;
        int r;

        *ret_found = false;
        if (cwt_find_place(bytes, &place) != 0)
                return 0;
        if ((r = cwt_hash(bytes, hash)) != 0)
                return r;
        r = store_token_find(as->store, &place, hash, ret);
        *ret_found = r == 0;
        return r > 0 ? 0 : r;
}

/*
 * With the whole family, access tokens included (RFC 7009 §2.1). One that was used is as good for that as the one that
 * it was exchanged for.
 */
static int revoke_refresh_token(struct aced *as, const struct client *asker, const struct refresh_token *token,
                                int64_t now_s, struct response *response) {
        int r;

        response->token_number = token->number;
        if ((r = check_owner(asker, token->client_id, response)) != 0)
                return r;
        if (token->revoked_s != 0)
                return 0;
        r = check_room(as, asker, response);
        return r != 0 ? r : store_family_revoke(as->store, token->family, now_s);
}

/* What is no access token may be a refresh token: no hint is needed for that (RFC 7009 §2.1). */
static int try_refresh_token(struct aced *as, const struct client *asker, struct bytes bytes, int64_t now_s,
                             struct response *response) {
        _cleanup_(refresh_token_done) struct refresh_token token = {};
        int r = store_refresh_find(as->store, bytes, &token);

        if (r == REFUSE_ADMIN_UNKNOWN)
                return 0; /* RFC 7009 §2.2: to be no token is what was asked for */
        return r != 0 ? r : revoke_refresh_token(as, asker, &token, now_s, response);
}

int revoke_post(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(token_done) struct token token = {};
        int64_t now_s = request->now_s > as->expired_s ? request->now_s : as->expired_s;
        struct introspect_ask ask; /* borrows request->payload */
        struct client asker;
        bool found;
        int r;

        if ((r = find_asker(as, request, response, &asker)) != 0 ||
            (r = introspect_ask_decode(request->payload, &ask)) != 0 ||
            (r = find_access_token(as, ask.token, &token, &found)) != 0)
                return r;
        memcpy(response->note.party, asker.name, sizeof(asker.name));
        return found ? revoke_access_token(as, &asker, &token, now_s, response) :
                       try_refresh_token(as, &asker, ask.token, now_s, response);
}
