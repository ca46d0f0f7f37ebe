#include <errno.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "base/log.h"
#include "endpoint/aced.h"
#include "store/store.h"
#include "support/fake.h"
#include "transport/http.h"

/* The control socket in a directory of its own, spoken to in bytes. */
#define ANSWER_MAX 65536
#define TURNS_MAX 2000 /* of the loop, until an answer must be there */
#define NOBODY 65534   /* a user that is neither root nor we */

struct world {
        char folder[64], path[96];
        struct config *config;
        struct aced as;
        sd_event *loop;
        struct http *http;
        char answer[ANSWER_MAX];
};

static int start(struct world *world, struct diags *diags) {
        return http_control_new(world->loop, &world->as, &world->http, diags);
}

static void set_text(char **text, const char *value) {
        free(*text);
        *text = strdup(value);
        assert_non_null(*text);
}

static int setup(void **state) {
        static const uint8_t key[32] = { 1 };
        struct world *world = calloc(1, sizeof(*world));
        _cleanup_(diags_done) struct diags diags = {};

        assert_non_null(world);
        log_set_level((enum log_level)0);
        fake_random_seed(1);
        snprintf(world->folder, sizeof(world->folder), "/tmp/aced-http-XXXXXX");
        assert_non_null(mkdtemp(world->folder));
        snprintf(world->path, sizeof(world->path), "%s/control.sock", world->folder);
        assert_int_equal(config_load(NULL, &world->config, &diags), 0);
        set_text(&world->config->control_socket, world->path);
        set_text(&world->config->control_group, "");
        world->config->control_body_max = 1000;
        assert_int_equal(store_open(&(struct store_options){ .seal_key = { key, 32 } }, &world->as.store, &diags), 0);
        world->as.config = world->config;
        assert_true(sd_event_new(&world->loop) >= 0);
        assert_int_equal(start(world, &diags), 0);
        *state = world;
        return 0;
}

static int teardown(void **state) {
        struct world *world = *state;

        http_free(world->http);
        sd_event_unref(world->loop);
        store_free(world->as.store);
        config_free(world->config);
        unlink(world->path);
        rmdir(world->folder);
        free(world);
        return 0;
}

/* ---- a client */

static int client_connect(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
                close(fd);
                return -1;
        }
        return fd;
}

/* All of an answer is there: its head, and as much body as Content-Length says (HEAD has none). */
static bool is_whole(const char *answer, bool head_only) {
        const char *body = strstr(answer, "\r\n\r\n"), *length = strcasestr(answer, "\r\nContent-Length: ");

        if (!body)
                return false;
        return head_only || !length || length > body || strlen(body + 4) >= strtoul(length + 18, NULL, 10);
}

/* Let the loop run until the answer has come or the server has closed; world->answer gets it. */
static void receive(struct world *world, int fd, bool head_only) {
        size_t size = 0;

        for (unsigned turn = 0; turn < TURNS_MAX && !is_whole(world->answer, head_only); turn++) {
                ssize_t n;

                assert_true(sd_event_run(world->loop, 1000) >= 0);
                n = recv(fd, world->answer + size, sizeof(world->answer) - 1 - size, MSG_DONTWAIT);
                if (n == 0 || (n < 0 && errno != EAGAIN))
                        return;
                if (n > 0)
                        size += (size_t)n;
                world->answer[size] = '\0';
        }
}

/* Send, whatever the size: the loop runs while the socket is full. */
static void send_all(struct world *world, int fd, const char *text) {
        while (*text != '\0') {
                ssize_t n = send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0 && errno != EAGAIN)
                        return; /* closed on us: the answer says why */
                if (n > 0)
                        text += n;
                assert_true(sd_event_run(world->loop, 0) >= 0);
        }
}

static void talk(struct world *world, int fd, const char *request) {
        world->answer[0] = '\0';
        send_all(world, fd, request);
        receive(world, fd, strncmp(request, "HEAD", 4) == 0);
}

static unsigned ask(struct world *world, const char *request) {
        int fd = client_connect(world->path);
        unsigned status = 0;

        assert_true(fd >= 0);
        talk(world, fd, request);
        close(fd);
        sscanf(world->answer, "HTTP/1.1 %u", &status);
        return status;
}

/* ---- requests */

#define JSON_HEAD " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
#define HEAD " HTTP/1.1\r\nHost: x\r\n"

static const struct {
        const char *request;
        unsigned status;
        const char *inside; /* the answer */
} requests[] = {
        { "GET /v1/status" HEAD "\r\n", 200, "\"version\":" },
        { "GET /v1/status" HEAD "\r\n", 200, "Content-Type: application/json" },
        { "GET /v1/status" HEAD "\r\n", 200, "Cache-Control: no-store" },
        { "POST /v1/clients" JSON_HEAD "Content-Length: 13\r\n\r\n{\"name\":\"c1\"}", 201, "\"name\":\"c1\"" },
        { "GET /v1/clients/c1" HEAD "\r\n", 200, "\"name\":\"c1\"" },
        { "DELETE /v1/clients/c1" HEAD "\r\n", 204, "" },
        { "DELETE /v1/clients/c1" HEAD "\r\n", 404, "{\"error\":\"unknown\",\"detail\":\"there is no client" },

        /* chunked, without a type */
        { "POST /v1/clients" HEAD "Transfer-Encoding: chunked\r\n\r\n7\r\n{\"name\"\r\n6\r\n:\"c1\"}\r\n0\r\n\r\n",
          201, "c1" },
        { "GET http://x/v1/clients/c1" HEAD "\r\n", 200, "\"c1\"" },
        { "GET HTTP://localhost/v1/clients/c1" HEAD "\r\n", 200, "\"c1\"" },
        { "GET /v1/clients/%631" HEAD "\r\n", 200, "\"c1\"" },
        { "GET /v1/client%73/c%31" HEAD "\r\n", 200, "\"c1\"" },
        { "GET /v1/clients?limit=%31%30" HEAD "\r\n", 200, "\"c1\"" },
        { "GET /v1/clients?limit=1+0" HEAD "\r\n", 422, "limit" }, /* + is a space */
        { "GET /v1/clients/a%2Fb" HEAD "\r\n", 404, "there is no client \\\"a/b\\\"" },
        { "HEAD /v1/status" HEAD "\r\n", 200, "Content-Length: " },

        /* targets that cannot be read */
        { "GET /v1/clients/%" HEAD "\r\n", 400, "{\"error\":\"syntax\"" },
        { "GET /v1/clients/%6" HEAD "\r\n", 400, "%-escape" },
        { "GET /v1/clients/%6g" HEAD "\r\n", 400, "%-escape" },
        { "GET /v1/clients/%00" HEAD "\r\n", 400, "zero byte" },
        { "GET /v1/clients?after=%00" HEAD "\r\n", 400, "zero byte" },
        { "GET /1/2/3/4/5/6/7/8/9" HEAD "\r\n", 400, "more than 8 segments" },
        { "GET /?1&2&3&4&5&6&7&8&9&a&b&c&d&e&f&g&h" HEAD "\r\n", 400, "more than 16 parameters" },
        { "GET *" HEAD "\r\n", 400, "must be a path" },
        { "GET /1/2/3/4/5/6/7/8" HEAD "\r\n", 404, "\"error\":\"not-found\"" },
        { "GET /" HEAD "\r\n", 404, "\"error\":\"not-found\"" },
        { "GET //v1/status" HEAD "\r\n", 404, "\"error\":\"not-found\"" },
        { "GET /v1/status/" HEAD "\r\n", 404, "\"error\":\"not-found\"" },

        /* methods and formats */
        { "POST /v1/status" HEAD "Content-Length: 0\r\n\r\n", 405, "Allow: GET, HEAD\r\n" },
        { "TRACE /v1/clients" HEAD "\r\n", 405, "Allow: GET, HEAD, POST\r\n" },
        { "PUT /v1/clients/c1" JSON_HEAD "Content-Length: 2\r\n\r\n{}", 405, "Allow: GET, HEAD, PATCH, DELETE\r\n" },
        { "GET /token" HEAD "\r\n", 405, "" },
        { "GET /v1/clients" HEAD "Accept: text/html, application/json;q=0.5\r\n\r\n", 200, "items" },
        { "GET /v1/clients" HEAD "Accept: */*\r\n\r\n", 200, "items" },
        { "GET /v1/clients" HEAD "Accept: text/html\r\n\r\n", 406, "\"not-acceptable\"" },
        { "GET /v1/clients" HEAD "Accept: application/jsonp\r\n\r\n", 406, "\"not-acceptable\"" },
        { "POST /v1/clients" HEAD "Content-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}",
          422, "name" },
        { "POST /v1/clients" HEAD "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 2\r\n\r\n{}",
          415, "" },
        { "POST /v1/clients" JSON_HEAD "\r\n", 400, "\"syntax\"" },
};

static void requests_are_answered(void **state) {
        struct world *world = *state;

        for (size_t i = 0; i < N_ELEMENTS(requests); i++) {
                unsigned status = ask(world, requests[i].request);

                if (status != requests[i].status || !strstr(world->answer, requests[i].inside))
                        fail_msg("%s\n--- %u\n%s", requests[i].request, status, world->answer);
        }
        assert_int_equal(ask(world, "HEAD /v1/status" HEAD "\r\n"), 200);
        assert_string_equal(strstr(world->answer, "\r\n\r\n"), "\r\n\r\n");
}

/* Two requests, one connection, the second in pieces. */
static void connections_are_kept(void **state) {
        static const char *const pieces[] = { "GE", "T /v1/cli", "ents HTTP/1.1\r\nHo", "st: x\r\n", "\r\n" };
        struct world *world = *state;
        int fd = client_connect(world->path);

        assert_true(fd >= 0);
        talk(world, fd, "GET /v1/status" HEAD "\r\n");
        assert_non_null(strstr(world->answer, "200 OK"));
        world->answer[0] = '\0';
        for (size_t i = 0; i < N_ELEMENTS(pieces); i++) {
                send_all(world, fd, pieces[i]);
                assert_true(sd_event_run(world->loop, 0) >= 0);
        }
        receive(world, fd, false);
        assert_non_null(strstr(world->answer, "\"items\":[]"));
        close(fd);
}

static char *request_of_size(size_t size, bool chunked) {
        char *text = malloc(size + 256);
        int n;

        assert_non_null(text);
        n = chunked ? sprintf(text, "POST /v1/clients" JSON_HEAD "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", size) :
                      sprintf(text, "POST /v1/clients" JSON_HEAD "Content-Length: %zu\r\n\r\n", size);
        memset(text + n, ' ', size);
        memcpy(text + n, "{\"name\":\"big\"}", 14);
        strcpy(text + n + size, chunked ? "\r\n0\r\n\r\n" : "");
        return text;
}

/* The limit is 1000 here. Who sends a little more reads why it was refused; who sends far more is cut off. */
static void bodies_have_a_limit(void **state) {
        static const struct {
                size_t size;
                unsigned length_status, chunked_status;
        } sizes[] = {
                { 1000, 201, 409 }, { 1001, 413, 413 }, { 3999, 413, 413 }, { 4001, 413, 0 }, { 1000000, 413, 0 },
        };
        struct world *world = *state;

        for (size_t i = 0; i < N_ELEMENTS(sizes); i++) {
                _cleanup_(freep) char *plain = request_of_size(sizes[i].size, false);
                _cleanup_(freep) char *chunked = request_of_size(sizes[i].size, true);

                assert_int_equal(ask(world, plain), sizes[i].length_status);
                if (sizes[i].length_status == 413)
                        assert_non_null(strstr(world->answer, "the body is over 1000 bytes"));
                assert_int_equal(ask(world, chunked), sizes[i].chunked_status);
        }
        assert_int_equal(ask(world, "GET /v1/status" HEAD "\r\n"), 200); /* nobody else noticed */
}

/* Who leaves in the middle takes nothing with him. */
static void half_requests_do_no_harm(void **state) {
        static const char whole[] = "POST /v1/clients" JSON_HEAD "Content-Length: 13\r\n\r\n{\"name\":\"c1\"}";
        struct world *world = *state;

        for (size_t size = 1; size < sizeof(whole) - 1; size++) {
                _cleanup_(freep) char *part = strndup(whole, size);
                int fd = client_connect(world->path);

                assert_true(fd >= 0);
                send_all(world, fd, part);
                assert_true(sd_event_run(world->loop, 0) >= 0);
                close(fd);
                assert_true(sd_event_run(world->loop, 0) >= 0);
        }
        assert_int_equal(ask(world, "GET /v1/clients" HEAD "\r\n"), 200);
        assert_non_null(strstr(world->answer, "\"items\":[]"));
}

/* ---- the socket */

static void must_not_start(struct world *world, int expected, const char *fault) {
        _cleanup_(diags_done) struct diags diags = {};
        int r = start(world, &diags);

        assert_int_equal(r, expected);
        assert_int_equal(diags.n_items, 1);
        if (!strstr(diags.items[0].text, fault))
                fail_msg("%s", diags.items[0].text);
}

static void stop(struct world *world) {
        http_free(world->http);
        world->http = NULL;
}

static void stale_socket_is_replaced(void **state) {
        struct world *world = *state;
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_(diags_done) struct diags diags = {};
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        stop(world);
        assert_int_equal(access(world->path, F_OK), -1); /* gone with who made it */
        snprintf(address.sun_path, sizeof(address.sun_path), "%s", world->path);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        close(fd); /* as a crash leaves it */
        assert_int_equal(access(world->path, F_OK), 0);
        assert_int_equal(start(world, &diags), 0);
        assert_int_equal(ask(world, "GET /v1/status" HEAD "\r\n"), 200);
}

static void live_socket_is_left_alone(void **state) {
        struct world *world = *state;
        struct http *first = world->http;

        must_not_start(world, -EADDRINUSE, "another program listens on");
        world->http = first;
        assert_int_equal(ask(world, "GET /v1/status" HEAD "\r\n"), 200);
}

static void other_files_are_left_alone(void **state) {
        struct world *world = *state;
        FILE *file;

        stop(world);
        file = fopen(world->path, "w");
        assert_non_null(file);
        fclose(file);
        must_not_start(world, -EEXIST, "exists and is no socket");
        assert_int_equal(access(world->path, F_OK), 0);
}

static void bad_paths_are_faults(void **state) {
        struct world *world = *state;
        char path[200];

        stop(world);
        snprintf(path, sizeof(path), "%s/none/control.sock", world->folder);
        set_text(&world->config->control_socket, path);
        must_not_start(world, -ENOENT, "make the directory");
        memset(path, 'x', sizeof(path) - 1);
        path[0] = '/';
        path[sizeof(path) - 1] = '\0';
        set_text(&world->config->control_socket, path);
        must_not_start(world, -ENAMETOOLONG, "is longer than the 107 bytes");
}

/* A later aced's socket at the same path stays when the earlier one goes. */
static void only_our_socket_is_removed(void **state) {
        struct world *world = *state;
        struct http *first = world->http;
        _cleanup_(diags_done) struct diags diags = {};

        assert_int_equal(unlink(world->path), 0);
        assert_int_equal(start(world, &diags), 0);
        http_free(first);
        assert_int_equal(ask(world, "GET /v1/status" HEAD "\r\n"), 200);
}

/* ---- who may */

static mode_t socket_mode(const struct world *world, gid_t *ret_gid) {
        struct stat at;

        assert_int_equal(stat(world->path, &at), 0);
        *ret_gid = at.st_gid;
        return at.st_mode & 07777;
}

static void group_follows_the_configuration(void **state) {
        struct world *world = *state;
        const struct group *own = getgrgid(getegid());
        gid_t gid;

        assert_int_equal(socket_mode(world, &gid), 0600);
        set_text(&world->config->control_group, "no-such-group-here");
        http_reconfigure(world->http);
        assert_int_equal(socket_mode(world, &gid), 0600);
        if (!own)
                skip();
        set_text(&world->config->control_group, own->gr_name);
        http_reconfigure(world->http);
        assert_int_equal(socket_mode(world, &gid), 0660);
        assert_int_equal(gid, getegid());
        set_text(&world->config->control_group, "");
        http_reconfigure(world->http);
        assert_int_equal(socket_mode(world, &gid), 0600);
}

/* As another user, in another process: the status of the answer, by way of the exit status (403 → 43). */
static pid_t ask_as(const struct world *world, gid_t gid, gid_t extra) {
        static const char request[] = "GET /v1/status" HEAD "Connection: close\r\n\r\n";
        pid_t pid = fork();
        char answer[256] = "";
        unsigned status = 0;
        int fd;

        if (pid != 0)
                return pid;
        if (setgroups(1, &extra) != 0 || setgid(gid) != 0 || setuid(NOBODY) != 0)
                _exit(1);
        fd = client_connect(world->path);
        if (fd < 0 || send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0 ||
            recv(fd, answer, sizeof(answer) - 1, 0) <= 0)
                _exit(2);
        sscanf(answer, "HTTP/1.1 %u", &status);
        _exit((int)(status / 100 * 10 + status % 100));
}

static int wait_for(struct world *world, pid_t pid) {
        int status = 0;

        assert_true(pid > 0);
        for (pid_t done = 0; done == 0; done = waitpid(pid, &status, WNOHANG))
                assert_true(sd_event_run(world->loop, 1000) >= 0);
        return WEXITSTATUS(status);
}

static void strangers_are_not_admitted(void **state) {
        struct world *world = *state;
        const struct group *group = getgrnam("daemon");

        if (geteuid() != 0 || !group)
                skip(); /* being somebody else takes root */
        assert_int_equal(chmod(world->folder, 0711), 0);
        set_text(&world->config->control_group, "daemon");
        http_reconfigure(world->http);
        assert_int_equal(chmod(world->path, 0666), 0); /* let them come as far as SO_PEERCRED */
        assert_int_equal(wait_for(world, ask_as(world, NOBODY, NOBODY)), 43);
        assert_int_equal(wait_for(world, ask_as(world, group->gr_gid, NOBODY)), 20);
        assert_int_equal(wait_for(world, ask_as(world, NOBODY, group->gr_gid)), 20);
        set_text(&world->config->control_group, "");
        http_reconfigure(world->http);
        assert_int_equal(chmod(world->path, 0666), 0);
        assert_int_equal(wait_for(world, ask_as(world, group->gr_gid, group->gr_gid)), 43);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(requests_are_answered, setup, teardown),
                cmocka_unit_test_setup_teardown(connections_are_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(bodies_have_a_limit, setup, teardown),
                cmocka_unit_test_setup_teardown(half_requests_do_no_harm, setup, teardown),
                cmocka_unit_test_setup_teardown(stale_socket_is_replaced, setup, teardown),
                cmocka_unit_test_setup_teardown(live_socket_is_left_alone, setup, teardown),
                cmocka_unit_test_setup_teardown(other_files_are_left_alone, setup, teardown),
                cmocka_unit_test_setup_teardown(bad_paths_are_faults, setup, teardown),
                cmocka_unit_test_setup_teardown(only_our_socket_is_removed, setup, teardown),
                cmocka_unit_test_setup_teardown(group_follows_the_configuration, setup, teardown),
                cmocka_unit_test_setup_teardown(strangers_are_not_admitted, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
