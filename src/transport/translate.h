#pragma once

#include "endpoint/request.h"
#include "format/coap.h"

/*
 * CoAP messages ⇄ requests and answers. Of block-wise transfer (RFC 7959) what needs no memory: reading and writing the
 * options, cutting an answer. What blocks have to do with each other is block.h's.
 */
struct block {
        bool is_given;
        bool more;
        uint8_t szx; /* blocks of 2^(szx + 4) bytes */
        uint32_t number;
};

/* Where its bytes are in the body. */
static inline size_t block_offset(const struct block *block) {
        return (size_t)block->number << (block->szx + 4);
}

/* Which transfer a block belongs to: keyed hashes, made by block.c. */
struct block_key {
        uint64_t resource; /* method and options, but for */
        uint64_t format;   /* Content-Format */
        uint64_t tags;     /* Request-Tag (RFC 9175); 0: none */
};

enum observe_ask { OBSERVE_NOT, OBSERVE_BEGIN, OBSERVE_END }; /* RFC 7641 §2 */

/* What a request says about its transfer and an answer must heed. */
struct block_asks {
        bool may_cut;  /* GET: a success can be cut, as the request can be asked again for the rest */
        bool may_keep; /* the peer is authenticated, and whatever it is told can be kept for later: set by the engine */
        bool size2;    /* the size of the whole answer is asked for (RFC 7959 §4) */
        enum observe_ask observe; /* of a GET for the whole, or the first block */
        struct block request_block, answer_block; /* Block1, Block2 */
        struct block_key key;
};

/*
 * Critical options are known to be ours (exchange.h). peer and now_s are left alone; the rest borrows from the message.
 * Uri-Host and Uri-Port are any: there is one server here. Elective options that we do not have are ignored. Returns 0;
 * REFUSE_NOT_FOUND: a longer path than any of ours; REFUSE_BAD_OPTION: more queries than we read, a block option twice
 * or too long; REFUSE_MALFORMED: a block size that is reserved or that the payload belies (RFC 7959 §2.2);
 * REFUSE_TOO_LARGE: the payload is over payload_max. *ret_asks is good after a refusal too, but for the key. The
 * payload may be one block of a body: see block.h.
 */
int translate_request(const struct coap_message *message, size_t payload_max, struct request *ret,
                      struct block_asks *ret_asks);

/* What the block options alone ask for, as above; all else in *ret is nothing. */
int translate_blocks(const struct coap_message *message, struct block_asks *ret);

/* An answer under construction: the message borrows from here and from the response. */
struct answer {
        struct coap_message message;
        uint8_t scratch[8][4];
        unsigned n_scratch;
        bool is_part; /* one block of several: answer_put_etag() is due */
};

struct answer_limits {
        size_t size_max;     /* of the message, with a token of token_size bytes */
        size_t token_size;
        const uint32_t *observe; /* value of the Observe option; NULL: none */
        size_t payload_max;  /* what a request's body may have, to be told with 4.13 */
};

/*
 * The answer as a message of at most size_max bytes, without type, MID and token. What does not fit, or not the block
 * that is asked for, is cut; where that may not be it becomes 5.00 when it was a success; of an error the code alone is
 * said. (A code alone always fits: size_max is at least what a header and the token take.)
 */
void translate_response(const struct response *response, const struct block_asks *asks,
                        const struct answer_limits *limits, struct answer *ret);

/* Blocks of one body can be told from those of another (RFC 7959 §2.4). There is room left for it. */
void answer_put_etag(struct answer *answer, uint32_t etag);
/* What was to be said cannot be said. */
void answer_put_error(struct answer *answer, uint8_t code);
