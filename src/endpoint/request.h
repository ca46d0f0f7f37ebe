#pragma once

#include "base/buf.h"
#include "domain/credential.h"
#include "domain/name.h"
#include "domain/scope.h"
#include "format/labels.h"

/* One request and its answer, whatever wire it came by. No sockets, no libcoap: a test fills them in by hand. */

enum method { METHOD_GET = 1, METHOD_POST, METHOD_PUT, METHOD_DELETE, METHOD_FETCH, METHOD_PATCH, METHOD_IPATCH };

/* "GET" */
const char *method_name(enum method method);

enum channel {
        CHANNEL_PLAIN, /* coap: nobody is authenticated */
        CHANNEL_DTLS,
        CHANNEL_OSCORE, /* coap, inside a security context (RFC 8613) */
        CHANNEL_LOCAL, /* the control socket; admitted by SO_PEERCRED */
};

/* "coap", "dtls", "oscore", "local" */
const char *channel_name(enum channel channel);

/* Who is at the other end, as authenticated. */
struct peer {
        enum channel channel;
        enum credential_kind kind;
        int64_t credential_id; /* 0: none */
        bool has_key;          /* the channel was set up with this public key (AS-061) */
        uint8_t thumbprint[THUMBPRINT_SIZE];
        uint32_t uid;          /* CHANNEL_LOCAL */
        char name[96];         /* for the log: address, or "uid 0" */
};

#define PATH_SEGMENTS_MAX 8
#define QUERIES_MAX 16
#define ANSWER_SIZE_MAX (16 * 1024 * 1024)

struct request {
        enum method method;
        struct bytes segments[PATH_SEGMENTS_MAX]; /* "/token" → { "token" }; "/" → none */
        size_t n_segments;
        struct bytes queries[QUERIES_MAX];        /* "rt=x", percent-decoded */
        size_t n_queries;
        int content_format; /* CF_NONE: not given */
        int accept;         /* CF_NONE: not given */
        struct bytes payload;
        struct json_t *json; /* what the payload would say, from who calls handlers himself (admin_bulk.h); or NULL */
        const struct peer *peer;
        int64_t now_s;      /* seconds since 1970 UTC */
};

/*
 * An answer too large for memory, read piece by piece while it leaves; at the control socket only. Either its size is
 * known at the beginning, or it has next().
 */
struct response_stream {
        uint64_t size;
        /* At most size bytes more, and how many; none: that was all. < 0 as below. */
        int (*next)(struct response_stream *stream, uint8_t *data, size_t size, size_t *ret_size);
        /* Exactly size bytes from offset on. 0, < 0: the answer is cut off, so that nobody takes it for whole. */
        int (*read)(struct response_stream *stream, uint64_t offset, uint8_t *data, size_t size);
        void (*free)(struct response_stream *stream);
};

/*
 * What the request alone does not tell of a decision, for the audit trail and the log: the handler fills in what it
 * knows, also of a decision against the caller.
 */
#define NOTE_POLICIES_MAX 16
struct note {
        char party[NAME_SIZE_MAX + 1];      /* the client or resource server that asked; "": unknown, or nobody */
        char object[AUDIENCE_SIZE_MAX + 1]; /* the audience, or whom a change is about; "": as the path or body says */
        struct scope asked, granted;
        bool has_shadow;                     /* policies that are only tried would have changed it: */
        struct scope shadow;                 /* this would have been granted; NONE: nothing */
        size_t n_policies;                   /* all that the decision rests on, also beyond the array */
        int64_t policies[NOTE_POLICIES_MAX]; /* ids of the first ones */
        int64_t expires_s;                   /* of what was granted; 0: nothing */
};

struct response {
        uint8_t code;        /* CoAP code byte; HTTP's status is derived */
        int refusal;         /* enum refusal, 0, or the -errno behind a 5.00 */
        int content_format;  /* CF_NONE: no payload */
        int64_t max_age_s;   /* -1: not given */
        struct buf payload;
        struct json_t **json;           /* where a handler's answer goes instead, as long as it is a tree; else NULL */
        struct response_stream *stream; /* instead of a payload; owned */
        uint64_t decision_id;
        uint64_t token_number; /* of the token that was issued or asked about, for the log; 0: none */
        /*
         * Said by a handler that refuses (r > 0): what it has changed is kept, as the change is the consequence of what
         * is refused (a refresh token used twice revokes its family). Whatever else it changed it has to have undone.
         * Without it a refusal leaves nothing behind; after a failure (r < 0) nothing stays in any case.
         */
        bool keep_changes;
        struct note note;
        int64_t topic;         /* what the answer tells of, for observers (RFC 7641): a party's id (trl.h); -1: of nothing */
        int64_t cursor;        /* said with a REFUSE_TRL_…: format/trl.h */
        int64_t audit_seq;     /* of the row in the audit trail; 0: there is none */
        char why[256];       /* what a refusal is about, for the log and, at the control socket, for the caller */
};

void response_init(struct response *response);
/* Wipes the payload, which may have held a key, and frees. */
void response_done(struct response *response);

/* Wipe and forget the payload, keep the rest. */
void response_drop(struct response *response);

/*
 * The payload is going to hold a secret, by an encoder that does not see to it itself: make room for size bytes at
 * once, as a buffer that grows leaves copies behind. 0, -ENOMEM.
 */
int response_reserve(struct response *response, size_t size);

/*
 * Say what is wrong, for a refusal that the handler is about to return: names the field, the value, what to do next.
 * What is no printable ASCII becomes '?', so that a peer's bytes can be named.
 */
void response_why(struct response *response, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The value of the query "name=value" (the first one), or data NULL. */
struct bytes request_query(const struct request *request, const char *name);

/* A decision id as it is told: in the log, in error descriptions, at the control socket. */
#define DECISION_TEXT_SIZE 9
void decision_text(uint64_t decision_id, char text[static DECISION_TEXT_SIZE]);
