#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/secret.h"

#define BUF_CAPACITY_MIN 64

/* Doubling keeps appending linear; the limit caps the memory too. */
static int buf_grow(struct buf *buf, size_t needed) {
        size_t capacity = buf->capacity < BUF_CAPACITY_MIN ? BUF_CAPACITY_MIN : buf->capacity;
        uint8_t *data;

        while (capacity < needed)
                capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
        if (capacity > buf->limit)
                capacity = buf->limit;
        data = realloc(buf->data, capacity);
        if (!data)
                return -ENOMEM;
        buf->data = data;
        buf->capacity = capacity;
        return 0;
}

int buf_reserve(struct buf *buf, size_t size, uint8_t **ret_space) {
        int r;

        if (buf->size > buf->limit || size > buf->limit - buf->size)
                return -EOVERFLOW;
        if (size > buf->capacity - buf->size && (r = buf_grow(buf, buf->size + size)) < 0)
                return r;
        *ret_space = buf->data ? buf->data + buf->size : NULL;
        return 0;
}

void buf_added(struct buf *buf, size_t size) {
        buf->size += size;
}

int buf_add(struct buf *buf, struct bytes bytes) {
        uint8_t *space;
        int r;

        if ((r = buf_reserve(buf, bytes.size, &space)) < 0)
                return r;
        if (bytes.size > 0)
                memcpy(space, bytes.data, bytes.size);
        buf_added(buf, bytes.size);
        return 0;
}

int buf_add_secret(struct buf *buf, struct bytes bytes) {
        struct buf wider = BUF_INIT(buf->limit);
        size_t wanted = 2 * (buf->size + bytes.size);
        uint8_t *space;
        int r;

        if (bytes.size <= buf->capacity - buf->size)
                return buf_add(buf, bytes);
        if (bytes.size > buf->limit || buf->size > buf->limit - bytes.size)
                return -EOVERFLOW;
        r = buf_reserve(&wider, wanted < buf->limit ? wanted : buf->limit, &space);
        if (r == 0)
                r = buf_add(&wider, buf_bytes(buf));
        if (r != 0) {
                buf_done(&wider);
                return r;
        }
        buf_wiped(buf);
        *buf = wider;
        return buf_add(buf, bytes);
}

int buf_add_byte(struct buf *buf, uint8_t byte) {
        return buf_add(buf, bytes_of(&byte, 1));
}

int buf_printf(struct buf *buf, const char *format, ...) {
        _cleanup_(freep) char *text = NULL;
        va_list args;
        int n;

        va_start(args, format);
        n = vasprintf(&text, format, args);
        va_end(args);
        if (n < 0) {
                text = NULL; /* undefined after a failure */
                return -ENOMEM;
        }
        return buf_add(buf, bytes_of(text, (size_t)n));
}

void buf_clear(struct buf *buf) {
        buf->size = 0;
}

void buf_done(struct buf *buf) {
        free(buf->data);
        *buf = BUF_INIT(buf->limit);
}

void buf_wiped(struct buf *buf) {
        if (buf->data)
                wipe(buf->data, buf->capacity);
        buf_done(buf);
}
