#include "store/credentials.h"

#include <errno.h>

#include "store/private.h"

_Static_assert(CREDENTIAL_PSK == 1, "kept in databases");

#define PSK_FIND_SECRET 6 /* columns of QUERY_PSK_FIND after those of the credential */
#define PSK_FIND_SUSPENDED 7

static int credential_from_row(struct query *query, struct credential *ret) {
        struct bytes identity = row_bytes(query, 4);

        if (identity.size > sizeof(ret->identity))
                return -EIO;
        ret->id = row_int(query, 0);
        ret->kind = (enum credential_kind)row_int(query, 1);
        ret->client_id = row_int(query, 2); /* NULL reads as 0 */
        ret->server_id = row_int(query, 3);
        if (identity.size > 0)
                memcpy(ret->identity, identity.data, identity.size);
        ret->identity_size = identity.size;
        ret->created_s = row_int(query, 5);
        return 0;
}

int secret_is_free(struct store *store, const uint8_t mark[static 32], int64_t server_id) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_SECRET_TAKEN, &q);

        if (r != 0)
                return r;
        query_blob(&q, 1, bytes_of(mark, 32));
        query_int(&q, 2, server_id);
        r = query_next(&q);
        return r == 0 ? REFUSE_ADMIN_EXISTS : query_end(r);
}

static int insert(struct store *store, const struct credential *credential, const uint8_t mark[static 32],
                  struct bytes sealed) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_CREDENTIAL_ADD, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, credential->id);
        query_int(&q, 2, credential->kind);
        query_int(&q, 3, credential->client_id);
        query_int(&q, 4, credential->server_id);
        query_blob(&q, 5, credential_identity(credential));
        query_blob(&q, 6, sealed);
        query_blob(&q, 7, bytes_of(mark, 32));
        query_int(&q, 8, credential->created_s);
        return query_run(&q);
}

int store_credential_add(struct store *store, struct credential *credential, const struct secret *secret,
                         bool *ret_same_secret) {
        uint8_t mark[32], sealed[SECRET_SIZE_MAX + SEALED_OVERHEAD];
        size_t sealed_size;
        uint64_t id;
        int r;

        *ret_same_secret = false;
        if ((r = store_secret_mark(store, secret_bytes(secret), mark)) != 0)
                return r;
        r = secret_is_free(store, mark, 0);
        if (r != 0) {
                *ret_same_secret = r == REFUSE_ADMIN_EXISTS;
                return r;
        }
        if ((r = store_number(store, NUMBER_ROW, &id)) != 0 ||
            (r = seal_into(store, "credentials.secret", (int64_t)id, secret_bytes(secret), sealed, &sealed_size)) != 0)
                return r;

        credential->id = (int64_t)id;
        return insert(store, credential, mark, bytes_of(sealed, sealed_size));
}

int store_credential_delete(struct store *store, int64_t id, int64_t client_id, int64_t server_id) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_CREDENTIAL_DELETE, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, id);
        query_int(&q, 2, client_id);
        query_int(&q, 3, server_id);
        r = query_run(&q);
        return r != 0 ? r : store_changed(store);
}

int store_credential_each(struct store *store, int64_t client_id, int64_t server_id,
                          int (*row)(void *context, const struct credential *credential), void *context) {
        _cleanup_(query_done) struct query q = {};
        struct credential credential;
        int r = query_begin(store, client_id != 0 ? QUERY_CREDENTIALS_OF_CLIENT : QUERY_CREDENTIALS_OF_SERVER, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, client_id != 0 ? client_id : server_id);
        while ((r = query_next(&q)) == 0)
                if ((r = credential_from_row(&q, &credential)) != 0 || (r = row(context, &credential)) != 0)
                        return r;
        return query_end(r);
}

int store_psk_find(struct store *store, struct bytes identity, struct credential *ret, struct secret *ret_psk) {
        _cleanup_(query_done) struct query q = {};
        int r;

        if (identity.size > IDENTITY_SIZE_MAX)
                return REFUSE_ADMIN_UNKNOWN;
        if ((r = query_begin(store, QUERY_PSK_FIND, &q)) != 0)
                return r;
        query_int(&q, 1, CREDENTIAL_PSK);
        query_blob(&q, 2, identity);
        if ((r = query_next(&q)) != 0)
                return r;
        if (row_int(&q, PSK_FIND_SUSPENDED) != 0)
                return REFUSE_ADMIN_UNKNOWN;

        r = credential_from_row(&q, ret);
        return r != 0 ? r : row_secret(&q, PSK_FIND_SECRET, "credentials.secret", ret->id, ret_psk);
}

int store_credential_by_id(struct store *store, int64_t id, struct credential *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_CREDENTIAL_BY_ID, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, id);
        r = query_next(&q);
        return r != 0 ? r : credential_from_row(&q, ret);
}
