#pragma once

#include <stdint.h>

#include "endpoint/keys.h"
#include "endpoint/metrics.h"

struct aead;
struct config;
struct store;
struct trust_anchors;

/* All that a handler can reach. An instance is a value: tests run several in one process. */
struct aced {
        const struct config *config;
        struct store *store;
        uint64_t decision_stamp; /* random at start; decision ids count up from it */
        uint64_t n_decisions;    /* made so far; the router counts */
        const struct trust_anchors *trust_anchors; /* for clients' certificates; NULL: none is configured */
        int64_t started_s;
        int64_t expired_s;       /* what has expired by then stays so, even if the clock is set back (housekeeping.h) */
        const struct status_source *status; /* what the transports know; NULL in tests */
        struct metrics metrics;  /* counted since the start */
        struct aead *aead;       /* borrowed: what the tokens of a batch share (aead_seal_with()); NULL: nothing */
        struct signers signers;  /* signing keys set up; whoever assembled the instance lets them go */
        /*
         * A clock in microseconds that never jumps, to measure how long things took and for nothing else: what is
         * decided does not depend on it. NULL: nothing is measured.
         */
        int64_t (*stopwatch_us)(void);
        void (*alive)(void); /* called now and then by what takes seconds, for a watchdog; NULL: nobody asks */
        int64_t commit_us;       /* what the last batch's commit took; 0: it had none, or nothing is measured */
};

/*
 * What the transports know and the status resource prints: implemented by who assembled the instance, the one call that
 * goes up.
 */
struct status_source {
        /* Add members that are no figures to a JSON object (a jansson json_t): 0, -ENOMEM. */
        int (*fill)(void *context, void *json_object);
        /* Tell all figures, each group's one after the other: 0, or what the sink returned. NULL: there are none. */
        int (*figures)(void *context, const struct figure_sink *sink);
        void *context;
};
