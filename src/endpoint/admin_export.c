#include "endpoint/handlers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "endpoint/admin.h"
#include "endpoint/admin_bulk.h"
#include "endpoint/admin_protection.h"
#include "format/json.h"
#include "store/oscore.h"
#include "store/secrets.h"
#include "store/servers.h"
#include "store/store.h"

#define EXPORT_LIMIT "limit=100"                   /* items read at once: a millisecond, some ten kilobytes */
#define EXPORT_PIECE_MAX ((size_t)8 * 1024 * 1024) /* of rows from so many items */
#define EXPORT_AFTER_SIZE (sizeof("after=") + NAME_SIZE_MAX)

/*
 * An export under way: rows of servers, then of clients, then of policies, each kind in the order of its list. It reads
 * a snapshot, page by page, as the answer leaves.
 */
struct export {
        struct response_stream stream;
        struct aced as; /* whose store is the snapshot */
        struct store *snapshot;
        struct peer peer;
        struct bulk bulk;
        bool with_keys;
        unsigned stage; /* a row of stages[] */
        char after[EXPORT_AFTER_SIZE]; /* "": from the first item on */
        struct buf rows;
        size_t n_taken; /* bytes of rows that have left */
};

static void export_free(struct export *export) {
        if (!export)
                return;
        response_done(&export->bulk.response);
        if (export->rows.data)
                wipe(export->rows.data, export->rows.capacity);
        buf_done(&export->rows);
        store_free(export->snapshot);
        free(export);
}

DEFINE_FREEP(struct export, export_free)

/* ---- rows */

/* Takes the row over; NULL is -ENOMEM. The rows may have keys: they move as a whole, and nothing stays behind. */
static int export_add(struct export *export, json_t *row) {
        _cleanup_(buf_done) struct buf line = BUF_INIT(EXPORT_PIECE_MAX);
        int r = row ? json_print(row, &line) : -ENOMEM;

        json_decref(row);
        if (r == 0)
                r = buf_add_byte(&line, '\n');
        if (r == 0)
                r = buf_add_secret(&export->rows, buf_bytes(&line));
        if (line.data)
                wipe(line.data, line.capacity);
        return r;
}

static bool is_given(const struct export *export, const char *kind, const char *member, const json_t *item) {
        bool is_psk = kind && strcmp(kind, "psk") == 0, has_text = json_is_string(json_object_get(item, "identity"));

        if (strncmp(member, "identity", strlen("identity")) == 0 && !is_psk)
                return false; /* made of the key, or of the rule */
        if (strcmp(member, "master_salt_hex") == 0)
                return export->with_keys; /* another secret, another salt */
        return strcmp(member, "identity_hex") != 0 || !has_text;
}

/* What makes this credential, of what a list tells; the identity once. */
static json_t *credential_row(const struct export *export, const struct bulk_party *party, const char *name,
                              const json_t *item) {
        const char *kind = json_string_value(json_object_get(item, "kind"));
        json_t *row = json_pack("{s:s, s:s, s:s}", ROW_KIND, ROW_CREDENTIAL, party->kind, name, ROW_CREDENTIAL,
                                kind ? kind : "");

        for (const char *const *member = bulk_credential_members; row && *member; member++) {
                json_t *value = json_object_get(item, *member);

                if (value && !json_is_null(value) && is_given(export, kind, *member, item) &&
                    json_object_set(row, *member, value) != 0) {
                        json_decref(row);
                        return NULL;
                }
        }
        return row;
}

/* Where it is registered too, numbers that we have used under it must not be used again. */
static int add_number(struct export *export, json_t *row) {
        uint64_t next = 0;
        int r = store_oscore_next(export->as.store, &next);

        if (r != 0)
                return r;
        return json_object_set_new(row, "sender_number", json_integer((json_int_t)(next + OSCORE_NUMBERS_APART))) == 0 ?
                       0 : -ENOMEM;
}

static int add_key(struct export *export, const json_t *item, json_t *row) {
        bool is_context = strcmp(json_string_value(json_object_get(item, "kind")), "oscore") == 0;
        const char *member = is_context ? "master_secret_hex" : "key_hex";
        _cleanup_(secret_done) struct secret secret = {};
        json_int_t id = json_integer_value(json_object_get(item, "id"));
        int r;

        if (!export->with_keys)
                return 0;
        r = store_credential_secret(export->as.store, id, &secret);
        if (r == 0)
                r = json_object_set_new(row, member, admin_hex(secret_bytes(&secret))) == 0 ? 0 : -ENOMEM;
        if (r == 0 && is_context)
                r = add_number(export, row);
        return r == REFUSE_ADMIN_UNKNOWN ? 0 : r; /* a public key or a rule */
}

/* A party's only credential stands in the party's own row, as in a spreadsheet; several have a row each. */
static int export_credentials(struct export *export, const struct bulk_party *party, json_t **party_row) {
        const char *name = json_string_value(json_object_get(*party_row, "name"));
        _cleanup_(json_decrefp) json_t *page = NULL, *rows = json_array();
        json_t *item, *row;
        size_t i;
        int r = bulk_call(&export->bulk, &(struct bulk_call){ party->credential_list, METHOD_GET,
                          .segments = { party->collection, name, "credentials" } }, &page);

        if (r != 0 || !rows)
                return r != 0 ? r : -ENOMEM;
        json_array_foreach(json_object_get(page, "items"), i, item) {
                row = credential_row(export, party, name, item);
                if (!row || json_array_append_new(rows, row) != 0)
                        return -ENOMEM;
                r = add_key(export, item, row);
                if (r != 0)
                        return r;
        }
        if (json_array_size(rows) == 1) {
                row = json_array_get(rows, 0);
                json_object_del(row, ROW_KIND);
                json_object_del(row, party->kind);
                return json_object_update(*party_row, row) == 0 ? export_add(export, TAKE_PTR(*party_row)) : -ENOMEM;
        }
        r = export_add(export, TAKE_PTR(*party_row));
        json_array_foreach(rows, i, row)
                if (r == 0)
                        r = export_add(export, json_incref(row));
        return r;
}

static int export_client(struct export *export, const json_t *item) {
        static const char *const left_out[] = { "created_s", NULL };
        _cleanup_(json_decrefp) json_t *row = bulk_row(bulk_clients.kind, item, left_out);

        return row ? export_credentials(export, &bulk_clients, &row) : -ENOMEM;
}

/* The key in force stands in the server's row; a row of its own has one of another role, or announced. */
static int export_key(struct export *export, const char *server, const json_t *item, json_t *server_row,
                      json_t *key_rows) {
        const char *state = json_string_value(json_object_get(item, "state"));
        const char *role = json_string_value(json_object_get(item, "role"));
        bool is_announced = strcmp(state, "announced") == 0;
        _cleanup_(secret_done) struct secret secret = {};
        json_t *row;
        int r;

        if (strcmp(state, "former") == 0)
                return 0;
        r = store_server_key_secret(export->as.store, json_integer_value(json_object_get(item, "id")), &secret);
        if (r != 0)
                return r;
        if (strcmp(role, "token") == 0 && !is_announced)
                return json_object_set_new(server_row, "token_key_hex", admin_hex(secret_bytes(&secret))) == 0 ? 0 :
                                                                                                                -ENOMEM;
        row = json_pack("{s:s, s:s, s:s, s:o, s:O}", ROW_KIND, "key", bulk_servers.kind, server, "role", role,
                        "key_hex", admin_hex(secret_bytes(&secret)), "kid_hex", json_object_get(item, "kid_hex"));
        if (row && is_announced)
                json_object_set(row, "active_from_s", json_object_get(item, "active_from_s"));
        return json_array_append_new(key_rows, row) == 0 ? 0 : -ENOMEM;
}

/* Those that its tokens need: what is left of another format is not carried along. */
static int export_keys(struct export *export, json_t *server_row, json_t *key_rows) {
        static const char *const roles[] = { [SERVER_KEY_TOKEN] = "token", [SERVER_KEY_DERIVATION] = "derivation",
                                             [SERVER_KEY_WRAP] = "wrap" };
        const char *name = json_string_value(json_object_get(server_row, "name"));
        _cleanup_(json_decrefp) json_t *keys = NULL;
        struct server server;
        json_t *item;
        size_t i;
        int r;

        if ((r = store_server_by_name(export->as.store, bytes_text(name), &server)) != 0)
                return r;
        if (!protection_needs(&server, SERVER_KEY_TOKEN))
                json_object_del(server_row, "token_kid_hex");
        if (!export->with_keys)
                return 0;
        r = bulk_server_keys(&export->bulk, name, &keys);
        json_array_foreach(json_object_get(keys, "items"), i, item)
                for (enum server_key_role role = SERVER_KEY_TOKEN; r == 0 && role < SERVER_KEY_ROLES; role++)
                        if (protection_needs(&server, role) &&
                            strcmp(roles[role], json_string_value(json_object_get(item, "role"))) == 0)
                                r = export_key(export, name, item, server_row, key_rows);
        return r;
}

static int export_server(struct export *export, const json_t *item) {
        static const char *const left_out[] = { "created_s", NULL };
        static const char *const not_empty[] = { "token_alg", "wrap_alg" }; /* where the format has none */
        _cleanup_(json_decrefp) json_t *row = bulk_row(bulk_servers.kind, item, left_out), *key_rows = json_array();
        json_t *key_row;
        size_t i;
        int r = row && key_rows ? export_keys(export, row, key_rows) : -ENOMEM;

        for (size_t n = 0; n < N_ELEMENTS(not_empty) && row; n++)
                if (json_string_length(json_object_get(row, not_empty[n])) == 0)
                        json_object_del(row, not_empty[n]);
        if (r == 0)
                r = export_credentials(export, &bulk_servers, &row);
        json_array_foreach(key_rows, i, key_row)
                if (r == 0)
                        r = export_add(export, json_incref(key_row));
        return r;
}

/* What is past allows nothing any more, and could not be registered. */
static int export_policy(struct export *export, const json_t *item) {
        static const char *const left_out[] = { "id", "created_s", NULL };
        json_int_t until_s = json_integer_value(json_object_get(item, "until_s"));

        if (until_s != 0 && until_s <= export->bulk.request.now_s)
                return 0;
        return export_add(export, bulk_row("policy", item, left_out));
}

/* ---- pages */

/* Servers first: policies are for their audiences. */
static const struct {
        const char *collection;
        bulk_handler list;
        int (*add)(struct export *export, const json_t *item);
} stages[] = {
        { "servers", admin_servers_get, export_server },
        { "clients", admin_clients_get, export_client },
        { "policies", admin_policies_get, export_policy },
};

/* One page more. False in *ret_more: that was all. */
static int export_page(struct export *export, bool *ret_more) {
        _cleanup_(json_decrefp) json_t *page = NULL;
        struct bulk_call call = { .method = METHOD_GET, .queries = { EXPORT_LIMIT } };
        const char *next;
        json_t *item;
        size_t i;
        int r;

        *ret_more = export->stage < N_ELEMENTS(stages);
        if (!*ret_more)
                return 0;
        call.handle = stages[export->stage].list;
        call.segments[0] = stages[export->stage].collection;
        call.queries[1] = export->after[0] != '\0' ? export->after : NULL;
        r = bulk_call(&export->bulk, &call, &page);
        json_array_foreach(json_object_get(page, "items"), i, item)
                if (r == 0)
                        r = stages[export->stage].add(export, item);
        next = json_string_value(json_object_get(page, "next"));
        if (next)
                snprintf(export->after, sizeof(export->after), "after=%s", next);
        else
                export->after[0] = '\0';
        export->stage += !next;
        return r;
}

/* ---- the answer */

static int export_next(struct response_stream *stream, uint8_t *data, size_t size, size_t *ret_size) {
        struct export *export = (struct export *)stream;
        bool more = true;
        int r = 0;

        while (r == 0 && more && export->n_taken == export->rows.size) {
                if (export->rows.data)
                        wipe(export->rows.data, export->rows.size);
                buf_clear(&export->rows);
                export->n_taken = 0;
                r = export_page(export, &more);
        }
        if (r != 0)
                return r < 0 ? r : -EIO; /* what was listed a moment ago is there: a snapshot does not change */
        *ret_size = export->rows.size - export->n_taken < size ? export->rows.size - export->n_taken : size;
        if (*ret_size > 0)
                memcpy(data, export->rows.data + export->n_taken, *ret_size);
        export->n_taken += *ret_size;
        return 0;
}

static void export_stream_free(struct response_stream *stream) {
        export_free((struct export *)stream);
}

static int export_begin(struct aced *as, const struct request *request, struct export **ret) {
        _cleanup_(export_freep) struct export *export = calloc(1, sizeof(*export));
        int r;

        if (!export)
                return -ENOMEM;
        export->as = *as;
        export->peer = *request->peer;
        export->rows = BUF_INIT(EXPORT_PIECE_MAX);
        bulk_begin(&export->bulk, &export->as, request);
        export->bulk.request.peer = &export->peer;
        r = store_snapshot(as->store, &export->snapshot);
        if (r == 0)
                export->as.store = export->snapshot;
        if (r != 0 && r != -EOPNOTSUPP)
                return r;
        *ret = TAKE_PTR(export);
        return 0;
}

/* In a database in memory nothing can be read beside what goes on: all at once. */
static int export_at_once(struct export *export, struct response *response) {
        bool more = true;
        int r = 0;

        while (r == 0 && more)
                r = export_page(export, &more);
        return r == 0 ? buf_add_secret(&response->payload, buf_bytes(&export->rows)) : r;
}

static int read_keys(const struct request *request, struct response *response, bool *ret) {
        struct bytes keys = request_query(request, "keys");
        int r = admin_check_queries(request, response, (const char *const[]){ "keys", NULL });

        *ret = bytes_equal(keys, BYTES_LITERAL("true"));
        if (r != 0 || !keys.data || *ret || bytes_equal(keys, BYTES_LITERAL("false")))
                return r;
        response_why(response, "query parameter \"keys\": true or false is expected");
        return REFUSE_ADMIN_VALUE;
}

int admin_export_get(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(export_freep) struct export *export = NULL;
        bool with_keys;
        int r;

        if ((r = read_keys(request, response, &with_keys)) != 0)
                return r;
        r = export_begin(as, request, &export);
        if (r == -EBUSY)
                response_why(response, "another export is under way: wait until it has ended");
        if (r != 0)
                return r;
        export->with_keys = with_keys;
        if (!export->snapshot)
                return export_at_once(export, response);
        export->stream = (struct response_stream){ .next = export_next, .free = export_stream_free };
        response->stream = &TAKE_PTR(export)->stream;
        return 0;
}
