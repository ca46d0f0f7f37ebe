#include "transport/http.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <jansson.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/diag.h"
#include "base/log.h"
#include "base/secret.h"
#include "endpoint/aced.h"
#include "endpoint/refusal.h"
#include "endpoint/router.h"
#include "format/json.h"

#define CONTROL_LARGE_S 600U                     /* the same for one with many rows: they are applied meanwhile */
#define CONTROL_IDLE_S 30U                       /* a connection without traffic is closed */
#define CONTROL_MEMORY_MAX ((size_t)(32 * 1024)) /* of a connection in libmicrohttpd: request line and headers */

#define STREAM_PIECE ((size_t)(64 * 1024))       /* of a long answer, read in one go */

/* So many times the limit of a body is read and dropped, so that who sends too much gets to read the answer. */
#define CONTROL_DISCARD_FACTOR 4

struct http {
        struct aced *as;
        struct MHD_Daemon *daemon;
        sd_event_source *io, *timer;
        char *path; /* of the socket; NULL: none of ours is there */
        dev_t device;
        ino_t inode;
        bool has_gid;
        gid_t gid;
};

/* One HTTP request, from its request line to the end of its answer. */
struct call {
        struct http *http;
        struct work work;
        struct peer peer;
        char *target; /* decoded path and queries: what the request's segments and queries point into */
        size_t target_size;
        struct buf body;
        uint64_t declared; /* Content-Length; 0: not given */
        uint64_t received; /* bytes of the body, kept or not */
        bool begun;
};

/* ---- the target: path and query (RFC 9112 §3.2, RFC 3986 §2.1) */

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
                return (c | 0x20) - 'a' + 10;
        return -1;
}

/*
 * Percent-decode text behind what the target holds already. The result is never longer than the text, so it fits. In a
 * query "+" is a space, as HTML forms and curl write it. False: a bad escape, or a zero byte, which no name has.
 */
static bool target_decode(struct call *call, struct bytes text, bool is_query, struct bytes *ret) {
        char *start = call->target + call->target_size;

        for (size_t i = 0; i < text.size; i++) {
                int c = text.data[i];

                if (c == '%') {
                        int high = i + 2 < text.size ? hex_digit((char)text.data[i + 1]) : -1;
                        int low = i + 2 < text.size ? hex_digit((char)text.data[i + 2]) : -1;

                        if (high < 0 || low < 0)
                                return false;
                        c = high << 4 | low;
                        i += 2;
                } else if (c == '+' && is_query) {
                        c = ' ';
                }
                if (c == 0)
                        return false;
                call->target[call->target_size++] = (char)c;
        }
        *ret = bytes_of(start, (size_t)(call->target + call->target_size - start));
        return true;
}

/* The part up to separator, decoded, into parts[*n]. *text moves behind it. */
static bool target_part(struct call *call, const char **text, const char *end, char separator, struct bytes *parts,
                        size_t max, size_t *n) {
        const char *stop = memchr(*text, separator, (size_t)(end - *text));

        if (!stop)
                stop = end;
        if (*n == max || !target_decode(call, bytes_of(*text, (size_t)(stop - *text)), separator == '&', &parts[*n]))
                return false;
        (*n)++;
        *text = stop < end ? stop + 1 : end + 1;
        return true;
}

static int call_set_target(struct call *call, const char *uri) {
        struct request *request = &call->work.request;
        const char *end, *query, *at = uri;

        call->target = malloc(strlen(uri) + 1);
        if (!call->target)
                return -ENOMEM;
        /* RFC 9112 §3.2.2: a server must accept the absolute form, too */
        if (strncasecmp(at, "http://", 7) == 0)
                at += 7 + strcspn(at + 7, "/");
        if (*at != '/') {
                response_why(&call->work.response, "the request target must be a path such as /v1/status");
                return REFUSE_ADMIN_SYNTAX;
        }
        query = strchr(at, '?');
        end = query ? query : at + strlen(at);
        for (at++; at < end || (at == end && request->n_segments > 0);)
                if (!target_part(call, &at, end, '/', request->segments, PATH_SEGMENTS_MAX, &request->n_segments)) {
                        response_why(&call->work.response, "the path has a bad %%-escape, a zero byte or more than %d "
                                     "segments", PATH_SEGMENTS_MAX);
                        return REFUSE_ADMIN_SYNTAX;
                }
        if (!query)
                return 0;
        for (at = query + 1, end = at + strlen(at); at < end;)
                if (!target_part(call, &at, end, '&', request->queries, QUERIES_MAX, &request->n_queries)) {
                        response_why(&call->work.response, "the query has a bad %%-escape, a zero byte or more than %d "
                                     "parameters", QUERIES_MAX);
                        return REFUSE_ADMIN_SYNTAX;
                }
        return 0;
}

/* ---- methods and media types */

static const struct {
        const char *text;
        enum method method;
} methods[] = {
        { MHD_HTTP_METHOD_GET, METHOD_GET },
        { MHD_HTTP_METHOD_HEAD, METHOD_GET }, /* libmicrohttpd leaves the body out */
        { MHD_HTTP_METHOD_POST, METHOD_POST },
        { MHD_HTTP_METHOD_PUT, METHOD_PUT },
        { MHD_HTTP_METHOD_DELETE, METHOD_DELETE },
        { MHD_HTTP_METHOD_PATCH, METHOD_PATCH },
};

static bool method_from_text(const char *text, enum method *ret) {
        for (size_t i = 0; i < N_ELEMENTS(methods); i++)
                if (strcmp(methods[i].text, text) == 0) {
                        *ret = methods[i].method;
                        return true;
                }
        return false;
}

/* Is the media type at text (up to its parameters) this one? */
static bool media_type_is(const char *text, const char *type) {
        size_t size = strlen(type);

        text += strspn(text, " \t");
        return strncasecmp(text, type, size) == 0 && strchr(" \t;,", text[size]) != NULL;
}

/* No type means JSON, as nothing else is written here. Another one is told to the router as a format nobody reads. */
static int content_format(const char *header) {
        bool is_json = !header || media_type_is(header, "application/json") ||
                       media_type_is(header, "application/x-ndjson"); /* one in each line, where many are read */

        return is_json ? CF_JSON : CF_OCTET_STREAM;
}

/*
 * RFC 9110 §12.5.1, without weights: whoever lists JSON or plain text at all gets it, who lists both or takes anything
 * what there is.
 */
static int accept_format(const char *header) {
        int found = CF_OCTET_STREAM;

        if (!header)
                return CF_NONE;
        for (const char *at = header; at; at = strchr(at, ',')) {
                int format = CF_OCTET_STREAM;

                at += *at == ',';
                if (media_type_is(at, "application/*") || media_type_is(at, "*/*"))
                        return CF_NONE;
                if (media_type_is(at, "application/json"))
                        format = CF_JSON;
                else if (media_type_is(at, "application/x-ndjson"))
                        format = CF_JSON_LINES;
                else if (media_type_is(at, "text/plain") || media_type_is(at, "text/*"))
                        format = CF_TEXT_PLAIN;
                if (format != CF_OCTET_STREAM)
                        found = found == CF_OCTET_STREAM || found == format ? format : CF_NONE;
        }
        return found;
}

/* Plain text is what Prometheus reads, which wants the version of its format named. Errors are JSON everywhere. */
static const char *media_type(int format) {
        switch (format) {
        case CF_TEXT_PLAIN:
                return "text/plain; version=0.0.4; charset=utf-8";
        case CF_JSON_LINES:
                return "application/x-ndjson";
        case CF_OCTET_STREAM:
                return "application/octet-stream";
        default:
                return "application/json";
        }
}

/* ---- who may */

/* Is the process at the other end in this group, as the kernel knew it when it connected (SO_PEERGROUPS)? */
static bool peer_in_group(int fd, gid_t gid) {
        _cleanup_(freep) gid_t *groups = NULL;
        socklen_t size = 0;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0 || errno != ERANGE)
                return false;
        groups = malloc(size);
        if (!groups || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) != 0)
                return false;
        for (size_t i = 0; i < size / sizeof(gid_t); i++)
                if (groups[i] == gid)
                        return true;
        return false;
}

/* The socket that we bound, not what somebody may have put in its place; -1: it is not there any more. */
static int socket_open(const struct http *http) {
        _cleanup_(closep) int fd = open(http->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        struct stat is;

        if (fd < 0 || fstat(fd, &is) != 0 || is.st_dev != http->device || is.st_ino != http->inode)
                return -1;
        return TAKE_FD(fd);
}

static int socket_chown(const struct http *http, gid_t gid) {
        _cleanup_(closep) int fd = socket_open(http);

        return fd < 0 ? -ENOENT : fchownat(fd, "", (uid_t)-1, gid, AT_EMPTY_PATH) == 0 ? 0 : -errno;
}

/* By its number: fchmod() does not take what was opened for its place alone. */
static int socket_chmod(const struct http *http, mode_t mode) {
        _cleanup_(closep) int fd = socket_open(http);
        char path[32];

        if (fd < 0)
                return -ENOENT;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        return chmod(path, mode) == 0 ? 0 : -errno;
}

/*
 * The socket belongs to our user and to the control group, when there is one. The group is looked up here and not for
 * every peer: a name service may be slow, and everything waits for us.
 */
void http_reconfigure(struct http *http) {
        const char *name = http->as->config->control_group;
        const struct group *group;
        int r;

        name = name ? name : "";
        group = *name != '\0' ? getgrnam(name) : NULL;
        http->has_gid = group != NULL;
        http->gid = group ? group->gr_gid : 0;
        if (!group && *name != '\0')
                log_line(LOG_LEVEL_NOTICE, "control socket: there is no group %s: only root and our own user are "
                         "admitted", name);
        if (http->has_gid && (r = socket_chown(http, http->gid)) != 0) {
                log_line(LOG_LEVEL_WARNING, "control socket: cannot give %s to group %s (%s): only root and our own "
                         "user are admitted", http->path, name, strerror(-r));
                http->has_gid = false;
        }
        r = socket_chmod(http, http->has_gid ? 0660 : 0600);
        if (r != 0)
                log_line(LOG_LEVEL_WARNING, "control socket: cannot set the mode of %s (%s)", http->path,
                         strerror(-r));
}

/* SO_PEERCRED says who connected; nothing that is sent can change it. */
static int call_admit(struct call *call, int fd) {
        struct http *http = call->http;
        struct ucred who;
        socklen_t size = sizeof(who);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0)
                return -errno;
        call->peer = (struct peer){ .channel = CHANNEL_LOCAL, .uid = who.uid };
        snprintf(call->peer.name, sizeof(call->peer.name), "uid %u", (unsigned)who.uid);
        if (who.uid == 0 || who.uid == geteuid() ||
            (http->has_gid && (who.gid == http->gid || peer_in_group(fd, http->gid))))
                return 0;
        log_line(LOG_LEVEL_WARNING, "control socket: uid %u is not admitted", (unsigned)who.uid);
        if (http->has_gid)
                response_why(&call->work.response, "user %u may not administer: be root, the user aced runs as, or a "
                             "member of group %s (then log in again)", (unsigned)who.uid,
                             http->as->config->control_group);
        else
                response_why(&call->work.response, "user %u may not administer: be root or the user aced runs as",
                             (unsigned)who.uid);
        return REFUSE_FORBIDDEN;
}

/* ---- answers */

/* Does the router's path "/v1/clients/{}" stand for what was asked? */
static bool path_matches(const char *path, const struct request *request) {
        size_t n = 0;

        while (*path == '/') {
                size_t size = strcspn(++path, "/");

                if (n == request->n_segments ||
                    (strncmp(path, "{}", size) != 0 && !bytes_equal(bytes_of(path, size), request->segments[n])))
                        return false;
                n++;
                path += size;
        }
        return n == request->n_segments;
}

/* RFC 9110 §15.5.6: 405 says which methods there are. */
static void add_allow(struct MHD_Response *answer, const struct request *request) {
        const struct resource *row;
        char allow[64] = "";

        for (size_t n = 0; (row = router_resource(n)) != NULL; n++)
                for (size_t i = 0; i < N_ELEMENTS(methods); i++)
                        if ((row->callers & CALLER_LOCAL) && row->method == methods[i].method &&
                            path_matches(row->path, request) && !strstr(allow, methods[i].text)) {
                                size_t at = strlen(allow);

                                snprintf(allow + at, sizeof(allow) - at, "%s%s", at > 0 ? ", " : "", methods[i].text);
                        }
        MHD_add_response_header(answer, MHD_HTTP_HEADER_ALLOW, allow);
}

/* What is refused here, in front of the router, is told in its words; there was no decision that had an id. */
static int error_body(const struct response *response, struct buf *body) {
        const struct refusal_row *row = refusal_row(response->refusal);
        json_t *error = json_pack("{s:s, s:s}", "error", row->name, "detail",
                                  response->why[0] != '\0' ? response->why : row->text);
        int r = error ? json_print(error, body) : -ENOMEM;

        json_decref(error);
        return r;
}

static unsigned http_status(const struct response *response) {
        if (response->refusal != 0)
                return refusal_row(response->refusal)->http_status;
        if (response->code == CODE_CREATED)
                return MHD_HTTP_CREATED;
        return response->payload.size > 0 || response->stream ? MHD_HTTP_OK : MHD_HTTP_NO_CONTENT;
}

/* The answer to a request that made a key has it inside. */
static void body_free(void *context) {
        struct buf *body = context;

        if (body->data)
                wipe(body->data, body->capacity);
        buf_done(body);
        free(body);
}

static struct MHD_Response *answer_from_payload(struct response *response) {
        struct MHD_Response *answer;
        struct buf *body = calloc(1, sizeof(*body));
        void *content;

        if (!body)
                return NULL;
        *body = response->payload;
        response->payload = (struct buf){};
        content = body->data ? (void *)body->data : body; /* without a body nobody looks, but NULL is refused */
        answer = MHD_create_response_from_buffer_with_free_callback_cls(body->size, content, body_free, body);
        if (!answer)
                body_free(body);
        else if (body->size > 0)
                MHD_add_response_header(answer, MHD_HTTP_HEADER_CONTENT_TYPE, media_type(response->content_format));
        return answer;
}

static ssize_t stream_read(void *context, uint64_t offset, char *data, size_t size) {
        struct response_stream *stream = context;
        size_t n = 0;

        if (stream->next) {
                if (stream->next(stream, (uint8_t *)data, size, &n) != 0)
                        return MHD_CONTENT_READER_END_WITH_ERROR;
                return n > 0 ? (ssize_t)n : MHD_CONTENT_READER_END_OF_STREAM;
        }
        if (size > stream->size - offset)
                size = (size_t)(stream->size - offset);
        return stream->read(stream, offset, (uint8_t *)data, size) == 0 ? (ssize_t)size :
                                                                          MHD_CONTENT_READER_END_WITH_ERROR;
}

static void stream_free(void *context) {
        struct response_stream *stream = context;

        stream->free(stream);
}

static struct MHD_Response *answer_from_stream(struct response *response) {
        uint64_t size = response->stream->next ? MHD_SIZE_UNKNOWN : response->stream->size;
        struct MHD_Response *answer;

        answer = MHD_create_response_from_callback(size, STREAM_PIECE, stream_read, response->stream, stream_free);
        if (!answer)
                return NULL;
        response->stream = NULL; /* libmicrohttpd has it */
        MHD_add_response_header(answer, MHD_HTTP_HEADER_CONTENT_TYPE, media_type(response->content_format));
        return answer;
}

/* Refused in front of the router, which counts the others. */
static void call_count(const struct call *call) {
        const struct response *response = &call->work.response;

        if (response->refusal != 0 && response->code == CODE_EMPTY)
                metrics_answered(&call->http->as->metrics, NULL, refusal_row(response->refusal)->coap_code,
                                 response->refusal);
}

static enum MHD_Result call_answer(struct call *call, struct MHD_Connection *connection) {
        struct response *response = &call->work.response;
        unsigned status = http_status(response);
        struct MHD_Response *answer;
        enum MHD_Result done;

        call_count(call);
        if (status >= 400 && response->payload.size == 0) {
                if (error_body(response, &response->payload) != 0)
                        return MHD_NO;
        }
        answer = response->stream ? answer_from_stream(response) : answer_from_payload(response);
        if (!answer)
                return MHD_NO;
        MHD_add_response_header(answer, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
        if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
                add_allow(answer, &call->work.request);
        done = MHD_queue_response(connection, status, answer);
        MHD_destroy_response(answer);
        return done;
}

/* ---- requests, as libmicrohttpd hands them over */

/* The first it tells us of a request: the request line's target as it was sent. */
static void *on_uri(void *context, const char *uri, struct MHD_Connection *connection) {
        struct call *call = calloc(1, sizeof(*call));

        if (!call)
                return NULL;
        call->http = context;
        response_init(&call->work.response);
        call->work.request.peer = &call->peer;
        call->work.response.refusal = call_set_target(call, uri);
        return call;
}

static void call_free(struct call *call) {
        if (!call)
                return;
        if (call->body.data)
                wipe(call->body.data, call->body.capacity); /* a key may have been in it */
        buf_done(&call->body);
        response_done(&call->work.response);
        free(call->target);
        free(call);
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code) {
        call_free(*state);
        *state = NULL;
}

static const char *header(struct MHD_Connection *connection, const char *name) {
        return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

/* Many rows in one body, which take their time. */
static bool is_large(const struct call *call) {
        return call->body.limit > (size_t)call->http->as->config->control_body_max;
}

static int refuse_large(struct call *call) {
        response_why(&call->work.response, "the body is over %zu bytes ([limits] %s)", call->body.limit,
                     is_large(call) ? "apply_body_max): send the rows in several requests (acectl apply --batch" :
                                      "control_body_max");
        return REFUSE_TOO_LARGE;
}

static uint64_t discard_max(const struct call *call) {
        uint64_t max = (uint64_t)call->http->as->config->control_body_max * CONTROL_DISCARD_FACTOR;

        return call->body.limit > max ? call->body.limit : max;
}

/* Room for the whole body at once: a key may be in it, and a buffer that grows leaves copies behind. */
static int call_expect(struct call *call, const char *content_length) {
        uint8_t *space;

        call->declared = content_length ? strtoull(content_length, NULL, 10) : 0;
        call->body.limit = router_payload_max(call->http->as, &call->work.request);
        if (call->declared > call->body.limit)
                return refuse_large(call);
        return call->declared > 0 ? buf_reserve(&call->body, (size_t)call->declared, &space) : 0;
}

/* Everything that the headers tell. A refusal found here is answered once the body is out of the way. */
static void call_begin(struct call *call, struct MHD_Connection *connection, const char *method) {
        const union MHD_ConnectionInfo *info;
        struct request *request = &call->work.request;
        bool known = method_from_text(method, &request->method);
        int r;

        info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        r = info ? call_admit(call, info->connect_fd) : -EIO;
        if (r != 0 || call->work.response.refusal != 0) {
                call->work.response.refusal = r != 0 ? r : call->work.response.refusal;
                return;
        }
        call->work.response.refusal = call_expect(call, header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH));
        if (!known)
                call->work.response.refusal = REFUSE_METHOD;
        if (is_large(call))
                MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, CONTROL_LARGE_S);
        request->content_format = content_format(header(connection, MHD_HTTP_HEADER_CONTENT_TYPE));
        request->accept = accept_format(header(connection, MHD_HTTP_HEADER_ACCEPT));
}

/* Keep a piece of the body, or drop it when the request is refused already or the limit is passed. */
static enum MHD_Result call_take(struct call *call, struct bytes piece) {
        int r;

        call->received += piece.size;
        if (call->received > discard_max(call))
                return MHD_NO;
        if (call->work.response.refusal != 0)
                return MHD_YES;
        r = buf_add(&call->body, piece);
        call->work.response.refusal = r == -EOVERFLOW ? refuse_large(call) : r;
        return MHD_YES;
}

static void call_run(struct call *call) {
        struct work *work = &call->work;

        work->request.payload = buf_bytes(&call->body);
        if (call->body.size == 0)
                work->request.content_format = CF_NONE;
        work->request.now_s = clock_wall_s();
        router_batch(call->http->as, &(struct work *){ work }, 1);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **state) {
        struct call *call = *state;

        if (!call) /* no memory when it began */
                return MHD_NO;
        if (!call->begun) {
                call->begun = true;
                call_begin(call, connection, method);
                /* answered at once, the connection closed behind it, when the body is not worth reading */
                return call->declared > discard_max(call) ? call_answer(call, connection) : MHD_YES;
        }
        if (*size > 0) {
                struct bytes piece = bytes_of(data, *size);

                *size = 0;
                return call_take(call, piece);
        }
        if (call->work.response.refusal == 0)
                call_run(call);
        return call_answer(call, connection);
}

/* ---- the loop */

/* libmicrohttpd tells when it wants to be called even if nothing comes in. */
static int http_rearm(struct http *http) {
        unsigned long long due_ms;
        int r;

        if (MHD_get_timeout(http->daemon, &due_ms) != MHD_YES)
                return sd_event_source_set_enabled(http->timer, SD_EVENT_OFF);
        if (due_ms > CONTROL_IDLE_S * 1000ULL)
                due_ms = CONTROL_IDLE_S * 1000ULL;
        r = sd_event_source_set_time_relative(http->timer, due_ms * 1000);
        return r < 0 ? r : sd_event_source_set_enabled(http->timer, SD_EVENT_ONESHOT);
}

static int http_run(struct http *http) {
        MHD_run(http->daemon);
        return http_rearm(http);
}

static int on_ready(sd_event_source *source, int fd, uint32_t events, void *context) {
        return http_run(context);
}

static int on_time(sd_event_source *source, uint64_t now_us, void *context) {
        return http_run(context);
}

static int http_attach(struct http *http, sd_event *loop) {
        const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
        int r;

        if (!info)
                return -EIO;
        r = sd_event_add_io(loop, &http->io, info->epoll_fd, EPOLLIN, on_ready, http);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(loop, &http->timer, CLOCK_MONOTONIC, 0, 1000, on_time, http);
        if (r < 0)
                return r;
        sd_event_source_set_description(http->io, "control socket");
        sd_event_source_set_description(http->timer, "control socket timeouts");
        return http_rearm(http);
}

/* ---- the socket */

/* May a new socket stand at this path? A socket file that nobody answers on is left over from a crash: it goes. */
static int path_clear(const struct sockaddr_un *address, struct diags *diags) {
        _cleanup_(closep) int probe = -1;
        struct stat at;

        if (lstat(address->sun_path, &at) != 0)
                return 0; /* not there; whatever else is wrong, bind() will tell */
        if (!S_ISSOCK(at.st_mode)) {
                diags_add(diags, NULL, 0, "control socket: %s exists and is no socket: remove it, or set [control] "
                          "socket", address->sun_path);
                return -EEXIST;
        }
        probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (probe < 0)
                return -errno;
        /* EAGAIN: there is somebody, with a full queue */
        if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno != ECONNREFUSED) {
                diags_add(diags, NULL, 0, "control socket: another program listens on %s: stop it, or set [control] "
                          "socket", address->sun_path);
                return -EADDRINUSE;
        }
        return unlink(address->sun_path) == 0 ? 0 : -errno;
}

/* Bound with mode 0600: nobody else can connect before http_reconfigure() has set group and mode. */
static int socket_bind(const struct sockaddr_un *address, int *ret_fd) {
        _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        mode_t before;
        int r;

        if (fd < 0)
                return -errno;
        before = umask(0177);
        r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ? 0 : -errno;
        umask(before);
        if (r == 0 && listen(fd, SOMAXCONN) != 0) {
                r = -errno;
                unlink(address->sun_path);
        }
        if (r == 0)
                *ret_fd = TAKE_FD(fd);
        return r;
}

static int http_listen(struct http *http, int *ret_fd, struct diags *diags) {
        const char *path = http->as->config->control_socket;
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct stat made;
        int r;

        if (strlen(path) >= sizeof(address.sun_path)) {
                diags_add(diags, NULL, 0, "control socket: %s is longer than the %zu bytes that a socket's path may "
                          "have", path, sizeof(address.sun_path) - 1);
                return -ENAMETOOLONG;
        }
        memcpy(address.sun_path, path, strlen(path));
        r = path_clear(&address, diags);
        if (r == 0)
                r = socket_bind(&address, ret_fd);
        if (r != 0) {
                if (r != -EEXIST && r != -EADDRINUSE)
                        diags_add(diags, NULL, 0, "control socket: cannot listen on %s: %s%s", path, strerror(-r),
                                  r == -ENOENT ? ": make the directory, or set [control] socket" : "");
                return r;
        }
        http->path = strdup(path);
        if (!http->path)
                return -ENOMEM;
        if (lstat(path, &made) == 0) {
                http->device = made.st_dev;
                http->inode = made.st_ino;
        }
        http_reconfigure(http);
        return 0;
}

static int http_start(struct http *http, sd_event *loop, struct diags *diags) {
        _cleanup_(closep) int fd = -1;
        int r = http_listen(http, &fd, diags);

        if (r != 0)
                return r;
        http->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, http,
                                        MHD_OPTION_LISTEN_SOCKET, fd,
                                        MHD_OPTION_URI_LOG_CALLBACK, on_uri, http,
                                        MHD_OPTION_NOTIFY_COMPLETED, on_completed, http,
                                        MHD_OPTION_CONNECTION_LIMIT, CONTROL_CONNECTIONS_MAX,
                                        MHD_OPTION_CONNECTION_TIMEOUT, CONTROL_IDLE_S,
                                        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONTROL_MEMORY_MAX,
                                        MHD_OPTION_END);
        if (!http->daemon) {
                diags_add(diags, NULL, 0, "control socket: libmicrohttpd does not start");
                return -EIO;
        }
        TAKE_FD(fd); /* libmicrohttpd closes it */
        return http_attach(http, loop);
}

DEFINE_FREEP(struct http, http_free)

int http_control_new(struct sd_event *loop, struct aced *as, struct http **ret, struct diags *diags) {
        _cleanup_(http_freep) struct http *http = calloc(1, sizeof(*http));
        int r;

        if (!http)
                return -ENOMEM;
        http->as = as;
        r = http_start(http, loop, diags);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(http);
        return 0;
}

unsigned http_connections(const struct http *http) {
        const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

        return info ? info->num_connections : 0;
}

void http_free(struct http *http) {
        struct stat at;

        if (!http)
                return;
        sd_event_source_disable_unref(http->io);
        sd_event_source_disable_unref(http->timer);
        if (http->daemon)
                MHD_stop_daemon(http->daemon);
        if (http->path && lstat(http->path, &at) == 0 && at.st_dev == http->device && at.st_ino == http->inode)
                unlink(http->path);
        free(http->path);
        free(http);
}
