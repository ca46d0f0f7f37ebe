#pragma once

#include "base/buf.h"
#include "base/secret.h"
#include "store/store.h"

/*
 * What a resource server makes of a token with what it shares with us (any of the keys that the store lists for it) and
 * the public keys that sign. Opens a transaction of its own.
 */

/*
 * The claims, appended: decrypted, or verified, or both. 0; REFUSE_MALFORMED: not with what it has; -ENOENT: there is no
 * such resource server.
 */
int resource_open(struct store *store, const char *server, struct bytes token, struct buf *claims);

/* The COSE_Key in an Encrypted_COSE_Key (RFC 8747 §3.3), appended. As above. */
int resource_unwrap(struct store *store, const char *server, struct bytes encrypted_key, struct buf *key);

/* The PoP key that it computes from a token (RFC 9202 §3.3.1), under the derivation key in force at now_s. */
int resource_derive(struct store *store, const char *server, struct bytes token, int64_t now_s, struct secret *ret);
