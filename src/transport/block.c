#include "transport/block.h"

#include <assert.h>
#include <errno.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "base/siphash.h"
#include "crypto/random.h"

#define BODY_SIZE_MIN 256 /* of the memory that a body begins with */

/* Block numbers have 20 bits: with the smallest blocks too, any answer can be asked for to its end. */
static_assert(ANSWER_SIZE_MAX <= (1 << 20) * 16, "the longest answer has block numbers enough");

/* A request's body that is being put together, or an answer that is being fetched. */
struct block_transfer {
        TAILQ_ENTRY(block_transfer) by_use, of_peer;
        struct block_peer *peer;
        struct block_key key;
        int64_t used_us;
        bool is_answer;
        bool is_whole; /* a body whose last block is here */
        size_t told;   /* of an answer: as far as later blocks were asked for */
        struct buf body;

        /* of an answer */
        uint32_t etag;
        uint8_t code;
        int content_format;
        int64_t max_age_s;
};

struct block_pool {
        struct block_limits limits;
        uint8_t hash_key[SIPHASH_KEY_SIZE];
        struct block_transfers by_use; /* least recently used first, which thus expires first */
        struct block_figures figures;
};

DEFINE_FREEP(struct block_pool, block_pool_free)

/* ---- what belongs together */

/* Options that say nothing about which transfer this is; NoCacheKey ones (RFC 7252 §5.4.6) are such by their number. */
static bool option_is_apart(uint16_t number) {
        static const uint16_t apart[] = { OPTION_BLOCK1, OPTION_BLOCK2, OPTION_ETAG, OPTION_OBSERVE, OPTION_HOP_LIMIT };

        for (size_t i = 0; i < N_ELEMENTS(apart); i++)
                if (apart[i] == number)
                        return true;
        return (number & 0x1e) == 0x1c;
}

static uint64_t hash_more(const struct block_pool *pool, uint64_t before, const struct coap_option *option) {
        const uint64_t parts[] = { before, option->number, siphash(pool->hash_key, option->value) };

        return siphash(pool->hash_key, bytes_of(parts, sizeof(parts)));
}

/*
 * Content-Format is a part of its own: clients leave it out when they ask for later blocks of the answer to a POST,
 * which have no payload.
 */
void block_identify(const struct block_pool *pool, const struct coap_message *message, struct block_asks *asks) {
        struct block_key *key = &asks->key;

        *key = (struct block_key){ .resource = message->code };
        for (size_t i = 0; i < message->n_options; i++) {
                const struct coap_option *option = &message->options[i];

                if (option->number == OPTION_REQUEST_TAG)
                        key->tags = hash_more(pool, key->tags, option);
                else if (option->number == OPTION_CONTENT_FORMAT)
                        key->format = hash_more(pool, key->format, option);
                else if (!option_is_apart(option->number))
                        key->resource = hash_more(pool, key->resource, option);
        }
}

static struct block_transfer *find_body(const struct block_peer *peer, const struct block_key *key) {
        struct block_transfer *transfer;

        TAILQ_FOREACH(transfer, &peer->transfers, of_peer)
                if (!transfer->is_answer && transfer->key.resource == key->resource &&
                    transfer->key.format == key->format && transfer->key.tags == key->tags)
                        return transfer;
        return NULL;
}

/* A peer that tagged its request and not what came after it is understood as long as there is no doubt. */
static struct block_transfer *find_answer(const struct block_peer *peer, const struct block_key *key) {
        struct block_transfer *transfer, *other = NULL;
        unsigned n_others = 0;

        TAILQ_FOREACH(transfer, &peer->transfers, of_peer) {
                if (!transfer->is_answer || transfer->key.resource != key->resource)
                        continue;
                if (transfer->key.tags == key->tags)
                        return transfer;
                other = transfer;
                n_others++;
        }
        return key->tags == 0 && n_others == 1 ? other : NULL;
}

/* ---- transfers and the memory they hold */

static size_t transfer_size(const struct block_transfer *transfer) {
        return sizeof(*transfer) + transfer->body.capacity;
}

static uint64_t *transfer_figure(const struct block_transfer *transfer) {
        struct block_figures *figures = &transfer->peer->pool->figures;

        return transfer->is_answer ? &figures->n_answers : &figures->n_bodies;
}

static unsigned *transfer_count(const struct block_transfer *transfer) {
        return transfer->is_answer ? &transfer->peer->n_answers : &transfer->peer->n_bodies;
}

static void body_free(struct buf *body) {
        if (body->data)
                wipe(body->data, body->capacity);
        buf_done(body);
}

static void transfer_free(struct block_transfer *transfer) {
        struct block_peer *peer = transfer->peer;

        TAILQ_REMOVE(&peer->pool->by_use, transfer, by_use);
        TAILQ_REMOVE(&peer->transfers, transfer, of_peer);
        peer->n_bytes -= transfer_size(transfer);
        peer->pool->figures.n_bytes -= transfer_size(transfer);
        --*transfer_count(transfer);
        --*transfer_figure(transfer);
        body_free(&transfer->body);
        free(transfer);
        if (peer->emptied && block_peer_is_empty(peer))
                peer->emptied(peer->owner);
}

static void transfer_evict(struct block_transfer *transfer) {
        transfer->peer->pool->figures.n_evicted++;
        transfer_free(transfer);
}

static void transfer_touch(struct block_transfer *transfer, int64_t now_us) {
        struct block_pool *pool = transfer->peer->pool;

        transfer->used_us = now_us;
        TAILQ_REMOVE(&pool->by_use, transfer, by_use);
        TAILQ_INSERT_TAIL(&pool->by_use, transfer, by_use);
        TAILQ_REMOVE(&transfer->peer->transfers, transfer, of_peer);
        TAILQ_INSERT_TAIL(&transfer->peer->transfers, transfer, of_peer);
}

/* Let others go, not the one for whom it is, until the peer may hold size bytes more. False: it may not. */
static bool make_room(struct block_peer *peer, size_t size, const struct block_transfer *except) {
        struct block_pool *pool = peer->pool;
        struct block_transfer *transfer;

        while (peer->n_bytes + size > pool->limits.bytes_per_peer_max) {
                transfer = TAILQ_FIRST(&peer->transfers);
                if (transfer == except && transfer)
                        transfer = TAILQ_NEXT(transfer, of_peer);
                if (!transfer)
                        return false;
                transfer_evict(transfer);
        }
        while (pool->figures.n_bytes + size > pool->limits.bytes_max) {
                transfer = TAILQ_FIRST(&pool->by_use);
                if (transfer == except && transfer)
                        transfer = TAILQ_NEXT(transfer, by_use);
                if (!transfer)
                        return false;
                transfer_evict(transfer);
        }
        return true;
}

static void evict_oldest(struct block_peer *peer, bool is_answer) {
        struct block_transfer *transfer = TAILQ_FIRST(&peer->transfers);

        while (transfer->is_answer != is_answer)
                transfer = TAILQ_NEXT(transfer, of_peer);
        transfer_evict(transfer);
}

static int transfer_new(struct block_peer *peer, const struct block_key *key, bool is_answer, int64_t now_us,
                        struct block_transfer **ret) {
        struct block_transfer *transfer;

        if (is_answer && peer->n_answers >= BLOCK_ANSWERS_PER_PEER_MAX)
                evict_oldest(peer, true);
        if (!is_answer && peer->n_bodies >= BLOCK_BODIES_PER_PEER_MAX)
                evict_oldest(peer, false);
        if (!make_room(peer, sizeof(*transfer), NULL))
                return -ENOSPC;
        transfer = calloc(1, sizeof(*transfer));
        if (!transfer)
                return -ENOMEM;
        transfer->peer = peer;
        transfer->key = *key;
        transfer->is_answer = is_answer;
        transfer->used_us = now_us;
        TAILQ_INSERT_TAIL(&peer->pool->by_use, transfer, by_use);
        TAILQ_INSERT_TAIL(&peer->transfers, transfer, of_peer);
        peer->n_bytes += sizeof(*transfer);
        peer->pool->figures.n_bytes += sizeof(*transfer);
        ++*transfer_count(transfer);
        ++*transfer_figure(transfer);
        *ret = transfer;
        return 0;
}

/* ---- bodies of requests */

/* Memory for size bytes in all. Not by realloc(), which leaves a copy behind. */
static int body_grow(struct block_transfer *transfer, size_t size) {
        struct block_pool *pool = transfer->peer->pool;
        struct buf *body = &transfer->body;
        size_t capacity = body->capacity * 2 > BODY_SIZE_MIN ? body->capacity * 2 : BODY_SIZE_MIN;
        uint8_t *data;

        if (size <= body->capacity)
                return 0;
        if (capacity > pool->limits.body_max)
                capacity = pool->limits.body_max;
        if (capacity < size)
                capacity = size;
        if (!make_room(transfer->peer, capacity - body->capacity, transfer))
                return -ENOSPC;
        data = malloc(capacity);
        if (!data)
                return -ENOMEM;
        transfer->peer->n_bytes += capacity - body->capacity;
        pool->figures.n_bytes += capacity - body->capacity;
        if (body->size > 0)
                memcpy(data, body->data, body->size);
        size = body->size;
        body_free(body);
        *body = (struct buf){ .data = data, .size = size, .capacity = capacity, .limit = capacity };
        return 0;
}

static int body_add(struct block_transfer *transfer, struct bytes payload) {
        int r = body_grow(transfer, transfer->body.size + payload.size);

        return r != 0 ? r : buf_add(&transfer->body, payload);
}

/* A block that is here already: byte for byte, and the end where the end is. */
static bool body_has(const struct block_transfer *transfer, size_t at, struct bytes payload, bool more) {
        size_t end = at + payload.size;

        if (end > transfer->body.size || more == (transfer->is_whole && end == transfer->body.size))
                return false;
        return bytes_equal_ct(bytes_of(transfer->body.data + at, payload.size), payload);
}

static enum block_verdict answer_with(uint8_t code, struct block_step *ret) {
        ret->code = code;
        return BLOCK_ANSWER;
}

static enum block_verdict body_next(struct block_transfer *transfer, const struct block *block, struct bytes payload,
                                    int64_t now_us, struct block_step *ret) {
        size_t at = block_offset(block);

        if (at > transfer->body.size)
                return answer_with(CODE_INCOMPLETE, ret); /* RFC 7959 §2.9.2: not in order */
        if (at < transfer->body.size || transfer->is_whole) {
                if (!body_has(transfer, at, payload, block->more))
                        return answer_with(CODE_INCOMPLETE, ret);
        } else if (body_add(transfer, payload) < 0) {
                return answer_with(CODE_UNAVAILABLE, ret);
        } else {
                ret->is_progress = at > 0;
        }
        transfer_touch(transfer, now_us);
        if (block->more)
                return answer_with(CODE_CONTINUE, ret);
        transfer->is_whole = true;
        return BLOCK_BODY;
}

/* RFC 7959 §4: Size1 in a request is what the client thinks that the whole body has. */
static bool body_is_too_large(const struct block_peer *peer, const struct coap_message *message,
                              const struct block *block) {
        const struct coap_option *option = coap_message_option(message, OPTION_SIZE1, 0);
        uint32_t size;

        if (option && coap_option_uint(option, &size) && size > peer->pool->limits.body_max)
                return true;
        return block_offset(block) + message->payload.size > peer->pool->limits.body_max;
}

static enum block_verdict body_step(struct block_peer *peer, const struct coap_message *message,
                                    const struct block_asks *asks, int64_t now_us, struct block_step *ret) {
        const struct block *block = &asks->request_block;
        struct block_transfer *transfer;

        /* RFC 7959 §2.9.3: 4.13 may be said at any time by who has no resources to store blocks */
        if (!peer->pool)
                return answer_with(CODE_TOO_LARGE, ret);
        transfer = find_body(peer, &asks->key);
        if (transfer && (block->number == 0 || body_is_too_large(peer, message, block)))
                transfer_free(TAKE_PTR(transfer));
        if (body_is_too_large(peer, message, block))
                return answer_with(CODE_TOO_LARGE, ret);
        if (!transfer && block->number > 0)
                return answer_with(CODE_INCOMPLETE, ret);
        if (!transfer && transfer_new(peer, &asks->key, false, now_us, &transfer) < 0)
                return answer_with(CODE_UNAVAILABLE, ret);
        return body_next(transfer, block, message->payload, now_us, ret);
}

/* RFC 7959 §2.5: a body that is one block begins and ends at once, in place of what has been there. */
static void body_forget(struct block_peer *peer, const struct block_asks *asks) {
        struct block_transfer *transfer = peer->pool ? find_body(peer, &asks->key) : NULL;

        if (transfer)
                transfer_free(transfer);
}

bool block_take(struct block_peer *peer, const struct block_asks *asks, struct buf *ret_body) {
        struct block_transfer *transfer = peer->pool ? find_body(peer, &asks->key) : NULL;
        size_t capacity;

        if (!transfer || !transfer->is_whole)
                return false;
        *ret_body = transfer->body;
        capacity = transfer->body.capacity;
        peer->n_bytes -= capacity;
        peer->pool->figures.n_bytes -= capacity;
        transfer->body = BUF_INIT(0);
        transfer_free(transfer);
        return true;
}

/* ---- answers */

static enum block_verdict answer_step(struct block_peer *peer, const struct block_asks *asks, int64_t now_us,
                                      struct block_step *ret) {
        struct block_transfer *transfer = peer->pool ? find_answer(peer, &asks->key) : NULL;

        if (!transfer)
                return asks->may_cut ? BLOCK_RUN : answer_with(CODE_INCOMPLETE, ret);
        transfer_touch(transfer, now_us);
        ret->is_progress = block_offset(&asks->answer_block) > transfer->told &&
                           block_offset(&asks->answer_block) < transfer->body.size;
        if (ret->is_progress)
                transfer->told = block_offset(&asks->answer_block);
        response_init(&ret->kept);
        ret->kept.code = transfer->code;
        ret->kept.content_format = transfer->content_format;
        ret->kept.max_age_s = transfer->max_age_s;
        ret->kept.payload = transfer->body;
        ret->etag = transfer->etag;
        return BLOCK_KEPT;
}

int block_keep(struct block_peer *peer, const struct block_pool *pool, const struct block_asks *asks,
               struct response *response, int64_t now_us, uint32_t *ret_etag) {
        struct block_transfer *transfer;
        int r;

        *ret_etag = (uint32_t)siphash(pool->hash_key, buf_bytes(&response->payload));
        if (!peer->pool)
                return -EPERM;
        transfer = find_answer(peer, &asks->key);
        if (transfer && transfer->key.tags == asks->key.tags)
                transfer_free(transfer);
        if (sizeof(*transfer) + response->payload.capacity > peer->pool->limits.bytes_per_peer_max)
                return -ENOSPC; /* before anything else goes for it in vain */
        if ((r = transfer_new(peer, &asks->key, true, now_us, &transfer)) < 0)
                return r;
        if (!make_room(peer, response->payload.capacity, transfer)) {
                transfer_free(transfer);
                return -ENOSPC;
        }
        peer->n_bytes += response->payload.capacity;
        peer->pool->figures.n_bytes += response->payload.capacity;
        transfer->body = response->payload;
        response->payload = BUF_INIT(ANSWER_SIZE_MAX);
        transfer->etag = *ret_etag;
        transfer->code = response->code;
        transfer->content_format = response->content_format;
        transfer->max_age_s = response->max_age_s;
        return 0;
}

/* ---- both */

enum block_verdict block_step(struct block_peer *peer, const struct coap_message *message,
                              const struct block_asks *asks, int64_t now_us, struct block_step *ret) {
        const struct block *body = &asks->request_block;

        ret->is_progress = false;
        if (asks->answer_block.number > 0)
                /* RFC 7959 §3.3: there is no answer yet while the body is on its way */
                return body->more ? answer_with(CODE_BAD_REQUEST, ret) : answer_step(peer, asks, now_us, ret);
        if (body->more || body->number > 0)
                return body_step(peer, message, asks, now_us, ret);
        if (body->is_given)
                body_forget(peer, asks);
        return BLOCK_RUN;
}

/* ---- objects */

void block_peer_init(struct block_peer *peer, struct block_pool *pool) {
        *peer = (struct block_peer){ .pool = pool };
        TAILQ_INIT(&peer->transfers);
}

void block_peer_listen(struct block_peer *peer, void (*emptied)(void *owner), void *owner) {
        peer->emptied = emptied;
        peer->owner = owner;
}

void block_peer_done(struct block_peer *peer) {
        peer->emptied = NULL;
        while (peer->pool && !TAILQ_EMPTY(&peer->transfers))
                transfer_free(TAILQ_FIRST(&peer->transfers));
        peer->pool = NULL;
}

int block_pool_new(const struct block_limits *limits, struct block_pool **ret) {
        _cleanup_(block_pool_freep) struct block_pool *pool = calloc(1, sizeof(*pool));
        int r;

        if (!pool)
                return -ENOMEM;
        TAILQ_INIT(&pool->by_use);
        pool->limits = *limits;
        r = random_bytes(pool->hash_key, sizeof(pool->hash_key));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(pool);
        return 0;
}

void block_pool_free(struct block_pool *pool) {
        if (!pool)
                return;
        assert(TAILQ_EMPTY(&pool->by_use));
        free(pool);
}

void block_pool_set_limits(struct block_pool *pool, const struct block_limits *limits) {
        pool->limits = *limits;
}

void block_pool_timers(struct block_pool *pool, int64_t now_us) {
        while (block_pool_due(pool) <= now_us) {
                pool->figures.n_expired++;
                transfer_free(TAILQ_FIRST(&pool->by_use));
        }
}

int64_t block_pool_due(const struct block_pool *pool) {
        const struct block_transfer *transfer = TAILQ_FIRST(&pool->by_use);

        return transfer ? transfer->used_us + BLOCK_LIFETIME_US : INT64_MAX;
}

void block_pool_figures(const struct block_pool *pool, struct block_figures *ret) {
        *ret = pool->figures;
}
