#include "format/aif.h"

#include <stdio.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/cbor.h"

/* ---- CBOR */

static int take_pair(struct bytes raw, struct scope *scope) {
        struct cbor_item pair[2];
        size_t n;

        if (cbor_array(raw, pair, N_ELEMENTS(pair), &n) != 0 || n != N_ELEMENTS(pair) ||
            pair[0].kind != CBOR_TEXT || pair[1].kind != CBOR_UINT)
                return REFUSE_SCOPE;
        return aif_add(scope, pair[0].content, pair[1].argument);
}

int aif_decode(struct bytes raw, struct scope *ret) {
        struct cbor_item pairs[AIF_OBJECTS_MAX];
        struct scope scope;
        size_t n;
        int r;

        if (raw.size > AIF_ENCODED_SIZE_MAX || cbor_array(raw, pairs, N_ELEMENTS(pairs), &n) != 0)
                return REFUSE_SCOPE;
        scope.kind = SCOPE_NONE;
        scope.size = 0;
        for (size_t i = 0; i < n; i++)
                if ((r = take_pair(pairs[i].raw, &scope)) != 0)
                        return r;
        if (scope.kind == SCOPE_NONE)
                return REFUSE_SCOPE;

        ret->kind = scope.kind;
        ret->size = scope.size;
        memcpy(ret->data, scope.data, scope.size);
        return 0;
}

static size_t head_size(uint64_t argument) {
        return argument < 24 ? 1 : argument <= UINT8_MAX ? 2 : argument <= UINT16_MAX ? 3 :
               argument <= UINT32_MAX ? 5 : 9;
}

void aif_put(struct cbor_writer *w, const struct scope *scope) {
        size_t n = 0, size = 0;
        struct aif_entry entry;

        for (size_t at = 0; aif_next(scope, &at, &entry); n++)
                size += 1 + head_size(entry.toid.size) + entry.toid.size + head_size(entry.tperm);
        cbor_put_bytes_head(w, head_size(n) + size);
        cbor_put_array(w, n);
        for (size_t at = 0; aif_next(scope, &at, &entry);) {
                cbor_put_array(w, 2);
                cbor_put_text(w, entry.toid);
                cbor_put_uint(w, entry.tperm);
        }
}

/* ---- text */

/* RFC 9237 §3.1, Table 2 (REST-specific): the bits of the methods, and of those on resources made dynamically */
static const struct {
        const char *name;
        unsigned bit;
} methods[] = {
        { "GET", 0 }, { "POST", 1 }, { "PUT", 2 }, { "DELETE", 3 }, { "FETCH", 4 }, { "PATCH", 5 }, { "iPATCH", 6 },
        { "Dynamic-GET", 32 }, { "Dynamic-POST", 33 }, { "Dynamic-PUT", 34 }, { "Dynamic-DELETE", 35 },
        { "Dynamic-FETCH", 36 }, { "Dynamic-PATCH", 37 }, { "Dynamic-iPATCH", 38 },
};

static bool parse_number(struct bytes text, uint64_t *ret) {
        uint64_t value = 0;

        for (size_t i = 0; i < text.size; i++) {
                uint64_t digit = (uint64_t)text.data[i] - '0';

                if (text.data[i] < '0' || digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
                    __builtin_add_overflow(value, digit, &value))
                        return false;
        }
        *ret = value;
        return text.size > 0 && value > 0;
}

static bool parse_permission(struct bytes text, uint64_t *ret) {
        for (size_t i = 0; i < N_ELEMENTS(methods); i++)
                if (bytes_equal(text, bytes_text(methods[i].name))) {
                        *ret = UINT64_C(1) << methods[i].bit;
                        return true;
                }
        return parse_number(text, ret);
}

/* "GET,PUT" */
static bool parse_permissions(struct bytes text, uint64_t *ret) {
        uint64_t one;

        *ret = 0;
        for (;;) {
                const uint8_t *comma = text.size > 0 ? memchr(text.data, ',', text.size) : NULL;
                size_t size = comma ? (size_t)(comma - text.data) : text.size;

                if (!parse_permission((struct bytes){ text.data, size }, &one))
                        return false;
                *ret |= one;
                if (!comma)
                        return true;
                text = (struct bytes){ text.data + size + 1, text.size - size - 1 };
        }
}

/* Cut what stands in front of the next ';' off *rest. */
static struct bytes next_entry(struct bytes *rest) {
        struct bytes entry = *rest;
        size_t size = 0;

        while (size < rest->size && rest->data[size] != ';')
                size += rest->data[size] == '\\' ? 2 : 1;
        if (size >= rest->size) {
                *rest = (struct bytes){ rest->data + rest->size, 0 };
                return entry;
        }
        entry.size = size;
        *rest = (struct bytes){ rest->data + size + 1, rest->size - size - 1 };
        return entry;
}

static int parse_entry(struct bytes entry, struct scope *scope) {
        const uint8_t *equals = entry.size > 0 ? memrchr(entry.data, '=', entry.size) : NULL;
        uint8_t toid[SCOPE_SIZE_MAX];
        size_t size = 0;
        uint64_t tperm;

        if (!equals || !parse_permissions(bytes_of(equals + 1, (size_t)(entry.data + entry.size - equals - 1)), &tperm))
                return REFUSE_SCOPE;
        for (const uint8_t *at = entry.data; at < equals; at++) {
                if (*at == '\\' && (++at == equals || (*at != ';' && *at != '\\')))
                        return REFUSE_SCOPE;
                if (size == sizeof(toid))
                        return REFUSE_SCOPE;
                toid[size++] = *at;
        }
        return aif_add(scope, bytes_of(toid, size), tperm);
}

int aif_parse(struct bytes text, struct scope *ret) {
        struct bytes prefix = BYTES_LITERAL(AIF_PREFIX);
        struct scope scope;
        int r;

        if (text.size <= prefix.size || memcmp(text.data, prefix.data, prefix.size) != 0)
                return REFUSE_SCOPE;
        text = (struct bytes){ text.data + prefix.size, text.size - prefix.size };
        scope.kind = SCOPE_NONE;
        scope.size = 0;
        while (text.size > 0) {
                struct bytes entry = next_entry(&text);

                if ((r = parse_entry(entry, &scope)) != 0)
                        return r;
        }
        ret->kind = scope.kind;
        ret->size = scope.size;
        memcpy(ret->data, scope.data, scope.size);
        return 0;
}

static int print_toid(struct bytes toid, struct buf *out) {
        int r = 0;

        for (size_t i = 0; i < toid.size && r == 0; i++) {
                if (toid.data[i] == ';' || toid.data[i] == '\\')
                        r = buf_add_byte(out, '\\');
                if (r == 0)
                        r = buf_add_byte(out, toid.data[i]);
        }
        return r;
}

static int print_tperm(const struct aif_entry *entry, struct buf *out) {
        bool is_path = entry->toid.size > 0 && entry->toid.data[0] == '/';
        uint64_t left = entry->tperm;
        const char *between = "";
        int r = 0;

        for (size_t i = 0; i < N_ELEMENTS(methods) && is_path && r == 0; i++) {
                if ((left >> methods[i].bit & 1) == 0)
                        continue;
                r = buf_printf(out, "%s%s", between, methods[i].name);
                left &= ~(UINT64_C(1) << methods[i].bit);
                between = ",";
        }
        if (r == 0 && left != 0)
                r = buf_printf(out, "%s%llu", between, (unsigned long long)left);
        return r;
}

int aif_print(const struct scope *scope, struct buf *out) {
        struct aif_entry entry;
        int r = buf_add(out, BYTES_LITERAL(AIF_PREFIX));

        for (size_t at = 0, n = 0; r == 0 && aif_next(scope, &at, &entry); n++) {
                if (n > 0)
                        r = buf_add_byte(out, ';');
                if (r == 0)
                        r = print_toid(entry.toid, out);
                if (r == 0)
                        r = buf_add_byte(out, '=');
                if (r == 0)
                        r = print_tperm(&entry, out);
        }
        return r;
}

void aif_print_cut(const struct scope *scope, char *ret, size_t size) {
        _cleanup_(buf_done) struct buf text = BUF_INIT(AIF_TEXT_SIZE_MAX);
        bool is_whole = aif_print(scope, &text) == 0 && text.size < size;

        if (is_whole)
                snprintf(ret, size, "%.*s", (int)text.size, (const char *)text.data);
        else
                snprintf(ret, size, "%.*s...", (int)(text.size < size - 4 ? text.size : size - 4),
                         (const char *)text.data);
}
