#include "format/ace.h"

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/aif.h"
#include "format/cbor.h"
#include "format/cose.h"
#include "format/labels.h"
#include "format/oscore.h"

/* ---- requests */

struct token_message {
        struct cbor_item client_id, audience, scope, grant_type, req_cnf, profile, cnonce, refresh_token;
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
        { ACE_REFRESH_TOKEN, CBOR_BYTES, offsetof(struct token_message, refresh_token) },
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

static void read_kid(struct bytes kid, struct token_ask *ask) {
        if (!kid.data)
                return;
        ask->cnf = ASK_CNF_KID;
        ask->kid = kid;
}

static int read_cose_key(struct bytes raw, struct token_ask *ask) {
        struct cose_key key;
        int r = cose_key_decode(raw, &key);

        if (r != 0)
                return r;
        if (key.kty == KTY_SYMMETRIC && key.k.data) {
                ask->cnf = ASK_CNF_SYMMETRIC_VALUE;
        } else if (key.kty == KTY_SYMMETRIC) {
                read_kid(key.kid, ask); /* RFC 9202 §3.3.2 names a key in this way */
                ask->kid_in_key = ask->cnf == ASK_CNF_KID;
        } else if (key.is_bad || key.kid.size > CREDENTIAL_KID_MAX) {
                ask->cnf = ASK_CNF_BAD_KEY;
        } else if (key.public_key.curve == CURVE_NONE) {
                ask->cnf = ASK_CNF_UNSUPPORTED;
        } else {
                ask->cnf = ASK_CNF_PUBLIC;
                ask->kid = key.kid;
                ask->public_key = key.public_key;
        }
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
        if (cnf.kid.kind == CBOR_BYTES)
                read_kid(cnf.kid.content, ask);
        if (cnf.osc.kind == CBOR_MAP)
                ask->cnf = ASK_CNF_SYMMETRIC_VALUE; /* RFC 9203 §3.1: a client names material, by kid */
        return 0;
}

/* RFC 9200 §5.8.1: no grant type is client_credentials */
static enum ask_grant_type grant_type_of(const struct cbor_item *item) {
        if (item->kind == CBOR_ABSENT || item->argument == GRANT_CLIENT_CREDENTIALS)
                return ASK_CLIENT_CREDENTIALS;
        return item->argument == GRANT_REFRESH_TOKEN ? ASK_REFRESH_TOKEN : ASK_OTHER_GRANT;
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
        ask.grant_type = grant_type_of(&message.grant_type);
        ask.cnonce = message.cnonce.content;
        ask.refresh_token = message.refresh_token.content;
        if (ask.grant_type == ASK_REFRESH_TOKEN && !ask.refresh_token.data)
                return REFUSE_MISSING; /* RFC 6749 §6 */
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

void ace_put_kid_cnf(struct cbor_writer *w, uint64_t key_number) {
        uint8_t kid[NUMBER_SIZE_MAX];

        cbor_put_map(w, 1);
        cbor_put_uint(w, CNF_KID);
        cbor_put_bytes(w, bytes_of(kid, number_to_bytes(key_number, kid)));
}

void ace_put_osc(struct cbor_writer *w, const struct osc_input *input) {
        bool has_hkdf = input->hkdf != OSCORE_HKDF_SHA256, has_alg = input->alg != AEAD_AES_CCM_16_64_128;

        cbor_put_map(w, 2 + (size_t)has_hkdf + (size_t)has_alg + (size_t)(input->salt.size > 0) +
                                (size_t)(input->context_id.data != NULL));
        cbor_put_uint(w, OSC_ID);
        cbor_put_bytes(w, input->id);
        cbor_put_uint(w, OSC_MS);
        cbor_put_bytes(w, input->ms);
        if (has_hkdf) {
                cbor_put_uint(w, OSC_HKDF);
                cbor_put_int(w, oscore_hkdf_label(input->hkdf));
        }
        if (has_alg) {
                cbor_put_uint(w, OSC_ALG);
                cbor_put_int(w, cose_aead_label(input->alg));
        }
        if (input->salt.size > 0) {
                cbor_put_uint(w, OSC_SALT);
                cbor_put_bytes(w, input->salt);
        }
        if (input->context_id.data) {
                cbor_put_uint(w, OSC_CONTEXT_ID);
                cbor_put_bytes(w, input->context_id);
        }
}

void ace_put_osc_cnf(struct cbor_writer *w, uint64_t key_number, struct bytes ms, const struct osc *osc) {
        uint8_t id[NUMBER_SIZE_MAX];

        cbor_put_map(w, 1);
        cbor_put_uint(w, CNF_OSC);
        ace_put_osc(w, &(struct osc_input){
                .id = bytes_of(id, number_to_bytes(key_number, id)), .ms = ms, .alg = osc->alg, .hkdf = osc->hkdf,
                .salt = bytes_of(osc->salt, sizeof(osc->salt)),
                .context_id = bytes_of(osc->context_id, sizeof(osc->context_id)),
        });
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

void ace_put_public_cnf(struct cbor_writer *w, const struct public_key *key, struct bytes kid) {
        cbor_put_map(w, 1);
        cbor_put_uint(w, CNF_COSE_KEY);
        cose_put_key(w, key, kid);
}

/* A public key is the client's own, and an update of access rights (RFC 9203 §3.2): it is not told what it told us. */
static bool tells_cnf(const struct grant *grant) {
        return grant->public_key.curve == CURVE_NONE && !(grant->osc.alg != AEAD_NONE && grant->is_update);
}

/* RFC 9201 §3.2: a symmetric key that was made now, by value; one that the client has, by its name. */
static void put_answer_cnf(struct cbor_writer *w, const struct grant *grant) {
        bool is_osc = grant->osc.alg != AEAD_NONE;

        if (!tells_cnf(grant))
                return;
        cbor_put_uint(w, ACE_CNF);
        if (is_osc && grant->new_key)
                ace_put_osc_cnf(w, grant->key_number, secret_bytes(&grant->pop_key), &grant->osc);
        else if (is_osc)
                ace_put_kid_cnf(w, grant->key_number);
        else
                ace_put_symmetric_cnf(w, grant->key_number,
                                      grant->new_key ? secret_bytes(&grant->pop_key) : BYTES_NONE);
}

int token_answer_encode(const struct grant *grant, struct bytes access_token, struct buf *out) {
        bool tell_scope = grant->scope_differs && grant->scope.kind != SCOPE_NONE;
        bool tell_cnf = tells_cnf(grant), tell_refresh = grant->refresh_token.size > 0;
        struct cbor_writer w = CBOR_WRITER(out);

        cbor_hold(&w, access_token.size + ACE_KEY_ROOM);
        cbor_put_map(&w, 2 + (size_t)tell_cnf + (size_t)tell_scope + (size_t)tell_refresh +
                                 (size_t)grant->tell_profile + (size_t)grant->tell_server_key);
        cbor_put_uint(&w, ACE_ACCESS_TOKEN);
        cbor_put_bytes(&w, access_token);
        cbor_put_uint(&w, ACE_EXPIRES_IN);
        cbor_put_int(&w, grant->lifetime_s);
        put_answer_cnf(&w, grant);
        if (tell_scope)
                ace_put_scope(&w, ACE_SCOPE, &grant->scope);
        if (tell_refresh) {
                cbor_put_uint(&w, ACE_REFRESH_TOKEN);
                cbor_put_bytes(&w, secret_bytes(&grant->refresh_token));
        }
        if (grant->tell_profile) {
                cbor_put_uint(&w, ACE_PROFILE);
                cbor_put_uint(&w, grant->profile);
        }
        if (grant->tell_server_key) {
                cbor_put_uint(&w, ACE_RS_CNF);
                ace_put_public_cnf(&w, &grant->server_key, BYTES_NONE);
        }
        return cbor_end(&w);
}

#define REFRESH_NUMBER_SIZE 8

void refresh_token_write(uint64_t number, const uint8_t random[static REFRESH_RANDOM_SIZE], struct secret *ret) {
        for (size_t i = 0; i < REFRESH_NUMBER_SIZE; i++)
                ret->data[i] = (uint8_t)(number >> (8 * (REFRESH_NUMBER_SIZE - 1 - i)));
        memcpy(ret->data + REFRESH_NUMBER_SIZE, random, REFRESH_RANDOM_SIZE);
        ret->size = REFRESH_NUMBER_SIZE + REFRESH_RANDOM_SIZE;
}

int refresh_token_number(struct bytes token, uint64_t *ret_number) {
        uint64_t number = 0;

        if (token.size != REFRESH_NUMBER_SIZE + REFRESH_RANDOM_SIZE)
                return REFUSE_MALFORMED;
        for (size_t i = 0; i < REFRESH_NUMBER_SIZE; i++)
                number = number << 8 | token.data[i];
        *ret_number = number;
        return 0;
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

/* As many as are put below: iss, aud, exp or exi, iat, cti, cnf, active, and what not every token has. */
static size_t count_members(const struct token *token) {
        return 7 + (size_t)(token->nbf_s != 0) + (size_t)(token->scope.kind != SCOPE_NONE) +
               (size_t)(token->profile != 0) + (size_t)(token->cnonce_size > 0);
}

/* RFC 9200 §5.9.2: exi instead of exp, as in the token */
static void put_times(struct cbor_writer *w, const struct token *token) {
        if (token->exi == 0) {
                cbor_put_uint(w, INTRO_EXP);
                cbor_put_int(w, token->expires_s);
        }
        if (token->nbf_s != 0) {
                cbor_put_uint(w, INTRO_NBF);
                cbor_put_int(w, token->nbf_s);
        }
        cbor_put_uint(w, INTRO_IAT);
        cbor_put_int(w, token->issued_s);
}

static void put_cti(struct cbor_writer *w, const struct token *token) {
        uint8_t cti[EXI_CTI_SIZE_MAX];
        size_t size = token->exi != 0 ? exi_to_cti(token->server_id, token->exi, cti)
                                      : number_to_bytes(token->number, cti);

        cbor_put_uint(w, INTRO_CTI);
        cbor_put_bytes(w, bytes_of(cti, size));
}

static void put_token_cnf(struct cbor_writer *w, const struct token *token) {
        cbor_put_uint(w, INTRO_CNF);
        if (token->public_key.curve != CURVE_NONE)
                ace_put_public_cnf(w, &token->public_key,
                                   token->kid_size > 0 ? bytes_of(token->kid, token->kid_size) : BYTES_NONE);
        else if (token->osc.alg == AEAD_NONE)
                ace_put_symmetric_cnf(w, token->key_number, secret_bytes(&token->pop_key));
        else if (token->names_osc || token->pop_key.size == 0)
                ace_put_kid_cnf(w, token->key_number);
        else
                ace_put_osc_cnf(w, token->key_number, secret_bytes(&token->pop_key), &token->osc);
}

static void put_rest(struct cbor_writer *w, const struct token *token) {
        ace_put_scope(w, INTRO_SCOPE, &token->scope);
        cbor_put_uint(w, INTRO_ACTIVE);
        cbor_put_bool(w, true);
        if (token->profile != 0) {
                cbor_put_uint(w, INTRO_PROFILE);
                cbor_put_uint(w, token->profile);
        }
        if (token->cnonce_size > 0) {
                cbor_put_uint(w, INTRO_CNONCE);
                cbor_put_bytes(w, bytes_of(token->cnonce, token->cnonce_size));
        }
        if (token->exi != 0) {
                cbor_put_uint(w, INTRO_EXI);
                cbor_put_int(w, token->expires_s - token->issued_s);
        }
}

int introspect_answer_encode(const struct token *token, struct bytes issuer, struct buf *out) {
        struct cbor_writer w = CBOR_WRITER(out);

        if (!token)
                return put_inactive(&w);
        cbor_hold(&w, issuer.size + ACE_KEY_ROOM);
        cbor_put_map(&w, count_members(token));
        cbor_put_uint(&w, INTRO_ISS);
        cbor_put_text(&w, issuer);
        cbor_put_uint(&w, INTRO_AUD);
        cbor_put_text(&w, bytes_text(token->audience));
        put_times(&w, token);
        put_cti(&w, token);
        put_token_cnf(&w, token);
        put_rest(&w, token);
        return cbor_end(&w);
}
