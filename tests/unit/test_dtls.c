#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/siphash.h"
#include "support/dtls_client.h"
#include "support/fake.h"
#include "transport/address.h"
#include "transport/dtls.h"

#define KEY BYTES_LITERAL("0123456789abcdef")
#define SECOND INT64_C(1000000)
#define QUEUE_MAX 64
#define UNKNOWN_PSK_IDENTITY 115
#define DECRYPT_ERROR 51
#define INTERNAL_ERROR 80
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
        int psk_result;        /* not 0: what psk() answers */
        bool close_on_deliver; /* deliver() closes its session */
        bool echo;             /* deliver() sends the record back */
};

static struct engine_time at;

static int psk(void *context, struct bytes identity, struct credential *ret, struct secret *ret_psk) {
        struct rig *rig = context;

        rig->n_asked++;
        if (rig->psk_result != 0)
                return rig->psk_result;
        if (identity.size > IDENTITY_SIZE_MAX || bytes_equal(identity, BYTES_LITERAL("nobody")))
                return 1;
        *ret = (struct credential){ .id = 7, .kind = CREDENTIAL_PSK, .client_id = 3, .identity_size = identity.size };
        memcpy(ret->identity, identity.data, identity.size);
        return secret_set(ret_psk, KEY);
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
        struct dtls_callbacks callbacks = { rig, psk, deliver, take_out, closed };

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

        assert_int_equal(dtls_client_new(&(struct dtls_client_options){ .identity = identity, .key = key, .priority = priority }, &client), 0);
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

static void handshake(void **state) {
        _cleanup_(rig_freep) struct rig *rig = rig_new(NULL);
        _cleanup_(dtls_client_freep) struct dtls_client *client = connected(rig, 1);
        struct dtls_figures f = figures(rig);

        assert_int_equal(f.n_cookies_sent, 1);
        assert_int_equal(f.n_done, 1);
        assert_int_equal(f.n_half_open, 0);
        assert_int_equal(f.n_sessions, 1);
        say(rig, 1, client, BYTES_LITERAL("hello"));
        assert_delivered(rig, "hello|");
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(handshake),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
