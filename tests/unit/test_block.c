#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "transport/block.h"

/*
 * Conversations, a line per message: what comes, when, and what is to be done with it. A body is made of the bytes
 * pattern(0), pattern(1)…; a step that says .wrong has others.
 */
#define S INT64_C(1000000)
#define BODY_MAX 8192
#define LIFETIME_S 247

static uint8_t pattern(size_t at, unsigned variant) {
        return (uint8_t)(at * 7 + at / 251 + variant * 13);
}

enum expected { END, RUN, CODE, BODY, KEPT };

struct step {
        enum expected expected;
        unsigned what; /* CODE: the code; BODY: the size; KEPT: the size of the block that is said */

        unsigned after_s;
        uint8_t code;      /* 0: POST */
        const char *path;  /* NULL: "token" */
        struct block block1, block2;
        int size;          /* of the payload; 0: as the block says; -1: none */
        bool wrong;        /* the payload is another */
        const char *tag;   /* Request-Tag; NULL: none */
        uint32_t size1;
        int format;        /* Content-Format; 0: ACE's; -1: none */
        unsigned more_options; /* 1: ETag, Observe, Size2, Hop-Limit; 2: Accept; 3: a query */
        size_t keep;       /* after RUN and BODY: the answer has so many bytes and is cut */
};

#define B(number_, more_, szx_) { .is_given = true, .number = number_, .more = more_, .szx = szx_ }

static size_t payload_size(const struct step *step) {
        if (step->size != 0)
                return step->size > 0 ? (size_t)step->size : 0;
        return step->block1.is_given ? (size_t)16 << step->block1.szx : 0;
}

struct room {
        struct coap_message message;
        uint8_t payload[2048], scratch[8][4];
};

static void compose_more(const struct step *step, struct coap_message *message) {
        if (step->more_options == 1) {
                coap_message_add(message, OPTION_ETAG, BYTES_LITERAL("e"));
                coap_message_add(message, OPTION_OBSERVE, BYTES_NONE);
                coap_message_add(message, OPTION_SIZE2, BYTES_NONE);
                coap_message_add(message, OPTION_HOP_LIMIT, BYTES_LITERAL("\x10"));
        } else if (step->more_options == 2) {
                coap_message_add(message, OPTION_ACCEPT, BYTES_LITERAL("\x13"));
        } else if (step->more_options == 3) {
                coap_message_add(message, OPTION_URI_QUERY, BYTES_LITERAL("a=b"));
        }
}

static void add_block(struct coap_message *message, uint16_t number, const struct block *block, uint8_t scratch[4]) {
        if (block->is_given)
                coap_message_add_uint(message, number, block->number << 4 | block->more << 3 | block->szx, scratch);
}

static void compose(const struct step *step, struct room *ret) {
        struct coap_message *message = &ret->message;
        size_t at = block_offset(&step->block1), size = payload_size(step);

        *message = (struct coap_message){ .code = step->code ? step->code : CODE_POST };
        assert_in_range(size, 0, sizeof(ret->payload));
        for (size_t i = 0; i < size; i++)
                ret->payload[i] = pattern(at + i, step->wrong);
        message->payload = bytes_of(ret->payload, size);
        coap_message_add(message, OPTION_URI_PATH, bytes_text(step->path ? step->path : "token"));
        if (step->format >= 0)
                coap_message_add_uint(message, OPTION_CONTENT_FORMAT,
                                      step->format ? (uint32_t)step->format : CF_ACE_CBOR, ret->scratch[0]);
        compose_more(step, message);
        add_block(message, OPTION_BLOCK1, &step->block1, ret->scratch[1]);
        add_block(message, OPTION_BLOCK2, &step->block2, ret->scratch[2]);
        if (step->size1)
                coap_message_add_uint(message, OPTION_SIZE1, step->size1, ret->scratch[3]);
        if (step->tag)
                coap_message_add(message, OPTION_REQUEST_TAG, bytes_text(step->tag));
}

/* ---- one peer, as the engine uses it */

struct talk {
        struct block_pool *pool;
        struct block_peer peer;
        int64_t now_us;
        uint32_t etags[16]; /* of what was kept, in order */
        unsigned n_kept;
        const char *name;
        unsigned n;
        bool said_progress; /* of the last step */
};

static struct block_figures figures(const struct talk *talk) {
        struct block_figures ret;

        block_pool_figures(talk->pool, &ret);
        return ret;
}

static void check_body(const struct talk *talk, struct bytes body, size_t size) {
        if (body.size != size)
                fail_msg("%s, step %u: a body of %zu", talk->name, talk->n, body.size);
        for (size_t i = 0; i < size; i++)
                if (body.data[i] != pattern(i, 0))
                        fail_msg("%s, step %u: byte %zu", talk->name, talk->n, i);
}

static void keep(struct talk *talk, const struct block_asks *asks, size_t size) {
        struct response response;
        uint8_t *space;

        response_init(&response);
        response.code = CODE_CREATED;
        response.content_format = CF_ACE_CBOR;
        assert_int_equal(buf_reserve(&response.payload, size, &space), 0);
        for (size_t i = 0; i < size; i++)
                space[i] = pattern(i, talk->n_kept);
        buf_added(&response.payload, size);
        assert_int_equal(block_keep(&talk->peer, talk->pool, asks, &response, talk->now_us,
                                    &talk->etags[talk->n_kept]), 0);
        assert_int_equal(response.payload.size, 0);
        talk->n_kept++;
        response_done(&response);
}

/* Which of the kept answers this block is of, by its ETag; its bytes are that one's. */
static void check_kept(const struct talk *talk, const struct block_step *said, const struct block_asks *asks,
                       size_t size) {
        const struct answer_limits limits = { .size_max = 1152 };
        size_t at = block_offset(&asks->answer_block);
        struct answer answer;

        translate_response(&said->kept, asks, &limits, &answer);
        if (answer.message.payload.size != size)
                fail_msg("%s, step %u: a block of %zu", talk->name, talk->n, answer.message.payload.size);
        for (unsigned n = talk->n_kept; n-- > 0;) {
                if (talk->etags[n] != said->etag)
                        continue;
                for (size_t i = 0; i < size; i++)
                        if (answer.message.payload.data[i] != pattern(at + i, n))
                                fail_msg("%s, step %u: of another answer", talk->name, talk->n);
                return;
        }
        fail_msg("%s, step %u: ETag of nothing", talk->name, talk->n);
}

static void take_step(struct talk *talk, const struct step *step) {
        static const enum expected verdicts[] = { [BLOCK_RUN] = RUN, [BLOCK_BODY] = BODY, [BLOCK_ANSWER] = CODE,
                                                  [BLOCK_KEPT] = KEPT };
        _cleanup_(buf_done) struct buf body = BUF_INIT(0);
        enum block_verdict verdict;
        struct block_asks asks;
        struct block_step said;
        struct request request;
        struct room room;

        talk->now_us += step->after_s * S;
        block_pool_timers(talk->pool, talk->now_us);
        compose(step, &room);
        assert_int_equal(translate_request(&room.message, BODY_MAX, &request, &asks), 0);
        asks.may_keep = true;
        block_identify(talk->pool, &room.message, &asks);
        verdict = block_step(&talk->peer, &room.message, &asks, talk->now_us, &said);
        talk->said_progress = said.is_progress;
        if (verdicts[verdict] != step->expected)
                fail_msg("%s, step %u: verdict %d, code %02x", talk->name, talk->n, verdict, said.code);
        if (step->expected == CODE && said.code != step->what)
                fail_msg("%s, step %u: code %02x", talk->name, talk->n, said.code);
        if (step->expected == BODY) {
                assert_true(block_take(&talk->peer, &asks, &body));
                assert_false(block_take(&talk->peer, &asks, &body));
                check_body(talk, buf_bytes(&body), step->what);
        }
        if (step->expected == KEPT)
                check_kept(talk, &said, &asks, step->what);
        if (step->keep)
                keep(talk, &asks, step->keep);
        talk->n++;
}

static const struct block_limits usual_limits = { .body_max = BODY_MAX, .bytes_per_peer_max = 131072,
                                                  .bytes_max = 1 << 24 };

static void talk_open(struct talk *talk, const struct block_limits *limits, const char *name) {
        *talk = (struct talk){ .now_us = 1000 * S, .name = name };
        assert_int_equal(block_pool_new(limits, &talk->pool), 0);
        block_peer_init(&talk->peer, talk->pool);
}

/* Whatever has been: when the peer goes, or its time is up, nothing is left. */
static void talk_close(struct talk *talk, bool by_time) {
        if (by_time) {
                block_pool_timers(talk->pool, talk->now_us + LIFETIME_S * S);
                assert_true(TAILQ_EMPTY(&talk->peer.transfers));
        }
        block_peer_done(&talk->peer);
        assert_int_equal(talk->peer.n_bytes, 0);
        assert_int_equal(talk->peer.n_bodies, 0);
        assert_int_equal(talk->peer.n_answers, 0);
        assert_int_equal(figures(talk).n_bytes, 0);
        assert_int_equal(figures(talk).n_bodies, 0);
        assert_int_equal(figures(talk).n_answers, 0);
        assert_true(block_pool_due(talk->pool) == INT64_MAX);
        block_pool_free(talk->pool);
}

/* ---- the rules */

#define MORE CODE, CODE_CONTINUE
#define GAP CODE, CODE_INCOMPLETE
#define LARGE CODE, CODE_TOO_LARGE

static const struct conversation {
        const char *name;
        struct step steps[14];
} conversations[] = {
        { "no blocks", { { RUN, .size = 100 }, { RUN, .size = 100, .code = CODE_GET } } },
        { "a body that is one block", { { RUN, .block1 = B(0, 0, 6), .size = 100 }, { RUN, .block1 = B(0, 0, 0) } } },
        { "three blocks",
          { { MORE, .block1 = B(0, 1, 2) }, { MORE, .block1 = B(1, 1, 2) },
            { BODY, 2 * 64 + 5, .block1 = B(2, 0, 2), .size = 5 } } },
        { "the last block is full", { { MORE, .block1 = B(0, 1, 6) }, { BODY, 2048, .block1 = B(1, 0, 6) } } },
        { "the last block is empty",
          { { MORE, .block1 = B(0, 1, 6) }, { BODY, 1024, .block1 = B(1, 0, 6), .size = -1 } } },
        { "all that is allowed",
          { { MORE, .block1 = B(0, 1, 6) }, { MORE, .block1 = B(1, 1, 6) }, { MORE, .block1 = B(2, 1, 6) },
            { MORE, .block1 = B(3, 1, 6) }, { MORE, .block1 = B(4, 1, 6) }, { MORE, .block1 = B(5, 1, 6) },
            { MORE, .block1 = B(6, 1, 6) }, { BODY, 8192, .block1 = B(7, 0, 6) } } },
        { "one byte more",
          { { MORE, .block1 = B(0, 1, 6) }, { MORE, .block1 = B(1, 1, 6) }, { MORE, .block1 = B(2, 1, 6) },
            { MORE, .block1 = B(3, 1, 6) }, { MORE, .block1 = B(4, 1, 6) }, { MORE, .block1 = B(5, 1, 6) },
            { MORE, .block1 = B(6, 1, 6) }, { MORE, .block1 = B(7, 1, 6) }, { LARGE, .block1 = B(8, 0, 6), .size = 1 },
            { GAP, .block1 = B(7, 0, 6) } } },
        { "more than is allowed is announced",
          { { LARGE, .block1 = B(0, 1, 6), .size1 = 8193 }, { GAP, .block1 = B(1, 1, 6) },
            { MORE, .block1 = B(0, 1, 6), .size1 = 8192 }, { LARGE, .block1 = B(1, 1, 6), .size1 = 8193 },
            { GAP, .block1 = B(1, 1, 6) } } },
        { "far away", { { LARGE, .block1 = B(0xfffff, 1, 6) }, { LARGE, .block1 = B(0xfffff, 0, 0), .size = 1 } } },
        { "smaller blocks on the way",
          { { MORE, .block1 = B(0, 1, 6) }, { MORE, .block1 = B(8, 1, 3) }, { MORE, .block1 = B(72, 1, 0) },
            { BODY, 1024 + 128 + 16 + 1, .block1 = B(73, 0, 0), .size = 1 } } },
        { "larger blocks on the way",
          { { MORE, .block1 = B(0, 1, 0) }, { MORE, .block1 = B(1, 1, 0) }, { BODY, 64, .block1 = B(1, 0, 1) } } },
        { "the same block with another Message ID is taken once",
          { { MORE, .block1 = B(0, 1, 0) }, { MORE, .block1 = B(1, 1, 0) }, { MORE, .block1 = B(1, 1, 0) },
            { MORE, .block1 = B(1, 1, 0) }, { BODY, 35, .block1 = B(2, 0, 0), .size = 3 } } },
        { "an earlier block again",
          { { MORE, .block1 = B(0, 1, 0) }, { MORE, .block1 = B(1, 1, 0) }, { MORE, .block1 = B(2, 1, 0) },
            { MORE, .block1 = B(1, 1, 0) }, { BODY, 51, .block1 = B(3, 0, 0), .size = 3 } } },
        { "a block again, with other bytes",
          { { MORE, .block1 = B(0, 1, 0) }, { MORE, .block1 = B(1, 1, 0) },
            { GAP, .block1 = B(1, 1, 0), .wrong = true }, { BODY, 33, .block1 = B(2, 0, 0), .size = 1 } } },
        { "a block again, as the last one",
          { { MORE, .block1 = B(0, 1, 0) }, { MORE, .block1 = B(1, 1, 0) }, { GAP, .block1 = B(1, 0, 0) },
            { BODY, 33, .block1 = B(2, 0, 0), .size = 1 } } },
        { "a later block of nothing",
          { { GAP, .block1 = B(1, 1, 0) }, { GAP, .block1 = B(1, 0, 0) }, { GAP, .block1 = B(7, 0, 6), .size = 9 } } },
        { "a block is left out, then comes",
          { { MORE, .block1 = B(0, 1, 0) }, { GAP, .block1 = B(2, 1, 0) }, { GAP, .block1 = B(2, 0, 0), .size = 1 },
            { MORE, .block1 = B(1, 1, 0) }, { BODY, 33, .block1 = B(2, 0, 0), .size = 1 } } },
        { "the last block after the end",
          { { MORE, .block1 = B(0, 1, 0) }, { BODY, 17, .block1 = B(1, 0, 0), .size = 1 },
            { GAP, .block1 = B(1, 0, 0), .size = 1 } } },
        { "number 0 begins anew",
          { { MORE, .block1 = B(0, 1, 0), .wrong = true }, { MORE, .block1 = B(1, 1, 0), .wrong = true },
            { MORE, .block1 = B(0, 1, 0) }, { GAP, .block1 = B(2, 0, 0) }, { BODY, 32, .block1 = B(1, 0, 0) } } },
        { "a body in one block ends what was under way",
          { { MORE, .block1 = B(0, 1, 0) }, { RUN, .block1 = B(0, 0, 0) }, { GAP, .block1 = B(1, 0, 0) } } },
        { "a body without blocks leaves it",
          { { MORE, .block1 = B(0, 1, 0) }, { RUN, .size = 9 }, { BODY, 32, .block1 = B(1, 0, 0) } } },
        { "too slow", { { MORE, .block1 = B(0, 1, 0) }, { GAP, .block1 = B(1, 0, 0), .after_s = LIFETIME_S } } },
        { "slow",
          { { MORE, .block1 = B(0, 1, 0) }, { MORE, .block1 = B(1, 1, 0), .after_s = LIFETIME_S - 1 },
            { BODY, 33, .block1 = B(2, 0, 0), .size = 1, .after_s = LIFETIME_S - 1 } } },
        { "other method", { { MORE, .block1 = B(0, 1, 0) }, { GAP, .block1 = B(1, 0, 0), .code = CODE_PUT } } },
        { "other path", { { MORE, .block1 = B(0, 1, 0) }, { GAP, .block1 = B(1, 0, 0), .path = "tokem" } } },
        { "other format", { { MORE, .block1 = B(0, 1, 0) }, { GAP, .block1 = B(1, 0, 0), .format = 60 } } },
        { "other Accept", { { MORE, .block1 = B(0, 1, 0) }, { GAP, .block1 = B(1, 0, 0), .more_options = 2 } } },
        { "other query", { { MORE, .block1 = B(0, 1, 0) }, { GAP, .block1 = B(1, 0, 0), .more_options = 3 } } },
        { "options that do not matter",
          { { MORE, .block1 = B(0, 1, 0), .size1 = 17 },
            { BODY, 17, .block1 = B(1, 0, 0), .size = 1, .more_options = 1 } } },
        { "tags keep bodies apart (RFC 9175)",
          { { MORE, .block1 = B(0, 1, 0), .tag = "a" }, { MORE, .block1 = B(0, 1, 1), .tag = "b" },
            { MORE, .block1 = B(0, 1, 2), .tag = "" }, { MORE, .block1 = B(0, 1, 3) },
            { BODY, 17, .block1 = B(1, 0, 0), .size = 1, .tag = "a" },
            { BODY, 33, .block1 = B(1, 0, 1), .size = 1, .tag = "b" },
            { BODY, 65, .block1 = B(1, 0, 2), .size = 1, .tag = "" }, { BODY, 129, .block1 = B(1, 0, 3), .size = 1 },
            { GAP, .block1 = B(1, 0, 0), .size = 1, .tag = "c" } } },
        { "one body more than there may be: the oldest goes",
          { { MORE, .block1 = B(0, 1, 0), .tag = "a" }, { MORE, .block1 = B(0, 1, 0), .tag = "b" },
            { MORE, .block1 = B(0, 1, 0), .tag = "c" }, { MORE, .block1 = B(0, 1, 0), .tag = "d" },
            { MORE, .block1 = B(1, 1, 0), .tag = "a" }, { MORE, .block1 = B(0, 1, 0), .tag = "e" },
            { GAP, .block1 = B(1, 0, 0), .tag = "b" }, { BODY, 48, .block1 = B(2, 0, 0), .tag = "a" },
            { BODY, 32, .block1 = B(1, 0, 0), .tag = "e" } } },
        { "Block2 of a body under way",
          { { MORE, .block1 = B(0, 1, 0), .block2 = B(0, 0, 2) },
            { CODE, CODE_BAD_REQUEST, .block1 = B(1, 1, 0), .block2 = B(1, 0, 2) },
            { BODY, 32, .block1 = B(1, 0, 0), .block2 = B(0, 0, 2) } } },

        { "an answer in blocks, the last one twice, then from anywhere",
          { { RUN, .size = 9, .keep = 2100 }, { KEPT, 1024, .block2 = B(1, 0, 6) }, { KEPT, 52, .block2 = B(2, 0, 6) },
            { KEPT, 52, .block2 = B(2, 0, 6) }, { KEPT, 1024, .block2 = B(1, 0, 6) },
            { KEPT, 16, .block2 = B(7, 0, 0) }, { KEPT, 4, .block2 = B(131, 0, 0) },
            { KEPT, 0, .block2 = B(132, 0, 0) } } },
        { "clients leave out the format", { { RUN, .size = 9, .keep = 2100 },
                                            { KEPT, 1024, .block2 = B(1, 0, 6), .format = -1 } } },
        { "later blocks of no answer",
          { { GAP, .block2 = B(1, 0, 6) }, { RUN, .block2 = B(1, 0, 6), .code = CODE_GET } } },
        { "an answer is forgotten",
          { { RUN, .size = 9, .keep = 2100 }, { KEPT, 1024, .block2 = B(1, 0, 6), .after_s = LIFETIME_S - 1 },
            { KEPT, 1024, .block2 = B(1, 0, 6), .after_s = LIFETIME_S - 1 },
            { GAP, .block2 = B(1, 0, 6), .after_s = LIFETIME_S } } },
        { "GET: forgotten, made again",
          { { RUN, .code = CODE_GET, .keep = 2100 }, { KEPT, 1024, .block2 = B(1, 0, 6), .code = CODE_GET },
            { RUN, .block2 = B(1, 0, 6), .code = CODE_GET, .after_s = LIFETIME_S, .keep = 2100 },
            { KEPT, 52, .block2 = B(2, 0, 6), .code = CODE_GET } } },
        { "the answer to an answered body",
          { { MORE, .block1 = B(0, 1, 0), .block2 = B(0, 0, 1) },
            { BODY, 17, .block1 = B(1, 0, 0), .size = 1, .block2 = B(0, 0, 1), .keep = 100 },
            { KEPT, 32, .block2 = B(1, 0, 1) }, { KEPT, 4, .block2 = B(3, 0, 1) } } },
        { "Block1 still said with a later block of the answer",
          { { MORE, .block1 = B(0, 1, 0) }, { BODY, 17, .block1 = B(1, 0, 0), .size = 1, .keep = 100 },
            { KEPT, 32, .block1 = B(1, 0, 0), .size = -1, .block2 = B(1, 0, 1) } } },
        { "the later of two answers of one request is the one that is kept",
          { { RUN, .size = 9, .keep = 2100 }, { RUN, .size = 9, .keep = 3000 }, { KEPT, 1024, .block2 = B(1, 0, 6) },
            { KEPT, 952, .block2 = B(2, 0, 6) } } },
        { "a small answer between leaves the kept one",
          { { RUN, .size = 9, .keep = 2100 }, { RUN, .size = 9 }, { KEPT, 1024, .block2 = B(1, 0, 6) } } },
        { "two answers with tags",
          { { RUN, .size = 9, .keep = 2100, .tag = "a" }, { RUN, .size = 9, .keep = 3000, .tag = "b" },
            { KEPT, 52, .block2 = B(2, 0, 6), .tag = "a" }, { KEPT, 952, .block2 = B(2, 0, 6), .tag = "b" },
            { GAP, .block2 = B(2, 0, 6), .tag = "c" }, { GAP, .block2 = B(2, 0, 6) } } },
        { "a tag left out, no doubt what is meant",
          { { RUN, .size = 9, .keep = 2100, .tag = "a" }, { KEPT, 52, .block2 = B(2, 0, 6) },
            { GAP, .block2 = B(2, 0, 6), .tag = "b" } } },
        { "answers to two requests at once",
          { { RUN, .size = 9, .keep = 2100 }, { RUN, .size = 9, .path = "introspect", .keep = 3000 },
            { KEPT, 1024, .block2 = B(1, 0, 6) }, { KEPT, 1024, .block2 = B(1, 0, 6), .path = "introspect" },
            { KEPT, 52, .block2 = B(2, 0, 6) }, { KEPT, 952, .block2 = B(2, 0, 6), .path = "introspect" } } },
        { "one answer more than there may be: the one longest unused goes",
          { { RUN, .size = 9, .keep = 2000, .tag = "a" }, { RUN, .size = 9, .keep = 2000, .tag = "b" },
            { RUN, .size = 9, .keep = 2000, .tag = "c" }, { RUN, .size = 9, .keep = 2000, .tag = "d" },
            { KEPT, 976, .block2 = B(1, 0, 6), .tag = "a" }, { RUN, .size = 9, .keep = 2000, .tag = "e" },
            { GAP, .block2 = B(1, 0, 6), .tag = "b" }, { KEPT, 976, .block2 = B(1, 0, 6), .tag = "a" },
            { KEPT, 976, .block2 = B(1, 0, 6), .tag = "e" } } },
        { "a body and an answer at once",
          { { RUN, .size = 9, .keep = 2000 }, { MORE, .block1 = B(0, 1, 0) }, { KEPT, 976, .block2 = B(1, 0, 6) },
            { BODY, 32, .block1 = B(1, 0, 0), .keep = 1500 }, { KEPT, 476, .block2 = B(1, 0, 6) } } },
};

static void t_conversations(void **state) {
        for (size_t i = 0; i < 2 * N_ELEMENTS(conversations); i++) {
                const struct conversation *conversation = &conversations[i / 2];
                struct talk talk;

                talk_open(&talk, &usual_limits, conversation->name);
                for (const struct step *step = conversation->steps; step->expected != END; step++)
                        take_step(&talk, step);
                assert_int_equal(figures(&talk).n_bytes, talk.peer.n_bytes);
                talk_close(&talk, i % 2);
        }
}

/* What the option itself says wrongly is refused before anything is looked for. */
static void t_options(void **state) {
        static const struct {
                const char *what;
                struct bytes block1, block2;
                size_t payload_size;
                int r;
        } cases[] = {
                { "SZX 7 in Block1", BYTES_LITERAL("\x0f"), { NULL, SIZE_MAX }, 16, REFUSE_MALFORMED },
                { "SZX 7 in Block2", { NULL, SIZE_MAX }, BYTES_LITERAL("\x07"), 0, REFUSE_MALFORMED },
                { "four bytes", BYTES_LITERAL("\0\0\0\0"), { NULL, SIZE_MAX }, 1, REFUSE_BAD_OPTION },
                { "a byte short", BYTES_LITERAL("\x0a"), { NULL, SIZE_MAX }, 63, REFUSE_MALFORMED },
                { "exact", BYTES_LITERAL("\x0a"), { NULL, SIZE_MAX }, 64, 0 },
                { "a byte long", BYTES_LITERAL("\x0a"), { NULL, SIZE_MAX }, 65, REFUSE_MALFORMED },
                { "nothing", BYTES_LITERAL("\x0a"), { NULL, SIZE_MAX }, 0, REFUSE_MALFORMED },
                { "the last, short", BYTES_LITERAL("\x12"), { NULL, SIZE_MAX }, 63, 0 },
                { "the last, a byte long", BYTES_LITERAL("\x12"), { NULL, SIZE_MAX }, 65, REFUSE_MALFORMED },
                { "no value: number 0, 16 bytes", BYTES_LITERAL(""), BYTES_LITERAL(""), 16, 0 },
                { "M in Block2 means nothing", { NULL, SIZE_MAX }, BYTES_LITERAL("\x0a"), 9, 0 },
        };
        static const uint8_t payload[100];

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct coap_message message = { .code = CODE_POST,
                                                .payload = bytes_of(payload, cases[i].payload_size) };
                struct block_asks asks;
                struct request request;
                int r;

                if (cases[i].block2.size != SIZE_MAX)
                        coap_message_add(&message, OPTION_BLOCK2, cases[i].block2);
                if (cases[i].block1.size != SIZE_MAX)
                        coap_message_add(&message, OPTION_BLOCK1, cases[i].block1);
                r = translate_request(&message, BODY_MAX, &request, &asks);
                if (r != cases[i].r)
                        fail_msg("%s: %d", cases[i].what, r);
        }
}

/* Overload meets the last block: the body stays, so that the same block runs it later; a block before it cannot. */
static void t_last_block_again(void **state) {
        static const struct step first = { MORE, .block1 = B(0, 1, 0) }, last = { BODY, 20, .block1 = B(1, 0, 0),
                                                                                    .size = 4 };
        _cleanup_(buf_done) struct buf body = BUF_INIT(0);
        struct block_asks asks;
        struct block_step said;
        struct request request;
        struct talk talk;
        struct room room;

        talk_open(&talk, &usual_limits, "last block again");
        take_step(&talk, &first);
        compose(&last, &room);
        assert_int_equal(translate_request(&room.message, BODY_MAX, &request, &asks), 0);
        block_identify(talk.pool, &room.message, &asks);
        assert_false(block_take(&talk.peer, &asks, &body)); /* not whole */
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(block_step(&talk.peer, &room.message, &asks, talk.now_us, &said), BLOCK_BODY);
        take_step(&talk, &(struct step){ GAP, .block1 = B(1, 0, 0), .size = 5 });
        take_step(&talk, &(struct step){ GAP, .block1 = B(1, 1, 0) });
        take_step(&talk, &last);
        talk_close(&talk, false);
}

/* Who is not authenticated makes us hold nothing. */
static void t_strangers(void **state) {
        static const struct step first = { LARGE, .block1 = B(0, 1, 0) }, later = { LARGE, .block1 = B(1, 0, 0) },
                                 answer = { GAP, .block2 = B(1, 0, 0) }, whole = { RUN, .block1 = B(0, 0, 0) };
        struct block_asks asks = {};
        struct response response;
        struct talk talk;
        uint32_t etag;

        talk_open(&talk, &usual_limits, "stranger");
        block_peer_done(&talk.peer);
        take_step(&talk, &first);
        take_step(&talk, &later);
        take_step(&talk, &answer);
        take_step(&talk, &whole);
        response_init(&response);
        assert_int_equal(buf_add(&response.payload, BYTES_LITERAL("long")), 0);
        assert_int_equal(block_keep(&talk.peer, talk.pool, &asks, &response, 0, &etag), -EPERM);
        assert_int_equal(response.payload.size, 4);
        response_done(&response);
        talk_close(&talk, false);
}

/* ---- limits */

static void t_bytes_per_peer(void **state) {
        struct block_limits limits = { .body_max = BODY_MAX, .bytes_per_peer_max = 16384, .bytes_max = 1 << 20 };
        struct response response;
        struct block_asks asks = { .key.resource = 1 };
        struct talk talk;
        uint32_t etag;

        talk_open(&talk, &limits, "bytes per peer");
        for (unsigned i = 0; i < 4; i++) {
                static const char *const tags[] = { "a", "b", "c", "d" };

                take_step(&talk, &(struct step){ RUN, .size = 9, .keep = 3000, .tag = tags[i] });
                assert_in_range(talk.peer.n_bytes, 3000, 16384);
        }
        assert_int_equal(talk.peer.n_answers, 3);
        assert_int_equal(figures(&talk).n_evicted, 1);
        take_step(&talk, &(struct step){ GAP, .block2 = B(1, 0, 6), .tag = "a" });
        take_step(&talk, &(struct step){ KEPT, 1024, .block2 = B(1, 0, 6), .tag = "d" });

        /* an answer that is too long for it displaces nobody */
        response_init(&response);
        assert_int_equal(response_reserve(&response, 17000), 0);
        assert_int_equal(block_keep(&talk.peer, talk.pool, &asks, &response, talk.now_us, &etag), -ENOSPC);
        assert_int_equal(talk.peer.n_answers, 3);
        response_done(&response);

        /* a body grows at the cost of its peer's answers, and is itself spared */
        for (uint32_t n = 0; n < 7; n++)
                take_step(&talk, &(struct step){ MORE, .block1 = B(n, 1, 6) });
        assert_in_range(talk.peer.n_bytes, 8192, 16384);
        take_step(&talk, &(struct step){ BODY, 8192, .block1 = B(7, 0, 6) });
        talk_close(&talk, true);
}

/* However many peers begin bodies: memory in all is bounded, and it is the ones unused longest that go. */
#define PEERS 500
static void t_bytes_in_all(void **state) {
        struct block_limits limits = { .body_max = BODY_MAX, .bytes_per_peer_max = 16384, .bytes_max = 65536 };
        struct talk *talks = calloc(PEERS, sizeof(*talks));

        assert_non_null(talks);
        talk_open(&talks[0], &limits, "many peers");
        for (unsigned i = 0; i < PEERS; i++) {
                if (i > 0)
                        talks[i] = (struct talk){ .pool = talks[0].pool, .now_us = 1000 * S, .name = "many peers" };
                block_peer_init(&talks[i].peer, talks[0].pool);
                take_step(&talks[i], &(struct step){ MORE, .block1 = B(0, 1, 6) });
                assert_in_range(figures(&talks[0]).n_bytes, 1024, 65536);
        }
        assert_in_range(figures(&talks[0]).n_bodies, 40, 64);
        assert_int_equal(figures(&talks[0]).n_bodies + figures(&talks[0]).n_evicted, PEERS);
        take_step(&talks[0], &(struct step){ GAP, .block1 = B(1, 0, 6) });
        take_step(&talks[PEERS - 1], &(struct step){ BODY, 2048, .block1 = B(1, 0, 6) });

        /* less is allowed: what is too much goes when the next one comes */
        limits.bytes_max = 8192;
        block_pool_set_limits(talks[0].pool, &limits);
        take_step(&talks[0], &(struct step){ MORE, .block1 = B(0, 1, 6) });
        assert_in_range(figures(&talks[0]).n_bytes, 1024, 8192);
        for (unsigned i = 1; i < PEERS; i++) {
                block_peer_done(&talks[i].peer);
                assert_int_equal(talks[i].peer.n_bytes, 0);
        }
        talk_close(&talks[0], true);
        free(talks);
}

/* A body costs what has come of it, not what may come. */
static void t_small_body_is_cheap(void **state) {
        struct talk talk;

        talk_open(&talk, &usual_limits, "small body");
        take_step(&talk, &(struct step){ MORE, .block1 = B(0, 1, 0), .size1 = BODY_MAX });
        assert_in_range(talk.peer.n_bytes, 16, 512);
        talk_close(&talk, true);
        talk_open(&talk, &usual_limits, "figures");
        take_step(&talk, &(struct step){ MORE, .block1 = B(0, 1, 0) });
        assert_int_equal(block_pool_due(talk.pool), talk.now_us + LIFETIME_S * S);
        block_pool_timers(talk.pool, talk.now_us + LIFETIME_S * S - 1);
        assert_int_equal(figures(&talk).n_bodies, 1);
        block_pool_timers(talk.pool, talk.now_us + LIFETIME_S * S);
        assert_int_equal(figures(&talk).n_expired, 1);
        talk_close(&talk, false);
}

/* Same body, same ETag; another body, another; another instance, too: nobody can compute it. */
static void t_etag(void **state) {
        struct talk talks[2];
        uint32_t etags[4];

        for (unsigned i = 0; i < 4; i++) {
                struct block_asks asks = { .key.resource = i };
                struct response response;

                if (i % 2 == 0)
                        talk_open(&talks[i / 2], &usual_limits, "etag");
                response_init(&response);
                assert_int_equal(buf_add(&response.payload, i == 1 ? BYTES_LITERAL("b") : BYTES_LITERAL("a")), 0);
                assert_int_equal(block_keep(&talks[i / 2].peer, talks[i / 2].pool, &asks, &response, 0, &etags[i]), 0);
                response_done(&response);
        }
        assert_int_not_equal(etags[0], etags[1]);
        assert_int_not_equal(etags[0], etags[2]);
        assert_int_equal(etags[2], etags[3]);
        talk_close(&talks[0], false);
        talk_close(&talks[1], false);
}

/* ---- what is said */

/* Which options an answer has: block by block with Size2 when asked, Block1 in answer to one, Size1 with 4.13. */
static void t_answers(void **state) {
        static const uint8_t body[100];
        static const struct {
                const char *what;
                struct block_asks asks;
                uint8_t code;
                size_t size;
                int64_t block1, block2, size1, size2;
                bool is_part;
        } cases[] = {
                { "2.31", { .request_block = B(3, 1, 2) }, CODE_CONTINUE, 0, 3 << 4 | 8 | 2, -1, -1, -1, false },
                { "the end of a body", { .request_block = B(4, 0, 2) }, CODE_CREATED, 9, 4 << 4 | 2, -1, -1, -1,
                  false },
                { "4.13 in blocks", { .request_block = B(4, 1, 2) }, CODE_TOO_LARGE, 0, 4 << 4 | 8 | 2, -1, BODY_MAX,
                  -1, false },
                { "4.13", {}, CODE_TOO_LARGE, 0, -1, -1, BODY_MAX, -1, false },
                { "Size2 of a whole", { .size2 = true }, CODE_CONTENT, 100, -1, -1, -1, 100, false },
                { "Size2 of a block", { .size2 = true, .answer_block = B(1, 0, 0) }, CODE_CONTENT, 100, -1,
                  1 << 4 | 8 | 0, -1, 100, true },
                { "both", { .request_block = B(4, 0, 2), .answer_block = B(0, 0, 1) }, CODE_CREATED, 100, 4 << 4 | 2,
                  0 << 4 | 8 | 1, -1, -1, true },
                { "an error instead of a later block", { .answer_block = B(9, 0, 1) }, CODE_UNAUTHORIZED, 20, -1, -1,
                  -1, -1, false },
                { "an error without payload instead of a later block", { .answer_block = B(1, 0, 1) }, CODE_INCOMPLETE,
                  0, -1, -1, -1, -1, false },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                static const uint16_t numbers[] = { OPTION_BLOCK1, OPTION_BLOCK2, OPTION_SIZE1, OPTION_SIZE2 };
                const int64_t values[] = { cases[i].block1, cases[i].block2, cases[i].size1, cases[i].size2 };
                struct block_asks asks = cases[i].asks;
                struct response response;
                struct answer answer;

                asks.may_keep = true;
                response_init(&response);
                response.code = cases[i].code;
                assert_int_equal(buf_add(&response.payload, bytes_of(body, cases[i].size)), 0);
                translate_response(&response, &asks,
                                   &(struct answer_limits){ .size_max = 1152, .payload_max = BODY_MAX }, &answer);
                for (size_t j = 0; j < N_ELEMENTS(numbers); j++) {
                        const struct coap_option *option = coap_message_option(&answer.message, numbers[j], 0);
                        uint32_t value;

                        if (option ? !coap_option_uint(option, &value) || value != values[j] : values[j] != -1)
                                fail_msg("%s: option %u", cases[i].what, (unsigned)numbers[j]);
                }
                if (answer.message.code != cases[i].code || answer.is_part != cases[i].is_part)
                        fail_msg("%s: code %02x", cases[i].what, answer.message.code);
                response_done(&response);
        }
}

/* Blocks that bring a transfer on are free of charge: never more of them than it has blocks. */
static void t_progress(void **state) {
        static const struct {
                struct step step;
                bool is_progress;
        } cases[] = {
                { { MORE, .block1 = B(0, 1, 0) }, false },
                { { MORE, .block1 = B(1, 1, 0) }, true },
                { { MORE, .block1 = B(1, 1, 0) }, false },
                { { GAP, .block1 = B(3, 1, 0) }, false },
                { { MORE, .block1 = B(2, 1, 0) }, true },
                { { BODY, 49, .block1 = B(3, 0, 0), .size = 1 }, true },
                { { GAP, .block1 = B(3, 0, 0), .size = 1 }, false },
                { { RUN, .size = 9, .keep = 100 }, false },
                { { KEPT, 16, .block2 = B(1, 0, 0) }, true },
                { { KEPT, 16, .block2 = B(1, 0, 0) }, false },
                { { KEPT, 16, .block2 = B(4, 0, 0) }, true },
                { { KEPT, 16, .block2 = B(3, 0, 0) }, false },
                { { KEPT, 4, .block2 = B(6, 0, 0) }, true },
                { { KEPT, 0, .block2 = B(7, 0, 0) }, false },
                { { RUN, .code = CODE_GET, .block2 = B(1, 0, 0) }, false },
        };
        struct talk talk;

        talk_open(&talk, &usual_limits, "progress");
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                take_step(&talk, &cases[i].step);
                if (talk.said_progress != cases[i].is_progress)
                        fail_msg("step %zu: %d", i, talk.said_progress);
        }
        talk_close(&talk, false);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(t_conversations),
                cmocka_unit_test(t_options),
                cmocka_unit_test(t_last_block_again),
                cmocka_unit_test(t_strangers),
                cmocka_unit_test(t_bytes_per_peer),
                cmocka_unit_test(t_bytes_in_all),
                cmocka_unit_test(t_small_body_is_cheap),
                cmocka_unit_test(t_etag),
                cmocka_unit_test(t_answers),
                cmocka_unit_test(t_progress),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
