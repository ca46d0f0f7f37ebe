#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/diag.h"
#include "base/secret.h"

/*
 * One SQLite database. WAL, synchronous=FULL: what store_commit() answered 0 for is on disk. Everything else of store/
 * works inside a transaction begun here; rows come and go as domain structs. No function here knows the time.
 *
 * Results throughout store/: 0; -ENOMEM; -EIO (disk, corruption), -ENOSPC (disk full), -EBUSY (locked by another
 * program), after which the transaction is to be rolled back; > 0 refusals as each function says.
 */
struct store;

struct store_options {
        const char *path;      /* database file; NULL: in memory, for tests */
        struct bytes seal_key; /* 32 bytes; copied */
};

/*
 * Open or create, apply the schema steps that are missing (each in a transaction), prepare. Faults as text in *diags:
 * a database of a newer version, of another program, sealed under another key (-EINVAL), not readable (-EIO).
 */
int store_open(const struct store_options *options, struct store **ret, struct diags *diags);
void store_free(struct store *store);

/*
 * The batch: begin, any number of savepoints one after the other, one commit. store_begin() also makes sure that the
 * numbers the batch may use are leased durably (store_number), in a commit of their own when a block runs low. -EBUSY
 * when one is begun already. After a failed commit everything since begin is undone and the next begin starts afresh.
 *
 * SQLite gives a whole transaction up when the disk is full or breaks, or memory runs out, in the midst of a change:
 * then all that follows, the commit too, returns that error until store_rollback().
 */
int store_begin(struct store *store);
int store_commit(struct store *store);
void store_rollback(struct store *store);
bool store_in_transaction(const struct store *store);

int store_savepoint(struct store *store);
int store_savepoint_release(struct store *store);
int store_savepoint_rollback(struct store *store);

/* What must never repeat, over any crash or roll-back; each kind has its own row of leased blocks. */
enum number_kind {
        NUMBER_TOKEN, /* cti, kid; AEAD nonces under AS-RS keys */
        NUMBER_NONCE, /* AEAD nonces under the sealing key */
        NUMBER_ROW,   /* ids of clients, servers, credentials, keys, policies: not reused after deletion */
        NUMBER_KINDS,
};
#define NUMBERS_PER_BATCH_MAX 4096 /* of one kind, drawn between begin and commit; more: -EBUSY for that request */
#define NUMBERS_RESERVED_MAX (UINT64_C(1) << 32) /* more are not given, whoever asks */

/*
 * The next batch is a large one and may draw n more numbers of kinds NONCE and ROW than NUMBERS_PER_BATCH_MAX: that
 * store_begin() leases them first, as durably as ever. What is not drawn is there for later batches. Outside of a
 * transaction.
 */
void store_reserve(struct store *store, uint64_t n);

/*
 * Draw the next. Only inside a transaction. 0; -EBUSY (see above); when none is left because no more could be leased,
 * what went wrong then.
 */
int store_number(struct store *store, enum number_kind kind, uint64_t *ret);

/*
 * A nonce of size bytes (12 or 13) that never repeats under any key of ours: a random start stamp, new every time the
 * store is opened (a restored backup may repeat numbers), and a leased number of 8 bytes.
 */
int store_nonce(struct store *store, uint8_t *ret, size_t size);
/* The same from a number that the caller has drawn, under a key for which numbers of that kind alone are used. */
int store_nonce_of(const struct store *store, uint64_t number, uint8_t *ret, size_t size);

/*
 * Secrets at rest: AES-256-GCM under the sealing key, bound to where they stand ("credentials.secret", row id).
 * sealed: nonce ‖ ciphertext ‖ tag. store_unseal() returns -EBADMSG when it does not authenticate.
 */
#define SEALED_OVERHEAD 28
int store_seal(struct store *store, const char *column, int64_t row, struct bytes plain, struct buf *ret_sealed);
int store_unseal(struct store *store, const char *column, int64_t row, struct bytes sealed, struct secret *ret);

/* Same secret, same mark, for those only who have the sealing key: finds a secret registered twice (AS-008). */
int store_secret_mark(struct store *store, struct bytes secret, uint8_t ret[static 32]);

/* The time believed last, in seconds since 1970 UTC, over restarts; 0: none was noted. Set inside a transaction. */
int store_clock_get(struct store *store, int64_t *ret_s);
int store_clock_set(struct store *store, int64_t now_s);

/*
 * The database as it is now, for reading it piece by piece while it changes: a store that nothing is begun or written
 * in, to be freed before its origin. What is committed meanwhile waits in the log; when that grows beyond its limit the
 * snapshot ends, and every reading fails with -EIO. One at a time, else -EBUSY. -EOPNOTSUPP: it is in memory only.
 */
int store_snapshot(struct store *store, struct store **ret);

/* Facts for status: schema version, sizes in bytes. */
struct store_status {
        int schema_version;
        int64_t database_size, wal_size;
        int64_t n_clients, n_servers, n_policies, n_tokens;
};
int store_status(struct store *store, struct store_status *ret);
/* Of these the sizes alone: at no cost, however much there is. */
int store_sizes(struct store *store, int64_t *ret_database, int64_t *ret_wal);
