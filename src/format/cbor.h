#pragma once

#include "base/buf.h"

/*
 * CBOR (RFC 8949) with bounds: nothing here allocates from a length that a peer wrote. The only user of libcbor.
 *
 * Reading: cbor_map() and cbor_array() check the whole item first: one well-formed item and nothing after it, definite
 * lengths or indefinite, at most CBOR_DEPTH_MAX levels, text in UTF-8. What they hand out borrows from the input.
 */
#define CBOR_DEPTH_MAX 8  /* arrays, maps and tags inside each other */
#define CBOR_PAIRS_MAX 64 /* in a map that cbor_map() reads */

enum cbor_kind {
        CBOR_ABSENT = 0,
        CBOR_UINT = 1 << 0,
        CBOR_NEGINT = 1 << 1,
        CBOR_BYTES = 1 << 2, /* definite length only, where a table asks for one */
        CBOR_TEXT = 1 << 3,  /* the same */
        CBOR_ARRAY = 1 << 4,
        CBOR_MAP = 1 << 5,
        CBOR_TAG = 1 << 6,
        CBOR_BOOL = 1 << 7,
        CBOR_NULL = 1 << 8,
        CBOR_FLOAT = 1 << 9,
        CBOR_SIMPLE = 1 << 10, /* undefined and the unassigned simple values */

        CBOR_INT = CBOR_UINT | CBOR_NEGINT,
        CBOR_TEXT_OR_BYTES = CBOR_TEXT | CBOR_BYTES,
        CBOR_ANY = (1 << 11) - 1,

        CBOR_CHUNKS = 1 << 11, /* bytes or text of indefinite length: only raw is set; CBOR_ANY does not take it */
};

struct cbor_item {
        enum cbor_kind kind;  /* one kind, or CBOR_ABSENT */
        uint64_t argument;    /* uint: the value; negint: -1 - value; tag: its number; bool: 0 or 1 */
        double number;        /* float */
        struct bytes content; /* bytes, text: their content; tag: the tagged item as received */
        struct bytes raw;     /* the item as received, for hashing or handing on */
};

/* The value of a CBOR_INT item when it fits; false otherwise. */
bool cbor_item_int(const struct cbor_item *item, int64_t *ret);

/* A row of a message: label → where in the target struct its struct cbor_item is, and which kinds may stand there. */
struct cbor_field {
        int64_t label;
        unsigned kinds;
        size_t offset;
};

/*
 * Read raw as one map with the rows' labels. Every row's item in *target is set (CBOR_ABSENT where the label is not
 * there). Unknown labels, integer or text, are skipped. Returns 0; REFUSE_MALFORMED: not exactly one well-formed map;
 * REFUSE_WRONG_TYPE: a wrong kind, a key twice (any key, also an unknown one, and however long its integer is encoded),
 * a key that is neither integer nor text, more than CBOR_PAIRS_MAX pairs.
 */
int cbor_map(struct bytes raw, const struct cbor_field *fields, size_t n_fields, void *target);

/* Read raw as one item of any kind. Returns 0 or REFUSE_MALFORMED. */
int cbor_item(struct bytes raw, struct cbor_item *ret);

/*
 * Read raw as one array of at most max items. Returns 0, REFUSE_MALFORMED, or REFUSE_WRONG_TYPE (no array, too many).
 */
int cbor_array(struct bytes raw, struct cbor_item *items, size_t max, size_t *ret_n);

/*
 * Walk a map's pairs in order, known labels or not (tools that print what they got). Start with *pos = 0; returns 1 and
 * a pair, 0 at the end, REFUSE_MALFORMED.
 */
int cbor_map_next(struct bytes raw, size_t *pos, struct cbor_item *ret_key, struct cbor_item *ret_value);

/* Exactly one well-formed item, within depth. Returns 0 or REFUSE_MALFORMED. */
int cbor_check(struct bytes raw, unsigned depth_max);

/* Diagnostic notation (RFC 8949 §8) of one item, for people. 0, REFUSE_MALFORMED, or errors of buf_add(). */
int cbor_print(struct bytes raw, struct buf *out);

/*
 * Writing: shortest encodings, definite lengths. The writer remembers its first failure, so that calls need no check
 * until cbor_end(), which returns 0, -ENOMEM or -EOVERFLOW (the buffer's limit).
 */
struct cbor_writer {
        struct buf *buf;
        int failed;
};

#define CBOR_WRITER(buffer) ((struct cbor_writer){ .buf = (buffer) })

void cbor_put_map(struct cbor_writer *w, size_t n_pairs);
void cbor_put_array(struct cbor_writer *w, size_t n_items);
void cbor_put_uint(struct cbor_writer *w, uint64_t value);
void cbor_put_int(struct cbor_writer *w, int64_t value);
void cbor_put_bytes(struct cbor_writer *w, struct bytes value);
void cbor_put_text(struct cbor_writer *w, struct bytes value);
void cbor_put_bool(struct cbor_writer *w, bool value);
void cbor_put_null(struct cbor_writer *w);
void cbor_put_tag(struct cbor_writer *w, uint64_t tag);
/* An item that is encoded already. */
void cbor_put_raw(struct cbor_writer *w, struct bytes item);
/*
 * Make room for at least size more bytes at once, or as many as the limit allows. Before a secret is written: a buffer
 * that grows later gives memory up with the secret in it.
 */
void cbor_hold(struct cbor_writer *w, size_t size);
/* Only the head of a byte string of size bytes, which the caller writes next with buf_reserve(). */
void cbor_put_bytes_head(struct cbor_writer *w, size_t size);
int cbor_end(struct cbor_writer *w);
