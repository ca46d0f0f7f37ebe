#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>
#include <sqlite3.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "base/log.h"
#include "domain/refusal.h"
#include "endpoint/aced.h"
#include "endpoint/refusal.h"
#include "endpoint/router.h"
#include "store/as_keys.h"
#include "store/clients.h"
#include "store/credentials.h"
#include "store/private.h"
#include "store/servers.h"
#include "store/tokens.h"
#include "support/fake.h"

/*
 * What acectl asks for, through the router, on a store in memory. Requests are written as curl would send them; the
 * state of the whole store is compared before and after whatever is refused.
 */
#define NOW_S 1700000000
#define KEY_16 "000102030405060708090a0b0c0d0e0f"
#define KEY_16_OTHER "f00102030405060708090a0b0c0d0e0f"
#define KEY_32 KEY_16 KEY_16_OTHER

struct world {
        struct config *config;
        struct store *store;
        struct aced as;
        char detail[256]; /* of the last refusal */
};

static const struct {
        const char *text;
        enum method method;
} methods[] = { { "GET", METHOD_GET },     { "POST", METHOD_POST },   { "PUT", METHOD_PUT },
                { "PATCH", METHOD_PATCH }, { "DELETE", METHOD_DELETE } };

static enum method method_of(const char *text) {
        for (size_t i = 0; i < N_ELEMENTS(methods); i++)
                if (strcmp(methods[i].text, text) == 0)
                        return methods[i].method;
        fail_msg("%s is no method", text);
        return METHOD_GET;
}

static unsigned http_status(const struct response *response) {
        if (response->refusal != 0)
                return refusal_row(response->refusal)->http_status;
        return response->code == CODE_CREATED ? 201 : response->payload.size > 0 ? 200 : 204;
}

/* JSON is written with ' for " here: bodies and what is expected have no apostrophes. */
static char *json_text(const char *text) {
        char *copy = strdup(text);

        assert_non_null(copy);
        for (char *at = copy; *at != '\0'; at++)
                if (*at == '\'')
                        *at = '"';
        return copy;
}

/* One request; the HTTP status. *ret gets the answer's JSON, NULL when there is none; ret may be NULL. */
static unsigned ask(struct world *world, const char *method, const char *target, const char *body, json_t **ret) {
        static const struct peer local = { .channel = CHANNEL_LOCAL, .name = "uid 0" };
        _cleanup_(freep) char *json = body ? json_text(body) : NULL;
        struct work work = { .request = { .method = method_of(method), .peer = &local, .now_s = NOW_S,
                                          .content_format = body ? CF_JSON : CF_NONE, .accept = CF_JSON,
                                          .payload = bytes_text(json) } };
        struct request *request = &work.request;
        _cleanup_(freep) char *copy = strdup(target + 1);
        char *path = copy, *query = strchr(copy, '?'), *piece;
        unsigned status;

        if (query)
                *query++ = '\0';
        while ((piece = strsep(&path, "/")))
                request->segments[request->n_segments++] = bytes_text(piece);
        while ((piece = strsep(&query, "&")))
                request->queries[request->n_queries++] = bytes_text(piece);
        response_init(&work.response);
        router_batch(&world->as, &(struct work *){ &work }, 1);
        status = http_status(&work.response);
        snprintf(world->detail, sizeof(world->detail), "%s", work.response.why);
        if (ret)
                *ret = json_loadb((const char *)work.response.payload.data, work.response.payload.size, 0, NULL);
        response_done(&work.response);
        return status;
}

/* A request that must go well. */
static json_t *must(struct world *world, unsigned status, const char *method, const char *target, const char *body) {
        json_t *answer = NULL;
        unsigned got = ask(world, method, target, body, &answer);

        if (got != status)
                fail_msg("%s %s %s: %u, %s", method, target, body ? body : "", got, world->detail);
        return answer;
}

static void must_do(struct world *world, unsigned status, const char *method, const char *target, const char *body) {
        json_decref(must(world, status, method, target, body));
}

static void must_refuse(struct world *world, unsigned status, const char *method, const char *target, const char *body,
                        const char *detail) {
        unsigned got = ask(world, method, target, body, NULL);

        if (got != status || !strstr(world->detail, detail))
                fail_msg("%s %s %s: %u \"%s\", not %u \"%s\"", method, target, body ? body : "", got, world->detail,
                         status, detail);
}

/* The answer is the JSON that is expected, member for member; "*" stands for any string, -1 for any integer. */
static bool same(const json_t *expected, json_t *got) {
        const char *name;
        json_t *value;
        size_t i;

        if (json_is_string(expected) && strcmp(json_string_value(expected), "*") == 0)
                return json_is_string(got);
        if (json_is_integer(expected) && json_integer_value(expected) == -1)
                return json_is_integer(got);
        if (json_is_object(expected)) {
                if (json_object_size(expected) != json_object_size(got))
                        return false;
                json_object_foreach((json_t *)expected, name, value)
                        if (!same(value, json_object_get(got, name)))
                                return false;
                return json_is_object(got);
        }
        if (!json_is_array(expected))
                return json_equal(expected, got);
        if (json_array_size(expected) != json_array_size(got))
                return false;
        json_array_foreach(expected, i, value)
                if (!same(value, json_array_get(got, i)))
                        return false;
        return json_is_array(got);
}

static void must_answer(struct world *world, unsigned status, const char *method, const char *target, const char *body,
                        const char *expected_text) {
        _cleanup_(freep) char *text = json_text(expected_text);
        json_t *expected = json_loads(text, JSON_DECODE_ANY, NULL), *got = must(world, status, method, target, body);

        assert_non_null(expected);
        if (!same(expected, got)) {
                json_dumpf(got, stderr, JSON_ENCODE_ANY);
                print_message("\n%s %s: that is not %s\n", method, target, text);
                fail();
        }
        json_decref(expected);
        json_decref(got);
}

/* The same, but the answer may have more members than those. */
static void must_tell(struct world *world, const char *target, const char *expected_text) {
        _cleanup_(freep) char *text = json_text(expected_text);
        json_t *expected = json_loads(text, 0, NULL), *got = must(world, 200, "GET", target, NULL), *value;
        const char *member;

        assert_non_null(expected);
        json_object_foreach(expected, member, value) {
                if (json_object_get(got, member) && same(value, json_object_get(got, member)))
                        continue;
                json_dumpf(got, stderr, JSON_ENCODE_ANY);
                print_message("\nGET %s: \"%s\" is not as in %s\n", target, member, text);
                fail();
        }
        json_decref(expected);
        json_decref(got);
}

/*
 * The store as text: every row of every table but the leases, which move on when nothing else does, and the audit trail,
 * which tells of what was refused, too.
 */
static char *dump(struct world *world) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(1 << 20);
        sqlite3_stmt *tables, *rows;
        char sql[128];

        assert_int_equal(sqlite3_prepare_v2(world->store->db, "SELECT name FROM sqlite_schema WHERE type = 'table' AND "
                                            "name NOT IN ('leases', 'meta', 'audit') ORDER BY name", -1, &tables, NULL),
                                            SQLITE_OK);
        while (sqlite3_step(tables) == SQLITE_ROW) {
                snprintf(sql, sizeof(sql), "SELECT * FROM \"%s\"", sqlite3_column_text(tables, 0));
                assert_int_equal(sqlite3_prepare_v2(world->store->db, sql, -1, &rows, NULL), SQLITE_OK);
                while (sqlite3_step(rows) == SQLITE_ROW) {
                        assert_int_equal(buf_printf(&out, "%s:", sqlite3_column_text(tables, 0)), 0);
                        for (int i = 0; i < sqlite3_column_count(rows); i++)
                                for (int j = 0; j < sqlite3_column_bytes(rows, i); j++)
                                        assert_int_equal(buf_printf(&out, "%02x%s",
                                                                    ((const uint8_t *)sqlite3_column_blob(rows, i))[j],
                                                                    j + 1 == sqlite3_column_bytes(rows, i) ? "," : ""),
                                                                    0);
                        assert_int_equal(buf_add_byte(&out, '\n'), 0);
                }
                sqlite3_finalize(rows);
        }
        sqlite3_finalize(tables);
        assert_true(out.size > 100);
        assert_int_equal(buf_add_byte(&out, 0), 0);
        return strdup((char *)out.data);
}

/* ---- the world: rs1 and a group of two servers, client c1 with a label, a credential each, a policy each way */

static void populate(struct world *world) {
        must_do(world, 201, "POST", "/v1/servers", "{'name':'rs1','audiences':['rs1','coaps://rs1'],"
                "'scopes':'read write','default_scope':'read','token_key_hex':'" KEY_16 "'}");
        must_do(world, 201, "POST", "/v1/servers", "{'name':'rs2','group_audiences':['all'],"
                "'scopes':'hex:0102','token_alg':'A256GCM'}");
        must_do(world, 201, "POST", "/v1/clients", "{'name':'c1','labels':['sensors']}");
        must_do(world, 201, "POST", "/v1/clients", "{'name':'c2'}");
        must_do(world, 201, "POST", "/v1/clients/c1/credentials", "{'key_hex':'" KEY_16_OTHER "'}");
        must_do(world, 201, "POST", "/v1/servers/rs1/credentials", "{}");
        must_do(world, 201, "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read'}");
        must_do(world, 201, "POST", "/v1/policies",
                "{'label':'sensors','audience':'all','scope':'hex:0102'}");
}

static int setup(void **state) {
        static const uint8_t key[32] = { 1 };
        struct world *world = calloc(1, sizeof(*world));
        _cleanup_(diags_done) struct diags diags = {};

        log_set_level(LOG_LEVEL_ERROR);
        fake_random_seed(1);
        fake_random_fail_at(0);
        assert_non_null(world);
        assert_int_equal(config_load(NULL, &world->config, &diags), 0);
        assert_int_equal(store_open(&(struct store_options){ .seal_key = { key, 32 } }, &world->store, &diags), 0);
        world->as = (struct aced){ .config = world->config, .store = world->store, .started_s = NOW_S - 10 };
        populate(world);
        *state = world;
        return 0;
}

static int teardown(void **state) {
        struct world *world = *state;

        store_free(world->store);
        config_free(world->config);
        free(world);
        return 0;
}

/* ---- what is refused leaves everything as it was */

#define NAME_65 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define NO_SUCH "there is no such member"

static const struct {
        const char *method, *target, *body;
        unsigned status;
        const char *detail;
} bad[] = {
        /* bodies */
        { "POST", "/v1/clients", "{'name':", 400, "" },
        { "POST", "/v1/clients", "[]", 400, "object is expected" },
        { "POST", "/v1/clients", "{'name':'x','name':'x'}", 400, "duplicate" },
        { "POST", "/v1/clients", "{'name':'x'} {}", 400, "line 1" },
        { "POST", "/v1/clients", NULL, 400, "there is none" },
        { "POST", "/v1/clients", "{'name':'x','nmae':1}", 422, "\"nmae\": " NO_SUCH },
        { "POST", "/v1/clients", "{'name':'x','colour':1,'size':2}", 422, "\"colour\": " NO_SUCH "; member \"size\"" },
        { "POST", "/v1/clients", "{}", 422, "\"name\": it is missing" },
        { "POST", "/v1/clients", "{'name':1}", 422, "\"name\": a string" },
        { "POST", "/v1/clients", "{'name':null}", 422, "\"name\": a string" },
        { "POST", "/v1/clients", "{'name':'x','suspended':'yes'}", 422, "\"suspended\": true or false" },
        { "POST", "/v1/clients", "{'name':'x','labels':'a'}", 422, "\"labels\": an array" },

        /* names */
        { "POST", "/v1/clients", "{'name':''}", 422, "is no name" },
        { "POST", "/v1/clients", "{'name':'a b'}", 422, "\"a b\" is no name" },
        { "POST", "/v1/clients", "{'name':'-x'}", 422, "neither - nor ." },
        { "POST", "/v1/clients", "{'name':'../x'}", 422, "is no name" },
        { "POST", "/v1/clients", "{'name':'x\\n'}", 422, "is no name" },
        { "POST", "/v1/clients", "{'name':'\\u001b[2J'}", 422, "\"?[2J\" is no name" },
        { "POST", "/v1/clients", "{'name':'x\\u0000y'}", 400, "" },
        { "POST", "/v1/clients", "{'name':'caf\\u00e9'}", 422, "is no name" },
        { "POST", "/v1/clients", "{'name':'" NAME_65 "'}", 422, "is no name" },
        { "POST", "/v1/clients", "{'name':'c1'}", 409, "there is a client \"c1\" already" },
        { "POST", "/v1/servers", "{'name':'rs1'}", 409, "there is a resource server \"rs1\" already" },
        { "POST", "/v1/servers", "{'name':'a/b'}", 422, "is no name" },

        /* clients */
        { "POST", "/v1/clients", "{'name':'x','profiles':[]}", 422, "at least one" },
        { "POST", "/v1/clients", "{'name':'x','profiles':['coap_tls']}", 422, "\"coap_tls\" is no ACE profile" },
        { "POST", "/v1/clients", "{'name':'x','default_audience':'a b'}", 422, "\"a b\" is no audience" },
        { "POST", "/v1/clients", "{'name':'x','labels':['a','b','a']}", 422, "\"a\" is there twice" },
        { "POST", "/v1/clients", "{'name':'x','labels':['a b']}", 422, "\"labels\": \"a b\" is no name" },
        { "GET", "/v1/clients/nobody", NULL, 404, "there is no client \"nobody\"" },
        { "GET", "/v1/clients/c1/", NULL, 404, "" },
        { "PATCH", "/v1/clients/nobody", "{'suspended':true}", 404, "acectl client list" },
        { "PATCH", "/v1/clients/c1", "{'name':'c9'}", 422, "\"name\": " NO_SUCH },
        { "PATCH", "/v1/clients/c1", "{'suspended':true,'labels':['a b']}", 422, "\"a b\" is no name" },
        { "PATCH", "/v1/clients/c1", "{'labels':['new'],'profiles':[]}", 422, "at least one" },
        { "DELETE", "/v1/clients/nobody", NULL, 404, "there is no client" },
        { "DELETE", "/v1/clients", NULL, 405, "" },
        { "PUT", "/v1/clients/c1", "{}", 405, "" },

        /* credentials */
        { "GET", "/v1/clients/nobody/credentials", NULL, 404, "there is no client" },
        { "POST", "/v1/clients/nobody/credentials", "{}", 404, "there is no client" },
        { "POST", "/v1/servers/nobody/credentials", "{}", 404, "there is no resource server" },
        { "POST", "/v1/clients/c1/credentials", "{}", 409, "the identity \"c1\" is taken" },
        { "POST", "/v1/clients/c2/credentials", "{'identity':'rs1'}", 409, "the identity \"rs1\" is taken" },
        { "POST", "/v1/clients/c2/credentials", "{'key_hex':'" KEY_16_OTHER "'}", 409, "this key is registered" },
        { "POST", "/v1/clients/c2/credentials", "{'key_hex':'" KEY_16 "'}", 409, "this key is registered already" },
        { "POST", "/v1/clients/c2/credentials", "{'key_hex':'00010203040506070809'}", 422, "16 to 64 bytes" },
        { "POST", "/v1/clients/c2/credentials", "{'key_hex':'" KEY_16 "0'}", 422, "16 to 64 bytes" },
        { "POST", "/v1/clients/c2/credentials", "{'key_hex':'" KEY_16 "zz'}", 422, "16 to 64 bytes" },
        { "POST", "/v1/clients/c2/credentials", "{'key_hex':'" KEY_32 KEY_32 "00'}", 422, "16 to 64 bytes" },
        { "POST", "/v1/clients/c2/credentials", "{'key_hex':''}", 422, "16 to 64 bytes" },
        { "POST", "/v1/clients/c2/credentials", "{'identity':''}", 422, "1 to 128 bytes" },
        { "POST", "/v1/clients/c2/credentials", "{'identity_hex':''}", 422, "1 to 128 bytes" },
        { "POST", "/v1/clients/c2/credentials", "{'identity':'" NAME_65 NAME_65 "'}", 422, "1 to 128 bytes" },
        { "POST", "/v1/clients/c2/credentials", "{'identity':'a','identity_hex':'61'}", 422, "one of the two" },
        { "POST", "/v1/clients/c2/credentials", "{'kind':'rpk'}", 422, "kind rpk is a raw public key" },
        { "DELETE", "/v1/clients/c1/credentials/99", NULL, 404, "\"c1\" has no credential 99" },
        { "DELETE", "/v1/clients/c1/credentials/x", NULL, 404, "\"x\" is no id of a credential" },
        { "DELETE", "/v1/clients/c1/credentials/99999999999999999999", NULL, 404, "is no id" },

        /* resource servers */
        { "POST", "/v1/servers", "{'name':'x','audiences':['y','rs1']}", 409, "the audience \"rs1\" is taken" },
        { "POST", "/v1/servers", "{'name':'x','audiences':['all']}", 409, "the audience \"all\" is taken" },
        { "POST", "/v1/servers", "{'name':'x','group_audiences':['rs1']}", 409, "the audience \"rs1\" is taken" },
        { "POST", "/v1/servers", "{'name':'x','audiences':['a\\'b']}", 422, "is no audience" },
        { "POST", "/v1/servers", "{'name':'x','audiences':[]}", 422, "at least one audience" },
        { "POST", "/v1/servers", "{'name':'x','audiences':['y','y']}", 422, "\"y\" is there twice" },
        { "POST", "/v1/servers", "{'name':'x','audiences':['y'],'group_audiences':['y']}", 422, "is in audiences" },
        { "POST", "/v1/servers", "{'name':'x','scopes':'a\\'b'}", 422, "is no scope" },
        { "POST", "/v1/servers", "{'name':'x','scopes':'hex:0'}", 422, "behind hex:" },
        { "POST", "/v1/servers", "{'name':'x','scopes':'hex:'}", 422, "behind hex:" },
        { "POST", "/v1/servers", "{'name':'x','scopes':'a','scope_kind':'bytes'}", 422, "scope_kind is bytes" },
        { "POST", "/v1/servers", "{'name':'x','scope_kind':'jwt'}", 422, "\"jwt\" is no kind of scope" },
        { "POST", "/v1/servers", "{'name':'x','scopes':'a','default_scope':'b'}", 422, "must be in scopes" },
        { "POST", "/v1/servers", "{'name':'x','token_alg':'AES'}", 422, "\"AES\" is no algorithm" },
        { "POST", "/v1/servers", "{'name':'x','token_alg':'HMAC-256-64'}", 422, "is no algorithm that encrypts" },
        { "POST", "/v1/servers", "{'name':'x','token_format':'jwt'}", 422, "is no format of tokens" },
        { "POST", "/v1/servers", "{'name':'x','token_format':'mac0','token_alg':'A128GCM'}", 422, "format mac0" },
        { "POST", "/v1/servers", "{'name':'x','token_format':'mac0','wrap_alg':'HMAC-256-64'}", 422, "that encrypts" },
        { "POST", "/v1/servers", "{'name':'x','wrap_alg':'A128GCM'}", 422, "for tokens of format mac0 only" },
        { "POST", "/v1/servers", "{'name':'x','token_format':'opaque','token_alg':'A128GCM'}", 422, "protects nothing" },
        { "POST", "/v1/servers", "{'name':'x','token_format':'opaque','token_key_hex':'" KEY_16 "'}", 422, "no key" },
        { "POST", "/v1/servers", "{'name':'x','token_format':'opaque','derives_key':true}", 422, "an opaque token" },
        { "POST", "/v1/servers", "{'name':'x','pop_keys':['P-256'],'derives_key':true}", 422, "symmetric keys are" },
        { "POST", "/v1/servers", "{'name':'x','pop_keys':['P-521']}", 422, "is no kind of key" },
        { "POST", "/v1/servers", "{'name':'x','pop_keys':[]}", 422, "at least one is expected" },
        { "POST", "/v1/servers", "{'name':'x','sign_alg':'RS256'}", 422, "is no algorithm that signs" },
        { "POST", "/v1/servers", "{'name':'x','oscore_alg':'HMAC-256-64'}", 422, "is no algorithm that encrypts" },
        { "POST", "/v1/servers", "{'name':'x','oscore_hkdf':'SHA-384'}", 422, "is no hash of a key derivation" },
        { "POST", "/v1/servers", "{'name':'x','oscore_hkdf':5}", 422, "oscore_hkdf" },
        { "POST", "/v1/servers", "{'name':'x','preferred_profile':'dtls'}", 422, "is no ACE profile" },
        { "POST", "/v1/servers", "{'name':'x','preferred_profile':'coap_oscore'}", 422, "it is not among profiles" },
        { "POST", "/v1/servers", "{'name':'x','profiles':['coap_oscore'],'token_format':'mac0'}", 422, "RFC 9203" },
        { "POST", "/v1/servers", "{'name':'x','profiles':['coap_oscore'],'pop_keys':['P-256']}", 422, "symmetric" },
        { "POST", "/v1/servers", "{'name':'x','profiles':['coap_oscore'],'derives_key':true}", 422,
          "derived for coap_dtls alone" },
        { "GET", "/v1/explain?client=c1&channel=udp", NULL, 422, "dtls or oscore is expected" },
        { "POST", "/v1/servers", "{'name':'x','token_format':'sign1'}", 422, "key rotate --role sign --alg ES256" },
        { "POST", "/v1/servers", "{'name':'x','trl':true,'token_tagged':false}", 422, "RFC 9770" },
        { "POST", "/v1/servers", "{'name':'x','has_clock':false}", 422, "set default_lifetime_s" },
        { "POST", "/v1/servers", "{'name':'x','has_clock':false,'default_lifetime_s':60,'max_lifetime_s':90}", 422,
          "all live equally long" },
        { "PUT", "/v1/servers/rs1/key", "{'role':'door'}", 422, "is no role of a key" },
        { "PUT", "/v1/servers/rs1/key", "{'role':'wrap'}", 422, "need no wrap key" },
        { "POST", "/v1/servers", "{'name':'x','token_key_hex':'" KEY_32 "'}", 422, "16 bytes in hexadecimal" },
        { "POST", "/v1/servers", "{'name':'x','token_key_hex':'" KEY_16 "'}", 409, "this key is registered already" },
        { "POST", "/v1/servers", "{'name':'x','token_key_hex':'" KEY_16_OTHER "'}", 409, "registered already" },
        { "POST", "/v1/servers", "{'name':'x','token_kid_hex':'" KEY_16 "00'}", 422, "1 to 16 bytes" },
        { "POST", "/v1/servers", "{'name':'x','max_lifetime_s':-1}", 422, "0 to 315360000" },
        { "POST", "/v1/servers", "{'name':'x','max_lifetime_s':1.5}", 422, "an integer" },
        { "POST", "/v1/servers", "{'name':'x','default_lifetime_s':9,'max_lifetime_s':8}", 422, "9 is over" },
        { "PATCH", "/v1/servers/rs1", "{'max_lifetime_s':5,'audiences':['rs1','all']}", 409, "\"all\" is taken" },
        { "PATCH", "/v1/servers/rs1", "{'audiences':['new']}", 409, "the audience \"rs1\" has policies" },
        { "PATCH", "/v1/servers/rs1", "{'audiences':[]}", 409, "has policies" },
        { "PATCH", "/v1/servers/rs2", "{'audiences':[],'group_audiences':[]}", 409, "\"all\" has policies" },
        { "PATCH", "/v1/servers/rs1", "{'token_alg':'A256GCM'}", 422, "32 bytes for A256GCM" },
        { "PATCH", "/v1/servers/rs1", "{'token_alg':'A128GCM'}", 422, "a key serves one algorithm" },
        { "PATCH", "/v1/servers/rs1", "{'token_kid_hex':'01'}", 422, "the id belongs to the key" },
        { "PATCH", "/v1/servers/rs1", "{'scopes':'write'}", 422, "must be in scopes" },
        { "PATCH", "/v1/servers/rs1", "{'scope_kind':'bytes'}", 422, "it is text" },
        { "PATCH", "/v1/servers/nobody", "{}", 404, "there is no resource server" },
        { "PUT", "/v1/servers/rs1/key", "{'key_hex':'00'}", 422, "16 bytes" },
        { "PUT", "/v1/servers/rs2/key", "{'key_hex':'" KEY_16 "'}", 422, "32 bytes" },
        { "PUT", "/v1/servers/rs1/key", "{'key_hex':'" KEY_16_OTHER "'}", 409, "registered already" },
        { "PUT", "/v1/servers/nobody/key", "{}", 404, "there is no resource server" },

        /* policies */
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1'}", 422, "\"scope\": it is missing" },
        { "POST", "/v1/policies", "{'audience':'rs1','scope':'read'}", 422, "exactly one of the two" },
        { "POST", "/v1/policies", "{'client':'c1','label':'l','audience':'rs1','scope':'read'}", 422,
          "exactly one of the two" },
        { "POST", "/v1/policies", "{'client':'c9','audience':'rs1','scope':'read'}", 404, "no client \"c9\"" },
        { "POST", "/v1/policies", "{'label':'a b','audience':'rs1','scope':'read'}", 422, "is no name" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs9','scope':'read'}", 404, "no audience \"rs9\"" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'a b','scope':'read'}", 422, "is no audience" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read fly'}", 422, "\"fly\" is none" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':''}", 422, "allows nothing" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'hex:01'}", 422, "of text, not bytes" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'aif:/a=GET'}", 422, "of text, not bytes" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'aif:/a'}", 422, "aif:OBJECT=PERMISSIONS" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read','effect':'forbid'}", 422,
          "is no effect" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','effect':'allow'}", 422, "only a denial" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','effect':'deny','max_lifetime_s':5}", 422,
          "this one denies" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','effect':'deny','days':'mon','advance_s':5}", 422,
          "this one denies" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read','advance_s':5}", 422,
          "has no beginning" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read','from_s':9,'advance_s':604801}", 422,
          "0 to 604800" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read','days':'montag'}", 422,
          "mon-fri,sun" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read','hours':'8-18'}", 422,
          "08:00-18:00" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read','hours':'08:00-08:00'}", 422,
          "08:00-18:00" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'${audience}','scope':'read'}", 422, "variables" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs-${floor','scope':'read'}", 422, "variables" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'${a}${b}${c}${d}${e}'}", 422, "variables" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read ${}'}", 422, "variables" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read','shadow':'yes'}", 422, "shadow" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'all','scope':'read'}", 422, "scopes of bytes" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'all','scope':'hex:ff'}", 422, "\"hex:ff\" is none" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read'}", 409, "an equal policy" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read','until_s':1}", 422, "is past" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read','until_s':1800000000,"
          "'from_s':1800000000}", 422, "not behind from_s" },
        { "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read','from_s':-1}", 422, "0 to " },
        { "DELETE", "/v1/policies/99", NULL, 404, "there is no policy 99" },
        { "DELETE", "/v1/policies/-1", NULL, 404, "is no id of a policy" },

        /* queries */
        { "GET", "/v1/clients?limit=0", NULL, 422, "\"limit\": 1 to 1000" },
        { "GET", "/v1/clients?limit=1001", NULL, 422, "\"limit\": 1 to 1000" },
        { "GET", "/v1/clients?limit=1e2", NULL, 422, "\"limit\": 1 to 1000" },
        { "GET", "/v1/clients?limit=", NULL, 422, "\"limit\": 1 to 1000" },
        { "GET", "/v1/clients?limit=99999999999999999999", NULL, 422, "\"limit\": 1 to 1000" },
        { "GET", "/v1/clients?limit", NULL, 422, "it has no value" },
        { "GET", "/v1/clients?limit=1&limit=2", NULL, 422, "it is there twice" },
        { "GET", "/v1/clients?lmit=1", NULL, 422, "\"lmit\": there is no such parameter" },
        { "GET", "/v1/policies?client=c1&label=l", NULL, 422, "one of the two" },
        { "GET", "/v1/policies?after=x", NULL, 422, "is no id" },
        { "GET", "/v1/explain?client=c1&audience=rs1&at=noon", NULL, 422, "seconds since 1970" },
        { "GET", "/v1/explain?client=c1&audience=rs1&at=253402300800", NULL, 422, "seconds since 1970" },
        { "GET", "/v1/explain?client=c1&audience=rs1&key=rsa", NULL, 422, "P-256" },
        { "GET", "/v1/tokens?after=zz", NULL, 422, "is no cti" },
        { "GET", "/v1/tokens?all=yes", NULL, 422, "true or false" },
        { "GET", "/v1/tokens?client=nobody", NULL, 404, "nobody" },
        { "GET", "/v1/tokens?server=nobody", NULL, 404, "nobody" },
        { "GET", "/v1/explain?audience=rs1", NULL, 422, "\"client\": it is missing" },
        { "GET", "/v1/explain?client=c9&audience=rs1", NULL, 404, "no client \"c9\"" },
        { "GET", "/v1/explain?client=c1&audience=rs1&scope=a\"b", NULL, 422, "is no scope" },

        /* tokens */
        { "GET", "/v1/tokens/00000001", NULL, 404, "there is no token 00000001" },
        { "GET", "/v1/tokens/1", NULL, 404, "is no cti" },
        { "GET", "/v1/tokens/ffffffffffffffff", NULL, 404, "is no cti" },
        { "GET", "/v1/tokens/0000000000000001", NULL, 404, "is no cti" },
        { "DELETE", "/v1/tokens/00000001", NULL, 404, "there is no token 00000001" },
        { "DELETE", "/v1/tokens/xyz", NULL, 404, "\"xyz\" is no cti" },
        { "POST", "/v1/status", "{}", 405, "" },
        { "GET", "/v2/status", NULL, 404, "" },
};

static void refused_requests_change_nothing(void **state) {
        struct world *world = *state;
        _cleanup_(freep) char *before = dump(world);

        for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
                _cleanup_(freep) char *after = NULL;

                must_refuse(world, bad[i].status, bad[i].method, bad[i].target, bad[i].body, bad[i].detail);
                after = dump(world);
                if (strcmp(before, after) != 0)
                        fail_msg("%s %s %s changed something", bad[i].method, bad[i].target, bad[i].body);
        }
}

/* A refused key must not be quoted: it may be a good key at the wrong place. */
static void keys_are_not_told_in_errors(void **state) {
        struct world *world = *state;

        for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
                ask(world, bad[i].method, bad[i].target, bad[i].body, NULL);
                assert_null(strstr(world->detail, "000102030405060708"));
        }
}

/* The n-th draw of randomness fails: a 5.00 and nothing half done. */
static void failing_randomness_changes_nothing(void **state) {
        static const struct {
                const char *method, *target, *body;
        } makers[] = {
                { "POST", "/v1/servers", "{'name':'new','audiences':['n1','n2']}" },
                { "POST", "/v1/clients/c2/credentials", "{}" },
                { "POST", "/v1/servers/rs2/credentials", "{}" },
                { "PUT", "/v1/servers/rs1/key", "{}" },
        };
        struct world *world = *state;
        _cleanup_(freep) char *before = dump(world);

        log_set_level((enum log_level)0);
        for (size_t i = 0; i < N_ELEMENTS(makers); i++) {
                _cleanup_(freep) char *after = NULL;

                fake_random_fail_at(1);
                assert_int_equal(ask(world, makers[i].method, makers[i].target, makers[i].body, NULL), 500);
                fake_random_fail_at(0);
                after = dump(world);
                assert_string_equal(before, after);
        }
}

/* ---- clients */

#define NO_LIMITS "'max_lifetime_s':0,'tokens_max':0,'refresh_lifetime_s':0,'may_introspect':false,"

static void client_from_birth_to_death(void **state) {
        struct world *world = *state;

        must_answer(world, 201, "POST", "/v1/clients", "{'name':'new'}",
                    "{'name':'new','suspended':false,'profiles':['coap_dtls'],'default_audience':'',"
                    "'labels':[]," NO_LIMITS "'created_s':1700000000}");
        must_answer(world, 200, "PATCH", "/v1/clients/new", "{'labels':['b','a'],'default_audience':'rs1',"
                    "'profiles':['mqtt_tls','coap_oscore']}",
                    "{'name':'new','suspended':false,'profiles':['coap_oscore','mqtt_tls'],"
                    "'default_audience':'rs1','labels':['a','b']," NO_LIMITS "'created_s':1700000000}");
        /* only what is there changes */
        must_answer(world, 200, "PATCH", "/v1/clients/new", "{'suspended':true}",
                    "{'name':'new','suspended':true,'profiles':['coap_oscore','mqtt_tls'],"
                    "'default_audience':'rs1','labels':['a','b']," NO_LIMITS "'created_s':1700000000}");
        must_do(world, 200, "PATCH", "/v1/clients/new", "{}");
        must_answer(world, 200, "PATCH", "/v1/clients/new", "{'default_audience':'','labels':[]}",
                    "{'name':'new','suspended':true,'profiles':['coap_oscore','mqtt_tls'],"
                    "'default_audience':'','labels':[]," NO_LIMITS "'created_s':1700000000}");
        must_answer(world, 200, "GET", "/v1/clients/new", NULL,
                    "{'name':'new','suspended':true,'profiles':['coap_oscore','mqtt_tls'],"
                    "'default_audience':'','labels':[]," NO_LIMITS "'created_s':1700000000}");
        must_answer(world, 200, "PATCH", "/v1/clients/new",
                    "{'max_lifetime_s':60,'tokens_max':5,'refresh_lifetime_s':86400,'may_introspect':true}",
                    "{'name':'new','suspended':true,'profiles':['coap_oscore','mqtt_tls'],'default_audience':'',"
                    "'labels':[],'max_lifetime_s':60,'tokens_max':5,'refresh_lifetime_s':86400,'may_introspect':true,"
                    "'created_s':1700000000}");
        must_answer(world, 200, "PATCH", "/v1/clients/new", "{'max_lifetime_s':0,'tokens_max':0,"
                    "'refresh_lifetime_s':0,'may_introspect':false}",
                    "{'name':'new','suspended':true,'profiles':['coap_oscore','mqtt_tls'],"
                    "'default_audience':'','labels':[]," NO_LIMITS "'created_s':1700000000}");
        must_refuse(world, 422, "PATCH", "/v1/clients/new", "{'tokens_max':1000001}", "tokens_max");
        must_refuse(world, 422, "PATCH", "/v1/clients/new", "{'refresh_lifetime_s':-1}", "refresh_lifetime_s");
        must_do(world, 204, "DELETE", "/v1/clients/new", NULL);
        must_refuse(world, 404, "GET", "/v1/clients/new", NULL, "there is no client");
        must_do(world, 201, "POST", "/v1/clients", "{'name':'new'}"); /* the name is free again */
}

/* A name with every character that is allowed, and the longest one. */
static void names_at_their_limits(void **state) {
        struct world *world = *state;

        must_do(world, 201, "POST", "/v1/clients", "{'name':'Az09._:@+-'}");
        must_do(world, 200, "GET", "/v1/clients/Az09._:@+-", NULL);
        must_do(world, 201, "POST", "/v1/clients",
                "{'name':'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}");
}

/* The names of a page must follow last, which becomes the last of them. Returns how many, and *ret_next, "" none. */
static size_t check_page(const json_t *page, char last[static 65], char ret_next[static 65]) {
        const json_t *items = json_object_get(page, "items");
        const char *next = json_string_value(json_object_get(page, "next"));

        for (size_t i = 0; i < json_array_size(items); i++) {
                const char *name = json_string_value(json_object_get(json_array_get(items, i), "name"));

                assert_true(strcmp(name, last) > 0);
                snprintf(last, 65, "%s", name);
        }
        snprintf(ret_next, 65, "%s", next ? next : "");
        return json_array_size(items);
}

static void pages_are_complete(void **state) {
        struct world *world = *state;
        char target[128], body[64], last[65] = "", after[65] = "";
        size_t n = 0, n_pages = 0;

        for (int i = 0; i < 23; i++) {
                snprintf(body, sizeof(body), "{'name':'n%02d'}", i);
                must_do(world, 201, "POST", "/v1/clients", body);
        }
        do {
                json_t *page;

                snprintf(target, sizeof(target), "/v1/clients?limit=5&after=%s", after);
                page = must(world, 200, "GET", target, NULL);
                n += check_page(page, last, after);
                json_decref(page);
                n_pages++;
        } while (*after != '\0');
        assert_int_equal(n, 25);
        assert_int_equal(n_pages, 5); /* the last one is full and says that there is none behind */
        must_answer(world, 200, "GET", "/v1/clients?after=n22", NULL, "{'items':[],'next':null}");
}

/* ---- credentials */

static void credential_key_is_told_once(void **state) {
        struct world *world = *state;
        _cleanup_(secret_done) struct secret psk = {};
        struct credential credential;
        json_t *answer = must(world, 201, "POST", "/v1/clients/c2/credentials", "{}");
        char target[64], hex[129];

        assert_string_equal(json_string_value(json_object_get(answer, "identity")), "c2");
        assert_string_equal(json_string_value(json_object_get(answer, "identity_hex")), "6332");
        assert_string_equal(json_string_value(json_object_get(answer, "kind")), "psk");

        /* it is the one that the DTLS door gets, and strong enough */
        assert_int_equal(store_psk_find(world->store, BYTES_LITERAL("c2"), &credential, &psk), 0);
        assert_int_equal(psk.size, 16);
        bytes_to_hex(secret_bytes(&psk), hex, sizeof(hex));
        assert_string_equal(json_string_value(json_object_get(answer, "key_hex")), hex);
        assert_int_equal(json_integer_value(json_object_get(answer, "id")), credential.id);
        json_decref(answer);

        must_answer(world, 200, "GET", "/v1/clients/c2/credentials", NULL,
                    "{'items':[{'id':-1,'kind':'psk','identity':'c2','identity_hex':'6332',"
                    "'created_s':1700000000}],'next':null}");

        /* not by another party's path */
        snprintf(target, sizeof(target), "/v1/clients/c1/credentials/%lld", (long long)credential.id);
        must_refuse(world, 404, "DELETE", target, NULL, "\"c1\" has no credential");
        snprintf(target, sizeof(target), "/v1/servers/rs1/credentials/%lld", (long long)credential.id);
        must_refuse(world, 404, "DELETE", target, NULL, "\"rs1\" has no credential");
        snprintf(target, sizeof(target), "/v1/clients/c2/credentials/%lld", (long long)credential.id);
        must_do(world, 204, "DELETE", target, NULL);
        assert_int_equal(store_psk_find(world->store, BYTES_LITERAL("c2"), &credential, &psk), REFUSE_ADMIN_UNKNOWN);
}

static void binary_identities(void **state) {
        struct world *world = *state;
        _cleanup_(secret_done) struct secret psk = {};
        struct credential credential;

        must_answer(world, 201, "POST", "/v1/servers/rs2/credentials",
                    "{'kind':'psk','identity_hex':'00FF00','key_hex':'" KEY_32 KEY_32 "'}",
                    "{'id':-1,'kind':'psk','identity':null,'identity_hex':'00ff00','created_s':1700000000,"
                    "'key_hex':'" KEY_32 KEY_32 "'}");
        /* and one that is taken is not told cut at its zero byte */
        must_refuse(world, 409, "POST", "/v1/servers/rs2/credentials", "{'identity_hex':'00FF00'}",
                    "this identity, which is no printable text, is taken");
        assert_int_equal(store_psk_find(world->store, bytes_of("\0\xff\0", 3), &credential, &psk), 0);
        assert_int_equal(psk.size, 64);
        assert_int_equal(store_psk_find(world->store, bytes_of("\0\xff", 2), &credential, &psk), REFUSE_ADMIN_UNKNOWN);
}

/* ---- resource servers */

/* What a resource server has when nothing else is said. */
#define SERVER_DEFAULTS "'token_format':'encrypt0','wrap_alg':'','sign_alg':'ES256','trl':false," \
        "'pop_keys':['symmetric'],'derives_key':false,'preferred_profile':'','oscore_alg':'AES-CCM-16-64-128'," \
        "'oscore_hkdf':'SHA-256','created_s':1700000000"

static void server_from_birth_to_death(void **state) {
        struct world *world = *state;
        struct server_key key = {};
        struct server server;

        must_answer(world, 201, "POST", "/v1/servers", "{'name':'new'}",
                    "{'name':'new','suspended':false,'audiences':['new'],'group_audiences':[],"
                    "'profiles':['coap_dtls'],'scopes':'','scope_kind':'text','default_scope':'',"
                    "'token_alg':'AES-CCM-16-64-128','token_tagged':false,'token_kid_hex':'','default_lifetime_s':0,"
                    "'max_lifetime_s':0,'has_clock':true," SERVER_DEFAULTS ",'token_key_hex':'*'}");
        must_answer(world, 200, "PATCH", "/v1/servers/new",
                    "{'audiences':['a2','a1'],'group_audiences':['all'],'scopes':'x  y "
                    "x','default_scope':'y',"
                    "'profiles':['coap_oscore'],'token_tagged':true,'default_lifetime_s':60,'max_lifetime_s':600,"
                    "'suspended':true}",
                    "{'name':'new','suspended':true,'audiences':['a1','a2'],'group_audiences':['all'],"
                    "'profiles':['coap_oscore'],'scopes':'x y','scope_kind':'text','default_scope':'y',"
                    "'token_alg':'AES-CCM-16-64-128','token_tagged':true,'token_kid_hex':'',"
                    "'default_lifetime_s':60,'max_lifetime_s':600,'has_clock':true," SERVER_DEFAULTS "}");
        /* one list leaves the other alone; an audience may move from one to the other */
        must_answer(world, 200, "PATCH", "/v1/servers/new",
                    "{'group_audiences':['a1','all'],'token_alg':'A256GCM','token_key_hex':'" KEY_32 "',"
                    "'token_kid_hex':'0A','scopes':'','default_scope':''}",
                    "{'name':'new','suspended':true,'audiences':['a2'],'group_audiences':['a1','all'],"
                    "'profiles':['coap_oscore'],'scopes':'','scope_kind':'text','default_scope':'',"
                    "'token_alg':'A256GCM','token_tagged':true,'token_kid_hex':'0a',"
                    "'default_lifetime_s':60,'max_lifetime_s':600,'has_clock':true," SERVER_DEFAULTS ","
                    "'token_key_hex':'" KEY_32 "'}");
        assert_int_equal(store_server_by_name(world->store, BYTES_LITERAL("new"), &server), 0);
        assert_int_equal(store_server_key_get(world->store, server.id, SERVER_KEY_TOKEN, NOW_S, &key), 0);
        assert_int_equal(key.key.size, 32);
        secret_done(&key.key);
        must_do(world, 204, "DELETE", "/v1/servers/new", NULL);
        must_refuse(world, 404, "GET", "/v1/servers/new", NULL, "there is no resource server");
        must_do(world, 201, "POST", "/v1/servers", "{'name':'new','audiences':['a1'],'token_alg':'A256GCM',"
                "'token_key_hex':'" KEY_32 "'}"); /* name, audience and key are free again */
}

static void key_is_replaced(void **state) {
        struct world *world = *state;
        json_t *first, *second;

        must_answer(world, 200, "PUT", "/v1/servers/rs1/key",
                    "{'key_hex':'00112233445566778899AABBCCDDEEFF','kid_hex':"
                    "'0102'}", "{'name':'rs1','role':'token','token_alg':'AES-CCM-16-64-128','key_hex':"
                    "'00112233445566778899aabbccddeeff','kid_hex':'0102','active_from_s':1700000000,"
                    "'created_s':1700000000}");
        first = must(world, 200, "PUT", "/v1/servers/rs2/key", "{}");
        second = must(world, 200, "PUT", "/v1/servers/rs2/key", "{}");
        assert_int_equal(json_string_length(json_object_get(first, "key_hex")), 64);
        assert_false(json_equal(json_object_get(first, "key_hex"), json_object_get(second, "key_hex")));
        assert_string_equal(json_string_value(json_object_get(second, "kid_hex")), "");
        json_decref(first);
        json_decref(second);
        /* the same again is no other party's key */
        must_do(world, 200, "PUT", "/v1/servers/rs1/key", "{'key_hex':'00112233445566778899aabbccddeeff'}");
}

/* An announced key takes its time; what was in force before is listed until no token can be under it. */
static void key_is_announced(void **state) {
        struct world *world = *state;

        must_answer(world, 200, "PUT", "/v1/servers/rs1/key",
                    "{'key_hex':'00112233445566778899aabbccddeeff','kid_hex':'02','activate_in_s':3600}",
                    "{'name':'rs1','role':'token','token_alg':'AES-CCM-16-64-128','key_hex':"
                    "'00112233445566778899aabbccddeeff','kid_hex':'02','active_from_s':1700003600,"
                    "'created_s':1700000000}");
        must_answer(world, 200, "GET", "/v1/servers/rs1/keys", NULL,
                    "{'items':[{'id':-1,'role':'token','kid_hex':'','state':'in force','active_from_s':0,"
                    "'created_s':1700000000},{'id':-1,'role':'token','kid_hex':'02','state':'announced',"
                    "'active_from_s':1700003600,'created_s':1700000000}],'next':null}");
        must_do(world, 200, "PUT", "/v1/servers/rs1/key", "{'kid_hex':'03'}"); /* takes the announced one's place */
        must_answer(world, 200, "GET", "/v1/servers/rs1/keys", NULL,
                    "{'items':[{'id':-1,'role':'token','kid_hex':'','state':'former','active_from_s':0,"
                    "'created_s':1700000000},{'id':-1,'role':'token','kid_hex':'03','state':'in force',"
                    "'active_from_s':1700000000,'created_s':1700000000}],'next':null}");
        must_refuse(world, 404, "GET", "/v1/servers/nobody/keys", NULL, "there is no resource server");
        must_refuse(world, 422, "GET", "/v1/servers/rs1/keys?x=1", NULL, "no such parameter");
        for (int i = 2; i < SERVER_KEYS_MAX; i++)
                must_do(world, 200, "PUT", "/v1/servers/rs1/key", "{}");
        must_refuse(world, 409, "PUT", "/v1/servers/rs1/key", "{}", "8 keys of this role");
}

static void make_signing_key(struct world *world) {
        unsigned n_made;

        assert_int_equal(store_begin(world->store), 0);
        assert_int_equal(store_as_keys_ensure(world->store, BYTES_LITERAL("coaps://as.example"), NOW_S, &n_made), 0);
        assert_int_equal(store_commit(world->store), 0);
}

/* Each format with the keys that it needs, which the answer shows once. */
static void formats_have_their_keys(void **state) {
        static const struct {
                const char *members;
                const char *shown; /* of the keys' roles, those with a key */
                size_t token_size;
        } rows[] = {
                { "'token_format':'encrypt0','token_alg':'AES-CCM-16-128-128'", "token", 16 },
                { "'token_format':'encrypt0','token_alg':'ChaCha20-Poly1305'", "token", 32 },
                { "'token_format':'encrypt0','derives_key':true", "token derivation", 16 },
                { "'token_format':'mac0'", "token wrap", 32 },
                { "'token_format':'mac0','token_alg':'HMAC-256-64','wrap_alg':'A256GCM'", "token wrap", 32 },
                { "'token_format':'mac0','derives_key':true", "token derivation", 32 },
                { "'token_format':'mac0','pop_keys':['P-256']", "token", 32 },
                { "'token_format':'sign1'", "token", 16 },
                { "'token_format':'sign1','pop_keys':['P-256','Ed25519','P-384','X25519']", "", 0 },
                { "'token_format':'sign1','derives_key':true", "derivation", 0 },
                { "'token_format':'sign-encrypt','token_alg':'A256GCM'", "token", 32 },
                { "'token_format':'opaque'", "", 0 },
        };
        static const char *const roles[] = { "token", "derivation", "wrap" };
        struct world *world = *state;

        make_signing_key(world);
        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                char text[256], name[32];
                json_t *answer;

                snprintf(text, sizeof(text), "{'name':'rs-%zu',%s}", i, rows[i].members);
                answer = must(world, 201, "POST", "/v1/servers", text);
                for (size_t k = 0; k < N_ELEMENTS(roles); k++) {
                        snprintf(name, sizeof(name), "%s_key_hex", roles[k]);
                        assert_int_equal(json_object_get(answer, name) != NULL, strstr(rows[i].shown, roles[k]) != NULL);
                }
                assert_int_equal(json_string_length(json_object_get(answer, "token_key_hex")),
                                 2 * rows[i].token_size);
                json_decref(answer);
        }
}

/* What comes to need a key gets one; a key is for one algorithm. */
static void changed_formats_have_their_keys(void **state) {
        struct world *world = *state;
        json_t *answer;

        make_signing_key(world);
        answer = must(world, 200, "PATCH", "/v1/servers/rs1", "{'derives_key':true}");
        assert_non_null(json_object_get(answer, "derivation_key_hex"));
        assert_null(json_object_get(answer, "token_key_hex"));
        json_decref(answer);
        must_refuse(world, 422, "PATCH", "/v1/servers/rs1", "{'token_format':'mac0'}", "32 bytes for HMAC-256-256");
        answer = must(world, 200, "PATCH", "/v1/servers/rs1",
                      "{'token_format':'mac0','derives_key':false,'token_key_hex':'" KEY_32 "'}");
        assert_non_null(json_object_get(answer, "wrap_key_hex"));
        json_decref(answer);
        answer = must(world, 200, "PATCH", "/v1/servers/rs1", "{'token_format':'opaque'}");
        assert_null(json_object_get(answer, "token_key_hex"));
        json_decref(answer);
        must_refuse(world, 422, "PUT", "/v1/servers/rs1/key", "{}", "need no token key");
        answer = must(world, 200, "PATCH", "/v1/servers/rs1", "{'token_format':'sign1'}");
        assert_int_equal(json_string_length(json_object_get(answer, "token_key_hex")), 32);
        json_decref(answer);
        must_do(world, 200, "PUT", "/v1/servers/rs1/key", "{}");
        must_refuse(world, 422, "PUT", "/v1/servers/rs1/key", "{'role':'derivation'}", "need no derivation key");
}

/*
 * Profiles of OSCORE could be registered before there was one: what does not go with it is no obstacle to other changes,
 * and no tokens of it come of that (server_takes_oscore()).
 */
static void what_came_before_the_profile_stays(void **state) {
        struct world *world = *state;
        struct server server;

        make_signing_key(world);
        must_do(world, 200, "PATCH", "/v1/servers/rs1", "{'token_format':'sign1'}");
        must_do(world, 200, "PATCH", "/v1/clients/c1", "{'profiles':['coap_dtls','coap_oscore']}");
        assert_int_equal(store_begin(world->store), 0);
        assert_int_equal(store_server_by_name(world->store, BYTES_LITERAL("rs1"), &server), 0);
        server.profiles |= PROFILE_BIT(PROFILE_COAP_OSCORE);
        assert_int_equal(store_server_update(world->store, &server), 0);
        assert_int_equal(store_commit(world->store), 0);

        must_do(world, 200, "PATCH", "/v1/servers/rs1", "{'max_lifetime_s':100,'oscore_alg':'A128GCM'}");
        must_tell(world, "/v1/explain?client=c1&audience=rs1&channel=oscore",
                  "{'decision':'granted','profile':'coap_dtls','profile_from':'parties'}");
        must_refuse(world, 422, "PATCH", "/v1/servers/rs1", "{'token_format':'sign1'}", "RFC 9203");
        must_refuse(world, 422, "PATCH", "/v1/servers/rs1", "{'profiles':['coap_oscore']}", "RFC 9203");
        must_do(world, 200, "PATCH", "/v1/servers/rs1", "{'token_format':'encrypt0'}");
}

/* AS-105: what keys are derived from is shared with one resource server, and is no other key. */
#define OTHER_16 "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf"

static void derivation_keys_are_nobody_elses(void **state) {
        struct world *world = *state;

        must_do(world, 200, "PATCH", "/v1/servers/rs1", "{'derives_key':true}");
        must_do(world, 201, "POST", "/v1/servers", "{'name':'rs3','derives_key':true,'token_key_hex':'" OTHER_16 "'}");
        must_do(world, 200, "PUT", "/v1/servers/rs1/key", "{'role':'derivation','key_hex':'" KEY_32 "'}");
        must_refuse(world, 409, "PUT", "/v1/servers/rs3/key", "{'role':'derivation','key_hex':'" KEY_32 "'}",
                    "registered already");
        must_refuse(world, 409, "PUT", "/v1/servers/rs3/key", "{'role':'derivation','key_hex':'" OTHER_16 "'}",
                    "registered already");
        must_refuse(world, 409, "POST", "/v1/clients/c1/credentials", "{'key_hex':'" KEY_32 "'}", "registered already");
        must_refuse(world, 422, "PUT", "/v1/servers/rs3/key", "{'role':'derivation','key_hex':'0102'}", "16 to 64");
}

/* AS-065: one token for all of a group, so that all must be able to read it. */
static void groups_agree(void **state) {
        struct world *world = *state;

        must_do(world, 201, "POST", "/v1/servers", "{'name':'l1','group_audiences':['lights']}");
        must_refuse(world, 409, "POST", "/v1/servers", "{'name':'l2','group_audiences':['lights'],'sign_alg':'ES384'}",
                    "\"lights\": resource server l1 has another sign_alg");
        must_refuse(world, 409, "POST", "/v1/servers",
                    "{'name':'l2','group_audiences':['lights'],'scope_kind':'bytes'}", "another sign_alg or scope_kind");
        must_do(world, 201, "POST", "/v1/servers",
                "{'name':'l2','group_audiences':['lights'],'sign_alg':'ES384','suspended':true}");
        must_refuse(world, 409, "PATCH", "/v1/servers/l2", "{'suspended':false}", "resource server l1 has another");
        must_do(world, 200, "PATCH", "/v1/servers/l2", "{'sign_alg':'ES256','suspended':false}");
        must_refuse(world, 409, "PATCH", "/v1/servers/l2", "{'sign_alg':'EdDSA'}", "resource server l1 has another");
        must_refuse(world, 422, "PATCH", "/v1/servers/l2", "{'has_clock':false,'default_lifetime_s':60}",
                    "is in no group audience");
}

static void audiences_with_policies_stay(void **state) {
        struct world *world = *state;

        must_refuse(world, 409, "PATCH", "/v1/servers/rs1", "{'audiences':['coaps://rs1']}", "delete them first");
        /* nobody's rights stand on this one */
        must_do(world, 200, "PATCH", "/v1/servers/rs1", "{'audiences':['rs1']}");
        /* of a group audience any member but the last may leave */
        must_do(world, 201, "POST", "/v1/servers",
                "{'name':'rs3','group_audiences':['all'],'scope_kind':'bytes'}");
        must_do(world, 200, "PATCH", "/v1/servers/rs2", "{'group_audiences':[]}");
        must_refuse(world, 409, "PATCH", "/v1/servers/rs3", "{'group_audiences':[]}", "\"all\" has policies");
}

/* ---- policies */

/* What policies of the usual kind have beside what is asked for. */
#define PLAIN "'effect':'allow','shadow':false,'advance_s':0,'days':'','hours':'','created_s':1700000000"

static void policies_are_listed_by_subject_and_audience(void **state) {
        struct world *world = *state;

        /* a label and a client of the same name are two subjects */
        must_do(world, 201, "POST", "/v1/policies", "{'label':'c1','audience':'rs1','scope':'write'}");
        must_answer(world, 201, "POST", "/v1/policies",
                    "{'client':'c1','audience':'coaps://rs1','scope':'write read','max_lifetime_s':60,"
                    "'from_s':5,'until_s':1800000000}",
                    "{'id':-1,'client':'c1','label':null,'audience':'coaps://rs1','scope':'write read',"
                    "'max_lifetime_s':60,'from_s':5,'until_s':1800000000," PLAIN "}");
        must_answer(world, 200, "GET", "/v1/policies?client=c1&audience=rs1", NULL,
                    "{'items':[{'id':-1,'client':'c1','label':null,'audience':'rs1','scope':'read',"
                    "'max_lifetime_s':0,'from_s':0,'until_s':0," PLAIN "}],'next':null}");
        must_answer(world, 200, "GET", "/v1/policies?label=c1", NULL,
                    "{'items':[{'id':-1,'client':null,'label':'c1','audience':'rs1','scope':'write',"
                    "'max_lifetime_s':0,'from_s':0,'until_s':0," PLAIN "}],'next':null}");
        must_answer(world, 200, "GET", "/v1/policies?audience=all", NULL,
                    "{'items':[{'id':-1,'client':null,'label':'sensors','audience':'all','scope':'hex:0102',"
                    "'max_lifetime_s':0,'from_s':0,'until_s':0," PLAIN "}],'next':null}");
        must_answer(world, 200, "GET", "/v1/policies?client=c2", NULL, "{'items':[],'next':null}");
}

/* A filter thins pages out, but none is lost and the walk ends. */
static void policies_of_all_kinds(void **state) {
        struct world *world = *state;

        must_answer(world, 201, "POST", "/v1/policies",
                    "{'label':'floor:2','audience':'rs1','scope':'read','effect':'deny','shadow':true,'days':'sat,sun',"
                    "'hours':'22:00-06:00'}",
                    "{'id':-1,'client':null,'label':'floor:2','audience':'rs1','scope':'read','effect':'deny',"
                    "'shadow':true,'max_lifetime_s':0,'from_s':0,'until_s':0,'advance_s':0,'days':'sat-sun',"
                    "'hours':'22:00-06:00','created_s':1700000000}");
        must_answer(world, 201, "POST", "/v1/policies", "{'client':'c1','audience':'${floor}-lights','effect':'deny'}",
                    "{'id':-1,'client':'c1','label':null,'audience':'${floor}-lights','scope':'','effect':'deny',"
                    "'shadow':false,'max_lifetime_s':0,'from_s':0,'until_s':0,'advance_s':0,'days':'','hours':'',"
                    "'created_s':1700000000}");
        must_answer(world, 201, "POST", "/v1/policies", /* no limit at all */
                    "{'client':'c1','audience':'rs1','scope':'read ${client}:own','days':'mon-sun','hours':'00:00-24:00',"
                    "'max_lifetime_s':5}",
                    "{'id':-1,'client':'c1','label':null,'audience':'rs1','scope':'read ${client}:own',"
                    "'max_lifetime_s':5,'from_s':0,'until_s':0," PLAIN "}");
        /* each is another one than a plain one; none is there twice */
        must_do(world, 201, "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read','shadow':true}");
        must_do(world, 201, "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read','effect':'deny'}");
        must_do(world, 201, "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read','days':'mon'}");
        must_do(world, 201, "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'read','from_s':9}");
        must_do(world, 201, "POST", "/v1/policies",
                "{'client':'c1','audience':'rs1','scope':'read','from_s':9,'advance_s':9}");
        must_do(world, 201, "POST", "/v1/policies", "{'client':'c1','audience':'rs1','effect':'deny'}");
        must_refuse(world, 409, "POST", "/v1/policies", "{'client':'c1','audience':'rs1','scope':'','effect':'deny'}",
                    "an equal policy");
        must_refuse(world, 409, "POST", "/v1/policies",
                    "{'client':'c1','audience':'rs1','scope':'read','effect':'allow','days':'MON'}", "an equal policy");
}

static void filtered_pages_are_complete(void **state) {
        struct world *world = *state;
        char target[96], after[32] = "0", body[128];
        size_t n = 0;

        for (int i = 1; i <= 9; i++) {
                snprintf(body, sizeof(body),
                         "{'%s':'c2','audience':'rs1','scope':'read','max_lifetime_s':%d}",
                         i % 3 == 0 ? "client" : "label", i);
                must_do(world, 201, "POST", "/v1/policies", body);
        }
        while (*after != '\0') {
                json_t *page;
                const char *next;

                snprintf(target, sizeof(target), "/v1/policies?client=c2&limit=2&after=%s", after);
                page = must(world, 200, "GET", target, NULL);
                n += json_array_size(json_object_get(page, "items"));
                next = json_string_value(json_object_get(page, "next"));
                snprintf(after, sizeof(after), "%s", next ? next : "");
                json_decref(page);
        }
        assert_int_equal(n, 3);
}

static void policy_for_a_suspended_server(void **state) {
        struct world *world = *state;

        must_do(world, 200, "PATCH", "/v1/servers/rs1", "{'suspended':true}");
        must_do(world, 201, "POST", "/v1/policies", "{'client':'c2','audience':'rs1','scope':'read'}");
}

static void policy_is_deleted(void **state) {
        struct world *world = *state;
        json_t *answer = must(world, 201, "POST", "/v1/policies",
                              "{'client':'c2','audience':'rs1','scope':'read'}");
        char target[64];

        snprintf(target, sizeof(target), "/v1/policies/%lld",
                 (long long)json_integer_value(json_object_get(answer, "id")));
        json_decref(answer);
        must_do(world, 204, "DELETE", target, NULL);
        must_refuse(world, 404, "DELETE", target, NULL, "there is no policy");
}

/* ---- explain */

static const struct {
        const char *before_target, *before_body; /* a PATCH first; NULL: none */
        const char *query, *expected;
} explained[] = {
        { NULL, NULL, "client=c1&audience=rs1&scope=read write fly",
          "{'decision':'granted','refusal':null,'why':'*','client':'c1','audience':'rs1','server':'rs1',"
          "'asked_scope':'read write fly','allowed_scope':'read','granted_scope':'read','dropped':[{'scope':'write',"
          "'reason':'no policy of this client or its labels allows it'},{'scope':'fly',"
          "'reason':'the resource server has no such scope'}],'policies':[{'id':-1,'for':'client','name':'c1',"
          "'scope':'read'}],'n_policies':1,'lifetime_s':3600,'lifetime_from':'configuration','profile':'coap_dtls',"
          "'profile_from':'parties'}" },
        { NULL, NULL, "client=c1&audience=rs1", /* the default scope */
          "{'decision':'granted','refusal':null,'why':'*','client':'c1','audience':'rs1','server':'rs1',"
          "'asked_scope':'','allowed_scope':'read','granted_scope':'read','dropped':[],'policies':[{'id':-1,"
          "'for':'client','name':'c1','scope':'read'}],'n_policies':1,'lifetime_s':3600,"
          "'lifetime_from':'configuration','profile':'coap_dtls',"
          "'profile_from':'parties'}" },
        { NULL, NULL, "client=c2&audience=rs1&scope=read", /* nobody allowed it */
          "{'decision':'refused','refusal':'audience',"
          "'why':'RFC 9200 §5.8.2: no active policy lets the client use the audience','client':'c2','audience':'rs1',"
          "'server':'rs1','asked_scope':'read','allowed_scope':'','granted_scope':'','dropped':[],'policies':[],"
          "'n_policies':0,'lifetime_s':0,'lifetime_from':null,'profile':null,"
          "'profile_from':null}" },
        { NULL, NULL, "client=c1&audience=rs1&scope=write",
          "{'decision':'refused','refusal':'scope',"
          "'why':'RFC 6749 §3.3: no active policy allows any part of the scope','client':'c1','audience':'rs1',"
          "'server':'rs1','asked_scope':'write','allowed_scope':'read','granted_scope':'',"
          "'dropped':[{'scope':'write','reason':'no policy of this client or its labels allows it'}],'policies':[],"
          "'n_policies':0,'lifetime_s':0,'lifetime_from':null,'profile':null,"
          "'profile_from':null}" },
        { "/v1/servers/rs1", "{'default_scope':'write'}", "client=c1&audience=rs1",
          "{'decision':'refused','refusal':'scope','why':'RFC 6749 §3.3: no scope is asked, and no active policy allows "
          "any part of the default scope','client':'c1','audience':'rs1','server':'rs1','asked_scope':'',"
          "'allowed_scope':'read','granted_scope':'',"
          "'dropped':[{'scope':'write','reason':'no policy of this client or its labels allows it'}],'policies':[],"
          "'n_policies':0,'lifetime_s':0,'lifetime_from':null,'profile':null,"
          "'profile_from':null}" },
        { "/v1/servers/rs1", "{'default_scope':''}", "client=c1&audience=rs1",
          "{'decision':'refused','refusal':'no-scope','why':'RFC 6749 §3.3: no scope is asked and the resource server "
          "has no default scope','client':'c1','audience':'rs1','server':'rs1','asked_scope':'','allowed_scope':'',"
          "'granted_scope':'','dropped':[],'policies':[],'n_policies':0,'lifetime_s':0,'lifetime_from':null,"
          "'profile':null,'profile_from':null}" },
        { NULL, NULL, "client=c1&audience=rs9",
          "{'decision':'refused','refusal':'audience','why':'RFC 9200 §5.8.2: no resource server has the audience',"
          "'client':'c1','audience':'rs9','server':'','asked_scope':'','allowed_scope':'','granted_scope':'',"
          "'dropped':[],'policies':[],'n_policies':0,'lifetime_s':0,'lifetime_from':null,'profile':null,"
          "'profile_from':null}" },
        { "/v1/servers/rs1", "{'suspended':true}", "client=c1&audience=rs1",
          "{'decision':'refused','refusal':'audience','why':'RFC 9200 §5.8.2: the resource server is suspended',"
          "'client':'c1','audience':'rs1','server':'rs1','asked_scope':'','allowed_scope':'','granted_scope':'',"
          "'dropped':[],'policies':[],'n_policies':0,'lifetime_s':0,'lifetime_from':null,'profile':null,"
          "'profile_from':null}" },
        { "/v1/clients/c1", "{'suspended':true}", "client=c1&audience=all&scope=hex:0102",
          "{'decision':'refused','refusal':'suspended-client','why':'*','client':'c1','audience':'all',"
          "'server':'rs2','asked_scope':'hex:0102','allowed_scope':'','granted_scope':'','dropped':[],'policies':[],"
          "'n_policies':0,'lifetime_s':0,'lifetime_from':null,'profile':null,"
          "'profile_from':null}" },
};

static void decisions_are_explained(void **state) {
        struct world *world = *state;

        for (size_t i = 0; i < N_ELEMENTS(explained); i++) {
                char target[128];

                if (explained[i].before_target)
                        must_do(world, 200, "PATCH", explained[i].before_target, explained[i].before_body);
                snprintf(target, sizeof(target), "/v1/explain?%s", explained[i].query);
                must_tell(world, target, explained[i].expected);
        }
}

static void policies_out_of_their_time_are_told(void **state) {
        struct world *world = *state;
        json_t *answer, *dropped;

        must_do(world, 201, "POST", "/v1/policies",
                "{'client':'c1','audience':'rs1','scope':'write','from_s':1700000001}");
        answer = must(world, 200, "GET", "/v1/explain?client=c1&audience=rs1&scope=read write", NULL);
        dropped = json_array_get(json_object_get(answer, "dropped"), 0);
        assert_string_equal(json_string_value(json_object_get(dropped, "scope")), "write");
        assert_string_equal(json_string_value(json_object_get(dropped, "reason")),
                            "a policy allows it, but not at this time");
        json_decref(answer);
}

/* ---- tokens */

static uint64_t add_token(struct world *world, uint8_t mark, int64_t expires_s) {
        struct grant grant = { .audience = "rs1", .scope = { .kind = SCOPE_TEXT, .size = 4, .data = "read" },
                               .profile = PROFILE_COAP_DTLS, .issued_s = NOW_S - 100, .expires_s = expires_s,
                               .pop_key = { .size = 16 } };
        uint8_t hash[TOKEN_HASH_SIZE] = { mark };
        struct client client;
        struct server server;

        assert_int_equal(store_client_by_name(world->store, BYTES_LITERAL("c1"), &client), 0);
        assert_int_equal(store_server_by_name(world->store, BYTES_LITERAL("rs1"), &server), 0);
        assert_int_equal(store_begin(world->store), 0);
        assert_int_equal(store_number(world->store, NUMBER_TOKEN, &grant.number), 0);
        grant.key_number = grant.number;
        grant.client_id = client.id;
        grant.server_id = server.id;
        assert_int_equal(store_token_add(world->store, &grant, hash), 0);
        assert_int_equal(store_commit(world->store), 0);
        return grant.number;
}

static size_t count_tokens(struct world *world, const char *query) {
        char target[128];
        json_t *page;
        size_t n;

        snprintf(target, sizeof(target), "/v1/tokens%s", query);
        page = must(world, 200, "GET", target, NULL);
        n = json_array_size(json_object_get(page, "items"));
        json_decref(page);
        return n;
}

static void must_be_in_state(struct world *world, const char *target, const char *expected) {
        json_t *token = must(world, 200, "GET", target, NULL);

        assert_string_equal(json_string_value(json_object_get(token, "state")), expected);
        json_decref(token);
}

static void tokens_are_shown_and_revoked(void **state) {
        struct world *world = *state;
        uint64_t live = add_token(world, 1, NOW_S + 100);
        char target[64];

        add_token(world, 2, NOW_S - 1);
        assert_int_equal(count_tokens(world, ""), 1);
        assert_int_equal(count_tokens(world, "?all=false"), 1);
        assert_int_equal(count_tokens(world, "?all=true"), 2);
        assert_int_equal(count_tokens(world, "?client=c1&server=rs1&all=true"), 2);
        assert_int_equal(count_tokens(world, "?client=c2"), 0);
        assert_int_equal(count_tokens(world, "?server=rs2"), 0);

        snprintf(target, sizeof(target), "/v1/tokens/%08llx", (unsigned long long)live);
        must_answer(world, 200, "GET", target, NULL,
                    "{'cti':'*','state':'live','client':'c1','server':'rs1','audience':'rs1','scope':'read',"
                    "'profile':'coap_dtls','kid':'*','issued_s':1699999900,'expires_s':1700000100,'revoked_s':0}");
        must_do(world, 204, "DELETE", target, NULL);
        must_be_in_state(world, target, "revoked");
        must_do(world, 204, "DELETE", target, NULL); /* twice is no fault */
        assert_int_equal(count_tokens(world, ""), 0);
        assert_int_equal(count_tokens(world, "?all=true"), 2);
}

/* AS-009: who is removed has no live token any more, and what is left names who it was. */
static void deleting_a_party_revokes_its_tokens(void **state) {
        static const char *const parties[] = { "/v1/clients/c1", "/v1/servers/rs1" };

        for (size_t i = 0; i < N_ELEMENTS(parties); i++) {
                struct world *world;
                uint64_t number;
                char target[64];

                assert_int_equal(setup(state), 0);
                world = *state;
                number = add_token(world, 1, NOW_S + 100);
                snprintf(target, sizeof(target), "/v1/tokens/%08llx", (unsigned long long)number);
                must_be_in_state(world, target, "live");
                must_do(world, 204, "DELETE", parties[i], NULL);
                must_be_in_state(world, target, "revoked");
                assert_int_equal(count_tokens(world, "?all=true"), 1);
                assert_int_equal(teardown(state), 0);
        }
}

/* ---- status and configuration */

static int fill_status(void *context, void *object) {
        return json_object_set_new(object, "listen", json_array()) == 0 ? *(int *)context : -ENOMEM;
}

static int tell_figures(void *context, const struct figure_sink *sink) {
        static const struct figure figures[] = { { .group = "figures", .name = "cats" },
                                                 { .group = "figures", .name = "dogs" },
                                                 { .group = "limits", .name = "cats_max" } };
        int r = 0;

        for (size_t i = 0; i < N_ELEMENTS(figures) && r == 0; i++)
                r = sink->put(sink->context, &figures[i], 7 + i);
        return r;
}

static void status_is_told(void **state) {
        struct world *world = *state;
        int result = 0;
        struct status_source source = { .fill = fill_status, .figures = tell_figures, .context = &result };

        world->as.status = &source;
        for (int i = 0; i < 3; i++)
                metrics_observe(&world->as.metrics, HISTOGRAM_COMMIT, 20);
        for (int i = 0; i < 2; i++)
                metrics_answered(&world->as.metrics, NULL, CODE_NOT_FOUND, REFUSE_NOT_FOUND);
        must_answer(world, 200, "GET", "/v1/status", NULL,
                    "{'version':'*','started_s':1699999990,'uptime_s':10,'store':{'schema_version':-1,"
                    "'database_size':-1,'wal_size':-1,'clients':2,'servers':2,'policies':2,'tokens':0},"
                    "'listen':[],"
                    "'requests':{'POST /v1/clients':{'2.01':2},'POST /v1/clients/{}/credentials':{'2.01':1},"
                    "'POST /v1/servers':{'2.01':2},'POST /v1/servers/{}/credentials':{'2.01':1},"
                    "'POST /v1/policies':{'2.01':2},'no resource':{'4.04':2}},'refusals':{'not-found':2},"
                    "'latency_us':{'count':0,'mean':0,'half_within':null,'90_percent_within':null,"
                    "'99_percent_within':null},"
                    "'commit_us':{'count':3,'mean':20,'half_within':100,'90_percent_within':100,"
                    "'99_percent_within':100},"
                    "'batch_requests':{'count':0,'mean':0,'half_within':null,'90_percent_within':null,"
                    "'99_percent_within':null},"
                    "'process':{'start_time_seconds':1699999990,'uptime_seconds':10,'decisions':9,"
                    "'shadow_differences':0,'tokens_purged':0,"
                    "'purge_lag_seconds':0,'database_bytes':-1,'wal_bytes':-1},"
                    "'audit':{'audit_purged':0,'audit_rows':8,'audit_newest':8},"
                    "'figures':{'cats':7,'dogs':8},'limits':{'cats_max':9},'keys':[]}");
        result = -ENOMEM;
        log_set_level((enum log_level)0);
        assert_int_equal(ask(world, "GET", "/v1/status", NULL, NULL), 500);
}

static void configuration_is_told(void **state) {
        struct world *world = *state;
        json_t *answer = must(world, 200, "GET", "/v1/config", NULL), *items = json_object_get(answer, "items");
        const char *section, *key, *help;
        unsigned n = 0;

        while (config_option(n, &section, &key, &help)) {
                json_t *item = json_array_get(items, n++);

                assert_string_equal(json_string_value(json_object_get(item, "section")), section);
                assert_string_equal(json_string_value(json_object_get(item, "key")), key);
        }
        assert_int_equal(json_array_size(items), n);
        json_decref(answer);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(refused_requests_change_nothing, setup, teardown),
                cmocka_unit_test_setup_teardown(keys_are_not_told_in_errors, setup, teardown),
                cmocka_unit_test_setup_teardown(failing_randomness_changes_nothing, setup, teardown),
                cmocka_unit_test_setup_teardown(client_from_birth_to_death, setup, teardown),
                cmocka_unit_test_setup_teardown(names_at_their_limits, setup, teardown),
                cmocka_unit_test_setup_teardown(pages_are_complete, setup, teardown),
                cmocka_unit_test_setup_teardown(credential_key_is_told_once, setup, teardown),
                cmocka_unit_test_setup_teardown(binary_identities, setup, teardown),
                cmocka_unit_test_setup_teardown(server_from_birth_to_death, setup, teardown),
                cmocka_unit_test_setup_teardown(key_is_announced, setup, teardown),
                cmocka_unit_test_setup_teardown(formats_have_their_keys, setup, teardown),
                cmocka_unit_test_setup_teardown(changed_formats_have_their_keys, setup, teardown),
                cmocka_unit_test_setup_teardown(what_came_before_the_profile_stays, setup, teardown),
                cmocka_unit_test_setup_teardown(derivation_keys_are_nobody_elses, setup, teardown),
                cmocka_unit_test_setup_teardown(groups_agree, setup, teardown),
                cmocka_unit_test_setup_teardown(key_is_replaced, setup, teardown),
                cmocka_unit_test_setup_teardown(audiences_with_policies_stay, setup, teardown),
                cmocka_unit_test_setup_teardown(policies_are_listed_by_subject_and_audience, setup, teardown),
                cmocka_unit_test_setup_teardown(policies_of_all_kinds, setup, teardown),
                cmocka_unit_test_setup_teardown(filtered_pages_are_complete, setup, teardown),
                cmocka_unit_test_setup_teardown(policy_for_a_suspended_server, setup, teardown),
                cmocka_unit_test_setup_teardown(policy_is_deleted, setup, teardown),
                cmocka_unit_test_setup_teardown(decisions_are_explained, setup, teardown),
                cmocka_unit_test_setup_teardown(policies_out_of_their_time_are_told, setup, teardown),
                cmocka_unit_test_setup_teardown(tokens_are_shown_and_revoked, setup, teardown),
                cmocka_unit_test(deleting_a_party_revokes_its_tokens),
                cmocka_unit_test_setup_teardown(status_is_told, setup, teardown),
                cmocka_unit_test_setup_teardown(configuration_is_told, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
