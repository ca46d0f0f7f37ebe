/* transport/oscore.c: contexts, replays, Echo, numbers. The messages themselves are test_oscore's. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "transport/oscore.h"

#define MESSAGE_MAX 2048
#define SECOND_US INT64_C(1000000)
#define CREDENTIALS_MAX 64

/* ---- a store of credentials, the server, a device */

struct registered {
        int64_t id;
        const char *secret;
        struct bytes kid, id_context; /* of the client's requests */
        bool is_gone;
        uint8_t renewed[OSCORE_ID_CONTEXT_SIZE_MAX];
};

struct world {
        struct registered registered[CREDENTIALS_MAX];
        size_t n_registered;
        uint64_t generation, next_number, numbers_max;
        unsigned n_loads;
        int load_fails;
        struct oscore *oscore;
        struct engine_time now;
};

static struct oscore_input input_of(const struct registered *registered, bool server) {
        const struct bytes server_id = BYTES_LITERAL("\x5e");

        return (struct oscore_input){
                .alg = AEAD_AES_CCM_16_64_128, .hkdf = OSCORE_HKDF_SHA256,
                .master_secret = bytes_text(registered->secret), .id_context = registered->id_context,
                .sender_id = server ? server_id : registered->kid,
                .recipient_id = server ? registered->kid : server_id,
        };
}

static int load(void *context, struct bytes kid, int (*found)(void *context, const struct oscore_context *loaded),
                void *found_context) {
        struct world *world = context;

        world->n_loads++;
        if (world->load_fails != 0)
                return world->load_fails;
        for (size_t i = 0; i < world->n_registered; i++) {
                const struct registered *registered = &world->registered[i];
                const struct oscore_context loaded = {
                        .credential_id = registered->id, .client_id = 100 + registered->id,
                        .input = input_of(registered, true) };
                int r;

                if (registered->is_gone || !bytes_equal(registered->kid, kid))
                        continue;
                r = found(found_context, &loaded);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int lease(void *context, uint64_t n, uint64_t *ret_first) {
        struct world *world = context;

        if (world->next_number > world->numbers_max)
                return 1;
        *ret_first = world->next_number;
        world->next_number += n;
        return 0;
}

/* > 0: the credential is gone. */
static int renew(void *context, int64_t credential_id, struct bytes id_context) {
        struct world *world = context;
        struct registered *registered = &world->registered[credential_id - 1];

        if (registered->is_gone)
                return 1;
        memcpy(registered->renewed, id_context.data, id_context.size);
        registered->id_context = bytes_of(registered->renewed, id_context.size);
        return 0;
}

static uint64_t generation(void *context) {
        return ((struct world *)context)->generation;
}

static void start(struct world *world, size_t contexts_max) {
        const struct oscore_callbacks callbacks = {
                .context = world, .load = load, .lease = lease, .renew = renew, .generation = generation };

        oscore_free(world->oscore);
        assert_int_equal(oscore_new(&callbacks, contexts_max, &world->oscore), 0);
}

static int64_t enrol(struct world *world, const char *secret, struct bytes kid, struct bytes id_context) {
        int64_t id = (int64_t)world->n_registered + 1;

        assert_true(world->n_registered < CREDENTIALS_MAX);
        world->registered[world->n_registered++] = (struct registered){
                .id = id, .secret = secret, .kid = kid, .id_context = id_context };
        world->generation++;
        return id;
}

static void world_open(struct world *world) {
        *world = (struct world){ .now.monotonic_us = 1000 * SECOND_US, .numbers_max = OSCORE_PIV_MAX };
        start(world, 100);
        (void)enrol(world, "the secret of c1", BYTES_LITERAL("\xc1"), BYTES_NONE);
}

static void world_close(struct world *world) {
        oscore_free(world->oscore);
}

struct device {
        struct world *world;
        struct oscore_keys keys;
        struct bytes id_context; /* told in requests; data NULL: not */
        uint64_t piv;            /* of the next request */
        struct oscore_request request; /* the last one */
        struct buf sent;         /* the last one's bytes */
        struct buf plain;        /* what the server holds of it */
        struct oscore_taken taken;
};

static struct device device_of(struct world *world, int64_t id) {
        struct device device = { .world = world, .sent = BUF_INIT(MESSAGE_MAX), .plain = BUF_INIT(MESSAGE_MAX) };
        const struct oscore_input input = input_of(&world->registered[id - 1], false);

        assert_int_equal(oscore_derive(&input, &device.keys), 0);
        device.id_context = input.id_context;
        return device;
}

static void device_done(struct device *device) {
        oscore_keys_done(&device->keys);
        buf_done(&device->sent);
        buf_done(&device->plain);
}

/* The bytes that the device has sent reach the server, perhaps not for the first time. */
static enum oscore_verdict arrive(struct device *device) {
        struct coap_message outer;
        bool header_ok;

        assert_int_equal(coap_message_decode(buf_bytes(&device->sent), &outer, &header_ok), 0);
        buf_clear(&device->plain);
        return oscore_take(device->world->oscore, &outer, device->world->now, &device->plain, &device->taken);
}

/* echo with data NULL: without */
static enum oscore_verdict ask(struct device *device, struct bytes echo) {
        struct coap_message message = { .code = CODE_GET, .mid = 1 };
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };

        assert_int_equal(coap_message_add(&message, OPTION_URI_PATH, BYTES_LITERAL("x")), 0);
        if (echo.data)
                assert_int_equal(coap_message_add(&message, OPTION_ECHO, echo), 0);
        assert_int_equal(oscore_protect_request(&device->keys, device->piv++, device->id_context, &message, &outer,
                                                &device->request), 0);
        buf_clear(&device->sent);
        assert_int_equal(coap_message_encode(&outer.message, &device->sent), 0);
        buf_done(&outer.payload);
        return arrive(device);
}

/* What the device reads in a response; *ret_piv: its own number, or -1. */
static uint8_t hear(struct device *device, const struct coap_message *inner, bool own_number, int64_t *ret_piv,
                    struct buf *plain, struct coap_message *ret) {
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        struct oscore_option option;

        assert_int_equal(oscore_protect(device->world->oscore, &device->taken.binding, own_number, inner, &outer), 0);
        assert_int_equal(oscore_option_decode(coap_message_option(&outer.message, OPTION_OSCORE, 0)->value, &option), 0);
        assert_null(option.kid.data);
        *ret_piv = option.piv.data ? (int64_t)oscore_piv_decode(option.piv) : -1;
        assert_int_equal(oscore_unprotect_response(&device->keys, &device->request, &option, &outer.message, plain,
                                                   ret), 0);
        buf_done(&outer.payload);
        return ret->code;
}

/* The value in the protected 4.01 that the last request was answered with. */
static void hear_echo(struct device *device, uint8_t ret[static OSCORE_ECHO_SIZE]) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);
        struct coap_message inner;
        int64_t piv;

        assert_int_equal(hear(device, &device->taken.inner, false, &piv, &plain, &inner), CODE_UNAUTHORIZED);
        assert_true(piv >= 0); /* its own number: the request's nonce may be spent */
        assert_int_equal(inner.n_options, 1);
        assert_int_equal(inner.payload.size, 0);
        assert_int_equal(inner.options[0].number, OPTION_ECHO);
        assert_int_equal(inner.options[0].value.size, OSCORE_ECHO_SIZE);
        memcpy(ret, inner.options[0].value.data, OSCORE_ECHO_SIZE);
}

/* The first request and the one with its Echo: from then on the window is known. */
static void meet(struct device *device) {
        uint8_t echo[OSCORE_ECHO_SIZE];

        assert_int_equal(ask(device, BYTES_NONE), OSCORE_ECHO);
        hear_echo(device, echo);
        assert_int_equal(ask(device, bytes_of(echo, sizeof(echo))), OSCORE_REQUEST);
}

static void expect_no(struct device *device, enum oscore_verdict verdict, uint8_t code, const char *text) {
        assert_int_equal(verdict, OSCORE_ANSWER);
        assert_int_equal(device->taken.inner.code, code);
        assert_true(bytes_equal(device->taken.inner.payload, bytes_text(text)));
        assert_int_equal(device->taken.inner.n_options, 0);
}

/* ---- replays: OSC-019, OSC-023, OSC-027 … OSC-029 */

static void no_request_is_taken_twice(void **state) {
        struct world world;

        world_open(&world);
        struct device device = device_of(&world, 1);

        meet(&device);
        assert_int_equal(device.taken.binding.credential_id, 1);
        assert_int_equal(device.taken.client_id, 101);
        assert_int_equal(device.taken.inner.code, CODE_GET);
        expect_no(&device, arrive(&device), CODE_UNAUTHORIZED, "Replay detected");
        for (unsigned i = 0; i < 100; i++) {
                assert_int_equal(ask(&device, BYTES_NONE), OSCORE_REQUEST);
                expect_no(&device, arrive(&device), CODE_UNAUTHORIZED, "Replay detected");
        }
        /* out of order, within the window */
        device.piv += 10;
        assert_int_equal(ask(&device, BYTES_NONE), OSCORE_REQUEST);
        device.piv -= 5;
        assert_int_equal(ask(&device, BYTES_NONE), OSCORE_REQUEST);
        device.piv -= 1;
        expect_no(&device, ask(&device, BYTES_NONE), CODE_UNAUTHORIZED, "Replay detected");
        device_done(&device);
        world_close(&world);
}

static void a_restart_asks_for_an_echo(void **state) {
        struct world world;
        _cleanup_(buf_done) struct buf captured = BUF_INIT(MESSAGE_MAX);

        world_open(&world);
        struct device device = device_of(&world, 1);

        meet(&device);
        assert_int_equal(ask(&device, BYTES_NONE), OSCORE_REQUEST);
        assert_int_equal(buf_add(&captured, buf_bytes(&device.sent)), 0);

        start(&world, 100);
        assert_int_equal(arrive(&device), OSCORE_ECHO); /* the captured one: not handed on */
        assert_int_equal(device.taken.inner.code, CODE_UNAUTHORIZED);
        meet(&device);
        buf_clear(&device.sent);
        assert_int_equal(buf_add(&device.sent, buf_bytes(&captured)), 0);
        expect_no(&device, arrive(&device), CODE_UNAUTHORIZED, "Replay detected"); /* below the lower limit */
        device_done(&device);
        world_close(&world);
}

static void an_echo_is_good_once_for_one(void **state) {
        struct world world;
        uint8_t echo[OSCORE_ECHO_SIZE], other_echo[OSCORE_ECHO_SIZE];

        world_open(&world);
        (void)enrol(&world, "the secret of c2", BYTES_LITERAL("\xc2"), BYTES_NONE);
        struct device device = device_of(&world, 1), other = device_of(&world, 2);

        assert_int_equal(ask(&other, BYTES_NONE), OSCORE_ECHO);
        hear_echo(&other, other_echo);
        assert_int_equal(ask(&device, BYTES_NONE), OSCORE_ECHO);
        hear_echo(&device, echo);
        assert_int_equal(ask(&device, bytes_of(other_echo, sizeof(other_echo))), OSCORE_ECHO);
        for (unsigned bit = 0; bit < 8 * sizeof(echo); bit++) {
                echo[bit / 8] ^= (uint8_t)(1u << bit % 8);
                assert_int_equal(ask(&device, bytes_of(echo, sizeof(echo))), OSCORE_ECHO);
                echo[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        assert_int_equal(ask(&device, bytes_of(echo, sizeof(echo) - 1)), OSCORE_ECHO);
        world.now.monotonic_us += OSCORE_ECHO_LIFE_US + 1;
        assert_int_equal(ask(&device, bytes_of(echo, sizeof(echo))), OSCORE_ECHO);
        hear_echo(&device, echo);
        assert_int_equal(ask(&device, bytes_of(echo, sizeof(echo))), OSCORE_REQUEST);
        device_done(&device);
        device_done(&other);
        world_close(&world);
}

/* A context that had to go from memory has forgotten its window: what was good for the former one is not for the next. */
static void an_evicted_context_asks_again(void **state) {
        struct world world;

        world_open(&world);
        (void)enrol(&world, "the secret of c2", BYTES_LITERAL("\xc2"), BYTES_NONE);
        start(&world, 1);
        struct device device = device_of(&world, 1), other = device_of(&world, 2);
        struct oscore_figures figures;

        meet(&device); /* its last request has an Echo, which is fresh */
        assert_int_equal(ask(&other, BYTES_NONE), OSCORE_ECHO);
        oscore_figures(world.oscore, &figures);
        assert_int_equal(figures.n_contexts, 1);
        assert_int_equal(figures.n_evicted, 1);
        assert_int_equal(arrive(&device), OSCORE_ECHO);
        device_done(&device);
        device_done(&other);
        world_close(&world);
}

/* ---- who it is: OSC-018, OSC-021, OSC-040, OSC-044, OSC-045, OSC-046 */

static void what_cannot_be_read_is_refused(void **state) {
        static const struct {
                struct bytes option, payload;
                uint8_t code;
                const char *text;
        } cases[] = {
                { BYTES_LITERAL("\x09\x00\xc1"), BYTES_NONE, CODE_BAD_OPTION, "Failed to decode COSE" },
                { BYTES_LITERAL(""), BYTES_LITERAL("0123456789"), CODE_BAD_OPTION, "Failed to decode COSE" },
                { BYTES_LITERAL("\x01\x00"), BYTES_LITERAL("0123456789"), CODE_BAD_OPTION, "Failed to decode COSE" },
                { BYTES_LITERAL("\x08\xc1"), BYTES_LITERAL("0123456789"), CODE_BAD_OPTION, "Failed to decode COSE" },
                { BYTES_LITERAL("\x29\x00\xc1"), BYTES_LITERAL("0123456789"), CODE_BAD_OPTION, "Failed to decode COSE" },
                { BYTES_LITERAL("\x09\x00\xff"), BYTES_LITERAL("0123456789"), CODE_UNAUTHORIZED,
                  "Security context not found" },
                { BYTES_LITERAL("\x09\x00" "12345678"), BYTES_LITERAL("0123456789"), CODE_UNAUTHORIZED,
                  "Security context not found" },
                { BYTES_LITERAL("\x19\x00\x01\x99\xc1"), BYTES_LITERAL("0123456789"), CODE_UNAUTHORIZED,
                  "Security context not found" },
                { BYTES_LITERAL("\x09\x00\xc1"), BYTES_LITERAL("short"), CODE_BAD_REQUEST, "Decryption failed" },
                { BYTES_LITERAL("\x0d\xff\xff\xff\xff\xff\xc1"), BYTES_LITERAL("0123456789"), CODE_BAD_REQUEST,
                  "Decryption failed" },
        };
        struct world world;

        world_open(&world);
        struct device device = device_of(&world, 1);

        meet(&device);
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct coap_message outer = { .code = CODE_POST, .payload = cases[i].payload };

                assert_int_equal(coap_message_add(&outer, OPTION_OSCORE, cases[i].option), 0);
                buf_clear(&device.plain);
                /* number 0 was seen: for what is to fail later another one is needed */
                if (bytes_equal(cases[i].payload, BYTES_LITERAL("short")))
                        outer.options[0].value = BYTES_LITERAL("\x09\x30\xc1");
                expect_no(&device, oscore_take(world.oscore, &outer, world.now, &device.plain, &device.taken),
                          cases[i].code, cases[i].text);
        }
        assert_int_equal(ask(&device, BYTES_NONE), OSCORE_REQUEST); /* the forged number has not moved the window */
        device_done(&device);
        world_close(&world);
}

static void an_option_twice_is_refused(void **state) {
        struct coap_message outer = { .code = CODE_POST, .payload = BYTES_LITERAL("0123456789") };
        struct world world;

        world_open(&world);
        struct device device = device_of(&world, 1);

        assert_int_equal(coap_message_add(&outer, OPTION_OSCORE, BYTES_LITERAL("\x09\x00\xc1")), 0);
        assert_int_equal(coap_message_add(&outer, OPTION_OSCORE, BYTES_LITERAL("\x09\x00\xc1")), 0);
        expect_no(&device, oscore_take(world.oscore, &outer, world.now, &device.plain, &device.taken), CODE_BAD_OPTION,
                  "Failed to decode COSE");
        device_done(&device);
        world_close(&world);
}

static void contexts_with_one_kid_are_told_apart(void **state) {
        struct world world;

        world_open(&world);
        (void)enrol(&world, "the secret of c2", BYTES_LITERAL("\xc1"), BYTES_LITERAL("plant 2"));
        (void)enrol(&world, "the secret of c3", BYTES_LITERAL("\xc1"), BYTES_LITERAL(""));
        struct device devices[] = { device_of(&world, 1), device_of(&world, 2), device_of(&world, 3) };

        for (size_t i = 0; i < N_ELEMENTS(devices); i++) {
                meet(&devices[i]);
                assert_int_equal(devices[i].taken.binding.credential_id, i + 1);
        }
        for (size_t i = 0; i < N_ELEMENTS(devices); i++) { /* without kid context all are tried */
                devices[i].id_context = BYTES_NONE;
                devices[i].piv = 1000;
                assert_int_equal(ask(&devices[i], BYTES_NONE), OSCORE_REQUEST);
                assert_int_equal(devices[i].taken.binding.credential_id, i + 1);
                if (i < 2) /* under the others, which have not seen the number, it does not decrypt */
                        expect_no(&devices[i], arrive(&devices[i]), CODE_BAD_REQUEST, "Decryption failed");
                else
                        expect_no(&devices[i], arrive(&devices[i]), CODE_UNAUTHORIZED, "Replay detected");
        }
        for (size_t i = 0; i < N_ELEMENTS(devices); i++)
                device_done(&devices[i]);
        world_close(&world);
}

static void what_is_removed_is_forgotten(void **state) {
        struct world world;

        world_open(&world);
        struct device device = device_of(&world, 1);

        meet(&device);
        world.registered[0].is_gone = true;
        world.generation++;
        expect_no(&device, ask(&device, BYTES_NONE), CODE_UNAUTHORIZED, "Security context not found");
        struct oscore_figures figures;
        oscore_figures(world.oscore, &figures);
        assert_int_equal(figures.n_contexts, 0);
        world.registered[0].is_gone = false;
        world.generation++;
        assert_int_equal(ask(&device, BYTES_NONE), OSCORE_ECHO);
        device_done(&device);
        world_close(&world);
}

/* One more with a kid that is in memory already is found, and those that are known keep their windows. */
static void what_is_added_is_found(void **state) {
        struct world world;

        world_open(&world);
        struct device device = device_of(&world, 1);

        meet(&device);
        (void)enrol(&world, "the secret of c2", BYTES_LITERAL("\xc1"), BYTES_LITERAL("plant 2"));
        struct device other = device_of(&world, 2);

        meet(&other);
        assert_int_equal(ask(&device, BYTES_NONE), OSCORE_REQUEST);
        unsigned n_loads = world.n_loads;
        assert_int_equal(ask(&device, BYTES_NONE), OSCORE_REQUEST);
        assert_int_equal(world.n_loads, n_loads); /* from memory */
        device_done(&device);
        device_done(&other);
        world_close(&world);
}

static void memory_is_bounded(void **state) {
        static uint8_t kids[CREDENTIALS_MAX][2];
        struct coap_message outer = { .code = CODE_POST, .payload = BYTES_LITERAL("0123456789") };
        struct oscore_figures figures;
        struct world world;

        world_open(&world);
        start(&world, 8);
        for (uint8_t i = 0; i < 40; i++) {
                kids[i][0] = 0xd0;
                kids[i][1] = i;
                struct device device = device_of(&world, enrol(&world, "a secret", bytes_of(kids[i], 2), BYTES_NONE));

                meet(&device);
                oscore_figures(world.oscore, &figures);
                assert_true(figures.n_contexts <= 8);
                device_done(&device);
        }
        struct device stranger = device_of(&world, 1);

        for (unsigned i = 0; i < 1000; i++) { /* kids that nobody has */
                const uint8_t option[] = { 0x09, 0, 0xee, (uint8_t)(i >> 8), (uint8_t)i };

                outer.n_options = 0;
                assert_int_equal(coap_message_add(&outer, OPTION_OSCORE, bytes_of(option, sizeof(option))), 0);
                expect_no(&stranger, oscore_take(world.oscore, &outer, world.now, &stranger.plain, &stranger.taken),
                          CODE_UNAUTHORIZED, "Security context not found");
        }
        oscore_figures(world.oscore, &figures);
        assert_int_equal(figures.n_contexts, 8);
        assert_int_equal(figures.n_unknown, 1000);
        oscore_set_limit(world.oscore, 3);
        oscore_figures(world.oscore, &figures);
        assert_int_equal(figures.n_contexts, 3);
        device_done(&stranger);
        world_close(&world);
}

static void a_broken_store_says_nothing(void **state) {
        struct world world;

        world_open(&world);
        struct device device = device_of(&world, 1);

        world.load_fails = -EIO;
        assert_int_equal(ask(&device, BYTES_NONE), OSCORE_DROP);
        world.load_fails = 0;
        meet(&device);
        device_done(&device);
        world_close(&world);
}

/* ---- our own numbers: OSC-025, OSC-026, OSC-031 */

/* The first response is under the request's nonce; whatever else is said, or wanted so, has a number that is new. */
static void no_number_comes_twice(void **state) {
        const struct coap_message answer = { .code = CODE_CONTENT, .payload = BYTES_LITERAL("x") };
        struct world world;
        struct coap_message inner;
        int64_t piv, last = -1;

        world_open(&world);
        struct device device = device_of(&world, 1);

        for (unsigned run = 0; run < 20; run++) {
                meet(&device);
                for (unsigned i = 0; i < 200; i++) {
                        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);

                        if (i % 10 == 0)
                                assert_int_equal(ask(&device, BYTES_NONE), OSCORE_REQUEST);
                        assert_int_equal(hear(&device, &answer, i % 10 == 5, &piv, &plain, &inner), CODE_CONTENT);
                        if (i % 10 == 0) {
                                assert_int_equal(piv, -1);
                        } else {
                                assert_true(piv > last);
                                last = piv;
                        }
                }
                start(&world, 100); /* as after a crash: what was leased is not given back */
        }
        device_done(&device);
        world_close(&world);
}

static void no_number_is_left(void **state) {
        const struct coap_message answer = { .code = CODE_CONTENT };
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);
        struct coap_message inner;
        struct world world;
        int64_t piv;

        world_open(&world);
        world.next_number = OSCORE_PIV_MAX - 1;
        struct device device = device_of(&world, 1);

        meet(&device); /* takes one */
        assert_int_equal(hear(&device, &answer, true, &piv, &plain, &inner), CODE_CONTENT);
        assert_int_equal(piv, OSCORE_PIV_MAX);
        assert_int_equal(oscore_protect(world.oscore, &device.taken.binding, true, &answer, &outer), -EDQUOT);
        buf_clear(&plain);
        assert_int_equal(hear(&device, &answer, false, &piv, &plain, &inner), CODE_CONTENT);
        assert_int_equal(piv, -1); /* under the request's nonce it can still be answered */
        start(&world, 100);
        assert_int_equal(oscore_protect(world.oscore, &device.taken.binding, true, &answer, &outer), -ENOENT);
        assert_int_equal(ask(&device, BYTES_NONE), OSCORE_ECHO);
        assert_int_equal(oscore_protect(world.oscore, &device.taken.binding, false, &device.taken.inner, &outer),
                         -EDQUOT);
        buf_done(&outer.payload);
        device_done(&device);
        world_close(&world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(no_request_is_taken_twice),
                cmocka_unit_test(a_restart_asks_for_an_echo),
                cmocka_unit_test(an_echo_is_good_once_for_one),
                cmocka_unit_test(an_evicted_context_asks_again),
                cmocka_unit_test(what_cannot_be_read_is_refused),
                cmocka_unit_test(an_option_twice_is_refused),
                cmocka_unit_test(contexts_with_one_kid_are_told_apart),
                cmocka_unit_test(what_is_removed_is_forgotten),
                cmocka_unit_test(what_is_added_is_found),
                cmocka_unit_test(memory_is_bounded),
                cmocka_unit_test(a_broken_store_says_nothing),
                cmocka_unit_test(no_number_comes_twice),
                cmocka_unit_test(no_number_is_left),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
