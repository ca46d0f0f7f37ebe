#include "transport/dtls_keys.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "transport/tls_key.h"

struct dtls_keys {
        unsigned n_users;
        gnutls_certificate_credentials_t credentials;
};

DEFINE_FREEP(struct dtls_keys, dtls_keys_unref)

static gnutls_datum_t datum(struct bytes bytes) {
        return (gnutls_datum_t){ (unsigned char *)bytes.data, (unsigned)bytes.size };
}

/* Consumes *shown. 0, or an error of GnuTLS. */
static int add_form(struct dtls_keys *keys, const struct dtls_key *key, gnutls_pcert_st *shown) {
        gnutls_privkey_t private = NULL;
        struct public_key public;
        int r = tls_key_new(key->pkcs8, &private, &public);

        if (r == 0 && (r = gnutls_certificate_set_key(keys->credentials, NULL, 0, shown, 1, private)) >= 0)
                return 0; /* both are the credentials' now */
        if (private)
                gnutls_privkey_deinit(private);
        gnutls_pcert_deinit(shown);
        return r;
}

/* The same key in both forms: which one is shown, the certificate type extensions decide (RFC 7250 §4). */
static int add(struct dtls_keys *keys, const struct dtls_key *key) {
        const gnutls_datum_t public = datum(key->spki), certificate = datum(key->certificate);
        gnutls_pcert_st shown;
        int r;

        r = gnutls_pcert_import_rawpk_raw(&shown, &public, GNUTLS_X509_FMT_DER, GNUTLS_KEY_DIGITAL_SIGNATURE, 0);
        if (r < 0 || (r = add_form(keys, key, &shown)) < 0 || key->certificate.size == 0)
                return r;
        r = gnutls_pcert_import_x509_raw(&shown, &certificate, GNUTLS_X509_FMT_DER, 0);
        return r < 0 ? r : add_form(keys, key, &shown);
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
        if (r < 0)
                return r == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL;
        *ret = TAKE_PTR(keys);
        return 0;
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
