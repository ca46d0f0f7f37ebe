#include "main/client.h"

#include <coap3/coap.h>
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"

/* Newer releases of libcoap say on standard output what they do not like of a URI; we say it ourselves. */
static void be_quiet(coap_log_t level, const char *message) {
}

/* "coaps://host:port/path" → *caller. Exit status. */
static int take_target(const char *uri, struct caller *caller) {
        coap_uri_t parts;

        coap_set_log_handler(be_quiet);
        if (coap_split_uri((const uint8_t *)uri, strlen(uri), &parts) != 0 ||
            (parts.scheme != COAP_URI_SCHEME_COAP && parts.scheme != COAP_URI_SCHEME_COAPS))
                return fail(EXIT_USAGE, "'%s' is not coap://HOST[:PORT] or coaps://HOST[:PORT]", uri);
        if (parts.host.length == 0 || parts.host.length >= sizeof(caller->host) ||
            parts.path.length >= sizeof(caller->path))
                return fail(EXIT_USAGE, "'%s': host or path is empty or too long", uri);
        if (parts.query.length > 0)
                return fail(EXIT_USAGE, "'%s': no query is wanted there", uri);
        caller->secure = parts.scheme == COAP_URI_SCHEME_COAPS;
        snprintf(caller->host, sizeof(caller->host), "%.*s", (int)parts.host.length, (const char *)parts.host.s);
        snprintf(caller->port, sizeof(caller->port), "%u", parts.port);
        snprintf(caller->path, sizeof(caller->path), "%.*s", (int)parts.path.length,
                 parts.path.length > 0 ? (const char *)parts.path.s : "");
        return 0;
}

/* ---- who is asking */

/* A PSK or a key pair, and of the latter only with a way to know the server. */
static int check_credential(const struct settings *settings) {
        bool has_psk = settings->identity.size > 0 || settings->key.size > 0;
        bool knows_server = settings->server_key.curve != CURVE_NONE || settings->anchors || settings->any_server;

        if (settings->private_key && has_psk)
                return fail(EXIT_USAGE, "coaps: either a PSK or --private-key");
        if (!settings->private_key && (settings->certificate || knows_server))
                return fail(EXIT_USAGE, "--certificate, --server-key, --ca and --any-server go with --private-key");
        if (!settings->private_key && (settings->identity.size == 0 || settings->key.size == 0))
                return fail(EXIT_USAGE, "coaps needs a PSK: --identity[-hex], and --key, --key-hex or --key-file; or a "
                                        "key pair: --private-key");
        if (settings->private_key && !knows_server)
                return fail(EXIT_USAGE, "whom to take for the server? --server-key or --ca says it, or --any-server");
        return 0;
}

static int take_identity(const struct settings *settings, struct caller *caller) {
        _cleanup_(buf_wiped) struct buf private_key = BUF_INIT(PEM_SIZE_MAX);
        _cleanup_(buf_done) struct buf chain = BUF_INIT(PEM_SIZE_MAX), anchors = BUF_INIT(8 * PEM_SIZE_MAX);
        struct device_credential credential = {
                .identity = value_bytes(&settings->identity), .psk = secret_bytes(&settings->key),
                .server_name = settings->server_name ?: caller->host,
                .server = settings->server_key.curve == CURVE_NONE ? NULL : &settings->server_key,
        };
        const char *fault = NULL;
        int status, r;

        if ((status = check_credential(settings)) != 0 ||
            (settings->private_key && (status = read_file(settings->private_key, &private_key)) != 0) ||
            (settings->certificate && (status = read_file(settings->certificate, &chain)) != 0) ||
            (settings->anchors && (status = read_file(settings->anchors, &anchors)) != 0))
                return status;
        credential.private_key = buf_bytes(&private_key);
        credential.chain = buf_bytes(&chain);
        credential.anchors = buf_bytes(&anchors);
        if (settings->private_key && private_key.size == 0)
                return fail(EXIT_USAGE, "%s: no private key in it", settings->private_key);
        if ((r = device_identity_new(&credential, &caller->identity, &fault)) == -EINVAL)
                return fail(EXIT_USAGE, "the credential is no good: %s", fault);
        return r < 0 ? out_of_memory() : 0;
}

/* The record, and beside it the numbers that it used. */
static int take_context(const struct settings *settings, struct caller *caller) {
        _cleanup_(buf_wiped) struct buf text = BUF_INIT(OSCORE_RECORD_TEXT_MAX);
        _cleanup_(oscore_record_done) struct oscore_record record = {};
        struct diags faults = {};
        int status, r;

        if (caller->secure)
                return fail(EXIT_USAGE, "--oscore needs no DTLS: coap://, not coaps://");
        if (settings->identity.set || settings->key.size > 0 || settings->private_key)
                return fail(EXIT_USAGE, "either --oscore, or a credential for DTLS");
        if (strcmp(settings->oscore, "-") == 0)
                return fail(EXIT_USAGE, "--oscore: a file, as its sequence numbers are kept beside it");
        if ((status = read_file(settings->oscore, &text)) != 0)
                return status;
        r = oscore_record_read(buf_bytes(&text), &record, &faults);
        if (r > 0)
                fail(EXIT_USAGE, "%s: %s", settings->oscore, faults.n_items > 0 ? faults.items[0].text : "no record");
        diags_done(&faults);
        if (r > 0)
                return EXIT_USAGE;
        if (settings->renew && !record.parameters.renews)
                return fail(EXIT_USAGE, "--renew: %s is of a context that is not renewed", settings->oscore);
        if (r == 0 && (r = numbers_open(&caller->numbers, settings->oscore, 1)) == 0 &&
            (r = context_open(&caller->context, &record, &caller->numbers, NULL)) == 0 && settings->renew)
                r = context_renew(&caller->context);
        caller->talk.context = &caller->context;
        if (r == -EIO && caller->numbers.fault[0])
                return fail(EXIT_USAGE, "%s", caller->numbers.fault);
        return r < 0 ? fail(EXIT_INTERNAL, "%s", strerror(-r)) : 0;
}

/* ---- one request */

int talk_status(const struct talk *talk, int r) {
        switch (r) {
        case 0:
                return EXIT_DONE;
        case -ECONNABORTED:
                return fail(EXIT_NO_CONTACT, "%s port %s: %s", talk->host, talk->port, talk->failure);
        case -EINVAL:
                return fail(EXIT_USAGE, "the request does not fit a datagram");
        default:
                return fail(EXIT_INTERNAL, "%s", strerror(-r));
        }
}

int caller_begin(const struct settings *settings, struct caller *caller) {
        struct talk *talk = &caller->talk;
        int status;

        if (!settings->server)
                return fail(EXIT_USAGE, "no server: use -s coaps://HOST[:PORT], or coap:// with --oscore");
        if (settings->renew && !settings->oscore)
                return fail(EXIT_USAGE, "--renew goes with --oscore");
        if ((status = take_target(settings->server, caller)) != 0 ||
            (settings->oscore && (status = take_context(settings, caller)) != 0) ||
            (caller->secure && (status = take_identity(settings, caller)) != 0))
                return status;
        talk->host = caller->host;
        talk->port = caller->port;
        talk->timeout_s = settings->timeout_s;
        return talk_status(talk, talk_open(talk, caller->identity));
}

void caller_done(struct caller *caller) {
        talk_close(&caller->talk);
        device_identity_free(caller->identity);
        context_done(&caller->context);
        numbers_done(&caller->numbers);
}

int ask_once(const struct settings *settings, const struct talk_ask *ask, struct talk_answer *answer) {
        _cleanup_(caller_done) struct caller caller = CALLER_INIT;
        struct talk_ask there = *ask;
        int status = caller_begin(settings, &caller);

        if (status != 0)
                return status;
        there.path = caller.path[0] ? caller.path : ask->path;
        return talk_status(&caller.talk, talk_ask(&caller.talk, &there, answer));
}
