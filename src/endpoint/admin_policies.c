#include "endpoint/handlers.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "domain/refusal.h"
#include "domain/variable.h"
#include "endpoint/aced.h"
#include "endpoint/admin.h"
#include "format/hours.h"
#include "store/policies.h"
#include "store/servers.h"

struct policy_ask {
        const char *client, *label, *audience, *scope, *effect, *days, *hours;
        struct json_int max_lifetime_s, from_s, until_s, advance_s;
        struct json_bool shadow;
};

static const struct json_field policy_fields[] = {
        ADMIN_FIELD(policy_ask, client, TEXT),
        ADMIN_FIELD(policy_ask, label, TEXT),
        ADMIN_FIELD(policy_ask, audience, TEXT, .required = true),
        ADMIN_FIELD(policy_ask, scope, TEXT),
        ADMIN_FIELD(policy_ask, effect, TEXT),
        ADMIN_FIELD(policy_ask, shadow, BOOL),
        ADMIN_FIELD(policy_ask, max_lifetime_s, INT, .max = LIFETIME_MAX_S),
        ADMIN_FIELD(policy_ask, from_s, INT, .max = INSTANT_MAX_S),
        ADMIN_FIELD(policy_ask, until_s, INT, .max = INSTANT_MAX_S),
        ADMIN_FIELD(policy_ask, advance_s, INT, .max = POLICY_ADVANCE_MAX_S),
        ADMIN_FIELD(policy_ask, days, TEXT),
        ADMIN_FIELD(policy_ask, hours, TEXT),
};

static const char *const effects[] = { [POLICY_ALLOW] = "allow", [POLICY_DENY] = "deny" };

/* client or label is null: a policy is for one of the two. */
static json_t *policy_json(const struct policy *policy) {
        char days[DAYS_TEXT_SIZE], hours[HOURS_TEXT_SIZE];

        days_print(policy->weekdays, days);
        hours_print(policy->day_from_s, policy->day_until_s, hours);
        return json_pack("{s:I, s:s?, s:s?, s:s, s:o, s:s, s:b, s:I, s:I, s:I, s:I, s:s, s:s, s:I}",
                         "id", (json_int_t)policy->id,
                         "client", policy->for_label ? NULL : policy->subject,
                         "label", policy->for_label ? policy->subject : NULL, "audience", policy->audience,
                         "scope", admin_scope(&policy->scopes), "effect", effects[policy->effect],
                         "shadow", (int)policy->is_shadow, "max_lifetime_s", (json_int_t)policy->max_lifetime_s,
                         "from_s", (json_int_t)policy->valid_from_s, "until_s", (json_int_t)policy->valid_until_s,
                         "advance_s", (json_int_t)policy->advance_s, "days", days, "hours", hours,
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

static const char *kind_hint(enum scope_kind kind) {
        return kind == SCOPE_BYTES ? "bytes, written as hex:0102" :
               kind == SCOPE_AIF   ? "objects, written as aif:/path=GET" : "text, not bytes";
}

static int refuse_unknown(struct response *response, const struct scope *scope) {
        json_t *text = admin_scope(scope);
        int r = text ? admin_refuse_value(response, "scope", json_string_value(text), "is none of the resource "
                                          "server's scopes: acectl rs show lists them") : -ENOMEM;

        json_decref(text);
        return r;
}

/* What the resource server does not know would never be granted: a typing error is told now. */
static int check_known(struct response *response, const struct policy *policy, const struct server *server) {
        struct scope token;
        size_t at = 0;

        if (policy->scopes.kind == SCOPE_NONE)
                return 0;
        if (policy->scopes.kind != server->scope_kind) {
                response_why(response, "member \"scope\": resource server \"%s\" has scopes of %s", server->name,
                             kind_hint(server->scope_kind));
                return REFUSE_ADMIN_VALUE;
        }
        if (server->scopes.kind == SCOPE_NONE)
                return 0;
        while (admin_scope_next(&policy->scopes, &at, &token))
                if (!variables_in_text(scope_bytes(&token)) && scope_subtract(&token, &server->scopes))
                        return refuse_unknown(response, &token);
        return 0;
}

/* Which servers a variable audience may mean is known when somebody asks. */
static int check_where(struct aced *as, const struct policy *policy, struct response *response) {
        struct server server;
        int r;

        if (!variables_are_valid(bytes_text(policy->audience), &policy->scopes)) {
                response_why(response, "members \"audience\" and \"scope\": at most %d variables, written ${client}, "
                             "in scope also ${audience}, or ${KEY} for labels KEY:VALUE", VARIABLES_MAX);
                return REFUSE_ADMIN_VALUE;
        }
        if (variables_in_text(bytes_text(policy->audience)))
                return 0;
        r = admin_audience_find(as->store, bytes_text(policy->audience), response, &server);
        return r == 0 ? check_known(response, policy, &server) : r;
}

static int read_effect(const struct policy_ask *ask, struct response *response, struct policy *policy) {
        policy->is_shadow = ask->shadow.value;
        policy->effect = POLICY_ALLOW;
        if (ask->effect && strcmp(ask->effect, effects[POLICY_DENY]) == 0)
                policy->effect = POLICY_DENY;
        else if (ask->effect && strcmp(ask->effect, effects[POLICY_ALLOW]) != 0)
                return admin_refuse_value(response, "effect", ask->effect, "is no effect: allow and deny are");

        if (policy->effect == POLICY_ALLOW && !ask->scope) {
                response_why(response, "member \"scope\": it is missing; only a denial may leave it out, and is then "
                             "of everything at the audience");
                return REFUSE_ADMIN_VALUE;
        }
        if (policy->effect == POLICY_ALLOW && *ask->scope == '\0')
                return admin_refuse_value(response, "scope", "", "allows nothing: name at least one scope");
        if (policy->effect == POLICY_DENY && (ask->max_lifetime_s.value != 0 || ask->advance_s.value != 0)) {
                response_why(response, "members \"max_lifetime_s\" and \"advance_s\": they are about tokens that a "
                             "policy allows, and this one denies");
                return REFUSE_ADMIN_VALUE;
        }
        return ask->scope ? admin_read_scope(response, "scope", ask->scope, &policy->scopes) : 0;
}

static int read_hours(const struct policy_ask *ask, struct response *response, struct policy *policy) {
        if (ask->days && *ask->days != '\0' && days_parse(bytes_text(ask->days), &policy->weekdays) != 0)
                return admin_refuse_value(response, "days", ask->days, "is not as \"mon-fri,sun\" is");
        if (ask->hours && *ask->hours != '\0' &&
            hours_parse(bytes_text(ask->hours), &policy->day_from_s, &policy->day_until_s) != 0)
                return admin_refuse_value(response, "hours", ask->hours, "is not as \"08:00-18:00\" is, in UTC");
        if (policy->weekdays == DAYS_ALL) /* no limit, and one way to say so */
                policy->weekdays = 0;
        return 0;
}

static int read_period(const struct policy_ask *ask, int64_t now_s, struct response *response, struct policy *policy) {
        policy->max_lifetime_s = ask->max_lifetime_s.value;
        policy->valid_from_s = ask->from_s.value;
        policy->valid_until_s = ask->until_s.value;
        policy->advance_s = ask->advance_s.value;
        if (policy->advance_s != 0 && policy->valid_from_s == 0 && policy->weekdays == 0 && policy->day_from_s == 0 &&
            policy->day_until_s == 0) {
                response_why(response, "member \"advance_s\": the policy has no beginning, by from_s, days or hours, "
                             "that tokens could be given in advance of");
                return REFUSE_ADMIN_VALUE;
        }
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
        struct policy_ask ask;
        int r;

        if ((r = admin_read(request, response, policy_fields, N_ELEMENTS(policy_fields), &ask, &document)) != 0 ||
            (r = read_subject(as, &ask, response, policy)) != 0 ||
            (r = admin_check_audience(response, "audience", ask.audience)) != 0)
                return r;
        admin_copy(policy->audience, sizeof(policy->audience), ask.audience);
        policy->created_s = request->now_s;
        if ((r = read_effect(&ask, response, policy)) != 0 || (r = check_where(as, policy, response)) != 0 ||
            (r = read_hours(&ask, response, policy)) != 0)
                return r;
        return read_period(&ask, request->now_s, response, policy);
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
