#pragma once

#include "domain/client.h"

struct store;

#define LABELS_PER_CLIENT_MAX 32

/* client->id is drawn and filled in. REFUSE_ADMIN_EXISTS when the name is taken (a server may have the same name). */
int store_client_add(struct store *store, struct client *client);
/* All of the row but id, name, created_s. REFUSE_ADMIN_UNKNOWN. */
int store_client_update(struct store *store, const struct client *client);
/* With its credentials, labels and policies by name; its tokens become revoked at now_s. REFUSE_ADMIN_UNKNOWN. */
int store_client_delete(struct store *store, int64_t id, int64_t now_s);

/* REFUSE_ADMIN_UNKNOWN. */
int store_client_by_name(struct store *store, struct bytes name, struct client *ret);
int store_client_by_id(struct store *store, int64_t id, struct client *ret);

/*
 * Those after `after` (a name; "" from the start) in order of names, at most limit, one call of row() each; row()
 * returns 0 to go on, anything else ends the walk and is returned. It must not walk the same list itself.
 */
int store_client_each(struct store *store, struct bytes after, int64_t limit,
                      int (*row)(void *context, const struct client *client), void *context);

/* Labels: policies can name one instead of a client. Replace all of a client's. REFUSE_ADMIN_VALUE when too many. */
int store_client_labels_set(struct store *store, int64_t client_id, const struct bytes *labels, size_t n_labels);
int store_client_labels_each(struct store *store, int64_t client_id,
                             int (*row)(void *context, const char *label), void *context);
