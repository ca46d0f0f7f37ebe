#pragma once

#include <sys/queue.h>

#include "base/config.h"
#include "base/log.h"
#include "base/siphash.h"
#include "base/table.h"
#include "endpoint/aced.h"
#include "endpoint/router.h"
#include "transport/block.h"
#include "transport/door_keys.h"
#include "transport/dtls.h"
#include "transport/engine.h"
#include "transport/exchange.h"
#include "transport/observe.h"
#include "transport/oscore.h"
#include "transport/translate.h"

/*
 * What the files of the engine share. A message comes by a route, which is a place, and is from a party, which is who
 * asks: with DTLS the two are one; a security context (RFC 8613) is the same party wherever its messages come from.
 *
 *     engine.c          the whole: calls from outside, timers, limits
 *     engine_output.c   datagrams out
 *     engine_parties.c  parties and routes, and when they go
 *     engine_plain.c    the coap door          engine_dtls.c    the coaps door
 *     engine_oscore.c   protected requests, protected answers
 *     engine_requests.c requests until they wait for a batch, and what is said to them
 *     engine_batch.c    batches, notifications
 */
#define SECOND_US INT64_C(1000000)

struct route;

/* Who asks: whom a DTLS session authenticated, a security context, or anybody at all. */
struct party {
        struct engine *engine;
        struct peer peer;
        int64_t client_id, server_id; /* which it is; 0 and 0: anybody */
        struct block_peer blocks;
        struct observe_peer observations;
        int64_t n_pending;

        /* A security context: in engine->contexts as long as one of these counts something. */
        bool is_context;
        bool is_busy;                 /* somebody further up works with it */
        TAILQ_HEAD(, route) routes;   /* that it vouches for, the first for the longest time */
        int64_t n_routes;
        UT_hash_handle hh;            /* by peer.credential_id */
};

/*
 * What is known of an address at the coap door. Strangers go for others that come; where verified requests come from,
 * no stranger makes go; where notifications go to is there as long as they do.
 */
enum standing { STANDING_STRANGER, STANDING_VOUCHED, STANDING_OBSERVED, STANDINGS };

TAILQ_HEAD(routes, route);

/* Where messages come from and answers go: a DTLS session, or an address. */
struct route {
        struct engine *engine;
        struct exchange_peer *exchange;
        enum door door;
        struct party self;             /* of a session its client; of an address anybody */
        bool is_dead;                  /* nothing goes there any more; freed when nothing points here */
        int64_t n_pending, n_observers;
        TAILQ_ENTRY(route) link;       /* engine->plain[standing] by last use, or engine->dead */

        struct dtls_session *session;  /* DOOR_COAPS */

        unsigned socket;               /* DOOR_COAP, and all that follows */
        struct address remote;
        struct plain_key {
                uint8_t address[ADDRESS_KEY_SIZE];
                uint32_t socket;
        } key;
        enum standing standing;
        struct party *voucher;         /* whose request was verified; NULL: a stranger's place */
        TAILQ_ENTRY(route) of_voucher;
        struct bucket unproved;        /* once vouched for: what is said at once to what proves nothing */
        struct block_peer fragments;   /* protected messages in blocks (RFC 8613 §4.1.3.4.2) */
        UT_hash_handle hh;
};

/* A request, and all that is needed to answer it. */
struct origin {
        struct route *route;
        struct party *party;
        uint64_t ticket;
        size_t request_size; /* of the datagram */
        uint8_t token[COAP_TOKEN_SIZE_MAX];
        uint8_t token_size;

        bool is_protected;
        uint8_t no_response;           /* RFC 7967, of a protected one: a bit for each class that is not to be said */
        bool is_fragmented;            /* outside: blocks has the options */
        struct block_asks fragments;
        struct oscore_binding binding;
};

static inline struct bytes origin_token(const struct origin *origin) {
        return bytes_of(origin->token, origin->token_size);
}

/* A request that waits for a batch, with the message, and the body from several, that it borrows from. */
struct pending {
        STAILQ_ENTRY(pending) link;
        struct origin origin;
        int64_t arrived_us;
        struct block_asks asks;
        struct work work;
        struct buf body;
        size_t size;
        uint8_t message[];
};

struct output {
        struct datagram *items; /* data is set by engine_output() */
        size_t *offsets;        /* in bytes */
        size_t n_items, capacity;
        struct buf bytes;
};

struct engine {
        struct aced *as;
        struct dtls *dtls;
        struct door_keys door_keys;
        struct exchange *exchange;
        struct block_pool *blocks, *fragments;
        struct observe *observe;
        struct limit *limit;
        struct oscore *oscore;
        struct bucket failures_told; /* in the log: see failure_level() */
        struct engine_time now;      /* of the call that we are in */

        /* The datagram that we are in. */
        struct bytes input;          /* what requests in it borrow from: the datagram, or what was decrypted */
        size_t input_size;           /* of the datagram; 0: we are in none */
        bool input_is_charged;       /* to its source */
        bool input_is_proved;        /* it is from who it says it is, and new */

        struct route *plain_table;
        struct routes plain[STANDINGS]; /* least recently used first */
        size_t n_plain[STANDINGS];
        uint8_t hash_key[SIPHASH_KEY_SIZE];
        struct route stranger; /* for plain datagrams that are no request: what they are told leaves no trace */
        struct routes dead;
        struct party *contexts;

        struct buf plain_text;         /* of the message that we are in; wiped after it */
        struct oscore_outer protected; /* the message being said */

        STAILQ_HEAD(, pending) pending;
        size_t n_pending;
        struct pending **batch;  /* room for limits.batch_max */
        struct work **works;
        size_t batch_max;
        int64_t paced_until_us;  /* see PACE_FACTOR */
        bool hurries;
        bool touched;            /* a topic, since the batch began */

        struct output output;
        struct engine_figures figures;
};

/* ---- engine_output.c */

/* Copies the data; without memory for it the datagram is dropped. */
void output_add(struct engine *engine, const struct datagram *datagram);
void output_done(struct output *output);

/* ---- engine_parties.c */

/* 0, -ENOMEM, -EIO. */
int route_new(struct engine *engine, enum door door, const struct address *remote, struct route **ret);
/* Nothing is sent there or taken from there from now on. Not freed yet: a caller further up may be busy with it. */
void route_kill(struct route *route);
/* At the end of every call from outside, when nobody is busy with a route. One that is pointed to stays as long. */
void routes_bury(struct engine *engine);
/* An address comes to stand among others, at the end of those. */
void route_stand(struct route *route, enum standing standing);
/* Its request was verified: the address is vouched for, if there is room for one more that is. */
void route_vouch(struct route *route, struct party *party);
void route_observed(struct route *route, int64_t more);

/*
 * The party that a security context is. NULL: no memory. It stays while it is pending, vouches, observes, has blocks.
 */
struct party *party_of_context(struct engine *engine, const struct oscore_taken *taken);
/* Let it go if there is no reason for it to stay. */
void party_release(struct party *party);
/* By whom it is charged. */
struct limit_peer party_rated(const struct party *party);

/* A request waits for somebody's batch, and no longer. */
void origin_hold(const struct origin *origin);
void origin_drop(const struct origin *origin);

/* ---- engine_plain.c, engine_dtls.c */

void plain_input(struct engine *engine, const struct datagram *datagram);
void plain_expire(struct engine *engine);
int64_t plain_due(const struct engine *engine);
/* The rate of a source of plain datagrams. */
struct rate plain_rate(const struct engine *engine);
void coaps_input(struct engine *engine, const struct datagram *datagram);
struct dtls_callbacks coaps_callbacks(struct engine *engine);
/*
 * At which level the log has it that somebody was not recognised. Whoever sets a device up wants to read why it
 * does not come in; but strangers must not be able to fill the log, and until then everybody is one.
 */
enum log_level failure_level(struct engine *engine);

/* ---- engine_requests.c */

/* What is said and how it may be said. */
struct saying {
        struct response *response;
        const struct block_asks *asks;
        const uint32_t *kept;    /* the ETag of a response that is kept already; NULL: see to it */
        const uint32_t *observe; /* the value of Observe; NULL: none */
};

/* Both borrow; message and answer are a response of one block or all of it. */
void answer_compose(const struct origin *origin, const struct saying *saying, struct answer *ret);
void answer_say(struct origin *origin, const struct saying *saying);
/* A code and nothing else, but Max-Age with codes that have one. refusal: why, for who counts; 0: none of ours. */
void answer_code(struct origin *origin, const struct block_asks *asks, uint8_t code, int refusal, int64_t max_age_s);
void answer_refusal(struct origin *origin, int refusal, int64_t max_age_s);

/* A request whose party is known, in clear; it borrows from engine->input. */
void request_take(struct origin *origin, const struct coap_message *message);
struct pending *pending_take(struct engine *engine);
void pending_free(struct pending *pending);
/* Seconds that a wait takes, as Max-Age has them: who comes back then is not too early. */
int64_t wait_s(int64_t wait_us);
struct exchange_callbacks requests_callbacks(struct engine *engine);

/* ---- engine_oscore.c */

/*
 * Of a protected message that comes in blocks, and of what all such hold (MAX_UNFRAGMENTED_SIZE, RFC 8613 §4.1.3.4.2).
 */
#define OSCORE_UNFRAGMENTED_MAX ((size_t)12288)
#define OSCORE_FRAGMENTS_PER_ROUTE_MAX ((size_t)2 * 16384)
#define OSCORE_FRAGMENTS_MAX ((size_t)1 << 20)
#define FRAGMENT_OPTIONS_SIZE 8 /* of an OSCORE option beside the block options */
#define OSCORE_OVERHEAD_MAX 32 /* bytes that protecting adds to a message: option, marker, code, tag */

int protection_init(struct engine *engine);
void protection_done(struct engine *engine);
/* A request with an OSCORE option, whole or in blocks. */
void protected_request(struct origin *origin, const struct coap_message *outer);
/* Say it under the protection that the request had: 0, or as exchange_answer(). */
int protected_answer(struct origin *origin, const struct coap_message *inner);
/* A notification, by way's binding. 0, as exchange_notify(), or as oscore_protect(). */
int protected_notify(struct route *route, struct observe_way *way, uint64_t ticket, const struct coap_message *inner);

/* ---- engine_batch.c */

void batch_run(struct engine *engine);
/* Not yet: there is other work to do, and more requests may come meanwhile. */
bool batch_waits(const struct engine *engine);
/* After the commit of what changed: each is told what it would be told if it asked now, or that it may not ask. */
void notify(struct engine *engine);
/* An idle session is closed: before that an observer is asked whether it is still there. */
int64_t observe_refresh_us(const struct config *config);
void on_outcome(void *context, struct exchange_peer *exchange, uint64_t ticket, bool acknowledged);
void on_observe_ended(void *context, void *owner, struct observe_way *way);
