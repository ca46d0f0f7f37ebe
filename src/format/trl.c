#include "format/trl.h"

#include "format/labels.h"

static void put_hashes(struct cbor_writer *w, struct bytes hashes) {
        cbor_put_array(w, hashes.size / TRL_HASH_BYTES);
        for (size_t at = 0; at + TRL_HASH_BYTES <= hashes.size; at += TRL_HASH_BYTES)
                cbor_put_bytes(w, bytes_of(hashes.data + at, TRL_HASH_BYTES));
}

static void put_cursor(struct cbor_writer *w, int label, int64_t cursor) {
        cbor_put_uint(w, (uint64_t)label);
        if (cursor < 0)
                cbor_put_null(w);
        else
                cbor_put_uint(w, (uint64_t)cursor);
}

int trl_full_encode(struct bytes hashes, int64_t cursor, struct buf *out) {
        struct cbor_writer w = CBOR_WRITER(out);

        cbor_put_map(&w, 2);
        cbor_put_uint(&w, TRL_FULL_SET);
        put_hashes(&w, hashes);
        put_cursor(&w, TRL_CURSOR, cursor);
        return cbor_end(&w);
}

void trl_diff_begin(struct cbor_writer *w, size_t n_items) {
        cbor_put_map(w, 3);
        cbor_put_uint(w, TRL_DIFF_SET);
        cbor_put_array(w, n_items);
}

void trl_diff_item(struct cbor_writer *w, struct bytes removed, struct bytes added) {
        cbor_put_array(w, 2);
        put_hashes(w, removed);
        put_hashes(w, added);
}

int trl_diff_end(struct cbor_writer *w, int64_t cursor, bool more) {
        put_cursor(w, TRL_CURSOR, cursor);
        cbor_put_uint(w, TRL_MORE);
        cbor_put_bool(w, more);
        return cbor_end(w);
}

int trl_error_encode(int error, int64_t cursor, struct buf *out) {
        struct cbor_writer w = CBOR_WRITER(out);
        bool has_cursor = cursor != CURSOR_NONE;

        cbor_put_map(&w, 1);
        cbor_put_int(&w, PROBLEM_ACE_TRL_ERROR);
        cbor_put_map(&w, has_cursor ? 2 : 1);
        cbor_put_uint(&w, TRL_ERROR_ID);
        cbor_put_uint(&w, (uint64_t)error);
        if (has_cursor)
                put_cursor(&w, TRL_ERROR_CURSOR, cursor);
        return cbor_end(&w);
}
