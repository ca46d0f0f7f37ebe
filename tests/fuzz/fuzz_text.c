/* The small readers: scopes, names, audiences, numbers, hexadecimal, UTF-8, UDP addresses. */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "domain/name.h"
#include "domain/scope.h"
#include "domain/token.h"
#include "fuzz.h"
#include "transport/address.h"

static void scopes(struct bytes in) {
        size_t half = in.size / 2;
        struct bytes first = bytes_of(in.data, half), second = bytes_of(in.data + half, in.size - half);
        struct scope a = {}, b = {}, both, sum, again = {};

        if (scope_set(&a, SCOPE_TEXT, first) == 0) {
                MUST(a.size > 0 && a.size <= SCOPE_SIZE_MAX);
                MUST(scope_set(&again, SCOPE_TEXT, scope_bytes(&a)) == 0 && scope_equal(&a, &again));
                MUST(bytes_equal(scope_bytes(&a), scope_bytes(&again)));
        }
        if (scope_set(&b, SCOPE_TEXT, second) != 0 && scope_set(&b, SCOPE_BYTES, second) != 0)
                return;
        if (scope_intersect(&a, &b, &both)) {
                sum = a;
                MUST(scope_unite(&sum, &both) == 0 && scope_equal(&sum, &a)); /* it was a part of each */
                sum = b;
                MUST(scope_unite(&sum, &both) == 0 && scope_equal(&sum, &b));
        }
        sum = a;
        if (scope_unite(&sum, &b) == 0 && a.kind == SCOPE_TEXT)
                MUST(scope_intersect(&a, &sum, &both) && scope_equal(&both, &a));
}

static void numbers(struct bytes in) {
        uint8_t bytes[NUMBER_SIZE_MAX];
        uint64_t number;

        if (number_from_bytes(in, &number) == 0)
                MUST(bytes_equal(bytes_of(bytes, number_to_bytes(number, bytes)), in));
}

static void hexadecimal(const char *text) {
        uint8_t bytes[64];
        char again[2 * sizeof(bytes) + 1];
        size_t size;
        int r = bytes_from_hex(text, bytes, sizeof(bytes), &size);

        MUST(r == 0 || r == -EINVAL || r == -EOVERFLOW);
        if (r != 0)
                return;
        bytes_to_hex(bytes_of(bytes, size), again, sizeof(again));
        MUST(strcasecmp(text, again) == 0);
}

static void addresses(const char *text) {
        char shown[ADDRESS_TEXT_SIZE];
        struct address address, again;

        if (address_parse(text, &address) != 0)
                return;
        address_text(&address, shown, sizeof(shown));
        MUST(address_parse(shown, &again) == 0 && address_equal(&address, &again));
}

static void characters(struct bytes in) {
        size_t n;

        while (in.size > 0 && (n = bytes_utf8_size(in)) > 0) {
                MUST(n <= 4 && n <= in.size);
                (void)fuzz_take(&in, n);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes in = fuzz_guarded(bytes_of(data, size));
        _cleanup_(freep) char *text = malloc(in.size + 1);

        MUST(text);
        if (in.size > 0)
                memcpy(text, in.data, in.size);
        text[in.size] = '\0';
        MUST(!name_is_valid(in) || (in.size <= NAME_SIZE_MAX && strlen(text) == in.size && audience_is_valid(in)));
        MUST(!audience_is_valid(in) || (in.size <= AUDIENCE_SIZE_MAX && strlen(text) == in.size));
        scopes(in);
        numbers(in);
        hexadecimal(text);
        addresses(text);
        characters(in);
        return 0;
}
