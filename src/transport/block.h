#pragma once

#include <sys/queue.h>

#include "endpoint/request.h"
#include "transport/translate.h"

/*
 * Block-wise transfer (RFC 7959) between the messages of a peer and the router. Bodies of requests are put together
 * from their blocks (Block1); bodies of answers that were cut are kept, so that later blocks come from the body that
 * the first one came from (Block2), without the request being run again. No sockets, no clock.
 *
 * What belongs together: same peer, same method, same options, among them Request-Tag (RFC 9175 §3) and without those
 * that change from block to block. A peer that mixes two transfers of one such key gets what RFC 7959 §2.5 gives it:
 * the first block of a body begins anew; the later answer is the one that is kept. Each block of an answer carries an
 * ETag made from the body, so blocks of two answers cannot be taken for one.
 *
 * A body is taken in order:
 *   number 0                                    → whatever was there is dropped, 2.31
 *   the next block                              → 2.31, or the request runs with the whole body
 *   one that is there already, byte for byte    → the same again, appended once
 *   any other, or of a body that is not here    → 4.08
 *   beyond body_max, or Size1 says so           → 4.13, all of the body is dropped
 * A later block of an answer that is not kept: GET runs again (another ETag tells when the answer is another), anything
 * else is 4.08.
 *
 * Only who is authenticated can make us hold anything. All is wiped when it goes: it may be a key.
 */
#define BLOCK_BODIES_PER_PEER_MAX 4  /* request bodies under way; the oldest goes for a new one */
#define BLOCK_ANSWERS_PER_PEER_MAX 4 /* likewise */
#define BLOCK_LIFETIME_US (247 * INT64_C(1000000)) /* EXCHANGE_LIFETIME (RFC 7252 §4.8.2) since the last block */

struct block_limits {
        size_t body_max;           /* bytes of a request's body */
        size_t bytes_per_peer_max; /* memory that one peer holds: its least recently used goes */
        size_t bytes_max;          /* that all hold: anybody's least recently used goes */
};

struct block_pool; /* what peers share: limits, memory in use, time */

/* 0, -ENOMEM, -EIO (no randomness). */
int block_pool_new(const struct block_limits *limits, struct block_pool **ret);
/* After its peers are done. */
void block_pool_free(struct block_pool *pool);
/* What is over a smaller limit goes when the next one comes. */
void block_pool_set_limits(struct block_pool *pool, const struct block_limits *limits);
void block_pool_timers(struct block_pool *pool, int64_t now_us);
/* When block_pool_timers() must be called next: monotonic; INT64_MAX never. */
int64_t block_pool_due(const struct block_pool *pool);

struct block_figures {
        uint64_t n_bodies, n_answers, n_bytes; /* held now */
        uint64_t n_evicted;                    /* for want of room, ever */
        uint64_t n_expired;                    /* given up by their peer, ever */
};
void block_pool_figures(const struct block_pool *pool, struct block_figures *ret);

/* What one peer holds; a member of its owner's struct. All zero: a peer that may hold nothing. */
struct block_transfer;
struct block_peer {
        struct block_pool *pool;
        TAILQ_HEAD(block_transfers, block_transfer) transfers; /* oldest first */
        unsigned n_bodies, n_answers;
        size_t n_bytes;
        void (*emptied)(void *owner);
        void *owner;
};

/* The peer is authenticated: it may hold something from now on. */
void block_peer_init(struct block_peer *peer, struct block_pool *pool);
/*
 * emptied() is called, at the end of what happens then, whenever nothing is held any more: the peer may be freed in it.
 */
void block_peer_listen(struct block_peer *peer, void (*emptied)(void *owner), void *owner);
void block_peer_done(struct block_peer *peer);
static inline bool block_peer_is_empty(const struct block_peer *peer) {
        return peer->n_bodies == 0 && peer->n_answers == 0;
}

enum block_verdict {
        BLOCK_RUN,    /* run the request as it is: its payload is its body */
        BLOCK_BODY,   /* the body is whole: run the request with what block_take() gives */
        BLOCK_ANSWER, /* answer at once with ret->code */
        BLOCK_KEPT,   /* answer at once with ret->kept, a view of what is kept, and ret->etag */
};

struct block_step {
        bool is_progress; /* one more block of a transfer, neither its first nor one again: there is an end to them */
        uint8_t code;
        struct response kept; /* not to be freed; valid until the next call here */
        uint32_t etag;
};

/* Which transfer the message belongs to: fills asks->key. */
void block_identify(const struct block_pool *pool, const struct coap_message *message, struct block_asks *asks);

/* What is to be done with a request that translate_request() took and block_identify() has seen. */
enum block_verdict block_step(struct block_peer *peer, const struct coap_message *message,
                              const struct block_asks *asks, int64_t now_us, struct block_step *ret);

/*
 * After BLOCK_BODY: the body, which is no longer held here; the caller wipes and frees it. When the request cannot run
 * now, leave it: its last block, sent again, is BLOCK_BODY again. False: it is not here.
 */
bool block_take(struct block_peer *peer, const struct block_asks *asks, struct buf *ret_body);

/*
 * Only a block of this answer is going to be said: keep it for the others. 0 and response->payload has moved (what it
 * pointed to stays valid until the next call here); -ENOSPC: over the limits, -EPERM: the peer may hold nothing,
 * -ENOMEM. *ret_etag is set in any case.
 */
int block_keep(struct block_peer *peer, const struct block_pool *pool, const struct block_asks *asks,
               struct response *response, int64_t now_us, uint32_t *ret_etag);
