#pragma once

#include <gnutls/gnutls.h>

#include "base/bytes.h"

/* One key pair of the server, as raw public key and as certificate. */
struct dtls_key {
        struct bytes pkcs8, spki; /* DER */
        struct bytes certificate; /* DER; empty: none */
};

/*
 * What the server shows, as GnuTLS wants it. Sessions go on with what they began with, so that it is counted: the last
 * who lets go of it frees it, private keys and all.
 */
struct dtls_keys;

/* verify: judges what a client shows, as GnuTLS has it. 0, -EINVAL: GnuTLS cannot use a key; -ENOMEM. */
int dtls_keys_new(const struct dtls_key *keys, size_t n, gnutls_certificate_verify_function *verify,
                  struct dtls_keys **ret);
struct dtls_keys *dtls_keys_ref(struct dtls_keys *keys);
/* Takes NULL. */
void dtls_keys_unref(struct dtls_keys *keys);
gnutls_certificate_credentials_t dtls_keys_credentials(const struct dtls_keys *keys);
