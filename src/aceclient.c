/*
 * aceclient: what a device does, to try an authorization server with. The command line is here, verbs and options as
 * rows; what the verbs do is in main/client_*.c.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "config.h"

#include "base/cleanup.h"
#include "format/cbor.h"
#include "format/cose.h"
#include "format/json.h"
#include "main/client.h"

#define TIMEOUT_DEFAULT_S 30
#define TIMEOUT_MAX_S 3600

enum verb_bit {
        VERB_TOKEN = 1,
        VERB_REFRESH = 2,
        VERB_INTROSPECT = 4,
        VERB_REVOKE = 8,
        VERB_TRL = 16,
        VERB_DISCOVER = 32,
        VERB_DECODE = 64,
        VERB_KEYGEN = 128,
};
#define VERBS_TOKEN (VERB_TOKEN | VERB_REFRESH)
#define VERBS_ONLINE (VERBS_TOKEN | VERB_INTROSPECT | VERB_REVOKE | VERB_TRL | VERB_DISCOVER)
#define VERBS_KEY (VERBS_ONLINE | VERB_DECODE)
#define VERBS_ALL (VERBS_KEY | VERB_KEYGEN)

/* ---- options: every setter returns an exit status, having said what is wrong */

struct option_row;
typedef int option_setter(struct settings *settings, const struct option_row *row, const char *argument);

struct option_row {
        int letter; /* also what getopt_long() returns; above 255: no short form */
        const char *name, *argument;
        unsigned verbs;
        option_setter *set;
        size_t offset; /* of what the setter sets, for those that set several */
        const char *help;
};

static void *row_place(struct settings *settings, const struct option_row *row) {
        return (char *)settings + row->offset;
}

static int value_take(struct value *value, const struct option_row *row) {
        if (value->set)
                return fail(EXIT_USAGE, "--%s: given twice, as text or as hex", row->name);
        value->set = true;
        return 0;
}

static int set_text(struct settings *settings, const struct option_row *row, const char *argument) {
        struct value *value = row_place(settings, row);

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
        struct value *value = row_place(settings, row);

        if (value_take(value, row) != 0)
                return EXIT_USAGE;
        if (bytes_from_hex(argument, value->data, sizeof(value->data), &value->size) != 0)
                return fail(EXIT_USAGE, "--%s: '%s' is not hexadecimal of at most %zu bytes", row->name, argument,
                            sizeof(value->data));
        return 0;
}

/* ---- keys */

static int key_take(struct secret *key, struct bytes given, const char *where) {
        if (key->size > 0)
                return fail(EXIT_USAGE, "%s: the key is given twice", where);
        if (given.size == 0 || secret_set(key, given) != 0)
                return fail(EXIT_USAGE, "%s: a key has 1 to %d bytes", where, SECRET_SIZE_MAX);
        return 0;
}

static int set_key_text(struct settings *settings, const struct option_row *row, const char *argument) {
        return key_take(row_place(settings, row), bytes_text(argument), "--key");
}

static int set_key_hex(struct settings *settings, const struct option_row *row, const char *argument) {
        _cleanup_(secret_done) struct secret key = {};

        if (bytes_from_hex(argument, key.data, sizeof(key.data), &key.size) != 0)
                return fail(EXIT_USAGE, "--%s: not hexadecimal of 1 to %d bytes", row->name, SECRET_SIZE_MAX);
        return key_take(row_place(settings, row), secret_bytes(&key), row->name);
}

static int set_key_file(struct settings *settings, const struct option_row *row, const char *argument) {
        _cleanup_(secret_done) struct secret key = {};
        int status = read_key_line(argument, &key);

        return status ?: key_take(row_place(settings, row), secret_bytes(&key), argument);
}

static int set_public_key(struct settings *settings, const struct option_row *row, const char *argument) {
        return read_public_key(argument, row->name, row_place(settings, row));
}

static int set_curve(struct settings *settings, const struct option_row *row, const char *argument) {
        settings->curve = curve_from_name(argument);
        if (settings->curve == CURVE_NONE)
                return fail(EXIT_USAGE, "--curve: '%s' is none of P-256, P-384, Ed25519, X25519", argument);
        return 0;
}

/* ---- req_cnf (RFC 9201 §3.1), kept as the CBOR that is sent */

static int put_key_cnf(const char *argument, struct cbor_writer *w) {
        struct public_key key;
        int status = read_public_key(argument, "req-cnf key", &key);

        if (status != 0)
                return status;
        cbor_put_map(w, 1);
        cbor_put_uint(w, CNF_COSE_KEY);
        cose_put_key(w, &key, BYTES_NONE);
        return 0;
}

static int put_hex_cnf(const char *argument, bool is_kid, struct cbor_writer *w) {
        struct value value = {};

        if (bytes_from_hex(argument, value.data, sizeof(value.data), &value.size) != 0)
                return fail(EXIT_USAGE, "--req-cnf: '%s' is not hexadecimal of at most %d bytes", argument,
                            VALUE_SIZE_MAX);
        if (is_kid) {
                cbor_put_map(w, 1);
                cbor_put_uint(w, CNF_KID);
                cbor_put_bytes(w, bytes_of(value.data, value.size));
                return 0;
        }
        if (cbor_check(bytes_of(value.data, value.size), CBOR_DEPTH_MAX) != 0)
                return fail(EXIT_USAGE, "--req-cnf: '%s' is not one item of CBOR", argument);
        cbor_put_raw(w, bytes_of(value.data, value.size));
        return 0;
}

static int set_req_cnf(struct settings *settings, const struct option_row *row, const char *argument) {
        _cleanup_(buf_done) struct buf cnf = BUF_INIT(VALUE_SIZE_MAX);
        struct cbor_writer w = CBOR_WRITER(&cnf);
        struct value *value = &settings->req_cnf;
        int status;

        if ((status = value_take(value, row)) != 0)
                return status;
        if (strncmp(argument, "key:", 4) == 0)
                status = put_key_cnf(argument + 4, &w);
        else if (strncmp(argument, "kid:", 4) == 0 || strncmp(argument, "hex:", 4) == 0)
                status = put_hex_cnf(argument + 4, argument[0] == 'k', &w);
        else
                status = fail(EXIT_USAGE, "--req-cnf: '%s' is none of key:KEY, kid:HEX, hex:CBOR", argument);
        if (status != 0)
                return status;
        if (cbor_end(&w) != 0)
                return fail(EXIT_USAGE, "--req-cnf: longer than %d bytes", VALUE_SIZE_MAX);
        value->size = cnf.size;
        memcpy(value->data, cnf.data, cnf.size);
        return 0;
}

/* ---- the others */

static int set_string(struct settings *settings, const struct option_row *row, const char *argument) {
        *(const char **)row_place(settings, row) = argument;
        return 0;
}

static int set_flag(struct settings *settings, const struct option_row *row, const char *argument) {
        *(bool *)row_place(settings, row) = true;
        return 0;
}

/* Handed on as it is written: what a number may be is the server's to say. */
static int set_digits(struct settings *settings, const struct option_row *row, const char *argument) {
        if (!*argument || argument[strspn(argument, "0123456789")] || strlen(argument) > 20)
                return fail(EXIT_USAGE, "--%s: '%s' is no number", row->name, argument);
        return set_string(settings, row, argument);
}

static int set_count(struct settings *settings, const struct option_row *row, const char *argument) {
        char *end;

        errno = 0;
        settings->count = strtoull(argument, &end, 10);
        if (errno != 0 || end == argument || *end || settings->count == 0 || *argument == '-')
                return fail(EXIT_USAGE, "--count: '%s' is not a number from 1 on", argument);
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

#define PLACE(member) offsetof(struct settings, member)

static const struct option_row option_rows[] = {
        { 's', "server", "URI", VERBS_ONLINE, set_string, PLACE(server),
          "coaps://HOST[:PORT]; coap://… with --oscore, or for discover" },
        { 'u', "identity", "TEXT", VERBS_ONLINE, set_text, PLACE(identity), "PSK identity" },
        { LONG_ONLY, "identity-hex", "HEX", VERBS_ONLINE, set_hex, PLACE(identity), "PSK identity of any bytes" },
        { 'k', "key", "TEXT", VERBS_KEY, set_key_text, PLACE(key), "key as text; other users see it in ps" },
        { LONG_ONLY + 1, "key-hex", "HEX", VERBS_KEY, set_key_hex, PLACE(key), "key; other users see it in ps" },
        { LONG_ONLY + 2, "key-file", "FILE", VERBS_KEY, set_key_file, PLACE(key),
          "file whose first line is the key in hexadecimal" },
        { LONG_ONLY + 3, "private-key", "FILE", VERBS_ONLINE, set_string, PLACE(private_key),
          "instead of a PSK: key pair in PEM, shown as raw public key" },
        { LONG_ONLY + 4, "certificate", "FILE", VERBS_ONLINE, set_string, PLACE(certificate),
          "show this chain in PEM for that key pair" },
        { LONG_ONLY + 5, "server-key", "KEY", VERBS_ONLINE, set_public_key, PLACE(server_key),
          "the server's public key" },
        { LONG_ONLY + 6, "ca", "FILE", VERBS_ONLINE, set_string, PLACE(anchors),
          "authorities that certify the server, in PEM" },
        { LONG_ONLY + 7, "server-name", "NAME", VERBS_ONLINE, set_string, PLACE(server_name),
          "what its certificate is for, when not HOST" },
        { LONG_ONLY + 8, "any-server", NULL, VERBS_ONLINE, set_flag, PLACE(any_server),
          "talk to whoever answers, to try things" },
        { LONG_ONLY + 28, "oscore", "FILE", VERBS_ONLINE, set_string, PLACE(oscore),
          "instead of DTLS: the security context of this record, as acectl printed it" },
        { LONG_ONLY + 29, "renew", NULL, VERBS_ONLINE, set_flag, PLACE(renew), "with --oscore: make new keys first" },
        { LONG_ONLY + 9, "audience", "TEXT", VERBS_TOKEN, set_text, PLACE(audience), "whom the token is for" },
        { LONG_ONLY + 10, "scope", "TEXT", VERBS_TOKEN, set_text, PLACE(scope), "what it is to allow" },
        { LONG_ONLY + 11, "scope-hex", "HEX", VERBS_TOKEN, set_hex, PLACE(scope), "the same as bytes" },
        { LONG_ONLY + 12, "req-cnf", "WHICH", VERBS_TOKEN, set_req_cnf, 0,
          "bind it to key:KEY, kid:HEX, or hex:CBOR of a cnf map" },
        { LONG_ONLY + 13, "kid-hex", "HEX", VERBS_TOKEN | VERB_KEYGEN, set_hex, PLACE(kid),
          "bind it to the key of this kid; give a new key this kid" },
        { LONG_ONLY + 14, "cnonce", "HEX", VERBS_TOKEN, set_hex, PLACE(cnonce), "nonce of the resource server" },
        { LONG_ONLY + 15, "client-id", "TEXT", VERBS_TOKEN, set_text, PLACE(client_id), "client_id to send" },
        { LONG_ONLY + 16, "profile", NULL, VERBS_TOKEN, set_flag, PLACE(profile),
          "ask which profile to use (ace_profile: null)" },
        { LONG_ONLY + 17, "refresh-token", NULL, VERB_REVOKE, set_flag, PLACE(refresh_token),
          "of an answer take the refresh token" },
        { LONG_ONLY + 18, "diff", "N", VERB_TRL, set_digits, PLACE(diff), "the latest N changes, 0: all" },
        { LONG_ONLY + 19, "cursor", "N", VERB_TRL, set_digits, PLACE(cursor), "the changes after this one" },
        { LONG_ONLY + 20, "observe", NULL, VERB_TRL, set_flag, PLACE(observe), "stay, and show each change" },
        { LONG_ONLY + 21, "count", "N", VERB_TRL, set_count, 0, "until N answers were shown" },
        { LONG_ONLY + 22, "as-key", "KEY", VERB_DECODE, set_public_key, PLACE(as_key),
          "public key that the token is signed with" },
        { LONG_ONLY + 23, "wrap-key-hex", "HEX", VERB_DECODE, set_key_hex, PLACE(wrap_key),
          "key that encrypts PoP keys in it" },
        { LONG_ONLY + 24, "wrap-key-file", "FILE", VERB_DECODE, set_key_file, PLACE(wrap_key), "the same in a file" },
        { LONG_ONLY + 25, "derivation-key-hex", "HEX", VERB_DECODE, set_key_hex, PLACE(derivation_key),
          "key that its PoP key is derived from" },
        { LONG_ONLY + 26, "derivation-key-file", "FILE", VERB_DECODE, set_key_file, PLACE(derivation_key),
          "the same in a file" },
        { LONG_ONLY + 27, "curve", "CURVE", VERB_KEYGEN, set_curve, 0, "P-256 (default), P-384, Ed25519 or X25519" },
        { 't', "timeout", "SECONDS", VERBS_ONLINE, set_timeout, 0, "give up after so long, handshake included (30)" },
        { 'o', "output", "FORMAT", VERBS_ALL, set_output, 0, "text (default), json, or cbor: the bytes themselves" },
};

/* ---- main */

struct verb {
        const char *name, *arguments;
        enum verb_bit bit;
        int n_arguments_min, n_arguments_max;
        client_verb *run;
        const char *help;
};

static const struct verb verbs[] = {
        { "token", "", VERB_TOKEN, 0, 0, verb_token, "ask the token endpoint for an access token" },
        { "refresh", "TOKEN", VERB_REFRESH, 1, 1, verb_refresh, "ask it for another one, for a refresh token" },
        { "introspect", "TOKEN", VERB_INTROSPECT, 1, 1, verb_introspect,
          "ask whether a token is active, as a resource server" },
        { "revoke", "TOKEN", VERB_REVOKE, 1, 1, verb_revoke, "give a token back" },
        { "trl", "", VERB_TRL, 0, 0, verb_trl, "show which tokens were revoked" },
        { "discover", "[FILTER]", VERB_DISCOVER, 0, 1, verb_discover,
          "list the server's resources, all or e.g. those with rt=ace.*" },
        { "decode", "TOKEN", VERB_DECODE, 1, 1, verb_decode, "show what a token or a token answer says" },
        { "keygen", "FILE", VERB_KEYGEN, 1, 1, verb_keygen, "make a key pair; its private key goes to FILE" },
};

static int help(void) {
        puts("aceclient [OPTION...] VERB [ARGUMENT]: what a device does with an authorization server\n\nVerbs:");
        for (size_t i = 0; i < N_ELEMENTS(verbs); i++)
                printf("  %-10s %-10s %s\n", verbs[i].name, verbs[i].arguments, verbs[i].help);
        puts("TOKEN and KEY are hexadecimal, the name of a file, or - for standard input.\n\nOptions:");
        for (size_t i = 0; i < N_ELEMENTS(option_rows); i++) {
                const struct option_row *row = &option_rows[i];
                char flag[48];

                snprintf(flag, sizeof(flag), "--%s%s%s", row->name, row->argument ? " " : "", row->argument ?: "");
                if (row->letter < LONG_ONLY)
                        printf("  -%c, %-26s %s\n", row->letter, flag, row->help);
                else
                        printf("      %-26s %s\n", flag, row->help);
        }
        puts("      --help                     this text\n      --version                  the version\n\n"
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
        _cleanup_(settings_done) struct settings settings = { .timeout_s = TIMEOUT_DEFAULT_S,
                                                                  .curve = CURVE_P256 };
        const struct verb *verb;
        uint64_t given;
        int n_arguments, status;

        json_wipe_what_is_freed(); /* records hold keys */
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
        return verb->run(&settings, argv + optind + 1);
}
