#include <stdio.h>

#include "base/cleanup.h"
#include "endpoint/handlers.h"
#include "endpoint/router.h"

/* The attributes of a link (RFC 6690 §3, RFC 7252 §7.2.1), printed from the router's table. */
struct link {
        const char *href, *rt, *interface;
        char ct[8];
        bool is_observable, needs_oscore;
};

/* Over coap without DTLS nobody is known but by OSCORE: this is how to reach what is not for all. */
static bool needs_oscore(const struct resource *resource, const struct peer *peer) {
        return (peer->channel == CHANNEL_PLAIN || peer->channel == CHANNEL_OSCORE) &&
               (resource->callers & CALLER_ANYONE) == 0;
}

static void link_of(const struct resource *resource, const struct peer *peer, struct link *ret) {
        *ret = (struct link){ .href = resource->path, .rt = resource->rt, .interface = resource->interface,
                               .is_observable = resource->observable, .needs_oscore = needs_oscore(resource, peer) };
        if (resource->writes != CF_NONE)
                snprintf(ret->ct, sizeof(ret->ct), "%d", resource->writes);
}

/* RFC 6690 §4.1: the whole value, or its beginning when the pattern ends in '*'. */
static bool value_matches(struct bytes value, struct bytes pattern) {
        if (pattern.size > 0 && pattern.data[pattern.size - 1] == '*') {
                pattern.size--;
                value.size = value.size < pattern.size ? value.size : pattern.size;
        }
        return bytes_equal(value, pattern);
}

/* rt, if and ct hold values with spaces between; one that matches is enough. An absent attribute matches nothing. */
static bool any_value_matches(const char *values, struct bytes pattern) {
        for (const char *at = values; at && *at; at += strspn(at, " ")) {
                struct bytes value = bytes_of(at, strcspn(at, " "));

                if (value_matches(value, pattern))
                        return true;
                at += value.size;
        }
        return false;
}

/* "rt=ace.*"; of an attribute that no link has, or of no attribute at all, nothing is found. */
static bool link_matches(const struct link *link, struct bytes query) {
        const struct {
                const char *name;
                const char *values;
        } attributes[] = { { "rt", link->rt }, { "if", link->interface }, { "ct", link->ct } };
        const uint8_t *equals = query.size > 0 ? memchr(query.data, '=', query.size) : NULL;
        struct bytes name, pattern;

        if (!equals)
                return false;
        name = bytes_of(query.data, (size_t)(equals - query.data));
        pattern = bytes_of(equals + 1, query.size - name.size - 1);
        if (bytes_equal(name, BYTES_LITERAL("href")))
                return value_matches(bytes_text(link->href), pattern);
        for (size_t i = 0; i < N_ELEMENTS(attributes); i++)
                if (bytes_equal(name, bytes_text(attributes[i].name)))
                        return any_value_matches(attributes[i].values, pattern);
        return false;
}

static bool is_asked(const struct link *link, const struct request *request) {
        for (size_t i = 0; i < request->n_queries; i++)
                if (!link_matches(link, request->queries[i]))
                        return false;
        return true;
}

static int put_attribute(const char *name, const char *value, struct buf *out) {
        const char *quote = value && strchr(value, ' ') ? "\"" : "";

        return value && value[0] ? buf_printf(out, ";%s=%s%s%s", name, quote, value, quote) : 0;
}

/* terse: anonymous peers may get less than three times what they sent, so they get what finds the resource. */
static int put_link(const struct link *link, bool terse, struct buf *out) {
        int r;

        if ((r = buf_printf(out, "%s<%s>", out->size > 0 ? "," : "", link->href)) != 0 ||
            (r = put_attribute("rt", link->rt, out)) != 0 ||
            (r = link->needs_oscore ? buf_printf(out, ";osc") : 0) != 0 || /* RFC 8613 §9 */
            terse ||
            (r = put_attribute("if", link->interface, out)) != 0)
                return r;
        r = put_attribute("ct", link->ct, out);
        return r == 0 && link->is_observable ? buf_printf(out, ";obs") : r; /* RFC 7641 §6 */
}

int well_known_get(struct aced *as, const struct request *request, struct response *response) {
        const struct resource *resource;
        struct link link;
        int r;

        for (size_t i = 0; (resource = router_resource(i)); i++) {
                if (!resource->rt || (resource->for_known && request->peer->channel == CHANNEL_PLAIN))
                        continue;
                link_of(resource, request->peer, &link);
                if (!is_asked(&link, request))
                        continue;
                r = put_link(&link, request->peer->channel == CHANNEL_PLAIN, &response->payload);
                if (r != 0)
                        return r;
        }
        return 0;
}
