/*
 * OSCORE: options and protected requests as received, and what is inside of one that authenticates; what came out is
 * protected again and must come out as before.
 */

#include <errno.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/oscore.h"
#include "fuzz.h"

#define MESSAGE_MAX (FUZZ_GUARDED_MAX + 1024)

/* RFC 8613 C.1, C.4: the context, and what a request with number 20 is encrypted under. */
static const uint8_t secret[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
static const uint8_t salt[] = { 0x9e, 0x7c, 0xa9, 0x22, 0x23, 0x78, 0x63, 0x40 };
static const uint8_t nonce[] = { 0x46, 0x22, 0xd4, 0xdd, 0x6d, 0x94, 0x41, 0x68, 0xee, 0xfb, 0x54, 0x98, 0x68 };
static const uint8_t aad[] = { 0x83, 0x68, 'E', 'n', 'c', 'r', 'y', 'p', 't', '0', 0x40, 0x48,
                               0x85, 0x01, 0x81, 0x0a, 0x40, 0x41, 0x14, 0x40 };
static const uint8_t option_value[] = { 0x09, 0x14 };

static void derive(struct bytes sender, struct bytes recipient, struct oscore_keys *ret) {
        const struct oscore_input input = {
                .alg = AEAD_AES_CCM_16_64_128, .hkdf = OSCORE_HKDF_SHA256,
                .master_secret = bytes_of(secret, sizeof(secret)), .master_salt = bytes_of(salt, sizeof(salt)),
                .sender_id = sender, .recipient_id = recipient,
        };

        MUST(oscore_derive(&input, ret) == 0);
}

static bool option_equal(const struct coap_option *a, const struct coap_option *b) {
        return a->number == b->number && bytes_equal(a->value, b->value);
}

static void protect_again(const struct oscore_keys *client, const struct oscore_keys *server,
                          const struct coap_message *message) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        struct oscore_request request, heard;
        struct oscore_option option;
        struct coap_message again;
        int r = oscore_protect_request(client, 7, BYTES_NONE, message, &outer, &request);

        /* one option more than a message may have */
        MUST(r == 0 || (r == -EOVERFLOW && message->n_options == COAP_OPTIONS_MAX));
        if (r == 0) {
                MUST(oscore_option_decode(coap_message_option(&outer.message, OPTION_OSCORE, 0)->value, &option) == 0);
                MUST(oscore_unprotect_request(server, &option, &outer.message, &plain, &again, &heard) == 0);
                MUST(again.code == message->code && again.n_options >= message->n_options);
                MUST(bytes_equal(again.payload, message->payload));
                for (size_t i = 0; again.n_options == message->n_options && i < again.n_options; i++)
                        MUST(option_equal(&again.options[i], &message->options[i]));
        }
        buf_done(&outer.payload);
}

static void take_datagram(const struct oscore_keys *server, struct bytes datagram) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);
        const struct coap_option *value;
        struct oscore_request request;
        struct oscore_option option;
        struct coap_message outer, inner;
        bool header_ok;

        if (coap_message_decode(datagram, &outer, &header_ok) != 0)
                return;
        value = coap_message_option(&outer, OPTION_OSCORE, 0);
        if (!value || oscore_option_decode(value->value, &option) != 0)
                return;
        (void)oscore_unprotect_request(server, &option, &outer, &plain, &inner, &request);
}

static void take_inside(const struct oscore_keys *client, const struct oscore_keys *server, struct bytes inside) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX), cipher = BUF_INIT(MESSAGE_MAX);
        struct coap_message outer = { .code = CODE_POST }, inner;
        struct oscore_request request;
        struct oscore_option option;
        uint8_t *space;
        int r;

        MUST(buf_reserve(&cipher, inside.size + 8, &space) == 0);
        MUST(aead_seal(AEAD_AES_CCM_16_64_128, secret_bytes(&client->sender_key), bytes_of(nonce, sizeof(nonce)),
                       bytes_of(aad, sizeof(aad)), inside, space) == 0);
        outer.payload = bytes_of(space, inside.size + 8);
        MUST(oscore_option_decode(bytes_of(option_value, sizeof(option_value)), &option) == 0);
        r = oscore_unprotect_request(server, &option, &outer, &plain, &inner, &request);
        MUST(r == 0 || r == REFUSE_MALFORMED || (r == -EBADMSG && inside.size == 0));
        if (r == 0)
                protect_again(client, server, &inner);
}

static void take_option(struct bytes value) {
        uint8_t again[OSCORE_OPTION_SIZE_MAX];
        struct oscore_option option;

        if (oscore_option_decode(value, &option) != 0 || option.kid_context.size > OSCORE_ID_CONTEXT_SIZE_MAX ||
            option.kid.size > OSCORE_ID_SIZE_MAX)
                return;
        MUST(bytes_equal(bytes_of(again, oscore_option_encode(&option, again)), value));
}

/* The first byte: what the rest is. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes in = fuzz_guarded(bytes_of(data, size));
        struct oscore_keys client, server;

        derive(BYTES_NONE, BYTES_LITERAL("\x01"), &client);
        derive(BYTES_LITERAL("\x01"), BYTES_NONE, &server);
        switch (fuzz_take_byte(&in) % 3) {
        case 0:
                take_datagram(&server, in);
                break;
        case 1:
                take_inside(&client, &server, in);
                break;
        default:
                take_option(in);
        }
        oscore_keys_done(&client);
        oscore_keys_done(&server);
        return 0;
}
