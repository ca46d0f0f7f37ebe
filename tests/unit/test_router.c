#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <openssl/crypto.h>
#include <sqlite3.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "base/log.h"
#include "crypto/aead.h"
#include "endpoint/aced.h"
#include "endpoint/refusal.h"
#include "endpoint/router.h"
#include "store/credentials.h"
#include "store/store.h"
#include "support/edn.h"
#include "support/fake.h"

#define NOW_S 1700000000
#define LINES_SIZE 10000

/* An instance with client C1, resource server rs1 and a policy between them; in a file when folder is set. */
struct world {
        char *folder;
        struct config *config;
        struct store *store;
        struct aced as;
        struct peer client, server;
};

static const struct peer local = { .channel = CHANNEL_LOCAL, .name = "uid 0" };
static const struct peer plain = { .channel = CHANNEL_PLAIN, .name = "127.0.0.1:1" };
static const struct peer stranger = { .channel = CHANNEL_DTLS, .name = "127.0.0.1:2" };

/* ---- requests by hand; what work borrows lives in the same struct */

struct call {
        struct work work;
        char target[256];
        struct buf payload;
};

static void call_done(struct call *call) {
        response_done(&call->work.response);
        buf_done(&call->payload);
}

/* payload: JSON for CF_JSON, else diagnostic notation; NULL none */
static void call_set(struct call *call, const struct peer *peer, enum method method, const char *target,
                     int content_format, const char *payload) {
        struct request *request = &call->work.request;
        char *at = call->target, *query, *piece;

        *call = (struct call){ .payload = BUF_INIT(100000) };
        response_init(&call->work.response);
        *request = (struct request){ .method = method, .content_format = content_format, .accept = CF_NONE,
                                     .peer = peer, .now_s = NOW_S };
        snprintf(call->target, sizeof(call->target), "%s", target + 1);
        query = strchr(at, '?');
        if (query)
                *query++ = '\0';
        while (*target && target[1] && (piece = strsep(&at, "/")))
                request->segments[request->n_segments++] = bytes_text(piece);
        while ((piece = strsep(&query, "&")))
                request->queries[request->n_queries++] = bytes_text(piece);
        if (payload && content_format == CF_JSON)
                assert_int_equal(buf_add(&call->payload, bytes_text(payload)), 0);
        else if (payload)
                assert_int_equal(edn_encode(payload, &call->payload, NULL), 0);
        request->payload = buf_bytes(&call->payload);
}

static void run(struct aced *as, struct call *calls, size_t n_calls) {
        struct work **works = calloc(n_calls, sizeof(*works));

        assert_non_null(works);
        for (size_t i = 0; i < n_calls; i++)
                works[i] = &calls[i].work;
        router_batch(as, works, n_calls);
        assert_false(as->store && store_in_transaction(as->store));
        free(works);
}

static uint8_t ask(struct world *world, const struct peer *peer, enum method method, const char *target,
                   int content_format, const char *payload) {
        _cleanup_(call_done) struct call call;

        call_set(&call, peer, method, target, content_format, payload);
        run(&world->as, &call, 1);
        return call.work.response.code;
}

static void admin(struct world *world, enum method method, const char *target, const char *json) {
        uint8_t code = ask(world, &local, method, target, CF_JSON, json);

        if (code >> 5 != 2)
                fail_msg("%s: %u.%02u", target, code >> 5, code & 31);
}

static void call_token(struct call *call, const struct world *world) {
        call_set(call, &world->client, METHOD_POST, "/token", CF_ACE_CBOR, "{5: \"rs1\"}");
}

static void call_introspect(struct call *call, const struct world *world) {
        call_set(call, &world->server, METHOD_POST, "/introspect", CF_ACE_CBOR, "{11: h'00'}");
}

/* ---- the world */

static void open_store(struct world *world) {
        static const uint8_t key[32] = { 1 };
        _cleanup_(diags_done) struct diags diags = {};
        char path[256];
        const struct store_options options = { .path = world->folder ? path : NULL, .seal_key = { key, 32 } };

        snprintf(path, sizeof(path), "%s/test.db", world->folder ? world->folder : "");
        assert_int_equal(store_open(&options, &world->store, &diags), 0);
        world->as.store = world->store;
}

static void meet(struct world *world, const char *identity, struct peer *ret) {
        _cleanup_(secret_done) struct secret psk = {};
        struct credential credential;

        assert_int_equal(store_psk_find(world->store, bytes_text(identity), &credential, &psk), 0);
        *ret = (struct peer){ .channel = CHANNEL_DTLS, .kind = CREDENTIAL_PSK, .credential_id = credential.id,
                              .name = "127.0.0.1:3" };
}

static int setup_at(void **state, char *folder) {
        struct world *world = calloc(1, sizeof(*world));
        _cleanup_(diags_done) struct diags diags = {};

        assert_non_null(world);
        fake_random_seed(1);
        fake_random_fail_at(0);
        world->folder = folder;
        assert_int_equal(config_load(NULL, &world->config, &diags), 0);
        world->config->tokens_per_client_max = 0;
        world->as = (struct aced){ .config = world->config, .decision_stamp = 0x1234567800000000 };
        open_store(world);
        admin(world, METHOD_POST, "/v1/servers", "{\"name\":\"rs1\",\"scopes\":\"read\",\"default_scope\":\"read\"}");
        admin(world, METHOD_POST, "/v1/servers/rs1/credentials", "{\"identity\":\"rs1\"}");
        admin(world, METHOD_POST, "/v1/clients", "{\"name\":\"C1\"}");
        admin(world, METHOD_POST, "/v1/clients/C1/credentials", "{\"identity\":\"C1\"}");
        admin(world, METHOD_POST, "/v1/policies", "{\"client\":\"C1\",\"audience\":\"rs1\",\"scope\":\"read\"}");
        meet(world, "C1", &world->client);
        meet(world, "rs1", &world->server);
        *state = world;
        return 0;
}

static int setup(void **state) {
        return setup_at(state, NULL);
}

static int setup_file(void **state) {
        const char *tmp = getenv("TMPDIR");
        char folder[200];

        snprintf(folder, sizeof(folder), "%s/aced-router-XXXXXX", tmp ? tmp : "/tmp");
        assert_non_null(mkdtemp(folder));
        return setup_at(state, strdup(folder));
}

static int teardown(void **state) {
        struct world *world = *state;
        static const char *const suffixes[] = { "", "-wal", "-shm" };
        char path[256];

        fake_random_fail_at(0);
        store_free(world->store);
        config_free(world->config);
        for (size_t i = 0; world->folder && i < N_ELEMENTS(suffixes); i++) {
                snprintf(path, sizeof(path), "%s/test.db%s", world->folder, suffixes[i]);
                (void)unlink(path);
        }
        if (world->folder)
                (void)rmdir(world->folder);
        free(world->folder);
        free(world);
        return 0;
}

static int64_t n_tokens(struct world *world) {
        struct store_status status;

        assert_int_equal(store_begin(world->store), 0);
        assert_int_equal(store_status(world->store, &status), 0);
        store_rollback(world->store);
        return status.n_tokens;
}

/* ---- tables */

static void test_refusals(void **state) {
        for (int i = REFUSE_NONE + 1; i < REFUSALS; i++) {
                const struct refusal_row *row = refusal_row(i);

                assert_true(row->name && row->name[0] && row->text && row->text[0]);
                if (row->ace_error != 0)
                        assert_true(strlen(row->text) <= 40); /* constrained devices pay for it; others are told none */
                assert_int_equal(row->coap_code >> 5, 4);
                assert_int_equal(row->http_status / 100, 4);
                /* AS-055: errors of OAuth are 4.00, invalid_client alone is 4.01 */
                if (row->ace_error != 0)
                        assert_int_equal(row->coap_code, row->ace_error == ACE_INVALID_CLIENT ? CODE_UNAUTHORIZED
                                                                                              : CODE_BAD_REQUEST);
                for (int j = REFUSE_NONE + 1; j < i; j++)
                        assert_string_not_equal(row->name, refusal_row(j)->name);
        }
        assert_int_equal(refusal_row(-EIO)->coap_code, CODE_INTERNAL_ERROR);
        assert_int_equal(refusal_row(0)->coap_code, CODE_INTERNAL_ERROR);
        assert_int_equal(refusal_row(REFUSALS)->coap_code, CODE_INTERNAL_ERROR);
        assert_int_equal(refusal_row(-EBUSY)->coap_code, CODE_UNAVAILABLE);
        assert_int_equal(refusal_row(-ENOSPC)->http_status, 503);
}

static void test_resources(void **state) {
        const struct resource *row, *other;
        size_t n = 0;

        for (; (row = router_resource(n)); n++) {
                assert_true(row->path[0] == '/' && row->handle && row->summary && row->method != 0);
                assert_int_equal(row->success >> 5, 2);
                assert_true(row->callers != 0);
                /* what the network can reach is not under /v1, and the other way round */
                assert_int_equal(row->callers == CALLER_LOCAL, strncmp(row->path, "/v1/", 4) == 0);
                assert_false(row->stateless && row->changes);
                if (row->rt)
                        assert_null(strstr(row->path, "{}"));
                for (size_t i = 0; i < n; i++) {
                        other = router_resource(i);
                        assert_false(row->method == other->method && strcmp(row->path, other->path) == 0);
                }
        }
        assert_true(n > 20);
        assert_null(router_resource(n));
        assert_null(router_resource(SIZE_MAX));
}

/* Which row, who may, and which formats, in the order of the checks. */
static void test_admission(void **state) {
        struct world *world = *state;
        const struct {
                const struct peer *peer;
                enum method method;
                const char *target;
                int content_format, accept;
                const char *payload;
                uint8_t code;
        } cases[] = {
                { &world->client, METHOD_POST, "/token", 19, -1, "{5: \"rs1\"}", CODE_CREATED },
                { &world->client, METHOD_POST, "/token?x=y", 19, 19, "{5: \"rs1\"}", CODE_CREATED },
                { &plain, METHOD_GET, "/", -1, -1, NULL, CODE_NOT_FOUND },
                { &plain, METHOD_GET, "//", -1, -1, NULL, CODE_NOT_FOUND },
                { &plain, METHOD_GET, "/tokens", -1, -1, NULL, CODE_NOT_FOUND },
                { &plain, METHOD_GET, "/toke", -1, -1, NULL, CODE_NOT_FOUND },
                { &plain, METHOD_GET, "/.well-known", -1, -1, NULL, CODE_NOT_FOUND },
                { &plain, METHOD_GET, "/.well-known/core/x", -1, -1, NULL, CODE_NOT_FOUND },
                { &plain, METHOD_GET, "/{}", -1, -1, NULL, CODE_NOT_FOUND },
                { &plain, METHOD_GET, "/.well-known/core", -1, -1, NULL, CODE_CONTENT },
                { &plain, METHOD_GET, "/.well-known/core", 60, -1, "1", CODE_CONTENT },
                { &plain, METHOD_GET, "/.well-known/core", -1, 41, NULL, CODE_NOT_ACCEPTABLE },
                { &plain, METHOD_PUT, "/.well-known/core", -1, 41, NULL, CODE_METHOD_NOT_ALLOWED },
                /* the method goes before the caller, the caller before the formats */
                { &plain, METHOD_GET, "/token", 60, 60, "1", CODE_METHOD_NOT_ALLOWED },
                { &plain, METHOD_POST, "/token", 60, 60, "1", CODE_UNAUTHORIZED },
                { &stranger, METHOD_POST, "/token", 60, 60, "1", CODE_UNAUTHORIZED },
                { &local, METHOD_POST, "/token", 60, 60, "1", CODE_UNAUTHORIZED },
                { &world->client, METHOD_POST, "/token", 60, 60, "1", CODE_NOT_ACCEPTABLE },
                { &world->client, METHOD_POST, "/token", 60, 19, "1", CODE_UNSUPPORTED_FORMAT },
                { &world->client, METHOD_POST, "/token", -1, -1, "1", CODE_UNSUPPORTED_FORMAT },
                { &world->client, METHOD_POST, "/token", 60, -1, NULL, CODE_UNSUPPORTED_FORMAT },
                { &world->client, METHOD_POST, "/token", -1, -1, NULL, CODE_BAD_REQUEST },
                /* administration is not there for the network, whatever the method */
                { &plain, METHOD_GET, "/v1/status", -1, -1, NULL, CODE_NOT_FOUND },
                { &world->client, METHOD_PUT, "/v1/status", -1, -1, NULL, CODE_NOT_FOUND },
                { &world->server, METHOD_DELETE, "/v1/clients/C1", -1, -1, NULL, CODE_NOT_FOUND },
                { &local, METHOD_GET, "/v1/clients/C1", -1, -1, NULL, CODE_CONTENT },
                { &local, METHOD_GET, "/v1/clients/", -1, -1, NULL, CODE_NOT_FOUND },
                { &local, METHOD_GET, "/v1/clients/C1/", -1, -1, NULL, CODE_NOT_FOUND },
                { &local, METHOD_GET, "/v1/clients/{}", -1, -1, NULL, CODE_NOT_FOUND },
                { &local, METHOD_GET, "/v1/a/b/c/d/e/f/g", -1, -1, NULL, CODE_NOT_FOUND },
                { &local, METHOD_PUT, "/v1/clients/C1", -1, -1, NULL, CODE_METHOD_NOT_ALLOWED },
                { &local, METHOD_POST, "/v1/clients", 19, -1, "1", CODE_UNSUPPORTED_FORMAT },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(call_done) struct call call;

                call_set(&call, cases[i].peer, cases[i].method, cases[i].target, cases[i].content_format,
                         cases[i].payload);
                call.work.request.accept = cases[i].accept;
                run(&world->as, &call, 1);
                if (call.work.response.code != cases[i].code)
                        fail_msg("case %zu, %s: %u.%02u", i, cases[i].target, call.work.response.code >> 5,
                                 call.work.response.code & 31);
        }
}

/* ---- answers */

/*
 * Design: what is not authenticated gets no more than it sent, and less than three times that from discovery. For that one
 * a token of four bytes is counted, as RFC 7252 §5.3.1 asks for without DTLS: to a shorter one it is told in blocks.
 */
static void test_amplification(void **state) {
        struct world *world = *state;
        static const struct {
                enum method method;
                const char *target, *payload;
                int content_format;
                size_t request_size; /* the shortest on the wire: header, path, format, marker, payload */
                unsigned times;
        } cases[] = {
                { METHOD_GET, "/.well-known/core", NULL, CF_NONE, 4 + 4 + 12 + 5, 3 },
                { METHOD_GET, "/x", NULL, CF_NONE, 4 + 2, 1 },
                { METHOD_GET, "/token", NULL, CF_NONE, 4 + 6, 1 },
                { METHOD_POST, "/token", NULL, CF_NONE, 4 + 6, 1 },
                { METHOD_POST, "/token", "{}", CF_ACE_CBOR, 4 + 6 + 2 + 1 + 1, 1 },
                { METHOD_POST, "/token", "{}", CF_NONE, 4 + 6 + 1 + 1, 1 },
                { METHOD_POST, "/introspect", NULL, CF_NONE, 4 + 11, 1 },
                { METHOD_GET, "/v1/status", NULL, CF_NONE, 4 + 3 + 7, 1 },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(call_done) struct call call;
                const struct response *response = &call.work.response;
                size_t size;

                call_set(&call, &plain, cases[i].method, cases[i].target, cases[i].content_format, cases[i].payload);
                run(&world->as, &call, 1);
                size = 4 + (cases[i].times > 1 ? 4 : 0) + (response->content_format != CF_NONE ? 2 : 0) + (response->max_age_s >= 0 ? 2 : 0) +
                        (response->payload.size > 0 ? 1 + response->payload.size : 0);
                if (size > cases[i].times * cases[i].request_size)
                        fail_msg("case %zu: %zu bytes for %zu", i, size, cases[i].request_size);
        }
}

static void test_decisions_are_numbered(void **state) {
        struct world *world = *state;
        struct call calls[2];
        char text[DECISION_TEXT_SIZE];

        call_token(&calls[0], world);
        call_set(&calls[1], &plain, METHOD_GET, "/x", CF_NONE, NULL);
        run(&world->as, calls, 2);
        assert_int_equal(calls[1].work.response.decision_id, calls[0].work.response.decision_id + 1);
        assert_int_equal(calls[0].work.response.decision_id >> 32, 0x12345678);
        decision_text(0x1234567800000abc, text);
        assert_string_equal(text, "00000abc");
        assert_true(calls[0].work.response.token_number != 0);
        call_done(&calls[0]);
        call_done(&calls[1]);
}

static void test_local_error_is_json(void **state) {
        struct world *world = *state;
        _cleanup_(call_done) struct call call;

        call_set(&call, &local, METHOD_GET, "/v1/clients/nobody", CF_NONE, NULL);
        run(&world->as, &call, 1);
        assert_int_equal(call.work.response.content_format, CF_JSON);
        assert_int_equal(call.work.response.refusal, REFUSE_ADMIN_UNKNOWN);
        assert_memory_equal(call.work.response.payload.data, "{\"error\":\"unknown\",\"detail\":\"", 29);
        assert_true(call.work.response.why[0]);
}

static void test_why_is_printable(void **state) {
        struct response response;

        response_init(&response);
        response_why(&response, "name \"%s\"", "a\x1b[31m\n\xc3\xa4");
        assert_string_equal(response.why, "name \"a?[31m???\"");
        response_why(&response, "RFC 9200 §5.8: %s", "x\xc2\x9b\xa7");
        assert_string_equal(response.why, "RFC 9200 §5.8: x???");
        response_why(&response, "%0400d", 1);
        assert_int_equal(strlen(response.why), sizeof(response.why) - 1);
        response_done(&response);
}

static void test_payload_is_wiped(void **state) {
        static const uint8_t zeros[16] = {};
        struct response response;

        response_init(&response);
        assert_int_equal(response_reserve(&response, 16), 0);
        assert_int_equal(buf_add(&response.payload, BYTES_LITERAL("a key, a secret!")), 0);
        response_drop(&response);
        assert_int_equal(response.payload.size, 0);
        assert_memory_equal(response.payload.data, zeros, sizeof(zeros));
        response_done(&response);
        response_done(&response); /* twice does no harm */
}

static void test_query(void **state) {
        struct request request = { .queries = { BYTES_LITERAL("ab=1"), BYTES_LITERAL("a=2"), BYTES_LITERAL("a=3"),
                                                BYTES_LITERAL("b"), BYTES_LITERAL("c=") }, .n_queries = 5 };

        assert_true(bytes_equal(request_query(&request, "a"), BYTES_LITERAL("2")));
        assert_true(bytes_equal(request_query(&request, "ab"), BYTES_LITERAL("1")));
        assert_null(request_query(&request, "b").data);
        assert_non_null(request_query(&request, "c").data);
        assert_int_equal(request_query(&request, "c").size, 0);
        assert_null(request_query(&request, "d").data);
}

/* ---- batches */

/* Each request alone: what one is refused does not touch the others, and leaves nothing behind. */
static void test_refused_leaves_nothing(void **state) {
        struct world *world = *state;
        struct call calls[4];

        call_set(&calls[0], &local, METHOD_POST, "/v1/clients", CF_JSON, "{\"name\":\"C2\"}");
        /* the audience goes and the refusal comes after it: a policy is for it */
        call_set(&calls[1], &local, METHOD_PATCH, "/v1/servers/rs1", CF_JSON,
                 "{\"suspended\":true,\"audiences\":[\"other\"]}");
        call_set(&calls[2], &local, METHOD_POST, "/v1/clients", CF_JSON, "{\"name\":\"C2\"}");
        call_token(&calls[3], world);
        run(&world->as, calls, 4);
        assert_int_equal(calls[0].work.response.code, CODE_CREATED);
        assert_int_equal(calls[1].work.response.refusal, REFUSE_ADMIN_CONFLICT);
        assert_int_equal(calls[2].work.response.refusal, REFUSE_ADMIN_EXISTS);
        assert_int_equal(calls[3].work.response.code, CODE_CREATED);
        assert_int_equal(n_tokens(world), 1);
        for (size_t i = 0; i < 4; i++)
                call_done(&calls[i]);
}

/* The answer's member 37, a string of bytes, in hexadecimal. */
static void refresh_token_of(const struct call *call, char *hex, size_t size) {
        struct bytes payload = buf_bytes(&call->work.response.payload);
        const uint8_t *at = memmem(payload.data, payload.size, "\x18\x25\x58", 3);

        assert_non_null(at);
        bytes_to_hex(bytes_of(at + 4, at[3]), hex, size);
}

/* RFC 6749 §10.4: what a reused refresh token makes to be done is done once, however often it comes. */
static void test_reused_refresh_token_revokes_once(void **state) {
        struct world *world = *state;
        struct call calls[4];
        char hex[129], payload[160];

        admin(world, METHOD_PATCH, "/v1/clients/C1", "{\"refresh_lifetime_s\":1000}");
        call_token(&calls[0], world);
        run(&world->as, calls, 1);
        refresh_token_of(&calls[0], hex, sizeof(hex));
        snprintf(payload, sizeof(payload), "{33: 3, 37: h'%s'}", hex);
        for (size_t i = 1; i < 4; i++) {
                call_set(&calls[i], &world->client, METHOD_POST, "/token", CF_ACE_CBOR, payload);
                run(&world->as, &calls[i], 1);
                assert_int_equal(calls[i].work.response.code, i == 1 ? CODE_CREATED : CODE_BAD_REQUEST);
                assert_int_equal(calls[i].work.response.keep_changes, i == 2);
        }
        for (size_t i = 0; i < 4; i++)
                call_done(&calls[i]);
}

static void test_empty_batch(void **state) {
        struct world *world = *state;

        router_batch(&world->as, NULL, 0);
        assert_int_equal(world->as.n_decisions, 5); /* those of the setup */
}

/* Without randomness there is no key: 5.00 for this one, nothing stored, and the next is served. */
static void test_random_failure(void **state) {
        struct world *world = *state;
        _cleanup_(call_done) struct call call;

        fake_random_fail_at(1);
        call_token(&call, world);
        run(&world->as, &call, 1);
        fake_random_fail_at(0);
        assert_int_equal(call.work.response.code, CODE_INTERNAL_ERROR);
        assert_int_equal(call.work.response.refusal, -EIO);
        assert_int_equal(call.work.response.payload.size, 0);
        assert_int_equal(call.work.response.max_age_s, -1);
        assert_int_equal(n_tokens(world), 0);
        assert_int_equal(ask(world, &world->client, METHOD_POST, "/token", CF_ACE_CBOR, "{5: \"rs1\"}"), CODE_CREATED);
}

/* Nor is there an OSCORE_Input_Material without its random parts. */
static void test_random_failure_of_material(void **state) {
        struct world *world = *state;

        admin(world, METHOD_PATCH, "/v1/clients/C1", "{\"profiles\":[\"coap_oscore\"]}");
        admin(world, METHOD_PATCH, "/v1/servers/rs1", "{\"profiles\":[\"coap_oscore\"]}");
        fake_random_fail_at(1);
        assert_int_equal(ask(world, &world->client, METHOD_POST, "/token", CF_ACE_CBOR, "{5: \"rs1\"}"),
                         CODE_INTERNAL_ERROR);
        fake_random_fail_at(0);
        assert_int_equal(n_tokens(world), 0);
        assert_int_equal(ask(world, &world->client, METHOD_POST, "/token", CF_ACE_CBOR, "{5: \"rs1\"}"), CODE_CREATED);
}

/* More numbers than a batch may draw: those too many are told to come back, and only those. */
static void test_numbers_run_out(void **state) {
        struct world *world = *state;
        size_t n = NUMBERS_PER_BATCH_MAX + 10, n_granted = 0;
        struct call *calls = calloc(n, sizeof(*calls));

        assert_non_null(calls);
        log_set_level(0);
        for (size_t i = 0; i < n; i++)
                call_token(&calls[i], world);
        run(&world->as, calls, n);
        for (size_t i = 0; i < n; i++) {
                const struct response *response = &calls[i].work.response;

                if (response->code == CODE_CREATED) {
                        n_granted++;
                } else {
                        assert_int_equal(response->code, CODE_UNAVAILABLE);
                        assert_int_equal(response->max_age_s, RETRY_AFTER_S);
                        assert_int_equal(response->payload.size, 0);
                }
                call_done(&calls[i]);
        }
        free(calls);
        assert_in_range(n_granted, 1, NUMBERS_PER_BATCH_MAX);
        assert_int_equal(n_tokens(world), n_granted);
        assert_int_equal(ask(world, &world->client, METHOD_POST, "/token", CF_ACE_CBOR, "{5: \"rs1\"}"), CODE_CREATED);
        log_set_level(LOG_LEVEL_ERROR);
}

/* ---- a store that fails */

static int64_t wal_size(const struct world *world) {
        struct stat st;
        char path[256];

        snprintf(path, sizeof(path), "%s/test.db-wal", world->folder);
        assert_int_equal(stat(path, &st), 0);
        return st.st_size;
}

static void limit_files(rlim_t size) {
        struct rlimit limit;

        assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
        limit.rlim_cur = size;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* The commit cannot write: nobody is told what did not last, and what needs no store is answered all the same. */
static void test_commit_fails(void **state) {
        struct world *world = *state;
        struct call calls[5];
        int64_t before;

        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(ask(world, &world->client, METHOD_POST, "/token", CF_ACE_CBOR, "{5: \"rs1\"}"), CODE_CREATED);
        before = n_tokens(world);

        call_introspect(&calls[0], world);
        call_token(&calls[1], world);
        call_set(&calls[2], &local, METHOD_POST, "/v1/clients", CF_JSON, "{\"name\":\"C1\"}");
        call_set(&calls[3], &plain, METHOD_GET, "/.well-known/core", CF_NONE, NULL);
        call_set(&calls[4], &plain, METHOD_GET, "/token", CF_NONE, NULL);
        limit_files((rlim_t)wal_size(world));
        run(&world->as, calls, 5);
        limit_files(RLIM_INFINITY);

        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(calls[i].work.response.code, CODE_INTERNAL_ERROR);
                assert_true(calls[i].work.response.refusal < 0);
        }
        assert_int_equal(calls[0].work.response.payload.size, 0);
        assert_int_equal(calls[1].work.response.payload.size, 0);
        assert_int_equal(calls[1].work.response.max_age_s, -1);
        assert_int_equal(calls[2].work.response.content_format, CF_JSON);
        assert_memory_equal(calls[2].work.response.payload.data,
                            "{\"error\":\"internal-error\",\"detail\":\"internal error", 49);
        assert_int_equal(calls[3].work.response.code, CODE_CONTENT);
        assert_int_equal(calls[4].work.response.code, CODE_METHOD_NOT_ALLOWED);
        for (size_t i = 0; i < 5; i++)
                call_done(&calls[i]);

        /* service returns when the trouble ends */
        assert_int_equal(n_tokens(world), before);
        assert_int_equal(ask(world, &world->client, METHOD_POST, "/token", CF_ACE_CBOR, "{5: \"rs1\"}"), CODE_CREATED);
        assert_int_equal(n_tokens(world), before + 1);
}

/* Reads write nothing: no commit of theirs waits for a disk, and they go on when it is full. */
static void test_reads_write_nothing(void **state) {
        struct world *world = *state;
        struct call calls[3];
        int64_t before;

        signal(SIGXFSZ, SIG_IGN);
        before = wal_size(world);
        limit_files((rlim_t)before);
        call_introspect(&calls[0], world);
        call_set(&calls[1], &local, METHOD_GET, "/v1/clients/C1", CF_NONE, NULL);
        call_set(&calls[2], &local, METHOD_GET, "/v1/explain?client=C1&audience=rs1", CF_NONE, NULL);
        run(&world->as, calls, 3);
        limit_files(RLIM_INFINITY);
        assert_int_equal(calls[0].work.response.code, CODE_CREATED);
        assert_int_equal(calls[1].work.response.code, CODE_CONTENT);
        assert_int_equal(calls[2].work.response.code, CODE_CONTENT);
        assert_int_equal(wal_size(world), before);
        for (size_t i = 0; i < 3; i++)
                call_done(&calls[i]);
}

/* Another program holds the database: come back later. */
static void test_begin_fails(void **state) {
        struct world *world = *state;
        struct call calls[3];
        sqlite3 *other = NULL;
        char path[256];

        snprintf(path, sizeof(path), "%s/test.db", world->folder);
        assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        call_token(&calls[0], world);
        call_set(&calls[1], &plain, METHOD_GET, "/.well-known/core", CF_NONE, NULL);
        call_set(&calls[2], &local, METHOD_DELETE, "/v1/clients/C1", CF_NONE, NULL);
        run(&world->as, calls, 3);
        assert_int_equal(sqlite3_close(other), SQLITE_OK);

        assert_int_equal(calls[0].work.response.code, CODE_UNAVAILABLE);
        assert_int_equal(calls[0].work.response.max_age_s, RETRY_AFTER_S);
        assert_int_equal(calls[1].work.response.code, CODE_CONTENT);
        assert_int_equal(calls[2].work.response.code, CODE_UNAVAILABLE);
        for (size_t i = 0; i < 3; i++)
                call_done(&calls[i]);
        assert_int_equal(ask(world, &world->client, METHOD_POST, "/token", CF_ACE_CBOR, "{5: \"rs1\"}"), CODE_CREATED);
}

/* The token key is lost, by a hand in the database: our fault, told to the log, not to the client. */
static void test_server_without_key(void **state) {
        struct world *world = *state;
        _cleanup_(call_done) struct call call;
        sqlite3 *other = NULL;
        char path[256];

        snprintf(path, sizeof(path), "%s/test.db", world->folder);
        assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, "DELETE FROM server_keys", NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(other), SQLITE_OK);
        call_token(&call, world);
        run(&world->as, &call, 1);
        assert_int_equal(call.work.response.code, CODE_INTERNAL_ERROR);
        assert_int_equal(call.work.response.refusal, -ENOKEY);
        assert_non_null(strstr(call.work.response.why, "acectl rs key set rs1"));
        assert_int_equal(call.work.response.payload.size, 0);
        assert_int_equal(n_tokens(world), 0);
}

/* What a request writes to standard error at log level info; to be freed. */
static char *lines_of(struct world *world, const struct peer *peer, const char *target) {
        _cleanup_(call_done) struct call call;
        FILE *file = tmpfile();
        int saved = dup(STDERR_FILENO);
        char *lines = calloc(1, LINES_SIZE);

        assert_non_null(file);
        assert_true(saved >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
        log_set_level(LOG_LEVEL_INFO);
        call_set(&call, peer, METHOD_GET, target, -1, NULL);
        run(&world->as, &call, 1);
        log_set_level(LOG_LEVEL_ERROR);
        assert_true(dup2(saved, STDERR_FILENO) >= 0);
        close(saved);
        rewind(file);
        assert_non_null(lines);
        assert_true(fread(lines, 1, LINES_SIZE - 1, file) < LINES_SIZE - 1);
        fclose(file);
        return lines;
}

static size_t n_lines_of(struct world *world, const struct peer *peer, const char *target) {
        _cleanup_(freep) char *lines = lines_of(world, peer, target);
        size_t n = 0;

        for (const char *at = lines; *at != '\0'; at++)
                n += *at == '\n';
        return n;
}

/* A spoofed datagram a line would fill the disk. */
static void test_strangers_fill_no_log(void **state) {
        struct world *world = *state;

        assert_int_equal(n_lines_of(world, &plain, "/.well-known/core"), 0);
        assert_int_equal(n_lines_of(world, &plain, "/nothing"), 0);
        assert_int_equal(n_lines_of(world, &world->client, "/nothing"), 1);
        assert_int_equal(n_lines_of(world, &local, "/v1/clients/C1"), 1);
}

/* Which way a request came, and by which credential it is known whose it is. */
static void test_log_tells_the_credential(void **state) {
        struct world *world = *state;
        static const struct {
                struct peer peer;
                const char *target, *says;
        } cases[] = {
                { { .channel = CHANNEL_DTLS, .kind = CREDENTIAL_PSK, .credential_id = 7, .name = "a" }, "/x",
                  " ACED_PEER=a ACED_CHANNEL=dtls ACED_CREDENTIAL=7 ACED_CREDENTIAL_KIND=psk ACED_METHOD=GET" },
                { { .channel = CHANNEL_DTLS, .kind = CREDENTIAL_RPK, .credential_id = 8, .name = "a" }, "/x",
                  " ACED_PEER=a ACED_CHANNEL=dtls ACED_CREDENTIAL=8 ACED_CREDENTIAL_KIND=rpk ACED_METHOD=GET" },
                { { .channel = CHANNEL_DTLS, .kind = CREDENTIAL_X509, .credential_id = INT64_MAX, .name = "a" }, "/x",
                  " ACED_PEER=a ACED_CHANNEL=dtls ACED_CREDENTIAL=9223372036854775807 ACED_CREDENTIAL_KIND=x509 "
                  "ACED_METHOD=GET" },
                { { .channel = CHANNEL_OSCORE, .kind = CREDENTIAL_OSCORE, .credential_id = 9, .name = "a" }, "/x",
                  " ACED_PEER=a ACED_CHANNEL=oscore ACED_CREDENTIAL=9 ACED_CREDENTIAL_KIND=oscore ACED_METHOD=GET" },
                { { .channel = CHANNEL_DTLS, .name = "a" }, "/x", " ACED_PEER=a ACED_CHANNEL=dtls ACED_METHOD=GET" },
                { { .channel = CHANNEL_LOCAL, .name = "uid 0" }, "/v1/clients/C1",
                  " ACED_PEER=\"uid 0\" ACED_CHANNEL=local ACED_METHOD=GET" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(freep) char *lines = lines_of(world, &cases[i].peer, cases[i].target);

                if (!strstr(lines, cases[i].says))
                        fail_msg("%zu: %s", i, lines);
        }
}

/* ---- what OpenSSL holds */

static size_t ssl_in_use;
static unsigned n_ssl_taken;

static void *ssl_realloc(void *memory, size_t size, const char *file, int line) {
        size_t before = memory ? malloc_usable_size(memory) : 0;
        void *moved = NULL;

        if (size == 0)
                free(memory);
        else if (!(moved = realloc(memory, size)))
                return NULL;
        n_ssl_taken += moved != NULL;
        ssl_in_use += (moved ? malloc_usable_size(moved) : 0) - before;
        return moved;
}

static void *ssl_malloc(size_t size, const char *file, int line) {
        return size > 0 ? ssl_realloc(NULL, size, file, line) : NULL;
}

static void ssl_free(void *memory, const char *file, int line) {
        if (memory)
                (void)ssl_realloc(memory, 0, file, line);
}

/* How much OpenSSL had to take for two tokens of one batch. */
static unsigned taken_for_tokens(struct world *world) {
        struct call calls[2];

        for (size_t i = 0; i < N_ELEMENTS(calls); i++)
                call_token(&calls[i], world);
        n_ssl_taken = 0;
        run(&world->as, calls, N_ELEMENTS(calls));
        for (size_t i = 0; i < N_ELEMENTS(calls); i++) {
                assert_int_equal(calls[i].work.response.code, CODE_CREATED);
                call_done(&calls[i]);
        }
        return n_ssl_taken;
}

/* What is set up for the tokens of a batch serves all of them, and goes with it: it has a server's key in it. */
static void test_nothing_outlasts_a_batch(void **state) {
        struct world *world = *state;
        unsigned n_alone;
        size_t before;

        (void)taken_for_tokens(world); /* what OpenSSL keeps from its first use on */
        before = ssl_in_use;
        n_alone = taken_for_tokens(world);
        assert_true(ssl_in_use == before && before > 0);
        world->as.aead = aead_new();
        assert_non_null(world->as.aead);
        assert_true(taken_for_tokens(world) < n_alone);
        assert_int_equal(ssl_in_use, before);
        aead_free(world->as.aead);
        world->as.aead = NULL;
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_resources),
                cmocka_unit_test(test_why_is_printable),
                cmocka_unit_test(test_payload_is_wiped),
                cmocka_unit_test(test_query),
                cmocka_unit_test_setup_teardown(test_admission, setup, teardown),
                cmocka_unit_test_setup_teardown(test_amplification, setup, teardown),
                cmocka_unit_test_setup_teardown(test_decisions_are_numbered, setup, teardown),
                cmocka_unit_test_setup_teardown(test_strangers_fill_no_log, setup, teardown),
                cmocka_unit_test_setup_teardown(test_log_tells_the_credential, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nothing_outlasts_a_batch, setup, teardown),
                cmocka_unit_test_setup_teardown(test_local_error_is_json, setup, teardown),
                cmocka_unit_test_setup_teardown(test_refused_leaves_nothing, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reused_refresh_token_revokes_once, setup, teardown),
                cmocka_unit_test_setup_teardown(test_empty_batch, setup, teardown),
                cmocka_unit_test_setup_teardown(test_random_failure, setup, teardown),
                cmocka_unit_test_setup_teardown(test_random_failure_of_material, setup, teardown),
                cmocka_unit_test_setup_teardown(test_numbers_run_out, setup, teardown),
                cmocka_unit_test_setup_teardown(test_commit_fails, setup_file, teardown),
                cmocka_unit_test_setup_teardown(test_reads_write_nothing, setup_file, teardown),
                cmocka_unit_test_setup_teardown(test_begin_fails, setup_file, teardown),
                cmocka_unit_test_setup_teardown(test_server_without_key, setup_file, teardown),
        };

        log_set_level(LOG_LEVEL_ERROR);
        if (CRYPTO_set_mem_functions(ssl_malloc, ssl_realloc, ssl_free) != 1)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
