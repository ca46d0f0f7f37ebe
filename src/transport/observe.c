#include "transport/observe.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/siphash.h"
#include "base/table.h"
#include "crypto/random.h"
#include "transport/exchange.h"

#define SEQUENCE_MASK UINT32_C(0xffffff) /* RFC 7641 §2: 24 bits */
#define CLASS_SUCCESS 2

TAILQ_HEAD(observers, observer);

/* Topics that somebody observes. */
struct topic {
        int64_t id;
        int64_t n_observers;
        struct observers observers;
        UT_hash_handle hh;
};

struct observer {
        TAILQ_ENTRY(observer) of_peer, of_topic, in_turn;
        struct observe_peer *peer;
        struct topic *topic;
        struct timer timer;   /* when it is told again what it knows, or asked for again */
        uint64_t ticket;
        uint64_t fingerprint; /* of what it was told last */
        bool is_touched;      /* the topic changed since its request ran */
        bool is_forced;       /* it is told whether or not anything changed */
        bool is_busy;         /* its request runs, or a notification is under way */
        bool is_ready;        /* in observe->ready */
        bool waits;           /* for the timer, to try again */
        struct observe_way way;
        UT_hash_handle hh;    /* by ticket */

        uint8_t token_size;
        uint8_t token[COAP_TOKEN_SIZE_MAX];
        struct request request;
        struct block_asks asks;
        uint8_t bytes[]; /* that request borrows from */
};

struct observe {
        struct observe_limits limits;
        uint8_t hash_key[SIPHASH_KEY_SIZE];
        struct topic *topics;
        struct observer *by_ticket;
        void (*ended)(void *context, void *owner, struct observe_way *way);
        void *ended_context;
        struct observers ready;
        struct heap timers;
        uint64_t n_tickets;
        struct observe_figures figures;
};

DEFINE_FREEP(struct observe, observe_free)

/* ---- whose turn it is */

static void ready_update(struct observer *observer) {
        struct observe *observe = observer->peer->observe;
        bool is_ready = (observer->is_touched || observer->is_forced) && !observer->is_busy && !observer->waits;

        if (is_ready && !observer->is_ready)
                TAILQ_INSERT_TAIL(&observe->ready, observer, in_turn);
        else if (!is_ready && observer->is_ready)
                TAILQ_REMOVE(&observe->ready, observer, in_turn);
        observer->is_ready = is_ready;
}

/* The node is in the heap from observe_add() on, so that there is always room for it. */
static void timer_set(struct observer *observer, int64_t due_us) {
        int r = heap_set(&observer->peer->observe->timers, &observer->timer, due_us);

        assert(r == 0);
        (void)r;
}

bool observe_is_ready(const struct observe *observe) {
        return !TAILQ_EMPTY(&observe->ready);
}

void observe_touch(struct observe *observe, int64_t id) {
        struct observer *observer;
        struct topic *topic = NULL;

        HASH_FIND(hh, observe->topics, &id, sizeof(id), topic);
        if (!topic)
                return;
        TAILQ_FOREACH(observer, &topic->observers, of_topic) {
                observer->is_touched = true;
                ready_update(observer);
        }
}

/* ---- topics */

static struct topic *topic_get(struct observe *observe, int64_t id) {
        struct topic *topic = NULL;

        HASH_FIND(hh, observe->topics, &id, sizeof(id), topic);
        if (topic)
                return topic;
        topic = calloc(1, sizeof(*topic));
        if (!topic)
                return NULL;
        topic->id = id;
        TAILQ_INIT(&topic->observers);
        HASH_ADD(hh, observe->topics, id, sizeof(topic->id), topic);
        if (!topic->hh.tbl) {
                free(topic);
                return NULL;
        }
        return topic;
}

static void topic_leave(struct observer *observer) {
        struct observe *observe = observer->peer->observe;
        struct topic *topic = TAKE_PTR(observer->topic);

        if (!topic)
                return;
        TAILQ_REMOVE(&topic->observers, observer, of_topic);
        topic->n_observers--;
        if (TAILQ_EMPTY(&topic->observers)) {
                HASH_DEL(observe->topics, topic);
                free(topic);
        }
}

/* -ENOMEM: it stays where it was. */
static int topic_enter(struct observer *observer, int64_t id) {
        struct topic *topic;

        if (observer->topic && observer->topic->id == id)
                return 0;
        topic = topic_get(observer->peer->observe, id);
        if (!topic)
                return -ENOMEM;
        topic_leave(observer);
        observer->topic = topic;
        TAILQ_INSERT_TAIL(&topic->observers, observer, of_topic);
        topic->n_observers++;
        return 0;
}

/* ---- observations */

static struct observer *find_token(const struct observe_peer *peer, struct bytes token) {
        struct observer *observer;

        if (!peer->observe)
                return NULL;
        TAILQ_FOREACH(observer, &peer->observers, of_peer) /* at most observers_per_peer_max */
                if (bytes_equal(bytes_of(observer->token, observer->token_size), token))
                        return observer;
        return NULL;
}

/* Tickets count up: nobody chooses them. */
static struct observer *find_any(const struct observe *observe, uint64_t ticket) {
        struct observer *observer = NULL;

        HASH_FIND(hh, observe->by_ticket, &ticket, sizeof(ticket), observer);
        return observer;
}

static struct observer *find_ticket(const struct observe_peer *peer, uint64_t ticket) {
        struct observer *observer = peer->observe ? find_any(peer->observe, ticket) : NULL;

        return observer && observer->peer == peer ? observer : NULL;
}

static void observer_free(struct observer *observer) {
        struct observe_peer *peer = observer->peer;
        struct observe *observe = peer->observe;

        if (observer->is_ready)
                TAILQ_REMOVE(&observe->ready, observer, in_turn);
        heap_remove(&observe->timers, &observer->timer);
        topic_leave(observer);
        HASH_DEL(observe->by_ticket, observer);
        TAILQ_REMOVE(&peer->observers, observer, of_peer);
        peer->n_observers--;
        observe->figures.n_observers--;
        if (observe->ended)
                observe->ended(observe->ended_context, peer->owner, &observer->way);
        free(observer);
}

static size_t copy_view(struct bytes *view, uint8_t *to) {
        if (view->size > 0)
                memcpy(to, view->data, view->size);
        view->data = to;
        return view->size;
}

static size_t request_size(const struct request *request) {
        size_t size = 0;

        for (size_t i = 0; i < request->n_segments; i++)
                size += request->segments[i].size;
        for (size_t i = 0; i < request->n_queries; i++)
                size += request->queries[i].size;
        return size;
}

static struct observer *observer_new(struct observe_peer *peer, struct bytes token, const struct request *request,
                                     const struct block_asks *asks) {
        struct observer *observer = calloc(1, sizeof(*observer) + request_size(request));
        size_t at = 0;

        if (!observer)
                return NULL;
        observer->peer = peer;
        observer->token_size = (uint8_t)token.size;
        if (token.size > 0)
                memcpy(observer->token, token.data, token.size);
        observer->asks = *asks;
        observer->request = *request;
        observer->request.payload = BYTES_NONE;
        for (size_t i = 0; i < request->n_segments; i++)
                at += copy_view(&observer->request.segments[i], observer->bytes + at);
        for (size_t i = 0; i < request->n_queries; i++)
                at += copy_view(&observer->request.queries[i], observer->bytes + at);
        /* never again: what comes back for one that is gone is for nobody */
        observer->ticket = EXCHANGE_TICKET_OWN | ++peer->observe->n_tickets;
        HASH_ADD(hh, peer->observe->by_ticket, ticket, sizeof(observer->ticket), observer);
        if (!observer->hh.tbl) {
                free(observer);
                return NULL;
        }
        TAILQ_INSERT_TAIL(&peer->observers, observer, of_peer);
        peer->n_observers++;
        peer->observe->figures.n_observers++;
        return observer;
}

static uint64_t fingerprint(const struct observe *observe, const struct response *response) {
        return siphash(observe->hash_key, buf_bytes(&response->payload));
}

static uint32_t next_sequence(struct observe_peer *peer) {
        peer->sequence = (peer->sequence + 1) & SEQUENCE_MASK;
        return peer->sequence;
}

/* How many of a peer's oldest observations end for one more, if that is accepted. */
static unsigned n_giving_way(const struct observe_peer *peer) {
        int64_t n_over = (int64_t)peer->n_observers + 1 - peer->observe->limits.per_peer_max;

        return peer->oldest_gives_way && n_over > 0 && n_over <= (int64_t)peer->n_observers ? (unsigned)n_over : 0;
}

/* Whose part of the list it is may have any number of sessions: half of the room is left to others. */
static bool topic_is_full(const struct observe_peer *peer, int64_t id, unsigned n_going) {
        const struct observe_limits *limits = &peer->observe->limits;
        int64_t max = (limits->observers_max + 1) / 2, n;
        const struct observer *oldest = TAILQ_FIRST(&peer->observers);
        struct topic *topic = NULL;

        HASH_FIND(hh, peer->observe->topics, &id, sizeof(id), topic);
        if (!topic)
                return false;
        n = topic->n_observers;
        for (; n_going > 0; n_going--, oldest = TAILQ_NEXT(oldest, of_peer))
                n -= oldest->topic == topic;
        return n >= (max > limits->per_peer_max ? max : limits->per_peer_max);
}

/* As if the first n_going of the peer's observations were gone. */
static bool has_room(const struct observe_peer *peer, const struct request *request, int64_t topic, unsigned n_going) {
        const struct observe *observe = peer->observe;

        return (int64_t)observe->figures.n_observers - n_going < observe->limits.observers_max &&
               (int64_t)peer->n_observers - n_going < observe->limits.per_peer_max &&
               !topic_is_full(peer, topic, n_going) && request_size(request) <= OBSERVE_REQUEST_MAX;
}

int observe_add(struct observe_peer *peer, struct bytes token, const struct request *request,
                const struct block_asks *asks, const struct response *response, int64_t now_us,
                uint32_t *ret_sequence) {
        struct observer *observer = find_token(peer, token);
        struct observe *observe = peer->observe;
        unsigned n_going;

        if (!observe || response->topic < 0)
                return -EPERM;
        if (observer)
                observer_free(observer); /* §4.1: in its place, not beside it; and not at all, if that is refused */
        n_going = n_giving_way(peer);
        if (!has_room(peer, request, response->topic, n_going)) {
                observe->figures.n_refused++;
                return -ENOSPC;
        }
        observer = observer_new(peer, token, request, asks);
        if (!observer)
                return -ENOMEM;
        if (topic_enter(observer, response->topic) < 0 ||
            heap_set(&observe->timers, &observer->timer, now_us + observe->limits.refresh_us) < 0) {
                observer_free(observer);
                return -ENOMEM;
        }
        for (; n_going > 0; n_going--) /* only now that nothing can fail any more */
                observer_free(TAILQ_FIRST(&peer->observers));
        observer->fingerprint = fingerprint(observe, response);
        *ret_sequence = next_sequence(peer);
        return 0;
}

void observe_remove(struct observe_peer *peer, struct bytes token) {
        struct observer *observer = find_token(peer, token);

        if (observer)
                observer_free(observer);
}

/* ---- how they are told */

void observe_listen(struct observe *observe, void (*ended)(void *context, void *owner, struct observe_way *way),
                    void *context) {
        observe->ended = ended;
        observe->ended_context = context;
}

struct observe_way *observe_way(struct observe_peer *peer, struct bytes token) {
        struct observer *observer = find_token(peer, token);

        return observer ? &observer->way : NULL;
}

struct observe_way *observe_way_of_ticket(struct observe_peer *peer, uint64_t ticket) {
        struct observer *observer = find_ticket(peer, ticket);

        return observer ? &observer->way : NULL;
}

struct observe_peer *observe_find(const struct observe *observe, uint64_t ticket) {
        struct observer *observer = find_any(observe, ticket);

        return observer ? observer->peer : NULL;
}

/* ---- notifications */

bool observe_next(struct observe *observe, struct observe_turn *ret) {
        struct observer *observer = TAILQ_FIRST(&observe->ready);

        if (!observer)
                return false;
        observer->is_busy = true;
        observer->is_touched = false;
        ready_update(observer);
        *ret = (struct observe_turn){ .owner = observer->peer->owner, .ticket = observer->ticket,
                                      .request = observer->request, .asks = observer->asks };
        return true;
}

int observe_judge(struct observe_peer *peer, uint64_t ticket, const struct response *response,
                  struct bytes *ret_token, uint32_t *ret_sequence) {
        struct observer *observer = find_ticket(peer, ticket);
        bool is_known, is_forced;

        if (!observer)
                return 0;
        *ret_token = bytes_of(observer->token, observer->token_size);
        if (response->code >> 5 != CLASS_SUCCESS || response->topic < 0 || topic_enter(observer, response->topic) < 0)
                return 2;
        is_known = observer->fingerprint == fingerprint(peer->observe, response);
        is_forced = observer->is_forced;
        observer->is_forced = false;
        if (is_known && !is_forced) {
                observer->is_busy = false;
                ready_update(observer);
                return 0;
        }
        observer->fingerprint = fingerprint(peer->observe, response);
        *ret_sequence = next_sequence(peer);
        return 1;
}

void observe_told(struct observe_peer *peer, uint64_t ticket, bool is_end) {
        struct observer *observer = find_ticket(peer, ticket);

        if (!observer)
                return;
        peer->observe->figures.n_notified++;
        if (is_end)
                observer_free(observer);
}

void observe_later(struct observe_peer *peer, uint64_t ticket, int64_t now_us) {
        struct observer *observer = find_ticket(peer, ticket);

        if (!observer)
                return;
        observer->is_busy = false;
        observer->waits = true;
        observer->is_forced = true; /* that it was told something, it was not */
        ready_update(observer);
        timer_set(observer, now_us + OBSERVE_RETRY_US);
}

void observe_outcome(struct observe_peer *peer, uint64_t ticket, bool acknowledged, int64_t now_us) {
        struct observer *observer = find_ticket(peer, ticket);

        if (!observer)
                return;
        if (!acknowledged) { /* §3.6 the peer does not want it any more; §4.5 it is not there */
                peer->observe->figures.n_ended++;
                observer_free(observer);
                return;
        }
        observer->is_busy = false;
        ready_update(observer);
        timer_set(observer, now_us + peer->observe->limits.refresh_us);
}

void observe_timers(struct observe *observe, int64_t now_us) {
        struct timer *timer;

        while ((timer = heap_first(&observe->timers)) && timer->due_us <= now_us) {
                struct observer *observer = timer_owner(timer, struct observer, timer);

                observer->waits = false;
                observer->is_forced = true;
                timer_set(observer, now_us + observe->limits.refresh_us);
                ready_update(observer);
        }
}

int64_t observe_due(const struct observe *observe) {
        const struct timer *timer = heap_first(&observe->timers);

        return timer ? timer->due_us : INT64_MAX;
}

/* ---- objects */

void observe_peer_init(struct observe_peer *peer, struct observe *observe, void *owner) {
        *peer = (struct observe_peer){ .observe = observe, .owner = owner };
        TAILQ_INIT(&peer->observers);
}

void observe_peer_done(struct observe_peer *peer) {
        while (peer->observe && !TAILQ_EMPTY(&peer->observers))
                observer_free(TAILQ_FIRST(&peer->observers));
        peer->observe = NULL;
}

int observe_new(const struct observe_limits *limits, struct observe **ret) {
        _cleanup_(observe_freep) struct observe *observe = calloc(1, sizeof(*observe));
        int r;

        if (!observe)
                return -ENOMEM;
        TAILQ_INIT(&observe->ready);
        observe->limits = *limits;
        r = random_bytes(observe->hash_key, sizeof(observe->hash_key));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(observe);
        return 0;
}

void observe_free(struct observe *observe) {
        if (!observe)
                return;
        assert(observe->figures.n_observers == 0);
        heap_done(&observe->timers);
        free(observe);
}

void observe_set_limits(struct observe *observe, const struct observe_limits *limits) {
        observe->limits = *limits;
}

void observe_figures(const struct observe *observe, struct observe_figures *ret) {
        *ret = observe->figures;
}
