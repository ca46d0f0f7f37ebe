#include "door.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "endpoint/aced.h"
#include "format/coap.h"
#include "transport/engine.h"

#define ROUNDS_MAX 40
#define DATAGRAM_MAX 65536
#define STEP_US 100000 /* a wrong key is told a while after the client's last flight */

DEFINE_FREEP(struct engine, engine_free)

static struct address remote(void) {
        struct address address = { .size = sizeof(address.in) };

        address.in.sin_family = AF_INET;
        address.in.sin_port = htons(5684);
        address.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return address;
}

static void to_server(struct dtls_client *client, struct engine *engine, struct engine_time now) {
        _cleanup_(buf_done) struct buf datagram = BUF_INIT(DATAGRAM_MAX);

        while (dtls_client_output(client, &datagram))
                engine_input(engine, &(struct datagram){ .door = DOOR_COAPS, .remote = remote(),
                                                         .data = buf_bytes(&datagram) }, now);
}

static void to_client(struct engine *engine, struct dtls_client *client) {
        const struct datagram *datagrams;
        size_t n = engine_output(engine, &datagrams);

        for (size_t i = 0; i < n; i++)
                dtls_client_input(client, datagrams[i].data);
        engine_sent(engine);
}

static int shake_hands(struct dtls_client *client, struct engine *engine, struct engine_time *now) {
        int r = -EAGAIN;

        for (unsigned i = 0; i < ROUNDS_MAX && r == -EAGAIN; i++, now->monotonic_us += STEP_US) {
                r = dtls_client_handshake(client);
                to_server(client, engine, *now);
                (void)engine_run(engine, *now);
                to_client(engine, client);
        }
        return r;
}

int door_handshake(struct aced *as, int64_t now_s, const struct dtls_client_options *options,
                   char ret[static DOOR_RESULT_SIZE]) {
        _cleanup_(dtls_client_freep) struct dtls_client *client = NULL;
        _cleanup_(engine_freep) struct engine *engine = NULL;
        struct engine_time now = { .monotonic_us = 1, .wall_s = now_s };
        const char *group;
        int r;

        if ((r = engine_new(as, &engine)) != 0 || (r = dtls_client_new(options, &client)) != 0)
                return r;
        r = shake_hands(client, engine, &now);
        if (r == 0) {
                group = dtls_client_group(client);
                snprintf(ret, DOOR_RESULT_SIZE, "%s%s%s", dtls_client_cipher(client), group ? " " : "",
                         group ? group : "");
        } else {
                snprintf(ret, DOOR_RESULT_SIZE, "alert %d", dtls_client_alert(client));
        }
        return r == -EPROTO || r == 0 ? 0 : r;
}

static int ask(struct dtls_client *client, const char *path, struct bytes payload, uint16_t mid) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT(DATAGRAM_MAX);
        struct coap_message message = { .type = TYPE_CON, .code = CODE_POST, .mid = mid, .payload = payload };
        uint8_t scratch[4];
        int r;

        if ((r = coap_message_add(&message, OPTION_URI_PATH, bytes_text(path))) != 0 ||
            (r = coap_message_add_uint(&message, OPTION_CONTENT_FORMAT, CF_ACE_CBOR, scratch)) != 0 ||
            (r = coap_message_encode(&message, &bytes)) != 0)
                return r;
        return dtls_client_send(client, buf_bytes(&bytes));
}

static int hear(struct dtls_client *client, struct door_burst *burst) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT(DATAGRAM_MAX);
        struct coap_message answer;
        bool header_ok;
        int r = dtls_client_receive(client, &bytes);

        if (r != 0)
                return r;
        if (coap_message_decode(buf_bytes(&bytes), &answer, &header_ok) != 0)
                return -EPROTO;
        if (answer.code == CODE_TOO_MANY_REQUESTS && coap_message_option(&answer, OPTION_MAX_AGE, 0))
                burst->n_limited++;
        else if (answer.code >> 5 == 2)
                burst->n_success++;
        else
                return -EPROTO;
        return 0;
}

int door_burst(struct aced *as, int64_t now_s, const struct dtls_client_options *options, const char *path,
               struct bytes payload, unsigned n, struct door_burst *ret) {
        _cleanup_(dtls_client_freep) struct dtls_client *client = NULL;
        _cleanup_(engine_freep) struct engine *engine = NULL;
        struct engine_time now = { .monotonic_us = 1, .wall_s = now_s };
        int r;

        *ret = (struct door_burst){};
        if ((r = engine_new(as, &engine)) != 0 || (r = dtls_client_new(options, &client)) != 0 ||
            (r = shake_hands(client, engine, &now)) != 0)
                return r;
        for (unsigned i = 0; i < n; i++) {
                if ((r = ask(client, path, payload, (uint16_t)(1 + i))) != 0)
                        return r;
                to_server(client, engine, now);
                while (engine_run(engine, now))
                        ;
                to_client(engine, client);
                if ((r = hear(client, ret)) != 0)
                        return r == -EAGAIN ? -EPROTO : r;
        }
        return 0;
}
