#pragma once

/*
 * Every way to say no. A function that returns one (always > 0) decided against the caller; nothing was changed.
 * How each looks as OAuth error, CoAP code, HTTP status and text is the table in endpoint/refusal.c, in this order.
 */
enum refusal {
        REFUSE_NONE = 0,

        /* What the request asks of CoAP or HTTP */
        REFUSE_NOT_FOUND,              /* no such path */
        REFUSE_METHOD,                 /* no such method there */
        REFUSE_BAD_OPTION,             /* unknown critical option */
        REFUSE_CONTENT_FORMAT,         /* payload in a format that the resource does not read */
        REFUSE_NOT_ACCEPTABLE,         /* answer asked in a format that the resource does not write */
        REFUSE_TOO_LARGE,              /* payload over the limit */
        REFUSE_UNAUTHENTICATED,        /* the resource needs an authenticated peer */
        REFUSE_FORBIDDEN,              /* authenticated, but not for this */
        REFUSE_OVERLOAD,               /* come back later */
        REFUSE_RATE,                   /* too many requests from this peer (RFC 8516) */

        /* Token endpoint and introspection: RFC 9200 §5.8.3, in the order of the checks (AS-059) */
        REFUSE_MALFORMED,              /* invalid_request: not one well-formed map */
        REFUSE_WRONG_TYPE,             /* invalid_request: a parameter of a wrong type or twice */
        REFUSE_MISSING,                /* invalid_request: a parameter that must be there is not */
        REFUSE_UNKNOWN_CLIENT,         /* invalid_client: nobody registered stands behind this channel */
        REFUSE_SUSPENDED_CLIENT,       /* invalid_client */
        REFUSE_CLIENT_ID,              /* invalid_client: client_id names somebody else */
        REFUSE_GRANT_TYPE,             /* unsupported_grant_type */
        REFUSE_GRANT_NOT_ALLOWED,      /* unauthorized_client */
        REFUSE_NO_AUDIENCE,            /* invalid_request: none asked and no default */
        REFUSE_AUDIENCE,               /* invalid_request: unknown, or not for this client: one text (AS-022) */
        REFUSE_GROUP_SYMMETRIC,        /* invalid_request: symmetric key for an audience of several servers */
        REFUSE_NO_SCOPE,               /* invalid_scope: none asked and no default */
        REFUSE_SCOPE,                  /* invalid_scope: nothing left, or of the wrong kind */
        REFUSE_PROFILE,                /* incompatible_ace_profiles */
        REFUSE_KEY_BY_VALUE,           /* invalid_request: req_cnf carries a symmetric key */
        REFUSE_REQ_CNF,                /* invalid_request: req_cnf is not one confirmation method we can read */
        REFUSE_POP_KEY,                /* unsupported_pop_key */
        REFUSE_KEY_PROOF,              /* unsupported_pop_key: the client has not shown that it holds the private key */
        REFUSE_OSC_ID,                 /* invalid_request: kid is of no OSCORE_Input_Material of theirs (AS-123) */
        REFUSE_REFRESH_TOKEN,          /* invalid_grant: unknown, expired, revoked, used before, somebody else's */
        REFUSE_REFRESH_CHANGE,         /* invalid_request: other key or audience than the refresh token's (AS-029) */
        REFUSE_CNONCE,                 /* invalid_request: longer than any resource server makes */
        REFUSE_TOKEN_NOT_YOURS,        /* invalid_client: a token to be revoked was issued to somebody else (AS-192) */
        REFUSE_TOO_MANY_TOKENS,        /* invalid_grant: as many live tokens as this client may have */

        /* Queries of the token revocation list: RFC 9770 §6.1 */
        REFUSE_TRL_VALUE,              /* a parameter's value is not allowed */
        REFUSE_TRL_SET,                /* a cursor without diff */
        REFUSE_TRL_OUT_OF_BOUND,       /* a cursor behind the last update */

        /* Administration */
        REFUSE_ADMIN_SYNTAX,           /* not the JSON that the resource reads */
        REFUSE_ADMIN_VALUE,            /* a field's value is not allowed; the response's detail names it */
        REFUSE_ADMIN_UNKNOWN,          /* what the request names does not exist */
        REFUSE_ADMIN_EXISTS,           /* the name, identity or key is taken */
        REFUSE_ADMIN_CONFLICT,         /* something else stands on what is to be removed or changed */

        REFUSALS /* count */
};
