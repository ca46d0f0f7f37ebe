#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "format/labels.h"
#include "support/fake.h"
#include "transport/exchange.h"
#include "transport/observe.h"

#define SECOND_US INT64_C(1000000)
#define REFRESH_US (100 * SECOND_US)

/* Two peers that observe. */
struct fixture {
        struct observe *observe;
        struct observe_peer peers[2];
        struct request request;
        struct block_asks asks;
        struct response response;
        int64_t now_us;
};

static void fixture_done(struct fixture *f) {
        observe_peer_done(&f->peers[0]);
        observe_peer_done(&f->peers[1]);
        observe_free(f->observe);
        buf_done(&f->response.payload);
}

static void begin(struct fixture *f) {
        *f = (struct fixture){ .now_us = 1000 };
        assert_int_equal(observe_new(&(struct observe_limits){ .observers_max = 3, .per_peer_max = 2,
                                                               .refresh_us = REFRESH_US }, &f->observe), 0);
        observe_peer_init(&f->peers[0], f->observe, &f->peers[0]);
        observe_peer_init(&f->peers[1], f->observe, &f->peers[1]);
        f->request = (struct request){ .method = METHOD_GET, .segments = { BYTES_LITERAL("revoke"), BYTES_LITERAL("trl") },
                                       .n_segments = 2, .queries = { BYTES_LITERAL("diff=3") }, .n_queries = 1 };
        f->response = (struct response){ .code = CODE_CONTENT, .topic = 7, .payload = BUF_INIT(1000) };
        assert_int_equal(buf_add(&f->response.payload, BYTES_LITERAL("empty")), 0);
}

static void answer_is(struct fixture *f, const char *text) {
        buf_clear(&f->response.payload);
        assert_int_equal(buf_add(&f->response.payload, bytes_text(text)), 0);
}

static int add(struct fixture *f, unsigned peer, const char *token, uint32_t *ret_sequence) {
        return observe_add(&f->peers[peer], bytes_text(token), &f->request, &f->asks, &f->response, f->now_us, ret_sequence);
}

static void expect_observers(struct fixture *f, uint64_t n) {
        struct observe_figures figures;

        observe_figures(f->observe, &figures);
        assert_int_equal(figures.n_observers, n);
}

/* Whose turn is it? Its request is as it came. */
static struct observe_turn expect_turn(struct fixture *f, unsigned peer) {
        struct observe_turn turn;

        assert_true(observe_is_ready(f->observe));
        assert_true(observe_next(f->observe, &turn));
        assert_ptr_equal(turn.owner, &f->peers[peer]);
        assert_true(turn.ticket & EXCHANGE_TICKET_OWN);
        assert_int_equal(turn.request.n_segments, 2);
        assert_true(bytes_equal(turn.request.segments[1], BYTES_LITERAL("trl")));
        assert_true(bytes_equal(turn.request.queries[0], BYTES_LITERAL("diff=3")));
        return turn;
}

static void expect_nobody(struct fixture *f) {
        struct observe_turn turn;

        assert_false(observe_is_ready(f->observe));
        assert_false(observe_next(f->observe, &turn));
}

/* Asked, answered with this text, sent: 1; known already: 0; refused: 2. */
static int tell(struct fixture *f, const struct observe_turn *turn, const char *text, uint32_t *ret_sequence) {
        struct bytes token;
        int verdict;

        answer_is(f, text);
        verdict = observe_judge(turn->owner, turn->ticket, &f->response, &token, ret_sequence);
        if (verdict != 0)
                observe_told(turn->owner, turn->ticket, verdict == 2);
        return verdict;
}

static void test_one_is_told_of_its_topic(void **state) {
        _cleanup_(fixture_done) struct fixture f;
        struct observe_turn turn;
        uint32_t first, second;

        begin(&f);
        assert_int_equal(add(&f, 0, "a", &first), 0);
        f.response.topic = 8;
        assert_int_equal(add(&f, 1, "a", &second), 0);
        expect_nobody(&f);
        observe_touch(f.observe, 9);
        expect_nobody(&f);
        observe_touch(f.observe, 8);
        observe_touch(f.observe, 8); /* twice before it is asked: once */
        turn = expect_turn(&f, 1);
        expect_nobody(&f);
        assert_int_equal(tell(&f, &turn, "changed", &first), 1);
        assert_int_equal(first, second + 1);
        expect_nobody(&f);
        observe_outcome(&f.peers[1], turn.ticket, true, f.now_us);
        expect_nobody(&f);
        expect_observers(&f, 2);
}

/* One is under way at most; what changes meanwhile is told after it, in the state of then. */
static void test_latest_state_wins(void **state) {
        _cleanup_(fixture_done) struct fixture f;
        struct observe_turn turn;
        uint32_t sequence;

        begin(&f);
        assert_int_equal(add(&f, 0, "a", &sequence), 0);
        observe_touch(f.observe, 7);
        turn = expect_turn(&f, 0);
        observe_touch(f.observe, 7); /* while its request runs */
        expect_nobody(&f);
        assert_int_equal(tell(&f, &turn, "one", &sequence), 1);
        expect_nobody(&f);
        observe_touch(f.observe, 7);
        observe_touch(f.observe, 7);
        expect_nobody(&f);
        observe_outcome(&f.peers[0], turn.ticket, true, f.now_us);
        turn = expect_turn(&f, 0);
        assert_int_equal(tell(&f, &turn, "three", &sequence), 1);
        observe_outcome(&f.peers[0], turn.ticket, true, f.now_us);
        expect_nobody(&f);
}

static void test_what_is_known_is_not_told(void **state) {
        _cleanup_(fixture_done) struct fixture f;
        struct observe_turn turn;
        uint32_t sequence;

        begin(&f);
        assert_int_equal(add(&f, 0, "a", &sequence), 0);
        observe_touch(f.observe, 7); /* of a request that was undone */
        turn = expect_turn(&f, 0);
        assert_int_equal(tell(&f, &turn, "empty", &sequence), 0);
        expect_nobody(&f);
        observe_touch(f.observe, 7);
        turn = expect_turn(&f, 0);
        assert_int_equal(tell(&f, &turn, "changed", &sequence), 1);
}

static void test_ends(void **state) {
        static const char *const why[] = { "refused", "not acknowledged", "taken back", "no topic", "session" };
        uint32_t sequence;

        for (size_t i = 0; i < N_ELEMENTS(why); i++) {
                _cleanup_(fixture_done) struct fixture f;
                struct observe_turn turn;

                begin(&f);
                assert_int_equal(add(&f, 0, "a", &sequence), 0);
                observe_touch(f.observe, 7);
                turn = expect_turn(&f, 0);
                if (i == 0) {
                        f.response.code = CODE_UNAUTHORIZED;
                        assert_int_equal(tell(&f, &turn, "empty", &sequence), 2);
                } else if (i == 1) {
                        assert_int_equal(tell(&f, &turn, "changed", &sequence), 1);
                        observe_outcome(&f.peers[0], turn.ticket, false, f.now_us);
                } else if (i == 2) {
                        observe_remove(&f.peers[0], BYTES_LITERAL("b"));
                        expect_observers(&f, 1);
                        observe_remove(&f.peers[0], BYTES_LITERAL("a"));
                } else if (i == 3) {
                        f.response.topic = -1;
                        assert_int_equal(tell(&f, &turn, "empty", &sequence), 2);
                } else {
                        observe_peer_done(&f.peers[0]);
                }
                expect_observers(&f, 0);
                assert_int_equal(tell(&f, &turn, "late", &sequence), 0); /* what comes late is for nobody */
                observe_outcome(&f.peers[0], turn.ticket, true, f.now_us);
                observe_later(&f.peers[0], turn.ticket, f.now_us);
                observe_touch(f.observe, 7);
                expect_nobody(&f);
                assert_int_equal(observe_due(f.observe), INT64_MAX);
        }
}

static void test_limits(void **state) {
        _cleanup_(fixture_done) struct fixture f;
        struct observe_figures figures;
        struct observe_peer nobody = {};
        uint8_t large[OBSERVE_REQUEST_MAX] = {};
        uint32_t sequence;

        begin(&f);
        assert_int_equal(add(&f, 0, "a", &sequence), 0);
        assert_int_equal(add(&f, 0, "b", &sequence), 0);
        assert_int_equal(add(&f, 0, "c", &sequence), -ENOSPC); /* of one peer */
        assert_int_equal(add(&f, 0, "a", &sequence), 0);       /* that is not one more */
        assert_int_equal(add(&f, 1, "a", &sequence), -ENOSPC); /* of one topic, which is half of all */
        f.response.topic = 8;
        assert_int_equal(add(&f, 1, "a", &sequence), 0);
        assert_int_equal(add(&f, 1, "b", &sequence), -ENOSPC); /* of all */
        expect_observers(&f, 3);
        observe_remove(&f.peers[0], BYTES_LITERAL("a"));
        f.request.queries[0] = bytes_of(large, sizeof(large));
        assert_int_equal(add(&f, 1, "b", &sequence), -ENOSPC); /* a long request */
        f.response.topic = -1;
        assert_int_equal(add(&f, 1, "b", &sequence), -EPERM);
        f.response.topic = 7;
        assert_int_equal(observe_add(&nobody, BYTES_LITERAL("a"), &f.request, &f.asks, &f.response, 1, &sequence), -EPERM);
        observe_remove(&nobody, BYTES_LITERAL("a"));
        observe_figures(f.observe, &figures);
        assert_int_equal(figures.n_refused, 4);
}

/* Half of all may be less than what one peer may have: that it may have of one topic, too. */
static void test_one_topic_for_one_peer(void **state) {
        _cleanup_(fixture_done) struct fixture f;
        uint32_t sequence;

        begin(&f);
        observe_set_limits(f.observe, &(struct observe_limits){ .observers_max = 2, .per_peer_max = 2,
                                                                .refresh_us = REFRESH_US });
        assert_int_equal(add(&f, 0, "a", &sequence), 0);
        assert_int_equal(add(&f, 0, "b", &sequence), 0);
        expect_observers(&f, 2);
}

/* A device that was restarted, in the same context: its former observations make room for the new ones. */
static void test_oldest_gives_way(void **state) {
        _cleanup_(fixture_done) struct fixture f;
        struct observe_turn turn;
        uint32_t sequence;

        begin(&f);
        f.peers[0].oldest_gives_way = true;
        assert_int_equal(add(&f, 0, "a", &sequence), 0);
        assert_int_equal(add(&f, 0, "b", &sequence), 0);
        assert_int_equal(add(&f, 0, "b", &sequence), 0); /* that is not one more */
        expect_observers(&f, 2);
        assert_int_equal(add(&f, 0, "c", &sequence), 0);
        expect_observers(&f, 2);
        observe_remove(&f.peers[0], BYTES_LITERAL("c"));
        expect_observers(&f, 1);
        observe_touch(f.observe, 7);
        turn = expect_turn(&f, 0);
        observe_later(&f.peers[0], turn.ticket, f.now_us);
        observe_remove(&f.peers[0], BYTES_LITERAL("b"));
        expect_observers(&f, 0);
}

/* What is refused all the same costs nobody an observation: a long request, a topic or a server that is full. */
static void test_refused_displaces_none(void **state) {
        static const char *const why[] = { "long request", "full topic", "full server" };
        uint32_t sequence;

        for (size_t i = 0; i < N_ELEMENTS(why); i++) {
                _cleanup_(fixture_done) struct fixture f;
                uint8_t large[OBSERVE_REQUEST_MAX] = {};

                begin(&f);
                f.peers[0].oldest_gives_way = true;
                assert_int_equal(add(&f, 0, "a", &sequence), 0);
                if (i == 1) { /* of another, which has room for one */
                        f.response.topic = 8;
                        assert_int_equal(add(&f, 1, "x", &sequence), 0);
                        observe_set_limits(f.observe, &(struct observe_limits){ .observers_max = 2, .per_peer_max = 1,
                                                                                .refresh_us = REFRESH_US });
                } else if (i == 2) {
                        observe_set_limits(f.observe, &(struct observe_limits){ .observers_max = 0, .per_peer_max = 1,
                                                                                .refresh_us = REFRESH_US });
                } else {
                        assert_int_equal(add(&f, 0, "b", &sequence), 0);
                        f.request.queries[0] = bytes_of(large, sizeof(large));
                }
                assert_int_equal(add(&f, 0, "new", &sequence), -ENOSPC);
                expect_observers(&f, i == 2 ? 1 : 2);
                observe_remove(&f.peers[0], BYTES_LITERAL("a")); /* it is there still */
                expect_observers(&f, i == 2 ? 0 : 1);
        }
}

/* The room that the oldest leaves counts: in its topic and in all, and after the limit has become smaller. */
static void test_room_of_the_oldest(void **state) {
        _cleanup_(fixture_done) struct fixture f;
        struct observe_turn turn;
        uint32_t sequence;

        begin(&f);
        f.peers[0].oldest_gives_way = true;
        assert_int_equal(add(&f, 0, "a", &sequence), 0);
        assert_int_equal(add(&f, 0, "b", &sequence), 0);       /* the topic is full */
        f.response.topic = 8;
        assert_int_equal(add(&f, 1, "x", &sequence), 0);       /* all is full */
        f.response.topic = 7;
        assert_int_equal(add(&f, 0, "c", &sequence), 0);
        expect_observers(&f, 3);
        observe_set_limits(f.observe, &(struct observe_limits){ .observers_max = 3, .per_peer_max = 1,
                                                                .refresh_us = REFRESH_US });
        assert_int_equal(add(&f, 0, "d", &sequence), 0);       /* for which two have to go */
        expect_observers(&f, 2);
        observe_touch(f.observe, 7);
        turn = expect_turn(&f, 0);
        assert_int_equal(tell(&f, &turn, "changed", &sequence), 1);
        expect_nobody(&f);
        observe_remove(&f.peers[0], BYTES_LITERAL("d"));
        expect_observers(&f, 1);
}

/* RFC 7641 §4.4: each is newer than the one before, also when an observation begins anew, and over 24 bits. */
static void test_sequence(void **state) {
        _cleanup_(fixture_done) struct fixture f;
        struct observe_turn turn;
        uint32_t before, sequence;
        char text[24];

        begin(&f);
        f.peers[0].sequence = 0xfffffc;
        assert_int_equal(add(&f, 0, "a", &before), 0);
        for (int i = 0; i < 10; i++) {
                if (i % 3 == 0) {
                        answer_is(&f, "empty");
                        assert_int_equal(add(&f, 0, "a", &sequence), 0);
                } else {
                        snprintf(text, sizeof(text), "state %d", i);
                        observe_touch(f.observe, 7);
                        turn = expect_turn(&f, 0);
                        assert_int_equal(tell(&f, &turn, text, &sequence), 1);
                        observe_outcome(&f.peers[0], turn.ticket, true, f.now_us);
                }
                assert_int_equal(sequence, (before + 1) & 0xffffff);
                before = sequence;
        }
}

/* Without a change too, so that who is gone is noticed. */
static void test_refresh(void **state) {
        _cleanup_(fixture_done) struct fixture f;
        struct observe_turn turn;
        uint32_t sequence;

        begin(&f);
        assert_int_equal(add(&f, 0, "a", &sequence), 0);
        assert_int_equal(observe_due(f.observe), f.now_us + REFRESH_US);
        observe_timers(f.observe, f.now_us + REFRESH_US - 1);
        expect_nobody(&f);
        f.now_us += REFRESH_US;
        observe_timers(f.observe, f.now_us);
        turn = expect_turn(&f, 0);
        assert_int_equal(tell(&f, &turn, "empty", &sequence), 1);
        f.now_us += SECOND_US;
        observe_outcome(&f.peers[0], turn.ticket, true, f.now_us);
        assert_int_equal(observe_due(f.observe), f.now_us + REFRESH_US); /* from the acknowledgement on */
        expect_nobody(&f);
}

static void test_retry(void **state) {
        _cleanup_(fixture_done) struct fixture f;
        struct observe_turn turn;
        struct bytes token;
        uint32_t sequence;

        begin(&f);
        assert_int_equal(add(&f, 0, "a", &sequence), 0);
        observe_touch(f.observe, 7);
        turn = expect_turn(&f, 0);
        answer_is(&f, "changed");
        assert_int_equal(observe_judge(turn.owner, turn.ticket, &f.response, &token, &sequence), 1);
        assert_true(bytes_equal(token, BYTES_LITERAL("a")));
        observe_later(turn.owner, turn.ticket, f.now_us); /* there was no room */
        observe_touch(f.observe, 7);
        expect_nobody(&f);
        assert_int_equal(observe_due(f.observe), f.now_us + OBSERVE_RETRY_US);
        observe_timers(f.observe, f.now_us + OBSERVE_RETRY_US);
        turn = expect_turn(&f, 0);
        assert_int_equal(tell(&f, &turn, "changed", &sequence), 1); /* it has not heard of it */
}

/* A client that becomes an administrator observes something else from then on. */
static void test_topic_changes(void **state) {
        _cleanup_(fixture_done) struct fixture f;
        struct observe_turn turn;
        uint32_t sequence;

        begin(&f);
        assert_int_equal(add(&f, 0, "a", &sequence), 0);
        observe_touch(f.observe, 7);
        turn = expect_turn(&f, 0);
        f.response.topic = 0;
        assert_int_equal(tell(&f, &turn, "all", &sequence), 1);
        observe_outcome(&f.peers[0], turn.ticket, true, f.now_us);
        observe_touch(f.observe, 7);
        expect_nobody(&f);
        observe_touch(f.observe, 0);
        (void)expect_turn(&f, 0);
}

static void test_order(void **state) {
        _cleanup_(fixture_done) struct fixture f;
        uint32_t sequence;

        begin(&f);
        observe_set_limits(f.observe, &(struct observe_limits){ .observers_max = 6, .per_peer_max = 2,
                                                                .refresh_us = REFRESH_US });
        assert_int_equal(add(&f, 1, "x", &sequence), 0);
        assert_int_equal(add(&f, 0, "a", &sequence), 0);
        assert_int_equal(add(&f, 0, "b", &sequence), 0);
        observe_touch(f.observe, 7);
        (void)expect_turn(&f, 1);
        (void)expect_turn(&f, 0);
        (void)expect_turn(&f, 0);
        expect_nobody(&f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_one_is_told_of_its_topic),
                cmocka_unit_test(test_latest_state_wins),
                cmocka_unit_test(test_what_is_known_is_not_told),
                cmocka_unit_test(test_ends),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_one_topic_for_one_peer),
                cmocka_unit_test(test_oldest_gives_way),
                cmocka_unit_test(test_refused_displaces_none),
                cmocka_unit_test(test_room_of_the_oldest),
                cmocka_unit_test(test_sequence),
                cmocka_unit_test(test_refresh),
                cmocka_unit_test(test_retry),
                cmocka_unit_test(test_topic_changes),
                cmocka_unit_test(test_order),
        };

        fake_random_seed(1);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
