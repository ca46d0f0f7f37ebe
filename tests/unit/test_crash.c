/*
 * The disk loses power or breaks, or memory runs out, at the n-th operation, for n = 1, 2, … until none is hit: what was
 * acknowledged is there entirely, nothing is there by halves, no number comes twice, and service goes on.
 */
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "domain/token.h"
#include "format/cbor.h"
#include "format/coap.h"
#include "store/private.h"
#include "support/dtls_client.h"
#include "support/sqlite_memory.h"
#include "support/vfs_shim.h"
#include "support/world.h"
#include "transport/engine.h"

#define BATCHES 6
#define CALLS 6     /* of a batch: client, token, token, security context, revocation, client before last removed */
#define TOKENS (2 * BATCHES)
#define TOKEN_MAX 512
#define LOG_PAGES_TEST 12 /* the log is brought in often, so that every part of that is hit */

/* ---- a story, and what is known of how it went */

enum known { NO, MAYBE, YES };

struct token_known {
        uint8_t bytes[TOKEN_MAX];
        size_t size;
        enum known is_there, is_revoked;
};

struct story {
        struct token_known tokens[TOKENS];
        enum known client_there[BATCHES], client_gone[BATCHES], context_there[BATCHES];
        unsigned n_broken;
};

static char path[128];

/*
 * One allocation fails: that which brings this to 0, counted while requests run. Those of our objects come here by the
 * linker's --wrap, those of SQLite and jansson by their own hooks.
 */
static unsigned fail_allocation;
static bool counting;

static int on_commit(void *context, sqlite3 *db, const char *name, int n_pages) {
        if (n_pages >= LOG_PAGES_TEST)
                (void)sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        return SQLITE_OK;
}

static int open_world(struct world *world) {
        int r = world_open(world, path);

        if (r == 0)
                (void)sqlite3_wal_hook(world->store->db, on_commit, NULL);
        return r;
}

static void note_token(struct token_known *known, const struct call *call) {
        struct bytes token;

        known->is_there = call_is_yes(call) ? YES : MAYBE;
        if (!call_is_yes(call))
                return;
        token = answer_token(call);
        assert_true(token.size <= TOKEN_MAX);
        memcpy(known->bytes, token.data, token.size);
        known->size = token.size;
}

static void set_revocation(struct call *call, uint64_t number) {
        char target[64];
        uint8_t bytes[NUMBER_SIZE_MAX];
        char hex[2 * NUMBER_SIZE_MAX + 1];

        bytes_to_hex(bytes_of(bytes, number_to_bytes(number, bytes)), hex, sizeof(hex));
        snprintf(target, sizeof(target), "/v1/tokens/%s", hex);
        call_set(call, &world_admin, METHOD_DELETE, target, NULL);
}

/* One batch; numbers[]: of the tokens that were answered. */
static void tell_batch(struct world *world, struct story *story, unsigned n, uint64_t *numbers) {
        struct call calls[CALLS];
        char text[128];
        bool revokes = n > 0 && story->tokens[2 * n - 2].is_there == YES, removes = n > 1;
        size_t n_calls = 4;

        snprintf(text, sizeof(text), "{\"name\":\"c%u\",\"labels\":[\"a%u\",\"b%u\"]}", n, n, n);
        call_set(&calls[0], &world_admin, METHOD_POST, "/v1/clients", text);
        call_set(&calls[1], &world->client, METHOD_POST, "/token", "{5: \"rs1\"}");
        call_set(&calls[2], &world->client, METHOD_POST, "/token", "{5: \"rs1\"}");
        snprintf(text, sizeof(text), "{\"sender_id_hex\":\"c0%02x\"}", n);
        call_set(&calls[3], &world_admin, METHOD_POST, "/v1/clients/C1/credentials", text);
        if (revokes)
                set_revocation(&calls[n_calls++], numbers[2 * n - 2]);
        snprintf(text, sizeof(text), "/v1/clients/c%u", n - 2);
        if (removes)
                call_set(&calls[n_calls++], &world_admin, METHOD_DELETE, text, NULL);
        counting = true;
        world_run(world, calls, n_calls);
        counting = false;

        for (size_t i = 0; i < n_calls; i++) {
                /* what was not acknowledged cannot be removed, of course */
                bool may_be_unknown = removes && i == n_calls - 1 && story->client_there[n - 2] != YES;

                if (!call_is_yes(&calls[i]) && !call_is_broken(&calls[i]) && !may_be_unknown)
                        fail_msg("batch %u, call %zu: %u.%02u %s", n, i, calls[i].work.response.code >> 5,
                                 calls[i].work.response.code & 31, calls[i].work.response.why);
                story->n_broken += !call_is_yes(&calls[i]);
        }
        story->client_there[n] = call_is_yes(&calls[0]) ? YES : MAYBE;
        story->context_there[n] = call_is_yes(&calls[3]) ? YES : MAYBE;
        for (unsigned i = 0; i < 2; i++) {
                note_token(&story->tokens[2 * n + i], &calls[1 + i]);
                numbers[2 * n + i] = calls[1 + i].work.response.token_number;
        }
        if (revokes)
                story->tokens[2 * n - 2].is_revoked = call_is_yes(&calls[4]) ? YES : MAYBE;
        if (removes)
                story->client_gone[n - 2] = call_is_yes(&calls[n_calls - 1]) ? YES : MAYBE;
        for (size_t i = 0; i < n_calls; i++)
                call_done(&calls[i]);
}

static void tell(struct world *world, struct story *story) {
        uint64_t numbers[TOKENS] = {};

        *story = (struct story){};
        for (unsigned n = 0; n < BATCHES; n++)
                tell_batch(world, story, n, numbers);
}

/* ---- what is there afterwards */

static int64_t count(struct world *world, const char *sql) {
        int64_t n = -1;

        assert_int_equal(pragma_int(world->store, sql, &n), 0);
        return n;
}

static void expect_token(struct world *world, const struct token_known *known, unsigned n) {
        _cleanup_(call_done) struct call call = {};
        bool active;

        if (known->is_there != YES)
                return;
        call_introspect(&call, &world->server, bytes_of(known->bytes, known->size));
        world_run(world, &call, 1);
        assert_true(call_is_yes(&call));
        active = answer_is_active(&call);
        if ((known->is_revoked == YES && active) || (known->is_revoked == NO && !active))
                fail_msg("token %u was acknowledged%s and is %sactive", n,
                         known->is_revoked == YES ? " and revoked" : "", active ? "" : "not ");
}

/* With both its labels, or not at all. */
static bool expect_client(struct world *world, const struct story *story, unsigned n) {
        _cleanup_(call_done) struct call call = {};
        char text[64];
        bool there;

        snprintf(text, sizeof(text), "/v1/clients/c%u", n);
        call_set(&call, &world_admin, METHOD_GET, text, NULL);
        world_run(world, &call, 1);
        there = call_is_yes(&call);
        assert_true(there || call.work.response.code == CODE_NOT_FOUND);
        if ((story->client_there[n] == YES && story->client_gone[n] == NO && !there) ||
            (story->client_gone[n] == YES && there))
                fail_msg("client c%u is %sthere", n, there ? "" : "not ");
        snprintf(text, sizeof(text), "[\"a%u\",\"b%u\"]", n, n);
        if (there && !bytes_find(buf_bytes(&call.work.response.payload), bytes_text(text)))
                fail_msg("client c%u has lost a label", n);
        return there;
}

/* With its parameters, or not at all. */
static void expect_context(struct world *world, const struct story *story, unsigned n, bool strict) {
        int64_t n_contexts;
        char sql[96];

        snprintf(sql, sizeof(sql), "SELECT count(*) FROM oscore_contexts WHERE recipient_id = x'c0%02x'", n);
        n_contexts = count(world, sql);
        if ((story->context_there[n] == YES && n_contexts != 1) ||
            (story->context_there[n] != YES && strict && n_contexts != 0))
                fail_msg("of context %u there are %d", n, (int)n_contexts);
}

/*
 * strict: nothing is there that was not acknowledged. Else what was not may be there, but a batch as a whole: that is
 * what a power cut leaves of a commit that was under way.
 */
static void expect_story(struct world *world, const struct story *story, bool strict) {
        int64_t n_tokens = 0, n_extra = 0;

        for (unsigned n = 0; n < TOKENS; n++) {
                expect_token(world, &story->tokens[n], n);
                n_tokens += story->tokens[n].is_there == YES;
        }
        for (unsigned n = 0; n < BATCHES; n++) {
                bool there = expect_client(world, story, n);

                expect_context(world, story, n, strict);
                if (story->client_there[n] != MAYBE)
                        continue;
                if (strict && there)
                        fail_msg("client c%u is there, though that was answered with an error", n);
                n_extra += there ? 2 : 0;
        }
        if (strict)
                assert_int_equal(count(world, "SELECT count(*) FROM tokens"), n_tokens);
        else if (story->n_broken > 0 && n_extra > 0)
                assert_int_equal(count(world, "SELECT count(*) FROM tokens"), n_tokens + n_extra);
        assert_int_equal(count(world, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), 0);
        assert_int_equal(count(world, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
        assert_int_equal(count(world, "SELECT count(*) FROM credentials WHERE kind = 4"),
                         count(world, "SELECT count(*) FROM oscore_contexts"));
}

/* The nonce that a token was sealed under. */
static struct bytes nonce_of(struct bytes token) {
        struct cbor_item items[3], iv;
        const struct cbor_field field = { 5, CBOR_BYTES, 0 };
        size_t n;

        assert_int_equal(cbor_array(token, items, 3, &n), 0);
        assert_int_equal(cbor_map(items[1].raw, &field, 1, &iv), 0);
        return iv.content;
}

/* Service is there, and what it draws was never drawn before. */
static void expect_service(struct world *world, const struct story *story) {
        _cleanup_(call_done) struct call call = {};
        int64_t most = count(world, "SELECT coalesce(max(number), 0) FROM tokens");
        struct bytes token;

        call_set(&call, &world->client, METHOD_POST, "/token", "{5: \"rs1\"}");
        world_run(world, &call, 1);
        if (!call_is_yes(&call))
                fail_msg("no service: %u.%02u %s", call.work.response.code >> 5, call.work.response.code & 31,
                         call.work.response.why);
        assert_true((int64_t)call.work.response.token_number > most);
        token = answer_token(&call);
        for (unsigned n = 0; n < TOKENS; n++) {
                struct bytes nonce = nonce_of(token), old;

                if (story->tokens[n].is_there != YES)
                        continue;
                old = nonce_of(bytes_of(story->tokens[n].bytes, story->tokens[n].size));
                /* the counted part alone must differ, whatever the random one in front of it is */
                assert_memory_not_equal(nonce.data + nonce.size - 8, old.data + old.size - 8, 8);
        }
}

/* ---- disks */

/* A disk with what world_fill() registers, kept. */
static void make_disk(struct world *world) {
        disk_reset(1);
        world_init(world);
        world->config->tokens_per_client_max = 0;
        assert_int_equal(open_world(world), 0);
        world_fill(world);
        world_close(world);
        disk_keep();
}

static void test_power_cut(void **state) {
        struct world world;
        struct story story;
        unsigned n = 0;
        bool hit;

        make_disk(&world);
        do {
                n++;
                disk_return(n);
                disk_arm(DISK_CUT, n);
                story = (struct story){};
                if (open_world(&world) == 0)
                        tell(&world, &story);
                world_close(&world);
                hit = disk_heal();
                disk_reboot();
                assert_int_equal(open_world(&world), 0);
                expect_story(&world, &story, false);
                expect_service(&world, &story);
                world_close(&world);
        } while (hit);
        assert_true(n > 50);
        print_message("# %u operations of the disk\n", n);
        world_done(&world);
}

/* The same while the database is being made: afterwards there is one, or it is made anew. */
static void test_power_cut_at_the_beginning(void **state) {
        struct world world;
        struct story story;
        unsigned n = 0;
        bool hit;

        world_init(&world);
        do {
                n++;
                disk_reset(n);
                disk_arm(DISK_CUT, n);
                (void)open_world(&world);
                world_close(&world);
                hit = disk_heal();
                disk_reboot();
                assert_int_equal(open_world(&world), 0);
                world_fill(&world);
                tell(&world, &story);
                assert_int_equal(story.n_broken, 0);
                expect_story(&world, &story, true);
                world_close(&world);
        } while (hit);
        world_done(&world);
}

/* A breaking disk: judged in the process that saw it, and after a power cut behind it. */
static void break_disk(enum disk_trouble trouble) {
        struct world world;
        struct story story;
        unsigned n = 0, n_broken = 0;
        bool hit;

        make_disk(&world);
        do {
                n++;
                disk_return(n);
                assert_int_equal(open_world(&world), 0);
                disk_arm(trouble, n);
                tell(&world, &story);
                n_broken += story.n_broken > 0;
                hit = disk_heal();
                expect_story(&world, &story, true);
                expect_service(&world, &story);
                disk_arm(DISK_CUT, 1); /* closing is not to repair anything */
                world_close(&world);
                disk_reboot();
                assert_int_equal(open_world(&world), 0);
                for (unsigned i = 0; i < TOKENS; i++)
                        expect_token(&world, &story.tokens[i], i);
                expect_service(&world, &story);
                world_close(&world);
        } while (hit);
        assert_true(n > 50 && n_broken > 10);
        world_done(&world);
}

static void test_io_error_once(void **state) {
        break_disk(DISK_ERROR_ONCE);
}

static void test_io_errors(void **state) {
        break_disk(DISK_ERROR);
}

static void test_disk_full(void **state) {
        break_disk(DISK_FULL);
}

/* ---- memory */

static bool allocation_fails(void) {
        return counting && fail_allocation > 0 && --fail_allocation == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_reallocarray(void *memory, size_t n, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_reallocarray(void *memory, size_t n, size_t size);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t size) {
        return allocation_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
        return allocation_fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *memory, size_t size) {
        return allocation_fails() ? NULL : __real_realloc(memory, size);
}

void *__wrap_reallocarray(void *memory, size_t n, size_t size) {
        return allocation_fails() ? NULL : __real_reallocarray(memory, n, size);
}

char *__wrap_strdup(const char *text) {
        return allocation_fails() ? NULL : __real_strdup(text);
}

static void test_out_of_memory(void **state) {
        struct world world;
        struct story story;
        unsigned n = 0, n_broken = 0;
        bool hit;

        make_disk(&world);
        do {
                n += 1 + n / 256; /* the later, the more alike */
                disk_return(n);
                assert_int_equal(open_world(&world), 0);
                fail_allocation = n;
                tell(&world, &story);
                hit = fail_allocation == 0;
                fail_allocation = 0;
                n_broken += story.n_broken > 0;
                expect_story(&world, &story, true);
                expect_service(&world, &story);
                world_close(&world);
        } while (hit);
        assert_true(n > 500 && n_broken > 100);
        print_message("# %u allocations\n", n);
        world_done(&world);
}

/* ---- memory, from bytes in to bytes out */

#define DATAGRAM_MAX 16384
#define TRIES_MAX 20 /* of a client that hears nothing */
#define MID 7

struct device {
        struct world *world;
        struct engine *engine;
        struct engine_time now;
        struct address remote;
        struct dtls_client *dtls;
        struct buf heard;
};

static const uint8_t device_key[16] = "key of device 1";

static void device_take(struct device *device, struct bytes data) {
        counting = true;
        engine_input(device->engine, &(struct datagram){ .door = DOOR_COAPS, .remote = device->remote, .data = data },
                     device->now);
        counting = false;
}

/* What the client has to say goes in, the engine runs, what it has to say comes out. */
static void device_turn(struct device *device) {
        _cleanup_(buf_done) struct buf datagram = BUF_INIT(DATAGRAM_MAX);
        const struct datagram *out;
        size_t n;

        while (dtls_client_output(device->dtls, &datagram))
                device_take(device, buf_bytes(&datagram));
        counting = true;
        while (engine_run(device->engine, device->now))
                ;
        counting = false;
        n = engine_output(device->engine, &out);
        for (size_t i = 0; i < n; i++)
                dtls_client_input(device->dtls, out[i].data);
        engine_sent(device->engine);
        device->now.monotonic_us += 100000;
}

static bool device_open(struct device *device) {
        const struct dtls_client_options options = { .identity = BYTES_LITERAL("D1"), .is_eager = true,
                                                     .key = bytes_of(device_key, sizeof(device_key)) };
        int r;

        dtls_client_free(device->dtls);
        device->dtls = NULL;
        assert_int_equal(dtls_client_new(&options, &device->dtls), 0);
        for (unsigned i = 0; (r = dtls_client_handshake(device->dtls)) == -EAGAIN && i < TRIES_MAX; i++)
                device_turn(device);
        return r == 0;
}

/* The code of the answer to a token request, sent again as RFC 7252 §4.2 wants it; 0: there is none. */
static uint8_t device_ask(struct device *device) {
        static const uint8_t request[] = { 0x41, CODE_POST, 0, MID, 0x77, 0xb5, 't', 'o', 'k', 'e', 'n', 0x11,
                                           CF_ACE_CBOR, 0xff, 0xa1, 0x05, 0x63, 'r', 's', '1' };
        struct coap_message answer;
        bool header_ok;

        for (unsigned i = 0; i < TRIES_MAX; i++) {
                if (dtls_client_send(device->dtls, bytes_of(request, sizeof(request))) != 0)
                        return 0;
                device_turn(device);
                if (dtls_client_receive(device->dtls, &device->heard) != 0)
                        continue;
                assert_int_equal(coap_message_decode(buf_bytes(&device->heard), &answer, &header_ok), 0);
                if (answer.code != CODE_EMPTY)
                        return answer.code;
        }
        return 0;
}

static void device_init(struct device *device, struct world *world) {
        *device = (struct device){ .world = world, .heard = BUF_INIT(8 * DATAGRAM_MAX), .now = { 1000000, WORLD_NOW_S },
                                   .remote = { .in = { .sin_family = AF_INET, .sin_port = htons(1),
                                                       .sin_addr = { htonl(INADDR_LOOPBACK) } },
                                               .size = sizeof(struct sockaddr_in) } };
        assert_int_equal(engine_new(&world->as, &device->engine), 0);
}

static void device_done(struct device *device) {
        dtls_client_free(device->dtls);
        engine_free(device->engine);
        buf_done(&device->heard);
}

/*
 * One allocation fails somewhere between the first ClientHello and the answer. That may cost the client a datagram, a
 * session or an answer of 5.00; asked anew, the server serves. What it answered with a token is stored, and of what it
 * answered otherwise nothing by halves.
 */
static bool fail_on_the_way(struct world *world, unsigned n) {
        struct device device;
        int64_t before = count(world, "SELECT count(*) FROM tokens"), added;
        uint8_t code;

        device_init(&device, world);
        fail_allocation = n;
        code = device_open(&device) ? device_ask(&device) : 0;
        if (code != 0 && code != CODE_CREATED && code != CODE_INTERNAL_ERROR && code != CODE_UNAVAILABLE)
                fail_msg("allocation %u: %u.%02u", n, code >> 5, code & 31);
        added = count(world, "SELECT count(*) FROM tokens") - before;
        if (added > 1 || (code == CODE_CREATED && added != 1))
                fail_msg("allocation %u: %u.%02u and %lld tokens", n, code >> 5, code & 31, (long long)added);
        n = fail_allocation;
        fail_allocation = 0;

        device.remote.in.sin_port = htons(2);
        assert_true(device_open(&device));
        assert_int_equal(device_ask(&device), CODE_CREATED);
        device_done(&device);
        return n == 0;
}

static void test_out_of_memory_on_the_way(void **state) {
        _cleanup_(call_done) struct call credential = {};
        struct world world;
        unsigned n = 0;
        char text[160], hex[2 * sizeof(device_key) + 1];

        disk_reset(1);
        world_init(&world);
        world.config->tokens_per_client_max = 0;
        assert_int_equal(open_world(&world), 0);
        world_fill(&world);
        bytes_to_hex(bytes_of(device_key, sizeof(device_key)), hex, sizeof(hex));
        snprintf(text, sizeof(text), "{\"identity\":\"D1\",\"key_hex\":\"%s\"}", hex);
        call_set(&credential, &world_admin, METHOD_POST, "/v1/clients/C1/credentials", text);
        world_run(&world, &credential, 1);
        assert_true(call_is_yes(&credential));
        do
                n++;
        while (fail_on_the_way(&world, n));
        assert_true(n > 20);
        print_message("# %u allocations\n", n);
        world_done(&world);
}

/* ---- */

static int set_up(void **state) {
        const char *tmp = getenv("TMPDIR");

        snprintf(path, sizeof(path), "%.100s/aced-crash-XXXXXX", tmp ? tmp : "/tmp");
        assert_non_null(mkdtemp(path));
        strcat(path, "/db"); /* the store makes an empty file there; all else is on the disk in memory */
        sqlite_memory_install(allocation_fails);
        json_set_alloc_funcs(__wrap_malloc, free);
        log_set_level((enum log_level)0);
        disk_register();
        return 0;
}

static int tear_down(void **state) {
        disk_unregister();
        (void)unlink(path);
        *strrchr(path, '/') = '\0';
        (void)rmdir(path);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_power_cut),
                cmocka_unit_test(test_power_cut_at_the_beginning),
                cmocka_unit_test(test_io_error_once),
                cmocka_unit_test(test_io_errors),
                cmocka_unit_test(test_disk_full),
                cmocka_unit_test(test_out_of_memory),
                cmocka_unit_test(test_out_of_memory_on_the_way),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
