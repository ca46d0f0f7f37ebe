#include "endpoint/refusal.h"

#include <errno.h>

#include "base/cleanup.h"
#include "format/labels.h"

/*
 * RFC 9200 §5.8.3: an error of the token endpoint is 4.00, but for invalid_client, which may be 4.01 (AS-055); the
 * same code at introspection for bad credentials (§5.9.3). Texts are short, as a constrained device pays for each byte,
 * and the same whether something does not exist or is not for the caller (AS-022).
 */
static const struct refusal_row rows[] = {
        [REFUSE_NOT_FOUND] = { "not-found", 0, CODE_NOT_FOUND, 404, "no such resource" },
        [REFUSE_METHOD] = { "method", 0, CODE_METHOD_NOT_ALLOWED, 405, "method not allowed here" },
        [REFUSE_BAD_OPTION] = { "bad-option", 0, CODE_BAD_OPTION, 400, "unknown critical option" },
        [REFUSE_CONTENT_FORMAT] = { "content-format", 0, CODE_UNSUPPORTED_FORMAT, 415,
                                    "format of the payload not read here: administrators send application/json" },
        [REFUSE_NOT_ACCEPTABLE] = { "not-acceptable", 0, CODE_NOT_ACCEPTABLE, 406,
                                    "format of the answer not written here" },
        [REFUSE_TOO_LARGE] = { "too-large", 0, CODE_TOO_LARGE, 413, "payload too large" },
        [REFUSE_UNAUTHENTICATED] = { "unauthenticated", ACE_INVALID_CLIENT, CODE_UNAUTHORIZED, 401,
                                     "authenticate first" },
        [REFUSE_FORBIDDEN] = { "forbidden", 0, CODE_FORBIDDEN, 403, "not allowed" },
        [REFUSE_OVERLOAD] = { "overload", 0, CODE_TOO_MANY_REQUESTS, 429, "come back later" },
        [REFUSE_RATE] = { "rate", 0, CODE_TOO_MANY_REQUESTS, 429, "too many requests" },

        [REFUSE_MALFORMED] = { "malformed", ACE_INVALID_REQUEST, CODE_BAD_REQUEST, 400, "not one CBOR map" },
        [REFUSE_WRONG_TYPE] = { "wrong-type", ACE_INVALID_REQUEST, CODE_BAD_REQUEST, 400,
                                "parameter twice or of a wrong type" },
        [REFUSE_MISSING] = { "missing", ACE_INVALID_REQUEST, CODE_BAD_REQUEST, 400, "parameter missing" },
        [REFUSE_UNKNOWN_CLIENT] = { "unknown-client", ACE_INVALID_CLIENT, CODE_UNAUTHORIZED, 401, "not registered" },
        [REFUSE_SUSPENDED_CLIENT] = { "suspended-client", ACE_INVALID_CLIENT, CODE_UNAUTHORIZED, 401, "suspended" },
        [REFUSE_CLIENT_ID] = { "client-id", ACE_INVALID_CLIENT, CODE_UNAUTHORIZED, 401, "client_id is not yours" },
        [REFUSE_GRANT_TYPE] = { "grant-type", ACE_UNSUPPORTED_GRANT_TYPE, CODE_BAD_REQUEST, 400,
                                "grant_type not supported" },
        [REFUSE_GRANT_NOT_ALLOWED] = { "grant-not-allowed", ACE_UNAUTHORIZED_CLIENT, CODE_BAD_REQUEST, 400,
                                       "grant_type not for you" },
        [REFUSE_NO_AUDIENCE] = { "no-audience", ACE_INVALID_REQUEST, CODE_BAD_REQUEST, 400,
                                 "audience missing, no default" },
        [REFUSE_AUDIENCE] = { "audience", ACE_INVALID_REQUEST, CODE_BAD_REQUEST, 400, "audience not available" },
        [REFUSE_GROUP_SYMMETRIC] = { "group-symmetric", ACE_INVALID_REQUEST, CODE_BAD_REQUEST, 400,
                                     "no symmetric key for a group" },
        [REFUSE_NO_SCOPE] = { "no-scope", ACE_INVALID_SCOPE, CODE_BAD_REQUEST, 400, "scope missing, no default" },
        [REFUSE_SCOPE] = { "scope", ACE_INVALID_SCOPE, CODE_BAD_REQUEST, 400, "no part of the scope granted" },
        [REFUSE_PROFILE] = { "profile", ACE_INCOMPATIBLE_PROFILES, CODE_BAD_REQUEST, 400, "no common profile" },
        [REFUSE_KEY_BY_VALUE] = { "key-by-value", ACE_INVALID_REQUEST, CODE_BAD_REQUEST, 400,
                                  "req_cnf has a symmetric key" },
        [REFUSE_REQ_CNF] = { "req-cnf", ACE_INVALID_REQUEST, CODE_BAD_REQUEST, 400, "req_cnf not understood" },
        [REFUSE_POP_KEY] = { "pop-key", ACE_UNSUPPORTED_POP_KEY, CODE_BAD_REQUEST, 400, "key in req_cnf not usable" },
        [REFUSE_KEY_PROOF] = { "key-proof", ACE_UNSUPPORTED_POP_KEY, CODE_BAD_REQUEST, 400,
                               "key in req_cnf not shown to be yours" },
        [REFUSE_OSC_ID] = { "osc-id", ACE_INVALID_REQUEST, CODE_BAD_REQUEST, 400, "kid in req_cnf not known here" },
        [REFUSE_REFRESH_TOKEN] = { "refresh-token", ACE_INVALID_GRANT, CODE_BAD_REQUEST, 400,
                                   "refresh_token not good" },
        [REFUSE_REFRESH_CHANGE] = { "refresh-change", ACE_INVALID_REQUEST, CODE_BAD_REQUEST, 400,
                                    "refresh_token: other key or audience" },
        [REFUSE_CNONCE] = { "cnonce", ACE_INVALID_REQUEST, CODE_BAD_REQUEST, 400, "cnonce empty or too long" },
        [REFUSE_TOKEN_NOT_YOURS] = { "token-not-yours", ACE_INVALID_CLIENT, CODE_UNAUTHORIZED, 401,
                                     "token not issued to you" },
        /*
         * No code of the registry says "enough". invalid_grant comes nearest: the credentials are good and the request
         * is well-formed, yet nothing is granted on them now; 4.29 would read as if the same request went through soon.
         */
        [REFUSE_TOO_MANY_TOKENS] = { "too-many-tokens", ACE_INVALID_GRANT, CODE_BAD_REQUEST, 400,
                                     "too many live tokens" },

        [REFUSE_TRL_VALUE] = { "trl-value", 0, CODE_BAD_REQUEST, 400, "diff or cursor has no such value" },
        [REFUSE_TRL_SET] = { "trl-set", 0, CODE_BAD_REQUEST, 400, "cursor without diff" },
        [REFUSE_TRL_OUT_OF_BOUND] = { "trl-out-of-bound", 0, CODE_BAD_REQUEST, 400, "cursor is of no update yet" },

        [REFUSE_ADMIN_SYNTAX] = { "syntax", 0, CODE_BAD_REQUEST, 400, "not the JSON object that is read here" },
        [REFUSE_ADMIN_VALUE] = { "value", 0, CODE_BAD_REQUEST, 422, "value not allowed" },
        [REFUSE_ADMIN_UNKNOWN] = { "unknown", 0, CODE_NOT_FOUND, 404, "no such thing" },
        [REFUSE_ADMIN_EXISTS] = { "exists", 0, CODE_CONFLICT, 409, "exists already" },
        [REFUSE_ADMIN_CONFLICT] = { "conflict", 0, CODE_CONFLICT, 409, "something else depends on it" },
};
_Static_assert(N_ELEMENTS(rows) == REFUSALS, "every refusal has its row");

static const struct refusal_row internal_error = { "internal-error", 0, CODE_INTERNAL_ERROR, 500,
                                                  "internal error: the log says more under this decision" };
static const struct refusal_row unavailable = { "unavailable", 0, CODE_UNAVAILABLE, 503,
                                               "the database is locked or its disk full: try again" };

const struct refusal_row *refusal_row(int refusal) {
        if (refusal == -EBUSY || refusal == -ENOSPC)
                return &unavailable;
        return refusal > REFUSE_NONE && refusal < REFUSALS ? &rows[refusal] : &internal_error;
}
