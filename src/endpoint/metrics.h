#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "domain/refusal.h"

struct aced;
struct buf;
struct refusal_row;
struct resource;

/*
 * What is counted while requests are served, and how it is shown: as text for Prometheus (exposition format 0.0.4) and
 * as groups of the status. Counting is an addition at a place known beforehand: nothing is allocated or looked up.
 */

#define METRICS_RESOURCES_MAX 64 /* rows of the router's table */
#define HISTOGRAM_BOUNDS_MAX 14
#define OUTCOME_FIRST 0x40 /* 2.00: codes of answers, as their byte */
#define OUTCOMES 128       /* up to 5.31 */
#define METRICS_TEXT_MAX ((size_t)1 << 20)

enum histogram_kind {
        HISTOGRAM_LATENCY, /* microseconds from a request's arrival to its answer */
        HISTOGRAM_COMMIT,  /* microseconds of a commit */
        HISTOGRAM_BATCH,   /* requests in a batch */
        HISTOGRAMS,
};

struct histogram {
        uint64_t buckets[HISTOGRAM_BOUNDS_MAX + 1]; /* not cumulative; the last one: over all bounds */
        uint64_t sum;
};

struct metrics {
        /* the last row: requests that were answered before a resource was asked */
        uint64_t requests[METRICS_RESOURCES_MAX + 1][OUTCOMES];
        uint64_t refusals[REFUSALS + 1]; /* [0]: internal errors; [REFUSALS]: unavailable for a while */
        struct histogram histograms[HISTOGRAMS];
        uint64_t n_purged; /* expired tokens that were removed */
        uint64_t n_audit_purged; /* rows of the audit trail */
        uint64_t n_shadow; /* decisions that policies which are only tried would have changed */
};

/* A request was answered. resource: row of the router's table, NULL: none was asked; refusal: as in struct response. */
void metrics_answered(struct metrics *metrics, const struct resource *resource, uint8_t code, int refusal);
/* What metrics_answered() has counted. */
uint64_t metrics_outcomes(const struct metrics *metrics, const struct resource *resource, uint8_t code);
/* Values under 0, of clocks that disagree, count as 0. */
void metrics_observe(struct metrics *metrics, enum histogram_kind kind, int64_t value);

/* How many were observed, and the bound that at least this share of them does not pass; -1: there is none. */
uint64_t histogram_count(const struct histogram *histogram);
int64_t metrics_quantile(const struct metrics *metrics, enum histogram_kind kind, double share);

/* The n-th reason that there is for a refusal, in the order of struct metrics.refusals; NULL past the end. */
const struct refusal_row *metrics_refusal(size_t n);

/*
 * A number that somebody else counts. Status shows it as member name of the object group; Prometheus gets it as
 * aced_NAME, for a counter aced_NAME_total, and in the group "limits" as aced_limit_NAME.
 */
struct figure {
        const char *group, *name;
        const char *metric; /* instead of name, for Prometheus, when there is another metric of that name; else NULL */
        bool is_counter;
        const char *help; /* a sentence without its period */
};

/* Where figures go to: 0, or < 0 and that is the end of it. */
struct figure_sink {
        int (*put)(void *context, const struct figure *figure, uint64_t value);
        void *context;
};

/* Figures of the process as a whole and of the store, as far as that can tell. 0, or what the sink returned. */
int metrics_own_figures(struct aced *as, int64_t now_s, const struct figure_sink *sink);

/* What stands between the quotes of a label: backslash, quote and line feed are escaped. 0, or as buf_add(). */
int metrics_put_label_value(struct buf *text, const char *value);

/* All of it as text. 0, -ENOMEM, -EOVERFLOW. */
int metrics_print(struct aced *as, int64_t now_s, struct buf *ret_text);
