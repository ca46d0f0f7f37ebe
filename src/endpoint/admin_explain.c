#include "endpoint/handlers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "domain/grant.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/admin.h"
#include "endpoint/refusal.h"
#include "format/describe.h"
#include "store/servers.h"
#include "store/tokens.h"

#define CONSIDERED_MAX 1000 /* policies told of; more are counted */

/* A token request that nobody sent, and what would become of it. */
struct explaining {
        int64_t at_s; /* when it would have been sent */
        unsigned channel_profile; /* and the profile that is like its channel */
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

/* ---- the request */

static int read_scope(struct bytes scope, struct response *response, struct scope *ret) {
        char text[2 * SCOPE_SIZE_MAX + 8];

        if (scope.size >= sizeof(text)) {
                response_why(response, "query parameter \"scope\": at most %zu bytes are expected", sizeof(text) - 1);
                return REFUSE_ADMIN_VALUE;
        }
        if (scope.size > 0)
                memcpy(text, scope.data, scope.size);
        text[scope.size] = '\0';
        return admin_read_scope(response, "scope", text, ret);
}

static int read_instant(struct bytes text, struct response *response, int64_t *ret) {
        int64_t value = 0;

        for (size_t i = 0; i < text.size; i++)
                value = text.data[i] < '0' || text.data[i] > '9' || value > INSTANT_MAX_S ?
                                INT64_MAX / 16 : value * 10 + (text.data[i] - '0');
        if (text.size == 0 || value > INSTANT_MAX_S) {
                response_why(response, "query parameter \"at\": seconds since 1970 are expected, at most %" PRId64,
                             INSTANT_MAX_S);
                return REFUSE_ADMIN_VALUE;
        }
        *ret = value;
        return 0;
}

/* Which key the request would bring: none, so that it gets a symmetric one, or a public key of its own. */
static int read_key(struct bytes text, struct response *response, struct token_ask *ask) {
        static const enum curve curves[] = { CURVE_P256, CURVE_P384, CURVE_ED25519, CURVE_X25519 };

        ask->cnf = ASK_CNF_NONE;
        if (!text.data || bytes_equal(text, BYTES_LITERAL("symmetric")))
                return 0;
        for (size_t i = 0; i < N_ELEMENTS(curves); i++)
                if (bytes_equal(text, bytes_text(curve_name(curves[i])))) {
                        ask->cnf = ASK_CNF_PUBLIC;
                        ask->public_key.curve = curves[i];
                        return 0;
                }
        response_why(response, "query parameter \"key\": symmetric, P-256, P-384, Ed25519 or X25519 are expected");
        return REFUSE_ADMIN_VALUE;
}

/* Over which channel the request would come: what profile it gets may hang on that. */
static int read_channel(struct bytes text, struct response *response, unsigned *ret_profile) {
        bool is_oscore = bytes_equal(text, BYTES_LITERAL("oscore"));

        *ret_profile = is_oscore ? PROFILE_COAP_OSCORE : PROFILE_COAP_DTLS;
        if (!text.data || is_oscore || bytes_equal(text, BYTES_LITERAL("dtls")))
                return 0;
        response_why(response, "query parameter \"channel\": dtls or oscore is expected");
        return REFUSE_ADMIN_VALUE;
}

static int explain_read(struct aced *as, const struct request *request, struct response *response,
                        struct explaining *e) {
        struct bytes client = request_query(request, "client"), at = request_query(request, "at");
        int r = admin_check_queries(request, response,
                                    (const char *const[]){ "client", "audience", "scope", "at", "key", "channel",
                                                           NULL });

        if (r != 0)
                return r;
        if (!client.data) {
                response_why(response, "query parameter \"client\": it is missing");
                return REFUSE_ADMIN_VALUE;
        }
        e->at_s = request->now_s;
        if ((r = read_scope(request_query(request, "scope"), response, &e->asked)) != 0 ||
            (at.data && (r = read_instant(at, response, &e->at_s)) != 0) ||
            (r = read_key(request_query(request, "key"), response, &e->ask)) != 0 ||
            (r = read_channel(request_query(request, "channel"), response, &e->channel_profile)) != 0 ||
            (r = admin_client_find(as->store, client, response, &e->facts.client)) != 0)
                return r;
        e->ask.audience = request_query(request, "audience");
        e->ask.grant_type = ASK_CLIENT_CREDENTIALS;
        e->ask.scope_kind = e->asked.kind;
        e->ask.scope = scope_bytes(&e->asked);
        if (e->asked.kind == SCOPE_AIF) { /* as a request would say it */
                e->ask.scope_kind = SCOPE_BYTES;
                e->ask.aif = e->asked;
        }
        return 0;
}

/* ---- the decision */

static int explain_decide(struct aced *as, struct explaining *e) {
        int64_t client_id = e->facts.client.id;
        int r;

        e->facts = (struct token_facts){ .channel_profile = e->channel_profile,
                                         .tokens_max = as->config->tokens_per_client_max,
                                         .default_lifetime_s = as->config->default_lifetime_s,
                                         .max_lifetime_s = as->config->max_lifetime_s };
        r = store_token_facts(as->store, 0, client_id, &e->ask, e->at_s, &e->facts);
        if (r == 0)
                r = store_audience_server(as->store, bytes_text(e->facts.audience), &e->server);
        if (r == REFUSE_ADMIN_UNKNOWN) {
                e->server.id = 0;
                r = 0;
        }
        if (r != 0)
                return r;
        if (e->ask.cnf == ASK_CNF_PUBLIC) { /* suppose that the client shows that it holds it */
                e->facts.public_key_proven = true;
                e->facts.public_key = e->ask.public_key;
        }
        (void)grant_decide(&e->facts, &e->ask, e->at_s, &e->grant, &e->why); /* e->why tells */
        return 0;
}

/* ---- what is said of it */

static bool takes_nbf(const struct explaining *e) {
        return e->facts.server.has_clock && !e->facts.is_group;
}

static bool is_in_force(const struct explaining *e, const struct policy *policy) {
        return policy_part(policy, e->at_s, takes_nbf(e)) == POLICY_IN_FORCE;
}

static bool is_about(const struct policy *policy, const struct scope *token) {
        struct scope common;

        return (policy->effect == POLICY_DENY && policy->scopes.kind == SCOPE_NONE) ||
               scope_intersect(token, &policy->scopes, &common);
}

/* Why this one token of the scope, or this object, is not granted. */
static void dropped_reason(const struct explaining *e, const struct scope *token, char *reason, size_t size) {
        const struct policy *denial = NULL, *shadow = NULL;
        bool is_untimely = false;
        struct scope common;

        if (e->facts.server.scopes.kind != SCOPE_NONE && !scope_intersect(token, &e->facts.server.scopes, &common)) {
                snprintf(reason, size, "the resource server has no such scope");
                return;
        }
        for (size_t i = 0; i < e->facts.n_policies; i++) {
                const struct policy *policy = &e->facts.policies[i];

                if (!is_about(policy, token))
                        continue;
                if (!is_in_force(e, policy))
                        is_untimely = is_untimely || (policy->effect != POLICY_DENY && !policy->is_shadow &&
                                                      policy->fit == POLICY_FITS);
                else if (policy->is_shadow)
                        shadow = policy->effect == POLICY_ALLOW ? policy : shadow;
                else if (policy->effect == POLICY_DENY)
                        denial = policy;
        }
        if (denial)
                snprintf(reason, size, "policy %" PRId64 " denies it", denial->id);
        else if (is_untimely)
                snprintf(reason, size, "a policy allows it, but not at this time");
        else if (shadow)
                snprintf(reason, size, "policy %" PRId64 " would allow it, but is only tried", shadow->id);
        else
                snprintf(reason, size, "no policy of this client or its labels allows it");
}

static int dropped_json(const struct explaining *e, json_t *dropped) {
        const struct scope *wanted = e->asked.kind != SCOPE_NONE ? &e->asked : &e->facts.server.default_scope;
        struct scope token;
        char reason[96];
        size_t at = 0;

        if (e->why.refusal != 0 && e->why.refusal < REFUSE_SCOPE)
                return 0; /* the decision did not come that far: refusals are in the order of the checks */
        while (admin_scope_next(wanted, &at, &token)) {
                if (!scope_subtract(&token, &e->why.granted))
                        continue;
                dropped_reason(e, &token, reason, sizeof(reason));
                if (json_array_append_new(dropped, json_pack("{s:o, s:s}", "scope", admin_scope(&token), "reason",
                                                             reason)) != 0)
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

/* How a policy took part, in a few words. */
static const char *role_of(const struct explaining *e, const struct policy *policy) {
        static const char *const parts[] = {
                [POLICY_AHEAD] = "begins soon",
                [POLICY_NOT_YET] = "has not begun",
                [POLICY_OVER] = "is over",
                [POLICY_OUT_OF_HOURS] = "is out of its days and hours",
        };
        enum policy_part part = policy_part(policy, e->at_s, takes_nbf(e));
        bool denies = policy->effect == POLICY_DENY;

        if (part == POLICY_NOT_FITTING)
                return policy->fit == POLICY_LACKS_LABEL ? "the client has no label for a variable" :
                                                           "is too large with its variables filled in";
        if (has_contributed(e, policy))
                return part == POLICY_AHEAD ? "allows from its beginning on" : "allows";
        if (part != POLICY_IN_FORCE)
                return parts[part];
        if (policy->is_shadow)
                return denies ? "would deny" : "would allow";
        return denies ? "denies" : "allows nothing of this";
}

/* One that contributed, as it has always been told, and any, with what became of it. */
static json_t *policy_json(const struct explaining *e, const struct policy *policy, bool is_whole) {
        json_t *item = json_pack("{s:I, s:s, s:s, s:o}", "id", (json_int_t)policy->id, "for",
                                 policy->for_label ? "label" : "client", "name", policy->subject, "scope",
                                 admin_scope(&policy->scopes));
        struct policy_period period = { 0, INT64_MAX };

        if (!item || !is_whole)
                return item;
        (void)policy_period(policy, e->at_s, &period);
        if (json_object_set_new(item, "effect", json_string(policy->effect == POLICY_DENY ? "deny" : "allow")) != 0 ||
            json_object_set_new(item, "shadow", json_boolean(policy->is_shadow)) != 0 ||
            json_object_set_new(item, "part", json_string(role_of(e, policy))) != 0 ||
            json_object_set_new(item, "max_lifetime_s", json_integer(policy->max_lifetime_s)) != 0 ||
            json_object_set_new(item, "from_s", json_integer(period.from_s > 0 ? period.from_s : 0)) != 0 ||
            json_object_set_new(item, "until_s",
                                json_integer(period.until_s < INT64_MAX ? period.until_s : 0)) != 0) {
                json_decref(item);
                return NULL;
        }
        return item;
}

static int policies_json(const struct explaining *e, json_t *policies, json_t *considered) {
        for (size_t i = 0; i < e->facts.n_policies && i < CONSIDERED_MAX; i++) {
                const struct policy *policy = &e->facts.policies[i];

                if ((has_contributed(e, policy) &&
                     json_array_append_new(policies, policy_json(e, policy, false)) != 0) ||
                    json_array_append_new(considered, policy_json(e, policy, true)) != 0)
                        return -ENOMEM;
        }
        return 0;
}

static bool is_denied_all(const struct explaining *e) {
        for (size_t i = 0; i < e->facts.n_policies; i++) {
                const struct policy *policy = &e->facts.policies[i];

                if (policy->effect == POLICY_DENY && !policy->is_shadow && is_in_force(e, policy) &&
                    (policy->scopes.kind == SCOPE_NONE || policy->fit == POLICY_TOO_LARGE))
                        return true;
        }
        return false;
}

static const char *explain_why(const struct explaining *e) {
        if (e->why.refusal == REFUSE_AUDIENCE && e->server.id != 0 && e->facts.n_servers == 0)
                return "RFC 9200 §5.8.2: the resource server is suspended";
        if (e->why.refusal == REFUSE_AUDIENCE && e->facts.n_servers > 0 && is_denied_all(e))
                return "RFC 9200 §5.8.2: a policy denies the client everything at the audience";
        return e->why.why ? e->why.why : "";
}

/* What would have been with policies in force that are only tried; null: the same. */
static json_t *shadow_json(const struct explaining *e) {
        if (!e->why.has_shadow)
                return json_null();
        return json_pack("{s:s, s:o}", "decision", e->why.shadow.kind != SCOPE_NONE ? "granted" : "refused", "scope",
                         admin_scope(&e->why.shadow));
}

static json_t *explain_json(const struct explaining *e, json_t *dropped, json_t *policies, json_t *considered) {
        bool granted = e->why.refusal == 0;

        return json_pack("{s:s, s:s?, s:s, s:s, s:s, s:s, s:b, s:o, s:o, s:o, s:O, s:O, s:i, s:O, s:o, s:I, s:s?, s:I, "
                         "s:I, s:I, s:I, s:s?, s:s?}",
                         "decision", granted ? "granted" : "refused",
                         "refusal", granted ? NULL : refusal_row(e->why.refusal)->name, "why", explain_why(e),
                         "client", e->facts.client.name, "audience", e->facts.audience,
                         "server", e->server.id != 0 ? e->server.name : "", "is_group", (int)e->facts.is_group,
                         "asked_scope", admin_scope(&e->asked), "allowed_scope", admin_scope(&e->why.allowed),
                         "granted_scope", admin_scope(&e->why.granted), "dropped", dropped, "policies", policies,
                         "n_policies", (int)e->why.n_policies, "considered", considered, "shadow", shadow_json(e),
                         "lifetime_s", (json_int_t)e->why.lifetime_s, "lifetime_from", e->why.lifetime_from,
                         "not_before_s", (json_int_t)e->grant.nbf_s, "at_s", (json_int_t)e->at_s,
                         "live_tokens", (json_int_t)e->facts.n_live_tokens,
                         "tokens_max", (json_int_t)e->facts.tokens_max,
                         "profile", granted ? describe_name(VOCABULARY_PROFILE, e->why.profile) : NULL,
                         "profile_from", granted ? e->why.profile_from : NULL);
}

static int explain_reply(const struct explaining *e, struct response *response) {
        json_t *dropped = json_array(), *policies = json_array(), *considered = json_array(), *object = NULL;
        int r = dropped && policies && considered ? dropped_json(e, dropped) : -ENOMEM;

        if (r == 0)
                r = policies_json(e, policies, considered);
        if (r == 0) {
                object = explain_json(e, dropped, policies, considered);
                r = admin_reply(response, &object);
        }
        json_decref(dropped);
        json_decref(policies);
        json_decref(considered);
        return r;
}

int admin_explain_get(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(explaining_done) struct explaining e = {};
        int r;

        if ((r = explain_read(as, request, response, &e)) != 0 || (r = explain_decide(as, &e)) != 0)
                return r;
        return explain_reply(&e, response);
}
