#pragma once

#include "base/buf.h"
#include "format/labels.h"
#include "main/device.h"

/*
 * Requests of one device to one server, one at a time and waiting for each: retransmission (RFC 7252 §4.2), separate
 * answers, bodies in blocks both ways (RFC 7959), notifications (RFC 7641).
 */
#define TALK_BODY_MAX (64 * 1024)

struct talk {
        struct device device;
        const char *host, *port; /* for messages */
        long timeout_s;          /* for the handshake and a request together, and for a notification's later blocks */
        int64_t deadline_us;
        uint16_t mid;
        uint32_t token;          /* of the latest request */
        uint32_t observed;       /* the token of what is observed */
        const struct talk_ask *observing;
        char failure[192];       /* why there will be no answer */
};

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

/* 0, or -ECONNABORTED with the reason in talk->failure. identity NULL: plain CoAP. talk_close() whatever comes. */
int talk_open(struct talk *talk, const struct device_identity *identity);
void talk_close(struct talk *talk);

/* 0, -ECONNABORTED as above; -ENOMEM, -EIO, -EINVAL: no such request can be written. */
int talk_ask(struct talk *talk, const struct talk_ask *ask, struct talk_answer *answer);

/* The next notification that is newer than answer, which it replaces; waits for ever. Results as talk_ask(). */
int talk_next(struct talk *talk, struct talk_answer *answer);
/* Stop observing; answer is the resource once more. */
int talk_cancel(struct talk *talk, struct talk_answer *answer);
