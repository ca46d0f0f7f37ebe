#pragma once

#include "base/secret.h"
#include "domain/client.h"
#include "domain/credential.h"
#include "domain/policy.h"
#include "domain/server.h"
#include "domain/token.h"

/* What the request asked, decoded (borrows nothing but for its views, which point into the payload). */
enum ask_grant_type { ASK_CLIENT_CREDENTIALS, ASK_REFRESH_TOKEN, ASK_OTHER_GRANT };
enum ask_cnf {
        ASK_CNF_NONE,
        ASK_CNF_KID,
        ASK_CNF_SYMMETRIC_VALUE,
        ASK_CNF_PUBLIC,      /* a COSE_Key of a curve of ours, checked: public_key */
        ASK_CNF_UNSUPPORTED, /* a well-formed asymmetric COSE_Key that nobody here can use: another curve, key type, … */
        ASK_CNF_BAD_KEY,     /* of a curve of ours, but off it, of a wrong length, or with alg or key_ops against its use */
        ASK_CNF_UNREADABLE,
};

struct token_ask {
        struct bytes client_id; /* data NULL: absent */
        struct bytes audience;  /* data NULL: absent */
        enum ask_grant_type grant_type;
        enum scope_kind scope_kind;
        struct bytes scope;
        struct scope aif;       /* a scope of bytes read as RFC 9237's, for servers with such scopes; NONE: it is none */
        bool wants_profile;     /* ace_profile: null */
        enum ask_cnf cnf;
        struct bytes kid;       /* for ASK_CNF_KID; of a COSE_Key too, data NULL when it has none */
        bool kid_in_key;        /* ASK_CNF_KID by a COSE_Key, as RFC 9202 has it, not RFC 9203 */
        struct public_key public_key;
        struct bytes cnonce;    /* data NULL: absent */
        struct bytes refresh_token; /* data NULL: absent */
};

/* A refresh token as the store keeps it: what the next access token stands on. */
struct refresh_token {
        uint64_t number, family;
        uint8_t hash[TOKEN_HASH_SIZE]; /* SHA-256 of its bytes */
        int64_t client_id, server_id;
        char audience[AUDIENCE_SIZE_MAX + 1];
        struct scope scope;        /* no later token gets more */
        uint64_t key_number;
        struct secret pop_key;     /* size 0: bound to public_key */
        struct osc osc;            /* of pop_key, where the profile is coap_oscore */
        struct public_key public_key;
        size_t kid_size;           /* of public_key; 0: none */
        uint8_t kid[CREDENTIAL_KID_MAX];
        int64_t issued_s, expires_s, used_s, revoked_s;
};
void refresh_token_done(struct refresh_token *token);

/* What the store knows that the decision needs. */
struct token_facts {
        /* told to the store: */
        const uint8_t *channel_key; /* thumbprint of the public key that the channel was set up with; NULL: none */
        unsigned channel_profile;   /* the one that is like the channel of the request; 0: none is */
        bool unknown_kid_makes_key; /* configured: a kid of no key that is known asks for a new one (AS-121) */
        /* known to it: */
        struct client client;      /* id 0: the channel's credential belongs to no client */
        bool asker_is_server;      /* it belongs to a resource server, which may introspect, not ask for tokens */
        size_t n_servers;          /* behind the audience: 0 unknown, 1, or more: a group audience */
        bool is_group;             /* a group audience, however many members it has now */
        struct server server;      /* the one, when n_servers is 1 (of a group: the first) */
        char audience[AUDIENCE_SIZE_MAX + 1]; /* the one asked, or the default; "" none could be found */
        struct policy *policies;   /* all for this client (by name or label) at this audience; owned */
        size_t n_policies;
        int64_t n_live_tokens;     /* of this client, at least; exact from the limit on; counted only when it is set */
        int64_t tokens_max;        /* limit; 0 none */
        int64_t default_lifetime_s, max_lifetime_s; /* configured */
        bool pop_key_found;        /* ask's kid denotes a live symmetric key made for this client and this server */
        uint64_t pop_key_number;   /* its number, and the key */
        struct secret pop_key;
        struct osc pop_osc;
        /*
         * The public key that ask's COSE_Key or kid stands for, when this client has shown that it holds the private
         * one (AS-061): the channel was set up with it, or it is registered as the client's.
         */
        bool public_key_proven;
        struct public_key public_key;
        size_t kid_size;           /* what the client calls it; 0: nothing */
        uint8_t kid[CREDENTIAL_KID_MAX];
        bool server_has_key;       /* the server's own public key, of the same curve if it has one: rs_cnf */
        struct public_key server_key;
        bool refresh_found;        /* ask's refresh token is a live one of this client, not used before */
        bool refresh_reused;       /* it was used before: its family is to be revoked */
        struct refresh_token refresh;
};
void token_facts_done(struct token_facts *facts);

/* The decision. */
struct grant {
        int64_t client_id, server_id;
        char audience[AUDIENCE_SIZE_MAX + 1];
        struct scope scope;
        bool scope_differs;        /* from what was asked: the answer must say it */
        unsigned profile;
        bool tell_profile;
        int64_t issued_s, expires_s, lifetime_s;
        bool is_group;             /* for a group audience: server_id 0 */
        bool new_key;              /* a symmetric PoP key is to be made; else pop_key or public_key is the one */
        bool is_update;            /* of access rights: the client named a key that it has (RFC 9202 §4, 9203 §3.1) */
        uint64_t number;           /* of the token, unique for ever; filled by the endpoint */
        uint64_t key_number;       /* kid; equal to number when the key is new */
        struct secret pop_key;     /* size 0: bound to public_key */
        struct osc osc;            /* of pop_key where the profile is coap_oscore; its random parts by the endpoint */
        bool derives_key;          /* the server computes pop_key from the token, which has its kid alone (AS-103, 104) */
        struct public_key public_key; /* CURVE_NONE: bound to pop_key */
        size_t kid_size;           /* of public_key, as the client says or registered it; 0: none */
        uint8_t kid[CREDENTIAL_KID_MAX];
        bool tell_server_key;      /* rs_cnf */
        struct public_key server_key;
        int64_t nbf_s;             /* 0: from issued_s on */
        bool has_exi;              /* lifetime_s counts from when the server sees it: exi, no exp (RFC 9200 §5.10.3) */
        uint64_t exi;              /* its sequence number; filled by the endpoint */
        size_t cnonce_size;        /* 0: none */
        uint8_t cnonce[CNONCE_SIZE_MAX];
        int64_t refresh_lifetime_s; /* 0: no refresh token comes with it */
        struct scope refresh_scope; /* what later tokens may have at most */
        struct secret refresh_token; /* its bytes; filled by the endpoint */
        uint64_t family;           /* of refresh tokens; 0: none; filled by the endpoint when it is new */
        bool has_trl_hash;         /* filled by the endpoint: how a token revocation list would name the token */
        uint8_t trl_hash[1 + TOKEN_HASH_SIZE];
};
void grant_done(struct grant *grant);

/* How the decision came about, for `acectl explain` and the log: filled as far as the decision got. */
struct explanation {
        int refusal;               /* 0: granted */
        struct scope asked, allowed, granted; /* allowed: what the policies that apply leave, all in all */
        bool has_shadow;           /* it had been different with the policies in force that are only tried: */
        struct scope shadow;       /* this would have been granted; NONE: nothing */
        int64_t policies[EXPLAIN_POLICIES_MAX]; /* ids of those that contributed, the first ones */
        size_t n_policies;         /* all that contributed, also beyond the array */
        int64_t lifetime_s;
        const char *lifetime_from; /* "configuration", "resource server", "client", "policy"; NULL: not decided */
        unsigned profile;          /* 0: not decided */
        const char *profile_from;  /* "parties": it is their only one, "key", "resource server", "channel", "number" */
        const char *why;           /* one sentence with the RFC section */
};

/*
 * Decide what a client gets for a token request (RFC 9200 §5.8.1-5.8.3, RFC 9201 §3), in the order of AS-059: client,
 * grant type, right to the grant, audience, scope, profiles, key. now_s: seconds since 1970 UTC. why may be NULL.
 *
 * The scope is what policies leave of what was asked: policy_evaluate(). The lifetime is the shortest of: the server's or
 * the configured default, both maxima, the maximum and the remaining period of each policy that contributed to the
 * scope.
 *
 * The profile is one that both parties have and we serve: that of the key which the request names or stands on (of a
 * public key it is coap_dtls); else the one that the resource server prefers; else the one like the request's channel;
 * else the one with the lowest number. Where there was a choice the answer tells it.
 *
 * Returns 0 and fills *ret_grant but for number, key_number and a new key's bytes; or a refusal. Never < 0: no I/O, no
 * allocation.
 */
int grant_decide(const struct token_facts *facts, const struct token_ask *ask, int64_t now_s, struct grant *ret_grant,
                 struct explanation *why);
