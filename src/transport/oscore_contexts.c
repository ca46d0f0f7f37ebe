#include "transport/oscore_contexts.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "crypto/random.h"

#define LOADED_ENOUGH 1
/* What goes into a mark: sizes, numbers, and all that input borrows. */
#define MARK_SIZE_MAX (sizeof(struct mark_head) + SECRET_SIZE_MAX + OSCORE_SALT_SIZE_MAX + \
                       OSCORE_ID_CONTEXT_SIZE_MAX + 2 * OSCORE_ID_SIZE_MAX)

struct mark_head {
        uint64_t alg, hkdf, has_id_context;
        uint64_t sizes[5];
};

/* Keyed: anybody may ask for any kid. */
static unsigned kid_hash(const struct oscore_contexts *contexts, const struct oscore_id *id) {
        return (unsigned)siphash(contexts->hash_key, bytes_of(id->data, id->size));
}

static struct oscore_kid *kid_find(const struct oscore_contexts *contexts, const struct oscore_id *id) {
        struct oscore_kid *kid;
        unsigned hash = kid_hash(contexts, id);

        HASH_FIND_BYHASHVALUE(hh, contexts->table, id->data, id->size, hash, kid);
        return kid;
}

static void held_free(struct oscore_contexts *contexts, struct oscore_kid *kid, struct oscore_held *held) {
        TAILQ_REMOVE(&kid->contexts, held, sibling);
        contexts->n_held--;
        wipe(held, sizeof(*held));
        free(held);
}

static void kid_unlink(struct oscore_contexts *contexts, struct oscore_kid *kid) {
        if (contexts->sweep == kid)
                contexts->sweep = TAILQ_NEXT(kid, link);
        TAILQ_REMOVE(&contexts->kids, kid, link);
}

static void kid_free(struct oscore_contexts *contexts, struct oscore_kid *kid) {
        struct oscore_held *held;

        while ((held = TAILQ_FIRST(&kid->contexts)))
                held_free(contexts, kid, held);
        HASH_DEL(contexts->table, kid);
        kid_unlink(contexts, kid);
        free(kid);
}

static struct oscore_kid *kid_new(struct oscore_contexts *contexts, const struct oscore_id *id) {
        struct oscore_kid *kid = calloc(1, sizeof(*kid));
        unsigned hash = kid_hash(contexts, id);

        if (!kid)
                return NULL;
        kid->id = *id;
        TAILQ_INIT(&kid->contexts);
        HASH_ADD_KEYPTR_BYHASHVALUE(hh, contexts->table, kid->id.data, kid->id.size, hash, kid);
        if (!kid->hh.tbl) {
                free(kid);
                return NULL;
        }
        TAILQ_INSERT_HEAD(&contexts->kids, kid, link);
        return kid;
}

/*
 * A context that goes takes its window along: an Echo makes it anew. So many more than contexts_max may be there while
 * it is not known whether *but will be used.
 */
static void make_room(struct oscore_contexts *contexts, const struct oscore_kid *but, size_t n_more) {
        size_t max = contexts->contexts_max + n_more;
        struct oscore_kid *kid, *next;

        for (kid = TAILQ_FIRST(&contexts->kids); kid && contexts->n_held > max; kid = next) {
                next = TAILQ_NEXT(kid, link);
                if (kid == but)
                        continue;
                contexts->n_evicted++;
                kid_free(contexts, kid);
        }
}

/* ---- loading */

uint64_t oscore_contexts_mark(const struct oscore_contexts *contexts, const struct oscore_input *input,
                              struct bytes id_context) {
        const struct bytes parts[] = { input->master_secret, input->master_salt, id_context, input->sender_id,
                                       input->recipient_id };
        struct mark_head head = { input->alg, input->hkdf, id_context.data != NULL, {} };
        uint8_t text[MARK_SIZE_MAX];
        size_t size = sizeof(head);
        uint64_t mark;

        for (size_t i = 0; i < N_ELEMENTS(parts); i++) {
                head.sizes[i] = parts[i].size;
                if (parts[i].size == 0 || parts[i].size > sizeof(text) - size)
                        continue; /* no context has more: there is nothing to tell apart by it */
                memcpy(text + size, parts[i].data, parts[i].size);
                size += parts[i].size;
        }
        memcpy(text, &head, sizeof(head));
        mark = siphash(contexts->hash_key, bytes_of(text, size));
        wipe(text, sizeof(text));
        return mark;
}

static struct oscore_held *held_find(const struct oscore_kid *kid, int64_t credential_id, uint64_t keys_mark) {
        struct oscore_held *held;

        TAILQ_FOREACH(held, &kid->contexts, sibling)
                if (held->credential_id == credential_id && held->keys_mark == keys_mark)
                        return held;
        return NULL;
}

static void set_id_context(struct oscore_held *held, struct bytes id_context) {
        held->has_id_context = id_context.data != NULL;
        held->id_context_size = (uint8_t)id_context.size;
        if (id_context.size > 0)
                memcpy(held->id_context, id_context.data, id_context.size);
}

static int held_new(struct oscore_contexts *contexts, struct oscore_kid *kid, const struct oscore_context *loaded,
                    uint64_t keys_mark, struct oscore_held **ret) {
        struct oscore_held *held = calloc(1, sizeof(*held));
        int r;

        if (!held)
                return -ENOMEM;
        r = oscore_derive(&loaded->input, &held->keys);
        if (r != 0) {
                free(held);
                return r;
        }
        held->keys.aead = contexts->aead;
        held->credential_id = loaded->credential_id;
        held->keys_mark = keys_mark;
        held->n_load = contexts->n_loaded++;
        set_id_context(held, loaded->input.id_context);
        TAILQ_INSERT_TAIL(&kid->contexts, held, sibling);
        contexts->n_held++;
        *ret = held;
        return 0;
}

struct loading {
        struct oscore_contexts *contexts;
        struct oscore_kid *kid;
        unsigned n;
};

/* Credentials' numbers may come again, so that a context is the one that it was only if it has the same keys. */
static int on_found(void *context, const struct oscore_context *loaded) {
        struct loading *loading = context;
        struct oscore_contexts *contexts = loading->contexts;
        uint64_t keys_mark = oscore_contexts_mark(contexts, &loaded->input, loaded->input.id_context);
        struct oscore_held *held = held_find(loading->kid, loaded->credential_id, keys_mark);
        int r;

        if (loading->n++ == OSCORE_CANDIDATES_MAX)
                return LOADED_ENOUGH;
        if (!held && (r = held_new(contexts, loading->kid, loaded, keys_mark, &held)) != 0)
                return r;
        held->client_id = loaded->client_id;
        held->server_id = loaded->server_id;
        held->renews = loaded->renews;
        held->is_confirmed = true;
        return 0;
}

/* Those that are no more go, those that came are added, the others stay as they are. < 0: some are missing. */
static int kid_load(struct oscore_contexts *contexts, struct oscore_kid *kid) {
        const struct oscore_callbacks *callbacks = &contexts->callbacks;
        struct loading loading = { .contexts = contexts, .kid = kid };
        uint64_t generation = callbacks->generation(callbacks->context);
        struct oscore_held *held, *next;
        int r;

        TAILQ_FOREACH(held, &kid->contexts, sibling)
                held->is_confirmed = false;
        r = callbacks->load(callbacks->context, bytes_of(kid->id.data, kid->id.size), on_found, &loading);
        if (r < 0)
                return r;
        for (held = TAILQ_FIRST(&kid->contexts); held; held = next) {
                next = TAILQ_NEXT(held, sibling);
                if (!held->is_confirmed)
                        held_free(contexts, kid, held);
        }
        kid->generation = generation;
        return 0;
}

int oscore_contexts_get(struct oscore_contexts *contexts, const struct oscore_id *id, struct oscore_kid **ret) {
        const struct oscore_callbacks *callbacks = &contexts->callbacks;
        struct oscore_kid *kid = kid_find(contexts, id);
        bool is_new = !kid;
        int r = 0;

        *ret = NULL;
        if (is_new && !(kid = kid_new(contexts, id)))
                return -ENOMEM;
        if (is_new || kid->generation != callbacks->generation(callbacks->context))
                r = kid_load(contexts, kid);
        /* A kid that nobody has leaves nothing behind: strangers may ask for any */
        if (TAILQ_EMPTY(&kid->contexts) || (r != 0 && is_new)) {
                kid_free(contexts, kid);
                return r;
        }
        make_room(contexts, kid, kid->is_used ? 0 : OSCORE_CANDIDATES_MAX);
        if (r == 0)
                *ret = kid;
        return r;
}

void oscore_contexts_used(struct oscore_contexts *contexts, struct oscore_kid *kid) {
        kid_unlink(contexts, kid); /* it has been looked at: a sweep need not find it again */
        TAILQ_INSERT_TAIL(&contexts->kids, kid, link);
        kid->is_used = true;
        make_room(contexts, kid, 0);
}

bool oscore_contexts_sweep(struct oscore_contexts *contexts, size_t n_max) {
        uint64_t generation = contexts->callbacks.generation(contexts->callbacks.context);

        if (!contexts->sweep && contexts->swept != generation) {
                contexts->sweep = TAILQ_FIRST(&contexts->kids);
                contexts->swept = generation;
                aead_forget(contexts->aead); /* the last key may be of one that has gone, which is not used again */
        }
        for (size_t n = 0; contexts->sweep && n < n_max; n++) {
                struct oscore_kid *kid = contexts->sweep;

                contexts->sweep = TAILQ_NEXT(kid, link);
                if (kid->generation != generation && kid_load(contexts, kid) != 0) {
                        contexts->sweep = NULL;
                        contexts->swept = generation - 1; /* the store is broken: from the beginning, another time */
                        return false;
                }
                if (TAILQ_EMPTY(&kid->contexts))
                        kid_free(contexts, kid);
        }
        return contexts->sweep || contexts->swept != generation;
}

void oscore_contexts_forget(struct oscore_contexts *contexts, int64_t credential_id, struct bytes kid) {
        struct oscore_held *held, *next;
        struct oscore_kid *found;
        struct oscore_id id = {};

        if (kid.size > sizeof(id.data))
                return;
        id.size = kid.size;
        if (kid.size > 0)
                memcpy(id.data, kid.data, kid.size);
        aead_forget(contexts->aead); /* its key may be the last that was used, even if it had to make room since then */
        found = kid_find(contexts, &id);
        if (!found)
                return;
        for (held = TAILQ_FIRST(&found->contexts); held; held = next) {
                next = TAILQ_NEXT(held, sibling);
                if (held->credential_id == credential_id)
                        held_free(contexts, found, held);
        }
        if (TAILQ_EMPTY(&found->contexts))
                kid_free(contexts, found);
}

struct oscore_held *oscore_contexts_which(const struct oscore_contexts *contexts, const struct oscore_kid *kid,
                                          const struct oscore_context *loaded) {
        return held_find(kid, loaded->credential_id,
                         oscore_contexts_mark(contexts, &loaded->input, loaded->input.id_context));
}

struct oscore_held *oscore_contexts_bound(const struct oscore_kid *kid, const struct oscore_binding *binding) {
        return held_find(kid, binding->credential_id, binding->keys_mark);
}

void oscore_contexts_renew(struct oscore_contexts *contexts, struct oscore_kid *kid, struct oscore_held *held,
                           struct bytes id_context, uint64_t keys_mark, struct oscore_keys *keys) {
        const struct oscore_callbacks *callbacks = &contexts->callbacks;

        held->keys = *keys;
        aead_forget(contexts->aead); /* the former keys are not to stay there */
        held->keys.aead = contexts->aead;
        oscore_keys_done(keys);
        held->keys_mark = keys_mark;
        held->n_load = contexts->n_loaded++;
        held->window_known = false;
        set_id_context(held, id_context);
        kid->generation = callbacks->generation(callbacks->context); /* which this may have counted up */
}

/* ---- the whole */

int oscore_contexts_init(struct oscore_contexts *contexts, const struct oscore_callbacks *callbacks,
                         size_t contexts_max) {
        *contexts = (struct oscore_contexts){ .callbacks = *callbacks, .contexts_max = contexts_max };
        TAILQ_INIT(&contexts->kids);
        contexts->aead = aead_new();
        if (!contexts->aead)
                return -ENOMEM;
        return random_bytes(contexts->hash_key, sizeof(contexts->hash_key)) == 0 ? 0 : -EIO;
}

void oscore_contexts_done(struct oscore_contexts *contexts) {
        struct oscore_kid *kid;

        while ((kid = TAILQ_FIRST(&contexts->kids)))
                kid_free(contexts, kid);
        aead_free(contexts->aead);
        wipe(contexts->hash_key, sizeof(contexts->hash_key));
}

void oscore_contexts_set_limit(struct oscore_contexts *contexts, size_t contexts_max) {
        contexts->contexts_max = contexts_max;
        make_room(contexts, NULL, 0);
}
