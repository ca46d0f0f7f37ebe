#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "support/pki.h"
#include "transport/chain_cache.h"

#define NOW_S INT64_C(1700000000)
#define DAY_S 86400

DEFINE_FREEP(struct chain_cache, chain_cache_free)
DEFINE_FREEP(struct trust_anchors, trust_anchors_free)

static struct trust_anchors *anchors_of(const struct pki *authority) {
        _cleanup_(buf_done) struct buf pem = BUF_INIT(1 << 16);
        _cleanup_(diags_done) struct diags faults = {};
        struct trust_anchors *anchors = NULL;

        pki_put_pem(authority, &pem);
        assert_int_equal(trust_anchors_new(buf_bytes(&pem), "anchors", &anchors, &faults), 0);
        return anchors;
}

static struct pki *authority_new(const char *name) {
        return pki_new(&(struct pki_ask){ .subject = name, .constraints = "critical,CA:TRUE", .usage = "keyCertSign" });
}

static struct pki *device_new(const struct pki *issuer, int64_t until_s) {
        return pki_new(&(struct pki_ask){ .subject = "meter", .names = "DNS:meter.example,URI:urn:m:1",
                                          .usage = "digitalSignature", .purposes = "clientAuth",
                                          .from_s = NOW_S - DAY_S, .until_s = until_s, .issuer = issuer });
}

/* Rules that were heard of, one after the other; the search ends at the one that is wanted. */
struct heard {
        struct buf rules;
        const char *wanted;
};

static int on_rule(void *context, struct bytes rule) {
        struct heard *heard = context;

        assert_int_equal(buf_add(&heard->rules, rule), 0);
        assert_int_equal(buf_add_byte(&heard->rules, '\n'), 0);
        return heard->wanted && bytes_equal(rule, bytes_text(heard->wanted)) ? 7 : 0;
}

struct taken {
        int result;
        struct buf rules;
        struct chain_verdict verdict;
};

static struct taken take(struct chain_cache *cache, const struct trust_anchors *anchors, const struct pki *device,
                         int64_t now_s, const char *wanted) {
        struct heard heard = { .rules = BUF_INIT(4096), .wanted = wanted };
        const struct bytes chain[] = { pki_der(device) };
        struct taken taken = {};

        taken.result = chain_cache_take(cache, anchors, chain, 1, now_s, on_rule, &heard, &taken.verdict);
        taken.rules = heard.rules;
        return taken;
}

static void expect_figures(const struct chain_cache *cache, uint64_t n_read, uint64_t n_known) {
        struct chain_cache_figures figures;

        chain_cache_figures(cache, &figures);
        assert_int_equal(figures.n_read, n_read);
        assert_int_equal(figures.n_known, n_known);
}

/* The second time says what the first did, with the same names in the same order, and reads nothing. */
static void test_known(void **state) {
        _cleanup_(chain_cache_freep) struct chain_cache *cache = chain_cache_new();
        _cleanup_(pki_freep) struct pki *authority = authority_new("ca"), *device = device_new(authority, NOW_S + DAY_S);
        _cleanup_(trust_anchors_freep) struct trust_anchors *anchors = anchors_of(authority);
        struct taken first = take(cache, anchors, device, NOW_S, NULL), again, ended;

        assert_int_equal(first.verdict.fault, CERTIFICATE_GOOD);
        assert_int_equal(first.result, 0);
        assert_non_null(bytes_find(buf_bytes(&first.rules), BYTES_LITERAL("dns:meter.example\nuri:urn:m:1\nsubject:")));
        again = take(cache, anchors, device, NOW_S + 1, NULL);
        assert_int_equal(again.verdict.fault, CERTIFICATE_GOOD);
        assert_int_equal(again.result, 0);
        assert_true(bytes_equal(buf_bytes(&first.rules), buf_bytes(&again.rules)));
        assert_memory_equal(first.verdict.thumbprint, again.verdict.thumbprint, THUMBPRINT_SIZE);
        expect_figures(cache, 1, 1);

        ended = take(cache, anchors, device, NOW_S, "dns:meter.example");
        assert_int_equal(ended.result, 7);
        assert_null(bytes_find(buf_bytes(&ended.rules), BYTES_LITERAL("uri:")));
        expect_figures(cache, 1, 2);
        buf_done(&first.rules);
        buf_done(&again.rules);
        buf_done(&ended.rules);
}

/* A search that ended at the first name knows the others all the same. */
static void test_known_whole(void **state) {
        _cleanup_(chain_cache_freep) struct chain_cache *cache = chain_cache_new();
        _cleanup_(pki_freep) struct pki *authority = authority_new("ca"), *device = device_new(authority, NOW_S + DAY_S);
        _cleanup_(trust_anchors_freep) struct trust_anchors *anchors = anchors_of(authority);
        struct taken first = take(cache, anchors, device, NOW_S, "dns:meter.example");
        struct taken again = take(cache, anchors, device, NOW_S, "uri:urn:m:1");

        assert_int_equal(first.result, 7);
        assert_null(bytes_find(buf_bytes(&first.rules), BYTES_LITERAL("uri:")));
        assert_int_equal(again.result, 7);
        expect_figures(cache, 1, 1);
        buf_done(&first.rules);
        buf_done(&again.rules);
}

static void expect_fault(struct chain_cache *cache, const struct trust_anchors *anchors, const struct pki *device,
                         int64_t now_s, enum certificate_fault fault) {
        struct taken taken = take(cache, anchors, device, now_s, NULL);

        assert_int_equal(taken.result, 0);
        assert_int_equal(taken.verdict.fault, fault);
        buf_done(&taken.rules);
}

/* Nobody is let in by what was true once: the end of the certificate, and of its issuer's, other anchors. */
static void test_not_for_ever(void **state) {
        _cleanup_(chain_cache_freep) struct chain_cache *cache = chain_cache_new();
        _cleanup_(pki_freep) struct pki *authority = authority_new("ca"), *other = authority_new("other");
        _cleanup_(pki_freep) struct pki *brief = pki_new(&(struct pki_ask){
                .subject = "brief", .constraints = "critical,CA:TRUE", .usage = "keyCertSign",
                .from_s = NOW_S - DAY_S, .until_s = NOW_S + 100 });
        _cleanup_(pki_freep) struct pki *device = device_new(authority, NOW_S + 1000);
        _cleanup_(pki_freep) struct pki *of_brief = device_new(brief, NOW_S + 1000);
        _cleanup_(trust_anchors_freep) struct trust_anchors *anchors = anchors_of(authority), *others = anchors_of(other),
                                                            *briefs = anchors_of(brief);

        expect_fault(cache, anchors, device, NOW_S, CERTIFICATE_GOOD);
        expect_fault(cache, anchors, device, NOW_S + 999, CERTIFICATE_GOOD);
        expect_fault(cache, anchors, device, NOW_S + 1000, CERTIFICATE_EXPIRED);
        expect_fault(cache, anchors, device, NOW_S + 2000, CERTIFICATE_EXPIRED);
        expect_fault(cache, anchors, device, NOW_S - DAY_S, CERTIFICATE_GOOD);
        expect_fault(cache, anchors, device, NOW_S - DAY_S - 1, CERTIFICATE_NOT_YET);
        expect_figures(cache, 4, 2);

        chain_cache_clear(cache);
        expect_fault(cache, others, device, NOW_S, CERTIFICATE_FOREIGN);
        expect_fault(cache, others, device, NOW_S, CERTIFICATE_FOREIGN); /* what is no good is not kept */
        expect_figures(cache, 6, 2);

        chain_cache_clear(cache);
        expect_fault(cache, briefs, of_brief, NOW_S, CERTIFICATE_GOOD);
        expect_fault(cache, briefs, of_brief, NOW_S + 100, CERTIFICATE_EXPIRED);
}

/* One bit of it is another chain. */
static void test_damaged(void **state) {
        _cleanup_(chain_cache_freep) struct chain_cache *cache = chain_cache_new();
        _cleanup_(pki_freep) struct pki *authority = authority_new("ca"), *device = device_new(authority, NOW_S + DAY_S);
        _cleanup_(trust_anchors_freep) struct trust_anchors *anchors = anchors_of(authority);
        struct bytes der = pki_der(device);
        uint8_t copy[2048];
        struct heard heard = { .rules = BUF_INIT(4096) };
        const struct bytes chain[] = { bytes_of(copy, der.size) };
        struct chain_verdict verdict;

        expect_fault(cache, anchors, device, NOW_S, CERTIFICATE_GOOD);
        assert_true(der.size <= sizeof(copy));
        memcpy(copy, der.data, der.size);
        copy[der.size - 1] ^= 1;
        assert_int_equal(chain_cache_take(cache, anchors, chain, 1, NOW_S, on_rule, &heard, &verdict), 0);
        assert_int_not_equal(verdict.fault, CERTIFICATE_GOOD);
        expect_figures(cache, 2, 0);
        buf_done(&heard.rules);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_known),
                cmocka_unit_test(test_known_whole),
                cmocka_unit_test(test_not_for_ever),
                cmocka_unit_test(test_damaged),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
