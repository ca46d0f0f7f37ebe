#include "format/audit.h"

#include <stddef.h>

#include "base/cleanup.h"
#include "domain/aif.h"
#include "domain/refusal.h"
#include "format/cbor.h"

enum key {
        KEY_DECISION = 1, KEY_PEER, KEY_CREDENTIAL, KEY_UID, KEY_PARTY, KEY_ACTION, KEY_CODE, KEY_REFUSAL, KEY_WHY,
        KEY_OBJECT, KEY_ASKED, KEY_GRANTED, KEY_TOKEN, KEY_POLICIES, KEY_MORE_POLICIES, KEY_EXPIRES, KEY_BODY, KEY_CUT,
        KEY_SHADOW, KEYS,
};

/* ---- writing */

static const struct text_row {
        enum key key;
        size_t offset;
} texts[] = {
        { KEY_PEER, offsetof(struct audit_record, peer) },
        { KEY_PARTY, offsetof(struct audit_record, party) },
        { KEY_ACTION, offsetof(struct audit_record, action) },
        { KEY_REFUSAL, offsetof(struct audit_record, refusal) },
        { KEY_WHY, offsetof(struct audit_record, why) },
        { KEY_OBJECT, offsetof(struct audit_record, object) },
        { KEY_BODY, offsetof(struct audit_record, body) },
};

static struct bytes text_of(const struct audit_record *record, size_t i) {
        return *(const struct bytes *)((const char *)record + texts[i].offset);
}

static size_t count_pairs(const struct audit_record *record) {
        size_t n = 1; /* the decision */

        for (size_t i = 0; i < N_ELEMENTS(texts); i++)
                n += text_of(record, i).size > 0;
        return n + (record->credential_id != 0) + record->has_uid + (record->code != 0) +
               (record->asked_kind != SCOPE_NONE) + (record->granted_kind != SCOPE_NONE) + (record->token != 0) +
               (record->n_policies > 0) + (record->n_more_policies > 0) + (record->expires_s > 0) + record->is_cut +
               record->has_shadow;
}

static void put_number(struct cbor_writer *w, enum key key, bool is_there, uint64_t value) {
        if (!is_there)
                return;
        cbor_put_uint(w, key);
        cbor_put_uint(w, value);
}

static void put_scope(struct cbor_writer *w, enum key key, enum scope_kind kind, struct bytes scope) {
        if (kind == SCOPE_NONE)
                return;
        cbor_put_uint(w, key);
        if (kind == SCOPE_TEXT || kind == SCOPE_AIF) /* as struct scope has it: no text scope begins as AIF does */
                cbor_put_text(w, scope);
        else
                cbor_put_bytes(w, scope);
}

static void put_policies(struct cbor_writer *w, const struct audit_record *record) {
        if (record->n_policies == 0)
                return;
        cbor_put_uint(w, KEY_POLICIES);
        cbor_put_array(w, record->n_policies);
        for (size_t i = 0; i < record->n_policies; i++)
                cbor_put_int(w, record->policies[i]);
}

int audit_record_encode(const struct audit_record *record, struct buf *out) {
        struct cbor_writer w = CBOR_WRITER(out);

        cbor_put_map(&w, count_pairs(record));
        put_number(&w, KEY_DECISION, true, record->decision);
        for (size_t i = 0; i < N_ELEMENTS(texts); i++) {
                struct bytes text = text_of(record, i);

                if (text.size > 0) {
                        cbor_put_uint(&w, texts[i].key);
                        cbor_put_text(&w, text);
                }
        }
        put_number(&w, KEY_CREDENTIAL, record->credential_id != 0, (uint64_t)record->credential_id);
        put_number(&w, KEY_UID, record->has_uid, record->uid);
        put_number(&w, KEY_CODE, record->code != 0, record->code);
        put_scope(&w, KEY_ASKED, record->asked_kind, record->asked);
        put_scope(&w, KEY_GRANTED, record->granted_kind, record->granted);
        put_number(&w, KEY_TOKEN, record->token != 0, record->token);
        put_policies(&w, record);
        put_number(&w, KEY_MORE_POLICIES, record->n_more_policies > 0, record->n_more_policies);
        put_number(&w, KEY_EXPIRES, record->expires_s > 0, (uint64_t)record->expires_s);
        if (record->is_cut) {
                cbor_put_uint(&w, KEY_CUT);
                cbor_put_bool(&w, true);
        }
        put_scope(&w, KEY_SHADOW, record->has_shadow ? record->shadow_kind : SCOPE_NONE, record->shadow);
        if (record->has_shadow && record->shadow_kind == SCOPE_NONE) {
                cbor_put_uint(&w, KEY_SHADOW);
                cbor_put_null(&w);
        }
        return cbor_end(&w);
}

/* ---- reading */

struct items {
        struct cbor_item of[KEYS];
};

#define ITEM(key, kinds) { key, kinds, offsetof(struct items, of) + (key) * sizeof(struct cbor_item) }

static const struct cbor_field fields[] = {
        ITEM(KEY_DECISION, CBOR_UINT),
        ITEM(KEY_PEER, CBOR_TEXT),
        ITEM(KEY_CREDENTIAL, CBOR_UINT),
        ITEM(KEY_UID, CBOR_UINT),
        ITEM(KEY_PARTY, CBOR_TEXT),
        ITEM(KEY_ACTION, CBOR_TEXT),
        ITEM(KEY_CODE, CBOR_UINT),
        ITEM(KEY_REFUSAL, CBOR_TEXT),
        ITEM(KEY_WHY, CBOR_TEXT),
        ITEM(KEY_OBJECT, CBOR_TEXT),
        ITEM(KEY_ASKED, CBOR_TEXT_OR_BYTES),
        ITEM(KEY_GRANTED, CBOR_TEXT_OR_BYTES),
        ITEM(KEY_TOKEN, CBOR_UINT),
        ITEM(KEY_POLICIES, CBOR_ARRAY),
        ITEM(KEY_MORE_POLICIES, CBOR_UINT),
        ITEM(KEY_EXPIRES, CBOR_UINT),
        ITEM(KEY_BODY, CBOR_TEXT),
        ITEM(KEY_CUT, CBOR_BOOL),
        ITEM(KEY_SHADOW, CBOR_TEXT_OR_BYTES | CBOR_NULL),
};

static int read_policies(const struct cbor_item *item, struct audit_record *ret) {
        struct cbor_item ids[AUDIT_POLICIES_MAX];
        int r;

        if (item->kind == CBOR_ABSENT)
                return 0;
        r = cbor_array(item->raw, ids, AUDIT_POLICIES_MAX, &ret->n_policies);
        for (size_t i = 0; r == 0 && i < ret->n_policies; i++)
                if (!cbor_item_int(&ids[i], &ret->policies[i]))
                        r = REFUSE_WRONG_TYPE;
        return r;
}

/* Numbers are within what the struct holds; an absent one is 0. */
static bool numbers_fit(const struct items *items) {
        static const struct {
                enum key key;
                uint64_t max;
        } rows[] = {
                { KEY_CREDENTIAL, INT64_MAX }, { KEY_UID, UINT32_MAX }, { KEY_CODE, UINT8_MAX },
                { KEY_EXPIRES, INT64_MAX },
        };

        for (size_t i = 0; i < N_ELEMENTS(rows); i++)
                if (items->of[rows[i].key].argument > rows[i].max)
                        return false;
        return true;
}

static void read_scope(const struct cbor_item *item, enum scope_kind *ret_kind, struct bytes *ret) {
        *ret_kind = item->kind == CBOR_TEXT ? SCOPE_TEXT : item->kind == CBOR_BYTES ? SCOPE_BYTES : SCOPE_NONE;
        *ret = item->content;
        if (item->kind == CBOR_TEXT && item->content.size > 0 && item->content.data[0] == AIF_MARK)
                *ret_kind = SCOPE_AIF;
}

int audit_record_decode(struct bytes raw, struct audit_record *ret) {
        struct items items = {};
        int r = cbor_map(raw, fields, N_ELEMENTS(fields), &items);

        *ret = (struct audit_record){};
        if (r != 0 || (r = read_policies(&items.of[KEY_POLICIES], ret)) != 0)
                return r;
        if (!numbers_fit(&items))
                return REFUSE_WRONG_TYPE;
        for (size_t i = 0; i < N_ELEMENTS(texts); i++)
                *(struct bytes *)((char *)ret + texts[i].offset) = items.of[texts[i].key].content;
        read_scope(&items.of[KEY_ASKED], &ret->asked_kind, &ret->asked);
        read_scope(&items.of[KEY_GRANTED], &ret->granted_kind, &ret->granted);
        read_scope(&items.of[KEY_SHADOW], &ret->shadow_kind, &ret->shadow);
        ret->has_shadow = items.of[KEY_SHADOW].kind != CBOR_ABSENT;
        ret->decision = items.of[KEY_DECISION].argument;
        ret->credential_id = (int64_t)items.of[KEY_CREDENTIAL].argument;
        ret->has_uid = items.of[KEY_UID].kind != CBOR_ABSENT;
        ret->uid = (uint32_t)items.of[KEY_UID].argument;
        ret->code = (unsigned)items.of[KEY_CODE].argument;
        ret->token = items.of[KEY_TOKEN].argument;
        ret->n_more_policies = items.of[KEY_MORE_POLICIES].argument;
        ret->expires_s = (int64_t)items.of[KEY_EXPIRES].argument;
        ret->is_cut = items.of[KEY_CUT].argument != 0;
        return 0;
}
