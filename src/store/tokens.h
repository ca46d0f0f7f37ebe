#pragma once

#include "domain/grant.h"
#include "domain/token.h"

struct cwt_place;
struct store;

/*
 * Everything grant_decide() needs for ask, asked by the party behind credential_id (0: nobody) or, when client_id is
 * not 0, by that client (acectl explain). What the caller knows stands in facts before: channel_key, the configured
 * numbers. tokens_max gives way to the client's own one and decides whether live tokens are counted. 0 also when nothing
 * was found: that is a fact.
 */
int store_token_facts(struct store *store, int64_t credential_id, int64_t client_id, const struct token_ask *ask,
                      int64_t now_s, struct token_facts *facts);

/* What the endpoint fills in of grant is filled in. The PoP key is sealed. */
int store_token_add(struct store *store, const struct grant *grant, const uint8_t hash[static TOKEN_HASH_SIZE]);

/*
 * With its PoP key. The place, which stands in clear in the token (cwt_find_place()), says where to look; what is found
 * counts only when its hash is this one, compared in constant time. An index of hashes instead would be in random
 * order: a page to write for every token issued. REFUSE_ADMIN_UNKNOWN.
 */
int store_token_find(struct store *store, const struct cwt_place *place, const uint8_t hash[static TOKEN_HASH_SIZE],
                     struct token *ret);
/* By number, without the key. REFUSE_ADMIN_UNKNOWN. */
int store_token_by_number(struct store *store, uint64_t number, struct token *ret);

/* Is the server one of those behind the token's audience now? */
int store_token_is_for(struct store *store, const struct token *token, int64_t server_id, bool *ret);

struct token_filter {
        struct bytes client, server; /* names; data NULL: any */
        int64_t issued_from_s;       /* 0: any */
        int64_t expires_until_s;     /* 0: any; else those that expire then or before */
        int64_t after_s;             /* when the token `after` expires, where the order is that of ends */
        bool live_only;
        int64_t now_s;
};
/* In what order a list comes: of ends, when expires_until_s says so and no client is named, else of numbers. */
static inline bool token_filter_by_end(const struct token_filter *filter) {
        return filter->expires_until_s != 0 && !filter->client.data;
}
/* In order, those after `after` (0: from the beginning); without keys. */
int store_token_each(struct store *store, uint64_t after, int64_t limit, const struct token_filter *filter,
                     int (*row)(void *context, const struct token *token), void *context);

/* When the token that expires first, of all that are there, does or did; 0: there is none. */
int store_token_oldest(struct store *store, int64_t *ret_expires_s);

/* Remove at most limit tokens and refresh tokens that expired before before_s; *ret_n how many went. */
int store_token_purge(struct store *store, int64_t before_s, int64_t limit, int64_t *ret_n);
