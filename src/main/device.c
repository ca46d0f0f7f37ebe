#include "main/device.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/dtls.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "crypto/certificate.h"
#include "transport/tls_key.h"

#define MTU 1400
#define RESEND_MS 1000        /* RFC 6347 §4.2.4.1 */
#define HANDSHAKE_MS 3600000  /* the caller's patience ends before */
#define CHAIN_MAX 8
#define PSK_PRIORITY                                                                                             \
        "NONE:+VERS-DTLS1.2:+PSK:+ECDHE-PSK:+AES-128-CCM-8:+AES-128-CCM:+AES-128-GCM:+CHACHA20-POLY1305:+AEAD:" \
        "+GROUP-X25519:+GROUP-SECP256R1:+SIGN-ALL:+COMP-NULL"
/* RFC 9202 §3.2.2: the first suite and the first group are its must */
#define PUBLIC_KEY_PRIORITY                                                                              \
        "NONE:+VERS-DTLS1.2:+ECDHE-ECDSA:+AES-128-CCM-8:+AES-128-CCM:+AES-128-GCM:+CHACHA20-POLY1305:+AEAD:" \
        "+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:+SIGN-ALL:+COMP-NULL"

struct device_identity {
        gnutls_psk_client_credentials_t psk;
        gnutls_certificate_credentials_t certificate;
        gnutls_priority_t priority;
        gnutls_pcert_st chain[CHAIN_MAX];
        unsigned n_chain;
        gnutls_privkey_t key;
        struct public_key own; /* of that key; no curve when it is on none of ours */
        bool pins, has_anchors;
        struct public_key server;
        char *server_name;
};

DEFINE_FREEP(struct device_identity, device_identity_free)

void device_identity_free(struct device_identity *identity) {
        if (!identity)
                return;
        if (identity->psk)
                gnutls_psk_free_client_credentials(identity->psk);
        if (identity->certificate)
                gnutls_certificate_free_credentials(identity->certificate);
        if (identity->priority)
                gnutls_priority_deinit(identity->priority);
        for (unsigned i = 0; i < identity->n_chain; i++)
                gnutls_pcert_deinit(&identity->chain[i]);
        if (identity->key)
                gnutls_privkey_deinit(identity->key);
        free(identity->server_name);
        free(identity);
}

/* ---- whom it takes for its server */

/* The key of a certificate, or the raw one, whichever the server showed. */
static const char *check_pin(gnutls_session_t tls, const struct public_key *expected) {
        unsigned n;
        const gnutls_datum_t *shown = gnutls_certificate_get_peers(tls, &n);
        struct public_key key;
        struct bytes first;
        bool is_raw = gnutls_certificate_type_get2(tls, GNUTLS_CTYPE_SERVER) == GNUTLS_CRT_RAWPK;

        if (!shown || n == 0)
                return "the server showed no key";
        first = bytes_of(shown[0].data, shown[0].size);
        if ((is_raw ? public_key_from_spki(first, &key) : certificate_public_key(first, &key)) != 0)
                return "the server showed a key of a kind that is not known here";
        return public_key_equal(&key, expected) ? NULL : "the server has another key than the given one";
}

static const char *check_anchors(gnutls_session_t tls, const char *server_name) {
        unsigned status = 0;

        if (gnutls_certificate_verify_peers3(tls, server_name, &status) < 0)
                return "the server's certificate cannot be checked";
        if (status & GNUTLS_CERT_SIGNER_NOT_FOUND)
                return "the server's certificate is of no authority that was given";
        if (status & GNUTLS_CERT_UNEXPECTED_OWNER)
                return "the server's certificate is for another name";
        if (status & (GNUTLS_CERT_EXPIRED | GNUTLS_CERT_NOT_ACTIVATED))
                return "the server's certificate is not valid at this time";
        return status != 0 ? "the server's certificate is not good" : NULL;
}

/* Called within the handshake, which fails unless this is 0. */
static int on_server_key(gnutls_session_t tls) {
        struct device *device = gnutls_session_get_ptr(tls);
        const struct device_identity *identity = device->identity;

        if (identity->pins)
                device->fault = check_pin(tls, &identity->server);
        if (!device->fault && identity->has_anchors)
                device->fault = check_anchors(tls, identity->server_name);
        return device->fault ? GNUTLS_E_CERTIFICATE_ERROR : 0;
}

/*
 * Which key to show. Left to itself GnuTLS shows none for Ed25519, as no certificate type of a request names it (RFC
 * 8422 §5.5 counts it to ecdsa_sign).
 */
static int on_own_key(gnutls_session_t tls, const struct gnutls_cert_retr_st *info, gnutls_pcert_st **chain,
                      unsigned *n_chain, gnutls_ocsp_data_st **ocsp, unsigned *n_ocsp, gnutls_privkey_t *key,
                      unsigned *flags) {
        struct device_identity *identity = (struct device_identity *)
                                                   ((struct device *)gnutls_session_get_ptr(tls))->identity;

        *chain = identity->chain;
        *n_chain = identity->n_chain;
        *ocsp = NULL;
        *n_ocsp = 0;
        *key = identity->key;
        *flags = 0;
        return 0;
}

/* ---- who it is */

static gnutls_datum_t datum(struct bytes bytes) {
        return (gnutls_datum_t){ (unsigned char *)bytes.data, (unsigned)bytes.size };
}

/* GnuTLS refused what it was given, or had no memory. */
static int refused(int error, const char **ret_fault) {
        if (error == GNUTLS_E_MEMORY_ERROR)
                return -ENOMEM;
        *ret_fault = gnutls_strerror(error);
        return -EINVAL;
}

static int take_psk(struct device_identity *identity, const struct device_credential *credential,
                    const char **ret_fault) {
        const gnutls_datum_t name = datum(credential->identity), key = datum(credential->psk);
        int r;

        if ((r = gnutls_psk_allocate_client_credentials(&identity->psk)) < 0 ||
            (r = gnutls_psk_set_client_credentials2(identity->psk, &name, &key, GNUTLS_PSK_KEY_RAW)) < 0)
                return refused(r, ret_fault);
        return 0;
}

static int take_raw_key(struct device_identity *identity) {
        uint8_t space[SPKI_SIZE_MAX];
        gnutls_datum_t spki = { .data = space };
        size_t size;
        int r;

        if (public_key_spki(&identity->own, space, &size) != 0)
                return GNUTLS_E_UNSUPPORTED_SIGNATURE_ALGORITHM;
        spki.size = (unsigned)size;
        r = gnutls_pcert_import_rawpk_raw(&identity->chain[0], &spki, GNUTLS_X509_FMT_DER, GNUTLS_KEY_DIGITAL_SIGNATURE,
                                          0);
        identity->n_chain = r == 0;
        return r;
}

static int take_chain(struct device_identity *identity, struct bytes pem) {
        const gnutls_datum_t text = datum(pem);
        unsigned n = CHAIN_MAX;
        int r = gnutls_pcert_list_import_x509_raw(identity->chain, &n, &text, GNUTLS_X509_FMT_PEM,
                                                  GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED);

        if (r >= 0)
                identity->n_chain = n;
        return r;
}

static int take_anchors(struct device_identity *identity, struct bytes pem) {
        const gnutls_datum_t text = datum(pem);
        int r = gnutls_certificate_set_x509_trust_mem(identity->certificate, &text, GNUTLS_X509_FMT_PEM);

        identity->has_anchors = true;
        return r == 0 ? GNUTLS_E_NO_CERTIFICATE_FOUND : r < 0 ? r : 0;
}

static int take_key(struct device_identity *identity, const struct device_credential *credential,
                    const char **ret_fault) {
        int r;

        if ((r = gnutls_certificate_allocate_credentials(&identity->certificate)) < 0 ||
            (r = tls_key_new(credential->private_key, &identity->key, &identity->own)) < 0 ||
            (r = credential->chain.size > 0 ? take_chain(identity, credential->chain) : take_raw_key(identity)) < 0 ||
            (credential->anchors.size > 0 && (r = take_anchors(identity, credential->anchors)) < 0))
                return refused(r, ret_fault);
        gnutls_certificate_set_retrieve_function3(identity->certificate, on_own_key);
        gnutls_certificate_set_verify_function(identity->certificate, on_server_key);
        return 0;
}

/*
 * An authority certifies no raw key. A pinned key may come either way, the client's own way first: RFC 9202 §3.2 wants
 * raw keys on both sides.
 */
static int take_priority(struct device_identity *identity, const struct device_credential *credential,
                         const char **ret_fault) {
        bool has_chain = credential->chain.size > 0;
        char text[512];
        int r;

        if (identity->psk)
                snprintf(text, sizeof(text), "%s", credential->priority ?: PSK_PRIORITY);
        else
                snprintf(text, sizeof(text), "%s:+CTYPE-CLI-%s:%s", credential->priority ?: PUBLIC_KEY_PRIORITY,
                         has_chain ? "X509" : "RAWPK",
                         identity->has_anchors ? "+CTYPE-SRV-X509" :
                         has_chain             ? "+CTYPE-SRV-X509:+CTYPE-SRV-RAWPK" :
                                                 "+CTYPE-SRV-RAWPK:+CTYPE-SRV-X509");
        r = gnutls_priority_init(&identity->priority, text, NULL);
        return r < 0 ? refused(r, ret_fault) : 0;
}

int device_identity_new(const struct device_credential *credential, struct device_identity **ret,
                        const char **ret_fault) {
        _cleanup_(device_identity_freep) struct device_identity *identity = calloc(1, sizeof(*identity));
        int r;

        if (!identity)
                return -ENOMEM;
        if (credential->server_name && !(identity->server_name = strdup(credential->server_name)))
                return -ENOMEM;
        if (credential->server) {
                identity->pins = true;
                identity->server = *credential->server;
        }
        r = credential->private_key.size > 0 ? take_key(identity, credential, ret_fault) :
                                               take_psk(identity, credential, ret_fault);
        if (r != 0 || (r = take_priority(identity, credential, ret_fault)) != 0)
                return r;
        *ret = TAKE_PTR(identity);
        return 0;
}

/* ---- what GnuTLS calls */

static ssize_t on_push(gnutls_transport_ptr_t context, const void *data, size_t size) {
        struct device *device = context;
        ssize_t n = send(device->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0) {
                device->error = errno;
                gnutls_transport_set_errno(device->tls, errno);
        } else {
                device->bytes_sent += (uint64_t)n;
        }
        return n;
}

static ssize_t on_pull(gnutls_transport_ptr_t context, void *data, size_t size) {
        struct device *device = context;
        ssize_t n = recv(device->fd, data, size, MSG_DONTWAIT);

        if (n < 0) {
                device->error = errno == EAGAIN ? device->error : errno;
                gnutls_transport_set_errno(device->tls, errno);
        } else {
                device->bytes_received += (uint64_t)n;
        }
        return n;
}

/* Never waits: the caller knows when there is something. */
static int on_pull_timeout(gnutls_transport_ptr_t context, unsigned ms) {
        struct device *device = context;
        uint8_t byte;

        if (recv(device->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0)
                return 1;
        if (errno != EAGAIN)
                device->error = errno; /* it is told once */
        return 0;
}

/* ---- one wire */

/* Server Name Indication has DNS names alone (RFC 6066 §3). */
static bool is_dns_name(const char *name) {
        return name && name[strspn(name, "0123456789.")] && !strchr(name, ':');
}

static int tls_begin(struct device *device) {
        const struct device_identity *identity = device->identity;
        const char *name = identity->server_name;

        if (gnutls_init(&device->tls, GNUTLS_CLIENT | GNUTLS_DATAGRAM | GNUTLS_NONBLOCK | GNUTLS_ENABLE_RAWPK) < 0 ||
            gnutls_priority_set(device->tls, identity->priority) < 0 ||
            gnutls_credentials_set(device->tls, identity->psk ? GNUTLS_CRD_PSK : GNUTLS_CRD_CERTIFICATE,
                                   identity->psk ? (void *)identity->psk : (void *)identity->certificate) < 0 ||
            (is_dns_name(name) && gnutls_server_name_set(device->tls, GNUTLS_NAME_DNS, name, strlen(name)) < 0))
                return -ENOMEM;
        gnutls_session_set_ptr(device->tls, device);
        gnutls_transport_set_ptr(device->tls, device);
        gnutls_transport_set_push_function(device->tls, on_push);
        gnutls_transport_set_pull_function(device->tls, on_pull);
        gnutls_transport_set_pull_timeout_function(device->tls, on_pull_timeout);
        gnutls_dtls_set_mtu(device->tls, MTU);
        gnutls_dtls_set_timeouts(device->tls, RESEND_MS, HANDSHAKE_MS);
        return 0;
}

int device_open(struct device *device, const struct device_identity *identity, const struct sockaddr *local,
                const struct sockaddr *remote, socklen_t size) {
        *device = (struct device){ .identity = identity, .connected = identity == NULL };
        device->fd = socket(remote->sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (device->fd < 0 || (local && bind(device->fd, local, size) < 0) || connect(device->fd, remote, size) < 0)
                return -errno;
        return identity ? tls_begin(device) : 0;
}

void device_close(struct device *device) {
        if (device->tls) {
                if (device->connected)
                        gnutls_bye(device->tls, GNUTLS_SHUT_WR);
                gnutls_deinit(device->tls);
                device->tls = NULL;
        }
        closep(&device->fd);
        device->connected = false;
}

int device_handshake(struct device *device) {
        int r;

        do
                r = gnutls_handshake(device->tls);
        while (r == GNUTLS_E_INTERRUPTED || r == GNUTLS_E_WARNING_ALERT_RECEIVED);
        if (r == GNUTLS_E_AGAIN && device->error == 0)
                return -EAGAIN;
        if (r < 0) {
                device->tls_error = r;
                return -EPROTO;
        }
        device->connected = true;
        return 0;
}

int device_resend_ms(const struct device *device) {
        return (int)gnutls_dtls_get_timeout(device->tls);
}

/* GnuTLS's result as ours. */
static ssize_t tls_result(struct device *device, ssize_t r) {
        if (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED || r == GNUTLS_E_WARNING_ALERT_RECEIVED)
                return -EAGAIN;
        if (r == GNUTLS_E_PULL_ERROR || r == GNUTLS_E_PUSH_ERROR)
                return device->error == 0 ? -EIO : -device->error;
        if (r < 0)
                device->tls_error = (int)r;
        return r == 0 || r == GNUTLS_E_FATAL_ALERT_RECEIVED || r == GNUTLS_E_PREMATURE_TERMINATION ? -ECONNRESET :
               r < 0                                                                               ? -EPROTO :
                                                                                                     r;
}

ssize_t device_send(struct device *device, struct bytes message) {
        ssize_t n;

        if (device->tls)
                return tls_result(device, gnutls_record_send(device->tls, message.data, message.size));
        n = send(device->fd, message.data, message.size, MSG_DONTWAIT | MSG_NOSIGNAL);
        device->bytes_sent += n > 0 ? (uint64_t)n : 0;
        return n < 0 ? -errno : n;
}

ssize_t device_receive(struct device *device, void *space, size_t size) {
        ssize_t n;

        if (device->tls)
                return tls_result(device, gnutls_record_recv(device->tls, space, size));
        n = recv(device->fd, space, size, MSG_DONTWAIT);
        device->bytes_received += n > 0 ? (uint64_t)n : 0;
        return n < 0 ? -errno : n;
}

void device_why(const struct device *device, char *text, size_t size) {
        const char *what = device->connected ? "the server closed the session" : "the handshake failed";
        const char *alert = NULL;

        if (device->tls_error == GNUTLS_E_FATAL_ALERT_RECEIVED)
                alert = gnutls_alert_get_name(gnutls_alert_get(device->tls));
        if (device->error == ECONNREFUSED)
                snprintf(text, size, "nobody listens there");
        else if (device->fault)
                snprintf(text, size, "%s: %s", what, device->fault);
        else if (device->error != 0)
                snprintf(text, size, "%s: %s", what, strerror(device->error));
        else if (device->tls_error == GNUTLS_E_FATAL_ALERT_RECEIVED)
                snprintf(text, size, "%s, alert: %s", what, alert ?: "unknown");
        else
                snprintf(text, size, "%s%s%s", what, device->tls_error ? ": " : "",
                         device->tls_error ? gnutls_strerror(device->tls_error) : "");
}
