#pragma once

/*
 * Why a DTLS handshake made no session. RFC 5246 §7.2.2, RFC 4279 §2 and RFC 6066 §6 say which alert tells the client;
 * where they leave it open, it was chosen so:
 *
 *   no certificate where one is required                              handshake_failure (RFC 5246 §7.4.6)
 *   a raw public key that nobody has                                  certificate_unknown
 *   a key not on its curve, a certificate that cannot be read         bad_certificate
 *   a key of another kind than P-256 or Ed25519, a wrong purpose      unsupported_certificate
 *   expired, or not yet valid ("or is not currently valid")           certificate_expired
 *   no chain to a trust anchor, or too long a one                     unknown_ca
 *   a good chain, but no rule fits the certificate                    access_denied
 *
 * A suspended party gets the answer of an unknown one.
 */
enum dtls_failure {
        DTLS_FAILED_PROTOCOL,   /* no common suite, messages that are no good: GnuTLS knows */
        DTLS_FAILED_ALERT,      /* the client gave up and said so */
        DTLS_FAILED_TIMEOUT,    /* it did not go on */
        DTLS_FAILED_ANEW,       /* it began a new one */
        DTLS_FAILED_IDENTITY,   /* unknown PSK identity */
        DTLS_FAILED_PSK,        /* the identity has another key */
        DTLS_FAILED_NO_CERTIFICATE,
        DTLS_FAILED_KEY_UNKNOWN,
        DTLS_FAILED_KEY_BAD,
        DTLS_FAILED_KEY_UNSUPPORTED,
        DTLS_FAILED_CERTIFICATE_BAD, /* unreadable, a signature that does not verify, weak, against RFC 5280 */
        DTLS_FAILED_CERTIFICATE_UNSUPPORTED,
        DTLS_FAILED_CERTIFICATE_EXPIRED,
        DTLS_FAILED_CERTIFICATE_NOT_YET,
        DTLS_FAILED_CERTIFICATE_FOREIGN,
        DTLS_FAILED_CHAIN_TOO_LONG,
        DTLS_FAILED_UNMATCHED,
        DTLS_FAILED_INTERNAL,
        DTLS_FAILURES,
};

#define DTLS_ALERT_NONE (-1)

struct dtls_failure_row {
        int alert;        /* DTLS_ALERT_NONE: none, or GnuTLS knows which */
        const char *text; /* for the log */
};
const struct dtls_failure_row *dtls_failure_row(enum dtls_failure failure);
