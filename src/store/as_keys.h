#pragma once

#include "base/buf.h"
#include "base/secret.h"
#include "crypto/sign.h"

struct store;

/* The server's own key pairs: shown at the DTLS door, or signing tokens. */
enum as_key_role { /* kept in databases */
        AS_KEY_DOOR = 1,
        AS_KEY_SIGN = 2,
};

#define AS_KEYS_MAX 64 /* of all roles and algorithms */
#define AS_KEY_KID_SIZE 4
#define AS_CERTIFICATE_SIZE_MAX 2048

struct as_key {
        int64_t id;
        enum as_key_role role;
        enum sign_alg alg;
        uint8_t kid[AS_KEY_KID_SIZE];
        struct public_key public_key;
        struct secret private_key;
        size_t certificate_size;     /* DER; 0: none */
        uint8_t certificate[AS_CERTIFICATE_SIZE_MAX];
        int64_t active_from_s;       /* announced before, in force from then on until a later one is */
        int64_t created_s;
};
void as_key_done(struct as_key *key);

/*
 * Make those that are missing: door keys (P-256, Ed25519) with self-signed certificates for the issuer's host, and one
 * that signs with ES256. In a transaction. *ret_made how many.
 */
int store_as_keys_ensure(struct store *store, struct bytes issuer, int64_t now_s, unsigned *ret_made);

/*
 * A new pair, in force at active_from_s (now or later); the one before stays known until it is deleted. id and kid are
 * filled in. REFUSE_ADMIN_CONFLICT: there are AS_KEYS_MAX.
 */
int store_as_key_make(struct store *store, enum as_key_role role, enum sign_alg alg, struct bytes issuer,
                      int64_t active_from_s, int64_t now_s, struct as_key *ret);
/* REFUSE_ADMIN_CONFLICT: it is in force; REFUSE_ADMIN_UNKNOWN. */
int store_as_key_delete(struct store *store, int64_t id, int64_t now_s);

/* The one in force; by a clock set back before all of them, the earliest. REFUSE_ADMIN_UNKNOWN: there is none. */
int store_as_key_current(struct store *store, enum as_key_role role, enum sign_alg alg, int64_t now_s,
                         struct as_key *ret);
/* All, in order of role, algorithm, active_from_s; without private keys. */
int store_as_key_each(struct store *store, int (*row)(void *context, const struct as_key *key), void *context);

/* Counts up with every change, so that who keeps a key set up knows when to look again. */
uint64_t store_as_keys_generation(const struct store *store);
