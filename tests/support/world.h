#pragma once

#include "base/config.h"
#include "endpoint/aced.h"
#include "endpoint/router.h"
#include "store/store.h"

/*
 * An instance without sockets: a store with client C1, resource server rs1 and a policy between them. Nothing here
 * asserts once it is set up, so that a test can let things fail.
 */
struct world {
        struct config *config;
        struct store *store;
        struct aced as;
        struct peer client, server;
};

#define WORLD_NOW_S 1700000000

/* Configuration and identities; the store is opened by world_open(). */
void world_init(struct world *world);
void world_done(struct world *world);

/* path NULL: in memory. The result of store_open(). */
int world_open(struct world *world, const char *path);
void world_close(struct world *world);
/* What the header says is registered; in a new store. Asserts. */
void world_fill(struct world *world);
/* Who is at the other end of a session, after the store was opened. Asserts. */
void world_meet(struct world *world);

/* A request by hand. text: its payload, diagnostic notation or, for an administrator, JSON; NULL: none. */
struct call {
        struct work work;
        char target[256];
        struct buf payload;
};
extern const struct peer world_admin;
void call_set(struct call *call, const struct peer *peer, enum method method, const char *target, const char *text);
void call_done(struct call *call);
/* POST /introspect of this token. */
void call_introspect(struct call *call, const struct peer *peer, struct bytes token);
void world_run(struct world *world, struct call *calls, size_t n_calls);

static inline bool call_is_yes(const struct call *call) {
        return call->work.response.code >> 5 == 2;
}
/* 5.00, or 5.03. */
static inline bool call_is_broken(const struct call *call) {
        return call->work.response.code == CODE_INTERNAL_ERROR || call->work.response.code == CODE_UNAVAILABLE;
}

/* The access token in an answer of /token: borrows. */
struct bytes answer_token(const struct call *call);
/* Whether an answer of /introspect says that the token is active. */
bool answer_is_active(const struct call *call);
