#include "endpoint/router.h"

#include "base/cleanup.h"
#include "endpoint/handlers.h"

#define DEVICE CALLER_AUTHENTICATED
#define ADMIN CALLER_LOCAL
#define ACE CF_ACE_CBOR
#define JSON CF_JSON
#define NO CF_NONE

/* path, method, callers, reads, writes, success, changes, handler, … */
static const struct resource resources[] = {
        { "/token", METHOD_POST, DEVICE, ACE, ACE, CODE_CREATED, true, token_post,
          .rt = "ace.token", .summary = "ask for a token" },
        { "/introspect", METHOD_POST, DEVICE, ACE, ACE, CODE_CREATED, false, introspect_post,
          .rt = "ace.introspect", .summary = "ask what a token is worth" },
        { "/.well-known/core", METHOD_GET, CALLER_ANYONE, NO, CF_LINK_FORMAT, CODE_CONTENT, false, well_known_get,
          .stateless = true, .summary = "list the resources" },

        { "/v1/status", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_status_get,
          .summary = "what runs since when, the store, figures and limits" },
        { "/v1/config", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_config_get,
          .stateless = true, .summary = "the configuration in force" },

        { "/v1/clients", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_clients_get,
          .summary = "list clients in order of names" },
        { "/v1/clients", METHOD_POST, ADMIN, JSON, JSON, CODE_CREATED, true, admin_clients_post,
          .summary = "register a client" },
        { "/v1/clients/{}", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_client_get,
          .summary = "show a client" },
        { "/v1/clients/{}", METHOD_PATCH, ADMIN, JSON, JSON, CODE_CHANGED, true, admin_client_patch,
          .summary = "change, suspend or resume a client" },
        { "/v1/clients/{}", METHOD_DELETE, ADMIN, NO, NO, CODE_DELETED, true, admin_client_delete,
          .summary = "remove a client, revoking its tokens" },
        { "/v1/clients/{}/credentials", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_client_credentials_get,
          .summary = "list a client's credentials, without keys" },
        { "/v1/clients/{}/credentials", METHOD_POST, ADMIN, JSON, JSON, CODE_CREATED, true,
          admin_client_credentials_post, .summary = "give a client a credential; the answer alone has the key" },
        { "/v1/clients/{}/credentials/{}", METHOD_DELETE, ADMIN, NO, NO, CODE_DELETED, true,
          admin_client_credential_delete, .summary = "remove a client's credential" },

        { "/v1/servers", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_servers_get,
          .summary = "list resource servers in order of names" },
        { "/v1/servers", METHOD_POST, ADMIN, JSON, JSON, CODE_CREATED, true, admin_servers_post,
          .summary = "register a resource server; the answer alone has its token key" },
        { "/v1/servers/{}", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_server_get,
          .summary = "show a resource server" },
        { "/v1/servers/{}", METHOD_PATCH, ADMIN, JSON, JSON, CODE_CHANGED, true, admin_server_patch,
          .summary = "change, suspend or resume a resource server" },
        { "/v1/servers/{}", METHOD_DELETE, ADMIN, NO, NO, CODE_DELETED, true, admin_server_delete,
          .summary = "remove a resource server, revoking the tokens for it" },
        { "/v1/servers/{}/credentials", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_server_credentials_get,
          .summary = "list a resource server's credentials, without keys" },
        { "/v1/servers/{}/credentials", METHOD_POST, ADMIN, JSON, JSON, CODE_CREATED, true,
          admin_server_credentials_post, .summary = "give a resource server a credential; the answer alone has the key" },
        { "/v1/servers/{}/credentials/{}", METHOD_DELETE, ADMIN, NO, NO, CODE_DELETED, true,
          admin_server_credential_delete, .summary = "remove a resource server's credential" },
        { "/v1/servers/{}/key", METHOD_PUT, ADMIN, JSON, JSON, CODE_CHANGED, true, admin_server_key_put,
          .summary = "replace the key that protects tokens; the answer alone has it" },

        { "/v1/policies", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_policies_get,
          .summary = "list policies in order of ids" },
        { "/v1/policies", METHOD_POST, ADMIN, JSON, JSON, CODE_CREATED, true, admin_policies_post,
          .summary = "allow a client or label a scope at an audience" },
        { "/v1/policies/{}", METHOD_DELETE, ADMIN, NO, NO, CODE_DELETED, true, admin_policy_delete,
          .summary = "remove a policy" },
        { "/v1/explain", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_explain_get,
          .summary = "what a token request would be answered, and why" },

        { "/v1/tokens", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_tokens_get,
          .summary = "list tokens in order of issue" },
        { "/v1/tokens/{}", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_token_get,
          .summary = "show a token, without its key" },
        { "/v1/tokens/{}", METHOD_DELETE, ADMIN, NO, NO, CODE_DELETED, true, admin_token_delete,
          .summary = "revoke a token" },
};

const struct resource *router_resource(size_t n) {
        return n < N_ELEMENTS(resources) ? &resources[n] : NULL;
}
