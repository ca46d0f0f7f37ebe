#include "config.h"

#include "endpoint/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "endpoint/aced.h"
#include "endpoint/refusal.h"
#include "endpoint/router.h"
#include "store/audit.h"
#include "store/store.h"
#include "store/tokens.h"

#define TIMES { 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000 }
#define MICROSECONDS 1000000.0 /* of a second, in which Prometheus counts */

static const struct histogram_row {
        const char *name, *help;
        double unit; /* what the bounds are divided by */
        size_t n_bounds;
        int64_t bounds[HISTOGRAM_BOUNDS_MAX]; /* ascending; a value equal to a bound is under it */
} histogram_rows[HISTOGRAMS] = {
        [HISTOGRAM_LATENCY] = { "request_seconds", "From the arrival of a device's request to its answer",
                                MICROSECONDS, 14, TIMES },
        [HISTOGRAM_COMMIT] = { "commit_seconds", "Commits of batches to the database", MICROSECONDS, 14, TIMES },
        [HISTOGRAM_BATCH] = { "batch_requests", "Requests of devices in a batch, which is one commit", 1, 11,
                              { 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024 } },
};

/* ---- counting */

static size_t refusal_index(int refusal) {
        if (refusal > REFUSE_NONE && refusal < REFUSALS)
                return (size_t)refusal;
        return refusal == -EBUSY || refusal == -ENOSPC ? REFUSALS : 0;
}

static size_t resource_index(const struct resource *resource) {
        return resource ? (size_t)(resource - router_resource(0)) : METRICS_RESOURCES_MAX;
}

void metrics_answered(struct metrics *metrics, const struct resource *resource, uint8_t code, int refusal) {
        if (code >= OUTCOME_FIRST && code < OUTCOME_FIRST + OUTCOMES)
                metrics->requests[resource_index(resource)][code - OUTCOME_FIRST]++;
        if (refusal != 0)
                metrics->refusals[refusal_index(refusal)]++;
}

uint64_t metrics_outcomes(const struct metrics *metrics, const struct resource *resource, uint8_t code) {
        if (code < OUTCOME_FIRST || code >= OUTCOME_FIRST + OUTCOMES)
                return 0;
        return metrics->requests[resource_index(resource)][code - OUTCOME_FIRST];
}

void metrics_observe(struct metrics *metrics, enum histogram_kind kind, int64_t value) {
        const struct histogram_row *row = &histogram_rows[kind];
        struct histogram *histogram = &metrics->histograms[kind];
        size_t i = 0;

        if (value < 0)
                value = 0;
        while (i < row->n_bounds && value > row->bounds[i])
                i++;
        histogram->buckets[i < row->n_bounds ? i : HISTOGRAM_BOUNDS_MAX]++;
        histogram->sum += (uint64_t)value;
}

uint64_t histogram_count(const struct histogram *histogram) {
        uint64_t n = 0;

        for (size_t i = 0; i <= HISTOGRAM_BOUNDS_MAX; i++)
                n += histogram->buckets[i];
        return n;
}

int64_t metrics_quantile(const struct metrics *metrics, enum histogram_kind kind, double share) {
        const struct histogram_row *row = &histogram_rows[kind];
        const struct histogram *histogram = &metrics->histograms[kind];
        double wanted = share * (double)histogram_count(histogram);
        uint64_t n = 0;

        for (size_t i = 0; i < row->n_bounds; i++) {
                n += histogram->buckets[i];
                if (n > 0 && (double)n >= wanted)
                        return row->bounds[i];
        }
        return -1;
}

const struct refusal_row *metrics_refusal(size_t n) {
        if (n > REFUSALS)
                return NULL;
        return refusal_row(n == 0 ? -EIO : n == REFUSALS ? -EBUSY : (int)n);
}

/* ---- figures of the store and of the whole */

#define FIGURE(in, called, counts, says) { .group = in, .name = called, .is_counter = counts, .help = says }

static const struct figure started = FIGURE("process", "start_time_seconds", false, "When aced was started, in seconds "
                                            "since 1970");
static const struct figure uptime = FIGURE("process", "uptime_seconds", false, "Seconds since aced was started");
static const struct figure decisions = FIGURE("process", "decisions", true, "Requests decided on, also those of "
                                              "administrators");
static const struct figure database = FIGURE("process", "database_bytes", false, "Size of the database file");
static const struct figure wal = FIGURE("process", "wal_bytes", false, "Size of the database's write-ahead log");
static const struct figure purged = FIGURE("process", "tokens_purged", true, "Expired tokens removed");
static const struct figure shadow = FIGURE("process", "shadow_differences", true, "Decisions that policies which are "
                                           "only tried would have changed");
static const struct figure lag = FIGURE("process", "purge_lag_seconds", false, "Since when the oldest token that is "
                                        "still there is expired; 0 when none is");

static const struct figure audit_purged = FIGURE("audit", "audit_purged", true, "Rows of the audit trail removed, as "
                                                "they had been kept long enough");
static const struct figure audit_rows = FIGURE("audit", "audit_rows", false, "Rows of the audit trail");
static const struct figure audit_seq = FIGURE("audit", "audit_newest", false, "Number of the audit trail's newest row");

struct own {
        const struct figure *figure;
        uint64_t value;
};

static int put_all(const struct figure_sink *sink, const struct own *own, size_t n) {
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i++)
                r = sink->put(sink->context, own[i].figure, own[i].value);
        return r;
}

int metrics_own_figures(struct aced *as, int64_t now_s, const struct figure_sink *sink) {
        struct audit_mark newest, start;
        int64_t database_size, wal_size, oldest_s, uptime_s = now_s - as->started_s;
        const struct own process[] = {
                { &started, (uint64_t)as->started_s },
                { &uptime, uptime_s > 0 ? (uint64_t)uptime_s : 0 },
                { &decisions, as->n_decisions },
                { &shadow, as->metrics.n_shadow },
                { &purged, as->metrics.n_purged },
                { &audit_purged, as->metrics.n_audit_purged },
        };
        int r = put_all(sink, process, N_ELEMENTS(process));

        if (r != 0 || store_sizes(as->store, &database_size, &wal_size) != 0 ||
            store_token_oldest(as->store, &oldest_s) != 0 || store_audit_head(as->store, &newest) != 0 ||
            store_audit_start(as->store, &start) != 0)
                return r;
        const struct own storage[] = {
                { &lag, oldest_s > 0 && oldest_s < now_s ? (uint64_t)(now_s - oldest_s) : 0 },
                { &database, (uint64_t)database_size },
                { &wal, (uint64_t)wal_size },
                { &audit_rows, (uint64_t)(newest.seq - start.seq) },
                { &audit_seq, (uint64_t)newest.seq },
        };
        return put_all(sink, storage, N_ELEMENTS(storage));
}

/* ---- text: https://prometheus.io/docs/instrumenting/exposition_formats/ */

static int put_head(struct buf *text, const char *prefix, const char *name, const char *suffix, const char *type,
                    const char *help) {
        return buf_printf(text, "# HELP aced_%s%s%s %s.\n# TYPE aced_%s%s%s %s\n", prefix, name, suffix, help, prefix,
                          name, suffix, type);
}

int metrics_put_label_value(struct buf *text, const char *value) {
        int r = 0;

        for (; *value != '\0' && r == 0; value++) {
                if (*value == '\\' || *value == '"')
                        r = buf_printf(text, "\\%c", *value);
                else if (*value == '\n')
                        r = buf_add(text, BYTES_LITERAL("\\n"));
                else
                        r = buf_add_byte(text, (uint8_t)*value);
        }
        return r;
}

static int put_label(struct buf *text, const char *before, const char *name, const char *value) {
        int r = buf_printf(text, "%s%s=\"", before, name);

        if (r == 0)
                r = metrics_put_label_value(text, value);
        return r == 0 ? buf_add_byte(text, '"') : r;
}

static int put_figure(void *context, const struct figure *figure, uint64_t value) {
        const char *prefix = strcmp(figure->group, "limits") == 0 ? "limit_" : "";
        const char *suffix = figure->is_counter ? "_total" : "";
        const char *name = figure->metric ? figure->metric : figure->name;
        struct buf *text = context;
        int r = put_head(text, prefix, name, suffix, figure->is_counter ? "counter" : "gauge", figure->help);

        return r == 0 ? buf_printf(text, "aced_%s%s%s %" PRIu64 "\n", prefix, name, suffix, value) : r;
}

static int put_request(struct buf *text, const struct resource *resource, unsigned code, uint64_t value) {
        char dotted[8];
        int r;

        snprintf(dotted, sizeof(dotted), "%u.%02u", code >> 5, code & 31);
        if ((r = put_label(text, "aced_requests_total{", "resource", resource ? resource->path : "")) != 0 ||
            (r = put_label(text, ",", "method", resource ? method_name(resource->method) : "")) != 0 ||
            (r = put_label(text, ",", "code", dotted)) != 0)
                return r;
        return buf_printf(text, "} %" PRIu64 "\n", value);
}

/* What has happened, and for each resource its success, so that there is a 0 to begin with. */
static int put_requests_of(struct buf *text, const struct metrics *metrics, const struct resource *resource) {
        int r = 0;

        for (unsigned code = OUTCOME_FIRST; code < OUTCOME_FIRST + OUTCOMES && r == 0; code++) {
                uint64_t n = metrics_outcomes(metrics, resource, (uint8_t)code);

                if (n > 0 || (resource && resource->success == code))
                        r = put_request(text, resource, code, n);
        }
        return r;
}

static int put_requests(struct buf *text, const struct metrics *metrics) {
        const struct resource *resource;
        int r = put_head(text, "requests", "", "_total", "counter",
                         "Requests by resource and the code of the answer, as CoAP has it; without a resource: "
                         "answered before one was asked");

        for (size_t n = 0; r == 0 && (resource = router_resource(n)); n++)
                r = put_requests_of(text, metrics, resource);
        return r == 0 ? put_requests_of(text, metrics, NULL) : r;
}

static int put_refusals(struct buf *text, const struct metrics *metrics) {
        const struct refusal_row *row;
        int r = put_head(text, "refusals", "", "_total", "counter", "Requests refused, by the reason that the log has");

        for (size_t n = 0; r == 0 && (row = metrics_refusal(n)); n++) {
                r = put_label(text, "aced_refusals_total{", "reason", row->name);
                if (r == 0)
                        r = buf_printf(text, "} %" PRIu64 "\n", metrics->refusals[n]);
        }
        return r;
}

static int put_histogram(struct buf *text, const struct histogram_row *row, const struct histogram *histogram) {
        uint64_t n = 0;
        int r = put_head(text, row->name, "", "", "histogram", row->help);

        for (size_t i = 0; i < row->n_bounds && r == 0; i++) {
                n += histogram->buckets[i];
                r = buf_printf(text, "aced_%s_bucket{le=\"%.9g\"} %" PRIu64 "\n", row->name,
                               (double)row->bounds[i] / row->unit, n);
        }
        n += histogram->buckets[HISTOGRAM_BOUNDS_MAX];
        if (r == 0)
                r = buf_printf(text, "aced_%s_bucket{le=\"+Inf\"} %" PRIu64 "\naced_%s_sum %.15g\n"
                               "aced_%s_count %" PRIu64 "\n", row->name, n, row->name,
                               (double)histogram->sum / row->unit, row->name, n);
        return r;
}

static int put_build(struct buf *text) {
        int r = put_head(text, "build_info", "", "", "gauge", "Which aced this is");

        if (r == 0)
                r = put_label(text, "aced_build_info{", "version", PACKAGE_VERSION);
        return r == 0 ? buf_add(text, BYTES_LITERAL("} 1\n")) : r;
}

int metrics_print(struct aced *as, int64_t now_s, struct buf *ret_text) {
        const struct figure_sink sink = { .put = put_figure, .context = ret_text };
        int r;

        if ((r = put_build(ret_text)) != 0 || (r = put_requests(ret_text, &as->metrics)) != 0 ||
            (r = put_refusals(ret_text, &as->metrics)) != 0)
                return r;
        for (size_t i = 0; i < HISTOGRAMS && r == 0; i++)
                r = put_histogram(ret_text, &histogram_rows[i], &as->metrics.histograms[i]);
        if (r == 0)
                r = metrics_own_figures(as, now_s, &sink);
        return r == 0 && as->status && as->status->figures ? as->status->figures(as->status->context, &sink) : r;
}
