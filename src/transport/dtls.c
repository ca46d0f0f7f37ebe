#include "transport/dtls.h"

#include <errno.h>
#include <gnutls/dtls.h>
#include <gnutls/gnutls.h>
#include <sys/queue.h>

#include "base/cleanup.h"
#include "base/heap.h"
#include "base/siphash.h"
#include "base/table.h"
#include "crypto/certificate.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "domain/refusal.h"
#include "transport/chain_cache.h"

/* SHA-384 and SHA-512 are for the signatures of CAs: the keys of peers are on P-256 and Ed25519. */
#define PRIORITY                                                                                              \
        "NONE:+VERS-DTLS1.2:+PSK:+ECDHE-PSK:+ECDHE-ECDSA:+AES-128-CCM-8:+AES-128-CCM:+AES-128-GCM:"           \
        "+CHACHA20-POLY1305:+AEAD:+GROUP-X25519:+GROUP-SECP256R1:+SIGN-ECDSA-SHA256:+SIGN-ECDSA-SHA384:"      \
        "+SIGN-ECDSA-SHA512:+SIGN-EDDSA-ED25519:+COMP-NULL:+CTYPE-CLI-RAWPK:+CTYPE-CLI-X509:+CTYPE-SRV-RAWPK:" \
        "+CTYPE-SRV-X509"

#define MTU 1400                          /* bytes of a datagram that we send, UDP and IP headers apart */
#define RESEND_FIRST_US 1000000           /* RFC 6347 §4.2.4.1: a second at first, doubled up to 60 s */
#define RESEND_MAX_US 60000000
#define VERDICT_US 200000                 /* see record_is_suspect() */
#define COOKIE_KEY_LIFE_US INT64_C(3600000000)
#define CERTIFICATE_CHECK_US 60000000     /* how often the wall clock is asked whether a certificate has ended */
#define TIMERS_MAX 256                    /* of each kind in one call: others get their turn when many are due */
#define GNUTLS_HOLD_MS (24 * 3600 * 1000) /* handshake timeouts are ours; GnuTLS has no clock of ours to keep them by */

/* RFC 6347 §4.1, §4.2.2: offsets in a datagram that starts with a ClientHello */
#define RECORD_HEADER_SIZE 13
#define RECORD_EPOCH 3
#define RECORD_SEQUENCE_LAST 10
#define RECORD_LENGTH 11
#define HELLO_TYPE 13
#define HELLO_FRAGMENT_OFFSET 19
#define HELLO_RANDOM 27
#define HELLO_RANDOM_SIZE 32
#define HELLO_SIZE_MIN (HELLO_RANDOM + HELLO_RANDOM_SIZE)
#define HANDSHAKE_HEADER_SIZE 12
#define HANDSHAKE_SEQUENCE 4
#define HANDSHAKE_LENGTH 1
#define HANDSHAKE_FRAGMENT_LENGTH 9
#define HANDSHAKE_SIZE_MAX 2048     /* of a message before the keys are agreed on; those of our clients are shorter */
#define CERTIFICATE_SIZE_MAX 8192   /* of the one that has the client's chain */
#define TYPE_HANDSHAKE 22
#define TYPE_APPLICATION_DATA 23
#define RECORD_PLAINTEXT_MAX 16384

#define SESSION_KEY_SIZE_MAX (sizeof(uint32_t) + ADDRESS_KEY_SIZE)

/* Which socket and which remote address, in bytes: what the table and the cookies know a peer by. */
struct session_key {
        size_t size;
        uint8_t data[SESSION_KEY_SIZE_MAX];
};

enum session_state { HALF_OPEN, OPEN, GONE };

struct dtls_session {
        struct dtls *dtls;
        gnutls_session_t tls;
        enum session_state state;
        unsigned busy; /* calls on the stack that still need this memory */

        struct session_key key;
        UT_hash_handle hh;
        unsigned socket;
        struct address remote;
        uint8_t random[HELLO_RANDOM_SIZE];

        TAILQ_ENTRY(dtls_session) link; /* half-open: by age; open: by last use */
        struct timer timer;             /* of half-open ones, and of those with a certificate */
        int64_t begun_us, resend_us, resend_step_us, verdict_us, used_us;

        struct bytes input; /* what GnuTLS has not pulled yet of the datagram being taken in */
        enum dtls_failure suspicion; /* what the handshake will have failed by; PROTOCOL: nothing */
        int long_sequence;  /* of the handshake message that may be long; -1: none came */
        size_t long_size;

        struct dtls_keys *keys; /* what we show */
        bool has_verdict;   /* failure tells why the client was refused */
        enum dtls_failure failure;
        const char *detail; /* about that */
        struct credential credential;
        bool has_thumbprint;
        uint8_t thumbprint[THUMBPRINT_SIZE];
        bool has_path;      /* the client showed a certificate */
        struct certificate_path path;
        struct holder *holder; /* open only */
        TAILQ_ENTRY(dtls_session) own_link;
        void *owner;
};

TAILQ_HEAD(sessions, dtls_session);

/* Who has open sessions, and how many. */
struct holder {
        int64_t credential_id;
        size_t n;
        struct sessions sessions; /* by last use */
        UT_hash_handle hh;
};

struct dtls {
        struct dtls_callbacks callbacks;
        struct dtls_limits limits;
        gnutls_priority_t priority;
        gnutls_psk_server_credentials_t psk;
        struct dtls_keys *keys;  /* NULL: none */
        const struct trust_anchors *anchors;
        struct chain_cache *chains;
        struct engine_time now;  /* of the call that we are in */

        uint8_t hash_key[SIPHASH_KEY_SIZE];
        uint8_t cookie_keys[2][GNUTLS_COOKIE_KEY_SIZE]; /* the current one, the one before */
        int64_t cookie_keys_until_us;

        struct dtls_session *table;
        struct sessions half_open, open;
        struct holder *holders;
        struct heap timers;
        struct dtls_figures figures;
};

DEFINE_FREEP(struct dtls, dtls_free)

static uint64_t hash(const struct dtls *dtls, const struct session_key *key) {
        return siphash(dtls->hash_key, bytes_of(key->data, key->size));
}

static struct session_key session_key(unsigned socket, const struct address *remote) {
        struct session_key key = {};
        uint32_t number = socket;

        memcpy(key.data, &number, sizeof(number));
        key.size = sizeof(number) + address_key(remote, key.data + sizeof(number));
        return key;
}

static struct dtls_session *session_find(const struct dtls *dtls, const struct session_key *key) {
        struct dtls_session *session;
        unsigned value = (unsigned)hash(dtls, key);

        HASH_FIND_BYHASHVALUE(hh, dtls->table, key->data, key->size, value, session);
        return session;
}

/* ---- what GnuTLS calls */

/*
 * The size of the first record, 0 when there is no whole one. GnuTLS gets record by record, and only whole ones: it
 * would keep what follows a record that it discards for some later time, and take the next datagram for the rest of a
 * cut one.
 */
static size_t record_size(struct bytes input) {
        size_t size;

        if (input.size < RECORD_HEADER_SIZE)
                return 0;
        size = RECORD_HEADER_SIZE + ((size_t)input.data[RECORD_LENGTH] << 8 | input.data[RECORD_LENGTH + 1]);
        return size <= input.size ? size : 0;
}

static bool record_is_of_epoch_0(const uint8_t *record) {
        return record[RECORD_EPOCH] == 0 && record[RECORD_EPOCH + 1] == 0;
}

/*
 * GnuTLS discards in silence what it cannot decrypt (RFC 6347 §4.1.2.7), also the Finished of a client that has another
 * key, and both ends would wait for the timeout. So: an encrypted handshake record after the client's
 * ChangeCipherSpec is its Finished; when the handshake is not done VERDICT_US after it, the key was wrong. The wait is
 * for the true Finished in case that somebody else sent this one.
 */
static bool record_is_suspect(const struct dtls_session *session, const uint8_t *record) {
        return record[0] == TYPE_HANDSHAKE && !record_is_of_epoch_0(record) &&
               gnutls_cipher_get(session->tls) != GNUTLS_CIPHER_NULL;
}

static size_t uint24(const uint8_t *at) {
        return (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
}

static size_t uint16(const uint8_t *at) {
        return (size_t)at[0] << 8 | at[1];
}

/* One message of a handshake may be long, that with the client's chain; whatever is sent in its name has its size. */
static bool message_is_excessive(struct dtls_session *session, const uint8_t *header) {
        size_t size = uint24(header + HANDSHAKE_LENGTH);
        int sequence = (int)uint16(header + HANDSHAKE_SEQUENCE);

        if (size <= HANDSHAKE_SIZE_MAX)
                return false;
        if (header[0] != GNUTLS_HANDSHAKE_CERTIFICATE_PKT)
                return true;
        if (size > CERTIFICATE_SIZE_MAX) {
                session->suspicion = DTLS_FAILED_CHAIN_TOO_LONG;
                return true;
        }
        if (session->long_sequence < 0) {
                session->long_sequence = sequence;
                session->long_size = size;
        }
        return session->long_sequence != sequence || session->long_size != size;
}

/*
 * On the word of any fragment GnuTLS makes room for the message, up to 128 KiB, and does so for six of them. Strangers
 * are not to have that for a few bytes: a record with a fragment of such a message is skipped. size: of the record.
 */
static bool record_is_excessive(struct dtls_session *session, const uint8_t *record, size_t size) {
        if (record[0] != TYPE_HANDSHAKE || !record_is_of_epoch_0(record))
                return false;
        for (size_t n = RECORD_HEADER_SIZE; n + HANDSHAKE_HEADER_SIZE <= size;) {
                const uint8_t *header = record + n;

                if (message_is_excessive(session, header))
                        return true;
                n += HANDSHAKE_HEADER_SIZE + uint24(header + HANDSHAKE_FRAGMENT_LENGTH);
        }
        return false;
}

/*
 * Is there a whole record to pull? Application data that overtook the Finished is skipped: it cannot be trusted yet,
 * and the peer sends it again (RFC 7252 §4.2).
 */
static bool has_input(struct dtls_session *session) {
        size_t size;

        while ((size = record_size(session->input)) > 0) {
                if (session->state == OPEN || (session->input.data[0] != TYPE_APPLICATION_DATA &&
                                               !record_is_excessive(session, session->input.data, size)))
                        return true;
                session->input = bytes_of(session->input.data + size, session->input.size - size);
        }
        session->input = BYTES_NONE;
        return false;
}

static ssize_t pull(gnutls_transport_ptr_t context, void *data, size_t size) {
        struct dtls_session *session = context;
        const uint8_t *record;
        size_t record_bytes;

        if (!has_input(session)) {
                gnutls_transport_set_errno(session->tls, EAGAIN);
                return -1;
        }
        record = session->input.data;
        record_bytes = record_size(session->input);
        session->input = bytes_of(record + record_bytes, session->input.size - record_bytes);
        if (session->state == HALF_OPEN && record_is_suspect(session, record))
                session->suspicion = DTLS_FAILED_PSK;
        if (record_bytes > size) { /* over RFC 6347 §4.1's maximum; has_input() tells what is behind it */
                gnutls_transport_set_errno(session->tls, EAGAIN);
                return -1;
        }
        memcpy(data, record, record_bytes);
        return (ssize_t)record_bytes;
}

static int pull_timeout(gnutls_transport_ptr_t context, unsigned timeout_ms) {
        return has_input(context);
}

/* The records of a flight go in one datagram. GnuTLS calls with one record at a time when they would not fit. */
static ssize_t push(gnutls_transport_ptr_t context, const giovec_t *vector, int n) {
        struct dtls_session *session = context;
        uint8_t data[RECORD_HEADER_SIZE + RECORD_PLAINTEXT_MAX + 256];
        size_t size = 0;

        for (int i = 0; i < n; i++) {
                if (vector[i].iov_len > sizeof(data) - size) {
                        gnutls_transport_set_errno(session->tls, EMSGSIZE);
                        return -1;
                }
                memcpy(data + size, vector[i].iov_base, vector[i].iov_len);
                size += vector[i].iov_len;
        }
        session->dtls->callbacks.send(session->dtls->callbacks.context, session->socket, &session->remote,
                                      bytes_of(data, size));
        return (ssize_t)size;
}

/* What the client is to be told when GnuTLS has given the handshake up. */
static void refuse(struct dtls_session *session, enum dtls_failure why) {
        session->failure = why;
        session->has_verdict = true;
}

static int psk_key(gnutls_session_t tls, const gnutls_datum_t *identity, gnutls_datum_t *key) {
        struct dtls_session *session = gnutls_session_get_ptr(tls);
        const struct dtls_callbacks *callbacks = &session->dtls->callbacks;
        _cleanup_(secret_done) struct secret psk = {};
        int r;

        session->credential = (struct credential){};
        r = callbacks->psk(callbacks->context, bytes_of(identity->data, identity->size), &session->credential, &psk);
        if (r != 0 || psk.size == 0) {
                refuse(session, r < 0 ? DTLS_FAILED_INTERNAL : DTLS_FAILED_IDENTITY);
                return -1;
        }
        key->data = gnutls_malloc(psk.size); /* GnuTLS wipes and frees it */
        if (!key->data) {
                refuse(session, DTLS_FAILED_INTERNAL);
                return -1;
        }
        memcpy(key->data, psk.data, psk.size);
        key->size = (unsigned)psk.size;
        return 0;
}

/* Nobody has the key: what is wrong with it? */
static enum dtls_failure judge_unknown_key(struct bytes spki) {
        struct public_key key;
        int r = public_key_from_spki(spki, &key);

        return r == 0 ? DTLS_FAILED_KEY_UNKNOWN : r == -EINVAL ? DTLS_FAILED_KEY_BAD : DTLS_FAILED_INTERNAL;
}

/*
 * A raw public key (RFC 7250 §4.2): one that is registered. That it is a point of its curve was checked then, which
 * takes as long as making a signature; by its thumbprint nothing but these bytes is known.
 */
static enum dtls_failure judge_key(struct dtls_session *session, struct bytes spki, int *ret_r) {
        const struct dtls_callbacks *callbacks = &session->dtls->callbacks;
        enum curve curve = spki_curve(spki);

        *ret_r = -EINVAL;
        if (curve == CURVE_NONE)
                return DTLS_FAILED_KEY_BAD;
        if (curve != CURVE_P256 && curve != CURVE_ED25519)
                return DTLS_FAILED_KEY_UNSUPPORTED;
        *ret_r = sha256(spki, session->thumbprint);
        if (*ret_r == 0)
                *ret_r = callbacks->rpk(callbacks->context, session->thumbprint, &session->credential);
        return *ret_r < 0 ? DTLS_FAILED_INTERNAL : *ret_r > 0 ? judge_unknown_key(spki) : DTLS_FAILED_KEY_UNKNOWN;
}

static int try_rule(void *context, struct bytes rule) {
        struct dtls_session *session = context;
        const struct dtls_callbacks *callbacks = &session->dtls->callbacks;
        int r = callbacks->x509(callbacks->context, rule, &session->credential);

        /* nobody's: the next one; somebody's: that ends the search, also when nobody else must be let in for it */
        if (r == REFUSE_SUSPENDED_CLIENT) {
                session->detail = "its client or resource server is suspended";
                return 2;
        }
        return r > 0 ? 0 : r == 0 ? 1 : r;
}

static enum dtls_failure failure_of(enum certificate_fault fault) {
        switch (fault) {
        case CERTIFICATE_FOREIGN:
                return DTLS_FAILED_CERTIFICATE_FOREIGN;
        case CERTIFICATE_EXPIRED:
                return DTLS_FAILED_CERTIFICATE_EXPIRED;
        case CERTIFICATE_NOT_YET:
                return DTLS_FAILED_CERTIFICATE_NOT_YET;
        case CERTIFICATE_CHAIN_TOO_LONG:
                return DTLS_FAILED_CHAIN_TOO_LONG;
        case CERTIFICATE_KEY:
        case CERTIFICATE_PURPOSE:
                return DTLS_FAILED_CERTIFICATE_UNSUPPORTED;
        default:
                return DTLS_FAILED_CERTIFICATE_BAD;
        }
}

/* A chain: valid now, and of somebody registered. */
static enum dtls_failure judge_chain(struct dtls_session *session, const gnutls_datum_t *list, unsigned n, int *ret_r) {
        struct chain_verdict verdict = { .fault = CERTIFICATE_CHAIN_TOO_LONG };
        struct bytes chain[CERTIFICATE_CHAIN_MAX];
        enum dtls_failure failure;

        *ret_r = 0;
        for (unsigned i = 0; i < n && i < N_ELEMENTS(chain); i++)
                chain[i] = bytes_of(list[i].data, list[i].size);
        if (n <= N_ELEMENTS(chain))
                *ret_r = chain_cache_take(session->dtls->chains, session->dtls->anchors, chain, n,
                                          session->dtls->now.wall_s, try_rule, session, &verdict);
        if (*ret_r == 0 && verdict.fault != CERTIFICATE_GOOD) {
                failure = failure_of(verdict.fault);
                if (failure == DTLS_FAILED_CERTIFICATE_BAD || failure == DTLS_FAILED_CERTIFICATE_UNSUPPORTED)
                        session->detail = certificate_fault_text(verdict.fault);
                *ret_r = -EINVAL;
                return failure;
        }
        if (*ret_r < 0)
                return DTLS_FAILED_INTERNAL;
        memcpy(session->thumbprint, verdict.thumbprint, sizeof(session->thumbprint));
        session->path = verdict.path;
        session->has_path = true;
        *ret_r = *ret_r == 1 ? 0 : 1;
        return DTLS_FAILED_UNMATCHED;
}

/*
 * Before the client has proved to hold the key: that comes next, and without it there is no session (RFC 5246 §7.4.8).
 */
static int judge_client(gnutls_session_t tls) {
        struct dtls_session *session = gnutls_session_get_ptr(tls);
        enum dtls_failure failure = DTLS_FAILED_NO_CERTIFICATE;
        const gnutls_datum_t *list;
        unsigned n = 0;
        int r = -EINVAL;

        session->credential = (struct credential){};
        session->has_path = false;
        list = gnutls_certificate_get_peers(tls, &n);
        if (list && n > 0 && gnutls_certificate_type_get2(tls, GNUTLS_CTYPE_PEERS) == GNUTLS_CRT_RAWPK)
                failure = judge_key(session, bytes_of(list[0].data, list[0].size), &r);
        else if (list && n > 0)
                failure = judge_chain(session, list, n, &r);
        session->has_thumbprint = r == 0;
        if (r == 0)
                return 0;
        session->credential = (struct credential){};
        refuse(session, failure);
        return GNUTLS_E_CERTIFICATE_ERROR;
}

/* ---- a session's end */

static void session_free(struct dtls_session *session) {
        if (session->tls)
                gnutls_deinit(session->tls);
        dtls_keys_unref(session->keys);
        free(session);
}

/* ---- who has how many open sessions */

static struct holder *holder_get(struct dtls *dtls, int64_t credential_id) {
        struct holder *holder;

        HASH_FIND(hh, dtls->holders, &credential_id, sizeof(credential_id), holder);
        if (holder)
                return holder;
        holder = calloc(1, sizeof(*holder));
        if (!holder)
                return NULL;
        holder->credential_id = credential_id;
        TAILQ_INIT(&holder->sessions);
        HASH_ADD(hh, dtls->holders, credential_id, sizeof(credential_id), holder);
        if (!holder->hh.tbl) {
                free(holder);
                return NULL;
        }
        return holder;
}

static void holder_put(struct dtls *dtls, struct holder *holder) {
        if (!holder || holder->n > 0)
                return;
        HASH_DEL(dtls->holders, holder);
        free(holder);
}

static void session_enter(struct dtls_session *session) {
        session->busy++;
}

static void session_leave(struct dtls_session *session) {
        if (--session->busy == 0 && session->state == GONE)
                session_free(session);
}

/* Out of the table and the lists; the memory goes when nobody on the stack uses it any more. */
static void session_remove(struct dtls_session *session) {
        struct dtls *dtls = session->dtls;
        bool was_open = session->state == OPEN;

        if (session->state == GONE)
                return;
        session->state = GONE;
        session->input = BYTES_NONE;
        HASH_DEL(dtls->table, session);
        heap_remove(&dtls->timers, &session->timer);
        dtls->figures.n_sessions--;
        if (was_open) {
                TAILQ_REMOVE(&dtls->open, session, link);
                TAILQ_REMOVE(&session->holder->sessions, session, own_link);
                session->holder->n--;
                holder_put(dtls, TAKE_PTR(session->holder));
        } else {
                TAILQ_REMOVE(&dtls->half_open, session, link);
                dtls->figures.n_half_open--;
        }
        session_enter(session);
        if (was_open)
                dtls->callbacks.closed(dtls->callbacks.context, session);
        session_leave(session);
}

static void count_failure(struct dtls_session *session, enum dtls_failure why, const char *detail) {
        const struct dtls_callbacks *callbacks = &session->dtls->callbacks;

        if (session->state != HALF_OPEN)
                return;
        session->dtls->figures.n_failed++;
        session->dtls->figures.n_failed_by[why]++;
        if (callbacks->failed)
                callbacks->failed(callbacks->context, &session->remote, why, detail);
}

static void session_end(struct dtls_session *session, enum dtls_failure why, int alert, const char *detail) {
        if (alert != DTLS_ALERT_NONE)
                (void)gnutls_alert_send(session->tls, GNUTLS_AL_FATAL, (gnutls_alert_description_t)alert);
        count_failure(session, why, detail);
        session_remove(session);
}

static void session_fail(struct dtls_session *session, enum dtls_failure why) {
        session_end(session, why, dtls_failure_row(why)->alert, session->detail);
}

/* An error of GnuTLS, ours or its own: what RFC 5246 §7.2.2 wants said about it. */
static void session_fail_by(struct dtls_session *session, int error) {
        int level;

        if (error == GNUTLS_E_FATAL_ALERT_RECEIVED)
                session_end(session, DTLS_FAILED_ALERT, DTLS_ALERT_NONE,
                            gnutls_alert_get_name(gnutls_alert_get(session->tls)));
        else if (error == GNUTLS_E_INVALID_SESSION)
                session_end(session, DTLS_FAILED_PROTOCOL, DTLS_ALERT_NONE, gnutls_strerror(error));
        else if (session->has_verdict)
                session_fail(session, session->failure);
        else if (error == GNUTLS_E_ILLEGAL_SRP_USERNAME)
                session_fail(session, DTLS_FAILED_IDENTITY); /* over 128 bytes, so nobody's */
        else if (error == GNUTLS_E_CERTIFICATE_REQUIRED || error == GNUTLS_E_NO_CERTIFICATE_FOUND)
                session_fail(session, DTLS_FAILED_NO_CERTIFICATE); /* GnuTLS would say so as TLS 1.3 does */
        else
                session_end(session, DTLS_FAILED_PROTOCOL, gnutls_error_to_alert(error, &level),
                            gnutls_strerror(error));
}

void dtls_session_close(struct dtls_session *session) {
        if (session->state == GONE)
                return;
        if (session->state == OPEN)
                (void)gnutls_bye(session->tls, GNUTLS_SHUT_WR);
        session_remove(session);
}

static void evict(struct dtls_session *session) {
        session->dtls->figures.n_evicted++;
        dtls_session_close(session);
}

/* ---- the end of a certificate */

/* Which is the end of what it has opened: RFC 5246 §7.2.2 lets both be said at any time. */
static bool certificate_is_over(const struct dtls_session *session, struct engine_time now) {
        return session->has_path && now.wall_s >= session->path.until_s;
}

/* It was taken back by other trust anchors, which makes it end at once, or its time has come. */
static enum dtls_failure certificate_fate(const struct dtls_session *session) {
        return session->path.until_s == INT64_MIN ? DTLS_FAILED_CERTIFICATE_FOREIGN : DTLS_FAILED_CERTIFICATE_EXPIRED;
}

static void session_outlive(struct dtls_session *session) {
        session->dtls->figures.n_evicted++;
        session_fail(session, certificate_fate(session));
}

/* By the wall clock, which may be set: it is asked again and again. Without memory, what comes in asks it. */
static void watch_certificate(struct dtls_session *session, struct engine_time now) {
        int64_t left_us = CERTIFICATE_CHECK_US;

        if (!session->has_path)
                return;
        if (now.wall_s >= session->path.until_s)
                left_us = 0;
        else if (session->path.until_s - now.wall_s < CERTIFICATE_CHECK_US / 1000000)
                left_us = (session->path.until_s - now.wall_s) * 1000000;
        (void)heap_set(&session->dtls->timers, &session->timer, now.monotonic_us + left_us);
}

static void certificate_timer(struct dtls_session *session, struct engine_time now) {
        if (certificate_is_over(session, now))
                session_outlive(session);
        else
                watch_certificate(session, now);
}

/* Those of half-open sessions are looked at when the handshake is done. */
static void take_back(struct dtls *dtls, struct sessions *sessions) {
        struct dtls_session *session;

        TAILQ_FOREACH(session, sessions, link) {
                if (!session->has_path || trust_anchors_have(dtls->anchors, session->path.anchor))
                        continue;
                session->path.until_s = INT64_MIN;
                if (session->state == OPEN)
                        (void)heap_set(&dtls->timers, &session->timer, 0);
        }
}

/* ---- data */

static void session_use(struct dtls_session *session, struct engine_time now) {
        session->used_us = now.monotonic_us;
        TAILQ_REMOVE(&session->dtls->open, session, link);
        TAILQ_INSERT_TAIL(&session->dtls->open, session, link);
        TAILQ_REMOVE(&session->holder->sessions, session, own_link);
        TAILQ_INSERT_TAIL(&session->holder->sessions, session, own_link);
}

/* One record's worth of gnutls_record_recv() that was not data. */
static void take_event(struct dtls_session *session, ssize_t event) {
        if (event == 0)
                dtls_session_close(session); /* close_notify is answered in kind (RFC 5246 §7.2.1) */
        else if (event == GNUTLS_E_REHANDSHAKE)
                (void)gnutls_alert_send(session->tls, GNUTLS_AL_WARNING, GNUTLS_A_NO_RENEGOTIATION);
        else if (event < 0 && gnutls_error_is_fatal((int)event))
                session_fail_by(session, (int)event);
}

static void receive(struct dtls_session *session, struct engine_time now) {
        const struct dtls_callbacks *callbacks = &session->dtls->callbacks;
        uint8_t data[RECORD_PLAINTEXT_MAX];
        ssize_t n;

        do {
                n = gnutls_record_recv(session->tls, data, sizeof(data));
                if (n > 0) {
                        session_use(session, now);
                        callbacks->deliver(callbacks->context, session, bytes_of(data, (size_t)n), now);
                } else {
                        take_event(session, n);
                }
        } while (session->state == OPEN && (n > 0 || has_input(session)));
}

int dtls_send(struct dtls_session *session, struct bytes data) {
        ssize_t n;

        if (session->state != OPEN)
                return -EPIPE;
        n = gnutls_record_send(session->tls, data.data, data.size);
        if (n >= 0)
                return 0;
        if (n == GNUTLS_E_LARGE_PACKET)
                return -EMSGSIZE;
        session_remove(session);
        return -EPIPE;
}

/* ---- handshake */

static int64_t earlier(int64_t a, int64_t b) {
        return a < b ? a : b;
}

static void arm(struct dtls_session *session) {
        int64_t end_us = session->begun_us + session->dtls->limits.handshake_timeout_us;

        if (heap_set(&session->dtls->timers, &session->timer,
                     earlier(end_us, earlier(session->resend_us, session->verdict_us))) < 0)
                session_fail(session, DTLS_FAILED_INTERNAL);
}

/* The identity that GnuTLS used for the key is the one that the credential has: nothing cut at a zero byte. */
static bool identity_is_credential(const struct dtls_session *session) {
        gnutls_datum_t identity;

        return gnutls_psk_server_get_username2(session->tls, &identity) == 0 &&
               bytes_equal(bytes_of(identity.data, identity.size), credential_identity(&session->credential));
}

/* Nobody comes in by another way than one that was judged here. */
static bool client_was_judged(const struct dtls_session *session) {
        if (session->has_verdict || session->credential.id == 0)
                return false;
        if (gnutls_auth_client_get_type(session->tls) == GNUTLS_CRD_PSK)
                return session->credential.kind == CREDENTIAL_PSK && identity_is_credential(session);
        return session->has_thumbprint;
}

/* A session of this holder is to be added, and counted already: it pays itself when it had more than half of all. */
static void make_room(struct dtls *dtls, const struct holder *holder) {
        uint64_t max = (uint64_t)dtls->limits.sessions_max;

        while (!TAILQ_EMPTY(&dtls->open) && dtls->figures.n_sessions - dtls->figures.n_half_open > max)
                evict(holder->n - 1 > max / 2 ? TAILQ_FIRST(&holder->sessions) : TAILQ_FIRST(&dtls->open));
}

static void handshake_done(struct dtls_session *session, struct engine_time now) {
        struct dtls *dtls = session->dtls;
        struct holder *holder;

        if (certificate_is_over(session, now)) {
                session_fail(session, certificate_fate(session));
                return;
        }
        holder = client_was_judged(session) ? holder_get(dtls, session->credential.id) : NULL;
        if (!holder) {
                session_fail(session, DTLS_FAILED_INTERNAL);
                return;
        }
        heap_remove(&dtls->timers, &session->timer);
        TAILQ_REMOVE(&dtls->half_open, session, link);
        dtls->figures.n_half_open--;
        dtls->figures.n_done++;
        holder->n++;
        make_room(dtls, holder);
        session->state = OPEN;
        session->used_us = now.monotonic_us;
        session->holder = holder;
        TAILQ_INSERT_TAIL(&dtls->open, session, link);
        TAILQ_INSERT_TAIL(&holder->sessions, session, own_link);
        watch_certificate(session, now);
        if (dtls->callbacks.done)
                dtls->callbacks.done(dtls->callbacks.context, session, now);
}

/* Let GnuTLS go on with what came in. With nothing new this sends our last flight again. */
static void handshake_step(struct dtls_session *session, struct engine_time now) {
        int r;

        do
                r = gnutls_handshake(session->tls);
        while (r < 0 && !gnutls_error_is_fatal(r) && has_input(session));
        if (r == 0)
                handshake_done(session, now);
        else if (gnutls_error_is_fatal(r))
                session_fail_by(session, r);
        if (session->state == HALF_OPEN)
                arm(session);
}

/* See record_is_suspect(). */
static void begin_verdict(struct dtls_session *session, struct engine_time now) {
        if (session->state != HALF_OPEN || session->suspicion == DTLS_FAILED_PROTOCOL ||
            session->verdict_us != INT64_MAX)
                return;
        session->verdict_us = now.monotonic_us + VERDICT_US;
        arm(session);
}

static void session_take(struct dtls_session *session, struct bytes datagram, struct engine_time now) {
        session_enter(session);
        session->input = datagram;
        if (session->state == HALF_OPEN && has_input(session))
                handshake_step(session, now);
        else if (session->state == HALF_OPEN)
                arm(session); /* the very first may be one of those that are skipped: the session ends all the same */
        if (session->state == OPEN && certificate_is_over(session, now))
                session_outlive(session);
        if (session->state == OPEN && has_input(session))
                receive(session, now);
        session->input = BYTES_NONE;
        begin_verdict(session, now);
        session_leave(session);
}

/* What the kinds of credentials of this port need, for one session. */
static int set_credentials(struct dtls_session *session) {
        int r = gnutls_credentials_set(session->tls, GNUTLS_CRD_PSK, session->dtls->psk);

        if (r < 0 || !session->dtls->keys)
                return r;
        session->keys = dtls_keys_ref(session->dtls->keys);
        gnutls_certificate_server_set_request(session->tls, GNUTLS_CERT_REQUIRE);
        return gnutls_credentials_set(session->tls, GNUTLS_CRD_CERTIFICATE, dtls_keys_credentials(session->keys));
}

static int set_up(struct dtls_session *session) {
        int r = gnutls_init(&session->tls, GNUTLS_SERVER | GNUTLS_DATAGRAM | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS |
                                           GNUTLS_ENABLE_RAWPK);

        if (r < 0 || (r = gnutls_priority_set(session->tls, session->dtls->priority)) < 0 ||
            (r = set_credentials(session)) < 0)
                return r;
        gnutls_session_set_ptr(session->tls, session);
        gnutls_transport_set_ptr(session->tls, session);
        gnutls_transport_set_pull_function(session->tls, pull);
        gnutls_transport_set_pull_timeout_function(session->tls, pull_timeout);
        gnutls_transport_set_vec_push_function(session->tls, push);
        gnutls_dtls_set_mtu(session->tls, MTU);
        /* A retransmission is due whenever we call: the waiting is done here, by the caller's clock. */
        gnutls_dtls_set_timeouts(session->tls, 0, GNUTLS_HOLD_MS);
        return 0;
}

/* Into the table. 0 or -ENOMEM. */
static int session_add(struct dtls_session *session) {
        struct dtls *dtls = session->dtls;
        unsigned value = (unsigned)hash(dtls, &session->key);

        HASH_ADD_KEYPTR_BYHASHVALUE(hh, dtls->table, session->key.data, session->key.size, value, session);
        if (!session->hh.tbl)
                return -ENOMEM;
        TAILQ_INSERT_TAIL(&dtls->half_open, session, link);
        dtls->figures.n_sessions++;
        dtls->figures.n_half_open++;
        dtls->figures.n_begun++;
        return 0;
}

static struct dtls_session *session_new(struct dtls *dtls, unsigned socket, const struct address *remote,
                                        struct bytes hello, struct engine_time now) {
        struct dtls_session *session = calloc(1, sizeof(*session));

        if (!session)
                return NULL;
        session->dtls = dtls;
        session->key = session_key(socket, remote);
        session->socket = socket;
        session->remote = *remote;
        session->begun_us = now.monotonic_us;
        session->resend_step_us = RESEND_FIRST_US;
        session->resend_us = now.monotonic_us + RESEND_FIRST_US;
        session->verdict_us = INT64_MAX;
        session->long_sequence = -1;
        memcpy(session->random, hello.data + HELLO_RANDOM, HELLO_RANDOM_SIZE);
        if (set_up(session) < 0 || session_add(session) < 0) {
                session_free(session);
                return NULL;
        }
        return session;
}

/* ---- the cookie exchange, before any memory is spent */

static bool is_hello(struct bytes d) {
        return d.size >= HELLO_SIZE_MIN && d.data[0] == TYPE_HANDSHAKE && d.data[1] == 0xfe &&
               record_is_of_epoch_0(d.data) && record_size(d) >= HELLO_SIZE_MIN &&
               d.data[HELLO_TYPE] == GNUTLS_HANDSHAKE_CLIENT_HELLO && d.data[HELLO_FRAGMENT_OFFSET] == 0 &&
               d.data[HELLO_FRAGMENT_OFFSET + 1] == 0 && d.data[HELLO_FRAGMENT_OFFSET + 2] == 0;
}

/*
 * A cookie lives between one and two lives of a key, also when nobody knocked for longer than that and the keys were
 * left as they were. 0 or -EIO: then the old keys stay.
 */
static int cookie_keys_rotate(struct dtls *dtls, int64_t now_us) {
        uint8_t fresh[2][GNUTLS_COOKIE_KEY_SIZE];

        if (now_us < dtls->cookie_keys_until_us)
                return 0;
        if (random_bytes(fresh, sizeof(fresh)) != 0)
                return -EIO;
        if (now_us < dtls->cookie_keys_until_us + COOKIE_KEY_LIFE_US)
                memcpy(fresh[1], dtls->cookie_keys[0], sizeof(fresh[1]));
        memcpy(dtls->cookie_keys, fresh, sizeof(fresh));
        wipe(fresh, sizeof(fresh));
        dtls->cookie_keys_until_us = now_us + COOKIE_KEY_LIFE_US;
        return 0;
}

static gnutls_datum_t cookie_key(struct dtls *dtls, unsigned n) {
        return (gnutls_datum_t){ dtls->cookie_keys[n], GNUTLS_COOKIE_KEY_SIZE };
}

static bool cookie_is_valid(struct dtls *dtls, struct session_key *key, struct bytes hello,
                            gnutls_dtls_prestate_st *ret) {
        for (unsigned n = 0; n < N_ELEMENTS(dtls->cookie_keys); n++) {
                gnutls_datum_t secret = cookie_key(dtls, n);

                *ret = (gnutls_dtls_prestate_st){};
                if (gnutls_dtls_cookie_verify(&secret, key->data, key->size, (void *)hello.data, hello.size, ret) == 0)
                        return true;
        }
        return false;
}

struct verify_request {
        struct dtls *dtls;
        unsigned socket;
        const struct address *remote;
        size_t size_max;
};

static ssize_t push_verify_request(gnutls_transport_ptr_t context, const void *data, size_t size) {
        const struct verify_request *request = context;
        struct dtls *dtls = request->dtls;

        /* An answer to an address that may be spoofed is never larger than what asked for it */
        if (size <= request->size_max) {
                dtls->callbacks.send(dtls->callbacks.context, request->socket, request->remote, bytes_of(data, size));
                dtls->figures.n_cookies_sent++;
        }
        return (ssize_t)size;
}

static void cookie_send(struct dtls *dtls, unsigned socket, const struct address *remote, struct session_key *key,
                        struct bytes hello) {
        struct verify_request request = { dtls, socket, remote, hello.size };
        gnutls_datum_t secret = cookie_key(dtls, 0);
        /* RFC 6347 §4.2.1: with the record sequence number of the ClientHello */
        gnutls_dtls_prestate_st prestate = { .record_seq = hello.data[RECORD_SEQUENCE_LAST] };

        (void)gnutls_dtls_cookie_send(&secret, key->data, key->size, &prestate, &request, push_verify_request);
}

static bool admit(struct dtls *dtls, const struct address *remote, enum stranger_act act, struct engine_time now) {
        return !dtls->callbacks.admit || dtls->callbacks.admit(dtls->callbacks.context, remote, act, now);
}

/*
 * A ClientHello, whoever sends it. Only a valid cookie shows that the client is at its address: then it may replace the
 * session that is there, because a client that was restarted knows nothing of it (RFC 6347 §4.2.8).
 */
static void take_hello(struct dtls *dtls, unsigned socket, const struct address *remote, struct bytes hello,
                       struct engine_time now) {
        struct session_key key = session_key(socket, remote);
        gnutls_dtls_prestate_st prestate;
        struct dtls_session *old, *session;

        (void)cookie_keys_rotate(dtls, now.monotonic_us);
        if (!cookie_is_valid(dtls, &key, hello, &prestate)) {
                if (admit(dtls, remote, STRANGER_HELLO, now))
                        cookie_send(dtls, socket, remote, &key, hello);
                return;
        }
        if (!admit(dtls, remote, STRANGER_HANDSHAKE, now))
                return;
        old = session_find(dtls, &key);
        if (old)
                session_end(old, DTLS_FAILED_ANEW, DTLS_ALERT_NONE, NULL);
        if (dtls->figures.n_half_open >= (uint64_t)dtls->limits.handshakes_max && !TAILQ_EMPTY(&dtls->half_open))
                evict(TAILQ_FIRST(&dtls->half_open));
        session = session_new(dtls, socket, remote, hello, now);
        if (!session) {
                dtls->figures.n_dropped++;
                return;
        }
        gnutls_dtls_prestate_set(session->tls, &prestate);
        session_take(session, hello, now);
}

/* The ClientHello that a session came from, once more: the network or the client repeated it. */
static bool is_repeated_hello(const struct dtls_session *session, struct bytes datagram) {
        return session && memcmp(session->random, datagram.data + HELLO_RANDOM, HELLO_RANDOM_SIZE) == 0;
}

void dtls_input(struct dtls *dtls, unsigned socket, const struct address *remote, struct bytes datagram,
                struct engine_time now) {
        struct session_key key = session_key(socket, remote);
        struct dtls_session *session = session_find(dtls, &key);

        dtls->now = now;
        if (is_hello(datagram) && !is_repeated_hello(session, datagram))
                take_hello(dtls, socket, remote, datagram, now);
        else if (session)
                session_take(session, datagram, now);
        else
                dtls->figures.n_dropped++;
}

/* ---- time */

static void half_open_timer(struct dtls_session *session, struct engine_time now) {
        session_enter(session);
        if (now.monotonic_us >= session->verdict_us) {
                session_fail(session, session->suspicion);
        } else if (now.monotonic_us >= session->begun_us + session->dtls->limits.handshake_timeout_us) {
                session_fail(session, DTLS_FAILED_TIMEOUT);
        } else {
                if (now.monotonic_us >= session->resend_us) {
                        session->resend_step_us = earlier(2 * session->resend_step_us, RESEND_MAX_US);
                        session->resend_us = now.monotonic_us + session->resend_step_us;
                }
                handshake_step(session, now);
        }
        session_leave(session);
}

static int64_t idle_due(const struct dtls *dtls) {
        const struct dtls_session *oldest = TAILQ_FIRST(&dtls->open);

        return oldest ? oldest->used_us + dtls->limits.idle_us : INT64_MAX;
}

void dtls_timers(struct dtls *dtls, struct engine_time now) {
        struct dtls_session *session;
        struct timer *timer;

        dtls->now = now;
        for (unsigned n = 0; n < TIMERS_MAX; n++) {
                timer = heap_first(&dtls->timers);
                if (!timer || timer->due_us > now.monotonic_us)
                        break;
                session = timer_owner(timer, struct dtls_session, timer);
                if (session->state == OPEN)
                        certificate_timer(session, now);
                else
                        half_open_timer(session, now);
        }
        for (unsigned n = 0; n < TIMERS_MAX && idle_due(dtls) <= now.monotonic_us; n++)
                evict(TAILQ_FIRST(&dtls->open));
}

int64_t dtls_due(const struct dtls *dtls) {
        const struct timer *timer = heap_first(&dtls->timers);

        return earlier(timer ? timer->due_us : INT64_MAX, idle_due(dtls));
}

/* ---- the whole */

static int credentials_new(struct dtls *dtls) {
        int r = gnutls_psk_allocate_server_credentials(&dtls->psk);

        if (r < 0)
                return r;
        gnutls_psk_set_server_credentials_function2(dtls->psk, psk_key);
        return gnutls_priority_init(&dtls->priority, PRIORITY, NULL);
}

int dtls_new(const struct dtls_callbacks *callbacks, const struct dtls_limits *limits, struct dtls **ret) {
        _cleanup_(dtls_freep) struct dtls *dtls = calloc(1, sizeof(*dtls));
        int r;

        if (!dtls)
                return -ENOMEM;
        dtls->callbacks = *callbacks;
        dtls->limits = *limits;
        TAILQ_INIT(&dtls->half_open);
        TAILQ_INIT(&dtls->open);
        /* The first ClientHello rotates the keys: both must be random before. */
        if (random_bytes(dtls->hash_key, sizeof(dtls->hash_key)) != 0 ||
            random_bytes(dtls->cookie_keys, sizeof(dtls->cookie_keys)) != 0)
                return -EIO;
        dtls->chains = chain_cache_new();
        if (!dtls->chains)
                return -ENOMEM;
        r = credentials_new(dtls);
        if (r < 0)
                return r == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EIO;
        *ret = TAKE_PTR(dtls);
        return 0;
}

void dtls_free(struct dtls *dtls) {
        if (!dtls)
                return;
        while (!TAILQ_EMPTY(&dtls->open))
                session_remove(TAILQ_FIRST(&dtls->open));
        while (!TAILQ_EMPTY(&dtls->half_open))
                session_remove(TAILQ_FIRST(&dtls->half_open));
        heap_done(&dtls->timers);
        if (dtls->priority)
                gnutls_priority_deinit(dtls->priority);
        if (dtls->psk)
                gnutls_psk_free_server_credentials(dtls->psk);
        dtls_keys_unref(dtls->keys);
        chain_cache_free(dtls->chains);
        wipe(dtls->hash_key, sizeof(dtls->hash_key));
        wipe(dtls->cookie_keys, sizeof(dtls->cookie_keys));
        free(dtls);
}

void dtls_set_limits(struct dtls *dtls, const struct dtls_limits *limits) {
        dtls->limits = *limits;
}

int dtls_set_keys(struct dtls *dtls, const struct dtls_key *keys, size_t n) {
        struct dtls_keys *fresh = NULL;
        int r = n > 0 ? dtls_keys_new(keys, n, judge_client, &fresh) : 0;

        if (r != 0)
                return r;
        dtls_keys_unref(dtls->keys);
        dtls->keys = fresh;
        return 0;
}

void dtls_set_trust_anchors(struct dtls *dtls, const struct trust_anchors *anchors) {
        dtls->anchors = anchors;
        chain_cache_clear(dtls->chains);
        take_back(dtls, &dtls->open);
        take_back(dtls, &dtls->half_open);
}

void dtls_close_all(struct dtls *dtls) {
        while (!TAILQ_EMPTY(&dtls->open))
                dtls_session_close(TAILQ_FIRST(&dtls->open));
        while (!TAILQ_EMPTY(&dtls->half_open))
                dtls_session_close(TAILQ_FIRST(&dtls->half_open));
}

void dtls_figures(const struct dtls *dtls, struct dtls_figures *ret) {
        *ret = dtls->figures;
}

/* ---- what a session says of itself */

const struct credential *dtls_session_credential(const struct dtls_session *session) {
        return &session->credential;
}

const uint8_t *dtls_session_thumbprint(const struct dtls_session *session) {
        return session->has_thumbprint ? session->thumbprint : NULL;
}

const struct address *dtls_session_remote(const struct dtls_session *session) {
        return &session->remote;
}

void dtls_session_set_owner(struct dtls_session *session, void *owner) {
        session->owner = owner;
}

void *dtls_session_owner(const struct dtls_session *session) {
        return session->owner;
}
