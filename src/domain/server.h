#pragma once

#include "crypto/aead.h"
#include "crypto/mac.h"
#include "crypto/sign.h"
#include "domain/client.h"
#include "domain/oscore.h"
#include "domain/scope.h"

/* How the token for a resource server is protected. */
enum token_format {
        TOKEN_FORMAT_ENCRYPT0 = 1, /* CWT in COSE_Encrypt0 under the AS-RS key */
        TOKEN_FORMAT_MAC0 = 2,     /* CWT in COSE_Mac0 under the AS-RS key; a symmetric PoP key inside is encrypted */
        TOKEN_FORMAT_SIGN1 = 3,    /* CWT in COSE_Sign1; likewise */
        TOKEN_FORMAT_SIGN_ENCRYPT = 4, /* COSE_Sign1 in COSE_Encrypt0 (RFC 8392 §7.1, nested) */
        TOKEN_FORMAT_OPAQUE = 5,   /* a reference that introspection alone explains (RFC 9200 §5.10.1) */
};

/* Which PoP keys a resource server can work with, as a set. */
typedef uint32_t pop_key_set;
#define POP_KEY_SYMMETRIC UINT32_C(1)
#define POP_KEY_BIT(curve) (UINT32_C(1) << (curve))

/* Who accepts tokens. */
struct server {
        int64_t id; /* 0: none, or a group */
        char name[NAME_SIZE_MAX + 1];
        bool suspended;
        profile_set profiles;
        enum scope_kind scope_kind;  /* the format its scopes have */
        struct scope scopes;         /* all that it knows; NONE: any */
        struct scope default_scope;  /* granted when a request names none; NONE: such a request is refused */
        enum token_format token_format;
        enum aead_alg token_alg;     /* algorithm of its AS-RS key, where something is encrypted */
        enum mac_alg mac_alg;        /* TOKEN_FORMAT_MAC0 */
        enum sign_alg sign_alg;      /* what is signed for it, also for its group audiences */
        pop_key_set pop_keys;        /* what it can do; a new key is symmetric */
        bool derives_key;            /* it computes symmetric PoP keys of coap_dtls from the token (RFC 9202 §3.3.1) */
        unsigned preferred_profile;  /* where a client has several of its profiles; 0: as the client's channel */
        enum aead_alg oscore_alg;    /* what it shall protect messages with where the profile is coap_oscore */
        enum oscore_hkdf oscore_hkdf;
        bool has_trl;                /* its tokens are as RFC 9770 §3 wants them, and in the list when revoked */
        bool token_tagged;           /* CWT with tags 61 and 16 around it, or bare */
        int64_t default_lifetime_s;  /* 0: the configured one */
        int64_t max_lifetime_s;      /* 0: the configured one */
        bool has_clock;              /* can judge exp */
        int64_t created_s;
};

/*
 * Can it be given tokens of coap_oscore? A Master Secret is a symmetric key, and goes to the server in the token, where
 * nobody else may read it (RFC 9203 §3.2); there is no encrypted form of an OSCORE_Input_Material alone.
 */
static inline bool server_takes_oscore(const struct server *server) {
        return (server->pop_keys & POP_KEY_SYMMETRIC) && server->token_format != TOKEN_FORMAT_MAC0 &&
               server->token_format != TOKEN_FORMAT_SIGN1;
}
