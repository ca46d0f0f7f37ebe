#pragma once

#include "domain/client.h"
#include "domain/policy.h"

struct store;

/* policy->id is drawn and filled in. REFUSE_ADMIN_EXISTS: an equal one is there, the order of scope tokens aside. */
int store_policy_add(struct store *store, struct policy *policy);
int store_policy_delete(struct store *store, int64_t id);         /* REFUSE_ADMIN_UNKNOWN */
/* In order of ids after `after`. subject and audience filter when data is not NULL. */
int store_policy_each(struct store *store, int64_t after, int64_t limit, struct bytes subject, struct bytes audience,
                      int (*row)(void *context, const struct policy *policy), void *context);

/*
 * Those for a client, by its name or its labels, at an audience, with values for their variables; but for such as are
 * about other audiences then. *ret is to be freed, also when this fails.
 */
int store_policies_for(struct store *store, const struct client *client, const char *audience, struct policy **ret,
                       size_t *ret_n);
