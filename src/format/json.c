#include "format/json.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <malloc.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "domain/refusal.h"

static void wiping_free(void *memory) {
        if (memory)
                wipe(memory, malloc_usable_size(memory));
        free(memory);
}

void json_wipe_what_is_freed(void) {
        json_set_alloc_funcs(malloc, wiping_free);
}

void json_document_done(struct json_document *document) {
        json_decref(document->root);
        document->root = NULL;
}

/* How deep arrays and objects go, strings left out; known before jansson recurses over it. */
static unsigned text_depth(struct bytes text) {
        unsigned depth = 0, deepest = 0;
        bool in_string = false;

        for (size_t i = 0; i < text.size; i++) {
                uint8_t c = text.data[i];

                if (in_string && c == '\\')
                        i++;
                else if (c == '"')
                        in_string = !in_string;
                else if (!in_string && (c == '[' || c == '{'))
                        depth++;
                else if (!in_string && (c == ']' || c == '}') && depth > 0)
                        depth--;
                if (depth > deepest)
                        deepest = depth;
        }
        return deepest;
}

/* A fault of the whole text. */
static int syntax_fault(struct diags *faults, int line, const char *text) {
        int r;

        r = diags_add(faults, NULL, line > 0 ? (unsigned)line : 0, "%s", text);
        return r < 0 ? r : REFUSE_ADMIN_SYNTAX;
}

/*
 * When memory is short, jansson may call a good text faulty, and say so with any code or none. A text that is faulty is
 * so each time: the caller tries twice.
 */
static json_t *load(struct bytes text, json_error_t *error) {
        return json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, error);
}

int json_parse(struct bytes text, struct json_document *ret_document, struct diags *faults) {
        json_error_t error;
        json_t *root;

        if (text.size > JSON_TEXT_MAX)
                return syntax_fault(faults, 0, "the JSON text is too long");
        if (text.size == 0)
                return syntax_fault(faults, 0, "a JSON text is expected, there is none");
        if (text_depth(text) > JSON_DEPTH_MAX)
                return syntax_fault(faults, 0, "the JSON text has too many arrays and objects inside each other");
        root = load(text, &error);
        if (!root)
                root = load(text, &error);
        if (!root && (json_error_code(&error) == json_error_out_of_memory || error.text[0] == '\0'))
                return -ENOMEM;
        if (!root) {
                char *near = strstr(error.text, " near '");

                if (near)
                        *near = '\0'; /* what stands there may be half a key, and what is told here is logged */
                return syntax_fault(faults, error.line, error.text);
        }
        ret_document->root = root;
        return 0;
}

/* ---- objects by field tables */

/* A reading under way: what is wrong so far. */
struct reading {
        struct diags *faults;
        unsigned n_faults;
        int broken; /* 0 or -ENOMEM */
};

static void fault(struct reading *reading, const char *name, const char *what) {
        int r;

        if (reading->n_faults++ >= JSON_FAULTS_MAX)
                return;
        r = diags_add(reading->faults, NULL, 0, "member \"%s\": %s", name, what);
        if (r < 0)
                reading->broken = r;
}

static void *field_place(const struct json_field *field, void *target) {
        return (char *)target + field->offset;
}

static bool text_fits(const struct json_field *field, const char *text) {
        int64_t size = (int64_t)strlen(text);

        return size >= field->min && (field->max == 0 || size <= field->max);
}

static void text_fault(struct reading *reading, const struct json_field *field, const char *each) {
        char what[96];

        if (field->max == 0)
                snprintf(what, sizeof(what), "%sat least %" PRId64 " bytes are expected", each, field->min);
        else
                snprintf(what, sizeof(what), "%s%" PRId64 " to %" PRId64 " bytes are expected", each, field->min,
                         field->max);
        fault(reading, field->name, what);
}

static void take_text(struct reading *reading, const struct json_field *field, json_t *value, void *target) {
        if (!json_is_string(value))
                fault(reading, field->name, "a string is expected");
        else if (!text_fits(field, json_string_value(value)))
                text_fault(reading, field, "");
        else
                *(const char **)field_place(field, target) = json_string_value(value);
}

static void take_int(struct reading *reading, const struct json_field *field, json_t *value, void *target) {
        bool any = field->min == 0 && field->max == 0;
        json_int_t number = json_integer_value(value);
        char what[96];

        if (!json_is_integer(value)) {
                fault(reading, field->name, "an integer is expected");
        } else if (!any && (number < field->min || number > field->max)) {
                snprintf(what, sizeof(what), "%" PRId64 " to %" PRId64 " is expected", field->min, field->max);
                fault(reading, field->name, what);
        } else {
                *(struct json_int *)field_place(field, target) = (struct json_int){ .set = true, .value = number };
        }
}

static void take_bool(struct reading *reading, const struct json_field *field, json_t *value, void *target) {
        if (!json_is_boolean(value))
                fault(reading, field->name, "true or false is expected");
        else
                *(struct json_bool *)field_place(field, target) = (struct json_bool){ true, json_is_true(value) };
}

static void take_texts(struct reading *reading, const struct json_field *field, json_t *value, void *target) {
        struct json_texts texts = { .set = true };
        char what[64];
        size_t i;
        json_t *item;

        if (!json_is_array(value)) {
                fault(reading, field->name, "an array of strings is expected");
                return;
        }
        if (json_array_size(value) > JSON_TEXTS_MAX) {
                snprintf(what, sizeof(what), "at most %d strings are expected", JSON_TEXTS_MAX);
                fault(reading, field->name, what);
                return;
        }
        json_array_foreach(value, i, item) {
                if (!json_is_string(item)) {
                        fault(reading, field->name, "an array of strings is expected");
                        return;
                }
                if (!text_fits(field, json_string_value(item))) {
                        text_fault(reading, field, "in each string ");
                        return;
                }
                texts.items[texts.n_items++] = json_string_value(item);
        }
        *(struct json_texts *)field_place(field, target) = texts;
}

static const struct {
        size_t size;
        void (*take)(struct reading *, const struct json_field *, json_t *, void *);
} kinds[] = {
        [JSON_FIELD_TEXT] = { sizeof(const char *), take_text },
        [JSON_FIELD_INT] = { sizeof(struct json_int), take_int },
        [JSON_FIELD_BOOL] = { sizeof(struct json_bool), take_bool },
        [JSON_FIELD_TEXTS] = { sizeof(struct json_texts), take_texts },
};

static void clear_fields(const struct json_field *fields, size_t n_fields, void *target) {
        for (size_t i = 0; i < n_fields; i++)
                memset(field_place(&fields[i], target), 0, kinds[fields[i].kind].size);
}

static void take_fields(struct reading *reading, const struct json_field *fields, size_t n_fields, const json_t *object,
                        void *target) {
        for (size_t i = 0; i < n_fields; i++) {
                json_t *value = json_object_get(object, fields[i].name);

                if (value)
                        kinds[fields[i].kind].take(reading, &fields[i], value, target);
                else if (fields[i].required)
                        fault(reading, fields[i].name, "it is missing");
        }
}

static bool is_field(const struct json_field *fields, size_t n_fields, const char *name) {
        for (size_t i = 0; i < n_fields; i++)
                if (strcmp(fields[i].name, name) == 0)
                        return true;
        return false;
}

static void report_unknown(struct reading *reading, const struct json_field *fields, size_t n_fields, json_t *object) {
        const char *name;
        json_t *value;

        json_object_foreach(object, name, value)
                if (!is_field(fields, n_fields, name))
                        fault(reading, name, "there is no such member");
}

int json_read_value(json_t *value, const struct json_field *fields, size_t n_fields, void *target,
                    struct diags *faults) {
        struct reading reading = { .faults = faults };

        clear_fields(fields, n_fields, target);
        if (!json_is_object(value))
                return syntax_fault(faults, 0, "a JSON object is expected");
        take_fields(&reading, fields, n_fields, value, target);
        report_unknown(&reading, fields, n_fields, value);
        if (reading.n_faults > 0)
                clear_fields(fields, n_fields, target); /* nothing borrows from a document that goes */
        if (reading.broken < 0)
                return reading.broken;
        return reading.n_faults > 0 ? REFUSE_ADMIN_VALUE : 0;
}

int json_read(struct bytes text, const struct json_field *fields, size_t n_fields, void *target,
              struct json_document *ret_document, struct diags *faults) {
        _cleanup_(json_document_done) struct json_document document = {};
        int r;

        clear_fields(fields, n_fields, target);
        if ((r = json_parse(text, &document, faults)) != 0 ||
            (r = json_read_value(document.root, fields, n_fields, target, faults)) != 0)
                return r;
        ret_document->root = TAKE_PTR(document.root);
        return 0;
}

void json_faults_line(const struct diags *faults, char *line, size_t size) {
        size_t used = 0;

        if (size == 0)
                return;
        line[0] = '\0';
        for (size_t i = 0; i < faults->n_items && used < size; i++) {
                const struct diag *item = &faults->items[i];
                const char *between = i > 0 ? "; " : "";
                int n;

                if (item->line > 0)
                        n = snprintf(line + used, size - used, "%sline %u: %s", between, item->line, item->text);
                else
                        n = snprintf(line + used, size - used, "%s%s", between, item->text);
                if (n < 0)
                        return;
                used += (size_t)n;
        }
}

/* ---- writing */

struct printing {
        struct buf *out;
        int failed;
};

static int print_part(const char *data, size_t size, void *context) {
        struct printing *printing = context;

        printing->failed = buf_add(printing->out, bytes_of(data, size));
        return printing->failed == 0 ? 0 : -1;
}

int json_print(const struct json_t *value, struct buf *out) {
        struct printing printing = { .out = out };
        size_t before = out->size;

        if (!value)
                return -EINVAL;
        if (json_dump_callback(value, print_part, &printing, JSON_COMPACT | JSON_ENCODE_ANY) == 0)
                return 0;
        out->size = before; /* no half text stays */
        return printing.failed != 0 ? printing.failed : -ENOMEM;
}
