#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "crypto/pem.h"

/* One pair of P-256 as OpenSSL's tools write it: ecparam -genkey, pkey, pkey -pubout */
#define PARAMETERS "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
#define EC_PRIVATE                                                        \
        "-----BEGIN EC PRIVATE KEY-----\n"                                \
        "MHcCAQEEICf+e03BRs1gqPxAiGV4psbkyYWuM5pwrUG4berISsreoAoGCCqGSM49\n" \
        "AwEHoUQDQgAEMwORW/rvH6LRKsW2MBqLyBJ4Y2YPkaygT4jSlNej/5K2nlC+NXHv\n" \
        "ujVxkMEzBOGKplVR0P/7nJktF0pUpHEkJQ==\n"                          \
        "-----END EC PRIVATE KEY-----\n"
#define PRIVATE                                                           \
        "-----BEGIN PRIVATE KEY-----\n"                                   \
        "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgJ/57TcFGzWCo/ECI\n" \
        "ZXimxuTJha4zmnCtQbht6shKyt6hRANCAAQzA5Fb+u8fotEqxbYwGovIEnhjZg+R\n" \
        "rKBPiNKU16P/kraeUL41ce+6NXGQwTME4YqmVVHQ//ucmS0XSlSkcSQl\n"      \
        "-----END PRIVATE KEY-----\n"
#define PUBLIC                                                            \
        "-----BEGIN PUBLIC KEY-----\n"                                    \
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEMwORW/rvH6LRKsW2MBqLyBJ4Y2YP\n" \
        "kaygT4jSlNej/5K2nlC+NXHvujVxkMEzBOGKplVR0P/7nJktF0pUpHEkJQ==\n"  \
        "-----END PUBLIC KEY-----\n"
#define SPKI                                                              \
        "3059301306072a8648ce3d020106082a8648ce3d030107034200043303915bfaef1fa2d12ac5b6301a8bc8127863660f91aca04f88" \
        "d294d7a3ff92b69e50be3571efba357190c13304e18aa65551d0fffb9c992d174a54a4712425"
#define PRIVATE_NUMBER "27fe7b4dc146cd60a8fc40886578a6c6e4c985ae339a70ad41b86deac84acade"

static void known_pair(struct public_key *ret) {
        uint8_t spki[SPKI_SIZE_MAX];
        size_t size;

        assert_int_equal(bytes_from_hex(SPKI, spki, sizeof(spki), &size), 0);
        assert_int_equal(public_key_from_spki(bytes_of(spki, size), ret), 0);
}

static void test_reads_what_tools_write(void **state) {
        static const struct {
                const char *text;
                int r;
        } cases[] = {
                { PUBLIC, 0 },
                { PRIVATE, 0 },
                { EC_PRIVATE, 0 },
                { PARAMETERS EC_PRIVATE, 0 },
                { "a line for people\n" PARAMETERS "and another\n" PUBLIC, 0 },
                { "", -EINVAL },
                { "no key", -EINVAL },
                { PARAMETERS, -EINVAL },
                { "-----BEGIN PUBLIC KEY-----\nMFkwEwYH\n-----END PUBLIC KEY-----\n", -EINVAL },
                { "-----BEGIN PRIVATE KEY-----\nMFkwEwYH\n-----END PRIVATE KEY-----\n", -EINVAL },
                { "-----BEGIN CERTIFICATE-----\nMFkwEwYH\n-----END CERTIFICATE-----\n", -EINVAL },
                { "-----BEGIN PUBLIC KEY-----\nMFkw", -EINVAL },
        };
        struct public_key known, key;

        known_pair(&known);
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                assert_int_equal(pem_public_key(bytes_text(cases[i].text), &key), cases[i].r);
                if (cases[i].r == 0)
                        assert_true(public_key_equal(&key, &known));
        }
}

static void test_writes_what_tools_write(void **state) {
        _cleanup_(buf_done) struct buf out = BUF_INIT(4096);
        struct public_key known;
        uint8_t number[32];
        size_t size;

        known_pair(&known);
        assert_int_equal(bytes_from_hex(PRIVATE_NUMBER, number, sizeof(number), &size), 0);
        assert_int_equal(pem_put_private_key(CURVE_P256, bytes_of(number, size), &out), 0);
        assert_true(bytes_equal(buf_bytes(&out), BYTES_LITERAL(PRIVATE)));
        buf_clear(&out);
        assert_int_equal(pem_put_public_key(&known, &out), 0);
        assert_true(bytes_equal(buf_bytes(&out), BYTES_LITERAL(PUBLIC)));
}

static void test_reads_what_it_writes(void **state) {
        for (enum curve curve = CURVE_NONE + 1; curve < CURVES; curve++) {
                _cleanup_(buf_done) struct buf text = BUF_INIT(4096);
                _cleanup_(secret_done) struct secret private_key = {};
                struct public_key key, read;

                assert_int_equal(key_generate(curve, &key, &private_key), 0);
                assert_int_equal(pem_put_private_key(curve, secret_bytes(&private_key), &text), 0);
                assert_int_equal(pem_public_key(buf_bytes(&text), &read), 0);
                assert_true(public_key_equal(&key, &read));
                buf_clear(&text);
                assert_int_equal(pem_put_public_key(&key, &text), 0);
                assert_int_equal(pem_public_key(buf_bytes(&text), &read), 0);
                assert_true(public_key_equal(&key, &read));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reads_what_tools_write),
                cmocka_unit_test(test_writes_what_tools_write),
                cmocka_unit_test(test_reads_what_it_writes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
