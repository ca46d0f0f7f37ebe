#include "store/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "store/audit.h"
#include "store/check.h"
#include "store/oscore.h"
#include "store/private.h"

#define PATH_SIZE 4096
#define COPY_CHUNK (256 * 1024)
#define CHECK_ROWS 10000
#define KEPT_MAX 100 /* restores within one second */
#define NUMBER_MAX (INT64_C(1) << 62) /* nobody counts so far; a damaged file may say anything */

#define MARK ".restoring"
#define BEFORE ".before-"
#define SUFFIX_SIZE 96 /* of what is put behind the database's name */

/* Of one database. A rollback journal, too, would be played back into whatever is there under the name. */
static const char *const parts[] = { "", "-wal", "-shm", "-journal" };

static int fault(struct diags *diags, const char *path, const char *what, int error) {
        (void)diags_add(diags, path, 0, "cannot %s: %s", what, strerror(error));
        return error == ENOSPC || error == EDQUOT ? -ENOSPC : error == ENOMEM ? -ENOMEM : -EIO;
}

static int path_of(const char *database, const char *suffix, char ret[static PATH_SIZE]) {
        return snprintf(ret, PATH_SIZE, "%s%s", database, suffix) < PATH_SIZE ? 0 : -ENAMETOOLONG;
}

/* What was created, renamed or removed in it is on disk. */
static int sync_directory(const char *database, struct diags *diags) {
        char path[PATH_SIZE];
        _cleanup_(closep) int fd = -1;

        if (path_of(database, "", path) != 0)
                return -ENAMETOOLONG;
        fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd >= 0 && fsync(fd) == 0 ? 0 : fault(diags, database, "sync the directory of the database", errno);
}

/* ---- the copy */

static int remove_parts(const char *database, struct diags *diags) {
        char path[PATH_SIZE];

        for (size_t i = 0; i < N_ELEMENTS(parts); i++)
                if (path_of(database, parts[i], path) != 0 || (unlink(path) != 0 && errno != ENOENT))
                        return fault(diags, database, "remove what an earlier attempt left", errno);
        return 0;
}

static bool write_all(int fd, const void *data, size_t size) {
        const uint8_t *at = data;
        ssize_t n;

        for (; size > 0; at += n, size -= (size_t)n) {
                n = write(fd, at, size);
                if (n < 0 && errno != EINTR)
                        return false;
                n = n < 0 ? 0 : n;
        }
        return true;
}

static bool copy_bytes(int from, int to) {
        static const size_t size = COPY_CHUNK;
        _cleanup_(freep) uint8_t *data = malloc(size);
        ssize_t n;

        if (!data)
                return false;
        while ((n = read(from, data, size)) != 0) {
                if (n < 0 && errno != EINTR)
                        return false;
                if (n > 0 && !write_all(to, data, (size_t)n))
                        return false;
        }
        return true;
}

/* Root restores for the user that the state directory belongs to. */
static bool give_away(const char *database, int fd) {
        char path[PATH_SIZE];
        struct stat st;

        if (geteuid() != 0)
                return true;
        return path_of(database, "", path) == 0 && stat(dirname(path), &st) == 0 &&
               fchown(fd, st.st_uid, st.st_gid) == 0;
}

static int copy_backup(const char *backup, const char *copy, struct diags *diags) {
        _cleanup_(closep) int from = open(backup, O_RDONLY | O_CLOEXEC | O_NOCTTY), to = -1;

        if (from < 0)
                return fault(diags, backup, "read the backup", errno);
        to = open(copy, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (to < 0 || !give_away(copy, to) || !copy_bytes(from, to) || fsync(to) != 0)
                return fault(diags, copy, "copy the backup", errno);
        return 0;
}

/* ---- what is in it */

static int check_secrets(struct store *store, const char *backup, struct diags *diags) {
        struct check_place place = {};
        size_t n_before = diags->n_items;
        int r = 0;

        while (r == 0 && !place.done && diags->n_items - n_before < CHECK_FAULTS_MAX)
                r = store_check_secrets(store, &place, CHECK_ROWS, diags);
        if (r != 0)
                (void)diags_add(diags, backup, 0, "cannot read its secrets: %s", strerror(-r));
        return r == 0 && diags->n_items > n_before ? -EINVAL : r;
}

/* From here on the audit trail is not the one that was there before. */
static int audit(struct store *store, int64_t now_s) {
        return store_audit_note(store, now_s, getuid(), BYTES_LITERAL("restore"),
                                BYTES_LITERAL("a backup with the rows up to here was put in the place of the database"));
}

/* What has been counted: rows of the old database, and how one of them raises the copy's. */
static const struct {
        const char *read, *raise;
} counted[] = {
        { "SELECT kind, CASE kind WHEN 3 THEN min(next, 1 << 40) ELSE next END FROM leases",
          "UPDATE leases SET next = max(next, ?2) WHERE kind = ?1" },
        { "SELECT id, exi_next FROM servers", "UPDATE servers SET exi_next = max(exi_next, ?2) WHERE id = ?1" },
};

_Static_assert(OSCORE_NUMBERS_END == UINT64_C(1) << 40, "as in counted");

DEFINE_FREEP(sqlite3, sqlite3_close_v2)
DEFINE_FREEP(sqlite3_stmt, sqlite3_finalize)

static int raise_to(sqlite3 *old, sqlite3 *copy, const char *read_sql, const char *raise_sql) {
        _cleanup_(sqlite3_finalizep) sqlite3_stmt *read = NULL, *raise = NULL;
        int code = sqlite3_prepare_v2(old, read_sql, -1, &read, NULL);

        if (code == SQLITE_OK && sqlite3_prepare_v2(copy, raise_sql, -1, &raise, NULL) != SQLITE_OK)
                return -EIO;
        while (read && (code = sqlite3_step(read)) == SQLITE_ROW) {
                int64_t number = sqlite3_column_int64(read, 1);

                if (sqlite3_bind_int64(raise, 1, sqlite3_column_int64(read, 0)) != SQLITE_OK ||
                    sqlite3_bind_int64(raise, 2, number < NUMBER_MAX ? number : 0) != SQLITE_OK ||
                    sqlite3_step(raise) != SQLITE_DONE || sqlite3_reset(raise) != SQLITE_OK)
                        return -EIO;
        }
        return code == SQLITE_NOMEM ? -ENOMEM : 0; /* what is damaged tells nothing */
}

/*
 * The same backup may have been restored before: what was given out since then, only the old database knows. Nothing is
 * written there but the index of its log, if it has a log and that lacks one.
 */
static int outrun(struct store *store, const char *database) {
        _cleanup_(sqlite3_close_v2p) sqlite3 *old = NULL;
        char log[PATH_SIZE], uri[URI_MAX];
        bool has_log;
        int r = 0;

        if (path_of(database, "-wal", log) != 0 || uri_of(database, uri, sizeof(uri)) != 0)
                return -ENAMETOOLONG;
        has_log = access(log, F_OK) == 0;
        if (sqlite3_open_v2(has_log ? database : uri, &old,
                            SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | (has_log ? 0 : SQLITE_OPEN_URI), NULL) !=
            SQLITE_OK)
                return !old || sqlite3_errcode(old) == SQLITE_NOMEM ? -ENOMEM : 0;
        (void)sqlite3_db_config(old, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        (void)sqlite3_db_config(old, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
        for (size_t i = 0; r == 0 && i < N_ELEMENTS(counted); i++)
                r = raise_to(old, store->db, counted[i].read, counted[i].raise);
        return r;
}

/*
 * The rows are advanced behind the back of what this store has leased: it notices when it gives its leases back, and
 * lets them go.
 */
static int advance(struct store *store, const struct restore *restore, struct diags *diags) {
        char sql[256];
        int r;

        (void)snprintf(sql, sizeof(sql), "UPDATE leases SET next = next + %lld WHERE kind <> 3; "
                       "UPDATE leases SET next = min(next + %lld, %lld) WHERE kind = 3; "
                       "UPDATE servers SET exi_next = exi_next + %lld", (long long)RESTORE_ADVANCE,
                       (long long)RESTORE_ADVANCE_OSCORE, (long long)OSCORE_NUMBERS_END, (long long)RESTORE_ADVANCE);
        if ((r = store_begin(store)) == 0) {
                if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK)
                        r = -EIO;
                else if ((r = outrun(store, restore->database)) == 0)
                        r = audit(store, restore->now_s);
                if (r == 0)
                        r = store_commit(store);
                else
                        store_rollback(store);
        }
        if (r != 0)
                (void)diags_add(diags, restore->backup, 0, "cannot advance its numbers: %s", sqlite3_errmsg(store->db));
        return r;
}

static int prepare(const struct restore *restore, const char *copy, struct diags *diags) {
        _cleanup_(store_freep) struct store *store = NULL;
        int r = store_open(&(struct store_options){ .path = copy, .seal_key = restore->seal_key }, &store, diags);

        if (r != 0)
                return r;
        if ((r = check_secrets(store, restore->backup, diags)) != 0)
                return r;
        return advance(store, restore, diags);
}

/* Closing brought the log in and removed it; else the copy would have to move with it. */
static int finish_copy(const char *copy, struct diags *diags) {
        _cleanup_(closep) int fd = open(copy, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        char log[PATH_SIZE];

        if (path_of(copy, "-wal", log) != 0 || access(log, F_OK) == 0) {
                (void)diags_add(diags, copy, 0, "its log could not be brought in");
                return -EIO;
        }
        return fd >= 0 && fsync(fd) == 0 ? 0 : fault(diags, copy, "sync the copy", errno);
}

/* ---- the exchange */

/* A name that nothing has, to be put behind the database's: .before-20300131T120000Z, then …-2 */
static int kept_suffix(const struct restore *restore, char ret[static SUFFIX_SIZE]) {
        time_t now = restore->now_s;
        struct tm parts_of;
        char stamp[64], path[PATH_SIZE];

        if (!gmtime_r(&now, &parts_of) || strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &parts_of) == 0)
                return -EINVAL;
        for (unsigned n = 1; n <= KEPT_MAX; n++) {
                (void)snprintf(ret, SUFFIX_SIZE, n > 1 ? BEFORE "%s-%u" : BEFORE "%s", stamp, n);
                if (path_of(restore->database, ret, path) != 0)
                        return -ENAMETOOLONG;
                if (access(path, F_OK) != 0)
                        return 0;
        }
        return -EEXIST;
}

/*
 * The database itself leaves first and comes back last, each on disk before the next: where it is not in its place, all
 * of it is to be moved back; where it is, nothing is.
 */
static int move_parts(const char *from, const char *to, bool back, bool *ret_any, struct diags *diags) {
        char old[PATH_SIZE], new[PATH_SIZE];
        int r = 0;

        *ret_any = false;
        for (size_t i = 0; r == 0 && i < N_ELEMENTS(parts); i++) {
                const char *part = parts[back ? N_ELEMENTS(parts) - 1 - i : i];

                if (path_of(from, part, old) != 0 || path_of(to, part, new) != 0)
                        return fault(diags, from, "rename the old database", ENAMETOOLONG);
                if (rename(old, new) == 0) {
                        *ret_any = true;
                        r = sync_directory(from, diags);
                } else if (errno != ENOENT) {
                        return fault(diags, old, "rename the old database", errno);
                }
        }
        return r;
}

/* Says what is put behind the old database's name. There is all of it, or no mark. */
static int write_mark(const char *mark, const char *suffix, struct diags *diags) {
        _cleanup_(closep) int fd = -1;
        char new[PATH_SIZE];

        if (path_of(mark, ".new", new) != 0)
                return -ENAMETOOLONG;
        fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0 || !give_away(mark, fd) || !write_all(fd, suffix, strlen(suffix)) || fsync(fd) != 0 ||
            rename(new, mark) != 0)
                return fault(diags, mark, "mark the beginning", errno);
        return sync_directory(mark, diags);
}

static int remove_mark(const char *mark, struct diags *diags) {
        return unlink(mark) == 0 ? sync_directory(mark, diags) : fault(diags, mark, "remove the mark", errno);
}

/* -ENOENT: there is none. *ret is "" when it does not say what is put behind the name. */
static int read_mark(const char *mark, char ret[static SUFFIX_SIZE], struct diags *diags) {
        _cleanup_(closep) int fd = open(mark, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        ssize_t n;

        if (fd < 0 && errno == ENOENT)
                return -ENOENT;
        n = fd >= 0 ? read(fd, ret, SUFFIX_SIZE - 1) : -1;
        if (n < 0)
                return fault(diags, mark, "read the mark", errno);
        ret[n] = '\0';
        if (strncmp(ret, BEFORE, strlen(BEFORE)) != 0 || strchr(ret, '/'))
                ret[0] = '\0';
        return 0;
}

/*
 * What a restore that was cut off has moved away comes back, with its log, which alone may have its last numbers; what
 * it has put in its place is as good as any database.
 */
static int take_back(const struct restore *restore, const char *mark, struct diags *diags) {
        char suffix[SUFFIX_SIZE], kept[PATH_SIZE];
        bool any;
        int r = read_mark(mark, suffix, diags);

        if (r != 0)
                return r == -ENOENT ? 0 : r;
        if (access(restore->database, F_OK) == 0)
                return remove_mark(mark, diags);
        if (suffix[0] == '\0') {
                (void)diags_add(diags, restore->database, 0, "an earlier restore was cut off and did not note where the "
                                "old database is: rename %s" BEFORE "…, and the files of that name with -wal and -shm, "
                                "back to %s, -wal and -shm; or remove %s if there was none", restore->database,
                                restore->database, mark);
                return -EINVAL;
        }
        if (path_of(restore->database, suffix, kept) != 0)
                return -ENAMETOOLONG;
        r = move_parts(kept, restore->database, true, &any, diags);
        return r == 0 ? remove_mark(mark, diags) : r;
}

/* The mark stands while neither the old nor the new database may be trusted to be whole. */
static int exchange(const struct restore *restore, const char *copy, const char *mark, char **ret_kept,
                    struct diags *diags) {
        char suffix[SUFFIX_SIZE], kept[PATH_SIZE];
        bool any;
        int r = kept_suffix(restore, suffix);

        if (r != 0 || (r = path_of(restore->database, suffix, kept)) != 0)
                return fault(diags, restore->database, "find a name for the old database", -r);
        if ((r = write_mark(mark, suffix, diags)) != 0 ||
            (r = move_parts(restore->database, kept, false, &any, diags)) != 0)
                return r;
        if (any && !(*ret_kept = strdup(kept)))
                return fault(diags, restore->database, "keep the old database", ENOMEM);
        if (rename(copy, restore->database) != 0)
                return fault(diags, copy, "put the copy in place", errno);
        return (r = sync_directory(mark, diags)) == 0 ? remove_mark(mark, diags) : r;
}

int store_restore(const struct restore *restore, char **ret_kept, struct diags *diags) {
        size_t n_before = diags->n_items;
        char copy[PATH_SIZE], mark[PATH_SIZE];
        int r;

        *ret_kept = NULL;
        if (path_of(restore->database, ".restored", copy) != 0 || path_of(restore->database, MARK, mark) != 0)
                return -ENAMETOOLONG;
        if ((r = store_check_file(restore->backup, diags)) != 0)
                return r;
        if (diags->n_items > n_before)
                return -EINVAL;
        /* told, and restored nevertheless: the rest of it is good, and it may be all that there is */
        if ((r = store_check_audit_file(restore->backup, diags)) != 0)
                return r;
        if ((r = remove_parts(copy, diags)) == 0 && (r = copy_backup(restore->backup, copy, diags)) == 0 &&
            (r = take_back(restore, mark, diags)) == 0 && (r = prepare(restore, copy, diags)) == 0 &&
            (r = finish_copy(copy, diags)) == 0)
                return exchange(restore, copy, mark, ret_kept, diags);
        (void)remove_parts(copy, diags);
        return r;
}

int store_restore_check(const char *database, struct diags *diags) {
        char mark[PATH_SIZE];

        if (path_of(database, MARK, mark) != 0 || access(mark, F_OK) != 0)
                return 0;
        (void)diags_add(diags, database, 0, "a restore was begun and not finished: run aced --restore again");
        return -EUCLEAN;
}
