#include "format/oscore_record.h"

#include <errno.h>
#include <jansson.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/cbor.h"
#include "format/cose.h"
#include "format/json.h"
#include "format/labels.h"
#include "format/oscore.h"

#define DEFAULT_ALG AEAD_AES_CCM_16_64_128 /* RFC 8613 §3.2 */
#define DEFAULT_HKDF OSCORE_HKDF_SHA256

/* Labels of our own: what OSCORE_Input_Material calls IDs are those of a context yet to be made (RFC 9203 §3.2.1). */
enum { RECORD_SENDER_ID = -1, RECORD_RECIPIENT_ID = -2, RECORD_RENEWS = -3 };

void oscore_record_done(struct oscore_record *record) {
        secret_done(&record->master_secret);
}

static bool is_good(const struct oscore_record *record) {
        return oscore_parameters_are_good(&record->parameters) &&
               record->master_secret.size >= OSCORE_SECRET_SIZE_MIN && record->master_secret.size <= SECRET_SIZE_MAX;
}

static struct bytes id_bytes(const struct oscore_id *id) {
        return bytes_of(id->data, id->size);
}

/* ---- CBOR */

static void put_bytes(struct cbor_writer *w, int label, struct bytes value) {
        cbor_put_int(w, label);
        cbor_put_bytes(w, value);
}

static void put_int(struct cbor_writer *w, int label, int value) {
        cbor_put_int(w, label);
        cbor_put_int(w, value);
}

int oscore_record_encode(const struct oscore_record *record, struct buf *out) {
        const struct oscore_parameters *p = &record->parameters;
        bool has_hkdf = p->hkdf != DEFAULT_HKDF, has_alg = p->alg != DEFAULT_ALG, has_salt = p->salt_size > 0;
        struct cbor_writer w = CBOR_WRITER(out);

        cbor_hold(&w, OSCORE_RECORD_SIZE_MAX);
        cbor_put_map(&w, 3u + has_hkdf + has_alg + has_salt + p->has_id_context + p->renews);
        put_bytes(&w, OSC_MS, secret_bytes(&record->master_secret));
        if (has_hkdf)
                put_int(&w, OSC_HKDF, oscore_hkdf_label(p->hkdf));
        if (has_alg)
                put_int(&w, OSC_ALG, cose_aead_label(p->alg));
        if (has_salt)
                put_bytes(&w, OSC_SALT, bytes_of(p->salt, p->salt_size));
        if (p->has_id_context)
                put_bytes(&w, OSC_CONTEXT_ID, bytes_of(p->id_context, p->id_context_size));
        put_bytes(&w, RECORD_SENDER_ID, id_bytes(&p->sender_id));
        put_bytes(&w, RECORD_RECIPIENT_ID, id_bytes(&p->recipient_id));
        if (p->renews) {
                cbor_put_int(&w, RECORD_RENEWS);
                cbor_put_bool(&w, true);
        }
        return cbor_end(&w);
}

struct record_items {
        struct cbor_item ms, hkdf, alg, salt, id_context, sender_id, recipient_id, renews;
};

#define FIELD(label, kinds, member) { label, kinds, offsetof(struct record_items, member) }

static const struct cbor_field record_fields[] = {
        FIELD(OSC_MS, CBOR_BYTES, ms),
        FIELD(OSC_HKDF, CBOR_INT, hkdf),
        FIELD(OSC_ALG, CBOR_INT, alg),
        FIELD(OSC_SALT, CBOR_BYTES, salt),
        FIELD(OSC_CONTEXT_ID, CBOR_BYTES, id_context),
        FIELD(RECORD_SENDER_ID, CBOR_BYTES, sender_id),
        FIELD(RECORD_RECIPIENT_ID, CBOR_BYTES, recipient_id),
        FIELD(RECORD_RENEWS, CBOR_BOOL, renews),
};

static bool take_bytes(struct bytes from, uint8_t *to, size_t size_max, size_t *ret_size) {
        if (from.size > size_max)
                return false;
        if (from.size > 0)
                memcpy(to, from.data, from.size);
        *ret_size = from.size;
        return true;
}

static bool take_id(const struct cbor_item *item, struct oscore_id *ret) {
        return item->kind == CBOR_BYTES && take_bytes(item->content, ret->data, sizeof(ret->data), &ret->size);
}

static bool take_items(const struct record_items *items, struct oscore_record *ret) {
        struct oscore_parameters *p = &ret->parameters;
        int64_t number;

        *p = (struct oscore_parameters){ .alg = DEFAULT_ALG, .hkdf = DEFAULT_HKDF,
                                         .has_id_context = items->id_context.kind != CBOR_ABSENT,
                                         .renews = items->renews.kind != CBOR_ABSENT };
        if (items->hkdf.kind != CBOR_ABSENT)
                p->hkdf = cbor_item_int(&items->hkdf, &number) ? oscore_hkdf_from_label(number) : (enum oscore_hkdf)0;
        if (items->alg.kind != CBOR_ABSENT)
                p->alg = cbor_item_int(&items->alg, &number) ? cose_aead_from_label(number) : AEAD_NONE;
        return take_bytes(items->salt.content, p->salt, sizeof(p->salt), &p->salt_size) &&
               take_bytes(items->id_context.content, p->id_context, sizeof(p->id_context), &p->id_context_size) &&
               take_id(&items->sender_id, &p->sender_id) && take_id(&items->recipient_id, &p->recipient_id) &&
               secret_set(&ret->master_secret, items->ms.content) == 0 && is_good(ret);
}

int oscore_record_decode(struct bytes raw, struct oscore_record *ret) {
        _cleanup_(buf_done) struct buf again = BUF_INIT(OSCORE_RECORD_SIZE_MAX);
        struct oscore_record record = {};
        struct record_items items;
        int r = cbor_map(raw, record_fields, N_ELEMENTS(record_fields), &items);

        if (r == 0 && !take_items(&items, &record))
                r = REFUSE_WRONG_TYPE;
        /* what comes out as it went in has nothing in it that was passed over */
        if (r == 0 && (r = oscore_record_encode(&record, &again)) == 0 && !bytes_equal_ct(buf_bytes(&again), raw))
                r = REFUSE_WRONG_TYPE;
        if (again.data)
                wipe(again.data, again.capacity);
        if (r == 0) {
                ret->parameters = record.parameters;
                secret_move(&ret->master_secret, &record.master_secret);
        }
        oscore_record_done(&record);
        return r;
}

/* ---- JSON */

#define HEX_SIZE_MAX (2 * SECRET_SIZE_MAX + 1)

static json_t *hex_json(struct bytes bytes) {
        char text[HEX_SIZE_MAX];
        json_t *value;

        bytes_to_hex(bytes, text, sizeof(text));
        value = json_string(text);
        wipe(text, sizeof(text));
        return value;
}

_Static_assert(OSCORE_ID_CONTEXT_SIZE_MAX <= SECRET_SIZE_MAX && OSCORE_SALT_SIZE_MAX <= SECRET_SIZE_MAX, "room");

struct json_t *oscore_record_json(const struct oscore_record *record) {
        const struct oscore_parameters *p = &record->parameters;
        json_t *object = json_pack("{s:o, s:o, s:o, s:o}", "master_secret_hex",
                                   hex_json(secret_bytes(&record->master_secret)), "master_salt_hex",
                                   hex_json(bytes_of(p->salt, p->salt_size)), "sender_id_hex",
                                   hex_json(id_bytes(&p->sender_id)), "recipient_id_hex",
                                   hex_json(id_bytes(&p->recipient_id)));
        bool failed = !object;

        if (p->has_id_context)
                failed |= json_object_set_new(object, "id_context_hex",
                                              hex_json(bytes_of(p->id_context, p->id_context_size))) != 0;
        failed |= json_object_set_new(object, "alg", json_string(aead_name(p->alg))) != 0;
        failed |= json_object_set_new(object, "hkdf", json_string(oscore_hkdf_name(p->hkdf))) != 0;
        if (p->renews)
                failed |= json_object_set_new(object, "renews", json_true()) != 0;
        if (!failed)
                return object;
        json_decref(object);
        return NULL;
}

struct record_text {
        const char *master_secret_hex, *master_salt_hex, *sender_id_hex, *recipient_id_hex, *id_context_hex;
        const char *alg, *hkdf;
        struct json_bool renews;
};

#define TEXT_FIELD(member, is_required)                                                                               \
        { .name = #member, .kind = JSON_FIELD_TEXT, .offset = offsetof(struct record_text, member),                   \
          .required = is_required }

static const struct json_field text_fields[] = {
        TEXT_FIELD(master_secret_hex, true), TEXT_FIELD(master_salt_hex, false), TEXT_FIELD(sender_id_hex, true),
        TEXT_FIELD(recipient_id_hex, true), TEXT_FIELD(id_context_hex, false), TEXT_FIELD(alg, false),
        TEXT_FIELD(hkdf, false),
        { .name = "renews", .kind = JSON_FIELD_BOOL, .offset = offsetof(struct record_text, renews) },
};

static int value_fault(struct diags *faults, const char *member, const char *what) {
        int r = diags_add(faults, NULL, 0, "member \"%s\": %s", member, what);

        return r < 0 ? r : REFUSE_ADMIN_VALUE;
}

static int read_hex(struct diags *faults, const char *member, const char *hex, uint8_t *ret, size_t size_max,
                    size_t *ret_size) {
        int r = hex ? bytes_from_hex(hex, ret, size_max, ret_size) : 0;

        return r == 0 ? 0 : value_fault(faults, member, r == -EOVERFLOW ? "it is too long" : "it is not hexadecimal");
}

/* Each by itself is as it should be; do they go together? */
static int check_together(const struct oscore_record *record, struct diags *faults) {
        if (record->master_secret.size < OSCORE_SECRET_SIZE_MIN)
                return value_fault(faults, "master_secret_hex", "it is too short");
        if (oscore_id_equal(&record->parameters.sender_id, &record->parameters.recipient_id))
                return value_fault(faults, "recipient_id_hex", "it is the sender ID, too");
        return is_good(record) ? 0 : value_fault(faults, "sender_id_hex", "an ID is too long for the algorithm");
}

static int take_text(const struct record_text *text, struct oscore_record *ret, struct diags *faults) {
        struct oscore_parameters *p = &ret->parameters;
        int r;

        *p = (struct oscore_parameters){
                .alg = text->alg ? aead_from_name(text->alg) : DEFAULT_ALG,
                .hkdf = text->hkdf ? oscore_hkdf_from_name(text->hkdf) : DEFAULT_HKDF,
                .has_id_context = text->id_context_hex, .renews = text->renews.value,
        };
        if (p->alg == AEAD_NONE)
                return value_fault(faults, "alg", "it is no algorithm that is known");
        if (p->hkdf == 0)
                return value_fault(faults, "hkdf", "SHA-256 or SHA-512 is expected");
        if ((r = read_hex(faults, "master_secret_hex", text->master_secret_hex, ret->master_secret.data,
                          SECRET_SIZE_MAX, &ret->master_secret.size)) != 0 ||
            (r = read_hex(faults, "master_salt_hex", text->master_salt_hex, p->salt, sizeof(p->salt),
                          &p->salt_size)) != 0 ||
            (r = read_hex(faults, "sender_id_hex", text->sender_id_hex, p->sender_id.data, sizeof(p->sender_id.data),
                          &p->sender_id.size)) != 0 ||
            (r = read_hex(faults, "recipient_id_hex", text->recipient_id_hex, p->recipient_id.data,
                          sizeof(p->recipient_id.data), &p->recipient_id.size)) != 0 ||
            (r = read_hex(faults, "id_context_hex", text->id_context_hex, p->id_context, sizeof(p->id_context),
                          &p->id_context_size)) != 0)
                return r;
        return check_together(ret, faults);
}

static int read_json(struct bytes text, struct oscore_record *ret, struct diags *faults) {
        _cleanup_(json_document_done) struct json_document document = {};
        struct record_text members;
        json_t *record;
        int r = json_parse(text, &document, faults);

        if (r != 0)
                return r;
        record = json_object_get(document.root, "record");
        r = json_read_value(record ? record : document.root, text_fields, N_ELEMENTS(text_fields), &members, faults);
        return r == 0 ? take_text(&members, ret, faults) : r;
}

/* ---- either */

static bool is_space(uint8_t c) {
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct bytes trim(struct bytes text) {
        while (text.size > 0 && is_space(text.data[0]))
                text = bytes_of(text.data + 1, text.size - 1);
        while (text.size > 0 && is_space(text.data[text.size - 1]))
                text.size--;
        return text;
}

static int read_cbor(struct bytes hex, struct oscore_record *ret, struct diags *faults) {
        uint8_t raw[OSCORE_RECORD_SIZE_MAX];
        char digits[2 * sizeof(raw) + 1];
        size_t size;
        int r = -EINVAL;

        if (hex.size < sizeof(digits) && !memchr(hex.data, '\0', hex.size)) {
                memcpy(digits, hex.data, hex.size);
                digits[hex.size] = '\0';
                r = bytes_from_hex(digits, raw, sizeof(raw), &size);
        }
        if (r == 0)
                r = oscore_record_decode(bytes_of(raw, size), ret);
        wipe(digits, sizeof(digits));
        wipe(raw, sizeof(raw));
        if (r == 0 || r == -ENOMEM)
                return r;
        r = diags_add(faults, NULL, 0, "this is no provisioning record: the JSON or the hexadecimal that acectl "
                      "printed is expected");
        return r < 0 ? r : REFUSE_ADMIN_SYNTAX;
}

int oscore_record_read(struct bytes text, struct oscore_record *ret, struct diags *faults) {
        struct oscore_record record = {};
        int r;

        text = trim(text);
        if (text.size > 0 && text.size <= OSCORE_RECORD_TEXT_MAX && text.data[0] == '{')
                r = read_json(text, &record, faults);
        else
                r = read_cbor(text, &record, faults);
        if (r == 0) {
                ret->parameters = record.parameters;
                secret_move(&ret->master_secret, &record.master_secret);
        }
        oscore_record_done(&record);
        return r;
}
