/* The maps of RFC 9200, and the decision on what they ask. */
#include "base/cleanup.h"
#include "domain/grant.h"
#include "domain/refusal.h"
#include "format/ace.h"
#include "format/cbor.h"
#include "format/labels.h"
#include "fuzz.h"

#define NOW_S 1700000000
#define BOTH_PROFILES (PROFILE_BIT(PROFILE_COAP_DTLS) | PROFILE_BIT(PROFILE_COAP_OSCORE))

static void must_lie_in(struct bytes part, struct bytes whole) {
        if (part.size > 0)
                MUST(part.data >= whole.data && part.data + part.size <= whole.data + whole.size);
}

/* What the store would say: a key is proven, a refresh token good, as their bytes say. */
static void fill_facts(const struct token_ask *ask, struct token_facts *facts) {
        facts->public_key = ask->public_key;
        facts->public_key_proven = ask->public_key.x[0] & 1;
        facts->server_has_key = ask->public_key.x[0] & 2;
        facts->server_key = ask->public_key;
        facts->kid_size = ask->cnf == ASK_CNF_PUBLIC ? ask->kid.size : 0;
        if (facts->kid_size > 0)
                memcpy(facts->kid, ask->kid.data, facts->kid_size);
        facts->pop_key_found = ask->cnf == ASK_CNF_KID && ask->kid.size > 0 && (ask->kid.data[0] & 1);
        facts->pop_key = (struct secret){ .data = { 1 }, .size = 16 };
        facts->unknown_kid_makes_key = ask->kid.size > 1;
        facts->is_group = ask->public_key.x[0] & 4;
        facts->refresh_found = ask->refresh_token.size > 0 && (ask->refresh_token.data[0] & 1);
        facts->refresh_reused = ask->refresh_token.size > 0 && (ask->refresh_token.data[0] & 2);
        facts->channel_profile = ask->kid.size > 2 ? PROFILE_COAP_OSCORE : PROFILE_COAP_DTLS;
        if (facts->pop_key_found && !ask->kid_in_key && (ask->kid.data[0] & 2))
                facts->pop_osc = (struct osc){ .alg = AEAD_A128GCM, .hkdf = OSCORE_HKDF_SHA512 };
        facts->refresh = (struct refresh_token){ .family = 5, .server_id = facts->is_group ? 0 : 2, .audience = "rs1",
                                                 .scope = { SCOPE_TEXT, 4, "read" }, .key_number = 1,
                                                 .public_key = ask->public_key, .pop_key = facts->pop_key };
        if (facts->refresh_found && (ask->refresh_token.data[0] & 4) && ask->public_key.curve == CURVE_NONE)
                facts->refresh.osc = (struct osc){ .alg = AEAD_AES_CCM_16_64_128, .hkdf = OSCORE_HKDF_SHA256 };
}

/* Of what is granted an answer can be written, and it is a map. */
static void must_be_written(const struct grant *grant) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(1 << 14);

        MUST(token_answer_encode(grant, BYTES_LITERAL("token"), &out) == 0);
        MUST(cbor_check(buf_bytes(&out), CBOR_DEPTH_MAX) == 0);
}

/* Whatever was asked: what is granted is allowed. */
static void decide(const struct token_ask *ask) {
        static struct policy policy = { .id = 1, .subject = "c1", .audience = "rs1", .max_lifetime_s = 600,
                                        .scopes = { SCOPE_TEXT, 10, "read write" } };
        struct token_facts facts = {
                .client = { .id = 1, .name = "c1", .profiles = BOTH_PROFILES,
                            .refresh_lifetime_s = 86400 },
                .n_servers = 1,
                .server = { .id = 2, .name = "rs1", .profiles = BOTH_PROFILES,
                            .oscore_alg = AEAD_A256GCM, .oscore_hkdf = OSCORE_HKDF_SHA256, .scope_kind = SCOPE_TEXT, .token_format = TOKEN_FORMAT_ENCRYPT0,
                            .token_alg = AEAD_AES_CCM_16_64_128, .has_clock = true,
                            .pop_keys = POP_KEY_SYMMETRIC | POP_KEY_BIT(CURVE_P256) | POP_KEY_BIT(CURVE_ED25519) },
                .audience = "rs1",
                .policies = &policy,
                .n_policies = 1,
                .default_lifetime_s = 3600,
                .max_lifetime_s = 86400,
        };
        struct explanation why = {};
        struct grant grant = {};
        struct scope left;
        int r;

        fill_facts(ask, &facts);
        r = grant_decide(&facts, ask, NOW_S, &grant, &why);
        MUST(r >= 0 && r < REFUSALS && why.refusal == r);
        if (r == 0) {
                MUST(grant.expires_s > NOW_S && grant.expires_s <= NOW_S + policy.max_lifetime_s);
                MUST(scope_intersect(&grant.scope, &policy.scopes, &left) && scope_equal(&left, &grant.scope));
                MUST(grant.public_key.curve == CURVE_NONE || facts.public_key_proven);
                MUST(!grant.tell_server_key || (facts.server_has_key && !grant.is_group));
                MUST(!(grant.is_group && (grant.new_key || grant.pop_key.size > 0)));
                MUST(ask->grant_type != ASK_REFRESH_TOKEN || (facts.refresh_found && grant.family == 5));
                MUST(grant.cnonce_size <= CNONCE_SIZE_MAX);
                /* material is of coap_oscore, which has nothing else */
                MUST((grant.osc.alg != AEAD_NONE) == (grant.profile == PROFILE_COAP_OSCORE));
                MUST(grant.osc.alg == AEAD_NONE || grant.public_key.curve == CURVE_NONE);
                must_be_written(&grant);
        }
        grant_done(&grant);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes payload = bytes_of(data, size);
        struct introspect_ask introspect = {};
        struct token_ask ask = {};
        int r = token_ask_decode(payload, &ask);

        MUST(r == 0 || r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE || r == REFUSE_MISSING);
        if (r == 0) {
                must_lie_in(ask.cnonce, payload);
                must_lie_in(ask.refresh_token, payload);
                MUST(ask.public_key.curve == CURVE_NONE || public_key_check(&ask.public_key) == 0);
                must_lie_in(ask.client_id, payload);
                must_lie_in(ask.audience, payload);
                must_lie_in(ask.scope, payload);
                must_lie_in(ask.kid, payload);
                decide(&ask);
        }
        r = introspect_ask_decode(payload, &introspect);
        MUST(r == 0 || r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE || r == REFUSE_MISSING);
        if (r == 0)
                must_lie_in(introspect.token, payload);
        return 0;
}
