#include "kept_store.h"

#include <stdlib.h>

#include "fuzz.h"
#include "store/private.h"

struct kept_store {
        struct store *store, then;
        unsigned char *image; /* of the database */
        sqlite3_int64 size;
};

static sqlite3_file *file_of(struct kept_store *kept) {
        sqlite3_file *file = NULL;

        MUST(sqlite3_file_control(kept->store->db, "main", SQLITE_FCNTL_FILE_POINTER, &file) == SQLITE_OK && file);
        return file;
}

struct kept_store *kept_store_new(struct store *store) {
        struct kept_store *kept = calloc(1, sizeof(*kept));
        const unsigned flags = SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_RESIZEABLE;
        unsigned char *used;

        MUST(kept);
        kept->store = store;
        kept->image = sqlite3_serialize(store->db, "main", &kept->size, 0);
        used = sqlite3_serialize(store->db, "main", &kept->size, 0);
        MUST(kept->image && used && kept->size > 0);
        /* what SQLite calls :memory: is no file; this is one, to be written behind its back */
        MUST(sqlite3_deserialize(store->db, "main", used, kept->size, kept->size, flags) == SQLITE_OK);
        /* store.c set these for the one that went */
        MUST(sqlite3_exec(store->db, "PRAGMA secure_delete = FAST; PRAGMA cache_size = -32768", NULL, NULL, NULL) ==
             SQLITE_OK);
        kept->then = *store;
        return kept;
}

/* Is a statement in the midst of its rows? */
static bool is_busy(sqlite3 *db) {
        sqlite3_stmt *stmt = NULL;

        while ((stmt = sqlite3_next_stmt(db, stmt)))
                if (sqlite3_stmt_busy(stmt))
                        return true;
        return false;
}

/* A cache of pages that are no longer so is seen to be old by the change counter in the file's header. */
static void write_image(struct kept_store *kept) {
        sqlite3_file *file = file_of(kept);

        MUST(sqlite3_get_autocommit(kept->store->db) && !is_busy(kept->store->db));
        MUST(file->pMethods->xWrite(file, kept->image, (int)kept->size, 0) == SQLITE_OK);
        MUST(file->pMethods->xTruncate(file, kept->size) == SQLITE_OK);
}

struct store *kept_store_again(struct kept_store *kept) {
        struct store *store = kept->store;

        MUST(!store->in_transaction && !store->backup && !store->snapshot);
        write_image(kept);
        /* what was made when first used stays */
        memcpy(kept->then.queries, store->queries, sizeof(store->queries));
        kept->then.audit.sha256 = store->audit.sha256;
        *store = kept->then;
        return store;
}
