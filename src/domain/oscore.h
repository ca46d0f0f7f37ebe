#pragma once

#include "base/bytes.h"
#include "crypto/aead.h"

/* What two parties agree on before they speak OSCORE (RFC 8613 §3.2), but for the Master Secret. */
#define OSCORE_ID_SIZE_MAX 7          /* bytes: nonce size - 6, of the longest nonce (§3.3); aead.h's GCMs have 6 */
#define OSCORE_ID_CONTEXT_SIZE_MAX 64 /* ours: the RFC has no limit but the option's 255 bytes */
#define OSCORE_SALT_SIZE_MAX 32       /* ours */

enum oscore_hkdf { /* kept in databases */
        OSCORE_HKDF_SHA256 = 1,
        OSCORE_HKDF_SHA512 = 2,
};

/* A Sender or Recipient ID; no bytes are an ID as well. */
struct oscore_id {
        size_t size;
        uint8_t data[OSCORE_ID_SIZE_MAX];
};

/* The parameters of a credential, from our side: recipient_id is what the party sends as kid. */
struct oscore_parameters {
        enum aead_alg alg;
        enum oscore_hkdf hkdf;
        struct oscore_id sender_id, recipient_id;
        size_t salt_size; /* 0: the empty salt */
        uint8_t salt[OSCORE_SALT_SIZE_MAX];
        bool has_id_context; /* none is not the one of no bytes */
        size_t id_context_size;
        uint8_t id_context[OSCORE_ID_CONTEXT_SIZE_MAX];
        bool renews; /* the party may renew the context by Appendix B.2 */
};
