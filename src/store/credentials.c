#include "store/credentials.h"

#include <errno.h>

#include "crypto/hash.h"
#include "store/private.h"

_Static_assert(CREDENTIAL_PSK == 1 && CREDENTIAL_RPK == 2 && CREDENTIAL_X509 == 3, "kept in databases");
_Static_assert(CURVE_P256 == 1 && CURVE_P384 == 2 && CURVE_ED25519 == 3 && CURVE_X25519 == 4, "kept in databases");
_Static_assert(THUMBPRINT_SIZE == SHA256_SIZE && THUMBPRINT_SIZE <= IDENTITY_SIZE_MAX, "identity of a public key");

#define FIND_SECRET 8 /* columns of QUERY_CREDENTIAL_FIND after those of the credential */
#define FIND_SUSPENDED 9

/* ---- rows */

static bool curve_has_y(enum curve curve) {
        return curve == CURVE_P256 || curve == CURVE_P384;
}

void public_key_to_column(const struct public_key *key, uint8_t ret[static PUBLIC_SIZE_MAX], size_t *ret_size) {
        size_t size = curve_size(key->curve);

        ret[0] = (uint8_t)key->curve;
        memcpy(ret + 1, key->x, size);
        *ret_size = 1 + size;
        if (!curve_has_y(key->curve))
                return;
        memcpy(ret + 1 + size, key->y, size);
        *ret_size += size;
}

int public_key_from_column(struct bytes column, struct public_key *ret) {
        enum curve curve = column.size > 0 && column.data[0] < CURVES ? (enum curve)column.data[0] : CURVE_NONE;
        size_t size = curve_size(curve);

        if (size == 0 || column.size != 1 + size * (curve_has_y(curve) ? 2 : 1))
                return -EIO;
        *ret = (struct public_key){ .curve = curve };
        memcpy(ret->x, column.data + 1, size);
        if (curve_has_y(curve))
                memcpy(ret->y, column.data + 1 + size, size);
        return 0;
}

int credential_fingerprint(enum credential_kind kind, struct bytes column, uint8_t ret[static THUMBPRINT_SIZE]) {
        struct public_key key;
        int r;

        if (kind == CREDENTIAL_X509)
                return sha256(column, ret);
        r = public_key_from_column(column, &key);
        return r != 0 ? r : public_key_thumbprint(&key, ret);
}

static int public_from_row(struct query *query, struct credential *ret) {
        switch (ret->kind) {
        case CREDENTIAL_RPK:
                return public_key_from_column(row_bytes(query, 6), &ret->key);
        case CREDENTIAL_X509:
                return row_text(query, 6, ret->rule, sizeof(ret->rule));
        default:
                return 0;
        }
}

static int credential_from_row(struct query *query, struct credential *ret) {
        struct bytes identity = row_bytes(query, 4), kid = row_bytes(query, 7);

        if (identity.size > sizeof(ret->identity) || kid.size > sizeof(ret->kid))
                return -EIO;
        *ret = (struct credential){
                .id = row_int(query, 0),
                .kind = (enum credential_kind)row_int(query, 1),
                .client_id = row_int(query, 2), /* NULL reads as 0 */
                .server_id = row_int(query, 3),
                .identity_size = identity.size,
                .kid_size = kid.size,
                .created_s = row_int(query, 5),
        };
        if (identity.size > 0)
                memcpy(ret->identity, identity.data, identity.size);
        if (kid.size > 0)
                memcpy(ret->kid, kid.data, kid.size);
        return public_from_row(query, ret);
}

/* ---- registering */

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
                  struct bytes sealed, struct bytes public) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_CREDENTIAL_ADD, &q);

        if (r != 0)
                return r;
        credentials_touch(store);
        query_int(&q, 1, credential->id);
        query_int(&q, 2, credential->kind);
        query_int(&q, 3, credential->client_id);
        query_int(&q, 4, credential->server_id);
        query_blob(&q, 5, credential_identity(credential));
        query_blob(&q, 6, sealed);
        query_blob(&q, 7, bytes_of(mark, 32));
        query_int(&q, 8, credential->created_s);
        query_blob(&q, 9, public);
        query_blob(&q, 10, bytes_of(credential->kid, credential->kid_size));
        return query_run(&q);
}

static int draw_id(struct store *store, struct credential *credential) {
        uint64_t id;
        int r = store_number(store, NUMBER_ROW, &id);

        if (r == 0)
                credential->id = (int64_t)id;
        return r;
}

static int add_secret(struct store *store, struct credential *credential, const struct secret *secret,
                      bool *ret_same_secret) {
        uint8_t mark[32], sealed[SECRET_SIZE_MAX + SEALED_OVERHEAD];
        size_t sealed_size;
        int r;

        if ((r = store_secret_mark(store, secret_bytes(secret), mark)) != 0)
                return r;
        r = secret_is_free(store, mark, 0);
        if (r != 0) {
                *ret_same_secret = r == REFUSE_ADMIN_EXISTS;
                return r;
        }
        if ((r = draw_id(store, credential)) != 0 ||
            (r = seal_into(store, "credentials.secret", credential->id, secret_bytes(secret), sealed,
                           &sealed_size)) != 0)
                return r;
        return insert(store, credential, mark, bytes_of(sealed, sealed_size), BYTES_NONE);
}

static int identity_is_free(struct store *store, const struct credential *credential) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_CREDENTIAL_FIND, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, credential->kind);
        query_blob(&q, 2, credential_identity(credential));
        r = query_next(&q);
        return r == 0 ? REFUSE_ADMIN_EXISTS : query_end(r);
}

static int add_oscore(struct store *store, struct credential *credential, const struct secret *secret,
                      bool *ret_same_secret) {
        int r;

        if (!oscore_parameters_are_good(&credential->oscore))
                return -EINVAL; /* our bug: what is wrong with them has been said before */
        credential_oscore_identity(credential);
        if ((r = identity_is_free(store, credential)) != 0 || (r = oscore_is_free(store, credential)) != 0 ||
            (r = add_secret(store, credential, secret, ret_same_secret)) != 0)
                return r;
        return oscore_add(store, credential);
}

/* A second key of one curve for a server (AS-074), a second key with one kid for a client. */
struct key_conflict {
        const struct credential *credential;
        bool found;
};

static int look_for_conflict(void *context, const struct credential *other) {
        struct key_conflict *conflict = context;
        const struct credential *new = conflict->credential;

        if (other->kind != CREDENTIAL_RPK)
                return 0;
        if (new->server_id != 0)
                conflict->found |= other->key.curve == new->key.curve;
        else
                conflict->found |= new->kid_size > 0 && bytes_equal(bytes_of(other->kid, other->kid_size),
                                                                    bytes_of(new->kid, new->kid_size));
        return 0;
}

static int check_conflict(struct store *store, const struct credential *credential) {
        struct key_conflict conflict = { .credential = credential };
        int r;

        if (credential->kind != CREDENTIAL_RPK)
                return 0;
        r = store_credential_each(store, credential->client_id, credential->server_id, look_for_conflict, &conflict);
        return r != 0 ? r : conflict.found ? REFUSE_ADMIN_CONFLICT : 0;
}

/* What nobody keeps secret: the identity is made of it, and nothing is sealed. */
static int add_public(struct store *store, struct credential *credential) {
        uint8_t mark[32], column[PUBLIC_SIZE_MAX];
        struct bytes public = bytes_text(credential->rule);
        size_t size;
        int r;

        if (credential->kind == CREDENTIAL_RPK) {
                public_key_to_column(&credential->key, column, &size);
                public = bytes_of(column, size);
        }
        credential->identity_size = THUMBPRINT_SIZE;
        if ((r = credential_fingerprint(credential->kind, public, credential->identity)) != 0 ||
            (r = identity_is_free(store, credential)) != 0 || (r = check_conflict(store, credential)) != 0 ||
            (r = store_secret_mark(store, public, mark)) != 0 || (r = draw_id(store, credential)) != 0)
                return r;
        return insert(store, credential, mark, BYTES_NONE, public);
}

int store_credential_add(struct store *store, struct credential *credential, const struct secret *secret,
                         bool *ret_same_secret) {
        *ret_same_secret = false;
        if (credential->kind == CREDENTIAL_PSK)
                return add_secret(store, credential, secret, ret_same_secret);
        if (credential->kind == CREDENTIAL_OSCORE)
                return add_oscore(store, credential, secret, ret_same_secret);
        return add_public(store, credential);
}

int store_credential_delete(struct store *store, int64_t id, int64_t client_id, int64_t server_id) {
        _cleanup_(query_done) struct query q = {};
        int r;

        credentials_touch(store);
        if ((r = oscore_tell_gone(store, client_id, server_id, id)) != 0 ||
            (r = query_begin(store, QUERY_CREDENTIAL_DELETE, &q)) != 0)
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
                if ((r = credential_from_row(&q, &credential)) != 0 ||
                    (credential.kind == CREDENTIAL_OSCORE && (r = oscore_of_credential(store, &credential)) != 0) ||
                    (r = row(context, &credential)) != 0)
                        return r;
        return query_end(r);
}

/* ---- finding */

/* The statement stays at the row. REFUSE_SUSPENDED_CLIENT: of a party that is suspended. */
static int find(struct store *store, enum credential_kind kind, struct bytes identity, struct query *q,
                struct credential *ret) {
        int r;

        if (identity.size > IDENTITY_SIZE_MAX)
                return REFUSE_ADMIN_UNKNOWN;
        if ((r = query_begin(store, QUERY_CREDENTIAL_FIND, q)) != 0)
                return r;
        query_int(q, 1, kind);
        query_blob(q, 2, identity);
        if ((r = query_next(q)) != 0)
                return r;
        return row_int(q, FIND_SUSPENDED) != 0 ? REFUSE_SUSPENDED_CLIENT : credential_from_row(q, ret);
}

static int hide_suspended(int r) {
        return r == REFUSE_SUSPENDED_CLIENT ? REFUSE_ADMIN_UNKNOWN : r;
}

int store_psk_find(struct store *store, struct bytes identity, struct credential *ret, struct secret *ret_psk) {
        _cleanup_(query_done) struct query q = {};
        int r = find(store, CREDENTIAL_PSK, identity, &q, ret);

        return r != 0 ? hide_suspended(r) : row_secret(&q, FIND_SECRET, "credentials.secret", ret->id, ret_psk);
}

int store_rpk_find(struct store *store, const uint8_t thumbprint[static THUMBPRINT_SIZE], struct credential *ret) {
        _cleanup_(query_done) struct query q = {};

        return hide_suspended(find(store, CREDENTIAL_RPK, bytes_of(thumbprint, THUMBPRINT_SIZE), &q, ret));
}

int store_x509_find(struct store *store, struct bytes rule, struct credential *ret) {
        _cleanup_(query_done) struct query q = {};
        uint8_t identity[SHA256_SIZE];
        int r = sha256(rule, identity);

        return r != 0 ? r : find(store, CREDENTIAL_X509, bytes_of(identity, sizeof(identity)), &q, ret);
}

static int client_key_by_kid(struct store *store, int64_t client_id, struct bytes kid, struct credential *ret) {
        _cleanup_(query_done) struct query q = {};
        int r;

        if (kid.size == 0)
                return REFUSE_ADMIN_UNKNOWN;
        if ((r = query_begin(store, QUERY_CREDENTIAL_BY_KID, &q)) != 0)
                return r;
        query_int(&q, 1, client_id);
        query_blob(&q, 2, kid);
        r = query_next(&q);
        return r != 0 ? r : credential_from_row(&q, ret);
}

int store_client_key_find(struct store *store, int64_t client_id, const uint8_t *thumbprint, struct bytes kid,
                          struct credential *ret) {
        int r;

        if (!thumbprint)
                return client_key_by_kid(store, client_id, kid, ret);
        r = store_rpk_find(store, thumbprint, ret);
        return r == 0 && ret->client_id != client_id ? REFUSE_ADMIN_UNKNOWN : r;
}

struct key_search {
        enum curve curve;
        bool found;
        struct credential *ret;
};

static int look_for_key(void *context, const struct credential *credential) {
        struct key_search *search = context;

        if (credential->kind != CREDENTIAL_RPK || (search->found && credential->key.curve != search->curve))
                return 0;
        *search->ret = *credential; /* at most one of a curve: the first, then perhaps the one asked for */
        search->found = true;
        return 0;
}

int store_server_public_key(struct store *store, int64_t server_id, enum curve curve, struct credential *ret) {
        struct key_search search = { .curve = curve, .ret = ret };
        int r = store_credential_each(store, 0, server_id, look_for_key, &search);

        return r != 0 ? r : search.found ? 0 : REFUSE_ADMIN_UNKNOWN;
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
