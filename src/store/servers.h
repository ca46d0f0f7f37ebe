#pragma once

#include "base/secret.h"
#include "domain/server.h"

struct store;

/* server->id is drawn and filled in. REFUSE_ADMIN_EXISTS. */
int store_server_add(struct store *store, struct server *server);
int store_server_update(struct store *store, const struct server *server); /* REFUSE_ADMIN_UNKNOWN */
/*
 * With its credentials, keys and audiences; its tokens become revoked at now_s. Policies for audiences that nobody
 * else has go too. REFUSE_ADMIN_UNKNOWN.
 */
int store_server_delete(struct store *store, int64_t id, int64_t now_s);
int store_server_by_name(struct store *store, struct bytes name, struct server *ret); /* REFUSE_ADMIN_UNKNOWN */
int store_server_by_id(struct store *store, int64_t id, struct server *ret);
int store_server_each(struct store *store, struct bytes after, int64_t limit,
                      int (*row)(void *context, const struct server *server), void *context);

/*
 * Audiences: a name stands for one server, or, when every server that has it says so (is_group), for a group.
 * REFUSE_ADMIN_EXISTS: another server has it and not both say group.
 */
int store_audience_add(struct store *store, int64_t server_id, struct bytes audience, bool is_group);
int store_audience_delete(struct store *store, int64_t server_id, struct bytes audience); /* REFUSE_ADMIN_UNKNOWN */
int store_audience_each(struct store *store, int64_t server_id,
                        int (*row)(void *context, const char *audience, bool is_group), void *context);
/*
 * The servers behind an audience, suspended ones not counted: their number, and what stands behind it. That is the one
 * server; or, of a group (*ret_is_group, also when it has one member only), what all members can do: the profiles, PoP
 * keys and scopes that all have, the shortest lifetimes, has_clock if all have one; has_trl if one has it; its name is
 * the first one's and its id 0. Tokens for a group are signed and tagged, whatever its members' own ones are (AS-065).
 */
int store_audience_find(struct store *store, struct bytes audience, size_t *ret_n, bool *ret_is_group,
                        struct server *ret);

/*
 * A group audience of the server's of which another member would read its tokens otherwise: with another sign_alg, or
 * another scope_kind. Suspended ones do not count. REFUSE_ADMIN_UNKNOWN: there is none.
 */
struct group_conflict {
        char audience[AUDIENCE_SIZE_MAX + 1], other[NAME_SIZE_MAX + 1];
};
int store_group_conflict(struct store *store, int64_t server_id, struct group_conflict *ret);

/* A server that has the audience, suspended or not: for administration. REFUSE_ADMIN_UNKNOWN. */
int store_audience_server(struct store *store, struct bytes audience, struct server *ret);

/*
 * Keys that are shared with a resource server alone: for each role the one in force is that with the latest
 * active_from_s whose time has come; one announced for later changes nothing until then. Keys that were in force stay
 * listed, as the resource server needs them for the tokens under them; we do not, as tokens are known by their hashes.
 * store_server_keys_drop() removes those that nobody needs any more.
 */
enum server_key_role { /* kept in databases */
        SERVER_KEY_TOKEN = 1,      /* encrypts or MACs tokens; encrypts PoP keys in signed ones */
        SERVER_KEY_DERIVATION = 2, /* PoP keys are derived from it (RFC 9202 §3.3.1) */
        SERVER_KEY_WRAP = 3,       /* encrypts PoP keys in MACed tokens: a key is for one algorithm */
        SERVER_KEY_ROLES,
};

#define SERVER_KEYS_MAX 8 /* of one role of one server */

struct server_key {
        int64_t id;
        int64_t server_id;
        enum server_key_role role;
        size_t kid_size;
        uint8_t kid[16];
        struct secret key;
        int64_t active_from_s;
        int64_t created_s;
};
void server_key_done(struct server_key *key);

/*
 * One more key; id is filled in. It takes the place of one announced for later, and of the same secret. The first one
 * of a role is in force at once. REFUSE_ADMIN_EXISTS: another server, another role or a credential has the same secret
 * (AS-008, AS-105), or it is in force already and would be announced. REFUSE_ADMIN_CONFLICT: there are SERVER_KEYS_MAX.
 */
int store_server_key_set(struct store *store, struct server_key *key);
/* The one in force; by a clock set back before all of them, the earliest. REFUSE_ADMIN_UNKNOWN: it has none. */
int store_server_key_get(struct store *store, int64_t server_id, enum server_key_role role, int64_t now_s,
                         struct server_key *ret);
/* All of a server in order of role and active_from_s, without the secrets. */
int store_server_key_each(struct store *store, int64_t server_id,
                          int (*row)(void *context, const struct server_key *key), void *context);
/* Remove those whose next one was in force at before_s already. */
int store_server_keys_drop(struct store *store, int64_t server_id, int64_t before_s);

/* Draw the sequence number of the server's next token with exi (RFC 9200 §5.10.3): durable with the transaction. */
int store_exi_next(struct store *store, int64_t server_id, uint64_t *ret);
