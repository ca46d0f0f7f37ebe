#pragma once

#include "base/heap.h"
#include "format/coap.h"

/*
 * RFC 7252 §4, the message layer of one peer: duplicates, acknowledgements, resets, separate answers and their
 * retransmission. No sockets: what is to be sent goes to send(). One struct exchange_peer per DTLS session; for plain
 * CoAP one per address in a bounded table that engine.c keeps.
 *
 * What a peer sends is met like this:
 *   confirmable: ping, response, format error           → Reset (§4.2, §4.3)
 *   non-confirmable: empty, response, format error      → silence (§4.3)
 *   Acknowledgement, Reset: ours                        → outcome(); any other → silence
 *   request that is there already (§4.5)                → the first answer again, byte for byte; the empty
 *                                                         Acknowledgement again when the answer came or comes as a
 *                                                         message of its own; silence while it is worked on, when it
 *                                                         was non-confirmable, and when its answer is no longer kept:
 *                                                         never is it executed twice
 *   request with an unknown method                      → 4.05 (§5.8); with Proxy-Uri or Proxy-Scheme → 5.05 (§5.10.2)
 *                                                         (with an OSCORE option the method is any: RFC 8613 §8.2)
 *   request with another unknown critical option        → confirmable: 4.02; non-confirmable: silence (§5.4.1)
 *   any other request                                   → request()
 * Block-wise transfer is the business of who gets the request.
 */
struct exchange_peer;

#define MESSAGE_SIZE_MAX 1152 /* a message that we send (RFC 7252 §4.6): no IP fragments, with DTLS around it too */

/* What one peer can make us hold; the kept answers (struct exchange_limits) come on top. */
#define EXCHANGE_RECORDS_MAX 1024 /* Message IDs remembered; the oldest go, but for an unanswered one: then silence */
#define EXCHANGE_OUTGOING_MAX 16  /* confirmable messages of ours that wait, or the one that is under way */

struct exchange_limits {
        int64_t answers_max; /* kept for duplicates, per peer */
};

/* send() must not call back into the exchange; none of them may free the peer. */
struct exchange_callbacks {
        void *context;
        /* A request that is new: to be answered by exchange_answer() with the same ticket, now or later. */
        void (*request)(void *context, struct exchange_peer *peer, uint64_t ticket, const struct coap_message *message);
        /* Bytes for this peer. */
        void (*send)(void *context, struct exchange_peer *peer, struct bytes datagram);
        /* The end of a confirmable that we sent: acknowledged, reset, or given up. */
        void (*outcome)(void *context, struct exchange_peer *peer, uint64_t ticket, bool acknowledged);
        /* A request was answered with this code here, and not handed on. NULL: nobody asks. */
        void (*refused)(void *context, uint8_t code);
};

struct exchange; /* what peers share: callbacks, timers, limits, counters */

int exchange_new(const struct exchange_callbacks *callbacks, const struct exchange_limits *limits,
                 struct exchange **ret);
/* After its peers are gone. */
void exchange_free(struct exchange *exchange);
void exchange_set_limits(struct exchange *exchange, const struct exchange_limits *limits);

/* 0, -ENOMEM, -EIO (no randomness). */
int exchange_peer_new(struct exchange *exchange, void *owner, struct exchange_peer **ret);
void exchange_peer_free(struct exchange_peer *peer); /* its tickets are void from now on */
void *exchange_peer_owner(const struct exchange_peer *peer);
/*
 * Say that this peer is who it says it is. Nobody else is sent anything that could be turned against a third: no
 * diagnostic text, and no confirmable message, which would be repeated for want of an acknowledgement.
 */
void exchange_peer_set_authenticated(struct exchange_peer *peer);
/*
 * This request, of a peer that is not authenticated, is from who it says it is (RFC 8613): its answer may be a
 * confirmable message, and notifications may be sent here.
 */
void exchange_vouch(struct exchange_peer *peer, uint64_t ticket);
/* Unused since: monotonic; for eviction. */
int64_t exchange_peer_idle_since_us(const struct exchange_peer *peer);
/* Bytes of memory that the peer holds. */
size_t exchange_peer_size(const struct exchange_peer *peer);

void exchange_input(struct exchange_peer *peer, struct bytes datagram, int64_t now_us);

/* Is this a well-formed request, so that its sender is worth a struct exchange_peer? All else leaves no trace there. */
bool exchange_is_request(struct bytes datagram);

/*
 * Answer a request: message's code, options and payload; type, MID and token are filled in here (piggybacked when the
 * request was confirmable and not yet acknowledged; else a message of its own, confirmable for a confirmable request of
 * an authenticated peer or one vouched for, as long as there is room among those that wait). The encoded answer is kept
 * for duplicates. 0; -ENOENT: no such ticket, any more. -EOVERFLOW: longer than MESSAGE_SIZE_MAX, -EINVAL, -ENOMEM: it
 * can be answered otherwise. -EBUSY: answered too many non-confirmable ones in EXCHANGE_LIFETIME to have a Message ID
 * left (§4.4); this one is lost, as such a one may be.
 */
int exchange_answer(struct exchange_peer *peer, uint64_t ticket, struct coap_message *message, int64_t now_us);

/*
 * Send a message that is no answer to a request at hand (a notification of RFC 7641): message's code, token, options
 * and payload; it becomes a confirmable one, and outcome() is called with the ticket, which is the caller's and has
 * EXCHANGE_TICKET_OWN. 0; -EPERM: the peer is not authenticated, and none of its requests was vouched for; -EBUSY: too
 * many wait; -EOVERFLOW, -EINVAL, -ENOMEM.
 */
#define EXCHANGE_TICKET_OWN (UINT64_C(1) << 63) /* no ticket of a request has it */
int exchange_notify(struct exchange_peer *peer, uint64_t ticket, struct coap_message *message, int64_t now_us);

/* Give a request up without an answer: a duplicate is then served anew. */
void exchange_forget(struct exchange_peer *peer, uint64_t ticket);

/* It needs no answer (RFC 7967): a confirmable one is acknowledged, and a duplicate likewise. */
void exchange_silence(struct exchange_peer *peer, uint64_t ticket);

void exchange_timers(struct exchange *exchange, int64_t now_us);
/* When exchange_timers() must be called next: monotonic; INT64_MAX never. */
int64_t exchange_due(const struct exchange *exchange);

/* Of all peers together. Held now: Message IDs, and answers for duplicates of them. */
struct exchange_figures {
        uint64_t n_duplicates, n_records, n_kept;
};
void exchange_figures(const struct exchange *exchange, struct exchange_figures *ret);
