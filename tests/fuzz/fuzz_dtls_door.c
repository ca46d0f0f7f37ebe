/*
 * The coaps door: datagrams as they are, cookies that belong to somebody else, and true clients whose datagrams are
 * changed, lost, repeated or said from another address. Before a cookie was shown nobody hears more than was said; the
 * figures stay sound; a client that comes afterwards is served; in the end every session is gone.
 *
 * A step is a byte: who (2 bits), what (3 bits), time (3 bits); what follows depends on what.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "fuzz.h"
#include "support/dtls_client.h"
#include "support/parties.h"
#include "world.h"

#define PEERS 4
#define STEPS_MAX 64
#define RECORDS_MAX 256 /* that a client reads in one go */
#define DATAGRAM_MAX ((size_t)64 << 10)
#define COOKIE_MAX 255
#define HOUR_US INT64_C(3600000000)

/* RFC 6347 §4.1, §4.2.2: offsets in a datagram that starts with a ClientHello or HelloVerifyRequest */
#define RECORD_HEADER_SIZE 13
#define RECORD_LENGTH 11
#define MESSAGE_LENGTH 14
#define FRAGMENT_LENGTH 22
#define HELLO_SESSION 59
#define VERIFY_COOKIE 27
#define TYPE_HANDSHAKE 22
#define TYPE_VERIFY_REQUEST 3

enum what { RAW, RAW_WITH_COOKIE, STEP, STEP_CHANGED, STEP_LOST, REPEAT, SAY, AGAIN };

struct party {
        struct dtls_client *dtls;
        bool is_open, is_broken, is_served;
        struct address remote;
        size_t said, heard;
        uint8_t cookie[COOKIE_MAX];
        size_t cookie_size;
};

struct scene {
        struct world world;
        struct party parties[PEERS + 1]; /* the last: who comes afterwards */
        struct buf last;                 /* the last datagram of a true client */
};

/* ---- what is heard */

static void keep_cookie(struct party *party, struct bytes d) {
        if (d.size <= VERIFY_COOKIE + 1 || d.data[0] != TYPE_HANDSHAKE ||
            d.data[RECORD_HEADER_SIZE] != TYPE_VERIFY_REQUEST ||
            d.size < VERIFY_COOKIE + 1 + (size_t)d.data[VERIFY_COOKIE])
                return;
        party->cookie_size = d.data[VERIFY_COOKIE];
        memcpy(party->cookie, d.data + VERIFY_COOKIE + 1, party->cookie_size);
}

static void hear(void *context, const struct datagram *datagram) {
        struct scene *scene = context;
        struct engine_figures figures;

        MUST(datagram->door == DOOR_COAPS);
        engine_figures(scene->world.engine, &figures);
        for (unsigned i = 0; i <= PEERS; i++) {
                struct party *party = &scene->parties[i];

                if (!address_equal(&datagram->remote, &party->remote))
                        continue;
                party->heard += datagram->data.size;
                MUST(figures.n_handshakes_begun > 0 || party->heard <= party->said);
                keep_cookie(party, datagram->data);
                if (party->dtls)
                        dtls_client_input(party->dtls, datagram->data);
                return;
        }
        MUST(!"said to somebody who never spoke");
}

static void must_be_sound(struct scene *scene) {
        struct engine_figures figures;

        engine_figures(scene->world.engine, &figures);
        MUST(figures.n_sessions_half_open <= figures.n_sessions && figures.n_sessions <= PEERS + 1);
        MUST(figures.n_handshakes_begun == figures.n_handshakes_done + figures.n_handshakes_failed +
                                                   figures.n_sessions_half_open);
}

/* ---- what is said */

static void say(struct scene *scene, struct party *party, struct bytes datagram) {
        party->said += datagram.size;
        world_input(&scene->world, DOOR_COAPS, &party->remote, fuzz_guarded(datagram));
}

static void put_length(uint8_t *at, size_t n_bytes, size_t more) {
        size_t value = 0;

        for (size_t i = 0; i < n_bytes; i++)
                value = value << 8 | at[i];
        value += more;
        for (size_t i = n_bytes; i-- > 0; value >>= 8)
                at[i] = (uint8_t)value;
}

/* A ClientHello without a cookie with the one that this party, or another, was given. */
static void say_with_cookie(struct scene *scene, struct party *party, const struct party *whose, struct bytes hello) {
        uint8_t data[FUZZ_GUARDED_MAX + COOKIE_MAX];
        size_t at = hello.size > HELLO_SESSION ? HELLO_SESSION + 1u + hello.data[HELLO_SESSION] : 0;

        if (at == 0 || hello.size <= at || hello.size > FUZZ_GUARDED_MAX) {
                say(scene, party, hello);
                return;
        }
        memcpy(data, hello.data, at);
        data[at] = (uint8_t)whose->cookie_size;
        memcpy(data + at + 1, whose->cookie, whose->cookie_size);
        memcpy(data + at + 1 + whose->cookie_size, hello.data + at + 1, hello.size - at - 1);
        put_length(data + RECORD_LENGTH, 2, whose->cookie_size);
        put_length(data + MESSAGE_LENGTH, 3, whose->cookie_size);
        put_length(data + FRAGMENT_LENGTH, 3, whose->cookie_size);
        say(scene, party, bytes_of(data, hello.size + whose->cookie_size));
}

static void client_end(struct party *party) {
        dtls_client_free(party->dtls);
        party->dtls = NULL;
        party->is_open = party->is_broken = false;
}

static void client_begin(struct party *party, const char *name, bool is_eager) {
        uint8_t key[PARTY_KEY_SIZE];

        party_key(name, key);
        MUST(dtls_client_new(&(struct dtls_client_options){ .identity = bytes_text(name),
                                                            .key = bytes_of(key, sizeof(key)),
                                                            .is_eager = is_eager },
                             &party->dtls) == 0);
}

/* With a key of its own, shown raw or in a certificate. */
static void client_begin_with_key(struct party *party, bool is_raw) {
        const struct world_key *key = world_key();

        MUST(dtls_client_new(&(struct dtls_client_options){ .keys = is_raw ? key->raw : key->certified,
                                                            .is_eager = true },
                             &party->dtls) == 0);
}

/* Let the client read what came and go on. */
static void client_step(struct party *party) {
        _cleanup_(buf_done) struct buf data = BUF_INIT(1 << 17);
        struct coap_message message;
        int r;

        if (party->is_broken)
                return;
        if (!party->is_open) {
                r = dtls_client_handshake(party->dtls);
                party->is_open = r == 0;
                party->is_broken = r != 0 && r != -EAGAIN;
                return;
        }
        for (unsigned i = 0; i < RECORDS_MAX; i++) {
                r = dtls_client_receive(party->dtls, &data);
                if (r == -EAGAIN || r == -EPIPE)
                        return;
                if (r != 0)
                        continue; /* a last flight once more is an error to GnuTLS, and not the end */
                world_must_be_answer(buf_bytes(&data), &message);
                party->is_served = party->is_served || message.code == CODE_CONTENT;
        }
}

struct change {
        bool is_lost;
        uint16_t at, size; /* size 0: not cut */
        uint8_t bits;
};

/* What the client has to say, perhaps not as it meant it. */
static void client_flush(struct scene *scene, struct party *party, const struct change *change) {
        _cleanup_(buf_done) struct buf datagram = BUF_INIT(DATAGRAM_MAX);

        while (dtls_client_output(party->dtls, &datagram)) {
                buf_clear(&scene->last);
                MUST(buf_add(&scene->last, buf_bytes(&datagram)) == 0);
                if (change->at < datagram.size)
                        datagram.data[change->at] ^= change->bits;
                if (change->size > 0 && change->size < datagram.size)
                        datagram.size = change->size;
                if (!change->is_lost)
                        say(scene, party, buf_bytes(&datagram));
        }
}

static void step(struct scene *scene, struct bytes *in) {
        uint8_t control = fuzz_take_byte(in);
        struct party *party = &scene->parties[control % PEERS];
        enum what what = control >> 2 & 7;
        struct change change = { .is_lost = what == STEP_LOST };
        const struct party *whose;

        world_wait(&scene->world, control >> 5);
        if (what >= STEP && what != REPEAT && !party->dtls) {
                if (control % PEERS < 2)
                        client_begin(party, world_parties[control % WORLD_PARTIES], true);
                else
                        client_begin_with_key(party, control % PEERS == 2);
        }
        if (what == RAW) {
                say(scene, party, fuzz_take(in, fuzz_take_u16(in)));
        } else if (what == RAW_WITH_COOKIE) {
                whose = &scene->parties[fuzz_take_byte(in) % PEERS];
                say_with_cookie(scene, party, whose, fuzz_take(in, fuzz_take_u16(in)));
        } else if (what == REPEAT) {
                say(scene, party, buf_bytes(&scene->last));
        } else if (what == AGAIN) {
                client_end(party);
        } else {
                if (what == STEP_CHANGED)
                        change = (struct change){ .at = fuzz_take_u16(in), .bits = fuzz_take_byte(in),
                                                  .size = fuzz_take_u16(in) };
                client_step(party);
                if (what == SAY && party->is_open && !party->is_broken) {
                        struct bytes message = fuzz_take(in, fuzz_take_byte(in));

                        if (message.size > 0)
                                (void)dtls_client_send(party->dtls, message);
                        else
                                dtls_client_close(party->dtls);
                }
                client_flush(scene, party, &change);
        }
        world_run(&scene->world);
        world_deliver(&scene->world, hear, scene);
        must_be_sound(scene);
}

/* ---- afterwards */

static void probe(struct scene *scene) {
        _cleanup_(buf_done) struct buf message = BUF_INIT(256);
        struct party *party = &scene->parties[PEERS];
        const struct change none = {};

        world_wait_us(&scene->world, HOUR_US);
        world_run(&scene->world);
        world_deliver(&scene->world, hear, scene);
        client_begin(party, "c0", false);
        for (unsigned i = 0; i < 20 && !party->is_open; i++) {
                client_step(party);
                client_flush(scene, party, &none);
                world_run(&scene->world);
                world_deliver(&scene->world, hear, scene);
                must_be_sound(scene);
        }
        MUST(party->is_open);
        world_discover(1, &message);
        MUST(dtls_client_send(party->dtls, buf_bytes(&message)) == 0);
        client_flush(scene, party, &none);
        world_run(&scene->world);
        world_deliver(&scene->world, hear, scene);
        client_step(party);
        MUST(party->is_served);
}

static void must_end(struct scene *scene) {
        struct engine_figures figures;

        world_wait_us(&scene->world, 48 * HOUR_US);
        world_run(&scene->world);
        engine_figures(scene->world.engine, &figures);
        MUST(figures.n_sessions == 0 && figures.n_pending == 0);
        MUST(engine_due(scene->world.engine) == INT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct scene scene = { .last = BUF_INIT(DATAGRAM_MAX) };
        struct bytes in = bytes_of(data, size);

        world_open(&scene.world);
        for (unsigned i = 0; i <= PEERS; i++)
                scene.parties[i].remote = world_address(i % 2, 300 + i);
        for (unsigned i = 0; i < STEPS_MAX && in.size > 0; i++)
                step(&scene, &in);
        probe(&scene);
        must_end(&scene);
        for (unsigned i = 0; i <= PEERS; i++)
                client_end(&scene.parties[i]);
        buf_done(&scene.last);
        world_close(&scene.world);
        return 0;
}
