#pragma once

#include "format/oscore.h"
#include "transport/engine.h"

/*
 * OSCORE (RFC 8613) between the message layer and who answers requests, without sockets: finds the context that a
 * request is protected under, sees to it that no request is taken twice and no number of ours is used twice, and says
 * no as §8.2 wants it. Contexts come from the store when they are first asked for; there are at most contexts_max in
 * memory, of which the least recently used goes.
 *
 * A context that was just loaded does not know which requests were seen before. Its first request is decrypted but not
 * handed on: it is answered 4.01 with an Echo value (Appendix B.1.2), and what comes back with that value begins the
 * replay window.
 */
struct oscore;

#define OSCORE_PIV_LEASE 65536    /* numbers of ours that are leased at once, durably, before the first is used */
#define OSCORE_ECHO_LIFE_US (60 * INT64_C(1000000))
#define OSCORE_ECHO_SIZE 16

/* One context, in what stays in memory of it. */
struct oscore_context {
        int64_t credential_id, client_id, server_id;
        struct oscore_keys keys;
        size_t id_context_size;
        bool has_id_context;
        uint8_t id_context[OSCORE_ID_CONTEXT_SIZE_MAX];
        bool window_known;
        struct oscore_window window;
        uint64_t n_load;            /* how many were loaded before: an Echo value is good for this one alone */
        uint64_t generation;        /* when is_good() said so */
};

struct oscore_callbacks {
        void *context;
        /*
         * Hand every context of whose Recipient ID kid is, at most OSCORE_CANDIDATES_MAX, to found() with the ids, keys and
         * id_context filled in. 0; < 0: something broke. > 0 is not expected.
         */
        int (*load)(void *context, struct bytes kid,
                    int (*found)(void *found_context, const struct oscore_context *loaded), void *found_context);
        /*
         * Numbers for responses: [*ret_first, *ret_first + n), on disk before this returns. No context has numbers of
         * its own, so that none is used twice under any key. 0, < 0; > 0: there are none left.
         */
        int (*lease)(void *context, uint64_t n, uint64_t *ret_first);
        /* Is there still such a credential, as it was? Asked after generation() has changed; false: the context goes. */
        bool (*is_good)(void *context, const struct oscore_context *loaded);
        /* Counts up whenever credentials change. */
        uint64_t (*generation)(void *context);
};

/* 0, -ENOMEM, -EIO (no randomness). */
int oscore_new(const struct oscore_callbacks *callbacks, size_t contexts_max, struct oscore **ret);
void oscore_free(struct oscore *oscore);
void oscore_set_limit(struct oscore *oscore, size_t contexts_max);
/* What a response has to be protected with: kept until it is, for an observation as long as that goes on. */
struct oscore_binding {
        int64_t credential_id;
        struct oscore_id kid;      /* of the context: its Recipient ID … */
        struct oscore_request request;
        bool nonce_is_spent;       /* the request's was used for a response: the next ones need numbers of their own */
};

enum oscore_verdict {
        OSCORE_REQUEST, /* *ret_inner is the request; it borrows from *plain and from outer */
        OSCORE_ANSWER,  /* answer with *ret_inner, unprotected */
        OSCORE_ECHO,    /* answer with *ret_inner, protected: 4.01 and an Echo value */
        OSCORE_DROP,    /* nothing is said: memory is short or the store broke */
};

struct oscore_taken {
        struct coap_message inner;
        struct oscore_binding binding;
        int64_t client_id, server_id;  /* whose the context is */
        uint8_t echo[OSCORE_ECHO_SIZE];
};

/* A request with an OSCORE option. plain: BUF_INIT() by the caller, who wipes and frees it. */
enum oscore_verdict oscore_take(struct oscore *oscore, const struct coap_message *outer, struct engine_time now,
                                struct buf *plain, struct oscore_taken *ret);

/*
 * Protect a response; own_number for a notification. What is said to one request once more gets a number of our own in any
 * case. 0; -ENOENT: the context is gone; -EDQUOT: it has no numbers left (§7.2.1); as oscore_protect_response().
 */
int oscore_protect(struct oscore *oscore, struct oscore_binding *binding, bool own_number,
                   const struct coap_message *inner, struct oscore_outer *ret);

struct oscore_figures {
        uint64_t n_contexts, n_loaded, n_evicted;
        uint64_t n_requests, n_undecodable, n_unknown, n_replayed, n_undecryptable, n_echoes;
};
void oscore_figures(const struct oscore *oscore, struct oscore_figures *ret);
