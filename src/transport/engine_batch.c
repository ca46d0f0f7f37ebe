#include "transport/engine_private.h"

#include <errno.h>

#include "base/cleanup.h"

/*
 * While handshakes are under way the next batch begins no sooner after a commit than so many times what the commit
 * took: tokens asked for by devices that come one by one then share a commit, and the wait is filled with handshakes.
 */
#define PACE_FACTOR 4
#define PACE_MAX_US 20000      /* a commit on a slow disk makes nobody wait longer than that for company */
#define NOTIFIED_AT_ONCE 64    /* observers that are looked after in one round */
#define MAX_TRANSMIT_WAIT_S 93 /* RFC 7252 §4.8.2 */

/* ---- the batch */

/* Take what runs now; what is waiting for nobody goes. */
static size_t batch_take(struct engine *engine) {
        struct pending *pending;
        size_t n = 0;

        while (n < engine->batch_max && !STAILQ_EMPTY(&engine->pending)) {
                pending = pending_take(engine);
                if (pending->origin.route->is_dead) {
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

int64_t observe_refresh_us(const struct config *config) {
        int64_t refresh_us = config->session_idle_s * SECOND_US / 2;

        return refresh_us < OBSERVE_REFRESH_MAX_US ? refresh_us : OBSERVE_REFRESH_MAX_US;
}

/* For how long an observer may believe what it was told last (RFC 7641 §4.3.1): it hears something before. */
static int64_t observed_max_age_s(const struct engine *engine) {
        return observe_refresh_us(engine->as->config) / SECOND_US + MAX_TRANSMIT_WAIT_S;
}

/* An address that nobody vouches for does not stay, and no notification goes there. */
static bool may_observe(const struct pending *pending) {
        const struct route *route = pending->origin.route;

        return pending->work.response.code >> 5 == 2 && pending->work.resource && pending->work.resource->observable &&
               (route->door == DOOR_COAPS || route->standing != STANDING_STRANGER);
}

static void observe_begin(const struct origin *origin) {
        struct observe_way *way = observe_way(&origin->party->observations, origin_token(origin));

        way->route = origin->route;
        way->is_protected = origin->is_protected;
        way->binding = origin->binding;
        route_observed(origin->route, 1);
}

void on_observe_ended(void *context, void *owner, struct observe_way *way) {
        if (way->route)
                route_observed(way->route, -1);
}

/*
 * The request asks to observe, or not to any more. True: it does from now on, and is told so by *ret_sequence. What
 * came behind it in its batch may have changed what it was answered, when it was no observer yet: it is asked for once
 * more.
 */
static bool observe_asked(struct pending *pending, uint32_t *ret_sequence) {
        struct observe_peer *observations = &pending->origin.party->observations;
        struct engine *engine = pending->origin.route->engine;
        struct response *response = &pending->work.response;

        if (pending->asks.observe == OBSERVE_NOT)
                return false;
        if (pending->asks.observe == OBSERVE_BEGIN && may_observe(pending) &&
            observe_add(observations, origin_token(&pending->origin), &pending->work.request, &pending->asks, response,
                        engine->now.monotonic_us, ret_sequence) == 0) {
                observe_begin(&pending->origin);
                response->max_age_s = observed_max_age_s(engine);
                if (engine->touched)
                        observe_touch(engine->observe, response->topic);
                return true;
        }
        observe_remove(observations, origin_token(&pending->origin));
        return false;
}

static void batch_answer(struct pending *pending) {
        uint32_t sequence;
        bool observes;

        if (!pending->origin.route->is_dead) {
                observes = observe_asked(pending, &sequence);
                answer_say(&pending->origin, &(struct saying){ .response = &pending->work.response,
                                                               .asks = &pending->asks,
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

bool batch_waits(const struct engine *engine) {
        struct dtls_figures dtls;

        if (engine->hurries || engine->now.monotonic_us >= engine->paced_until_us ||
            engine->n_pending >= engine->batch_max)
                return false;
        dtls_figures(engine->dtls, &dtls);
        return dtls.n_half_open > 0;
}

static void batch_pace(struct engine *engine, int64_t took_us) {
        int64_t wait_us = PACE_FACTOR * engine->as->commit_us;

        engine->paced_until_us = engine->now.monotonic_us + took_us + (wait_us < PACE_MAX_US ? wait_us : PACE_MAX_US);
}

void batch_run(struct engine *engine) {
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

/* An observer whose request runs again. Its party and route stay as long as it is pending here. */
struct notice {
        struct origin origin;
        struct observe_turn turn;
        struct work work;
};

static void notice_begin(struct notice *notice) {
        struct party *party = notice->turn.owner;
        const struct observe_way *way = observe_way_of_ticket(&party->observations, notice->turn.ticket);

        notice->origin.party = party;
        notice->origin.route = way->route;
        notice->origin.ticket = notice->turn.ticket;
        notice->origin.is_protected = way->is_protected;
        origin_hold(&notice->origin);
        notice->work.request = notice->turn.request;
        notice->work.request.peer = &party->peer;
        notice->work.request.now_s = party->engine->now.wall_s;
        response_init(&notice->work.response);
}

static size_t notices_take(struct engine *engine, struct notice *notices, size_t max, struct work **works) {
        size_t n = 0;

        while (n < max && observe_next(engine->observe, &notices[n].turn)) {
                notice_begin(&notices[n]);
                works[n] = &notices[n].work;
                n++;
        }
        return n;
}

static int notice_tell(const struct notice *notice, struct coap_message *message) {
        const struct origin *origin = &notice->origin;
        struct engine *engine = origin->route->engine;
        struct observe_way *way = observe_way_of_ticket(&origin->party->observations, origin->ticket);

        if (way->is_protected)
                return protected_notify(origin->route, way, origin->ticket, message);
        return exchange_notify(origin->route->exchange, origin->ticket, message, engine->now.monotonic_us);
}

static void notice_send(struct notice *notice) {
        struct engine *engine = notice->origin.route->engine;
        struct observe_peer *observations = &notice->origin.party->observations;
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
        notice->origin.token_size = (uint8_t)token.size;
        answer_compose(&notice->origin, &(struct saying){ .response = &notice->work.response,
                                                          .asks = &notice->turn.asks,
                                                          .observe = verdict == 1 ? &sequence : NULL }, &answer);
        answer.message.token = token;
        r = notice_tell(notice, &answer.message);
        if (r == -ENOENT || r == -EDQUOT) /* nothing can be said to it any more */
                observe_outcome(observations, ticket, false, engine->now.monotonic_us);
        else if (r < 0)
                observe_later(observations, ticket, engine->now.monotonic_us);
        else
                observe_told(observations, ticket, verdict == 2);
}

void notify(struct engine *engine) {
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
                if (!notices[i].origin.route->is_dead)
                        notice_send(&notices[i]);
                response_done(&notices[i].work.response);
                origin_drop(&notices[i].origin);
        }
}

/* Of a separate answer nothing more is to be done. */
void on_outcome(void *context, struct exchange_peer *exchange, uint64_t ticket, bool acknowledged) {
        struct engine *engine = context;
        struct observe_peer *observations;

        if ((ticket & EXCHANGE_TICKET_OWN) == 0 || !(observations = observe_find(engine->observe, ticket)))
                return;
        observe_outcome(observations, ticket, acknowledged, engine->now.monotonic_us);
        party_release(observations->owner);
}
