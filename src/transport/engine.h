#pragma once

#include "base/bytes.h"
#include "transport/address.h"
#include "transport/block.h"
#include "transport/dtls_failure.h"
#include "transport/engine_time.h"
#include "transport/limit.h"
#include "transport/observe.h"

struct aced;

/*
 * The server side of CoAP over UDP and DTLS, from bytes in to bytes out, without sockets and without a clock: what
 * udp.c drives in the daemon and a simulated network in tests. Datagrams go in; requests are collected, run as one
 * batch with one commit, and their answers come out.
 *
 *     engine_input()* → engine_run() → engine_output()
 */
struct engine;

enum door { DOOR_COAP, DOOR_COAPS };

static inline const char *door_name(enum door door) {
        return door == DOOR_COAPS ? "coaps" : "coap";
}

struct datagram {
        enum door door;
        unsigned socket;       /* index of the socket it came by or goes out by: the caller's, kept per peer */
        struct address remote;
        struct bytes data;     /* borrowed */
};

int engine_new(struct aced *as, struct engine **ret);
void engine_free(struct engine *engine);

/* The configuration was reloaded: limits are taken from as->config again, trust anchors from as->trust_anchors. */
void engine_reconfigure(struct engine *engine);

/* Take one datagram in: cookie, handshake, records, duplicates. Requests found wait for engine_run(). */
void engine_input(struct engine *engine, const struct datagram *datagram, struct engine_time now);

/*
 * Run timers that are due and at most limits.batch_max waiting requests. Call after input and at engine_due().
 * Returns true when requests still wait: call again after sending.
 */
bool engine_run(struct engine *engine, struct engine_time now);

/* Datagrams to be sent, in order: valid until the next call of anything. engine_sent() forgets them. */
size_t engine_output(struct engine *engine, const struct datagram **ret);
void engine_sent(struct engine *engine);

/* When engine_run() must be called next if nothing comes in: monotonic; INT64_MAX never. */
int64_t engine_due(const struct engine *engine);

/*
 * Keys of security contexts that have been removed go from memory, step by step: to be called now and then, outside of
 * all else, and soon again when it returns true.
 */
bool engine_forget(struct engine *engine);

/* Nothing more comes in: from now on no batch waits for company. */
void engine_hurry(struct engine *engine);

/* Say close_notify to every session: the daemon stops. The datagrams are in engine_output(). */
void engine_close(struct engine *engine, struct engine_time now);

/*
 * Dropped: for want of memory or of room in the output, or because the session broke while it was spoken to. Requests:
 * new ones, those included that were refused here. Pending: of these, those that wait for a batch.
 */
struct engine_figures {
        uint64_t n_datagrams_in, n_datagrams_out, n_datagrams_dropped;
        uint64_t n_handshakes_begun, n_handshakes_done, n_handshakes_failed;
        uint64_t n_requests, n_duplicates, n_batches;
        uint64_t n_sessions, n_sessions_half_open, n_sessions_evicted;
        uint64_t n_pending, n_refused_overload;
        struct block_figures blocks; /* bodies and answers in blocks */
        struct block_figures fragments; /* protected messages in blocks, which are nobody's yet */
        struct observe_figures observe; /* observations and notifications */
        uint64_t n_datagrams_stray; /* at the coaps door, of no session and no ClientHello */
        uint64_t n_cookies_sent;
        uint64_t n_handshakes_failed_by[DTLS_FAILURES];
        uint64_t n_records, n_answers_kept; /* Message IDs remembered, and answers for duplicates, of all peers */
        uint64_t n_plain_peers;     /* addresses remembered at the coap door: of strangers, */
        uint64_t n_oscore_peers;    /* and where protected requests came from */
        struct limit_figures limit;
};
void engine_figures(const struct engine *engine, struct engine_figures *ret);

/* Those of security contexts: transport/oscore.h. */
struct oscore_figures;
void engine_oscore_figures(const struct engine *engine, struct oscore_figures *ret);
