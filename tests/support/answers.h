#pragma once

#include "format/cbor.h"
#include "format/coap.h"

/* What the tests of the engine read in its answers. For cmocka. */

/* The value of an option that is an unsigned integer; -1: it is not there, or is none. */
int64_t option_of(const struct coap_message *message, uint16_t number);

/* An answer of /token, which it must be; borrows. expires_in: CBOR_ABSENT when it was not said. */
struct token_answer {
        struct cbor_item access_token, expires_in, cnf;
};
void read_token_answer(const struct coap_message *message, struct token_answer *ret);
