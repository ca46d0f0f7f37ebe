#include "endpoint/router.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "base/log.h"
#include "crypto/aead.h"
#include "endpoint/aced.h"
#include "endpoint/audit.h"
#include "endpoint/handlers.h"
#include "endpoint/refusal.h"
#include "format/ace.h"
#include "format/aif.h"
#include "format/coap.h"
#include "format/json.h"
#include "format/trl.h"
#include "store/store.h"

#define LOG_PATH_SIZE 160 /* of the path in a log line; longer ones are cut */
#define LOG_FIELDS 17

#define DEVICE CALLER_AUTHENTICATED
#define ADMIN CALLER_LOCAL
#define ACE CF_ACE_CBOR
#define JSON CF_JSON
#define NO CF_NONE

/* path, method, callers, reads, writes, success, changes, handler, … */
static const struct resource resources[] = {
        { "/token", METHOD_POST, DEVICE, ACE, ACE, CODE_CREATED, true, token_post,
          .rt = "ace.token", .interface = "ace.as", .summary = "ask for a token" },
        { "/introspect", METHOD_POST, DEVICE, ACE, ACE, CODE_CREATED, false, introspect_post,
          .rt = "ace.introspect", .interface = "ace.as", .summary = "ask what a token is worth" },
        { "/revoke", METHOD_POST, DEVICE, ACE, NO, CODE_CHANGED, true, revoke_post,
          .rt = "ace.revoke", .interface = "ace.as", .for_known = true, .summary = "give a token back" },
        { "/revoke/trl", METHOD_GET, DEVICE, NO, CF_ACE_TRL, CODE_CONTENT, false, trl_get,
          .rt = "ace.trl", .interface = "ace.as", .for_known = true, .observable = true,
          .summary = "which of one's tokens are revoked" },
        { "/.well-known/core", METHOD_GET, CALLER_ANYONE, NO, CF_LINK_FORMAT, CODE_CONTENT, false, well_known_get,
          .stateless = true, .summary = "list the resources" },

        { "/v1/status", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_status_get,
          .summary = "what runs since when, the store, figures and limits" },
        { "/v1/metrics", METHOD_GET, ADMIN, NO, CF_TEXT_PLAIN, CODE_CONTENT, false, admin_metrics_get,
          .stateless = true, /* it leaves out what a broken store cannot tell */
          .summary = "all figures as text for Prometheus" },
        { "/v1/config", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_config_get,
          .stateless = true, .summary = "the configuration in force" },
        { "/v1/backup", METHOD_GET, ADMIN, NO, CF_OCTET_STREAM, CODE_CONTENT, false, admin_backup_get,
          .stateless = true, .audited = true, .summary = "a copy of the database as it is now" },
        { "/v1/check", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_check_get,
          .summary = "whether every sealed secret opens, in pages; the items are faults" },

        { "/v1/audit", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_audit_get,
          .summary = "list what was decided and changed, in order" },
        { "/v1/audit/export", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_audit_export_get,
          .summary = "the same with the records as they are hashed" },
        { "/v1/audit/verify", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_audit_verify_get,
          .summary = "whether the audit trail's hashes fit, in pages; the items are faults" },

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
          admin_server_credentials_post, .summary = "give one a credential; the answer alone has the key" },
        { "/v1/servers/{}/credentials/{}", METHOD_DELETE, ADMIN, NO, NO, CODE_DELETED, true,
          admin_server_credential_delete, .summary = "remove a resource server's credential" },
        { "/v1/servers/{}/keys", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_server_keys_get,
          .summary = "list the keys shared with a resource server, without the keys themselves" },
        { "/v1/servers/{}/key", METHOD_PUT, ADMIN, JSON, JSON, CODE_CHANGED, true, admin_server_key_put,
          .summary = "replace the key that protects tokens; the answer alone has it" },

        { "/v1/keys", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_keys_get,
          .summary = "list the server's own keys, without private parts" },
        { "/v1/keys", METHOD_POST, ADMIN, JSON, JSON, CODE_CREATED, true, admin_keys_post,
          .summary = "make a key that takes over after an overlap" },
        { "/v1/keys/{}", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_key_get,
          .summary = "show one of the server's own keys" },
        { "/v1/keys/{}/pem", METHOD_GET, ADMIN, NO, CF_TEXT_PLAIN, CODE_CONTENT, false, admin_key_pem_get,
          .summary = "its public key and certificate as PEM" },
        { "/v1/keys/{}", METHOD_DELETE, ADMIN, NO, NO, CODE_DELETED, true, admin_key_delete,
          .summary = "remove a key that is not in force" },

        { "/v1/policies", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_policies_get,
          .summary = "list policies in order of ids" },
        { "/v1/policies", METHOD_POST, ADMIN, JSON, JSON, CODE_CREATED, true, admin_policies_post,
          .summary = "allow a client or label a scope at an audience" },
        { "/v1/policies/{}", METHOD_DELETE, ADMIN, NO, NO, CODE_DELETED, true, admin_policy_delete,
          .summary = "remove a policy" },
        { "/v1/explain", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_explain_get,
          .summary = "what a token request would be answered, and why" },

        { "/v1/export", METHOD_GET, ADMIN, NO, CF_JSON_LINES, CODE_CONTENT, false, admin_export_get,
          .audited = true, .summary = "clients, servers, policies as rows, in the order to apply them" },
        { "/v1/apply", METHOD_POST, ADMIN, JSON, JSON, CODE_CONTENT, false, admin_apply_post,
          .audited = true, .alone = true, .numbers = admin_apply_numbers,
          .summary = "make what is registered as rows say, all or nothing" },

        { "/v1/tokens", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_tokens_get,
          .summary = "list tokens in order of issue" },
        { "/v1/tokens/{}", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_token_get,
          .summary = "show a token, without its key" },
        { "/v1/tokens/{}", METHOD_DELETE, ADMIN, NO, NO, CODE_DELETED, true, admin_token_delete,
          .summary = "revoke a token" },
        { "/v1/tokens/revoke", METHOD_POST, ADMIN, JSON, JSON, CODE_CHANGED, true, admin_tokens_revoke_post,
          .summary = "revoke all live tokens of a client, a label, for a resource server, in steps" },
        { "/v1/trl", METHOD_GET, ADMIN, NO, JSON, CODE_CONTENT, false, admin_trl_get,
          .summary = "list the revocation list in order of issue" },
};

_Static_assert(N_ELEMENTS(resources) <= METRICS_RESOURCES_MAX, "each resource is counted");

const struct resource *router_resource(size_t n) {
        return n < N_ELEMENTS(resources) ? &resources[n] : NULL;
}

/* ---- finding the row */

/* {} stands for one segment that is not empty. */
static bool path_matches(const char *path, const struct request *request) {
        size_t n = 0;

        while (*path == '/') {
                const char *segment = path + 1;
                struct bytes pattern = bytes_of(segment, strcspn(segment, "/"));

                if (n == request->n_segments)
                        return false;
                if (bytes_equal(pattern, BYTES_LITERAL("{}")) ? request->segments[n].size == 0
                                                              : !bytes_equal(pattern, request->segments[n]))
                        return false;
                path = segment + pattern.size;
                n++;
        }
        return n == request->n_segments;
}

/* What is open to an administrator alone does not exist for the network. */
static bool is_visible(const struct resource *resource, const struct peer *peer) {
        return resource->callers != CALLER_LOCAL || peer->channel == CHANNEL_LOCAL;
}

static int find_resource(const struct request *request, const struct resource **ret) {
        int refusal = REFUSE_NOT_FOUND;

        for (size_t i = 0; i < N_ELEMENTS(resources); i++) {
                if (!is_visible(&resources[i], request->peer) || !path_matches(resources[i].path, request))
                        continue;
                if (resources[i].method == request->method) {
                        *ret = &resources[i];
                        return 0;
                }
                refusal = REFUSE_METHOD;
        }
        return refusal;
}

static bool may_call(const struct resource *resource, const struct peer *peer) {
        unsigned is = CALLER_ANYONE;

        if ((peer->channel == CHANNEL_DTLS || peer->channel == CHANNEL_OSCORE) && peer->credential_id != 0)
                is |= CALLER_AUTHENTICATED;
        if (peer->channel == CHANNEL_LOCAL)
                is |= CALLER_LOCAL;
        return (resource->callers & is) != 0;
}

static size_t payload_max(const struct aced *as, const struct resource *resource, const struct peer *peer) {
        if (resource && resource->alone)
                return (size_t)as->config->apply_body_max;
        return (size_t)(peer->channel == CHANNEL_LOCAL ? as->config->control_body_max : as->config->payload_max);
}

size_t router_payload_max(const struct aced *as, const struct request *request) {
        const struct resource *resource = NULL;

        (void)find_resource(request, &resource);
        return payload_max(as, resource, request->peer);
}

/* All that can be said without the handler. Sets *ret_resource when path and method name a row. */
static int admit(const struct aced *as, const struct request *request, const struct resource **ret_resource) {
        const struct resource *resource;
        int r;

        r = find_resource(request, ret_resource);
        if (r != 0)
                return r;
        resource = *ret_resource;
        if (!may_call(resource, request->peer))
                return REFUSE_UNAUTHENTICATED;
        if (request->accept != CF_NONE && resource->writes != CF_NONE && request->accept != resource->writes)
                return REFUSE_NOT_ACCEPTABLE;
        if (resource->reads == CF_NONE)
                return 0; /* a payload is ignored (RFC 7252 §5.5.1 leaves it without meaning) */
        /* without a format nobody knows what a payload is; without both there is nothing that could have a format */
        if (request->content_format != resource->reads &&
            (request->content_format != CF_NONE || request->payload.size > 0))
                return REFUSE_CONTENT_FORMAT;
        return request->payload.size > payload_max(as, resource, request->peer) ? REFUSE_TOO_LARGE : 0;
}

int router_check(const struct aced *as, const struct request *request) {
        const struct resource *resource;

        return admit(as, request, &resource);
}

/* ---- answers that are not the handler's */

/* RFC 9200 §5.8.3. Unauthenticated: the code alone, as an answer must not be longer than what called for it. */
static int put_ace_error(const struct refusal_row *row, const struct peer *peer, struct response *response) {
        char decision[DECISION_TEXT_SIZE], text[128];

        response->content_format = CF_ACE_CBOR;
        if (peer->channel == CHANNEL_PLAIN)
                return ace_error_encode(row->ace_error, NULL, &response->payload);
        decision_text(response->decision_id, decision);
        snprintf(text, sizeof(text), "%s (%s)", row->text, decision);
        return ace_error_encode(row->ace_error, text, &response->payload);
}

/* {"error": name of the refusal, "detail": what, where, what to do next, "decision": id of the log line} */
static int put_json_error(const struct refusal_row *row, struct response *response) {
        char decision[DECISION_TEXT_SIZE];
        json_t *error;
        int r;

        decision_text(response->decision_id, decision);
        error = json_pack("{s:s, s:s, s:s}", "error", row->name, "detail",
                          response->why[0] ? response->why : row->text, "decision", decision);
        if (!error)
                return -ENOMEM;
        response->content_format = CF_JSON;
        r = json_print(error, &response->payload);
        json_decref(error);
        return r;
}

/* RFC 9770 §6.1, for the peer that this list is for. */
static int put_trl_error(struct response *response) {
        response->content_format = CF_PROBLEM;
        return trl_error_encode(response->refusal == REFUSE_TRL_VALUE ? TRL_ERROR_VALUE :
                                response->refusal == REFUSE_TRL_SET   ? TRL_ERROR_SET : TRL_ERROR_OUT_OF_BOUND,
                                response->cursor, &response->payload);
}

static int put_error(const struct work *work, const struct refusal_row *row, struct response *response) {
        const struct peer *peer = work->request.peer;

        if (peer->channel == CHANNEL_LOCAL)
                return put_json_error(row, response);
        if (response->refusal >= REFUSE_TRL_VALUE && response->refusal <= REFUSE_TRL_OUT_OF_BOUND)
                return put_trl_error(response);
        /* Only what speaks ACE says no in CBOR. An anonymous request without a payload is shorter than any error. */
        if (row->ace_error != 0 && work->resource && (work->resource->writes == ACE || work->resource->reads == ACE) &&
            (peer->channel != CHANNEL_PLAIN || work->request.payload.size > 0))
                return put_ace_error(row, peer, response);
        return 0;
}

/* Whatever the handler has written is not said. */
static void say_no(struct work *work, int refusal) {
        const struct refusal_row *row = refusal_row(refusal);
        struct response *response = &work->response;
        bool later = row->coap_code == CODE_TOO_MANY_REQUESTS || row->coap_code == CODE_UNAVAILABLE;

        response_drop(response);
        response->refusal = refusal;
        response->code = row->coap_code;
        response->content_format = CF_NONE;
        response->max_age_s = later ? RETRY_AFTER_S : -1;
        if (put_error(work, row, response) != 0) {
                response_drop(response); /* the code alone says enough */
                response->content_format = CF_NONE;
        }
}

/* The decision did not come to be: nothing it said may be told. */
static void forget(struct work *work, int error) {
        struct response *response = &work->response;

        response->why[0] = '\0';
        response->token_number = 0;
        response->audit_seq = 0;
        response->note = (struct note){};
        say_no(work, error);
}

static void say_yes(struct work *work) {
        struct response *response = &work->response;

        response->refusal = 0;
        response->code = work->resource->success;
        response->content_format = response->payload.size > 0 || response->stream ? work->resource->writes : CF_NONE;
}

/* ---- the batch */

/* A refused request leaves nothing behind. Returns r, or < 0 when it could not be kept; *ret_undone: nor be undone. */
static int end_savepoint(struct aced *as, const struct response *response, int r, int *ret_undone) {
        int kept = r;

        if (r == 0 || (r > 0 && response->keep_changes))
                kept = store_savepoint_release(as->store);
        if (kept != 0)
                *ret_undone = store_savepoint_rollback(as->store);
        return kept < 0 ? kept : r;
}

static bool is_audited(const struct resource *resource) {
        return resource->changes || resource->audited;
}

/* Returns < 0 when the transaction is lost and the batch with it. */
static int run(struct aced *as, struct work *work) {
        const struct resource *resource = work->resource;
        int r, undone = 0;

        if (resource->changes && (r = store_savepoint(as->store)) != 0)
                return r;
        r = resource->handle(as, &work->request, &work->response);
        if (resource->changes)
                r = end_savepoint(as, &work->response, r, &undone);
        if (r != 0)
                say_no(work, r);
        else
                say_yes(work);
        if (undone != 0)
                return undone;
        /* SQLite ends a transaction by itself after some failures */
        if (r < 0 && !store_in_transaction(as->store))
                return r;
        return is_audited(resource) ? audit_add(as, &work->request, &work->response) : 0;
}

static int audit_alone(struct aced *as, struct work *work) {
        int r = store_begin(as->store);

        if (r != 0)
                return r;
        r = audit_add(as, &work->request, &work->response);
        if (r == 0)
                return store_commit(as->store);
        store_rollback(as->store);
        return r;
}

/* Without a transaction that could be lost; but nothing is done that is to be audited and is not. */
static void run_stateless(struct aced *as, struct work *work) {
        int r = work->resource->handle(as, &work->request, &work->response);

        if (r != 0)
                say_no(work, r);
        else
                say_yes(work);
        if (is_audited(work->resource) && (r = audit_alone(as, work)) != 0)
                forget(work, r);
}

static int commit(struct aced *as) {
        int64_t begin_us = as->stopwatch_us ? as->stopwatch_us() : 0;
        int r = store_commit(as->store);

        if (as->stopwatch_us) {
                as->commit_us = as->stopwatch_us() - begin_us;
                metrics_observe(&as->metrics, HISTOGRAM_COMMIT, as->commit_us);
        }
        return r;
}

static uint64_t numbers_wanted(struct work *const *works, size_t n_works) {
        uint64_t n = 0;

        for (size_t i = 0; i < n_works; i++)
                if (works[i]->used_store && works[i]->resource->numbers)
                        n += works[i]->resource->numbers(&works[i]->request);
        return n;
}

static int run_stored(struct aced *as, struct work *const *works, size_t n_works) {
        int r;

        store_reserve(as->store, numbers_wanted(works, n_works));
        r = store_begin(as->store);
        if (r != 0)
                return r;
        for (size_t i = 0; i < n_works; i++) {
                if (!works[i]->used_store)
                        continue;
                r = run(as, works[i]);
                if (r != 0) {
                        store_rollback(as->store);
                        return r;
                }
        }
        return commit(as);
}

/*
 * What strangers may ask decides on nothing, and there are many of them: they are not to fill the disk, nor to make the
 * journal's rate limit swallow the lines about others.
 */
static enum log_level level_of(const struct work *work) {
        if (work->response.refusal < 0)
                return LOG_LEVEL_ERROR;
        return work->request.peer->channel == CHANNEL_PLAIN ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
}

/* Texts of one line, in memory of its own. */
struct line {
        struct log_field fields[LOG_FIELDS + 1];
        size_t n_fields;
        char code[5], credential[24], decision[DECISION_TEXT_SIZE], token[17], why[320], scope[2 * SCOPE_SIZE_MAX + 5],
                shadow[2 * SCOPE_SIZE_MAX + 5], policies[168], audit[24];
};

static void line_add(struct line *line, const char *name, const char *value) {
        if (value[0] != '\0' && line->n_fields < LOG_FIELDS)
                line->fields[line->n_fields++] = (struct log_field){ name, value };
}

static const char *scope_text(const struct scope *scope, char *text, size_t size) {
        size_t n = 0;

        if (scope->kind == SCOPE_AIF) {
                aif_print_cut(scope, text, size);
        } else if (scope->kind == SCOPE_BYTES) {
                n = (size_t)snprintf(text, size, "hex:");
                bytes_to_hex(scope_bytes(scope), text + n, size - n);
        } else {
                snprintf(text, size, "%.*s", (int)(scope->kind == SCOPE_TEXT ? scope->size : 0), scope->data);
        }
        return text;
}

/* "3 5", with "…" for those that are not named. */
static const char *policies_text(const struct note *note, char *text, size_t size) {
        size_t n_named = note->n_policies < NOTE_POLICIES_MAX ? note->n_policies : NOTE_POLICIES_MAX, n = 0;

        text[0] = '\0';
        for (size_t i = 0; i < n_named && n < size; i++)
                n += (size_t)snprintf(text + n, size - n, "%s%" PRId64, i > 0 ? " " : "", note->policies[i]);
        if (n_named < note->n_policies && n < size)
                snprintf(text + n, size - n, " …");
        return text;
}

/* What the audit trail has of the decision, in the same words. */
static void line_add_note(struct line *line, const struct work *work) {
        const struct response *response = &work->response;
        const struct note *note = &response->note;

        line_add(line, "ACED_ACTOR", note->party[0] || work->request.peer->channel != CHANNEL_LOCAL ?
                                             note->party : work->request.peer->name);
        line_add(line, "ACED_OBJECT", note->object);
        line_add(line, "ACED_SCOPE", scope_text(&note->granted, line->scope, sizeof(line->scope)));
        if (note->has_shadow)
                line_add(line, "ACED_SHADOW", note->shadow.kind == SCOPE_NONE ? "nothing" :
                                              scope_text(&note->shadow, line->shadow, sizeof(line->shadow)));
        line_add(line, "ACED_POLICIES", policies_text(note, line->policies, sizeof(line->policies)));
        if (response->token_number != 0)
                snprintf(line->token, sizeof(line->token), "%08" PRIx64, response->token_number);
        line_add(line, "ACED_TOKEN", line->token);
        if (response->audit_seq != 0)
                snprintf(line->audit, sizeof(line->audit), "%" PRId64, response->audit_seq);
        line_add(line, "ACED_AUDIT", line->audit);
}

/* Who it is, and how it is known: nothing of the key, nor an identity, which may be any bytes. */
static void line_add_peer(struct line *line, const struct peer *peer) {
        line_add(line, "ACED_PEER", peer->name);
        line_add(line, "ACED_CHANNEL", channel_name(peer->channel));
        if (peer->credential_id == 0)
                return;
        snprintf(line->credential, sizeof(line->credential), "%" PRId64, peer->credential_id);
        line_add(line, "ACED_CREDENTIAL", line->credential);
        line_add(line, "ACED_CREDENTIAL_KIND", credential_kind_name(peer->kind));
}

static void line_add_outcome(struct line *line, const struct work *work) {
        const struct response *response = &work->response;

        coap_code_text(response->code, line->code);
        decision_text(response->decision_id, line->decision);
        if (response->refusal < 0)
                snprintf(line->why, sizeof(line->why), "%s%s%s", response->why, response->why[0] ? ": " : "",
                         strerror(-response->refusal));
        else
                snprintf(line->why, sizeof(line->why), "%s", response->why);
        line_add_peer(line, work->request.peer);
        line_add(line, "ACED_METHOD", method_name(work->request.method));
        line_add(line, "ACED_RESOURCE", work->resource ? work->resource->path : "");
        line_add(line, "ACED_OUTCOME", line->code);
        line_add(line, "ACED_DECISION", line->decision);
        line_add(line, "ACED_REFUSAL", response->refusal != 0 ? refusal_row(response->refusal)->name : "");
        line_add(line, "ACED_WHY", line->why);
}

static void log_work(const struct work *work) {
        enum log_level level = level_of(work);
        char path[LOG_PATH_SIZE] = "/";
        struct line line;
        size_t n = 0;

        if (!log_enabled(level))
                return;
        for (size_t i = 0; i < work->request.n_segments && n < sizeof(path); i++)
                n += (size_t)snprintf(path + n, sizeof(path) - n, "/%.*s", (int)work->request.segments[i].size,
                                      (const char *)work->request.segments[i].data);
        line.n_fields = 0;
        line.token[0] = line.audit[0] = '\0';
        line_add_outcome(&line, work);
        line_add_note(&line, work);
        line.fields[line.n_fields] = (struct log_field){};
        log_fields(level, line.fields, "%s %s %s", method_name(work->request.method), path, line.code);
}

void router_batch(struct aced *as, struct work *const *works, size_t n_works) {
        bool needs_store = false;
        int r;

        for (size_t i = 0; i < n_works; i++) {
                struct work *work = works[i];

                work->resource = NULL;
                work->response.decision_id = as->decision_stamp + as->n_decisions++;
                r = admit(as, &work->request, &work->resource);
                if (r == 0 && work->resource->alone && n_works > 1)
                        r = REFUSE_OVERLOAD;
                work->used_store = r == 0 && !work->resource->stateless;
                needs_store = needs_store || work->used_store;
                if (r != 0)
                        say_no(work, r);
                else if (work->resource->stateless)
                        run_stateless(as, work);
        }
        r = needs_store ? run_stored(as, works, n_works) : 0;
        if (as->aead)
                aead_forget(as->aead); /* the key of a resource server is not kept for longer */
        for (size_t i = 0; i < n_works; i++) {
                if (r != 0 && works[i]->used_store)
                        forget(works[i], r);
                metrics_answered(&as->metrics, works[i]->resource, works[i]->response.code,
                                 works[i]->response.refusal);
                log_work(works[i]);
        }
}
