#pragma once

#include <stdint.h>

#include "base/secret.h"
#include "crypto/key.h"
#include "domain/name.h"
#include "domain/oscore.h"

/* How a registered party proves who it is. */
enum credential_kind {
        CREDENTIAL_NONE,
        CREDENTIAL_PSK,  /* identity: the PSK identity */
        CREDENTIAL_RPK,  /* a raw public key (RFC 7250); identity: its thumbprint */
        CREDENTIAL_X509, /* certificates that a rule fits; identity: SHA-256 of the rule */
        CREDENTIAL_OSCORE, /* a security context (RFC 8613); identity: credential_oscore_identity() */
};

#define CREDENTIAL_KINDS (CREDENTIAL_OSCORE + 1)
/* "psk", "rpk", "x509", "oscore"; "" of none */
const char *credential_kind_name(enum credential_kind kind);

#define PSK_SIZE_MIN 16 /* bytes; acectl and the control socket refuse shorter ones */
#define PSK_SIZE_MAX SECRET_SIZE_MAX

#define CREDENTIAL_KID_MAX 16
#define CREDENTIAL_RULE_MAX 255

struct credential {
        int64_t id;
        enum credential_kind kind;
        int64_t client_id, server_id; /* exactly one is not 0 */
        size_t identity_size;
        uint8_t identity[IDENTITY_SIZE_MAX]; /* any bytes, zero bytes too */
        struct public_key key; /* CREDENTIAL_RPK */
        size_t kid_size;       /* what req_cnf may call that key by; 0: nothing */
        uint8_t kid[CREDENTIAL_KID_MAX];
        /*
         * CREDENTIAL_X509: "spki:HEX" (SHA-256 of SubjectPublicKeyInfo), "dns:NAME", "uri:URI", "email:ADDRESS",
         * "ip:ADDRESS" (a subject alternative name) or "subject:NAME" (RFC 4514, as "openssl x509 -subject -nameopt
         * rfc2253,-esc_msb" prints it).
         */
        char rule[CREDENTIAL_RULE_MAX + 1];
        struct oscore_parameters oscore; /* CREDENTIAL_OSCORE; the Master Secret is the credential's secret */
        int64_t created_s;
};

/*
 * CREDENTIAL_OSCORE: fills in identity, by which no two contexts have the same Recipient ID and ID Context: size of the
 * Recipient ID (1), the Recipient ID, whether there is an ID Context (1), the ID Context.
 */
void credential_oscore_identity(struct credential *credential);

/*
 * A rule as people write it, in the form in which it is compared with the names of a certificate: hexadecimal and DNS
 * names in small letters, addresses in their shortest form; all else as it stands. False: it is none.
 */
bool credential_rule_read(const char *text, char ret[static CREDENTIAL_RULE_MAX + 1]);

static inline struct bytes credential_identity(const struct credential *credential) {
        return (struct bytes){ credential->identity, credential->identity_size };
}
