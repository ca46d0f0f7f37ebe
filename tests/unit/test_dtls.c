#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/siphash.h"
#include "crypto/certificate.h"
#include "support/dtls_client.h"
#include "support/fake.h"
#include "support/pki.h"
#include "transport/address.h"
#include "transport/dtls.h"

#define KEY BYTES_LITERAL("0123456789abcdef")
#define SECOND INT64_C(1000000)
#define QUEUE_MAX 64
#define UNKNOWN_PSK_IDENTITY 115
#define DECRYPT_ERROR 51
#define INTERNAL_ERROR 80
#define HANDSHAKE_FAILURE 40
#define BAD_CERTIFICATE 42
#define UNSUPPORTED_CERTIFICATE 43
#define CERTIFICATE_EXPIRED 45
#define CERTIFICATE_UNKNOWN 46
#define UNKNOWN_CA 48
#define ACCESS_DENIED 49
#define HEADER 13 /* of a record */

/* ---- the rig: one server in memory, its output in a queue, what it delivered in a log */

struct parcel {
        struct address remote;
        unsigned socket;
        size_t size;
        uint8_t data[2048];
};

struct rig {
        struct dtls *dtls;
        struct parcel out[QUEUE_MAX];
        size_t n_out;
        struct buf delivered; /* each record, then '|' */
        struct dtls_session *last;
        unsigned n_closed, n_asked;
        int psk_result;        /* not 0: what psk(), rpk() and x509() answer */
        uint8_t known[THUMBPRINT_SIZE]; /* whose raw public key rpk() knows */
        const char *rule;               /* and which name of certificates x509() */
        enum dtls_failure failure;      /* the last */
        unsigned n_failures;
        bool close_on_deliver; /* deliver() closes its session */
        bool echo;             /* deliver() sends the record back */
        bool is_deaf;          /* what is sent is lost */
};

static struct engine_time at;

static int psk(void *context, struct bytes identity, struct credential *ret, struct secret *ret_psk) {
        struct rig *rig = context;

        rig->n_asked++;
        if (rig->psk_result != 0)
                return rig->psk_result;
        if (identity.size > IDENTITY_SIZE_MAX || bytes_equal(identity, BYTES_LITERAL("nobody")))
                return 1;
        bool is_letter = identity.size == 1 && identity.data[0] >= 'a' && identity.data[0] <= 'z';

        /* identities of one small letter have credentials of their own */
        *ret = (struct credential){ .id = is_letter ? identity.data[0] : 7,
                                    .kind = CREDENTIAL_PSK, .client_id = 3, .identity_size = identity.size };
        memcpy(ret->identity, identity.data, identity.size);
        return secret_set(ret_psk, KEY);
}

static int rpk(void *context, const uint8_t thumbprint[static THUMBPRINT_SIZE], struct credential *ret) {
        struct rig *rig = context;

        if (rig->psk_result != 0 || memcmp(thumbprint, rig->known, THUMBPRINT_SIZE) != 0)
                return rig->psk_result != 0 ? rig->psk_result : 1;
        *ret = (struct credential){ .id = 8, .kind = CREDENTIAL_RPK, .client_id = 4 };
        return 0;
}

static int x509(void *context, struct bytes rule, struct credential *ret) {
        struct rig *rig = context;

        if (rig->psk_result != 0 || !rig->rule || !bytes_equal(rule, bytes_text(rig->rule)))
                return rig->psk_result != 0 ? rig->psk_result : 1;
        *ret = (struct credential){ .id = 9, .kind = CREDENTIAL_X509, .client_id = 5 };
        return 0;
}

static void failed(void *context, const struct address *remote, enum dtls_failure why, const char *detail) {
        struct rig *rig = context;

        rig->failure = why;
        rig->n_failures++;
}

static void deliver(void *context, struct dtls_session *session, struct bytes data, struct engine_time now) {
        struct rig *rig = context;

        assert_int_equal(buf_add(&rig->delivered, data), 0);
        assert_int_equal(buf_add_byte(&rig->delivered, '|'), 0);
        rig->last = session;
        if (rig->echo)
                assert_int_equal(dtls_send(session, data), 0);
        if (rig->close_on_deliver)
                dtls_session_close(session);
}

static void take_out(void *context, unsigned socket, const struct address *remote, struct bytes data) {
        struct rig *rig = context;
        struct parcel *parcel = &rig->out[rig->n_out];

        if (rig->is_deaf)
                return;
        assert_in_range(rig->n_out, 0, QUEUE_MAX - 1);
        assert_in_range(data.size, 1, sizeof(parcel->data));
        rig->n_out++;
        parcel->remote = *remote;
        parcel->socket = socket;
        parcel->size = data.size;
        memcpy(parcel->data, data.data, data.size);
}

static void closed(void *context, struct dtls_session *session) {
        struct rig *rig = context;

        rig->n_closed++;
        if (rig->last == session)
                rig->last = NULL;
}

static const struct dtls_limits limits = { .sessions_max = 100, .handshakes_max = 50,
                                           .handshake_timeout_us = 30 * SECOND, .idle_us = 3600 * SECOND };

static struct rig *rig_new(const struct dtls_limits *own) {
        struct rig *rig = calloc(1, sizeof(*rig));
        struct dtls_callbacks callbacks = { .context = rig, .psk = psk, .deliver = deliver, .send = take_out,
                                            .closed = closed, .rpk = rpk, .x509 = x509, .failed = failed };

        assert_non_null(rig);
        rig->delivered = BUF_INIT(1 << 20);
        at = (struct engine_time){ .monotonic_us = 1000 * SECOND, .wall_s = 1700000000 };
        assert_int_equal(dtls_new(&callbacks, own ? own : &limits, &rig->dtls), 0);
        return rig;
}

static void rig_free(struct rig *rig) {
        dtls_free(rig->dtls);
        buf_done(&rig->delivered);
        free(rig);
}
DEFINE_FREEP(struct rig, rig_free)
DEFINE_FREEP(struct trust_anchors, trust_anchors_free)

static struct dtls_figures figures(const struct rig *rig) {
        struct dtls_figures f;

        dtls_figures(rig->dtls, &f);
        return f;
}

static struct address peer(unsigned n) {
        return (struct address){ .in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)(n & 0xffff)),
                                         .sin_addr = { htonl(0x0a000000 | n >> 16) } },
                                 .size = sizeof(struct sockaddr_in) };
}

static void input(struct rig *rig, unsigned n, struct bytes datagram) {
        struct address remote = peer(n);

        dtls_input(rig->dtls, 0, &remote, datagram, at);
}

static void advance(struct rig *rig, int64_t us) {
        at.monotonic_us += us;
        dtls_timers(rig->dtls, at);
}

/* Everything the server said to peer n goes to its client; the rest stays. */
static unsigned to_client(struct rig *rig, unsigned n, struct dtls_client *client) {
        struct address remote = peer(n);
        unsigned n_moved = 0, kept = 0;

        for (unsigned i = 0; i < rig->n_out; i++) {
                if (address_equal(&rig->out[i].remote, &remote)) {
                        dtls_client_input(client, bytes_of(rig->out[i].data, rig->out[i].size));
                        n_moved++;
                } else {
                        rig->out[kept++] = rig->out[i];
                }
        }
        rig->n_out = kept;
        return n_moved;
}

static unsigned to_server(struct rig *rig, unsigned n, struct dtls_client *client) {
        _cleanup_(buf_done) struct buf datagram = BUF_INIT(65536);
        unsigned n_moved = 0;

        while (dtls_client_output(client, &datagram)) {
                input(rig, n, buf_bytes(&datagram));
                n_moved++;
        }
        return n_moved;
}

static struct dtls_client *client_new(struct bytes identity, struct bytes key, const char *priority) {
        struct dtls_client *client;

        assert_int_equal(dtls_client_new(&(struct dtls_client_options){ .identity = identity, .key = key,
                                                                        .priority = priority }, &client), 0);
        return client;
}

/* Until done, failed, or nothing moves any more. */
static int shake(struct rig *rig, unsigned n, struct dtls_client *client) {
        unsigned n_moved;
        int r;

        do {
                r = dtls_client_handshake(client);
                n_moved = to_server(rig, n, client);
                n_moved += to_client(rig, n, client);
        } while (r == -EAGAIN && n_moved > 0);
        return r;
}

static struct dtls_client *connected(struct rig *rig, unsigned n) {
        struct dtls_client *client = client_new(BYTES_LITERAL("meter"), KEY, NULL);

        assert_int_equal(shake(rig, n, client), 0);
        return client;
}

static void say(struct rig *rig, unsigned n, struct dtls_client *client, struct bytes data) {
        assert_int_equal(dtls_client_send(client, data), 0);
        assert_int_equal(to_server(rig, n, client), 1);
}

static void assert_delivered(struct rig *rig, const char *text) {
        struct bytes delivered = buf_bytes(&rig->delivered);

        if (!bytes_equal(delivered, bytes_text(text)))
                fail_msg("delivered '%.*s', not '%s'", (int)delivered.size, (const char *)delivered.data, text);
        buf_clear(&rig->delivered);
}


/* The client is up to its first ClientHello with a cookie, which the caller gets. */
static void hello_with_cookie(struct rig *rig, unsigned n, struct dtls_client *client, struct buf *ret) {
        assert_int_equal(dtls_client_handshake(client), -EAGAIN);
        assert_int_equal(to_server(rig, n, client), 1);
        assert_int_equal(to_client(rig, n, client), 1);
        assert_int_equal(dtls_client_handshake(client), -EAGAIN);
        assert_true(dtls_client_output(client, ret));
}

/* The client is up to its last flight, whose datagrams the caller gets: key exchange, ChangeCipherSpec, Finished. */
#define FLIGHT_MAX 8

struct flight {
        struct buf datagrams[FLIGHT_MAX];
        unsigned n;
};

static void flight_done(struct flight *flight) {
        for (unsigned i = 0; i < FLIGHT_MAX; i++)
                buf_done(&flight->datagrams[i]);
}

static void last_flight(struct rig *rig, unsigned n, struct dtls_client *client, struct flight *ret) {
        _cleanup_(buf_done) struct buf hello = BUF_INIT(65536);

        hello_with_cookie(rig, n, client, &hello);
        input(rig, n, buf_bytes(&hello));
        assert_int_equal(to_client(rig, n, client), 1);
        assert_int_equal(dtls_client_handshake(client), -EAGAIN);
        *ret = (struct flight){};
        for (;;) {
                assert_in_range(ret->n, 0, FLIGHT_MAX - 1);
                ret->datagrams[ret->n] = BUF_INIT(65536);
                if (!dtls_client_output(client, &ret->datagrams[ret->n]))
                        break;
                ret->n++;
        }
        assert_in_range(ret->n, 1, FLIGHT_MAX - 1);
}

/* ---- addresses and their hash */

static void addresses(void **state) {
        static const struct {
                const char *text, *printed; /* printed NULL: refused */
        } cases[] = {
                { "127.0.0.1:5684", "127.0.0.1:5684" },
                { "0.0.0.0:0", "0.0.0.0:0" },
                { ":5684", "0.0.0.0:5684" },
                { "*:65535", "0.0.0.0:65535" },
                { "[::1]:5684", "[::1]:5684" },
                { "[::]:1", "[::]:1" },
                { "[fe80::1%2]:5684", "[fe80::1%2]:5684" },
                { "[2001:DB8:0:0:0:0:0:1]:5684", "[2001:db8::1]:5684" },
                { "127.0.0.1:65536", NULL },
                { "127.0.0.1:", NULL },
                { "127.0.0.1", NULL },
                { "", NULL },
                { ":", NULL },
                { "127.0.0.1:-1", NULL },
                { "127.0.0.1: 1", NULL },
                { "127.0.0.1:1x", NULL },
                { "127.0.0:1", NULL },
                { "localhost:5684", NULL },
                { "::1:5684", NULL },
                { "[::1:5684", NULL },
                { "[::1]5684", NULL },
                { "[::1]x:5684", NULL },
                { "[127.0.0.1]:5684", NULL },
                { "[fe80::1%]:5684", NULL },
                { "[fe80::1%eth0]:5684", NULL },
                { "[fe80::1%4294967296]:5684", NULL },
                { "[1111:2222:3333:4444:5555:6666:7777:8888%4294967295000000000000]:5684", NULL },
        };
        char text[ADDRESS_TEXT_SIZE];
        struct address address;

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                int r = address_parse(cases[i].text, &address);

                if (r != (cases[i].printed ? 0 : -EINVAL))
                        fail_msg("'%s': %d", cases[i].text, r);
                if (r != 0)
                        continue;
                address_text(&address, text, sizeof(text));
                assert_string_equal(text, cases[i].printed);
        }
        address_text(&(struct address){}, text, sizeof(text));
        assert_string_equal(text, "-");
}

static void addresses_compare(void **state) {
        static const char *const texts[] = {
                "10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1", "[::1]:1", "[::1]:2", "[::2]:1", "[::1%1]:1",
                "[::ffff:10.0.0.1]:1",
        };
        struct address a, b;

        for (size_t i = 0; i < N_ELEMENTS(texts); i++) {
                for (size_t j = 0; j < N_ELEMENTS(texts); j++) {
                        assert_int_equal(address_parse(texts[i], &a), 0);
                        assert_int_equal(address_parse(texts[j], &b), 0);
                        /* neither where it came to nor an unused field makes it another peer */
                        a.local.in.s_addr = 1;
                        if (a.any.sa_family == AF_INET6)
                                a.in6.sin6_flowinfo = 5;
                        assert_int_equal(address_equal(&a, &b), i == j);
                }
        }
}

/* The first, ninth and sixteenth output of the list that comes with the algorithm's description. */
static void siphash_vectors(void **state) {
        static const struct {
                size_t size;
                uint64_t value;
        } cases[] = {
                { 0, UINT64_C(0x726fdb47dd0e0e31) },
                { 8, UINT64_C(0x93f5f5799a932462) },
                { 15, UINT64_C(0xa129ca6149be45e5) },
        };
        uint8_t count[16];

        for (unsigned i = 0; i < sizeof(count); i++)
                count[i] = (uint8_t)i;
        for (size_t i = 0; i < N_ELEMENTS(cases); i++)
                assert_true(siphash(count, bytes_of(count, cases[i].size)) == cases[i].value);
}

/* ---- handshakes */

#define ONLY(kx, cipher)                                                                                       \
        "NONE:+VERS-DTLS1.2:+MAC-ALL:+SIGN-ALL:+GROUP-ALL:+COMP-NULL:+" kx ":+" cipher

/* AS-107 and the suites that dtls.h names; what is not named is refused */
static void suites(void **state) {
        static const struct {
                const char *priority, *cipher; /* cipher NULL: refused */
        } cases[] = {
                { ONLY("PSK", "AES-128-CCM-8"), "AES-128-CCM-8" },
                { ONLY("PSK", "AES-128-CCM"), "AES-128-CCM" },
                { ONLY("PSK", "AES-128-GCM"), "AES-128-GCM" },
                { ONLY("PSK", "CHACHA20-POLY1305"), "CHACHA20-POLY1305" },
                { ONLY("ECDHE-PSK", "CHACHA20-POLY1305"), "CHACHA20-POLY1305" },
                { ONLY("PSK", "AES-128-CBC"), NULL },
                { ONLY("PSK", "AES-256-GCM"), NULL },
                { ONLY("PSK", "NULL"), NULL },
                { ONLY("ECDHE-PSK", "AES-128-CBC"), NULL },
                { ONLY("DHE-PSK", "AES-128-GCM"), NULL },
                { "NONE:+VERS-DTLS1.0:+MAC-ALL:+SIGN-ALL:+GROUP-ALL:+COMP-NULL:+PSK:+AES-128-CBC", NULL },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
                _cleanup_(dtls_client_freep) struct dtls_client *client =
                        client_new(BYTES_LITERAL("meter"), KEY, cases[i].priority);
                int r = shake(rig, 1, client);

                if (!cases[i].cipher) {
                        assert_int_equal(r, -EPROTO);
                        assert_in_range(dtls_client_alert(client), 1, 255);
                        assert_int_equal(figures(rig).n_sessions, 0);
                        assert_int_equal(figures(rig).n_failed, 1);
                        continue;
                }
                if (r != 0)
                        fail_msg("%s: %d, GnuTLS %d", cases[i].priority, r, dtls_client_error(client));
                assert_string_equal(dtls_client_cipher(client), cases[i].cipher);
                say(rig, 1, client, BYTES_LITERAL("hello"));
                assert_delivered(rig, "hello|");
                assert_int_equal(dtls_send(rig->last, BYTES_LITERAL("hi")), 0);
                assert_int_equal(to_client(rig, 1, client), 1);
                assert_int_equal(dtls_client_receive(client, &rig->delivered), 0);
                assert_delivered(rig, "hi");
        }
}

static void figures_of_a_handshake(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = connected(rig, 1);
        struct dtls_figures f = figures(rig);

        assert_int_equal(f.n_cookies_sent, 1);
        assert_int_equal(f.n_begun, 1);
        assert_int_equal(f.n_done, 1);
        assert_int_equal(f.n_failed, 0);
        assert_int_equal(f.n_half_open, 0);
        assert_int_equal(f.n_sessions, 1);
        assert_int_equal(rig->n_asked, 1);
        assert_int_equal(rig->n_closed, 0);
}

/* Whole identities of any bytes: the credential is the one that the identity names, to the last byte. */
static void identities(void **state) {
        uint8_t data[130];

        for (size_t size = 1; size <= IDENTITY_SIZE_MAX; size = size < 8 ? size + 1 : size + 20) {
                for (unsigned from = 0; from < 256; from += 127) {
                        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
                        _cleanup_(dtls_client_freep) struct dtls_client *client = NULL;

                        for (size_t i = 0; i < size; i++)
                                data[i] = (uint8_t)(from + i); /* from 0: a zero byte first */
                        client = client_new(bytes_of(data, size), KEY, NULL);
                        assert_int_equal(shake(rig, 1, client), 0);
                        say(rig, 1, client, BYTES_LITERAL("x"));
                        assert_true(bytes_equal(credential_identity(dtls_session_credential(rig->last)),
                                                bytes_of(data, size)));
                        assert_int_equal(dtls_session_credential(rig->last)->id, 7);
                }
        }
}

static void identities_of_limit_size(void **state) {
        static const struct {
                size_t size;
                int result, alert;
        } cases[] = {
                { 128, 0, -1 },
                { 129, -EPROTO, UNKNOWN_PSK_IDENTITY },
                { 1000, -EPROTO, UNKNOWN_PSK_IDENTITY },
        };
        static uint8_t data[1000];

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
                _cleanup_(dtls_client_freep) struct dtls_client *client =
                        client_new(bytes_of(data, cases[i].size), KEY, NULL);

                assert_int_equal(shake(rig, 1, client), cases[i].result);
                assert_int_equal(dtls_client_alert(client), cases[i].alert);
                assert_int_equal(figures(rig).n_sessions, cases[i].result == 0 ? 1 : 0);
        }
}

static void unknown_identity(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = client_new(BYTES_LITERAL("nobody"), KEY, NULL);

        assert_int_equal(shake(rig, 1, client), -EPROTO);
        assert_int_equal(dtls_client_alert(client), UNKNOWN_PSK_IDENTITY);
        assert_int_equal(figures(rig).n_sessions, 0);
        assert_int_equal(figures(rig).n_half_open, 0);
        assert_int_equal(figures(rig).n_failed, 1);
        assert_int_equal(rig->n_closed, 0);
        assert_int_equal(dtls_due(rig->dtls), INT64_MAX);
}

static void credentials_out_of_reach(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = client_new(BYTES_LITERAL("meter"), KEY, NULL);

        rig->psk_result = -EIO;
        assert_int_equal(shake(rig, 1, client), -EPROTO);
        assert_int_equal(dtls_client_alert(client), INTERNAL_ERROR);
        assert_int_equal(figures(rig).n_sessions, 0);
}

static void wrong_key(void **state) {
        static const char *const priorities[] = { NULL, ONLY("PSK", "AES-128-CCM-8"), ONLY("PSK", "AES-128-GCM"),
                                                  ONLY("ECDHE-PSK", "CHACHA20-POLY1305") };

        for (size_t i = 0; i < N_ELEMENTS(priorities); i++) {
                _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
                _cleanup_(dtls_client_freep) struct dtls_client *client =
                        client_new(BYTES_LITERAL("meter"), BYTES_LITERAL("another key 1234"), priorities[i]);

                assert_int_equal(shake(rig, 1, client), -EAGAIN);
                assert_int_equal(figures(rig).n_half_open, 1);
                /* within a quarter of a second, not after the handshake's timeout */
                assert_in_range(dtls_due(rig->dtls), at.monotonic_us + 1, at.monotonic_us + SECOND / 4);
                advance(rig, SECOND / 4);
                assert_int_equal(figures(rig).n_sessions, 0);
                assert_int_equal(figures(rig).n_failed, 1);
                assert_int_equal(shake(rig, 1, client), -EPROTO);
                assert_int_equal(dtls_client_alert(client), DECRYPT_ERROR);
        }
}

/* A Finished that somebody else made up does not end a handshake that goes on properly. */
static void forged_finished(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = client_new(BYTES_LITERAL("meter"), KEY, NULL);
        _cleanup_(flight_done) struct flight flight;
        uint8_t forged[HEADER + 32] = { 22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 32 };

        last_flight(rig, 1, client, &flight);
        for (unsigned i = 0; i < flight.n; i++) {
                input(rig, 1, bytes_of(forged, sizeof(forged)));
                input(rig, 1, buf_bytes(&flight.datagrams[i]));
        }
        to_client(rig, 1, client);
        assert_int_equal(dtls_client_handshake(client), 0);
        advance(rig, SECOND);
        assert_int_equal(figures(rig).n_done, 1);
        say(rig, 1, client, BYTES_LITERAL("still here"));
        assert_delivered(rig, "still here|");
}

/* ---- a network that loses, repeats and reorders */

enum fate { LOST, ARRIVES, TWICE }; /* how many copies arrive */

/* Both ways in turn, the n_fate-th datagram of all having the fate. True when both ends were done. */
static bool shake_over(struct rig *rig, struct dtls_client *client, unsigned n_fate, enum fate fate, unsigned *ret_n) {
        _cleanup_(buf_done) struct buf datagram = BUF_INIT(65536);
        unsigned n = 0;
        int r = -EAGAIN;

        for (unsigned round = 0; round < 12 && (r != 0 || figures(rig).n_done == 0); round++) {
                r = dtls_client_handshake(client);
                assert_int_not_equal(r, -EPROTO);
                while (dtls_client_output(client, &datagram))
                        for (unsigned copies = n++ == n_fate ? fate : ARRIVES; copies > 0; copies--)
                                input(rig, 1, buf_bytes(&datagram));
                for (unsigned i = 0; i < rig->n_out; i++)
                        for (unsigned copies = n++ == n_fate ? fate : ARRIVES; copies > 0; copies--)
                                dtls_client_input(client, bytes_of(rig->out[i].data, rig->out[i].size));
                rig->n_out = 0;
                if (r == -EAGAIN)
                        advance(rig, SECOND + SECOND / 10);
        }
        *ret_n = n;
        return r == 0 && figures(rig).n_done == 1;
}

static struct dtls_client *eager_client(void) {
        struct dtls_client *client;

        assert_int_equal(dtls_client_new(&(struct dtls_client_options){ .identity = BYTES_LITERAL("meter"), .key = KEY,
                                                                        .is_eager = true }, &client), 0);
        return client;
}

static void shake_with_each(enum fate fate) {
        unsigned n = 1;

        for (unsigned n_fate = 0; n_fate < n; n_fate++) {
                _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
                _cleanup_(dtls_client_freep) struct dtls_client *client = eager_client();

                if (!shake_over(rig, client, n_fate, fate, &n))
                        fail_msg("fate %d of datagram %u of %u", fate, n_fate, n);
                say(rig, 1, client, BYTES_LITERAL("hello"));
                assert_delivered(rig, "hello|");
        }
        assert_in_range(n, 5, 60);
}

static void lost_datagrams(void **state) {
        shake_with_each(LOST);
}

static void repeated_datagrams(void **state) {
        shake_with_each(TWICE);
}

static void reordered_flight(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = eager_client();
        _cleanup_(flight_done) struct flight flight;
        unsigned n;

        last_flight(rig, 1, client, &flight);
        while (flight.n > 0)
                input(rig, 1, buf_bytes(&flight.datagrams[--flight.n]));
        assert_true(shake_over(rig, client, UINT32_MAX, ARRIVES, &n));
        say(rig, 1, client, BYTES_LITERAL("hello"));
        assert_delivered(rig, "hello|");
}

/* The server sends its flight again by the caller's clock: after 1, 2, 4, … s, until the timeout; then it forgets. */
static void retransmission(void **state) {
        static const int64_t waits_s[] = { 1, 2, 4, 8 };
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = client_new(BYTES_LITERAL("meter"), KEY, NULL);
        _cleanup_(buf_done) struct buf hello = BUF_INIT(65536);

        hello_with_cookie(rig, 1, client, &hello);
        input(rig, 1, buf_bytes(&hello));
        assert_int_equal(rig->n_out, 1);
        for (size_t i = 0; i < N_ELEMENTS(waits_s); i++) {
                assert_int_equal(dtls_due(rig->dtls), at.monotonic_us + waits_s[i] * SECOND);
                rig->n_out = 0;
                advance(rig, waits_s[i] * SECOND - 1);
                assert_int_equal(rig->n_out, 0);
                advance(rig, 1);
                assert_int_equal(rig->n_out, 1);
        }
        assert_int_equal(dtls_due(rig->dtls), at.monotonic_us + 15 * SECOND);
        rig->n_out = 0;
        advance(rig, 15 * SECOND - 1);
        assert_int_equal(figures(rig).n_half_open, 1);
        advance(rig, 1);
        assert_int_equal(figures(rig).n_sessions, 0);
        assert_int_equal(figures(rig).n_failed, 1);
        assert_int_equal(rig->n_out, 0);
        assert_int_equal(dtls_due(rig->dtls), INT64_MAX);
}

/* Data that overtook the Finished is not delivered, and the handshake goes on. */
static void early_data(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = client_new(BYTES_LITERAL("meter"), KEY, NULL);
        _cleanup_(flight_done) struct flight flight;
        uint8_t early[HEADER + 32] = { 23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1, 0, 32 };

        last_flight(rig, 1, client, &flight);
        for (unsigned i = 0; i < flight.n; i++) {
                input(rig, 1, bytes_of(early, sizeof(early)));
                input(rig, 1, buf_bytes(&flight.datagrams[i]));
        }
        to_client(rig, 1, client);
        assert_int_equal(dtls_client_handshake(client), 0);
        assert_int_equal(rig->delivered.size, 0);
        say(rig, 1, client, BYTES_LITERAL("hello"));
        assert_delivered(rig, "hello|");
}

/* ---- cookies */

static size_t memory_in_use(void) {
        return mallinfo2().uordblks;
}

/* RFC 6347 §4.2.1: nothing is kept for an address that has not shown that it is there; it gets no more than it sent. */
static void hellos_cost_nothing(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = client_new(BYTES_LITERAL("meter"), KEY, NULL);
        _cleanup_(buf_done) struct buf hello = BUF_INIT(65536);
        size_t before = 0;

        assert_int_equal(dtls_client_handshake(client), -EAGAIN);
        assert_true(dtls_client_output(client, &hello));
        for (unsigned n = 0; n < 100000; n++) {
                if (n == 1000)
                        before = memory_in_use();
                input(rig, n, buf_bytes(&hello));
                assert_int_equal(rig->n_out, 1);
                assert_in_range(rig->out[0].size, 1, hello.size);
                rig->n_out = 0;
        }
        assert_int_equal(memory_in_use(), before);
        assert_int_equal(figures(rig).n_sessions, 0);
        assert_int_equal(figures(rig).n_begun, 0);
        assert_int_equal(figures(rig).n_cookies_sent, 100000);
}

/* The shortest ClientHello there can be is still longer than the answer. */
static void shortest_hello(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        uint8_t hello[HEADER + 54] = { 22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 5, 0, 54, 1, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0,
                                       42, 0xfe, 0xfd };
        static const uint8_t end[] = { 0, 0, 0, 2, 0xc0, 0xa8, 1, 0 }; /* no session, no cookie, CCM_8, no method */

        memcpy(hello + sizeof(hello) - sizeof(end), end, sizeof(end));
        input(rig, 1, bytes_of(hello, sizeof(hello)));
        assert_int_equal(rig->n_out, 1);
        assert_in_range(rig->out[0].size, 1, sizeof(hello));
        assert_int_equal(rig->out[0].data[10], 5); /* the record's sequence number is the hello's */
        assert_int_equal(rig->out[0].data[HEADER], 3);
}

static void cookies_belong_to_an_address(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = client_new(BYTES_LITERAL("meter"), KEY, NULL);
        _cleanup_(buf_done) struct buf hello = BUF_INIT(65536);
        struct address remote = peer(1);

        hello_with_cookie(rig, 1, client, &hello);
        input(rig, 2, buf_bytes(&hello));                            /* another port */
        input(rig, 1 + (1 << 16), buf_bytes(&hello));                /* another host */
        dtls_input(rig->dtls, 1, &remote, buf_bytes(&hello), at);    /* another socket of ours */
        assert_int_equal(figures(rig).n_begun, 0);
        assert_int_equal(figures(rig).n_cookies_sent, 4);
        input(rig, 1, buf_bytes(&hello));
        assert_int_equal(figures(rig).n_begun, 1);
}

static void cookies_age(void **state) {
        static const struct {
                int64_t age_s;
                unsigned n_begun;
        } cases[] = { { 0, 1 }, { 3599, 1 }, { 3600, 1 }, { 7199, 1 }, { 7201, 0 }, { 1000000, 0 } };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
                _cleanup_(dtls_client_freep) struct dtls_client *client = client_new(BYTES_LITERAL("a"), KEY, NULL);
                _cleanup_(dtls_client_freep) struct dtls_client *other = client_new(BYTES_LITERAL("a"), KEY, NULL);
                _cleanup_(buf_done) struct buf hello = BUF_INIT(65536);

                hello_with_cookie(rig, 1, client, &hello);
                for (int64_t s = 0; s < cases[i].age_s; s += 3601) { /* others knock now and then */
                        at.monotonic_us += (cases[i].age_s - s < 3601 ? cases[i].age_s - s : 3601) * SECOND;
                        (void)dtls_client_handshake(other);
                        to_server(rig, 2, other);
                        rig->n_out = 0;
                }
                input(rig, 1, buf_bytes(&hello));
                assert_int_equal(figures(rig).n_begun, cases[i].n_begun);
        }
}

/* Keys are changed when somebody knocks: nobody did for a night, and the cookie of last evening is as old as it is. */
static void cookies_of_a_quiet_server_age(void **state) {
        static const struct {
                int64_t age_s;
                unsigned n_begun;
        } cases[] = { { 3600, 1 }, { 7199, 1 }, { 7201, 0 }, { 36000, 0 } };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
                _cleanup_(dtls_client_freep) struct dtls_client *client = client_new(BYTES_LITERAL("a"), KEY, NULL);
                _cleanup_(buf_done) struct buf hello = BUF_INIT(65536);

                hello_with_cookie(rig, 1, client, &hello);
                at.monotonic_us += cases[i].age_s * SECOND;
                input(rig, 1, buf_bytes(&hello));
                assert_int_equal(figures(rig).n_begun, cases[i].n_begun);
        }
}

static void no_randomness(void **state) {
        struct dtls_callbacks callbacks = {};
        struct dtls *dtls = NULL;

        for (unsigned n = 1; n <= 2; n++) {
                fake_random_fail_at(n);
                assert_int_equal(dtls_new(&callbacks, &limits, &dtls), -EIO);
        }
        fake_random_fail_at(0);
        assert_null(dtls);
}

/* ---- hostile bytes */

/* Each ClientHello cut short and with each bit flipped: no crash, and no session unless the cookie is whole. */
static void broken_hellos(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = client_new(BYTES_LITERAL("meter"), KEY, NULL);
        _cleanup_(buf_done) struct buf hello = BUF_INIT(65536);

        hello_with_cookie(rig, 1, client, &hello);
        for (size_t size = 0; size < hello.size; size++) {
                input(rig, 1, bytes_of(hello.data, size));
                rig->n_out = 0;
        }
        for (size_t bit = 0; bit < 8 * hello.size; bit++) {
                hello.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                input(rig, 1, buf_bytes(&hello));
                hello.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                rig->n_out = 0;
        }
        assert_in_range(figures(rig).n_sessions, 0, 1);
        assert_int_equal(figures(rig).n_done, 0);
        advance(rig, 31 * SECOND);
        assert_int_equal(figures(rig).n_sessions, 0);
}

/* Of a ClientHello that says to be too long nothing is read; with its cookie it began a session, which ends in time. */
static void skipped_hello(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = client_new(BYTES_LITERAL("meter"), KEY, NULL);
        _cleanup_(buf_done) struct buf hello = BUF_INIT(65536);

        hello_with_cookie(rig, 1, client, &hello);
        hello.data[14] |= 0x80; /* RFC 6347 §4.2.2: length */
        input(rig, 1, buf_bytes(&hello));
        assert_int_equal(figures(rig).n_half_open, 1);
        assert_int_not_equal(dtls_due(rig->dtls), INT64_MAX);
        advance(rig, 31 * SECOND);
        assert_int_equal(figures(rig).n_sessions, 0);
}

/* Bytes of no sense, from strangers and as if from a peer: nothing is delivered and the peer's session goes on. */
static void garbage(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = connected(rig, 1);
        uint8_t data[80];
        uint32_t seed = 1;

        for (unsigned i = 0; i < 20000; i++) {
                for (size_t k = 0; k < sizeof(data); k++)
                        data[k] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
                if (i % 2) {
                        data[0] = (uint8_t)(20 + i % 5);
                        data[1] = 0xfe;
                        data[2] = 0xfd;
                        data[3] = 0;
                        data[4] = (uint8_t)(i / 8 % 2);
                        data[11] = 0;
                        data[12] = (uint8_t)(i % 81);
                }
                input(rig, i / 2 % 2, bytes_of(data, i % (sizeof(data) + 1)));
                rig->n_out = 0;
        }
        assert_int_equal(figures(rig).n_sessions, 1);
        assert_true(figures(rig).n_dropped > 5000);
        assert_int_equal(rig->n_closed, 0);
        say(rig, 1, client, BYTES_LITERAL("hello"));
        assert_delivered(rig, "hello|");
}

/* Alerts in the clear, which anybody can send, do not end a session whose handshake is done. */
static void forged_alerts(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = connected(rig, 1);
        uint8_t alert[HEADER + 2] = { 21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 1, 0, 0, 2 };

        for (unsigned description = 0; description < 256; description++) {
                alert[HEADER] = (uint8_t)(1 + description % 2);
                alert[HEADER + 1] = (uint8_t)(description / 2);
                alert[10] = (uint8_t)description;
                input(rig, 1, bytes_of(alert, sizeof(alert)));
        }
        assert_int_equal(rig->n_closed, 0);
        assert_int_equal(rig->n_out, 0);
        say(rig, 1, client, BYTES_LITERAL("hello"));
        assert_delivered(rig, "hello|");
}

/* A record with any bit flipped or cut anywhere is as if it never came; the whole one still counts. */
static void broken_records(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = connected(rig, 1);
        _cleanup_(buf_done) struct buf record = BUF_INIT(65536);

        assert_int_equal(dtls_client_send(client, BYTES_LITERAL("hello")), 0);
        assert_true(dtls_client_output(client, &record));
        for (size_t size = 0; size < record.size; size++)
                input(rig, 1, bytes_of(record.data, size));
        for (size_t bit = 0; bit < 8 * record.size; bit++) {
                record.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                input(rig, 1, buf_bytes(&record));
                record.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_int_equal(rig->delivered.size, 0);
        assert_int_equal(rig->n_closed, 0);
        input(rig, 1, buf_bytes(&record));
        assert_delivered(rig, "hello|");
}

/* ---- data */

static void replays_are_delivered_once(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = connected(rig, 1);
        _cleanup_(buf_done) struct buf one = BUF_INIT(65536), two = BUF_INIT(65536), both = BUF_INIT(65536);

        assert_int_equal(dtls_client_send(client, BYTES_LITERAL("one")), 0);
        assert_int_equal(dtls_client_send(client, BYTES_LITERAL("two")), 0);
        assert_true(dtls_client_output(client, &one));
        assert_true(dtls_client_output(client, &two));
        input(rig, 1, buf_bytes(&one));
        input(rig, 1, buf_bytes(&one));
        assert_delivered(rig, "one|");
        /* a replayed record does not hold up the new one behind it in the same datagram */
        assert_int_equal(buf_add(&both, buf_bytes(&one)), 0);
        assert_int_equal(buf_add(&both, buf_bytes(&two)), 0);
        input(rig, 1, buf_bytes(&both));
        assert_delivered(rig, "two|");
        input(rig, 1, buf_bytes(&both));
        input(rig, 1, buf_bytes(&two));
        assert_delivered(rig, "");
}

/* Records out of order are delivered as they come, each once; many in one datagram all count. */
static void many_records(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = connected(rig, 1);
        _cleanup_(buf_done) struct buf record = BUF_INIT(65536), datagram = BUF_INIT(65536), first = BUF_INIT(65536);

        assert_int_equal(dtls_client_send(client, BYTES_LITERAL("0")), 0);
        assert_true(dtls_client_output(client, &first));
        for (unsigned i = 1; i < 10; i++) {
                assert_int_equal(dtls_client_send(client, bytes_of(&"0123456789"[i], 1)), 0);
                assert_true(dtls_client_output(client, &record));
                assert_int_equal(buf_add(&datagram, buf_bytes(&record)), 0);
        }
        assert_int_equal(buf_add(&datagram, BYTES_LITERAL("rest")), 0);
        input(rig, 1, buf_bytes(&datagram));
        assert_delivered(rig, "1|2|3|4|5|6|7|8|9|");
        input(rig, 1, buf_bytes(&first));
        assert_delivered(rig, "0|");
}

static void sizes(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = connected(rig, 1);
        static uint8_t data[4096];
        unsigned n_sent = 0;
        size_t largest = 0;
        int r;

        say(rig, 1, client, BYTES_LITERAL("x"));
        for (size_t size = 1; size <= sizeof(data); size += 17) {
                r = dtls_send(rig->last, bytes_of(data, size));
                if (r == 0)
                        largest = size;
                assert_int_equal(rig->n_out, r == 0 ? 1 : 0); /* one datagram each, nothing kept */
                assert_true(r == 0 || r == -EMSGSIZE);
                assert_true(r == 0 || largest < size);
                n_sent += to_client(rig, 1, client);
        }
        assert_in_range(largest, 1152, 1400); /* RFC 7252 §4.6: a message of 1152 bytes fits */
        assert_int_equal(n_sent, largest / 17 + 1);
        assert_int_equal(rig->n_closed, 0);
        buf_clear(&rig->delivered);
        say(rig, 1, client, bytes_of(data, 1024));
        assert_int_equal(rig->delivered.size, 1025);
}

/* The owner may close the session from inside deliver(): what came behind it in the datagram is gone. */
static void closed_while_delivering(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = connected(rig, 1);
        _cleanup_(buf_done) struct buf record = BUF_INIT(65536), datagram = BUF_INIT(65536);

        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(dtls_client_send(client, BYTES_LITERAL("x")), 0);
                assert_true(dtls_client_output(client, &record));
                assert_int_equal(buf_add(&datagram, buf_bytes(&record)), 0);
        }
        rig->close_on_deliver = rig->echo = true;
        input(rig, 1, buf_bytes(&datagram));
        assert_delivered(rig, "x|");
        assert_int_equal(rig->n_closed, 1);
        assert_int_equal(figures(rig).n_sessions, 0);
        assert_int_equal(to_client(rig, 1, client), 2);
        assert_int_equal(dtls_client_receive(client, &record), 0);
        assert_int_equal(dtls_client_receive(client, &record), -EPIPE);
}

static void owners(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = connected(rig, 1);
        struct address remote = peer(1);

        say(rig, 1, client, BYTES_LITERAL("x"));
        assert_null(dtls_session_owner(rig->last));
        dtls_session_set_owner(rig->last, rig);
        say(rig, 1, client, BYTES_LITERAL("x"));
        assert_ptr_equal(dtls_session_owner(rig->last), rig);
        assert_true(address_equal(dtls_session_remote(rig->last), &remote));
        assert_int_equal(dtls_session_credential(rig->last)->client_id, 3);
}

/* ---- ends */

static void client_says_goodbye(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = connected(rig, 1);
        _cleanup_(buf_done) struct buf answer = BUF_INIT(65536);

        dtls_client_close(client);
        assert_int_equal(to_server(rig, 1, client), 1);
        assert_int_equal(rig->n_closed, 1);
        assert_int_equal(figures(rig).n_sessions, 0);
        assert_int_equal(to_client(rig, 1, client), 1);
        assert_int_equal(dtls_client_receive(client, &answer), -EPIPE);
}

static void server_says_goodbye(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(buf_done) struct buf answer = BUF_INIT(65536);
        struct dtls_client *clients[3];

        for (unsigned n = 0; n < 3; n++)
                clients[n] = connected(rig, n);
        dtls_close_all(rig->dtls);
        assert_int_equal(rig->n_closed, 3);
        assert_int_equal(figures(rig).n_sessions, 0);
        for (unsigned n = 0; n < 3; n++) {
                assert_int_equal(to_client(rig, n, clients[n]), 1);
                assert_int_equal(dtls_client_receive(clients[n], &answer), -EPIPE);
                dtls_client_free(clients[n]);
        }
}

/* RFC 5246 §7.2.2: a second handshake inside a session is refused by a warning, however often; the session goes on. */
static void no_renegotiation(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = eager_client();
        unsigned n_hellos = 0, n_warnings = 0;
        size_t before = 0;

        assert_int_equal(shake(rig, 1, client), 0);
        for (unsigned i = 0; i < 1000; i++) {
                if (i == 100)
                        before = memory_in_use();
                assert_int_equal(dtls_client_handshake(client), -EAGAIN);
                n_hellos += to_server(rig, 1, client);
                n_warnings += (unsigned)rig->n_out;
                rig->n_out = 0;
        }
        assert_int_equal(n_hellos, 1000);
        assert_int_equal(n_warnings, n_hellos);
        assert_in_range(memory_in_use(), 0, before + 1000);
        assert_int_equal(dtls_client_send(client, BYTES_LITERAL("hello")), 0);
        to_server(rig, 1, client);
        assert_delivered(rig, "hello|");
        assert_int_equal(figures(rig).n_sessions, 1);
        assert_int_equal(figures(rig).n_begun, 1);
}

/* RFC 6347 §4.2.8: a client that lost its state comes again from the same address */
static void client_reappears(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *before = connected(rig, 1);
        _cleanup_(dtls_client_freep) struct dtls_client *after = client_new(BYTES_LITERAL("meter"), KEY, NULL);

        assert_int_equal(dtls_client_handshake(after), -EAGAIN);
        assert_int_equal(to_server(rig, 1, after), 1);
        /* without a cookie it may be anybody: the session is untouched */
        assert_int_equal(rig->n_closed, 0);
        say(rig, 1, before, BYTES_LITERAL("old"));
        assert_delivered(rig, "old|");
        assert_int_equal(to_client(rig, 1, after), 1);
        assert_int_equal(shake(rig, 1, after), 0);
        assert_int_equal(rig->n_closed, 1);
        assert_int_equal(figures(rig).n_sessions, 1);
        assert_int_equal(dtls_client_send(before, BYTES_LITERAL("older")), 0);
        assert_int_equal(to_server(rig, 1, before), 1);
        assert_delivered(rig, "");
        say(rig, 1, after, BYTES_LITERAL("new"));
        assert_delivered(rig, "new|");
}

/* The ClientHello of a live session, seen on the wire and sent again, does not end it. */
static void replayed_hello(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = client_new(BYTES_LITERAL("meter"), KEY, NULL);
        _cleanup_(buf_done) struct buf hello = BUF_INIT(65536);

        hello_with_cookie(rig, 1, client, &hello);
        input(rig, 1, buf_bytes(&hello));
        assert_int_equal(shake(rig, 1, client), 0);
        for (unsigned i = 0; i < 10; i++)
                input(rig, 1, buf_bytes(&hello));
        assert_int_equal(rig->n_out, 0);
        assert_int_equal(rig->n_closed, 0);
        say(rig, 1, client, BYTES_LITERAL("hello"));
        assert_delivered(rig, "hello|");
}

/* ---- limits */

/* Strangers with valid cookies push out each other, not who is in; and the one that goes on gets in. */
static void handshakes_are_limited(void **state) {
        const struct dtls_limits own = { .sessions_max = 2, .handshakes_max = 4, .handshake_timeout_us = 30 * SECOND,
                                         .idle_us = 3600 * SECOND };
        _cleanup_(rig_freep) struct rig *rig = rig_new(&own);
        _cleanup_(dtls_client_freep) struct dtls_client *a = connected(rig, 1000), *b = connected(rig, 1001);
        _cleanup_(dtls_client_freep) struct dtls_client *last = client_new(BYTES_LITERAL("last"), KEY, NULL);
        _cleanup_(buf_done) struct buf hello = BUF_INIT(65536);

        for (unsigned n = 0; n < 10; n++) {
                _cleanup_(dtls_client_freep) struct dtls_client *stranger = client_new(BYTES_LITERAL("s"), KEY, NULL);

                hello_with_cookie(rig, n, stranger, &hello);
                input(rig, n, buf_bytes(&hello));
                rig->n_out = 0;
                assert_int_equal(figures(rig).n_half_open, n < 4 ? n + 1 : 4);
        }
        assert_int_equal(figures(rig).n_evicted, 6);
        assert_int_equal(rig->n_closed, 0);
        say(rig, 1000, a, BYTES_LITERAL("a"));
        say(rig, 1001, b, BYTES_LITERAL("b"));
        assert_delivered(rig, "a|b|");
        assert_int_equal(shake(rig, 2000, last), 0);
        assert_int_equal(figures(rig).n_sessions, 2 + 3);
}

/* One session too many: the one that was silent for longest goes, and is told. */
static struct dtls_client *connected_as(struct rig *rig, unsigned n, const char *identity) {
        struct dtls_client *client = client_new(bytes_text(identity), KEY, NULL);

        assert_int_equal(shake(rig, n, client), 0);
        return client;
}

/* Which clients still have their sessions: '1'; '0': it was closed. */
static void assert_sessions(struct rig *rig, struct dtls_client *const *clients, const char *alive) {
        for (unsigned n = 0; alive[n] != '\0'; n++) {
                _cleanup_(buf_done) struct buf answer = BUF_INIT(65536);
                int r;

                (void)to_client(rig, n, clients[n]);
                r = dtls_client_receive(clients[n], &answer);
                if (r != (alive[n] == '1' ? -EAGAIN : -EPIPE))
                        fail_msg("session %u of %s: %d", n, alive, r);
        }
}

/* Who has more than half of all sessions pays for the next one with one of its own. */
static void one_credential_displaces_its_own(void **state) {
        static const struct {
                const char *identity, *alive;
        } steps[] = {
                { "a", "1" },          { "b", "11" },          { "g", "111" },          { "g", "1111" },
                { "g", "11111" },      { "g", "111111" },
                { "g", "1101111" },      /* it had four of six */
                { "c", "01011111" },     /* it had none: the least recently used of all goes */
                { "g", "010011111" },    /* four again */
                { "d", "0000111111" },   /* b's is the oldest */
                { "e", "00000111111" },  /* then one of g's, which has three now */
                { "g", "000000111111" }, /* three are half and no more: the oldest of all, which is its own */
        };
        const struct dtls_limits own = { .sessions_max = 6, .handshakes_max = 4, .handshake_timeout_us = 30 * SECOND,
                                         .idle_us = 3600 * SECOND };
        _cleanup_(rig_freep) struct rig *rig = rig_new(&own);
        struct dtls_client *clients[N_ELEMENTS(steps)];

        for (unsigned n = 0; n < N_ELEMENTS(steps); n++) {
                clients[n] = connected_as(rig, n, steps[n].identity);
                assert_sessions(rig, clients, steps[n].alive);
        }
        assert_int_equal(figures(rig).n_sessions, 6);
        assert_int_equal(figures(rig).n_evicted, N_ELEMENTS(steps) - 6);
        for (unsigned n = 0; n < N_ELEMENTS(clients); n++)
                dtls_client_free(clients[n]);
}

static void only_one_session(void **state) {
        const struct dtls_limits own = { .sessions_max = 1, .handshakes_max = 4, .handshake_timeout_us = 30 * SECOND,
                                         .idle_us = 3600 * SECOND };
        _cleanup_(rig_freep) struct rig *rig = rig_new(&own);

        for (unsigned n = 0; n < 8; n++) {
                dtls_client_free(connected_as(rig, n, n % 4 < 2 ? "a" : "b"));
                assert_int_equal(figures(rig).n_sessions, 1);
        }
}

static void sessions_are_limited(void **state) {
        const struct dtls_limits own = { .sessions_max = 3, .handshakes_max = 4, .handshake_timeout_us = 30 * SECOND,
                                         .idle_us = 3600 * SECOND };
        _cleanup_(rig_freep) struct rig *rig = rig_new(&own);
        _cleanup_(buf_done) struct buf answer = BUF_INIT(65536);
        struct dtls_client *clients[4];

        for (unsigned n = 0; n < 3; n++)
                clients[n] = connected(rig, n);
        say(rig, 0, clients[0], BYTES_LITERAL("0"));
        clients[3] = connected(rig, 3);
        assert_int_equal(figures(rig).n_sessions, 3);
        assert_int_equal(figures(rig).n_evicted, 1);
        assert_int_equal(rig->n_closed, 1);
        assert_int_equal(to_client(rig, 1, clients[1]), 1);
        assert_int_equal(dtls_client_receive(clients[1], &answer), -EPIPE);
        buf_clear(&rig->delivered);
        say(rig, 0, clients[0], BYTES_LITERAL("0"));
        say(rig, 2, clients[2], BYTES_LITERAL("2"));
        say(rig, 3, clients[3], BYTES_LITERAL("3"));
        assert_delivered(rig, "0|2|3|");
        for (unsigned n = 0; n < 4; n++)
                dtls_client_free(clients[n]);
}

static void limits_change(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *a = connected(rig, 1), *b = connected(rig, 2), *c = NULL;
        struct dtls_limits own = limits;

        own.sessions_max = 1;
        dtls_set_limits(rig->dtls, &own);
        c = connected(rig, 3);
        assert_int_equal(figures(rig).n_sessions, 1);
        assert_int_equal(rig->n_closed, 2);
        say(rig, 3, c, BYTES_LITERAL("c"));
        assert_delivered(rig, "c|");
}

static void idle_sessions_go(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *a = connected(rig, 1), *b = NULL;
        _cleanup_(buf_done) struct buf answer = BUF_INIT(65536);
        int64_t start_us = at.monotonic_us;

        advance(rig, 1000 * SECOND);
        b = connected(rig, 2);
        assert_int_equal(dtls_due(rig->dtls), start_us + 3600 * SECOND);
        advance(rig, 1000 * SECOND);
        say(rig, 1, a, BYTES_LITERAL("a"));
        assert_int_equal(dtls_due(rig->dtls), start_us + 4600 * SECOND);
        advance(rig, 2600 * SECOND - 1);
        assert_int_equal(figures(rig).n_sessions, 2);
        advance(rig, 1);
        assert_int_equal(figures(rig).n_sessions, 1);
        assert_int_equal(rig->n_closed, 1);
        assert_int_equal(to_client(rig, 2, b), 1);
        assert_int_equal(dtls_client_receive(b, &answer), -EPIPE);
        assert_int_equal(dtls_due(rig->dtls), start_us + 5600 * SECOND);
        advance(rig, 1000 * SECOND);
        assert_int_equal(figures(rig).n_sessions, 0);
        assert_int_equal(dtls_due(rig->dtls), INT64_MAX);
}

/* Many that are due at once go in several calls, so that one call is short. */
static void idle_sessions_go_in_portions(void **state) {
        enum { N = 300 };
        const struct dtls_limits own = { .sessions_max = N, .handshakes_max = 1, .handshake_timeout_us = 30 * SECOND,
                                         .idle_us = 3600 * SECOND };
        _cleanup_(rig_freep) struct rig *rig = rig_new(&own);

        for (unsigned n = 0; n < N; n++)
                dtls_client_free(connected(rig, n));
        rig->is_deaf = true;
        advance(rig, 3600 * SECOND);
        assert_int_equal(figures(rig).n_sessions, N - 256);
        assert_true(dtls_due(rig->dtls) <= at.monotonic_us);
        advance(rig, 0);
        assert_int_equal(figures(rig).n_sessions, 0);
        assert_int_equal(rig->n_closed, N);
}

/* Records that anybody could have sent do not keep a session alive. */
static void garbage_is_no_use(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = connected(rig, 1);
        uint8_t forged[HEADER + 32] = { 23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 32 };

        advance(rig, 3599 * SECOND);
        input(rig, 1, bytes_of(forged, sizeof(forged)));
        advance(rig, SECOND);
        assert_int_equal(figures(rig).n_sessions, 0);
}

/* design.md's bar: 20 kB for a live session */
static void memory_of_a_session(void **state) {
        enum { N = 200 };
        const struct dtls_limits own = { .sessions_max = N, .handshakes_max = N, .handshake_timeout_us = 30 * SECOND,
                                         .idle_us = 3600 * SECOND };
        _cleanup_(rig_freep) struct rig *rig = rig_new(&own);
        size_t before;

        dtls_client_free(connected(rig, N)); /* what is allocated once is there now */
        before = memory_in_use();
        for (unsigned n = 0; n < N; n++)
                dtls_client_free(connected(rig, n));
        assert_int_equal(figures(rig).n_sessions, N);
        print_message("# %zu bytes a session\n", (memory_in_use() - before) / N);
        assert_in_range((memory_in_use() - before) / N, 0, 20000);
}

/*
 * Two bytes of a ClientKeyExchange that is said to have 127 KiB: GnuTLS would make room for all of it, six times over.
 */
static void fragments_of_long_messages_cost_nothing(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = client_new(BYTES_LITERAL("meter"), KEY, NULL);
        uint8_t fragment[] = { 22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 1, 0, 0, 14,
                               16, 1, 0xfc, 0, 0, 2, 0, 0, 0, 0, 0, 2, 'x', 'y' };
        _cleanup_(flight_done) struct flight flight;
        size_t before;

        last_flight(rig, 1, client, &flight);
        before = memory_in_use();
        for (uint8_t n = 0; n < 6; n++) {
                fragment[10] = 16 + n; /* not one that was there */
                fragment[18] = (uint8_t)(2 + n);
                input(rig, 1, bytes_of(fragment, sizeof(fragment)));
        }
        assert_in_range(memory_in_use(), 0, before + 4096);
        for (unsigned i = 0; i < flight.n; i++)
                input(rig, 1, buf_bytes(&flight.datagrams[i]));
        to_client(rig, 1, client);
        assert_int_equal(shake(rig, 1, client), 0); /* they did no harm to who is really there */
}

/* ---- raw public keys and certificates */

#define CA "critical,CA:TRUE"
#define KEYS(cipher, group)                                                                                       \
        "NONE:+VERS-DTLS1.2:+MAC-ALL:+SIGN-ALL:+GROUP-" group ":+COMP-NULL:+ECDHE-ECDSA:+" cipher
#define RAW                                                                                                       \
        "NONE:+VERS-DTLS1.2:+MAC-ALL:+SIGN-ALL:+GROUP-ALL:+COMP-NULL:+ECDHE-ECDSA:+AES-128-CCM-8:+CTYPE-CLI-RAWPK:" \
        "+CTYPE-SRV-RAWPK"
#define NOW_S 1700000000

/* A server with a P-256 and an Ed25519 key, a CA that it trusts. */
struct keyed {
        struct rig *rig;
        struct pki *root, *own[2];
        struct trust_anchors *anchors;
};

static void give_keys(const struct keyed *keyed, struct rig *rig) {
        struct dtls_key keys[N_ELEMENTS(keyed->own)];

        for (size_t i = 0; i < N_ELEMENTS(keys); i++)
                keys[i] = (struct dtls_key){ pki_pkcs8(keyed->own[i]), pki_spki(keyed->own[i]),
                                             pki_der(keyed->own[i]) };
        assert_int_equal(dtls_set_keys(rig->dtls, keys, N_ELEMENTS(keys)), 0);
        dtls_set_trust_anchors(rig->dtls, keyed->anchors);
}

static struct keyed keyed_new(const struct dtls_limits *own) {
        struct keyed keyed = { .rig = rig_new(own) };
        _cleanup_(buf_done) struct buf pem = BUF_INIT(65536);
        _cleanup_(diags_done) struct diags faults = {};

        keyed.root = pki_new(&(struct pki_ask){ .subject = "root", .constraints = CA, .usage = "keyCertSign" });
        keyed.own[0] = pki_new(&(struct pki_ask){ .subject = "as" });
        keyed.own[1] = pki_new(&(struct pki_ask){ .subject = "as", .curve = CURVE_ED25519 });
        pki_put_pem(keyed.root, &pem);
        assert_int_equal(trust_anchors_new(buf_bytes(&pem), "file", &keyed.anchors, &faults), 0);
        give_keys(&keyed, keyed.rig);
        return keyed;
}

static void keyed_done(struct keyed *keyed) {
        rig_free(keyed->rig);
        trust_anchors_free(keyed->anchors);
        pki_free(keyed->root);
        pki_free(keyed->own[0]);
        pki_free(keyed->own[1]);
}

static struct dtls_client *client_of(const struct dtls_client_options *options) {
        struct dtls_client *client;

        assert_int_equal(dtls_client_new(options, &client), 0);
        return client;
}

static struct dtls_client *rpk_client(const struct pki *pki, const char *priority) {
        return client_of(&(struct dtls_client_options){ .pkcs8 = pki_pkcs8(pki), .spki = pki_spki(pki),
                                                        .priority = priority });
}

static struct dtls_client *x509_client(const struct pki *pki, const char *priority) {
        const struct bytes der = pki_der(pki);

        return client_of(&(struct dtls_client_options){ .pkcs8 = pki_pkcs8(pki), .chain = &der, .n_chain = 1,
                                                        .priority = priority });
}

static void thumbprint_of(const struct pki *pki, uint8_t ret[static THUMBPRINT_SIZE]) {
        struct public_key key;

        assert_int_equal(public_key_from_spki(pki_spki(pki), &key), 0);
        assert_int_equal(public_key_thumbprint(&key, ret), 0);
}

/* Who it is is known by the credential and by the key that it used. */
static void assert_served(struct rig *rig, unsigned n, struct dtls_client *client, const struct pki *pki, int64_t id) {
        uint8_t thumbprint[THUMBPRINT_SIZE];

        thumbprint_of(pki, thumbprint);
        say(rig, n, client, BYTES_LITERAL("hello"));
        assert_delivered(rig, "hello|");
        assert_int_equal(dtls_session_credential(rig->last)->id, id);
        assert_memory_equal(dtls_session_thumbprint(rig->last), thumbprint, THUMBPRINT_SIZE);
        assert_int_equal(dtls_send(rig->last, BYTES_LITERAL("hi")), 0);
        assert_int_equal(to_client(rig, n, client), 1);
        assert_int_equal(dtls_client_receive(client, &rig->delivered), 0);
        assert_true(bytes_equal(buf_bytes(&rig->delivered), BYTES_LITERAL("hi")));
        buf_clear(&rig->delivered);
}

/* AS-085: every suite with every group and kind of key, by raw public key and by certificate */
static void suites_with_keys(void **state) {
        static const struct {
                const char *priority, *cipher, *group; /* cipher NULL: refused */
        } cases[] = {
                { KEYS("AES-128-CCM-8", "X25519"), "AES-128-CCM-8", "X25519" },
                { KEYS("AES-128-CCM-8", "SECP256R1"), "AES-128-CCM-8", "SECP256R1" },
                { KEYS("AES-128-CCM", "X25519"), "AES-128-CCM", "X25519" },
                { KEYS("AES-128-CCM", "SECP256R1"), "AES-128-CCM", "SECP256R1" },
                { KEYS("AES-128-GCM", "X25519"), "AES-128-GCM", "X25519" },
                { KEYS("AES-128-GCM", "SECP256R1"), "AES-128-GCM", "SECP256R1" },
                { KEYS("CHACHA20-POLY1305", "X25519"), "CHACHA20-POLY1305", "X25519" },
                { KEYS("CHACHA20-POLY1305", "SECP256R1"), "CHACHA20-POLY1305", "SECP256R1" },
                { KEYS("AES-256-GCM", "X25519"), NULL, NULL },
                { KEYS("AES-128-CBC", "X25519"), NULL, NULL },
                { KEYS("AES-128-GCM", "SECP384R1"), NULL, NULL },
                { "NONE:+VERS-DTLS1.2:+MAC-ALL:+SIGN-ALL:+GROUP-ALL:+COMP-NULL:+ECDHE-RSA:+AES-128-GCM",
                  NULL, NULL },
        };
        static const enum curve curves[] = { CURVE_P256, CURVE_ED25519 };
        _cleanup_(keyed_done) struct keyed keyed = keyed_new(NULL);
        unsigned n = 0;

        keyed.rig->rule = "dns:meter";
        for (size_t i = 0; i < N_ELEMENTS(cases); i++)
                for (size_t j = 0; j < 2 * N_ELEMENTS(curves); j++, n++) {
                        _cleanup_(pki_freep) struct pki *pki =
                                pki_new(&(struct pki_ask){ .subject = "meter", .names = "DNS:meter",
                                                           .curve = curves[j / 2], .issuer = keyed.root });
                        bool is_raw = j % 2 == 0;
                        _cleanup_(dtls_client_freep) struct dtls_client *client =
                                is_raw ? rpk_client(pki, cases[i].priority) : x509_client(pki, cases[i].priority);
                        int r;

                        thumbprint_of(pki, keyed.rig->known);
                        r = shake(keyed.rig, n, client);
                        if (r != (cases[i].cipher ? 0 : -EPROTO))
                                fail_msg("%s %zu: %d, GnuTLS %d", cases[i].priority, j, r, dtls_client_error(client));
                        if (!cases[i].cipher)
                                continue;
                        assert_string_equal(dtls_client_cipher(client), cases[i].cipher);
                        assert_string_equal(dtls_client_group(client), cases[i].group);
                        assert_served(keyed.rig, n, client, pki, is_raw ? 8 : 9);
                }
        assert_int_equal(figures(keyed.rig).n_half_open, 0);
}

/* RFC 7250 §4: either side shows what the extensions agree on. */
static void certificate_types(void **state) {
        static const struct {
                const char *types;
                bool client_raw, server_raw;
        } cases[] = {
                { ":+CTYPE-CLI-RAWPK:+CTYPE-SRV-RAWPK", true, true },
                { ":+CTYPE-CLI-RAWPK:+CTYPE-SRV-X509", true, false },
                { ":+CTYPE-CLI-X509:+CTYPE-SRV-RAWPK", false, true },
                { ":+CTYPE-CLI-X509:+CTYPE-SRV-X509", false, false },
        };
        _cleanup_(keyed_done) struct keyed keyed = keyed_new(NULL);
        _cleanup_(pki_freep) struct pki *pki =
                pki_new(&(struct pki_ask){ .subject = "meter", .names = "DNS:meter", .issuer = keyed.root });

        thumbprint_of(pki, keyed.rig->known);
        keyed.rig->rule = "dns:meter";
        for (unsigned i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(dtls_client_freep) struct dtls_client *client = NULL;
                char priority[256] = "NONE:+VERS-DTLS1.2:+MAC-ALL:+SIGN-ALL:+GROUP-ALL:+COMP-NULL:+ECDHE-ECDSA:"
                                     "+AES-128-CCM-8";
                struct bytes shown;
                bool is_raw;

                strcat(priority, cases[i].types);
                client = cases[i].client_raw ? rpk_client(pki, priority) : x509_client(pki, priority);
                assert_int_equal(shake(keyed.rig, i, client), 0);
                assert_served(keyed.rig, i, client, pki, cases[i].client_raw ? 8 : 9);
                shown = dtls_client_server(client, &is_raw);
                assert_int_equal(is_raw, cases[i].server_raw);
                assert_true(bytes_equal(shown, is_raw ? pki_spki(keyed.own[0]) : pki_der(keyed.own[0])));
        }
}

/* A client that reads signatures of one kind alone is shown the key that makes those. */
static void server_keys(void **state) {
        static const struct {
                const char *sign;
                enum curve curve;
                unsigned own;
        } cases[] = {
                { "+SIGN-EDDSA-ED25519", CURVE_ED25519, 1 },
                { "+SIGN-ECDSA-SHA256", CURVE_P256, 0 },
                { "+SIGN-ECDSA-SHA384", CURVE_P256, 0 },
                { "+SIGN-ECDSA-SHA512", CURVE_P256, 0 },
        };
        _cleanup_(keyed_done) struct keyed keyed = keyed_new(NULL);

        for (unsigned i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(pki_freep) struct pki *pki =
                        pki_new(&(struct pki_ask){ .subject = "meter", .curve = cases[i].curve });
                _cleanup_(dtls_client_freep) struct dtls_client *client = NULL;
                char priority[256] = "NONE:+VERS-DTLS1.2:+MAC-ALL:+GROUP-ALL:+COMP-NULL:+ECDHE-ECDSA:+AES-128-CCM-8:"
                                     "+CTYPE-CLI-RAWPK:+CTYPE-SRV-RAWPK:";
                bool is_raw;

                thumbprint_of(pki, keyed.rig->known);
                client = rpk_client(pki, strcat(priority, cases[i].sign));
                assert_int_equal(shake(keyed.rig, i, client), 0);
                assert_true(bytes_equal(dtls_client_server(client, &is_raw), pki_spki(keyed.own[cases[i].own])));
        }
}

static void assert_failed(struct rig *rig, struct dtls_client *client, int r, int alert, enum dtls_failure why,
                          const char *what) {
        if (r != -EPROTO || dtls_client_alert(client) != alert || rig->failure != why)
                fail_msg("%s: %d, alert %d, GnuTLS %d, failure %d", what, r, dtls_client_alert(client),
                         dtls_client_error(client), (int)rig->failure);
        assert_int_equal(rig->n_failures, 1);
        assert_int_equal(figures(rig).n_failed, 1);
        assert_int_equal(figures(rig).n_failed_by[why], 1);
        assert_int_equal(figures(rig).n_sessions, 0);
        assert_int_equal(rig->n_closed, 0);
}

/* Certificates that are refused, each with its alert. */
static void refused_certificates(void **state) {
        static const struct {
                const char *what;
                struct pki_ask ask;
                bool is_foreign;
                const char *rule;
                int result, alert;
                enum dtls_failure why;
        } cases[] = {
                { "expired", { .until_s = NOW_S - 1 }, false, "dns:meter", 0, CERTIFICATE_EXPIRED,
                  DTLS_FAILED_CERTIFICATE_EXPIRED },
                { "not yet", { .from_s = NOW_S + 1 }, false, "dns:meter", 0, CERTIFICATE_EXPIRED,
                  DTLS_FAILED_CERTIFICATE_NOT_YET },
                { "foreign", {}, true, "dns:meter", 0, UNKNOWN_CA, DTLS_FAILED_CERTIFICATE_FOREIGN },
                { "server", { .purposes = "serverAuth" }, false, "dns:meter", 0, UNSUPPORTED_CERTIFICATE,
                  DTLS_FAILED_CERTIFICATE_UNSUPPORTED },
                { "SHA-1", { .digest = "SHA1" }, false, "dns:meter", 0, BAD_CERTIFICATE, DTLS_FAILED_CERTIFICATE_BAD },
                { "P-384", { .curve = CURVE_P384 }, false, "dns:meter", 0, UNSUPPORTED_CERTIFICATE,
                  DTLS_FAILED_CERTIFICATE_UNSUPPORTED },
                { "nobody's", {}, false, "dns:other", 0, ACCESS_DENIED, DTLS_FAILED_UNMATCHED },
                { "store broken", {}, false, "dns:meter", -EIO, INTERNAL_ERROR, DTLS_FAILED_INTERNAL },
        };
        _cleanup_(pki_freep) struct pki *foreign =
                pki_new(&(struct pki_ask){ .subject = "foreign", .constraints = CA, .usage = "keyCertSign" });

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(keyed_done) struct keyed keyed = keyed_new(NULL);
                _cleanup_(dtls_client_freep) struct dtls_client *client = NULL;
                _cleanup_(pki_freep) struct pki *pki = NULL;
                struct pki_ask ask = cases[i].ask;

                ask.subject = "meter";
                ask.names = "DNS:meter";
                ask.issuer = cases[i].is_foreign ? foreign : keyed.root;
                pki = pki_new(&ask);
                client = x509_client(pki, NULL);
                keyed.rig->rule = cases[i].rule;
                keyed.rig->psk_result = cases[i].result;
                assert_failed(keyed.rig, client, shake(keyed.rig, 1, client), cases[i].alert, cases[i].why,
                              cases[i].what);
        }
}

/* The chain of a client under the CA at that depth, and other certificates behind it. */
static int shake_with_chain(struct rig *rig, const struct pki *pki, struct pki *const *cas, unsigned depth,
                            unsigned padding, struct dtls_client **ret) {
        _cleanup_(pki_freep) struct pki *other = pki_new(&(struct pki_ask){ .subject = "other", .rsa_bits = 2048 });
        struct bytes chain[32];
        unsigned n = 0;
        int r;

        chain[n++] = pki_der(pki);
        for (unsigned i = depth; i > 0; i--)
                chain[n++] = pki_der(cas[i]);
        for (unsigned i = 0; i < padding; i++)
                chain[n++] = pki_der(other);
        *ret = client_of(&(struct dtls_client_options){ .pkcs8 = pki_pkcs8(pki), .chain = chain, .n_chain = n });
        r = shake(rig, 1, *ret);
        if (r != -EAGAIN)
                return r;
        advance(rig, SECOND / 5); /* over any size: the verdict comes when the wait is over */
        assert_int_equal(to_client(rig, 1, *ret), 1);
        return dtls_client_handshake(*ret);
}

/* Chains as long as may be, one longer, and one over any size. */
static void long_chains(void **state) {
        static const struct {
                unsigned depth, padding;
                bool is_good;
        } cases[] = {
                { 0, 0, true }, { 3, 0, true }, { 3, 2, true }, { 4, 0, false }, { 3, 3, false }, { 3, 16, false },
        };
        static const char *const subjects[] = { "", "1", "2", "3", "4" };
        _cleanup_(keyed_done) struct keyed keyed = keyed_new(NULL);
        struct pki *cas[N_ELEMENTS(subjects)] = { keyed.root };

        for (unsigned i = 1; i < N_ELEMENTS(cas); i++)
                cas[i] = pki_new(&(struct pki_ask){ .subject = subjects[i], .constraints = CA, .usage = "keyCertSign",
                                                    .issuer = cas[i - 1] });
        for (unsigned i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
                _cleanup_(pki_freep) struct pki *pki = pki_new(&(struct pki_ask){
                        .subject = "meter", .names = "DNS:meter", .issuer = cas[cases[i].depth] });
                _cleanup_(dtls_client_freep) struct dtls_client *client = NULL;
                int r;

                give_keys(&keyed, rig);
                rig->rule = "dns:meter";
                r = shake_with_chain(rig, pki, cas, cases[i].depth, cases[i].padding, &client);
                if (!cases[i].is_good) {
                        assert_failed(rig, client, r, UNKNOWN_CA, DTLS_FAILED_CHAIN_TOO_LONG, "chain");
                        continue;
                }
                assert_int_equal(r, 0);
                assert_served(rig, 1, client, pki, 9);
        }
        for (unsigned i = 1; i < N_ELEMENTS(cas); i++)
                pki_free(cas[i]);
}

static void refused_keys(void **state) {
        static const struct {
                const char *what;
                enum curve curve;
                bool is_shown;
                int result, alert;
                enum dtls_failure why;
        } cases[] = {
                { "unknown", CURVE_P256, true, 1, CERTIFICATE_UNKNOWN, DTLS_FAILED_KEY_UNKNOWN },
                { "unknown Ed25519", CURVE_ED25519, true, 1, CERTIFICATE_UNKNOWN, DTLS_FAILED_KEY_UNKNOWN },
                { "P-384", CURVE_P384, true, 0, UNSUPPORTED_CERTIFICATE, DTLS_FAILED_KEY_UNSUPPORTED },
                { "store broken", CURVE_P256, true, -EIO, INTERNAL_ERROR, DTLS_FAILED_INTERNAL },
                { "none", CURVE_P256, false, 0, HANDSHAKE_FAILURE, DTLS_FAILED_NO_CERTIFICATE },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(keyed_done) struct keyed keyed = keyed_new(NULL);
                _cleanup_(pki_freep) struct pki *pki =
                        pki_new(&(struct pki_ask){ .subject = "meter", .curve = cases[i].curve });
                _cleanup_(dtls_client_freep) struct dtls_client *client =
                        cases[i].is_shown ? rpk_client(pki, NULL) : client_of(&(struct dtls_client_options){});

                thumbprint_of(pki, keyed.rig->known);
                keyed.rig->psk_result = cases[i].result;
                assert_failed(keyed.rig, client, shake(keyed.rig, 1, client), cases[i].alert, cases[i].why,
                              cases[i].what);
        }
}

/* The private key of another one than is shown: registered, but not proved to be held (RFC 5246 §7.4.8). */
static void stolen_key(void **state) {
        _cleanup_(keyed_done) struct keyed keyed = keyed_new(NULL);
        _cleanup_(pki_freep) struct pki *victim = pki_new(&(struct pki_ask){ .subject = "victim" });
        _cleanup_(pki_freep) struct pki *thief = pki_new(&(struct pki_ask){ .subject = "thief" });
        _cleanup_(dtls_client_freep) struct dtls_client *client =
                client_of(&(struct dtls_client_options){ .pkcs8 = pki_pkcs8(thief), .spki = pki_spki(victim) });

        thumbprint_of(victim, keyed.rig->known);
        assert_failed(keyed.rig, client, shake(keyed.rig, 1, client), DECRYPT_ERROR, DTLS_FAILED_PROTOCOL, "stolen");
}

/* Each datagram of the client's last flight left out in turn: no session without the proof in it. */
static void no_session_without_proof(void **state) {
        _cleanup_(pki_freep) struct pki *pki = pki_new(&(struct pki_ask){ .subject = "meter" });

        for (unsigned left_out = 0, n = 1; left_out < n; left_out++) {
                _cleanup_(keyed_done) struct keyed keyed = keyed_new(NULL);
                _cleanup_(dtls_client_freep) struct dtls_client *client = rpk_client(pki, NULL);
                _cleanup_(flight_done) struct flight flight;

                thumbprint_of(pki, keyed.rig->known);
                last_flight(keyed.rig, 1, client, &flight);
                n = flight.n;
                for (unsigned i = 0; i < n; i++)
                        if (i != left_out)
                                input(keyed.rig, 1, buf_bytes(&flight.datagrams[i]));
                assert_int_equal(figures(keyed.rig).n_done, 0);
        }
}

/* PSK and certificates on one port; without keys of the server's own, PSK alone. */
static void one_port(void **state) {
        _cleanup_(keyed_done) struct keyed keyed = keyed_new(NULL);
        _cleanup_(pki_freep) struct pki *pki = pki_new(&(struct pki_ask){ .subject = "meter" });
        _cleanup_(dtls_client_freep) struct dtls_client *with_key = rpk_client(pki, NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *refused = rpk_client(pki, NULL);

        thumbprint_of(pki, keyed.rig->known);
        dtls_client_free(connected(keyed.rig, 1));
        assert_int_equal(shake(keyed.rig, 2, with_key), 0);
        assert_served(keyed.rig, 2, with_key, pki, 8);
        assert_int_equal(dtls_set_keys(keyed.rig->dtls, NULL, 0), 0);
        assert_served(keyed.rig, 2, with_key, pki, 8); /* who is in stays in */
        dtls_client_free(connected(keyed.rig, 3));
        assert_int_equal(shake(keyed.rig, 4, refused), -EPROTO);
        assert_int_equal(dtls_client_alert(refused), HANDSHAKE_FAILURE);
}

/* A handshake goes on with the key that it began with. */
static void keys_change(void **state) {
        _cleanup_(keyed_done) struct keyed keyed = keyed_new(NULL);
        _cleanup_(pki_freep) struct pki *pki = pki_new(&(struct pki_ask){ .subject = "meter" });
        _cleanup_(pki_freep) struct pki *fresh = pki_new(&(struct pki_ask){ .subject = "as" });
        const struct dtls_key key = { pki_pkcs8(fresh), pki_spki(fresh), BYTES_NONE };
        const struct dtls_key bad = { BYTES_LITERAL("no key"), pki_spki(fresh), BYTES_NONE };
        _cleanup_(dtls_client_freep) struct dtls_client *before = rpk_client(pki, RAW), *after = rpk_client(pki, RAW);
        _cleanup_(flight_done) struct flight flight;
        bool is_raw;

        thumbprint_of(pki, keyed.rig->known);
        last_flight(keyed.rig, 1, before, &flight);
        assert_int_equal(dtls_set_keys(keyed.rig->dtls, &bad, 1), -EINVAL);
        assert_int_equal(dtls_set_keys(keyed.rig->dtls, &key, 1), 0);
        for (unsigned i = 0; i < flight.n; i++)
                input(keyed.rig, 1, buf_bytes(&flight.datagrams[i]));
        to_client(keyed.rig, 1, before);
        assert_int_equal(shake(keyed.rig, 1, before), 0);
        assert_true(bytes_equal(dtls_client_server(before, &is_raw), pki_spki(keyed.own[0])));
        assert_int_equal(shake(keyed.rig, 2, after), 0);
        assert_true(bytes_equal(dtls_client_server(after, &is_raw), pki_spki(fresh)));
        assert_served(keyed.rig, 1, before, pki, 8);
        assert_served(keyed.rig, 2, after, pki, 8);
}

/* Both clocks, and what is due then. */
static void wait_s(struct rig *rig, int64_t s) {
        at.wall_s += s;
        advance(rig, s * SECOND);
}

/* The server has ended the session, and says why. */
static void assert_over(struct rig *rig, unsigned n, struct dtls_client *client, int alert) {
        uint64_t n_sessions = figures(rig).n_sessions;

        assert_int_equal(rig->n_closed, 1);
        assert_int_equal(figures(rig).n_evicted, 1);
        assert_int_equal(to_client(rig, n, client), 1);
        assert_true(dtls_client_receive(client, &rig->delivered) < 0);
        assert_int_equal(dtls_client_alert(client), alert);
        assert_int_equal(figures(rig).n_sessions, n_sessions);
        rig->n_closed = 0;
}

/* Nobody stays in by what is no longer valid: its own certificate, an authority's, in time or by a clock that is set. */
static void sessions_end_with_their_certificate(void **state) {
        static const struct {
                int64_t own_s, authority_s; /* from now */
                bool is_set;                /* the clock jumps, and the client is the first to notice */
        } cases[] = { { 100, 0, false }, { 1000, 100, false }, { 100, 0, true }, { 100000, 0, false } };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(keyed_done) struct keyed keyed = keyed_new(NULL);
                _cleanup_(pki_freep) struct pki *authority =
                        pki_new(&(struct pki_ask){ .subject = "ca", .constraints = CA, .usage = "keyCertSign",
                                                   .until_s = cases[i].authority_s ? NOW_S + cases[i].authority_s : 0,
                                                   .issuer = keyed.root });
                _cleanup_(pki_freep) struct pki *pki =
                        pki_new(&(struct pki_ask){ .subject = "meter", .names = "DNS:meter", .issuer = authority,
                                                   .until_s = NOW_S + cases[i].own_s });
                const struct bytes chain[] = { pki_der(pki), pki_der(authority) };
                _cleanup_(dtls_client_freep) struct dtls_client *client =
                        client_of(&(struct dtls_client_options){ .pkcs8 = pki_pkcs8(pki), .chain = chain,
                                                                 .n_chain = N_ELEMENTS(chain) });
                _cleanup_(dtls_client_freep) struct dtls_client *raw = rpk_client(pki, RAW), *psk_client = NULL;
                int64_t end_s = cases[i].authority_s ?: cases[i].own_s;

                keyed.rig->rule = "dns:meter";
                thumbprint_of(pki, keyed.rig->known);
                assert_int_equal(shake(keyed.rig, 1, client), 0);
                assert_int_equal(shake(keyed.rig, 2, raw), 0);
                psk_client = connected(keyed.rig, 3);
                assert_true(dtls_due(keyed.rig->dtls) <= at.monotonic_us + end_s * SECOND);
                for (; at.wall_s < NOW_S + end_s - 1 && end_s < 1000; wait_s(keyed.rig, 1))
                        assert_true(dtls_due(keyed.rig->dtls) > at.monotonic_us);
                if (end_s < 1000)
                        assert_served(keyed.rig, 1, client, pki, 9);
                at.wall_s = NOW_S + end_s;
                if (cases[i].is_set) {
                        say(keyed.rig, 1, client, BYTES_LITERAL("hello"));
                        assert_delivered(keyed.rig, "");
                } else {
                        advance(keyed.rig, 60 * SECOND); /* that long at most without a look at the clock */
                }
                assert_over(keyed.rig, 1, client, CERTIFICATE_EXPIRED);
                assert_served(keyed.rig, 2, raw, pki, 8);
                say(keyed.rig, 3, psk_client, BYTES_LITERAL("hello"));
                assert_delivered(keyed.rig, "hello|");
        }
}

/* The records of a flight one by one, but for the last, which is what comes back. */
static struct bytes all_but_finished(struct rig *rig, unsigned n, const struct flight *flight) {
        struct bytes last = BYTES_NONE;

        for (unsigned i = 0; i < flight->n; i++) {
                struct bytes left = buf_bytes(&flight->datagrams[i]);

                while (left.size > 0) {
                        size_t size = 13 + ((size_t)left.data[11] << 8 | left.data[12]);

                        if (last.size > 0)
                                input(rig, n, last);
                        last = bytes_of(left.data, size);
                        left = bytes_of(left.data + size, left.size - size);
                }
        }
        return last;
}

/* Nor by an authority that is trusted no more; who leads to one that still is stays. */
static void sessions_end_with_their_trust_anchor(void **state) {
        _cleanup_(keyed_done) struct keyed keyed = keyed_new(NULL);
        _cleanup_(pki_freep) struct pki *pki =
                pki_new(&(struct pki_ask){ .subject = "meter", .names = "DNS:meter", .issuer = keyed.root });
        _cleanup_(pki_freep) struct pki *stranger =
                pki_new(&(struct pki_ask){ .subject = "another", .constraints = CA, .usage = "keyCertSign" });
        _cleanup_(dtls_client_freep) struct dtls_client *client = x509_client(pki, NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *slow = x509_client(pki, NULL), *raw = rpk_client(pki, RAW);
        _cleanup_(trust_anchors_freep) struct trust_anchors *both = NULL, *other = NULL;
        _cleanup_(buf_done) struct buf pem = BUF_INIT(65536);
        _cleanup_(diags_done) struct diags faults = {};
        _cleanup_(flight_done) struct flight flight;
        struct bytes finished;

        keyed.rig->rule = "dns:meter";
        thumbprint_of(pki, keyed.rig->known);
        pki_put_pem(stranger, &pem);
        assert_int_equal(trust_anchors_new(buf_bytes(&pem), "file", &other, &faults), 0);
        pki_put_pem(keyed.root, &pem);
        assert_int_equal(trust_anchors_new(buf_bytes(&pem), "file", &both, &faults), 0);
        assert_int_equal(shake(keyed.rig, 1, client), 0);
        assert_int_equal(shake(keyed.rig, 2, raw), 0);

        dtls_set_trust_anchors(keyed.rig->dtls, both);
        advance(keyed.rig, 0);
        assert_served(keyed.rig, 1, client, pki, 9);

        last_flight(keyed.rig, 3, slow, &flight);
        finished = all_but_finished(keyed.rig, 3, &flight); /* and so judged */
        dtls_set_trust_anchors(keyed.rig->dtls, other);
        assert_true(dtls_due(keyed.rig->dtls) <= at.monotonic_us);
        advance(keyed.rig, 0);
        assert_over(keyed.rig, 1, client, UNKNOWN_CA);
        assert_served(keyed.rig, 2, raw, pki, 8);

        input(keyed.rig, 3, finished);
        assert_int_equal(figures(keyed.rig).n_half_open, 0);
        assert_int_equal(figures(keyed.rig).n_done, 2);
        assert_int_equal(keyed.rig->failure, DTLS_FAILED_CERTIFICATE_FOREIGN);
        assert_int_equal(keyed.rig->n_closed, 0);
}

/* design.md's bar holds for them too: what a session keeps of its chain counts. */
static void memory_of_a_session_with_certificate(void **state) {
        enum { N = 100 };
        _cleanup_(keyed_done) struct keyed keyed = keyed_new(&(struct dtls_limits){
                .sessions_max = N + 1, .handshakes_max = N, .handshake_timeout_us = 30 * SECOND,
                .idle_us = 3600 * SECOND });
        _cleanup_(pki_freep) struct pki *pki =
                pki_new(&(struct pki_ask){ .subject = "meter", .names = "DNS:meter", .issuer = keyed.root });
        size_t before = 0;

        keyed.rig->rule = "dns:meter";
        for (unsigned n = 0; n <= N; n++) {
                struct dtls_client *client = x509_client(pki, NULL);

                assert_int_equal(shake(keyed.rig, n, client), 0);
                dtls_client_free(client);
                if (n == 0) /* what is allocated once is there now */
                        before = memory_in_use();
        }
        print_message("# %zu bytes a session\n", (memory_in_use() - before) / N);
        assert_in_range((memory_in_use() - before) / N, 0, 20000);
}

/*
 * Two bytes each of six messages that are said to have as much as a chain may: one is believed, and costs no more
 * than it says.
 */
static void fragments_of_long_chains_are_bounded(void **state) {
        _cleanup_(keyed_done) struct keyed keyed = keyed_new(NULL);
        _cleanup_(pki_freep) struct pki *pki = pki_new(&(struct pki_ask){ .subject = "meter" });
        _cleanup_(dtls_client_freep) struct dtls_client *client = rpk_client(pki, NULL);
        uint8_t fragment[] = { 22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 1, 0, 0, 14,
                               11, 0, 0x20, 0, 0, 2, 0, 0, 0, 0, 0, 2, 'x', 'y' };
        _cleanup_(flight_done) struct flight flight;
        size_t before;

        last_flight(keyed.rig, 1, client, &flight);
        before = memory_in_use();
        for (uint8_t n = 0; n < 6; n++) {
                fragment[10] = 16 + n; /* not one that was there */
                fragment[18] = (uint8_t)(2 + n);
                input(keyed.rig, 1, bytes_of(fragment, sizeof(fragment)));
        }
        assert_in_range(memory_in_use(), before, before + 8192 + 4096); /* six would be 53 kB */
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(addresses),
                cmocka_unit_test(addresses_compare),
                cmocka_unit_test(siphash_vectors),
                cmocka_unit_test(suites),
                cmocka_unit_test(figures_of_a_handshake),
                cmocka_unit_test(identities),
                cmocka_unit_test(identities_of_limit_size),
                cmocka_unit_test(unknown_identity),
                cmocka_unit_test(credentials_out_of_reach),
                cmocka_unit_test(wrong_key),
                cmocka_unit_test(forged_finished),
                cmocka_unit_test(lost_datagrams),
                cmocka_unit_test(repeated_datagrams),
                cmocka_unit_test(reordered_flight),
                cmocka_unit_test(retransmission),
                cmocka_unit_test(early_data),
                cmocka_unit_test(hellos_cost_nothing),
                cmocka_unit_test(shortest_hello),
                cmocka_unit_test(cookies_belong_to_an_address),
                cmocka_unit_test(cookies_age),
                cmocka_unit_test(cookies_of_a_quiet_server_age),
                cmocka_unit_test(no_randomness),
                cmocka_unit_test(broken_hellos),
                cmocka_unit_test(skipped_hello),
                cmocka_unit_test(garbage),
                cmocka_unit_test(forged_alerts),
                cmocka_unit_test(broken_records),
                cmocka_unit_test(replays_are_delivered_once),
                cmocka_unit_test(many_records),
                cmocka_unit_test(sizes),
                cmocka_unit_test(closed_while_delivering),
                cmocka_unit_test(owners),
                cmocka_unit_test(client_says_goodbye),
                cmocka_unit_test(server_says_goodbye),
                cmocka_unit_test(no_renegotiation),
                cmocka_unit_test(client_reappears),
                cmocka_unit_test(replayed_hello),
                cmocka_unit_test(handshakes_are_limited),
                cmocka_unit_test(sessions_are_limited),
                cmocka_unit_test(one_credential_displaces_its_own),
                cmocka_unit_test(only_one_session),
                cmocka_unit_test(limits_change),
                cmocka_unit_test(idle_sessions_go),
                cmocka_unit_test(idle_sessions_go_in_portions),
                cmocka_unit_test(garbage_is_no_use),
                cmocka_unit_test(memory_of_a_session),
                cmocka_unit_test(fragments_of_long_messages_cost_nothing),
                cmocka_unit_test(suites_with_keys),
                cmocka_unit_test(certificate_types),
                cmocka_unit_test(server_keys),
                cmocka_unit_test(refused_certificates),
                cmocka_unit_test(long_chains),
                cmocka_unit_test(refused_keys),
                cmocka_unit_test(stolen_key),
                cmocka_unit_test(no_session_without_proof),
                cmocka_unit_test(one_port),
                cmocka_unit_test(keys_change),
                cmocka_unit_test(sessions_end_with_their_certificate),
                cmocka_unit_test(sessions_end_with_their_trust_anchor),
                cmocka_unit_test(memory_of_a_session_with_certificate),
                cmocka_unit_test(fragments_of_long_chains_are_bounded),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
