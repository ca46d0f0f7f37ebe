#pragma once

#include "domain/scope.h"

/*
 * Scopes of the Authorization Information Format (RFC 9237): pairs of an object, Toid, which is text, and a set of what
 * may be done with it, Tperm, an integer of bits. Which bit stands for what is the resource server's business; in the
 * model of RFC 9237 §3.1 the objects are paths and the bits are REST methods.
 *
 * In struct scope, kind SCOPE_AIF, a scope is the byte AIF_MARK and, for each object in the order of its bytes, the
 * object, AIF_UNIT, its permissions in hexadecimal without leading zeros, AIF_RECORD. No object is there twice, and
 * none without permissions: equal scopes have equal bytes, which are text to a database.
 */
#define AIF_MARK 0x01
#define AIF_UNIT 0x1f
#define AIF_RECORD 0x1e

struct aif_entry {
        struct bytes toid; /* borrows from the scope */
        uint64_t tperm;
};

/* The object at *at, which moves behind it; start with 0. False at the end, and for a scope of another kind. */
bool aif_next(const struct scope *scope, size_t *at, struct aif_entry *ret);

/*
 * Give permissions on an object to a scope of kind AIF or NONE, beside those it has. None at all add nothing. Returns
 * 0, or REFUSE_SCOPE for an object that is no UTF-8 or has control characters, or when it does not fit, and leaves
 * scope as it was.
 */
int aif_add(struct scope *scope, struct bytes toid, uint64_t tperm);

/* What both give, per object; what either gives; what scope gives and taken does not. As scope.h's of these names. */
bool aif_intersect(const struct scope *asked, const struct scope *allowed, struct scope *ret);
int aif_unite(struct scope *scope, const struct scope *other);
bool aif_subtract(struct scope *scope, const struct scope *taken);

/* Are these bytes a scope of this kind as struct scope has it? */
bool aif_is_valid(struct bytes value);
