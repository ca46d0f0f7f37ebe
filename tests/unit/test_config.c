#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/config.h"
#include "base/log.h"

DEFINE_FREEP(struct config, config_free)

/* A file of its own for every text; gone when the test is. */
struct file {
        char path[32];
};

static void file_done(struct file *file) {
        unlink(file->path);
}

static void file_write(struct file *file, struct bytes content) {
        int fd;

        strcpy(file->path, "/tmp/aced-config-XXXXXX");
        fd = mkstemp(file->path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, content.data, content.size), content.size);
        close(fd);
}

static int load(struct bytes content, struct config **ret, struct diags *diags) {
        _cleanup_(file_done) struct file file;
        int r;

        file_write(&file, content);
        r = config_load(file.path, ret, diags);
        for (size_t i = 0; i < diags->n_items; i++)
                assert_string_equal(diags->items[i].file, file.path);
        return r;
}

/* "LINE: text" of every fault, one a line. */
static void faults_text(const struct diags *diags, char *text, size_t size) {
        size_t at = 0;

        text[0] = '\0';
        for (size_t i = 0; i < diags->n_items && at < size; i++)
                at += (size_t)snprintf(text + at, size - at, "%u: %s\n", diags->items[i].line, diags->items[i].text);
}

static void defaults_are_valid(void **state) {
        _cleanup_(config_freep) struct config *config = NULL;
        _cleanup_(diags_done) struct diags diags = {};

        assert_int_equal(config_load(NULL, &config, &diags), 0);
        assert_int_equal(diags.n_items, 0);
        assert_string_equal(config->state_directory, "/var/lib/aced");
        assert_null(config->key_file);
        assert_int_equal(config->log_level, LOG_LEVEL_INFO);
        assert_int_equal(config->audit_keep_s, 365 * 86400);
        assert_int_equal(config->n_coap_listen, 1);
        assert_string_equal(config->coaps_listen[0].text, "*:5684");
        assert_int_equal(config->default_lifetime_s, 3600);
        assert_false(config->unknown_kid_makes_key);
        assert_int_equal(config->tokens_per_client_max, 1000);
}

static void values_are_read(void **state) {
        static const char text[] =
                "; a comment\n# another\n\n"
                "[server]\n"
                "state_directory = /srv/aced ; behind a value\n"
                "  issuer=coaps://as.example.com\n"   /* indented: a key, not more of the value above */
                "\tkey_file = /etc/aced/a key\r\n"
                "log_level = debug\n"
                "[coap] # nothing but CoAPS\n"
                "listen =\n"
                "[coaps]\n"
                "listen = 127.0.0.1:0, [::1]:0\t:5684 *:61616,[fe80::1%2]:5684\n"
                "[token]\n"
                "new_key_for_unknown_kid = yes\n"
                "[limits]\n"
                "sessions_max = 1000000\n"
                "handshakes_max = 0001\n"
                "[control]\n"
                "group =\n"
                "socket = /run/x.sock";               /* the last line need not end */
        _cleanup_(config_freep) struct config *config = NULL;
        _cleanup_(diags_done) struct diags diags = {};
        char faults[4096];
        int r = load(bytes_text(text), &config, &diags);

        faults_text(&diags, faults, sizeof(faults));
        assert_string_equal(faults, "");
        assert_int_equal(r, 0);
        assert_string_equal(config->state_directory, "/srv/aced");
        assert_string_equal(config->issuer, "coaps://as.example.com");
        assert_string_equal(config->key_file, "/etc/aced/a key");
        assert_int_equal(config->log_level, LOG_LEVEL_DEBUG);
        assert_int_equal(config->n_coap_listen, 0);
        assert_int_equal(config->n_coaps_listen, 5);
        assert_string_equal(config->coaps_listen[0].text, "127.0.0.1:0");
        assert_string_equal(config->coaps_listen[2].text, ":5684");
        assert_string_equal(config->coaps_listen[4].text, "[fe80::1%2]:5684");
        assert_int_equal(config->sessions_max, 1000000);
        assert_int_equal(config->handshakes_max, 1);
        assert_true(config->unknown_kid_makes_key);
        assert_string_equal(config->control_group, "");
        assert_string_equal(config->control_socket, "/run/x.sock");
}

#define NUMBER_80 "01234567890123456789012345678901234567890123456789012345678901234567890123456789"

static const struct {
        struct bytes text;
        const char *faults;
} faulty[] = {
        { BYTES_LITERAL("issuer = x\n"), "1: 'issuer' stands before any section\n" },
        { BYTES_LITERAL("[serve]\nissuer = x\nnonsense = y\n"),
          "1: unknown section [serve]; there are server, coap, coaps, control, token and limits\n" },
        { BYTES_LITERAL("[server]\n[]\n"),
          "2: unknown section []; there are server, coap, coaps, control, token and limits\n" },
        { BYTES_LITERAL("[server]\nisuer = x\n"), "2: unknown key 'isuer' in [server]\n" },
        { BYTES_LITERAL("[server]\nsessions_max = 5\n"), "2: unknown key 'sessions_max' in [server]\n" },
        { BYTES_LITERAL("[Server]\n"),
          "1: unknown section [Server]; there are server, coap, coaps, control, token and limits\n" },
        { BYTES_LITERAL("[server\nissuer = x\n"), "1: a section without ']'\n" },
        { BYTES_LITERAL("[server] issuer = x\n"), "1: more than a comment after ']'\n" },
        { BYTES_LITERAL("[server]\nissuer\n"), "2: is neither [section], key = value nor a comment\n" },
        { BYTES_LITERAL("[server]\n= x\n"), "2: is neither [section], key = value nor a comment\n" },
        { BYTES_LITERAL("[server]\nissuer = a\n\nissuer = b\n"), "4: [server] issuer stands on line 2 already\n" },
        { BYTES_LITERAL("[server]\nissuer = a\n[coap]\n[server]\nissuer = a\n"),
          "5: [server] issuer stands on line 2 already\n" },
        { BYTES_LITERAL("[server]\nissuer = a\0b\n"), "2: has a zero byte\n" },
        { BYTES_LITERAL("[server]\nissuer = " NUMBER_80 NUMBER_80 NUMBER_80 "\nissue = x\n"),
          "2: is longer than 198 characters\n3: unknown key 'issue' in [server]\n" },

        { BYTES_LITERAL("[server]\nstate_directory = state\n"),
          "2: [server] state_directory 'state' is not an absolute path: it has to start with '/'\n" },
        { BYTES_LITERAL("[server]\nstate_directory =\n"),
          "2: [server] state_directory '' is not an absolute path: it has to start with '/'\n" },
        { BYTES_LITERAL("[server]\nkey_file = ~/key\n"),
          "2: [server] key_file '~/key' is not an absolute path: it has to start with '/'\n" },
        { BYTES_LITERAL("[server]\nkey_file = /a\x01z\n"), "2: [server] key_file '/a?z' has a control character\n" },
        { BYTES_LITERAL("[server]\nkey_file = /\xff\n"), "2: [server] key_file '/\xff' is not UTF-8\n" },
        { BYTES_LITERAL("[control]\nsocket = /" NUMBER_80 NUMBER_80 "\n"),
          "2: [control] socket '/012345678901234567890123456789012345678901234567890123456789012' is longer than 107 "
          "bytes\n" },
        { BYTES_LITERAL("[server]\nissuer =\n"), "2: [server] issuer '' is empty\n" },
        { BYTES_LITERAL("[server]\nissuer = a b\n"),
          "2: [server] issuer 'a b' has a character that is not printable ASCII, or a space\n" },
        { BYTES_LITERAL("[server]\nissuer = caf\xc3\xa9\n"),
          "2: [server] issuer 'caf\xc3\xa9' has a character that is not printable ASCII, or a space\n" },
        { BYTES_LITERAL("[control]\ngroup = " NUMBER_80 "\n"),
          "2: [control] group '0123456789012345678901234567890123456789012345678901234567890123' is longer than 32 "
          "characters\n" },
        { BYTES_LITERAL("[server]\nlog_level = INFO\n"),
          "2: [server] log_level 'INFO' is not one of error, warning, notice, info, debug\n" },
        { BYTES_LITERAL("[server]\nlog_level = 7\n"),
          "2: [server] log_level '7' is not one of error, warning, notice, info, debug\n" },

        { BYTES_LITERAL("[limits]\nbatch_max = many\n"), "2: [limits] batch_max 'many' is not a whole number\n" },
        { BYTES_LITERAL("[limits]\nbatch_max = 1.5\n"), "2: [limits] batch_max '1.5' is not a whole number\n" },
        { BYTES_LITERAL("[limits]\nbatch_max = 5k\n"), "2: [limits] batch_max '5k' is not a whole number\n" },
        { BYTES_LITERAL("[limits]\nbatch_max =\n"), "2: [limits] batch_max '' is not a whole number\n" },
        { BYTES_LITERAL("[limits]\nbatch_max = -1\n"), "2: [limits] batch_max '-1' is not a whole number\n" },
        { BYTES_LITERAL("[limits]\nbatch_max = 0\n"), "2: [limits] batch_max '0' is not between 1 and 1024\n" },
        { BYTES_LITERAL("[limits]\nbatch_max = 1025\n"), "2: [limits] batch_max '1025' is not between 1 and 1024\n" },
        { BYTES_LITERAL("[limits]\nbatch_max = 18446744073709551617\n"),
          "2: [limits] batch_max '18446744073709551617' is not between 1 and 1024\n" },

        { BYTES_LITERAL("[coaps]\nlisten =\n"), "2: [coaps] listen '' names no address\n" },
        { BYTES_LITERAL("[coaps]\nlisten = , ,\n"), "2: [coaps] listen ', ,' names no address\n" },
        { BYTES_LITERAL("[coaps]\nlisten = 127.0.0.1:1 localhost:2\n"),
          "2: [coaps] listen '127.0.0.1:1 localhost:2' has 'localhost:2', which is not HOST:PORT, [V6]:PORT or *:PORT "
          "in numbers\n" },
        { BYTES_LITERAL("[coaps]\nlisten = *:1 *:2 *:1\n"), "2: [coaps] listen '*:1 *:2 *:1' has '*:1' twice\n" },
        { BYTES_LITERAL("[coaps]\nlisten = *:1 *:2 *:3 *:4 *:5 *:6 *:7 *:8 *:9\n"),
          "2: [coaps] listen '*:1 *:2 *:3 *:4 *:5 *:6 *:7 *:8 *:9' has more than 8 addresses\n" },
        { BYTES_LITERAL("[coaps]\nlisten = *:5683\n"), "2: [coap] listen and [coaps] listen both have '*:5683'\n" },

        { BYTES_LITERAL("[token]\nnew_key_for_unknown_kid = true\n"),
          "2: [token] new_key_for_unknown_kid 'true' is not yes or no\n" },
        { BYTES_LITERAL("[token]\nnew_key_for_unknown_kid =\n"),
          "2: [token] new_key_for_unknown_kid '' is not yes or no\n" },
        { BYTES_LITERAL("[token]\nmax_lifetime_s = 600\n"),
          "2: [token] default_lifetime_s (3600) is over max_lifetime_s (600)\n" },
        { BYTES_LITERAL("[token]\ndefault_lifetime_s = 601\nmax_lifetime_s = 600\n"),
          "3: [token] default_lifetime_s (601) is over max_lifetime_s (600)\n" },

        /* all of them at once */
        { BYTES_LITERAL("[server]\nissuer = a b\nx = y\n[token]\nmax_lifetime_s = 0\n[zzz]\nlost\n"),
          "2: [server] issuer 'a b' has a character that is not printable ASCII, or a space\n"
          "3: unknown key 'x' in [server]\n"
          "5: [token] max_lifetime_s '0' is not between 1 and 315360000\n"
          "6: unknown section [zzz]; there are server, coap, coaps, control, token and limits\n"
          "7: is neither [section], key = value nor a comment\n" },
};

static void faults_are_named_with_their_line(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(faulty); i++) {
                _cleanup_(diags_done) struct diags diags = {};
                struct config *config = (struct config *)&diags;
                char faults[4096];
                int r = load(faulty[i].text, &config, &diags);

                faults_text(&diags, faults, sizeof(faults));
                assert_string_equal(faults, faulty[i].faults);
                assert_int_equal(r, -EINVAL);
                assert_ptr_equal(config, &diags); /* untouched */
        }
}

static void addresses_are_checked(void **state) {
        static const struct {
                const char *text;
                bool valid;
        } cases[] = {
                { "127.0.0.1:5684", true },    { "0.0.0.0:0", true },       { "[::]:5684", true },
                { "[2001:db8::1]:1", true },   { ":65535", true },          { "*:1", true },
                { "[fe80::1%3]:5684", true },  { "[::ffff:1.2.3.4]:1", true },
                { "127.0.0.1", false },        { "127.0.0.1:", false },     { "127.0.0.1:65536", false },
                { "127.0.0.1:-1", false },     { "127.0.0.1:+1", false },   { "127.0.0.1:1a", false },
                { "127.0.0.1:000001", false }, { "127.0.0:1", false },      { "::1:5684", false },
                { "[::1]", false },            { "[::1:5684", false },      { "[::1]5684", false },
                { "[127.0.0.1]:1", false },    { "[::1]x:1", false },       { "[]:1", false },
                { "[fe80::1%]:1", false },     { "[fe80::1%eth0]:1", false }, { "**:1", false },
                { "as.example.com:5684", false }, { "5684", false },        { ":", false },
                { "[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc]:1", false },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(config_freep) struct config *config = NULL;
                _cleanup_(diags_done) struct diags diags = {};
                char text[256];

                snprintf(text, sizeof(text), "[coaps]\nlisten = %s\n", cases[i].text);
                if (load(bytes_text(text), &config, &diags) != (cases[i].valid ? 0 : -EINVAL))
                        fail_msg("%s", cases[i].text);
        }
}

static void files_that_cannot_be_read(void **state) {
        struct config *config = NULL;
        _cleanup_(diags_done) struct diags diags = {};

        assert_int_equal(config_load("/nowhere/aced.conf", &config, &diags), -ENOENT);
        assert_int_equal(diags.n_items, 0);
        assert_int_equal(config_load("/tmp", &config, &diags), -EISDIR);
        assert_int_equal(diags.n_items, 1);
        assert_string_equal(diags.items[0].file, "/tmp");
        assert_null(config);
}

/* ---- reload */

static void fixed_options_keep_running_values(void **state) {
        _cleanup_(config_freep) struct config *running = NULL, *wanted = NULL;
        _cleanup_(diags_done) struct diags diags = {};
        char notes[4096];

        assert_int_equal(load(BYTES_LITERAL("[server]\nstate_directory = /a\nissuer = a\n[coaps]\nlisten = :1 :2\n"),
                              &running, &diags), 0);
        assert_int_equal(load(BYTES_LITERAL("[server]\nstate_directory = /b\nissuer = b\nkey_file = /k\n"
                                            "[coaps]\nlisten = :1\n[limits]\nsessions_max = 7\n"),
                              &wanted, &diags), 0);
        assert_int_equal(config_keep_fixed(wanted, running, &diags), 0);
        faults_text(&diags, notes, sizeof(notes));
        assert_string_equal(notes,
                "0: [server] state_directory '/b' takes effect when aced is started again; until then it is '/a'\n"
                "0: [server] key_file '/k' takes effect when aced is started again; until then it is ''\n"
                "0: [coaps] listen ':1' takes effect when aced is started again; until then it is ':1 :2'\n");
        assert_string_equal(wanted->state_directory, "/a");
        assert_string_equal(wanted->issuer, "b");
        assert_null(wanted->key_file);
        assert_int_equal(wanted->n_coaps_listen, 2);
        assert_string_equal(wanted->coaps_listen[1].text, ":2");
        assert_int_equal(wanted->sessions_max, 7);
}

/* ---- the table, its documents and its print */

static void print_has_every_option(void **state) {
        _cleanup_(config_freep) struct config *config = NULL;
        _cleanup_(diags_done) struct diags diags = {};
        _cleanup_(buf_done) struct buf json = BUF_INIT(65536), tiny = BUF_INIT(100);
        _cleanup_(json_decrefp) json_t *whole = NULL;
        const char *section, *key, *help;
        unsigned n = 0;

        assert_int_equal(load(BYTES_LITERAL("[coaps]\nlisten = :1,:2\n[limits]\nbatch_max = 5\n"), &config, &diags), 0);
        assert_int_equal(config_print(config, &json), 0);
        assert_int_equal(config_print(config, &tiny), -EOVERFLOW);
        whole = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(whole);
        for (; config_option(n, &section, &key, &help); n++) {
                const json_t *item = json_array_get(json_object_get(whole, "items"), n);
                const json_t *value = json_object_get(item, "value"), *initial = json_object_get(item, "default");

                assert_string_equal(json_string_value(json_object_get(item, "section")), section);
                assert_string_equal(json_string_value(json_object_get(item, "key")), key);
                assert_string_equal(json_string_value(json_object_get(item, "help")), help);
                if (strcmp(key, "batch_max") == 0) {
                        assert_int_equal(json_integer_value(value), 5);
                        assert_int_equal(json_integer_value(initial), 256);
                } else if (strcmp(section, "coaps") == 0 && strcmp(key, "listen") == 0) {
                        assert_string_equal(json_string_value(value), ":1 :2");
                } else {
                        assert_true(json_equal(value, initial));
                }
        }
        assert_true(n >= 20);
        assert_int_equal(json_array_size(json_object_get(whole, "items")), n);
        assert_true(json_is_null(json_object_get(whole, "next")));
        assert_null(config_option_default(n));
}

static struct buf document(const char *name) {
        const char *root = getenv("ACED_SRCDIR");
        struct buf text = BUF_INIT(1 << 20);
        char path[4096];
        uint8_t *space;
        FILE *file;
        size_t n;

        snprintf(path, sizeof(path), "%s/%s", root ? root : ".", name);
        file = fopen(path, "r");
        assert_non_null(file);
        do {
                assert_int_equal(buf_reserve(&text, 4096, &space), 0);
                n = fread(space, 1, 4096, file);
                buf_added(&text, n);
        } while (n > 0);
        fclose(file);
        return text;
}

/* Each key once, under its section, commented out, with its default. */
static void shipped_file_lists_every_option(void **state) {
        _cleanup_(buf_done) struct buf text = document("etc/aced.conf");
        const char *section, *key, *help;
        unsigned n_lines = 0;

        assert_int_equal(buf_add_byte(&text, 0), 0);
        for (const char *at = (const char *)text.data; (at = strstr(at, "\n#")) != NULL; at++)
                n_lines += at[2] != ' ' && at[2] != '\n';
        for (unsigned n = 0; config_option(n, &section, &key, &help); n++, n_lines--) {
                const char *initial = config_option_default(n), *begin, *end, *line;
                char wanted[256];

                snprintf(wanted, sizeof(wanted), "\n[%s]\n", section);
                begin = strstr((const char *)text.data, wanted);
                if (!begin) {
                        fail_msg("etc/aced.conf: no section [%s]", section);
                        return;
                }
                end = strstr(begin + 1, "\n[");
                snprintf(wanted, sizeof(wanted), "\n#%s =%s%s\n", key, *initial ? " " : "", initial);
                line = strstr(begin, wanted);
                if (!line || (end && line > end))
                        fail_msg("etc/aced.conf: [%s] has no line '%s'", section, wanted + 1);
        }
        assert_int_equal(n_lines, 0);
}

static void shipped_file_loads(void **state) {
        _cleanup_(buf_done) struct buf text = document("etc/aced.conf");
        _cleanup_(buf_done) struct buf print = BUF_INIT(65536), other = BUF_INIT(65536);
        _cleanup_(config_freep) struct config *config = NULL, *defaults = NULL, *shipped = NULL;
        _cleanup_(diags_done) struct diags diags = {};
        char faults[4096];

        assert_int_equal(load(buf_bytes(&text), &shipped, &diags), 0);
        /* and with every key live: the same, the defaults */
        for (size_t i = 0; i + 1 < text.size; i++)
                if (text.data[i] == '#' && text.data[i + 1] != ' ' && text.data[i + 1] != '\n')
                        text.data[i] = ' ';
        load(buf_bytes(&text), &config, &diags);
        faults_text(&diags, faults, sizeof(faults));
        assert_string_equal(faults, "");
        assert_int_equal(config_load(NULL, &defaults, &diags), 0);
        assert_int_equal(config_print(config, &print), 0);
        assert_int_equal(config_print(defaults, &other), 0);
        assert_true(bytes_equal(buf_bytes(&print), buf_bytes(&other)));
        buf_clear(&print);
        assert_int_equal(config_print(shipped, &print), 0);
        assert_true(bytes_equal(buf_bytes(&print), buf_bytes(&other)));
}

/* aced.conf(5) has one entry ".It Cm KEY" a key in the section's list, and says its default. */
static void manual_names_every_option(void **state) {
        _cleanup_(buf_done) struct buf text = document("man/aced.conf.5");
        const char *section, *key, *help;
        unsigned n_entries = 0;

        assert_int_equal(buf_add_byte(&text, 0), 0);
        for (const char *at = (const char *)text.data; (at = strstr(at, "\n.It Cm ")) != NULL; at++)
                n_entries++;
        for (unsigned n = 0; config_option(n, &section, &key, &help); n++, n_entries--) {
                const char *initial = config_option_default(n), *begin, *end, *entry, *next, *says;
                char wanted[256];

                snprintf(wanted, sizeof(wanted), "\n.Ss [%s]\n", section);
                begin = strstr((const char *)text.data, wanted);
                if (!begin) {
                        fail_msg("aced.conf(5): no section [%s]", section);
                        return;
                }
                end = strstr(begin + 1, "\n.S");
                snprintf(wanted, sizeof(wanted), "\n.It Cm %s ", key);
                entry = strstr(begin, wanted);
                if (!entry || !end || entry > end)
                        fail_msg("aced.conf(5): [%s] has no entry %s", section, key);
                next = strstr(entry + 1, "\n.It ");
                snprintf(wanted, sizeof(wanted), *initial ? "\nDefault: %s.\n" : "\nDefault: empty.\n%s", initial);
                says = strstr(entry, wanted);
                if (!says || (next && says > next && next < end))
                        fail_msg("aced.conf(5): [%s] %s does not say '%s'", section, key, wanted + 1);
        }
        assert_int_equal(n_entries, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(defaults_are_valid),
                cmocka_unit_test(values_are_read),
                cmocka_unit_test(faults_are_named_with_their_line),
                cmocka_unit_test(addresses_are_checked),
                cmocka_unit_test(files_that_cannot_be_read),
                cmocka_unit_test(fixed_options_keep_running_values),
                cmocka_unit_test(print_has_every_option),
                cmocka_unit_test(shipped_file_lists_every_option),
                cmocka_unit_test(shipped_file_loads),
                cmocka_unit_test(manual_names_every_option),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
