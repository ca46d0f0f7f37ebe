#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "crypto/certificate.h"
#include "support/pki.h"

#define NOW_S 1900000000
#define DAY_S 86400
#define CA "critical,CA:TRUE"
#define CA_USAGE "critical,keyCertSign,cRLSign"

DEFINE_FREEP(struct trust_anchors, trust_anchors_free)

/* ---- our own */

static void own_certificates(void **state) {
        static const struct {
                enum curve curve;
                const char *host, *name; /* name NULL: none */
                int r;
        } cases[] = {
                { CURVE_P256, "as.example.com", "dns:as.example.com", 0 },
                { CURVE_ED25519, "as.example.com", "dns:as.example.com", 0 },
                { CURVE_P384, "192.0.2.1", "ip:192.0.2.1", 0 },
                { CURVE_P256, "2001:db8::1", "ip:2001:db8::1", 0 },
                { CURVE_P256, "", NULL, 0 },
                { CURVE_X25519, "as", NULL, -EINVAL },
                { CURVE_P256, "two words", NULL, -EINVAL },
                { CURVE_P256, "a,email:b", NULL, -EINVAL },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(secret_done) struct secret private_key = {};
                struct public_key public_key, found;
                uint8_t der[2048];
                size_t size;

                assert_int_equal(key_generate(cases[i].curve, &public_key, &private_key), 0);
                assert_int_equal(certificate_make(&(struct certificate_ask){ .curve = cases[i].curve,
                                                          .private_key = secret_bytes(&private_key),
                                                          .host = cases[i].host, .serial = 7, .from_s = NOW_S },
                                                  der, sizeof(der), &size), cases[i].r);
                if (cases[i].r != 0)
                        continue;
                assert_int_equal(certificate_public_key(bytes_of(der, size), &found), 0);
                assert_true(public_key_equal(&found, &public_key));
                /* a byte more or less is none */
                assert_int_equal(certificate_public_key(bytes_of(der, size - 1), &found), -EINVAL);
                assert_int_equal(certificate_public_key(bytes_of(der, size + 1), &found), -EINVAL);
                assert_int_equal(certificate_make(&(struct certificate_ask){ .curve = cases[i].curve,
                                                          .private_key = secret_bytes(&private_key),
                                                          .host = cases[i].host, .serial = 7, .from_s = NOW_S },
                                                  der, size - 10, &size), -EOVERFLOW);
        }
}

/* ---- trust anchors */

static void anchors(void **state) {
        _cleanup_(pki_freep) struct pki *good = pki_new(&(struct pki_ask){ .subject = "good", .constraints = CA });
        _cleanup_(pki_freep) struct pki *weak = pki_new(&(struct pki_ask){ .subject = "weak", .rsa_bits = 1024 });
        static const char broken[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        static const char cut[] = "-----BEGIN CERTIFICATE-----\nMIIB";
        static const char key[] = "-----BEGIN PUBLIC KEY-----\n"
                                  "MCowBQYDK2VwAyEAsTrr1CgxEE7Ty+ioa9ZHS8vWdf2hKfyZzRi4BwSfMHI=\n"
                                  "-----END PUBLIC KEY-----\n";
        const struct {
                const struct pki *first, *second;
                const char *text;
                size_t n;      /* 0: refused */
                const char *why;
        } cases[] = {
                { good, NULL, NULL, 1, NULL },
                { good, NULL, "a remark\n", 1, NULL },
                { good, weak, NULL, 0, "bits of strength" },
                { NULL, NULL, NULL, 0, "there is no certificate" },
                { NULL, NULL, "nothing of ours\n", 0, "there is no certificate" },
                { good, NULL, broken, 0, "block 2 (CERTIFICATE) is no certificate" },
                { good, NULL, cut, 0, "block 2 is no PEM" },
                { good, NULL, key, 0, "block 2 (PUBLIC KEY) is no certificate" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(trust_anchors_freep) struct trust_anchors *anchors = NULL;
                _cleanup_(diags_done) struct diags faults = {};
                _cleanup_(buf_done) struct buf pem = BUF_INIT(65536);

                if (cases[i].first)
                        pki_put_pem(cases[i].first, &pem);
                if (cases[i].second)
                        pki_put_pem(cases[i].second, &pem);
                if (cases[i].text)
                        assert_int_equal(buf_add(&pem, bytes_text(cases[i].text)), 0);
                assert_int_equal(trust_anchors_new(buf_bytes(&pem), "file", &anchors, &faults),
                                 cases[i].n > 0 ? 0 : -EINVAL);
                assert_int_equal(trust_anchors_count(anchors), cases[i].n);
                assert_int_equal(faults.n_items, cases[i].n == 0);
                if (cases[i].why && !strstr(faults.items[0].text, cases[i].why))
                        fail_msg("case %zu: %s", i, faults.items[0].text);
        }
}

/* ---- chains */

static enum certificate_fault judge(const struct pki *anchor, const struct pki *const *chain, size_t n) {
        _cleanup_(trust_anchors_freep) struct trust_anchors *anchors = NULL;
        _cleanup_(diags_done) struct diags faults = {};
        _cleanup_(buf_done) struct buf pem = BUF_INIT(65536);
        struct bytes list[CERTIFICATE_CHAIN_MAX + 1];
        enum certificate_fault fault;

        if (anchor) {
                pki_put_pem(anchor, &pem);
                assert_int_equal(trust_anchors_new(buf_bytes(&pem), "file", &anchors, &faults), 0);
        }
        for (size_t i = 0; i < n; i++)
                list[i] = pki_der(chain[i]);
        assert_int_equal(certificate_judge(anchors, list, n, NOW_S, &fault), 0);
        return fault;
}

/* One certificate right under the anchor. */
static void certificates(void **state) {
        _cleanup_(pki_freep) struct pki *root =
                pki_new(&(struct pki_ask){ .subject = "root", .constraints = CA, .usage = CA_USAGE });
        _cleanup_(pki_freep) struct pki *other =
                pki_new(&(struct pki_ask){ .subject = "root", .constraints = CA, .usage = CA_USAGE });
        _cleanup_(pki_freep) struct pki *no_ca =
                pki_new(&(struct pki_ask){ .subject = "no ca", .constraints = "critical,CA:FALSE", .issuer = root });
        const struct {
                const char *what;
                struct pki_ask ask;
                enum certificate_fault fault;
        } cases[] = {
                { "plain", { .issuer = root }, CERTIFICATE_GOOD },
                { "Ed25519", { .issuer = root, .curve = CURVE_ED25519 }, CERTIFICATE_GOOD },
                { "client", { .issuer = root, .usage = "digitalSignature", .purposes = "clientAuth" },
                  CERTIFICATE_GOOD },
                { "SHA-384", { .issuer = root, .digest = "SHA384" }, CERTIFICATE_GOOD },
                { "another CA of that name", { .issuer = other }, CERTIFICATE_SIGNATURE },
                { "itself", {}, CERTIFICATE_FOREIGN },
                { "expired", { .issuer = root, .until_s = NOW_S - 1 }, CERTIFICATE_EXPIRED },
                { "last second", { .issuer = root, .until_s = NOW_S + 1 }, CERTIFICATE_GOOD },
                { "not yet", { .issuer = root, .from_s = NOW_S + 1 }, CERTIFICATE_NOT_YET },
                { "first second", { .issuer = root, .from_s = NOW_S }, CERTIFICATE_GOOD },
                { "SHA-1", { .issuer = root, .digest = "SHA1" }, CERTIFICATE_WEAK },
                { "P-384", { .issuer = root, .curve = CURVE_P384 }, CERTIFICATE_KEY },
                { "RSA", { .issuer = root, .rsa_bits = 2048 }, CERTIFICATE_KEY },
                { "server", { .issuer = root, .purposes = "serverAuth" }, CERTIFICATE_PURPOSE },
                { "encipherment", { .issuer = root, .usage = "keyAgreement" }, CERTIFICATE_PURPOSE },
                { "no ca", { .issuer = no_ca }, CERTIFICATE_PURPOSE },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct pki_ask ask = cases[i].ask;
                _cleanup_(pki_freep) struct pki *leaf = NULL;
                enum certificate_fault fault;

                ask.subject = "leaf";
                leaf = pki_new(&ask);
                fault = judge(root, (const struct pki *[]){ leaf, no_ca }, ask.issuer == no_ca ? 2 : 1);
                if (fault != cases[i].fault)
                        fail_msg("%s: %s", cases[i].what, certificate_fault_text(fault));
                if (fault == CERTIFICATE_GOOD)
                        assert_int_equal(judge(NULL, (const struct pki *[]){ leaf }, 1), CERTIFICATE_FOREIGN);
        }
}

/* root → 1 → 2 → … : three between a certificate and its anchor are the most, six shown */
static void chains(void **state) {
        enum { N = 6 };
        struct pki *cas[N] = {}, *leaves[N] = {};
        const struct pki *chain[N + 2];

        for (size_t i = 0; i < N; i++) {
                cas[i] = pki_new(&(struct pki_ask){ .subject = (const char *[]){ "0", "1", "2", "3", "4", "5" }[i],
                                                    .constraints = CA, .usage = CA_USAGE,
                                                    .issuer = i > 0 ? cas[i - 1] : NULL });
                leaves[i] = pki_new(&(struct pki_ask){ .subject = "leaf", .issuer = cas[i] });
        }
        for (size_t depth = 0; depth < N; depth++) {
                enum certificate_fault fault;

                chain[0] = leaves[depth];
                for (size_t i = 0; i < depth; i++) /* without the root */
                        chain[1 + i] = cas[depth - i];
                fault = judge(cas[0], chain, 1 + depth);
                assert_int_equal(fault, depth <= CERTIFICATE_INTERMEDIATES_MAX ? CERTIFICATE_GOOD :
                                                                                 CERTIFICATE_CHAIN_TOO_LONG);
                if (depth > 0 && depth <= CERTIFICATE_INTERMEDIATES_MAX) {
                        assert_int_equal(judge(cas[0], chain, 1), CERTIFICATE_FOREIGN); /* one is missing */
                        assert_int_equal(judge(cas[depth], chain, 1 + depth), CERTIFICATE_GOOD); /* an anchor below */
                }
        }
        chain[0] = leaves[0];
        for (size_t i = 1; i <= CERTIFICATE_CHAIN_MAX; i++)
                chain[i] = cas[0];
        assert_int_equal(judge(cas[0], chain, CERTIFICATE_CHAIN_MAX), CERTIFICATE_GOOD);
        assert_int_equal(judge(cas[0], chain, CERTIFICATE_CHAIN_MAX + 1), CERTIFICATE_CHAIN_TOO_LONG);
        assert_int_equal(judge(cas[0], chain, 0), CERTIFICATE_MALFORMED);
        for (size_t i = 0; i < N; i++) {
                pki_free(cas[i]);
                pki_free(leaves[i]);
        }
}

/* An intermediate that has expired, and one that may have none below it. */
static void issuers(void **state) {
        _cleanup_(pki_freep) struct pki *root =
                pki_new(&(struct pki_ask){ .subject = "root", .constraints = CA, .usage = CA_USAGE });
        const struct {
                struct pki_ask ask;
                enum certificate_fault fault;
        } cases[] = {
                { { .constraints = CA, .usage = CA_USAGE, .until_s = NOW_S - DAY_S }, CERTIFICATE_EXPIRED },
                { { .constraints = CA, .usage = "digitalSignature" }, CERTIFICATE_PURPOSE },
                { { .constraints = CA, .usage = CA_USAGE, .rsa_bits = 1024 }, CERTIFICATE_WEAK },
                { { .constraints = CA, .usage = CA_USAGE, .rsa_bits = 2048 }, CERTIFICATE_GOOD },
                { { .constraints = CA, .usage = CA_USAGE, .curve = CURVE_P384 }, CERTIFICATE_GOOD },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct pki_ask ask = cases[i].ask;
                _cleanup_(pki_freep) struct pki *issuer = NULL, *leaf = NULL;
                enum certificate_fault fault;

                ask.subject = "issuer";
                ask.issuer = root;
                issuer = pki_new(&ask);
                leaf = pki_new(&(struct pki_ask){ .subject = "leaf", .issuer = issuer });
                fault = judge(root, (const struct pki *[]){ leaf, issuer }, 2);
                if (fault != cases[i].fault)
                        fail_msg("issuer %zu: %s", i, certificate_fault_text(fault));
        }
}

/* Every bit of a certificate matters, wherever it is cut. */
static void broken_certificates(void **state) {
        _cleanup_(pki_freep) struct pki *root =
                pki_new(&(struct pki_ask){ .subject = "root", .constraints = CA, .usage = CA_USAGE });
        _cleanup_(pki_freep) struct pki *leaf = pki_new(&(struct pki_ask){ .subject = "leaf", .issuer = root });
        _cleanup_(trust_anchors_freep) struct trust_anchors *anchors = NULL;
        _cleanup_(diags_done) struct diags faults = {};
        _cleanup_(buf_done) struct buf pem = BUF_INIT(65536), copy = BUF_INIT(65536);
        enum certificate_fault fault;

        pki_put_pem(root, &pem);
        assert_int_equal(trust_anchors_new(buf_bytes(&pem), "file", &anchors, &faults), 0);
        assert_int_equal(buf_add(&copy, pki_der(leaf)), 0);
        for (size_t i = 0; i < 8 * copy.size; i++) {
                struct bytes bytes = buf_bytes(&copy);

                copy.data[i / 8] ^= (uint8_t)(1 << i % 8);
                assert_int_equal(certificate_judge(anchors, &bytes, 1, NOW_S, &fault), 0);
                if (fault == CERTIFICATE_GOOD)
                        fail_msg("bit %zu does not matter", i);
                copy.data[i / 8] ^= (uint8_t)(1 << i % 8);
        }
        for (size_t size = 0; size < copy.size; size++) {
                struct bytes bytes = bytes_of(copy.data, size);

                assert_int_equal(certificate_judge(anchors, &bytes, 1, NOW_S, &fault), 0);
                assert_int_equal(fault, CERTIFICATE_MALFORMED);
        }
}

/* ---- names */

static int collect(void *context, struct bytes rule) {
        struct buf *out = context;

        return buf_add(out, rule) || buf_add_byte(out, '\n');
}

static int stop(void *context, struct bytes rule) {
        return 1;
}

static void names(void **state) {
        static const struct {
                const char *names, *rules;
        } cases[] = {
                { NULL, "subject:CN=pump 7\\, east\n" },
                { "DNS:Pump-7.Example.COM,URI:urn:dev:7,email:P@Example.com,IP:192.0.2.1,IP:2001:db8:0::1,RID:1.2.3",
                  "dns:pump-7.example.com\nuri:urn:dev:7\nemail:P@Example.com\nip:192.0.2.1\nip:2001:db8::1\n"
                  "subject:CN=pump 7\\, east\n" },
                { "DNS:a,DNS:b,DNS:c,DNS:d,DNS:e,DNS:f,DNS:g,DNS:h,DNS:i,DNS:j,DNS:k,DNS:l,DNS:m,DNS:n,DNS:o,DNS:p,"
                  "DNS:q",
                  "dns:a\ndns:b\ndns:c\ndns:d\ndns:e\ndns:f\ndns:g\ndns:h\ndns:i\ndns:j\ndns:k\ndns:l\ndns:m\ndns:n\n"
                  "dns:o\ndns:p\nsubject:CN=pump 7\\, east\n" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(pki_freep) struct pki *pki =
                        pki_new(&(struct pki_ask){ .subject = "pump 7, east", .names = cases[i].names });
                _cleanup_(buf_done) struct buf out = BUF_INIT(65536);
                uint8_t thumbprint[THUMBPRINT_SIZE];
                char expected[1024] = "spki:";
                struct public_key key;

                assert_int_equal(public_key_from_spki(pki_spki(pki), &key), 0);
                assert_int_equal(public_key_thumbprint(&key, thumbprint), 0);
                bytes_to_hex(bytes_of(thumbprint, sizeof(thumbprint)), expected + 5, sizeof(expected) - 5);
                strcat(strcat(expected, "\n"), cases[i].rules);
                assert_int_equal(certificate_rules(pki_der(pki), collect, &out), 0);
                assert_int_equal(buf_add_byte(&out, '\0'), 0);
                assert_string_equal((char *)out.data, expected);
                assert_int_equal(certificate_rules(pki_der(pki), stop, NULL), 1);
        }
        assert_int_equal(certificate_rules(BYTES_LITERAL("no certificate"), stop, NULL), -EINVAL);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(own_certificates), cmocka_unit_test(anchors), cmocka_unit_test(certificates),
                cmocka_unit_test(chains),           cmocka_unit_test(issuers), cmocka_unit_test(broken_certificates),
                cmocka_unit_test(names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
