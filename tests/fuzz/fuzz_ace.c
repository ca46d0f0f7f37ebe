/* The maps of RFC 9200, and the decision on what they ask. */
#include "domain/grant.h"
#include "domain/refusal.h"
#include "format/ace.h"
#include "format/labels.h"
#include "fuzz.h"

#define NOW_S 1700000000

static void must_lie_in(struct bytes part, struct bytes whole) {
        if (part.size > 0)
                MUST(part.data >= whole.data && part.data + part.size <= whole.data + whole.size);
}

/* Whatever was asked: what is granted is allowed. */
static void decide(const struct token_ask *ask) {
        static struct policy policy = { .id = 1, .subject = "c1", .audience = "rs1", .max_lifetime_s = 600,
                                        .scopes = { SCOPE_TEXT, 10, "read write" } };
        struct token_facts facts = {
                .client = { .id = 1, .name = "c1", .profiles = PROFILE_BIT(PROFILE_COAP_DTLS) },
                .n_servers = 1,
                .server = { .id = 2, .name = "rs1", .profiles = PROFILE_BIT(PROFILE_COAP_DTLS),
                            .scope_kind = SCOPE_TEXT, .token_format = TOKEN_FORMAT_ENCRYPT0,
                            .token_alg = AEAD_AES_CCM_16_64_128 },
                .audience = "rs1",
                .policies = &policy,
                .n_policies = 1,
                .default_lifetime_s = 3600,
                .max_lifetime_s = 86400,
        };
        struct explanation why = {};
        struct grant grant = {};
        struct scope left;
        int r = grant_decide(&facts, ask, NOW_S, &grant, &why);

        MUST(r >= 0 && r < REFUSALS && why.refusal == r);
        if (r == 0) {
                MUST(grant.expires_s > NOW_S && grant.expires_s <= NOW_S + policy.max_lifetime_s);
                MUST(scope_intersect(&grant.scope, &policy.scopes, &left) && scope_equal(&left, &grant.scope));
        }
        grant_done(&grant);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes payload = bytes_of(data, size);
        struct introspect_ask introspect = {};
        struct token_ask ask = {};
        int r = token_ask_decode(payload, &ask);

        MUST(r == 0 || r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE);
        if (r == 0) {
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
