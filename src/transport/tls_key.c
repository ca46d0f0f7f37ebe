#include "transport/tls_key.h"

#include <errno.h>

#include "base/cleanup.h"
#include "crypto/sign.h"

DEFINE_FREEP(struct sign_key, sign_key_free)

static int on_sign(gnutls_privkey_t tls, gnutls_sign_algorithm_t algorithm, void *context, unsigned flags,
                   const gnutls_datum_t *hash, gnutls_datum_t *ret) {
        uint8_t signature[SIGNATURE_DER_SIZE_MAX];
        size_t size;

        if (sign_hash(context, bytes_of(hash->data, hash->size), signature, &size) != 0)
                return GNUTLS_E_PK_SIGN_FAILED;
        ret->data = gnutls_malloc(size); /* GnuTLS frees it */
        if (!ret->data)
                return GNUTLS_E_MEMORY_ERROR;
        memcpy(ret->data, signature, size);
        ret->size = (unsigned)size;
        return 0;
}

/* What GnuTLS asks of a key that it cannot look into. */
static int on_question(gnutls_privkey_t tls, unsigned flags, void *context) {
        if (flags & GNUTLS_PRIVKEY_INFO_PK_ALGO)
                return GNUTLS_PK_ECDSA;
        if (flags & GNUTLS_PRIVKEY_INFO_PK_ALGO_BITS)
                return (int)(8 * curve_size(sign_curve(sign_key_alg(context))));
        if (flags & GNUTLS_PRIVKEY_INFO_HAVE_SIGN_ALGO)
                return gnutls_sign_supports_pk_algorithm(GNUTLS_FLAGS_TO_SIGN_ALGO(flags), GNUTLS_PK_ECDSA) ? 1 : 0;
        return -1;
}

static void on_end(gnutls_privkey_t tls, void *context) {
        sign_key_free(context);
}

/* Consumes *key when it is 0. */
static int give(gnutls_privkey_t tls, struct sign_key **key) {
        int r = gnutls_privkey_import_ext4(tls, *key, NULL, on_sign, NULL, on_end, on_question,
                                           GNUTLS_PRIVKEY_IMPORT_AUTO_RELEASE);

        if (r >= 0)
                *key = NULL;
        return r;
}

static int import(gnutls_privkey_t tls, struct bytes text) {
        const gnutls_datum_t datum = { (unsigned char *)text.data, (unsigned)text.size };
        bool is_pem = bytes_find(text, BYTES_LITERAL("-----BEGIN ")) != NULL;

        return gnutls_privkey_import_x509_raw(tls, &datum, is_pem ? GNUTLS_X509_FMT_PEM : GNUTLS_X509_FMT_DER, NULL, 0);
}

int tls_key_new(struct bytes private_key, gnutls_privkey_t *ret, struct public_key *ret_public) {
        _cleanup_(sign_key_freep) struct sign_key *key = NULL;
        struct public_key public_key = {};
        gnutls_privkey_t tls;
        int r = sign_key_read(private_key, &key, &public_key);

        if (r == -ENOMEM || gnutls_privkey_init(&tls) < 0)
                return GNUTLS_E_MEMORY_ERROR;
        r = key && sign_key_alg(key) != SIGN_EDDSA ? give(tls, &key) : import(tls, private_key);
        if (r < 0) {
                gnutls_privkey_deinit(tls);
                return r;
        }
        *ret = tls;
        *ret_public = public_key;
        return 0;
}
