#pragma once

#include "domain/grant.h"

struct store;

/*
 * Refresh tokens (RFC 6749 §6, RFC 9200 §5.8.4.1). Each is used once and exchanged for the next one of its family; one
 * that comes a second time was stolen from somebody, so that nobody of the family is good any more.
 */
#define REFRESH_TOKENS_PER_CLIENT_MAX 1000 /* live ones; at the limit tokens are given without */
#define REFRESH_TOKENS_KEPT 64             /* used ones of a family, by which it is known that one came again */

/*
 * What comes with grant: number is drawn by the caller as those of tokens are, hash that of its bytes. The PoP key is
 * sealed. Of the family those that were used long ago are forgotten.
 */
int store_refresh_add(struct store *store, const struct grant *grant, uint64_t number,
                      const uint8_t hash[static TOKEN_HASH_SIZE]);

/* With its PoP key; used, revoked and expired ones too. REFUSE_ADMIN_UNKNOWN: none has these bytes. */
int store_refresh_find(struct store *store, struct bytes bytes, struct refresh_token *ret);

/* Mark as used at now_s. REFUSE_ADMIN_UNKNOWN: it is not there or was used before. */
int store_refresh_use(struct store *store, uint64_t number, int64_t now_s);

/* How many live ones a client has, at most limit. */
int store_refresh_count(struct store *store, int64_t client_id, int64_t now_s, int64_t limit, int64_t *ret_n);

/* All refresh tokens and tokens of a family are revoked at now_s; those that are already stay as they were. */
int store_family_revoke(struct store *store, uint64_t family, int64_t now_s);

/* Remove at most limit that expired before before_s; *ret_n how many went. */
int store_refresh_purge(struct store *store, int64_t before_s, int64_t limit, int64_t *ret_n);
