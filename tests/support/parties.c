#include "support/parties.h"

#include <stdio.h>
#include <stdlib.h>

#include "domain/credential.h"
#include "format/labels.h"
#include "store/clients.h"
#include "store/credentials.h"
#include "store/policies.h"
#include "store/servers.h"

const uint8_t party_token_key[PARTY_KEY_SIZE] = "AS-RS key of rs1";

static void must(int r, const char *what) {
        if (r == 0)
                return;
        fprintf(stderr, "the test's parties: %s: %d\n", what, r);
        abort();
}

void party_key(const char *name, uint8_t ret[static PARTY_KEY_SIZE]) {
        memset(ret, 0, PARTY_KEY_SIZE);
        snprintf((char *)ret, PARTY_KEY_SIZE, "key of %s", name);
}

/* No other than the PSK's: that one is registered already. */
static void context_secret(const char *name, uint8_t ret[static PARTY_KEY_SIZE]) {
        memset(ret, 0, PARTY_KEY_SIZE);
        snprintf((char *)ret, PARTY_KEY_SIZE, "secret of %s", name);
}

static void add_credential(struct store *store, const char *identity, int64_t client_id, int64_t server_id) {
        struct credential credential = { .kind = CREDENTIAL_PSK, .client_id = client_id, .server_id = server_id };
        struct secret secret = { .size = PARTY_KEY_SIZE };
        bool same;

        party_key(identity, secret.data);
        credential.identity_size = strlen(identity);
        memcpy(credential.identity, identity, credential.identity_size);
        must(store_credential_add(store, &credential, &secret, &same), identity);
}

void party_add_client(struct store *store, const char *name, const char *default_audience, const char *scope) {
        struct client client = { .profiles = PROFILE_BIT(PROFILE_COAP_DTLS) };
        struct policy policy = { .audience = "rs1" };

        snprintf(client.name, sizeof(client.name), "%s", name);
        snprintf(client.default_audience, sizeof(client.default_audience), "%s", default_audience ?: "");
        snprintf(policy.subject, sizeof(policy.subject), "%s", name);
        must(store_client_add(store, &client), name);
        add_credential(store, name, client.id, 0);
        must(scope_set(&policy.scopes, SCOPE_TEXT, bytes_text(scope)), scope);
        must(store_policy_add(store, &policy), name);
}

void party_add_server(struct store *store, const char *name) {
        struct server server = { .profiles = PROFILE_BIT(PROFILE_COAP_DTLS), .scope_kind = SCOPE_TEXT,
                                 .token_format = TOKEN_FORMAT_ENCRYPT0, .token_alg = AEAD_AES_CCM_16_64_128,
                                 .sign_alg = SIGN_ES256, .pop_keys = POP_KEY_SYMMETRIC, .has_clock = true };
        struct server_key key = {};

        snprintf(server.name, sizeof(server.name), "%s", name);
        must(scope_set(&server.default_scope, SCOPE_TEXT, BYTES_LITERAL("read")), name);
        must(store_server_add(store, &server), name);
        must(store_audience_add(store, server.id, bytes_text(name), false), name);
        key.server_id = server.id;
        key.role = SERVER_KEY_TOKEN;
        must(secret_set(&key.key, bytes_of(party_token_key, sizeof(party_token_key))), name);
        must(store_server_key_set(store, &key), name);
        add_credential(store, name, 0, server.id);
}

static void add_context(struct store *store, const char *name, struct bytes kid, bool renews) {
        struct credential credential = { .kind = CREDENTIAL_OSCORE };
        struct oscore_parameters *parameters = &credential.oscore;
        struct secret secret = { .size = PARTY_KEY_SIZE };
        struct client client;
        struct server server;
        bool same;

        if (store_client_by_name(store, bytes_text(name), &client) == 0)
                credential.client_id = client.id;
        else if (store_server_by_name(store, bytes_text(name), &server) == 0)
                credential.server_id = server.id;
        parameters->alg = AEAD_AES_CCM_16_64_128;
        parameters->hkdf = OSCORE_HKDF_SHA256;
        parameters->renews = renews;
        parameters->recipient_id.size = kid.size;
        memcpy(parameters->recipient_id.data, kid.data, kid.size);
        credential_oscore_identity(&credential);
        context_secret(name, secret.data);
        must(store_credential_add(store, &credential, &secret, &same), name);
}

void party_add_context(struct store *store, const char *name, struct bytes kid) {
        add_context(store, name, kid, false);
}

void party_add_renewing_context(struct store *store, const char *name, struct bytes kid) {
        add_context(store, name, kid, true);
}

void party_context_under(const char *name, struct bytes kid, struct bytes id_context, struct oscore_keys *ret) {
        uint8_t secret[PARTY_KEY_SIZE];

        context_secret(name, secret);
        must(oscore_derive(&(struct oscore_input){ .alg = AEAD_AES_CCM_16_64_128, .hkdf = OSCORE_HKDF_SHA256,
                                                   .master_secret = bytes_of(secret, sizeof(secret)),
                                                   .id_context = id_context, .sender_id = kid }, ret), name);
}

void party_context(const char *name, struct bytes kid, struct oscore_keys *ret) {
        party_context_under(name, kid, BYTES_NONE, ret);
}

struct address party_address(unsigned port) {
        return (struct address){ .in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                         .sin_addr = { htonl(INADDR_LOOPBACK) } },
                                 .size = sizeof(struct sockaddr_in) };
}
