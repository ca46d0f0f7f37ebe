#include "endpoint/keys.h"

#include <errno.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"

void signers_done(struct signers *signers) {
        for (size_t i = 0; i < SIGN_ALGS; i++)
                sign_key_free(signers->of[i].key);
        *signers = (struct signers){};
}

/* When the next key of an algorithm comes into force. */
struct looking {
        enum sign_alg alg;
        int64_t now_s, next_s;
};

static int look_for_next(void *context, const struct as_key *key) {
        struct looking *looking = context;

        if (key->role == AS_KEY_SIGN && key->alg == looking->alg && key->active_from_s > looking->now_s &&
            key->active_from_s < looking->next_s)
                looking->next_s = key->active_from_s;
        return 0;
}

static int set_up(struct aced *as, enum sign_alg alg, int64_t now_s, struct signer *signer) {
        _cleanup_(as_key_done) struct as_key key = {};
        struct looking looking = { .alg = alg, .now_s = now_s, .next_s = INT64_MAX };
        int r;

        if ((r = store_as_key_current(as->store, AS_KEY_SIGN, alg, now_s, &key)) != 0 ||
            (r = store_as_key_each(as->store, look_for_next, &looking)) != 0 ||
            (r = sign_key_new(alg, secret_bytes(&key.private_key), &signer->key)) != 0)
                return r == -EINVAL ? -EIO : r; /* it was a good one when it was kept */
        memcpy(signer->kid, key.kid, sizeof(signer->kid));
        /* by a clock set back before all keys the earliest is in force */
        signer->from_s = key.active_from_s < now_s ? key.active_from_s : now_s;
        signer->until_s = looking.next_s;
        return 0;
}

int signers_find(struct aced *as, enum sign_alg alg, int64_t now_s, const struct signer **ret) {
        uint64_t generation = store_as_keys_generation(as->store);
        struct signer *signer;
        int r;

        if (alg <= SIGN_NONE || alg >= SIGN_ALGS)
                return REFUSE_ADMIN_UNKNOWN;
        if (generation != as->signers.generation)
                signers_done(&as->signers);
        as->signers.generation = generation;

        signer = &as->signers.of[alg];
        if (signer->key && (now_s < signer->from_s || now_s >= signer->until_s)) {
                sign_key_free(signer->key);
                *signer = (struct signer){};
        }
        if (!signer->key && (r = set_up(as, alg, now_s, signer)) != 0)
                return r;
        *ret = signer;
        return 0;
}
