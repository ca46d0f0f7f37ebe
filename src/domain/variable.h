#pragma once

#include "domain/policy.h"

/*
 * Variables in the audience and the scopes of policies: ${client} is the client's name, ${audience} (in scopes) the
 * audience asked, ${KEY} the VALUE of the client's label KEY:VALUE, where KEY has no colon. Opaque scopes have none.
 */
#define VARIABLES_MAX 4  /* different ones in one policy */
#define BINDINGS_MAX 256 /* ways to put a client's labels in for them; with more the policy is POLICY_TOO_LARGE */

/* Is every "${" the beginning of a variable, and are there at most VARIABLES_MAX of them? Without any it is right. */
bool variables_are_valid(struct bytes audience, const struct scope *scopes);

bool variables_in_text(struct bytes text);
bool variables_in_policy(const struct policy *policy);
/* Is there one that stands for a label? */
bool variables_need_labels(const struct policy *policy);

/* What variables stand for. */
struct variable_values {
        const char *client, *audience;
        const char (*labels)[NAME_SIZE_MAX + 1]; /* of the client */
        size_t n_labels;
};

/*
 * Put the values in for the variables of a policy that has any: its audience becomes the one asked, its scopes what
 * they stand for, fit says whether it applies. A label's key with several values is tried with each; a variable that is
 * there more than once has one value at a time, and the scopes are those of the values that make the audience the one
 * asked.
 *
 * A value is a part of one scope token, or of one object's name, and never becomes more: names have no spaces, and
 * objects are put together one by one.
 */
void variables_expand(struct policy *policy, const struct variable_values *values);
