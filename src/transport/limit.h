#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct address;
struct config;

/*
 * How often somebody may: token buckets of source addresses, of authenticated peers, and of all strangers together.
 * However many come, nothing is allocated for them: the tables are made once. Where there is no place for a new one,
 * one of those unused longest goes; its bucket is full when it comes again, which errs on its side.
 *
 * A source is an IPv4 address, the /64 of an IPv6 address (what one site or machine has at its disposal), or a whole
 * link-local address with its interface.
 */

/* So many a second for ever; so many at once after a pause. per_s 0: no limit. */
struct rate {
        int64_t per_s, burst;
};

/* All zero: full. */
struct bucket {
        int64_t full_ns; /* when it is full again: monotonic */
};

/* Take one. False: there is none; *ret_wait_us says how long until there is. */
bool bucket_take(struct bucket *bucket, const struct rate *rate, int64_t now_us, int64_t *ret_wait_us);
/* Put one back that was taken. */
void bucket_give(struct bucket *bucket, const struct rate *rate);

/* What strangers do, each by a rate of its own. */
enum stranger_act {
        STRANGER_REQUEST,   /* a request over coap */
        STRANGER_HELLO,     /* a ClientHello without a valid cookie: its sender may be anybody */
        STRANGER_HANDSHAKE, /* one with a valid cookie: its sender is where he says */
        STRANGER_ACTS,
};

enum limit_verdict {
        LIMIT_PASS,
        LIMIT_SOURCE, /* too much from this source */
        LIMIT_TOTAL,  /* too much from all sources */
};

struct limit;

/* 0, -ENOMEM, -EIO (no randomness). */
int limit_new(const struct config *config, struct limit **ret);
void limit_free(struct limit *limit);

/* Rates hold from now on, also for those that are known. Without memory for larger tables those that are stay. */
void limit_reconfigure(struct limit *limit, const struct config *config);

/* LIMIT_SOURCE: *ret_wait_us says for how long. What is refused is not charged. */
enum limit_verdict limit_stranger(struct limit *limit, const struct address *source, enum stranger_act act,
                                  int64_t now_us, int64_t *ret_wait_us);
/* What the source did turned out well: it is not charged for it. */
void limit_stranger_forgive(struct limit *limit, const struct address *source, enum stranger_act act, int64_t now_us);

/* An authenticated peer. A resource server has a rate of its own: it asks about the tokens of all its clients. */
struct limit_peer {
        int64_t credential_id;
        bool is_server;
};
/* False: too much, for *ret_wait_us. */
bool limit_peer(struct limit *limit, struct limit_peer peer, int64_t now_us, int64_t *ret_wait_us);
/* What the peer did was part of something that it is charged for already. */
void limit_peer_forgive(struct limit *limit, struct limit_peer peer);

struct limit_figures {
        uint64_t n_sources, n_sources_max;              /* that are known; places there are */
        uint64_t n_peers, n_peers_max;
        uint64_t n_refused_source[STRANGER_ACTS];
        uint64_t n_refused_total[STRANGER_ACTS];
        uint64_t n_refused_peer;
};
void limit_figures(const struct limit *limit, struct limit_figures *ret);
