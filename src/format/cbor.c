#include "format/cbor.h"

#include <cbor/callbacks.h>
#include <cbor/encoding.h>
#include <cbor/streaming.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "domain/refusal.h"

/* Major types and additional information (RFC 8949 §3) */
enum {
        MAJOR_UINT,
        MAJOR_NEGINT,
        MAJOR_BYTES,
        MAJOR_TEXT,
        MAJOR_ARRAY,
        MAJOR_MAP,
        MAJOR_TAG,
        MAJOR_SIMPLE,
};

enum { INFO_1_BYTE = 24, INFO_2_BYTES = 25, INFO_8_BYTES = 27, INFO_INDEFINITE = 31 };
enum { SIMPLE_FALSE = 20, SIMPLE_TRUE = 21, SIMPLE_NULL = 22, SIMPLE_UNDEFINED = 23 };

#define BYTE_BREAK 0xff

struct head {
        unsigned major, info;
        uint64_t argument;
        bool indefinite;
};

/* Readers take what they read off the front of *in. */
static int read_head(struct bytes *in, struct head *ret) {
        struct head head;
        size_t n;

        if (in->size < 1)
                return REFUSE_MALFORMED;
        head = (struct head){ .major = in->data[0] >> 5, .info = in->data[0] & 31 };
        n = 1;
        if (head.info < INFO_1_BYTE) {
                head.argument = head.info;
        } else if (head.info <= INFO_8_BYTES) {
                n += (size_t)1 << (head.info - INFO_1_BYTE);
                if (in->size < n)
                        return REFUSE_MALFORMED;
                for (size_t i = 1; i < n; i++)
                        head.argument = head.argument << 8 | in->data[i];
        } else if (head.info == INFO_INDEFINITE && head.major >= MAJOR_BYTES && head.major <= MAJOR_MAP) {
                head.indefinite = true;
        } else {
                return REFUSE_MALFORMED; /* reserved, or a break where none may stand */
        }
        /* RFC 8949 §3.3: a simple value below 32 in two bytes is not well-formed */
        if (head.major == MAJOR_SIMPLE && head.info == INFO_1_BYTE && head.argument < 32)
                return REFUSE_MALFORMED;
        *in = bytes_of(in->data + n, in->size - n);
        *ret = head;
        return 0;
}

/* The next size bytes; size is what a peer claims. */
static int read_bytes(struct bytes *in, uint64_t size, struct bytes *ret) {
        if (size > in->size)
                return REFUSE_MALFORMED;
        *ret = bytes_of(in->data, (size_t)size);
        *in = bytes_of(in->data + size, in->size - (size_t)size);
        return 0;
}

static bool read_break(struct bytes *in) {
        if (in->size < 1 || in->data[0] != BYTE_BREAK)
                return false;
        *in = bytes_of(in->data + 1, in->size - 1);
        return true;
}

static bool is_utf8(struct bytes text) {
        while (text.size > 0) {
                size_t n = bytes_utf8_size(text);

                if (n == 0)
                        return false;
                text = bytes_of(text.data + n, text.size - n);
        }
        return true;
}

static int read_string(struct bytes *in, const struct head *head, struct bytes *ret) {
        int r;

        r = read_bytes(in, head->argument, ret);
        if (r != 0)
                return r;
        return head->major == MAJOR_TEXT && !is_utf8(*ret) ? REFUSE_MALFORMED : 0;
}

/* RFC 8949 §3.2.3: the chunks are definite strings of the same major type. */
static int skip_chunks(struct bytes *in, unsigned major) {
        struct bytes chunk;
        struct head head;
        int r;

        while (!read_break(in)) {
                r = read_head(in, &head);
                if (r != 0)
                        return r;
                if (head.major != major || head.indefinite)
                        return REFUSE_MALFORMED;
                r = read_string(in, &head, &chunk);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int skip_item(struct bytes *in, unsigned depth);

/* The items inside an array or map whose head is read. A claimed number costs no more than the bytes that are there. */
static int skip_items(struct bytes *in, const struct head *head, unsigned depth) {
        unsigned per_step = head->major == MAJOR_MAP ? 2 : 1;
        int r;

        for (uint64_t n = head->argument; head->indefinite ? !read_break(in) : n-- > 0;)
                for (unsigned i = 0; i < per_step; i++) {
                        r = skip_item(in, depth);
                        if (r != 0)
                                return r;
                }
        return 0;
}

/* Read over one item of at most depth levels. Recursion goes no deeper than that. */
static int skip_item(struct bytes *in, unsigned depth) {
        struct bytes content;
        struct head head;
        int r;

        r = read_head(in, &head);
        if (r != 0)
                return r;
        switch (head.major) {
        case MAJOR_BYTES:
        case MAJOR_TEXT:
                return head.indefinite ? skip_chunks(in, head.major) : read_string(in, &head, &content);
        case MAJOR_ARRAY:
        case MAJOR_MAP:
                return depth == 0 ? REFUSE_MALFORMED : skip_items(in, &head, depth - 1);
        case MAJOR_TAG:
                return depth == 0 ? REFUSE_MALFORMED : skip_item(in, depth - 1);
        default:
                return 0;
        }
}

int cbor_check(struct bytes raw, unsigned depth_max) {
        int r;

        r = skip_item(&raw, depth_max);
        if (r != 0)
                return r;
        return raw.size > 0 ? REFUSE_MALFORMED : 0;
}

static void take_float(void *context, float value) {
        *(double *)context = value;
}

static void take_double(void *context, double value) {
        *(double *)context = value;
}

static double decode_float(struct bytes raw) {
        struct cbor_callbacks callbacks = cbor_empty_callbacks;
        double value = 0;

        callbacks.float2 = take_float;
        callbacks.float4 = take_float;
        callbacks.float8 = take_double;
        if (cbor_stream_decode(raw.data, raw.size, &callbacks, &value).status != CBOR_DECODER_FINISHED)
                return 0; /* cannot be: the head has been read */
        return value;
}

static void take_simple(const struct head *head, struct cbor_item *item) {
        item->argument = 0;
        if (head->info >= INFO_2_BYTES) {
                item->kind = CBOR_FLOAT;
                item->number = decode_float(item->raw);
        } else if (head->argument == SIMPLE_FALSE || head->argument == SIMPLE_TRUE) {
                item->kind = CBOR_BOOL;
                item->argument = head->argument == SIMPLE_TRUE;
        } else if (head->argument == SIMPLE_NULL) {
                item->kind = CBOR_NULL;
        } else {
                item->kind = CBOR_SIMPLE;
                item->argument = head->argument;
        }
}

/* Take one item off in, which is known to be well-formed. */
static void take_item(struct bytes *in, struct cbor_item *ret) {
        static const enum cbor_kind kinds[] = {
                [MAJOR_UINT] = CBOR_UINT,   [MAJOR_NEGINT] = CBOR_NEGINT, [MAJOR_BYTES] = CBOR_BYTES,
                [MAJOR_TEXT] = CBOR_TEXT,   [MAJOR_ARRAY] = CBOR_ARRAY,   [MAJOR_MAP] = CBOR_MAP,
                [MAJOR_TAG] = CBOR_TAG,     [MAJOR_SIMPLE] = CBOR_SIMPLE,
        };
        struct bytes start = *in, body = *in;
        struct head head = {};

        skip_item(in, CBOR_DEPTH_MAX);
        read_head(&body, &head);
        *ret = (struct cbor_item){
                .kind = kinds[head.major],
                .argument = head.argument,
                .raw = bytes_of(start.data, start.size - in->size),
        };
        if (head.major == MAJOR_SIMPLE)
                take_simple(&head, ret);
        else if (head.indefinite && (head.major == MAJOR_BYTES || head.major == MAJOR_TEXT))
                ret->kind = CBOR_CHUNKS;
        else if (head.major == MAJOR_BYTES || head.major == MAJOR_TEXT)
                ret->content = bytes_of(body.data, (size_t)head.argument);
        else if (head.major == MAJOR_TAG)
                ret->content = bytes_of(body.data, (size_t)(in->data - body.data));
}

bool cbor_item_int(const struct cbor_item *item, int64_t *ret) {
        if (!(item->kind & CBOR_INT) || item->argument > INT64_MAX)
                return false;
        *ret = item->kind == CBOR_UINT ? (int64_t)item->argument : -1 - (int64_t)item->argument;
        return true;
}

int cbor_item(struct bytes raw, struct cbor_item *ret) {
        int r;

        r = cbor_check(raw, CBOR_DEPTH_MAX);
        if (r != 0)
                return r;
        take_item(&raw, ret);
        return 0;
}

/* Open a well-formed container: *in becomes its inside, without a break at the end. */
static bool open_container(struct bytes *in, unsigned major) {
        struct head head;

        if (read_head(in, &head) != 0 || head.major != major)
                return false;
        if (head.indefinite)
                in->size--;
        return true;
}

int cbor_array(struct bytes raw, struct cbor_item *items, size_t max, size_t *ret_n) {
        size_t n = 0;
        int r;

        r = cbor_check(raw, CBOR_DEPTH_MAX);
        if (r != 0)
                return r;
        if (!open_container(&raw, MAJOR_ARRAY))
                return REFUSE_WRONG_TYPE;
        while (raw.size > 0) {
                if (n == max)
                        return REFUSE_WRONG_TYPE;
                take_item(&raw, &items[n++]);
        }
        *ret_n = n;
        return 0;
}

int cbor_map_next(struct bytes raw, size_t *pos, struct cbor_item *ret_key, struct cbor_item *ret_value) {
        struct bytes rest = raw;
        int r;

        if (*pos == 0) {
                r = cbor_check(raw, CBOR_DEPTH_MAX);
                if (r != 0)
                        return r;
        }
        if (!open_container(&rest, MAJOR_MAP))
                return REFUSE_MALFORMED;
        if (*pos > 0) {
                size_t skip = *pos - (size_t)(rest.data - raw.data);

                rest = bytes_of(rest.data + skip, rest.size - skip);
        }
        if (rest.size == 0)
                return 0;
        take_item(&rest, ret_key);
        take_item(&rest, ret_value);
        *pos = (size_t)(rest.data - raw.data);
        return 1;
}

/* The same label, however long an integer was encoded. */
static bool same_key(const struct cbor_item *a, const struct cbor_item *b) {
        if (a->kind != b->kind)
                return false;
        return a->kind == CBOR_TEXT ? bytes_equal(a->content, b->content) : a->argument == b->argument;
}

static struct cbor_item *field_item(const struct cbor_field *field, void *target) {
        return (struct cbor_item *)((char *)target + field->offset);
}

static const struct cbor_field *find_field(const struct cbor_field *fields, size_t n_fields,
                                           const struct cbor_item *key) {
        int64_t label;

        if (!cbor_item_int(key, &label))
                return NULL;
        for (size_t i = 0; i < n_fields; i++)
                if (fields[i].label == label)
                        return &fields[i];
        return NULL;
}

/* One pair; the keys before it are in keys. Quadratic, but over CBOR_PAIRS_MAX keys at most. */
static int map_pair(struct bytes *inside, struct cbor_item *keys, size_t n_keys, const struct cbor_field *fields,
                    size_t n_fields, void *target) {
        const struct cbor_field *field;
        struct cbor_item value;

        if (n_keys == CBOR_PAIRS_MAX)
                return REFUSE_WRONG_TYPE;
        take_item(inside, &keys[n_keys]);
        take_item(inside, &value);
        if (!(keys[n_keys].kind & (CBOR_INT | CBOR_TEXT)))
                return REFUSE_WRONG_TYPE;
        for (size_t i = 0; i < n_keys; i++)
                if (same_key(&keys[i], &keys[n_keys]))
                        return REFUSE_WRONG_TYPE;
        field = find_field(fields, n_fields, &keys[n_keys]);
        if (!field)
                return 0;
        if (!(value.kind & field->kinds))
                return REFUSE_WRONG_TYPE;
        *field_item(field, target) = value;
        return 0;
}

int cbor_map(struct bytes raw, const struct cbor_field *fields, size_t n_fields, void *target) {
        struct cbor_item keys[CBOR_PAIRS_MAX];
        int r;

        for (size_t i = 0; i < n_fields; i++)
                *field_item(&fields[i], target) = (struct cbor_item){};
        r = cbor_check(raw, CBOR_DEPTH_MAX);
        if (r != 0)
                return r;
        if (!open_container(&raw, MAJOR_MAP))
                return REFUSE_MALFORMED;
        for (size_t n = 0; raw.size > 0; n++) {
                r = map_pair(&raw, keys, n, fields, n_fields, target);
                if (r != 0)
                        return r;
        }
        return 0;
}

/* ---- diagnostic notation */

static int print_item(struct bytes *in, struct buf *out);

static int print_bytes(struct bytes bytes, struct buf *out) {
        int r;

        r = buf_printf(out, "h'");
        for (size_t i = 0; i < bytes.size && r == 0; i++)
                r = buf_printf(out, "%02x", bytes.data[i]);
        return r != 0 ? r : buf_printf(out, "'");
}

/* Quotes, backslashes and control characters (C1 too: they move a terminal's cursor) are escaped. */
static int print_text(struct bytes text, struct buf *out) {
        int r;

        r = buf_printf(out, "\"");
        while (text.size > 0 && r == 0) {
                size_t n = bytes_utf8_size(text);

                if (text.data[0] == '"' || text.data[0] == '\\')
                        r = buf_printf(out, "\\%c", text.data[0]);
                else if (text.data[0] < 0x20 || text.data[0] == 0x7f)
                        r = buf_printf(out, "\\u%04x", text.data[0]);
                else if (text.data[0] == 0xc2 && text.data[1] < 0xa0)
                        r = buf_printf(out, "\\u%04x", text.data[1]);
                else
                        r = buf_add(out, bytes_of(text.data, n));
                text = bytes_of(text.data + n, text.size - n);
        }
        return r != 0 ? r : buf_printf(out, "\"");
}

static int print_float(double number, struct buf *out) {
        char text[40];

        if (isnan(number))
                return buf_printf(out, "NaN");
        if (isinf(number))
                return buf_printf(out, number < 0 ? "-Infinity" : "Infinity");
        /* 15 digits read well; 17 always give the same number back */
        snprintf(text, sizeof(text), "%.15g", number);
        if (strtod(text, NULL) != number)
                snprintf(text, sizeof(text), "%.17g", number);
        return buf_printf(out, strpbrk(text, ".e") ? "%s" : "%s.0", text);
}

static int print_chunks(struct bytes *in, unsigned major, struct buf *out) {
        const char *before = "(_ ";
        struct cbor_item chunk;
        int r = 0;

        /* RFC 8949 §8.1: with no chunks it could not be seen which kind it is */
        if (read_break(in))
                return buf_printf(out, major == MAJOR_TEXT ? "\"\"_" : "''_");
        while (!read_break(in) && r == 0) {
                take_item(in, &chunk);
                r = buf_printf(out, "%s", before);
                if (r == 0)
                        r = chunk.kind == CBOR_TEXT ? print_text(chunk.content, out) : print_bytes(chunk.content, out);
                before = ", ";
        }
        return r != 0 ? r : buf_printf(out, ")");
}

static int print_items(struct bytes *in, const struct head *head, struct buf *out) {
        bool map = head->major == MAJOR_MAP;
        const char *separator = "";
        int r;

        r = buf_printf(out, "%c%s", map ? '{' : '[', head->indefinite ? "_ " : "");
        for (uint64_t n = head->argument; r == 0 && (head->indefinite ? !read_break(in) : n-- > 0);) {
                r = buf_printf(out, "%s", separator);
                separator = ", ";
                if (r == 0)
                        r = print_item(in, out);
                if (r == 0 && map)
                        r = buf_printf(out, ": ");
                if (r == 0 && map)
                        r = print_item(in, out);
        }
        return r != 0 ? r : buf_printf(out, "%c", map ? '}' : ']');
}

static int print_tag(struct bytes *in, uint64_t number, struct buf *out) {
        int r;

        r = buf_printf(out, "%" PRIu64 "(", number);
        if (r == 0)
                r = print_item(in, out);
        return r != 0 ? r : buf_printf(out, ")");
}

static int print_simple(const struct cbor_item *item, struct buf *out) {
        if (item->kind == CBOR_FLOAT)
                return print_float(item->number, out);
        if (item->kind == CBOR_BOOL)
                return buf_printf(out, item->argument ? "true" : "false");
        if (item->kind == CBOR_NULL)
                return buf_printf(out, "null");
        if (item->argument == SIMPLE_UNDEFINED)
                return buf_printf(out, "undefined");
        return buf_printf(out, "simple(%" PRIu64 ")", item->argument);
}

static int print_negint(uint64_t argument, struct buf *out) {
        /* -1 - argument reaches one below what 64 bits count to */
        if (argument == UINT64_MAX)
                return buf_printf(out, "-18446744073709551616");
        return buf_printf(out, "-%" PRIu64, argument + 1);
}

/* Of input that is known to be well-formed and not too deep. */
static int print_item(struct bytes *in, struct buf *out) {
        struct bytes inside = *in;
        struct cbor_item item;
        struct head head;

        if (read_head(&inside, &head) != 0)
                return REFUSE_MALFORMED;
        take_item(in, &item);
        switch (head.major) {
        case MAJOR_UINT:
                return buf_printf(out, "%" PRIu64, item.argument);
        case MAJOR_NEGINT:
                return print_negint(item.argument, out);
        case MAJOR_BYTES:
        case MAJOR_TEXT:
                if (item.kind == CBOR_CHUNKS)
                        return print_chunks(&inside, head.major, out);
                return head.major == MAJOR_TEXT ? print_text(item.content, out) : print_bytes(item.content, out);
        case MAJOR_ARRAY:
        case MAJOR_MAP:
                return print_items(&inside, &head, out);
        case MAJOR_TAG:
                return print_tag(&inside, head.argument, out);
        default:
                return print_simple(&item, out);
        }
}

int cbor_print(struct bytes raw, struct buf *out) {
        int r;

        r = cbor_check(raw, CBOR_DEPTH_MAX);
        return r != 0 ? r : print_item(&raw, out);
}

/* ---- writing */

#define HEAD_SIZE_MAX 9

static void add(struct cbor_writer *w, struct bytes bytes) {
        if (w->failed == 0)
                w->failed = buf_add(w->buf, bytes);
}

static void add_head(struct cbor_writer *w, size_t (*encode)(size_t, unsigned char *, size_t), size_t argument) {
        unsigned char head[HEAD_SIZE_MAX];

        add(w, bytes_of(head, encode(argument, head, sizeof(head))));
}

void cbor_put_map(struct cbor_writer *w, size_t n_pairs) {
        add_head(w, cbor_encode_map_start, n_pairs);
}

void cbor_put_array(struct cbor_writer *w, size_t n_items) {
        add_head(w, cbor_encode_array_start, n_items);
}

void cbor_put_uint(struct cbor_writer *w, uint64_t value) {
        unsigned char head[HEAD_SIZE_MAX];

        add(w, bytes_of(head, cbor_encode_uint(value, head, sizeof(head))));
}

void cbor_put_int(struct cbor_writer *w, int64_t value) {
        unsigned char head[HEAD_SIZE_MAX];

        if (value >= 0)
                cbor_put_uint(w, (uint64_t)value);
        else
                add(w, bytes_of(head, cbor_encode_negint((uint64_t)(-1 - value), head, sizeof(head))));
}

void cbor_put_bytes(struct cbor_writer *w, struct bytes value) {
        cbor_put_bytes_head(w, value.size);
        add(w, value);
}

void cbor_put_text(struct cbor_writer *w, struct bytes value) {
        add_head(w, cbor_encode_string_start, value.size);
        add(w, value);
}

void cbor_put_bool(struct cbor_writer *w, bool value) {
        unsigned char head[HEAD_SIZE_MAX];

        add(w, bytes_of(head, cbor_encode_bool(value, head, sizeof(head))));
}

void cbor_put_null(struct cbor_writer *w) {
        unsigned char head[HEAD_SIZE_MAX];

        add(w, bytes_of(head, cbor_encode_null(head, sizeof(head))));
}

void cbor_put_tag(struct cbor_writer *w, uint64_t tag) {
        unsigned char head[HEAD_SIZE_MAX];

        add(w, bytes_of(head, cbor_encode_tag(tag, head, sizeof(head))));
}

void cbor_put_raw(struct cbor_writer *w, struct bytes item) {
        add(w, item);
}

void cbor_put_bytes_head(struct cbor_writer *w, size_t size) {
        add_head(w, cbor_encode_bytestring_start, size);
}

void cbor_hold(struct cbor_writer *w, size_t size) {
        size_t room = w->buf->limit - w->buf->size;
        uint8_t *space;

        if (w->failed == 0)
                w->failed = buf_reserve(w->buf, size < room ? size : room, &space);
}

int cbor_end(struct cbor_writer *w) {
        return w->failed;
}
