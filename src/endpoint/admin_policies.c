#include "endpoint/handlers.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "domain/grant.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/admin.h"
#include "endpoint/refusal.h"
#include "format/describe.h"
#include "store/policies.h"
#include "store/servers.h"
#include "store/tokens.h"

struct policy_ask {
        const char *client, *label, *audience, *scope;
        struct json_int max_lifetime_s, from_s, until_s;
};

static const struct json_field policy_fields[] = {
        ADMIN_FIELD(policy_ask, client, TEXT),
        ADMIN_FIELD(policy_ask, label, TEXT),
        ADMIN_FIELD(policy_ask, audience, TEXT, .required = true),
        ADMIN_FIELD(policy_ask, scope, TEXT, .required = true),
        ADMIN_FIELD(policy_ask, max_lifetime_s, INT, .max = LIFETIME_MAX_S),
        ADMIN_FIELD(policy_ask, from_s, INT, .max = INSTANT_MAX_S),
        ADMIN_FIELD(policy_ask, until_s, INT, .max = INSTANT_MAX_S),
};

/* client or label is null: a policy is for one of the two. */
static json_t *policy_json(const struct policy *policy) {
        return json_pack("{s:I, s:s?, s:s?, s:s, s:o, s:I, s:I, s:I, s:I}", "id", (json_int_t)policy->id,
                         "client", policy->for_label ? NULL : policy->subject,
                         "label", policy->for_label ? policy->subject : NULL, "audience", policy->audience,
                         "scope", admin_scope(&policy->scopes), "max_lifetime_s", (json_int_t)policy->max_lifetime_s,
                         "from_s", (json_int_t)policy->valid_from_s, "until_s", (json_int_t)policy->valid_until_s,
                         "created_s", (json_int_t)policy->created_s);
}

/* ---- list */

struct policy_list {
        struct admin_list list;
        struct bytes client, label; /* filters; data NULL: none */
};

static int list_policy(void *context, const struct policy *policy) {
        struct policy_list *policies = context;
        char key[24];

        snprintf(key, sizeof(key), "%lld", (long long)policy->id);
        if (!admin_list_offer(&policies->list, key))
                return 0; /* it was the last asked for */
        /* the store finds subjects by their text: a client and a label may have the same */
        if ((policies->client.data && policy->for_label) || (policies->label.data && !policy->for_label))
                return 0;
        return admin_list_add(&policies->list, policy_json(policy));
}

static int policy_list_begin(struct policy_list *policies, const struct request *request, struct response *response,
                             int64_t *ret_after) {
        int r = admin_list_begin(&policies->list, request, response,
                                 (const char *const[]){ "client", "label", "audience", NULL });

        if (r != 0)
                return r;
        policies->client = request_query(request, "client");
        policies->label = request_query(request, "label");
        if (policies->client.data && policies->label.data) {
                response_why(response, "query parameters \"client\" and \"label\": a policy is for one of the two");
                return REFUSE_ADMIN_VALUE;
        }
        *ret_after = 0;
        if (policies->list.after.size > 0 && admin_read_id(response, "policy", policies->list.after, ret_after) != 0)
                return REFUSE_ADMIN_VALUE;
        return 0;
}

int admin_policies_get(struct aced *as, const struct request *request, struct response *response) {
        struct policy_list policies = {};
        struct bytes subject;
        int64_t after;
        int r = policy_list_begin(&policies, request, response, &after);

        subject = policies.client.data ? policies.client : policies.label;
        if (r == 0)
                r = store_policy_each(as->store, after, admin_list_ask(&policies.list), subject,
                                      request_query(request, "audience"), list_policy, &policies);
        if (r == 0)
                r = admin_list_reply(&policies.list, response);
        admin_list_done(&policies.list);
        return r;
}

/* ---- add, delete */

/* A client that is there, or a label: labels are born when somebody first names them. */
static int read_subject(struct aced *as, const struct policy_ask *ask, struct response *response,
                        struct policy *policy) {
        struct client client;
        int r;

        if (!ask->client == !ask->label) {
                response_why(response, "members \"client\" and \"label\": exactly one of the two is expected");
                return REFUSE_ADMIN_VALUE;
        }
        policy->for_label = ask->label != NULL;
        r = ask->label ? admin_check_name(response, "label", ask->label) :
                         admin_client_find(as->store, bytes_text(ask->client), response, &client);
        if (r == 0)
                admin_copy(policy->subject, sizeof(policy->subject), ask->label ? ask->label : ask->client);
        return r;
}

/* What the resource server does not know would never be granted: a typing error is told now. */
static int check_scope(struct response *response, const struct policy *policy, const struct server *server) {
        struct scope token, common;
        size_t at = 0;

        if (policy->scopes.kind != server->scope_kind) {
                response_why(response, "member \"scope\": resource server \"%s\" has scopes of %s", server->name,
                             server->scope_kind == SCOPE_BYTES ? "bytes, written as hex:0102" : "text, not bytes");
                return REFUSE_ADMIN_VALUE;
        }
        if (server->scopes.kind == SCOPE_NONE)
                return 0;
        while (admin_scope_next(&policy->scopes, &at, &token))
                if (!scope_intersect(&token, &server->scopes, &common)) {
                        json_t *text = admin_scope(&token);
                        int r = text ? admin_refuse_value(response, "scope", json_string_value(text),
                                                          "is none of the resource server's scopes: acectl rs show "
                                                          "lists them") : -ENOMEM;

                        json_decref(text);
                        return r;
                }
        return 0;
}

static int read_period(const struct policy_ask *ask, int64_t now_s, struct response *response, struct policy *policy) {
        policy->max_lifetime_s = ask->max_lifetime_s.value;
        policy->valid_from_s = ask->from_s.value;
        policy->valid_until_s = ask->until_s.value;
        if (policy->valid_until_s == 0)
                return 0;
        if (policy->valid_until_s <= now_s || policy->valid_until_s <= policy->valid_from_s) {
                response_why(response, "member \"until_s\": %lld is %s: the policy would never be valid",
                             (long long)policy->valid_until_s,
                             policy->valid_until_s <= now_s ? "past" : "not behind from_s");
                return REFUSE_ADMIN_VALUE;
        }
        return 0;
}

static int policy_read(struct aced *as, const struct request *request, struct response *response,
                       struct policy *policy) {
        _cleanup_(json_document_done) struct json_document document = {};
        struct server server;
        struct policy_ask ask;
        int r;

        if ((r = admin_read(request, response, policy_fields, N_ELEMENTS(policy_fields), &ask, &document)) != 0 ||
            (r = read_subject(as, &ask, response, policy)) != 0 ||
            (r = admin_check_audience(response, "audience", ask.audience)) != 0 ||
            (r = admin_audience_find(as->store, bytes_text(ask.audience), response, &server)) != 0)
                return r;
        if (*ask.scope == '\0')
                return admin_refuse_value(response, "scope", "", "allows nothing: name at least one scope");
        if ((r = admin_read_scope(response, "scope", ask.scope, &policy->scopes)) != 0 ||
            (r = check_scope(response, policy, &server)) != 0 ||
            (r = read_period(&ask, request->now_s, response, policy)) != 0)
                return r;
        admin_copy(policy->audience, sizeof(policy->audience), ask.audience);
        policy->created_s = request->now_s;
        return 0;
}

int admin_policies_post(struct aced *as, const struct request *request, struct response *response) {
        struct policy policy = {};
        json_t *object;
        int r = policy_read(as, request, response, &policy);

        if (r != 0)
                return r;
        r = store_policy_add(as->store, &policy);
        if (r == REFUSE_ADMIN_EXISTS)
                response_why(response, "there is an equal policy for \"%s\" at \"%s\" already: acectl policy list "
                             "shows it", policy.subject, policy.audience);
        if (r != 0)
                return r;
        object = policy_json(&policy);
        return admin_reply(response, &object);
}

int admin_policy_delete(struct aced *as, const struct request *request, struct response *response) {
        int64_t id = 0;
        int r = admin_read_id(response, "policy", request->segments[2], &id);

        if (r != 0)
                return r;
        r = store_policy_delete(as->store, id);
        if (r == REFUSE_ADMIN_UNKNOWN)
                response_why(response, "there is no policy %lld: acectl policy list shows those there are",
                             (long long)id);
        return r;
}

/* ---- explain */

/* A token request that nobody sent, and what would become of it. */
struct explaining {
        struct token_ask ask;
        struct scope asked;
        struct token_facts facts;
        struct grant grant;
        struct explanation why;
        struct server server; /* that has the audience, suspended or not; id 0: nobody */
};

static void explaining_done(struct explaining *e) {
        token_facts_done(&e->facts);
        grant_done(&e->grant);
}

static int explain_read(struct aced *as, const struct request *request, struct response *response,
                        struct explaining *e) {
        struct bytes client = request_query(request, "client"), scope = request_query(request, "scope");
        char text[2 * SCOPE_SIZE_MAX + 8];
        int r = admin_check_queries(request, response, (const char *const[]){ "client", "audience", "scope", NULL });

        if (r != 0)
                return r;
        if (!client.data) {
                response_why(response, "query parameter \"client\": it is missing");
                return REFUSE_ADMIN_VALUE;
        }
        if (scope.size >= sizeof(text)) {
                response_why(response, "query parameter \"scope\": at most %d bytes are expected", SCOPE_SIZE_MAX);
                return REFUSE_ADMIN_VALUE;
        }
        if (scope.size > 0)
                memcpy(text, scope.data, scope.size);
        text[scope.size] = '\0';
        if ((r = admin_read_scope(response, "scope", text, &e->asked)) != 0 ||
            (r = admin_client_find(as->store, client, response, &e->facts.client)) != 0)
                return r;
        e->ask = (struct token_ask){ .audience = request_query(request, "audience"),
                                     .grant_type = ASK_CLIENT_CREDENTIALS, .cnf = ASK_CNF_NONE,
                                     .scope_kind = e->asked.kind, .scope = scope_bytes(&e->asked) };
        return 0;
}

static int explain_decide(struct aced *as, const struct request *request, struct explaining *e) {
        int64_t client_id = e->facts.client.id;
        int r;

        e->facts = (struct token_facts){ .tokens_max = as->config->tokens_per_client_max,
                                         .default_lifetime_s = as->config->default_lifetime_s,
                                         .max_lifetime_s = as->config->max_lifetime_s };
        r = store_token_facts(as->store, 0, client_id, &e->ask, request->now_s, &e->facts);
        if (r == 0)
                r = store_audience_server(as->store, bytes_text(e->facts.audience), &e->server);
        if (r == REFUSE_ADMIN_UNKNOWN) {
                e->server.id = 0;
                r = 0;
        }
        if (r == 0)
                (void)grant_decide(&e->facts, &e->ask, request->now_s, &e->grant, &e->why); /* e->why tells */
        return r;
}

/* Why this one token of the scope is not granted. */
static const char *dropped_reason(const struct explaining *e, const struct scope *token, int64_t now_s) {
        struct scope common;

        if (e->facts.server.scopes.kind != SCOPE_NONE && !scope_intersect(token, &e->facts.server.scopes, &common))
                return "the resource server has no such scope";
        for (size_t i = 0; i < e->facts.n_policies; i++)
                if (!policy_is_active(&e->facts.policies[i], now_s) &&
                    scope_intersect(token, &e->facts.policies[i].scopes, &common))
                        return "a policy allows it, but not at this time";
        return "no policy of this client or its labels allows it";
}

static int dropped_json(const struct explaining *e, int64_t now_s, json_t *dropped) {
        const struct scope *wanted = e->asked.kind != SCOPE_NONE ? &e->asked : &e->facts.server.default_scope;
        struct scope token, common;
        size_t at = 0;

        if (e->why.refusal != 0 && e->why.refusal < REFUSE_SCOPE)
                return 0; /* the decision did not come that far: refusals are in the order of the checks */
        while (admin_scope_next(wanted, &at, &token)) {
                if (scope_intersect(&token, &e->why.granted, &common))
                        continue;
                if (json_array_append_new(dropped, json_pack("{s:o, s:s}", "scope", admin_scope(&token), "reason",
                                                             dropped_reason(e, &token, now_s))) != 0)
                        return -ENOMEM;
        }
        return 0;
}

static bool has_contributed(const struct explaining *e, const struct policy *policy) {
        for (size_t i = 0; i < e->why.n_policies && i < EXPLAIN_POLICIES_MAX; i++)
                if (e->why.policies[i] == policy->id)
                        return true;
        return false;
}

static int policies_json(const struct explaining *e, json_t *policies) {
        for (size_t i = 0; i < e->facts.n_policies; i++) {
                const struct policy *policy = &e->facts.policies[i];
                json_t *item;

                if (!has_contributed(e, policy))
                        continue;
                item = json_pack("{s:I, s:s, s:s, s:o}", "id", (json_int_t)policy->id,
                                 "for", policy->for_label ? "label" : "client", "name", policy->subject,
                                 "scope", admin_scope(&policy->scopes));
                if (json_array_append_new(policies, item) != 0)
                        return -ENOMEM;
        }
        return 0;
}

static const char *explain_why(const struct explaining *e) {
        if (e->why.refusal == REFUSE_AUDIENCE && e->server.id != 0 && e->facts.n_servers == 0)
                return "RFC 9200 §5.8.2: the resource server is suspended";
        return e->why.why ? e->why.why : "";
}

static json_t *explain_json(const struct explaining *e, json_t *dropped, json_t *policies) {
        bool granted = e->why.refusal == 0;

        return json_pack("{s:s, s:s?, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:O, s:O, s:i, s:I, s:s?, s:s?}",
                         "decision", granted ? "granted" : "refused",
                         "refusal", granted ? NULL : refusal_row(e->why.refusal)->name, "why", explain_why(e),
                         "client", e->facts.client.name, "audience", e->facts.audience,
                         "server", e->server.id != 0 ? e->server.name : "",
                         "asked_scope", admin_scope(&e->asked), "allowed_scope", admin_scope(&e->why.allowed),
                         "granted_scope", admin_scope(&e->why.granted), "dropped", dropped, "policies", policies,
                         "n_policies", (int)e->why.n_policies, "lifetime_s", (json_int_t)e->why.lifetime_s,
                         "lifetime_from", e->why.lifetime_from,
                         "profile", granted ? describe_name(VOCABULARY_PROFILE, e->grant.profile) : NULL);
}

static int explain_reply(const struct explaining *e, int64_t now_s, struct response *response) {
        json_t *dropped = json_array(), *policies = json_array(), *object = NULL;
        int r = dropped && policies ? dropped_json(e, now_s, dropped) : -ENOMEM;

        if (r == 0)
                r = policies_json(e, policies);
        if (r == 0) {
                object = explain_json(e, dropped, policies);
                r = admin_reply(response, &object);
        }
        json_decref(dropped);
        json_decref(policies);
        return r;
}

int admin_explain_get(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(explaining_done) struct explaining e = {};
        int r;

        if ((r = explain_read(as, request, response, &e)) != 0 || (r = explain_decide(as, request, &e)) != 0)
                return r;
        return explain_reply(&e, request->now_s, response);
}
