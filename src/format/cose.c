#include "format/cose.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "domain/refusal.h"
#include "format/cbor.h"
#include "format/labels.h"

#define CONTEXT_ENCRYPT0 "Encrypt0"
#define CONTEXT_MAC0 "MAC0"
#define CONTEXT_SIGN1 "Signature1"
#define PROTECTED_SIZE_MAX 32   /* what we write beside a kid: { 1: alg, 4: kid, 5: nonce } */
#define STRUCTURE_OVERHEAD 48   /* what stands around protected header and payload where they are authenticated */
#define KEY_OPS_MAX 16           /* of a key; there are ten */
#define OBJECT_OVERHEAD 64      /* tag, heads of array and strings, unprotected header but for the kid, proof */

/* The number that COSE has for one of our algorithms. */
struct alg_row {
        int alg, label;
};

static const struct alg_row aead_labels[] = {
        { AEAD_AES_CCM_16_64_128, COSE_AES_CCM_16_64_128 },
        { AEAD_AES_CCM_16_128_128, COSE_AES_CCM_16_128_128 },
        { AEAD_A128GCM, COSE_A128GCM },
        { AEAD_A256GCM, COSE_A256GCM },
        { AEAD_CHACHA20_POLY1305, COSE_CHACHA20_POLY1305 },
};

static const struct alg_row mac_labels[] = {
        { MAC_HMAC_256_64, COSE_HMAC_256_64 },
        { MAC_HMAC_256_256, COSE_HMAC_256_256 },
};

static const struct alg_row sign_labels[] = {
        { SIGN_ES256, COSE_ES256 },
        { SIGN_ES384, COSE_ES384 },
        { SIGN_EDDSA, COSE_EDDSA },
};

static int alg_of(const struct alg_row *rows, size_t n_rows, int64_t label) {
        for (size_t i = 0; i < n_rows; i++)
                if (rows[i].label == label)
                        return rows[i].alg;
        return 0;
}

static int label_of(const struct alg_row *rows, size_t n_rows, int alg) {
        for (size_t i = 0; i < n_rows; i++)
                if (rows[i].alg == alg)
                        return rows[i].label;
        return 0;
}

enum aead_alg cose_aead_from_label(int64_t label) {
        return (enum aead_alg)alg_of(aead_labels, N_ELEMENTS(aead_labels), label);
}

int cose_aead_label(enum aead_alg alg) {
        return label_of(aead_labels, N_ELEMENTS(aead_labels), (int)alg);
}

enum mac_alg cose_mac_from_label(int64_t label) {
        return (enum mac_alg)alg_of(mac_labels, N_ELEMENTS(mac_labels), label);
}

int cose_mac_label(enum mac_alg alg) {
        return label_of(mac_labels, N_ELEMENTS(mac_labels), (int)alg);
}

enum sign_alg cose_sign_from_label(int64_t label) {
        return (enum sign_alg)alg_of(sign_labels, N_ELEMENTS(sign_labels), label);
}

int cose_sign_label(enum sign_alg alg) {
        return label_of(sign_labels, N_ELEMENTS(sign_labels), (int)alg);
}

/* ---- writing */

/* An object on its way out: what its headers say, and in which of the two buckets the names stand. */
struct writing {
        int tag, alg;             /* COSE's numbers */
        bool is_tagged, all_protected;
        struct bytes kid, nonce;  /* data NULL: none */
        size_t n_items;           /* of the array */
};

/*
 * RFC 9052 §4.4, §5.3, §6.3: what is authenticated, with no data from outside; of Encrypt0 the payload is not in it
 * (data NULL).
 */
static int put_structure(struct bytes context, struct bytes protected_header, struct bytes payload, struct buf *out) {
        struct cbor_writer w = CBOR_WRITER(out);

        cbor_hold(&w, out->limit); /* at once: the payload may have a key in it */
        cbor_put_array(&w, payload.data ? 4 : 3);
        cbor_put_text(&w, context);
        cbor_put_bytes(&w, protected_header);
        cbor_put_bytes(&w, BYTES_NONE);
        if (payload.data)
                cbor_put_bytes(&w, payload);
        return cbor_end(&w);
}

/* alg 0: not here */
static void put_header(struct cbor_writer *w, int alg, struct bytes kid, struct bytes nonce) {
        cbor_put_map(w, (size_t)(alg != 0) + (kid.data != NULL) + (nonce.data != NULL));
        if (alg != 0) {
                cbor_put_uint(w, HEADER_ALG);
                cbor_put_int(w, alg);
        }
        if (kid.data) {
                cbor_put_uint(w, HEADER_KID);
                cbor_put_bytes(w, kid);
        }
        if (nonce.data) {
                cbor_put_uint(w, HEADER_IV);
                cbor_put_bytes(w, nonce);
        }
}

static int put_protected(const struct writing *writing, struct buf *out) {
        struct cbor_writer w = CBOR_WRITER(out);
        bool all = writing->all_protected;

        put_header(&w, writing->alg, all ? writing->kid : BYTES_NONE, all ? writing->nonce : BYTES_NONE);
        return cbor_end(&w);
}

/* Tag, array, both headers; room for payload_size bytes and the proof to follow without growing. */
static int put_begin(const struct writing *writing, struct bytes protected_header, size_t payload_size,
                     struct buf *out) {
        struct cbor_writer w = CBOR_WRITER(out);

        cbor_hold(&w, OBJECT_OVERHEAD + SIGNATURE_SIZE_MAX + protected_header.size + writing->kid.size + payload_size);
        if (writing->is_tagged)
                cbor_put_tag(&w, (uint64_t)writing->tag);
        cbor_put_array(&w, writing->n_items);
        cbor_put_bytes(&w, protected_header);
        if (writing->all_protected)
                cbor_put_map(&w, 0);
        else
                put_header(&w, 0, writing->kid, writing->nonce);
        return cbor_end(&w);
}

static int put_cipher(const struct cose_encrypting *how, struct bytes aad, struct bytes plain, struct buf *out) {
        size_t size = plain.size + aead_info(how->alg)->tag_size;
        struct cbor_writer w = CBOR_WRITER(out);
        uint8_t *space;
        int r;

        cbor_put_bytes_head(&w, size);
        r = cbor_end(&w);
        if (r == 0)
                r = buf_reserve(out, size, &space);
        if (r == 0)
                r = aead_seal_with(how->aead, how->alg, how->key, how->nonce, aad, plain, space);
        if (r == 0)
                buf_added(out, size);
        return r;
}

int cose_encrypt0_with(const struct cose_encrypting *how, struct bytes plain, struct buf *out) {
        const struct writing writing = { .tag = TAG_COSE_ENCRYPT0, .is_tagged = how->tagged, .n_items = 3,
                                         .alg = cose_aead_label(how->alg), .kid = how->kid, .nonce = how->nonce,
                                         .all_protected = how->all_protected };
        size_t header_max = PROTECTED_SIZE_MAX + how->kid.size, before = out->size;
        _cleanup_(buf_done) struct buf protected_header = BUF_INIT(header_max);
        _cleanup_(buf_done) struct buf aad = BUF_INIT(header_max + STRUCTURE_OVERHEAD);
        const struct aead_info *info = aead_info(how->alg);
        int r;

        if (!info || how->key.size != info->key_size || how->nonce.size != info->nonce_size)
                return -EINVAL;
        if ((r = put_protected(&writing, &protected_header)) != 0 ||
            (r = put_structure(BYTES_LITERAL(CONTEXT_ENCRYPT0), buf_bytes(&protected_header), BYTES_NONE, &aad)) != 0 ||
            (r = put_begin(&writing, buf_bytes(&protected_header), plain.size, out)) != 0 ||
            (r = put_cipher(how, buf_bytes(&aad), plain, out)) != 0)
                out->size = before; /* no half object stays */
        return r;
}

int cose_encrypt0(enum aead_alg alg, struct bytes key, struct bytes kid, struct bytes nonce, struct bytes plain,
                  bool tagged, struct buf *out) {
        return cose_encrypt0_with(&(struct cose_encrypting){ .alg = alg, .key = key, .kid = kid, .nonce = nonce,
                                                             .tagged = tagged }, plain, out);
}

/* Who vouches for a payload: a key that MACs (signer NULL), or one that signs. */
struct prover {
        enum mac_alg alg;
        struct bytes key;
        struct sign_key *signer;
};

static int prove(const struct prover *prover, struct bytes structure, uint8_t ret[static SIGNATURE_SIZE_MAX],
                 size_t *ret_size) {
        if (prover->signer) {
                *ret_size = sign_size(sign_key_alg(prover->signer));
                return sign(prover->signer, structure, ret);
        }
        *ret_size = mac_size(prover->alg);
        return mac(prover->alg, prover->key, structure, ret);
}

static int put_payload_and_proof(struct bytes payload, struct bytes proof, struct buf *out) {
        struct cbor_writer w = CBOR_WRITER(out);

        cbor_put_bytes(&w, payload);
        cbor_put_bytes(&w, proof);
        return cbor_end(&w);
}

static int put_proven(const struct prover *prover, const struct writing *writing, struct bytes payload,
                      struct buf *out) {
        struct bytes context = prover->signer ? BYTES_LITERAL(CONTEXT_SIGN1) : BYTES_LITERAL(CONTEXT_MAC0);
        size_t header_max = PROTECTED_SIZE_MAX + writing->kid.size, before = out->size, proof_size;
        _cleanup_(buf_done) struct buf protected_header = BUF_INIT(header_max);
        _cleanup_(buf_wiped) struct buf structure = BUF_INIT(header_max + STRUCTURE_OVERHEAD + payload.size);
        uint8_t proof[SIGNATURE_SIZE_MAX];
        int r;

        if (!payload.data)
                payload.data = (const uint8_t *)""; /* an empty one is there nonetheless */
        if ((r = put_protected(writing, &protected_header)) != 0 ||
            (r = put_structure(context, buf_bytes(&protected_header), payload, &structure)) != 0 ||
            (r = prove(prover, buf_bytes(&structure), proof, &proof_size)) != 0 ||
            (r = put_begin(writing, buf_bytes(&protected_header), payload.size, out)) != 0 ||
            (r = put_payload_and_proof(payload, bytes_of(proof, proof_size), out)) != 0)
                out->size = before;
        return r;
}

int cose_mac0(enum mac_alg alg, struct bytes key, struct bytes kid, bool all_protected, struct bytes payload,
              bool tagged, struct buf *out) {
        if (mac_size(alg) == 0)
                return -EINVAL;
        return put_proven(&(struct prover){ .alg = alg, .key = key },
                          &(struct writing){ .tag = TAG_COSE_MAC0, .is_tagged = tagged, .n_items = 4, .kid = kid,
                                             .alg = cose_mac_label(alg), .all_protected = all_protected },
                          payload, out);
}

int cose_sign1(struct sign_key *key, struct bytes kid, bool all_protected, struct bytes payload, bool tagged,
               struct buf *out) {
        return put_proven(&(struct prover){ .signer = key },
                          &(struct writing){ .tag = TAG_COSE_SIGN1, .is_tagged = tagged, .n_items = 4, .kid = kid,
                                             .alg = cose_sign_label(sign_key_alg(key)),
                                             .all_protected = all_protected },
                          payload, out);
}

/* ---- reading */

/* The header parameters that we read, of one bucket. */
struct headers {
        struct cbor_item alg, crit, kid, iv, partial_iv;
};

static const struct cbor_field header_fields[] = {
        { HEADER_ALG, CBOR_INT, offsetof(struct headers, alg) },
        { HEADER_CRIT, CBOR_ARRAY, offsetof(struct headers, crit) },
        { HEADER_KID, CBOR_BYTES, offsetof(struct headers, kid) },
        { HEADER_IV, CBOR_BYTES, offsetof(struct headers, iv) },
        { HEADER_PARTIAL_IV, CBOR_BYTES, offsetof(struct headers, partial_iv) },
};

/* RFC 9052 §3: an empty protected bucket is a byte string of size zero, or one that holds an empty map */
static int read_headers(struct bytes map, struct headers *ret) {
        *ret = (struct headers){};
        return map.size == 0 ? 0 : cbor_map(map, header_fields, N_ELEMENTS(header_fields), ret);
}

/* The one of two that is there; in both buckets is no more allowed than twice in one (RFC 9052 §3) */
static int merge_header(struct cbor_item *protected_item, const struct cbor_item *unprotected_item) {
        if (unprotected_item->kind == CBOR_ABSENT)
                return 0;
        if (protected_item->kind != CBOR_ABSENT)
                return REFUSE_MALFORMED;
        *protected_item = *unprotected_item;
        return 0;
}

/* Both buckets as one set; the algorithm stands in the protected one only. */
static int read_buckets(struct bytes protected_map, struct bytes unprotected_map, struct headers *ret) {
        struct headers unprotected;
        int r;

        if ((r = read_headers(protected_map, ret)) != 0 || (r = read_headers(unprotected_map, &unprotected)) != 0 ||
            (r = merge_header(&ret->kid, &unprotected.kid)) != 0 ||
            (r = merge_header(&ret->iv, &unprotected.iv)) != 0 ||
            (r = merge_header(&ret->partial_iv, &unprotected.partial_iv)) != 0)
                return r;
        if (unprotected.alg.kind != CBOR_ABSENT || unprotected.crit.kind != CBOR_ABSENT)
                return REFUSE_WRONG_TYPE;
        return 0;
}

/*
 * The number of the algorithm. A Partial IV needs a Base IV, which our keys have none of; crit needs all of its labels
 * to be understood.
 */
static int read_alg(const struct headers *headers, int64_t *ret_label) {
        if (headers->crit.kind != CBOR_ABSENT || headers->partial_iv.kind != CBOR_ABSENT ||
            !cbor_item_int(&headers->alg, ret_label))
                return REFUSE_WRONG_TYPE;
        return 0;
}

/* An object's array of n items, tagged or not: the first two are its headers, all but the second byte strings. */
static int read_object(struct bytes object, unsigned tag, struct cbor_item *items, size_t n_items,
                       struct headers *headers) {
        struct cbor_item item;
        size_t n;
        int r;

        r = cbor_item(object, &item);
        if (r != 0)
                return r;
        if (item.kind == CBOR_TAG && item.argument != tag)
                return REFUSE_WRONG_TYPE;
        r = cbor_array(item.kind == CBOR_TAG ? item.content : object, items, n_items, &n);
        if (r != 0)
                return r;
        /* RFC 9052 §4.2, §5.2, §6.2; a detached content (null) is not for us */
        for (size_t i = 0; i < n_items; i++)
                if (n != n_items || items[i].kind != (i == 1 ? CBOR_MAP : CBOR_BYTES))
                        return REFUSE_WRONG_TYPE;
        return read_buckets(items[0].content, items[1].raw, headers);
}

int cose_encrypt0_parse(struct bytes object, struct cose_encrypt0_parts *ret) {
        const struct aead_info *info;
        struct cbor_item items[3];
        struct headers headers;
        int64_t label;
        int r;

        if ((r = read_object(object, TAG_COSE_ENCRYPT0, items, N_ELEMENTS(items), &headers)) != 0 ||
            (r = read_alg(&headers, &label)) != 0)
                return r;
        info = aead_info(cose_aead_from_label(label));
        if (!info)
                return REFUSE_WRONG_TYPE;
        if (headers.iv.content.size != info->nonce_size || items[2].content.size < info->tag_size)
                return REFUSE_MALFORMED;
        *ret = (struct cose_encrypt0_parts){
                .alg = cose_aead_from_label(label),
                .protected_header = items[0].content,
                .kid = headers.kid.content,
                .nonce = headers.iv.content,
                .cipher = items[2].content,
        };
        return 0;
}

int cose_encrypt0_open(struct bytes object, struct bytes key, struct buf *plain) {
        _cleanup_(buf_done) struct buf aad = {};
        struct cose_encrypt0_parts parts;
        uint8_t *space;
        size_t size;
        int r;

        r = cose_encrypt0_parse(object, &parts);
        if (r != 0)
                return r;
        aad = BUF_INIT(parts.protected_header.size + STRUCTURE_OVERHEAD);
        size = parts.cipher.size - aead_info(parts.alg)->tag_size;
        if ((r = put_structure(BYTES_LITERAL(CONTEXT_ENCRYPT0), parts.protected_header, BYTES_NONE, &aad)) != 0 ||
            (r = buf_reserve(plain, size, &space)) != 0)
                return r;
        r = aead_open(parts.alg, key, parts.nonce, buf_bytes(&aad), parts.cipher, space);
        if (r == 0)
                buf_added(plain, size);
        /* -EINVAL: a key that is none for the algorithm that the object names */
        return r == -EBADMSG || r == -EINVAL ? REFUSE_MALFORMED : r;
}

static int signed_parse(struct bytes object, unsigned tag, struct cose_signed_parts *ret) {
        struct cbor_item items[4];
        struct headers headers;
        int64_t label;
        int r;

        if ((r = read_object(object, tag, items, N_ELEMENTS(items), &headers)) != 0 ||
            (r = read_alg(&headers, &label)) != 0)
                return r;
        *ret = (struct cose_signed_parts){
                .alg = label,
                .protected_header = items[0].content,
                .kid = headers.kid.content,
                .payload = items[2].content,
                .proof = items[3].content,
        };
        return 0;
}

int cose_mac0_parse(struct bytes object, struct cose_signed_parts *ret) {
        return signed_parse(object, TAG_COSE_MAC0, ret);
}

int cose_sign1_parse(struct bytes object, struct cose_signed_parts *ret) {
        return signed_parse(object, TAG_COSE_SIGN1, ret);
}

static int signed_structure(struct bytes context, const struct cose_signed_parts *parts, struct buf *structure) {
        struct bytes payload = parts->payload.data ? parts->payload : BYTES_LITERAL("");

        *structure = BUF_INIT(parts->protected_header.size + payload.size + STRUCTURE_OVERHEAD);
        return put_structure(context, parts->protected_header, payload, structure);
}

int cose_mac0_open(struct bytes object, struct bytes key, struct bytes *ret_payload) {
        _cleanup_(buf_wiped) struct buf structure = {};
        struct cose_signed_parts parts;
        uint8_t tag[MAC_SIZE_MAX];
        enum mac_alg alg;
        int r;

        r = cose_mac0_parse(object, &parts);
        if (r != 0)
                return r;
        alg = cose_mac_from_label(parts.alg);
        if (alg == MAC_NONE || key.size != MAC_KEY_SIZE)
                return REFUSE_MALFORMED;
        if ((r = signed_structure(BYTES_LITERAL(CONTEXT_MAC0), &parts, &structure)) != 0 ||
            (r = mac(alg, key, buf_bytes(&structure), tag)) != 0)
                return r;
        if (!bytes_equal_ct(parts.proof, bytes_of(tag, mac_size(alg))))
                return REFUSE_MALFORMED;
        *ret_payload = parts.payload;
        return 0;
}

int cose_sign1_open(struct bytes object, const struct public_key *key, struct bytes *ret_payload) {
        _cleanup_(buf_wiped) struct buf structure = {};
        struct cose_signed_parts parts;
        int r;

        r = cose_sign1_parse(object, &parts);
        if (r != 0)
                return r;
        if ((r = signed_structure(BYTES_LITERAL(CONTEXT_SIGN1), &parts, &structure)) != 0)
                return r;
        /* -EINVAL: a key that is none for the algorithm that the object names, or none at all */
        r = sign_verify(cose_sign_from_label(parts.alg), key, buf_bytes(&structure), parts.proof);
        if (r == -EBADMSG || r == -EINVAL)
                return REFUSE_MALFORMED;
        if (r == 0)
                *ret_payload = parts.payload;
        return r;
}

/* ---- keys */

/* Elliptic curves of COSE (RFC 9053 §7.1) and what a key on them is for. */
static const struct key_row {
        enum curve curve;
        int kty, crv;
        int algs[2];    /* that a key may be bound to; 0: none */
        bool agrees;    /* key agreement, else signatures */
} key_rows[] = {
        { CURVE_P256, KTY_EC2, CRV_P256, { COSE_ES256, COSE_ESP256 }, false },
        { CURVE_P384, KTY_EC2, CRV_P384, { COSE_ES384, COSE_ESP384 }, false },
        { CURVE_ED25519, KTY_OKP, CRV_ED25519, { COSE_EDDSA, COSE_ED25519 }, false },
        { CURVE_X25519, KTY_OKP, CRV_X25519, { 0, 0 }, true },
};

static const struct key_row *row_of_curve(enum curve curve) {
        for (size_t i = 0; i < N_ELEMENTS(key_rows); i++)
                if (key_rows[i].curve == curve)
                        return &key_rows[i];
        return NULL;
}

static const struct key_row *row_of_key(int64_t kty, int64_t crv) {
        for (size_t i = 0; i < N_ELEMENTS(key_rows); i++)
                if (key_rows[i].kty == kty && key_rows[i].crv == crv)
                        return &key_rows[i];
        return NULL;
}

void cose_put_key(struct cbor_writer *w, const struct public_key *key, struct bytes kid) {
        const struct key_row *row = row_of_curve(key->curve);

        if (!row) {
                w->failed = w->failed ? w->failed : -EINVAL;
                return;
        }
        cbor_put_map(w, 3 + (size_t)(kid.data != NULL) + (row->kty == KTY_EC2));
        cbor_put_uint(w, KEY_KTY);
        cbor_put_int(w, row->kty);
        if (kid.data) {
                cbor_put_uint(w, KEY_KID);
                cbor_put_bytes(w, kid);
        }
        cbor_put_int(w, KEY_CRV);
        cbor_put_int(w, row->crv);
        cbor_put_int(w, KEY_X);
        cbor_put_bytes(w, bytes_of(key->x, curve_size(key->curve)));
        if (row->kty == KTY_EC2) {
                cbor_put_int(w, KEY_Y);
                cbor_put_bytes(w, bytes_of(key->y, curve_size(key->curve)));
        }
}

int cose_key_encode(const struct public_key *key, struct buf *out) {
        struct cbor_writer w = CBOR_WRITER(out);

        cose_put_key(&w, key, BYTES_NONE);
        return cbor_end(&w);
}

/* crv, x, y, d mean something else in keys of other types: their kinds are judged when the type is known. */
struct key_message {
        struct cbor_item kty, kid, alg, ops, crv, x, y, d;
};

static const struct cbor_field key_fields[] = {
        { KEY_KTY, CBOR_INT | CBOR_TEXT, offsetof(struct key_message, kty) },
        { KEY_KID, CBOR_BYTES, offsetof(struct key_message, kid) },
        { KEY_ALG, CBOR_INT | CBOR_TEXT, offsetof(struct key_message, alg) },
        { KEY_OPS, CBOR_ARRAY, offsetof(struct key_message, ops) },
        { KEY_CRV, CBOR_ANY, offsetof(struct key_message, crv) }, /* of a symmetric key: k */
        { KEY_X, CBOR_ANY, offsetof(struct key_message, x) },
        { KEY_Y, CBOR_ANY, offsetof(struct key_message, y) },
        { KEY_D, CBOR_ANY, offsetof(struct key_message, d) },
};

static bool is_kind(const struct cbor_item *item, unsigned kinds) {
        return item->kind == CBOR_ABSENT || (item->kind & kinds) != 0;
}

/* RFC 9052 §7.1: alg binds the key to one algorithm; one on a curve of ours has to be for that curve. */
static bool alg_fits(const struct key_row *row, const struct cbor_item *alg) {
        int64_t label;

        if (alg->kind == CBOR_ABSENT)
                return true;
        if (!cbor_item_int(alg, &label))
                return false;
        return row->agrees ? label <= COSE_ECDH_ES_HKDF_256 && label >= COSE_ECDH_SS_A256KW
                           : label == row->algs[0] || label == row->algs[1];
}

/*
 * RFC 9052 §7.1: key_ops narrows what the key may be used for. A key that signs must be there to sign or verify; for
 * the public part of key agreement the array is empty, or names that use (AS-073).
 */
static bool ops_fit(const struct key_row *row, const struct cbor_item *ops) {
        struct cbor_item items[KEY_OPS_MAX];
        int64_t op;
        size_t n;

        if (ops->kind == CBOR_ABSENT)
                return true;
        if (cbor_array(ops->raw, items, N_ELEMENTS(items), &n) != 0)
                return false;
        for (size_t i = 0; i < n; i++)
                if (cbor_item_int(&items[i], &op) &&
                    (row->agrees ? op == KEY_OP_DERIVE_KEY || op == KEY_OP_DERIVE_BITS
                                 : op == KEY_OP_SIGN || op == KEY_OP_VERIFY))
                        return true;
        return row->agrees && n == 0;
}

/* 0; -EINVAL: it is no good. */
static int read_point(const struct key_row *row, const struct key_message *message, struct public_key *key) {
        size_t size = curve_size(row->curve);

        if (message->x.content.size != size)
                return -EINVAL;
        memcpy(key->x, message->x.content.data, size);
        if (row->kty == KTY_EC2 && message->y.kind == CBOR_BOOL)
                return public_key_decompress(key, message->y.argument != 0);
        if (row->kty == KTY_EC2) {
                if (message->y.content.size != size)
                        return -EINVAL;
                memcpy(key->y, message->y.content.data, size);
        }
        return public_key_check(key);
}

static int read_public(const struct key_row *row, const struct key_message *message, struct cose_key *key) {
        int r;

        if (!is_kind(&message->x, CBOR_BYTES) || !is_kind(&message->d, CBOR_BYTES) ||
            (row->kty == KTY_EC2 && !is_kind(&message->y, CBOR_BYTES | CBOR_BOOL)))
                return REFUSE_WRONG_TYPE;
        key->public_key.curve = row->curve;
        r = read_point(row, message, &key->public_key);
        if (r < 0 && r != -EINVAL)
                return r;
        key->is_bad = r != 0 || message->d.kind != CBOR_ABSENT || !alg_fits(row, &message->alg) ||
                      !ops_fit(row, &message->ops);
        return 0;
}

int cose_key_decode(struct bytes raw, struct cose_key *ret) {
        struct cose_key key = {};
        struct key_message message;
        const struct key_row *row = NULL;
        int64_t crv;
        int r;

        r = cbor_map(raw, key_fields, N_ELEMENTS(key_fields), &message);
        if (r != 0)
                return r;
        if (message.kty.kind == CBOR_ABSENT)
                return REFUSE_WRONG_TYPE; /* RFC 9052 §7: it must be there */
        (void)cbor_item_int(&message.kty, &key.kty);
        (void)cbor_item_int(&message.alg, &key.alg);
        key.kid = message.kid.content;

        if (key.kty == KTY_SYMMETRIC) {
                if (!is_kind(&message.crv, CBOR_BYTES))
                        return REFUSE_WRONG_TYPE;
                key.k = message.crv.content;
        } else if (key.kty == KTY_EC2 || key.kty == KTY_OKP) {
                if (message.crv.kind == CBOR_ABSENT || !is_kind(&message.crv, CBOR_INT | CBOR_TEXT))
                        return REFUSE_WRONG_TYPE;
                if (cbor_item_int(&message.crv, &crv))
                        row = row_of_key(key.kty, crv);
        }
        r = row ? read_public(row, &message, &key) : 0;
        if (r == 0)
                *ret = key;
        return r;
}
