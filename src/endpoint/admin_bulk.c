#include "endpoint/admin_bulk.h"

#include <string.h>

#include "base/cleanup.h"
#include "endpoint/audit.h"
#include "endpoint/handlers.h"

const struct bulk_party bulk_clients = {
        "client", "clients",
        admin_clients_get, admin_clients_post, admin_client_get, admin_client_patch, admin_client_delete,
        admin_client_credentials_get, admin_client_credentials_post, admin_client_credential_delete,
};

const struct bulk_party bulk_servers = {
        "server", "servers",
        admin_servers_get, admin_servers_post, admin_server_get, admin_server_patch, admin_server_delete,
        admin_server_credentials_get, admin_server_credentials_post, admin_server_credential_delete,
};

const char *const bulk_credential_members[] = {
        ROW_CREDENTIAL, "identity", "identity_hex", "key_hex", "public_key_hex", "kid_hex", "match",
        "master_secret_hex", "master_salt_hex", "sender_id_hex", "recipient_id_hex", "id_context_hex", "alg", "hkdf",
        "renews", "sender_number", NULL,
};

void bulk_begin(struct bulk *bulk, struct aced *as, const struct request *outer) {
        *bulk = (struct bulk){ .as = as, .request = *outer };
        response_init(&bulk->response);
}

int bulk_call(struct bulk *bulk, const struct bulk_call *call, json_t **ret) {
        struct request *request = &bulk->request;

        *ret = NULL;
        request->method = call->method;
        request->n_segments = 1;
        request->segments[0] = BYTES_LITERAL("v1");
        for (size_t i = 0; i < N_ELEMENTS(call->segments) && call->segments[i]; i++)
                request->segments[request->n_segments++] = bytes_text(call->segments[i]);
        request->n_queries = 0;
        for (size_t i = 0; i < N_ELEMENTS(call->queries) && call->queries[i]; i++)
                request->queries[request->n_queries++] = bytes_text(call->queries[i]);
        request->payload = BYTES_NONE;
        request->json = call->body;
        bulk->response.json = ret;
        bulk->response.why[0] = '\0';
        return call->handle(bulk->as, request, &bulk->response);
}

int bulk_audit(struct bulk *bulk) {
        static const uint8_t codes[] = { [METHOD_POST] = CODE_CREATED, [METHOD_DELETE] = CODE_DELETED,
                                         [METHOD_PATCH] = CODE_CHANGED, [METHOD_PUT] = CODE_CHANGED };

        bulk->response.note = (struct note){};
        bulk->response.refusal = 0;
        bulk->response.code = codes[bulk->request.method];
        return audit_add(bulk->as, &bulk->request, &bulk->response);
}

int bulk_server_keys(struct bulk *bulk, const char *server, json_t **ret) {
        return bulk_call(bulk, &(struct bulk_call){ admin_server_keys_get, METHOD_GET,
                         .segments = { "servers", server, "keys" } }, ret);
}

static bool is_left_out(const char *member, const json_t *value, const char *const *left_out) {
        if (json_is_null(value))
                return true;
        for (; *left_out; left_out++)
                if (strcmp(member, *left_out) == 0)
                        return true;
        return false;
}

json_t *bulk_row(const char *kind, const json_t *item, const char *const *left_out) {
        json_t *row = json_pack("{s:s}", ROW_KIND, kind), *value;
        const char *member;

        json_object_foreach((json_t *)item, member, value)
                if (row && !is_left_out(member, value, left_out) && json_object_set(row, member, value) != 0) {
                        json_decref(row);
                        return NULL;
                }
        return row;
}
