#include "endpoint/protect.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "crypto/random.h"
#include "domain/grant.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/keys.h"
#include "endpoint/request.h"
#include "format/cwt.h"
#include "store/servers.h"
#include "store/store.h"

/* What one token is protected with. */
struct protecting {
        struct aced *as;
        const struct grant *grant;
        const struct server *server;
        int64_t now_s;
        struct response *response;
        struct server_key key, wrap;
        uint8_t nonce[AEAD_NONCE_SIZE_MAX];
        struct cwt_protection how;
};

static void protecting_done(struct protecting *p) {
        server_key_done(&p->key);
        server_key_done(&p->wrap);
}

/* Registration always sees to the keys: that one is missing is not the client's fault, and no answer for it. */
static int lacks_key(struct protecting *p, const char *role) {
        response_why(p->response, "resource server %s has no %s key: give it one with acectl rs key set %s --role %s",
                     p->server->name, role, p->server->name, role);
        return -ENOKEY;
}

static int find_key(struct protecting *p, enum server_key_role role, const char *name, size_t size,
                    struct server_key *key) {
        int r = store_server_key_get(p->as->store, p->server->id, role, p->now_s, key);

        return r > 0 || (r == 0 && size != 0 && key->key.size != size) ? lacks_key(p, name) : r;
}

static struct bytes kid_of(const struct server_key *key) {
        return key->kid_size > 0 ? bytes_of(key->kid, key->kid_size) : BYTES_NONE;
}

/*
 * The nonce is made of the token's number, which never repeats, and each token is encrypted, or a key in it, once: so
 * it is never used twice, and the token is found again without being decrypted (cwt_find_place()).
 */
static int make_nonce(struct protecting *p) {
        const struct aead_info *info = aead_info(p->server->token_alg);

        if (!info)
                return lacks_key(p, "token");
        p->how.nonce = bytes_of(p->nonce, info->nonce_size);
        return store_nonce_of(p->as->store, p->grant->number, p->nonce, info->nonce_size);
}

/* AS-102: the claims under the key that the server alone shares with us. */
static int use_encryption(struct protecting *p) {
        const struct aead_info *info = aead_info(p->server->token_alg);
        int r;

        if ((r = find_key(p, SERVER_KEY_TOKEN, "token", info ? info->key_size : 0, &p->key)) != 0)
                return r;
        p->how.key = secret_bytes(&p->key.key);
        p->how.kid = kid_of(&p->key);
        return make_nonce(p);
}

static int use_mac(struct protecting *p) {
        int r = find_key(p, SERVER_KEY_TOKEN, "token", MAC_KEY_SIZE, &p->key);

        p->how.key = secret_bytes(&p->key.key);
        p->how.kid = kid_of(&p->key);
        return r;
}

/*
 * AS-063: a symmetric PoP key in a readable token is encrypted by itself. Who derives keys has those that later tokens
 * name (RFC 9202 §4).
 */
static int use_wrapping(struct protecting *p, enum server_key_role role, const char *name) {
        const struct aead_info *info = aead_info(p->server->token_alg);
        int r;

        if (p->grant->public_key.curve != CURVE_NONE || p->server->derives_key)
                return 0;
        if ((r = find_key(p, role, name, info ? info->key_size : 0, &p->wrap)) != 0)
                return r;
        p->how.wrap_key = secret_bytes(&p->wrap.key);
        p->how.wrap_kid = kid_of(&p->wrap);
        return make_nonce(p);
}

static int use_signature(struct protecting *p) {
        const struct signer *signer;
        int r = signers_find(p->as, p->server->sign_alg, p->now_s, &signer);

        if (r > 0) {
                response_why(p->response, "there is no key that signs with %s for resource server %s: make one with "
                             "acectl key rotate --role sign --alg %s", sign_alg_name(p->server->sign_alg) ?: "?",
                             p->server->name, sign_alg_name(p->server->sign_alg) ?: "?");
                return -ENOKEY;
        }
        if (r == 0) {
                p->how.signer = signer->key;
                p->how.signer_kid = bytes_of(signer->kid, sizeof(signer->kid));
        }
        return r;
}

static int choose(struct protecting *p) {
        int r;

        switch (p->server->token_format) {
        case TOKEN_FORMAT_ENCRYPT0:
                return use_encryption(p);
        case TOKEN_FORMAT_MAC0:
                r = use_mac(p);
                return r != 0 ? r : use_wrapping(p, SERVER_KEY_WRAP, "wrap");
        case TOKEN_FORMAT_SIGN1:
                r = use_signature(p);
                return r != 0 ? r : use_wrapping(p, SERVER_KEY_TOKEN, "token");
        case TOKEN_FORMAT_SIGN_ENCRYPT:
                r = use_signature(p);
                return r != 0 ? r : use_encryption(p);
        case TOKEN_FORMAT_OPAQUE:
                break;
        }
        return -EINVAL;
}

static int make_opaque(const struct grant *grant, struct buf *token) {
        uint8_t random[OPAQUE_RANDOM_SIZE];
        int r = random_bytes(random, sizeof(random));

        return r != 0 ? r : cwt_opaque(grant->number, random, token);
}

static int make_cwt(struct protecting *p, struct buf *token) {
        _cleanup_(buf_wiped) struct buf claims = BUF_INIT(CWT_SIZE_MAX);
        int r;

        if ((r = choose(p)) != 0 ||
            (r = cwt_claims_encode(p->grant, bytes_text(p->as->config->issuer), &p->how, &claims)) != 0)
                return r;
        return cwt_protect(&p->how, buf_bytes(&claims), token);
}

/* AS-104: the server computes the same from the token that it gets. */
static int derive(struct protecting *p, struct bytes token, struct secret *ret) {
        _cleanup_(server_key_done) struct server_key key = {};
        int r = find_key(p, SERVER_KEY_DERIVATION, "derivation", 0, &key);

        return r != 0 ? r : cwt_derive_key(secret_bytes(&key.key), token, POP_KEY_SIZE, ret);
}

int protect_grant(struct aced *as, struct grant *grant, const struct server *server, int64_t now_s,
                  struct response *response, struct buf *token) {
        _cleanup_(protecting_done) struct protecting p = {
                .as = as, .grant = grant, .server = server, .now_s = now_s, .response = response,
                .how = {
                        .format = server->token_format,
                        .tagged = server->token_tagged,
                        .all_protected = server->has_trl,
                        .aead = server->token_alg,
                        .kept = as->aead,
                        .mac = server->mac_alg,
                },
        };
        size_t before = token->size;
        int r = server->token_format == TOKEN_FORMAT_OPAQUE ? make_opaque(grant, token) : make_cwt(&p, token);

        if (r == 0 && grant->derives_key && grant->new_key)
                r = derive(&p, bytes_of(token->data + before, token->size - before), &grant->pop_key);
        return r;
}
