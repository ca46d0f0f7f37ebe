#include "main/client.h"

#include <stdio.h>

#include "base/cleanup.h"

/* Link format (RFC 6690). */

static bool take_char(struct bytes *text, char c) {
        if (text->size == 0 || text->data[0] != (uint8_t)c)
                return false;
        *text = bytes_of(text->data + 1, text->size - 1);
        return true;
}

/* Bytes before the first of the stops, or all. */
static struct bytes take_until(struct bytes *text, const char *stops) {
        struct bytes taken = { text->data, 0 };

        while (taken.size < text->size && !strchr(stops, text->data[taken.size]))
                taken.size++;
        *text = bytes_of(text->data + taken.size, text->size - taken.size);
        return taken;
}

static bool link_set(json_t *link, struct bytes name, struct bytes value) {
        char key[64];

        if (name.size == 0 || name.size >= sizeof(key) || bytes_find(name, bytes_of("", 1)))
                return false;
        memcpy(key, name.data, name.size);
        key[name.size] = 0;
        return json_object_set_new(link, key, json_stringn((const char *)value.data, value.size)) == 0;
}

/* One <link>;name="value";… into an object; false: no such thing. */
static bool take_link(struct bytes *text, json_t *link) {
        struct bytes name, value;

        if (!take_char(text, '<'))
                return false;
        value = take_until(text, ">");
        if (!take_char(text, '>') || !link_set(link, BYTES_LITERAL("href"), value))
                return false;
        while (take_char(text, ';')) {
                name = take_until(text, "=;,");
                value = BYTES_LITERAL("");
                if (take_char(text, '=')) {
                        bool quoted = take_char(text, '"');

                        value = take_until(text, quoted ? "\"" : ";,");
                        if (quoted && !take_char(text, '"'))
                                return false;
                }
                if (!link_set(link, name, value))
                        return false;
        }
        return true;
}

static json_t *links_parse(struct bytes text) {
        _cleanup_(json_decrefp) json_t *links = json_array();

        while (links && text.size > 0) {
                json_t *link = json_object();

                if (json_array_append_new(links, link) != 0 || !take_link(&text, link) ||
                    (text.size > 0 && !take_char(&text, ',')))
                        return NULL;
        }
        return TAKE_PTR(links);
}

int verb_discover(const struct settings *settings, char *const *arguments) {
        _cleanup_(answer_wiped) struct talk_answer answer = TALK_ANSWER_INIT;
        _cleanup_(json_decrefp) json_t *links = NULL;
        const struct talk_ask ask = { .code = CODE_GET, .path = ".well-known/core", .queries = { arguments[0] },
                                      .content_format = CF_NONE, .accept = CF_LINK_FORMAT };
        int status = ask_once(settings, &ask, &answer);

        if (status != 0)
                return status;
        if (answer.code != CODE_CONTENT)
                return show_answer(settings, &answer, VOCABULARY_TOKEN);
        if (settings->output == OUTPUT_CBOR)
                return show_bytes(buf_bytes(&answer.payload));
        if (!(links = links_parse(buf_bytes(&answer.payload))))
                return fail(EXIT_REFUSED, "the answer is no link format (RFC 6690)");
        return show(settings, links);
}
