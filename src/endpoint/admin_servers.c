#include "endpoint/handlers.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/admin_protection.h"
#include "format/describe.h"
#include "store/policies.h"
#include "store/servers.h"

struct server_ask {
        const char *name, *scopes, *scope_kind, *default_scope;
        struct json_texts audiences, group_audiences, profiles;
        struct json_int default_lifetime_s, max_lifetime_s;
        struct json_bool suspended;
        const char *preferred_profile, *oscore_alg, *oscore_hkdf;
        struct protection_ask protection;
};

/* The first row stands apart: a new server needs a name, one that is there keeps its own. */
static const struct json_field server_fields[] = {
        ADMIN_FIELD(server_ask, name, TEXT, .required = true),
        ADMIN_FIELD(server_ask, suspended, BOOL),
        ADMIN_FIELD(server_ask, audiences, TEXTS),
        ADMIN_FIELD(server_ask, group_audiences, TEXTS),
        ADMIN_FIELD(server_ask, profiles, TEXTS),
        ADMIN_FIELD(server_ask, preferred_profile, TEXT),
        ADMIN_FIELD(server_ask, oscore_alg, TEXT),
        ADMIN_FIELD(server_ask, oscore_hkdf, TEXT),
        ADMIN_FIELD(server_ask, scopes, TEXT),
        ADMIN_FIELD(server_ask, scope_kind, TEXT),
        ADMIN_FIELD(server_ask, default_scope, TEXT),
        ADMIN_FIELD(server_ask, default_lifetime_s, INT, .max = LIFETIME_MAX_S),
        ADMIN_FIELD(server_ask, max_lifetime_s, INT, .max = LIFETIME_MAX_S),
        PROTECTION_FIELDS(server_ask),
};
#define NEW_FIELDS server_fields, N_ELEMENTS(server_fields)
#define CHANGE_FIELDS (server_fields + 1), N_ELEMENTS(server_fields) - 1

static const char *const scope_kinds[] = { [SCOPE_TEXT] = "text", [SCOPE_BYTES] = "bytes", [SCOPE_AIF] = "aif" };

/* ---- server → JSON */

struct audience_lists {
        json_t *own, *group;
};

static void audience_lists_done(struct audience_lists *lists) {
        json_decref(lists->own);
        json_decref(lists->group);
}

static int add_audience(void *context, const char *audience, bool is_group) {
        struct audience_lists *lists = context;

        return json_array_append_new(is_group ? lists->group : lists->own, json_string(audience)) == 0 ? 0 : -ENOMEM;
}

static int audience_lists_read(struct store *store, int64_t server_id, struct audience_lists *ret) {
        *ret = (struct audience_lists){ json_array(), json_array() };
        if (!ret->own || !ret->group)
                return -ENOMEM;
        return store_audience_each(store, server_id, add_audience, ret);
}

static int server_json(struct store *store, const struct server *server, int64_t now_s, json_t **ret) {
        _cleanup_(audience_lists_done) struct audience_lists lists = {};
        json_t *object;
        int r = audience_lists_read(store, server->id, &lists);

        if (r != 0)
                return r;
        object = json_pack("{s:s, s:b, s:O, s:O, s:o, s:s, s:s, s:s, s:o, s:s, s:o, s:I, s:I, s:I}",
                           "name", server->name, "suspended", (int)server->suspended, "audiences", lists.own,
                           "group_audiences", lists.group, "profiles", admin_profiles(server->profiles),
                           "preferred_profile", describe_name(VOCABULARY_PROFILE, server->preferred_profile) ?: "",
                           "oscore_alg", aead_name(server->oscore_alg) ?: "",
                           "oscore_hkdf", oscore_hkdf_name(server->oscore_hkdf) ?: "",
                           "scopes", admin_scope(&server->scopes), "scope_kind", scope_kinds[server->scope_kind],
                           "default_scope", admin_scope(&server->default_scope),
                           "default_lifetime_s", (json_int_t)server->default_lifetime_s,
                           "max_lifetime_s", (json_int_t)server->max_lifetime_s,
                           "created_s", (json_int_t)server->created_s);
        r = object ? protection_json(store, server, object, now_s) : -ENOMEM;
        if (r == 0)
                *ret = object;
        else
                json_decref(object);
        return r;
}

/* shown NULL: no key was made or set by this request. */
static int server_reply(struct aced *as, const struct request *request, const struct server *server,
                        const struct shown_keys *shown, struct response *response) {
        json_t *object = NULL;
        int r = server_json(as->store, server, request->now_s, &object);

        if (r == 0 && shown && (r = protection_keys_json(shown, object)) != 0)
                json_decref(object);
        return r == 0 ? admin_reply(response, &object) : r;
}

/* ---- JSON → server */

static int read_scope_kind(struct response *response, const char *text, enum scope_kind *ret) {
        for (enum scope_kind kind = SCOPE_TEXT; kind <= SCOPE_AIF; kind++)
                if (strcmp(scope_kinds[kind], text) == 0) {
                        *ret = kind;
                        return 0;
                }
        return admin_refuse_value(response, "scope_kind", text, "is no kind of scope: text, bytes and aif are");
}

static int check_scope_kind(struct response *response, const char *member, const struct scope *scope,
                            enum scope_kind kind) {
        if (scope->kind == SCOPE_NONE || scope->kind == kind)
                return 0;
        response_why(response, "member \"%s\": it is %s, but scope_kind is %s: set scope_kind, or write byte scopes as "
                     "hex:0102, AIF as aif:/path=GET", member, scope_kinds[scope->kind], scope_kinds[kind]);
        return REFUSE_ADMIN_VALUE;
}

/* Default scopes are among those it knows, and all are of its kind. */
static int check_scopes(struct response *response, const struct server *server) {
        struct scope common;
        int r;

        if ((r = check_scope_kind(response, "scopes", &server->scopes, server->scope_kind)) != 0 ||
            (r = check_scope_kind(response, "default_scope", &server->default_scope, server->scope_kind)) != 0)
                return r;
        if (server->default_scope.kind == SCOPE_NONE || server->scopes.kind == SCOPE_NONE)
                return 0;
        if (scope_intersect(&server->default_scope, &server->scopes, &common) &&
            scope_equal(&common, &server->default_scope))
                return 0;
        response_why(response, "member \"default_scope\": all of it must be in scopes");
        return REFUSE_ADMIN_VALUE;
}

static int apply_scopes(const struct server_ask *ask, struct response *response, bool is_new, struct server *server) {
        int r = 0;

        if (ask->scopes)
                r = admin_read_scope(response, "scopes", ask->scopes, &server->scopes);
        if (r == 0 && ask->default_scope)
                r = admin_read_scope(response, "default_scope", ask->default_scope, &server->default_scope);
        if (r != 0)
                return r;
        if (ask->scope_kind)
                r = read_scope_kind(response, ask->scope_kind, &server->scope_kind);
        else if (is_new && server->scopes.kind != SCOPE_NONE)
                server->scope_kind = server->scopes.kind;
        else if (is_new && server->default_scope.kind != SCOPE_NONE)
                server->scope_kind = server->default_scope.kind;
        return r == 0 ? check_scopes(response, server) : r;
}

static int apply_lifetimes(const struct server_ask *ask, struct response *response, struct server *server) {
        if (ask->default_lifetime_s.set)
                server->default_lifetime_s = ask->default_lifetime_s.value;
        if (ask->max_lifetime_s.set)
                server->max_lifetime_s = ask->max_lifetime_s.value;
        if (server->max_lifetime_s != 0 && server->default_lifetime_s > server->max_lifetime_s) {
                response_why(response, "member \"default_lifetime_s\": %lld is over max_lifetime_s, which is %lld",
                             (long long)server->default_lifetime_s, (long long)server->max_lifetime_s);
                return REFUSE_ADMIN_VALUE;
        }
        return 0;
}

/* Of the contexts between clients and the server, and which profile it would rather have. */
static int apply_oscore(const struct server_ask *ask, struct response *response, struct server *server) {
        int r = 0;

        if (ask->oscore_alg)
                r = admin_read_aead(response, "oscore_alg", ask->oscore_alg, &server->oscore_alg);
        if (r == 0 && ask->oscore_hkdf)
                r = admin_read_hkdf(response, "oscore_hkdf", ask->oscore_hkdf, &server->oscore_hkdf);
        if (r == 0 && ask->preferred_profile && *ask->preferred_profile == '\0')
                server->preferred_profile = 0;
        else if (r == 0 && ask->preferred_profile)
                r = admin_read_profile(response, "preferred_profile", ask->preferred_profile,
                                       &server->preferred_profile);
        return r;
}

static bool has_profile(const struct server *server, unsigned profile) {
        return (server->profiles & PROFILE_BIT(profile)) != 0;
}

/* What does not go together is refused when it is asked for; what came before stays (server_takes_oscore()). */
static int check_profiles(const struct server_ask *ask, struct response *response, const struct server *server) {
        bool is_asked = ask->profiles.set || ask->preferred_profile || ask->protection.token_format ||
                        ask->protection.pop_keys.set || ask->protection.derives_key.set;
        const char *why = NULL;

        if (server->preferred_profile != 0 && !has_profile(server, server->preferred_profile))
                why = "member \"preferred_profile\": it is not among profiles: put it there, or prefer none (\"\")";
        else if (has_profile(server, PROFILE_COAP_OSCORE) && !(server->pop_keys & POP_KEY_SYMMETRIC))
                why = "member \"pop_keys\": the keys of coap_oscore are symmetric: put symmetric among them, or leave "
                      "coap_oscore out of profiles";
        else if (has_profile(server, PROFILE_COAP_OSCORE) && !server_takes_oscore(server))
                why = "member \"token_format\": all can read such tokens, and nothing but the whole token can be "
                      "encrypted for coap_oscore (RFC 9203 section 3.2): choose encrypt0, sign-encrypt or opaque, or "
                      "leave coap_oscore out of profiles";
        else if (server->derives_key && !has_profile(server, PROFILE_COAP_DTLS))
                why = "member \"derives_key\": keys are derived for coap_dtls alone (RFC 9202 section 3.3.1): put it "
                      "among profiles, or leave derives_key away";
        if (!why || !is_asked)
                return 0;
        response_why(response, "%s", why);
        return REFUSE_ADMIN_VALUE;
}

/* Members that are there, into *server, but for audiences and keys, which are rows of their own. */
static int server_apply(struct aced *as, const struct request *request, const struct server_ask *ask,
                        struct response *response, bool is_new, struct server *server) {
        int r = 0;

        if (ask->profiles.set)
                r = admin_read_profiles(response, &ask->profiles, &server->profiles);
        if (r == 0)
                r = apply_scopes(ask, response, is_new, server);
        if (r == 0)
                r = apply_lifetimes(ask, response, server);
        if (r == 0)
                r = apply_oscore(ask, response, server);
        if (r != 0)
                return r;
        if (ask->suspended.set)
                server->suspended = ask->suspended.value;
        r = protection_apply(as, request, &ask->protection, response, server);
        return r == 0 ? check_profiles(ask, response, server) : r;
}

/* ---- audiences */

static bool is_in(const struct json_texts *texts, const char *text) {
        for (size_t i = 0; i < texts->n_items; i++)
                if (strcmp(texts->items[i], text) == 0)
                        return true;
        return false;
}

static int check_audiences(const struct server_ask *ask, struct response *response) {
        int r;

        if ((r = admin_check_each(response, "audiences", &ask->audiences, admin_check_audience)) != 0 ||
            (r = admin_check_each(response, "group_audiences", &ask->group_audiences, admin_check_audience)) != 0)
                return r;
        for (size_t i = 0; i < ask->audiences.n_items; i++)
                if (is_in(&ask->group_audiences, ask->audiences.items[i]))
                        return admin_refuse_value(response, "group_audiences", ask->audiences.items[i],
                                                  "is in audiences too: a name stands for one server or for a group");
        return 0;
}

static int audiences_add(struct aced *as, int64_t server_id, const struct json_texts *texts, bool is_group,
                         struct response *response) {
        for (size_t i = 0; i < texts->n_items; i++) {
                int r = store_audience_add(as->store, server_id, bytes_text(texts->items[i]), is_group);

                if (r == REFUSE_ADMIN_EXISTS)
                        response_why(response, "the audience \"%s\" is taken by another resource server: choose "
                                     "another name, or make it a group audience of all of them", texts->items[i]);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int found_policy(void *context, const struct policy *policy) {
        *(int64_t *)context = policy->id;
        return 0;
}

/* An audience with policies stays: rights would be left behind for whoever takes the name next. */
static int audience_remove(struct aced *as, int64_t server_id, const char *audience, struct response *response) {
        struct server other;
        int64_t policy_id = 0;
        int r = store_audience_delete(as->store, server_id, bytes_text(audience));

        if (r != 0)
                return r;
        r = store_audience_server(as->store, bytes_text(audience), &other);
        if (r != REFUSE_ADMIN_UNKNOWN)
                return r; /* somebody else has it, or something broke */
        r = store_policy_each(as->store, 0, 1, BYTES_NONE, bytes_text(audience), found_policy, &policy_id);
        if (r != 0 || policy_id == 0)
                return r;
        response_why(response, "the audience \"%s\" has policies, %lld is one: delete them first (acectl policy list "
                     "--audience), or keep the audience", audience, (long long)policy_id);
        return REFUSE_ADMIN_CONFLICT;
}

/* Those of old that are in neither list go. */
static int audiences_remove(struct aced *as, int64_t server_id, const json_t *old, const struct server_ask *ask,
                            struct response *response) {
        json_t *audience;
        size_t i;

        json_array_foreach(old, i, audience) {
                const char *text = json_string_value(audience);

                if (!is_in(&ask->audiences, text) && !is_in(&ask->group_audiences, text)) {
                        int r = audience_remove(as, server_id, text, response);

                        if (r != 0)
                                return r;
                }
        }
        return 0;
}

/* The lists that are there replace what there was. One list is enough, but not none at all. */
static int audiences_replace(struct aced *as, const struct server *server, const struct server_ask *ask,
                             struct response *response) {
        _cleanup_(audience_lists_done) struct audience_lists old = {}, now = {};
        int r;

        if (!ask->audiences.set && !ask->group_audiences.set)
                return 0;
        if ((r = audience_lists_read(as->store, server->id, &old)) != 0 ||
            (ask->audiences.set && (r = audiences_remove(as, server->id, old.own, ask, response)) != 0) ||
            (ask->group_audiences.set && (r = audiences_remove(as, server->id, old.group, ask, response)) != 0) ||
            (r = audiences_add(as, server->id, &ask->audiences, false, response)) != 0 ||
            (r = audiences_add(as, server->id, &ask->group_audiences, true, response)) != 0 ||
            (r = audience_lists_read(as->store, server->id, &now)) != 0)
                return r;
        if (json_array_size(now.own) + json_array_size(now.group) > 0)
                return 0;
        response_why(response, "members \"audiences\" and \"group_audiences\": at least one audience is expected, "
                     "tokens are asked for by it");
        return REFUSE_ADMIN_VALUE;
}

/* One token for all members of a group: all read its scope, check its signature and know its time (AS-065, AS-174). */
static int check_groups(struct aced *as, const struct server *server, struct response *response) {
        _cleanup_(audience_lists_done) struct audience_lists lists = {};
        struct group_conflict conflict;
        int r;

        if (!server->has_clock) {
                if ((r = audience_lists_read(as->store, server->id, &lists)) != 0)
                        return r;
                if (json_array_size(lists.group) > 0) {
                        response_why(response, "member \"has_clock\": sequence numbers are counted for one resource "
                                     "server (RFC 9200 section 5.10.3): one without a clock is in no group audience");
                        return REFUSE_ADMIN_VALUE;
                }
        }
        r = store_group_conflict(as->store, server->id, &conflict);
        if (r != 0)
                return r == REFUSE_ADMIN_UNKNOWN ? 0 : r;
        response_why(response, "group audience \"%s\": resource server %s has another sign_alg or scope_kind, and one "
                     "token is for all of them: give them the same (a suspended one does not count)",
                     conflict.audience, conflict.other);
        return REFUSE_ADMIN_CONFLICT;
}

/* ---- handlers */

struct server_list {
        struct admin_list list;
        struct store *store;
        int64_t now_s;
};

static int list_server(void *context, const struct server *server) {
        struct server_list *servers = context;
        json_t *item = NULL;
        int r;

        if (!admin_list_offer(&servers->list, server->name))
                return 0; /* it was the last asked for */
        r = server_json(servers->store, server, servers->now_s, &item);
        return r == 0 ? admin_list_add(&servers->list, item) : r;
}

int admin_servers_get(struct aced *as, const struct request *request, struct response *response) {
        struct server_list servers = { .store = as->store, .now_s = request->now_s };
        int r = admin_list_begin(&servers.list, request, response, (const char *const[]){ NULL });

        if (r == 0)
                r = store_server_each(as->store, servers.list.after, admin_list_ask(&servers.list), list_server,
                                      &servers);
        if (r == 0)
                r = admin_list_reply(&servers.list, response);
        admin_list_done(&servers.list);
        return r;
}

/* The server, its audiences and its keys: all or nothing, as the request is one savepoint. */
static int server_add(struct aced *as, const struct request *request, struct server_ask *ask, struct server *server,
                      struct response *response) {
        _cleanup_(shown_keys_done) struct shown_keys shown = {};
        int r = store_server_add(as->store, server);

        if (r == REFUSE_ADMIN_EXISTS)
                response_why(response, "there is a resource server \"%s\" already: choose another name, or change it "
                             "with acectl rs set", server->name);
        if (r != 0 || (r = audiences_replace(as, server, ask, response)) != 0 ||
            (r = check_groups(as, server, response)) != 0 ||
            (r = protection_keys(as, request, &ask->protection, NULL, server, response, &shown)) != 0)
                return r;
        return server_reply(as, request, server, &shown, response);
}

int admin_servers_post(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(json_document_done) struct json_document document = {};
        struct server server = {
                .profiles = PROFILE_BIT(PROFILE_COAP_DTLS), .scope_kind = SCOPE_TEXT,
                .token_format = TOKEN_FORMAT_ENCRYPT0, .token_alg = AEAD_AES_CCM_16_64_128,
                .sign_alg = SIGN_ES256, .pop_keys = POP_KEY_SYMMETRIC, .has_clock = true,
                .oscore_alg = AEAD_AES_CCM_16_64_128, .oscore_hkdf = OSCORE_HKDF_SHA256,
                .created_s = request->now_s,
        };
        struct server_ask ask;
        int r;

        if ((r = admin_read(request, response, NEW_FIELDS, &ask, &document)) != 0 ||
            (r = admin_check_name(response, "name", ask.name)) != 0 ||
            (r = server_apply(as, request, &ask, response, true, &server)) != 0 ||
            (r = check_audiences(&ask, response)) != 0)
                return r;
        admin_copy(server.name, sizeof(server.name), ask.name);
        if (!ask.audiences.set)
                ask.audiences = (struct json_texts){ .set = true, .n_items = 1, .items = { server.name } };
        return server_add(as, request, &ask, &server, response);
}

int admin_server_get(struct aced *as, const struct request *request, struct response *response) {
        struct server server;
        int r = admin_server_find(as->store, request->segments[2], response, &server);

        return r == 0 ? server_reply(as, request, &server, NULL, response) : r;
}

int admin_server_patch(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(json_document_done) struct json_document document = {};
        _cleanup_(shown_keys_done) struct shown_keys shown = {};
        struct server_ask ask = {};
        struct server before, server;
        int r;

        if ((r = admin_read(request, response, CHANGE_FIELDS, &ask, &document)) != 0 ||
            (r = admin_server_find(as->store, request->segments[2], response, &before)) != 0)
                return r;
        server = before;
        if ((r = server_apply(as, request, &ask, response, false, &server)) != 0 ||
            (r = check_audiences(&ask, response)) != 0 ||
            (r = store_server_update(as->store, &server)) != 0 ||
            (r = audiences_replace(as, &server, &ask, response)) != 0 ||
            (r = check_groups(as, &server, response)) != 0 ||
            (r = protection_keys(as, request, &ask.protection, &before, &server, response, &shown)) != 0)
                return r;
        return server_reply(as, request, &server, &shown, response);
}

/* The store revokes the tokens for it with it. */
int admin_server_delete(struct aced *as, const struct request *request, struct response *response) {
        struct server server;
        int r = admin_server_find(as->store, request->segments[2], response, &server);

        return r == 0 ? store_server_delete(as->store, server.id, request->now_s) : r;
}
