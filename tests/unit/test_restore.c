/*
 * A restore is killed before its n-th step in the file system, for n = 1, 2, … until none is hit, and run again, or its
 * database is served as it is: no number that must never repeat is lower than either database had it, and what was
 * there before is kept with its log.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/cleanup.h"
#include "store/restore.h"
#include "store/store.h"
#include "support/fake.h"
#include "support/parties.h"

#define NOW_S 1700000000
#define STEPS_MAX 200
#define SECOND_CUTS 17 /* of those of the second attempt every so manieth, from another one on each time */

/* ---- steps */

static unsigned kill_at; /* the step that brings this to 0; 0: none */

int __real_open(const char *path, int flags, ...);
int __real_rename(const char *from, const char *to);
int __real_unlink(const char *path);
ssize_t __real_write(int fd, const void *data, size_t size);
int __wrap_open(const char *path, int flags, ...);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
int __wrap_fsync(int fd);
ssize_t __wrap_write(int fd, const void *data, size_t size);

static void step(void) {
        if (kill_at > 0 && --kill_at == 0)
                (void)raise(SIGKILL);
}

int __wrap_open(const char *path, int flags, ...) {
        va_list args;
        mode_t mode = 0;

        va_start(args, flags);
        if (flags & O_CREAT)
                mode = va_arg(args, mode_t);
        va_end(args);
        step();
        return __real_open(path, flags, mode);
}

int __wrap_rename(const char *from, const char *to) {
        step();
        return __real_rename(from, to);
}

int __wrap_unlink(const char *path) {
        step();
        return __real_unlink(path);
}

/* Who is killed loses nothing that is written: no disk has to be waited for, neither here nor in SQLite. */
int __wrap_fsync(int fd) {
        step();
        return fcntl(fd, F_GETFD) >= 0 ? 0 : -1;
}

int fdatasync(int fd) {
        return fcntl(fd, F_GETFD) >= 0 ? 0 : -1;
}

int fsync(int fd) {
        return fdatasync(fd);
}

ssize_t __wrap_write(int fd, const void *data, size_t size) {
        step();
        return __real_write(fd, data, size);
}

/* ---- files */

struct site {
        char folder[64], backup[96], old[96], state[96], database[128];
};

static char *beside(const char *path, const char *suffix) {
        static char ret[4][160];
        static unsigned n;
        char *text = ret[n++ % N_ELEMENTS(ret)];

        assert_true(snprintf(text, sizeof(ret[0]), "%s%s", path, suffix) < (int)sizeof(ret[0]));
        return text;
}

static bool exists(const char *path) {
        return access(path, F_OK) == 0;
}

static void put_file(const char *path, const char *text) {
        FILE *file = fopen(path, "w");

        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
        assert_int_equal(fclose(file), 0);
}

static void copy_file(const char *from, const char *to) {
        FILE *in = fopen(from, "r"), *out = fopen(to, "w");
        char data[65536];
        size_t n;

        assert_true(in && out);
        while ((n = fread(data, 1, sizeof(data), in)) > 0)
                assert_int_equal(fwrite(data, 1, n, out), n);
        assert_int_equal(fclose(in) | fclose(out), 0);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

static void remove_folder(const char *path) {
        if (exists(path))
                assert_int_equal(nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}

/* ---- databases */

static struct store *open_store(const char *path) {
        static const uint8_t key[32] = { 1 };
        _cleanup_(diags_done) struct diags diags = {};
        struct store *store = NULL;

        assert_int_equal(store_open(&(struct store_options){ .path = path, .seal_key = bytes_of(key, sizeof(key)) },
                                    &store, &diags), 0);
        return store;
}

static void make_database(const char *path) {
        struct store *store = open_store(path);

        assert_int_equal(store_begin(store), 0);
        party_add_server(store, "rs1");
        party_add_client(store, "c1", NULL, "read");
        assert_int_equal(store_commit(store), 0);
        store_free(store);
}

/* What must never repeat: as leases, and the sequence of the server's exi. */
struct counters {
        int64_t next[5];
};

static struct counters counters_of(const char *path) {
        struct counters ret = {};
        sqlite3 *db = NULL;
        sqlite3_stmt *read = NULL;

        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, "SELECT next FROM leases UNION ALL SELECT exi_next FROM servers", -1, &read,
                                            NULL), SQLITE_OK);
        for (size_t i = 0; i < N_ELEMENTS(ret.next); i++) {
                assert_int_equal(sqlite3_step(read), SQLITE_ROW);
                ret.next[i] = sqlite3_column_int64(read, 0);
        }
        assert_int_equal(sqlite3_step(read), SQLITE_DONE);
        assert_int_equal(sqlite3_finalize(read), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        return ret;
}

static bool are_reached(const struct counters *counters, const struct counters *old) {
        for (size_t i = 0; i < N_ELEMENTS(old->next); i++)
                if (counters->next[i] < old->next[i])
                        return false;
        return true;
}

/* Ahead of what the backup's are advanced by; only its log knows so, as it was killed. */
static void make_old(const char *path) {
        pid_t pid;
        int status;

        make_database(path);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                sqlite3 *db = NULL;

                if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK)
                        (void)sqlite3_exec(db, "UPDATE leases SET next = (1 << 50) + kind WHERE kind < 3;"
                                               "UPDATE leases SET next = 1 << 39 WHERE kind = 3;"
                                               "UPDATE servers SET exi_next = 1 << 50", NULL, NULL, NULL);
                (void)raise(SIGKILL);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(exists(beside(path, "-wal")));
        (void)unlink(beside(path, "-shm"));
}

/* ---- the place */

static int setup(void **state) {
        struct site *site = calloc(1, sizeof(*site));

        assert_non_null(site);
        fake_random_seed(1);
        (void)snprintf(site->folder, sizeof(site->folder), "/tmp/aced-test-restore-XXXXXX");
        assert_non_null(mkdtemp(site->folder));
        (void)snprintf(site->backup, sizeof(site->backup), "%s/backup", site->folder);
        (void)snprintf(site->old, sizeof(site->old), "%s/old", site->folder);
        (void)snprintf(site->state, sizeof(site->state), "%s/state", site->folder);
        (void)snprintf(site->database, sizeof(site->database), "%s/aced.db", site->state);
        make_database(site->backup);
        make_old(site->old);
        *state = site;
        return 0;
}

static int teardown(void **state) {
        struct site *site = *state;

        remove_folder(site->folder);
        free(site);
        return 0;
}

static void begin(const struct site *site, bool has_old) {
        remove_folder(site->state);
        assert_int_equal(mkdir(site->state, 0700), 0);
        if (!has_old)
                return;
        copy_file(site->old, site->database);
        copy_file(beside(site->old, "-wal"), beside(site->database, "-wal"));
}

static int restore(const struct site *site, char **ret_kept, struct diags *diags) {
        static const uint8_t key[32] = { 1 };

        return store_restore(&(struct restore){ .backup = site->backup, .database = site->database,
                                                .seal_key = { key, sizeof(key) }, .now_s = NOW_S }, ret_kept, diags);
}

/* False: it was done before it came to that step. */
static bool restore_killed_at(const struct site *site, unsigned n) {
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
                struct diags diags = {};
                char *kept = NULL;

                kill_at = n;
                _exit(restore(site, &kept, &diags) == 0 ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        return WIFSIGNALED(status);
}

static void restore_again(const struct site *site) {
        _cleanup_(diags_done) struct diags diags = {};
        _cleanup_(freep) char *kept = NULL;

        if (restore(site, &kept, &diags) != 0)
                fail_msg("%s", diags.n_items > 0 ? diags.items[0].text : "?");
}

/* If aced may start as it is, and what it counts on from. False: it may not. */
static bool starts(const struct site *site, struct counters *ret) {
        _cleanup_(diags_done) struct diags diags = {};

        if (store_restore_check(site->database, &diags) != 0)
                return false;
        assert_true(exists(site->database));
        *ret = counters_of(site->database);
        return true;
}

/* The old database is under some name, log and all. */
static bool is_kept(const struct site *site, const struct counters *old) {
        DIR *folder = opendir(site->state);
        struct dirent *entry;
        bool found = false;
        char path[512];

        assert_non_null(folder);
        while (!found && (entry = readdir(folder))) {
                struct counters counters;

                if (!strstr(entry->d_name, ".before-") || strstr(entry->d_name, "-wal") || strstr(entry->d_name, "-shm"))
                        continue;
                (void)snprintf(path, sizeof(path), "%s/%s", site->state, entry->d_name);
                counters = counters_of(path);
                found = memcmp(&counters, old, sizeof(counters)) == 0;
        }
        closedir(folder);
        return found;
}

static void expect_restored(const struct site *site, const struct counters *old, unsigned n, unsigned m) {
        struct counters counters;

        if (!starts(site, &counters) || exists(beside(site->database, ".restored")))
                fail_msg("killed at %u, %u: not whole", n, m);
        if (old && !are_reached(&counters, old))
                fail_msg("killed at %u, %u: a number comes again", n, m);
        if (old && !is_kept(site, old))
                fail_msg("killed at %u, %u: the old database is not kept", n, m);
        store_free(open_store(site->database));
}

/* ---- tests */

static const struct counters ahead = { .next = { INT64_C(1) << 50, (INT64_C(1) << 50) + 1, (INT64_C(1) << 50) + 2,
                                                 INT64_C(1) << 39, INT64_C(1) << 50 } };

/* Killed at each step, and run again; or served, where it may be, before that. */
static void test_killed_at_each_step(void **state) {
        const struct site *site = *state;
        struct counters counters;
        unsigned n = 1;

        for (bool was_killed = true; was_killed; n++) {
                begin(site, true);
                was_killed = restore_killed_at(site, n);
                restore_again(site);
                expect_restored(site, &ahead, n, 0);

                begin(site, true);
                (void)restore_killed_at(site, n);
                if (starts(site, &counters) && !are_reached(&counters, &ahead))
                        fail_msg("killed at %u: serves lower numbers", n);
                restore_again(site);
                expect_restored(site, &ahead, n, 0);
                assert_true(n < STEPS_MAX);
        }
        assert_true(n > 20);
}

/* What the next attempt takes back is served again if there is something wrong with what it has to restore. */
static void test_taken_back_and_refused(void **state) {
        static const uint8_t wrong[32] = { 2 };
        const struct site *site = *state;
        bool was_killed = true;

        for (unsigned n = 1; was_killed; n++) {
                _cleanup_(diags_done) struct diags diags = {};
                _cleanup_(freep) char *kept = NULL;
                const struct restore refused = { .backup = site->backup, .database = site->database,
                                                 .seal_key = { wrong, sizeof(wrong) }, .now_s = NOW_S };
                struct counters counters;

                begin(site, true);
                was_killed = restore_killed_at(site, n);
                assert_int_equal(store_restore(&refused, &kept, &diags), -EINVAL);
                assert_null(kept);
                if (!starts(site, &counters))
                        fail_msg("killed at %u: neither the old nor the new one is served", n);
                if (!are_reached(&counters, &ahead))
                        fail_msg("killed at %u: a number comes again", n);
                assert_true(n < STEPS_MAX);
        }
}

/* So is the attempt after it, and then it is run once more. */
static void test_killed_twice(void **state) {
        const struct site *site = *state;
        bool was_killed = true;

        for (unsigned n = 1; was_killed; n++) {
                bool again = true;

                for (unsigned m = 1 + n % SECOND_CUTS; again; m += SECOND_CUTS) {
                        begin(site, true);
                        was_killed = restore_killed_at(site, n);
                        again = restore_killed_at(site, m);
                        restore_again(site);
                        expect_restored(site, &ahead, n, m);
                        assert_true(n < STEPS_MAX && m < STEPS_MAX);
                }
        }
}

/* Onto nothing: there is nothing to be taken back. */
static void test_killed_where_none_was(void **state) {
        const struct site *site = *state;
        bool was_killed = true;

        for (unsigned n = 1; was_killed; n++) {
                begin(site, false);
                was_killed = restore_killed_at(site, n);
                restore_again(site);
                expect_restored(site, NULL, n, 0);
                assert_true(n < STEPS_MAX);
        }
}

/* What was cut off before there was a name in the mark: nobody knows which of those that are kept it was. */
static void test_mark_without_a_name(void **state) {
        static const char *const marks[] = { "", "before-x", ".before-../x", "/x" };
        const struct site *site = *state;
        char mark[160], moved[160];

        (void)snprintf(mark, sizeof(mark), "%s.restoring", site->database);
        (void)snprintf(moved, sizeof(moved), "%s.before-x", site->database);
        for (size_t i = 0; i < N_ELEMENTS(marks); i++) {
                _cleanup_(diags_done) struct diags diags = {};
                _cleanup_(freep) char *kept = NULL;

                begin(site, true);
                put_file(mark, marks[i]);
                assert_int_equal(rename(site->database, moved), 0);
                assert_int_equal(rename(beside(site->database, "-wal"), beside(moved, "-wal")), 0);
                assert_int_equal(restore(site, &kept, &diags), -EINVAL);
                assert_non_null(strstr(diags.items[0].text, ".before-"));
                assert_null(kept);
                assert_true(exists(mark) && exists(moved) && !exists(beside(site->database, ".restored")));

                /* as it says: */
                assert_int_equal(rename(moved, site->database), 0);
                assert_int_equal(rename(beside(moved, "-wal"), beside(site->database, "-wal")), 0);
                restore_again(site);
                expect_restored(site, NULL, 0, 0);
        }
}

/* A rollback journal that is left would be played back into another database. */
static void test_journals_go_along(void **state) {
        const struct site *site = *state;
        _cleanup_(diags_done) struct diags diags = {};
        _cleanup_(freep) char *kept = NULL;

        begin(site, true);
        put_file(beside(site->database, "-journal"), "of the old database");
        put_file(beside(site->database, ".restored-journal"), "of an earlier attempt");
        assert_int_equal(restore(site, &kept, &diags), 0);
        assert_false(exists(beside(site->database, "-journal")) || exists(beside(site->database, ".restored-journal")));
        assert_true(exists(beside(kept, "-journal")) && exists(beside(kept, "-wal")));
}

/* Restores within one second keep one database each. */
static void test_none_that_is_kept_is_replaced(void **state) {
        _cleanup_(freep) char *first = NULL, *second = NULL;
        const struct site *site = *state;
        _cleanup_(diags_done) struct diags diags = {};
        struct counters counters;

        begin(site, true);
        assert_int_equal(restore(site, &first, &diags), 0);
        assert_int_equal(restore(site, &second, &diags), 0);
        assert_string_not_equal(first, second);
        assert_true(exists(second));
        counters = counters_of(first);
        assert_memory_equal(&counters, &ahead, sizeof(ahead));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_killed_at_each_step, setup, teardown),
                cmocka_unit_test_setup_teardown(test_taken_back_and_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_killed_twice, setup, teardown),
                cmocka_unit_test_setup_teardown(test_killed_where_none_was, setup, teardown),
                cmocka_unit_test_setup_teardown(test_mark_without_a_name, setup, teardown),
                cmocka_unit_test_setup_teardown(test_journals_go_along, setup, teardown),
                cmocka_unit_test_setup_teardown(test_none_that_is_kept_is_replaced, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
