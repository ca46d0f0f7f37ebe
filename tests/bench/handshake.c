/*
 * handshake KEY CERTIFICATE: a server that does nothing but DTLS handshakes, by GnuTLS alone, and answers each request
 * with an empty 2.05. What `acebench handshake-get` makes with it is what GnuTLS leaves to any server on this machine:
 * the same version, suites, groups and cookies as aced's, a credential of the client (raw public key or certificate)
 * that must be shown, whose key is proved, and that is taken whatever it is.
 *
 * KEY, CERTIFICATE: PEM. Prints the port, on 127.0.0.1. One client address is one port there. Ends by a signal.
 */
#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/dtls.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define PRIORITY                                                                                            \
        "NONE:+VERS-DTLS1.2:+ECDHE-ECDSA:+AES-128-CCM-8:+AES-128-CCM:+AES-128-GCM:+CHACHA20-POLY1305:+AEAD:" \
        "+GROUP-X25519:+GROUP-SECP256R1:+SIGN-ECDSA-SHA256:+SIGN-EDDSA-ED25519:+COMP-NULL:+CTYPE-CLI-RAWPK:" \
        "+CTYPE-CLI-X509:+CTYPE-SRV-RAWPK:+CTYPE-SRV-X509"
#define DATAGRAM_SIZE_MAX 2048
#define SOCKET_BUFFER_SIZE (4 << 20)
#define MTU 1400
#define HOLD_MS (3600 * 1000) /* loopback loses nothing that fits the socket's buffer */
#define PORTS 65536
#define MUST(what)                                                            \
        do {                                                                  \
                if (!(what)) {                                                \
                        fprintf(stderr, "handshake: %s failed\n", #what);     \
                        exit(1);                                              \
                }                                                             \
        } while (0)

struct peer {
        gnutls_session_t tls;
        struct sockaddr_in remote;
        const uint8_t *input; /* the datagram that is being taken in, NULL: none */
        size_t input_size;
        int fd;
        bool is_open;
};

struct server {
        int fd;
        gnutls_certificate_credentials_t credentials;
        gnutls_priority_t priority;
        gnutls_datum_t cookie_key;
        struct peer *peers[PORTS];
};

/* ---- what GnuTLS calls */

static ssize_t push(gnutls_transport_ptr_t context, const void *data, size_t size) {
        const struct peer *peer = context;

        return sendto(peer->fd, data, size, MSG_DONTWAIT, (const struct sockaddr *)&peer->remote, sizeof(peer->remote));
}

static ssize_t pull(gnutls_transport_ptr_t context, void *data, size_t size) {
        struct peer *peer = context;
        size_t n = peer->input_size < size ? peer->input_size : size;

        if (!peer->input) {
                gnutls_transport_set_errno(peer->tls, EAGAIN);
                return -1;
        }
        memcpy(data, peer->input, n);
        peer->input = NULL;
        return (ssize_t)n;
}

static int pull_timeout(gnutls_transport_ptr_t context, unsigned ms) {
        return ((struct peer *)context)->input != NULL;
}

static int take_anybody(gnutls_session_t tls) {
        unsigned n = 0;

        return gnutls_certificate_get_peers(tls, &n) && n > 0 ? 0 : GNUTLS_E_CERTIFICATE_ERROR;
}

/* ---- peers */

static void peer_end(struct server *server, struct peer *peer) {
        server->peers[ntohs(peer->remote.sin_port)] = NULL;
        gnutls_deinit(peer->tls);
        free(peer);
}

static struct peer *peer_new(struct server *server, const struct sockaddr_in *remote, gnutls_dtls_prestate_st *cookie) {
        struct peer *peer = calloc(1, sizeof(*peer));

        MUST(peer);
        peer->fd = server->fd;
        peer->remote = *remote;
        MUST(gnutls_init(&peer->tls, GNUTLS_SERVER | GNUTLS_DATAGRAM | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS |
                                     GNUTLS_ENABLE_RAWPK) == 0);
        MUST(gnutls_priority_set(peer->tls, server->priority) == 0);
        MUST(gnutls_credentials_set(peer->tls, GNUTLS_CRD_CERTIFICATE, server->credentials) == 0);
        gnutls_certificate_server_set_request(peer->tls, GNUTLS_CERT_REQUIRE);
        gnutls_transport_set_ptr(peer->tls, peer);
        gnutls_transport_set_push_function(peer->tls, push);
        gnutls_transport_set_pull_function(peer->tls, pull);
        gnutls_transport_set_pull_timeout_function(peer->tls, pull_timeout);
        gnutls_dtls_set_mtu(peer->tls, MTU);
        gnutls_dtls_set_timeouts(peer->tls, HOLD_MS, HOLD_MS);
        gnutls_dtls_prestate_set(peer->tls, cookie);
        server->peers[ntohs(remote->sin_port)] = peer;
        return peer;
}

/* A stranger's ClientHello: a peer when it brings the cookie, that it is sent otherwise. */
static struct peer *admit(struct server *server, const struct sockaddr_in *remote, uint8_t *data, size_t size) {
        struct peer asker = { .fd = server->fd, .remote = *remote };
        gnutls_dtls_prestate_st cookie = {};
        in_port_t port = remote->sin_port;

        if (gnutls_dtls_cookie_verify(&server->cookie_key, &port, sizeof(port), data, size, &cookie) == 0)
                return peer_new(server, remote, &cookie);
        gnutls_dtls_cookie_send(&server->cookie_key, &port, sizeof(port), &cookie, &asker, push);
        return NULL;
}

/* RFC 7252 §4.2: an acknowledgement with the request's message ID and token. */
static void answer(struct peer *peer, uint8_t *message, ssize_t size) {
        size_t token_size = size > 0 ? message[0] & 0x0f : 0;

        if (size < 4 || 4 + token_size > (size_t)size)
                return;
        message[0] = (uint8_t)(0x60 | token_size);
        message[1] = 0x45;
        (void)gnutls_record_send(peer->tls, message, 4 + token_size);
}

/* What is in the datagram at hand. False: the peer has gone. */
static bool go_on(struct peer *peer) {
        uint8_t message[DATAGRAM_SIZE_MAX];
        ssize_t n;
        int r;

        if (!peer->is_open) {
                do
                        r = gnutls_handshake(peer->tls);
                while (r < 0 && !gnutls_error_is_fatal(r) && gnutls_record_check_pending(peer->tls) > 0);
                peer->is_open = r == 0;
                return r == 0 || !gnutls_error_is_fatal(r);
        }
        n = gnutls_record_recv(peer->tls, message, sizeof(message));
        answer(peer, message, n);
        return n > 0 || (n < 0 && !gnutls_error_is_fatal((int)n));
}

static void take(struct server *server) {
        struct sockaddr_in remote;
        socklen_t remote_size = sizeof(remote);
        uint8_t data[DATAGRAM_SIZE_MAX];
        ssize_t n = recvfrom(server->fd, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&remote, &remote_size);
        struct peer *peer;

        if (n <= 0)
                return;
        peer = server->peers[ntohs(remote.sin_port)];
        if (!peer && !(peer = admit(server, &remote, data, (size_t)n)))
                return;
        peer->input = data;
        peer->input_size = (size_t)n;
        if (!go_on(peer)) {
                peer_end(server, peer);
                return;
        }
        peer->input = NULL;
}

/* ---- the whole */

static void read_file(const char *name, gnutls_datum_t *ret) {
        MUST(gnutls_load_file(name, ret) == 0);
}

static void set_credentials(struct server *server, const char *key_file, const char *certificate_file) {
        gnutls_datum_t key, certificate, spki;
        gnutls_pubkey_t public_key;
        gnutls_pcert_st shown;

        read_file(key_file, &key);
        read_file(certificate_file, &certificate);
        MUST(gnutls_pcert_import_x509_raw(&shown, &certificate, GNUTLS_X509_FMT_PEM, 0) == 0);
        public_key = shown.pubkey;
        MUST(gnutls_pubkey_export2(public_key, GNUTLS_X509_FMT_PEM, &spki) == 0);
        MUST(gnutls_certificate_allocate_credentials(&server->credentials) == 0);
        MUST(gnutls_certificate_set_rawpk_key_mem(server->credentials, &spki, &key, GNUTLS_X509_FMT_PEM, NULL,
                                                  GNUTLS_KEY_DIGITAL_SIGNATURE, NULL, 0, 0) >= 0);
        MUST(gnutls_certificate_set_x509_key_mem(server->credentials, &certificate, &key, GNUTLS_X509_FMT_PEM) >= 0);
        gnutls_certificate_set_verify_function(server->credentials, take_anybody);
        gnutls_pcert_deinit(&shown);
        gnutls_free(spki.data);
        gnutls_free(certificate.data);
        gnutls_free(key.data);
}

static unsigned listen_on_loopback(struct server *server) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t size = sizeof(address);
        int room = SOCKET_BUFFER_SIZE;

        server->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        MUST(server->fd >= 0);
        (void)setsockopt(server->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
        MUST(bind(server->fd, (struct sockaddr *)&address, size) == 0);
        MUST(getsockname(server->fd, (struct sockaddr *)&address, &size) == 0);
        return ntohs(address.sin_port);
}

int main(int argc, char **argv) {
        struct server *server = calloc(1, sizeof(*server));
        struct pollfd poll_fd = { .events = POLLIN };

        if (argc != 3) {
                fprintf(stderr, "handshake KEY CERTIFICATE\n");
                free(server);
                return 2;
        }
        MUST(server);
        set_credentials(server, argv[1], argv[2]);
        MUST(gnutls_priority_init(&server->priority, PRIORITY, NULL) == 0);
        MUST(gnutls_key_generate(&server->cookie_key, GNUTLS_COOKIE_KEY_SIZE) == 0);
        printf("%u\n", listen_on_loopback(server));
        fflush(stdout);
        for (poll_fd.fd = server->fd; poll(&poll_fd, 1, -1) == 1 || errno == EINTR;)
                take(server);
        return 1;
}
