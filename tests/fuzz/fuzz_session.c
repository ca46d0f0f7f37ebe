/*
 * What authenticated peers may say: a client and a resource server in established DTLS sessions send messages while
 * time passes. Each answer is one to what was asked, nothing breaks, both are served afterwards, and in the end memory
 * returns.
 *
 * A step is a byte: who (1 bit), what (2 bits), batch afterwards, 16-bit length, time (3 bits); a length; bytes. What:
 * a message as it is, the payload of a request to /token, or to /introspect (empty: the last token), or (no bytes
 * follow) an Acknowledgement or Reset of the last message heard. To /token an empty payload stands for the last refresh
 * token. A client that asks about nothing in 16 bits gives the last token back at /revoke; the server may observe that
 * at /revoke/trl.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "format/cbor.h"
#include "fuzz.h"
#include "support/dtls_client.h"
#include "support/parties.h"
#include "world.h"

#define DEVICES 2
#define STEPS_MAX 96
#define MESSAGE_MAX 9000 /* what the client's side of DTLS takes */
#define TOKEN_MAX 1024
#define HOUR_US INT64_C(3600000000)

struct device {
        struct dtls_client *dtls;
        struct address remote;
        uint16_t mid, heard_mid;
        uint8_t sent_mids[65536 / 8];
        bool is_served;
};

struct session {
        struct world world;
        struct device devices[DEVICES];
        struct buf scratch, token, refresh_token;
};

enum what { MESSAGE, TOKEN, INTROSPECT, ANSWER };

static void hear(void *context, const struct datagram *datagram) {
        struct session *session = context;

        for (unsigned i = 0; i < DEVICES; i++)
                if (address_equal(&datagram->remote, &session->devices[i].remote))
                        dtls_client_input(session->devices[i].dtls, datagram->data);
}

static void flush(struct session *session, struct device *device) {
        while (dtls_client_output(device->dtls, &session->scratch))
                world_input(&session->world, DOOR_COAPS, &device->remote, buf_bytes(&session->scratch));
}

static void open_session(struct session *session, unsigned n, const char *name) {
        struct device *device = &session->devices[n];
        uint8_t key[PARTY_KEY_SIZE];
        int r;

        party_key(name, key);
        device->remote = world_address(false, 200 + n);
        MUST(dtls_client_new(&(struct dtls_client_options){ .identity = bytes_text(name),
                                                            .key = bytes_of(key, sizeof(key)),
                                                            .priority = "NONE:+VERS-DTLS1.2:+MAC-ALL:+SIGN-ALL:"
                                                                        "+COMP-NULL:+PSK:+AES-128-CCM-8" },
                             &device->dtls) == 0);
        for (unsigned i = 0; i < 20 && (r = dtls_client_handshake(device->dtls)) == -EAGAIN; i++) {
                flush(session, device);
                world_run(&session->world);
                world_deliver(&session->world, hear, session);
        }
        MUST(r == 0);
}

static void keep_bytes(struct buf *kept, const struct cbor_item *item) {
        if (item->kind != CBOR_BYTES)
                return;
        buf_clear(kept);
        MUST(buf_add(kept, item->content) == 0);
}

/* { 1: token, 37: refresh token } of an answer become those that are asked about and with next. */
static void keep_tokens(struct session *session, const struct coap_message *message) {
        struct {
                struct cbor_item token, refresh_token;
        } answer;
        static const struct cbor_field fields[] = {
                { ACE_ACCESS_TOKEN, CBOR_BYTES, 0 },
                { ACE_REFRESH_TOKEN, CBOR_BYTES, sizeof(struct cbor_item) },
        };

        if (message->code != CODE_CREATED || cbor_map(message->payload, fields, N_ELEMENTS(fields), &answer) != 0)
                return;
        keep_bytes(&session->token, &answer.token);
        keep_bytes(&session->refresh_token, &answer.refresh_token);
}

static void take_answer(struct session *session, struct device *device, struct bytes data) {
        struct coap_message message;

        world_must_be_answer(data, &message);
        if (message.type == TYPE_ACK || message.type == TYPE_RST) /* of something that was sent */
                MUST(device->sent_mids[message.mid / 8] & 1 << message.mid % 8);
        else
                device->heard_mid = message.mid;
        keep_tokens(session, &message);
        if (bytes_equal(message.token, BYTES_LITERAL("discover")) && message.code == CODE_CONTENT)
                device->is_served = true;
}

static void hear_all(struct session *session) {
        _cleanup_(buf_done) struct buf data = BUF_INIT(1 << 17);

        world_deliver(&session->world, hear, session);
        for (unsigned i = 0; i < DEVICES; i++)
                while (dtls_client_receive(session->devices[i].dtls, &data) == 0)
                        take_answer(session, &session->devices[i], buf_bytes(&data));
}

static void say(struct session *session, struct device *device, struct bytes message) {
        if (message.size > MESSAGE_MAX - 100)
                message.size = MESSAGE_MAX - 100;
        if (message.size == 0)
                return;
        if (message.size >= 4)
                device->sent_mids[(message.data[2] << 8 | message.data[3]) / 8] |= (uint8_t)(1 << message.data[3] % 8);
        (void)dtls_client_send(device->dtls, message);
        flush(session, device);
}

static void ask(struct session *session, struct device *device, const char *path, struct bytes payload) {
        struct coap_message message = { .type = TYPE_CON, .code = CODE_POST, .mid = ++device->mid,
                                        .token = BYTES_LITERAL("ask"), .payload = payload };
        _cleanup_(buf_done) struct buf encoded = BUF_INIT(1 << 17);
        uint8_t scratch[4];

        MUST(coap_message_add(&message, OPTION_URI_PATH, bytes_text(path)) == 0);
        MUST(coap_message_add_uint(&message, OPTION_CONTENT_FORMAT, CF_ACE_CBOR, scratch) == 0);
        MUST(coap_message_encode(&message, &encoded) == 0);
        say(session, device, buf_bytes(&encoded));
}

static void refresh(struct session *session, struct device *device, struct bytes payload) {
        _cleanup_(buf_done) struct buf map = BUF_INIT(2 * TOKEN_MAX);
        struct cbor_writer w = CBOR_WRITER(&map);

        cbor_put_map(&w, 2);
        cbor_put_uint(&w, ACE_GRANT_TYPE);
        cbor_put_uint(&w, GRANT_REFRESH_TOKEN);
        cbor_put_uint(&w, ACE_REFRESH_TOKEN);
        cbor_put_bytes(&w, buf_bytes(&session->refresh_token));
        MUST(cbor_end(&w) == 0);
        ask(session, device, "token", payload.size > 0 ? payload : buf_bytes(&map));
}

static void about_token(struct session *session, struct device *device, const char *path, struct bytes payload) {
        _cleanup_(buf_done) struct buf map = BUF_INIT(2 * TOKEN_MAX);
        struct cbor_writer w = CBOR_WRITER(&map);

        cbor_put_map(&w, 1);
        cbor_put_uint(&w, INTRO_TOKEN);
        cbor_put_bytes(&w, buf_bytes(&session->token));
        MUST(cbor_end(&w) == 0);
        ask(session, device, path, payload.size > 0 ? payload : buf_bytes(&map));
}

static void acknowledge(struct session *session, struct device *device, bool reset) {
        const uint8_t message[4] = { (uint8_t)(1 << 6 | (reset ? TYPE_RST : TYPE_ACK) << 4), CODE_EMPTY,
                                     (uint8_t)(device->heard_mid >> 8), (uint8_t)device->heard_mid };

        say(session, device, bytes_of(message, sizeof(message)));
}

static void step(struct session *session, struct bytes *in) {
        uint8_t control = fuzz_take_byte(in);
        struct device *device = &session->devices[control & 1];
        enum what what = control >> 1 & 3;
        struct bytes bytes = BYTES_NONE;

        world_wait(&session->world, control >> 5);
        if (what != ANSWER)
                bytes = fuzz_take(in, control & 16 ? fuzz_take_u16(in) : fuzz_take_byte(in));
        if (what == MESSAGE)
                say(session, device, bytes);
        else if (what == TOKEN)
                refresh(session, device, bytes);
        else if (what == INTROSPECT)
                about_token(session, device, control & 16 && bytes.size == 0 ? "revoke" : "introspect", bytes);
        else
                acknowledge(session, device, control & 16);
        if (control & 8)
                world_run(&session->world);
        hear_all(session);
}

/* With a Message ID that was not used: nothing of what was said before stands in the way. */
static void probe(struct session *session, struct device *device) {
        _cleanup_(buf_done) struct buf message = BUF_INIT(256);
        uint16_t mid = 0;

        while (device->sent_mids[mid / 8] & 1 << mid % 8)
                mid++;
        device->is_served = false;
        world_discover(mid, &message);
        say(session, device, buf_bytes(&message));
        world_run(&session->world);
        hear_all(session);
        MUST(device->is_served);
}

static void must_end(struct session *session) {
        struct engine_figures figures;

        world_wait_us(&session->world, 48 * HOUR_US);
        world_run(&session->world);
        engine_figures(session->world.engine, &figures);
        MUST(figures.n_sessions == 0 && figures.n_pending == 0 && figures.observe.n_observers == 0);
        MUST(engine_due(session->world.engine) == INT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct session session = { .scratch = BUF_INIT(1 << 17), .token = BUF_INIT(TOKEN_MAX),
                                   .refresh_token = BUF_INIT(TOKEN_MAX) };
        struct bytes in = bytes_of(data, size);

        world_open(&session.world);
        open_session(&session, 0, "c0");
        open_session(&session, 1, "rs1");
        for (unsigned i = 0; i < STEPS_MAX && in.size > 0; i++)
                step(&session, &in);
        world_run(&session.world);
        world_wait_us(&session.world, HOUR_US);
        world_run(&session.world);
        hear_all(&session);
        for (unsigned i = 0; i < DEVICES; i++)
                probe(&session, &session.devices[i]);
        must_end(&session);
        for (unsigned i = 0; i < DEVICES; i++)
                dtls_client_free(session.devices[i].dtls);
        buf_done(&session.scratch);
        buf_done(&session.token);
        buf_done(&session.refresh_token);
        world_close(&session.world);
        return 0;
}
