#include "transport/chain_cache.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "crypto/hash.h"

_Static_assert(CERTIFICATE_NAME_MAX <= UINT8_MAX, "a rule's size is one byte");

struct verdict {
        uint8_t hash[SHA256_SIZE];
        uint8_t thumbprint[THUMBPRINT_SIZE];
        struct certificate_period period;
        size_t rules_size;
        uint8_t rules[]; /* each behind its size */
};

struct chain_cache {
        struct verdict *places[CHAIN_CACHE_PLACES];
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

static struct verdict **place_of(struct chain_cache *cache, const uint8_t hash[static SHA256_SIZE]) {
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
                 const uint8_t thumbprint[static THUMBPRINT_SIZE], const struct certificate_period *period) {
        struct verdict **place = place_of(cache, hash), *verdict = malloc(sizeof(*verdict) + rules->size);

        if (!verdict)
                return;
        memcpy(verdict->hash, hash, SHA256_SIZE);
        memcpy(verdict->thumbprint, thumbprint, THUMBPRINT_SIZE);
        verdict->period = *period;
        verdict->rules_size = rules->size;
        if (rules->size > 0)
                memcpy(verdict->rules, rules->data, rules->size);
        free(*place);
        *place = verdict;
}

static int take_known(const struct verdict *verdict, int (*row)(void *context, struct bytes rule), void *context) {
        int r = 0;

        for (size_t at = 0; at < verdict->rules_size && r == 0; at += 1 + (size_t)verdict->rules[at])
                r = row(context, bytes_of(verdict->rules + at + 1, verdict->rules[at]));
        return r;
}

int chain_cache_take(struct chain_cache *cache, const struct trust_anchors *anchors, const struct bytes *chain, size_t n,
                     int64_t now_s, int (*row)(void *context, struct bytes rule), void *context,
                     uint8_t ret_thumbprint[static THUMBPRINT_SIZE], enum certificate_fault *ret_fault) {
        struct listening listening = { .row = row, .context = context, .rules = BUF_INIT(CHAIN_CACHE_RULES_MAX) };
        uint8_t hash[SHA256_SIZE];
        struct certificate_period period;
        const struct verdict *verdict;
        struct public_key key;
        int r = chain_hash(chain, n, hash);

        if (r != 0)
                return r;
        verdict = *place_of(cache, hash);
        if (verdict && memcmp(verdict->hash, hash, sizeof(hash)) == 0 && now_s >= verdict->period.from_s &&
            now_s < verdict->period.until_s) {
                cache->figures.n_known++;
                *ret_fault = CERTIFICATE_GOOD;
                memcpy(ret_thumbprint, verdict->thumbprint, THUMBPRINT_SIZE);
                return take_known(verdict, row, context);
        }

        cache->figures.n_read++;
        r = certificate_take(anchors, chain, n, now_s, on_rule, &listening, &key, &period, ret_fault);
        if (r == 0 && *ret_fault == CERTIFICATE_GOOD) {
                r = public_key_thumbprint(&key, ret_thumbprint);
                if (r == 0 && listening.failed == 0)
                        keep(cache, hash, &listening.rules, ret_thumbprint, &period);
        }
        buf_done(&listening.rules);
        return r != 0 ? r : listening.result;
}

/* ---- the whole */

struct chain_cache *chain_cache_new(void) {
        return calloc(1, sizeof(struct chain_cache));
}

void chain_cache_clear(struct chain_cache *cache) {
        for (size_t i = 0; i < N_ELEMENTS(cache->places); i++) {
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
