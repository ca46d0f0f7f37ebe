#pragma once

#include "base/secret.h"

struct store;

/*
 * Registered secrets in the clear, to compare them with what an administrator wants or to hand them to him, and for
 * nothing else. REFUSE_ADMIN_UNKNOWN: there is no such row, or it has no secret.
 */
int store_credential_secret(struct store *store, int64_t id, struct secret *ret);
int store_server_key_secret(struct store *store, int64_t id, struct secret *ret);
