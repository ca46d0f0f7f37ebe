#pragma once

#include "domain/grant.h"
#include "domain/token.h"

/*
 * What tests of formats write: a token of client 1 for the resource server "rs1", scope "read", number and kid 0x1234, a
 * new symmetric key "0123456789abcdef", from 1700000000 on for an hour.
 */
#define TYPICAL_SERVER_ID 0x51
struct grant typical_grant(void);

/* The same for coap_oscore: the key is that of new material with algorithms that are not the defaults. */
struct grant typical_oscore_grant(void);
#define TYPICAL_OSC                                                                                                   \
        "{0: h'00001234', 2: h'30313233343536373839616263646566', 3: 7, 4: 1, 5: h'73616c7473616c74', "               \
        "6: h'7768617465766572'}"

/* The same as the store keeps it; its number is 0x1235, as the client named the key. */
struct token typical_token(void);
