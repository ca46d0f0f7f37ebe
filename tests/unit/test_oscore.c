#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/cose.h"
#include "format/oscore.h"
#include "support/vectors.h"

#define DATAGRAM_MAX 2048

/* ---- vectors → structs */

/* The bytes of a context, of both sides' views. */
struct context {
        struct buf secret, salt, id_context, client_id, server_id;
        bool has_id_context;
        enum aead_alg alg;
        enum oscore_hkdf hkdf;
};

static void context_done(struct context *context) {
        buf_done(&context->secret);
        buf_done(&context->salt);
        buf_done(&context->id_context);
        buf_done(&context->client_id);
        buf_done(&context->server_id);
}

/* Some file has client_id and server_id, the other the names of the client's view. */
static struct context context_load(const json_t *object, const char *alg, const char *client, const char *server) {
        struct context context = {
                .secret = vectors_bytes(object, "master_secret"), .salt = vectors_bytes(object, "master_salt"),
                .client_id = vectors_bytes(object, client), .server_id = vectors_bytes(object, server),
                .has_id_context = vectors_has(object, "id_context"),
                .alg = cose_aead_from_label(vectors_number(object, alg)),
                .hkdf = strcmp(vectors_text(object, "hkdf"), "SHA-512") == 0 ? OSCORE_HKDF_SHA512 : OSCORE_HKDF_SHA256,
        };

        if (context.has_id_context)
                context.id_context = vectors_bytes(object, "id_context");
        return context;
}

/* No bytes that are there have an address, too. */
static struct bytes present(const struct buf *buf) {
        return buf->size > 0 ? buf_bytes(buf) : BYTES_LITERAL("");
}

static struct oscore_input input_of(const struct context *context, bool server) {
        return (struct oscore_input){
                .alg = context->alg, .hkdf = context->hkdf,
                .master_secret = buf_bytes(&context->secret), .master_salt = buf_bytes(&context->salt),
                .id_context = context->has_id_context ? present(&context->id_context) : BYTES_NONE,
                .sender_id = present(server ? &context->server_id : &context->client_id),
                .recipient_id = present(server ? &context->client_id : &context->server_id),
        };
}

static void derive(const struct context *context, bool server, struct oscore_keys *ret) {
        const struct oscore_input input = input_of(context, server);

        assert_int_equal(oscore_derive(&input, ret), 0);
}

static void expect_bytes(const json_t *object, const char *path, struct bytes is) {
        _cleanup_(buf_done) struct buf wanted = vectors_bytes(object, path);

        if (!bytes_equal(buf_bytes(&wanted), is))
                fail_msg("%s differs", path);
}

static struct bytes key_bytes(const struct secret *key) {
        return secret_bytes(key);
}

/* ---- keys: OSC-001 … OSC-004 */

static void keys_of_the_rfc(void **state) {
        json_t *root = vectors_load("oscore-rfc8613"), *list = vectors_get(root, "key_derivation"), *item;
        size_t n;

        json_array_foreach(list, n, item) {
                const json_t *in = vectors_get(item, "input"), *out = vectors_get(item, "output");
                _cleanup_(context_done) struct context context = context_load(in, "aead_alg", "sender_id",
                                                                              "recipient_id");
                _cleanup_(oscore_keys_done) struct oscore_keys keys = {};

                derive(&context, false, &keys);
                expect_bytes(out, "sender_key", key_bytes(&keys.sender_key));
                expect_bytes(out, "recipient_key", key_bytes(&keys.recipient_key));
                expect_bytes(out, "common_iv", bytes_of(keys.common_iv, aead_info(keys.alg)->nonce_size));
        }
        assert_int_equal(n, 6);
        json_decref(root);
}

/* The GET of those contexts, under the lowest and the highest number. */
static void expect_get(const struct oscore_keys *keys, uint64_t piv, const json_t *out) {
        struct coap_message message = { .type = TYPE_CON, .code = CODE_GET };
        _cleanup_(buf_done) struct buf payload = BUF_INIT(DATAGRAM_MAX);
        struct oscore_outer outer = { .payload = BUF_INIT(DATAGRAM_MAX) };
        struct oscore_request request;

        assert_int_equal(coap_message_add(&message, OPTION_URI_PATH, BYTES_LITERAL("temp")), 0);
        assert_int_equal(oscore_protect_request(keys, piv, BYTES_NONE, &message, &outer, &request), 0);
        assert_int_equal(outer.message.n_options, 1);
        expect_bytes(out, "oscore_option", outer.message.options[0].value);
        expect_bytes(out, "ciphertext", outer.message.payload);
        buf_done(&outer.payload);
}

static void keys_of_all_algorithms(void **state) {
        json_t *root = vectors_load("oscore-computed"), *list = vectors_get(root, "contexts"), *item;
        unsigned n_done = 0;
        size_t n;

        json_array_foreach(list, n, item) {
                const json_t *in = vectors_get(item, "input"), *out = vectors_get(item, "output");
                _cleanup_(context_done) struct context context = context_load(in, "aead", "client_id", "server_id");
                _cleanup_(oscore_keys_done) struct oscore_keys client = {}, server = {};

                if (context.alg == AEAD_NONE)
                        continue; /* 11, 12 and 31 are none of ours */
                derive(&context, false, &client);
                derive(&context, true, &server);
                expect_bytes(out, "client_key", key_bytes(&client.sender_key));
                expect_bytes(out, "server_key", key_bytes(&client.recipient_key));
                expect_bytes(out, "client_key", key_bytes(&server.recipient_key));
                expect_bytes(out, "server_key", key_bytes(&server.sender_key));
                expect_bytes(out, "common_iv", bytes_of(client.common_iv, aead_info(client.alg)->nonce_size));
                expect_get(&client, 0, vectors_get(out, "get_temp_piv_0"));
                expect_get(&client, OSCORE_PIV_MAX, vectors_get(out, "get_temp_piv_max"));
                n_done++;
        }
        assert_int_equal(n_done, 8);
        json_decref(root);
}

static void contexts_that_are_refused(void **state) {
        static const uint8_t long_context[OSCORE_ID_CONTEXT_SIZE_MAX + 1];
        const struct oscore_input good = {
                .alg = AEAD_AES_CCM_16_64_128, .hkdf = OSCORE_HKDF_SHA256, .master_secret = BYTES_LITERAL("secret"),
                .sender_id = BYTES_LITERAL("1234567"), .recipient_id = BYTES_LITERAL(""),
        };
        struct oscore_input bad;
        struct oscore_keys keys;

        assert_int_equal(oscore_derive(&good, &keys), 0);
#define EXPECT_REFUSED(change)                                                                                         \
        do {                                                                                                           \
                bad = good;                                                                                            \
                bad.change;                                                                                            \
                assert_int_equal(oscore_derive(&bad, &keys), -EINVAL);                                                 \
        } while (0)
        EXPECT_REFUSED(alg = AEAD_NONE);
        EXPECT_REFUSED(hkdf = (enum oscore_hkdf)99);
        EXPECT_REFUSED(sender_id = BYTES_LITERAL("12345678"));
        EXPECT_REFUSED(recipient_id = BYTES_LITERAL("12345678"));
        EXPECT_REFUSED(alg = AEAD_A128GCM); /* whose nonce leaves six bytes */
        EXPECT_REFUSED(sender_id = BYTES_NONE);
        EXPECT_REFUSED(id_context = bytes_of(long_context, sizeof(long_context)));
#undef EXPECT_REFUSED
}

/* ---- the option: OSC-005, OSC-006 */

static void expect_part(const json_t *item, const char *path, struct bytes part) {
        assert_int_equal(vectors_has(item, path), part.data != NULL);
        if (part.data)
                expect_bytes(item, path, part);
}

static void options_of_the_rfc(void **state) {
        json_t *root = vectors_load("oscore-rfc8613"), *list = vectors_get(root, "option_compression"), *item;
        uint8_t value[OSCORE_OPTION_SIZE_MAX];
        size_t n;

        json_array_foreach(list, n, item) {
                _cleanup_(buf_done) struct buf wanted = vectors_bytes(item, "oscore_option");
                struct oscore_option option;

                assert_int_equal(oscore_option_decode(buf_bytes(&wanted), &option), 0);
                expect_part(item, "decoded.partial_iv", option.piv);
                expect_part(item, "decoded.kid", option.kid);
                expect_part(item, "decoded.kid_context", option.kid_context);
                assert_true(bytes_equal(bytes_of(value, oscore_option_encode(&option, value)), buf_bytes(&wanted)));
        }
        assert_int_equal(n, 5);
        json_decref(root);
}

/* Malformed, or a request that lacks its number or its kid. */
static void malformed_options(void **state) {
        static const struct bytes others[] = { /* that no message has, requests and responses alike */
                BYTES_LITERAL("\x00"), BYTES_LITERAL("\x01\x14\xff"), BYTES_LITERAL("\x10\x00\xff"),
                BYTES_LITERAL("\x01"), BYTES_LITERAL("\x11\x14\x01"), BYTES_LITERAL("\x0a\x00\x14\xc1"),
                BYTES_LITERAL("\x0e\x01\x02\x03\x04\x05\x06"), BYTES_LITERAL("\x20"), BYTES_LITERAL("\x40"),
                BYTES_LITERAL("\x80"),
        };
        struct oscore_option ignored;
        json_t *root = vectors_load("oscore-rfc8613"), *list = vectors_get(root, "malformed_options"), *item;
        size_t n;

        json_array_foreach(list, n, item) {
                _cleanup_(buf_done) struct buf value = vectors_bytes(item, "option");
                struct oscore_option option;
                int r = oscore_option_decode(buf_bytes(&value), &option);

                if (r != REFUSE_MALFORMED && option.piv.data && option.kid.data)
                        fail_msg("%s", vectors_text(item, "reason"));
        }
        assert_int_equal(n, 12);
        json_decref(root);
        for (n = 0; n < N_ELEMENTS(others); n++)
                if (oscore_option_decode(others[n], &ignored) != REFUSE_MALFORMED)
                        fail_msg("other %zu", n);
}

/* RFC 9203 §3.2: the HMAC's number, not that of an HKDF (-10, -11). */
static void numbers_of_hkdfs(void **state) {
        assert_int_equal(oscore_hkdf_label(OSCORE_HKDF_SHA256), 5);
        assert_int_equal(oscore_hkdf_label(OSCORE_HKDF_SHA512), 7);
        assert_int_equal(oscore_hkdf_from_label(5), OSCORE_HKDF_SHA256);
        assert_int_equal(oscore_hkdf_from_label(7), OSCORE_HKDF_SHA512);
        for (int label = -12; label < 9; label++)
                if (label != 5 && label != 7)
                        assert_int_equal(oscore_hkdf_from_label(label), 0);
}

static void partial_ivs(void **state) {
        static const struct {
                uint64_t number;
                const char *hex;
        } cases[] = {
                { 0, "00" }, { 20, "14" }, { 255, "ff" }, { 256, "0100" }, { 65536, "010000" },
                { UINT64_C(1) << 32, "0100000000" }, { OSCORE_PIV_MAX, "ffffffffff" },
        };
        uint8_t piv[OSCORE_PIV_SIZE_MAX];
        char hex[2 * sizeof(piv) + 1];

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                size_t size = oscore_piv_encode(cases[i].number, piv);

                bytes_to_hex(bytes_of(piv, size), hex, sizeof(hex));
                assert_string_equal(hex, cases[i].hex);
                assert_int_equal(oscore_piv_decode(bytes_of(piv, size)), cases[i].number);
        }
}

/* ---- messages: OSC-008 … OSC-016 */

static struct coap_message decode(struct bytes datagram) {
        struct coap_message message;
        bool header_ok;

        assert_int_equal(coap_message_decode(datagram, &message, &header_ok), 0);
        return message;
}

static void expect_message(const json_t *object, const char *path, const struct coap_message *message) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT(DATAGRAM_MAX);

        assert_int_equal(coap_message_encode(message, &bytes), 0);
        expect_bytes(object, path, buf_bytes(&bytes));
}

static struct oscore_request request_of(const json_t *object, const char *kid, const char *piv) {
        _cleanup_(buf_done) struct buf id = vectors_bytes(object, kid), number = vectors_bytes(object, piv);
        struct oscore_request request = { .kid.size = id.size, .piv_size = number.size };

        assert_true(id.size <= sizeof(request.kid.data) && number.size <= sizeof(request.piv));
        if (id.size > 0)
                memcpy(request.kid.data, id.data, id.size);
        if (number.size > 0)
                memcpy(request.piv, number.data, number.size);
        return request;
}

static bool request_equal(const struct oscore_request *a, const struct oscore_request *b) {
        return bytes_equal(bytes_of(a->kid.data, a->kid.size), bytes_of(b->kid.data, b->kid.size)) &&
               bytes_equal(bytes_of(a->piv, a->piv_size), bytes_of(b->piv, b->piv_size));
}

/* What one side makes of the plain message is the protected one, and the other side reads that as the plain one. */
struct exchange {
        const struct oscore_keys *from, *to;
        struct bytes id_context; /* told in requests */
        struct bytes plain, protected;
        struct oscore_request request; /* it is or belongs to */
};

static void expect_protected(const struct exchange *exchange, const struct coap_message *plain,
                             const struct oscore_option *option) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT(DATAGRAM_MAX);
        struct oscore_outer outer = { .payload = BUF_INIT(DATAGRAM_MAX) };
        struct oscore_request request;
        uint64_t piv = oscore_piv_decode(option->piv);

        if (option->kid.data) {
                assert_int_equal(oscore_protect_request(exchange->from, piv, exchange->id_context, plain, &outer,
                                                        &request), 0);
                assert_true(request_equal(&request, &exchange->request));
        } else {
                assert_int_equal(oscore_protect_response(exchange->from, &exchange->request,
                                                         option->piv.data ? &piv : NULL, plain, &outer), 0);
        }
        assert_int_equal(coap_message_encode(&outer.message, &bytes), 0);
        assert_true(bytes_equal(buf_bytes(&bytes), exchange->protected));
        buf_done(&outer.payload);
}

static void expect_unprotected(const struct exchange *exchange, const struct coap_message *outer,
                               const struct oscore_option *option, struct coap_message *ret, struct buf *plain) {
        struct oscore_request request;

        if (option->kid.data) {
                assert_int_equal(oscore_unprotect_request(exchange->to, option, outer, plain, ret, &request), 0);
                assert_true(request_equal(&request, &exchange->request));
        } else {
                assert_int_equal(oscore_unprotect_response(exchange->to, &exchange->request, option, outer, plain,
                                                           ret), 0);
        }
}

/* Outside a notification has a number for proxies, inside none: the plain ones are as their receiver sees them. */
static struct coap_message with_outer_observe(struct coap_message plain, const struct coap_message *outer) {
        const struct coap_option *observe = coap_message_option(outer, OPTION_OBSERVE, 0);

        for (size_t i = 0; i < plain.n_options && observe; i++)
                if (plain.options[i].number == OPTION_OBSERVE)
                        plain.options[i].value = observe->value;
        return plain;
}

static void expect_exchange(const struct exchange *exchange) {
        struct coap_message outer = decode(exchange->protected), inner;
        struct coap_message plain = with_outer_observe(decode(exchange->plain), &outer);
        const struct coap_option *value = coap_message_option(&outer, OPTION_OSCORE, 0);
        _cleanup_(buf_done) struct buf held = BUF_INIT(DATAGRAM_MAX), again = BUF_INIT(DATAGRAM_MAX);
        struct oscore_option option;

        assert_non_null(value);
        assert_int_equal(oscore_option_decode(value->value, &option), 0);
        expect_protected(exchange, &plain, &option);
        expect_unprotected(exchange, &outer, &option, &inner, &held);
        assert_int_equal(coap_message_encode(&inner, &again), 0);
        assert_true(bytes_equal(buf_bytes(&again), exchange->plain));
}

static void messages_of_the_rfc(void **state) {
        json_t *root = vectors_load("oscore-rfc8613"), *list = vectors_get(root, "messages"), *item;
        size_t n;

        json_array_foreach(list, n, item) {
                bool is_request = strcmp(vectors_text(item, "kind"), "request") == 0;
                char name[16];
                const json_t *made = NULL;

                (void)snprintf(name, sizeof(name), "%s.1", vectors_text(item, "security_context"));
                made = vectors_get(vectors_find(vectors_get(root, "key_derivation"), name), "input");
                _cleanup_(context_done) struct context context = context_load(made, "aead_alg", "sender_id",
                                                                              "recipient_id");
                _cleanup_(oscore_keys_done) struct oscore_keys client = {}, server = {};
                _cleanup_(buf_done) struct buf plain = vectors_bytes(item, "input.unprotected_coap");
                _cleanup_(buf_done) struct buf protected = vectors_bytes(item, "output.protected_coap");

                derive(&context, false, &client);
                derive(&context, true, &server);
                expect_exchange(&(struct exchange){
                        .from = is_request ? &client : &server, .to = is_request ? &server : &client,
                        .id_context = context.has_id_context ? buf_bytes(&context.id_context) : BYTES_NONE,
                        .plain = buf_bytes(&plain), .protected = buf_bytes(&protected),
                        .request = request_of(vectors_get(item, "input"), "request_kid", "request_piv") });
        }
        assert_int_equal(n, 5);
        json_decref(root);
}

static void messages_of_all_kinds(void **state) {
        json_t *root = vectors_load("oscore-computed"), *list = vectors_get(root, "messages.list"), *item;
        _cleanup_(context_done) struct context context = context_load(vectors_get(root, "messages.context"), "aead",
                                                                      "client_id", "server_id");
        _cleanup_(oscore_keys_done) struct oscore_keys client = {}, server = {};
        size_t n;

        derive(&context, false, &client);
        derive(&context, true, &server);
        json_array_foreach(list, n, item) {
                bool from_client = strcmp(vectors_text(item, "sender"), "client") == 0;
                _cleanup_(buf_done) struct buf plain = vectors_bytes(item, "unprotected_coap");
                _cleanup_(buf_done) struct buf protected = vectors_bytes(item, "protected_coap");

                expect_exchange(&(struct exchange){
                        .from = from_client ? &client : &server, .to = from_client ? &server : &client,
                        .plain = buf_bytes(&plain), .protected = buf_bytes(&protected),
                        .request = request_of(item, "request_kid", "request_piv") });
        }
        assert_int_equal(n, 16);
        json_decref(root);
}

/* The world of the tests that follow: the request C.4 is for this server. */
struct world {
        json_t *root;
        struct oscore_keys client, server;
        struct buf datagram; /* the protected request */
        struct buf plain;    /* what it holds */
};

static void world_open(struct world *world) {
        const json_t *message;

        *world = (struct world){ .root = vectors_load("oscore-rfc8613") };
        _cleanup_(context_done) struct context context =
                context_load(vectors_get(world->root, "key_derivation.0.input"), "aead_alg", "sender_id",
                             "recipient_id");

        message = vectors_find(vectors_get(world->root, "messages"), "C.4");
        derive(&context, false, &world->client);
        derive(&context, true, &world->server);
        world->datagram = vectors_bytes(message, "output.protected_coap");
        world->plain = vectors_bytes(message, "input.unprotected_coap");
}

static void world_close(struct world *world) {
        oscore_keys_done(&world->client);
        oscore_keys_done(&world->server);
        buf_done(&world->datagram);
        buf_done(&world->plain);
        json_decref(world->root);
}

/* < 0, > 0 or 0: what becomes of the datagram, after the option of this value if there is one. */
static int take(const struct world *world, struct bytes datagram, struct coap_message *ret, struct buf *plain) {
        struct coap_message outer;
        struct oscore_option option;
        struct oscore_request request;
        const struct coap_option *value;
        bool header_ok;

        if (coap_message_decode(datagram, &outer, &header_ok) != 0)
                return REFUSE_MALFORMED;
        value = coap_message_option(&outer, OPTION_OSCORE, 0);
        if (!value || oscore_option_decode(value->value, &option) != 0 || !option.kid.data)
                return REFUSE_MALFORMED;
        return oscore_unprotect_request(&world->server, &option, &outer, plain, ret, &request);
}

/*
 * Every bit of the option and of what is encrypted counts, but for the kid, which is not in this one; what is outside
 * besides may change.
 */
static void every_bit_counts(void **state) {
        struct world world;
        struct coap_message inner;
        _cleanup_(buf_done) struct buf plain = BUF_INIT(DATAGRAM_MAX);
        size_t first;

        world_open(&world);
        assert_int_equal(take(&world, buf_bytes(&world.datagram), &inner, &plain), 0);
        first = (size_t)(bytes_find(buf_bytes(&world.datagram), BYTES_LITERAL("\x09\x14\xff")) - world.datagram.data);
        for (size_t bit = 8 * first; bit < 8 * world.datagram.size; bit++) {
                buf_clear(&plain);
                world.datagram.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
                if (take(&world, buf_bytes(&world.datagram), &inner, &plain) == 0)
                        fail_msg("bit %zu", bit);
                world.datagram.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (size_t size = 0; size < world.datagram.size; size++) {
                buf_clear(&plain);
                if (take(&world, bytes_of(world.datagram.data, size), &inner, &plain) == 0)
                        fail_msg("cut to %zu bytes", size);
        }
        world_close(&world);
}

/* Whatever is encrypted, by somebody who has the key, that is no request. */
static void bad_insides(void **state) {
        static const struct {
                const char *what;
                struct bytes plain;
        } cases[] = {
                { "an empty message", BYTES_LITERAL("\x00") },
                { "a reserved class", BYTES_LITERAL("\x20") },
                { "a response", BYTES_LITERAL("\x45") },
                { "an OSCORE option", BYTES_LITERAL("\x02\x92\x09\x14\xff\x00") },
                { "a payload marker alone", BYTES_LITERAL("\x01\xff") },
                { "an option that is cut", BYTES_LITERAL("\x01\xb4tv") },
                { "a reserved delta", BYTES_LITERAL("\x01\xf1x") },
        };
        /* C.4's nonce and AAD, as the vectors print them */
        static const uint8_t nonce[] = { 0x46, 0x22, 0xd4, 0xdd, 0x6d, 0x94, 0x41, 0x68, 0xee, 0xfb, 0x54, 0x98, 0x68 };
        static const uint8_t option_value[] = { 0x09, 0x14 };
        struct world world;

        world_open(&world);
        _cleanup_(buf_done) struct buf aad =
                vectors_bytes(vectors_find(vectors_get(world.root, "messages"), "C.4"), "output.aad");

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf plain = BUF_INIT(DATAGRAM_MAX);
                uint8_t cipher[64];
                struct coap_message outer = { .code = CODE_POST }, inner;
                struct oscore_option option;
                struct oscore_request request;

                assert_int_equal(aead_seal(AEAD_AES_CCM_16_64_128, secret_bytes(&world.client.sender_key),
                                           bytes_of(nonce, sizeof(nonce)), buf_bytes(&aad), cases[i].plain, cipher), 0);
                outer.payload = bytes_of(cipher, cases[i].plain.size + 8);
                assert_int_equal(oscore_option_decode(bytes_of(option_value, sizeof(option_value)), &option), 0);
                if (oscore_unprotect_request(&world.server, &option, &outer, &plain, &inner, &request) !=
                    REFUSE_MALFORMED)
                        fail_msg("%s", cases[i].what);
        }
        world_close(&world);
}

/* Outer code and outer Class E options count for nothing; a tag that is wrong does. */
static void mutations(void **state) {
        static const int wanted[] = { 0, 0, -EBADMSG };
        json_t *root = vectors_load("oscore-computed"), *list = vectors_get(root, "mutations");
        _cleanup_(context_done) struct context context = context_load(vectors_get(root, "messages.context"), "aead",
                                                                      "client_id", "server_id");
        const json_t *original = vectors_find(vectors_get(root, "messages.list"), "2.01 with payload");
        const struct oscore_request request = request_of(original, "request_kid", "request_piv");
        struct oscore_keys client = {};

        derive(&context, false, &client);
        for (size_t i = 0; i < N_ELEMENTS(wanted); i++) {
                const json_t *item = json_array_get(list, i);
                _cleanup_(buf_done) struct buf bytes = vectors_bytes(item, "protected_coap");
                _cleanup_(buf_done) struct buf plain = BUF_INIT(DATAGRAM_MAX);
                struct coap_message outer = decode(buf_bytes(&bytes)), inner;
                struct oscore_option option;

                assert_int_equal(oscore_option_decode(coap_message_option(&outer, OPTION_OSCORE, 0)->value, &option),
                                 0);
                assert_int_equal(oscore_unprotect_response(&client, &request, &option, &outer, &plain, &inner),
                                 wanted[i]);
                if (wanted[i] == 0)
                        expect_message(original, "unprotected_coap", &inner);
        }
        oscore_keys_done(&client);
        json_decref(root);
}

/* An answer to one request does not open as that to another (OSC-042); numbers and nesting beyond the limits. */
static void what_does_not_belong(void **state) {
        struct world world;
        struct coap_message answer = { .code = CODE_CONTENT, .payload = BYTES_LITERAL("x") }, inner;
        struct oscore_outer outer = { .payload = BUF_INIT(DATAGRAM_MAX) };
        _cleanup_(buf_done) struct buf plain = BUF_INIT(DATAGRAM_MAX);
        const struct oscore_request one = { .piv_size = 1, .piv = { 1 } }, two = { .piv_size = 1, .piv = { 2 } };
        const uint64_t beyond = OSCORE_PIV_MAX + 1;
        struct oscore_request request;
        const struct oscore_option none = {};

        world_open(&world);
        assert_int_equal(oscore_protect_response(&world.server, &one, NULL, &answer, &outer), 0);
        assert_int_equal(oscore_unprotect_response(&world.client, &two, &none, &outer.message, &plain, &inner),
                         -EBADMSG);
        assert_int_equal(oscore_unprotect_response(&world.client, &one, &none, &outer.message, &plain, &inner), 0);
        assert_int_equal(oscore_protect_response(&world.server, &one, &beyond, &answer, &outer), -EINVAL);
        assert_int_equal(oscore_protect_response(&world.server, &one, NULL, &(struct coap_message){ .code = CODE_GET },
                                                 &outer), 0); /* no response inside */
        buf_clear(&plain);
        assert_int_equal(oscore_unprotect_response(&world.client, &one, &none, &outer.message, &plain, &inner),
                         REFUSE_MALFORMED);
        assert_int_equal(oscore_protect_request(&world.client, beyond, BYTES_NONE, &answer, &outer, &request), -EINVAL);
        assert_int_equal(coap_message_add(&answer, OPTION_OSCORE, BYTES_NONE), 0);
        assert_int_equal(oscore_protect_response(&world.server, &one, NULL, &answer, &outer), -EINVAL);
        buf_done(&outer.payload);
        world_close(&world);
}

/* ---- the replay window: OSC-023 */

static void replay_window(void **state) {
        json_t *root = vectors_load("oscore-computed"), *steps = vectors_get(root, "replay_window_32.steps"), *step;
        struct oscore_window window = {};
        size_t n;

        json_array_foreach(steps, n, step) {
                uint64_t piv = (uint64_t)vectors_number(step, "partial_iv");
                bool wanted = json_is_true(vectors_get(step, "accept"));

                if (oscore_window_accepts(&window, piv) != wanted)
                        fail_msg("step %zu: %llu", n, (unsigned long long)piv);
                if (wanted)
                        oscore_window_mark(&window, piv);
        }
        assert_int_equal(n, 22);
        assert_false(oscore_window_accepts(&window, OSCORE_PIV_MAX + 1));
        json_decref(root);
}

/* How far behind the highest it may be, it is taken once; further behind, never. */
static void replay_window_behind(void **state) {
        for (uint64_t behind = 0; behind < 3 * OSCORE_WINDOW; behind++) {
                struct oscore_window window = {};

                oscore_window_mark(&window, 1000);
                assert_int_equal(oscore_window_accepts(&window, 1000 - behind), behind > 0 && behind < OSCORE_WINDOW);
                oscore_window_mark(&window, 1000 - behind);
                assert_false(oscore_window_accepts(&window, 1000 - behind));
                assert_false(oscore_window_accepts(&window, 1000));
                assert_true(oscore_window_accepts(&window, 1001));
                oscore_window_mark(&window, 1000 + behind); /* which forgets none that may still come */
                assert_false(oscore_window_accepts(&window, 1000));
                assert_false(oscore_window_accepts(&window, 1000 + behind));
        }
}

/* Against a set without a window: what is accepted was never accepted before, and only what is old is refused. */
static void replay_window_at_random(void **state) {
        struct oscore_window window = {};
        bool seen[512] = {};
        uint32_t random = 1, highest = 0;

        for (unsigned i = 0; i < 20000; i++) {
                uint32_t piv;
                bool accepts;

                random = random * 1664525 + 1013904223;
                piv = (random >> 16) % (i / 50 + 1);
                accepts = oscore_window_accepts(&window, piv);
                assert_int_equal(accepts, !seen[piv] && piv + OSCORE_WINDOW > highest);
                if (!accepts)
                        continue;
                oscore_window_mark(&window, piv);
                seen[piv] = true;
                highest = piv > highest ? piv : highest;
        }
        assert_true(highest > 300);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(keys_of_the_rfc),
                cmocka_unit_test(keys_of_all_algorithms),
                cmocka_unit_test(contexts_that_are_refused),
                cmocka_unit_test(options_of_the_rfc),
                cmocka_unit_test(malformed_options),
                cmocka_unit_test(numbers_of_hkdfs),
                cmocka_unit_test(partial_ivs),
                cmocka_unit_test(messages_of_the_rfc),
                cmocka_unit_test(messages_of_all_kinds),
                cmocka_unit_test(every_bit_counts),
                cmocka_unit_test(bad_insides),
                cmocka_unit_test(mutations),
                cmocka_unit_test(what_does_not_belong),
                cmocka_unit_test(replay_window),
                cmocka_unit_test(replay_window_behind),
                cmocka_unit_test(replay_window_at_random),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
