#include "store/secrets.h"

#include "store/private.h"

int store_credential_secret(struct store *store, int64_t id, struct secret *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_CREDENTIAL_SECRET, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, id);
        r = query_next(&q);
        return r != 0 ? r : row_secret(&q, 0, "credentials.secret", id, ret);
}
