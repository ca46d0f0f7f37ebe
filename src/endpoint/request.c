#include "endpoint/request.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "format/trl.h"

const char *method_name(enum method method) {
        static const char *const names[] = {
                [METHOD_GET] = "GET",       [METHOD_POST] = "POST",   [METHOD_PUT] = "PUT",
                [METHOD_DELETE] = "DELETE", [METHOD_FETCH] = "FETCH", [METHOD_PATCH] = "PATCH",
                [METHOD_IPATCH] = "iPATCH",
        };

        return names[method];
}

const char *channel_name(enum channel channel) {
        static const char *const names[] = {
                [CHANNEL_PLAIN] = "coap",
                [CHANNEL_DTLS] = "dtls",
                [CHANNEL_OSCORE] = "oscore",
                [CHANNEL_LOCAL] = "local",
        };

        return names[channel];
}

void response_init(struct response *response) {
        *response = (struct response){
                .content_format = CF_NONE,
                .max_age_s = -1,
                .topic = -1,
                .cursor = CURSOR_NONE,
                .payload = BUF_INIT(ANSWER_SIZE_MAX),
        };
}

void response_done(struct response *response) {
        response_drop(response);
        buf_done(&response->payload);
}

void response_drop(struct response *response) {
        if (response->payload.data)
                wipe(response->payload.data, response->payload.capacity);
        buf_clear(&response->payload);
        if (response->stream)
                response->stream->free(TAKE_PTR(response->stream));
}

int response_reserve(struct response *response, size_t size) {
        uint8_t *space;

        return buf_reserve(&response->payload, size, &space);
}

void response_why(struct response *response, const char *format, ...) {
        va_list args;

        va_start(args, format);
        if (vsnprintf(response->why, sizeof(response->why), format, args) < 0)
                response->why[0] = '\0';
        va_end(args);
        for (char *at = response->why; *at; at++) {
                if (strncmp(at, "§", strlen("§")) == 0) /* our own, in front of a section's number */
                        at += strlen("§") - 1;
                else if (*at < ' ' || *at > '~')
                        *at = '?';
        }
}

struct bytes request_query(const struct request *request, const char *name) {
        size_t size = strlen(name);

        for (size_t i = 0; i < request->n_queries; i++) {
                struct bytes query = request->queries[i];

                if (query.size > size && query.data[size] == '=' &&
                    bytes_equal(bytes_of(query.data, size), bytes_text(name)))
                        return bytes_of(query.data + size + 1, query.size - size - 1);
        }
        return BYTES_NONE;
}

/* The low half: it counts up by one a decision, and an answer to a device is short. */
void decision_text(uint64_t decision_id, char text[static DECISION_TEXT_SIZE]) {
        snprintf(text, DECISION_TEXT_SIZE, "%08" PRIx32, (uint32_t)decision_id);
}
