#pragma once

#include "transport/engine.h"

struct sd_event;
struct config;
struct diags;
struct udp;

/*
 * The sockets of the engine on an sd_event loop: recvmmsg → engine → sendmmsg. Opens what config names. Faults (address
 * in use, …) as text in *diags.
 */
int udp_new(struct sd_event *loop, struct engine *engine, const struct config *config, struct udp **ret,
            struct diags *diags);
void udp_free(struct udp *udp);

/* The addresses really bound (port 0 resolved), n-th or false. */
bool udp_bound(const struct udp *udp, unsigned n, enum door *ret_door, struct address *ret);

/* Send what the engine has to say and stop reading: the daemon stops. */
void udp_drain(struct udp *udp);
