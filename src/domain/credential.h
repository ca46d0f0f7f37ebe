#pragma once

#include <stdint.h>

#include "base/secret.h"
#include "domain/name.h"

/* How a registered party proves who it is. */
enum credential_kind {
        CREDENTIAL_NONE,
        CREDENTIAL_PSK,
};

#define PSK_SIZE_MIN 16 /* bytes; acectl and the control socket refuse shorter ones */
#define PSK_SIZE_MAX SECRET_SIZE_MAX

struct credential {
        int64_t id;
        enum credential_kind kind;
        int64_t client_id, server_id; /* exactly one is not 0 */
        size_t identity_size;
        uint8_t identity[IDENTITY_SIZE_MAX]; /* any bytes, zero bytes too */
        int64_t created_s;
};

static inline struct bytes credential_identity(const struct credential *credential) {
        return (struct bytes){ credential->identity, credential->identity_size };
}
