#include "transport/chain_cache.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "crypto/hash.h"

_Static_assert(CERTIFICATE_NAME_MAX <= UINT8_MAX, "a rule's size is one byte");

struct known {
        uint8_t hash[SHA256_SIZE];
        struct chain_verdict verdict;
        size_t rules_size;
        uint8_t rules[]; /* each behind its size */
};

struct chain_cache {
        struct known *places[CHAIN_CACHE_PLACES];
        size_t n_taken; /* of them */
        struct chain_cache_figures figures;
};

/* Each certificate behind its size, so that no two chains have the same bytes. */
static int chain_hash(const struct bytes *chain, size_t n, uint8_t ret[static SHA256_SIZE]) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT(CERTIFICATE_CHAIN_MAX * ((size_t)1 << 16));
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i++) {
                uint32_t size = (uint32_t)chain[i].size;

                r = buf_add(&bytes, bytes_of(&size, sizeof(size)));
                if (r == 0)
                        r = buf_add(&bytes, chain[i]);
        }
        return r != 0 ? r : sha256(buf_bytes(&bytes), ret);
}

static struct known **place_of(struct chain_cache *cache, const uint8_t hash[static SHA256_SIZE]) {
        return &cache->places[((size_t)hash[0] << 8 | hash[1]) & (CHAIN_CACHE_PLACES - 1)];
}

/* All rules of a certificate are kept; the caller hears of them up to the one that ends its search. */
struct listening {
        int (*row)(void *context, struct bytes rule);
        void *context;
        int result;
        struct buf rules;
        int failed;
};

static int on_rule(void *context, struct bytes rule) {
        struct listening *listening = context;

        if (listening->failed == 0)
                listening->failed = buf_add_byte(&listening->rules, (uint8_t)rule.size);
        if (listening->failed == 0)
                listening->failed = buf_add(&listening->rules, rule);
        if (listening->result == 0)
                listening->result = listening->row(listening->context, rule);
        return 0;
}

/* Without memory it is read again the next time. */
static void keep(struct chain_cache *cache, const uint8_t hash[static SHA256_SIZE], const struct buf *rules,
                 const struct chain_verdict *verdict) {
        struct known **place = place_of(cache, hash), *known = malloc(sizeof(*known) + rules->size);

        if (!known)
                return;
        memcpy(known->hash, hash, SHA256_SIZE);
        known->verdict = *verdict;
        known->rules_size = rules->size;
        if (rules->size > 0)
                memcpy(known->rules, rules->data, rules->size);
        cache->n_taken += !*place;
        free(*place);
        *place = known;
}

static int tell_rules(const struct known *known, int (*row)(void *context, struct bytes rule), void *context) {
        int r = 0;

        for (size_t at = 0; at < known->rules_size && r == 0; at += 1 + (size_t)known->rules[at])
                r = row(context, bytes_of(known->rules + at + 1, known->rules[at]));
        return r;
}

int chain_cache_take(struct chain_cache *cache, const struct trust_anchors *anchors, const struct bytes *chain,
                     size_t n, int64_t now_s, int (*row)(void *context, struct bytes rule), void *context,
                     struct chain_verdict *ret) {
        struct listening listening = { .row = row, .context = context, .rules = BUF_INIT(CHAIN_CACHE_RULES_MAX) };
        uint8_t hash[SHA256_SIZE];
        const struct known *known;
        struct public_key key;
        int r = chain_hash(chain, n, hash);

        if (r != 0)
                return r;
        known = *place_of(cache, hash);
        if (known && memcmp(known->hash, hash, sizeof(hash)) == 0 && now_s >= known->verdict.path.from_s &&
            now_s < known->verdict.path.until_s) {
                cache->figures.n_known++;
                *ret = known->verdict;
                return tell_rules(known, row, context);
        }

        cache->figures.n_read++;
        r = certificate_take(anchors, chain, n, now_s, on_rule, &listening, &key, &ret->path, &ret->fault);
        if (r == 0 && ret->fault == CERTIFICATE_GOOD) {
                r = public_key_thumbprint(&key, ret->thumbprint);
                if (r == 0 && listening.failed == 0)
                        keep(cache, hash, &listening.rules, ret);
        }
        buf_done(&listening.rules);
        return r != 0 ? r : listening.result;
}

/* ---- the whole */

struct chain_cache *chain_cache_new(void) {
        return calloc(1, sizeof(struct chain_cache));
}

void chain_cache_clear(struct chain_cache *cache) {
        for (size_t i = 0; i < N_ELEMENTS(cache->places) && cache->n_taken > 0; i++) {
                cache->n_taken -= cache->places[i] != NULL;
                free(cache->places[i]);
                cache->places[i] = NULL;
        }
}

void chain_cache_free(struct chain_cache *cache) {
        if (!cache)
                return;
        chain_cache_clear(cache);
        free(cache);
}

void chain_cache_figures(const struct chain_cache *cache, struct chain_cache_figures *ret) {
        *ret = cache->figures;
}
