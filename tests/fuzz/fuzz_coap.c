/* CoAP messages: what is decoded, encoded and decoded again says the same; what it asks for is inside the message. */
#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/coap.h"
#include "fuzz.h"
#include "transport/translate.h"

#define PAYLOAD_MAX 1024

static void must_be_same(const struct coap_message *a, const struct coap_message *b) {
        MUST(a->type == b->type && a->code == b->code && a->mid == b->mid && a->n_options == b->n_options);
        MUST(bytes_equal(a->token, b->token) && bytes_equal(a->payload, b->payload));
        for (size_t i = 0; i < a->n_options; i++)
                MUST(a->options[i].number == b->options[i].number &&
                     bytes_equal(a->options[i].value, b->options[i].value));
}

static void must_lie_in(struct bytes part, struct bytes whole) {
        if (part.size > 0)
                MUST(part.data >= whole.data && part.data + part.size <= whole.data + whole.size);
}

static void ask(const struct coap_message *message, struct bytes datagram) {
        struct request request = {};
        struct block_asks asks = {};
        uint16_t bad;
        int r = coap_request_check_options(message, &bad);

        MUST(r == 0 || (r == REFUSE_BAD_OPTION && (bad & 1)));
        r = translate_request(message, PAYLOAD_MAX, &request, &asks);
        MUST(r >= 0 && r < REFUSALS);
        MUST(request.n_segments <= PATH_SEGMENTS_MAX && request.n_queries <= QUERIES_MAX);
        for (size_t i = 0; i < request.n_segments; i++)
                must_lie_in(request.segments[i], datagram);
        for (size_t i = 0; i < request.n_queries; i++)
                must_lie_in(request.queries[i], datagram);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes datagram = fuzz_guarded(bytes_of(data, size));
        _cleanup_(buf_done) struct buf encoded = BUF_INIT(2 * FUZZ_GUARDED_MAX);
        struct coap_message message, again;
        bool header_ok;
        int r = coap_message_decode(datagram, &message, &header_ok);

        MUST(r == 0 || r == REFUSE_MALFORMED);
        MUST(r != 0 || header_ok);
        if (r != 0)
                return 0;
        for (size_t i = 0; i < message.n_options; i++) {
                MUST(i == 0 || message.options[i - 1].number <= message.options[i].number);
                must_lie_in(message.options[i].value, datagram);
        }
        MUST(coap_message_encode(&message, &encoded) == 0);
        MUST(coap_message_decode(buf_bytes(&encoded), &again, &header_ok) == 0);
        must_be_same(&message, &again);
        ask(&message, datagram);
        return 0;
}
