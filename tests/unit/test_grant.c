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
#define POLICIES_MAX 3

#define DTLS PROFILE_BIT(1)
#define OSCORE PROFILE_BIT(2)

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
        const char *server_scopes, *default_scope;
        bool byte_scopes, no_policies;
        struct rule rules[POLICIES_MAX];
        int64_t server_default_s, server_max_s, config_default_s, config_max_s;
        int64_t n_live_tokens, tokens_max;
        bool key_found;
        /* the request */
        const char *client_id, *scope, *raw_scope;
        bool no_audience, no_scope, wants_profile;
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
        };
}

static void build_facts(const struct world *world, struct policy *policies, struct token_facts *facts) {
        *facts = (struct token_facts){
                .asker_is_server = world->asker_is_server,
                .n_live_tokens = world->n_live_tokens,
                .tokens_max = world->tokens_max,
                .default_lifetime_s = world->config_default_s ? world->config_default_s : DEFAULT_S,
                .max_lifetime_s = world->config_max_s ? world->config_max_s : MAX_S,
                .pop_key_found = world->key_found,
        };
        if (!world->unknown_client)
                facts->client = (struct client){
                        .id = 1,
                        .name = "c1",
                        .suspended = world->suspended_client,
                        .profiles = world->client_profiles ? world->client_profiles : DTLS,
                };
        if (world->key_found) {
                facts->pop_key_number = 42;
                assert_int_equal(secret_set(&facts->pop_key, BYTES_LITERAL("0123456789abcdef")), 0);
        }
        if (!world->no_default_audience)
                (void)snprintf(facts->audience, sizeof(facts->audience), "rs1");
        add_server(world, facts);
        add_policies(world, policies, facts);
}

static struct token_ask build_ask(const struct world *world) {
        const char *scope = world->scope ? world->scope : "read";
        struct token_ask ask = {
                .client_id = bytes_text(world->client_id),
                .audience = world->no_audience ? BYTES_NONE : BYTES_LITERAL("rs1"),
                .grant_type = world->grant_type,
                .wants_profile = world->wants_profile,
                .cnf = world->cnf,
        };

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

        build_facts(world, policies, &facts);
        return grant_decide(&facts, &ask, NOW_S, grant, why);
}

/* ---- refusals, in the order of the checks */

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
        { "AS-068 no scope, no default", REFUSE_SCOPE, { .no_scope = true } },
        { "AS-068 no scope, a default", 0, { .no_scope = true, .default_scope = "read" } },
        { "AS-068 default that policy does not allow", REFUSE_SCOPE, { .no_scope = true, .default_scope = "admin" } },

        { "AS-048 no profile in common", REFUSE_PROFILE, { .server_profiles = OSCORE } },
        { "AS-058 only one that is not served", REFUSE_PROFILE, { .client_profiles = OSCORE } },

        { "AS-060 symmetric key by value", REFUSE_KEY_BY_VALUE, { .cnf = ASK_CNF_SYMMETRIC_VALUE } },
        { "AS-026 unreadable req_cnf", REFUSE_REQ_CNF, { .cnf = ASK_CNF_UNREADABLE } },
        { "AS-057 asymmetric key", REFUSE_POP_KEY, { .cnf = ASK_CNF_UNSUPPORTED } },
        { "AS-121 kid of nobody's key", REFUSE_POP_KEY, { .cnf = ASK_CNF_KID } },
        { "AS-120 kid of a live key", 0, { .cnf = ASK_CNF_KID, .key_found = true } },
        { "AS-067 kid for a group", REFUSE_POP_KEY, { .cnf = ASK_CNF_KID, .group = true } },

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

/* AS-059: each fault of this list, together with all that come after it, is the one that is told. */
static void test_order(void **state) {
        static const int order[] = {
                REFUSE_UNKNOWN_CLIENT, REFUSE_SUSPENDED_CLIENT, REFUSE_CLIENT_ID, REFUSE_GRANT_TYPE, REFUSE_AUDIENCE,
                REFUSE_SCOPE, REFUSE_PROFILE, REFUSE_POP_KEY, REFUSE_TOO_MANY_TOKENS,
        };
        struct world world = {
                .unknown_client = true,
                .suspended_client = true,
                .client_id = "C2",
                .grant_type = ASK_OTHER_GRANT,
                .unknown_audience = true,
                .scope = "admin",
                .server_profiles = OSCORE,
                .cnf = ASK_CNF_KID,
                .n_live_tokens = 1,
                .tokens_max = 1,
        };
        struct grant grant;

        for (size_t i = 0; i < N_ELEMENTS(order); i++) {
                assert_int_equal(decide(&world, &grant, NULL), order[i]);
                switch (order[i]) { /* mend it */
                case REFUSE_UNKNOWN_CLIENT: world.unknown_client = false; break;
                case REFUSE_SUSPENDED_CLIENT: world.suspended_client = false; break;
                case REFUSE_CLIENT_ID: world.client_id = NULL; break;
                case REFUSE_GRANT_TYPE: world.grant_type = ASK_CLIENT_CREDENTIALS; break;
                case REFUSE_AUDIENCE: world.unknown_audience = false; break;
                case REFUSE_SCOPE: world.scope = "read"; break;
                case REFUSE_PROFILE: world.server_profiles = 0; break;
                case REFUSE_POP_KEY: world.cnf = ASK_CNF_NONE; break;
                case REFUSE_TOO_MANY_TOKENS: world.tokens_max = 2; break;
                }
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
        struct token_facts facts = { .pop_key = { .data = { 1, 2, 3 }, .size = 3 } };

        token_facts_done(&facts);
        assert_memory_equal(&facts.pop_key, &none, sizeof(none));
        token_facts_done(&facts); /* once more does no harm */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_order),
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
