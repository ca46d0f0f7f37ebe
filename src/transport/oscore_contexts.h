#pragma once

#include <sys/queue.h>

#include "base/siphash.h"
#include "base/table.h"
#include "transport/oscore.h"

/*
 * The contexts that transport/oscore.c holds in memory, found by kid; of which the least recently used kids go when
 * they are too many. All contexts of a kid are loaded at once, so that those in memory are those that there are, and
 * loaded again, by one look at the store, when the kid is next asked for after credentials have changed.
 */

/* One context. */
struct oscore_held {
        int64_t credential_id, client_id, server_id;
        struct oscore_keys keys;
        struct oscore_window window;
        uint64_t keys_mark;     /* which keys: a keyed hash of all that they were derived from */
        uint64_t n_load;        /* how many were before: an Echo value or R2 is good for this one, from here on */
        bool window_known;      /* which requests were seen before? */
        bool renews, has_id_context;
        bool is_confirmed;      /* in the load that is going on */
        uint8_t id_context_size;
        uint8_t id_context[OSCORE_ID_CONTEXT_SIZE_MAX]; /* in force */
        TAILQ_ENTRY(oscore_held) sibling;
};

/* The contexts of one kid: at most OSCORE_CANDIDATES_MAX. */
struct oscore_kid {
        struct oscore_id id;
        uint64_t generation; /* when they were loaded */
        bool is_used;        /* oscore_contexts_used() */
        TAILQ_HEAD(, oscore_held) contexts;
        TAILQ_ENTRY(oscore_kid) link; /* by last use; before those, what was never used, the latest first */
        UT_hash_handle hh;
};

struct oscore_contexts {
        struct oscore_callbacks callbacks;
        size_t contexts_max;
        struct oscore_kid *table;
        TAILQ_HEAD(, oscore_kid) kids; /* least recently used first */
        struct aead *aead; /* what all keys share */
        uint8_t hash_key[SIPHASH_KEY_SIZE];
        struct oscore_kid *sweep; /* the next to be looked at; NULL: no sweep is under way */
        uint64_t swept;           /* the generation that the last sweep began in */
        size_t n_held;
        uint64_t n_loaded, n_evicted;
};

/* 0, -ENOMEM, -EIO (no randomness). oscore_contexts_done() in any case. */
int oscore_contexts_init(struct oscore_contexts *contexts, const struct oscore_callbacks *callbacks,
                         size_t contexts_max);
/* Wipes them. */
void oscore_contexts_done(struct oscore_contexts *contexts);
void oscore_contexts_set_limit(struct oscore_contexts *contexts, size_t contexts_max);

/*
 * Keys of who is gone are not kept because nobody asks for them: when credentials have changed, look at all kids, at
 * most n_max in one call. True: there are more.
 */
bool oscore_contexts_sweep(struct oscore_contexts *contexts, size_t n_max);

/* The one of this credential, if it is there, is wiped. */
void oscore_contexts_forget(struct oscore_contexts *contexts, int64_t credential_id, struct bytes kid);

/* As they are now. *ret NULL: nobody has this kid. 0, -ENOMEM, < 0 as callbacks.load(). */
int oscore_contexts_get(struct oscore_contexts *contexts, const struct oscore_id *id, struct oscore_kid **ret);
/*
 * One of the kid's contexts was used, by who has its key. That somebody asked for a kid is no use of it: strangers see
 * many, and what they ask for makes no context go that is used, whose window would go along.
 */
void oscore_contexts_used(struct oscore_contexts *contexts, struct oscore_kid *kid);

/* Which one of the kid's this is that callbacks.load() hands over; NULL: it is not in memory as it is now. */
struct oscore_held *oscore_contexts_which(const struct oscore_contexts *contexts, const struct oscore_kid *kid,
                                          const struct oscore_context *loaded);
/* That which a binding was made for; NULL: it is gone, or has other keys now. */
struct oscore_held *oscore_contexts_bound(const struct oscore_kid *kid, const struct oscore_binding *binding);

/*
 * From now on it has these keys (*keys is wiped) and the ID Context that they were derived with (a renewal). Its window
 * begins at piv: everything below counts as seen.
 */
void oscore_contexts_renew(struct oscore_contexts *contexts, struct oscore_kid *kid, struct oscore_held *held,
                           struct bytes id_context, uint64_t keys_mark, struct oscore_keys *keys);
/* A keyed hash of it: for one that was loaded with another ID Context. */
uint64_t oscore_contexts_mark(const struct oscore_contexts *contexts, const struct oscore_input *input,
                              struct bytes id_context);
