#include "world.h"

#include "base/cleanup.h"
#include "base/config.h"
#include "base/log.h"
#include "endpoint/router.h"
#include "fuzz.h"
#include "kept_store.h"
#include "store/as_keys.h"
#include "store/clients.h"
#include "store/credentials.h"
#include "store/servers.h"
#include "store/store.h"
#include "support/fake.h"
#include "support/parties.h"

#define US INT64_C(1)
#define MS (1000 * US)
#define S (1000 * MS)
#define START_S WORLD_START_S
#define START_US (1000 * S)
#define SOCKET 3
#define DATAGRAM_MAX 65535
#define TABLES_MAX 64 /* who speaks has one of some ten addresses */

const char *const world_parties[WORLD_PARTIES] = { "c0", "c1", "rs1" };

/* One that may have all that a client may. */
static void add_able_client(struct store *store, const char *name) {
        struct client client;

        party_add_client(store, name, "rs1", "read write");
        MUST(store_client_by_name(store, bytes_text(name), &client) == 0);
        client.refresh_lifetime_s = 86400;
        client.may_introspect = true;
        MUST(store_client_update(store, &client) == 0);
}

/* Its tokens are in the revocation list (RFC 9770). */
static void add_following_server(struct store *store, const char *name) {
        struct server server;

        party_add_server(store, name);
        MUST(store_server_by_name(store, bytes_text(name), &server) == 0);
        server.has_trl = server.token_tagged = true;
        MUST(store_server_update(store, &server) == 0);
}

static void register_key(struct store *store, const char *name) {
        const struct world_key *key = world_key();
        struct credential rpk = { .kind = CREDENTIAL_RPK }, x509 = { .kind = CREDENTIAL_X509, .rule = "dns:c1" };
        struct secret none = {};
        struct client client;
        unsigned made;
        bool same;

        MUST(store_client_by_name(store, bytes_text(name), &client) == 0);
        rpk.client_id = x509.client_id = client.id;
        MUST(public_key_from_spki(bytes_of(key->spki, key->spki_size), &rpk.key) == 0);
        MUST(store_credential_add(store, &rpk, &none, &same) == 0);
        MUST(store_credential_add(store, &x509, &none, &same) == 0);
        MUST(store_as_keys_ensure(store, BYTES_LITERAL("as"), START_S, &made) == 0);
}

static struct bytes kid_of(unsigned n) {
        static const uint8_t kids[WORLD_CONTEXTS] = { 0, 1, 2 };

        return bytes_of(&kids[n], 1);
}

void world_context(unsigned n, struct bytes id_context, struct oscore_keys *ret) {
        static struct oscore_keys first[WORLD_CONTEXTS];
        static bool known[WORLD_CONTEXTS];

        if (id_context.data) {
                party_context_under(world_parties[n], kid_of(n), id_context, ret);
                return;
        }
        if (!known[n])
                party_context_under(world_parties[n], kid_of(n), id_context, &first[n]);
        known[n] = true;
        *ret = first[n];
}

static struct store *filled_store(void) {
        static const uint8_t seal_key[32] = { 1 };
        _cleanup_(diags_done) struct diags faults = {};
        struct store *store;

        fake_random_seed(11);
        MUST(store_open(&(struct store_options){ .seal_key = bytes_of(seal_key, sizeof(seal_key)) }, &store,
                        &faults) == 0);
        MUST(store_begin(store) == 0);
        add_able_client(store, world_parties[0]);
        party_add_client(store, world_parties[1], "rs1", "read write");
        add_following_server(store, world_parties[2]);
        register_key(store, world_parties[1]);
        for (unsigned i = 0; i < WORLD_CONTEXTS; i++)
                if (i == WORLD_RENEWS)
                        party_add_renewing_context(store, world_parties[i], kid_of(i));
                else
                        party_add_context(store, world_parties[i], kid_of(i));
        MUST(store_commit(store) == 0);
        return store;
}

/* To c0 for rs1: the first token there is. */
static void issue_token(struct aced *as) {
        struct peer peer = { .channel = CHANNEL_DTLS, .kind = CREDENTIAL_PSK, .name = "c0" };
        _cleanup_(secret_done) struct secret key = {};
        struct credential credential;
        struct work work = { .request = {
                .method = METHOD_POST, .segments = { BYTES_LITERAL("token") }, .n_segments = 1,
                .content_format = CF_ACE_CBOR, .accept = CF_NONE, .payload = BYTES_LITERAL("\xa1\x05\x63rs1"),
                .peer = &peer, .now_s = START_S } };
        struct work *works[] = { &work };

        MUST(store_psk_find(as->store, BYTES_LITERAL("c0"), &credential, &key) == 0);
        peer.credential_id = credential.id;
        response_init(&work.response);
        router_batch(as, works, 1);
        MUST(work.response.code == CODE_CREATED);
        response_done(&work.response);
}

/* All defaults, but for tables that are filled with zeros anew for each input: those have room for a few. */
static struct config *configuration(void) {
        _cleanup_(diags_done) struct diags faults = {};
        struct config *config;

        MUST(config_load(NULL, &config, &faults) == 0);
        config->sources_max = config->sessions_max = TABLES_MAX;
        return config;
}

static struct aced instance(struct config *config, struct store *store) {
        return (struct aced){ .config = config, .store = store, .started_s = START_S,
                              .trust_anchors = world_key()->anchors };
}

static struct kept_store *keep_store(struct config *config) {
        struct aced as = instance(config, filled_store());

        issue_token(&as);
        signers_done(&as.signers);
        return kept_store_new(as.store);
}

void world_open(struct world *world) {
        static struct config *config;
        static struct kept_store *kept;

        log_set_level(0); /* what is refused here is refused on purpose */
        fake_clock_set(START_S, START_US);
        if (!kept) {
                config = configuration();
                kept = keep_store(config);
        }
        *world = (struct world){ .now = { START_US, START_S }, .store = kept_store_again(kept) };
        world->as = instance(config, world->store);
        fake_random_seed(12);
        MUST(engine_new(&world->as, &world->engine) == 0);
}

void world_close(struct world *world) {
        engine_free(world->engine);
        signers_done(&world->as.signers);
}

void world_wait_us(struct world *world, int64_t us) {
        world->now.monotonic_us += us;
        world->now.wall_s = START_S + (world->now.monotonic_us - START_US) / S;
        fake_clock_set(world->now.wall_s, world->now.monotonic_us);
}

void world_wait(struct world *world, unsigned bits) {
        static const int64_t steps_us[] = { 0, MS, 100 * MS, 250 * MS, S, 3 * S, 60 * S, 300 * S };

        world_wait_us(world, steps_us[bits % N_ELEMENTS(steps_us)]);
}

void world_input(struct world *world, enum door door, const struct address *remote, struct bytes data) {
        engine_input(world->engine, &(struct datagram){ .door = door, .socket = SOCKET, .remote = *remote,
                                                          .data = data }, world->now);
}

void world_run(struct world *world) {
        while (engine_run(world->engine, world->now))
                ;
        MUST(engine_due(world->engine) > 0);
}

void world_deliver(struct world *world, void (*hear)(void *context, const struct datagram *datagram), void *context) {
        const struct datagram *datagrams;
        size_t n = engine_output(world->engine, &datagrams);

        for (size_t i = 0; i < n; i++) {
                MUST(datagrams[i].socket == SOCKET && datagrams[i].data.size > 0);
                MUST(datagrams[i].data.size <= DATAGRAM_MAX);
                hear(context, &datagrams[i]);
        }
        engine_sent(world->engine);
}

struct address world_address(bool v6, unsigned port) {
        if (v6)
                return (struct address){ .in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port),
                                                  .sin6_addr = IN6ADDR_LOOPBACK_INIT },
                                         .size = sizeof(struct sockaddr_in6) };
        return party_address(port);
}

void world_discover(uint16_t mid, struct buf *ret) {
        struct coap_message message = { .type = TYPE_CON, .code = CODE_GET, .mid = mid,
                                        .token = BYTES_LITERAL("discover") };

        MUST(coap_message_add(&message, OPTION_URI_PATH, BYTES_LITERAL(".well-known")) == 0);
        MUST(coap_message_add(&message, OPTION_URI_PATH, BYTES_LITERAL("core")) == 0);
        buf_clear(ret);
        MUST(coap_message_encode(&message, ret) == 0);
}

void world_must_be_answer(struct bytes datagram, struct coap_message *ret) {
        bool header_ok;

        MUST(coap_message_decode(datagram, ret, &header_ok) == 0);
        MUST(ret->code == CODE_EMPTY || ret->code >> 5 == 2 || ret->code >> 5 == 4 || ret->code >> 5 == 5);
        MUST(ret->code != CODE_EMPTY || ret->type == TYPE_ACK || ret->type == TYPE_RST);
        MUST(ret->code != CODE_INTERNAL_ERROR);
}
