/*
 * transport/oscore.c: what contexts take of memory, what happens when there is none, and what is left behind in it.
 * All allocations, OpenSSL's too, are seen and can be made to fail.
 */
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/crypto.h>

#include "base/cleanup.h"
#include "support/contexts.h"

#ifdef __SANITIZE_ADDRESS__
#define CONTEXTS 10000 /* which takes its time */
#else
#define CONTEXTS 100000
#endif
#define CONTEXT_SIZE_MAX 1024 /* bytes, all included */
#define HEAP_HEAD sizeof(size_t) /* what the heap itself takes of each block, beside what can be used */

/* ---- the heap */

static size_t heap_in_use;
static bool watching;            /* what follows counts only then */
static unsigned fail_allocation; /* one fails: that which brings this to 0 */
static struct bytes needles[4];  /* what no freed memory has in it */
static unsigned n_needles, n_left_behind;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);

static bool allocation_fails(void) {
        return watching && fail_allocation > 0 && --fail_allocation == 0;
}

static void *counted(void *memory) {
        if (memory)
                heap_in_use += malloc_usable_size(memory) + HEAP_HEAD;
        return memory;
}

static void given_up(void *memory) {
        size_t size = malloc_usable_size(memory);

        if (!memory)
                return;
        heap_in_use -= size + HEAP_HEAD;
        for (unsigned i = 0; i < n_needles && watching; i++)
                n_left_behind += memmem(memory, size, needles[i].data, needles[i].size) != NULL;
}

void *__wrap_malloc(size_t size) {
        return allocation_fails() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size) {
        return allocation_fails() ? NULL : counted(__real_calloc(n, size));
}

/* Always to another place, so that nothing is left behind unseen. */
void *__wrap_realloc(void *memory, size_t size) {
        void *moved = __wrap_malloc(size);

        if (!moved)
                return NULL;
        if (memory) {
                size_t kept = malloc_usable_size(memory);

                memcpy(moved, memory, kept < size ? kept : size);
        }
        __wrap_free(memory);
        return moved;
}

void __wrap_free(void *memory) {
        given_up(memory);
        __real_free(memory);
}

static void *ssl_malloc(size_t size, const char *file, int line) {
        return __wrap_malloc(size);
}

static void *ssl_realloc(void *memory, size_t size, const char *file, int line) {
        if (size > 0)
                return __wrap_realloc(memory, size);
        __wrap_free(memory);
        return NULL;
}

static void ssl_free(void *memory, const char *file, int line) {
        __wrap_free(memory);
}

/* ---- a hundred thousand of them */

/* Credential n has the bytes of n as kid. */
struct crowd {
        uint64_t generation;
        unsigned n_loads;
        int64_t n_removed; /* as many of the first */
};

static int load_of_crowd(void *context, struct bytes kid,
                         int (*found)(void *context, const struct oscore_context *loaded), void *found_context) {
        struct crowd *crowd = context;
        struct oscore_context loaded = {
                .input = { .alg = AEAD_AES_CCM_16_64_128, .hkdf = OSCORE_HKDF_SHA256,
                           .master_secret = BYTES_LITERAL("the secret of them all"),
                           .sender_id = BYTES_LITERAL("\x5e"), .recipient_id = kid,
                           .id_context = BYTES_LITERAL("plant 1") },
        };

        crowd->n_loads++;
        for (size_t i = 0; i < kid.size; i++)
                loaded.credential_id = loaded.credential_id << 8 | kid.data[i];
        return loaded.credential_id < crowd->n_removed ? 0 : found(found_context, &loaded);
}

static int lease_of_crowd(void *context, uint64_t n, uint64_t *ret_first) {
        return 1;
}

static int renew_of_crowd(void *context, int64_t credential_id, struct bytes id_context) {
        return 1;
}

static uint64_t epoch_of_crowd(void *context) {
        return 0;
}

static uint64_t generation_of_crowd(void *context) {
        return ((struct crowd *)context)->generation;
}

/* Somebody asks who is, or is not, credential n: what is answered shows whether it is known. */
static bool is_known(struct oscore *oscore, unsigned n) {
        const uint8_t option[] = { 0x09, 0, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };
        struct coap_message outer = { .code = CODE_POST, .payload = BYTES_LITERAL("0123456789") };
        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);
        struct oscore_taken taken;

        assert_int_equal(coap_message_add(&outer, OPTION_OSCORE, bytes_of(option, sizeof(option))), 0);
        assert_int_equal(oscore_take(oscore, &outer, (struct engine_time){}, &plain, &taken), OSCORE_ANSWER);
        assert_true(taken.inner.code == CODE_BAD_REQUEST || taken.inner.code == CODE_UNAUTHORIZED);
        return taken.inner.code == CODE_BAD_REQUEST;
}

static unsigned count_known(struct oscore *oscore, unsigned from, unsigned to) {
        unsigned n = 0;

        for (unsigned i = from; i < to; i++)
                n += is_known(oscore, i);
        return n;
}

static struct oscore *crowd_open(struct crowd *crowd) {
        const struct oscore_callbacks callbacks = {
                .context = crowd, .load = load_of_crowd, .lease = lease_of_crowd, .epoch = epoch_of_crowd,
                .renew = renew_of_crowd, .generation = generation_of_crowd };
        struct oscore *oscore;

        assert_int_equal(oscore_new(&callbacks, CONTEXTS, &oscore), 0);
        return oscore;
}

/* The store is asked once for each, again when it is next used after something was changed, and else never. */
static void expect_few_loads(struct crowd *crowd, struct oscore *oscore) {
        struct oscore_figures figures;

        assert_int_equal(crowd->n_loads, CONTEXTS);
        assert_int_equal(count_known(oscore, 0, CONTEXTS), CONTEXTS);
        assert_int_equal(crowd->n_loads, CONTEXTS);
        crowd->generation += 10;
        crowd->n_removed = 5;
        assert_int_equal(count_known(oscore, 0, 100), 95);
        assert_int_equal(count_known(oscore, 5, 100), 95);
        assert_int_equal(crowd->n_loads, CONTEXTS + 100);
        oscore_figures(oscore, &figures);
        assert_int_equal(figures.n_contexts, CONTEXTS - 5);
        assert_int_equal(figures.n_loaded, CONTEXTS); /* keys are not derived again */
        assert_int_equal(figures.n_evicted, 0);
}

static void a_hundred_thousand_contexts_are_held_for_a_kilobyte_each(void **state) {
        struct crowd crowd = {};
        struct oscore *oscore = crowd_open(&crowd);
        size_t before, each;

        assert_true(is_known(oscore, 0)); /* what OpenSSL keeps from its first use on is none of theirs */
        oscore_free(oscore);
        before = heap_in_use;
        crowd.n_loads = 0;
        oscore = crowd_open(&crowd);
        assert_int_equal(count_known(oscore, 0, CONTEXTS), CONTEXTS);
        each = (heap_in_use - before) / CONTEXTS;
        print_message("%zu bytes a context\n", each);
        assert_true(each > 0 && each <= CONTEXT_SIZE_MAX);
        expect_few_loads(&crowd, oscore);
        oscore_free(oscore);
        assert_int_equal(heap_in_use, before);
}

/* Those that were used go by last use: test_contexts.c. */
static void the_latest_that_nobody_used_go(void **state) {
        struct oscore_figures figures;
        struct crowd crowd = {};
        struct oscore *oscore = crowd_open(&crowd);

        (void)count_known(oscore, 0, 1000);
        oscore_set_limit(oscore, 300);
        oscore_figures(oscore, &figures);
        assert_int_equal(figures.n_contexts, 300);
        assert_int_equal(figures.n_evicted, 700);
        assert_int_equal(count_known(oscore, 0, 300), 300);
        assert_int_equal(crowd.n_loads, 1000);
        assert_int_equal(count_known(oscore, 300, 400), 100);
        assert_int_equal(crowd.n_loads, 1100);
        oscore_figures(oscore, &figures);
        assert_int_equal(figures.n_contexts, 300 + OSCORE_CANDIDATES_MAX);
        assert_int_equal(count_known(oscore, 0, 300), 300);
        assert_int_equal(crowd.n_loads, 1100);
        oscore_free(oscore);
}

/* ---- out of memory, and what is left behind */

#define PLAIN "what nobody else may read"

/* What the server does is watched, what the device does is not. */
static enum oscore_verdict watched_take(struct device *device) {
        enum oscore_verdict verdict;
        struct coap_message outer;
        bool header_ok;

        assert_int_equal(coap_message_decode(buf_bytes(&device->sent), &outer, &header_ok), 0);
        buf_wiped(&device->plain);
        watching = true;
        verdict = oscore_take(device->realm->oscore, &outer, device->realm->now, &device->plain, &device->taken);
        watching = false;
        return verdict;
}

static int watched_protect(struct device *device, bool own_number, const struct coap_message *inner,
                           struct oscore_outer *ret) {
        int r;

        watching = true;
        r = oscore_protect(device->realm->oscore, &device->taken.binding, own_number, inner, ret);
        watching = false;
        return r;
}

/* Until it is not lost any more. What was taken once is not taken again. */
static void say(struct device *device, struct bytes echo, enum oscore_verdict expected) {
        struct coap_message message = { .code = CODE_POST, .payload = BYTES_LITERAL(PLAIN) };
        enum oscore_verdict verdict;

        if (echo.data)
                assert_int_equal(coap_message_add(&message, OPTION_ECHO, echo), 0);
        do {
                device_write(device, &message);
                verdict = watched_take(device);
                assert_true(verdict == expected || (verdict == OSCORE_DROP && fail_allocation == 0));
        } while (verdict != expected);
        if (verdict == OSCORE_REQUEST) {
                struct device again = *device;

                again.plain = BUF_INIT(MESSAGE_MAX);
                expect_no(&again, device_arrives(&again), CODE_UNAUTHORIZED, "Replay detected");
                buf_done(&again.plain);
        }
}

/* The same for a response; what was tried under the request's nonce is not tried under it again. */
static void hear(struct device *device, bool own_number, const struct coap_message *answer, struct buf *plain,
                 struct coap_message *ret) {
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        bool is_spent = device->taken.binding.nonce_is_spent;
        int64_t piv;
        int r = watched_protect(device, own_number, answer, &outer);

        if (r != 0) {
                assert_true(r < 0 && fail_allocation == 0);
                buf_wiped(&outer.payload);
                is_spent |= device->taken.binding.nonce_is_spent;
                assert_int_equal(watched_protect(device, own_number, answer, &outer), 0);
        }
        piv = device_read(device, &outer.message, plain, ret);
        assert_int_equal(piv >= 0, is_spent || own_number);
        buf_done(&outer.payload);
}

static void say_with_echo(struct device *device) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);
        struct coap_message inner;

        say(device, BYTES_NONE, OSCORE_ECHO);
        hear(device, false, &device->taken.inner, &plain, &inner);
        say(device, coap_message_option(&inner, OPTION_ECHO, 0)->value, OSCORE_REQUEST);
}

static void say_in_renewal(struct device *device) {
        const struct oscore_input input = device_input(device->realm, 1);
        struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };
        uint8_t kid_context[OSCORE_KID_CONTEXT_SIZE_MAX], r[OSCORE_RENEWING_R_SIZE] = "a device";
        struct oscore_renewing renewing;
        int failed;

        do {
                assert_int_equal(oscore_renewing_begin(&renewing, &input, r, &device->keys), 0);
                device->kid_context = bytes_of(kid_context, oscore_renewing_kid_context(&renewing, kid_context));
                say(device, BYTES_NONE, OSCORE_ECHO);
                failed = watched_protect(device, false, &device->taken.inner, &outer);
                assert_true(failed == 0 || fail_allocation == 0);
                r[0]++;
        } while (failed != 0);
        assert_int_equal(oscore_renewing_heard(&renewing, &input, &device->request, &outer.message, r, &device->keys),
                         0);
        buf_done(&outer.payload);
        device->kid_context = bytes_of(kid_context, oscore_renewing_kid_context(&renewing, kid_context));
        say(device, BYTES_NONE, OSCORE_REQUEST);
        device->kid_context = BYTES_NONE;
}

/* Echo, a request, an answer, a notification, after a change, after a renewal. */
static void tell(struct device *device) {
        struct coap_message answer = { .code = CODE_CONTENT, .payload = BYTES_LITERAL(PLAIN PLAIN PLAIN) };

        assert_int_equal(coap_message_add(&answer, OPTION_LOCATION_PATH, BYTES_LITERAL(PLAIN)), 0);
        say_with_echo(device);
        for (unsigned run = 0; run < 3; run++) {
                _cleanup_(buf_done) struct buf plain = BUF_INIT(MESSAGE_MAX);
                struct coap_message inner;

                hear(device, false, &answer, &plain, &inner);
                assert_true(bytes_equal(inner.payload, answer.payload));
                buf_clear(&plain);
                hear(device, true, &answer, &plain, &inner);
                device->realm->generation++;
                if (run == 0)
                        say(device, BYTES_NONE, OSCORE_REQUEST);
                else if (run == 1)
                        say_in_renewal(device);
        }
}

static void tell_with(enum aead_alg alg, enum oscore_hkdf hkdf, unsigned fail_at) {
        struct realm realm;

        realm_open(&realm);
        struct registered *registered = realm_registered(&realm, 1);

        registered->input.alg = alg;
        registered->input.hkdf = hkdf;
        registered->renews = true;
        struct device device = device_of(&realm, 1);

        needles[0] = registered->input.master_secret;
        needles[1] = BYTES_LITERAL(PLAIN);
        needles[2] = secret_bytes(&device.keys.sender_key); /* as they are later, too */
        needles[3] = secret_bytes(&device.keys.recipient_key);
        n_needles = fail_at == 0 ? 4 : 0;
        fail_allocation = fail_at;
        tell(&device);
        watching = true;
        realm_close(&realm);
        watching = false;
        n_needles = 0;
        buf_wiped(&device.plain);
        device_done(&device);
}

static void one_allocation_that_fails_costs_one_message(void **state) {
        unsigned n = 0;

        do {
                n += 1 + n / 32; /* the later, the more alike */
                tell_with(AEAD_AES_CCM_16_64_128, OSCORE_HKDF_SHA256, n);
        } while (fail_allocation == 0);
        fail_allocation = 0;
        assert_true(n > 100);
}

/* What the server gave back has neither secrets nor what was inside of messages in it. */
static void nothing_is_left_behind(void **state) {
        n_left_behind = 0;
        for (enum aead_alg alg = AEAD_AES_CCM_16_64_128; alg <= AEAD_CHACHA20_POLY1305; alg++)
                for (enum oscore_hkdf hkdf = OSCORE_HKDF_SHA256; hkdf <= OSCORE_HKDF_SHA512; hkdf++)
                        tell_with(alg, hkdf, 0);
        assert_int_equal(n_left_behind, 0);
}

#define ANSWER_MAX 300 /* bytes that there are for one */

/* Whatever its size: neither by a buffer that grows, nor where there is no room for it all. */
static void nothing_of_an_answer_is_left_behind(void **state) {
        uint8_t text[ANSWER_MAX];
        struct realm realm;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        device_meet(&device);
        for (size_t i = 0; i < sizeof(text); i++)
                text[i] = (uint8_t)PLAIN[i % strlen(PLAIN)];
        needles[0] = BYTES_LITERAL(PLAIN);
        n_needles = 1;
        n_left_behind = 0;
        for (size_t size = strlen(PLAIN); size <= ANSWER_MAX; size++) {
                struct coap_message answer = { .code = CODE_CONTENT, .payload = bytes_of(text, size) };
                struct oscore_outer outer = { .payload = BUF_INIT(ANSWER_MAX) };
                size_t whole = 1 + 2 + strlen(PLAIN) + 1 + size + 8; /* code, option, marker, payload, tag */

                assert_int_equal(coap_message_add(&answer, OPTION_LOCATION_PATH, BYTES_LITERAL(PLAIN)), 0);
                assert_int_equal(watched_protect(&device, true, &answer, &outer),
                                 whole <= ANSWER_MAX ? 0 : -EOVERFLOW);
                watching = true;
                buf_done(&outer.payload);
                watching = false;
        }
        assert_int_equal(n_left_behind, 0);
        n_needles = 0;
        device_done(&device);
        realm_close(&realm);
}

/* OpenSSL's copy of the keys that were used last is no exception, even if the context itself had to make room before. */
static void nothing_stays_of_what_is_forgotten(void **state) {
        const struct coap_message answer = { .code = CODE_CONTENT };
        struct realm realm;
        size_t before;

        realm_open(&realm);
        struct device device = device_of(&realm, 1);

        device_meet(&device); /* what OpenSSL keeps from its first use on is none of it */
        realm_start(&realm, 10);
        before = heap_in_use;
        for (unsigned run = 0; run < 2; run++) {
                struct oscore_outer outer = { .payload = BUF_INIT(MESSAGE_MAX) };

                device_meet(&device);
                assert_int_equal(oscore_protect(realm.oscore, &device.taken.binding, false, &answer, &outer), 0);
                buf_done(&outer.payload);
                assert_true(heap_in_use > before);
                if (run == 1)
                        oscore_set_limit(realm.oscore, 0);
                oscore_forget(realm.oscore, 1, BYTES_LITERAL("\xc1"));
                if (heap_in_use != before)
                        fail_msg("run %u: %zu bytes stay", run, heap_in_use - before);
        }
        device_done(&device);
        realm_close(&realm);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_hundred_thousand_contexts_are_held_for_a_kilobyte_each),
                cmocka_unit_test(the_latest_that_nobody_used_go),
                cmocka_unit_test(one_allocation_that_fails_costs_one_message),
                cmocka_unit_test(nothing_is_left_behind),
                cmocka_unit_test(nothing_of_an_answer_is_left_behind),
                cmocka_unit_test(nothing_stays_of_what_is_forgotten),
        };

        if (CRYPTO_set_mem_functions(ssl_malloc, ssl_realloc, ssl_free) != 1)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
