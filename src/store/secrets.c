#include "store/secrets.h"

#include "store/private.h"

static int find(struct store *store, enum query_id query, const char *column, int64_t id, struct secret *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, query, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, id);
        r = query_next(&q);
        return r != 0 ? r : row_secret(&q, 0, column, id, ret);
}

int store_credential_secret(struct store *store, int64_t id, struct secret *ret) {
        return find(store, QUERY_CREDENTIAL_SECRET, "credentials.secret", id, ret);
}

int store_server_key_secret(struct store *store, int64_t id, struct secret *ret) {
        return find(store, QUERY_SERVER_KEY_SECRET, "server_keys.secret", id, ret);
}
