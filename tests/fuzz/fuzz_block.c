/*
 * Block-wise transfer: peers send blocks of several bodies in any order, ask for blocks of several answers, and wait. A
 * body that is run is what its blocks said, one after the other, since the first; a block of an answer is of an answer
 * that this peer was given for this resource; memory keeps within its limits and returns.
 *
 * A step is a byte: peer (2 bits), method, path, Request-Tag (2 bits), time (2 bits); a byte: Block1 or Block2, more,
 * size (2 bits), number (4 bits); a byte that the content is made of; of a last block, a byte that its size is made of.
 */
#include <errno.h>

#include "base/secret.h"
#include "fuzz.h"
#include "support/fake.h"
#include "transport/block.h"

#define PEERS 3 /* the last is not authenticated */
#define KEYS 16
#define STEPS_MAX 1024
#define RESOURCES 4 /* the lower bits of a key; the upper ones are the Request-Tag */
#define BODY_MAX 300
#define PEER_BYTES_MAX 2048
#define BYTES_MAX 3000
#define ANSWER_MAX 1024

struct told {
        uint32_t etag;
        size_t size; /* 0: none */
        uint8_t seed;
};

struct party {
        struct block_peer blocks;
        struct {
                size_t size;
                uint8_t data[BODY_MAX];
        } bodies[KEYS]; /* what was said of each, as far as it was taken */
        struct told told[KEYS]; /* the latest answer to each */
};

struct scene {
        struct block_pool *pool;
        struct party parties[PEERS];
        int64_t now_us;
};

static void fill(uint8_t *data, size_t size, uint8_t seed) {
        for (size_t i = 0; i < size; i++)
                data[i] = (uint8_t)(seed + i / 16);
}

/* As the engine does: keep the answer that the first block was cut from. */
static void tell(struct scene *scene, struct party *party, unsigned key, const struct block_asks *asks, uint8_t seed) {
        size_t size = 1 + seed * ANSWER_MAX / 256;
        uint8_t data[ANSWER_MAX];
        struct response response;
        uint32_t etag;
        int r;

        fill(data, size, seed);
        response_init(&response);
        response.code = CODE_CREATED;
        MUST(buf_add(&response.payload, bytes_of(data, size)) == 0);
        r = block_keep(&party->blocks, scene->pool, asks, &response, scene->now_us, &etag);
        MUST(r == 0 || r == -ENOSPC || (r == -EPERM && party == &scene->parties[PEERS - 1]));
        response_done(&response);
        party->told[key] = (struct told){ etag, r == 0 ? size : 0, seed };
}

/* With the same Request-Tag, or as the only one of the resource. */
static void must_have_been_told(const struct party *party, unsigned key, const struct block_step *step) {
        struct bytes payload = buf_bytes(&step->kept.payload);
        uint8_t data[ANSWER_MAX];

        for (unsigned i = key % RESOURCES; i < KEYS; i += RESOURCES) {
                const struct told *told = &party->told[i];

                fill(data, told->size, told->seed);
                if (told->size > 0 && told->etag == step->etag && bytes_equal(payload, bytes_of(data, told->size)))
                        return;
        }
        MUST(!"an answer that was not given to this peer");
}

static void take_body(struct party *party, unsigned key, const struct block_asks *asks) {
        struct buf body;

        MUST(block_take(&party->blocks, asks, &body));
        MUST(bytes_equal(buf_bytes(&body), bytes_of(party->bodies[key].data, party->bodies[key].size)));
        MUST(!block_take(&party->blocks, asks, &body));
        wipe(body.data, body.capacity);
        buf_done(&body);
        party->bodies[key].size = 0;
}

/* What is known of the body after this block was answered like this. */
static void note_block(struct party *party, unsigned key, const struct block *block, struct bytes payload,
                       bool is_taken) {
        size_t at = block_offset(block), *size = &party->bodies[key].size;

        if (block->number == 0)
                *size = 0;
        if (!is_taken)
                return;
        MUST(at <= *size && at + payload.size <= BODY_MAX);
        if (at < *size) /* once more */
                MUST(at + payload.size <= *size &&
                     memcmp(party->bodies[key].data + at, payload.data, payload.size) == 0);
        else
                memcpy(party->bodies[key].data + at, payload.data, payload.size);
        if (at + payload.size > *size)
                *size = at + payload.size;
}

static void say(struct scene *scene, struct party *party, unsigned key, const struct coap_message *message,
                uint8_t seed) {
        struct block_asks asks = {};
        struct block_step step = {};
        enum block_verdict verdict;
        struct request request;

        if (translate_request(message, BODY_MAX, &request, &asks) != 0)
                return;
        asks.may_keep = party != &scene->parties[PEERS - 1];
        block_identify(scene->pool, message, &asks);
        verdict = block_step(&party->blocks, message, &asks, scene->now_us, &step);
        if (verdict == BLOCK_KEPT)
                must_have_been_told(party, key, &step);
        if (asks.request_block.is_given && asks.answer_block.number == 0)
                note_block(party, key, &asks.request_block, message->payload,
                           verdict == BLOCK_BODY || (verdict == BLOCK_ANSWER && step.code == CODE_CONTINUE));
        if (verdict == BLOCK_BODY && seed & 1) /* else it cannot run now, and the last block comes again */
                take_body(party, key, &asks);
        if (verdict == BLOCK_RUN && !asks.request_block.is_given)
                tell(scene, party, key, &asks, seed);
}

static void must_be_bounded(const struct scene *scene) {
        struct block_figures figures;
        size_t n_bytes = 0;

        block_pool_figures(scene->pool, &figures);
        for (unsigned i = 0; i < PEERS; i++) {
                const struct block_peer *peer = &scene->parties[i].blocks;

                MUST(peer->n_bodies <= BLOCK_BODIES_PER_PEER_MAX && peer->n_answers <= BLOCK_ANSWERS_PER_PEER_MAX);
                MUST(peer->n_bytes <= PEER_BYTES_MAX);
                n_bytes += peer->n_bytes;
        }
        MUST(figures.n_bytes == n_bytes && n_bytes <= BYTES_MAX);
        MUST((block_pool_due(scene->pool) == INT64_MAX) == (figures.n_bodies + figures.n_answers == 0));
}

static void step(struct scene *scene, struct bytes *in) {
        static const int64_t steps_us[] = { 0, 1000000, 100000000, BLOCK_LIFETIME_US };
        uint8_t who = fuzz_take_byte(in), which = fuzz_take_byte(in), seed = fuzz_take_byte(in);
        uint8_t data[256], tag, scratch[4];
        bool is_body = which & 1, more = which & 2;
        uint32_t szx = which >> 2 & 3, number = which >> 4;
        size_t size = (size_t)16 << szx;
        struct coap_message message = { .type = TYPE_CON, .code = who & 4 ? CODE_FETCH : CODE_POST };

        scene->now_us += steps_us[who >> 6];
        block_pool_timers(scene->pool, scene->now_us);
        tag = who >> 4 & 3;
        MUST(coap_message_add(&message, OPTION_URI_PATH, who & 8 ? BYTES_LITERAL("a") : BYTES_LITERAL("b")) == 0);
        MUST(coap_message_add_uint(&message, is_body ? OPTION_BLOCK1 : OPTION_BLOCK2,
                                   number << 4 | (uint32_t)(is_body && more) << 3 | szx, scratch) == 0);
        if (tag > 0)
                MUST(coap_message_add(&message, OPTION_REQUEST_TAG, bytes_of(&tag, 1)) == 0);
        if (is_body) {
                fill(data, size, seed);
                message.payload = bytes_of(data, more ? size : fuzz_take_byte(in) % (size + 1));
        }
        say(scene, &scene->parties[who % 4 % PEERS], who >> 2 & 15, &message, seed);
        must_be_bounded(scene);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const struct block_limits limits = { .body_max = BODY_MAX, .bytes_per_peer_max = PEER_BYTES_MAX,
                                             .bytes_max = BYTES_MAX };
        struct bytes in = bytes_of(data, size);
        struct scene scene = { .now_us = 1000000 };
        struct block_figures figures;

        fake_random_seed(5);
        MUST(block_pool_new(&limits, &scene.pool) == 0);
        for (unsigned i = 0; i < PEERS - 1; i++)
                block_peer_init(&scene.parties[i].blocks, scene.pool);
        for (unsigned i = 0; i < STEPS_MAX && in.size > 0; i++)
                step(&scene, &in);
        while (block_pool_due(scene.pool) != INT64_MAX)
                block_pool_timers(scene.pool, block_pool_due(scene.pool));
        block_pool_figures(scene.pool, &figures);
        MUST(figures.n_bodies == 0 && figures.n_answers == 0 && figures.n_bytes == 0);
        for (unsigned i = 0; i < PEERS; i++)
                block_peer_done(&scene.parties[i].blocks);
        block_pool_free(scene.pool);
        return 0;
}
