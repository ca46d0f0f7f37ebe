#include "endpoint/handlers.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "crypto/random.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/admin.h"
#include "store/credentials.h"

#define PSK_SIZE_MADE 16 /* bytes of a key that we make: as strong as the cipher suites' keys are */

/* Whose credentials: one of the two is not 0. */
struct party {
        int64_t client_id, server_id;
        const char *name;
};

struct credential_ask {
        const char *kind, *identity, *identity_hex, *key_hex;
};

static const struct json_field credential_fields[] = {
        ADMIN_FIELD(credential_ask, kind, TEXT),
        ADMIN_FIELD(credential_ask, identity, TEXT, .min = 1, .max = IDENTITY_SIZE_MAX),
        ADMIN_FIELD(credential_ask, identity_hex, TEXT),
        ADMIN_FIELD(credential_ask, key_hex, TEXT),
};

/* ---- credential → JSON */

static bool is_printable(struct bytes text) {
        for (size_t i = 0; i < text.size; i++)
                if (text.data[i] < 0x20 || text.data[i] > 0x7e)
                        return false;
        return text.size > 0;
}

/* identity is null when it is no printable text. */
static json_t *credential_json(const struct credential *credential) {
        struct bytes identity = credential_identity(credential);
        json_t *text = is_printable(identity) ? json_stringn((const char *)identity.data, identity.size) : json_null();

        return json_pack("{s:I, s:s, s:o, s:o, s:I}", "id", (json_int_t)credential->id, "kind", "psk", "identity", text,
                         "identity_hex", admin_hex(identity), "created_s", (json_int_t)credential->created_s);
}

static int list_credential(void *context, const struct credential *credential) {
        return admin_list_add(context, credential_json(credential));
}

static int credentials_get(struct aced *as, const struct party *party, struct response *response) {
        struct admin_list list = { .items = json_array() };
        int r = list.items ? 0 : -ENOMEM;

        if (r == 0)
                r = store_credential_each(as->store, party->client_id, party->server_id, list_credential, &list);
        if (r == 0)
                r = admin_list_reply(&list, response);
        admin_list_done(&list);
        return r;
}

/* ---- JSON → credential */

/* The identity as text, as bytes, or the party's name. */
static int identity_read(const struct credential_ask *ask, const char *name, struct response *response,
                         struct credential *credential) {
        const char *text = ask->identity ? ask->identity : name;

        if (ask->identity && ask->identity_hex) {
                response_why(response, "members \"identity\" and \"identity_hex\": one of the two is expected");
                return REFUSE_ADMIN_VALUE;
        }
        if (ask->identity_hex)
                return admin_read_hex(response, "identity_hex", ask->identity_hex, 1, IDENTITY_SIZE_MAX,
                                      credential->identity, &credential->identity_size);
        credential->identity_size = strlen(text);
        memcpy(credential->identity, text, credential->identity_size);
        return 0;
}

static int key_read(const struct credential_ask *ask, struct response *response, struct secret *ret) {
        if (ask->key_hex)
                return admin_read_key(response, "key_hex", ask->key_hex, PSK_SIZE_MIN, PSK_SIZE_MAX, ret);
        ret->size = PSK_SIZE_MADE;
        return random_bytes(ret->data, ret->size);
}

static int credential_read(const struct request *request, struct response *response, const struct party *party,
                           struct credential *credential, struct secret *secret) {
        _cleanup_(json_document_done) struct json_document document = {};
        struct credential_ask ask;
        int r = admin_read(request, response, credential_fields, N_ELEMENTS(credential_fields), &ask, &document);

        if (r != 0)
                return r;
        if (ask.kind && strcmp(ask.kind, "psk") != 0)
                return admin_refuse_value(response, "kind", ask.kind, "is no kind of credential: psk is");
        *credential = (struct credential){ .kind = CREDENTIAL_PSK, .client_id = party->client_id,
                                           .server_id = party->server_id, .created_s = request->now_s };
        r = identity_read(&ask, party->name, response, credential);
        return r == 0 ? key_read(&ask, response, secret) : r;
}

/* Bytes that are no text are not shown as text: cut at a zero byte they would be another identity's. */
static void identity_is_taken(struct response *response, struct bytes identity) {
        if (is_printable(identity))
                response_why(response, "the identity \"%.*s\" is taken by another credential: give another one",
                             (int)identity.size, (const char *)identity.data);
        else
                response_why(response, "this identity, which is no printable text, is taken by another credential: "
                             "give another one");
}

static int credentials_post(struct aced *as, const struct request *request, const struct party *party,
                            struct response *response) {
        _cleanup_(secret_done) struct secret secret = {};
        struct credential credential;
        bool same_secret = false;
        json_t *object;
        int r = credential_read(request, response, party, &credential, &secret);

        if (r != 0)
                return r;
        r = store_credential_add(as->store, &credential, &secret, &same_secret);
        if (r == REFUSE_ADMIN_EXISTS && same_secret)
                response_why(response, "member \"key_hex\": this key is registered already; a key is shared by two "
                             "parties only (RFC 9200 section 6.3): leave it out to have one made");
        else if (r == REFUSE_ADMIN_EXISTS)
                identity_is_taken(response, credential_identity(&credential));
        if (r != 0)
                return r;
        object = credential_json(&credential);
        if (object && json_object_set_new(object, "key_hex", admin_hex(secret_bytes(&secret))) != 0) {
                json_decref(object);
                object = NULL;
        }
        return admin_reply(response, &object);
}

static int credential_delete(struct aced *as, const struct request *request, const struct party *party,
                             struct response *response) {
        int64_t id = 0;
        int r = admin_read_id(response, "credential", request->segments[4], &id);

        if (r != 0)
                return r;
        r = store_credential_delete(as->store, id, party->client_id, party->server_id);
        if (r == REFUSE_ADMIN_UNKNOWN)
                response_why(response, "\"%s\" has no credential %lld: list its credentials to see their ids",
                             party->name, (long long)id);
        return r;
}

/* ---- handlers: the same for both kinds of party */

int admin_client_credentials_get(struct aced *as, const struct request *request, struct response *response) {
        struct client client;
        int r = admin_client_find(as->store, request->segments[2], response, &client);

        return r == 0 ? credentials_get(as, &(struct party){ .client_id = client.id, .name = client.name }, response) :
                        r;
}

int admin_client_credentials_post(struct aced *as, const struct request *request, struct response *response) {
        struct client client;
        int r = admin_client_find(as->store, request->segments[2], response, &client);

        return r == 0 ? credentials_post(as, request, &(struct party){ .client_id = client.id, .name = client.name },
                                         response) : r;
}

int admin_client_credential_delete(struct aced *as, const struct request *request, struct response *response) {
        struct client client;
        int r = admin_client_find(as->store, request->segments[2], response, &client);

        return r == 0 ? credential_delete(as, request, &(struct party){ .client_id = client.id, .name = client.name },
                                          response) : r;
}

int admin_server_credentials_get(struct aced *as, const struct request *request, struct response *response) {
        struct server server;
        int r = admin_server_find(as->store, request->segments[2], response, &server);

        return r == 0 ? credentials_get(as, &(struct party){ .server_id = server.id, .name = server.name }, response) :
                        r;
}

int admin_server_credentials_post(struct aced *as, const struct request *request, struct response *response) {
        struct server server;
        int r = admin_server_find(as->store, request->segments[2], response, &server);

        return r == 0 ? credentials_post(as, request, &(struct party){ .server_id = server.id, .name = server.name },
                                         response) : r;
}

int admin_server_credential_delete(struct aced *as, const struct request *request, struct response *response) {
        struct server server;
        int r = admin_server_find(as->store, request->segments[2], response, &server);

        return r == 0 ? credential_delete(as, request, &(struct party){ .server_id = server.id, .name = server.name },
                                          response) : r;
}
