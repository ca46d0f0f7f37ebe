/*
 * aced: the authorization server. Wiring only: options → configuration → objects → loop; what one of them does is in
 * its own file.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "config.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/log.h"
#include "base/secret.h"
#include "crypto/aead.h"
#include "crypto/certificate.h"
#include "crypto/random.h"
#include "endpoint/aced.h"
#include "endpoint/housekeeping.h"
#include "format/json.h"
#include "store/as_keys.h"
#include "store/audit.h"
#include "store/restore.h"
#include "store/seal_key.h"
#include "store/store.h"
#include "transport/engine.h"
#include "transport/http.h"
#include "transport/status.h"
#include "transport/udp.h"

#define CONFIG_PATH ACED_SYSCONFDIR "/aced/aced.conf"
#define FILE_PATH_MAX 4096
#define TRUST_ANCHORS_SIZE_MAX ((size_t)4 << 20)
#define READ_CHUNK ((size_t)64 << 10)

#define HOUSEKEEPING_INTERVAL_US (10 * UINT64_C(1000000))
#define HOUSEKEEPING_AGAIN_US (UINT64_C(20000)) /* when there was more than one step does */

DEFINE_FREEP(struct config, config_free)
DEFINE_FREEP(struct trust_anchors, trust_anchors_free)

enum exit_status { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct daemon {
        const char *config_path;
        struct config *config;
        int lock_fd;
        struct secret seal_key;
        struct store *store;
        struct trust_anchors *trust_anchors;
        struct aced as;
        struct status status;
        struct status_source status_source;
        struct engine *engine;
        sd_event *loop;
        struct udp *udp;
        struct http *http;
        struct housekeeping housekeeping;
        sd_event_source *care; /* the next step of it */
        bool care_failed;      /* said so already */
};

/* What was made last goes first: nothing is used after it is gone. */
static void daemon_done(struct daemon *daemon) {
        sd_event_source_disable_unref(daemon->care);
        http_free(daemon->http);
        udp_free(daemon->udp);
        engine_free(daemon->engine);
        sd_event_unref(daemon->loop);
        signers_done(&daemon->as.signers);
        aead_free(daemon->as.aead);
        store_free(daemon->store);
        secret_done(&daemon->seal_key);
        closep(&daemon->lock_fd);
        trust_anchors_free(daemon->trust_anchors);
        config_free(daemon->config);
}

/* ---- configuration and what is wrong with it */

/* "file:line: text", with as much of it as there is. */
static int diag_text(const struct diag *diag, struct buf *ret) {
        int r = 0;

        if (diag->file)
                r = buf_printf(ret, "%s:", diag->file);
        if (r == 0 && diag->line > 0)
                r = buf_printf(ret, "%u:", diag->line);
        if (r == 0)
                r = buf_printf(ret, "%s%s", diag->file ? " " : "", diag->text);
        return r == 0 ? buf_add_byte(ret, '\0') : r;
}

static void log_diags(enum log_level level, const struct diags *diags) {
        for (size_t i = 0; i < diags->n_items; i++) {
                _cleanup_(buf_done) struct buf text = BUF_INIT(FILE_PATH_MAX);

                log_line(level, "%s",
                         diag_text(&diags->items[i], &text) == 0 ? (char *)text.data : diags->items[i].text);
        }
}

static void print_diags(const char *prefix, const struct diags *diags) {
        for (size_t i = 0; i < diags->n_items; i++) {
                _cleanup_(buf_done) struct buf text = BUF_INIT(FILE_PATH_MAX);

                fprintf(stderr, "%s%s\n", prefix,
                        diag_text(&diags->items[i], &text) == 0 ? (char *)text.data : diags->items[i].text);
        }
}

/* config_load() with a row for a file that is not there: an empty one would do, but its absence is rarely meant. */
static int config_read(const char *path, struct config **ret, struct diags *diags) {
        int r = config_load(path, ret, diags);

        if (r == -ENOENT &&
            diags_add(diags, path, 0, "there is no such file; an empty one gives every key its default") < 0)
                return -ENOMEM;
        return r;
}

static int read_file(const char *path, struct buf *out) {
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        uint8_t *space;
        ssize_t n;
        int r;

        if (fd < 0)
                return -errno;
        do {
                if ((r = buf_reserve(out, READ_CHUNK, &space)) < 0)
                        return r == -EOVERFLOW ? -EFBIG : r;
                n = read(fd, space, READ_CHUNK);
                if (n > 0)
                        buf_added(out, (size_t)n);
        } while (n > 0 || (n < 0 && errno == EINTR));
        return n == 0 ? 0 : -errno;
}

/* What the configuration names; none: NULL. */
static int read_trust_anchors(const struct config *config, struct trust_anchors **ret, struct diags *diags) {
        _cleanup_(buf_done) struct buf pem = BUF_INIT(TRUST_ANCHORS_SIZE_MAX);
        const char *path = config->trust_anchors;
        int r;

        *ret = NULL;
        if (!path)
                return 0;
        r = read_file(path, &pem);
        if (r < 0 && r != -ENOMEM && diags_add(diags, path, 0, "cannot read the trust anchors: %s", strerror(-r)) < 0)
                return -ENOMEM;
        return r < 0 ? r : trust_anchors_new(buf_bytes(&pem), path, ret, diags);
}

/* key_file, else the systemd credential, else the state directory's. */
static void seal_key_path(const struct config *config, char path[static FILE_PATH_MAX]) {
        const char *credentials = getenv("CREDENTIALS_DIRECTORY");

        if (config->key_file) {
                snprintf(path, FILE_PATH_MAX, "%s", config->key_file);
                return;
        }
        if (credentials) {
                snprintf(path, FILE_PATH_MAX, "%s/aced.key", credentials);
                if (access(path, F_OK) == 0)
                        return;
        }
        snprintf(path, FILE_PATH_MAX, "%s/seal.key", config->state_directory);
}

/*
 * What does not belong to the file but would keep this user's aced from starting with it: notes, since the file may be
 * meant for another user or machine.
 */
static int check_surroundings(const struct config *config, struct diags *notes) {
        _cleanup_(secret_done) struct secret key = {};
        char path[FILE_PATH_MAX];
        int r;

        if (*config->control_group && !getgrnam(config->control_group) &&
            diags_add(notes, NULL, 0, "there is no group %s: only root and the server's own user will be admitted to "
                      "the control socket", config->control_group) < 0)
                return -ENOMEM;
        if (access(config->state_directory, R_OK | W_OK | X_OK) != 0)
                return diags_add(notes, config->state_directory, 0, "%s%s", strerror(errno),
                                 errno == ENOENT ? ": acectl init makes it" : "");
        seal_key_path(config, path);
        r = seal_key_load(path, &key, notes);
        return r == -ENOMEM ? r : 0;
}

static enum exit_status check(const char *path) {
        _cleanup_(config_freep) struct config *config = NULL;
        _cleanup_(trust_anchors_freep) struct trust_anchors *anchors = NULL;
        _cleanup_(diags_done) struct diags faults = {}, notes = {};
        int r = config_read(path, &config, &faults);

        if (r == 0)
                r = read_trust_anchors(config, &anchors, &faults);
        print_diags("", &faults);
        if (r < 0 && faults.n_items == 0)
                fprintf(stderr, "%s: %s\n", path, strerror(-r));
        if (r < 0 || (r = check_surroundings(config, &notes)) < 0)
                return EXIT_FAILED;
        print_diags("note: ", &notes);
        printf("%s: valid\n", path);
        return EXIT_DONE;
}

/* ---- the lock */

/* Who has it, for the message; 0: not known. */
static long lock_owner(int fd) {
        char text[24] = "";
        ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

        return n > 0 ? strtol(text, NULL, 10) : 0;
}

static int lock_busy(int fd, const char *path, struct diags *diags) {
        long pid = lock_owner(fd);
        char who[48] = "";

        if (pid > 0)
                snprintf(who, sizeof(who), " (process %ld)", pid);
        return diags_add(diags, path, 0, "another aced%s runs on this state directory: stop it, or give this one a "
                         "state_directory of its own", who) < 0 ? -ENOMEM : -EBUSY;
}

static void warn_of_open_state(const char *directory) {
        struct stat at;

        if (stat(directory, &at) == 0 && at.st_mode & (S_IWGRP | S_IWOTH))
                log_line(LOG_LEVEL_WARNING, "%s: others can write to the state directory, and so replace the database: "
                         "chmod 0700 it", directory);
}

static int daemon_lock(struct daemon *daemon, struct diags *diags) {
        _cleanup_(closep) int fd = -1;
        char path[FILE_PATH_MAX];

        warn_of_open_state(daemon->config->state_directory);
        snprintf(path, sizeof(path), "%s/lock", daemon->config->state_directory);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) {
                int r = -errno;

                return diags_add(diags, path, 0, "%s%s", strerror(-r),
                                 r == -ENOENT   ? ": there is no state directory; acectl init makes it" :
                                 r == -EACCES   ? ": the state directory is for another user" : "") < 0 ? -ENOMEM : r;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) != 0)
                return errno == EWOULDBLOCK ? lock_busy(fd, path, diags) : -errno;
        /* For the message above only: a disk too full for it is no reason not to serve */
        if (ftruncate(fd, 0) != 0 || dprintf(fd, "%ld\n", (long)getpid()) < 0)
                log_line(LOG_LEVEL_WARNING, "%s: cannot write the process number: %s", path, strerror(errno));
        daemon->lock_fd = TAKE_FD(fd);
        return 0;
}

/* ---- the store and the server on it */

static int daemon_unlock_secrets(struct daemon *daemon, struct diags *diags) {
        char path[FILE_PATH_MAX];

        seal_key_path(daemon->config, path);
        return seal_key_load(path, &daemon->seal_key, diags);
}

static void database_path(const struct config *config, char path[static FILE_PATH_MAX]) {
        snprintf(path, FILE_PATH_MAX, "%s/aced.db", config->state_directory);
}

static int daemon_open_store(struct daemon *daemon, struct diags *diags) {
        char path[FILE_PATH_MAX];
        int r;

        database_path(daemon->config, path);
        r = store_restore_check(path, diags);
        if (r < 0)
                return r;
        r = store_open(&(struct store_options){ .path = path, .seal_key = secret_bytes(&daemon->seal_key) },
                       &daemon->store, diags);
        secret_done(&daemon->seal_key); /* the store has what it needs */
        return r;
}

/* acectl init makes them; a database of an earlier version has none. */
static int daemon_make_keys(struct daemon *daemon, struct diags *diags) {
        unsigned n = 0;
        int r = store_begin(daemon->store);

        if (r != 0)
                return r;
        r = store_as_keys_ensure(daemon->store, bytes_text(daemon->config->issuer), clock_wall_s(), &n);
        if (r == 0)
                r = store_commit(daemon->store);
        else
                store_rollback(daemon->store);
        if (r == 0 && n > 0)
                log_line(LOG_LEVEL_NOTICE, "%u keys of the server's own were made: acectl key list shows them", n);
        return r > 0 ? -EIO : r;
}

static int daemon_read_trust_anchors(struct daemon *daemon, struct diags *diags) {
        return read_trust_anchors(daemon->config, &daemon->trust_anchors, diags);
}

/* From the midst of one long request: the loop, which else tells it, stands still. */
static void tell_alive(void) {
        uint64_t interval_us;

        if (sd_watchdog_enabled(0, &interval_us) > 0)
                sd_notify(0, "WATCHDOG=1");
}

static int daemon_new_engine(struct daemon *daemon, struct diags *diags) {
        int r = random_bytes(&daemon->as.decision_stamp, sizeof(daemon->as.decision_stamp));

        if (r < 0)
                return r;
        daemon->status_source = (struct status_source){ .fill = status_fill, .figures = status_figures,
                                                        .context = &daemon->status };
        daemon->as.aead = aead_new();
        if (!daemon->as.aead)
                return -ENOMEM;
        daemon->as.config = daemon->config;
        daemon->as.store = daemon->store;
        daemon->as.trust_anchors = daemon->trust_anchors;
        daemon->as.started_s = clock_wall_s();
        daemon->as.status = &daemon->status_source;
        daemon->as.stopwatch_us = clock_monotonic_us;
        daemon->as.alive = tell_alive;
        r = engine_new(&daemon->as, &daemon->engine);
        daemon->status = (struct status){ .as = &daemon->as, .engine = daemon->engine };
        return r;
}

static int daemon_open_udp(struct daemon *daemon, struct diags *diags) {
        int r = udp_new(daemon->loop, daemon->engine, daemon->config, &daemon->udp, diags);

        daemon->status.udp = daemon->udp;
        return r;
}

static int daemon_open_control(struct daemon *daemon, struct diags *diags) {
        int r = http_control_new(daemon->loop, &daemon->as, &daemon->http, diags);

        daemon->status.http = daemon->http;
        return r;
}

/* ---- events */

static void notify_status(const char *state, const struct daemon *daemon) {
        _cleanup_(buf_done) struct buf text = BUF_INIT(1024);
        struct address address;
        enum door door;

        for (unsigned n = 0; udp_bound(daemon->udp, n, &door, &address); n++) {
                char where[ADDRESS_TEXT_SIZE];

                address_text(&address, where, sizeof(where));
                if (buf_printf(&text, "%s%s://%s", n > 0 ? ", " : "", door_name(door), where) < 0)
                        break;
        }
        sd_notifyf(0, "%sSTATUS=Serving %.*s", state, (int)text.size, (char *)text.data);
        log_line(LOG_LEVEL_NOTICE, "serving %.*s, control socket %s", (int)text.size, (char *)text.data,
                 daemon->config->control_socket);
}

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *context) {
        struct daemon *daemon = context;

        log_line(LOG_LEVEL_NOTICE, "stopping on signal %u: no more is read, what is under way is finished",
                 info->ssi_signo);
        sd_notify(0, "STOPPING=1\nSTATUS=Stopping");
        udp_drain(daemon->udp);
        return sd_event_exit(daemon->loop, 0);
}

/* uid: who sent the signal. 0, < 0. */
static int audit_reload(struct daemon *daemon, uint32_t uid) {
        int r = store_begin(daemon->store);

        if (r != 0)
                return r;
        r = store_audit_note(daemon->store, clock_wall_s(), uid, BYTES_LITERAL("reload"),
                             bytes_text(daemon->config_path));
        if (r == 0)
                return store_commit(daemon->store);
        store_rollback(daemon->store);
        return r;
}

/* All or nothing: what is in force changes only when the whole file is valid, and the audit trail says so. */
static int reload(struct daemon *daemon, uint32_t uid) {
        _cleanup_(config_freep) struct config *config = NULL;
        _cleanup_(trust_anchors_freep) struct trust_anchors *anchors = NULL;
        _cleanup_(diags_done) struct diags faults = {}, notes = {};
        int r = config_read(daemon->config_path, &config, &faults);

        if (r == 0)
                r = config_keep_fixed(config, daemon->config, &notes);
        if (r == 0)
                r = read_trust_anchors(config, &anchors, &faults);
        if (r == 0)
                r = audit_reload(daemon, uid);
        if (r < 0) {
                log_diags(LOG_LEVEL_ERROR, &faults);
                log_line(LOG_LEVEL_ERROR, "%s is not taken: %s; the configuration stays as it was", daemon->config_path,
                         faults.n_items > 0 ? "it has faults" : strerror(-r));
                return r;
        }
        log_diags(LOG_LEVEL_WARNING, &notes);
        daemon->as.config = config;
        daemon->as.trust_anchors = anchors;
        engine_reconfigure(daemon->engine);
        http_reconfigure(daemon->http);
        log_set_level((enum log_level)config->log_level);
        trust_anchors_free(daemon->trust_anchors);
        daemon->trust_anchors = TAKE_PTR(anchors);
        config_free(daemon->config);
        daemon->config = TAKE_PTR(config);
        log_line(LOG_LEVEL_NOTICE, "%s is in force", daemon->config_path);
        return 0;
}

static int on_reload(sd_event_source *source, const struct signalfd_siginfo *info, void *context) {
        struct daemon *daemon = context;

        sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=Reloading", (long long)clock_monotonic_us());
        if (reload(daemon, info->ssi_uid) == 0)
                notify_status("READY=1\n", daemon);
        else
                sd_notifyf(0, "READY=1\nSTATUS=Serving as before: %s was not taken, see the log", daemon->config_path);
        return 0;
}

static int on_care(sd_event_source *source, uint64_t usec, void *context) {
        struct daemon *daemon = context;
        bool again;
        int r = housekeeping_step(&daemon->housekeeping, &daemon->as, clock_wall_s(), clock_monotonic_us(), &again);

        if (r < 0 && !daemon->care_failed)
                log_line(LOG_LEVEL_ERROR, "expired tokens cannot be removed: %s; tried again until it works",
                         strerror(-r));
        daemon->care_failed = r < 0;
        again = engine_forget(daemon->engine) || (r == 0 && again);
        r = sd_event_source_set_time_relative(source, again ? HOUSEKEEPING_AGAIN_US : HOUSEKEEPING_INTERVAL_US);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* Signals are blocked here, before anything could start a thread that would take them. */
static int daemon_new_loop(struct daemon *daemon, struct diags *diags) {
        sigset_t signals;
        int r;

        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGHUP);
        if (sigprocmask(SIG_BLOCK, &signals, NULL) != 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
                return -errno;
        if ((r = sd_event_new(&daemon->loop)) < 0 ||
            (r = sd_event_add_signal(daemon->loop, NULL, SIGTERM, on_stop, daemon)) < 0 ||
            (r = sd_event_add_signal(daemon->loop, NULL, SIGINT, on_stop, daemon)) < 0 ||
            (r = sd_event_add_signal(daemon->loop, NULL, SIGHUP, on_reload, daemon)) < 0 ||
            (r = sd_event_set_watchdog(daemon->loop, true)) < 0)
                return r;
        return 0;
}

static int daemon_start_care(struct daemon *daemon, struct diags *diags) {
        int r = housekeeping_init(&daemon->housekeeping, &daemon->as, clock_wall_s(), clock_monotonic_us());

        if (r < 0)
                return r;
        return sd_event_add_time_relative(daemon->loop, &daemon->care, CLOCK_MONOTONIC, HOUSEKEEPING_AGAIN_US, 1000000,
                                          on_care, daemon);
}

/* ---- start to end */

/* In order: each stands on those above. */
static const struct step {
        const char *name;
        int (*start)(struct daemon *daemon, struct diags *diags);
} steps[] = {
        { "setting up the event loop", daemon_new_loop },
        { "locking the state directory", daemon_lock },
        { "loading the sealing key", daemon_unlock_secrets },
        { "opening the database", daemon_open_store },
        { "making the server's own keys", daemon_make_keys },
        { "reading the trust anchors", daemon_read_trust_anchors },
        { "setting up the server", daemon_new_engine },
        { "opening the UDP sockets", daemon_open_udp },
        { "opening the control socket", daemon_open_control },
        { "setting up housekeeping", daemon_start_care },
};

static const char *advice(int error) {
        switch (error) {
        case ENOSPC:
        case EDQUOT:
                return ": make room on the disk of the state directory";
        case EIO:
                return ": the disk of the state directory or the file on it is damaged, see the kernel's log";
        case EROFS:
                return ": the state directory is on a file system that cannot be written";
        default:
                return "";
        }
}

static int daemon_start(struct daemon *daemon) {
        for (size_t i = 0; i < N_ELEMENTS(steps); i++) {
                _cleanup_(diags_done) struct diags diags = {};
                int r = steps[i].start(daemon, &diags);

                if (r >= 0)
                        continue;
                log_diags(LOG_LEVEL_ERROR, &diags);
                if (diags.n_items > 0)
                        log_line(LOG_LEVEL_ERROR, "cannot start: %s failed%s", steps[i].name, advice(-r));
                else
                        log_line(LOG_LEVEL_ERROR, "cannot start: %s failed: %s%s", steps[i].name, strerror(-r),
                                 advice(-r));
                sd_notifyf(0, "STATUS=Cannot start: %s failed: %s\nERRNO=%d", steps[i].name, strerror(-r), -r);
                return r;
        }
        return 0;
}

/* Keys must not reach the disk by way of a core dump, nor files other users by way of their mode. */
static int harden(void) {
        umask(077);
        if (setrlimit(RLIMIT_CORE, &(struct rlimit){}) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
                return -errno;
        return 0;
}

static enum exit_status serve(const char *path) {
        _cleanup_(daemon_done) struct daemon daemon = { .config_path = path, .lock_fd = -1 };
        _cleanup_(diags_done) struct diags faults = {};
        int r = harden();

        if (r == 0)
                r = config_read(path, &daemon.config, &faults);
        if (r < 0) {
                log_diags(LOG_LEVEL_ERROR, &faults);
                log_line(LOG_LEVEL_ERROR, "cannot start: configuration: %s",
                         faults.n_items > 0 ? "see above" : strerror(-r));
                return EXIT_FAILED;
        }
        log_set_level((enum log_level)daemon.config->log_level);
        if (geteuid() == 0)
                log_line(LOG_LEVEL_WARNING, "running as root, which aced does not need");
        if (daemon_start(&daemon) < 0)
                return EXIT_FAILED;

        log_line(LOG_LEVEL_NOTICE, "aced %s started, state in %s", PACKAGE_VERSION, daemon.config->state_directory);
        notify_status("READY=1\n", &daemon);
        r = sd_event_loop(daemon.loop);
        if (r < 0)
                log_line(LOG_LEVEL_ERROR, "the event loop failed: %s", strerror(-r));
        else
                log_line(LOG_LEVEL_NOTICE, "stopped");
        return r < 0 ? EXIT_FAILED : EXIT_DONE;
}

/* ---- restore */

static int restore_backup(struct daemon *daemon, const char *backup, char **ret_kept, struct diags *faults) {
        char path[FILE_PATH_MAX];
        int r;

        if ((r = config_read(daemon->config_path, &daemon->config, faults)) < 0 ||
            (r = daemon_lock(daemon, faults)) < 0 || (r = daemon_unlock_secrets(daemon, faults)) < 0)
                return r;
        database_path(daemon->config, path);
        return store_restore(&(struct restore){ .backup = backup, .database = path, .now_s = clock_wall_s(),
                                                .seal_key = secret_bytes(&daemon->seal_key) }, ret_kept, faults);
}

static enum exit_status restore(const char *config_path, const char *backup) {
        _cleanup_(daemon_done) struct daemon daemon = { .config_path = config_path, .lock_fd = -1 };
        _cleanup_(diags_done) struct diags faults = {};
        _cleanup_(freep) char *kept = NULL;
        int r = harden();

        if (r == 0)
                r = restore_backup(&daemon, backup, &kept, &faults);
        print_diags("", &faults);
        if (r < 0) {
                fprintf(stderr, "%s is not restored%s%s\n", backup, faults.n_items == 0 ? ": " : "",
                        faults.n_items == 0 ? strerror(-r) : "");
                return EXIT_FAILED;
        }
        printf("%s is restored.\n", backup);
        if (kept)
                printf("The database before it is kept as %s.\n", kept);
        printf("Tokens issued after the backup are unknown now, what was revoked or deleted after it is not: do that "
               "again.\n");
        return EXIT_DONE;
}

/* ---- options */

static const char usage_text[] =
        "Usage: aced [-c FILE]\n"
        "       aced --check [FILE]\n"
        "       aced [-c FILE] --restore FILE\n"
        "\n"
        "The ACE authorization server (RFC 9200). It stays in the foreground and logs to the journal, or to standard\n"
        "error when there is none.\n"
        "\n"
        "  -c, --config FILE   configuration instead of " CONFIG_PATH "\n"
        "      --check [FILE]  print every fault of the configuration as file:line: fault, and do not start\n"
        "      --restore FILE  put a backup that acectl backup made in the place of the database, and do not start\n"
        "      --version       print the version\n"
        "      --help          print this text\n"
        "\n"
        "See aced(8), aced.conf(5), acectl(1).\n";

enum { OPTION_CHECK = 256, OPTION_RESTORE, OPTION_VERSION, OPTION_HELP };

static const struct option long_options[] = {
        { "config", required_argument, NULL, 'c' },
        { "check", optional_argument, NULL, OPTION_CHECK },
        { "restore", required_argument, NULL, OPTION_RESTORE },
        { "version", no_argument, NULL, OPTION_VERSION },
        { "help", no_argument, NULL, OPTION_HELP },
        {},
};

/* What was printed really left; a full disk is a failure. */
static enum exit_status print_end(void) {
        return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_DONE : EXIT_FAILED;
}

static enum exit_status usage_hint(void) {
        fputs("Try 'aced --help'.\n", stderr);
        return EXIT_USAGE;
}

static enum exit_status usage_fault(const char *why, const char *what) {
        fprintf(stderr, "aced: %s%s\n", why, what);
        return usage_hint();
}

int main(int argc, char **argv) {
        const char *path = CONFIG_PATH, *backup = NULL;
        bool checking = false;
        int option;

        json_wipe_what_is_freed();
        while ((option = getopt_long(argc, argv, "c:", long_options, NULL)) != -1)
                switch (option) {
                case 'c':
                        path = optarg;
                        break;
                case OPTION_CHECK:
                        checking = true;
                        path = optarg ? optarg : path;
                        break;
                case OPTION_RESTORE:
                        backup = optarg;
                        break;
                case OPTION_VERSION:
                        puts("aced " PACKAGE_VERSION);
                        return print_end();
                case OPTION_HELP:
                        fputs(usage_text, stdout);
                        return print_end();
                default: /* getopt_long() has said what */
                        return usage_hint();
                }

        if (checking && optind < argc) /* "--check FILE": getopt takes an optional argument only behind "=" */
                path = argv[optind++];
        if (optind < argc)
                return usage_fault("unexpected argument: ", argv[optind]);
        if (checking && backup)
                return usage_fault("--check and --restore: one of the two", "");
        if (backup)
                return restore(path, backup) == EXIT_DONE ? print_end() : EXIT_FAILED;
        if (!checking)
                return (int)serve(path);
        return check(path) == EXIT_DONE ? print_end() : EXIT_FAILED;
}
