#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "domain/credential.h"
#include "transport/address.h"
#include "transport/limit.h"

#define SECOND_US INT64_C(1000000)

DEFINE_FREEP(struct limit, limit_free)
DEFINE_FREEP(struct config, config_free)

static struct config *defaults(void) {
        _cleanup_(diags_done) struct diags diags = {};
        struct config *config;

        assert_int_equal(config_load(NULL, &config, &diags), 0);
        return config;
}

static struct limit *limit_of(const struct config *config) {
        struct limit *limit;

        assert_int_equal(limit_new(config, &limit), 0);
        return limit;
}

static struct address address(const char *text) {
        struct address address;

        assert_int_equal(address_parse(text, &address), 0);
        return address;
}

/* Takes until there is none, at most max. */
static int take_all(struct bucket *bucket, const struct rate *rate, int64_t now_us, int max) {
        int64_t wait_us;
        int n = 0;

        while (n < max && bucket_take(bucket, rate, now_us, &wait_us))
                n++;
        return n;
}

static void bucket_has_a_burst_then_a_rate(void **state) {
        static const struct {
                struct rate rate;
                int64_t pause_us; /* after it was emptied */
                int then;
        } cases[] = {
                { { 1, 1 }, 999999, 0 },
                { { 1, 1 }, SECOND_US, 1 },
                { { 1, 1 }, 100 * SECOND_US, 1 },
                { { 50, 200 }, 0, 0 },
                { { 50, 200 }, 19999, 0 },
                { { 50, 200 }, 20000, 1 },
                { { 50, 200 }, SECOND_US, 50 },
                { { 50, 200 }, 4 * SECOND_US, 200 },
                { { 50, 200 }, 3600 * SECOND_US, 200 },
                { { 3, 7 }, SECOND_US, 3 },
                { { 3, 1 }, 333334, 1 },
                { { 1000000, 1000000 }, 10, 10 },
                { { 1000000, 1 }, 1, 1 },
                { { 1, 1000000 }, 5 * SECOND_US, 5 },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                const struct rate *rate = &cases[i].rate;
                struct bucket bucket = {};
                int64_t now_us = 7 * SECOND_US;

                assert_int_equal(take_all(&bucket, rate, now_us, 2000000), rate->burst);
                assert_int_equal(take_all(&bucket, rate, now_us + cases[i].pause_us, 2000000), cases[i].then);
        }
}

static void rate_of_0_is_no_limit(void **state) {
        struct bucket bucket = {};

        assert_int_equal(take_all(&bucket, &(struct rate){ 0, 1 }, 0, 100000), 100000);
}

/* Who waits as long as he was told gets one; a microsecond sooner he does not. */
static void wait_is_exact(void **state) {
        static const struct rate rates[] = { { 1, 1 }, { 50, 200 }, { 3, 7 }, { 7, 2 }, { 999983, 5 }, { 20, 100 } };

        for (size_t i = 0; i < N_ELEMENTS(rates); i++) {
                struct bucket bucket = {}, copy;
                int64_t now_us = 1, wait_us, again_us;

                for (int n = 0; n < 1000; n++) {
                        while (bucket_take(&bucket, &rates[i], now_us, &wait_us))
                                ;
                        assert_true(wait_us > 0 && wait_us <= SECOND_US);
                        copy = bucket;
                        if (rates[i].per_s < 1000)
                                assert_false(bucket_take(&copy, &rates[i], now_us + wait_us - 1, &again_us));
                        now_us += wait_us;
                        assert_true(bucket_take(&bucket, &rates[i], now_us, &wait_us));
                }
        }
}

static void what_is_given_back_can_be_taken(void **state) {
        static const struct rate rate = { 10, 5 };
        struct bucket bucket = {};
        int64_t wait_us;

        for (int i = 0; i < 1000; i++) {
                assert_true(bucket_take(&bucket, &rate, 0, &wait_us));
                bucket_give(&bucket, &rate);
        }
        assert_int_equal(take_all(&bucket, &rate, 0, 100), 5);
        bucket_give(&bucket, &rate);
        assert_int_equal(take_all(&bucket, &rate, 0, 100), 1);
        for (int i = 0; i < 1000; i++) /* more than was taken does not count */
                bucket_give(&bucket, &rate);
        assert_int_equal(take_all(&bucket, &rate, 0, 100), 5);
}

/* A smaller burst must not leave somebody waiting for the time that the larger one would have taken. */
static void bucket_follows_a_change_of_rate(void **state) {
        static const struct rate slow = { 1, 1000 }, fast = { 10, 5 };
        struct bucket bucket = {};
        int64_t wait_us;

        assert_int_equal(take_all(&bucket, &slow, 0, 10000), 1000);
        assert_false(bucket_take(&bucket, &fast, 0, &wait_us));
        assert_int_equal(wait_us, 100000);
        assert_int_equal(take_all(&bucket, &fast, SECOND_US, 10000), 5);
}

static int strangers(struct limit *limit, const char *source, enum stranger_act act, int64_t now_us, int max) {
        struct address from = address(source);
        int64_t wait_us;
        int n = 0;

        while (n < max && limit_stranger(limit, &from, act, now_us, &wait_us) == LIMIT_PASS)
                n++;
        return n;
}

static void acts_have_rates_of_their_own(void **state) {
        _cleanup_(config_freep) struct config *config = defaults();
        _cleanup_(limit_freep) struct limit *limit = limit_of(config);

        assert_int_equal(strangers(limit, "192.0.2.1:1", STRANGER_REQUEST, 0, 10000), config->source_request_burst);
        assert_int_equal(strangers(limit, "192.0.2.1:1", STRANGER_HELLO, 0, 10000), config->source_hello_burst);
        assert_int_equal(strangers(limit, "192.0.2.1:1", STRANGER_HANDSHAKE, 0, 10000),
                         config->source_handshake_burst);
}

/* Whether the second address has a bucket of its own once that of the first is empty. */
static void sources_are_told_apart_by_prefix(void **state) {
        static const struct {
                const char *a, *b;
                bool same;
        } cases[] = {
                { "192.0.2.1:5000", "192.0.2.1:5000", true },
                { "192.0.2.1:5000", "192.0.2.1:5001", true },
                { "192.0.2.1:5000", "192.0.2.2:5000", false },
                { "[2001:db8::1]:1", "[2001:db8::1]:2", true },
                { "[2001:db8::1]:1", "[2001:db8::ffff:1:2:3]:1", true },
                { "[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1", false },
                { "[fe80::1%2]:1", "[fe80::1%2]:2", true },
                { "[fe80::1%2]:1", "[fe80::2%2]:1", false },
                { "[fe80::1%2]:1", "[fe80::1%3]:1", false },
                { "[::1]:1", "0.0.0.0:1", false },
                { "[102:304::]:1", "1.2.3.4:1", false },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(config_freep) struct config *config = defaults();
                _cleanup_(limit_freep) struct limit *limit = limit_of(config);
                int burst = (int)config->source_request_burst;

                assert_int_equal(strangers(limit, cases[i].a, STRANGER_REQUEST, 0, 10000), burst);
                assert_int_equal(strangers(limit, cases[i].b, STRANGER_REQUEST, 0, 10000), cases[i].same ? 0 : burst);
        }
}

static void total_binds_all_and_is_charged_for_what_passes_only(void **state) {
        _cleanup_(config_freep) struct config *config = defaults();
        _cleanup_(limit_freep) struct limit *limit = NULL;
        struct address from = address("192.0.2.1:1");
        struct limit_figures figures;
        int64_t wait_us;

        config->source_request_burst = 10;
        config->total_request_burst = 25;
        limit = limit_of(config);
        assert_int_equal(strangers(limit, "192.0.2.1:1", STRANGER_REQUEST, 0, 100), 10);
        for (int i = 0; i < 100; i++)
                assert_int_equal(limit_stranger(limit, &from, STRANGER_REQUEST, 0, &wait_us), LIMIT_SOURCE);
        assert_int_equal(strangers(limit, "192.0.2.2:1", STRANGER_REQUEST, 0, 100), 10);
        assert_int_equal(strangers(limit, "192.0.2.3:1", STRANGER_REQUEST, 0, 100), 5);
        from = address("192.0.2.4:1");
        assert_int_equal(limit_stranger(limit, &from, STRANGER_REQUEST, 0, &wait_us), LIMIT_TOTAL);
        limit_figures(limit, &figures);
        assert_int_equal(figures.n_sources, 3); /* the fourth was not even looked for */
        assert_int_equal(figures.n_refused_source[STRANGER_REQUEST], 102);
        assert_int_equal(figures.n_refused_total[STRANGER_REQUEST], 2);
        assert_int_equal(figures.n_refused_source[STRANGER_HELLO], 0);
}

static void source_gets_back_what_turned_out_well(void **state) {
        _cleanup_(config_freep) struct config *config = defaults();
        _cleanup_(limit_freep) struct limit *limit = limit_of(config);
        struct address from = address("192.0.2.1:1");

        for (int64_t i = 0; i < 10 * config->source_handshake_burst; i++) {
                assert_int_equal(strangers(limit, "192.0.2.1:1", STRANGER_HANDSHAKE, 0, 1), 1);
                limit_stranger_forgive(limit, &from, STRANGER_HANDSHAKE, 0);
        }
        assert_int_equal(strangers(limit, "192.0.2.1:1", STRANGER_HANDSHAKE, 0, 10000), config->source_handshake_burst);
        from = address("192.0.2.2:1"); /* of somebody who is not known any more: nothing happens */
        limit_stranger_forgive(limit, &from, STRANGER_HANDSHAKE, 0);
        assert_int_equal(strangers(limit, "192.0.2.2:1", STRANGER_HANDSHAKE, 0, 10000), config->source_handshake_burst);
}

static int requests(struct limit *limit, struct limit_peer peer, int64_t now_us, int max) {
        int64_t wait_us;
        int n = 0;

        while (n < max && limit_peer(limit, peer, now_us, &wait_us))
                n++;
        return n;
}

static int peers(struct limit *limit, int64_t credential_id, int64_t now_us, int max) {
        return requests(limit, (struct limit_peer){ .credential_id = credential_id }, now_us, max);
}

static void peers_do_not_take_from_each_other(void **state) {
        _cleanup_(config_freep) struct config *config = defaults();
        _cleanup_(limit_freep) struct limit *limit = limit_of(config);
        struct limit_figures figures;

        assert_int_equal(peers(limit, 1, 0, 10000), config->peer_request_burst);
        for (int second = 0; second < 60; second++) {
                assert_int_equal(peers(limit, 2, second * SECOND_US, 40), 40);
                if (second > 0)
                        assert_int_equal(peers(limit, 1, second * SECOND_US, 10000), config->peer_request_rate);
        }
        limit_figures(limit, &figures);
        assert_int_equal(figures.n_peers, 2);
        assert_int_equal(figures.n_refused_peer, 60);
}

/* A resource server introspects for all its clients. */
static void servers_have_a_rate_of_their_own(void **state) {
        _cleanup_(config_freep) struct config *config = defaults();
        _cleanup_(limit_freep) struct limit *limit = limit_of(config);
        const struct limit_peer server = { .credential_id = 7, .is_server = true };

        assert_true(config->server_request_burst > config->peer_request_burst);
        assert_int_equal(requests(limit, server, 0, 10000), config->server_request_burst);
        limit_peer_forgive(limit, server);
        assert_int_equal(requests(limit, server, 0, 10000), 1);
        assert_int_equal(requests(limit, server, SECOND_US, 10000), config->server_request_rate);
        assert_int_equal(peers(limit, 8, 0, 10000), config->peer_request_burst);
}

/* However many there are, the table does not grow, and those that keep coming keep their places. */
static void table_is_bounded_and_keeps_who_comes(void **state) {
        _cleanup_(config_freep) struct config *config = defaults();
        _cleanup_(limit_freep) struct limit *limit = NULL;
        struct address from = address("10.0.0.0:1");
        struct limit_figures figures;
        int64_t wait_us;
        int n_passed = 0;

        config->sources_max = 64;
        config->total_hello_rate = 0;
        config->source_hello_rate = 1;
        config->source_hello_burst = 10;
        limit = limit_of(config);
        for (uint32_t i = 0; i < 100000; i++) {
                from.in.sin_addr.s_addr = htonl(0x0a000000 + i);
                assert_int_equal(limit_stranger(limit, &from, STRANGER_HELLO, i, &wait_us), LIMIT_PASS);
                from.in.sin_addr.s_addr = htonl(0xc0000201);
                n_passed += limit_stranger(limit, &from, STRANGER_HELLO, i, &wait_us) == LIMIT_PASS;
        }
        assert_int_equal(n_passed, 10); /* in a tenth of a second: its bucket was never forgotten */
        limit_figures(limit, &figures);
        assert_int_equal(figures.n_sources, 64);
        assert_int_equal(figures.n_sources_max, 64);
}

static void reconfiguration_holds_at_once(void **state) {
        _cleanup_(config_freep) struct config *config = defaults();
        _cleanup_(limit_freep) struct limit *limit = limit_of(config);
        struct limit_figures figures;

        assert_int_equal(peers(limit, 1, 0, 10000), 200);
        config->peer_request_rate = 2;
        config->peer_request_burst = 3;
        limit_reconfigure(limit, config);
        assert_int_equal(peers(limit, 1, 0, 10000), 0); /* not a new burst */
        assert_int_equal(peers(limit, 1, SECOND_US, 10000), 2);
        assert_int_equal(peers(limit, 2, SECOND_US, 10000), 3);
        config->peer_request_rate = 0;
        limit_reconfigure(limit, config);
        assert_int_equal(peers(limit, 1, SECOND_US, 10000), 10000);
        config->sources_max = 100;
        limit_reconfigure(limit, config);
        limit_figures(limit, &figures);
        assert_int_equal(figures.n_sources_max, 104); /* whole sets */
        assert_int_equal(figures.n_peers, 2);         /* whose table has kept its size */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(bucket_has_a_burst_then_a_rate),
                cmocka_unit_test(rate_of_0_is_no_limit),
                cmocka_unit_test(wait_is_exact),
                cmocka_unit_test(what_is_given_back_can_be_taken),
                cmocka_unit_test(bucket_follows_a_change_of_rate),
                cmocka_unit_test(acts_have_rates_of_their_own),
                cmocka_unit_test(sources_are_told_apart_by_prefix),
                cmocka_unit_test(total_binds_all_and_is_charged_for_what_passes_only),
                cmocka_unit_test(source_gets_back_what_turned_out_well),
                cmocka_unit_test(peers_do_not_take_from_each_other),
                cmocka_unit_test(servers_have_a_rate_of_their_own),
                cmocka_unit_test(table_is_bounded_and_keeps_who_comes),
                cmocka_unit_test(reconfiguration_holds_at_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
