#include "transport/engine_private.h"

#include "base/log.h"
#include "store/credentials.h"
#include "transport/limit.h"

/* The coaps door: what dtls.c calls. */

static int on_psk(void *context, struct bytes identity, struct credential *ret, struct secret *ret_psk) {
        struct engine *engine = context;

        return store_psk_find(engine->as->store, identity, ret, ret_psk);
}

static int on_rpk(void *context, const uint8_t thumbprint[static THUMBPRINT_SIZE], struct credential *ret) {
        struct engine *engine = context;

        return store_rpk_find(engine->as->store, thumbprint, ret);
}

static int on_x509(void *context, struct bytes rule, struct credential *ret) {
        struct engine *engine = context;

        return store_x509_find(engine->as->store, rule, ret);
}

enum log_level failure_level(struct engine *engine) {
        static const struct rate told = { .per_s = 1, .burst = 10 };
        int64_t wait_us;

        return bucket_take(&engine->failures_told, &told, engine->now.monotonic_us, &wait_us) ? LOG_LEVEL_INFO :
                                                                                                LOG_LEVEL_DEBUG;
}

static void on_failed(void *context, const struct address *remote, enum dtls_failure why, const char *detail) {
        struct engine *engine = context;
        enum log_level level = failure_level(engine);
        char text[ADDRESS_TEXT_SIZE];

        if (!log_enabled(level))
                return;
        address_text(remote, text, sizeof(text));
        log_line(level, "%s: no DTLS session: %s%s%s", text, dtls_failure_row(why)->text, detail ? ": " : "",
                 detail ? detail : "");
}

static struct route *session_route(struct engine *engine, struct dtls_session *session) {
        const struct credential *credential = dtls_session_credential(session);
        const uint8_t *thumbprint = dtls_session_thumbprint(session);
        struct route *route = dtls_session_owner(session);
        struct party *party;

        if (route)
                return route;
        if (route_new(engine, DOOR_COAPS, dtls_session_remote(session), &route) < 0)
                return NULL;
        party = &route->self;
        route->session = session;
        party->peer.channel = CHANNEL_DTLS;
        party->peer.kind = credential->kind;
        party->peer.credential_id = credential->id;
        party->peer.has_key = thumbprint != NULL;
        if (thumbprint)
                memcpy(party->peer.thumbprint, thumbprint, THUMBPRINT_SIZE);
        party->client_id = credential->client_id;
        party->server_id = credential->server_id;
        exchange_peer_set_authenticated(route->exchange);
        block_peer_init(&party->blocks, engine->blocks);
        observe_peer_init(&party->observations, engine->observe, party);
        dtls_session_set_owner(session, route);
        return route;
}

static void on_deliver(void *context, struct dtls_session *session, struct bytes data, struct engine_time now) {
        struct engine *engine = context;
        struct route *route = session_route(engine, session);

        if (!route) {
                engine->figures.n_datagrams_dropped++;
                return;
        }
        engine->input = data;
        engine->input_size = data.size;
        engine->input_is_proved = true;
        exchange_input(route->exchange, data, now.monotonic_us);
}

static void on_dtls_send(void *context, unsigned socket, const struct address *remote, struct bytes data) {
        output_add(context, &(struct datagram){ .door = DOOR_COAPS, .socket = socket, .remote = *remote,
                                                .data = data });
}

static bool on_admit(void *context, const struct address *remote, enum stranger_act act, struct engine_time now) {
        struct engine *engine = context;
        int64_t wait_us;

        return limit_stranger(engine->limit, remote, act, now.monotonic_us, &wait_us) == LIMIT_PASS;
}

/*
 * Thousands of devices may stand behind one address, so that a handshake is charged to who made it, now that this is
 * known. One who makes too many of them pays for them with the address.
 */
static void on_done(void *context, struct dtls_session *session, struct engine_time now) {
        const struct credential *credential = dtls_session_credential(session);
        const struct limit_peer peer = { .credential_id = credential->id, .is_server = credential->server_id != 0 };
        struct engine *engine = context;
        int64_t wait_us;

        if (limit_peer(engine->limit, peer, now.monotonic_us, &wait_us))
                limit_stranger_forgive(engine->limit, dtls_session_remote(session), STRANGER_HANDSHAKE,
                                       now.monotonic_us);
}

static void on_closed(void *context, struct dtls_session *session) {
        struct route *route = dtls_session_owner(session);

        if (route)
                route_kill(route);
}

struct dtls_callbacks coaps_callbacks(struct engine *engine) {
        return (struct dtls_callbacks){
                .context = engine, .psk = on_psk, .deliver = on_deliver, .send = on_dtls_send, .closed = on_closed,
                .admit = on_admit, .done = on_done, .rpk = on_rpk, .x509 = on_x509, .failed = on_failed,
        };
}

/* Before a handshake may begin: what we show is in force now. */
void coaps_input(struct engine *engine, const struct datagram *datagram) {
        door_keys_refresh(&engine->door_keys, engine->as->store, engine->dtls, engine->now.wall_s);
        dtls_input(engine->dtls, datagram->socket, &datagram->remote, datagram->data, engine->now);
}
