#include "format/oscore.h"

#include <errno.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "domain/refusal.h"
#include "format/cbor.h"
#include "format/cose.h"
#include "format/labels.h"

#define INFO_SIZE_MAX 128       /* id, ID Context, algorithm, type, size */
#define AAD_SIZE_MAX 64         /* algorithm, kid, Partial IV */
#define PIV_ID_SIZE 6           /* of a nonce: size of the ID, and the Partial IV in five bytes */
#define FLAG_RESERVED 0xe0
#define FLAG_KID_CONTEXT 0x10
#define FLAG_KID 0x08
#define FLAG_PIV_SIZE 0x07

_Static_assert(OSCORE_ID_SIZE_MAX == AEAD_NONCE_SIZE_MAX - PIV_ID_SIZE, "§3.3");
_Static_assert(OSCORE_WINDOW == 8 * sizeof(((struct oscore_window *)NULL)->seen), "a bit a number");

/* ---- keys (§3.2.1) */

static int derive(const struct oscore_input *input, const struct bytes *id, const char *type, size_t size,
                  uint8_t *ret) {
        _cleanup_(buf_done) struct buf info = BUF_INIT(INFO_SIZE_MAX);
        struct cbor_writer w = CBOR_WRITER(&info);
        int r;

        cbor_put_array(&w, 5);
        cbor_put_bytes(&w, *id);
        if (input->id_context.data)
                cbor_put_bytes(&w, input->id_context);
        else
                cbor_put_null(&w);
        cbor_put_int(&w, cose_aead_label(input->alg));
        cbor_put_text(&w, bytes_text(type));
        cbor_put_uint(&w, size);
        r = cbor_end(&w);
        if (r != 0)
                return r;
        if (input->hkdf == OSCORE_HKDF_SHA512)
                return hkdf_sha512(input->master_salt, input->master_secret, buf_bytes(&info), ret, size);
        return hkdf_sha256(input->master_salt, input->master_secret, buf_bytes(&info), ret, size);
}

static int set_id(struct oscore_id *id, struct bytes value, size_t nonce_size) {
        if (value.size + PIV_ID_SIZE > nonce_size)
                return -EINVAL;
        id->size = value.size;
        if (value.size > 0)
                memcpy(id->data, value.data, value.size);
        return 0;
}

static struct bytes id_bytes(const struct oscore_id *id) {
        return bytes_of(id->data, id->size);
}

struct oscore_input oscore_input_of(const struct oscore_parameters *parameters, struct bytes master_secret) {
        const struct oscore_id *sender = &parameters->sender_id, *recipient = &parameters->recipient_id;

        return (struct oscore_input){
                .alg = parameters->alg,
                .hkdf = parameters->hkdf,
                .master_secret = master_secret,
                .master_salt = bytes_of(parameters->salt, parameters->salt_size),
                .id_context = parameters->has_id_context ? bytes_of(parameters->id_context,
                                                                    parameters->id_context_size) : BYTES_NONE,
                .sender_id = bytes_of(sender->data, sender->size),
                .recipient_id = bytes_of(recipient->data, recipient->size),
        };
}

int oscore_hkdf_label(enum oscore_hkdf hkdf) {
        return hkdf == OSCORE_HKDF_SHA256 ? COSE_HMAC_256_256 : hkdf == OSCORE_HKDF_SHA512 ? COSE_HMAC_512_512 : 0;
}

enum oscore_hkdf oscore_hkdf_from_label(int64_t label) {
        return label == COSE_HMAC_256_256 ? OSCORE_HKDF_SHA256 :
               label == COSE_HMAC_512_512 ? OSCORE_HKDF_SHA512 : (enum oscore_hkdf)0;
}

int oscore_derive(const struct oscore_input *input, struct oscore_keys *ret) {
        const struct aead_info *info = aead_info(input->alg);
        _cleanup_(oscore_keys_done) struct oscore_keys keys = { .alg = input->alg };
        const struct bytes no_id = BYTES_NONE;
        int r;

        if (!info || (input->hkdf != OSCORE_HKDF_SHA256 && input->hkdf != OSCORE_HKDF_SHA512) ||
            (input->id_context.data && input->id_context.size > OSCORE_ID_CONTEXT_SIZE_MAX) ||
            bytes_equal(input->sender_id, input->recipient_id) /* one key for both directions: nonces would repeat */)
                return -EINVAL;
        keys.sender_key.size = keys.recipient_key.size = info->key_size;
        if ((r = set_id(&keys.sender_id, input->sender_id, info->nonce_size)) != 0 ||
            (r = set_id(&keys.recipient_id, input->recipient_id, info->nonce_size)) != 0 ||
            (r = derive(input, &input->sender_id, "Key", info->key_size, keys.sender_key.data)) != 0 ||
            (r = derive(input, &input->recipient_id, "Key", info->key_size, keys.recipient_key.data)) != 0 ||
            (r = derive(input, &no_id, "IV", info->nonce_size, keys.common_iv)) != 0)
                return r;
        *ret = keys;
        return 0;
}

void oscore_keys_done(struct oscore_keys *keys) {
        wipe(keys, sizeof(*keys));
}

/* ---- the option's value */

/* size bytes from the front of *in; false: there are fewer. */
static bool take(struct bytes *in, size_t size, struct bytes *ret) {
        if (in->size < size)
                return false;
        *ret = bytes_of(in->data, size);
        *in = bytes_of(in->data + size, in->size - size);
        return true;
}

int oscore_option_decode(struct bytes value, struct oscore_option *ret) {
        struct bytes flags, piv, size, kid_context;

        *ret = (struct oscore_option){};
        if (value.size == 0)
                return 0;
        /* §2: a lone zero byte is not how nothing is said */
        if (!take(&value, 1, &flags) || (flags.data[0] & FLAG_RESERVED) != 0 || flags.data[0] == 0 ||
            (flags.data[0] & FLAG_PIV_SIZE) > OSCORE_PIV_SIZE_MAX || !take(&value, flags.data[0] & FLAG_PIV_SIZE, &piv))
                return REFUSE_MALFORMED;
        /* one number, one form: or it might pass a window twice */
        if (piv.size > 1 && piv.data[0] == 0)
                return REFUSE_MALFORMED;
        if (piv.size > 0)
                ret->piv = piv;
        if ((flags.data[0] & FLAG_KID_CONTEXT) != 0) {
                if (!take(&value, 1, &size) || !take(&value, size.data[0], &kid_context))
                        return REFUSE_MALFORMED;
                ret->kid_context = kid_context;
        }
        if ((flags.data[0] & FLAG_KID) != 0)
                ret->kid = value;
        else if (value.size > 0)
                return REFUSE_MALFORMED;
        return 0;
}

size_t oscore_option_encode(const struct oscore_option *option, uint8_t ret[static OSCORE_OPTION_SIZE_MAX]) {
        size_t n = 1;

        if (!option->piv.data && !option->kid_context.data && !option->kid.data)
                return 0;
        ret[0] = (uint8_t)(option->piv.size | (option->kid_context.data ? FLAG_KID_CONTEXT : 0) |
                           (option->kid.data ? FLAG_KID : 0));
        if (option->piv.size > 0)
                memcpy(ret + n, option->piv.data, option->piv.size);
        n += option->piv.size;
        if (option->kid_context.data) {
                ret[n++] = (uint8_t)option->kid_context.size;
                if (option->kid_context.size > 0)
                        memcpy(ret + n, option->kid_context.data, option->kid_context.size);
                n += option->kid_context.size;
        }
        if (option->kid.size > 0)
                memcpy(ret + n, option->kid.data, option->kid.size);
        return n + option->kid.size;
}

size_t oscore_piv_encode(uint64_t number, uint8_t ret[static OSCORE_PIV_SIZE_MAX]) {
        size_t size = 0;

        for (int shift = 8 * (OSCORE_PIV_SIZE_MAX - 1); shift >= 0; shift -= 8)
                if (size > 0 || number >> shift != 0 || shift == 0)
                        ret[size++] = (uint8_t)(number >> shift);
        return size;
}

uint64_t oscore_piv_decode(struct bytes piv) {
        uint64_t number = 0;

        for (size_t i = 0; i < piv.size; i++)
                number = number << 8 | piv.data[i];
        return number;
}

/* ---- what a message is protected under (§5.2, §5.4) */

/* id: of whoever made the Partial IV. */
static void make_nonce(const struct oscore_keys *keys, const struct oscore_id *id, struct bytes piv,
                       uint8_t ret[static AEAD_NONCE_SIZE_MAX]) {
        size_t size = aead_info(keys->alg)->nonce_size;

        memset(ret, 0, AEAD_NONCE_SIZE_MAX);
        ret[0] = (uint8_t)id->size;
        if (id->size > 0)
                memcpy(ret + size - OSCORE_PIV_SIZE_MAX - id->size, id->data, id->size);
        memcpy(ret + size - piv.size, piv.data, piv.size);
        for (size_t i = 0; i < size; i++)
                ret[i] ^= keys->common_iv[i];
}

#define AAD_ARRAY_MAX (4 + 2 + 1 + OSCORE_ID_SIZE_MAX + 1 + OSCORE_PIV_SIZE_MAX + 1)
_Static_assert(AAD_ARRAY_MAX < 24, "the head of a byte string is one byte");

static uint8_t *put_string(uint8_t *at, struct bytes value) {
        *at++ = (uint8_t)(0x40 | value.size);
        if (value.size > 0)
                memcpy(at, value.data, value.size);
        return at + value.size;
}

/* Written by hand, as it is for each message twice: all lengths in this CBOR are so short that a byte holds them. */
static struct bytes make_aad(const struct oscore_keys *keys, const struct oscore_request *request,
                             uint8_t space[static AAD_SIZE_MAX]) {
        static const uint8_t head[] = { 0x83, 0x68, 'E', 'n', 'c', 'r', 'y', 'p', 't', '0', 0x40 };
        uint8_t array[AAD_ARRAY_MAX], *at = array;
        int alg = cose_aead_label(keys->alg);

        *at++ = 0x85;
        *at++ = 1; /* the version */
        *at++ = 0x81;
        if (alg >= 24)
                *at++ = 0x18;
        *at++ = (uint8_t)alg;
        at = put_string(at, id_bytes(&request->kid));
        at = put_string(at, bytes_of(request->piv, request->piv_size));
        at = put_string(at, BYTES_NONE); /* Class I options: none is defined */
        memcpy(space, head, sizeof(head));
        return bytes_of(space, (size_t)(put_string(space + sizeof(head), bytes_of(array, (size_t)(at - array))) - space));
}

static void set_request(struct oscore_request *request, const struct oscore_id *kid, struct bytes piv) {
        *request = (struct oscore_request){ .kid = *kid, .piv_size = piv.size };
        memcpy(request->piv, piv.data, piv.size);
}

/* ---- inside and outside (§4.1) */

static bool is_request(uint8_t code) {
        return code >> 5 == 0;
}

/*
 * Part a message in what is encrypted and what is not. Observe stands in both places (§4.1.3.5): in a request with the
 * same value, in a notification with none inside. FETCH and 2.05 let proxies see an observation for what it is (§4.2).
 */
static int part(const struct coap_message *message, struct coap_message *inner, struct coap_message *outer) {
        bool observes = false;
        int r = 0;

        coap_message_begin(inner);
        inner->code = message->code;
        inner->payload = message->payload;
        coap_message_begin(outer);
        outer->type = message->type;
        outer->mid = message->mid;
        outer->token = message->token;
        for (size_t i = 0; i < message->n_options && r == 0; i++) {
                const struct coap_option *option = &message->options[i];

                if (option->number == OPTION_OSCORE)
                        return -EINVAL;
                if (option->number == OPTION_OBSERVE) {
                        observes = true;
                        r = coap_message_add(outer, option->number, option->value);
                        if (r == 0)
                                r = coap_message_add(inner, option->number,
                                                     is_request(message->code) ? option->value : BYTES_NONE);
                } else {
                        r = coap_message_add(coap_option_is_outer(option->number) ? outer : inner, option->number,
                                             option->value);
                }
        }
        if (is_request(message->code))
                outer->code = observes ? CODE_FETCH : CODE_POST;
        else
                outer->code = observes ? CODE_CONTENT : CODE_CHANGED;
        return r;
}

/* Room for all that coap_inner_encode() writes, and for the tag, or as much as there can be. */
static int hold(const struct coap_message *inner, size_t tag_size, struct buf *out) {
        size_t size = 1 + 1 + inner->payload.size + tag_size; /* the code, the payload's marker */
        uint8_t *space;

        for (size_t i = 0; i < inner->n_options; i++)
                size += 5 + inner->options[i].value.size;
        return buf_reserve(out, size < out->limit ? size : out->limit, &space);
}

/* Where it stays, with all room at once: there is no other copy of the plain text, nor one left by a buffer that grew. */
static int encrypt(const struct oscore_keys *keys, const uint8_t *nonce, const struct oscore_request *request,
                   const struct coap_message *inner, struct buf *out) {
        const struct aead_info *info = aead_info(keys->alg);
        uint8_t aad[AAD_SIZE_MAX];
        uint8_t *tag;
        int r;

        if ((r = hold(inner, info->tag_size, out)) == 0 && (r = coap_inner_encode(inner, out)) == 0 &&
            (r = buf_reserve(out, info->tag_size, &tag)) == 0)
                r = aead_seal_with(keys->aead, keys->alg, secret_bytes(&keys->sender_key),
                                   bytes_of(nonce, info->nonce_size), make_aad(keys, request, aad), buf_bytes(out),
                                   out->data);
        if (r == 0)
                buf_added(out, info->tag_size);
        else
                buf_wiped(out);
        return r;
}

static int protect(const struct oscore_keys *keys, const uint8_t *nonce, const struct oscore_request *request,
                   const struct oscore_option *option, const struct coap_message *message, struct oscore_outer *ret) {
        struct coap_message inner;
        size_t size;
        int r;

        buf_clear(&ret->payload);
        size = oscore_option_encode(option, ret->option);
        if ((r = part(message, &inner, &ret->message)) != 0 ||
            (r = coap_message_add(&ret->message, OPTION_OSCORE, bytes_of(ret->option, size))) != 0 ||
            (r = encrypt(keys, nonce, request, &inner, &ret->payload)) != 0)
                return r;
        ret->message.payload = buf_bytes(&ret->payload);
        return 0;
}

/* ---- decrypting */

static int decrypt(const struct oscore_keys *keys, const uint8_t *nonce, const struct oscore_request *request,
                   struct bytes cipher, struct buf *plain) {
        const struct aead_info *info = aead_info(keys->alg);
        uint8_t aad[AAD_SIZE_MAX];
        uint8_t *space;
        int r;

        if (cipher.size <= info->tag_size) /* there is at least a code inside */
                return -EBADMSG;
        if ((r = buf_reserve(plain, cipher.size - info->tag_size, &space)) != 0 ||
            (r = aead_open_with(keys->aead, keys->alg, secret_bytes(&keys->recipient_key),
                                bytes_of(nonce, info->nonce_size), make_aad(keys, request, aad), cipher, space)) != 0)
                return r;
        buf_added(plain, cipher.size - info->tag_size);
        return 0;
}

/* The inner message, and of the outer one what is not encrypted. */
static int join(struct bytes plain, const struct coap_message *outer, struct coap_message *ret) {
        int r = coap_inner_decode(plain, ret);

        if (r != 0)
                return r;
        for (size_t i = 0; i < ret->n_options; i++)
                if (ret->options[i].number == OPTION_OSCORE)
                        return REFUSE_MALFORMED; /* OSCORE in OSCORE */
        ret->type = outer->type;
        ret->mid = outer->mid;
        ret->token = outer->token;
        for (size_t i = 0; i < outer->n_options; i++) {
                const struct coap_option *option = &outer->options[i];

                if (option->number != OPTION_OSCORE && coap_option_is_outer(option->number) &&
                    coap_message_add(ret, option->number, option->value) != 0)
                        return REFUSE_MALFORMED;
        }
        coap_message_sort(ret);
        return 0;
}

int oscore_unprotect_request(const struct oscore_keys *keys, const struct oscore_option *option,
                             const struct coap_message *outer, struct buf *plain, struct coap_message *ret_inner,
                             struct oscore_request *ret_request) {
        uint8_t nonce[AEAD_NONCE_SIZE_MAX];
        int r;

        if (!option->piv.data)
                return -EBADMSG;
        set_request(ret_request, &keys->recipient_id, option->piv);
        make_nonce(keys, &keys->recipient_id, option->piv, nonce);
        r = decrypt(keys, nonce, ret_request, outer->payload, plain);
        if (r != 0)
                return r;
        r = join(buf_bytes(plain), outer, ret_inner);
        return r == 0 && !is_request(ret_inner->code) ? REFUSE_MALFORMED : r;
}

static void make_request_nonce(const struct oscore_keys *keys, const struct oscore_request *request,
                               uint8_t ret[static AEAD_NONCE_SIZE_MAX]) {
        make_nonce(keys, &request->kid, bytes_of(request->piv, request->piv_size), ret);
}

int oscore_protect_response(const struct oscore_keys *keys, const struct oscore_request *request, const uint64_t *piv,
                            const struct coap_message *inner, struct oscore_outer *ret) {
        struct oscore_option option = {};
        uint8_t nonce[AEAD_NONCE_SIZE_MAX], own[OSCORE_PIV_SIZE_MAX];

        if (piv && *piv > OSCORE_PIV_MAX)
                return -EINVAL;
        if (piv) {
                option.piv = bytes_of(own, oscore_piv_encode(*piv, own));
                make_nonce(keys, &keys->sender_id, option.piv, nonce);
        } else {
                make_request_nonce(keys, request, nonce);
        }
        return protect(keys, nonce, request, &option, inner, ret);
}

int oscore_protect_renewing(const struct oscore_keys *keys, const struct oscore_request *request,
                            struct bytes kid_context, const struct coap_message *inner, struct oscore_outer *ret) {
        static const uint8_t first = 0;
        const struct oscore_option option = { .piv = bytes_of(&first, sizeof(first)), .kid_context = kid_context };
        uint8_t nonce[AEAD_NONCE_SIZE_MAX];

        if (kid_context.size > OSCORE_KID_CONTEXT_SIZE_MAX)
                return -EINVAL;
        make_nonce(keys, &keys->sender_id, option.piv, nonce);
        return protect(keys, nonce, request, &option, inner, ret);
}

int oscore_protect_request(const struct oscore_keys *keys, uint64_t piv, struct bytes kid_context,
                           const struct coap_message *inner, struct oscore_outer *ret,
                           struct oscore_request *ret_request) {
        uint8_t nonce[AEAD_NONCE_SIZE_MAX], own[OSCORE_PIV_SIZE_MAX];
        struct oscore_option option = { .kid_context = kid_context, .kid = id_bytes(&keys->sender_id) };

        if (piv > OSCORE_PIV_MAX || kid_context.size > OSCORE_KID_CONTEXT_SIZE_MAX)
                return -EINVAL;
        option.piv = bytes_of(own, oscore_piv_encode(piv, own));
        set_request(ret_request, &keys->sender_id, option.piv);
        make_nonce(keys, &keys->sender_id, option.piv, nonce);
        return protect(keys, nonce, ret_request, &option, inner, ret);
}

int oscore_unprotect_response(const struct oscore_keys *keys, const struct oscore_request *request,
                              const struct oscore_option *option, const struct coap_message *outer, struct buf *plain,
                              struct coap_message *ret_inner) {
        uint8_t nonce[AEAD_NONCE_SIZE_MAX];
        int r;

        if (option->piv.data)
                make_nonce(keys, &keys->recipient_id, option->piv, nonce);
        else
                make_request_nonce(keys, request, nonce);
        r = decrypt(keys, nonce, request, outer->payload, plain);
        if (r != 0)
                return r;
        r = join(buf_bytes(plain), outer, ret_inner);
        return r == 0 && is_request(ret_inner->code) ? REFUSE_MALFORMED : r;
}

/* ---- renewal (Appendix B.2) */

size_t oscore_kid_context_wrap(struct bytes id_context, uint8_t ret[static OSCORE_KID_CONTEXT_SIZE_MAX]) {
        _cleanup_(buf_done) struct buf wrapped = BUF_INIT(OSCORE_KID_CONTEXT_SIZE_MAX);
        struct cbor_writer w = CBOR_WRITER(&wrapped);

        cbor_put_bytes(&w, id_context);
        if (cbor_end(&w) != 0)
                return 0;
        memcpy(ret, wrapped.data, wrapped.size);
        return wrapped.size;
}

bool oscore_kid_context_unwrap(struct bytes kid_context, struct bytes *ret_id_context) {
        struct cbor_item item;

        if (!kid_context.data || cbor_item(kid_context, &item) != 0 || item.kind != CBOR_BYTES ||
            item.content.size > OSCORE_ID_CONTEXT_SIZE_MAX)
                return false;
        *ret_id_context = item.content;
        return true;
}

int oscore_derive_under(const struct oscore_input *input, struct bytes one, struct bytes two, struct oscore_keys *ret) {
        uint8_t id_context[OSCORE_ID_CONTEXT_SIZE_MAX];
        struct oscore_input renewed = *input;

        if (one.size + two.size > sizeof(id_context))
                return -EINVAL;
        if (one.size > 0)
                memcpy(id_context, one.data, one.size);
        if (two.size > 0)
                memcpy(id_context + one.size, two.data, two.size);
        renewed.id_context = bytes_of(id_context, one.size + two.size);
        return oscore_derive(&renewed, ret);
}

int oscore_renewing_begin(struct oscore_renewing *renewing, const struct oscore_input *input,
                          const uint8_t r1[static OSCORE_RENEWING_R_SIZE], struct oscore_keys *ret_keys) {
        renewing->id_context_size = OSCORE_RENEWING_R_SIZE;
        memcpy(renewing->id_context, r1, OSCORE_RENEWING_R_SIZE);
        return oscore_derive_under(input, bytes_of(r1, OSCORE_RENEWING_R_SIZE), BYTES_NONE, ret_keys);
}

/* As oscore_derive_under(), for response 1: under R2 || R1. */
static int derive_second(const struct oscore_input *input, struct bytes r2, struct bytes r1, bool has_piv,
                         struct oscore_keys *ret) {
        _cleanup_(oscore_keys_done) struct oscore_keys first = {};
        int r = oscore_derive_under(input, r2, r1, ret);

        if (r != 0 || has_piv)
                return r;
        /* §8.4 has the nonce of the request, which was made with the Common IV of R1 */
        if ((r = oscore_derive_under(input, r1, BYTES_NONE, &first)) == 0)
                memcpy(ret->common_iv, first.common_iv, sizeof(first.common_iv));
        return r;
}

/* R2, of a message that may be response 1. */
static bool renewing_r2(const struct oscore_renewing *renewing, const struct coap_message *outer,
                        struct oscore_option *ret_option, struct bytes *ret_r2) {
        const struct coap_option *value = coap_message_option(outer, OPTION_OSCORE, 0);

        return value && oscore_option_decode(value->value, ret_option) == 0 &&
               oscore_kid_context_unwrap(ret_option->kid_context, ret_r2) && ret_r2->size >= OSCORE_R_SIZE_MIN &&
               ret_r2->size + renewing->id_context_size <= OSCORE_ID_CONTEXT_SIZE_MAX;
}

int oscore_renewing_heard(struct oscore_renewing *renewing, const struct oscore_input *input,
                          const struct oscore_request *request, const struct coap_message *outer,
                          const uint8_t r3[static OSCORE_RENEWING_R_SIZE], struct oscore_keys *ret_keys) {
        const struct bytes r1 = bytes_of(renewing->id_context, renewing->id_context_size);
        _cleanup_(oscore_keys_done) struct oscore_keys second = {}, third = {};
        _cleanup_(buf_wiped) struct buf plain = BUF_INIT(outer->payload.size);
        struct oscore_option option;
        struct coap_message inner;
        struct bytes r2;
        int r;

        if (!renewing_r2(renewing, outer, &option, &r2))
                return -EBADMSG;
        if ((r = derive_second(input, r2, r1, option.piv.data, &second)) != 0 ||
            (r = oscore_unprotect_response(&second, request, &option, outer, &plain, &inner)) != 0)
                return r;
        if (inner.code != CODE_UNAUTHORIZED)
                return REFUSE_MALFORMED;
        r = oscore_derive_under(input, r2, bytes_of(r3, OSCORE_RENEWING_R_SIZE), &third);
        if (r != 0)
                return r;
        memcpy(renewing->id_context, r2.data, r2.size);
        memcpy(renewing->id_context + r2.size, r3, OSCORE_RENEWING_R_SIZE);
        renewing->id_context_size = r2.size + OSCORE_RENEWING_R_SIZE;
        *ret_keys = third;
        return 0;
}

size_t oscore_renewing_kid_context(const struct oscore_renewing *renewing,
                                   uint8_t ret[static OSCORE_KID_CONTEXT_SIZE_MAX]) {
        return oscore_kid_context_wrap(bytes_of(renewing->id_context, renewing->id_context_size), ret);
}

/* ---- the replay window */

bool oscore_window_accepts(const struct oscore_window *window, uint64_t piv) {
        if (piv > OSCORE_PIV_MAX)
                return false;
        if (piv >= window->next)
                return true;
        return window->next - 1 - piv < OSCORE_WINDOW && (window->seen >> (window->next - 1 - piv) & 1) == 0;
}

void oscore_window_mark(struct oscore_window *window, uint64_t piv) {
        uint64_t forward;

        if (piv < window->next) {
                if (window->next - 1 - piv < OSCORE_WINDOW)
                        window->seen |= UINT32_C(1) << (window->next - 1 - piv);
                return;
        }
        forward = piv - window->next + 1;
        window->seen = forward < OSCORE_WINDOW ? window->seen << forward | 1 : 1;
        window->next = piv + 1;
}
