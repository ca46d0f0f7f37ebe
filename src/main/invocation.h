#pragma once

#include <curl/curl.h>
#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "main/print.h"

struct diags;

/* What the files of acectl share: how verbs are described, one call of the program, its requests. */

/* acectl(1) says so too */
enum status {
        STATUS_DONE = 0,
        STATUS_REFUSED = 1,     /* by aced, or by what init and config check found */
        STATUS_USAGE = 2,
        STATUS_UNREACHABLE = 3, /* no aced at the socket, or no permission for it */
        STATUS_INTERNAL = 4,    /* something broke, here or in aced */
};

/* ---- the verbs */

enum option_kind {
        OPTION_TEXT,
        OPTION_LIST, /* may be given again: an array; one empty value: an empty array */
        OPTION_INT,
        OPTION_BOOL, /* yes or no */
        OPTION_FLAG, /* takes no value: true */
        OPTION_TIME, /* RFC 3339 in UTC, or seconds since 1970 */
        OPTION_PUBLIC_KEY_FILE, /* PEM: the public key in it, as hexadecimal */
        OPTION_RULE_FILE,       /* PEM: the rule that a certificate with that key fits */
};

struct option {
        const char *name, *member;
        enum option_kind kind;
        const char *value, *help;
};

/* What stands without a dash: member NULL fills the next {} of the path, else it is a member of the request. */
struct argument {
        const char *name, *member;
        bool optional;
};

struct invocation;

struct verb {
        const char *words;
        struct argument arguments[4];
        const struct option *options;       /* up to one without a name */
        const char *method, *path;
        const struct print_column *columns; /* of a list; NULL: one object */
        const char *fixed;                  /* a member that is always sent, and its value */
        bool fixed_value;
        bool needs_option;                  /* without any nothing would change */
        bool is_text;                       /* the answer is no JSON */
        int (*run)(struct invocation *invocation); /* instead of a request */
        const char *help;
};

struct word {
        const char *text;
        bool plain; /* behind "--": never an option */
};

struct invocation {
        const char *socket;
        enum print_format format;
        bool help, version;
        struct word *words; /* what is left once the global options are out */
        size_t n_words;
        const struct verb *verb;
        json_t *values;      /* members of the request */
        const char *path_values[N_ELEMENTS(((struct verb *)NULL)->arguments)];
        size_t n_path_values;
};

/* ---- what is said */

/* "acectl: …" to standard error, without control characters. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* STATUS_INTERNAL */
int out_of_memory(void);
/* A line each; STATUS_REFUSED. */
int say_diags(const struct diags *diags);
/* All that was printed is out, or it has been said why not. r: of the printing; a status. */
int check_printed(int r);

/* RFC 3339 in UTC, to the second; or seconds since 1970. */
bool time_parse(const char *text, json_int_t *ret);

/* ---- requests */

#define ANSWER_MAX ((size_t)32 * 1024 * 1024)

struct answer {
        long http_status;
        struct buf body;
        json_t *json; /* NULL: no body */
};

/* A key may be in it: wiped. */
void answer_done(struct answer *answer);
/* For CURLOPT_WRITEFUNCTION, with a struct answer that has a limit. */
size_t on_body(char *data, size_t size, size_t n, void *context);

/* One request for the verb; after: from which item on a list is wanted. Says itself what went wrong. */
int request_send(const struct invocation *invocation, const json_t *after, struct answer *answer);
/* curl has the whole request: send it, judge the answer. */
int request_perform(const struct invocation *invocation, CURL *curl, struct answer *answer);
/*
 * GET url, whose answer comes in pieces and may take any time, but not stand still. take() says itself what went wrong
 * with one, and what it returns then ends it all. A status.
 */
int request_stream(const struct invocation *invocation, const char *url, int (*take)(void *context, struct bytes piece),
                   void *context);
/* curl has failed: say why, what to do next. STATUS_UNREACHABLE. */
int unreachable(const struct invocation *invocation, CURL *curl, CURLcode code);
/* What aced said no with: what is wrong, where, what to do next. A status. */
int refused(const struct invocation *invocation, const struct answer *answer);

DEFINE_FREEP(CURL, curl_easy_cleanup)
DEFINE_FREEP(struct curl_slist, curl_slist_free_all)
