/* Refresh tokens, and tokens that are bound to public keys or have something else that most have not, in the store. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "domain/refusal.h"
#include "format/ace.h"
#include "format/cwt.h"
#include "store/clients.h"
#include "store/credentials.h"
#include "store/private.h"
#include "store/refresh.h"
#include "store/servers.h"
#include "store/tokens.h"
#include "store/trl.h"
#include "support/parties.h"

#define NOW_S 1700000000
#define DAY_S 86400

struct world {
        struct store *store;
        struct client c1, c2;
        struct server rs1;
};

/* A transaction is open, and stays so. */
static struct world open_world(void) {
        static const uint8_t key[32] = { 1 };
        _cleanup_(diags_done) struct diags diags = {};
        struct world world = {};

        assert_int_equal(store_open(&(struct store_options){ .seal_key = { key, 32 } }, &world.store, &diags), 0);
        assert_int_equal(store_begin(world.store), 0);
        party_add_client(world.store, "c1", NULL, "read");
        party_add_client(world.store, "c2", NULL, "read");
        party_add_server(world.store, "rs1");
        assert_int_equal(store_client_by_name(world.store, BYTES_LITERAL("c1"), &world.c1), 0);
        assert_int_equal(store_client_by_name(world.store, BYTES_LITERAL("c2"), &world.c2), 0);
        assert_int_equal(store_server_by_name(world.store, BYTES_LITERAL("rs1"), &world.rs1), 0);
        return world;
}

static struct public_key some_key(uint8_t x) {
        return (struct public_key){ .curve = CURVE_ED25519, .x = { x } };
}

static struct grant grant_of(struct world *world, uint64_t family) {
        struct grant grant = {
                .client_id = world->c1.id,
                .server_id = world->rs1.id,
                .audience = "rs1",
                .profile = 1,
                .issued_s = NOW_S,
                .expires_s = NOW_S + 60,
                .refresh_lifetime_s = DAY_S,
                .family = family,
        };

        assert_int_equal(store_number(world->store, NUMBER_TOKEN, &grant.number), 0);
        grant.key_number = grant.number;
        assert_int_equal(scope_set(&grant.scope, SCOPE_TEXT, BYTES_LITERAL("read")), 0);
        grant.refresh_scope = grant.scope;
        assert_int_equal(secret_set(&grant.pop_key, BYTES_LITERAL("0123456789abcdef")), 0);
        return grant;
}

/* One more refresh token of the grant's family, which is new when it is 0; its bytes. */
static uint64_t add_refresh(struct world *world, struct grant *grant, struct secret *ret_bytes) {
        uint8_t random[REFRESH_RANDOM_SIZE] = { 1, 2, 3 }, hash[TOKEN_HASH_SIZE];
        uint64_t number;

        assert_int_equal(store_number(world->store, NUMBER_TOKEN, &number), 0);
        if (grant->family == 0)
                grant->family = number;
        refresh_token_write(number, random, ret_bytes);
        assert_int_equal(sha256(secret_bytes(ret_bytes), hash), 0);
        assert_int_equal(store_refresh_add(world->store, grant, number, hash), 0);
        return number;
}

static int add_token(struct world *world, const struct grant *grant, uint8_t hash[static TOKEN_HASH_SIZE]) {
        assert_int_equal(sha256(bytes_of(&grant->number, sizeof(grant->number)), hash), 0);
        return store_token_add(world->store, grant, hash);
}

static struct osc some_osc(void) {
        struct osc osc;

        memset(&osc, 0, sizeof(osc)); /* its padding too */
        osc.alg = AEAD_CHACHA20_POLY1305;
        osc.hkdf = OSCORE_HKDF_SHA512;
        memset(osc.salt, 's', OSC_SALT_SIZE);
        memset(osc.context_id, 'c', OSC_CONTEXT_ID_SIZE);
        return osc;
}

static void test_kept(void **state) {
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        _cleanup_(refresh_token_done) struct refresh_token token = {};
        struct grant grant = grant_of(&world, 0), public_grant = grant_of(&world, 0);
        struct secret bytes;
        uint64_t number = add_refresh(&world, &grant, &bytes);

        assert_int_equal(bytes.size, 24);
        assert_int_equal(store_refresh_find(store, secret_bytes(&bytes), &token), 0);
        assert_true(token.number == number && token.family == number);
        assert_true(token.client_id == world.c1.id && token.server_id == world.rs1.id);
        assert_string_equal(token.audience, "rs1");
        assert_true(scope_equal(&token.scope, &grant.scope));
        assert_true(token.key_number == grant.key_number);
        assert_true(bytes_equal(secret_bytes(&token.pop_key), secret_bytes(&grant.pop_key)));
        assert_int_equal(token.public_key.curve, CURVE_NONE);
        assert_true(token.issued_s == NOW_S && token.expires_s == NOW_S + DAY_S);
        assert_true(token.used_s == 0 && token.revoked_s == 0);

        assert_int_equal(token.osc.alg, AEAD_NONE);

        /* of coap_oscore */
        grant.family = 0;
        grant.osc = some_osc();
        (void)add_refresh(&world, &grant, &bytes);
        assert_int_equal(store_refresh_find(store, secret_bytes(&bytes), &token), 0);
        assert_memory_equal(&token.osc, &grant.osc, sizeof(token.osc));
        assert_true(bytes_equal(secret_bytes(&token.pop_key), secret_bytes(&grant.pop_key)));

        /* for a group audience, with a public key that has a name */
        public_grant.server_id = 0;
        public_grant.pop_key.size = 0;
        public_grant.public_key = some_key(7);
        public_grant.kid_size = 2;
        memcpy(public_grant.kid, "k1", 2);
        (void)add_refresh(&world, &public_grant, &bytes);
        assert_int_equal(store_refresh_find(store, secret_bytes(&bytes), &token), 0);
        assert_int_equal(token.server_id, 0);
        assert_int_equal(token.pop_key.size, 0);
        assert_true(public_key_equal(&token.public_key, &public_grant.public_key));
        assert_true(bytes_equal(bytes_of(token.kid, token.kid_size), BYTES_LITERAL("k1")));
}

static void test_found_by_all_bytes(void **state) {
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct grant grant = grant_of(&world, 0);
        struct refresh_token token = {};
        struct secret bytes;

        (void)add_refresh(&world, &grant, &bytes);
        for (size_t bit = 0; bit < 8 * bytes.size; bit++) {
                bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                assert_int_equal(store_refresh_find(store, secret_bytes(&bytes), &token), REFUSE_ADMIN_UNKNOWN);
                bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t size = 0; size < bytes.size; size++)
                assert_int_equal(store_refresh_find(store, bytes_of(bytes.data, size), &token), REFUSE_ADMIN_UNKNOWN);
        bytes.data[bytes.size++] = 0;
        assert_int_equal(store_refresh_find(store, secret_bytes(&bytes), &token), REFUSE_ADMIN_UNKNOWN);
}

static void test_used_once(void **state) {
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        _cleanup_(refresh_token_done) struct refresh_token token = {};
        struct grant grant = grant_of(&world, 0);
        struct secret bytes;
        uint64_t number = add_refresh(&world, &grant, &bytes);

        assert_int_equal(store_refresh_use(store, number, NOW_S + 5), 0);
        assert_int_equal(store_refresh_use(store, number, NOW_S + 6), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_refresh_use(store, number + 1, NOW_S + 6), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_refresh_find(store, secret_bytes(&bytes), &token), 0);
        assert_int_equal(token.used_s, NOW_S + 5);
}

/* What the decision is told of it. */
static void expect_facts(struct world *world, int64_t client_id, const struct secret *bytes, int64_t now_s, bool found,
                         bool reused) {
        _cleanup_(token_facts_done) struct token_facts facts = {};
        struct token_ask ask = { .grant_type = ASK_REFRESH_TOKEN, .refresh_token = secret_bytes(bytes) };

        assert_int_equal(store_token_facts(world->store, 0, client_id, &ask, now_s, &facts), 0);
        assert_int_equal(facts.refresh_found, found);
        assert_int_equal(facts.refresh_reused, reused);
        assert_string_equal(facts.audience, found ? "rs1" : "");
        if (found)
                assert_true(bytes_equal(secret_bytes(&facts.refresh.pop_key), BYTES_LITERAL("0123456789abcdef")));
}

static void test_facts(void **state) {
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct grant grant = grant_of(&world, 0);
        struct secret bytes, next, wrong = { .size = 24 };
        uint64_t number = add_refresh(&world, &grant, &bytes);

        expect_facts(&world, world.c1.id, &bytes, NOW_S, true, false);
        expect_facts(&world, world.c1.id, &bytes, NOW_S + DAY_S - 1, true, false);
        expect_facts(&world, world.c1.id, &bytes, NOW_S + DAY_S, false, false);
        expect_facts(&world, world.c1.id, &bytes, NOW_S - 1, false, false);
        expect_facts(&world, world.c2.id, &bytes, NOW_S, false, false);
        expect_facts(&world, world.c1.id, &wrong, NOW_S, false, false);

        assert_int_equal(store_refresh_use(store, number, NOW_S), 0);
        (void)add_refresh(&world, &grant, &next);
        expect_facts(&world, world.c1.id, &bytes, NOW_S, false, true);
        expect_facts(&world, world.c1.id, &bytes, NOW_S + DAY_S, false, true); /* long after, too */
        expect_facts(&world, world.c2.id, &bytes, NOW_S, false, false); /* a guess of somebody else's harms nobody */
        expect_facts(&world, world.c1.id, &next, NOW_S, true, false);

        assert_int_equal(store_family_revoke(store, grant.family, NOW_S + 1), 0);
        expect_facts(&world, world.c1.id, &next, NOW_S + 1, false, false);
        expect_facts(&world, world.c1.id, &bytes, NOW_S + 1, false, true);
}

static int64_t revoked_at(struct world *world, uint64_t number) {
        struct token token = {};

        assert_int_equal(store_token_by_number(world->store, number, &token), 0);
        return token.revoked_s;
}

static void test_family_revoked(void **state) {
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        _cleanup_(refresh_token_done) struct refresh_token token = {};
        struct grant first = grant_of(&world, 0), other = grant_of(&world, 0), alone = grant_of(&world, 0), second;
        struct secret bytes, other_bytes;
        uint8_t hash[TOKEN_HASH_SIZE];

        (void)add_refresh(&world, &first, &bytes);
        (void)add_refresh(&world, &other, &other_bytes);
        second = grant_of(&world, first.family);
        assert_int_equal(add_token(&world, &first, hash), 0);
        assert_int_equal(add_token(&world, &second, hash), 0);
        assert_int_equal(add_token(&world, &other, hash), 0);
        assert_int_equal(add_token(&world, &alone, hash), 0);

        assert_int_equal(store_family_revoke(store, first.family, NOW_S + 3), 0);
        assert_int_equal(store_family_revoke(store, first.family, NOW_S + 9), 0); /* stays as it is */
        assert_int_equal(revoked_at(&world, first.number), NOW_S + 3);
        assert_int_equal(revoked_at(&world, second.number), NOW_S + 3);
        assert_int_equal(revoked_at(&world, other.number), 0);
        assert_int_equal(revoked_at(&world, alone.number), 0);
        assert_int_equal(store_refresh_find(store, secret_bytes(&bytes), &token), 0);
        assert_int_equal(token.revoked_s, NOW_S + 3);
        assert_int_equal(store_refresh_find(store, secret_bytes(&other_bytes), &token), 0);
        assert_int_equal(token.revoked_s, 0);

        /* family 0 is none: all tokens without one stay */
        assert_int_equal(store_family_revoke(store, 0, NOW_S + 4), 0);
        assert_int_equal(revoked_at(&world, alone.number), 0);
}

/* However often a client refreshes, what is kept of a family is bounded. */
static void test_used_ones_are_forgotten(void **state) {
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct grant grant = grant_of(&world, 0);
        struct secret bytes[3 * REFRESH_TOKENS_KEPT];
        int64_t n;

        for (size_t i = 0; i < N_ELEMENTS(bytes); i++) {
                uint64_t number = add_refresh(&world, &grant, &bytes[i]);

                if (i + 1 < N_ELEMENTS(bytes))
                        assert_int_equal(store_refresh_use(store, number, NOW_S), 0);
        }
        assert_int_equal(pragma_int(store, "SELECT count(*) FROM refresh_tokens", &n), 0);
        assert_int_equal(n, REFRESH_TOKENS_KEPT + 1);
        expect_facts(&world, world.c1.id, &bytes[N_ELEMENTS(bytes) - 1], NOW_S, true, false);
        expect_facts(&world, world.c1.id, &bytes[N_ELEMENTS(bytes) - 2], NOW_S, false, true);
        expect_facts(&world, world.c1.id, &bytes[N_ELEMENTS(bytes) - 1 - REFRESH_TOKENS_KEPT], NOW_S, false, true);
        expect_facts(&world, world.c1.id, &bytes[N_ELEMENTS(bytes) - 2 - REFRESH_TOKENS_KEPT], NOW_S, false, false);
        expect_facts(&world, world.c1.id, &bytes[0], NOW_S, false, false);
}

static void expect_count(struct world *world, int64_t now_s, int64_t limit, int64_t expected) {
        int64_t n = -1;

        assert_int_equal(store_refresh_count(world->store, world->c1.id, now_s, limit, &n), 0);
        assert_int_equal(n, expected);
}

static void test_counted(void **state) {
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct grant grant;
        struct secret bytes;
        uint64_t number = 0, family = 0;

        for (size_t i = 0; i < 5; i++) {
                family = number;
                grant = grant_of(&world, 0);
                grant.issued_s = NOW_S + (int64_t)i;
                number = add_refresh(&world, &grant, &bytes);
        }
        expect_count(&world, NOW_S, 10, 5);
        expect_count(&world, NOW_S, 3, 3);
        expect_count(&world, NOW_S + DAY_S, 10, 4);
        assert_int_equal(store_refresh_use(store, number, NOW_S), 0);
        expect_count(&world, NOW_S, 10, 4);
        assert_int_equal(store_family_revoke(store, family, NOW_S), 0); /* the one before */
        expect_count(&world, NOW_S, 10, 3);
}

static void test_purged(void **state) {
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct grant grant = grant_of(&world, 0);
        uint8_t hash[TOKEN_HASH_SIZE];
        struct secret bytes;
        int64_t n = 0;

        (void)add_refresh(&world, &grant, &bytes);
        assert_int_equal(add_token(&world, &grant, hash), 0);
        assert_int_equal(store_token_purge(store, NOW_S + 61, 10, &n), 0);
        assert_int_equal(n, 1); /* the token alone */
        expect_facts(&world, world.c1.id, &bytes, NOW_S, true, false);
        assert_int_equal(store_token_purge(store, NOW_S + DAY_S + 1, 10, &n), 0);
        assert_int_equal(n, 1);
        expect_facts(&world, world.c1.id, &bytes, NOW_S, false, false);

        /* both, in steps */
        for (size_t i = 0; i < 3; i++) {
                grant = grant_of(&world, 0);
                (void)add_refresh(&world, &grant, &bytes);
                assert_int_equal(add_token(&world, &grant, hash), 0);
        }
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(store_token_purge(store, NOW_S + DAY_S + 1, 2, &n), 0);
                assert_int_equal(n, 2);
        }
        assert_int_equal(store_token_purge(store, NOW_S + DAY_S + 1, 2, &n), 0);
        assert_int_equal(n, 0);
}

/* ---- tokens */

static void test_rare_members_are_kept(void **state) {
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct grant grant = grant_of(&world, 0), plain = grant_of(&world, 0);
        struct cwt_place place = { .number = grant.number };
        uint8_t hash[TOKEN_HASH_SIZE];
        struct token token = {};

        grant.pop_key.size = 0;
        grant.public_key = some_key(9);
        grant.kid_size = 16;
        memset(grant.kid, 'k', 16);
        grant.nbf_s = NOW_S + 7;
        grant.has_exi = true;
        grant.exi = 12;
        grant.cnonce_size = CNONCE_SIZE_MAX;
        memset(grant.cnonce, 'n', CNONCE_SIZE_MAX);
        grant.family = 99;
        grant.has_trl_hash = true;
        memset(grant.trl_hash, 't', sizeof(grant.trl_hash));
        assert_int_equal(add_token(&world, &grant, hash), 0);

        for (int by_exi = 0; by_exi < 2; by_exi++) {
                assert_int_equal(store_token_find(store, &place, hash, &token), 0);
                assert_int_equal(token.pop_key.size, 0);
                assert_true(public_key_equal(&token.public_key, &grant.public_key));
                assert_int_equal(token.kid_size, 16);
                assert_memory_equal(token.kid, grant.kid, 16);
                assert_true(token.nbf_s == NOW_S + 7 && token.exi == 12 && token.family == 99);
                assert_int_equal(token.cnonce_size, CNONCE_SIZE_MAX);
                assert_memory_equal(token.cnonce, grant.cnonce, CNONCE_SIZE_MAX);
                assert_true(token.has_trl_hash);
                assert_memory_equal(token.trl_hash, grant.trl_hash, sizeof(grant.trl_hash));
                place = (struct cwt_place){ .by_exi = true, .server_id = world.rs1.id, .exi = 12 };
        }
        place.exi = 13;
        assert_int_equal(store_token_find(store, &place, hash, &token), REFUSE_ADMIN_UNKNOWN);
        place.exi = 0; /* what tokens without have */
        assert_int_equal(store_token_find(store, &place, hash, &token), REFUSE_ADMIN_UNKNOWN);
        place = (struct cwt_place){ .by_exi = true, .server_id = world.rs1.id + 1, .exi = 12 };
        assert_int_equal(store_token_find(store, &place, hash, &token), REFUSE_ADMIN_UNKNOWN);
        place = (struct cwt_place){ .by_exi = true, .server_id = world.rs1.id, .exi = UINT64_MAX };
        assert_int_equal(store_token_find(store, &place, hash, &token), REFUSE_ADMIN_UNKNOWN);

        assert_int_equal(add_token(&world, &plain, hash), 0);
        place = (struct cwt_place){ .number = plain.number };
        assert_int_equal(store_token_find(store, &place, hash, &token), 0);
        assert_true(token.public_key.curve == CURVE_NONE && token.kid_size == 0 && token.cnonce_size == 0);
        assert_true(token.nbf_s == 0 && token.exi == 0 && token.family == 0 && !token.has_trl_hash);
        assert_int_equal(token.pop_key.size, 16);
        token_done(&token);
}

/* What a kid of req_cnf finds for c1 at rs1; as the kid of a COSE_Key, or not. */
static bool find_by_kid(struct world *world, uint64_t number, bool in_key, struct token_facts *facts) {
        uint8_t kid[NUMBER_SIZE_MAX];
        struct token_ask ask = { .audience = BYTES_LITERAL("rs1"), .cnf = ASK_CNF_KID, .kid_in_key = in_key,
                                 .kid = bytes_of(kid, number_to_bytes(number, kid)) };

        token_facts_done(facts);
        *facts = (struct token_facts){};
        assert_int_equal(store_token_facts(world->store, 0, world->c1.id, &ask, NOW_S, facts), 0);
        return facts->pop_key_found;
}

/* AS-122, AS-124: whose token names the material alone has it all the same, for the next one that does. */
static void test_material_is_kept(void **state) {
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        _cleanup_(token_facts_done) struct token_facts facts = {};
        struct grant grant = grant_of(&world, 0), update = grant_of(&world, 0), plain = grant_of(&world, 0);
        uint8_t hash[TOKEN_HASH_SIZE];
        struct token token = {};

        grant.profile = update.profile = PROFILE_COAP_OSCORE;
        grant.osc = update.osc = some_osc();
        update.key_number = grant.key_number;
        update.is_update = true;
        update.expires_s = grant.expires_s + 1;
        assert_int_equal(add_token(&world, &grant, hash), 0);
        assert_int_equal(store_token_find(store, &(struct cwt_place){ .number = grant.number }, hash, &token), 0);
        assert_memory_equal(&token.osc, &grant.osc, sizeof(token.osc));
        assert_false(token.names_osc);
        assert_int_equal(add_token(&world, &update, hash), 0);
        assert_int_equal(store_token_find(store, &(struct cwt_place){ .number = update.number }, hash, &token), 0);
        assert_memory_equal(&token.osc, &grant.osc, sizeof(token.osc));
        assert_true(token.names_osc);
        token_done(&token);

        assert_true(find_by_kid(&world, grant.key_number, false, &facts));
        assert_memory_equal(&facts.pop_osc, &grant.osc, sizeof(grant.osc));
        assert_true(bytes_equal(secret_bytes(&facts.pop_key), secret_bytes(&grant.pop_key)));
        assert_false(find_by_kid(&world, grant.key_number, true, &facts)); /* it is no COSE_Key */
        assert_false(find_by_kid(&world, update.number, false, &facts));   /* that is no key's number */

        assert_int_equal(add_token(&world, &plain, hash), 0);
        for (int in_key = 0; in_key < 2; in_key++) {
                assert_true(find_by_kid(&world, plain.key_number, in_key, &facts));
                assert_int_equal(facts.pop_osc.alg, AEAD_NONE);
        }
}

/* A column that somebody changed is no material of another kind. */
static void test_changed_material_is_broken(void **state) {
        static const char *const columns[] = {
                "x'01'", "x'00010073737373737373736363636363636363'", "x'06010073737373737373736363636363636363'",
                "x'01000073737373737373736363636363636363'", "x'01030073737373737373736363636363636363'",
                "x'0101007373737373737373636363636363636300'",
        };
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct grant grant = grant_of(&world, 0);
        uint8_t hash[TOKEN_HASH_SIZE];
        struct token token = {};

        grant.osc = some_osc();
        assert_int_equal(add_token(&world, &grant, hash), 0);
        for (size_t i = 0; i < N_ELEMENTS(columns); i++) {
                char sql[160];

                snprintf(sql, sizeof(sql), "UPDATE tokens SET osc = %s", columns[i]);
                assert_int_equal(sqlite3_exec(store->db, sql, NULL, NULL, NULL), SQLITE_OK);
                assert_int_equal(store_token_by_number(store, grant.number, &token), -EIO);
        }
}

/* A sequence number of a server is never another token's (AS-174). */
static void test_exi_is_unique(void **state) {
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct grant one = grant_of(&world, 0), two = grant_of(&world, 0);
        uint8_t hash[TOKEN_HASH_SIZE];

        one.has_exi = two.has_exi = true;
        one.exi = two.exi = 5;
        assert_int_equal(add_token(&world, &one, hash), 0);
        assert_true(add_token(&world, &two, hash) < 0);
}

static void test_group_tokens(void **state) {
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct grant grant = grant_of(&world, 0);
        struct token token = {};
        uint8_t hash[TOKEN_HASH_SIZE];
        bool is_for_it = true;

        grant.server_id = 0;
        memcpy(grant.audience, "all", 4);
        assert_int_equal(store_audience_add(store, world.rs1.id, BYTES_LITERAL("all"), true), 0);
        assert_int_equal(add_token(&world, &grant, hash), 0);
        assert_int_equal(store_token_by_number(store, grant.number, &token), 0);
        assert_int_equal(token.revoked_s, 0); /* that no server has the id 0 does not mean that it is gone */
        assert_int_equal(store_token_is_for(store, &token, world.rs1.id, &is_for_it), 0);
        assert_true(is_for_it);
        assert_int_equal(store_token_is_for(store, &token, world.rs1.id + 1, &is_for_it), 0);
        assert_false(is_for_it);
        assert_int_equal(store_client_delete(store, world.c1.id, NOW_S + 1), 0);
        assert_int_equal(store_token_by_number(store, grant.number, &token), 0);
        assert_int_equal(token.revoked_s, NOW_S + 1);
}

/* ---- public keys */

/* A public key of a party, as registered. */
static void add_rpk(struct world *world, int64_t client_id, int64_t server_id, const struct public_key *key,
                    struct bytes kid) {
        struct credential credential = { .kind = CREDENTIAL_RPK, .client_id = client_id, .server_id = server_id,
                                         .key = *key, .kid_size = kid.size };
        struct secret none = {};
        bool same;

        if (kid.size > 0)
                memcpy(credential.kid, kid.data, kid.size);
        assert_int_equal(store_credential_add(world->store, &credential, &none, &same), 0);
}

static struct public_key made_key(enum curve curve) {
        _cleanup_(secret_done) struct secret private_key = {};
        struct public_key key;

        assert_int_equal(key_generate(curve, &key, &private_key), 0);
        return key;
}

static void ask_key(struct world *world, const struct token_ask *ask, const uint8_t *channel_key,
                    struct token_facts *facts) {
        *facts = (struct token_facts){ .channel_key = channel_key };
        assert_int_equal(store_token_facts(world->store, 0, world->c1.id, ask, NOW_S, facts), 0);
        free(facts->policies);
        facts->policies = NULL;
}

/* AS-061, AS-080 */
static void test_keys_are_proven(void **state) {
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct public_key registered = made_key(CURVE_P256), shown = made_key(CURVE_ED25519),
                          of_c2 = made_key(CURVE_P256), of_rs1 = made_key(CURVE_P256);
        struct token_ask by_key = { .audience = BYTES_LITERAL("rs1"), .cnf = ASK_CNF_PUBLIC },
                         by_kid = { .audience = BYTES_LITERAL("rs1"), .cnf = ASK_CNF_KID };
        uint8_t thumbprint[THUMBPRINT_SIZE];
        struct token_facts facts;

        add_rpk(&world, world.c1.id, 0, &registered, BYTES_LITERAL("k1"));
        add_rpk(&world, world.c2.id, 0, &of_c2, BYTES_LITERAL("k2"));
        add_rpk(&world, 0, world.rs1.id, &of_rs1, BYTES_NONE);
        assert_int_equal(public_key_thumbprint(&shown, thumbprint), 0);

        by_key.public_key = registered;
        by_key.kid = BYTES_LITERAL("mine");
        ask_key(&world, &by_key, NULL, &facts);
        assert_true(facts.public_key_proven && public_key_equal(&facts.public_key, &registered));
        assert_true(bytes_equal(bytes_of(facts.kid, facts.kid_size), BYTES_LITERAL("mine")));
        assert_true(facts.server_has_key && public_key_equal(&facts.server_key, &of_rs1));

        by_key.public_key = shown;
        ask_key(&world, &by_key, thumbprint, &facts);
        assert_true(facts.public_key_proven);
        ask_key(&world, &by_key, NULL, &facts);
        assert_false(facts.public_key_proven);
        by_key.public_key = of_c2;
        ask_key(&world, &by_key, thumbprint, &facts);
        assert_false(facts.public_key_proven);

        by_kid.kid = BYTES_LITERAL("k1");
        ask_key(&world, &by_kid, NULL, &facts);
        assert_true(facts.public_key_proven && public_key_equal(&facts.public_key, &registered));
        for (size_t i = 0; i < 4; i++) {
                static const struct bytes nobodys[] = { BYTES_LITERAL("k2"), BYTES_LITERAL(""), BYTES_LITERAL("k"),
                                                        BYTES_LITERAL("0123456789abcdefg") };

                by_kid.kid = nobodys[i];
                ask_key(&world, &by_kid, thumbprint, &facts);
                assert_false(facts.public_key_proven || facts.pop_key_found);
                assert_int_equal(facts.public_key.curve, CURVE_NONE);
        }
}

/* What a client called its key in a token that lives; the last one counts. */
static void test_kid_of_a_token(void **state) {
        struct world world = open_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct public_key older = made_key(CURVE_P256), newer = made_key(CURVE_P256);
        struct token_ask ask = { .audience = BYTES_LITERAL("rs1"), .cnf = ASK_CNF_KID, .kid = BYTES_LITERAL("me") };
        uint8_t hash[TOKEN_HASH_SIZE], thumbprint[THUMBPRINT_SIZE];
        struct grant grants[2] = { grant_of(&world, 0), grant_of(&world, 0) };
        struct token_facts facts;

        assert_int_equal(public_key_thumbprint(&older, thumbprint), 0);
        for (size_t i = 0; i < 2; i++) {
                grants[i].pop_key.size = 0;
                grants[i].public_key = i == 0 ? older : newer;
                grants[i].kid_size = 2;
                memcpy(grants[i].kid, "me", 2);
                assert_int_equal(add_token(&world, &grants[i], hash), 0);
        }
        ask_key(&world, &ask, thumbprint, &facts);
        assert_true(public_key_equal(&facts.public_key, &newer));
        assert_false(facts.public_key_proven); /* the channel shows the older one */
        assert_int_equal(store_token_revoke(store, grants[1].number, NOW_S), 0);
        ask_key(&world, &ask, thumbprint, &facts);
        assert_true(public_key_equal(&facts.public_key, &older));
        assert_true(facts.public_key_proven);
        facts = (struct token_facts){ .channel_key = thumbprint };
        assert_int_equal(store_token_facts(store, 0, world.c1.id, &ask, NOW_S + 60, &facts), 0); /* expired */
        assert_int_equal(facts.public_key.curve, CURVE_NONE);
        token_facts_done(&facts);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_kept),
                cmocka_unit_test(test_found_by_all_bytes),
                cmocka_unit_test(test_used_once),
                cmocka_unit_test(test_facts),
                cmocka_unit_test(test_family_revoked),
                cmocka_unit_test(test_used_ones_are_forgotten),
                cmocka_unit_test(test_counted),
                cmocka_unit_test(test_purged),
                cmocka_unit_test(test_rare_members_are_kept),
                cmocka_unit_test(test_material_is_kept),
                cmocka_unit_test(test_changed_material_is_broken),
                cmocka_unit_test(test_exi_is_unique),
                cmocka_unit_test(test_group_tokens),
                cmocka_unit_test(test_keys_are_proven),
                cmocka_unit_test(test_kid_of_a_token),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
