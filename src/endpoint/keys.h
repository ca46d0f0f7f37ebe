#pragma once

#include "crypto/sign.h"
#include "store/as_keys.h"

struct aced;

/*
 * The instance's own signing keys, set up once for many tokens: one for each algorithm, the one in force. Starts as {}.
 */
struct signer {
        struct sign_key *key;        /* NULL: not set up */
        uint8_t kid[AS_KEY_KID_SIZE];
        int64_t from_s, until_s;     /* in force: from_s <= now < until_s */
};

struct signers {
        uint64_t generation;         /* of the store's keys when they were looked at */
        struct signer of[SIGN_ALGS];
};
void signers_done(struct signers *signers);

/*
 * The key that signs with alg now. Looks again in the store when its keys have changed or another one's time has come.
 * REFUSE_ADMIN_UNKNOWN: there is none. *ret is valid until the next call.
 */
int signers_find(struct aced *as, enum sign_alg alg, int64_t now_s, const struct signer **ret);
