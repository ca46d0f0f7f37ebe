#include <errno.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/handlers.h"
#include "endpoint/protect.h"
#include "endpoint/request.h"
#include "format/ace.h"
#include "format/cwt.h"
#include "store/refresh.h"
#include "store/servers.h"
#include "store/store.h"
#include "store/tokens.h"

/*
 * AS-134: its id is the number of the token, which no other material has. The master secret has as many bytes as the
 * keys derived from it. All is drawn at once: three draws cost three times as much.
 */
static int draw_osc(struct grant *grant) {
        uint8_t drawn[SECRET_SIZE_MAX + OSC_SALT_SIZE + OSC_CONTEXT_ID_SIZE];
        const struct aead_info *info = aead_info(grant->osc.alg);
        size_t size;
        int r;

        if (!info)
                return -EIO; /* somebody changed the file */
        size = info->key_size;
        r = random_bytes(drawn, size + OSC_SALT_SIZE + OSC_CONTEXT_ID_SIZE);
        if (r != 0)
                return r;
        r = secret_set(&grant->pop_key, bytes_of(drawn, size));
        memcpy(grant->osc.salt, drawn + size, OSC_SALT_SIZE);
        memcpy(grant->osc.context_id, drawn + size + OSC_SALT_SIZE, OSC_CONTEXT_ID_SIZE); /* AS-136 */
        wipe(drawn, sizeof(drawn));
        return r;
}

/*
 * AS-028, AS-067, AS-069: a key of its own for each token that does not ask for one by kid, named by the token's
 * number, which never repeats. One that the server derives, it derives from the token (protect_grant()).
 */
static int draw(struct aced *as, struct grant *grant, uint64_t *ret_number) {
        int r;

        if ((r = store_number(as->store, NUMBER_TOKEN, &grant->number)) != 0 ||
            (grant->has_exi && (r = store_exi_next(as->store, grant->server_id, &grant->exi)) != 0))
                return r < 0 ? r : -EIO; /* the facts have just said that the server is there */
        *ret_number = grant->number;
        if (!grant->new_key)
                return 0;
        grant->key_number = grant->number;
        if (grant->derives_key)
                return 0;
        if (grant->osc.alg != AEAD_NONE)
                return draw_osc(grant);
        grant->pop_key.size = POP_KEY_SIZE;
        return random_bytes(grant->pop_key.data, POP_KEY_SIZE);
}

/* By which it is known from now on; in a revocation list, too, when its server looks into one. */
static int name_token(struct grant *grant, const struct server *server, struct bytes token,
                      uint8_t ret_hash[static TOKEN_HASH_SIZE]) {
        int r = cwt_hash(token, ret_hash);

        if (r != 0 || !server->has_trl)
                return r;
        grant->has_trl_hash = true;
        return cwt_trl_hash(token, grant->trl_hash);
}

/* grant: NULL when nothing is granted. */
static void note_decision(const struct token_facts *facts, const struct explanation *explanation,
                          const struct grant *grant, struct note *note) {
        _Static_assert(sizeof(note->party) == sizeof(facts->client.name), "it fits");
        _Static_assert(sizeof(note->object) == sizeof(facts->audience), "it fits");
        _Static_assert(EXPLAIN_POLICIES_MAX <= NOTE_POLICIES_MAX, "they fit");

        if (facts->client.id != 0)
                memcpy(note->party, facts->client.name, sizeof(note->party));
        memcpy(note->object, facts->audience, sizeof(note->object));
        note->asked = explanation->asked;
        note->has_shadow = explanation->has_shadow;
        note->shadow = explanation->shadow;
        note->n_policies = explanation->n_policies;
        memcpy(note->policies, explanation->policies, sizeof(explanation->policies));
        if (grant) {
                note->granted = grant->scope;
                note->expires_s = grant->expires_s;
        }
}

/*
 * RFC 6749 §10.4: a refresh token that comes a second time is in two hands, and nobody can tell which is the thief's.
 * The request is refused; that its family is revoked stays. Once: a client could ask for ever for the work that it is.
 */
static int revoke_reused(struct aced *as, const struct request *request, struct response *response,
                         const struct token_facts *facts, int refusal) {
        int r;

        if (refusal != REFUSE_REFRESH_TOKEN || !facts->refresh_reused || facts->refresh.revoked_s != 0)
                return refusal;
        r = store_family_revoke(as->store, facts->refresh.family, request->now_s);
        response->keep_changes = r == 0;
        return r != 0 ? r : refusal;
}

/* The decision and, for the log alone, who got what or why nothing. */
static int decide(struct aced *as, const struct request *request, struct response *response,
                  const struct token_ask *ask, const struct token_facts *facts, struct grant *grant) {
        struct explanation explanation;
        int r;

        r = grant_decide(facts, ask, request->now_s, grant, &explanation);
        as->metrics.n_shadow += explanation.has_shadow;
        note_decision(facts, &explanation, r == 0 ? grant : NULL, &response->note);
        if (r != 0)
                response_why(response, "client %s, audience %s: %s", facts->client.id != 0 ? facts->client.name : "?",
                             facts->audience[0] ? facts->audience : "?", explanation.why ? explanation.why : "");
        return revoke_reused(as, request, response, facts, r);
}

/* The first of a family, when the client has not too many already; or the next one. */
static int make_refresh_token(struct aced *as, const struct request *request, struct grant *grant,
                              uint64_t *ret_number) {
        uint8_t random[REFRESH_RANDOM_SIZE];
        int64_t n = 0;
        int r;

        if (grant->refresh_lifetime_s == 0)
                return 0;
        if (grant->family == 0 && (r = store_refresh_count(as->store, grant->client_id, request->now_s,
                                                           REFRESH_TOKENS_PER_CLIENT_MAX, &n)) != 0)
                return r;
        if (n >= REFRESH_TOKENS_PER_CLIENT_MAX) {
                grant->refresh_lifetime_s = 0; /* RFC 6749 §5.1: it is optional */
                return 0;
        }
        if ((r = store_number(as->store, NUMBER_TOKEN, ret_number)) != 0 ||
            (r = random_bytes(random, sizeof(random))) != 0)
                return r;
        refresh_token_write(*ret_number, random, &grant->refresh_token);
        wipe(random, sizeof(random));
        if (grant->family == 0)
                grant->family = *ret_number;
        return 0;
}

/* The refresh token that was asked with is used up with the one that comes instead, or neither. */
static int store_refresh(struct aced *as, const struct token_ask *ask, const struct token_facts *facts,
                         const struct grant *grant, uint64_t number) {
        uint8_t hash[TOKEN_HASH_SIZE];
        int r = 0;

        if (ask->grant_type == ASK_REFRESH_TOKEN)
                r = store_refresh_use(as->store, facts->refresh.number, grant->issued_s);
        if (r > 0)
                return -EIO; /* the facts have just said that it is there */
        if (r != 0 || grant->refresh_lifetime_s == 0)
                return r;
        r = sha256(secret_bytes(&grant->refresh_token), hash);
        return r == 0 ? store_refresh_add(as->store, grant, number, hash) : r;
}

int token_post(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(token_facts_done) struct token_facts facts = {
                .channel_key = request->peer->has_key ? request->peer->thumbprint : NULL,
                .channel_profile = request->peer->channel == CHANNEL_OSCORE ? PROFILE_COAP_OSCORE : PROFILE_COAP_DTLS,
                .unknown_kid_makes_key = as->config->unknown_kid_makes_key,
                .tokens_max = as->config->tokens_per_client_max,
                .default_lifetime_s = as->config->default_lifetime_s,
                .max_lifetime_s = as->config->max_lifetime_s,
        };
        _cleanup_(grant_done) struct grant grant = {};
        _cleanup_(buf_done) struct buf token = BUF_INIT(CWT_SIZE_MAX);
        int64_t expired_s = request->now_s > as->expired_s ? request->now_s : as->expired_s;
        uint8_t hash[TOKEN_HASH_SIZE];
        uint64_t refresh_number = 0;
        struct token_ask ask; /* borrows request->payload */
        int r;

        if ((r = token_ask_decode(request->payload, &ask)) != 0 ||
            (r = store_token_facts(as->store, request->peer->credential_id, 0, &ask, expired_s, &facts)) != 0 ||
            (r = decide(as, request, response, &ask, &facts, &grant)) != 0 ||
            (r = draw(as, &grant, &response->token_number)) != 0 ||
            (r = make_refresh_token(as, request, &grant, &refresh_number)) != 0 ||
            (r = protect_grant(as, &grant, &facts.server, request->now_s, response, &token)) != 0 ||
            (r = name_token(&grant, &facts.server, buf_bytes(&token), hash)) != 0 ||
            (r = store_token_add(as->store, &grant, hash)) != 0 ||
            (r = store_refresh(as, &ask, &facts, &grant, refresh_number)) != 0 ||
            (r = token_answer_encode(&grant, buf_bytes(&token), &response->payload)) != 0)
                return r;

        response->max_age_s = grant.lifetime_s; /* RFC 9202 §3.2.1: at most expires_in */
        return 0;
}
