#pragma once

struct sd_event;
struct aced;
struct diags;
struct http;

/*
 * The control socket: HTTP/1.1 + JSON over AF_UNIX by libmicrohttpd on the loop. A peer is admitted by SO_PEERCRED:
 * root, our own user, or a member of config's control group; anybody else gets 403 and nothing runs. Each request is a
 * batch of its own through the router. An old socket file nobody answers on is replaced; faults as text in *diags.
 */
int http_control_new(struct sd_event *loop, struct aced *as, struct http **ret, struct diags *diags);
/* The configuration was reloaded: the control group is taken from as->config again. */
void http_reconfigure(struct http *http);
/* That are open now; one more than CONTROL_CONNECTIONS_MAX is refused. */
#define CONTROL_CONNECTIONS_MAX 64U
unsigned http_connections(const struct http *http);
void http_free(struct http *http);
