/*
 * Renewal of OSCORE contexts (RFC 8613 Appendix B.2): kid contexts and what is inside of messages as somebody chooses
 * who has the Master Secret, against a server; and responses against a client. Nothing is acted upon but under an R2
 * that the server has made, once.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "fuzz.h"
#include "transport/oscore.h"

#define MESSAGE_MAX (FUZZ_GUARDED_MAX + 1024)
#define RUNS_MAX 8

static const struct oscore_input server_input = {
        .alg = AEAD_AES_CCM_16_64_128, .hkdf = OSCORE_HKDF_SHA256, .master_secret = BYTES_LITERAL("the secret of both"),
        .sender_id = BYTES_LITERAL("\x01"), .recipient_id = BYTES_LITERAL("\x02"),
};

static struct oscore_input client_input(void) {
        struct oscore_input input = server_input;

        input.sender_id = server_input.recipient_id;
        input.recipient_id = server_input.sender_id;
        return input;
}

/* ---- the server */

struct place {
        struct oscore *oscore;
        struct engine_time now;
        size_t id_context_size; /* in force; 0: none */
        uint8_t id_context[OSCORE_ID_CONTEXT_SIZE_MAX];
        unsigned n_renewed;
        struct bytes last_r2; /* borrowed from: */
        uint8_t r2[OSCORE_R2_SIZE];
};

static int load(void *context, struct bytes kid, int (*found)(void *context, const struct oscore_context *loaded),
                void *found_context) {
        struct place *place = context;
        struct oscore_context loaded = { .credential_id = 1, .client_id = 1, .renews = true, .input = server_input };

        if (place->id_context_size > 0)
                loaded.input.id_context = bytes_of(place->id_context, place->id_context_size);
        return bytes_equal(kid, server_input.recipient_id) ? found(found_context, &loaded) : 0;
}

static int lease(void *context, uint64_t n, uint64_t *ret_first) {
        *ret_first = 0;
        return 0;
}

static uint64_t zero(void *context) {
        return 0;
}

static int renew(void *context, int64_t credential_id, struct bytes id_context) {
        struct place *place = context;

        MUST(credential_id == 1 && id_context.size <= sizeof(place->id_context));
        /* by an R2 of ours, which is then of no use any more */
        MUST(place->last_r2.size > 0 && id_context.size >= OSCORE_R2_SIZE + OSCORE_R_SIZE_MIN);
        MUST(bytes_equal(place->last_r2, bytes_of(id_context.data, OSCORE_R2_SIZE)));
        place->last_r2 = BYTES_NONE;
        memcpy(place->id_context, id_context.data, id_context.size);
        place->id_context_size = id_context.size;
        place->n_renewed++;
        return 0;
}

/* The bytes of what is inside, encrypted under this ID Context as request number 0. */
static struct coap_message encrypt(struct bytes id_context, struct bytes inside, struct buf *cipher) {
        static const uint8_t aad[] = { 0x83, 0x68, 'E', 'n', 'c', 'r', 'y', 'p', 't', '0', 0x40, 0x49,
                                       0x85, 0x01, 0x81, 0x0a, 0x41, 0x02, 0x41, 0x00, 0x40 };
        const struct oscore_input input = client_input();
        struct coap_message outer = { .code = CODE_POST };
        struct oscore_keys keys;
        uint8_t nonce[13], *space;

        MUST(oscore_derive_under(&input, id_context, BYTES_NONE, &keys) == 0);
        memcpy(nonce, keys.common_iv, sizeof(nonce));
        nonce[0] ^= 1; /* the size of the ID, which is 2 */
        nonce[sizeof(nonce) - OSCORE_PIV_SIZE_MAX - 1] ^= 2;
        MUST(buf_reserve(cipher, inside.size + 8, &space) == 0);
        MUST(aead_seal(keys.alg, secret_bytes(&keys.sender_key), bytes_of(nonce, sizeof(nonce)),
                       bytes_of(aad, sizeof(aad)), inside, space) == 0);
        outer.payload = bytes_of(space, inside.size + 8);
        oscore_keys_done(&keys);
        return outer;
}

static void hear_response_1(struct place *place, struct oscore_taken *taken, struct bytes id_context) {
        struct oscore_renewing renewing = { .id_context_size = id_context.size };
        const uint8_t r3[OSCORE_RENEWING_R_SIZE] = "and an R";
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        const struct oscore_input input = client_input();
        struct oscore_keys keys;

        MUST(taken->inner.code == CODE_UNAUTHORIZED && id_context.size + OSCORE_R2_SIZE <= sizeof(renewing.id_context));
        MUST(oscore_protect(place->oscore, &taken->binding, false, &taken->inner, &outer) == 0);
        memcpy(renewing.id_context, id_context.data, id_context.size);
        MUST(oscore_renewing_heard(&renewing, &input, &taken->binding.request, &outer.message, r3, &keys) == 0);
        memcpy(place->r2, renewing.id_context, OSCORE_R2_SIZE);
        place->last_r2 = bytes_of(place->r2, OSCORE_R2_SIZE);
        oscore_keys_done(&keys);
        buf_done(&outer.payload);
}

/* One request: an ID Context, perhaps with the last R2 before it, wrapped or not, and what is inside. */
static void take_request(struct place *place, struct bytes *in) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX), cipher = BUF_INIT(MESSAGE_MAX);
        struct oscore_option option = { .piv = BYTES_LITERAL("\x00"), .kid = server_input.recipient_id };
        uint8_t how = fuzz_take_byte(in), id_context[2 * OSCORE_ID_CONTEXT_SIZE_MAX];
        uint8_t kid_context[OSCORE_KID_CONTEXT_SIZE_MAX], value[OSCORE_OPTION_SIZE_MAX];
        struct bytes part = fuzz_take(in, fuzz_take_byte(in) % (OSCORE_ID_CONTEXT_SIZE_MAX + 1));
        unsigned n_renewed = place->n_renewed;
        struct oscore_taken taken;
        enum oscore_verdict verdict;
        struct coap_message outer;
        size_t size = 0;

        if (how & 1 && place->last_r2.size > 0) {
                memcpy(id_context, place->last_r2.data, place->last_r2.size);
                size = place->last_r2.size;
        }
        if (part.size > 0)
                memcpy(id_context + size, part.data, part.size);
        size += part.size;
        if (size > OSCORE_ID_CONTEXT_SIZE_MAX)
                size = OSCORE_ID_CONTEXT_SIZE_MAX;
        option.kid_context = how & 2 ? bytes_of(id_context, size) :
                             bytes_of(kid_context, oscore_kid_context_wrap(bytes_of(id_context, size), kid_context));
        outer = encrypt(bytes_of(id_context, size), fuzz_take(in, fuzz_take_byte(in)), &cipher);
        MUST(coap_message_add(&outer, OPTION_OSCORE, bytes_of(value, oscore_option_encode(&option, value))) == 0);
        place->now.monotonic_us += how & 4 ? OSCORE_ECHO_LIFE_US : 0;
        verdict = oscore_take(place->oscore, &outer, place->now, &plain, &taken);
        MUST(verdict != OSCORE_DROP);
        MUST((verdict == OSCORE_REQUEST) == (place->n_renewed != n_renewed));
        if (verdict == OSCORE_ECHO && taken.binding.renewal != 0)
                hear_response_1(place, &taken, bytes_of(id_context, size));
}

static void ask_server(struct bytes in) {
        struct place place = { .now.monotonic_us = OSCORE_ECHO_LIFE_US };
        const struct oscore_callbacks callbacks = {
                .context = &place, .load = load, .lease = lease, .epoch = zero, .renew = renew, .generation = zero };

        MUST(oscore_new(&callbacks, 1, &place.oscore) == 0);
        for (unsigned run = 0; run < RUNS_MAX && in.size > 0; run++)
                take_request(&place, &in);
        oscore_free(place.oscore);
}

/* ---- the client */

static void answer_client(struct bytes in) {
        const uint8_t r1[OSCORE_RENEWING_R_SIZE] = "some R 1", r3[OSCORE_RENEWING_R_SIZE] = "some R 3";
        const struct oscore_request request = { .kid = { 1, "\x02" }, .piv_size = 1 };
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        const struct oscore_input input = client_input();
        const struct bytes kid_context = fuzz_take(&in, fuzz_take_byte(&in) % (OSCORE_KID_CONTEXT_SIZE_MAX + 1));
        const struct coap_message inner = { .code = fuzz_take_byte(&in), .payload = in };
        struct bytes r2 = BYTES_NONE;
        struct oscore_renewing renewing;
        struct oscore_keys keys, second;
        bool is_r2;
        int r;

        MUST(oscore_renewing_begin(&renewing, &input, r1, &keys) == 0);
        is_r2 = oscore_kid_context_unwrap(kid_context, &r2) && r2.size >= OSCORE_R_SIZE_MIN &&
                r2.size + sizeof(r1) <= OSCORE_ID_CONTEXT_SIZE_MAX;
        MUST(oscore_derive_under(&server_input, is_r2 ? r2 : BYTES_NONE, bytes_of(r1, sizeof(r1)), &second) == 0);
        r = oscore_protect_renewing(&second, &request, kid_context, &inner, &outer);
        if (r == 0) {
                r = oscore_renewing_heard(&renewing, &input, &request, &outer.message, r3, &keys);
                MUST((r == 0) == (is_r2 && inner.code == CODE_UNAUTHORIZED));
                MUST(r == 0 || r == -EBADMSG || r == REFUSE_MALFORMED);
                MUST(renewing.id_context_size == (r == 0 ? r2.size + sizeof(r3) : sizeof(r1)));
        }
        oscore_keys_done(&second);
        oscore_keys_done(&keys);
        buf_done(&outer.payload);
}

/* The first byte: whom the rest is for. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes in = fuzz_guarded(bytes_of(data, size));

        if (fuzz_take_byte(&in) % 2 == 0)
                ask_server(in);
        else
                answer_client(in);
        return 0;
}
