#pragma once

#include "base/buf.h"

/*
 * CBOR diagnostic notation (RFC 8949 §8) for tests: written → bytes, and patterns against bytes.
 *
 * Notation: integers, floats (1.5, encoded as the shortest of half, single, double), "text" (escapes \" \\ \n \u0041),
 * h'00 ff', 'text as bytes', [..], {..}, tag(item), true, false, null, undefined, simple(n), indefinite [_ ..] {_ ..}
 * (_ h'..', h'..') ""_ ''_, comments / .. / and # to the end of the line. Maps keep the order that is written.
 */

/*
 * Append the encoding of one item. Returns 0, or -EINVAL with *ret_at (may be NULL) at the place of the fault; -ENOMEM.
 */
int edn_encode(const char *text, struct buf *out, const char **ret_at);

/* Items that patterns have captured: name → bytes. */
#define EDN_CAPTURES_MAX 64
struct edn_capture {
        char name[32];
        size_t size;
        uint8_t data[2048];
};
struct edn_captures {
        size_t n_items;
        struct edn_capture items[EDN_CAPTURES_MAX];
};

/*
 * The item captured under this name, as encoded, or data NULL. For a byte or text string *ret_content is its content.
 */
struct bytes edn_captured(const struct edn_captures *captures, const char *name, struct bytes *ret_content);

/* Set a variable by hand (cut to what fits is a failure: -EOVERFLOW). item is one encoded item. */
int edn_capture(struct edn_captures *captures, const char *name, struct bytes item);

/*
 * Does item look like pattern? A pattern is the notation above, and also:
 *      *                       any item
 *      bstr tstr uint int map array bool float        any of the kind (int: also negative)
 *      bstr[16] tstr[1..8]     of that many bytes
 *      uint[1..99]             in that range
 *      =name PATTERN?          capture the item under name (then match PATTERN, when one follows; default *)
 *      $name                   the same bytes as the captured item (in edn_encode(): not understood)
 *      << pattern >>           a byte string that holds one item like pattern
 *      {key: pattern, ...}     map: exactly these keys in any order; with a final `...` further keys may be there
 *      [pattern, ...]          array: with a final `...` further items may follow
 * Values match by what they mean: 1 matches however long it was encoded. captures may be NULL when the pattern has
 * none. Returns 0; -ENOENT when it does not match, with the reason in words in why; -EINVAL for a faulty pattern or
 * item, with the reason too; -EOVERFLOW when captures are full.
 */
int edn_match(const char *pattern, struct bytes item, struct edn_captures *captures, char *why, size_t why_size);

/*
 * The same with $name replaced by the captured items, for building requests. captures may be NULL. Errors as
 * edn_encode().
 */
int edn_encode_with(const char *text, const struct edn_captures *captures, struct buf *out, const char **ret_at);
