#pragma once

#include "domain/token.h"

struct store;

/*
 * The token revocation list (RFC 9770): hashes of revoked tokens that have not expired, of those resource servers that
 * are registered for it; and for each party the last changes of its part of the list (its update collection, §6.2).
 * Parties: the token's client, its server, the servers of its group audience, and 0 for administrators.
 */
#define TRL_HASH_SIZE (1 + TOKEN_HASH_SIZE)
#define TRL_UPDATES_MAX 32   /* MAX_N: items kept for each party */
#define TRL_BATCH_MAX 8      /* MAX_DIFF_BATCH */
#define TRL_ITEM_MAX UINT32_MAX /* MAX_INDEX */

/* Who is told of a change: called once for each party whose part changed, inside the transaction. */
typedef int (*trl_touch)(void *context, int64_t party_id);
