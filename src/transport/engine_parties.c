#include "transport/engine_private.h"

#include <errno.h>

#include "base/cleanup.h"

#define PARTY_ROUTES_MAX 16 /* addresses that one party vouches for: it cannot take the places of all others */

/* ---- parties */

static void party_init(struct party *party, struct engine *engine) {
        *party = (struct party){ .engine = engine };
        TAILQ_INIT(&party->routes);
}

struct limit_peer party_rated(const struct party *party) {
        return (struct limit_peer){ .credential_id = party->peer.credential_id, .is_server = party->server_id != 0 };
}

/* Of who comes by an address that another vouches for, as behind a proxy, blocks may be all there is. */
static void on_emptied(void *owner) {
        party_release(owner);
}

struct party *party_of_context(struct engine *engine, const struct oscore_taken *taken) {
        int64_t id = taken->binding.credential_id;
        struct party *party = NULL;

        HASH_FIND(hh, engine->contexts, &id, sizeof(id), party); /* ids are the store's: nobody chooses them */
        if (party)
                return party;
        party = malloc(sizeof(*party));
        if (!party)
                return NULL;
        party_init(party, engine);
        party->peer.channel = CHANNEL_OSCORE;
        party->peer.kind = CREDENTIAL_OSCORE;
        party->peer.credential_id = id;
        party->client_id = taken->client_id;
        party->server_id = taken->server_id;
        party->is_context = true;
        HASH_ADD(hh, engine->contexts, peer.credential_id, sizeof(id), party);
        if (!party->hh.tbl) {
                free(party);
                return NULL;
        }
        block_peer_init(&party->blocks, engine->blocks);
        block_peer_listen(&party->blocks, on_emptied, party);
        observe_peer_init(&party->observations, engine->observe, party);
        /* no session ends when a device begins anew: what it observed before is not to keep it from observing */
        party->observations.oldest_gives_way = true;
        return party;
}

void party_release(struct party *party) {
        struct engine *engine = party->engine;

        if (!party->is_context || party->is_busy || party->n_pending > 0 || party->n_routes > 0 ||
            party->observations.n_observers > 0 || !block_peer_is_empty(&party->blocks))
                return;
        HASH_DEL(engine->contexts, party);
        block_peer_done(&party->blocks);
        free(party);
}

/* ---- routes */

int route_new(struct engine *engine, enum door door, const struct address *remote, struct route **ret) {
        struct route *route = calloc(1, sizeof(*route));
        int r;

        if (!route)
                return -ENOMEM;
        route->engine = engine;
        route->door = door;
        route->remote = *remote;
        party_init(&route->self, engine);
        address_text(remote, route->self.peer.name, sizeof(route->self.peer.name));
        r = exchange_peer_new(engine->exchange, route, &route->exchange);
        if (r < 0) {
                free(route);
                return r;
        }
        *ret = route;
        return 0;
}

void route_stand(struct route *route, enum standing standing) {
        struct engine *engine = route->engine;

        TAILQ_REMOVE(&engine->plain[route->standing], route, link);
        engine->n_plain[route->standing]--;
        route->standing = standing;
        TAILQ_INSERT_TAIL(&engine->plain[standing], route, link);
        engine->n_plain[standing]++;
}

static void route_disown(struct route *route) {
        struct party *party = TAKE_PTR(route->voucher);

        if (!party)
                return;
        TAILQ_REMOVE(&party->routes, route, of_voucher);
        party->n_routes--;
        party_release(party);
}

void route_kill(struct route *route) {
        struct engine *engine = route->engine;

        if (route->is_dead)
                return;
        route->is_dead = true;
        if (route->door == DOOR_COAP) {
                HASH_DEL(engine->plain_table, route);
                TAILQ_REMOVE(&engine->plain[route->standing], route, link);
                engine->n_plain[route->standing]--;
                route_disown(route);
        }
        route->session = NULL;
        observe_peer_done(&route->self.observations);
        TAILQ_INSERT_TAIL(&engine->dead, route, link);
}

/* Nothing points to it, and nothing will. */
static void route_free(struct route *route) {
        if (route->is_dead && !route->exchange && route->n_pending == 0 && route->n_observers == 0)
                free(route);
}

void routes_bury(struct engine *engine) {
        struct route *route, *next;

        for (route = TAILQ_FIRST(&engine->dead); route; route = next) {
                next = TAILQ_NEXT(route, link);
                exchange_peer_free(TAKE_PTR(route->exchange));
                block_peer_done(&route->self.blocks);
                block_peer_done(&route->fragments);
                TAILQ_REMOVE(&engine->dead, route, link);
                route_free(route);
        }
}

/* The one unused longest goes for it, but not one that waits for its answer. */
static bool make_room(struct engine *engine) {
        struct route *oldest;

        while (engine->n_plain[STANDING_VOUCHED] >= (size_t)engine->as->config->oscore_contexts_max) {
                oldest = TAILQ_FIRST(&engine->plain[STANDING_VOUCHED]);
                if (oldest->n_pending > 0)
                        return false;
                route_kill(oldest);
        }
        return true;
}

/* A device whose NAT gives it one address after the other is vouched for at the latest ones. */
static bool make_room_of(struct party *party) {
        struct route *route;

        if (party->n_routes < PARTY_ROUTES_MAX)
                return true;
        TAILQ_FOREACH(route, &party->routes, of_voucher)
                if (route->standing == STANDING_VOUCHED) /* nothing is observed there */
                        break;
        if (!route)
                return false;
        route_disown(route);
        route_stand(route, STANDING_STRANGER);
        return true;
}

void route_vouch(struct route *route, struct party *party) {
        if (route->door != DOOR_COAP || route->voucher || !make_room_of(party) || !make_room(route->engine))
                return;
        route->voucher = party;
        TAILQ_INSERT_TAIL(&party->routes, route, of_voucher);
        party->n_routes++;
        route_stand(route, STANDING_VOUCHED);
}

void route_observed(struct route *route, int64_t more) {
        bool was_observed = route->n_observers > 0;

        route->n_observers += more;
        if (route->is_dead)
                route_free(route);
        else if (route->door == DOOR_COAP && was_observed != (route->n_observers > 0))
                route_stand(route, was_observed ? STANDING_VOUCHED : STANDING_OBSERVED);
}

/* ---- requests that wait */

void origin_hold(const struct origin *origin) {
        origin->route->n_pending++;
        origin->party->n_pending++;
}

void origin_drop(const struct origin *origin) {
        struct party *party = origin->party;
        struct route *route = origin->route;

        party->n_pending--;
        party_release(party); /* one that is a context */
        route->n_pending--;
        route_free(route);
}
