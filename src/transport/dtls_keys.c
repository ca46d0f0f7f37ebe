#include "transport/dtls_keys.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

struct dtls_keys {
        unsigned n_users;
        gnutls_certificate_credentials_t credentials;
};

DEFINE_FREEP(struct dtls_keys, dtls_keys_unref)

static gnutls_datum_t datum(struct bytes bytes) {
        return (gnutls_datum_t){ (unsigned char *)bytes.data, (unsigned)bytes.size };
}

/* The same key in both forms: which one is shown, the certificate type extensions decide (RFC 7250 §4). */
static int add(struct dtls_keys *keys, const struct dtls_key *key) {
        const gnutls_datum_t private = datum(key->pkcs8), public = datum(key->spki);
        const gnutls_datum_t certificate = datum(key->certificate);
        int r = gnutls_certificate_set_rawpk_key_mem(keys->credentials, &public, &private, GNUTLS_X509_FMT_DER, NULL,
                                                     GNUTLS_KEY_DIGITAL_SIGNATURE, NULL, 0, 0);

        if (r >= 0 && key->certificate.size > 0)
                r = gnutls_certificate_set_x509_key_mem(keys->credentials, &certificate, &private,
                                                        GNUTLS_X509_FMT_DER);
        return r == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : r < 0 ? -EINVAL : 0;
}

int dtls_keys_new(const struct dtls_key *list, size_t n, gnutls_certificate_verify_function *verify,
                  struct dtls_keys **ret) {
        _cleanup_(dtls_keys_unrefp) struct dtls_keys *keys = calloc(1, sizeof(*keys));
        int r = 0;

        if (!keys)
                return -ENOMEM;
        keys->n_users = 1;
        if (gnutls_certificate_allocate_credentials(&keys->credentials) < 0)
                return -ENOMEM;
        gnutls_certificate_set_verify_function(keys->credentials, verify);
        for (size_t i = 0; i < n && r == 0; i++)
                r = add(keys, &list[i]);
        if (r == 0)
                *ret = TAKE_PTR(keys);
        return r;
}

struct dtls_keys *dtls_keys_ref(struct dtls_keys *keys) {
        if (keys)
                keys->n_users++;
        return keys;
}

void dtls_keys_unref(struct dtls_keys *keys) {
        if (!keys || --keys->n_users > 0)
                return;
        if (keys->credentials)
                gnutls_certificate_free_credentials(keys->credentials);
        free(keys);
}

gnutls_certificate_credentials_t dtls_keys_credentials(const struct dtls_keys *keys) {
        return keys->credentials;
}
