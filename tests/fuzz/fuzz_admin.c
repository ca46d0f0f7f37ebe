/*
 * What an administrator may send: requests to /v1, one after the other on the same store. Whatever they say is answered
 * from the table of refusals or done; nothing breaks; what should be JSON is; afterwards the store still answers.
 *
 *     METHOD /path?query        then the body, up to a line "%" and the next request
 */
#include <jansson.h>

#include "base/cleanup.h"
#include "endpoint/router.h"
#include "format/json.h"
#include "fuzz.h"
#include "world.h"

#define REQUESTS_MAX 32

static const struct {
        const char *name;
        enum method method;
} methods[] = {
        { "GET", METHOD_GET },       { "POST", METHOD_POST },   { "PUT", METHOD_PUT },     { "DELETE", METHOD_DELETE },
        { "FETCH", METHOD_FETCH },   { "PATCH", METHOD_PATCH }, { "IPATCH", METHOD_IPATCH },
};

/* Up to the separator, which is taken too. */
static struct bytes take_until(struct bytes *in, struct bytes separator) {
        const uint8_t *at = bytes_find(*in, separator);
        struct bytes part = bytes_of(in->data, at ? (size_t)(at - in->data) : in->size);

        *in = at ? bytes_of(at + separator.size, in->size - part.size - separator.size) : BYTES_NONE;
        return part;
}

static void read_target(struct bytes target, struct request *ret) {
        struct bytes path = take_until(&target, BYTES_LITERAL("?"));

        (void)take_until(&path, BYTES_LITERAL("/"));
        while (path.size > 0 && ret->n_segments < PATH_SEGMENTS_MAX)
                ret->segments[ret->n_segments++] = take_until(&path, BYTES_LITERAL("/"));
        while (target.size > 0 && ret->n_queries < QUERIES_MAX)
                ret->queries[ret->n_queries++] = take_until(&target, BYTES_LITERAL("&"));
}

static void must_be_answer(const struct resource *resource, const struct response *response) {
        _cleanup_(json_document_done) struct json_document document = {};
        _cleanup_(diags_done) struct diags faults = {};

        MUST(response->refusal >= 0 && response->refusal < REFUSALS); /* nothing broke */
        MUST(response->code >> 5 == 2 || response->code >> 5 == 4);
        MUST((response->code >> 5 == 2) == (response->refusal == 0));
        if (response->content_format == CF_NONE) {
                MUST(response->payload.size == 0);
                return;
        }
        if (response->refusal == 0 && resource->writes != CF_JSON) { /* metrics, the database itself */
                MUST(response->content_format == resource->writes);
                return;
        }
        MUST(response->content_format == CF_JSON);
        MUST(json_parse(buf_bytes(&response->payload), &document, &faults) == 0);
        if (response->refusal != 0) /* an error says which, what about, and where in the log */
                MUST(json_object_get(document.root, "error") && json_object_get(document.root, "detail") &&
                     json_object_get(document.root, "decision"));
}

static void run(struct world *world, struct request *request) {
        static const struct peer peer = { .channel = CHANNEL_LOCAL, .name = "uid 0" };
        struct work work = { .request = *request }, *works[] = { &work };

        work.request.peer = &peer;
        work.request.now_s = world->now.wall_s;
        work.request.accept = CF_NONE;
        response_init(&work.response);
        router_batch(&world->as, works, 1);
        must_be_answer(work.resource, &work.response);
        response_done(&work.response);
}

static void take_request(struct world *world, struct bytes *in) {
        struct bytes text = take_until(in, BYTES_LITERAL("\n%\n"));
        struct bytes line = take_until(&text, BYTES_LITERAL("\n")), method = take_until(&line, BYTES_LITERAL(" "));
        struct request request = { .method = METHOD_GET, .payload = text,
                                   .content_format = text.size > 0 ? CF_JSON : CF_NONE };

        for (size_t i = 0; i < N_ELEMENTS(methods); i++)
                if (bytes_equal(method, bytes_text(methods[i].name)))
                        request.method = methods[i].method;
        read_target(line, &request);
        run(world, &request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes in = bytes_of(data, size < FUZZ_GUARDED_MAX ? size : FUZZ_GUARDED_MAX);
        struct bytes probe = BYTES_LITERAL("GET /v1/clients");
        struct world world;

        world_open(&world);
        for (unsigned i = 0; i < REQUESTS_MAX && in.size > 0; i++) {
                take_request(&world, &in);
                world_wait(&world, 4);
        }
        take_request(&world, &probe);
        world_close(&world);
        return 0;
}
