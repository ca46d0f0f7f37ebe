#pragma once

#include "crypto/aead.h"
#include "domain/client.h"
#include "domain/scope.h"

/* How the token for a resource server is protected. */
enum token_format {
        TOKEN_FORMAT_ENCRYPT0 = 1, /* CWT in COSE_Encrypt0 under the AS-RS key */
};

/* Who accepts tokens. */
struct server {
        int64_t id; /* 0: none */
        char name[NAME_SIZE_MAX + 1];
        bool suspended;
        profile_set profiles;
        enum scope_kind scope_kind;  /* the format its scopes have */
        struct scope scopes;         /* all that it knows; NONE: any */
        struct scope default_scope;  /* granted when a request names none; NONE: such a request is refused */
        enum token_format token_format;
        enum aead_alg token_alg;     /* algorithm of its AS-RS key */
        bool token_tagged;           /* CWT with tags 61 and 16 around it, or bare */
        int64_t default_lifetime_s;  /* 0: the configured one */
        int64_t max_lifetime_s;      /* 0: the configured one */
        bool has_clock;              /* can judge exp */
        int64_t created_s;
};
