#pragma once

#include "transport/engine.h"

struct sd_event;
struct config;
struct diags;
struct udp;

/*
 * The sockets of the engine on an sd_event loop: recvmmsg → engine → sendmmsg. Opens what config names. Faults (address
 * in use, …) as text in *diags; then -EINVAL. -ENOMEM, or what the loop said.
 */
int udp_new(struct sd_event *loop, struct engine *engine, const struct config *config, struct udp **ret,
            struct diags *diags);
void udp_free(struct udp *udp);

/* The addresses really bound (port 0 resolved), n-th or false. */
bool udp_bound(const struct udp *udp, unsigned n, enum door *ret_door, struct address *ret);

/*
 * Stop reading, run the requests that still wait, say close_notify to everybody (engine_close) and send all of that:
 * the daemon stops.
 */
void udp_drain(struct udp *udp);

struct udp_figures {
        uint64_t n_truncated; /* datagrams over the size that we take: dropped */
        uint64_t n_unsent;    /* the kernel would not take them: dropped, as a network may */
};
void udp_figures(const struct udp *udp, struct udp_figures *ret);
