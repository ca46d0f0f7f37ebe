#pragma once

#include "format/oscore.h"
#include "transport/engine_time.h"

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
#define OSCORE_SWEEP 64           /* kids that are looked at in one go: a millisecond */
#define OSCORE_ECHO_LIFE_US (60 * INT64_C(1000000))
#define OSCORE_ECHO_SIZE 16

/*
 * Renewal (Appendix B.2), of contexts that may: who has the Master Secret but has lost the rest begins with a random
 * R1 as ID Context, is answered 4.01 under R2 || R1, and goes on under R2 || R3, which is the context from then on and
 * replaces the former one. We keep nothing of a run but that: R2 = S2 || MAC(S2, the context, the time), with a key of
 * this process, so that our own are known again; they are good for the context that was in force when they were made
 * and until their time has passed, which is why no request of a renewal can be taken twice.
 *
 * Request 1 can be sent again by whoever has heard it once. There is no limit of these for each context, as that would
 * be one for the device, too, which he could keep used up; the answer is as cheap as the trial before it, and opens
 * nothing. Trials are limited, of all contexts together.
 */
#define OSCORE_R2_SIZE 16
#define OSCORE_TRIALS_MAX 1000            /* requests with an unknown ID Context per second that we derive keys for */

/* One context as it is known elsewhere. */
struct oscore_context {
        int64_t credential_id, client_id, server_id;
        bool renews;
        struct oscore_input input; /* id_context: the one in force; borrowed, valid during the call */
};

struct oscore_callbacks {
        void *context;
        /*
         * Hand every context of whose Recipient ID kid is to found(), oldest first. What found() returns other than 0
         * ends it and is returned. 0; < 0: something broke.
         */
        int (*load)(void *context, struct bytes kid,
                    int (*found)(void *found_context, const struct oscore_context *loaded), void *found_context);
        /*
         * Numbers for responses: [*ret_first, *ret_first + n), on disk before this returns. No context has numbers of
         * its own, so that none is used twice under any key. 0, < 0; > 0: there are none left.
         */
        int (*lease)(void *context, uint64_t n, uint64_t *ret_first);
        /* Counts up when numbers that were leased before are not to be used any more. */
        uint64_t (*epoch)(void *context);
        /*
         * id_context is the ID Context in force from now on, on disk before this returns. 0; < 0: something broke; > 0:
         * there is no such credential any more, or another context has this kid and ID Context.
         */
        int (*renew)(void *context, int64_t credential_id, struct bytes id_context);
        /* Counts up whenever credentials change: then contexts are loaded again when they are next asked for. */
        uint64_t (*generation)(void *context);
};

/* 0, -ENOMEM, -EIO (no randomness). */
int oscore_new(const struct oscore_callbacks *callbacks, size_t contexts_max, struct oscore **ret);
void oscore_free(struct oscore *oscore);
void oscore_set_limit(struct oscore *oscore, size_t contexts_max);
/*
 * The credential goes: its context is wiped at once, and the others of the kid stay as they are. Not from within a
 * callback. oscore_sweep() finds what nobody told of.
 */
void oscore_forget(struct oscore *oscore, int64_t credential_id, struct bytes kid);
/* To be called now and then, and soon again when it returns true: contexts whose credentials have gone are wiped. */
bool oscore_sweep(struct oscore *oscore);
/* What a response has to be protected with: kept until it is, for an observation as long as that goes on. */
struct oscore_binding {
        int64_t credential_id;
        struct oscore_id kid;      /* of the context: its Recipient ID … */
        uint64_t keys_mark;        /* … and keys: those of before a renewal are gone */
        uint64_t renewal;          /* not 0: this is response 1 of one, in the context that was made for it */
        struct oscore_request request;
        bool nonce_is_spent;       /* the request's was used for a response: the next ones need numbers of their own */
};

enum oscore_verdict {
        OSCORE_REQUEST, /* *ret_inner is the request; it borrows from *plain and from outer */
        OSCORE_ANSWER,  /* answer with *ret_inner, unprotected */
        OSCORE_ECHO,    /* answer with *ret_inner, protected, before the next oscore_take(): 4.01 and an Echo value, or
                           response 1 of a renewal */
        OSCORE_DROP,    /* nothing is said: memory is short or the store broke */
};

struct oscore_taken {
        struct coap_message inner;
        struct oscore_binding binding;
        int64_t client_id, server_id;  /* whose the context is */
        bool was_echoed;               /* it is what OSCORE_ECHO asked for: it came back with the value */
        uint8_t echo[OSCORE_ECHO_SIZE];
};

/* A request with an OSCORE option. plain: BUF_INIT() by the caller, who wipes and frees it. */
enum oscore_verdict oscore_take(struct oscore *oscore, const struct coap_message *outer, struct engine_time now,
                                struct buf *plain, struct oscore_taken *ret);

/*
 * The same of a request that came inside a session of this party: for it there are no contexts but the party's, and the
 * others see nothing of it.
 */
enum oscore_verdict oscore_take_within(struct oscore *oscore, int64_t client_id, int64_t server_id,
                                       const struct coap_message *outer, struct engine_time now, struct buf *plain,
                                       struct oscore_taken *ret);

/*
 * Protect a response; own_number for a notification. What is said to one request once more gets a number of our own in
 * any case. 0; -ENOENT: the context is gone, or was renewed since the request, and with it an observation that the
 * request began; -EDQUOT: there are no numbers left (§7.2.1); as oscore_protect_response(), and < 0 as the store says
 * when it is asked for the context once more.
 */
int oscore_protect(struct oscore *oscore, struct oscore_binding *binding, bool own_number,
                   const struct coap_message *inner, struct oscore_outer *ret);

struct oscore_figures {
        uint64_t n_contexts, n_loaded, n_evicted;
        uint64_t n_requests, n_undecodable, n_unknown, n_replayed, n_undecryptable, n_echoes;
        uint64_t n_renewals, n_renewals_refused; /* requests 2 that were taken; requests 1 and 2 that were too many */
};
void oscore_figures(const struct oscore *oscore, struct oscore_figures *ret);
