#include "store/audit.h"

#include <errno.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "format/audit.h"
#include "store/private.h"

_Static_assert(AUDIT_HASH_SIZE == SHA256_SIZE, "the chain is of SHA-256");

#define NUMBER_SIZE 8
#define HEAD_SIZE (AUDIT_HASH_SIZE + 2 * NUMBER_SIZE) /* what is hashed in front of the record */
#define MARK_SIZE (NUMBER_SIZE + AUDIT_HASH_SIZE)

/* ---- the chain */

static void put_number(uint8_t ret[static NUMBER_SIZE], int64_t number) {
        for (size_t i = 0; i < NUMBER_SIZE; i++)
                ret[i] = (uint8_t)((uint64_t)number >> (8 * (NUMBER_SIZE - 1 - i)));
}

static int64_t get_number(const uint8_t data[static NUMBER_SIZE]) {
        uint64_t number = 0;

        for (size_t i = 0; i < NUMBER_SIZE; i++)
                number = number << 8 | data[i];
        return (int64_t)number;
}

static int hash_row(struct sha256 *sha256, const struct audit_row *row, const uint8_t before[static AUDIT_HASH_SIZE],
                    uint8_t ret[static AUDIT_HASH_SIZE]) {
        uint8_t data[HEAD_SIZE + AUDIT_RECORD_MAX];

        if (row->record.size > AUDIT_RECORD_MAX)
                return -EINVAL;
        memcpy(data, before, AUDIT_HASH_SIZE);
        put_number(data + AUDIT_HASH_SIZE, row->seq);
        put_number(data + AUDIT_HASH_SIZE + NUMBER_SIZE, row->at_s);
        if (row->record.size > 0)
                memcpy(data + HEAD_SIZE, row->record.data, row->record.size);
        return sha256_with(sha256, bytes_of(data, HEAD_SIZE + row->record.size), ret);
}

int audit_row_hash(const struct audit_row *row, const uint8_t before[static AUDIT_HASH_SIZE],
                   uint8_t ret[static AUDIT_HASH_SIZE]) {
        _cleanup_(sha256_freep) struct sha256 *sha256 = sha256_new();

        return sha256 ? hash_row(sha256, row, before, ret) : -ENOMEM;
}

/* One context for all rows of a store: to make one costs more than to use it. */
static int store_hash_row(struct store *store, const struct audit_row *row,
                          const uint8_t before[static AUDIT_HASH_SIZE], uint8_t ret[static AUDIT_HASH_SIZE]) {
        if (!store->audit.sha256 && !(store->audit.sha256 = sha256_new()))
                return -ENOMEM;
        return hash_row(store->audit.sha256, row, before, ret);
}

/* ---- both ends */

static int row_hash(struct query *query, int at, uint8_t ret[static AUDIT_HASH_SIZE]) {
        struct bytes hash = row_bytes(query, at);

        if (hash.size != AUDIT_HASH_SIZE)
                return -EIO;
        memcpy(ret, hash.data, AUDIT_HASH_SIZE);
        return 0;
}

int audit_mark_read(struct bytes value, struct audit_mark *ret) {
        if (value.size != MARK_SIZE)
                return -EIO;
        ret->seq = get_number(value.data);
        memcpy(ret->hash, value.data + NUMBER_SIZE, AUDIT_HASH_SIZE);
        return 0;
}

int store_audit_start(struct store *store, struct audit_mark *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_AUDIT_START_GET, &q);

        if (r != 0)
                return r;
        *ret = (struct audit_mark){};
        if ((r = query_next(&q)) != 0)
                return query_end(r);
        return audit_mark_read(row_bytes(&q, 0), ret);
}

static int set_start(struct store *store, const struct audit_mark *mark) {
        _cleanup_(query_done) struct query q = {};
        uint8_t value[MARK_SIZE];
        int r = query_begin(store, QUERY_AUDIT_START_SET, &q);

        if (r != 0)
                return r;
        put_number(value, mark->seq);
        memcpy(value + NUMBER_SIZE, mark->hash, AUDIT_HASH_SIZE);
        query_blob(&q, 1, bytes_of(value, sizeof(value)));
        return query_run(&q);
}

static int read_head(struct store *store, struct audit_mark *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_AUDIT_HEAD, &q);

        if (r != 0)
                return r;
        r = query_next(&q);
        if (r > 0)
                return store_audit_start(store, ret);
        if (r == 0) {
                ret->seq = row_int(&q, 0);
                r = row_hash(&q, 1, ret->hash);
        }
        return r;
}

int store_audit_head(struct store *store, struct audit_mark *ret) {
        int r = 0;

        if (!store->audit.known) {
                r = read_head(store, &store->audit.head);
                store->audit.known = r == 0;
        }
        if (r == 0)
                *ret = store->audit.head;
        return r;
}

int store_audit_add(struct store *store, int64_t at_s, struct bytes record, int64_t *ret_seq) {
        _cleanup_(query_done) struct query q = {};
        struct audit_row row = { .at_s = at_s, .record = record };
        struct audit_mark head;
        int r;

        if ((r = store_audit_head(store, &head)) != 0)
                return r;
        row.seq = head.seq + 1;
        if ((r = store_hash_row(store, &row, head.hash, row.hash)) != 0 ||
            (r = query_begin(store, QUERY_AUDIT_ADD, &q)) != 0)
                return r;
        query_int(&q, 1, row.seq);
        query_int(&q, 2, row.at_s);
        query_blob(&q, 3, row.record);
        query_blob(&q, 4, bytes_of(row.hash, AUDIT_HASH_SIZE));
        r = query_run(&q);
        store->audit.known = r == 0;
        if (r != 0)
                return r < 0 ? r : -EIO; /* somebody else has written rows */
        store->audit.head.seq = row.seq;
        memcpy(store->audit.head.hash, row.hash, AUDIT_HASH_SIZE);
        store->audit.added_in_savepoint = store->savepoint_wanted;
        *ret_seq = row.seq;
        return 0;
}

int store_audit_note(struct store *store, int64_t at_s, uint32_t uid, struct bytes action, struct bytes why) {
        const struct audit_record record = { .has_uid = true, .uid = uid, .action = action, .why = why };
        _cleanup_(buf_done) struct buf encoded = BUF_INIT(AUDIT_RECORD_MAX);
        int64_t seq;
        int r = audit_record_encode(&record, &encoded);

        return r == 0 ? store_audit_add(store, at_s, buf_bytes(&encoded), &seq) : r;
}

/* ---- reading */

static int read_row(struct query *query, struct audit_row *ret) {
        ret->seq = row_int(query, 0);
        ret->at_s = row_int(query, 1);
        ret->record = row_bytes(query, 2);
        return row_hash(query, 3, ret->hash);
}

int store_audit_each(struct store *store, int64_t after, int64_t limit,
                     int (*row)(void *context, const struct audit_row *row), void *context) {
        _cleanup_(query_done) struct query q = {};
        struct audit_row current;
        int r = query_begin(store, QUERY_AUDIT_EACH, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, after);
        query_int(&q, 2, limit);
        while ((r = query_next(&q)) == 0)
                if ((r = read_row(&q, &current)) != 0 || (r = row(context, &current)) != 0)
                        return r;
        return query_end(r);
}

/* Of the first row from seq on: its number (0: there is none) and time. */
static int look(struct store *store, int64_t seq, int64_t *ret_seq, int64_t *ret_at_s) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_AUDIT_FROM, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, seq);
        r = query_next(&q);
        *ret_seq = r == 0 ? row_int(&q, 0) : 0;
        *ret_at_s = r == 0 ? row_int(&q, 1) : 0;
        return query_end(r);
}

int store_audit_since(struct store *store, int64_t at_s, int64_t *ret_seq) {
        struct audit_mark head;
        int64_t low, high, seq, found_s;
        int r;

        *ret_seq = 0;
        if ((r = store_audit_head(store, &head)) != 0 || (r = look(store, INT64_MIN, &low, &found_s)) != 0 || low == 0)
                return r;
        /* the answer is among low … high; high is a row that is late enough, or one behind the last */
        for (high = head.seq + 1; low < high; ) {
                int64_t middle = low + (high - low) / 2;

                if ((r = look(store, middle, &seq, &found_s)) != 0)
                        return r;
                if (seq == 0 || found_s >= at_s)
                        high = middle;
                else
                        low = seq + 1;
        }
        *ret_seq = high <= head.seq ? high : 0;
        return 0;
}

/* ---- verifying */

/* Does the row under the query come next? What was not written by us may look like anything. */
static int fits(struct store *store, struct query *query, const struct audit_mark *last, bool *ret_fits,
                struct audit_mark *ret_mark) {
        struct bytes kept = row_bytes(query, 3);
        struct audit_row row = { .seq = row_int(query, 0), .at_s = row_int(query, 1), .record = row_bytes(query, 2) };
        int r;

        *ret_fits = false;
        ret_mark->seq = row.seq;
        if (row.seq != last->seq + 1 || row.record.size > AUDIT_RECORD_MAX)
                return 0;
        r = store_hash_row(store, &row, last->hash, ret_mark->hash);
        *ret_fits = r == 0 && bytes_equal(kept, bytes_of(ret_mark->hash, AUDIT_HASH_SIZE));
        return r;
}

int store_audit_verify(struct store *store, struct audit_place *place, int64_t limit) {
        _cleanup_(query_done) struct query q = {};
        struct audit_mark start, next;
        bool good = true;
        int64_t n = 0;
        int r = store_audit_start(store, &start);

        if (r != 0)
                return r;
        if (start.seq > place->last.seq) /* the beginning, or what came next has been removed since the last step */
                place->last = start;
        if ((r = query_begin(store, QUERY_AUDIT_EACH, &q)) != 0)
                return r;
        query_int(&q, 1, place->last.seq);
        query_int(&q, 2, limit);
        while (good && (r = query_next(&q)) == 0) {
                if ((r = fits(store, &q, &place->last, &good, &next)) != 0)
                        return r;
                if (good) {
                        place->last = next;
                        n++;
                } else {
                        place->bad_seq = next.seq;
                }
        }
        place->n_rows += n;
        place->done = !good || n < limit;
        return good ? query_end(r) : 0;
}

struct comparison {
        const struct audit_mark *mark;
        bool found, same;
};

static int compare_row(void *context, const struct audit_row *row) {
        struct comparison *comparison = context;

        comparison->found = row->seq == comparison->mark->seq;
        comparison->same = memcmp(row->hash, comparison->mark->hash, AUDIT_HASH_SIZE) == 0;
        return 0;
}

static int compare_start(struct store *store, const struct audit_mark *mark) {
        struct audit_mark start;
        int r = store_audit_start(store, &start);

        if (r != 0)
                return r;
        if (start.seq != mark->seq || start.seq == 0)
                return REFUSE_ADMIN_UNKNOWN;
        return memcmp(start.hash, mark->hash, AUDIT_HASH_SIZE) == 0 ? 0 : REFUSE_ADMIN_CONFLICT;
}

int store_audit_compare(struct store *store, const struct audit_mark *mark) {
        struct comparison comparison = { .mark = mark };
        int r = store_audit_each(store, mark->seq - 1, 1, compare_row, &comparison);

        if (r != 0)
                return r;
        if (!comparison.found) /* the last one removed is known, too */
                return compare_start(store, mark);
        return comparison.same ? 0 : REFUSE_ADMIN_CONFLICT;
}

/* ---- the end of keeping */

/* The last of the first rows that is old enough; seq 0: none is. */
static int last_old(struct store *store, int64_t before_s, int64_t limit, struct audit_mark *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_AUDIT_LAST_OLD, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, before_s);
        query_int(&q, 2, limit);
        *ret = (struct audit_mark){};
        if ((r = query_next(&q)) != 0)
                return query_end(r);
        ret->seq = row_int(&q, 0);
        return row_hash(&q, 1, ret->hash);
}

int store_audit_purge(struct store *store, int64_t before_s, int64_t limit, int64_t *ret_n) {
        struct audit_mark last;
        int r = last_old(store, before_s, limit, &last);

        *ret_n = 0;
        if (r != 0 || last.seq == 0)
                return r;
        if ((r = set_start(store, &last)) != 0 || (r = query_about(store, QUERY_AUDIT_PURGE, last.seq)) != 0)
                return r;
        *ret_n = sqlite3_changes64(store->db);
        return 0;
}
