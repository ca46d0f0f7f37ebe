#include "support/vectors.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static void give_up(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void give_up(const char *format, ...) {
        va_list args;

        va_start(args, format);
        fputs("vectors: ", stderr);
        vfprintf(stderr, format, args);
        fputc('\n', stderr);
        va_end(args);
        abort();
}

json_t *vectors_load(const char *name) {
        const char *root = getenv("ACED_SRCDIR");
        json_error_t error;
        char path[4096];
        json_t *json;

        snprintf(path, sizeof(path), "%s/tests/vectors/%s.json", root ? root : ".", name);
        json = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
        if (!json)
                give_up("%s:%d: %s", path, error.line, error.text);
        return json;
}

json_t *vectors_get(const json_t *object, const char *path) {
        _cleanup_(freep) char *copy = strdup(path);
        char *rest = copy;

        for (const char *step; object && (step = strsep(&rest, ".")) != NULL;)
                object = json_is_array(object) && isdigit((unsigned char)*step) ?
                        json_array_get(object, strtoul(step, NULL, 10)) :
                        json_object_get(object, step);
        return (json_t *)object;
}

bool vectors_has(const json_t *object, const char *path) {
        const json_t *value = vectors_get(object, path);

        return value && !json_is_null(value);
}

static json_t *get(const json_t *object, const char *path) {
        json_t *value = vectors_get(object, path);

        if (!value)
                give_up("no member \"%s\"", path);
        return value;
}

struct buf vectors_bytes(const json_t *object, const char *path) {
        const json_t *value = get(object, path);
        struct buf buf = BUF_INIT(SIZE_MAX);
        const char *text = json_string_value(value);
        uint8_t *space;
        size_t size = 0;

        if (json_is_null(value))
                return buf;
        if (!text || buf_reserve(&buf, strlen(text) / 2 + 1, &space) < 0 ||
            bytes_from_hex(text, space, strlen(text) / 2, &size) < 0)
                give_up("\"%s\" is no hexadecimal", path);
        buf_added(&buf, size);
        return buf;
}

const char *vectors_text(const json_t *object, const char *path) {
        const char *text = json_string_value(get(object, path));

        if (!text)
                give_up("\"%s\" is no text", path);
        return text;
}

int64_t vectors_number(const json_t *object, const char *path) {
        const json_t *value = get(object, path);

        if (!json_is_integer(value))
                give_up("\"%s\" is no number", path);
        return json_integer_value(value);
}

json_t *vectors_find(const json_t *array, const char *name) {
        const json_t *row;
        size_t i;

        json_array_foreach(array, i, row) {
                const char *is = json_string_value(json_object_get(row, "name"));

                if (is && strcmp(is, name) == 0)
                        return (json_t *)row;
        }
        give_up("no vector \"%s\"", name);
}
