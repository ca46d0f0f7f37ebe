#include "main/talk.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/secret.h"
#include "crypto/random.h"
#include "format/coap.h"

#define DATAGRAM_SIZE_MAX TALK_DATAGRAM_MAX
#define ACK_TIMEOUT_US INT64_C(2000000) /* RFC 7252 §4.8 */
#define TRIES_MAX 5                     /* the first and MAX_RETRANSMIT more */
#define SZX_MAX 6                       /* blocks of 1024 bytes (RFC 7959 §2.2) */
#define OBSERVE_REGISTER 0              /* RFC 7641 §2 */
#define OBSERVE_DEREGISTER 1
#define SEQUENCE_BITS 24                /* RFC 7641 §3.4 */
#define NEVER INT64_MAX
#define ECHO_TRIES_MAX 2        /* RFC 9175 §2.3: never in a loop */
#define ECHO_SIZE_MAX 40
#define REQUEST_TAG_SIZE 8
#define HINT_WAIT_US INT64_C(1000000) /* for something better than an unprotected answer */

static int give_up(struct talk *talk, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int give_up(struct talk *talk, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(talk->failure, sizeof(talk->failure), format, arguments);
        va_end(arguments);
        return -ECONNABORTED;
}

static int give_up_as_device(struct talk *talk) {
        char why[sizeof(talk->failure)];

        device_why(&talk->device, why, sizeof(why));
        return give_up(talk, "%s", why);
}

/* Until there is something to read, until_us, or the deadline. 1: readable, 0: until_us came; -ECONNABORTED. */
static int await(struct talk *talk, int64_t until_us) {
        struct pollfd waiting = { .fd = talk->device.fd, .events = POLLIN };
        int64_t now_us = clock_monotonic_us();
        int64_t end_us = until_us < talk->deadline_us ? until_us : talk->deadline_us;
        int wait_ms = end_us == NEVER ? -1 : end_us <= now_us ? 0 : (int)((end_us - now_us + 999) / 1000);
        int n = poll(&waiting, 1, wait_ms);

        if (n < 0 && errno != EINTR)
                return give_up(talk, "the network could not be read: %s", strerror(errno));
        if (n > 0)
                return 1;
        if (clock_monotonic_us() < talk->deadline_us)
                return 0;
        return give_up(talk, "no %s within %ld s", talk->device.connected ? "answer" : "handshake", talk->timeout_s);
}

static int resolve(struct talk *talk, struct sockaddr_storage *ret, socklen_t *ret_size) {
        const struct addrinfo hints = { .ai_socktype = SOCK_DGRAM };
        struct addrinfo *found = NULL;
        int r = getaddrinfo(talk->host, talk->port, &hints, &found);

        if (r != 0)
                return give_up(talk, "%s", gai_strerror(r));
        memcpy(ret, found->ai_addr, found->ai_addrlen);
        *ret_size = found->ai_addrlen;
        freeaddrinfo(found);
        return 0;
}

static int shake_hands(struct talk *talk) {
        int r;

        while ((r = device_handshake(&talk->device)) == -EAGAIN) {
                int64_t resend_us = clock_monotonic_us() + device_resend_ms(&talk->device) * INT64_C(1000);

                if ((r = await(talk, resend_us)) < 0)
                        return r;
        }
        return r < 0 ? give_up_as_device(talk) : 0;
}

static void deadline_set(struct talk *talk) {
        talk->deadline_us = clock_monotonic_us() + talk->timeout_s * INT64_C(1000000);
}

int talk_open(struct talk *talk, const struct device_identity *identity) {
        struct sockaddr_storage remote;
        socklen_t size = 0;
        int r;

        talk->may_renew = talk->context && talk->context->record.parameters.renews;
        deadline_set(talk);
        if ((r = resolve(talk, &remote, &size)) != 0)
                return r;
        if (random_bytes(&talk->mid, sizeof(talk->mid)) < 0 || random_bytes(&talk->token, sizeof(talk->token)) < 0)
                return give_up(talk, "no randomness");
        if ((r = device_open(&talk->device, identity, NULL, (struct sockaddr *)&remote, size)) < 0)
                return give_up(talk, "no session can be begun: %s", strerror(-r));
        return identity ? shake_hands(talk) : 0;
}

void talk_close(struct talk *talk) {
        device_close(&talk->device);
        buf_wiped(&talk->plain);
}

/* ---- messages */

struct scratch {
        uint8_t space[5][4]; /* values of uint options, as long as the message lives */
};

static int send_message(struct talk *talk, struct bytes datagram) {
        ssize_t n = device_send(&talk->device, datagram);

        if (n == -ECONNREFUSED)
                return give_up(talk, "nobody listens there");
        if (n >= 0 || n == -EAGAIN || n == -ENOBUFS)
                return 0; /* what the network did not take is like what it lost */
        if (talk->device.tls_error != 0)
                return give_up_as_device(talk);
        return give_up(talk, "the request could not be sent: %s", strerror((int)-n));
}

/* An empty message: an acknowledgement or a reset. */
static int send_empty(struct talk *talk, enum coap_type type, uint16_t mid) {
        uint8_t datagram[] = { (uint8_t)(0x40 | type << 4), CODE_EMPTY, (uint8_t)(mid >> 8), (uint8_t)mid };

        return send_message(talk, bytes_of(datagram, sizeof(datagram)));
}

/* A message from the server; space is what it borrows from. 1, 0: until_us came; -ECONNABORTED. */
static int receive(struct talk *talk, int64_t until_us, uint8_t space[static DATAGRAM_SIZE_MAX],
                   struct coap_message *ret) {
        bool header_ok;
        int r;

        for (;;) {
                ssize_t n = device_receive(&talk->device, space, DATAGRAM_SIZE_MAX);

                if (n == -ECONNREFUSED)
                        return give_up(talk, "nobody listens there");
                if (n < 0 && n != -EAGAIN)
                        return talk->device.tls || n == -ECONNRESET ?
                                       give_up_as_device(talk) :
                                       give_up(talk, "the network could not be read: %s", strerror((int)-n));
                if (n > 0 && coap_message_decode(bytes_of(space, (size_t)n), ret, &header_ok) == 0)
                        return 1;
                if (n >= 0)
                        continue; /* none of ours (RFC 7252 §4.2: silently ignored) */
                if ((r = await(talk, until_us)) <= 0)
                        return r;
        }
}

static struct bytes token_bytes(const uint32_t *token) {
        return bytes_of(token, sizeof(*token));
}

static bool has_token(const struct coap_message *message, const uint32_t *token) {
        return message->code >> 5 != 0 && message->type != TYPE_RST &&
               bytes_equal(message->token, token_bytes(token));
}

/* It is taken: one that asks for an acknowledgement gets it. */
static void acknowledge(struct talk *talk, const struct coap_message *message) {
        if (message->type == TYPE_CON)
                send_empty(talk, TYPE_ACK, message->mid);
}

/* A confirmable one that comes amid something else is left for talk_next(): its server sends it again. */
static bool is_notification(const struct talk *talk, const struct coap_message *message) {
        return message->code >> 5 != 0 && bytes_equal(message->token, token_bytes(&talk->observed));
}

/* ---- what is protected */

static int give_up_as_context(struct talk *talk, int r) {
        const char *fault = talk->context->numbers->fault;

        return r == -EIO && *fault ? give_up(talk, "%s", fault) : r;
}

/* What somebody says who need not be the server: its code and its text, as far as that can be shown. */
static void take_hint(struct talk *talk, const struct coap_message *message) {
        char code[8];
        size_t n = 0;

        coap_code_text(message->code, code);
        while (n < message->payload.size && n < TALK_HINT_MAX - sizeof(code) &&
               message->payload.data[n] >= ' ' && message->payload.data[n] <= '~')
                n++;
        snprintf(talk->hint, sizeof(talk->hint), "%s %.*s", code, (int)n, (const char *)message->payload.data);
}

/* The texts of RFC 8613 §8.2, and what to do about them; all go away with new keys. */
static const struct {
        const char *hint, *advice;
} hints[] = {
        { "4.01 Security context not found",
          ": the server has no such context, or its party is suspended: resume that, or register a new one, and take "
          "its record" },
        { "4.01 Replay detected", ": these numbers were used, by another copy of the record or before its .state was "
                                  "lost; register a new one, and take its record" },
        { "4.00 Decryption failed",
          ": the server has other keys for this ID; register a new one, and take its record" },
};

/* What may be made of a message or of its lack; < 0 is what talk_ask() gives up with. */
enum { TAKEN, DROPPED, AGAIN };

/*
 * Nothing better came: begin anew with other keys where both ends know how, once, else that is it. That costs nothing
 * but time if it was a lie. AGAIN, -ECONNABORTED.
 */
static int heed_hint(struct talk *talk) {
        const char *advice = "";

        for (size_t i = 0; i < N_ELEMENTS(hints); i++) {
                if (strcmp(talk->hint, hints[i].hint) != 0)
                        continue;
                advice = hints[i].advice;
                if (talk->may_renew && talk->context->renewal == CONTEXT_IN_FORCE) {
                        talk->may_renew = false;
                        return context_renew(talk->context) < 0 ? give_up(talk, "no new keys could be made") : AGAIN;
                }
        }
        return give_up(talk, "answered \"%s\", which was not protected, so that anybody may have said it%s", talk->hint,
                       advice);
}

/*
 * What a message with the right token is. Under a context *message becomes what was in it, borrowing from talk->plain.
 */
static int open_answer(struct talk *talk, const struct oscore_request *request, bool may_be_observed,
                       struct coap_message *message) {
        struct context_answer opened;
        int r;

        if (!talk->context)
                return TAKEN;
        r = context_unprotect(talk->context, request, message, &talk->plain, &opened);
        if (r < 0)
                return give_up_as_context(talk, r);
        if (r == CONTEXT_AGAIN)
                return AGAIN;
        if (r == CONTEXT_UNPROTECTED && message->code >> 5 != 2)
                take_hint(talk, message);
        /* RFC 8613 §8.4 step 8: nobody asked to be told of changes */
        if (r != CONTEXT_ANSWER || (!may_be_observed && coap_message_option(&opened.inner, OPTION_OBSERVE, 0)))
                return DROPPED;
        *message = opened.inner;
        talk->has_number = opened.has_piv;
        talk->number = opened.piv;
        return TAKEN;
}

/*
 * Send until it is acknowledged or answered, then wait for the answer. TAKEN: *answer borrows from space or talk->plain.
 */
static int exchange(struct talk *talk, struct bytes datagram, bool may_be_observed,
                    uint8_t space[static DATAGRAM_SIZE_MAX], struct coap_message *answer) {
        int64_t wait_us = ACK_TIMEOUT_US, resend_us = 0, hint_us = NEVER;
        int r;

        for (unsigned tries = 0;;) {
                if (clock_monotonic_us() >= resend_us) {
                        if (tries++ == TRIES_MAX)
                                return give_up(talk, "no answer to any retransmission");
                        if ((r = send_message(talk, datagram)) < 0)
                                return r;
                        resend_us = clock_monotonic_us() + wait_us;
                        wait_us *= 2;
                }
                r = receive(talk, resend_us < hint_us ? resend_us : hint_us, space, answer);
                if (talk->hint[0] && (r < 0 || clock_monotonic_us() >= hint_us))
                        return heed_hint(talk);
                if (r < 0)
                        return r;
                if (r == 0)
                        continue;
                if (has_token(answer, &talk->token)) {
                        r = open_answer(talk, &talk->request, may_be_observed, answer);
                        if (r == TAKEN || r == AGAIN)
                                acknowledge(talk, answer);
                        if (r != DROPPED)
                                return r;
                        if (talk->hint[0] && hint_us == NEVER)
                                hint_us = clock_monotonic_us() + HINT_WAIT_US;
                } else if (answer->type == TYPE_RST && answer->mid == talk->mid) {
                        return give_up(talk, "the server reset the request");
                } else if (answer->type == TYPE_ACK && answer->mid == talk->mid) {
                        resend_us = NEVER; /* the answer comes on its own (RFC 7252 §5.2.2) */
                } else if (answer->type == TYPE_CON && !is_notification(talk, answer)) {
                        send_empty(talk, TYPE_RST, answer->mid);
                }
        }
}

/* ---- blocks */

struct block {
        uint32_t number;
        bool more;
        unsigned szx;
};

#define BLOCK_SIZE(szx) ((size_t)16 << (szx))

static uint32_t block_value(const struct block *block) {
        return block->number << 4 | (uint32_t)block->more << 3 | block->szx;
}

static bool block_read(const struct coap_message *message, uint16_t number, struct block *ret) {
        const struct coap_option *option = coap_message_option(message, number, 0);
        uint32_t value;

        if (!option || !coap_option_uint(option, &value) || (value & 7) > SZX_MAX)
                return false;
        *ret = (struct block){ value >> 4, value & 8, value & 7 };
        return true;
}

static int add_words(struct coap_message *message, uint16_t number, const char *text, char separator) {
        int r = 0;

        while (r == 0 && *text) {
                size_t size;

                text += *text == separator;
                size = (size_t)(strchrnul(text, separator) - text);
                if (size > 0)
                        r = coap_message_add(message, number, bytes_of(text, size));
                text += size;
        }
        return r;
}

/* One message of a request. observe < 0: no such option; block1, block2 may be NULL. */
struct piece {
        const struct talk_ask *ask;
        int observe;
        const struct block *block1, *block2;
        struct bytes payload, tag, echo; /* without data: not sent */
};

static int piece_encode(struct talk *talk, const struct piece *piece, struct buf *out) {
        const struct talk_ask *ask = piece->ask;
        struct scratch scratch;
        struct coap_message message = {
                .type = TYPE_CON, .code = ask->code, .mid = ++talk->mid, .token = token_bytes(&talk->token),
                .payload = piece->payload,
        };
        const struct {
                bool wanted;
                uint16_t number;
                uint32_t value;
        } options[] = {
                { piece->observe >= 0, OPTION_OBSERVE, (uint32_t)piece->observe },
                { ask->content_format != CF_NONE && ask->payload.size > 0, OPTION_CONTENT_FORMAT,
                  (uint32_t)ask->content_format },
                { ask->accept != CF_NONE, OPTION_ACCEPT, (uint32_t)ask->accept },
                { piece->block1, OPTION_BLOCK1, piece->block1 ? block_value(piece->block1) : 0 },
                { piece->block2, OPTION_BLOCK2, piece->block2 ? block_value(piece->block2) : 0 },
        };
        int r = add_words(&message, OPTION_URI_PATH, ask->path, '/');

        for (size_t i = 0; r == 0 && i < N_ELEMENTS(ask->queries) && ask->queries[i]; i++)
                r = coap_message_add(&message, OPTION_URI_QUERY, bytes_text(ask->queries[i]));
        for (size_t i = 0; r == 0 && i < N_ELEMENTS(options); i++)
                if (options[i].wanted)
                        r = coap_message_add_uint(&message, options[i].number, options[i].value, scratch.space[i]);
        if (r == 0 && piece->echo.data)
                r = coap_message_add(&message, OPTION_ECHO, piece->echo);
        if (r == 0 && piece->tag.data)
                r = coap_message_add(&message, OPTION_REQUEST_TAG, piece->tag);
        buf_clear(out);
        if (r != 0)
                return r;
        return talk->context ? context_protect(talk->context, &message, &talk->request, out) :
                               coap_message_encode(&message, out);
}

/* One message of the request and what came for it: as exchange(). */
static int piece_send(struct talk *talk, const struct piece *piece, uint8_t space[static DATAGRAM_SIZE_MAX],
                      struct coap_message *answer) {
        _cleanup_(buf_wiped) struct buf datagram = BUF_INIT(DATAGRAM_SIZE_MAX);
        int r = piece_encode(talk, piece, &datagram);

        if (r < 0)
                return r == -ENOMEM ? r : r == -EIO ? give_up_as_context(talk, r) : -EINVAL;
        talk->hint[0] = 0;
        return exchange(talk, buf_bytes(&datagram), piece->observe == OBSERVE_REGISTER, space, answer);
}

/* The value that has to come back with the request, before the server acts on it (RFC 9175 §2.2). */
static bool wants_echo(const struct coap_message *answer, uint8_t space[static ECHO_SIZE_MAX], struct bytes *ret) {
        const struct coap_option *echo = coap_message_option(answer, OPTION_ECHO, 0);

        if (answer->code != CODE_UNAUTHORIZED || !echo || echo->value.size > ECHO_SIZE_MAX)
                return false;
        memcpy(space, echo->value.data, echo->value.size);
        *ret = bytes_of(space, echo->value.size);
        return true;
}

/* Until it is answered: once more with an Echo value or under renewed keys, each time a request of its own. */
static int piece_exchange(struct talk *talk, const struct piece *piece, uint8_t space[static DATAGRAM_SIZE_MAX],
                          struct coap_message *answer) {
        uint8_t echo[ECHO_SIZE_MAX];
        struct piece again = *piece;
        unsigned n_echoes = 0;

        for (;;) {
                int r = piece_send(talk, &again, space, answer);

                if (r < 0)
                        return r;
                if (r == TAKEN && (n_echoes++ == ECHO_TRIES_MAX || !wants_echo(answer, echo, &again.echo)))
                        return 0;
                if (piece->observe != OBSERVE_DEREGISTER) /* which is known by its token (RFC 7641 §3.6) */
                        talk->token++;
        }
}

/* A block of another body may be replayed amid this one (RFC 9175 §3.5.1); in a session it cannot. */
static int make_tag(struct talk *talk, uint8_t space[static REQUEST_TAG_SIZE], struct bytes *ret) {
        if (!talk->context)
                return 0;
        if (random_bytes(space, REQUEST_TAG_SIZE) < 0)
                return give_up(talk, "no randomness");
        *ret = bytes_of(space, REQUEST_TAG_SIZE);
        return 0;
}

/* The body in blocks; the answer to the last, or to the one that was refused. */
static int send_blocks(struct talk *talk, const struct talk_ask *ask, struct bytes tag,
                       uint8_t space[static DATAGRAM_SIZE_MAX], struct coap_message *answer) {
        struct block block = { .szx = SZX_MAX }, seen;
        size_t at = 0;
        int r;

        for (;;) {
                struct piece piece = { .ask = ask, .observe = -1, .block1 = &block, .tag = tag };
                size_t left = ask->payload.size - at, size = BLOCK_SIZE(block.szx);

                block.number = (uint32_t)(at / size);
                block.more = left > size;
                piece.payload = bytes_of(ask->payload.data + at, left < size ? left : size);
                talk->token++;
                if ((r = piece_exchange(talk, &piece, space, answer)) < 0)
                        return r;
                if (answer->code != CODE_CONTINUE || !block.more)
                        return 0;
                at += size;
                /* a server may want smaller ones from now on (RFC 7959 §2.3) */
                if (block_read(answer, OPTION_BLOCK1, &seen) && seen.szx < block.szx)
                        block.szx = seen.szx;
        }
}

static int take_head(const struct coap_message *message, struct talk_answer *answer) {
        const struct coap_option *option = coap_message_option(message, OPTION_CONTENT_FORMAT, 0);
        uint32_t value;

        buf_clear(&answer->payload);
        answer->code = message->code;
        answer->content_format = option && coap_option_uint(option, &value) ? (int)value : CF_NONE;
        option = coap_message_option(message, OPTION_OBSERVE, 0);
        answer->is_observed = option && coap_option_uint(option, &answer->sequence);
        return buf_add(&answer->payload, message->payload);
}

static bool same_etag(const struct coap_message *message, struct bytes etag) {
        const struct coap_option *option = coap_message_option(message, OPTION_ETAG, 0);

        return bytes_equal(option ? option->value : BYTES_NONE, etag);
}

/*
 * The rest of an answer whose first block is there. tag: that of the request's blocks, as the operation is still the
 * same (RFC 9175 §3.4).
 */
static int take_blocks(struct talk *talk, const struct talk_ask *ask, struct bytes tag,
                       const struct coap_message *first, struct talk_answer *answer) {
        uint8_t space[DATAGRAM_SIZE_MAX], etag_space[8];
        const struct coap_option *option = coap_message_option(first, OPTION_ETAG, 0);
        struct bytes etag = option ? bytes_of(etag_space, option->value.size) : BYTES_NONE;
        struct coap_message message;
        struct block block, seen;
        int r;

        if (!block_read(first, OPTION_BLOCK2, &block))
                return 0;
        if (option)
                memcpy(etag_space, option->value.data, option->value.size);
        while (block.more) {
                struct block wanted = { .number = block.number + 1, .szx = block.szx };
                struct piece piece = { .ask = ask, .observe = -1, .block2 = &wanted, .tag = tag };

                talk->token++;
                if ((r = piece_exchange(talk, &piece, space, &message)) < 0)
                        return r;
                if (message.code != answer->code || !block_read(&message, OPTION_BLOCK2, &seen) ||
                    seen.number != wanted.number || seen.szx != wanted.szx || !same_etag(&message, etag))
                        return give_up(talk, "the answer changed while its blocks were fetched");
                if ((r = buf_add(&answer->payload, message.payload)) != 0)
                        return r == -EOVERFLOW ? give_up(talk, "the answer has more than %d bytes", TALK_BODY_MAX) : r;
                block = seen;
        }
        wipe(space, sizeof(space));
        return 0;
}

/* ---- requests */

static int ask_with(struct talk *talk, const struct talk_ask *ask, int observe, struct talk_answer *answer) {
        uint8_t space[DATAGRAM_SIZE_MAX], tag_space[REQUEST_TAG_SIZE];
        struct coap_message message;
        struct piece piece = { .ask = ask, .observe = observe, .payload = ask->payload };
        struct bytes tag = BYTES_NONE;
        int r;

        deadline_set(talk);
        if (ask->payload.size > BLOCK_SIZE(SZX_MAX)) {
                if ((r = make_tag(talk, tag_space, &tag)) == 0)
                        r = send_blocks(talk, ask, tag, space, &message);
        } else {
                if (observe != OBSERVE_DEREGISTER)
                        talk->token++;
                r = piece_exchange(talk, &piece, space, &message);
        }
        if (r == 0 && (r = take_head(&message, answer)) == 0) {
                talk->observed = talk->token; /* later blocks have tokens of their own */
                talk->observation = talk->request;
                talk->number_next = talk->has_number ? talk->number + 1 : 0;
                r = take_blocks(talk, ask, tag, &message, answer);
        }
        wipe(space, sizeof(space));
        return r;
}

int talk_ask(struct talk *talk, const struct talk_ask *ask, struct talk_answer *answer) {
        talk->observing = ask;
        return ask_with(talk, ask, ask->observe ? OBSERVE_REGISTER : -1, answer);
}

/* RFC 7641 §3.4, without its clock: the wire keeps order well within 128 seconds. */
static bool is_newer(uint32_t sequence, uint32_t than) {
        uint32_t ahead = (sequence - than) & ((1U << SEQUENCE_BITS) - 1);

        return ahead != 0 && ahead < 1U << (SEQUENCE_BITS - 1);
}

/*
 * By what it is newer is not the same: under a context by a number that nobody on the way can have changed. One without
 * came with the answer to the request, or is older (RFC 8613 §4.1.3.5.2).
 */
static bool is_news(struct talk *talk, const struct talk_answer *answer, uint32_t before) {
        if (!talk->context)
                return !answer->is_observed || is_newer(answer->sequence, before);
        if (!talk->has_number || talk->number < talk->number_next)
                return false;
        talk->number_next = talk->number + 1;
        return true;
}

int talk_next(struct talk *talk, struct talk_answer *answer) {
        uint8_t space[DATAGRAM_SIZE_MAX];
        uint32_t before = answer->sequence;
        struct coap_message message;
        int r;

        talk->may_renew = false; /* it would end what is observed */
        for (;;) {
                talk->deadline_us = NEVER;
                if ((r = receive(talk, NEVER, space, &message)) < 0)
                        return r;
                if (r == 0)
                        continue;
                if (!has_token(&message, &talk->observed)) {
                        if (message.type == TYPE_CON)
                                send_empty(talk, TYPE_RST, message.mid);
                        continue;
                }
                if ((r = open_answer(talk, &talk->observation, true, &message)) < 0)
                        return r;
                if (r != TAKEN)
                        continue; /* it neither ends what is observed nor begins it anew */
                acknowledge(talk, &message);
                deadline_set(talk);
                if ((r = take_head(&message, answer)) != 0)
                        return r;
                if (is_news(talk, answer, before))
                        return take_blocks(talk, talk->observing, BYTES_NONE, &message, answer);
        }
}

int talk_cancel(struct talk *talk, struct talk_answer *answer) {
        talk->may_renew = false;
        talk->token = talk->observed;
        return ask_with(talk, talk->observing, OBSERVE_DEREGISTER, answer);
}
