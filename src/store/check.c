#include "store/check.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "crypto/certificate.h"
#include "crypto/sign.h"
#include "store/private.h"
#include "store/schema.h"

#define LINE_MAX_ROWS "100"
#define AUDIT_SINCE 6 /* schema step */
#define OSCORE_SINCE 7

/* ---- a file */

/* Each row that comes is a fault: what the text in front of it and its first columns say. */
static const struct rule {
        const char *sql, *text;
        const char *good; /* a row that is none */
        int since;        /* version of the schema that has what it looks at */
} rules[] = {
        { "PRAGMA integrity_check(" LINE_MAX_ROWS ")", "damaged", "ok", 0 },
        { "PRAGMA foreign_key_check", "belongs to nothing: table", NULL, 0 },
        /* what must never repeat has not been given out beyond what was leased */
        { "SELECT 'of tokens' FROM leases WHERE kind = 0 AND next <= (SELECT max(number) FROM tokens) "
          "UNION ALL SELECT 'of tokens'' keys' FROM leases WHERE kind = 0 AND next <= "
          "(SELECT max(key_number) FROM tokens) "
          "UNION ALL SELECT 'of rows' FROM leases WHERE kind = 2 AND next <= (SELECT max(id) FROM ("
          "SELECT max(id) AS id FROM clients UNION ALL SELECT max(id) FROM servers UNION ALL "
          "SELECT max(id) FROM credentials UNION ALL SELECT max(id) FROM server_keys UNION ALL "
          "SELECT max(id) FROM policies UNION ALL SELECT max(id) FROM gone))",
          "numbers would come a second time: those", NULL, 0 },
        { "SELECT 'of keys' FROM leases WHERE kind = 2 AND next <= (SELECT max(id) FROM as_keys)",
          "numbers would come a second time: those", NULL, 2 },
        { "SELECT 'of refresh tokens' FROM leases WHERE kind = 0 AND next <= (SELECT max(number) FROM refresh_tokens)",
          "numbers would come a second time: those", NULL, 3 },
        { "SELECT 'there are ' || count(*) FROM leases WHERE kind IN (0, 1, 2) HAVING count(*) <> 3",
          "leases are missing:", NULL, 0 },
        { "SELECT name FROM audiences GROUP BY name HAVING count(*) > 1 AND min(is_group) = 0 LIMIT " LINE_MAX_ROWS,
          "several servers have it, but it is no group's: audience", NULL, 0 },
        { "SELECT t.number FROM tokens t WHERE (NOT EXISTS (SELECT 1 FROM clients c WHERE c.id = t.client_id) AND "
          "NOT EXISTS (SELECT 1 FROM gone g WHERE g.id = t.client_id)) OR "
          "(t.server_id <> 0 AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = t.server_id) AND "
          "NOT EXISTS (SELECT 1 FROM gone g WHERE g.id = t.server_id)) LIMIT " LINE_MAX_ROWS,
          "nobody knows whose it is: token", NULL, 0 },
        { "SELECT 'of OSCORE messages' WHERE NOT EXISTS (SELECT 1 FROM leases WHERE kind = 3 AND next <= 1 << 40)",
          "leases are missing: those", NULL, OSCORE_SINCE },
        { "SELECT c.id FROM credentials c LEFT JOIN oscore_contexts o ON o.credential_id = c.id "
          "WHERE (c.kind = 4) <> (o.credential_id IS NOT NULL) LIMIT " LINE_MAX_ROWS,
          "is a security context without parameters, or has some and is none: credential", NULL, OSCORE_SINCE },
        { "SELECT hex(recipient_id) FROM oscore_contexts GROUP BY recipient_id, coalesce(renewed_context, id_context) "
          "HAVING count(*) > 1 LIMIT " LINE_MAX_ROWS,
          "several security contexts have the same ID Context, and the Recipient ID", NULL, OSCORE_SINCE },
};

static int fault(struct diags *diags, const char *path, const char *what, const char *which) {
        if (diags->n_items >= CHECK_FAULTS_MAX)
                return 0;
        return diags_add(diags, path, 0, "%s%s%s", what, which[0] ? " " : "", which);
}

/* The rest of a rule's row: text, or NULL. */
static const char *column(sqlite3_stmt *stmt) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);

        return text ? text : "";
}

static int check_rule(sqlite3 *db, const char *path, const struct rule *rule, struct diags *diags) {
        sqlite3_stmt *stmt = NULL;
        int r = 0, code = sqlite3_prepare_v2(db, rule->sql, -1, &stmt, NULL);

        while (r == 0 && (code == SQLITE_OK || code == SQLITE_ROW) && (code = sqlite3_step(stmt)) == SQLITE_ROW)
                if (!rule->good || strcmp(rule->good, column(stmt)) != 0)
                        r = fault(diags, path, rule->text, column(stmt));
        if (r == 0 && (code & 0xff) == SQLITE_NOMEM)
                r = -ENOMEM;
        else if (r == 0 && code != SQLITE_DONE) /* a damaged page is a finding, not a failure of ours */
                r = fault(diags, path, "damaged:", sqlite3_errmsg(db));
        (void)sqlite3_finalize(stmt);
        return r;
}

static int read_pragma(sqlite3 *db, const char *sql, int64_t *ret) {
        sqlite3_stmt *stmt = NULL;
        int code = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

        if (code == SQLITE_OK)
                code = sqlite3_step(stmt);
        if (code == SQLITE_ROW)
                *ret = sqlite3_column_int64(stmt, 0);
        (void)sqlite3_finalize(stmt);
        return code;
}

/* Ours, and not from the future: only then do the rules make sense. *ret_version 0: they do not. */
static int check_kind(sqlite3 *db, const char *path, struct diags *diags, int64_t *ret_version) {
        int newest = schema_steps[n_schema_steps - 1].version;
        int64_t application = 0, version = 0;
        int code;

        *ret_version = 0;
        if ((code = read_pragma(db, "PRAGMA application_id", &application)) != SQLITE_ROW ||
            (code = read_pragma(db, "PRAGMA user_version", &version)) != SQLITE_ROW)
                return (code & 0xff) == SQLITE_NOMEM ? -ENOMEM : fault(diags, path, "cannot be read:",
                                                                       sqlite3_errmsg(db));
        if (application != APPLICATION_ID)
                return fault(diags, path, "this is no database of aced", "");
        if (version < 1 || version > newest)
                return diags_add(diags, path, 0, "it is of version %lld, this program knows versions 1 to %d",
                                 (long long)version, newest);
        *ret_version = version;
        return 0;
}

int uri_of(const char *path, char *uri, size_t size) {
        size_t n = (size_t)snprintf(uri, size, "file:");

        for (; *path && n + 4 < size; path++)
                n += (size_t)snprintf(uri + n, size - n, strchr("%?#", *path) ? "%%%02X" : "%c",
                                      (unsigned)(unsigned char)*path);
        if (*path || n + sizeof("?immutable=1") > size)
                return -ENAMETOOLONG;
        (void)snprintf(uri + n, size - n, "?immutable=1");
        return 0;
}

/* A log beside it has what the file lacks. */
static int check_log(const char *path, struct diags *diags) {
        char log[URI_MAX];
        struct stat st;

        (void)snprintf(log, sizeof(log), "%s-wal", path);
        if (stat(log, &st) != 0 || st.st_size == 0)
                return 0;
        return fault(diags, path, "this is a database in use, or a copy of one: give a file that acectl backup made",
                     "");
}

static int check_structure(sqlite3 *db, const char *path, struct diags *diags) {
        int64_t version = 0;
        bool go_on;
        int r = check_kind(db, path, diags, &version);

        go_on = version != 0;
        for (size_t i = 0; r == 0 && go_on && i < N_ELEMENTS(rules); i++) {
                size_t n_before = diags->n_items;

                if (version < rules[i].since)
                        continue;
                r = check_rule(db, path, &rules[i], diags);
                go_on = i > 0 || diags->n_items == n_before; /* what is damaged tells nothing more */
        }
        return r;
}

/* check: what to do with the file once it is open. */
static int check_file(const char *path, int (*check)(sqlite3 *db, const char *path, struct diags *diags),
                      struct diags *diags) {
        char uri[URI_MAX];
        sqlite3 *db = NULL;
        int r, code, flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;

        if ((r = uri_of(path, uri, sizeof(uri))) != 0 || (r = check_log(path, diags)) != 0)
                return r;
        code = sqlite3_open_v2(uri, &db, flags, NULL);
        if (code == SQLITE_OK) {
                (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
                (void)sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
                (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
                (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
                r = check(db, path, diags);
        } else if (diags_add(diags, path, 0, "cannot be opened: %s", db ? sqlite3_errmsg(db) : "out of memory") != 0 ||
                 code == SQLITE_NOMEM)
                r = -ENOMEM;
        else
                r = -EIO;
        (void)sqlite3_close_v2(db);
        return r;
}

int store_check_file(const char *path, struct diags *diags) {
        return check_file(path, check_structure, diags);
}

/* ---- the audit trail */

/* Up to the first row of the audit trail that does not follow from the one before. */
static int check_audit_rows(sqlite3 *db, const char *path, sqlite3_stmt *stmt, struct audit_mark *last,
                            struct diags *diags) {
        int code;

        while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
                struct audit_row row = { .seq = sqlite3_column_int64(stmt, 0), .at_s = sqlite3_column_int64(stmt, 1) };
                uint8_t hash[AUDIT_HASH_SIZE];
                char text[24];
                int r;

                row.record = bytes_of(sqlite3_column_blob(stmt, 2), (size_t)sqlite3_column_bytes(stmt, 2));
                r = row.seq == last->seq + 1 ? audit_row_hash(&row, last->hash, hash) : -EINVAL;
                if (r == -ENOMEM)
                        return r;
                (void)snprintf(text, sizeof(text), "%lld", (long long)row.seq);
                if (r != 0 || !bytes_equal(bytes_of(sqlite3_column_blob(stmt, 3),
                                                    (size_t)sqlite3_column_bytes(stmt, 3)),
                                           bytes_of(hash, sizeof(hash))))
                        return fault(diags, path, "changed, or rows before it are missing: audit row", text);
                last->seq = row.seq;
                memcpy(last->hash, hash, sizeof(hash));
        }
        if ((code & 0xff) == SQLITE_NOMEM)
                return -ENOMEM;
        return code == SQLITE_DONE ? 0 : fault(diags, path, "damaged:", sqlite3_errmsg(db));
}

static int check_audit(sqlite3 *db, const char *path, struct diags *diags) {
        struct audit_mark last = {};
        sqlite3_stmt *stmt = NULL;
        int64_t version = 0;
        int code, r = check_kind(db, path, diags, &version);

        if (r != 0 || version < AUDIT_SINCE)
                return r;
        code = sqlite3_prepare_v2(db, query_sql(QUERY_AUDIT_START_GET), -1, &stmt, NULL);
        if (code == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW)
                (void)audit_mark_read(bytes_of(sqlite3_column_blob(stmt, 0), (size_t)sqlite3_column_bytes(stmt, 0)),
                                      &last); /* another one fits no row */
        (void)sqlite3_finalize(stmt);
        stmt = NULL;
        code = sqlite3_prepare_v2(db, "SELECT seq, at_s, record, hash FROM audit ORDER BY seq", -1, &stmt, NULL);
        if (code == SQLITE_OK)
                r = check_audit_rows(db, path, stmt, &last, diags);
        else
                r = (code & 0xff) == SQLITE_NOMEM ? -ENOMEM : fault(diags, path, "damaged:", sqlite3_errmsg(db));
        (void)sqlite3_finalize(stmt);
        return r;
}

int store_check_audit_file(const char *path, struct diags *diags) {
        return check_file(path, check_audit, diags);
}

/* ---- secrets, and what stands for them */

struct secrets {
        enum query_id query;
        const char *column;
        const char *row;
        bool has_mark;
        int (*check)(struct store *store, const struct secrets *kind, struct query *q, struct diags *diags);
};

static int check_mark(struct store *store, struct bytes mark, struct bytes of, bool *ret_same) {
        uint8_t expected[32];
        int r = store_secret_mark(store, of, expected);

        *ret_same = r == 0 && bytes_equal_ct(mark, bytes_of(expected, sizeof(expected)));
        return r;
}

static int row_fault(const struct secrets *kind, struct query *q, const char *what, struct diags *diags) {
        return diags_add(diags, NULL, 0, "%s %lld: %s", kind->row, (long long)row_int(q, 0), what);
}

/* *ret_opens: false, and the fault is told. */
static int open_secret(struct store *store, const struct secrets *kind, struct query *q, struct secret *ret,
                       bool *ret_opens, struct diags *diags) {
        int r = store_unseal(store, kind->column, row_int(q, 0), row_bytes(q, 1), ret);

        *ret_opens = r == 0;
        return r != -EBADMSG ? r : row_fault(kind, q, "its secret does not open under the sealing key", diags);
}

static int check_secret(struct store *store, const struct secrets *kind, struct query *q, struct diags *diags) {
        _cleanup_(secret_done) struct secret secret = {};
        bool same = true, opens;
        int r = open_secret(store, kind, q, &secret, &opens, diags);

        if (r != 0 || !opens || !kind->has_mark)
                return r;
        r = check_mark(store, row_bytes(q, 2), secret_bytes(&secret), &same);
        return r != 0 || same ? r : row_fault(kind, q, "its mark is that of another secret", diags);
}

/* Is it a key or rule as one should be, with the identity that is made from it? 0, -EINVAL, -ENOMEM. */
static int judge_public(enum credential_kind kind, struct bytes column, struct bytes identity) {
        uint8_t fingerprint[THUMBPRINT_SIZE];
        struct public_key key;
        int r = 0;

        if (kind == CREDENTIAL_RPK && (r = public_key_from_column(column, &key)) == 0)
                r = public_key_check(&key);
        if (r == 0)
                r = credential_fingerprint(kind, column, fingerprint);
        if (r == 0 && !bytes_equal(identity, bytes_of(fingerprint, sizeof(fingerprint))))
                r = -EINVAL;
        return r == 0 || r == -ENOMEM ? r : -EINVAL;
}

/* A public key or a rule is not sealed, but its mark needs the sealing key: nobody else can exchange one. */
static int check_public(struct store *store, const struct secrets *kind, struct query *q, struct diags *diags) {
        bool same = false;
        int r = check_mark(store, row_bytes(q, 2), row_bytes(q, 4), &same);

        if (r != 0)
                return r;
        if (!same)
                return row_fault(kind, q, "its mark is that of another key or rule", diags);
        r = judge_public((enum credential_kind)row_int(q, 3), row_bytes(q, 4), row_bytes(q, 5));
        return r != -EINVAL ? r : row_fault(kind, q, "its key is no good, or its identity that of another one", diags);
}

/* Its parameters are not sealed: they must be good ones, and those that the identity was made of. */
static int check_oscore(struct store *store, const struct secrets *kind, struct query *q, struct diags *diags) {
        struct credential credential = { .id = row_int(q, 0), .kind = CREDENTIAL_OSCORE };
        int r = check_secret(store, kind, q, diags);

        if (r != 0)
                return r;
        r = oscore_of_credential(store, &credential);
        if (r == -EIO)
                return row_fault(kind, q, "its parameters are missing or no good", diags);
        if (r != 0)
                return r;
        credential_oscore_identity(&credential);
        return bytes_equal(row_bytes(q, 5), credential_identity(&credential)) ? 0 :
               row_fault(kind, q, "its identity is that of other parameters", diags);
}

static int check_credential(struct store *store, const struct secrets *kind, struct query *q, struct diags *diags) {
        switch ((enum credential_kind)row_int(q, 3)) {
        case CREDENTIAL_PSK:
                return check_secret(store, kind, q, diags);
        case CREDENTIAL_RPK:
        case CREDENTIAL_X509:
                return check_public(store, kind, q, diags);
        case CREDENTIAL_OSCORE:
                return check_oscore(store, kind, q, diags);
        default:
                return row_fault(kind, q, "it is of no kind that there is", diags);
        }
}

/* The private key, the public one and the certificate belong together. */
static int check_as_key(struct store *store, const struct secrets *kind, struct query *q, struct diags *diags) {
        _cleanup_(secret_done) struct secret secret = {};
        struct public_key stored, made, certified;
        struct bytes certificate;
        bool opens, fits;
        int r = open_secret(store, kind, q, &secret, &opens, diags);

        if (r != 0 || !opens)
                return r;
        r = key_public(sign_curve((enum sign_alg)row_int(q, 2)), secret_bytes(&secret), &made);
        if (r == -ENOMEM)
                return r;
        fits = r == 0 && public_key_from_column(row_bytes(q, 3), &stored) == 0 && public_key_equal(&stored, &made);
        certificate = row_bytes(q, 4);
        if (fits && certificate.size > 0)
                fits = certificate_public_key(certificate, &certified) == 0 && public_key_equal(&certified, &made);
        return fits ? 0 : row_fault(kind, q, "its public key or certificate is that of another one", diags);
}

static const struct secrets secrets[] = {
        { QUERY_SECRETS_OF_SERVERS, "server_keys.secret", "key", true, check_secret },
        { QUERY_SECRETS_OF_CREDENTIALS, "credentials.secret", "credential", true, check_credential },
        { QUERY_SECRETS_OF_TOKENS, "tokens.pop_key", "token", false, check_secret },
        { QUERY_SECRETS_OF_REFRESH_TOKENS, "refresh_tokens.pop_key", "refresh token", false, check_secret },
        { QUERY_SECRETS_OF_AS_KEYS, "as_keys.secret", "key of the server's own", false, check_as_key },
};

/* Rows of one table. *ret_n: how many there were. */
static int check_rows(struct store *store, struct check_place *place, int64_t limit, struct diags *diags,
                      int64_t *ret_n) {
        const struct secrets *kind = &secrets[place->table];
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, kind->query, &q);

        *ret_n = 0;
        if (r != 0)
                return r;
        query_int(&q, 1, place->row);
        query_int(&q, 2, limit);
        while ((r = query_next(&q)) == 0) {
                if ((r = kind->check(store, kind, &q, diags)) != 0)
                        return r;
                place->row = row_int(&q, 0);
                ++*ret_n;
        }
        return query_end(r);
}

int store_check_secrets(struct store *store, struct check_place *place, int64_t limit, struct diags *diags) {
        while (limit > 0 && place->table < N_ELEMENTS(secrets)) {
                int64_t n;
                int r = check_rows(store, place, limit, diags, &n);

                if (r != 0)
                        return r;
                if (n < limit) {
                        place->table++;
                        place->row = 0;
                }
                limit -= n;
        }
        place->done = place->table >= N_ELEMENTS(secrets);
        return 0;
}
