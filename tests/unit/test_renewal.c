/* Appendix B.2 of RFC 8613, both sides: format/oscore.c's and transport/oscore.c's (OSC-049). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "support/contexts.h"
#include "support/fake.h"

/* ---- a device that has lost all but what it was provisioned with */

struct renewer {
        struct device device;
        struct oscore_input input;
        struct oscore_renewing renewing;
        uint8_t kid_context[OSCORE_KID_CONTEXT_SIZE_MAX];
        uint8_t r; /* of the next R1 or R3 */
        uint8_t r2[OSCORE_R2_SIZE]; /* the last one heard */
};

static struct renewer renewer_of(struct realm *realm, int64_t id) {
        struct renewer renewer = { .device = { .realm = realm, .sent = BUF_INIT(MESSAGE_MAX),
                                               .plain = BUF_INIT(MESSAGE_MAX) },
                                   .input = device_input(realm, id), .r = (uint8_t)(16 * id) };

        realm_registered(realm, id)->renews = true;
        realm->generation++;
        return renewer;
}

static void renewer_done(struct renewer *renewer) {
        device_done(&renewer->device);
}

static void next_r(struct renewer *renewer, uint8_t ret[static OSCORE_RENEWING_R_SIZE]) {
        memset(ret, ++renewer->r, OSCORE_RENEWING_R_SIZE);
}

static void tell_kid_context(struct renewer *renewer) {
        size_t size = oscore_renewing_kid_context(&renewer->renewing, renewer->kid_context);

        assert_true(size > 1);
        renewer->device.kid_context = bytes_of(renewer->kid_context, size);
        renewer->device.piv = 0;
}

static enum oscore_verdict send_request_1(struct renewer *renewer) {
        uint8_t r1[OSCORE_RENEWING_R_SIZE];

        next_r(renewer, r1);
        assert_int_equal(oscore_renewing_begin(&renewer->renewing, &renewer->input, r1, &renewer->device.keys), 0);
        tell_kid_context(renewer);
        return device_ask(&renewer->device, BYTES_NONE);
}

/* The server's response 1; all of it that can be seen from outside. */
static void protect_response_1(struct renewer *renewer, struct oscore_outer *ret, struct oscore_option *ret_option) {
        struct device *device = &renewer->device;

        assert_int_equal(device->taken.inner.code, CODE_UNAUTHORIZED);
        assert_int_equal(device->taken.inner.n_options, 0);
        assert_int_equal(oscore_protect(device->realm->oscore, &device->taken.binding, false, &device->taken.inner,
                                        ret), 0);
        assert_int_equal(ret->message.code, CODE_CHANGED);
        assert_int_equal(ret->message.n_options, 1);
        assert_int_equal(oscore_option_decode(ret->message.options[0].value, ret_option), 0);
        assert_int_equal(ret_option->piv.size, 1); /* so that nobody has to ask which nonce of request 1 is meant */
        assert_int_equal(ret_option->piv.data[0], 0);
        assert_null(ret_option->kid.data);
        assert_int_equal(ret_option->kid_context.size, 1 + OSCORE_R2_SIZE);
        assert_int_equal(ret_option->kid_context.data[0], 0x40 | OSCORE_R2_SIZE); /* a CBOR byte string */
}

/* … is heard: from then on the device has the keys of R2 || R3. */
static void hear_response_1(struct renewer *renewer) {
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        struct oscore_option option;
        uint8_t r3[OSCORE_RENEWING_R_SIZE];

        protect_response_1(renewer, &outer, &option);
        memcpy(renewer->r2, option.kid_context.data + 1, OSCORE_R2_SIZE);
        next_r(renewer, r3);
        assert_int_equal(oscore_renewing_heard(&renewer->renewing, &renewer->input, &renewer->device.request,
                                               &outer.message, r3, &renewer->device.keys), 0);
        assert_int_equal(renewer->renewing.id_context_size, OSCORE_R2_SIZE + OSCORE_RENEWING_R_SIZE);
        assert_memory_equal(renewer->renewing.id_context, renewer->r2, OSCORE_R2_SIZE);
        assert_memory_equal(renewer->renewing.id_context + OSCORE_R2_SIZE, r3, sizeof(r3));
        tell_kid_context(renewer);
        buf_done(&outer.payload);
}

static void begin(struct renewer *renewer) {
        assert_int_equal(send_request_1(renewer), OSCORE_ECHO);
        hear_response_1(renewer);
}

static void renew_all(struct renewer *renewer) {
        begin(renewer);
        assert_int_equal(device_ask(&renewer->device, BYTES_NONE), OSCORE_REQUEST);
}

static void expect_answers(struct device *device) {
        const struct coap_message answer = { .code = CODE_CONTENT, .payload = BYTES_LITERAL("x") };
        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);
        struct coap_message inner;
        int64_t piv;

        assert_int_equal(device_hear(device, &answer, false, &piv, &plain, &inner), CODE_CONTENT);
        assert_int_equal(piv, -1);
}

static void expect_unknown(struct device *device, enum oscore_verdict verdict) {
        expect_no(device, verdict, CODE_UNAUTHORIZED, "Security context not found");
}

static void expect_too_often(struct device *device, enum oscore_verdict verdict) {
        uint32_t seconds;

        assert_int_equal(verdict, OSCORE_ANSWER);
        assert_int_equal(device->taken.inner.code, CODE_UNAVAILABLE);
        assert_true(coap_option_uint(coap_message_option(&device->taken.inner, OPTION_MAX_AGE, 0), &seconds));
        assert_int_equal(seconds, 1);
}

/* ---- a renewal */

static void who_lost_all_gets_a_new_context(void **state) {
        struct realm realm;
        struct oscore_figures figures;

        realm_open(&realm);
        struct renewer renewer = renewer_of(&realm, 1);
        struct device *device = &renewer.device;

        begin(&renewer);
        assert_null(realm_registered(&realm, 1)->input.id_context.data); /* request 1 has changed nothing */
        assert_int_equal(device_ask(device, BYTES_NONE), OSCORE_REQUEST);
        assert_int_equal(device->taken.inner.code, CODE_GET);
        assert_int_equal(device->taken.client_id, 101);
        expect_answers(device);
        assert_true(bytes_equal(realm_registered(&realm, 1)->input.id_context,
                                bytes_of(renewer.renewing.id_context, renewer.renewing.id_context_size)));
        assert_int_equal(device_ask(device, BYTES_NONE), OSCORE_REQUEST); /* kid context in a CBOR byte string … */
        device->kid_context = bytes_of(renewer.renewing.id_context, renewer.renewing.id_context_size);
        assert_int_equal(device_ask(device, BYTES_NONE), OSCORE_REQUEST); /* … as it is … */
        device->kid_context = BYTES_NONE;
        assert_int_equal(device_ask(device, BYTES_NONE), OSCORE_REQUEST); /* … or not told */
        expect_answers(device);
        oscore_figures(realm.oscore, &figures);
        assert_int_equal(figures.n_renewals, 1);
        assert_int_equal(figures.n_requests, 4);
        assert_int_equal(figures.n_contexts, 1);
        renewer_done(&renewer);
        realm_close(&realm);
}

/* Whatever the server has in force: what was registered, with an ID Context, or one of a former renewal. */
static void it_does_not_matter_what_was_before(void **state) {
        struct realm realm;

        realm_open(&realm);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc2"), BYTES_LITERAL("plant 2"));
        struct renewer renewer = renewer_of(&realm, 2);
        struct device before = device_of(&realm, 2);

        device_meet(&before);
        for (unsigned i = 0; i < 5; i++) {
                uint8_t r2[OSCORE_R2_SIZE];

                memcpy(r2, renewer.r2, sizeof(r2));
                renew_all(&renewer);
                assert_memory_not_equal(r2, renewer.r2, sizeof(r2));
                expect_answers(&renewer.device);
                if (i == 2)
                        realm_start(&realm, 100);
        }
        renewer_done(&renewer);
        device_done(&before);
        realm_close(&realm);
}

static void the_former_context_is_over(void **state) {
        const struct coap_message answer = { .code = CODE_CONTENT };
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        struct realm realm;

        realm_open(&realm);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc2"), BYTES_LITERAL("plant 2"));
        struct device before = device_of(&realm, 2), other = device_of(&realm, 1);
        struct renewer renewer = renewer_of(&realm, 2);

        device_meet(&other);
        device_meet(&before);
        struct oscore_binding observation = before.taken.binding;

        renew_all(&renewer);
        expect_unknown(&before, device_ask(&before, BYTES_NONE));
        before.kid_context = BYTES_NONE;
        expect_no(&before, device_ask(&before, BYTES_NONE), CODE_BAD_REQUEST, "Decryption failed");
        assert_int_equal(oscore_protect(realm.oscore, &observation, true, &answer, &outer), -ENOENT);
        assert_int_equal(oscore_protect(realm.oscore, &before.taken.binding, true, &answer, &outer), -ENOENT);
        assert_int_equal(device_ask(&other, BYTES_NONE), OSCORE_REQUEST);

        struct device renewed = device_of(&realm, 2);
        uint8_t former[OSCORE_KID_CONTEXT_SIZE_MAX];

        memcpy(former, renewer.kid_context, renewer.device.kid_context.size);
        renewed.kid_context = bytes_of(former, renewer.device.kid_context.size);
        renewed.piv = 100;
        assert_int_equal(device_ask(&renewed, BYTES_NONE), OSCORE_REQUEST);
        renew_all(&renewer);
        assert_int_equal(device_ask(&renewed, BYTES_NONE), OSCORE_ECHO); /* as an R1: 4.01, not acted upon */
        assert_int_not_equal(renewed.taken.binding.renewal, 0);
        buf_done(&outer.payload);
        device_done(&before);
        device_done(&other);
        device_done(&renewed);
        renewer_done(&renewer);
        realm_close(&realm);
}

/* An observation, or an answer that takes its time, under a context that had to make room meanwhile. */
static void a_context_that_was_loaded_again_is_the_same(void **state) {
        const struct coap_message answer = { .code = CODE_CONTENT };
        struct realm realm;

        realm_open(&realm);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc2"), BYTES_NONE);
        realm_start(&realm, 1);
        struct renewer renewer = renewer_of(&realm, 1);
        struct device other = device_of(&realm, 2);
        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);
        struct coap_message inner;
        int64_t piv;

        renew_all(&renewer);
        device_meet(&other);
        assert_int_equal(device_hear(&renewer.device, &answer, true, &piv, &plain, &inner), CODE_CONTENT);
        assert_true(piv >= 0);
        device_done(&other);
        renewer_done(&renewer);
        realm_close(&realm);
}

/* ---- twice */

static void request_2_is_taken_once(void **state) {
        _cleanup_(buf_done) struct buf captured = BUF_INIT(MESSAGE_MAX);
        struct realm realm;

        realm_open(&realm);
        struct renewer renewer = renewer_of(&realm, 1);
        struct device *device = &renewer.device;

        renew_all(&renewer);
        assert_int_equal(buf_add(&captured, buf_bytes(&device->sent)), 0);
        expect_no(device, device_arrives(device), CODE_UNAUTHORIZED, "Replay detected");
        assert_int_equal(device_ask(device, BYTES_NONE), OSCORE_REQUEST);
        /* after a restart: the context is known, but not what was seen under it */
        realm_start(&realm, 100);
        buf_clear(&device->sent);
        assert_int_equal(buf_add(&device->sent, buf_bytes(&captured)), 0);
        assert_int_equal(device_arrives(device), OSCORE_ECHO);
        assert_int_equal(device->taken.binding.renewal, 0);
        assert_int_equal(device->taken.inner.n_options, 1);
        /* after the next renewal: its R2 is none of ours any more, and it is not acted upon */
        renew_all(&renewer);
        buf_clear(&device->sent);
        assert_int_equal(buf_add(&device->sent, buf_bytes(&captured)), 0);
        assert_int_equal(device_arrives(device), OSCORE_ECHO);
        assert_int_not_equal(device->taken.binding.renewal, 0);
        renewer_done(&renewer);
        realm_close(&realm);
}

/* Several runs at once: one comes to its end, and the R2s of the others are of no use any more. */
static void one_run_ends_the_others(void **state) {
        struct realm realm;

        realm_open(&realm);
        struct renewer one = renewer_of(&realm, 1), other = renewer_of(&realm, 1);
        struct oscore_figures figures;

        other.r = 0x80;
        begin(&one);
        begin(&other);
        assert_int_equal(device_ask(&one.device, BYTES_NONE), OSCORE_REQUEST);
        assert_int_equal(device_ask(&other.device, BYTES_NONE), OSCORE_ECHO);
        assert_int_not_equal(other.device.taken.binding.renewal, 0);
        oscore_figures(realm.oscore, &figures);
        assert_int_equal(figures.n_renewals, 1);
        expect_answers(&one.device);
        renewer_done(&one);
        renewer_done(&other);
        realm_close(&realm);
}

static void an_r2_is_good_for_a_while_of_one_process_for_one(void **state) {
        struct realm realm;

        realm_open(&realm);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc2"), BYTES_NONE);
        struct renewer renewer = renewer_of(&realm, 1), other = renewer_of(&realm, 2);
        struct device *device = &renewer.device;

        begin(&renewer);
        realm.now.monotonic_us += 2 * OSCORE_ECHO_LIFE_US;
        assert_int_equal(device_ask(device, BYTES_NONE), OSCORE_ECHO);
        assert_int_not_equal(device->taken.binding.renewal, 0);

        begin(&renewer);
        realm.now.monotonic_us += OSCORE_ECHO_LIFE_US;
        assert_int_equal(device_ask(device, BYTES_NONE), OSCORE_REQUEST);

        begin(&renewer);
        realm_start(&realm, 100);
        assert_int_equal(device_ask(device, BYTES_NONE), OSCORE_ECHO);
        assert_int_not_equal(device->taken.binding.renewal, 0);

        /* that of another context, and one with a bit that was turned */
        begin(&renewer);
        begin(&other);
        for (unsigned bit = 0; bit <= 8 * OSCORE_R2_SIZE; bit++) {
                uint8_t id_context[OSCORE_ID_CONTEXT_SIZE_MAX];

                memcpy(id_context, renewer.renewing.id_context, renewer.renewing.id_context_size);
                if (bit < 8 * OSCORE_R2_SIZE)
                        renewer.renewing.id_context[bit / 8] ^= (uint8_t)(1u << bit % 8);
                else
                        memcpy(renewer.renewing.id_context, other.renewing.id_context, OSCORE_R2_SIZE);
                assert_int_equal(oscore_derive_under(&renewer.input, bytes_of(renewer.renewing.id_context,
                                                                              renewer.renewing.id_context_size),
                                                     BYTES_NONE, &device->keys), 0);
                tell_kid_context(&renewer);
                realm.now.monotonic_us += OSCORE_ECHO_LIFE_US / (4 * 8 * OSCORE_R2_SIZE);
                enum oscore_verdict verdict = device_ask(device, BYTES_NONE);

                assert_true(verdict == OSCORE_ECHO || verdict == OSCORE_ANSWER);
                memcpy(renewer.renewing.id_context, id_context, renewer.renewing.id_context_size);
        }
        assert_int_equal(oscore_derive_under(&renewer.input, bytes_of(renewer.renewing.id_context,
                                                                      renewer.renewing.id_context_size),
                                             BYTES_NONE, &device->keys), 0);
        tell_kid_context(&renewer);
        assert_int_equal(device_ask(device, BYTES_NONE), OSCORE_REQUEST);
        renewer_done(&renewer);
        renewer_done(&other);
        realm_close(&realm);
}

/* Its context is for that one answer, under the nonce of the request. */
static void response_1_is_protected_once(void **state) {
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        struct oscore_option option;
        struct realm realm;

        realm_open(&realm);
        struct renewer renewer = renewer_of(&realm, 1), other = renewer_of(&realm, 1);
        struct device *device = &renewer.device;

        other.r = 0x80;
        assert_int_equal(send_request_1(&renewer), OSCORE_ECHO);
        protect_response_1(&renewer, &outer, &option);
        assert_int_equal(oscore_protect(realm.oscore, &device->taken.binding, false, &device->taken.inner, &outer),
                         -ENOENT);
        assert_int_equal(send_request_1(&renewer), OSCORE_ECHO);
        assert_int_equal(send_request_1(&other), OSCORE_ECHO);
        assert_int_equal(oscore_protect(realm.oscore, &device->taken.binding, false, &device->taken.inner, &outer),
                         -ENOENT);
        hear_response_1(&other);
        buf_done(&outer.payload);
        renewer_done(&renewer);
        renewer_done(&other);
        realm_close(&realm);
}

/* ---- too often, and not at all */

/*
 * Who has heard a request 1 sends it again and again, and others that he heard: the device itself renews whenever it
 * has to. Each of these is a trial, and beyond those whoever has an R2 can go on, and all after a while.
 */
static void a_request_1_that_was_heard_keeps_nobody_out(void **state) {
        struct realm realm;
        struct oscore_figures figures;
        struct renewer heard[10];

        realm_open(&realm);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc2"), BYTES_NONE);
        struct renewer renewer = renewer_of(&realm, 1), other = renewer_of(&realm, 2);

        for (unsigned i = 0; i < N_ELEMENTS(heard); i++) {
                heard[i] = renewer;
                heard[i].device.sent = heard[i].device.plain = BUF_INIT(MESSAGE_MAX);
                heard[i].r = (uint8_t)(0x40 + i);
                assert_int_equal(send_request_1(&heard[i]), OSCORE_ECHO);
        }
        for (unsigned i = 0; i < 10000; i++) { /* for 20 seconds, 500 in each */
                realm.now.monotonic_us += SECOND_US / 500;
                assert_int_equal(device_arrives(&heard[i % N_ELEMENTS(heard)].device), OSCORE_ECHO);
                if (i % 1000 == 0)
                        renew_all(&renewer);
        }
        begin(&renewer);
        realm.now.monotonic_us += SECOND_US;
        for (unsigned i = 0; i < OSCORE_TRIALS_MAX; i++)
                assert_int_equal(device_arrives(&heard[0].device), OSCORE_ECHO);
        for (unsigned i = 0; i < 100; i++)
                expect_too_often(&heard[0].device, device_arrives(&heard[0].device));
        expect_too_often(&other.device, send_request_1(&other));
        realm.now.monotonic_us += SECOND_US / 100;
        assert_int_equal(device_ask(&renewer.device, BYTES_NONE), OSCORE_REQUEST);
        renew_all(&other);
        oscore_figures(realm.oscore, &figures);
        assert_int_equal(figures.n_renewals, 12);
        assert_int_equal(figures.n_renewals_refused, 101);
        for (unsigned i = 0; i < N_ELEMENTS(heard); i++)
                renewer_done(&heard[i]);
        renewer_done(&renewer);
        renewer_done(&other);
        realm_close(&realm);
}

/* Who does not have the key makes us derive keys so often in a second, and uses nothing up that is the device's own. */
static void strangers_cost_little(void **state) {
        struct coap_message outer = { .code = CODE_POST, .payload = BYTES_LITERAL("0123456789") };
        struct realm realm;
        unsigned n_loads;

        realm_open(&realm);
        struct renewer renewer = renewer_of(&realm, 1);
        struct device stranger = device_of(&realm, 1);

        assert_int_equal(coap_message_add(&outer, OPTION_OSCORE, BYTES_LITERAL("\x19\x00\x09\x48" "12345678\xc1")), 0);
        n_loads = realm.n_loads;
        for (unsigned i = 0; i < OSCORE_TRIALS_MAX; i++) {
                buf_clear(&stranger.plain);
                expect_unknown(&stranger, oscore_take(realm.oscore, &outer, realm.now, &stranger.plain,
                                                      &stranger.taken));
        }
        assert_int_equal(realm.n_loads, n_loads + 1 + OSCORE_TRIALS_MAX);
        for (unsigned i = 0; i < 100; i++)
                expect_too_often(&stranger, oscore_take(realm.oscore, &outer, realm.now, &stranger.plain,
                                                        &stranger.taken));
        assert_int_equal(realm.n_loads, n_loads + 1 + OSCORE_TRIALS_MAX);
        realm.now.monotonic_us += SECOND_US / 100;
        renew_all(&renewer);
        device_done(&stranger);
        renewer_done(&renewer);
        realm_close(&realm);
}

static void who_may_not_renew_is_unknown(void **state) {
        static const struct {
                struct bytes kid_context;
                bool renews;
        } cases[] = {
                { BYTES_LITERAL("\x48" "12345678"), false },
                { BYTES_LITERAL("\x47" "1234567"), true },                        /* too short */
                { BYTES_LITERAL("\x49" "12345678"), true },                       /* not all of it */
                { BYTES_LITERAL("\x48" "123456789"), true },                      /* and more */
                { BYTES_LITERAL("\x68" "12345678"), true },                       /* text */
                { BYTES_LITERAL("\x5f\x48" "12345678\xff"), true },               /* of unknown length */
                { BYTES_LITERAL(""), true },
                { BYTES_LITERAL("12345678"), true },
                { BYTES_LITERAL("\x58\x31" "1234567890123456789012345678901234567890123456789"), true }, /* too long */
        };
        struct realm realm;

        realm_open(&realm);
        struct renewer renewer = renewer_of(&realm, 1);

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct coap_message outer = { .code = CODE_POST, .payload = BYTES_LITERAL("0123456789") };
                uint8_t value[OSCORE_OPTION_SIZE_MAX];
                const struct oscore_option option = { BYTES_LITERAL("\x00"), cases[i].kid_context,
                                                      BYTES_LITERAL("\xc1") };
                unsigned n_loads;

                realm_registered(&realm, 1)->renews = cases[i].renews;
                realm.generation++;
                assert_int_equal(coap_message_add(&outer, OPTION_OSCORE,
                                                  bytes_of(value, oscore_option_encode(&option, value))), 0);
                n_loads = realm.n_loads;
                expect_unknown(&renewer.device, oscore_take(realm.oscore, &outer, realm.now, &renewer.device.plain,
                                                            &renewer.device.taken));
                assert_int_equal(realm.n_loads, n_loads + 1); /* as the credentials have changed; no key was derived */
        }
        renewer_done(&renewer);
        realm_close(&realm);
}

/* Of several contexts with one kid only those that may are tried, and each is told from the others by its key. */
static void contexts_with_one_kid_renew_apart(void **state) {
        struct realm realm;

        realm_open(&realm);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc1"), BYTES_LITERAL("plant 2"));
        (void)realm_enrol(&realm, "the secret of c3", BYTES_LITERAL("\xc1"), BYTES_LITERAL("plant 3"));
        struct renewer two = renewer_of(&realm, 2), three = renewer_of(&realm, 3), one = renewer_of(&realm, 1);
        struct device device = device_of(&realm, 1);

        realm_registered(&realm, 1)->renews = false;
        realm.generation++;
        device_meet(&device);
        renew_all(&three);
        assert_int_equal(three.device.taken.binding.credential_id, 3);
        renew_all(&two);
        assert_int_equal(two.device.taken.binding.credential_id, 2);
        expect_unknown(&one.device, send_request_1(&one));
        assert_int_equal(device_ask(&three.device, BYTES_NONE), OSCORE_REQUEST);
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_REQUEST);
        device_done(&device);
        renewer_done(&one);
        renewer_done(&two);
        renewer_done(&three);
        realm_close(&realm);
}

/* R2 || R3, whosever R2 it is: a request under the key that this makes. */
static enum oscore_verdict send_request_2(struct renewer *renewer, const uint8_t r2[static OSCORE_R2_SIZE],
                                          size_t r3_size) {
        struct oscore_renewing *renewing = &renewer->renewing;

        memcpy(renewing->id_context, r2, OSCORE_R2_SIZE);
        memset(renewing->id_context + OSCORE_R2_SIZE, 0x33, r3_size);
        renewing->id_context_size = OSCORE_R2_SIZE + r3_size;
        oscore_keys_done(&renewer->device.keys);
        assert_int_equal(oscore_derive_under(&renewer->input, bytes_of(renewing->id_context, renewing->id_context_size),
                                             BYTES_NONE, &renewer->device.keys), 0);
        tell_kid_context(renewer);
        return device_ask(&renewer->device, BYTES_NONE);
}

/* R2 goes over the network in clear: it is no proof for another context, be it one of the same kid. */
static void an_r2_is_of_no_use_to_a_namesake(void **state) {
        struct realm realm;

        realm_open(&realm);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc1"), BYTES_LITERAL("plant 2"));
        struct renewer one = renewer_of(&realm, 1), two = renewer_of(&realm, 2);

        begin(&one);
        expect_unknown(&two.device, send_request_2(&two, one.r2, OSCORE_RENEWING_R_SIZE));
        assert_int_equal(realm_registered(&realm, 2)->input.id_context.size, strlen("plant 2"));
        assert_int_equal(device_ask(&one.device, BYTES_NONE), OSCORE_REQUEST);
        renewer_done(&one);
        renewer_done(&two);
        realm_close(&realm);
}

/* Without enough of the device's own randomness it is no request 2, but the beginning of a renewal. */
static void an_r3_has_eight_bytes(void **state) {
        struct realm realm;

        realm_open(&realm);
        struct renewer renewer = renewer_of(&realm, 1);

        begin(&renewer);
        for (size_t r3_size = 0; r3_size < OSCORE_R_SIZE_MIN; r3_size++) {
                enum oscore_verdict verdict = send_request_2(&renewer, renewer.r2, r3_size);

                assert_true(verdict == OSCORE_ECHO || verdict == OSCORE_ANSWER);
                assert_null(realm_registered(&realm, 1)->input.id_context.data);
        }
        assert_int_equal(send_request_2(&renewer, renewer.r2, OSCORE_R_SIZE_MIN), OSCORE_REQUEST);
        renewer_done(&renewer);
        realm_close(&realm);
}

/* In a session of somebody else neither request 1 nor request 2 is heard. */
static void nobody_renews_in_a_session_of_another(void **state) {
        struct realm realm;

        realm_open(&realm);
        struct renewer renewer = renewer_of(&realm, 1);
        struct device *device = &renewer.device;

        for (unsigned request = 1; request <= 2; request++) {
                struct coap_message outer;
                bool header_ok;

                if (request == 1)
                        assert_int_equal(send_request_1(&renewer), OSCORE_ECHO);
                else
                        device_write(device, &(struct coap_message){ .code = CODE_GET, .mid = 1 });
                assert_int_equal(coap_message_decode(buf_bytes(&device->sent), &outer, &header_ok), 0);
                buf_clear(&device->plain);
                expect_unknown(device, oscore_take_within(realm.oscore, 999, 0, &outer, realm.now, &device->plain,
                                                          &device->taken));
                if (request == 1) {
                        assert_int_equal(device_arrives(device), OSCORE_ECHO);
                        hear_response_1(&renewer);
                }
        }
        assert_int_equal(device_arrives(device), OSCORE_REQUEST);
        renewer_done(&renewer);
        realm_close(&realm);
}

static void what_the_store_refuses_is_not_renewed(void **state) {
        struct realm realm;

        realm_open(&realm);
        struct device before = device_of(&realm, 1);
        struct renewer renewer = renewer_of(&realm, 1);

        device_meet(&before);
        begin(&renewer);
        realm.renew_fails = -EIO;
        assert_int_equal(device_ask(&renewer.device, BYTES_NONE), OSCORE_DROP);
        realm.renew_fails = REFUSE_ADMIN_EXISTS;
        expect_unknown(&renewer.device, device_ask(&renewer.device, BYTES_NONE));
        assert_int_equal(device_ask(&before, BYTES_NONE), OSCORE_REQUEST);
        realm.renew_fails = 0;
        assert_int_equal(device_ask(&renewer.device, BYTES_NONE), OSCORE_REQUEST);
        expect_no(&before, device_ask(&before, BYTES_NONE), CODE_BAD_REQUEST, "Decryption failed");

        begin(&renewer);
        realm_registered(&realm, 1)->is_gone = true;
        realm.generation++;
        expect_unknown(&renewer.device, device_ask(&renewer.device, BYTES_NONE));
        device_done(&before);
        renewer_done(&renewer);
        realm_close(&realm);
}

static void what_is_no_request_inside_renews_nothing(void **state) {
        const struct coap_message response = { .code = CODE_CONTENT };
        struct realm realm;

        realm_open(&realm);
        struct renewer renewer = renewer_of(&realm, 1);

        begin(&renewer);
        expect_no(&renewer.device, device_send(&renewer.device, &response), CODE_BAD_REQUEST, "Decryption failed");
        assert_null(realm_registered(&realm, 1)->input.id_context.data);
        assert_int_equal(device_ask(&renewer.device, BYTES_NONE), OSCORE_REQUEST);
        renewer_done(&renewer);
        realm_close(&realm);
}

static void without_randomness_nothing_is_begun(void **state) {
        struct realm realm;

        realm_open(&realm);
        struct renewer renewer = renewer_of(&realm, 1);

        fake_random_fail_at(1);
        assert_int_equal(send_request_1(&renewer), OSCORE_DROP);
        fake_random_fail_at(0);
        renew_all(&renewer);
        renewer_done(&renewer);
        realm_close(&realm);
}

/* ---- the client's side */

static void a_client_hears_only_response_1(void **state) {
        const struct coap_message other = { .code = CODE_CONTENT };
        const uint8_t r3[OSCORE_RENEWING_R_SIZE] = "12345678";
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        uint8_t value[OSCORE_OPTION_SIZE_MAX], payload[MESSAGE_MAX];
        struct oscore_option option;
        struct oscore_keys keys = {};
        struct realm realm;

        realm_open(&realm);
        struct renewer renewer = renewer_of(&realm, 1);
        struct oscore_request *request = &renewer.device.request;
        struct oscore_renewing before;

        assert_int_equal(send_request_1(&renewer), OSCORE_ECHO);
        before = renewer.renewing;
        protect_response_1(&renewer, &outer, &option);
        struct coap_message *message = &outer.message;
        const struct bytes option_value = message->options[0].value, cipher = message->payload;

        for (size_t bit = 0; bit < 8 * (option_value.size + cipher.size); bit++) { /* each bit of it turned */
                size_t at = bit / 8;

                if (bit == 3) /* "there is a kid", of no bytes here: in a response nobody minds */
                        continue;
                memcpy(value, option_value.data, option_value.size);
                memcpy(payload, cipher.data, cipher.size);
                *(at < option_value.size ? &value[at] : &payload[at - option_value.size]) ^= (uint8_t)(1u << bit % 8);
                message->options[0].value = bytes_of(value, option_value.size);
                message->payload = bytes_of(payload, cipher.size);
                assert_int_equal(oscore_renewing_heard(&renewer.renewing, &renewer.input, request, message, r3, &keys),
                                 -EBADMSG);
                assert_memory_equal(&renewer.renewing, &before, sizeof(before));
        }
        message->options[0].value = BYTES_LITERAL("");
        message->payload = cipher;
        assert_int_equal(oscore_renewing_heard(&renewer.renewing, &renewer.input, request, message, r3, &keys),
                         -EBADMSG); /* no kid context */
        message->n_options = 0;
        assert_int_equal(oscore_renewing_heard(&renewer.renewing, &renewer.input, request, message, r3, &keys),
                         -EBADMSG); /* in clear: may be anybody's */

        /* from the server, but no 4.01 */
        assert_int_equal(send_request_1(&renewer), OSCORE_ECHO);
        assert_int_equal(oscore_protect(realm.oscore, &renewer.device.taken.binding, false, &other, &outer), 0);
        assert_int_equal(oscore_renewing_heard(&renewer.renewing, &renewer.input, request, message, r3, &keys),
                         REFUSE_MALFORMED);
        assert_int_equal(keys.recipient_key.size, 0);
        buf_done(&outer.payload);
        renewer_done(&renewer);
        realm_close(&realm);
}

/* A server that has the key, but not the eight bytes that make its part of it fresh. */
static void a_client_wants_an_r2_of_eight_bytes(void **state) {
        const struct coap_message unauthorized = { .code = CODE_UNAUTHORIZED };
        const uint8_t r2[] = "12345678", r3[OSCORE_RENEWING_R_SIZE] = "abcdefgh";
        struct realm realm;

        realm_open(&realm);
        for (size_t size = 0; size <= OSCORE_R_SIZE_MIN; size++) {
                struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
                struct renewer renewer = renewer_of(&realm, 1);
                _cleanup_(oscore_keys_done) struct oscore_keys server = {}, keys = {};
                uint8_t wrapped[OSCORE_KID_CONTEXT_SIZE_MAX];
                size_t wrapped_size = oscore_kid_context_wrap(bytes_of(r2, size), wrapped);

                (void)send_request_1(&renewer); /* whatever this server says to it */
                assert_int_equal(oscore_derive_under(&realm_registered(&realm, 1)->input, bytes_of(r2, size),
                                                     bytes_of(renewer.renewing.id_context,
                                                              renewer.renewing.id_context_size), &server), 0);
                assert_int_equal(oscore_protect_renewing(&server, &renewer.device.request,
                                                         bytes_of(wrapped, wrapped_size), &unauthorized, &outer), 0);
                assert_int_equal(oscore_renewing_heard(&renewer.renewing, &renewer.input, &renewer.device.request,
                                                       &outer.message, r3, &keys),
                                 size < OSCORE_R_SIZE_MIN ? -EBADMSG : 0);
                buf_done(&outer.payload);
                renewer_done(&renewer);
        }
        realm_close(&realm);
}

/* As libcoap 4.3.4 answers: without a Partial IV, under the nonce of request 1 as it was (RFC 8613 §8.3, §8.4). */
static void a_client_hears_libcoap(void **state) {
        const struct oscore_input input = { AEAD_AES_CCM_16_64_128, OSCORE_HKDF_SHA256,
                                            BYTES_LITERAL("\xf0\x51\xf1\xfc\x97\x04\xff\x93"
                                                          "\x42\x43\x82\xa1\xf3\xb2\xb7\x23"),
                                            BYTES_LITERAL("\xfd\xb6\xbd\xda\x7e\x8c\x04\xc8"), BYTES_NONE,
                                            BYTES_LITERAL("\xb8"), BYTES_LITERAL("\x01") };
        const struct bytes id_context = BYTES_LITERAL("\x42\xab\xe2\x5d\x20\x60\x01\xb2" "abcdefgh");
        const struct oscore_request request = { .kid = { .size = 1, .data = { 0xb8 } }, .piv_size = 1 };
        const struct coap_message outer = {
                .code = CODE_CHANGED, .n_options = 1,
                .options = { { OPTION_OSCORE, BYTES_LITERAL("\x10\x09\x48\x42\xab\xe2\x5d\x20\x60\x01\xb2") } },
                .payload = BYTES_LITERAL("\xf2\x91\xe1\x57\xf6\x19\xd9\x07\x22"),
        };
        const uint8_t r3[] = "abcdefgh";
        struct oscore_renewing renewing = { OSCORE_RENEWING_R_SIZE, "\xec\x92\x53\x7d\x4e\xe9\x04\x5d" };
        _cleanup_(oscore_keys_done) struct oscore_keys keys = {}, third = {};

        assert_int_equal(oscore_renewing_heard(&renewing, &input, &request, &outer, r3, &keys), 0);
        assert_true(bytes_equal(bytes_of(renewing.id_context, renewing.id_context_size), id_context));
        assert_int_equal(oscore_derive_under(&input, id_context, BYTES_NONE, &third), 0);
        assert_memory_equal(keys.common_iv, third.common_iv, sizeof(third.common_iv));
        assert_true(bytes_equal(secret_bytes(&keys.sender_key), secret_bytes(&third.sender_key)));
}

/* What was to be said under keys of a credential that is gone by then is not said. */
static void response_1_goes_with_its_credential(void **state) {
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        struct realm realm;

        realm_open(&realm);
        struct renewer renewer = renewer_of(&realm, 1);
        struct device *device = &renewer.device;

        assert_int_equal(send_request_1(&renewer), OSCORE_ECHO);
        oscore_forget(realm.oscore, 1, BYTES_LITERAL("\xc1"));
        assert_int_equal(oscore_protect(realm.oscore, &device->taken.binding, false, &device->taken.inner, &outer),
                         -ENOENT);
        buf_done(&outer.payload);
        device_done(device);
        realm_close(&realm);
}

static void a_kid_context_is_wrapped_in_cbor(void **state) {
        uint8_t id_context[OSCORE_ID_CONTEXT_SIZE_MAX + 1] = {}, wrapped[OSCORE_KID_CONTEXT_SIZE_MAX];
        struct bytes again;

        for (size_t size = 0; size <= OSCORE_ID_CONTEXT_SIZE_MAX; size++) {
                size_t wrapped_size = oscore_kid_context_wrap(bytes_of(id_context, size), wrapped);

                assert_int_equal(wrapped_size, size + (size < 24 ? 1 : 2));
                assert_true(oscore_kid_context_unwrap(bytes_of(wrapped, wrapped_size), &again));
                assert_true(bytes_equal(again, bytes_of(id_context, size)));
                id_context[size] = (uint8_t)size;
        }
        assert_int_equal(oscore_kid_context_wrap(bytes_of(id_context, sizeof(id_context)), wrapped), 0);
        assert_false(oscore_kid_context_unwrap(BYTES_NONE, &again));
        assert_false(oscore_kid_context_unwrap(BYTES_LITERAL("\x40\x40"), &again));
        assert_false(oscore_kid_context_unwrap(BYTES_LITERAL("\x58\x41" "1234567890123456789012345678901234567890"
                                                             "1234567890123456789012345"), &again));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(who_lost_all_gets_a_new_context),
                cmocka_unit_test(it_does_not_matter_what_was_before),
                cmocka_unit_test(the_former_context_is_over),
                cmocka_unit_test(a_context_that_was_loaded_again_is_the_same),
                cmocka_unit_test(request_2_is_taken_once),
                cmocka_unit_test(one_run_ends_the_others),
                cmocka_unit_test(an_r2_is_good_for_a_while_of_one_process_for_one),
                cmocka_unit_test(response_1_is_protected_once),
                cmocka_unit_test(a_request_1_that_was_heard_keeps_nobody_out),
                cmocka_unit_test(strangers_cost_little),
                cmocka_unit_test(who_may_not_renew_is_unknown),
                cmocka_unit_test(contexts_with_one_kid_renew_apart),
                cmocka_unit_test(an_r2_is_of_no_use_to_a_namesake),
                cmocka_unit_test(an_r3_has_eight_bytes),
                cmocka_unit_test(nobody_renews_in_a_session_of_another),
                cmocka_unit_test(what_the_store_refuses_is_not_renewed),
                cmocka_unit_test(what_is_no_request_inside_renews_nothing),
                cmocka_unit_test(without_randomness_nothing_is_begun),
                cmocka_unit_test(a_client_hears_only_response_1),
                cmocka_unit_test(a_client_wants_an_r2_of_eight_bytes),
                cmocka_unit_test(a_client_hears_libcoap),
                cmocka_unit_test(response_1_goes_with_its_credential),
                cmocka_unit_test(a_kid_context_is_wrapped_in_cbor),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
