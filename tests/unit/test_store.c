#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "domain/aif.h"
#include "domain/refusal.h"
#include "format/cwt.h"
#include "store/clients.h"
#include "store/credentials.h"
#include "store/policies.h"
#include "store/private.h"
#include "store/schema.h"
#include "store/seal_key.h"
#include "store/restore.h"
#include "store/servers.h"
#include "store/tokens.h"
#include "store/trl.h"
#include "support/fake.h"
#include "support/sqlite_memory.h"

#define NOW_S 1700000000
#define LIFETIME_S 3600

/* ---- a folder of its own for each test that needs files */

struct folder {
        char path[64];
        char db[96], copy[96], key[96];
};

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

static int folder_make(void **state) {
        struct folder *folder = calloc(1, sizeof(*folder));

        assert_non_null(folder);
        (void)snprintf(folder->path, sizeof(folder->path), "/tmp/aced-test-store-XXXXXX");
        assert_non_null(mkdtemp(folder->path));
        (void)snprintf(folder->db, sizeof(folder->db), "%s/aced.db", folder->path);
        (void)snprintf(folder->copy, sizeof(folder->copy), "%s/copy.db", folder->path);
        (void)snprintf(folder->key, sizeof(folder->key), "%s/seal.key", folder->path);
        *state = folder;
        return 0;
}

static int folder_remove(void **state) {
        struct folder *folder = *state;
        int r = nftw(folder->path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);

        free(folder);
        return r;
}

static void copy_file(const char *from, const char *to) {
        _cleanup_(closep) int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        char data[4096];
        ssize_t n;

        assert_true(in >= 0 && out >= 0);
        while ((n = read(in, data, sizeof(data))) > 0)
                assert_int_equal(write(out, data, (size_t)n), n);
        assert_int_equal(n, 0);
}

/* What a crash leaves: the files as they are, while they are open. */
static void copy_database(const struct folder *folder) {
        char from[112], to[112];

        copy_file(folder->db, folder->copy);
        (void)snprintf(from, sizeof(from), "%s-wal", folder->db);
        (void)snprintf(to, sizeof(to), "%s-wal", folder->copy);
        copy_file(from, to);
}

/* ---- stores, parties, tokens */

static int open_with(const char *path, uint8_t key_byte, struct store **ret, struct diags *diags) {
        uint8_t key[SEAL_KEY_SIZE];
        struct store_options options = { .path = path, .seal_key = bytes_of(key, sizeof(key)) };

        memset(key, key_byte, sizeof(key));
        return store_open(&options, ret, diags);
}

static struct store *open_store(const char *path) {
        _cleanup_(diags_done) struct diags diags = {};
        struct store *store = NULL;
        int r = open_with(path, 1, &store, &diags);

        if (r != 0)
                fail_msg("%d: %s", r, diags.n_items > 0 ? diags.items[0].text : "no diagnostic");
        assert_int_equal(diags.n_items, 0);
        return store;
}

static struct store *open_and_begin(const char *path) {
        struct store *store = open_store(path);

        assert_int_equal(store_begin(store), 0);
        return store;
}

static void next_batch(struct store *store) {
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(store_begin(store), 0);
}

static struct scope text_scope(const char *text) {
        struct scope scope = {};

        if (text)
                assert_int_equal(scope_set(&scope, SCOPE_TEXT, bytes_text(text)), 0);
        return scope;
}

static struct client client_named(const char *name) {
        struct client client = { .profiles = PROFILE_BIT(1), .created_s = NOW_S };

        (void)snprintf(client.name, sizeof(client.name), "%s", name);
        return client;
}

static int64_t add_client(struct store *store, const char *name) {
        struct client client = client_named(name);

        assert_int_equal(store_client_add(store, &client), 0);
        return client.id;
}

static struct server server_named(const char *name) {
        struct server server = {
                .profiles = PROFILE_BIT(1),
                .scope_kind = SCOPE_TEXT,
                .scopes = text_scope("read write"),
                .token_format = TOKEN_FORMAT_ENCRYPT0,
                .token_alg = AEAD_AES_CCM_16_64_128,
                .has_clock = true,
                .created_s = NOW_S,
        };

        (void)snprintf(server.name, sizeof(server.name), "%s", name);
        return server;
}

/* With an audience of the same name. */
static int64_t add_server(struct store *store, const char *name) {
        struct server server = server_named(name);

        assert_int_equal(store_server_add(store, &server), 0);
        assert_int_equal(store_audience_add(store, server.id, bytes_text(name), false), 0);
        return server.id;
}

static struct secret secret_of(const char *text) {
        struct secret secret = {};

        assert_int_equal(secret_set(&secret, bytes_text(text)), 0);
        return secret;
}

static struct credential credential_of(int64_t client_id, int64_t server_id, struct bytes identity) {
        struct credential credential = {
                .kind = CREDENTIAL_PSK,
                .client_id = client_id,
                .server_id = server_id,
                .identity_size = identity.size,
                .created_s = NOW_S,
        };

        memcpy(credential.identity, identity.data, identity.size);
        return credential;
}

static int64_t add_credential(struct store *store, int64_t client_id, int64_t server_id, const char *identity,
                              const char *key) {
        struct credential credential = credential_of(client_id, server_id, bytes_text(identity));
        struct secret secret = secret_of(key);
        bool same;

        assert_int_equal(store_credential_add(store, &credential, &secret, &same), 0);
        return credential.id;
}

static struct policy policy_of(bool for_label, const char *subject, const char *audience, const char *scope) {
        struct policy policy = { .for_label = for_label, .scopes = text_scope(scope), .created_s = NOW_S };

        (void)snprintf(policy.subject, sizeof(policy.subject), "%s", subject);
        (void)snprintf(policy.audience, sizeof(policy.audience), "%s", audience);
        return policy;
}

static int64_t add_policy(struct store *store, bool for_label, const char *subject, const char *audience,
                          const char *scope) {
        struct policy policy = policy_of(for_label, subject, audience, scope);

        assert_int_equal(store_policy_add(store, &policy), 0);
        return policy.id;
}

static void hash_of(uint64_t number, uint8_t ret[static TOKEN_HASH_SIZE]) {
        assert_int_equal(sha256(bytes_of(&number, sizeof(number)), ret), 0);
}

static struct grant grant_of(struct store *store, int64_t client_id, int64_t server_id, int64_t expires_s) {
        struct grant grant = {
                .client_id = client_id,
                .server_id = server_id,
                .audience = "rs1",
                .scope = text_scope("read"),
                .profile = 1,
                .issued_s = NOW_S,
                .expires_s = expires_s,
                .pop_key = secret_of("0123456789abcdef"),
        };

        assert_int_equal(store_number(store, NUMBER_TOKEN, &grant.number), 0);
        grant.key_number = grant.number;
        return grant;
}

static uint64_t add_token(struct store *store, int64_t client_id, int64_t server_id, int64_t expires_s) {
        struct grant grant = grant_of(store, client_id, server_id, expires_s);
        uint8_t hash[TOKEN_HASH_SIZE];

        hash_of(grant.number, hash);
        assert_int_equal(store_token_add(store, &grant, hash), 0);
        return grant.number;
}

static int find_by_number(struct store *store, uint64_t number, const uint8_t hash[static TOKEN_HASH_SIZE],
                          struct token *ret) {
        return store_token_find(store, &(struct cwt_place){ .number = number }, hash, ret);
}

static int find_token(struct store *store, uint64_t number, struct token *ret) {
        uint8_t hash[TOKEN_HASH_SIZE];

        hash_of(number, hash);
        return find_by_number(store, number, hash, ret);
}

/* ---- a walk writes down what it saw */

struct seen {
        char text[1024];
        size_t n, stop_at; /* 0: never */
};

static int note(struct seen *seen, const char *text) {
        size_t used = strlen(seen->text);

        (void)snprintf(seen->text + used, sizeof(seen->text) - used, "%s%s", seen->n > 0 ? " " : "", text);
        return ++seen->n == seen->stop_at ? 77 : 0;
}

static int note_client(void *context, const struct client *client) {
        return note(context, client->name);
}

static int note_server(void *context, const struct server *server) {
        return note(context, server->name);
}

static int note_label(void *context, const char *label) {
        return note(context, label);
}

static int note_audience(void *context, const char *audience, bool is_group) {
        char text[AUDIENCE_SIZE_MAX + 8];

        (void)snprintf(text, sizeof(text), "%s%s", audience, is_group ? "*" : "");
        return note(context, text);
}

static int note_credential(void *context, const struct credential *credential) {
        char text[IDENTITY_SIZE_MAX + 1];

        (void)snprintf(text, sizeof(text), "%.*s", (int)credential->identity_size, credential->identity);
        return note(context, text);
}

static int note_policy(void *context, const struct policy *policy) {
        char text[512];

        (void)snprintf(text, sizeof(text), "%s%s@%s:%.*s", policy->for_label ? "#" : "", policy->subject,
                       policy->audience, (int)policy->scopes.size, policy->scopes.data);
        assert_int_equal(policy->created_s, NOW_S);
        return note(context, text);
}

static int note_token(void *context, const struct token *token) {
        char text[256];

        (void)snprintf(text, sizeof(text), "%llu:%s>%s%s", (unsigned long long)token->number, token->client_name,
                       token->server_name, token->revoked_s != 0 ? "!" : "");
        assert_int_equal(token->pop_key.size, 0);
        return note(context, text);
}

#define expect_seen(wanted, call)                                                                                   \
        do {                                                                                                        \
                struct seen seen = {};                                                                              \
                assert_int_equal(call, 0);                                                                          \
                assert_string_equal(seen.text, wanted);                                                             \
        } while (0)

/* ---- opening */

static void test_open_creates(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *store = open_store(folder->db);
        struct store_status status;
        struct stat st;

        assert_int_equal(stat(folder->db, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(store_status(store, &status), 0);
        assert_int_equal(status.schema_version, schema_steps[n_schema_steps - 1].version);
        assert_true(status.database_size > 0);
        assert_true(status.wal_size > 0);
        assert_int_equal(status.n_clients + status.n_servers + status.n_policies + status.n_tokens, 0);
}

static void expect_pragma(struct store *store, const char *name, const char *wanted) {
        char sql[64];
        sqlite3_stmt *stmt;

        (void)snprintf(sql, sizeof(sql), "PRAGMA %s", name);
        assert_int_equal(sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
        if (strcmp((const char *)sqlite3_column_text(stmt, 0), wanted) != 0)
                fail_msg("%s is %s", name, sqlite3_column_text(stmt, 0));
        assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
}

/* What "on disk" and "nothing half-done" stand on. */
static void test_open_pragmas(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *store = open_store(folder->db);

        expect_pragma(store, "journal_mode", "wal");
        expect_pragma(store, "synchronous", "2");
        expect_pragma(store, "foreign_keys", "1");
        expect_pragma(store, "trusted_schema", "0");
        expect_pragma(store, "secure_delete", "2");
        expect_pragma(store, "temp_store", "2");
        expect_pragma(store, "application_id", "1633903972");
}

static int64_t count(struct store *store, const char *sql) {
        sqlite3_stmt *stmt;
        int64_t n;

        assert_int_equal(sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
        n = sqlite3_column_int64(stmt, 0);
        assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
        return n;
}

static void test_open_strict(void **state) {
        _cleanup_(store_freep) struct store *store = open_store(NULL);
        sqlite3_stmt *stmt;
        int n = 0;

        assert_int_equal(sqlite3_prepare_v2(store->db, "SELECT name, strict FROM pragma_table_list "
                                            "WHERE schema = 'main' AND name NOT LIKE 'sqlite%'", -1, &stmt, NULL),
                         SQLITE_OK);
        while (sqlite3_step(stmt) == SQLITE_ROW) {
                if (sqlite3_column_int(stmt, 1) != 1)
                        fail_msg("table %s is not STRICT", sqlite3_column_text(stmt, 0));
                n++;
        }
        assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
        assert_true(n > 11); /* those of the first step */
}

static void expect_refused(const char *path, uint8_t key_byte, int wanted, const char *words) {
        _cleanup_(diags_done) struct diags diags = {};
        struct store *store = NULL;

        assert_int_equal(open_with(path, key_byte, &store, &diags), wanted);
        assert_null(store);
        assert_int_equal(diags.n_items, 1);
        if (!strstr(diags.items[0].text, words))
                fail_msg("no \"%s\" in \"%s\"", words, diags.items[0].text);
        assert_string_equal(diags.items[0].file, path);
}

static void run_sql(const char *path, const char *sql) {
        sqlite3 *db = NULL;

        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_open_newer(void **state) {
        struct folder *folder = *state;
        char sql[64];

        store_free(open_store(folder->db));
        run_sql(folder->db, "PRAGMA user_version = 99");
        expect_refused(folder->db, 1, -EINVAL, "version 99");
        (void)snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", schema_steps[n_schema_steps - 1].version);
        run_sql(folder->db, sql);
        store_free(open_store(folder->db));
}

/* What the first release kept is there after the steps that came since, with the defaults of what it did not have. */
static void test_open_older(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *store = NULL;
        char sql[512];

        store_free(open_store(folder->copy)); /* has what tells the sealing key */
        run_sql(folder->db, schema_steps[0].sql);
        (void)snprintf(sql, sizeof(sql), "ATTACH '%s' AS new; INSERT INTO main.meta SELECT * FROM new.meta; "
                       "PRAGMA main.application_id = %d; PRAGMA main.user_version = 1", folder->copy, APPLICATION_ID);
        run_sql(folder->db, sql);
        run_sql(folder->db,
                "INSERT INTO clients VALUES (1, 'c1', 0, 2, '', 5); INSERT INTO client_labels VALUES (1, 'pumps'); "
                "INSERT INTO servers VALUES (2, 'rs1', 0, 2, 1, 'read', NULL, 1, 1, 0, 0, 0, 1, 5); "
                "INSERT INTO audiences VALUES ('rs1', 2, 0); "
                "INSERT INTO server_keys VALUES (3, 2, x'01', x'02', x'03', 5); "
                "INSERT INTO credentials VALUES (4, 1, 1, NULL, x'6331', x'04', x'05', 5); "
                "INSERT INTO policies VALUES (5, 0, 'c1', 'rs1', 'read', 60, 0, 0, 5); "
                "INSERT INTO policies VALUES (6, 1, 'pumps', 'rs1', x'0102', 0, 7, 8, 5); "
                "INSERT INTO tokens VALUES (9, 9, x'06', 1, 2, 'rs1', 'read', 1, 5, 65, 0, x'07')");

        store = open_store(folder->db);
        assert_int_equal(count(store, "SELECT count(*) FROM clients WHERE tokens_max = 0 AND refresh_lifetime_s = 0 "
                               "AND NOT may_introspect"), 1);
        assert_int_equal(count(store, "SELECT count(*) FROM servers WHERE sign_alg = 1 AND pop_keys = 1 "
                               "AND NOT derives_key AND NOT has_trl AND exi_next = 1 AND preferred_profile = 0 "
                               "AND oscore_alg = 1 AND oscore_hkdf = 1"), 1);
        assert_int_equal(count(store, "SELECT count(*) FROM tokens WHERE osc IS NULL"), 1);
        assert_int_equal(count(store, "SELECT count(*) FROM server_keys WHERE id = 3 AND server_id = 2 AND role = 1 "
                               "AND kid = x'01' AND secret = x'02' AND active_from_s = 0 AND created_s = 5"), 1);
        assert_int_equal(count(store, "SELECT count(*) FROM credentials WHERE id = 4 AND public = x''"), 1);
        assert_int_equal(count(store, "SELECT count(*) FROM policies WHERE id = 5 AND effect = 1 AND NOT is_shadow "
                               "AND scopes = 'read' AND max_lifetime_s = 60"), 1);
        assert_int_equal(count(store, "SELECT count(*) FROM policies WHERE id = 6 AND for_label AND scopes = x'0102' "
                               "AND valid_from_s = 7 AND valid_until_s = 8"), 1);
        assert_int_equal(count(store, "SELECT count(*) FROM tokens WHERE number = 9 AND exi = 0 AND family = 0"), 1);
        assert_int_equal(count(store, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
}

static void test_open_foreign(void **state) {
        struct folder *folder = *state;
        struct stat before, after;

        run_sql(folder->db, "CREATE TABLE notes (text)");
        assert_int_equal(stat(folder->db, &before), 0);
        expect_refused(folder->db, 1, -EINVAL, "another program");
        assert_int_equal(stat(folder->db, &after), 0);
        assert_int_equal(before.st_size, after.st_size);
        assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);

        run_sql(folder->copy, "PRAGMA application_id = 5; PRAGMA user_version = 1");
        expect_refused(folder->copy, 1, -EINVAL, "another program");
}

static void test_open_no_database(void **state) {
        struct folder *folder = *state;
        char missing[128];
        FILE *file = fopen(folder->db, "w");

        assert_non_null(file);
        for (int i = 0; i < 1000; i++)
                assert_true(fputs("this is a letter, not a database\n", file) >= 0);
        assert_int_equal(fclose(file), 0);
        expect_refused(folder->db, 1, -EINVAL, "not a database");

        (void)snprintf(missing, sizeof(missing), "%s/no/aced.db", folder->path);
        expect_refused(missing, 1, -EIO, "No such file");
}

static void test_open_other_key(void **state) {
        struct folder *folder = *state;
        _cleanup_(diags_done) struct diags diags = {};
        uint8_t key[SEAL_KEY_SIZE + 1] = { 0 };
        struct store *store = NULL;

        store_free(open_store(folder->db));
        expect_refused(folder->db, 2, -EINVAL, "another key");
        store_free(open_store(folder->db));

        assert_int_equal(store_open(&(struct store_options){ .seal_key = bytes_of(key, 31) }, &store, &diags), -EINVAL);
        assert_int_equal(store_open(&(struct store_options){ .seal_key = bytes_of(key, 33) }, &store, &diags), -EINVAL);
        assert_null(store);
}

static void test_open_no_randomness(void **state) {
        _cleanup_(diags_done) struct diags diags = {};
        struct store *store = NULL;

        fake_random_fail_at(1);
        assert_int_equal(open_with(NULL, 1, &store, &diags), -EIO);
        fake_random_fail_at(0);
        assert_null(store);
        assert_int_equal(diags.n_items, 1);
}

static void test_open_again(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *store = open_and_begin(folder->db);
        int64_t client_id = add_client(store, "c1"), server_id = add_server(store, "rs1");
        int64_t credential_id = add_credential(store, client_id, 0, "psk-1", "0123456789abcdef");
        uint64_t number = add_token(store, client_id, server_id, NOW_S + LIFETIME_S);
        struct credential credential;
        struct secret psk = {};
        struct token token = {};

        assert_int_equal(store_commit(store), 0);
        store_free(store);
        store = open_store(folder->db);

        assert_int_equal(store_psk_find(store, BYTES_LITERAL("psk-1"), &credential, &psk), 0);
        assert_int_equal(credential.id, credential_id);
        assert_memory_equal(psk.data, "0123456789abcdef", 16);
        assert_int_equal(find_token(store, number, &token), 0);
        assert_memory_equal(token.pop_key.data, "0123456789abcdef", 16);
        secret_done(&psk);
        token_done(&token);
}

/* ---- transactions */

static void test_rollback(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        struct client client;

        assert_true(store_in_transaction(store));
        (void)add_client(store, "c1");
        store_rollback(store);
        assert_false(store_in_transaction(store));
        assert_int_equal(store_client_by_name(store, BYTES_LITERAL("c1"), &client), REFUSE_ADMIN_UNKNOWN);
        store_rollback(store); /* of nothing: harmless */
        assert_int_equal(store_commit(store), -EIO);

        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_begin(store), -EBUSY);
        assert_int_equal(store_commit(store), 0);
        assert_false(store_in_transaction(store));
}

/* A change outside of a transaction would be on disk by itself, whatever becomes of the request. */
static void test_no_transaction(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t client_id = add_client(store, "c1");
        struct client client = client_named("c2");
        struct buf sealed = BUF_INIT(100);
        uint64_t number;
        int64_t n;

        assert_int_equal(store_commit(store), 0);
        assert_int_equal(store_client_add(store, &client), -EBUSY);
        assert_int_equal(store_client_delete(store, client_id, NOW_S), -EIO);
        assert_int_equal(store_policy_delete(store, 1), -EIO);
        assert_int_equal(store_token_revoke(store, 1, NOW_S), -EIO);
        assert_int_equal(store_token_purge(store, NOW_S, 10, &n), -EIO);
        assert_int_equal(store_number(store, NUMBER_TOKEN, &number), -EBUSY);
        assert_int_equal(store_seal(store, "a.b", 1, BYTES_LITERAL("x"), &sealed), -EBUSY);
        assert_int_equal(store_savepoint(store), -EIO);
        assert_int_equal(store_savepoint_release(store), -EIO);
        assert_int_equal(store_savepoint_rollback(store), -EIO);
        assert_int_equal(store_client_by_id(store, client_id, &client), 0); /* to read is allowed */
        buf_done(&sealed);
}

static void test_savepoints(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t client_id, server_id;
        uint64_t kept, undone;
        struct token token = {};
        struct seen seen = {};

        assert_int_equal(store_savepoint(store), 0);
        assert_int_equal(store_savepoint(store), -EBUSY); /* one after the other */
        client_id = add_client(store, "c1");
        server_id = add_server(store, "rs1");
        assert_int_equal(store_savepoint_release(store), 0);

        assert_int_equal(store_savepoint(store), 0);
        (void)add_client(store, "c2");
        assert_int_equal(store_savepoint_rollback(store), 0);

        assert_int_equal(store_savepoint(store), 0);
        kept = add_token(store, client_id, server_id, NOW_S + LIFETIME_S);
        assert_int_equal(store_savepoint_release(store), 0);

        assert_int_equal(store_savepoint(store), 0);
        undone = add_token(store, client_id, server_id, NOW_S + LIFETIME_S);
        assert_int_equal(store_savepoint_rollback(store), 0);

        assert_int_equal(store_savepoint(store), 0); /* of nothing */
        assert_int_equal(store_savepoint_rollback(store), 0);
        next_batch(store);

        assert_int_equal(store_client_each(store, BYTES_NONE, 10, note_client, &seen), 0);
        assert_string_equal(seen.text, "c1");
        assert_int_equal(store_token_by_number(store, kept, &token), 0);
        assert_int_equal(store_token_by_number(store, undone, &token), REFUSE_ADMIN_UNKNOWN);
}

/* Several changes, tokens first, last and in between: all of them go, and nothing of the request before. */
static void test_savepoint_mixed(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t client_id = add_client(store, "c1"), server_id = add_server(store, "rs1");
        struct token_filter all = {};

        (void)add_token(store, client_id, server_id, NOW_S + LIFETIME_S);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(store_savepoint(store), 0);
                if (i == 0)
                        (void)add_token(store, client_id, server_id, NOW_S + LIFETIME_S);
                (void)add_client(store, "c2");
                (void)add_token(store, client_id, server_id, NOW_S + LIFETIME_S);
                (void)add_token(store, client_id, server_id, NOW_S + LIFETIME_S);
                assert_int_equal(store_token_revoke(store, 1, NOW_S), 0);
                assert_int_equal(store_savepoint_rollback(store), 0);
        }
        expect_seen("c1", store_client_each(store, BYTES_NONE, 10, note_client, &seen));
        expect_seen("1:c1>rs1", store_token_each(store, 0, 10, &all, note_token, &seen));

        assert_int_equal(store_savepoint(store), 0);
        (void)add_token(store, client_id, server_id, NOW_S + LIFETIME_S);
        (void)add_token(store, client_id, server_id, NOW_S + LIFETIME_S);
        assert_int_equal(store_savepoint_release(store), 0);
        next_batch(store);
        expect_seen("1:c1>rs1 7:c1>rs1 8:c1>rs1", store_token_each(store, 0, 10, &all, note_token, &seen));
}

static void test_busy(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *first = open_store(folder->db), *second = open_store(folder->db);
        struct client client;

        assert_int_equal(store_begin(first), 0);
        (void)add_client(first, "c1");
        assert_int_equal(store_begin(second), -EBUSY);
        assert_false(store_in_transaction(second));
        assert_int_equal(store_client_by_name(second, BYTES_LITERAL("c1"), &client), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_commit(first), 0);

        assert_int_equal(store_begin(second), 0);
        assert_int_equal(store_client_by_name(second, BYTES_LITERAL("c1"), &client), 0);
        assert_int_equal(store_commit(second), 0);
}

/* ---- numbers */

static void test_numbers_in_a_batch(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        uint64_t number;

        for (uint64_t i = 1; i <= NUMBERS_PER_BATCH_MAX; i++) {
                assert_int_equal(store_number(store, NUMBER_TOKEN, &number), 0);
                assert_true(number == i);
        }
        assert_int_equal(store_number(store, NUMBER_TOKEN, &number), -EBUSY);
        assert_int_equal(store_number(store, NUMBER_ROW, &number), 0); /* each kind has its own */
        assert_true(number == 1);
        next_batch(store);
        assert_int_equal(store_number(store, NUMBER_TOKEN, &number), 0);
        assert_true(number == NUMBERS_PER_BATCH_MAX + 1);
}

/* Past the ends of blocks, with every second batch undone: each number is new. */
static void test_numbers_never_repeat(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *store = open_store(folder->db);
        uint64_t number, last = 0;

        for (int batch = 0; batch < 40; batch++) {
                int n = batch == 0 ? 1000 : NUMBERS_PER_BATCH_MAX; /* so that no block ends with a batch */

                assert_int_equal(store_begin(store), 0);
                for (int i = 0; i < n; i++) {
                        if (i == 100)
                                assert_int_equal(store_savepoint(store), 0);
                        if (store_number(store, NUMBER_TOKEN, &number) != 0 || number <= last)
                                fail_msg("batch %d: %llu after %llu", batch, (unsigned long long)number,
                                         (unsigned long long)last);
                        last = number;
                        if (i == 200)
                                assert_int_equal(store_savepoint_rollback(store), 0);
                }
                if (batch % 2 == 0)
                        store_rollback(store);
                else
                        assert_int_equal(store_commit(store), 0);
        }
        assert_true(last == 1000 + 39 * NUMBERS_PER_BATCH_MAX); /* and none was left out */
}

static uint64_t draw(struct store *store) {
        uint64_t number = 0;

        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_number(store, NUMBER_TOKEN, &number), 0);
        assert_int_equal(store_commit(store), 0);
        return number;
}

static void test_numbers_over_restarts(void **state) {
        struct folder *folder = *state;
        uint64_t last = 0;

        for (int i = 0; i < 5; i++) {
                _cleanup_(store_freep) struct store *store = open_store(folder->db);
                uint64_t number = draw(store);

                assert_true(number == last + 1); /* an orderly stop leaves no gap */
                last = number;
        }
}

/* A copy of the files taken at any moment knows what was drawn, also by a batch that was not committed. */
static void test_numbers_over_crashes(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *store = open_store(folder->db), *copy = NULL;
        uint64_t number = 0;

        for (int i = 0; i < 30; i++) {
                assert_int_equal(store_begin(store), 0);
                for (int j = 0; j < NUMBERS_PER_BATCH_MAX; j++)
                        assert_int_equal(store_number(store, NUMBER_TOKEN, &number), 0);
                copy_database(folder);
                copy = open_store(folder->copy);
                assert_true(draw(copy) > number);
                store_free(TAKE_PTR(copy));
                store_rollback(store);
        }
}

/* Two programs on one database, against the rules: still no number twice. */
static void test_numbers_of_two(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *first = open_store(folder->db), *second = open_store(folder->db);
        static bool drawn[400000];
        uint64_t number;

        for (int i = 0; i < 60; i++) {
                struct store *store = i % 3 == 0 ? first : second;

                assert_int_equal(store_begin(store), 0);
                for (int j = 0; j < NUMBERS_PER_BATCH_MAX; j++) {
                        assert_int_equal(store_number(store, NUMBER_TOKEN, &number), 0);
                        assert_true(number < N_ELEMENTS(drawn));
                        assert_false(drawn[number]);
                        drawn[number] = true;
                }
                assert_int_equal(store_commit(store), 0);
        }
}

static void test_nonces(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *store = open_and_begin(folder->db);
        uint8_t a[13], b[13], again[13];

        memset(a, 0xee, sizeof(a));
        assert_int_equal(store_nonce(store, a, 12), 0);
        assert_int_equal(a[12], 0xee);
        assert_int_equal(store_nonce(store, b, 13), 0);
        assert_memory_equal(a, b, 4);           /* one start, one stamp */
        assert_memory_not_equal(a + 4, b + 5, 8); /* two numbers */
        assert_int_equal(store_nonce(store, a, 7), -EINVAL);
        assert_int_equal(store_nonce(store, a, 14), -EINVAL);
        assert_int_equal(store_nonce_of(store, UINT64_C(0x0102030405060708), a, 13), 0);
        assert_memory_equal(a, b, 5);
        assert_memory_equal(a + 5, "\1\2\3\4\5\6\7\10", 8);
        assert_int_equal(store_commit(store), 0);

        /* a restored backup may repeat the number, the stamp makes the nonce another one */
        store_free(store);
        store = open_and_begin(folder->db);
        assert_int_equal(store_nonce(store, again, 13), 0);
        assert_memory_not_equal(again, b, 5);
}

/* ---- sealing */

static void test_seal(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL), *other = open_and_begin(NULL);
        _cleanup_(buf_done) struct buf sealed = BUF_INIT(200), again = BUF_INIT(200), small = BUF_INIT(40);
        struct secret secret = {};

        assert_int_equal(store_seal(store, "t.c", 7, BYTES_LITERAL("0123456789abcdef"), &sealed), 0);
        assert_int_equal(sealed.size, 16 + SEALED_OVERHEAD);
        assert_null(bytes_find(buf_bytes(&sealed), BYTES_LITERAL("01234567")));
        assert_int_equal(store_seal(store, "t.c", 7, BYTES_LITERAL("0123456789abcdef"), &again), 0);
        assert_memory_not_equal(sealed.data, again.data, sealed.size);
        assert_int_equal(store_seal(store, "t.c", 7, BYTES_LITERAL("0123456789abcdef"), &small), -EOVERFLOW);

        assert_int_equal(store_unseal(store, "t.c", 7, buf_bytes(&sealed), &secret), 0);
        assert_int_equal(secret.size, 16);
        assert_memory_equal(secret.data, "0123456789abcdef", 16);
        secret_done(&secret);

        /* where it stands, and under which key, is part of it */
        assert_int_equal(store_unseal(store, "t.c", 8, buf_bytes(&sealed), &secret), -EBADMSG);
        assert_int_equal(store_unseal(store, "t.d", 7, buf_bytes(&sealed), &secret), -EBADMSG);
        aead_key_free(other->sealing);
        assert_int_equal(aead_key_new(AEAD_A256GCM, BYTES_LITERAL("another key, of the right size.."),
                                      &other->sealing), 0);
        assert_int_equal(store_unseal(other, "t.c", 7, buf_bytes(&sealed), &secret), -EBADMSG);
        assert_int_equal(secret.size, 0);
}

static void test_seal_damaged(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        _cleanup_(buf_done) struct buf sealed = BUF_INIT(200);
        struct secret secret = {};

        assert_int_equal(store_seal(store, "t.c", 7, BYTES_LITERAL("0123456789abcdef"), &sealed), 0);
        for (size_t bit = 0; bit < 8 * sealed.size; bit++) {
                sealed.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                assert_int_equal(store_unseal(store, "t.c", 7, buf_bytes(&sealed), &secret), -EBADMSG);
                sealed.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t size = 0; size < sealed.size; size++)
                assert_int_equal(store_unseal(store, "t.c", 7, bytes_of(sealed.data, size), &secret), -EBADMSG);
        assert_int_equal(store_unseal(store, "t.c", 7, buf_bytes(&sealed), &secret), 0);
        secret_done(&secret);
}

/* Who can write the file cannot give one party's key to another. */
static void test_seal_moved(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t client_id = add_client(store, "c1");
        struct credential credential;
        struct secret psk = {};

        (void)add_credential(store, client_id, 0, "one", "0123456789abcdef");
        (void)add_credential(store, client_id, 0, "two", "fedcba9876543210");
        assert_int_equal(sqlite3_exec(store->db, "UPDATE credentials SET secret = (SELECT secret FROM credentials "
                                      "WHERE identity = CAST('two' AS BLOB)) WHERE identity = CAST('one' AS BLOB)",
                                      NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_changes(store->db), 1);
        assert_int_equal(store_psk_find(store, BYTES_LITERAL("two"), &credential, &psk), 0);
        secret_done(&psk);
        assert_int_equal(store_psk_find(store, BYTES_LITERAL("one"), &credential, &psk), -EIO);
        assert_int_equal(psk.size, 0);
}

static void test_no_secret_in_file(void **state) {
        struct folder *folder = *state;
        struct store *store = open_and_begin(folder->db);
        int64_t client_id = add_client(store, "c1"), server_id = add_server(store, "rs1");
        struct server_key key = { .server_id = server_id, .role = SERVER_KEY_TOKEN, .key = secret_of("CLEARTEXT-of-a-key") };
        _cleanup_(freep) uint8_t *data = NULL;
        struct stat st;
        FILE *file;

        (void)add_credential(store, client_id, 0, "visible-identity", "CLEARTEXT-of-a-psk");
        assert_int_equal(store_server_key_set(store, &key), 0);
        assert_int_equal(store_commit(store), 0);
        store_free(store);

        assert_int_equal(stat(folder->db, &st), 0);
        data = malloc((size_t)st.st_size);
        file = fopen(folder->db, "r");
        assert_true(data && file);
        assert_int_equal(fread(data, 1, (size_t)st.st_size, file), st.st_size);
        assert_int_equal(fclose(file), 0);
        assert_non_null(bytes_find(bytes_of(data, (size_t)st.st_size), BYTES_LITERAL("visible-identity")));
        assert_null(bytes_find(bytes_of(data, (size_t)st.st_size), BYTES_LITERAL("CLEARTEXT")));
}

static void test_mark(void **state) {
        _cleanup_(store_freep) struct store *store = open_store(NULL), *other = NULL;
        _cleanup_(diags_done) struct diags diags = {};
        uint8_t a[32], b[32], c[32], d[32], hash[32];

        assert_int_equal(open_with(NULL, 2, &other, &diags), 0);
        assert_int_equal(store_secret_mark(store, BYTES_LITERAL("one"), a), 0);
        assert_int_equal(store_secret_mark(store, BYTES_LITERAL("one"), b), 0);
        assert_int_equal(store_secret_mark(store, BYTES_LITERAL("two"), c), 0);
        assert_int_equal(store_secret_mark(other, BYTES_LITERAL("one"), d), 0);
        assert_int_equal(sha256(BYTES_LITERAL("one"), hash), 0);
        assert_memory_equal(a, b, 32);
        assert_memory_not_equal(a, c, 32);
        assert_memory_not_equal(a, d, 32); /* nobody without the key can try secrets against it */
        assert_memory_not_equal(a, hash, 32);
}

/* ---- clients */

static void test_clients(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        struct client client = client_named("c1"), found;

        (void)snprintf(client.default_audience, sizeof(client.default_audience), "rs1");
        assert_int_equal(store_client_add(store, &client), 0);
        assert_true(client.id > 0);
        assert_int_equal(store_client_by_name(store, BYTES_LITERAL("c1"), &found), 0);
        assert_int_equal(found.id, client.id);
        assert_string_equal(found.name, "c1");
        assert_false(found.suspended);
        assert_int_equal(found.profiles, PROFILE_BIT(1));
        assert_string_equal(found.default_audience, "rs1");
        assert_int_equal(found.created_s, NOW_S);

        found.suspended = true;
        found.profiles = PROFILE_BIT(1) | PROFILE_BIT(2);
        found.default_audience[0] = '\0';
        found.created_s = 1; /* not to be changed */
        assert_int_equal(store_client_update(store, &found), 0);
        assert_int_equal(store_client_by_id(store, client.id, &found), 0);
        assert_true(found.suspended);
        assert_int_equal(found.profiles, PROFILE_BIT(1) | PROFILE_BIT(2));
        assert_string_equal(found.default_audience, "");
        assert_int_equal(found.created_s, NOW_S);
}

static void test_clients_refused(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        struct client client = client_named("c1"), unknown = { .id = 999 };

        assert_int_equal(store_client_add(store, &client), 0);
        assert_int_equal(store_client_add(store, &client), REFUSE_ADMIN_EXISTS);
        (void)add_server(store, "c1"); /* a server may have the name */
        assert_int_equal(store_client_update(store, &unknown), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_client_delete(store, 999, NOW_S), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_client_by_id(store, 999, &client), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_client_by_name(store, BYTES_LITERAL("c"), &client), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_client_by_name(store, bytes_of("c1\0", 3), &client), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_client_by_name(store, BYTES_NONE, &client), REFUSE_ADMIN_UNKNOWN);
}

static void test_clients_each(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        struct seen stopped = { .stop_at = 2 };

        (void)add_client(store, "b");
        (void)add_client(store, "c");
        (void)add_client(store, "a");
        expect_seen("a b c", store_client_each(store, BYTES_NONE, 10, note_client, &seen));
        expect_seen("a b", store_client_each(store, BYTES_NONE, 2, note_client, &seen));
        expect_seen("c", store_client_each(store, BYTES_LITERAL("b"), 2, note_client, &seen));
        expect_seen("", store_client_each(store, BYTES_LITERAL("c"), 2, note_client, &seen));
        assert_int_equal(store_client_each(store, BYTES_NONE, 10, note_client, &stopped), 77);
        assert_string_equal(stopped.text, "a b");
}

static void test_labels(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t client_id = add_client(store, "c1"), other_id = add_client(store, "c2");
        struct bytes labels[] = { BYTES_LITERAL("floor2"), BYTES_LITERAL("door"), BYTES_LITERAL("door") };
        struct bytes many[LABELS_PER_CLIENT_MAX + 1];

        assert_int_equal(store_client_labels_set(store, client_id, labels, 3), 0);
        assert_int_equal(store_client_labels_set(store, other_id, labels, 1), 0);
        expect_seen("door floor2", store_client_labels_each(store, client_id, note_label, &seen));
        assert_int_equal(store_client_labels_set(store, client_id, labels, 1), 0);
        expect_seen("floor2", store_client_labels_each(store, client_id, note_label, &seen));

        for (size_t i = 0; i < N_ELEMENTS(many); i++)
                many[i] = BYTES_LITERAL("x");
        assert_int_equal(store_client_labels_set(store, client_id, many, N_ELEMENTS(many)), REFUSE_ADMIN_VALUE);
        expect_seen("floor2", store_client_labels_each(store, client_id, note_label, &seen));
        assert_int_equal(store_client_labels_set(store, client_id, NULL, 0), 0);
        expect_seen("", store_client_labels_each(store, client_id, note_label, &seen));
        expect_seen("floor2", store_client_labels_each(store, other_id, note_label, &seen));
}

/* AS-009: everything of the one goes, its tokens are revoked; nothing of the other. */
static void test_client_delete(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t c1 = add_client(store, "c1"), c2 = add_client(store, "c2"), rs1 = add_server(store, "rs1");
        struct bytes label = BYTES_LITERAL("door");
        uint64_t of_c1 = add_token(store, c1, rs1, NOW_S + LIFETIME_S);
        uint64_t of_c2 = add_token(store, c2, rs1, NOW_S + LIFETIME_S);
        struct token_filter all = {}, live = { .live_only = true, .now_s = NOW_S };
        struct credential credential;
        struct secret psk = {};
        struct token token = {};

        (void)add_credential(store, c1, 0, "one", "0123456789abcdef");
        (void)add_credential(store, c2, 0, "two", "fedcba9876543210");
        (void)add_policy(store, false, "c1", "rs1", "read");
        (void)add_policy(store, false, "c2", "rs1", "read");
        (void)add_policy(store, true, "c1", "rs1", "read"); /* a label of that name is not the client */
        assert_int_equal(store_client_labels_set(store, c1, &label, 1), 0);
        assert_int_equal(store_client_delete(store, c1, NOW_S + 5), 0);
        next_batch(store);

        expect_seen("c2", store_client_each(store, BYTES_NONE, 10, note_client, &seen));
        expect_seen("", store_client_labels_each(store, c1, note_label, &seen));
        expect_seen("c2@rs1:read #c1@rs1:read",
                    store_policy_each(store, 0, 10, BYTES_NONE, BYTES_NONE, note_policy, &seen));
        assert_int_equal(store_psk_find(store, BYTES_LITERAL("one"), &credential, &psk), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_psk_find(store, BYTES_LITERAL("two"), &credential, &psk), 0);
        assert_int_equal(find_token(store, of_c1, &token), 0);
        assert_int_equal(token.revoked_s, NOW_S + 5);
        assert_string_equal(token.client_name, "c1");
        assert_false(token_is_active(&token, rs1, false, NOW_S + 5));
        assert_int_equal(find_token(store, of_c2, &token), 0);
        assert_true(token_is_active(&token, rs1, false, NOW_S + 5));
        expect_seen("1:c1>rs1! 2:c2>rs1", store_token_each(store, 0, 10, &all, note_token, &seen));
        expect_seen("2:c2>rs1", store_token_each(store, 0, 10, &live, note_token, &seen));

        assert_true(add_client(store, "c1") > c2); /* ids are not used again: the old tokens are not the new client's */
        assert_int_equal(find_token(store, of_c1, &token), 0);
        assert_int_equal(token.revoked_s, NOW_S + 5);
        secret_done(&psk);
        token_done(&token);
}

/* ---- servers */

static void test_servers(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        struct server server = {
                .name = "rs1",
                .suspended = true,
                .profiles = PROFILE_BIT(1) | PROFILE_BIT(2),
                .scope_kind = SCOPE_BYTES,
                .scopes = { SCOPE_BYTES, 3, { 0, 1, 0 } },
                .default_scope = { SCOPE_BYTES, 1, { 0 } },
                .token_format = TOKEN_FORMAT_ENCRYPT0,
                .token_alg = AEAD_A256GCM,
                .token_tagged = true,
                .default_lifetime_s = 60,
                .max_lifetime_s = 120,
                .has_clock = true,
                .preferred_profile = 2,
                .oscore_alg = AEAD_CHACHA20_POLY1305,
                .oscore_hkdf = OSCORE_HKDF_SHA512,
                .created_s = NOW_S,
        };
        struct server found = {};

        assert_int_equal(store_server_add(store, &server), 0);
        assert_int_equal(store_server_by_name(store, BYTES_LITERAL("rs1"), &found), 0);
        assert_memory_equal(&found, &server, sizeof(server)); /* both began as zeros */
        assert_true(scope_equal(&found.default_scope, &server.default_scope));

        server = server_named("rs1");
        server.id = found.id;
        assert_int_equal(store_server_update(store, &server), 0);
        memset(&found, 0, sizeof(found));
        assert_int_equal(store_server_by_id(store, server.id, &found), 0);
        assert_memory_equal(&found, &server, sizeof(server));
        assert_int_equal(found.default_scope.kind, SCOPE_NONE);
}

static void test_servers_refused(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        struct server server = server_named("rs1"), unknown = server_named("rs2");

        unknown.id = 999;
        assert_int_equal(store_server_add(store, &server), 0);
        assert_int_equal(store_server_add(store, &server), REFUSE_ADMIN_EXISTS);
        assert_int_equal(store_server_update(store, &unknown), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_server_delete(store, 999, NOW_S), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_server_by_id(store, 999, &server), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_server_by_name(store, BYTES_LITERAL("rs2"), &server), REFUSE_ADMIN_UNKNOWN);

        (void)add_server(store, "rs0");
        expect_seen("rs0 rs1", store_server_each(store, BYTES_NONE, 10, note_server, &seen));
        expect_seen("rs0", store_server_each(store, BYTES_NONE, 1, note_server, &seen));
        expect_seen("rs1", store_server_each(store, BYTES_LITERAL("rs0"), 10, note_server, &seen));
}

static void test_audiences(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t rs1 = add_server(store, "rs1"), rs2 = add_server(store, "rs2"), rs3 = add_server(store, "rs3");
        struct bytes lights = BYTES_LITERAL("lights");
        struct server first = {};
        bool is_group;
        size_t n;

        assert_int_equal(store_audience_add(store, rs2, BYTES_LITERAL("rs1"), false), REFUSE_ADMIN_EXISTS);
        assert_int_equal(store_audience_add(store, rs2, BYTES_LITERAL("rs1"), true), REFUSE_ADMIN_EXISTS);
        assert_int_equal(store_audience_add(store, 999, BYTES_LITERAL("new"), false), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_audience_add(store, rs1, lights, true), 0);
        assert_int_equal(store_audience_add(store, rs2, lights, false), REFUSE_ADMIN_EXISTS);
        assert_int_equal(store_audience_find(store, lights, &n, &is_group, &first), 0);
        assert_int_equal(n, 1);
        assert_true(is_group); /* of one */
        assert_int_equal(store_audience_add(store, rs2, lights, true), 0);
        assert_int_equal(store_audience_add(store, rs3, lights, true), 0);
        assert_int_equal(store_audience_add(store, rs3, lights, false), REFUSE_ADMIN_EXISTS);
        assert_int_equal(store_audience_find(store, lights, &n, &is_group, &first), 0);
        assert_int_equal(n, 3);
        assert_int_equal(first.id, 0); /* what all of them can do */
        assert_string_equal(first.name, "rs1");

        assert_int_equal(store_server_by_id(store, rs1, &first), 0);
        first.suspended = true;
        assert_int_equal(store_server_update(store, &first), 0);
        assert_int_equal(store_audience_find(store, lights, &n, &is_group, &first), 0);
        assert_int_equal(n, 2);
        assert_string_equal(first.name, "rs2");
        assert_int_equal(store_audience_find(store, BYTES_LITERAL("rs1"), &n, &is_group, &first), 0);
        assert_int_equal(n, 0);
        assert_int_equal(store_audience_server(store, BYTES_LITERAL("rs1"), &first), 0); /* suspended or not */
        assert_int_equal(first.id, rs1);

        expect_seen("lights* rs2", store_audience_each(store, rs2, note_audience, &seen));
        assert_int_equal(store_audience_delete(store, rs2, lights), 0);
        assert_int_equal(store_audience_delete(store, rs2, lights), REFUSE_ADMIN_UNKNOWN);
        /* its own one may become a group's */
        assert_int_equal(store_audience_add(store, rs2, BYTES_LITERAL("rs2"), true), 0);
        expect_seen("rs2*", store_audience_each(store, rs2, note_audience, &seen));
        assert_int_equal(store_audience_find(store, BYTES_LITERAL("nobody"), &n, &is_group, &first), 0);
        assert_int_equal(n, 0);
        assert_int_equal(store_audience_server(store, BYTES_LITERAL("nobody"), &first), REFUSE_ADMIN_UNKNOWN);
}

static void test_server_keys(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t rs1 = add_server(store, "rs1"), rs2 = add_server(store, "rs2"), c1 = add_client(store, "c1");
        struct server_key key = { .server_id = rs1, .role = SERVER_KEY_TOKEN, .kid_size = 2, .kid = { 0, 9 }, .created_s = NOW_S }, found = {};
        struct server_key other = { .server_id = rs2, .role = SERVER_KEY_TOKEN };
        int64_t first_id;

        assert_int_equal(store_server_key_get(store, rs1, SERVER_KEY_TOKEN, NOW_S, &found), REFUSE_ADMIN_UNKNOWN);
        key.key = secret_of("0123456789abcdef");
        assert_int_equal(store_server_key_set(store, &key), 0);
        first_id = key.id;
        assert_int_equal(store_server_key_get(store, rs1, SERVER_KEY_TOKEN, NOW_S, &found), 0);
        assert_int_equal(found.id, key.id);
        assert_int_equal(found.server_id, rs1);
        assert_int_equal(found.kid_size, 2);
        assert_memory_equal(found.kid, key.kid, 2);
        assert_int_equal(found.key.size, 16);
        assert_memory_equal(found.key.data, "0123456789abcdef", 16);
        assert_int_equal(found.created_s, NOW_S);

        /* AS-008, AS-105: nobody else may have it */
        other.key = secret_of("0123456789abcdef");
        assert_int_equal(store_server_key_set(store, &other), REFUSE_ADMIN_EXISTS);
        (void)add_credential(store, c1, 0, "one", "fedcba9876543210");
        other.key = secret_of("fedcba9876543210");
        assert_int_equal(store_server_key_set(store, &other), REFUSE_ADMIN_EXISTS);
        assert_int_equal(store_server_key_get(store, rs2, SERVER_KEY_TOKEN, NOW_S, &found), REFUSE_ADMIN_UNKNOWN);

        /* the same again, perhaps under another kid; then a new one, which does not set the old one free */
        key.kid_size = 0;
        assert_int_equal(store_server_key_set(store, &key), 0);
        key.key = secret_of("another-key-16-b");
        key.active_from_s = NOW_S;
        assert_int_equal(store_server_key_set(store, &key), 0);
        assert_true(key.id > first_id);
        assert_int_equal(store_server_key_get(store, rs1, SERVER_KEY_TOKEN, NOW_S, &found), 0);
        assert_int_equal(found.kid_size, 0);
        assert_memory_equal(found.key.data, "another-key-16-b", 16);
        other.key = secret_of("0123456789abcdef");
        assert_int_equal(store_server_key_set(store, &other), REFUSE_ADMIN_EXISTS);
        assert_int_equal(store_server_keys_drop(store, rs1, NOW_S), 0);
        assert_int_equal(store_server_key_set(store, &other), 0);

        key.server_id = 999;
        key.key = secret_of("key-of-nobody-16");
        assert_int_equal(store_server_key_set(store, &key), REFUSE_ADMIN_UNKNOWN);
        key.kid_size = sizeof(key.kid) + 1;
        assert_int_equal(store_server_key_set(store, &key), -EINVAL);
}

/* A group can do what all of its members can (AS-065, AS-066). */
static void test_group(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t ids[] = { add_server(store, "rs1"), add_server(store, "rs2"), add_server(store, "rs3") };
        static const struct {
                profile_set profiles;
                pop_key_set pop_keys;
                const char *scopes;
                int64_t default_lifetime_s, max_lifetime_s;
                bool has_trl, has_clock;
        } rows[] = {
                { 2 | 4, POP_KEY_SYMMETRIC | POP_KEY_BIT(CURVE_P256) | POP_KEY_BIT(CURVE_P384), "on off dim", 0, 900,
                  false, true },
                { 2, POP_KEY_SYMMETRIC | POP_KEY_BIT(CURVE_P256), NULL, 500, 0, true, true },
                { 2 | 8, POP_KEY_BIT(CURVE_P256) | POP_KEY_BIT(CURVE_ED25519), "dim on read", 600, 700, false, true },
        };
        struct server server;
        bool is_group;
        size_t n;

        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                assert_int_equal(store_server_by_id(store, ids[i], &server), 0);
                server.profiles = rows[i].profiles;
                server.pop_keys = rows[i].pop_keys;
                server.default_lifetime_s = rows[i].default_lifetime_s;
                server.max_lifetime_s = rows[i].max_lifetime_s;
                server.has_trl = rows[i].has_trl;
                server.has_clock = rows[i].has_clock;
                server.scopes.kind = SCOPE_NONE;
                if (rows[i].scopes)
                        assert_int_equal(scope_set(&server.scopes, SCOPE_TEXT, bytes_text(rows[i].scopes)), 0);
                assert_int_equal(store_server_update(store, &server), 0);
                assert_int_equal(store_audience_add(store, ids[i], BYTES_LITERAL("lights"), true), 0);
        }
        assert_int_equal(store_audience_find(store, BYTES_LITERAL("lights"), &n, &is_group, &server), 0);
        assert_int_equal(n, 3);
        assert_true(is_group);
        assert_int_equal(server.profiles, 2);
        assert_int_equal(server.pop_keys, POP_KEY_BIT(CURVE_P256));
        assert_true(bytes_equal(scope_bytes(&server.scopes), BYTES_LITERAL("on dim")));
        assert_int_equal(server.default_lifetime_s, 500);
        assert_int_equal(server.max_lifetime_s, 700);
        assert_true(server.has_trl && server.has_clock && server.token_tagged);
        assert_int_equal(server.token_format, TOKEN_FORMAT_SIGN1);

        /* nothing in common is nothing, not anything */
        assert_int_equal(store_server_by_id(store, ids[2], &server), 0);
        assert_int_equal(scope_set(&server.scopes, SCOPE_TEXT, BYTES_LITERAL("read")), 0);
        assert_int_equal(store_server_update(store, &server), 0);
        assert_int_equal(store_audience_find(store, BYTES_LITERAL("lights"), &n, &is_group, &server), 0);
        assert_int_equal(server.scopes.kind, SCOPE_TEXT);
        assert_int_equal(server.scopes.size, 0);
}

static int note_server_key(void *context, const struct server_key *key) {
        char text[40];

        snprintf(text, sizeof(text), "%d@%lld", (int)key->role, (long long)key->active_from_s);
        return note(context, text);
}

static int set_key(struct store *store, int64_t server_id, enum server_key_role role, const char *secret,
                   int64_t now_s, int64_t active_from_s) {
        struct server_key key = { .server_id = server_id, .role = role, .key = secret_of(secret),
                                  .active_from_s = active_from_s, .created_s = now_s };

        return store_server_key_set(store, &key);
}

static void assert_in_force(struct store *store, int64_t server_id, int64_t now_s, const char *secret) {
        struct server_key found = {};

        assert_int_equal(store_server_key_get(store, server_id, SERVER_KEY_TOKEN, now_s, &found), 0);
        assert_memory_equal(found.key.data, secret, found.key.size);
        server_key_done(&found);
}

/* An announced key changes nothing until its time has come; what was in force stays listed until nobody needs it. */
static void test_server_key_rollover(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t rs1 = add_server(store, "rs1");
        enum server_key_role token = SERVER_KEY_TOKEN, derivation = SERVER_KEY_DERIVATION;

        assert_int_equal(set_key(store, rs1, token, "key-one-16-bytes", 100, 200), 0); /* the first: at once */
        assert_in_force(store, rs1, 100, "key-one-16-bytes");
        assert_int_equal(set_key(store, rs1, token, "key-two-16-bytes", 100, 500), 0);
        assert_in_force(store, rs1, 499, "key-one-16-bytes");
        assert_in_force(store, rs1, 500, "key-two-16-bytes");
        assert_in_force(store, rs1, -1, "key-one-16-bytes"); /* a clock set back */
        assert_int_equal(set_key(store, rs1, derivation, "key-two-16-bytes", 100, 100), REFUSE_ADMIN_EXISTS);
        assert_int_equal(set_key(store, rs1, derivation, "key-for-deriving", 100, 100), 0);
        expect_seen("1@0 1@500 2@0", store_server_key_each(store, rs1, note_server_key, &seen));

        /* another announcement takes the place of the first; the one in force cannot be announced */
        assert_int_equal(set_key(store, rs1, token, "key-3-3-16-bytes", 150, 600), 0);
        assert_int_equal(set_key(store, rs1, token, "key-one-16-bytes", 150, 700), REFUSE_ADMIN_EXISTS);
        expect_seen("1@0 1@600 2@0", store_server_key_each(store, rs1, note_server_key, &seen));
        assert_in_force(store, rs1, 599, "key-one-16-bytes");

        /* at once, in one second twice: the later one */
        assert_int_equal(set_key(store, rs1, token, "key-4-4-16-bytes", 700, 700), 0);
        assert_int_equal(set_key(store, rs1, token, "key-5-5-16-bytes", 700, 700), 0);
        assert_in_force(store, rs1, 700, "key-5-5-16-bytes");
        expect_seen("1@0 1@600 1@700 1@700 2@0", store_server_key_each(store, rs1, note_server_key, &seen));
        assert_int_equal(store_server_keys_drop(store, rs1, 599), 0);
        expect_seen("1@0 1@600 1@700 1@700 2@0", store_server_key_each(store, rs1, note_server_key, &seen));
        assert_int_equal(store_server_keys_drop(store, rs1, 600), 0);
        expect_seen("1@600 1@700 1@700 2@0", store_server_key_each(store, rs1, note_server_key, &seen));
        assert_in_force(store, rs1, 100, "key-3-3-16-bytes"); /* before all of them: the earliest */
        assert_int_equal(store_server_keys_drop(store, rs1, 700), 0);
        expect_seen("1@700 2@0", store_server_key_each(store, rs1, note_server_key, &seen));
        assert_in_force(store, rs1, 700, "key-5-5-16-bytes");
}

static void test_server_keys_limit(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t rs1 = add_server(store, "rs1");
        char secret[32];

        for (int i = 0; i <= SERVER_KEYS_MAX; i++) {
                snprintf(secret, sizeof(secret), "key-%d-for-servers", i);
                assert_int_equal(set_key(store, rs1, SERVER_KEY_TOKEN, secret, 100 + i, 100 + i),
                                 i < SERVER_KEYS_MAX ? 0 : REFUSE_ADMIN_CONFLICT);
        }
}

/* AS-174: per server, without a gap, never again; a roll-back takes the number back with the token it was for. */
static void test_exi_numbers(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t rs1 = add_server(store, "rs1"), rs2 = add_server(store, "rs2");
        uint64_t n;

        next_batch(store);
        for (uint64_t i = 1; i <= 3; i++) {
                assert_int_equal(store_exi_next(store, rs1, &n), 0);
                assert_int_equal(n, i);
        }
        assert_int_equal(store_exi_next(store, rs2, &n), 0);
        assert_int_equal(n, 1);
        next_batch(store);
        assert_int_equal(store_savepoint(store), 0);
        assert_int_equal(store_exi_next(store, rs1, &n), 0);
        assert_int_equal(n, 4);
        assert_int_equal(store_savepoint_rollback(store), 0);
        assert_int_equal(store_exi_next(store, rs1, &n), 0);
        assert_int_equal(n, 4);
        assert_int_equal(store_exi_next(store, 999, &n), REFUSE_ADMIN_UNKNOWN);
}

/* What was given out after the backup was made is not known any more, and is not given out again. */
static void test_restore_advances_numbers(void **state) {
        struct folder *folder = *state;
        _cleanup_(diags_done) struct diags diags = {};
        _cleanup_(freep) char *kept = NULL;
        struct store *store = open_and_begin(folder->db);
        int64_t rs1 = add_server(store, "rs1");
        uint8_t key[SEAL_KEY_SIZE];
        uint64_t exi, number;

        memset(key, 1, sizeof(key));
        assert_int_equal(store_exi_next(store, rs1, &exi), 0);
        assert_int_equal(store_commit(store), 0);
        store_free(store);
        assert_int_equal(store_restore(&(struct restore){ .backup = folder->db, .database = folder->copy,
                                                          .seal_key = { key, sizeof(key) }, .now_s = NOW_S },
                                       &kept, &diags), 0);
        assert_null(kept);
        store = open_and_begin(folder->copy);
        assert_int_equal(store_exi_next(store, rs1, &exi), 0);
        assert_true(exi == 2 + (uint64_t)RESTORE_ADVANCE);
        assert_int_equal(store_number(store, NUMBER_TOKEN, &number), 0);
        assert_true(number > (uint64_t)RESTORE_ADVANCE);
        store_free(store);
}

static void test_server_delete(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t rs1 = add_server(store, "rs1"), rs2 = add_server(store, "rs2"), c1 = add_client(store, "c1");
        struct server_key key = { .server_id = rs1, .role = SERVER_KEY_TOKEN, .key = secret_of("0123456789abcdef") };
        uint64_t at_rs1 = add_token(store, c1, rs1, NOW_S + LIFETIME_S);
        uint64_t at_rs2 = add_token(store, c1, rs2, NOW_S + LIFETIME_S);
        struct credential credential;
        struct secret psk = {};
        struct token token = {};
        int64_t rs1_again;

        assert_int_equal(store_server_key_set(store, &key), 0);
        (void)add_credential(store, 0, rs1, "psk-rs1", "rs1-own-psk-16-b");
        assert_int_equal(store_audience_add(store, rs1, BYTES_LITERAL("lights"), true), 0);
        assert_int_equal(store_audience_add(store, rs2, BYTES_LITERAL("lights"), true), 0);
        (void)add_policy(store, false, "c1", "rs1", "read");
        (void)add_policy(store, false, "c1", "rs2", "read");
        (void)add_policy(store, false, "c1", "lights", "read");
        assert_int_equal(store_server_delete(store, rs1, NOW_S + 5), 0);
        next_batch(store);

        expect_seen("rs2", store_server_each(store, BYTES_NONE, 10, note_server, &seen));
        expect_seen("", store_audience_each(store, rs1, note_audience, &seen));
        expect_seen("c1@rs2:read c1@lights:read",
                    store_policy_each(store, 0, 10, BYTES_NONE, BYTES_NONE, note_policy, &seen));
        assert_int_equal(store_psk_find(store, BYTES_LITERAL("psk-rs1"), &credential, &psk), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_server_key_get(store, rs1, SERVER_KEY_TOKEN, NOW_S, &key), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(find_token(store, at_rs1, &token), 0);
        assert_int_equal(token.revoked_s, NOW_S + 5);
        assert_string_equal(token.server_name, "rs1");
        assert_int_equal(find_token(store, at_rs2, &token), 0);
        assert_int_equal(token.revoked_s, 0);

        rs1_again = add_server(store, "rs1");
        assert_true(rs1_again != rs1);
        assert_int_equal(find_token(store, at_rs1, &token), 0);
        assert_false(token_is_active(&token, rs1_again, false, NOW_S + 1));
        token_done(&token);
}

/* ---- credentials */

static void test_credentials(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t c1 = add_client(store, "c1"), rs1 = add_server(store, "rs1");
        struct bytes binary = BYTES_LITERAL("\x00id\x00\xff"), cut = BYTES_LITERAL("\x00id");
        struct credential credential = credential_of(c1, 0, binary), found;
        struct secret secret = secret_of("0123456789abcdef"), psk = {};
        bool same = true;

        assert_int_equal(store_credential_add(store, &credential, &secret, &same), 0);
        assert_false(same);
        assert_int_equal(store_psk_find(store, binary, &found, &psk), 0); /* zero bytes are part of it */
        assert_int_equal(found.id, credential.id);
        assert_int_equal(found.kind, CREDENTIAL_PSK);
        assert_int_equal(found.client_id, c1);
        assert_int_equal(found.server_id, 0);
        assert_true(bytes_equal(credential_identity(&found), binary));
        assert_int_equal(found.created_s, NOW_S);
        assert_int_equal(psk.size, 16);
        assert_memory_equal(psk.data, "0123456789abcdef", 16);
        assert_int_equal(store_psk_find(store, cut, &found, &psk), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_psk_find(store, BYTES_NONE, &found, &psk), REFUSE_ADMIN_UNKNOWN);

        (void)add_credential(store, 0, rs1, "rs1", "rs1-own-psk-16-b");
        assert_int_equal(store_psk_find(store, BYTES_LITERAL("rs1"), &found, &psk), 0);
        assert_int_equal(found.client_id, 0);
        assert_int_equal(found.server_id, rs1);
        assert_int_equal(store_credential_by_id(store, credential.id, &found), 0);
        assert_int_equal(found.client_id, c1);
        assert_int_equal(store_credential_by_id(store, 999, &found), REFUSE_ADMIN_UNKNOWN);
        secret_done(&psk);
}

static void test_credentials_refused(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t c1 = add_client(store, "c1"), c2 = add_client(store, "c2"), rs1 = add_server(store, "rs1");
        struct server_key key = { .server_id = rs1, .role = SERVER_KEY_TOKEN, .key = secret_of("server-key-16-by") };
        struct credential credential = credential_of(c2, 0, BYTES_LITERAL("one"));
        struct secret first = secret_of("0123456789abcdef"), second = secret_of("fedcba9876543210");
        uint8_t longest[IDENTITY_SIZE_MAX + 1] = { 1 };
        bool same = true;

        (void)add_credential(store, c1, 0, "one", "0123456789abcdef");
        assert_int_equal(store_credential_add(store, &credential, &second, &same), REFUSE_ADMIN_EXISTS);
        assert_false(same); /* the identity it is */
        credential = credential_of(c2, 0, BYTES_LITERAL("two"));
        assert_int_equal(store_credential_add(store, &credential, &first, &same), REFUSE_ADMIN_EXISTS);
        assert_true(same); /* AS-008 */
        assert_int_equal(store_server_key_set(store, &key), 0);
        assert_int_equal(store_credential_add(store, &credential, &key.key, &same), REFUSE_ADMIN_EXISTS);
        assert_true(same);
        credential = credential_of(999, 0, BYTES_LITERAL("two"));
        assert_int_equal(store_credential_add(store, &credential, &second, &same), REFUSE_ADMIN_UNKNOWN);
        credential = credential_of(c1, rs1, BYTES_LITERAL("two"));
        assert_int_equal(store_credential_add(store, &credential, &second, &same), -EIO); /* of two parties: our bug */
        assert_int_equal(store_psk_find(store, bytes_of(longest, sizeof(longest)), &credential, &second),
                         REFUSE_ADMIN_UNKNOWN);
        expect_seen("", store_credential_each(store, c2, 0, note_credential, &seen));
}

static void test_credentials_delete(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t c1 = add_client(store, "c1"), c2 = add_client(store, "c2"), rs1 = add_server(store, "rs1");
        int64_t one = add_credential(store, c1, 0, "one", "0123456789abcdef");
        int64_t of_rs1 = add_credential(store, 0, rs1, "rs", "rs1-own-psk-16-b");

        (void)add_credential(store, c1, 0, "two", "fedcba9876543210");
        expect_seen("one two", store_credential_each(store, c1, 0, note_credential, &seen));
        expect_seen("rs", store_credential_each(store, 0, rs1, note_credential, &seen));
        assert_int_equal(store_credential_delete(store, one, c2, 0), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_credential_delete(store, one, 0, rs1), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_credential_delete(store, one, 0, 0), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_credential_delete(store, of_rs1, c1, 0), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_credential_delete(store, one, c1, 0), 0);
        assert_int_equal(store_credential_delete(store, one, c1, 0), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_credential_delete(store, of_rs1, 0, rs1), 0);
        expect_seen("two", store_credential_each(store, c1, 0, note_credential, &seen));
        (void)add_credential(store, c2, 0, "one", "0123456789abcdef"); /* identity and key are free again */
}

static void test_psk_of_suspended(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        struct client client = client_named("c1");
        struct server server = server_named("rs1");
        struct credential found;
        struct secret psk = {};
        int64_t id;

        assert_int_equal(store_client_add(store, &client), 0);
        assert_int_equal(store_server_add(store, &server), 0);
        id = add_credential(store, client.id, 0, "one", "0123456789abcdef");
        (void)add_credential(store, 0, server.id, "two", "fedcba9876543210");
        client.suspended = server.suspended = true;
        assert_int_equal(store_client_update(store, &client), 0);
        assert_int_equal(store_server_update(store, &server), 0);
        assert_int_equal(store_psk_find(store, BYTES_LITERAL("one"), &found, &psk), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_psk_find(store, BYTES_LITERAL("two"), &found, &psk), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(psk.size, 0);
        assert_int_equal(store_credential_by_id(store, id, &found), 0);

        client.suspended = server.suspended = false;
        assert_int_equal(store_client_update(store, &client), 0);
        assert_int_equal(store_server_update(store, &server), 0);
        assert_int_equal(store_psk_find(store, BYTES_LITERAL("one"), &found, &psk), 0);
        assert_int_equal(store_psk_find(store, BYTES_LITERAL("two"), &found, &psk), 0);
        secret_done(&psk);
}

/* ---- policies */

static void test_policies(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        struct policy policy = policy_of(false, "c1", "rs1", "read write");
        struct policy same = policy_of(false, "c1", "rs1", "write read");
        int64_t first;

        assert_int_equal(store_policy_add(store, &policy), 0);
        first = policy.id;
        assert_int_equal(store_policy_add(store, &policy), REFUSE_ADMIN_EXISTS);
        assert_int_equal(store_policy_add(store, &same), REFUSE_ADMIN_EXISTS); /* a scope is a set */
        same.max_lifetime_s = 60;
        assert_int_equal(store_policy_add(store, &same), 0);
        same.valid_from_s = 60;
        assert_int_equal(store_policy_add(store, &same), 0);
        same.valid_until_s = 120;
        assert_int_equal(store_policy_add(store, &same), 0);
        assert_int_equal(store_policy_add(store, &same), REFUSE_ADMIN_EXISTS);
        same.for_label = true;
        assert_int_equal(store_policy_add(store, &same), 0);
        assert_int_equal(store_policy_delete(store, first), 0);
        assert_int_equal(store_policy_delete(store, first), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_policy_add(store, &policy), 0);
        assert_true(policy.id > same.id);
}

static void test_policies_each(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t first = add_policy(store, false, "c1", "rs2", "a"), second = add_policy(store, false, "c1", "rs1", "b");
        struct bytes c1 = BYTES_LITERAL("c1"), door = BYTES_LITERAL("door"), rs1 = BYTES_LITERAL("rs1");

        (void)add_policy(store, true, "door", "rs1", "c");
        (void)add_policy(store, false, "c2", "rs1", "d");
        (void)add_policy(store, true, "c1", "rs1", "e");
        expect_seen("c1@rs2:a c1@rs1:b #door@rs1:c c2@rs1:d #c1@rs1:e",
                    store_policy_each(store, 0, 10, BYTES_NONE, BYTES_NONE, note_policy, &seen));
        expect_seen("c1@rs1:b #door@rs1:c",
                    store_policy_each(store, first, 2, BYTES_NONE, BYTES_NONE, note_policy, &seen));
        expect_seen("c1@rs2:a c1@rs1:b #c1@rs1:e", store_policy_each(store, 0, 10, c1, BYTES_NONE, note_policy, &seen));
        expect_seen("#c1@rs1:e", store_policy_each(store, second, 10, c1, BYTES_NONE, note_policy, &seen));
        expect_seen("#door@rs1:c", store_policy_each(store, 0, 10, door, BYTES_NONE, note_policy, &seen));
        expect_seen("c1@rs1:b #door@rs1:c c2@rs1:d",
                    store_policy_each(store, 0, 3, BYTES_NONE, rs1, note_policy, &seen));
        expect_seen("c1@rs1:b #c1@rs1:e", store_policy_each(store, 0, 10, c1, rs1, note_policy, &seen));
        expect_seen("c1@rs1:b", store_policy_each(store, 0, 1, c1, rs1, note_policy, &seen));
        expect_seen("", store_policy_each(store, 0, 10, BYTES_LITERAL("nobody"), rs1, note_policy, &seen));
}

/* ---- facts */

struct asked {
        struct store *store;
        int64_t c1, rs1, credential_c1, credential_rs1;
};

static struct asked facts_world(void) {
        struct asked world = { .store = open_and_begin(NULL) };

        world.c1 = add_client(world.store, "c1");
        world.rs1 = add_server(world.store, "rs1");
        world.credential_c1 = add_credential(world.store, world.c1, 0, "one", "0123456789abcdef");
        world.credential_rs1 = add_credential(world.store, 0, world.rs1, "two", "fedcba9876543210");
        return world;
}

static void expect_facts(const struct asked *world, int64_t credential_id, const struct token_ask *ask,
                         struct token_facts *facts) {
        *facts = (struct token_facts){ .tokens_max = facts->tokens_max };
        assert_int_equal(store_token_facts(world->store, credential_id, 0, ask, NOW_S, facts), 0);
}

static void test_facts_asker(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct token_ask ask = { .audience = BYTES_LITERAL("rs1") };
        struct token_facts facts = {};

        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_int_equal(facts.client.id, world.c1);
        assert_string_equal(facts.client.name, "c1");
        assert_false(facts.asker_is_server);
        assert_int_equal(facts.n_servers, 1);
        assert_int_equal(facts.server.id, world.rs1);
        assert_string_equal(facts.audience, "rs1");

        expect_facts(&world, world.credential_rs1, &ask, &facts);
        assert_int_equal(facts.client.id, 0);
        assert_true(facts.asker_is_server);
        expect_facts(&world, 0, &ask, &facts);
        assert_int_equal(facts.client.id, 0);
        assert_false(facts.asker_is_server);
        expect_facts(&world, 999, &ask, &facts);
        assert_int_equal(facts.client.id, 0);

        facts = (struct token_facts){};
        assert_int_equal(store_token_facts(store, 0, world.c1, &ask, NOW_S, &facts), 0);
        assert_int_equal(facts.client.id, world.c1);
        facts = (struct token_facts){};
        assert_int_equal(store_token_facts(store, 0, 999, &ask, NOW_S, &facts), 0);
        assert_int_equal(facts.client.id, 0);
}

static void test_facts_audience(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        uint8_t longest[AUDIENCE_SIZE_MAX + 1];
        struct token_ask ask = {};
        struct token_facts facts = {};
        struct client client;

        /* AS-021: one there is, so that is the one; two: no default, but the client's own */
        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_string_equal(facts.audience, "rs1");
        assert_int_equal(facts.n_servers, 1);
        (void)add_server(store, "rs2");
        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_string_equal(facts.audience, "");
        assert_int_equal(facts.n_servers, 0);
        assert_int_equal(store_client_by_id(store, world.c1, &client), 0);
        (void)snprintf(client.default_audience, sizeof(client.default_audience), "rs2");
        assert_int_equal(store_client_update(store, &client), 0);
        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_string_equal(facts.audience, "rs2");
        assert_int_equal(facts.n_servers, 1);

        memset(longest, 'a', sizeof(longest));
        ask.audience = bytes_of(longest, sizeof(longest));
        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_int_equal(facts.n_servers, 0);
        ask.audience = bytes_of("rs1\0", 4);
        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_int_equal(facts.n_servers, 0);
        ask.audience = bytes_of("", 0);
        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_int_equal(facts.n_servers, 0);
}

static void test_facts_no_audience_at_all(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        int64_t client_id = add_client(store, "c1");
        struct token_facts facts = {};

        assert_int_equal(store_token_facts(store, 0, client_id, &(struct token_ask){}, NOW_S, &facts), 0);
        assert_string_equal(facts.audience, "");
        assert_int_equal(facts.n_servers, 0);
}

static void test_facts_group(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct token_ask ask = { .audience = BYTES_LITERAL("lights") };
        struct token_facts facts = {};
        char name[16];

        assert_int_equal(store_audience_add(store, world.rs1, ask.audience, true), 0);
        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_int_equal(facts.n_servers, 1);
        assert_true(facts.is_group);
        for (int i = 2; i < 6; i++) {
                (void)snprintf(name, sizeof(name), "rs%d", i);
                assert_int_equal(store_audience_add(store, add_server(store, name), ask.audience, true), 0);
        }
        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_int_equal(facts.n_servers, 5);
        assert_int_equal(facts.server.id, 0);
}

/* All that a policy says comes back, also when it is only tried or denies everything. */
static int keep_policy(void *context, const struct policy *policy) {
        *(struct policy *)context = *policy;
        return 0;
}

static void test_policy_kinds(void **state) {
        _cleanup_(store_freep) struct store *store = open_and_begin(NULL);
        struct policy policy = policy_of(true, "door", "rs-${floor}", "read"), kept = {};
        struct scope scopes[] = { policy.scopes, {}, { .kind = SCOPE_BYTES, .size = 1 }, {} };

        assert_int_equal(aif_add(&scopes[3], BYTES_LITERAL("/s/temp"), 5), 0);
        policy.effect = POLICY_DENY;
        policy.is_shadow = true;
        policy.valid_from_s = 1;
        policy.valid_until_s = 2;
        policy.advance_s = 3;
        policy.weekdays = 0x41;
        policy.day_from_s = 3600;
        policy.day_until_s = 7200;
        for (size_t i = 0; i < N_ELEMENTS(scopes); i++) {
                policy.scopes = scopes[i];
                assert_int_equal(store_policy_add(store, &policy), 0);
                assert_int_equal(store_policy_each(store, policy.id - 1, 1, BYTES_NONE, BYTES_NONE, keep_policy,
                                                   &kept), 0);
                assert_int_equal(kept.id, policy.id);
                assert_true(kept.for_label && kept.is_shadow && kept.audience_varies && kept.effect == POLICY_DENY);
                assert_string_equal(kept.audience, "rs-${floor}");
                assert_true(scope_equal(&kept.scopes, &policy.scopes));
                assert_true(kept.valid_from_s == 1 && kept.valid_until_s == 2 && kept.advance_s == 3 &&
                            kept.weekdays == 0x41 && kept.day_from_s == 3600 && kept.day_until_s == 7200);
                assert_int_equal(store_policy_add(store, &policy), REFUSE_ADMIN_EXISTS);
        }
        /* each difference makes another one */
        policy.effect = POLICY_ALLOW;
        assert_int_equal(store_policy_add(store, &policy), 0);
        policy.is_shadow = false;
        assert_int_equal(store_policy_add(store, &policy), 0);
        policy.advance_s = 0;
        assert_int_equal(store_policy_add(store, &policy), 0);
        policy.weekdays = 0;
        assert_int_equal(store_policy_add(store, &policy), 0);
        policy.day_until_s = 0;
        assert_int_equal(store_policy_add(store, &policy), 0);
        assert_int_equal(store_policy_add(store, &policy), REFUSE_ADMIN_EXISTS);
}

/* Variables have their values when the decision sees them; what is about other audiences is not seen. */
static void test_facts_variables(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct bytes labels[] = { BYTES_LITERAL("nr:1"), BYTES_LITERAL("nr:7"), BYTES_LITERAL("door") };
        struct token_ask ask = { .audience = BYTES_LITERAL("rs1") };
        struct token_facts facts = {};
        struct scope all = {}, wanted = text_scope("1:read c1:own plain rs1:x");

        assert_int_equal(store_client_labels_set(store, world.c1, labels, 3), 0);
        (void)add_policy(store, false, "c1", "rs${nr}", "${nr}:read");
        (void)add_policy(store, true, "door", "rs${nr}", "${client}:own");
        (void)add_policy(store, true, "door", "rs1", "plain ${audience}:x");
        (void)add_policy(store, false, "c1", "rs2${nr}", "elsewhere");
        (void)add_policy(store, false, "c1", "rs${floor}", "no-label");
        (void)add_policy(store, false, "c2", "rs${nr}", "not-mine");
        (void)add_policy(store, true, "window", "rs${nr}", "not-my-label");
        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_int_equal(facts.n_policies, 4);
        for (size_t i = 0; i < facts.n_policies; i++)
                if (facts.policies[i].fit == POLICY_FITS)
                        assert_int_equal(scope_unite(&all, &facts.policies[i].scopes), 0);
                else
                        assert_int_equal(facts.policies[i].fit, POLICY_LACKS_LABEL);
        assert_true(scope_equal(&all, &wanted));
        token_facts_done(&facts);
}

/* Policies whose audience varies are found also when somebody else than this store has added them. */
static void test_varying_after_reopen(void **state) {
        struct folder *folder = *state;
        struct store *store = open_and_begin(folder->db);

        assert_false(store->policies_vary);
        (void)add_policy(store, false, "c1", "rs1", "read");
        assert_false(store->policies_vary);
        (void)add_policy(store, false, "c1", "rs${nr}", "read");
        assert_true(store->policies_vary);
        assert_int_equal(store_commit(store), 0);
        store_free(store);
        store = open_and_begin(folder->db);
        assert_true(store->policies_vary);
        store_free(store);
}


static void test_facts_policies(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct bytes labels[] = { BYTES_LITERAL("door"), BYTES_LITERAL("floor2") };
        struct token_ask ask = { .audience = BYTES_LITERAL("rs1") };
        struct token_facts facts = {};
        struct scope all = {};
        char scope[16];

        assert_int_equal(store_client_labels_set(store, world.c1, labels, 2), 0);
        (void)add_policy(store, false, "c1", "rs1", "a");
        (void)add_policy(store, true, "door", "rs1", "b");
        (void)add_policy(store, true, "floor2", "rs1", "c");
        (void)add_policy(store, true, "c1", "rs1", "not-1");   /* a label it has not */
        (void)add_policy(store, false, "door", "rs1", "not-2"); /* a client of its label's name */
        (void)add_policy(store, false, "c1", "rs2", "not-3");
        (void)add_policy(store, false, "c2", "rs1", "not-4");
        for (int i = 0; i < 10; i++) { /* more than is made room for at first */
                (void)snprintf(scope, sizeof(scope), "x%d", i);
                (void)add_policy(store, false, "c1", "rs1", scope);
        }

        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_int_equal(facts.n_policies, 13);
        for (size_t i = 0; i < facts.n_policies; i++)
                assert_int_equal(scope_unite(&all, &facts.policies[i].scopes), 0);
        for (size_t i = 0; i < 2; i++) {
                struct scope wanted = text_scope(i == 0 ? "a b c x0 x1 x2 x3 x4 x5 x6 x7 x8 x9"
                                                        : "not-1 not-2 not-3 not-4");
                struct scope left;

                assert_int_equal(scope_intersect(&wanted, &all, &left), i == 0);
                assert_int_equal(scope_equal(&wanted, &left), i == 0);
        }
        assert_int_equal(facts.policies[0].created_s, 0);
        token_facts_done(&facts);
}

/* AS-100, AS-121: only a live key of this client at this server. */
static void test_facts_pop_key(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        int64_t c2 = add_client(store, "c2"), rs2 = add_server(store, "rs2");
        uint64_t live = add_token(store, world.c1, world.rs1, NOW_S + 1);
        uint64_t expired = add_token(store, world.c1, world.rs1, NOW_S);
        uint64_t of_c2 = add_token(store, c2, world.rs1, NOW_S + 1);
        uint64_t at_rs2 = add_token(store, world.c1, rs2, NOW_S + 1);
        uint64_t revoked = add_token(store, world.c1, world.rs1, NOW_S + 1);
        const struct {
                uint64_t number;
                bool found;
        } cases[] = {
                { live, true },    { expired, false }, { of_c2, false },
                { at_rs2, false }, { revoked, false }, { 999, false },
        };
        uint8_t kid[NUMBER_SIZE_MAX];
        struct token_ask ask = { .audience = BYTES_LITERAL("rs1"), .cnf = ASK_CNF_KID };
        struct token_facts facts = {};

        assert_int_equal(store_token_revoke(store, revoked, NOW_S), 0);
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                ask.kid = bytes_of(kid, number_to_bytes(cases[i].number, kid));
                expect_facts(&world, world.credential_c1, &ask, &facts);
                if (facts.pop_key_found != cases[i].found)
                        fail_msg("case %zu", i);
                assert_int_equal(facts.pop_key.size, cases[i].found ? 16 : 0);
                assert_true(!cases[i].found || facts.pop_key_number == live);
                token_facts_done(&facts);
        }
        ask.kid = BYTES_LITERAL("\xff\xff\xff\xff\xff\xff\xff\xff");
        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_false(facts.pop_key_found);
        ask.kid = BYTES_LITERAL("k");
        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_false(facts.pop_key_found);
}

/* A token for a public key has no number of a key, which is 0: no kid, also not one of zeros, names a key by that. */
static void test_facts_no_pop_key_of_public_key(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct grant grant = grant_of(store, world.c1, world.rs1, NOW_S + LIFETIME_S);
        struct token_ask ask = { .audience = BYTES_LITERAL("rs1"), .cnf = ASK_CNF_KID };
        uint8_t hash[TOKEN_HASH_SIZE], kid[NUMBER_SIZE_MAX];
        struct token_facts facts = {};

        secret_done(&grant.pop_key);
        grant.key_number = 0;
        grant.public_key = (struct public_key){ .curve = CURVE_ED25519, .x = { 7 } };
        hash_of(grant.number, hash);
        assert_int_equal(store_token_add(store, &grant, hash), 0);
        for (uint64_t number = 0; number <= grant.number; number += grant.number) {
                ask.kid = bytes_of(kid, number_to_bytes(number, kid));
                expect_facts(&world, world.credential_c1, &ask, &facts);
                assert_false(facts.pop_key_found);
                assert_int_equal(facts.public_key.curve, CURVE_NONE);
                token_facts_done(&facts);
        }
}

/* A key lives as long as some token has it, not only the one that it was made for. */
static void test_facts_shared_key(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        uint64_t first = add_token(store, world.c1, world.rs1, NOW_S + 1);
        struct grant grant = grant_of(store, world.c1, world.rs1, NOW_S + LIFETIME_S);
        uint8_t hash[TOKEN_HASH_SIZE], kid[NUMBER_SIZE_MAX];
        struct token_ask ask = { .audience = BYTES_LITERAL("rs1"), .cnf = ASK_CNF_KID };
        struct token_facts facts = {};

        grant.key_number = first;
        hash_of(grant.number, hash);
        assert_int_equal(store_token_add(store, &grant, hash), 0);
        assert_int_equal(store_token_revoke(store, first, NOW_S), 0);
        ask.kid = bytes_of(kid, number_to_bytes(first, kid));
        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_true(facts.pop_key_found);
        assert_int_equal(facts.pop_key_number, first);
        assert_memory_equal(facts.pop_key.data, "0123456789abcdef", 16);
        token_facts_done(&facts);
        ask.kid = bytes_of(kid, number_to_bytes(grant.number, kid)); /* a token's number is not its key's */
        expect_facts(&world, world.credential_c1, &ask, &facts);
        assert_false(facts.pop_key_found);
}

static int64_t live_at(const struct asked *world, int64_t max, int64_t now_s) {
        struct token_ask ask = { .audience = BYTES_LITERAL("rs1") };
        struct token_facts facts = { .tokens_max = max };

        assert_int_equal(store_token_facts(world->store, world->credential_c1, 0, &ask, now_s, &facts), 0);
        token_facts_done(&facts);
        return facts.n_live_tokens;
}

static void test_facts_live_tokens(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        int64_t c2 = add_client(store, "c2");
        uint64_t one;

        (void)add_token(store, c2, world.rs1, NOW_S + 10);
        assert_int_equal(live_at(&world, 0, NOW_S), 0); /* not counted */
        assert_int_equal(live_at(&world, 3, NOW_S), 0);
        one = add_token(store, world.c1, world.rs1, NOW_S + 10);
        (void)add_token(store, world.c1, world.rs1, NOW_S + 20);
        assert_true(live_at(&world, 3, NOW_S) == 2);
        assert_int_equal(store_savepoint(store), 0);
        (void)add_token(store, world.c1, world.rs1, NOW_S + 20);
        assert_int_equal(live_at(&world, 3, NOW_S), 3);
        assert_int_equal(store_savepoint_rollback(store), 0);
        assert_int_equal(live_at(&world, 3, NOW_S), 2); /* what was undone does not count */
        (void)add_token(store, world.c1, world.rs1, NOW_S + 20);
        assert_int_equal(live_at(&world, 3, NOW_S), 3);
        assert_int_equal(live_at(&world, 3, NOW_S + 10), 2); /* nor what expired */
        (void)add_token(store, world.c1, world.rs1, NOW_S + 20);
        assert_int_equal(live_at(&world, 3, NOW_S + 10), 3);
        assert_int_equal(store_token_revoke(store, one + 1, NOW_S + 10), 0);
        assert_int_equal(live_at(&world, 3, NOW_S + 10), 2); /* nor what was revoked */
        assert_int_equal(live_at(&world, 1, NOW_S + 10), 1); /* counted up to the limit, which was lowered */
        assert_int_equal(live_at(&world, 3, NOW_S + 10), 2); /* and raised */

        next_batch(store);
        (void)add_token(store, world.c1, world.rs1, NOW_S + 20);
        assert_int_equal(live_at(&world, 3, NOW_S + 10), 3);
        store_rollback(store);
        assert_int_equal(live_at(&world, 3, NOW_S + 10), 2);
}

/* ---- tokens */

static void test_tokens(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct grant grant = grant_of(store, world.c1, world.rs1, NOW_S + LIFETIME_S);
        uint8_t hash[TOKEN_HASH_SIZE];
        struct token token = {};

        grant.key_number = 77;
        hash_of(grant.number, hash);
        assert_int_equal(store_token_add(store, &grant, hash), 0);
        assert_int_equal(find_by_number(store, grant.number, hash, &token), 0);
        assert_true(token.number == grant.number);
        assert_int_equal(token.key_number, 77);
        assert_memory_equal(token.hash, hash, TOKEN_HASH_SIZE);
        assert_int_equal(token.client_id, world.c1);
        assert_int_equal(token.server_id, world.rs1);
        assert_string_equal(token.client_name, "c1");
        assert_string_equal(token.server_name, "rs1");
        assert_string_equal(token.audience, "rs1");
        assert_true(scope_equal(&token.scope, &grant.scope));
        assert_int_equal(token.profile, 1);
        assert_int_equal(token.issued_s, NOW_S);
        assert_int_equal(token.expires_s, NOW_S + LIFETIME_S);
        assert_int_equal(token.revoked_s, 0);
        assert_int_equal(token.pop_key.size, 16);
        assert_memory_equal(token.pop_key.data, "0123456789abcdef", 16);
        token_done(&token);

        assert_int_equal(store_token_by_number(store, grant.number, &token), 0);
        assert_int_equal(token.pop_key.size, 0);
        assert_int_equal(store_token_by_number(store, 999, &token), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_token_by_number(store, UINT64_MAX, &token), REFUSE_ADMIN_UNKNOWN);
        hash[31] ^= 1;
        assert_int_equal(find_by_number(store, grant.number, hash, &token), REFUSE_ADMIN_UNKNOWN);

        /* a number that comes twice is a fault of ours, and must not replace the first */
        assert_int_equal(store_token_add(store, &grant, hash), -EIO);
        hash[31] ^= 1;
        assert_int_equal(find_by_number(store, grant.number, hash, &token), 0);
        token_done(&token);
        assert_int_equal(find_by_number(store, grant.number + 1, hash, &token), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(find_by_number(store, UINT64_MAX, hash, &token), REFUSE_ADMIN_UNKNOWN);
}

static void test_token_byte_scope(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct grant grant = grant_of(store, world.c1, world.rs1, NOW_S + LIFETIME_S);
        uint8_t hash[TOKEN_HASH_SIZE];
        struct token token = {};

        assert_int_equal(scope_set(&grant.scope, SCOPE_BYTES, bytes_of("\x00\xff\x00", 3)), 0);
        hash_of(grant.number, hash);
        assert_int_equal(store_token_add(store, &grant, hash), 0);
        assert_int_equal(find_by_number(store, grant.number, hash, &token), 0);
        assert_int_equal(token.scope.kind, SCOPE_BYTES);
        assert_true(scope_equal(&token.scope, &grant.scope));
        token_done(&token);
}

/* AS-195: at once, and still so after a crash. */
static void test_token_revoke(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *store = open_and_begin(folder->db), *copy = NULL;
        int64_t client_id = add_client(store, "c1"), server_id = add_server(store, "rs1");
        uint64_t number = add_token(store, client_id, server_id, NOW_S + LIFETIME_S);
        struct token token = {};

        next_batch(store);
        assert_int_equal(store_token_revoke(store, number, NOW_S + 7), 0);
        assert_int_equal(store_token_revoke(store, number, NOW_S + 9), 0); /* stays as it was */
        assert_int_equal(store_token_revoke(store, 999, NOW_S), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_token_revoke(store, UINT64_MAX, NOW_S), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_token_by_number(store, number, &token), 0);
        assert_int_equal(token.revoked_s, NOW_S + 7);
        assert_int_equal(store_commit(store), 0);

        copy_database(folder);
        copy = open_store(folder->copy);
        assert_int_equal(find_token(copy, number, &token), 0);
        assert_int_equal(token.revoked_s, NOW_S + 7);
        token_done(&token);
}

static void test_tokens_each(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        int64_t c2 = add_client(store, "c2"), rs2 = add_server(store, "rs2");
        struct token_filter all = { .now_s = NOW_S }, of_c1 = { .client = BYTES_LITERAL("c1"), .now_s = NOW_S };
        struct token_filter at_rs1 = { .server = BYTES_LITERAL("rs1"), .now_s = NOW_S }, both = of_c1, live = all;
        struct token_filter nobody = { .client = BYTES_LITERAL("nobody") };
        struct token_filter nowhere = { .server = BYTES_LITERAL("nowhere") };

        both.server = BYTES_LITERAL("rs1");
        live.live_only = true;
        (void)add_token(store, world.c1, world.rs1, NOW_S + 10);
        (void)add_token(store, c2, world.rs1, NOW_S + 10);
        (void)add_token(store, world.c1, rs2, NOW_S);
        (void)add_token(store, world.c1, world.rs1, NOW_S + 10);
        assert_int_equal(store_token_revoke(store, 4, NOW_S), 0);

        expect_seen("1:c1>rs1 2:c2>rs1 3:c1>rs2 4:c1>rs1!", store_token_each(store, 0, 10, &all, note_token, &seen));
        expect_seen("2:c2>rs1 3:c1>rs2", store_token_each(store, 1, 2, &all, note_token, &seen));
        expect_seen("1:c1>rs1 2:c2>rs1", store_token_each(store, 0, 10, &live, note_token, &seen));
        expect_seen("1:c1>rs1 3:c1>rs2 4:c1>rs1!", store_token_each(store, 0, 10, &of_c1, note_token, &seen));
        expect_seen("3:c1>rs2", store_token_each(store, 1, 1, &of_c1, note_token, &seen));
        expect_seen("1:c1>rs1 2:c2>rs1 4:c1>rs1!", store_token_each(store, 0, 10, &at_rs1, note_token, &seen));
        expect_seen("2:c2>rs1", store_token_each(store, 1, 1, &at_rs1, note_token, &seen));
        expect_seen("1:c1>rs1 4:c1>rs1!", store_token_each(store, 0, 10, &both, note_token, &seen));
        both.live_only = true;
        expect_seen("1:c1>rs1", store_token_each(store, 0, 10, &both, note_token, &seen));
        expect_seen("", store_token_each(store, 0, 10, &nobody, note_token, &seen));
        expect_seen("", store_token_each(store, 0, 10, &nowhere, note_token, &seen));
        expect_seen("", store_token_each(store, UINT64_MAX, 10, &all, note_token, &seen));

        /* those of the deleted are still found by name */
        assert_int_equal(store_client_delete(store, world.c1, NOW_S), 0);
        expect_seen("1:c1>rs1! 3:c1>rs2! 4:c1>rs1!", store_token_each(store, 0, 10, &of_c1, note_token, &seen));
        (void)add_client(store, "c1");
        expect_seen("", store_token_each(store, 0, 10, &of_c1, note_token, &seen)); /* until somebody has the name */
}

static void test_purge(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct token token = {};
        int64_t n = -1, left = 25;

        for (int i = 0; i < 25; i++)
                (void)add_token(store, world.c1, world.rs1, NOW_S + i);
        (void)add_token(store, world.c1, world.rs1, NOW_S + 100);
        assert_int_equal(store_token_purge(store, NOW_S, 10, &n), 0);
        assert_int_equal(n, 0); /* not those of this second */
        while (left > 0) {
                assert_int_equal(store_token_purge(store, NOW_S + 100, 10, &n), 0);
                assert_int_equal(n, left < 10 ? left : 10);
                left -= n;
                assert_int_equal(count(store, "SELECT count(*) FROM tokens"), left + 1);
        }
        assert_int_equal(store_token_by_number(store, 25, &token), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_token_by_number(store, 26, &token), 0);
}

/* The names of the deleted go when no token can need them any more, and not before. */
static void test_purge_gone(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        int64_t c2 = add_client(store, "c2"), n = 0;
        struct token token = {};
        uint64_t number = add_token(store, world.c1, world.rs1, NOW_S + 10);

        assert_int_equal(store_client_delete(store, c2, NOW_S), 0); /* without tokens: nothing to remember */
        assert_int_equal(count(store, "SELECT count(*) FROM gone"), 0);
        assert_int_equal(store_client_delete(store, world.c1, NOW_S), 0);
        assert_int_equal(store_server_delete(store, world.rs1, NOW_S), 0);
        assert_int_equal(count(store, "SELECT count(*) FROM gone"), 2);
        assert_int_equal(store_token_purge(store, NOW_S + 10, 10, &n), 0);
        assert_int_equal(count(store, "SELECT count(*) FROM gone"), 2);
        assert_int_equal(store_token_by_number(store, number, &token), 0);
        assert_string_equal(token.client_name, "c1");
        assert_int_equal(store_token_purge(store, NOW_S + 11, 10, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(count(store, "SELECT count(*) FROM gone"), 0);
}

static void test_status(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct store_status status;

        (void)add_client(store, "c2");
        (void)add_policy(store, false, "c1", "rs1", "read");
        for (int i = 0; i < 3; i++)
                (void)add_token(store, world.c1, world.rs1, NOW_S + 10);
        assert_int_equal(store_status(store, &status), 0);
        assert_int_equal(status.n_clients, 2);
        assert_int_equal(status.n_servers, 1);
        assert_int_equal(status.n_policies, 1);
        assert_int_equal(status.n_tokens, 3);
}

/* ---- cost */

/* Those that a request over CoAP runs, and those whose table grows with use. */
static const enum query_id hot[] = {
        QUERY_CREDENTIAL_FIND, QUERY_CREDENTIAL_BY_ID, QUERY_ASKER,       QUERY_AUDIENCE_SERVERS,   QUERY_AUDIENCE_ONLY,
        QUERY_POLICIES_FOR_CLIENT, QUERY_POLICIES_AND_VARYING, QUERY_KEY_BY_KID, QUERY_TOKENS_LIVE, QUERY_TOKEN_ADD,
        QUERY_TOKEN_FIND,
        QUERY_TOKEN_BY_NUMBER, QUERY_TOKEN_REVOKE,     QUERY_TOKEN_DELETE, QUERY_SERVER_KEY_GET,    QUERY_SECRET_TAKEN,
        QUERY_TOKENS_PURGE,    QUERY_GONE_PURGE,       QUERY_CLIENT_BY_NAME, QUERY_CLIENT_BY_ID,    QUERY_CLIENT_EACH,
        QUERY_CLIENT_DELETE,   QUERY_CLIENT_GONE,      QUERY_CLIENT_POLICIES_DELETE, QUERY_LABELS,  QUERY_TOKENS,
        QUERY_TOKENS_OF_CLIENT, QUERY_TOKENS_OF_SERVER, QUERY_TOKENS_BY_END, QUERY_SERVER_DELETE, QUERY_SERVER_GONE,
        QUERY_SERVER_POLICIES_DELETE, QUERY_KEY_BY_CLIENTS_KID, QUERY_TOKEN_FIND_BY_EXI, QUERY_AUDIENCE_HAS,
        QUERY_REFRESH_TOKEN_ADD, QUERY_REFRESH_TOKEN_FIND, QUERY_REFRESH_TOKEN_USE, QUERY_REFRESH_TOKENS_FORGET,
        QUERY_REFRESH_TOKENS_LIVE, QUERY_REFRESH_FAMILY_REVOKE, QUERY_REFRESH_TOKENS_PURGE,
        QUERY_TOKEN_FROM,      QUERY_AUDIT_ADD,        QUERY_AUDIT_HEAD,  QUERY_AUDIT_EACH,         QUERY_AUDIT_FROM,
        QUERY_AUDIT_PURGE,     QUERY_AUDIT_START_GET,  QUERY_AUDIT_START_SET,
};

static void test_plans(void **state) {
        _cleanup_(store_freep) struct store *store = open_store(NULL);

        for (size_t i = 0; i < N_ELEMENTS(hot); i++) {
                char *sql = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", query_sql(hot[i]));
                sqlite3_stmt *stmt;

                assert_int_equal(sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL), SQLITE_OK);
                while (sqlite3_step(stmt) == SQLITE_ROW) {
                        const char *step = (const char *)sqlite3_column_text(stmt, 3);
                        bool scans = strncmp(step, "SCAN ", 5) == 0 && step[5] != '(' &&
                                     strcmp(step, "SCAN CONSTANT ROW") != 0;

                        if (scans || strstr(step, "TEMP B-TREE") || strstr(step, "AUTOMATIC"))
                                fail_msg("%s: %s", query_sql(hot[i]), step);
                }
                assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
                sqlite3_free(sql);
        }
}

static void fill_table(struct store *store, const char *sql) {
        if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK)
                fail_msg("%s", sqlite3_errmsg(store->db));
}

#define MANY "WITH RECURSIVE i(n) AS (SELECT 1000000 UNION ALL SELECT n + 1 FROM i WHERE n < 1099999) "

/* With 100000 of everything a request walks through no more than with one. */
static void test_many(void **state) {
        struct asked world = facts_world();
        _cleanup_(store_freep) struct store *store = world.store;
        struct bytes label = BYTES_LITERAL("door");
        uint8_t kid[NUMBER_SIZE_MAX];
        struct token_ask ask = { .audience = BYTES_LITERAL("rs1"), .cnf = ASK_CNF_KID };
        struct token_facts facts = { .tokens_max = 100 };
        struct credential credential;
        struct secret psk = {};
        struct token token = {};
        uint64_t number = add_token(store, world.c1, world.rs1, NOW_S + LIFETIME_S);
        int64_t n;

        fill_table(store, MANY "INSERT INTO clients (id, name, suspended, profiles, default_audience, created_s) "
                   "SELECT n, 'name' || n, 0, 2, '', 0 FROM i");
        fill_table(store, MANY "INSERT INTO client_labels SELECT n, 'door' FROM i");
        fill_table(store, MANY "INSERT INTO credentials (id, kind, client_id, server_id, identity, secret, secret_mark, "
                          "created_s) SELECT n, 1, n, NULL, CAST('id' || n AS BLOB), x'00', "
                          "CAST('m' || n AS BLOB), 0 FROM i");
        fill_table(store, MANY "INSERT INTO policies (id, for_label, subject, audience, scopes, max_lifetime_s, "
                          "valid_from_s, valid_until_s, created_s) SELECT n, 0, 'name' || n, 'rs1', 'read', 0, 0, 0, 0 FROM i");
        fill_table(store, MANY "INSERT INTO tokens (number, key_number, hash, client_id, server_id, audience, scope, "
                          "profile, issued_s, expires_s, revoked_s, pop_key) SELECT n, n, CAST('h' || n AS BLOB), n, n, 'rs1', 'read', "
                          "1, 0, n, 0, x'00' FROM i");
        assert_int_equal(store_client_labels_set(store, world.c1, &label, 1), 0);
        (void)add_policy(store, false, "c1", "rs1", "read");
        (void)add_policy(store, true, "door", "rs1", "write");
        fill_table(store, MANY "INSERT INTO policies (id, for_label, subject, audience, audience_varies, scopes, "
                          "max_lifetime_s, valid_from_s, valid_until_s, created_s) "
                          "SELECT n + 1000000, 0, 'name' || n, 'rs${nr}', 1, 'read', 0, 0, 0, 0 FROM i");

        ask.kid = bytes_of(kid, number_to_bytes(number, kid));
        assert_int_equal(store_psk_find(store, BYTES_LITERAL("one"), &credential, &psk), 0);
        assert_int_equal(store_token_facts(store, world.credential_c1, 0, &ask, NOW_S, &facts), 0);
        assert_int_equal(facts.n_policies, 2);
        assert_true(facts.pop_key_found);
        token_facts_done(&facts);
        (void)add_policy(store, false, "c1", "rs${nr}", "read"); /* from now on those that vary are looked for, too */
        (void)add_policy(store, true, "door", "rs${nr}", "read");
        assert_int_equal(store_token_facts(store, world.credential_c1, 0, &ask, NOW_S, &facts), 0);
        assert_int_equal(facts.n_policies, 4);
        (void)add_token(store, world.c1, world.rs1, NOW_S + LIFETIME_S);
        assert_int_equal(find_token(store, number, &token), 0);
        assert_int_equal(store_token_revoke(store, number, NOW_S), 0);
        assert_int_equal(store_token_purge(store, 1000005, 10, &n), 0);
        assert_int_equal(n, 5);

        for (size_t i = 0; i < N_ELEMENTS(hot); i++) {
                sqlite3_stmt *stmt = store->queries[hot[i]];

                if (!stmt)
                        continue; /* not run here */
                if (sqlite3_stmt_status(stmt, SQLITE_STMTSTATUS_FULLSCAN_STEP, 0) > 0 ||
                    sqlite3_stmt_status(stmt, SQLITE_STMTSTATUS_SORT, 0) > 0 ||
                    sqlite3_stmt_status(stmt, SQLITE_STMTSTATUS_VM_STEP, 0) > 1000)
                        fail_msg("%s: %d steps", query_sql(hot[i]),
                                 sqlite3_stmt_status(stmt, SQLITE_STMTSTATUS_VM_STEP, 0));
        }
        secret_done(&psk);
        token_done(&token);
        token_facts_done(&facts);
}

/* ---- faults */

/* What a batch does, in one go; 0 or the first result that is not. */
static int run_batch(struct store *store, const char *name) {
        struct client client = client_named(name);
        struct credential credential = credential_of(0, 0, bytes_text(name));
        struct policy policy = policy_of(false, name, "rs1", "read");
        struct secret secret;
        struct token_facts facts = { .tokens_max = 10 };
        struct token_ask ask = { .audience = BYTES_LITERAL("rs1") };
        struct grant grant = {
                .scope = text_scope("read"),
                .expires_s = NOW_S + LIFETIME_S,
                .pop_key = secret_of("k"),
        };
        struct token token = {};
        uint8_t hash[TOKEN_HASH_SIZE];
        bool same;
        int r;

        assert_int_equal(sha256(bytes_text(name), secret.data), 0);
        secret.size = SHA256_SIZE;
        if ((r = store_begin(store)) != 0 || (r = store_savepoint(store)) != 0 ||
            (r = store_client_add(store, &client)) != 0)
                return r;
        grant.client_id = credential.client_id = client.id;
        if ((r = store_credential_add(store, &credential, &secret, &same)) != 0 ||
            (r = store_policy_add(store, &policy)) != 0 || (r = store_savepoint_release(store)) != 0 ||
            (r = store_savepoint(store)) != 0)
                return r;
        r = store_token_facts(store, credential.id, 0, &ask, NOW_S, &facts);
        token_facts_done(&facts);
        if (r != 0 || (r = store_number(store, NUMBER_TOKEN, &grant.number)) != 0)
                return r;
        hash_of(grant.number, hash);
        if ((r = store_token_add(store, &grant, hash)) != 0 ||
            (r = find_by_number(store, grant.number, hash, &token)) != 0)
                return r;
        token_done(&token);
        return (r = store_savepoint_release(store)) != 0 ? r : store_commit(store);
}

/* All of a batch or nothing of it. */
static void expect_whole(struct store *store, int64_t n_batches) {
        assert_int_equal(count(store, "SELECT count(*) FROM clients"), n_batches);
        assert_int_equal(count(store, "SELECT count(*) FROM credentials"), n_batches);
        assert_int_equal(count(store, "SELECT count(*) FROM policies"), n_batches);
        assert_int_equal(count(store, "SELECT count(*) FROM tokens"), n_batches);
        assert_int_equal(count(store, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), 0);
        assert_int_equal(count(store, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
}

/* The later, the more alike: every allocation at first, then every second, every third, … */
#define OUT_OF_MEMORY_STRIDE 48

/* Memory runs out at the n-th allocation: the batch fails as a whole, the next one is served. */
static void test_out_of_memory(void **state) {
        struct folder *folder = *state;
        char name[16];
        int64_t n_done = 0;
        int r = -ENOMEM;

        for (unsigned n = 1; r != 0; n += 1 + n / OUT_OF_MEMORY_STRIDE) {
                _cleanup_(store_freep) struct store *store = open_store(folder->db);

                assert_true(n < 5000);
                (void)snprintf(name, sizeof(name), "c%u", n);
                sqlite_memory_fail_at(n);
                r = run_batch(store, name);
                sqlite_memory_fail_at(0);
                if (r != 0 && r != -ENOMEM)
                        fail_msg("allocation %u: %d", n, r);
                if (r != 0)
                        store_rollback(store);
                n_done += r == 0;
                expect_whole(store, n_done);
                if (n % 8 == 0) { /* and goes on serving */
                        (void)snprintf(name, sizeof(name), "d%u", n);
                        assert_int_equal(run_batch(store, name), 0);
                        n_done++;
                }
        }
        assert_true(n_done > 1);
}

static void test_open_out_of_memory(void **state) {
        struct folder *folder = *state;
        unsigned n_broken = 0;
        int r = -ENOMEM;

        for (unsigned n = 1; r != 0; n += 1 + n / OUT_OF_MEMORY_STRIDE) {
                _cleanup_(diags_done) struct diags diags = {};
                struct store *store = NULL;

                assert_true(n < 50000);
                sqlite_memory_fail_at(n);
                r = open_with(folder->db, 1, &store, &diags);
                sqlite_memory_fail_at(0);
                if (r != 0 && r != -ENOMEM)
                        fail_msg("allocation %u: %d", n, r);
                store_free(store);
                n_broken += r != 0;
        }
        assert_true(n_broken > 10);
        store_free(open_store(folder->db));
}

/* The disk is full: that request is refused, what was there stays, and with room again all goes on. */
static void test_disk_full(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *store = open_store(folder->db);
        int64_t n_done = 0;
        char name[16], sql[64];
        int r = 0;

        assert_int_equal(run_batch(store, "c0"), 0);
        n_done++;
        (void)snprintf(sql, sizeof(sql), "PRAGMA max_page_count = %lld",
                       (long long)count(store, "PRAGMA page_count") + 4);
        assert_int_equal(sqlite3_exec(store->db, sql, NULL, NULL, NULL), SQLITE_OK);
        for (int i = 1; r == 0; i++) {
                assert_true(i < 1000);
                (void)snprintf(name, sizeof(name), "c%d", i);
                r = run_batch(store, name);
                n_done += r == 0;
        }
        assert_int_equal(r, -ENOSPC);
        assert_true(store_in_transaction(store));
        store_rollback(store);
        expect_whole(store, n_done);

        assert_int_equal(store_begin(store), 0); /* reading goes on meanwhile */
        expect_seen("c0", store_client_each(store, BYTES_NONE, 1, note_client, &seen));
        assert_int_equal(store_commit(store), 0);

        assert_int_equal(sqlite3_exec(store->db, "PRAGMA max_page_count = 1000000", NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(run_batch(store, "again"), 0);
        expect_whole(store, n_done + 1);
}

/* Files must not become larger than size bytes; SIGXFSZ is ignored. */
static void limit_files(rlim_t size) {
        struct rlimit limit;

        assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
        limit.rlim_cur = size < limit.rlim_max ? size : limit.rlim_max;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A database that cannot be made because the disk has no room says that, and not how the rollback went. */
static void test_no_room_for_the_schema(void **state) {
        struct folder *folder = *state;
        _cleanup_(diags_done) struct diags diags = {};
        struct store *store = NULL;
        int r;

        limit_files(64 * 1024);
        r = open_with(folder->db, 1, &store, &diags);
        limit_files(RLIM_INFINITY);
        assert_true(r < 0);
        assert_int_equal(diags.n_items, 1);
        assert_non_null(strstr(diags.items[0].text, "cannot apply schema step"));
        if (strstr(diags.items[0].text, "rollback"))
                fail_msg("%s", diags.items[0].text);
        store_free(open_store(folder->db));
}

/* The write of a commit fails: nothing of the batch is there, no number comes twice, the next batch is served. */
static void test_commit_fails(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *store = open_store(folder->db), *copy = NULL;
        uint64_t number = 0, last;
        struct store_status status;

        assert_int_equal(run_batch(store, "c0"), 0);
        assert_int_equal(store_status(store, &status), 0);
        assert_int_equal(store_begin(store), 0);
        (void)add_client(store, "c1");
        assert_int_equal(store_number(store, NUMBER_TOKEN, &last), 0);
        limit_files((rlim_t)status.wal_size);
        assert_int_equal(store_commit(store), -EIO);
        assert_false(store_in_transaction(store));
        expect_whole(store, 1);

        assert_int_equal(store_begin(store), 0); /* numbers are leased already */
        assert_int_equal(store_number(store, NUMBER_TOKEN, &number), 0);
        assert_true(number > last);
        store_rollback(store);
        limit_files(RLIM_INFINITY);

        copy_database(folder);
        copy = open_store(folder->copy);
        expect_whole(copy, 1);
        assert_true(draw(copy) > number);
        assert_int_equal(run_batch(store, "c1"), 0);
        expect_whole(store, 2);
}

/* No lease can be had: what is left of the old one is used, then requests are told so, and reading goes on. */
static void test_lease_fails(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *store = open_store(folder->db);
        struct store_status status;
        uint64_t number = 0, last = 0;
        int r = 0;

        assert_int_equal(store_begin(store), 0);
        (void)add_client(store, "c1");
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(store_status(store, &status), 0);
        limit_files((rlim_t)status.wal_size);
        while (r == 0) {
                assert_int_equal(store_begin(store), 0);
                for (int i = 0; i < NUMBERS_PER_BATCH_MAX && r == 0; i++) {
                        r = store_number(store, NUMBER_TOKEN, &number);
                        assert_true(r != 0 || number == last + 1);
                        last = number;
                }
                expect_seen("c1", store_client_each(store, BYTES_NONE, 10, note_client, &seen));
                store_rollback(store);
        }
        assert_int_equal(r, -EIO);
        assert_true(last > 60000);
        limit_files(RLIM_INFINITY);
        assert_true(draw(store) == last + 1);
}

/* ---- the sealing key's file */

static void expect_key_fault(const char *path, int wanted, const char *words) {
        _cleanup_(diags_done) struct diags diags = {};
        struct secret key = {};

        assert_int_equal(seal_key_load(path, &key, &diags), wanted);
        assert_int_equal(key.size, 0);
        assert_int_equal(diags.n_items, 1);
        assert_string_equal(diags.items[0].file, path);
        if (!strstr(diags.items[0].text, words))
                fail_msg("no \"%s\" in \"%s\"", words, diags.items[0].text);
}

static void test_seal_key(void **state) {
        struct folder *folder = *state;
        _cleanup_(diags_done) struct diags diags = {};
        struct secret key = {}, again = {};
        struct stat st;

        expect_key_fault(folder->key, -ENOENT, "acectl init");
        assert_int_equal(seal_key_create(folder->key, &diags), 0);
        assert_int_equal(stat(folder->key, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(seal_key_load(folder->key, &key, &diags), 0);
        assert_int_equal(key.size, SEAL_KEY_SIZE);
        assert_int_equal(diags.n_items, 0);

        assert_int_equal(seal_key_create(folder->key, &diags), -EEXIST); /* never over one that is there */
        assert_int_equal(diags.n_items, 1);
        assert_int_equal(seal_key_load(folder->key, &again, &diags), 0);
        assert_true(bytes_equal_ct(secret_bytes(&key), secret_bytes(&again)));
        secret_done(&key);
        secret_done(&again);
}

static void test_seal_key_refused(void **state) {
        static const mode_t open_modes[] = { 0640, 0604, 0660, 0620, 0610, 0602, 0601, 0644, 0666 };
        struct folder *folder = *state;
        _cleanup_(diags_done) struct diags diags = {};
        bool root_file = geteuid() == 0 && getegid() == 0;
        struct secret key = {};

        assert_int_equal(seal_key_create(folder->key, &diags), 0);
        for (size_t i = 0; i < N_ELEMENTS(open_modes); i++) {
                assert_int_equal(chmod(folder->key, open_modes[i]), 0);
                if (root_file && open_modes[i] == 0640) /* the mode of a systemd credential */
                        assert_int_equal(seal_key_load(folder->key, &key, &diags), 0);
                else
                        expect_key_fault(folder->key, -EACCES, "chmod 0600");
                secret_done(&key);
        }
        assert_int_equal(chmod(folder->key, 0400), 0);
        assert_int_equal(seal_key_load(folder->key, &key, &diags), 0);
        secret_done(&key);

        assert_int_equal(chmod(folder->key, 0600), 0);
        assert_int_equal(truncate(folder->key, SEAL_KEY_SIZE + 1), 0);
        expect_key_fault(folder->key, -EINVAL, "33");
        assert_int_equal(truncate(folder->key, 0), 0);
        expect_key_fault(folder->key, -EINVAL, "exactly 32 bytes");
        expect_key_fault(folder->path, -EINVAL, "regular file");
}

static void test_seal_key_create_fails(void **state) {
        struct folder *folder = *state;
        _cleanup_(diags_done) struct diags diags = {};
        char missing[128];

        fake_random_fail_at(1);
        assert_int_equal(seal_key_create(folder->key, &diags), -EIO);
        fake_random_fail_at(0);
        assert_int_equal(access(folder->key, F_OK), -1); /* no half a key is left */

        limit_files(SEAL_KEY_SIZE - 1);
        assert_int_equal(seal_key_create(folder->key, &diags), -EIO);
        limit_files(RLIM_INFINITY);
        assert_int_equal(access(folder->key, F_OK), -1);

        (void)snprintf(missing, sizeof(missing), "%s/no/seal.key", folder->path);
        assert_int_equal(seal_key_create(missing, &diags), -EIO);
        assert_int_equal(diags.n_items, 3);
}

#define with_folder(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)

int main(void) {
        const struct CMUnitTest tests[] = {
                with_folder(test_open_creates),
                with_folder(test_open_pragmas),
                cmocka_unit_test(test_open_strict),
                with_folder(test_open_newer),
                with_folder(test_open_older),
                with_folder(test_open_foreign),
                with_folder(test_open_no_database),
                with_folder(test_open_other_key),
                cmocka_unit_test(test_open_no_randomness),
                with_folder(test_open_again),
                cmocka_unit_test(test_rollback),
                cmocka_unit_test(test_no_transaction),
                cmocka_unit_test(test_savepoints),
                cmocka_unit_test(test_savepoint_mixed),
                with_folder(test_busy),
                cmocka_unit_test(test_numbers_in_a_batch),
                with_folder(test_numbers_never_repeat),
                with_folder(test_numbers_over_restarts),
                with_folder(test_numbers_over_crashes),
                with_folder(test_numbers_of_two),
                with_folder(test_nonces),
                cmocka_unit_test(test_seal),
                cmocka_unit_test(test_seal_damaged),
                cmocka_unit_test(test_seal_moved),
                with_folder(test_no_secret_in_file),
                with_folder(test_restore_advances_numbers),
                cmocka_unit_test(test_mark),
                cmocka_unit_test(test_clients),
                cmocka_unit_test(test_clients_refused),
                cmocka_unit_test(test_clients_each),
                cmocka_unit_test(test_labels),
                cmocka_unit_test(test_client_delete),
                cmocka_unit_test(test_servers),
                cmocka_unit_test(test_servers_refused),
                cmocka_unit_test(test_audiences),
                cmocka_unit_test(test_server_keys),
                cmocka_unit_test(test_group),
                cmocka_unit_test(test_server_key_rollover),
                cmocka_unit_test(test_server_keys_limit),
                cmocka_unit_test(test_exi_numbers),
                cmocka_unit_test(test_server_delete),
                cmocka_unit_test(test_credentials),
                cmocka_unit_test(test_credentials_refused),
                cmocka_unit_test(test_credentials_delete),
                cmocka_unit_test(test_psk_of_suspended),
                cmocka_unit_test(test_policies),
                cmocka_unit_test(test_policies_each),
                cmocka_unit_test(test_facts_asker),
                cmocka_unit_test(test_facts_audience),
                cmocka_unit_test(test_facts_no_audience_at_all),
                cmocka_unit_test(test_facts_group),
                cmocka_unit_test(test_policy_kinds),
                cmocka_unit_test(test_facts_variables),
                with_folder(test_varying_after_reopen),
                cmocka_unit_test(test_facts_policies),
                cmocka_unit_test(test_facts_pop_key),
                cmocka_unit_test(test_facts_no_pop_key_of_public_key),
                cmocka_unit_test(test_facts_shared_key),
                cmocka_unit_test(test_facts_live_tokens),
                cmocka_unit_test(test_tokens),
                cmocka_unit_test(test_token_byte_scope),
                with_folder(test_token_revoke),
                cmocka_unit_test(test_tokens_each),
                cmocka_unit_test(test_purge),
                cmocka_unit_test(test_purge_gone),
                cmocka_unit_test(test_status),
                cmocka_unit_test(test_plans),
                cmocka_unit_test(test_many),
                with_folder(test_out_of_memory),
                with_folder(test_open_out_of_memory),
                with_folder(test_disk_full),
                with_folder(test_no_room_for_the_schema),
                with_folder(test_commit_fails),
                with_folder(test_lease_fails),
                with_folder(test_seal_key),
                with_folder(test_seal_key_refused),
                with_folder(test_seal_key_create_fails),
        };

        sqlite_memory_install(NULL);
        (void)signal(SIGXFSZ, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
