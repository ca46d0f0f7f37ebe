#pragma once

#include "base/buf.h"
#include "format/cbor.h"

/*
 * Answers of a token revocation list, application/ace-trl+cbor (RFC 9770 §7 to §9). Hashes come one after the other,
 * TRL_HASH_BYTES each; cursors are items, or CURSOR_NULL.
 */
#define TRL_HASH_BYTES 33
#define CURSOR_NULL (-1) /* nothing to point at */
#define CURSOR_NONE (-2) /* there is no place for one */

/* { 0: [hashes], 2: cursor }. Errors of buf_add(). */
int trl_full_encode(struct bytes hashes, int64_t cursor, struct buf *out);

/* { 1: [[removed], [added]] …], 2: cursor, 3: more }: begin, n_items items, the newest first, end. */
void trl_diff_begin(struct cbor_writer *w, size_t n_items);
void trl_diff_item(struct cbor_writer *w, struct bytes removed, struct bytes added);
int trl_diff_end(struct cbor_writer *w, int64_t cursor, bool more);

/* { 1: { 0: error, ? 1: cursor } }, application/concise-problem-details+cbor (RFC 9770 §6.1). Or CURSOR_NONE. */
int trl_error_encode(int error, int64_t cursor, struct buf *out);
