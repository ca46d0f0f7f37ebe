#include "edn.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "format/cbor.h"

#define ENCODED_MAX (64 * 1024)
#define DEPTH_MAX 64 /* of what tests write: deeper than the reader takes, so that they can show it */

/* Where the parser is. */
struct parser {
        const char *at;
        const struct edn_captures *captures;
        unsigned depth;
};

static void skip_blank(struct parser *p) {
        for (;;) {
                while (isspace((unsigned char)*p->at))
                        p->at++;
                if (*p->at == '#') {
                        p->at += strcspn(p->at, "\n");
                } else if (*p->at == '/') {
                        const char *end = strchr(p->at + 1, '/');

                        p->at = end ? end + 1 : p->at + strlen(p->at);
                } else {
                        return;
                }
        }
}

/* Take the characters when they come next, after blanks. */
static bool take(struct parser *p, const char *text) {
        skip_blank(p);
        if (strncmp(p->at, text, strlen(text)) != 0)
                return false;
        p->at += strlen(text);
        return true;
}

/* A word of letters, digits and _ that starts here; its size, 0 when there is none. */
static size_t word_size(const char *at) {
        size_t n = 0;

        if (!isalpha((unsigned char)*at))
                return 0;
        while (isalnum((unsigned char)at[n]) || at[n] == '_')
                n++;
        return n;
}

static bool take_word(struct parser *p, const char *word) {
        skip_blank(p);
        if (word_size(p->at) != strlen(word) || strncmp(p->at, word, strlen(word)) != 0)
                return false;
        p->at += strlen(word);
        return true;
}

/* ---- notation → bytes */

static int put_head(struct buf *out, unsigned major, uint64_t argument) {
        unsigned info = argument < 24 ? (unsigned)argument :
                        argument <= UINT8_MAX ? 24 :
                        argument <= UINT16_MAX ? 25 :
                        argument <= UINT32_MAX ? 26 : 27;
        int r;

        r = buf_add_byte(out, (uint8_t)(major << 5 | info));
        for (int shift = info < 24 ? -8 : (8 << (info - 24)) - 8; shift >= 0 && r == 0; shift -= 8)
                r = buf_add_byte(out, (uint8_t)(argument >> shift));
        return r;
}

static int put_number(struct buf *out, uint8_t head, uint64_t bits, unsigned size) {
        int r;

        r = buf_add_byte(out, head);
        for (unsigned i = size; i-- > 0 && r == 0;)
                r = buf_add_byte(out, (uint8_t)(bits >> 8 * i));
        return r;
}

/* The half precision form of a single, when it has one. */
static bool half_bits(uint32_t single, uint16_t *ret) {
        uint32_t sign = single >> 31, exponent = single >> 23 & 0xff, mantissa = single & 0x7fffff;
        int e = (int)exponent - 127;

        if (exponent == 0xff && (mantissa & 0x1fff) == 0) {
                *ret = (uint16_t)(sign << 15 | 0x7c00 | mantissa >> 13);
        } else if (exponent == 0 && mantissa == 0) {
                *ret = (uint16_t)(sign << 15);
        } else if (e >= -14 && e <= 15 && (mantissa & 0x1fff) == 0) {
                *ret = (uint16_t)(sign << 15 | (uint32_t)(e + 15) << 10 | mantissa >> 13);
        } else if (e >= -24 && e < -14) {
                uint32_t full = mantissa | 0x800000;
                unsigned shift = (unsigned)(-1 - e);

                if (full & ((UINT32_C(1) << shift) - 1))
                        return false;
                *ret = (uint16_t)(sign << 15 | full >> shift);
        } else {
                return false;
        }
        return true;
}

static int put_float(struct buf *out, double value) {
        float single = (float)value;
        uint32_t single_bits;
        uint64_t double_bits;
        uint16_t half;

        if (isnan(value))
                return put_number(out, 0xf9, 0x7e00, 2);
        memcpy(&single_bits, &single, sizeof(single_bits));
        memcpy(&double_bits, &value, sizeof(double_bits));
        if ((double)single != value)
                return put_number(out, 0xfb, double_bits, 8);
        return half_bits(single_bits, &half) ? put_number(out, 0xf9, half, 2) : put_number(out, 0xfa, single_bits, 4);
}

static int put_utf8(struct buf *out, unsigned c) {
        if (c < 0x80)
                return buf_add_byte(out, (uint8_t)c);
        if (c < 0x800)
                return buf_add(out, bytes_of((uint8_t[]){ (uint8_t)(0xc0 | c >> 6), (uint8_t)(0x80 | (c & 63)) }, 2));
        return buf_add(out, bytes_of((uint8_t[]){ (uint8_t)(0xe0 | c >> 12), (uint8_t)(0x80 | (c >> 6 & 63)),
                                                  (uint8_t)(0x80 | (c & 63)) }, 3));
}

/* What follows a backslash. */
static int encode_escape(struct parser *p, struct buf *out) {
        char hex[5] = "";
        char c = *p->at;

        if (c == '\0')
                return -EINVAL;
        p->at++;
        if (c == 'n' || c == 't' || c == 'r')
                return buf_add_byte(out, c == 'n' ? '\n' : c == 't' ? '\t' : '\r');
        if (c != 'u')
                return buf_add_byte(out, (uint8_t)c);
        for (int i = 0; i < 4; i++) {
                if (!isxdigit((unsigned char)*p->at))
                        return -EINVAL;
                hex[i] = *p->at++;
        }
        return put_utf8(out, (unsigned)strtoul(hex, NULL, 16));
}

/* A quoted string, from behind its opening quote. */
static int encode_quoted(struct parser *p, char quote, unsigned major, struct buf *out) {
        _cleanup_(buf_done) struct buf text = BUF_INIT(ENCODED_MAX);
        int r = 0;

        while (*p->at != quote && r == 0) {
                if (*p->at == '\0')
                        return -EINVAL;
                if (*p->at == '\\') {
                        p->at++;
                        r = encode_escape(p, &text);
                } else {
                        r = buf_add_byte(&text, (uint8_t)*p->at++);
                }
        }
        p->at++;
        if (r == 0 && text.size == 0 && *p->at == '_') { /* indefinite, without chunks */
                p->at++;
                return put_number(out, (uint8_t)(major << 5 | 31), 0xff, 1);
        }
        if (r == 0)
                r = put_head(out, major, text.size);
        return r != 0 ? r : buf_add(out, buf_bytes(&text));
}

static int encode_hex(struct parser *p, struct buf *out) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT(ENCODED_MAX);
        int r = 0, high = -1;

        for (; *p->at != '\'' && r == 0; p->at++) {
                if (isspace((unsigned char)*p->at))
                        continue;
                if (!isxdigit((unsigned char)*p->at))
                        return -EINVAL;
                int digit = isdigit((unsigned char)*p->at) ? *p->at - '0' : tolower((unsigned char)*p->at) - 'a' + 10;

                if (high >= 0)
                        r = buf_add_byte(&bytes, (uint8_t)(high << 4 | digit));
                high = high < 0 ? digit : -1;
        }
        if (r == 0 && high >= 0)
                return -EINVAL;
        p->at++;
        if (r == 0)
                r = put_head(out, 2, bytes.size);
        return r != 0 ? r : buf_add(out, buf_bytes(&bytes));
}

static int encode_item(struct parser *p, struct buf *out);

/* Items up to the closing characters; into out without a head. Maps have a colon after every other item. */
static int encode_items(struct parser *p, const char *close, bool map, struct buf *out, size_t *ret_n) {
        size_t n = 0;
        int r;

        while (!take(p, close)) {
                if (n > 0 && !take(p, map && n % 2 ? ":" : ","))
                        return -EINVAL;
                if (n > 0 && !(map && n % 2) && take(p, close)) /* a comma after the last one */
                        break;
                r = encode_item(p, out);
                if (r != 0)
                        return r;
                n++;
        }
        if (map && n % 2)
                return -EINVAL;
        *ret_n = map ? n / 2 : n;
        return 0;
}

/* [ and {, with a definite length or, after _, an indefinite one. */
static int encode_container(struct parser *p, bool map, struct buf *out) {
        _cleanup_(buf_done) struct buf inside = BUF_INIT(ENCODED_MAX);
        unsigned major = map ? 5 : 4;
        bool indefinite;
        size_t n;
        int r;

        indefinite = take(p, "_");
        r = encode_items(p, map ? "}" : "]", map, &inside, &n);
        if (r == 0)
                r = indefinite ? buf_add_byte(out, (uint8_t)(major << 5 | 31)) : put_head(out, major, n);
        if (r == 0)
                r = buf_add(out, buf_bytes(&inside));
        return r == 0 && indefinite ? buf_add_byte(out, 0xff) : r;
}

/* (_ chunk, ...) : the first chunk's major type is the whole one's. */
static int encode_chunks(struct parser *p, struct buf *out) {
        _cleanup_(buf_done) struct buf inside = BUF_INIT(ENCODED_MAX);
        size_t n;
        int r;

        r = encode_items(p, ")", false, &inside, &n);
        if (r == 0 && n == 0)
                return -EINVAL;
        if (r == 0)
                r = buf_add_byte(out, (uint8_t)((inside.data[0] & 0xe0) | 31));
        if (r == 0)
                r = buf_add(out, buf_bytes(&inside));
        return r == 0 ? buf_add_byte(out, 0xff) : r;
}

static int encode_embedded(struct parser *p, struct buf *out) {
        _cleanup_(buf_done) struct buf inside = BUF_INIT(ENCODED_MAX);
        size_t n;
        int r;

        r = encode_items(p, ">>", false, &inside, &n);
        if (r == 0)
                r = put_head(out, 2, inside.size);
        return r != 0 ? r : buf_add(out, buf_bytes(&inside));
}

static int encode_integer(struct parser *p, const char *end, bool negative, struct buf *out) {
        uint64_t value;
        char *stop;
        int r;

        /* the lowest negative integer is one beyond what -1 - n holds in n's own digits */
        if (negative && strncmp(p->at, "18446744073709551616", (size_t)(end - p->at)) == 0 && end - p->at == 20) {
                p->at = end;
                return put_head(out, 1, UINT64_MAX);
        }
        errno = 0;
        value = strtoull(p->at, &stop, 10);
        if (errno != 0 || stop != end)
                return -EINVAL;
        p->at = end;
        if (negative)
                return value == 0 ? put_head(out, 0, 0) : put_head(out, 1, value - 1);
        if (*p->at != '(')
                return put_head(out, 0, value);
        p->at++;
        if ((r = put_head(out, 6, value)) != 0 || (r = encode_item(p, out)) != 0)
                return r;
        return take(p, ")") ? 0 : -EINVAL;
}

static int encode_number(struct parser *p, struct buf *out) {
        const char *start = p->at, *end;
        bool negative = *p->at == '-';
        double value;
        char *stop;

        end = start + negative + strspn(start + negative, "0123456789");
        if (*end != '.' && *end != 'e') {
                p->at += negative;
                return encode_integer(p, end, negative, out);
        }
        value = strtod(start, &stop);
        p->at = stop;
        return put_float(out, value);
}

static int encode_simple(struct parser *p, struct buf *out) {
        unsigned long value;
        char *end;

        value = strtoul(p->at, &end, 10);
        p->at = end;
        if (value > UINT8_MAX || (value >= 24 && value < 32) || !take(p, ")"))
                return -EINVAL;
        return put_head(out, 7, value);
}

static size_t take_name(struct parser *p, char name[static 32]) {
        size_t n = 0;

        while ((isalnum((unsigned char)*p->at) || *p->at == '_' || *p->at == '-') && n < 31)
                name[n++] = *p->at++;
        name[n] = '\0';
        return n;
}

static int encode_variable(struct parser *p, struct buf *out) {
        char name[32];
        struct bytes item;

        if (take_name(p, name) == 0 || !p->captures)
                return -EINVAL;
        item = edn_captured(p->captures, name, NULL);
        return item.data ? buf_add(out, item) : -EINVAL;
}

static const struct {
        const char *word;
        uint8_t byte;
} constants[] = { { "false", 0xf4 }, { "true", 0xf5 }, { "null", 0xf6 }, { "undefined", 0xf7 } };

static const struct {
        const char *word;
        double value;
} floats[] = { { "Infinity", INFINITY }, { "-Infinity", -INFINITY }, { "NaN", NAN } };

static int encode_word(struct parser *p, struct buf *out) {
        for (size_t i = 0; i < N_ELEMENTS(constants); i++)
                if (take_word(p, constants[i].word))
                        return buf_add_byte(out, constants[i].byte);
        for (size_t i = 0; i < N_ELEMENTS(floats); i++)
                if (take(p, floats[i].word))
                        return put_float(out, floats[i].value);
        return take(p, "simple(") ? encode_simple(p, out) : -EINVAL;
}

static int encode_any(struct parser *p, struct buf *out) {
        skip_blank(p);
        if (isdigit((unsigned char)*p->at) || (*p->at == '-' && isdigit((unsigned char)p->at[1])))
                return encode_number(p, out);
        if (take(p, "\""))
                return encode_quoted(p, '"', 3, out);
        if (take(p, "h'"))
                return encode_hex(p, out);
        if (take(p, "'"))
                return encode_quoted(p, '\'', 2, out);
        if (take(p, "["))
                return encode_container(p, false, out);
        if (take(p, "{"))
                return encode_container(p, true, out);
        if (take(p, "(_"))
                return encode_chunks(p, out);
        if (take(p, "<<"))
                return encode_embedded(p, out);
        if (take(p, "$"))
                return encode_variable(p, out);
        return encode_word(p, out);
}

static int encode_item(struct parser *p, struct buf *out) {
        int r;

        if (p->depth == DEPTH_MAX)
                return -EINVAL;
        p->depth++;
        r = encode_any(p, out);
        p->depth--;
        return r;
}

int edn_encode_with(const char *text, const struct edn_captures *captures, struct buf *out, const char **ret_at) {
        struct parser p = { .at = text, .captures = captures };
        size_t before = out->size;
        int r;

        r = encode_item(&p, out);
        skip_blank(&p);
        if (r == 0 && *p.at != '\0')
                r = -EINVAL;
        if (r != 0)
                out->size = before;
        if (r != 0 && ret_at)
                *ret_at = p.at;
        return r;
}

int edn_encode(const char *text, struct buf *out, const char **ret_at) {
        return edn_encode_with(text, NULL, out, ret_at);
}

/* ---- captures */

static struct edn_capture *find_capture(const struct edn_captures *captures, const char *name) {
        for (size_t i = 0; i < captures->n_items; i++)
                if (strcmp(captures->items[i].name, name) == 0)
                        return (struct edn_capture *)&captures->items[i];
        return NULL;
}

struct bytes edn_captured(const struct edn_captures *captures, const char *name, struct bytes *ret_content) {
        const struct edn_capture *capture = find_capture(captures, name);
        struct cbor_item item;
        struct bytes raw;

        if (ret_content)
                *ret_content = BYTES_NONE;
        if (!capture)
                return BYTES_NONE;
        raw = bytes_of(capture->data, capture->size);
        if (ret_content && cbor_item(raw, &item) == 0)
                *ret_content = item.content;
        return raw;
}

int edn_capture(struct edn_captures *captures, const char *name, struct bytes item) {
        struct edn_capture *capture = find_capture(captures, name);

        if (item.size > sizeof(capture->data) || strlen(name) >= sizeof(capture->name))
                return -EOVERFLOW;
        if (!capture) {
                if (captures->n_items == EDN_CAPTURES_MAX)
                        return -EOVERFLOW;
                capture = &captures->items[captures->n_items++];
                strcpy(capture->name, name);
        }
        memcpy(capture->data, item.data, item.size);
        capture->size = item.size;
        return 0;
}

/* ---- patterns against items */

struct matcher {
        struct parser p;
        struct edn_captures *captures;
        char path[200]; /* where in the item we are: "/8/1/-1" */
        char *why;
        size_t why_size;
};

static int fail(struct matcher *m, int r, const char *format, ...) __attribute__((format(printf, 3, 4)));

static int fail(struct matcher *m, int r, const char *format, ...) {
        va_list args;
        int n;

        n = snprintf(m->why, m->why_size, "at %s: ", m->path[0] ? m->path : "/");
        if (n < 0 || (size_t)n >= m->why_size)
                return r;
        va_start(args, format);
        vsnprintf(m->why + n, m->why_size - (size_t)n, format, args);
        va_end(args);
        return r;
}

/* No match: what was expected, and the item that is there. */
static int mismatch(struct matcher *m, const char *expected, size_t expected_size, const struct cbor_item *item) {
        _cleanup_(buf_done) struct buf found = BUF_INIT(ENCODED_MAX);

        if (cbor_print(item->raw, &found) != 0)
                return fail(m, -EINVAL, "the item is not well-formed");
        return fail(m, -ENOENT, "%.*s expected, %.*s found", (int)expected_size, expected, (int)found.size,
                    (char *)found.data);
}

static bool same_meaning(const struct cbor_item *a, const struct cbor_item *b) {
        if (a->kind != b->kind)
                return false;
        switch (a->kind) {
        case CBOR_BYTES:
        case CBOR_TEXT:
                return bytes_equal(a->content, b->content);
        case CBOR_FLOAT:
                return a->number == b->number || (isnan(a->number) && isnan(b->number));
        case CBOR_CHUNKS:
                return bytes_equal(a->raw, b->raw);
        default:
                return a->argument == b->argument;
        }
}

static int match_item(struct matcher *m, const struct cbor_item *item);

static int match_raw(struct matcher *m, struct bytes raw) {
        struct cbor_item item;

        if (cbor_item(raw, &item) != 0)
                return fail(m, -EINVAL, "the item is not well-formed");
        return match_item(m, &item);
}

/* The literal at the parser's place, as an item over *encoded. */
static int literal_item(struct matcher *m, struct buf *encoded, struct cbor_item *ret) {
        int r;

        r = encode_item(&m->p, encoded);
        if (r == -EINVAL || (r == 0 && cbor_item(buf_bytes(encoded), ret) != 0))
                return fail(m, -EINVAL, "the pattern is faulty before \"%.40s\"", m->p.at);
        return r;
}

static int match_literal(struct matcher *m, const struct cbor_item *item) {
        _cleanup_(buf_done) struct buf encoded = BUF_INIT(ENCODED_MAX);
        struct cbor_item literal;
        const char *start;
        int r;

        skip_blank(&m->p);
        start = m->p.at;
        r = literal_item(m, &encoded, &literal);
        if (r != 0)
                return r;
        return same_meaning(&literal, item) ? 0 : mismatch(m, start, (size_t)(m->p.at - start), item);
}

static const struct {
        const char *word;
        unsigned kinds;
} kind_words[] = {
        { "bstr", CBOR_BYTES }, { "tstr", CBOR_TEXT },   { "uint", CBOR_UINT }, { "int", CBOR_INT },
        { "map", CBOR_MAP },    { "array", CBOR_ARRAY }, { "bool", CBOR_BOOL }, { "float", CBOR_FLOAT },
};

/* [n] or [n..m] behind a kind; false when it is no range. */
static bool take_range(struct parser *p, uint64_t *ret_min, uint64_t *ret_max) {
        char *end;

        *ret_min = *ret_max = strtoull(p->at, &end, 10);
        if (end == p->at)
                return false;
        p->at = end;
        if (take(p, "..")) {
                *ret_max = strtoull(p->at, &end, 10);
                if (end == p->at)
                        return false;
                p->at = end;
        }
        return take(p, "]");
}

static int match_kind(struct matcher *m, unsigned kinds, const char *start, const struct cbor_item *item) {
        uint64_t min = 0, max = UINT64_MAX, value;

        if (*m->p.at == '[') {
                m->p.at++;
                if (!take_range(&m->p, &min, &max))
                        return fail(m, -EINVAL, "the pattern is faulty before \"%.40s\"", m->p.at);
        }
        value = kinds & CBOR_TEXT_OR_BYTES ? item->content.size : kinds & CBOR_UINT ? item->argument : 0;
        if (!(item->kind & kinds) || value < min || value > max)
                return mismatch(m, start, (size_t)(m->p.at - start), item);
        return 0;
}

static int match_variable(struct matcher *m, const struct cbor_item *item) {
        struct bytes captured;
        char name[32];

        take_name(&m->p, name);
        captured = edn_captured(m->p.captures, name, NULL);
        if (!captured.data)
                return fail(m, -EINVAL, "nothing was captured as \"%s\"", name);
        return bytes_equal(captured, item->raw) ? 0 : mismatch(m, name, strlen(name), item);
}

static int match_capture(struct matcher *m, const struct cbor_item *item) {
        char name[32];
        int r;

        if (take_name(&m->p, name) == 0 || !m->captures)
                return fail(m, -EINVAL, "a capture needs a name, and a place to go to");
        r = edn_capture(m->captures, name, item->raw);
        if (r != 0)
                return fail(m, r, "too many captures, or too much in one");
        skip_blank(&m->p);
        return strchr(",]}):>", *m->p.at) ? 0 : match_item(m, item); /* the final zero is found too */
}

static int match_embedded(struct matcher *m, const struct cbor_item *item) {
        int r;

        if (item->kind != CBOR_BYTES)
                return mismatch(m, "<<", 2, item);
        r = match_raw(m, item->content);
        if (r != 0)
                return r;
        return take(&m->p, ">>") ? 0 : fail(m, -EINVAL, "\">>\" is missing before \"%.40s\"", m->p.at);
}

/* One level deeper: the path gets another part, and loses it by path[*ret_size] = 0. */
static size_t path_add(struct matcher *m, const char *part, size_t size) {
        size_t before = strlen(m->path);

        snprintf(m->path + before, sizeof(m->path) - before, "/%.*s", (int)size, part);
        return before;
}

static int match_array(struct matcher *m, const struct cbor_item *item) {
        struct cbor_item items[CBOR_PAIRS_MAX];
        size_t n, i = 0;
        int r;

        if (item->kind != CBOR_ARRAY || cbor_array(item->raw, items, N_ELEMENTS(items), &n) != 0)
                return mismatch(m, "an array", 8, item);
        while (!take(&m->p, "]")) {
                char part[24];
                size_t before;

                if (i > 0 && !take(&m->p, ","))
                        return fail(m, -EINVAL, "\",\" is missing before \"%.40s\"", m->p.at);
                if (take(&m->p, "...")) {
                        i = n;
                        continue;
                }
                if (i == n)
                        return mismatch(m, "a longer array", 14, item);
                snprintf(part, sizeof(part), "%zu", i);
                before = path_add(m, part, strlen(part));
                r = match_item(m, &items[i++]);
                if (r != 0)
                        return r;
                m->path[before] = '\0';
        }
        return i == n ? 0 : mismatch(m, "a shorter array", 15, item);
}

/* Find the pattern's key in the map and match the value. */
static int match_pair(struct matcher *m, const struct cbor_item *map) {
        _cleanup_(buf_done) struct buf encoded = BUF_INIT(ENCODED_MAX);
        struct cbor_item wanted, key, value;
        const char *start;
        size_t pos = 0, before;
        int r;

        skip_blank(&m->p);
        start = m->p.at;
        r = literal_item(m, &encoded, &wanted);
        if (r != 0)
                return r;
        before = path_add(m, start, (size_t)(m->p.at - start));
        if (!take(&m->p, ":"))
                return fail(m, -EINVAL, "\":\" is missing before \"%.40s\"", m->p.at);
        while (cbor_map_next(map->raw, &pos, &key, &value) == 1)
                if (same_meaning(&wanted, &key)) {
                        r = match_item(m, &value);
                        if (r == 0)
                                m->path[before] = '\0';
                        return r;
                }
        m->path[before] = '\0';
        return mismatch(m, start, (size_t)(m->p.at - start), map);
}

static int match_map(struct matcher *m, const struct cbor_item *item) {
        size_t n_pattern = 0, n_item = 0, pos = 0;
        struct cbor_item key, value;
        bool open = false;
        int r;

        if (item->kind != CBOR_MAP)
                return mismatch(m, "a map", 5, item);
        while (!take(&m->p, "}")) {
                if (n_pattern > 0 && !take(&m->p, ","))
                        return fail(m, -EINVAL, "\",\" is missing before \"%.40s\"", m->p.at);
                open = take(&m->p, "...");
                if (open)
                        continue;
                r = match_pair(m, item);
                if (r != 0)
                        return r;
                n_pattern++;
        }
        while (cbor_map_next(item->raw, &pos, &key, &value) == 1)
                n_item++;
        return open || n_item == n_pattern ? 0 : mismatch(m, "a map without further keys", 26, item);
}

/* n(pattern) here? Then *ret_tag is n and the parser stands behind the parenthesis. */
static bool take_tag(struct parser *p, uint64_t *ret_tag) {
        char *end;

        skip_blank(p);
        if (!isdigit((unsigned char)*p->at))
                return false;
        *ret_tag = strtoull(p->at, &end, 10);
        if (*end != '(')
                return false;
        p->at = end + 1;
        return true;
}

static int match_tag(struct matcher *m, uint64_t tag, const struct cbor_item *item) {
        char expected[40];
        int r;

        snprintf(expected, sizeof(expected), "tag %" PRIu64, tag);
        if (item->kind != CBOR_TAG || item->argument != tag)
                return mismatch(m, expected, strlen(expected), item);
        r = match_raw(m, item->content);
        if (r != 0)
                return r;
        return take(&m->p, ")") ? 0 : fail(m, -EINVAL, "\")\" is missing before \"%.40s\"", m->p.at);
}

static int match_item(struct matcher *m, const struct cbor_item *item) {
        const char *start;
        uint64_t tag;

        if (take(&m->p, "*"))
                return 0;
        if (take(&m->p, "="))
                return match_capture(m, item);
        if (take(&m->p, "$"))
                return match_variable(m, item);
        if (take(&m->p, "<<"))
                return match_embedded(m, item);
        if (take(&m->p, "["))
                return match_array(m, item);
        if (take(&m->p, "{"))
                return match_map(m, item);
        if (take_tag(&m->p, &tag))
                return match_tag(m, tag, item);
        start = m->p.at;
        for (size_t i = 0; i < N_ELEMENTS(kind_words); i++)
                if (take_word(&m->p, kind_words[i].word))
                        return match_kind(m, kind_words[i].kinds, start, item);
        return match_literal(m, item);
}

int edn_match(const char *pattern, struct bytes item, struct edn_captures *captures, char *why, size_t why_size) {
        static const struct edn_captures none;
        struct matcher m = {
                .p = { .at = pattern, .captures = captures ? captures : &none },
                .captures = captures,
                .why = why,
                .why_size = why_size,
        };
        int r;

        if (why_size > 0)
                why[0] = '\0';
        r = match_raw(&m, item);
        skip_blank(&m.p);
        if (r == 0 && *m.p.at != '\0')
                return fail(&m, -EINVAL, "the pattern has something after its end: \"%.40s\"", m.p.at);
        return r;
}
