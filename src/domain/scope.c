#include "domain/scope.h"

#include "domain/aif.h"
#include "domain/refusal.h"

/* Cut the next token off *rest, passing over spaces; false at the end. */
static bool next_token(struct bytes *rest, struct bytes *ret_token) {
        const uint8_t *at = rest->data, *end = rest->data + rest->size, *start;

        while (at < end && *at == ' ')
                at++;
        start = at;
        while (at < end && *at != ' ')
                at++;

        *ret_token = (struct bytes){ start, (size_t)(at - start) };
        *rest = (struct bytes){ at, (size_t)(end - at) };
        return ret_token->size > 0;
}

static bool has_token(const struct scope *scope, struct bytes wanted) {
        struct bytes rest = scope_bytes(scope), token;

        while (next_token(&rest, &token))
                if (bytes_equal(token, wanted))
                        return true;
        return false;
}

/* Append to a text scope. false: does not fit. */
static bool add_token(struct scope *scope, struct bytes token) {
        size_t space = scope->size > 0 ? 1 : 0;

        if (scope->size + space + token.size > SCOPE_SIZE_MAX)
                return false;
        if (space > 0)
                scope->data[scope->size++] = ' ';
        memcpy(scope->data + scope->size, token.data, token.size);
        scope->size += token.size;
        return true;
}

static void scope_copy(struct scope *to, const struct scope *from) {
        to->kind = from->kind;
        to->size = from->size;
        memcpy(to->data, from->data, from->size);
}

/* RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E ) */
static bool is_scope_text(struct bytes value) {
        for (size_t i = 0; i < value.size; i++) {
                uint8_t c = value.data[i];

                if (c < ' ' || c > '~' || c == '"' || c == '\\')
                        return false;
        }
        return true;
}

static int set_text(struct scope *scope, struct bytes value) {
        struct scope made;
        struct bytes token;

        if (!is_scope_text(value))
                return REFUSE_SCOPE;

        made.kind = SCOPE_TEXT;
        made.size = 0;
        while (next_token(&value, &token))
                if (!has_token(&made, token) && !add_token(&made, token))
                        return REFUSE_SCOPE;
        if (made.size == 0)
                return REFUSE_SCOPE;

        scope_copy(scope, &made);
        return 0;
}

int scope_set(struct scope *scope, enum scope_kind kind, struct bytes value) {
        if (value.size == 0 || value.size > SCOPE_SIZE_MAX)
                return REFUSE_SCOPE;
        if (kind == SCOPE_TEXT)
                return set_text(scope, value);
        if (kind != SCOPE_BYTES && !(kind == SCOPE_AIF && aif_is_valid(value)))
                return REFUSE_SCOPE;

        scope->kind = kind;
        scope->size = value.size;
        memmove(scope->data, value.data, value.size);
        return 0;
}

bool scope_intersect(const struct scope *asked, const struct scope *allowed, struct scope *ret) {
        struct scope left;

        if (asked->kind == SCOPE_AIF && allowed->kind == SCOPE_AIF)
                return aif_intersect(asked, allowed, ret);
        left.kind = SCOPE_NONE;
        left.size = 0;
        if (asked->kind == SCOPE_TEXT && allowed->kind == SCOPE_TEXT) {
                struct bytes rest = scope_bytes(asked), token;

                while (next_token(&rest, &token))
                        if (has_token(allowed, token))
                                (void)add_token(&left, token); /* fits: asked did */
                if (left.size > 0)
                        left.kind = SCOPE_TEXT;
        } else if (asked->kind == SCOPE_BYTES && scope_equal(asked, allowed))
                scope_copy(&left, asked);

        scope_copy(ret, &left);
        return left.kind != SCOPE_NONE;
}

bool scope_subtract(struct scope *scope, const struct scope *taken) {
        struct scope left;
        struct bytes rest, token;

        if (scope->kind != taken->kind)
                return scope->kind != SCOPE_NONE;
        if (scope->kind == SCOPE_AIF)
                return aif_subtract(scope, taken);
        left.kind = SCOPE_NONE;
        left.size = 0;
        if (scope->kind == SCOPE_TEXT) {
                rest = scope_bytes(scope);
                while (next_token(&rest, &token))
                        if (!has_token(taken, token))
                                (void)add_token(&left, token); /* fits: scope did */
                if (left.size > 0)
                        left.kind = SCOPE_TEXT;
        } else if (!scope_equal(scope, taken))
                return true;

        scope_copy(scope, &left);
        return left.kind != SCOPE_NONE;
}

int scope_unite(struct scope *scope, const struct scope *other) {
        struct scope sum;
        struct bytes rest, token;

        if (other->kind == SCOPE_NONE)
                return 0;
        if (scope->kind == SCOPE_NONE) {
                scope_copy(scope, other);
                return 0;
        }
        if (scope->kind != other->kind)
                return REFUSE_SCOPE;
        if (scope->kind == SCOPE_BYTES)
                return scope_equal(scope, other) ? 0 : REFUSE_SCOPE; /* opaque: two cannot be made one */
        if (scope->kind == SCOPE_AIF)
                return aif_unite(scope, other);

        scope_copy(&sum, scope);
        rest = scope_bytes(other);
        while (next_token(&rest, &token))
                if (!has_token(&sum, token) && !add_token(&sum, token))
                        return REFUSE_SCOPE;
        scope_copy(scope, &sum);
        return 0;
}

bool scope_equal(const struct scope *a, const struct scope *b) {
        struct bytes rest, token;

        if (a->kind != b->kind)
                return false;
        if (a->kind != SCOPE_TEXT)
                return a->kind == SCOPE_NONE || bytes_equal(scope_bytes(a), scope_bytes(b));

        /* tokens are not repeated, hence sets of one size are equal when one contains the other */
        if (a->size != b->size)
                return false;
        rest = scope_bytes(a);
        while (next_token(&rest, &token))
                if (!has_token(b, token))
                        return false;
        return true;
}
