#pragma once

#include "base/bytes.h"

/*
 * Bytes that own their memory and grow up to a stated limit. Start with BUF_INIT(limit); buf_done() frees.
 * The memory is not wiped: secrets go in struct secret.
 */
struct buf {
        uint8_t *data;
        size_t size;
        size_t capacity;
        size_t limit;
};

#define BUF_INIT(limit_bytes) ((struct buf){ .limit = (limit_bytes) })

/* Append. 0, -ENOMEM, or -EOVERFLOW when the limit would be passed; then nothing is appended. */
int buf_add(struct buf *buf, struct bytes bytes);
/* Append what may be secret: a buffer that grows leaves no copy behind. The owner wipes it at the end. */
int buf_add_secret(struct buf *buf, struct bytes bytes);
int buf_add_byte(struct buf *buf, uint8_t byte);
int buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Make room for size more bytes; *ret_space points at them. They count only after buf_added(). Errors as buf_add(). */
int buf_reserve(struct buf *buf, size_t size, uint8_t **ret_space);
void buf_added(struct buf *buf, size_t size);

/* Forget the content, keep the memory. */
void buf_clear(struct buf *buf);
void buf_done(struct buf *buf);
/* The same for what may be a secret: wiped before it is freed. */
void buf_wiped(struct buf *buf);

static inline struct bytes buf_bytes(const struct buf *buf) {
        return (struct bytes){ buf->data, buf->size };
}
