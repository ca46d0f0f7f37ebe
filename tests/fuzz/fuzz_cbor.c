/* CBOR: what is one item for one reader is one for all, and what is printed reads as what it was. */
#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/cbor.h"
#include "fuzz.h"
#include "support/edn.h"

#define TEXT_MAX ((size_t)1 << 20)
#define READ_BACK_MAX 2048 /* bytes of input: the reader of notation is made for tests, not for speed */

struct target {
        struct cbor_item items[4];
};

static const struct cbor_field fields[] = {
        { 1, CBOR_BYTES, offsetof(struct target, items[0]) },
        { 5, CBOR_TEXT, offsetof(struct target, items[1]) },
        { -1, CBOR_ANY | CBOR_CHUNKS, offsetof(struct target, items[2]) },
        { 33, CBOR_NULL | CBOR_INT, offsetof(struct target, items[3]) },
};

static void must_lie_in(struct bytes part, struct bytes whole) {
        if (part.size > 0)
                MUST(part.data >= whole.data && part.data + part.size <= whole.data + whole.size);
}

static void read_map(struct bytes raw, int checked) {
        struct cbor_item key, value;
        struct target target;
        size_t pos = 0, n = 0;
        int r = cbor_map(raw, fields, N_ELEMENTS(fields), &target);

        MUST(r == 0 || r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE);
        MUST(r != 0 || checked == 0);
        for (size_t i = 0; r == 0 && i < N_ELEMENTS(fields); i++) {
                MUST(target.items[i].kind == CBOR_ABSENT || (target.items[i].kind & fields[i].kinds));
                must_lie_in(target.items[i].raw, raw);
                must_lie_in(target.items[i].content, raw);
        }
        while (cbor_map_next(raw, &pos, &key, &value) == 1) {
                MUST(++n <= raw.size && pos <= raw.size);
                MUST(cbor_check(key.raw, CBOR_DEPTH_MAX) == 0 && cbor_check(value.raw, CBOR_DEPTH_MAX) == 0);
        }
        MUST(r != 0 || n <= CBOR_PAIRS_MAX);
}

/* Brackets of the notation inside each other, those apart that stand in text. */
static unsigned depth_of(const char *text) {
        unsigned depth = 0, deepest = 0;
        bool in_text = false;

        for (; *text; text++) {
                if (in_text && *text == '\\')
                        text++;
                else if (*text == '"')
                        in_text = !in_text;
                else if (!in_text && strchr("[{(", *text))
                        deepest = ++depth > deepest ? depth : deepest;
                else if (!in_text && strchr("]})", *text))
                        depth--;
        }
        return deepest;
}

static void print_and_read_back(struct bytes raw) {
        _cleanup_(buf_done) struct buf text = BUF_INIT(TEXT_MAX), again = BUF_INIT(TEXT_MAX);
        _cleanup_(buf_done) struct buf twice = BUF_INIT(TEXT_MAX);

        MUST(cbor_print(raw, &text) == 0);
        MUST(buf_add_byte(&text, 0) == 0);
        MUST(depth_of((const char *)text.data) <= CBOR_DEPTH_MAX + 1); /* one: the chunks of a string */
        if (raw.size > READ_BACK_MAX)
                return;
        MUST(edn_encode((const char *)text.data, &again, NULL) == 0);
        MUST(cbor_print(buf_bytes(&again), &twice) == 0);
        MUST(buf_add_byte(&twice, 0) == 0);
        MUST(bytes_equal(buf_bytes(&text), buf_bytes(&twice)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes raw = bytes_of(data, size < FUZZ_GUARDED_MAX ? size : FUZZ_GUARDED_MAX);
        struct cbor_item item, items[8];
        int r = cbor_check(raw, CBOR_DEPTH_MAX);
        size_t n;

        MUST(r == 0 || r == REFUSE_MALFORMED);
        MUST(cbor_item(raw, &item) == r);
        MUST(cbor_check(raw, 0) == 0 ? r == 0 : true);
        read_map(raw, r);
        if (cbor_array(raw, items, N_ELEMENTS(items), &n) == 0)
                for (size_t i = 0; i < n; i++)
                        must_lie_in(items[i].raw, raw);
        if (r == 0)
                print_and_read_back(raw);
        return 0;
}
