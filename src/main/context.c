#include "main/context.h"

#include <errno.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "crypto/random.h"

static struct bytes id_context_bytes(const struct renewed *id_context) {
        return id_context->there ? bytes_of(id_context->id_context, id_context->size) : BYTES_NONE;
}

/* ---- the context */

static int digest(const struct oscore_record *record, uint8_t ret[static NUMBERS_DIGEST_SIZE]) {
        _cleanup_(buf_wiped) struct buf encoded = BUF_INIT(OSCORE_RECORD_SIZE_MAX);
        int r = oscore_record_encode(record, &encoded);

        return r ?: sha256(buf_bytes(&encoded), ret);
}

static struct oscore_input input_of(const struct context *context) {
        return oscore_input_of(&context->record.parameters, secret_bytes(&context->record.master_secret));
}

/* The ID Context in force: the record's, or that of the last renewal. */
static int take_id_context(struct context *context) {
        const struct oscore_parameters *parameters = &context->record.parameters;
        uint8_t mark[NUMBERS_DIGEST_SIZE];
        int r;

        if (parameters->renews) {
                if ((r = digest(&context->record, mark)) != 0 ||
                    (r = numbers_renewed(context->numbers, mark, &context->id_context)) != 0)
                        return r;
                if (context->id_context.there)
                        return 0;
        }
        context->id_context.there = parameters->has_id_context;
        context->id_context.size = parameters->id_context_size;
        memcpy(context->id_context.id_context, parameters->id_context, parameters->id_context_size);
        return 0;
}

/* What was derived knows no aead yet. */
static int keys_derived(struct context *context, int r) {
        context->keys.aead = context->aead;
        return r;
}

int context_open(struct context *context, const struct oscore_record *record, struct numbers *numbers,
                 struct aead *aead) {
        struct oscore_input input;
        int r;

        *context = (struct context){ .record = *record, .numbers = numbers, .aead = aead };
        if ((r = take_id_context(context)) != 0)
                return r;
        input = input_of(context);
        input.id_context = id_context_bytes(&context->id_context);
        return keys_derived(context, oscore_derive(&input, &context->keys));
}

void context_done(struct context *context) {
        oscore_record_done(&context->record);
        oscore_keys_done(&context->keys);
}

/* ---- requests */

static int take_number(struct context *context, uint64_t *ret) {
        struct numbers *numbers = context->numbers;
        int r;

        if (context->next < numbers->first)
                context->next = numbers->first; /* another context took a block */
        if (context->next >= numbers->end) {
                if ((r = numbers_take(numbers)) != 0)
                        return r;
                context->next = numbers->first;
        }
        *ret = context->next++;
        return 0;
}

/* What the server is to find the context by, besides kid: the ID Context as it is, or wrapped in a renewal. */
static struct bytes kid_context(const struct context *context, uint8_t space[static OSCORE_KID_CONTEXT_SIZE_MAX]) {
        if (context->renewal == CONTEXT_IN_FORCE)
                return id_context_bytes(&context->id_context);
        return bytes_of(space, oscore_renewing_kid_context(&context->renewing, space));
}

int context_protect(struct context *context, const struct coap_message *inner, struct oscore_request *ret_request,
                    struct buf *datagram) {
        struct oscore_outer outer = { .payload = BUF_INIT(datagram->limit) };
        uint8_t space[OSCORE_KID_CONTEXT_SIZE_MAX];
        uint64_t number;
        int r = take_number(context, &number);

        if (r == 0)
                r = oscore_protect_request(&context->keys, number, kid_context(context, space), inner, &outer,
                                           ret_request);
        if (r == 0)
                r = coap_message_encode(&outer.message, datagram);
        buf_done(&outer.payload);
        return r;
}

/* ---- responses */

/* The number of a response's own, when it has one. */
static void take_piv(const struct oscore_option *option, struct context_answer *ret) {
        ret->has_piv = option->piv.data != NULL;
        ret->piv = ret->has_piv ? oscore_piv_decode(option->piv) : 0;
}

/* Response 2 verified: the server has the new context, too. On disk before anybody hears of it. */
static int renewal_done(struct context *context) {
        const struct oscore_renewing *renewing = &context->renewing;
        struct renewed renewed = { .there = true, .size = renewing->id_context_size };
        uint8_t mark[NUMBERS_DIGEST_SIZE];
        int r;

        memcpy(renewed.id_context, renewing->id_context, renewing->id_context_size);
        if ((r = digest(&context->record, mark)) != 0 || (r = numbers_renew(context->numbers, mark, &renewed)) != 0)
                return r;
        context->id_context = renewed;
        context->renewal = CONTEXT_IN_FORCE;
        return 0;
}

/* Is it response 1? A verdict, < 0. */
static int renewal_step(struct context *context, const struct oscore_request *request,
                        const struct coap_message *outer) {
        const struct oscore_input input = input_of(context);
        uint8_t r3[OSCORE_RENEWING_R_SIZE];
        int r = random_bytes(r3, sizeof(r3));

        if (r == 0)
                r = keys_derived(context, oscore_renewing_heard(&context->renewing, &input, request, outer, r3,
                                                                &context->keys));
        if (r == -EBADMSG || r > 0)
                return CONTEXT_FORGED;
        if (r < 0)
                return r;
        context->renewal = CONTEXT_AGREES;
        return CONTEXT_AGAIN;
}

int context_unprotect(struct context *context, const struct oscore_request *request, const struct coap_message *outer,
                      struct buf *plain, struct context_answer *ret) {
        const struct coap_option *value = coap_message_option(outer, OPTION_OSCORE, 0);
        struct oscore_option option;
        int r;

        if (!value)
                return CONTEXT_UNPROTECTED;
        if (coap_message_option(outer, OPTION_OSCORE, 1) || oscore_option_decode(value->value, &option) != 0)
                return CONTEXT_FORGED;
        if (context->renewal == CONTEXT_ASKS)
                return renewal_step(context, request, outer);
        buf_clear(plain);
        r = oscore_unprotect_response(&context->keys, request, &option, outer, plain, &ret->inner);
        if (r == -EBADMSG || r > 0)
                return CONTEXT_FORGED;
        if (r == 0 && context->renewal == CONTEXT_AGREES)
                r = renewal_done(context);
        take_piv(&option, ret);
        return r < 0 ? r : CONTEXT_ANSWER;
}

int context_renew(struct context *context) {
        const struct oscore_input input = input_of(context);
        uint8_t r1[OSCORE_RENEWING_R_SIZE];
        int r = random_bytes(r1, sizeof(r1));

        if (r == 0)
                r = keys_derived(context, oscore_renewing_begin(&context->renewing, &input, r1, &context->keys));
        if (r == 0)
                context->renewal = CONTEXT_ASKS;
        return r;
}
