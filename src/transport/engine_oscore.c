#include "transport/engine_private.h"

#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "domain/refusal.h"
#include "endpoint/refusal.h"
#include "transport/limit.h"
#include "transport/oscore_store.h"

/*
 * OSCORE in the pipeline: what is decrypted goes the way that a request inside DTLS goes, for the party that its context
 * is. Where it came from says where the answer goes, and nothing about who it is.
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
        memcpy(party->peer.name, route->self.peer.name, sizeof(party->peer.name)); /* where it is this time */
        route_vouch(route, party);
        request_take(origin, inner);
        party->is_busy = false;
        party_release(party);
}

/* It is from who the context says, and new. */
static void take(struct origin *origin, const struct oscore_taken *taken) {
        struct route *route = origin->route;
        struct engine *engine = route->engine;
        struct party *party;

        engine->input_is_proved = true;
        if (engine->input_is_charged)
                limit_stranger_forgive(engine->limit, &route->remote, STRANGER_REQUEST, engine->now.monotonic_us);
        exchange_vouch(route->exchange, origin->ticket);
        origin->no_response = read_no_response(&taken->inner);
        if (is_refused(origin, &taken->inner))
                return;
        party = party_of_context(engine, taken);
        if (party)
                take_from(origin, party, &taken->inner);
        else
                answer_code(origin, &(struct block_asks){}, CODE_UNAVAILABLE, 0, RETRY_AFTER_S);
}

void protected_request(struct origin *origin, const struct coap_message *outer) {
        struct engine *engine = origin->route->engine;
        struct buf *plain = &engine->plain_text;
        struct oscore_taken taken;
        enum oscore_verdict verdict;

        if (origin->route->door == DOOR_COAPS) {
                (void)say_unprotectable(origin, -ENOENT);
                return;
        }
        verdict = oscore_take(engine->oscore, outer, engine->now, plain, &taken);
        origin->binding = taken.binding;
        origin->is_protected = verdict == OSCORE_REQUEST || verdict == OSCORE_ECHO;
        engine->input = buf_bytes(plain);
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

/* ---- objects */

static size_t contexts_max(const struct engine *engine) {
        return (size_t)engine->as->config->oscore_contexts_max;
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
        return oscore_new(&callbacks, contexts_max(engine), &engine->oscore);
}

void protection_done(struct engine *engine) {
        oscore_free(engine->oscore);
        buf_done(&engine->plain_text);
        buf_done(&engine->protected.payload);
}
