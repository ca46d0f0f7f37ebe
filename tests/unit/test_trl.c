#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "endpoint/housekeeping.h"
#include "format/cbor.h"
#include "format/cwt.h"
#include "format/trl.h"
#include "store/clients.h"
#include "store/credentials.h"
#include "store/servers.h"
#include "store/tokens.h"
#include "store/trl.h"
#include "support/edn.h"
#include "support/fake.h"
#include "support/vectors.h"
#include "support/world.h"

#define LIFETIME_S 3600
#define TEXT_SIZE 4096

static void world_donep(struct world *world) {
        world_done(world);
}

/* A new store with C1, rs1 and the policy between them; a transaction is open. */
static void begin(struct world *world) {
        world_init(world);
        assert_int_equal(world_open(world, NULL), 0);
        world_fill(world);
        assert_int_equal(store_begin(world->store), 0);
}

static int64_t client_id(struct world *world, const char *name) {
        struct client client;

        assert_int_equal(store_client_by_name(world->store, bytes_text(name), &client), 0);
        return client.id;
}

static int64_t server_id(struct world *world, const char *name) {
        struct server server;

        assert_int_equal(store_server_by_name(world->store, bytes_text(name), &server), 0);
        return server.id;
}

static int64_t add_client(struct world *world, const char *name, const char *label) {
        struct client client = { .profiles = PROFILE_BIT(1), .created_s = WORLD_NOW_S };
        struct bytes labels[] = { bytes_text(label ?: "") };

        snprintf(client.name, sizeof(client.name), "%s", name);
        assert_int_equal(store_client_add(world->store, &client), 0);
        assert_int_equal(store_client_labels_set(world->store, client.id, labels, label ? 1 : 0), 0);
        return client.id;
}

static int64_t add_server(struct world *world, const char *name, const char *group) {
        struct server server = { .profiles = PROFILE_BIT(1), .token_format = TOKEN_FORMAT_ENCRYPT0,
                                 .token_alg = AEAD_AES_CCM_16_64_128, .sign_alg = SIGN_ES256, .pop_keys = 1,
                                 .has_clock = true, .has_trl = true };

        snprintf(server.name, sizeof(server.name), "%s", name);
        assert_int_equal(store_server_add(world->store, &server), 0);
        assert_int_equal(store_audience_add(world->store, server.id, bytes_text(name), false), 0);
        if (group)
                assert_int_equal(store_audience_add(world->store, server.id, bytes_text(group), true), 0);
        return server.id;
}

/* A session of somebody who has only a credential yet. */
static struct peer meet(struct world *world, int64_t client, int64_t server, const char *identity) {
        struct credential credential = { .kind = CREDENTIAL_PSK, .client_id = client, .server_id = server };
        struct secret secret = { .size = 16 };
        bool same;

        credential.identity_size = strlen(identity);
        memcpy(credential.identity, identity, credential.identity_size);
        memcpy(secret.data, identity, strlen(identity));
        assert_int_equal(store_credential_add(world->store, &credential, &secret, &same), 0);
        return (struct peer){ .channel = CHANNEL_DTLS, .credential_id = credential.id, .name = "127.0.0.1:4" };
}

/* Hashes of tests have the token's number in them. */
static void hash_of(uint64_t number, uint8_t ret[static TRL_HASH_SIZE]) {
        memset(ret, 0, TRL_HASH_SIZE);
        ret[0] = 1;
        memcpy(ret + 1, &number, sizeof(number));
}

/* server 0: for the audience "group". family: 0 none */
static uint64_t add_token(struct world *world, int64_t client, int64_t server, int64_t lifetime_s, bool listed) {
        struct grant grant = { .client_id = client, .server_id = server, .scope = { .kind = SCOPE_TEXT, .size = 4,
                               .data = "read" }, .profile = 1, .issued_s = WORLD_NOW_S,
                               .expires_s = WORLD_NOW_S + lifetime_s, .pop_key = { .size = 16, .data = "0123" },
                               .has_trl_hash = listed };
        uint8_t hash[TOKEN_HASH_SIZE] = { 2 };

        snprintf(grant.audience, sizeof(grant.audience), "%s", server != 0 ? "rs1" : "group");
        assert_int_equal(store_number(world->store, NUMBER_TOKEN, &grant.number), 0);
        grant.key_number = grant.number;
        hash_of(grant.number, grant.trl_hash);
        assert_int_equal(store_token_add(world->store, &grant, hash), 0);
        return grant.number;
}

static void revoke_one(struct world *world, uint64_t number) {
        assert_int_equal(store_token_revoke(world->store, number, WORLD_NOW_S), 0);
}

/* One that is revoked at once: an update. */
static uint64_t update(struct world *world) {
        uint64_t number = add_token(world, client_id(world, "C1"), server_id(world, "rs1"), LIFETIME_S, true);

        revoke_one(world, number);
        return number;
}

/* ---- answers as text: "full 1 2 cursor=0", "diff [-1 +2] [+1] cursor=1 more" */

static void put(char *text, const char *format, ...) {
        size_t n = strlen(text);
        va_list args;

        va_start(args, format);
        vsnprintf(text + n, TEXT_SIZE - n, format, args);
        va_end(args);
}

static void put_hashes(char *text, const char *before, struct bytes raw) {
        static struct cbor_item items[2000];
        size_t n;

        assert_int_equal(cbor_array(raw, items, N_ELEMENTS(items), &n), 0);
        for (size_t i = 0; i < n; i++) {
                uint64_t number;

                assert_int_equal(items[i].content.size, TRL_HASH_SIZE);
                memcpy(&number, items[i].content.data + 1, sizeof(number));
                put(text, "%s%llu", before, (unsigned long long)number);
        }
}

struct answer {
        struct cbor_item full, diff, cursor, more;
};

static const struct cbor_field answer_fields[] = {
        { 0, CBOR_ARRAY, offsetof(struct answer, full) },
        { 1, CBOR_ARRAY, offsetof(struct answer, diff) },
        { 2, CBOR_UINT | CBOR_NULL, offsetof(struct answer, cursor) },
        { 3, CBOR_BOOL, offsetof(struct answer, more) },
};

static void render(struct bytes payload, char text[static TEXT_SIZE]) {
        struct cbor_item items[TRL_UPDATES_MAX + 1], pair[2];
        struct answer answer;
        size_t n, n_pair;

        text[0] = '\0';
        assert_int_equal(cbor_map(payload, answer_fields, N_ELEMENTS(answer_fields), &answer), 0);
        if (answer.full.kind != CBOR_ABSENT) {
                put(text, "full");
                put_hashes(text, " ", answer.full.raw);
        } else {
                put(text, "diff");
                assert_int_equal(cbor_array(answer.diff.raw, items, N_ELEMENTS(items), &n), 0);
                for (size_t i = 0; i < n; i++) {
                        assert_int_equal(cbor_array(items[i].raw, pair, 2, &n_pair), 0);
                        put(text, " [");
                        put_hashes(text, "-", pair[0].raw);
                        put_hashes(text, "+", pair[1].raw);
                        put(text, "]");
                }
        }
        if (answer.cursor.kind == CBOR_UINT)
                put(text, " cursor=%llu", (unsigned long long)answer.cursor.argument);
        else
                put(text, answer.cursor.kind == CBOR_NULL ? " cursor=null" : "");
        put(text, answer.more.kind == CBOR_BOOL && answer.more.argument ? " more" : "");
}

/* Commits what was done before. */
static void expect(struct world *world, const struct peer *peer, const char *target, const char *expected) {
        char text[TEXT_SIZE];
        struct call call;

        if (store_in_transaction(world->store))
                assert_int_equal(store_commit(world->store), 0);
        call_set(&call, peer, METHOD_GET, target, NULL);
        world_run(world, &call, 1);
        if (call.work.response.code == CODE_CONTENT) {
                assert_int_equal(call.work.response.content_format, CF_ACE_TRL);
                render(buf_bytes(&call.work.response.payload), text);
        } else {
                snprintf(text, sizeof(text), "%d.%02d", call.work.response.code >> 5, call.work.response.code & 31);
                if (call.work.response.content_format == CF_PROBLEM) {
                        put(text, " ");
                        bytes_to_hex(buf_bytes(&call.work.response.payload), text + strlen(text), 100);
                }
        }
        if (strcmp(text, expected) != 0)
                fail_msg("%s: %s, not %s", target, text, expected);
        call_done(&call);
        assert_int_equal(store_begin(world->store), 0);
}

/* ---- queries */

/* RFC 9770 §8, §9: with MAX_N 4 and MAX_DIFF_BATCH 2, tokens 1… are revoked one by one: update n adds token n + 1. */
static void test_windows(void **state) {
        static const struct {
                unsigned n_updates;
                const char *query, *expected;
        } cases[] = {
                { 0, "", "full cursor=null" },
                { 0, "?diff=0", "diff cursor=null" },
                { 0, "?diff=3&cursor=7", "diff cursor=null" }, /* §9.2.1: whatever the cursor says */
                { 1, "", "full 1 cursor=0" },
                { 1, "?diff=0", "diff [+1] cursor=0" },
                { 1, "?diff=1&cursor=0", "diff cursor=0" },
                { 2, "?diff=0", "diff [+2] [+1] cursor=1" },
                { 2, "?diff=1", "diff [+2] cursor=1" },
                { 3, "?diff=2", "diff [+3] [+2] cursor=2" },
                { 3, "?diff=0", "diff [+2] [+1] cursor=1 more" }, /* the eldest of the three newest */
                { 3, "?diff=0&cursor=1", "diff [+3] cursor=2" },
                { 3, "?diff=0&cursor=2", "diff cursor=2" },
                { 3, "?cursor=0&diff=3", "diff [+3] [+2] cursor=2" },
                { 4, "?diff=3&cursor=0", "diff [+3] [+2] cursor=2 more" },
                { 4, "?diff=1&cursor=0", "diff [+4] cursor=3" }, /* §9.2.3 has it so: min(NUM, …) */
                { 4, "?diff=4", "diff [+2] [+1] cursor=1 more" },
                { 4, "?diff=5", "diff [+2] [+1] cursor=1 more" },
                { 4, "?diff=99999999999999999999999", "diff [+2] [+1] cursor=1 more" },
                { 5, "", "full 1 2 3 4 5 cursor=4" },
                { 5, "?diff=0", "diff [+3] [+2] cursor=2 more" }, /* item 0 is not told any more */
                { 5, "?diff=0&cursor=0", "diff [+3] [+2] cursor=2 more" }, /* but the one behind it is */
                { 6, "?diff=0&cursor=0", "diff cursor=null more" }, /* §9.2.3, case A: lost */
                { 6, "?diff=0&cursor=1", "diff [+4] [+3] cursor=3 more" },
                { 6, "?diff=0&cursor=5", "diff cursor=5" },
                { 6, "?x=1&diff=1&pmax=3&y", "diff [+6] cursor=5" }, /* §6.1: others are ignored */
                { 6, "?x=1", "full 1 2 3 4 5 6 cursor=5" },

                { 0, "?diff=", "4.00 a101a10000" },
                { 0, "?diff=-1", "4.00 a101a10000" },
                { 0, "?diff=1x", "4.00 a101a10000" },
                { 3, "?diff=x&cursor=9", "4.00 a101a10000" },
                { 3, "?cursor=1", "4.00 a101a10001" },
                { 3, "?cursor=x", "4.00 a101a10001" },
                { 0, "?diff=1&cursor=x", "4.00 a101a2000001f6" },
                { 3, "?diff=1&cursor=x", "4.00 a101a200000102" },
                { 3, "?diff=1&cursor=", "4.00 a101a200000102" },
                { 3, "?diff=1&cursor=9223372036854775808", "4.00 a101a200000102" }, /* over MAX_INDEX */
                { 3, "?diff=1&cursor=9223372036854775807", "4.00 a101a200020102" },
                { 3, "?diff=1&cursor=3", "4.00 a101a200020102" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(world_donep) struct world world;
                char target[100];

                begin(&world);
                world.config->trl_updates_max = 4;
                world.config->trl_batch_max = 2;
                for (unsigned n = 0; n < cases[i].n_updates; n++)
                        assert_int_equal(update(&world), n + 1);
                snprintf(target, sizeof(target), "/revoke/trl%s", cases[i].query);
                expect(&world, &world.client, target, cases[i].expected);
                expect(&world, &world.server, target, cases[i].expected);
        }
}

/* A batch over MAX_N counts as MAX_N. */
static void test_batch_over_updates(void **state) {
        _cleanup_(world_donep) struct world world;

        begin(&world);
        world.config->trl_updates_max = 2;
        world.config->trl_batch_max = 64;
        for (int i = 0; i < 3; i++)
                (void)update(&world);
        expect(&world, &world.client, "/revoke/trl?diff=0", "diff [+3] [+2] cursor=2");
}

static void test_vectors(void **state) {
        json_t *all = vectors_load("ace-examples"), *list = json_object_get(all, "vectors");
        _cleanup_(buf_done) struct buf token = vectors_bytes(vectors_find(list, "trl-tagged-token"), "hex");
        _cleanup_(buf_done) struct buf named = vectors_bytes(vectors_find(list, "trl-token-hash"), "hex");
        _cleanup_(buf_done) struct buf empty = vectors_bytes(vectors_find(list, "trl-full-empty"), "hex");
        _cleanup_(buf_done) struct buf refused = vectors_bytes(vectors_find(list, "trl-error-diff"), "hex");
        _cleanup_(buf_done) struct buf out = BUF_INIT(100);
        uint8_t hash[TRL_HASH_SIZE];

        assert_int_equal(cwt_trl_hash(buf_bytes(&token), hash), 0);
        assert_true(bytes_equal(bytes_of(named.data + 2, named.size - 2), bytes_of(hash, sizeof(hash))));

        assert_int_equal(trl_error_encode(TRL_ERROR_VALUE, CURSOR_NONE, &out), 0);
        assert_true(bytes_equal(buf_bytes(&out), buf_bytes(&refused)));

        /* that one is of a server without cursors; ours says beside that there is none: 2: null */
        buf_clear(&out);
        assert_int_equal(trl_full_encode(BYTES_NONE, CURSOR_NULL, &out), 0);
        assert_int_equal(out.size, empty.size + 2);
        assert_memory_equal(out.data + 1, empty.data + 1, empty.size - 1);
        json_decref(all);
}

/* ---- parties */

static void test_parties(void **state) {
        _cleanup_(world_donep) struct world world;
        struct peer c2, rs2, rs3, monitor, stranger = { .channel = CHANNEL_DTLS, .credential_id = 999 },
                    plain = { .channel = CHANNEL_PLAIN };
        int64_t c2_id, rs2_id, rs3_id;
        uint64_t n[5];

        begin(&world);
        world.config->trl_label = (free(world.config->trl_label), strdup("monitor"));
        c2_id = add_client(&world, "C2", "valves");
        rs2_id = add_server(&world, "rs2", "group");
        rs3_id = add_server(&world, "rs3", "group");
        c2 = meet(&world, c2_id, 0, "C2");
        rs2 = meet(&world, 0, rs2_id, "rs2");
        rs3 = meet(&world, 0, rs3_id, "rs3");
        monitor = meet(&world, add_client(&world, "C3", "monitor"), 0, "C3");
        n[0] = add_token(&world, client_id(&world, "C1"), server_id(&world, "rs1"), LIFETIME_S, true);
        n[1] = add_token(&world, c2_id, rs2_id, LIFETIME_S, true);
        n[2] = add_token(&world, c2_id, 0, LIFETIME_S, true);                              /* for both of the group */
        n[3] = add_token(&world, c2_id, server_id(&world, "rs1"), LIFETIME_S, false);      /* a server without a list */
        n[4] = add_token(&world, c2_id, rs3_id, -1, true);                                 /* expired */
        for (size_t i = 0; i < N_ELEMENTS(n); i++)
                revoke_one(&world, n[i]);

        expect(&world, &world.client, "/revoke/trl", "full 1 cursor=0");
        expect(&world, &world.server, "/revoke/trl", "full 1 cursor=0");
        expect(&world, &c2, "/revoke/trl", "full 2 3 cursor=1");
        expect(&world, &rs2, "/revoke/trl", "full 2 3 cursor=1");
        expect(&world, &rs3, "/revoke/trl", "full 3 cursor=0");
        expect(&world, &rs3, "/revoke/trl?diff=0", "diff [+3] cursor=0");
        expect(&world, &monitor, "/revoke/trl", "full 1 2 3 cursor=2");
        expect(&world, &monitor, "/revoke/trl?diff=2", "diff [+3] [+2] cursor=2");
        expect(&world, &stranger, "/revoke/trl", "4.01");
        expect(&world, &plain, "/revoke/trl", "4.01");

        world.config->trl_label[0] = '\0';
        expect(&world, &monitor, "/revoke/trl", "full cursor=null");
}

static void suspend(struct world *world) {
        struct client client;
        struct server server;

        assert_int_equal(store_client_by_name(world->store, BYTES_LITERAL("C1"), &client), 0);
        client.suspended = true;
        assert_int_equal(store_client_update(world->store, &client), 0);
        assert_int_equal(store_server_by_name(world->store, BYTES_LITERAL("rs1"), &server), 0);
        server.suspended = true;
        assert_int_equal(store_server_update(world->store, &server), 0);
}

static void test_suspended(void **state) {
        _cleanup_(world_donep) struct world world;

        begin(&world);
        suspend(&world);
        expect(&world, &world.client, "/revoke/trl", "4.01");
        expect(&world, &world.server, "/revoke/trl", "4.01");
}

/* ---- who is told */

struct touched {
        int64_t ids[100];
        size_t n;
};

static void on_touch(void *context, int64_t id) {
        struct touched *touched = context;

        assert_true(touched->n < N_ELEMENTS(touched->ids));
        touched->ids[touched->n++] = id;
}

static void expect_touched(struct touched *touched, const int64_t *ids, size_t n) {
        assert_int_equal(touched->n, n);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(touched->ids[i], ids[i]);
        touched->n = 0;
}

static void test_touch(void **state) {
        _cleanup_(world_donep) struct world world;
        struct touched touched = {};
        int64_t c1, rs1, rs2, rs3;
        uint64_t number, group;

        begin(&world);
        store_trl_listen(world.store, on_touch, &touched);
        rs1 = server_id(&world, "rs1"), c1 = client_id(&world, "C1");
        rs2 = add_server(&world, "rs2", "group");
        rs3 = add_server(&world, "rs3", "group");
        number = add_token(&world, c1, rs1, LIFETIME_S, true);
        group = add_token(&world, c1, 0, LIFETIME_S, true);
        revoke_one(&world, add_token(&world, c1, rs1, LIFETIME_S, false));
        expect_touched(&touched, NULL, 0);
        revoke_one(&world, number);
        expect_touched(&touched, (int64_t[]){ PARTY_ALL, rs1 < c1 ? rs1 : c1, rs1 < c1 ? c1 : rs1 }, 3);
        revoke_one(&world, number); /* again */
        expect_touched(&touched, NULL, 0);
        revoke_one(&world, group);
        expect_touched(&touched, (int64_t[]){ PARTY_ALL, c1, rs2, rs3 }, 4);
        store_trl_listen(world.store, NULL, NULL);
        (void)update(&world);
        expect_touched(&touched, NULL, 0);
}

/* ---- time */

static void care(struct world *world, int64_t after_s) {
        struct housekeeping housekeeping;
        bool again = true;

        if (store_in_transaction(world->store))
                assert_int_equal(store_commit(world->store), 0);
        assert_int_equal(housekeeping_init(&housekeeping, &world->as, WORLD_NOW_S + after_s, 1), 0);
        while (again)
                assert_int_equal(housekeeping_step(&housekeeping, &world->as, WORLD_NOW_S + after_s, 1, &again), 0);
        assert_int_equal(store_begin(world->store), 0);
}

static void test_expiry(void **state) {
        _cleanup_(world_donep) struct world world;
        int64_t c1, rs1;

        begin(&world);
        c1 = client_id(&world, "C1"), rs1 = server_id(&world, "rs1");
        revoke_one(&world, add_token(&world, c1, rs1, 10, true));
        revoke_one(&world, add_token(&world, c1, rs1, 20, true));
        revoke_one(&world, add_token(&world, c1, rs1, 20, true));
        care(&world, 9);
        expect(&world, &world.server, "/revoke/trl", "full 1 2 3 cursor=2");
        care(&world, 10); /* RFC 9770 §5: an update of its own */
        expect(&world, &world.server, "/revoke/trl", "full 2 3 cursor=3");
        expect(&world, &world.server, "/revoke/trl?diff=2", "diff [-1] [+3] cursor=3");
        care(&world, 1000); /* several at once: one update */
        expect(&world, &world.server, "/revoke/trl", "full cursor=4");
        expect(&world, &world.server, "/revoke/trl?diff=1", "diff [-2-3] cursor=4");
        care(&world, 2000);
        expect(&world, &world.client, "/revoke/trl?diff=1", "diff [-2-3] cursor=4");
}

static void test_prune(void **state) {
        _cleanup_(world_donep) struct world world;
        int64_t first, last;

        begin(&world);
        for (int i = 0; i < TRL_UPDATES_MAX + 12; i++)
                (void)update(&world);
        assert_int_equal(store_trl_items(world.store, client_id(&world, "C1"), &first, &last), 0);
        assert_int_equal(first, 12);
        assert_int_equal(last, TRL_UPDATES_MAX + 11);
        assert_int_equal(store_trl_items(world.store, PARTY_ALL, &first, &last), 0);
        assert_int_equal(first, 12);
        assert_int_equal(store_trl_items(world.store, 999, &first, &last), REFUSE_ADMIN_UNKNOWN);
}

static void test_restart(void **state) {
        _cleanup_(world_donep) struct world world;
        char directory[] = "/tmp/aced-test-trl-XXXXXX", path[64];

        assert_non_null(mkdtemp(directory));
        snprintf(path, sizeof(path), "%s/aced.db", directory);
        world_init(&world);
        assert_int_equal(world_open(&world, path), 0);
        world_fill(&world);
        assert_int_equal(store_begin(world.store), 0);
        (void)update(&world);
        (void)update(&world);
        assert_int_equal(store_commit(world.store), 0);
        assert_int_equal(store_begin(world.store), 0);
        (void)update(&world); /* not committed: it has never been */
        world_close(&world);

        assert_int_equal(world_open(&world, path), 0);
        expect(&world, &world.client, "/revoke/trl?diff=0", "diff [+2] [+1] cursor=1");
        (void)update(&world);
        expect(&world, &world.client, "/revoke/trl?diff=1", "diff [+4] cursor=2");
        world_close(&world);
        unlink(path);
        rmdir(directory);
}

/* ---- who is gone */

static void expect_items(struct world *world, int64_t party, int64_t expected_last) {
        int64_t first, last;
        int r = store_trl_items(world->store, party, &first, &last);

        assert_int_equal(r, expected_last < 0 ? REFUSE_ADMIN_UNKNOWN : 0);
        if (r == 0)
                assert_int_equal(last, expected_last);
}

static void test_client_deleted(void **state) {
        _cleanup_(world_donep) struct world world;
        int64_t c1, rs1;

        begin(&world);
        c1 = client_id(&world, "C1"), rs1 = server_id(&world, "rs1");
        (void)add_token(&world, c1, rs1, LIFETIME_S, true);
        (void)add_token(&world, c1, rs1, LIFETIME_S, false);
        (void)add_token(&world, c1, rs1, -1, true);
        (void)add_token(&world, c1, rs1, LIFETIME_S, true);
        (void)update(&world);
        assert_int_equal(store_client_delete(world.store, c1, WORLD_NOW_S), 0);
        expect_items(&world, c1, -1);
        expect(&world, &world.client, "/revoke/trl", "4.01");
        expect(&world, &world.server, "/revoke/trl", "full 1 4 5 cursor=1");
        expect(&world, &world.server, "/revoke/trl?diff=1", "diff [+1+4] cursor=1");
        care(&world, LIFETIME_S); /* and nothing is begun anew for who is gone */
        expect(&world, &world.server, "/revoke/trl?diff=1", "diff [-1-4-5] cursor=2");
        expect_items(&world, c1, -1);
}

/* More tokens than one step looks at: the rest follows, and none comes twice. */
static void test_server_deleted(void **state) {
        _cleanup_(world_donep) struct world world;
        enum { N_TOKENS = 2 * TRL_STEP_MAX + 100 };
        int64_t c1, rs1, n = 0;

        begin(&world);
        c1 = client_id(&world, "C1"), rs1 = server_id(&world, "rs1");
        for (int i = 0; i < N_TOKENS; i++)
                (void)add_token(&world, c1, rs1, LIFETIME_S, true);
        revoke_one(&world, 7);
        assert_int_equal(store_server_delete(world.store, rs1, WORLD_NOW_S), 0);
        assert_int_equal(store_trl_count(world.store, c1, N_TOKENS + 1, &n), 0);
        assert_int_equal(n, TRL_STEP_MAX);
        care(&world, 1);
        assert_int_equal(store_trl_count(world.store, c1, N_TOKENS + 1, &n), 0);
        assert_int_equal(n, N_TOKENS);
        expect_items(&world, c1, 3); /* one before, one with the deletion, two behind it */
        expect_items(&world, rs1, -1);
        care(&world, 2);
        expect_items(&world, c1, 3);
        care(&world, LIFETIME_S);
        assert_int_equal(store_trl_count(world.store, c1, N_TOKENS + 1, &n), 0);
        assert_int_equal(n, 0);
}

/* ---- by the operator */

static int64_t walk(struct world *world, const struct revocation *what, unsigned *ret_steps) {
        struct revocation_place place = {};
        bool again = true;
        int64_t n = 0;

        for (*ret_steps = 0; again; ++*ret_steps) {
                int64_t before = n;

                assert_int_equal(store_revoke_step(world->store, what, WORLD_NOW_S, &place, &n, &again), 0);
                assert_true(n - before <= TRL_STEP_MAX);
                assert_true(*ret_steps < 100);
        }
        return n;
}

static void test_revoke_many(void **state) {
        _cleanup_(world_donep) struct world world;
        int64_t c1, rs1, rs2, labelled[40], n;
        unsigned n_steps;

        begin(&world);
        c1 = client_id(&world, "C1"), rs1 = server_id(&world, "rs1"), rs2 = add_server(&world, "rs2", NULL);
        for (size_t i = 0; i < N_ELEMENTS(labelled); i++) {
                char name[16];

                snprintf(name, sizeof(name), "L%zu", i);
                labelled[i] = add_client(&world, name, "valves");
                for (size_t k = 0; k < 2 * i; k++)
                        (void)add_token(&world, labelled[i], k % 2 ? rs1 : rs2, LIFETIME_S, true);
        }
        for (int i = 0; i < 1500; i++)
                (void)add_token(&world, c1, rs1, i < 500 ? -1 : LIFETIME_S, true);

        n = walk(&world, &(struct revocation){ .server_id = rs2 }, &n_steps);
        assert_int_equal(n, 780); /* 0 + 1 + … + 39 */
        assert_int_equal(n_steps, 780 / TRL_STEP_MAX + 2); /* the last one for refresh tokens */
        n = walk(&world, &(struct revocation){ .label = BYTES_LITERAL("valves") }, &n_steps);
        assert_int_equal(n, 780); /* the others of each */
        assert_in_range(n_steps, 1600 / TRL_STEP_MAX + 2, 1600 / TRL_STEP_MAX + 4); /* 1560 tokens, 40 clients and more */
        assert_int_equal(walk(&world, &(struct revocation){ .label = BYTES_LITERAL("valves") }, &n_steps), 0);
        n = walk(&world, &(struct revocation){ .client_id = c1 }, &n_steps);
        assert_int_equal(n, 1000); /* but those that have expired */
        assert_int_equal(n_steps, 1500 / TRL_STEP_MAX + 2);
        assert_int_equal(walk(&world, &(struct revocation){ .label = BYTES_LITERAL("nobody") }, &n_steps), 0);
        assert_int_equal(n_steps, 2);
        expect_items(&world, rs2, 780 / TRL_STEP_MAX); /* a step is one update */
        expect_items(&world, c1, 1000 / TRL_STEP_MAX - 1);
        assert_int_equal(store_trl_count(world.store, labelled[39], 1000, &n), 0);
        assert_int_equal(n, 78);
}

/* What a client has more than a step takes is gone on with at the right place, also in the midst of a label. */
static void test_revoke_resumes(void **state) {
        _cleanup_(world_donep) struct world world;
        int64_t big, rs1, small;
        unsigned n_steps;

        begin(&world);
        rs1 = server_id(&world, "rs1");
        big = add_client(&world, "big", "valves");
        small = add_client(&world, "small", "valves");
        for (int i = 0; i < 2500; i++)
                (void)add_token(&world, big, rs1, LIFETIME_S, true);
        (void)add_token(&world, small, rs1, LIFETIME_S, true);
        assert_int_equal(walk(&world, &(struct revocation){ .label = BYTES_LITERAL("valves") }, &n_steps), 2501);
        assert_in_range(n_steps, 2501 / TRL_STEP_MAX + 2, 2501 / TRL_STEP_MAX + 4);
}

/* ---- POST /revoke */

static void test_revoke_has_room(void **state) {
        _cleanup_(world_donep) struct world world;
        struct call call;
        struct server server;

        begin(&world);
        assert_int_equal(store_server_by_name(world.store, BYTES_LITERAL("rs1"), &server), 0);
        server.has_trl = server.token_tagged = true;
        assert_int_equal(store_server_update(world.store, &server), 0);
        assert_int_equal(store_commit(world.store), 0);
        world.config->tokens_per_client_max = 3;
        for (int i = 0; i < 4; i++) {
                struct call ask;

                call_set(&ask, &world.client, METHOD_POST, "/token", "{5: \"rs1\"}");
                world_run(&world, &ask, 1);
                assert_int_equal(ask.work.response.code, CODE_CREATED);
                call_introspect(&call, &world.client, answer_token(&ask));
                call.work.request.segments[0] = BYTES_LITERAL("revoke");
                world_run(&world, &call, 1);
                assert_int_equal(call.work.response.refusal, i < 3 ? 0 : REFUSE_OVERLOAD);
                assert_int_equal(call.work.response.code, i < 3 ? CODE_CHANGED : CODE_TOO_MANY_REQUESTS);
                assert_int_equal(call.work.response.payload.size, 0);
                call_done(&call);
                call_introspect(&call, &world.server, answer_token(&ask)); /* AS-198: then it stays good */
                world_run(&world, &call, 1);
                assert_int_equal(answer_is_active(&call), i == 3);
                call_done(&call);
                call_done(&ask);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_windows),
                cmocka_unit_test(test_batch_over_updates),
                cmocka_unit_test(test_vectors),
                cmocka_unit_test(test_parties),
                cmocka_unit_test(test_suspended),
                cmocka_unit_test(test_touch),
                cmocka_unit_test(test_expiry),
                cmocka_unit_test(test_prune),
                cmocka_unit_test(test_restart),
                cmocka_unit_test(test_client_deleted),
                cmocka_unit_test(test_server_deleted),
                cmocka_unit_test(test_revoke_many),
                cmocka_unit_test(test_revoke_resumes),
                cmocka_unit_test(test_revoke_has_room),
        };

        fake_clock_set(WORLD_NOW_S, 1);
        fake_random_seed(1);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
