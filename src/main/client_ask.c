#include "main/client.h"

#include <coap3/coap.h>
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"

/* "coaps://host:port/path" → *target. Exit status. */
static int target_parse(const char *uri, struct target *target) {
        coap_uri_t parts;

        if (coap_split_uri((const uint8_t *)uri, strlen(uri), &parts) != 0 ||
            (parts.scheme != COAP_URI_SCHEME_COAP && parts.scheme != COAP_URI_SCHEME_COAPS))
                return fail(EXIT_USAGE, "'%s' is not coap://HOST[:PORT] or coaps://HOST[:PORT]", uri);
        if (parts.host.length == 0 || parts.host.length >= sizeof(target->host) ||
            parts.path.length >= sizeof(target->path))
                return fail(EXIT_USAGE, "'%s': host or path is empty or too long", uri);
        if (parts.query.length > 0)
                return fail(EXIT_USAGE, "'%s': no query is wanted there", uri);
        target->secure = parts.scheme == COAP_URI_SCHEME_COAPS;
        snprintf(target->host, sizeof(target->host), "%.*s", (int)parts.host.length, (const char *)parts.host.s);
        snprintf(target->port, sizeof(target->port), "%u", parts.port);
        snprintf(target->path, sizeof(target->path), "%.*s", (int)parts.path.length,
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

static int make_identity(const struct settings *settings, const struct target *target,
                         struct device_identity **ret) {
        _cleanup_(buf_wiped) struct buf private_key = BUF_INIT(PEM_SIZE_MAX);
        _cleanup_(buf_done) struct buf chain = BUF_INIT(PEM_SIZE_MAX), anchors = BUF_INIT(8 * PEM_SIZE_MAX);
        struct device_credential credential = {
                .identity = value_bytes(&settings->identity), .psk = secret_bytes(&settings->key),
                .server_name = settings->server_name ?: target->host,
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
        if ((r = device_identity_new(&credential, ret, &fault)) == -EINVAL)
                return fail(EXIT_USAGE, "the credential is no good: %s", fault);
        return r < 0 ? out_of_memory() : 0;
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

int ask_begin(const struct settings *settings, struct talk *talk, struct target *target,
              struct device_identity **ret_identity) {
        int status;

        if (!settings->server)
                return fail(EXIT_USAGE, "no server: use -s coaps://HOST[:PORT]");
        if ((status = target_parse(settings->server, target)) != 0 ||
            (target->secure && (status = make_identity(settings, target, ret_identity)) != 0))
                return status;
        talk->host = target->host;
        talk->port = target->port;
        talk->timeout_s = settings->timeout_s;
        return talk_status(talk, talk_open(talk, *ret_identity));
}

int ask_once(const struct settings *settings, const struct talk_ask *ask, struct talk_answer *answer) {
        _cleanup_(device_identity_freep) struct device_identity *identity = NULL;
        _cleanup_(talk_close) struct talk talk = { .device = DEVICE_INIT };
        struct talk_ask there = *ask;
        struct target target;
        int status = ask_begin(settings, &talk, &target, &identity);

        if (status != 0)
                return status;
        there.path = target.path[0] ? target.path : ask->path;
        return talk_status(&talk, talk_ask(&talk, &there, answer));
}
