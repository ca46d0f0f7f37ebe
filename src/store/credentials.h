#pragma once

#include "base/secret.h"
#include "domain/credential.h"

struct store;

/*
 * credential->id is drawn and filled in. REFUSE_ADMIN_EXISTS: the identity is taken, or (AS-008) the same secret is
 * registered already; *ret_same_secret tells which.
 */
int store_credential_add(struct store *store, struct credential *credential, const struct secret *secret,
                         bool *ret_same_secret);
/* Only when it belongs to that party (the other id 0). REFUSE_ADMIN_UNKNOWN. */
int store_credential_delete(struct store *store, int64_t id, int64_t client_id, int64_t server_id);
int store_credential_each(struct store *store, int64_t client_id, int64_t server_id,
                          int (*row)(void *context, const struct credential *credential), void *context);

/*
 * What the DTLS door asks: the key for a PSK identity, of a party that is not suspended. May be called outside a
 * transaction. REFUSE_ADMIN_UNKNOWN.
 */
int store_psk_find(struct store *store, struct bytes identity, struct credential *ret, struct secret *ret_psk);

/* Whose credential is it now? Suspended parties too. REFUSE_ADMIN_UNKNOWN when it is gone. */
int store_credential_by_id(struct store *store, int64_t id, struct credential *ret);
