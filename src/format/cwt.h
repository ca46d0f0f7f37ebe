#pragma once

#include "base/buf.h"
#include "crypto/sign.h"
#include "domain/server.h"
#include "domain/token.h"

struct grant;

/* How one token is to be protected. Everything is borrowed. */
struct cwt_protection {
        enum token_format format; /* not TOKEN_FORMAT_OPAQUE */
        bool tagged;              /* tag 61 and the COSE tag under it */
        bool all_protected;       /* RFC 9770 §3: implies tagged, empty unprotected maps */
        enum aead_alg aead;       /* of what is encrypted: the token, or a symmetric PoP key in a readable one */
        enum mac_alg mac;
        struct bytes key, kid;    /* shared with the server: of aead for ENCRYPT0, SIGN_ENCRYPT, of mac for MAC0 */
        struct bytes wrap_key, wrap_kid; /* the same, of aead: for PoP keys in MAC0, SIGN1; no key, no kid: data NULL */
        struct aead *kept;        /* what encryptions share, see aead_seal_with(); may be NULL */
        struct bytes nonce;       /* of aead's size; the last eight bytes are the token's number; used once only */
        struct sign_key *signer;  /* of our own, for what is signed */
        struct bytes signer_kid;
};

/*
 * The claims of a token (RFC 8392 §3, RFC 8747 §3, RFC 9200 §5.10): iss, aud, exp or exi, nbf, iat, cti, cnf, scope,
 * cnonce. cnf has the public key by value; a symmetric one by value where the claims are going to be encrypted, as
 * Encrypted_COSE_Key under wrap_key where they are not (RFC 8747 §3.3; MAC0 and SIGN1), by kid alone where the server
 * derives it, or derived it from the token that the key was made for (no wrap_key). An OSCORE_Input_Material stands by
 * value where the claims are going to be encrypted, by its id in an update of access rights (RFC 9203 §3.2). protection
 * NULL: they are going to be encrypted. *claims is appended to and may hold the PoP key: the caller wipes it. Errors of
 * buf_add(), -EINVAL (sizes; material where all could read it), -EIO.
 */
int cwt_claims_encode(const struct grant *grant, struct bytes issuer, const struct cwt_protection *protection,
                      struct buf *claims);

/* Enough for a token and for its claims, whatever they are: bytes. */
#define CWT_SIZE_MAX 2048

/*
 * The token: claims protected (RFC 8392 §7.1), appended. A CWT tag stands only over a tagged COSE object (§6); what is
 * nested has its COSE tag always (§7.1). Errors as above.
 */
int cwt_protect(const struct cwt_protection *protection, struct bytes claims, struct buf *token);

/*
 * The key that a resource server computes from a token that names it by kid alone (AS-104): HKDF-SHA-256 without salt
 * over its derivation key, info [ "ACE-CoAP-DTLS-key-derivation", size, token ]. token: the bytes of access_token.
 */
int cwt_derive_key(struct bytes derivation_key, struct bytes token, size_t size, struct secret *ret);

/* An opaque token: number in eight bytes, then OPAQUE_RANDOM_SIZE random ones that the caller draws. */
#define OPAQUE_RANDOM_SIZE 16
int cwt_opaque(uint64_t number, const uint8_t random[static OPAQUE_RANDOM_SIZE], struct buf *token);

/*
 * The bytes that identify a token whatever tags stand around it (AS-173): token without a CWT tag and without the COSE
 * tag under it. What is no CBOR is its own core (an opaque token). The result borrows from token.
 */
struct bytes cwt_core(struct bytes token);

/*
 * Where to look for a token of ours: the number in its IV (encrypted, nested), its cti (signed, MACed), its first bytes
 * (opaque); of one with exi the cti's server and sequence number. Anybody can write one; a token is known by its hash.
 * REFUSE_MALFORMED: none that could be ours.
 */
struct cwt_place {
        bool by_exi;
        uint64_t number;   /* unless by_exi */
        int64_t server_id;
        uint64_t exi;
};
int cwt_find_place(struct bytes token, struct cwt_place *ret);

/* SHA-256 of cwt_core(token): what a token is known by. 0 or -EIO. */
int cwt_hash(struct bytes token, uint8_t ret[static TOKEN_HASH_SIZE]);

/* How RFC 9770 §4 names a token in a list: 0x01 ‖ SHA-256 of the base64url text of its bytes. 0, -ENOMEM, -EIO. */
int cwt_trl_hash(struct bytes token, uint8_t ret[static 1 + TOKEN_HASH_SIZE]);
