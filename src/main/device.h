#pragma once

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "crypto/key.h"

/*
 * A device's end of a wire to a server: UDP, or DTLS 1.2 by GnuTLS with a pre-shared key, a raw public key (RFC 7250)
 * or certificates. What aceclient speaks through, and acebench with thousands at a time: nothing here waits.
 */

/* Who a device is, and whom it takes for its server. Everything is borrowed during device_identity_new() only. */
struct device_credential {
        struct bytes identity, psk;      /* a pre-shared key */
        struct bytes private_key;        /* PEM: a public key, shown raw unless there is a chain */
        struct bytes chain;              /* PEM, its own certificate first */
        const struct public_key *server; /* the key the server must show, raw or in a certificate; NULL: any */
        struct bytes anchors;            /* PEM: authorities one of which certified the server; none: not looked at */
        const char *server_name;         /* what the certificate must be for; NULL: anything */
        const char *priority;            /* GnuTLS priority string; NULL: the suites of RFC 9202 */
};

struct device_identity;

/*
 * 0; -EINVAL with *ret_fault, a constant text: what is wrong with it, as GnuTLS says it; -ENOMEM. May be shared by any
 * number of devices, and must outlive them. free() wipes keys.
 */
int device_identity_new(const struct device_credential *credential, struct device_identity **ret,
                        const char **ret_fault);
void device_identity_free(struct device_identity *identity);

struct gnutls_session_int;

/* One wire; members are for looking at. */
struct device {
        int fd;
        const struct device_identity *identity; /* NULL: plain UDP */
        struct gnutls_session_int *tls;
        bool connected; /* the handshake is done */
        int error;      /* of the socket, when it failed: an errno */
        int tls_error;  /* GnuTLS's, when it failed */
        const char *fault; /* why the server's key was not taken; NULL: it was, or was not looked at */
        uint64_t bytes_sent, bytes_received; /* in datagrams, DTLS and all */
};

#define DEVICE_INIT ((struct device){ .fd = -1 })

/*
 * A socket to remote, from local (NULL: whatever address suits); both have this size. identity NULL: connected at once.
 * 0, -errno. device_close() whatever comes.
 */
int device_open(struct device *device, const struct device_identity *identity, const struct sockaddr *local,
                const struct sockaddr *remote, socklen_t size);
/* close_notify when connected. */
void device_close(struct device *device);

/*
 * Go on with the handshake: at first, when there is something to read, and when device_resend_ms() are over. 0: done;
 * -EAGAIN: call again; -EPROTO: failed, device_why() tells.
 */
int device_handshake(struct device *device);
int device_resend_ms(const struct device *device);

/* One message. Bytes that were sent, or -EAGAIN, -ECONNREFUSED (nobody listens there), -EPIPE, other -errno. */
ssize_t device_send(struct device *device, struct bytes message);
/* One message. Its size, or -EAGAIN, -ECONNREFUSED, -ECONNRESET (the server closed the session), other -errno. */
ssize_t device_receive(struct device *device, void *space, size_t size);

/* What went wrong, for people: "the handshake failed, alert: Decrypt error". */
void device_why(const struct device *device, char *text, size_t size);
