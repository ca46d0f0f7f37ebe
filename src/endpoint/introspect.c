#include "base/cleanup.h"
#include "base/config.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/handlers.h"
#include "endpoint/request.h"
#include "format/ace.h"
#include "format/cwt.h"
#include "store/credentials.h"
#include "store/servers.h"
#include "store/tokens.h"

/*
 * Who asks (RFC 9200 §5.9.3): a resource server. Credentials that are nobody's any more, or of a suspended server, are
 * bad credentials (AS-157); a client's are good, but not for this (AS-158).
 */
static int find_asker(struct aced *as, const struct request *request, struct response *response, struct server *ret) {
        struct credential credential;
        int r;

        r = store_credential_by_id(as->store, request->peer->credential_id, &credential);
        if (r == 0 && credential.server_id == 0) {
                response_why(response, "RFC 9200 §5.9.3: a client asked; introspection is for resource servers");
                return REFUSE_FORBIDDEN;
        }
        if (r == 0)
                r = store_server_by_id(as->store, credential.server_id, ret);
        if (r > 0) {
                response_why(response, "RFC 9200 §5.9.3: the channel's credential belongs to nobody registered");
                return REFUSE_UNKNOWN_CLIENT;
        }
        if (r == 0 && ret->suspended) {
                response_why(response, "RFC 9200 §5.9.3: resource server %s is suspended", ret->name);
                return REFUSE_SUSPENDED_CLIENT;
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
        r = store_token_find(as->store, place.number, hash, ret);
        *ret_found = r == 0;
        return r > 0 ? 0 : r;
}

int introspect_post(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(token_done) struct token token = {};
        struct introspect_ask ask; /* borrows request->payload */
        struct server asker;
        int64_t now_s = request->now_s > as->expired_s ? request->now_s : as->expired_s;
        bool found, active;
        int r;

        if ((r = find_asker(as, request, response, &asker)) != 0 ||
            (r = introspect_ask_decode(request->payload, &ask)) != 0 ||
            (r = find_token(as, ask.token, &token, &found)) != 0)
                return r;

        active = found && token_is_active(&token, asker.id, now_s);
        response->token_number = found ? token.number : 0;
        return introspect_answer_encode(active ? &token : NULL, bytes_text(as->config->issuer), &response->payload);
}
