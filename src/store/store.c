#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "crypto/hash.h"
#include "crypto/random.h"
#include "store/private.h"
#include "store/schema.h"
#include "store/seal_key.h"

#define BUSY_TIMEOUT_MS 100       /* another program holds the lock: wait no longer, the event loop stands still */
#define SQL_SIZE_MAX 100000
#define VALUE_SIZE_MAX 1000000
#define LEASE_BLOCK 65536         /* numbers; a commit of its own once in so many */

_Static_assert(LEASE_BLOCK > 2 * NUMBERS_PER_BATCH_MAX, "a block lasts for more than one batch");

/* What makes a commit durable, forgets deleted content, trusts nothing that somebody put into the schema. */
static const char pragmas[] =
        "PRAGMA synchronous = FULL;"
        "PRAGMA foreign_keys = ON;"
        "PRAGMA trusted_schema = OFF;"
        "PRAGMA secure_delete = FAST;" /* secrets are sealed: no extra writes for the rest */
        "PRAGMA temp_store = MEMORY;"
        "PRAGMA cache_size = -32768;"
        "PRAGMA journal_size_limit = 67108864;";

int pragma_int(struct store *store, const char *sql, int64_t *ret) {
        sqlite3_stmt *stmt = NULL;
        int code = sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL);

        if (code == SQLITE_OK)
                code = sqlite3_step(stmt);
        if (code == SQLITE_ROW)
                *ret = sqlite3_column_int64(stmt, 0);
        (void)sqlite3_finalize(stmt);
        return code == SQLITE_ROW ? 0 : store_failure(store, code);
}

static int execute(struct store *store, const char *sql) {
        int code = sqlite3_exec(store->db, sql, NULL, NULL, NULL);

        return code == SQLITE_OK ? 0 : store_failure(store, code);
}

/* ---- opening */

/* Only we read it, and what SQLite makes beside it gets the same mode. */
static int create_file(const char *path, struct diags *diags) {
        _cleanup_(closep) int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0 && errno != EEXIST) {
                int error = errno;

                (void)diags_add(diags, path, 0, "cannot create the database: %s", strerror(error));
                return error == ENOSPC || error == EDQUOT ? -ENOSPC : -EIO;
        }
        return 0;
}

static int connect_file(struct store *store, const char *path, struct diags *diags) {
        int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
        int r = path ? create_file(path, diags) : 0;

        if (r != 0)
                return r;
        if (sqlite3_open_v2(path ? path : ":memory:", &store->db, flags, NULL) != SQLITE_OK) {
                (void)diags_add(diags, path, 0, "cannot open the database: %s", sqlite3_errmsg(store->db));
                return store->db ? store_failure(store, sqlite3_extended_errcode(store->db)) : -ENOMEM;
        }

        /* a file that somebody else wrote must find no way to make us run or write what we did not mean to */
        (void)sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        (void)sqlite3_db_config(store->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
        (void)sqlite3_db_config(store->db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
        (void)sqlite3_db_config(store->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
        (void)sqlite3_db_config(store->db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
        (void)sqlite3_limit(store->db, SQLITE_LIMIT_SQL_LENGTH, SQL_SIZE_MAX);
        (void)sqlite3_limit(store->db, SQLITE_LIMIT_LENGTH, VALUE_SIZE_MAX);
        (void)sqlite3_limit(store->db, SQLITE_LIMIT_ATTACHED, 0);
        (void)sqlite3_busy_timeout(store->db, BUSY_TIMEOUT_MS);
        return 0;
}

/* Whose file is it? Asked before anything is changed. */
static int inspect(struct store *store, const char *path, int64_t *ret_version, struct diags *diags) {
        int64_t application = 0, n_objects = 0;
        int newest = n_schema_steps > 0 ? schema_steps[n_schema_steps - 1].version : 0;
        int r;

        if ((r = pragma_int(store, "PRAGMA application_id", &application)) != 0 ||
            (r = pragma_int(store, "PRAGMA user_version", ret_version)) != 0 ||
            (r = pragma_int(store, "SELECT count(*) FROM sqlite_schema", &n_objects)) != 0) {
                (void)diags_add(diags, path, 0, "cannot read the database: %s", sqlite3_errmsg(store->db));
                return sqlite3_errcode(store->db) == SQLITE_NOTADB ? -EINVAL : r;
        }

        if (application != APPLICATION_ID && (application != 0 || *ret_version != 0 || n_objects != 0)) {
                (void)diags_add(diags, path, 0, "this is the database of another program; nothing was changed in it");
                return -EINVAL;
        }
        if (*ret_version > newest) {
                (void)diags_add(diags, path, 0, "the database is of version %lld, this program knows versions up to "
                                "%d: run the newer program, or restore a backup from before the upgrade",
                                (long long)*ret_version, newest);
                return -EINVAL;
        }
        return 0;
}

static int set_pragmas(struct store *store, const char *path, struct diags *diags) {
        sqlite3_stmt *stmt = NULL;
        const char *mode = NULL;
        int code, r = 0;

        code = sqlite3_prepare_v2(store->db, "PRAGMA journal_mode = WAL", -1, &stmt, NULL);
        if (code == SQLITE_OK)
                code = sqlite3_step(stmt);
        if (code == SQLITE_ROW)
                mode = (const char *)sqlite3_column_text(stmt, 0);
        if (!mode)
                r = store_failure(store, code);
        else if (path && strcmp(mode, "wal") != 0)
                r = -EIO;
        (void)sqlite3_finalize(stmt);

        if (r == 0)
                r = execute(store, pragmas);
        (void)sqlite3_wal_hook(store->db, backup_on_commit, store);
        if (r != 0)
                (void)diags_add(diags, path, 0, "cannot set the database up for durable commits: %s",
                                sqlite3_errmsg(store->db));
        return r;
}

/* Tells whether a database was sealed under this key; tells nobody the key. */
static int key_check(struct store *store, uint8_t ret[static SHA256_SIZE]) {
        return hmac_sha256(secret_bytes(&store->mark_key), BYTES_LITERAL("aced: sealing key check"), ret);
}

static int mark_new_database(struct store *store) {
        uint8_t check[SHA256_SIZE];
        char hex[2 * SHA256_SIZE + 1], sql[256];
        int r = key_check(store, check);

        if (r != 0)
                return r;
        bytes_to_hex(bytes_of(check, sizeof(check)), hex, sizeof(hex));
        (void)snprintf(sql, sizeof(sql),
                       "PRAGMA application_id = %d; INSERT INTO meta (name, value) VALUES ('seal_key_check', x'%s');",
                       APPLICATION_ID, hex);
        return execute(store, sql);
}

static int apply_step(struct store *store, const char *path, const struct schema_step *step, int64_t version,
                      struct diags *diags) {
        char sql[64];
        int r;

        (void)snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", step->version);
        if ((r = execute(store, "BEGIN IMMEDIATE")) == 0 && (r = execute(store, step->sql)) == 0 &&
            (r = version == 0 ? mark_new_database(store) : 0) == 0 && (r = execute(store, sql)) == 0)
                r = execute(store, "COMMIT");
        if (r == 0)
                return 0;
        /* told first: the rollback has a fault of its own when SQLite has rolled back already, as on a full disk */
        (void)diags_add(diags, path, 0, "cannot apply schema step %s: %s", step->name, sqlite3_errmsg(store->db));
        (void)sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        return r;
}

static int migrate(struct store *store, const char *path, int64_t version, struct diags *diags) {
        for (size_t i = 0; i < n_schema_steps; i++) {
                int r;

                if (schema_steps[i].version <= version)
                        continue;
                r = apply_step(store, path, &schema_steps[i], version, diags);
                if (r != 0)
                        return r;
                version = schema_steps[i].version;
        }
        return 0;
}

static int check_key(struct store *store, const char *path, struct diags *diags) {
        uint8_t ours[SHA256_SIZE];
        sqlite3_stmt *stmt = NULL;
        bool same = false;
        int code, r = key_check(store, ours);

        if (r != 0)
                return r;
        code = sqlite3_prepare_v2(store->db, "SELECT value FROM meta WHERE name = 'seal_key_check'", -1, &stmt, NULL);
        if (code == SQLITE_OK)
                code = sqlite3_step(stmt);
        if (code == SQLITE_ROW) {
                const void *value = sqlite3_column_blob(stmt, 0);

                same = bytes_equal_ct(bytes_of(value, (size_t)sqlite3_column_bytes(stmt, 0)),
                                      bytes_of(ours, sizeof(ours)));
        }
        if (code != SQLITE_ROW && code != SQLITE_DONE)
                r = store_failure(store, code);
        (void)sqlite3_finalize(stmt);

        if (r == 0 && !same) {
                (void)diags_add(diags, path, 0, "the secrets in this database are sealed under another key: "
                                "give the sealing key that it was made with");
                r = -EINVAL;
        }
        return r;
}

static int open_database(struct store *store, const struct store_options *options, struct diags *diags) {
        int64_t version = 0;
        int r;

        if ((r = connect_file(store, options->path, diags)) != 0 ||
            (r = inspect(store, options->path, &version, diags)) != 0 ||
            (r = set_pragmas(store, options->path, diags)) != 0 ||
            (r = migrate(store, options->path, version, diags)) != 0)
                return r;
        return check_key(store, options->path, diags);
}

/* One thread uses SQLite in this process: locks around every allocation cost a tenth of all. Has effect once. */
static void configure_library(void) {
        (void)sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
        (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

int store_open(const struct store_options *options, struct store **ret, struct diags *diags) {
        _cleanup_(store_freep) struct store *store = calloc(1, sizeof(*store));
        int r;

        configure_library();
        if (!store)
                return -ENOMEM;
        if (options->seal_key.size != SEAL_KEY_SIZE) {
                (void)diags_add(diags, NULL, 0, "the sealing key must have %d bytes, this one has %zu", SEAL_KEY_SIZE,
                                options->seal_key.size);
                return -EINVAL;
        }
        for (size_t i = 0; i < NUMBER_KINDS; i++)
                store->leases[i] = (struct lease){ 1, 1, 0 };

        if ((r = seal_keys_derive(store, options->seal_key)) != 0 ||
            (r = random_bytes(store->nonce_stamp, sizeof(store->nonce_stamp))) != 0) {
                (void)diags_add(diags, NULL, 0, "no randomness or no cryptography on this machine");
                return r;
        }
        r = open_database(store, options, diags);
        if (r != 0)
                return r;
        if ((r = query_prepare(store, QUERY_ROLLBACK)) != 0)
                return r;
        r = policies_look(store);
        if (r != 0) {
                (void)diags_add(diags, options->path, 0, "its policies cannot be read");
                return r;
        }

        *ret = TAKE_PTR(store);
        return 0;
}

/* What SQLite has begun and not given up by itself; its statement is there since store_open(), as memory may be short. */
static void abandon(struct store *store) {
        if (!sqlite3_get_autocommit(store->db))
                (void)query_simple(store, QUERY_ROLLBACK);
}

/* ---- numbers */

static int lease_row(struct store *store, enum number_kind kind, uint64_t size, uint64_t *ret_end) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_LEASE, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, kind);
        query_int(&q, 2, (int64_t)size);
        r = query_next(&q);
        if (r != 0)
                return r < 0 ? r : -EIO;
        *ret_end = (uint64_t)row_int(&q, 0);
        return query_run(&q);
}

int transaction_begin(struct store *store) {
        return store->in_transaction ? -EBUSY : query_simple(store, QUERY_BEGIN);
}

int transaction_end(struct store *store, int r) {
        if (r == 0)
                r = query_simple(store, QUERY_COMMIT);
        if (r != 0)
                abandon(store);
        return r;
}

/* A transaction of its own: leased is leased, whatever becomes of the batch that draws. */
static int lease_more(struct store *store, enum number_kind kind, uint64_t size) {
        struct lease *lease = &store->leases[kind];
        uint64_t end = 0;
        int r = transaction_begin(store);

        if (r == 0)
                r = transaction_end(store, lease_row(store, kind, size, &end));
        if (r != 0)
                return r;

        /* usually the new block continues ours; if somebody leased in between, the rest of ours is let go */
        if (end - size != lease->end)
                lease->next = end - size;
        lease->end = end;
        return 0;
}

void store_reserve(struct store *store, uint64_t n) {
        store->n_reserved = n < NUMBERS_RESERVED_MAX ? n : NUMBERS_RESERVED_MAX;
}

static void lease_if_low(struct store *store) {
        uint64_t reserved = store->n_reserved;

        store->lease_error = 0;
        store->n_reserved = 0;
        store->n_drawn_max = NUMBERS_PER_BATCH_MAX + reserved;
        for (int kind = 0; kind < NUMBER_KINDS; kind++) {
                struct lease *lease = &store->leases[kind];
                uint64_t more = kind == NUMBER_TOKEN ? 0 : reserved; /* long numbers make long tokens */

                lease->drawn = 0;
                if (lease->end - lease->next < NUMBERS_PER_BATCH_MAX + more && store->lease_error == 0)
                        store->lease_error = lease_more(store, kind, LEASE_BLOCK + more);
        }
}

int store_number(struct store *store, enum number_kind kind, uint64_t *ret) {
        struct lease *lease = &store->leases[kind];

        if (!store->in_transaction || lease->drawn >= store->n_drawn_max)
                return -EBUSY;
        if (lease->next >= lease->end)
                return store->lease_error != 0 ? store->lease_error : -EBUSY;
        lease->drawn++;
        *ret = lease->next++; /* never taken back, not by a roll-back either */
        return 0;
}

/* Give back what was not drawn, so that an orderly restart leaves no gap. */
static void return_leases(struct store *store) {
        if (query_simple(store, QUERY_BEGIN) != 0)
                return;
        for (int kind = 0; kind < NUMBER_KINDS; kind++) {
                _cleanup_(query_done) struct query q = {};
                struct lease *lease = &store->leases[kind];

                if (lease->next >= lease->end || query_begin(store, QUERY_LEASE_RETURN, &q) != 0)
                        continue;
                query_int(&q, 1, kind);
                query_int(&q, 2, (int64_t)lease->end);
                query_int(&q, 3, (int64_t)lease->next);
                (void)query_run(&q);
                lease->end = lease->next;
        }
        if (query_simple(store, QUERY_COMMIT) != 0)
                abandon(store);
}

/* Its keys are its origin's. */
static void snapshot_part(struct store *store) {
        store->origin->snapshot = NULL;
        store->sealing = NULL;
}

void store_free(struct store *store) {
        if (!store)
                return;
        if (store->origin)
                snapshot_part(store);
        if (store->in_transaction)
                store_rollback(store);
        for (size_t i = 0; store->db && i < NUMBER_KINDS; i++)
                if (store->leases[i].next < store->leases[i].end) {
                        return_leases(store);
                        break;
                }
        for (size_t i = 0; i < QUERIES; i++)
                (void)sqlite3_finalize(store->queries[i]);
        (void)sqlite3_close_v2(store->db);
        sha256_free(store->audit.sha256);
        aead_key_free(store->sealing);
        secret_done(&store->mark_key);
        free(store);
}

/* ---- a view that stays as it is */

/* Reading begins it: from then on the connection sees this moment. */
static int snapshot_connect(struct store *snapshot, const char *path) {
        _cleanup_(diags_done) struct diags unheard = {};
        int64_t version;
        int r = connect_file(snapshot, path, &unheard);

        if (r == 0)
                r = execute(snapshot, "PRAGMA query_only = ON; PRAGMA temp_store = MEMORY; BEGIN");
        return r == 0 ? pragma_int(snapshot, "PRAGMA user_version", &version) : r;
}

int store_snapshot(struct store *store, struct store **ret) {
        _cleanup_(store_freep) struct store *snapshot = NULL;
        const char *path = sqlite3_db_filename(store->db, "main");
        int r;

        if (store->snapshot)
                return -EBUSY;
        if (!path || path[0] == '\0')
                return -EOPNOTSUPP;
        snapshot = calloc(1, sizeof(*snapshot));
        if (!snapshot)
                return -ENOMEM;
        r = snapshot_connect(snapshot, path);
        if (r != 0)
                return r;
        snapshot->sealing = store->sealing;
        snapshot->origin = store;
        store->snapshot = snapshot;
        *ret = TAKE_PTR(snapshot);
        return 0;
}

void snapshot_end(struct store *snapshot) {
        snapshot->error = -EIO;
        (void)sqlite3_exec(snapshot->db, "COMMIT", NULL, NULL, NULL);
}

/* ---- transactions */

bool store_in_transaction(const struct store *store) {
        return store->in_transaction;
}

int store_begin(struct store *store) {
        int r;

        if (store->in_transaction)
                return -EBUSY;
        store->error = 0;
        lease_if_low(store);
        if (store->lease_error == -EBUSY)
                return -EBUSY; /* waited once already */

        r = query_simple(store, QUERY_BEGIN);
        if (r != 0)
                return r;
        store->in_transaction = true;
        store->tokens_added = false;
        store->as_keys_changed = false;
        store->credentials_changed = false;
        store->error = 0;
        return 0;
}

/* SQLite gives a transaction up by itself when the disk is full, breaks, or memory runs out. */
static int given_up(const struct store *store) {
        if (store->in_transaction && !sqlite3_get_autocommit(store->db))
                return 0;
        return store->in_transaction && store->error != 0 ? store->error : -EIO;
}

static void savepoint_forget(struct store *store) {
        store->savepoint_wanted = store->savepoint_open = store->tokens_added_in_savepoint = false;
        store->audit.added_in_savepoint = false;
        store->token_to_undo = 0;
}

int store_commit(struct store *store) {
        int r = given_up(store);

        if (r == 0)
                r = query_simple(store, QUERY_COMMIT);
        if (r != 0) {
                store_rollback(store);
                return r;
        }
        store->in_transaction = false;
        savepoint_forget(store);
        return 0;
}

void store_rollback(struct store *store) {
        abandon(store);
        store->in_transaction = false;
        store->audit.known = false;
        savepoint_forget(store);
        if (store->tokens_added)
                store->generation++;
        store->as_keys_generation += store->as_keys_changed;
        store->credentials_generation += store->credentials_changed;
}

int store_savepoint(struct store *store) {
        int r = given_up(store);

        if (r != 0)
                return r;
        if (store->savepoint_wanted)
                return -EBUSY;
        savepoint_forget(store);
        store->savepoint_wanted = true;
        return 0;
}

int savepoint_before(struct store *store, enum query_id id) {
        int r;

        if (!store->savepoint_wanted || store->savepoint_open || (id == QUERY_TOKEN_ADD && store->token_to_undo == 0))
                return 0;
        r = query_simple(store, QUERY_SAVEPOINT);
        store->savepoint_open = r == 0;
        return r;
}

int store_savepoint_release(struct store *store) {
        int r = given_up(store);

        if (r == 0 && store->savepoint_open)
                r = query_simple(store, QUERY_SAVEPOINT_RELEASE);
        if (r == 0)
                savepoint_forget(store); /* else the caller rolls it back */
        return r;
}

static int undo_token(struct store *store, uint64_t number) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_TOKEN_DELETE, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, (int64_t)number);
        return query_run(&q);
}

int store_savepoint_rollback(struct store *store) {
        uint64_t number = store->token_to_undo;
        int r = given_up(store);

        store->as_keys_generation += store->as_keys_changed;
        store->credentials_generation += store->credentials_changed;
        if (store->tokens_added_in_savepoint)
                store->generation++;
        store->audit.known = store->audit.known && !store->audit.added_in_savepoint;
        if (r == 0 && store->savepoint_open && (r = query_simple(store, QUERY_SAVEPOINT_UNDO)) == 0)
                r = query_simple(store, QUERY_SAVEPOINT_RELEASE);
        savepoint_forget(store);
        if (r == 0 && number != 0)
                r = undo_token(store, number);

        /* half undone is not to be committed: without a transaction, given_up() says so to whoever tries */
        if (r != 0 && !sqlite3_get_autocommit(store->db)) {
                (void)query_simple(store, QUERY_ROLLBACK);
                store->error = r;
        }
        return r;
}

/* ---- the believed time */

int store_clock_get(struct store *store, int64_t *ret_s) {
        _cleanup_(query_done) struct query q = {};
        struct bytes value;
        uint64_t seconds = 0;
        int r = query_begin(store, QUERY_CLOCK_GET, &q);

        if (r != 0)
                return r;
        r = query_next(&q);
        if (r == 0) {
                value = row_bytes(&q, 0);
                if (value.size != sizeof(seconds))
                        return -EIO;
                for (size_t i = 0; i < value.size; i++)
                        seconds = seconds << 8 | value.data[i];
        }
        *ret_s = (int64_t)seconds;
        return query_end(r);
}

int store_clock_set(struct store *store, int64_t now_s) {
        _cleanup_(query_done) struct query q = {};
        uint8_t value[sizeof(now_s)];
        int r = query_begin(store, QUERY_CLOCK_SET, &q);

        if (r != 0)
                return r;
        for (size_t i = 0; i < sizeof(value); i++)
                value[i] = (uint8_t)((uint64_t)now_s >> (8 * (sizeof(value) - 1 - i)));
        query_blob(&q, 1, bytes_of(value, sizeof(value)));
        return query_run(&q);
}

/* ---- status */

int store_sizes(struct store *store, int64_t *ret_database, int64_t *ret_wal) {
        const char *name = sqlite3_db_filename(store->db, "main");
        int64_t n_pages = 0, page_size = 0;
        struct stat st;
        int r;

        if ((r = pragma_int(store, "PRAGMA page_count", &n_pages)) != 0 ||
            (r = pragma_int(store, "PRAGMA page_size", &page_size)) != 0)
                return r;
        *ret_database = n_pages * page_size;
        *ret_wal = name && name[0] != '\0' && stat(sqlite3_filename_wal(name), &st) == 0 ? st.st_size : 0;
        return 0;
}

int store_status(struct store *store, struct store_status *ret) {
        _cleanup_(query_done) struct query q = {};
        int64_t version = 0, database_size = 0, wal_size = 0;
        int r;

        if ((r = pragma_int(store, "PRAGMA user_version", &version)) != 0 ||
            (r = store_sizes(store, &database_size, &wal_size)) != 0 ||
            (r = query_begin(store, QUERY_COUNTS, &q)) != 0 || (r = query_next(&q)) != 0)
                return r < 0 ? r : -EIO;

        *ret = (struct store_status){
                .schema_version = (int)version,
                .database_size = database_size,
                .wal_size = wal_size,
                .n_clients = row_int(&q, 0),
                .n_servers = row_int(&q, 1),
                .n_policies = row_int(&q, 2),
                .n_tokens = row_int(&q, 3),
        };
        return 0;
}
