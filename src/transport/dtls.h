#pragma once

#include "base/secret.h"
#include "domain/credential.h"
#include "transport/dtls_failure.h"
#include "transport/dtls_keys.h"
#include "transport/engine.h"
#include "transport/limit.h"

struct trust_anchors;

/*
 * DTLS 1.2 (RFC 6347) by GnuTLS, without sockets. The cookie is checked before any memory is spent (RFC 6347 §4.2.1);
 * sessions are found in O(1) by door socket and remote address. Records that carry application data go to deliver().
 *
 * Suites with a pre-shared key: TLS_PSK_WITH_{AES_128_CCM_8, AES_128_CCM, AES_128_GCM_SHA256, CHACHA20_POLY1305_SHA256}
 * and, with ECDHE over X25519 or P-256, TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256: the one AEAD suite of ECDHE-PSK
 * that GnuTLS 3.7 and 3.8 have. With raw public keys (RFC 7250) or certificates on both sides, on P-256 or Ed25519:
 * TLS_ECDHE_ECDSA_WITH_{AES_128_CCM_8, AES_128_CCM, AES_128_GCM_SHA256, CHACHA20_POLY1305_SHA256}; which of the two
 * either side shows the certificate type extensions say. Who fails is told why by an alert (dtls_failure.h).
 *
 * A session ends with the certificates of the client's path, with certificate_expired, and with its trust anchor, with
 * unknown_ca.
 *
 * Until the cookie is checked no signature is made or verified; then there is one of ours for each handshake, and the
 * verifying of at most CERTIFICATE_CHAIN_MAX of the client's.
 *
 * GnuTLS refuses a ClientHello whose server_name is no DNS name (RFC 6066 §3 forbids literal addresses there) with
 * illegal_parameter, and cannot be told to look away: clients that put "::1" from a URI there, as coap-client 4.3.1
 * does, must be given a host name. IPv4 literals pass.
 */
struct dtls;
struct dtls_session;

struct dtls_callbacks {
        void *context;
        /* The key for an identity. 0; > 0: nobody has it; < 0: something broke. */
        int (*psk)(void *context, struct bytes identity, struct credential *ret, struct secret *ret_psk);
        /* Application data from an authenticated peer; data is valid during the call. */
        void (*deliver)(void *context, struct dtls_session *session, struct bytes data, struct engine_time now);
        /* A datagram to send; data is valid during the call. */
        void (*send)(void *context, unsigned socket, const struct address *remote, struct bytes data);
        /* The session, whose handshake was done once, is about to go: forget it. */
        void (*closed)(void *context, struct dtls_session *session);
        /* May this ClientHello have its work done? One that may not is dropped. NULL: every one. */
        bool (*admit)(void *context, const struct address *remote, enum stranger_act act, struct engine_time now);
        /* The handshake is done: there stands who the credential says. NULL: nobody asks. */
        void (*done)(void *context, struct dtls_session *session, struct engine_time now);
        /*
         * Whose raw public key is it? Whose certificate, that has this name (struct credential's rule)? As psk(). A
         * certificate may have several names: REFUSE_SUSPENDED_CLIENT says that no other of them is to be tried.
         */
        int (*rpk)(void *context, const uint8_t thumbprint[static THUMBPRINT_SIZE], struct credential *ret);
        int (*x509)(void *context, struct bytes rule, struct credential *ret);
        /* A handshake made no session. detail: more about why, or NULL. NULL: nobody asks. */
        void (*failed)(void *context, const struct address *remote, enum dtls_failure why, const char *detail);
};

/*
 * A session counts as half-open until its handshake is done, and only then against sessions_max: so strangers, however
 * many, cannot displace a peer that has proved who it is. Nor can one credential displace all others: when it has more
 * than half of sessions_max, one more evicts the least recently used of its own.
 */
struct dtls_limits {
        int64_t sessions_max;   /* done ones; one more evicts the least recently used: see below */
        int64_t handshakes_max; /* half-open ones beside them; one more evicts the oldest */
        int64_t handshake_timeout_us, idle_us;
};

/* 0, -ENOMEM, -EIO (randomness, GnuTLS). */
int dtls_new(const struct dtls_callbacks *callbacks, const struct dtls_limits *limits, struct dtls **ret);
/* Sends nothing, but calls closed(). Not from inside a callback. */
void dtls_free(struct dtls *dtls);
/* Sessions over a smaller limit go when the next ones come. */
void dtls_set_limits(struct dtls *dtls, const struct dtls_limits *limits);

/*
 * What the server shows from now on; sessions stay as they are, handshakes go on with what they began with. No keys:
 * PSK only. 0, -EINVAL: a key that GnuTLS cannot use, -ENOMEM; then all stays as it was.
 */
int dtls_set_keys(struct dtls *dtls, const struct dtls_key *keys, size_t n);
/*
 * What certificates of clients must lead to from now on, borrowed; NULL: no certificate is good. Sessions whose path
 * ends in none of them are over: dtls_timers() ends them, or what comes in.
 */
void dtls_set_trust_anchors(struct dtls *dtls, const struct trust_anchors *anchors);

/* Errors are the peer's: they are answered with an alert where RFC 6347 §4.1.2.7 wants one, counted, and end here. */
void dtls_input(struct dtls *dtls, unsigned socket, const struct address *remote, struct bytes datagram,
                struct engine_time now);
/* Handshake retransmissions, timeouts, idle sessions; a bounded number, so that dtls_due() may still be in the past. */
void dtls_timers(struct dtls *dtls, struct engine_time now);
int64_t dtls_due(const struct dtls *dtls);

/* Encrypt and hand to send(). 0, or -EPIPE: the session broke and was closed; -EMSGSIZE: over the datagram size. */
int dtls_send(struct dtls_session *session, struct bytes data);
/* close_notify, then closed(). The session may be the one that deliver() is being called for. */
void dtls_session_close(struct dtls_session *session);
void dtls_close_all(struct dtls *dtls);

const struct credential *dtls_session_credential(const struct dtls_session *session);
/* Of the public key that the client has proved to hold; NULL: it has a pre-shared one. */
const uint8_t *dtls_session_thumbprint(const struct dtls_session *session);
const struct address *dtls_session_remote(const struct dtls_session *session);
/* The owner's pointer on a session (exchange state), NULL at first. */
void dtls_session_set_owner(struct dtls_session *session, void *owner);
void *dtls_session_owner(const struct dtls_session *session);

struct dtls_figures {
        uint64_t n_cookies_sent, n_begun, n_done, n_failed, n_evicted, n_sessions, n_half_open;
        uint64_t n_failed_by[DTLS_FAILURES]; /* what n_failed consists of */
        uint64_t n_dropped; /* datagrams from unknown addresses that are no ClientHello, or that memory was short for */
};
/* n_sessions counts the half-open ones too. */
void dtls_figures(const struct dtls *dtls, struct dtls_figures *ret);
