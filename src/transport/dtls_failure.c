#include "transport/dtls_failure.h"

/* RFC 5246 §7.2, RFC 4279 §6 */
#define HANDSHAKE_FAILURE 40
#define BAD_CERTIFICATE 42
#define UNSUPPORTED_CERTIFICATE 43
#define CERTIFICATE_EXPIRED 45
#define CERTIFICATE_UNKNOWN 46
#define UNKNOWN_CA 48
#define ACCESS_DENIED 49
#define DECRYPT_ERROR 51
#define INTERNAL_ERROR 80
#define UNKNOWN_PSK_IDENTITY 115

static const struct dtls_failure_row rows[DTLS_FAILURES] = {
        [DTLS_FAILED_PROTOCOL] = { DTLS_ALERT_NONE, "it breaks the protocol, or has nothing in common with us" },
        [DTLS_FAILED_ALERT] = { DTLS_ALERT_NONE, "the client gave it up" },
        [DTLS_FAILED_TIMEOUT] = { DTLS_ALERT_NONE, "the client did not go on in time" },
        [DTLS_FAILED_ANEW] = { DTLS_ALERT_NONE, "the client began anew" },
        [DTLS_FAILED_IDENTITY] = { UNKNOWN_PSK_IDENTITY, "nobody active has the PSK identity" },
        [DTLS_FAILED_PSK] = { DECRYPT_ERROR, "the client has another key than its PSK identity" },
        [DTLS_FAILED_NO_CERTIFICATE] = { HANDSHAKE_FAILURE, "the client shows neither key nor certificate" },
        [DTLS_FAILED_KEY_UNKNOWN] = { CERTIFICATE_UNKNOWN, "nobody active has the raw public key" },
        [DTLS_FAILED_KEY_BAD] = { BAD_CERTIFICATE, "the raw public key is none, or not on its curve" },
        [DTLS_FAILED_KEY_UNSUPPORTED] = { UNSUPPORTED_CERTIFICATE, "the raw public key is not on P-256 or Ed25519" },
        [DTLS_FAILED_CERTIFICATE_BAD] = { BAD_CERTIFICATE, "the certificate is no good" },
        [DTLS_FAILED_CERTIFICATE_UNSUPPORTED] = { UNSUPPORTED_CERTIFICATE, "the certificate is not for this" },
        [DTLS_FAILED_CERTIFICATE_EXPIRED] = { CERTIFICATE_EXPIRED, "the certificate has expired" },
        [DTLS_FAILED_CERTIFICATE_NOT_YET] = { CERTIFICATE_EXPIRED, "the certificate is not yet valid" },
        [DTLS_FAILED_CERTIFICATE_FOREIGN] = { UNKNOWN_CA, "the certificate leads to no trust anchor" },
        [DTLS_FAILED_CHAIN_TOO_LONG] = { UNKNOWN_CA, "the certificate has too long a chain" },
        [DTLS_FAILED_UNMATCHED] = { ACCESS_DENIED, "the certificate is good, but fits no rule of an active party" },
        [DTLS_FAILED_INTERNAL] = { INTERNAL_ERROR, "something broke here" },
};

const struct dtls_failure_row *dtls_failure_row(enum dtls_failure failure) {
        return &rows[failure];
}
