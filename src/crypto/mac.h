#pragma once

#include "base/bytes.h"

/* HMAC of COSE (RFC 9053 §3.1). */
enum mac_alg { /* kept in databases */
        MAC_NONE,
        MAC_HMAC_256_64,
        MAC_HMAC_256_256,
        MAC_ALGS,
};

#define MAC_KEY_SIZE 32
#define MAC_SIZE_MAX 32

size_t mac_size(enum mac_alg alg); /* of a tag: 8 or 32; 0 for MAC_NONE */
/* "HMAC-256-64", "HMAC-256-256"; NULL. The reverse: MAC_NONE for another name. */
const char *mac_alg_name(enum mac_alg alg);
enum mac_alg mac_alg_from_name(const char *name);

int mac(enum mac_alg alg, struct bytes key, struct bytes data, uint8_t ret[static MAC_SIZE_MAX]);
