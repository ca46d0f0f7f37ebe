#pragma once

#include "base/heap.h"
#include "format/coap.h"

/*
 * RFC 7252 §4, the message layer of one peer: duplicates, acknowledgements, resets, separate answers and their
 * retransmission. No sockets: what is to be sent goes to send(). One struct exchange_peer per DTLS session; for plain
 * CoAP one per address in a bounded table that engine.c keeps.
 */
struct exchange_peer;

struct exchange_limits {
        int64_t answers_max; /* kept for duplicates, per peer */
};

struct exchange_callbacks {
        void *context;
        /* A request that is new: to be answered by exchange_answer() with the same ticket, now or later. */
        void (*request)(void *context, struct exchange_peer *peer, uint64_t ticket, const struct coap_message *message);
        /* Bytes for this peer. */
        void (*send)(void *context, struct exchange_peer *peer, struct bytes datagram);
        /* The end of a confirmable that we sent: acknowledged, reset, or given up. */
        void (*outcome)(void *context, struct exchange_peer *peer, uint64_t ticket, bool acknowledged);
};

struct exchange; /* what peers share: callbacks, timers, limits, counters */

int exchange_new(const struct exchange_callbacks *callbacks, const struct exchange_limits *limits, struct exchange **ret);
void exchange_free(struct exchange *exchange);
void exchange_set_limits(struct exchange *exchange, const struct exchange_limits *limits);

int exchange_peer_new(struct exchange *exchange, void *owner, struct exchange_peer **ret);
void exchange_peer_free(struct exchange_peer *peer); /* its tickets are void from now on */
void *exchange_peer_owner(const struct exchange_peer *peer);
/* Unused since: monotonic; for eviction. */
int64_t exchange_peer_idle_since_us(const struct exchange_peer *peer);

void exchange_input(struct exchange_peer *peer, struct bytes datagram, int64_t now_us);

/*
 * Answer a request: message's code, options and payload; type, MID and token are filled in here (piggybacked when the
 * request was confirmable and not yet acknowledged; else a message of its own, confirmable for a confirmable request).
 * The encoded answer is kept for duplicates. 0, -ENOENT (no such ticket, any more), -ENOMEM, -EOVERFLOW.
 */
int exchange_answer(struct exchange_peer *peer, uint64_t ticket, struct coap_message *message, int64_t now_us);

/* Give a request up without an answer: a duplicate is then served anew. */
void exchange_forget(struct exchange_peer *peer, uint64_t ticket);

void exchange_timers(struct exchange *exchange, int64_t now_us);
int64_t exchange_due(const struct exchange *exchange);

uint64_t exchange_n_duplicates(const struct exchange *exchange);
