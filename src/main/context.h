#pragma once

#include "format/oscore.h"
#include "format/oscore_record.h"
#include "main/numbers.h"

/*
 * A device's end of a security context (RFC 8613), as a client: protects requests, each under a number that no other
 * ever had, and takes responses. What aceclient speaks through, and acebench with thousands at a time. Nothing here
 * waits but for the disk, when numbers are taken.
 */
struct context {
        struct oscore_record record;
        struct numbers *numbers;      /* borrowed, and so is aead; may be those of other contexts, too */
        struct aead *aead;
        uint64_t next;                /* the next number, when it is one of numbers */
        struct oscore_keys keys;      /* in force */
        struct renewed id_context;    /* in force; sent with every request when there is one (§5.1) */
        enum {
                CONTEXT_IN_FORCE,
                CONTEXT_ASKS,   /* Appendix B.2: the next request, or the one that waits for its answer, is request 1 */
                CONTEXT_AGREES, /* … request 2 */
        } renewal;
        struct oscore_renewing renewing;
};

/*
 * Of a record, which is copied. The ID Context is the one since the last renewal, when there was one. aead: has the key
 * that was used last; NULL: set up anew for each message. 0; -EINVAL: no such context can be; as numbers_renewed();
 * -ENOMEM. context_done() whatever comes.
 */
int context_open(struct context *context, const struct oscore_record *record, struct numbers *numbers,
                 struct aead *aead);
void context_done(struct context *context);

/*
 * The request inner (type, MID and token its own) as a datagram, under a new number. *ret_request is for the responses
 * to it. 0; -EIO, with numbers->fault when there is no number; -EINVAL, -EOVERFLOW: no such message can be; -ENOMEM.
 */
int context_protect(struct context *context, const struct coap_message *inner, struct oscore_request *ret_request,
                    struct buf *datagram);

struct context_answer {
        struct coap_message inner; /* borrows from plain, and from the outer one */
        bool has_piv;              /* a number of the server's: notifications are ordered by it (§4.1.3.5.2) */
        uint64_t piv;
};

enum context_verdict {
        CONTEXT_ANSWER,
        CONTEXT_AGAIN,       /* verified, and no answer: protect the request once more, as the context was renewed */
        CONTEXT_UNPROTECTED, /* whoever said that */
        CONTEXT_FORGED,      /* it does not verify: drop it and go on waiting (§8.4) */
};

/*
 * A response to request. plain: the caller's, who wipes and frees it. A verdict; -ENOMEM; -EIO, with numbers->fault
 * when a renewal cannot be kept.
 */
int context_unprotect(struct context *context, const struct oscore_request *request, const struct coap_message *outer,
                      struct buf *plain, struct context_answer *ret);

/*
 * New keys from the old secret (Appendix B.2), for when a server or a device has lost what it knew: the next request
 * begins it; its answer is CONTEXT_AGAIN; the answer to the one after that is CONTEXT_ANSWER, and the renewed ID Context
 * is then on disk. Only when record.parameters.renews. 0; -EIO.
 */
int context_renew(struct context *context);
