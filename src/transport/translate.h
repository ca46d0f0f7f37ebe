#pragma once

#include "endpoint/request.h"
#include "format/coap.h"

/*
 * CoAP messages ⇄ requests and answers. Block-wise transfer (RFC 7959) as far as it needs no memory: a body that is one
 * block is a body; an answer to GET that does not fit is cut, each block from a fresh answer. A body of several blocks
 * is refused with 4.13 and the size that would have been taken.
 */
struct block {
        bool is_given;
        bool more;
        uint8_t szx; /* blocks of 2^(szx + 4) bytes */
        uint32_t number;
};

/* What a request says about its transfer and an answer must heed. */
struct block_asks {
        bool may_cut; /* GET: asked again, it is answered the same */
        struct block request_block, answer_block; /* Block1, Block2 */
};

/*
 * Critical options are known to be ours (exchange.h). peer and now_s are left alone; the rest borrows from the message.
 * Uri-Host and Uri-Port are any: there is one server here. Elective options that we do not have are ignored,
 * No-Response and Observe among them. Returns 0; REFUSE_NOT_FOUND: a longer path than any of ours; REFUSE_BAD_OPTION:
 * more queries than we read, a block option twice, or a later block of an answer that cannot be made again;
 * REFUSE_MALFORMED: a block size that is reserved or that the payload belies (RFC 7959 §2.2); REFUSE_TOO_LARGE: over
 * payload_max, or several blocks.
 */
int translate_request(const struct coap_message *message, size_t payload_max, struct request *ret,
                      struct block_asks *ret_asks);

/* An answer under construction: the message borrows from here and from the response. */
struct answer {
        struct coap_message message;
        uint8_t scratch[5][4];
        unsigned n_scratch;
};

struct answer_limits {
        size_t size_max;     /* of the message, with a token of token_size bytes */
        size_t token_size;
        size_t payload_max;  /* what a request's body may have, to be told with 4.13 */
};

/*
 * The answer as a message of at most size_max bytes, without type, MID and token. What does not fit and cannot be cut
 * becomes 5.00 when it was a success; of an error the code alone is said. (A code alone always fits: size_max is at
 * least what a header and the token take.)
 */
void translate_response(const struct response *response, const struct block_asks *asks,
                        const struct answer_limits *limits, struct answer *ret);
