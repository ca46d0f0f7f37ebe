#pragma once

#include <stdbool.h>

#include "domain/token.h"

struct store;

/*
 * Revoking, and the token revocation list (RFC 9770): hashes of revoked tokens that have not expired, of those resource
 * servers that are registered for it. Parties see their part: a client its tokens, a resource server those for it and
 * for its group audiences, administrators all. Of each part the last changes are kept, too (its update collection,
 * §6.2); one call here makes at most one of each party.
 *
 * Everything that revokes does so here, so that nothing is revoked and not in the list: in one transaction, or where
 * there may be too much for one, at once in effect (the row in gone) and step by step in the list.
 */
#define TRL_HASH_SIZE (1 + TOKEN_HASH_SIZE)
#define TRL_UPDATES_MAX 128     /* items kept for each party: MAX_N may be configured up to that */
#define TRL_ITEM_MAX INT64_MAX  /* MAX_INDEX: at a million changes a second it lasts for 290 000 years */
#define TRL_STEP_MAX 250        /* tokens looked at in one step, so that it takes some milliseconds */

#define PARTY_ALL 0             /* administrators; no client or server has this id */

enum party_kind { PARTY_ADMIN, PARTY_CLIENT, PARTY_SERVER };
struct trl_party {
        enum party_kind kind;
        int64_t id; /* PARTY_ALL for PARTY_ADMIN */
};

/*
 * Who is to hear of it when the part of a party changed: called inside the transaction, which may still be rolled back.
 * One listener; NULL: nobody.
 */
typedef void (*trl_touch)(void *context, int64_t party_id);
void store_trl_listen(struct store *store, trl_touch touch, void *context);

/* ---- revoking */

/* Mark as revoked at now_s; one that is already stays as it was. REFUSE_ADMIN_UNKNOWN. */
int store_token_revoke(struct store *store, uint64_t number, int64_t now_s);

/* All access tokens of a family of refresh tokens: at most one for each time that it was used. */
int store_tokens_revoke_family(struct store *store, uint64_t family, int64_t now_s);

/* What a walk over tokens is for: those of a client, for a server, or of all clients with a label; one of them. */
struct revocation {
        int64_t client_id, server_id;
        struct bytes label;
};
/* How far it has come; {} at first. */
struct revocation_place {
        bool refresh_tokens; /* access tokens are done */
        int64_t client_id;   /* of a label */
        uint64_t number;     /* the last token looked at */
};
/*
 * One step: live tokens are revoked at now_s, access tokens first, then the refresh tokens that could bring new ones.
 * Adds to *n how many. *ret_again: there is more, go on from *place.
 */
int store_revoke_step(struct store *store, const struct revocation *what, int64_t now_s,
                      struct revocation_place *place, int64_t *n, bool *ret_again);

/* ---- the list */

/* Hashes of a party's part in order of issue, at most limit. row() as everywhere. */
int store_trl_each(struct store *store, const struct trl_party *party, int64_t limit,
                   int (*row)(void *context, struct bytes hash), void *context);
/* How many tokens of a client are in it, or limit when they are more. */
int store_trl_count(struct store *store, int64_t client_id, int64_t limit, int64_t *ret_n);

/* The first and the last item that are kept of a party. REFUSE_ADMIN_UNKNOWN: there has never been one. */
int store_trl_items(struct store *store, int64_t party_id, int64_t *ret_first, int64_t *ret_last);
/* Items from first to last, the newest first. removed, added: hashes one after the other. */
struct trl_item {
        int64_t item;
        struct bytes removed, added; /* valid during the call */
};
int store_trl_items_each(struct store *store, int64_t party_id, int64_t first, int64_t last,
                         int (*row)(void *context, const struct trl_item *item), void *context);

/* A row as administrators see it; names are "" when they are not known any more. */
struct trl_entry {
        uint64_t number;
        uint8_t hash[TRL_HASH_SIZE];
        int64_t client_id, server_id; /* server_id 0: for the group audience */
        char client_name[NAME_SIZE_MAX + 1], server_name[NAME_SIZE_MAX + 1];
        char audience[AUDIENCE_SIZE_MAX + 1];
        int64_t expires_s;
};
/* In order of issue after `after`. */
int store_trl_list(struct store *store, uint64_t after, int64_t limit,
                   int (*row)(void *context, const struct trl_entry *entry), void *context);

/* ---- housekeeping */

/* Take off the list what has expired at now_s, at most TRL_STEP_MAX; *ret_n how many. */
int store_trl_purge(struct store *store, int64_t now_s, int64_t *ret_n);
/* Put tokens of who is gone into the list where the deletion did not get to all of them. *ret_again: there is more. */
int store_trl_catch_up(struct store *store, int64_t now_s, bool *ret_again);
