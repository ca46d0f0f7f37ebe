#pragma once

#include <stddef.h>
#include <stdint.h>

struct store;

/*
 * A copy of the database as it is at one moment, while it is in use. All commits so far are brought from the log into
 * the database file, whose bytes then stay as they are until the copy ends: what is committed meanwhile waits in the
 * log. So reading costs the server no more than reading, and nothing is copied twice. The copy is a database file in
 * itself, without a log; its secrets are sealed, and the sealing key is not in it.
 */
struct backup;

/*
 * Outside of a transaction. -EBUSY: another copy is under way, or another program reads the database; -EOPNOTSUPP: it
 * is in memory only. The store must outlive the backup.
 */
int backup_begin(struct store *store, struct backup **ret);
void backup_free(struct backup *backup);

uint64_t backup_size(const struct backup *backup);

/*
 * Exactly size bytes from offset on, which must be within the copy. -ESTALE: it took so long that the log grew beyond
 * its limit and was brought in; the copy is to be begun anew. -EIO.
 */
int backup_read(struct backup *backup, uint64_t offset, uint8_t *data, size_t size);
