#pragma once

#include "base/secret.h"
#include "domain/credential.h"

struct store;

/* The security contexts (RFC 8613) among the credentials. Everything here may be called outside a transaction. */

/* What is in force of one: the ID Context is the one since the last renewal (Appendix B.2). */
struct oscore_credential {
        struct credential credential; /* kind, id, client_id, server_id and oscore; the rest is left empty */
        struct secret master_secret;
        bool has_id_context;          /* in force; oscore.id_context is the one that was registered */
        size_t id_context_size;
        uint8_t id_context[OSCORE_ID_CONTEXT_SIZE_MAX];
};

/*
 * Every context of whose Recipient ID is kid, of parties that are not suspended, oldest first. *row is valid during the
 * call and wiped afterwards; what row() returns other than 0 ends it and is returned. 0, < 0.
 */
int store_oscore_find(struct store *store, struct bytes kid,
                      int (*row)(void *context, const struct oscore_credential *found), void *context);

/*
 * The ID Context in force from now on, on disk when 0 is returned (a transaction of its own). REFUSE_ADMIN_EXISTS:
 * another context has the same Recipient ID and this ID Context; REFUSE_ADMIN_UNKNOWN: no such credential.
 */
int store_oscore_renew(struct store *store, int64_t credential_id, struct bytes id_context);

/*
 * n Sender Sequence Numbers of ours, *ret_first and up, that were never given to anybody before: on disk when 0 is
 * returned (a transaction of its own). REFUSE_OVERLOAD: there are not so many left under OSCORE's 2^40.
 */
int store_oscore_lease(struct store *store, uint64_t n, uint64_t *ret_first);

#define OSCORE_NUMBERS_END (UINT64_C(1) << 40) /* the first that is none (RFC 8613 §7.2.1) */

/*
 * The first number that was not leased. Under a secret that somebody else goes on to use elsewhere, numbers from
 * OSCORE_NUMBERS_APART above it on are free: so many are not used up while the two know nothing of each other.
 */
#define OSCORE_NUMBERS_APART (UINT64_C(1) << 32)
int store_oscore_next(struct store *store, uint64_t *ret);
/*
 * Inside a transaction: no number below this one is leased from now on. REFUSE_ADMIN_VALUE: it is beyond them all. The
 * epoch counts up, in memory: numbers that were leased in an earlier one are not to be used any more.
 */
int store_oscore_raise(struct store *store, uint64_t number);
uint64_t store_oscore_epoch(const struct store *store);

/*
 * Who is told of each context that goes, inside the transaction in which it does: removed by itself or with its party,
 * or of a party that is suspended from now on. If the transaction comes to nothing, it is there again. NULL: nobody.
 */
typedef void (*oscore_gone)(void *context, int64_t credential_id, struct bytes kid);
void store_oscore_listen(struct store *store, oscore_gone gone, void *context);

/* How many contexts there are with this Recipient ID. */
int store_oscore_count(struct store *store, struct bytes kid, int64_t *ret_n);

/*
 * Counts up whenever a credential, or who has one, may have changed; kept in memory, at no cost. Renewals do not count:
 * who renews knows.
 */
uint64_t store_credentials_generation(const struct store *store);
