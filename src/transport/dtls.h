#pragma once

#include "base/secret.h"
#include "domain/credential.h"
#include "transport/engine.h"

/*
 * DTLS 1.2 (RFC 6347) by GnuTLS, without sockets. The cookie is checked before any memory is spent (RFC 6347 §4.2.1);
 * sessions are found in O(1) by door socket and remote address. Records that carry application data go to deliver().
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
        /* The session is about to go: forget it. */
        void (*closed)(void *context, struct dtls_session *session);
};

struct dtls_limits {
        int64_t sessions_max, handshakes_max;
        int64_t handshake_timeout_us, idle_us;
};

int dtls_new(const struct dtls_callbacks *callbacks, const struct dtls_limits *limits, struct dtls **ret);
void dtls_free(struct dtls *dtls);
void dtls_set_limits(struct dtls *dtls, const struct dtls_limits *limits);

void dtls_input(struct dtls *dtls, unsigned socket, const struct address *remote, struct bytes datagram,
                struct engine_time now);
/* Handshake retransmissions, timeouts, idle sessions. */
void dtls_timers(struct dtls *dtls, struct engine_time now);
int64_t dtls_due(const struct dtls *dtls);

/* Encrypt and hand to send(). 0, or -EPIPE: the session broke and was closed; -EMSGSIZE: over the datagram size. */
int dtls_send(struct dtls_session *session, struct bytes data);
void dtls_session_close(struct dtls_session *session); /* close_notify, then closed() */
void dtls_close_all(struct dtls *dtls);

const struct credential *dtls_session_credential(const struct dtls_session *session);
const struct address *dtls_session_remote(const struct dtls_session *session);
/* The owner's pointer on a session (exchange state), NULL at first. */
void dtls_session_set_owner(struct dtls_session *session, void *owner);
void *dtls_session_owner(const struct dtls_session *session);

struct dtls_figures {
        uint64_t n_cookies_sent, n_begun, n_done, n_failed, n_evicted, n_sessions, n_half_open;
};
void dtls_figures(const struct dtls *dtls, struct dtls_figures *ret);
