#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/grant.h"
#include "domain/refusal.h"

#define NOW_S 1000000
#define DAY_S 86400
#define DEFAULT_S 3600
#define MAX_S DAY_S
#define REFRESH_S (30 * DAY_S)
#define POLICIES_MAX 3

#define DTLS PROFILE_BIT(1)
#define OSCORE PROFILE_BIT(2)
#define MQTT PROFILE_BIT(3)

/* A scope as cases write it: text, or bytes when it starts with '#', or none when NULL. */
static struct scope made(const char *text) {
        struct scope scope = {};

        if (text && text[0] == '#')
                assert_int_equal(scope_set(&scope, SCOPE_BYTES, bytes_text(text + 1)), 0);
        else if (text)
                assert_int_equal(scope_set(&scope, SCOPE_TEXT, bytes_text(text)), 0);
        return scope;
}

/* One policy: scope NULL, there is none. */
struct rule {
        const char *scope;
        int64_t max_s, from_s, until_s;
};

/*
 * What a case changes in a world where client c1 asks resource server rs1 for "read" and may have "read write". A
 * member that is left out is as there; flags turn something good into something bad.
 */
struct world {
        /* the facts */
        bool unknown_client, suspended_client, asker_is_server, no_default_audience;
        bool unknown_audience, suspended_server, group;
        size_t n_servers;
        profile_set client_profiles, server_profiles;
        unsigned preferred_profile, channel_profile;
        enum token_format token_format;
        const char *server_scopes, *default_scope;
        bool byte_scopes, no_policies;
        struct rule rules[POLICIES_MAX];
        int64_t server_default_s, server_max_s, config_default_s, config_max_s, client_max_s;
        int64_t n_live_tokens, tokens_max;
        bool no_clock, derives_key, unknown_kid_makes_key;
        pop_key_set pop_keys;              /* 0: symmetric and P-256 */
        bool key_found;                    /* the symmetric one that the kid means */
        bool key_is_osc;                   /* it, or that of the refresh token, is an OSCORE_Input_Material's */
        enum curve key_curve;              /* the public one that req_cnf or its kid means */
        bool key_unproven, no_server_key;
        bool no_refresh_right, refresh_found, refresh_reused, audience_moved;
        const char *refresh_scope;         /* NULL: "read write" */
        /* the request */
        const char *client_id, *audience, *scope, *raw_scope;
        bool no_audience, no_scope, wants_profile;
        size_t cnonce_size;
        bool empty_cnonce;
        const char *kid;                   /* NULL: that of the refresh token's key */
        bool other_key;                    /* req_cnf has another key than the refresh token */
        bool kid_in_key;
        enum ask_grant_type grant_type;
        enum ask_cnf cnf;
};

static void add_policies(const struct world *world, struct policy *policies, struct token_facts *facts) {
        static const struct rule usual = { .scope = "read write" };

        facts->policies = policies;
        for (size_t i = 0; i < POLICIES_MAX && !world->no_policies; i++) {
                const struct rule *rule = i == 0 && !world->rules[0].scope ? &usual : &world->rules[i];

                if (!rule->scope)
                        break;
                policies[facts->n_policies++] = (struct policy){
                        .id = (int64_t)i + 11,
                        .subject = "c1",
                        .audience = "rs1",
                        .scopes = made(rule->scope),
                        .max_lifetime_s = rule->max_s,
                        .valid_from_s = rule->from_s,
                        .valid_until_s = rule->until_s,
                };
        }
}

static void add_server(const struct world *world, struct token_facts *facts) {
        facts->n_servers = world->unknown_audience ? 0 : world->n_servers > 0 ? world->n_servers : 1;
        facts->is_group = world->group;
        facts->server = (struct server){
                .id = 2,
                .name = "rs1",
                .suspended = world->suspended_server,
                .profiles = world->server_profiles ? world->server_profiles : DTLS | OSCORE,
                .scope_kind = world->byte_scopes ? SCOPE_BYTES : SCOPE_TEXT,
                .scopes = made(world->server_scopes),
                .default_scope = made(world->default_scope),
                .default_lifetime_s = world->server_default_s,
                .max_lifetime_s = world->server_max_s,
                .token_format = world->token_format ? world->token_format : TOKEN_FORMAT_ENCRYPT0,
                .preferred_profile = world->preferred_profile,
                .oscore_alg = AEAD_A256GCM,
                .oscore_hkdf = OSCORE_HKDF_SHA512,
                .pop_keys = world->pop_keys ? world->pop_keys : POP_KEY_SYMMETRIC | POP_KEY_BIT(CURVE_P256),
                .derives_key = world->derives_key,
                .has_clock = !world->no_clock,
        };
        if (world->group) { /* as the store says it of one */
                facts->server.id = 0;
                facts->server.pop_keys &= ~POP_KEY_SYMMETRIC;
                facts->server.token_format = TOKEN_FORMAT_SIGN1;
        }
}

/* Its coordinates are not looked at: that they are good is the decoder's to say. */
static struct public_key key_of(enum curve curve, uint8_t x) {
        return (struct public_key){ .curve = curve, .x = { x } };
}

/* Other algorithms than the server has now. */
static const struct osc old_osc = { .alg = AEAD_A128GCM, .hkdf = OSCORE_HKDF_SHA256, .salt = "salt567",
                                    .context_id = "context" };

#define REFRESH_KEY_NUMBER 0x1234
#define REFRESH_KID "\x00\x00\x12\x34"

static void add_refresh_token(const struct world *world, struct token_facts *facts) {
        facts->refresh_found = world->refresh_found;
        facts->refresh_reused = world->refresh_reused;
        if (!world->refresh_found && !world->refresh_reused)
                return;
        facts->refresh = (struct refresh_token){
                .number = 8,
                .family = 5,
                .server_id = world->group ? 0 : world->audience_moved ? 3 : 2,
                .audience = "rs1",
                .scope = made(world->refresh_scope ? world->refresh_scope : "read write"),
                .key_number = REFRESH_KEY_NUMBER,
                .public_key = key_of(world->key_curve, 1),
                .kid_size = world->key_curve == CURVE_NONE ? 0 : 2,
                .kid = "k1",
        };
        if (world->key_is_osc)
                facts->refresh.osc = old_osc;
        if (world->key_curve == CURVE_NONE)
                assert_int_equal(secret_set(&facts->refresh.pop_key, BYTES_LITERAL("fedcba9876543210")), 0);
}

static void add_keys(const struct world *world, struct token_facts *facts) {
        facts->pop_key_found = world->key_found;
        if (world->key_found) {
                facts->pop_key_number = 42;
                if (world->key_is_osc)
                        facts->pop_osc = old_osc;
                assert_int_equal(secret_set(&facts->pop_key, BYTES_LITERAL("0123456789abcdef")), 0);
        }
        if (world->key_curve == CURVE_NONE)
                return;
        facts->public_key = key_of(world->key_curve, 1);
        facts->public_key_proven = !world->key_unproven;
        facts->kid_size = 2;
        memcpy(facts->kid, "k1", 2);
        facts->server_has_key = !world->no_server_key && !world->group;
        facts->server_key = key_of(CURVE_P256, 9);
}

static void build_facts(const struct world *world, struct policy *policies, struct token_facts *facts) {
        *facts = (struct token_facts){
                .asker_is_server = world->asker_is_server,
                .channel_profile = world->channel_profile,
                .n_live_tokens = world->n_live_tokens,
                .tokens_max = world->tokens_max,
                .default_lifetime_s = world->config_default_s ? world->config_default_s : DEFAULT_S,
                .max_lifetime_s = world->config_max_s ? world->config_max_s : MAX_S,
                .unknown_kid_makes_key = world->unknown_kid_makes_key,
        };
        if (!world->unknown_client)
                facts->client = (struct client){
                        .id = 1,
                        .name = "c1",
                        .suspended = world->suspended_client,
                        .profiles = world->client_profiles ? world->client_profiles : DTLS,
                        .max_lifetime_s = world->client_max_s,
                        .refresh_lifetime_s = world->no_refresh_right ? 0 : REFRESH_S,
                };
        add_keys(world, facts);
        add_refresh_token(world, facts);
        if (!world->no_default_audience)
                (void)snprintf(facts->audience, sizeof(facts->audience), "rs1");
        add_server(world, facts);
        add_policies(world, policies, facts);
}

static const uint8_t nonce[CNONCE_SIZE_MAX + 1] = { 7, 8 };

static struct token_ask build_ask(const struct world *world) {
        const char *scope = world->scope ? world->scope : "read";
        struct token_ask ask = {
                .client_id = bytes_text(world->client_id),
                .audience = world->no_audience ? BYTES_NONE : bytes_text(world->audience ? world->audience : "rs1"),
                .grant_type = world->grant_type,
                .wants_profile = world->wants_profile,
                .cnf = world->cnf,
                .kid_in_key = world->kid_in_key,
                .kid = world->cnf != ASK_CNF_KID ? BYTES_NONE :
                       world->kid                ? bytes_text(world->kid) :
                       world->key_curve          ? BYTES_LITERAL("k1") : BYTES_LITERAL(REFRESH_KID),
                .cnonce = world->cnonce_size > 0 || world->empty_cnonce ? bytes_of(nonce, world->cnonce_size)
                                                                        : BYTES_NONE,
        };

        if (world->cnf == ASK_CNF_PUBLIC)
                ask.public_key = key_of(world->key_curve, world->other_key ? 2 : 1);
        if (world->no_scope)
                return ask;
        ask.scope_kind = scope[0] == '#' ? SCOPE_BYTES : SCOPE_TEXT;
        ask.scope = bytes_text(scope[0] == '#' ? scope + 1 : scope);
        if (world->raw_scope) {
                ask.scope_kind = SCOPE_TEXT;
                ask.scope = bytes_text(world->raw_scope);
        }
        return ask;
}

static int decide(const struct world *world, struct grant *grant, struct explanation *why) {
        struct policy policies[POLICIES_MAX];
        struct token_facts facts;
        struct token_ask ask = build_ask(world);
        int r;

        build_facts(world, policies, &facts);
        r = grant_decide(&facts, &ask, NOW_S, grant, why);
        facts.policies = NULL; /* not the heap's */
        token_facts_done(&facts);
        return r;
}

/* ---- refusals, in the order of the checks */

#define REFRESH .grant_type = ASK_REFRESH_TOKEN, .refresh_found = true

static const struct {
        const char *name;
        int refusal;
        struct world world;
} refusals[] = {
        { "AS-001 all is well", 0, {} },

        { "AS-005 unknown client", REFUSE_UNKNOWN_CLIENT, { .unknown_client = true } },
        { "AS-005 suspended client", REFUSE_SUSPENDED_CLIENT, { .suspended_client = true } },
        { "AS-030 client_id of another", REFUSE_CLIENT_ID, { .client_id = "C2" } },
        { "AS-030 client_id cut", REFUSE_CLIENT_ID, { .client_id = "c" } },
        { "AS-030 client_id longer", REFUSE_CLIENT_ID, { .client_id = "c11" } },
        { "AS-030 client_id empty", REFUSE_CLIENT_ID, { .client_id = "" } },
        { "AS-030 client_id agrees", 0, { .client_id = "c1" } },

        { "AS-020 unsupported grant type", REFUSE_GRANT_TYPE, { .grant_type = ASK_OTHER_GRANT } },
        { "AS-055 a resource server asks", REFUSE_GRANT_NOT_ALLOWED,
          { .asker_is_server = true, .unknown_client = true } },

        { "AS-021 no audience and no default", REFUSE_NO_AUDIENCE,
          { .no_audience = true, .no_default_audience = true } },
        { "AS-021 default audience", 0, { .no_audience = true } },
        { "AS-022 unknown audience", REFUSE_AUDIENCE, { .unknown_audience = true } },
        { "AS-022 audience that cannot be registered", REFUSE_AUDIENCE,
          { .unknown_audience = true, .no_default_audience = true } },
        { "AS-022 no policy", REFUSE_AUDIENCE, { .no_policies = true } },
        { "AS-022 policy that is over", REFUSE_AUDIENCE, { .rules = { { "read", .until_s = NOW_S } } } },
        { "AS-022 policy that is to come", REFUSE_AUDIENCE, { .rules = { { "read", .from_s = NOW_S + 1 } } } },
        { "AS-022 policy of now", 0, { .rules = { { "read", .from_s = NOW_S, .until_s = NOW_S + 1 } } } },
        { "AS-022 suspended server", REFUSE_AUDIENCE, { .suspended_server = true } },
        { "AS-066 several servers, no key named", REFUSE_GROUP_SYMMETRIC, { .n_servers = 2, .group = true } },
        { "AS-066 group of one", REFUSE_GROUP_SYMMETRIC, { .group = true } },
        { "AS-022 group that the client may not use", REFUSE_AUDIENCE, { .group = true, .no_policies = true } },

        { "AS-024 nothing is left", REFUSE_SCOPE, { .scope = "admin" } },
        { "AS-024 part of it", 0, { .scope = "read admin" } },
        { "AS-024 only a policy that is over has it", REFUSE_SCOPE,
          { .scope = "admin", .rules = { { "read" }, { "admin", .until_s = NOW_S - 1 } } } },
        { "AS-024 the server does not know it", REFUSE_SCOPE, { .server_scopes = "write" } },
        { "AS-023 bytes at a text server", REFUSE_SCOPE, { .scope = "#read" } },
        { "AS-023 text at a byte server", REFUSE_SCOPE, { .byte_scopes = true, .rules = { { "read" } } } },
        { "AS-023 bytes at a byte server", 0, { .byte_scopes = true, .scope = "#\x01", .rules = { { "#\x01" } } } },
        { "AS-023 other bytes", REFUSE_SCOPE, { .byte_scopes = true, .scope = "#\x02", .rules = { { "#\x01" } } } },
        { "AS-023 the second policy has the bytes", 0,
          { .byte_scopes = true, .scope = "#\x02", .rules = { { "#\x01" }, { "#\x02" } } } },
        { "AS-023 empty text", REFUSE_SCOPE, { .raw_scope = "" } },
        { "AS-023 spaces", REFUSE_SCOPE, { .raw_scope = "  " } },
        { "AS-023 malformed text", REFUSE_SCOPE, { .raw_scope = "read \"write\"" } },
        { "AS-068 no scope, no default", REFUSE_NO_SCOPE, { .no_scope = true } },
        { "AS-068 no scope, a default", 0, { .no_scope = true, .default_scope = "read" } },
        { "AS-068 default that policy does not allow", REFUSE_SCOPE, { .no_scope = true, .default_scope = "admin" } },

        { "AS-048 no profile in common", REFUSE_PROFILE, { .server_profiles = OSCORE } },
        { "AS-058 only one that is not served", REFUSE_PROFILE,
          { .client_profiles = DTLS | MQTT, .server_profiles = OSCORE | MQTT } },
        { "AS-135 OSCORE alone", 0, { .client_profiles = OSCORE } },
        { "AS-132 all can read its tokens", REFUSE_PROFILE,
          { .client_profiles = OSCORE, .token_format = TOKEN_FORMAT_SIGN1 } },
        { "AS-132 likewise", REFUSE_PROFILE, { .client_profiles = OSCORE, .token_format = TOKEN_FORMAT_MAC0 } },
        { "AS-132 signed, then encrypted", 0,
          { .client_profiles = OSCORE, .token_format = TOKEN_FORMAT_SIGN_ENCRYPT } },
        { "AS-132 opaque", 0, { .client_profiles = OSCORE, .token_format = TOKEN_FORMAT_OPAQUE } },
        { "AS-132 DTLS is left", 0,
          { .client_profiles = DTLS | OSCORE, .token_format = TOKEN_FORMAT_SIGN1, .channel_profile = 2 } },
        { "AS-135 no symmetric keys", REFUSE_PROFILE,
          { .client_profiles = OSCORE, .pop_keys = POP_KEY_BIT(CURVE_P256) } },
        { "AS-135 a public key where OSCORE is all", REFUSE_PROFILE,
          { .client_profiles = OSCORE, .cnf = ASK_CNF_PUBLIC, .key_curve = CURVE_P256 } },
        { "AS-135 one that nobody can use", REFUSE_PROFILE, { .client_profiles = OSCORE, .cnf = ASK_CNF_UNSUPPORTED } },
        { "AS-135 a bad one", REFUSE_PROFILE, { .client_profiles = OSCORE, .cnf = ASK_CNF_BAD_KEY } },
        { "AS-066 OSCORE for a group", REFUSE_GROUP_SYMMETRIC, { .client_profiles = OSCORE, .group = true } },
        { "AS-066 by kid", REFUSE_PROFILE, { .client_profiles = OSCORE, .group = true, .cnf = ASK_CNF_KID } },

        { "AS-122 id of live material", 0,
          { .client_profiles = OSCORE, .cnf = ASK_CNF_KID, .key_found = true, .key_is_osc = true } },
        { "AS-123 id of none", REFUSE_OSC_ID, { .client_profiles = OSCORE, .cnf = ASK_CNF_KID } },
        { "AS-123 nor by the switch", REFUSE_OSC_ID,
          { .client_profiles = OSCORE, .cnf = ASK_CNF_KID, .unknown_kid_makes_key = true } },
        { "AS-123 id of none, over OSCORE", REFUSE_OSC_ID,
          { .client_profiles = DTLS | OSCORE, .channel_profile = 2, .cnf = ASK_CNF_KID } },
        { "AS-121 kid of none, over DTLS", REFUSE_POP_KEY,
          { .client_profiles = DTLS | OSCORE, .channel_profile = 1, .cnf = ASK_CNF_KID } },
        { "AS-121 kid of no COSE_Key, over OSCORE", REFUSE_POP_KEY,
          { .client_profiles = DTLS | OSCORE, .channel_profile = 2, .cnf = ASK_CNF_KID, .kid_in_key = true } },
        { "AS-122 kid of a COSE_Key where OSCORE is all", REFUSE_PROFILE,
          { .client_profiles = OSCORE, .cnf = ASK_CNF_KID, .key_found = true } },
        { "AS-122 id of material where DTLS is all", REFUSE_PROFILE,
          { .cnf = ASK_CNF_KID, .key_found = true, .key_is_osc = true } },
        { "AS-060 material by value", REFUSE_KEY_BY_VALUE,
          { .client_profiles = OSCORE, .cnf = ASK_CNF_SYMMETRIC_VALUE } },

        { "AS-060 symmetric key by value", REFUSE_KEY_BY_VALUE, { .cnf = ASK_CNF_SYMMETRIC_VALUE } },
        { "AS-026 unreadable req_cnf", REFUSE_REQ_CNF, { .cnf = ASK_CNF_UNREADABLE } },
        { "AS-057 asymmetric key", REFUSE_POP_KEY, { .cnf = ASK_CNF_UNSUPPORTED } },
        { "AS-121 kid of nobody's key", REFUSE_POP_KEY, { .cnf = ASK_CNF_KID } },
        { "AS-120 kid of a live key", 0, { .cnf = ASK_CNF_KID, .key_found = true } },
        { "AS-067 kid for a group", REFUSE_POP_KEY, { .cnf = ASK_CNF_KID, .group = true } },
        { "AS-121 the switch", 0, { .cnf = ASK_CNF_KID, .unknown_kid_makes_key = true } },
        { "AS-121 the switch is none for a group", REFUSE_POP_KEY,
          { .cnf = ASK_CNF_KID, .unknown_kid_makes_key = true, .group = true } },
        { "AS-057 the server does no symmetric keys", REFUSE_POP_KEY, { .pop_keys = POP_KEY_BIT(CURVE_P256) } },
        { "AS-121 nor by the switch", REFUSE_POP_KEY,
          { .cnf = ASK_CNF_KID, .unknown_kid_makes_key = true, .pop_keys = POP_KEY_BIT(CURVE_P256) } },

        { "AS-080 public key", 0, { .cnf = ASK_CNF_PUBLIC, .key_curve = CURVE_P256 } },
        { "AS-080 public key by kid", 0, { .cnf = ASK_CNF_KID, .key_curve = CURVE_P256 } },
        { "AS-061 no proof", REFUSE_KEY_PROOF,
          { .cnf = ASK_CNF_PUBLIC, .key_curve = CURVE_P256, .key_unproven = true } },
        { "AS-061 no proof of the key of a kid", REFUSE_KEY_PROOF,
          { .cnf = ASK_CNF_KID, .key_curve = CURVE_P256, .key_unproven = true } },
        { "AS-061 the switch makes no proof", REFUSE_KEY_PROOF,
          { .cnf = ASK_CNF_KID, .key_curve = CURVE_P256, .key_unproven = true, .unknown_kid_makes_key = true } },
        { "AS-057 curve that the server does not do", REFUSE_POP_KEY,
          { .cnf = ASK_CNF_PUBLIC, .key_curve = CURVE_ED25519 } },
        { "AS-057 the same by kid", REFUSE_POP_KEY, { .cnf = ASK_CNF_KID, .key_curve = CURVE_P384 } },
        { "AS-057 curve that it does", 0,
          { .cnf = ASK_CNF_PUBLIC, .key_curve = CURVE_X25519, .pop_keys = POP_KEY_BIT(CURVE_X25519) } },
        { "AS-057 symmetric keys alone", REFUSE_POP_KEY,
          { .cnf = ASK_CNF_PUBLIC, .key_curve = CURVE_P256, .pop_keys = POP_KEY_SYMMETRIC } },
        { "AS-083 the server has no public key", REFUSE_POP_KEY,
          { .cnf = ASK_CNF_PUBLIC, .key_curve = CURVE_P256, .no_server_key = true } },
        { "AS-047 a group has none", 0, { .cnf = ASK_CNF_PUBLIC, .key_curve = CURVE_P256, .group = true } },
        { "AS-073 bad key", REFUSE_POP_KEY, { .cnf = ASK_CNF_BAD_KEY } },
        { "RFC 9200 §5.10.3 group without a clock", REFUSE_AUDIENCE,
          { .cnf = ASK_CNF_PUBLIC, .key_curve = CURVE_P256, .group = true, .no_clock = true } },

        { "AS-027 cnonce", 0, { .cnonce_size = CNONCE_SIZE_MAX } },
        { "AS-027 cnonce too long", REFUSE_CNONCE, { .cnonce_size = CNONCE_SIZE_MAX + 1 } },
        { "AS-027 cnonce empty", REFUSE_CNONCE, { .empty_cnonce = true } },

        { "AS-029 refresh", 0, { REFRESH } },
        { "AS-029 refresh without audience", 0, { REFRESH, .no_audience = true } },
        { "AS-029 refresh token that is not good", REFUSE_REFRESH_TOKEN, { .grant_type = ASK_REFRESH_TOKEN } },
        { "AS-029 refresh token used before", REFUSE_REFRESH_TOKEN,
          { .grant_type = ASK_REFRESH_TOKEN, .refresh_reused = true } },
        { "AS-029 no right to it any more", REFUSE_GRANT_NOT_ALLOWED, { REFRESH, .no_refresh_right = true } },
        { "AS-029 other audience", REFUSE_REFRESH_CHANGE, { REFRESH, .audience = "rs2" } },
        { "AS-067 the audience is another server's now", REFUSE_AUDIENCE, { REFRESH, .audience_moved = true } },
        { "AS-029 other kid", REFUSE_REFRESH_CHANGE, { REFRESH, .cnf = ASK_CNF_KID, .kid = "\x01\x02\x03\x04" } },
        { "AS-029 the same kid", 0, { REFRESH, .cnf = ASK_CNF_KID } },
        { "AS-029 a public key instead", REFUSE_REFRESH_CHANGE, { REFRESH, .cnf = ASK_CNF_PUBLIC } },
        { "AS-029 other public key", REFUSE_REFRESH_CHANGE,
          { REFRESH, .cnf = ASK_CNF_PUBLIC, .key_curve = CURVE_P256, .other_key = true } },
        { "AS-029 the same public key", 0, { REFRESH, .cnf = ASK_CNF_PUBLIC, .key_curve = CURVE_P256 } },
        { "AS-029 the same public key by kid", 0, { REFRESH, .cnf = ASK_CNF_KID, .key_curve = CURVE_P256 } },
        { "AS-029 of OSCORE", 0, { REFRESH, .client_profiles = OSCORE, .key_is_osc = true } },
        { "AS-029 of OSCORE by id", 0, { REFRESH, .client_profiles = OSCORE, .key_is_osc = true, .cnf = ASK_CNF_KID } },
        { "AS-029 of OSCORE as a COSE_Key", REFUSE_REFRESH_CHANGE,
          { REFRESH, .client_profiles = DTLS | OSCORE, .key_is_osc = true, .cnf = ASK_CNF_KID, .kid_in_key = true } },
        { "AS-029 of a profile that is no more", REFUSE_PROFILE, { REFRESH, .client_profiles = OSCORE } },
        { "AS-029 an unreadable req_cnf", REFUSE_REFRESH_CHANGE, { REFRESH, .cnf = ASK_CNF_UNREADABLE } },
        { "AS-061 the key is the client's no more", REFUSE_KEY_PROOF,
          { REFRESH, .key_curve = CURVE_P256, .key_unproven = true } },
        { "AS-057 the server does symmetric keys no more", REFUSE_POP_KEY,
          { REFRESH, .pop_keys = POP_KEY_BIT(CURVE_P256) } },
        { "AS-135 nor OSCORE, which needs them", REFUSE_PROFILE,
          { REFRESH, .client_profiles = DTLS | OSCORE, .key_is_osc = true, .pop_keys = POP_KEY_BIT(CURVE_P256) } },
        { "AS-029 part of the scope", 0, { REFRESH, .scope = "write" } },
        { "AS-029 more than the scope", REFUSE_SCOPE, { REFRESH, .scope = "read write", .refresh_scope = "read" } },
        { "AS-029 policy gives less by now", 0, { REFRESH, .no_scope = true, .rules = { { "write" } } } },
        { "AS-029 policy gives nothing by now", REFUSE_AUDIENCE, { REFRESH, .no_policies = true } },
        { "AS-029 for a group", 0, { REFRESH, .group = true, .key_curve = CURVE_P256 } },

        { "AS-176 no clock", 0, { .no_clock = true } },
        { "AS-176 a policy wants less", REFUSE_SCOPE, { .no_clock = true, .rules = { { "read", .max_s = 60 } } } },
        { "AS-176 a policy ends sooner", REFUSE_SCOPE,
          { .no_clock = true, .rules = { { "read", .until_s = NOW_S + 60 } } } },
        { "AS-176 the client's is less", REFUSE_SCOPE, { .no_clock = true, .client_max_s = 60 } },
        { "AS-176 all may have more", 0,
          { .no_clock = true, .client_max_s = MAX_S, .rules = { { "read", .max_s = DEFAULT_S } } } },

        { "limit reached", REFUSE_TOO_MANY_TOKENS, { .n_live_tokens = 5, .tokens_max = 5 } },
        { "limit passed", REFUSE_TOO_MANY_TOKENS, { .n_live_tokens = 6, .tokens_max = 5 } },
        { "under the limit", 0, { .n_live_tokens = 4, .tokens_max = 5 } },
        { "no limit", 0, { .n_live_tokens = 1000 } },
};

static void test_refusals(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(refusals); i++) {
                struct explanation why;
                struct grant grant;
                int r = decide(&refusals[i].world, &grant, &why);

                if (r != refusals[i].refusal)
                        fail_msg("%s: %d instead of %d (%s)", refusals[i].name, r, refusals[i].refusal, why.why);
                assert_int_equal(why.refusal, r);
                if (!why.why || strncmp(why.why, "RFC ", 4) != 0 || !strstr(why.why, "§"))
                        fail_msg("%s: no section of an RFC in \"%s\"", refusals[i].name, why.why ? why.why : "");
                if (r != 0 && grant.pop_key.size != 0)
                        fail_msg("%s: a refusal that hands out a key", refusals[i].name);

                assert_int_equal(decide(&refusals[i].world, &grant, NULL), r);
                grant_done(&grant);
        }
}

/* One fault more, or that one mended. */
static void set_fault(struct world *world, int refusal, bool is_there) {
        switch (refusal) {
        case REFUSE_UNKNOWN_CLIENT: world->unknown_client = is_there; break;
        case REFUSE_SUSPENDED_CLIENT: world->suspended_client = is_there; break;
        case REFUSE_CLIENT_ID: world->client_id = is_there ? "C2" : NULL; break;
        case REFUSE_GRANT_TYPE: world->grant_type = is_there ? ASK_OTHER_GRANT : ASK_CLIENT_CREDENTIALS; break;
        case REFUSE_AUDIENCE: world->unknown_audience = is_there; break;
        case REFUSE_SCOPE: world->scope = is_there ? "admin" : "read"; break;
        case REFUSE_PROFILE: world->server_profiles = is_there ? OSCORE : 0; break;
        case REFUSE_KEY_BY_VALUE: world->cnf = is_there ? ASK_CNF_SYMMETRIC_VALUE : ASK_CNF_NONE; break;
        case REFUSE_REQ_CNF: world->cnf = is_there ? ASK_CNF_UNREADABLE : ASK_CNF_NONE; break;
        case REFUSE_POP_KEY: world->cnf = is_there ? ASK_CNF_KID : ASK_CNF_NONE; break;
        case REFUSE_CNONCE: world->empty_cnonce = is_there; break;
        case REFUSE_TOO_MANY_TOKENS: world->tokens_max = is_there ? 1 : 2; break;
        default: fail_msg("no such fault: %d", refusal);
        }
}

/* Every two of these faults at once: the one that is first here is told. Of one place there is one at a time. */
static void test_order(void **state) {
        static const struct {
                int refusal, place;
        } order[] = {
                { REFUSE_UNKNOWN_CLIENT, 1 }, { REFUSE_SUSPENDED_CLIENT, 2 }, { REFUSE_CLIENT_ID, 3 },
                { REFUSE_GRANT_TYPE, 4 },     { REFUSE_AUDIENCE, 5 },         { REFUSE_SCOPE, 6 },
                { REFUSE_PROFILE, 7 },        { REFUSE_KEY_BY_VALUE, 8 },     { REFUSE_REQ_CNF, 8 },
                { REFUSE_POP_KEY, 8 },        { REFUSE_CNONCE, 9 },           { REFUSE_TOO_MANY_TOKENS, 10 },
        };
        struct grant grant;

        for (size_t i = 0; i < N_ELEMENTS(order); i++)
                for (size_t j = i; j < N_ELEMENTS(order); j++) {
                        struct world world = { .n_live_tokens = 1, .tokens_max = 2 };

                        if (i != j && order[i].place == order[j].place)
                                continue;
                        set_fault(&world, order[j].refusal, true);
                        set_fault(&world, order[i].refusal, true);
                        if (decide(&world, &grant, NULL) != order[i].refusal)
                                fail_msg("not %d before %d", order[i].refusal, order[j].refusal);
                }
}

/* All faults at once, and then one less at each turn. */
static void test_order_of_all(void **state) {
        static const int order[] = {
                REFUSE_UNKNOWN_CLIENT, REFUSE_SUSPENDED_CLIENT, REFUSE_CLIENT_ID, REFUSE_GRANT_TYPE, REFUSE_AUDIENCE,
                REFUSE_SCOPE, REFUSE_PROFILE, REFUSE_POP_KEY, REFUSE_CNONCE, REFUSE_TOO_MANY_TOKENS,
        };
        struct world world = { .n_live_tokens = 1 };
        struct grant grant;

        for (size_t i = 0; i < N_ELEMENTS(order); i++)
                set_fault(&world, order[i], true);
        for (size_t i = 0; i < N_ELEMENTS(order); i++) {
                assert_int_equal(decide(&world, &grant, NULL), order[i]);
                set_fault(&world, order[i], false);
        }
        assert_int_equal(decide(&world, &grant, NULL), 0);
        grant_done(&grant);
}

/* ---- what is granted */

static const struct {
        const char *name;
        const char *wanted;
        bool differs;
        struct world world;
} scopes[] = {
        { "AS-024 as asked", "read", false, {} },
        { "AS-024 narrowed", "read", true, { .scope = "read admin" } },
        { "AS-024 asked's order", "write read", false, { .scope = "write read" } },
        { "AS-024 twice the same", "read", false, { .scope = "read read" } },
        { "AS-024 policies unite", "c a b", false, { .scope = "c a b", .rules = { { "a" }, { "b" }, { "c" } } } },
        { "AS-024 one policy is over", "a c", true,
          { .scope = "a b c", .rules = { { "a" }, { "b", .until_s = NOW_S }, { "c" } } } },
        { "AS-024 the server knows less", "read", true, { .scope = "read write", .server_scopes = "read" } },
        { "AS-068 default scope", "read", true, { .no_scope = true, .default_scope = "read" } },
        { "AS-068 default scope narrowed", "write", true, { .no_scope = true, .default_scope = "admin write" } },
        { "AS-023 bytes", "\x01", false, { .byte_scopes = true, .scope = "#\x01", .rules = { { "#\x01" } } } },
        { "AS-023 default bytes", "\x01", true,
          { .byte_scopes = true, .no_scope = true, .default_scope = "#\x01", .rules = { { "#\x01" } } } },
};

static void test_scopes(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(scopes); i++) {
                struct explanation why;
                struct grant grant;

                if (decide(&scopes[i].world, &grant, &why) != 0)
                        fail_msg("%s: refused, %s", scopes[i].name, why.why);
                if (!bytes_equal(scope_bytes(&grant.scope), bytes_text(scopes[i].wanted)) ||
                    grant.scope_differs != scopes[i].differs)
                        fail_msg("%s: \"%.*s\" differs %d", scopes[i].name, (int)grant.scope.size, grant.scope.data,
                                 grant.scope_differs);
                assert_true(scope_equal(&grant.scope, &why.granted));
                grant_done(&grant);
        }
}

static const struct {
        const char *name;
        int64_t wanted_s;
        const char *from;
        struct world world;
} lifetimes[] = {
        { "AS-177 configured default", DEFAULT_S, "configuration", {} },
        { "AS-177 configured maximum", 60, "configuration", { .config_max_s = 60 } },
        { "AS-177 server's default", 600, "resource server", { .server_default_s = 600 } },
        { "AS-177 server's default may be longer", 7200, "resource server", { .server_default_s = 7200 } },
        { "AS-177 server's default over the maximum", MAX_S, "configuration", { .server_default_s = 2 * MAX_S } },
        { "AS-177 server's maximum", 300, "resource server", { .server_max_s = 300 } },
        { "AS-177 server's maximum is no default", DEFAULT_S, "configuration", { .server_max_s = 7200 } },
        { "AS-177 server's maximum over the configured", 60, "configuration",
          { .server_max_s = 7200, .config_max_s = 60 } },
        { "AS-177 policy", 120, "policy", { .rules = { { "read", .max_s = 120 } } } },
        { "AS-177 longer policy", DEFAULT_S, "configuration", { .rules = { { "read", .max_s = 7200 } } } },
        { "AS-177 shortest of two", 30, "policy",
          { .scope = "a b", .rules = { { "a", .max_s = 120 }, { "b", .max_s = 30 } } } },
        { "AS-177 policy that gave nothing", 120, "policy",
          { .scope = "a", .rules = { { "a", .max_s = 120 }, { "b", .max_s = 30 } } } },
        { "AS-177 policy that is over", 120, "policy",
          { .scope = "a", .rules = { { "a", .max_s = 120 }, { "a", .max_s = 30, .until_s = NOW_S } } } },
        { "AS-177 client's maximum", 90, "client", { .client_max_s = 90 } },
        { "AS-177 client's maximum over the policy's", 60, "policy",
          { .client_max_s = 90, .rules = { { "read", .max_s = 60 } } } },
        { "AS-177 client's longer maximum", DEFAULT_S, "configuration", { .client_max_s = DEFAULT_S + 1 } },
        { "AS-176 no clock: the server's", 600, "resource server", { .no_clock = true, .server_default_s = 600 } },
        { "AS-177 not beyond the policy's period", 10, "policy",
          { .rules = { { "read", .max_s = 120, .until_s = NOW_S + 10 } } } },
};

static void test_lifetimes(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(lifetimes); i++) {
                struct explanation why;
                struct grant grant;

                if (decide(&lifetimes[i].world, &grant, &why) != 0)
                        fail_msg("%s: refused, %s", lifetimes[i].name, why.why);
                if (grant.lifetime_s != lifetimes[i].wanted_s || strcmp(why.lifetime_from, lifetimes[i].from) != 0)
                        fail_msg("%s: %lld s from %s", lifetimes[i].name, (long long)grant.lifetime_s,
                                 why.lifetime_from);
                assert_int_equal(why.lifetime_s, grant.lifetime_s);
                assert_int_equal(grant.issued_s, NOW_S);
                assert_int_equal(grant.expires_s, NOW_S + grant.lifetime_s);
                grant_done(&grant);
        }
}

/* AS-028: without req_cnf a new key; AS-100, AS-120: with a kid the key that it names. */
static void test_keys(void **state) {
        struct world world = { .wants_profile = true };
        struct grant grant;

        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_true(grant.new_key);
        assert_int_equal(grant.pop_key.size, 0);
        assert_int_equal(grant.client_id, 1);
        assert_int_equal(grant.server_id, 2);
        assert_string_equal(grant.audience, "rs1");
        assert_int_equal(grant.profile, 1); /* AS-042, AS-025 */
        assert_true(grant.tell_profile);
        grant_done(&grant);

        world = (struct world){ .cnf = ASK_CNF_KID, .key_found = true };
        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_false(grant.new_key);
        assert_false(grant.tell_profile);
        assert_int_equal(grant.key_number, 42);
        assert_int_equal(grant.pop_key.size, 16);
        assert_memory_equal(grant.pop_key.data, "0123456789abcdef", 16);
        grant_done(&grant);
        assert_int_equal(grant.pop_key.size, 0);
        assert_int_equal(grant.pop_key.data[0], 0);
}

/* RFC 9200 §5.8.2, RFC 9203 §3.1 */
static const struct {
        const char *name;
        unsigned profile;
        bool told;
        const char *from;
        struct world world;
} profiles[] = {
        { "the client has one", 1, false, "parties", {} },
        { "asked for", 1, true, "parties", { .wants_profile = true } },
        { "the client has the other", 2, false, "parties", { .client_profiles = OSCORE, .channel_profile = 1 } },
        { "the server has one", 2, false, "parties",
          { .client_profiles = DTLS | OSCORE, .server_profiles = OSCORE | MQTT, .preferred_profile = 3 } },
        { "the server's tokens leave one", 1, false, "parties",
          { .client_profiles = DTLS | OSCORE, .token_format = TOKEN_FORMAT_MAC0, .preferred_profile = 2 } },
        { "over DTLS", 1, true, "channel", { .client_profiles = DTLS | OSCORE, .channel_profile = 1 } },
        { "over OSCORE", 2, true, "channel", { .client_profiles = DTLS | OSCORE, .channel_profile = 2 } },
        { "over what is none", 1, true, "number", { .client_profiles = DTLS | OSCORE } },
        { "preferred", 2, true, "resource server",
          { .client_profiles = DTLS | OSCORE, .channel_profile = 1, .preferred_profile = 2 } },
        { "preferred, the other", 1, true, "resource server",
          { .client_profiles = DTLS | OSCORE, .channel_profile = 2, .preferred_profile = 1 } },
        { "preferred, not served", 2, true, "channel",
          { .client_profiles = DTLS | OSCORE | MQTT, .server_profiles = DTLS | OSCORE | MQTT, .channel_profile = 2,
            .preferred_profile = 3 } },
        { "preferred, not the client's", 1, false, "parties", { .preferred_profile = 2 } },
        { "public key", 1, false, "key",
          { .client_profiles = DTLS | OSCORE, .channel_profile = 2, .cnf = ASK_CNF_PUBLIC, .key_curve = CURVE_P256 } },
        { "public key by kid", 1, false, "key",
          { .client_profiles = DTLS | OSCORE, .preferred_profile = 2, .cnf = ASK_CNF_KID, .key_curve = CURVE_P256 } },
        { "kid", 1, false, "key",
          { .client_profiles = DTLS | OSCORE, .preferred_profile = 2, .cnf = ASK_CNF_KID, .key_found = true } },
        { "id", 2, false, "key",
          { .client_profiles = DTLS | OSCORE, .preferred_profile = 1, .cnf = ASK_CNF_KID, .key_found = true,
            .key_is_osc = true } },
        { "id, asked for", 2, true, "key",
          { .client_profiles = DTLS | OSCORE, .cnf = ASK_CNF_KID, .key_found = true, .key_is_osc = true,
            .wants_profile = true } },
        { "refreshed", 1, false, "key", { REFRESH, .client_profiles = DTLS | OSCORE, .channel_profile = 2 } },
        { "refreshed, the other", 2, false, "key",
          { REFRESH, .client_profiles = DTLS | OSCORE, .preferred_profile = 1, .key_is_osc = true } },
};

static void test_profiles(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(profiles); i++) {
                struct explanation why;
                struct grant grant;

                if (decide(&profiles[i].world, &grant, &why) != 0)
                        fail_msg("%s: refused, %s", profiles[i].name, why.why);
                if (grant.profile != profiles[i].profile || grant.tell_profile != profiles[i].told ||
                    strcmp(why.profile_from, profiles[i].from) != 0)
                        fail_msg("%s: %u from %s, told %d", profiles[i].name, grant.profile, why.profile_from,
                                 grant.tell_profile);
                assert_int_equal(why.profile, grant.profile);
                grant_done(&grant);
        }
}

static bool is_old_osc(const struct osc *osc) {
        return osc->alg == old_osc.alg && osc->hkdf == old_osc.hkdf &&
               memcmp(osc->salt, old_osc.salt, OSC_SALT_SIZE) == 0 &&
               memcmp(osc->context_id, old_osc.context_id, OSC_CONTEXT_ID_SIZE) == 0;
}

/* New material is of the server's algorithms; one that is there stays what it is (AS-122). */
static void test_oscore_keys(void **state) {
        struct world world = { .client_profiles = OSCORE, .derives_key = true };
        struct grant grant;

        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_true(grant.new_key);
        assert_false(grant.derives_key || grant.is_update);
        assert_int_equal(grant.osc.alg, AEAD_A256GCM);
        assert_int_equal(grant.osc.hkdf, OSCORE_HKDF_SHA512);

        world = (struct world){ .client_profiles = OSCORE, .cnf = ASK_CNF_KID, .key_found = true, .key_is_osc = true };
        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_true(grant.is_update && is_old_osc(&grant.osc));
        assert_false(grant.new_key);
        assert_int_equal(grant.key_number, 42);
        assert_memory_equal(grant.pop_key.data, "0123456789abcdef", 16);
        grant_done(&grant);

        world = (struct world){ REFRESH, .client_profiles = OSCORE, .key_is_osc = true };
        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_true(is_old_osc(&grant.osc));
        assert_false(grant.new_key || grant.is_update);
        assert_int_equal(grant.key_number, REFRESH_KEY_NUMBER);
        grant_done(&grant);
        world.cnf = ASK_CNF_KID;
        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_true(grant.is_update);
        grant_done(&grant);

        /* keys of DTLS have none of this */
        world = (struct world){ .client_profiles = DTLS | OSCORE, .channel_profile = 1 };
        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_int_equal(grant.osc.alg, AEAD_NONE);
}

/* AS-080, AS-083: bound to the client's key, and the server's is told. */
static void test_public_keys(void **state) {
        struct world world = { .cnf = ASK_CNF_PUBLIC, .key_curve = CURVE_P256, .derives_key = true, .cnonce_size = 2 };
        struct grant grant;

        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_false(grant.new_key || grant.derives_key || grant.is_update || grant.is_group);
        assert_int_equal(grant.pop_key.size, 0);
        assert_int_equal(grant.public_key.curve, CURVE_P256);
        assert_int_equal(grant.public_key.x[0], 1);
        assert_int_equal(grant.kid_size, 2);
        assert_memory_equal(grant.kid, "k1", 2);
        assert_true(grant.tell_server_key);
        assert_int_equal(grant.server_key.x[0], 9);
        assert_int_equal(grant.cnonce_size, 2); /* AS-027 */
        assert_memory_equal(grant.cnonce, nonce, 2);

        world = (struct world){ .cnf = ASK_CNF_KID, .key_curve = CURVE_P256 };
        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_true(grant.is_update && grant.tell_server_key);
        assert_int_equal(grant.public_key.x[0], 1);

        /* AS-047 */
        world = (struct world){ .cnf = ASK_CNF_PUBLIC, .key_curve = CURVE_P256, .group = true };
        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_true(grant.is_group);
        assert_false(grant.tell_server_key);
        assert_int_equal(grant.server_id, 0);

        /* AS-103: a new key the server derives; of one that it has, it is told */
        world = (struct world){ .derives_key = true };
        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_true(grant.new_key && grant.derives_key);
        world = (struct world){ .derives_key = true, .cnf = ASK_CNF_KID, .key_found = true };
        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_false(grant.new_key || grant.derives_key);
        assert_true(grant.is_update);
        grant_done(&grant);
}

/* AS-029: the key, the family and the right are those that the family began with. */
static void test_refreshed(void **state) {
        struct world world = { REFRESH, .no_scope = true, .no_audience = true };
        struct explanation why;
        struct grant grant;

        assert_int_equal(decide(&world, &grant, &why), 0);
        assert_false(grant.new_key || grant.is_update);
        assert_int_equal(grant.key_number, REFRESH_KEY_NUMBER);
        assert_memory_equal(grant.pop_key.data, "fedcba9876543210", 16);
        assert_int_equal(grant.family, 5);
        assert_int_equal(grant.refresh_lifetime_s, REFRESH_S);
        assert_memory_equal(grant.scope.data, "read write", 10);
        assert_true(grant.scope_differs); /* it was not asked */
        assert_string_equal(why.why, "RFC 6749 §6: policy still allows what the refresh token stands for");
        grant_done(&grant);

        /* what was asked less of now may be asked again later */
        world = (struct world){ REFRESH, .scope = "read" };
        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_memory_equal(grant.scope.data, "read", 4);
        assert_int_equal(grant.scope.size, 4);
        assert_int_equal(grant.refresh_scope.size, 10);
        grant_done(&grant);

        /* the first of a family */
        world = (struct world){ .scope = "read" };
        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_int_equal(grant.family, 0);
        assert_int_equal(grant.refresh_lifetime_s, REFRESH_S);
        assert_int_equal(grant.refresh_scope.size, 4);
        world.no_refresh_right = true;
        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_int_equal(grant.refresh_lifetime_s, 0);
}

/* AS-174, AS-176 */
static void test_without_clock(void **state) {
        struct world world = { .no_clock = true };
        struct grant grant;

        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_true(grant.has_exi);
        assert_int_equal(grant.lifetime_s, DEFAULT_S);
        assert_int_equal(grant.nbf_s, 0);
        world.no_clock = false;
        assert_int_equal(decide(&world, &grant, NULL), 0);
        assert_false(grant.has_exi);
}

/* AS-022: which audiences exist is not to be told apart. */
static void test_same_refusal(void **state) {
        struct world unknown = { .unknown_audience = true }, foreign = { .no_policies = true },
                     suspended = { .suspended_server = true }, group = { .group = true, .no_policies = true };
        struct grant grant;
        int r = decide(&unknown, &grant, NULL);

        assert_int_equal(decide(&foreign, &grant, NULL), r);
        assert_int_equal(decide(&suspended, &grant, NULL), r);
        assert_int_equal(decide(&group, &grant, NULL), r);
}

static void test_explanation(void **state) {
        struct world world = {
                .scope = "a x c",
                .server_scopes = "a b c",
                .rules = { { "a z" }, { "b" }, { "c", .max_s = 5 } },
        };
        struct explanation why;
        struct grant grant;

        assert_int_equal(decide(&world, &grant, &why), 0);
        assert_memory_equal(why.asked.data, "a x c", 5);
        assert_int_equal(why.allowed.size, 5);
        assert_memory_equal(why.allowed.data, "a b c", 5);
        assert_int_equal(why.granted.size, 3);
        assert_memory_equal(why.granted.data, "a c", 3);
        assert_int_equal(why.n_policies, 2); /* b's gave nothing */
        assert_int_equal(why.policies[0], 11);
        assert_int_equal(why.policies[1], 13);
        assert_string_equal(why.why, "RFC 6749 §3.3: policy allows a part of the scope that was asked");
        grant_done(&grant);

        world.scope = "x"; /* told as far as it got */
        assert_int_equal(decide(&world, &grant, &why), REFUSE_SCOPE);
        assert_memory_equal(why.asked.data, "x", 1);
        assert_int_equal(why.allowed.size, 5);
        assert_int_equal(why.granted.kind, SCOPE_NONE);
        assert_int_equal(why.n_policies, 0);
        assert_null(why.lifetime_from);
}

/* More policies than the explanation has room for: counted, and all of them decide. */
static void test_many_policies(void **state) {
        enum { N = 3 * EXPLAIN_POLICIES_MAX };
        struct policy *policies = calloc(N, sizeof(*policies));
        struct token_facts facts;
        struct token_ask ask;
        struct explanation why;
        struct grant grant;
        char text[16];

        assert_non_null(policies);
        build_facts(&(struct world){ .no_policies = true }, policies, &facts);
        for (size_t i = 0; i < N; i++) {
                (void)snprintf(text, sizeof(text), "read s%zu", i);
                policies[i] = (struct policy){
                        .id = (int64_t)i + 1,
                        .scopes = made(text),
                        .max_lifetime_s = 1000 - (int64_t)i,
                };
        }
        facts.n_policies = N;
        ask = build_ask(&(struct world){ .scope = "read s0 s47" });

        assert_int_equal(grant_decide(&facts, &ask, NOW_S, &grant, &why), 0);
        assert_int_equal(why.n_policies, N);
        assert_int_equal(why.policies[EXPLAIN_POLICIES_MAX - 1], EXPLAIN_POLICIES_MAX);
        assert_int_equal(grant.scope.size, strlen("read s0 s47"));
        assert_int_equal(grant.lifetime_s, 1000 - (N - 1));
        grant_done(&grant);
        token_facts_done(&facts); /* frees the policies */
        assert_null(facts.policies);
}

static void test_facts_done_wipes(void **state) {
        static const struct secret none;
        struct token_facts facts = { .pop_key = { .data = { 1, 2, 3 }, .size = 3 },
                                     .refresh = { .pop_key = { .data = { 4 }, .size = 1 } } };
        struct grant grant = { .pop_key = { .data = { 5 }, .size = 1 }, .refresh_token = { .data = { 6 }, .size = 1 } };

        token_facts_done(&facts);
        assert_memory_equal(&facts.pop_key, &none, sizeof(none));
        assert_memory_equal(&facts.refresh.pop_key, &none, sizeof(none));
        grant_done(&grant);
        assert_memory_equal(&grant.pop_key, &none, sizeof(none));
        assert_memory_equal(&grant.refresh_token, &none, sizeof(none));
        token_facts_done(&facts); /* once more does no harm */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_order),
                cmocka_unit_test(test_order_of_all),
                cmocka_unit_test(test_public_keys),
                cmocka_unit_test(test_profiles),
                cmocka_unit_test(test_oscore_keys),
                cmocka_unit_test(test_refreshed),
                cmocka_unit_test(test_without_clock),
                cmocka_unit_test(test_scopes),
                cmocka_unit_test(test_lifetimes),
                cmocka_unit_test(test_keys),
                cmocka_unit_test(test_same_refusal),
                cmocka_unit_test(test_explanation),
                cmocka_unit_test(test_many_policies),
                cmocka_unit_test(test_facts_done_wipes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
