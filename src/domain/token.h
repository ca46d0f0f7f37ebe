#pragma once

#include "base/secret.h"
#include "domain/scope.h"
#include "domain/name.h"

#define TOKEN_HASH_SIZE 32
#define NUMBER_SIZE_MAX 8

/* An issued token as the store keeps it. */
struct token {
        uint64_t number;               /* its cti */
        uint64_t key_number;           /* its PoP key's kid */
        uint8_t hash[TOKEN_HASH_SIZE]; /* of the token's bytes, tags stripped: cwt_hash() in format/cwt.h */
        int64_t client_id, server_id;
        char client_name[NAME_SIZE_MAX + 1], server_name[NAME_SIZE_MAX + 1]; /* filled on reading */
        char audience[AUDIENCE_SIZE_MAX + 1];
        struct scope scope;
        unsigned profile;
        int64_t issued_s, expires_s;
        int64_t revoked_s;             /* 0: not */
        struct secret pop_key;
};
void token_done(struct token *token);

/*
 * May the token be called active at this server now (AS-155, AS-165)? A revoked, expired, not yet valid or foreign one
 * may not. now_s: seconds since 1970 UTC.
 */
bool token_is_active(const struct token *token, int64_t server_id, int64_t now_s);

/*
 * A number as a byte string (cti, kid): big-endian, at least four bytes, no more than it needs, so that order is kept
 * within a size and sizes stay small. Returns the size, 4 to 8. The reverse: 0, or -EINVAL when the bytes are no such
 * string.
 */
size_t number_to_bytes(uint64_t number, uint8_t ret[static NUMBER_SIZE_MAX]);
int number_from_bytes(struct bytes bytes, uint64_t *ret_number);
