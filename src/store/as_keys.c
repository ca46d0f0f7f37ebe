#include "store/as_keys.h"

#include <errno.h>
#include <stdio.h>

#include "crypto/certificate.h"
#include "store/private.h"

_Static_assert(AS_KEY_DOOR == 1 && AS_KEY_SIGN == 2, "kept in databases");
_Static_assert(SIGN_ES256 == 1 && SIGN_ES384 == 2 && SIGN_EDDSA == 3, "kept in databases");

#define CURRENT_SECRET 8 /* column of QUERY_AS_KEY_CURRENT after those of the key */

void as_key_done(struct as_key *key) {
        secret_done(&key->private_key);
}

uint64_t store_as_keys_generation(const struct store *store) {
        return store->as_keys_generation;
}

/* A change may be rolled back: then it counts once more. */
static void changed(struct store *store) {
        store->as_keys_generation++;
        store->as_keys_changed = true;
}

static int as_key_from_row(struct query *query, struct as_key *ret) {
        struct bytes kid = row_bytes(query, 3), certificate;

        if (kid.size != sizeof(ret->kid))
                return -EIO;
        memcpy(ret->kid, kid.data, kid.size);
        certificate = row_bytes(query, 5);
        if (certificate.size > sizeof(ret->certificate))
                return -EIO;
        if (certificate.size > 0)
                memcpy(ret->certificate, certificate.data, certificate.size);
        ret->certificate_size = certificate.size;
        ret->id = row_int(query, 0);
        ret->role = (enum as_key_role)row_int(query, 1);
        ret->alg = (enum sign_alg)row_int(query, 2);
        ret->active_from_s = row_int(query, 6);
        ret->created_s = row_int(query, 7);
        return public_key_from_column(row_bytes(query, 4), &ret->public_key);
}

/* ---- making */

/* What stands between "scheme://" and the port or path; an issuer need not be a URI. An address loses its brackets. */
static void issuer_host(struct bytes issuer, char ret[static CERTIFICATE_NAME_MAX + 1]) {
        const uint8_t *scheme = bytes_find(issuer, BYTES_LITERAL("://"));
        size_t start = scheme ? (size_t)(scheme - issuer.data) + 3 : 0, size = 0;
        const char *ends = "/:?#";

        if (start < issuer.size && issuer.data[start] == '[') {
                start++;
                ends = "]%";
        }
        while (start + size < issuer.size && size < CERTIFICATE_NAME_MAX && !strchr(ends, issuer.data[start + size]))
                size++;
        memcpy(ret, issuer.data + start, size);
        ret[size] = '\0';
}

static int make_certificate(struct as_key *key, struct bytes issuer, int64_t now_s) {
        char host[CERTIFICATE_NAME_MAX + 1];
        struct certificate_ask ask = { .curve = sign_curve(key->alg), .private_key = secret_bytes(&key->private_key),
                                       .host = host, .serial = key->id, .from_s = now_s };
        int r;

        if (key->role != AS_KEY_DOOR)
                return 0;
        issuer_host(issuer, host);
        r = certificate_make(&ask, key->certificate, sizeof(key->certificate), &key->certificate_size);
        if (r != -EINVAL)
                return r;
        host[0] = '\0'; /* an issuer that is neither a name nor an address, such as "AS": clients know the key itself */
        return certificate_make(&ask, key->certificate, sizeof(key->certificate), &key->certificate_size);
}

static int insert(struct store *store, const struct as_key *key) {
        uint8_t sealed[SECRET_SIZE_MAX + SEALED_OVERHEAD], public[PUBLIC_SIZE_MAX];
        _cleanup_(query_done) struct query q = {};
        size_t sealed_size, public_size;
        int r;

        if ((r = seal_into(store, "as_keys.secret", key->id, secret_bytes(&key->private_key), sealed,
                           &sealed_size)) != 0 ||
            (r = query_begin(store, QUERY_AS_KEY_ADD, &q)) != 0)
                return r;
        public_key_to_column(&key->public_key, public, &public_size);
        query_int(&q, 1, key->id);
        query_int(&q, 2, key->role);
        query_int(&q, 3, key->alg);
        query_blob(&q, 4, bytes_of(key->kid, sizeof(key->kid)));
        query_blob(&q, 5, bytes_of(public, public_size));
        query_blob(&q, 6, bytes_of(sealed, sealed_size));
        query_blob(&q, 7, bytes_of(key->certificate, key->certificate_size));
        query_int(&q, 8, key->active_from_s);
        query_int(&q, 9, key->created_s);
        return query_run(&q);
}

static int count(struct store *store, int64_t *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_AS_KEY_COUNT, &q);

        if (r == 0 && (r = query_next(&q)) == 0)
                *ret = row_int(&q, 0);
        return r;
}

int store_as_key_make(struct store *store, enum as_key_role role, enum sign_alg alg, struct bytes issuer,
                      int64_t active_from_s, int64_t now_s, struct as_key *ret) {
        uint64_t id = 0;
        int64_t n = 0;
        int r;

        *ret = (struct as_key){ .role = role, .alg = alg, .active_from_s = active_from_s, .created_s = now_s };
        if ((r = count(store, &n)) != 0)
                return r;
        if (n >= AS_KEYS_MAX)
                return REFUSE_ADMIN_CONFLICT;
        if ((r = store_number(store, NUMBER_ROW, &id)) != 0)
                return r;
        ret->id = (int64_t)id;
        for (size_t i = 0; i < sizeof(ret->kid); i++) /* ids do not come again, so neither do these */
                ret->kid[i] = (uint8_t)(id >> (8 * (sizeof(ret->kid) - 1 - i)));
        if ((r = key_generate(sign_curve(alg), &ret->public_key, &ret->private_key)) == 0 &&
            (r = make_certificate(ret, issuer, now_s)) == 0 && (r = insert(store, ret)) == 0)
                changed(store);
        if (r != 0)
                as_key_done(ret);
        return r;
}

int store_as_keys_ensure(struct store *store, struct bytes issuer, int64_t now_s, unsigned *ret_made) {
        static const struct {
                enum as_key_role role;
                enum sign_alg alg;
        } wanted[] = {
                { AS_KEY_DOOR, SIGN_ES256 }, { AS_KEY_DOOR, SIGN_EDDSA }, { AS_KEY_SIGN, SIGN_ES256 },
        };

        *ret_made = 0;
        for (size_t i = 0; i < N_ELEMENTS(wanted); i++) {
                _cleanup_(as_key_done) struct as_key key = {};
                int r = store_as_key_current(store, wanted[i].role, wanted[i].alg, now_s, &key);

                if (r == REFUSE_ADMIN_UNKNOWN) {
                        r = store_as_key_make(store, wanted[i].role, wanted[i].alg, issuer, 0, now_s, &key);
                        *ret_made += r == 0;
                }
                if (r != 0)
                        return r;
        }
        return 0;
}

int store_as_key_delete(struct store *store, int64_t id, int64_t now_s) {
        static const enum as_key_role roles[] = { AS_KEY_DOOR, AS_KEY_SIGN };
        int r;

        for (size_t i = 0; i < N_ELEMENTS(roles); i++)
                for (int alg = SIGN_NONE + 1; alg < SIGN_ALGS; alg++) {
                        _cleanup_(as_key_done) struct as_key key = {};

                        r = store_as_key_current(store, roles[i], (enum sign_alg)alg, now_s, &key);
                        if (r != 0 && r != REFUSE_ADMIN_UNKNOWN)
                                return r;
                        if (r == 0 && key.id == id)
                                return REFUSE_ADMIN_CONFLICT;
                }
        if ((r = query_about(store, QUERY_AS_KEY_DELETE, id)) != 0 || (r = store_changed(store)) != 0)
                return r;
        changed(store);
        return 0;
}

/* ---- finding */

int store_as_key_current(struct store *store, enum as_key_role role, enum sign_alg alg, int64_t now_s,
                         struct as_key *ret) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_AS_KEY_CURRENT, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, role);
        query_int(&q, 2, alg);
        query_int(&q, 3, now_s);
        if ((r = query_next(&q)) != 0 || (r = as_key_from_row(&q, ret)) != 0)
                return r;
        return row_secret(&q, CURRENT_SECRET, "as_keys.secret", ret->id, &ret->private_key);
}

int store_as_key_each(struct store *store, int (*row)(void *context, const struct as_key *key), void *context) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, QUERY_AS_KEYS, &q);

        if (r != 0)
                return r;
        while ((r = query_next(&q)) == 0) {
                struct as_key key = {};

                if ((r = as_key_from_row(&q, &key)) != 0 || (r = row(context, &key)) != 0)
                        return r;
        }
        return query_end(r);
}
