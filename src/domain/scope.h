#pragma once

#include "base/bytes.h"

#define SCOPE_SIZE_MAX 255

/*
 * A scope (RFC 9200 §5.8.1, RFC 6749 §3.3): text is a set of space-separated tokens of %x21 / %x23-5B / %x5D-7E; bytes
 * are opaque, in the resource server's own format, and are compared whole; AIF is RFC 9237's, objects with permissions
 * (aif.h). Taken in by scope_set() or, of kind AIF, made by aif_add() only; in a text scope that was, tokens are not
 * repeated and one space stands between.
 */
enum scope_kind { /* kept in databases */
        SCOPE_NONE, /* absent */
        SCOPE_TEXT,
        SCOPE_BYTES,
        SCOPE_AIF,
};

struct scope {
        enum scope_kind kind;
        size_t size;
        uint8_t data[SCOPE_SIZE_MAX];
};

static inline struct bytes scope_bytes(const struct scope *scope) {
        return (struct bytes){ scope->data, scope->size };
}

/*
 * Take a scope in: text is checked against RFC 6749's syntax (but several spaces count as one), repeated tokens are
 * dropped, single spaces put between; of kind AIF, value is as aif.h says. Returns 0, or REFUSE_SCOPE for an empty,
 * malformed or over-long one, and leaves scope as it was.
 */
int scope_set(struct scope *scope, enum scope_kind kind, struct bytes value);

/*
 * *ret = the tokens of asked that allowed has too, in asked's order. Byte scopes: asked itself when equal, else none.
 * AIF: per object the permissions that both give. Of different kinds: none. Returns true when something is left. ret
 * may be asked.
 */
bool scope_intersect(const struct scope *asked, const struct scope *allowed, struct scope *ret);

/*
 * Take away from scope what taken has of it; byte scopes: all when they are equal. True when something is left, which
 * keeps its order.
 */
bool scope_subtract(struct scope *scope, const struct scope *taken);

/*
 * Add other's tokens, or permissions, that scope lacks. Returns 0, or REFUSE_SCOPE when they do not fit or kinds differ
 * (NONE takes any), and leaves scope as it was.
 */
int scope_unite(struct scope *scope, const struct scope *other);

/* Same kind and same set of tokens (order does not count), or same bytes. */
bool scope_equal(const struct scope *a, const struct scope *b);
