/* OSCORE (RFC 8613) through the whole engine: from protected datagrams in to protected datagrams out. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "base/log.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "format/cbor.h"
#include "format/coap.h"
#include "format/oscore.h"
#include "store/clients.h"
#include "store/credentials.h"
#include "store/oscore.h"
#include "store/servers.h"
#include "store/store.h"
#include "store/tokens.h"
#include "store/trl.h"
#include "support/answers.h"
#include "support/dtls_client.h"
#include "support/fake.h"
#include "support/parties.h"
#include "transport/engine.h"
#include "transport/exchange.h"
#include "transport/oscore.h"

#define MS INT64_C(1000)
#define S (1000 * MS)
#define START_S 1700000000
#define START_US (1000 * S)
#define DEVICES 4
#define PORT 5000 /* of the first device */
#define DATAGRAM_MAX 16384
#define HEARD_MAX 64

/* ---- the world: one engine; clients "c0".. that may read at rs1, rs1; each with a context */

struct heard {
        unsigned port;
        size_t size;
        uint8_t data[MESSAGE_SIZE_MAX + 64];
};

struct world {
        struct config *config;
        struct store *store;
        struct aced as;
        struct engine *engine;
        struct engine_time now;
        struct heard heard[HEARD_MAX]; /* that nobody has taken yet, oldest first */
        size_t n_heard;
};

static struct bytes kid_of(unsigned n, uint8_t ret[static 2]) {
        ret[0] = 0xd0;
        ret[1] = (uint8_t)n;
        return bytes_of(ret, 2);
}

#define RS1 DEVICES
static const char *const names[DEVICES + 1] = { "c0", "c1", "c2", "c3", "rs1" };

static void fill_store(struct store *store) {
        uint8_t kid[2];

        assert_int_equal(store_begin(store), 0);
        party_add_server(store, "rs1");
        for (unsigned i = 0; i < DEVICES; i++)
                party_add_client(store, names[i], NULL, "read");
        for (unsigned i = 0; i <= DEVICES; i++)
                party_add_context(store, names[i], kid_of(i, kid));
        assert_int_equal(store_commit(store), 0);
}

static void world_open(struct world *world) {
        static const uint8_t seal_key[32] = { 1 };
        struct diags diags = {};

        *world = (struct world){ .now = { START_US, START_S } };
        log_set_level(0); /* what is refused here is refused on purpose */
        fake_random_seed(11);
        assert_int_equal(config_load(NULL, &world->config, &diags), 0);
        assert_int_equal(store_open(&(struct store_options){ .seal_key = bytes_of(seal_key, 32) }, &world->store,
                                    &diags), 0);
        fill_store(world->store);
        world->as = (struct aced){ .config = world->config, .store = world->store, .started_s = START_S };
        assert_int_equal(engine_new(&world->as, &world->engine), 0);
}

static void world_close(struct world *world) {
        engine_free(world->engine);
        store_free(world->store);
        config_free(world->config);
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

static struct oscore_figures contexts(const struct world *world) {
        struct oscore_figures ret;

        engine_oscore_figures(world->engine, &ret);
        return ret;
}

static void wait_us(struct world *world, int64_t us) {
        world->now.monotonic_us += us;
        world->now.wall_s = START_S + (world->now.monotonic_us - START_US) / S;
}

static void send_from(struct world *world, unsigned port, struct bytes data) {
        engine_input(world->engine, &(struct datagram){ .door = DOOR_COAP, .socket = 3, .remote = party_address(port),
                                                        .data = data }, world->now);
}

/* Everything that the engine has to say is put on the heap of what was heard. */
static void collect(struct world *world) {
        const struct datagram *datagrams;
        size_t n = engine_output(world->engine, &datagrams);

        for (size_t i = 0; i < n; i++) {
                struct heard *heard = &world->heard[world->n_heard++];

                assert_true(world->n_heard <= HEARD_MAX);
                assert_true(datagrams[i].data.size <= MESSAGE_SIZE_MAX);
                assert_int_equal(datagrams[i].socket, 3);
                heard->port = ntohs(datagrams[i].remote.in.sin_port);
                heard->size = datagrams[i].data.size;
                memcpy(heard->data, datagrams[i].data.data, heard->size);
        }
        engine_sent(world->engine);
}

static void run(struct world *world) {
        while (engine_run(world->engine, world->now))
                ;
        collect(world);
}

/* The oldest that came to this port; false: none did. */
static bool take(struct world *world, unsigned port, struct heard *ret) {
        for (size_t i = 0; i < world->n_heard; i++) {
                if (world->heard[i].port != port)
                        continue;
                *ret = world->heard[i];
                memmove(&world->heard[i], &world->heard[i + 1], (--world->n_heard - i) * sizeof(world->heard[0]));
                return true;
        }
        return false;
}

/* ---- devices */

struct device {
        struct world *world;
        struct oscore_keys keys;
        unsigned port;
        uint64_t piv;
        uint16_t mid;
        struct heard sent, heard;
        struct oscore_request request; /* the last one */
        struct buf plain;              /* of the last answer */
        uint8_t echo[OSCORE_ECHO_SIZE];
};

struct ask {
        enum coap_type type;
        uint8_t code;
        const char *path; /* without the first slash */
        int content_format; /* CF_NONE: not given */
        uint16_t option;  /* one more, with value; 0: none */
        struct bytes value;
        uint16_t outer_option; /* one more outside */
        struct bytes outer_value;
        uint8_t outer_code;    /* 0: as OSCORE has it */
        struct bytes payload, echo;
        uint8_t token;
};

/* Each has defaults, of which a case may say another. */
#pragma GCC diagnostic ignored "-Woverride-init"
#pragma GCC diagnostic ignored "-Woverride-init-side-effects"

/* { 5: "rs1", 9: "read" } */
#define TOKEN_REQUEST BYTES_LITERAL("\xa2\x05\x63rs1\x09\x64read")
#define TOKEN_ASK(...) ((struct ask){ .code = CODE_POST, .path = "token", .content_format = CF_ACE_CBOR, \
                                      .payload = TOKEN_REQUEST, .token = 0x77, ##__VA_ARGS__ })
#define GET_ASK(where, ...) ((struct ask){ .code = CODE_GET, .path = where, .content_format = CF_NONE, \
                                           .token = 0x77, ##__VA_ARGS__ })

static void compose(const struct ask *ask, struct coap_message *ret, uint8_t scratch[static 4]) {
        *ret = (struct coap_message){ .type = ask->type, .code = ask->code, .token = bytes_of(&ask->token, 1),
                                      .payload = ask->payload };
        for (const char *at = ask->path; at && *at; at += strspn(at, "/")) {
                struct bytes segment = bytes_of(at, strcspn(at, "/"));

                assert_int_equal(coap_message_add(ret, OPTION_URI_PATH, segment), 0);
                at += segment.size;
        }
        if (ask->content_format != CF_NONE)
                coap_message_add_uint(ret, OPTION_CONTENT_FORMAT, (uint32_t)ask->content_format, scratch);
        if (ask->option != 0)
                coap_message_add(ret, ask->option, ask->value);
        if (ask->echo.size > 0)
                coap_message_add(ret, OPTION_ECHO, ask->echo);
}

/* The protected datagram, in device->sent, with the next number and Message ID. */
static void prepare(struct device *device, const struct ask *ask) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT(DATAGRAM_MAX);
        struct oscore_outer outer = { .payload = BUF_INIT(DATAGRAM_MAX) };
        struct coap_message message;
        uint8_t scratch[4];

        compose(ask, &message, scratch);
        message.mid = ++device->mid;
        assert_int_equal(oscore_protect_request(&device->keys, device->piv++, BYTES_NONE, &message, &outer,
                                                &device->request), 0);
        if (ask->outer_code != 0)
                outer.message.code = ask->outer_code;
        if (ask->outer_option != 0)
                coap_message_add(&outer.message, ask->outer_option, ask->outer_value);
        assert_int_equal(coap_message_encode(&outer.message, &bytes), 0);
        buf_done(&outer.payload);
        assert_true(bytes.size <= sizeof(device->sent.data));
        device->sent.size = bytes.size;
        memcpy(device->sent.data, bytes.data, bytes.size);
}

static void send_again(struct device *device) {
        send_from(device->world, device->port, bytes_of(device->sent.data, device->sent.size));
}

static void send_ask(struct device *device, const struct ask *ask) {
        prepare(device, ask);
        send_again(device);
}

/* The next datagram that came, as it is; false: none did. It borrows from device->heard. */
static bool hear_outer(struct device *device, struct coap_message *ret) {
        bool header_ok;

        collect(device->world);
        if (!take(device->world, device->port, &device->heard))
                return false;
        assert_int_equal(coap_message_decode(bytes_of(device->heard.data, device->heard.size), ret, &header_ok), 0);
        return true;
}

/* What is inside; *ret_number: there is a number of the server's own. */
static struct coap_message reveal(struct device *device, const struct coap_message *outer, bool *ret_number) {
        const struct coap_option *value = coap_message_option(outer, OPTION_OSCORE, 0);
        struct oscore_option option;
        struct coap_message inner;

        assert_non_null(value);
        assert_int_equal(oscore_option_decode(value->value, &option), 0);
        *ret_number = option.piv.size > 0;
        buf_clear(&device->plain);
        assert_int_equal(oscore_unprotect_response(&device->keys, &device->request, &option, outer, &device->plain,
                                                   &inner), 0);
        return inner;
}

static struct coap_message ask_outer(struct device *device, const struct ask *what) {
        struct coap_message outer;

        send_ask(device, what);
        run(device->world);
        assert_true(hear_outer(device, &outer));
        assert_int_equal(outer.type, TYPE_ACK);
        assert_int_equal(outer.mid, device->mid);
        assert_true(bytes_equal(outer.token, bytes_of(&what->token, 1)));
        return outer;
}

static struct coap_message ask(struct device *device, const struct ask *what) {
        struct coap_message outer = ask_outer(device, what);
        bool number;

        return reveal(device, &outer, &number);
}

/* n: of names. The window is unknown: the first request is asked to come again with an Echo value. */
static void device_init(struct world *world, struct device *device, unsigned n) {
        uint8_t kid[2];

        *device = (struct device){ .world = world, .port = PORT + n, .mid = 100, .plain = BUF_INIT(DATAGRAM_MAX) };
        party_context(names[n], kid_of(n, kid), &device->keys);
}

static void device_open(struct world *world, struct device *device, unsigned n) {
        const struct coap_option *echo;
        struct coap_message answer;

        device_init(world, device, n);
        answer = ask(device, &GET_ASK("nowhere"));
        assert_int_equal(answer.code, CODE_UNAUTHORIZED);
        assert_int_equal(answer.payload.size, 0);
        assert_int_equal(answer.n_options, 1);
        echo = coap_message_option(&answer, OPTION_ECHO, 0);
        assert_int_equal(echo->value.size, OSCORE_ECHO_SIZE);
        memcpy(device->echo, echo->value.data, OSCORE_ECHO_SIZE);
        assert_int_equal(ask(device, &GET_ASK("nowhere", .echo = bytes_of(device->echo, OSCORE_ECHO_SIZE))).code,
                         CODE_NOT_FOUND);
}

static void device_done(struct device *device) {
        buf_done(&device->plain);
}

/* ---- a token */

static void t_token(void **state) {
        struct coap_message outer, answer;
        struct token_answer token;
        struct device device;
        struct world world;
        bool number;

        world_open(&world);
        device_open(&world, &device, 0);
        assert_int_equal(contexts(&world).n_echoes, 1);
        assert_int_equal(n_tokens(&world), 0);
        outer = ask_outer(&device, &TOKEN_ASK());
        assert_int_equal(outer.code, CODE_CHANGED);
        assert_int_equal(outer.n_options, 1); /* OSCORE, and nothing in it */
        assert_int_equal(outer.options[0].value.size, 0);
        answer = reveal(&device, &outer, &number);
        assert_false(number);
        read_token_answer(&answer, &token);
        assert_int_equal(n_tokens(&world), 1);
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

        world_open(&world);
        device_open(&world, &client, 0);
        device_open(&world, &server, RS1);
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

/* RFC 7252 §4.5 through all layers (OSC-020): a datagram that comes again is one request, and has one answer. */
static void t_retransmission(void **state) {
        struct coap_message outer;
        struct heard first;
        struct device device;
        struct world world;

        world_open(&world);
        device_open(&world, &device, 0);
        send_ask(&device, &TOKEN_ASK());
        send_again(&device); /* while it waits */
        run(&world);
        assert_true(hear_outer(&device, &outer));
        first = device.heard;
        assert_false(hear_outer(&device, &outer));
        for (unsigned i = 0; i < 3; i++) { /* while the answer is lost on its way */
                wait_us(&world, 20 * S);
                send_again(&device);
                run(&world);
                assert_true(hear_outer(&device, &outer));
                assert_int_equal(device.heard.size, first.size);
                assert_memory_equal(device.heard.data, first.data, first.size);
        }
        assert_int_equal(n_tokens(&world), 1);
        assert_int_equal(figures(&world).n_duplicates, 4);
        assert_int_equal(contexts(&world).n_replayed, 0);
        device_done(&device);
        world_close(&world);
}

/* ---- every way to say no inside; it is said inside (RFC 8613 §8.3) */

static const char long_path[] = "1/2/3/4/5/6/7/8/9";
static const uint8_t large[9000];

static void t_refusals_are_protected(void **state) {
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
                { "CBOR, not ACE", TOKEN_ASK(.content_format = CF_CBOR), CODE_UNSUPPORTED_FORMAT },
                { "a block of less than it says", TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x08"),
                                                            .payload = bytes_of(large, 15)), CODE_BAD_REQUEST },
                { "a block that leaves a gap", TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x20"),
                                                         .payload = bytes_of(large, 16)), CODE_INCOMPLETE },
                { "a block behind the limit", TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x86"),
                                                        .payload = bytes_of(large, 1)), CODE_TOO_LARGE },
                { "unknown critical option", TOKEN_ASK(.option = 65001), CODE_BAD_OPTION },
                { "If-None-Match", TOKEN_ASK(.option = OPTION_IF_NONE_MATCH), CODE_BAD_OPTION },
                { "no CBOR", TOKEN_ASK(.payload = BYTES_LITERAL("\xff")), CODE_BAD_REQUEST },
                { "introspection by a client", TOKEN_ASK(.path = "introspect",
                                                        .payload = BYTES_LITERAL("\xa1\x0b\x41x")),
                  CODE_FORBIDDEN },
                { "unknown elective option", TOKEN_ASK(.option = 65000), CODE_CREATED },
                { "No-Response to nothing", TOKEN_ASK(.option = OPTION_NO_RESPONSE), CODE_CREATED },
        };
        struct coap_message outer, answer;
        int64_t n_created = 0;
        struct device device;
        struct world world;
        bool number;

        world_open(&world);
        device_open(&world, &device, 0);
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                outer = ask_outer(&device, &cases[i].ask);
                assert_int_equal(outer.code, CODE_CHANGED);
                answer = reveal(&device, &outer, &number);
                if (answer.code != cases[i].code)
                        fail_msg("%s: code %02x", cases[i].what, answer.code);
                n_created += answer.code == CODE_CREATED;
                if (n_tokens(&world) != n_created)
                        fail_msg("%s: tokens", cases[i].what);
                if (answer.code == CODE_TOO_LARGE && option_of(&answer, OPTION_SIZE1) != world.config->payload_max)
                        fail_msg("%s: Size1", cases[i].what);
        }
        assert_int_equal(contexts(&world).n_requests, N_ELEMENTS(cases) + 1);
        device_done(&device);
        world_close(&world);
}

/* RFC 7252 §5.4.1: a critical option in a message without acknowledgement is no message; also inside. */
static void t_non_with_a_critical_option(void **state) {
        struct coap_message outer;
        struct device device;
        struct world world;

        world_open(&world);
        device_open(&world, &device, 0);
        send_ask(&device, &TOKEN_ASK(.type = TYPE_NON, .option = 65001));
        run(&world);
        assert_false(hear_outer(&device, &outer));
        assert_int_equal(n_tokens(&world), 0);
        send_ask(&device, &TOKEN_ASK(.type = TYPE_NON));
        run(&world);
        assert_true(hear_outer(&device, &outer));
        assert_int_equal(outer.type, TYPE_NON);
        assert_int_equal(n_tokens(&world), 1);
        device_done(&device);
        world_close(&world);
}

/* ---- what does not decrypt is answered in clear, in no more bytes than it has, and changes nothing (§8.2) */

struct forgery {
        const char *what;
        uint16_t option;      /* one more outside */
        struct bytes oscore;  /* instead of the option's value; NONE: as it is */
        bool no_payload, again;
        unsigned flip;        /* this byte from the end; 0: none */
        uint8_t code;
        const char *text;
};

/* What send_ask() would send, but for what is forged. */
static void forge(struct device *device, const struct forgery *forgery) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT(DATAGRAM_MAX);
        struct coap_message outer;
        bool header_ok;

        assert_int_equal(coap_message_decode(bytes_of(device->sent.data, device->sent.size), &outer, &header_ok), 0);
        outer.mid = ++device->mid;
        for (size_t i = 0; i < outer.n_options; i++)
                if (outer.options[i].number == OPTION_OSCORE && forgery->oscore.data)
                        outer.options[i].value = forgery->oscore;
        if (forgery->option != 0)
                coap_message_add(&outer, forgery->option, BYTES_NONE);
        if (forgery->no_payload)
                outer.payload = BYTES_NONE;
        assert_int_equal(coap_message_encode(&outer, &bytes), 0);
        if (forgery->flip > 0)
                bytes.data[bytes.size - forgery->flip] ^= 1;
        device->sent.size = bytes.size;
        memcpy(device->sent.data, bytes.data, bytes.size);
}

static void t_forgeries_change_nothing(void **state) {
        static const char unknown[] = "Security context not found", undecodable[] = "Failed to decode COSE";
        const struct forgery cases[] = {
                { "no option value", .oscore = bytes_of("", 0), .code = CODE_BAD_OPTION, .text = undecodable },
                { "reserved flag", .oscore = BYTES_LITERAL("\x29\x30\xd0\x00"), .code = CODE_BAD_OPTION,
                  .text = undecodable },
                { "Partial IV of six bytes", .oscore = BYTES_LITERAL("\x0e\1\2\3\4\5\6\xd0\x00"),
                  .code = CODE_BAD_OPTION, .text = undecodable },
                { "no kid", .oscore = BYTES_LITERAL("\x01\x30"), .code = CODE_BAD_OPTION, .text = undecodable },
                { "no Partial IV", .oscore = BYTES_LITERAL("\x08\xd0\x00"), .code = CODE_BAD_OPTION,
                  .text = undecodable },
                { "no payload", .no_payload = true, .code = CODE_BAD_OPTION, .text = "" },
                { "unknown kid", .oscore = BYTES_LITERAL("\x09\x30\xee"), .code = CODE_UNAUTHORIZED, .text = unknown },
                { "kid of eight bytes", .oscore = BYTES_LITERAL("\x09\x30" "12345678"), .code = CODE_UNAUTHORIZED,
                  .text = unknown },
                { "unknown kid context", .oscore = BYTES_LITERAL("\x19\x30\x01x\xd0\x00"), .code = CODE_UNAUTHORIZED,
                  .text = unknown },
                { "another's kid", .oscore = BYTES_LITERAL("\x09\x30\xd0\x01"), .code = CODE_BAD_REQUEST,
                  .text = "Decryption failed" },
                { "higher number", .oscore = BYTES_LITERAL("\x0d\xff\xff\xff\xff\xff\xd0\x00"),
                  .code = CODE_BAD_REQUEST, .text = "Decryption failed" },
                { "wrong tag", .flip = 1, .code = CODE_BAD_REQUEST, .text = "Decryption failed" },
                { "replay", .oscore = BYTES_LITERAL("\x09\x01\xd0\x00"), .code = CODE_UNAUTHORIZED,
                  .text = "Replay detected" },
                { "with EDHOC", .option = OPTION_EDHOC, .code = CODE_BAD_OPTION, .text = "" },
        };
        struct coap_message outer;
        struct device device;
        struct world world;
        struct heard good;

        world_open(&world);
        device_open(&world, &device, 0);
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                device.piv = 0x30;
                prepare(&device, &TOKEN_ASK());
                good = device.sent;
                forge(&device, &cases[i]);
                send_again(&device);
                run(&world);
                if (!hear_outer(&device, &outer))
                        fail_msg("%s: no answer", cases[i].what);
                if (outer.code != cases[i].code || coap_message_option(&outer, OPTION_OSCORE, 0) ||
                    (!bytes_equal(outer.payload, bytes_text(cases[i].text)) &&
                     device.heard.size + strlen(cases[i].text) + 1 <= device.sent.size))
                        fail_msg("%s: code %02x, %.*s", cases[i].what, outer.code, (int)outer.payload.size,
                                 outer.payload.data);
                if (device.heard.size > device.sent.size)
                        fail_msg("%s: %zu bytes for %zu", cases[i].what, device.heard.size, device.sent.size);
        }
        assert_int_equal(n_tokens(&world), 0);
        device.sent = good; /* its number is as new as before */
        send_again(&device);
        run(&world);
        assert_true(hear_outer(&device, &outer));
        assert_int_equal(outer.code, CODE_CHANGED);
        assert_int_equal(n_tokens(&world), 1);
        assert_int_equal(contexts(&world).n_undecodable, 6);
        assert_int_equal(contexts(&world).n_unknown, 3);
        assert_int_equal(contexts(&world).n_replayed, 1);
        assert_int_equal(contexts(&world).n_undecryptable, 3);
        device_done(&device);
        world_close(&world);
}

/* OSC-016: whoever has the key and puts OSCORE inside OSCORE; and 4.00 for what is no message inside. */
static void t_no_oscore_inside(void **state) {
        struct oscore_outer outer = { .payload = BUF_INIT(DATAGRAM_MAX) };
        _cleanup_(buf_done) struct buf bytes = BUF_INIT(DATAGRAM_MAX);
        struct coap_message message, answer;
        struct device device;
        struct world world;
        uint8_t scratch[4];

        world_open(&world);
        device_open(&world, &device, 0);
        compose(&TOKEN_ASK(), &message, scratch);
        message.code = CODE_CHANGED; /* of a response */
        message.mid = ++device.mid;
        assert_int_equal(oscore_protect_request(&device.keys, device.piv++, BYTES_NONE, &message, &outer,
                                                &device.request), 0);
        outer.message.code = CODE_POST;
        assert_int_equal(coap_message_encode(&outer.message, &bytes), 0);
        send_from(&world, device.port, buf_bytes(&bytes));
        run(&world);
        assert_true(hear_outer(&device, &answer));
        assert_int_equal(answer.code, CODE_BAD_REQUEST);
        assert_null(coap_message_option(&answer, OPTION_OSCORE, 0));
        assert_int_equal(n_tokens(&world), 0);
        buf_done(&outer.payload);
        device_done(&device);
        world_close(&world);
}

/* OSC-013, OSC-014, OSC-038: what stands outside is nobody's word, but for where it is meant to stand there. */
static void t_outer_is_ignored(void **state) {
        const struct ask cases[] = {
                TOKEN_ASK(.outer_code = CODE_GET),
                TOKEN_ASK(.outer_code = CODE_FETCH),
                TOKEN_ASK(.outer_code = 0x1f),
                TOKEN_ASK(.outer_option = OPTION_URI_PATH, .outer_value = BYTES_LITERAL("nowhere")),
                TOKEN_ASK(.outer_option = OPTION_CONTENT_FORMAT, .outer_value = BYTES_LITERAL("\x3c")),
                TOKEN_ASK(.outer_option = OPTION_NO_RESPONSE, .outer_value = BYTES_LITERAL("\x1a")),
                TOKEN_ASK(.outer_option = OPTION_OBSERVE, .outer_value = BYTES_LITERAL("\x01")),
                TOKEN_ASK(.outer_option = OPTION_IF_NONE_MATCH),
                TOKEN_ASK(.outer_option = 65001),
                TOKEN_ASK(.outer_option = OPTION_MAX_AGE),
                TOKEN_ASK(.outer_option = OPTION_ECHO, .outer_value = BYTES_LITERAL("12345678")),
                TOKEN_ASK(.outer_option = OPTION_URI_HOST, .outer_value = BYTES_LITERAL("elsewhere")),
                TOKEN_ASK(.outer_option = OPTION_URI_PORT, .outer_value = BYTES_LITERAL("\x01")),
        };
        struct coap_message answer;
        struct device device;
        struct world world;

        world_open(&world);
        device_open(&world, &device, 0);
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                answer = ask(&device, &cases[i]);
                if (answer.code != CODE_CREATED)
                        fail_msg("case %zu: %02x", i, answer.code);
        }
        assert_int_equal(n_tokens(&world), N_ELEMENTS(cases));
        device_done(&device);
        world_close(&world);
}

/* RFC 7967: what is not to be said is acknowledged, also when it comes again. */
static void t_no_response(void **state) {
        const struct {
                struct ask ask;
                bool says;
        } cases[] = {
                { TOKEN_ASK(.option = OPTION_NO_RESPONSE, .value = BYTES_LITERAL("\x1a")), false },
                { TOKEN_ASK(.option = OPTION_NO_RESPONSE, .value = BYTES_LITERAL("\x02")), false },
                { TOKEN_ASK(.option = OPTION_NO_RESPONSE, .value = BYTES_LITERAL("\x18")), true },
                { GET_ASK("nowhere", .option = OPTION_NO_RESPONSE, .value = BYTES_LITERAL("\x02")), true },
                { GET_ASK("nowhere", .option = OPTION_NO_RESPONSE, .value = BYTES_LITERAL("\x08")), false },
                { GET_ASK("nowhere", .code = 20, .option = OPTION_NO_RESPONSE, .value = BYTES_LITERAL("\x08")), false },
        };
        struct coap_message outer;
        struct device device;
        struct world world;

        world_open(&world);
        device_open(&world, &device, 0);
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                send_ask(&device, &cases[i].ask);
                for (unsigned again = 0; again < 2; again++) {
                        run(&world);
                        assert_true(hear_outer(&device, &outer));
                        if (outer.type != TYPE_ACK || outer.mid != device.mid ||
                            (outer.code != CODE_EMPTY) != cases[i].says)
                                fail_msg("case %zu: %02x", i, outer.code);
                        assert_false(hear_outer(&device, &outer));
                        send_again(&device);
                }
                run(&world);
                assert_true(hear_outer(&device, &outer));
        }
        send_ask(&device, &TOKEN_ASK(.type = TYPE_NON, .option = OPTION_NO_RESPONSE, .value = BYTES_LITERAL("\x1a")));
        run(&world);
        assert_false(hear_outer(&device, &outer));
        assert_int_equal(n_tokens(&world), 4);
        device_done(&device);
        world_close(&world);
}

/* ---- the context says who it is, not the address (OSC-040) */

static void t_another_port(void **state) {
        static const uint8_t half[16] = "\xa2\x05\x63rs1\x09\x64read";
        struct coap_message answer;
        struct device device;
        struct world world;

        world_open(&world);
        device_open(&world, &device, 0);
        for (unsigned i = 0; i < 20; i++) {
                device.port = PORT + 100 + i;
                assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        }
        assert_int_equal(figures(&world).n_oscore_peers, 16); /* the others are strangers' */

        answer = ask(&device, &TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x08"),
                                         .payload = bytes_of(half, 16)));
        assert_int_equal(answer.code, CODE_CONTINUE);
        device.port = PORT + 300; /* where the rest of the body comes from */
        answer = ask(&device, &TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x10"),
                                         .payload = bytes_of("x", 1)));
        assert_int_equal(answer.code, CODE_BAD_REQUEST); /* it was put together: seventeen bytes are no request */
        assert_int_equal(figures(&world).blocks.n_bodies, 0);
        device_done(&device);
        world_close(&world);
}

/* Two contexts by one address, as behind a proxy: nothing of one is the other's. */
static void t_two_by_one_port(void **state) {
        struct device one, other;
        struct coap_message answer;
        struct world world;

        world_open(&world);
        device_open(&world, &one, 0);
        device_open(&world, &other, 1);
        other.port = one.port;
        other.mid = 1000;
        assert_int_equal(ask(&one, &TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x08"),
                                              .payload = bytes_of(large, 16))).code, CODE_CONTINUE);
        answer = ask(&other, &TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x10"),
                                        .payload = bytes_of(large, 16)));
        assert_int_equal(answer.code, CODE_INCOMPLETE);
        assert_int_equal(ask(&one, &TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x18"),
                                              .payload = bytes_of(large, 16))).code, CODE_CONTINUE);
        for (uint8_t n = 0; n < 3; n++) { /* of the one that no address stands for, too */
                const uint8_t block = (uint8_t)(n << 4 | 8);

                assert_int_equal(ask(&other, &TOKEN_ASK(.option = OPTION_BLOCK1, .value = bytes_of(&block, 1),
                                                        .payload = bytes_of(large, 16))).code, CODE_CONTINUE);
        }
        assert_int_equal(figures(&world).blocks.n_bodies, 2);
        wait_us(&world, 500 * S); /* all of it goes */
        run(&world);
        assert_int_equal(figures(&world).blocks.n_bodies, 0);
        assert_int_equal(ask(&other, &TOKEN_ASK(.option = OPTION_BLOCK1, .value = BYTES_LITERAL("\x08"),
                                                .payload = bytes_of(large, 16))).code, CODE_CONTINUE);
        device_done(&one);
        device_done(&other);
        world_close(&world);
}

/* ---- in blocks, inside (OSC-036) */

static void t_blocks_inside(void **state) {
        _cleanup_(buf_done) struct buf parts = BUF_INIT(4096);
        struct coap_message answer;
        struct token_answer token;
        struct device device;
        struct world world;
        int64_t block2;
        uint8_t n = 0;

        world_open(&world);
        device_open(&world, &device, 0);
        do { /* a POST whose answer comes in blocks of 16 bytes, from the first that is kept */
                const uint8_t asked[] = { (uint8_t)(n << 4) };

                answer = ask(&device, &TOKEN_ASK(.option = OPTION_BLOCK2, .value = bytes_of(asked, 1)));
                assert_int_equal(answer.code, CODE_CREATED);
                block2 = option_of(&answer, OPTION_BLOCK2);
                assert_int_equal(block2 & ~8, n << 4);
                assert_int_equal(buf_add(&parts, answer.payload), 0);
        } while (n++ < 15 && block2 & 8);
        assert_int_equal(n_tokens(&world), 1);
        answer.payload = buf_bytes(&parts);
        coap_message_add(&answer, OPTION_CONTENT_FORMAT, BYTES_NONE);
        read_token_answer(&answer, &token);

        for (n = 0; n < 5; n++) { /* two bodies at once, told apart by nothing but Request-Tag, is block.c's affair */
                const uint8_t block[] = { (uint8_t)(n << 4 | 8) };

                answer = ask(&device, &TOKEN_ASK(.option = OPTION_BLOCK1, .value = bytes_of(block, 1),
                                                 .payload = bytes_of(large, 16)));
                assert_int_equal(answer.code, CODE_CONTINUE);
                assert_int_equal(option_of(&answer, OPTION_BLOCK1), block[0]);
        }
        device_done(&device);
        world_close(&world);
}

/* ---- in blocks, outside (OSC-037): what a proxy does that cannot send more at once */

/*
 * The protected datagram in device->sent, by a relay that sends blocks of that size. Returns the code of the last
 * answer.
 */
static uint8_t relay(struct device *device, unsigned szx, struct coap_message *ret) {
        struct coap_message whole, part;
        size_t size = (size_t)16 << szx, at = 0;
        struct heard sent = device->sent;
        bool header_ok;

        assert_int_equal(coap_message_decode(bytes_of(sent.data, sent.size), &whole, &header_ok), 0);
        do {
                _cleanup_(buf_done) struct buf bytes = BUF_INIT(DATAGRAM_MAX);
                size_t left = whole.payload.size - at;
                uint8_t scratch[4];

                part = whole;
                part.mid = ++device->mid;
                part.payload = bytes_of(whole.payload.data + at, left < size ? left : size);
                coap_message_add_uint(&part, OPTION_BLOCK1,
                                      (uint32_t)(at / size << 4 | (left > size ? 8u : 0) | szx), scratch);
                assert_int_equal(coap_message_encode(&part, &bytes), 0);
                send_from(device->world, device->port, buf_bytes(&bytes));
                run(device->world);
                assert_true(hear_outer(device, ret));
                assert_int_equal(ret->mid, part.mid);
                if (ret->code != CODE_CONTINUE)
                        break;
                assert_null(coap_message_option(ret, OPTION_OSCORE, 0));
                assert_int_equal(option_of(ret, OPTION_BLOCK1), at / size << 4 | 8 | szx);
                at += size;
        } while (at < whole.payload.size);
        return ret->code;
}

static void t_blocks_outside(void **state) {
        struct coap_message outer, answer;
        struct device device;
        struct world world;
        bool number;

        world_open(&world);
        device_open(&world, &device, 0);
        for (unsigned szx = 0; szx < 3; szx++) {
                prepare(&device, &TOKEN_ASK());
                assert_int_equal(relay(&device, szx, &outer), CODE_CHANGED);
                assert_true(option_of(&outer, OPTION_BLOCK1) >= 0);
                answer = reveal(&device, &outer, &number);
                assert_int_equal(answer.code, CODE_CREATED);
        }
        assert_int_equal(n_tokens(&world), 3);
        prepare(&device, &TOKEN_ASK(.option = 65000, .value = bytes_of(large, 700)));
        assert_int_equal(relay(&device, 2, &outer), CODE_CHANGED);
        device_done(&device);
        world_close(&world);
}

/* Part n of what is in a datagram, under a Message ID of its own; the code that it is answered with, outside. */
static uint8_t send_part(struct device *device, const struct heard *datagram, unsigned n, bool more,
                         struct coap_message *ret) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT(DATAGRAM_MAX);
        struct coap_message part;
        uint8_t scratch[4];
        bool header_ok;

        assert_int_equal(coap_message_decode(bytes_of(datagram->data, datagram->size), &part, &header_ok), 0);
        part.mid = ++device->mid;
        part.payload = bytes_of(part.payload.data + 16 * n, more ? 16 : part.payload.size - 16 * n);
        coap_message_add_uint(&part, OPTION_BLOCK1, n << 4 | (more ? 8 : 0), scratch);
        assert_int_equal(coap_message_encode(&part, &bytes), 0);
        send_from(device->world, device->port, buf_bytes(&bytes));
        run(device->world);
        assert_true(hear_outer(device, ret));
        return ret->code;
}

/* By one relay: of two requests, whose options differ, no part comes into the other one. */
static void t_two_in_blocks_outside(void **state) {
        struct coap_message outer;
        struct heard datagrams[2];
        struct device device;
        struct world world;

        world_open(&world);
        device_open(&world, &device, 0);
        for (unsigned i = 0; i < 2; i++) {
                prepare(&device, &TOKEN_ASK());
                datagrams[i] = device.sent;
        }
        for (unsigned i = 0; i < 2; i++)
                assert_int_equal(send_part(&device, &datagrams[i], 0, true, &outer), CODE_CONTINUE);
        for (unsigned i = 0; i < 2; i++) {
                struct coap_message whole;
                bool header_ok;

                (void)coap_message_decode(bytes_of(datagrams[i].data, datagrams[i].size), &whole, &header_ok);
                assert_true(whole.payload.size > 16 && whole.payload.size <= 48);
                if (whole.payload.size > 32)
                        assert_int_equal(send_part(&device, &datagrams[i], 1, true, &outer), CODE_CONTINUE);
                assert_int_equal(send_part(&device, &datagrams[i], whole.payload.size > 32 ? 2 : 1, false, &outer),
                                 CODE_CHANGED);
                assert_non_null(coap_message_option(&outer, OPTION_OSCORE, 0));
        }
        assert_int_equal(n_tokens(&world), 2);
        device_done(&device);
        world_close(&world);
}

/* An answer with a number of ours, as later blocks could not repeat its option, comes in one piece (RFC 8613 §8.3). */
static void t_an_echo_comes_in_one_piece(void **state) {
        struct coap_message outer, answer;
        struct device device;
        struct world world;
        bool number;

        world_open(&world);
        device_init(&world, &device, 0);
        outer = ask_outer(&device, &TOKEN_ASK(.outer_option = OPTION_BLOCK2));
        assert_null(coap_message_option(&outer, OPTION_BLOCK2, 0));
        answer = reveal(&device, &outer, &number);
        assert_true(number);
        assert_int_equal(answer.code, CODE_UNAUTHORIZED);
        assert_non_null(coap_message_option(&answer, OPTION_ECHO, 0));
        device_done(&device);
        world_close(&world);
}

/* The answer cut outside: the first block with what was asked, the others by the same options without a payload. */
static void t_answer_in_blocks_outside(void **state) {
        _cleanup_(buf_done) struct buf whole = BUF_INIT(4096), bytes = BUF_INIT(4096);
        struct coap_message outer, next, answer;
        const struct coap_option *option;
        uint8_t n = 0, value[8], etag[8];
        struct device device;
        struct world world;
        bool header_ok, number;

        world_open(&world);
        device_open(&world, &device, 0);
        outer = ask_outer(&device, &TOKEN_ASK(.outer_option = OPTION_BLOCK2, .outer_value = BYTES_LITERAL("\x02")));
        assert_int_equal(outer.code, CODE_CHANGED);
        assert_int_equal(outer.payload.size, 64);
        assert_int_equal(option_of(&outer, OPTION_BLOCK2), 8 | 2);
        option = coap_message_option(&outer, OPTION_ETAG, 0);
        memcpy(etag, option->value.data, option->value.size);
        assert_int_equal(buf_add(&whole, outer.payload), 0);
        assert_int_equal(coap_message_decode(bytes_of(device.sent.data, device.sent.size), &next, &header_ok), 0);
        option = coap_message_option(&next, OPTION_OSCORE, 0);
        memcpy(value, option->value.data, option->value.size);
        do {
                const uint8_t block = (uint8_t)(++n << 4 | 2);

                next = (struct coap_message){ .code = CODE_POST, .mid = ++device.mid };
                coap_message_add(&next, OPTION_OSCORE, bytes_of(value, 4));
                coap_message_add(&next, OPTION_BLOCK2, bytes_of(&block, 1));
                buf_clear(&bytes);
                assert_int_equal(coap_message_encode(&next, &bytes), 0);
                send_from(&world, device.port, buf_bytes(&bytes));
                run(&world);
                assert_true(hear_outer(&device, &outer));
                assert_int_equal(outer.code, CODE_CHANGED);
                assert_int_equal(option_of(&outer, OPTION_BLOCK2) >> 4 << (option_of(&outer, OPTION_BLOCK2) & 7) << 4,
                                 whole.size);
                assert_memory_equal(coap_message_option(&outer, OPTION_ETAG, 0)->value.data, etag, 4);
                assert_int_equal(buf_add(&whole, outer.payload), 0);
        } while (option_of(&outer, OPTION_BLOCK2) & 8 && n < 10);
        outer.payload = buf_bytes(&whole);
        answer = reveal(&device, &outer, &number);
        assert_int_equal(answer.code, CODE_CREATED);
        assert_int_equal(n_tokens(&world), 1);
        device_done(&device);
        world_close(&world);
}

/* Whoever it is may begin as many bodies as he likes, and no end to one: what they hold has one, and goes. */
static void t_blocks_outside_are_bounded(void **state) {
        struct coap_message message, outer = {};
        struct device device;
        struct world world;
        unsigned n = 0;

        world_open(&world);
        world.config->source_request_rate = world.config->total_request_rate = 0;
        engine_reconfigure(world.engine);
        device_init(&world, &device, 0);
        do { /* without an end */
                _cleanup_(buf_done) struct buf bytes = BUF_INIT(DATAGRAM_MAX);
                uint8_t scratch[4];

                message = (struct coap_message){ .code = CODE_POST, .mid = (uint16_t)n,
                                                 .payload = bytes_of(large, 1024) };
                coap_message_add(&message, OPTION_OSCORE, BYTES_LITERAL("\x09\x01\xd0\x00"));
                coap_message_add_uint(&message, OPTION_BLOCK1, n << 4 | 8 | 6, scratch);
                assert_int_equal(coap_message_encode(&message, &bytes), 0);
                send_from(&world, device.port, buf_bytes(&bytes));
                assert_true(hear_outer(&device, &outer));
        } while (n++ < 100 && outer.code == CODE_CONTINUE);
        assert_int_equal(outer.code, CODE_TOO_LARGE);
        assert_int_equal(n, 13);

        for (n = 0; n < 5000; n++) { /* by many */
                _cleanup_(buf_done) struct buf bytes = BUF_INIT(DATAGRAM_MAX);

                message = (struct coap_message){ .code = CODE_POST, .payload = bytes_of(large, 1024) };
                coap_message_add(&message, OPTION_OSCORE, BYTES_LITERAL("\x09\x01\xd0\x00"));
                coap_message_add(&message, OPTION_BLOCK1, BYTES_LITERAL("\x0e"));
                assert_int_equal(coap_message_encode(&message, &bytes), 0);
                send_from(&world, 6000 + n, buf_bytes(&bytes));
                engine_sent(world.engine);
        }
        assert_true(figures(&world).fragments.n_bytes <= 1 << 20);
        assert_true(figures(&world).fragments.n_bodies > 100);
        assert_int_equal(figures(&world).blocks.n_bodies, 0);
        assert_int_equal(contexts(&world).n_loaded, 0);
        wait_us(&world, 250 * S);
        run(&world);
        assert_int_equal(figures(&world).fragments.n_bytes, 0);
        assert_int_equal(figures(&world).n_plain_peers, 0);
        world_close(&world);
}

/* ---- separate answers */

/*
 * What takes longer than a second is acknowledged first; the answer is a confirmable message, until it is acknowledged.
 */
static void t_separate_answer(void **state) {
        struct coap_message outer, answer;
        struct heard first;
        struct device devices[2];
        struct world world;
        uint8_t ack[4];
        bool number;

        world_open(&world);
        world.config->batch_max = 1;
        engine_reconfigure(world.engine);
        device_open(&world, &devices[0], 0);
        device_open(&world, &devices[1], 1);
        send_ask(&devices[0], &TOKEN_ASK());
        send_ask(&devices[1], &TOKEN_ASK());
        wait_us(&world, 2 * S);
        assert_true(engine_run(world.engine, world.now)); /* the first's, and then the timers */
        assert_true(hear_outer(&devices[0], &outer));
        assert_true(hear_outer(&devices[1], &outer));
        assert_int_equal(outer.type, TYPE_ACK);
        assert_int_equal(outer.code, CODE_EMPTY);
        run(&world);
        assert_true(hear_outer(&devices[1], &outer));
        assert_int_equal(outer.type, TYPE_CON);
        assert_true(bytes_equal(outer.token, BYTES_LITERAL("\x77")));
        answer = reveal(&devices[1], &outer, &number);
        assert_int_equal(answer.code, CODE_CREATED);
        first = devices[1].heard;
        wait_us(&world, 4 * S);
        run(&world);
        assert_true(hear_outer(&devices[1], &outer));
        assert_memory_equal(devices[1].heard.data, first.data, first.size);
        ack[0] = 0x60;
        ack[1] = 0;
        memcpy(ack + 2, first.data + 2, 2);
        send_from(&world, devices[1].port, bytes_of(ack, 4));
        wait_us(&world, 100 * S);
        run(&world);
        assert_false(hear_outer(&devices[1], &outer));
        assert_int_equal(n_tokens(&world), 2);
        device_done(&devices[0]);
        device_done(&devices[1]);
        world_close(&world);
}

/* ---- observing the revocation list (RFC 9770): OSC-031 to OSC-034 */

static int64_t server_id(const struct world *world) {
        struct server server;

        assert_int_equal(store_server_by_name(world->store, BYTES_LITERAL("rs1"), &server), 0);
        return server.id;
}

/* The list of rs1 changes. */
static void revoke_unheard(struct world *world) {
        uint8_t hash[TOKEN_HASH_SIZE] = { 2 };
        struct client client;
        struct grant grant = { .server_id = server_id(world), .scope = { .kind = SCOPE_TEXT, .size = 4, .data = "read" },
                               .profile = 1, .audience = "rs1", .issued_s = world->now.wall_s,
                               .expires_s = world->now.wall_s + 3600, .pop_key = { .size = 16, .data = "0123" },
                               .has_trl_hash = true };

        assert_int_equal(store_begin(world->store), 0);
        assert_int_equal(store_client_by_name(world->store, BYTES_LITERAL("c0"), &client), 0);
        grant.client_id = client.id;
        assert_int_equal(store_number(world->store, NUMBER_TOKEN, &grant.number), 0);
        grant.key_number = grant.number;
        memcpy(grant.trl_hash, &grant.number, sizeof(grant.number));
        memcpy(hash + 1, &grant.number, sizeof(grant.number));
        assert_int_equal(store_token_add(world->store, &grant, hash), 0);
        assert_int_equal(store_token_revoke(world->store, grant.number, world->now.wall_s), 0);
        assert_int_equal(store_commit(world->store), 0);
}

static void revoke_one(struct world *world) {
        revoke_unheard(world);
        run(world);
}

#define OBSERVE_ASK(value_text, ...) GET_ASK("revoke/trl", .option = OPTION_OBSERVE, \
                                             .value = BYTES_LITERAL(value_text), ##__VA_ARGS__)

/* Its registration, as device->request was then, with which notifications are read. */
static struct oscore_request observe(struct device *device) {
        struct coap_message outer = ask_outer(device, &OBSERVE_ASK("")), answer;
        bool number;

        assert_int_equal(outer.code, CODE_CONTENT);
        assert_true(option_of(&outer, OPTION_OBSERVE) >= 0);
        answer = reveal(device, &outer, &number);
        assert_int_equal(answer.code, CODE_CONTENT);
        assert_int_equal(coap_message_option(&answer, OPTION_OBSERVE, 0)->value.size, 0);
        return device->request;
}

static void answer_empty(struct device *device, uint8_t first) {
        const uint8_t empty[] = { first, 0, device->heard.data[2], device->heard.data[3] };

        send_from(device->world, device->port, bytes_of(empty, 4));
        run(device->world);
}

/* A notification, with a number of its own; it is acknowledged. */
static struct coap_message notified(struct device *device, const struct oscore_request *request) {
        const struct oscore_request last = device->request;
        struct coap_message outer, inner;
        bool number;

        assert_true(hear_outer(device, &outer));
        assert_int_equal(outer.type, TYPE_CON);
        assert_int_equal(outer.code, CODE_CONTENT);
        assert_true(bytes_equal(outer.token, BYTES_LITERAL("\x77")));
        assert_true(option_of(&outer, OPTION_OBSERVE) >= 0);
        device->request = *request;
        inner = reveal(device, &outer, &number);
        device->request = last;
        assert_true(number);
        assert_int_equal(inner.code, CODE_CONTENT);
        assert_int_equal(coap_message_option(&inner, OPTION_OBSERVE, 0)->value.size, 0);
        answer_empty(device, 0x60);
        return inner;
}

/* However long it is: protected it is no longer than a datagram of ours may be, which collect() sees to. */
static void t_answers_of_all_lengths(void **state) {
        struct coap_message answer;
        struct device device;
        struct world world;
        unsigned n_whole = 0;

        world_open(&world);
        device_open(&world, &device, RS1);
        for (unsigned i = 0; i < 200; i++) {
                revoke_unheard(&world);
                answer = ask(&device, &GET_ASK("revoke/trl"));
                assert_int_equal(answer.code, CODE_CONTENT);
                if (coap_message_option(&answer, OPTION_BLOCK2, 0))
                        break;
                n_whole++;
        }
        assert_true(n_whole > 10 && n_whole < 200);
        device_done(&device);
        world_close(&world);
}

/* OSC-026: nothing is said any more that needs a number of ours; what does not is. */
static void t_no_number_is_left(void **state) {
        struct coap_message outer;
        struct device device, other;
        struct world world;

        world_open(&world);
        device_open(&world, &device, RS1);
        (void)observe(&device);
        assert_int_equal(figures(&world).observe.n_observers, 1);
        assert_int_equal(store_begin(world.store), 0);
        assert_int_equal(store_oscore_raise(world.store, OSCORE_NUMBERS_END), 0);
        assert_int_equal(store_commit(world.store), 0);
        revoke_one(&world);
        assert_false(hear_outer(&device, &outer));
        assert_int_equal(figures(&world).observe.n_observers, 0); /* or it would believe what it heard last */
        assert_int_equal(ask(&device, &GET_ASK("revoke/trl")).code, CODE_CONTENT);

        device_init(&world, &other, 0);
        outer = ask_outer(&other, &TOKEN_ASK());
        assert_int_equal(outer.code, CODE_UNAVAILABLE);
        assert_null(coap_message_option(&outer, OPTION_OSCORE, 0));
        assert_int_equal(n_tokens(&world), 1); /* the one that was revoked */
        device_done(&device);
        device_done(&other);
        world_close(&world);
}

static void t_observe(void **state) {
        struct oscore_request request;
        struct coap_message outer;
        struct device device;
        struct world world;
        struct heard registration;

        world_open(&world);
        device_open(&world, &device, RS1);
        request = observe(&device);
        registration = device.sent;
        for (unsigned i = 0; i < 3; i++) {
                revoke_one(&world);
                (void)notified(&device, &request);
        }
        assert_int_equal(figures(&world).observe.n_observers, 1);

        /* neither a plain request with its token ends it (OSC-033), nor the registration once more (OSC-034) */
        assert_int_equal(ask(&device, &GET_ASK("revoke/trl")).code, CODE_CONTENT);
        registration.data[3] ^= 0x40; /* another Message ID */
        send_from(&world, device.port, bytes_of(registration.data, registration.size));
        run(&world);
        assert_true(hear_outer(&device, &outer));
        assert_int_equal(outer.code, CODE_UNAUTHORIZED);
        revoke_one(&world);
        (void)notified(&device, &request);

        /* OSC-032: inner Observe 1, whatever stands outside */
        assert_int_equal(ask(&device, &OBSERVE_ASK("\x01")).code, CODE_CONTENT);
        assert_int_equal(figures(&world).observe.n_observers, 0);
        revoke_one(&world);
        assert_false(hear_outer(&device, &outer));
        device_done(&device);
        world_close(&world);
}

/* It may move; notifications go where it was last, and where it was before is forgotten. */
static void t_observe_from_another_port(void **state) {
        struct oscore_request request;
        struct coap_message outer;
        struct device device;
        struct world world;

        world_open(&world);
        device_open(&world, &device, RS1);
        (void)observe(&device);
        device.port += 100;
        request = observe(&device);
        assert_int_equal(figures(&world).observe.n_observers, 1);
        revoke_one(&world);
        (void)notified(&device, &request);
        device.port -= 100;
        assert_false(hear_outer(&device, &outer));
        wait_us(&world, 300 * S);
        run(&world);
        assert_int_equal(figures(&world).n_oscore_peers, 1); /* that it observes from */
        assert_int_equal(ask(&device, &OBSERVE_ASK("\x01")).code, CODE_CONTENT); /* from elsewhere */
        assert_int_equal(figures(&world).observe.n_observers, 0);
        wait_us(&world, 600 * S);
        run(&world);
        assert_int_equal(figures(&world).n_oscore_peers, 0);
        device_done(&device);
        world_close(&world);
}

/* Reset, silence: it is over. No stranger, however many, makes the address of an observer go, nor does time. */
static void t_observations_end(void **state) {
        struct oscore_request request;
        struct coap_message outer;
        struct device device;
        struct world world;

        world_open(&world);
        world.config->source_request_rate = world.config->total_request_rate = 0;
        world.config->oscore_contexts_max = 2;
        engine_reconfigure(world.engine);
        device_open(&world, &device, RS1);
        request = observe(&device);
        for (unsigned i = 0; i < 3000; i++) {
                send_from(&world, 6000 + i, BYTES_LITERAL("\x40\x01\x00\x01"));
                while (engine_run(world.engine, world.now))
                        ;
                engine_sent(world.engine);
        }
        for (unsigned i = 0; i < 20; i++) {
                wait_us(&world, 100 * S);
                run(&world);
        }
        world.n_heard = 0;
        revoke_one(&world);
        (void)notified(&device, &request);

        revoke_one(&world);
        assert_true(hear_outer(&device, &outer));
        answer_empty(&device, 0x70); /* Reset */
        assert_int_equal(figures(&world).observe.n_observers, 0);

        (void)observe(&device);
        revoke_one(&world);
        for (unsigned i = 0; i < 20; i++) { /* nobody acknowledges */
                wait_us(&world, 10 * S);
                run(&world);
        }
        world.n_heard = 0;
        assert_int_equal(figures(&world).observe.n_observers, 0);
        assert_int_equal(figures(&world).observe.n_ended, 2);
        for (unsigned i = 0; i < 5; i++) {
                wait_us(&world, 100 * S);
                run(&world);
        }
        assert_int_equal(figures(&world).n_oscore_peers, 0);
        device_done(&device);
        world_close(&world);
}

static int on_credential(void *context, const struct credential *credential) {
        if (credential->kind == CREDENTIAL_OSCORE)
                *(int64_t *)context = credential->id;
        return 0;
}

static void delete_context(struct world *world, int64_t client_id, int64_t server_id_or_0) {
        int64_t id = 0;

        assert_int_equal(store_credential_each(world->store, client_id, server_id_or_0, on_credential, &id), 0);
        assert_int_equal(store_begin(world->store), 0);
        assert_int_equal(store_credential_delete(world->store, id, client_id, server_id_or_0), 0);
        assert_int_equal(store_commit(world->store), 0);
}

/* OSC-045: with its credential everything goes. */
static void t_context_is_deleted(void **state) {
        struct coap_message outer;
        struct device device;
        struct world world;

        world_open(&world);
        device_open(&world, &device, RS1);
        (void)observe(&device);
        send_ask(&device, &GET_ASK("revoke/trl", .option = 65000, .value = bytes_of(large, 10))); /* under way */
        delete_context(&world, 0, server_id(&world));
        run(&world);
        assert_true(hear_outer(&device, &outer));
        assert_int_equal(outer.code, CODE_UNAUTHORIZED);
        assert_true(bytes_equal(outer.payload, BYTES_LITERAL("Security context not found")));
        revoke_one(&world);
        assert_false(hear_outer(&device, &outer));
        assert_int_equal(figures(&world).observe.n_observers, 0);
        outer = ask_outer(&device, &GET_ASK("revoke/trl"));
        assert_int_equal(outer.code, CODE_UNAUTHORIZED);
        assert_null(coap_message_option(&outer, OPTION_OSCORE, 0));
        wait_us(&world, 250 * S);
        run(&world);
        assert_int_equal(figures(&world).n_oscore_peers, 0);
        device_done(&device);
        world_close(&world);
}

static struct client client_of(const struct world *world, const char *name) {
        struct client client;

        assert_int_equal(store_client_by_name(world->store, bytes_text(name), &client), 0);
        return client;
}

/* Its keys leave memory with it, by whatever it goes: not only when a sweep has come to them. */
static void t_keys_go_with_the_context(void **state) {
        struct device devices[DEVICES + 1];
        struct coap_message answer;
        struct client client;
        struct world world;
        int64_t id = 0;

        world_open(&world);
        for (unsigned i = 0; i <= DEVICES; i++)
                device_open(&world, &devices[i], i);
        assert_int_equal(contexts(&world).n_contexts, 5);
        delete_context(&world, client_of(&world, "c0").id, 0);
        assert_int_equal(contexts(&world).n_contexts, 4);

        assert_int_equal(store_begin(world.store), 0);
        client = client_of(&world, "c1");
        assert_int_equal(store_client_update(world.store, &client), 0);
        assert_int_equal(contexts(&world).n_contexts, 4);
        client.suspended = true;
        assert_int_equal(store_client_update(world.store, &client), 0);
        assert_int_equal(contexts(&world).n_contexts, 3);
        assert_int_equal(store_client_delete(world.store, client_of(&world, "c2").id, START_S), 0);
        assert_int_equal(contexts(&world).n_contexts, 2);
        assert_int_equal(store_server_delete(world.store, server_id(&world), START_S), 0);
        assert_int_equal(contexts(&world).n_contexts, 1);
        assert_int_equal(store_commit(world.store), 0);

        /* what does not come to be costs an Echo */
        client = client_of(&world, "c3");
        assert_int_equal(store_credential_each(world.store, client.id, 0, on_credential, &id), 0);
        assert_int_equal(store_begin(world.store), 0);
        assert_int_equal(store_credential_delete(world.store, id, client.id, 0), 0);
        store_rollback(world.store);
        assert_int_equal(contexts(&world).n_contexts, 0);
        answer = ask(&devices[3], &TOKEN_ASK());
        assert_int_equal(answer.code, CODE_UNAUTHORIZED);
        assert_non_null(coap_message_option(&answer, OPTION_ECHO, 0));
        assert_int_equal(contexts(&world).n_contexts, 1);
        for (unsigned i = 0; i <= DEVICES; i++)
                device_done(&devices[i]);
        world_close(&world);
}

/* ---- limits */

/* A party over its rate is told so inside, with when to come back (OSC-039); another is not concerned. */
static void t_rate_of_a_context(void **state) {
        struct device device, other;
        struct coap_message answer;
        struct world world;

        world_open(&world);
        world.config->peer_request_rate = 1;
        world.config->peer_request_burst = 3;
        engine_reconfigure(world.engine);
        device_open(&world, &device, 0);
        device_open(&world, &other, 1);
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        device.port += 7; /* which changes nothing */
        answer = ask(&device, &TOKEN_ASK());
        assert_int_equal(answer.code, CODE_TOO_MANY_REQUESTS);
        assert_int_equal(option_of(&answer, OPTION_MAX_AGE), 1);
        assert_int_equal(ask(&other, &TOKEN_ASK()).code, CODE_CREATED);
        wait_us(&world, S);
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        assert_int_equal(n_tokens(&world), 4);
        device_done(&device);
        device_done(&other);
        world_close(&world);
}

/* As many as it likes, as its address is not charged for what proves to be its. */
static void t_proved_requests_are_not_charged(void **state) {
        struct device device;
        struct world world;

        world_open(&world);
        world.config->peer_request_rate = 0;
        world.config->source_request_rate = 1;
        world.config->source_request_burst = 2;
        world.config->total_request_rate = 1;
        world.config->total_request_burst = 2;
        engine_reconfigure(world.engine);
        device_open(&world, &device, 0);
        for (unsigned i = 0; i < 300; i++) {
                device.port = PORT + i % 20; /* known ones, and strangers' */
                assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        }
        assert_int_equal(figures(&world).limit.n_refused_source[STRANGER_REQUEST], 0);
        device_done(&device);
        world_close(&world);
}

/* Nor for the blocks that a relay makes of it; and a server's rate is not a client's. */
static void t_proved_blocks_are_not_charged(void **state) {
        struct coap_message outer;
        struct device device, server;
        struct world world;

        world_open(&world);
        world.config->source_request_rate = 1;
        world.config->source_request_burst = 2;
        world.config->peer_request_rate = 1;
        world.config->peer_request_burst = 8;
        world.config->server_request_rate = 0;
        engine_reconfigure(world.engine);
        device_open(&world, &device, 0);
        for (unsigned i = 0; i < 5; i++) {
                prepare(&device, &TOKEN_ASK(.option = 65000, .value = bytes_of(large, 100)));
                assert_int_equal(relay(&device, 0, &outer), CODE_CHANGED);
        }
        assert_int_equal(n_tokens(&world), 5);
        device_open(&world, &server, RS1);
        for (unsigned i = 0; i < 20; i++)
                assert_int_equal(ask(&server, &GET_ASK("revoke/trl")).code, CODE_CONTENT);
        device_done(&device);
        device_done(&server);
        world_close(&world);
}

/* OSC-047: forged requests, from anywhere and from where somebody we know is, are answered at a rate; he is served. */
static void t_forgeries_are_limited(void **state) {
        struct coap_message outer;
        struct device device;
        struct world world;
        struct heard forged;
        uint64_t n_out;

        world_open(&world);
        device_open(&world, &device, 0);
        prepare(&device, &TOKEN_ASK());
        forged = device.sent;
        forged.data[forged.size - 1] ^= 1;
        n_out = figures(&world).n_datagrams_out;
        for (unsigned i = 0; i < 10000; i++) {
                forged.data[2] = (uint8_t)(i >> 8);
                forged.data[3] = (uint8_t)i;
                send_from(&world, i % 2 ? device.port : 7000 + i % 5, bytes_of(forged.data, forged.size));
                engine_sent(world.engine);
        }
        n_out = figures(&world).n_datagrams_out - n_out;
        assert_int_equal(n_out, 200); /* the burst of a source, twice */
        device.mid = 20000;
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        send_from(&world, device.port, BYTES_LITERAL("\x40\x01\x77\x77\xbb.well-known\x04" "core")); /* in clear */
        run(&world);
        assert_false(hear_outer(&device, &outer));
        device_done(&device);
        world_close(&world);
}

/* More contexts than there is room for: the one unused longest is asked for an Echo when it comes again (OSC-027). */
static void t_contexts_are_bounded(void **state) {
        struct device devices[3];
        struct coap_message answer;
        struct world world;

        world_open(&world);
        world.config->oscore_contexts_max = 2;
        engine_reconfigure(world.engine);
        for (unsigned i = 0; i < 3; i++)
                device_open(&world, &devices[i], i);
        assert_int_equal(contexts(&world).n_contexts, 2);
        assert_int_equal(contexts(&world).n_evicted, 1);
        assert_int_equal(figures(&world).n_oscore_peers, 2);
        assert_int_equal(ask(&devices[2], &TOKEN_ASK()).code, CODE_CREATED);
        assert_int_equal(ask(&devices[1], &TOKEN_ASK()).code, CODE_CREATED);
        answer = ask(&devices[0], &TOKEN_ASK());
        assert_int_equal(answer.code, CODE_UNAUTHORIZED);
        assert_non_null(coap_message_option(&answer, OPTION_ECHO, 0));
        assert_int_equal(n_tokens(&world), 2);
        for (unsigned i = 0; i < 3; i++)
                device_done(&devices[i]);
        world_close(&world);
}

/* What is answered before anything of a batch has run. */
static struct coap_message ask_at_once(struct device *device, const struct ask *what) {
        struct coap_message outer;

        send_ask(device, what);
        assert_true(hear_outer(device, &outer));
        return outer;
}

/* Too much waits: 4.29, or 5.03, inside, with when to come back (OSC-022, OSC-039). */
static void t_overload_is_protected(void **state) {
        struct device devices[3];
        struct coap_message outer, answer;
        struct world world;
        unsigned n_busy = 0;
        bool number;

        world_open(&world);
        world.config->pending_max = 4;
        world.config->pending_per_peer_max = 2;
        engine_reconfigure(world.engine);
        device_open(&world, &devices[0], 0);
        device_open(&world, &devices[1], 1);
        for (unsigned i = 0; i < 4; i++) {
                send_ask(&devices[0], &TOKEN_ASK());
                if (!hear_outer(&devices[0], &outer))
                        continue;
                answer = reveal(&devices[0], &outer, &number);
                assert_int_equal(answer.code, CODE_TOO_MANY_REQUESTS);
                assert_true(option_of(&answer, OPTION_MAX_AGE) > 0);
                n_busy++;
        }
        assert_int_equal(n_busy, 2);
        send_ask(&devices[1], &TOKEN_ASK()); /* there is room for another party */
        run(&world);
        assert_int_equal(n_tokens(&world), 3);

        /* of all together: 5.03 */
        world.n_heard = 0;
        device_open(&world, &devices[2], 2);
        for (unsigned i = 0; i < 4; i++)
                send_ask(&devices[i % 2], &TOKEN_ASK());
        outer = ask_at_once(&devices[2], &TOKEN_ASK());
        assert_int_equal(outer.code, CODE_CHANGED);
        assert_int_equal(outer.n_options, 1);
        answer = reveal(&devices[2], &outer, &number);
        assert_int_equal(answer.code, CODE_UNAVAILABLE);
        assert_true(option_of(&answer, OPTION_MAX_AGE) > 0);
        run(&world);
        assert_int_equal(n_tokens(&world), 7);
        for (unsigned i = 0; i < N_ELEMENTS(devices); i++)
                device_done(&devices[i]);
        world_close(&world);
}

/* ---- inside DTLS */

struct session {
        struct world *world;
        struct dtls_client *dtls;
        struct address remote;
        struct buf heard;
};

static void session_flush(struct session *session) {
        _cleanup_(buf_done) struct buf datagram = BUF_INIT(DATAGRAM_MAX);
        const struct datagram *datagrams;
        struct world *world = session->world;
        size_t n;

        while (dtls_client_output(session->dtls, &datagram))
                engine_input(world->engine, &(struct datagram){ .door = DOOR_COAPS, .socket = 3,
                             .remote = session->remote, .data = buf_bytes(&datagram) }, world->now);
        while (engine_run(world->engine, world->now))
                ;
        n = engine_output(world->engine, &datagrams);
        for (size_t i = 0; i < n; i++)
                dtls_client_input(session->dtls, datagrams[i].data);
        engine_sent(world->engine);
}

static void session_open(struct world *world, struct session *session, const char *name) {
        uint8_t key[PARTY_KEY_SIZE];
        int r = -EAGAIN;

        *session = (struct session){ .world = world, .remote = party_address(1), .heard = BUF_INIT(1 << 17) };
        party_key(name, key);
        assert_int_equal(dtls_client_new(&(struct dtls_client_options){ .identity = bytes_text(name),
                                                                        .key = bytes_of(key, sizeof(key)) },
                                         &session->dtls), 0);
        for (unsigned i = 0; i < 20 && (r = dtls_client_handshake(session->dtls)) == -EAGAIN; i++)
                session_flush(session);
        assert_int_equal(r, 0);
}

static void session_done(struct session *session) {
        dtls_client_free(session->dtls);
        buf_done(&session->heard);
}

/* What the device has prepared, through the session. */
static struct coap_message session_ask(struct session *session, const struct device *device) {
        struct coap_message outer;
        bool header_ok;

        assert_int_equal(dtls_client_send(session->dtls, bytes_of(device->sent.data, device->sent.size)), 0);
        session_flush(session);
        assert_int_equal(dtls_client_receive(session->dtls, &session->heard), 0);
        assert_int_equal(coap_message_decode(buf_bytes(&session->heard), &outer, &header_ok), 0);
        return outer;
}

/* Of the party whose session it is: served. Of another: no such context, and that one's window stays as it was. */
static void t_inside_dtls(void **state) {
        struct session own, others;
        struct coap_message outer;
        struct device device;
        struct world world;
        bool number;

        world_open(&world);
        device_open(&world, &device, 0);
        session_open(&world, &others, "c1");
        prepare(&device, &TOKEN_ASK());
        outer = session_ask(&others, &device);
        assert_int_equal(outer.code, CODE_UNAUTHORIZED);
        assert_null(coap_message_option(&outer, OPTION_OSCORE, 0));
        assert_true(bytes_equal(outer.payload, BYTES_LITERAL("Security context not found")));
        assert_int_equal(n_tokens(&world), 0);
        session_done(&others);

        session_open(&world, &own, "c0");
        outer = session_ask(&own, &device); /* the same bytes: they were not used up */
        assert_int_equal(reveal(&device, &outer, &number).code, CODE_CREATED);
        assert_int_equal(n_tokens(&world), 1);
        session_done(&own);
        device_done(&device);
        world_close(&world);
}

/* ---- memory that fails, once, at every place there is */

static unsigned fail_allocation; /* brought to 0 by the one that fails */

static bool allocation_fails(void) {
        return fail_allocation > 0 && --fail_allocation == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_reallocarray(void *memory, size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_reallocarray(void *memory, size_t n, size_t size);

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

/* The first request of a context that is not loaded, its Echo, an observation, a token; what is lost is sent again. */
static bool fail_at(unsigned n) {
        struct coap_message outer;
        struct device device;
        struct world world;
        bool hit, answered;

        world_open(&world);
        device_init(&world, &device, RS1);
        prepare(&device, &OBSERVE_ASK(""));
        fail_allocation = n;
        for (unsigned tries = 0; tries < 3; tries++) {
                send_again(&device);
                while (engine_run(world.engine, world.now))
                        ;
        }
        hit = fail_allocation == 0;
        fail_allocation = 0;
        collect(&world);
        answered = hear_outer(&device, &outer);
        if (!answered)
                fail_msg("allocation %u: what is lost once cannot be said again", n);
        if (outer.code != CODE_CHANGED && outer.code != CODE_INTERNAL_ERROR &&
            outer.code != CODE_UNAUTHORIZED && outer.code != CODE_UNAVAILABLE)
                fail_msg("allocation %u: %02x", n, outer.code);
        world.n_heard = 0;
        device_done(&device);
        device_open(&world, &device, 0); /* asked anew, the server serves */
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        device_done(&device);
        world_close(&world);
        return hit;
}

/* An observation, and a notification. */
static bool fail_notification_at(unsigned n) {
        struct oscore_request request;
        struct coap_message outer;
        struct device device;
        struct world world;
        unsigned n_observers;
        bool hit;

        world_open(&world);
        device_open(&world, &device, RS1);
        prepare(&device, &OBSERVE_ASK(""));
        fail_allocation = n;
        send_again(&device);
        while (engine_run(world.engine, world.now))
                ;
        n = fail_allocation;
        fail_allocation = 0;
        collect(&world);
        request = device.request;
        n_observers = (unsigned)figures(&world).observe.n_observers;
        revoke_unheard(&world);
        world.n_heard = 0;
        fail_allocation = n;
        while (engine_run(world.engine, world.now))
                ;
        hit = fail_allocation == 0;
        fail_allocation = 0;
        wait_us(&world, 4 * S); /* what could not be said, or was lost, is said then */
        run(&world);
        if (n_observers > 0 && figures(&world).observe.n_observers > 0)
                (void)notified(&device, &request);
        while (hear_outer(&device, &outer))
                assert_int_equal(outer.type, TYPE_CON);
        device_done(&device);
        world_close(&world);
        return hit;
}

static bool fail_token_at(unsigned n) {
        struct coap_message outer;
        struct device device;
        struct world world;
        bool hit, number;
        int64_t before;
        uint8_t code = 0;

        world_open(&world);
        device_open(&world, &device, 0);
        device.port++;
        before = n_tokens(&world);
        prepare(&device, &TOKEN_ASK());
        fail_allocation = n;
        for (unsigned tries = 0; tries < 3; tries++) { /* as long as nothing is heard */
                send_again(&device);
                while (engine_run(world.engine, world.now))
                        ;
        }
        hit = fail_allocation == 0;
        fail_allocation = 0;
        if (hear_outer(&device, &outer))
                code = coap_message_option(&outer, OPTION_OSCORE, 0) ? reveal(&device, &outer, &number).code :
                                                                       outer.code;
        if (code != 0 && code != CODE_CREATED && code != CODE_INTERNAL_ERROR && code != CODE_UNAVAILABLE)
                fail_msg("allocation %u: %02x", n, code);
        if (n_tokens(&world) - before > 1 || (code == CODE_CREATED && n_tokens(&world) - before != 1))
                fail_msg("allocation %u: %02x and %lld tokens", n, code, (long long)(n_tokens(&world) - before));
        world.n_heard = 0;
        device.port++;
        assert_int_equal(ask(&device, &TOKEN_ASK()).code, CODE_CREATED);
        device_done(&device);
        world_close(&world);
        return hit;
}

static void t_out_of_memory(void **state) {
        unsigned n = 0;

        while (fail_at(++n))
                ;
        assert_true(n > 10);
        n = 0;
        while (fail_token_at(++n))
                ;
        assert_true(n > 10);
        n = 0;
        while (fail_notification_at(++n))
                ;
        assert_true(n > 10);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(t_token),
                cmocka_unit_test(t_introspection),
                cmocka_unit_test(t_retransmission),
                cmocka_unit_test(t_refusals_are_protected),
                cmocka_unit_test(t_non_with_a_critical_option),
                cmocka_unit_test(t_forgeries_change_nothing),
                cmocka_unit_test(t_no_oscore_inside),
                cmocka_unit_test(t_outer_is_ignored),
                cmocka_unit_test(t_no_response),
                cmocka_unit_test(t_another_port),
                cmocka_unit_test(t_two_by_one_port),
                cmocka_unit_test(t_blocks_inside),
                cmocka_unit_test(t_blocks_outside),
                cmocka_unit_test(t_two_in_blocks_outside),
                cmocka_unit_test(t_an_echo_comes_in_one_piece),
                cmocka_unit_test(t_answer_in_blocks_outside),
                cmocka_unit_test(t_blocks_outside_are_bounded),
                cmocka_unit_test(t_separate_answer),
                cmocka_unit_test(t_answers_of_all_lengths),
                cmocka_unit_test(t_no_number_is_left),
                cmocka_unit_test(t_observe),
                cmocka_unit_test(t_observe_from_another_port),
                cmocka_unit_test(t_observations_end),
                cmocka_unit_test(t_context_is_deleted),
                cmocka_unit_test(t_keys_go_with_the_context),
                cmocka_unit_test(t_rate_of_a_context),
                cmocka_unit_test(t_proved_requests_are_not_charged),
                cmocka_unit_test(t_proved_blocks_are_not_charged),
                cmocka_unit_test(t_forgeries_are_limited),
                cmocka_unit_test(t_contexts_are_bounded),
                cmocka_unit_test(t_overload_is_protected),
                cmocka_unit_test(t_inside_dtls),
                cmocka_unit_test(t_out_of_memory),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
