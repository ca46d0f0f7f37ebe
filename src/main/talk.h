#pragma once

#include "base/buf.h"
#include "format/labels.h"
#include "main/context.h"
#include "main/device.h"

/*
 * Requests of one device to one server, one at a time and waiting for each: retransmission (RFC 7252 §4.2), separate
 * answers, bodies in blocks both ways (RFC 7959), notifications (RFC 7641), Echo (RFC 9175 §2). With a security context
 * all of this is inside OSCORE (RFC 8613), but for the retransmission.
 */
#define TALK_BODY_MAX (64 * 1024)
#define TALK_DATAGRAM_MAX 2048
#define TALK_HINT_MAX 96 /* bytes of what is told of an unprotected answer's text */

struct talk {
        struct device device;
        const char *host, *port; /* for messages */
        long timeout_s;          /* for the handshake and a request together, and for a notification's later blocks */
        int64_t deadline_us;
        uint16_t mid;
        uint32_t token;          /* of the latest request */
        uint32_t observed;       /* the token of what is observed */
        const struct talk_ask *observing;
        char failure[320];       /* why there will be no answer */

        struct context *context;       /* what requests are protected with; NULL: nothing. Borrowed */
        struct oscore_request request; /* what the latest one's responses are bound to */
        struct oscore_request observation;
        bool has_number;               /* of the latest answer: … */
        uint64_t number;               /* … its Partial IV */
        uint64_t number_next;          /* no notification below is new (RFC 8613 §4.1.3.5.2) */
        bool may_renew;                /* the context, when the server seems not to have it: once */
        char hint[TALK_HINT_MAX + 8];  /* what was answered unprotected, by anybody; "": nothing */
        struct buf plain;              /* what was protected in the latest answer */
};

#define TALK_INIT ((struct talk){ .device = DEVICE_INIT, .plain = BUF_INIT(TALK_DATAGRAM_MAX) })

/* A request. Everything is borrowed; while something is observed, the ask that began it must stay. */
struct talk_ask {
        uint8_t code;
        const char *path;
        const char *queries[4];    /* up to one that is NULL */
        struct bytes payload;
        int content_format, accept; /* CF_NONE: none */
        bool observe;
};

struct talk_answer {
        uint8_t code;
        int content_format; /* CF_NONE: none */
        bool is_observed;   /* the server will tell of changes, or this is one */
        uint32_t sequence;  /* RFC 7641 §3.4 */
        struct buf payload;
};

#define TALK_ANSWER_INIT ((struct talk_answer){ .payload = BUF_INIT(TALK_BODY_MAX) })

/*
 * From TALK_INIT, with host, port, timeout_s, and context when there is one. 0, or -ECONNABORTED with the reason in
 * talk->failure. identity NULL: no DTLS. talk_close() whatever comes.
 */
int talk_open(struct talk *talk, const struct device_identity *identity);
void talk_close(struct talk *talk);

/*
 * 0, -ECONNABORTED as above; -ENOMEM, -EINVAL: no such request can be written.
 *
 * Under a context: what does not verify is not there (RFC 8613 §8.4). What comes unprotected may be from anybody, and
 * is the failure only when nothing better comes within a second.
 */
int talk_ask(struct talk *talk, const struct talk_ask *ask, struct talk_answer *answer);

/* The next notification that is newer than answer, which it replaces; waits for ever. Results as talk_ask(). */
int talk_next(struct talk *talk, struct talk_answer *answer);
/* Stop observing; answer is the resource once more. */
int talk_cancel(struct talk *talk, struct talk_answer *answer);
