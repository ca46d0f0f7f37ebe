#pragma once

#include "endpoint/aced.h"

struct engine;
struct http;
struct udp;

/*
 * What the transports know, for GET /v1/status and GET /v1/metrics: where they listen, what they have counted, and the
 * limits with what is used of them. Borrows all it points to.
 */
struct status {
        const struct aced *as;
        const struct engine *engine;
        const struct udp *udp;
        const struct http *http;
};

/* context of both: a struct status; contracts in endpoint/aced.h */
int status_fill(void *context, void *json_object);
int status_figures(void *context, const struct figure_sink *sink);
