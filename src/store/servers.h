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
 * The servers behind an audience, suspended ones not counted: their number, and the first. A group audience with one
 * member is still a group: *ret_is_group.
 */
int store_audience_find(struct store *store, struct bytes audience, size_t *ret_n, bool *ret_is_group,
                        struct server *ret_first);

/* A server that has the audience, suspended or not: for administration. REFUSE_ADMIN_UNKNOWN. */
int store_audience_server(struct store *store, struct bytes audience, struct server *ret);

/*
 * The AS-RS key that protects tokens: one current per server; setting another replaces it (tokens issued under the old
 * one stay valid at the RS as long as it keeps that key). kid is up to 16 bytes. REFUSE_ADMIN_EXISTS: another server or
 * credential has the same key (AS-008, AS-105).
 */
struct server_key {
        int64_t id;
        int64_t server_id;
        size_t kid_size;
        uint8_t kid[16];
        struct secret key;
        int64_t created_s;
};
int store_server_key_set(struct store *store, struct server_key *key); /* fills id */
/* REFUSE_ADMIN_UNKNOWN: it has none. */
int store_server_key_get(struct store *store, int64_t server_id, struct server_key *ret);
