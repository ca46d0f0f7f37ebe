/* What aceclient decodes: CBOR as JSON and as lines for a terminal, which no byte of it may drive. */
#include <jansson.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/cbor.h"
#include "format/describe.h"
#include "fuzz.h"

static void must_be_tame(const char *text, size_t size) {
        for (size_t i = 0; i < size; i++)
                MUST(text[i] == '\n' || ((unsigned char)text[i] >= ' ' && text[i] != 0x7f));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes in = bytes_of(data, size < FUZZ_GUARDED_MAX ? size : FUZZ_GUARDED_MAX);
        enum vocabulary vocabulary = fuzz_take_byte(&in) % (VOCABULARY_HEADER + 1);
        _cleanup_(freep) char *lines = NULL, *json = NULL;
        json_t *value = NULL;
        size_t n_lines = 0;
        FILE *out;
        int r = describe_cbor(in, vocabulary, &value);

        MUST(r == 0 || r == REFUSE_MALFORMED);
        MUST(r != 0 || cbor_check(in, CBOR_DEPTH_MAX) == 0);
        if (r != 0)
                return 0;
        json = json_dumps(value, JSON_ENCODE_ANY | JSON_INDENT(2));
        MUST(json);
        out = open_memstream(&lines, &n_lines);
        MUST(out);
        describe_print(value, 0, out);
        fclose(out);
        must_be_tame(lines, n_lines);
        json_decref(value);
        return 0;
}
