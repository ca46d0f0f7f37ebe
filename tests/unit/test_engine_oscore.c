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
#include "store/store.h"
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

static int64_t option_of(const struct coap_message *message, uint16_t number) {
        const struct coap_option *option = coap_message_option(message, number, 0);
        uint32_t value;

        return option && coap_option_uint(option, &value) ? (int64_t)value : -1;
}

struct token_answer {
        struct cbor_item access_token, expires_in, cnf;
};

static void read_token_answer(const struct coap_message *message, struct token_answer *ret) {
        static const struct cbor_field fields[] = {
                { ACE_ACCESS_TOKEN, CBOR_BYTES, offsetof(struct token_answer, access_token) },
                { ACE_EXPIRES_IN, CBOR_UINT, offsetof(struct token_answer, expires_in) },
                { ACE_CNF, CBOR_MAP, offsetof(struct token_answer, cnf) },
        };

        assert_int_equal(message->code, CODE_CREATED);
        assert_int_equal(option_of(message, OPTION_CONTENT_FORMAT), CF_ACE_CBOR);
        assert_int_equal(cbor_map(message->payload, fields, N_ELEMENTS(fields), ret), 0);
        assert_true(ret->access_token.kind == CBOR_BYTES && ret->cnf.kind == CBOR_MAP);
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

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(t_token),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
