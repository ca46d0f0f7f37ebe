#include "main/revoke.h"

#include "main/invocation.h"

/* What "token revoke" asks for: one token by its path, or all of somebody, step by step. */
static const struct verb one = { .words = "token revoke", .method = "DELETE", .path = "/v1/tokens/{}" };
static const struct verb many = { .words = "token revoke", .method = "POST", .path = "/v1/tokens/revoke" };

static int print(const struct invocation *invocation, json_t *object) {
        int r = object ? print_object(invocation->format, object) : -1;

        json_decref(object);
        return object ? check_printed(r) : out_of_memory();
}

static int revoke_one(struct invocation *invocation, const char *cti) {
        _cleanup_(answer_done) struct answer answer = {};
        int r;

        invocation->verb = &one;
        invocation->path_values[0] = cti;
        invocation->n_path_values = 1;
        r = request_send(invocation, NULL, &answer);
        return r == STATUS_DONE ? print(invocation, json_pack("{s:s, s:s}", "done", one.words, "cti_hex", cti)) : r;
}

/*
 * aced goes through so many tokens at a request and says where to go on, so that others are served in between. What was
 * revoked before an error stays so: that much is printed, too.
 */
static int revoke_many(struct invocation *invocation) {
        json_int_t n_access = 0, n_refresh = 0;
        bool again = true;
        int r = STATUS_DONE, printed;

        invocation->verb = &many;
        while (r == STATUS_DONE && again) {
                _cleanup_(answer_done) struct answer answer = {};
                json_t *next;

                r = request_send(invocation, NULL, &answer);
                if (r != STATUS_DONE)
                        break;
                n_access += json_integer_value(json_object_get(answer.json, "revoked"));
                n_refresh += json_integer_value(json_object_get(answer.json, "refresh_tokens"));
                next = json_object_get(answer.json, "next");
                again = json_is_string(next);
                if (again && json_object_set(invocation->values, "after", next) != 0)
                        r = out_of_memory();
        }
        if (r != STATUS_DONE && n_access == 0 && n_refresh == 0)
                return r;
        printed = print(invocation, json_pack("{s:I, s:I}", "revoked", n_access, "refresh_tokens", n_refresh));
        return r != STATUS_DONE ? r : printed;
}

int run_token_revoke(struct invocation *invocation) {
        const json_t *cti = json_object_get(invocation->values, "cti");

        if ((cti != NULL) + (json_object_size(invocation->values) > (cti != NULL)) != 1) {
                say("token revoke: which? Give the cti of one token, or one of --client, --rs and --label for all");
                return STATUS_USAGE;
        }
        return cti ? revoke_one(invocation, json_string_value(cti)) : revoke_many(invocation);
}
