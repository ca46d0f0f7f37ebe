#include "domain/credential.h"

#include <arpa/inet.h>
#include <stdio.h>

_Static_assert(2 + OSCORE_ID_SIZE_MAX + OSCORE_ID_CONTEXT_SIZE_MAX <= IDENTITY_SIZE_MAX, "identity of a context");

const char *credential_kind_name(enum credential_kind kind) {
        static const char *const names[CREDENTIAL_KINDS] = {
                [CREDENTIAL_NONE] = "",      [CREDENTIAL_PSK] = "psk",       [CREDENTIAL_RPK] = "rpk",
                [CREDENTIAL_X509] = "x509",  [CREDENTIAL_OSCORE] = "oscore",
        };

        return names[kind];
}

static char lower(char c) {
        return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool read_text(const char *value, char *ret, size_t size) {
        return snprintf(ret, size, "%s", value) < (int)size && bytes_are_shown(bytes_text(value));
}

/* RFC 5280 §4.2.1.6: the preferred name syntax; names are compared without regard to case (§7.2). */
static bool read_dns(const char *value, char *ret, size_t size) {
        size_t n = strlen(value);

        if (n >= size || strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.*") != n)
                return false;
        for (size_t i = 0; i <= n; i++)
                ret[i] = lower(value[i]);
        return true;
}

static bool read_ip(const char *value, char *ret, size_t size) {
        int family = strchr(value, ':') ? AF_INET6 : AF_INET;
        uint8_t address[16];

        return inet_pton(family, value, address) == 1 && inet_ntop(family, address, ret, (socklen_t)size);
}

static bool read_spki(const char *value, char *ret, size_t size) {
        uint8_t hash[THUMBPRINT_SIZE];
        size_t hash_size;

        if (bytes_from_hex(value, hash, sizeof(hash), &hash_size) != 0 || hash_size != sizeof(hash) ||
            size <= 2 * sizeof(hash))
                return false;
        bytes_to_hex(bytes_of(hash, hash_size), ret, size);
        return true;
}

bool credential_rule_read(const char *text, char ret[static CREDENTIAL_RULE_MAX + 1]) {
        static const struct {
                const char *prefix;
                bool (*read)(const char *value, char *ret, size_t size);
        } kinds[] = {
                { "spki:", read_spki }, { "dns:", read_dns },         { "uri:", read_text },
                { "email:", read_text }, { "ip:", read_ip },          { "subject:", read_text },
        };

        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
                size_t n = strlen(kinds[i].prefix);

                if (strncmp(text, kinds[i].prefix, n) != 0)
                        continue;
                if (text[n] == '\0' || !kinds[i].read(text + n, ret + n, CREDENTIAL_RULE_MAX + 1 - n))
                        return false;
                memcpy(ret, kinds[i].prefix, n);
                return true;
        }
        return false;
}

void credential_oscore_identity(struct credential *credential) {
        const struct oscore_parameters *oscore = &credential->oscore;
        uint8_t *at = credential->identity;

        *at++ = (uint8_t)oscore->recipient_id.size;
        memcpy(at, oscore->recipient_id.data, oscore->recipient_id.size);
        at += oscore->recipient_id.size;
        *at++ = oscore->has_id_context;
        if (oscore->has_id_context) {
                memcpy(at, oscore->id_context, oscore->id_context_size);
                at += oscore->id_context_size;
        }
        credential->identity_size = (size_t)(at - credential->identity);
}
