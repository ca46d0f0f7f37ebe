#pragma once

#include <gnutls/abstract.h>

#include "base/bytes.h"
#include "crypto/key.h"

/*
 * A private key of ours as GnuTLS wants one: PKCS #8 or SEC 1 (RFC 5915), DER or PEM, not encrypted. OpenSSL makes the
 * signatures of ECDSA, in less than half of GnuTLS's time, and GnuTLS never sees the key; at EdDSA GnuTLS is faster.
 * gnutls_privkey_deinit() wipes it. *ret_public has no curve when the key is on none of ours. 0, or an error of GnuTLS.
 */
int tls_key_new(struct bytes private_key, gnutls_privkey_t *ret, struct public_key *ret_public);
