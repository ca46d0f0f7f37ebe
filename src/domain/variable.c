#include "domain/variable.h"

#include "domain/aif.h"

/* Those that stand for labels, and what each stands for at the moment. */
struct binding {
        const struct variable_values *values;
        struct bytes keys[VARIABLES_MAX];
        struct bytes chosen[VARIABLES_MAX];
        size_t n_keys;
        bool too_many; /* different ones, of all kinds */
};

static bool is_key(struct bytes key) {
        return name_is_valid(key) && !memchr(key.data, ':', key.size);
}

/*
 * Cut text in front of a variable and the variable's key off *rest; behind the last variable the key is none. What only
 * begins like a variable is text. False at the end.
 */
static bool next_piece(struct bytes *rest, struct bytes *ret_text, struct bytes *ret_key) {
        const uint8_t *start = rest->data, *end = rest->data + rest->size, *close;
        struct bytes key;

        for (const uint8_t *at = start; at + 2 < end; at++) {
                if (at[0] != '$' || at[1] != '{')
                        continue;
                close = memchr(at + 2, '}', (size_t)(end - at - 2));
                key = (struct bytes){ at + 2, close ? (size_t)(close - at - 2) : 0 };
                if (!close || !is_key(key))
                        continue;
                *ret_text = (struct bytes){ start, (size_t)(at - start) };
                *ret_key = key;
                *rest = (struct bytes){ close + 1, (size_t)(end - close - 1) };
                return true;
        }
        *ret_text = *rest;
        *ret_key = BYTES_NONE;
        *rest = (struct bytes){ end, 0 };
        return ret_text->size > 0;
}

bool variables_in_text(struct bytes text) {
        struct bytes piece, key;

        return text.size > 0 && next_piece(&text, &piece, &key) && key.data;
}

static bool in_scopes(const struct scope *scopes) {
        return (scopes->kind == SCOPE_TEXT || scopes->kind == SCOPE_AIF) && variables_in_text(scope_bytes(scopes));
}

bool variables_in_policy(const struct policy *policy) {
        return policy->audience_varies || in_scopes(&policy->scopes);
}

static void collect(struct bytes text, struct binding *binding) {
        struct bytes piece, key;
        size_t i;

        while (text.size > 0 && next_piece(&text, &piece, &key)) {
                if (!key.data || bytes_equal(key, BYTES_LITERAL("client")) ||
                    bytes_equal(key, BYTES_LITERAL("audience")))
                        continue;
                for (i = 0; i < binding->n_keys && !bytes_equal(key, binding->keys[i]); i++)
                        ;
                if (i < binding->n_keys)
                        continue;
                if (i == VARIABLES_MAX)
                        binding->too_many = true;
                else
                        binding->keys[binding->n_keys++] = key;
        }
}

static void collect_all(const struct policy *policy, struct binding *binding) {
        if (policy->audience_varies)
                collect(bytes_text(policy->audience), binding);
        if (in_scopes(&policy->scopes))
                collect(scope_bytes(&policy->scopes), binding);
}

bool variables_need_labels(const struct policy *policy) {
        struct binding binding = {};

        collect_all(policy, &binding);
        return binding.n_keys > 0;
}

/* Nothing that begins like a variable is left in the text between variables. */
static bool is_written_well(struct bytes text) {
        struct bytes piece, key;

        while (text.size > 0 && next_piece(&text, &piece, &key))
                for (size_t i = 0; i + 1 < piece.size; i++)
                        if (piece.data[i] == '$' && piece.data[i + 1] == '{')
                                return false;
        return true;
}

bool variables_are_valid(struct bytes audience, const struct scope *scopes) {
        bool in_text = scopes->kind == SCOPE_TEXT || scopes->kind == SCOPE_AIF;
        struct binding binding = {};
        struct bytes rest = audience, piece, key;

        while (rest.size > 0 && next_piece(&rest, &piece, &key))
                if (key.data && bytes_equal(key, BYTES_LITERAL("audience")))
                        return false; /* it cannot stand for itself */
        collect(audience, &binding);
        if (in_text)
                collect(scope_bytes(scopes), &binding);
        return !binding.too_many && is_written_well(audience) && (!in_text || is_written_well(scope_bytes(scopes)));
}

/* ---- values */

/* The VALUE of a label KEY:VALUE; data NULL: it is another's, or none. */
static struct bytes label_value(const char *label, struct bytes key) {
        size_t size = strlen(label);

        if (size <= key.size + 1 || label[key.size] != ':' || memcmp(label, key.data, key.size) != 0)
                return BYTES_NONE;
        return (struct bytes){ (const uint8_t *)label + key.size + 1, size - key.size - 1 };
}

static struct bytes value_of(const struct binding *binding, struct bytes key) {
        for (size_t i = 0; i < binding->n_keys; i++)
                if (bytes_equal(key, binding->keys[i]))
                        return binding->chosen[i];
        return bytes_text(bytes_equal(key, BYTES_LITERAL("client")) ? binding->values->client :
                                                                      binding->values->audience);
}

struct text {
        uint8_t data[SCOPE_SIZE_MAX];
        size_t size;
};

static bool text_add(struct text *text, struct bytes part) {
        if (part.size > sizeof(text->data) - text->size)
                return false;
        if (part.size > 0)
                memcpy(text->data + text->size, part.data, part.size);
        text->size += part.size;
        return true;
}

/* False: it does not fit. */
static bool expand_text(const struct binding *binding, struct bytes pattern, struct text *ret) {
        struct bytes piece, key;

        ret->size = 0;
        while (pattern.size > 0 && next_piece(&pattern, &piece, &key))
                if (!text_add(ret, piece) || (key.data && !text_add(ret, value_of(binding, key))))
                        return false;
        return true;
}

static bool is_audience(const struct binding *binding, const struct policy *policy) {
        struct text text;

        return !policy->audience_varies ||
               (expand_text(binding, bytes_text(policy->audience), &text) &&
                bytes_equal(bytes_of(text.data, text.size), bytes_text(binding->values->audience)));
}

/* ---- scopes */

static bool expand_token(const struct binding *binding, struct bytes token, struct scope *sum) {
        struct scope one;
        struct text text;

        /* of a checked pattern and checked values it is one token: were it not, it would not be taken */
        if (!expand_text(binding, token, &text) || memchr(text.data, ' ', text.size))
                return false;
        return scope_set(&one, SCOPE_TEXT, bytes_of(text.data, text.size)) == 0 && scope_unite(sum, &one) == 0;
}

static bool expand_tokens(const struct binding *binding, const struct scope *scopes, struct scope *sum) {
        struct bytes rest = scope_bytes(scopes);

        while (rest.size > 0) {
                const uint8_t *space = memchr(rest.data, ' ', rest.size);
                size_t size = space ? (size_t)(space - rest.data) : rest.size;

                if (!expand_token(binding, bytes_of(rest.data, size), sum))
                        return false;
                size += space ? 1 : 0;
                rest = (struct bytes){ rest.data + size, rest.size - size };
        }
        return true;
}

static bool expand_objects(const struct binding *binding, const struct scope *scopes, struct scope *sum) {
        struct aif_entry entry;
        struct text text;
        size_t at = 0;

        while (aif_next(scopes, &at, &entry))
                if (!expand_text(binding, entry.toid, &text) ||
                    aif_add(sum, bytes_of(text.data, text.size), entry.tperm) != 0)
                        return false;
        return true;
}

static bool expand_scopes(const struct binding *binding, const struct scope *scopes, struct scope *sum) {
        if (scopes->kind == SCOPE_AIF)
                return expand_objects(binding, scopes, sum);
        if (scopes->kind == SCOPE_TEXT)
                return expand_tokens(binding, scopes, sum);
        return scopes->kind == SCOPE_NONE || scope_unite(sum, scopes) == 0;
}

/* ---- all ways to choose values */

struct expanding {
        struct binding binding;
        const struct policy *policy;
        struct scope sum;
        bool found; /* values that make the audience the one asked */
};

/* Choose a value for the key at `at` and those behind it. False: the scopes do not fit. */
static bool choose(struct expanding *e, size_t at) {
        struct binding *binding = &e->binding;

        if (at == binding->n_keys) {
                if (!is_audience(binding, e->policy))
                        return true;
                e->found = true;
                return expand_scopes(binding, &e->policy->scopes, &e->sum);
        }
        for (size_t i = 0; i < binding->values->n_labels; i++) {
                binding->chosen[at] = label_value(binding->values->labels[i], binding->keys[at]);
                if (binding->chosen[at].data && !choose(e, at + 1))
                        return false;
        }
        return true;
}

static enum policy_fit count_ways(const struct binding *binding) {
        size_t n_ways = 1;

        for (size_t at = 0; at < binding->n_keys; at++) {
                size_t n = 0;

                for (size_t i = 0; i < binding->values->n_labels; i++)
                        n += label_value(binding->values->labels[i], binding->keys[at]).data ? 1 : 0;
                if (n == 0)
                        return POLICY_LACKS_LABEL;
                n_ways = n_ways > BINDINGS_MAX ? n_ways : n_ways * n; /* saturates */
        }
        return n_ways > BINDINGS_MAX || binding->too_many ? POLICY_TOO_LARGE : POLICY_FITS;
}

void variables_expand(struct policy *policy, const struct variable_values *values) {
        struct expanding e = { .binding.values = values, .policy = policy };

        if (!variables_in_policy(policy))
                return;
        collect_all(policy, &e.binding);
        policy->fit = count_ways(&e.binding);
        if (policy->fit != POLICY_FITS)
                return;
        if (!choose(&e, 0))
                policy->fit = POLICY_TOO_LARGE;
        else if (!e.found)
                policy->fit = POLICY_ELSEWHERE;
        if (policy->fit != POLICY_FITS)
                return;

        if (policy->scopes.kind != SCOPE_NONE)
                policy->scopes = e.sum;
        (void)memccpy(policy->audience, values->audience, '\0', sizeof(policy->audience));
}
