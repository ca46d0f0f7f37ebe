#pragma once

#include "base/buf.h"
#include "domain/scope.h"

/*
 * The record of one row of the audit trail: a CBOR map with the integer keys that stand beside the members. What is
 * absent (0, no bytes, SCOPE_NONE, false) is not written. aced(8) has the same list for readers of exports.
 */
#define AUDIT_POLICIES_MAX 16
#define AUDIT_BODY_MAX 2048 /* bytes; a longer one is cut */

struct audit_record {
        uint64_t decision;           /* 1: always there; logs and answers have its low half in hexadecimal */
        struct bytes peer;           /* 2: text: an address and port, or "uid 0" */
        int64_t credential_id;       /* 3: that the peer was authenticated by */
        bool has_uid;                /* 4: of an administrator at the control socket */
        uint32_t uid;
        struct bytes party;          /* 5: text: name of the client or resource server that asked */
        struct bytes action;         /* 6: text: method and path */
        unsigned code;               /* 7: of the answer, as a CoAP code byte */
        struct bytes refusal;        /* 8: text: its name */
        struct bytes why;            /* 9: text */
        struct bytes object;         /* 10: text: the audience, or whom it is about */
        enum scope_kind asked_kind;  /* 11: the scope: bytes, or text as struct scope has it */
        struct bytes asked;
        enum scope_kind granted_kind; /* 12 */
        struct bytes granted;
        uint64_t token;              /* 13: number of the token */
        size_t n_policies;           /* 14: ids of the policies that it rests on, at most AUDIT_POLICIES_MAX */
        int64_t policies[AUDIT_POLICIES_MAX];
        uint64_t n_more_policies;    /* 15: so many more of them */
        int64_t expires_s;           /* 16: of what was granted */
        struct bytes body;           /* 17: text: what an administrator sent, secrets hidden */
        bool is_cut;                 /* 18: of the body or the path an end is missing */
        bool has_shadow;             /* 19: what would have been granted with policies that are only tried; */
        enum scope_kind shadow_kind; /* SCOPE_NONE: nothing, which is null */
        struct bytes shadow;
};

/* Texts are UTF-8. 0; as buf_add(). With a body of at most AUDIT_BODY_MAX it is within AUDIT_RECORD_MAX. */
int audit_record_encode(const struct audit_record *record, struct buf *out);

/* Borrows from raw; unknown keys are skipped. 0, REFUSE_MALFORMED, REFUSE_WRONG_TYPE. */
int audit_record_decode(struct bytes raw, struct audit_record *ret);
