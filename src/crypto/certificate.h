#pragma once

#include "base/diag.h"
#include "crypto/key.h"

/* X.509 certificates (RFC 5280): our own, made here, and those of clients, judged here. No clock but the caller's. */

#define CERTIFICATE_NAME_MAX 255 /* bytes of a name that a certificate is known by */

/*
 * A certificate for a server's key that signs itself: version 3, for digital signatures and server authentication,
 * without an end (RFC 5280 §4.1.2.5). host: what clients find the server by, a DNS name or an address; empty: no name.
 * Into ret, at most size bytes. 0, -EINVAL (key or curve cannot sign, host), -EOVERFLOW, -ENOMEM, -EIO.
 */
struct certificate_ask {
        enum curve curve;
        struct bytes private_key;
        const char *host;
        int64_t serial; /* over 0 */
        int64_t from_s; /* seconds since 1970 UTC */
};
int certificate_make(const struct certificate_ask *ask, uint8_t *ret, size_t size, size_t *ret_size);

/* The key in exactly one certificate, DER. -EINVAL: no certificate, or its key is none of our curves'. */
int certificate_public_key(struct bytes der, struct public_key *ret);
