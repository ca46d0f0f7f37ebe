#pragma once

#include <stdint.h>
#include <stdio.h>

#include "base/bytes.h"

struct json_t;

/*
 * CBOR of ours as JSON for people and scripts: registered labels and values by their registry names, byte strings as
 * hexadecimal, unknown labels as their number. What a tool prints; nothing decides on it.
 */
enum vocabulary {
        /* the maps */
        VOCABULARY_NONE,
        VOCABULARY_TOKEN,      /* token endpoint (RFC 9200 §5.8.5), its errors too */
        VOCABULARY_INTROSPECT, /* introspection (RFC 9200 §5.9.4) */
        VOCABULARY_CLAIMS,     /* CWT claims (RFC 8392 §4) */
        VOCABULARY_CNF,        /* confirmation methods (RFC 8747 §7.2) */
        VOCABULARY_KEY,        /* COSE_Key (RFC 9052 §7): what its labels mean depends on its kty */
        VOCABULARY_PUBLIC_KEY, /* the same, known to be EC2 or OKP */
        VOCABULARY_OSC,        /* OSCORE_Input_Material (RFC 9203 §3.2.1) */
        VOCABULARY_HEADER,     /* COSE header parameters (RFC 9052 §3.1) */
        VOCABULARY_TRL,        /* token revocation list (RFC 9770 §14.4) */
        VOCABULARY_TRL_PROBLEM, /* its refusals: concise problem details (RFC 9290) */
        VOCABULARY_TRL_ERROR,  /* what is in those about the list (RFC 9770 §14.5) */

        /* the values */
        VOCABULARY_ERROR,      /* RFC 9200 §5.8.3 */
        VOCABULARY_PROFILE,    /* ACE profiles */
        VOCABULARY_TOKEN_TYPE, /* RFC 9200 §8.7 */
        VOCABULARY_ALGORITHM,  /* COSE algorithms */
        VOCABULARY_HKDF,       /* those of HMAC that stand for the HKDF made of it (RFC 9203 §3.2.1) */
        VOCABULARY_KEY_TYPE,   /* COSE key types */
        VOCABULARY_CURVE,      /* COSE elliptic curves */
        VOCABULARY_TRL_ERROR_ID, /* RFC 9770 §6.1 */
        VOCABULARY_TEXT,       /* text as a rule; where it is bytes, "hex:" stands in front */
};

/*
 * One CBOR item; names of what is inside come from the vocabulary. 0 and *ret (owned by the caller, json_decref()),
 * REFUSE_MALFORMED (also deeper than CBOR_DEPTH_MAX), -ENOMEM.
 */
int describe_cbor(struct bytes raw, enum vocabulary vocabulary, struct json_t **ret);

/* The registered name of a number, or NULL. */
const char *describe_name(enum vocabulary vocabulary, int64_t number);

/*
 * A JSON value as indented lines "name: value" for a terminal: control characters in it are escaped, and the values
 * of exp, nbf and iat are followed by the date they mean.
 */
void describe_print(const struct json_t *value, int indent, FILE *out);
