#include <errno.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "crypto/random.h"
#include "endpoint/aced.h"
#include "endpoint/handlers.h"
#include "endpoint/request.h"
#include "format/ace.h"
#include "format/cbor.h"
#include "format/cose.h"
#include "format/cwt.h"
#include "store/servers.h"
#include "store/store.h"
#include "store/tokens.h"

#define POP_KEY_SIZE 16     /* AES_128 suites of RFC 9202 §3.3.2 */
#define TOKEN_SIZE_MAX 2048 /* iss, aud and scope at their maxima fit */

static void server_key_done(struct server_key *key) {
        secret_done(&key->key);
}

static void claims_done(struct buf *claims) {
        if (claims->data)
                wipe(claims->data, claims->capacity);
        buf_done(claims);
}

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

/*
 * RFC 8392 §7.1: the claims in COSE_Encrypt0; a CWT tag stands only over a tagged COSE object (§6). The nonce is made
 * of the token's number, which never repeats: so it can be found again without being decrypted (cwt_number()).
 */
static int encrypt_claims(struct aced *as, const struct grant *grant, const struct server *server,
                          const struct server_key *key, struct bytes claims, struct buf *token) {
        struct cbor_writer w = CBOR_WRITER(token);
        size_t nonce_size = aead_info(server->token_alg)->nonce_size;
        struct bytes kid = key->kid_size > 0 ? bytes_of(key->kid, key->kid_size) : BYTES_NONE;
        uint8_t nonce[AEAD_NONCE_SIZE_MAX];
        int r;

        if (server->token_tagged)
                cbor_put_tag(&w, TAG_CWT);
        if ((r = cbor_end(&w)) != 0 ||
            (r = store_nonce_of(as->store, grant->number, nonce, nonce_size)) != 0)
                return r;
        return cose_encrypt0(server->token_alg, secret_bytes(&key->key), kid, bytes_of(nonce, nonce_size), claims,
                             server->token_tagged, token);
}

/* AS-063, AS-102: the PoP key travels under a key that the resource server alone shares with us. */
static int seal(struct aced *as, const struct grant *grant, const struct server *server, struct response *response,
                struct buf *token) {
        _cleanup_(server_key_done) struct server_key key = {};
        _cleanup_(claims_done) struct buf claims = BUF_INIT(TOKEN_SIZE_MAX);
        int r;

        r = store_server_key_get(as->store, server->id, &key);
        if (r > 0 || (r == 0 && !aead_info(server->token_alg))) {
                response_why(response, "resource server %s has no key for tokens: give it one with "
                             "acectl rs key set %s", server->name, server->name);
                return -ENOKEY; /* registration always sets one: not the client's fault, and no answer for it */
        }
        if (r != 0 ||
            (r = cwt_claims_encode(grant, bytes_text(as->config->issuer), NULL, &claims)) != 0)
                return r;
        return encrypt_claims(as, grant, server, &key, buf_bytes(&claims), token);
}

/* The decision and, for the log alone, who got what or why nothing. */
static int decide(struct aced *as, const struct request *request, struct response *response,
                  const struct token_ask *ask, const struct token_facts *facts, struct grant *grant) {
        struct explanation explanation;
        int r;

        r = grant_decide(facts, ask, request->now_s, grant, &explanation);
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
        _cleanup_(buf_done) struct buf token = BUF_INIT(TOKEN_SIZE_MAX);
        int64_t expired_s = request->now_s > as->expired_s ? request->now_s : as->expired_s;
        uint8_t hash[TOKEN_HASH_SIZE];
        struct token_ask ask; /* borrows request->payload */
        int r;

        if ((r = token_ask_decode(request->payload, &ask)) != 0 ||
            (r = store_token_facts(as->store, request->peer->credential_id, 0, &ask, expired_s, &facts)) != 0 ||
            (r = decide(as, request, response, &ask, &facts, &grant)) != 0 ||
            (r = make_key(as, &grant, &response->token_number)) != 0 ||
            (r = seal(as, &grant, &facts.server, response, &token)) != 0 ||
            (r = cwt_hash(buf_bytes(&token), hash)) != 0 ||
            (r = store_token_add(as->store, &grant, hash)) != 0 ||
            (r = token_answer_encode(&grant, buf_bytes(&token), &response->payload)) != 0)
                return r;

        response->max_age_s = grant.lifetime_s; /* RFC 9202 §3.2.1: at most expires_in */
        return 0;
}
