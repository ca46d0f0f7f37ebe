#include "endpoint/handlers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "crypto/key.h"
#include "domain/refusal.h"
#include "endpoint/admin.h"
#include "endpoint/admin_bulk.h"
#include "endpoint/admin_oscore.h"
#include "endpoint/refusal.h"
#include "format/cose.h"
#include "format/json.h"
#include "store/secrets.h"
#include "store/store.h"

#define ROWS_MAX 1000000            /* of one request */
#define REFUSED_MAX 1000            /* rows; whoever has more has the wrong file */
#define NUMBERS_PER_ROW 8           /* that one row draws at most: a party, its keys, its credentials */
#define RESULTS_SIZE_MAX ((size_t)512 * 1024 * 1024)
#define PUBLIC_KEY_GIVEN_MAX 256    /* bytes; a longer one the resource refuses */
#define POLICIES_LIMIT "limit=1000"
#define ALIVE_EVERY 256             /* rows, after which it is looked whether it is time to tell that we are alive */
#define ALIVE_US INT64_C(5000000)

enum result { RESULT_UNCHANGED, RESULT_CREATED, RESULT_CHANGED, RESULT_DELETED, RESULT_REFUSED, RESULTS };

static const char *const result_names[RESULTS] = {
        [RESULT_UNCHANGED] = "unchanged", [RESULT_CREATED] = "created", [RESULT_CHANGED] = "changed",
        [RESULT_DELETED] = "deleted",     [RESULT_REFUSED] = "refused",
};

struct apply {
        struct bulk bulk;
        bool dry_run, diff, each; /* diff: a dry run that tells what would change; each: good rows stay, bad ones not */
        uint64_t n_rows, n_results[RESULTS];
        struct buf *answer;
        int64_t alive_us; /* when we told that we are */

        /* of the row that we are in */
        json_t *told; /* its result as told */
        enum result result;
};

static void apply_done(struct apply *apply) {
        response_done(&apply->bulk.response);
        json_decref(apply->told);
}

/* ---- what differs */

static bool is_hex(const char *member) {
        size_t size = strlen(member);

        return size > 4 && strcmp(member + size - 4, "_hex") == 0;
}

static bool is_secret(const char *member) {
        static const char *const secrets[] = { "key_hex", "token_key_hex", "wrap_key_hex", "derivation_key_hex",
                                               "master_secret_hex", "record_hex" };

        for (size_t i = 0; i < N_ELEMENTS(secrets); i++)
                if (strcmp(member, secrets[i]) == 0)
                        return true;
        return false;
}

/* Is each of a in b? Both are arrays of strings, or the tokens of a text. */
static bool array_within(const json_t *a, const json_t *b) {
        json_t *item, *other;
        size_t i, j;

        json_array_foreach(a, i, item) {
                bool found = false;

                json_array_foreach(b, j, other)
                        found = found || json_equal(item, other);
                if (!found)
                        return false;
        }
        return true;
}

/* The order of a list means nothing; what is hexadecimal may be in capitals. */
static bool is_same(const char *member, const json_t *a, const json_t *b) {
        if (json_is_array(a) && json_is_array(b))
                return json_array_size(a) == json_array_size(b) && array_within(a, b) && array_within(b, a);
        if (is_hex(member) && json_is_string(a) && json_is_string(b))
                return strcasecmp(json_string_value(a), json_string_value(b)) == 0;
        return json_equal(a, b);
}

/* Note for a diff that a member goes from one value to another; NULL: none. Secrets are not told. */
static int note_change(struct apply *apply, const char *member, json_t *from, json_t *to) {
        json_t *changes = json_object_get(apply->told, "changes"), *change;

        if (!apply->diff)
                return 0;
        if (!changes) {
                changes = json_object();
                if (json_object_set_new(apply->told, "changes", changes) != 0)
                        return -ENOMEM;
        }
        change = is_secret(member) ? json_string("differs") :
                                     json_pack("{s:O?, s:O?}", "from", from, "to", to);
        return json_object_set_new(changes, member, change) == 0 ? 0 : -ENOMEM;
}

/* The better known result of a row that is about two things: a party and its credential. */
static void note_result(struct apply *apply, enum result result) {
        if (result == RESULT_UNCHANGED || apply->result == RESULT_CREATED)
                return;
        apply->result = result == RESULT_CREATED && apply->result == RESULT_CHANGED ? RESULT_CHANGED : result;
}

/* Something has been changed by the last call. */
static int changed(struct apply *apply, enum result result) {
        note_result(apply, result);
        return bulk_audit(&apply->bulk);
}

/* A key that aced made: told once, and not if it will not stay. */
static int note_key(struct apply *apply, const char *member, const json_t *answer, const json_t *given) {
        json_t *key = json_object_get(answer, member);

        if (!key || given || apply->dry_run)
                return 0;
        return json_object_set(apply->told, member, key) == 0 ? 0 : -ENOMEM;
}

/* ---- rows */

static int refuse_member(struct apply *apply, const char *member, const char *what) {
        response_why(&apply->bulk.response, "member \"%s\": %s", member, what);
        return REFUSE_ADMIN_VALUE;
}

/* A member that the row must have, taken out of it by the caller. */
static int read_text(struct apply *apply, const json_t *row, const char *member, const char **ret) {
        json_t *value = json_object_get(row, member);

        if (!value)
                return refuse_member(apply, member, "it is missing");
        if (!json_is_string(value) || json_string_length(value) == 0)
                return refuse_member(apply, member, "a string is expected");
        *ret = json_string_value(value);
        return 0;
}

/* "absent": what the row names is not to be there. The member goes. */
static int read_absent(struct apply *apply, json_t *row, bool *ret) {
        json_t *value = json_object_get(row, "absent");

        *ret = json_is_true(value);
        if (value && !json_is_boolean(value))
                return refuse_member(apply, "absent", "true or false is expected");
        json_object_del(row, "absent");
        return 0;
}

/*
 * Is the key that a row gives the one of an item that a resource lists? A row that gives none is content with what is
 * there; what is wrong with one the resource will say.
 */
static int secret_is_same(struct apply *apply, const json_t *given_hex,
                          int (*find)(struct store *store, int64_t id, struct secret *ret), const json_t *item,
                          bool *ret) {
        _cleanup_(secret_done) struct secret registered = {}, given = {};
        const char *hex = json_string_value(given_hex);
        int r;

        *ret = !given_hex;
        if (!hex || bytes_from_hex(hex, given.data, sizeof(given.data), &given.size) != 0)
                return 0;
        r = find(apply->bulk.as->store, json_integer_value(json_object_get(item, "id")), &registered);
        *ret = r == 0 && bytes_equal_ct(secret_bytes(&registered), secret_bytes(&given));
        return r == REFUSE_ADMIN_UNKNOWN ? 0 : r;
}

/* ---- credentials */

/* Move the members of a credential out of a party's row, into *ret; NULL: it has none. */
static int take_credential(json_t *row, json_t **ret) {
        _cleanup_(json_decrefp) json_t *credential = json_object();

        for (const char *const *member = bulk_credential_members; credential && *member; member++) {
                json_t *value = json_object_get(row, *member);

                if (value && (json_object_set(credential, strcmp(*member, ROW_CREDENTIAL) == 0 ? "kind" : *member,
                                              value) != 0 ||
                              json_object_del(row, *member) != 0))
                        return -ENOMEM;
        }
        if (!credential)
                return -ENOMEM;
        *ret = json_object_size(credential) > 0 ? TAKE_PTR(credential) : NULL;
        return 0;
}

static json_t *hex_of(struct bytes bytes) {
        char hex[2 * (IDENTITY_SIZE_MAX > SPKI_SIZE_MAX ? IDENTITY_SIZE_MAX : SPKI_SIZE_MAX) + 1];

        if (2 * bytes.size >= sizeof(hex))
                return NULL;
        bytes_to_hex(bytes, hex, sizeof(hex));
        return json_string(hex);
}

/* As its resource shows it, whichever form it was given in. NULL: it is none, or there is no memory. */
static json_t *public_key_shown(const char *given) {
        uint8_t bytes[PUBLIC_KEY_GIVEN_MAX], spki[SPKI_SIZE_MAX];
        struct cose_key key;
        size_t size;

        if (!given || bytes_from_hex(given, bytes, sizeof(bytes), &size) != 0 || size == 0)
                return NULL;
        if (public_key_from_spki(bytes_of(bytes, size), &key.public_key) == 0)
                return hex_of(bytes_of(bytes, size));
        if (cose_key_decode(bytes_of(bytes, size), &key) != 0 || public_key_spki(&key.public_key, spki, &size) != 0)
                return NULL;
        return hex_of(bytes_of(spki, size));
}

static json_t *rule_shown(const char *given) {
        char rule[CREDENTIAL_RULE_MAX + 1];

        return given && credential_rule_read(given, rule) ? json_string(rule) : NULL;
}

static const char *credential_kind(const json_t *credential) {
        const char *kind = json_string_value(json_object_get(credential, "kind"));

        return kind ? kind : json_object_get(credential, "public_key_hex") ? "rpk" :
               json_object_get(credential, "match") ? "x509" : oscore_row_is(credential) ? "oscore" : "psk";
}

/* The member that is its key. */
static const char *credential_secret(const json_t *credential) {
        return strcmp(credential_kind(credential), "oscore") == 0 ? "master_secret_hex" : "key_hex";
}

/*
 * By which member, with which value, a credential of its kind is known among those of its party. *ret_value NULL: by
 * nothing that is given, and the resource will say what is wrong.
 */
static const char *credential_key(const json_t *credential, const char *party, json_t **ret_value) {
        const char *kind = credential_kind(credential);
        const char *identity = json_string_value(json_object_get(credential, "identity"));

        if (strcmp(kind, "rpk") == 0) {
                *ret_value = public_key_shown(json_string_value(json_object_get(credential, "public_key_hex")));
                return "public_key_hex";
        }
        if (strcmp(kind, "x509") == 0) {
                *ret_value = rule_shown(json_string_value(json_object_get(credential, "match")));
                return "match";
        }
        *ret_value = json_object_get(credential, "identity_hex") ?
                             json_incref(json_object_get(credential, "identity_hex")) :
                             hex_of(bytes_text(identity ? identity : party));
        return "identity_hex";
}

/* The credential of the party that the row means, of a list; NULL. */
static json_t *credential_find(const json_t *list, const json_t *credential, const char *party) {
        bool is_context = strcmp(credential_kind(credential), "oscore") == 0;
        _cleanup_(json_decrefp) json_t *value = NULL;
        const char *member = is_context ? NULL : credential_key(credential, party, &value);
        json_t *item;
        size_t i;

        json_array_foreach(json_object_get(list, "items"), i, item)
                if (strcmp(credential_kind(credential), credential_kind(item)) == 0 &&
                    (is_context ? oscore_row_means(credential, item) :
                                  value && is_same(member, value, json_object_get(item, member))))
                        return item;
        return NULL;
}

static int credential_is_same(struct apply *apply, const json_t *credential, const json_t *item, bool *ret) {
        static const char *const members[] = { "kid_hex", "recipient_id_hex", "master_salt_hex", "alg", "hkdf",
                                               "renews" };
        const char *secret = credential_secret(credential);
        int r = secret_is_same(apply, json_object_get(credential, secret), store_credential_secret, item, ret);

        if (r == 0 && !*ret)
                r = note_change(apply, secret, NULL, NULL);
        for (size_t i = 0; i < N_ELEMENTS(members) && r == 0; i++) {
                json_t *value = json_object_get(credential, members[i]), *now = json_object_get(item, members[i]);

                if (!value || is_same(members[i], value, now))
                        continue;
                *ret = false;
                r = note_change(apply, members[i], now, value);
        }
        return r;
}

/*
 * A context that is there already, and is used elsewhere too: numbers that were used there when the row was written are
 * not used here. What was exported here comes back without any effect.
 */
static int raise_numbers(struct apply *apply, const json_t *credential) {
        json_t *value = json_object_get(credential, "sender_number");
        uint64_t number = (uint64_t)json_integer_value(value), next = 0;
        int r = json_is_integer(value) && number <= OSCORE_SENDER_NUMBER_MAX ?
                        store_oscore_next(apply->bulk.as->store, &next) : 0;

        if (r != 0 || next == 0 || number <= next + OSCORE_NUMBERS_APART)
                return r;
        return store_oscore_raise(apply->bulk.as->store, number);
}

static int credential_add(struct apply *apply, const struct bulk_party *party, const char *name, json_t *credential) {
        _cleanup_(json_decrefp) json_t *answer = NULL;
        int r = bulk_call(&apply->bulk, &(struct bulk_call){ party->credential_add, METHOD_POST,
                          .segments = { party->collection, name, "credentials" }, .body = credential }, &answer);

        if (r == 0)
                r = note_key(apply, "key_hex", answer, json_object_get(credential, "key_hex"));
        if (r == 0)
                r = note_key(apply, "record_hex", answer, json_object_get(credential, "master_secret_hex"));
        return r == 0 ? changed(apply, RESULT_CREATED) : r;
}

static int credential_remove(struct apply *apply, const struct bulk_party *party, const char *name,
                             const json_t *item) {
        _cleanup_(json_decrefp) json_t *answer = NULL;
        char id[24];
        int r;

        snprintf(id, sizeof(id), "%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(item, "id")));
        r = bulk_call(&apply->bulk, &(struct bulk_call){ party->credential_remove, METHOD_DELETE,
                      .segments = { party->collection, name, "credentials", id } }, &answer);
        return r == 0 ? changed(apply, RESULT_DELETED) : r;
}

/*
 * A credential is known by its identity, public key, rule or IDs: one that is there stays, unless it is given another
 * key; then sessions that it opened end, as the old one is gone.
 */
static int apply_credential(struct apply *apply, const struct bulk_party *party, const char *name, json_t *credential,
                            bool absent) {
        _cleanup_(json_decrefp) json_t *list = NULL;
        enum result before = apply->result;
        json_t *item;
        bool same;
        int r;

        if (before == RESULT_CREATED) /* it has none yet */
                return credential_add(apply, party, name, credential);
        r = bulk_call(&apply->bulk, &(struct bulk_call){ party->credential_list, METHOD_GET,
                          .segments = { party->collection, name, "credentials" } }, &list);

        if (r != 0)
                return r;
        item = credential_find(list, credential, name);
        if (absent)
                return item ? credential_remove(apply, party, name, item) : 0;
        if (!item)
                return credential_add(apply, party, name, credential);
        r = credential_is_same(apply, credential, item, &same);
        if (r != 0 || same)
                return r == 0 ? raise_numbers(apply, credential) : r;
        if ((r = credential_remove(apply, party, name, item)) != 0 ||
            (r = credential_add(apply, party, name, credential)) != 0)
                return r;
        apply->result = RESULT_CHANGED;
        return 0;
}

static int apply_credential_row(struct apply *apply, json_t *row) {
        bool is_server = json_object_get(row, bulk_servers.kind) != NULL;
        const struct bulk_party *party = is_server ? &bulk_servers : &bulk_clients;
        _cleanup_(json_decrefp) json_t *credential = NULL, *owner = NULL;
        const char *name = NULL;
        bool absent;
        int r;

        if ((r = read_text(apply, row, party->kind, &name)) != 0 || (r = read_absent(apply, row, &absent)) != 0)
                return r;
        owner = json_incref(json_object_get(row, party->kind));
        json_object_del(row, party->kind);
        if ((r = take_credential(row, &credential)) != 0)
                return r;
        if (!credential)
                return refuse_member(apply, ROW_CREDENTIAL,
                                     "psk, rpk, x509 or oscore is expected, or the members of one");
        if (json_object_size(row) > 0 && (r = json_object_update(credential, row)) != 0)
                return -ENOMEM; /* what no credential has: the resource will say so */
        return apply_credential(apply, party, name, credential, absent);
}

/* ---- clients and resource servers */

/* Keys that a change of format has made are told as those of a new server are. */
static int note_keys(struct apply *apply, const json_t *answer, const json_t *row) {
        static const char *const members[] = { "token_key_hex", "wrap_key_hex", "derivation_key_hex" };
        int r = 0;

        for (size_t i = 0; i < N_ELEMENTS(members) && r == 0; i++)
                r = note_key(apply, members[i], answer, json_object_get(row, members[i]));
        return r;
}

static int party_add(struct apply *apply, const struct bulk_party *party, json_t *row) {
        _cleanup_(json_decrefp) json_t *answer = NULL;
        int r = bulk_call(&apply->bulk, &(struct bulk_call){ party->add, METHOD_POST,
                          .segments = { party->collection }, .body = row }, &answer);

        if (r == 0)
                r = note_keys(apply, answer, row);
        return r == 0 ? changed(apply, RESULT_CREATED) : r;
}

/* Leave in the row what differs from what is there. */
static void keep_differing(json_t *row, const json_t *before) {
        const char *member;
        json_t *value;
        void *next;

        json_object_foreach_safe(row, next, member, value) {
                json_t *now = json_object_get(before, member);

                if (now && is_same(member, value, now))
                        json_object_del(row, member);
        }
}

/* What an equal text does not show, such as another order of scopes. */
static int compare_answers(struct apply *apply, const json_t *before, const json_t *after, bool *ret_differ) {
        const char *member;
        json_t *value;

        json_object_foreach((json_t *)after, member, value) {
                json_t *was = json_object_get(before, member);

                if (is_secret(member) || is_same(member, was, value))
                        continue;
                *ret_differ = true;
                if (note_change(apply, member, was, value) != 0)
                        return -ENOMEM;
        }
        return 0;
}

/* The item of a list of keys that is in force, or announced, for a role; NULL. */
static json_t *key_find(const json_t *keys, const char *role, const char *state) {
        json_t *item;
        size_t i;

        json_array_foreach(json_object_get(keys, "items"), i, item)
                if (strcmp(json_string_value(json_object_get(item, "role")), role) == 0 &&
                    strcmp(json_string_value(json_object_get(item, "state")), state) == 0)
                        return item;
        return NULL;
}

static bool kid_is_same(const json_t *given, const json_t *item) {
        return !given || is_same("kid_hex", given, json_object_get(item, "kid_hex"));
}

/* The key that a resource server has already, with its id and for its algorithm, goes from the row. */
static int forget_same_key(struct apply *apply, const char *name, json_t *row) {
        json_t *key = json_object_get(row, "token_key_hex"), *kid = json_object_get(row, "token_kid_hex"), *item;
        _cleanup_(json_decrefp) json_t *keys = NULL;
        bool same;
        int r;

        if (!key || json_object_get(row, "token_alg") || json_object_get(row, "token_format"))
                return 0;
        if ((r = bulk_server_keys(&apply->bulk, name, &keys)) != 0)
                return r;
        item = key_find(keys, "token", "in force");
        if (!item || !kid_is_same(kid, item))
                return 0;
        r = secret_is_same(apply, key, store_server_key_secret, item, &same);
        if (r == 0 && same) {
                json_object_del(row, "token_key_hex");
                json_object_del(row, "token_kid_hex");
        }
        return r;
}

static int party_change(struct apply *apply, const struct bulk_party *party, const char *name, json_t *row,
                        const json_t *before) {
        _cleanup_(json_decrefp) json_t *after = NULL, *kid = json_incref(json_object_get(row, "token_kid_hex"));
        bool differ;
        int r;

        keep_differing(row, before);
        if ((r = forget_same_key(apply, name, row)) != 0 || json_object_size(row) == 0)
                return r;
        differ = json_object_get(row, "token_key_hex") != NULL;
        if (differ && kid && json_object_set(row, "token_kid_hex", kid) != 0)
                return -ENOMEM; /* the id belongs to the key, be it the same as that of the one before */
        r = bulk_call(&apply->bulk, &(struct bulk_call){ party->change, METHOD_PATCH,
                      .segments = { party->collection, name }, .body = row }, &after);
        if (r == 0 && differ)
                r = note_change(apply, "token_key_hex", NULL, NULL);
        if (r == 0)
                r = compare_answers(apply, before, after, &differ);
        if (r == 0)
                r = note_keys(apply, after, row);
        return r == 0 && differ ? changed(apply, RESULT_CHANGED) : r;
}

static int party_remove(struct apply *apply, const struct bulk_party *party, const char *name) {
        _cleanup_(json_decrefp) json_t *answer = NULL;
        int r = bulk_call(&apply->bulk, &(struct bulk_call){ party->remove, METHOD_DELETE,
                          .segments = { party->collection, name } }, &answer);

        return r == 0 ? changed(apply, RESULT_DELETED) : r;
}

static int apply_party(struct apply *apply, const struct bulk_party *party, json_t *row) {
        _cleanup_(json_decrefp) json_t *before = NULL, *credential = NULL, *held = NULL;
        const char *name = NULL;
        bool absent;
        int found, r;

        if ((r = read_text(apply, row, "name", &name)) != 0 || (r = read_absent(apply, row, &absent)) != 0 ||
            (r = take_credential(row, &credential)) != 0)
                return r;
        held = json_incref(json_object_get(row, "name"));
        found = bulk_call(&apply->bulk, &(struct bulk_call){ party->show, METHOD_GET,
                          .segments = { party->collection, name } }, &before);
        if (found != 0 && found != REFUSE_ADMIN_UNKNOWN)
                return found;
        if (absent)
                return found == 0 ? party_remove(apply, party, name) : 0;
        if (found != 0) {
                r = party_add(apply, party, row);
        } else {
                json_object_del(row, "name");
                r = party_change(apply, party, name, row, before);
        }
        if (r == 0 && credential)
                r = apply_credential(apply, party, name, credential, false);
        if (found == 0 && apply->result != RESULT_UNCHANGED)
                apply->result = RESULT_CHANGED; /* the party, be it that its credential was created */
        return r;
}

static int apply_client_row(struct apply *apply, json_t *row) {
        return apply_party(apply, &bulk_clients, row);
}

static int apply_server_row(struct apply *apply, json_t *row) {
        return apply_party(apply, &bulk_servers, row);
}

/* ---- keys of resource servers, but for the one in force that a server's own row has */

static int key_item(struct apply *apply, const json_t *row, const char *server, json_t **ret_keys, json_t **ret_item) {
        const char *role = json_string_value(json_object_get(row, "role"));
        bool is_announced = json_integer_value(json_object_get(row, "active_from_s")) > apply->bulk.request.now_s, same;
        int r = bulk_server_keys(&apply->bulk, server, ret_keys);

        *ret_item = NULL;
        if (r != 0)
                return r;
        *ret_item = key_find(*ret_keys, role ? role : "token", is_announced ? "announced" : "in force");
        if (!*ret_item)
                return 0;
        r = secret_is_same(apply, json_object_get(row, "key_hex"), store_server_key_secret, *ret_item, &same);
        if (!same || !kid_is_same(json_object_get(row, "kid_hex"), *ret_item) ||
            (is_announced && !json_equal(json_object_get(row, "active_from_s"),
                                         json_object_get(*ret_item, "active_from_s"))))
                *ret_item = NULL;
        return r;
}

/* When a key is to be in force is told as an instant in a row, and as so many seconds from now to the resource. */
static int set_activation(struct apply *apply, json_t *row) {
        json_t *from = json_object_get(row, "active_from_s");
        json_int_t wait_s = json_integer_value(from) - apply->bulk.request.now_s;

        json_object_del(row, "active_from_s");
        if (wait_s <= 0)
                return 0;
        return json_object_set_new(row, "activate_in_s", json_integer(wait_s)) == 0 ? 0 : -ENOMEM;
}

static int apply_key_row(struct apply *apply, json_t *row) {
        _cleanup_(json_decrefp) json_t *keys = NULL, *answer = NULL, *held = NULL;
        const json_t *from = json_object_get(row, "active_from_s");
        const char *server = NULL;
        json_t *item;
        int r;

        if (from && !json_is_integer(from))
                return refuse_member(apply, "active_from_s", "an integer is expected");
        if ((r = read_text(apply, row, "server", &server)) != 0 ||
            (r = key_item(apply, row, server, &keys, &item)) != 0 || item)
                return r;
        held = json_incref(json_object_get(row, "server"));
        json_object_del(row, "server");
        if ((r = set_activation(apply, row)) != 0)
                return r;
        r = bulk_call(&apply->bulk, &(struct bulk_call){ admin_server_key_put, METHOD_PUT,
                      .segments = { "servers", server, "key" }, .body = row }, &answer);
        if (r == 0)
                r = note_key(apply, "key_hex", answer, json_object_get(row, "key_hex"));
        return r == 0 ? changed(apply, RESULT_CREATED) : r;
}

/* ---- policies */

/* The tokens of a text scope as an array, so that their order means nothing. */
static json_t *scope_tokens(const json_t *scope) {
        const char *at = json_string_value(scope);
        json_t *tokens = json_array();

        while (tokens && at && *at != '\0') {
                size_t size = strcspn(at, " ");

                if (size > 0 && json_array_append_new(tokens, json_stringn(at, size)) != 0) {
                        json_decref(tokens);
                        return NULL;
                }
                at += size;
                at += *at == ' ';
        }
        return tokens;
}

static bool scope_is_same(const json_t *a, const json_t *b) {
        _cleanup_(json_decrefp) json_t *a_tokens = scope_tokens(a), *b_tokens = scope_tokens(b);

        return a_tokens && b_tokens && array_within(a_tokens, b_tokens) && array_within(b_tokens, a_tokens);
}

/* What a member is when it is not given. */
static bool is_default(const char *member, const json_t *value) {
        if (json_is_string(value))
                return json_string_length(value) == 0 ||
                       (strcmp(member, "effect") == 0 && strcmp(json_string_value(value), "allow") == 0);
        return !json_is_true(value) && json_integer_value(value) == 0 && json_array_size(value) == 0;
}

/* Is the policy of a list what the row says? all: and nothing else, but for what the server adds. */
static bool policy_is(const json_t *item, const json_t *row, bool all) {
        const char *member;
        json_t *value;

        json_object_foreach((json_t *)row, member, value) {
                json_t *its = json_object_get(item, member);
                bool same = strcmp(member, "scope") == 0 ? scope_is_same(value, its) : is_same(member, value, its);

                if (!same && !(json_is_null(its) && is_default(member, value)))
                        return false;
        }
        json_object_foreach((json_t *)item, member, value)
                if (all && strcmp(member, "id") != 0 && strcmp(member, "created_s") != 0 &&
                    !json_object_get(row, member) && !is_default(member, value))
                        return false;
        return true;
}

/* The ids of policies for the row's subject at its audience that are as it says, as an array. */
static int policies_find(struct apply *apply, const json_t *row, bool all, json_t **ret) {
        const char *label = json_string_value(json_object_get(row, "label"));
        const char *client = json_string_value(json_object_get(row, "client"));
        const char *audience = json_string_value(json_object_get(row, "audience"));
        char subject_query[sizeof("client=") + NAME_SIZE_MAX], audience_query[sizeof("audience=") + AUDIENCE_SIZE_MAX];
        _cleanup_(json_decrefp) json_t *page = NULL, *ids = json_array();
        json_t *item;
        size_t i;
        int r;

        if (!ids)
                return -ENOMEM;
        snprintf(subject_query, sizeof(subject_query), "%s=%s", label ? "label" : "client",
                 label ? label : client ? client : "");
        snprintf(audience_query, sizeof(audience_query), "audience=%s", audience ? audience : "");
        r = bulk_call(&apply->bulk, &(struct bulk_call){ admin_policies_get, METHOD_GET, .segments = { "policies" },
                      .queries = { subject_query, audience_query, POLICIES_LIMIT } }, &page);
        json_array_foreach(json_object_get(page, "items"), i, item)
                if (r == 0 && policy_is(item, row, all) && json_array_append(ids, json_object_get(item, "id")) != 0)
                        r = -ENOMEM;
        if (r == 0)
                *ret = TAKE_PTR(ids);
        return r;
}

static int policies_remove(struct apply *apply, const json_t *ids) {
        json_t *value;
        size_t i;
        int r = 0;

        json_array_foreach(ids, i, value) {
                _cleanup_(json_decrefp) json_t *answer = NULL;
                char id[24];

                snprintf(id, sizeof(id), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
                r = bulk_call(&apply->bulk, &(struct bulk_call){ admin_policy_delete, METHOD_DELETE,
                              .segments = { "policies", id } }, &answer);
                if (r != 0 || (r = changed(apply, RESULT_DELETED)) != 0)
                        return r;
        }
        return 0;
}

/* It has ended before it was known here: there is nothing to allow or to deny. */
static bool policy_is_past(const struct apply *apply, const json_t *row) {
        json_int_t until_s = json_integer_value(json_object_get(row, "until_s"));

        return until_s > 0 && until_s <= apply->bulk.request.now_s;
}

static int policy_add(struct apply *apply, json_t *row) {
        _cleanup_(json_decrefp) json_t *answer = NULL;
        int r;

        if (policy_is_past(apply, row))
                return json_object_set_new(apply->told, "detail",
                                           json_string("it has ended: nothing is to be added")) == 0 ? 0 : -ENOMEM;
        r = bulk_call(&apply->bulk, &(struct bulk_call){ admin_policies_post, METHOD_POST, .segments = { "policies" },
                      .body = row }, &answer);
        if (r == REFUSE_ADMIN_EXISTS)
                return 0;
        return r == 0 ? changed(apply, RESULT_CREATED) : r;
}

/* A policy has no name: it is all that it says, and is there or not. */
static int apply_policy_row(struct apply *apply, json_t *row) {
        _cleanup_(json_decrefp) json_t *ids = NULL;
        const char *audience;
        bool absent;
        int r;

        if ((r = read_absent(apply, row, &absent)) != 0 || (r = read_text(apply, row, "audience", &audience)) != 0)
                return r;
        if (!json_object_get(row, "client") && !json_object_get(row, "label"))
                return refuse_member(apply, "client", "it is missing, and so is \"label\": one of the two is expected");
        r = policies_find(apply, row, !absent, &ids);
        if (r != 0)
                return r;
        if (absent)
                return policies_remove(apply, ids);
        return json_array_size(ids) > 0 ? 0 : policy_add(apply, row);
}

/* ---- one row */

static const struct {
        const char *kind;
        int (*apply)(struct apply *apply, json_t *row);
        const char *names[3]; /* the members by which its result calls it */
} kinds[] = {
        { "server", apply_server_row, { "name" } },
        { "key", apply_key_row, { "server", "role" } },
        { "client", apply_client_row, { "name" } },
        { "credential", apply_credential_row, { "client", "server" } },
        { "policy", apply_policy_row, { "client", "label", "audience" } },
};

static int dispatch(struct apply *apply, json_t *row) {
        const char *kind = NULL;
        int r = read_text(apply, row, ROW_KIND, &kind);

        if (r != 0)
                return r;
        for (size_t i = 0; i < N_ELEMENTS(kinds); i++) {
                if (strcmp(kinds[i].kind, kind) != 0)
                        continue;
                if (json_object_set(apply->told, ROW_KIND, json_object_get(row, ROW_KIND)) != 0)
                        return -ENOMEM;
                for (size_t j = 0; j < N_ELEMENTS(kinds[i].names) && kinds[i].names[j]; j++) {
                        json_t *name = json_object_get(row, kinds[i].names[j]);

                        if (json_is_string(name) && json_object_set(apply->told, kinds[i].names[j], name) != 0)
                                return -ENOMEM;
                }
                json_object_del(row, ROW_KIND);
                return kinds[i].apply(apply, row);
        }
        return refuse_member(apply, ROW_KIND, "client, server, credential, key or policy is expected");
}

static int read_row(struct apply *apply, struct bytes line) {
        _cleanup_(json_document_done) struct json_document document = {};
        _cleanup_(diags_done) struct diags faults = {};
        char text[sizeof(apply->bulk.response.why)];
        int r = json_parse(line, &document, &faults);

        if (r == 0 && json_is_object(document.root))
                return dispatch(apply, document.root);
        if (r == 0)
                response_why(&apply->bulk.response, "a JSON object is expected in each line");
        if (r > 0) {
                json_faults_line(&faults, text, sizeof(text));
                response_why(&apply->bulk.response, "%s", text);
        }
        return r < 0 ? r : REFUSE_ADMIN_SYNTAX;
}

/* What a refused row has done, in part, goes; the rows before it stay, for now at least. */
static int run_row(struct apply *apply, struct bytes line) {
        struct store *store = apply->bulk.as->store;
        int r, end;

        if (!apply->each)
                return read_row(apply, line);
        r = store_savepoint(store);
        if (r != 0)
                return r;
        r = read_row(apply, line);
        end = r == 0 ? store_savepoint_release(store) : store_savepoint_rollback(store);
        return end < 0 ? end : r;
}

/* Its result, a line of the answer. */
static int tell_row(struct apply *apply) {
        _cleanup_(buf_done) struct buf line = BUF_INIT(JSON_TEXT_MAX);
        int r = buf_add(&line, apply->n_rows > 1 ? BYTES_LITERAL(",\n") : BYTES_LITERAL("\n"));

        if (json_object_set_new(apply->told, "result", json_string(result_names[apply->result])) != 0)
                return -ENOMEM;
        if (r == 0)
                r = json_print(apply->told, &line);
        if (r == 0)
                r = buf_add_secret(apply->answer, buf_bytes(&line));
        if (line.data)
                wipe(line.data, line.capacity); /* a key may be in it */
        return r;
}

/* Those of a row that is refused will not stay. */
static void forget_keys(struct apply *apply) {
        const char *member;
        json_t *value;
        void *next;

        json_object_foreach_safe(apply->told, next, member, value)
                if (is_secret(member))
                        json_object_del(apply->told, member);
}

static int apply_row(struct apply *apply, struct bytes line, uint64_t n_line) {
        int r;

        json_decref(apply->told);
        apply->told = json_pack("{s:I}", "line", (json_int_t)n_line);
        apply->result = RESULT_UNCHANGED;
        if (!apply->told)
                return -ENOMEM;
        apply->n_rows++;
        apply->bulk.response.why[0] = '\0';
        r = run_row(apply, line);
        if (r < 0)
                return r;
        if (r > 0) {
                const char *why = apply->bulk.response.why;

                apply->result = RESULT_REFUSED;
                forget_keys(apply);
                if (json_object_set_new(apply->told, "error", json_string(refusal_row(r)->name)) != 0 ||
                    json_object_set_new(apply->told, "detail",
                                        json_string(why[0] != '\0' ? why : refusal_row(r)->text)) != 0)
                        return -ENOMEM;
        }
        apply->n_results[apply->result]++;
        return tell_row(apply);
}

/* ---- the request */

static bool is_blank(struct bytes line) {
        for (size_t i = 0; i < line.size; i++)
                if (line.data[i] != ' ' && line.data[i] != '\t' && line.data[i] != '\r')
                        return false;
        return true;
}

/* Seldom, as who listens may not always have time. */
static void tell_alive(struct apply *apply) {
        const struct aced *as = apply->bulk.as;
        int64_t now_us = as->alive && as->stopwatch_us ? as->stopwatch_us() : 0;

        if (apply->alive_us == 0)
                apply->alive_us = now_us;
        if (now_us - apply->alive_us < ALIVE_US)
                return;
        apply->alive_us = now_us;
        as->alive();
}

static int apply_rows(struct apply *apply, struct bytes rest) {
        for (uint64_t n_line = 1; rest.size > 0; n_line++) {
                const uint8_t *end = memchr(rest.data, '\n', rest.size);
                struct bytes line = bytes_of(rest.data, end ? (size_t)(end - rest.data) : rest.size);
                int r;

                rest = bytes_of(rest.data + line.size + (end != NULL), rest.size - line.size - (end != NULL));
                if (is_blank(line))
                        continue;
                r = apply_row(apply, line, n_line);
                if (r != 0 || apply->n_results[RESULT_REFUSED] >= REFUSED_MAX)
                        return r;
                if (apply->n_rows % ALIVE_EVERY == 0)
                        tell_alive(apply);
        }
        return 0;
}

static uint64_t count_rows(const struct request *request) {
        struct bytes rest = request->payload;
        uint64_t n = rest.size > 0;
        const uint8_t *end;

        while (rest.size > 0 && (end = memchr(rest.data, '\n', rest.size)) != NULL) {
                rest = bytes_of(end + 1, rest.size - (size_t)(end + 1 - rest.data));
                n += rest.size > 0;
        }
        return n;
}

uint64_t admin_apply_numbers(const struct request *request) {
        uint64_t n_rows = count_rows(request);

        return n_rows <= ROWS_MAX ? n_rows * NUMBERS_PER_ROW : 0;
}

static int read_flag(const struct request *request, struct response *response, const char *name, bool *ret) {
        struct bytes value = request_query(request, name);

        *ret = bytes_equal(value, BYTES_LITERAL("true"));
        if (!value.data || *ret || bytes_equal(value, BYTES_LITERAL("false")))
                return 0;
        response_why(response, "query parameter \"%s\": true or false is expected", name);
        return REFUSE_ADMIN_VALUE;
}

static int read_queries(const struct request *request, struct response *response, struct apply *apply) {
        static const char *const names[] = { "dry_run", "diff", "each", NULL };
        int r;

        if ((r = admin_check_queries(request, response, names)) != 0 ||
            (r = read_flag(request, response, "dry_run", &apply->dry_run)) != 0 ||
            (r = read_flag(request, response, "diff", &apply->diff)) != 0 ||
            (r = read_flag(request, response, "each", &apply->each)) != 0)
                return r;
        apply->dry_run = apply->dry_run || apply->diff;
        if (count_rows(request) <= ROWS_MAX)
                return 0;
        response_why(response, "these are more than %d lines: send them in several requests", ROWS_MAX);
        return REFUSE_TOO_LARGE;
}

/*
 * Nothing of it was. The request is alone in its transaction (router.h), which is given up as a whole: to undo hundreds
 * of thousands of changes one by one would need all the pages they are on in memory twice.
 */
static int undo_all(struct aced *as) {
        store_rollback(as->store);
        return store_begin(as->store);
}

static int reply(struct apply *apply, bool applied) {
        json_t *sums = json_pack("{s:b, s:I}", "applied", (int)applied, "rows", (json_int_t)apply->n_rows);
        _cleanup_(buf_done) struct buf text = BUF_INIT(ADMIN_SECRET_ANSWER_MAX);
        int r = sums ? 0 : -ENOMEM;

        for (enum result result = 0; result < RESULTS && r == 0; result++)
                r = json_object_set_new(sums, result_names[result], json_integer((json_int_t)apply->n_results[result]));
        if (r == 0)
                r = json_print(sums, &text);
        json_decref(sums);
        if (r == 0)
                r = buf_add_secret(apply->answer, BYTES_LITERAL("\n],"));
        if (r == 0)
                r = buf_add_secret(apply->answer, bytes_of(text.data + 1, text.size - 1)); /* behind its brace */
        return r;
}

static int run_all(struct apply *apply, struct bytes rows) {
        bool applied;
        int r;

        if ((r = buf_add_secret(apply->answer, BYTES_LITERAL("{\"items\":["))) != 0 ||
            (r = apply_rows(apply, rows)) != 0)
                return r;
        applied = !apply->dry_run && (apply->each || apply->n_results[RESULT_REFUSED] == 0);
        r = applied ? 0 : undo_all(apply->bulk.as);
        return r != 0 ? r : reply(apply, applied);
}

int admin_apply_post(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(apply_done) struct apply apply = { .answer = &response->payload };
        int r, undone;

        bulk_begin(&apply.bulk, as, request);
        apply.bulk.response.decision_id = response->decision_id;
        if ((r = read_queries(request, response, &apply)) != 0)
                return r;
        response->payload.limit = RESULTS_SIZE_MAX;
        r = run_all(&apply, request->payload);
        if (r == 0)
                return 0;
        /* what broke in the midst: the caller commits what it finds, for the sake of the row in the audit trail */
        undone = undo_all(as);
        return undone < 0 ? undone : r;
}
