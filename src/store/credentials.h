#pragma once

#include "base/secret.h"
#include "domain/credential.h"

struct store;

/*
 * credential->id is drawn and filled in; identity of kinds RPK, X509 and OSCORE is made here; of the first two secret is
 * not looked at. REFUSE_ADMIN_EXISTS: the identity is taken (that of a context also by one that was renewed to it), or
 * (AS-008) the same secret is registered already; *ret_same_secret tells which. REFUSE_ADMIN_CONFLICT: a second public
 * key of one curve for a server (AS-074), a second one of a client that kid would name, or OSCORE_CANDIDATES_MAX contexts
 * with this Recipient ID.
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

/*
 * What the DTLS door asks about a raw public key: whose it is, of a party that is not suspended. May be called outside
 * a transaction. REFUSE_ADMIN_UNKNOWN.
 */
int store_rpk_find(struct store *store, const uint8_t thumbprint[static THUMBPRINT_SIZE], struct credential *ret);
/*
 * The same for one name that a valid certificate has, written as a rule (struct credential). REFUSE_SUSPENDED_CLIENT:
 * of a party that is suspended; who has the certificate is not to come in as somebody else by another name.
 */
int store_x509_find(struct store *store, struct bytes rule, struct credential *ret);

/* A client's registered public key, by thumbprint or, when that is NULL, by its kid. REFUSE_ADMIN_UNKNOWN. */
int store_client_key_find(struct store *store, int64_t client_id, const uint8_t *thumbprint, struct bytes kid,
                          struct credential *ret);
/* A server's registered public key: of that curve, else (CURVE_NONE too) its first. REFUSE_ADMIN_UNKNOWN. */
int store_server_public_key(struct store *store, int64_t server_id, enum curve curve, struct credential *ret);

/* Whose is it now? Suspended parties' too. Parameters of OSCORE are left empty. REFUSE_ADMIN_UNKNOWN when it is gone. */
int store_credential_by_id(struct store *store, int64_t id, struct credential *ret);
