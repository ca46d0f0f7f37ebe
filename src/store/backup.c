#include "store/backup.h"

#include <errno.h>

#include "store/private.h"

/* Offsets of the versions of the file's format (SQLite's file format, §1.3.3): 2 is with a log, 1 without. */
#define FORMAT_WRITE 18
#define FORMAT_READ 19
#define FORMAT_PLAIN 1

struct backup {
        struct store *store;
        sqlite3_file *file; /* SQLite's own: a second descriptor, once closed, would let its locks go */
        uint64_t size;
};

DEFINE_FREEP(struct backup, backup_free)

/* All that the log has, or nothing: a copy of half a commit is worth nothing. */
static int bring_in_log(struct store *store) {
        int n_log = 0, n_done = 0;
        int code = sqlite3_wal_checkpoint_v2(store->db, "main", SQLITE_CHECKPOINT_PASSIVE, &n_log, &n_done);

        if (code != SQLITE_OK)
                return store_failure(store, code);
        return n_done == n_log ? 0 : -EBUSY;
}

static int measure(struct store *store, uint64_t *ret) {
        int64_t n_pages = 0, page_size = 0;
        int r;

        if ((r = pragma_int(store, "PRAGMA page_count", &n_pages)) != 0 ||
            (r = pragma_int(store, "PRAGMA page_size", &page_size)) != 0)
                return r;
        *ret = (uint64_t)n_pages * (uint64_t)page_size;
        return 0;
}

int backup_begin(struct store *store, struct backup **ret) {
        _cleanup_(backup_freep) struct backup *backup = NULL;
        const char *name = sqlite3_db_filename(store->db, "main");
        int r;

        if (store->in_transaction || store->backup)
                return -EBUSY;
        if (!name || name[0] == '\0')
                return -EOPNOTSUPP;
        backup = calloc(1, sizeof(*backup));
        if (!backup)
                return -ENOMEM;
        if ((r = bring_in_log(store)) != 0 || (r = measure(store, &backup->size)) != 0)
                return r;
        if (sqlite3_file_control(store->db, "main", SQLITE_FCNTL_FILE_POINTER, &backup->file) != SQLITE_OK)
                return -EIO;
        backup->store = store;
        store->backup = backup;
        *ret = TAKE_PTR(backup);
        return 0;
}

void backup_free(struct backup *backup) {
        if (!backup)
                return;
        if (backup->store && backup->store->backup == backup)
                backup->store->backup = NULL;
        free(backup);
}

uint64_t backup_size(const struct backup *backup) {
        return backup->size;
}

int backup_read(struct backup *backup, uint64_t offset, uint8_t *data, size_t size) {
        if (backup->store->backup != backup)
                return -ESTALE;
        if (offset > backup->size || size > backup->size - offset)
                return -EINVAL;
        if (backup->file->pMethods->xRead(backup->file, data, (int)size, (sqlite3_int64)offset) != SQLITE_OK)
                return -EIO;
        /* without a log beside it the copy must not say that it has one */
        for (uint64_t at = FORMAT_WRITE; at <= FORMAT_READ; at++)
                if (at >= offset && at - offset < size)
                        data[at - offset] = FORMAT_PLAIN;
        return 0;
}

int backup_on_commit(void *context, sqlite3 *db, const char *name, int n_pages) {
        struct store *store = context;

        if (n_pages < (store->backup || store->snapshot ? LOG_PAGES_BACKUP : LOG_PAGES))
                return SQLITE_OK;
        store->backup = NULL; /* too slow: the log must not grow for ever */
        if (store->snapshot)
                snapshot_end(store->snapshot);
        /* what cannot be brought in now is with the next commit; this one is durable already */
        (void)sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        return SQLITE_OK;
}
