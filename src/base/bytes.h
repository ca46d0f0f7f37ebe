#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A borrowed view of bytes: passed by value, never freed. data may be NULL only when size is 0. */
struct bytes {
        const uint8_t *data;
        size_t size;
};

#define BYTES_NONE ((struct bytes){ NULL, 0 })
/* A string literal without its final zero byte. */
#define BYTES_LITERAL(s) ((struct bytes){ (const uint8_t *)("" s), sizeof(s) - 1 })

static inline struct bytes bytes_of(const void *data, size_t size) {
        return (struct bytes){ data, size };
}

/* The characters of a zero-terminated string; NULL gives no bytes. */
static inline struct bytes bytes_text(const char *text) {
        return (struct bytes){ (const uint8_t *)text, text ? strlen(text) : 0 };
}

/* Equality of public data: names, options, numbers. Never for keys, tags, tokens or nonces. */
bool bytes_equal(struct bytes a, struct bytes b);

/* Equality in time that depends on the sizes only: for keys, tags, tokens, nonces. */
bool bytes_equal_ct(struct bytes a, struct bytes b);

/* The first byte of needle in haystack's data, or NULL. An empty needle is found at the start. */
const uint8_t *bytes_find(struct bytes haystack, struct bytes needle);

/* How many bytes the well-formed UTF-8 character (RFC 3629) at the start of text has; 0: there is none. */
size_t bytes_utf8_size(struct bytes text);

/* The same for a character that may be shown as it is: 0 for what a terminal obeys, or takes for the end of a line. */
size_t bytes_shown_size(struct bytes text);
/* Does it consist of such characters? */
bool bytes_are_shown(struct bytes text);

/*
 * Lower-case hexadecimal into text, always terminated. text_size must be at least 2 * b.size + 1;
 * less is a bug of the caller.
 */
void bytes_to_hex(struct bytes b, char *text, size_t text_size);

/*
 * Hexadecimal of either case, without separators, into at most size bytes. Returns 0 and the number of bytes, or
 * -EINVAL for a character that is no digit or an odd count, -EOVERFLOW when it does not fit.
 */
int bytes_from_hex(const char *text, uint8_t *data, size_t size, size_t *ret_size);
