#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <systemd/sd-event.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "base/diag.h"
#include "support/fake.h"
#include "transport/engine.h"
#include "transport/udp.h"

/*
 * The sockets, on loopback and with the kernel's choice of ports, around an engine of the test's own: it echoes. Its
 * functions are found before those of the library.
 */
#define OUTPUT_MAX 4096

struct engine {
        struct datagram output[OUTPUT_MAX];
        uint8_t data[OUTPUT_MAX][64];
        size_t n_output;
        unsigned n_input, n_run, n_closed;
        bool hurries;
        unsigned busy_runs; /* so many runs leave requests waiting */
        int64_t due_us;
        bool add_bad; /* before each echo a datagram that cannot be sent */
        enum door door;
        struct address last;
};

static void output_add(struct engine *engine, const struct datagram *datagram, struct bytes data) {
        struct datagram *out = &engine->output[engine->n_output];

        assert_in_range(engine->n_output, 0, OUTPUT_MAX - 1);
        *out = *datagram;
        out->data = data;
        engine->n_output++;
}

void engine_input(struct engine *engine, const struct datagram *datagram, struct engine_time now) {
        static const uint8_t oversize[65535];
        struct datagram bad = *datagram;
        uint8_t *copy = engine->data[engine->n_output];

        engine->n_input++;
        engine->door = datagram->door;
        engine->last = datagram->remote;
        if (engine->add_bad) {
                output_add(engine, datagram, bytes_of(oversize, sizeof(oversize))); /* EMSGSIZE */
                bad.remote.any.sa_family = AF_UNIX;
                output_add(engine, &bad, BYTES_LITERAL("to no address"));
                bad.socket = 1000;
                output_add(engine, &bad, BYTES_LITERAL("by no socket"));
        }
        memcpy(copy, datagram->data.data, datagram->data.size < 64 ? datagram->data.size : 64);
        output_add(engine, datagram, bytes_of(copy, datagram->data.size < 64 ? datagram->data.size : 64));
}

bool engine_run(struct engine *engine, struct engine_time now) {
        engine->n_run++;
        if (now.monotonic_us >= engine->due_us)
                engine->due_us = INT64_MAX;
        return engine->busy_runs > 0 && --engine->busy_runs > 0;
}

size_t engine_output(struct engine *engine, const struct datagram **ret) {
        *ret = engine->output;
        return engine->n_output;
}

void engine_sent(struct engine *engine) {
        engine->n_output = 0;
}

int64_t engine_due(const struct engine *engine) {
        return engine->due_us;
}

void engine_hurry(struct engine *engine) {
        engine->hurries = true;
}

void engine_close(struct engine *engine, struct engine_time now) {
        engine->n_closed++;
        if (engine->last.size > 0)
                output_add(engine, &(struct datagram){ .remote = engine->last }, BYTES_LITERAL("bye"));
}

/* ---- the rig */

struct rig {
        sd_event *loop;
        struct engine engine;
        struct config config;
        struct udp *udp;
        struct diags diags;
};

static void rig_free(struct rig *rig) {
        udp_free(rig->udp);
        diags_done(&rig->diags);
        sd_event_unref(rig->loop);
        free(rig);
}
DEFINE_FREEP(struct rig, rig_free)

static struct rig *rig_new(const char *coap, const char *coaps, int result) {
        struct rig *rig = calloc(1, sizeof(*rig));

        assert_non_null(rig);
        assert_true(sd_event_new(&rig->loop) >= 0);
        rig->engine.due_us = INT64_MAX;
        if (coap)
                snprintf(rig->config.coap_listen[rig->config.n_coap_listen++].text, 64, "%s", coap);
        if (coaps)
                snprintf(rig->config.coaps_listen[rig->config.n_coaps_listen++].text, 64, "%s", coaps);
        assert_int_equal(udp_new(rig->loop, &rig->engine, &rig->config, &rig->udp, &rig->diags), result);
        return rig;
}

static struct address bound(const struct rig *rig, unsigned n) {
        struct address address;
        enum door door;

        assert_true(udp_bound(rig->udp, n, &door, &address));
        return address;
}

/* A client's socket that takes answers only from the very address it asks. */
static int client_open(const struct address *server) {
        int fd = socket(server->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(connect(fd, &server->any, server->size), 0);
        return fd;
}

/* One turn of the loop, for which there is something to do. */
static void turn(struct rig *rig) {
        assert_true(sd_event_run(rig->loop, 5000000) > 0);
}

/* Nothing is to do: what was sent over loopback is there already. */
static void assert_idle(struct rig *rig) {
        assert_int_equal(sd_event_run(rig->loop, 0), 0);
}

static void ask(int fd, const char *text) {
        assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
}

static void assert_answer(int fd, const char *text) {
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        char answer[100] = "";

        assert_int_equal(poll(&poll_fd, 1, 5000), 1);
        assert_int_equal(recv(fd, answer, sizeof(answer) - 1, 0), strlen(text));
        assert_string_equal(answer, text);
}

static bool has_ipv6(void) {
        struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
        _cleanup_(closep) int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        return fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

/* ---- tests */

static void echo(void **state) {
        static const struct {
                const char *coap, *coaps;
                enum door door;
                bool is_ipv6;
        } cases[] = {
                { "127.0.0.1:0", NULL, DOOR_COAP, false },
                { NULL, "127.0.0.1:0", DOOR_COAPS, false },
                { "[::1]:0", NULL, DOOR_COAP, true },
                { NULL, "[::1]:0", DOOR_COAPS, true },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(rig_freep) struct rig *rig = NULL;
                _cleanup_(closep) int fd = -1;
                struct address address;

                if (cases[i].is_ipv6 && !has_ipv6())
                        continue;
                rig = rig_new(cases[i].coap, cases[i].coaps, 0);
                address = bound(rig, 0);
                fd = client_open(&address);
                ask(fd, "hello");
                turn(rig);
                assert_answer(fd, "hello");
                assert_int_equal(rig->engine.door, cases[i].door);
                assert_int_equal(rig->engine.n_run, 1);
        }
}

/* Bound to "any", an answer still leaves from the address that was asked. */
static void answers_leave_from_where_they_were_asked(void **state) {
        static const char *const asked[] = { "127.0.0.1", "127.0.0.2", "127.1.2.3" };
        _cleanup_(rig_freep) struct rig *rig = rig_new("0.0.0.0:0", NULL, 0);
        struct address address = bound(rig, 0), server;
        char text[64];

        for (size_t i = 0; i < N_ELEMENTS(asked); i++) {
                _cleanup_(closep) int fd = -1;

                snprintf(text, sizeof(text), "%s:%u", asked[i], ntohs(address.in.sin_port));
                assert_int_equal(address_parse(text, &server), 0);
                fd = client_open(&server);
                ask(fd, "hello");
                turn(rig);
                assert_answer(fd, "hello");
        }
}

/* "*:PORT" is both families, at one port. */
static void any_of_both_families(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new("*:0", NULL, 0);
        struct address v4 = bound(rig, 0), v6;
        _cleanup_(closep) int fd = -1;

        assert_int_equal(v4.any.sa_family, AF_INET);
        if (!has_ipv6())
                return;
        v6 = bound(rig, 1);
        assert_int_equal(v6.any.sa_family, AF_INET6);
        assert_int_equal(v6.in6.sin6_port, v4.in.sin_port);
        v6.in6.sin6_addr = in6addr_loopback;
        fd = client_open(&v6);
        ask(fd, "hello");
        turn(rig);
        assert_answer(fd, "hello");
}

static void bursts(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new("127.0.0.1:0", NULL, 0);
        struct address address = bound(rig, 0);
        _cleanup_(closep) int fd = client_open(&address);
        char text[16];

        for (unsigned i = 0; i < 150; i++) {
                snprintf(text, sizeof(text), "%u", i);
                ask(fd, text);
        }
        while (rig->engine.n_input < 150)
                turn(rig);
        assert_int_equal(rig->engine.n_run, 3); /* 64, 64 and 22 in a batch: not one each, not all at once */
        for (unsigned i = 0; i < 150; i++) {
                snprintf(text, sizeof(text), "%u", i);
                assert_answer(fd, text);
        }
}

static void oversize_datagrams(void **state) {
        static const uint8_t data[20000];
        _cleanup_(rig_freep) struct rig *rig = rig_new("127.0.0.1:0", NULL, 0);
        struct address address = bound(rig, 0);
        _cleanup_(closep) int fd = client_open(&address);
        struct udp_figures figures;

        assert_int_equal(send(fd, data, sizeof(data), 0), sizeof(data));
        assert_int_equal(send(fd, data, 0, 0), 0);
        ask(fd, "hello");
        turn(rig);
        udp_figures(rig->udp, &figures);
        assert_int_equal(figures.n_truncated, 1);
        assert_int_equal(rig->engine.n_input, 2);
        assert_answer(fd, "");
        assert_answer(fd, "hello");
}

/* What the kernel will not send is dropped and counted; what comes behind it goes out. */
static void unsendable_datagrams(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new("127.0.0.1:0", NULL, 0);
        struct address address = bound(rig, 0);
        _cleanup_(closep) int fd = client_open(&address);
        struct udp_figures figures;

        rig->engine.add_bad = true;
        ask(fd, "one");
        ask(fd, "two");
        turn(rig);
        assert_answer(fd, "one");
        assert_answer(fd, "two");
        udp_figures(rig->udp, &figures);
        assert_int_equal(figures.n_unsent, 6);
}

/* A peer that went away (ICMP port unreachable) is nobody else's trouble. */
static void vanished_peers(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new("127.0.0.1:0", NULL, 0);
        struct address address = bound(rig, 0);
        _cleanup_(closep) int fd = client_open(&address);

        for (unsigned i = 0; i < 5; i++) {
                _cleanup_(closep) int gone = client_open(&address);

                ask(gone, "gone");
        }
        turn(rig);
        for (unsigned i = 0; i < 5; i++) {
                ask(fd, "here");
                turn(rig);
                assert_answer(fd, "here");
        }
}

/* Requests that wait are run without new input, a bounded number of batches in one turn of the loop. */
static void waiting_requests(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new("127.0.0.1:0", NULL, 0);
        struct address address = bound(rig, 0);
        _cleanup_(closep) int fd = client_open(&address);

        rig->engine.busy_runs = 10;
        ask(fd, "hello");
        turn(rig);
        assert_int_equal(rig->engine.n_run, 4);
        turn(rig);
        assert_int_equal(rig->engine.n_run, 8);
        turn(rig);
        assert_int_equal(rig->engine.n_run, 10);
        assert_idle(rig);
}

static void timers(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new("127.0.0.1:0", NULL, 0);

        fake_clock_set(1700000000, 5000000);
        assert_idle(rig);
        rig->engine.due_us = 5000000 + 3600 * INT64_C(1000000);
        assert_idle(rig);
        fake_clock_advance_us(3600 * INT64_C(1000000));
        turn(rig);
        assert_int_equal(rig->engine.n_run, 1);
        assert_idle(rig);
}

static void draining(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new("127.0.0.1:0", NULL, 0);
        struct address address = bound(rig, 0);
        _cleanup_(closep) int fd = client_open(&address);

        ask(fd, "hello");
        turn(rig);
        assert_answer(fd, "hello");
        rig->engine.busy_runs = 100;
        udp_drain(rig->udp);
        assert_int_equal(rig->engine.busy_runs, 0);
        assert_true(rig->engine.hurries); /* nothing that waits for company is left behind */
        assert_int_equal(rig->engine.n_closed, 1);
        assert_answer(fd, "bye");
        ask(fd, "too late");
        assert_idle(rig);
        assert_int_equal(rig->engine.n_input, 1);
}

/* ---- faults */

static void assert_fault(const struct rig *rig, const char *part) {
        assert_int_equal(rig->diags.n_items, 1);
        if (!strstr(rig->diags.items[0].text, part))
                fail_msg("'%s' has no '%s'", rig->diags.items[0].text, part);
        assert_null(rig->udp);
}

static void address_in_use(void **state) {
        _cleanup_(rig_freep) struct rig *first = rig_new("127.0.0.1:0", NULL, 0), *second = NULL;
        struct address address = bound(first, 0);
        char text[ADDRESS_TEXT_SIZE];

        address_text(&address, text, sizeof(text));
        second = rig_new(NULL, text, -EINVAL);
        assert_fault(second, text);
        assert_fault(second, "is another aced running there?");
}

static void bad_addresses(void **state) {
        static const struct {
                const char *text, *part;
        } cases[] = {
                { "localhost:5684", "is no address" },
                { "5684", "is no address" },
                { "192.0.2.1:0", "no interface of this machine has that address" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(rig_freep) struct rig *rig = rig_new(NULL, cases[i].text, -EINVAL);

                assert_fault(rig, cases[i].text);
                assert_fault(rig, cases[i].part);
                assert_fault(rig, "[coaps] listen");
        }
}

static void all_faults_at_once(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new("nonsense", "more:nonsense", -EINVAL);

        assert_int_equal(rig->diags.n_items, 2);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(echo),
                cmocka_unit_test(answers_leave_from_where_they_were_asked),
                cmocka_unit_test(any_of_both_families),
                cmocka_unit_test(bursts),
                cmocka_unit_test(oversize_datagrams),
                cmocka_unit_test(unsendable_datagrams),
                cmocka_unit_test(vanished_peers),
                cmocka_unit_test(waiting_requests),
                cmocka_unit_test(timers),
                cmocka_unit_test(draining),
                cmocka_unit_test(address_in_use),
                cmocka_unit_test(bad_addresses),
                cmocka_unit_test(all_faults_at_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
