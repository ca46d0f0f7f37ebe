#pragma once

#include <stdint.h>

struct aced;
struct request;
struct response;

/*
 * The handlers of the router's table, one file per resource. Each runs inside the batch's transaction, after the router
 * has checked path, method, caller, formats and size, and returns
 *   0    done: what it put into response->payload is the answer; the row's success code and format are filled in;
 *   > 0  an enum refusal; response_why() may have said what it is about. The savepoint (but see
 *        response->keep_changes) and the payload are dropped;
 *   < 0  -errno: something broke, 5.00 (5.03 for -EBUSY and -ENOSPC).
 * A handler never builds an error reply. {} in a path is found at the same place of request->segments.
 */

/* token.c: POST /token (RFC 9200 §5.8) */
int token_post(struct aced *as, const struct request *request, struct response *response);
/* introspect.c: POST /introspect (RFC 9200 §5.9) */
int introspect_post(struct aced *as, const struct request *request, struct response *response);
/* revoke.c: POST /revoke (RFC 7009 §2) */
int revoke_post(struct aced *as, const struct request *request, struct response *response);
/* trl.c: GET /revoke/trl (RFC 9770 §6) */
int trl_get(struct aced *as, const struct request *request, struct response *response);
/* well_known.c: GET /.well-known/core (RFC 6690) */
int well_known_get(struct aced *as, const struct request *request, struct response *response);

/* admin_status.c */
int admin_status_get(struct aced *as, const struct request *request, struct response *response);
int admin_metrics_get(struct aced *as, const struct request *request, struct response *response);
int admin_config_get(struct aced *as, const struct request *request, struct response *response);

/* admin_store.c */
int admin_backup_get(struct aced *as, const struct request *request, struct response *response);
int admin_check_get(struct aced *as, const struct request *request, struct response *response);

/* admin_audit.c */
int admin_audit_get(struct aced *as, const struct request *request, struct response *response);
int admin_audit_export_get(struct aced *as, const struct request *request, struct response *response);
int admin_audit_verify_get(struct aced *as, const struct request *request, struct response *response);

/* admin_clients.c */
int admin_clients_get(struct aced *as, const struct request *request, struct response *response);
int admin_clients_post(struct aced *as, const struct request *request, struct response *response);
int admin_client_get(struct aced *as, const struct request *request, struct response *response);
int admin_client_patch(struct aced *as, const struct request *request, struct response *response);
int admin_client_delete(struct aced *as, const struct request *request, struct response *response);

/* admin_servers.c */
int admin_servers_get(struct aced *as, const struct request *request, struct response *response);
int admin_servers_post(struct aced *as, const struct request *request, struct response *response);
int admin_server_get(struct aced *as, const struct request *request, struct response *response);
int admin_server_patch(struct aced *as, const struct request *request, struct response *response);
int admin_server_delete(struct aced *as, const struct request *request, struct response *response);

/* admin_protection.c */
int admin_server_keys_get(struct aced *as, const struct request *request, struct response *response);
int admin_server_key_put(struct aced *as, const struct request *request, struct response *response);

/* admin_credentials.c */
int admin_client_credentials_get(struct aced *as, const struct request *request, struct response *response);
int admin_client_credentials_post(struct aced *as, const struct request *request, struct response *response);
int admin_client_credential_delete(struct aced *as, const struct request *request, struct response *response);
int admin_server_credentials_get(struct aced *as, const struct request *request, struct response *response);
int admin_server_credentials_post(struct aced *as, const struct request *request, struct response *response);
int admin_server_credential_delete(struct aced *as, const struct request *request, struct response *response);

/* admin_keys.c: the server's own keys */
int admin_keys_get(struct aced *as, const struct request *request, struct response *response);
int admin_keys_post(struct aced *as, const struct request *request, struct response *response);
int admin_key_get(struct aced *as, const struct request *request, struct response *response);
int admin_key_pem_get(struct aced *as, const struct request *request, struct response *response);
int admin_key_delete(struct aced *as, const struct request *request, struct response *response);

/* admin_export.c */
int admin_export_get(struct aced *as, const struct request *request, struct response *response);

/* admin_apply.c */
int admin_apply_post(struct aced *as, const struct request *request, struct response *response);
uint64_t admin_apply_numbers(const struct request *request); /* struct resource */

/* admin_policies.c */
int admin_policies_get(struct aced *as, const struct request *request, struct response *response);
int admin_policies_post(struct aced *as, const struct request *request, struct response *response);
int admin_policy_delete(struct aced *as, const struct request *request, struct response *response);
int admin_explain_get(struct aced *as, const struct request *request, struct response *response);

/* admin_tokens.c */
int admin_tokens_get(struct aced *as, const struct request *request, struct response *response);
int admin_token_get(struct aced *as, const struct request *request, struct response *response);
int admin_token_delete(struct aced *as, const struct request *request, struct response *response);
int admin_tokens_revoke_post(struct aced *as, const struct request *request, struct response *response);

/* admin_trl.c */
int admin_trl_get(struct aced *as, const struct request *request, struct response *response);
