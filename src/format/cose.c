#include "format/cose.h"

#include <errno.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/cbor.h"
#include "format/labels.h"

#define CONTEXT_ENCRYPT0 "Encrypt0"
#define PROTECTED_SIZE_MAX 8     /* { 1: alg } as we write it */
#define ENC_STRUCTURE_OVERHEAD 32 /* what stands around the protected header in an Enc_structure, and to spare */

static const struct {
        enum aead_alg alg;
        int label;
} algs[] = {
        { AEAD_AES_CCM_16_64_128, COSE_AES_CCM_16_64_128 },
        { AEAD_AES_CCM_16_128_128, COSE_AES_CCM_16_128_128 },
        { AEAD_A128GCM, COSE_A128GCM },
        { AEAD_A256GCM, COSE_A256GCM },
        { AEAD_CHACHA20_POLY1305, COSE_CHACHA20_POLY1305 },
};

enum aead_alg cose_aead_from_label(int64_t label) {
        for (size_t i = 0; i < N_ELEMENTS(algs); i++)
                if (algs[i].label == label)
                        return algs[i].alg;
        return AEAD_NONE;
}

int cose_aead_label(enum aead_alg alg) {
        for (size_t i = 0; i < N_ELEMENTS(algs); i++)
                if (algs[i].alg == alg)
                        return algs[i].label;
        return 0;
}

/* RFC 9052 §5.3: what is authenticated beside the ciphertext; the external AAD is empty here */
static int put_enc_structure(struct bytes protected_header, struct buf *out) {
        struct cbor_writer w = CBOR_WRITER(out);

        cbor_put_array(&w, 3);
        cbor_put_text(&w, BYTES_LITERAL(CONTEXT_ENCRYPT0));
        cbor_put_bytes(&w, protected_header);
        cbor_put_bytes(&w, BYTES_NONE);
        return cbor_end(&w);
}

static int put_protected(enum aead_alg alg, struct buf *out) {
        struct cbor_writer w = CBOR_WRITER(out);

        cbor_put_map(&w, 1);
        cbor_put_uint(&w, HEADER_ALG);
        cbor_put_int(&w, cose_aead_label(alg));
        return cbor_end(&w);
}

static int put_cipher(enum aead_alg alg, struct bytes key, struct bytes nonce, struct bytes aad, struct bytes plain,
                      struct buf *out) {
        size_t size = plain.size + aead_info(alg)->tag_size;
        struct cbor_writer w = CBOR_WRITER(out);
        uint8_t *space;
        int r;

        cbor_put_bytes_head(&w, size);
        r = cbor_end(&w);
        if (r == 0)
                r = buf_reserve(out, size, &space);
        if (r == 0)
                r = aead_seal(alg, key, nonce, aad, plain, space);
        if (r == 0)
                buf_added(out, size);
        return r;
}

static int put_headers(struct bytes protected_header, struct bytes kid, struct bytes nonce, bool tagged,
                       struct buf *out) {
        struct cbor_writer w = CBOR_WRITER(out);

        if (tagged)
                cbor_put_tag(&w, TAG_COSE_ENCRYPT0);
        cbor_put_array(&w, 3);
        cbor_put_bytes(&w, protected_header);
        cbor_put_map(&w, kid.data ? 2 : 1);
        if (kid.data) {
                cbor_put_uint(&w, HEADER_KID);
                cbor_put_bytes(&w, kid);
        }
        cbor_put_uint(&w, HEADER_IV);
        cbor_put_bytes(&w, nonce);
        return cbor_end(&w);
}

int cose_encrypt0(enum aead_alg alg, struct bytes key, struct bytes kid, struct bytes nonce, struct bytes plain,
                  bool tagged, struct buf *out) {
        _cleanup_(buf_done) struct buf aad = BUF_INIT(PROTECTED_SIZE_MAX + ENC_STRUCTURE_OVERHEAD);
        _cleanup_(buf_done) struct buf protected_header = BUF_INIT(PROTECTED_SIZE_MAX);
        size_t before = out->size;
        int r;

        if (!aead_info(alg) || key.size != aead_info(alg)->key_size || nonce.size != aead_info(alg)->nonce_size)
                return -EINVAL;
        if ((r = put_protected(alg, &protected_header)) != 0 ||
            (r = put_enc_structure(buf_bytes(&protected_header), &aad)) != 0 ||
            (r = put_headers(buf_bytes(&protected_header), kid, nonce, tagged, out)) != 0 ||
            (r = put_cipher(alg, key, nonce, buf_bytes(&aad), plain, out)) != 0)
                out->size = before; /* no half object stays */
        return r;
}

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

static int judge_headers(const struct headers *headers, struct cose_encrypt0_parts *parts) {
        const struct aead_info *info;
        int64_t label;

        /* A Partial IV needs a Base IV, which our keys have none of; crit needs all of its labels to be understood. */
        if (headers->crit.kind != CBOR_ABSENT || headers->partial_iv.kind != CBOR_ABSENT)
                return REFUSE_WRONG_TYPE;
        if (!cbor_item_int(&headers->alg, &label))
                return REFUSE_WRONG_TYPE;
        parts->alg = cose_aead_from_label(label);
        info = aead_info(parts->alg);
        if (!info)
                return REFUSE_WRONG_TYPE;
        if (headers->iv.content.size != info->nonce_size || parts->cipher.size < info->tag_size)
                return REFUSE_MALFORMED;
        parts->kid = headers->kid.content;
        parts->nonce = headers->iv.content;
        return 0;
}

int cose_encrypt0_parse(struct bytes object, struct cose_encrypt0_parts *ret) {
        struct cose_encrypt0_parts parts = {};
        struct cbor_item item, items[3];
        struct headers headers;
        size_t n;
        int r;

        r = cbor_item(object, &item);
        if (r != 0)
                return r;
        if (item.kind == CBOR_TAG && item.argument != TAG_COSE_ENCRYPT0)
                return REFUSE_WRONG_TYPE;
        r = cbor_array(item.kind == CBOR_TAG ? item.content : object, items, N_ELEMENTS(items), &n);
        if (r != 0)
                return r;
        /* RFC 9052 §5.2; a detached ciphertext (null) is not for us */
        if (n != N_ELEMENTS(items) || items[0].kind != CBOR_BYTES || items[1].kind != CBOR_MAP ||
            items[2].kind != CBOR_BYTES)
                return REFUSE_WRONG_TYPE;
        parts.protected_header = items[0].content;
        parts.cipher = items[2].content;
        if ((r = read_buckets(items[0].content, items[1].raw, &headers)) != 0 ||
            (r = judge_headers(&headers, &parts)) != 0)
                return r;
        *ret = parts;
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
        aad = BUF_INIT(parts.protected_header.size + ENC_STRUCTURE_OVERHEAD);
        size = parts.cipher.size - aead_info(parts.alg)->tag_size;
        if ((r = put_enc_structure(parts.protected_header, &aad)) != 0 || (r = buf_reserve(plain, size, &space)) != 0)
                return r;
        r = aead_open(parts.alg, key, parts.nonce, buf_bytes(&aad), parts.cipher, space);
        if (r == 0)
                buf_added(plain, size);
        /* -EINVAL: a key that is none for the algorithm that the object names */
        return r == -EBADMSG || r == -EINVAL ? REFUSE_MALFORMED : r;
}
