#pragma once

#include <jansson.h>

#include "endpoint/aced.h"
#include "endpoint/request.h"

/*
 * What admin_export.c and admin_apply.c share. A row is a JSON object that has, beside its "kind", the members that the
 * resources of that kind take (aced-control(7) lists them). Rows are read and written by those resources' own handlers,
 * so that nothing is checked or shown in two ways.
 */
#define ROW_KIND "kind"
#define ROW_CREDENTIAL "credential" /* the member that is "kind" in a credential of its own */

/* Calls of handlers: a request and its answer as trees. */
struct bulk {
        struct aced *as;
        struct request request;
        struct response response; /* its why is of the last call */
};

typedef int (*bulk_handler)(struct aced *as, const struct request *request, struct response *response);

struct bulk_call {
        bulk_handler handle;
        enum method method;
        const char *segments[4]; /* behind /v1, up to NULL */
        const char *queries[4];  /* "name=value", up to NULL */
        json_t *body;            /* borrowed */
};

/* outer: the request that asks for all this. */
void bulk_begin(struct bulk *bulk, struct aced *as, const struct request *outer);
/* What the handler returns; *ret is its answer, NULL when there is none. */
int bulk_call(struct bulk *bulk, const struct bulk_call *call, json_t **ret);
/* The row of the audit trail for the last call, which has changed something. */
int bulk_audit(struct bulk *bulk);

/* Clients and resource servers: one kind of row each. */
struct bulk_party {
        const char *kind; /* also the member by which rows of other kinds name one */
        const char *collection;
        bulk_handler list, add, show, change, remove;
        bulk_handler credential_list, credential_add, credential_remove;
};
extern const struct bulk_party bulk_clients, bulk_servers;

/* A resource server's keys as its resource lists them. */
int bulk_server_keys(struct bulk *bulk, const char *server, json_t **ret);

/* The members of a credential, "kind" as ROW_CREDENTIAL; up to NULL. */
extern const char *const bulk_credential_members[];

/* An item that a list resource shows → the members that a row has. Takes nothing over. NULL: no memory. */
json_t *bulk_row(const char *kind, const json_t *item, const char *const *left_out);
