#include "transport/oscore.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "base/cleanup.h"
#include "base/siphash.h"
#include "crypto/random.h"

_Static_assert(sizeof(struct oscore_context) <= 768, "a context takes a kilobyte at most, with what the table needs");

/* Contexts of one kid are a list. All of a kid are loaded at once, so that those in memory are those that there are. */
struct held {
        struct oscore_context context;
        TAILQ_ENTRY(held) sibling;
};

TAILQ_HEAD(siblings, held);

struct kid {
        struct oscore_id id;
        struct siblings contexts;
        TAILQ_ENTRY(kid) link; /* by last use */
        UT_hash_handle hh;
};

struct oscore {
        struct oscore_callbacks callbacks;
        size_t contexts_max;
        struct kid *table;
        TAILQ_HEAD(, kid) kids; /* least recently used first */
        uint8_t hash_key[SIPHASH_KEY_SIZE], echo_key[SIPHASH_KEY_SIZE];
        uint64_t piv_next, piv_end; /* our own numbers: those from next to before end may be used */
        struct oscore_figures figures;
};

DEFINE_FREEP(struct oscore, oscore_free)

/* ---- contexts in memory */

/* Keyed: anybody may ask for any kid. */
static unsigned kid_hash(const struct oscore *oscore, const struct oscore_id *id) {
        return (unsigned)siphash(oscore->hash_key, bytes_of(id->data, id->size));
}

static struct kid *kid_find(const struct oscore *oscore, const struct oscore_id *id) {
        struct kid *kid;
        unsigned hash = kid_hash(oscore, id);

        HASH_FIND_BYHASHVALUE(hh, oscore->table, id->data, id->size, hash, kid);
        return kid;
}

static void held_free(struct oscore *oscore, struct kid *kid, struct held *held) {
        TAILQ_REMOVE(&kid->contexts, held, sibling);
        oscore->figures.n_contexts--;
        wipe(held, sizeof(*held));
        free(held);
}

static void kid_free(struct oscore *oscore, struct kid *kid) {
        struct held *held;

        while ((held = TAILQ_FIRST(&kid->contexts)))
                held_free(oscore, kid, held);
        HASH_DEL(oscore->table, kid);
        TAILQ_REMOVE(&oscore->kids, kid, link);
        free(kid);
}

/* A context that goes takes its window along: an Echo makes it anew. */
static void make_room(struct oscore *oscore, const struct kid *but) {
        struct kid *kid, *next;

        for (kid = TAILQ_FIRST(&oscore->kids); kid && oscore->figures.n_contexts > oscore->contexts_max; kid = next) {
                next = TAILQ_NEXT(kid, link);
                if (kid == but)
                        continue;
                oscore->figures.n_evicted++;
                kid_free(oscore, kid);
        }
}

static struct kid *kid_new(struct oscore *oscore, const struct oscore_id *id) {
        struct kid *kid = calloc(1, sizeof(*kid));
        unsigned hash = kid_hash(oscore, id);

        if (!kid)
                return NULL;
        kid->id = *id;
        TAILQ_INIT(&kid->contexts);
        HASH_ADD_KEYPTR_BYHASHVALUE(hh, oscore->table, kid->id.data, kid->id.size, hash, kid);
        if (!kid->hh.tbl) {
                free(kid);
                return NULL;
        }
        TAILQ_INSERT_TAIL(&oscore->kids, kid, link);
        return kid;
}

struct loading {
        struct oscore *oscore;
        struct kid *kid;
        unsigned n;
};

static int on_found(void *context, const struct oscore_context *loaded) {
        struct loading *loading = context;
        struct oscore *oscore = loading->oscore;
        struct held *held;

        if (loading->n++ == OSCORE_CANDIDATES_MAX)
                return -E2BIG;
        held = calloc(1, sizeof(*held));
        if (!held)
                return -ENOMEM;
        held->context = *loaded;
        held->context.window_known = false;
        held->context.window = (struct oscore_window){};
        held->context.n_load = oscore->figures.n_loaded++;
        held->context.generation = oscore->callbacks.generation(oscore->callbacks.context);
        TAILQ_INSERT_TAIL(&loading->kid->contexts, held, sibling);
        oscore->figures.n_contexts++;
        return 0;
}

/* A kid that nobody has leaves nothing behind: strangers may ask for any. */
static int kid_load(struct oscore *oscore, const struct oscore_id *id, struct kid **ret) {
        struct loading loading = { .oscore = oscore, .kid = kid_new(oscore, id) };
        int r;

        *ret = NULL;
        if (!loading.kid)
                return -ENOMEM;
        r = oscore->callbacks.load(oscore->callbacks.context, bytes_of(id->data, id->size), on_found, &loading);
        if (r != 0 || TAILQ_EMPTY(&loading.kid->contexts)) {
                kid_free(oscore, loading.kid);
                return r;
        }
        *ret = loading.kid;
        make_room(oscore, loading.kid);
        return 0;
}

/* Credentials that were changed or removed are not believed any more; those that came meanwhile are looked for. */
static bool is_current(struct oscore *oscore, const struct kid *kid) {
        uint64_t generation = oscore->callbacks.generation(oscore->callbacks.context);
        struct held *held;

        TAILQ_FOREACH(held, &kid->contexts, sibling)
                if (held->context.generation != generation)
                        return false;
        return true;
}

static void refresh(struct oscore *oscore, struct kid *kid) {
        struct held *held, *next;

        for (held = TAILQ_FIRST(&kid->contexts); held; held = next) {
                next = TAILQ_NEXT(held, sibling);
                if (!oscore->callbacks.is_good(oscore->callbacks.context, &held->context))
                        held_free(oscore, kid, held);
                else
                        held->context.generation = oscore->callbacks.generation(oscore->callbacks.context);
        }
}

/* Contexts of a kid that are held are all that there are but after a change: then those that were added come too. */
static int on_found_more(void *context, const struct oscore_context *loaded) {
        struct loading *loading = context;
        struct held *held;

        TAILQ_FOREACH(held, &loading->kid->contexts, sibling)
                if (held->context.credential_id == loaded->credential_id)
                        return 0;
        return on_found(context, loaded);
}

static int kid_refresh(struct oscore *oscore, struct kid *kid) {
        struct loading loading = { .oscore = oscore, .kid = kid };
        int r;

        refresh(oscore, kid);
        r = oscore->callbacks.load(oscore->callbacks.context, bytes_of(kid->id.data, kid->id.size), on_found_more,
                                   &loading);
        make_room(oscore, kid);
        return r;
}

/* *ret NULL: nobody has it. 0, < 0. */
static int kid_get(struct oscore *oscore, const struct oscore_id *id, struct kid **ret) {
        struct kid *kid = kid_find(oscore, id);
        int r;

        *ret = NULL;
        if (!kid)
                return kid_load(oscore, id, ret);
        if (!is_current(oscore, kid) && (r = kid_refresh(oscore, kid)) != 0)
                return r;
        if (TAILQ_EMPTY(&kid->contexts)) {
                kid_free(oscore, kid);
                return 0;
        }
        TAILQ_REMOVE(&oscore->kids, kid, link);
        TAILQ_INSERT_TAIL(&oscore->kids, kid, link);
        *ret = kid;
        return 0;
}

/* ---- Echo (RFC 9175 §2.3): when it was given, and a MAC over that and over the context that was loaded then */

struct echo_text {
        int64_t at_us, credential_id;
        uint64_t n_load;
};

static void echo_make(const struct oscore *oscore, const struct oscore_context *context, int64_t at_us,
                      uint8_t ret[static OSCORE_ECHO_SIZE]) {
        const struct echo_text text = { at_us, context->credential_id, context->n_load };
        uint64_t mac = siphash(oscore->echo_key, bytes_of(&text, sizeof(text)));

        memcpy(ret, &at_us, sizeof(at_us));
        memcpy(ret + sizeof(at_us), &mac, sizeof(mac));
}

static bool echo_is_fresh(const struct oscore *oscore, const struct oscore_context *context,
                          const struct coap_message *inner, int64_t now_us) {
        const struct coap_option *echo = coap_message_option(inner, OPTION_ECHO, 0);
        uint8_t wanted[OSCORE_ECHO_SIZE];
        int64_t at_us;

        if (!echo || echo->value.size != OSCORE_ECHO_SIZE)
                return false;
        memcpy(&at_us, echo->value.data, sizeof(at_us));
        echo_make(oscore, context, at_us, wanted);
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

static bool context_fits(const struct oscore_context *context, const struct oscore_option *option) {
        if (!option->kid_context.data)
                return true; /* it may be left out (§5.1) */
        return context->has_id_context &&
               bytes_equal(option->kid_context, bytes_of(context->id_context, context->id_context_size));
}

/* What a request came to, against one context after the other. */
struct trial {
        const struct coap_message *outer;
        struct oscore_option option;
        uint64_t piv;
        unsigned n_fit, n_replayed;
        int result; /* of the last that was decrypted */
};

/* The context that it decrypts under; NULL: none, and *trial says why. */
static struct oscore_context *try_contexts(struct kid *kid, struct trial *trial, struct buf *plain,
                                           struct oscore_taken *ret) {
        struct held *held;

        trial->result = -EBADMSG;
        TAILQ_FOREACH(held, &kid->contexts, sibling) {
                struct oscore_context *context = &held->context;

                if (!context_fits(context, &trial->option))
                        continue;
                trial->n_fit++;
                if (context->window_known && !oscore_window_accepts(&context->window, trial->piv)) {
                        trial->n_replayed++;
                        continue;
                }
                buf_clear(plain);
                trial->result = oscore_unprotect_request(&context->keys, &trial->option, trial->outer, plain,
                                                         &ret->inner, &ret->binding.request);
                if (trial->result != -EBADMSG)
                        return context;
        }
        return NULL;
}

static enum oscore_verdict ask_for_echo(struct oscore *oscore, const struct oscore_context *context,
                                        struct engine_time now, struct oscore_taken *ret) {
        oscore->figures.n_echoes++;
        echo_make(oscore, context, now.monotonic_us, ret->echo);
        ret->inner = (struct coap_message){ .code = CODE_UNAUTHORIZED };
        (void)coap_message_add(&ret->inner, OPTION_ECHO, bytes_of(ret->echo, sizeof(ret->echo))); /* the first: fits */
        ret->binding.nonce_is_spent = true; /* Appendix B.1.2: with a number of our own */
        return OSCORE_ECHO;
}

/* It decrypted: it is from whom the context says, and was not there before, or an Echo has to show that. */
static enum oscore_verdict take_in(struct oscore *oscore, struct oscore_context *context, const struct trial *trial,
                                  struct engine_time now, struct oscore_taken *ret) {
        ret->client_id = context->client_id;
        ret->server_id = context->server_id;
        ret->binding.credential_id = context->credential_id;
        ret->binding.kid = context->keys.recipient_id;
        ret->binding.nonce_is_spent = false;
        if (!context->window_known) {
                if (trial->result != 0 || !echo_is_fresh(oscore, context, &ret->inner, now.monotonic_us))
                        return ask_for_echo(oscore, context, now, ret);
                context->window_known = true;
                context->window = (struct oscore_window){ .next = trial->piv, .seen = UINT32_MAX };
        }
        oscore_window_mark(&context->window, trial->piv);
        oscore->figures.n_requests++;
        return OSCORE_REQUEST;
}

enum oscore_verdict oscore_take(struct oscore *oscore, const struct coap_message *outer, struct engine_time now,
                                struct buf *plain, struct oscore_taken *ret) {
        const struct coap_option *value = coap_message_option(outer, OPTION_OSCORE, 0);
        struct oscore_figures *figures = &oscore->figures;
        struct trial trial = { .outer = outer };
        struct oscore_context *context;
        struct oscore_id id = {};
        struct kid *kid;

        *ret = (struct oscore_taken){};
        if (!value || coap_message_option(outer, OPTION_OSCORE, 1) || outer->payload.size == 0 ||
            oscore_option_decode(value->value, &trial.option) != 0 || !trial.option.piv.data || !trial.option.kid.data)
                return say(ret, CODE_BAD_OPTION, "Failed to decode COSE", &figures->n_undecodable);
        if (trial.option.kid.size > sizeof(id.data))
                return say(ret, CODE_UNAUTHORIZED, "Security context not found", &figures->n_unknown);
        id.size = trial.option.kid.size;
        if (id.size > 0)
                memcpy(id.data, trial.option.kid.data, id.size);
        if (kid_get(oscore, &id, &kid) != 0)
                return OSCORE_DROP;
        trial.piv = oscore_piv_decode(trial.option.piv);
        context = kid ? try_contexts(kid, &trial, plain, ret) : NULL;
        if (!context && trial.n_fit == 0)
                return say(ret, CODE_UNAUTHORIZED, "Security context not found", &figures->n_unknown);
        if (!context && trial.n_replayed == trial.n_fit)
                return say(ret, CODE_UNAUTHORIZED, "Replay detected", &figures->n_replayed);
        if (!context)
                return say(ret, CODE_BAD_REQUEST, "Decryption failed", &figures->n_undecryptable);
        if (trial.result < 0)
                return OSCORE_DROP;
        if (trial.result > 0) { /* by who has the key, so that no more than this is said, and the number is spent */
                if (context->window_known)
                        oscore_window_mark(&context->window, trial.piv);
                return say(ret, CODE_BAD_REQUEST, "Decryption failed", &figures->n_undecryptable);
        }
        return take_in(oscore, context, &trial, now, ret);
}

/* ---- protecting a response */

static struct oscore_context *context_of(const struct oscore *oscore, const struct oscore_binding *binding) {
        struct kid *kid = kid_find(oscore, &binding->kid);
        struct held *held;

        if (!kid)
                return NULL;
        TAILQ_FOREACH(held, &kid->contexts, sibling)
                if (held->context.credential_id == binding->credential_id)
                        return &held->context;
        return NULL;
}

/* Appendix B.1.1 with a store that is on disk before anything is sent: what a crash leaves unused is never used. */
static int next_piv(struct oscore *oscore, uint64_t *ret) {
        uint64_t first;
        int r;

        if (oscore->piv_next == oscore->piv_end) {
                r = oscore->callbacks.lease(oscore->callbacks.context, OSCORE_PIV_LEASE, &first);
                if (r != 0)
                        return r < 0 ? r : -EDQUOT;
                oscore->piv_next = first;
                oscore->piv_end = first + OSCORE_PIV_LEASE;
        }
        if (oscore->piv_next > OSCORE_PIV_MAX)
                return -EDQUOT;
        *ret = oscore->piv_next++;
        return 0;
}

int oscore_protect(struct oscore *oscore, struct oscore_binding *binding, bool own_number,
                   const struct coap_message *inner, struct oscore_outer *ret) {
        struct oscore_context *context = context_of(oscore, binding);
        bool needs_number = own_number || binding->nonce_is_spent;
        uint64_t piv;
        int r;

        if (!context)
                return -ENOENT;
        if (needs_number && (r = next_piv(oscore, &piv)) != 0)
                return r;
        if (!needs_number)
                binding->nonce_is_spent = true; /* before it is used: what fails is not tried under it again */
        return oscore_protect_response(&context->keys, &binding->request, needs_number ? &piv : NULL, inner, ret);
}

/* ---- the whole */

int oscore_new(const struct oscore_callbacks *callbacks, size_t contexts_max, struct oscore **ret) {
        _cleanup_(oscore_freep) struct oscore *oscore = calloc(1, sizeof(*oscore));

        if (!oscore)
                return -ENOMEM;
        oscore->callbacks = *callbacks;
        oscore->contexts_max = contexts_max;
        TAILQ_INIT(&oscore->kids);
        if (random_bytes(oscore->hash_key, sizeof(oscore->hash_key)) != 0 ||
            random_bytes(oscore->echo_key, sizeof(oscore->echo_key)) != 0)
                return -EIO;
        *ret = TAKE_PTR(oscore);
        return 0;
}

void oscore_free(struct oscore *oscore) {
        struct kid *kid;

        if (!oscore)
                return;
        while ((kid = TAILQ_FIRST(&oscore->kids)))
                kid_free(oscore, kid);
        wipe(oscore->echo_key, sizeof(oscore->echo_key));
        free(oscore);
}

void oscore_set_limit(struct oscore *oscore, size_t contexts_max) {
        oscore->contexts_max = contexts_max;
        make_room(oscore, NULL);
}

void oscore_figures(const struct oscore *oscore, struct oscore_figures *ret) {
        *ret = oscore->figures;
}
