#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/diag.h"

struct buf;

/*
 * What aced.conf says, as values. One row of the option table in config.c yields parsing, `aced --check`,
 * `acectl config show` and the test that aced.conf(5) names every key.
 */
#define CONFIG_LISTEN_MAX 8

struct config_listen {
        char text[64]; /* "127.0.0.1:5684", "[::]:5684"; port 0 lets the kernel choose */
};

struct config {
        /* [server] */
        char *state_directory; /* absolute */
        char *issuer;          /* the iss claim: printable ASCII */
        char *key_file;        /* sealing key; NULL: the systemd credential "aced.key", else STATE/seal.key */
        int log_level;         /* enum log_level */
        int64_t audit_keep_s;  /* rows of the audit trail; 0: for ever */

        /* [coap], [coaps] */
        struct config_listen coap_listen[CONFIG_LISTEN_MAX];
        unsigned n_coap_listen;
        struct config_listen coaps_listen[CONFIG_LISTEN_MAX];
        unsigned n_coaps_listen;

        char *trust_anchors; /* path; NULL: no certificate of a client is good */

        /* [control] */
        char *control_socket; /* path */
        char *control_group;  /* group admitted beside root and our own user; "" none */

        /* [token] */
        int64_t default_lifetime_s;
        int64_t max_lifetime_s;
        bool unknown_kid_makes_key;     /* RFC 9202 §3.3.1; else refused (§4) */
        int64_t trl_updates_max;        /* MAX_N of RFC 9770: updates told to a party at most */
        int64_t trl_batch_max;          /* MAX_DIFF_BATCH: of these, in one answer */
        char *trl_label;                /* clients with it see the whole list; "" none */

        /* [limits] */
        int64_t sessions_max;           /* live DTLS sessions */
        int64_t handshakes_max;         /* of these, not finished */
        int64_t handshake_timeout_s;
        int64_t session_idle_s;         /* idle sessions older than this go */
        int64_t answers_per_peer_max;   /* kept for duplicates */
        int64_t batch_max;              /* requests in one commit */
        int64_t pending_max;            /* requests waiting for a batch */
        int64_t payload_max;            /* bytes of a request body */
        int64_t block_bytes_max;        /* bodies and answers in blocks, of all peers */
        int64_t block_bytes_per_peer_max;
        int64_t control_body_max;       /* bytes of a body at the control socket */
        int64_t apply_body_max;         /* of one with rows to apply */
        int64_t tokens_per_client_max;  /* live tokens */
        int64_t plain_peers_max;        /* addresses remembered at the coap door */
        int64_t pending_per_peer_max;   /* of pending_max, what one peer may take */
        int64_t sources_max;            /* addresses whose rates are known */
        int64_t observers_max;          /* observations of all peers */
        int64_t observers_per_peer_max;
        int64_t oscore_contexts_max;    /* security contexts in memory; addresses that their requests came from */

        /* [limits], rates: events a second, and how many at once after a pause; a rate of 0: no limit (limit.h) */
        int64_t source_request_rate, source_request_burst;
        int64_t source_hello_rate, source_hello_burst;
        int64_t source_handshake_rate, source_handshake_burst;
        int64_t total_request_rate, total_request_burst;
        int64_t total_hello_rate, total_hello_burst;
        int64_t peer_request_rate, peer_request_burst;
        int64_t server_request_rate, server_request_burst;
};

/*
 * Read an INI file over the defaults. path NULL: the defaults alone. Every fault becomes a row of *diags with file
 * and line; then -EINVAL and *ret untouched. -ENOENT when the file is not there, another -errno when it cannot be read
 * (a row of *diags too), -ENOMEM.
 */
int config_load(const char *path, struct config **ret, struct diags *diags);
void config_free(struct config *config);

/*
 * Reload: options that take effect at start only keep the values of running; each that the file wants to change becomes
 * a row of *diags. 0 or -ENOMEM, after which config is not to be used.
 */
int config_keep_fixed(struct config *config, const struct config *running, struct diags *diags);

/*
 * The values as JSON text for the control socket: {"items":[{"section","key","value","default","help"}…],"next":null}
 * in table order; value and default are numbers where the option is one, else text as it would stand in the file. 0, or
 * as buf_add().
 */
int config_print(const struct config *config, struct buf *ret_json);

/* The n-th option's section, key and help, for tests and tools; false past the end. */
bool config_option(unsigned n, const char **ret_section, const char **ret_key, const char **ret_help);
/* Its default as it would stand in the file; NULL past the end. */
const char *config_option_default(unsigned n);
