/*
 * How many bytes an answer of /token has, for each kind of key and each format of tokens, beside a floor: what is to be
 * said without what says where it stands. The sizes are computed here from RFC 8949's heads alone, byte for byte, so
 * that nothing comes in unseen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/token.h"
#include "store/as_keys.h"
#include "support/edn.h"
#include "support/world.h"

#define ANSWER_MAX 160     /* bytes, with a symmetric key and one short scope: the least that tokens can be */
#define ISSUER_SIZE 4      /* "aced" */
#define NAME_SIZE 3        /* of the audience */
#define SCOPE_SIZE 4       /* "read" */
#define NUMBER_SIZE 4      /* cti, kid */
#define KEY_SIZE 16
#define SIGNER_KID_SIZE 4
#define OPAQUE_SIZE 24

enum key_kind { SYMMETRIC, DERIVED, P256, ED25519, OSCORE, OSCORE_UPDATE };
enum format { ENCRYPT0, MAC0, SIGN1, NESTED, OPAQUE };
enum tags { BARE, TAGGED, PROTECTED };

/* alg, sign_alg: how long the algorithms' numbers are; nonce, proof, signature: how long those are */
struct row {
        enum key_kind key;
        enum format format;
        enum tags tags;
        size_t alg, nonce, proof, sign_alg, signature;
        const char *members; /* of the registration */
};

#define CCM_64 1, 13, 8
#define NO_AEAD 0, 0, 0
#define KEYS_P256 ",\"pop_keys\":[\"P-256\"]"
#define KEYS_ED ",\"pop_keys\":[\"Ed25519\"]"
#define DERIVES ",\"derives_key\":true"
#define PROFILE_OSCORE ",\"profiles\":[\"coap_oscore\"]"

static const struct row rows[] = {
        { SYMMETRIC, ENCRYPT0, BARE, CCM_64, 0, 0, "" },
        { SYMMETRIC, ENCRYPT0, TAGGED, CCM_64, 0, 0, ",\"token_tagged\":true" },
        { SYMMETRIC, ENCRYPT0, PROTECTED, CCM_64, 0, 0, ",\"trl\":true" },
        { SYMMETRIC, ENCRYPT0, BARE, 2, 13, 16, 0, 0, ",\"token_alg\":\"AES-CCM-16-128-128\"" },
        { SYMMETRIC, ENCRYPT0, BARE, 1, 12, 16, 0, 0, ",\"token_alg\":\"A128GCM\"" },
        { SYMMETRIC, ENCRYPT0, BARE, 1, 12, 16, 0, 0, ",\"token_alg\":\"A256GCM\"" },
        { SYMMETRIC, ENCRYPT0, BARE, 2, 12, 16, 0, 0, ",\"token_alg\":\"ChaCha20-Poly1305\"" },
        { SYMMETRIC, MAC0, BARE, 1, 13, 8, 1, 32, ",\"token_format\":\"mac0\"" },
        { SYMMETRIC, MAC0, BARE, 1, 13, 8, 1, 8, ",\"token_format\":\"mac0\",\"token_alg\":\"HMAC-256-64\"" },
        { SYMMETRIC, MAC0, TAGGED, 1, 13, 8, 1, 8,
          ",\"token_format\":\"mac0\",\"token_alg\":\"HMAC-256-64\",\"token_tagged\":true" },
        { SYMMETRIC, SIGN1, BARE, CCM_64, 1, 64, ",\"token_format\":\"sign1\"" },
        { SYMMETRIC, SIGN1, TAGGED, CCM_64, 1, 64, ",\"token_format\":\"sign1\",\"token_tagged\":true" },
        { SYMMETRIC, SIGN1, PROTECTED, CCM_64, 1, 64, ",\"token_format\":\"sign1\",\"trl\":true" },
        { SYMMETRIC, SIGN1, BARE, CCM_64, 1, 64, ",\"token_format\":\"sign1\",\"sign_alg\":\"EdDSA\"" },
        { SYMMETRIC, SIGN1, BARE, CCM_64, 2, 96, ",\"token_format\":\"sign1\",\"sign_alg\":\"ES384\"" },
        { SYMMETRIC, NESTED, BARE, CCM_64, 1, 64, ",\"token_format\":\"sign-encrypt\"" },
        { SYMMETRIC, NESTED, PROTECTED, CCM_64, 1, 64, ",\"token_format\":\"sign-encrypt\",\"trl\":true" },
        { SYMMETRIC, OPAQUE, BARE, NO_AEAD, 0, 0, ",\"token_format\":\"opaque\"" },
        { DERIVED, ENCRYPT0, BARE, CCM_64, 0, 0, DERIVES },
        { DERIVED, MAC0, BARE, NO_AEAD, 1, 8, ",\"token_format\":\"mac0\",\"token_alg\":\"HMAC-256-64\"" DERIVES },
        { DERIVED, SIGN1, BARE, NO_AEAD, 1, 64, ",\"token_format\":\"sign1\"" DERIVES },
        { P256, ENCRYPT0, BARE, CCM_64, 0, 0, KEYS_P256 },
        { P256, MAC0, BARE, NO_AEAD, 1, 8, ",\"token_format\":\"mac0\",\"token_alg\":\"HMAC-256-64\"" KEYS_P256 },
        { P256, SIGN1, BARE, NO_AEAD, 1, 64, ",\"token_format\":\"sign1\"" KEYS_P256 },
        { P256, NESTED, BARE, CCM_64, 1, 64, ",\"token_format\":\"sign-encrypt\"" KEYS_P256 },
        { P256, OPAQUE, BARE, NO_AEAD, 0, 0, ",\"token_format\":\"opaque\"" KEYS_P256 },
        { ED25519, ENCRYPT0, BARE, CCM_64, 0, 0, KEYS_ED },
        { ED25519, SIGN1, BARE, NO_AEAD, 1, 64, ",\"token_format\":\"sign1\",\"sign_alg\":\"EdDSA\"" KEYS_ED },
        { OSCORE, ENCRYPT0, BARE, CCM_64, 0, 0, PROFILE_OSCORE },
        { OSCORE, ENCRYPT0, TAGGED, CCM_64, 0, 0, PROFILE_OSCORE ",\"token_tagged\":true" },
        { OSCORE, ENCRYPT0, PROTECTED, CCM_64, 0, 0, PROFILE_OSCORE ",\"trl\":true" },
        { OSCORE, NESTED, BARE, CCM_64, 1, 64, PROFILE_OSCORE ",\"token_format\":\"sign-encrypt\"" },
        { OSCORE, NESTED, PROTECTED, CCM_64, 1, 64, PROFILE_OSCORE ",\"token_format\":\"sign-encrypt\",\"trl\":true" },
        { OSCORE, OPAQUE, BARE, NO_AEAD, 0, 0, PROFILE_OSCORE ",\"token_format\":\"opaque\"" },
        { OSCORE_UPDATE, ENCRYPT0, BARE, CCM_64, 0, 0, PROFILE_OSCORE },
        { OSCORE_UPDATE, NESTED, BARE, CCM_64, 1, 64, PROFILE_OSCORE ",\"token_format\":\"sign-encrypt\"" },
        { OSCORE_UPDATE, OPAQUE, BARE, NO_AEAD, 0, 0, PROFILE_OSCORE ",\"token_format\":\"opaque\"" },
};

/* ---- sizes (RFC 8949 §3) */

/* A string, an array or a map head of that argument, and the string behind it. */
static size_t head(size_t argument) {
        return argument < 24 ? 1 : argument < 256 ? 2 : 3;
}

static size_t string(size_t size) {
        return head(size) + size;
}

#define MAP 1        /* of at most 23 pairs */
#define ARRAY 1
#define LABEL 1
#define SMALL 1      /* an integer below 24 */
#define TIME 5       /* seconds since 1970 */
#define EXPIRES_IN 3 /* 3600 */

/* What stands for the key in a cnf: { 1: COSE_Key }, { 4: osc } with id, ms, salt and contextId, { 3: id } */
static size_t cose_key(enum key_kind kind, bool by_value) {
        size_t size = MAP + LABEL + SMALL;

        if (kind == OSCORE)
                return MAP + LABEL + string(NUMBER_SIZE) + LABEL + string(KEY_SIZE) + LABEL + string(OSC_SALT_SIZE) +
                       LABEL + string(OSC_CONTEXT_ID_SIZE);
        if (kind == OSCORE_UPDATE)
                return string(NUMBER_SIZE);
        if (kind == P256)
                return size + LABEL + SMALL + LABEL + string(32) + LABEL + string(32);
        if (kind == ED25519)
                return size + LABEL + SMALL + LABEL + string(32);
        return size + LABEL + string(NUMBER_SIZE) + (by_value ? LABEL + string(KEY_SIZE) : 0);
}

/* All but what is encrypted or signed in it: { 1: alg }, and beside or in it kid and nonce. */
static size_t headers(const struct row *row, size_t alg, size_t kid, size_t nonce) {
        size_t others = (kid > 0 ? LABEL + string(kid) : 0) + (nonce > 0 ? LABEL + string(nonce) : 0);

        if (row->tags == PROTECTED)
                return string(MAP + LABEL + alg + others) + MAP;
        return string(MAP + LABEL + alg) + MAP + others;
}

static size_t encrypt0(const struct row *row, size_t plain) {
        return ARRAY + headers(row, row->alg, 0, row->nonce) + string(plain + row->proof);
}

static size_t proven(const struct row *row, size_t kid, size_t claims) {
        return ARRAY + headers(row, row->sign_alg, kid, 0) + string(claims) + string(row->signature);
}

static bool is_readable(const struct row *row) {
        return row->format == MAC0 || row->format == SIGN1;
}

static size_t cnf_claim(const struct row *row) {
        const struct row bare = { .alg = row->alg, .nonce = row->nonce, .proof = row->proof };
        size_t key = cose_key(row->key, row->key != DERIVED);

        /* the one that is encrypted has its headers as it likes */
        return MAP + LABEL + (row->key == SYMMETRIC && is_readable(row) ? encrypt0(&bare, key) : key);
}

static size_t claims_but_cnf(void) {
        return MAP + LABEL + string(ISSUER_SIZE) + LABEL + string(NAME_SIZE) + LABEL + TIME + LABEL + TIME + LABEL +
               string(NUMBER_SIZE) + LABEL + string(SCOPE_SIZE) + LABEL;
}

static size_t token_size(const struct row *row) {
        size_t claims = claims_but_cnf() + cnf_claim(row), tags = row->tags == BARE ? 0 : 3;

        switch (row->format) {
        case ENCRYPT0:
                return tags + encrypt0(row, claims);
        case MAC0:
                return tags + proven(row, 0, claims);
        case SIGN1:
                return tags + proven(row, SIGNER_KID_SIZE, claims);
        case NESTED:
                return tags + encrypt0(row, 1 + proven(row, SIGNER_KID_SIZE, claims));
        default:
                return OPAQUE_SIZE;
        }
}

/* A new key goes to the client; of public ones the server's (RFC 9201 §3.2), under a label of two bytes. */
static size_t answer_but_token(const struct row *row) {
        bool is_public = row->key == P256 || row->key == ED25519;
        size_t key = is_public ? 2 + MAP + LABEL + cose_key(row->key, true) :
                     row->key == OSCORE_UPDATE ? 0 : /* the client has it (RFC 9203 §3.2) */
                     LABEL + MAP + LABEL + cose_key(row->key == OSCORE ? OSCORE : SYMMETRIC, true);

        return MAP + LABEL + LABEL + EXPIRES_IN + key;
}

/* Claims with their keys, proofs and nonces, the rest of the answer: without a byte of COSE. */
static size_t floor_of(const struct row *row) {
        size_t key = MAP + LABEL + cose_key(row->key, row->key != DERIVED);

        if (row->format == OPAQUE)
                return answer_but_token(row) + OPAQUE_SIZE;
        return answer_but_token(row) + claims_but_cnf() + key + row->proof + row->nonce + row->signature;
}

/* ---- what is answered */

#define P256_KEY                                                                                                      \
        "{1: 2, -1: 1, -2: h'60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6', "                     \
        "-3: h'7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299'}"
#define P256_HEX                                                                                                      \
        "a40102200121582060fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"                            \
        "2258207903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
#define ED_KEY "{1: 1, -1: 6, -2: h'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a'}"
#define ED_HEX "a301012006215820d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
#define SERVER_P256_HEX                                                                                               \
        "a401022001215820e2534a3532d08fbba02dde659ee62bd0031fe2db785596ef509302446b030852"                            \
        "225820e0f1575a4c633cc719dfee5fda862d764efc96c3f30ee0055c42c23f184ed8c6"
#define SERVER_ED_HEX "a30101200621582019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"

static void admin(struct world *world, enum method method, const char *target, const char *json) {
        _cleanup_(call_done) struct call call;

        call_set(&call, &world_admin, method, target, json);
        world_run(world, &call, 1);
        if (!call_is_yes(&call))
                fail_msg("%s %s: %s", target, json, call.work.response.why);
}

static int setup(void **state) {
        static struct world world;
        unsigned n_made;

        world_init(&world);
        assert_int_equal(world_open(&world, NULL), 0);
        world_fill(&world);
        assert_int_equal(store_begin(world.store), 0);
        assert_int_equal(store_as_keys_ensure(world.store, BYTES_LITERAL("coaps://as"), WORLD_NOW_S, &n_made), 0);
        assert_int_equal(store_commit(world.store), 0);
        admin(&world, METHOD_POST, "/v1/keys", "{\"role\":\"sign\",\"alg\":\"ES384\"}");
        admin(&world, METHOD_POST, "/v1/keys", "{\"role\":\"sign\",\"alg\":\"EdDSA\"}");
        admin(&world, METHOD_PATCH, "/v1/clients/C1", "{\"profiles\":[\"coap_dtls\",\"coap_oscore\"]}");
        admin(&world, METHOD_POST, "/v1/clients/C1/credentials",
              "{\"kind\":\"rpk\",\"public_key_hex\":\"" P256_HEX "\"}");
        admin(&world, METHOD_POST, "/v1/clients/C1/credentials",
              "{\"kind\":\"rpk\",\"public_key_hex\":\"" ED_HEX "\"}");
        *state = &world;
        return 0;
}

static int teardown(void **state) {
        world_done(*state);
        return 0;
}

static void ask(struct world *world, struct call *call, const char *request) {
        call_set(call, &world->client, METHOD_POST, "/token", request);
        world_run(world, call, 1);
        if (!call_is_yes(call))
                fail_msg("%s: %s", request, call->work.response.why);
}

/* With the id of what was answered. */
static void ask_for_update(struct world *world, struct call *call) {
        struct edn_captures *captures = test_calloc(1, sizeof(*captures));
        char why[200], id_hex[2 * NUMBER_SIZE + 1], request[128];
        struct bytes id;

        assert_int_equal(edn_match("{8: {4: {0: =id, ...}}, ...}", buf_bytes(&call->work.response.payload), captures,
                                   why, sizeof(why)), 0);
        edn_captured(captures, "id", &id);
        assert_int_equal(id.size, NUMBER_SIZE);
        bytes_to_hex(id, id_hex, sizeof(id_hex));
        snprintf(request, sizeof(request), "{5: \"rs9\", 9: \"read\", 4: {3: h'%s'}}", id_hex);
        call_done(call);
        ask(world, call, request);
        test_free(captures);
}

/* One resource server at a time has the audience and the public keys. */
static size_t answer_size(struct world *world, const struct row *row) {
        static const char *const requests[] = {
                [SYMMETRIC] = "{5: \"rs9\", 9: \"read\"}",
                [DERIVED] = "{5: \"rs9\", 9: \"read\"}",
                [P256] = "{5: \"rs9\", 9: \"read\", 4: {1: " P256_KEY "}}",
                [ED25519] = "{5: \"rs9\", 9: \"read\", 4: {1: " ED_KEY "}}",
                [OSCORE] = "{5: \"rs9\", 9: \"read\"}",
                [OSCORE_UPDATE] = "{5: \"rs9\", 9: \"read\"}", /* first of all */
        };
        _cleanup_(call_done) struct call call;
        char json[512];
        size_t size;

        snprintf(json, sizeof(json), "{\"name\":\"rs9\",\"scopes\":\"read\"%s}", row->members);
        admin(world, METHOD_POST, "/v1/servers", json);
        admin(world, METHOD_POST, "/v1/servers/rs9/credentials",
              "{\"kind\":\"rpk\",\"public_key_hex\":\"" SERVER_P256_HEX "\"}");
        admin(world, METHOD_POST, "/v1/servers/rs9/credentials",
              "{\"kind\":\"rpk\",\"public_key_hex\":\"" SERVER_ED_HEX "\"}");
        admin(world, METHOD_POST, "/v1/policies", "{\"client\":\"C1\",\"audience\":\"rs9\",\"scope\":\"read\"}");
        ask(world, &call, requests[row->key]);
        if (row->key == OSCORE_UPDATE)
                ask_for_update(world, &call);
        assert_int_equal(answer_token(&call).size, token_size(row));
        size = call.work.response.payload.size;
        admin(world, METHOD_DELETE, "/v1/servers/rs9", NULL);
        return size;
}

static void answers_are_no_larger_than_they_must_be(void **state) {
        static const char *const keys[] = { "PSK", "PSK, derived", "RPK P-256", "RPK Ed25519", "OSCORE",
                                            "OSCORE update" };
        static const char *const formats[] = { "encrypt0", "mac0", "sign1", "sign-encrypt", "opaque" };
        static const char *const tags[] = { "bare", "tagged", "protected" };

        print_message("# one scope of 4 bytes: bytes of the answer, of the token, floor, over it\n");
        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                const struct row *row = &rows[i];
                size_t size = answer_size(*state, row), predicted, least = floor_of(row);

                predicted = answer_but_token(row) + string(token_size(row));
                print_message("# %-13s  %-12s  %-9s  %3zu  %3zu  %3zu  %+3d   %s\n", keys[row->key],
                              formats[row->format], tags[row->tags], size, token_size(row), least,
                              (int)(size - least), *row->members ? row->members + 1 : "");
                assert_int_equal(size, predicted);
                assert_true(size >= least);
        }
}

/* The bar that aced is held to: the format that resource servers have when nothing else is said. */
static void a_token_for_a_symmetric_key_fits_its_bar(void **state) {
        size_t size = answer_size(*state, &rows[0]);

        assert_true(rows[0].key == SYMMETRIC && rows[0].format == ENCRYPT0 && rows[0].tags == BARE);
        print_message("# %zu bytes, at most %d\n", size, ANSWER_MAX);
        assert_true(size <= ANSWER_MAX);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(answers_are_no_larger_than_they_must_be),
                cmocka_unit_test(a_token_for_a_symmetric_key_fits_its_bar),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
