#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/config.h"
#include "base/log.h"
#include "endpoint/aced.h"
#include "endpoint/housekeeping.h"
#include "endpoint/refusal.h"
#include "endpoint/router.h"
#include "store/store.h"
#include "store/tokens.h"
#include "support/fake.h"

#define NOW_S 1700000000

/* ---- a strict reader of the exposition format */

struct sample {
        char name[80], labels[160], type[16];
        double value;
};

struct exposition {
        struct sample samples[1024];
        size_t n;
};

static size_t name_size(const char *at) {
        size_t n = 0;

        while (isalpha((unsigned char)at[n]) || at[n] == '_' || at[n] == ':' ||
               (n > 0 && isdigit((unsigned char)at[n])))
                n++;
        return n;
}

/* {name="value",…}: where it ends, or NULL. */
static const char *labels_end(const char *at) {
        while (*at != '}') {
                size_t n = name_size(++at);

                if (n == 0 || strncmp(at + n, "=\"", 2) != 0)
                        return NULL;
                for (at += n + 2; *at != '"'; at++)
                        if (*at == '\n' || *at == '\0' || (*at == '\\' && !strchr("\\\"n", *++at)))
                                return NULL;
                at++;
                if (*at != ',' && *at != '}')
                        return NULL;
        }
        return at + 1;
}

static void copy(char *to, size_t size, const char *from, size_t n) {
        assert_true(n < size);
        memcpy(to, from, n);
        to[n] = '\0';
}

static const struct sample *find(const struct exposition *all, const char *name, const char *labels) {
        for (size_t i = 0; i < all->n; i++)
                if (strcmp(all->samples[i].name, name) == 0 && strcmp(all->samples[i].labels, labels) == 0)
                        return &all->samples[i];
        return NULL;
}

static void sample_read(struct exposition *all, const char *family, const char *type, const char *line) {
        struct sample sample = {};
        const char *at = line + name_size(line), *end;
        bool in_family = strncmp(line, family, strlen(family)) == 0;
        const char *suffix = line + strlen(family);
        char *number_end;

        copy(sample.name, sizeof(sample.name), line, (size_t)(at - line));
        copy(sample.type, sizeof(sample.type), type, strlen(type));
        if (strcmp(type, "histogram") == 0)
                in_family = in_family && (strncmp(suffix, "_bucket{", 8) == 0 || strncmp(suffix, "_sum ", 5) == 0 ||
                                          strncmp(suffix, "_count ", 7) == 0);
        else
                in_family = in_family && (*suffix == '{' || *suffix == ' ');
        if (!in_family)
                fail_msg("'%s' is no sample of %s", line, family);
        if (*at == '{') {
                end = labels_end(at);
                if (!end)
                        fail_msg("labels of '%s'", line);
                copy(sample.labels, sizeof(sample.labels), at, (size_t)(end - at));
                at = end;
        }
        sample.value = strtod(at, &number_end);
        if (*at != ' ' || number_end == at + 1 || *number_end != '\0')
                fail_msg("value of '%s'", line);
        if (find(all, sample.name, sample.labels))
                fail_msg("'%s' comes twice", line);
        assert_true(all->n < N_ELEMENTS(all->samples));
        all->samples[all->n++] = sample;
}

/* Families: # HELP, # TYPE, samples; each once. */
static void exposition_read(struct bytes text, struct exposition *ret) {
        char family[80] = "", type[16] = "", line[512];
        bool has_type = false;
        size_t size;

        ret->n = 0;
        assert_true(text.size > 0 && text.data[text.size - 1] == '\n');
        for (size_t at = 0; at < text.size; at += size + 1) {
                const char *start = (const char *)text.data + at;

                size = (size_t)((const char *)memchr(start, '\n', text.size - at) - start);
                copy(line, sizeof(line), start, size);
                if (strncmp(line, "# HELP ", 7) == 0) {
                        char before[80];

                        strcpy(before, family);
                        copy(family, sizeof(family), line + 7, name_size(line + 7));
                        assert_true(*family != '\0' && line[7 + strlen(family)] == ' ');
                        if (find(ret, family, "") || strcmp(before, family) == 0)
                                fail_msg("'%s': the family came before", line);
                        has_type = false;
                } else if (strncmp(line, "# TYPE ", 7) == 0) {
                        size_t n = strlen(family);

                        assert_true(!has_type && strncmp(line + 7, family, n) == 0 && line[7 + n] == ' ');
                        copy(type, sizeof(type), line + 8 + n, strlen(line + 8 + n));
                        assert_true(strcmp(type, "counter") == 0 || strcmp(type, "gauge") == 0 ||
                                    strcmp(type, "histogram") == 0);
                        assert_int_equal(strcmp(type, "counter") == 0,
                                         n > 6 && strcmp(family + n - 6, "_total") == 0);
                        has_type = true;
                } else {
                        assert_true(has_type);
                        sample_read(ret, family, type, line);
                }
        }
}

/* ---- the world */

static int64_t stopwatch; /* what the handed in clock says; each look takes a while */

static int64_t look(void) {
        return stopwatch += 700;
}

struct world {
        struct config *config;
        struct store *store;
        struct aced as;
        struct exposition all;
        struct buf text;
};

static int setup(void **state) {
        static const uint8_t seal_key[32] = { 7 };
        struct world *world = calloc(1, sizeof(*world));
        struct diags diags = {};

        assert_non_null(world);
        log_set_level((enum log_level)0);
        fake_random_seed(3);
        assert_int_equal(config_load(NULL, &world->config, &diags), 0);
        assert_int_equal(store_open(&(struct store_options){ .seal_key = bytes_of(seal_key, 32) }, &world->store,
                                    &diags), 0);
        world->as = (struct aced){ .config = world->config, .store = world->store, .started_s = NOW_S - 90 };
        world->text = BUF_INIT(METRICS_TEXT_MAX);
        *state = world;
        return 0;
}

static int teardown(void **state) {
        struct world *world = *state;

        store_free(world->store);
        config_free(world->config);
        buf_done(&world->text);
        free(world);
        return 0;
}

static void look_at(struct world *world) {
        buf_clear(&world->text);
        assert_int_equal(metrics_print(&world->as, NOW_S, &world->text), 0);
        exposition_read(buf_bytes(&world->text), &world->all);
}

static double value(const struct world *world, const char *name, const char *labels) {
        const struct sample *sample = find(&world->all, name, labels);

        if (!sample)
                fail_msg("there is no %s%s", name, labels);
        return sample->value;
}

/* One request at the control socket, or as somebody without a name; the code of the answer. */
static uint8_t ask(struct world *world, enum channel channel, enum method method, const char *first,
                   const char *second) {
        struct peer peer = { .channel = channel };
        struct work work = { .request = { .method = method, .segments = { bytes_text(first), bytes_text(second) },
                                          .n_segments = second ? 2 : 1, .content_format = CF_NONE, .accept = CF_NONE,
                                          .peer = &peer, .now_s = NOW_S } };
        uint8_t code;

        response_init(&work.response);
        router_batch(&world->as, &(struct work *){ &work }, 1);
        code = work.response.code;
        response_done(&work.response);
        return code;
}

/* ---- tests */

static void text_is_well_formed_from_the_start(void **state) {
        struct world *world = *state;

        look_at(world);
        assert_true(value(world, "aced_uptime_seconds", "") == 90);
        assert_true(value(world, "aced_start_time_seconds", "") == NOW_S - 90);
        assert_true(value(world, "aced_database_bytes", "") > 0);
        assert_true(value(world, "aced_wal_bytes", "") == 0);
        assert_true(value(world, "aced_purge_lag_seconds", "") == 0);
        for (size_t i = 0; i < world->all.n; i++)
                assert_true(strncmp(world->all.samples[i].name, "aced_", 5) == 0);
}

/* Each row of the router with its success, each refusal with its name: a 0 to begin with, and nothing else. */
static void label_sets_are_those_of_the_tables(void **state) {
        struct world *world = *state;
        const struct resource *resource;
        const struct refusal_row *row;
        size_t n_requests = 0, n_refusals = 0, n = 0;
        char labels[160];

        look_at(world);
        for (; (resource = router_resource(n)); n++) {
                snprintf(labels, sizeof(labels), "{resource=\"%s\",method=\"%s\",code=\"%u.%02u\"}", resource->path,
                         method_name(resource->method), resource->success >> 5, resource->success & 31);
                assert_true(value(world, "aced_requests_total", labels) == 0);
        }
        for (int refusal = 1; refusal < REFUSALS; refusal++) {
                snprintf(labels, sizeof(labels), "{reason=\"%s\"}", refusal_row(refusal)->name);
                assert_true(value(world, "aced_refusals_total", labels) == 0);
        }
        assert_true(value(world, "aced_refusals_total", "{reason=\"internal-error\"}") == 0);
        assert_true(value(world, "aced_refusals_total", "{reason=\"unavailable\"}") == 0);
        for (size_t i = 0; i < world->all.n; i++) {
                n_requests += strcmp(world->all.samples[i].name, "aced_requests_total") == 0;
                n_refusals += strcmp(world->all.samples[i].name, "aced_refusals_total") == 0;
        }
        assert_int_equal(n_requests, n);
        assert_int_equal(n_refusals, REFUSALS + 1);
        for (n = 0; (row = metrics_refusal(n)); n++)
                assert_non_null(row->name);
        assert_int_equal(n, REFUSALS + 1);
}

static void requests_are_counted_by_resource_and_outcome(void **state) {
        struct world *world = *state;

        for (int i = 0; i < 3; i++)
                assert_int_equal(ask(world, CHANNEL_LOCAL, METHOD_GET, "v1", "clients"), CODE_CONTENT);
        assert_int_equal(ask(world, CHANNEL_LOCAL, METHOD_POST, "v1", "clients"), CODE_BAD_REQUEST);
        assert_int_equal(ask(world, CHANNEL_PLAIN, METHOD_POST, "token", NULL), CODE_UNAUTHORIZED);
        assert_int_equal(ask(world, CHANNEL_PLAIN, METHOD_GET, "nowhere", NULL), CODE_NOT_FOUND);
        assert_int_equal(ask(world, CHANNEL_PLAIN, METHOD_GET, "token", NULL), CODE_METHOD_NOT_ALLOWED);
        look_at(world);
        assert_true(value(world, "aced_requests_total",
                          "{resource=\"/v1/clients\",method=\"GET\",code=\"2.05\"}") == 3);
        assert_true(value(world, "aced_requests_total", "{resource=\"/token\",method=\"POST\",code=\"4.01\"}") == 1);
        assert_true(value(world, "aced_requests_total", "{resource=\"/token\",method=\"POST\",code=\"2.01\"}") == 0);
        assert_true(value(world, "aced_requests_total", "{resource=\"\",method=\"\",code=\"4.04\"}") == 1);
        assert_true(value(world, "aced_requests_total", "{resource=\"\",method=\"\",code=\"4.05\"}") == 1);
        assert_true(value(world, "aced_refusals_total", "{reason=\"syntax\"}") == 1);
        assert_true(value(world, "aced_refusals_total", "{reason=\"unauthenticated\"}") == 1);
        assert_true(value(world, "aced_refusals_total", "{reason=\"not-found\"}") == 1);
        assert_true(value(world, "aced_refusals_total", "{reason=\"method\"}") == 1);
        assert_true(value(world, "aced_decisions_total", "") == 7);
}

static void every_refusal_has_its_counter(void **state) {
        struct world *world = *state;
        char labels[160];

        for (int refusal = 1; refusal < REFUSALS; refusal++)
                for (int i = 0; i < refusal; i++)
                        metrics_answered(&world->as.metrics, NULL, refusal_row(refusal)->coap_code, refusal);
        metrics_answered(&world->as.metrics, NULL, CODE_INTERNAL_ERROR, -ENOMEM);
        metrics_answered(&world->as.metrics, NULL, CODE_INTERNAL_ERROR, -EIO);
        metrics_answered(&world->as.metrics, NULL, CODE_UNAVAILABLE, -EBUSY);
        metrics_answered(&world->as.metrics, NULL, CODE_UNAVAILABLE, -ENOSPC);
        metrics_answered(&world->as.metrics, NULL, CODE_UNAVAILABLE, -ENOSPC);
        metrics_answered(&world->as.metrics, NULL, CODE_EMPTY, 0); /* no answer's code: not counted */
        look_at(world);
        for (int refusal = 1; refusal < REFUSALS; refusal++) {
                snprintf(labels, sizeof(labels), "{reason=\"%s\"}", refusal_row(refusal)->name);
                assert_true(value(world, "aced_refusals_total", labels) == refusal);
        }
        assert_true(value(world, "aced_refusals_total", "{reason=\"internal-error\"}") == 2);
        assert_true(value(world, "aced_refusals_total", "{reason=\"unavailable\"}") == 3);
}

/* Buckets are cumulative, the last one is the count. */
static void histograms_are_cumulative(void **state) {
        static const struct {
                enum histogram_kind kind;
                const char *name;
                int64_t values[8];
                double sum;
                struct {
                        const char *le;
                        double n;
                } buckets[5];
        } cases[] = {
                { HISTOGRAM_LATENCY, "request_seconds", { 0, 100, 101, 2500, 2501, 2500000, 2500001, -5 }, 5.005203,
                  { { "0.0001", 3 }, { "0.00025", 4 }, { "0.0025", 5 }, { "2.5", 7 }, { "+Inf", 8 } } },
                { HISTOGRAM_COMMIT, "commit_seconds", { 99, 250, 251, 1000000, 1000001, 1, 2, 3 }, 2.000607,
                  { { "0.0001", 4 }, { "0.00025", 5 }, { "1", 7 }, { "2.5", 8 }, { "+Inf", 8 } } },
                { HISTOGRAM_BATCH, "batch_requests", { 1, 2, 3, 1024, 1025, 512, 513, 1 }, 3081,
                  { { "1", 2 }, { "2", 3 }, { "4", 4 }, { "1024", 7 }, { "+Inf", 8 } } },
        };
        struct world *world = *state;
        char name[80], labels[32];

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                double before = 0;

                for (size_t j = 0; j < N_ELEMENTS(cases[i].values); j++)
                        metrics_observe(&world->as.metrics, cases[i].kind, cases[i].values[j]);
                look_at(world);
                snprintf(name, sizeof(name), "aced_%s_bucket", cases[i].name);
                for (size_t j = 0; j < N_ELEMENTS(cases[i].buckets); j++) {
                        snprintf(labels, sizeof(labels), "{le=\"%s\"}", cases[i].buckets[j].le);
                        assert_true(value(world, name, labels) == cases[i].buckets[j].n);
                }
                for (size_t j = 0; j < world->all.n; j++)
                        if (strcmp(world->all.samples[j].name, name) == 0) {
                                assert_true(world->all.samples[j].value >= before);
                                before = world->all.samples[j].value;
                        }
                snprintf(name, sizeof(name), "aced_%s_count", cases[i].name);
                assert_true(value(world, name, "") == 8);
                snprintf(name, sizeof(name), "aced_%s_sum", cases[i].name);
                assert_true(value(world, name, "") == cases[i].sum);
        }
}

static void quantiles_are_bounds(void **state) {
        struct world *world = *state;
        struct metrics *metrics = &world->as.metrics;

        assert_int_equal(metrics_quantile(metrics, HISTOGRAM_BATCH, 0.5), -1);
        for (int i = 0; i < 90; i++)
                metrics_observe(metrics, HISTOGRAM_BATCH, 3);
        for (int i = 0; i < 9; i++)
                metrics_observe(metrics, HISTOGRAM_BATCH, 100);
        metrics_observe(metrics, HISTOGRAM_BATCH, 5000);
        assert_int_equal(metrics_quantile(metrics, HISTOGRAM_BATCH, 0.5), 4);
        assert_int_equal(metrics_quantile(metrics, HISTOGRAM_BATCH, 0.9), 4);
        assert_int_equal(metrics_quantile(metrics, HISTOGRAM_BATCH, 0.91), 128);
        assert_int_equal(metrics_quantile(metrics, HISTOGRAM_BATCH, 0.99), 128);
        assert_int_equal(metrics_quantile(metrics, HISTOGRAM_BATCH, 1), -1);
        assert_int_equal(histogram_count(&metrics->histograms[HISTOGRAM_BATCH]), 100);
}

/* By the clock that was handed in, and by none when there is none. */
static void commits_are_measured(void **state) {
        struct world *world = *state;

        ask(world, CHANNEL_LOCAL, METHOD_GET, "v1", "clients");
        look_at(world);
        assert_true(value(world, "aced_commit_seconds_count", "") == 0);
        world->as.stopwatch_us = look;
        ask(world, CHANNEL_LOCAL, METHOD_GET, "v1", "clients");
        ask(world, CHANNEL_LOCAL, METHOD_GET, "v1", "metrics"); /* needs no commit */
        look_at(world);
        assert_true(value(world, "aced_commit_seconds_count", "") == 1);
        assert_true(value(world, "aced_commit_seconds_sum", "") == 0.0007);
        assert_true(value(world, "aced_commit_seconds_bucket", "{le=\"0.0005\"}") == 0);
        assert_true(value(world, "aced_commit_seconds_bucket", "{le=\"0.001\"}") == 1);
}

static void add_token(struct world *world, int64_t expires_s) {
        struct grant grant = { .client_id = 1, .server_id = 1, .issued_s = expires_s - 10, .expires_s = expires_s };
        static uint8_t hash[TOKEN_HASH_SIZE];

        assert_int_equal(store_begin(world->store), 0);
        assert_int_equal(store_number(world->store, NUMBER_TOKEN, &grant.number), 0);
        grant.key_number = grant.number;
        grant.pop_key.size = 16;
        hash[0]++;
        assert_int_equal(scope_set(&grant.scope, SCOPE_TEXT, BYTES_LITERAL("read")), 0);
        assert_int_equal(store_token_add(world->store, &grant, hash), 0);
        assert_int_equal(store_commit(world->store), 0);
}

static void purge_lag_is_the_age_of_the_oldest_expired_token(void **state) {
        struct world *world = *state;
        struct housekeeping housekeeping;
        bool again;

        add_token(world, NOW_S + 5);
        look_at(world);
        assert_true(value(world, "aced_purge_lag_seconds", "") == 0);
        add_token(world, NOW_S - 5000);
        add_token(world, NOW_S - 77);
        look_at(world);
        assert_true(value(world, "aced_purge_lag_seconds", "") == 5000);
        assert_true(value(world, "aced_tokens_purged_total", "") == 0);
        assert_int_equal(housekeeping_init(&housekeeping, &world->as, NOW_S, 0), 0);
        assert_int_equal(housekeeping_step(&housekeeping, &world->as, NOW_S, 0, &again), 0);
        look_at(world);
        assert_true(value(world, "aced_purge_lag_seconds", "") == 77);
        assert_true(value(world, "aced_tokens_purged_total", "") == 1);
}

static int some_figures(void *context, const struct figure_sink *sink) {
        static const struct figure figures[] = {
                { "figures", "seen", "cats_seen", true, "Cats" },
                { "figures", "cats", NULL, false, "Cats that are here" },
                { "limits", "cats_max", NULL, false, "Cats that there may be" },
        };
        int r = 0;

        for (size_t i = 0; i < N_ELEMENTS(figures) && r == 0; i++)
                r = sink->put(sink->context, &figures[i], UINT64_MAX - i);
        return r;
}

static void figures_of_others_are_told(void **state) {
        const struct status_source source = { .figures = some_figures };
        struct world *world = *state;

        world->as.status = &source;
        look_at(world);
        assert_string_equal(find(&world->all, "aced_cats_seen_total", "")->type, "counter");
        assert_string_equal(find(&world->all, "aced_cats", "")->type, "gauge");
        assert_string_equal(find(&world->all, "aced_limit_cats_max", "")->type, "gauge");
        assert_non_null(bytes_find(buf_bytes(&world->text), BYTES_LITERAL("\naced_cats 18446744073709551614\n")));
}

static void label_values_are_escaped(void **state) {
        static const struct {
                const char *value, *escaped;
        } cases[] = {
                { "", "" }, { "/v1/clients/{}", "/v1/clients/{}" }, { "a\"b", "a\\\"b" }, { "a\\b", "a\\\\b" },
                { "a\nb", "a\\nb" }, { "\\n", "\\\\n" }, { "ü", "ü" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf text = BUF_INIT(100);

                assert_int_equal(metrics_put_label_value(&text, cases[i].value), 0);
                assert_true(bytes_equal(buf_bytes(&text), bytes_text(cases[i].escaped)));
        }
}

/* What does not fit is an error, not half a text that looks whole. */
static void text_has_a_limit(void **state) {
        struct world *world = *state;

        look_at(world);
        for (size_t limit = 0; limit < world->text.size; limit += 97) {
                _cleanup_(buf_done) struct buf text = BUF_INIT(limit);

                assert_int_equal(metrics_print(&world->as, NOW_S, &text), -EOVERFLOW);
        }
        assert_true(world->text.size < METRICS_TEXT_MAX / 4);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(text_is_well_formed_from_the_start, setup, teardown),
                cmocka_unit_test_setup_teardown(label_sets_are_those_of_the_tables, setup, teardown),
                cmocka_unit_test_setup_teardown(requests_are_counted_by_resource_and_outcome, setup, teardown),
                cmocka_unit_test_setup_teardown(every_refusal_has_its_counter, setup, teardown),
                cmocka_unit_test_setup_teardown(histograms_are_cumulative, setup, teardown),
                cmocka_unit_test_setup_teardown(quantiles_are_bounds, setup, teardown),
                cmocka_unit_test_setup_teardown(commits_are_measured, setup, teardown),
                cmocka_unit_test_setup_teardown(purge_lag_is_the_age_of_the_oldest_expired_token, setup, teardown),
                cmocka_unit_test_setup_teardown(figures_of_others_are_told, setup, teardown),
                cmocka_unit_test(label_values_are_escaped),
                cmocka_unit_test_setup_teardown(text_has_a_limit, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
