#pragma once

#include <stdint.h>

#include "support/dtls_client.h"

struct aced;

#define DOOR_RESULT_SIZE 64

/*
 * Knock at the DTLS door: a handshake between this client and an engine of its own on as, in memory. ret: "CIPHER",
 * "CIPHER GROUP" where a group was agreed on, or "alert NUMBER". 0, or -errno when not even that came about.
 */
int door_handshake(struct aced *as, int64_t now_s, const struct dtls_client_options *options,
                   char ret[static DOOR_RESULT_SIZE]);

/*
 * The same, and then n requests at once: POST to a path of one segment, application/ace+cbor. How many were answered 4.29,
 * each with a Max-Age (RFC 8516), and how many with a success; -EPROTO when there was no handshake, an answer is missing
 * or is any other.
 */
struct door_burst {
        unsigned n_limited, n_success;
};
int door_burst(struct aced *as, int64_t now_s, const struct dtls_client_options *options, const char *path,
               struct bytes payload, unsigned n, struct door_burst *ret);
