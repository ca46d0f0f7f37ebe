#include "transport/oscore.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "crypto/random.h"
#include "domain/refusal.h"
#include "transport/oscore_contexts.h"

_Static_assert(OSCORE_R2_SIZE > OSCORE_R_SIZE_MIN, "there is room for a MAC");

#define S2_SIZE 8 /* of an R2: the random part; the rest is the MAC */
#define NO_MORE 1 /* ends a load */
#define TRIAL_COST_US (INT64_C(1000000) / OSCORE_TRIALS_MAX)

/* Response 1 of a renewal, between oscore_take() and oscore_protect(): its context is for nothing else. */
struct response_1 {
        uint64_t n; /* the how many-th; 0: there is none */
        struct oscore_keys keys;
        size_t kid_context_size;
        uint8_t kid_context[OSCORE_KID_CONTEXT_SIZE_MAX];
};

struct oscore {
        struct oscore_callbacks callbacks;
        struct oscore_contexts contexts;
        uint8_t echo_key[SIPHASH_KEY_SIZE], r2_key[SIPHASH_KEY_SIZE];
        uint64_t piv_next, piv_end; /* our own numbers: those from next to before end may be used … */
        uint64_t piv_epoch;         /* … in this epoch */
        int64_t trials_us;          /* when as many requests 1 may be tried as ever */
        uint64_t n_responses_1;
        struct response_1 response_1;
        struct oscore_figures figures;
};

DEFINE_FREEP(struct oscore, oscore_free)

static void response_1_done(struct response_1 *response_1) {
        if (response_1->n != 0)
                wipe(response_1, sizeof(*response_1));
}

/* ---- Echo (RFC 9175 §2.3): when it was given, and a MAC over that and over the context that was loaded then */

struct echo_text {
        int64_t at_us, credential_id;
        uint64_t n_load;
};

static void echo_make(const struct oscore *oscore, const struct oscore_held *held, int64_t at_us,
                      uint8_t ret[static OSCORE_ECHO_SIZE]) {
        const struct echo_text text = { at_us, held->credential_id, held->n_load };
        uint64_t mac = siphash(oscore->echo_key, bytes_of(&text, sizeof(text)));

        memcpy(ret, &at_us, sizeof(at_us));
        memcpy(ret + sizeof(at_us), &mac, sizeof(mac));
}

static bool echo_is_fresh(const struct oscore *oscore, const struct oscore_held *held,
                          const struct coap_message *inner, int64_t now_us) {
        const struct coap_option *echo = coap_message_option(inner, OPTION_ECHO, 0);
        uint8_t wanted[OSCORE_ECHO_SIZE];
        int64_t at_us;

        if (!echo || echo->value.size != OSCORE_ECHO_SIZE)
                return false;
        memcpy(&at_us, echo->value.data, sizeof(at_us));
        echo_make(oscore, held, at_us, wanted);
        return bytes_equal_ct(echo->value, bytes_of(wanted, sizeof(wanted))) && at_us <= now_us &&
               now_us - at_us <= OSCORE_ECHO_LIFE_US;
}

/* ---- taking a request */

/* RFC 8613 §8.2: unprotected, as the sender may be anybody. Texts as there. */
static enum oscore_verdict say(struct oscore_taken *ret, uint8_t code, const char *text, uint64_t *count) {
        (*count)++;
        ret->inner = (struct coap_message){ .code = code, .payload = bytes_text(text) };
        return OSCORE_ANSWER;
}

static enum oscore_verdict say_unknown(struct oscore *oscore, struct oscore_taken *ret) {
        return say(ret, CODE_UNAUTHORIZED, "Security context not found", &oscore->figures.n_unknown);
}

/* What a request came to, against one context after the other. */
struct trial {
        const struct coap_message *outer;
        int64_t client_id, server_id; /* whose context alone it can be under; both 0: anybody's */
        struct oscore_option option;
        uint64_t piv;
        unsigned n_fit, n_replayed;
        int result; /* of the last that was decrypted */
};

static bool is_eligible(const struct oscore_held *held, const struct trial *trial) {
        return (trial->client_id == 0 && trial->server_id == 0) ||
               (held->client_id == trial->client_id && held->server_id == trial->server_id);
}

static bool context_fits(const struct oscore_held *held, const struct trial *trial) {
        const struct bytes id_context = bytes_of(held->id_context, held->id_context_size);
        const struct oscore_option *option = &trial->option;
        struct bytes unwrapped;

        if (!is_eligible(held, trial))
                return false;
        if (!option->kid_context.data)
                return true; /* it may be left out (§5.1) */
        return held->has_id_context &&
               (bytes_equal(option->kid_context, id_context) ||
                (held->renews && oscore_kid_context_unwrap(option->kid_context, &unwrapped) &&
                 bytes_equal(unwrapped, id_context)));
}

/* The context that it decrypts under; NULL: none, and *trial says why. */
static struct oscore_held *try_contexts(struct oscore_kid *kid, struct trial *trial, struct buf *plain,
                                        struct oscore_taken *ret) {
        struct oscore_held *held;

        trial->result = -EBADMSG;
        TAILQ_FOREACH(held, &kid->contexts, sibling) {
                if (!context_fits(held, trial))
                        continue;
                trial->n_fit++;
                if (held->window_known && !oscore_window_accepts(&held->window, trial->piv)) {
                        trial->n_replayed++;
                        continue;
                }
                buf_clear(plain);
                trial->result = oscore_unprotect_request(&held->keys, &trial->option, trial->outer, plain, &ret->inner,
                                                         &ret->binding.request);
                if (trial->result != -EBADMSG)
                        return held;
        }
        return NULL;
}

static enum oscore_verdict ask_for_echo(struct oscore *oscore, const struct oscore_held *held, struct engine_time now,
                                        struct oscore_taken *ret) {
        oscore->figures.n_echoes++;
        echo_make(oscore, held, now.monotonic_us, ret->echo);
        ret->inner = (struct coap_message){ .code = CODE_UNAUTHORIZED };
        (void)coap_message_add(&ret->inner, OPTION_ECHO, bytes_of(ret->echo, sizeof(ret->echo))); /* the first: fits */
        ret->binding.nonce_is_spent = true; /* Appendix B.1.2: with a number of our own */
        return OSCORE_ECHO;
}

/* Everything from piv on is new, everything before was seen. */
static void begin_window(struct oscore_held *held, uint64_t piv) {
        held->window_known = true;
        held->window = (struct oscore_window){ .next = piv, .seen = UINT32_MAX };
}

static void bind(const struct oscore_held *held, struct oscore_taken *ret) {
        ret->client_id = held->client_id;
        ret->server_id = held->server_id;
        ret->binding.credential_id = held->credential_id;
        ret->binding.kid = held->keys.recipient_id;
        ret->binding.keys_mark = held->keys_mark;
}

/* It decrypted: it is from whom the context says, and was not there before, or an Echo has to show that. */
static enum oscore_verdict take_in(struct oscore *oscore, struct oscore_held *held, const struct trial *trial,
                                   struct engine_time now, struct oscore_taken *ret) {
        bind(held, ret);
        if (!held->window_known) {
                if (!echo_is_fresh(oscore, held, &ret->inner, now.monotonic_us))
                        return ask_for_echo(oscore, held, now, ret);
                begin_window(held, trial->piv);
                ret->was_echoed = true;
        }
        oscore_window_mark(&held->window, trial->piv);
        oscore->figures.n_requests++;
        return OSCORE_REQUEST;
}

/* ---- renewal (Appendix B.2) */

/* So many in a row, and one more with every TRIAL_COST_US that passes. */
static bool may_try(struct oscore *oscore, int64_t now_us) {
        int64_t then_us = (oscore->trials_us > now_us ? oscore->trials_us : now_us) + TRIAL_COST_US;

        if (then_us - now_us > OSCORE_TRIALS_MAX * TRIAL_COST_US)
                return false;
        oscore->trials_us = then_us;
        return true;
}

struct r2_text {
        uint8_t s2[S2_SIZE];
        int64_t credential_id, period;
        uint64_t n_load;
};

static int64_t r2_period(struct engine_time now) {
        return now.monotonic_us / OSCORE_ECHO_LIFE_US;
}

/* s2: the first bytes of *ret. A renewal counts n_load up: no R2 of before it is one of ours any more. */
static void r2_finish(const struct oscore *oscore, const struct oscore_held *held, int64_t period,
                      uint8_t ret[static OSCORE_R2_SIZE]) {
        struct r2_text text = { .credential_id = held->credential_id, .period = period, .n_load = held->n_load };
        uint64_t mac;

        _Static_assert(OSCORE_R2_SIZE == S2_SIZE + sizeof(mac), "S2 || MAC");
        memcpy(text.s2, ret, S2_SIZE);
        mac = siphash(oscore->r2_key, bytes_of(&text, sizeof(text)));
        memcpy(ret + S2_SIZE, &mac, sizeof(mac));
}

/* Does it begin with an R2 of ours for this context, of this period or the last, and has an R3? */
static bool is_r2_r3(const struct oscore *oscore, const struct oscore_held *held, struct bytes id_context,
                     struct engine_time now) {
        uint8_t r2[OSCORE_R2_SIZE];

        if (id_context.size < OSCORE_R2_SIZE + OSCORE_R_SIZE_MIN)
                return false;
        memcpy(r2, id_context.data, S2_SIZE);
        for (int64_t back = 0; back <= 1; back++) {
                r2_finish(oscore, held, r2_period(now) - back, r2);
                if (bytes_equal_ct(bytes_of(r2, sizeof(r2)), bytes_of(id_context.data, sizeof(r2))))
                        return true;
        }
        return false;
}

/* What comes of a kid context that is none of the kid's contexts'. */
struct renewing {
        struct oscore *oscore;
        struct oscore_kid *kid;
        struct trial *trial;
        struct engine_time now;
        struct bytes id_context;  /* R1, or R2 || R3 */
        struct buf *plain;
        struct oscore_taken *taken;
        struct oscore_held *held; /* whose R2 it is, then whose key; NULL: nobody's */
        struct oscore_keys keys;  /* R1: for response 1; else the context's from now on */
        uint64_t keys_mark;
        bool is_request_2;
        uint8_t r2[OSCORE_R2_SIZE];
};

static void renewing_done(struct renewing *renewing) {
        oscore_keys_done(&renewing->keys);
}

/* Request 1 is from who has the key of held, now or once before: a new R2 is made for it in any case. */
static int make_response_1(struct renewing *renewing, struct oscore_held *held, const struct oscore_context *loaded) {
        struct oscore *oscore = renewing->oscore;

        if (random_bytes(renewing->r2, S2_SIZE) != 0)
                return -EIO;
        r2_finish(oscore, held, r2_period(renewing->now), renewing->r2);
        return oscore_derive_under(&loaded->input, bytes_of(renewing->r2, sizeof(renewing->r2)), renewing->id_context,
                                   &renewing->keys);
}

/* Is it from who has the key of this one? */
static int on_may_renew(void *context, const struct oscore_context *loaded) {
        struct renewing *renewing = context;
        struct oscore_held *held = oscore_contexts_which(&renewing->oscore->contexts, renewing->kid, loaded);
        _cleanup_(oscore_keys_done) struct oscore_keys keys = {};
        struct trial *trial = renewing->trial;
        int r;

        if (!held || !held->renews || !is_eligible(held, trial) || (renewing->is_request_2 && held != renewing->held))
                return 0;
        r = oscore_derive_under(&loaded->input, renewing->id_context, BYTES_NONE, &keys);
        if (r != 0)
                return r;
        buf_clear(renewing->plain);
        trial->result = oscore_unprotect_request(&keys, &trial->option, trial->outer, renewing->plain,
                                                 &renewing->taken->inner, &renewing->taken->binding.request);
        if (trial->result == -EBADMSG)
                return 0;
        renewing->held = held;
        if (trial->result != 0)
                return NO_MORE;
        if (renewing->is_request_2) {
                renewing->keys_mark = oscore_contexts_mark(&renewing->oscore->contexts, &loaded->input,
                                                           renewing->id_context);
                renewing->keys = keys;
        } else if ((r = make_response_1(renewing, held, loaded)) != 0) {
                return r;
        }
        return NO_MORE;
}

static enum oscore_verdict say_too_often(struct oscore *oscore, struct oscore_taken *ret) {
        static const uint8_t one_second = 1;
        enum oscore_verdict verdict = say(ret, CODE_UNAVAILABLE, "Too many renewals",
                                          &oscore->figures.n_renewals_refused);

        (void)coap_message_add(&ret->inner, OPTION_MAX_AGE, bytes_of(&one_second, 1)); /* the first: fits */
        return verdict;
}

/* 4.01 under R2 || R1, which tells R2. Nothing was done, so that it does no harm if request 1 is an old one. */
static enum oscore_verdict answer_request_1(struct renewing *renewing) {
        struct oscore *oscore = renewing->oscore;
        struct response_1 *response_1 = &oscore->response_1;
        struct oscore_taken *ret = renewing->taken;

        response_1->kid_context_size = oscore_kid_context_wrap(bytes_of(renewing->r2, sizeof(renewing->r2)),
                                                               response_1->kid_context);
        if (response_1->kid_context_size == 0)
                return OSCORE_DROP; /* no memory */
        response_1->n = ++oscore->n_responses_1;
        response_1->keys = renewing->keys;
        bind(renewing->held, ret);
        ret->binding.renewal = response_1->n;
        ret->inner = (struct coap_message){ .code = CODE_UNAUTHORIZED };
        return OSCORE_ECHO;
}

/* R2 is fresh and was not used: so are the request and the context, from which on its numbers count. */
static enum oscore_verdict take_request_2(struct renewing *renewing) {
        struct oscore *oscore = renewing->oscore;
        struct oscore_held *held = renewing->held;
        int r = oscore->callbacks.renew(oscore->callbacks.context, held->credential_id, renewing->id_context);

        if (r != 0)
                return r < 0 ? OSCORE_DROP : say_unknown(oscore, renewing->taken);
        oscore_contexts_renew(&oscore->contexts, renewing->kid, held, renewing->id_context, renewing->keys_mark,
                              &renewing->keys);
        begin_window(held, renewing->trial->piv);
        oscore->figures.n_renewals++;
        return take_in(oscore, held, renewing->trial, renewing->now, renewing->taken);
}

/* Its contexts are looked at once more, as no Master Secret stays in memory. */
static enum oscore_verdict try_renewal(struct renewing *renewing) {
        struct oscore *oscore = renewing->oscore;
        const struct oscore_callbacks *callbacks = &oscore->callbacks;
        const struct oscore_id *id = &renewing->kid->id;
        int r;

        if (!may_try(oscore, renewing->now.monotonic_us))
                return say_too_often(oscore, renewing->taken);
        renewing->trial->result = -EBADMSG;
        r = callbacks->load(callbacks->context, bytes_of(id->data, id->size), on_may_renew, renewing);
        if (r < 0 || (renewing->trial->result < 0 && renewing->trial->result != -EBADMSG))
                return OSCORE_DROP;
        if (renewing->trial->result == -EBADMSG)
                return say_unknown(oscore, renewing->taken);
        oscore_contexts_used(&oscore->contexts, renewing->kid);
        if (renewing->trial->result > 0)
                return say(renewing->taken, CODE_BAD_REQUEST, "Decryption failed", &oscore->figures.n_undecryptable);
        return renewing->is_request_2 ? take_request_2(renewing) : answer_request_1(renewing);
}

/* No context of the kid has this ID Context: it may be one of a renewal. */
static enum oscore_verdict take_renewing(struct oscore *oscore, struct oscore_kid *kid, struct trial *trial,
                                         struct engine_time now, struct buf *plain, struct oscore_taken *ret) {
        _cleanup_(renewing_done) struct renewing renewing = {
                .oscore = oscore, .kid = kid, .trial = trial, .now = now, .plain = plain, .taken = ret };
        struct oscore_held *held;
        bool may_renew = false;

        if (!oscore_kid_context_unwrap(trial->option.kid_context, &renewing.id_context) ||
            renewing.id_context.size < OSCORE_R_SIZE_MIN)
                return say_unknown(oscore, ret);
        TAILQ_FOREACH(held, &kid->contexts, sibling) {
                may_renew |= held->renews;
                if (held->renews && is_r2_r3(oscore, held, renewing.id_context, now)) {
                        renewing.held = held;
                        renewing.is_request_2 = true;
                }
        }
        if (!may_renew || (!renewing.is_request_2 &&
                           renewing.id_context.size + OSCORE_R2_SIZE > OSCORE_ID_CONTEXT_SIZE_MAX))
                return say_unknown(oscore, ret);
        return try_renewal(&renewing);
}

/* ---- a request */

/* 0; REFUSE_MALFORMED: it cannot be decoded (§8.2 step 2). */
static int read_option(const struct coap_message *outer, struct oscore_option *ret) {
        const struct coap_option *value = coap_message_option(outer, OPTION_OSCORE, 0);

        if (!value || coap_message_option(outer, OPTION_OSCORE, 1) || outer->payload.size == 0 ||
            oscore_option_decode(value->value, ret) != 0 || !ret->piv.data || !ret->kid.data)
                return REFUSE_MALFORMED;
        return 0;
}

static enum oscore_verdict take_for(struct oscore *oscore, struct oscore_kid *kid, struct trial *trial,
                                    struct engine_time now, struct buf *plain, struct oscore_taken *ret) {
        struct oscore_figures *figures = &oscore->figures;
        struct oscore_held *held = try_contexts(kid, trial, plain, ret);

        if (!held && trial->n_fit == 0)
                return take_renewing(oscore, kid, trial, now, plain, ret);
        if (!held && trial->n_replayed == trial->n_fit)
                return say(ret, CODE_UNAUTHORIZED, "Replay detected", &figures->n_replayed);
        if (!held)
                return say(ret, CODE_BAD_REQUEST, "Decryption failed", &figures->n_undecryptable);
        if (trial->result < 0)
                return OSCORE_DROP;
        oscore_contexts_used(&oscore->contexts, kid);
        if (trial->result > 0) { /* by who has the key, so that no more than this is said, and the number is spent */
                if (held->window_known)
                        oscore_window_mark(&held->window, trial->piv);
                return say(ret, CODE_BAD_REQUEST, "Decryption failed", &figures->n_undecryptable);
        }
        return take_in(oscore, held, trial, now, ret);
}

enum oscore_verdict oscore_take(struct oscore *oscore, const struct coap_message *outer, struct engine_time now,
                                struct buf *plain, struct oscore_taken *ret) {
        return oscore_take_within(oscore, 0, 0, outer, now, plain, ret);
}

enum oscore_verdict oscore_take_within(struct oscore *oscore, int64_t client_id, int64_t server_id,
                                       const struct coap_message *outer, struct engine_time now, struct buf *plain,
                                       struct oscore_taken *ret) {
        struct trial trial = { .outer = outer, .client_id = client_id, .server_id = server_id };
        struct oscore_id id = {};
        struct oscore_kid *kid;

        *ret = (struct oscore_taken){};
        response_1_done(&oscore->response_1);
        if (read_option(outer, &trial.option) != 0)
                return say(ret, CODE_BAD_OPTION, "Failed to decode COSE", &oscore->figures.n_undecodable);
        if (trial.option.kid.size > sizeof(id.data))
                return say_unknown(oscore, ret);
        id.size = trial.option.kid.size;
        if (id.size > 0)
                memcpy(id.data, trial.option.kid.data, id.size);
        trial.piv = oscore_piv_decode(trial.option.piv);
        if (oscore_contexts_get(&oscore->contexts, &id, &kid) != 0)
                return OSCORE_DROP;
        return kid ? take_for(oscore, kid, &trial, now, plain, ret) : say_unknown(oscore, ret);
}

/* ---- protecting a response */

/* Appendix B.1.1 with a store that is on disk before anything is sent: what a crash leaves unused is never used. */
static int next_piv(struct oscore *oscore, uint64_t *ret) {
        const struct oscore_callbacks *callbacks = &oscore->callbacks;
        uint64_t epoch = callbacks->epoch(callbacks->context), first;
        int r;

        if (oscore->piv_next == oscore->piv_end || oscore->piv_epoch != epoch) {
                r = callbacks->lease(callbacks->context, OSCORE_PIV_LEASE, &first);
                if (r != 0)
                        return r < 0 ? r : -EDQUOT;
                oscore->piv_epoch = epoch;
                oscore->piv_next = first;
                oscore->piv_end = first + OSCORE_PIV_LEASE;
        }
        if (oscore->piv_next > OSCORE_PIV_MAX)
                return -EDQUOT;
        *ret = oscore->piv_next++;
        return 0;
}

/* In the context that was made for it, under its first number, once. */
static int protect_response_1(struct oscore *oscore, struct oscore_binding *binding, const struct coap_message *inner,
                              struct oscore_outer *ret) {
        struct response_1 *response_1 = &oscore->response_1;
        int r;

        if (response_1->n != binding->renewal || binding->nonce_is_spent)
                return -ENOENT;
        binding->nonce_is_spent = true;
        r = oscore_protect_renewing(&response_1->keys, &binding->request,
                                    bytes_of(response_1->kid_context, response_1->kid_context_size), inner, ret);
        response_1_done(response_1);
        return r;
}

int oscore_protect(struct oscore *oscore, struct oscore_binding *binding, bool own_number,
                   const struct coap_message *inner, struct oscore_outer *ret) {
        bool needs_number = own_number || binding->nonce_is_spent;
        struct oscore_held *held;
        struct oscore_kid *kid;
        uint64_t piv;
        int r;

        if (binding->renewal != 0)
                return protect_response_1(oscore, binding, inner, ret);
        r = oscore_contexts_get(&oscore->contexts, &binding->kid, &kid);
        if (r != 0)
                return r;
        held = kid ? oscore_contexts_bound(kid, binding) : NULL;
        if (!held)
                return -ENOENT;
        if (own_number) /* an answer follows a request, which was a use of it */
                oscore_contexts_used(&oscore->contexts, kid);
        if (needs_number && (r = next_piv(oscore, &piv)) != 0)
                return r;
        if (!needs_number)
                binding->nonce_is_spent = true; /* before it is used: what fails is not tried under it again */
        return oscore_protect_response(&held->keys, &binding->request, needs_number ? &piv : NULL, inner, ret);
}

/* ---- the whole */

int oscore_new(const struct oscore_callbacks *callbacks, size_t contexts_max, struct oscore **ret) {
        _cleanup_(oscore_freep) struct oscore *oscore = calloc(1, sizeof(*oscore));
        int r;

        if (!oscore)
                return -ENOMEM;
        oscore->callbacks = *callbacks;
        r = oscore_contexts_init(&oscore->contexts, callbacks, contexts_max);
        if (r != 0)
                return r;
        if (random_bytes(oscore->echo_key, sizeof(oscore->echo_key)) != 0 ||
            random_bytes(oscore->r2_key, sizeof(oscore->r2_key)) != 0)
                return -EIO;
        *ret = TAKE_PTR(oscore);
        return 0;
}

void oscore_free(struct oscore *oscore) {
        if (!oscore)
                return;
        oscore_contexts_done(&oscore->contexts);
        wipe(oscore, sizeof(*oscore));
        free(oscore);
}

void oscore_set_limit(struct oscore *oscore, size_t contexts_max) {
        oscore_contexts_set_limit(&oscore->contexts, contexts_max);
}

void oscore_forget(struct oscore *oscore, int64_t credential_id, struct bytes kid) {
        response_1_done(&oscore->response_1);
        oscore_contexts_forget(&oscore->contexts, credential_id, kid);
}

bool oscore_sweep(struct oscore *oscore) {
        return oscore_contexts_sweep(&oscore->contexts, OSCORE_SWEEP);
}

void oscore_figures(const struct oscore *oscore, struct oscore_figures *ret) {
        *ret = oscore->figures;
        ret->n_contexts = oscore->contexts.n_held;
        ret->n_loaded = oscore->contexts.n_loaded;
        ret->n_evicted = oscore->contexts.n_evicted;
}
