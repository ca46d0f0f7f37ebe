/*
 * acebench: load on a running server, and what came of it. Opens sessions, sends requests in a closed loop (each
 * session asks again as soon as it is answered) or an open one (requests come at a rate, whatever the server does), and
 * prints rate, latencies, errors and bytes. One thread, never blocking; GnuTLS at the wire (main/device.c) or OSCORE
 * above it (main/context.c), and our own CoAP codec, so that the load costs less than what it measures.
 */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/resource.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/diag.h"
#include "base/secret.h"
#include "crypto/random.h"
#include "format/cbor.h"
#include "format/coap.h"
#include "format/json.h"
#include "main/context.h"
#include "main/device.h"

#define SESSIONS_MAX 20000
#define DATAGRAM_SIZE_MAX 2048
#define ACK_TIMEOUT_US INT64_C(2000000) /* RFC 7252 §4.8 */
#define TRIES_MAX 5                     /* the first and MAX_RETRANSMIT more */
#define TICK_US INT64_C(50000)          /* how often due retransmissions are looked for */
#define PEM_SIZE_MAX (16 * 1024)
#define PAYLOAD_MAX 4096
#define NUMBERS_AT_ONCE 65536           /* of each security context: the disk is waited for when they are taken */
#define ECHO_SIZE_MAX 40
#define FAULT_SIZE 80
/* one kind of key exchange, so that every server is measured with the same */
#define PSK_PRIORITY "NONE:+VERS-DTLS1.2:+PSK:+AES-128-CCM-8:+AES-128-CCM:+AES-128-GCM:+AEAD:+SIGN-ALL:+COMP-NULL"

enum exit_status { EXIT_DONE = 0, EXIT_ERRORS = 1, EXIT_USAGE = 2, EXIT_CONTACT = 3, EXIT_INTERNAL = 4 };

/* ---- what was asked for */

enum what { WHAT_TOKEN, WHAT_REFRESH, WHAT_INTROSPECT, WHAT_GET, WHAT_HANDSHAKE_TOKEN, WHAT_HANDSHAKE_GET, WHATS };

static const struct {
        const char *name;
        bool handshake_each;
} whats[WHATS] = {
        [WHAT_TOKEN] = { "token", false },
        [WHAT_REFRESH] = { "refresh", false },
        [WHAT_INTROSPECT] = { "introspect", false },
        [WHAT_GET] = { "get", false },
        [WHAT_HANDSHAKE_TOKEN] = { "handshake-token", true },
        [WHAT_HANDSHAKE_GET] = { "handshake-get", true },
};

struct options {
        enum what what;
        char target[256];      /* what host and port point into */
        const char *host, *port;
        const char *identity;  /* %u becomes the session's number */
        uint8_t key[128];
        size_t key_size;
        const char *private_key, *certificate; /* files in PEM, instead of the PSK */
        const char *oscore;    /* a file of records, one a session, instead of DTLS */
        const char *audience, *scope, *path, *priority, *from;
        uint8_t token[1024];
        size_t token_size;
        uint64_t n_requests;
        unsigned n_sessions;
        double rate;           /* requests a second; 0: closed loop */
        double duration_s;     /* 0: until n_requests */
        bool json, plain;
};

/* ---- latencies: 64 steps in every power of two of microseconds, so each is known to under 2 % */

#define HISTOGRAM_STEPS 64
#define HISTOGRAM_SIZE (40 * HISTOGRAM_STEPS)

struct histogram {
        uint64_t counts[HISTOGRAM_SIZE];
        uint64_t n;
        int64_t max_us;
};

static size_t histogram_slot(uint64_t us) {
        unsigned shift = us < HISTOGRAM_STEPS ? 0 : (unsigned)(63 - __builtin_clzll(us)) - 5;
        size_t slot = (size_t)shift * (HISTOGRAM_STEPS / 2) + (us >> shift);

        return slot < HISTOGRAM_SIZE ? slot : HISTOGRAM_SIZE - 1;
}

/* The largest value that falls into a slot. */
static double histogram_value(size_t slot) {
        unsigned shift = slot < HISTOGRAM_STEPS ? 0 : (unsigned)(slot / (HISTOGRAM_STEPS / 2)) - 1;
        uint64_t in_slot = slot - (size_t)shift * (HISTOGRAM_STEPS / 2);

        return (double)(((in_slot + 1) << shift) - 1);
}

static void histogram_add(struct histogram *histogram, int64_t us) {
        if (us < 0)
                us = 0;
        histogram->counts[histogram_slot((uint64_t)us)]++;
        histogram->n++;
        if (us > histogram->max_us)
                histogram->max_us = us;
}

static double histogram_percentile_ms(const struct histogram *histogram, double percent) {
        uint64_t wanted = (uint64_t)((double)histogram->n * percent / 100.0 + 0.5), seen = 0;

        for (size_t i = 0; i < HISTOGRAM_SIZE; i++) {
                seen += histogram->counts[i];
                if (seen >= wanted && seen > 0) {
                        double us = histogram_value(i);

                        return (us < (double)histogram->max_us ? us : (double)histogram->max_us) / 1000.0;
                }
        }
        return 0;
}

/* ---- one session */

enum state { STATE_FREE, STATE_HANDSHAKE, STATE_WAIT };

struct session {
        unsigned number;
        struct device device;
        struct device_identity *identity; /* NULL: the one that all share */
        struct context *context;          /* NULL: no OSCORE */
        struct oscore_request bound;      /* what its responses are bound to */
        uint8_t echo[ECHO_SIZE_MAX];      /* what the server wants to see again; asked for once a request */
        size_t echo_size;
        enum state state;
        uint16_t mid;
        int64_t asked_us;     /* when the request was due: latency counts from here */
        int64_t resend_us;
        unsigned tries;
        struct buf request;
        struct buf refresh;   /* the payload that asks with its latest refresh token; empty: it has none */
        TAILQ_ENTRY(session) free_link;
};

struct bench {
        struct options options;
        int epoll;
        struct sockaddr_storage server, local;
        socklen_t server_size;
        struct device_identity *identity; /* NULL: each session has its own, or none needs one */
        struct session *sessions;
        struct numbers numbers;
        struct context *contexts;
        struct aead *aead;   /* what all contexts share */
        struct buf plain;    /* what was protected in the latest answer */
        TAILQ_HEAD(, session) free_sessions;
        struct coap_message template;
        uint8_t scratch[3][4];
        struct buf payload;

        uint64_t n_begun, n_answered, n_failed, n_resent, n_lost, n_handshakes, n_handshakes_failed;
        uint64_t codes[256];
        uint64_t bytes_sent, bytes_received;
        bool warming;        /* sessions are being opened: nothing is counted */
        unsigned n_open;
        char fault[FAULT_SIZE]; /* ": why" the first that could not be opened was not, as far as it is known */
        int64_t begin_us, end_us, next_due_us, tick_us;
        struct histogram latencies;
};

/* What went over its wire; of opening sessions nothing is counted. */
static void bytes_count(struct bench *bench, struct session *session) {
        struct device *device = &session->device;

        bench->bytes_sent += bench->warming ? 0 : device->bytes_sent;
        bench->bytes_received += bench->warming ? 0 : device->bytes_received;
        device->bytes_sent = device->bytes_received = 0;
}

static void session_rest(struct bench *bench, struct session *session) {
        bytes_count(bench, session);
        session->state = STATE_FREE;
        TAILQ_INSERT_TAIL(&bench->free_sessions, session, free_link);
}

/* "client%u" → "client17" */
static void identity_of(const struct options *options, unsigned number, char *text, size_t size) {
        const char *variable = strstr(options->identity, "%u");

        if (variable)
                snprintf(text, size, "%.*s%u%s", (int)(variable - options->identity), options->identity, number,
                         variable + 2);
        else
                snprintf(text, size, "%s", options->identity);
}

static int session_identity(struct bench *bench, struct session *session) {
        const struct options *options = &bench->options;
        char identity[256];
        const char *fault;

        identity_of(options, session->number, identity, sizeof(identity));
        return device_identity_new(&(struct device_credential){ .identity = bytes_text(identity),
                                                                .psk = bytes_of(options->key, options->key_size),
                                                                .priority = options->priority ?: PSK_PRIORITY },
                                   &session->identity, &fault);
}

static int session_open(struct bench *bench, struct session *session) {
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = session };
        int r = 0;

        if (!bench->options.plain && !session->context && !bench->identity && !session->identity)
                r = session_identity(bench, session);
        if (r == 0)
                r = device_open(&session->device, session->identity ?: bench->identity,
                                bench->options.from ? (void *)&bench->local : NULL, (void *)&bench->server,
                                bench->server_size);
        if (r == 0 && epoll_ctl(bench->epoll, EPOLL_CTL_ADD, session->device.fd, &event) < 0)
                r = -errno;
        return r;
}

static void request_send(struct bench *bench, struct session *session) {
        device_send(&session->device, buf_bytes(&session->request));
        session->tries++;
        session->resend_us = clock_monotonic_us() + (ACK_TIMEOUT_US << (session->tries - 1));
}

static int request_begin(struct bench *bench, struct session *session) {
        struct coap_message message = bench->template;
        uint8_t token[4] = { (uint8_t)session->number, (uint8_t)(session->number >> 8), (uint8_t)(session->mid >> 8),
                             (uint8_t)session->mid };
        int r = 0;

        message.mid = ++session->mid;
        message.token = bytes_of(token, sizeof(token));
        if (session->refresh.size > 0)
                message.payload = buf_bytes(&session->refresh);
        buf_clear(&session->request);
        if (session->echo_size > 0)
                r = coap_message_add(&message, OPTION_ECHO, bytes_of(session->echo, session->echo_size));
        if (r == 0)
                r = session->context ? context_protect(session->context, &message, &session->bound, &session->request) :
                                       coap_message_encode(&message, &session->request);
        if (r < 0)
                return r;
        session->state = STATE_WAIT;
        session->tries = 0;
        request_send(bench, session);
        return 0;
}

/* code: of an answer, which anybody may have sent; 0: there was none. */
static void fault_note(struct bench *bench, uint8_t code, struct bytes why) {
        char text[8] = "";
        size_t n = 0;

        if (bench->fault[0] != '\0')
                return;
        if (code != 0)
                coap_code_text(code, text);
        while (n < why.size && why.data[n] >= ' ' && why.data[n] <= '~')
                n++;
        snprintf(bench->fault, sizeof(bench->fault), ": %s%s%.*s", text, code != 0 && n > 0 ? " " : "", (int)n,
                 (const char *)why.data);
}

static void session_failed(struct bench *bench, struct session *session, bool in_handshake) {
        bench->n_failed++;
        if (in_handshake)
                bench->n_handshakes_failed++;
        device_close(&session->device);
        session_rest(bench, session);
}

/*
 * The session is there. A load of refresh tokens begins with one of its own, and one over OSCORE with a request that
 * the server may answer with an Echo (RFC 8613 Appendix B.1.2).
 */
static void session_opened(struct bench *bench, struct session *session) {
        if (bench->warming && bench->options.what != WHAT_REFRESH && !session->context) {
                bench->n_open++;
                session_rest(bench, session);
        } else if (request_begin(bench, session) < 0) {
                session_failed(bench, session, false);
        }
}

static void handshake_step(struct bench *bench, struct session *session) {
        int r = device_handshake(&session->device);

        if (r == -EAGAIN) {
                session->resend_us = clock_monotonic_us() + (int64_t)device_resend_ms(&session->device) * 1000;
                return;
        }
        if (r < 0) {
                session_failed(bench, session, true);
                return;
        }
        bench->n_handshakes++;
        session_opened(bench, session);
}

/* Begin one operation, due at asked_us, on a free session. */
static void operation_begin(struct bench *bench, struct session *session, int64_t asked_us) {
        int r;

        TAILQ_REMOVE(&bench->free_sessions, session, free_link);
        session->asked_us = asked_us;
        session->echo_size = 0;
        bench->n_begun += bench->warming ? 0 : 1;
        if (session->device.connected) {
                if (request_begin(bench, session) < 0)
                        session_failed(bench, session, false);
                return;
        }
        if ((r = session_open(bench, session)) < 0) {
                fault_note(bench, 0, bytes_text(strerror(-r)));
                session_failed(bench, session, true);
                return;
        }
        if (session->device.connected) {
                session_opened(bench, session);
                return;
        }
        session->state = STATE_HANDSHAKE;
        session->tries = 0;
        handshake_step(bench, session);
}

/* The next request of this session asks with the refresh token of this answer. 0, -EPROTO: it has none. */
static int refresh_take(struct session *session, struct bytes payload) {
        struct {
                struct cbor_item token;
        } answer;
        static const struct cbor_field fields[] = { { ACE_REFRESH_TOKEN, CBOR_BYTES, 0 } };
        struct cbor_writer w = CBOR_WRITER(&session->refresh);

        buf_clear(&session->refresh);
        if (cbor_map(payload, fields, N_ELEMENTS(fields), &answer) != 0 || answer.token.kind != CBOR_BYTES)
                return -EPROTO;
        cbor_put_map(&w, 2);
        cbor_put_uint(&w, ACE_GRANT_TYPE);
        cbor_put_uint(&w, GRANT_REFRESH_TOKEN);
        cbor_put_uint(&w, ACE_REFRESH_TOKEN);
        cbor_put_bytes(&w, answer.token.content);
        return cbor_end(&w);
}

/* An answer while sessions are being opened: the first refresh token, or anything that its server protected. */
static void answer_warm(struct bench *bench, struct session *session, const struct coap_message *message) {
        if (bench->options.what == WHAT_REFRESH &&
            (message->code >> 5 != 2 || refresh_take(session, message->payload) < 0)) {
                session_failed(bench, session, false);
                return;
        }
        bench->n_open++;
        session_rest(bench, session);
}

static void answer_count(struct bench *bench, struct session *session, const struct coap_message *message) {
        bool good = message->code >> 5 == 2;

        bench->codes[message->code]++;
        bench->n_answered++;
        histogram_add(&bench->latencies, clock_monotonic_us() - session->asked_us);
        if (good && bench->options.what == WHAT_REFRESH)
                good = refresh_take(session, message->payload) == 0;
        if (!good)
                bench->n_failed++;
        if (whats[bench->options.what].handshake_each)
                device_close(&session->device);
        session_rest(bench, session);
}

/* *message becomes what was protected in it. A verdict: of what is unprotected only errors are left as that. */
static int answer_open(struct bench *bench, struct session *session, struct coap_message *message) {
        struct context_answer opened;
        int r = context_unprotect(session->context, &session->bound, message, &bench->plain, &opened);

        if (r == CONTEXT_ANSWER)
                *message = opened.inner;
        return r == CONTEXT_UNPROTECTED && message->code >> 5 == 2 ? CONTEXT_FORGED : r;
}

/* The same request once more with what the server wants to see in it (RFC 9175 §2.2). False: it was not asked for. */
static bool echo_obey(struct bench *bench, struct session *session, const struct coap_message *message) {
        const struct coap_option *echo = coap_message_option(message, OPTION_ECHO, 0);

        if (message->code != CODE_UNAUTHORIZED || !echo || session->echo_size > 0 || echo->value.size > ECHO_SIZE_MAX)
                return false;
        memcpy(session->echo, echo->value.data, echo->value.size);
        session->echo_size = echo->value.size;
        return request_begin(bench, session) == 0;
}

static void answer_take(struct bench *bench, struct session *session, struct bytes datagram) {
        struct coap_message message;
        bool header_ok;
        int verdict = CONTEXT_ANSWER;

        if (coap_message_decode(datagram, &message, &header_ok) != 0 || session->state != STATE_WAIT ||
            message.code == CODE_EMPTY || message.mid != session->mid)
                return; /* an empty ACK, or something older */
        if (session->context)
                verdict = answer_open(bench, session, &message);
        if ((verdict != CONTEXT_ANSWER && verdict != CONTEXT_UNPROTECTED) ||
            (session->context && verdict == CONTEXT_ANSWER && echo_obey(bench, session, &message)))
                return;
        if (bench->warming && verdict != CONTEXT_ANSWER) {
                fault_note(bench, message.code, message.payload);
                session_failed(bench, session, false);
        } else if (bench->warming) {
                answer_warm(bench, session, &message);
        } else {
                answer_count(bench, session, &message);
        }
}

static void session_readable(struct bench *bench, struct session *session) {
        uint8_t data[DATAGRAM_SIZE_MAX];

        if (session->state == STATE_HANDSHAKE && !session->device.connected) {
                handshake_step(bench, session);
                return;
        }
        while (session->device.fd >= 0) {
                ssize_t n = device_receive(&session->device, data, sizeof(data));

                if (n > 0) {
                        answer_take(bench, session, bytes_of(data, (size_t)n));
                        continue;
                }
                /* a server that is not there yet is asked again */
                if (n < 0 && n != -EAGAIN && n != -ECONNREFUSED && session->state == STATE_WAIT)
                        session_failed(bench, session, false);
                return;
        }
}

/* Send again what was not answered in time; give up what never is. */
static void resend(struct bench *bench, int64_t now_us) {
        for (unsigned i = 0; i < bench->options.n_sessions; i++) {
                struct session *session = &bench->sessions[i];

                if (session->state == STATE_FREE || now_us < session->resend_us)
                        continue;
                if (session->tries >= TRIES_MAX || (session->state == STATE_HANDSHAKE && session->tries >= TRIES_MAX)) {
                        bench->n_lost++;
                        session_failed(bench, session, session->state == STATE_HANDSHAKE);
                } else if (session->state == STATE_HANDSHAKE) {
                        session->tries++;
                        handshake_step(bench, session);
                } else {
                        bench->n_resent++;
                        request_send(bench, session);
                }
        }
}

/* ---- the run */

static bool run_wants_more(const struct bench *bench, int64_t now_us) {
        if (bench->options.duration_s > 0)
                return (double)(now_us - bench->begin_us) < bench->options.duration_s * 1e6;
        return bench->n_begun < bench->options.n_requests;
}

static void run_begin_due(struct bench *bench, int64_t now_us) {
        struct session *session;

        while ((session = TAILQ_FIRST(&bench->free_sessions)) && run_wants_more(bench, now_us)) {
                if (bench->options.rate <= 0) {
                        operation_begin(bench, session, now_us);
                        continue;
                }
                if (bench->next_due_us > now_us)
                        return;
                operation_begin(bench, session, bench->next_due_us);
                bench->next_due_us = bench->begin_us + (int64_t)((double)bench->n_begun * 1e6 / bench->options.rate);
        }
}

static void run_wait(struct bench *bench, int64_t now_us) {
        struct epoll_event events[256];
        int64_t wait_us = bench->tick_us - now_us;

        if (!bench->warming && bench->options.rate > 0 && bench->next_due_us - now_us < wait_us)
                wait_us = bench->next_due_us - now_us;
        int n = epoll_wait(bench->epoll, events, N_ELEMENTS(events), wait_us <= 0 ? 0 : (int)((wait_us + 999) / 1000));
        for (int i = 0; i < n; i++)
                session_readable(bench, events[i].data.ptr);
        now_us = clock_monotonic_us();
        if (now_us >= bench->tick_us) {
                resend(bench, now_us);
                bench->tick_us = now_us + TICK_US;
        }
}

static bool run_is_idle(const struct bench *bench) {
        for (unsigned i = 0; i < bench->options.n_sessions; i++)
                if (bench->sessions[i].state != STATE_FREE)
                        return false;
        return true;
}

/* Open every session before the clock starts. Returns 0 or -ECONNREFUSED when one could not be opened. */
static int run_warm(struct bench *bench) {
        bench->warming = true;
        bench->tick_us = clock_monotonic_us() + TICK_US;
        for (unsigned i = 0; i < bench->options.n_sessions; i++) {
                operation_begin(bench, &bench->sessions[i], clock_monotonic_us());
                if (i % 64 == 63)
                        run_wait(bench, bench->tick_us);
        }
        while (!run_is_idle(bench) && bench->n_failed == 0)
                run_wait(bench, clock_monotonic_us());
        bench->warming = false;
        return bench->n_open == bench->options.n_sessions ? 0 : -ECONNREFUSED;
}

static void run(struct bench *bench) {
        int64_t now_us = clock_monotonic_us();

        bench->begin_us = bench->next_due_us = now_us;
        bench->tick_us = now_us + TICK_US;
        while (run_wants_more(bench, now_us) || !run_is_idle(bench)) {
                run_begin_due(bench, now_us);
                run_wait(bench, now_us);
                now_us = clock_monotonic_us();
        }
        bench->end_us = now_us;
}

/* ---- what is sent */

static int template_payload(struct bench *bench) {
        const struct options *options = &bench->options;
        struct cbor_writer w = CBOR_WRITER(&bench->payload);

        if (options->what == WHAT_INTROSPECT) {
                cbor_put_map(&w, 1);
                cbor_put_uint(&w, INTRO_TOKEN);
                cbor_put_bytes(&w, bytes_of(options->token, options->token_size));
                return cbor_end(&w);
        }
        cbor_put_map(&w, (options->audience != NULL) + (options->scope != NULL));
        if (options->audience) {
                cbor_put_uint(&w, ACE_AUDIENCE);
                cbor_put_text(&w, bytes_text(options->audience));
        }
        if (options->scope) {
                cbor_put_uint(&w, ACE_SCOPE);
                cbor_put_text(&w, bytes_text(options->scope));
        }
        return cbor_end(&w);
}

static int template_make(struct bench *bench) {
        struct options *options = &bench->options;
        bool is_get = options->what == WHAT_GET || options->what == WHAT_HANDSHAKE_GET;
        const char *at = options->path;
        int r;

        if (!at)
                at = is_get ? "/.well-known/core" : options->what == WHAT_INTROSPECT ? "/introspect" : "/token";
        bench->template.type = TYPE_CON;
        bench->template.code = is_get ? CODE_GET : CODE_POST;
        while (*at) {
                size_t size;

                at += *at == '/';
                size = strcspn(at, "/");
                if (size > 0 && (r = coap_message_add(&bench->template, OPTION_URI_PATH, bytes_of(at, size))) < 0)
                        return r;
                at += size;
        }
        if (is_get)
                return 0;
        r = coap_message_add_uint(&bench->template, OPTION_CONTENT_FORMAT, CF_ACE_CBOR, bench->scratch[0]);
        if (r < 0 || (r = template_payload(bench)) < 0)
                return r;
        bench->template.payload = buf_bytes(&bench->payload);
        return 0;
}

/* ---- the report */

static const double percentiles[] = { 50, 90, 99, 99.9 };

static const char *credential_name(const struct options *options) {
        return options->plain       ? "none" :
               options->oscore      ? "oscore" :
               options->certificate ? "x509" :
               options->private_key ? "rpk" :
                                      "psk";
}

static void report_text(const struct bench *bench) {
        const struct options *options = &bench->options;
        double seconds = (double)(bench->end_us - bench->begin_us) / 1e6;
        char code[8];

        printf("%s at %s:%s, %u sessions (%s), ", whats[options->what].name, options->host, options->port,
               options->n_sessions, credential_name(options));
        if (options->rate > 0)
                printf("open loop at %.0f/s\n", options->rate);
        else
                printf("closed loop\n");
        printf("answered      %" PRIu64 " of %" PRIu64 " in %.3f s\n", bench->n_answered, bench->n_begun, seconds);
        printf("rate          %.0f/s\n", (double)bench->n_answered / seconds);
        printf("latency ms    p50 %.3f  p90 %.3f  p99 %.3f  p99.9 %.3f  max %.3f\n",
               histogram_percentile_ms(&bench->latencies, 50), histogram_percentile_ms(&bench->latencies, 90),
               histogram_percentile_ms(&bench->latencies, 99), histogram_percentile_ms(&bench->latencies, 99.9),
               (double)bench->latencies.max_us / 1000.0);
        printf("errors        %" PRIu64 " (handshakes %" PRIu64 ", lost %" PRIu64 ")\n", bench->n_failed,
               bench->n_handshakes_failed, bench->n_lost);
        printf("sent again    %" PRIu64 "\n", bench->n_resent);
        printf("bytes on wire %" PRIu64 " sent, %" PRIu64 " received\n", bench->bytes_sent, bench->bytes_received);
        for (unsigned i = 0; i < 256; i++) {
                if (bench->codes[i] == 0)
                        continue;
                coap_code_text((uint8_t)i, code);
                printf("answers %s  %" PRIu64 "\n", code, bench->codes[i]);
        }
}

static int report_json(const struct bench *bench) {
        double seconds = (double)(bench->end_us - bench->begin_us) / 1e6;
        json_t *latency = json_object(), *codes = json_object(), *report;
        char name[16];

        for (size_t i = 0; i < N_ELEMENTS(percentiles); i++) {
                snprintf(name, sizeof(name), "p%g", percentiles[i]);
                json_object_set_new(latency, name,
                                    json_real(histogram_percentile_ms(&bench->latencies, percentiles[i])));
        }
        json_object_set_new(latency, "max", json_real((double)bench->latencies.max_us / 1000.0));
        for (unsigned i = 0; i < 256; i++) {
                if (bench->codes[i] == 0)
                        continue;
                coap_code_text((uint8_t)i, name);
                json_object_set_new(codes, name, json_integer((json_int_t)bench->codes[i]));
        }
        report = json_pack("{s:s, s:s, s:I, s:f, s:I, s:I, s:f, s:f, s:f, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:o}",
                           "what", whats[bench->options.what].name, "credential", credential_name(&bench->options),
                           "sessions", (json_int_t)bench->options.n_sessions, "offered_rate", bench->options.rate,
                           "begun", (json_int_t)bench->n_begun, "answered",
                           (json_int_t)bench->n_answered, "began_at", (double)bench->begin_us / 1e6, "seconds", seconds,
                           "rate", (double)bench->n_answered / seconds, "latency_ms", latency, "errors",
                           (json_int_t)bench->n_failed, "handshake_errors", (json_int_t)bench->n_handshakes_failed,
                           "lost", (json_int_t)bench->n_lost, "sent_again", (json_int_t)bench->n_resent, "bytes_sent",
                           (json_int_t)bench->bytes_sent, "bytes_received", (json_int_t)bench->bytes_received, "codes",
                           codes);
        if (!report)
                return -ENOMEM;
        json_dumpf(report, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(report);
        return 0;
}

/* ---- the command line */

static void usage(FILE *to) {
        fputs("acebench [OPTION]... WHAT HOST:PORT\n"
              "WHAT: token | refresh | introspect | get | handshake-token | handshake-get\n"
              "  -u, --identity TEXT     PSK identity; %u becomes the session's number\n"
              "  -k, --key TEXT          PSK as text\n"
              "      --key-hex HEX       PSK as hexadecimal\n"
              "      --private-key FILE  instead of a PSK: key pair in PEM, shown as raw public key\n"
              "      --certificate FILE  show this chain in PEM for that key pair\n"
              "      --oscore FILE       instead of DTLS: a security context for each session, one record a line\n"
              "  -a, --audience TEXT     what a token is asked for\n"
              "      --scope TEXT        and with which scope\n"
              "      --token-hex HEX     what introspect asks about\n"
              "      --path PATH         instead of the usual resource\n"
              "  -c, --sessions N        sessions at a time (1)\n"
              "  -n, --requests N        requests in all (1000)\n"
              "  -d, --duration SECONDS  for so long, instead of a number of requests\n"
              "  -r, --rate N            open loop: N requests a second; without: closed loop\n"
              "      --priority TEXT     GnuTLS priority string\n"
              "      --plain             coap without DTLS\n"
              "      --from ADDRESS      ask from this address of the machine\n"
              "  -o, --output FORMAT     text (usual) or json\n"
              "  -h, --help              this\n"
              "      --version           the version\n",
              to);
}

static int bad(const char *option, const char *value, const char *wanted) {
        fprintf(stderr, "acebench: %s '%s': %s is expected\n", option, value, wanted);
        return -EINVAL;
}

static int number(const char *option, const char *value, double least, double most, double *ret) {
        char *end;
        double got = strtod(value, &end);

        if (end == value || *end || !(got >= least && got <= most)) {
                char wanted[64];

                snprintf(wanted, sizeof(wanted), "a number from %.0f to %.0f", least, most);
                return bad(option, value, wanted);
        }
        *ret = got;
        return 0;
}

static int options_target(struct options *options, int n, char **args) {
        char *host = options->target, *colon;

        if (n != 2) {
                usage(stderr);
                return -EINVAL;
        }
        for (options->what = 0; options->what < WHATS; options->what++)
                if (strcmp(whats[options->what].name, args[0]) == 0)
                        break;
        if (options->what == WHATS)
                return bad("WHAT", args[0], "token, refresh, introspect, get, handshake-token or handshake-get");
        snprintf(host, sizeof(options->target), "%s", args[1]);
        colon = strrchr(host, ':');
        if (!colon || colon == host || !colon[1])
                return bad("HOST:PORT", args[1], "an address and a port");
        *colon = '\0';
        options->port = colon + 1;
        options->host = host[0] == '[' && colon[-1] == ']' ? (colon[-1] = '\0', host + 1) : host;
        if (options->oscore && (options->plain || options->key_size > 0 || options->private_key))
                return bad("--oscore", options->oscore, "no other credential");
        if (!options->plain && !options->oscore && options->key_size == 0 && !options->private_key)
                return bad("--key", "", "a pre-shared key, or --private-key, or --oscore,");
        if (options->certificate && !options->private_key)
                return bad("--certificate", options->certificate, "its --private-key beside it");
        if (options->what == WHAT_INTROSPECT && options->token_size == 0)
                return bad("--token-hex", "", "the token to ask about");
        if ((options->plain || options->oscore) && whats[options->what].handshake_each)
                return bad("WHAT", args[0], "something without a handshake, as --plain and --oscore have none,");
        return 0;
}

enum {
        OPT_KEY_HEX = 256, OPT_PRIVATE_KEY, OPT_CERTIFICATE, OPT_OSCORE, OPT_SCOPE, OPT_TOKEN, OPT_PATH, OPT_PRIORITY,
        OPT_PLAIN, OPT_FROM, OPT_VERSION
};

static int option_take(struct options *options, int option, const char *value) {
        double got = 0;
        int r;

        switch (option) {
        case 'u': options->identity = value; return 0;
        case 'a': options->audience = value; return 0;
        case OPT_PRIVATE_KEY: options->private_key = value; return 0;
        case OPT_CERTIFICATE: options->certificate = value; return 0;
        case OPT_OSCORE: options->oscore = value; return 0;
        case OPT_SCOPE: options->scope = value; return 0;
        case OPT_PATH: options->path = value; return 0;
        case OPT_FROM: options->from = value; return 0;
        case OPT_PRIORITY: options->priority = value; return 0;
        case OPT_PLAIN: options->plain = true; return 0;
        case 'k':
                options->key_size = strlen(value);
                if (options->key_size > sizeof(options->key))
                        return bad("--key", "…", "a key of at most 128 bytes");
                memcpy(options->key, value, options->key_size);
                return 0;
        case OPT_KEY_HEX:
                r = bytes_from_hex(value, options->key, sizeof(options->key), &options->key_size);
                return r < 0 ? bad("--key-hex", "…", "hexadecimal of at most 128 bytes") : 0;
        case OPT_TOKEN:
                r = bytes_from_hex(value, options->token, sizeof(options->token), &options->token_size);
                return r < 0 ? bad("--token-hex", value, "hexadecimal of at most 1024 bytes") : 0;
        case 'c':
                if ((r = number("--sessions", value, 1, SESSIONS_MAX, &got)) == 0)
                        options->n_sessions = (unsigned)got;
                return r;
        case 'n':
                if ((r = number("--requests", value, 1, 1e12, &got)) == 0)
                        options->n_requests = (uint64_t)got;
                return r;
        case 'd': return number("--duration", value, 0.001, 1e6, &options->duration_s);
        case 'r': return number("--rate", value, 0.001, 1e7, &options->rate);
        case 'o':
                if (strcmp(value, "json") != 0 && strcmp(value, "text") != 0)
                        return bad("--output", value, "text or json");
                options->json = value[0] == 'j';
                return 0;
        default: return -EINVAL;
        }
}

/* Returns 0, -EINVAL, or 1: said what was asked for, nothing to run. */
static int options_read(struct options *options, int argc, char **argv) {
        static const struct option table[] = {
                { "identity", required_argument, NULL, 'u' },  { "key", required_argument, NULL, 'k' },
                { "key-hex", required_argument, NULL, OPT_KEY_HEX },
                { "private-key", required_argument, NULL, OPT_PRIVATE_KEY },
                { "certificate", required_argument, NULL, OPT_CERTIFICATE },
                { "oscore", required_argument, NULL, OPT_OSCORE },
                { "audience", required_argument, NULL, 'a' },
                { "scope", required_argument, NULL, OPT_SCOPE }, { "token-hex", required_argument, NULL, OPT_TOKEN },
                { "path", required_argument, NULL, OPT_PATH }, { "sessions", required_argument, NULL, 'c' },
                { "requests", required_argument, NULL, 'n' },  { "duration", required_argument, NULL, 'd' },
                { "rate", required_argument, NULL, 'r' },      { "priority", required_argument, NULL, OPT_PRIORITY },
                { "plain", no_argument, NULL, OPT_PLAIN },     { "from", required_argument, NULL, OPT_FROM },
                { "output", required_argument, NULL, 'o' },
                { "help", no_argument, NULL, 'h' },            { "version", no_argument, NULL, OPT_VERSION },
                {},
        };
        int option, r;

        while ((option = getopt_long(argc, argv, "u:k:a:c:n:d:r:o:h", table, NULL)) != -1) {
                if (option == 'h') {
                        usage(stdout);
                        return 1;
                }
                if (option == OPT_VERSION) {
                        puts("acebench " PACKAGE_VERSION);
                        return 1;
                }
                if ((r = option_take(options, option, optarg)) < 0)
                        return r;
        }
        return options_target(options, argc - optind, argv + optind);
}

static int resolve(const char *host, const char *port, int family, struct sockaddr_storage *ret, socklen_t *ret_size) {
        struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV }, *found;
        int r = getaddrinfo(host, port, &hints, &found);

        if (r != 0) {
                fprintf(stderr, "acebench: %s:%s: %s\n", host, port, gai_strerror(r));
                return -ENOENT;
        }
        memcpy(ret, found->ai_addr, found->ai_addrlen);
        *ret_size = found->ai_addrlen;
        freeaddrinfo(found);
        return 0;
}

static int bench_resolve(struct bench *bench) {
        const struct options *options = &bench->options;
        int r = resolve(options->host, options->port, AF_UNSPEC, &bench->server, &bench->server_size);
        socklen_t size;

        if (r == 0 && options->from)
                r = resolve(options->from, "0", bench->server.ss_family, &bench->local, &size);
        return r;
}

static int read_file(const char *path, struct buf *out) {
        FILE *file = fopen(path, "re");
        uint8_t *space;
        int r = buf_reserve(out, out->limit, &space);

        if (!file) {
                fprintf(stderr, "acebench: %s: %s\n", path, strerror(errno));
                return -EINVAL;
        }
        if (r == 0)
                buf_added(out, fread(space, 1, out->limit, file));
        fclose(file);
        return r;
}

/* One key pair for all sessions. */
static int bench_key(struct bench *bench) {
        _cleanup_(buf_done) struct buf key = BUF_INIT(PEM_SIZE_MAX), chain = BUF_INIT(PEM_SIZE_MAX);
        const struct options *options = &bench->options;
        const char *fault = NULL;
        int r = read_file(options->private_key, &key);

        if (r == 0 && options->certificate)
                r = read_file(options->certificate, &chain);
        if (r == 0)
                r = device_identity_new(&(struct device_credential){ .private_key = buf_bytes(&key),
                                                                     .chain = buf_bytes(&chain),
                                                                     .priority = options->priority },
                                        &bench->identity, &fault);
        if (key.data)
                wipe(key.data, key.capacity);
        if (fault) {
                fprintf(stderr, "acebench: %s: %s\n", options->private_key, fault);
                r = -EINVAL;
        }
        return r;
}

/* One line of the file of records. 0, -EINVAL: said what is wrong. */
static int take_record(struct bench *bench, unsigned i, struct bytes line) {
        _cleanup_(oscore_record_done) struct oscore_record record = {};
        const char *path = bench->options.oscore;
        struct diags faults = {};
        int r = oscore_record_read(line, &record, &faults);

        if (r > 0)
                fprintf(stderr, "acebench: %s:%u: %s\n", path, i + 1, faults.n_items > 0 ? faults.items[0].text : "?");
        diags_done(&faults);
        if (r != 0)
                return r > 0 ? -EINVAL : r;
        r = context_open(&bench->contexts[i], &record, &bench->numbers, bench->aead);
        bench->sessions[i].context = &bench->contexts[i];
        return r;
}

/* A record of its own for each session, on as many lines. */
static int take_lines(struct bench *bench) {
        const struct options *options = &bench->options;
        FILE *file = fopen(options->oscore, "re");
        char *line = NULL;
        size_t capacity = 0;
        unsigned n = 0;
        int r = file ? 0 : -errno;

        for (; r == 0 && n < options->n_sessions; n++) {
                ssize_t size = getline(&line, &capacity, file);

                r = size < 0 ? 1 : take_record(bench, n, bytes_of(line, (size_t)size));
        }
        if (line)
                wipe(line, capacity);
        free(line);
        if (file)
                fclose(file);
        if (r != 1)
                return r;
        fprintf(stderr, "acebench: %s: %u records, and %u sessions want one each\n", options->oscore, n - 1,
                options->n_sessions);
        return -EINVAL;
}

/* No two sessions share a context: their requests overtake each other (RFC 8613 §7.4). */
static int bench_records(struct bench *bench) {
        _cleanup_(buf_wiped) struct buf whole = BUF_INIT(OSCORE_RECORD_TEXT_MAX);
        const char *path = bench->options.oscore;
        int r = numbers_open(&bench->numbers, path, NUMBERS_AT_ONCE);

        bench->contexts = calloc(bench->options.n_sessions, sizeof(*bench->contexts));
        bench->aead = aead_new();
        if (r != 0 || !bench->contexts || !bench->aead)
                return r ?: -ENOMEM;
        if (bench->options.n_sessions > 1)
                return take_lines(bench);
        /* one may stand on several */
        if ((r = read_file(path, &whole)) == 0)
                r = take_record(bench, 0, buf_bytes(&whole));
        return r;
}

static int bench_oscore(struct bench *bench) {
        int r = bench_records(bench);

        if (r == 0)
                r = numbers_take(&bench->numbers);
        if (r != -EIO)
                return r;
        fprintf(stderr, "acebench: %s\n", bench->numbers.fault);
        return -EINVAL;
}

static int bench_identity(struct bench *bench) {
        const struct options *options = &bench->options;
        int r;

        if (options->plain)
                return 0;
        if (options->oscore)
                return bench_oscore(bench);
        if (options->private_key)
                return bench_key(bench);
        if ((r = session_identity(bench, &bench->sessions[0])) < 0)
                return r == -EINVAL ? bad("--priority", options->priority ?: "", "a GnuTLS priority string") : r;
        /* one for all unless their names differ */
        if (!strstr(options->identity, "%u"))
                bench->identity = TAKE_PTR(bench->sessions[0].identity);
        return 0;
}

static int bench_setup(struct bench *bench) {
        struct rlimit files = { bench->options.n_sessions + 64, bench->options.n_sessions + 64 };
        uint16_t mid;
        int r;

        setrlimit(RLIMIT_NOFILE, &files);
        TAILQ_INIT(&bench->free_sessions);
        bench->payload = BUF_INIT(PAYLOAD_MAX);
        bench->plain = BUF_INIT(DATAGRAM_SIZE_MAX);
        bench->epoll = epoll_create1(EPOLL_CLOEXEC);
        bench->sessions = calloc(bench->options.n_sessions, sizeof(*bench->sessions));
        if (bench->epoll < 0 || !bench->sessions)
                return -ENOMEM;
        /* RFC 7252 §4.4: a port of ours may have been one of another run's, which the server remembers */
        r = random_bytes(&mid, sizeof(mid));
        if (r < 0)
                return r;
        for (unsigned i = 0; i < bench->options.n_sessions; i++) {
                bench->sessions[i] = (struct session){ .number = i, .mid = mid, .device = DEVICE_INIT,
                                                       .request = BUF_INIT(DATAGRAM_SIZE_MAX),
                                                       .refresh = BUF_INIT(PAYLOAD_MAX) };
                TAILQ_INSERT_TAIL(&bench->free_sessions, &bench->sessions[i], free_link);
        }
        r = bench_identity(bench);
        return r < 0 ? r : template_make(bench);
}

static void bench_done(struct bench *bench) {
        for (unsigned i = 0; bench->sessions && i < bench->options.n_sessions; i++) {
                device_close(&bench->sessions[i].device);
                device_identity_free(bench->sessions[i].identity);
                buf_done(&bench->sessions[i].request);
                buf_done(&bench->sessions[i].refresh);
                if (bench->sessions[i].context)
                        context_done(bench->sessions[i].context);
        }
        free(bench->sessions);
        free(bench->contexts);
        aead_free(bench->aead);
        numbers_done(&bench->numbers);
        buf_wiped(&bench->plain);
        device_identity_free(bench->identity);
        buf_done(&bench->payload);
        closep(&bench->epoll);
}

int main(int argc, char **argv) {
        _cleanup_(bench_done) struct bench bench = {
                .epoll = -1,
                .options = { .n_requests = 1000, .n_sessions = 1, .identity = "" },
        };
        int r;

        json_wipe_what_is_freed(); /* records hold keys */
        r = options_read(&bench.options, argc, argv);
        if (r != 0)
                return r < 0 ? EXIT_USAGE : EXIT_DONE;
        r = bench_setup(&bench);
        if (r == -EINVAL)
                return EXIT_USAGE;
        if (r < 0) {
                fprintf(stderr, "acebench: cannot begin: %s\n", strerror(-r));
                return EXIT_INTERNAL;
        }
        if (bench_resolve(&bench) < 0)
                return EXIT_CONTACT;
        if (!whats[bench.options.what].handshake_each && run_warm(&bench) < 0) {
                fprintf(stderr, "acebench: %u of %u sessions could be opened at %s:%s%s\n", bench.n_open,
                        bench.options.n_sessions, bench.options.host, bench.options.port, bench.fault);
                return EXIT_CONTACT;
        }
        run(&bench);
        if (bench.options.json)
                r = report_json(&bench);
        else
                report_text(&bench);
        return r < 0 ? EXIT_INTERNAL : bench.n_failed > 0 ? EXIT_ERRORS : EXIT_DONE;
}
