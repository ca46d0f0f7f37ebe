#pragma once

#include "base/bytes.h"
#include "crypto/aead.h"

/* What two parties agree on before they speak OSCORE (RFC 8613 §3.2), but for the Master Secret. */
#define OSCORE_ID_SIZE_MAX 7          /* bytes: nonce size - 6, of the longest nonce (§3.3); aead.h's GCMs have 6 */
#define OSCORE_ID_CONTEXT_SIZE_MAX 64 /* ours: the RFC has no limit but the option's 255 bytes */
#define OSCORE_SALT_SIZE_MAX 32       /* ours */
#define OSCORE_SECRET_SIZE_MIN 16     /* bytes of a Master Secret */
#define OSCORE_CANDIDATES_MAX 8       /* contexts with one kid, tried for a message without kid context (OSC-044) */

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

/* How many bytes an ID may have (§3.3); 0 for an algorithm that is none of ours. */
size_t oscore_id_size_max(enum aead_alg alg);
bool oscore_id_equal(const struct oscore_id *a, const struct oscore_id *b);
/* Algorithms of ours, sizes within bounds, IDs that differ. */
bool oscore_parameters_are_good(const struct oscore_parameters *parameters);
/* The same context from the other side: the IDs change places. */
struct oscore_parameters oscore_parameters_turned(const struct oscore_parameters *parameters);

/* "SHA-256", "SHA-512"; NULL. The reverse: 0 for another name. */
const char *oscore_hkdf_name(enum oscore_hkdf hkdf);
enum oscore_hkdf oscore_hkdf_from_name(const char *name);
