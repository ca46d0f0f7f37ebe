#include "support/resource.h"

#include <errno.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/cbor.h"
#include "format/cose.h"
#include "format/cwt.h"
#include "format/labels.h"
#include "store/as_keys.h"
#include "store/servers.h"

#define KEYS_MAX (SERVER_KEYS_MAX * SERVER_KEY_ROLES)
#define CLAIMS_MAX 4096

/* Everything that it has. */
struct resource {
        struct server server;
        struct server_key keys[KEYS_MAX];
        size_t n_keys;
        struct as_key signers[AS_KEYS_MAX];
        size_t n_signers;
};

static void resource_free(struct resource *resource) {
        for (size_t i = 0; resource && i < resource->n_keys; i++)
                server_key_done(&resource->keys[i]);
        free(resource);
}
DEFINE_FREEP(struct resource, resource_free)

static int note_key(void *context, const struct server_key *key) {
        struct resource *resource = context;

        if (resource->n_keys < KEYS_MAX)
                resource->keys[resource->n_keys++] = *key;
        return 0;
}

static int note_signer(void *context, const struct as_key *key) {
        struct resource *resource = context;

        if (key->role == AS_KEY_SIGN && resource->n_signers < AS_KEYS_MAX)
                resource->signers[resource->n_signers++] = *key;
        return 0;
}

/* Each key was in force, or is going to be, at its own time. */
static int fill(struct store *store, const char *server, struct resource *resource) {
        int r;

        if ((r = store_server_by_name(store, bytes_text(server), &resource->server)) != 0 ||
            (r = store_server_key_each(store, resource->server.id, note_key, resource)) != 0 ||
            (r = store_as_key_each(store, note_signer, resource)) != 0)
                return r;
        for (size_t i = 0; r == 0 && i < resource->n_keys; i++) {
                struct server_key *key = &resource->keys[i];

                r = store_server_key_get(store, key->server_id, key->role, key->active_from_s, key);
        }
        return r;
}

static int resource_new(struct store *store, const char *server, struct resource **ret) {
        _cleanup_(resource_freep) struct resource *resource = calloc(1, sizeof(*resource));
        int r = resource ? store_begin(store) : -ENOMEM;

        if (r != 0)
                return r;
        r = fill(store, server, resource);
        store_rollback(store);
        if (r == 0)
                *ret = TAKE_PTR(resource);
        return r > 0 ? -ENOENT : r;
}

static int decrypt(const struct resource *resource, enum server_key_role role, struct bytes object, struct buf *plain) {
        int r = REFUSE_MALFORMED;

        for (size_t i = 0; r == REFUSE_MALFORMED && i < resource->n_keys; i++)
                if (resource->keys[i].role == role)
                        r = cose_encrypt0_open(object, secret_bytes(&resource->keys[i].key), plain);
        return r;
}

static int authenticate(const struct resource *resource, struct bytes object, struct bytes *ret) {
        int r = REFUSE_MALFORMED;

        for (size_t i = 0; r == REFUSE_MALFORMED && i < resource->n_keys; i++)
                if (resource->keys[i].role == SERVER_KEY_TOKEN)
                        r = cose_mac0_open(object, secret_bytes(&resource->keys[i].key), ret);
        return r;
}

/* With the key that the kid names, and none else. */
static int verify(const struct resource *resource, struct bytes object, struct bytes *ret) {
        struct cose_signed_parts parts;
        int r = cose_sign1_parse(object, &parts);

        for (size_t i = 0; r == 0 && i < resource->n_signers; i++)
                if (bytes_equal(parts.kid, bytes_of(resource->signers[i].kid, AS_KEY_KID_SIZE)))
                        return cose_sign1_open(object, &resource->signers[i].public_key, ret);
        return r != 0 ? r : REFUSE_MALFORMED;
}

/* The tag of a COSE object; 0: it has none. */
static unsigned tag_of(struct bytes token) {
        struct cbor_item item;

        if (cbor_item(token, &item) == 0 && item.kind == CBOR_TAG && item.argument == TAG_CWT)
                (void)cbor_item(item.content, &item);
        return item.kind == CBOR_TAG ? (unsigned)item.argument : 0;
}

static int open_encrypted(const struct resource *resource, struct bytes core, struct buf *claims) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(CLAIMS_MAX);
        struct bytes inner;
        int r = decrypt(resource, SERVER_KEY_TOKEN, core, &plain);

        if (r != 0)
                return r;
        /* RFC 8392 §7.2: a tag in it says that it is nested */
        if (tag_of(buf_bytes(&plain)) != TAG_COSE_SIGN1)
                return buf_add(claims, buf_bytes(&plain));
        r = verify(resource, buf_bytes(&plain), &inner);
        return r != 0 ? r : buf_add(claims, inner);
}

int resource_open(struct store *store, const char *server, struct bytes token, struct buf *claims) {
        _cleanup_(resource_freep) struct resource *resource = NULL;
        struct bytes core = cwt_core(token), payload;
        struct cose_encrypt0_parts encrypted;
        unsigned tag = tag_of(token);
        int r = resource_new(store, server, &resource);

        if (r != 0)
                return r;
        if (cose_encrypt0_parse(core, &encrypted) == 0)
                return open_encrypted(resource, core, claims);
        if (tag == 0)
                tag = resource->server.token_format == TOKEN_FORMAT_MAC0 ? TAG_COSE_MAC0 : TAG_COSE_SIGN1;
        r = tag == TAG_COSE_MAC0 ? authenticate(resource, core, &payload) : verify(resource, core, &payload);
        return r != 0 ? r : buf_add(claims, payload);
}

int resource_unwrap(struct store *store, const char *server, struct bytes encrypted_key, struct buf *key) {
        _cleanup_(resource_freep) struct resource *resource = NULL;
        int r = resource_new(store, server, &resource);

        if (r != 0)
                return r;
        return decrypt(resource, resource->server.token_format == TOKEN_FORMAT_MAC0 ? SERVER_KEY_WRAP :
                                 SERVER_KEY_TOKEN, encrypted_key, key);
}

int resource_derive(struct store *store, const char *server, struct bytes token, int64_t now_s, struct secret *ret) {
        _cleanup_(server_key_done) struct server_key key = {};
        struct server found;
        int r;

        if ((r = store_begin(store)) != 0)
                return r;
        if ((r = store_server_by_name(store, bytes_text(server), &found)) == 0)
                r = store_server_key_get(store, found.id, SERVER_KEY_DERIVATION, now_s, &key);
        store_rollback(store);
        return r != 0 ? -ENOENT : cwt_derive_key(secret_bytes(&key.key), token, 16, ret);
}
