#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "base/log.h"
#include "endpoint/aced.h"
#include "format/cbor.h"
#include "format/coap.h"
#include "format/oscore.h"
#include "store/servers.h"
#include "store/store.h"
#include "store/trl.h"
#include "support/answers.h"
#include "support/dtls_client.h"
#include "support/fake.h"
#include "support/parties.h"
#include "transport/engine.h"

/*
 * A network that loses, doubles, delays and reorders datagrams, between the engine and devices that ask for tokens and
 * links, in single messages and in blocks, over DTLS, OSCORE and neither, and a resource server that observes over DTLS
 * and over OSCORE which tokens are revoked meanwhile. All there is follows from a seed, time too: a seed that fails is
 * printed and fails again, alone:
 *
 *     ACED_SEED=4711 tests/unit/test_network
 *     ACED_SEEDS=10000 tests/unit/test_network     (or tests/network/run)
 *
 * For each seed: every request that came through had one effect and one answer; what was acknowledged is there; every
 * timer ends; nothing is left in any table. Who observes knows the latest state in the end, unless it was given up. No
 * two messages are under one nonce. And memory returns.
 */
#define SEEDS 200
#define SEEDS_PER_WORLD 50 /* then the store, whose tokens add up, is made anew, and the heap is weighed */
#define HEAP_SLACK (128 << 10)

#define MS INT64_C(1000)
#define S (1000 * MS)
#define START_S 1700000000
#define START_US (1000 * S)
#define DATAGRAM_MAX 2048
#define PARCELS_MAX 4096

#define DEVICES 6  /* the last one has no security, and asks for links */
#define OSCORE_FROM 3 /* from there to the last: OSCORE */
#define LANES 2    /* transfers of one device at the same time, each with a Request-Tag */
#define OPS 3      /* one after the other in a lane */
#define STAGES_MAX 200
#define GIVE_UP 4  /* retransmissions of a client */
#define PLAIN (DEVICES - 1)
#define WATCHERS 2 /* observe, ask nothing: over DTLS, and over OSCORE */
#define WATCHER DEVICES
#define OSCORE_WATCHER (DEVICES + 1)
#define ALL (DEVICES + WATCHERS)
#define SPENT_MAX 4096
#define SETTLE_US (300 * S)

enum kind { TOKEN, LINKS };
enum progress { NOT_BEGUN, ASKING, PROMISED, ANSWERED, LOST };

/* What one lane of a device is about (RFC 7252 §4.2, RFC 7959). */
struct op {
        enum kind kind;
        enum progress progress;
        bool is_non, in_blocks, wants_blocks;
        uint8_t id, szx1, szx2;
        struct buf body, answer;
        size_t body_sent;        /* bytes of it in blocks that were answered */
        int64_t etag;            /* of the answer's blocks; -1: none yet */

        unsigned stage;          /* which message it is at */
        bool runs;               /* the message that makes the request run */
        uint16_t mid;
        unsigned n_sent;
        int64_t due_us, timeout_us;
        struct buf message;
        uint32_t seen[STAGES_MAX]; /* what a stage was answered with; 0: not yet */
        struct oscore_request requests[STAGES_MAX]; /* what answers to a stage are protected under */
        unsigned n_executed;
};

struct device {
        struct dtls_client *dtls; /* NULL: plain, or OSCORE */
        bool has_keys;            /* OSCORE */
        struct oscore_keys keys;
        uint64_t number;          /* of the next request */
        struct address remote;
        struct op ops[LANES][OPS];
        uint16_t mid;
};

struct parcel {
        int64_t at_us;
        bool to_server;
        unsigned device;
        struct op *op; /* whose message it is, when it makes the request run */
        size_t size;
        uint8_t data[1400];
};

struct simulation {
        struct config *config;
        struct store *store;
        struct aced as;
        struct engine *engine;
        struct engine_time now;
        uint64_t seed, random, n_runs;
        struct device devices[ALL];
        struct watcher {
                bool is_deaf;
                int64_t cursor;      /* the last update it knows of; -1: none */
                uint32_t sequence;
                struct oscore_request request; /* the registration */
                int64_t number;      /* the highest Partial IV that was heard */
                unsigned n_heard;
        } watchers[WATCHERS];
        struct spent {               /* what was encrypted to whom, under which number of whom */
                unsigned device;
                bool is_own;
                uint64_t number;
                uint32_t digest;
        } *spent;
        size_t n_spent;
        int64_t n_old_tokens;        /* of earlier seeds: to be revoked */
        uint64_t n_notified, n_given_up;
        struct parcel *parcels;
        size_t n_parcels;
        int64_t run_us; /* when the server gets around to work */
        unsigned loss_percent;
        struct buf heard;
        struct buf links[3]; /* as they were first heard, by devices with DTLS, with nothing, with OSCORE */
        uint64_t n_promised, n_answered, n_blocks, n_lost, n_too_late;
};

#define FAIL(sim, format, ...) fail_msg("seed %llu: " format, (unsigned long long)(sim)->seed, ##__VA_ARGS__)

static uint32_t draw(struct simulation *sim, uint32_t below) {
        sim->random = sim->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (uint32_t)(sim->random >> 33) % below;
}

/* ---- the world */

/* Of rs1, when they are revoked (RFC 9770). */
static void list_tokens(struct simulation *sim) {
        struct server server;

        assert_int_equal(store_server_by_name(sim->store, BYTES_LITERAL("rs1"), &server), 0);
        server.has_trl = server.token_tagged = true;
        assert_int_equal(store_server_update(sim->store, &server), 0);
}

static struct bytes kid_of(unsigned device) {
        static const uint8_t kids[ALL] = { 0, 1, 2, 3, 4, 5, 6, 7 };

        return bytes_of(&kids[device], 1);
}

static void world_open(struct simulation *sim) {
        static const uint8_t seal_key[32] = { 1 };
        struct diags diags = {};
        char name[8];

        log_set_level(0);
        assert_int_equal(config_load(NULL, &sim->config, &diags), 0);
        sim->config->tokens_per_client_max = 1000000;
        sim->config->default_lifetime_s = sim->config->max_lifetime_s = 80000;
        sim->config->session_idle_s = 1000;
        /* time is long here and nobody greedy: rates are tested elsewhere */
        sim->config->source_request_rate = sim->config->total_request_rate = sim->config->peer_request_rate = 0;
        sim->config->source_hello_rate = sim->config->source_handshake_rate = sim->config->total_hello_rate = 0;
        assert_int_equal(store_open(&(struct store_options){ .seal_key = bytes_of(seal_key, 32) }, &sim->store,
                                    &diags), 0);
        assert_int_equal(store_begin(sim->store), 0);
        party_add_server(sim->store, "rs1");
        list_tokens(sim);
        for (unsigned i = 0; i < DEVICES; i++) {
                snprintf(name, sizeof(name), "c%u", i);
                party_add_client(sim->store, name, NULL, "read");
                if (i >= OSCORE_FROM && i != PLAIN)
                        party_add_context(sim->store, name, kid_of(i));
        }
        party_add_context(sim->store, "rs1", kid_of(OSCORE_WATCHER));
        assert_int_equal(store_commit(sim->store), 0);
        sim->as = (struct aced){ .config = sim->config, .store = sim->store, .started_s = START_S };
        sim->now = (struct engine_time){ START_US, START_S };
}

static void world_close(struct simulation *sim) {
        store_free(TAKE_PTR(sim->store));
        config_free(TAKE_PTR(sim->config));
}

static int64_t n_tokens(const struct simulation *sim) {
        struct store_status status;

        assert_int_equal(store_status(sim->store, &status), 0);
        return status.n_tokens;
}

static struct engine_figures figures(const struct simulation *sim) {
        struct engine_figures ret;

        engine_figures(sim->engine, &ret);
        return ret;
}

static void set_time(struct simulation *sim, int64_t monotonic_us) {
        if (monotonic_us <= sim->now.monotonic_us)
                return;
        sim->now.monotonic_us = monotonic_us;
        sim->now.wall_s = START_S + (monotonic_us - START_US) / S;
}

static void input(struct simulation *sim, unsigned n, struct bytes data) {
        const struct device *device = &sim->devices[n];

        engine_input(sim->engine, &(struct datagram){ .door = device->dtls ? DOOR_COAPS : DOOR_COAP, .socket = 3,
                                                      .remote = device->remote, .data = data }, sim->now);
}

/* ---- the network */

static void post(struct simulation *sim, bool to_server, unsigned device, struct op *op, struct bytes data) {
        unsigned n_copies = draw(sim, 100) < sim->loss_percent ? 0 : draw(sim, 100) < 15 ? 2 : 1;

        while (n_copies-- > 0) {
                struct parcel *parcel = &sim->parcels[sim->n_parcels++];

                assert_in_range(sim->n_parcels, 1, PARCELS_MAX);
                assert_in_range(data.size, 1, sizeof(parcel->data));
                *parcel = (struct parcel){ .to_server = to_server, .device = device, .op = op, .size = data.size };
                parcel->at_us = sim->now.monotonic_us + 5 * MS + draw(sim, 200) * MS +
                                (draw(sim, 10) == 0 ? draw(sim, 6000) * MS : 0);
                memcpy(parcel->data, data.data, data.size);
        }
}

static void collect(struct simulation *sim) {
        const struct datagram *datagrams;
        size_t n = engine_output(sim->engine, &datagrams);

        for (size_t i = 0; i < n; i++)
                post(sim, false, ntohs(datagrams[i].remote.in.sin_port), NULL, datagrams[i].data);
        engine_sent(sim->engine);
}

static void say(struct simulation *sim, unsigned n, struct op *op, struct bytes message) {
        _cleanup_(buf_done) struct buf datagram = BUF_INIT(DATAGRAM_MAX);
        struct dtls_client *dtls = sim->devices[n].dtls;

        if (!dtls) {
                post(sim, true, n, op, message);
                return;
        }
        assert_int_equal(dtls_client_send(dtls, message), 0);
        while (dtls_client_output(dtls, &datagram))
                post(sim, true, n, op, buf_bytes(&datagram));
}

/* ---- a device: what it asks */

/* { 5: "rs1", 9: "read", 9999: as much as it takes }: unknown keys are ignored */
static void make_body(struct simulation *sim, struct op *op) {
        static const uint8_t padding[1500];
        struct cbor_writer w = CBOR_WRITER(&op->body);

        op->body = BUF_INIT(2048);
        cbor_put_map(&w, op->in_blocks ? 3 : 2);
        cbor_put_uint(&w, ACE_AUDIENCE);
        cbor_put_text(&w, BYTES_LITERAL("rs1"));
        cbor_put_uint(&w, ACE_SCOPE);
        cbor_put_text(&w, BYTES_LITERAL("read"));
        if (op->in_blocks) {
                cbor_put_uint(&w, 9999);
                cbor_put_bytes(&w, bytes_of(padding, draw(sim, (uint32_t)20 << op->szx1)));
        }
        assert_int_equal(cbor_end(&w), 0);
}

static void op_init(struct simulation *sim, struct op *op, unsigned device, unsigned number) {
        *op = (struct op){ .id = (uint8_t)number, .etag = -1, .answer = BUF_INIT(4096), .message = BUF_INIT(2048) };
        op->kind = device == PLAIN || draw(sim, 5) == 0 ? LINKS : TOKEN;
        op->szx1 = (uint8_t)draw(sim, 6);
        op->szx2 = (uint8_t)draw(sim, 4);
        op->wants_blocks = draw(sim, 2);
        op->in_blocks = op->kind == TOKEN && draw(sim, 2);
        op->is_non = !op->in_blocks && !op->wants_blocks && draw(sim, 4) == 0;
        if (op->kind == TOKEN)
                make_body(sim, op);
}

static void op_done(struct op *op) {
        buf_done(&op->body);
        buf_done(&op->answer);
        buf_done(&op->message);
}

/* As it goes out: under the device's context when it has one. */
static void encode(struct device *device, const struct coap_message *message, struct oscore_request *ret_request,
                   struct buf *ret) {
        struct oscore_outer outer = { .payload = BUF_INIT(2048) };
        uint64_t number = device->number++;

        buf_clear(ret);
        if (device->has_keys)
                assert_int_equal(oscore_protect_request(&device->keys, number, BYTES_NONE, message, &outer,
                                                        ret_request), 0);
        assert_int_equal(coap_message_encode(device->has_keys ? &outer.message : message, ret), 0);
        buf_done(&outer.payload);
}

static void add_path(struct coap_message *message, const struct op *op) {
        if (op->kind == LINKS) {
                coap_message_add(message, OPTION_URI_PATH, BYTES_LITERAL(".well-known"));
                coap_message_add(message, OPTION_URI_PATH, BYTES_LITERAL("core"));
        } else {
                coap_message_add(message, OPTION_URI_PATH, BYTES_LITERAL("token"));
                coap_message_add(message, OPTION_CONTENT_FORMAT, BYTES_LITERAL("\x13"));
        }
}

/* The block of the body that is due; true: it is the last one. */
static bool add_body(struct coap_message *message, const struct op *op, uint8_t scratch[4]) {
        size_t size = (size_t)16 << op->szx1, left = op->body.size - op->body_sent;
        bool more = left > size;

        message->payload = bytes_of(op->body.data + op->body_sent, more ? size : left);
        if (op->in_blocks)
                coap_message_add_uint(message, OPTION_BLOCK1,
                                      (uint32_t)(op->body_sent / size) << 4 | more << 3 | op->szx1, scratch);
        return !op->in_blocks || !more;
}

/* The next message of the transfer. */
static void op_compose(struct device *device, struct op *op, unsigned lane, uint16_t mid) {
        const uint8_t tag = (uint8_t)lane, token[2] = { op->id, (uint8_t)op->stage };
        struct coap_message message = { .type = op->is_non ? TYPE_NON : TYPE_CON, .mid = mid,
                                        .code = op->kind == LINKS ? CODE_GET : CODE_POST,
                                        .token = bytes_of(token, 2) };
        bool fetches = op->answer.size > 0;
        uint8_t scratch[2][4];

        add_path(&message, op);
        op->runs = !fetches && (op->kind == LINKS || add_body(&message, op, scratch[0]));
        if (fetches || op->wants_blocks)
                coap_message_add_uint(&message, OPTION_BLOCK2,
                                      (uint32_t)(op->answer.size >> (op->szx2 + 4)) << 4 | op->szx2, scratch[1]);
        coap_message_add(&message, OPTION_REQUEST_TAG, bytes_of(&tag, 1));
        assert_in_range(op->stage, 0, STAGES_MAX - 1);
        encode(device, &message, &op->requests[op->stage], &op->message);
        op->mid = mid;
}

static void op_send(struct simulation *sim, unsigned n, struct op *op) {
        struct device *device = &sim->devices[n];

        if (op->n_sent == 0) {
                op_compose(device, op, op->id / OPS, ++device->mid);
                op->timeout_us = op->is_non ? 30 * S : 2 * S + draw(sim, 1000) * MS;
                op->progress = ASKING;
        } else {
                op->timeout_us *= 2;
        }
        op->n_sent++;
        op->due_us = sim->now.monotonic_us + op->timeout_us;
        say(sim, n, op->runs ? op : NULL, buf_bytes(&op->message));
}

/* What a client does when its patience ends. */
static void op_out_of_time(struct simulation *sim, unsigned n, struct op *op) {
        if (op->progress == PROMISED || op->is_non || op->n_sent > GIVE_UP)
                op->progress = LOST;
        else
                op_send(sim, n, op);
}

/* ---- a device: what it hears */

static struct bytes access_token(struct simulation *sim, const struct op *op) {
        static const struct cbor_field fields[] = {
                { ACE_ACCESS_TOKEN, CBOR_BYTES, offsetof(struct token_answer, access_token) },
        };
        struct token_answer answer;

        if (cbor_map(buf_bytes(&op->answer), fields, N_ELEMENTS(fields), &answer) != 0 ||
            answer.access_token.kind != CBOR_BYTES)
                FAIL(sim, "an answer put together from blocks is none");
        return answer.access_token.content;
}

static void op_end(struct simulation *sim, unsigned n, struct op *op) {
        struct buf *links = &sim->links[n == PLAIN ? 1 : sim->devices[n].has_keys ? 2 : 0];

        op->progress = ANSWERED;
        if (op->kind == TOKEN) {
                access_token(sim, op);
        } else if (links->size == 0) {
                buf_add(links, buf_bytes(&op->answer));
        } else if (!bytes_equal(buf_bytes(links), buf_bytes(&op->answer))) {
                FAIL(sim, "links put together from blocks are not the links");
        }
}

/* A block of the answer, or all of it. */
static void op_take(struct simulation *sim, unsigned n, struct op *op, const struct coap_message *message) {
        int64_t block2 = option_of(message, OPTION_BLOCK2), etag = option_of(message, OPTION_ETAG);
        size_t at = block2 < 0 ? 0 : (size_t)(block2 >> 4) << ((block2 & 7) + 4);

        if (at != op->answer.size)
                FAIL(sim, "block at %zu, %zu wanted", at, op->answer.size);
        if (at > 0 && etag != op->etag)
                FAIL(sim, "blocks of two answers");
        op->etag = etag;
        if (block2 >= 0)
                op->szx2 = block2 & 7;
        buf_add(&op->answer, message->payload);
        if (block2 < 0 || !(block2 & 8)) {
                op_end(sim, n, op);
                return;
        }
        sim->n_blocks++;
        op->stage++;
        op->n_sent = 0;
        op->is_non = false;
        op_send(sim, n, op);
}

static uint32_t digest(const struct coap_message *message) {
        uint32_t hash = UINT32_C(2166136261) ^ message->code;

        for (size_t i = 0; i < message->payload.size; i++)
                hash = (hash ^ message->payload.data[i]) * UINT32_C(16777619);
        return hash | 1;
}

static void op_answered(struct simulation *sim, unsigned n, struct op *op, unsigned stage,
                        const struct coap_message *message) {
        assert_in_range(stage, 0, STAGES_MAX - 1);
        if (op->seen[stage] != 0 && op->seen[stage] != digest(message))
                FAIL(sim, "two answers to one message");
        op->seen[stage] = digest(message);
        if (stage != op->stage || (op->progress != ASKING && op->progress != PROMISED))
                return;
        if (message->code == CODE_CONTINUE && !op->runs && op->answer.size == 0) {
                sim->n_blocks++;
                op->body_sent += (size_t)16 << op->szx1;
                op->stage++;
                op->n_sent = 0;
                op_send(sim, n, op);
        } else if (message->code == (op->kind == LINKS ? CODE_CONTENT : CODE_CREATED)) {
                op_take(sim, n, op, message);
        } else {
                FAIL(sim, "device %u, transfer %u, message %u: code %02x", n, op->id, stage, message->code);
        }
}

static void hear_empty(struct simulation *sim, struct device *device, const struct coap_message *message) {
        assert_int_equal(message->type, TYPE_ACK);
        for (unsigned i = 0; i < LANES * OPS; i++) {
                struct op *op = &device->ops[i / OPS][i % OPS];

                if (op->progress == ASKING && op->mid == message->mid) {
                        op->progress = PROMISED;
                        sim->n_promised++;
                        op->due_us = sim->now.monotonic_us + 100 * S;
                }
        }
}

/* Under no key a nonce is used for two messages (RFC 8613 §7.2.1); the same one may come again. */
static void spend(struct simulation *sim, unsigned n, const struct oscore_request *request, struct bytes own,
                  const struct coap_message *outer) {
        struct spent spent = { .device = n, .is_own = own.data, .digest = digest(outer) };

        spent.number = oscore_piv_decode(own.data ? own : bytes_of(request->piv, request->piv_size));
        for (size_t i = 0; i < sim->n_spent; i++) {
                const struct spent *one = &sim->spent[i];

                if (one->device != n || one->is_own != spent.is_own || one->number != spent.number)
                        continue;
                if (one->digest != spent.digest)
                        FAIL(sim, "device %u: two messages under number %llu", n, (unsigned long long)spent.number);
                return;
        }
        assert_in_range(sim->n_spent, 0, SPENT_MAX - 1);
        sim->spent[sim->n_spent++] = spent;
}

/* What is inside; the Partial IV of its own, -1: the request's. */
static int64_t unprotect(struct simulation *sim, unsigned n, const struct oscore_request *request,
                         const struct coap_message *outer, struct buf *plain, struct coap_message *ret) {
        const struct coap_option *value = coap_message_option(outer, OPTION_OSCORE, 0);
        struct oscore_option option;

        if (!value || oscore_option_decode(value->value, &option) != 0 ||
            oscore_unprotect_response(&sim->devices[n].keys, request, &option, outer, plain, ret) != 0)
                FAIL(sim, "device %u: what it heard is not for it, code %02x", n, outer->code);
        spend(sim, n, request, option.piv, outer);
        return option.piv.data ? (int64_t)oscore_piv_decode(option.piv) : -1;
}

/* So late that 32 others were there before it (§7.4): the device would have to ask anew. */
static bool is_too_late(struct simulation *sim, struct op *op, const struct coap_message *message) {
        if (message->code != CODE_UNAUTHORIZED || !bytes_equal(message->payload, BYTES_LITERAL("Replay detected")))
                return false;
        if (op->progress == ASKING || op->progress == PROMISED) {
                op->progress = LOST;
                sim->n_too_late++;
        }
        return true;
}

static void hear(struct simulation *sim, unsigned n, struct bytes data) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(DATAGRAM_MAX);
        struct device *device = &sim->devices[n];
        struct coap_message message, inner;
        bool header_ok;
        struct op *op;

        assert_int_equal(coap_message_decode(data, &message, &header_ok), 0);
        if (message.code == CODE_EMPTY) {
                hear_empty(sim, device, &message);
                return;
        }
        assert_int_equal(message.token.size, 2);
        assert_in_range(message.token.data[0], 0, LANES * OPS - 1);
        op = &device->ops[message.token.data[0] / OPS][message.token.data[0] % OPS];
        if (message.type == TYPE_CON) {
                const uint8_t ack[4] = { 0x60, 0, (uint8_t)(message.mid >> 8), (uint8_t)message.mid };

                say(sim, n, NULL, bytes_of(ack, sizeof(ack)));
        }
        if (!device->has_keys) {
                op_answered(sim, n, op, message.token.data[1], &message);
        } else if (!is_too_late(sim, op, &message)) {
                unprotect(sim, n, &op->requests[message.token.data[1]], &message, &plain, &inner);
                op_answered(sim, n, op, message.token.data[1], &inner);
        }
}

/* ---- who observes */

struct list {
        struct cbor_item cursor;
};

static int64_t cursor_of(struct simulation *sim, struct bytes payload) {
        static const struct cbor_field fields[] = {
                { TRL_CURSOR, CBOR_UINT | CBOR_NULL, offsetof(struct list, cursor) },
        };
        struct list list;

        if (cbor_map(payload, fields, N_ELEMENTS(fields), &list) != 0 || list.cursor.kind == CBOR_ABSENT)
                FAIL(sim, "a notification without cursor");
        return list.cursor.kind == CBOR_UINT ? (int64_t)list.cursor.argument : -1;
}

/* RFC 7641 §3.4: is it newer than what is known? */
static bool is_newer(uint32_t sequence, uint32_t known) {
        return ((sequence - known) & 0xffffff) - 1 < 0x7fffff;
}

/* Newer than what is known? Over OSCORE the Partial IV says so (RFC 8613 §4.1.3.5.2). */
static bool watcher_knows(struct watcher *watcher, int64_t number, int64_t sequence) {
        if (watcher->n_heard++ > 0 &&
            (number >= 0 ? number <= watcher->number : !is_newer((uint32_t)sequence, watcher->sequence)))
                return true;
        watcher->number = number;
        watcher->sequence = (uint32_t)sequence;
        return false;
}

static void watcher_hear(struct simulation *sim, unsigned n, struct bytes data) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(DATAGRAM_MAX);
        struct watcher *watcher = &sim->watchers[n - WATCHER];
        struct coap_message message, inner;
        int64_t sequence, number = -1;
        bool header_ok;

        assert_int_equal(coap_message_decode(data, &message, &header_ok), 0);
        if (watcher->is_deaf || message.code == CODE_EMPTY)
                return;
        inner = message;
        if (sim->devices[n].has_keys)
                number = unprotect(sim, n, &watcher->request, &message, &plain, &inner);
        sequence = option_of(&inner, OPTION_OBSERVE);
        if (inner.code != CODE_CONTENT || !bytes_equal(message.token, BYTES_LITERAL("watch")) || sequence < 0)
                FAIL(sim, "a notification with code %02x", inner.code);
        if (message.type == TYPE_CON) {
                const uint8_t ack[4] = { 0x60, 0, (uint8_t)(message.mid >> 8), (uint8_t)message.mid };

                say(sim, n, NULL, bytes_of(ack, sizeof(ack)));
                sim->n_notified++;
        }
        if (watcher_knows(watcher, number, sequence))
                return;
        if (cursor_of(sim, inner.payload) < watcher->cursor)
                FAIL(sim, "a newer notification of an older state");
        watcher->cursor = cursor_of(sim, inner.payload);
}

/* Of tokens that nobody asks about any more. */
static void revoke_some(struct simulation *sim) {
        if (sim->n_old_tokens == 0 || draw(sim, 20) != 0)
                return;
        assert_int_equal(store_begin(sim->store), 0);
        for (uint32_t n = 1 + draw(sim, 3); n > 0; n--)
                assert_int_equal(store_token_revoke(sim->store, 1 + draw(sim, (uint32_t)sim->n_old_tokens),
                                                    sim->now.wall_s), 0);
        assert_int_equal(store_commit(sim->store), 0);
}

static void check_watchers(struct simulation *sim) {
        unsigned n_up_to_date = 0;
        int64_t first, last = -1;
        struct server server;

        assert_int_equal(store_server_by_name(sim->store, BYTES_LITERAL("rs1"), &server), 0);
        (void)store_trl_items(sim->store, server.id, &first, &last);
        for (unsigned i = 0; i < WATCHERS; i++)
                n_up_to_date += sim->watchers[i].cursor == last;
        if (figures(sim).observe.n_observers > n_up_to_date)
                FAIL(sim, "update %lld is known of %lld and %lld", (long long)sim->watchers[0].cursor,
                     (long long)sim->watchers[1].cursor, (long long)last);
        sim->n_given_up += WATCHERS - figures(sim).observe.n_observers; /* five times nothing came through */
}

/* ---- time goes on */

static void device_hear(struct simulation *sim, unsigned n, struct bytes data) {
        if (n >= WATCHER)
                watcher_hear(sim, n, data);
        else
                hear(sim, n, data);
}

static void take_parcel(struct simulation *sim, size_t at) {
        struct parcel parcel = sim->parcels[at];
        struct device *device = &sim->devices[parcel.device];
        uint64_t n_before = figures(sim).n_requests;

        sim->parcels[at] = sim->parcels[--sim->n_parcels];
        if (parcel.to_server) {
                input(sim, parcel.device, bytes_of(parcel.data, parcel.size));
                if (parcel.op && figures(sim).n_requests > n_before && ++parcel.op->n_executed > 1)
                        FAIL(sim, "a request ran twice");
                collect(sim);
                return;
        }
        if (!device->dtls) {
                device_hear(sim, parcel.device, bytes_of(parcel.data, parcel.size));
                return;
        }
        dtls_client_input(device->dtls, bytes_of(parcel.data, parcel.size));
        while (dtls_client_receive(device->dtls, &sim->heard) == 0)
                device_hear(sim, parcel.device, buf_bytes(&sim->heard));
}

/* What a lane is about; NULL: all is done. */
static struct op *lane_op(struct device *device, unsigned lane) {
        for (unsigned i = 0; i < OPS; i++)
                if (device->ops[lane][i].progress < ANSWERED)
                        return &device->ops[lane][i];
        return NULL;
}

static int64_t earliest(int64_t a, int64_t b) {
        return a < b ? a : b;
}

/* When the first transfer loses patience; those that can begin do. INT64_MAX: all are done. */
static int64_t devices_due(struct simulation *sim) {
        int64_t due_us = INT64_MAX;
        struct op *op;

        for (unsigned i = 0; i < DEVICES * LANES; i++) {
                op = lane_op(&sim->devices[i / LANES], i % LANES);
                if (op && op->progress == NOT_BEGUN)
                        op_send(sim, i / LANES, op);
                if (op)
                        due_us = earliest(due_us, op->due_us);
        }
        return due_us;
}

static void devices_run(struct simulation *sim) {
        struct op *op;

        for (unsigned i = 0; i < DEVICES * LANES; i++) {
                op = lane_op(&sim->devices[i / LANES], i % LANES);
                if (op && op->progress != NOT_BEGUN && op->due_us <= sim->now.monotonic_us)
                        op_out_of_time(sim, i / LANES, op);
        }
}

static size_t first_parcel(const struct simulation *sim) {
        size_t first = 0;

        for (size_t i = 1; i < sim->n_parcels; i++)
                if (sim->parcels[i].at_us < sim->parcels[first].at_us)
                        first = i;
        return first;
}

/* The next thing that happens. False: nothing will, any more. */
static bool step(struct simulation *sim) {
        int64_t devices_us = devices_due(sim), engine_us = engine_due(sim->engine);
        bool busy = devices_us != INT64_MAX || sim->n_parcels > 0;
        size_t first = first_parcel(sim);
        int64_t due_us = busy ? sim->run_us : engine_us > sim->run_us ? engine_us : sim->run_us;

        if (!busy && engine_us == INT64_MAX)
                return false;
        due_us = earliest(due_us, devices_us);
        if (sim->n_parcels > 0)
                due_us = earliest(due_us, sim->parcels[first].at_us);
        set_time(sim, due_us);
        if (sim->n_parcels > 0 && sim->parcels[first].at_us <= due_us)
                take_parcel(sim, first);
        devices_run(sim);
        if (sim->run_us <= due_us) {
                engine_run(sim->engine, sim->now);
                collect(sim);
                /* mostly prompt, at times so busy that answers become separate ones */
                sim->run_us = sim->now.monotonic_us + 10 * MS +
                              (draw(sim, 8) == 0 ? draw(sim, 4000) * MS : draw(sim, 60) * MS);
        }
        return true;
}

/* ---- before and after: the weather is fine */

static void exchange_finely(struct simulation *sim, unsigned n) {
        _cleanup_(buf_done) struct buf datagram = BUF_INIT(DATAGRAM_MAX);
        const struct datagram *datagrams;
        size_t n_datagrams;

        while (dtls_client_output(sim->devices[n].dtls, &datagram))
                input(sim, n, buf_bytes(&datagram));
        engine_run(sim->engine, sim->now);
        n_datagrams = engine_output(sim->engine, &datagrams);
        for (size_t i = 0; i < n_datagrams; i++)
                if (ntohs(datagrams[i].remote.in.sin_port) == n)
                        dtls_client_input(sim->devices[n].dtls, datagrams[i].data);
        engine_sent(sim->engine);
}

static void device_open(struct simulation *sim, unsigned n, const char *identity) {
        struct device *device = &sim->devices[n];
        uint8_t key[PARTY_KEY_SIZE];
        int r = -EAGAIN;

        party_key(identity, key);
        assert_int_equal(dtls_client_new(&(struct dtls_client_options){ .identity = bytes_text(identity),
                                                                        .key = bytes_of(key, sizeof(key)) },
                                         &device->dtls), 0);
        for (unsigned i = 0; i < 20 && (r = dtls_client_handshake(device->dtls)) == -EAGAIN; i++)
                exchange_finely(sim, n);
        assert_int_equal(r, 0);
}

/* The answer to a plain datagram, while the weather is fine. */
static void ask_finely(struct simulation *sim, unsigned n, struct bytes data, struct buf *ret) {
        const struct datagram *datagrams;
        size_t n_datagrams;

        input(sim, n, data);
        engine_run(sim->engine, sim->now);
        n_datagrams = engine_output(sim->engine, &datagrams);
        buf_clear(ret);
        for (size_t i = 0; i < n_datagrams; i++)
                if (ntohs(datagrams[i].remote.in.sin_port) == n)
                        buf_add(ret, datagrams[i].data);
        engine_sent(sim->engine);
}

/* The engine does not know what was seen of this context before: an Echo, and it does (RFC 8613 Appendix B.1.2). */
static void context_open(struct simulation *sim, unsigned n, const char *identity) {
        _cleanup_(buf_done) struct buf message = BUF_INIT(256), plain = BUF_INIT(256), echo = BUF_INIT(64);
        struct coap_message outer, inner = {};
        struct device *device = &sim->devices[n];
        struct oscore_request request;
        bool header_ok;

        party_context(identity, kid_of(n), &device->keys);
        device->has_keys = true;
        for (unsigned i = 0; i < 2; i++) {
                struct coap_message ask = { .code = CODE_GET, .mid = ++device->mid };

                coap_message_add(&ask, OPTION_URI_PATH, BYTES_LITERAL("nothing"));
                if (i == 1)
                        coap_message_add(&ask, OPTION_ECHO, buf_bytes(&echo));
                encode(device, &ask, &request, &message);
                ask_finely(sim, n, buf_bytes(&message), &sim->heard);
                assert_int_equal(coap_message_decode(buf_bytes(&sim->heard), &outer, &header_ok), 0);
                unprotect(sim, n, &request, &outer, &plain, &inner);
                if (i == 0)
                        buf_add(&echo, coap_message_option(&inner, OPTION_ECHO, 0)->value);
                buf_clear(&plain);
        }
        assert_int_equal(inner.code, CODE_NOT_FOUND);
}

static void watcher_open(struct simulation *sim, unsigned n) {
        _cleanup_(buf_done) struct buf message = BUF_INIT(256);
        struct coap_message ask = { .code = CODE_GET, .token = BYTES_LITERAL("watch") };
        struct watcher *watcher = &sim->watchers[n - WATCHER];
        struct device *device = &sim->devices[n];

        *device = (struct device){ .remote = party_address(n), .number = sim->n_runs << 16 };
        *watcher = (struct watcher){ .cursor = -1 };
        if (n == OSCORE_WATCHER)
                context_open(sim, n, "rs1");
        else
                device_open(sim, n, "rs1");
        ask.mid = ++device->mid;
        coap_message_add(&ask, OPTION_OBSERVE, BYTES_NONE);
        coap_message_add(&ask, OPTION_URI_PATH, BYTES_LITERAL("revoke"));
        coap_message_add(&ask, OPTION_URI_PATH, BYTES_LITERAL("trl"));
        coap_message_add(&ask, OPTION_URI_QUERY, BYTES_LITERAL("diff=1"));
        encode(device, &ask, &watcher->request, &message);
        if (device->has_keys) {
                ask_finely(sim, n, buf_bytes(&message), &sim->heard);
        } else {
                assert_int_equal(dtls_client_send(device->dtls, buf_bytes(&message)), 0);
                exchange_finely(sim, n);
                assert_int_equal(dtls_client_receive(device->dtls, &sim->heard), 0);
        }
        watcher_hear(sim, n, buf_bytes(&sim->heard));
        assert_int_equal(watcher->n_heard, 1);
}

static void devices_open(struct simulation *sim) {
        for (unsigned n = 0; n < DEVICES; n++) {
                struct device *device = &sim->devices[n];
                char identity[8];

                *device = (struct device){ .remote = party_address(n), .mid = (uint16_t)draw(sim, 65536),
                                           .number = sim->n_runs << 16 };
                for (unsigned i = 0; i < LANES * OPS; i++)
                        op_init(sim, &device->ops[i / OPS][i % OPS], n, i);
                snprintf(identity, sizeof(identity), "c%u", n);
                if (n >= OSCORE_FROM && n != PLAIN)
                        context_open(sim, n, identity);
                else if (n != PLAIN)
                        device_open(sim, n, identity);
        }
        watcher_open(sim, WATCHER);
        watcher_open(sim, OSCORE_WATCHER);
}

/* The resource server asks about what a client holds. */
static void introspect(struct simulation *sim, struct bytes token) {
        _cleanup_(buf_done) struct buf payload = BUF_INIT(1024), message = BUF_INIT(2048);
        struct coap_message ask = { .code = CODE_POST }, answer;
        struct cbor_writer w = CBOR_WRITER(&payload);
        struct device *device = &sim->devices[PLAIN];
        bool header_ok;

        cbor_put_map(&w, 1);
        cbor_put_uint(&w, INTRO_TOKEN);
        cbor_put_bytes(&w, token);
        assert_int_equal(cbor_end(&w), 0);
        ask.mid = ++device->mid;
        ask.payload = buf_bytes(&payload);
        coap_message_add(&ask, OPTION_URI_PATH, BYTES_LITERAL("introspect"));
        coap_message_add(&ask, OPTION_CONTENT_FORMAT, BYTES_LITERAL("\x13"));
        assert_int_equal(coap_message_encode(&ask, &message), 0);
        assert_int_equal(dtls_client_send(device->dtls, buf_bytes(&message)), 0);
        exchange_finely(sim, PLAIN);
        assert_int_equal(dtls_client_receive(device->dtls, &sim->heard), 0);
        assert_int_equal(coap_message_decode(buf_bytes(&sim->heard), &answer, &header_ok), 0);
        if (answer.code != CODE_CREATED || !bytes_find(answer.payload, BYTES_LITERAL("\x0a\xf5"))) /* active: true */
                FAIL(sim, "a token that was answered is not active");
}

/* Every effect has one request, every answer an effect. */
static void check_effects(struct simulation *sim, int64_t n_before) {
        int64_t n_executed = 0;

        for (unsigned i = 0; i < DEVICES * LANES * OPS; i++) {
                const struct op *op = &sim->devices[i / (LANES * OPS)].ops[i / OPS % LANES][i % OPS];
                bool answered = op->progress == ANSWERED;

                if (answered && op->n_executed != 1)
                        FAIL(sim, "answered, though not asked");
                if (sim->loss_percent == 0 && !answered)
                        FAIL(sim, "not answered, though nothing was lost");
                n_executed += op->kind == TOKEN ? op->n_executed : 0;
                sim->n_answered += answered;
                sim->n_lost += !answered;
        }
        if (n_tokens(sim) - n_before != n_executed)
                FAIL(sim, "%lld tokens for %lld requests", (long long)(n_tokens(sim) - n_before),
                     (long long)n_executed);
}

static void check_nothing_left(const struct simulation *sim) {
        struct engine_figures figures_now = figures(sim);

        if (figures_now.n_sessions != 0 || figures_now.n_pending != 0 || figures_now.n_plain_peers != 0)
                FAIL(sim, "peers are left");
        if (figures_now.blocks.n_bytes != 0 || figures_now.blocks.n_bodies != 0 || figures_now.blocks.n_answers != 0)
                FAIL(sim, "transfers are left");
        if (figures_now.observe.n_observers != 0)
                FAIL(sim, "an observation is left");
        if (figures_now.blocks.n_evicted != 0)
                FAIL(sim, "a transfer had to go");
}

static void check_tokens(struct simulation *sim) {
        device_open(sim, PLAIN, "rs1");
        for (unsigned i = 0; i < PLAIN * LANES * OPS; i++) {
                const struct op *op = &sim->devices[i / (LANES * OPS)].ops[i / OPS % LANES][i % OPS];

                if (op->kind == TOKEN && op->progress == ANSWERED)
                        introspect(sim, access_token(sim, op));
        }
}

/* All has been asked, and nothing changes any more: what is under way arrives. */
static void settle(struct simulation *sim) {
        unsigned loss_percent = sim->loss_percent;
        int64_t end_us = sim->now.monotonic_us + SETTLE_US;

        sim->loss_percent = 0;
        while (sim->now.monotonic_us < end_us && step(sim))
                ;
        check_watchers(sim);
        sim->loss_percent = loss_percent;
        for (unsigned i = 0; i < WATCHERS; i++)
                sim->watchers[i].is_deaf = true;
}

/* Sessions are opened before the weather turns bad; then all is asked, and all timers are let run out. */
static void simulate(struct simulation *sim, uint64_t seed) {
        static const unsigned losses[] = { 0, 5, 12, 20, 40 };
        int64_t n_before = n_tokens(sim);

        sim->n_old_tokens = n_before;
        sim->seed = sim->random = seed;
        fake_random_seed(seed);
        sim->loss_percent = losses[seed % N_ELEMENTS(losses)];
        sim->n_parcels = sim->n_spent = 0;
        sim->n_runs++;
        /* one at a time, some wait so long that they get a promise first */
        sim->config->batch_max = seed % 2 ? 256 : 1;
        assert_int_equal(engine_new(&sim->as, &sim->engine), 0);
        devices_open(sim);
        sim->run_us = sim->now.monotonic_us;
        while (devices_due(sim) != INT64_MAX) {
                revoke_some(sim);
                step(sim);
        }
        settle(sim);
        while (step(sim)) /* the watchers do not listen any more, as if they had been switched off */
                ;
        check_effects(sim, n_before);
        check_nothing_left(sim);
        check_tokens(sim);
        for (unsigned i = 0; i < DEVICES * LANES * OPS; i++)
                op_done(&sim->devices[i / (LANES * OPS)].ops[i / OPS % LANES][i % OPS]);
        for (unsigned n = 0; n < ALL; n++) {
                dtls_client_free(sim->devices[n].dtls);
                oscore_keys_done(&sim->devices[n].keys);
        }
        engine_free(TAKE_PTR(sim->engine));
}

static uint64_t number_of(const char *name, uint64_t otherwise) {
        const char *text = getenv(name);

        return text ? strtoull(text, NULL, 10) : otherwise;
}

/* Bytes in use, as malloc() counts them; 0 where another one counts (a sanitizer's, which looks for leaks itself). */
static size_t heap_size(void) {
        return mallinfo2().uordblks;
}

static void t_bad_network(void **state) {
        uint64_t alone = number_of("ACED_SEED", 0), n_seeds = alone ? 1 : number_of("ACED_SEEDS", SEEDS);
        struct simulation *sim = calloc(1, sizeof(*sim));
        size_t heap_before = 0;

        assert_non_null(sim);
        sim->parcels = calloc(PARCELS_MAX, sizeof(*sim->parcels));
        sim->spent = calloc(SPENT_MAX, sizeof(*sim->spent));
        assert_true(sim->parcels && sim->spent);
        sim->heard = BUF_INIT(1 << 17);
        sim->links[0] = sim->links[1] = sim->links[2] = BUF_INIT(4096);
        for (uint64_t i = 0; i < n_seeds; i++) {
                if (i % SEEDS_PER_WORLD == 0)
                        world_open(sim);
                simulate(sim, alone ? alone : i + 1);
                if ((i + 1) % SEEDS_PER_WORLD != 0 && i + 1 != n_seeds)
                        continue;
                world_close(sim);
                if (i < SEEDS_PER_WORLD)
                        heap_before = heap_size(); /* by now libraries have what they keep */
                else if (heap_size() > heap_before + HEAP_SLACK)
                        FAIL(sim, "%zu bytes of memory are lost", heap_size() - heap_before);
        }
        print_message("# %llu seeds: %llu requests answered, %llu lost, %llu blocks, %llu separate answers, "
                      "%llu notifications, %llu observers given up, %llu too late for the replay window\n",
                      (unsigned long long)n_seeds, (unsigned long long)sim->n_answered,
                      (unsigned long long)sim->n_lost, (unsigned long long)sim->n_blocks,
                      (unsigned long long)sim->n_promised, (unsigned long long)sim->n_notified,
                      (unsigned long long)sim->n_given_up, (unsigned long long)sim->n_too_late);
        if (!alone) {
                /* the weather was as bad as it should be, and there was enough of everything */
                assert_true(sim->n_lost > 0 && sim->n_answered > 4 * sim->n_lost);
                assert_true(sim->n_blocks > n_seeds && sim->n_promised > n_seeds / 10);
                assert_true(sim->n_notified > n_seeds);
                assert_true(sim->n_given_up > 0 && 4 * sim->n_given_up < WATCHERS * n_seeds);
        }
        buf_done(&sim->heard);
        for (unsigned i = 0; i < N_ELEMENTS(sim->links); i++)
                buf_done(&sim->links[i]);
        free(sim->parcels);
        free(sim->spent);
        free(sim);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(t_bad_network),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
