#include "config.h"

#include "endpoint/handlers.h"

#include <errno.h>
#include <stdio.h>

#include "base/config.h"
#include "endpoint/aced.h"
#include "endpoint/admin.h"
#include "endpoint/refusal.h"
#include "endpoint/router.h"
#include "store/store.h"

static json_t *store_json(const struct store_status *status) {
        return json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "schema_version", status->schema_version,
                         "database_size", (json_int_t)status->database_size, "wal_size", (json_int_t)status->wal_size,
                         "clients", (json_int_t)status->n_clients, "servers", (json_int_t)status->n_servers,
                         "policies", (json_int_t)status->n_policies, "tokens", (json_int_t)status->n_tokens);
}

/* ---- groups of figures */

static int put_member(void *context, const struct figure *figure, uint64_t value) {
        json_t *status = context, *group = json_object_get(status, figure->group);

        if (!group) {
                group = json_object();
                if (json_object_set_new(status, figure->group, group) != 0)
                        return -ENOMEM;
        }
        return json_object_set_new(group, figure->name, json_integer((json_int_t)value)) == 0 ? 0 : -ENOMEM;
}

/* "/token POST": { "2.01": 17, … }: what has happened only. */
static int add_requests_of(json_t *requests, const struct metrics *metrics, const struct resource *resource) {
        char name[96] = "no resource", code_text[8];
        json_t *codes = json_object();
        int r = codes ? 0 : -ENOMEM;

        if (resource)
                snprintf(name, sizeof(name), "%s %s", method_name(resource->method), resource->path);
        for (unsigned code = 0; code <= UINT8_MAX && r == 0; code++) {
                uint64_t n = metrics_outcomes(metrics, resource, (uint8_t)code);

                if (n == 0)
                        continue;
                snprintf(code_text, sizeof(code_text), "%u.%02u", code >> 5, code & 31);
                if (json_object_set_new(codes, code_text, json_integer((json_int_t)n)) != 0)
                        r = -ENOMEM;
        }
        if (r == 0 && json_object_size(codes) > 0)
                r = json_object_set(requests, name, codes) == 0 ? 0 : -ENOMEM;
        json_decref(codes);
        return r;
}

static json_t *requests_json(const struct metrics *metrics) {
        json_t *requests = json_object();
        const struct resource *resource;
        int r = requests ? 0 : -ENOMEM;

        for (size_t n = 0; r == 0 && (resource = router_resource(n)); n++)
                r = add_requests_of(requests, metrics, resource);
        if (r == 0)
                r = add_requests_of(requests, metrics, NULL);
        if (r == 0)
                return requests;
        json_decref(requests);
        return NULL;
}

static json_t *refusals_json(const struct metrics *metrics) {
        json_t *refusals = json_object();
        const struct refusal_row *row;

        for (size_t n = 0; refusals && (row = metrics_refusal(n)); n++)
                if (metrics->refusals[n] > 0 &&
                    json_object_set_new(refusals, row->name, json_integer((json_int_t)metrics->refusals[n])) != 0) {
                        json_decref(refusals);
                        return NULL;
                }
        return refusals;
}

/* A bound that so many do not pass; null: they pass all bounds, or there are none. */
static json_t *quantile_json(const struct metrics *metrics, enum histogram_kind kind, double share) {
        int64_t bound = metrics_quantile(metrics, kind, share);

        return bound < 0 ? json_null() : json_integer((json_int_t)bound);
}

static json_t *histogram_json(const struct metrics *metrics, enum histogram_kind kind) {
        const struct histogram *histogram = &metrics->histograms[kind];
        uint64_t n = histogram_count(histogram);

        return json_pack("{s:I, s:I, s:o, s:o, s:o}", "count", (json_int_t)n, "mean",
                         (json_int_t)(n > 0 ? histogram->sum / n : 0), "half_within",
                         quantile_json(metrics, kind, 0.5), "90_percent_within", quantile_json(metrics, kind, 0.9),
                         "99_percent_within", quantile_json(metrics, kind, 0.99));
}

static int add_metrics(struct aced *as, int64_t now_s, json_t *status) {
        const struct figure_sink sink = { .put = put_member, .context = status };
        const struct metrics *metrics = &as->metrics;
        int r;

        /* json_object_set_new() takes NULL for a failure */
        if (json_object_set_new(status, "requests", requests_json(metrics)) != 0 ||
            json_object_set_new(status, "refusals", refusals_json(metrics)) != 0 ||
            json_object_set_new(status, "latency_us", histogram_json(metrics, HISTOGRAM_LATENCY)) != 0 ||
            json_object_set_new(status, "commit_us", histogram_json(metrics, HISTOGRAM_COMMIT)) != 0 ||
            json_object_set_new(status, "batch_requests", histogram_json(metrics, HISTOGRAM_BATCH)) != 0)
                return -ENOMEM;
        r = metrics_own_figures(as, now_s, &sink);
        return r == 0 && as->status && as->status->figures ? as->status->figures(as->status->context, &sink) : r;
}

static int add_keys(struct aced *as, int64_t now_s, json_t *status) {
        json_t *keys = NULL;
        int r = admin_keys_list(as->store, now_s, &keys);

        return r != 0 ? r : json_object_set_new(status, "keys", keys) == 0 ? 0 : -ENOMEM;
}

int admin_status_get(struct aced *as, const struct request *request, struct response *response) {
        struct store_status status;
        json_t *object;
        int r = store_status(as->store, &status);

        if (r != 0)
                return r;
        object = json_pack("{s:s, s:I, s:I, s:o}", "version", PACKAGE_VERSION, "started_s", (json_int_t)as->started_s,
                           "uptime_s", (json_int_t)(request->now_s - as->started_s), "store", store_json(&status));
        if (object)
                r = add_keys(as, request->now_s, object);
        if (object && r == 0 && as->status) /* where it listens: the transports know */
                r = as->status->fill(as->status->context, object);
        if (object && r == 0)
                r = add_metrics(as, request->now_s, object);
        if (r != 0) {
                json_decref(object);
                return r;
        }
        return admin_reply(response, &object);
}

int admin_metrics_get(struct aced *as, const struct request *request, struct response *response) {
        return metrics_print(as, request->now_s, &response->payload);
}

int admin_config_get(struct aced *as, const struct request *request, struct response *response) {
        return config_print(as->config, &response->payload);
}
