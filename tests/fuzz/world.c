#include "world.h"


#include "base/cleanup.h"
#include "base/config.h"
#include "base/log.h"
#include "crypto/certificate.h"
#include "endpoint/router.h"
#include "fuzz.h"
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
#define START_S 1700000000
#define START_US (1000 * S)
#define SOCKET 3
#define DATAGRAM_MAX 65535
#define TOKENS_KEPT_MAX 64

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

static void make_key(struct world_key *key) {
        static const uint8_t private[32] = { 1, 2, 3, 4 };
        _cleanup_(buf_done) struct buf pem = BUF_INIT(4096);
        _cleanup_(diags_done) struct diags faults = {};
        struct certificate_ask ask = { .curve = CURVE_P256, .private_key = bytes_of(private, sizeof(private)),
                                       .host = "c1", .serial = 1, .from_s = START_S - 1 };
        struct public_key public_key;

        key->pkcs8 = BUF_INIT(256);
        MUST(key_public(CURVE_P256, ask.private_key, &public_key) == 0);
        MUST(key_pkcs8(CURVE_P256, ask.private_key, &key->pkcs8) == 0);
        MUST(public_key_spki(&public_key, key->spki, &key->spki_size) == 0);
        MUST(certificate_make(&ask, key->certificate, sizeof(key->certificate), &key->certificate_size) == 0);
        MUST(certificate_put_pem(bytes_of(key->certificate, key->certificate_size), &pem) == 0);
        MUST(trust_anchors_new(buf_bytes(&pem), "fuzz", &key->anchors, &faults) == 0);
}

const struct world_key *world_key(void) {
        static struct world_key key;

        if (!key.anchors)
                make_key(&key);
        return &key;
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
        party_context_under(world_parties[n], kid_of(n), id_context, ret);
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
                (i == WORLD_RENEWS ? party_add_renewing_context : party_add_context)(store, world_parties[i], kid_of(i));
        MUST(store_commit(store) == 0);
        return store;
}

/* A store that nothing was done to but that some tokens were issued: to make one takes longer than most inputs. */
static struct store **kept_store(void) {
        static struct store *store;

        return &store;
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

void world_open(struct world *world) {
        _cleanup_(diags_done) struct diags faults = {};
        bool is_new = !*kept_store();

        *world = (struct world){ .now = { START_US, START_S }, .store = TAKE_PTR(*kept_store()) };
        log_set_level(0); /* what is refused here is refused on purpose */
        fake_clock_set(START_S, START_US);
        if (is_new)
                world->store = filled_store();
        MUST(config_load(NULL, &world->config, &faults) == 0);
        world->as = (struct aced){ .config = world->config, .store = world->store, .started_s = START_S,
                                    .trust_anchors = world_key()->anchors };
        if (is_new)
                issue_token(&world->as);
        fake_random_seed(12);
        MUST(engine_new(&world->as, &world->engine) == 0);
}

void world_close(struct world *world) {
        struct store_status status;

        engine_free(world->engine);
        signers_done(&world->as.signers);
        MUST(store_status(world->store, &status) == 0);
        if (world->is_changed || status.n_tokens > TOKENS_KEPT_MAX)
                store_free(world->store);
        else
                *kept_store() = world->store;
        config_free(world->config);
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
