#include <errno.h>
#include <glob.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "crypto/hash.h"
#include "domain/refusal.h"
#include "endpoint/housekeeping.h"
#include "format/audit.h"
#include "format/cbor.h"
#include "store/audit.h"
#include "store/private.h"
#include "support/fake.h"
#include "support/world.h"

#define DAY_S 86400

/* ---- a trail */

static int setup(void **state) {
        struct world *world = calloc(1, sizeof(*world));

        assert_non_null(world);
        fake_random_seed(1);
        log_set_level((enum log_level)0);
        world_init(world);
        assert_int_equal(world_open(world, NULL), 0);
        *state = world;
        return 0;
}

static int setup_filled(void **state) {
        setup(state);
        world_fill(*state);
        world_meet(*state);
        return 0;
}

static int teardown(void **state) {
        world_done(*state);
        free(*state);
        return 0;
}

static int64_t add(struct store *store, int64_t at_s, const char *record) {
        int64_t seq = 0;

        assert_int_equal(store_audit_add(store, at_s, bytes_text(record), &seq), 0);
        return seq;
}

/* Rows 1 to n, one a day, in one transaction. */
static void fill(struct store *store, int n) {
        char record[32];

        assert_int_equal(store_begin(store), 0);
        for (int i = 1; i <= n; i++) {
                snprintf(record, sizeof(record), "record %d", i);
                assert_int_equal(add(store, (int64_t)i * DAY_S, record), i);
        }
        assert_int_equal(store_commit(store), 0);
}

/* The first row that does not fit, 0 for none, in steps of some rows. */
static int64_t verify_by(struct store *store, int64_t limit, int64_t *ret_n_rows) {
        struct audit_place place = {};
        int n = 0;

        while (!place.done) {
                assert_int_equal(store_audit_verify(store, &place, limit), 0);
                assert_true(++n < 10000);
        }
        *ret_n_rows = place.n_rows;
        return place.bad_seq;
}

static int64_t verify(struct store *store) {
        int64_t n_rows;

        return verify_by(store, 3, &n_rows);
}

/* As another program does it that has the file. */
static int tamper(struct store *store, const char *sql) {
        int code;

        store->audit.known = false; /* what somebody else has written is not known to us: as after a start */
        code = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
        assert_true(code == SQLITE_OK || code == SQLITE_CONSTRAINT_TRIGGER || code == SQLITE_CONSTRAINT_CHECK);
        return code;
}

static int64_t count(struct store *store, const char *sql) {
        int64_t n = -1;

        assert_int_equal(pragma_int(store, sql, &n), 0);
        return n;
}

/* ---- the chain */

/* Computed here from what store/audit.h says, not by what it stands over. */
static void hash_is_as_documented(void **state) {
        struct world *world = *state;
        uint8_t bytes[32 + 8 + 8 + 3] = {}, expected[32], second[32];
        struct audit_mark head;

        memcpy(bytes + 39, "\1", 1);
        memcpy(bytes + 40, "\0\0\0\1\x02\x03\x04\x05", 8);
        memcpy(bytes + 48, "abc", 3);
        assert_int_equal(sha256(bytes_of(bytes, sizeof(bytes)), expected), 0);
        memcpy(bytes, expected, 32);
        bytes[39] = 2;
        memset(bytes + 40, 0xff, 8); /* a time before 1970 */
        assert_int_equal(sha256(bytes_of(bytes, 48), second), 0);

        assert_int_equal(store_begin(world->store), 0);
        assert_int_equal(add(world->store, INT64_C(0x102030405), "abc"), 1);
        assert_int_equal(store_audit_head(world->store, &head), 0);
        assert_int_equal(head.seq, 1);
        assert_memory_equal(head.hash, expected, 32);
        assert_int_equal(add(world->store, -1, ""), 2);
        assert_int_equal(store_audit_head(world->store, &head), 0);
        assert_memory_equal(head.hash, second, 32);
        assert_int_equal(store_commit(world->store), 0);
        assert_int_equal(verify(world->store), 0);
}

static void records_have_a_limit(void **state) {
        static const uint8_t record[AUDIT_RECORD_MAX + 1] = { 0 };
        struct world *world = *state;
        int64_t seq;

        assert_int_equal(store_begin(world->store), 0);
        assert_int_equal(store_audit_add(world->store, 0, bytes_of(record, sizeof(record)), &seq), -EINVAL);
        assert_int_equal(store_audit_add(world->store, 0, bytes_of(record, sizeof(record) - 1), &seq), 0);
        assert_int_equal(seq, 1);
        assert_int_equal(store_commit(world->store), 0);
        assert_int_equal(store_audit_add(world->store, 0, BYTES_LITERAL("x"), &seq), -EIO); /* no transaction */
        assert_int_equal(verify(world->store), 0);
}

static void numbers_have_no_gaps(void **state) {
        struct store *store = ((struct world *)*state)->store;

        fill(store, 3);
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(add(store, 0, "undone"), 4);
        assert_int_equal(add(store, 0, "undone"), 5);
        store_rollback(store);
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(add(store, 0, "kept"), 4);
        assert_int_equal(store_savepoint(store), 0);
        assert_int_equal(add(store, 0, "undone"), 5);
        assert_int_equal(add(store, 0, "undone"), 6);
        assert_int_equal(store_savepoint_rollback(store), 0);
        assert_int_equal(add(store, 0, "kept"), 5);
        assert_int_equal(store_savepoint(store), 0);
        assert_int_equal(store_savepoint_rollback(store), 0);
        assert_true(store->audit.known); /* nothing was undone: the end need not be read again */
        assert_int_equal(store_savepoint(store), 0);
        assert_int_equal(add(store, 0, "kept"), 6);
        assert_int_equal(store_savepoint_release(store), 0);
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(count(store, "SELECT count(*) FROM audit WHERE record = CAST('undone' AS BLOB)"), 0);
        assert_int_equal(count(store, "SELECT count(*) FROM audit"), 6);
        assert_int_equal(verify(store), 0);
}

static void steps_of_any_size_see_the_same(void **state) {
        struct store *store = ((struct world *)*state)->store;
        int64_t n_rows;

        assert_int_equal(verify_by(store, 1, &n_rows), 0); /* nothing is whole */
        assert_int_equal(n_rows, 0);
        fill(store, 10);
        for (int64_t limit = 1; limit <= 12; limit++) {
                assert_int_equal(verify_by(store, limit, &n_rows), 0);
                assert_int_equal(n_rows, 10);
        }
}

/* ---- tampering */

/* Rows 1 to 9; which row is the first that does not fit. */
static const struct {
        const char *sql;
        int64_t bad_seq;
} changes[] = {
        { "UPDATE audit SET at_s = at_s + 1 WHERE seq = 1", 1 },
        { "UPDATE audit SET at_s = at_s + 1 WHERE seq = 5", 5 },
        { "UPDATE audit SET record = x'' WHERE seq = 5", 5 },
        { "UPDATE audit SET record = CAST(record || x'00' AS BLOB) WHERE seq = 9", 9 },
        { "UPDATE audit SET record = zeroblob(4097) WHERE seq = 4", 4 },
        { "UPDATE audit SET hash = zeroblob(32) WHERE seq = 3", 3 },
        { "UPDATE audit SET hash = (SELECT hash FROM audit WHERE seq = 4) WHERE seq = 3", 3 },
        { "UPDATE audit SET seq = 10 WHERE seq = 9", 10 },
        { "UPDATE audit SET seq = 0 WHERE seq = 1", 2 },
        { "DELETE FROM audit WHERE seq = 1", 2 },
        { "DELETE FROM audit WHERE seq <= 4", 5 },
        { "DELETE FROM audit WHERE seq = 5", 6 },
        { "DELETE FROM audit WHERE seq = 5; UPDATE audit SET seq = seq - 1 WHERE seq > 5", 5 },
        { "UPDATE audit SET seq = 100 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 4;"
          "UPDATE audit SET seq = 4 WHERE seq = 100", 3 },
        { "UPDATE audit SET seq = -seq WHERE seq >= 5; UPDATE audit SET seq = 1 - seq WHERE seq < 0;"
          "INSERT INTO audit SELECT 5, at_s, record, hash FROM audit WHERE seq = 4", 5 },
        { "INSERT INTO audit SELECT 10, at_s, record, hash FROM audit WHERE seq = 9", 10 },
        { "INSERT INTO meta VALUES ('audit_start', zeroblob(40))", 0 }, /* as it is */
        { "INSERT INTO meta VALUES ('audit_start', CAST(x'0000000000000004' || zeroblob(32) AS BLOB))", 5 },
        { "INSERT INTO meta SELECT 'audit_start', CAST(x'0000000000000004' || hash AS BLOB) FROM audit "
          "WHERE seq = 3", 5 },
};

static void changes_show(void **state) {
        struct store *store = ((struct world *)*state)->store;

        fill(store, 9);
        for (size_t i = 0; i < N_ELEMENTS(changes); i++) {
                assert_int_equal(tamper(store, "SAVEPOINT as_it_was"), SQLITE_OK);
                assert_int_equal(tamper(store, changes[i].sql), SQLITE_OK);
                if (verify(store) != changes[i].bad_seq)
                        fail_msg("%s: %lld", changes[i].sql, (long long)verify(store));
                assert_int_equal(tamper(store, "ROLLBACK TO as_it_was; RELEASE as_it_was"), SQLITE_OK);
                assert_int_equal(verify(store), 0);
        }
}

/* Every bit of every column of every row. */
static void every_bit_counts(void **state) {
        struct store *store = ((struct world *)*state)->store;
        char sql[256];

        fill(store, 3);
        for (int seq = 1; seq <= 3; seq++)
                for (unsigned bit = 0; bit < 8 * (8 + 8 + 32); bit++) {
                        unsigned at = bit / 8, mask = 1U << bit % 8;

                        assert_int_equal(tamper(store, "SAVEPOINT as_it_was"), SQLITE_OK);
                        if (at < 8)
                                snprintf(sql, sizeof(sql), "UPDATE audit SET at_s = (at_s | %lld) - (at_s & %lld) "
                                         "WHERE seq = %d", 1LL << (bit % 63), 1LL << (bit % 63), seq);
                        else if (at < 16)
                                snprintf(sql, sizeof(sql), "UPDATE audit SET record = CAST(substr(record, 1, %u) || "
                                         "char((unicode(substr(CAST(record AS TEXT), %u, 1)) | %u) - "
                                         "(unicode(substr(CAST(record AS TEXT), %u, 1)) & %u)) || "
                                         "substr(record, %u) AS BLOB) WHERE seq = %d", at - 8, at - 7, mask & 127,
                                         at - 7, mask & 127, at - 6, seq);
                        else
                                snprintf(sql, sizeof(sql), "UPDATE audit SET hash = CAST(substr(hash, 1, %u) || "
                                         "CASE substr(hash, %u, 1) WHEN x'%02x' THEN x'%02x' ELSE x'%02x' END || "
                                         "substr(hash, %u) AS BLOB) WHERE seq = %d", at - 16, at - 15, mask, mask ^ 255,
                                         mask, at - 14, seq);
                        assert_int_equal(tamper(store, sql), SQLITE_OK);
                        if (sqlite3_changes(store->db) == 1 && !(at >= 8 && at < 16 && bit % 8 == 7))
                                assert_int_equal(verify(store), seq);
                        assert_int_equal(tamper(store, "ROLLBACK TO as_it_was; RELEASE as_it_was"), SQLITE_OK);
                }
        assert_int_equal(verify(store), 0);
}

/* Only who has noted a later row elsewhere sees a trail that was made anew, or cut off at its end. */
static void noted_hashes_show_what_the_chain_cannot(void **state) {
        struct store *store = ((struct world *)*state)->store;
        struct audit_mark noted, head, start;
        int64_t n;

        fill(store, 5);
        assert_int_equal(store_audit_head(store, &noted), 0);
        fill(store, 0);
        assert_int_equal(store_audit_compare(store, &noted), 0);
        tamper(store, "DELETE FROM audit WHERE seq = 5");
        assert_int_equal(verify(store), 0);
        assert_int_equal(store_audit_compare(store, &noted), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(add(store, 5 * DAY_S, "another record 5"), 5);
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(verify(store), 0);
        assert_int_equal(store_audit_compare(store, &noted), REFUSE_ADMIN_CONFLICT);

        /* the last one removed is still known, those before are not */
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_audit_purge(store, 4 * DAY_S, 100, &n), 0);
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(n, 3);
        assert_int_equal(store_audit_start(store, &start), 0);
        assert_int_equal(start.seq, 3);
        assert_int_equal(store_audit_compare(store, &start), 0);
        start.hash[31] ^= 1;
        assert_int_equal(store_audit_compare(store, &start), REFUSE_ADMIN_CONFLICT);
        start.seq = 2;
        assert_int_equal(store_audit_compare(store, &start), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_audit_head(store, &head), 0);
        assert_int_equal(store_audit_compare(store, &head), 0);
}

/* aced runs no triggers; another program does, unless it is told not to. */
static void others_are_stopped_by_triggers(void **state) {
        static const char *const refused[] = {
                "UPDATE audit SET at_s = 0 WHERE seq = 5",
                "UPDATE audit SET seq = 10 WHERE seq = 9",
                "DELETE FROM audit",
                "DELETE FROM audit WHERE seq = 5",
                "DELETE FROM audit WHERE seq = 9",
                "INSERT INTO audit VALUES (5, 0, x'', zeroblob(32))",
                "INSERT OR REPLACE INTO audit VALUES (5, 0, x'', zeroblob(32))",
                "INSERT INTO audit VALUES (11, 0, x'', zeroblob(32))",
                "INSERT INTO audit (at_s, record, hash) VALUES (0, x'', zeroblob(32))",
        };
        struct store *store = ((struct world *)*state)->store;

        fill(store, 9);
        assert_int_equal(sqlite3_db_config(store->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 1, NULL), SQLITE_OK);
        for (size_t i = 0; i < N_ELEMENTS(refused); i++)
                assert_int_equal(tamper(store, refused[i]), SQLITE_CONSTRAINT_TRIGGER);
        assert_int_equal(verify(store), 0);
        assert_int_equal(tamper(store, "DELETE FROM audit WHERE seq <= 3"), SQLITE_OK); /* as retention does */
        assert_int_equal(tamper(store, "INSERT INTO audit VALUES (10, 0, x'', zeroblob(31))"),
                         SQLITE_CONSTRAINT_CHECK);
        assert_int_equal(tamper(store, "INSERT INTO audit VALUES (10, 0, x'', zeroblob(32))"), SQLITE_OK);
}

/* No statement of ours changes a row, or removes one but at the beginning. */
static void no_statement_changes_rows(void **state) {
        unsigned n = 0;

        for (enum query_id id = 0; id < QUERIES; id++) {
                const char *sql = query_sql(id);

                if (!strstr(sql, " audit ") && !strstr(sql, " audit("))
                        continue;
                n++;
                if (id == QUERY_AUDIT_ADD)
                        assert_non_null(strstr(sql, "INSERT INTO audit (seq, at_s, record, hash) VALUES"));
                else if (id == QUERY_AUDIT_PURGE)
                        assert_string_equal(sql, "DELETE FROM audit WHERE seq <= ?1");
                else
                        assert_int_equal(strncmp(sql, "SELECT", 6), 0);
        }
        assert_true(n >= 5);
}

/* ---- reading */

static int note_seq(void *context, const struct audit_row *row) {
        char *text = context;

        snprintf(text + strlen(text), 200 - strlen(text), "%lld ", (long long)row->seq);
        return 0;
}

static void rows_come_in_order(void **state) {
        struct store *store = ((struct world *)*state)->store;
        char text[200] = "";

        fill(store, 6);
        assert_int_equal(store_audit_each(store, 0, 3, note_seq, text), 0);
        assert_string_equal(text, "1 2 3 ");
        assert_int_equal(store_audit_each(store, 4, 100, note_seq, text), 0);
        assert_string_equal(text, "1 2 3 5 6 ");
        assert_int_equal(store_audit_each(store, INT64_MAX, 100, note_seq, text), 0);
        assert_string_equal(text, "1 2 3 5 6 ");
}

static void since_is_found_by_halving(void **state) {
        struct store *store = ((struct world *)*state)->store;
        int64_t seq, n;

        assert_int_equal(store_audit_since(store, 5, &seq), 0);
        assert_int_equal(seq, 0);
        for (int rows = 1; rows <= 33; rows++) {
                assert_int_equal(store_begin(store), 0);
                add(store, (int64_t)rows * DAY_S, "x");
                assert_int_equal(store_commit(store), 0);
                for (int day = 0; day <= rows + 1; day++) {
                        assert_int_equal(store_audit_since(store, (int64_t)day * DAY_S, &seq), 0);
                        assert_int_equal(seq, day > rows ? 0 : day < 1 ? 1 : day);
                        assert_int_equal(store_audit_since(store, (int64_t)day * DAY_S + 1, &seq), 0);
                        assert_int_equal(seq, day >= rows ? 0 : day + 1);
                }
        }
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_audit_purge(store, 20 * DAY_S, 100, &n), 0);
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(store_audit_since(store, 5, &seq), 0);
        assert_int_equal(seq, 20);
        assert_int_equal(store_audit_since(store, 30 * DAY_S, &seq), 0);
        assert_int_equal(seq, 30);
}

/* ---- the end of keeping */

static int64_t purge(struct store *store, int64_t before_s, int64_t limit) {
        int64_t n = -1;

        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_audit_purge(store, before_s, limit, &n), 0);
        assert_int_equal(store_commit(store), 0);
        return n;
}

static void old_rows_go_at_the_beginning(void **state) {
        struct store *store = ((struct world *)*state)->store;
        int64_t n_rows;

        assert_int_equal(purge(store, 100 * DAY_S, 10), 0);
        fill(store, 10);
        assert_int_equal(purge(store, DAY_S, 10), 0);
        assert_int_equal(purge(store, 5 * DAY_S, 3), 3);
        assert_int_equal(purge(store, 5 * DAY_S, 3), 1);
        assert_int_equal(purge(store, 5 * DAY_S, 3), 0);
        assert_int_equal(verify_by(store, 4, &n_rows), 0);
        assert_int_equal(n_rows, 6);
        assert_int_equal(count(store, "SELECT min(seq) FROM audit"), 5);

        /* the newest stays, and numbers go on, also for who reads them from the file */
        assert_int_equal(purge(store, 100 * DAY_S, 100), 5);
        assert_int_equal(purge(store, 100 * DAY_S, 100), 0);
        store->audit.known = false;
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(add(store, 1, "next"), 11);
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(verify_by(store, 4, &n_rows), 0);
        assert_int_equal(n_rows, 2);

        /* what was removed by another hand does show */
        tamper(store, "DELETE FROM audit WHERE seq = 10");
        assert_int_equal(verify(store), 11);
}

/* Two rows by a clock that was years ahead do not keep all others for years. */
static void rows_of_a_wrong_clock_do_not_stop_it(void **state) {
        struct store *store = ((struct world *)*state)->store;

        fill(store, 3);
        assert_int_equal(store_begin(store), 0);
        add(store, 9999 * DAY_S, "ahead");
        add(store, 9999 * DAY_S, "ahead");
        add(store, 5 * DAY_S, "right");
        add(store, 8 * DAY_S, "right");
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(purge(store, 7 * DAY_S, 100), 6);
        assert_int_equal(verify(store), 0);
}

/* A walk goes on when the rows behind it are removed under its feet. */
static void walks_outlive_a_purge(void **state) {
        struct store *store = ((struct world *)*state)->store;
        struct audit_place place = {};

        fill(store, 10);
        assert_int_equal(store_audit_verify(store, &place, 2), 0);
        assert_int_equal(place.last.seq, 2);
        assert_int_equal(purge(store, 6 * DAY_S, 100), 5);
        while (!place.done)
                assert_int_equal(store_audit_verify(store, &place, 2), 0);
        assert_int_equal(place.bad_seq, 0);
        assert_int_equal(place.last.seq, 10);
        assert_int_equal(place.n_rows, 2 + 5);
}

static void housekeeping_removes_what_is_configured(void **state) {
        struct world *world = *state;
        struct housekeeping housekeeping;
        bool again;

        fake_clock_set(1000 * DAY_S, 1);
        assert_int_equal(store_begin(world->store), 0);
        for (int i = 0; i < 3 * HOUSEKEEPING_ROWS_MAX / 2; i++)
                add(world->store, 900 * DAY_S, "old");
        add(world->store, 990 * DAY_S, "new");
        assert_int_equal(store_commit(world->store), 0);
        assert_int_equal(housekeeping_init(&housekeeping, &world->as, 1000 * DAY_S, 1), 0);

        world->config->audit_keep_s = 0; /* for ever */
        assert_int_equal(housekeeping_step(&housekeeping, &world->as, 1000 * DAY_S, 2, &again), 0);
        assert_int_equal(world->as.metrics.n_audit_purged, 0);
        world->config->audit_keep_s = 20 * DAY_S;
        assert_int_equal(housekeeping_step(&housekeeping, &world->as, 1000 * DAY_S, 3, &again), 0);
        assert_true(again);
        assert_int_equal(world->as.metrics.n_audit_purged, HOUSEKEEPING_ROWS_MAX);
        assert_int_equal(housekeeping_step(&housekeeping, &world->as, 1000 * DAY_S, 4, &again), 0);
        assert_false(again);
        assert_int_equal(world->as.metrics.n_audit_purged, 3 * HOUSEKEEPING_ROWS_MAX / 2);
        assert_int_equal(count(world->store, "SELECT count(*) FROM audit"), 1);
        assert_int_equal(verify(world->store), 0);
}

/* ---- records */

static void records_are_read_as_written(void **state) {
        static const struct audit_record full = {
                .decision = UINT64_MAX, .peer = BYTES_LITERAL("[::1]:5"), .credential_id = INT64_MAX, .has_uid = true,
                .uid = UINT32_MAX, .party = BYTES_LITERAL("C1"), .action = BYTES_LITERAL("POST /token"), .code = 0x41,
                .refusal = BYTES_LITERAL("scope"), .why = BYTES_LITERAL("RFC 9200 \xc2\xa7"),
                .object = BYTES_LITERAL("rs1"), .asked_kind = SCOPE_TEXT, .asked = BYTES_LITERAL("a b"),
                .granted_kind = SCOPE_BYTES, .granted = BYTES_LITERAL("\1\xff"), .token = 7, .n_policies = 2,
                .policies = { 3, INT64_MAX }, .n_more_policies = 9, .expires_s = 1700000000,
                .body = BYTES_LITERAL("{}"), .is_cut = true, .has_shadow = true, .shadow_kind = SCOPE_TEXT,
                .shadow = BYTES_LITERAL("a"),
        };
        static const struct audit_record least = { .decision = 0 }, nothing = { .has_shadow = true };
        static const struct audit_record *const cases[] = { &full, &least, &nothing };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(buf_done) struct buf once = BUF_INIT(AUDIT_RECORD_MAX), again = BUF_INIT(AUDIT_RECORD_MAX);
                struct audit_record record;

                assert_int_equal(audit_record_encode(cases[i], &once), 0);
                assert_int_equal(audit_record_decode(buf_bytes(&once), &record), 0);
                assert_int_equal(record.decision, cases[i]->decision);
                assert_int_equal(record.uid, cases[i]->uid);
                assert_int_equal(record.has_shadow, cases[i]->has_shadow);
                assert_int_equal(audit_record_encode(&record, &again), 0);
                assert_true(bytes_equal(buf_bytes(&once), buf_bytes(&again)));
                for (size_t size = 0; size < once.size; size++)
                        assert_int_equal(audit_record_decode(bytes_of(once.data, size), &record), REFUSE_MALFORMED);
        }
}

static void strange_records_are_refused(void **state) {
        static const struct {
                struct bytes record;
                int result;
        } cases[] = {
                { BYTES_LITERAL("\xa0"), 0 },
                { BYTES_LITERAL("\xa1\x18\x63\x01"), 0 },                       /* an unknown key */
                { BYTES_LITERAL(""), REFUSE_MALFORMED },
                { BYTES_LITERAL("\x80"), REFUSE_MALFORMED },
                { BYTES_LITERAL("\xa1\x01\x20"), REFUSE_WRONG_TYPE },           /* decision -1 */
                { BYTES_LITERAL("\xa1\x04\x1b\0\0\0\1\0\0\0\0"), REFUSE_WRONG_TYPE }, /* uid 2^32 */
                { BYTES_LITERAL("\xa1\x07\x19\1\0"), REFUSE_WRONG_TYPE },       /* code 256 */
                { BYTES_LITERAL("\xa1\x0e\x81\x60"), REFUSE_WRONG_TYPE },       /* policies [""] */
                { BYTES_LITERAL("\xa1\x0e\x91\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"), REFUSE_WRONG_TYPE }, /* 17 */
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct audit_record record;
                int r = audit_record_decode(cases[i].record, &record);

                if (r != cases[i].result && !(r > 0 && cases[i].result > 0))
                        fail_msg("record %zu: %d", i, r);
        }
}

/* ---- what requests leave behind */

/* Ask, and the newest row's record; the answer's code. */
static uint8_t ask(struct world *world, const struct peer *peer, enum method method, const char *target,
                   const char *text) {
        _cleanup_(call_done) struct call call;

        call_set(&call, peer, method, target, text);
        world_run(world, &call, 1);
        return call.work.response.code;
}

struct newest {
        struct buf bytes;
        int64_t seq, at_s;
        struct audit_record record; /* borrows from bytes */
};

static void newest_done(struct newest *newest) {
        buf_done(&newest->bytes);
}

static int keep_row(void *context, const struct audit_row *row) {
        struct newest *newest = context;

        newest->bytes = BUF_INIT(AUDIT_RECORD_MAX);
        newest->seq = row->seq;
        newest->at_s = row->at_s;
        return buf_add(&newest->bytes, row->record);
}

static void read_newest(struct world *world, struct newest *ret) {
        struct audit_mark head;

        *ret = (struct newest){};
        assert_int_equal(store_audit_head(world->store, &head), 0);
        assert_int_equal(store_audit_each(world->store, head.seq - 1, 1, keep_row, ret), 0);
        assert_int_equal(audit_record_decode(buf_bytes(&ret->bytes), &ret->record), 0);
}

#define assert_text(bytes, text) assert_true(bytes_equal(bytes, bytes_text(text)))

static void a_grant_is_told(void **state) {
        _cleanup_(newest_done) struct newest newest;
        struct world *world = *state;

        assert_int_equal(ask(world, &world->client, METHOD_POST, "/token", "{5: \"rs1\", 9: \"read\"}"), 0x41);
        read_newest(world, &newest);
        assert_text(newest.record.party, "C1");
        assert_text(newest.record.peer, world->client.name);
        assert_int_equal(newest.record.credential_id, world->client.credential_id);
        assert_false(newest.record.has_uid);
        assert_text(newest.record.action, "POST /token");
        assert_text(newest.record.object, "rs1");
        assert_text(newest.record.asked, "read");
        assert_text(newest.record.granted, "read");
        assert_text(newest.record.refusal, "");
        assert_int_equal(newest.record.code, 0x41);
        assert_true(newest.record.token != 0 && newest.record.n_policies == 1);
        assert_int_equal(newest.record.expires_s, WORLD_NOW_S + 3600);
        assert_int_equal(newest.at_s, WORLD_NOW_S);
        assert_int_equal(newest.record.decision, world->as.decision_stamp + world->as.n_decisions - 1);
        assert_true(newest.bytes.size < 128);
}

static void a_refusal_is_told(void **state) {
        _cleanup_(newest_done) struct newest newest;
        struct world *world = *state;

        assert_int_equal(ask(world, &world->client, METHOD_POST, "/token", "{5: \"rs1\", 9: \"fly\"}"), 0x80);
        read_newest(world, &newest);
        assert_text(newest.record.party, "C1");
        assert_text(newest.record.object, "rs1");
        assert_text(newest.record.asked, "fly");
        assert_int_equal(newest.record.granted_kind, SCOPE_NONE);
        assert_text(newest.record.refusal, "scope");
        assert_true(newest.record.why.size > 0);
        assert_int_equal(newest.record.code, 0x80);
        assert_int_equal(newest.record.token, 0);
}

/* Who leaves a row, and who does not. */
static void rows_are_of_decisions_and_changes(void **state) {
        static const struct peer plain = { .channel = CHANNEL_PLAIN, .name = "127.0.0.1:9" };
        static const struct peer nobody = { .channel = CHANNEL_DTLS, .name = "127.0.0.1:8" };
        struct world *world = *state;
        const struct {
                const struct peer *peer;
                enum method method;
                const char *target, *text;
                int n_rows;
        } cases[] = {
                { &world->client, METHOD_POST, "/token", "{5: \"rs1\"}", 1 },
                { &world->client, METHOD_POST, "/token", "{5: 3}", 1 },
                { &world->client, METHOD_POST, "/token", "[]", 1 },
                { &world->server, METHOD_POST, "/token", "{5: \"rs1\"}", 1 },
                { &world->client, METHOD_GET, "/token", NULL, 0 },
                { &world->client, METHOD_GET, "/nothing", NULL, 0 },
                { &world->server, METHOD_POST, "/introspect", "{11: h'00'}", 0 },
                { &world->client, METHOD_POST, "/introspect", "{11: h'00'}", 0 },
                { &plain, METHOD_POST, "/token", "{5: \"rs1\"}", 0 },
                { &nobody, METHOD_POST, "/token", "{5: \"rs1\"}", 0 },
                { &plain, METHOD_GET, "/.well-known/core", NULL, 0 },
                { &plain, METHOD_POST, "/v1/clients", "{}", 0 },
                { &world_admin, METHOD_POST, "/v1/clients", "{\"name\":\"x\"}", 1 },
                { &world_admin, METHOD_POST, "/v1/clients", "{\"name\":\"x\"}", 1 },
                { &world_admin, METHOD_POST, "/v1/clients", "{", 1 },
                { &world_admin, METHOD_DELETE, "/v1/clients/x", NULL, 1 },
                { &world_admin, METHOD_DELETE, "/v1/clients/x", NULL, 1 },
                { &world_admin, METHOD_GET, "/v1/clients", NULL, 0 },
                { &world_admin, METHOD_GET, "/v1/status", NULL, 0 },
                { &world_admin, METHOD_GET, "/v1/audit", NULL, 0 },
                { &world_admin, METHOD_GET, "/v1/backup", NULL, 1 },
        };
        struct audit_mark before, after;

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                assert_int_equal(store_audit_head(world->store, &before), 0);
                (void)ask(world, cases[i].peer, cases[i].method, cases[i].target, cases[i].text);
                assert_int_equal(store_audit_head(world->store, &after), 0);
                if (after.seq - before.seq != cases[i].n_rows)
                        fail_msg("%s %s %s: %lld rows", cases[i].peer->name, cases[i].target,
                                 cases[i].text ? cases[i].text : "", (long long)(after.seq - before.seq));
        }
        assert_int_equal(verify(world->store), 0);
}

/* Every change is audited, every resource of the table that makes one known here by its own row. */
static void all_changes_are_audited(void **state) {
        const struct resource *row;
        unsigned n = 0;

        for (size_t i = 0; (row = router_resource(i)); i++)
                if (row->method != METHOD_GET && row->method != METHOD_FETCH && strcmp(row->path, "/introspect") != 0) {
                        if (!row->changes && !row->audited)
                                fail_msg("%s changes something unaudited", row->path);
                        n++;
                }
        assert_true(n > 10);
}

static void secrets_are_hidden(void **state) {
        static const struct {
                const char *target, *body, *told;
        } cases[] = {
                { "/v1/clients/C1/credentials",
                  "{\"identity\":\"i1\",\"key_hex\":\"c0ffee00c0ffee00c0ffee00c0ffee00\"}",
                  "{\"identity\":\"i1\",\"key_hex\":\"hidden\"}" },
                { "/v1/clients/C1/credentials",
                  "{\"sender_id_hex\":\"01\",\"master_secret_hex\":\"c0ffee00c0ffee00c0ffee00c0ffee02\"}",
                  "{\"sender_id_hex\":\"01\",\"master_secret_hex\":\"hidden\"}" },
                { "/v1/servers", "{\"name\":\"s\",\"token_key_hex\":\"c0ffee00c0ffee00c0ffee00c0ffee01\"}",
                  "{\"name\":\"s\",\"token_key_hex\":\"hidden\"}" },
                { "/v1/servers", "{\"name\":\"s\",\"wrong\":{\"key\":\"c0ffee00c0ffee00c0ffee00c0ffee01\"}}",
                  "{\"name\":\"s\",\"wrong\":\"hidden\"}" },
                { "/v1/clients", "{\"name\":\"d\",\"labels\":[\"a\",\"b\"]}",
                  "{\"name\":\"d\",\"labels\":[\"a\",\"b\"]}" },
                { "/v1/clients", "{\"name\":\"c0ffee", NULL }, /* what cannot be read is not told */
        };
        struct world *world = *state;

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(newest_done) struct newest newest;

                (void)ask(world, &world_admin, METHOD_POST, cases[i].target, cases[i].body);
                read_newest(world, &newest);
                assert_text(newest.record.body, cases[i].told ? cases[i].told : "");
                assert_true(newest.record.has_uid);
                assert_null(bytes_find(buf_bytes(&newest.bytes), BYTES_LITERAL("c0ffee")));
        }
}

static void objects_are_named(void **state) {
        static const struct {
                enum method method;
                const char *target, *body, *action, *object;
        } cases[] = {
                { METHOD_POST, "/v1/clients", "{\"name\":\"new\"}", "POST /v1/clients", "new" },
                { METHOD_PATCH, "/v1/clients/new", "{\"suspended\":true}", "PATCH /v1/clients/new", "new" },
                { METHOD_DELETE, "/v1/clients/new", NULL, "DELETE /v1/clients/new", "new" },
                { METHOD_DELETE, "/v1/clients/a b\x01\xff", NULL, "DELETE /v1/clients/a?b??", "a?b??" },
                { METHOD_POST, "/v1/policies", "{\"client\":\"C1\",\"audience\":\"rs1\",\"scope\":\"x\"}",
                  "POST /v1/policies", "C1" },
                { METHOD_DELETE, "/v1/policies/4711", NULL, "DELETE /v1/policies/4711", "4711" },
        };
        struct world *world = *state;

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(newest_done) struct newest newest;

                (void)ask(world, &world_admin, cases[i].method, cases[i].target, cases[i].body);
                read_newest(world, &newest);
                assert_text(newest.record.action, cases[i].action);
                assert_text(newest.record.object, cases[i].object);
        }
}

static void long_bodies_are_cut(void **state) {
        _cleanup_(newest_done) struct newest newest = {};
        _cleanup_(buf_done) struct buf body = BUF_INIT(100000);
        struct world *world = *state;

        assert_int_equal(buf_printf(&body, "{\"name\":\"\xc3\xa4"), 0);
        while (body.size < 3 * AUDIT_BODY_MAX)
                assert_int_equal(buf_printf(&body, "\xc3\xa4"), 0);
        assert_int_equal(buf_printf(&body, "\"}%c", 0), 0);
        (void)ask(world, &world_admin, METHOD_POST, "/v1/clients", (const char *)body.data);
        read_newest(world, &newest);
        assert_true(newest.record.is_cut);
        assert_true(newest.record.body.size >= AUDIT_BODY_MAX - 1 && newest.record.body.size <= AUDIT_BODY_MAX);

        newest_done(&newest);
        buf_clear(&body);
        while (body.size < 20000)
                assert_int_equal(buf_printf(&body, "          "), 0);
        assert_int_equal(buf_printf(&body, "{}%c", 0), 0);
        (void)ask(world, &world_admin, METHOD_POST, "/v1/clients", (const char *)body.data);
        read_newest(world, &newest);
        assert_true(newest.record.is_cut);
        assert_int_equal(newest.record.body.size, 0);
}

static bool ends_in(const char *text, const char *end) {
        size_t size = strlen(text), end_size = strlen(end);

        return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

/*
 * Whoever adds a member says whether its value may be told: in endpoint/audit.c, or by a name that ends in key_hex or
 * secret_hex.
 */
static void check_members(const char *path, const char *told, unsigned *n) {
        _cleanup_(freep) char *text = calloc(1, 1 << 20);
        FILE *file = fopen(path, "re");

        assert_non_null(text);
        assert_non_null(file);
        assert_true(fread(text, 1, (1 << 20) - 1, file) > 0);
        fclose(file);
        for (const char *at = text; (at = strstr(at, "_FIELD(")); at++) {
                char type[64], member[64], quoted[80];

                if (sscanf(at, "_FIELD(%63[a-z_], %63[a-z_],", type, member) != 2 || strcmp(member, "member") == 0)
                        continue;
                snprintf(quoted, sizeof(quoted), "\"%s\"", member);
                if (ends_in(member, "secret_hex") ||
                    (strcmp(member, "public_key_hex") != 0 && ends_in(member, "key_hex"))) {
                        if (strstr(told, quoted))
                                fail_msg("%s: %s is a secret, and told", path, member);
                } else if (!strstr(told, quoted)) {
                        fail_msg("%s: is the value of %s a secret? endpoint/audit.c does not tell it", path, member);
                }
                ++*n;
        }
}

static void members_are_known(void **state) {
        const char *source = getenv("ACED_SRCDIR") ? getenv("ACED_SRCDIR") : ".";
        _cleanup_(freep) char *told = calloc(1, 1 << 16);
        char pattern[512];
        unsigned n = 0;
        glob_t found;
        FILE *file;

        assert_non_null(told);
        snprintf(pattern, sizeof(pattern), "%s/src/endpoint/audit.c", source);
        file = fopen(pattern, "re");
        assert_non_null(file);
        assert_true(fread(told, 1, (1 << 16) - 1, file) > 0);
        fclose(file);
        snprintf(pattern, sizeof(pattern), "%s/src/endpoint/admin_*.[ch]", source);
        assert_int_equal(glob(pattern, 0, NULL, &found), 0);
        for (size_t i = 0; i < found.gl_pathc; i++)
                check_members(found.gl_pathv[i], told, &n);
        globfree(&found);
        assert_true(n > 40);
}

/* ---- the control socket */

/* The answer to a GET; NULL: refused with 4.00. */
static json_t *get(struct world *world, const char *target) {
        _cleanup_(call_done) struct call call;
        json_t *answer;

        call_set(&call, &world_admin, METHOD_GET, target, NULL);
        world_run(world, &call, 1);
        if (call.work.response.code == CODE_BAD_REQUEST)
                return NULL;
        assert_int_equal(call.work.response.code, CODE_CONTENT);
        answer = json_loadb((const char *)call.work.response.payload.data, call.work.response.payload.size, 0, NULL);
        assert_non_null(answer);
        return answer;
}

/* Numbers of the items, in all pages, with spaces; how many pages. */
static unsigned pages(struct world *world, const char *query, char *text, size_t size) {
        char target[256], after[64] = "";
        unsigned n = 0;

        for (text[0] = '\0'; ; ) {
                json_t *page, *item;
                const char *next;
                size_t i;

                snprintf(target, sizeof(target), "/v1/audit?%s%s%s", query, after[0] ? "&after=" : "", after);
                page = get(world, target);
                assert_non_null(page);
                json_array_foreach(json_object_get(page, "items"), i, item)
                        snprintf(text + strlen(text), size - strlen(text), "%lld ",
                                 (long long)json_integer_value(json_object_get(item, "seq")));
                n++;
                next = json_string_value(json_object_get(page, "next"));
                snprintf(after, sizeof(after), "%s", next ? next : "");
                json_decref(page);
                if (!next)
                        return n;
        }
}

/* Rows 1 to 5 are from setting up: rs1, its credential, C1, its credential, a policy. */
static void lists_are_filtered(void **state) {
        static const struct {
                const char *query, *seqs;
        } cases[] = {
                { "limit=2", "1 2 3 4 5 6 7 8 9 " },
                { "limit=100", "1 2 3 4 5 6 7 8 9 " },
                { "actor=C1", "6 7 " },
                { "actor=uid 0", "1 2 3 4 5 8 9 " },
                { "actor=C", "" },
                { "about=C1", "3 4 5 6 7 " },
                { "about=rs1", "1 2 6 7 " },
                { "about=x", "8 9 " },
                { "about=credentials", "2 4 " },
                { "about=clients&actor=uid 0&limit=1", "3 4 8 9 " },
                { "since=1700000001", "8 9 " },
                { "since=1700000000&actor=C1", "6 7 " },
                { "since=1700000002", "" },
                { "since=0&limit=9", "1 2 3 4 5 6 7 8 9 " },
        };
        struct world *world = *state;
        char text[200];

        (void)ask(world, &world->client, METHOD_POST, "/token", "{5: \"rs1\"}");
        (void)ask(world, &world->client, METHOD_POST, "/token", "{5: \"rs1\", 9: \"fly\"}");
        for (int i = 0; i < 2; i++) {
                _cleanup_(call_done) struct call call;

                call_set(&call, &world_admin, METHOD_POST, "/v1/clients", "{\"name\":\"x\"}");
                call.work.request.now_s = WORLD_NOW_S + 1;
                world_run(world, &call, 1);
        }
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                (void)pages(world, cases[i].query, text, sizeof(text));
                if (strcmp(text, cases[i].seqs) != 0)
                        fail_msg("%s: %s", cases[i].query, text);
        }
}

/* A filter that hardly anything fits makes many short pages, not one long search. */
static void searches_are_bounded(void **state) {
        struct world *world = *state;
        char text[200];

        fill(world->store, 5001);
        assert_int_equal(pages(world, "actor=nobody", text, sizeof(text)), 3);
        assert_string_equal(text, "");
}

static void odd_queries_are_refused(void **state) {
        static const char *const targets[] = {
                "/v1/audit?since=yesterday", "/v1/audit?after=-1", "/v1/audit?after=1:2", "/v1/audit?limit=0",
                "/v1/audit?who=x", "/v1/audit?since=99999999999999999999", "/v1/audit/export?actor=x",
                "/v1/audit/verify?against=5", "/v1/audit/verify?against=5:00", "/v1/audit/verify?after=5:xx",
                "/v1/audit/verify?limit=x",
                "/v1/audit/verify?against=1:00000000000000000000000000000000000000000000000000000000000000000",
        };
        struct world *world = *state;

        for (size_t i = 0; i < N_ELEMENTS(targets); i++)
                if (get(world, targets[i]))
                        fail_msg("%s is answered", targets[i]);
}

/* Faults of all pages, and how many rows were looked at. */
static size_t verify_over_http(struct world *world, const char *query, int64_t *ret_rows) {
        char target[256], after[128] = "";
        size_t n_faults = 0;

        for (*ret_rows = 0; ; ) {
                const char *next;
                json_t *page;

                snprintf(target, sizeof(target), "/v1/audit/verify?%s%s%s", query, after[0] ? "&after=" : "", after);
                page = get(world, target);
                assert_non_null(page);
                *ret_rows += json_integer_value(json_object_get(page, "rows"));
                n_faults += json_array_size(json_object_get(page, "items"));
                next = json_string_value(json_object_get(page, "next"));
                snprintf(after, sizeof(after), "%s", next ? next : "");
                json_decref(page);
                if (!next)
                        return n_faults;
        }
}

static void verification_comes_in_pages(void **state) {
        char query[160] = "limit=2&against=5:", hex[65];
        struct world *world = *state;
        struct audit_mark head;
        int64_t n_rows;

        assert_int_equal(store_audit_head(world->store, &head), 0);
        assert_int_equal(head.seq, 5);
        assert_int_equal(verify_over_http(world, "limit=2", &n_rows), 0);
        assert_int_equal(n_rows, 5);
        bytes_to_hex(bytes_of(head.hash, 32), hex, sizeof(hex));
        strcat(query, hex);
        assert_int_equal(verify_over_http(world, query, &n_rows), 0);
        query[20] ^= 1;
        assert_int_equal(verify_over_http(world, query, &n_rows), 1);
        assert_int_equal(n_rows, 5);
        tamper(world->store, "UPDATE audit SET at_s = 7 WHERE seq = 4");
        assert_int_equal(verify_over_http(world, "limit=2", &n_rows), 1);
        assert_int_equal(n_rows, 3);
}

/* Nothing is done that cannot be audited. */
static void nothing_is_done_unaudited(void **state) {
        struct world *world = *state;
        int64_t n_tokens = count(world->store, "SELECT count(*) FROM tokens"),
                n_clients = count(world->store, "SELECT count(*) FROM clients");

        assert_int_equal(sqlite3_exec(world->store->db, "ALTER TABLE audit RENAME TO gone_away", NULL, NULL, NULL),
                         SQLITE_OK);
        world->store->audit.known = false;
        assert_int_equal(ask(world, &world->client, METHOD_POST, "/token", "{5: \"rs1\"}"), CODE_INTERNAL_ERROR);
        assert_int_equal(ask(world, &world_admin, METHOD_POST, "/v1/clients", "{\"name\":\"x\"}"),
                         CODE_INTERNAL_ERROR);
        assert_int_equal(ask(world, &world_admin, METHOD_GET, "/v1/backup", NULL), CODE_INTERNAL_ERROR);
        assert_int_equal(ask(world, &world->server, METHOD_POST, "/introspect", "{11: h'00'}"), CODE_CREATED);
        assert_int_equal(count(world->store, "SELECT count(*) FROM tokens"), n_tokens);
        assert_int_equal(count(world->store, "SELECT count(*) FROM clients"), n_clients);
        assert_int_equal(sqlite3_exec(world->store->db, "ALTER TABLE gone_away RENAME TO audit", NULL, NULL, NULL),
                         SQLITE_OK);
        assert_int_equal(ask(world, &world->client, METHOD_POST, "/token", "{5: \"rs1\"}"), CODE_CREATED);
        assert_int_equal(verify(world->store), 0);
}

#define WITH_ROWS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define WITH_PARTIES(test) cmocka_unit_test_setup_teardown(test, setup_filled, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                WITH_ROWS(hash_is_as_documented),
                WITH_ROWS(records_have_a_limit),
                WITH_ROWS(numbers_have_no_gaps),
                WITH_ROWS(steps_of_any_size_see_the_same),
                WITH_ROWS(changes_show),
                WITH_ROWS(every_bit_counts),
                WITH_ROWS(noted_hashes_show_what_the_chain_cannot),
                WITH_ROWS(others_are_stopped_by_triggers),
                cmocka_unit_test(no_statement_changes_rows),
                WITH_ROWS(rows_come_in_order),
                WITH_ROWS(since_is_found_by_halving),
                WITH_ROWS(old_rows_go_at_the_beginning),
                WITH_ROWS(rows_of_a_wrong_clock_do_not_stop_it),
                WITH_ROWS(walks_outlive_a_purge),
                WITH_ROWS(housekeeping_removes_what_is_configured),
                cmocka_unit_test(records_are_read_as_written),
                cmocka_unit_test(strange_records_are_refused),
                WITH_PARTIES(a_grant_is_told),
                WITH_PARTIES(a_refusal_is_told),
                WITH_PARTIES(rows_are_of_decisions_and_changes),
                cmocka_unit_test(all_changes_are_audited),
                WITH_PARTIES(secrets_are_hidden),
                WITH_PARTIES(objects_are_named),
                WITH_PARTIES(long_bodies_are_cut),
                cmocka_unit_test(members_are_known),
                WITH_PARTIES(lists_are_filtered),
                WITH_ROWS(searches_are_bounded),
                WITH_PARTIES(odd_queries_are_refused),
                WITH_PARTIES(verification_comes_in_pages),
                WITH_PARTIES(nothing_is_done_unaudited),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
