#pragma once

#include "endpoint/admin.h"
#include "store/servers.h"

/* How tokens for a resource server are protected, as the control socket says it; what goes together, and the keys. */

struct protection_ask {
        const char *token_format, *token_alg, *wrap_alg, *sign_alg;
        const char *token_key_hex, *token_kid_hex;
        struct json_texts pop_keys;
        struct json_bool token_tagged, trl, derives_key, has_clock;
};

/* Rows of a field table for a struct that has it as its member protection. */
#define PROTECTION_FIELD(type, member, field_kind)                                                                    \
        { .name = #member, .kind = JSON_FIELD_##field_kind, .offset = offsetof(struct type, protection.member) }
#define PROTECTION_FIELDS(type)                                                                                       \
        PROTECTION_FIELD(type, token_format, TEXT), PROTECTION_FIELD(type, token_alg, TEXT),                          \
        PROTECTION_FIELD(type, wrap_alg, TEXT), PROTECTION_FIELD(type, sign_alg, TEXT),                               \
        PROTECTION_FIELD(type, token_key_hex, TEXT), PROTECTION_FIELD(type, token_kid_hex, TEXT),                     \
        PROTECTION_FIELD(type, pop_keys, TEXTS), PROTECTION_FIELD(type, token_tagged, BOOL),                          \
        PROTECTION_FIELD(type, trl, BOOL), PROTECTION_FIELD(type, derives_key, BOOL),                                 \
        PROTECTION_FIELD(type, has_clock, BOOL)

/* Members that are there, into *server; lifetimes are in it already. Then what does not go together is refused. */
int protection_apply(struct aced *as, const struct request *request, const struct protection_ask *ask,
                     struct response *response, struct server *server);

/* What protects its tokens, as token_alg says it: an AEAD or a MAC; "" for opaque ones. */
const char *protection_alg(const struct server *server);

/* Do its tokens, as it is registered, need a key of this role? */
bool protection_needs(const struct server *server, enum server_key_role role);

/* Set the same members of an object, but for keys. 0, -ENOMEM. */
int protection_json(struct store *store, const struct server *server, json_t *object, int64_t now_s);

/* Keys that a request has set or made, to be shown in its answer. */
struct shown_keys {
        struct server_key of[SERVER_KEY_ROLES]; /* by role; id 0: none */
};
void shown_keys_done(struct shown_keys *keys);

/*
 * See to the keys that tokens for the server need: the one given, and new ones where there were none. before NULL: the
 * server is new. A key that would change its algorithm has to be given.
 */
int protection_keys(struct aced *as, const struct request *request, const struct protection_ask *ask,
                    const struct server *before, const struct server *server, struct response *response,
                    struct shown_keys *shown);
/* Set them in an object: token_key_hex, wrap_key_hex, derivation_key_hex. 0, -ENOMEM. */
int protection_keys_json(const struct shown_keys *shown, json_t *object);
