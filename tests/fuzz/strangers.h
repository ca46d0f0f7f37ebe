#pragma once

#include "world.h"

/*
 * Some who speak at the coap door from addresses of their own, of which nothing is known: none is told more than three
 * times what he said. One more, the probe, comes when all is over.
 */
#define STRANGERS 4

struct strangers {
        size_t said[STRANGERS], heard[STRANGERS];
        bool is_served; /* the probe: discovery was answered */
};

/* A datagram of the n-th; STRANGERS: of the probe. */
void strangers_say(struct strangers *strangers, struct world *world, unsigned n, struct bytes datagram);

/* Unprotected, and decoded already. False: it was to the probe. */
bool strangers_hear(struct strangers *strangers, const struct datagram *datagram, const struct coap_message *message);

/* An hour later the probe asks for discovery, in a message of this number, and has to be served. */
void strangers_probe(struct strangers *strangers, struct world *world, uint16_t mid,
                     void (*hear)(void *context, const struct datagram *datagram), void *context);
