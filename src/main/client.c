#include "main/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "crypto/pem.h"
#include "domain/refusal.h"
#include "format/cose.h"

void settings_done(struct settings *settings) {
        secret_done(&settings->key);
        secret_done(&settings->wrap_key);
        secret_done(&settings->derivation_key);
}

void answer_wiped(struct talk_answer *answer) {
        buf_wiped(&answer->payload);
}

/* ---- what goes wrong */

int fail(int status, const char *format, ...) {
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

int out_of_memory(void) {
        return fail(EXIT_INTERNAL, "out of memory");
}

/* ---- what comes out */

static int flush(void) {
        if (fflush(stdout) != 0 || ferror(stdout))
                return fail(EXIT_INTERNAL, "standard output: %m");
        return EXIT_DONE;
}

int show(const struct settings *settings, const json_t *value) {
        /* of several answers each is a line */
        size_t form = settings->observe ? JSON_COMPACT : JSON_INDENT(2);

        if (settings->output == OUTPUT_JSON) {
                if (json_dumpf(value, stdout, form | JSON_PRESERVE_ORDER) != 0)
                        return out_of_memory();
                putchar('\n');
        } else {
                describe_print(value, 0, stdout);
        }
        return flush();
}

int show_bytes(struct bytes bytes) {
        fwrite(bytes.data, 1, bytes.size, stdout);
        return flush();
}

static bool code_is_success(uint8_t code) {
        return code >> 5 == 2;
}

/* A refusal, for people on stderr and for machines on stdout. */
static int show_refusal(const struct settings *settings, const char *code, json_t *answer) {
        const json_t *about_list = json_object_get(answer, "ace-trl-error");
        const char *error = json_string_value(json_object_get(answer, "error")) ?:
                                    json_string_value(json_object_get(about_list, "error-id"));
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
static json_t *diagnostic(const struct talk_answer *answer) {
        if (code_is_success(answer->code))
                return NULL;
        return json_pack("{s:s%}", "error_description", (const char *)answer->payload.data, answer->payload.size);
}

int show_answer(const struct settings *settings, const struct talk_answer *answer, enum vocabulary vocabulary) {
        _cleanup_(json_decrefp) json_t *described = NULL, *coded = NULL;
        char code[8];
        int r;

        snprintf(code, sizeof(code), "%u.%02u", answer->code >> 5, answer->code & 31);
        if (answer->payload.size == 0)
                described = json_object();
        else if ((r = describe_cbor(buf_bytes(&answer->payload), vocabulary, &described)) > 0 &&
                 !(described = diagnostic(answer)))
                return fail(EXIT_REFUSED, "%s with %zu bytes that are no CBOR", code, answer->payload.size);
        if (!described || !(coded = json_pack("{s:s}", "code", code)))
                return out_of_memory();
        if (!json_is_object(described))
                return fail(EXIT_REFUSED, "%s with CBOR that is no map", code);
        if (!code_is_success(answer->code)) {
                json_object_update(coded, described);
                return show_refusal(settings, code, coded);
        }
        if (settings->output == OUTPUT_CBOR)
                return show_bytes(buf_bytes(&answer->payload));
        if (settings->output == OUTPUT_JSON)
                json_object_update(coded, described);
        return show(settings, settings->output == OUTPUT_JSON ? coded : described);
}

/* ---- what goes in */

static bool all_hex(struct bytes text) {
        for (size_t i = 0; i < text.size; i++)
                if (!memchr("0123456789abcdefABCDEF", text.data[i], 22))
                        return false;
        return text.size > 0 && text.size % 2 == 0;
}

static int too_large(const char *name, size_t limit) {
        return fail(EXIT_USAGE, "%s: more than %zu bytes", name, limit);
}

static int unhex(const char *name, struct bytes text, struct buf *out) {
        uint8_t byte;
        char pair[3] = {};
        size_t size;

        for (size_t i = 0; i < text.size; i += 2) {
                memcpy(pair, text.data + i, 2);
                if (bytes_from_hex(pair, &byte, 1, &size) != 0 || buf_add_byte(out, byte) != 0)
                        return too_large(name, out->limit);
        }
        return 0;
}

int read_file(const char *name, struct buf *out) {
        bool standard = strcmp(name, "-") == 0;
        FILE *file = standard ? stdin : fopen(name, "re");
        uint8_t *space;
        bool failed;

        if (!file)
                return fail(EXIT_USAGE, "%s: %m", name);
        /* it may be a key: no copy of it in memory that nobody wipes */
        setvbuf(file, NULL, _IONBF, 0);
        if (buf_reserve(out, out->limit, &space) != 0)
                return out_of_memory();
        buf_added(out, fread(space, 1, out->limit, file));
        failed = ferror(file) || (out->size == out->limit && fgetc(file) != EOF);
        if (failed && ferror(file))
                fail(EXIT_USAGE, "%s: %m", name);
        else if (failed)
                too_large(name, out->limit);
        if (!standard)
                fclose(file);
        return failed ? EXIT_USAGE : 0;
}

/* A file may hold the bytes themselves or hexadecimal and white space after it. */
static int read_token_file(const char *name, struct buf *out) {
        _cleanup_(buf_wiped) struct buf content = BUF_INIT(2 * out->limit);
        struct bytes text;
        int status;

        if ((status = read_file(name, &content)) != 0)
                return status;
        for (text = buf_bytes(&content); text.size > 0 && memchr(" \t\r\n", text.data[text.size - 1], 4);)
                text.size--;
        if (all_hex(text))
                return unhex(name, text, out);
        return buf_add(out, buf_bytes(&content)) != 0 ? too_large(name, out->limit) : 0;
}

int read_argument(const char *argument, struct buf *out) {
        if (all_hex(bytes_text(argument)))
                return unhex("the argument", bytes_text(argument), out);
        if (strcmp(argument, "-") != 0 && access(argument, R_OK) != 0)
                return fail(EXIT_USAGE, "'%s' is neither hexadecimal nor a file that can be read: %m", argument);
        return read_token_file(argument, out);
}

int read_key_line(const char *name, struct secret *ret) {
        char line[2 * SECRET_SIZE_MAX + 3];
        FILE *file = fopen(name, "re");
        bool got;
        int r;

        if (!file)
                return fail(EXIT_USAGE, "%s: %m", name);
        setvbuf(file, NULL, _IONBF, 0); /* no copy of the key in a buffer that nobody wipes */
        got = fgets(line, sizeof(line), file);
        fclose(file);
        if (!got)
                return fail(EXIT_USAGE, "%s: no key in it", name);
        line[strcspn(line, "\r\n")] = 0;
        r = bytes_from_hex(line, ret->data, sizeof(ret->data), &ret->size);
        wipe(line, sizeof(line));
        if (r != 0 || ret->size == 0)
                return fail(EXIT_USAGE, "%s: not hexadecimal of 1 to %d bytes", name, SECRET_SIZE_MAX);
        return 0;
}

int read_public_key(const char *argument, const char *option, struct public_key *ret) {
        _cleanup_(buf_wiped) struct buf given = BUF_INIT(PEM_SIZE_MAX); /* PEM may be of a private key */
        struct cose_key key;
        int status = read_argument(argument, &given);

        if (status != 0)
                return status;
        if (pem_public_key(buf_bytes(&given), ret) == 0 || public_key_from_spki(buf_bytes(&given), ret) == 0)
                return 0;
        if (cose_key_decode(buf_bytes(&given), &key) != 0 || key.is_bad || key.public_key.curve == CURVE_NONE)
                return fail(EXIT_USAGE, "--%s: no public key of P-256, P-384, Ed25519 or X25519, in PEM, as "
                                        "SubjectPublicKeyInfo or as COSE_Key", option);
        *ret = key.public_key;
        return 0;
}
