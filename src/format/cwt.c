#include "format/cwt.h"

#include <errno.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "domain/grant.h"
#include "domain/refusal.h"
#include "format/ace.h"
#include "format/cbor.h"
#include "format/cose.h"
#include "format/labels.h"

#define KEY_MESSAGE_SIZE_MAX (SECRET_SIZE_MAX + 32) /* a symmetric COSE_Key */
#define ENCRYPTED_KEY_OVERHEAD 96                   /* COSE_Encrypt0 around it */
#define PUBLIC_KEY_ROOM (2 * COORDINATE_SIZE_MAX + CREDENTIAL_KID_MAX + 32)
#define OPAQUE_SIZE (sizeof(uint64_t) + OPAQUE_RANDOM_SIZE)
#define DERIVATION_LABEL "ACE-CoAP-DTLS-key-derivation"
#define TRL_HASH_SHA256 0x01 /* of the named information hash algorithms, as RFC 9770 §4 writes them */
#define BASE64_LINE_MAX(size) (((size) + 2) / 3 * 4)

/* ---- claims */

static void put_cti(struct cbor_writer *w, const struct grant *grant) {
        uint8_t cti[EXI_CTI_SIZE_MAX];
        size_t size = grant->has_exi ? exi_to_cti(grant->server_id, grant->exi, cti)
                                     : number_to_bytes(grant->number, cti);

        cbor_put_uint(w, CLAIM_CTI);
        cbor_put_bytes(w, bytes_of(cti, size));
}

static bool is_readable(const struct cwt_protection *protection) {
        return protection && (protection->format == TOKEN_FORMAT_MAC0 || protection->format == TOKEN_FORMAT_SIGN1);
}

/* RFC 8747 §3.3: { 2: COSE_Encrypt0 of a COSE_Key } where everybody can read the claims (AS-063) */
static void put_encrypted_key(struct cbor_writer *w, const struct grant *grant,
                              const struct cwt_protection *protection) {
        _cleanup_(buf_wiped) struct buf plain = BUF_INIT(KEY_MESSAGE_SIZE_MAX);
        _cleanup_(buf_done) struct buf object = BUF_INIT(KEY_MESSAGE_SIZE_MAX + ENCRYPTED_KEY_OVERHEAD);
        const struct cose_encrypting how = { .aead = protection->kept, .alg = protection->aead,
                                             .key = protection->wrap_key, .kid = protection->wrap_kid,
                                             .nonce = protection->nonce };
        struct cbor_writer key = CBOR_WRITER(&plain);
        int r;

        cbor_hold(&key, KEY_MESSAGE_SIZE_MAX);
        ace_put_symmetric_key(&key, grant->key_number, secret_bytes(&grant->pop_key));
        if ((r = cbor_end(&key)) != 0 ||
            (r = cose_encrypt0_with(&how, buf_bytes(&plain), &object)) != 0) {
                w->failed = w->failed ? w->failed : r;
                return;
        }
        cbor_put_map(w, 1);
        cbor_put_uint(w, CNF_ENCRYPTED_COSE_KEY);
        cbor_put_raw(w, buf_bytes(&object));
}

/*
 * RFC 9203 §3.2: the material, or, in an update of access rights, its id: the server has a security context made of it,
 * which goes on. Nobody else may read the material, and no encrypted form of it is defined.
 */
static void put_osc(struct cbor_writer *w, const struct grant *grant, const struct cwt_protection *protection) {
        if (grant->is_update)
                ace_put_kid_cnf(w, grant->key_number);
        else if (is_readable(protection))
                w->failed = w->failed ? w->failed : -EINVAL;
        else
                ace_put_osc_cnf(w, grant->key_number, secret_bytes(&grant->pop_key), &grant->osc);
}

/*
 * One key (AS-062). A symmetric one by value also when the client named one that it has (RFC 9202 §4): the server may
 * not have got, or may have lost, the token that brought it. The kid tells a server that knows it already.
 */
static void put_cnf(struct cbor_writer *w, const struct grant *grant, const struct cwt_protection *protection) {
        cbor_put_uint(w, CLAIM_CNF);
        if (grant->public_key.curve != CURVE_NONE) {
                cbor_put_map(w, 1);
                cbor_put_uint(w, CNF_COSE_KEY);
                cose_put_key(w, &grant->public_key,
                             grant->kid_size > 0 ? bytes_of(grant->kid, grant->kid_size) : BYTES_NONE);
        } else if (grant->osc.alg != AEAD_NONE) {
                put_osc(w, grant, protection);
        } else if (grant->derives_key || (is_readable(protection) && !protection->wrap_key.data)) {
                ace_put_symmetric_cnf(w, grant->key_number, BYTES_NONE);
        } else if (is_readable(protection)) {
                put_encrypted_key(w, grant, protection);
        } else {
                ace_put_symmetric_cnf(w, grant->key_number, secret_bytes(&grant->pop_key));
        }
}

/* The pair of one integer claim, unless it is none. */
static void put_time(struct cbor_writer *w, bool is_there, int label, int64_t value) {
        if (!is_there)
                return;
        /* RFC 8392 §2: seconds without the epoch tag */
        cbor_put_uint(w, (uint64_t)label);
        cbor_put_int(w, value);
}

int cwt_claims_encode(const struct grant *grant, struct bytes issuer, const struct cwt_protection *protection,
                      struct buf *claims) {
        struct cbor_writer w = CBOR_WRITER(claims);

        cbor_hold(&w, issuer.size + ACE_KEY_ROOM + PUBLIC_KEY_ROOM);
        cbor_put_map(&w, 6 + (size_t)(grant->nbf_s != 0) + (grant->scope.kind != SCOPE_NONE) +
                                 (grant->cnonce_size > 0));
        cbor_put_uint(&w, CLAIM_ISS);
        cbor_put_text(&w, issuer);
        cbor_put_uint(&w, CLAIM_AUD);
        cbor_put_text(&w, bytes_text(grant->audience));
        put_time(&w, !grant->has_exi, CLAIM_EXP, grant->expires_s);
        put_time(&w, grant->nbf_s != 0, CLAIM_NBF, grant->nbf_s);
        put_time(&w, true, CLAIM_IAT, grant->issued_s);
        put_cti(&w, grant);
        put_cnf(&w, grant, protection);
        ace_put_scope(&w, CLAIM_SCOPE, &grant->scope);
        if (grant->cnonce_size > 0) {
                cbor_put_uint(&w, CLAIM_CNONCE);
                cbor_put_bytes(&w, bytes_of(grant->cnonce, grant->cnonce_size));
        }
        put_time(&w, grant->has_exi, CLAIM_EXI, grant->lifetime_s);
        return cbor_end(&w);
}

/* ---- protection */

static int put_sign1(const struct cwt_protection *p, struct bytes claims, bool tagged, struct buf *out) {
        return p->signer ? cose_sign1(p->signer, p->signer_kid, p->all_protected, claims, tagged, out) : -EINVAL;
}

static int put_encrypt0(const struct cwt_protection *p, struct bytes plain, bool tagged, struct buf *out) {
        const struct cose_encrypting how = { .aead = p->kept, .alg = p->aead, .key = p->key, .kid = p->kid,
                                             .nonce = p->nonce, .tagged = tagged, .all_protected = p->all_protected };

        return cose_encrypt0_with(&how, plain, out);
}

static int put_nested(const struct cwt_protection *p, struct bytes claims, bool tagged, struct buf *out) {
        _cleanup_(buf_wiped) struct buf signed_claims = BUF_INIT(CWT_SIZE_MAX);
        int r = put_sign1(p, claims, true, &signed_claims);

        return r != 0 ? r : put_encrypt0(p, buf_bytes(&signed_claims), tagged, out);
}

static int put_object(const struct cwt_protection *p, struct bytes claims, bool tagged, struct buf *out) {
        switch (p->format) {
        case TOKEN_FORMAT_ENCRYPT0:
                return put_encrypt0(p, claims, tagged, out);
        case TOKEN_FORMAT_MAC0:
                return cose_mac0(p->mac, p->key, p->kid, p->all_protected, claims, tagged, out);
        case TOKEN_FORMAT_SIGN1:
                return put_sign1(p, claims, tagged, out);
        case TOKEN_FORMAT_SIGN_ENCRYPT:
                return put_nested(p, claims, tagged, out);
        case TOKEN_FORMAT_OPAQUE:
                break;
        }
        return -EINVAL;
}

int cwt_protect(const struct cwt_protection *protection, struct bytes claims, struct buf *token) {
        bool tagged = protection->tagged || protection->all_protected;
        struct cbor_writer w = CBOR_WRITER(token);
        size_t before = token->size;
        int r;

        if (tagged)
                cbor_put_tag(&w, TAG_CWT);
        r = cbor_end(&w);
        if (r == 0)
                r = put_object(protection, claims, tagged, token);
        if (r != 0)
                token->size = before;
        return r;
}

int cwt_derive_key(struct bytes derivation_key, struct bytes token, size_t size, struct secret *ret) {
        _cleanup_(buf_done) struct buf info = BUF_INIT(token.size + sizeof(DERIVATION_LABEL) + 32);
        struct cbor_writer w = CBOR_WRITER(&info);
        int r;

        if (size == 0 || size > SECRET_SIZE_MAX)
                return -EINVAL;
        cbor_put_array(&w, 3);
        cbor_put_text(&w, BYTES_LITERAL(DERIVATION_LABEL));
        cbor_put_uint(&w, size);
        cbor_put_bytes(&w, token);
        if ((r = cbor_end(&w)) != 0 ||
            (r = hkdf_sha256(BYTES_NONE, derivation_key, buf_bytes(&info), ret->data, size)) != 0)
                return r;
        ret->size = size;
        return 0;
}

int cwt_opaque(uint64_t number, const uint8_t random[static OPAQUE_RANDOM_SIZE], struct buf *token) {
        uint8_t bytes[OPAQUE_SIZE];

        for (size_t i = 0; i < sizeof(number); i++)
                bytes[i] = (uint8_t)(number >> (8 * (sizeof(number) - 1 - i)));
        memcpy(bytes + sizeof(number), random, OPAQUE_RANDOM_SIZE);
        return buf_add(token, bytes_of(bytes, sizeof(bytes)));
}

/* ---- what a token is known by */

static bool is_cose_tag(const struct cbor_item *item) {
        return item->kind == CBOR_TAG && (item->argument == TAG_COSE_ENCRYPT0 || item->argument == TAG_COSE_MAC0 ||
                                          item->argument == TAG_COSE_SIGN1);
}

struct bytes cwt_core(struct bytes token) {
        struct bytes core = token;
        struct cbor_item item;

        if (cbor_item(core, &item) != 0)
                return token;
        if (item.kind == CBOR_TAG && item.argument == TAG_CWT) {
                core = item.content;
                if (cbor_item(core, &item) != 0)
                        return token;
        }
        return is_cose_tag(&item) ? item.content : core;
}

/* Big-endian */
static uint64_t number_of(const uint8_t *bytes) {
        uint64_t number = 0;

        for (size_t i = 0; i < sizeof(number); i++)
                number = number << 8 | bytes[i];
        return number;
}

/* The zero byte that a number of ours begins with is a whole item of CBOR, so that no CWT looks like this. */
static bool is_opaque(struct bytes token) {
        return token.size == OPAQUE_SIZE && token.data[0] == 0;
}

struct place_claims {
        struct cbor_item cti;
};

static int place_of_claims(struct bytes claims, struct cwt_place *ret) {
        static const struct cbor_field fields[] = { { CLAIM_CTI, CBOR_BYTES, offsetof(struct place_claims, cti) } };
        struct cwt_place place = {};
        struct place_claims found;

        if (cbor_map(claims, fields, N_ELEMENTS(fields), &found) != 0 || found.cti.kind != CBOR_BYTES)
                return REFUSE_MALFORMED;
        if (exi_from_cti(found.cti.content, &place.server_id, &place.exi) == 0)
                place.by_exi = true;
        else if (number_from_bytes(found.cti.content, &place.number) != 0)
                return REFUSE_MALFORMED;
        *ret = place;
        return 0;
}

int cwt_find_place(struct bytes token, struct cwt_place *ret) {
        struct bytes core = cwt_core(token);
        struct cose_encrypt0_parts encrypted;
        struct cose_signed_parts parts;

        if (is_opaque(token)) {
                *ret = (struct cwt_place){ .number = number_of(token.data) };
                return 0;
        }
        if (cose_encrypt0_parse(core, &encrypted) == 0) {
                if (encrypted.nonce.size < sizeof(ret->number))
                        return REFUSE_MALFORMED;
                *ret = (struct cwt_place){
                        .number = number_of(encrypted.nonce.data + encrypted.nonce.size - sizeof(ret->number)),
                };
                return 0;
        }
        /* without tags MAC0 and SIGN1 look alike */
        return cose_mac0_parse(core, &parts) == 0 ? place_of_claims(parts.payload, ret) : REFUSE_MALFORMED;
}

int cwt_hash(struct bytes token, uint8_t ret[static TOKEN_HASH_SIZE]) {
        return sha256(cwt_core(token), ret);
}

/* RFC 4648 §5, without padding. text has BASE64_LINE_MAX(bytes.size) bytes. Returns how many of them. */
static size_t put_base64url(struct bytes bytes, uint8_t *text) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        uint32_t bits = 0;
        unsigned n_bits = 0;
        size_t size = 0;

        for (size_t i = 0; i < bytes.size; i++) {
                bits = bits << 8 | bytes.data[i];
                for (n_bits += 8; n_bits >= 6; n_bits -= 6)
                        text[size++] = (uint8_t)digits[bits >> (n_bits - 6) & 0x3f];
        }
        if (n_bits > 0)
                text[size++] = (uint8_t)digits[bits << (6 - n_bits) & 0x3f];
        return size;
}

int cwt_trl_hash(struct bytes token, uint8_t ret[static 1 + TOKEN_HASH_SIZE]) {
        _cleanup_(freep) uint8_t *text = malloc(BASE64_LINE_MAX(token.size) + 1);

        if (!text)
                return -ENOMEM;
        ret[0] = TRL_HASH_SHA256;
        return sha256(bytes_of(text, put_base64url(token, text)), ret + 1);
}
