#pragma once

#include "base/buf.h"
#include "crypto/key.h"

/* Certificates of every kind for tests, good ones and bad ones, by OpenSSL. What fails aborts the test. */
struct pki;

struct pki_ask {
        const char *subject;      /* the common name */
        const char *names;        /* subjectAltName as OpenSSL writes it, "DNS:a,URI:b"; NULL: none */
        const char *usage;        /* keyUsage, "digitalSignature"; NULL: none */
        const char *purposes;     /* extendedKeyUsage, "clientAuth"; NULL: none */
        const char *constraints;  /* basicConstraints, "critical,CA:TRUE,pathlen:0"; NULL: none */
        const char *digest;       /* NULL: SHA256 */
        enum curve curve;         /* CURVE_NONE: P-256 */
        unsigned rsa_bits;        /* instead of a curve; 0: none */
        int64_t from_s, until_s;  /* 0: the year 2001, the year 2099 */
        const struct pki *issuer; /* NULL: itself */
};

struct pki *pki_new(const struct pki_ask *ask);
void pki_free(struct pki *pki);

static inline void pki_freep(struct pki **pki) {
        pki_free(*pki);
        *pki = NULL;
}

struct bytes pki_der(const struct pki *pki);
struct bytes pki_spki(const struct pki *pki);  /* DER */
struct bytes pki_pkcs8(const struct pki *pki); /* DER */
/* Append the certificate as PEM. */
void pki_put_pem(const struct pki *pki, struct buf *out);
