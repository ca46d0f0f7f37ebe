#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "crypto/certificate.h"
#include "domain/refusal.h"
#include "store/as_keys.h"
#include "store/check.h"
#include "store/clients.h"
#include "store/credentials.h"
#include "store/private.h"
#include "store/servers.h"

#define NOW_S 1700000000
#define ISSUER BYTES_LITERAL("coaps://as.example.com:5684/x")

static struct store *open_store(void) {
        static const uint8_t key[32] = { 1 };
        _cleanup_(diags_done) struct diags diags = {};
        struct store *store = NULL;

        assert_int_equal(store_open(&(struct store_options){ .seal_key = bytes_of(key, sizeof(key)) }, &store,
                                    &diags), 0);
        assert_int_equal(store_begin(store), 0);
        return store;
}

static int64_t add_client(struct store *store, const char *name) {
        struct client client = { .profiles = PROFILE_BIT(1), .created_s = NOW_S };

        (void)snprintf(client.name, sizeof(client.name), "%s", name);
        assert_int_equal(store_client_add(store, &client), 0);
        return client.id;
}

static int64_t add_server(struct store *store, const char *name) {
        struct server server = { .profiles = PROFILE_BIT(1), .scope_kind = SCOPE_TEXT, .created_s = NOW_S,
                                 .token_format = TOKEN_FORMAT_ENCRYPT0, .token_alg = AEAD_AES_CCM_16_64_128 };

        (void)snprintf(server.name, sizeof(server.name), "%s", name);
        assert_int_equal(store_server_add(store, &server), 0);
        return server.id;
}

static struct public_key new_key(enum curve curve) {
        _cleanup_(secret_done) struct secret private_key = {};
        struct public_key key;

        assert_int_equal(key_generate(curve, &key, &private_key), 0);
        return key;
}

static int add_key(struct store *store, int64_t client_id, int64_t server_id, const struct public_key *key,
                   const char *kid) {
        struct credential credential = { .kind = CREDENTIAL_RPK, .client_id = client_id, .server_id = server_id,
                                         .key = *key, .kid_size = strlen(kid), .created_s = NOW_S };
        struct secret none = {};
        bool same;

        memcpy(credential.kid, kid, credential.kid_size);
        return store_credential_add(store, &credential, &none, &same);
}

static int add_rule(struct store *store, int64_t client_id, const char *rule) {
        struct credential credential = { .kind = CREDENTIAL_X509, .client_id = client_id, .created_s = NOW_S };
        struct secret none = {};
        bool same;

        (void)snprintf(credential.rule, sizeof(credential.rule), "%s", rule);
        return store_credential_add(store, &credential, &none, &same);
}

/* ---- credentials */

static void public_keys(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        int64_t c1 = add_client(store, "c1"), c2 = add_client(store, "c2"), rs = add_server(store, "rs");
        uint8_t thumbprint[THUMBPRINT_SIZE];
        struct credential found;
        struct client client;

        for (enum curve curve = CURVE_P256; curve < CURVES; curve++) {
                struct public_key key = new_key(curve), other = new_key(curve);

                assert_int_equal(add_key(store, c1, 0, &key, curve_name(curve)), 0);
                assert_int_equal(public_key_thumbprint(&key, thumbprint), 0);
                assert_int_equal(store_rpk_find(store, thumbprint, &found), 0);
                assert_true(public_key_equal(&found.key, &key));
                assert_int_equal(found.client_id, c1);
                assert_int_equal(store_client_key_find(store, c1, thumbprint, BYTES_NONE, &found), 0);
                assert_int_equal(store_client_key_find(store, c2, thumbprint, BYTES_NONE, &found),
                                 REFUSE_ADMIN_UNKNOWN);
                assert_int_equal(store_client_key_find(store, c1, NULL, bytes_text(curve_name(curve)), &found), 0);
                assert_true(public_key_equal(&found.key, &key));
                assert_int_equal(store_client_key_find(store, c2, NULL, bytes_text(curve_name(curve)), &found),
                                 REFUSE_ADMIN_UNKNOWN);
                /* nobody else has it, and its kid names nothing else of this client */
                assert_int_equal(add_key(store, c2, 0, &key, ""), REFUSE_ADMIN_EXISTS);
                assert_int_equal(add_key(store, c1, 0, &other, curve_name(curve)), REFUSE_ADMIN_CONFLICT);
                assert_int_equal(add_key(store, c2, 0, &other, curve_name(curve)), 0);
        }
        assert_int_equal(store_client_key_find(store, c1, NULL, BYTES_NONE, &found), REFUSE_ADMIN_UNKNOWN);

        /* AS-074 */
        assert_int_equal(store_server_public_key(store, rs, CURVE_P256, &found), REFUSE_ADMIN_UNKNOWN);
        for (enum curve curve = CURVE_P256; curve < CURVES; curve++) {
                struct public_key key = new_key(curve), other = new_key(curve);

                assert_int_equal(add_key(store, 0, rs, &key, ""), 0);
                assert_int_equal(add_key(store, 0, rs, &other, ""), REFUSE_ADMIN_CONFLICT);
                assert_int_equal(store_server_public_key(store, rs, curve, &found), 0);
                assert_true(public_key_equal(&found.key, &key));
                assert_int_equal(store_server_public_key(store, rs, CURVE_NONE, &found), 0);
                assert_int_equal(found.key.curve, CURVE_P256);
        }

        assert_int_equal(store_client_by_id(store, c1, &client), 0);
        client.suspended = true;
        assert_int_equal(store_client_update(store, &client), 0);
        assert_int_equal(store_rpk_find(store, thumbprint, &found), REFUSE_ADMIN_UNKNOWN);
}

static void rules(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        int64_t c1 = add_client(store, "c1"), c2 = add_client(store, "c2");
        struct credential found;
        struct client client;

        assert_int_equal(add_rule(store, c1, "dns:a.example"), 0);
        assert_int_equal(add_rule(store, c2, "dns:a.example"), REFUSE_ADMIN_EXISTS);
        assert_int_equal(add_rule(store, c2, "uri:a.example"), 0);
        assert_int_equal(store_x509_find(store, BYTES_LITERAL("dns:a.example"), &found), 0);
        assert_int_equal(found.client_id, c1);
        assert_string_equal(found.rule, "dns:a.example");
        assert_int_equal(store_x509_find(store, BYTES_LITERAL("dns:b.example"), &found), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(store_x509_find(store, BYTES_NONE, &found), REFUSE_ADMIN_UNKNOWN);

        assert_int_equal(store_client_by_id(store, c1, &client), 0);
        client.suspended = true;
        assert_int_equal(store_client_update(store, &client), 0);
        assert_int_equal(store_x509_find(store, BYTES_LITERAL("dns:a.example"), &found), REFUSE_SUSPENDED_CLIENT);
        assert_int_equal(store_x509_find(store, BYTES_LITERAL("uri:a.example"), &found), 0);
}

/* ---- the server's own keys */

static int count_key(void *context, const struct as_key *key) {
        assert_int_equal(key->private_key.size, 0);
        ++*(unsigned *)context;
        return 0;
}

static unsigned count(struct store *store) {
        unsigned n = 0;

        assert_int_equal(store_as_key_each(store, count_key, &n), 0);
        return n;
}

static int64_t current(struct store *store, enum as_key_role role, enum sign_alg alg, int64_t now_s) {
        _cleanup_(as_key_done) struct as_key key = {};
        struct public_key made;

        if (store_as_key_current(store, role, alg, now_s, &key) != 0)
                return 0;
        assert_int_equal(key_public(sign_curve(alg), secret_bytes(&key.private_key), &made), 0);
        assert_true(public_key_equal(&made, &key.public_key));
        return key.id;
}

static int find_host(void *context, struct bytes rule) {
        return bytes_equal(rule, bytes_text(context)) ? 1 : 0;
}

static void made_at_first(void **state) {
        static const struct {
                const char *issuer, *rule;
        } cases[] = {
                { "coaps://as.example.com:5684/x", "dns:as.example.com" },
                { "coaps://[2001:db8::7]:5684", "ip:2001:db8::7" },
                { "192.0.2.7", "ip:192.0.2.7" },
                { "aced", "dns:aced" },
                { "our-(own)-server", "subject:CN=aced" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(store_freep) struct store *store = open_store();
                _cleanup_(as_key_done) struct as_key key = {};
                unsigned made = 0;

                assert_int_equal(store_as_keys_ensure(store, bytes_text(cases[i].issuer), NOW_S, &made), 0);
                assert_int_equal(made, 3);
                assert_int_equal(store_as_keys_ensure(store, bytes_text(cases[i].issuer), NOW_S, &made), 0);
                assert_int_equal(made, 0);
                assert_int_equal(count(store), 3);
                assert_true(current(store, AS_KEY_DOOR, SIGN_EDDSA, 0) != 0); /* whatever the clock says */
                assert_true(current(store, AS_KEY_SIGN, SIGN_ES256, NOW_S) != 0);
                assert_int_equal(current(store, AS_KEY_SIGN, SIGN_ES384, NOW_S), 0);
                assert_int_equal(store_as_key_current(store, AS_KEY_DOOR, SIGN_ES256, NOW_S, &key), 0);
                assert_int_equal(certificate_rules(bytes_of(key.certificate, key.certificate_size), find_host,
                                                   (void *)cases[i].rule), 1);
        }
}

static void rotated(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        _cleanup_(as_key_done) struct as_key first = {}, later = {}, last = {};
        uint64_t generation;

        assert_int_equal(store_as_key_make(store, AS_KEY_SIGN, SIGN_ES256, ISSUER, NOW_S, NOW_S, &first), 0);
        assert_int_equal(store_as_key_make(store, AS_KEY_SIGN, SIGN_ES256, ISSUER, NOW_S + 100, NOW_S, &later), 0);
        assert_memory_not_equal(first.kid, later.kid, AS_KEY_KID_SIZE);
        assert_int_equal(current(store, AS_KEY_SIGN, SIGN_ES256, NOW_S + 99), first.id);
        assert_int_equal(current(store, AS_KEY_SIGN, SIGN_ES256, NOW_S + 100), later.id);
        assert_int_equal(current(store, AS_KEY_SIGN, SIGN_ES256, NOW_S - 1), first.id); /* a clock set back */
        assert_int_equal(store_as_key_make(store, AS_KEY_SIGN, SIGN_ES256, ISSUER, NOW_S + 100, NOW_S + 1, &last), 0);
        assert_int_equal(current(store, AS_KEY_SIGN, SIGN_ES256, NOW_S + 100), last.id); /* of one moment: the last */

        generation = store_as_keys_generation(store);
        assert_int_equal(store_as_key_delete(store, first.id, NOW_S), REFUSE_ADMIN_CONFLICT);
        assert_int_equal(store_as_keys_generation(store), generation);
        assert_int_equal(store_as_key_delete(store, first.id, NOW_S + 100), 0);
        assert_int_equal(store_as_key_delete(store, first.id, NOW_S + 100), REFUSE_ADMIN_UNKNOWN);
        assert_true(store_as_keys_generation(store) > generation);
        assert_int_equal(count(store), 2);
}

/* Who set up a key that is rolled back hears of it. */
static void rolled_back(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        _cleanup_(as_key_done) struct as_key key = {};
        uint64_t generation;

        assert_int_equal(store_savepoint(store), 0);
        assert_int_equal(store_as_key_make(store, AS_KEY_SIGN, SIGN_ES256, ISSUER, NOW_S, NOW_S, &key), 0);
        generation = store_as_keys_generation(store);
        assert_int_equal(store_savepoint_rollback(store), 0);
        assert_true(store_as_keys_generation(store) > generation);
        assert_int_equal(count(store), 0);
        as_key_done(&key);
        assert_int_equal(store_as_key_make(store, AS_KEY_SIGN, SIGN_ES256, ISSUER, NOW_S, NOW_S, &key), 0);
        generation = store_as_keys_generation(store);
        store_rollback(store);
        assert_true(store_as_keys_generation(store) > generation);
        generation = store_as_keys_generation(store);
        assert_int_equal(store_begin(store), 0);
        store_rollback(store);
        assert_true(store_as_keys_generation(store) == generation);
}

static void limited(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();

        for (unsigned n = 0; n <= AS_KEYS_MAX; n++) {
                _cleanup_(as_key_done) struct as_key key = {};

                assert_int_equal(store_as_key_make(store, AS_KEY_SIGN, SIGN_EDDSA, ISSUER, NOW_S, NOW_S, &key),
                                 n < AS_KEYS_MAX ? 0 : REFUSE_ADMIN_CONFLICT);
        }
}

/* ---- what somebody changed in the file */

static size_t faults(struct store *store, const char *expected) {
        _cleanup_(diags_done) struct diags diags = {};
        struct check_place place = {};

        while (!place.done)
                assert_int_equal(store_check_secrets(store, &place, 2, &diags), 0);
        if (expected && (diags.n_items != 1 || !strstr(diags.items[0].text, expected)))
                fail_msg("%zu faults, '%s' for '%s'", diags.n_items, diags.n_items > 0 ? diags.items[0].text : "",
                         expected);
        return diags.n_items;
}

static void changes_are_found(void **state) {
        static const struct {
                const char *sql, *fault;
        } cases[] = {
                { "UPDATE credentials SET public = (SELECT public FROM credentials WHERE client_id = ?1) "
                  "WHERE kind = 2 AND client_id <> ?1", "its mark is that of another key or rule" },
                { "UPDATE credentials SET public = CAST('dns:b' AS BLOB) WHERE kind = 3",
                  "its mark is that of another key or rule" },
                { "UPDATE credentials SET identity = x'00' WHERE kind = 3", "its identity that of another one" },
                { "UPDATE credentials SET identity = zeroblob(32) WHERE kind = 2 AND client_id = ?1",
                  "its identity that of another one" },
                { "UPDATE credentials SET kind = 5 WHERE kind = 3", "it is of no kind that there is" },
                { "UPDATE as_keys SET secret = zeroblob(60) WHERE role = 2", "does not open" },
                { "UPDATE as_keys SET public = (SELECT public FROM as_keys WHERE role = 2) WHERE role = 1 AND alg = 1",
                  "is that of another one" },
                { "UPDATE as_keys SET certificate = (SELECT certificate FROM as_keys WHERE alg = 3) WHERE role = 1 AND "
                  "alg = 1", "is that of another one" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(store_freep) struct store *store = open_store();
                int64_t c1 = add_client(store, "c1"), c2 = add_client(store, "c2");
                struct public_key one = new_key(CURVE_P256), two = new_key(CURVE_ED25519);
                sqlite3_stmt *stmt = NULL;
                unsigned made;

                assert_int_equal(add_key(store, c1, 0, &one, "1"), 0);
                assert_int_equal(add_key(store, c2, 0, &two, ""), 0);
                assert_int_equal(add_rule(store, c2, "dns:a"), 0);
                assert_int_equal(store_as_keys_ensure(store, ISSUER, NOW_S, &made), 0);
                assert_int_equal(faults(store, NULL), 0);
                assert_int_equal(sqlite3_prepare_v2(store->db, cases[i].sql, -1, &stmt, NULL), SQLITE_OK);
                (void)sqlite3_bind_int64(stmt, 1, c1);
                assert_int_equal(sqlite3_step(stmt), SQLITE_DONE);
                assert_int_equal(sqlite3_changes(store->db), 1);
                (void)sqlite3_finalize(stmt);
                (void)faults(store, cases[i].fault);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(public_keys), cmocka_unit_test(rules),   cmocka_unit_test(made_at_first),
                cmocka_unit_test(rotated),     cmocka_unit_test(rolled_back), cmocka_unit_test(limited),
                cmocka_unit_test(changes_are_found),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
