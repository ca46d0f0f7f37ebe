#include "transport/engine_private.h"

#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/secret.h"
#include "domain/refusal.h"
#include "endpoint/refusal.h"
#include "store/oscore.h"
#include "transport/limit.h"
#include "transport/oscore_store.h"

/*
 * OSCORE in the pipeline: what is decrypted goes the way that a request inside DTLS goes, for the party that its
 * context is. Where it came from says where the answer goes, and nothing about who it is.
 *
 * Inside DTLS a protected request has to be of the party whose session it is, and is the session's then; contexts of
 * others are as if they were not there (4.01), and their replay windows remain as they are.
 */
#define PLAIN_TEXT_MAX ((size_t)16384) /* no datagram that we take in is longer */
#define DIAGNOSTIC_SIZE sizeof("option 65535")

/* ---- what is said */

/* RFC 8613 §8.2: to whoever it is, thus not longer than what was asked. */
static int say_in_clear(struct origin *origin, const struct coap_message *message) {
        struct engine *engine = origin->route->engine;
        struct coap_message answer = *message;

        if (coap_message_size(&answer, origin->token_size) > origin->request_size)
                answer.payload = BYTES_NONE;
        metrics_answered(&engine->as->metrics, NULL, answer.code, 0);
        return exchange_answer(origin->route->exchange, origin->ticket, &answer, engine->now.monotonic_us);
}

/* It was decrypted and cannot be answered under its context any more. */
static int say_unprotectable(struct origin *origin, int r) {
        struct coap_message answer = { .code = CODE_INTERNAL_ERROR };

        if (r == -ENOENT)
                answer = (struct coap_message){ .code = CODE_UNAUTHORIZED,
                                                .payload = BYTES_LITERAL("Security context not found") };
        else if (r == -EDQUOT)
                answer.code = CODE_UNAVAILABLE;
        return say_in_clear(origin, &answer);
}

/*
 * In blocks outside (RFC 8613 §4.1.3.4.2) if it was asked for so; of its options only an empty OSCORE option can be
 * said with later blocks again, which is what an answer that is long has.
 */
static int say_in_fragments(struct origin *origin) {
        struct engine *engine = origin->route->engine;
        const struct coap_message *outer = &engine->protected.message;
        const struct coap_option *observe = coap_message_option(outer, OPTION_OBSERVE, 0);
        const struct coap_option *oscore = coap_message_option(outer, OPTION_OSCORE, 0);
        struct answer_limits limits = { .size_max = MESSAGE_SIZE_MAX - FRAGMENT_OPTIONS_SIZE,
                                        .token_size = origin->token_size };
        _cleanup_(response_done) struct response response;
        struct answer answer;
        uint32_t value, etag;

        response_init(&response);
        response.code = outer->code;
        if (observe && coap_option_uint(observe, &value))
                limits.observe = &value;
        if (oscore->value.size > 0)
                origin->fragments.answer_block.is_given = false;
        if (buf_add(&response.payload, outer->payload) < 0)
                return -ENOMEM;
        translate_response(&response, &origin->fragments, &limits, &answer);
        if (answer.is_part && block_keep(&origin->route->fragments, engine->fragments, &origin->fragments, &response,
                                         engine->now.monotonic_us, &etag) < 0)
                return say_in_clear(origin, &(struct coap_message){ .code = CODE_UNAVAILABLE });
        if (answer.is_part)
                answer_put_etag(&answer, etag);
        (void)coap_message_add(&answer.message, OPTION_OSCORE, oscore->value); /* there is room */
        return exchange_answer(origin->route->exchange, origin->ticket, &answer.message, engine->now.monotonic_us);
}

int protected_answer(struct origin *origin, const struct coap_message *inner) {
        struct engine *engine = origin->route->engine;
        int r;

        if ((origin->no_response >> ((inner->code >> 5) - 1) & 1) != 0) { /* RFC 7967 §2.1 */
                exchange_silence(origin->route->exchange, origin->ticket);
                return 0;
        }
        r = oscore_protect(engine->oscore, &origin->binding, false, inner, &engine->protected);
        if (r != 0)
                return say_unprotectable(origin, r);
        if (origin->is_fragmented)
                return say_in_fragments(origin);
        return exchange_answer(origin->route->exchange, origin->ticket, &engine->protected.message,
                               engine->now.monotonic_us);
}

int protected_notify(struct route *route, struct observe_way *way, uint64_t ticket, const struct coap_message *inner) {
        struct engine *engine = route->engine;
        int r = oscore_protect(engine->oscore, &way->binding, true, inner, &engine->protected);

        if (r != 0)
                return r < 0 ? r : -EIO;
        return exchange_notify(route->exchange, ticket, &engine->protected.message, engine->now.monotonic_us);
}

/* ---- what is asked */

/* RFC 7252 §5.4.1, §5.8, §5.10.2, of the message inside: what exchange.c sees to of one in clear. */
static bool is_refused(struct origin *origin, const struct coap_message *inner) {
        struct engine *engine = origin->route->engine;
        struct coap_message answer = { .code = CODE_METHOD_NOT_ALLOWED };
        int refusal = REFUSE_METHOD;
        char text[DIAGNOSTIC_SIZE];
        uint16_t bad = 0;

        if (coap_request_check_options(inner, &bad) != 0) {
                bool proxies = bad == OPTION_PROXY_URI || bad == OPTION_PROXY_SCHEME;

                snprintf(text, sizeof(text), "option %u", (unsigned)bad);
                answer.code = proxies ? CODE_PROXYING_NOT_SUPPORTED : CODE_BAD_OPTION;
                answer.payload = proxies ? BYTES_NONE : bytes_text(text);
                refusal = proxies ? 0 : REFUSE_BAD_OPTION;
        } else if (inner->code <= CODE_IPATCH) {
                return false;
        }
        metrics_answered(&engine->as->metrics, NULL, answer.code, refusal);
        if (bad != 0 && inner->type == TYPE_NON)
                exchange_silence(origin->route->exchange, origin->ticket); /* §5.4.1: rejected */
        else
                protected_answer(origin, &answer);
        return true;
}

/* RFC 7967: of a message in clear it is ignored, as it is outside (RFC 8613 §4.1.3.6). */
static uint8_t read_no_response(const struct coap_message *inner) {
        const struct coap_option *option = coap_message_option(inner, OPTION_NO_RESPONSE, 0);
        uint32_t value;

        return option && coap_option_uint(option, &value) ? (uint8_t)value : 0;
}

static void take_from(struct origin *origin, struct party *party, const struct coap_message *inner) {
        struct route *route = origin->route;

        origin->party = party;
        party->is_busy = true;
        if (party != &route->self) /* where it is this time */
                memcpy(party->peer.name, route->self.peer.name, sizeof(party->peer.name));
        route_vouch(route, party);
        request_take(origin, inner);
        party->is_busy = false;
        party_release(party);
}

/*
 * What proves to be from somebody we know is not charged to where it came from, nor is what asked for the Echo in it.
 */
static void forgive(struct route *route, const struct oscore_taken *taken) {
        struct engine *engine = route->engine;

        if (route->door == DOOR_COAP)
                for (int n = engine->input_is_charged + taken->was_echoed; n > 0; n--)
                        limit_stranger_forgive(engine->limit, &route->remote, STRANGER_REQUEST,
                                               engine->now.monotonic_us);
        engine->input_is_proved = true;
        route->unproved = (struct bucket){}; /* full: what came before it in blocks was its */
}

/* It is from who the context says, and new. */
static void take(struct origin *origin, const struct oscore_taken *taken) {
        struct route *route = origin->route;
        struct engine *engine = route->engine;
        struct party *party = &route->self;

        forgive(route, taken);
        exchange_vouch(route->exchange, origin->ticket);
        origin->no_response = read_no_response(&taken->inner);
        if (is_refused(origin, &taken->inner))
                return;
        if (route->door == DOOR_COAP)
                party = party_of_context(engine, taken);
        if (party)
                take_from(origin, party, &taken->inner);
        else
                answer_code(origin, &(struct block_asks){}, CODE_UNAVAILABLE, 0, RETRY_AFTER_S);
}

/* Which device it seems to be, as a hint for whoever sets one up. */
static void log_failure(const struct origin *origin, const struct coap_message *outer, struct bytes why) {
        const struct coap_option *value = coap_message_option(outer, OPTION_OSCORE, 0);
        enum log_level level = failure_level(origin->route->engine);
        char kid[2 * OSCORE_ID_SIZE_MAX + 1] = "-";
        struct oscore_option option;

        if (!log_enabled(level))
                return;
        if (value && oscore_option_decode(value->value, &option) == 0 && option.kid.data &&
            option.kid.size <= OSCORE_ID_SIZE_MAX)
                bytes_to_hex(option.kid, kid, sizeof(kid));
        log_line(level, "%s: no OSCORE request: kid %s: %.*s", origin->route->self.peer.name, kid, (int)why.size,
                 (const char *)why.data);
}

static void decrypt(struct origin *origin, const struct coap_message *outer) {
        const struct party *self = &origin->route->self;
        struct engine *engine = self->engine;
        struct buf *plain = &engine->plain_text;
        struct oscore_taken taken;
        enum oscore_verdict verdict;

        verdict = oscore_take_within(engine->oscore, self->client_id, self->server_id, outer, engine->now, plain,
                                     &taken);
        origin->binding = taken.binding;
        origin->is_protected = verdict == OSCORE_REQUEST || verdict == OSCORE_ECHO;
        engine->input = buf_bytes(plain);
        if (verdict == OSCORE_ANSWER)
                log_failure(origin, outer, taken.inner.payload);
        if (verdict == OSCORE_REQUEST)
                take(origin, &taken);
        else if (verdict == OSCORE_ECHO)
                (void)protected_answer(origin, &taken.inner);
        else if (verdict == OSCORE_ANSWER)
                (void)say_in_clear(origin, &taken.inner);
        else
                exchange_forget(origin->route->exchange, origin->ticket);
        if (plain->size > 0)
                wipe(plain->data, plain->size);
        buf_clear(plain);
}

/* ---- in blocks outside: proxies make them, and take them together again */

/* One of them is not more than any stranger's message: what is kept of it is bounded, per address and in all. */
static void say_kept(struct origin *origin, struct block_step *step) {
        struct route *route = origin->route;
        struct answer answer;

        answer_compose(origin, &(struct saying){ .response = &step->kept, .asks = &origin->fragments,
                                                 .kept = &step->etag }, &answer);
        (void)coap_message_add(&answer.message, OPTION_OSCORE, BYTES_NONE); /* as it was said with the first */
        (void)exchange_answer(route->exchange, origin->ticket, &answer.message, route->engine->now.monotonic_us);
}

static void decrypt_whole(struct origin *origin, const struct coap_message *outer) {
        _cleanup_(buf_done) struct buf body = BUF_INIT(0); /* of what is encrypted: nothing to be wiped */
        struct coap_message whole = *outer;

        if (block_take(&origin->route->fragments, &origin->fragments, &body))
                whole.payload = buf_bytes(&body);
        decrypt(origin, &whole);
}

static void take_fragment(struct origin *origin, const struct coap_message *outer) {
        struct block_asks *asks = &origin->fragments;
        struct route *route = origin->route;
        struct engine *engine = route->engine;
        enum block_verdict verdict;
        struct block_step step;

        if (!route->fragments.pool)
                block_peer_init(&route->fragments, engine->fragments);
        asks->may_cut = false;
        asks->may_keep = true;
        asks->observe = OBSERVE_NOT;
        block_identify(engine->fragments, outer, asks);
        verdict = block_step(&route->fragments, outer, asks, engine->now.monotonic_us, &step);
        if (step.is_progress && route->voucher)
                engine->input_is_proved = true; /* the first has been counted */
        if (verdict == BLOCK_ANSWER)
                answer_code(origin, asks, step.code, 0, RETRY_AFTER_S);
        else if (verdict == BLOCK_KEPT)
                say_kept(origin, &step);
        else if (verdict == BLOCK_BODY)
                decrypt_whole(origin, outer);
        else
                decrypt(origin, outer);
}

void protected_request(struct origin *origin, const struct coap_message *outer) {
        int r = translate_blocks(outer, &origin->fragments);

        origin->is_fragmented = r == 0 && (origin->fragments.request_block.is_given ||
                                           origin->fragments.answer_block.is_given);
        if (r != 0)
                answer_refusal(origin, r, RETRY_AFTER_S);
        else if (origin->is_fragmented)
                take_fragment(origin, outer);
        else
                decrypt(origin, outer);
}

/* ---- objects */

static size_t contexts_max(const struct engine *engine) {
        return (size_t)engine->as->config->oscore_contexts_max;
}

static void on_gone(void *context, int64_t credential_id, struct bytes kid) {
        oscore_forget(context, credential_id, kid);
}

int protection_init(struct engine *engine) {
        const struct oscore_callbacks callbacks = oscore_of_store(engine->as->store);
        uint8_t *space;
        int r;

        engine->plain_text = BUF_INIT(PLAIN_TEXT_MAX);
        engine->protected.payload = BUF_INIT(MESSAGE_SIZE_MAX);
        /* all at once: it never moves, leaving what was decrypted behind */
        if ((r = buf_reserve(&engine->plain_text, PLAIN_TEXT_MAX, &space)) < 0)
                return r;
        if ((r = oscore_new(&callbacks, contexts_max(engine), &engine->oscore)) == 0 && engine->as->store)
                store_oscore_listen(engine->as->store, on_gone, engine->oscore);
        return r;
}

void protection_done(struct engine *engine) {
        if (engine->as->store)
                store_oscore_listen(engine->as->store, NULL, NULL);
        oscore_free(engine->oscore);
        buf_done(&engine->plain_text);
        buf_done(&engine->protected.payload);
}
