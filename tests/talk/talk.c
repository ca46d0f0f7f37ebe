/*
 * Conversations: scripts of requests and expected answers, run through the router with an in-memory database, a fake
 * clock and repeatable random numbers. README.md beside this file says how they are written. Prints TAP, a test each.
 *
 *     talk [--ids FILE] SCRIPT…
 *
 * --ids names the file of checklist ids that each need a script of their name; with it every refusal that the router
 * can be brought to must also have come up.
 */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/config.h"
#include "base/diag.h"
#include "base/log.h"
#include "endpoint/aced.h"
#include "endpoint/refusal.h"
#include "endpoint/router.h"
#include "format/cbor.h"
#include "format/coap.h"
#include "format/cose.h"
#include "format/cwt.h"
#include "store/as_keys.h"
#include "store/credentials.h"
#include "store/store.h"
#include "support/edn.h"
#include "support/fake.h"
#include "support/resource.h"
#include "door.h"

#define START_S 1700000000
#define STATEMENT_SIZE_MAX 16384
#define PEERS_MAX 16
#define WHY_SIZE 512

/* Refusals that no script can bring the router to, and who shows them instead. */
static const struct {
        enum refusal refusal;
        const char *shown_by;
} elsewhere[] = {
        { REFUSE_BAD_OPTION, "options are the transports' business: tests/unit/test_exchange" },
        { REFUSE_RATE, "given by the engine: tests/unit/test_engine" },
};

/* Who has spoken once is known by credential from then on, also when the store no longer lets it in. */
struct known_peer {
        char name[64];
        int64_t credential_id;
};

struct talk {
        const char *path; /* of the script, or the included one, being read */
        unsigned line;
        char failure[4096];
        char title[256];
        struct config *config;
        struct store *store;
        char *folder; /* "file": where the database is */
        struct aced as;
        struct peer peer;
        struct known_peer peers[PEERS_MAX];
        size_t n_peers;
        int64_t now_s;
        struct edn_captures captures;
        /* the last request and answer */
        struct work work;
        char request[STATEMENT_SIZE_MAX], expectation[STATEMENT_SIZE_MAX];
        char target[2048]; /* what the request's segments and queries point into */
        struct buf payload;
        bool unchecked;    /* answered, but nobody said yet how */
        bool *provoked;    /* per refusal, over all scripts */
};

static bool fail(struct talk *talk, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The first failure ends a script: what follows it would mostly be noise. Always false. */
static bool fail(struct talk *talk, const char *format, ...) {
        size_t n = (size_t)snprintf(talk->failure, sizeof(talk->failure), "%s:%u: ", talk->path, talk->line);
        va_list args;

        va_start(args, format);
        vsnprintf(talk->failure + n, sizeof(talk->failure) - n, format, args);
        va_end(args);
        return false;
}

/* ---- words */

/* The next word of *at, which is cut out and moved past; NULL at the end. */
static char *next_word(char **at) {
        char *word;

        *at += strspn(*at, " \t\n");
        if (!**at)
                return NULL;
        word = *at;
        *at += strcspn(*at, " \t\n");
        if (**at)
                *(*at)++ = '\0';
        return word;
}

static char *skip_space(char *at) {
        return at + strspn(at, " \t\n");
}

/* "cf=19" → "19" when word begins with "cf=" */
static const char *word_value(const char *word, const char *name) {
        size_t size = strlen(name);

        return strncmp(word, name, size) == 0 && word[size] == '=' ? word + size + 1 : NULL;
}

static bool captured(struct talk *talk, const char *name, struct bytes *ret_content) {
        if (name && edn_captured(&talk->captures, name, ret_content).data && ret_content->data)
                return true;
        return fail(talk, "no byte or text string was captured as \"%s\"", name ? name : "");
}

static bool capture_string(struct talk *talk, const char *name, struct bytes content, bool is_text) {
        _cleanup_(buf_done) struct buf item = BUF_INIT(4096);
        struct cbor_writer w = CBOR_WRITER(&item);

        if (is_text)
                cbor_put_text(&w, content);
        else
                cbor_put_bytes(&w, content);
        return (cbor_end(&w) == 0 && edn_capture(&talk->captures, name, buf_bytes(&item)) == 0) ||
                fail(talk, "cannot keep \"%s\"", name);
}

/* $name in a path or JSON text becomes the captured text, or the captured bytes in hexadecimal. */
static bool expand(struct talk *talk, const char *text, struct buf *out) {
        while (*text) {
                size_t plain = strcspn(text, "$"), n;
                char name[32], hex[512];
                struct bytes content;
                struct cbor_item item;

                if (buf_add(out, bytes_of(text, plain)) != 0)
                        return fail(talk, "statement too long");
                text += plain;
                if (!*text)
                        break;
                n = strspn(++text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
                if (n >= sizeof(name))
                        return fail(talk, "name too long");
                if (n == 0) { /* "${client}" is a policy's */
                        if (buf_add_byte(out, '$') != 0)
                                return fail(talk, "statement too long");
                        continue;
                }
                snprintf(name, sizeof(name), "%.*s", (int)n, text);
                text += n;
                if (!captured(talk, name, &content))
                        return false;
                if (cbor_item(edn_captured(&talk->captures, name, NULL), &item) == 0 && item.kind == CBOR_BYTES) {
                        if (content.size > sizeof(hex) / 2 - 1)
                                return fail(talk, "\"%s\" is too long to stand here", name);
                        bytes_to_hex(content, hex, sizeof(hex));
                        content = bytes_text(hex);
                }
                if (buf_add(out, content) != 0)
                        return fail(talk, "statement too long");
        }
        return buf_add_byte(out, 0) == 0 || fail(talk, "statement too long");
}

/* ---- requests */

static const struct {
        const char *word;
        enum method method;
} methods[] = {
        { "get", METHOD_GET },     { "post", METHOD_POST },   { "put", METHOD_PUT },       { "delete", METHOD_DELETE },
        { "fetch", METHOD_FETCH }, { "patch", METHOD_PATCH }, { "ipatch", METHOD_IPATCH },
};

/* "/a/b?c=d&e" → segments and queries, which point into talk->target */
static bool read_target(struct talk *talk, const char *word, struct request *request) {
        _cleanup_(buf_done) struct buf text = BUF_INIT(sizeof(talk->target));
        char *at, *query, *piece;

        if (!word || *word != '/')
                return fail(talk, "a path begins with /");
        if (!expand(talk, word, &text))
                return false;
        memcpy(talk->target, text.data, text.size);
        query = strchr(talk->target, '?');
        if (query)
                *query++ = '\0';
        at = talk->target[1] ? talk->target + 1 : NULL;
        while ((piece = strsep(&at, "/"))) {
                if (request->n_segments == PATH_SEGMENTS_MAX)
                        return fail(talk, "too many segments");
                request->segments[request->n_segments++] = bytes_text(piece);
        }
        while ((piece = strsep(&query, "&"))) {
                if (request->n_queries == QUERIES_MAX)
                        return fail(talk, "too many queries");
                request->queries[request->n_queries++] = bytes_text(piece);
        }
        return true;
}

static bool read_hex_payload(struct talk *talk, char *hex) {
        const char *digits = next_word(&hex);
        uint8_t *space;
        size_t size;

        if (!digits || buf_reserve(&talk->payload, strlen(digits) / 2 + 1, &space) != 0 ||
            bytes_from_hex(digits, space, strlen(digits) / 2 + 1, &size) != 0)
                return fail(talk, "\"%s\" is no hexadecimal", digits ? digits : "");
        buf_added(&talk->payload, size);
        return true;
}

/* After the options: JSON for cf=50, hex:…, zeros:N, else diagnostic notation. */
static bool read_payload(struct talk *talk, int content_format, char *text) {
        const char *at = NULL;

        buf_clear(&talk->payload);
        text = skip_space(text);
        if (!*text)
                return true;
        if (strncmp(text, "hex:", 4) == 0)
                return read_hex_payload(talk, text + 4);
        if (strncmp(text, "zeros:", 6) == 0) {
                size_t size = strtoul(text + 6, NULL, 10);
                uint8_t *space;

                if (buf_reserve(&talk->payload, size, &space) != 0)
                        return fail(talk, "payload too long");
                memset(space, 0, size);
                buf_added(&talk->payload, size);
                return true;
        }
        if (content_format == CF_JSON) {
                if (!expand(talk, text, &talk->payload))
                        return false;
                talk->payload.size--; /* expand() ends its text */
                return true;
        }
        if (edn_encode_with(text, &talk->captures, &talk->payload, &at) != 0)
                return fail(talk, "the payload is no diagnostic notation, at: %s", at ? at : text);
        return true;
}

/* METHOD PATH [cf=N] [accept=N] [PAYLOAD] */
static bool do_request(struct talk *talk, const char *verb, char *rest, const struct peer *peer, int content_format) {
        struct request request = { .content_format = content_format, .accept = CF_NONE, .peer = peer,
                                   .now_s = talk->now_s };
        const char *value;

        for (size_t i = 0; i < N_ELEMENTS(methods); i++)
                if (strcasecmp(methods[i].word, verb) == 0)
                        request.method = methods[i].method;
        if (!read_target(talk, next_word(&rest), &request))
                return false;
        for (rest = skip_space(rest); strncmp(rest, "cf=", 3) == 0 || strncmp(rest, "accept=", 7) == 0;
             rest = skip_space(rest)) {
                char *word = next_word(&rest);

                if ((value = word_value(word, "cf")))
                        request.content_format = strcmp(value, "none") == 0 ? CF_NONE : atoi(value);
                else if ((value = word_value(word, "accept")))
                        request.accept = atoi(value);
        }
        if (!read_payload(talk, request.content_format, rest))
                return false;
        request.payload = buf_bytes(&talk->payload);

        response_done(&talk->work.response);
        talk->work = (struct work){ .request = request };
        response_init(&talk->work.response);
        router_batch(&talk->as, &(struct work *){ &talk->work }, 1);
        if (talk->work.response.refusal > 0)
                talk->provoked[talk->work.response.refusal] = true;
        talk->unchecked = true;
        return true;
}

static bool is_method(const char *word) {
        for (size_t i = 0; i < N_ELEMENTS(methods); i++)
                if (strcmp(methods[i].word, word) == 0)
                        return true;
        return false;
}

static bool cmd_request(struct talk *talk, const char *verb, char *rest) {
        snprintf(talk->request, sizeof(talk->request), "%s %s", verb, rest);
        return do_request(talk, verb, rest, &talk->peer, CF_NONE);
}

/* admin METHOD PATH [JSON]: one request by an administrator at the control socket, whoever speaks otherwise */
static bool cmd_admin(struct talk *talk, const char *verb, char *rest) {
        static const struct peer local = { .channel = CHANNEL_LOCAL, .name = "uid 0" };
        char *method;

        snprintf(talk->request, sizeof(talk->request), "%s %s", verb, rest);
        method = next_word(&rest);
        if (!method)
                return fail(talk, "admin METHOD PATH [JSON]");
        return do_request(talk, method, rest, &local, CF_JSON);
}

/* ---- expectations */

/*
 * Does value have what pattern has? Objects: every member of the pattern; arrays: item by item. The text "*" is
 * anything, "=name" anything that is kept under name (text, or a number as text), "$name" the text that was kept.
 */
static bool json_matches(struct talk *talk, const json_t *pattern, const json_t *value, const char *where) {
        const char *text = json_string_value(pattern);
        struct bytes kept;
        char number[32];
        const char *key;
        json_t *member;
        size_t i;

        if (!value)
                return fail(talk, "there is no \"%s\" in the answer", where);
        if (text && strcmp(text, "*") == 0)
                return true;
        if (text && text[0] == '=') {
                snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(value));
                return capture_string(talk, text + 1,
                                      bytes_text(json_is_string(value) ? json_string_value(value) : number), true);
        }
        if (text && text[0] == '$')
                return captured(talk, text + 1, &kept) &&
                        ((json_is_string(value) && bytes_equal(kept, bytes_text(json_string_value(value)))) ||
                         fail(talk, "\"%s\" is not what was kept as %s", where, text));
        if (json_is_object(pattern) && json_is_object(value)) {
                json_object_foreach((json_t *)pattern, key, member)
                        if (!json_matches(talk, member, json_object_get(value, key), key))
                                return false;
                return true;
        }
        if (json_is_array(pattern) && json_array_size(pattern) == json_array_size(value) && json_is_array(value)) {
                json_array_foreach((json_t *)pattern, i, member)
                        if (!json_matches(talk, member, json_array_get(value, i), where))
                                return false;
                return true;
        }
        return json_equal(pattern, value) || fail(talk, "\"%s\" is another", where);
}

static bool check_json(struct talk *talk, const char *text) {
        struct bytes payload = buf_bytes(&talk->work.response.payload);
        json_t *pattern = json_loads(text, JSON_DECODE_ANY, NULL);
        json_t *value = json_loadb((const char *)payload.data, payload.size, JSON_DECODE_ANY, NULL);
        bool ok;

        if (!pattern)
                ok = fail(talk, "the pattern is no JSON: %s", text);
        else if (!value)
                ok = fail(talk, "the answer is no JSON: %.*s", (int)payload.size, payload.data);
        else
                ok = json_matches(talk, pattern, value, "answer");
        json_decref(pattern);
        json_decref(value);
        return ok;
}

static bool check_cbor(struct talk *talk, const char *pattern, struct bytes item) {
        _cleanup_(buf_done) struct buf text = BUF_INIT(65536);
        char why[WHY_SIZE];

        if (edn_match(pattern, item, &talk->captures, why, sizeof(why)) == 0)
                return true;
        if (cbor_print(item, &text) != 0)
                buf_clear(&text);
        return fail(talk, "%s; got %.*s", why, (int)text.size, text.data ? (const char *)text.data : "");
}

static bool check_payload(struct talk *talk, char *pattern) {
        const struct response *response = &talk->work.response;
        struct bytes payload = buf_bytes(&response->payload);

        pattern = skip_space(pattern);
        for (size_t n = strlen(pattern); n > 0 && isspace((unsigned char)pattern[n - 1]); n--)
                pattern[n - 1] = '\0';
        if (!*pattern)
                return true;
        if (strcmp(pattern, "empty") == 0)
                return (payload.size == 0 && response->content_format == CF_NONE) ||
                        fail(talk, "%zu bytes where none were expected", payload.size);
        if (response->content_format == CF_JSON)
                return check_json(talk, pattern);
        if (response->content_format == CF_ACE_CBOR || response->content_format == CF_ACE_TRL ||
            response->content_format == CF_PROBLEM)
                return check_cbor(talk, pattern, payload);
        return bytes_equal(payload, bytes_text(pattern)) ||
                fail(talk, "the answer is: %.*s", (int)payload.size, (const char *)payload.data);
}

static bool check_number(struct talk *talk, const char *what, const char *expected, int64_t is) {
        int64_t n = strcmp(expected, "none") == 0 ? -1 : strtoll(expected, NULL, 10);

        return n == is || fail(talk, "%s is %lld", what, (long long)is);
}

/* One word of an expectation, or false with *ret_mine unset when it belongs to the payload already. */
static bool check_word(struct talk *talk, const char *word, bool *ret_mine) {
        const struct response *response = &talk->work.response;
        const char *value;

        *ret_mine = true;
        if ((value = word_value(word, "cf")))
                return check_number(talk, "Content-Format", value, response->content_format);
        if ((value = word_value(word, "maxage<")))
                return (response->max_age_s >= 0 && response->max_age_s <= strtoll(value, NULL, 10)) ||
                        fail(talk, "Max-Age is %lld", (long long)response->max_age_s);
        if ((value = word_value(word, "maxage")))
                return check_number(talk, "Max-Age", value, response->max_age_s);
        if ((value = word_value(word, "size<")))
                return response->payload.size <= strtoul(value, NULL, 10) ||
                        fail(talk, "the payload has %zu bytes", response->payload.size);
        if ((value = word_value(word, "refusal")))
                return response->refusal > 0 ? strcmp(refusal_row(response->refusal)->name, value) == 0 ||
                                       fail(talk, "refused: %s", refusal_row(response->refusal)->name)
                                             : fail(talk, "not refused");
        *ret_mine = false;
        return true;
}

/* => CODE [cf=N] [maxage=N] [maxage<=N] [size<=N] [refusal=NAME] [PATTERN] */
static bool check_answer(struct talk *talk, char *rest) {
        const struct response *response = &talk->work.response;
        char code[5], *word;
        bool mine = true;

        coap_code_text(response->code, code);
        word = next_word(&rest);
        if (!word || strcmp(word, code) != 0)
                return fail(talk, "answered %s%s%s %s", code, response->refusal ? ", refused: " : "",
                            response->refusal ? refusal_row(response->refusal)->name : "", response->why);
        while (mine) {
                char *at = skip_space(rest), *end = at + strcspn(at, " \t\n"), save = *end;

                if (!*at || *at == '{')
                        break;
                *end = '\0';
                if (!check_word(talk, at, &mine))
                        return false;
                *end = save;
                if (mine)
                        rest = end;
        }
        return check_payload(talk, rest);
}

static bool cmd_expect(struct talk *talk, const char *verb, char *rest) {
        snprintf(talk->expectation, sizeof(talk->expectation), "%s", rest);
        if (!talk->unchecked)
                return fail(talk, "there was no request before this");
        talk->unchecked = false;
        return check_answer(talk, rest);
}

static int compare_strings(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool repeat_once(struct talk *talk, const char *name, char **ret_hex) {
        char request[STATEMENT_SIZE_MAX], expectation[STATEMENT_SIZE_MAX], *rest = request;
        struct bytes content;
        const char *verb;

        memcpy(request, talk->request, sizeof(request));
        memcpy(expectation, talk->expectation, sizeof(expectation));
        verb = next_word(&rest);
        if (!do_request(talk, verb, rest, &talk->peer, CF_NONE) || !check_answer(talk, expectation) ||
            !captured(talk, name, &content))
                return false;
        talk->unchecked = false;
        *ret_hex = malloc(2 * content.size + 1);
        if (!*ret_hex)
                return fail(talk, "out of memory");
        bytes_to_hex(content, *ret_hex, 2 * content.size + 1);
        return true;
}

/* distinct N NAME: the last request N times more, answered as expected; what NAME captures is never the same twice */
static bool cmd_distinct(struct talk *talk, const char *verb, char *rest) {
        const char *count = next_word(&rest), *name = next_word(&rest);
        size_t n = count ? strtoul(count, NULL, 10) : 0, done = 0;
        bool ok = true;

        if (n < 2 || n > 100000 || !name)
                return fail(talk, "distinct N NAME, N from 2 on");
        char **values = calloc(n, sizeof(*values));

        if (!values)
                return fail(talk, "out of memory");
        while (ok && done < n)
                if ((ok = repeat_once(talk, name, &values[done])))
                        done++;
        qsort(values, done, sizeof(*values), compare_strings);
        for (size_t i = 1; ok && i < done; i++)
                if (strcmp(values[i - 1], values[i]) == 0)
                        ok = fail(talk, "%s came twice: %s", name, values[i]);
        while (done > 0)
                free(values[--done]);
        free(values);
        return ok;
}

/* ---- the world */

/* clock +3600, clock 1700000000 */
static bool cmd_clock(struct talk *talk, const char *verb, char *rest) {
        const char *word = next_word(&rest);

        if (!word)
                return fail(talk, "clock +SECONDS or clock TIME");
        talk->now_s = (*word == '+' || *word == '-' ? talk->now_s : 0) + strtoll(word, NULL, 10);
        fake_clock_set(talk->now_s, 1000000);
        return true;
}

static struct known_peer *find_peer(struct talk *talk, const char *name) {
        for (size_t i = 0; i < talk->n_peers; i++)
                if (strcmp(talk->peers[i].name, name) == 0)
                        return &talk->peers[i];
        return NULL;
}

/* The door would let it in: its credential, which it keeps for the rest of the script. */
static bool meet_peer(struct talk *talk, const char *identity) {
        _cleanup_(secret_done) struct secret psk = {};
        struct credential credential;

        if (store_psk_find(talk->store, bytes_text(identity), &credential, &psk) != 0)
                return fail(talk, "the door does not let \"%s\" in", identity);
        if (talk->n_peers == PEERS_MAX)
                return fail(talk, "too many peers");
        snprintf(talk->peers[talk->n_peers].name, sizeof(talk->peers[0].name), "%s", identity);
        talk->peers[talk->n_peers++].credential_id = credential.id;
        return true;
}

/* as key NAME: over DTLS set up with the captured COSE_Key as raw public key */
static bool be_key(struct talk *talk, const char *name) {
        struct bytes item = edn_captured(&talk->captures, name ? name : "", NULL);
        struct credential credential;
        struct cose_key key;

        if (!item.data || cose_key_decode(item, &key) != 0 || key.public_key.curve == CURVE_NONE || key.is_bad ||
            public_key_thumbprint(&key.public_key, talk->peer.thumbprint) != 0)
                return fail(talk, "no good public key was captured as \"%s\"", name ? name : "");
        if (store_rpk_find(talk->store, talk->peer.thumbprint, &credential) != 0)
                return fail(talk, "the door does not let the key \"%s\" in", name);
        talk->peer.kind = CREDENTIAL_RPK;
        talk->peer.credential_id = credential.id;
        talk->peer.has_key = true;
        return true;
}

/* as IDENTITY: over DTLS; as anonymous: plain coap; as nobody: DTLS without a credential; as local */
static bool cmd_as(struct talk *talk, const char *verb, char *rest) {
        const char *name = next_word(&rest), *channel = name ? next_word(&rest) : NULL;

        if (!name)
                return fail(talk, "as whom?");
        talk->peer = (struct peer){ .channel = CHANNEL_DTLS };
        snprintf(talk->peer.name, sizeof(talk->peer.name), "%s", name);
        if (strcmp(name, "key") == 0)
                return be_key(talk, channel);
        if (strcmp(name, "anonymous") == 0)
                talk->peer.channel = CHANNEL_PLAIN;
        else if (strcmp(name, "local") == 0)
                talk->peer.channel = CHANNEL_LOCAL;
        else if (strcmp(name, "nobody") != 0) {
                if (!find_peer(talk, name) && !meet_peer(talk, name))
                        return false;
                talk->peer.kind = CREDENTIAL_PSK;
                talk->peer.credential_id = find_peer(talk, name)->credential_id;
                talk->peer.channel = channel && strcmp(channel, "oscore") == 0 ? CHANNEL_OSCORE : CHANNEL_DTLS;
        }
        return true;
}

/* shut IDENTITY: the door does not let it in (any more) */
static bool cmd_shut(struct talk *talk, const char *verb, char *rest) {
        _cleanup_(secret_done) struct secret psk = {};
        const char *name = next_word(&rest);
        struct credential credential;

        if (!name)
                return fail(talk, "shut for whom?");
        return store_psk_find(talk->store, bytes_text(name), &credential, &psk) > 0 ||
                fail(talk, "the door lets \"%s\" in", name);
}

static bool cmd_config(struct talk *talk, const char *verb, char *rest) {
        const char *name = next_word(&rest), *value = next_word(&rest);
        const struct {
                const char *name;
                int64_t *at;
        } settings[] = {
                { "default_lifetime_s", &talk->config->default_lifetime_s },
                { "max_lifetime_s", &talk->config->max_lifetime_s },
                { "payload_max", &talk->config->payload_max },
                { "control_body_max", &talk->config->control_body_max },
                { "tokens_per_client_max", &talk->config->tokens_per_client_max },
                { "server_request_rate", &talk->config->server_request_rate },
                { "server_request_burst", &talk->config->server_request_burst },
        };

        if (name && value && strcmp(name, "new_key_for_unknown_kid") == 0) {
                talk->config->unknown_kid_makes_key = strcmp(value, "yes") == 0;
                return true;
        }
        for (size_t i = 0; name && value && i < N_ELEMENTS(settings); i++)
                if (strcmp(settings[i].name, name) == 0) {
                        *settings[i].at = strtoll(value, NULL, 10);
                        return true;
                }
        return fail(talk, "config NAME NUMBER: no such setting here");
}

/* rows clients|servers|policies|tokens N */
static bool cmd_rows(struct talk *talk, const char *verb, char *rest) {
        const char *table = next_word(&rest), *count = next_word(&rest);
        struct store_status status;
        int r;

        if (!table || !count)
                return fail(talk, "rows TABLE N");
        if ((r = store_begin(talk->store)) != 0 || (r = store_status(talk->store, &status)) != 0)
                return fail(talk, "cannot count rows: %s", strerror(-r));
        store_rollback(talk->store);
        const struct {
                const char *name;
                int64_t n;
        } tables[] = { { "clients", status.n_clients }, { "servers", status.n_servers },
                       { "policies", status.n_policies }, { "tokens", status.n_tokens } };

        for (size_t i = 0; i < N_ELEMENTS(tables); i++)
                if (strcmp(tables[i].name, table) == 0)
                        return check_number(talk, table, count, tables[i].n);
        return fail(talk, "no table \"%s\"", table);
}

static bool open_store(struct talk *talk) {
        static const uint8_t seal_key[32] = "a sealing key for conversations";
        _cleanup_(diags_done) struct diags diags = {};
        char path[4096];
        int r;

        snprintf(path, sizeof(path), "%s/talk.db", talk->folder ? talk->folder : "");
        r = store_open(&(struct store_options){ .path = talk->folder ? path : NULL, .seal_key = { seal_key, 32 } },
                       &talk->store, &diags);
        talk->as.store = talk->store;
        return r == 0 ||
                fail(talk, "cannot open the store: %s %s", strerror(-r), diags.n_items ? diags.items[0].text : "");
}

/* file: the database is a file from here on, and empty again */
static bool cmd_file(struct talk *talk, const char *verb, char *rest) {
        const char *tmp = getenv("TMPDIR");
        char folder[4096];

        snprintf(folder, sizeof(folder), "%s/aced-talk-XXXXXX", tmp ? tmp : "/tmp");
        if (talk->folder || !mkdtemp(folder))
                return fail(talk, "no folder for the database: %s", strerror(errno));
        talk->folder = strdup(folder);
        signers_done(&talk->as.signers);
        store_free(talk->store);
        talk->store = NULL;
        talk->n_peers = 0;
        return open_store(talk);
}

/* reopen: a restart as far as the store is concerned */
static bool cmd_reopen(struct talk *talk, const char *verb, char *rest) {
        if (!talk->folder)
                return fail(talk, "reopen needs \"file\" before");
        signers_done(&talk->as.signers);
        store_free(talk->store);
        talk->store = NULL;
        return open_store(talk);
}

/* ---- tokens and captures */

/* token NAME SERVER PATTERN: what the server reads with its keys and ours; token NAME SERVER unreadable */
static bool cmd_token(struct talk *talk, const char *verb, char *rest) {
        _cleanup_(buf_done) struct buf claims = BUF_INIT(4096);
        const char *name = next_word(&rest), *server = next_word(&rest);
        struct bytes token;
        int r;

        if (!captured(talk, name, &token) || !server)
                return false;
        r = resource_open(talk->store, server, token, &claims);
        rest = skip_space(rest);
        if (strncmp(rest, "unreadable", 10) == 0)
                return r > 0 || fail(talk, "the token opens under %s's keys (%d)", server, r);
        if (r != 0)
                return fail(talk, "the token does not open under %s's keys (%d)", server, r);
        return *rest ? check_cbor(talk, rest, buf_bytes(&claims)) : fail(talk, "token NAME SERVER PATTERN");
}

/* unwrap NAME SERVER PATTERN: the captured Encrypted_COSE_Key opens under the server's key, and this is in it */
static bool cmd_unwrap(struct talk *talk, const char *verb, char *rest) {
        const char *name = next_word(&rest), *server = next_word(&rest);
        struct bytes item = edn_captured(&talk->captures, name ? name : "", NULL);
        _cleanup_(buf_done) struct buf key = BUF_INIT(4096);
        int r;

        if (!item.data || !server)
                return fail(talk, "unwrap NAME SERVER PATTERN");
        r = resource_unwrap(talk->store, server, item, &key);
        return r == 0 ? check_cbor(talk, rest, buf_bytes(&key)) :
                        fail(talk, "the key does not open under %s's key (%d)", server, r);
}

/* derive NAME SERVER TOKEN: the key that the server computes from the captured token, captured as NAME */
static bool cmd_derive(struct talk *talk, const char *verb, char *rest) {
        const char *name = next_word(&rest), *server = next_word(&rest), *from = next_word(&rest);
        _cleanup_(secret_done) struct secret key = {};
        struct bytes token;
        int r;

        if (!captured(talk, from, &token))
                return false;
        r = resource_derive(talk->store, server, token, talk->now_s, &key);
        return r == 0 ? capture_string(talk, name, secret_bytes(&key), false) :
                        fail(talk, "%s has no key to derive from (%d)", server, r);
}

/* keys: the server's own keys are made, as acectl init does */
static bool cmd_keys(struct talk *talk, const char *verb, char *rest) {
        unsigned n;
        int r;

        if ((r = store_begin(talk->store)) != 0 ||
            (r = store_as_keys_ensure(talk->store, bytes_text(talk->config->issuer), talk->now_s, &n)) != 0 ||
            (r = store_commit(talk->store)) != 0)
                return fail(talk, "cannot make the server's keys (%d)", r);
        return true;
}

/* match NAME PATTERN: what was captured, as an item */
static bool cmd_match(struct talk *talk, const char *verb, char *rest) {
        const char *name = next_word(&rest);
        struct bytes item = edn_captured(&talk->captures, name ? name : "", NULL);
        struct buf copy = BUF_INIT(4096);
        bool ok;

        if (!item.data || !*skip_space(rest) || buf_add(&copy, item) != 0)
                return fail(talk, "match NAME PATTERN");
        ok = check_cbor(talk, rest, buf_bytes(&copy)); /* a copy: the pattern may capture over it */
        buf_done(&copy);
        return ok;
}

/* same A B, differ A B, absent A B (A's bytes are nowhere in B's) */
static bool cmd_compare(struct talk *talk, const char *verb, char *rest) {
        const char *first = next_word(&rest), *second = next_word(&rest);
        struct bytes a, b;
        bool ok;

        if (!captured(talk, first, &a) || !captured(talk, second, &b))
                return false;
        if (strcmp(verb, "absent") == 0)
                ok = a.size > 0 && !bytes_find(b, a);
        else
                ok = bytes_equal(a, b) == (strcmp(verb, "same") == 0);
        return ok || fail(talk, "not so: %s %s %s", verb, first, second);
}

/* The bytes of a token in another form. */
static bool make_variant(struct talk *talk, const char *name, const char *how, char *rest) {
        const char *from = next_word(&rest), *number = next_word(&rest);
        struct bytes content;
        uint8_t bytes[4096];
        size_t n;

        if (!captured(talk, from, &content))
                return false;
        if (strcmp(how, "strip") == 0)
                content = cwt_core(content);
        if (content.size + 3 > sizeof(bytes))
                return fail(talk, "too long");
        n = strcmp(how, "wrap") == 0 ? 3 : 0;
        memcpy(bytes, "\xd8\x3d\xd0", n);
        memcpy(bytes + n, content.data, content.size);
        content = bytes_of(bytes, content.size + n);
        if (strcmp(how, "flip") == 0) {
                n = number ? strtoul(number, NULL, 10) : SIZE_MAX;
                if (n >= 8 * content.size)
                        return fail(talk, "no such bit");
                bytes[n / 8] ^= (uint8_t)(0x80 >> n % 8);
        }
        return capture_string(talk, name, content, false);
}

/* let NAME = ITEM; let NAME strip TOKEN (tags off); let NAME wrap TOKEN (tags 61 and 16 on); let NAME flip TOKEN BIT */
static bool cmd_let(struct talk *talk, const char *verb, char *rest) {
        const char *name = next_word(&rest), *how = next_word(&rest), *at = NULL;
        _cleanup_(buf_done) struct buf item = BUF_INIT(4096);

        if (!name || !how)
                return fail(talk, "let NAME = ITEM");
        if (strcmp(how, "strip") == 0 || strcmp(how, "flip") == 0 || strcmp(how, "wrap") == 0)
                return make_variant(talk, name, how, rest);
        if (strcmp(how, "=") != 0 || edn_encode_with(rest, &talk->captures, &item, &at) != 0)
                return fail(talk, "no diagnostic notation, at: %s", at ? at : rest);
        return edn_capture(&talk->captures, name, buf_bytes(&item)) == 0 || fail(talk, "cannot keep \"%s\"", name);
}

/* ---- scripts */

/* The priority string of a client with this suite and, if given, this group alone. */
static void write_priority(bool by_psk, const char *suite, const char *group, char *text, size_t size) {
        snprintf(text, size, "NONE:+VERS-DTLS1.2:+MAC-ALL:+SIGN-ALL:+COMP-NULL:+%s:+%s:%s%s",
                 !by_psk ? "ECDHE-ECDSA" : group ? "ECDHE-PSK" : "PSK", suite, group ? "+GROUP-" : "+GROUP-ALL",
                 group ? group : "");
}

/* "X", or "X Y" up to the word gives */
static const char *next_option(char **rest) {
        char *word = next_word(rest);

        return word && strcmp(word, "gives") != 0 ? word : NULL;
}

static bool check_door(struct talk *talk, const struct dtls_client_options *options, char *expected) {
        char result[DOOR_RESULT_SIZE];
        size_t size = strcspn(expected = skip_space(expected), "\n");
        int r = door_handshake(&talk->as, talk->now_s, options, result);

        if (r != 0)
                return fail(talk, "no handshake came about (%d)", r);
        return (strlen(result) == size && strncmp(result, expected, size) == 0) ||
                fail(talk, "the door gives \"%s\"", result);
}

/*
 * handshake psk IDENTITY|hex:HEX KEY-HEX SUITE [GROUP] gives CIPHER [GROUP] | alert NUMBER
 * handshake rpk CURVE PRIVATE-KEY-HEX SUITE [GROUP] gives …
 */
static bool cmd_handshake(struct talk *talk, const char *verb, char *rest) {
        const char *kind = next_word(&rest), *name = next_word(&rest), *hex = next_word(&rest);
        const char *suite = next_word(&rest), *group = next_option(&rest);
        bool by_psk = kind && strcmp(kind, "psk") == 0;
        _cleanup_(buf_done) struct buf pkcs8 = BUF_INIT(512);
        char priority[256];
        struct dtls_client_options options = { .priority = priority };
        uint8_t key[SECRET_SIZE_MAX], spki[SPKI_SIZE_MAX], identity[512];
        struct public_key public_key;
        size_t key_size, spki_size, identity_size;

        if (!suite || bytes_from_hex(hex, key, sizeof(key), &key_size) != 0)
                return fail(talk, "handshake psk|rpk WHO KEY-HEX SUITE [GROUP] gives WHAT");
        write_priority(by_psk, suite, group, priority, sizeof(priority));
        if (by_psk) {
                options.identity = bytes_text(name);
                if (strncmp(name, "hex:", 4) == 0) {
                        if (bytes_from_hex(name + 4, identity, sizeof(identity), &identity_size) != 0)
                                return fail(talk, "%s is no identity", name);
                        options.identity = bytes_of(identity, identity_size);
                }
                options.key = bytes_of(key, key_size);
        } else {
                enum curve curve = curve_from_name(name);

                if (key_public(curve, bytes_of(key, key_size), &public_key) != 0 ||
                    public_key_spki(&public_key, spki, &spki_size) != 0 ||
                    key_pkcs8(curve, bytes_of(key, key_size), &pkcs8) != 0)
                        return fail(talk, "no key of %s", name);
                options.pkcs8 = buf_bytes(&pkcs8);
                options.spki = bytes_of(spki, spki_size);
        }
        if (group && (!(group = next_word(&rest)) || strcmp(group, "gives") != 0))
                return fail(talk, "handshake … gives WHAT");
        return check_door(talk, &options, rest);
}

/* burst IDENTITY KEY-HEX N limited M PATH PAYLOAD */
static bool cmd_burst(struct talk *talk, const char *verb, char *rest) {
        const char *name = next_word(&rest), *hex = next_word(&rest), *n = next_word(&rest), *word = next_word(&rest);
        const char *limited = next_word(&rest), *path = next_word(&rest);
        uint8_t key[SECRET_SIZE_MAX];
        struct dtls_client_options options = { .identity = bytes_text(name) };
        struct door_burst burst;
        size_t key_size;
        int r;

        if (!path || strcmp(word, "limited") != 0 || bytes_from_hex(hex, key, sizeof(key), &key_size) != 0)
                return fail(talk, "burst IDENTITY KEY-HEX N limited M PATH PAYLOAD");
        if (!read_payload(talk, CF_ACE_CBOR, rest))
                return false;
        options.key = bytes_of(key, key_size);
        r = door_burst(&talk->as, talk->now_s, &options, path, buf_bytes(&talk->payload),
                       (unsigned)strtoul(n, NULL, 10), &burst);
        if (r != 0)
                return fail(talk, "the burst did not come about (%d)", r);
        return burst.n_limited == strtoul(limited, NULL, 10) ||
                fail(talk, "%u were answered 4.29, %u with success", burst.n_limited, burst.n_success);
}

static bool cmd_title(struct talk *talk, const char *verb, char *rest) {
        snprintf(talk->title, sizeof(talk->title), "%s", rest);
        talk->title[strcspn(talk->title, "\n")] = '\0';
        return true;
}

static bool cmd_include(struct talk *talk, const char *verb, char *rest);

static const struct {
        const char *verb;
        bool (*run)(struct talk *talk, const char *verb, char *rest);
} commands[] = {
        { "title", cmd_title },   { "include", cmd_include }, { "clock", cmd_clock },       { "as", cmd_as },
        { "shut", cmd_shut },     { "config", cmd_config },   { "rows", cmd_rows },         { "file", cmd_file },
        { "reopen", cmd_reopen }, { "admin", cmd_admin },     { "=>", cmd_expect },         { "token", cmd_token },
        { "match", cmd_match },   { "same", cmd_compare },    { "differ", cmd_compare },    { "absent", cmd_compare },
        { "let", cmd_let },       { "distinct", cmd_distinct }, { "unwrap", cmd_unwrap },   { "derive", cmd_derive },
        { "keys", cmd_keys },     { "handshake", cmd_handshake }, { "burst", cmd_burst },
};

static bool run_statement(struct talk *talk, char *statement) {
        const char *verb = next_word(&statement);

        if (talk->unchecked && strcmp(verb, "=>") != 0)
                return fail(talk, "the request before this has no expectation");
        if (is_method(verb))
                return cmd_request(talk, verb, statement);
        for (size_t i = 0; i < N_ELEMENTS(commands); i++)
                if (strcmp(commands[i].verb, verb) == 0)
                        return commands[i].run(talk, verb, statement);
        return fail(talk, "\"%s\" is no statement", verb);
}

static bool starts_statement(const char *line) {
        return !isspace((unsigned char)line[0]) || strncmp(line + strspn(line, " \t"), "=>", 2) == 0;
}

/* A statement goes on in lines that begin with white space, but for those that begin with =>. */
static bool run_lines(struct talk *talk, FILE *file) {
        char statement[STATEMENT_SIZE_MAX] = "", copy[STATEMENT_SIZE_MAX];
        _cleanup_(freep) char *line = NULL;
        size_t size = 0, n = 0;
        unsigned at = 0, start = 0;

        for (;;) {
                bool end = getline(&line, &size, file) < 0;
                bool blank = !end && (line[strspn(line, " \t\n")] == '\0' || line[0] == '#');

                at++;
                if ((end || (!blank && starts_statement(line))) && n > 0) {
                        memcpy(copy, statement, n + 1);
                        talk->line = start;
                        n = 0;
                        if (!run_statement(talk, copy))
                                return false;
                }
                if (end)
                        break;
                if (blank)
                        continue;
                if (n == 0)
                        start = at;
                if (n + strlen(line) >= sizeof(statement)) {
                        talk->line = at;
                        return fail(talk, "statement too long");
                }
                n += (size_t)snprintf(statement + n, sizeof(statement) - n, "%s", line);
        }
        return !talk->unchecked || fail(talk, "the last request has no expectation");
}

static bool run_file(struct talk *talk, const char *path) {
        const char *outer = talk->path;
        unsigned outer_line = talk->line;
        FILE *file = fopen(path, "re");
        bool ok;

        if (!file)
                return fail(talk, "cannot open %s: %s", path, strerror(errno));
        talk->path = path;
        ok = run_lines(talk, file);
        fclose(file);
        if (ok) {
                talk->path = outer;
                talk->line = outer_line;
        }
        return ok;
}

/* include FILE: from the folder of the script */
static bool cmd_include(struct talk *talk, const char *verb, char *rest) {
        const char *name = next_word(&rest), *slash = strrchr(talk->path, '/');
        char path[4096];

        if (!name)
                return fail(talk, "include what?");
        snprintf(path, sizeof(path), "%.*s%s", slash ? (int)(slash - talk->path) + 1 : 0, talk->path, name);
        return strcmp(path, talk->path) != 0 ? run_file(talk, path) : fail(talk, "a script cannot include itself");
}

static void talk_done(struct talk *talk) {
        char path[4200];

        response_done(&talk->work.response);
        buf_done(&talk->payload);
        signers_done(&talk->as.signers);
        store_free(talk->store);
        config_free(talk->config);
        for (size_t i = 0; talk->folder && i < 3; i++) {
                snprintf(path, sizeof(path), "%s/talk.db%s", talk->folder, (const char *[]){ "", "-wal", "-shm" }[i]);
                (void)unlink(path);
        }
        if (talk->folder)
                (void)rmdir(talk->folder);
        free(talk->folder);
}

static bool talk_run(struct talk *talk, const char *path) {
        _cleanup_(diags_done) struct diags diags = {};

        talk->path = path;
        talk->now_s = START_S;
        talk->payload = BUF_INIT(1024 * 1024);
        response_init(&talk->work.response);
        fake_clock_set(START_S, 1000000);
        fake_random_seed(1);
        if (config_load(NULL, &talk->config, &diags) != 0)
                return fail(talk, "no default configuration");
        talk->as = (struct aced){ .config = talk->config, .decision_stamp = 1, .started_s = START_S };
        return open_store(talk) && run_file(talk, path);
}

static bool test_script(unsigned number, const char *path, bool *provoked) {
        struct talk *talk = calloc(1, sizeof(*talk));
        const char *slash = strrchr(path, '/');
        const char *name = slash ? slash + 1 : path;
        bool ok;

        if (!talk)
                abort();
        talk->provoked = provoked;
        ok = talk_run(talk, path);
        printf("%sok %u - %.*s %s\n", ok ? "" : "not ", number, (int)strcspn(name, "."), name, talk->title);
        if (!ok)
                printf("# %s\n", talk->failure);
        fflush(stdout);
        talk_done(talk);
        free(talk);
        return ok;
}

/* Each id of the file has a script named after it. */
static bool test_ids(unsigned number, const char *ids, char *const *paths, size_t n_paths) {
        FILE *file = fopen(ids, "re");
        char id[64], name[80];
        unsigned n_ids = 0;
        bool ok = file;

        while (file && fscanf(file, "%63s", id) == 1) {
                bool found = false;

                n_ids++;
                snprintf(name, sizeof(name), "%s.talk", id);
                for (size_t i = 0; i < n_paths && !found; i++) {
                        const char *slash = strrchr(paths[i], '/');

                        found = strcmp(slash ? slash + 1 : paths[i], name) == 0;
                }
                if (!found)
                        printf("# no script for %s\n", id);
                ok = ok && found;
        }
        if (file)
                fclose(file);
        ok = ok && n_ids > 0;
        printf("%sok %u - every id of the checklist has a script (%u ids)\n", ok ? "" : "not ", number, n_ids);
        return ok;
}

static bool is_elsewhere(enum refusal refusal) {
        for (size_t i = 0; i < N_ELEMENTS(elsewhere); i++)
                if (elsewhere[i].refusal == refusal)
                        return true;
        return false;
}

static bool test_provoked(unsigned number, const bool *provoked) {
        bool ok = true;

        for (int refusal = REFUSE_NONE + 1; refusal < REFUSALS; refusal++)
                if (!provoked[refusal] && !is_elsewhere(refusal)) {
                        printf("# no script is refused: %s\n", refusal_row(refusal)->name);
                        ok = false;
                }
        printf("%sok %u - every row of the refusal table has come up\n", ok ? "" : "not ", number);
        return ok;
}

int main(int argc, char **argv) {
        bool with_ids = argc > 2 && strcmp(argv[1], "--ids") == 0, ok = true;
        char *const *paths = argv + (with_ids ? 3 : 1);
        size_t n_paths = (size_t)(argc - (with_ids ? 3 : 1));
        bool provoked[REFUSALS] = {};
        unsigned number = 0;

        if (n_paths == 0) {
                fprintf(stderr, "usage: talk [--ids FILE] SCRIPT...\n");
                return 2;
        }
        log_set_level(LOG_LEVEL_ERROR);
        printf("1..%zu\n", n_paths + (with_ids ? 2 : 0));
        for (size_t i = 0; i < n_paths; i++)
                ok = test_script(++number, paths[i], provoked) && ok;
        if (with_ids) {
                ok = test_ids(++number, argv[2], paths, n_paths) && ok;
                ok = test_provoked(++number, provoked) && ok;
        }
        return ok ? 0 : 1;
}
