#include "endpoint/handlers.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "crypto/random.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/admin.h"
#include "endpoint/admin_oscore.h"
#include "format/cose.h"
#include "store/credentials.h"

#define PSK_SIZE_MADE 16 /* bytes of a key that we make: as strong as the cipher suites' keys are */
#define PUBLIC_KEY_SIZE_MAX 256 /* bytes of a COSE_Key or SubjectPublicKeyInfo of our curves, and then some */
#define DER_SEQUENCE 0x30       /* what a SubjectPublicKeyInfo starts with; a COSE_Key is a map */

/* Whose credentials: one of the two is not 0. */
struct party {
        int64_t client_id, server_id;
        const char *name;
};

struct credential_ask {
        const char *kind, *identity, *identity_hex, *key_hex, *public_key_hex, *kid_hex, *match;
        struct oscore_ask oscore;
};

static const struct json_field credential_fields[] = {
        ADMIN_FIELD(credential_ask, kind, TEXT),
        ADMIN_FIELD(credential_ask, identity, TEXT, .min = 1, .max = IDENTITY_SIZE_MAX),
        ADMIN_FIELD(credential_ask, identity_hex, TEXT),
        ADMIN_FIELD(credential_ask, key_hex, TEXT),
        ADMIN_FIELD(credential_ask, public_key_hex, TEXT),
        ADMIN_FIELD(credential_ask, kid_hex, TEXT),
        ADMIN_FIELD(credential_ask, match, TEXT),
        OSCORE_FIELDS(credential_ask),
};

/* ---- credential → JSON */

static bool is_printable(struct bytes text) {
        for (size_t i = 0; i < text.size; i++)
                if (text.data[i] < 0x20 || text.data[i] > 0x7e)
                        return false;
        return text.size > 0;
}

/* identity is null when it is no printable text. */
static json_t *psk_json(const struct credential *credential) {
        struct bytes identity = credential_identity(credential);
        json_t *text = is_printable(identity) ? json_stringn((const char *)identity.data, identity.size) : json_null();

        return json_pack("{s:o, s:o}", "identity", text, "identity_hex", admin_hex(identity));
}

/* The identity is the key's thumbprint. */
static json_t *rpk_json(const struct credential *credential) {
        uint8_t spki[SPKI_SIZE_MAX];
        size_t size;

        if (public_key_spki(&credential->key, spki, &size) != 0)
                return NULL;
        return json_pack("{s:s, s:o, s:o, s:o}", "curve", curve_name(credential->key.curve), "thumbprint",
                         admin_hex(credential_identity(credential)), "public_key_hex",
                         admin_hex(bytes_of(spki, size)), "kid_hex",
                         credential->kid_size > 0 ? admin_hex(bytes_of(credential->kid, credential->kid_size)) :
                                                    json_null());
}

static json_t *members_json(const struct credential *credential) {
        switch (credential->kind) {
        case CREDENTIAL_PSK:
                return psk_json(credential);
        case CREDENTIAL_RPK:
                return rpk_json(credential);
        case CREDENTIAL_OSCORE:
                return oscore_json(&credential->oscore);
        default:
                return json_pack("{s:s}", "match", credential->rule);
        }
}

static json_t *credential_json(const struct credential *credential) {
        json_t *object = json_pack("{s:I, s:s}", "id", (json_int_t)credential->id, "kind",
                                   credential_kind_name(credential->kind));
        json_t *members = members_json(credential);

        if (!object || !members || json_object_update(object, members) != 0 ||
            json_object_set_new(object, "created_s", json_integer((json_int_t)credential->created_s)) != 0) {
                json_decref(object);
                object = NULL;
        }
        json_decref(members);
        return object;
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

static int psk_read(const struct credential_ask *ask, const struct party *party, struct response *response,
                    struct credential *credential, struct secret *secret) {
        int r = identity_read(ask, party->name, response, credential);

        return r == 0 ? key_read(ask, response, secret) : r;
}

static int refuse_public_key(struct response *response) {
        response_why(response, "member \"public_key_hex\": no good public key on P-256, P-384, Ed25519 or X25519, as "
                     "COSE_Key or as DER of SubjectPublicKeyInfo");
        return REFUSE_ADMIN_VALUE;
}

/* A COSE_Key may bring its kid along. */
static int cose_read(struct bytes bytes, struct response *response, struct credential *credential) {
        struct cose_key key;
        int r = cose_key_decode(bytes, &key);

        if (r < 0)
                return r;
        if (r > 0 || key.is_bad || key.public_key.curve == CURVE_NONE)
                return refuse_public_key(response);
        credential->key = key.public_key;
        if (credential->kid_size == 0 && key.kid.size > 0 && key.kid.size <= CREDENTIAL_KID_MAX) {
                memcpy(credential->kid, key.kid.data, key.kid.size);
                credential->kid_size = key.kid.size;
        }
        return 0;
}

static int rpk_read(const struct credential_ask *ask, struct response *response, struct credential *credential) {
        uint8_t bytes[PUBLIC_KEY_SIZE_MAX];
        size_t size;
        int r;

        if (!ask->public_key_hex) {
                response_why(response, "member \"public_key_hex\" is missing: kind rpk is a raw public key");
                return REFUSE_ADMIN_VALUE;
        }
        if (ask->kid_hex && (r = admin_read_hex(response, "kid_hex", ask->kid_hex, 1, CREDENTIAL_KID_MAX,
                                                credential->kid, &credential->kid_size)) != 0)
                return r;
        r = admin_read_hex(response, "public_key_hex", ask->public_key_hex, 1, sizeof(bytes), bytes, &size);
        if (r != 0)
                return r;
        if (bytes[0] != DER_SEQUENCE)
                return cose_read(bytes_of(bytes, size), response, credential);
        r = public_key_from_spki(bytes_of(bytes, size), &credential->key);
        return r == -EINVAL ? refuse_public_key(response) : r;
}

static int x509_read(const struct credential_ask *ask, struct response *response, struct credential *credential) {
        if (ask->match && credential_rule_read(ask->match, credential->rule))
                return 0;
        response_why(response, "member \"match\": spki: with the SHA-256 of a SubjectPublicKeyInfo in hexadecimal, "
                     "dns:, uri:, email:, ip: with a subject alternative name, or subject: with a name (RFC 4514) is "
                     "expected; %d bytes at most", CREDENTIAL_RULE_MAX);
        return REFUSE_ADMIN_VALUE;
}

/* What is meant for another kind would otherwise be passed over in silence. */
static int check_members(const struct credential_ask *ask, enum credential_kind kind, struct response *response) {
        const struct {
                const char *name, *value;
                enum credential_kind kind;
        } members[] = {
                { "identity", ask->identity, CREDENTIAL_PSK },
                { "identity_hex", ask->identity_hex, CREDENTIAL_PSK },
                { "key_hex", ask->key_hex, CREDENTIAL_PSK },
                { "public_key_hex", ask->public_key_hex, CREDENTIAL_RPK },
                { "kid_hex", ask->kid_hex, CREDENTIAL_RPK },
                { "match", ask->match, CREDENTIAL_X509 },
                { oscore_ask_member(&ask->oscore), oscore_ask_member(&ask->oscore), CREDENTIAL_OSCORE },
        };

        for (size_t i = 0; i < N_ELEMENTS(members); i++)
                if (members[i].value && members[i].kind != kind) {
                        response_why(response, "member \"%s\" is for kind %s, not for %s", members[i].name,
                                     credential_kind_name(members[i].kind), credential_kind_name(kind));
                        return REFUSE_ADMIN_VALUE;
                }
        return 0;
}

/* As it says, or as what it has shows. */
static int kind_read(const struct credential_ask *ask, struct response *response, enum credential_kind *ret) {
        *ret = ask->public_key_hex ? CREDENTIAL_RPK : ask->match ? CREDENTIAL_X509 :
               oscore_ask_member(&ask->oscore) ? CREDENTIAL_OSCORE : CREDENTIAL_PSK;
        if (!ask->kind)
                return 0;
        for (enum credential_kind kind = CREDENTIAL_PSK; kind < CREDENTIAL_KINDS; kind++)
                if (strcmp(ask->kind, credential_kind_name(kind)) == 0) {
                        *ret = kind;
                        return 0;
                }
        return admin_refuse_value(response, "kind", ask->kind, "is no kind of credential: psk, rpk, x509 and oscore "
                                  "are");
}

/* *ret_number: the least of ours that may be used with it. */
static int credential_read(struct store *store, const struct request *request, struct response *response,
                           const struct party *party, struct credential *credential, struct secret *secret,
                           uint64_t *ret_number) {
        _cleanup_(json_document_done) struct json_document document = {};
        enum credential_kind kind;
        struct credential_ask ask;
        int r = admin_read(request, response, credential_fields, N_ELEMENTS(credential_fields), &ask, &document);

        if (r != 0 || (r = kind_read(&ask, response, &kind)) != 0 || (r = check_members(&ask, kind, response)) != 0)
                return r;
        *credential = (struct credential){ .kind = kind, .client_id = party->client_id,
                                           .server_id = party->server_id, .created_s = request->now_s };
        *ret_number = (uint64_t)ask.oscore.sender_number.value;
        switch (kind) {
        case CREDENTIAL_PSK:
                return psk_read(&ask, party, response, credential, secret);
        case CREDENTIAL_RPK:
                return rpk_read(&ask, response, credential);
        case CREDENTIAL_OSCORE:
                return oscore_ask_read(store, &ask.oscore, response, &credential->oscore, secret);
        default:
                return x509_read(&ask, response, credential);
        }
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

static void say_refusal(struct response *response, int r, const struct credential *credential, bool same_secret) {
        if (credential->kind == CREDENTIAL_OSCORE)
                oscore_say_refusal(response, r, same_secret);
        else if (r == REFUSE_ADMIN_CONFLICT && credential->server_id != 0)
                response_why(response, "it has a public key on %s already: a resource server has one of each kind "
                             "(RFC 9201 section 7); delete that first", curve_name(credential->key.curve));
        else if (r == REFUSE_ADMIN_CONFLICT)
                response_why(response, "another key of this client has the same kid: give another kid_hex");
        else if (r == REFUSE_ADMIN_EXISTS && same_secret)
                response_why(response, "member \"key_hex\": this key is registered already; a key is shared by two "
                             "parties only (RFC 9200 section 6.3): leave it out to have one made");
        else if (r == REFUSE_ADMIN_EXISTS && credential->kind == CREDENTIAL_RPK)
                response_why(response, "member \"public_key_hex\": this key is registered already: each party has its "
                             "own");
        else if (r == REFUSE_ADMIN_EXISTS && credential->kind == CREDENTIAL_X509)
                response_why(response, "member \"match\": this rule is registered already: a certificate stands for "
                             "one party");
        else if (r == REFUSE_ADMIN_EXISTS)
                identity_is_taken(response, credential_identity(credential));
}

/* Shown this once. */
static int show_secret(json_t *object, const struct credential *credential, const struct secret *secret) {
        switch (credential->kind) {
        case CREDENTIAL_PSK:
                return json_object_set_new(object, "key_hex", admin_hex(secret_bytes(secret))) == 0 ? 0 : -ENOMEM;
        case CREDENTIAL_OSCORE:
                return oscore_record_set(object, &credential->oscore, secret);
        default:
                return 0;
        }
}

static int credentials_post(struct aced *as, const struct request *request, const struct party *party,
                            struct response *response) {
        _cleanup_(secret_done) struct secret secret = {};
        _cleanup_(json_decrefp) json_t *object = NULL;
        struct credential credential;
        bool same_secret = false;
        uint64_t number;
        int r = credential_read(as->store, request, response, party, &credential, &secret, &number);

        if (r != 0)
                return r;
        r = store_credential_add(as->store, &credential, &secret, &same_secret);
        if (r > 0)
                say_refusal(response, r, &credential, same_secret);
        if (r == 0 && number > 0)
                r = store_oscore_raise(as->store, number);
        if (r != 0)
                return r;
        object = credential_json(&credential);
        r = object ? show_secret(object, &credential, &secret) : -ENOMEM;
        return r == 0 ? admin_reply(response, &object) : r;
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
