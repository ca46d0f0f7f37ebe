#pragma once

#include "crypto/certificate.h"

/*
 * What certificate_take() said of chains that are good: reading and verifying one takes as long as the rest of its
 * handshake, and devices come again with the same. A chain is known by the SHA-256 of its bytes, and believed as long
 * as every certificate of its path is valid. Whose it is is asked anew each time. Of a fixed size: a chain may take
 * another's place, and is then read again.
 */
struct chain_cache;

#define CHAIN_CACHE_PLACES 1024 /* a power of two */
#define CHAIN_CACHE_RULES_MAX 1024 /* bytes of a chain's names; of one that has more nothing is kept */

struct chain_cache *chain_cache_new(void); /* NULL: no memory */
/* Takes NULL. */
void chain_cache_free(struct chain_cache *cache);
/* The trust anchors are others now. */
void chain_cache_clear(struct chain_cache *cache);

/* What certificate_take() said: the rest is of good ones alone. */
struct chain_verdict {
        enum certificate_fault fault;
        uint8_t thumbprint[THUMBPRINT_SIZE]; /* of its key */
        struct certificate_path path;
};

/* As certificate_take(). -EIO too. */
int chain_cache_take(struct chain_cache *cache, const struct trust_anchors *anchors, const struct bytes *chain,
                     size_t n, int64_t now_s, int (*row)(void *context, struct bytes rule), void *context,
                     struct chain_verdict *ret);

struct chain_cache_figures {
        uint64_t n_read, n_known; /* chains that were read; that were known */
};
void chain_cache_figures(const struct chain_cache *cache, struct chain_cache_figures *ret);
