#pragma once

#include "format/oscore.h"
#include "store/store.h"
#include "transport/address.h"

/*
 * Who talks in tests of the transports. A party's credential has its name as identity and "key of NAME", filled up with
 * zeros, as key. To be called inside a transaction; what fails ends the program.
 */
#define PARTY_KEY_SIZE 16
void party_key(const char *name, uint8_t ret[static PARTY_KEY_SIZE]);

/* The key under which tokens for a server are; the same for all. */
extern const uint8_t party_token_key[PARTY_KEY_SIZE];

/* A client that may have scope at the audience "rs1". default_audience NULL: none. */
void party_add_client(struct store *store, const char *name, const char *default_audience, const char *scope);

/* A resource server that is an audience of its own name, with the default scope "read". */
void party_add_server(struct store *store, const char *name);

/*
 * A security context (RFC 8613) of a client or server that was added: AES-CCM-16-64-128, SHA-256, "secret of NAME" as
 * Master Secret, no salt, no ID Context; the party's Sender ID is kid, ours is no byte.
 */
void party_add_context(struct store *store, const char *name, struct bytes kid);
/* The same, which may be renewed (Appendix B.2). */
void party_add_renewing_context(struct store *store, const char *name, struct bytes kid);
/* What the party derives from it; under another ID Context. */
void party_context(const char *name, struct bytes kid, struct oscore_keys *ret);
void party_context_under(const char *name, struct bytes kid, struct bytes id_context, struct oscore_keys *ret);

/* 127.0.0.1 with this port. */
struct address party_address(unsigned port);
