#pragma once

#include "endpoint/request.h"

struct aced;

/* Who may call a resource. */
enum caller {
        CALLER_ANYONE = 1 << 0,
        CALLER_AUTHENTICATED = 1 << 1, /* over DTLS, with a credential; whose it is the handler looks up */
        CALLER_LOCAL = 1 << 2,         /* an administrator at the control socket */
};

/* One row per resource and method. */
struct resource {
        const char *path;       /* "/token"; "/v1/clients/{}": {} stands for one segment */
        enum method method;
        unsigned callers;       /* enum caller; a caller that is not named is answered as if the path were not there for
                                   CALLER_LOCAL rows, 4.01 otherwise */
        int reads;              /* Content-Format of the payload; CF_NONE: takes none */
        int writes;             /* Content-Format of the answer; CF_NONE: none */
        uint8_t success;        /* CoAP code on return 0 */
        bool changes;           /* writes to the store: runs in a savepoint of its own */
        int (*handle)(struct aced *as, const struct request *request, struct response *response);
        const char *rt, *interface; /* link attributes; rt NULL: not in /.well-known/core */
        bool observable;        /* by authenticated peers; the handler fills in response->topic */
        bool for_known;         /* its link is told to authenticated peers alone: what strangers hear has to be short */
        bool stateless;         /* does not touch the store: answered even when that is broken */
        bool audited;           /* leaves a row in the audit trail, as everything that changes something does */
        bool alone;             /* only ever in a batch of its own: it may give the transaction up and begin anew */
        uint64_t (*numbers)(const struct request *request); /* that it may draw beyond a batch's (store_reserve) */
        const char *summary;    /* one line for aced-control(7) and people */
};

/* The table, for discovery, tests and documentation: the n-th row or NULL. */
const struct resource *router_resource(size_t n);

/* One request of a batch. */
struct work {
        struct request request;
        struct response response; /* initialised by the caller, filled by the batch */
        const struct resource *resource; /* filled by the batch: the row of path and method; NULL when there is none */
        bool used_store;                 /* filled by the batch: the answer stands on rows that the commit must keep */
};

/*
 * What the router says of a request before its handler is asked, its payload's first bytes at hand: 0, or the refusal.
 * Nothing is logged. For who would collect a body that nobody is going to read.
 */
int router_check(const struct aced *as, const struct request *request);

/* Bytes that the payload of such a request may have; its path and method are known, and who asks. */
size_t router_payload_max(const struct aced *as, const struct request *request);

#define RETRY_AFTER_S 5 /* Max-Age of 4.29 (RFC 8516) and 5.03 (RFC 7252 §5.9.3.4) */

/*
 * Run the requests in order, those that change something in a savepoint each, inside one transaction with one commit
 * (an answer leaves only after its rows are on disk). Every response is filled, by its handler, from the refusal table,
 * or as 5.00 (5.03 when the disk is full or the database locked) when something broke; if the commit fails every one
 * that changed or read rows becomes so, as even a read may tell what did not last. Without a request that needs the
 * store there is no transaction. Writes one log line a request, at level debug for one that came over plain CoAP. Must
 * not be called inside a transaction.
 */
void router_batch(struct aced *as, struct work *const *works, size_t n_works);
