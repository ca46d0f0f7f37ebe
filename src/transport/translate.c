#include "transport/translate.h"

#include "domain/refusal.h"

#define SZX_MAX 6
#define SZX_RESERVED 7
#define BLOCK_OPTION_SIZE_MAX 3
#define CLASS_SUCCESS 2
#define ETAG_SIZE 4

static size_t block_size(unsigned szx) {
        return (size_t)16 << szx;
}

/* ---- requests */

/* *ret is what the option says, or nothing when it is refused. */
static int read_block(const struct coap_message *message, uint16_t number, struct block *ret) {
        struct block block = {};
        uint32_t value;

        for (size_t i = 0; i < message->n_options; i++) {
                const struct coap_option *option = &message->options[i];

                if (option->number != number)
                        continue;
                if (block.is_given || option->value.size > BLOCK_OPTION_SIZE_MAX || !coap_option_uint(option, &value))
                        return REFUSE_BAD_OPTION;
                block = (struct block){ .is_given = true, .more = value & 8, .szx = value & 7, .number = value >> 4 };
        }
        if (block.is_given && block.szx == SZX_RESERVED)
                return REFUSE_MALFORMED;
        *ret = block;
        return 0;
}

/* RFC 7641 §2: of a GET; a later block of a notification is fetched without (RFC 7959 §2.6) */
static enum observe_ask read_observe(const struct coap_message *message, const struct block_asks *asks) {
        const struct coap_option *option = coap_message_option(message, OPTION_OBSERVE, 0);
        uint32_t value;

        if (!option || message->code != CODE_GET || asks->answer_block.number > 0 || asks->request_block.is_given ||
            !coap_option_uint(option, &value))
                return OBSERVE_NOT;
        return value == 0 ? OBSERVE_BEGIN : value == 1 ? OBSERVE_END : OBSERVE_NOT;
}

int translate_blocks(const struct coap_message *message, struct block_asks *ret) {
        const struct block *body = &ret->request_block;
        size_t size = message->payload.size;
        int r;

        *ret = (struct block_asks){
                .may_cut = message->code == CODE_GET,
                .size2 = coap_message_option(message, OPTION_SIZE2, 0),
        };
        if ((r = read_block(message, OPTION_BLOCK1, &ret->request_block)) != 0 ||
            (r = read_block(message, OPTION_BLOCK2, &ret->answer_block)) != 0)
                return r;
        /* RFC 7959 §2.2: a block that others follow has the size that it says; the last one may have less */
        if (body->is_given && (body->more ? size != block_size(body->szx) : size > block_size(body->szx)))
                return REFUSE_MALFORMED;
        ret->observe = read_observe(message, ret);
        return 0;
}

static int read_uri(const struct coap_message *message, struct request *ret) {
        for (size_t i = 0; i < message->n_options; i++) {
                const struct coap_option *option = &message->options[i];

                if (option->number == OPTION_URI_PATH) {
                        if (ret->n_segments == PATH_SEGMENTS_MAX)
                                return REFUSE_NOT_FOUND;
                        ret->segments[ret->n_segments++] = option->value;
                } else if (option->number == OPTION_URI_QUERY) {
                        if (ret->n_queries == QUERIES_MAX)
                                return REFUSE_BAD_OPTION;
                        ret->queries[ret->n_queries++] = option->value;
                }
        }
        return 0;
}

static int read_format(const struct coap_message *message, uint16_t number) {
        const struct coap_option *option = coap_message_option(message, number, 0);
        uint32_t value;

        return option && coap_option_uint(option, &value) ? (int)value : CF_NONE; /* at most two bytes */
}

int translate_request(const struct coap_message *message, size_t payload_max, struct request *ret,
                      struct block_asks *ret_asks) {
        int r;

        ret->method = (enum method)message->code; /* the registries agree */
        ret->n_segments = 0;
        ret->n_queries = 0;
        ret->content_format = read_format(message, OPTION_CONTENT_FORMAT);
        ret->accept = read_format(message, OPTION_ACCEPT);
        ret->payload = message->payload;
        if ((r = translate_blocks(message, ret_asks)) != 0 || (r = read_uri(message, ret)) != 0)
                return r;
        return message->payload.size > payload_max ? REFUSE_TOO_LARGE : 0;
}

/* ---- answers */

static void put_uint(struct answer *answer, uint16_t number, uint32_t value) {
        coap_message_add_uint(&answer->message, number, value, answer->scratch[answer->n_scratch++]);
}

void answer_put_error(struct answer *answer, uint8_t code) {
        *answer = (struct answer){ .message.code = code };
}

void answer_put_etag(struct answer *answer, uint32_t etag) {
        uint8_t *scratch = answer->scratch[answer->n_scratch++];

        memcpy(scratch, &etag, ETAG_SIZE);
        coap_message_add(&answer->message, OPTION_ETAG, bytes_of(scratch, ETAG_SIZE));
}

/* What is cut from the payload by this block, and whether it is all. */
static bool cut(const struct block *block, struct bytes *payload) {
        size_t at = block_offset(block);
        struct bytes part = bytes_of(payload->data + at, payload->size - at);

        if (part.size > block_size(block->szx))
                part.size = block_size(block->szx);
        if (part.size == payload->size)
                return false;
        *payload = part;
        return true;
}

/* RFC 7959 §2.9.3: with 4.13 what would be taken; else, in answer to a block of a body, which block that was */
static void put_request_block(const struct response *response, const struct block *body, size_t payload_max,
                              struct answer *ret) {
        if (body->is_given)
                put_uint(ret, OPTION_BLOCK1, body->number << 4 | body->more << 3 | body->szx);
        if (response->code == CODE_TOO_LARGE)
                put_uint(ret, OPTION_SIZE1, (uint32_t)payload_max);
}

/* In ascending order of option numbers. block NULL: the whole payload, no Block2. */
static void put_parts(const struct response *response, const struct block_asks *asks, const struct block *block,
                      const struct answer_limits *limits, struct answer *ret) {
        struct bytes payload = buf_bytes(&response->payload);
        bool more;

        *ret = (struct answer){ .message.code = response->code };
        if (limits->observe)
                put_uint(ret, OPTION_OBSERVE, *limits->observe);
        if (payload.size > 0 && response->content_format != CF_NONE)
                put_uint(ret, OPTION_CONTENT_FORMAT, (uint32_t)response->content_format);
        if (response->max_age_s >= 0)
                put_uint(ret, OPTION_MAX_AGE,
                         response->max_age_s > UINT32_MAX ? UINT32_MAX : (uint32_t)response->max_age_s);
        if (block) {
                ret->is_part = cut(block, &payload);
                more = block_offset(block) + payload.size < response->payload.size;
                put_uint(ret, OPTION_BLOCK2, block->number << 4 | more << 3 | block->szx);
        }
        put_request_block(response, &asks->request_block, limits->payload_max, ret);
        if (asks->size2 && payload.size > 0)
                put_uint(ret, OPTION_SIZE2, (uint32_t)response->payload.size);
        ret->message.payload = payload;
}

/* With the ETag that a part will get. */
static bool answer_fits(const struct answer *answer, const struct answer_limits *limits) {
        size_t size = coap_message_size(&answer->message, limits->token_size);

        return size + (answer->is_part ? 1 + ETAG_SIZE : 0) <= limits->size_max;
}

/* The block asked for, or a smaller one at the same place (RFC 7959 §2.4). False: none fits. */
static bool put_block(const struct response *response, const struct block_asks *asks,
                      const struct answer_limits *limits, struct answer *ret) {
        const struct block *asked = &asks->answer_block;
        unsigned szx = asked->is_given ? asked->szx : SZX_MAX;
        size_t at = (size_t)asked->number * block_size(szx);

        if (at >= response->payload.size) {
                answer_put_error(ret, CODE_BAD_REQUEST); /* there is no such block */
                return true;
        }
        do {
                const struct block block = { .szx = (uint8_t)szx, .number = (uint32_t)(at / block_size(szx)) };

                put_parts(response, asks, &block, limits, ret);
                if (answer_fits(ret, limits))
                        return true;
        } while (szx-- > 0);
        return false;
}

void translate_response(const struct response *response, const struct block_asks *asks,
                        const struct answer_limits *limits, struct answer *ret) {
        bool success = response->code >> 5 == CLASS_SUCCESS;
        bool may_cut = asks->may_keep || (asks->may_cut && success);
        const struct block *asked = &asks->answer_block;
        /* an error that comes instead of a later block is said as it is */
        bool is_there = block_offset(asked) < response->payload.size;
        bool wants_block = asked->is_given && (is_there || (success && asked->number > 0));

        if (may_cut && wants_block && put_block(response, asks, limits, ret))
                return;
        put_parts(response, asks, NULL, limits, ret);
        if (answer_fits(ret, limits))
                return;
        if (may_cut && !wants_block && put_block(response, asks, limits, ret))
                return;
        answer_put_error(ret, success ? CODE_INTERNAL_ERROR : response->code);
}
