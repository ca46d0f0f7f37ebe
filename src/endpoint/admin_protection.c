#include "endpoint/admin_protection.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "crypto/random.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/handlers.h"
#include "store/as_keys.h"

#define KID_SIZE_MAX (sizeof(((struct server_key *)NULL)->kid))
#define DERIVATION_KEY_SIZE 32 /* of one that we make */
#define DERIVATION_KEY_MIN 16

static const char *const formats[] = {
        [TOKEN_FORMAT_ENCRYPT0] = "encrypt0",         [TOKEN_FORMAT_MAC0] = "mac0",
        [TOKEN_FORMAT_SIGN1] = "sign1",               [TOKEN_FORMAT_SIGN_ENCRYPT] = "sign-encrypt",
        [TOKEN_FORMAT_OPAQUE] = "opaque",
};

static const char *const roles[] = {
        [SERVER_KEY_TOKEN] = "token", [SERVER_KEY_DERIVATION] = "derivation", [SERVER_KEY_WRAP] = "wrap",
};

#define SYMMETRIC_NAME "symmetric"

/* The index of a name in a table whose first row is none; 0: it is not there. */
static int find_name(const char *const *names, size_t n_names, const char *name) {
        for (size_t i = 1; i < n_names; i++)
                if (strcmp(names[i], name) == 0)
                        return (int)i;
        return 0;
}

static bool is_signed(const struct server *server) {
        return server->token_format == TOKEN_FORMAT_SIGN1 || server->token_format == TOKEN_FORMAT_SIGN_ENCRYPT;
}

static bool puts_keys_in_tokens(const struct server *server) {
        return (server->pop_keys & POP_KEY_SYMMETRIC) && !server->derives_key;
}

/* ---- members → server */

static int read_format(const struct protection_ask *ask, struct response *response, struct server *server) {
        int format;

        if (!ask->token_format)
                return 0;
        format = find_name(formats, N_ELEMENTS(formats), ask->token_format);
        if (format == 0)
                return admin_refuse_value(response, "token_format", ask->token_format, "is no format of tokens: "
                                          "encrypt0, mac0, sign1, sign-encrypt and opaque are");
        server->token_format = (enum token_format)format;
        if (server->token_format == TOKEN_FORMAT_MAC0 && server->mac_alg == MAC_NONE)
                server->mac_alg = MAC_HMAC_256_256;
        return 0;
}

/* token_alg is what protects the tokens: it has to fit their format. */
static int read_algs(const struct protection_ask *ask, struct response *response, struct server *server) {
        bool is_mac = server->token_format == TOKEN_FORMAT_MAC0;
        int r = 0;

        if (ask->wrap_alg && !is_mac)
                return admin_refuse_value(response, "wrap_alg", ask->wrap_alg, "is for tokens of format mac0 only: "
                                          "set token_alg");
        if (ask->wrap_alg && (r = admin_read_aead(response, "wrap_alg", ask->wrap_alg, &server->token_alg)) != 0)
                return r;
        if (!ask->token_alg)
                return 0;
        if (server->token_format == TOKEN_FORMAT_OPAQUE)
                return admin_refuse_value(response, "token_alg", ask->token_alg, "protects nothing in opaque tokens");
        if (!is_mac)
                return admin_read_aead(response, "token_alg", ask->token_alg, &server->token_alg);
        server->mac_alg = mac_alg_from_name(ask->token_alg);
        return server->mac_alg != MAC_NONE ? 0 :
               admin_refuse_value(response, "token_alg", ask->token_alg, "is no algorithm for tokens of format mac0: "
                                  "HMAC-256-256 and HMAC-256-64 are");
}

static int read_sign_alg(const struct protection_ask *ask, struct response *response, struct server *server) {
        if (!ask->sign_alg)
                return 0;
        server->sign_alg = sign_alg_from_name(ask->sign_alg);
        return server->sign_alg != SIGN_NONE ? 0 :
               admin_refuse_value(response, "sign_alg", ask->sign_alg, "is no algorithm that signs: ES256, ES384 and "
                                  "EdDSA are");
}

static int read_pop_keys(const struct protection_ask *ask, struct response *response, struct server *server) {
        pop_key_set keys = 0;

        if (!ask->pop_keys.set)
                return 0;
        for (size_t i = 0; i < ask->pop_keys.n_items; i++) {
                const char *name = ask->pop_keys.items[i];
                enum curve curve = curve_from_name(name);

                if (curve == CURVE_NONE && strcmp(name, SYMMETRIC_NAME) != 0)
                        return admin_refuse_value(response, "pop_keys", name, "is no kind of key: symmetric, P-256, "
                                                  "P-384, Ed25519 and X25519 are");
                keys |= curve == CURVE_NONE ? POP_KEY_SYMMETRIC : POP_KEY_BIT(curve);
        }
        if (keys == 0) {
                response_why(response, "member \"pop_keys\": at least one is expected, such as symmetric");
                return REFUSE_ADMIN_VALUE;
        }
        server->pop_keys = keys;
        return 0;
}

/* ---- what goes together */

static int refuse(struct response *response, const char *why) {
        response_why(response, "%s", why);
        return REFUSE_ADMIN_VALUE;
}

/* AS-103: the key is named in a token that says more than a reference does, and there has to be one. */
static int check_derivation(const struct server *server, struct response *response) {
        if (!server->derives_key)
                return 0;
        if (!(server->pop_keys & POP_KEY_SYMMETRIC))
                return refuse(response, "member \"derives_key\": only symmetric keys are derived: put symmetric among "
                              "pop_keys");
        if (server->token_format == TOKEN_FORMAT_OPAQUE)
                return refuse(response, "member \"derives_key\": an opaque token names no key to derive (RFC 9202 "
                              "section 3.3.1): choose another token_format");
        return 0;
}

/* AS-176: the server takes a sequence number as expired when a later one is; so all have to live equally long. */
static int check_clock(const struct server *server, struct response *response) {
        if (server->has_clock)
                return 0;
        if (server->default_lifetime_s == 0 ||
            (server->max_lifetime_s != 0 && server->max_lifetime_s != server->default_lifetime_s))
                return refuse(response, "member \"has_clock\": tokens for a resource server without a clock all live "
                              "equally long (RFC 9200 section 5.10.3): set default_lifetime_s, and max_lifetime_s to "
                              "the same or 0");
        return 0;
}

/* RFC 9770 §3: what is in the revocation list is known by the hash of its bytes, of which there must be one form. */
static int apply_trl(const struct protection_ask *ask, struct response *response, struct server *server) {
        if (ask->trl.set)
                server->has_trl = ask->trl.value;
        if (server->has_trl && ask->token_tagged.set && !ask->token_tagged.value)
                return refuse(response, "member \"token_tagged\": tokens that may be in the revocation list have their "
                              "tags (RFC 9770 section 3): leave trl away, or token_tagged");
        if (server->has_trl)
                server->token_tagged = true;
        return 0;
}

static int check_signer(struct aced *as, const struct request *request, const struct protection_ask *ask,
                        const struct server *server, struct response *response) {
        _cleanup_(as_key_done) struct as_key key = {};
        int r;

        if (!is_signed(server) || (!ask->token_format && !ask->sign_alg))
                return 0;
        r = store_as_key_current(as->store, AS_KEY_SIGN, server->sign_alg, request->now_s, &key);
        if (r != REFUSE_ADMIN_UNKNOWN)
                return r;
        response_why(response, "member \"sign_alg\": there is no key of the server's own that signs with %s: make one "
                     "with acectl key rotate --role sign --alg %s", sign_alg_name(server->sign_alg) ?: "?",
                     sign_alg_name(server->sign_alg) ?: "?");
        return REFUSE_ADMIN_VALUE;
}

int protection_apply(struct aced *as, const struct request *request, const struct protection_ask *ask,
                     struct response *response, struct server *server) {
        int r;

        if ((r = read_format(ask, response, server)) != 0 || (r = read_algs(ask, response, server)) != 0 ||
            (r = read_sign_alg(ask, response, server)) != 0 || (r = read_pop_keys(ask, response, server)) != 0)
                return r;
        if (ask->token_tagged.set)
                server->token_tagged = ask->token_tagged.value;
        if (ask->derives_key.set)
                server->derives_key = ask->derives_key.value;
        if (ask->has_clock.set)
                server->has_clock = ask->has_clock.value;
        if ((r = apply_trl(ask, response, server)) != 0 || (r = check_derivation(server, response)) != 0 ||
            (r = check_clock(server, response)) != 0)
                return r;
        return check_signer(as, request, ask, server, response);
}

/* ---- server → members */

const char *protection_alg(const struct server *server) {
        if (server->token_format == TOKEN_FORMAT_OPAQUE)
                return "";
        if (server->token_format == TOKEN_FORMAT_MAC0)
                return mac_alg_name(server->mac_alg);
        return aead_name(server->token_alg);
}

static json_t *pop_keys_json(pop_key_set keys) {
        json_t *array = json_array();

        if (array && (keys & POP_KEY_SYMMETRIC) && json_array_append_new(array, json_string(SYMMETRIC_NAME)) != 0)
                return json_decref(array), NULL;
        for (enum curve curve = CURVE_NONE + 1; array && curve < CURVES; curve++)
                if ((keys & POP_KEY_BIT(curve)) && json_array_append_new(array, json_string(curve_name(curve))) != 0)
                        return json_decref(array), NULL;
        return array;
}

/* "" when there is no key, or one without an id. */
static int kid_json(struct store *store, int64_t server_id, int64_t now_s, json_t **ret) {
        _cleanup_(server_key_done) struct server_key key = {};
        int r = store_server_key_get(store, server_id, SERVER_KEY_TOKEN, now_s, &key);

        if (r != 0 && r != REFUSE_ADMIN_UNKNOWN)
                return r;
        *ret = admin_hex(bytes_of(key.kid, key.kid_size));
        return *ret ? 0 : -ENOMEM;
}

int protection_json(struct store *store, const struct server *server, json_t *object, int64_t now_s) {
        bool wraps = server->token_format == TOKEN_FORMAT_MAC0;
        json_t *kid, *members;
        int r = kid_json(store, server->id, now_s, &kid);

        if (r != 0)
                return r;
        members = json_pack("{s:s, s:s, s:s, s:s, s:b, s:o, s:b, s:o, s:b, s:b}",
                            "token_format", formats[server->token_format], "token_alg", protection_alg(server),
                            "wrap_alg", wraps ? aead_name(server->token_alg) : "",
                            "sign_alg", sign_alg_name(server->sign_alg), "token_tagged", (int)server->token_tagged,
                            "token_kid_hex", kid, "trl", (int)server->has_trl, "pop_keys",
                            pop_keys_json(server->pop_keys), "derives_key", (int)server->derives_key,
                            "has_clock", (int)server->has_clock);
        r = members && json_object_update(object, members) == 0 ? 0 : -ENOMEM;
        json_decref(members);
        return r;
}

/* ---- keys */

void shown_keys_done(struct shown_keys *keys) {
        for (size_t i = 0; i < SERVER_KEY_ROLES; i++)
                server_key_done(&keys->of[i]);
}

/* What a key of that role is for, as a number that is another one for each algorithm; 0: tokens need none. */
static int purpose_of(const struct server *server, enum server_key_role role) {
        bool wraps = puts_keys_in_tokens(server);

        if (role == SERVER_KEY_DERIVATION)
                return server->derives_key ? 1 : 0;
        if (role == SERVER_KEY_WRAP)
                return server->token_format == TOKEN_FORMAT_MAC0 && wraps ? (int)server->token_alg : 0;
        switch (server->token_format) {
        case TOKEN_FORMAT_MAC0:
                return 100 + (int)server->mac_alg;
        case TOKEN_FORMAT_SIGN1:
                return wraps ? (int)server->token_alg : 0;
        case TOKEN_FORMAT_OPAQUE:
                return 0;
        default:
                return (int)server->token_alg;
        }
}

bool protection_needs(const struct server *server, enum server_key_role role) {
        return purpose_of(server, role) != 0;
}

/* How long a key of that role is: at least, at most. */
static void sizes_of(const struct server *server, enum server_key_role role, size_t *ret_min, size_t *ret_max) {
        bool is_mac = role == SERVER_KEY_TOKEN && server->token_format == TOKEN_FORMAT_MAC0;

        *ret_min = *ret_max = is_mac ? MAC_KEY_SIZE : aead_info(server->token_alg)->key_size;
        if (role == SERVER_KEY_DERIVATION) {
                *ret_min = DERIVATION_KEY_MIN;
                *ret_max = SECRET_SIZE_MAX;
        }
}

/* A key as a request gives it: what is not there is made. */
struct key_wanted {
        enum server_key_role role;
        const char *key_member, *key_hex, *kid_member, *kid_hex;
        int64_t activate_in_s;
};

static int key_read(const struct key_wanted *wanted, const struct request *request, const struct server *server,
                    struct response *response, struct server_key *ret) {
        size_t min, max;
        int r = 0;

        *ret = (struct server_key){ .server_id = server->id, .role = wanted->role, .created_s = request->now_s,
                                    .active_from_s = request->now_s + wanted->activate_in_s };
        if (wanted->kid_hex && *wanted->kid_hex != '\0')
                r = admin_read_hex(response, wanted->kid_member, wanted->kid_hex, 1, KID_SIZE_MAX, ret->kid,
                                   &ret->kid_size);
        if (r != 0)
                return r;
        sizes_of(server, wanted->role, &min, &max);
        if (wanted->key_hex)
                return admin_read_key(response, wanted->key_member, wanted->key_hex, min, max, &ret->key);
        ret->key.size = wanted->role == SERVER_KEY_DERIVATION ? DERIVATION_KEY_SIZE : min;
        return random_bytes(ret->key.data, ret->key.size);
}

/*
 * Keys that were in force go when no token can live that was made under them: no lifetime is longer than the configured
 * maximum.
 */
static int key_store(struct aced *as, const struct request *request, struct server_key *key,
                     struct response *response) {
        int r = store_server_keys_drop(as->store, key->server_id, request->now_s - as->config->max_lifetime_s);

        if (r == 0)
                r = store_server_key_set(as->store, key);
        if (r == REFUSE_ADMIN_EXISTS)
                response_why(response, "this key is registered already; a key is shared by two parties only and has "
                             "one use (RFC 9200 section 6.3): give another one, or none to have one made");
        if (r == REFUSE_ADMIN_CONFLICT)
                response_why(response, "there are %d keys of this role, which tokens may still be under: wait until "
                             "those have expired", SERVER_KEYS_MAX);
        return r;
}

static int key_make(struct aced *as, const struct request *request, const struct key_wanted *wanted,
                    const struct server *server, struct response *response, struct server_key *ret) {
        int r = key_read(wanted, request, server, response, ret);

        return r == 0 ? key_store(as, request, ret, response) : r;
}

/* On a change: a key serves one algorithm only, and its id is the key's. */
static int check_given(const struct protection_ask *ask, const struct server *before, const struct server *server,
                       struct response *response) {
        int purpose = purpose_of(server, SERVER_KEY_TOKEN);
        int purpose_before = before ? purpose_of(before, SERVER_KEY_TOKEN) : 0;
        size_t min, max;

        if (ask->token_key_hex && purpose == 0)
                return refuse(response, "member \"token_key_hex\": tokens for this resource server are under no key "
                              "of its own: leave it away, or choose another token_format");
        if (ask->token_key_hex || !before)
                return 0;
        if (purpose != 0 && purpose_before != 0 && purpose != purpose_before) {
                sizes_of(server, SERVER_KEY_TOKEN, &min, &max);
                response_why(response, "member \"token_alg\": a key serves one algorithm: give token_key_hex as "
                             "well, %zu bytes for %s", min, protection_alg(server));
                return REFUSE_ADMIN_VALUE;
        }
        if (ask->token_kid_hex && (purpose == 0 || purpose == purpose_before))
                return refuse(response, "member \"token_kid_hex\": the id belongs to the key: give token_key_hex as "
                              "well, or have a new key made with acectl rs key set");
        return 0;
}

int protection_keys(struct aced *as, const struct request *request, const struct protection_ask *ask,
                    const struct server *before, const struct server *server, struct response *response,
                    struct shown_keys *shown) {
        int r = check_given(ask, before, server, response);

        for (enum server_key_role role = SERVER_KEY_TOKEN; r == 0 && role < SERVER_KEY_ROLES; role++) {
                bool is_token = role == SERVER_KEY_TOKEN;
                int purpose = purpose_of(server, role);
                struct key_wanted wanted = { .role = role, .key_member = "token_key_hex",
                                             .key_hex = is_token ? ask->token_key_hex : NULL,
                                             .kid_member = "token_kid_hex",
                                             .kid_hex = is_token ? ask->token_kid_hex : NULL };

                if (purpose != 0 && (wanted.key_hex || !before || purpose != purpose_of(before, role)))
                        r = key_make(as, request, &wanted, server, response, &shown->of[role]);
        }
        return r;
}

int protection_keys_json(const struct shown_keys *shown, json_t *object) {
        char name[32];

        for (enum server_key_role role = SERVER_KEY_TOKEN; role < SERVER_KEY_ROLES; role++) {
                (void)snprintf(name, sizeof(name), "%s_key_hex", roles[role]);
                if (shown->of[role].id != 0 &&
                    json_object_set_new(object, name, admin_hex(secret_bytes(&shown->of[role].key))) != 0)
                        return -ENOMEM;
        }
        return 0;
}

/* ---- handlers */

struct key_ask {
        const char *role, *key_hex, *kid_hex;
        struct json_int activate_in_s;
};

static const struct json_field key_fields[] = {
        ADMIN_FIELD(key_ask, role, TEXT),
        ADMIN_FIELD(key_ask, key_hex, TEXT),
        ADMIN_FIELD(key_ask, kid_hex, TEXT),
        ADMIN_FIELD(key_ask, activate_in_s, INT, .max = LIFETIME_MAX_S),
};

static int read_role(const struct key_ask *ask, const struct server *server, struct response *response,
                     enum server_key_role *ret) {
        int role = ask->role ? find_name(roles, N_ELEMENTS(roles), ask->role) : SERVER_KEY_TOKEN;

        if (role == 0)
                return admin_refuse_value(response, "role", ask->role, "is no role of a key: token, derivation and "
                                          "wrap are");
        *ret = (enum server_key_role)role;
        if (purpose_of(server, *ret) != 0)
                return 0;
        response_why(response, "member \"role\": tokens for resource server %s need no %s key: see its token_format, "
                     "pop_keys and derives_key", server->name, roles[role]);
        return REFUSE_ADMIN_VALUE;
}

int admin_server_key_put(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(json_document_done) struct json_document document = {};
        _cleanup_(server_key_done) struct server_key key = {};
        enum server_key_role role = SERVER_KEY_TOKEN;
        struct server server;
        struct key_ask ask;
        json_t *object;
        int r;

        if ((r = admin_read(request, response, key_fields, N_ELEMENTS(key_fields), &ask, &document)) != 0 ||
            (r = admin_server_find(as->store, request->segments[2], response, &server)) != 0 ||
            (r = read_role(&ask, &server, response, &role)) != 0)
                return r;
        r = key_make(as, request, &(struct key_wanted){ role, "key_hex", ask.key_hex, "kid_hex", ask.kid_hex,
                                                        ask.activate_in_s.value }, &server, response, &key);
        if (r != 0)
                return r;
        object = json_pack("{s:s, s:s, s:s, s:o, s:o, s:I, s:I}", "name", server.name, "role", roles[role],
                           "token_alg", protection_alg(&server), "key_hex", admin_hex(secret_bytes(&key.key)),
                           "kid_hex", admin_hex(bytes_of(key.kid, key.kid_size)),
                           "active_from_s", (json_int_t)key.active_from_s, "created_s", (json_int_t)key.created_s);
        return admin_reply(response, &object);
}

/* The keys of a role come in the order of their times: each one's state is known when the next one is seen. */
struct key_list {
        json_t *items, *in_force;
        enum server_key_role role;
        int64_t now_s;
};

static int list_key(void *context, const struct server_key *key) {
        struct key_list *list = context;
        bool is_announced = key->active_from_s > list->now_s && list->role == key->role;
        json_t *item = json_pack("{s:I, s:s, s:o, s:s, s:I, s:I}", "id", (json_int_t)key->id, "role", roles[key->role],
                                 "kid_hex", admin_hex(bytes_of(key->kid, key->kid_size)),
                                 "state", is_announced ? "announced" : "in force",
                                 "active_from_s", (json_int_t)key->active_from_s,
                                 "created_s", (json_int_t)key->created_s);

        if (!item || json_array_append_new(list->items, item) != 0)
                return -ENOMEM;
        if (!is_announced) {
                if (list->in_force && list->role == key->role &&
                    json_object_set_new(list->in_force, "state", json_string("former")) != 0)
                        return -ENOMEM;
                list->in_force = item;
        }
        list->role = key->role;
        return 0;
}

/* All at once: there are few. */
int admin_server_keys_get(struct aced *as, const struct request *request, struct response *response) {
        struct key_list list = { .items = json_array(), .now_s = request->now_s };
        struct server server;
        json_t *object;
        int r;

        if ((r = admin_check_queries(request, response, (const char *const[]){ NULL })) == 0 &&
            (r = admin_server_find(as->store, request->segments[2], response, &server)) == 0)
                r = list.items ? store_server_key_each(as->store, server.id, list_key, &list) : -ENOMEM;
        if (r != 0) {
                json_decref(list.items);
                return r;
        }
        object = json_pack("{s:o, s:n}", "items", list.items, "next");
        return admin_reply(response, &object);
}
