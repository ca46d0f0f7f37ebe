#include "transport/engine.h"

#include <errno.h>
#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/siphash.h"
#include "crypto/random.h"
#include "endpoint/aced.h"
#include "endpoint/refusal.h"
#include "endpoint/router.h"
#include "store/credentials.h"
#include "store/trl.h"
#include "transport/block.h"
#include "transport/door_keys.h"
#include "transport/dtls.h"
#include "transport/exchange.h"
#include "transport/limit.h"
#include "transport/observe.h"
#include "transport/translate.h"

#define SECOND_US INT64_C(1000000)

#define PLAIN_IDLE_US (247 * SECOND_US)      /* EXCHANGE_LIFETIME: then nothing about an address is worth keeping */
#define OUTPUT_SIZE_MAX ((size_t)64 << 20)   /* bytes of datagrams in one round; more are dropped */
#define OUTPUT_SIZE_KEPT ((size_t)1 << 20)   /* of memory, from round to round */
/*
 * While handshakes are under way the next batch begins no sooner after a commit than so many times what the commit took:
 * tokens asked for by devices that come one by one then share a commit, and the wait is filled with handshakes.
 */
#define PACE_FACTOR 4
#define PACE_MAX_US 20000                    /* a commit on a slow disk makes nobody wait longer than that for company */
#define NOTIFIED_AT_ONCE 64                  /* observers that are looked after in one round */
#define MAX_TRANSMIT_WAIT_S 93               /* RFC 7252 §4.8.2 */
#define UNAUTHENTICATED_FACTOR 3             /* what is told to anybody is under this times what was asked */

/* Who is at the other end of a door. */
struct door_peer {
        struct engine *engine;
        struct exchange_peer *exchange;
        struct peer peer;
        enum door door;
        struct block_peer blocks;
        struct observe_peer observations;
        bool is_dead;                  /* nothing goes there any more; freed when nothing points here */
        int64_t n_pending;
        TAILQ_ENTRY(door_peer) link;   /* engine->plain by last use, or engine->dead */

        struct dtls_session *session;  /* DOOR_COAPS */
        unsigned socket;               /* DOOR_COAP */
        struct address remote;
        struct plain_key {
                uint8_t address[ADDRESS_KEY_SIZE];
                uint32_t socket;
        } key;
        UT_hash_handle hh;
};

TAILQ_HEAD(door_peers, door_peer);

/* A request that waits for a batch, with the datagram, and the body from several, that it borrows from. */
struct pending {
        STAILQ_ENTRY(pending) link;
        struct door_peer *peer;
        uint64_t ticket;
        int64_t arrived_us;
        struct block_asks asks;
        struct bytes token;
        struct work work;
        struct buf body;
        size_t size;
        uint8_t datagram[];
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
        struct block_pool *blocks;
        struct observe *observe;
        struct limit *limit;
        struct bucket failures_told; /* of handshakes, in the log */
        struct engine_time now;  /* of the call that we are in */
        struct bytes input;      /* the message that we are in */

        struct door_peer *plain_table;
        struct door_peers plain; /* least recently used first */
        size_t n_plain;
        uint8_t hash_key[SIPHASH_KEY_SIZE];
        struct door_peer stranger; /* for plain datagrams that are no request: what they are told leaves no trace */
        struct door_peers dead;

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

DEFINE_FREEP(struct engine, engine_free)

/* ---- datagrams out */

static int output_grow(struct output *output) {
        size_t capacity = output->capacity ? output->capacity * 2 : 64;
        struct datagram *items;
        size_t *offsets;

        items = reallocarray(output->items, capacity, sizeof(*items));
        if (!items)
                return -ENOMEM;
        output->items = items;
        offsets = reallocarray(output->offsets, capacity, sizeof(*offsets));
        if (!offsets)
                return -ENOMEM;
        output->offsets = offsets;
        output->capacity = capacity;
        return 0;
}

static void output_add(struct engine *engine, const struct datagram *datagram) {
        struct output *output = &engine->output;
        size_t offset = output->bytes.size;

        if ((output->n_items == output->capacity && output_grow(output) < 0) ||
            buf_add(&output->bytes, datagram->data) < 0) {
                engine->figures.n_datagrams_dropped++;
                return;
        }
        output->items[output->n_items] = *datagram;
        output->items[output->n_items].data = bytes_of(NULL, datagram->data.size);
        output->offsets[output->n_items++] = offset;
        engine->figures.n_datagrams_out++;
}

size_t engine_output(struct engine *engine, const struct datagram **ret) {
        struct output *output = &engine->output;

        for (size_t i = 0; i < output->n_items; i++)
                output->items[i].data.data = output->bytes.data + output->offsets[i];
        *ret = output->items;
        return output->n_items;
}

static void output_done(struct output *output) {
        free(output->items);
        free(output->offsets);
        buf_done(&output->bytes);
        *output = (struct output){ .bytes = BUF_INIT(OUTPUT_SIZE_MAX) };
}

void engine_sent(struct engine *engine) {
        struct output *output = &engine->output;

        output->n_items = 0;
        buf_clear(&output->bytes);
        if (output->bytes.capacity > OUTPUT_SIZE_KEPT)
                output_done(output); /* a flood's worth is given back */
}

/* ---- peers */

/* Nothing is sent to it or taken from it from now on. Not freed yet: a caller further up may be busy with it. */
static void peer_kill(struct door_peer *peer) {
        struct engine *engine = peer->engine;

        if (peer->is_dead)
                return;
        peer->is_dead = true;
        if (peer->door == DOOR_COAP) {
                HASH_DEL(engine->plain_table, peer);
                TAILQ_REMOVE(&engine->plain, peer, link);
                engine->n_plain--;
        }
        peer->session = NULL;
        observe_peer_done(&peer->observations);
        TAILQ_INSERT_TAIL(&engine->dead, peer, link);
}

/* At the end of every call from outside, when nobody is busy with a peer. One with pending requests stays as long. */
static void bury(struct engine *engine) {
        struct door_peer *peer, *next;

        for (peer = TAILQ_FIRST(&engine->dead); peer; peer = next) {
                next = TAILQ_NEXT(peer, link);
                exchange_peer_free(TAKE_PTR(peer->exchange));
                block_peer_done(&peer->blocks);
                TAILQ_REMOVE(&engine->dead, peer, link);
                if (peer->n_pending == 0)
                        free(peer);
        }
}

/* The last pending request of a peer that is buried takes it along. */
static void peer_unpend(struct door_peer *peer) {
        if (--peer->n_pending == 0 && peer->is_dead && !peer->exchange)
                free(peer);
}

static int peer_new(struct engine *engine, enum door door, const struct address *remote, struct door_peer **ret) {
        struct door_peer *peer = calloc(1, sizeof(*peer));
        int r;

        if (!peer)
                return -ENOMEM;
        peer->engine = engine;
        peer->door = door;
        peer->remote = *remote;
        address_text(remote, peer->peer.name, sizeof(peer->peer.name));
        r = exchange_peer_new(engine->exchange, peer, &peer->exchange);
        if (r < 0) {
                free(peer);
                return r;
        }
        *ret = peer;
        return 0;
}

/* ---- the coap door */

static void plain_key(unsigned socket, const struct address *remote, struct plain_key *ret) {
        *ret = (struct plain_key){ .socket = socket };
        address_key(remote, ret->address);
}

/* Keyed: anybody may send from addresses of his choice. */
static unsigned plain_hash(const struct engine *engine, const struct plain_key *key) {
        return (unsigned)siphash(engine->hash_key, bytes_of(key, sizeof(*key)));
}

static int plain_add(struct engine *engine, const struct datagram *datagram, const struct plain_key *key, unsigned hash,
                     struct door_peer **ret) {
        struct door_peer *peer;
        int r;

        while (engine->n_plain >= (size_t)engine->as->config->plain_peers_max)
                peer_kill(TAILQ_FIRST(&engine->plain));
        r = peer_new(engine, DOOR_COAP, &datagram->remote, &peer);
        if (r < 0)
                return r;
        peer->peer.channel = CHANNEL_PLAIN;
        peer->socket = datagram->socket;
        peer->key = *key;
        HASH_ADD_BYHASHVALUE(hh, engine->plain_table, key, sizeof(peer->key), hash, peer);
        if (!peer->hh.tbl) {
                exchange_peer_free(peer->exchange);
                free(peer);
                return -ENOMEM;
        }
        TAILQ_INSERT_TAIL(&engine->plain, peer, link);
        engine->n_plain++;
        *ret = peer;
        return 0;
}

/* Who sent this: a known address, a new one that asks something, or a stranger. NULL: there is no room for it. */
static struct door_peer *plain_peer(struct engine *engine, const struct datagram *datagram) {
        struct door_peer *peer = NULL;
        struct plain_key key;
        unsigned hash;

        plain_key(datagram->socket, &datagram->remote, &key);
        hash = plain_hash(engine, &key);
        HASH_FIND_BYHASHVALUE(hh, engine->plain_table, &key, sizeof(key), hash, peer);
        if (peer) {
                TAILQ_REMOVE(&engine->plain, peer, link);
                TAILQ_INSERT_TAIL(&engine->plain, peer, link);
        } else if (exchange_is_request(datagram->data)) {
                if (plain_add(engine, datagram, &key, hash, &peer) < 0)
                        return NULL;
        } else {
                peer = &engine->stranger;
                peer->socket = datagram->socket;
        }
        peer->remote = datagram->remote; /* our own address, which the answer leaves from, may be another now */
        return peer;
}

/* Seconds that a wait takes, as Max-Age has them: who comes back then is not too early. */
static int64_t wait_s(int64_t wait_us) {
        return (wait_us + SECOND_US - 1) / SECOND_US;
}

/*
 * 4.29 (RFC 8516) to a confirmable request, without a trace of who asked; not longer than the request, so that Max-Age
 * may be missing, which means a minute (RFC 7252 §5.10.5).
 */
static void plain_refuse(struct engine *engine, const struct datagram *datagram, int64_t wait_us) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT(MESSAGE_SIZE_MAX);
        struct coap_message request, answer = { .type = TYPE_ACK, .code = CODE_TOO_MANY_REQUESTS };
        uint8_t scratch[4];
        bool header_ok;

        if (!exchange_is_request(datagram->data) || coap_message_decode(datagram->data, &request, &header_ok) != 0 ||
            request.type != TYPE_CON)
                return;
        answer.mid = request.mid;
        answer.token = request.token;
        coap_message_add_uint(&answer, OPTION_MAX_AGE, (uint32_t)wait_s(wait_us), scratch);
        if (coap_message_encode(&answer, &bytes) < 0)
                return;
        if (bytes.size > datagram->data.size) {
                answer.n_options = 0;
                buf_clear(&bytes);
                if (coap_message_encode(&answer, &bytes) < 0)
                        return;
        }
        output_add(engine, &(struct datagram){ .door = DOOR_COAP, .socket = datagram->socket,
                                               .remote = datagram->remote, .data = buf_bytes(&bytes) });
}

static void plain_input(struct engine *engine, const struct datagram *datagram) {
        enum limit_verdict verdict;
        struct door_peer *peer;
        int64_t wait_us;

        verdict = limit_stranger(engine->limit, &datagram->remote, STRANGER_REQUEST, engine->now.monotonic_us,
                                 &wait_us);
        if (verdict == LIMIT_SOURCE)
                plain_refuse(engine, datagram, wait_us);
        if (verdict != LIMIT_PASS)
                return;
        peer = plain_peer(engine, datagram);
        if (!peer) {
                engine->figures.n_datagrams_dropped++;
                return;
        }
        engine->input = datagram->data;
        exchange_input(peer->exchange, datagram->data, engine->now.monotonic_us);
        engine->input = BYTES_NONE;
}

/* In order of last use, so that the first who stays ends the walk. */
static void plain_expire(struct engine *engine) {
        struct door_peer *peer;

        while ((peer = TAILQ_FIRST(&engine->plain)) &&
               exchange_peer_idle_since_us(peer->exchange) + PLAIN_IDLE_US <= engine->now.monotonic_us)
                peer_kill(peer);
}

/* ---- the coaps door: what dtls.c calls */

static int on_psk(void *context, struct bytes identity, struct credential *ret, struct secret *ret_psk) {
        struct engine *engine = context;

        return store_psk_find(engine->as->store, identity, ret, ret_psk);
}

static int on_rpk(void *context, const uint8_t thumbprint[static THUMBPRINT_SIZE], struct credential *ret) {
        struct engine *engine = context;

        return store_rpk_find(engine->as->store, thumbprint, ret);
}

static int on_x509(void *context, struct bytes rule, struct credential *ret) {
        struct engine *engine = context;

        return store_x509_find(engine->as->store, rule, ret);
}

/*
 * Whoever sets a device up wants to read why it does not come in; but strangers must not be able to fill the log, and
 * until the end of a handshake everybody is one.
 */
static void on_failed(void *context, const struct address *remote, enum dtls_failure why, const char *detail) {
        static const struct rate told = { .per_s = 1, .burst = 10 };
        struct engine *engine = context;
        char text[ADDRESS_TEXT_SIZE];
        enum log_level level;
        int64_t wait_us;

        level = bucket_take(&engine->failures_told, &told, engine->now.monotonic_us, &wait_us) ? LOG_LEVEL_INFO :
                                                                                                 LOG_LEVEL_DEBUG;
        if (!log_enabled(level))
                return;
        address_text(remote, text, sizeof(text));
        log_line(level, "%s: no DTLS session: %s%s%s", text, dtls_failure_row(why)->text, detail ? ": " : "",
                 detail ? detail : "");
}

static struct door_peer *session_peer(struct engine *engine, struct dtls_session *session) {
        const struct credential *credential = dtls_session_credential(session);
        const uint8_t *thumbprint = dtls_session_thumbprint(session);
        struct door_peer *peer = dtls_session_owner(session);

        if (peer)
                return peer;
        if (peer_new(engine, DOOR_COAPS, dtls_session_remote(session), &peer) < 0)
                return NULL;
        peer->session = session;
        peer->peer.channel = CHANNEL_DTLS;
        peer->peer.kind = credential->kind;
        peer->peer.credential_id = credential->id;
        peer->peer.has_key = thumbprint != NULL;
        if (thumbprint)
                memcpy(peer->peer.thumbprint, thumbprint, THUMBPRINT_SIZE);
        exchange_peer_set_authenticated(peer->exchange);
        block_peer_init(&peer->blocks, engine->blocks);
        observe_peer_init(&peer->observations, engine->observe, peer);
        dtls_session_set_owner(session, peer);
        return peer;
}

static void on_deliver(void *context, struct dtls_session *session, struct bytes data, struct engine_time now) {
        struct engine *engine = context;
        struct door_peer *peer = session_peer(engine, session);

        if (!peer) {
                engine->figures.n_datagrams_dropped++;
                return;
        }
        engine->input = data;
        exchange_input(peer->exchange, data, now.monotonic_us);
        engine->input = BYTES_NONE;
}

static void on_dtls_send(void *context, unsigned socket, const struct address *remote, struct bytes data) {
        output_add(context, &(struct datagram){ .door = DOOR_COAPS, .socket = socket, .remote = *remote,
                                                .data = data });
}

static bool on_admit(void *context, const struct address *remote, enum stranger_act act, struct engine_time now) {
        struct engine *engine = context;
        int64_t wait_us;

        return limit_stranger(engine->limit, remote, act, now.monotonic_us, &wait_us) == LIMIT_PASS;
}

/*
 * Thousands of devices may stand behind one address, so that a handshake is charged to who made it, now that this is
 * known. One who makes too many of them pays for them with the address.
 */
static void on_done(void *context, struct dtls_session *session, struct engine_time now) {
        struct engine *engine = context;
        int64_t wait_us;

        if (limit_peer(engine->limit, dtls_session_credential(session), now.monotonic_us, &wait_us))
                limit_stranger_forgive(engine->limit, dtls_session_remote(session), STRANGER_HANDSHAKE,
                                       now.monotonic_us);
}

static void on_closed(void *context, struct dtls_session *session) {
        struct door_peer *peer = dtls_session_owner(session);

        if (peer)
                peer_kill(peer);
}

/* ---- requests: what exchange.c calls */

static void on_send(void *context, struct exchange_peer *exchange, struct bytes data) {
        struct door_peer *peer = exchange_peer_owner(exchange);
        struct engine *engine = context;

        if (peer->is_dead)
                return;
        if (peer->door == DOOR_COAP)
                output_add(engine, &(struct datagram){ .door = DOOR_COAP, .socket = peer->socket,
                                                       .remote = peer->remote, .data = data });
        else if (dtls_send(peer->session, data) < 0)
                engine->figures.n_datagrams_dropped++; /* on -EPIPE on_closed() has been called */
}

/* Unauthenticated peers get no more than they sent, so that nobody can turn us on a third. */
static size_t answer_size_max(const struct door_peer *peer, size_t request_size, uint8_t code) {
        if (peer->door == DOOR_COAPS)
                return MESSAGE_SIZE_MAX;
        if (code >> 5 != 2)
                return request_size;
        request_size = UNAUTHENTICATED_FACTOR * request_size - 1;
        return request_size < MESSAGE_SIZE_MAX ? request_size : MESSAGE_SIZE_MAX;
}

/* One block of several: the others come from the same body, or from one that can be told from it. */
static void keep(struct door_peer *peer, const struct block_asks *asks, struct response *response,
                 struct answer *answer) {
        const struct engine *engine = peer->engine;
        uint32_t etag;
        int r;

        r = block_keep(&peer->blocks, engine->blocks, asks, response, engine->now.monotonic_us, &etag);
        if (r < 0 && !asks->may_cut)
                answer_put_error(answer, CODE_INTERNAL_ERROR);
        else
                answer_put_etag(answer, etag);
}

/* What is said and how it may be said. */
struct saying {
        struct response *response;
        const struct block_asks *asks;
        size_t request_size, token_size;
        const uint32_t *kept;    /* the ETag of a response that is kept already; NULL: see to it */
        const uint32_t *observe; /* the value of Observe; NULL: none */
};

static void compose(struct door_peer *peer, const struct saying *saying, struct answer *ret) {
        const struct answer_limits limits = {
                .size_max = answer_size_max(peer, saying->request_size, saying->response->code),
                .token_size = saying->token_size,
                .observe = saying->observe,
                .payload_max = (size_t)peer->engine->as->config->payload_max,
        };

        translate_response(saying->response, saying->asks, &limits, ret);
        if (ret->is_part && saying->kept)
                answer_put_etag(ret, *saying->kept);
        else if (ret->is_part)
                keep(peer, saying->asks, saying->response, ret);
}

static void say(struct door_peer *peer, uint64_t ticket, const struct saying *saying) {
        const struct engine *engine = peer->engine;
        struct coap_message plain_error = { .code = CODE_INTERNAL_ERROR };
        struct answer answer;
        int r;

        compose(peer, saying, &answer);
        r = exchange_answer(peer->exchange, ticket, &answer.message, engine->now.monotonic_us);
        if (r == -ENOMEM || r == -EOVERFLOW || r == -EINVAL)
                exchange_answer(peer->exchange, ticket, &plain_error, engine->now.monotonic_us);
}

/*
 * Refused before it is a struct request: no slot of a batch is spent on it. max_age_s: when it may be asked again, for
 * codes that say so.
 */
static void refuse(struct door_peer *peer, uint64_t ticket, const struct coap_message *message, int refusal,
                   int64_t max_age_s) {
        const struct block_asks asks = {};
        struct response response; /* no payload, nothing to free */

        response_init(&response);
        response.code = refusal_row(refusal)->coap_code;
        if (response.code == CODE_TOO_MANY_REQUESTS || response.code == CODE_UNAVAILABLE)
                response.max_age_s = max_age_s;
        metrics_answered(&peer->engine->as->metrics, NULL, response.code, refusal);
        say(peer, ticket, &(struct saying){ .response = &response, .asks = &asks,
                                            .request_size = peer->engine->input.size,
                                            .token_size = message->token.size });
}

/* The same bytes in the copy of the datagram. */
static void rebase(struct bytes *view, const uint8_t *from, const uint8_t *to) {
        if (view->size > 0)
                view->data = to + (view->data - from);
}

/* has_body: the payload is the last block of a body that block_take() gives. */
static int pending_add(struct door_peer *peer, uint64_t ticket, const struct coap_message *message,
                       const struct request *request, const struct block_asks *asks, bool has_body) {
        struct engine *engine = peer->engine;
        struct bytes input = engine->input;
        struct pending *pending = malloc(sizeof(*pending) + input.size);
        struct request *copy;

        if (!pending)
                return -ENOMEM;
        pending->peer = peer;
        pending->ticket = ticket;
        pending->arrived_us = engine->now.monotonic_us;
        pending->asks = *asks;
        pending->token = message->token;
        pending->body = BUF_INIT(0);
        pending->size = input.size;
        memcpy(pending->datagram, input.data, input.size);
        copy = &pending->work.request;
        *copy = *request;
        copy->peer = &peer->peer;
        rebase(&pending->token, input.data, pending->datagram);
        for (size_t i = 0; i < copy->n_segments; i++)
                rebase(&copy->segments[i], input.data, pending->datagram);
        for (size_t i = 0; i < copy->n_queries; i++)
                rebase(&copy->queries[i], input.data, pending->datagram);
        rebase(&copy->payload, input.data, pending->datagram);
        if (has_body && block_take(&peer->blocks, asks, &pending->body))
                copy->payload = buf_bytes(&pending->body);
        STAILQ_INSERT_TAIL(&engine->pending, pending, link);
        engine->n_pending++;
        peer->n_pending++;
        return 0;
}

static struct pending *pending_take(struct engine *engine) {
        struct pending *pending = STAILQ_FIRST(&engine->pending);

        STAILQ_REMOVE_HEAD(&engine->pending, link);
        engine->n_pending--;
        return pending;
}

static void pending_free(struct pending *pending) {
        peer_unpend(pending->peer);
        wipe(pending->datagram, pending->size); /* a request may hold a client's secret or a token */
        if (pending->body.data)
                wipe(pending->body.data, pending->body.capacity);
        buf_done(&pending->body);
        free(pending);
}

/* 0, or why not: too much waits of this peer, or of all. */
static int overload(const struct door_peer *peer) {
        const struct config *config = peer->engine->as->config;
        int64_t share = (config->pending_max + 1) / 2;

        if (share > config->pending_per_peer_max)
                share = config->pending_per_peer_max;
        if ((int64_t)peer->engine->n_pending >= config->pending_max)
                return -EBUSY;
        return peer->n_pending >= share ? REFUSE_OVERLOAD : 0;
}

/* 0, or why not, and when it may be asked again. One that gets in is charged for. */
static int admit(const struct door_peer *peer, int64_t *ret_max_age_s) {
        const struct engine *engine = peer->engine;
        int64_t wait_us;
        int r = overload(peer);

        *ret_max_age_s = RETRY_AFTER_S;
        if (r != 0 || peer->door == DOOR_COAP || /* whose datagrams have been counted */
            limit_peer(engine->limit, dtls_session_credential(peer->session), engine->now.monotonic_us, &wait_us))
                return r;
        *ret_max_age_s = wait_s(wait_us);
        return REFUSE_RATE;
}

/* To a block: which it was is said along. refusal: why not, for who counts; 0: none of ours. */
static void say_code(struct door_peer *peer, uint64_t ticket, const struct coap_message *message,
                     const struct block_asks *asks, uint8_t code, int refusal) {
        struct response response; /* no payload, nothing to free */

        metrics_answered(&peer->engine->as->metrics, NULL, code, refusal);
        response_init(&response);
        response.code = code;
        if (code == CODE_UNAVAILABLE)
                response.max_age_s = RETRY_AFTER_S;
        say(peer, ticket, &(struct saying){ .response = &response, .asks = asks,
                                            .request_size = peer->engine->input.size,
                                            .token_size = message->token.size });
}

/* A request, or a block of one: what can be answered at once is; the rest waits for a batch. */
static void take(struct door_peer *peer, uint64_t ticket, const struct coap_message *message,
                 const struct request *request, const struct block_asks *asks) {
        struct engine *engine = peer->engine;
        enum block_verdict verdict;
        struct block_step step;

        /* what is going to be refused anyhow is not collected first */
        if (asks->request_block.more || asks->request_block.number > 0) {
                int r = router_check(engine->as, request);

                if (r != 0) {
                        say_code(peer, ticket, message, asks, refusal_row(r)->coap_code, r);
                        return;
                }
        }
        verdict = block_step(&peer->blocks, message, asks, engine->now.monotonic_us, &step);
        if (step.is_progress)
                limit_peer_forgive(engine->limit, dtls_session_credential(peer->session)); /* the first block has paid */
        if (verdict == BLOCK_ANSWER) {
                say_code(peer, ticket, message, asks, step.code, 0);
        } else if (verdict == BLOCK_KEPT) {
                metrics_answered(&engine->as->metrics, NULL, step.kept.code, 0);
                say(peer, ticket, &(struct saying){ .response = &step.kept, .asks = asks,
                                                    .request_size = engine->input.size,
                                                    .token_size = message->token.size, .kept = &step.etag });
        } else if (pending_add(peer, ticket, message, request, asks, verdict == BLOCK_BODY) < 0) {
                exchange_forget(peer->exchange, ticket); /* as if the network had lost it */
                engine->figures.n_datagrams_dropped++;
        }
}

/* RFC 7252 §4.3, §5.4.1, §5.8: what the message layer says no to by itself. */
static void on_refused(void *context, uint8_t code) {
        const struct engine *engine = context;
        int refusal = code == CODE_BAD_OPTION ? REFUSE_BAD_OPTION : code == CODE_METHOD_NOT_ALLOWED ? REFUSE_METHOD : 0;

        metrics_answered(&engine->as->metrics, NULL, code, refusal);
}

static void on_request(void *context, struct exchange_peer *exchange, uint64_t ticket,
                       const struct coap_message *message) {
        struct door_peer *peer = exchange_peer_owner(exchange);
        struct engine *engine = context;
        struct block_asks asks;
        struct request request;
        int64_t max_age_s;
        int r;

        engine->figures.n_requests++;
        r = admit(peer, &max_age_s);
        engine->figures.n_refused_overload += r == REFUSE_OVERLOAD || r == -EBUSY;
        if (r == 0)
                r = translate_request(message, (size_t)engine->as->config->payload_max, &request, &asks);
        if (r != 0) {
                refuse(peer, ticket, message, r, max_age_s);
                return;
        }
        request.peer = &peer->peer;
        asks.may_keep = peer->door == DOOR_COAPS;
        block_identify(engine->blocks, message, &asks);
        take(peer, ticket, message, &request, &asks);
}

/* ---- the batch */

/* Take what runs now; what is waiting for nobody goes. */
static size_t batch_take(struct engine *engine) {
        struct pending *pending;
        size_t n = 0;

        while (n < engine->batch_max && !STAILQ_EMPTY(&engine->pending)) {
                pending = pending_take(engine);
                if (pending->peer->is_dead) {
                        pending_free(pending);
                        continue;
                }
                pending->work.request.now_s = engine->now.wall_s;
                response_init(&pending->work.response);
                engine->batch[n] = pending;
                engine->works[n++] = &pending->work;
        }
        return n;
}

/* An idle session is closed: before that an observer is asked whether it is still there. */
static int64_t observe_refresh_us(const struct config *config) {
        int64_t refresh_us = config->session_idle_s * SECOND_US / 2;

        return refresh_us < OBSERVE_REFRESH_MAX_US ? refresh_us : OBSERVE_REFRESH_MAX_US;
}

/* For how long an observer may believe what it was told last (RFC 7641 §4.3.1): it hears something before. */
static int64_t observed_max_age_s(const struct engine *engine) {
        return observe_refresh_us(engine->as->config) / SECOND_US + MAX_TRANSMIT_WAIT_S;
}

/*
 * The request asks to observe, or not to any more. True: it does from now on, and is told so by *ret_sequence. What came
 * behind it in its batch may have changed what it was answered, when it was no observer yet: it is asked for once more.
 */
static bool observe_asked(struct pending *pending, uint32_t *ret_sequence) {
        struct observe_peer *observations = &pending->peer->observations;
        struct response *response = &pending->work.response;
        bool may = response->code >> 5 == 2 && pending->work.resource && pending->work.resource->observable;

        if (pending->asks.observe == OBSERVE_NOT)
                return false;
        if (pending->asks.observe == OBSERVE_BEGIN && may &&
            observe_add(observations, pending->token, &pending->work.request, &pending->asks, response,
                        pending->peer->engine->now.monotonic_us, ret_sequence) == 0) {
                response->max_age_s = observed_max_age_s(pending->peer->engine);
                if (pending->peer->engine->touched)
                        observe_touch(pending->peer->engine->observe, response->topic);
                return true;
        }
        observe_remove(observations, pending->token);
        return false;
}

static void batch_answer(struct pending *pending) {
        uint32_t sequence;
        bool observes;

        if (!pending->peer->is_dead) {
                observes = observe_asked(pending, &sequence);
                say(pending->peer, pending->ticket,
                    &(struct saying){ .response = &pending->work.response, .asks = &pending->asks,
                                      .request_size = pending->size, .token_size = pending->token.size,
                                      .observe = observes ? &sequence : NULL });
        }
        response_done(&pending->work.response);
        pending_free(pending);
}

/* What is left to do for an answer is to encrypt and send it. */
static void batch_measure(const struct engine *engine, size_t n) {
        struct aced *as = engine->as;
        int64_t now_us;

        metrics_observe(&as->metrics, HISTOGRAM_BATCH, (int64_t)n);
        if (!as->stopwatch_us)
                return;
        now_us = as->stopwatch_us();
        for (size_t i = 0; i < n; i++)
                metrics_observe(&as->metrics, HISTOGRAM_LATENCY, now_us - engine->batch[i]->arrived_us);
}

/* Not yet: there is other work to do, and more requests may come meanwhile. */
static bool batch_waits(const struct engine *engine) {
        struct dtls_figures dtls;

        if (engine->hurries || engine->now.monotonic_us >= engine->paced_until_us || engine->n_pending >= engine->batch_max)
                return false;
        dtls_figures(engine->dtls, &dtls);
        return dtls.n_half_open > 0;
}

static void batch_pace(struct engine *engine, int64_t took_us) {
        int64_t wait_us = PACE_FACTOR * engine->as->commit_us;

        engine->paced_until_us = engine->now.monotonic_us + took_us + (wait_us < PACE_MAX_US ? wait_us : PACE_MAX_US);
}

static void batch_run(struct engine *engine) {
        int64_t begun_us = engine->as->stopwatch_us ? engine->as->stopwatch_us() : 0;
        size_t n = batch_waits(engine) ? 0 : batch_take(engine);

        if (n == 0)
                return;
        engine->as->commit_us = 0;
        engine->touched = false;
        router_batch(engine->as, engine->works, n);
        if (engine->as->stopwatch_us)
                batch_pace(engine, engine->as->stopwatch_us() - begun_us);
        engine->figures.n_batches++;
        batch_measure(engine, n);
        for (size_t i = 0; i < n; i++)
                batch_answer(engine->batch[i]);
}

/* ---- notifications */

/* An observer whose request runs again. Its peer stays as long as it is pending here. */
struct notice {
        struct door_peer *peer;
        struct observe_turn turn;
        struct work work;
};

static size_t notices_take(struct engine *engine, struct notice *notices, size_t max, struct work **works) {
        size_t n = 0;

        while (n < max && observe_next(engine->observe, &notices[n].turn)) {
                struct notice *notice = &notices[n];

                notice->peer = notice->turn.owner;
                notice->peer->n_pending++;
                notice->work.request = notice->turn.request;
                notice->work.request.peer = &notice->peer->peer;
                notice->work.request.now_s = engine->now.wall_s;
                response_init(&notice->work.response);
                works[n++] = &notice->work;
        }
        return n;
}

static void notice_send(struct notice *notice) {
        struct engine *engine = notice->peer->engine;
        struct observe_peer *observations = &notice->peer->observations;
        uint64_t ticket = notice->turn.ticket;
        struct bytes token;
        struct answer answer;
        uint32_t sequence;
        int verdict, r;

        verdict = observe_judge(observations, ticket, &notice->work.response, &token, &sequence);
        if (verdict == 0)
                return;
        if (verdict == 1)
                notice->work.response.max_age_s = observed_max_age_s(engine);
        compose(notice->peer, &(struct saying){ .response = &notice->work.response, .asks = &notice->turn.asks,
                                                .token_size = token.size, .observe = verdict == 1 ? &sequence : NULL },
                &answer);
        answer.message.token = token;
        r = exchange_notify(notice->peer->exchange, ticket, &answer.message, engine->now.monotonic_us);
        if (r < 0)
                observe_later(observations, ticket, engine->now.monotonic_us);
        else
                observe_told(observations, ticket, verdict == 2);
}

/* After the commit of what changed: each is told what it would be told if it asked now, or that it may not ask. */
static void notify(struct engine *engine) {
        _cleanup_(freep) struct notice *notices = NULL;
        struct work *works[NOTIFIED_AT_ONCE];
        size_t n;

        if (!observe_is_ready(engine->observe))
                return;
        notices = calloc(NOTIFIED_AT_ONCE, sizeof(*notices));
        if (!notices)
                return; /* tried again in the next round */
        n = notices_take(engine, notices, NOTIFIED_AT_ONCE, works);
        router_batch(engine->as, works, n);
        for (size_t i = 0; i < n; i++) {
                if (!notices[i].peer->is_dead)
                        notice_send(&notices[i]);
                response_done(&notices[i].work.response);
                peer_unpend(notices[i].peer);
        }
}

static void on_outcome(void *context, struct exchange_peer *exchange, uint64_t ticket, bool acknowledged) {
        struct door_peer *peer = exchange_peer_owner(exchange);
        struct engine *engine = context;

        if (ticket & EXCHANGE_TICKET_OWN)
                observe_outcome(&peer->observations, ticket, acknowledged, engine->now.monotonic_us);
}

static void on_touch(void *context, int64_t party_id) {
        struct engine *engine = context;

        engine->touched = true;
        observe_touch(engine->observe, party_id);
}

bool engine_run(struct engine *engine, struct engine_time now) {
        engine->now = now;
        batch_run(engine); /* before the timers: an answer that is ready needs no empty Acknowledgement first */
        observe_timers(engine->observe, now.monotonic_us);
        notify(engine);
        exchange_timers(engine->exchange, now.monotonic_us);
        dtls_timers(engine->dtls, now);
        block_pool_timers(engine->blocks, now.monotonic_us);
        plain_expire(engine);
        bury(engine);
        return (engine->n_pending > 0 && !batch_waits(engine)) || observe_is_ready(engine->observe);
}

/* Before a handshake may begin: what we show is in force now. */
static void coaps_input(struct engine *engine, const struct datagram *datagram, struct engine_time now) {
        door_keys_refresh(&engine->door_keys, engine->as->store, engine->dtls, now.wall_s);
        dtls_input(engine->dtls, datagram->socket, &datagram->remote, datagram->data, now);
}

void engine_input(struct engine *engine, const struct datagram *datagram, struct engine_time now) {
        engine->now = now;
        engine->figures.n_datagrams_in++;
        if (datagram->door == DOOR_COAP)
                plain_input(engine, datagram);
        else
                coaps_input(engine, datagram, now);
        bury(engine);
}

int64_t engine_due(const struct engine *engine) {
        const struct door_peer *plain = TAILQ_FIRST(&engine->plain);
        const int64_t due_us[] = {
                exchange_due(engine->exchange),
                dtls_due(engine->dtls),
                block_pool_due(engine->blocks),
                plain ? exchange_peer_idle_since_us(plain->exchange) + PLAIN_IDLE_US : INT64_MAX,
                engine->n_pending == 0 ? INT64_MAX : batch_waits(engine) ? engine->paced_until_us :
                                                                           engine->now.monotonic_us,
                observe_due(engine->observe),
                observe_is_ready(engine->observe) ? engine->now.monotonic_us : INT64_MAX,
        };
        int64_t first_us = INT64_MAX;

        for (size_t i = 0; i < N_ELEMENTS(due_us); i++)
                if (due_us[i] < first_us)
                        first_us = due_us[i];
        return first_us;
}

/* ---- objects */

static struct dtls_limits dtls_limits(const struct config *config) {
        return (struct dtls_limits){
                .sessions_max = config->sessions_max,
                .handshakes_max = config->handshakes_max,
                .handshake_timeout_us = config->handshake_timeout_s * SECOND_US,
                .idle_us = config->session_idle_s * SECOND_US,
        };
}

static struct exchange_limits exchange_limits(const struct config *config) {
        return (struct exchange_limits){ .answers_max = config->answers_per_peer_max };
}

static struct block_limits block_limits(const struct config *config) {
        return (struct block_limits){
                .body_max = (size_t)config->payload_max,
                .bytes_per_peer_max = (size_t)config->block_bytes_per_peer_max,
                .bytes_max = (size_t)config->block_bytes_max,
        };
}

static struct observe_limits observe_limits(const struct config *config) {
        return (struct observe_limits){
                .observers_max = config->observers_max,
                .per_peer_max = config->observers_per_peer_max,
                .refresh_us = observe_refresh_us(config),
        };
}

static int batch_resize(struct engine *engine, size_t batch_max) {
        struct pending **batch;
        struct work **works;

        batch = reallocarray(engine->batch, batch_max, sizeof(struct pending *));
        if (!batch)
                return -ENOMEM;
        engine->batch = batch;
        works = reallocarray(engine->works, batch_max, sizeof(struct work *));
        if (!works)
                return -ENOMEM;
        engine->works = works;
        engine->batch_max = batch_max;
        return 0;
}

static int stranger_init(struct engine *engine) {
        engine->stranger = (struct door_peer){ .engine = engine, .door = DOOR_COAP };
        return exchange_peer_new(engine->exchange, &engine->stranger, &engine->stranger.exchange);
}

int engine_new(struct aced *as, struct engine **ret) {
        _cleanup_(engine_freep) struct engine *engine = calloc(1, sizeof(*engine));
        const struct exchange_limits exchange = exchange_limits(as->config);
        const struct block_limits blocks = block_limits(as->config);
        const struct observe_limits observe = observe_limits(as->config);
        const struct dtls_limits dtls = dtls_limits(as->config);
        int r;

        if (!engine)
                return -ENOMEM;
        engine->as = as;
        engine->output.bytes = BUF_INIT(OUTPUT_SIZE_MAX);
        TAILQ_INIT(&engine->plain);
        TAILQ_INIT(&engine->dead);
        STAILQ_INIT(&engine->pending);
        const struct exchange_callbacks exchange_callbacks = {
                .context = engine, .request = on_request, .send = on_send,
                .outcome = on_outcome, .refused = on_refused };
        const struct dtls_callbacks dtls_callbacks = {
                .context = engine, .psk = on_psk, .deliver = on_deliver, .send = on_dtls_send, .closed = on_closed,
                .admit = on_admit, .done = on_done, .rpk = on_rpk, .x509 = on_x509, .failed = on_failed };
        if ((r = random_bytes(engine->hash_key, sizeof(engine->hash_key))) < 0 ||
            (r = batch_resize(engine, (size_t)as->config->batch_max)) < 0 ||
            (r = limit_new(as->config, &engine->limit)) < 0 ||
            (r = exchange_new(&exchange_callbacks, &exchange, &engine->exchange)) < 0 ||
            (r = block_pool_new(&blocks, &engine->blocks)) < 0 ||
            (r = observe_new(&observe, &engine->observe)) < 0 ||
            (r = stranger_init(engine)) < 0 ||
            (r = dtls_new(&dtls_callbacks, &dtls, &engine->dtls)) < 0)
                return r;
        dtls_set_trust_anchors(engine->dtls, as->trust_anchors);
        if (as->store)
                store_trl_listen(as->store, on_touch, engine);
        *ret = TAKE_PTR(engine);
        return 0;
}

void engine_free(struct engine *engine) {
        struct door_peer *peer;

        if (!engine)
                return;
        if (engine->as->store)
                store_trl_listen(engine->as->store, NULL, NULL);
        dtls_free(engine->dtls);
        while ((peer = TAILQ_FIRST(&engine->plain)))
                peer_kill(peer);
        bury(engine);
        while (!STAILQ_EMPTY(&engine->pending))
                pending_free(pending_take(engine));
        exchange_peer_free(engine->stranger.exchange);
        exchange_free(engine->exchange);
        block_pool_free(engine->blocks);
        observe_free(engine->observe);
        limit_free(engine->limit);
        output_done(&engine->output);
        free(engine->batch);
        free(engine->works);
        free(engine);
}

void engine_reconfigure(struct engine *engine) {
        const struct config *config = engine->as->config;
        const struct exchange_limits exchange = exchange_limits(config);
        const struct block_limits blocks = block_limits(config);
        const struct observe_limits observe = observe_limits(config);
        const struct dtls_limits dtls = dtls_limits(config);

        exchange_set_limits(engine->exchange, &exchange);
        block_pool_set_limits(engine->blocks, &blocks);
        observe_set_limits(engine->observe, &observe);
        dtls_set_limits(engine->dtls, &dtls);
        dtls_set_trust_anchors(engine->dtls, engine->as->trust_anchors);
        limit_reconfigure(engine->limit, config);
        if (batch_resize(engine, (size_t)config->batch_max) < 0 && engine->batch_max > (size_t)config->batch_max)
                engine->batch_max = (size_t)config->batch_max; /* no memory to grow: batches stay as they are */
}

void engine_hurry(struct engine *engine) {
        engine->hurries = true;
}

void engine_close(struct engine *engine, struct engine_time now) {
        engine->now = now;
        dtls_close_all(engine->dtls);
        bury(engine);
}

void engine_figures(const struct engine *engine, struct engine_figures *ret) {
        struct exchange_figures exchange;
        struct dtls_figures dtls;

        dtls_figures(engine->dtls, &dtls);
        *ret = engine->figures;
        ret->n_handshakes_begun = dtls.n_begun;
        ret->n_handshakes_done = dtls.n_done;
        ret->n_handshakes_failed = dtls.n_failed;
        memcpy(ret->n_handshakes_failed_by, dtls.n_failed_by, sizeof(ret->n_handshakes_failed_by));
        ret->n_sessions = dtls.n_sessions;
        ret->n_sessions_half_open = dtls.n_half_open;
        ret->n_sessions_evicted = dtls.n_evicted;
        exchange_figures(engine->exchange, &exchange);
        ret->n_duplicates = exchange.n_duplicates;
        ret->n_records = exchange.n_records;
        ret->n_answers_kept = exchange.n_kept;
        ret->n_pending = engine->n_pending;
        block_pool_figures(engine->blocks, &ret->blocks);
        observe_figures(engine->observe, &ret->observe);
        ret->n_datagrams_stray = dtls.n_dropped;
        ret->n_cookies_sent = dtls.n_cookies_sent;
        ret->n_plain_peers = engine->n_plain;
        limit_figures(engine->limit, &ret->limit);
}
