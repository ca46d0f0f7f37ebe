#include "transport/status.h"

#include <errno.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "transport/engine.h"
#include "transport/exchange.h"
#include "transport/http.h"
#include "transport/oscore.h"
#include "transport/udp.h"

/* ---- where it listens */

int status_fill(void *context, void *json_object) {
        _cleanup_(json_decrefp) json_t *list = json_array();
        const struct status *status = context;
        struct address address;
        enum door door;

        for (unsigned n = 0; list && udp_bound(status->udp, n, &door, &address); n++) {
                char text[ADDRESS_TEXT_SIZE];

                address_text(&address, text, sizeof(text));
                /* json_array_append_new() takes NULL for a failure */
                if (json_array_append_new(list, json_pack("{s:s, s:s}", "door", door_name(door), "address", text)) != 0)
                        return -ENOMEM;
        }
        return list && json_object_set(json_object, "listen", list) == 0 ? 0 : -ENOMEM;
}

/* ---- figures */

/* Everything at one moment. */
struct snapshot {
        struct engine_figures engine;
        struct oscore_figures oscore;
        struct udp_figures udp;
        const struct config *config;
        uint64_t sessions_open, control_connections, resident_bytes;
        uint64_t exchange_records_max, exchange_outgoing_max, control_connections_max; /* not to be configured */
};

/* In kB as /proc has it the figure would be rounded; pages are exact. 0: /proc is not there. */
static uint64_t resident_bytes(void) {
        long pages = 0, page_size = sysconf(_SC_PAGESIZE);
        FILE *file = fopen("/proc/self/statm", "re");

        if (!file)
                return 0;
        if (fscanf(file, "%*d %ld", &pages) != 1)
                pages = 0;
        fclose(file);
        return (uint64_t)pages * (uint64_t)page_size;
}

static void snapshot_take(const struct status *status, struct snapshot *ret) {
        *ret = (struct snapshot){
                .config = status->as->config,
                .control_connections = status->http ? http_connections(status->http) : 0,
                .resident_bytes = resident_bytes(),
                .exchange_records_max = EXCHANGE_RECORDS_MAX,
                .exchange_outgoing_max = EXCHANGE_OUTGOING_MAX,
                .control_connections_max = CONTROL_CONNECTIONS_MAX,
        };
        engine_figures(status->engine, &ret->engine);
        engine_oscore_figures(status->engine, &ret->oscore);
        udp_figures(status->udp, &ret->udp);
        ret->sessions_open = ret->engine.n_sessions - ret->engine.n_sessions_half_open;
}

#define COUNTER true
#define GAUGE false
#define ROW(in, called, counts, at, says)                                                                       \
        { { .group = in, .name = called, .is_counter = counts, .help = says }, offsetof(struct snapshot, at), false }
#define FIGURE(called, counts, at, says) ROW("figures", called, counts, at, says)
#define OSCORE(called, counts, says) FIGURE("oscore_" #called, counts, oscore.n_##called, says)
#define ENGINE(called, counts, says) FIGURE(#called, counts, engine.n_##called, says)
/* Of handshakes_failed; what is not told apart broke the protocol, was given up by the client, or broke here. */
#define FAILED(called, why, says)                                                                               \
        FIGURE("handshakes_failed_" called, COUNTER, engine.n_handshakes_failed_by[DTLS_FAILED_##why],          \
               "DTLS handshakes that " says)
/* Of one thing: how many there may be, as configured or not, and how many there are. */
#define CONFIGURED(called, says)                                                                                \
        { { .group = "limits", .name = #called, .help = says }, offsetof(struct config, called), true }
#define FIXED(called, says) ROW("limits", #called, GAUGE, called, says)
#define USED(called, at, says) ROW("limits", called, GAUGE, at, says)

static const struct row {
        struct figure figure;
        size_t offset; /* of a uint64_t in struct snapshot, or, of a limit, of an int64_t in struct config */
        bool is_config;
} rows[] = {
        ENGINE(datagrams_in, COUNTER, "Datagrams received"),
        ENGINE(datagrams_out, COUNTER, "Datagrams sent"),
        ENGINE(datagrams_dropped, COUNTER, "Datagrams dropped for want of memory or with a session that broke"),
        ENGINE(datagrams_stray, COUNTER, "Datagrams for coaps that belonged to no session and were no ClientHello"),
        FIGURE("datagrams_truncated", COUNTER, udp.n_truncated, "Datagrams dropped as too large"),
        FIGURE("datagrams_unsent", COUNTER, udp.n_unsent, "Datagrams that the kernel did not take"),
        ENGINE(cookies_sent, COUNTER, "HelloVerifyRequests sent, before anything is kept of a client"),
        ENGINE(handshakes_begun, COUNTER, "DTLS handshakes begun with a valid cookie"),
        ENGINE(handshakes_done, COUNTER, "DTLS handshakes that made a session"),
        ENGINE(handshakes_failed, COUNTER, "DTLS handshakes that were refused or given up"),
        FAILED("timeout", TIMEOUT, "were not gone on with in time"),
        FAILED("identity", IDENTITY, "named an unknown PSK identity"),
        FAILED("psk", PSK, "used a wrong pre-shared key"),
        FAILED("key", KEY_UNKNOWN, "showed an unknown raw public key"),
        FAILED("key_bad", KEY_BAD, "showed a raw public key that is none"),
        FAILED("key_unsupported", KEY_UNSUPPORTED, "showed a raw public key of another kind than ours"),
        FAILED("no_certificate", NO_CERTIFICATE, "showed neither key nor certificate"),
        FAILED("certificate_bad", CERTIFICATE_BAD, "showed a certificate that is no good"),
        FAILED("certificate_unsupported", CERTIFICATE_UNSUPPORTED, "showed a certificate that is not for this"),
        FAILED("certificate_expired", CERTIFICATE_EXPIRED, "showed an expired certificate"),
        FAILED("certificate_not_yet", CERTIFICATE_NOT_YET, "showed a certificate that is not yet valid"),
        FAILED("certificate_foreign", CERTIFICATE_FOREIGN, "showed a certificate without a trust anchor"),
        FAILED("chain_too_long", CHAIN_TOO_LONG, "showed too long a chain"),
        FAILED("unmatched", UNMATCHED, "showed a good certificate that nobody is registered by"),
        { { .group = "figures", .name = "requests", .metric = "device_requests", .is_counter = true,
            .help = "Requests of devices that were new, those included that were refused" },
          offsetof(struct snapshot, engine.n_requests), false },
        ENGINE(duplicates, COUNTER, "Requests of devices that came again, which are not executed again"),
        ENGINE(batches, COUNTER, "Batches of requests, each of them one commit"),
        ENGINE(sessions, GAUGE, "DTLS sessions, half-open ones included"),
        ENGINE(sessions_half_open, GAUGE, "DTLS handshakes under way"),
        ENGINE(sessions_evicted, COUNTER, "DTLS sessions closed for being idle, to make room, or with their certificate"),
        ENGINE(pending, GAUGE, "Requests that wait for a batch"),
        ENGINE(refused_overload, COUNTER, "Requests refused as too many were waiting"),
        FIGURE("refused_peer_rate", COUNTER, engine.limit.n_refused_peer,
               "Requests refused, and handshakes not forgiven, by the rate of one authenticated peer"),
        FIGURE("refused_source_request_rate", COUNTER, engine.limit.n_refused_source[STRANGER_REQUEST],
               "Datagrams at the coap door over the rate of one source"),
        FIGURE("refused_source_hello_rate", COUNTER, engine.limit.n_refused_source[STRANGER_HELLO],
               "ClientHellos without a valid cookie over the rate of one source"),
        FIGURE("refused_source_handshake_rate", COUNTER, engine.limit.n_refused_source[STRANGER_HANDSHAKE],
               "ClientHellos with a valid cookie over the rate of one source"),
        FIGURE("refused_total_request_rate", COUNTER, engine.limit.n_refused_total[STRANGER_REQUEST],
               "Datagrams at the coap door over the rate of all sources"),
        FIGURE("refused_total_hello_rate", COUNTER, engine.limit.n_refused_total[STRANGER_HELLO],
               "ClientHellos without a valid cookie over the rate of all sources"),
        FIGURE("block_bodies", GAUGE, engine.blocks.n_bodies, "Bodies in blocks that are not complete"),
        FIGURE("block_answers", GAUGE, engine.blocks.n_answers, "Answers kept while they are fetched in blocks"),
        FIGURE("block_evicted", COUNTER, engine.blocks.n_evicted,
               "Bodies and answers in blocks that went for want of room"),
        FIGURE("block_expired", COUNTER, engine.blocks.n_expired,
               "Bodies and answers in blocks that went as nobody went on with them"),
        FIGURE("notifications", COUNTER, engine.observe.n_notified,
               "Notifications sent to observers; the requests for them count as answered, too"),
        FIGURE("observers_refused", COUNTER, engine.observe.n_refused, "Observations that were not begun, over a limit"),
        FIGURE("observers_ended", COUNTER, engine.observe.n_ended,
               "Observations ended by a Reset, or as a notification was not acknowledged"),
        OSCORE(requests, COUNTER, "Requests protected by OSCORE that were new and decrypted"),
        OSCORE(undecodable, COUNTER, "Protected requests that could not be decoded"),
        OSCORE(unknown, COUNTER, "Protected requests whose security context is not known"),
        OSCORE(replayed, COUNTER, "Protected requests that were replayed, or too old to tell"),
        OSCORE(undecryptable, COUNTER, "Protected requests that did not decrypt"),
        OSCORE(echoes, COUNTER, "Protected requests that were asked to come again with an Echo value"),
        OSCORE(renewals, COUNTER, "Security contexts renewed by their parties"),
        OSCORE(renewals_refused, COUNTER, "Renewals refused as too many"),
        OSCORE(loaded, COUNTER, "Security contexts loaded from the store"),
        OSCORE(evicted, COUNTER, "Security contexts that went for want of room"),
        FIGURE("resident_bytes", GAUGE, resident_bytes, "Memory that aced has in RAM"),

        CONFIGURED(sessions_max, "DTLS sessions"),
        USED("sessions_used", sessions_open, "DTLS sessions open now"),
        CONFIGURED(session_idle_s, "Seconds after which an idle DTLS session is closed"),
        CONFIGURED(handshakes_max, "DTLS handshakes under way"),
        USED("handshakes_used", engine.n_sessions_half_open, "DTLS handshakes under way now"),
        CONFIGURED(handshake_timeout_s, "Seconds that a DTLS handshake may take"),
        CONFIGURED(plain_peers_max, "Addresses remembered at the coap door"),
        USED("plain_peers_used", engine.n_plain_peers, "Addresses remembered at the coap door now"),
        CONFIGURED(pending_max, "Requests waiting for a batch"),
        USED("pending_used", engine.n_pending, "Requests waiting for a batch now"),
        CONFIGURED(pending_per_peer_max, "Requests of one peer waiting for a batch"),
        CONFIGURED(batch_max, "Requests in one batch"),
        CONFIGURED(payload_max, "Bytes of a request's body over CoAP"),
        CONFIGURED(block_bytes_max, "Bytes of memory for bodies and answers in blocks"),
        USED("block_bytes_used", engine.blocks.n_bytes, "Bytes in use for bodies and answers in blocks"),
        CONFIGURED(block_bytes_per_peer_max, "Bytes of memory for bodies and answers in blocks of one peer"),
        CONFIGURED(answers_per_peer_max, "Answers kept for duplicates of one peer"),
        USED("answers_used", engine.n_answers_kept, "Answers kept for duplicates, of all peers"),
        FIXED(exchange_records_max, "Message IDs remembered of one peer"),
        USED("exchange_records_used", engine.n_records, "Message IDs remembered, of all peers"),
        FIXED(exchange_outgoing_max, "Confirmable messages waiting for one peer"),
        CONFIGURED(observers_max, "Observations of all devices"),
        USED("observers_used", engine.observe.n_observers, "Observations now"),
        CONFIGURED(observers_per_peer_max, "Observations of one device's session"),
        CONFIGURED(oscore_contexts_max, "OSCORE contexts in memory, and addresses that their requests came from"),
        USED("oscore_contexts_used", oscore.n_contexts, "OSCORE contexts in memory now"),
        USED("oscore_addresses_used", engine.n_oscore_peers, "Addresses remembered that OSCORE requests came from"),
        CONFIGURED(sources_max, "Sources whose rates are known"),
        USED("sources_used", engine.limit.n_sources, "Sources whose rates are known now"),
        USED("peers_rated", engine.limit.n_peers, "Authenticated peers whose rates are known; sessions_max at most"),
        CONFIGURED(source_request_rate, "Requests over coap a second of one source; 0 is no limit"),
        CONFIGURED(source_request_burst, "Requests over coap at once of one source"),
        CONFIGURED(source_hello_rate, "ClientHellos without a valid cookie a second of one source; 0 is no limit"),
        CONFIGURED(source_hello_burst, "ClientHellos without a valid cookie at once of one source"),
        CONFIGURED(source_handshake_rate, "Handshakes a second of one source that do not complete; 0 is no limit"),
        CONFIGURED(source_handshake_burst, "Handshakes at once of one source"),
        CONFIGURED(total_request_rate, "Requests over coap a second of all sources; 0 is no limit"),
        CONFIGURED(total_request_burst, "Requests over coap at once of all sources"),
        CONFIGURED(total_hello_rate, "ClientHellos without a valid cookie a second of all sources; 0 is no limit"),
        CONFIGURED(total_hello_burst, "ClientHellos without a valid cookie at once of all sources"),
        CONFIGURED(peer_request_rate, "Requests a second of one authenticated client; 0 is no limit"),
        CONFIGURED(peer_request_burst, "Requests at once of one authenticated client"),
        CONFIGURED(server_request_rate, "Requests a second of one resource server; 0 is no limit"),
        CONFIGURED(server_request_burst, "Requests at once of one resource server"),
        CONFIGURED(tokens_per_client_max, "Live tokens of one client"),
        CONFIGURED(control_body_max, "Bytes of a body at the control socket"),
        CONFIGURED(apply_body_max, "Bytes of a body with rows to apply"),
        FIXED(control_connections_max, "Connections to the control socket"),
        USED("control_connections_used", control_connections, "Connections to the control socket now"),
};

int status_figures(void *context, const struct figure_sink *sink) {
        const struct status *status = context;
        struct snapshot snapshot;
        int r = 0;

        snapshot_take(status, &snapshot);
        for (size_t i = 0; i < N_ELEMENTS(rows) && r == 0; i++) {
                const void *base = rows[i].is_config ? (const void *)snapshot.config : &snapshot;

                r = sink->put(sink->context, &rows[i].figure, *(const uint64_t *)((const char *)base + rows[i].offset));
        }
        return r;
}
