/* Keys that are made once in a process: to make one takes longer than most inputs. */
#include "base/cleanup.h"
#include "crypto/certificate.h"
#include "crypto/hash.h"
#include "fuzz.h"
#include "support/dtls_client.h"
#include "transport/dtls_keys.h"
#include "world.h"

#define SETS 8
#define LIST_SIZE_MAX 65536
#define PKCS8_SIZE_MAX 256

/* ---- a client's */

static void make_clients(struct world_key *key, struct bytes private_key, struct bytes certificate) {
        _cleanup_(buf_done) struct buf pkcs8 = BUF_INIT(PKCS8_SIZE_MAX);

        MUST(key_pkcs8(CURVE_P256, private_key, &pkcs8) == 0);
        MUST(dtls_client_keys_new(&(struct dtls_client_options){ .pkcs8 = buf_bytes(&pkcs8),
                                                                 .spki = bytes_of(key->spki, key->spki_size) },
                                  &key->raw) == 0);
        MUST(dtls_client_keys_new(&(struct dtls_client_options){ .pkcs8 = buf_bytes(&pkcs8), .chain = &certificate,
                                                                 .n_chain = 1 },
                                  &key->certified) == 0);
}

static void make_key(struct world_key *key) {
        static const uint8_t private[32] = { 1, 2, 3, 4 };
        _cleanup_(buf_done) struct buf pem = BUF_INIT(4096);
        _cleanup_(diags_done) struct diags faults = {};
        struct certificate_ask ask = { .curve = CURVE_P256, .private_key = bytes_of(private, sizeof(private)),
                                       .host = "c1", .serial = 1, .from_s = WORLD_START_S - 1 };
        struct public_key public_key;
        uint8_t certificate[2048];
        size_t size;

        MUST(key_public(CURVE_P256, ask.private_key, &public_key) == 0);
        MUST(public_key_spki(&public_key, key->spki, &key->spki_size) == 0);
        MUST(certificate_make(&ask, certificate, sizeof(certificate), &size) == 0);
        MUST(certificate_put_pem(bytes_of(certificate, size), &pem) == 0);
        MUST(trust_anchors_new(buf_bytes(&pem), "fuzz", &key->anchors, &faults) == 0);
        make_clients(key, ask.private_key, bytes_of(certificate, size));
}

const struct world_key *world_key(void) {
        static struct world_key key;

        if (!key.anchors)
                make_key(&key);
        return &key;
}

/* ---- the coaps door's: who calls dtls_keys_new() comes here. Nothing changes such a set, and it has several users. */

int __real_dtls_keys_new(const struct dtls_key *list, size_t n, gnutls_certificate_verify_function *verify,
                         struct dtls_keys **ret);
int __wrap_dtls_keys_new(const struct dtls_key *list, size_t n, gnutls_certificate_verify_function *verify,
                         struct dtls_keys **ret);

struct set {
        uint8_t digest[SHA256_SIZE];
        gnutls_certificate_verify_function *verify;
        struct dtls_keys *keys;
};

static void add(struct buf *all, struct bytes part) {
        MUST(buf_add(all, bytes_of(&part.size, sizeof(part.size))) == 0 && buf_add(all, part) == 0);
}

static void digest_of(const struct dtls_key *list, size_t n, uint8_t ret[static SHA256_SIZE]) {
        _cleanup_(buf_done) struct buf all = BUF_INIT(LIST_SIZE_MAX);

        for (size_t i = 0; i < n; i++) {
                add(&all, list[i].pkcs8);
                add(&all, list[i].spki);
                add(&all, list[i].certificate);
        }
        MUST(sha256(buf_bytes(&all), ret) == 0);
}

int __wrap_dtls_keys_new(const struct dtls_key *list, size_t n, gnutls_certificate_verify_function *verify,
                         struct dtls_keys **ret) {
        static struct set sets[SETS];
        static size_t n_made;
        struct set set = { .verify = verify }, *place;
        int r;

        digest_of(list, n, set.digest);
        for (size_t i = 0; i < SETS; i++)
                if (sets[i].keys && sets[i].verify == verify && memcmp(sets[i].digest, set.digest, SHA256_SIZE) == 0) {
                        *ret = dtls_keys_ref(sets[i].keys);
                        return 0;
                }
        r = __real_dtls_keys_new(list, n, verify, &set.keys);
        if (r != 0)
                return r;
        place = &sets[n_made++ % SETS]; /* the oldest goes */
        dtls_keys_unref(place->keys);
        *place = set;
        *ret = dtls_keys_ref(set.keys);
        return 0;
}
