/* JSON by a field table: what is read is of the table's kinds and sizes, what is refused has said why. */
#include <jansson.h>

#include "base/cleanup.h"
#include "base/diag.h"
#include "domain/refusal.h"
#include "format/json.h"
#include "fuzz.h"

#define PRINTED_MAX ((size_t)1 << 20)

struct body {
        const char *name, *scope;
        struct json_int lifetime_s, any;
        struct json_bool suspended;
        struct json_texts labels;
};

static const struct json_field fields[] = {
        { .name = "name", .kind = JSON_FIELD_TEXT, .offset = offsetof(struct body, name),
          .required = true, .min = 1, .max = 64 },
        { .name = "scope", .kind = JSON_FIELD_TEXT, .offset = offsetof(struct body, scope) },
        { .name = "lifetime_s", .kind = JSON_FIELD_INT, .offset = offsetof(struct body, lifetime_s),
          .min = 1, .max = 600 },
        { .name = "any", .kind = JSON_FIELD_INT, .offset = offsetof(struct body, any) },
        { .name = "suspended", .kind = JSON_FIELD_BOOL, .offset = offsetof(struct body, suspended) },
        { .name = "labels", .kind = JSON_FIELD_TEXTS, .offset = offsetof(struct body, labels), .min = 1, .max = 64 },
};

static void must_fit(const struct body *body) {
        MUST(body->name && strlen(body->name) >= 1 && strlen(body->name) <= 64);
        MUST(!body->lifetime_s.set || (body->lifetime_s.value >= 1 && body->lifetime_s.value <= 600));
        MUST(body->labels.n_items <= JSON_TEXTS_MAX);
        for (size_t i = 0; i < body->labels.n_items; i++)
                MUST(strlen(body->labels.items[i]) >= 1 && strlen(body->labels.items[i]) <= 64);
}

static unsigned depth_of(const json_t *value) {
        unsigned deepest = 0, depth;
        const char *name;
        json_t *member;
        size_t i;

        json_object_foreach((json_t *)value, name, member)
                deepest = (depth = depth_of(member)) > deepest ? depth : deepest;
        json_array_foreach(value, i, member)
                deepest = (depth = depth_of(member)) > deepest ? depth : deepest;
        return deepest + (json_is_object(value) || json_is_array(value));
}

static void print_and_parse(const json_t *value) {
        _cleanup_(json_document_done) struct json_document again = {};
        _cleanup_(buf_done) struct buf text = BUF_INIT(PRINTED_MAX);
        _cleanup_(diags_done) struct diags faults = {};

        MUST(json_print(value, &text) == 0);
        MUST(json_parse(buf_bytes(&text), &again, &faults) == 0);
        MUST(json_equal(value, again.root));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes text = bytes_of(data, size < FUZZ_GUARDED_MAX ? size : FUZZ_GUARDED_MAX);
        _cleanup_(json_document_done) struct json_document document = {}, any = {};
        _cleanup_(diags_done) struct diags faults = {};
        struct body body;
        char line[64];
        int r = json_read(text, fields, N_ELEMENTS(fields), &body, &document, &faults);

        MUST(r == 0 || r == REFUSE_ADMIN_SYNTAX || r == REFUSE_ADMIN_VALUE);
        MUST((r == 0) == (faults.n_items == 0) && faults.n_items <= JSON_FAULTS_MAX);
        MUST((r == 0) == (document.root != NULL));
        if (r == 0)
                must_fit(&body);
        json_faults_line(&faults, line, sizeof(line));
        MUST(strlen(line) < sizeof(line));
        r = json_parse(text, &any, &faults);
        MUST(r == 0 || r == REFUSE_ADMIN_SYNTAX);
        if (r != 0)
                return 0;
        MUST(depth_of(any.root) <= JSON_DEPTH_MAX);
        print_and_parse(any.root);
        return 0;
}
