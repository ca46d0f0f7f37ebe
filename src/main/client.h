#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/secret.h"
#include "crypto/key.h"
#include "format/describe.h"
#include "main/talk.h"

/* What the files of aceclient share: what the command line said, how results and faults are shown. */

/* aceclient(1) says so too */
enum exit_status {
        EXIT_DONE = 0,
        EXIT_REFUSED = 1,
        EXIT_USAGE = 2,
        EXIT_NO_CONTACT = 3,
        EXIT_INTERNAL = 4,
};

#define VALUE_SIZE_MAX 1024 /* bytes of one option's value */

enum output { OUTPUT_TEXT, OUTPUT_JSON, OUTPUT_CBOR };

/* The bytes of an option, and whether they were given as text. */
struct value {
        bool set, is_text;
        size_t size;
        uint8_t data[VALUE_SIZE_MAX];
};

struct settings {
        const char *server, *server_name, *private_key, *certificate, *anchors, *oscore;
        struct value identity, audience, scope, kid, client_id, cnonce, req_cnf;
        struct secret key, wrap_key, derivation_key;
        struct public_key server_key, as_key; /* CURVE_NONE: not given */
        enum curve curve;                     /* of a new pair */
        bool any_server, profile, observe, refresh_token, renew;
        enum output output;
        long timeout_s;
        const char *diff, *cursor; /* decimal */
        uint64_t count;            /* of answers and notifications; 0: no end */
};

void settings_done(struct settings *settings);

static inline struct bytes value_bytes(const struct value *value) {
        return value->set ? bytes_of(value->data, value->size) : BYTES_NONE;
}

#define PEM_SIZE_MAX (16 * 1024) /* of a file of keys or certificates */

/* It may hold a key: forgotten before it is freed. */
void answer_wiped(struct talk_answer *answer);

/* ---- what goes wrong: tell stderr, return the status */

int fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
int out_of_memory(void);

/* ---- what comes out, on standard output; exit statuses */

int show(const struct settings *settings, const json_t *value);
int show_bytes(struct bytes bytes);
/* An answer as names; EXIT_REFUSED, said on stderr, too, by its code. */
int show_answer(const struct settings *settings, const struct talk_answer *answer, enum vocabulary vocabulary);

/* ---- what goes in; exit statuses */

/* A file's content, at most the buffer's limit; "-": standard input. */
int read_file(const char *name, struct buf *out);
/* "Hexadecimal, a file of bytes or of hexadecimal, or -". */
int read_argument(const char *argument, struct buf *out);
/* The first line of a file: a key in hexadecimal, as acectl prints keys. */
int read_key_line(const char *name, struct secret *ret);
/* A public key: PEM, SubjectPublicKeyInfo or COSE_Key, as read_argument() reads it. */
int read_public_key(const char *argument, const char *option, struct public_key *ret);

/* ---- one request */

/* Ask settings->server and wait. Exit status; on EXIT_DONE *answer is there, whatever its code. */
int ask_once(const struct settings *settings, const struct talk_ask *ask, struct talk_answer *answer);

/* Whom to ask, and as whom. */
struct caller {
        bool secure;
        char host[256];
        char port[8];
        char path[256]; /* "": the verb's own */
        struct device_identity *identity;
        struct numbers numbers;
        struct context context;
        struct talk talk;
};

#define CALLER_INIT ((struct caller){ .talk = TALK_INIT })

/* From CALLER_INIT: settings->server is there, and caller->talk open. caller_done() whatever comes. */
int caller_begin(const struct settings *settings, struct caller *caller);
void caller_done(struct caller *caller);
/* What talk_*() returned, as a status, having said what is wrong. */
int talk_status(const struct talk *talk, int r);

/* ---- the verbs */

typedef int client_verb(const struct settings *settings, char *const *arguments);
client_verb verb_token, verb_refresh, verb_revoke, verb_introspect, verb_trl, verb_discover, verb_decode, verb_keygen;

/* An answer of the token endpoint stands for what is in it under label. False: these bytes are no such answer. */
bool token_in_answer(struct bytes bytes, int label, struct bytes *ret);
