#include "support/grants.h"

#include <stdlib.h>


static void must(int r) {
        if (r != 0)
                abort();
}

struct grant typical_grant(void) {
        struct grant grant = {
                .client_id = 1,
                .server_id = TYPICAL_SERVER_ID,
                .audience = "rs1",
                .profile = PROFILE_COAP_DTLS,
                .issued_s = 1700000000,
                .lifetime_s = 3600,
                .expires_s = 1700003600,
                .new_key = true,
                .number = 0x1234,
                .key_number = 0x1234,
        };

        must(scope_set(&grant.scope, SCOPE_TEXT, BYTES_LITERAL("read")));
        must(secret_set(&grant.pop_key, BYTES_LITERAL("0123456789abcdef")));
        return grant;
}

struct grant typical_oscore_grant(void) {
        struct grant grant = typical_grant();

        grant.profile = PROFILE_COAP_OSCORE;
        grant.osc = (struct osc){ .alg = AEAD_A128GCM, .hkdf = OSCORE_HKDF_SHA512 };
        memcpy(grant.osc.salt, "saltsalt", OSC_SALT_SIZE);
        memcpy(grant.osc.context_id, "whatever", OSC_CONTEXT_ID_SIZE);
        return grant;
}

struct token typical_token(void) {
        struct token token = {
                .number = 0x1235,
                .key_number = 0x1234,
                .client_id = 1,
                .server_id = TYPICAL_SERVER_ID,
                .client_name = "C1",
                .server_name = "rs1",
                .audience = "rs1",
                .profile = PROFILE_COAP_DTLS,
                .issued_s = 1700000000,
                .expires_s = 1700003600,
        };

        must(scope_set(&token.scope, SCOPE_TEXT, BYTES_LITERAL("read")));
        must(secret_set(&token.pop_key, BYTES_LITERAL("0123456789abcdef")));
        return token;
}
