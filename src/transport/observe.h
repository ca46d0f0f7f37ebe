#pragma once

#include <sys/queue.h>

#include "base/heap.h"
#include "endpoint/request.h"
#include "format/coap.h"
#include "transport/oscore.h"
#include "transport/translate.h"

/*
 * Observing resources (RFC 7641): who observes, what changed, whose turn it is to be told. No sockets, no clock, no
 * exchange: the engine runs the request of an observation again, as it came, with all that is checked of a request, and
 * sends the answer.
 *
 * What an observation is of is its topic: a number that the handler fills in (response->topic). observe_touch() says
 * that a topic changed, and only who observes it is asked for; a topic that changes again before its observer is told
 * is told once, as it is then.
 *
 * Notifications are confirmable, all of them (RFC 7641 §4.5 leaves the choice): they tell of revoked tokens, and one
 * that got lost would leave a token in use until the next. Each observer has one under way at most; what changes
 * meanwhile is told after its end, in the latest state. An observation ends with: Observe 1, a Reset to a notification
 * or none acknowledged, an answer that is no success (which is told, without Observe), the session. Without a change
 * the state is told again after observe_limits.refresh_us, so that who went away is noticed and who did not keeps its
 * session; that is sooner than the 24 hours of §4.5.
 */
#define OBSERVE_REQUEST_MAX 512      /* bytes of path and queries; a longer request observes nothing */
#define OBSERVE_REFRESH_MAX_US (INT64_C(12) * 3600 * 1000000)
#define OBSERVE_RETRY_US INT64_C(1000000) /* after one that could not be sent or asked for, for want of room */

/* One topic has at most half of observers_max, or what one peer may have: its party keeps nobody from observing. */
struct observe_limits {
        int64_t observers_max, per_peer_max;
        int64_t refresh_us;
};

struct observe; /* what peers share */

/* 0, -ENOMEM, -EIO (no randomness). */
int observe_new(const struct observe_limits *limits, struct observe **ret);
/* After its peers are done. */
void observe_free(struct observe *observe);
/* What is over a smaller limit stays until it ends. */
void observe_set_limits(struct observe *observe, const struct observe_limits *limits);

struct observe_figures {
        uint64_t n_observers;  /* now */
        uint64_t n_refused;    /* registrations over a limit, ever */
        uint64_t n_ended;      /* by a Reset, or not acknowledged, ever */
        uint64_t n_notified;   /* notifications, ever */
};
void observe_figures(const struct observe *observe, struct observe_figures *ret);

/* The observations of one peer: a member of its owner's struct. All zero: a peer that may not observe. */
struct observer;
struct observe_peer {
        struct observe *observe;
        void *owner;
        TAILQ_HEAD(, observer) observers;
        unsigned n_observers;
        bool oldest_gives_way; /* to one more than per_peer_max that is accepted; else that one is refused */
        uint32_t sequence; /* RFC 7641 §4.4: of all it was told, so that it counts on when one begins anew */
};
void observe_peer_init(struct observe_peer *peer, struct observe *observe, void *owner);
void observe_peer_done(struct observe_peer *peer);

/*
 * A request that asks to observe was answered with success: the observation begins, or goes on as this request has it
 * when there is one with the same token (§4.1). fingerprint: of the answer. 0 and the value of the Observe option;
 * -EPERM, -ENOSPC (over a limit), -ENOMEM: it observes nothing, and the answer has no such option.
 */
int observe_add(struct observe_peer *peer, struct bytes token, const struct request *request,
                const struct block_asks *asks, const struct response *response, int64_t now_us, uint32_t *ret_sequence);
/* §3.6: the peer takes its interest back; or was refused what it asked for anew. */
void observe_remove(struct observe_peer *peer, struct bytes token);

/*
 * How an observer is told, kept with the observation for its owner: all zero at first. When the observation ends,
 * ended() is called; it must not call back.
 */
struct observe_way {
        void *route;                   /* whatever the owner calls the place where the request came from */
        bool is_protected;
        struct oscore_binding binding; /* with what notifications are protected (RFC 8613 §8.3) */
};
void observe_listen(struct observe *observe, void (*ended)(void *context, void *owner, struct observe_way *way),
                    void *context);
/* Of the observation with this token, or this ticket; NULL: there is none. Good as long as that is there. */
struct observe_way *observe_way(struct observe_peer *peer, struct bytes token);
struct observe_way *observe_way_of_ticket(struct observe_peer *peer, uint64_t ticket);
/* Whose notification has this ticket; NULL: nobody's any more. */
struct observe_peer *observe_find(const struct observe *observe, uint64_t ticket);

/* The topic changed. Cheap when nobody observes it. */
void observe_touch(struct observe *observe, int64_t topic);

/* Whose turn it is. The ticket finds it again, as it may be gone by then. */
struct observe_turn {
        void *owner;             /* of its peer */
        uint64_t ticket;
        struct request request;  /* but for now_s and peer; borrows from the observation */
        struct block_asks asks;
};
/* False: nobody's. Until observe_told() or observe_later() it is no one's turn again. */
bool observe_next(struct observe *observe, struct observe_turn *ret);

/*
 * What is to be done with the answer to that request: 0 nothing, as the observation is gone or the peer knows the
 * answer; 1 send it with the token and the value of Observe; 2 send it with the token, it is the end of the
 * observation.
 */
int observe_judge(struct observe_peer *peer, uint64_t ticket, const struct response *response,
                  struct bytes *ret_token, uint32_t *ret_sequence);
/* It was handed to the exchange under this ticket: its outcome follows, unless it was the end. */
void observe_told(struct observe_peer *peer, uint64_t ticket, bool is_end);
/* It could not be asked for or sent now: after OBSERVE_RETRY_US. */
void observe_later(struct observe_peer *peer, uint64_t ticket, int64_t now_us);
/* What became of a notification. */
void observe_outcome(struct observe_peer *peer, uint64_t ticket, bool acknowledged, int64_t now_us);

void observe_timers(struct observe *observe, int64_t now_us);
/* When observe_timers() must be called next: monotonic; INT64_MAX never. */
int64_t observe_due(const struct observe *observe);
/* Is it somebody's turn? */
bool observe_is_ready(const struct observe *observe);
