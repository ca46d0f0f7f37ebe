/* transport/oscore.c: contexts, replays, Echo, numbers. Renewals are test_renewal's, messages test_oscore's. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "support/contexts.h"
#include "transport/oscore_contexts.h"

/* ---- replays: OSC-019, OSC-023, OSC-027 … OSC-029 */

static void no_request_is_taken_twice(void **state) {
        struct realm realm;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        device_meet(&device);
        assert_int_equal(device.taken.binding.credential_id, 1);
        assert_int_equal(device.taken.client_id, 101);
        assert_int_equal(device.taken.inner.code, CODE_GET);
        expect_no(&device, device_arrives(&device), CODE_UNAUTHORIZED, "Replay detected");
        for (unsigned i = 0; i < 100; i++) {
                assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_REQUEST);
                expect_no(&device, device_arrives(&device), CODE_UNAUTHORIZED, "Replay detected");
        }
        /* out of order, within the window */
        device.piv += 10;
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_REQUEST);
        device.piv -= 5;
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_REQUEST);
        device.piv -= 1;
        expect_no(&device, device_ask(&device, BYTES_NONE), CODE_UNAUTHORIZED, "Replay detected");
        device_done(&device);
        realm_close(&realm);
}

static void a_restart_asks_for_an_echo(void **state) {
        struct realm realm;
        _cleanup_(buf_done) struct buf captured = BUF_INIT(MESSAGE_MAX);

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        device_meet(&device);
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_REQUEST);
        assert_int_equal(buf_add(&captured, buf_bytes(&device.sent)), 0);

        realm_start(&realm, 100);
        assert_int_equal(device_arrives(&device), OSCORE_ECHO); /* the captured one: not handed on */
        assert_int_equal(device.taken.inner.code, CODE_UNAUTHORIZED);
        device_meet(&device);
        buf_clear(&device.sent);
        assert_int_equal(buf_add(&device.sent, buf_bytes(&captured)), 0);
        expect_no(&device, device_arrives(&device), CODE_UNAUTHORIZED, "Replay detected"); /* below the lower limit */
        device_done(&device);
        realm_close(&realm);
}

static void an_echo_is_good_once_for_one(void **state) {
        struct realm realm;
        uint8_t echo[OSCORE_ECHO_SIZE], other_echo[OSCORE_ECHO_SIZE];

        realm_open(&realm);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc2"), BYTES_NONE);
        struct device device = device_of(&realm, 1), other = device_of(&realm, 2);

        assert_int_equal(device_ask(&other, BYTES_NONE), OSCORE_ECHO);
        device_hear_echo(&other, other_echo);
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_ECHO);
        device_hear_echo(&device, echo);
        assert_int_equal(device_ask(&device, bytes_of(other_echo, sizeof(other_echo))), OSCORE_ECHO);
        for (unsigned bit = 0; bit < 8 * sizeof(echo); bit++) {
                echo[bit / 8] ^= (uint8_t)(1u << bit % 8);
                assert_int_equal(device_ask(&device, bytes_of(echo, sizeof(echo))), OSCORE_ECHO);
                echo[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        assert_int_equal(device_ask(&device, bytes_of(echo, sizeof(echo) - 1)), OSCORE_ECHO);
        realm.now.monotonic_us += OSCORE_ECHO_LIFE_US + 1;
        assert_int_equal(device_ask(&device, bytes_of(echo, sizeof(echo))), OSCORE_ECHO);
        device_hear_echo(&device, echo);
        assert_int_equal(device_ask(&device, bytes_of(echo, sizeof(echo))), OSCORE_REQUEST);
        device_done(&device);
        device_done(&other);
        realm_close(&realm);
}

/* A context that had to go has forgotten its window: what was good for the former one is not for the next. */
static void an_evicted_context_asks_again(void **state) {
        struct realm realm;

        realm_open(&realm);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc2"), BYTES_NONE);
        realm_start(&realm, 1);
        struct device device = device_of(&realm, 1), other = device_of(&realm, 2);
        struct oscore_figures figures;

        device_meet(&device); /* its last request has an Echo, which is fresh */
        assert_int_equal(device_ask(&other, BYTES_NONE), OSCORE_ECHO);
        oscore_figures(realm.oscore, &figures);
        assert_int_equal(figures.n_contexts, 1);
        assert_int_equal(figures.n_evicted, 1);
        assert_int_equal(device_arrives(&device), OSCORE_ECHO);
        device_done(&device);
        device_done(&other);
        realm_close(&realm);
}

/* A notification is a use: who observes and asks for nothing else is not the first to go. */
static void who_is_notified_stays(void **state) {
        const struct coap_message news = { .code = CODE_CONTENT };
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        struct realm realm;

        realm_open(&realm);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc2"), BYTES_NONE);
        (void)realm_enrol(&realm, "the secret of c3", BYTES_LITERAL("\xc3"), BYTES_NONE);
        realm_start(&realm, 2);
        struct device device = device_of(&realm, 1), second = device_of(&realm, 2), third = device_of(&realm, 3);

        device_meet(&device);
        device_meet(&second);
        assert_int_equal(oscore_protect(realm.oscore, &device.taken.binding, true, &news, &outer), 0);
        device_meet(&third);
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_REQUEST);
        assert_int_equal(device_ask(&second, BYTES_NONE), OSCORE_ECHO);
        buf_done(&outer.payload);
        device_done(&device);
        device_done(&second);
        device_done(&third);
        realm_close(&realm);
}

/* What strangers ask for, who have seen its kid, makes no context go that was used. */
static void strangers_let_nobody_go(void **state) {
        static const uint8_t kids[] = { 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xdb };
        struct oscore_figures figures;
        struct realm realm;

        realm_open(&realm);
        for (size_t i = 0; i < N_ELEMENTS(kids); i++)
                (void)realm_enrol(&realm, "the secret of c2", bytes_of(&kids[i], 1), BYTES_NONE);
        realm_start(&realm, 2);
        struct device device = device_of(&realm, 1), other = device_of(&realm, 2), newcomer = device_of(&realm, 3);

        device_meet(&device);
        device_meet(&other);
        for (size_t run = 0; run < 10; run++) {
                for (size_t i = 1; i < N_ELEMENTS(kids); i++) {
                        const uint8_t option[] = { 0x09, 0x30, kids[i] };
                        struct coap_message outer = { .code = CODE_POST, .payload = BYTES_LITERAL("0123456789") };

                        assert_int_equal(coap_message_add(&outer, OPTION_OSCORE, bytes_of(option, sizeof(option))), 0);
                        buf_clear(&newcomer.plain);
                        expect_no(&newcomer, oscore_take(realm.oscore, &outer, realm.now, &newcomer.plain,
                                                         &newcomer.taken), CODE_BAD_REQUEST, "Decryption failed");
                        oscore_figures(realm.oscore, &figures);
                        assert_true(figures.n_contexts <= 2 + OSCORE_CANDIDATES_MAX);
                }
                assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_REQUEST);
                assert_int_equal(device_ask(&other, BYTES_NONE), OSCORE_REQUEST);
                oscore_figures(realm.oscore, &figures);
                assert_int_equal(figures.n_contexts, 2);
        }
        device_meet(&newcomer); /* there is room for who has a key, and the one unused longest goes for it */
        assert_int_equal(device_ask(&other, BYTES_NONE), OSCORE_REQUEST);
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_ECHO);
        device_done(&device);
        device_done(&other);
        device_done(&newcomer);
        realm_close(&realm);
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
                { BYTES_LITERAL("\x29\x00\xc1"), BYTES_LITERAL("0123456789"), CODE_BAD_OPTION,
                  "Failed to decode COSE" },
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
        struct realm realm;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        device_meet(&device);
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct coap_message outer = { .code = CODE_POST, .payload = cases[i].payload };

                assert_int_equal(coap_message_add(&outer, OPTION_OSCORE, cases[i].option), 0);
                buf_clear(&device.plain);
                /* number 0 was seen: for what is to fail later another one is needed */
                if (bytes_equal(cases[i].payload, BYTES_LITERAL("short")))
                        outer.options[0].value = BYTES_LITERAL("\x09\x30\xc1");
                expect_no(&device, oscore_take(realm.oscore, &outer, realm.now, &device.plain, &device.taken),
                          cases[i].code, cases[i].text);
        }
        /* the forged number has not moved the window */
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_REQUEST);
        device_done(&device);
        realm_close(&realm);
}

static void an_option_twice_is_refused(void **state) {
        struct coap_message outer = { .code = CODE_POST, .payload = BYTES_LITERAL("0123456789") };
        struct realm realm;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        assert_int_equal(coap_message_add(&outer, OPTION_OSCORE, BYTES_LITERAL("\x09\x00\xc1")), 0);
        assert_int_equal(coap_message_add(&outer, OPTION_OSCORE, BYTES_LITERAL("\x09\x00\xc1")), 0);
        expect_no(&device, oscore_take(realm.oscore, &outer, realm.now, &device.plain, &device.taken), CODE_BAD_OPTION,
                  "Failed to decode COSE");
        device_done(&device);
        realm_close(&realm);
}

static void contexts_with_one_kid_are_told_apart(void **state) {
        struct realm realm;

        realm_open(&realm);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc1"), BYTES_LITERAL("plant 2"));
        (void)realm_enrol(&realm, "the secret of c3", BYTES_LITERAL("\xc1"), BYTES_LITERAL(""));
        struct device devices[] = { device_of(&realm, 1), device_of(&realm, 2), device_of(&realm, 3) };

        for (size_t i = 0; i < N_ELEMENTS(devices); i++) {
                device_meet(&devices[i]);
                assert_int_equal(devices[i].taken.binding.credential_id, i + 1);
        }
        for (size_t i = 0; i < N_ELEMENTS(devices); i++) { /* without kid context all are tried */
                devices[i].kid_context = BYTES_NONE;
                devices[i].piv = 1000;
                assert_int_equal(device_ask(&devices[i], BYTES_NONE), OSCORE_REQUEST);
                assert_int_equal(devices[i].taken.binding.credential_id, i + 1);
                if (i < 2) /* under the others, which have not seen the number, it does not decrypt */
                        expect_no(&devices[i], device_arrives(&devices[i]), CODE_BAD_REQUEST, "Decryption failed");
                else
                        expect_no(&devices[i], device_arrives(&devices[i]), CODE_UNAUTHORIZED, "Replay detected");
        }
        /* in a CBOR byte string (Appendix B.2) it is that of contexts that renew, and of no other */
        devices[1].kid_context = BYTES_LITERAL("\x47" "plant 2");
        devices[1].piv = 2000;
        expect_no(&devices[1], device_ask(&devices[1], BYTES_NONE), CODE_UNAUTHORIZED, "Security context not found");
        for (size_t i = 0; i < N_ELEMENTS(devices); i++)
                device_done(&devices[i]);
        realm_close(&realm);
}

/* As many as may have one kid are all tried, and none of them has to go for another, however few are to be kept. */
static void as_many_as_may_have_one_kid_are_served(void **state) {
        static const uint8_t id_contexts[OSCORE_CANDIDATES_MAX] = { 0, 1, 2, 3, 4, 5, 6, 7 };
        struct device devices[OSCORE_CANDIDATES_MAX];
        struct oscore_figures figures;
        struct realm realm;

        realm_open(&realm);
        realm_registered(&realm, 1)->input.id_context = bytes_of(id_contexts, 1);
        for (size_t i = 1; i < N_ELEMENTS(devices); i++)
                (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc1"), bytes_of(&id_contexts[i], 1));
        realm_start(&realm, 1);
        for (size_t i = 0; i < N_ELEMENTS(devices); i++) {
                devices[i] = device_of(&realm, (int64_t)i + 1);
                device_meet(&devices[i]);
                devices[i].piv += 10 * i; /* new to all */
                devices[i].kid_context = BYTES_NONE;
                assert_int_equal(device_ask(&devices[i], BYTES_NONE), OSCORE_REQUEST);
                assert_int_equal(devices[i].taken.binding.credential_id, i + 1);
        }
        oscore_figures(realm.oscore, &figures);
        assert_int_equal(figures.n_contexts, OSCORE_CANDIDATES_MAX);
        assert_int_equal(figures.n_evicted, 0);
        for (size_t i = 0; i < N_ELEMENTS(devices); i++)
                device_done(&devices[i]);
        realm_close(&realm);
}

/* Inside a session of somebody else contexts are as if they were not there; clients and servers have numbers apart. */
static void a_context_is_of_one_party(void **state) {
        static const struct {
                int64_t client_id, server_id;
                size_t whose; /* index of devices; 2: nobody's */
        } cases[] = { { 101, 0, 0 }, { 0, 7, 1 }, { 7, 0, 2 }, { 0, 101, 2 }, { 0, 8, 2 }, { 102, 0, 2 } };
        struct realm realm;

        realm_open(&realm);
        int64_t id = realm_enrol(&realm, "the secret of s", BYTES_LITERAL("\xc2"), BYTES_NONE);

        realm_registered(&realm, id)->server_id = 7;
        struct device devices[] = { device_of(&realm, 1), device_of(&realm, 2) };

        for (size_t i = 0; i < N_ELEMENTS(devices); i++) {
                struct device *device = &devices[i];

                device_meet(device);
                assert_int_equal(device->taken.client_id, i == 0 ? 101 : 0);
                assert_int_equal(device->taken.server_id, i == 0 ? 0 : 7);
                for (size_t n = 0; n < N_ELEMENTS(cases); n++) {
                        struct coap_message message = { .code = CODE_GET, .mid = 1 }, outer;
                        enum oscore_verdict verdict;
                        bool header_ok;

                        device_write(device, &message);
                        assert_int_equal(coap_message_decode(buf_bytes(&device->sent), &outer, &header_ok), 0);
                        buf_clear(&device->plain);
                        verdict = oscore_take_within(realm.oscore, cases[n].client_id, cases[n].server_id, &outer,
                                                     realm.now, &device->plain, &device->taken);
                        if (cases[n].whose == i) {
                                assert_int_equal(verdict, OSCORE_REQUEST);
                                continue;
                        }
                        expect_no(device, verdict, CODE_UNAUTHORIZED, "Security context not found");
                        assert_int_equal(device_arrives(device), OSCORE_REQUEST); /* its number is not spent */
                }
                device_done(device);
        }
        realm_close(&realm);
}

/* Every AEAD and HKDF; IDs and ID Contexts from no bytes to as many as they may have. */
static void every_algorithm_and_size_serves(void **state) {
        static const uint8_t zeros[OSCORE_ID_CONTEXT_SIZE_MAX];
        static const size_t id_context_sizes[] = { 0, 1, OSCORE_ID_CONTEXT_SIZE_MAX };
        const struct coap_message answer = { .code = CODE_CONTENT, .payload = BYTES_LITERAL("x") };
        struct coap_message inner;
        int64_t piv;

        for (enum aead_alg alg = AEAD_AES_CCM_16_64_128; alg <= AEAD_CHACHA20_POLY1305; alg++)
                for (size_t run = 0; run <= 2 * oscore_id_size_max(alg) + 1; run++) {
                        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);
                        struct realm realm;

                        realm_open(&realm);
                        struct oscore_input *input = &realm_registered(&realm, 1)->input;

                        input->alg = alg;
                        input->hkdf = run % 2 == 0 ? OSCORE_HKDF_SHA256 : OSCORE_HKDF_SHA512;
                        input->recipient_id = bytes_of(zeros, run / 2);
                        input->id_context = bytes_of(zeros, id_context_sizes[run % N_ELEMENTS(id_context_sizes)]);
                        struct device device = device_of(&realm, 1);

                        device_meet(&device);
                        assert_int_equal(device_hear(&device, &answer, false, &piv, &plain, &inner), CODE_CONTENT);
                        buf_clear(&plain);
                        assert_int_equal(device_hear(&device, &answer, true, &piv, &plain, &inner), CODE_CONTENT);
                        device.kid_context = BYTES_NONE;
                        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_REQUEST);
                        device_done(&device);
                        realm_close(&realm);
                }
}

/* Whoever knows the key, but makes no message with it, or one that goes round in circles, does not get a second try. */
static void the_number_of_a_malformed_message_is_spent(void **state) {
        const struct coap_message response = { .code = CODE_CONTENT };
        struct realm realm;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        device_meet(&device);
        expect_no(&device, device_send(&device, &response), CODE_BAD_REQUEST, "Decryption failed");
        expect_no(&device, device_arrives(&device), CODE_UNAUTHORIZED, "Replay detected");
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_REQUEST);
        device_done(&device);
        realm_close(&realm);
}

/* What nobody asked for: an Echo value of any kind changes nothing. */
static void an_echo_that_was_not_asked_for_is_ignored(void **state) {
        struct realm realm;
        uint8_t echo[OSCORE_ECHO_SIZE] = {};

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_ECHO);
        device_hear_echo(&device, echo);
        device.piv = 50;
        assert_int_equal(device_ask(&device, bytes_of(echo, sizeof(echo))), OSCORE_REQUEST);
        device.piv = 60;
        assert_int_equal(device_ask(&device, bytes_of(echo, sizeof(echo))), OSCORE_REQUEST);
        device.piv = 55; /* within the window, which still begins at 50 */
        assert_int_equal(device_ask(&device, BYTES_LITERAL("x")), OSCORE_REQUEST);
        device.piv = 49;
        expect_no(&device, device_ask(&device, bytes_of(echo, sizeof(echo))), CODE_UNAUTHORIZED, "Replay detected");
        device_done(&device);
        realm_close(&realm);
}

/* A credential that was registered anew may have the number that another one had; its context is another one. */
static void the_next_with_the_same_number_is_another(void **state) {
        const struct coap_message answer = { .code = CODE_CONTENT };
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        struct realm realm;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        device_meet(&device);
        realm_registered(&realm, 1)->input.master_secret = BYTES_LITERAL("the next secret");
        realm.generation++;
        assert_int_equal(oscore_protect(realm.oscore, &device.taken.binding, true, &answer, &outer), -ENOENT);
        expect_no(&device, device_ask(&device, BYTES_NONE), CODE_BAD_REQUEST, "Decryption failed");
        struct device next = device_of(&realm, 1);

        device_meet(&next);
        buf_done(&outer.payload);
        device_done(&device);
        device_done(&next);
        realm_close(&realm);
}

/* Whatever it differs in: nothing that was bound to the one is protected under the other. */
static void what_differs_in_anything_is_another(void **state) {
        const struct coap_message answer = { .code = CODE_CONTENT };

        for (unsigned what = 0; what < 6; what++) {
                struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
                struct realm realm;

                realm_open(&realm);
                struct oscore_input *input = &realm_registered(&realm, 1)->input;
                struct device device = device_of(&realm, 1);

                device_meet(&device);
                assert_int_equal(oscore_protect(realm.oscore, &device.taken.binding, true, &answer, &outer), 0);
                if (what == 1)
                        input->master_salt = BYTES_LITERAL("salt");
                else if (what == 2)
                        input->sender_id = BYTES_LITERAL("\x5f");
                else if (what == 3)
                        input->alg = AEAD_AES_CCM_16_128_128;
                else if (what == 4)
                        input->hkdf = OSCORE_HKDF_SHA512;
                else if (what == 5)
                        input->id_context = BYTES_LITERAL("");
                realm.generation++;
                assert_int_equal(oscore_protect(realm.oscore, &device.taken.binding, true, &answer, &outer),
                                 what == 0 ? 0 : -ENOENT);
                buf_done(&outer.payload);
                device_done(&device);
                realm_close(&realm);
        }
}

/* The same secret and all, as the credential of another: what was seen of the former says nothing. */
static void what_is_registered_again_is_another(void **state) {
        const struct coap_message answer = { .code = CODE_CONTENT };
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        struct realm realm;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        device_meet(&device);
        struct oscore_binding before = device.taken.binding;

        realm_registered(&realm, 1)->is_gone = true;
        (void)realm_enrol(&realm, "the secret of c1", BYTES_LITERAL("\xc1"), BYTES_NONE);
        assert_int_equal(oscore_protect(realm.oscore, &before, true, &answer, &outer), -ENOENT);
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_ECHO);
        device_meet(&device);
        assert_int_equal(device.taken.binding.credential_id, 2);
        assert_int_equal(device.taken.client_id, 102);
        buf_done(&outer.payload);
        device_done(&device);
        realm_close(&realm);
}

/* The store breaks in the midst of a change: what it did not get to is looked for again. */
static void a_load_that_failed_is_done_again(void **state) {
        struct realm realm;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        device_meet(&device);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc1"), BYTES_LITERAL("plant 2"));
        realm.load_fails = -EIO;
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_DROP);
        realm.load_fails = 0;
        struct device other = device_of(&realm, 2);

        device_meet(&other);
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_REQUEST); /* its window is still known */
        device_done(&device);
        device_done(&other);
        realm_close(&realm);
}

/* Numbers were raised, as after a backup was restored: those that were leased before are not used up. */
static void numbers_of_an_earlier_epoch_are_not_used(void **state) {
        const struct coap_message answer = { .code = CODE_CONTENT };
        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);
        struct coap_message inner;
        struct realm realm;
        int64_t piv;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        device_meet(&device);
        assert_int_equal(realm.n_leases, 1);
        realm.next_number = 1 << 20;
        realm.epoch++;
        assert_int_equal(device_hear(&device, &answer, true, &piv, &plain, &inner), CODE_CONTENT);
        assert_int_equal(piv, 1 << 20);
        assert_int_equal(realm.n_leases, 2);
        device_done(&device);
        realm_close(&realm);
}

static void what_is_removed_is_forgotten(void **state) {
        struct realm realm;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        device_meet(&device);
        realm.registered[0].is_gone = true;
        realm.generation++;
        expect_no(&device, device_ask(&device, BYTES_NONE), CODE_UNAUTHORIZED, "Security context not found");
        struct oscore_figures figures;
        oscore_figures(realm.oscore, &figures);
        assert_int_equal(figures.n_contexts, 0);
        realm.registered[0].is_gone = false;
        realm.generation++;
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_ECHO);
        device_done(&device);
        realm_close(&realm);
}

static size_t n_contexts(const struct realm *realm) {
        struct oscore_figures figures;

        oscore_figures(realm->oscore, &figures);
        return figures.n_contexts;
}

/* At once, when somebody tells; the others of the kid stay as they are, and nobody has to look them up. */
static void what_is_told_to_be_removed_goes(void **state) {
        struct realm realm;
        unsigned n_loads;

        realm_open(&realm);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc1"), BYTES_LITERAL("plant 2"));
        struct device device = device_of(&realm, 1), other = device_of(&realm, 2);

        device_meet(&device);
        device_meet(&other);
        n_loads = realm.n_loads;
        oscore_forget(realm.oscore, 3, BYTES_LITERAL("\xc1")); /* nobody */
        oscore_forget(realm.oscore, 1, BYTES_LITERAL("\xc2"));
        oscore_forget(realm.oscore, 1, BYTES_LITERAL("a kid that is too long to be one"));
        assert_int_equal(n_contexts(&realm), 2);
        oscore_forget(realm.oscore, 1, BYTES_LITERAL("\xc1"));
        assert_int_equal(n_contexts(&realm), 1);
        assert_int_equal(device_ask(&other, BYTES_NONE), OSCORE_REQUEST); /* its window is known */
        oscore_forget(realm.oscore, 2, BYTES_LITERAL("\xc1"));
        assert_int_equal(n_contexts(&realm), 0);
        assert_int_equal(realm.n_loads, n_loads);
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_ECHO); /* it was not removed after all */
        device_done(&device);
        device_done(&other);
        realm_close(&realm);
}

/* Its keys go, though nobody asks for it any more; the others stay as they are. */
static void what_is_removed_goes_from_memory(void **state) {
        struct device devices[3];
        struct realm realm;

        realm_open(&realm);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc2"), BYTES_NONE);
        (void)realm_enrol(&realm, "the secret of c3", BYTES_LITERAL("\xc3"), BYTES_NONE);
        for (size_t i = 0; i < N_ELEMENTS(devices); i++) {
                devices[i] = device_of(&realm, (int64_t)i + 1);
                device_meet(&devices[i]);
        }
        (void)oscore_sweep(realm.oscore);
        unsigned n_loads = realm.n_loads;
        assert_false(oscore_sweep(realm.oscore)); /* nothing has changed: nothing is looked for */
        assert_int_equal(realm.n_loads, n_loads);

        realm.registered[1].is_gone = true;
        realm.generation++;
        realm.load_fails = -EIO;
        assert_false(oscore_sweep(realm.oscore));
        assert_int_equal(n_contexts(&realm), 3);
        realm.load_fails = 0;
        assert_false(oscore_sweep(realm.oscore));
        assert_int_equal(n_contexts(&realm), 2);
        n_loads = realm.n_loads;
        assert_int_equal(device_ask(&devices[0], BYTES_NONE), OSCORE_REQUEST);
        assert_int_equal(device_ask(&devices[2], BYTES_NONE), OSCORE_REQUEST);
        assert_int_equal(realm.n_loads, n_loads);
        for (size_t i = 0; i < N_ELEMENTS(devices); i++)
                device_done(&devices[i]);
        realm_close(&realm);
}

/* Whatever is asked for, added or removed between its steps. */
static void a_sweep_in_steps_misses_nothing(void **state) {
        static uint8_t kids[CREDENTIALS_MAX][1];
        struct oscore_contexts contexts;
        struct oscore_kid *kid;
        struct realm realm;

        realm_open(&realm);
        const struct oscore_callbacks callbacks = realm_callbacks(&realm);

        assert_int_equal(oscore_contexts_init(&contexts, &callbacks, CREDENTIALS_MAX), 0);
        for (uint8_t i = 1; i < 30; i++) {
                kids[i][0] = i;
                (void)realm_enrol(&realm, "a secret", bytes_of(kids[i], 1), BYTES_NONE);
        }
        for (uint8_t i = 1; i < 30; i++)
                assert_int_equal(oscore_contexts_get(&contexts, &(struct oscore_id){ 1, { i } }, &kid), 0);
        while (oscore_contexts_sweep(&contexts, 1))
                ;
        assert_int_equal(contexts.n_held, 29);
        for (unsigned i = 1; i < 30; i += 2)
                realm.registered[i].is_gone = true;
        realm.generation++;
        for (uint8_t i = 1; oscore_contexts_sweep(&contexts, 1); i = i < 29 ? i + 1 : 1) {
                assert_int_equal(oscore_contexts_get(&contexts, &(struct oscore_id){ 1, { i } }, &kid), 0);
                if (i == 7) { /* in the midst of it */
                        realm.registered[4].is_gone = true;
                        realm.generation++;
                        oscore_contexts_set_limit(&contexts, 13);
                }
        }
        assert_true(contexts.n_held <= 13);
        assert_int_equal(oscore_contexts_get(&contexts, &(struct oscore_id){ 1, { 4 } }, &kid), 0);
        assert_null(kid);
        oscore_contexts_done(&contexts);
        realm_close(&realm);
}

/* One more with a kid that is in memory already is found, and those that are known keep their windows. */
static void what_is_added_is_found(void **state) {
        struct realm realm;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        device_meet(&device);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc1"), BYTES_LITERAL("plant 2"));
        struct device other = device_of(&realm, 2);

        device_meet(&other);
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_REQUEST);
        unsigned n_loads = realm.n_loads;
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_REQUEST);
        assert_int_equal(realm.n_loads, n_loads); /* from memory */
        device_done(&device);
        device_done(&other);
        realm_close(&realm);
}

static void memory_is_bounded(void **state) {
        static uint8_t kids[CREDENTIALS_MAX][2];
        struct coap_message outer = { .code = CODE_POST, .payload = BYTES_LITERAL("0123456789") };
        struct oscore_figures figures;
        struct realm realm;

        realm_open(&realm);
        realm_start(&realm, 8);
        for (uint8_t i = 0; i < 40; i++) {
                kids[i][0] = 0xd0;
                kids[i][1] = i;
                struct device device = device_of(&realm, realm_enrol(&realm, "a secret", bytes_of(kids[i], 2),
                                                                     BYTES_NONE));

                device_meet(&device);
                oscore_figures(realm.oscore, &figures);
                assert_true(figures.n_contexts <= 8);
                device_done(&device);
        }
        struct device stranger = device_of(&realm, 1);

        for (unsigned i = 0; i < 1000; i++) { /* kids that nobody has */
                const uint8_t option[] = { 0x09, 0, 0xee, (uint8_t)(i >> 8), (uint8_t)i };

                outer.n_options = 0;
                assert_int_equal(coap_message_add(&outer, OPTION_OSCORE, bytes_of(option, sizeof(option))), 0);
                expect_no(&stranger, oscore_take(realm.oscore, &outer, realm.now, &stranger.plain, &stranger.taken),
                          CODE_UNAUTHORIZED, "Security context not found");
        }
        oscore_figures(realm.oscore, &figures);
        assert_int_equal(figures.n_contexts, 8);
        assert_int_equal(figures.n_unknown, 1000);
        oscore_set_limit(realm.oscore, 3);
        oscore_figures(realm.oscore, &figures);
        assert_int_equal(figures.n_contexts, 3);
        device_done(&stranger);
        realm_close(&realm);
}

static void a_broken_store_says_nothing(void **state) {
        struct realm realm;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        realm.load_fails = -EIO;
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_DROP);
        realm.load_fails = 0;
        device_meet(&device);
        device_done(&device);
        realm_close(&realm);
}

/* The one that goes is the one that was not used for the longest time, not the one that came first. */
static void the_one_unused_longest_goes(void **state) {
        struct realm realm;

        realm_open(&realm);
        (void)realm_enrol(&realm, "the secret of c2", BYTES_LITERAL("\xc2"), BYTES_NONE);
        (void)realm_enrol(&realm, "the secret of c3", BYTES_LITERAL("\xc3"), BYTES_NONE);
        realm_start(&realm, 2);
        struct device devices[] = { device_of(&realm, 1), device_of(&realm, 2), device_of(&realm, 3) };

        device_meet(&devices[0]);
        device_meet(&devices[1]);
        assert_int_equal(device_ask(&devices[0], BYTES_NONE), OSCORE_REQUEST);
        device_meet(&devices[2]);
        assert_int_equal(device_ask(&devices[0], BYTES_NONE), OSCORE_REQUEST);
        assert_int_equal(device_ask(&devices[2], BYTES_NONE), OSCORE_REQUEST);
        assert_int_equal(device_ask(&devices[1], BYTES_NONE), OSCORE_ECHO);
        for (size_t i = 0; i < N_ELEMENTS(devices); i++)
                device_done(&devices[i]);
        realm_close(&realm);
}

/* ---- our own numbers: OSC-025, OSC-026, OSC-031 */

/* The first response is under the request's nonce; whatever else is said, or wanted so, has a number that is new. */
static void no_number_comes_twice(void **state) {
        const struct coap_message answer = { .code = CODE_CONTENT, .payload = BYTES_LITERAL("x") };
        struct realm realm;
        struct coap_message inner;
        int64_t piv, last = -1;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        for (unsigned run = 0; run < 20; run++) {
                device_meet(&device);
                for (unsigned i = 0; i < 200; i++) {
                        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);

                        if (i % 10 == 0)
                                assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_REQUEST);
                        assert_int_equal(device_hear(&device, &answer, i % 10 == 5, &piv, &plain, &inner),
                                         CODE_CONTENT);
                        if (i % 10 == 0) {
                                assert_int_equal(piv, -1);
                        } else {
                                assert_true(piv > last);
                                last = piv;
                        }
                }
                realm_start(&realm, 100); /* as after a crash: what was leased is not given back */
        }
        device_done(&device);
        realm_close(&realm);
}

/* The last of a lease, and the first of the next, which another one may have taken in between. */
static void a_lease_is_used_to_its_end_and_no_further(void **state) {
        const struct coap_message answer = { .code = CODE_CONTENT };
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        struct realm realm;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        device_meet(&device); /* takes number 0 */
        for (uint64_t number = 1; number <= OSCORE_PIV_LEASE; number++) {
                struct oscore_option option;

                assert_int_equal(oscore_protect(realm.oscore, &device.taken.binding, true, &answer, &outer), 0);
                assert_int_equal(oscore_option_decode(coap_message_option(&outer.message, OPTION_OSCORE, 0)->value,
                                                      &option), 0);
                if (oscore_piv_decode(option.piv) != number)
                        fail_msg("%llu", (unsigned long long)number);
                assert_int_equal(realm.n_leases, number < OSCORE_PIV_LEASE ? 1 : 2);
        }
        buf_done(&outer.payload);
        device_done(&device);
        realm_close(&realm);
}

static void no_number_is_left(void **state) {
        const struct coap_message answer = { .code = CODE_CONTENT };
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);
        struct coap_message inner;
        struct realm realm;
        int64_t piv;

        realm_open(&realm);
        realm.next_number = OSCORE_PIV_MAX - 1;
        struct device device = device_of(&realm, 1);

        device_meet(&device); /* takes one */
        assert_int_equal(device_hear(&device, &answer, true, &piv, &plain, &inner), CODE_CONTENT);
        assert_int_equal(piv, OSCORE_PIV_MAX);
        assert_int_equal(oscore_protect(realm.oscore, &device.taken.binding, true, &answer, &outer), -EDQUOT);
        buf_clear(&plain);
        assert_int_equal(device_hear(&device, &answer, false, &piv, &plain, &inner), CODE_CONTENT);
        assert_int_equal(piv, -1); /* under the request's nonce it can still be answered */
        realm_start(&realm, 100);
        assert_int_equal(oscore_protect(realm.oscore, &device.taken.binding, true, &answer, &outer), -ENOENT);
        assert_int_equal(device_ask(&device, BYTES_NONE), OSCORE_ECHO);
        assert_int_equal(oscore_protect(realm.oscore, &device.taken.binding, false, &device.taken.inner, &outer),
                         -EDQUOT);
        buf_done(&outer.payload);
        device_done(&device);
        realm_close(&realm);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(no_request_is_taken_twice),
                cmocka_unit_test(a_restart_asks_for_an_echo),
                cmocka_unit_test(an_echo_is_good_once_for_one),
                cmocka_unit_test(an_evicted_context_asks_again),
                cmocka_unit_test(who_is_notified_stays),
                cmocka_unit_test(strangers_let_nobody_go),
                cmocka_unit_test(what_cannot_be_read_is_refused),
                cmocka_unit_test(an_option_twice_is_refused),
                cmocka_unit_test(contexts_with_one_kid_are_told_apart),
                cmocka_unit_test(as_many_as_may_have_one_kid_are_served),
                cmocka_unit_test(a_context_is_of_one_party),
                cmocka_unit_test(every_algorithm_and_size_serves),
                cmocka_unit_test(the_number_of_a_malformed_message_is_spent),
                cmocka_unit_test(an_echo_that_was_not_asked_for_is_ignored),
                cmocka_unit_test(the_next_with_the_same_number_is_another),
                cmocka_unit_test(what_differs_in_anything_is_another),
                cmocka_unit_test(what_is_registered_again_is_another),
                cmocka_unit_test(a_load_that_failed_is_done_again),
                cmocka_unit_test(numbers_of_an_earlier_epoch_are_not_used),
                cmocka_unit_test(what_is_removed_is_forgotten),
                cmocka_unit_test(what_is_told_to_be_removed_goes),
                cmocka_unit_test(what_is_removed_goes_from_memory),
                cmocka_unit_test(a_sweep_in_steps_misses_nothing),
                cmocka_unit_test(what_is_added_is_found),
                cmocka_unit_test(memory_is_bounded),
                cmocka_unit_test(a_broken_store_says_nothing),
                cmocka_unit_test(the_one_unused_longest_goes),
                cmocka_unit_test(no_number_comes_twice),
                cmocka_unit_test(a_lease_is_used_to_its_end_and_no_further),
                cmocka_unit_test(no_number_is_left),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
