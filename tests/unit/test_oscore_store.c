/* Security contexts in the store: who has which, what is in force of them, and numbers that never come twice. */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "store/check.h"
#include "store/clients.h"
#include "store/credentials.h"
#include "store/oscore.h"
#include "store/private.h"
#include "store/restore.h"
#include "store/servers.h"
#include "support/sqlite_memory.h"
#include "support/vfs_shim.h"

#define NOW_S 1700000000
#define KID BYTES_LITERAL("\x01\x02\x03")
#define LEASE 1000

/* ---- stores, parties, contexts */

static int try_open(const char *path, struct store **ret) {
        static const uint8_t key[32] = { 1 };
        _cleanup_(diags_done) struct diags diags = {};

        return store_open(&(struct store_options){ .path = path, .seal_key = bytes_of(key, sizeof(key)) }, ret, &diags);
}

static struct store *open_store(void) {
        struct store *store = NULL;

        assert_int_equal(try_open(NULL, &store), 0);
        assert_int_equal(store_begin(store), 0);
        return store;
}

static void next_batch(struct store *store) {
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(store_begin(store), 0);
}

static int64_t add_client(struct store *store, const char *name) {
        struct client client = { .profiles = PROFILE_BIT(2), .created_s = NOW_S };

        (void)snprintf(client.name, sizeof(client.name), "%s", name);
        assert_int_equal(store_client_add(store, &client), 0);
        return client.id;
}

static int64_t add_server(struct store *store, const char *name) {
        struct server server = { .profiles = PROFILE_BIT(2), .scope_kind = SCOPE_TEXT, .created_s = NOW_S,
                                 .token_format = TOKEN_FORMAT_ENCRYPT0, .token_alg = AEAD_AES_CCM_16_64_128 };

        (void)snprintf(server.name, sizeof(server.name), "%s", name);
        assert_int_equal(store_server_add(store, &server), 0);
        return server.id;
}

static void suspend_client(struct store *store, const char *name, bool suspended) {
        struct client client;

        assert_int_equal(store_client_by_name(store, bytes_text(name), &client), 0);
        client.suspended = suspended;
        assert_int_equal(store_client_update(store, &client), 0);
}

static struct oscore_id id_of(struct bytes bytes) {
        struct oscore_id id = { .size = bytes.size };

        if (bytes.size > 0)
                memcpy(id.data, bytes.data, bytes.size);
        return id;
}

/* id_context with data NULL: none */
static struct credential context_of(int64_t client_id, int64_t server_id, struct bytes kid, struct bytes id_context) {
        struct credential credential = {
                .kind = CREDENTIAL_OSCORE, .client_id = client_id, .server_id = server_id, .created_s = NOW_S,
                .oscore = { .alg = AEAD_AES_CCM_16_64_128, .hkdf = OSCORE_HKDF_SHA256, .recipient_id = id_of(kid),
                            .sender_id = { .size = 1, .data = { 0xa5 } }, .salt_size = 2, .salt = { 7, 8 },
                            .has_id_context = id_context.data, .id_context_size = id_context.size },
        };

        if (id_context.size > 0)
                memcpy(credential.oscore.id_context, id_context.data, id_context.size);
        return credential;
}

/* Each number another Master Secret. */
static struct secret secret_of(unsigned n) {
        struct secret secret = { .size = 16 };

        (void)snprintf((char *)secret.data, sizeof(secret.data), "secret %07u", n);
        secret.data[15] = 0xff;
        return secret;
}

static int try_add(struct store *store, struct credential *credential, unsigned n, bool *ret_same) {
        struct secret secret = secret_of(n);

        return store_credential_add(store, credential, &secret, ret_same);
}

static int64_t add_context(struct store *store, int64_t client_id, struct bytes kid, struct bytes id_context,
                           unsigned n) {
        struct credential credential = context_of(client_id, 0, kid, id_context);
        bool same = true;

        assert_int_equal(try_add(store, &credential, n, &same), 0);
        assert_false(same);
        return credential.id;
}

/* What a search finds. */
struct seen {
        size_t n;
        struct oscore_credential rows[OSCORE_CANDIDATES_MAX + 1];
};

static int note(void *context, const struct oscore_credential *found) {
        struct seen *seen = context;

        assert_true(seen->n < N_ELEMENTS(seen->rows));
        seen->rows[seen->n++] = *found;
        return 0;
}

static struct seen find(struct store *store, struct bytes kid) {
        struct seen seen = {};

        assert_int_equal(store_oscore_find(store, kid, note, &seen), 0);
        return seen;
}

/* Is this credential found by KID, with this ID Context in force? 0, < 0. */
static int look(struct store *store, int64_t id, struct bytes id_context, bool *ret) {
        struct seen seen = {};
        int r = store_oscore_find(store, KID, note, &seen);

        *ret = false;
        for (size_t i = 0; i < seen.n; i++)
                *ret |= seen.rows[i].credential.id == id && seen.rows[i].has_id_context == (id_context.data != NULL) &&
                        bytes_equal(bytes_of(seen.rows[i].id_context, seen.rows[i].id_context_size), id_context);
        return r;
}

static bool is_in_force(struct store *store, int64_t id, struct bytes id_context) {
        bool is;

        assert_int_equal(look(store, id, id_context, &is), 0);
        return is;
}

static int64_t count(struct store *store, const char *sql) {
        int64_t n = -1;

        assert_int_equal(pragma_int(store, sql, &n), 0);
        return n;
}

/* ---- registering and finding */

static void test_find(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        int64_t c1 = add_client(store, "c1"), rs1 = add_server(store, "rs1");
        struct credential first = context_of(c1, 0, KID, BYTES_NONE),
                          second = context_of(0, rs1, KID, BYTES_LITERAL("ctx")), nobody;
        struct secret secret = secret_of(1);
        struct seen seen;
        bool same;

        second.oscore.alg = AEAD_A256GCM;
        second.oscore.hkdf = OSCORE_HKDF_SHA512;
        second.oscore.salt_size = 1;
        second.oscore.salt[1] = 0;
        second.oscore.renews = true;
        second.oscore.sender_id = (struct oscore_id){};
        assert_int_equal(try_add(store, &first, 1, &same), 0);
        assert_int_equal(try_add(store, &second, 2, &same), 0);
        nobody = context_of(c1, 0, BYTES_NONE, BYTES_NONE); /* no bytes are an ID, too */
        assert_int_equal(try_add(store, &nobody, 3, &same), 0);
        assert_int_equal(store_commit(store), 0); /* everything else works outside of a transaction */

        seen = find(store, KID);
        assert_int_equal(seen.n, 2);
        assert_int_equal(seen.rows[0].credential.id, first.id);
        assert_int_equal(seen.rows[0].credential.kind, CREDENTIAL_OSCORE);
        assert_int_equal(seen.rows[0].credential.client_id, c1);
        assert_int_equal(seen.rows[0].credential.server_id, 0);
        assert_memory_equal(&seen.rows[0].credential.oscore, &first.oscore, sizeof(first.oscore));
        assert_memory_equal(&seen.rows[0].master_secret, &secret, sizeof(secret));
        assert_false(seen.rows[0].has_id_context);
        assert_int_equal(seen.rows[1].credential.id, second.id);
        assert_int_equal(seen.rows[1].credential.server_id, rs1);
        assert_memory_equal(&seen.rows[1].credential.oscore, &second.oscore, sizeof(second.oscore));
        assert_true(seen.rows[1].has_id_context);
        assert_true(bytes_equal(bytes_of(seen.rows[1].id_context, seen.rows[1].id_context_size),
                                BYTES_LITERAL("ctx")));
        seen = find(store, BYTES_NONE);
        assert_int_equal(seen.n, 1);
        assert_int_equal(seen.rows[0].credential.id, nobody.id);
        assert_int_equal(find(store, BYTES_LITERAL("\x01\x02")).n, 0);
        assert_int_equal(find(store, BYTES_LITERAL("\x01\x02\x03\x00")).n, 0);
        assert_int_equal(find(store, BYTES_LITERAL("much too long for an ID")).n, 0);
}

static int stop(void *context, const struct oscore_credential *found) {
        ++*(unsigned *)context;
        return -ENOMEM;
}

static void test_find_is_ended(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        int64_t c1 = add_client(store, "c1");
        unsigned n = 0;

        (void)add_context(store, c1, KID, BYTES_NONE, 1);
        (void)add_context(store, c1, KID, BYTES_LITERAL("x"), 2);
        assert_int_equal(store_oscore_find(store, KID, stop, &n), -ENOMEM);
        assert_int_equal(n, 1);
        assert_int_equal(find(store, KID).n, 2);
}

static int note_credential(void *context, const struct credential *credential) {
        *(struct credential *)context = *credential;
        return 0;
}

static void test_list(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        int64_t c1 = add_client(store, "c1"), id = add_context(store, c1, KID, BYTES_LITERAL("ctx"), 1);
        struct credential listed = {}, wanted = context_of(c1, 0, KID, BYTES_LITERAL("ctx"));

        assert_int_equal(store_credential_each(store, c1, 0, note_credential, &listed), 0);
        assert_int_equal(listed.id, id);
        assert_int_equal(listed.kind, CREDENTIAL_OSCORE);
        assert_memory_equal(&listed.oscore, &wanted.oscore, sizeof(wanted.oscore));
        assert_int_equal(store_credential_by_id(store, id, &listed), 0);
        assert_int_equal(listed.client_id, c1);
}

static void test_suspended(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        int64_t c1 = add_client(store, "c1"), c2 = add_client(store, "c2");
        int64_t first = add_context(store, c1, KID, BYTES_NONE, 1), second = add_context(store, c2, KID,
                                                                                        BYTES_LITERAL("x"), 2);

        suspend_client(store, "c1", true);
        assert_int_equal(find(store, KID).n, 1);
        assert_int_equal(find(store, KID).rows[0].credential.id, second);
        assert_false(is_in_force(store, first, BYTES_NONE));
        assert_true(is_in_force(store, second, BYTES_LITERAL("x")));
        suspend_client(store, "c1", false);
        assert_int_equal(find(store, KID).n, 2);
        assert_true(is_in_force(store, first, BYTES_NONE));
}

static void test_refused(void **state) {
        static const uint8_t contexts[OSCORE_CANDIDATES_MAX] = { 0, 1, 2, 3, 4, 5, 6, 7 };
        _cleanup_(store_freep) struct store *store = open_store();
        int64_t c1 = add_client(store, "c1"), c2 = add_client(store, "c2");
        struct credential again = context_of(c2, 0, KID, BYTES_NONE), other;
        bool same = true;
        int64_t n = 0;

        (void)add_context(store, c1, KID, BYTES_NONE, 1);
        assert_int_equal(try_add(store, &again, 2, &same), REFUSE_ADMIN_EXISTS); /* the two are not told apart */
        assert_false(same);
        again = context_of(c2, 0, KID, bytes_of(contexts, 0)); /* none is not the one of no bytes */
        assert_int_equal(try_add(store, &again, 1, &same), REFUSE_ADMIN_EXISTS);
        assert_true(same); /* AS-008 */
        assert_int_equal(try_add(store, &again, 2, &same), 0);
        other = context_of(999, 0, BYTES_LITERAL("z"), BYTES_NONE);
        assert_int_equal(try_add(store, &other, 3, &same), REFUSE_ADMIN_UNKNOWN);
        other = context_of(c2, 0, BYTES_LITERAL("\xa5"), BYTES_NONE); /* our bug: the IDs are the same */
        assert_int_equal(try_add(store, &other, 3, &same), -EINVAL);

        for (unsigned i = 2; i < OSCORE_CANDIDATES_MAX; i++)
                (void)add_context(store, c1, KID, bytes_of(contexts + i, 1), 10 + i);
        other = context_of(c2, 0, KID, BYTES_LITERAL("ninth"));
        assert_int_equal(try_add(store, &other, 4, &same), REFUSE_ADMIN_CONFLICT);
        assert_int_equal(store_oscore_count(store, KID, &n), 0);
        assert_int_equal(n, OSCORE_CANDIDATES_MAX);
        assert_int_equal(find(store, KID).n, OSCORE_CANDIDATES_MAX);
        (void)add_context(store, c2, BYTES_LITERAL("other"), BYTES_NONE, 4);
        assert_int_equal(count(store, "SELECT count(*) FROM credentials"), OSCORE_CANDIDATES_MAX + 1);
        assert_int_equal(count(store, "SELECT count(*) FROM oscore_contexts"), OSCORE_CANDIDATES_MAX + 1);

        suspend_client(store, "c1", true); /* they come back, some day */
        assert_int_equal(try_add(store, &other, 5, &same), REFUSE_ADMIN_CONFLICT);
}

static void test_delete(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        int64_t c1 = add_client(store, "c1"), c2 = add_client(store, "c2");
        int64_t first = add_context(store, c1, KID, BYTES_NONE, 1);

        (void)add_context(store, c2, KID, BYTES_LITERAL("x"), 2);
        assert_int_equal(store_credential_delete(store, first, c2, 0), REFUSE_ADMIN_UNKNOWN);
        assert_int_equal(find(store, KID).n, 2);
        assert_int_equal(store_credential_delete(store, first, c1, 0), 0);
        assert_false(is_in_force(store, first, BYTES_NONE));
        assert_int_equal(find(store, KID).n, 1);
        assert_int_equal(store_client_delete(store, c2, NOW_S), 0);
        assert_int_equal(find(store, KID).n, 0);
        assert_int_equal(count(store, "SELECT count(*) FROM oscore_contexts"), 0);
        (void)add_context(store, c1, KID, BYTES_NONE, 1); /* the same once more: what was is forgotten */
}

/* ---- renewing */

static void test_renew(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        int64_t c1 = add_client(store, "c1"), c2 = add_client(store, "c2");
        int64_t first = add_context(store, c1, KID, BYTES_LITERAL("a"), 1);
        int64_t second = add_context(store, c2, KID, BYTES_NONE, 2);
        int64_t third = add_context(store, c2, BYTES_LITERAL("k"), BYTES_LITERAL("b"), 3);
        struct credential again;
        struct seen seen;
        bool same;

        assert_int_equal(store_oscore_renew(store, first, BYTES_LITERAL("r1")), -EBUSY); /* not in a batch */
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(store_oscore_renew(store, first, BYTES_LITERAL("r1")), 0);
        seen = find(store, KID);
        assert_int_equal(seen.n, 2);
        assert_true(seen.rows[0].has_id_context);
        assert_true(bytes_equal(bytes_of(seen.rows[0].id_context, seen.rows[0].id_context_size), BYTES_LITERAL("r1")));
        assert_true(bytes_equal(bytes_of(seen.rows[0].credential.oscore.id_context, 1), BYTES_LITERAL("a")));
        assert_false(seen.rows[1].has_id_context);
        assert_true(is_in_force(store, first, BYTES_LITERAL("r1")));
        assert_false(is_in_force(store, first, BYTES_LITERAL("a")));
        assert_false(is_in_force(store, first, BYTES_NONE));

        assert_int_equal(store_oscore_renew(store, second, BYTES_LITERAL("r1")), REFUSE_ADMIN_EXISTS);
        assert_int_equal(store_oscore_renew(store, second, BYTES_LITERAL("a")), REFUSE_ADMIN_EXISTS);
        assert_true(is_in_force(store, second, BYTES_NONE));
        assert_int_equal(store_oscore_renew(store, third, BYTES_LITERAL("r1")), 0); /* its kid is another */
        assert_int_equal(store_oscore_renew(store, first, BYTES_LITERAL("r2")), 0);
        assert_int_equal(store_oscore_renew(store, first, BYTES_LITERAL("a")), 0); /* its own, for all we care */
        assert_int_equal(store_oscore_renew(store, first, BYTES_LITERAL("r2")), 0);
        assert_int_equal(store_oscore_renew(store, second, BYTES_LITERAL("r1")), 0);
        assert_int_equal(store_oscore_renew(store, 999, BYTES_LITERAL("r9")), REFUSE_ADMIN_UNKNOWN);

        assert_int_equal(store_begin(store), 0);
        again = context_of(c1, 0, KID, BYTES_LITERAL("r2"));
        assert_int_equal(try_add(store, &again, 9, &same), REFUSE_ADMIN_EXISTS);
        assert_false(same);
        again = context_of(c1, 0, KID, BYTES_LITERAL("a"));
        assert_int_equal(try_add(store, &again, 9, &same), REFUSE_ADMIN_EXISTS);
        again = context_of(c1, 0, KID, BYTES_NONE); /* second's registered one */
        assert_int_equal(try_add(store, &again, 9, &same), REFUSE_ADMIN_EXISTS);
        assert_int_equal(store_credential_delete(store, first, c1, 0), 0);
        again = context_of(c1, 0, KID, BYTES_LITERAL("r2"));
        assert_int_equal(try_add(store, &again, 9, &same), 0);
}

/* ---- what tells that something has changed */

static void test_generation(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        int64_t c1 = add_client(store, "c1"), id;
        uint64_t last = store_credentials_generation(store), number;

#define EXPECT_MORE()                                                                                                 \
        do {                                                                                                          \
                assert_true(store_credentials_generation(store) > last);                                              \
                last = store_credentials_generation(store);                                                           \
        } while (0)
#define EXPECT_SAME() assert_true(store_credentials_generation(store) == last)

        id = add_context(store, c1, KID, BYTES_NONE, 1);
        EXPECT_MORE();
        next_batch(store);
        suspend_client(store, "c1", true);
        EXPECT_MORE();
        store_rollback(store); /* what was seen meanwhile is not so any more */
        EXPECT_MORE();
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_savepoint(store), 0);
        assert_int_equal(store_credential_delete(store, id, c1, 0), 0);
        EXPECT_MORE();
        assert_int_equal(store_savepoint_rollback(store), 0);
        EXPECT_MORE();
        next_batch(store);
        EXPECT_SAME();
        assert_int_equal(find(store, KID).n, 1);
        assert_int_equal(store_number(store, NUMBER_TOKEN, &number), 0);
        next_batch(store);
        store_rollback(store); /* of a batch without any change of them */
        EXPECT_SAME();
        assert_int_equal(store_oscore_renew(store, id, BYTES_LITERAL("r")), 0);
        EXPECT_SAME();
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_client_delete(store, c1, NOW_S), 0);
        EXPECT_MORE();
#undef EXPECT_MORE
#undef EXPECT_SAME
}

/* ---- our own numbers */

static void test_lease(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        uint64_t first = 0, next = 0;

        assert_int_equal(store_oscore_lease(store, LEASE, &first), -EBUSY);
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(store_oscore_next(store, &next), 0);
        for (uint64_t i = 0; i < 10; i++) {
                assert_int_equal(store_oscore_lease(store, LEASE, &first), 0);
                assert_true(first == next + i * LEASE);
        }
        assert_int_equal(store_oscore_next(store, &next), 0);
        assert_true(next == first + LEASE);
}

static void test_lease_ends(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        uint64_t first = 0;

        assert_int_equal(store_oscore_raise(store, OSCORE_NUMBERS_END - 10), 0);
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(store_oscore_lease(store, 11, &first), REFUSE_OVERLOAD);
        assert_int_equal(store_oscore_lease(store, UINT64_MAX, &first), REFUSE_OVERLOAD);
        assert_int_equal(store_oscore_lease(store, 4, &first), 0);
        assert_true(first == OSCORE_NUMBERS_END - 10);
        assert_int_equal(store_oscore_lease(store, 6, &first), 0);
        assert_true(first == OSCORE_NUMBERS_END - 6);
        assert_int_equal(store_oscore_lease(store, 1, &first), REFUSE_OVERLOAD);
        assert_int_equal(store_begin(store), 0); /* and the store is as usable as ever */
}

static void test_raise(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        uint64_t first = 0, next = 0, epoch = store_oscore_epoch(store);

        assert_int_equal(store_oscore_raise(store, 5000), 0);
        assert_true(store_oscore_epoch(store) > epoch);
        next_batch(store);
        assert_int_equal(store_oscore_raise(store, 100), 0); /* it is there already */
        assert_int_equal(store_oscore_raise(store, OSCORE_NUMBERS_END + 1), REFUSE_ADMIN_VALUE);
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(store_oscore_lease(store, LEASE, &first), 0);
        assert_true(first == 5000);
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_oscore_raise(store, 1000000), 0);
        store_rollback(store);
        assert_int_equal(store_oscore_next(store, &next), 0);
        assert_true(next == 5000 + LEASE);
}

/* ---- disks */

#define ROUNDS 4
#define PATH "/oscore.db"

/* What was given out; nothing is given out twice. */
struct given {
        uint64_t first[64];
        unsigned n;
        bool has_context;
        unsigned n_broken, n_refused;
};

static void give(struct given *given, uint64_t first) {
        for (unsigned i = 0; i < given->n; i++)
                if (first < given->first[i] + LEASE && given->first[i] < first + LEASE)
                        fail_msg("%llu was given out before", (unsigned long long)first);
        assert_true(given->n < N_ELEMENTS(given->first));
        given->first[given->n++] = first;
}

/* Leases, renewals and batches that register, as they come; what fails is only counted. */
static void use(struct store *store, struct given *given, const struct credential *renewed) {
        uint64_t first;
        char text[8];

        for (unsigned i = 0; i < ROUNDS; i++) {
                struct credential credential = context_of(0, renewed->server_id, KID, BYTES_NONE);
                bool same, is;
                int r = store_oscore_lease(store, LEASE, &first);

                if (r == 0)
                        give(given, first);
                given->n_broken += r < 0;
                assert_true(r <= 0);
                (void)snprintf(text, sizeof(text), "r%u", i);
                r = store_oscore_renew(store, renewed->id, bytes_text(text));
                assert_true(r <= 0);
                if (r == 0 && look(store, renewed->id, bytes_text(text), &is) == 0)
                        assert_true(is);
                given->n_broken += r < 0;
                if (store_begin(store) != 0)
                        continue;
                (void)snprintf((char *)credential.oscore.recipient_id.data, OSCORE_ID_SIZE_MAX, "n%u", i);
                credential.oscore.recipient_id.size = 2;
                r = try_add(store, &credential, 100 + i, &same);
                if (r == 0)
                        r = store_commit(store);
                else
                        store_rollback(store);
                given->n_broken += r < 0;
        }
}

static void expect_whole(struct store *store) {
        _cleanup_(diags_done) struct diags diags = {};
        struct check_place place = {};

        assert_int_equal(count(store, "SELECT count(*) FROM credentials c LEFT JOIN oscore_contexts o "
                               "ON o.credential_id = c.id WHERE o.credential_id IS NULL"), 0);
        assert_int_equal(count(store, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), 0);
        assert_int_equal(count(store, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
        assert_int_equal(store_check_secrets(store, &place, 1000, &diags), 0);
        assert_true(place.done);
        if (diags.n_items > 0)
                fail_msg("%s", diags.items[0].text);
}

static struct credential make_disk(void) {
        _cleanup_(store_freep) struct store *store = NULL;
        struct credential credential;
        bool same;

        disk_reset(1);
        assert_int_equal(try_open(PATH, &store), 0);
        assert_int_equal(store_begin(store), 0);
        credential = context_of(0, add_server(store, "rs1"), KID, BYTES_NONE);
        assert_int_equal(try_add(store, &credential, 1, &same), 0);
        assert_int_equal(store_commit(store), 0);
        store_free(TAKE_PTR(store));
        disk_keep();
        return credential;
}

/* The n-th operation of the disk goes wrong, for n = 1, 2, … until none is hit. */
static void trouble(enum disk_trouble kind) {
        struct credential credential = make_disk();
        unsigned n = 0, n_broken = 0;
        bool hit;

        do {
                struct given given = {};
                struct store *store = NULL;

                disk_return(++n);
                disk_arm(kind, n);
                if (try_open(PATH, &store) == 0)
                        use(store, &given, &credential);
                hit = disk_heal();
                n_broken += given.n_broken > 0;
                if (kind != DISK_CUT && store)
                        use(store, &given, &credential); /* it goes on by itself, in the same process */
                if (kind != DISK_CUT)
                        disk_arm(DISK_CUT, 1); /* closing is not to repair anything */
                store_free(TAKE_PTR(store));
                (void)disk_heal();
                disk_reboot();
                assert_int_equal(try_open(PATH, &store), 0);
                use(store, &given, &credential);
                expect_whole(store);
                assert_true(given.n >= ROUNDS);
                store_free(store);
        } while (hit);
        assert_true(n > 20);
        assert_true(n_broken > 10);
}

static int make_disks(void **state) {
        disk_register();
        return 0;
}

static int unmake_disks(void **state) {
        disk_unregister();
        return 0;
}

static void test_power_cut(void **state) {
        trouble(DISK_CUT);
}

static void test_io_error_once(void **state) {
        trouble(DISK_ERROR_ONCE);
}

static void test_io_errors(void **state) {
        trouble(DISK_ERROR);
}

static void test_disk_full(void **state) {
        trouble(DISK_FULL);
}

/* ---- memory */

static void test_out_of_memory(void **state) {
        struct credential credential = make_disk();
        unsigned n_broken = 0;
        int r = -ENOMEM;

        for (unsigned n = 1; r != 0; n += 1 + n / 64) {
                struct given given = {};
                struct seen seen = {};
                struct store *store = NULL;
                uint64_t first = 0;

                assert_true(n < 5000);
                disk_return(1);
                assert_int_equal(try_open(PATH, &store), 0);
                sqlite_memory_fail_at(n);
                if ((r = store_oscore_lease(store, LEASE, &first)) == 0)
                        give(&given, first);
                if (r == 0 && (r = store_oscore_find(store, KID, note, &seen)) == 0)
                        r = store_oscore_renew(store, credential.id, BYTES_LITERAL("m"));
                sqlite_memory_fail_at(0);
                if (r != 0 && r != -ENOMEM)
                        fail_msg("allocation %u: %d", n, r);
                use(store, &given, &credential);
                assert_int_equal(given.n_broken, 0);
                expect_whole(store);
                store_free(store);
                n_broken += r != 0;
        }
        assert_true(n_broken > 10);
}

struct told {
        unsigned n;
        int64_t id; /* the latest */
        struct oscore_id kid;
};

static void note_told(void *context, int64_t credential_id, struct bytes kid) {
        struct told *told = context;

        told->n++;
        told->id = credential_id;
        told->kid = id_of(kid);
}

/* Of the one that goes, and not of the others of its party, nor of another's. */
static void test_told_of_one(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        const int64_t clients[] = { add_client(store, "c1"), 0 }, servers[] = { 0, add_server(store, "rs1") };
        int64_t ids[2][2];
        struct told told = {};
        bool same;

        for (unsigned i = 0; i < 4; i++) {
                struct credential credential = context_of(clients[i / 2], servers[i / 2], bytes_of("abcd", i),
                                                          BYTES_NONE);

                assert_int_equal(try_add(store, &credential, i, &same), 0);
                ids[i / 2][i % 2] = credential.id;
        }
        store_oscore_listen(store, note_told, &told);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(store_credential_delete(store, ids[i][0], clients[1 - i], servers[1 - i]),
                                 REFUSE_ADMIN_UNKNOWN);
                assert_int_equal(told.n, 2 * i);
                for (unsigned j = 0; j < 2; j++) {
                        assert_int_equal(store_credential_delete(store, ids[i][j], clients[i], servers[i]), 0);
                        assert_int_equal(told.n, 2 * i + j + 1);
                        assert_int_equal(told.id, ids[i][j]);
                        assert_true(bytes_equal(bytes_of(told.kid.data, told.kid.size), bytes_of("abcd", 2 * i + j)));
                }
        }
}

/* Of each of a party that goes, or is suspended. */
static void test_told_of_all(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        int64_t c1 = add_client(store, "c1"), c2 = add_client(store, "c2");
        struct told told = {};

        for (unsigned i = 0; i < 5; i++)
                (void)add_context(store, i < 3 ? c1 : c2, bytes_of("abcde", i), BYTES_NONE, i);
        store_oscore_listen(store, note_told, &told);
        suspend_client(store, "c1", false);
        assert_int_equal(told.n, 0);
        suspend_client(store, "c1", true);
        assert_int_equal(told.n, 3);
        assert_int_equal(store_client_delete(store, c2, NOW_S), 0);
        assert_int_equal(told.n, 5);
}

static int delete_credential(struct store *store, struct credential *credential, struct server *server) {
        return store_credential_delete(store, credential->id, 0, credential->server_id);
}

static int delete_server(struct store *store, struct credential *credential, struct server *server) {
        return store_server_delete(store, server->id, NOW_S);
}

static int suspend(struct store *store, struct credential *credential, struct server *server) {
        server->suspended = true;
        return store_server_update(store, server);
}

/* However little came of it: who was told that a context goes is to look again whether it has gone. */
static void test_out_of_memory_when_told(void **state) {
        static int (*const changes[])(struct store *store, struct credential *credential, struct server *server) = {
                delete_credential, delete_server, suspend };
        struct credential credential = make_disk();
        struct server server;
        unsigned n_told_in_vain = 0;

        for (size_t i = 0; i < N_ELEMENTS(changes); i++) {
                int r = -ENOMEM;

                for (unsigned n = 1; r != 0; n++) {
                        struct store *store = NULL;
                        struct told told = {};
                        uint64_t generation;

                        assert_true(n < 5000);
                        disk_return(1);
                        assert_int_equal(try_open(PATH, &store), 0);
                        assert_int_equal(store_server_by_id(store, credential.server_id, &server), 0);
                        store_oscore_listen(store, note_told, &told);
                        assert_int_equal(store_begin(store), 0);
                        generation = store_credentials_generation(store);
                        sqlite_memory_fail_at(n);
                        r = changes[i](store, &credential, &server);
                        sqlite_memory_fail_at(0);
                        store_rollback(store);
                        assert_true(r == 0 || r == -ENOMEM);
                        assert_true(told.n == 1 || r != 0);
                        if (told.n > 0 && store_credentials_generation(store) == generation)
                                fail_msg("change %zu, allocation %u: told, and nobody looks again", i, n);
                        n_told_in_vain += told.n > 0 && r != 0;
                        store_free(store);
                }
        }
        assert_true(n_told_in_vain > 10);
}

/* ---- cost */

static const enum query_id hot[] = {
        QUERY_OSCORE_FIND, QUERY_OSCORE_OF_KID, QUERY_OSCORE_OF_CREDENTIAL, QUERY_OSCORE_TAKEN,
        QUERY_OSCORE_RENEW, QUERY_OSCORE_LEASE, QUERY_OSCORE_NEXT, QUERY_OSCORE_RAISE, QUERY_OSCORE_ADD,
        QUERY_OSCORE_OF_PARTY, QUERY_CREDENTIAL_DELETE, QUERY_CLIENT_DELETE,
};

static void expect_plan(struct store *store, enum query_id id) {
        char *sql = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", query_sql(id));
        sqlite3_stmt *stmt;

        assert_int_equal(sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL), SQLITE_OK);
        while (sqlite3_step(stmt) == SQLITE_ROW) {
                const char *step = (const char *)sqlite3_column_text(stmt, 3);

                if (strncmp(step, "SCAN ", 5) == 0 || strstr(step, "TEMP B-TREE") || strstr(step, "AUTOMATIC"))
                        fail_msg("%s: %s", query_sql(id), step);
        }
        assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
        sqlite3_free(sql);
}

#define MANY "WITH RECURSIVE i(n) AS (SELECT 1000000 UNION ALL SELECT n + 1 FROM i WHERE n < 1099999) "

static void fill(struct store *store, const char *sql) {
        if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK)
                fail_msg("%s", sqlite3_errmsg(store->db));
}

/* With 100 000 contexts one is found as with one. */
static void test_many(void **state) {
        _cleanup_(store_freep) struct store *store = open_store();
        int64_t c1 = add_client(store, "c1"), id = add_context(store, c1, KID, BYTES_NONE, 1);
        struct told told = {};
        uint64_t first;

        fill(store, MANY "INSERT INTO clients (id, name, suspended, profiles, default_audience, created_s) "
             "SELECT n, 'name' || n, 0, 2, '', 0 FROM i");
        fill(store, MANY "INSERT INTO credentials (id, kind, client_id, server_id, identity, secret, secret_mark, "
             "created_s) SELECT n, 4, n, NULL, CAST('id' || n AS BLOB), x'00', CAST('m' || n AS BLOB), 0 FROM i");
        fill(store, MANY "INSERT INTO oscore_contexts (credential_id, recipient_id, sender_id, id_context, alg, hkdf, "
             "salt, renews) SELECT n, CAST('i' || n AS BLOB), x'', NULL, 1, 1, x'', 0 FROM i");
        (void)add_context(store, c1, KID, BYTES_LITERAL("x"), 2);
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(find(store, KID).n, 2);
        assert_true(is_in_force(store, id, BYTES_NONE));
        assert_int_equal(store_oscore_renew(store, id, BYTES_LITERAL("r")), 0);
        assert_int_equal(store_oscore_lease(store, LEASE, &first), 0);
        assert_int_equal(store_begin(store), 0);
        store_oscore_listen(store, note_told, &told);
        assert_int_equal(store_credential_delete(store, id, c1, 0), 0);
        assert_int_equal(told.n, 1);
        assert_int_equal(store_client_delete(store, c1, NOW_S), 0);
        assert_int_equal(told.n, 2);

        for (size_t i = 0; i < N_ELEMENTS(hot); i++) {
                sqlite3_stmt *stmt = store->queries[hot[i]];

                expect_plan(store, hot[i]);
                if (stmt && (sqlite3_stmt_status(stmt, SQLITE_STMTSTATUS_FULLSCAN_STEP, 0) > 0 ||
                             sqlite3_stmt_status(stmt, SQLITE_STMTSTATUS_VM_STEP, 0) > 500))
                        fail_msg("%s: %d steps", query_sql(hot[i]),
                                 sqlite3_stmt_status(stmt, SQLITE_STMTSTATUS_VM_STEP, 0));
        }
}

/* ---- a file that somebody changed */

static void test_changed(void **state) {
        static const char *const changes[] = {
                "UPDATE oscore_contexts SET alg = 9", "UPDATE oscore_contexts SET hkdf = 0",
                "UPDATE oscore_contexts SET sender_id = recipient_id",
                "UPDATE oscore_contexts SET sender_id = zeroblob(8)", "UPDATE oscore_contexts SET salt = zeroblob(33)",
                "UPDATE oscore_contexts SET id_context = zeroblob(65)",
                "UPDATE oscore_contexts SET renewed_context = zeroblob(65)",
                "UPDATE credentials SET secret = zeroblob(length(secret))",
        };

        for (size_t i = 0; i < N_ELEMENTS(changes); i++) {
                _cleanup_(store_freep) struct store *store = open_store();
                struct seen seen = {};

                (void)add_context(store, add_client(store, "c1"), KID, BYTES_NONE, 1);
                fill(store, changes[i]);
                if (store_oscore_find(store, KID, note, &seen) != -EIO)
                        fail_msg("%s", changes[i]);
                assert_int_equal(seen.n, 0);
        }
}

/* ---- backups: files, and what is wrong with them */

struct folder {
        char path[64], backup[96], restored[96];
};

static int folder_make(void **state) {
        struct folder *folder = calloc(1, sizeof(*folder));

        assert_non_null(folder);
        (void)snprintf(folder->path, sizeof(folder->path), "/tmp/aced-test-oscore-XXXXXX");
        assert_non_null(mkdtemp(folder->path));
        (void)snprintf(folder->backup, sizeof(folder->backup), "%s/backup", folder->path);
        (void)snprintf(folder->restored, sizeof(folder->restored), "%s/restored", folder->path);
        *state = folder;
        return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

static int folder_remove(void **state) {
        struct folder *folder = *state;
        int r = nftw(folder->path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);

        free(folder);
        return r;
}

/* A database with two contexts, one of them renewed, and what sql makes of it. */
static void make_file(const char *path, const char *sql) {
        struct store *store = NULL;
        int64_t id;

        (void)remove(path);
        assert_int_equal(try_open(path, &store), 0);
        assert_int_equal(store_begin(store), 0);
        id = add_context(store, add_client(store, "c1"), KID, BYTES_NONE, 1);
        (void)add_context(store, add_client(store, "c2"), KID, BYTES_LITERAL("x"), 2);
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(store_oscore_renew(store, id, BYTES_LITERAL("r")), 0);
        fill(store, "PRAGMA foreign_keys = OFF");
        fill(store, sql);
        store_free(store);
}

static uint64_t next_after_restore(const struct folder *folder, const char *sql) {
        static const uint8_t key[32] = { 1 };
        _cleanup_(diags_done) struct diags diags = {};
        _cleanup_(store_freep) struct store *store = NULL;
        _cleanup_(freep) char *kept = NULL;
        uint64_t next = 0;

        make_file(folder->backup, sql);
        assert_int_equal(store_restore(&(struct restore){ .backup = folder->backup, .database = folder->restored,
                                                          .seal_key = { key, sizeof(key) }, .now_s = NOW_S },
                                       &kept, &diags), 0);
        assert_int_equal(try_open(folder->restored, &store), 0);
        assert_int_equal(find(store, KID).n, 2);
        assert_int_equal(store_oscore_next(store, &next), 0);
        return next;
}

/* What was given out after the backup is not given out again; there is an end to it. */
static void test_restore(void **state) {
        const struct folder *folder = *state;

        assert_true(next_after_restore(folder, "UPDATE leases SET next = 7000 WHERE kind = 3") ==
                    7000 + (uint64_t)RESTORE_ADVANCE_OSCORE);
        /* nor what somebody else uses to whom secrets were exported, however often both have restored a backup */
        for (int64_t here = 0; here < 64; here++)
                for (int64_t there = 0; there < 64; there++)
                        assert_true(here * RESTORE_ADVANCE_OSCORE !=
                                    (int64_t)OSCORE_NUMBERS_APART + there * RESTORE_ADVANCE_OSCORE);
        assert_true(next_after_restore(folder, "UPDATE leases SET next = (1 << 40) - 5 WHERE kind = 3") ==
                    OSCORE_NUMBERS_END);
}

static void alter(const char *path, const char *sql) {
        _cleanup_(store_freep) struct store *store = NULL;

        assert_int_equal(try_open(path, &store), 0);
        fill(store, sql);
}

/* Nor what the database in whose place the backup comes gave out, since it was made of the same one. */
static void test_restore_again(void **state) {
        static const char *const sql = "UPDATE leases SET next = 7000 WHERE kind = 3";
        const struct folder *folder = *state;
        uint64_t first = next_after_restore(folder, sql);
        FILE *file;

        alter(folder->restored, "UPDATE leases SET next = next + 65536 WHERE kind = 3");
        assert_true(next_after_restore(folder, sql) == first + 65536);
        alter(folder->restored, "UPDATE leases SET next = 1 WHERE kind = 3");
        assert_true(next_after_restore(folder, sql) == first);
        alter(folder->restored, "UPDATE leases SET next = 1 << 50 WHERE kind = 3");
        assert_true(next_after_restore(folder, sql) == OSCORE_NUMBERS_END);
        file = fopen(folder->restored, "w"); /* of what is no database nothing is known */
        assert_non_null(file);
        assert_true(fputs("none", file) >= 0);
        assert_int_equal(fclose(file), 0);
        assert_true(next_after_restore(folder, sql) == first);
}

static void expect_fault(const struct folder *folder, const char *sql, const char *words) {
        _cleanup_(diags_done) struct diags diags = {};

        make_file(folder->backup, sql);
        assert_int_equal(store_check_file(folder->backup, &diags), 0);
        assert_int_equal(diags.n_items > 0, words != NULL);
        if (words && !strstr(diags.items[0].text, words))
                fail_msg("%s: %s", sql, diags.items[0].text);
}

static void test_check_file(void **state) {
        static const struct {
                const char *sql, *words;
        } cases[] = {
                { "SELECT 1", NULL },
                { "DELETE FROM leases WHERE kind = 3", "leases are missing: those of OSCORE messages" },
                { "UPDATE leases SET next = (1 << 40) + 1 WHERE kind = 3", "leases are missing" },
                { "DELETE FROM oscore_contexts", "is a security context without parameters" },
                { "UPDATE credentials SET kind = 1", "or has some and is none" },
                { "UPDATE oscore_contexts SET renewed_context = x'01'", "several security contexts" },
                { "INSERT INTO oscore_contexts SELECT 999, x'09', sender_id, NULL, NULL, alg, hkdf, salt, renews "
                  "FROM oscore_contexts LIMIT 1", "belongs to nothing: table" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++)
                expect_fault(*state, cases[i].sql, cases[i].words);
}

static void test_check_secrets(void **state) {
        static const struct {
                const char *sql, *words;
        } cases[] = {
                { "SELECT 1", NULL },
                { "UPDATE credentials SET secret = zeroblob(length(secret))", "its secret does not open" },
                { "UPDATE credentials SET secret_mark = x'01'", "its mark is that of another secret" },
                { "UPDATE oscore_contexts SET alg = 99", "its parameters are missing or no good" },
                { "DELETE FROM oscore_contexts", "its parameters are missing or no good" },
                { "UPDATE oscore_contexts SET recipient_id = x'77'", "its identity is that of other parameters" },
                { "UPDATE oscore_contexts SET id_context = x'77'", "its identity is that of other parameters" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(store_freep) struct store *store = open_store();
                _cleanup_(diags_done) struct diags diags = {};
                struct check_place place = {};

                (void)add_context(store, add_client(store, "c1"), KID, BYTES_NONE, 1);
                fill(store, cases[i].sql);
                assert_int_equal(store_check_secrets(store, &place, 1000, &diags), 0);
                assert_int_equal(diags.n_items > 0, cases[i].words != NULL);
                if (cases[i].words && !strstr(diags.items[0].text, cases[i].words))
                        fail_msg("%s: %s", cases[i].sql, diags.items[0].text);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_find),
                cmocka_unit_test(test_find_is_ended),
                cmocka_unit_test(test_list),
                cmocka_unit_test(test_suspended),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_delete),
                cmocka_unit_test(test_renew),
                cmocka_unit_test(test_generation),
                cmocka_unit_test(test_lease),
                cmocka_unit_test(test_lease_ends),
                cmocka_unit_test(test_raise),
                cmocka_unit_test_setup_teardown(test_power_cut, make_disks, unmake_disks),
                cmocka_unit_test_setup_teardown(test_io_error_once, make_disks, unmake_disks),
                cmocka_unit_test_setup_teardown(test_io_errors, make_disks, unmake_disks),
                cmocka_unit_test_setup_teardown(test_disk_full, make_disks, unmake_disks),
                cmocka_unit_test_setup_teardown(test_out_of_memory, make_disks, unmake_disks),
                cmocka_unit_test(test_told_of_one),
                cmocka_unit_test(test_told_of_all),
                cmocka_unit_test_setup_teardown(test_out_of_memory_when_told, make_disks, unmake_disks),
                cmocka_unit_test(test_many),
                cmocka_unit_test(test_changed),
                cmocka_unit_test_setup_teardown(test_restore, folder_make, folder_remove),
                cmocka_unit_test_setup_teardown(test_restore_again, folder_make, folder_remove),
                cmocka_unit_test_setup_teardown(test_check_file, folder_make, folder_remove),
                cmocka_unit_test(test_check_secrets),
        };

        sqlite_memory_install(NULL);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
