#include "base/bytes.h"

#include <assert.h>
#include <errno.h>

#include <openssl/crypto.h>

bool bytes_equal(struct bytes a, struct bytes b) {
        return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

bool bytes_equal_ct(struct bytes a, struct bytes b) {
        return a.size == b.size && (a.size == 0 || CRYPTO_memcmp(a.data, b.data, a.size) == 0);
}

const uint8_t *bytes_find(struct bytes haystack, struct bytes needle) {
        if (needle.size == 0)
                return haystack.data;
        if (haystack.size < needle.size)
                return NULL;
        return memmem(haystack.data, haystack.size, needle.data, needle.size);
}

size_t bytes_utf8_size(struct bytes text) {
        const uint8_t *at = text.data;
        size_t n;

        if (text.size == 0)
                return 0;
        n = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf5 ? 4 : 0;
        if (n > text.size)
                return 0;
        for (size_t i = 1; i < n; i++)
                if ((at[i] & 0xc0) != 0x80)
                        return 0;
        /* Longer than needed, half of a UTF-16 pair, over U+10FFFF */
        if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] >= 0xa0) || (at[0] == 0xf0 && at[1] < 0x90) ||
            (at[0] == 0xf4 && at[1] >= 0x90))
                return 0;
        return n;
}

/* C0, DEL and C1 (CSI is one of them); U+2028, U+2029: line and paragraph separator. */
static bool is_control(const uint8_t *at, size_t n) {
        return (n == 1 && (at[0] < 0x20 || at[0] == 0x7f)) || (n == 2 && at[0] == 0xc2 && at[1] < 0xa0) ||
                (n == 3 && at[0] == 0xe2 && at[1] == 0x80 && (at[2] == 0xa8 || at[2] == 0xa9));
}

size_t bytes_shown_size(struct bytes text) {
        size_t n = bytes_utf8_size(text);

        return n > 0 && !is_control(text.data, n) ? n : 0;
}

bool bytes_are_shown(struct bytes text) {
        while (text.size > 0) {
                size_t size = bytes_shown_size(text);

                if (size == 0)
                        return false;
                text = bytes_of(text.data + size, text.size - size);
        }
        return true;
}

void bytes_to_hex(struct bytes b, char *text, size_t text_size) {
        static const char digits[] = "0123456789abcdef";

        assert(b.size < text_size && b.size <= (text_size - 1) / 2);
        for (size_t i = 0; i < b.size; i++) {
                *text++ = digits[b.data[i] >> 4];
                *text++ = digits[b.data[i] & 15];
        }
        *text = '\0';
}

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -EINVAL;
}

int bytes_from_hex(const char *text, uint8_t *data, size_t size, size_t *ret_size) {
        size_t n_digits = strlen(text), n = n_digits / 2;

        if (n_digits % 2 != 0)
                return -EINVAL;
        /* All of the text before any size: what is no hexadecimal is never called too long */
        for (size_t i = 0; i < n_digits; i++)
                if (hex_digit(text[i]) < 0)
                        return -EINVAL;
        if (n > size)
                return -EOVERFLOW;
        for (size_t i = 0; i < n; i++)
                data[i] = (uint8_t)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
        *ret_size = n;
        return 0;
}
