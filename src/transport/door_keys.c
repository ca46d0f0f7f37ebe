#include "transport/door_keys.h"

#include <errno.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "store/as_keys.h"
#include "transport/dtls.h"

#define PKCS8_SIZE_MAX 256

static const enum sign_alg algs[] = { SIGN_ES256, SIGN_EDDSA };

/* A key in the forms that GnuTLS reads. */
struct shown {
        struct as_key key;
        struct buf pkcs8;
        uint8_t spki[SPKI_SIZE_MAX];
        size_t spki_size;
};

static void shown_done(struct shown *shown) {
        as_key_done(&shown->key);
        if (shown->pkcs8.data)
                wipe(shown->pkcs8.data, shown->pkcs8.capacity);
        buf_done(&shown->pkcs8);
}

static int shown_load(struct store *store, enum sign_alg alg, int64_t now_s, struct shown *shown) {
        struct as_key *key = &shown->key;
        int r = store_as_key_current(store, AS_KEY_DOOR, alg, now_s, key);

        shown->pkcs8 = BUF_INIT(PKCS8_SIZE_MAX);
        if (r == 0)
                r = key_pkcs8(key->public_key.curve, secret_bytes(&key->private_key), &shown->pkcs8);
        return r == 0 ? public_key_spki(&key->public_key, shown->spki, &shown->spki_size) : r;
}

struct moments {
        int64_t now_s, from_s, until_s;
};

/* Between which moments is now, of those at which a key comes into force? */
static int look_for_moment(void *context, const struct as_key *key) {
        struct moments *moments = context;

        if (key->active_from_s <= moments->now_s && key->active_from_s > moments->from_s)
                moments->from_s = key->active_from_s;
        if (key->active_from_s > moments->now_s && key->active_from_s < moments->until_s)
                moments->until_s = key->active_from_s;
        return 0;
}

static int give(struct store *store, struct dtls *dtls, int64_t now_s) {
        struct dtls_key keys[N_ELEMENTS(algs)];
        size_t n = 0;
        int r = 0;
        struct shown shown[N_ELEMENTS(algs)] = {};

        for (size_t i = 0; i < N_ELEMENTS(algs) && r == 0; i++) {
                r = shown_load(store, algs[i], now_s, &shown[n]);
                if (r == 0) {
                        keys[n] = (struct dtls_key){ .pkcs8 = buf_bytes(&shown[n].pkcs8),
                                                     .spki = bytes_of(shown[n].spki, shown[n].spki_size),
                                                     .certificate = bytes_of(shown[n].key.certificate,
                                                                             shown[n].key.certificate_size) };
                        n++;
                } else if (r == REFUSE_ADMIN_UNKNOWN) {
                        r = 0; /* no handshakes with such a key then */
                }
        }
        if (r == 0)
                r = dtls_set_keys(dtls, keys, n);
        for (size_t i = 0; i < N_ELEMENTS(shown); i++)
                shown_done(&shown[i]);
        return r;
}

void door_keys_refresh(struct door_keys *door, struct store *store, struct dtls *dtls, int64_t now_s) {
        uint64_t generation = store_as_keys_generation(store);
        struct moments moments = { .now_s = now_s, .from_s = INT64_MIN, .until_s = INT64_MAX };

        if (door->known && door->generation == generation && now_s >= door->from_s && now_s < door->until_s)
                return;
        if (store_as_key_each(store, look_for_moment, &moments) != 0 || give(store, dtls, now_s) != 0) {
                moments.from_s = now_s;
                moments.until_s = now_s + 1;
        }
        *door = (struct door_keys){ .known = true, .generation = generation, .from_s = moments.from_s,
                                    .until_s = moments.until_s };
}
