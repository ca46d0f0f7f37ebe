#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/diag.h"

struct store;

#define CHECK_FAULTS_MAX 100 /* named by one call; a file that is worse is no good anyway */

/*
 * Is this a database of ours, whole and consistent in itself: SQLite's integrity check, references, what the numbers in
 * use say about the leases, audiences, names that tokens need? For a file that nobody writes, such as a backup; nothing
 * is written beside it. Every fault is a row of *diags. 0, also with faults; -ENOMEM; -EIO when it cannot be read.
 */
int store_check_file(const char *path, struct diags *diags);
/*
 * Do the hashes of its audit trail fit (audit.h)? A row that was tampered with makes no database useless, so that this is
 * asked for itself. The first row that does not fit is the fault; results as above.
 */
int store_check_audit_file(const char *path, struct diags *diags);

/* How far a walk over all sealed secrets, public keys and rules has come. Starts as {}. */
struct check_place {
        unsigned table;
        int64_t row;
        bool done;
};

/*
 * One step of that walk, over at most limit rows: each secret opens under the sealing key at the place where it stands,
 * and has the mark that finds it; a public key or rule of a credential has its mark and identity; the server's own keys
 * have the public key and certificate that belong to them. Every one that does not is a row of *diags. 0, -ENOMEM,
 * -EIO.
 */
int store_check_secrets(struct store *store, struct check_place *place, int64_t limit, struct diags *diags);
