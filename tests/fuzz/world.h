#pragma once

#include "base/buf.h"
#include "crypto/key.h"
#include "endpoint/aced.h"
#include "format/coap.h"
#include "transport/engine.h"

/*
 * An instance in memory for targets that need all of it: clients "c0" and "c1" that may read and write at "rs1", the
 * server "rs1"; each has a credential of its own name with the key "key of NAME". The clock and randomness are fake and
 * begin the same for each input; so does the store, which c0 has one token in.
 */
struct world {
        struct store *store;
        struct aced as;
        struct engine *engine;
        struct engine_time now;
};

#define WORLD_START_S 1700000000 /* the wall clock at first */
#define WORLD_PARTIES 3
extern const char *const world_parties[WORLD_PARTIES]; /* c0, c1, rs1 */

/*
 * A key pair that c1 is registered with, as raw public key and by the rule for its certificate, which is a trust
 * anchor; and clients of dtls_client_new() with it.
 */
struct dtls_client_keys;
struct world_key {
        uint8_t spki[SPKI_SIZE_MAX];
        size_t spki_size;
        struct trust_anchors *anchors;
        struct dtls_client_keys *raw, *certified;
};
const struct world_key *world_key(void);

/* Security contexts (RFC 8613) of the parties in that order; the second may be renewed. id_context: data NULL first. */
#define WORLD_CONTEXTS WORLD_PARTIES
#define WORLD_RENEWS 1
struct oscore_keys;
void world_context(unsigned n, struct bytes id_context, struct oscore_keys *ret);

void world_open(struct world *world);
void world_close(struct world *world);

/* Time passes: 0, or up to some minutes, by three bits of an input. */
void world_wait(struct world *world, unsigned bits);
void world_wait_us(struct world *world, int64_t us);

void world_input(struct world *world, enum door door, const struct address *remote, struct bytes data);
/* Batches until nothing waits. */
void world_run(struct world *world);
/* Hand each datagram that the engine has to say to hear(). */
void world_deliver(struct world *world, void (*hear)(void *context, const struct datagram *datagram), void *context);

/* 127.0.0.1 or ::1 with this port. */
struct address world_address(bool v6, unsigned port);

/* GET /.well-known/core, confirmable. */
void world_discover(uint16_t mid, struct buf *ret);

/* What we say is a message, and none that says that something broke here. */
void world_must_be_answer(struct bytes datagram, struct coap_message *ret);
