#include "crypto/mac.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "crypto/hash.h"

static const struct {
        const char *name;
        size_t size;
} mac_rows[] = {
        [MAC_HMAC_256_64] = { "HMAC-256-64", 8 },
        [MAC_HMAC_256_256] = { "HMAC-256-256", 32 },
};

size_t mac_size(enum mac_alg alg) {
        return alg > MAC_NONE && alg < MAC_ALGS ? mac_rows[alg].size : 0;
}

const char *mac_alg_name(enum mac_alg alg) {
        return alg > MAC_NONE && alg < MAC_ALGS ? mac_rows[alg].name : NULL;
}

enum mac_alg mac_alg_from_name(const char *name) {
        for (enum mac_alg alg = MAC_NONE + 1; alg < MAC_ALGS; alg++)
                if (strcmp(mac_rows[alg].name, name) == 0)
                        return alg;
        return MAC_NONE;
}

int mac(enum mac_alg alg, struct bytes key, struct bytes data, uint8_t ret[static MAC_SIZE_MAX]) {
        int r;

        if (mac_size(alg) == 0 || key.size != MAC_KEY_SIZE)
                return -EINVAL;
        r = hmac_sha256(key, data, ret);
        if (r == 0)
                wipe(ret + mac_size(alg), MAC_SIZE_MAX - mac_size(alg)); /* RFC 9053 §3.1: the rest is nobody's */
        return r;
}
