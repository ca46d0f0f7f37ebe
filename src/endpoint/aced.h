#pragma once

#include <stdint.h>

struct config;
struct store;

/* All that a handler can reach. An instance is a value: tests run several in one process. */
struct aced {
        const struct config *config;
        struct store *store;
        uint64_t decision_stamp; /* random at start; decision ids count up from it */
        uint64_t n_decisions;    /* made so far; the router counts */
        int64_t started_s;
        int64_t expired_s;       /* what has expired by then stays so, even if the clock is set back (housekeeping.h) */
        const struct status_source *status; /* figures of the transports for GET /v1/status; NULL in tests */
};

/*
 * What the transports know and the status resource prints: implemented by who assembled the instance, the one call that
 * goes up. Adds members to a JSON object (a jansson json_t) and returns 0 or -ENOMEM.
 */
struct status_source {
        int (*fill)(void *context, void *json_object);
        void *context;
};
