#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "base/log.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/router.h"
#include "format/cbor.h"
#include "format/coap.h"
#include "format/cose.h"
#include "store/store.h"
#include "support/answers.h"
#include "support/dtls_client.h"
#include "support/fake.h"
#include "support/parties.h"
#include "transport/engine.h"
#include "transport/translate.h"

/*
 * From bytes in to bytes out: a GnuTLS client in this process, the store in memory, time as a number.
 */
#define MS INT64_C(1000)
#define S (1000 * MS)
#define START_S 1700000000
#define START_US (1000 * S)
#define DEVICES 8
#define PLAIN_PORT 5000 /* of the first plain device; with DTLS, the n-th device has port n */
#define DATAGRAM_MAX 16384

/* ---- the world: one engine, clients "c0".. that may read at rs1, rs1 with identity "rs1" */

struct world {
        struct config *config;
        struct store *store;
        struct aced as;
        struct engine *engine;
        struct engine_time now;
        struct device *devices[DEVICES]; /* who hears what is sent to port n */
        struct buf plain;                /* the last datagram to a plain port */
        unsigned n_plain;
};

struct device {
        struct world *world;
        struct dtls_client *dtls;
        struct address remote;
        struct buf heard; /* the last message */
        uint16_t mid;
};

static void fill_store(struct store *store) {
        char name[8];

        assert_int_equal(store_begin(store), 0);
        party_add_server(store, "rs1");
        for (unsigned i = 0; i < DEVICES; i++) {
                snprintf(name, sizeof(name), "c%u", i);
                party_add_client(store, name, NULL, "read");
        }
        assert_int_equal(store_commit(store), 0);
}

/* path NULL: in memory */
static void world_open(struct world *world, const char *path) {
        static const uint8_t seal_key[32] = { 1 };
        struct diags diags = {};

        *world = (struct world){ .now = { START_US, START_S }, .plain = BUF_INIT(DATAGRAM_MAX) };
        log_set_level(0); /* what is refused here is refused on purpose */
        fake_random_seed(11);
        assert_int_equal(config_load(NULL, &world->config, &diags), 0);
        assert_int_equal(store_open(&(struct store_options){ .path = path, .seal_key = bytes_of(seal_key, 32) },
                                    &world->store, &diags), 0);
        fill_store(world->store);
        world->as = (struct aced){ .config = world->config, .store = world->store, .started_s = START_S };
        assert_int_equal(engine_new(&world->as, &world->engine), 0);
}

static void world_close(struct world *world) {
        engine_free(world->engine);
        store_free(world->store);
        config_free(world->config);
        buf_done(&world->plain);
}

static int64_t n_tokens(const struct world *world) {
        struct store_status status;

        assert_int_equal(store_status(world->store, &status), 0);
        return status.n_tokens;
}

static struct engine_figures figures(const struct world *world) {
        struct engine_figures ret;

        engine_figures(world->engine, &ret);
        return ret;
}

static void wait_us(struct world *world, int64_t us) {
        world->now.monotonic_us += us;
        world->now.wall_s = START_S + (world->now.monotonic_us - START_US) / S;
}

static void input(struct world *world, enum door door, const struct address *remote, struct bytes data) {
        engine_input(world->engine, &(struct datagram){ .door = door, .socket = 3, .remote = *remote, .data = data },
                     world->now);
}

/* Everything that the engine has to say goes to who it is for. */
static void deliver(struct world *world) {
        const struct datagram *datagrams;
        size_t n = engine_output(world->engine, &datagrams);

        for (size_t i = 0; i < n; i++) {
                unsigned port = ntohs(datagrams[i].remote.in.sin_port);

                assert_int_equal(datagrams[i].socket, 3);
                if (datagrams[i].door == DOOR_COAP) {
                        buf_clear(&world->plain);
                        assert_int_equal(buf_add(&world->plain, datagrams[i].data), 0);
                        world->n_plain++;
                } else if (port < DEVICES && world->devices[port]) {
                        dtls_client_input(world->devices[port]->dtls, datagrams[i].data);
                }
        }
        engine_sent(world->engine);
        assert_int_equal(engine_output(world->engine, &datagrams), 0);
}

/* ---- devices */

static void device_flush(struct device *device) {
        _cleanup_(buf_done) struct buf datagram = BUF_INIT(DATAGRAM_MAX);

        while (dtls_client_output(device->dtls, &datagram))
                input(device->world, DOOR_COAPS, &device->remote, buf_bytes(&datagram));
}

static int device_handshake(struct device *device, const char *identity) {
        struct world *world = device->world;
        uint8_t key[PARTY_KEY_SIZE];
        int r;

        party_key(identity, key);
        assert_int_equal(dtls_client_new(&(struct dtls_client_options){ .identity = bytes_text(identity),
                                                                        .key = bytes_of(key, sizeof(key)) },
                                         &device->dtls), 0);
        for (unsigned i = 0; i < 20 && (r = dtls_client_handshake(device->dtls)) == -EAGAIN; i++) {
                device_flush(device);
                engine_run(world->engine, world->now);
                deliver(world);
        }
        return r;
}

static void device_open(struct world *world, struct device *device, unsigned n, const char *identity) {
        *device = (struct device){ .world = world, .remote = party_address(n), .heard = BUF_INIT(1 << 17), .mid = 100 };
        world->devices[n] = device;
        assert_int_equal(device_handshake(device, identity), 0);
}

static void device_done(struct device *device) {
        for (unsigned i = 0; i < DEVICES; i++)
                if (device->world->devices[i] == device)
                        device->world->devices[i] = NULL;
        dtls_client_free(device->dtls);
        buf_done(&device->heard);
}

/* ---- what is asked */

struct ask {
        enum coap_type type;
        uint8_t code;
        const char *path; /* without the first slash */
        int content_format, accept; /* CF_NONE: not given */
        uint16_t option;  /* one more, with value; 0: none */
        struct bytes value, payload;
        uint8_t token;
};

/* Each has defaults, of which a case may say another. */
#pragma GCC diagnostic ignored "-Woverride-init"
#pragma GCC diagnostic ignored "-Woverride-init-side-effects"

/* { 5: "rs1", 9: "read" } */
#define TOKEN_REQUEST BYTES_LITERAL("\xa2\x05\x63rs1\x09\x64read")
#define TOKEN_ASK(...) ((struct ask){ .code = CODE_POST, .path = "token", .content_format = CF_ACE_CBOR, \
                                      .accept = CF_NONE, .payload = TOKEN_REQUEST, .token = 0x77, ##__VA_ARGS__ })
#define GET_ASK(where, ...) ((struct ask){ .code = CODE_GET, .path = where, .content_format = CF_NONE, \
                                           .accept = CF_NONE, .token = 0x77, ##__VA_ARGS__ })

static void compose(const struct ask *ask, uint16_t mid, struct buf *ret) {
        struct coap_message message = { .type = ask->type, .code = ask->code, .mid = mid,
                                        .token = bytes_of(&ask->token, 1), .payload = ask->payload };
        uint8_t scratch[2][4];

        for (const char *at = ask->path; at && *at; at += strspn(at, "/")) {
                struct bytes segment = bytes_of(at, strcspn(at, "/"));

                assert_int_equal(coap_message_add(&message, OPTION_URI_PATH, segment), 0);
                at += segment.size;
        }
        if (ask->content_format != CF_NONE)
                coap_message_add_uint(&message, OPTION_CONTENT_FORMAT, (uint32_t)ask->content_format, scratch[0]);
        if (ask->accept != CF_NONE)
                coap_message_add_uint(&message, OPTION_ACCEPT, (uint32_t)ask->accept, scratch[1]);
        if (ask->option != 0)
                coap_message_add(&message, ask->option, ask->value);
        buf_clear(ret);
        assert_int_equal(coap_message_encode(&message, ret), 0);
}

static void send_bytes(struct device *device, struct bytes message) {
        assert_int_equal(dtls_client_send(device->dtls, message), 0);
        device_flush(device);
}

static void send_ask(struct device *device, const struct ask *ask) {
        _cleanup_(buf_done) struct buf message = BUF_INIT(1 << 17);

        compose(ask, ++device->mid, &message);
        send_bytes(device, buf_bytes(&message));
}

/* The next message that came; false when there is none. It borrows from device->heard. */
static bool hear(struct device *device, struct coap_message *ret) {
        bool header_ok;

        deliver(device->world);
        if (dtls_client_receive(device->dtls, &device->heard) != 0)
                return false;
        assert_int_equal(coap_message_decode(buf_bytes(&device->heard), ret, &header_ok), 0);
        return true;
}

static void run(struct world *world) {
        while (engine_run(world->engine, world->now))
                ;
}

static struct coap_message ask(struct device *device, const struct ask *what) {
        struct coap_message answer;

        send_ask(device, what);
        run(device->world);
        assert_true(hear(device, &answer));
        assert_int_equal(answer.type, TYPE_ACK);
        assert_int_equal(answer.mid, device->mid);
        assert_true(bytes_equal(answer.token, bytes_of(&what->token, 1)));
        return answer;
}

/* ---- a token */

struct claims {
        struct cbor_item aud, scope, cnf, exp;
};

static void t_token(void **state) {
        static const struct cbor_field fields[] = {
                { CLAIM_AUD, CBOR_TEXT, offsetof(struct claims, aud) },
                { CLAIM_SCOPE, CBOR_TEXT, offsetof(struct claims, scope) },
                { CLAIM_CNF, CBOR_MAP, offsetof(struct claims, cnf) },
                { CLAIM_EXP, CBOR_UINT, offsetof(struct claims, exp) },
        };
        _cleanup_(buf_done) struct buf plain = BUF_INIT(1024);
        struct coap_message answer;
        struct token_answer token;
        struct claims claims;
        struct device device;
        struct world world;

        world_open(&world, NULL);
        device_open(&world, &device, 0, "c0");
        assert_int_equal(n_tokens(&world), 0);
        answer = ask(&device, &TOKEN_ASK());
        read_token_answer(&answer, &token);
        assert_true(answer.payload.size <= 160);
        assert_int_equal(n_tokens(&world), 1);

        assert_int_equal(cose_encrypt0_open(token.access_token.content, bytes_of(party_token_key, PARTY_KEY_SIZE),
                                            &plain), 0);
        assert_int_equal(cbor_map(buf_bytes(&plain), fields, N_ELEMENTS(fields), &claims), 0);
        assert_true(bytes_equal(claims.aud.content, BYTES_LITERAL("rs1")));
        assert_true(bytes_equal(claims.scope.content, BYTES_LITERAL("read")));
        assert_true(bytes_equal(claims.cnf.raw, token.cnf.raw));
        assert_int_equal(claims.exp.argument, START_S + token.expires_in.argument);
        device_done(&device);
        world_close(&world);
}

static void t_introspection(void **state) {
        _cleanup_(buf_done) struct buf payload = BUF_INIT(1024);
        struct cbor_writer w = CBOR_WRITER(&payload);
        struct device client, server;
        struct coap_message answer;
        struct token_answer token;
        struct world world;

        world_open(&world, NULL);
        device_open(&world, &client, 0, "c0");
        device_open(&world, &server, 1, "rs1");
        answer = ask(&client, &TOKEN_ASK());
        read_token_answer(&answer, &token);
        cbor_put_map(&w, 1);
        cbor_put_uint(&w, INTRO_TOKEN);
        cbor_put_bytes(&w, token.access_token.content);
        assert_int_equal(cbor_end(&w), 0);
        answer = ask(&server, &TOKEN_ASK(.path = "introspect", .payload = buf_bytes(&payload)));
        assert_int_equal(answer.code, CODE_CREATED);
        assert_non_null(bytes_find(answer.payload, BYTES_LITERAL("\x0a\xf5"))); /* active: true */
        answer = ask(&client, &TOKEN_ASK(.path = "introspect", .payload = buf_bytes(&payload)));
        assert_int_equal(answer.code, CODE_FORBIDDEN);
        device_done(&client);
        device_done(&server);
        world_close(&world);
}

/* RFC 7252 §4.5 through all layers: a POST that comes again runs once, and the answer is the same bytes. */
static void t_retransmitted_post(void **state) {
        _cleanup_(buf_done) struct buf message = BUF_INIT(1024), first = BUF_INIT(1024);
        struct coap_message answer;
        struct device device;
        struct world world;

        world_open(&world, NULL);
        device_open(&world, &device, 0, "c0");
        compose(&TOKEN_ASK(), 4711, &message);
        send_bytes(&device, buf_bytes(&message));
        send_bytes(&device, buf_bytes(&message)); /* while it waits */
        run(&world);
        assert_true(hear(&device, &answer));
        buf_add(&first, buf_bytes(&device.heard));
        assert_false(hear(&device, &answer));

        for (unsigned i = 0; i < 3; i++) { /* while the answer is lost on its way */
                wait_us(&world, 20 * S);
                send_bytes(&device, buf_bytes(&message));
                run(&world);
                assert_true(hear(&device, &answer));
                assert_true(bytes_equal(buf_bytes(&device.heard), buf_bytes(&first)));
        }
        assert_int_equal(n_tokens(&world), 1);
        assert_int_equal(figures(&world).n_duplicates, 4);
        assert_int_equal(figures(&world).n_requests, 1);
        device_done(&device);
        world_close(&world);
}

/* ---- batches */

static void t_batch_is_one_commit(void **state) {
        struct device devices[4];
        struct coap_message answer;
        struct token_answer token;
        struct world world;
        uint64_t n_before;

        world_open(&world, NULL);
        for (unsigned i = 0; i < 4; i++)
                device_open(&world, &devices[i], i, (const char *[]){ "c0", "c1", "c2", "c3" }[i]);
        n_before = figures(&world).n_batches;
        for (unsigned i = 0; i < 12; i++)
                send_ask(&devices[i % 4], &TOKEN_ASK(.token = (uint8_t)i));
        assert_int_equal(figures(&world).n_pending, 12);
        assert_true(engine_due(world.engine) <= world.now.monotonic_us);
        assert_false(engine_run(world.engine, world.now));
        assert_int_equal(figures(&world).n_batches, n_before + 1);
        assert_int_equal(figures(&world).n_pending, 0);
        for (unsigned i = 0; i < 12; i++) {
                assert_true(hear(&devices[i % 4], &answer));
                assert_int_equal(answer.token.data[0], i);
                read_token_answer(&answer, &token);
        }
        assert_int_equal(n_tokens(&world), 12);

        world.config->batch_max = 5;
        engine_reconfigure(world.engine);
        for (unsigned i = 0; i < 12; i++)
                send_ask(&devices[i % 4], &TOKEN_ASK());
        assert_true(engine_run(world.engine, world.now));
        assert_int_equal(n_tokens(&world), 17);
        assert_true(engine_run(world.engine, world.now));
        assert_false(engine_run(world.engine, world.now));
        assert_int_equal(figures(&world).n_batches, n_before + 4);
        assert_int_equal(n_tokens(&world), 24);
        for (unsigned i = 0; i < 4; i++)
                device_done(&devices[i]);
        world_close(&world);
}

/* No file may grow: what a full disk or a quota does to a commit. */
static struct rlimit forbid_growth(void) {
        struct rlimit before, limit;

        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        limit = before;
        limit.rlim_cur = 512;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        return before;
}

static void remove_directory(const char *directory) {
        static const char *const names[] = { "db", "db-wal", "db-shm" };
        char path[128];

        for (size_t i = 0; i < N_ELEMENTS(names); i++) {
                snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
                unlink(path);
        }
        assert_int_equal(rmdir(directory), 0);
}

static void t_commit_fails(void **state) {
        char directory[] = "/tmp/aced-test-engine-XXXXXX", path[64];
        struct coap_message answer;
        struct token_answer token;
        struct device devices[3];
        struct rlimit limit;
        struct world world;

        assert_non_null(mkdtemp(directory));
        snprintf(path, sizeof(path), "%s/db", directory);
        world_open(&world, path);
        for (unsigned i = 0; i < 3; i++)
                device_open(&world, &devices[i], i, (const char *[]){ "c0", "c1", "c2" }[i]);
        answer = ask(&devices[0], &TOKEN_ASK());
        read_token_answer(&answer, &token);

        limit = forbid_growth();
        for (unsigned i = 0; i < 6; i++)
                send_ask(&devices[i % 3], &TOKEN_ASK());
        send_ask(&devices[0], &GET_ASK(".well-known/core"));
        run(&world);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        for (unsigned i = 0; i < 6; i++) {
                assert_true(hear(&devices[i % 3], &answer));
                if (answer.code != CODE_INTERNAL_ERROR && answer.code != CODE_UNAVAILABLE)
                        fail_msg("answer %u: code %02x", i, answer.code);
                assert_int_equal(answer.payload.size, 0);
        }
        assert_true(hear(&devices[0], &answer)); /* what needs no store is not concerned */
        assert_int_equal(answer.code, CODE_CONTENT);
        assert_int_equal(n_tokens(&world), 1);

        for (unsigned i = 0; i < 3; i++) {
                answer = ask(&devices[i], &TOKEN_ASK());
                read_token_answer(&answer, &token);
        }
        assert_int_equal(n_tokens(&world), 4);
        for (unsigned i = 0; i < 3; i++)
                device_done(&devices[i]);
        world_close(&world);
        remove_directory(directory);
}

/* Datagrams that overtake each other: every answer goes with its own request. */
static void t_wrong_order(void **state) {
        _cleanup_(buf_done) struct buf message = BUF_INIT(1024);
        struct buf records[6];
        struct coap_message answer;
        struct device device;
        struct world world;
        unsigned seen = 0;

        world_open(&world, NULL);
        device_open(&world, &device, 0, "c0");
        for (unsigned i = 0; i < 6; i++) {
                compose(&TOKEN_ASK(.token = (uint8_t)i), (uint16_t)(10 + i), &message);
                assert_int_equal(dtls_client_send(device.dtls, buf_bytes(&message)), 0);
                records[i] = BUF_INIT(1024);
                assert_true(dtls_client_output(device.dtls, &records[i]));
        }
        for (unsigned i = 6; i-- > 0;) {
                input(&world, DOOR_COAPS, &device.remote, buf_bytes(&records[i]));
                input(&world, DOOR_COAPS, &device.remote, buf_bytes(&records[i])); /* the network's own copy */
                buf_done(&records[i]);
        }
        run(&world);
        while (hear(&device, &answer)) {
                assert_int_equal(answer.code, CODE_CREATED);
                assert_int_equal(answer.mid, 10 + answer.token.data[0]);
                seen |= 1u << answer.token.data[0];
        }
        assert_int_equal(seen, 0x3f);
        assert_int_equal(n_tokens(&world), 6);
        device_done(&device);
        world_close(&world);
}

/* ---- every way to say no, over DTLS; the session goes on */

static const char long_path[] = "1/2/3/4/5/6/7/8/9";
static const uint8_t large[9000];

static void t_refusals(void **state) {
        const struct {
                const char *what;
                struct ask ask;
                uint8_t code;
        } cases[] = {
                { "no such path", GET_ASK("nowhere"), CODE_NOT_FOUND },
                { "root", GET_ASK(""), CODE_NOT_FOUND },
                { "longer path than any", GET_ASK(long_path), CODE_NOT_FOUND },
                { "administration is not here", GET_ASK("v1/status"), CODE_NOT_FOUND },
                { "GET /token", GET_ASK("token"), CODE_METHOD_NOT_ALLOWED },
                { "unknown method", TOKEN_ASK(.code = 12), CODE_METHOD_NOT_ALLOWED },
                { "Accept CBOR", TOKEN_ASK(.accept = CF_CBOR), CODE_NOT_ACCEPTABLE },
                { "CBOR, not ACE", TOKEN_ASK(.content_format = CF_CBOR), CODE_UNSUPPORTED_FORMAT },
                { "no format", TOKEN_ASK(.content_format = CF_NONE), CODE_UNSUPPORTED_FORMAT },
                { "too large", TOKEN_ASK(.payload = bytes_of(large, 8193)), CODE_TOO_LARGE },
                { "much too large", TOKEN_ASK(.payload = bytes_of(large, 8800)), CODE_TOO_LARGE },
                { "first of several blocks", TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x08"),
                                                       .payload = bytes_of(large, 16)), CODE_CONTINUE },
                { "a block of less than it says", TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x08"),
                                                            .payload = bytes_of(large, 15)), CODE_BAD_REQUEST },
                { "a block that leaves a gap", TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x20"),
                                                         .payload = bytes_of(large, 16)), CODE_INCOMPLETE },
                { "a block behind the limit", TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x86"),
                                                        .payload = bytes_of(large, 1)), CODE_TOO_LARGE },
                { "a later block of nothing", TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x16")),
                  CODE_INCOMPLETE },
                { "first block for a path that is not there", TOKEN_ASK(.path = "nowhere", .option = OPTION_BLOCK1,
                  .value = BYTES_LITERAL("\x08"), .payload = bytes_of(large, 16)), CODE_NOT_FOUND },
                { "first block in a format not read", TOKEN_ASK(.content_format = CF_CBOR, .option = OPTION_BLOCK1,
                  .value = BYTES_LITERAL("\x08"), .payload = bytes_of(large, 16)), CODE_UNSUPPORTED_FORMAT },
                { "more than its block", TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x00"),
                                                   .payload = bytes_of(large, 17)), CODE_BAD_REQUEST },
                { "reserved block size", TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x07")),
                  CODE_BAD_REQUEST },
                { "block option of four bytes", TOKEN_ASK(.option = OPTION_BLOCK2, .value = BYTES_LITERAL("\0\0\0\0")),
                  CODE_BAD_OPTION },
                { "later block of no answer", TOKEN_ASK(.option = OPTION_BLOCK2, .value = BYTES_LITERAL("\x16")),
                  CODE_INCOMPLETE },
                { "unknown critical option", TOKEN_ASK(.option = 4001), CODE_BAD_OPTION },
                { "If-None-Match", TOKEN_ASK(.option = OPTION_IF_NONE_MATCH), CODE_BAD_OPTION },
                { "Proxy-Uri", TOKEN_ASK(.option = OPTION_PROXY_URI, .value = BYTES_LITERAL("coap://a")),
                  CODE_PROXYING_NOT_SUPPORTED },
                { "Proxy-Scheme", TOKEN_ASK(.option = OPTION_PROXY_SCHEME, .value = BYTES_LITERAL("coap")),
                  CODE_PROXYING_NOT_SUPPORTED },
                { "no CBOR", TOKEN_ASK(.payload = BYTES_LITERAL("\xff")), CODE_BAD_REQUEST },
                { "nothing wrong", TOKEN_ASK(), CODE_CREATED },
                { "whole body in a block", TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x06")),
                  CODE_CREATED },
                { "block size for the answer", TOKEN_ASK(.option = OPTION_BLOCK2, .value = BYTES_LITERAL("\x06")),
                  CODE_CREATED },
                { "Uri-Host", TOKEN_ASK(.option = OPTION_URI_HOST, .value = BYTES_LITERAL("elsewhere")), CODE_CREATED },
                { "Uri-Port", TOKEN_ASK(.option = OPTION_URI_PORT, .value = BYTES_LITERAL("\x01")), CODE_CREATED },
                { "No-Response", TOKEN_ASK(.option = OPTION_NO_RESPONSE, .value = BYTES_LITERAL("\x1a")),
                  CODE_CREATED },
                { "Observe", TOKEN_ASK(.option = OPTION_OBSERVE), CODE_CREATED },
                { "unknown elective option", TOKEN_ASK(.option = 4000), CODE_CREATED },
                { "Accept ACE", TOKEN_ASK(.accept = CF_ACE_CBOR), CODE_CREATED },
        };
        struct coap_message answer;
        int64_t n_created = 0;
        struct device device;
        struct world world;

        world_open(&world, NULL);
        device_open(&world, &device, 0, "c0");
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                answer = ask(&device, &cases[i].ask);
                if (answer.code != cases[i].code)
                        fail_msg("%s: code %02x", cases[i].what, answer.code);
                n_created += answer.code == CODE_CREATED;
                if (n_tokens(&world) != n_created)
                        fail_msg("%s: tokens", cases[i].what);
                if (answer.code == CODE_TOO_LARGE && option_of(&answer, OPTION_SIZE1) != world.config->payload_max)
                        fail_msg("%s: Size1", cases[i].what);
                if (answer.code == CODE_CREATED && cases[i].ask.option == OPTION_BLOCK1)
                        assert_int_equal(option_of(&answer, OPTION_BLOCK1), 6);
        }
        device_done(&device);
        world_close(&world);
}

static void t_too_many_queries(void **state) {
        struct coap_message message = { .code = CODE_GET };
        struct request request;
        struct block_asks asks;

        for (unsigned i = 0; i < QUERIES_MAX; i++)
                assert_int_equal(coap_message_add(&message, OPTION_URI_QUERY, BYTES_LITERAL("a=b")), 0);
        assert_int_equal(translate_request(&message, 1024, &request, &asks), 0);
        assert_int_equal(request.n_queries, QUERIES_MAX);
        assert_int_equal(coap_message_add(&message, OPTION_URI_QUERY, BYTES_LITERAL("a=b")), 0);
        assert_int_equal(translate_request(&message, 1024, &request, &asks), REFUSE_BAD_OPTION);
}

static void t_unknown_identity(void **state) {
        struct device device = { .heard = BUF_INIT(1024) };
        struct world world;

        world_open(&world, NULL);
        device.world = &world;
        device.remote = party_address(0);
        world.devices[0] = &device;
        assert_int_equal(device_handshake(&device, "mallory"), -EPROTO);
        assert_int_equal(dtls_client_alert(device.dtls), 115);
        assert_int_equal(figures(&world).n_requests, 0);
        device_done(&device);
        world_close(&world);
}

static void t_ping(void **state) {
        struct coap_message answer;
        struct device device;
        struct world world;

        world_open(&world, NULL);
        device_open(&world, &device, 0, "c0");
        send_bytes(&device, BYTES_LITERAL("\x40\x00\x12\x34"));
        assert_true(hear(&device, &answer));
        assert_int_equal(answer.type, TYPE_RST);
        assert_int_equal(answer.mid, 0x1234);
        send_bytes(&device, BYTES_LITERAL("garbage"));
        assert_false(hear(&device, &answer));
        answer = ask(&device, &TOKEN_ASK());
        assert_int_equal(answer.code, CODE_CREATED);
        device_done(&device);
        world_close(&world);
}

/* A transfer is one request, however many blocks it has: it does not use up what its peer may ask. */
static void t_blocks_are_charged_once(void **state) {
        struct coap_message answer;
        struct device device;
        struct world world;

        world_open(&world, NULL);
        world.config->peer_request_rate = 1;
        world.config->peer_request_burst = 4; /* the session's beginning is one */
        engine_reconfigure(world.engine);
        device_open(&world, &device, 0, "c0");
        for (uint8_t n = 0; n < 12; n++) {
                const uint8_t block = (uint8_t)(n << 4 | 8);

                answer = ask(&device, &TOKEN_ASK(.option = OPTION_BLOCK1, .value = bytes_of(&block, 1),
                                                 .payload = bytes_of(large, 16)));
                assert_int_equal(answer.code, CODE_CONTINUE);
        }
        assert_int_equal(figures(&world).blocks.n_bodies, 1);
        for (unsigned n = 0; n < 4; n++) /* the first block again and again is another transfer each time */
                answer = ask(&device, &TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x08"),
                                                 .payload = bytes_of(large, 16)));
        assert_int_equal(answer.code, CODE_TOO_MANY_REQUESTS);
        device_done(&device);
        world_close(&world);
}

/* ---- more than there is room for */

static void t_overload(void **state) {
        struct device devices[3];
        struct coap_message answer;
        struct world world;

        world_open(&world, NULL);
        for (unsigned i = 0; i < 3; i++)
                device_open(&world, &devices[i], i, (const char *[]){ "c0", "c1", "c2" }[i]);
        world.config->pending_max = 4;
        engine_reconfigure(world.engine);
        for (unsigned i = 0; i < 9; i++)
                send_ask(&devices[i / 3], &TOKEN_ASK());
        /* half of the room is all that one peer gets; when the room is full it is full for everybody */
        for (unsigned i = 0; i < 3; i++) {
                assert_true(hear(&devices[i], &answer));
                assert_int_equal(answer.code, i == 0 ? CODE_TOO_MANY_REQUESTS : CODE_UNAVAILABLE);
                assert_int_equal(option_of(&answer, OPTION_MAX_AGE), RETRY_AFTER_S);
                assert_int_equal(hear(&devices[i], &answer), i == 2);
        }
        assert_true(hear(&devices[2], &answer));
        assert_int_equal(answer.code, CODE_UNAVAILABLE);
        assert_int_equal(figures(&world).n_refused_overload, 5);
        assert_int_equal(figures(&world).n_pending, 4);
        run(&world);
        for (unsigned i = 0; i < 4; i++) {
                assert_true(hear(&devices[i / 2], &answer));
                assert_int_equal(answer.code, CODE_CREATED);
        }
        answer = ask(&devices[2], &TOKEN_ASK());
        assert_int_equal(answer.code, CODE_CREATED);
        assert_int_equal(n_tokens(&world), 5);
        for (unsigned i = 0; i < 3; i++)
                device_done(&devices[i]);
        world_close(&world);
}

/* ---- sessions that end */

static void t_closed_while_waiting(void **state) {
        struct coap_message answer;
        struct device device, other;
        struct world world;

        world_open(&world, NULL);
        device_open(&world, &device, 0, "c0");
        device_open(&world, &other, 1, "c1");
        send_ask(&device, &TOKEN_ASK());
        send_ask(&other, &TOKEN_ASK());
        send_ask(&device, &TOKEN_ASK());
        dtls_client_close(device.dtls);
        device_flush(&device);
        assert_int_equal(figures(&world).n_sessions, 1);
        run(&world);
        assert_true(hear(&other, &answer));
        assert_int_equal(answer.code, CODE_CREATED);
        assert_int_equal(n_tokens(&world), 1);
        assert_int_equal(figures(&world).n_pending, 0);
        device_done(&device);

        device_open(&world, &device, 0, "c0"); /* from the same address */
        answer = ask(&device, &TOKEN_ASK());
        assert_int_equal(answer.code, CODE_CREATED);
        device_done(&device);
        device_done(&other);
        world_close(&world);
}

static void t_close_says_notify(void **state) {
        struct device devices[2];
        struct world world;

        world_open(&world, NULL);
        device_open(&world, &devices[0], 0, "c0");
        device_open(&world, &devices[1], 1, "c1");
        send_ask(&devices[0], &TOKEN_ASK()); /* never run */
        engine_close(world.engine, world.now);
        deliver(&world);
        for (unsigned i = 0; i < 2; i++)
                assert_int_equal(dtls_client_receive(devices[i].dtls, &devices[i].heard), -EPIPE);
        assert_int_equal(figures(&world).n_sessions, 0);
        device_done(&devices[0]);
        device_done(&devices[1]);
        world_close(&world);
}

/* ---- the coap door */

static void plain_send(struct world *world, unsigned port, struct bytes data) {
        struct address remote = party_address(port);

        input(world, DOOR_COAP, &remote, data);
        run(world);
        deliver(world);
}

/* One datagram from a new address; the number of datagrams that came back. */
static unsigned plain_ask(struct world *world, struct bytes data) {
        static unsigned port = PLAIN_PORT;
        unsigned n_before = world->n_plain;

        plain_send(world, ++port, data);
        return world->n_plain - n_before;
}

static void t_plain(void **state) {
        const struct {
                const char *what;
                struct ask ask;
                uint8_t code;
        } cases[] = {
                { "discovery", GET_ASK(".well-known/core"), CODE_CONTENT },
                { "non-confirmable discovery", GET_ASK(".well-known/core", .type = TYPE_NON), CODE_CONTENT },
                { "first block of discovery", GET_ASK(".well-known/core", .option = OPTION_BLOCK2), CODE_CONTENT },
                { "token", TOKEN_ASK(), CODE_UNAUTHORIZED },
                { "empty token request", TOKEN_ASK(.payload = BYTES_NONE), CODE_UNAUTHORIZED },
                { "introspection", TOKEN_ASK(.path = "introspect"), CODE_UNAUTHORIZED },
                { "administration", GET_ASK("v1/status"), CODE_NOT_FOUND },
                { "root", GET_ASK(""), CODE_NOT_FOUND },
                { "method", GET_ASK("token"), CODE_METHOD_NOT_ALLOWED },
                { "unknown method", GET_ASK("token", .code = 20), CODE_METHOD_NOT_ALLOWED },
                { "option", GET_ASK("", .option = 65001), CODE_BAD_OPTION },
                { "proxy", GET_ASK("", .option = OPTION_PROXY_SCHEME, .value = BYTES_LITERAL("c")),
                  CODE_PROXYING_NOT_SUPPORTED },
                { "large", TOKEN_ASK(.payload = bytes_of(large, 8193)), CODE_TOO_LARGE },
                { "first of several blocks", TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x08"),
                                                       .payload = bytes_of(large, 16)), CODE_UNAUTHORIZED },
                { "a later block", TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x10"),
                                             .payload = bytes_of(large, 16)), CODE_UNAUTHORIZED },
                { "blocks where no body is read", GET_ASK(".well-known/core", .option = OPTION_BLOCK1,
                  .value = BYTES_LITERAL("\x08"), .payload = bytes_of(large, 16)), CODE_TOO_LARGE },
        };
        _cleanup_(buf_done) struct buf message = BUF_INIT(DATAGRAM_MAX);
        struct coap_message answer;
        struct world world;
        bool header_ok;
        size_t size_max;

        world_open(&world, NULL);
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                compose(&cases[i].ask, 9, &message);
                if (plain_ask(&world, buf_bytes(&message)) != 1)
                        fail_msg("%s: not one answer", cases[i].what);
                assert_int_equal(coap_message_decode(buf_bytes(&world.plain), &answer, &header_ok), 0);
                if (answer.code != cases[i].code)
                        fail_msg("%s: code %02x", cases[i].what, answer.code);
                /* nobody can be flooded by us: design.md's bounds for those who are not authenticated */
                size_max = answer.code == CODE_CONTENT ? 3 * message.size - 1 : message.size;
                if (world.plain.size > size_max)
                        fail_msg("%s: %zu bytes for %zu", cases[i].what, world.plain.size, message.size);
        }
        assert_int_equal(n_tokens(&world), 0);

        assert_int_equal(plain_ask(&world, BYTES_LITERAL("\x40\x00\x12\x34")), 1);
        assert_true(bytes_equal(buf_bytes(&world.plain), BYTES_LITERAL("\x70\x00\x12\x34")));
        assert_int_equal(plain_ask(&world, BYTES_LITERAL("\x40\x01\x12\x34\xff")), 1);
        assert_true(bytes_equal(buf_bytes(&world.plain), BYTES_LITERAL("\x70\x00\x12\x34")));
        assert_int_equal(plain_ask(&world, BYTES_LITERAL("\x50\x00\x12\x34")), 0);
        assert_int_equal(plain_ask(&world, BYTES_LITERAL("\x60\x00\x12\x34")), 0);
        assert_int_equal(plain_ask(&world, BYTES_LITERAL("\x16\xfe\xfd garbage")), 0);
        assert_int_equal(plain_ask(&world, BYTES_NONE), 0);
        world_close(&world);
}

/* The links as they are for everybody, put together from blocks of 16 bytes, are the links as they come at once. */
static void t_discovery_in_blocks(void **state) {
        _cleanup_(buf_done) struct buf message = BUF_INIT(1024), whole = BUF_INIT(4096), parts = BUF_INIT(4096);
        struct coap_message answer = {};
        struct world world;
        bool header_ok;

        world_open(&world, NULL);
        compose(&GET_ASK(".well-known/core", .option = OPTION_URI_HOST, .value = BYTES_LITERAL("as")), 1, &message);
        assert_int_equal(plain_ask(&world, buf_bytes(&message)), 1);
        assert_int_equal(coap_message_decode(buf_bytes(&world.plain), &answer, &header_ok), 0);
        assert_int_equal(option_of(&answer, OPTION_BLOCK2), -1);
        buf_add(&whole, answer.payload);
        assert_non_null(bytes_find(buf_bytes(&whole), BYTES_LITERAL("</token>;rt=ace.token;osc,")));

        compose(&GET_ASK(".well-known/core"), 1, &message); /* three times this is too little for all */
        assert_int_equal(plain_ask(&world, buf_bytes(&message)), 1);
        assert_int_equal(coap_message_decode(buf_bytes(&world.plain), &answer, &header_ok), 0);
        assert_int_equal(option_of(&answer, OPTION_BLOCK2), 9);

        for (uint8_t n = 0; n == 0 || option_of(&answer, OPTION_BLOCK2) & 8; n++) {
                const uint8_t block = (uint8_t)(n << 4);

                compose(&GET_ASK(".well-known/core", .option = OPTION_BLOCK2, .value = bytes_of(&block, 1)), 2,
                        &message);
                assert_int_equal(plain_ask(&world, buf_bytes(&message)), 1);
                assert_int_equal(coap_message_decode(buf_bytes(&world.plain), &answer, &header_ok), 0);
                assert_int_equal(answer.code, CODE_CONTENT);
                assert_int_equal(option_of(&answer, OPTION_BLOCK2) & ~8, block);
                buf_add(&parts, answer.payload);
                assert_in_range(n, 0, 14);
        }
        assert_true(bytes_equal(buf_bytes(&parts), buf_bytes(&whole)));
        compose(&GET_ASK(".well-known/core", .option = OPTION_BLOCK2, .value = BYTES_LITERAL("\xf0")), 3, &message);
        assert_int_equal(plain_ask(&world, buf_bytes(&message)), 1);
        assert_int_equal(coap_message_decode(buf_bytes(&world.plain), &answer, &header_ok), 0);
        assert_int_equal(answer.code, CODE_BAD_REQUEST);
        world_close(&world);
}

/* An answer that is too long is cut when it can be asked for again, smaller than asked if need be; else it is 5.00. */
static void t_long_answers(void **state) {
        static const struct {
                const char *what;
                bool may_cut, may_keep;
                struct block asked;
                uint8_t code;
                size_t answer_size, size_max;
                uint8_t says;
                int64_t block2; /* -1: none */
                size_t payload_size;
        } cases[] = {
                { "fits", true, false, {}, CODE_CONTENT, 1000, 1152, CODE_CONTENT, -1, 1000 },
                { "does not fit", true, false, {}, CODE_CONTENT, 3000, 1152, CODE_CONTENT, 0 << 4 | 8 | 6, 1024 },
                { "second block", true, false, { true, false, 6, 1 }, CODE_CONTENT, 3000, 1152, CODE_CONTENT,
                  1 << 4 | 8 | 6, 1024 },
                { "last block", true, false, { true, false, 6, 2 }, CODE_CONTENT, 3000, 1152, CODE_CONTENT,
                  2 << 4 | 6, 952 },
                { "behind the last", true, false, { true, false, 6, 3 }, CODE_CONTENT, 3000, 1152, CODE_BAD_REQUEST,
                  -1, 0 },
                { "far behind", true, false, { true, false, 6, 0xfffff }, CODE_CONTENT, 3000, 1152, CODE_BAD_REQUEST,
                  -1, 0 },
                { "behind nothing", true, false, { true, false, 6, 1 }, CODE_CONTENT, 0, 1152, CODE_BAD_REQUEST,
                  -1, 0 },
                { "small room", true, false, {}, CODE_CONTENT, 3000, 64, CODE_CONTENT, 0 << 4 | 8 | 1, 32 },
                { "smaller than asked", true, false, { true, false, 4, 1 }, CODE_CONTENT, 3000, 64, CODE_CONTENT,
                  8 << 4 | 8 | 1, 32 },
                { "room for the block, not for its ETag", true, false, {}, CODE_CONTENT, 3000, 4 + 4 + 2 + 2 + 1 + 36,
                  CODE_CONTENT, 0 << 4 | 8 | 0, 16 },
                { "whole, a size asked", true, false, { true, false, 6, 0 }, CODE_CONTENT, 500, 1152, CODE_CONTENT, 6,
                  500 },
                { "no room", true, false, {}, CODE_CONTENT, 3000, 10, CODE_INTERNAL_ERROR, -1, 0 },
                { "POST does not fit", false, false, {}, CODE_CREATED, 3000, 1152, CODE_INTERNAL_ERROR, -1, 0 },
                { "POST does not fit and is kept", false, true, {}, CODE_CREATED, 3000, 1152, CODE_CREATED,
                  0 << 4 | 8 | 6, 1024 },
                { "POST, a size asked", false, true, { true, false, 0, 0 }, CODE_CREATED, 100, 1152, CODE_CREATED,
                  0 << 4 | 8 | 0, 16 },
                { "POST, a size asked, not to be kept", false, false, { true, false, 0, 0 }, CODE_CREATED, 100, 1152,
                  CODE_CREATED, -1, 100 },
                { "error does not fit", true, false, {}, CODE_UNAUTHORIZED, 20, 16, CODE_UNAUTHORIZED, -1, 0 },
                { "error, a size asked", true, false, { true, false, 0, 0 }, CODE_UNAUTHORIZED, 20, 1152,
                  CODE_UNAUTHORIZED, -1, 20 },
                { "error, a size asked, kept", false, true, { true, false, 0, 0 }, CODE_UNAUTHORIZED, 20, 1152,
                  CODE_UNAUTHORIZED, 0 << 4 | 8 | 0, 16 },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                const struct block_asks asks = { .may_cut = cases[i].may_cut, .may_keep = cases[i].may_keep,
                                                 .answer_block = cases[i].asked };
                _cleanup_(buf_done) struct buf message = BUF_INIT(4096);
                struct response response;
                struct answer answer;
                int64_t block2;

                response_init(&response);
                response.code = cases[i].code;
                response.content_format = CF_LINK_FORMAT;
                assert_int_equal(buf_add(&response.payload, bytes_of(large, cases[i].answer_size)), 0);
                translate_response(&response, &asks,
                                   &(struct answer_limits){ .size_max = cases[i].size_max, .token_size = 4 }, &answer);
                block2 = option_of(&answer.message, OPTION_BLOCK2);
                if (answer.is_part)
                        answer_put_etag(&answer, 1);
                if (answer.message.code != cases[i].says || block2 != cases[i].block2 ||
                    answer.message.payload.size != cases[i].payload_size)
                        fail_msg("%s: code %02x, Block2 %d, %zu bytes", cases[i].what, answer.message.code, (int)block2,
                                 answer.message.payload.size);
                answer.message.token = bytes_of("abcd", 4);
                assert_int_equal(coap_message_encode(&answer.message, &message), 0);
                assert_true(message.size <= cases[i].size_max);
                response_done(&response);
        }
}

/*
 * However many addresses ask: the least recently used is forgotten, and its duplicate runs again; a recent one's not.
 */
static void t_plain_peers_are_bounded(void **state) {
        _cleanup_(buf_done) struct buf message = BUF_INIT(1024);
        struct world world;
        uint64_t n;

        world_open(&world, NULL);
        world.config->source_request_rate = world.config->total_request_rate = 0;
        engine_reconfigure(world.engine);
        compose(&GET_ASK(".well-known/core"), 9, &message);
        for (unsigned i = 0; i < 1025; i++)
                plain_send(&world, 2000 + i, buf_bytes(&message));
        n = figures(&world).n_requests;
        assert_int_equal(n, 1025);
        plain_send(&world, 3024, buf_bytes(&message));
        plain_send(&world, 2001, buf_bytes(&message)); /* now the last used */
        assert_int_equal(figures(&world).n_requests, n);
        plain_send(&world, 2000, buf_bytes(&message));
        plain_send(&world, 2001, buf_bytes(&message));
        assert_int_equal(figures(&world).n_requests, n + 1);
        plain_send(&world, 2002, buf_bytes(&message));
        assert_int_equal(figures(&world).n_requests, n + 2);

        /* pings and garbage displace nobody */
        for (unsigned i = 0; i < 2000; i++)
                plain_send(&world, 10000 + i, BYTES_LITERAL("\x40\x00\x12\x34"));
        plain_send(&world, 2002, buf_bytes(&message));
        assert_int_equal(figures(&world).n_requests, n + 2);

        /* silence for EXCHANGE_LIFETIME: nothing is left, no timer either */
        wait_us(&world, 260 * S);
        run(&world);
        assert_true(engine_due(world.engine) == INT64_MAX);
        plain_send(&world, 2002, buf_bytes(&message));
        assert_int_equal(figures(&world).n_requests, n + 3);
        world_close(&world);
}

/* ---- rates */

/* One asks as fast as it can, in two sessions; the other one a hundred times, and is answered each time. */
static void t_greedy_peer_beside_a_modest_one(void **state) {
        unsigned n_granted = 0, n_refused = 0;
        struct coap_message answer;
        struct device greedy[2], modest;
        struct world world;

        world_open(&world, NULL);
        device_open(&world, &greedy[0], 0, "c0");
        device_open(&world, &greedy[1], 1, "c0");
        device_open(&world, &modest, 2, "c1");
        for (unsigned i = 0; i < 100; i++) {
                for (unsigned j = 0; j < 20; j++)
                        send_ask(&greedy[j % 2], &TOKEN_ASK());
                answer = ask(&modest, &TOKEN_ASK());
                assert_int_equal(answer.code, CODE_CREATED);
                for (unsigned j = 0; j < 2; j++)
                        while (hear(&greedy[j], &answer)) {
                                n_granted += answer.code == CODE_CREATED;
                                n_refused += answer.code == CODE_TOO_MANY_REQUESTS;
                                /* RFC 8516: from then on there is room, which with 50 a second is within one */
                                if (answer.code == CODE_TOO_MANY_REQUESTS)
                                        assert_int_equal(option_of(&answer, OPTION_MAX_AGE), 1);
                        }
                wait_us(&world, 100 * MS);
        }
        assert_int_equal(n_granted + n_refused, 2000);
        assert_in_range(n_granted, 198 + 10 * 50 - 5, 198 + 10 * 50); /* two of the burst went for handshakes */
        wait_us(&world, S);
        for (unsigned j = 0; j < 2; j++) {
                answer = ask(&greedy[j], &TOKEN_ASK());
                assert_int_equal(answer.code, CODE_CREATED);
                device_done(&greedy[j]);
        }
        device_done(&modest);
        world_close(&world);
}

/* The refusal is an answer like any other: its duplicate gets it again and is not charged. */
static void t_duplicate_of_a_refused_request(void **state) {
        _cleanup_(buf_done) struct buf message = BUF_INIT(1024);
        struct coap_message answer;
        struct device device;
        struct world world;

        world_open(&world, NULL);
        world.config->peer_request_rate = 1;
        world.config->peer_request_burst = 2; /* the handshake takes one */
        engine_reconfigure(world.engine);
        device_open(&world, &device, 0, "c0");
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        compose(&TOKEN_ASK(), 7, &message);
        for (unsigned i = 0; i < 3; i++) {
                send_bytes(&device, buf_bytes(&message));
                run(&world);
                assert_true(hear(&device, &answer));
                assert_int_equal(answer.code, CODE_TOO_MANY_REQUESTS);
                wait_us(&world, S / 2);
        }
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        device_done(&device);
        world_close(&world);
}

static void t_reload_changes_rates(void **state) {
        struct device device;
        struct world world;

        world_open(&world, NULL);
        device_open(&world, &device, 0, "c0");
        world.config->peer_request_rate = 1;
        world.config->peer_request_burst = 1;
        engine_reconfigure(world.engine);
        wait_us(&world, S);
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_TOO_MANY_REQUESTS);
        world.config->peer_request_rate = 0;
        engine_reconfigure(world.engine);
        for (unsigned i = 0; i < 300; i++)
                assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        device_done(&device);
        world_close(&world);
}

/* An anonymous source: a burst, then 4.29 that is not longer than what was asked and leaves no trace. */
static void t_plain_source_over_its_rate(void **state) {
        static const struct {
                struct ask ask;
                uint64_t n_out;
                int64_t max_age;
        } cases[] = {
                { GET_ASK(".well-known/core"), 1, 1 },
                { GET_ASK("token"), 1, 1 },
                { GET_ASK(NULL), 1, -1 }, /* six bytes with Max-Age, five were sent */
                { GET_ASK(".well-known/core", .type = TYPE_NON), 0, 0 },
                { { .type = TYPE_CON, .code = CODE_EMPTY }, 0, 0 },
        };
        _cleanup_(buf_done) struct buf message = BUF_INIT(1024);
        struct coap_message answer;
        struct world world;
        uint16_t mid = 0;
        bool header_ok;
        uint64_t n_out;

        world_open(&world, NULL);
        for (; mid < 100; mid++) {
                compose(&GET_ASK(".well-known/core"), mid, &message);
                plain_send(&world, PLAIN_PORT + mid % 7, buf_bytes(&message));
        }
        assert_int_equal(figures(&world).n_requests, 100);
        assert_int_equal(figures(&world).n_plain_peers, 7);
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                if (cases[i].ask.code == CODE_EMPTY) {
                        buf_clear(&message);
                        assert_int_equal(buf_add(&message, BYTES_LITERAL("\x40\x00\x12\x34")), 0);
                } else {
                        compose(&cases[i].ask, mid++, &message);
                }
                n_out = figures(&world).n_datagrams_out;
                plain_send(&world, PLAIN_PORT + 50, buf_bytes(&message));
                assert_int_equal(figures(&world).n_datagrams_out - n_out, cases[i].n_out);
                if (cases[i].n_out == 0)
                        continue;
                assert_int_equal(coap_message_decode(buf_bytes(&world.plain), &answer, &header_ok), 0);
                assert_int_equal(answer.type, TYPE_ACK);
                assert_int_equal(answer.code, CODE_TOO_MANY_REQUESTS);
                assert_int_equal(answer.mid, mid - 1);
                assert_true(bytes_equal(answer.token, BYTES_LITERAL("\x77")));
                assert_int_equal(option_of(&answer, OPTION_MAX_AGE), cases[i].max_age);
                assert_true(world.plain.size <= message.size);
        }
        assert_int_equal(figures(&world).n_requests, 100);
        assert_int_equal(figures(&world).n_plain_peers, 7);
        assert_int_equal(figures(&world).limit.n_refused_source[STRANGER_REQUEST], N_ELEMENTS(cases));
        wait_us(&world, S);
        plain_send(&world, PLAIN_PORT, buf_bytes(&message));
        assert_int_equal(figures(&world).limit.n_refused_source[STRANGER_REQUEST], N_ELEMENTS(cases));
        world_close(&world);
}

/* However often a whole fleet behind one address opens sessions, its address is not charged for those that complete. */
static void t_completed_handshakes_are_not_charged(void **state) {
        struct device device;
        struct world world;

        world_open(&world, NULL);
        world.config->source_handshake_rate = 1;
        world.config->source_handshake_burst = 2;
        engine_reconfigure(world.engine);
        for (unsigned i = 0; i < 50; i++) {
                device_open(&world, &device, i % DEVICES, (const char *[]){ "c0", "c1", "c2" }[i % 3]);
                device_done(&device);
        }
        assert_int_equal(figures(&world).n_handshakes_done, 50);
        assert_int_equal(figures(&world).limit.n_refused_source[STRANGER_HANDSHAKE], 0);
        world_close(&world);
}

/* One credential that does nothing but handshakes: as many as it may have requests, then what the address may. */
static void t_handshakes_of_one_credential_are_bounded(void **state) {
        struct device device = {};
        struct world world;
        int r = 0;

        world_open(&world, NULL);
        world.config->source_handshake_rate = 1;
        world.config->source_handshake_burst = 5;
        world.config->peer_request_rate = 1;
        world.config->peer_request_burst = 10;
        engine_reconfigure(world.engine);
        for (unsigned i = 0; i < 20 && r == 0; i++) {
                device = (struct device){ .world = &world, .remote = party_address(0), .heard = BUF_INIT(1 << 17) };
                world.devices[0] = &device;
                r = device_handshake(&device, "c0");
                device_done(&device);
        }
        assert_int_equal(r, -EAGAIN); /* no answer: the client will send its ClientHello again */
        assert_int_equal(figures(&world).n_handshakes_done, 15);
        assert_int_equal(figures(&world).n_sessions_half_open, 0); /* nothing was spent on it */
        assert_true(figures(&world).limit.n_refused_source[STRANGER_HANDSHAKE] > 0);
        wait_us(&world, S);
        device_open(&world, &device, 0, "c0");
        device_done(&device);
        world_close(&world);
}

static int64_t slow_clock_us; /* a commit takes 300 microseconds by it */

static int64_t slow_clock(void) {
        return slow_clock_us += 300;
}

/* Every request is counted once, by what became of it; latency is measured from the datagram on. */
static void t_requests_are_counted(void **state) {
        const struct metrics *metrics;
        struct device device;
        struct world world;
        uint64_t n = 0;

        world_open(&world, NULL);
        world.as.stopwatch_us = slow_clock;
        metrics = &world.as.metrics;
        device_open(&world, &device, 0, "c0");
        world.config->peer_request_rate = 1;
        world.config->peer_request_burst = 3;
        engine_reconfigure(world.engine);
        wait_us(&world, 3 * S);
        slow_clock_us = world.now.monotonic_us + 5000;
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        assert_int_equal(metrics->histograms[HISTOGRAM_COMMIT].sum, 300);
        assert_int_equal(metrics->histograms[HISTOGRAM_LATENCY].sum, 6500); /* the fifth look: batch, commit, batch */
        assert_int_equal(metrics->histograms[HISTOGRAM_BATCH].sum, 1);
        assert_int_equal(ask(&device, &GET_ASK("nowhere")).code, CODE_NOT_FOUND);
        assert_int_equal(ask(&device, &TOKEN_ASK(.option = 9999, .value = BYTES_LITERAL("x"))).code, CODE_BAD_OPTION);
        assert_int_equal(ask(&device, &TOKEN_ASK(.code = 0x1f)).code, CODE_METHOD_NOT_ALLOWED);
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_TOO_MANY_REQUESTS);
        for (int code = 0; code <= UINT8_MAX; code++)
                n += metrics_outcomes(metrics, NULL, (uint8_t)code);
        assert_int_equal(n, 4);
        assert_int_equal(metrics_outcomes(metrics, NULL, CODE_NOT_FOUND), 1);
        assert_int_equal(metrics_outcomes(metrics, NULL, CODE_BAD_OPTION), 1);
        assert_int_equal(metrics_outcomes(metrics, NULL, CODE_METHOD_NOT_ALLOWED), 1);
        assert_int_equal(metrics_outcomes(metrics, NULL, CODE_TOO_MANY_REQUESTS), 1);
        assert_int_equal(metrics_outcomes(metrics, router_resource(0), CODE_CREATED), 2);
        assert_int_equal(metrics->refusals[REFUSE_RATE], 1);
        assert_int_equal(metrics->refusals[REFUSE_BAD_OPTION], 1);
        assert_int_equal(metrics->refusals[REFUSE_METHOD], 1);
        assert_int_equal(histogram_count(&metrics->histograms[HISTOGRAM_LATENCY]), 3);
        assert_int_equal(figures(&world).n_records, 6);
        assert_int_equal(figures(&world).n_answers_kept, 6);
        wait_us(&world, 250 * S);
        run(&world);
        assert_int_equal(figures(&world).n_records, 0);
        assert_int_equal(figures(&world).n_answers_kept, 0);
        device_done(&device);
        world_close(&world);
}

/*
 * Tokens asked for one by one while others shake hands share a commit: the next batch waits four times what the last
 * commit took. Without handshakes, and when the daemon stops, nobody waits.
 */
static void t_batches_wait_for_company(void **state) {
        const int64_t wait = 3 * 300 + 4 * 300; /* from the beginning of a batch with three looks at the clock after it */
        struct coap_message answer;
        struct device device, other;
        struct world world;

        world_open(&world, NULL);
        device_open(&world, &device, 0, "c0");
        world.as.stopwatch_us = slow_clock;
        slow_clock_us = world.now.monotonic_us;
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);

        other = (struct device){ .world = &world, .remote = party_address(1), .heard = BUF_INIT(1 << 17) };
        world.devices[1] = &other;
        assert_int_equal(dtls_client_new(&(struct dtls_client_options){ .identity = BYTES_LITERAL("c1"),
                                                                        .key = BYTES_LITERAL("0123456789abcdef") },
                                         &other.dtls), 0);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(dtls_client_handshake(other.dtls), -EAGAIN);
                device_flush(&other);
                deliver(&world);
        }
        assert_int_equal(figures(&world).n_sessions_half_open, 1);

        wait_us(&world, S / 2);
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        send_ask(&device, &TOKEN_ASK());
        assert_false(engine_run(world.engine, world.now));
        assert_false(hear(&device, &answer));
        assert_int_equal(engine_due(world.engine), world.now.monotonic_us + wait);
        wait_us(&world, wait - 1);
        assert_false(engine_run(world.engine, world.now));
        assert_false(hear(&device, &answer));
        wait_us(&world, 1);
        (void)engine_run(world.engine, world.now);
        assert_true(hear(&device, &answer));

        send_ask(&device, &TOKEN_ASK());
        assert_false(engine_run(world.engine, world.now));
        engine_hurry(world.engine);
        (void)engine_run(world.engine, world.now);
        assert_true(hear(&device, &answer));
        device_done(&other);
        device_done(&device);
        world_close(&world);
}

/* ClientHellos without a cookie: over the rate not even HelloVerifyRequest; sessions that are open go on. */
static void t_hellos_over_the_rate_are_dropped(void **state) {
        static const uint8_t hello_start[] = { 22, 0xfe, 0xff };
        struct dtls_client *client;
        _cleanup_(buf_done) struct buf hello = BUF_INIT(DATAGRAM_MAX);
        struct device device;
        struct world world;
        uint64_t n_out;

        world_open(&world, NULL);
        world.config->source_hello_rate = world.config->total_hello_rate = 1;
        world.config->source_hello_burst = 10;
        world.config->total_hello_burst = 15;
        engine_reconfigure(world.engine);
        device_open(&world, &device, 0, "c0");
        assert_int_equal(dtls_client_new(&(struct dtls_client_options){ .identity = BYTES_LITERAL("c0"),
                                                                        .key = BYTES_LITERAL("0123456789abcdef") },
                                         &client), 0);
        assert_int_equal(dtls_client_handshake(client), -EAGAIN);
        assert_true(dtls_client_output(client, &hello));
        assert_memory_equal(hello.data, hello_start, 1);
        dtls_client_free(client);
        n_out = figures(&world).n_datagrams_out;
        for (unsigned i = 0; i < 1000; i++) {
                struct address remote = party_address(1000 + i);

                remote.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + i % 10);
                input(&world, DOOR_COAPS, &remote, buf_bytes(&hello));
        }
        engine_sent(world.engine);
        assert_int_equal(figures(&world).n_datagrams_out - n_out, 14); /* the device's own was the first */
        assert_int_equal(figures(&world).limit.n_refused_total[STRANGER_HELLO] +
                         figures(&world).limit.n_refused_source[STRANGER_HELLO], 986);
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        device_done(&device);
        world_close(&world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(t_token),
                cmocka_unit_test(t_introspection),
                cmocka_unit_test(t_retransmitted_post),
                cmocka_unit_test(t_batch_is_one_commit),
                cmocka_unit_test(t_commit_fails),
                cmocka_unit_test(t_wrong_order),
                cmocka_unit_test(t_refusals),
                cmocka_unit_test(t_too_many_queries),
                cmocka_unit_test(t_unknown_identity),
                cmocka_unit_test(t_ping),
                cmocka_unit_test(t_blocks_are_charged_once),
                cmocka_unit_test(t_overload),
                cmocka_unit_test(t_greedy_peer_beside_a_modest_one),
                cmocka_unit_test(t_duplicate_of_a_refused_request),
                cmocka_unit_test(t_reload_changes_rates),
                cmocka_unit_test(t_plain_source_over_its_rate),
                cmocka_unit_test(t_completed_handshakes_are_not_charged),
                cmocka_unit_test(t_handshakes_of_one_credential_are_bounded),
                cmocka_unit_test(t_hellos_over_the_rate_are_dropped),
                cmocka_unit_test(t_requests_are_counted),
                cmocka_unit_test(t_batches_wait_for_company),
                cmocka_unit_test(t_closed_while_waiting),
                cmocka_unit_test(t_close_says_notify),
                cmocka_unit_test(t_plain),
                cmocka_unit_test(t_discovery_in_blocks),
                cmocka_unit_test(t_long_answers),
                cmocka_unit_test(t_plain_peers_are_bounded),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
