#include "store/oscore.h"

#include <errno.h>

#include "store/private.h"

_Static_assert(CREDENTIAL_OSCORE == 4 && OSCORE_HKDF_SHA256 == 1 && OSCORE_HKDF_SHA512 == 2, "kept in databases");
_Static_assert(AEAD_AES_CCM_16_64_128 == 1 && AEAD_AES_CCM_16_128_128 == 2 && AEAD_A128GCM == 3 &&
               AEAD_A256GCM == 4 && AEAD_CHACHA20_POLY1305 == 5, "kept in databases");

enum { FOUND_ID, FOUND_CLIENT, FOUND_SERVER, FOUND_SECRET, FOUND_RENEWED, FOUND_PARAMETERS }; /* QUERY_OSCORE_FIND */

/* ---- rows */

static struct bytes id_bytes(const struct oscore_id *id) {
        return bytes_of(id->data, id->size);
}

static struct bytes registered_context(const struct oscore_parameters *oscore) {
        return oscore->has_id_context ? bytes_of(oscore->id_context, oscore->id_context_size) : BYTES_NONE;
}

static bool copy_column(struct query *query, int at, uint8_t *to, size_t size_max, size_t *ret_size) {
        struct bytes column = row_bytes(query, at);

        if (column.size > size_max || (column.size > 0 && !column.data))
                return false;
        if (column.size > 0)
                memcpy(to, column.data, column.size);
        *ret_size = column.size;
        return true;
}

int oscore_from_row(struct query *query, int at, struct oscore_parameters *ret) {
        *ret = (struct oscore_parameters){
                .has_id_context = !row_is_null(query, at + 2),
                .alg = (enum aead_alg)row_int(query, at + 3),
                .hkdf = (enum oscore_hkdf)row_int(query, at + 4),
                .renews = row_int(query, at + 6) != 0,
        };
        if (!copy_column(query, at, ret->recipient_id.data, sizeof(ret->recipient_id.data), &ret->recipient_id.size) ||
            !copy_column(query, at + 1, ret->sender_id.data, sizeof(ret->sender_id.data), &ret->sender_id.size) ||
            !copy_column(query, at + 2, ret->id_context, sizeof(ret->id_context), &ret->id_context_size) ||
            !copy_column(query, at + 5, ret->salt, sizeof(ret->salt), &ret->salt_size))
                return -EIO;
        return oscore_parameters_are_good(ret) ? 0 : -EIO; /* somebody changed the file */
}

int oscore_of_credential(struct store *store, struct credential *credential) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_OSCORE_OF_CREDENTIAL, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, credential->id);
        r = query_next(&q);
        return r < 0 ? r : r > 0 ? -EIO : oscore_from_row(&q, 0, &credential->oscore);
}

/* ---- registering */

int oscore_is_free(struct store *store, const struct credential *credential) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_OSCORE_OF_KID, &q);

        if (r != 0)
                return r;
        query_blob(&q, 1, id_bytes(&credential->oscore.recipient_id));
        query_optional(&q, 2, registered_context(&credential->oscore));
        r = query_next(&q);
        if (r != 0)
                return r < 0 ? r : -EIO;
        if (row_int(&q, 1) != 0)
                return REFUSE_ADMIN_EXISTS;
        return row_int(&q, 0) < OSCORE_CANDIDATES_MAX ? 0 : REFUSE_ADMIN_CONFLICT;
}

int oscore_add(struct store *store, const struct credential *credential) {
        const struct oscore_parameters *oscore = &credential->oscore;
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_OSCORE_ADD, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, credential->id);
        query_blob(&q, 2, id_bytes(&oscore->recipient_id));
        query_blob(&q, 3, id_bytes(&oscore->sender_id));
        query_optional(&q, 4, registered_context(oscore));
        query_int(&q, 5, oscore->alg);
        query_int(&q, 6, oscore->hkdf);
        query_blob(&q, 7, bytes_of(oscore->salt, oscore->salt_size));
        query_int(&q, 8, oscore->renews);
        return query_run(&q);
}

int store_oscore_count(struct store *store, struct bytes kid, int64_t *ret_n) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_OSCORE_OF_KID, &q);

        if (r != 0)
                return r;
        query_blob(&q, 1, kid);
        query_optional(&q, 2, BYTES_NONE);
        r = query_next(&q);
        if (r == 0)
                *ret_n = row_int(&q, 0);
        return r > 0 ? -EIO : r;
}

/* ---- finding */

static int found_from_row(struct query *query, struct oscore_credential *ret) {
        struct oscore_parameters *oscore = &ret->credential.oscore;
        int r = oscore_from_row(query, FOUND_PARAMETERS, oscore);

        if (r != 0)
                return r;
        ret->credential.id = row_int(query, FOUND_ID);
        ret->credential.kind = CREDENTIAL_OSCORE;
        ret->credential.client_id = row_int(query, FOUND_CLIENT);
        ret->credential.server_id = row_int(query, FOUND_SERVER);
        ret->has_id_context = oscore->has_id_context;
        ret->id_context_size = oscore->id_context_size;
        memcpy(ret->id_context, oscore->id_context, oscore->id_context_size);
        if (!row_is_null(query, FOUND_RENEWED)) {
                ret->has_id_context = true;
                if (!copy_column(query, FOUND_RENEWED, ret->id_context, sizeof(ret->id_context),
                                 &ret->id_context_size))
                        return -EIO;
        }
        return row_secret(query, FOUND_SECRET, "credentials.secret", ret->credential.id, &ret->master_secret);
}

static void oscore_credential_done(struct oscore_credential *found) {
        wipe(found, sizeof(*found));
}

int store_oscore_find(struct store *store, struct bytes kid,
                      int (*row)(void *context, const struct oscore_credential *found), void *context) {
        _cleanup_(oscore_credential_done) struct oscore_credential found = {};
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_OSCORE_FIND, &q);

        if (r != 0)
                return r;
        query_blob(&q, 1, kid);
        while ((r = query_next(&q)) == 0) {
                r = found_from_row(&q, &found);
                if (r == 0)
                        r = row(context, &found);
                oscore_credential_done(&found);
                if (r != 0)
                        return r;
        }
        return query_end(r);
}

/* ---- renewing */

static int context_is_free(struct store *store, int64_t credential_id, struct bytes id_context) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_OSCORE_TAKEN, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, credential_id);
        query_blob(&q, 2, id_context);
        r = query_next(&q);
        return r == 0 ? REFUSE_ADMIN_EXISTS : query_end(r);
}

static int set_context(struct store *store, int64_t credential_id, struct bytes id_context) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_OSCORE_RENEW, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, credential_id);
        query_blob(&q, 2, id_context);
        r = query_run(&q);
        return r != 0 ? r : store_changed(store);
}

int store_oscore_renew(struct store *store, int64_t credential_id, struct bytes id_context) {
        int r;

        if (id_context.size > OSCORE_ID_CONTEXT_SIZE_MAX)
                return REFUSE_ADMIN_VALUE;
        r = transaction_begin(store);
        if (r != 0)
                return r;
        if ((r = context_is_free(store, credential_id, id_context)) == 0)
                r = set_context(store, credential_id, id_context);
        r = transaction_end(store, r);
        if (r < 0)
                store->credentials_generation++; /* it may be on disk nevertheless */
        return r;
}

/* ---- our own numbers */

static int lease(struct store *store, uint64_t n, uint64_t *ret_first) {
        _cleanup_(query_done) struct query q = {};
        uint64_t end;
        int r = query_begin(store, QUERY_OSCORE_LEASE, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, (int64_t)n);
        query_int(&q, 2, (int64_t)(OSCORE_NUMBERS_END - n));
        r = query_next(&q);
        if (r != 0)
                return r < 0 ? r : REFUSE_OVERLOAD;
        end = (uint64_t)row_int(&q, 0);
        r = query_run(&q);
        if (r == 0)
                *ret_first = end - n;
        return r;
}

int store_oscore_lease(struct store *store, uint64_t n, uint64_t *ret_first) {
        uint64_t first = 0;
        int r;

        if (n > OSCORE_NUMBERS_END)
                return REFUSE_OVERLOAD;
        r = transaction_begin(store);
        if (r != 0)
                return r;
        r = transaction_end(store, lease(store, n, &first));
        if (r == 0)
                *ret_first = first;
        return r;
}

int store_oscore_next(struct store *store, uint64_t *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_OSCORE_NEXT, &q);

        if (r != 0)
                return r;
        r = query_next(&q);
        if (r == 0)
                *ret = (uint64_t)row_int(&q, 0);
        return r > 0 ? -EIO : r;
}

int store_oscore_raise(struct store *store, uint64_t number) {
        _cleanup_(query_done) struct query q = {};
        int r;

        if (number > OSCORE_NUMBERS_END)
                return REFUSE_ADMIN_VALUE;
        r = query_begin(store, QUERY_OSCORE_RAISE, &q);
        if (r != 0)
                return r;
        store->oscore_epoch++;
        query_int(&q, 1, (int64_t)number);
        return query_run(&q);
}

uint64_t store_oscore_epoch(const struct store *store) {
        return store->oscore_epoch;
}

/* ---- what was changed */

void store_oscore_listen(struct store *store, oscore_gone gone, void *context) {
        store->oscore_gone = gone;
        store->oscore_gone_context = context;
}

int oscore_tell_gone(struct store *store, int64_t client_id, int64_t server_id, int64_t credential_id) {
        _cleanup_(query_done) struct query q = {};
        int r;

        if (!store->oscore_gone)
                return 0;
        if ((r = query_begin(store, QUERY_OSCORE_OF_PARTY, &q)) != 0)
                return r;
        query_int(&q, 1, client_id);
        query_int(&q, 2, server_id);
        query_int(&q, 3, credential_id);
        while ((r = query_next(&q)) == 0)
                store->oscore_gone(store->oscore_gone_context, row_int(&q, 0), row_bytes(&q, 1));
        return query_end(r);
}

uint64_t store_credentials_generation(const struct store *store) {
        return store->credentials_generation;
}

void credentials_touch(struct store *store) {
        store->credentials_generation++;
        store->credentials_changed = true;
}
