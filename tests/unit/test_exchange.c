#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "support/fake.h"
#include "transport/exchange.h"

/*
 * The message layer of RFC 7252 §4, played with a clock that stands still until a test moves it.
 */
#define MS INT64_C(1000)
#define S (1000 * MS)
#define START (1000 * S)
#define SENT_MAX 64
#define TICKETS_MAX 2048

/* The other end of the line: what came there, and what the one who answers requests was told. */
struct line {
        struct exchange *exchange;
        struct exchange_peer *peer;
        int64_t now_us;
        struct {
                size_t size;
                uint8_t data[MESSAGE_SIZE_MAX];
        } sent[SENT_MAX]; /* the last ones */
        size_t n_sent;
        uint64_t tickets[TICKETS_MAX]; /* the last ones */
        size_t n_requests;
        uint64_t ended;
        int outcome; /* of ended: -1 none, 0 not acknowledged, 1 acknowledged */
};

static void on_request(void *context, struct exchange_peer *peer, uint64_t ticket, const struct coap_message *message) {
        struct line *line = context;

        line->tickets[line->n_requests++ % TICKETS_MAX] = ticket;
}

static void on_send(void *context, struct exchange_peer *peer, struct bytes datagram) {
        struct line *line = context;
        size_t at = line->n_sent++ % SENT_MAX;

        assert_true(datagram.size <= sizeof(line->sent[at].data));
        memcpy(line->sent[at].data, datagram.data, datagram.size);
        line->sent[at].size = datagram.size;
}

static void on_outcome(void *context, struct exchange_peer *peer, uint64_t ticket, bool acknowledged) {
        struct line *line = context;

        line->ended = ticket;
        line->outcome = acknowledged;
}

static void open_line(struct line *line, int64_t answers_max, bool authenticated) {
        const struct exchange_callbacks callbacks = {
                .context = line, .request = on_request, .send = on_send, .outcome = on_outcome };

        *line = (struct line){ .now_us = START, .outcome = -1 };
        fake_random_seed(7);
        fake_random_fail_at(0);
        assert_int_equal(
                exchange_new(&callbacks, &(struct exchange_limits){ .answers_max = answers_max }, &line->exchange), 0);
        assert_int_equal(exchange_peer_new(line->exchange, line, &line->peer), 0);
        assert_ptr_equal(exchange_peer_owner(line->peer), line);
        if (authenticated)
                exchange_peer_set_authenticated(line->peer);
}

static void close_line(struct line *line) {
        exchange_peer_free(line->peer);
        exchange_free(line->exchange);
}

static uint64_t n_duplicates(const struct line *line) {
        struct exchange_figures figures;

        exchange_figures(line->exchange, &figures);
        return figures.n_duplicates;
}

static void hear(struct line *line, const char *hex) {
        uint8_t data[256];
        size_t size;

        assert_int_equal(bytes_from_hex(hex, data, sizeof(data), &size), 0);
        exchange_input(line->peer, bytes_of(data, size), line->now_us);
}

/* A GET without options: confirmable or not, token of one byte. */
static void hear_get(struct line *line, bool is_non, uint16_t mid) {
        char hex[16];

        snprintf(hex, sizeof(hex), "%s01%04xaa", is_non ? "51" : "41", mid);
        hear(line, hex);
}

static void wait_until(struct line *line, int64_t at_us) {
        line->now_us = at_us;
        exchange_timers(line->exchange, line->now_us);
}

static uint64_t last_ticket(const struct line *line) {
        return line->tickets[(line->n_requests - 1) % TICKETS_MAX];
}

static int answer_with(struct line *line, uint64_t ticket, const char *payload) {
        struct coap_message message = { .code = CODE_CONTENT, .payload = bytes_text(payload) };

        return exchange_answer(line->peer, ticket, &message, line->now_us);
}

static void sent_hex(const struct line *line, size_t n, char *text, size_t text_size) {
        const size_t at = n % SENT_MAX;

        bytes_to_hex(bytes_of(line->sent[at].data, line->sent[at].size), text, text_size);
}

/* Since n_before exactly one message was sent, and it is this. */
#define assert_said(line, n_before, hex)                                                  \
        do {                                                                              \
                char _text[2 * MESSAGE_SIZE_MAX + 1];                                     \
                assert_int_equal((line)->n_sent, (n_before) + 1);                         \
                sent_hex(line, (line)->n_sent - 1, _text, sizeof(_text));                 \
                assert_string_equal(_text, hex);                                          \
        } while (0)

static const uint8_t *last_sent(const struct line *line) {
        return line->sent[(line->n_sent - 1) % SENT_MAX].data;
}

static uint16_t last_mid(const struct line *line) {
        return (uint16_t)(last_sent(line)[2] << 8 | last_sent(line)[3]);
}

/* ---- one datagram */

enum reaction {
        SILENCE,
        RESET,
        REQUEST,   /* handed on */
        REFUSED,   /* a request: answered here */
        UNREFUSED, /* a request: met with silence */
};

/* Every row is the first datagram of a new peer. says ends in "*": its beginning (a Message ID of ours follows). */
static const struct {
        const char *what, *hex;
        enum reaction reaction;
        const char *says;
} firsts[] = {
        { "ping", "40001234", RESET, "70001234" },
        { "empty non-confirmable", "50001234", SILENCE, "" },
        { "acknowledgement of nothing", "60001234", SILENCE, "" },
        { "reset of nothing", "70001234", SILENCE, "" },
        { "nothing at all", "", SILENCE, "" },
        { "cut header", "400112", SILENCE, "" },
        { "version 0", "00011234", SILENCE, "" },
        { "version 2", "80011234", SILENCE, "" },
        { "version 3", "c0011234", SILENCE, "" },
        { "token of 9", "49011234000000000000000000", RESET, "70001234" },
        { "token of 15", "4f011234000000000000000000000000000000", RESET, "70001234" },
        { "token cut", "480112340000", RESET, "70001234" },
        { "empty with token", "4100123401", RESET, "70001234" },
        { "empty with payload", "40001234ff00", RESET, "70001234" },
        { "payload marker alone", "40011234ff", RESET, "70001234" },
        { "option delta 15", "40011234f0", RESET, "70001234" },
        { "option length 15", "400112341f", RESET, "70001234" },
        { "option cut", "40011234b5746f", RESET, "70001234" },
        { "non-confirmable payload marker alone", "50011234ff", SILENCE, "" },
        { "non-confirmable token of 9", "59011234000000000000000000", SILENCE, "" },
        { "acknowledgement with format error", "60451234ff", SILENCE, "" },
        { "reset with format error", "70001234ff", SILENCE, "" },
        { "request in an acknowledgement", "60011234", SILENCE, "" },
        { "request in a reset", "70011234", SILENCE, "" },
        { "confirmable response", "40451234", RESET, "70001234" },
        { "confirmable error response", "40841234", RESET, "70001234" },
        { "non-confirmable response", "50451234", SILENCE, "" },
        { "piggybacked response", "60451234", SILENCE, "" },
        { "class 1", "40211234", RESET, "70001234" },
        { "class 3", "40611234", RESET, "70001234" },
        { "class 6", "40c11234", RESET, "70001234" },
        { "class 7", "40e11234", RESET, "70001234" },
        { "non-confirmable class 1", "50211234", SILENCE, "" },
        { "non-confirmable class 6", "50c11234", SILENCE, "" },
        { "non-confirmable class 7", "50e11234", SILENCE, "" },
        { "acknowledgement class 7", "60e11234", SILENCE, "" },
        { "confirmable GET", "40011234", REQUEST, "" },
        { "confirmable iPATCH", "40071234", REQUEST, "" },
        { "non-confirmable POST", "50021234", REQUEST, "" },
        { "token of 8", "480112340102030405060708", REQUEST, "" },
        { "method 0.08", "41081234aa", REFUSED, "61851234aa" },
        { "method 0.31", "401f1234", REFUSED, "60851234" },
        { "non-confirmable method 0.08", "51081234aa", REFUSED, "5185*" },
        { "unknown critical option 13", "4101123477" "d000", REFUSED, "6182123477" "ff6f7074696f6e203133" },
        { "OSCORE", "4102123477" "90" "ff00", REQUEST, "" },
        { "OSCORE, with an unknown method", "4108123477" "90" "ff00", REQUEST, "" },
        { "OSCORE, with critical options that are nobody's word", "4102123477" "10" "80" "40" "ff00", REQUEST, "" },
        { "OSCORE twice", "4102123477" "90" "00" "ff00", REFUSED, "6182123477" "ff6f7074696f6e2039" },
        { "OSCORE with EDHOC", "4102123477" "90" "c0" "ff00", REFUSED, "6182123477" "ff6f7074696f6e203231" },
        { "OSCORE with Proxy-Uri", "4102123477" "90" "d10d61" "ff00", REFUSED, "61a5123477" },
        { "unknown critical option 65001", "40011234" "e0fcdc", REFUSED, "60821234" "ff6f7074696f6e203635303031" },
        { "non-confirmable, unknown critical option", "51011234aa" "d000", UNREFUSED, "" },
        { "unknown elective option 65000", "40011234" "e0fcdb", REQUEST, "" },
        { "Accept of three bytes", "40011234" "d304000000", REFUSED, "60821234" "ff6f7074696f6e203137" },
        { "Uri-Host twice", "40011234" "3161" "0162", REFUSED, "60821234" "ff6f7074696f6e2033" },
        { "If-None-Match", "40011234" "50", REFUSED, "60821234" "ff6f7074696f6e2035" },
        { "Proxy-Uri", "40011234" "d11661", REFUSED, "60a51234" },
        { "Proxy-Scheme", "40011234" "d11a61", REFUSED, "60a51234" },
        { "non-confirmable, Proxy-Uri", "51011234aa" "d11661", REFUSED, "51a5*" },
        { "Block1, a later one", "40021234" "d10e1e", REQUEST, "" },
        { "Block2, a later one", "40011234" "d10a16", REQUEST, "" },
        { "critical option behind Block1", "40021234" "d10e1e" "20", REFUSED, "60821234" "ff6f7074696f6e203239" },
        { "critical option before Block1", "40021234" "d008" "61" "1e", REFUSED, "60821234" "ff6f7074696f6e203231" },
        { "Uri-Path, Content-Format, payload", "40021234" "b5746f6b656e" "1113" "ffa0", REQUEST, "" },
};

static void t_first_datagram(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(firsts); i++) {
                const char *says = firsts[i].says;
                char text[256] = "";
                struct line line;
                uint8_t data[256];
                size_t size;

                open_line(&line, 8, true);
                assert_int_equal(bytes_from_hex(firsts[i].hex, data, sizeof(data), &size), 0);
                if (exchange_is_request(bytes_of(data, size)) != (firsts[i].reaction >= REQUEST))
                        fail_msg("%s: is a request or not", firsts[i].what);
                hear(&line, firsts[i].hex);
                if (line.n_requests != (firsts[i].reaction == REQUEST) || line.n_sent != (says[0] != '\0'))
                        fail_msg("%s: %zu requests, %zu sent", firsts[i].what, line.n_requests, line.n_sent);
                if (says[0]) {
                        sent_hex(&line, 0, text, sizeof(text));
                        size = strlen(says);
                        if (says[size - 1] == '*' ? strncmp(text, says, size - 1) != 0 : strcmp(text, says) != 0)
                                fail_msg("%s: said %s", firsts[i].what, text);
                }
                close_line(&line);
        }
}

/* Whoever may be somebody else is told the code alone, in no more bytes than were sent. */
static void t_unauthenticated_is_told_less(void **state) {
        struct line line;

        open_line(&line, 8, false);
        hear(&line, "4101123477d000");
        assert_said(&line, 0, "6182123477");
        close_line(&line);
}

/* A refusal is an answer: a duplicate gets the same, and a non-confirmable one is not answered twice. */
static void t_refusal_repeated(void **state) {
        struct line line;

        open_line(&line, 8, true);
        hear(&line, "41081234aa");
        hear(&line, "41081234aa");
        assert_said(&line, 1, "61851234aa");
        hear(&line, "51081235aa");
        hear(&line, "51081235aa");
        assert_int_equal(line.n_sent, 3);
        assert_int_equal(n_duplicates(&line), 2);
        close_line(&line);
}

/* ---- duplicates */

static void t_piggybacked_and_repeated(void **state) {
        struct line line;

        open_line(&line, 8, true);
        hear(&line, "44011234cafef00d");
        assert_int_equal(line.n_requests, 1);
        assert_int_equal(answer_with(&line, last_ticket(&line), "hello"), 0);
        assert_said(&line, 0, "64451234cafef00dff68656c6c6f");

        hear(&line, "44011234cafef00d"); /* in the same microsecond */
        assert_said(&line, 1, "64451234cafef00dff68656c6c6f");
        wait_until(&line, START + 93 * S);
        hear(&line, "44011234cafef00d");
        assert_said(&line, 2, "64451234cafef00dff68656c6c6f");
        assert_int_equal(line.n_requests, 1);
        assert_int_equal(n_duplicates(&line), 2);
        close_line(&line);
}

/* Or else one long request would let many short ones, from the same spoofed address, call for its long answer. */
static void t_strangers_short_duplicate_gets_no_long_answer(void **state) {
        struct line line;

        open_line(&line, 8, false);
        hear(&line, "41011234aab27879");
        assert_int_equal(answer_with(&line, last_ticket(&line), "abc"), 0);
        assert_said(&line, 0, "61451234aaff616263");
        hear(&line, "41011234aa");
        hear(&line, "40011234");
        assert_int_equal(line.n_sent, 1);
        hear(&line, "41011234aab27879");
        assert_said(&line, 1, "61451234aaff616263");
        assert_int_equal(line.n_requests, 1);
        close_line(&line);
}

static void t_duplicate_while_pending(void **state) {
        struct line line;

        open_line(&line, 8, true);
        hear_get(&line, false, 1);
        hear_get(&line, false, 1);
        assert_int_equal(line.n_requests, 1);
        assert_int_equal(line.n_sent, 0);
        assert_int_equal(n_duplicates(&line), 1);
        assert_int_equal(answer_with(&line, last_ticket(&line), ""), 0);
        assert_said(&line, 0, "61450001aa");
        close_line(&line);
}

/* RFC 7252 §4.5: processed once, duplicates silently ignored. */
static void t_non_answered_once(void **state) {
        struct line line;

        open_line(&line, 8, true);
        hear_get(&line, true, 1);
        hear_get(&line, true, 1);
        assert_int_equal(answer_with(&line, last_ticket(&line), "x"), 0);
        assert_int_equal(last_sent(&line)[0], 0x51);
        assert_int_equal(last_sent(&line)[1], CODE_CONTENT);
        hear_get(&line, true, 1);
        assert_int_equal(line.n_requests, 1);
        assert_int_equal(line.n_sent, 1);
        close_line(&line);
}

static void t_types_are_apart(void **state) {
        struct line line;

        open_line(&line, 8, true);
        hear_get(&line, false, 1);
        hear_get(&line, true, 1);
        assert_int_equal(line.n_requests, 2);
        close_line(&line);
}

/* EXCHANGE_LIFETIME 247 s and NON_LIFETIME 145 s, to the millisecond; the timers may or may not have run. */
static void t_lifetimes_end(void **state) {
        static const struct {
                bool is_non, timers;
                int64_t after_us;
                size_t n_requests;
        } cases[] = {
                { false, false, 247 * S - MS, 1 }, { false, true, 247 * S - MS, 1 }, { false, false, 247 * S + MS, 2 },
                { false, true, 247 * S + MS, 2 },  { true, false, 145 * S - MS, 1 }, { true, true, 145 * S - MS, 1 },
                { true, false, 145 * S + MS, 2 },  { true, true, 145 * S + MS, 2 },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct line line;

                open_line(&line, 8, true);
                hear_get(&line, cases[i].is_non, 1);
                answer_with(&line, last_ticket(&line), "x");
                line.now_us = START + cases[i].after_us;
                if (cases[i].timers)
                        exchange_timers(line.exchange, line.now_us);
                hear_get(&line, cases[i].is_non, 1);
                if (line.n_requests != cases[i].n_requests)
                        fail_msg("case %zu: %zu requests", i, line.n_requests);
                close_line(&line);
        }
}

/* A Message ID used again after its lifetime is a request of its own, and so are its duplicates. */
static void t_mid_reused_after_lifetime(void **state) {
        struct line line;

        open_line(&line, 8, true);
        hear_get(&line, false, 1);
        answer_with(&line, last_ticket(&line), "old");
        line.now_us = START + 248 * S;
        hear_get(&line, false, 1);
        answer_with(&line, last_ticket(&line), "new");
        assert_said(&line, 1, "61450001aaff6e6577");
        hear_get(&line, false, 1);
        assert_said(&line, 2, "61450001aaff6e6577");
        assert_int_equal(line.n_requests, 2);
        close_line(&line);
}

/* Only answers_max answers are kept; what is older is still known, so that it is not executed twice. */
static void t_dropped_answer_is_silence(void **state) {
        struct line line;

        open_line(&line, 2, true);
        for (uint16_t mid = 1; mid <= 3; mid++) {
                hear_get(&line, false, mid);
                assert_int_equal(answer_with(&line, last_ticket(&line), "x"), 0);
        }
        hear_get(&line, false, 1);
        assert_int_equal(line.n_sent, 3);
        hear_get(&line, false, 2);
        assert_said(&line, 3, "61450002aaff78");
        hear_get(&line, false, 3);
        assert_said(&line, 4, "61450003aaff78");
        assert_int_equal(line.n_requests, 3);

        exchange_set_limits(line.exchange, &(struct exchange_limits){ .answers_max = 1 });
        hear_get(&line, false, 4);
        assert_int_equal(answer_with(&line, last_ticket(&line), "x"), 0);
        hear_get(&line, false, 3);
        assert_int_equal(line.n_sent, 6);
        close_line(&line);
}

static void t_forgotten_is_served_anew(void **state) {
        struct line line;
        uint64_t ticket;

        open_line(&line, 8, true);
        hear_get(&line, false, 1);
        ticket = last_ticket(&line);
        exchange_forget(line.peer, ticket);
        assert_int_equal(answer_with(&line, ticket, "x"), -ENOENT);
        hear_get(&line, false, 1);
        assert_int_equal(line.n_requests, 2);
        assert_int_equal(answer_with(&line, ticket, "x"), -ENOENT);
        assert_int_equal(answer_with(&line, last_ticket(&line), "x"), 0);
        assert_int_equal(line.n_sent, 1);
        wait_until(&line, START + 5 * S); /* nobody waits for an acknowledgement */
        assert_int_equal(line.n_sent, 1);
        close_line(&line);
}

/* ---- tickets */

static void t_tickets_end(void **state) {
        struct line line;
        uint64_t ticket;

        open_line(&line, 8, true);
        hear_get(&line, false, 1);
        ticket = last_ticket(&line);
        assert_int_equal(answer_with(&line, ticket + 1, "x"), -ENOENT);
        assert_int_equal(answer_with(&line, ticket, "x"), 0);
        assert_int_equal(answer_with(&line, ticket, "x"), -ENOENT);

        hear_get(&line, false, 2);
        ticket = last_ticket(&line);
        exchange_peer_free(line.peer);
        assert_int_equal(exchange_peer_new(line.exchange, &line, &line.peer), 0);
        hear_get(&line, false, 2);
        assert_true(last_ticket(&line) != ticket);
        assert_int_equal(answer_with(&line, ticket, "x"), -ENOENT);
        wait_until(&line, START + 2 * S); /* the empty Acknowledgement is the second peer's alone */
        assert_said(&line, 1, "60000002");
        close_line(&line);
}

static void t_too_long_answer_can_be_another(void **state) {
        char payload[MESSAGE_SIZE_MAX + 1];
        struct line line;

        memset(payload, 'x', sizeof(payload) - 1);
        payload[sizeof(payload) - 1] = '\0';
        open_line(&line, 8, true);
        for (unsigned is_non = 0; is_non < 2; is_non++) {
                hear_get(&line, is_non, 1);
                assert_int_equal(answer_with(&line, last_ticket(&line), payload), -EOVERFLOW);
                assert_int_equal(line.n_sent, is_non);
                assert_int_equal(answer_with(&line, last_ticket(&line), "x"), 0);
        }
        hear_get(&line, false, 2);
        payload[MESSAGE_SIZE_MAX - 6] = '\0'; /* header, token and marker take the rest */
        assert_int_equal(answer_with(&line, last_ticket(&line), payload), 0);
        assert_int_equal(line.sent[2].size, MESSAGE_SIZE_MAX);
        close_line(&line);
}

/* ---- separate answers */

/* After a second without an answer. */
static void make_separate(struct line *line, uint16_t mid) {
        size_t n_before;
        char hex[16];

        hear_get(line, false, mid);
        n_before = line->n_sent;
        wait_until(line, line->now_us + S);
        snprintf(hex, sizeof(hex), "6000%04x", mid);
        assert_said(line, n_before, hex);
}

static void hear_back(struct line *line, const char *type_code, uint16_t mid) {
        char hex[16];

        snprintf(hex, sizeof(hex), "%s%04x", type_code, mid);
        hear(line, hex);
}

static void t_separate(void **state) {
        struct line line;
        uint16_t mid;

        open_line(&line, 8, true);
        hear_get(&line, false, 1);
        assert_int_equal(exchange_due(line.exchange), START + S);
        wait_until(&line, START + S - 1);
        assert_int_equal(line.n_sent, 0);
        wait_until(&line, START + S);
        assert_said(&line, 0, "60000001");
        hear_get(&line, false, 1);
        assert_said(&line, 1, "60000001");

        assert_int_equal(answer_with(&line, last_ticket(&line), "late"), 0);
        assert_int_equal(line.n_sent, 3);
        mid = last_mid(&line);
        assert_int_equal(last_sent(&line)[0], 0x41);
        assert_int_equal(last_sent(&line)[1], CODE_CONTENT);
        assert_int_equal(last_sent(&line)[4], 0xaa);
        hear_get(&line, false, 1);
        assert_said(&line, 3, "60000001");

        hear_back(&line, "6000", (uint16_t)(mid + 1));
        hear_back(&line, "6001", mid); /* a request is no acknowledgement */
        hear_back(&line, "7001", mid); /* nor is this a reset */
        assert_int_equal(line.outcome, -1);
        hear_back(&line, "6000", mid);
        assert_int_equal(line.outcome, 1);
        assert_true(line.ended == last_ticket(&line));
        hear_back(&line, "6000", mid);
        wait_until(&line, START + 100 * S);
        assert_int_equal(line.n_sent, 4);
        hear_get(&line, false, 1);
        assert_said(&line, 4, "60000001");
        assert_int_equal(line.n_requests, 1);
        close_line(&line);
}

static void t_separate_reset(void **state) {
        struct line line;

        open_line(&line, 8, true);
        make_separate(&line, 1);
        answer_with(&line, last_ticket(&line), "late");
        hear_back(&line, "7000", last_mid(&line));
        assert_int_equal(line.outcome, 0);
        wait_until(&line, START + 100 * S);
        assert_int_equal(line.n_sent, 2);
        close_line(&line);
}

/* RFC 7252 §4.2: ACK_TIMEOUT 2 s, times 1 to 1.5, doubled each time, four retransmissions, then given up. */
static void t_separate_given_up(void **state) {
        bool differ = false;
        int64_t last = 0;

        for (unsigned seed = 0; seed < 20; seed++) {
                uint8_t first[64];
                size_t size, n_sent;
                int64_t sent_us, timeout_us = 0;
                struct line line;

                open_line(&line, 8, true);
                exchange_peer_free(line.peer);
                fake_random_seed(seed);
                assert_int_equal(exchange_peer_new(line.exchange, &line, &line.peer), 0);
                exchange_peer_set_authenticated(line.peer);
                make_separate(&line, 1);
                answer_with(&line, last_ticket(&line), "late");
                size = line.sent[1].size;
                memcpy(first, line.sent[1].data, size);
                for (unsigned n = 0; n < 5; n++) {
                        n_sent = line.n_sent;
                        sent_us = line.now_us;
                        if (n == 0) {
                                timeout_us = exchange_due(line.exchange) - sent_us;
                                assert_in_range(timeout_us, 2 * S, 3 * S);
                                differ = differ || (last != 0 && last != timeout_us);
                                last = timeout_us;
                        } else {
                                timeout_us *= 2;
                                assert_true(exchange_due(line.exchange) - sent_us == timeout_us);
                        }
                        wait_until(&line, sent_us + timeout_us - 1);
                        assert_int_equal(line.n_sent, n_sent);
                        wait_until(&line, sent_us + timeout_us);
                        if (n < 4) {
                                assert_int_equal(line.n_sent, n_sent + 1);
                                assert_int_equal(line.sent[n_sent].size, size);
                                assert_memory_equal(line.sent[n_sent].data, first, size);
                                assert_int_equal(line.outcome, -1);
                        }
                }
                assert_int_equal(line.n_sent, 6);
                assert_int_equal(line.outcome, 0);
                close_line(&line);
        }
        assert_true(differ);
}

/* NSTART 1: the next goes when the one before has ended, however it ended. */
static void t_one_confirmable_at_a_time(void **state) {
        uint64_t tickets[3];
        struct line line;
        size_t n_sent;
        uint16_t mid;

        open_line(&line, 8, true);
        for (uint16_t i = 0; i < 3; i++) {
                make_separate(&line, i);
                tickets[i] = last_ticket(&line);
        }
        n_sent = line.n_sent;
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(answer_with(&line, tickets[i], "late"), 0);
        assert_int_equal(line.n_sent, n_sent + 1);
        mid = last_mid(&line);
        hear_back(&line, "6000", (uint16_t)(mid + 1)); /* that one is not under way yet */
        assert_int_equal(line.n_sent, n_sent + 1);
        hear_back(&line, "6000", mid);
        assert_true(line.ended == tickets[0]);
        assert_int_equal(line.n_sent, n_sent + 2);
        assert_int_equal(last_mid(&line), (uint16_t)(mid + 1));
        hear_back(&line, "7000", last_mid(&line));
        assert_true(line.ended == tickets[1]);
        assert_int_equal(line.n_sent, n_sent + 3);
        hear_back(&line, "6045", last_mid(&line)); /* with an unasked response: acknowledged all the same */
        assert_true(line.ended == tickets[2]);
        assert_int_equal(line.outcome, 1);
        close_line(&line);
}

/* The queue is bounded; what does not fit goes once, as a non-confirmable message. */
static void t_outgoing_is_bounded(void **state) {
        uint64_t tickets[EXCHANGE_OUTGOING_MAX + 1];
        struct line line;
        size_t n_sent;

        open_line(&line, 8, true);
        for (uint16_t i = 0; i <= EXCHANGE_OUTGOING_MAX; i++) {
                hear_get(&line, false, i);
                tickets[i] = last_ticket(&line);
        }
        wait_until(&line, START + S);
        n_sent = line.n_sent;
        for (unsigned i = 0; i <= EXCHANGE_OUTGOING_MAX; i++)
                assert_int_equal(answer_with(&line, tickets[i], "late"), 0);
        assert_int_equal(line.n_sent, n_sent + 2);
        assert_int_equal(line.sent[n_sent % SENT_MAX].data[0], 0x41);
        assert_int_equal(last_sent(&line)[0], 0x51);
        close_line(&line); /* with a queue */
}

/* Nothing that is repeated goes to an address that may be somebody else's. */
static int notify(struct line *line, uint64_t number) {
        uint8_t payload[MESSAGE_SIZE_MAX] = {};
        struct coap_message message = { .code = CODE_CONTENT, .token = BYTES_LITERAL("\xaa"),
                                        .payload = bytes_of(payload, number == 0 ? sizeof(payload) : 5) };

        return exchange_notify(line->peer, EXCHANGE_TICKET_OWN | number, &message, line->now_us);
}

/* RFC 7641 §4.5: a message of our own is confirmable, waits for its turn, and its outcome is told. */
static void t_notify(void **state) {
        struct line line;
        uint16_t mid;

        open_line(&line, 8, true);
        assert_int_equal(notify(&line, 0), -EOVERFLOW);
        for (uint64_t i = 1; i <= EXCHANGE_OUTGOING_MAX; i++)
                assert_int_equal(notify(&line, i), 0);
        assert_int_equal(notify(&line, 99), -EBUSY);
        assert_int_equal(line.n_sent, 1);
        assert_int_equal(last_sent(&line)[0], 0x41);
        assert_int_equal(last_sent(&line)[1], CODE_CONTENT);
        assert_int_equal(last_sent(&line)[4], 0xaa);
        mid = last_mid(&line);
        hear_back(&line, "6000", mid);
        assert_true(line.ended == (EXCHANGE_TICKET_OWN | 1) && line.outcome == 1);
        assert_int_equal(line.n_sent, 2);
        hear_back(&line, "7000", last_mid(&line));
        assert_true(line.ended == (EXCHANGE_TICKET_OWN | 2) && line.outcome == 0);
        for (int i = 0; i < 5; i++)
                wait_until(&line, exchange_due(line.exchange));
        assert_true(line.ended == (EXCHANGE_TICKET_OWN | 3) && line.outcome == 0); /* given up */
        close_line(&line);

        open_line(&line, 8, false);
        assert_int_equal(notify(&line, 1), -EPERM); /* nobody is sent what could be turned against a third */
        assert_int_equal(line.n_sent, 0);
        close_line(&line);
}

static void t_unauthenticated_is_not_repeated_to(void **state) {
        struct line line;

        open_line(&line, 8, false);
        make_separate(&line, 1);
        assert_int_equal(answer_with(&line, last_ticket(&line), "late"), 0);
        assert_int_equal(last_sent(&line)[0], 0x51);
        wait_until(&line, START + 100 * S);
        assert_int_equal(line.n_sent, 2);
        close_line(&line);
}

/* ---- our own Message IDs (RFC 7252 §4.4) */

static void t_own_mids_start_anywhere(void **state) {
        uint16_t firsts_seen[4];
        struct line line;

        open_line(&line, 8, true);
        for (unsigned i = 0; i < 4; i++) {
                exchange_peer_free(line.peer);
                assert_int_equal(exchange_peer_new(line.exchange, &line, &line.peer), 0);
                hear_get(&line, true, 1);
                answer_with(&line, last_ticket(&line), "x");
                firsts_seen[i] = last_mid(&line);
                hear_get(&line, true, 2);
                answer_with(&line, last_ticket(&line), "x");
                assert_int_equal(last_mid(&line), (uint16_t)(firsts_seen[i] + 1));
        }
        assert_true(firsts_seen[0] != firsts_seen[1] || firsts_seen[1] != firsts_seen[2] ||
                    firsts_seen[2] != firsts_seen[3]);
        close_line(&line);
}

/* However fast it is asked, no Message ID comes again within EXCHANGE_LIFETIME. */
static void t_own_mids_rest(void **state) {
        static int64_t used_us[65536];
        unsigned n_busy = 0, n_sent = 0;
        struct line line;
        int r;

        memset(used_us, 0, sizeof(used_us));
        open_line(&line, 8, true);
        for (unsigned i = 0; i < 200000; i++) {
                line.now_us += 4 * MS; /* 250 a second for 800 s */
                hear_get(&line, true, (uint16_t)i);
                r = answer_with(&line, last_ticket(&line), "x");
                if (r != 0) {
                        assert_int_equal(r, -EBUSY);
                        n_busy++;
                        continue;
                }
                n_sent++;
                if (used_us[last_mid(&line)] != 0)
                        assert_true(line.now_us - used_us[last_mid(&line)] >= 247 * S);
                used_us[last_mid(&line)] = line.now_us;
        }
        assert_int_equal(line.n_requests, 200000);
        assert_true(n_busy > 0 && n_sent > 65536);
        close_line(&line);
}

/* A separate answer waits for a Message ID rather than being lost. */
static void t_separate_waits_for_a_mid(void **state) {
        struct line line;
        size_t n_sent;

        open_line(&line, 8, true);
        for (unsigned i = 0; i < 40000; i++) {
                hear_get(&line, true, (uint16_t)i);
                answer_with(&line, last_ticket(&line), "x");
        }
        assert_in_range(line.n_sent, 32768, 39999);
        make_separate(&line, 1);
        n_sent = line.n_sent;
        assert_int_equal(answer_with(&line, last_ticket(&line), "late"), 0);
        assert_int_equal(line.n_sent, n_sent);
        wait_until(&line, START + 247 * S - 1);
        assert_int_equal(line.n_sent, n_sent);
        wait_until(&line, START + 247 * S);
        assert_int_equal(line.n_sent, n_sent + 1);
        assert_int_equal(last_sent(&line)[0], 0x41);
        hear_back(&line, "6000", last_mid(&line));
        assert_int_equal(line.outcome, 1);
        close_line(&line);
}

/* ---- bounds */

static void t_memory_is_bounded(void **state) {
        size_t idle, largest = 0;
        struct line line;

        open_line(&line, 8, true);
        idle = exchange_peer_size(line.peer);
        assert_true(idle <= 256);
        for (unsigned i = 0; i < 100000; i++) {
                line.now_us += MS;
                hear_get(&line, i % 3 == 0, (uint16_t)i);
                answer_with(&line, last_ticket(&line), "an answer of some length, as an answer has: it is kept");
                if (i % 1000 == 0)
                        exchange_timers(line.exchange, line.now_us);
                if (exchange_peer_size(line.peer) > largest)
                        largest = exchange_peer_size(line.peer);
        }
        /* the Message IDs went round, and nothing was taken for a duplicate */
        assert_int_equal(line.n_requests, 100000);
        assert_int_equal(n_duplicates(&line), 0);
        assert_true(largest > idle && largest <= 24 * 1024);

        line.now_us += 250 * S;
        while (exchange_due(line.exchange) <= line.now_us)
                exchange_timers(line.exchange, line.now_us);
        assert_int_equal(exchange_peer_size(line.peer), idle);
        assert_true(exchange_due(line.exchange) == INT64_MAX);
        close_line(&line);
}

/* The timer that gives memory back goes by itself, a step a second at most. */
static void t_memory_comes_back_by_timer(void **state) {
        unsigned n_steps = 0;
        struct line line;
        size_t idle;

        open_line(&line, 1000, true);
        idle = exchange_peer_size(line.peer);
        for (unsigned i = 0; i < 1000; i++) {
                line.now_us += MS;
                hear_get(&line, false, (uint16_t)i);
                answer_with(&line, last_ticket(&line), "x");
        }
        for (; exchange_due(line.exchange) != INT64_MAX; n_steps++)
                wait_until(&line, exchange_due(line.exchange));
        assert_in_range(n_steps, 1, 4);
        assert_in_range(line.now_us, START + 248 * S, START + 251 * S);
        assert_int_equal(exchange_peer_size(line.peer), idle);
        close_line(&line);
}

/* A peer that does not wait for answers is not listened to further, until the oldest is answered. */
static void t_pending_is_bounded(void **state) {
        struct line line;

        open_line(&line, 8, true);
        for (unsigned i = 0; i < EXCHANGE_RECORDS_MAX + 10; i++)
                hear_get(&line, false, (uint16_t)i);
        assert_int_equal(line.n_requests, EXCHANGE_RECORDS_MAX);
        assert_int_equal(answer_with(&line, line.tickets[0], "x"), 0);
        hear_get(&line, false, 5000);
        hear_get(&line, false, 5001);
        assert_int_equal(line.n_requests, EXCHANGE_RECORDS_MAX + 1);
        for (unsigned i = 1; i < line.n_requests; i++)
                assert_int_equal(answer_with(&line, line.tickets[i], "x"), 0);
        close_line(&line);
}

static void t_message_ids_in_any_order(void **state) {
        struct line line;

        open_line(&line, 1024, true);
        for (unsigned round = 0; round < 2; round++)
                for (unsigned i = 0; i < 1000; i++)
                        hear_get(&line, false, (uint16_t)(i * 40503));
        assert_int_equal(line.n_requests, 1000);
        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(answer_with(&line, line.tickets[i], "x"), 0);
        for (unsigned i = 0; i < 1000; i++) {
                hear_get(&line, false, (uint16_t)(i * 40503));
                assert_int_equal(line.n_sent, 1001 + i);
                assert_int_equal(last_mid(&line), (uint16_t)(i * 40503));
        }
        assert_int_equal(line.n_requests, 1000);
        close_line(&line);
}

static void t_no_randomness(void **state) {
        struct exchange_peer *peer = NULL;
        struct line line;

        open_line(&line, 8, true);
        fake_random_fail_at(1);
        assert_int_equal(exchange_peer_new(line.exchange, NULL, &peer), -EIO);
        assert_null(peer);
        fake_random_fail_at(0);
        close_line(&line);
}

static void t_idle_since(void **state) {
        struct line line;

        open_line(&line, 8, true);
        hear(&line, "40001234");
        line.now_us += 3 * S;
        exchange_timers(line.exchange, line.now_us);
        assert_true(exchange_peer_idle_since_us(line.peer) == START);
        hear(&line, "40001235");
        assert_true(exchange_peer_idle_since_us(line.peer) == START + 3 * S);
        close_line(&line);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(t_first_datagram),
                cmocka_unit_test(t_unauthenticated_is_told_less),
                cmocka_unit_test(t_refusal_repeated),
                cmocka_unit_test(t_piggybacked_and_repeated),
                cmocka_unit_test(t_strangers_short_duplicate_gets_no_long_answer),
                cmocka_unit_test(t_duplicate_while_pending),
                cmocka_unit_test(t_non_answered_once),
                cmocka_unit_test(t_types_are_apart),
                cmocka_unit_test(t_lifetimes_end),
                cmocka_unit_test(t_mid_reused_after_lifetime),
                cmocka_unit_test(t_dropped_answer_is_silence),
                cmocka_unit_test(t_forgotten_is_served_anew),
                cmocka_unit_test(t_tickets_end),
                cmocka_unit_test(t_too_long_answer_can_be_another),
                cmocka_unit_test(t_separate),
                cmocka_unit_test(t_separate_reset),
                cmocka_unit_test(t_separate_given_up),
                cmocka_unit_test(t_one_confirmable_at_a_time),
                cmocka_unit_test(t_outgoing_is_bounded),
                cmocka_unit_test(t_notify),
                cmocka_unit_test(t_unauthenticated_is_not_repeated_to),
                cmocka_unit_test(t_own_mids_start_anywhere),
                cmocka_unit_test(t_own_mids_rest),
                cmocka_unit_test(t_separate_waits_for_a_mid),
                cmocka_unit_test(t_memory_is_bounded),
                cmocka_unit_test(t_memory_comes_back_by_timer),
                cmocka_unit_test(t_pending_is_bounded),
                cmocka_unit_test(t_message_ids_in_any_order),
                cmocka_unit_test(t_no_randomness),
                cmocka_unit_test(t_idle_since),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
