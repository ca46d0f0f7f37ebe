#pragma once

#include "base/bytes.h"

struct store;

/*
 * The audit trail: rows are only ever added at its end (and removed at its beginning, when they are older than they
 * have to be kept). Each has a hash of the one before it and of itself, so that a row changed, left out, moved or put
 * in between shows. Written in the transaction of what it tells of; numbered from 1 on without gaps.
 *
 * Who can write the file can write all of the chain anew from any row on. That shows to who has noted the number and
 * the hash of a later row elsewhere (store_audit_verify()).
 */
#define AUDIT_HASH_SIZE 32
#define AUDIT_RECORD_MAX 4096

/* SHA-256(hash of the row before ‖ seq ‖ at_s ‖ record), both numbers in eight bytes, big-endian. 0, -ENOMEM, -EIO. */
struct audit_row {
        int64_t seq, at_s;
        struct bytes record; /* one CBOR map (format/audit.h); valid during the call */
        uint8_t hash[AUDIT_HASH_SIZE];
};
int audit_row_hash(const struct audit_row *row, const uint8_t before[static AUDIT_HASH_SIZE],
                   uint8_t ret[static AUDIT_HASH_SIZE]);

/* record: at most AUDIT_RECORD_MAX bytes, else -EINVAL. *ret_seq: its number. Inside a transaction. */
int store_audit_add(struct store *store, int64_t at_s, struct bytes record, int64_t *ret_seq);

/* A row of what an administrator did in another way than at the control socket: what, and what came of it. */
int store_audit_note(struct store *store, int64_t at_s, uint32_t uid, struct bytes action, struct bytes why);

/* The number and hash of a row. */
struct audit_mark {
        int64_t seq; /* 0: in front of the first row; the hash is zeros */
        uint8_t hash[AUDIT_HASH_SIZE];
};
/* What the first row that is kept stands on: the last one removed. */
int store_audit_start(struct store *store, struct audit_mark *ret);
/* The newest row, or the start when there is none. */
int store_audit_head(struct store *store, struct audit_mark *ret);

/* In order after `after`, at most limit. */
int store_audit_each(struct store *store, int64_t after, int64_t limit,
                     int (*row)(void *context, const struct audit_row *row), void *context);
/*
 * The first row at or after a time, by halving: *ret_seq; 0 when there is none. Where the clock was set back rows are
 * not in the order of their times; then it is the first of some such run of rows.
 */
int store_audit_since(struct store *store, int64_t at_s, int64_t *ret_seq);

/* How far a walk over the chain has come. Starts as {}. */
struct audit_place {
        struct audit_mark last; /* the last row looked at */
        bool done;
        int64_t n_rows;
        int64_t bad_seq;        /* the first row that does not fit; 0: none so far */
};
/* One step of at most limit rows. It ends at the first row that does not fit. */
int store_audit_verify(struct store *store, struct audit_place *place, int64_t limit);

/* Does the row of this number have this hash? 0, REFUSE_ADMIN_CONFLICT, REFUSE_ADMIN_UNKNOWN: there is no such row. */
int store_audit_compare(struct store *store, const struct audit_mark *mark);

/*
 * Remove rows from before before_s at the beginning, looking at limit of them; the chain goes on from the last one
 * removed. A row in front of an older one counts as older than that, whatever clock it was written by. The newest row
 * stays, so that numbers go on. *ret_n: how many went.
 */
int store_audit_purge(struct store *store, int64_t before_s, int64_t limit, int64_t *ret_n);
