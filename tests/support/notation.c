#include "support/notation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/edn.h"

struct bytes from_hex(const char *hex, uint8_t data[static SIZE_MAX_TEST]) {
        size_t size;

        assert_int_equal(bytes_from_hex(hex, data, SIZE_MAX_TEST, &size), 0);
        return bytes_of(data, size);
}

void assert_hex(struct bytes bytes, const char *hex) {
        char text[2 * SIZE_MAX_TEST + 1];

        assert_true(bytes.size <= SIZE_MAX_TEST);
        bytes_to_hex(bytes, text, sizeof(text));
        assert_string_equal(text, hex);
}

struct buf from_edn(const char *text) {
        struct buf out = BUF_INIT(SIZE_MAX_TEST);

        assert_int_equal(edn_encode(text, &out, NULL), 0);
        return out;
}
