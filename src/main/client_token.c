#include "main/client.h"

#include "base/cleanup.h"
#include "format/cbor.h"

/* ---- tokens as arguments */

bool token_in_answer(struct bytes bytes, int label, struct bytes *ret) {
        struct {
                struct cbor_item token;
        } answer;
        const struct cbor_field fields[] = { { label, CBOR_BYTES, 0 } };

        if (cbor_map(bytes, fields, N_ELEMENTS(fields), &answer) != 0 || answer.token.kind != CBOR_BYTES)
                return false;
        *ret = answer.token.content;
        return true;
}

/* The argument's bytes, or of an answer what it has under label. */
static int read_token(const char *argument, int label, struct buf *given, struct bytes *ret) {
        int status = read_argument(argument, given);

        if (status == 0 && !token_in_answer(buf_bytes(given), label, ret))
                *ret = buf_bytes(given);
        return status;
}

/* ---- requests to /token */

/* The parameters that are text or bytes, in the order of their labels. */
static const struct {
        int label;
        size_t offset;
} parameters[] = {
        { ACE_AUDIENCE, offsetof(struct settings, audience) },
        { ACE_SCOPE, offsetof(struct settings, scope) },
        { ACE_CLIENT_ID, offsetof(struct settings, client_id) },
};

static const struct value *parameter_value(const struct settings *settings, size_t n) {
        return (const struct value *)((const char *)settings + parameters[n].offset);
}

static void put_req_cnf(struct cbor_writer *w, const struct settings *settings) {
        cbor_put_uint(w, ACE_REQ_CNF);
        if (settings->req_cnf.set) {
                cbor_put_raw(w, value_bytes(&settings->req_cnf));
                return;
        }
        cbor_put_map(w, 1);
        cbor_put_uint(w, CNF_KID);
        cbor_put_bytes(w, value_bytes(&settings->kid));
}

/* refresh_token with data NULL: for client_credentials, which is what no grant_type means (RFC 9200 §5.8.1). */
static int token_request(const struct settings *settings, struct bytes refresh_token, struct buf *payload) {
        struct cbor_writer w = CBOR_WRITER(payload);
        bool has_cnf = settings->kid.set || settings->req_cnf.set;
        size_t n_pairs = (size_t)has_cnf + settings->profile + settings->cnonce.set + (refresh_token.data ? 2 : 0);

        for (size_t i = 0; i < N_ELEMENTS(parameters); i++)
                n_pairs += parameter_value(settings, i)->set;
        cbor_put_map(&w, n_pairs);
        if (has_cnf)
                put_req_cnf(&w, settings);
        for (size_t i = 0; i < N_ELEMENTS(parameters); i++) {
                const struct value *value = parameter_value(settings, i);

                if (!value->set)
                        continue;
                cbor_put_uint(&w, (uint64_t)parameters[i].label);
                (value->is_text ? cbor_put_text : cbor_put_bytes)(&w, value_bytes(value));
        }
        if (refresh_token.data) {
                cbor_put_uint(&w, ACE_GRANT_TYPE);
                cbor_put_uint(&w, GRANT_REFRESH_TOKEN);
                cbor_put_uint(&w, ACE_REFRESH_TOKEN);
                cbor_put_bytes(&w, refresh_token);
        }
        if (settings->profile) {
                cbor_put_uint(&w, ACE_PROFILE);
                cbor_put_null(&w);
        }
        if (settings->cnonce.set) {
                cbor_put_uint(&w, ACE_CNONCE);
                cbor_put_bytes(&w, value_bytes(&settings->cnonce));
        }
        return cbor_end(&w);
}

static int post(const struct settings *settings, const char *path, struct bytes payload, enum vocabulary vocabulary) {
        _cleanup_(answer_wiped) struct talk_answer answer = TALK_ANSWER_INIT;
        const struct talk_ask ask = { .code = CODE_POST, .path = path, .payload = payload,
                                      .content_format = CF_ACE_CBOR, .accept = CF_NONE };
        int status = ask_once(settings, &ask, &answer);

        return status ?: show_answer(settings, &answer, vocabulary);
}

static int ask_for_token(const struct settings *settings, struct bytes refresh_token) {
        _cleanup_(buf_done) struct buf payload = BUF_INIT(TALK_BODY_MAX);

        if (settings->kid.set && settings->req_cnf.set)
                return fail(EXIT_USAGE, "--kid-hex and --req-cnf both say which key");
        if (token_request(settings, refresh_token, &payload) != 0)
                return out_of_memory();
        return post(settings, "token", buf_bytes(&payload), VOCABULARY_TOKEN);
}

int verb_token(const struct settings *settings, char *const *arguments) {
        return ask_for_token(settings, BYTES_NONE);
}

int verb_refresh(const struct settings *settings, char *const *arguments) {
        _cleanup_(buf_wiped) struct buf given = BUF_INIT(TALK_BODY_MAX);
        struct bytes token;
        int status = read_token(arguments[0], ACE_REFRESH_TOKEN, &given, &token);

        return status ?: ask_for_token(settings, token);
}

/* ---- /introspect and /revoke: both are asked with { 11: token } */

static int post_token(const struct settings *settings, const char *path, const char *argument, int label) {
        _cleanup_(buf_wiped) struct buf given = BUF_INIT(TALK_BODY_MAX), payload = BUF_INIT(TALK_BODY_MAX);
        struct cbor_writer w = CBOR_WRITER(&payload);
        struct bytes token;
        int status;

        if ((status = read_token(argument, label, &given, &token)) != 0)
                return status;
        cbor_put_map(&w, 1);
        cbor_put_uint(&w, INTRO_TOKEN);
        cbor_put_bytes(&w, token);
        if (cbor_end(&w) != 0)
                return fail(EXIT_USAGE, "a token has at most %d bytes", TALK_BODY_MAX);
        return post(settings, path, buf_bytes(&payload), VOCABULARY_INTROSPECT);
}

int verb_introspect(const struct settings *settings, char *const *arguments) {
        return post_token(settings, "introspect", arguments[0], ACE_ACCESS_TOKEN);
}

int verb_revoke(const struct settings *settings, char *const *arguments) {
        return post_token(settings, "revoke", arguments[0],
                          settings->refresh_token ? ACE_REFRESH_TOKEN : ACE_ACCESS_TOKEN);
}
