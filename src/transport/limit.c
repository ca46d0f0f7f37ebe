#include "transport/limit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "base/secret.h"
#include "base/siphash.h"
#include "crypto/random.h"
#include "transport/address.h"

#define SECOND_NS INT64_C(1000000000)
#define WAYS 8 /* places that one key may have: searched one by one */

enum key_kind { KEY_NONE, KEY_IPV4, KEY_IPV6, KEY_LINK_LOCAL, KEY_CREDENTIAL };

/* kind: enum key_kind, and the interface of a link-local address above it */
struct key {
        uint64_t value, kind;
};

struct place {
        struct key key;
        int64_t used_us;
        struct bucket buckets[STRANGER_ACTS]; /* a peer has one only */
};

/* Sets of WAYS places: the hash says which set, a walk which place. */
struct table {
        struct place *places;
        size_t n_sets;
        uint64_t n_used;
};

struct limit {
        struct table sources, peers;
        uint8_t hash_key[SIPHASH_KEY_SIZE];
        struct rate source_rates[STRANGER_ACTS], total_rates[STRANGER_ACTS], peer_rate, server_rate;
        struct bucket totals[STRANGER_ACTS];
        struct limit_figures figures;
};

DEFINE_FREEP(struct limit, limit_free)

/* ---- buckets */

bool bucket_take(struct bucket *bucket, const struct rate *rate, int64_t now_us, int64_t *ret_wait_us) {
        int64_t now_ns = now_us * 1000, one_ns, all_ns, missing_ns;

        *ret_wait_us = 0;
        if (rate->per_s == 0)
                return true;
        one_ns = SECOND_NS / rate->per_s;
        all_ns = one_ns * rate->burst;
        missing_ns = bucket->full_ns > now_ns ? bucket->full_ns - now_ns : 0;
        if (missing_ns > all_ns) { /* it was emptied when the burst was larger, or the rate smaller */
                missing_ns = all_ns;
                bucket->full_ns = now_ns + all_ns;
        }
        if (missing_ns + one_ns > all_ns) {
                *ret_wait_us = (missing_ns + one_ns - all_ns + 999) / 1000;
                return false;
        }
        bucket->full_ns = now_ns + missing_ns + one_ns;
        return true;
}

void bucket_give(struct bucket *bucket, const struct rate *rate) {
        if (rate->per_s > 0)
                bucket->full_ns -= SECOND_NS / rate->per_s;
}

/* ---- tables */

static int table_init(struct table *table, int64_t n_places) {
        size_t n_sets = ((size_t)n_places + WAYS - 1) / WAYS;
        struct place *places = calloc(n_sets, WAYS * sizeof(*places)); /* pages that nobody comes to cost nothing */

        if (!places)
                return -ENOMEM;
        free(table->places);
        *table = (struct table){ .places = places, .n_sets = n_sets };
        return 0;
}

/* A change of size forgets: all buckets are full then. */
static void table_resize(struct table *table, int64_t n_places) {
        if (((size_t)n_places + WAYS - 1) / WAYS != table->n_sets)
                (void)table_init(table, n_places);
}

static bool key_equal(const struct key *a, const struct key *b) {
        return a->value == b->value && a->kind == b->kind;
}

/* The hash is keyed: a stranger has addresses to choose from, and must not choose whose place he takes. */
static struct place *table_set(const struct limit *limit, const struct table *table, const struct key *key) {
        return &table->places[siphash(limit->hash_key, bytes_of(key, sizeof(*key))) % table->n_sets * WAYS];
}

static struct place *table_find(const struct limit *limit, const struct table *table, const struct key *key) {
        struct place *set = table_set(limit, table, key);

        for (size_t i = 0; i < WAYS; i++)
                if (key_equal(&set[i].key, key))
                        return &set[i];
        return NULL;
}

/* Its place: one that it has, else an empty one, else that of the one unused longest. */
static struct place *table_get(struct limit *limit, struct table *table, const struct key *key, int64_t now_us) {
        struct place *place = table_find(limit, table, key), *set;

        if (!place) {
                set = table_set(limit, table, key);
                place = set;
                for (size_t i = 0; i < WAYS && place->key.kind != KEY_NONE; i++)
                        if (set[i].key.kind == KEY_NONE || set[i].used_us < place->used_us)
                                place = &set[i];
                table->n_used += place->key.kind == KEY_NONE;
                *place = (struct place){ .key = *key };
        }
        place->used_us = now_us;
        return place;
}

static struct key source_key(const struct address *source) {
        struct key key = {};

        if (source->size > 0 && source->any.sa_family == AF_INET) {
                key = (struct key){ source->in.sin_addr.s_addr, KEY_IPV4 };
        } else if (source->size > 0 && source->any.sa_family == AF_INET6) {
                const struct sockaddr_in6 *in6 = &source->in6;
                bool link_local = IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr); /* all have the same prefix */

                memcpy(&key.value, &in6->sin6_addr.s6_addr[link_local ? 8 : 0], sizeof(key.value));
                key.kind = link_local ? KEY_LINK_LOCAL | (uint64_t)in6->sin6_scope_id << 32 : KEY_IPV6;
        } else {
                key.kind = KEY_IPV4; /* no address at all: they share 0.0.0.0 */
        }
        return key;
}

/* ---- verdicts */

enum limit_verdict limit_stranger(struct limit *limit, const struct address *source, enum stranger_act act,
                                  int64_t now_us, int64_t *ret_wait_us) {
        const struct rate *source_rate = &limit->source_rates[act], *total_rate = &limit->total_rates[act];
        struct bucket total = limit->totals[act];
        struct key key = source_key(source);

        /* before the table is touched: a flood from many addresses is not to wash out those that are known */
        if (!bucket_take(&total, total_rate, now_us, ret_wait_us)) {
                limit->figures.n_refused_total[act]++;
                return LIMIT_TOTAL;
        }
        if (source_rate->per_s > 0 &&
            !bucket_take(&table_get(limit, &limit->sources, &key, now_us)->buckets[act], source_rate, now_us,
                         ret_wait_us)) {
                limit->figures.n_refused_source[act]++;
                return LIMIT_SOURCE;
        }
        limit->totals[act] = total;
        return LIMIT_PASS;
}

void limit_stranger_forgive(struct limit *limit, const struct address *source, enum stranger_act act, int64_t now_us) {
        struct key key = source_key(source);
        struct place *place = table_find(limit, &limit->sources, &key);

        if (place)
                bucket_give(&place->buckets[act], &limit->source_rates[act]);
        bucket_give(&limit->totals[act], &limit->total_rates[act]);
}

static const struct rate *peer_rate(const struct limit *limit, struct limit_peer peer) {
        return peer.is_server ? &limit->server_rate : &limit->peer_rate;
}

bool limit_peer(struct limit *limit, struct limit_peer peer, int64_t now_us, int64_t *ret_wait_us) {
        const struct key key = { (uint64_t)peer.credential_id, KEY_CREDENTIAL };
        const struct rate *rate = peer_rate(limit, peer);

        *ret_wait_us = 0;
        if (rate->per_s == 0 ||
            bucket_take(&table_get(limit, &limit->peers, &key, now_us)->buckets[0], rate, now_us, ret_wait_us))
                return true;
        limit->figures.n_refused_peer++;
        return false;
}

void limit_peer_forgive(struct limit *limit, struct limit_peer peer) {
        const struct key key = { (uint64_t)peer.credential_id, KEY_CREDENTIAL };
        struct place *place = table_find(limit, &limit->peers, &key);

        if (place)
                bucket_give(&place->buckets[0], peer_rate(limit, peer));
}

/* ---- objects */

static void take_rates(struct limit *limit, const struct config *config) {
        limit->source_rates[STRANGER_REQUEST] =
                (struct rate){ config->source_request_rate, config->source_request_burst };
        limit->source_rates[STRANGER_HELLO] = (struct rate){ config->source_hello_rate, config->source_hello_burst };
        limit->source_rates[STRANGER_HANDSHAKE] =
                (struct rate){ config->source_handshake_rate, config->source_handshake_burst };
        limit->total_rates[STRANGER_REQUEST] = (struct rate){ config->total_request_rate, config->total_request_burst };
        limit->total_rates[STRANGER_HELLO] = (struct rate){ config->total_hello_rate, config->total_hello_burst };
        limit->total_rates[STRANGER_HANDSHAKE] = (struct rate){}; /* limits.handshakes_max bounds those under way */
        limit->peer_rate = (struct rate){ config->peer_request_rate, config->peer_request_burst };
        limit->server_rate = (struct rate){ config->server_request_rate, config->server_request_burst };
}

int limit_new(const struct config *config, struct limit **ret) {
        _cleanup_(limit_freep) struct limit *limit = calloc(1, sizeof(*limit));
        int r;

        if (!limit)
                return -ENOMEM;
        take_rates(limit, config);
        if ((r = random_bytes(limit->hash_key, sizeof(limit->hash_key))) < 0 ||
            (r = table_init(&limit->sources, config->sources_max)) < 0 ||
            (r = table_init(&limit->peers, config->sessions_max)) < 0)
                return r;
        *ret = TAKE_PTR(limit);
        return 0;
}

void limit_free(struct limit *limit) {
        if (!limit)
                return;
        free(limit->sources.places);
        free(limit->peers.places);
        wipe(limit->hash_key, sizeof(limit->hash_key));
        free(limit);
}

void limit_reconfigure(struct limit *limit, const struct config *config) {
        take_rates(limit, config);
        table_resize(&limit->sources, config->sources_max);
        table_resize(&limit->peers, config->sessions_max);
}

void limit_figures(const struct limit *limit, struct limit_figures *ret) {
        *ret = limit->figures;
        ret->n_sources = limit->sources.n_used;
        ret->n_sources_max = limit->sources.n_sets * WAYS;
        ret->n_peers = limit->peers.n_used;
        ret->n_peers_max = limit->peers.n_sets * WAYS;
}
