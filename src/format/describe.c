#include "format/describe.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "domain/client.h"
#include "domain/refusal.h"
#include "format/cbor.h"
#include "format/labels.h"

/* A registered number, its name, and the vocabulary of its value. */
struct word {
        enum vocabulary vocabulary;
        int64_t number;
        const char *name;
        enum vocabulary inner;
};

static const struct word words[] = {
        { VOCABULARY_TOKEN, ACE_ACCESS_TOKEN, "access_token", 0 },
        { VOCABULARY_TOKEN, ACE_EXPIRES_IN, "expires_in", 0 },
        { VOCABULARY_TOKEN, ACE_REQ_CNF, "req_cnf", VOCABULARY_CNF },
        { VOCABULARY_TOKEN, ACE_AUDIENCE, "audience", VOCABULARY_TEXT },
        { VOCABULARY_TOKEN, ACE_CNF, "cnf", VOCABULARY_CNF },
        { VOCABULARY_TOKEN, ACE_SCOPE, "scope", VOCABULARY_TEXT },
        { VOCABULARY_TOKEN, ACE_CLIENT_ID, "client_id", VOCABULARY_TEXT },
        { VOCABULARY_TOKEN, ACE_ERROR, "error", VOCABULARY_ERROR },
        { VOCABULARY_TOKEN, ACE_ERROR_DESCRIPTION, "error_description", VOCABULARY_TEXT },
        { VOCABULARY_TOKEN, ACE_ERROR_URI, "error_uri", VOCABULARY_TEXT },
        { VOCABULARY_TOKEN, ACE_TOKEN_TYPE, "token_type", VOCABULARY_TOKEN_TYPE },
        { VOCABULARY_TOKEN, ACE_REFRESH_TOKEN, "refresh_token", 0 },
        { VOCABULARY_TOKEN, ACE_PROFILE, "ace_profile", VOCABULARY_PROFILE },
        { VOCABULARY_TOKEN, ACE_CNONCE, "cnonce", 0 },
        { VOCABULARY_TOKEN, ACE_RS_CNF, "rs_cnf", VOCABULARY_CNF },

        { VOCABULARY_INTROSPECT, INTRO_ISS, "iss", VOCABULARY_TEXT },
        { VOCABULARY_INTROSPECT, INTRO_SUB, "sub", VOCABULARY_TEXT },
        { VOCABULARY_INTROSPECT, INTRO_AUD, "aud", VOCABULARY_TEXT },
        { VOCABULARY_INTROSPECT, INTRO_EXP, "exp", 0 },
        { VOCABULARY_INTROSPECT, INTRO_NBF, "nbf", 0 },
        { VOCABULARY_INTROSPECT, INTRO_IAT, "iat", 0 },
        { VOCABULARY_INTROSPECT, INTRO_CTI, "cti", 0 },
        { VOCABULARY_INTROSPECT, INTRO_CNF, "cnf", VOCABULARY_CNF },
        { VOCABULARY_INTROSPECT, INTRO_SCOPE, "scope", VOCABULARY_TEXT },
        { VOCABULARY_INTROSPECT, INTRO_ACTIVE, "active", 0 },
        { VOCABULARY_INTROSPECT, INTRO_CLIENT_ID, "client_id", VOCABULARY_TEXT },
        { VOCABULARY_INTROSPECT, ACE_ERROR, "error", VOCABULARY_ERROR },
        { VOCABULARY_INTROSPECT, ACE_ERROR_DESCRIPTION, "error_description", VOCABULARY_TEXT },
        { VOCABULARY_INTROSPECT, INTRO_TOKEN_TYPE, "token_type", VOCABULARY_TOKEN_TYPE },
        { VOCABULARY_INTROSPECT, INTRO_PROFILE, "ace_profile", VOCABULARY_PROFILE },
        { VOCABULARY_INTROSPECT, INTRO_CNONCE, "cnonce", 0 },
        { VOCABULARY_INTROSPECT, INTRO_EXI, "exi", 0 },

        { VOCABULARY_CLAIMS, CLAIM_ISS, "iss", VOCABULARY_TEXT },
        { VOCABULARY_CLAIMS, CLAIM_SUB, "sub", VOCABULARY_TEXT },
        { VOCABULARY_CLAIMS, CLAIM_AUD, "aud", VOCABULARY_TEXT },
        { VOCABULARY_CLAIMS, CLAIM_EXP, "exp", 0 },
        { VOCABULARY_CLAIMS, CLAIM_NBF, "nbf", 0 },
        { VOCABULARY_CLAIMS, CLAIM_IAT, "iat", 0 },
        { VOCABULARY_CLAIMS, CLAIM_CTI, "cti", 0 },
        { VOCABULARY_CLAIMS, CLAIM_CNF, "cnf", VOCABULARY_CNF },
        { VOCABULARY_CLAIMS, CLAIM_SCOPE, "scope", VOCABULARY_TEXT },
        { VOCABULARY_CLAIMS, CLAIM_PROFILE, "ace_profile", VOCABULARY_PROFILE },
        { VOCABULARY_CLAIMS, CLAIM_CNONCE, "cnonce", 0 },
        { VOCABULARY_CLAIMS, CLAIM_EXI, "exi", 0 },

        { VOCABULARY_CNF, CNF_COSE_KEY, "COSE_Key", VOCABULARY_KEY },
        { VOCABULARY_CNF, CNF_ENCRYPTED_COSE_KEY, "Encrypted_COSE_Key", 0 },
        { VOCABULARY_CNF, CNF_KID, "kid", 0 },
        { VOCABULARY_CNF, CNF_OSC, "osc", VOCABULARY_OSC },

        { VOCABULARY_OSC, OSC_ID, "id", 0 },
        { VOCABULARY_OSC, OSC_VERSION, "version", 0 },
        { VOCABULARY_OSC, OSC_MS, "ms", 0 },
        { VOCABULARY_OSC, OSC_HKDF, "hkdf", VOCABULARY_HKDF },
        { VOCABULARY_OSC, OSC_ALG, "alg", VOCABULARY_ALGORITHM },
        { VOCABULARY_OSC, OSC_SALT, "salt", 0 },
        { VOCABULARY_OSC, OSC_CONTEXT_ID, "contextId", 0 },
        { VOCABULARY_HKDF, COSE_HMAC_256_256, "HKDF SHA-256", 0 },
        { VOCABULARY_HKDF, COSE_HMAC_512_512, "HKDF SHA-512", 0 },

        /* -1 is k of a symmetric key, crv of another: kty tells, which describe_map() looks for */
        { VOCABULARY_KEY, KEY_KTY, "kty", VOCABULARY_KEY_TYPE },
        { VOCABULARY_KEY, KEY_KID, "kid", 0 },
        { VOCABULARY_KEY, KEY_ALG, "alg", VOCABULARY_ALGORITHM },
        { VOCABULARY_KEY, KEY_OPS, "key_ops", 0 },
        { VOCABULARY_KEY, KEY_K, "k", 0 },
        { VOCABULARY_PUBLIC_KEY, KEY_KTY, "kty", VOCABULARY_KEY_TYPE },
        { VOCABULARY_PUBLIC_KEY, KEY_KID, "kid", 0 },
        { VOCABULARY_PUBLIC_KEY, KEY_ALG, "alg", VOCABULARY_ALGORITHM },
        { VOCABULARY_PUBLIC_KEY, KEY_OPS, "key_ops", 0 },
        { VOCABULARY_PUBLIC_KEY, KEY_CRV, "crv", VOCABULARY_CURVE },
        { VOCABULARY_PUBLIC_KEY, KEY_X, "x", 0 },
        { VOCABULARY_PUBLIC_KEY, KEY_Y, "y", 0 },
        { VOCABULARY_PUBLIC_KEY, KEY_D, "d", 0 },

        { VOCABULARY_HEADER, HEADER_ALG, "alg", VOCABULARY_ALGORITHM },
        { VOCABULARY_HEADER, HEADER_CRIT, "crit", 0 },
        { VOCABULARY_HEADER, HEADER_KID, "kid", 0 },
        { VOCABULARY_HEADER, HEADER_IV, "iv", 0 },
        { VOCABULARY_HEADER, HEADER_PARTIAL_IV, "partial_iv", 0 },

        { VOCABULARY_TRL, TRL_FULL_SET, "full_set", 0 },
        { VOCABULARY_TRL, TRL_DIFF_SET, "diff_set", 0 },
        { VOCABULARY_TRL, TRL_CURSOR, "cursor", 0 },
        { VOCABULARY_TRL, TRL_MORE, "more", 0 },
        { VOCABULARY_TRL_PROBLEM, -1, "title", 0 },
        { VOCABULARY_TRL_PROBLEM, -2, "detail", 0 },
        { VOCABULARY_TRL_PROBLEM, PROBLEM_ACE_TRL_ERROR, "ace-trl-error", VOCABULARY_TRL_ERROR },
        { VOCABULARY_TRL_ERROR, TRL_ERROR_ID, "error-id", VOCABULARY_TRL_ERROR_ID },
        { VOCABULARY_TRL_ERROR, TRL_ERROR_CURSOR, "cursor", 0 },
        { VOCABULARY_TRL_ERROR_ID, TRL_ERROR_VALUE, "invalid parameter value", 0 },
        { VOCABULARY_TRL_ERROR_ID, TRL_ERROR_SET, "invalid set of parameters", 0 },
        { VOCABULARY_TRL_ERROR_ID, TRL_ERROR_OUT_OF_BOUND, "out of bound cursor value", 0 },

        { VOCABULARY_ERROR, ACE_INVALID_REQUEST, "invalid_request", 0 },
        { VOCABULARY_ERROR, ACE_INVALID_CLIENT, "invalid_client", 0 },
        { VOCABULARY_ERROR, ACE_INVALID_GRANT, "invalid_grant", 0 },
        { VOCABULARY_ERROR, ACE_UNAUTHORIZED_CLIENT, "unauthorized_client", 0 },
        { VOCABULARY_ERROR, ACE_UNSUPPORTED_GRANT_TYPE, "unsupported_grant_type", 0 },
        { VOCABULARY_ERROR, ACE_INVALID_SCOPE, "invalid_scope", 0 },
        { VOCABULARY_ERROR, ACE_UNSUPPORTED_POP_KEY, "unsupported_pop_key", 0 },
        { VOCABULARY_ERROR, ACE_INCOMPATIBLE_PROFILES, "incompatible_ace_profiles", 0 },

        { VOCABULARY_PROFILE, PROFILE_COAP_DTLS, "coap_dtls", 0 },
        { VOCABULARY_PROFILE, PROFILE_COAP_OSCORE, "coap_oscore", 0 },
        { VOCABULARY_PROFILE, PROFILE_MQTT_TLS, "mqtt_tls", 0 },

        { VOCABULARY_TOKEN_TYPE, TOKEN_TYPE_BEARER, "Bearer", 0 },
        { VOCABULARY_TOKEN_TYPE, TOKEN_TYPE_POP, "PoP", 0 },

        { VOCABULARY_ALGORITHM, COSE_A128GCM, "A128GCM", 0 },
        { VOCABULARY_ALGORITHM, COSE_A256GCM, "A256GCM", 0 },
        { VOCABULARY_ALGORITHM, COSE_HMAC_256_64, "HMAC 256/64", 0 },
        { VOCABULARY_ALGORITHM, COSE_HMAC_256_256, "HMAC 256/256", 0 },
        { VOCABULARY_ALGORITHM, COSE_AES_CCM_16_64_128, "AES-CCM-16-64-128", 0 },
        { VOCABULARY_ALGORITHM, COSE_AES_CCM_16_128_128, "AES-CCM-16-128-128", 0 },
        { VOCABULARY_ALGORITHM, COSE_CHACHA20_POLY1305, "ChaCha20/Poly1305", 0 },
        { VOCABULARY_ALGORITHM, COSE_ES256, "ES256", 0 },
        { VOCABULARY_ALGORITHM, COSE_EDDSA, "EdDSA", 0 },
        { VOCABULARY_ALGORITHM, COSE_ES384, "ES384", 0 },

        { VOCABULARY_KEY_TYPE, KTY_OKP, "OKP", 0 },
        { VOCABULARY_KEY_TYPE, KTY_EC2, "EC2", 0 },
        { VOCABULARY_KEY_TYPE, KTY_SYMMETRIC, "Symmetric", 0 },

        { VOCABULARY_CURVE, CRV_P256, "P-256", 0 },
        { VOCABULARY_CURVE, CRV_P384, "P-384", 0 },
        { VOCABULARY_CURVE, CRV_X25519, "X25519", 0 },
        { VOCABULARY_CURVE, CRV_ED25519, "Ed25519", 0 },
};

static const struct word *find_word(enum vocabulary vocabulary, int64_t number) {
        for (size_t i = 0; i < N_ELEMENTS(words); i++)
                if (words[i].vocabulary == vocabulary && words[i].number == number)
                        return &words[i];
        return NULL;
}

const char *describe_name(enum vocabulary vocabulary, int64_t number) {
        const struct word *word = vocabulary == VOCABULARY_NONE ? NULL : find_word(vocabulary, number);

        return word ? word->name : NULL;
}

static int describe_item(const struct cbor_item *item, enum vocabulary vocabulary, json_t **ret);

static int done(json_t *value, json_t **ret) {
        if (!value)
                return -ENOMEM;
        *ret = value;
        return 0;
}

static int describe_bytes(struct bytes bytes, const char *prefix, json_t **ret) {
        size_t size = strlen(prefix) + 2 * bytes.size + 1;
        _cleanup_(freep) char *text = malloc(size);
        int r;

        if (!text)
                return -ENOMEM;
        strcpy(text, prefix);
        bytes_to_hex(bytes, text + strlen(prefix), size - strlen(prefix));
        r = done(json_string(text), ret);
        wipe(text, size); /* it may be a key */
        return r;
}

static int describe_int(const struct cbor_item *item, enum vocabulary vocabulary, json_t **ret) {
        const char *name;
        char text[32];
        int64_t number;

        if (cbor_item_int(item, &number)) {
                name = describe_name(vocabulary, number);
                return done(name ? json_string(name) : json_integer(number), ret);
        }
        /* beyond JSON's integers; the least of CBOR, -2^64, does not even fit 64 bits with a sign */
        if (item->kind == CBOR_NEGINT)
                snprintf(text, sizeof(text), "-1-%" PRIu64, item->argument);
        else
                snprintf(text, sizeof(text), "%" PRIu64, item->argument);
        return done(json_string(text), ret);
}

/* A map's key as a member's name, and the vocabulary of the value. */
static int describe_key(const struct cbor_item *key, enum vocabulary vocabulary, struct buf *name,
                        enum vocabulary *ret_inner) {
        const struct word *word;
        int64_t number;

        *ret_inner = VOCABULARY_NONE;
        buf_clear(name);
        if (key->kind & CBOR_INT && cbor_item_int(key, &number)) {
                word = vocabulary == VOCABULARY_NONE ? NULL : find_word(vocabulary, number);
                if (!word)
                        return buf_printf(name, "%" PRId64, number);
                *ret_inner = word->inner;
                return buf_printf(name, "%s", word->name);
        }
        if (key->kind == CBOR_TEXT && !bytes_find(key->content, bytes_of("", 1)))
                return buf_add(name, key->content);
        return cbor_print(key->raw, name);
}

/* What the labels of this key mean. */
static enum vocabulary key_vocabulary(struct bytes key) {
        struct {
                struct cbor_item kty;
        } found = {};
        static const struct cbor_field fields[] = { { KEY_KTY, CBOR_ANY, 0 } };
        int64_t kty;

        if (cbor_map(key, fields, N_ELEMENTS(fields), &found) == 0 && found.kty.kind & CBOR_INT &&
            cbor_item_int(&found.kty, &kty) && (kty == KTY_EC2 || kty == KTY_OKP))
                return VOCABULARY_PUBLIC_KEY;
        return VOCABULARY_KEY;
}

#define MEMBER_NAME_MAX 4096

static int describe_map(const struct cbor_item *map, enum vocabulary vocabulary, json_t **ret) {
        _cleanup_(json_decrefp) json_t *object = json_object();
        _cleanup_(buf_done) struct buf name = BUF_INIT(MEMBER_NAME_MAX);
        struct cbor_item key, value;
        enum vocabulary inner;
        size_t pos = 0;
        int r;

        if (!object)
                return -ENOMEM;
        if (vocabulary == VOCABULARY_KEY)
                vocabulary = key_vocabulary(map->raw);
        while ((r = cbor_map_next(map->raw, &pos, &key, &value)) == 1) {
                json_t *member = NULL;

                if ((r = describe_key(&key, vocabulary, &name, &inner)) != 0 ||
                    (r = buf_add_byte(&name, 0)) != 0)
                        return r == -EOVERFLOW ? REFUSE_MALFORMED : r;
                if ((r = describe_item(&value, inner, &member)) != 0)
                        return r;
                if (json_object_set_new(object, (const char *)name.data, member) != 0)
                        return -ENOMEM;
        }
        if (r != 0)
                return r;
        *ret = TAKE_PTR(object);
        return 0;
}

#define ARRAY_ITEMS_MAX 4096

static int describe_array(const struct cbor_item *array, json_t **ret) {
        _cleanup_(json_decrefp) json_t *list = json_array();
        /* an item has a byte at least */
        size_t max = array->raw.size < ARRAY_ITEMS_MAX ? array->raw.size : ARRAY_ITEMS_MAX, n_items;
        _cleanup_(freep) struct cbor_item *items = calloc(max, sizeof(*items));
        int r;

        if (!list || !items)
                return -ENOMEM;
        if ((r = cbor_array(array->raw, items, max, &n_items)) != 0)
                return REFUSE_MALFORMED;
        for (size_t i = 0; i < n_items; i++) {
                json_t *element = NULL;

                if ((r = describe_item(&items[i], VOCABULARY_NONE, &element)) != 0)
                        return r;
                if (json_array_append_new(list, element) != 0)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(list);
        return 0;
}

static int describe_tag(const struct cbor_item *tag, json_t **ret) {
        json_t *value = NULL;
        int r;

        if ((r = describe_cbor(tag->content, VOCABULARY_NONE, &value)) != 0)
                return r;
        return done(json_pack("{s:I, s:o}", "tag", (json_int_t)tag->argument, "value", value), ret);
}

static int describe_item(const struct cbor_item *item, enum vocabulary vocabulary, json_t **ret) {
        const char *text;

        switch (item->kind) {
        case CBOR_UINT:
        case CBOR_NEGINT:
                return describe_int(item, vocabulary, ret);
        case CBOR_BYTES:
                return describe_bytes(item->content, vocabulary == VOCABULARY_TEXT ? "hex:" : "", ret);
        case CBOR_TEXT:
                text = item->content.size > 0 ? (const char *)item->content.data : "";
                return done(json_stringn(text, item->content.size), ret);
        case CBOR_MAP:
                return describe_map(item, vocabulary, ret);
        case CBOR_ARRAY:
                return describe_array(item, ret);
        case CBOR_TAG:
                return describe_tag(item, ret);
        case CBOR_BOOL:
                return done(json_boolean(item->argument), ret);
        case CBOR_FLOAT:
                /* JSON has no number for an infinity */
                return done(json_real(item->number) ?: json_null(), ret);
        default:
                return done(json_null(), ret);
        }
}

int describe_cbor(struct bytes raw, enum vocabulary vocabulary, json_t **ret) {
        struct cbor_item item;
        int r;

        if ((r = cbor_item(raw, &item)) != 0)
                return r;
        return describe_item(&item, vocabulary, ret);
}

/* ---- JSON as lines */

/* What a server sends must not drive the terminal. */
static void print_text(struct bytes text, FILE *out) {
        while (text.size > 0) {
                size_t size = bytes_shown_size(text);

                if (size > 0)
                        fwrite(text.data, 1, size, out);
                else
                        fprintf(out, "\\x%02x", *text.data);
                size = size > 0 ? size : 1;
                text = bytes_of(text.data + size, text.size - size);
        }
}

static void print_date(const char *name, const json_t *value, FILE *out) {
        static const char *const times[] = { "exp", "nbf", "iat" };
        time_t seconds = (time_t)json_integer_value(value);
        struct tm tm;
        char date[32];

        for (size_t i = 0; i < N_ELEMENTS(times); i++)
                if (name && strcmp(name, times[i]) == 0 && gmtime_r(&seconds, &tm) &&
                    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0)
                        fprintf(out, " (%s)", date);
}

static void print_value(const char *name, const json_t *value, int indent, FILE *out);

static void print_member(const char *name, const json_t *value, int indent, FILE *out) {
        bool nested = json_object_size(value) > 0 || json_array_size(value) > 0;

        fprintf(out, "%*s", indent, "");
        print_text(bytes_text(name), out);
        fputs(nested ? ":\n" : ": ", out);
        print_value(name, value, nested ? indent + 2 : 0, out);
}

static void print_value(const char *name, const json_t *value, int indent, FILE *out) {
        const char *member_name;
        json_t *member;
        size_t i;

        if (json_object_size(value) > 0) {
                json_object_foreach((json_t *)value, member_name, member)
                        print_member(member_name, member, indent, out);
                return;
        }
        if (json_array_size(value) > 0) {
                json_array_foreach(value, i, member)
                        print_member("-", member, indent, out);
                return;
        }
        if (json_is_string(value))
                print_text(bytes_of(json_string_value(value), json_string_length(value)), out);
        else if (json_is_integer(value))
                fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        else if (json_is_real(value))
                fprintf(out, "%.17g", json_real_value(value));
        else if (json_is_boolean(value))
                fputs(json_is_true(value) ? "true" : "false", out);
        else
                fputs(json_is_null(value) ? "null" : "none", out);
        if (json_is_integer(value))
                print_date(name, value, out);
        fputc('\n', out);
}

void describe_print(const json_t *value, int indent, FILE *out) {
        print_value(NULL, value, indent, out);
}
