#pragma once

#include "base/buf.h"

/*
 * A DTLS 1.2 client by GnuTLS, in memory: datagrams go in and out by calls, nothing blocks. What the tests of the
 * DTLS door and of the engine talk with.
 *
 *     while (dtls_client_handshake(c) == -EAGAIN) { dtls_client_output() → server; server → dtls_client_input() }
 */
struct dtls_client;
struct dtls_client_keys;

struct dtls_client_options {
        struct bytes identity; /* any bytes */
        struct bytes key;
        struct bytes pkcs8;    /* DER of a private key, instead of identity and key: a client with a key of its own */
        struct bytes spki;     /* its raw public key (RFC 7250), DER */
        const struct bytes *chain; /* or certificates, DER, its own first; neither: nothing is shown */
        size_t n_chain;
        const struct dtls_client_keys *keys; /* what these three came to, for many clients; stays the caller's */
        const char *priority;  /* GnuTLS priority string; NULL: every suite of that kind that the server knows */
        bool is_eager;         /* handshake() without a new datagram sends the last flight again at once */
};

/* Keys and what is shown of them take long to read. Of the options pkcs8, spki and chain count. 0, or -EPROTO. */
int dtls_client_keys_new(const struct dtls_client_options *options, struct dtls_client_keys **ret);
void dtls_client_keys_free(struct dtls_client_keys *keys);

int dtls_client_new(const struct dtls_client_options *options, struct dtls_client **ret);
void dtls_client_free(struct dtls_client *client);

static inline void dtls_client_freep(struct dtls_client **client) {
        dtls_client_free(*client);
        *client = NULL;
}

/* One more step: 0 the handshake is done, -EAGAIN datagrams must come or go first, -EPROTO it failed. */
int dtls_client_handshake(struct dtls_client *client);

/* A datagram from the server; copied, read by the next call of handshake() or receive(). */
void dtls_client_input(struct dtls_client *client, struct bytes datagram);
/* The next datagram for the server into *ret, which is cleared first. False: none. */
bool dtls_client_output(struct dtls_client *client, struct buf *ret);

/* One record of application data. 0 or -EPROTO. */
int dtls_client_send(struct dtls_client *client, struct bytes data);
/* The next application data into *ret, which is cleared first. 0, -EAGAIN none, -EPIPE closed, -EPROTO broken. */
int dtls_client_receive(struct dtls_client *client, struct buf *ret);
/* Say close_notify. */
void dtls_client_close(struct dtls_client *client);

/* The last fatal alert from the server, or -1. The GnuTLS error behind the last -EPROTO. The suite agreed on. */
int dtls_client_alert(const struct dtls_client *client);
int dtls_client_error(const struct dtls_client *client);
const char *dtls_client_cipher(const struct dtls_client *client);
/* What the server showed: DER, until the next call; is it a raw public key? The group of the key exchange. */
struct bytes dtls_client_server(const struct dtls_client *client, bool *ret_is_raw);
const char *dtls_client_group(const struct dtls_client *client);
