#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include "world.h"

#include <cmocka.h>

#include "base/cleanup.h"
#include "crypto/aead.h"
#include "format/cbor.h"
#include "store/credentials.h"
#include "support/edn.h"

const struct peer world_admin = { .channel = CHANNEL_LOCAL, .name = "uid 0" };

void world_init(struct world *world) {
        _cleanup_(diags_done) struct diags diags = {};

        *world = (struct world){};
        assert_int_equal(config_load(NULL, &world->config, &diags), 0);
        world->as = (struct aced){ .config = world->config, .decision_stamp = 0x1234567800000000,
                                     .aead = aead_new() };
        assert_non_null(world->as.aead);
}

void world_done(struct world *world) {
        world_close(world);
        aead_free(world->as.aead);
        config_free(world->config);
        world->config = NULL;
}

int world_open(struct world *world, const char *path) {
        static const uint8_t key[32] = { 1 };
        _cleanup_(diags_done) struct diags diags = {};
        int r = store_open(&(struct store_options){ .path = path, .seal_key = { key, 32 } }, &world->store, &diags);

        world->as.store = world->store;
        return r;
}

void world_close(struct world *world) {
        signers_done(&world->as.signers);
        store_free(world->store);
        world->store = world->as.store = NULL;
}

void call_set(struct call *call, const struct peer *peer, enum method method, const char *target, const char *text) {
        struct request *request = &call->work.request;
        char *at = call->target, *query, *piece;
        bool is_admin = peer->channel == CHANNEL_LOCAL;

        *call = (struct call){ .payload = BUF_INIT(100000) };
        response_init(&call->work.response);
        *request = (struct request){ .method = method,
                                     .content_format = !text ? CF_NONE : is_admin ? CF_JSON : CF_ACE_CBOR,
                                     .accept = CF_NONE, .peer = peer, .now_s = WORLD_NOW_S };
        snprintf(call->target, sizeof(call->target), "%s", target + 1);
        query = strchr(at, '?');
        if (query)
                *query++ = '\0';
        while ((piece = strsep(&at, "/")))
                request->segments[request->n_segments++] = bytes_text(piece);
        while ((piece = strsep(&query, "&")))
                request->queries[request->n_queries++] = bytes_text(piece);
        if (text && is_admin)
                assert_int_equal(buf_add(&call->payload, bytes_text(text)), 0);
        else if (text)
                assert_int_equal(edn_encode(text, &call->payload, NULL), 0);
        request->payload = buf_bytes(&call->payload);
}

void call_introspect(struct call *call, const struct peer *peer, struct bytes token) {
        struct cbor_writer w;

        call_set(call, peer, METHOD_POST, "/introspect", NULL);
        w = CBOR_WRITER(&call->payload);
        cbor_put_map(&w, 1);
        cbor_put_uint(&w, 11);
        cbor_put_bytes(&w, token);
        assert_int_equal(cbor_end(&w), 0);
        call->work.request.payload = buf_bytes(&call->payload);
        call->work.request.content_format = CF_ACE_CBOR;
}

void call_done(struct call *call) {
        response_done(&call->work.response);
        buf_done(&call->payload);
}

#define CALLS_MAX 64

void world_run(struct world *world, struct call *calls, size_t n_calls) {
        struct work *works[CALLS_MAX];

        assert_true(n_calls <= CALLS_MAX);
        for (size_t i = 0; i < n_calls; i++)
                works[i] = &calls[i].work;
        router_batch(&world->as, works, n_calls);
        assert_false(store_in_transaction(world->store));
}

static void admin(struct world *world, const char *target, const char *json) {
        _cleanup_(call_done) struct call call;

        call_set(&call, &world_admin, METHOD_POST, target, json);
        world_run(world, &call, 1);
        if (!call_is_yes(&call))
                fail_msg("%s: %s", target, call.work.response.why);
}

static void meet(struct world *world, const char *identity, struct peer *ret) {
        _cleanup_(secret_done) struct secret psk = {};
        struct credential credential;

        assert_int_equal(store_psk_find(world->store, bytes_text(identity), &credential, &psk), 0);
        *ret = (struct peer){ .channel = CHANNEL_DTLS, .kind = CREDENTIAL_PSK, .credential_id = credential.id,
                              .name = "127.0.0.1:3" };
}

void world_meet(struct world *world) {
        meet(world, "C1", &world->client);
        meet(world, "rs1", &world->server);
}

void world_fill(struct world *world) {
        admin(world, "/v1/servers", "{\"name\":\"rs1\",\"scopes\":\"read\",\"default_scope\":\"read\"}");
        admin(world, "/v1/servers/rs1/credentials", "{\"identity\":\"rs1\"}");
        admin(world, "/v1/clients", "{\"name\":\"C1\"}");
        admin(world, "/v1/clients/C1/credentials", "{\"identity\":\"C1\"}");
        admin(world, "/v1/policies", "{\"client\":\"C1\",\"audience\":\"rs1\",\"scope\":\"read\"}");
        world_meet(world);
}

struct answer_map {
        struct cbor_item token, active;
};

static const struct cbor_field answer_fields[] = {
        { 1, CBOR_BYTES, offsetof(struct answer_map, token) },
        { 10, CBOR_BOOL, offsetof(struct answer_map, active) },
};

struct bytes answer_token(const struct call *call) {
        struct answer_map map;

        assert_int_equal(cbor_map(buf_bytes(&call->work.response.payload), answer_fields, 1, &map), 0);
        assert_int_equal(map.token.kind, CBOR_BYTES);
        return map.token.content;
}

bool answer_is_active(const struct call *call) {
        struct answer_map map;

        assert_int_equal(cbor_map(buf_bytes(&call->work.response.payload), &answer_fields[1], 1, &map), 0);
        assert_int_equal(map.active.kind, CBOR_BOOL);
        return map.active.argument != 0;
}
