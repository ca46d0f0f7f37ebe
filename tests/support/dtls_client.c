#include "dtls_client.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/dtls.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

#define DATAGRAM_SIZE_MAX 65535
#define CHAIN_MAX 64
#define PRIORITY_KEYS                                                                                             \
        "NONE:+VERS-DTLS1.2:+MAC-ALL:+SIGN-ALL:+GROUP-ALL:+COMP-NULL:+ECDHE-ECDSA:+AES-128-CCM-8:+AES-128-CCM:" \
        "+AES-128-GCM:+CHACHA20-POLY1305"
#define PRIORITY_SIZE 512
#define PRIORITY                                                                                     \
        "NONE:+VERS-DTLS1.2:+MAC-ALL:+SIGN-ALL:+GROUP-ALL:+COMP-NULL:+PSK:+ECDHE-PSK:+AES-128-CCM-8:" \
        "+AES-128-CCM:+AES-128-GCM:+CHACHA20-POLY1305"

struct parcel {
        TAILQ_ENTRY(parcel) link;
        size_t size;
        uint8_t data[];
};

TAILQ_HEAD(parcels, parcel);

struct dtls_client_keys {
        gnutls_pcert_st shown[CHAIN_MAX];
        unsigned n_shown;
        gnutls_privkey_t own;
        bool is_raw;
};

struct dtls_client {
        gnutls_session_t session;
        gnutls_psk_client_credentials_t psk;
        gnutls_certificate_credentials_t certificates;
        const struct dtls_client_keys *keys;
        struct dtls_client_keys *own_keys; /* made for this client */
        struct parcels in, out;
        int alert, error;
};

static void parcels_add(struct parcels *parcels, const void *data, size_t size) {
        struct parcel *parcel = malloc(sizeof(*parcel) + size);

        if (!parcel)
                abort();
        parcel->size = size;
        if (size > 0)
                memcpy(parcel->data, data, size);
        TAILQ_INSERT_TAIL(parcels, parcel, link);
}

static void parcels_drop(struct parcels *parcels) {
        struct parcel *parcel = TAILQ_FIRST(parcels);

        TAILQ_REMOVE(parcels, parcel, link);
        free(parcel);
}

static ssize_t push(gnutls_transport_ptr_t context, const void *data, size_t size) {
        struct dtls_client *client = context;

        parcels_add(&client->out, data, size);
        return (ssize_t)size;
}

static ssize_t pull(gnutls_transport_ptr_t context, void *data, size_t size) {
        struct dtls_client *client = context;
        struct parcel *parcel = TAILQ_FIRST(&client->in);

        if (!parcel) {
                gnutls_transport_set_errno(client->session, EAGAIN);
                return -1;
        }
        if (size > parcel->size)
                size = parcel->size;
        memcpy(data, parcel->data, size);
        parcels_drop(&client->in);
        return (ssize_t)size;
}

static int pull_timeout(gnutls_transport_ptr_t context, unsigned int timeout_ms) {
        const struct dtls_client *client = context;

        return !TAILQ_EMPTY(&client->in);
}

static int failed(struct dtls_client *client, int error) {
        client->error = error;
        if (error == GNUTLS_E_FATAL_ALERT_RECEIVED)
                client->alert = (int)gnutls_alert_get(client->session);
        return -EPROTO;
}

static gnutls_datum_t datum(struct bytes bytes) {
        return (gnutls_datum_t){ (unsigned char *)bytes.data, (unsigned)bytes.size };
}

static int set_psk(struct dtls_client *client, const struct dtls_client_options *options) {
        const gnutls_datum_t identity = datum(options->identity), key = datum(options->key);
        int r;

        if ((r = gnutls_psk_allocate_client_credentials(&client->psk)) < 0 ||
            (r = gnutls_psk_set_client_credentials2(client->psk, &identity, &key, GNUTLS_PSK_KEY_RAW)) < 0)
                return r;
        return gnutls_credentials_set(client->session, GNUTLS_CRD_PSK, client->psk);
}

/* ---- keys */

static int read_shown(const struct dtls_client_options *options, struct dtls_client_keys *keys) {
        const gnutls_datum_t spki = datum(options->spki);
        int r = 0;

        keys->is_raw = options->spki.size > 0;
        if (keys->is_raw) {
                r = gnutls_pcert_import_rawpk_raw(&keys->shown[0], &spki, GNUTLS_X509_FMT_DER,
                                                  GNUTLS_KEY_DIGITAL_SIGNATURE, 0);
                keys->n_shown = r == 0;
        }
        while (r == 0 && keys->n_shown < options->n_chain && keys->n_shown < CHAIN_MAX) {
                const gnutls_datum_t der = datum(options->chain[keys->n_shown]);

                r = gnutls_pcert_import_x509_raw(&keys->shown[keys->n_shown], &der, GNUTLS_X509_FMT_DER, 0);
                keys->n_shown += r == 0;
        }
        return r;
}

/* 0, or an error of GnuTLS; *ret is to be freed in any case. */
static int read_keys(const struct dtls_client_options *options, struct dtls_client_keys **ret) {
        const gnutls_datum_t pkcs8 = datum(options->pkcs8);
        struct dtls_client_keys *keys = *ret = calloc(1, sizeof(*keys));
        int r;

        if (!keys)
                return GNUTLS_E_MEMORY_ERROR;
        r = gnutls_privkey_init(&keys->own);
        if (r < 0 || options->pkcs8.size == 0)
                return r;
        r = gnutls_privkey_import_x509_raw(keys->own, &pkcs8, GNUTLS_X509_FMT_DER, NULL, 0);
        return r < 0 ? r : read_shown(options, keys);
}

int dtls_client_keys_new(const struct dtls_client_options *options, struct dtls_client_keys **ret) {
        struct dtls_client_keys *keys;

        if (read_keys(options, &keys) < 0) {
                dtls_client_keys_free(keys);
                return -EPROTO;
        }
        *ret = keys;
        return 0;
}

void dtls_client_keys_free(struct dtls_client_keys *keys) {
        if (!keys)
                return;
        while (keys->n_shown > 0)
                gnutls_pcert_deinit(&keys->shown[--keys->n_shown]);
        if (keys->own)
                gnutls_privkey_deinit(keys->own);
        free(keys);
}

/* ---- a client */

/* What the test wants shown is shown: GnuTLS itself would choose, put in order and leave out. It changes neither. */
static int show(gnutls_session_t session, const gnutls_datum_t *authorities, int n_authorities,
                const gnutls_pk_algorithm_t *algs, int n_algs, gnutls_pcert_st **ret_chain, unsigned *ret_n,
                gnutls_privkey_t *ret_key) {
        const struct dtls_client *client = gnutls_session_get_ptr(session);

        *ret_chain = (gnutls_pcert_st *)client->keys->shown;
        *ret_n = client->keys->n_shown;
        *ret_key = client->keys->own;
        return 0;
}

static int set_keys(struct dtls_client *client, const struct dtls_client_options *options) {
        int r = options->keys ? 0 : read_keys(options, &client->own_keys);

        if (r < 0 || (r = gnutls_certificate_allocate_credentials(&client->certificates)) < 0)
                return r;
        client->keys = options->keys ? options->keys : client->own_keys;
        gnutls_session_set_ptr(client->session, client);
        gnutls_certificate_set_retrieve_function2(client->certificates, show);
        return gnutls_credentials_set(client->session, GNUTLS_CRD_CERTIFICATE, client->certificates);
}

static int set_up(struct dtls_client *client, const struct dtls_client_options *options) {
        bool has_psk = options->identity.data != NULL;
        bool is_raw = options->keys ? options->keys->is_raw : options->spki.size > 0;
        const char *wanted = options->priority ? options->priority : has_psk ? PRIORITY : PRIORITY_KEYS;
        char priority[PRIORITY_SIZE];
        int r;

        /* of what it has; GnuTLS would offer the other type, too */
        snprintf(priority, sizeof(priority), "%s%s", wanted,
                 has_psk || strstr(wanted, "CTYPE") ? "" :
                 is_raw                             ? ":+CTYPE-CLI-RAWPK:+CTYPE-SRV-RAWPK:+CTYPE-SRV-X509" :
                                                      ":+CTYPE-CLI-X509:+CTYPE-SRV-X509:+CTYPE-SRV-RAWPK");

        if ((r = gnutls_init(&client->session, GNUTLS_CLIENT | GNUTLS_DATAGRAM | GNUTLS_NONBLOCK | GNUTLS_ENABLE_RAWPK |
                                               GNUTLS_FORCE_CLIENT_CERT)) < 0 ||
            (r = gnutls_priority_set_direct(client->session, priority, NULL)) < 0 ||
            (r = has_psk ? set_psk(client, options) : set_keys(client, options)) < 0)
                return failed(client, r);

        gnutls_transport_set_ptr(client->session, client);
        gnutls_transport_set_push_function(client->session, push);
        gnutls_transport_set_pull_function(client->session, pull);
        gnutls_transport_set_pull_timeout_function(client->session, pull_timeout);
        gnutls_dtls_set_mtu(client->session, 9000); /* a jumbo frame: tests send too much on purpose */
        if (options->is_eager)
                gnutls_dtls_set_timeouts(client->session, 0, 3600 * 1000);
        return 0;
}

int dtls_client_new(const struct dtls_client_options *options, struct dtls_client **ret) {
        struct dtls_client *client = calloc(1, sizeof(*client));
        int r;

        if (!client)
                return -ENOMEM;
        client->alert = -1;
        TAILQ_INIT(&client->in);
        TAILQ_INIT(&client->out);
        r = set_up(client, options);
        if (r != 0) {
                dtls_client_free(client);
                return r;
        }
        *ret = client;
        return 0;
}

void dtls_client_free(struct dtls_client *client) {
        if (!client)
                return;
        if (client->session)
                gnutls_deinit(client->session);
        if (client->psk)
                gnutls_psk_free_client_credentials(client->psk);
        if (client->certificates)
                gnutls_certificate_free_credentials(client->certificates);
        dtls_client_keys_free(client->own_keys);
        while (!TAILQ_EMPTY(&client->in))
                parcels_drop(&client->in);
        while (!TAILQ_EMPTY(&client->out))
                parcels_drop(&client->out);
        free(client);
}

int dtls_client_handshake(struct dtls_client *client) {
        int r;

        do
                r = gnutls_handshake(client->session);
        while (r == GNUTLS_E_INTERRUPTED || r == GNUTLS_E_WARNING_ALERT_RECEIVED);
        if (r == GNUTLS_E_AGAIN)
                return -EAGAIN;
        return r < 0 ? failed(client, r) : 0;
}

void dtls_client_input(struct dtls_client *client, struct bytes datagram) {
        parcels_add(&client->in, datagram.data, datagram.size);
}

bool dtls_client_output(struct dtls_client *client, struct buf *ret) {
        struct parcel *parcel = TAILQ_FIRST(&client->out);

        buf_clear(ret);
        if (!parcel || buf_add(ret, bytes_of(parcel->data, parcel->size)) < 0)
                return false;
        parcels_drop(&client->out);
        return true;
}

int dtls_client_send(struct dtls_client *client, struct bytes data) {
        ssize_t n = gnutls_record_send(client->session, data.data, data.size);

        return n < 0 ? failed(client, (int)n) : 0;
}

int dtls_client_receive(struct dtls_client *client, struct buf *ret) {
        uint8_t *space;
        ssize_t n;

        buf_clear(ret);
        if (buf_reserve(ret, DATAGRAM_SIZE_MAX, &space) < 0)
                return -ENOMEM;
        do
                n = gnutls_record_recv(client->session, space, DATAGRAM_SIZE_MAX);
        while (n == GNUTLS_E_INTERRUPTED || n == GNUTLS_E_WARNING_ALERT_RECEIVED);
        if (n == GNUTLS_E_AGAIN)
                return -EAGAIN;
        if (n < 0)
                return failed(client, (int)n);
        buf_added(ret, (size_t)n);
        return n == 0 ? -EPIPE : 0;
}

void dtls_client_close(struct dtls_client *client) {
        gnutls_bye(client->session, GNUTLS_SHUT_WR);
}

int dtls_client_alert(const struct dtls_client *client) {
        return client->alert;
}

int dtls_client_error(const struct dtls_client *client) {
        return client->error;
}

const char *dtls_client_cipher(const struct dtls_client *client) {
        return gnutls_cipher_get_name(gnutls_cipher_get(client->session));
}

const char *dtls_client_group(const struct dtls_client *client) {
        return gnutls_group_get_name(gnutls_group_get(client->session));
}

struct bytes dtls_client_server(const struct dtls_client *client, bool *ret_is_raw) {
        unsigned n = 0;
        const gnutls_datum_t *list = gnutls_certificate_get_peers(client->session, &n);

        *ret_is_raw = gnutls_certificate_type_get2(client->session, GNUTLS_CTYPE_PEERS) == GNUTLS_CRT_RAWPK;
        return list && n > 0 ? bytes_of(list[0].data, list[0].size) : BYTES_NONE;
}
