#include "format/ace.h"

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/aif.h"
#include "format/cbor.h"
#include "format/labels.h"

/* ---- requests */

struct token_message {
        struct cbor_item client_id, audience, scope, grant_type, req_cnf, profile, cnonce;
};

/* RFC 9200 §5.8.5, RFC 9201 §6 */
static const struct cbor_field token_fields[] = {
        { ACE_REQ_CNF, CBOR_MAP, offsetof(struct token_message, req_cnf) },
        { ACE_AUDIENCE, CBOR_TEXT, offsetof(struct token_message, audience) },
        { ACE_SCOPE, CBOR_TEXT_OR_BYTES, offsetof(struct token_message, scope) },
        { ACE_CLIENT_ID, CBOR_TEXT, offsetof(struct token_message, client_id) },
        { ACE_GRANT_TYPE, CBOR_UINT, offsetof(struct token_message, grant_type) },
        { ACE_PROFILE, CBOR_NULL | CBOR_INT, offsetof(struct token_message, profile) },
        { ACE_CNONCE, CBOR_BYTES, offsetof(struct token_message, cnonce) },
};

struct cnf_message {
        struct cbor_item cose_key, encrypted_cose_key, kid, osc;
};

/* RFC 8747 §3.1, RFC 9203 §3.2. Of any kind: what a method holds is judged after the form of the whole request. */
static const struct cbor_field cnf_fields[] = {
        { CNF_COSE_KEY, CBOR_ANY, offsetof(struct cnf_message, cose_key) },
        { CNF_ENCRYPTED_COSE_KEY, CBOR_ANY, offsetof(struct cnf_message, encrypted_cose_key) },
        { CNF_KID, CBOR_ANY, offsetof(struct cnf_message, kid) },
        { CNF_OSC, CBOR_ANY, offsetof(struct cnf_message, osc) },
};

struct key_message {
        struct cbor_item kty, kid, k;
};

static const struct cbor_field key_fields[] = {
        { KEY_KTY, CBOR_ANY, offsetof(struct key_message, kty) },
        { KEY_KID, CBOR_ANY, offsetof(struct key_message, kid) },
        { KEY_K, CBOR_ANY, offsetof(struct key_message, k) },
};

static int read_kid(const struct cbor_item *kid, struct token_ask *ask) {
        if (kid->kind != CBOR_BYTES)
                return 0;
        ask->cnf = ASK_CNF_KID;
        ask->kid = kid->content;
        return 0;
}

static int read_cose_key(struct bytes raw, struct token_ask *ask) {
        struct key_message key;
        int64_t kty;
        int r;

        r = cbor_map(raw, key_fields, N_ELEMENTS(key_fields), &key);
        if (r != 0)
                return r;
        if (!cbor_item_int(&key.kty, &kty))
                return 0;
        if (kty == KTY_EC2 || kty == KTY_OKP)
                ask->cnf = ASK_CNF_UNSUPPORTED;
        else if (kty == KTY_SYMMETRIC && key.k.kind != CBOR_ABSENT)
                ask->cnf = ASK_CNF_SYMMETRIC_VALUE;
        else if (kty == KTY_SYMMETRIC)
                return read_kid(&key.kid, ask); /* RFC 9202 §3.3.2 names a key in this way */
        return 0;
}

/* RFC 8747 §3.1: one key, no more; members that are not understood are ignored. */
static int read_req_cnf(struct bytes raw, struct token_ask *ask) {
        struct cnf_message cnf;
        int r;

        r = cbor_map(raw, cnf_fields, N_ELEMENTS(cnf_fields), &cnf);
        if (r != 0)
                return r;
        ask->cnf = ASK_CNF_UNREADABLE;
        if ((cnf.cose_key.kind != CBOR_ABSENT) + (cnf.encrypted_cose_key.kind != CBOR_ABSENT) +
                    (cnf.kid.kind != CBOR_ABSENT) + (cnf.osc.kind != CBOR_ABSENT) != 1)
                return 0;
        if (cnf.cose_key.kind == CBOR_MAP)
                return read_cose_key(cnf.cose_key.raw, ask);
        return read_kid(&cnf.kid, ask);
}

static enum scope_kind scope_kind_of(const struct cbor_item *item) {
        return item->kind == CBOR_TEXT ? SCOPE_TEXT : item->kind == CBOR_BYTES ? SCOPE_BYTES : SCOPE_NONE;
}

int token_ask_decode(struct bytes payload, struct token_ask *ret_ask) {
        struct token_message message;
        struct token_ask ask = {};
        int r;

        r = cbor_map(payload, token_fields, N_ELEMENTS(token_fields), &message);
        if (r != 0)
                return r;
        ask.client_id = message.client_id.content;
        ask.audience = message.audience.content;
        ask.scope_kind = scope_kind_of(&message.scope);
        ask.scope = message.scope.content;
        if (ask.scope_kind == SCOPE_BYTES)
                (void)aif_decode(ask.scope, &ask.aif); /* is none: so says its kind */
        /* RFC 9200 §5.8.1: no grant type is client_credentials */
        if (message.grant_type.kind != CBOR_ABSENT && message.grant_type.argument != GRANT_CLIENT_CREDENTIALS)
                ask.grant_type = ASK_OTHER_GRANT;
        ask.wants_profile = message.profile.kind == CBOR_NULL;
        if (message.req_cnf.kind != CBOR_ABSENT) {
                r = read_req_cnf(message.req_cnf.raw, &ask);
                if (r != 0)
                        return r;
        }
        *ret_ask = ask;
        return 0;
}

struct introspect_message {
        struct cbor_item token, token_type_hint;
};

/* RFC 9200 §5.9.4: the hint is text in Table 6 and an integer in Figure 9 */
static const struct cbor_field introspect_fields[] = {
        { INTRO_TOKEN, CBOR_BYTES, offsetof(struct introspect_message, token) },
        { INTRO_TOKEN_TYPE_HINT, CBOR_TEXT | CBOR_INT, offsetof(struct introspect_message, token_type_hint) },
};

int introspect_ask_decode(struct bytes payload, struct introspect_ask *ret_ask) {
        struct introspect_message message;
        int r;

        r = cbor_map(payload, introspect_fields, N_ELEMENTS(introspect_fields), &message);
        if (r != 0)
                return r;
        if (message.token.kind == CBOR_ABSENT)
                return REFUSE_MISSING;
        ret_ask->token = message.token.content;
        return 0;
}

/* ---- answers */

void ace_put_symmetric_cnf(struct cbor_writer *w, uint64_t key_number, struct bytes key) {
        cbor_put_map(w, 1);
        cbor_put_uint(w, CNF_COSE_KEY);
        ace_put_symmetric_key(w, key_number, key);
}

void ace_put_symmetric_key(struct cbor_writer *w, uint64_t key_number, struct bytes key) {
        uint8_t kid[NUMBER_SIZE_MAX];

        cbor_put_map(w, key.size > 0 ? 3 : 2);
        cbor_put_uint(w, KEY_KTY);
        cbor_put_uint(w, KTY_SYMMETRIC);
        cbor_put_uint(w, KEY_KID);
        cbor_put_bytes(w, bytes_of(kid, number_to_bytes(key_number, kid)));
        if (key.size > 0) {
                cbor_put_int(w, KEY_K);
                cbor_put_bytes(w, key);
        }
}

void ace_put_scope(struct cbor_writer *w, int label, const struct scope *scope) {
        if (scope->kind == SCOPE_NONE)
                return;
        cbor_put_int(w, label);
        if (scope->kind == SCOPE_TEXT)
                cbor_put_text(w, scope_bytes(scope));
        else if (scope->kind == SCOPE_AIF)
                aif_put(w, scope);
        else
                cbor_put_bytes(w, scope_bytes(scope));
}

int token_answer_encode(const struct grant *grant, struct bytes access_token, struct buf *out) {
        bool tell_scope = grant->scope_differs && grant->scope.kind != SCOPE_NONE;
        struct cbor_writer w = CBOR_WRITER(out);

        cbor_hold(&w, access_token.size + ACE_KEY_ROOM);
        cbor_put_map(&w, 3 + (size_t)tell_scope + (size_t)grant->tell_profile);
        cbor_put_uint(&w, ACE_ACCESS_TOKEN);
        cbor_put_bytes(&w, access_token);
        cbor_put_uint(&w, ACE_EXPIRES_IN);
        cbor_put_int(&w, grant->lifetime_s);
        /* RFC 9201 §3.2; a key that the client named is not sent a second time */
        cbor_put_uint(&w, ACE_CNF);
        ace_put_symmetric_cnf(&w, grant->key_number, grant->new_key ? secret_bytes(&grant->pop_key) : BYTES_NONE);
        if (tell_scope)
                ace_put_scope(&w, ACE_SCOPE, &grant->scope);
        if (grant->tell_profile) {
                cbor_put_uint(&w, ACE_PROFILE);
                cbor_put_uint(&w, grant->profile);
        }
        return cbor_end(&w);
}

int ace_error_encode(int error, const char *description, struct buf *out) {
        struct cbor_writer w = CBOR_WRITER(out);

        cbor_put_map(&w, description ? 2 : 1);
        cbor_put_uint(&w, ACE_ERROR);
        cbor_put_int(&w, error);
        if (description) {
                cbor_put_uint(&w, ACE_ERROR_DESCRIPTION);
                cbor_put_text(&w, bytes_text(description));
        }
        return cbor_end(&w);
}

static int put_inactive(struct cbor_writer *w) {
        cbor_put_map(w, 1);
        cbor_put_uint(w, INTRO_ACTIVE);
        cbor_put_bool(w, false);
        return cbor_end(w);
}

int introspect_answer_encode(const struct token *token, struct bytes issuer, struct buf *out) {
        struct cbor_writer w = CBOR_WRITER(out);
        uint8_t cti[NUMBER_SIZE_MAX];

        if (!token)
                return put_inactive(&w);
        cbor_hold(&w, issuer.size + ACE_KEY_ROOM);
        cbor_put_map(&w, 7 + (size_t)(token->scope.kind != SCOPE_NONE) + (size_t)(token->profile != 0));
        cbor_put_uint(&w, INTRO_ISS);
        cbor_put_text(&w, issuer);
        cbor_put_uint(&w, INTRO_AUD);
        cbor_put_text(&w, bytes_text(token->audience));
        cbor_put_uint(&w, INTRO_EXP);
        cbor_put_int(&w, token->expires_s);
        cbor_put_uint(&w, INTRO_IAT);
        cbor_put_int(&w, token->issued_s);
        cbor_put_uint(&w, INTRO_CTI);
        cbor_put_bytes(&w, bytes_of(cti, number_to_bytes(token->number, cti)));
        cbor_put_uint(&w, INTRO_CNF);
        ace_put_symmetric_cnf(&w, token->key_number, secret_bytes(&token->pop_key));
        ace_put_scope(&w, INTRO_SCOPE, &token->scope);
        cbor_put_uint(&w, INTRO_ACTIVE);
        cbor_put_bool(&w, true);
        if (token->profile != 0) {
                cbor_put_uint(&w, INTRO_PROFILE);
                cbor_put_uint(&w, token->profile);
        }
        return cbor_end(&w);
}
