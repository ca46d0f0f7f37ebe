#include "main/client.h"

#include <stdio.h>

#include "base/cleanup.h"

/* The token revocation list (RFC 9770), once or as it changes. */

#define QUERY_SIZE 48

static int show_list(const struct settings *settings, const struct talk_answer *answer) {
        return show_answer(settings, answer,
                           answer->code == CODE_CONTENT ? VOCABULARY_TRL : VOCABULARY_TRL_PROBLEM);
}

/* What came, then what comes: until settings->count were shown, or the server wants to tell no more. */
static int follow(const struct settings *settings, struct talk *talk, struct talk_answer *answer) {
        int status = show_list(settings, answer);

        for (uint64_t n = 1; status == 0 && n != settings->count; n++) {
                if (!answer->is_observed)
                        return fail(EXIT_REFUSED, "the server does not tell of changes");
                if ((status = talk_status(talk, talk_next(talk, answer))) == 0)
                        status = show_list(settings, answer);
        }
        if (status == 0 && answer->is_observed)
                status = talk_status(talk, talk_cancel(talk, answer));
        return status;
}

int verb_trl(const struct settings *settings, char *const *arguments) {
        _cleanup_(caller_done) struct caller caller = CALLER_INIT;
        _cleanup_(answer_wiped) struct talk_answer answer = TALK_ANSWER_INIT;
        struct talk_ask ask = { .code = CODE_GET, .path = "revoke/trl", .content_format = CF_NONE,
                                .accept = CF_ACE_TRL, .observe = settings->observe };
        char diff[QUERY_SIZE], cursor[QUERY_SIZE];
        size_t n_queries = 0;
        int status;

        if (settings->count > 0 && !settings->observe)
                return fail(EXIT_USAGE, "--count says nothing without --observe");
        if (settings->diff) {
                snprintf(diff, sizeof(diff), "diff=%s", settings->diff);
                ask.queries[n_queries++] = diff;
        }
        if (settings->cursor) {
                snprintf(cursor, sizeof(cursor), "cursor=%s", settings->cursor);
                ask.queries[n_queries++] = cursor;
        }
        if ((status = caller_begin(settings, &caller)) != 0)
                return status;
        if (caller.path[0])
                ask.path = caller.path;
        if ((status = talk_status(&caller.talk, talk_ask(&caller.talk, &ask, &answer))) != 0)
                return status;
        return settings->observe && answer.code == CODE_CONTENT ? follow(settings, &caller.talk, &answer) :
                                                                  show_list(settings, &answer);
}
