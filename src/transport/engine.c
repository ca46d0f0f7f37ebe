#include "transport/engine_private.h"

#include <errno.h>

#include "base/cleanup.h"
#include "crypto/random.h"
#include "store/trl.h"
#include "transport/limit.h"

DEFINE_FREEP(struct engine, engine_free)

/* ---- calls from outside */

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
        block_pool_timers(engine->fragments, now.monotonic_us);
        plain_expire(engine);
        routes_bury(engine);
        return (engine->n_pending > 0 && !batch_waits(engine)) || observe_is_ready(engine->observe);
}

void engine_input(struct engine *engine, const struct datagram *datagram, struct engine_time now) {
        engine->now = now;
        engine->figures.n_datagrams_in++;
        engine->input = datagram->data;
        engine->input_size = datagram->data.size;
        engine->input_is_charged = engine->input_is_proved = false;
        if (datagram->door == DOOR_COAP)
                plain_input(engine, datagram);
        else
                coaps_input(engine, datagram);
        engine->input = BYTES_NONE;
        engine->input_size = 0;
        routes_bury(engine);
}

int64_t engine_due(const struct engine *engine) {
        const int64_t due_us[] = {
                exchange_due(engine->exchange),
                dtls_due(engine->dtls),
                block_pool_due(engine->blocks),
                block_pool_due(engine->fragments),
                plain_due(engine),
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

/* Of protected messages in blocks, from whoever it is: of those, nobody can say that he is a peer. */
static struct block_limits fragment_limits(void) {
        return (struct block_limits){
                .body_max = OSCORE_UNFRAGMENTED_MAX,
                .bytes_per_peer_max = OSCORE_FRAGMENTS_PER_ROUTE_MAX,
                .bytes_max = OSCORE_FRAGMENTS_MAX,
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
        engine->stranger = (struct route){ .engine = engine, .door = DOOR_COAP };
        return exchange_peer_new(engine->exchange, &engine->stranger, &engine->stranger.exchange);
}

static void engine_init(struct engine *engine, struct aced *as) {
        engine->as = as;
        output_done(&engine->output);
        for (enum standing standing = 0; standing < STANDINGS; standing++)
                TAILQ_INIT(&engine->plain[standing]);
        TAILQ_INIT(&engine->dead);
        STAILQ_INIT(&engine->pending);
}

int engine_new(struct aced *as, struct engine **ret) {
        _cleanup_(engine_freep) struct engine *engine = calloc(1, sizeof(*engine));
        const struct exchange_limits exchange = exchange_limits(as->config);
        const struct block_limits blocks = block_limits(as->config);
        const struct observe_limits observe = observe_limits(as->config);
        const struct block_limits fragments = fragment_limits();
        const struct dtls_limits dtls = dtls_limits(as->config);
        const struct exchange_callbacks exchange_callbacks = requests_callbacks(engine);
        const struct dtls_callbacks dtls_callbacks = coaps_callbacks(engine);
        int r;

        if (!engine)
                return -ENOMEM;
        engine_init(engine, as);
        if ((r = random_bytes(engine->hash_key, sizeof(engine->hash_key))) < 0 ||
            (r = batch_resize(engine, (size_t)as->config->batch_max)) < 0 ||
            (r = limit_new(as->config, &engine->limit)) < 0 ||
            (r = exchange_new(&exchange_callbacks, &exchange, &engine->exchange)) < 0 ||
            (r = block_pool_new(&blocks, &engine->blocks)) < 0 ||
            (r = block_pool_new(&fragments, &engine->fragments)) < 0 ||
            (r = observe_new(&observe, &engine->observe)) < 0 ||
            (r = protection_init(engine)) < 0 ||
            (r = stranger_init(engine)) < 0 ||
            (r = dtls_new(&dtls_callbacks, &dtls, &engine->dtls)) < 0)
                return r;
        observe_listen(engine->observe, on_observe_ended, engine);
        dtls_set_trust_anchors(engine->dtls, as->trust_anchors);
        if (as->store)
                store_trl_listen(as->store, on_touch, engine);
        *ret = TAKE_PTR(engine);
        return 0;
}

/* Observations first, as they point to routes; then routes, which hold parties. */
static void free_peers(struct engine *engine) {
        struct party *party, *next;
        struct route *route;

        HASH_ITER(hh, engine->contexts, party, next) {
                observe_peer_done(&party->observations);
                block_peer_done(&party->blocks);
                party_release(party); /* one that only observed, from an address that another vouched for */
        }
        for (enum standing standing = 0; standing < STANDINGS; standing++)
                while ((route = TAILQ_FIRST(&engine->plain[standing])))
                        route_kill(route);
        routes_bury(engine);
        while (!STAILQ_EMPTY(&engine->pending))
                pending_free(pending_take(engine));
}

void engine_free(struct engine *engine) {
        if (!engine)
                return;
        if (engine->as->store)
                store_trl_listen(engine->as->store, NULL, NULL);
        dtls_free(engine->dtls);
        free_peers(engine);
        exchange_peer_free(engine->stranger.exchange);
        exchange_free(engine->exchange);
        block_pool_free(engine->blocks);
        block_pool_free(engine->fragments);
        protection_done(engine);
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
        oscore_set_limit(engine->oscore, (size_t)config->oscore_contexts_max);
        if (batch_resize(engine, (size_t)config->batch_max) < 0 && engine->batch_max > (size_t)config->batch_max)
                engine->batch_max = (size_t)config->batch_max; /* no memory to grow: batches stay as they are */
}

bool engine_forget(struct engine *engine) {
        return oscore_sweep(engine->oscore);
}

void engine_hurry(struct engine *engine) {
        engine->hurries = true;
}

void engine_close(struct engine *engine, struct engine_time now) {
        engine->now = now;
        dtls_close_all(engine->dtls);
        routes_bury(engine);
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
        block_pool_figures(engine->fragments, &ret->fragments);
        observe_figures(engine->observe, &ret->observe);
        ret->n_datagrams_stray = dtls.n_dropped;
        ret->n_cookies_sent = dtls.n_cookies_sent;
        ret->n_plain_peers = engine->n_plain[STANDING_STRANGER];
        ret->n_oscore_peers = engine->n_plain[STANDING_VOUCHED] + engine->n_plain[STANDING_OBSERVED];
        limit_figures(engine->limit, &ret->limit);
}

void engine_oscore_figures(const struct engine *engine, struct oscore_figures *ret) {
        oscore_figures(engine->oscore, ret);
}
