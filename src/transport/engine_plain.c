#include "transport/engine_private.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "transport/limit.h"

#define PLAIN_IDLE_US (247 * SECOND_US) /* EXCHANGE_LIFETIME: then nothing about an address is worth keeping */

/* ---- addresses */

static void plain_key(unsigned socket, const struct address *remote, struct plain_key *ret) {
        *ret = (struct plain_key){ .socket = socket };
        address_key(remote, ret->address);
}

/* Keyed: anybody may send from addresses of his choice. */
static unsigned plain_hash(const struct engine *engine, const struct plain_key *key) {
        return (unsigned)siphash(engine->hash_key, bytes_of(key, sizeof(*key)));
}

static int plain_add(struct engine *engine, const struct datagram *datagram, const struct plain_key *key, unsigned hash,
                     struct route **ret) {
        struct route *route;
        int r;

        while (engine->n_plain[STANDING_STRANGER] >= (size_t)engine->as->config->plain_peers_max)
                route_kill(TAILQ_FIRST(&engine->plain[STANDING_STRANGER]));
        r = route_new(engine, DOOR_COAP, &datagram->remote, &route);
        if (r < 0)
                return r;
        route->self.peer.channel = CHANNEL_PLAIN;
        route->socket = datagram->socket;
        route->key = *key;
        HASH_ADD_BYHASHVALUE(hh, engine->plain_table, key, sizeof(route->key), hash, route);
        if (!route->hh.tbl) {
                exchange_peer_free(route->exchange);
                free(route);
                return -ENOMEM;
        }
        TAILQ_INSERT_TAIL(&engine->plain[STANDING_STRANGER], route, link);
        engine->n_plain[STANDING_STRANGER]++;
        *ret = route;
        return 0;
}

/* NULL: it is not known. */
static struct route *plain_find(struct engine *engine, const struct plain_key *key, unsigned hash) {
        struct route *route = NULL;

        HASH_FIND_BYHASHVALUE(hh, engine->plain_table, key, sizeof(*key), hash, route);
        return route;
}

/* ---- what strangers may */

struct rate plain_rate(const struct engine *engine) {
        const struct config *config = engine->as->config;

        return (struct rate){ config->source_request_rate, config->source_request_burst };
}

/*
 * 4.29 (RFC 8516) to a confirmable request, without a trace of who asked; not longer than the request, so that Max-Age
 * may be missing, which means a minute (RFC 7252 §5.10.5). Nothing to a protected one: it would not be believed, and
 * what was lost comes again.
 */
static void plain_refuse(struct engine *engine, const struct datagram *datagram, int64_t wait_us) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT(MESSAGE_SIZE_MAX);
        struct coap_message request, answer = { .type = TYPE_ACK, .code = CODE_TOO_MANY_REQUESTS };
        uint8_t scratch[4];
        bool header_ok;

        if (!exchange_is_request(datagram->data) || coap_message_decode(datagram->data, &request, &header_ok) != 0 ||
            request.type != TYPE_CON || coap_message_option(&request, OPTION_OSCORE, 0))
                return;
        answer.mid = request.mid;
        answer.token = request.token;
        coap_message_add_uint(&answer, OPTION_MAX_AGE, (uint32_t)wait_s(wait_us), scratch);
        if (coap_message_encode(&answer, &bytes) < 0)
                return;
        if (bytes.size > datagram->data.size) {
                answer.n_options = 0;
                buf_clear(&bytes);
                if (coap_message_encode(&answer, &bytes) < 0)
                        return;
        }
        output_add(engine, &(struct datagram){ .door = DOOR_COAP, .socket = datagram->socket,
                                               .remote = datagram->remote, .data = buf_bytes(&bytes) });
}

static bool plain_admits(struct engine *engine, const struct datagram *datagram) {
        enum limit_verdict verdict;
        int64_t wait_us;

        verdict = limit_stranger(engine->limit, &datagram->remote, STRANGER_REQUEST, engine->now.monotonic_us,
                                 &wait_us);
        if (verdict == LIMIT_SOURCE)
                plain_refuse(engine, datagram, wait_us);
        return verdict == LIMIT_PASS;
}

/* Who sent this: a known address, a new one that asks something, or a stranger. NULL: there is no room for it. */
static struct route *plain_route(struct engine *engine, const struct datagram *datagram, struct route *known,
                                 const struct plain_key *key, unsigned hash) {
        struct route *route = known;

        if (route) {
                TAILQ_REMOVE(&engine->plain[route->standing], route, link);
                TAILQ_INSERT_TAIL(&engine->plain[route->standing], route, link);
        } else if (exchange_is_request(datagram->data)) {
                if (plain_add(engine, datagram, key, hash, &route) < 0)
                        return NULL;
        } else {
                route = &engine->stranger;
                route->socket = datagram->socket;
        }
        route->remote = datagram->remote; /* our own address, which the answer leaves from, may be another now */
        return route;
}

/*
 * Every datagram is charged to its source, and given back when it proves to be from somebody we know. Where such come
 * from, the others are heard without charge, so that no flood from elsewhere and nobody who lies about where he is
 * keeps them out; what is said to those that prove nothing is counted (on_send()).
 */
void plain_input(struct engine *engine, const struct datagram *datagram) {
        struct plain_key key;
        struct route *route;
        unsigned hash;

        plain_key(datagram->socket, &datagram->remote, &key);
        hash = plain_hash(engine, &key);
        route = plain_find(engine, &key, hash);
        engine->input_is_charged = !route || route->standing == STANDING_STRANGER;
        if (engine->input_is_charged && !plain_admits(engine, datagram))
                return;
        route = plain_route(engine, datagram, route, &key, hash);
        if (!route) {
                engine->figures.n_datagrams_dropped++;
                return;
        }
        exchange_input(route->exchange, datagram->data, engine->now.monotonic_us);
}

/* ---- time */

int64_t plain_due(const struct engine *engine) {
        int64_t due_us = INT64_MAX;

        for (enum standing standing = STANDING_STRANGER; standing <= STANDING_VOUCHED; standing++) {
                const struct route *oldest = TAILQ_FIRST(&engine->plain[standing]);

                if (oldest && exchange_peer_idle_since_us(oldest->exchange) + PLAIN_IDLE_US < due_us)
                        due_us = exchange_peer_idle_since_us(oldest->exchange) + PLAIN_IDLE_US;
        }
        return due_us;
}

/* In order of last use, so that the first who stays ends the walk. Those that notifications go to stay. */
void plain_expire(struct engine *engine) {
        for (enum standing standing = STANDING_STRANGER; standing <= STANDING_VOUCHED; standing++) {
                struct route *route;

                while ((route = TAILQ_FIRST(&engine->plain[standing])) &&
                       exchange_peer_idle_since_us(route->exchange) + PLAIN_IDLE_US <= engine->now.monotonic_us)
                        route_kill(route);
        }
}
