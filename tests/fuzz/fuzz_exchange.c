/*
 * The message layer alone: what two peers send, answers that come late, early or never, and time. A request is handed
 * on once in its lifetime; what is sent is a message; a stranger is sent no confirmable one; memory is bounded and
 * returns.
 *
 * A step is a byte: peer (1 bit), what (2 bits), - , 16-bit length, time (3 bits); what follows depends on what.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "fuzz.h"
#include "support/fake.h"
#include "transport/exchange.h"

#define PEERS 2
#define STEPS_MAX 2048
#define TICKETS_MAX 64
#define ANSWERS_MAX 4
#define PEER_SIZE_MAX (64u << 10) /* records, and what waits to be answered or acknowledged */
#define LIFETIME_US INT64_C(247000000)
#define REST_US INT64_C(1000000000) /* longer than anything is remembered */

enum what { SAY, ANSWER, FORGET, ACKNOWLEDGE };

struct party {
        struct exchange_peer *exchange;
        uint64_t tickets[TICKETS_MAX];
        size_t n_tickets;
        int64_t seen_us[2][65536]; /* non-confirmable, confirmable: when a request with that Message ID was handed on */
        uint16_t confirmable_mid;  /* the last that we were sent */
        bool is_stranger;
};

struct scene {
        struct exchange *exchange;
        struct party parties[PEERS];
        int64_t now_us;
};

static void on_request(void *context, struct exchange_peer *exchange, uint64_t ticket,
                       const struct coap_message *message) {
        struct party *party = exchange_peer_owner(exchange);
        struct scene *scene = context;
        int64_t *seen_us = &party->seen_us[message->type == TYPE_CON][message->mid];

        MUST(message->type == TYPE_CON || message->type == TYPE_NON);
        MUST(message->code >= CODE_GET && message->code <= CODE_IPATCH);
        MUST(*seen_us == 0 || scene->now_us - *seen_us >= INT64_C(145000000)); /* NON_LIFETIME, the shorter one */
        MUST(*seen_us == 0 || message->type == TYPE_NON || scene->now_us - *seen_us >= LIFETIME_US);
        *seen_us = scene->now_us;
        if (party->n_tickets < TICKETS_MAX)
                party->tickets[party->n_tickets++] = ticket;
}

static void on_send(void *context, struct exchange_peer *exchange, struct bytes datagram) {
        struct party *party = exchange_peer_owner(exchange);
        struct coap_message message;
        bool header_ok;

        MUST(coap_message_decode(datagram, &message, &header_ok) == 0 && datagram.size <= MESSAGE_SIZE_MAX);
        if (message.type != TYPE_CON)
                return;
        MUST(!party->is_stranger);
        party->confirmable_mid = message.mid;
}

static void on_outcome(void *context, struct exchange_peer *exchange, uint64_t ticket, bool acknowledged) {
}

static void answer(struct scene *scene, struct party *party, struct bytes payload) {
        static const uint8_t codes[] = { CODE_CONTENT, CODE_CREATED, CODE_BAD_REQUEST, CODE_INTERNAL_ERROR };
        struct coap_message message = { .code = codes[payload.size % N_ELEMENTS(codes)], .payload = payload };
        uint64_t ticket;
        int r;

        if (party->n_tickets == 0) {
                MUST(exchange_answer(party->exchange, UINT64_MAX, &message, scene->now_us) == -ENOENT);
                return;
        }
        ticket = party->tickets[--party->n_tickets];
        r = exchange_answer(party->exchange, ticket, &message, scene->now_us);
        MUST(r == 0 || r == -ENOENT || r == -EOVERFLOW || r == -EBUSY);
        if (r == 0)
                MUST(exchange_answer(party->exchange, ticket, &message, scene->now_us) == -ENOENT);
}

static void forget(struct scene *scene, struct party *party) {
        if (party->n_tickets == 0)
                return;
        exchange_forget(party->exchange, party->tickets[--party->n_tickets]);
        memset(party->seen_us, 0, sizeof(party->seen_us)); /* whose it was is not said: any may come anew */
}

static void acknowledge(struct scene *scene, struct party *party, bool reset) {
        const uint8_t message[4] = { (uint8_t)(1 << 6 | (reset ? TYPE_RST : TYPE_ACK) << 4), CODE_EMPTY,
                                     (uint8_t)(party->confirmable_mid >> 8), (uint8_t)party->confirmable_mid };

        exchange_input(party->exchange, bytes_of(message, sizeof(message)), scene->now_us);
}

/* All timers up to then, each when it is due. */
static void pass(struct scene *scene, int64_t us) {
        int64_t end_us = scene->now_us + us;

        for (unsigned n = 0; exchange_due(scene->exchange) <= end_us; n++) {
                MUST(n < 100000);
                if (exchange_due(scene->exchange) > scene->now_us)
                        scene->now_us = exchange_due(scene->exchange);
                exchange_timers(scene->exchange, scene->now_us);
                MUST(exchange_due(scene->exchange) > scene->now_us);
        }
        scene->now_us = end_us;
}

static void step(struct scene *scene, struct bytes *in) {
        static const int64_t steps_us[] = { 0, 1000, 500000, 1000000, 5000000, 50000000, 145000000, 247000000 };
        uint8_t control = fuzz_take_byte(in);
        struct party *party = &scene->parties[control & 1];
        enum what what = control >> 1 & 3;
        struct bytes bytes = BYTES_NONE;

        pass(scene, steps_us[control >> 5]);
        if (what == SAY || what == ANSWER)
                bytes = fuzz_take(in, control & 16 ? fuzz_take_u16(in) : fuzz_take_byte(in));
        if (what == SAY)
                exchange_input(party->exchange, fuzz_guarded(bytes), scene->now_us);
        else if (what == ANSWER)
                answer(scene, party, bytes);
        else if (what == FORGET)
                forget(scene, party);
        else
                acknowledge(scene, party, control & 16);
        MUST(exchange_peer_size(party->exchange) <= PEER_SIZE_MAX);
}

static void open_scene(struct scene *scene) {
        const struct exchange_callbacks callbacks = { .context = scene, .request = on_request, .send = on_send,
                                                      .outcome = on_outcome };
        const struct exchange_limits limits = { .answers_max = ANSWERS_MAX };

        fake_random_seed(7);
        scene->now_us = 1000000;
        MUST(exchange_new(&callbacks, &limits, &scene->exchange) == 0);
        for (unsigned i = 0; i < PEERS; i++)
                MUST(exchange_peer_new(scene->exchange, &scene->parties[i], &scene->parties[i].exchange) == 0);
        exchange_peer_set_authenticated(scene->parties[0].exchange);
        scene->parties[1].is_stranger = true;
}

/* Requests that nobody answers are given up; then time alone must free everything. */
static void must_end(struct scene *scene, size_t size_at_first) {
        for (unsigned i = 0; i < PEERS; i++)
                while (scene->parties[i].n_tickets > 0)
                        forget(scene, &scene->parties[i]);
        pass(scene, REST_US * 20);
        MUST(exchange_due(scene->exchange) == INT64_MAX);
        for (unsigned i = 0; i < PEERS; i++)
                MUST(exchange_peer_size(scene->parties[i].exchange) == size_at_first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static struct scene scene; /* large */
        struct bytes in = bytes_of(data, size);
        size_t size_at_first;

        memset(&scene, 0, sizeof(scene));
        open_scene(&scene);
        size_at_first = exchange_peer_size(scene.parties[0].exchange);
        for (unsigned i = 0; i < STEPS_MAX && in.size > 0; i++)
                step(&scene, &in);
        must_end(&scene, size_at_first);
        for (unsigned i = 0; i < PEERS; i++)
                exchange_peer_free(scene.parties[i].exchange);
        exchange_free(scene.exchange);
        return 0;
}
