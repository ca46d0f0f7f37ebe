#include <errno.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "crypto/random.h"
#include "endpoint/aced.h"
#include "endpoint/handlers.h"
#include "endpoint/protect.h"
#include "endpoint/request.h"
#include "format/ace.h"
#include "format/cwt.h"
#include "store/store.h"
#include "store/tokens.h"

/*
 * AS-028, AS-067, AS-069: a key of its own for each token that does not ask for one by kid, named by the token's
 * number, which never repeats.
 */
static int make_key(struct aced *as, struct grant *grant, uint64_t *ret_number) {
        int r;

        r = store_number(as->store, NUMBER_TOKEN, &grant->number);
        if (r != 0)
                return r;
        *ret_number = grant->number;
        if (!grant->new_key)
                return 0;
        grant->key_number = grant->number;
        grant->pop_key.size = POP_KEY_SIZE;
        return random_bytes(grant->pop_key.data, POP_KEY_SIZE);
}

/* The decision and, for the log alone, who got what or why nothing. */
static int decide(struct aced *as, const struct request *request, struct response *response,
                  const struct token_ask *ask, const struct token_facts *facts, struct grant *grant) {
        struct explanation explanation;
        int r;

        r = grant_decide(facts, ask, request->now_s, grant, &explanation);
        if (explanation.has_shadow) {
                response->note.has_shadow = true;
                response->note.shadow = explanation.shadow;
                as->metrics.n_shadow++;
        }
        if (r != 0)
                response_why(response, "client %s, audience %s: %s", facts->client.id != 0 ? facts->client.name : "?",
                             facts->audience[0] ? facts->audience : "?", explanation.why ? explanation.why : "");
        else
                response_why(response, "client %s, audience %s, scope %.*s", facts->client.name, facts->audience,
                             (int)grant->scope.size, (const char *)grant->scope.data);
        return r;
}

int token_post(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(token_facts_done) struct token_facts facts = {
                .tokens_max = as->config->tokens_per_client_max,
                .default_lifetime_s = as->config->default_lifetime_s,
                .max_lifetime_s = as->config->max_lifetime_s,
        };
        _cleanup_(grant_done) struct grant grant = {};
        _cleanup_(buf_done) struct buf token = BUF_INIT(CWT_SIZE_MAX);
        int64_t expired_s = request->now_s > as->expired_s ? request->now_s : as->expired_s;
        uint8_t hash[TOKEN_HASH_SIZE];
        struct token_ask ask; /* borrows request->payload */
        int r;

        if ((r = token_ask_decode(request->payload, &ask)) != 0 ||
            (r = store_token_facts(as->store, request->peer->credential_id, 0, &ask, expired_s, &facts)) != 0 ||
            (r = decide(as, request, response, &ask, &facts, &grant)) != 0 ||
            (r = make_key(as, &grant, &response->token_number)) != 0 ||
            (r = protect_grant(as, &grant, &facts.server, request->now_s, response, &token)) != 0 ||
            (r = cwt_hash(buf_bytes(&token), hash)) != 0 ||
            (r = store_token_add(as->store, &grant, hash)) != 0 ||
            (r = token_answer_encode(&grant, buf_bytes(&token), &response->payload)) != 0)
                return r;

        response->max_age_s = grant.lifetime_s; /* RFC 9202 §3.2.1: at most expires_in */
        return 0;
}
