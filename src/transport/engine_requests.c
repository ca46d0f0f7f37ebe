#include "transport/engine_private.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "endpoint/refusal.h"
#include "transport/limit.h"

#define UNAUTHENTICATED_FACTOR 3 /* what is told to anybody is under this times what was asked */

int64_t wait_s(int64_t wait_us) {
        return (wait_us + SECOND_US - 1) / SECOND_US;
}

/* ---- what is said */

/* Where somebody we know sends from, what proves nothing is heard at no charge, but answered at a rate. */
static bool may_be_said(struct route *route) {
        const struct engine *engine = route->engine;
        const struct rate rate = plain_rate(engine);
        int64_t wait_us;

        return engine->input_size == 0 || engine->input_is_charged || engine->input_is_proved ||
               bucket_take(&route->unproved, &rate, engine->now.monotonic_us, &wait_us);
}

static void on_send(void *context, struct exchange_peer *exchange, struct bytes data) {
        struct route *route = exchange_peer_owner(exchange);
        struct engine *engine = context;

        if (route->is_dead)
                return;
        if (route->door == DOOR_COAP && may_be_said(route))
                output_add(engine, &(struct datagram){ .door = DOOR_COAP, .socket = route->socket,
                                                       .remote = route->remote, .data = data });
        else if (route->door == DOOR_COAP || dtls_send(route->session, data) < 0)
                engine->figures.n_datagrams_dropped++; /* on -EPIPE on_closed() has been called */
}

/* Unauthenticated peers get no more than they sent, so that nobody can turn us on a third. */
static size_t answer_size_max(const struct origin *origin, uint8_t code) {
        size_t size = origin->request_size;

        if (origin->is_protected)
                return MESSAGE_SIZE_MAX - OSCORE_OVERHEAD_MAX;
        /* a block of a protected answer was asked for from here before, by somebody we know */
        if (origin->is_fragmented && origin->route->voucher)
                return MESSAGE_SIZE_MAX - FRAGMENT_OPTIONS_SIZE;
        if (origin->route->door == DOOR_COAPS)
                return MESSAGE_SIZE_MAX;
        if (code >> 5 != 2)
                return size;
        size = UNAUTHENTICATED_FACTOR * size - 1;
        return size < MESSAGE_SIZE_MAX ? size : MESSAGE_SIZE_MAX;
}

/* One block of several: the others come from the same body, or from one that can be told from it. */
static void keep(struct party *party, const struct block_asks *asks, struct response *response,
                 struct answer *answer) {
        const struct engine *engine = party->engine;
        uint32_t etag;
        int r;

        r = block_keep(&party->blocks, engine->blocks, asks, response, engine->now.monotonic_us, &etag);
        if (r < 0 && !asks->may_cut)
                answer_put_error(answer, CODE_INTERNAL_ERROR);
        else
                answer_put_etag(answer, etag);
}

void answer_compose(const struct origin *origin, const struct saying *saying, struct answer *ret) {
        const struct answer_limits limits = {
                .size_max = answer_size_max(origin, saying->response->code),
                .token_size = origin->token_size,
                .observe = saying->observe,
                .payload_max = (size_t)origin->route->engine->as->config->payload_max,
        };

        translate_response(saying->response, saying->asks, &limits, ret);
        if (ret->is_part && saying->kept)
                answer_put_etag(ret, *saying->kept);
        else if (ret->is_part)
                keep(origin->party, saying->asks, saying->response, ret);
}

static int answer(struct origin *origin, struct coap_message *message) {
        const struct route *route = origin->route;

        if (origin->is_protected)
                return protected_answer(origin, message);
        return exchange_answer(route->exchange, origin->ticket, message, route->engine->now.monotonic_us);
}

void answer_say(struct origin *origin, const struct saying *saying) {
        struct coap_message plain_error = { .code = CODE_INTERNAL_ERROR };
        struct answer composed;
        int r;

        answer_compose(origin, saying, &composed);
        r = answer(origin, &composed.message);
        if (r == -ENOMEM || r == -EOVERFLOW || r == -EINVAL)
                answer(origin, &plain_error);
}

void answer_code(struct origin *origin, const struct block_asks *asks, uint8_t code, int refusal, int64_t max_age_s) {
        struct response response; /* no payload, nothing to free */

        response_init(&response);
        response.code = code;
        if (code == CODE_TOO_MANY_REQUESTS || code == CODE_UNAVAILABLE)
                response.max_age_s = max_age_s;
        metrics_answered(&origin->route->engine->as->metrics, NULL, code, refusal);
        answer_say(origin, &(struct saying){ .response = &response, .asks = asks });
}

void answer_refusal(struct origin *origin, int refusal, int64_t max_age_s) {
        const struct block_asks asks = {};

        answer_code(origin, &asks, refusal_row(refusal)->coap_code, refusal, max_age_s);
}

/* RFC 7252 §4.3, §5.4.1, §5.8: what the message layer says no to by itself. */
static void on_refused(void *context, uint8_t code) {
        const struct engine *engine = context;
        int refusal = code == CODE_BAD_OPTION ? REFUSE_BAD_OPTION : code == CODE_METHOD_NOT_ALLOWED ? REFUSE_METHOD : 0;

        metrics_answered(&engine->as->metrics, NULL, code, refusal);
}

/* ---- requests that wait for a batch */

/* The same bytes in the copy of the message. */
static void rebase(struct bytes *view, const uint8_t *from, const uint8_t *to) {
        if (view->size > 0)
                view->data = to + (view->data - from);
}

/* has_body: the payload is the last block of a body that block_take() gives. */
static int pending_add(const struct origin *origin, const struct request *request, const struct block_asks *asks,
                       bool has_body) {
        struct engine *engine = origin->route->engine;
        struct bytes input = engine->input;
        struct pending *pending = malloc(sizeof(*pending) + input.size);
        struct request *copy;

        if (!pending)
                return -ENOMEM;
        pending->origin = *origin;
        pending->arrived_us = engine->now.monotonic_us;
        pending->asks = *asks;
        pending->body = BUF_INIT(0);
        pending->size = input.size;
        memcpy(pending->message, input.data, input.size);
        copy = &pending->work.request;
        *copy = *request;
        for (size_t i = 0; i < copy->n_segments; i++)
                rebase(&copy->segments[i], input.data, pending->message);
        for (size_t i = 0; i < copy->n_queries; i++)
                rebase(&copy->queries[i], input.data, pending->message);
        rebase(&copy->payload, input.data, pending->message);
        if (has_body && block_take(&origin->party->blocks, asks, &pending->body))
                copy->payload = buf_bytes(&pending->body);
        STAILQ_INSERT_TAIL(&engine->pending, pending, link);
        engine->n_pending++;
        origin_hold(origin);
        return 0;
}

struct pending *pending_take(struct engine *engine) {
        struct pending *pending = STAILQ_FIRST(&engine->pending);

        STAILQ_REMOVE_HEAD(&engine->pending, link);
        engine->n_pending--;
        return pending;
}

void pending_free(struct pending *pending) {
        origin_drop(&pending->origin);
        wipe(pending->message, pending->size); /* a request may hold a client's secret or a token */
        if (pending->body.data)
                wipe(pending->body.data, pending->body.capacity);
        buf_done(&pending->body);
        free(pending);
}

/* ---- requests that come */

/* 0, or why not: too much waits of this party, or of all. */
static int overload(const struct party *party) {
        const struct config *config = party->engine->as->config;
        int64_t share = (config->pending_max + 1) / 2;

        if (share > config->pending_per_peer_max)
                share = config->pending_per_peer_max;
        if ((int64_t)party->engine->n_pending >= config->pending_max)
                return -EBUSY;
        return party->n_pending >= share ? REFUSE_OVERLOAD : 0;
}

/* 0, or why not, and when it may be asked again. One that gets in is charged for. */
static int admit(const struct party *party, int64_t *ret_max_age_s) {
        const struct engine *engine = party->engine;
        int64_t wait_us;
        int r = overload(party);

        *ret_max_age_s = RETRY_AFTER_S;
        if (r != 0 || party->peer.channel == CHANNEL_PLAIN || /* whose datagrams have been counted */
            limit_peer(engine->limit, party_rated(party), engine->now.monotonic_us, &wait_us))
                return r;
        *ret_max_age_s = wait_s(wait_us);
        return REFUSE_RATE;
}

/* As if the network had lost it; but of one whose number is spent (RFC 8613 §8.2) the same cannot come again. */
static void give_up(struct origin *origin) {
        struct engine *engine = origin->route->engine;

        if (origin->is_protected) {
                answer_code(origin, &(struct block_asks){}, CODE_UNAVAILABLE, 0, RETRY_AFTER_S);
                return;
        }
        exchange_forget(origin->route->exchange, origin->ticket);
        engine->figures.n_datagrams_dropped++;
}

/* A request, or a block of one: what can be answered at once is; the rest waits for a batch. */
static void take(struct origin *origin, const struct coap_message *message, const struct request *request,
                 const struct block_asks *asks) {
        struct engine *engine = origin->route->engine;
        struct party *party = origin->party;
        enum block_verdict verdict;
        struct block_step step;

        /* what is going to be refused anyhow is not collected first */
        if (asks->request_block.more || asks->request_block.number > 0) {
                int r = router_check(engine->as, request);

                if (r != 0) {
                        answer_code(origin, asks, refusal_row(r)->coap_code, r, RETRY_AFTER_S);
                        return;
                }
        }
        verdict = block_step(&party->blocks, message, asks, engine->now.monotonic_us, &step);
        if (step.is_progress)
                limit_peer_forgive(engine->limit, party_rated(party)); /* the first block has paid */
        if (verdict == BLOCK_ANSWER) {
                answer_code(origin, asks, step.code, 0, RETRY_AFTER_S);
        } else if (verdict == BLOCK_KEPT) {
                metrics_answered(&engine->as->metrics, NULL, step.kept.code, 0);
                answer_say(origin, &(struct saying){ .response = &step.kept, .asks = asks, .kept = &step.etag });
        } else if (pending_add(origin, request, asks, verdict == BLOCK_BODY) < 0) {
                give_up(origin);
        }
}

void request_take(struct origin *origin, const struct coap_message *message) {
        struct party *party = origin->party;
        struct engine *engine = party->engine;
        struct block_asks asks;
        struct request request;
        int64_t max_age_s;
        int r;

        r = admit(party, &max_age_s);
        engine->figures.n_refused_overload += r == REFUSE_OVERLOAD || r == -EBUSY;
        if (r == 0)
                r = translate_request(message, (size_t)engine->as->config->payload_max, &request, &asks);
        if (r != 0) {
                answer_refusal(origin, r, max_age_s);
                return;
        }
        request.peer = &party->peer;
        asks.may_keep = party->peer.channel != CHANNEL_PLAIN;
        block_identify(engine->blocks, message, &asks);
        take(origin, message, &request, &asks);
}

/* One in clear that comes from where somebody we know sends from has not been counted yet. */
static bool stranger_may(const struct route *route) {
        struct engine *engine = route->engine;
        int64_t wait_us;

        return route->door == DOOR_COAPS || engine->input_is_charged ||
               limit_stranger(engine->limit, &route->remote, STRANGER_REQUEST, engine->now.monotonic_us, &wait_us) ==
                       LIMIT_PASS;
}

static void on_request(void *context, struct exchange_peer *exchange, uint64_t ticket,
                       const struct coap_message *message) {
        struct route *route = exchange_peer_owner(exchange);
        struct engine *engine = context;
        struct origin origin = {
                .route = route, .party = &route->self, .ticket = ticket,
                .request_size = engine->input_size, .token_size = (uint8_t)message->token.size,
        };

        if (message->token.size > 0)
                memcpy(origin.token, message->token.data, message->token.size);
        engine->figures.n_requests++;
        if (coap_message_option(message, OPTION_OSCORE, 0))
                protected_request(&origin, message);
        else if (stranger_may(route))
                request_take(&origin, message);
        else
                exchange_forget(exchange, ticket);
}

struct exchange_callbacks requests_callbacks(struct engine *engine) {
        return (struct exchange_callbacks){
                .context = engine, .request = on_request, .send = on_send, .outcome = on_outcome,
                .refused = on_refused,
        };
}
