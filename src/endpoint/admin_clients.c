#include "endpoint/handlers.h"

#include <errno.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/admin.h"
#include "store/clients.h"

#define TOKENS_MAX 1000000 /* of one client, as of all in the configuration */

struct client_ask {
        const char *name, *default_audience;
        struct json_texts profiles, labels;
        struct json_bool suspended, may_introspect;
        struct json_int max_lifetime_s, tokens_max, refresh_lifetime_s;
};

/* The first two rows stand apart: a new client needs a name, one that is there keeps its own. */
static const struct json_field client_fields[] = {
        ADMIN_FIELD(client_ask, name, TEXT, .required = true),
        ADMIN_FIELD(client_ask, profiles, TEXTS),
        ADMIN_FIELD(client_ask, default_audience, TEXT),
        ADMIN_FIELD(client_ask, labels, TEXTS),
        ADMIN_FIELD(client_ask, suspended, BOOL),
        ADMIN_FIELD(client_ask, max_lifetime_s, INT, .max = LIFETIME_MAX_S),
        ADMIN_FIELD(client_ask, tokens_max, INT, .max = TOKENS_MAX),
        ADMIN_FIELD(client_ask, refresh_lifetime_s, INT, .max = LIFETIME_MAX_S),
        ADMIN_FIELD(client_ask, may_introspect, BOOL),
};
#define NEW_FIELDS client_fields, N_ELEMENTS(client_fields)
#define CHANGE_FIELDS (client_fields + 1), N_ELEMENTS(client_fields) - 1

/* ---- client → JSON */

static int add_label(void *context, const char *label) {
        return json_array_append_new(context, json_string(label)) == 0 ? 0 : -ENOMEM;
}

static int client_json(struct store *store, const struct client *client, json_t **ret) {
        json_t *labels = json_array();
        int r = labels ? store_client_labels_each(store, client->id, add_label, labels) : -ENOMEM;

        if (r != 0) {
                json_decref(labels);
                return r;
        }
        *ret = json_pack("{s:s, s:b, s:o, s:s, s:o, s:I, s:I, s:I, s:b, s:I}", "name", client->name,
                         "suspended", (int)client->suspended, "profiles", admin_profiles(client->profiles),
                         "default_audience", client->default_audience, "labels", labels,
                         "max_lifetime_s", (json_int_t)client->max_lifetime_s,
                         "tokens_max", (json_int_t)client->tokens_max,
                         "refresh_lifetime_s", (json_int_t)client->refresh_lifetime_s,
                         "may_introspect", (int)client->may_introspect, "created_s", (json_int_t)client->created_s);
        return *ret ? 0 : -ENOMEM;
}

static int client_reply(struct aced *as, const struct client *client, struct response *response) {
        json_t *object = NULL;
        int r = client_json(as->store, client, &object);

        return r == 0 ? admin_reply(response, &object) : r;
}

/* ---- JSON → client */

/* 0 takes an own limit, or refresh tokens, away. */
static void client_apply_limits(const struct client_ask *ask, struct client *client) {
        if (ask->max_lifetime_s.set)
                client->max_lifetime_s = ask->max_lifetime_s.value;
        if (ask->tokens_max.set)
                client->tokens_max = ask->tokens_max.value;
        if (ask->refresh_lifetime_s.set)
                client->refresh_lifetime_s = ask->refresh_lifetime_s.value;
        if (ask->may_introspect.set)
                client->may_introspect = ask->may_introspect.value;
}

/* Members that are there, into *client. */
static int client_apply(const struct client_ask *ask, struct response *response, struct client *client) {
        int r = 0;

        if (ask->profiles.set)
                r = admin_read_profiles(response, &ask->profiles, &client->profiles);
        if (r == 0 && ask->default_audience && *ask->default_audience != '\0')
                r = admin_check_audience(response, "default_audience", ask->default_audience);
        if (r == 0)
                r = admin_check_each(response, "labels", &ask->labels, admin_check_name);
        if (r != 0)
                return r;
        if (ask->default_audience)
                admin_copy(client->default_audience, sizeof(client->default_audience), ask->default_audience);
        if (ask->suspended.set)
                client->suspended = ask->suspended.value;
        client_apply_limits(ask, client);
        return 0;
}

static int labels_store(struct aced *as, const struct client_ask *ask, int64_t client_id) {
        struct bytes labels[JSON_TEXTS_MAX];

        if (!ask->labels.set)
                return 0;
        for (size_t i = 0; i < ask->labels.n_items; i++)
                labels[i] = bytes_text(ask->labels.items[i]);
        return store_client_labels_set(as->store, client_id, labels, ask->labels.n_items);
}

/* ---- handlers */

struct client_list {
        struct admin_list list;
        struct store *store;
};

static int list_client(void *context, const struct client *client) {
        struct client_list *clients = context;
        json_t *item = NULL;
        int r;

        if (!admin_list_offer(&clients->list, client->name))
                return 0; /* it was the last asked for */
        r = client_json(clients->store, client, &item);
        return r == 0 ? admin_list_add(&clients->list, item) : r;
}

int admin_clients_get(struct aced *as, const struct request *request, struct response *response) {
        struct client_list clients = { .store = as->store };
        int r = admin_list_begin(&clients.list, request, response, (const char *const[]){ NULL });

        if (r == 0)
                r = store_client_each(as->store, clients.list.after, admin_list_ask(&clients.list), list_client,
                                      &clients);
        if (r == 0)
                r = admin_list_reply(&clients.list, response);
        admin_list_done(&clients.list);
        return r;
}

int admin_clients_post(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(json_document_done) struct json_document document = {};
        struct client client = { .profiles = PROFILE_BIT(PROFILE_COAP_DTLS), .created_s = request->now_s };
        struct client_ask ask;
        int r;

        if ((r = admin_read(request, response, NEW_FIELDS, &ask, &document)) != 0 ||
            (r = admin_check_name(response, "name", ask.name)) != 0 ||
            (r = client_apply(&ask, response, &client)) != 0)
                return r;
        admin_copy(client.name, sizeof(client.name), ask.name);
        r = store_client_add(as->store, &client);
        if (r == REFUSE_ADMIN_EXISTS)
                response_why(response, "there is a client \"%s\" already: choose another name, or change it with "
                             "acectl client set", client.name);
        if (r != 0 || (r = labels_store(as, &ask, client.id)) != 0)
                return r;
        return client_reply(as, &client, response);
}

int admin_client_get(struct aced *as, const struct request *request, struct response *response) {
        struct client client;
        int r = admin_client_find(as->store, request->segments[2], response, &client);

        return r == 0 ? client_reply(as, &client, response) : r;
}

int admin_client_patch(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(json_document_done) struct json_document document = {};
        struct client_ask ask = {};
        struct client client;
        int r;

        if ((r = admin_read(request, response, CHANGE_FIELDS, &ask, &document)) != 0 ||
            (r = admin_client_find(as->store, request->segments[2], response, &client)) != 0 ||
            (r = client_apply(&ask, response, &client)) != 0 ||
            (r = store_client_update(as->store, &client)) != 0 ||
            (r = labels_store(as, &ask, client.id)) != 0)
                return r;
        return client_reply(as, &client, response);
}

/* The store revokes its tokens with it; its next request finds no credential (AS-009). */
int admin_client_delete(struct aced *as, const struct request *request, struct response *response) {
        struct client client;
        int r = admin_client_find(as->store, request->segments[2], response, &client);

        return r == 0 ? store_client_delete(as->store, client.id, request->now_s) : r;
}
