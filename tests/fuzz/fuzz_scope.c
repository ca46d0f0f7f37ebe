/* AIF scopes in CBOR, as text and as kept; days and hours; variables of policies with any labels. */
#include <stdio.h>

#include "base/cleanup.h"
#include "domain/aif.h"
#include "domain/refusal.h"
#include "domain/variable.h"
#include "format/aif.h"
#include "format/cbor.h"
#include "format/hours.h"
#include "fuzz.h"

#define LABELS_MAX 8

/* However it came about, it is written one way, and read again as what it is. */
static void must_be_aif(const struct scope *scope) {
        _cleanup_(buf_done) struct buf encoded = BUF_INIT(AIF_ENCODED_SIZE_MAX), text = BUF_INIT(AIF_TEXT_SIZE_MAX);
        struct cbor_writer w = CBOR_WRITER(&encoded);
        struct scope again = {};
        struct cbor_item item;
        char cut[32];

        MUST(scope->kind == SCOPE_AIF && aif_is_valid(scope_bytes(scope)));
        MUST(scope_set(&again, SCOPE_AIF, scope_bytes(scope)) == 0 && scope_equal(scope, &again));
        aif_put(&w, scope);
        MUST(cbor_end(&w) == 0 && cbor_item(buf_bytes(&encoded), &item) == 0 && item.kind == CBOR_BYTES);
        MUST(aif_decode(item.content, &again) == 0 && scope_equal(scope, &again));
        MUST(aif_print(scope, &text) == 0 && aif_parse(buf_bytes(&text), &again) == 0 && scope_equal(scope, &again));
        aif_print_cut(scope, cut, sizeof(cut));
        MUST(strlen(cut) < sizeof(cut));
}

static void algebra(const struct scope *a, const struct scope *b) {
        struct scope both = {}, rest = *a, sum;

        (void)scope_subtract(&rest, b);
        if (scope_intersect(a, b, &both)) {
                must_be_aif(&both);
                sum = both;
                MUST(scope_unite(&sum, &rest) == 0 && scope_equal(&sum, a)); /* what is common and the rest are all */
                MUST(!scope_intersect(&rest, &both, &sum));
        } else {
                MUST(scope_equal(&rest, a));
        }
        sum = *a;
        if (scope_unite(&sum, b) == 0) {
                must_be_aif(&sum);
                MUST(!scope_subtract(&sum, a) || scope_intersect(&sum, b, &both));
        }
}

static void objects(struct bytes in) {
        struct scope a = {}, b = {};
        size_t half = in.size / 2;
        int r = aif_decode(in, &a);

        MUST(r == 0 || r == REFUSE_SCOPE);
        if (r == 0)
                must_be_aif(&a);
        a.kind = SCOPE_NONE;
        if (scope_set(&a, SCOPE_AIF, in) == 0)
                must_be_aif(&a);
        r = aif_parse(in, &a);
        MUST(r == 0 || r == REFUSE_SCOPE);
        if (r == 0)
                must_be_aif(&a);

        if ((aif_decode(bytes_of(in.data, half), &a) == 0 || aif_parse(bytes_of(in.data, half), &a) == 0) &&
            (aif_decode(bytes_of(in.data + half, in.size - half), &b) == 0 ||
             aif_parse(bytes_of(in.data + half, in.size - half), &b) == 0))
                algebra(&a, &b);
}

static void hours(struct bytes in) {
        char text[DAYS_TEXT_SIZE], window[HOURS_TEXT_SIZE];
        int64_t from_s, until_s, from_again_s, until_again_s;
        unsigned days, again;

        if (days_parse(in, &days) == 0) {
                days_print(days, text);
                MUST(days == DAYS_ALL ? text[0] == '\0' : days_parse(bytes_text(text), &again) == 0 && again == days);
        }
        if (hours_parse(in, &from_s, &until_s) == 0) {
                hours_print(from_s, until_s, window);
                MUST((from_s == 0 && until_s == 0 && window[0] == '\0') ||
                     (hours_parse(bytes_text(window), &from_again_s, &until_again_s) == 0 &&
                      from_again_s == from_s && until_again_s == until_s));
        }
}

static struct bytes take_line(struct bytes *in) {
        const uint8_t *end = in->size > 0 ? memchr(in->data, '\n', in->size) : NULL;
        struct bytes line = { in->data, end ? (size_t)(end - in->data) : in->size };

        *in = (struct bytes){ in->data + line.size + (end != NULL), in->size - line.size - (end != NULL) };
        return line;
}

/* A label is any text here: nothing may rest on names alone being labels. */
static size_t take_labels(struct bytes in, char labels[LABELS_MAX][NAME_SIZE_MAX + 1]) {
        size_t n = 0;

        while (in.size > 0 && n < LABELS_MAX) {
                struct bytes line = take_line(&in);

                (void)snprintf(labels[n++], NAME_SIZE_MAX + 1, "%.*s", (int)line.size, (const char *)line.data);
        }
        return n;
}

static size_t count_tokens(const struct scope *scope) {
        size_t n = scope->size > 0;

        for (size_t i = 0; i < scope->size; i++)
                n += scope->data[i] == ' ';
        return n;
}

/* AUDIENCE, SCOPE, then labels, a line each. */
static void variables(struct bytes in) {
        char labels[LABELS_MAX][NAME_SIZE_MAX + 1];
        struct bytes audience = take_line(&in), scope = take_line(&in);
        struct policy policy = {}, before;
        struct variable_values values = { .client = "c1", .audience = "rs-1", .labels = labels };
        struct scope again;

        if (!audience_is_valid(audience) ||
            (scope_set(&policy.scopes, SCOPE_TEXT, scope) != 0 && aif_parse(scope, &policy.scopes) != 0))
                return;
        memcpy(policy.audience, audience.data, audience.size);
        policy.audience_varies = variables_in_text(audience);
        values.n_labels = take_labels(in, labels);
        (void)variables_are_valid(audience, &policy.scopes);
        before = policy;
        variables_expand(&policy, &values);
        if (policy.fit != POLICY_FITS || !variables_in_policy(&before)) {
                MUST(scope_equal(&policy.scopes, &before.scopes));
                return;
        }
        MUST(strcmp(policy.audience, "rs-1") == 0);
        if (policy.scopes.kind == SCOPE_AIF)
                must_be_aif(&policy.scopes);
        else
                MUST(scope_set(&again, SCOPE_TEXT, scope_bytes(&policy.scopes)) == 0 &&
                     bytes_equal(scope_bytes(&again), scope_bytes(&policy.scopes)));
        /* with one value for each variable a token stays one */
        if (values.n_labels < 2)
                MUST(policy.scopes.kind == SCOPE_AIF ||
                     count_tokens(&policy.scopes) <= count_tokens(&before.scopes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes in = fuzz_guarded(bytes_of(data, size));

        objects(in);
        hours(in);
        variables(in);
        return 0;
}
