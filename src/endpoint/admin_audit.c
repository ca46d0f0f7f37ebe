#include "endpoint/handlers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "domain/token.h"
#include "endpoint/aced.h"
#include "endpoint/admin.h"
#include "format/audit.h"
#include "format/coap.h"
#include "store/audit.h"

#define SCAN_ROWS 2000      /* that one request with a filter looks at; some milliseconds */
#define VERIFY_ROWS 5000    /* likewise */
#define VERIFY_ROWS_MAX 50000
#define MARK_TEXT_SIZE (20 + 1 + 2 * AUDIT_HASH_SIZE + 1)

/* ---- what requests say */

/* A number of the query, when it is there. */
static int read_number(const struct request *request, struct response *response, const char *name, int64_t max,
                       int64_t *ret) {
        struct bytes text = request_query(request, name);

        return text.data ? admin_read_number(response, name, text, max, ret) : 0;
}

/* "SEQ:HASH" */
static int read_mark(const struct request *request, struct response *response, const char *name,
                     struct audit_mark *ret) {
        struct bytes text = request_query(request, name);
        char copy[MARK_TEXT_SIZE], hex[2 * AUDIT_HASH_SIZE + 1], end;
        size_t size;

        if (text.size < sizeof(copy) && text.size > 0 && text.data[0] >= '0' && text.data[0] <= '9') {
                memcpy(copy, text.data, text.size);
                copy[text.size] = '\0';
                if (sscanf(copy, "%18" SCNd64 ":%64[0-9a-fA-F]%c", &ret->seq, hex, &end) == 2 &&
                    bytes_from_hex(hex, ret->hash, sizeof(ret->hash), &size) == 0 && size == sizeof(ret->hash))
                        return 0;
        }
        response_why(response, "query parameter \"%s\": the number of a row, a colon, its hash in 64 hexadecimal "
                     "digits are expected, as acectl audit verify prints them", name);
        return REFUSE_ADMIN_VALUE;
}

static void mark_text(const struct audit_mark *mark, char text[static MARK_TEXT_SIZE]) {
        int n = snprintf(text, MARK_TEXT_SIZE, "%" PRId64 ":", mark->seq);

        bytes_to_hex(bytes_of(mark->hash, sizeof(mark->hash)), text + n, MARK_TEXT_SIZE - (size_t)n);
}

/* ---- a row as JSON */

static int put(json_t *object, const char *member, json_t *value) {
        return json_object_set_new(object, member, value) == 0 ? 0 : -ENOMEM; /* NULL is no memory */
}

static int put_text(json_t *object, const char *member, struct bytes text) {
        return text.size > 0 ? put(object, member, json_stringn((const char *)text.data, text.size)) : 0;
}

static int put_number(json_t *object, const char *member, int64_t value) {
        return value != 0 ? put(object, member, json_integer((json_int_t)value)) : 0;
}

static int put_scope(json_t *object, const char *member, enum scope_kind kind, struct bytes text) {
        struct scope scope;

        if (kind == SCOPE_NONE || scope_set(&scope, kind, text) != 0)
                return 0;
        return put(object, member, admin_scope(&scope));
}

/* null: with the policies that are only tried nothing would have been granted. */
static int put_shadow(json_t *object, const struct audit_record *record) {
        if (record->has_shadow && record->shadow_kind == SCOPE_NONE)
                return put(object, "shadow", json_null());
        return put_scope(object, "shadow", record->shadow_kind, record->shadow);
}

static int put_policies(json_t *object, const struct audit_record *record) {
        json_t *ids = record->n_policies > 0 ? json_array() : NULL;
        int r = 0;

        if (record->n_policies == 0)
                return 0;
        for (size_t i = 0; i < record->n_policies; i++)
                r |= json_array_append_new(ids, json_integer((json_int_t)record->policies[i]));
        if (r == 0)
                return put(object, "policies", ids);
        json_decref(ids);
        return -ENOMEM;
}

static int put_decision(json_t *object, const struct audit_record *record) {
        char text[DECISION_TEXT_SIZE];

        decision_text(record->decision, text);
        return put(object, "decision", json_string(text));
}

static int put_code(json_t *object, const struct audit_record *record) {
        char text[5];

        coap_code_text((uint8_t)record->code, text);
        return put(object, "code", json_string(text));
}

/* Who it was in one word, as it is asked for: a client's or resource server's name, else the peer's. */
static struct bytes actor_of(const struct audit_record *record) {
        return record->party.size > 0 ? record->party : record->peer;
}

static int put_record(json_t *object, const struct audit_record *record) {
        int r;

        if ((r = put_text(object, "actor", actor_of(record))) != 0 ||
            (r = put_text(object, "action", record->action)) != 0 ||
            (r = put_text(object, "object", record->object)) != 0 || (r = put_code(object, record)) != 0 ||
            (r = put_text(object, "refusal", record->refusal)) != 0 ||
            (r = put_text(object, "why", record->why)) != 0 ||
            (r = put_scope(object, "asked", record->asked_kind, record->asked)) != 0 ||
            (r = put_scope(object, "scope", record->granted_kind, record->granted)) != 0 ||
            (r = put_shadow(object, record)) != 0 ||
            (r = record->token != 0 ? put(object, "cti", admin_cti(record->token)) : 0) != 0 ||
            (r = put_number(object, "expires_s", record->expires_s)) != 0 ||
            (r = put_policies(object, record)) != 0 ||
            (r = put_number(object, "more_policies", (int64_t)record->n_more_policies)) != 0 ||
            (r = put_text(object, "body", record->body)) != 0 ||
            (r = record->is_cut ? put(object, "cut", json_true()) : 0) != 0 ||
            (r = put_text(object, "peer", record->peer)) != 0 ||
            (r = record->has_uid ? put(object, "uid", json_integer((json_int_t)record->uid)) : 0) != 0 ||
            (r = put_number(object, "credential", record->credential_id)) != 0)
                return r;
        return put_decision(object, record);
}

/* One that nobody can read is told, too: somebody has changed the database. */
static int row_json(const struct audit_row *row, const struct audit_record *record, bool with_record, json_t **ret) {
        char record_hex[2 * AUDIT_RECORD_MAX + 1], hash[2 * AUDIT_HASH_SIZE + 1];
        json_t *object;
        int r;

        bytes_to_hex(bytes_of(row->hash, sizeof(row->hash)), hash, sizeof(hash));
        object = json_pack("{s:I, s:I}", "seq", (json_int_t)row->seq, "at_s", (json_int_t)row->at_s);
        if (!object)
                return -ENOMEM;
        r = record ? put_record(object, record) : put(object, "unreadable", json_true());
        if (r == 0 && with_record && row->record.size <= AUDIT_RECORD_MAX) {
                bytes_to_hex(row->record, record_hex, sizeof(record_hex));
                r = put(object, "record_hex", json_string(record_hex));
        }
        if (r == 0)
                r = put(object, "hash", json_string(hash));
        if (r == 0)
                *ret = object;
        else
                json_decref(object);
        return r;
}

/* ---- lists */

struct audit_list {
        struct admin_list list;
        struct bytes actor, about; /* data NULL: any */
        bool with_records;
        int64_t n_seen, n_seen_max;
};

/* Is the text one of the path's segments? */
static bool names_segment(struct bytes action, struct bytes text) {
        const uint8_t *slash, *end = action.data + action.size;

        for (slash = memchr(action.data, '/', action.size); slash; ) {
                const uint8_t *next = memchr(slash + 1, '/', (size_t)(end - slash - 1));

                if (bytes_equal(bytes_of(slash + 1, (size_t)((next ? next : end) - slash - 1)), text))
                        return true;
                slash = next;
        }
        return false;
}

static bool is_about(const struct audit_record *record, struct bytes text) {
        uint8_t number[NUMBER_SIZE_MAX];
        char cti[2 * NUMBER_SIZE_MAX + 1];

        if (bytes_equal(record->party, text) || bytes_equal(record->object, text) ||
            names_segment(record->action, text))
                return true;
        bytes_to_hex(bytes_of(number, number_to_bytes(record->token, number)), cti, sizeof(cti));
        return record->token != 0 && bytes_equal(bytes_text(cti), text);
}

static bool matches(const struct audit_list *audit, const struct audit_record *record) {
        if (audit->actor.data && !bytes_equal(actor_of(record), audit->actor) &&
            !bytes_equal(record->peer, audit->actor))
                return false;
        return !audit->about.data || is_about(record, audit->about);
}

static int list_row(void *context, const struct audit_row *row) {
        struct audit_list *audit = context;
        struct audit_record record;
        bool readable, filtered = audit->actor.data || audit->about.data;
        json_t *item;
        char key[24];
        int r;

        if (audit->list.more)
                return 0;
        if (audit->n_seen == audit->n_seen_max || (int64_t)json_array_size(audit->list.items) == audit->list.limit) {
                audit->list.more = true;
                return 0;
        }
        audit->n_seen++;
        snprintf(key, sizeof(key), "%" PRId64, row->seq);
        admin_copy(audit->list.last, sizeof(audit->list.last), key);
        readable = audit_record_decode(row->record, &record) == 0;
        if (filtered && !(readable && matches(audit, &record)))
                return 0;
        r = row_json(row, readable ? &record : NULL, audit->with_records, &item);
        return r == 0 ? admin_list_add(&audit->list, item) : r;
}

static int list_rows(struct aced *as, const struct request *request, struct response *response,
                     struct audit_list *audit, int64_t *ret_after) {
        int64_t after = 0, since_s = 0, first = 0;
        int r;

        if ((r = read_number(request, response, "after", INT64_MAX / 10, &after)) != 0 ||
            (r = read_number(request, response, "since", INSTANT_MAX_S, &since_s)) != 0)
                return r;
        if (since_s > 0) {
                if ((r = store_audit_since(as->store, since_s, &first)) != 0)
                        return r;
                after = first == 0 ? INT64_MAX : first > after ? first - 1 : after;
        }
        audit->actor = request_query(request, "actor");
        audit->about = request_query(request, "about");
        audit->n_seen_max = audit->actor.data || audit->about.data ? SCAN_ROWS : audit->list.limit;
        *ret_after = after;
        return after < INT64_MAX ? store_audit_each(as->store, after, audit->n_seen_max + 1, list_row, audit) : 0;
}

int admin_audit_get(struct aced *as, const struct request *request, struct response *response) {
        struct audit_list audit = {};
        int64_t after;
        int r = admin_list_begin(&audit.list, request, response,
                                 (const char *const[]){ "since", "actor", "about", NULL });

        if (r == 0)
                r = list_rows(as, request, response, &audit, &after);
        if (r == 0)
                r = admin_list_reply(&audit.list, response);
        admin_list_done(&audit.list);
        return r;
}

/* ---- export */

struct found {
        int64_t seq;
        struct audit_mark mark;
};

static int find_row(void *context, const struct audit_row *row) {
        struct found *found = context;

        if (row->seq == found->seq) {
                found->mark.seq = row->seq;
                memcpy(found->mark.hash, row->hash, AUDIT_HASH_SIZE);
        }
        return 0;
}

/* What the first row behind `after` stands on. */
static int mark_before(struct aced *as, int64_t after, struct audit_mark *ret) {
        struct found found = { .seq = after };
        int r;

        if ((r = store_audit_start(as->store, ret)) != 0 || after <= ret->seq)
                return r;
        if ((r = after < INT64_MAX ? store_audit_each(as->store, after - 1, 1, find_row, &found) : 0) != 0)
                return r;
        if (found.mark.seq == 0)
                return store_audit_head(as->store, ret); /* behind the last row */
        *ret = found.mark;
        return 0;
}

/* A page as of a list, with what its first row's hash stands on. */
int admin_audit_export_get(struct aced *as, const struct request *request, struct response *response) {
        struct audit_list audit = { .with_records = true };
        struct audit_mark before;
        char text[MARK_TEXT_SIZE];
        json_t *page = NULL;
        int64_t after;
        int r = admin_list_begin(&audit.list, request, response, (const char *const[]){ "since", NULL });

        if (r == 0 && (r = list_rows(as, request, response, &audit, &after)) == 0 &&
            (r = mark_before(as, after, &before)) == 0) {
                mark_text(&before, text);
                page = json_pack("{s:s, s:O, s:s?}", "before", text, "items", audit.list.items, "next",
                                 audit.list.more ? audit.list.last : NULL);
                r = admin_reply(response, &page);
        }
        admin_list_done(&audit.list);
        return r;
}

/* ---- verify */

static int add_fault(json_t *items, int64_t seq, const char *what) {
        char text[192];

        snprintf(text, sizeof(text), "row %" PRId64 " %s", seq, what);
        return json_array_append_new(items, json_pack("{s:s}", "fault", text)) == 0 ? 0 : -ENOMEM;
}

/* What was noted elsewhere tells of a chain that was made anew as a whole. */
static int compare(struct aced *as, const struct request *request, struct response *response, json_t *items) {
        struct audit_mark noted;
        int r;

        if (!request_query(request, "against").data)
                return 0;
        if ((r = read_mark(request, response, "against", &noted)) != 0)
                return r;
        r = store_audit_compare(as->store, &noted);
        if (r == REFUSE_ADMIN_CONFLICT)
                return add_fault(items, noted.seq, "has another hash than was noted: it, or a row before it, was "
                                 "changed");
        if (r == REFUSE_ADMIN_UNKNOWN)
                return add_fault(items, noted.seq, "is not there: it is no longer kept, or the end was cut off");
        return r;
}

static int verify_step(struct aced *as, const struct request *request, struct response *response,
                       struct audit_place *place, json_t *items) {
        int64_t limit = VERIFY_ROWS;
        bool goes_on = request_query(request, "after").data;
        int r;

        if ((r = goes_on ? read_mark(request, response, "after", &place->last) : 0) != 0 ||
            (r = read_number(request, response, "limit", VERIFY_ROWS_MAX, &limit)) != 0 ||
            (r = goes_on ? 0 : compare(as, request, response, items)) != 0 ||
            (r = store_audit_verify(as->store, place, limit > 0 ? limit : 1)) != 0)
                return r;
        return place->bad_seq == 0 ? 0 :
               add_fault(items, place->bad_seq, "does not follow from the one before: it was changed, or rows "
                         "before it are missing");
}

int admin_audit_verify_get(struct aced *as, const struct request *request, struct response *response) {
        struct audit_place place = {};
        json_t *items, *page;
        char last[MARK_TEXT_SIZE];
        int r = admin_check_queries(request, response, (const char *const[]){ "after", "limit", "against", NULL });

        if (r != 0)
                return r;
        items = json_array();
        if (!items)
                return -ENOMEM;
        r = verify_step(as, request, response, &place, items);
        if (r == 0) {
                mark_text(&place.last, last);
                page = json_pack("{s:O, s:I, s:s, s:s?}", "items", items, "rows", (json_int_t)place.n_rows, "last",
                                 last, "next", place.done ? NULL : last);
                r = admin_reply(response, &page);
        }
        json_decref(items);
        return r;
}
