#include "domain/aif.h"

#include <stdio.h>

#include "domain/refusal.h"

static void scope_empty(struct scope *scope) {
        scope->kind = SCOPE_NONE;
        scope->size = 0;
}

static int digit(uint8_t c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Cut an object with its permissions off *rest; false when none is there. */
static bool next_entry(struct bytes *rest, struct aif_entry *ret) {
        const uint8_t *unit = memchr(rest->data, AIF_UNIT, rest->size), *at, *end = rest->data + rest->size;
        uint64_t tperm = 0;

        if (!unit)
                return false;
        for (at = unit + 1; at < end && digit(*at) >= 0 && at - unit <= 16; at++)
                tperm = tperm << 4 | (uint64_t)digit(*at);
        if (at == end || *at != AIF_RECORD)
                return false;

        *ret = (struct aif_entry){ { rest->data, (size_t)(unit - rest->data) }, tperm };
        *rest = (struct bytes){ at + 1, (size_t)(end - at - 1) };
        return true;
}

bool aif_next(const struct scope *scope, size_t *at, struct aif_entry *ret) {
        size_t start = *at > 0 ? *at : 1; /* behind the mark */
        struct bytes rest;

        if (scope->kind != SCOPE_AIF || start >= scope->size)
                return false;
        rest = (struct bytes){ scope->data + start, scope->size - start };
        if (!next_entry(&rest, ret))
                return false;
        *at = scope->size - rest.size;
        return true;
}

/* Write one behind the others. false: it does not fit. */
static bool append(struct scope *scope, struct bytes toid, uint64_t tperm) {
        char hex[17];
        size_t hex_size = (size_t)snprintf(hex, sizeof(hex), "%llx", (unsigned long long)tperm);
        size_t at = scope->size > 0 ? scope->size : 1;

        if (at + toid.size + hex_size + 2 > SCOPE_SIZE_MAX)
                return false;
        scope->kind = SCOPE_AIF;
        scope->data[0] = AIF_MARK;
        if (toid.size > 0)
                memcpy(scope->data + at, toid.data, toid.size);
        at += toid.size;
        scope->data[at++] = AIF_UNIT;
        memcpy(scope->data + at, hex, hex_size);
        at += hex_size;
        scope->data[at++] = AIF_RECORD;
        scope->size = at;
        return true;
}

static void scope_copy(struct scope *to, const struct scope *from) {
        to->kind = from->kind;
        to->size = from->size;
        memmove(to->data, from->data, from->size);
}

static int compare(struct bytes a, struct bytes b) {
        size_t common = a.size < b.size ? a.size : b.size;
        int order = common > 0 ? memcmp(a.data, b.data, common) : 0;

        return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/*
 * Walk two scopes as one in the order of objects: the next object of either, with its permissions in both, 0 where it
 * is not there.
 */
struct pair {
        const struct scope *a, *b;
        size_t at_a, at_b;
        bool has_a, has_b; /* read, not handed out */
        struct aif_entry next_a, next_b;
};

static struct pair pair_of(const struct scope *a, const struct scope *b) {
        struct pair pair = { .a = a, .b = b };

        pair.has_a = aif_next(a, &pair.at_a, &pair.next_a);
        pair.has_b = aif_next(b, &pair.at_b, &pair.next_b);
        return pair;
}

static bool pair_next(struct pair *pair, struct bytes *ret_toid, uint64_t *ret_a, uint64_t *ret_b) {
        int order;

        if (!pair->has_a && !pair->has_b)
                return false;
        order = !pair->has_a ? 1 : !pair->has_b ? -1 : compare(pair->next_a.toid, pair->next_b.toid);
        *ret_toid = order <= 0 ? pair->next_a.toid : pair->next_b.toid;
        *ret_a = order <= 0 ? pair->next_a.tperm : 0;
        *ret_b = order >= 0 ? pair->next_b.tperm : 0;
        if (order <= 0)
                pair->has_a = aif_next(pair->a, &pair->at_a, &pair->next_a);
        if (order >= 0)
                pair->has_b = aif_next(pair->b, &pair->at_b, &pair->next_b);
        return true;
}

static uint64_t in_both(uint64_t a, uint64_t b) {
        return a & b;
}

static uint64_t in_either(uint64_t a, uint64_t b) {
        return a | b;
}

static uint64_t in_first(uint64_t a, uint64_t b) {
        return a & ~b;
}

/* Object by object, into *ret, which may be either; false: it does not fit, and *ret is as it was. */
static bool combine(const struct scope *a, const struct scope *b, uint64_t (*join)(uint64_t a, uint64_t b),
                    struct scope *ret) {
        struct pair pair = pair_of(a, b);
        uint64_t tperm_a, tperm_b, joined;
        struct scope made;
        struct bytes toid;

        scope_empty(&made);
        while (pair_next(&pair, &toid, &tperm_a, &tperm_b)) {
                joined = join(tperm_a, tperm_b);
                if (joined != 0 && !append(&made, toid, joined))
                        return false;
        }
        scope_copy(ret, &made);
        return true;
}

bool aif_intersect(const struct scope *asked, const struct scope *allowed, struct scope *ret) {
        (void)combine(asked, allowed, in_both, ret); /* fits: all that was asked does */
        return ret->kind != SCOPE_NONE;
}

int aif_unite(struct scope *scope, const struct scope *other) {
        return combine(scope, other, in_either, scope) ? 0 : REFUSE_SCOPE;
}

bool aif_subtract(struct scope *scope, const struct scope *taken) {
        (void)combine(scope, taken, in_first, scope); /* fits: it is no more than before */
        return scope->kind != SCOPE_NONE;
}

/* Text (RFC 9237 §2.1), in which our own marks cannot come up. */
static bool is_toid(struct bytes toid) {
        for (size_t n; toid.size > 0; toid = (struct bytes){ toid.data + n, toid.size - n }) {
                n = bytes_utf8_size(toid);
                if (n == 0 || toid.data[0] < ' ' || toid.data[0] == 0x7f)
                        return false;
        }
        return true;
}

int aif_add(struct scope *scope, struct bytes toid, uint64_t tperm) {
        struct scope one;

        if (!is_toid(toid))
                return REFUSE_SCOPE;
        if (tperm == 0)
                return 0;
        scope_empty(&one);
        return append(&one, toid, tperm) ? aif_unite(scope, &one) : REFUSE_SCOPE;
}

bool aif_is_valid(struct bytes value) {
        struct bytes rest = { value.data + 1, value.size - 1 };
        struct aif_entry entry;
        struct scope made;

        if (value.size == 0 || value.data[0] != AIF_MARK)
                return false;
        scope_empty(&made);
        while (rest.size > 0)
                if (!next_entry(&rest, &entry) || aif_add(&made, entry.toid, entry.tperm) != 0)
                        return false;
        return made.kind == SCOPE_AIF && bytes_equal(scope_bytes(&made), value);
}
