#include "main/invocation.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/diag.h"
#include "base/secret.h"

#define URL_MAX ((size_t)16 * 1024)
#define STALLED_S 60L /* without a byte of what comes in pieces */
#define REQUEST_TIMEOUT_S 60L

/* ---- what is said */

void say(const char *format, ...) {
        _cleanup_(freep) char *text = NULL, *safe = NULL;
        va_list arguments;
        int r;

        va_start(arguments, format);
        r = vasprintf(&text, format, arguments);
        va_end(arguments);
        if (r < 0)
                text = NULL;
        safe = text ? print_safe(text) : NULL;
        fprintf(stderr, "acectl: %s\n", safe ? safe : "out of memory");
}

int out_of_memory(void) {
        say("out of memory");
        return STATUS_INTERNAL;
}

int say_diags(const struct diags *diags) {
        for (size_t i = 0; i < diags->n_items; i++) {
                const struct diag *diag = &diags->items[i];

                if (diag->file && diag->line > 0)
                        say("%s:%u: %s", diag->file, diag->line, diag->text);
                else
                        say("%s%s%s", diag->file ? diag->file : "", diag->file ? ": " : "", diag->text);
        }
        return STATUS_REFUSED;
}

int check_printed(int r) {
        if (r == 0)
                r = print_finish();
        if (r == 0)
                return STATUS_DONE;
        say("cannot write the answer: %s", strerror(-r));
        return STATUS_INTERNAL;
}

bool time_parse(const char *text, json_int_t *ret) {
        struct tm parts = {}, check;
        char again[32], *end;
        time_t at;

        if (*text != '\0' && strspn(text, "0123456789") == strlen(text) && strlen(text) < 16) {
                *ret = strtoll(text, NULL, 10);
                return true;
        }
        end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &parts);
        if (!end || *end != '\0')
                return false;
        at = timegm(&parts);
        /* strptime() is lenient about blanks, missing digits and the 31st of June */
        if (!gmtime_r(&at, &check) || strftime(again, sizeof(again), "%Y-%m-%dT%H:%M:%SZ", &check) == 0 ||
            strcmp(again, text) != 0)
                return false;
        *ret = at;
        return true;
}

/* ---- requests */

void answer_done(struct answer *answer) {
        json_decref(answer->json);
        if (answer->body.data)
                wipe(answer->body.data, answer->body.capacity); /* a key may be in it */
        buf_done(&answer->body);
        *answer = (struct answer){};
}

size_t on_body(char *data, size_t size, size_t n, void *context) {
        struct answer *answer = context;

        return buf_add(&answer->body, bytes_of(data, size * n)) == 0 ? size * n : 0;
}

static int add_escaped(struct buf *url, CURL *curl, const char *text) {
        char *escaped = curl_easy_escape(curl, text, 0);
        int r = escaped ? buf_add(url, bytes_text(escaped)) : -ENOMEM;

        curl_free(escaped);
        return r;
}

static int add_query(struct buf *url, CURL *curl, bool *begun, const char *name, const json_t *value) {
        int r = buf_printf(url, "%c%s=", *begun ? '&' : '?', name);

        *begun = true;
        if (r != 0)
                return r;
        if (json_is_string(value))
                return add_escaped(url, curl, json_string_value(value));
        if (json_is_boolean(value))
                return buf_printf(url, "%s", json_is_true(value) ? "true" : "false");
        return buf_printf(url, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
}

/* Path with its {} filled; for what is only read, the values go into the query. */
static int url_build(const struct invocation *invocation, CURL *curl, const json_t *after, struct buf *url) {
        const char *path = invocation->verb->path;
        int r = buf_add(url, bytes_text("http://localhost"));
        bool begun = false;
        const char *name;
        json_t *value;

        for (size_t n = 0; r == 0 && *path != '\0';) {
                size_t size = strcspn(path, "{");

                r = buf_add(url, bytes_of(path, size));
                path += size;
                if (r == 0 && *path == '{') {
                        r = add_escaped(url, curl, invocation->path_values[n++]);
                        path += strlen("{}");
                }
        }
        if (strcmp(invocation->verb->method, "GET") == 0)
                json_object_foreach(invocation->values, name, value)
                        if (r == 0)
                                r = add_query(url, curl, &begun, name, value);
        if (r == 0 && after)
                r = add_query(url, curl, &begun, "after", after);
        return r == 0 ? buf_add_byte(url, 0) : r;
}

int unreachable(const struct invocation *invocation, CURL *curl, CURLcode code) {
        const char *socket = invocation->socket;
        long error = 0;

        curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &error);
        if (code == CURLE_OPERATION_TIMEDOUT)
                say("aced does not answer on %s within %ld s; its log may say why (journalctl -u aced)", socket,
                    REQUEST_TIMEOUT_S);
        else if (code != CURLE_COULDNT_CONNECT)
                say("aced cannot be talked to on %s: %s", socket, curl_easy_strerror(code));
        else if (error == EACCES || error == EPERM)
                say("no permission for %s: be root, the user aced runs as, or a member of its control group (usually "
                    "aced-admin; log in again after being added)", socket);
        else if (error == ENOENT)
                say("there is no control socket %s: aced is not running (systemctl start aced), or listens elsewhere "
                    "(-s SOCKET or ACED_CONTROL)", socket);
        else if (error == ECONNREFUSED)
                say("nobody listens on %s: aced has stopped (systemctl start aced)", socket);
        else
                say("cannot connect to %s: %s", socket, error != 0 ? strerror((int)error) : curl_easy_strerror(code));
        return STATUS_UNREACHABLE;
}

int refused(const struct invocation *invocation, const struct answer *answer) {
        const char *name = json_string_value(json_object_get(answer->json, "error"));
        const char *detail = json_string_value(json_object_get(answer->json, "detail"));
        const char *decision = json_string_value(json_object_get(answer->json, "decision"));

        if (!name || !detail) {
                say("what answers on %s does not speak as aced does (HTTP status %ld)", invocation->socket,
                    answer->http_status);
                return STATUS_INTERNAL;
        }
        say("%s: %s (%s%s%s)", invocation->verb->words, detail, name, decision ? ", decision " : "",
            decision ? decision : "");
        return answer->http_status >= 500 ? STATUS_INTERNAL : STATUS_REFUSED;
}

int request_perform(const struct invocation *invocation, CURL *curl, struct answer *answer) {
        CURLcode code = curl_easy_perform(curl);

        if (code == CURLE_WRITE_ERROR)
                return out_of_memory();
        if (code != CURLE_OK)
                return unreachable(invocation, curl, code);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer->http_status);
        if (invocation->verb->is_text && answer->http_status < 300) {
                answer->json = json_pack("{s:s%}", "text", (const char *)answer->body.data, answer->body.size);
                return answer->json ? STATUS_DONE : out_of_memory();
        }
        if (answer->body.size > 0)
                answer->json = json_loadb((const char *)answer->body.data, answer->body.size, 0, NULL);
        if (answer->http_status >= 300 || (answer->body.size > 0 && !json_is_object(answer->json)))
                return refused(invocation, answer);
        return STATUS_DONE;
}

struct stream {
        CURL *curl;
        int (*take)(void *context, struct bytes piece);
        void *context;
        int status;           /* what take() said */
        struct answer answer; /* what came instead */
};

static void stream_done(struct stream *stream) {
        if (stream->curl)
                curl_easy_cleanup(stream->curl);
        answer_done(&stream->answer);
}

static size_t on_piece(char *data, size_t size, size_t n, void *context) {
        struct stream *stream = context;
        long status = 0;

        curl_easy_getinfo(stream->curl, CURLINFO_RESPONSE_CODE, &status);
        if (status >= 300)
                return on_body(data, size, n, &stream->answer);
        stream->status = stream->take(stream->context, bytes_of(data, size * n));
        return stream->status == STATUS_DONE ? size * n : 0;
}

int request_stream(const struct invocation *invocation, const char *url, int (*take)(void *context, struct bytes piece),
                   void *context) {
        _cleanup_(stream_done) struct stream stream = { .curl = curl_easy_init(), .take = take, .context = context,
                                                        .answer.body.limit = ANSWER_MAX };
        struct answer *answer = &stream.answer;
        CURLcode code;

        if (!stream.curl)
                return out_of_memory();
        curl_easy_setopt(stream.curl, CURLOPT_UNIX_SOCKET_PATH, invocation->socket);
        curl_easy_setopt(stream.curl, CURLOPT_URL, url);
        curl_easy_setopt(stream.curl, CURLOPT_PROXY, ""); /* whatever the environment says */
        curl_easy_setopt(stream.curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(stream.curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(stream.curl, CURLOPT_LOW_SPEED_TIME, STALLED_S);
        curl_easy_setopt(stream.curl, CURLOPT_WRITEFUNCTION, on_piece);
        curl_easy_setopt(stream.curl, CURLOPT_WRITEDATA, &stream);
        code = curl_easy_perform(stream.curl);
        curl_easy_getinfo(stream.curl, CURLINFO_RESPONSE_CODE, &answer->http_status);
        if (stream.status != STATUS_DONE)
                return stream.status;
        if (code != CURLE_OK && answer->http_status != 0) {
                say("%s: it was cut off (%s): try again; aced's log says why when aced did it", invocation->verb->words,
                    curl_easy_strerror(code));
                return STATUS_INTERNAL;
        }
        if (code != CURLE_OK)
                return unreachable(invocation, stream.curl, code);
        if (answer->http_status < 300)
                return STATUS_DONE;
        answer->json = json_loadb((const char *)answer->body.data, answer->body.size, 0, NULL);
        return refused(invocation, answer);
}

int request_send(const struct invocation *invocation, const json_t *after, struct answer *answer) {
        _cleanup_(curl_easy_cleanupp) CURL *curl = curl_easy_init();
        _cleanup_(curl_slist_free_allp) struct curl_slist *headers = NULL;
        _cleanup_(buf_done) struct buf url = BUF_INIT(URL_MAX);
        _cleanup_(freep) char *body = NULL;
        const struct verb *verb = invocation->verb;
        int r;

        answer->body.limit = ANSWER_MAX;
        headers = curl_slist_append(NULL, "Content-Type: application/json");
        if (!curl || !headers || url_build(invocation, curl, after, &url) != 0)
                return out_of_memory();
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, invocation->socket);
        curl_easy_setopt(curl, CURLOPT_URL, (const char *)url.data);
        curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* whatever the environment says */
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, verb->method);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, REQUEST_TIMEOUT_S);
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
        if (strcmp(verb->method, "GET") != 0 && strcmp(verb->method, "DELETE") != 0) {
                body = json_dumps(invocation->values, JSON_COMPACT);
                if (!body)
                        return out_of_memory();
                curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
                curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
        }
        r = request_perform(invocation, curl, answer);
        if (body)
                wipe(body, strlen(body));
        return r;
}
