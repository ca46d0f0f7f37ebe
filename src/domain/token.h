#pragma once

#include "base/secret.h"
#include "crypto/key.h"
#include "domain/scope.h"
#include "domain/name.h"
#include "domain/oscore.h"

#define TOKEN_HASH_SIZE 32
#define NUMBER_SIZE_MAX 8
#define CNONCE_SIZE_MAX 32 /* bytes; a longer one is refused */
#define EXI_SIZE 8 /* of a sequence number in a cti */
#define EXI_CTI_SIZE_MAX (NUMBER_SIZE_MAX + EXI_SIZE)
#define TOKEN_KID_SIZE_MAX 16 /* of what a client calls its public key */

/*
 * What an OSCORE_Input_Material (RFC 9203 §3.2.1) has beside its id and ms, which are the number and the bytes of the
 * PoP key. Salt and contextId are always there: peers differ in what an absent salt is (RFC 9203 §4.3).
 */
#define OSC_SALT_SIZE 8
#define OSC_CONTEXT_ID_SIZE 8

struct osc {
        enum aead_alg alg; /* AEAD_NONE: the PoP key is none of an OSCORE_Input_Material */
        enum oscore_hkdf hkdf;
        uint8_t salt[OSC_SALT_SIZE], context_id[OSC_CONTEXT_ID_SIZE]; /* random */
};

/* An issued token as the store keeps it. */
struct token {
        uint64_t number;               /* its cti */
        uint64_t key_number;           /* its PoP key's kid */
        uint8_t hash[TOKEN_HASH_SIZE]; /* of the token's bytes, tags stripped: cwt_hash() in format/cwt.h */
        int64_t client_id, server_id;  /* server_id 0: for the group audience */
        char client_name[NAME_SIZE_MAX + 1], server_name[NAME_SIZE_MAX + 1]; /* filled on reading */
        char audience[AUDIENCE_SIZE_MAX + 1];
        struct scope scope;
        unsigned profile;
        int64_t issued_s, expires_s;
        int64_t revoked_s;             /* 0: not */
        int64_t nbf_s;                 /* 0: from issued_s on */
        uint64_t exi;                  /* sequence number at its server (RFC 9200 §5.10.3); 0: it has exp */
        size_t cnonce_size;            /* 0: none */
        uint8_t cnonce[CNONCE_SIZE_MAX];
        uint64_t family;               /* of refresh tokens that it came with; 0: none */
        struct secret pop_key;         /* size 0: bound to public_key */
        struct osc osc;                /* of pop_key, where the profile is coap_oscore */
        bool names_osc;                /* it has the id of that alone: an update of access rights (RFC 9203 §3.2) */
        struct public_key public_key;  /* CURVE_NONE: bound to pop_key */
        size_t kid_size;               /* of public_key, as the client calls it; 0: none */
        uint8_t kid[TOKEN_KID_SIZE_MAX];
        bool has_trl_hash;
        uint8_t trl_hash[1 + TOKEN_HASH_SIZE]; /* RFC 9770 §4 */
};
void token_done(struct token *token);

/*
 * Is the token good for anybody now (AS-155, AS-165)? A revoked, expired or not yet valid one is not. now_s: seconds
 * since 1970 UTC.
 */
bool token_is_live(const struct token *token, int64_t now_s);
/* Is it, and may it be called active at this server? One for a group audience: when the server is of the group. */
bool token_is_active(const struct token *token, int64_t server_id, bool is_of_group, int64_t now_s);

/*
 * A number as a byte string (cti, kid): big-endian, at least four bytes, no more than it needs, so that order is kept
 * within a size and sizes stay small. Returns the size, 4 to 8. The reverse: 0, or -EINVAL when the bytes are no such
 * string.
 */
size_t number_to_bytes(uint64_t number, uint8_t ret[static NUMBER_SIZE_MAX]);
int number_from_bytes(struct bytes bytes, uint64_t *ret_number);

/*
 * The cti of a token with exi (RFC 9200 §5.10.3, AS-174, AS-175): the server's id as number_to_bytes() has it, then the
 * sequence number in eight bytes, big-endian. Returns the size. The reverse: 0, or -EINVAL.
 */
size_t exi_to_cti(int64_t server_id, uint64_t exi, uint8_t ret[static EXI_CTI_SIZE_MAX]);
int exi_from_cti(struct bytes cti, int64_t *ret_server_id, uint64_t *ret_exi);
