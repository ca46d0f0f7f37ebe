/*
 * Our CoAP parser beside libcoap's: both refuse, or both read the same. Where they are meant to differ:
 *   - ours alone refuses a reserved class of code (RFC 7252 §4.2), an empty message with anything in it (§4.1), more
 *     than COAP_OPTIONS_MAX options, and an option number over 65535, of which libcoap takes the lower half;
 *   - libcoap alone refuses the message for an option whose size breaks its limits (§5.4.3 wants such a one treated like
 *     an unknown one, which is the business of coap_request_check_options()), and an empty Uri-Query;
 *   - from 4.3.2 on libcoap reads tokens longer than 8 bytes (RFC 8974), for which length nibbles of 13 and 14 stand.
 */
#include <coap3/coap.h>

#include "base/cleanup.h"
#include "format/coap.h"
#include "fuzz.h"

static void pdu_freep(coap_pdu_t **pdu) {
        coap_delete_pdu(*pdu);
}

static size_t count_options(const coap_pdu_t *pdu) {
        coap_opt_iterator_t at;
        size_t n = 0;

        coap_option_iterator_init(pdu, &at, COAP_OPT_ALL);
        while (coap_option_next(&at))
                n++;
        return n;
}

static void must_be_same_options(const coap_pdu_t *theirs, const struct coap_message *ours) {
        coap_opt_iterator_t at;
        coap_opt_t *option;
        size_t n = 0;

        coap_option_iterator_init(theirs, &at, COAP_OPT_ALL);
        while ((option = coap_option_next(&at))) {
                MUST(n < ours->n_options && ours->options[n].number == at.number);
                MUST(bytes_equal(ours->options[n].value, bytes_of(coap_opt_value(option), coap_opt_length(option))));
                n++;
        }
        MUST(n == ours->n_options);
}

static void must_be_same(const coap_pdu_t *theirs, const struct coap_message *ours) {
        coap_bin_const_t token = coap_pdu_get_token(theirs);
        const uint8_t *payload = NULL;
        size_t size = 0;

        MUST((int)coap_pdu_get_type(theirs) == (int)ours->type && (int)coap_pdu_get_code(theirs) == (int)ours->code);
        MUST(coap_pdu_get_mid(theirs) == ours->mid);
        MUST(bytes_equal(bytes_of(token.s, token.length), ours->token));
        (void)coap_get_data(theirs, &size, &payload);
        MUST(bytes_equal(bytes_of(payload, size), ours->payload));
        must_be_same_options(theirs, ours);
}

/* Of the value of a delta or length nibble, with the bytes that extend it. */
static unsigned take_extended(struct bytes *in, unsigned nibble) {
        if (nibble == 13)
                return 13u + fuzz_take_byte(in);
        return nibble == 14 ? 269u + fuzz_take_u16(in) : nibble;
}

/* Of a message that one of us has accepted. */
static bool number_is_too_large(struct bytes in) {
        unsigned number = 0, size;
        uint8_t first;

        (void)fuzz_take(&in, 4u + (in.data[0] & 15));
        while (in.size > 0 && (first = fuzz_take_byte(&in)) != 0xff) {
                number += take_extended(&in, first >> 4);
                size = take_extended(&in, first & 15);
                (void)fuzz_take(&in, size);
                if (number > UINT16_MAX)
                        return true;
        }
        return false;
}

static bool ours_alone_refuses(const coap_pdu_t *theirs, struct bytes datagram) {
        unsigned class = datagram.data[1] >> 5;

        return class == 1 || class == 6 || class == 7 || datagram.data[1] == 0 || (datagram.data[0] & 15) > 8 ||
               count_options(theirs) > COAP_OPTIONS_MAX || number_is_too_large(datagram);
}

/* As libcoap has them; an option that it does not know may have any size. */
static bool breaks_limits(const struct coap_option *option) {
        static const struct {
                uint16_t number;
                size_t min, max;
        } limits[] = {
                { 1, 0, 8 },   { 3, 1, 255 },  { 4, 1, 8 },    { 5, 0, 0 },    { 6, 0, 3 },    { 7, 0, 2 },
                { 8, 0, 255 }, { 9, 0, 255 },  { 11, 0, 255 }, { 12, 0, 2 },   { 14, 0, 4 },   { 15, 1, 255 },
                { 16, 1, 1 },  { 17, 0, 2 },   { 19, 0, 3 },   { 20, 0, 255 }, { 23, 0, 3 },   { 27, 0, 3 },
                { 28, 0, 4 },  { 31, 0, 3 },   { 35, 1, 1034 }, { 39, 1, 255 }, { 60, 0, 4 },   { 252, 1, 40 },
                { 258, 0, 1 }, { 292, 0, 8 },
        };

        for (size_t i = 0; i < N_ELEMENTS(limits); i++)
                if (option->number == limits[i].number)
                        return option->value.size < limits[i].min || option->value.size > limits[i].max;
        return false;
}

static bool libcoap_alone_refuses(const struct coap_message *ours) {
        for (size_t i = 0; i < ours->n_options; i++)
                if (breaks_limits(&ours->options[i]))
                        return true;
        return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes datagram = fuzz_guarded(bytes_of(data, size));
        _cleanup_(pdu_freep) coap_pdu_t *theirs = coap_pdu_init(COAP_MESSAGE_CON, COAP_EMPTY_CODE, 0, datagram.size);
        struct coap_message ours;
        bool header_ok, accepted;
        int r = coap_message_decode(datagram, &ours, &header_ok);

        MUST(theirs);
        coap_set_log_level((coap_log_t)0); /* what is refused here is refused on purpose */
        accepted = coap_pdu_parse(COAP_PROTO_UDP, datagram.data, datagram.size, theirs) > 0;
        MUST(r != 0 || !number_is_too_large(datagram));
        if (accepted && r == 0)
                must_be_same(theirs, &ours);
        else if (accepted)
                MUST(ours_alone_refuses(theirs, datagram));
        else
                MUST(r != 0 || libcoap_alone_refuses(&ours));
        return 0;
}
