#pragma once

#include "base/diag.h"
#include "crypto/hash.h"
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

/* Append it as PEM. -EINVAL: it is no certificate; errors of buf_add(). */
int certificate_put_pem(struct bytes der, struct buf *out);

/* The key in exactly one certificate, DER. -EINVAL: no certificate, or its key is none of our curves'. */
int certificate_public_key(struct bytes der, struct public_key *ret);

/* ---- those of clients */

#define TRUST_ANCHORS_MAX 256
#define CERTIFICATE_CHAIN_MAX 6         /* certificates that a peer may show */
#define CERTIFICATE_INTERMEDIATES_MAX 3 /* of these, between its own and a trust anchor */
#define CERTIFICATE_NAMES_MAX 16        /* names of one certificate that are looked at */

/* The certificates that chains must end in (RFC 5280 §6.1.1); one that is no root does as well. */
struct trust_anchors;
/*
 * From PEM. Every fault is a row of *faults, of file: what is no certificate, a key too weak; none at all. A line of
 * text between them is none. 0, -EINVAL with faults, -ENOMEM.
 */
int trust_anchors_new(struct bytes pem, const char *file, struct trust_anchors **ret, struct diags *faults);
void trust_anchors_free(struct trust_anchors *anchors);
size_t trust_anchors_count(const struct trust_anchors *anchors);
/* Is the certificate with this SHA-256 one of them? anchors NULL: there are none. */
bool trust_anchors_have(const struct trust_anchors *anchors, const uint8_t hash[static SHA256_SIZE]);

enum certificate_fault {
        CERTIFICATE_GOOD,
        CERTIFICATE_MALFORMED,
        CERTIFICATE_FOREIGN,       /* no chain to a trust anchor */
        CERTIFICATE_EXPIRED,
        CERTIFICATE_NOT_YET,
        CERTIFICATE_CHAIN_TOO_LONG,
        CERTIFICATE_SIGNATURE,     /* does not verify */
        CERTIFICATE_WEAK,          /* a key or a hash under 112 bits of strength */
        CERTIFICATE_KEY,           /* the peer's own key is not on P-256 or Ed25519 */
        CERTIFICATE_PURPOSE,       /* key usage, extended key usage, an issuer that is no CA */
        CERTIFICATE_OTHER,         /* names out of constraints, unknown critical extensions */
        CERTIFICATE_FAULTS,
};
/* For the log. */
const char *certificate_fault_text(enum certificate_fault fault);

/*
 * Path validation (RFC 5280 §6) of a client's certificate, its own first, at now_s. Revocation lists are not looked at.
 * anchors NULL: there are none. 0 and *ret_fault; -ENOMEM.
 */
int certificate_judge(const struct trust_anchors *anchors, const struct bytes *chain, size_t n, int64_t now_s,
                      enum certificate_fault *ret_fault);

/* While every certificate of a path is valid: from_s <= t < until_s; and the SHA-256 of the trust anchor at its end. */
struct certificate_path {
        int64_t from_s, until_s;
        uint8_t anchor[SHA256_SIZE];
};

/*
 * certificate_judge() and, of a good one, its key in *ret_key, its path and certificate_rules(), without
 * reading it again: that is most of the work. 0 with a fault; row()'s first result that is not 0; -ENOMEM.
 */
int certificate_take(const struct trust_anchors *anchors, const struct bytes *chain, size_t n, int64_t now_s,
                     int (*row)(void *context, struct bytes rule), void *context, struct public_key *ret_key,
                     struct certificate_path *ret_path, enum certificate_fault *ret_fault);

/*
 * What a certificate is known by, as rules of credentials (domain/credential.h): its key first, then alternative names,
 * then the subject. What is too long or has characters that do not belong there is left out. Ends with row()'s first
 * result that is not 0, and returns it; -EINVAL, -ENOMEM.
 */
int certificate_rules(struct bytes der, int (*row)(void *context, struct bytes rule), void *context);
