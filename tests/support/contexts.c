#include "contexts.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

/* ---- a store of credentials and the server */

static int load(void *context, struct bytes kid, int (*found)(void *context, const struct oscore_context *loaded),
                void *found_context) {
        struct realm *realm = context;

        realm->n_loads++;
        if (realm->load_fails != 0)
                return realm->load_fails;
        for (size_t i = 0; i < realm->n_registered; i++) {
                const struct registered *registered = &realm->registered[i];
                const struct oscore_context loaded = {
                        .credential_id = registered->id, .server_id = registered->server_id,
                        .client_id = registered->server_id != 0 ? 0 : 100 + registered->id,
                        .renews = registered->renews, .input = registered->input };
                int r;

                if (registered->is_gone || !bytes_equal(registered->input.recipient_id, kid))
                        continue;
                r = found(found_context, &loaded);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int lease(void *context, uint64_t n, uint64_t *ret_first) {
        struct realm *realm = context;

        realm->n_leases++;
        if (realm->next_number > realm->numbers_max)
                return 1;
        *ret_first = realm->next_number;
        realm->next_number += n;
        return 0;
}

/* > 0: the credential is gone. */
static int renew(void *context, int64_t credential_id, struct bytes id_context) {
        struct realm *realm = context;
        struct registered *registered = realm_registered(realm, credential_id);

        if (realm->renew_fails != 0 || registered->is_gone)
                return realm->renew_fails != 0 ? realm->renew_fails : 1;
        memcpy(registered->renewed, id_context.data, id_context.size);
        registered->input.id_context = bytes_of(registered->renewed, id_context.size);
        return 0;
}

static uint64_t generation(void *context) {
        return ((struct realm *)context)->generation;
}

static uint64_t epoch(void *context) {
        return ((struct realm *)context)->epoch;
}

struct oscore_callbacks realm_callbacks(struct realm *realm) {
        return (struct oscore_callbacks){ .context = realm, .load = load, .lease = lease, .epoch = epoch,
                                          .renew = renew, .generation = generation };
}

void realm_start(struct realm *realm, size_t contexts_max) {
        const struct oscore_callbacks callbacks = realm_callbacks(realm);

        oscore_free(realm->oscore);
        assert_int_equal(oscore_new(&callbacks, contexts_max, &realm->oscore), 0);
}

struct registered *realm_registered(struct realm *realm, int64_t id) {
        for (size_t i = 0; i < realm->n_registered; i++)
                if (realm->registered[i].id == id)
                        return &realm->registered[i];
        fail_msg("nobody is registered as %" PRId64, id);
        return NULL;
}

int64_t realm_enrol(struct realm *realm, const char *secret, struct bytes kid, struct bytes id_context) {
        int64_t id = (int64_t)realm->n_registered + 1;

        assert_true(realm->n_registered < CREDENTIALS_MAX);
        realm->registered[realm->n_registered++] = (struct registered){
                .id = id,
                .input = { .alg = AEAD_AES_CCM_16_64_128, .hkdf = OSCORE_HKDF_SHA256,
                           .master_secret = bytes_text(secret), .id_context = id_context,
                           .sender_id = BYTES_LITERAL("\x5e"), .recipient_id = kid },
        };
        realm->generation++;
        return id;
}

void realm_open(struct realm *realm) {
        *realm = (struct realm){ .now.monotonic_us = 1000 * SECOND_US, .numbers_max = OSCORE_PIV_MAX };
        realm_start(realm, 100);
        (void)realm_enrol(realm, "the secret of c1", BYTES_LITERAL("\xc1"), BYTES_NONE);
}

void realm_close(struct realm *realm) {
        oscore_free(realm->oscore);
}

struct oscore_input device_input(struct realm *realm, int64_t id) {
        struct oscore_input input = realm_registered(realm, id)->input;

        input.sender_id = realm_registered(realm, id)->input.recipient_id;
        input.recipient_id = realm_registered(realm, id)->input.sender_id;
        return input;
}

struct device device_of(struct realm *realm, int64_t id) {
        struct device device = { .realm = realm, .sent = BUF_INIT(MESSAGE_MAX), .plain = BUF_INIT(MESSAGE_MAX) };
        const struct oscore_input input = device_input(realm, id);

        assert_int_equal(oscore_derive(&input, &device.keys), 0);
        device.kid_context = input.id_context;
        return device;
}

void device_done(struct device *device) {
        oscore_keys_done(&device->keys);
        buf_done(&device->sent);
        buf_done(&device->plain);
}

enum oscore_verdict device_arrives(struct device *device) {
        struct coap_message outer;
        bool header_ok;

        assert_int_equal(coap_message_decode(buf_bytes(&device->sent), &outer, &header_ok), 0);
        buf_clear(&device->plain);
        return oscore_take(device->realm->oscore, &outer, device->realm->now, &device->plain, &device->taken);
}

void device_write(struct device *device, const struct coap_message *message) {
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };

        assert_int_equal(oscore_protect_request(&device->keys, device->piv++, device->kid_context, message, &outer,
                                                &device->request), 0);
        buf_clear(&device->sent);
        assert_int_equal(coap_message_encode(&outer.message, &device->sent), 0);
        buf_done(&outer.payload);
}

enum oscore_verdict device_send(struct device *device, const struct coap_message *message) {
        device_write(device, message);
        return device_arrives(device);
}

enum oscore_verdict device_ask(struct device *device, struct bytes echo) {
        struct coap_message message = { .code = CODE_GET, .mid = 1 };

        assert_int_equal(coap_message_add(&message, OPTION_URI_PATH, BYTES_LITERAL("x")), 0);
        if (echo.data)
                assert_int_equal(coap_message_add(&message, OPTION_ECHO, echo), 0);
        return device_send(device, &message);
}

int64_t device_read(struct device *device, const struct coap_message *outer, struct buf *plain,
                    struct coap_message *ret) {
        struct oscore_option option;

        assert_int_equal(oscore_option_decode(coap_message_option(outer, OPTION_OSCORE, 0)->value, &option), 0);
        assert_null(option.kid.data);
        assert_int_equal(oscore_unprotect_response(&device->keys, &device->request, &option, outer, plain, ret), 0);
        return option.piv.data ? (int64_t)oscore_piv_decode(option.piv) : -1;
}

uint8_t device_hear(struct device *device, const struct coap_message *inner, bool own_number, int64_t *ret_piv,
                    struct buf *plain, struct coap_message *ret) {
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };

        assert_int_equal(oscore_protect(device->realm->oscore, &device->taken.binding, own_number, inner, &outer), 0);
        *ret_piv = device_read(device, &outer.message, plain, ret);
        buf_done(&outer.payload);
        return ret->code;
}

void device_hear_echo(struct device *device, uint8_t ret[static OSCORE_ECHO_SIZE]) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);
        struct coap_message inner;
        int64_t piv;

        assert_int_equal(device_hear(device, &device->taken.inner, false, &piv, &plain, &inner), CODE_UNAUTHORIZED);
        assert_true(piv >= 0); /* its own number: the request's nonce may be spent */
        assert_int_equal(inner.n_options, 1);
        assert_int_equal(inner.payload.size, 0);
        assert_int_equal(inner.options[0].number, OPTION_ECHO);
        assert_int_equal(inner.options[0].value.size, OSCORE_ECHO_SIZE);
        memcpy(ret, inner.options[0].value.data, OSCORE_ECHO_SIZE);
}

void device_meet(struct device *device) {
        uint8_t echo[OSCORE_ECHO_SIZE];

        assert_int_equal(device_ask(device, BYTES_NONE), OSCORE_ECHO);
        device_hear_echo(device, echo);
        assert_int_equal(device_ask(device, bytes_of(echo, sizeof(echo))), OSCORE_REQUEST);
}

void expect_no(struct device *device, enum oscore_verdict verdict, uint8_t code, const char *text) {
        assert_int_equal(verdict, OSCORE_ANSWER);
        assert_int_equal(device->taken.inner.code, code);
        assert_true(bytes_equal(device->taken.inner.payload, bytes_text(text)));
        assert_int_equal(device->taken.inner.n_options, 0);
}
