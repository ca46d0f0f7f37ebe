#pragma once

#include "base/bytes.h"
#include "base/diag.h"

/*
 * How far the numbers are advanced that must never repeat (store.h). What was given out after the backup was made is
 * not known any more; so many cannot have been: at 100 000 a second it takes four months of doing nothing else.
 */
#define RESTORE_ADVANCE (INT64_C(1) << 40)
/*
 * The same for our Sender Sequence Numbers of OSCORE, of which there are 2^40 altogether: notifications and answers to
 * requests that come again take one each, at 1000 a second so many in ten weeks. They end where they end. Not
 * OSCORE_NUMBERS_APART: under a secret that was exported, whoever has it goes on from there.
 */
#define RESTORE_ADVANCE_OSCORE (INT64_C(3) << 31)

struct restore {
        const char *backup;     /* the file that acectl backup made; is only read */
        const char *database;   /* where the server expects its database */
        struct bytes seal_key;
        int64_t now_s;          /* names what is kept */
};

/*
 * Put a backup in the database's place, while no server runs on it (the caller holds the lock). The backup is checked,
 * copied, opened under the sealing key, every secret in it is tried, the numbers advanced, to those of the old database
 * at least if that can be read (the same backup may have been restored before), all of it synced: only then the old
 * database, damaged or not, is renamed out of the way with its log and the copy takes its place. *ret_kept is
 * where the old one is now, for the caller to free, or NULL when there was none. What an earlier call that was cut off
 * had renamed is renamed back first, so that its numbers are read, and it stays whole. What goes wrong is told in
 * *diags, and up to that last step the old database is as it was: -EINVAL a backup that is no good, -EIO, -ENOSPC,
 * -ENOMEM.
 */
int store_restore(const struct restore *restore, char **ret_kept, struct diags *diags);

/*
 * Was a restore of this database cut off in its last step? Then the database is not to be opened, as it may lack its
 * log: the restore is to be run again. -EUCLEAN, told in *diags; 0.
 */
int store_restore_check(const char *database, struct diags *diags);
