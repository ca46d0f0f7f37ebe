#include "endpoint/handlers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "crypto/certificate.h"
#include "crypto/pem.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/admin.h"
#include "store/as_keys.h"

#define OVERLAP_DEFAULT_S 86400 /* time for resource servers and clients to learn of a key before it is used */

_Static_assert(SPKI_SIZE_MAX <= ADMIN_SECRET_ANSWER_MAX, "a public key fits an answer");

static const char *role_name(enum as_key_role role) {
        return role == AS_KEY_DOOR ? "door" : "sign";
}

/* ---- keys → JSON */

struct key_list {
        json_t *items;
        int64_t now_s;
        enum as_key_role role; /* of the row before, its algorithm, and whether it is in force as far as is known */
        enum sign_alg alg;
        json_t *in_force;
};

/*
 * Rows of one role and algorithm come in order of time: in force is the last that is not of the future, or, when all
 * are, the first (as_keys.h).
 */
static const char *judge(struct key_list *list, const struct as_key *key, json_t *item) {
        bool is_first = key->role != list->role || key->alg != list->alg;

        list->role = key->role;
        list->alg = key->alg;
        if (!is_first && key->active_from_s > list->now_s)
                return "announced";
        if (!is_first && list->in_force && json_object_set_new(list->in_force, "state", json_string("retired")) != 0)
                return NULL;
        list->in_force = item;
        return "in force";
}

static json_t *key_json(const struct as_key *key) {
        uint8_t spki[SPKI_SIZE_MAX], thumbprint[THUMBPRINT_SIZE];
        size_t size;

        if (public_key_spki(&key->public_key, spki, &size) != 0 ||
            public_key_thumbprint(&key->public_key, thumbprint) != 0)
                return NULL;
        return json_pack("{s:I, s:s, s:s, s:s, s:o, s:o, s:o, s:I, s:I}", "id", (json_int_t)key->id, "role",
                         role_name(key->role), "alg", sign_alg_name(key->alg), "curve",
                         curve_name(key->public_key.curve), "kid_hex", admin_hex(bytes_of(key->kid, sizeof(key->kid))),
                         "thumbprint", admin_hex(bytes_of(thumbprint, sizeof(thumbprint))), "public_key_hex",
                         admin_hex(bytes_of(spki, size)), "active_from_s", (json_int_t)key->active_from_s,
                         "created_s", (json_int_t)key->created_s);
}

static int list_key(void *context, const struct as_key *key) {
        struct key_list *list = context;
        json_t *item = key_json(key);
        const char *state = item ? judge(list, key, item) : NULL;

        if (!state || json_object_set_new(item, "state", json_string(state)) != 0) {
                json_decref(item);
                return -ENOMEM;
        }
        return json_array_append_new(list->items, item) == 0 ? 0 : -ENOMEM;
}

int admin_keys_list(struct store *store, int64_t now_s, json_t **ret) {
        struct key_list list = { .items = json_array(), .now_s = now_s };
        int r = list.items ? store_as_key_each(store, list_key, &list) : -ENOMEM;

        if (r == 0)
                *ret = list.items;
        else
                json_decref(list.items);
        return r;
}

int admin_keys_get(struct aced *as, const struct request *request, struct response *response) {
        static const char *const no_queries[] = { NULL };
        json_t *items = NULL, *page;
        int r = admin_check_queries(request, response, no_queries);

        if (r != 0 || (r = admin_keys_list(as->store, request->now_s, &items)) != 0)
                return r;
        page = json_pack("{s:o, s:n}", "items", items, "next");
        return admin_reply(response, &page);
}

/* ---- one of them */

static int read_id(const struct request *request, struct response *response, int64_t *ret) {
        return admin_read_id(response, "key", request->segments[2], ret);
}

static int say_unknown(struct response *response, int64_t id) {
        response_why(response, "there is no key %lld: acectl key list shows those there are", (long long)id);
        return REFUSE_ADMIN_UNKNOWN;
}

int admin_key_get(struct aced *as, const struct request *request, struct response *response) {
        json_t *items = NULL, *found = NULL, *item;
        int64_t id = 0;
        size_t i;
        int r;

        if ((r = read_id(request, response, &id)) != 0 ||
            (r = admin_keys_list(as->store, request->now_s, &items)) != 0)
                return r;
        json_array_foreach(items, i, item)
                if (json_integer_value(json_object_get(item, "id")) == id)
                        found = json_incref(item);
        json_decref(items);
        return found ? admin_reply(response, &found) : say_unknown(response, id);
}

struct key_search {
        int64_t id;
        bool found;
        struct as_key *ret;
};

static int look_for_key(void *context, const struct as_key *key) {
        struct key_search *search = context;

        if (key->id != search->id)
                return 0;
        *search->ret = *key;
        search->found = true;
        return 0;
}

int admin_key_pem_get(struct aced *as, const struct request *request, struct response *response) {
        struct as_key key = {};
        struct key_search search = { .ret = &key };
        int r;

        if ((r = read_id(request, response, &search.id)) != 0 ||
            (r = store_as_key_each(as->store, look_for_key, &search)) != 0)
                return r;
        if (!search.found)
                return say_unknown(response, search.id);
        r = pem_put_public_key(&key.public_key, &response->payload);
        if (r == 0 && key.certificate_size > 0)
                r = certificate_put_pem(bytes_of(key.certificate, key.certificate_size), &response->payload);
        return r;
}

int admin_key_delete(struct aced *as, const struct request *request, struct response *response) {
        int64_t id = 0;
        int r = read_id(request, response, &id);

        if (r != 0)
                return r;
        r = store_as_key_delete(as->store, id, request->now_s);
        if (r == REFUSE_ADMIN_UNKNOWN)
                return say_unknown(response, id);
        if (r == REFUSE_ADMIN_CONFLICT)
                response_why(response, "key %lld is in force: rotate first, and wait until the new one is",
                             (long long)id);
        return r;
}

/* ---- rotation */

struct key_ask {
        const char *role, *alg;
        struct json_int overlap_s;
};

static const struct json_field key_fields[] = {
        ADMIN_FIELD(key_ask, role, TEXT),
        ADMIN_FIELD(key_ask, alg, TEXT),
        ADMIN_FIELD(key_ask, overlap_s, INT, .min = 0, .max = LIFETIME_MAX_S),
};

static int key_read(const struct request *request, struct response *response, struct as_key *ret,
                    int64_t *ret_overlap_s) {
        _cleanup_(json_document_done) struct json_document document = {};
        struct key_ask ask;
        int r = admin_read(request, response, key_fields, N_ELEMENTS(key_fields), &ask, &document);

        if (r != 0)
                return r;
        if (ask.role && strcmp(ask.role, "door") != 0 && strcmp(ask.role, "sign") != 0)
                return admin_refuse_value(response, "role", ask.role, "is no role of a key: door and sign are");
        ret->role = ask.role && strcmp(ask.role, "sign") == 0 ? AS_KEY_SIGN : AS_KEY_DOOR;
        ret->alg = ask.alg ? sign_alg_from_name(ask.alg) : SIGN_ES256;
        if (ret->alg == SIGN_NONE)
                return admin_refuse_value(response, "alg", ask.alg, "is none of ES256, ES384 and EdDSA");
        if (ret->role == AS_KEY_DOOR && ret->alg == SIGN_ES384)
                return admin_refuse_value(response, "alg", ask.alg, "is not for the DTLS door: ES256 and EdDSA are");
        *ret_overlap_s = ask.overlap_s.set ? ask.overlap_s.value : OVERLAP_DEFAULT_S;
        return 0;
}

/* The first of its role and algorithm replaces nothing, so there is nothing to wait for. */
static int active_from(struct store *store, const struct as_key *wanted, int64_t overlap_s, int64_t now_s,
                       int64_t *ret_s) {
        _cleanup_(as_key_done) struct as_key current = {};
        int r = store_as_key_current(store, wanted->role, wanted->alg, now_s, &current);

        *ret_s = r == 0 ? now_s + overlap_s : now_s;
        return r == REFUSE_ADMIN_UNKNOWN ? 0 : r;
}

int admin_keys_post(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(as_key_done) struct as_key key = {};
        struct as_key wanted = {};
        int64_t overlap_s = 0, from_s = 0;
        json_t *object;
        int r;

        if ((r = key_read(request, response, &wanted, &overlap_s)) != 0 ||
            (r = active_from(as->store, &wanted, overlap_s, request->now_s, &from_s)) != 0)
                return r;
        r = store_as_key_make(as->store, wanted.role, wanted.alg, bytes_text(as->config->issuer), from_s,
                              request->now_s, &key);
        if (r == REFUSE_ADMIN_CONFLICT)
                response_why(response, "there are %d keys, which is the most: delete those that are retired",
                             AS_KEYS_MAX);
        if (r != 0)
                return r;
        object = key_json(&key);
        if (object && json_object_set_new(object, "state",
                                          json_string(from_s > request->now_s ? "announced" : "in force")) != 0) {
                json_decref(object);
                object = NULL;
        }
        return admin_reply(response, &object);
}
