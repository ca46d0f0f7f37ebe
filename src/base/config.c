#include "base/config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/log.h"

#define PATH_SIZE_MAX 180 /* what fits a line of inih */
#define WHY_SIZE 192
#define OPTION_TEXT_MAX 4096

DEFINE_FREEP(struct config, config_free)

struct option;

/*
 * A kind of value. parse() checks text, says in why what is wrong with it and, when nothing is, sets the member.
 * print() gives text that parse() takes.
 */
struct kind {
        int (*parse)(const struct option *option, const char *text, struct config *config, char why[static WHY_SIZE]);
        int (*print)(const struct option *option, const struct config *config, struct buf *ret_text);
        bool is_number;
};

struct option {
        const char *section, *key;
        const struct kind *kind;
        size_t offset, count_offset; /* the member; for a list also how many there are */
        const char *initial;         /* the default, as it would stand in the file */
        int64_t min, max;            /* a number's range, a text's size, a list's length */
        bool fixed;                  /* takes effect at start, not at reload */
        const char *help;
};

/* ---- kinds */

static void *member(const struct option *option, struct config *config) {
        return (char *)config + option->offset;
}

static const void *const_member(const struct option *option, const struct config *config) {
        return (const char *)config + option->offset;
}

static int fault(char why[static WHY_SIZE], const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fault(char why[static WHY_SIZE], const char *format, ...) {
        va_list args;

        va_start(args, format);
        vsnprintf(why, WHY_SIZE, format, args);
        va_end(args);
        return -EINVAL;
}

static int number_parse(const struct option *option, const char *text, struct config *config,
                        char why[static WHY_SIZE]) {
        int64_t *value = member(option, config);
        char *end;
        long long n;

        if (!isdigit((unsigned char)*text))
                return fault(why, "is not a whole number");
        errno = 0;
        n = strtoll(text, &end, 10);
        if (*end != '\0')
                return fault(why, "is not a whole number");
        if (errno != 0 || n < option->min || n > option->max)
                return fault(why, "is not between %" PRId64 " and %" PRId64, option->min, option->max);
        *value = n;
        return 0;
}

static int number_print(const struct option *option, const struct config *config, struct buf *ret_text) {
        return buf_printf(ret_text, "%" PRId64, *(const int64_t *)const_member(option, config));
}

/* Printable ASCII without spaces: goes into tokens, logs and system calls as it is. */
static int word_parse(const struct option *option, const char *text, struct config *config,
                      char why[static WHY_SIZE]) {
        char **value = member(option, config), *copy;
        size_t size = strlen(text);

        if (size == 0 && option->min > 0)
                return fault(why, "is empty");
        if (size > (size_t)option->max)
                return fault(why, "is longer than %" PRId64 " characters", option->max);
        for (size_t i = 0; i < size; i++)
                if (text[i] <= ' ' || text[i] > '~')
                        return fault(why, "has a character that is not printable ASCII, or a space");
        copy = strdup(text);
        if (!copy)
                return -ENOMEM;
        free(*value);
        *value = copy;
        return 0;
}

static int word_print(const struct option *option, const struct config *config, struct buf *ret_text) {
        const char *value = *(char *const *)const_member(option, config);

        return buf_add(ret_text, bytes_text(value));
}

/* An absolute path; empty is NULL where it may be empty. */
static int path_parse(const struct option *option, const char *text, struct config *config,
                      char why[static WHY_SIZE]) {
        char **value = member(option, config), *copy;
        size_t size = strlen(text);

        if (size == 0 && option->min == 0) {
                freep(value);
                *value = NULL;
                return 0;
        }
        if (text[0] != '/')
                return fault(why, "is not an absolute path: it has to start with '/'");
        if (size > (size_t)option->max)
                return fault(why, "is longer than %" PRId64 " bytes", option->max);
        for (size_t i = 0, n; i < size; i += n) {
                n = bytes_utf8_size(bytes_of(text + i, size - i));
                if (n == 0)
                        return fault(why, "is not UTF-8"); /* the control socket shows it as JSON */
                if (iscntrl((unsigned char)text[i]))
                        return fault(why, "has a control character");
        }
        copy = strdup(text);
        if (!copy)
                return -ENOMEM;
        free(*value);
        *value = copy;
        return 0;
}

static const struct {
        const char *name;
        enum log_level level;
} levels[] = {
        { "error", LOG_LEVEL_ERROR }, { "warning", LOG_LEVEL_WARNING }, { "notice", LOG_LEVEL_NOTICE },
        { "info", LOG_LEVEL_INFO },   { "debug", LOG_LEVEL_DEBUG },
};

static int level_parse(const struct option *option, const char *text, struct config *config,
                       char why[static WHY_SIZE]) {
        for (size_t i = 0; i < N_ELEMENTS(levels); i++)
                if (strcmp(text, levels[i].name) == 0) {
                        *(int *)member(option, config) = levels[i].level;
                        return 0;
                }
        return fault(why, "is not one of error, warning, notice, info, debug");
}

static int level_print(const struct option *option, const struct config *config, struct buf *ret_text) {
        int level = *(const int *)const_member(option, config);

        for (size_t i = 0; i < N_ELEMENTS(levels); i++)
                if (level == (int)levels[i].level)
                        return buf_add(ret_text, bytes_text(levels[i].name));
        return -EINVAL;
}

static int switch_parse(const struct option *option, const char *text, struct config *config,
                        char why[static WHY_SIZE]) {
        bool yes = strcmp(text, "yes") == 0;

        if (!yes && strcmp(text, "no") != 0)
                return fault(why, "is not yes or no");
        *(bool *)member(option, config) = yes;
        return 0;
}

static int switch_print(const struct option *option, const struct config *config, struct buf *ret_text) {
        return buf_add(ret_text, bytes_text(*(const bool *)const_member(option, config) ? "yes" : "no"));
}

static bool port_is_valid(const char *text) {
        size_t n = strspn(text, "0123456789");

        return n > 0 && n <= 5 && text[n] == '\0' && strtoul(text, NULL, 10) <= UINT16_MAX;
}

/* host is "", "*", V4, "[V6]" or "[V6%INTERFACE-NUMBER]". */
static bool host_is_valid(const char *host, size_t size) {
        char text[INET6_ADDRSTRLEN + 16], *scope;
        struct in6_addr address;

        if (size == 0 || (size == 1 && *host == '*'))
                return true;
        if (size >= sizeof(text))
                return false;
        memcpy(text, host, size);
        text[size] = '\0';
        if (text[0] != '[')
                return inet_pton(AF_INET, text, &address) == 1;
        if (text[size - 1] != ']')
                return false;
        text[size - 1] = '\0';
        scope = strchr(text, '%');
        if (scope) {
                *scope++ = '\0';
                if (*scope == '\0' || strspn(scope, "0123456789") != strlen(scope) || strlen(scope) > 9)
                        return false;
        }
        return inet_pton(AF_INET6, text + 1, &address) == 1;
}

static bool listen_is_valid(const char *text) {
        const char *colon = strrchr(text, ':');

        return colon && port_is_valid(colon + 1) && host_is_valid(text, (size_t)(colon - text));
}

/* Port 0 is another port each time. */
static bool same_address(const struct config_listen *a, const struct config_listen *b) {
        return strcmp(a->text, b->text) == 0 && strtoul(strrchr(a->text, ':') + 1, NULL, 10) != 0;
}

static int listen_add(const struct option *option, const char *text, struct config_listen *items, unsigned *n_items,
                      char why[static WHY_SIZE]) {
        struct config_listen item;

        if (strlen(text) >= sizeof(item.text) || !listen_is_valid(text))
                return fault(why, "has '%.64s', which is not HOST:PORT, [V6]:PORT or *:PORT in numbers", text);
        if (*n_items == (unsigned)option->max)
                return fault(why, "has more than %" PRId64 " addresses", option->max);
        strcpy(item.text, text);
        for (unsigned i = 0; i < *n_items; i++)
                if (same_address(&items[i], &item))
                        return fault(why, "has '%s' twice", text);
        items[(*n_items)++] = item;
        return 0;
}

static int listen_parse(const struct option *option, const char *text, struct config *config,
                        char why[static WHY_SIZE]) {
        _cleanup_(freep) char *copy = strdup(text);
        struct config_listen items[CONFIG_LISTEN_MAX] = {};
        unsigned n_items = 0;
        char *rest = copy;
        int r;

        if (!copy)
                return -ENOMEM;
        for (const char *item; (item = strsep(&rest, ", \t")) != NULL;)
                if (*item && (r = listen_add(option, item, items, &n_items, why)) < 0)
                        return r;
        if (n_items < (unsigned)option->min)
                return fault(why, "names no address");
        memcpy(member(option, config), items, sizeof(items));
        *(unsigned *)((char *)config + option->count_offset) = n_items;
        return 0;
}

static int listen_print(const struct option *option, const struct config *config, struct buf *ret_text) {
        const struct config_listen *items = const_member(option, config);
        unsigned n_items = *(const unsigned *)((const char *)config + option->count_offset);
        int r = 0;

        for (unsigned i = 0; i < n_items && r == 0; i++)
                r = buf_printf(ret_text, "%s%s", i > 0 ? " " : "", items[i].text);
        return r;
}

static const struct kind NUMBER = { number_parse, number_print, true };
static const struct kind WORD = { word_parse, word_print, false };
static const struct kind PATH = { path_parse, word_print, false };
static const struct kind SWITCH = { switch_parse, switch_print, false };
static const struct kind LEVEL = { level_parse, level_print, false };
static const struct kind LISTEN = { listen_parse, listen_print, false };

/* ---- the table */

#define AT(name) offsetof(struct config, name)
#define LIST(name) offsetof(struct config, name), offsetof(struct config, n_##name)

/* Two options: KEY_rate and KEY_burst. */
#define RATE_MAX 1000000
#define RATE(key, name, rate, burst, what)                                                                      \
        { "limits", key "_rate", &NUMBER, AT(name##_rate), 0, rate, 0, RATE_MAX, false,                         \
          what ", a second; 0: no limit" },                                                                     \
        { "limits", key "_burst", &NUMBER, AT(name##_burst), 0, burst, 1, RATE_MAX, false,                      \
          what ", at once" }

/* What systemd makes for the unit stands at /var/lib and /run whatever the prefix, so these defaults do too. */
static const struct option options[] = {
        { "server", "state_directory", &PATH, AT(state_directory), 0, "/var/lib/aced", 1, PATH_SIZE_MAX, true,
          "where database, lock and sealing key are" },
        { "server", "issuer", &WORD, AT(issuer), 0, "aced", 1, 128, false,
          "the iss claim of tokens: how resource servers know this server" },
        { "server", "key_file", &PATH, AT(key_file), 0, "", 0, PATH_SIZE_MAX, true,
          "sealing key; empty: the systemd credential aced.key, else seal.key in the state directory" },
        { "server", "log_level", &LEVEL, AT(log_level), 0, "info", 0, 0, false,
          "what is logged: error, warning, notice, info or debug and what is above" },
        { "server", "audit_keep_s", &NUMBER, AT(audit_keep_s), 0, "31536000", 0, INT64_C(3153600000), false,
          "how long rows of the audit trail are kept; 0: for ever" },

        { "coap", "listen", &LISTEN, LIST(coap_listen), "*:5683", 0, CONFIG_LISTEN_MAX, true,
          "UDP addresses for CoAP without security: discovery only; empty: none" },
        { "coaps", "listen", &LISTEN, LIST(coaps_listen), "*:5684", 1, CONFIG_LISTEN_MAX, true,
          "UDP addresses for CoAP over DTLS" },
        { "coaps", "trust_anchors", &PATH, AT(trust_anchors), 0, "", 0, PATH_SIZE_MAX, false,
          "PEM file with the certificates that clients' certificates must lead to; empty: none is admitted" },

        { "control", "socket", &PATH, AT(control_socket), 0, "/run/aced/control.sock", 1,
          sizeof(((struct sockaddr_un *)0)->sun_path) - 1, true, "UNIX socket for administration" },
        { "control", "group", &WORD, AT(control_group), 0, "aced-admin", 0, 32, false,
          "group admitted to it beside root and the server's own user; empty: none" },

        { "token", "default_lifetime_s", &NUMBER, AT(default_lifetime_s), 0, "3600", 1, 315360000, false,
          "seconds a token lives when neither server nor policy says" },
        { "token", "max_lifetime_s", &NUMBER, AT(max_lifetime_s), 0, "86400", 1, 315360000, false,
          "seconds no token outlives, whoever says otherwise" },
        { "token", "new_key_for_unknown_kid", &SWITCH, AT(unknown_kid_makes_key), 0, "no", 0, 0, false,
          "whether a request that names a key which is not known gets a new one; else it is refused" },
        { "token", "trl_updates_max", &NUMBER, AT(trl_updates_max), 0, "32", 1, 128, false,
          "changes of the revocation list that a device can ask for (MAX_N of RFC 9770)" },
        { "token", "trl_batch_max", &NUMBER, AT(trl_batch_max), 0, "8", 1, 64, false,
          "of these, changes in one answer (MAX_DIFF_BATCH); never more than trl_updates_max" },
        { "token", "trl_label", &WORD, AT(trl_label), 0, "", 0, 64, false,
          "clients with this label see the whole revocation list; empty: none" },

        { "limits", "sessions_max", &NUMBER, AT(sessions_max), 0, "10000", 1, 1000000, false,
          "live DTLS sessions; the one idle longest goes for a new one" },
        { "limits", "handshakes_max", &NUMBER, AT(handshakes_max), 0, "1000", 1, 100000, false,
          "DTLS handshakes under way" },
        { "limits", "handshake_timeout_s", &NUMBER, AT(handshake_timeout_s), 0, "30", 1, 300, false,
          "seconds a handshake may take" },
        { "limits", "session_idle_s", &NUMBER, AT(session_idle_s), 0, "86400", 10, 31536000, false,
          "seconds after which an idle session is closed" },
        { "limits", "answers_per_peer_max", &NUMBER, AT(answers_per_peer_max), 0, "8", 1, 1024, false,
          "answers kept for each peer, to be given again to a duplicate" },
        { "limits", "batch_max", &NUMBER, AT(batch_max), 0, "256", 1, 1024, false,
          "requests in one commit" },
        { "limits", "pending_max", &NUMBER, AT(pending_max), 0, "4096", 1, 65536, false,
          "requests waiting for a commit; more are told to come back" },
        { "limits", "payload_max", &NUMBER, AT(payload_max), 0, "8192", 128, 8192, false,
          "bytes of a request's body over CoAP, in one message or in blocks" },
        { "limits", "block_bytes_max", &NUMBER, AT(block_bytes_max), 0, "16777216", 65536, 1073741824, false,
          "bytes of memory for bodies and answers in blocks, of all peers; the one unused longest goes" },
        { "limits", "block_bytes_per_peer_max", &NUMBER, AT(block_bytes_per_peer_max), 0, "131072", 16384, 33554432,
          false, "of these, bytes that one peer holds" },
        { "limits", "control_body_max", &NUMBER, AT(control_body_max), 0, "65536", 1024, 16777216, false,
          "bytes of a request's body at the control socket" },
        { "limits", "apply_body_max", &NUMBER, AT(apply_body_max), 0, "67108864", 1024, 1073741824, false,
          "bytes of a body with rows for acectl apply; in memory as long as they are applied" },
        { "limits", "tokens_per_client_max", &NUMBER, AT(tokens_per_client_max), 0, "1000", 1, 1000000, false,
          "live tokens of one client" },
        { "limits", "plain_peers_max", &NUMBER, AT(plain_peers_max), 0, "1024", 16, 65536, false,
          "addresses remembered at the coap door; the one unused longest goes for a new one" },
        { "limits", "pending_per_peer_max", &NUMBER, AT(pending_per_peer_max), 0, "512", 1, 65536, false,
          "requests of one peer waiting for a commit; never more than half of pending_max" },
        { "limits", "sources_max", &NUMBER, AT(sources_max), 0, "16384", 64, 4194304, false,
          "source addresses whose rates are known; the one unused longest goes for a new one" },
        { "limits", "observers_max", &NUMBER, AT(observers_max), 0, "10000", 0, 1000000, false,
          "observations of the revocation list by all devices; 0: none" },
        { "limits", "observers_per_peer_max", &NUMBER, AT(observers_per_peer_max), 0, "4", 1, 16, false,
          "of these, observations of one device's session" },
        { "limits", "oscore_contexts_max", &NUMBER, AT(oscore_contexts_max), 0, "100000", 1, 1000000, false,
          "OSCORE contexts in memory, and addresses that their requests came from; the one unused longest goes" },
        RATE("source_request", source_request, "20", "100",
             "coap requests of one source address"),
        RATE("source_hello", source_hello, "1000", "2000",
             "ClientHellos of one source address that have no valid cookie yet"),
        RATE("source_handshake", source_handshake, "20", "100",
             "handshakes of one source address, but for those that complete"),
        RATE("total_request", total_request, "1000", "2000",
             "coap requests of all source addresses together"),
        RATE("total_hello", total_hello, "50000", "50000",
             "ClientHellos without a valid cookie of all source addresses together"),
        RATE("peer_request", peer_request, "50", "200",
             "requests of one authenticated client"),
        RATE("server_request", server_request, "1000", "2000",
             "requests of one authenticated resource server"),
};

#define N_OPTIONS N_ELEMENTS(options)

bool config_option(unsigned n, const char **ret_section, const char **ret_key, const char **ret_help) {
        if (n >= N_OPTIONS)
                return false;
        *ret_section = options[n].section;
        *ret_key = options[n].key;
        *ret_help = options[n].help;
        return true;
}

const char *config_option_default(unsigned n) {
        return n < N_OPTIONS ? options[n].initial : NULL;
}

void config_free(struct config *config) {
        if (!config)
                return;
        for (size_t i = 0; i < N_OPTIONS; i++)
                if (options[i].kind == &PATH || options[i].kind == &WORD)
                        freep(member(&options[i], config));
        free(config);
}

static int config_defaults(struct config **ret) {
        _cleanup_(config_freep) struct config *config = calloc(1, sizeof(*config));
        char why[WHY_SIZE];
        int r;

        if (!config)
                return -ENOMEM;
        for (size_t i = 0; i < N_OPTIONS; i++)
                if ((r = options[i].kind->parse(&options[i], options[i].initial, config, why)) < 0)
                        return r;
        *ret = TAKE_PTR(config);
        return 0;
}

/* ---- reading */

struct load {
        const char *path;
        FILE *file;
        char *line;              /* getline()'s */
        size_t line_capacity;
        unsigned line_number;
        bool section_begun, section_known;
        unsigned seen[N_OPTIONS]; /* the line an option stands on; 0: nowhere */
        struct config *config;
        struct diags *diags;
        size_t n_faults;
        int r; /* < 0: what stopped us */
};

static void load_done(struct load *load) {
        if (load->file)
                fclose(load->file);
        free(load->line);
        config_free(load->config);
}

static void load_fault(struct load *load, unsigned line, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

static void load_fault(struct load *load, unsigned line, const char *format, ...) {
        char text[512];
        va_list args;

        va_start(args, format);
        vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        for (char *at = text; *at; at++) /* part of it is what the file says, and a terminal may obey */
                if (iscntrl((unsigned char)*at))
                        *at = '?';
        load->n_faults++;
        if (diags_add(load->diags, load->path, line, "%s", text) < 0)
                load->r = -ENOMEM;
}

static bool section_is_known(const char *name) {
        for (size_t i = 0; i < N_OPTIONS; i++)
                if (strcmp(options[i].section, name) == 0)
                        return true;
        return false;
}

/* "[name]": checked here because inih tells of a section only with its first key. */
static bool section_check(struct load *load, char *line) {
        char *end = strchr(line, ']'), name[64];

        load->section_begun = true;
        load->section_known = false;
        if (!end) {
                load_fault(load, load->line_number, "a section without ']'");
                return false;
        }
        if (end[1 + strspn(end + 1, " \t")] != '\0' && !strchr(";#", end[1 + strspn(end + 1, " \t")])) {
                load_fault(load, load->line_number, "more than a comment after ']'");
                return false;
        }
        snprintf(name, sizeof(name), "%.*s", (int)(end - line - 1), line + 1);
        load->section_known = section_is_known(name);
        if (!load->section_known)
                load_fault(load, load->line_number, "unknown section [%s]; there are server, coap, coaps, control, "
                           "token and limits", name);
        return load->section_known;
}

/*
 * Is this a line for inih? It tells of its first fault only, and takes an indented line for more of the value above; so
 * the shape of a line is checked here and the white space around it taken away.
 */
static bool line_check(struct load *load, char *line, size_t size, size_t max) {
        if (memchr(line, '\0', size)) {
                load_fault(load, load->line_number, "has a zero byte");
                return false;
        }
        if (*line == '\0' || strchr(";#", *line))
                return false;
        if (size > max) {
                load_fault(load, load->line_number, "is longer than %zu characters", max);
                return false;
        }
        if (*line == '[')
                return section_check(load, line);
        if (line[strcspn(line, "=")] == '\0' || *line == '=') {
                load_fault(load, load->line_number, "is neither [section], key = value nor a comment");
                return false;
        }
        return true;
}

/* inih's reader, after fgets(): always one whole line, so that inih's count and ours agree. */
static char *load_read(char *text, int text_size, void *stream) {
        struct load *load = stream;
        char *line;
        ssize_t n;

        errno = 0;
        n = getline(&load->line, &load->line_capacity, load->file);
        line = load->line;
        if (n < 0) {
                if (ferror(load->file) || errno == ENOMEM)
                        load->r = errno > 0 ? -errno : -EIO;
                return NULL;
        }
        load->line_number++;
        while (n > 0 && isspace((unsigned char)line[n - 1]))
                line[--n] = '\0';
        while (n > 0 && isspace((unsigned char)*line)) {
                line++;
                n--;
        }
        if (!line_check(load, line, (size_t)n, (size_t)text_size - 2))
                line = (char *)"";
        snprintf(text, (size_t)text_size, "%s\n", line);
        return text;
}

static const struct option *option_find(const char *section, const char *key) {
        for (size_t i = 0; i < N_OPTIONS; i++)
                if (strcmp(options[i].section, section) == 0 && strcmp(options[i].key, key) == 0)
                        return &options[i];
        return NULL;
}

/* inih's handler: one key and its value. It returns 1, for the count of faults is ours. */
static int load_value(void *user, const char *section, const char *key, const char *value) {
        struct load *load = user;
        const struct option *option = option_find(section, key);
        unsigned *seen;
        char why[WHY_SIZE];
        int r;

        if (!option) {
                if (!load->section_begun)
                        load_fault(load, load->line_number, "'%s' stands before any section", key);
                else if (load->section_known)
                        load_fault(load, load->line_number, "unknown key '%s' in [%s]", key, section);
                return 1; /* a key of an unknown section is part of that fault */
        }
        if (!load->section_known)
                return 1; /* inih kept the section before one that has a fault */
        seen = &load->seen[option - options];
        if (*seen != 0) {
                load_fault(load, load->line_number, "[%s] %s stands on line %u already", section, key, *seen);
                return 1;
        }
        *seen = load->line_number;
        r = option->kind->parse(option, value, load->config, why);
        if (r == -EINVAL)
                load_fault(load, load->line_number, "[%s] %s '%.64s' %s", section, key, value, why);
        else if (r < 0)
                load->r = r;
        return 1;
}

/* ---- what one line alone does not show */

static unsigned last_seen(const struct load *load, const char *section_a, const char *key_a, const char *section_b,
                          const char *key_b) {
        unsigned a = load->seen[option_find(section_a, key_a) - options];
        unsigned b = load->seen[option_find(section_b, key_b) - options];

        return a > b ? a : b;
}

static void load_check_lifetimes(struct load *load) {
        const struct config *config = load->config;

        if (config->default_lifetime_s > config->max_lifetime_s)
                load_fault(load, last_seen(load, "token", "default_lifetime_s", "token", "max_lifetime_s"),
                           "[token] default_lifetime_s (%" PRId64 ") is over max_lifetime_s (%" PRId64 ")",
                           config->default_lifetime_s, config->max_lifetime_s);
}

static void load_check_listen(struct load *load) {
        const struct config *config = load->config;

        for (unsigned i = 0; i < config->n_coap_listen; i++)
                for (unsigned j = 0; j < config->n_coaps_listen; j++)
                        if (same_address(&config->coap_listen[i], &config->coaps_listen[j]))
                                load_fault(load, last_seen(load, "coap", "listen", "coaps", "listen"),
                                           "[coap] listen and [coaps] listen both have '%s'",
                                           config->coap_listen[i].text);
}

static int load_file(struct load *load) {
        load->file = fopen(load->path, "re");
        if (!load->file)
                return -errno;
        (void)ini_parse_stream(load_read, load, load_value, load);
        return load->r;
}

int config_load(const char *path, struct config **ret, struct diags *diags) {
        _cleanup_(load_done) struct load load = { .path = path, .diags = diags };
        int r = config_defaults(&load.config);

        if (r < 0)
                return r;
        if (path) {
                r = load_file(&load);
                if (r < 0 && r != -ENOENT && r != -ENOMEM && diags_add(diags, path, 0, "%s", strerror(-r)) < 0)
                        return -ENOMEM;
                if (r < 0)
                        return r;
                load_check_lifetimes(&load);
                load_check_listen(&load);
        }
        if (load.r < 0)
                return load.r;
        if (load.n_faults > 0)
                return -EINVAL;
        *ret = TAKE_PTR(load.config);
        return 0;
}

/* ---- reload and show */

/* Zero-terminated text of a value. */
static int option_text(const struct option *option, const struct config *config, struct buf *ret_text) {
        int r = option->kind->print(option, config, ret_text);

        return r < 0 ? r : buf_add_byte(ret_text, '\0');
}

static int option_keep(const struct option *option, struct config *config, const struct config *running,
                       struct diags *diags) {
        _cleanup_(buf_done) struct buf wanted = BUF_INIT(OPTION_TEXT_MAX), is = BUF_INIT(OPTION_TEXT_MAX);
        char why[WHY_SIZE];
        int r;

        if ((r = option_text(option, config, &wanted)) < 0 || (r = option_text(option, running, &is)) < 0)
                return r;
        if (bytes_equal(buf_bytes(&wanted), buf_bytes(&is)))
                return 0;
        r = diags_add(diags, NULL, 0, "[%s] %s '%s' takes effect when aced is started again; until then it is '%s'",
                      option->section, option->key, (char *)wanted.data, (char *)is.data);
        if (r < 0)
                return r;
        return option->kind->parse(option, (char *)is.data, config, why);
}

int config_keep_fixed(struct config *config, const struct config *running, struct diags *diags) {
        int r = 0;

        for (size_t i = 0; i < N_OPTIONS && r == 0; i++)
                if (options[i].fixed)
                        r = option_keep(&options[i], config, running, diags);
        return r;
}

static json_t *value_json(const struct option *option, const char *text) {
        return option->kind->is_number ? json_integer(strtoll(text, NULL, 10)) : json_string(text);
}

static int option_json(const struct option *option, const struct config *config, json_t *items) {
        _cleanup_(buf_done) struct buf text = BUF_INIT(OPTION_TEXT_MAX);
        json_t *item;
        int r = option_text(option, config, &text);

        if (r < 0)
                return r;
        item = json_pack("{s:s, s:s, s:o, s:o, s:s}", "section", option->section, "key", option->key, "value",
                         value_json(option, (char *)text.data), "default", value_json(option, option->initial), "help",
                         option->help);
        return item && json_array_append_new(items, item) == 0 ? 0 : -ENOMEM;
}

struct json_writer {
        struct buf *buf;
        int r;
};

/* jansson 2.14 goes on after a failure to write the key of an object: the first failure is remembered here. */
static int json_to_buf(const char *text, size_t size, void *context) {
        struct json_writer *writer = context;

        if (writer->r == 0)
                writer->r = buf_add(writer->buf, bytes_of(text, size));
        return writer->r == 0 ? 0 : -1;
}

int config_print(const struct config *config, struct buf *ret_json) {
        _cleanup_(json_decrefp) json_t *items = json_array(), *whole = NULL;
        struct json_writer writer = { .buf = ret_json };
        int r = items ? 0 : -ENOMEM;

        for (size_t i = 0; i < N_OPTIONS && r == 0; i++)
                r = option_json(&options[i], config, items);
        if (r < 0)
                return r;
        whole = json_pack("{s:O, s:n}", "items", items, "next");
        if (!whole)
                return -ENOMEM;
        if (json_dump_callback(whole, json_to_buf, &writer, JSON_COMPACT) != 0 && writer.r == 0)
                return -ENOMEM;
        return writer.r;
}
