#pragma once

#include "base/bytes.h"

struct store;

/*
 * The audit trail: rows are only ever added at its end (and removed at its beginning, when they are older than they have
 * to be kept). Each has the SHA-256 of the hash before it and of itself, so that a row changed, left out or put in
 * between shows. Written in the transaction of what it tells of.
 */
#define AUDIT_HASH_SIZE 32
#define AUDIT_RECORD_MAX 4096

/* record: one CBOR map (format/audit.h). *ret_seq: its number, without gaps. */
int store_audit_add(struct store *store, int64_t at_s, struct bytes record, int64_t *ret_seq);

struct audit_row {
        int64_t seq, at_s;
        struct bytes record; /* valid during the call */
        uint8_t hash[AUDIT_HASH_SIZE];
};
/* In order after `after`, at most limit. */
int store_audit_each(struct store *store, int64_t after, int64_t limit,
                     int (*row)(void *context, const struct audit_row *row), void *context);
/* The first row at or after a time, by halving: *ret_seq; 0 when there is none. */
int store_audit_since(struct store *store, int64_t at_s, int64_t *ret_seq);

/* How far a walk over the chain has come. Starts as {}. */
struct audit_place {
        int64_t seq;                   /* the last row looked at */
        uint8_t hash[AUDIT_HASH_SIZE];
        bool done;
        int64_t n_rows;
        int64_t bad_seq;               /* the first row that does not fit; 0: none so far */
};
/* One step of at most limit rows. It ends at the first row that does not fit. */
int store_audit_verify(struct store *store, struct audit_place *place, int64_t limit);

/* Remove at most limit rows from before before_s at the beginning; the chain goes on from the last of them. */
int store_audit_purge(struct store *store, int64_t before_s, int64_t limit, int64_t *ret_n);
