/*
 * aceclient: what a device does, to try an authorization server with. libcoap's client side underneath; verbs and
 * options are rows.
 */
#include <arpa/inet.h>
#include <coap3/coap.h>
#include <errno.h>
#include <getopt.h>
#include <gnutls/gnutls.h>
#include <jansson.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>

#include "config.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "format/cbor.h"
#include "format/cose.h"
#include "format/describe.h"
#include "format/labels.h"

#define PAYLOAD_MAX (64 * 1024)  /* bytes of a token, a request or an answer */
#define VALUE_SIZE_MAX 1024      /* bytes of one option's value */
#define TIMEOUT_DEFAULT_S 30
#define TIMEOUT_MAX_S 3600
#define COSE_ITEMS_MAX 4         /* in the outermost array of a COSE object */
#define TAGS_MAX 4               /* around it */

enum exit_status {
        EXIT_DONE = 0,
        EXIT_REFUSED = 1,
        EXIT_USAGE = 2,
        EXIT_NO_CONTACT = 3,
        EXIT_INTERNAL = 4,
};

enum verb_bit { VERB_TOKEN = 1, VERB_INTROSPECT = 2, VERB_DISCOVER = 4, VERB_DECODE = 8 };
#define VERBS_ONLINE (VERB_TOKEN | VERB_INTROSPECT | VERB_DISCOVER)
#define VERBS_ALL (VERBS_ONLINE | VERB_DECODE)

enum output { OUTPUT_TEXT, OUTPUT_JSON, OUTPUT_CBOR };

/* The bytes of an option, and whether they were given as text. */
struct value {
        bool set, is_text;
        size_t size;
        uint8_t data[VALUE_SIZE_MAX];
};

struct settings {
        const char *server;
        struct value identity, audience, scope, kid, client_id;
        struct secret key;
        bool profile;
        enum output output;
        long timeout_s;
};

static void settings_done(struct settings *settings) {
        secret_done(&settings->key);
}

static struct bytes value_bytes(const struct value *value) {
        return value->set ? bytes_of(value->data, value->size) : BYTES_NONE;
}

/* ---- what goes wrong */

static int fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Tell stderr, return status. */
static int fail(int status, const char *format, ...) {
        int saved = errno; /* for %m */
        va_list arguments;

        fputs("aceclient: ", stderr);
        errno = saved;
        va_start(arguments, format);
        vfprintf(stderr, format, arguments);
        va_end(arguments);
        fputc('\n', stderr);
        return status;
}

static int out_of_memory(void) {
        return fail(EXIT_INTERNAL, "out of memory");
}

/* ---- options: every setter returns an exit status, having said what is wrong */

struct option_row;
typedef int option_setter(struct settings *settings, const struct option_row *row, const char *argument);

struct option_row {
        int letter; /* also what getopt_long() returns; above 255: no short form */
        const char *name, *argument;
        unsigned verbs;
        option_setter *set;
        size_t offset; /* of the struct value, for the rows that have one */
        const char *help;
};

static struct value *row_value(struct settings *settings, const struct option_row *row) {
        return (struct value *)((char *)settings + row->offset);
}

static int value_take(struct value *value, const struct option_row *row) {
        if (value->set)
                return fail(EXIT_USAGE, "--%s: given twice, as text or as hex", row->name);
        value->set = true;
        return 0;
}

static int set_text(struct settings *settings, const struct option_row *row, const char *argument) {
        struct value *value = row_value(settings, row);

        if (value_take(value, row) != 0)
                return EXIT_USAGE;
        if (strlen(argument) > sizeof(value->data))
                return fail(EXIT_USAGE, "--%s: longer than %zu bytes", row->name, sizeof(value->data));
        value->is_text = true;
        value->size = strlen(argument);
        memcpy(value->data, argument, value->size);
        return 0;
}

static int set_hex(struct settings *settings, const struct option_row *row, const char *argument) {
        struct value *value = row_value(settings, row);

        if (value_take(value, row) != 0)
                return EXIT_USAGE;
        if (bytes_from_hex(argument, value->data, sizeof(value->data), &value->size) != 0)
                return fail(EXIT_USAGE, "--%s: '%s' is not hexadecimal of at most %zu bytes", row->name, argument,
                            sizeof(value->data));
        return 0;
}

static int key_take(struct settings *settings, struct bytes key, const char *where) {
        if (settings->key.size > 0)
                return fail(EXIT_USAGE, "%s: the key is given twice", where);
        if (key.size == 0 || secret_set(&settings->key, key) != 0)
                return fail(EXIT_USAGE, "%s: a key has 1 to %d bytes", where, SECRET_SIZE_MAX);
        return 0;
}

static int key_from_hex(struct settings *settings, const char *text, const char *where) {
        _cleanup_(secret_done) struct secret key = {};

        if (bytes_from_hex(text, key.data, sizeof(key.data), &key.size) != 0)
                return fail(EXIT_USAGE, "%s: not hexadecimal of 1 to %d bytes", where, SECRET_SIZE_MAX);
        return key_take(settings, secret_bytes(&key), where);
}

static int set_key_text(struct settings *settings, const struct option_row *row, const char *argument) {
        return key_take(settings, bytes_text(argument), "--key");
}

static int set_key_hex(struct settings *settings, const struct option_row *row, const char *argument) {
        return key_from_hex(settings, argument, "--key-hex");
}

/* The first line of a file is the key in hexadecimal: as acectl prints keys. */
static int set_key_file(struct settings *settings, const struct option_row *row, const char *argument) {
        char line[2 * SECRET_SIZE_MAX + 3];
        FILE *file = fopen(argument, "re");
        bool got;
        int status;

        if (!file)
                return fail(EXIT_USAGE, "%s: %m", argument);
        setvbuf(file, NULL, _IONBF, 0); /* no copy of the key in a buffer that nobody wipes */
        got = fgets(line, sizeof(line), file);
        fclose(file);
        if (!got)
                return fail(EXIT_USAGE, "%s: no key in it", argument);
        line[strcspn(line, "\r\n")] = 0;
        status = key_from_hex(settings, line, argument);
        wipe(line, sizeof(line));
        return status;
}

static int set_server(struct settings *settings, const struct option_row *row, const char *argument) {
        settings->server = argument;
        return 0;
}

static int set_profile(struct settings *settings, const struct option_row *row, const char *argument) {
        settings->profile = true;
        return 0;
}

static int set_output(struct settings *settings, const struct option_row *row, const char *argument) {
        static const char *const names[] = { [OUTPUT_TEXT] = "text", [OUTPUT_JSON] = "json", [OUTPUT_CBOR] = "cbor" };

        for (size_t i = 0; i < N_ELEMENTS(names); i++)
                if (strcmp(argument, names[i]) == 0) {
                        settings->output = (enum output)i;
                        return 0;
                }
        return fail(EXIT_USAGE, "--output: '%s' is none of text, json, cbor", argument);
}

static int set_timeout(struct settings *settings, const struct option_row *row, const char *argument) {
        char *end;

        errno = 0;
        settings->timeout_s = strtol(argument, &end, 10);
        if (errno != 0 || end == argument || *end || settings->timeout_s < 1 || settings->timeout_s > TIMEOUT_MAX_S)
                return fail(EXIT_USAGE, "--timeout: '%s' is not a number of seconds from 1 to %d", argument,
                            TIMEOUT_MAX_S);
        return 0;
}

enum { LONG_ONLY = 256 };

static const struct option_row option_rows[] = {
        { 's', "server", "URI", VERBS_ONLINE, set_server, 0, "coaps://HOST[:PORT], or coap://… for discover" },
        { 'u', "identity", "TEXT", VERBS_ONLINE, set_text, offsetof(struct settings, identity), "PSK identity" },
        { LONG_ONLY, "identity-hex", "HEX", VERBS_ONLINE, set_hex, offsetof(struct settings, identity),
          "PSK identity of any bytes" },
        { 'k', "key", "TEXT", VERBS_ALL, set_key_text, 0, "key as text; other users see it in ps" },
        { LONG_ONLY + 1, "key-hex", "HEX", VERBS_ALL, set_key_hex, 0, "key; other users see it in ps" },
        { LONG_ONLY + 2, "key-file", "FILE", VERBS_ALL, set_key_file, 0,
          "file whose first line is the key in hexadecimal" },
        { LONG_ONLY + 3, "audience", "TEXT", VERB_TOKEN, set_text, offsetof(struct settings, audience),
          "whom the token is for" },
        { LONG_ONLY + 4, "scope", "TEXT", VERB_TOKEN, set_text, offsetof(struct settings, scope),
          "what it is to allow" },
        { LONG_ONLY + 5, "scope-hex", "HEX", VERB_TOKEN, set_hex, offsetof(struct settings, scope),
          "the same as bytes" },
        { LONG_ONLY + 6, "kid-hex", "HEX", VERB_TOKEN, set_hex, offsetof(struct settings, kid),
          "bind it to the key of an earlier token (req_cnf)" },
        { LONG_ONLY + 7, "client-id", "TEXT", VERB_TOKEN, set_text, offsetof(struct settings, client_id),
          "client_id to send" },
        { LONG_ONLY + 8, "profile", NULL, VERB_TOKEN, set_profile, 0, "ask which profile to use (ace_profile: null)" },
        { 't', "timeout", "SECONDS", VERBS_ONLINE, set_timeout, 0, "give up after so long, handshake included (30)" },
        { 'o', "output", "FORMAT", VERBS_ALL, set_output, 0, "text (default), json, or cbor: an answer's own bytes" },
};

/* ---- one request to a server, by libcoap */

struct target {
        bool secure;
        char host[256];
        char port[8];
        char path[256]; /* "" : the verb's own */
};

struct contact {
        const struct settings *settings;
        coap_context_t *context;
        coap_session_t *session;
        gnutls_psk_client_credentials_t credentials; /* only for identities that libcoap would cut */
        bool secure, connected, answered;
        bool broken;       /* the session ended; the reason may still come */
        char failure[192]; /* why there will be no answer; "" none yet */
        uint8_t code;
        struct buf payload;
};

static void contact_done(struct contact *contact) {
        if (contact->session)
                coap_session_release(contact->session);
        if (contact->context)
                coap_free_context(contact->context);
        if (contact->credentials)
                gnutls_psk_free_client_credentials(contact->credentials);
        buf_done(&contact->payload);
}

#define CONTACT_INIT(of) ((struct contact){ .settings = (of), .payload = BUF_INIT(PAYLOAD_MAX) })

static void contact_fail(struct contact *contact, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The first reason is the one that explains; what follows from it adds nothing. */
static void contact_fail(struct contact *contact, const char *format, ...) {
        va_list arguments;

        if (contact->failure[0])
                return;
        va_start(arguments, format);
        vsnprintf(contact->failure, sizeof(contact->failure), format, arguments);
        va_end(arguments);
}

/*
 * libcoap tells of an alert that was received nowhere but in its log, and the log's handler has no context: this is the
 * one variable of the program.
 */
static char alert_heard[64];

/* "***… DTLS: Alert '115': The server does not know the username." */
static void on_log(coap_log_t level, const char *message) {
        const char *at = strstr(message, "Alert '");

        at = at ? strstr(at, "': ") : NULL;
        if (at && !alert_heard[0])
                snprintf(alert_heard, sizeof(alert_heard), "%.*s", (int)strcspn(at + 3, "\n"), at + 3);
}

static void contact_broke(struct contact *contact) {
        contact_fail(contact, "%s%s%s", contact->connected ? "the server closed the session" : "the handshake failed",
                     alert_heard[0] ? ", alert: " : "", alert_heard);
}

static coap_response_t on_response(coap_session_t *session, const coap_pdu_t *sent, const coap_pdu_t *received,
                                   const coap_mid_t mid) {
        struct contact *contact = coap_session_get_app_data(session);
        size_t size = 0, offset, total;
        const uint8_t *data = NULL;

        if (contact->answered)
                return COAP_RESPONSE_OK;
        contact->code = (uint8_t)coap_pdu_get_code(received);
        if (coap_get_data_large(received, &size, &data, &offset, &total) &&
            buf_add(&contact->payload, bytes_of(data, size)) != 0)
                contact_fail(contact, "the answer has more than %d bytes", PAYLOAD_MAX);
        contact->answered = true;
        return COAP_RESPONSE_OK;
}

static void on_nack(coap_session_t *session, const coap_pdu_t *sent, const coap_nack_reason_t reason,
                    const coap_mid_t mid) {
        struct contact *contact = coap_session_get_app_data(session);

        if (!contact)
                return;
        switch ((int)reason) {
        case COAP_NACK_ICMP_ISSUE:
                contact_fail(contact, "nobody listens there");
                break;
        case COAP_NACK_RST:
                contact_fail(contact, "the server reset the request");
                break;
        case COAP_NACK_TOO_MANY_RETRIES:
                contact_fail(contact, "no answer to any retransmission");
                break;
        default:
                contact->broken = true;
        }
}

static int on_event(coap_session_t *session, const coap_event_t event) {
        struct contact *contact = coap_session_get_app_data(session);

        if (!contact)
                return 0;
        if (event == COAP_EVENT_DTLS_CONNECTED)
                contact->connected = true;
        else if (event == COAP_EVENT_DTLS_ERROR || event == COAP_EVENT_DTLS_CLOSED)
                contact->broken = true;
        return 0;
}

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

static int target_resolve(const struct target *target, coap_address_t *ret) {
        const struct addrinfo hints = { .ai_socktype = SOCK_DGRAM };
        struct addrinfo *found = NULL;
        int r = getaddrinfo(target->host, target->port, &hints, &found);

        if (r != 0)
                return fail(EXIT_NO_CONTACT, "%s: %s", target->host, gai_strerror(r));
        coap_address_init(ret);
        ret->size = found->ai_addrlen;
        memcpy(&ret->addr, found->ai_addr, found->ai_addrlen);
        freeaddrinfo(found);
        return 0;
}

/* libcoap hands GnuTLS the identity as a string; one with a zero byte goes there directly, before it is asked for. */
static int give_binary_identity(struct contact *contact) {
        const struct settings *settings = contact->settings;
        const gnutls_datum_t identity = { (unsigned char *)settings->identity.data, (unsigned)settings->identity.size };
        const gnutls_datum_t key = { (unsigned char *)settings->key.data, (unsigned)settings->key.size };
        coap_tls_library_t library;
        gnutls_session_t tls = coap_session_get_tls(contact->session, &library);

        if (!tls || library != COAP_TLS_LIBRARY_GNUTLS ||
            gnutls_psk_allocate_client_credentials(&contact->credentials) < 0 ||
            gnutls_psk_set_client_credentials2(contact->credentials, &identity, &key, GNUTLS_PSK_KEY_RAW) < 0 ||
            gnutls_credentials_set(tls, GNUTLS_CRD_PSK, contact->credentials) < 0)
                return fail(EXIT_INTERNAL, "an identity with a zero byte cannot be given to this libcoap");
        return 0;
}

static int contact_open(struct contact *contact, const struct target *target) {
        const struct settings *settings = contact->settings;
        coap_dtls_cpsk_t psk = {
                .version = COAP_DTLS_CPSK_SETUP_VERSION,
                .psk_info.identity = { settings->identity.size, settings->identity.data },
                .psk_info.key = { settings->key.size, settings->key.data },
        };
        coap_address_t remote;
        int status;

        if ((status = target_resolve(target, &remote)) != 0)
                return status;
        if (!(contact->context = coap_new_context(NULL)))
                return out_of_memory();
        coap_context_set_block_mode(contact->context, COAP_BLOCK_USE_LIBCOAP | COAP_BLOCK_SINGLE_BODY);
        coap_register_response_handler(contact->context, on_response);
        coap_register_nack_handler(contact->context, on_nack);
        coap_register_event_handler(contact->context, on_event);
        contact->session =
                target->secure ?
                        coap_new_client_session_psk2(contact->context, NULL, &remote, COAP_PROTO_DTLS, &psk) :
                        coap_new_client_session(contact->context, NULL, &remote, COAP_PROTO_UDP);
        if (!contact->session)
                return fail(EXIT_NO_CONTACT, "%s port %s: no session can be begun", target->host, target->port);
        coap_session_set_app_data(contact->session, contact);
        contact->secure = target->secure;
        if (target->secure && memchr(settings->identity.data, 0, settings->identity.size))
                return give_binary_identity(contact);
        return 0;
}

/* What one verb sends. */
struct ask {
        int method;
        const char *path;  /* unless the URI names another */
        const char *query; /* NULL: none */
        struct bytes payload;
};

static bool add_path(coap_pdu_t *pdu, const char *path) {
        size_t size;

        for (; *path; path += size) {
                path += *path == '/';
                size = strcspn(path, "/");
                if (size > 0 && !coap_add_option(pdu, COAP_OPTION_URI_PATH, size, (const uint8_t *)path))
                        return false;
        }
        return true;
}

/* Options must be added in the order of their numbers: 11, 12, 15, 17. */
static bool pdu_fill(coap_pdu_t *pdu, const struct ask *ask, const char *path) {
        const uint8_t ace_cbor = CF_ACE_CBOR, link_format = CF_LINK_FORMAT;
        uint8_t token[4];

        coap_prng(token, sizeof(token));
        return coap_add_token(pdu, sizeof(token), token) && add_path(pdu, path) &&
               (ask->payload.size == 0 || coap_add_option(pdu, COAP_OPTION_CONTENT_FORMAT, 1, &ace_cbor)) &&
               (!ask->query ||
                coap_add_option(pdu, COAP_OPTION_URI_QUERY, strlen(ask->query), (const uint8_t *)ask->query)) &&
               (ask->method != CODE_GET || coap_add_option(pdu, COAP_OPTION_ACCEPT, 1, &link_format)) &&
               (ask->payload.size == 0 || coap_add_data(pdu, ask->payload.size, ask->payload.data));
}

static int contact_send(struct contact *contact, const struct ask *ask, const struct target *target) {
        coap_pdu_t *pdu = coap_new_pdu(COAP_MESSAGE_CON, (coap_pdu_code_t)ask->method, contact->session);

        if (!pdu)
                return out_of_memory();
        if (!pdu_fill(pdu, ask, target->path[0] ? target->path : ask->path)) {
                coap_delete_pdu(pdu);
                return fail(EXIT_USAGE, "the request does not fit a datagram");
        }
        if (coap_send(contact->session, pdu) == COAP_INVALID_MID)
                contact_fail(contact, "the request could not be sent");
        return 0;
}

/* Serve libcoap until there is an answer, a failure, or no time left. */
static int contact_wait(struct contact *contact, const struct target *target) {
        int64_t deadline_us = clock_monotonic_us() + contact->settings->timeout_s * INT64_C(1000000);
        int64_t left_us;

        while (!contact->answered && !contact->failure[0]) {
                left_us = deadline_us - clock_monotonic_us();
                if (left_us <= 0)
                        contact_fail(contact, "no %s within %ld s",
                                     contact->secure && !contact->connected ? "handshake" : "answer",
                                     contact->settings->timeout_s);
                else if (coap_io_process(contact->context, left_us < 100000 ? (uint32_t)(left_us / 1000 + 1) : 100) < 0)
                        contact_fail(contact, "the network could not be read: %s", strerror(errno));
                else if (contact->broken && !contact->answered)
                        contact_broke(contact);
        }
        if (contact->failure[0])
                return fail(EXIT_NO_CONTACT, "%s port %s: %s", target->host, target->port, contact->failure);
        return 0;
}

/* Ask and wait. Exit status; on 0 contact has code and payload of the answer. */
static int contact_ask(struct contact *contact, const struct ask *ask) {
        const struct settings *settings = contact->settings;
        struct target target;
        int status;

        if (!settings->server)
                return fail(EXIT_USAGE, "no server: use -s coaps://HOST[:PORT]");
        if ((status = target_parse(settings->server, &target)) != 0)
                return status;
        if (target.secure && (settings->identity.size == 0 || settings->key.size == 0))
                return fail(EXIT_USAGE, "coaps needs a PSK: --identity[-hex], and --key, --key-hex or --key-file");
        if ((status = contact_open(contact, &target)) != 0 || (status = contact_send(contact, ask, &target)) != 0)
                return status;
        return contact_wait(contact, &target);
}

/* ---- output */

static int flush(void) {
        if (fflush(stdout) != 0 || ferror(stdout))
                return fail(EXIT_INTERNAL, "standard output: %m");
        return EXIT_DONE;
}

static int show(const struct settings *settings, const json_t *value) {
        if (settings->output == OUTPUT_JSON) {
                if (json_dumpf(value, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER) != 0)
                        return out_of_memory();
                putchar('\n');
        } else {
                describe_print(value, 0, stdout);
        }
        return flush();
}

static int show_bytes(struct bytes bytes) {
        fwrite(bytes.data, 1, bytes.size, stdout);
        return flush();
}

static bool code_is_success(uint8_t code) {
        return code >> 5 == 2;
}

/* A refusal, for people on stderr and for machines on stdout. */
static int show_refusal(const struct settings *settings, const char *code, json_t *answer) {
        const char *error = json_string_value(json_object_get(answer, "error"));
        const char *description = json_string_value(json_object_get(answer, "error_description"));

        if (settings->output == OUTPUT_JSON)
                show(settings, answer);
        fprintf(stderr, "aceclient: refused: %s", code);
        if (error)
                fprintf(stderr, " %s", error);
        if (description) {
                fputs(": ", stderr);
                describe_print(json_object_get(answer, "error_description"), 0, stderr);
        } else {
                fputc('\n', stderr);
        }
        return EXIT_REFUSED;
}

/* An error may come with a diagnostic payload in UTF-8 instead of CBOR (RFC 7252 §5.5.2). NULL: this is none. */
static json_t *diagnostic(const struct contact *contact) {
        const struct buf *payload = &contact->payload;

        if (code_is_success(contact->code))
                return NULL;
        return json_pack("{s:s%}", "error_description", (const char *)payload->data, payload->size);
}

/* The answer to a POST as names; exit status by its code. */
static int show_answer(const struct settings *settings, const struct contact *contact, enum vocabulary vocabulary) {
        _cleanup_(json_decrefp) json_t *answer = NULL, *coded = NULL;
        char code[8];
        int r;

        snprintf(code, sizeof(code), "%u.%02u", contact->code >> 5, contact->code & 31);
        if (contact->payload.size == 0)
                answer = json_object();
        else if ((r = describe_cbor(buf_bytes(&contact->payload), vocabulary, &answer)) > 0 &&
                 !(answer = diagnostic(contact)))
                return fail(EXIT_REFUSED, "%s with %zu bytes that are no CBOR", code, contact->payload.size);
        if (!answer || !(coded = json_pack("{s:s}", "code", code)))
                return out_of_memory();
        if (!json_is_object(answer))
                return fail(EXIT_REFUSED, "%s with CBOR that is no map", code);
        if (!code_is_success(contact->code)) {
                json_object_update(coded, answer);
                return show_refusal(settings, code, coded);
        }
        if (settings->output == OUTPUT_CBOR)
                return show_bytes(buf_bytes(&contact->payload));
        if (settings->output == OUTPUT_JSON)
                json_object_update(coded, answer);
        return show(settings, settings->output == OUTPUT_JSON ? coded : answer);
}

/* ---- a token as argument: hexadecimal, a file, or "-" */

static bool all_hex(struct bytes text) {
        for (size_t i = 0; i < text.size; i++)
                if (!memchr("0123456789abcdefABCDEF", text.data[i], 22))
                        return false;
        return text.size > 0 && text.size % 2 == 0;
}

static int unhex(struct bytes text, struct buf *out) {
        uint8_t byte;
        char pair[3] = {};
        size_t size;

        for (size_t i = 0; i < text.size; i += 2) {
                memcpy(pair, text.data + i, 2);
                if (bytes_from_hex(pair, &byte, 1, &size) != 0 || buf_add_byte(out, byte) != 0)
                        return fail(EXIT_USAGE, "a token has at most %d bytes", PAYLOAD_MAX);
        }
        return 0;
}

static int read_all(FILE *file, const char *name, struct buf *out) {
        uint8_t chunk[4096];
        size_t size;

        while ((size = fread(chunk, 1, sizeof(chunk), file)) > 0)
                if (buf_add(out, bytes_of(chunk, size)) != 0)
                        return fail(EXIT_USAGE, "%s: more than %d bytes", name, 2 * PAYLOAD_MAX);
        return ferror(file) ? fail(EXIT_USAGE, "%s: %m", name) : 0;
}

/* A file may hold the bytes themselves or hexadecimal and white space after it. */
static int token_from_file(const char *name, struct buf *out) {
        _cleanup_(buf_done) struct buf content = BUF_INIT(2 * PAYLOAD_MAX);
        bool standard = strcmp(name, "-") == 0;
        FILE *file = standard ? stdin : fopen(name, "re");
        struct bytes text;
        int status;

        if (!file)
                return fail(EXIT_USAGE, "'%s' is neither hexadecimal nor a file that can be read: %m", name);
        status = read_all(file, name, &content);
        if (!standard)
                fclose(file);
        if (status != 0)
                return status;
        for (text = buf_bytes(&content); text.size > 0 && memchr(" \t\r\n", text.data[text.size - 1], 4);)
                text.size--;
        if (all_hex(text))
                return unhex(text, out);
        if (buf_add(out, buf_bytes(&content)) != 0)
                return fail(EXIT_USAGE, "%s: more than %d bytes", name, PAYLOAD_MAX);
        return 0;
}

static int token_read(const char *argument, struct buf *out) {
        return all_hex(bytes_text(argument)) ? unhex(bytes_text(argument), out) : token_from_file(argument, out);
}

/* An answer of the token endpoint stands for the token in it. False: these bytes are no such answer. */
static bool token_in_answer(struct bytes bytes, struct bytes *ret) {
        struct {
                struct cbor_item token;
        } answer;
        static const struct cbor_field fields[] = { { ACE_ACCESS_TOKEN, CBOR_BYTES, 0 } };

        if (cbor_map(bytes, fields, N_ELEMENTS(fields), &answer) != 0 || answer.token.kind != CBOR_BYTES)
                return false;
        *ret = answer.token.content;
        return true;
}

/* ---- token, introspect */

/* The parameters that are text or bytes, in the order of their labels. */
static const struct {
        int label;
        size_t offset;
} parameters[] = {
        { ACE_AUDIENCE, offsetof(struct settings, audience) },
        { ACE_SCOPE, offsetof(struct settings, scope) },
        { ACE_CLIENT_ID, offsetof(struct settings, client_id) },
};

static const struct value *parameter_value(const struct settings *settings, size_t n) {
        return (const struct value *)((const char *)settings + parameters[n].offset);
}

static int token_request(const struct settings *settings, struct buf *payload) {
        struct cbor_writer w = CBOR_WRITER(payload);
        size_t n_pairs = (size_t)settings->kid.set + settings->profile;

        for (size_t i = 0; i < N_ELEMENTS(parameters); i++)
                n_pairs += parameter_value(settings, i)->set;
        cbor_put_map(&w, n_pairs);
        if (settings->kid.set) {
                cbor_put_uint(&w, ACE_REQ_CNF);
                cbor_put_map(&w, 1);
                cbor_put_uint(&w, CNF_KID);
                cbor_put_bytes(&w, value_bytes(&settings->kid));
        }
        for (size_t i = 0; i < N_ELEMENTS(parameters); i++) {
                const struct value *value = parameter_value(settings, i);

                if (!value->set)
                        continue;
                cbor_put_uint(&w, (uint64_t)parameters[i].label);
                (value->is_text ? cbor_put_text : cbor_put_bytes)(&w, value_bytes(value));
        }
        if (settings->profile) {
                cbor_put_uint(&w, ACE_PROFILE);
                cbor_put_null(&w);
        }
        return cbor_end(&w);
}

static int verb_token(const struct settings *settings, char *const *arguments) {
        _cleanup_(contact_done) struct contact contact = CONTACT_INIT(settings);
        _cleanup_(buf_done) struct buf payload = BUF_INIT(PAYLOAD_MAX);
        int status;

        if (token_request(settings, &payload) != 0)
                return out_of_memory();
        status = contact_ask(&contact,
                             &(struct ask){ .method = CODE_POST, .path = "token", .payload = buf_bytes(&payload) });
        return status ?: show_answer(settings, &contact, VOCABULARY_TOKEN);
}

static int verb_introspect(const struct settings *settings, char *const *arguments) {
        _cleanup_(contact_done) struct contact contact = CONTACT_INIT(settings);
        _cleanup_(buf_done) struct buf given = BUF_INIT(PAYLOAD_MAX), payload = BUF_INIT(PAYLOAD_MAX);
        struct ask ask = { .method = CODE_POST, .path = "introspect" };
        struct cbor_writer w = CBOR_WRITER(&payload);
        struct bytes token;
        int status;

        if ((status = token_read(arguments[0], &given)) != 0)
                return status;
        if (!token_in_answer(buf_bytes(&given), &token))
                token = buf_bytes(&given);
        cbor_put_map(&w, 1);
        cbor_put_uint(&w, INTRO_TOKEN);
        cbor_put_bytes(&w, token);
        if (cbor_end(&w) != 0)
                return fail(EXIT_USAGE, "a token has at most %d bytes", PAYLOAD_MAX);
        ask.payload = buf_bytes(&payload);
        status = contact_ask(&contact, &ask);
        return status ?: show_answer(settings, &contact, VOCABULARY_INTROSPECT);
}

/* ---- discover: link format (RFC 6690) */

static bool take_char(struct bytes *text, char c) {
        if (text->size == 0 || text->data[0] != (uint8_t)c)
                return false;
        *text = bytes_of(text->data + 1, text->size - 1);
        return true;
}

/* Bytes before the first of the stops, or all. */
static struct bytes take_until(struct bytes *text, const char *stops) {
        struct bytes taken = { text->data, 0 };

        while (taken.size < text->size && !strchr(stops, text->data[taken.size]))
                taken.size++;
        *text = bytes_of(text->data + taken.size, text->size - taken.size);
        return taken;
}

static bool link_set(json_t *link, struct bytes name, struct bytes value) {
        char key[64];

        if (name.size == 0 || name.size >= sizeof(key) || bytes_find(name, bytes_of("", 1)))
                return false;
        memcpy(key, name.data, name.size);
        key[name.size] = 0;
        return json_object_set_new(link, key, json_stringn((const char *)value.data, value.size)) == 0;
}

/* One <link>;name="value";… into an object; false: no such thing. */
static bool take_link(struct bytes *text, json_t *link) {
        struct bytes name, value;

        if (!take_char(text, '<'))
                return false;
        value = take_until(text, ">");
        if (!take_char(text, '>') || !link_set(link, BYTES_LITERAL("href"), value))
                return false;
        while (take_char(text, ';')) {
                name = take_until(text, "=;,");
                value = BYTES_LITERAL("");
                if (take_char(text, '=')) {
                        bool quoted = take_char(text, '"');

                        value = take_until(text, quoted ? "\"" : ";,");
                        if (quoted && !take_char(text, '"'))
                                return false;
                }
                if (!link_set(link, name, value))
                        return false;
        }
        return true;
}

static json_t *links_parse(struct bytes text) {
        _cleanup_(json_decrefp) json_t *links = json_array();

        while (links && text.size > 0) {
                json_t *link = json_object();

                if (json_array_append_new(links, link) != 0 || !take_link(&text, link) ||
                    (text.size > 0 && !take_char(&text, ',')))
                        return NULL;
        }
        return TAKE_PTR(links);
}

static int verb_discover(const struct settings *settings, char *const *arguments) {
        _cleanup_(contact_done) struct contact contact = CONTACT_INIT(settings);
        _cleanup_(json_decrefp) json_t *links = NULL;
        int status;

        status = contact_ask(&contact,
                             &(struct ask){ .method = CODE_GET, .path = ".well-known/core", .query = arguments[0] });
        if (status != 0)
                return status;
        if (!code_is_success(contact.code))
                return show_answer(settings, &contact, VOCABULARY_TOKEN);
        if (settings->output == OUTPUT_CBOR)
                return show_bytes(buf_bytes(&contact.payload));
        if (!(links = links_parse(buf_bytes(&contact.payload))))
                return fail(EXIT_REFUSED, "the answer is no link format (RFC 6690)");
        return show(settings, links);
}

/* ---- decode */

static const char *cose_name(uint64_t tag) {
        switch (tag) {
        case TAG_COSE_ENCRYPT0:
                return "COSE_Encrypt0";
        case TAG_COSE_MAC0:
                return "COSE_Mac0";
        case TAG_COSE_SIGN1:
                return "COSE_Sign1";
        case TAG_CWT:
                return "CWT";
        default:
                return "unknown tag";
        }
}

/* Take the tags off, outermost first, naming each. *object becomes what is inside. */
static int take_tags(struct bytes *object, json_t *token, uint64_t *ret_innermost) {
        json_t *tags = json_array();
        struct cbor_item item;

        if (json_object_set_new(token, "tags", tags) != 0)
                return out_of_memory();
        *ret_innermost = TAG_COSE_ENCRYPT0; /* what an untagged one is taken for */
        for (unsigned n = 0;; n++) {
                if (cbor_item(*object, &item) != 0)
                        return fail(EXIT_REFUSED, "this is not one well-formed CBOR item, so no CWT");
                if (item.kind != CBOR_TAG)
                        return 0;
                if (n == TAGS_MAX)
                        return fail(EXIT_REFUSED, "more than %d tags: no CWT", TAGS_MAX);
                if (json_array_append_new(tags, json_sprintf("%s (%ju)", cose_name(item.argument),
                                                             (uintmax_t)item.argument)) != 0)
                        return out_of_memory();
                *ret_innermost = item.argument;
                *object = item.content;
        }
}

/* The headers and the size of what follows: what is seen without a key. */
static int decode_outside(struct bytes object, json_t *token) {
        struct cbor_item items[COSE_ITEMS_MAX];
        json_t *protected_header = NULL, *unprotected_header = NULL;
        size_t n_items;

        if (cbor_array(object, items, N_ELEMENTS(items), &n_items) != 0 || n_items < 3 || items[0].kind != CBOR_BYTES ||
            items[1].kind != CBOR_MAP || items[2].kind != CBOR_BYTES)
                return fail(EXIT_REFUSED, "this is no COSE object of one recipient, so no CWT");
        if (items[0].content.size == 0)
                protected_header = json_object();
        else if (describe_cbor(items[0].content, VOCABULARY_HEADER, &protected_header) != 0)
                return fail(EXIT_REFUSED, "the protected header is no CBOR");
        if (json_object_set_new(token, "protected", protected_header) != 0 ||
            describe_cbor(items[1].raw, VOCABULARY_HEADER, &unprotected_header) != 0 ||
            json_object_set_new(token, "unprotected", unprotected_header) != 0 ||
            json_object_set_new(token, "content_size", json_integer((json_int_t)items[2].content.size)) != 0)
                return out_of_memory();
        return 0;
}

/* The claims, which hold the PoP key: wiped as soon as they are printed text. */
static int decode_inside(struct bytes object, struct bytes key, json_t *token) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(PAYLOAD_MAX);
        struct cose_encrypt0_parts parts;
        json_t *claims = NULL;
        int r;

        if (cose_encrypt0_parse(object, &parts) != 0)
                return fail(EXIT_REFUSED, "the token's algorithm or headers are unknown to this program");
        if (key.size != aead_info(parts.alg)->key_size)
                return fail(EXIT_REFUSED, "the token's algorithm needs a key of %zu bytes, not of %zu",
                            aead_info(parts.alg)->key_size, key.size);
        if ((r = cose_encrypt0_open(object, key, &plain)) != 0)
                return fail(r > 0 ? EXIT_REFUSED : EXIT_INTERNAL, "the token does not open with this key");
        r = describe_cbor(buf_bytes(&plain), VOCABULARY_CLAIMS, &claims);
        wipe(plain.data, plain.size);
        if (r > 0)
                return fail(EXIT_REFUSED, "the token's content is no CBOR");
        return r < 0 || json_object_set_new(token, "claims", claims) != 0 ? out_of_memory() : 0;
}

static int decode_token(const struct settings *settings, struct bytes object, json_t *token) {
        uint64_t tag = 0;
        int status;

        if ((status = take_tags(&object, token, &tag)) != 0 || (status = decode_outside(object, token)) != 0)
                return status;
        if (settings->key.size == 0)
                return 0;
        if (tag != TAG_COSE_ENCRYPT0 && tag != TAG_CWT)
                return fail(EXIT_REFUSED, "%s cannot be opened by this program", cose_name(tag));
        return decode_inside(object, secret_bytes(&settings->key), token);
}

static int verb_decode(const struct settings *settings, char *const *arguments) {
        _cleanup_(json_decrefp) json_t *shown = json_object(), *token = json_object();
        _cleanup_(buf_done) struct buf given = BUF_INIT(PAYLOAD_MAX);
        json_t *answer = NULL;
        struct bytes bytes;
        int status;

        if (!shown || !token)
                return out_of_memory();
        if (settings->output == OUTPUT_CBOR)
                return fail(EXIT_USAGE, "--output: cbor is what a server answered, and decode asks none");
        if ((status = token_read(arguments[0], &given)) != 0)
                return status;
        if (token_in_answer(buf_bytes(&given), &bytes)) {
                if (describe_cbor(buf_bytes(&given), VOCABULARY_TOKEN, &answer) != 0 ||
                    json_object_set_new(shown, "answer", answer) != 0)
                        return out_of_memory();
        } else {
                bytes = buf_bytes(&given);
        }
        if ((status = decode_token(settings, bytes, token)) != 0)
                return status;
        if (json_object_set(shown, "token", token) != 0)
                return out_of_memory();
        return show(settings, shown);
}

/* ---- main */

struct verb {
        const char *name, *arguments;
        enum verb_bit bit;
        int n_arguments_min, n_arguments_max;
        int (*run)(const struct settings *settings, char *const *arguments);
        const char *help;
};

static const struct verb verbs[] = {
        { "token", "", VERB_TOKEN, 0, 0, verb_token, "ask the token endpoint for an access token" },
        { "introspect", "TOKEN", VERB_INTROSPECT, 1, 1, verb_introspect,
          "ask whether a token is active, as a resource server" },
        { "discover", "[FILTER]", VERB_DISCOVER, 0, 1, verb_discover,
          "list the server's resources, all or e.g. those with rt=ace.*" },
        { "decode", "TOKEN", VERB_DECODE, 1, 1, verb_decode, "show what a token or a token answer says" },
};

static int help(void) {
        puts("aceclient [OPTION...] VERB [ARGUMENT]: what a device does with an authorization server\n\nVerbs:");
        for (size_t i = 0; i < N_ELEMENTS(verbs); i++)
                printf("  %-10s %-10s %s\n", verbs[i].name, verbs[i].arguments, verbs[i].help);
        puts("TOKEN is hexadecimal, the name of a file, or - for standard input.\n\nOptions:");
        for (size_t i = 0; i < N_ELEMENTS(option_rows); i++) {
                const struct option_row *row = &option_rows[i];
                char flag[48];

                snprintf(flag, sizeof(flag), "--%s%s%s", row->name, row->argument ? " " : "", row->argument ?: "");
                if (row->letter < LONG_ONLY)
                        printf("  -%c, %-20s %s\n", row->letter, flag, row->help);
                else
                        printf("      %-20s %s\n", flag, row->help);
        }
        puts("      --help                this text\n      --version             the version\n\n"
             "Exit status: 0 done, 1 refused, 2 usage, 3 no contact with the server, 4 internal error.");
        return EXIT_DONE;
}

enum { OPTION_HELP = 1000, OPTION_VERSION };

/* getopt_long()'s two tables, from ours. */
static void options_build(struct option longs[static N_ELEMENTS(option_rows) + 3],
                          char shorts[static 2 * N_ELEMENTS(option_rows) + 1]) {
        size_t n = 0;

        for (; n < N_ELEMENTS(option_rows); n++) {
                const struct option_row *row = &option_rows[n];

                longs[n] = (struct option){ .name = row->name, .val = row->letter };
                longs[n].has_arg = row->argument ? required_argument : no_argument;
                if (row->letter < LONG_ONLY) {
                        *shorts++ = (char)row->letter;
                        *shorts++ = ':';
                }
        }
        longs[n++] = (struct option){ "help", no_argument, NULL, OPTION_HELP };
        longs[n++] = (struct option){ "version", no_argument, NULL, OPTION_VERSION };
        longs[n] = (struct option){};
        *shorts = 0;
}

static const struct option_row *option_find(int letter) {
        for (size_t i = 0; i < N_ELEMENTS(option_rows); i++)
                if (option_rows[i].letter == letter)
                        return &option_rows[i];
        return NULL;
}

#define STATUS_GO_ON (-1)

/* Exit status, or STATUS_GO_ON with *ret_given the rows that were used, as a set. */
static int options_parse(int argc, char **argv, struct settings *settings, uint64_t *ret_given) {
        struct option longs[N_ELEMENTS(option_rows) + 3];
        char shorts[2 * N_ELEMENTS(option_rows) + 1];
        const struct option_row *row;
        int c, status;

        options_build(longs, shorts);
        *ret_given = 0;
        while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
                if (c == OPTION_HELP)
                        return help();
                if (c == OPTION_VERSION)
                        return printf("aceclient %s\n", PACKAGE_VERSION) < 0 ? EXIT_INTERNAL : EXIT_DONE;
                if (!(row = option_find(c)))
                        return fail(EXIT_USAGE, "see aceclient --help");
                if ((status = row->set(settings, row, optarg)) != 0)
                        return status;
                /* not for long in ps, at least */
                if (row->set == set_key_text || row->set == set_key_hex)
                        wipe(optarg, strlen(optarg));
                *ret_given |= UINT64_C(1) << (row - option_rows);
        }
        return STATUS_GO_ON;
}

static const struct verb *verb_find(const char *name) {
        for (size_t i = 0; i < N_ELEMENTS(verbs); i++)
                if (strcmp(verbs[i].name, name) == 0)
                        return &verbs[i];
        return NULL;
}

int main(int argc, char **argv) {
        _cleanup_(settings_done) struct settings settings = { .timeout_s = TIMEOUT_DEFAULT_S };
        const struct verb *verb;
        uint64_t given;
        int n_arguments, status;

        if ((status = options_parse(argc, argv, &settings, &given)) != STATUS_GO_ON)
                return status;
        if (optind >= argc)
                return fail(EXIT_USAGE, "no verb; see aceclient --help");
        if (!(verb = verb_find(argv[optind])))
                return fail(EXIT_USAGE, "'%s' is no verb; see aceclient --help", argv[optind]);
        n_arguments = argc - optind - 1;
        if (n_arguments < verb->n_arguments_min || n_arguments > verb->n_arguments_max)
                return fail(EXIT_USAGE, "usage: aceclient [OPTION...] %s %s", verb->name, verb->arguments);
        for (size_t i = 0; i < N_ELEMENTS(option_rows); i++)
                if (given & UINT64_C(1) << i && !(option_rows[i].verbs & verb->bit))
                        return fail(EXIT_USAGE, "--%s says nothing to %s", option_rows[i].name, verb->name);
        coap_startup();
        coap_set_log_handler(on_log);
        coap_set_log_level((coap_log_t)LOG_LEVEL_WARNING);
        status = verb->run(&settings, argv + optind + 1);
        coap_cleanup();
        return status;
}
