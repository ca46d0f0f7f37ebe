#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "answers.h"

#include <cmocka.h>

#include "base/cleanup.h"
#include "format/labels.h"

int64_t option_of(const struct coap_message *message, uint16_t number) {
        const struct coap_option *option = coap_message_option(message, number, 0);
        uint32_t value;

        return option && coap_option_uint(option, &value) ? (int64_t)value : -1;
}

void read_token_answer(const struct coap_message *message, struct token_answer *ret) {
        static const struct cbor_field fields[] = {
                { ACE_ACCESS_TOKEN, CBOR_BYTES, offsetof(struct token_answer, access_token) },
                { ACE_EXPIRES_IN, CBOR_UINT, offsetof(struct token_answer, expires_in) },
                { ACE_CNF, CBOR_MAP, offsetof(struct token_answer, cnf) },
        };

        assert_int_equal(message->code, CODE_CREATED);
        assert_int_equal(option_of(message, OPTION_CONTENT_FORMAT), CF_ACE_CBOR);
        assert_int_equal(cbor_map(message->payload, fields, N_ELEMENTS(fields), ret), 0);
        assert_true(ret->access_token.kind == CBOR_BYTES && ret->cnf.kind == CBOR_MAP);
}
