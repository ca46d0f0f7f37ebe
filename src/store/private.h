#pragma once

#include <sqlite3.h>

#include "base/cleanup.h"
#include "crypto/aead.h"
#include "domain/client.h"
#include "domain/credential.h"
#include "domain/refusal.h"
#include "domain/server.h"
#include "domain/token.h"
#include "store/audit.h"
#include "store/store.h"

/* What the files of store/ share; tests look in to ask for query plans. */

/* One row each in query.c's table of SQL. */
enum query_id {
        QUERY_BEGIN,
        QUERY_COMMIT,
        QUERY_ROLLBACK,
        QUERY_SAVEPOINT,
        QUERY_SAVEPOINT_RELEASE,
        QUERY_SAVEPOINT_UNDO,
        QUERY_LEASE,
        QUERY_LEASE_RETURN,
        QUERY_COUNTS,
        QUERY_CLOCK_GET,
        QUERY_CLOCK_SET,
        QUERY_SECRETS_OF_SERVERS,
        QUERY_SECRETS_OF_CREDENTIALS,
        QUERY_SECRETS_OF_AS_KEYS,
        QUERY_SECRETS_OF_TOKENS,
        QUERY_SECRETS_OF_REFRESH_TOKENS,

        QUERY_CLIENT_ADD,
        QUERY_CLIENT_UPDATE,
        QUERY_CLIENT_POLICIES_DELETE,
        QUERY_CLIENT_GONE,
        QUERY_CLIENT_DELETE,
        QUERY_CLIENT_BY_NAME,
        QUERY_CLIENT_BY_ID,
        QUERY_CLIENT_EACH,
        QUERY_LABELS_DELETE,
        QUERY_LABEL_ADD,
        QUERY_LABELS,

        QUERY_SERVER_ADD,
        QUERY_SERVER_UPDATE,
        QUERY_SERVER_POLICIES_DELETE,
        QUERY_SERVER_GONE,
        QUERY_SERVER_DELETE,
        QUERY_SERVER_BY_NAME,
        QUERY_SERVER_BY_ID,
        QUERY_SERVER_EACH,
        QUERY_AUDIENCE_CONFLICT,
        QUERY_AUDIENCE_ADD,
        QUERY_AUDIENCE_DELETE,
        QUERY_AUDIENCES,
        QUERY_AUDIENCE_SERVERS,
        QUERY_AUDIENCE_ONLY,
        QUERY_AUDIENCE_SERVER,
        QUERY_GROUP_CONFLICT,
        QUERY_SERVER_KEY_COUNT,
        QUERY_SERVER_KEY_REPLACE,
        QUERY_SERVER_KEY_SET,
        QUERY_SERVER_KEY_GET,
        QUERY_SERVER_KEY_EARLIEST,
        QUERY_SERVER_KEYS,
        QUERY_SERVER_KEYS_DROP,
        QUERY_EXI_NEXT,

        QUERY_SECRET_TAKEN,
        QUERY_CREDENTIAL_ADD,
        QUERY_CREDENTIAL_DELETE,
        QUERY_CREDENTIALS_OF_CLIENT,
        QUERY_CREDENTIALS_OF_SERVER,
        QUERY_CREDENTIAL_FIND,
        QUERY_CREDENTIAL_BY_KID,
        QUERY_SERVER_KEY_SECRET,
        QUERY_CREDENTIAL_SECRET,
        QUERY_CREDENTIAL_BY_ID,

        QUERY_OSCORE_ADD,
        QUERY_OSCORE_OF_CREDENTIAL,
        QUERY_OSCORE_OF_PARTY,
        QUERY_OSCORE_OF_KID,
        QUERY_OSCORE_FIND,
        QUERY_OSCORE_TAKEN,
        QUERY_OSCORE_RENEW,
        QUERY_OSCORE_LEASE,
        QUERY_OSCORE_NEXT,
        QUERY_OSCORE_RAISE,

        QUERY_AS_KEY_ADD,
        QUERY_AS_KEY_DELETE,
        QUERY_AS_KEY_COUNT,
        QUERY_AS_KEY_CURRENT,
        QUERY_AS_KEYS,

        QUERY_POLICY_ADD,
        QUERY_POLICY_DELETE,
        QUERY_POLICIES,
        QUERY_POLICIES_OF_SUBJECT,
        QUERY_POLICIES_AT_AUDIENCE,
        QUERY_POLICIES_OF_SUBJECT_AT_AUDIENCE,

        QUERY_ASKER,
        QUERY_POLICIES_FOR_CLIENT,
        QUERY_POLICIES_AND_VARYING,
        QUERY_KEY_BY_KID,
        QUERY_KEY_BY_CLIENTS_KID,
        QUERY_TOKENS_LIVE,
        QUERY_TOKEN_ADD,
        QUERY_TOKEN_FIND,
        QUERY_TOKEN_FIND_BY_EXI,
        QUERY_TOKEN_BY_NUMBER,
        QUERY_AUDIENCE_HAS,
        QUERY_TOKEN_REVOKE,
        QUERY_PARTY_ID,
        QUERY_TOKENS,
        QUERY_TOKENS_OF_CLIENT,
        QUERY_TOKENS_OF_SERVER,
        QUERY_TOKENS_BY_END,
        QUERY_TOKEN_FROM,
        QUERY_TOKENS_PURGE,
        QUERY_TOKEN_DELETE,
        QUERY_GONE_PURGE,

        QUERY_AUDIT_ADD,
        QUERY_AUDIT_HEAD,
        QUERY_AUDIT_EACH,
        QUERY_AUDIT_FROM,
        QUERY_AUDIT_START_GET,
        QUERY_AUDIT_START_SET,
        QUERY_AUDIT_LAST_OLD,
        QUERY_AUDIT_PURGE,

        QUERY_REVOCATION_OF_ONE,
        QUERY_REVOCATION_OF_FAMILY,
        QUERY_REVOCATION_OF_CLIENT,
        QUERY_REVOCATION_OF_SERVER,
        QUERY_CLIENT_OF_LABEL,
        QUERY_REFRESH_TOKENS_OF_CLIENT,
        QUERY_REFRESH_TOKENS_OF_SERVER,
        QUERY_REFRESH_TOKEN_REVOKE,
        QUERY_AUDIENCE_MEMBERS,
        QUERY_TRL_TOKENS_OF_SERVER,
        QUERY_TRL_ADD,
        QUERY_TRL_REMOVE,
        QUERY_TRL_EXPIRED,
        QUERY_TRL,
        QUERY_TRL_OF_CLIENT,
        QUERY_TRL_OF_SERVER,
        QUERY_TRL_COUNT,
        QUERY_TRL_LIST,
        QUERY_TRL_ITEM_ADD,
        QUERY_TRL_ITEMS_PRUNE,
        QUERY_TRL_ITEMS_DELETE,
        QUERY_TRL_ITEMS,
        QUERY_TRL_ITEMS_EACH,
        QUERY_GONE_NOT_IN_TRL,
        QUERY_GONE_TRL_AFTER,

        QUERY_REFRESH_TOKEN_ADD,
        QUERY_REFRESH_TOKEN_FIND,
        QUERY_REFRESH_TOKEN_USE,
        QUERY_REFRESH_TOKENS_FORGET,
        QUERY_REFRESH_TOKENS_LIVE,
        QUERY_REFRESH_FAMILY_REVOKE,
        QUERY_REFRESH_TOKENS_PURGE,

        QUERIES
};

/* A block of numbers: next is the first that was not drawn, end the first that is not ours. */
struct lease {
        uint64_t next, end;
        unsigned drawn; /* since begin */
};

/* How many live tokens a client has, at least: spares counting them at every request. */
struct live_count {
        int64_t client_id;
        int64_t counted_s;
        int64_t n, max;
        uint64_t generation; /* of store->generation; another one: forget it */
};
#define LIVE_COUNTS 1024 /* clients remembered; a power of two */

/* The audit trail's newest row, known while nobody else writes and nothing is rolled back. */
struct audit_end {
        bool known, added_in_savepoint;
        struct audit_mark head;
        struct sha256 *sha256; /* made when first used */
};

#define APPLICATION_ID 0x61636564 /* "aced" in the file's header: file(1) and other programs see whose it is */
#define NONCE_STAMP_SIZE 5
#define SUBKEY_SIZE 32

struct store {
        sqlite3 *db;
        sqlite3_stmt *queries[QUERIES]; /* prepared when first used */
        bool in_transaction;            /* begun and not ended by our caller, whatever SQLite made of it */
        bool savepoint_wanted, savepoint_open; /* begun by our caller; known to SQLite, too */
        uint64_t token_to_undo;         /* added since the former, but not under the latter; 0 none */
        bool tokens_added, tokens_added_in_savepoint;
        uint64_t as_keys_generation;    /* as_keys.h; counts up, too, when a change of theirs is rolled back */
        bool as_keys_changed;           /* since begin */
        uint64_t credentials_generation; /* oscore.h; the same */
        bool credentials_changed;
        uint64_t oscore_epoch;          /* oscore.h */
        void (*oscore_gone)(void *context, int64_t credential_id, struct bytes kid); /* who listens; NULL nobody */
        void *oscore_gone_context;
        int error;                      /* the last one, for a transaction that SQLite gave up */
        int lease_error;                /* why there are no new numbers */
        uint64_t n_reserved, n_drawn_max; /* for the next batch; of this batch, each kind */
        struct lease leases[NUMBER_KINDS];
        uint8_t nonce_stamp[NONCE_STAMP_SIZE];
        struct aead_key *sealing;
        struct secret mark_key;
        struct live_count live_counts[LIVE_COUNTS];
        uint64_t generation;
        struct audit_end audit;
        void (*trl_touch)(void *context, int64_t party_id); /* who listens (trl.h); NULL nobody */
        void *trl_context;
        bool policies_vary; /* there are policies whose audience has variables, or have been since open */
        struct backup *backup; /* the one under way: the log is not brought into the database file */
        struct store *snapshot; /* the one under way; its origin, which the keys are borrowed from */
        struct store *origin;
};

/* A prepared statement in use. Bound data must live as long as it; query_done() hands the statement back. */
struct query {
        struct store *store;
        sqlite3_stmt *stmt;
        int error;
};

/*
 * Take the statement. One that writes is refused outside of a transaction, or in one that SQLite gave up: it would be a
 * change of its own. -EIO: that, or it is in use already (a row() that walks the list it is called from).
 */
int query_begin(struct store *store, enum query_id id, struct query *ret);
void query_done(struct query *query);

/* Parameters count from 1. A failure is told by the next query_next() or query_run(). */
void query_int(struct query *query, int at, int64_t value);
void query_text(struct query *query, int at, struct bytes value);
void query_blob(struct query *query, int at, struct bytes value);
void query_optional(struct query *query, int at, struct bytes value); /* the same, but NULL for data NULL */
void query_scope(struct query *query, int at, const struct scope *scope); /* NONE: NULL */

/* 0: a row is there. REFUSE_ADMIN_UNKNOWN: none, or no more. < 0: broken. */
int query_next(struct query *query);
/* The result of a walk that query_next() ended: no more rows is how it should end. */
static inline int query_end(int r) {
        return r == REFUSE_ADMIN_UNKNOWN ? 0 : r;
}
/*
 * To the end. 0; REFUSE_ADMIN_EXISTS when something has to be unique and would not be; REFUSE_ADMIN_UNKNOWN when it
 * would belong to a row that is not there; < 0.
 */
int query_run(struct query *query);
/* The same in one line, for statements without parameters, or with an id as the first. */
int query_simple(struct store *store, enum query_id id);
int query_about(struct store *store, enum query_id id, int64_t about);
/* The statement is there from now on: it can be run when memory is short. 0, < 0. */
int query_prepare(struct store *store, enum query_id id);

/* Columns count from 0. What does not fit where it goes was not written by us: -EIO. */
int64_t row_int(struct query *query, int at);
bool row_is_null(struct query *query, int at);
struct bytes row_bytes(struct query *query, int at); /* until the next row */
int row_text(struct query *query, int at, char *ret, size_t size);
int row_scope(struct query *query, int at, struct scope *ret);
int row_secret(struct query *query, int at, const char *column, int64_t row, struct secret *ret);

const char *query_sql(enum query_id id);

/*
 * SQLite copies every page that changes under a savepoint, which costs as much as the change. A request for a token
 * makes one change, the last thing before its answer: that one is undone by deleting it. Any other change opens the
 * savepoint.
 */
int savepoint_before(struct store *store, enum query_id id);

/*
 * Called after each commit with the pages in the log. They are brought into the database file rarely, as that holds a
 * batch up; later still when that would end a copy under way (backup.h).
 */
#define LOG_PAGES 16384
#define LOG_PAGES_BACKUP 65536
int backup_on_commit(void *context, sqlite3 *db, const char *name, int n_pages);

/* The log has grown too long for it. */
void snapshot_end(struct store *snapshot);

/* What meta has as audit_start. 0, or -EIO when it is none. */
int audit_mark_read(struct bytes value, struct audit_mark *ret);

/* The integer that a PRAGMA, or any statement without parameters, has in its first column. */
int pragma_int(struct store *store, const char *sql, int64_t *ret);

/* -errno for a result code; remembers it as store->error. */
int store_failure(struct store *store, int code);
/* Did the statement that ran last change a row? 0, or REFUSE_ADMIN_UNKNOWN. */
int store_changed(const struct store *store);

/*
 * A transaction without a batch, for what has to be on disk by itself. -EBUSY in the midst of a batch. What is done in
 * it came to r: 0, and it is committed; else, or when that fails, it is undone. Returns r, or why it was not committed.
 */
int transaction_begin(struct store *store);
int transaction_end(struct store *store, int r);

/* "file:…?immutable=1": nobody writes it, so nothing is locked, and no log is looked for or made. 0, -ENAMETOOLONG. */
#define URI_MAX 16384
int uri_of(const char *path, char *uri, size_t size);

/* Columns of clients and servers from the at-th on, in the order of the SQL macros of query.c. */
int client_from_row(struct query *query, int at, struct client *ret);
int server_from_row(struct query *query, int at, struct server *ret);

/* A public key as the database has it: the curve in a byte, x, and y where there is one. *ret_size of it. */
#define PUBLIC_SIZE_MAX (1 + 2 * COORDINATE_SIZE_MAX)
void public_key_to_column(const struct public_key *key, uint8_t ret[static PUBLIC_SIZE_MAX], size_t *ret_size);
int public_key_from_column(struct bytes column, struct public_key *ret); /* -EIO: somebody changed the file */
/* What credentials have as identity for that key, that rule. */
int credential_fingerprint(enum credential_kind kind, struct bytes column, uint8_t ret[static THUMBPRINT_SIZE]);

/*
 * A client or server is about to be deleted, and its row in gone written: its tokens go into the revocation list, and its
 * update collection goes. Of many tokens the rest follows with store_trl_catch_up().
 */
int trl_gone(struct store *store, int64_t id, bool is_server, int64_t now_s);

/*
 * What a token or refresh token is bound to. A PoP key, sealed, or nothing: then a public key and, in the column behind
 * it, what its owner calls it, both NULL when there is none. space is used until the statement is done.
 */
#define POP_KEY_SEALED_MAX (SECRET_SIZE_MAX + SEALED_OVERHEAD)
int seal_pop_key(struct store *store, const char *column, uint64_t row, const struct secret *key,
                 uint8_t ret[static POP_KEY_SEALED_MAX], size_t *ret_size);
int row_pop_key(struct query *query, int at, const char *column, uint64_t row, struct secret *ret);
void query_public_key(struct query *query, int at, const struct public_key *key, struct bytes kid,
                      uint8_t space[static PUBLIC_SIZE_MAX]);
int row_public_key(struct query *query, int at, struct public_key *ret, uint8_t *ret_kid, size_t *ret_kid_size);
/* And what makes an OSCORE_Input_Material of a PoP key, in one column; NULL for another key. */
#define OSC_COLUMN_SIZE (3 + OSC_SALT_SIZE + OSC_CONTEXT_ID_SIZE)
void query_osc(struct query *query, int at, const struct osc *osc, bool names_osc,
               uint8_t space[static OSC_COLUMN_SIZE]);
int row_osc(struct query *query, int at, struct osc *ret, bool *ret_names_osc);

/* Statements that remove at most limit rows which ended before before_s. */
int query_purge(struct store *store, enum query_id id, int64_t before_s, int64_t limit, int64_t *ret_n);

/* Once, when the database is opened: are there policies whose audience varies? Most have none, and look for none. */
int policies_look(struct store *store);

/* Credentials, or who has one, are changed from now on: counts for store_credentials_generation(). */
void credentials_touch(struct store *store);

/*
 * Tell who listens that these contexts go, before they do: of one party, the other id 0; credential_id 0 all of them.
 * After credentials_touch(), so that he looks again, whether they have gone, even if nothing else comes of it.
 * 0, < 0.
 */
int oscore_tell_gone(struct store *store, int64_t client_id, int64_t server_id, int64_t credential_id);
/* Columns of oscore_contexts from the at-th on, in the order of OSCORE_COLUMNS of query.c. -EIO: they are no good. */
int oscore_from_row(struct query *query, int at, struct oscore_parameters *ret);
/* Fill in credential->oscore. */
int oscore_of_credential(struct store *store, struct credential *credential);
/*
 * May one more context be registered? REFUSE_ADMIN_EXISTS: another one has the same Recipient ID and ID Context, in
 * force or registered; REFUSE_ADMIN_CONFLICT: there are OSCORE_CANDIDATES_MAX with this Recipient ID.
 */
int oscore_is_free(struct store *store, const struct credential *credential);
int oscore_add(struct store *store, const struct credential *credential);

/* Is a secret with this mark registered? 0, REFUSE_ADMIN_EXISTS, < 0. server_id: its own key does not count. */
int secret_is_free(struct store *store, const uint8_t mark[static 32], int64_t server_id);

/* store_seal() into an array with room for plain.size + SEALED_OVERHEAD bytes. */
int seal_into(struct store *store, const char *column, int64_t row, struct bytes plain, uint8_t *ret,
              size_t *ret_size);
int seal_keys_derive(struct store *store, struct bytes seal_key);

DEFINE_FREEP(struct store, store_free)
