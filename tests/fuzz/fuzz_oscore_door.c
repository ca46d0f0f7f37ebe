/*
 * The coap door again, to parties that speak OSCORE: datagrams as they come, and messages that the target protects
 * around what the input says is inside. Under no key a nonce is used for two messages; what is said unprotected is at
 * most three times what was asked; and in the end who has a context is served, and who has none as well.
 *
 * A step is a byte: address (2 bits), batch afterwards, 16-bit length, protected, time (3 bits). When protected a byte
 * more: context (2 bits; the fourth is the second being renewed, Appendix B.2), number (2 bits), with the last Echo,
 * non-confirmable, in outer blocks, bent; and a byte for each number that is not the next, and for what is bent. Then a
 * length; and what is inside, or the datagram.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "format/oscore.h"
#include "fuzz.h"
#include "strangers.h"
#include "support/parties.h"
#include "world.h"

#define STEPS_MAX 256
#define SPENT_MAX 4096
#define PIV_SIZE OSCORE_PIV_SIZE_MAX
#define TAG_SIZE 8
#define TOKEN_SIZE (3 + PIV_SIZE) /* context, which keys of it, size of the Partial IV, Partial IV */
#define BLOCK_SIZE 32
#define BLOCK_SZX 1
#define ECHO_MAX 40
#define RENEWAL WORLD_CONTEXTS /* what becomes the context WORLD_RENEWS */
#define CONTEXTS (WORLD_CONTEXTS + 1)
#define R_SIZE 8

enum number { NEXT, SAME, AHEAD, BACK };

struct context {
        struct oscore_keys keys;
        uint64_t number; /* the next, and with that the highest so far */
        uint8_t epoch;   /* counts keys */
        size_t echo_size;
        uint8_t echo[ECHO_MAX];
};

/* What the device sends next: request 1 under R1, or request 2 under R2 and R3. */
struct renewal {
        bool has_r2;
        size_t id_context_size;
        uint8_t id_context[OSCORE_ID_CONTEXT_SIZE_MAX];
};

/* What was encrypted to us under a nonce, or rather: under which number, of whom, of which context. */
struct spent {
        unsigned context, epoch;
        bool is_own;
        uint64_t number, digest;
};

struct scene {
        struct world world;
        struct context contexts[CONTEXTS];
        struct renewal renewal;
        uint8_t n_rs;
        struct spent spent[SPENT_MAX];
        size_t n_spent;
        struct strangers strangers;
        uint16_t mid;
        bool is_served_protected;
};

/* ---- nonces */

static uint64_t digest_of(struct bytes bytes) {
        uint64_t hash = UINT64_C(14695981039346656037);

        for (size_t i = 0; i < bytes.size; i++)
                hash = (hash ^ bytes.data[i]) * UINT64_C(1099511628211);
        return hash;
}

static void spend(struct scene *scene, const struct spent *spent) {
        for (size_t i = 0; i < scene->n_spent; i++) {
                const struct spent *one = &scene->spent[i];

                if (one->context == spent->context && one->epoch == spent->epoch && one->is_own == spent->is_own &&
                    one->number == spent->number) {
                        MUST(one->digest == spent->digest);
                        return;
                }
        }
        if (scene->n_spent < SPENT_MAX)
                scene->spent[scene->n_spent++] = *spent;
}

/* ---- renewal */

static void take_keys(struct scene *scene, struct context *context) {
        const struct renewal *renewal = &scene->renewal;

        oscore_keys_done(&context->keys);
        world_context(WORLD_RENEWS, bytes_of(renewal->id_context, renewal->id_context_size), &context->keys);
        context->number = context->echo_size = 0;
        context->epoch++;
}

/* An ID Context that never was before: R1, or what was heard and R3. */
static void renewal_go_on(struct scene *scene, struct bytes r2) {
        struct renewal *renewal = &scene->renewal;

        *renewal = (struct renewal){ .has_r2 = r2.data, .id_context_size = r2.size + R_SIZE };
        if (r2.size > 0)
                memcpy(renewal->id_context, r2.data, r2.size);
        memset(renewal->id_context + r2.size, ++scene->n_rs, R_SIZE);
        take_keys(scene, &scene->contexts[RENEWAL]);
}

/* Response 1 is in a context of its own. */
static void hear_response_1(struct scene *scene, const struct oscore_request *request,
                            const struct oscore_option *option, const struct coap_message *outer) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(FUZZ_GUARDED_MAX);
        uint8_t id_context[2 * OSCORE_ID_CONTEXT_SIZE_MAX];
        const struct renewal *renewal = &scene->renewal;
        struct coap_message inner;
        struct oscore_keys keys;
        struct bytes r2;

        MUST(oscore_kid_context_unwrap(option->kid_context, &r2) && r2.size >= R_SIZE);
        memcpy(id_context, r2.data, r2.size);
        memcpy(id_context + r2.size, renewal->id_context, renewal->id_context_size);
        world_context(WORLD_RENEWS, bytes_of(id_context, r2.size + renewal->id_context_size), &keys);
        MUST(oscore_unprotect_response(&keys, request, option, outer, &plain, &inner) == 0);
        MUST(inner.code == CODE_UNAUTHORIZED);
        oscore_keys_done(&keys);
        renewal_go_on(scene, r2);
}

/* A response under the new keys was heard: they are in force. */
static void renewal_end(struct scene *scene) {
        struct context *context = &scene->contexts[WORLD_RENEWS];
        uint64_t number = scene->contexts[RENEWAL].number;

        take_keys(scene, context);
        context->number = number;
        renewal_go_on(scene, BYTES_NONE);
}

/* ---- what is heard, protected */

/* Which request it answers is in the token. */
static bool read_token(const struct scene *scene, struct bytes token, struct oscore_request *ret) {
        const struct context *context;

        MUST(token.size == TOKEN_SIZE && token.data[0] < CONTEXTS);
        context = &scene->contexts[token.data[0]];
        *ret = (struct oscore_request){ .kid = context->keys.sender_id, .piv_size = token.data[2] };
        memcpy(ret->piv, token.data + 3, ret->piv_size);
        return token.data[1] == context->epoch;
}

static void hear_inner(struct scene *scene, struct context *context, const struct oscore_option *option,
                       const struct coap_message *inner) {
        const struct coap_option *echo = coap_message_option(inner, OPTION_ECHO, 0);

        MUST(inner->code >> 5 == 2 || inner->code >> 5 == 4 || inner->code >> 5 == 5);
        MUST(inner->code != CODE_INTERNAL_ERROR);
        scene->is_served_protected = inner->code == CODE_CONTENT && inner->payload.size > 0;
        if (!echo || inner->code != CODE_UNAUTHORIZED)
                return;
        MUST(option->piv.data && inner->n_options == 1 && inner->payload.size == 0);
        context->echo_size = echo->value.size;
        memcpy(context->echo, echo->value.data, echo->value.size);
}

static void hear_protected(struct scene *scene, const struct coap_message *outer) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(FUZZ_GUARDED_MAX);
        struct context *context;
        struct oscore_request request;
        struct oscore_option option;
        struct coap_message inner;

        MUST(outer->code == CODE_CHANGED || outer->code == CODE_CONTENT);
        MUST(oscore_option_decode(coap_message_option(outer, OPTION_OSCORE, 0)->value, &option) == 0);
        if (!read_token(scene, outer->token, &request))
                return; /* to keys that are gone */
        context = &scene->contexts[outer->token.data[0]];
        if (option.kid_context.data) {
                MUST(context == &scene->contexts[RENEWAL]);
                hear_response_1(scene, &request, &option, outer);
                return;
        }
        MUST(oscore_unprotect_response(&context->keys, &request, &option, outer, &plain, &inner) == 0);
        spend(scene, &(struct spent){
                .context = outer->token.data[0], .epoch = context->epoch, .is_own = option.piv.data,
                .number = oscore_piv_decode(option.piv.data ? option.piv : bytes_of(request.piv, request.piv_size)),
                .digest = digest_of(outer->payload) });
        hear_inner(scene, context, &option, &inner);
        if (context == &scene->contexts[RENEWAL])
                renewal_end(scene);
}

/* ---- what is heard at all */

static void hear(void *context, const struct datagram *datagram) {
        struct scene *scene = context;
        struct coap_message message;

        world_must_be_answer(datagram->data, &message);
        if (coap_message_option(&message, OPTION_OSCORE, 0))
                hear_protected(scene, &message);
        else if (strangers_hear(&scene->strangers, datagram, &message))
                MUST(message.code != CODE_CREATED && message.code != CODE_CHANGED && message.code != CODE_DELETED);
}

/* ---- what is said */

static void say(struct scene *scene, unsigned address, struct bytes datagram) {
        strangers_say(&scene->strangers, &scene->world, address, datagram);
}

/* RFC 8613 §5.2 to §5.4 around any bytes, whether they are a message or not. */
static void seal(const struct oscore_keys *keys, struct bytes piv, struct bytes plain, struct buf *ret) {
        uint8_t nonce[AEAD_NONCE_SIZE_MAX] = { (uint8_t)keys->sender_id.size }, aad[64], *space;
        size_t n = 0, at = sizeof(nonce) - PIV_SIZE - keys->sender_id.size;
        const uint8_t array[] = { 0x85, 1, 0x81, 10, (uint8_t)(0x40 | keys->sender_id.size) };
        size_t size = sizeof(array) + keys->sender_id.size + 1 + piv.size + 1;

        memcpy(nonce + at, keys->sender_id.data, keys->sender_id.size);
        memcpy(nonce + sizeof(nonce) - piv.size, piv.data, piv.size);
        for (size_t i = 0; i < sizeof(nonce); i++)
                nonce[i] ^= keys->common_iv[i];
        memcpy(aad, "\x83\x68" "Encrypt0\x40", 11);
        n = 11;
        aad[n++] = (uint8_t)(0x40 | size);
        memcpy(aad + n, array, sizeof(array));
        n += sizeof(array);
        memcpy(aad + n, keys->sender_id.data, keys->sender_id.size);
        n += keys->sender_id.size;
        aad[n++] = (uint8_t)(0x40 | piv.size);
        memcpy(aad + n, piv.data, piv.size);
        n += piv.size;
        aad[n++] = 0x40;
        MUST(buf_reserve(ret, plain.size + TAG_SIZE, &space) == 0);
        MUST(aead_seal(keys->alg, secret_bytes(&keys->sender_key), bytes_of(nonce, sizeof(nonce)), bytes_of(aad, n),
                       plain, space) == 0);
        ret->size += plain.size + TAG_SIZE;
}

/* The same with the Echo that was heard last, when that makes sense; else as it is. */
static struct bytes add_echo(const struct context *context, struct bytes plain, struct buf *scratch) {
        struct coap_message inner;

        if (coap_inner_decode(plain, &inner) != 0 ||
            coap_message_add(&inner, OPTION_ECHO, bytes_of(context->echo, context->echo_size)) != 0 ||
            coap_inner_encode(&inner, scratch) != 0)
                return plain;
        return buf_bytes(scratch);
}

static bool observes(struct bytes plain) {
        struct coap_message inner;

        return coap_inner_decode(plain, &inner) == 0 && coap_message_option(&inner, OPTION_OBSERVE, 0);
}

/* Behind the token, by which answers are known. */
static void bend(struct buf *datagram, struct bytes *in) {
        size_t bit = fuzz_take_u16(in), header = 4 + TOKEN_SIZE;

        datagram->data[header + bit / 8 % (datagram->size - header)] ^= (uint8_t)(1 << bit % 8);
}

struct how {
        unsigned address, context;
        uint64_t number;
        bool echoes, is_non, in_blocks, is_bent;
};

/* As a relay with small datagrams sends it on (RFC 8613 §4.1.3.4.2), or in one piece. */
static void say_outer(struct scene *scene, const struct how *how, const struct coap_message *outer, struct bytes *in) {
        size_t step = how->in_blocks ? BLOCK_SIZE : outer->payload.size;

        for (size_t at = 0; at < outer->payload.size; at += step) {
                _cleanup_(buf_done) struct buf datagram = BUF_INIT(FUZZ_GUARDED_MAX);
                bool more = outer->payload.size - at > step;
                struct coap_message piece = *outer;
                uint8_t scratch[4];

                piece.mid = ++scene->mid;
                piece.payload = bytes_of(outer->payload.data + at, more ? step : outer->payload.size - at);
                if (how->in_blocks)
                        coap_message_add_uint(&piece, OPTION_BLOCK1,
                                              (uint32_t)(at / BLOCK_SIZE) << 4 | more << 3 | BLOCK_SZX, scratch);
                if (coap_message_encode(&piece, &datagram) != 0)
                        return;
                if (how->is_bent)
                        bend(&datagram, in);
                say(scene, how->address, buf_bytes(&datagram));
        }
}

static void say_protected(struct scene *scene, const struct how *how, struct bytes plain, struct bytes *in) {
        _cleanup_(buf_done) struct buf scratch = BUF_INIT(FUZZ_GUARDED_MAX), cipher = BUF_INIT(2 * FUZZ_GUARDED_MAX);
        struct context *context = &scene->contexts[how->context];
        struct coap_message outer = { .type = how->is_non ? TYPE_NON : TYPE_CON, .code = CODE_POST };
        uint8_t piv[PIV_SIZE], token[TOKEN_SIZE] = {}, value[OSCORE_OPTION_SIZE_MAX];
        uint8_t kid_context[OSCORE_KID_CONTEXT_SIZE_MAX];
        size_t piv_size = oscore_piv_encode(how->number, piv), value_size;
        struct oscore_option option = {
                .piv = bytes_of(piv, piv_size),
                .kid = bytes_of(context->keys.sender_id.data, context->keys.sender_id.size) };

        if (how->echoes)
                plain = add_echo(context, plain, &scratch);
        if (observes(plain)) {
                outer.code = CODE_FETCH;
                coap_message_add(&outer, OPTION_OBSERVE, BYTES_NONE);
        }
        token[0] = (uint8_t)how->context;
        token[1] = context->epoch;
        token[2] = (uint8_t)piv_size;
        memcpy(token + 3, piv, piv_size);
        outer.token = bytes_of(token, sizeof(token));
        if (how->context == RENEWAL)
                option.kid_context = bytes_of(kid_context, oscore_kid_context_wrap(
                        bytes_of(scene->renewal.id_context, scene->renewal.id_context_size), kid_context));
        value_size = oscore_option_encode(&option, value);
        coap_message_add(&outer, OPTION_OSCORE, bytes_of(value, value_size));
        seal(&context->keys, bytes_of(piv, piv_size), plain, &cipher);
        outer.payload = buf_bytes(&cipher);
        say_outer(scene, how, &outer, in);
        if (how->number >= context->number)
                context->number = how->number + 1;
}

static uint64_t take_number(const struct context *context, enum number what, struct bytes *in) {
        uint8_t by = what == AHEAD || what == BACK ? fuzz_take_byte(in) : 1;

        if (what == NEXT)
                return context->number;
        if (what == AHEAD)
                return context->number + by;
        return context->number > by ? context->number - by : 0;
}

static void step(struct scene *scene, struct bytes *in) {
        uint8_t control = fuzz_take_byte(in), more = control & 16 ? fuzz_take_byte(in) : 0;
        struct how how = { .address = control % STRANGERS, .context = more % CONTEXTS,
                           .echoes = more & 16, .is_non = more & 32, .in_blocks = more & 64, .is_bent = more & 128 };
        struct bytes bytes;

        world_wait(&scene->world, control >> 5);
        if (control & 16)
                how.number = take_number(&scene->contexts[how.context], more >> 2 & 3, in);
        bytes = fuzz_take(in, control & 8 ? fuzz_take_u16(in) : fuzz_take_byte(in));
        if (control & 16)
                say_protected(scene, &how, bytes, in);
        else
                say(scene, how.address, bytes);
        if (control & 4)
                world_run(&scene->world);
        world_deliver(&scene->world, hear, scene);
}

/* ---- in the end */

/* Once with whatever Echo there is, once more with the one that was asked for. */
static bool serves(struct scene *scene, unsigned context) {
        static const char get_core[] = "\x01\xbb.well-known\x04" "core";
        struct bytes in = BYTES_NONE;

        scene->is_served_protected = false;
        for (unsigned i = 0; i < 2 && !scene->is_served_protected; i++) {
                const struct how how = { .address = STRANGERS, .context = context, .echoes = true,
                                         .number = scene->contexts[context].number };

                say_protected(scene, &how, bytes_text(get_core), &in);
                world_run(&scene->world);
                world_deliver(&scene->world, hear, scene);
        }
        return scene->is_served_protected;
}

/* One that may be renewed may have been, without that the answer was heard. */
static void probe_protected(struct scene *scene, unsigned context) {
        if (serves(scene, context))
                return;
        MUST(context == WORLD_RENEWS);
        renewal_go_on(scene, BYTES_NONE);
        MUST(serves(scene, RENEWAL) && serves(scene, context));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes in = bytes_of(data, size);
        struct scene *scene = calloc(1, sizeof(*scene));

        MUST(scene);
        world_open(&scene->world);
        for (unsigned i = 0; i < WORLD_CONTEXTS; i++)
                world_context(i, BYTES_NONE, &scene->contexts[i].keys);
        renewal_go_on(scene, BYTES_NONE);
        for (unsigned i = 0; i < STEPS_MAX && in.size > 0; i++)
                step(scene, &in);
        world_run(&scene->world);
        world_deliver(&scene->world, hear, scene);
        strangers_probe(&scene->strangers, &scene->world, ++scene->mid, hear, scene);
        for (unsigned i = 0; i < WORLD_CONTEXTS; i++)
                probe_protected(scene, i);
        world_close(&scene->world);
        for (unsigned i = 0; i < CONTEXTS; i++)
                oscore_keys_done(&scene->contexts[i].keys);
        free(scene);
        return 0;
}
