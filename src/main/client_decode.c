#include "main/client.h"

#include <inttypes.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/cbor.h"
#include "format/cose.h"
#include "format/cwt.h"

/* What a token says, in layers: tags around a COSE object around claims or another such object. */

#define COSE_ITEMS_MAX 4 /* in the outermost array of a COSE object */
#define TAGS_MAX 4       /* around it */
#define LAYERS_MAX 3     /* RFC 8392 §7.1 nests without limit; a signed and encrypted one has two */
#define OPAQUE_SIZE (sizeof(uint64_t) + OPAQUE_RANDOM_SIZE)
#define DERIVED_KEY_SIZE 16 /* what the suites with AES-128 take (RFC 9202 §3.3.1 leaves it to both ends) */

/* One layer: what is seen without a key. */
struct layer {
        struct bytes object;   /* without tags */
        uint64_t tag;          /* of COSE; told by the shape when there is none */
        struct cbor_item items[COSE_ITEMS_MAX];
        size_t n_items;
};

static const char *cose_name(uint64_t tag) {
        switch (tag) {
        case TAG_COSE_ENCRYPT0:
                return "COSE_Encrypt0";
        case TAG_COSE_MAC0:
                return "COSE_Mac0";
        case TAG_COSE_SIGN1:
                return "COSE_Sign1";
        case TAG_CWT:
                return "CWT";
        default:
                return "unknown tag";
        }
}

static bool is_cose_tag(uint64_t tag) {
        return tag == TAG_COSE_ENCRYPT0 || tag == TAG_COSE_MAC0 || tag == TAG_COSE_SIGN1;
}

/* Take the tags off, outermost first, naming each. */
static int take_tags(struct layer *layer, json_t *shown) {
        json_t *tags = json_array();
        struct cbor_item item;

        if (json_object_set_new(shown, "tags", tags) != 0)
                return out_of_memory();
        for (unsigned n = 0;; n++) {
                if (cbor_item(layer->object, &item) != 0)
                        return fail(EXIT_REFUSED, "this is not one well-formed CBOR item, so no CWT; if it is an "
                                                  "opaque token, introspect it");
                if (item.kind != CBOR_TAG)
                        return 0;
                if (n == TAGS_MAX)
                        return fail(EXIT_REFUSED, "more than %d tags: no CWT", TAGS_MAX);
                if (json_array_append_new(tags, json_sprintf("%s (%ju)", cose_name(item.argument),
                                                             (uintmax_t)item.argument)) != 0)
                        return out_of_memory();
                if (is_cose_tag(item.argument))
                        layer->tag = item.argument;
                layer->object = item.content;
        }
}

/* Three items are encrypted; of four, the algorithm tells a MAC from a signature (RFC 9053: those are negative). */
static uint64_t tag_by_shape(const struct layer *layer) {
        struct {
                struct cbor_item alg;
        } header = {};
        static const struct cbor_field fields[] = { { HEADER_ALG, CBOR_ANY, 0 } };

        if (layer->n_items == 3)
                return TAG_COSE_ENCRYPT0;
        if (cbor_map(layer->items[0].content, fields, N_ELEMENTS(fields), &header) != 0)
                return TAG_COSE_MAC0;
        return header.alg.kind == CBOR_NEGINT ? TAG_COSE_SIGN1 : TAG_COSE_MAC0;
}

static int take_shape(struct layer *layer) {
        const struct cbor_item *items = layer->items;

        if (cbor_array(layer->object, layer->items, N_ELEMENTS(layer->items), &layer->n_items) != 0 ||
            layer->n_items < 3 || items[0].kind != CBOR_BYTES || items[1].kind != CBOR_MAP ||
            items[2].kind != CBOR_BYTES || (layer->n_items == 4 && items[3].kind != CBOR_BYTES))
                return fail(EXIT_REFUSED, "this is no COSE object of one recipient, so no CWT");
        if (layer->tag == 0)
                layer->tag = tag_by_shape(layer);
        if ((layer->tag == TAG_COSE_ENCRYPT0) != (layer->n_items == 3))
                return fail(EXIT_REFUSED, "a %s has not %zu parts", cose_name(layer->tag), layer->n_items);
        return 0;
}

/* The headers and the size of what follows. */
static int show_outside(const struct layer *layer, json_t *shown) {
        json_t *protected_header = NULL, *unprotected_header = NULL;

        if (layer->items[0].content.size == 0)
                protected_header = json_object();
        else if (describe_cbor(layer->items[0].content, VOCABULARY_HEADER, &protected_header) != 0)
                return fail(EXIT_REFUSED, "the protected header is no CBOR");
        if (json_object_set_new(shown, "type", json_string(cose_name(layer->tag))) != 0 ||
            json_object_set_new(shown, "protected", protected_header) != 0 ||
            describe_cbor(layer->items[1].raw, VOCABULARY_HEADER, &unprotected_header) != 0 ||
            json_object_set_new(shown, "unprotected", unprotected_header) != 0 ||
            json_object_set_new(shown, "content_size", json_integer((json_int_t)layer->items[2].content.size)) != 0)
                return out_of_memory();
        return 0;
}

/* ---- with keys */

static int decrypt(struct bytes object, struct bytes key, const char *what, struct buf *plain) {
        struct cose_encrypt0_parts parts;
        int r;

        if (cose_encrypt0_parse(object, &parts) != 0)
                return fail(EXIT_REFUSED, "the %s's algorithm or headers are unknown to this program", what);
        if (key.size != aead_info(parts.alg)->key_size)
                return fail(EXIT_REFUSED, "the %s's algorithm needs a key of %zu bytes, not of %zu", what,
                            aead_info(parts.alg)->key_size, key.size);
        if ((r = cose_encrypt0_open(object, key, plain)) != 0)
                return fail(r > 0 ? EXIT_REFUSED : EXIT_INTERNAL, "the %s does not open with this key", what);
        return 0;
}

/* Its claims can be read by anybody; whether they are the server's is another question. */
static int verify(const struct settings *settings, const struct layer *layer, json_t *shown) {
        bool is_mac = layer->tag == TAG_COSE_MAC0;
        bool has_key = is_mac ? settings->key.size > 0 : settings->as_key.curve != CURVE_NONE;
        struct bytes payload;
        int r = 0;

        if (has_key)
                r = is_mac ? cose_mac0_open(layer->object, secret_bytes(&settings->key), &payload) :
                             cose_sign1_open(layer->object, &settings->as_key, &payload);
        if (r < 0)
                return fail(EXIT_INTERNAL, "%s", strerror(-r));
        if (r != 0)
                return fail(EXIT_REFUSED, "the token's %s is not of this key", is_mac ? "MAC" : "signature");
        return json_object_set_new(shown, "verified", json_boolean(has_key)) == 0 ? 0 : out_of_memory();
}

/* ---- the claims */

struct claims {
        struct cbor_item cnf;
};

struct cnf {
        struct cbor_item encrypted_key;
};

/* The PoP key of an Encrypted_COSE_Key (RFC 8747 §3.3). 0 also when there is none, or no key for it. */
static int show_encrypted_key(const struct settings *settings, struct bytes claims, json_t *shown) {
        static const struct cbor_field claim_fields[] = { { CLAIM_CNF, CBOR_MAP, offsetof(struct claims, cnf) } };
        static const struct cbor_field cnf_fields[] = {
                { CNF_ENCRYPTED_COSE_KEY, CBOR_ARRAY | CBOR_TAG, offsetof(struct cnf, encrypted_key) },
        };
        const struct secret *key = settings->wrap_key.size > 0 ? &settings->wrap_key : &settings->key;
        _cleanup_(buf_wiped) struct buf plain = BUF_INIT(TALK_BODY_MAX);
        struct claims found;
        struct cnf cnf;
        json_t *described = NULL;
        int status;

        if (key->size == 0 || cbor_map(claims, claim_fields, N_ELEMENTS(claim_fields), &found) != 0 ||
            found.cnf.kind == CBOR_ABSENT ||
            cbor_map(found.cnf.raw, cnf_fields, N_ELEMENTS(cnf_fields), &cnf) != 0 ||
            cnf.encrypted_key.kind == CBOR_ABSENT)
                return 0;
        if ((status = decrypt(cnf.encrypted_key.raw, secret_bytes(key), "PoP key", &plain)) != 0)
                return status;
        if (describe_cbor(buf_bytes(&plain), VOCABULARY_KEY, &described) != 0)
                return fail(EXIT_REFUSED, "the PoP key is no CBOR");
        return json_object_set_new(shown, "pop_key", described) == 0 ? 0 : out_of_memory();
}

static int show_claims(const struct settings *settings, struct bytes claims, json_t *shown) {
        json_t *described = NULL;
        int r = describe_cbor(claims, VOCABULARY_CLAIMS, &described);

        if (r > 0)
                return fail(EXIT_REFUSED, "the token's content is no CBOR");
        if (r < 0 || json_object_set_new(shown, "claims", described) != 0)
                return out_of_memory();
        return show_encrypted_key(settings, claims, shown);
}

static int show_layer(const struct settings *settings, struct bytes object, unsigned depth, json_t *shown);

/* What a layer is about: claims, which are a map, or a COSE object. */
static int show_content(const struct settings *settings, struct bytes content, unsigned depth, json_t *shown) {
        struct cbor_item item;
        json_t *inner;

        if (cbor_item(content, &item) == 0 && item.kind == CBOR_MAP)
                return show_claims(settings, content, shown);
        if (depth + 1 == LAYERS_MAX)
                return fail(EXIT_REFUSED, "more than %d COSE objects inside each other", LAYERS_MAX);
        if (json_object_set_new(shown, "content", inner = json_object()) != 0)
                return out_of_memory();
        return show_layer(settings, content, depth + 1, inner);
}

static int show_layer(const struct settings *settings, struct bytes object, unsigned depth, json_t *shown) {
        _cleanup_(buf_wiped) struct buf plain = BUF_INIT(TALK_BODY_MAX);
        struct layer layer = { .object = object };
        int status;

        if ((status = take_tags(&layer, shown)) != 0 || (status = take_shape(&layer)) != 0 ||
            (status = show_outside(&layer, shown)) != 0)
                return status;
        if (layer.tag != TAG_COSE_ENCRYPT0)
                return verify(settings, &layer, shown) ?:
                       show_content(settings, layer.items[2].content, depth, shown);
        if (settings->key.size == 0)
                return 0;
        return decrypt(layer.object, secret_bytes(&settings->key), "token", &plain) ?:
               show_content(settings, buf_bytes(&plain), depth, shown);
}

/* ---- the verb */

static int hex_member(json_t *object, const char *name, struct bytes bytes) {
        char text[2 * 64 + 1];
        int r;

        bytes_to_hex(bytes, text, sizeof(text));
        r = json_object_set_new(object, name, json_string(text));
        wipe(text, sizeof(text));
        return r == 0 ? 0 : out_of_memory();
}

/* A reference of aced's: its number, then bytes that nobody can guess. Nothing else can be said of it here. */
static int show_opaque(struct bytes token, json_t *shown) {
        struct cwt_place place;

        if (cwt_find_place(token, &place) != 0)
                return fail(EXIT_REFUSED, "this is no token");
        if (json_object_set_new(shown, "type", json_string("opaque reference")) != 0 ||
            json_object_set_new(shown, "number", json_integer((json_int_t)place.number)) != 0)
                return out_of_memory();
        return 0;
}

static int show_token(const struct settings *settings, struct bytes token, json_t *shown) {
        bool is_opaque = token.size == OPAQUE_SIZE && token.data[0] == 0; /* as format/cwt.c tells them */
        uint8_t hash[1 + TOKEN_HASH_SIZE];
        _cleanup_(secret_done) struct secret derived = {};
        int status = is_opaque ? show_opaque(token, shown) : show_layer(settings, token, 0, shown);

        if (status != 0)
                return status;
        if (cwt_trl_hash(token, hash) != 0)
                return out_of_memory();
        if ((status = hex_member(shown, "trl_hash", bytes_of(hash, sizeof(hash)))) != 0 ||
            settings->derivation_key.size == 0)
                return status;
        if (cwt_derive_key(secret_bytes(&settings->derivation_key), token, DERIVED_KEY_SIZE, &derived) != 0)
                return out_of_memory();
        return hex_member(shown, "derived_key", secret_bytes(&derived));
}

int verb_decode(const struct settings *settings, char *const *arguments) {
        _cleanup_(json_decrefp) json_t *shown = json_object(), *token = json_object();
        _cleanup_(buf_wiped) struct buf given = BUF_INIT(TALK_BODY_MAX);
        json_t *answer = NULL;
        struct bytes bytes;
        int status;

        if (!shown || !token)
                return out_of_memory();
        if (settings->output == OUTPUT_CBOR)
                return fail(EXIT_USAGE, "--output: cbor is what a server answered, and decode asks none");
        if ((status = read_argument(arguments[0], &given)) != 0)
                return status;
        if (token_in_answer(buf_bytes(&given), ACE_ACCESS_TOKEN, &bytes)) {
                if (describe_cbor(buf_bytes(&given), VOCABULARY_TOKEN, &answer) != 0 ||
                    json_object_set_new(shown, "answer", answer) != 0)
                        return out_of_memory();
        } else {
                bytes = buf_bytes(&given);
        }
        if ((status = show_token(settings, bytes, token)) != 0)
                return status;
        if (json_object_set(shown, "token", token) != 0)
                return out_of_memory();
        return show(settings, shown);
}
