/* The clock jumps, time goes by, the database stays as large as what is alive in it. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "domain/steady.h"
#include "endpoint/housekeeping.h"
#include "store/backup.h"
#include "store/private.h"
#include "support/fake.h"
#include "support/world.h"

#define SECOND_US INT64_C(1000000)
#define HOUR_S 3600
#define DAY_S 86400
#define YEAR_S (365 * DAY_S)
#define T WORLD_NOW_S

/* ---- the believed time */

static void test_steady(void **state) {
        /* from known_s, a start at wall_s; then after_s later the wall clock says then_s */
        static const struct {
                const char *name;
                int64_t known_s, wall_s, after_s, then_s, believed_s;
                bool is_behind;
        } cases[] = {
                { "the first start", 0, T, 0, T, T, false },
                { "time goes by", 0, T, 100, T + 100, T + 100, false },
                { "the clock is adjusted ahead", 0, T, 100, T + 105, T + 105, false },
                { "the clock is adjusted back", 0, T, 100, T + 95, T + 95, false },
                { "a jump ahead is not believed", 0, T, 100, T + 106, T + 100, false },
                { "nor a long one", 0, T, 100, T + YEAR_S, T + 100, false },
                { "a jump back is not followed", 0, T, 100, T + 94, T + 100, true },
                { "nor a long one", 0, T, 100, T - YEAR_S, T + 100, true },
                { "not before 1970 either", 0, T, 100, -5, T + 100, true },
                { "a restart", T - 10, T, 1, T + 1, T + 1, false },
                { "a restart a day later", T - DAY_S, T, 1, T + 1, T + 1, false },
                { "a restart years later is not believed at once", T - YEAR_S, T, 1, T + 1, T - YEAR_S + 1, false },
                { "a restart with the clock set back", T + DAY_S, T, 1, T + 1, T + DAY_S + 1, true },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct steady steady;
                int64_t believed_s;

                steady_init(&steady, cases[i].known_s, cases[i].wall_s, 5);
                believed_s = steady_look(&steady, cases[i].then_s, 5 + cases[i].after_s * SECOND_US);
                if (believed_s != cases[i].believed_s || steady.is_behind != cases[i].is_behind)
                        fail_msg("%s: off by %lld", cases[i].name, (long long)(believed_s - cases[i].believed_s));
        }
}

/* An hour at the same distance, not less, and not with another jump in between. */
static void test_steady_believes_what_holds(void **state) {
        struct steady steady;

        steady_init(&steady, 0, T, 0);
        for (int64_t s = 10; s < 10 + HOUR_S; s += 10)
                assert_int_equal(steady_look(&steady, T + DAY_S + s, s * SECOND_US), T + s);
        assert_int_equal(steady_look(&steady, T + DAY_S + 10 + HOUR_S, (10 + HOUR_S) * SECOND_US),
                         T + DAY_S + 10 + HOUR_S);

        steady_init(&steady, 0, T, 0);
        for (int64_t s = 10; s < 3 * HOUR_S; s += 10)
                assert_int_equal(steady_look(&steady, T + (s % 1800 + 1) * DAY_S, s * SECOND_US), T + s);
}

static void test_steady_accepts(void **state) {
        struct steady steady;

        steady_init(&steady, 0, T, 0);
        steady_accept(&steady, T - DAY_S, 0); /* nothing is wrong: nothing to accept */
        assert_int_equal(steady_look(&steady, T + 1, SECOND_US), T + 1);
        (void)steady_look(&steady, T - DAY_S, 2 * SECOND_US);
        steady_accept(&steady, T - DAY_S, 2 * SECOND_US);
        assert_int_equal(steady_look(&steady, T - DAY_S + 5, 7 * SECOND_US), T - DAY_S + 5);
        assert_false(steady.is_behind);
}

/* ---- a server under these clocks */

struct care {
        struct world world;
        struct housekeeping housekeeping;
        char folder[128], path[160];
};

static void look(struct care *care) {
        bool again = true;

        while (again)
                assert_int_equal(housekeeping_step(&care->housekeeping, &care->world.as, clock_wall_s(),
                                                   clock_monotonic_us(), &again), 0);
}

/* As the server would: a look every ten seconds, or every minute to be quicker. */
static void pass(struct care *care, int64_t s) {
        for (; s > 0; s -= 60) {
                fake_clock_advance_us(60 * SECOND_US);
                look(care);
        }
}

static void start(struct care *care) {
        assert_int_equal(world_open(&care->world, care->path), 0);
        assert_int_equal(housekeeping_init(&care->housekeeping, &care->world.as, clock_wall_s(), clock_monotonic_us()),
                         0);
}

static void stop(struct care *care) {
        world_close(&care->world);
}

struct issued {
        uint8_t bytes[512];
        size_t size;
};

static void issue(struct care *care, struct issued *ret) {
        _cleanup_(call_done) struct call call = {};
        struct bytes token;

        call_set(&call, &care->world.client, METHOD_POST, "/token", "{5: \"rs1\"}");
        call.work.request.now_s = clock_wall_s();
        world_run(&care->world, &call, 1);
        assert_true(call_is_yes(&call));
        if (!ret)
                return;
        token = answer_token(&call);
        assert_true(token.size <= sizeof(ret->bytes));
        memcpy(ret->bytes, token.data, token.size);
        ret->size = token.size;
}

static bool is_active(struct care *care, const struct issued *issued) {
        _cleanup_(call_done) struct call call = {};

        call_introspect(&call, &care->world.server, bytes_of(issued->bytes, issued->size));
        call.work.request.now_s = clock_wall_s();
        world_run(&care->world, &call, 1);
        assert_true(call_is_yes(&call));
        return answer_is_active(&call);
}

static int64_t count(struct care *care, const char *sql) {
        int64_t n = -1;

        assert_int_equal(pragma_int(care->world.store, sql, &n), 0);
        return n;
}

#define N_TOKENS "SELECT count(*) FROM tokens"

static int set_up(void **state) {
        struct care *care = calloc(1, sizeof(*care));
        const char *tmp = getenv("TMPDIR");

        assert_non_null(care);
        snprintf(care->folder, sizeof(care->folder), "%.80s/aced-care-XXXXXX", tmp ? tmp : "/tmp");
        assert_non_null(mkdtemp(care->folder));
        snprintf(care->path, sizeof(care->path), "%s/db", care->folder);
        log_set_level((enum log_level)0);
        fake_clock_set(T, 1000);
        world_init(&care->world);
        care->world.config->tokens_per_client_max = 0;
        care->world.config->default_lifetime_s = 2 * HOUR_S;
        start(care);
        world_fill(&care->world);
        *state = care;
        return 0;
}

static int tear_down(void **state) {
        struct care *care = *state;
        static const char *const suffixes[] = { "", "-wal", "-shm" };
        char path[200];

        world_done(&care->world);
        for (size_t i = 0; i < N_ELEMENTS(suffixes); i++) {
                snprintf(path, sizeof(path), "%s%s", care->path, suffixes[i]);
                (void)unlink(path);
        }
        (void)rmdir(care->folder);
        free(care);
        return 0;
}

/* Kept an hour beyond its end for the operator, then gone. */
static void test_expired_tokens_go(void **state) {
        struct care *care = *state;
        struct issued token;

        issue(care, &token);
        pass(care, 2 * HOUR_S - 60);
        assert_true(is_active(care, &token));
        pass(care, 60);
        assert_false(is_active(care, &token));
        assert_int_equal(count(care, N_TOKENS), 1);
        pass(care, HOUR_S + 60);
        assert_int_equal(count(care, N_TOKENS), 0);
}

static void test_clock_far_ahead_deletes_nothing_alive(void **state) {
        struct care *care = *state;
        struct issued token;
        int64_t wall_s;

        issue(care, &token);
        pass(care, 600);
        wall_s = clock_wall_s();
        fake_clock_set(wall_s + 10 * YEAR_S, clock_monotonic_us());
        pass(care, 50 * 60);
        assert_false(is_active(care, &token)); /* by that clock it has expired */
        assert_int_equal(count(care, N_TOKENS), 1);
        fake_clock_set(wall_s + 50 * 60, clock_monotonic_us());
        look(care);
        assert_true(is_active(care, &token));
        pass(care, HOUR_S);
        assert_false(is_active(care, &token)); /* as its two hours are over */
}

/* The clock was wrong before and is right now: after an hour that is believed. */
static void test_clock_ahead_that_holds_is_believed(void **state) {
        struct care *care = *state;

        issue(care, NULL);
        pass(care, 600);
        fake_clock_set(clock_wall_s() + YEAR_S, clock_monotonic_us());
        pass(care, 2 * HOUR_S);
        assert_int_equal(count(care, N_TOKENS), 0);
}

static void test_clock_set_back_revives_nothing(void **state) {
        struct care *care = *state;
        struct issued old, live, new;
        int64_t wall_s;

        issue(care, &old);
        pass(care, HOUR_S + 1800);
        issue(care, &live);
        pass(care, 1800 + 600);
        assert_false(is_active(care, &old));
        assert_true(is_active(care, &live));
        wall_s = clock_wall_s();
        fake_clock_set(wall_s - 900, clock_monotonic_us());
        assert_false(is_active(care, &old)); /* before anybody has looked */
        look(care);
        assert_false(is_active(care, &old));
        assert_int_equal(count(care, N_TOKENS), 1);
        assert_true(is_active(care, &live));
        issue(care, &new);
        assert_true(is_active(care, &new)); /* the server serves by the clock that there is */
        pass(care, 2 * HOUR_S);
        assert_false(is_active(care, &new));
}

static void test_clock_set_back_between_two_runs(void **state) {
        struct care *care = *state;
        struct issued old;

        issue(care, &old);
        pass(care, 2 * HOUR_S + 1200);
        stop(care);
        fake_clock_set(clock_wall_s() - HOUR_S, 7 * SECOND_US);
        start(care);
        assert_false(is_active(care, &old));
        look(care);
        assert_false(is_active(care, &old));
        assert_int_equal(count(care, N_TOKENS), 0);
}

/* A small step back, as time servers make them, does not make a token that was just issued one of the future. */
static void test_new_token_survives_a_small_step_back(void **state) {
        struct care *care = *state;
        struct issued token;

        pass(care, 60);
        issue(care, &token);
        fake_clock_set(clock_wall_s() - 3, clock_monotonic_us());
        assert_true(is_active(care, &token));
}

/* Sixty days with some hundred tokens an hour: no more room than for those of some hours. */
static void test_size_does_not_follow_history(void **state) {
        struct care *care = *state;
        int64_t n_pages = 0, log_size = 0;
        struct store_status status;

        care->world.config->audit_keep_s = 4 * HOUR_S;
        /* nothing is cut off here, and waiting for the disk is not what is looked at */
        assert_int_equal(sqlite3_exec(care->world.store->db, "PRAGMA synchronous = OFF", NULL, NULL, NULL), SQLITE_OK);
        for (int hour = 0; hour < 60 * 24; hour++) {
                struct call calls[50];

                for (size_t i = 0; i < N_ELEMENTS(calls); i++) {
                        call_set(&calls[i], &care->world.client, METHOD_POST, "/token", "{5: \"rs1\"}");
                        calls[i].work.request.now_s = clock_wall_s();
                }
                world_run(&care->world, calls, N_ELEMENTS(calls));
                for (size_t i = 0; i < N_ELEMENTS(calls); i++) {
                        assert_true(call_is_yes(&calls[i]));
                        call_done(&calls[i]);
                }
                fake_clock_advance_us(HOUR_S * SECOND_US);
                look(care);
                if (hour == 24) {
                        n_pages = count(care, "PRAGMA page_count");
                        assert_int_equal(store_status(care->world.store, &status), 0);
                        log_size = status.wal_size;
                }
        }
        assert_true(count(care, N_TOKENS) <= 4 * 50);
        if (count(care, "PRAGMA page_count") > n_pages + n_pages / 4)
                fail_msg("%lld pages after a day, %lld after sixty", (long long)n_pages,
                         (long long)count(care, "PRAGMA page_count"));
        assert_int_equal(store_status(care->world.store, &status), 0);
        assert_true(log_size > 0 && status.wal_size <= (int64_t)(LOG_PAGES + 1000) * 4200);
        assert_int_equal(count(care, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), 0);
}

/* A backlog, as after a long stop, goes in steps that are bounded. */
static void test_steps_are_bounded(void **state) {
        struct care *care = *state;
        bool again = true;
        unsigned n_steps = 0;

        for (unsigned i = 0; i < 40; i++) {
                struct call calls[40];

                for (size_t j = 0; j < N_ELEMENTS(calls); j++)
                        call_set(&calls[j], &care->world.client, METHOD_POST, "/token", "{5: \"rs1\"}");
                world_run(&care->world, calls, N_ELEMENTS(calls));
                for (size_t j = 0; j < N_ELEMENTS(calls); j++)
                        call_done(&calls[j]);
        }
        stop(care);
        fake_clock_advance_us(DAY_S / 2 * SECOND_US);
        start(care);
        while (again) {
                int64_t before = count(care, N_TOKENS);

                assert_int_equal(housekeeping_step(&care->housekeeping, &care->world.as, clock_wall_s(),
                                                   clock_monotonic_us(), &again), 0);
                assert_true(before - count(care, N_TOKENS) <= HOUSEKEEPING_ROWS_MAX);
                n_steps++;
        }
        assert_int_equal(count(care, N_TOKENS), 0);
        assert_true(n_steps >= 1600 / HOUSEKEEPING_ROWS_MAX);
}

/* ---- copies */

static void test_backup_of_one_moment(void **state) {
        struct care *care = *state;
        struct backup *backup = NULL, *second = NULL;
        _cleanup_(freep) uint8_t *first = NULL, *again = NULL;
        uint64_t size;

        issue(care, NULL);
        assert_int_equal(backup_begin(care->world.store, &backup), 0);
        assert_int_equal(backup_begin(care->world.store, &second), -EBUSY);
        size = backup_size(backup);
        first = malloc(size);
        again = malloc(size);
        assert_true(first && again && size > 4096);
        assert_int_equal(backup_read(backup, 0, first, size), 0);
        for (unsigned i = 0; i < 100; i++)
                issue(care, NULL);
        for (uint64_t at = 0; at < size; at += 1000)
                assert_int_equal(backup_read(backup, at, again + at, size - at < 1000 ? size - at : 1000), 0);
        assert_memory_equal(first, again, size);
        assert_int_equal(backup_read(backup, size, again, 1), -EINVAL);
        assert_int_equal(backup_read(backup, size - 1, again, 2), -EINVAL);

        /* one that takes too long is given up, so that the log does not grow for ever */
        (void)backup_on_commit(care->world.store, care->world.store->db, "main", LOG_PAGES_BACKUP - 1);
        assert_int_equal(backup_read(backup, 0, again, 1), 0);
        (void)backup_on_commit(care->world.store, care->world.store->db, "main", LOG_PAGES_BACKUP);
        assert_int_equal(backup_read(backup, 0, again, 1), -ESTALE);
        assert_int_equal(backup_begin(care->world.store, &second), 0);
        backup_free(backup);
        assert_int_equal(backup_read(second, 0, again, 1), 0);
        backup_free(second);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_steady),
                cmocka_unit_test(test_steady_believes_what_holds),
                cmocka_unit_test(test_steady_accepts),
                cmocka_unit_test_setup_teardown(test_expired_tokens_go, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_clock_far_ahead_deletes_nothing_alive, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_clock_ahead_that_holds_is_believed, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_clock_set_back_revives_nothing, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_clock_set_back_between_two_runs, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_new_token_survives_a_small_step_back, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_size_does_not_follow_history, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_steps_are_bounded, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_backup_of_one_moment, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
