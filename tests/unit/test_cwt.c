#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/grant.h"
#include "domain/refusal.h"
#include "format/ace.h"
#include "format/cbor.h"
#include "format/cose.h"
#include "format/cwt.h"
#include "format/labels.h"
#include "support/edn.h"
#include "support/grants.h"
#include "support/mutate.h"
#include "support/notation.h"
#include "support/vectors.h"

#define ISSUER BYTES_LITERAL("coaps://as.example")
#define SERVER_ID TYPICAL_SERVER_ID

static const uint8_t server_key[32] = "the key of a server and of ours";
static const uint8_t wrap_key[32] = "and one for keys in tokens only";
static const uint8_t nonce[AEAD_NONCE_SIZE_MAX] = "\x01\x02\x03\x04\x05\0\0\0\0\0\0\x12\x34";

DEFINE_FREEP(struct sign_key, sign_key_free)

static struct sign_key *new_signer(enum sign_alg alg, struct public_key *ret) {
        static const uint8_t private_key[COORDINATE_SIZE_MAX] = { 7, 7, 7 };
        struct bytes bytes = bytes_of(private_key, curve_size(sign_curve(alg)));
        struct sign_key *signer;

        assert_int_equal(key_public(sign_curve(alg), bytes, ret), 0);
        assert_int_equal(sign_key_new(alg, bytes, &signer), 0);
        return signer;
}

static struct cwt_protection protection_of(enum token_format format, struct sign_key *signer) {
        return (struct cwt_protection){
                .format = format, .tagged = true, .aead = AEAD_AES_CCM_16_64_128, .mac = MAC_HMAC_256_256,
                .key = bytes_of(server_key, format == TOKEN_FORMAT_MAC0 ? 32 : 16), .kid = BYTES_LITERAL("rs"),
                .wrap_key = bytes_of(wrap_key, 16), .nonce = bytes_of(nonce, 13), .signer = signer,
                .signer_kid = BYTES_LITERAL("sign"),
        };
}

static void assert_claims(const struct grant *grant, const struct cwt_protection *protection, const char *pattern) {
        _cleanup_(buf_done) struct buf claims = BUF_INIT(CWT_SIZE_MAX);
        char why[200];

        assert_int_equal(cwt_claims_encode(grant, ISSUER, protection, &claims), 0);
        if (edn_match(pattern, buf_bytes(&claims), NULL, why, sizeof(why)) != 0)
                fail_msg("%s: %s", pattern, why);
}

/* ---- claims */

static void claims_say_all_of_a_grant(void **state) {
        struct grant grant = typical_grant();

        grant.nbf_s = 1700000100;
        grant.cnonce_size = 3;
        memcpy(grant.cnonce, "\xe0\xa1\x56", 3);
        assert_claims(&grant, NULL, "{1: \"coaps://as.example\", 3: \"rs1\", 4: 1700003600, 5: 1700000100, "
                      "6: 1700000000, 7: h'00001234', 8: {1: {1: 4, 2: h'00001234', -1: '0123456789abcdef'}}, "
                      "9: \"read\", 39: h'e0a156'}");
}

/* AS-174: a number of the server's tokens instead of a time */
static void claims_have_exi_for_who_has_no_clock(void **state) {
        struct grant grant = typical_grant();

        grant.has_exi = true;
        grant.exi = 3;
        assert_claims(&grant, NULL, "{1: tstr, 3: \"rs1\", 6: 1700000000, 7: h'000000510000000000000003', 8: map, "
                      "9: \"read\", 40: 3600}");
}

/* AS-062: one key, in one form */
static void claims_have_one_key(void **state) {
        struct cwt_protection readable = protection_of(TOKEN_FORMAT_MAC0, NULL), signed_only;
        struct grant grant = typical_grant();

        signed_only = readable;
        signed_only.format = TOKEN_FORMAT_SIGN1;
        assert_claims(&grant, &readable, "{8: {2: [<< {1: 10} >>, {5: bstr[13]}, bstr]}, ...}");
        assert_claims(&grant, &signed_only, "{8: {2: [<< {1: 10} >>, {5: bstr[13]}, bstr]}, ...}");
        readable.wrap_kid = BYTES_LITERAL("w");
        assert_claims(&grant, &readable, "{8: {2: [<< {1: 10} >>, {4: 'w', 5: bstr[13]}, bstr]}, ...}");

        grant.derives_key = true; /* AS-103 */
        assert_claims(&grant, &readable, "{8: {1: {1: 4, 2: h'00001234'}}, ...}");
        assert_claims(&grant, NULL, "{8: {1: {1: 4, 2: h'00001234'}}, ...}");
        grant.derives_key = grant.new_key = false; /* it has the key, and nothing to read it with */
        readable.wrap_key = BYTES_NONE;
        assert_claims(&grant, &readable, "{8: {1: {1: 4, 2: h'00001234'}}, ...}");

        secret_done(&grant.pop_key);
        grant.public_key = (struct public_key){ .curve = CURVE_P256, .x = { 1 }, .y = { 2 } };
        assert_claims(&grant, &readable, "{8: {1: {1: 2, -1: 1, -2: bstr[32], -3: bstr[32]}}, ...}");
        grant.kid_size = 2;
        memcpy(grant.kid, "me", 2);
        assert_claims(&grant, NULL, "{8: {1: {1: 2, 2: 'me', -1: 1, -2: bstr[32], -3: bstr[32]}}, ...}");
        grant.public_key.curve = CURVE_ED25519;
        assert_claims(&grant, NULL, "{8: {1: {1: 1, 2: 'me', -1: 6, -2: bstr[32]}}, ...}");
}

/* AS-131, AS-124; AS-132: not where all can read it, nor encrypted by itself, for which there is no form */
static void claims_have_material_where_nobody_reads_it(void **state) {
        struct cwt_protection readable = protection_of(TOKEN_FORMAT_MAC0, NULL);
        struct cwt_protection nested = protection_of(TOKEN_FORMAT_SIGN_ENCRYPT, NULL);
        _cleanup_(buf_done) struct buf claims = BUF_INIT(CWT_SIZE_MAX);
        struct grant grant = typical_oscore_grant();

        assert_claims(&grant, NULL, "{8: {4: " TYPICAL_OSC "}, ...}");
        assert_claims(&grant, &nested, "{8: {4: " TYPICAL_OSC "}, ...}");
        grant.new_key = false; /* a refresh token's */
        assert_claims(&grant, NULL, "{8: {4: " TYPICAL_OSC "}, ...}");
        assert_int_equal(cwt_claims_encode(&grant, BYTES_LITERAL("as"), &readable, &claims), -EINVAL);
        readable.format = TOKEN_FORMAT_SIGN1;
        assert_int_equal(cwt_claims_encode(&grant, BYTES_LITERAL("as"), &readable, &claims), -EINVAL);

        grant.is_update = true;
        assert_claims(&grant, NULL, "{8: {3: h'00001234'}, ...}");
        assert_claims(&grant, &readable, "{8: {3: h'00001234'}, ...}");
        grant_done(&grant);
}

/* The form of RFC 9202 §3.3.1 when the key is derived, and of RFC 8747 §3.3 when it is encrypted */
static void claims_look_as_the_rfcs_have_them(void **state) {
        json_t *root = vectors_load("ace-examples");
        json_t *vector = vectors_find(vectors_get(root, "vectors"), "pop-encrypted-cose-key-claims");
        _cleanup_(buf_done) struct buf only_kid = BUF_INIT(CWT_SIZE_MAX), plain = BUF_INIT(CWT_SIZE_MAX);
        _cleanup_(buf_done) struct buf expected = vectors_bytes(vectors_find(vectors_get(root, "vectors"),
                                                                             "dtls-psk-token-cnf-kid-only"), "hex");
        _cleanup_(buf_done) struct buf claims = vectors_bytes(vector, "hex"), key = vectors_bytes(vector, "key");
        struct cbor_writer w = CBOR_WRITER(&only_kid);
        struct edn_captures *captures = test_calloc(1, sizeof(*captures));
        struct cose_key cose_key;
        char why[200];

        cbor_put_map(&w, 1);
        cbor_put_uint(&w, CLAIM_CNF);
        ace_put_symmetric_cnf(&w, UINT64_C(0x3d027833fc6267ce), BYTES_NONE);
        assert_int_equal(cbor_end(&w), 0);
        assert_true(bytes_equal(buf_bytes(&only_kid), buf_bytes(&expected)));

        assert_int_equal(edn_match("{8: {2: =enc}, ...}", buf_bytes(&claims), captures, why, sizeof(why)), 0);
        assert_int_equal(cose_encrypt0_open(edn_captured(captures, "enc", NULL), buf_bytes(&key), &plain), 0);
        assert_int_equal(cose_key_decode(buf_bytes(&plain), &cose_key), 0);
        assert_int_equal(cose_key.kty, KTY_SYMMETRIC);
        assert_int_equal(cose_key.alg, COSE_HMAC_256_256);
        assert_int_equal(cose_key.k.size, 32);
        test_free(captures);
        json_decref(root);
}

/* ---- protection */

static void tokens_have_their_form(void **state) {
        static const struct {
                enum token_format format;
                bool tagged, all_protected;
                const char *pattern;
        } rows[] = {
                { TOKEN_FORMAT_ENCRYPT0, true, false, "61(16([<< {1: 10} >>, {4: 'rs', 5: bstr[13]}, bstr]))" },
                { TOKEN_FORMAT_ENCRYPT0, false, false, "[<< {1: 10} >>, {4: 'rs', 5: bstr[13]}, bstr]" },
                { TOKEN_FORMAT_ENCRYPT0, false, true, "61(16([<< {1: 10, 4: 'rs', 5: bstr[13]} >>, {}, bstr]))" },
                { TOKEN_FORMAT_MAC0, true, false,
                  "61(17([<< {1: 5} >>, {4: 'rs'}, << {3: \"rs1\", ...} >>, bstr[32]]))" },
                { TOKEN_FORMAT_MAC0, false, false, "[<< {1: 5} >>, {4: 'rs'}, << {3: \"rs1\", ...} >>, bstr[32]]" },
                { TOKEN_FORMAT_MAC0, true, true, "61(17([<< {1: 5, 4: 'rs'} >>, {}, << map >>, bstr[32]]))" },
                { TOKEN_FORMAT_SIGN1, true, false, "61(18([<< {1: -7} >>, {4: 'sign'}, << map >>, bstr[64]]))" },
                { TOKEN_FORMAT_SIGN1, false, false, "[<< {1: -7} >>, {4: 'sign'}, << map >>, bstr[64]]" },
                { TOKEN_FORMAT_SIGN1, true, true, "61(18([<< {1: -7, 4: 'sign'} >>, {}, << map >>, bstr[64]]))" },
                { TOKEN_FORMAT_SIGN_ENCRYPT, true, false, "61(16([<< {1: 10} >>, {4: 'rs', 5: bstr[13]}, bstr]))" },
                { TOKEN_FORMAT_SIGN_ENCRYPT, false, true, "61(16([<< {1: 10, 4: 'rs', 5: bstr[13]} >>, {}, bstr]))" },
        };
        struct public_key public_key;
        _cleanup_(sign_key_freep) struct sign_key *signer = new_signer(SIGN_ES256, &public_key);
        struct grant grant = typical_grant();

        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                struct cwt_protection protection = protection_of(rows[i].format, signer);
                _cleanup_(buf_done) struct buf claims = BUF_INIT(CWT_SIZE_MAX), token = BUF_INIT(CWT_SIZE_MAX);
                struct cwt_place place;
                char why[200];

                protection.tagged = rows[i].tagged;
                protection.all_protected = rows[i].all_protected;
                assert_int_equal(cwt_claims_encode(&grant, ISSUER, &protection, &claims), 0);
                assert_int_equal(cwt_protect(&protection, buf_bytes(&claims), &token), 0);
                if (edn_match(rows[i].pattern, buf_bytes(&token), NULL, why, sizeof(why)) != 0)
                        fail_msg("%s: %s", rows[i].pattern, why);
                assert_int_equal(cwt_find_place(buf_bytes(&token), &place), 0);
                assert_false(place.by_exi);
                assert_int_equal(place.number, grant.number);
                /* AS-063: nowhere in clear */
                assert_null(bytes_find(buf_bytes(&token), secret_bytes(&grant.pop_key)));
        }
}

/* RFC 8392 §7.1: what is nested has its tag, whether the token has or not */
static void nested_tokens_open(void **state) {
        struct public_key public_key;
        _cleanup_(sign_key_freep) struct sign_key *signer = new_signer(SIGN_EDDSA, &public_key);
        struct cwt_protection protection = protection_of(TOKEN_FORMAT_SIGN_ENCRYPT, signer);
        _cleanup_(buf_done) struct buf token = BUF_INIT(CWT_SIZE_MAX), inner = BUF_INIT(CWT_SIZE_MAX);
        struct bytes payload;

        protection.tagged = false;
        assert_int_equal(cwt_protect(&protection, BYTES_LITERAL("claims"), &token), 0);
        assert_int_equal(cose_encrypt0_open(buf_bytes(&token), protection.key, &inner), 0);
        assert_int_equal(inner.data[0], 0xd2);
        assert_int_equal(cose_sign1_open(buf_bytes(&inner), &public_key, &payload), 0);
        assert_true(bytes_equal(payload, BYTES_LITERAL("claims")));
}

static void what_lacks_a_key_is_refused(void **state) {
        static const enum token_format formats[] = { TOKEN_FORMAT_SIGN1, TOKEN_FORMAT_SIGN_ENCRYPT,
                                                     TOKEN_FORMAT_OPAQUE, (enum token_format)0 };
        struct cwt_protection protection;
        _cleanup_(buf_done) struct buf token = BUF_INIT(CWT_SIZE_MAX);

        for (size_t i = 0; i < N_ELEMENTS(formats); i++) {
                protection = protection_of(formats[i], NULL);
                assert_int_equal(cwt_protect(&protection, BYTES_LITERAL("claims"), &token), -EINVAL);
                assert_int_equal(token.size, 0);
        }
        protection = protection_of(TOKEN_FORMAT_ENCRYPT0, NULL);
        protection.key.size = 15;
        assert_int_equal(cwt_protect(&protection, BYTES_LITERAL("claims"), &token), -EINVAL);
        protection = protection_of(TOKEN_FORMAT_MAC0, NULL);
        protection.key.size = 16;
        assert_int_equal(cwt_protect(&protection, BYTES_LITERAL("claims"), &token), -EINVAL);
        assert_int_equal(token.size, 0);
}

/* RFC 8392 Appendix A: what others make opens, and we make the same. */
static void tokens_of_rfc_8392_come_back(void **state) {
        json_t *root = vectors_load("cwt-rfc8392");
        _cleanup_(buf_done) struct buf claims = vectors_bytes(vectors_find(vectors_get(root, "vectors"), "A.1"),
                                                              "cbor");
        _cleanup_(buf_done) struct buf mac_key = vectors_bytes(root, "keys.symmetric256.k");
        _cleanup_(buf_done) struct buf signed_token = vectors_bytes(vectors_find(vectors_get(root, "vectors"), "A.3"),
                                                                    "cbor");
        _cleanup_(buf_done) struct buf mac_token = vectors_bytes(vectors_find(vectors_get(root, "vectors"), "A.4"),
                                                                 "cbor");
        _cleanup_(buf_done) struct buf nested = vectors_bytes(vectors_find(vectors_get(root, "vectors"), "A.6"),
                                                              "cbor");
        _cleanup_(buf_done) struct buf aead_key = vectors_bytes(root, "keys.symmetric128.k");
        _cleanup_(buf_done) struct buf inner = BUF_INIT(CWT_SIZE_MAX), again = BUF_INIT(CWT_SIZE_MAX);
        struct public_key key = { .curve = CURVE_P256 };
        struct bytes payload;
        size_t size;

        assert_int_equal(bytes_from_hex(vectors_text(root, "keys.ecdsa256.x"), key.x, 32, &size), 0);
        assert_int_equal(bytes_from_hex(vectors_text(root, "keys.ecdsa256.y"), key.y, 32, &size), 0);
        assert_int_equal(cose_sign1_open(buf_bytes(&signed_token), &key, &payload), 0);
        assert_true(bytes_equal(payload, buf_bytes(&claims)));

        assert_int_equal(cose_mac0_open(cwt_core(buf_bytes(&mac_token)), buf_bytes(&mac_key), &payload), 0);
        assert_true(bytes_equal(payload, buf_bytes(&claims)));
        assert_int_equal(cwt_protect(&(struct cwt_protection){ .format = TOKEN_FORMAT_MAC0, .tagged = true,
                                                               .mac = MAC_HMAC_256_64, .key = buf_bytes(&mac_key),
                                                               .kid = BYTES_LITERAL("Symmetric256") },
                                     buf_bytes(&claims), &again), 0);
        assert_true(bytes_equal(buf_bytes(&again), buf_bytes(&mac_token)));

        assert_int_equal(cose_encrypt0_open(buf_bytes(&nested), buf_bytes(&aead_key), &inner), 0);
        assert_int_equal(cose_sign1_open(buf_bytes(&inner), &key, &payload), 0);
        assert_true(bytes_equal(payload, buf_bytes(&claims)));
        json_decref(root);
}

/* ---- keys from tokens (AS-104) */

static void keys_are_derived_from_all_of_a_token(void **state) {
        static const uint8_t ikm[32] = { 1, 2, 3 };
        struct secret key = {}, other = {};

        /* HKDF-SHA-256, no salt, info 83 781c 4143452d… 10 45 746f6b656e; computed with another library */
        assert_int_equal(cwt_derive_key(bytes_of(ikm, sizeof(ikm)), BYTES_LITERAL("token"), 16, &key), 0);
        assert_int_equal(key.size, 16);
        assert_hex(secret_bytes(&key), "b948ac9e482838ed07772e674d1e1eee");
        assert_int_equal(cwt_derive_key(bytes_of(ikm, sizeof(ikm)), BYTES_LITERAL("tokem"), 16, &other), 0);
        assert_memory_not_equal(key.data, other.data, 16);
        assert_int_equal(cwt_derive_key(bytes_of(ikm, 31), BYTES_LITERAL("token"), 16, &other), 0);
        assert_memory_not_equal(key.data, other.data, 16);
        assert_int_equal(cwt_derive_key(bytes_of(ikm, sizeof(ikm)), BYTES_LITERAL("token"), 32, &other), 0);
        assert_int_equal(other.size, 32);
        assert_memory_not_equal(key.data, other.data, 16); /* the size is in info */
        assert_int_equal(cwt_derive_key(bytes_of(ikm, 16), BYTES_LITERAL("token"), 0, &other), -EINVAL);
        assert_int_equal(cwt_derive_key(bytes_of(ikm, 16), BYTES_LITERAL("token"), SECRET_SIZE_MAX + 1, &other),
                         -EINVAL);
}

/* ---- what a token is known by */

static void places_are_found(void **state) {
        static const struct {
                const char *token;
                int r;
                uint64_t number, exi;
        } rows[] = {
                { "61(17([<<{1: 5}>>, {}, <<{7: h'00001234'}>>, h'00']))", 0, 0x1234, 0 },
                { "[<<{1: -7}>>, {}, <<{3: \"rs1\", 7: h'123456789a'}>>, h'00']", 0, 0x123456789a, 0 },
                { "18([<<{1: -7}>>, {}, <<{7: h'000000510000000000000003'}>>, h'00'])", 0, 0, 3 },
                { "18([<<{1: -7}>>, {}, <<{7: h'0000005100000000000000'}>>, h'00'])", REFUSE_MALFORMED, 0, 0 },
                { "[<<{1: -7}>>, {}, <<{7: h'0000123456'}>>, h'00']", REFUSE_MALFORMED, 0, 0 },
                { "[<<{1: -7}>>, {}, <<{7: h'1234'}>>, h'00']", REFUSE_MALFORMED, 0, 0 },
                { "[<<{1: -7}>>, {}, <<{7: \"1234\"}>>, h'00']", REFUSE_MALFORMED, 0, 0 },
                { "[<<{1: -7}>>, {}, <<{3: \"rs1\"}>>, h'00']", REFUSE_MALFORMED, 0, 0 },
                { "[<<{1: -7}>>, {}, h'', h'00']", REFUSE_MALFORMED, 0, 0 },
                { "[<<{1: -7}>>, {}, <<[]>>, h'00']", REFUSE_MALFORMED, 0, 0 },
                { "61(16([<<{1: 10}>>, {5: h'01020304050000000000001234'}, h'0011223344556677']))", 0, 0x1234, 0 },
                { "{}", REFUSE_MALFORMED, 0, 0 },
                { "61(61([]))", REFUSE_MALFORMED, 0, 0 },
        };

        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                _cleanup_(buf_done) struct buf token = from_edn(rows[i].token);
                struct cwt_place place = {};
                int r = cwt_find_place(buf_bytes(&token), &place);

                if (r != rows[i].r || place.number != rows[i].number || place.exi != rows[i].exi ||
                    place.by_exi != (rows[i].exi != 0) || place.server_id != (place.by_exi ? SERVER_ID : 0))
                        fail_msg("%s: %d", rows[i].token, r);
        }
}

static void opaque_tokens_are_found(void **state) {
        static const uint64_t numbers[] = { 0, 1, 0x1234, UINT64_C(0xffffffffffffff) };
        static const uint8_t random[OPAQUE_RANDOM_SIZE] = { 0xd8, 0x3d };

        for (size_t i = 0; i < N_ELEMENTS(numbers); i++) {
                _cleanup_(buf_done) struct buf token = BUF_INIT(CWT_SIZE_MAX);
                struct cwt_place place;
                struct bytes core;

                assert_int_equal(cwt_opaque(numbers[i], random, &token), 0);
                assert_int_equal(token.size, 24);
                core = cwt_core(buf_bytes(&token));
                assert_ptr_equal(core.data, token.data);
                assert_int_equal(core.size, token.size);
                assert_int_equal(cwt_find_place(buf_bytes(&token), &place), 0);
                assert_int_equal(place.number, numbers[i]);
                token.size--;
                assert_int_equal(cwt_find_place(buf_bytes(&token), &place), REFUSE_MALFORMED);
        }
}

/* RFC 9770 §4: of the base64url text, which is what the name is made from for tokens in JSON, too */
static void revocation_lists_name_tokens(void **state) {
        json_t *root = vectors_load("ace-examples");
        _cleanup_(buf_done) struct buf token = vectors_bytes(vectors_find(vectors_get(root, "vectors"),
                                                                          "trl-tagged-token"), "hex");
        _cleanup_(buf_done) struct buf expected = vectors_bytes(vectors_find(vectors_get(root, "vectors"),
                                                                             "trl-token-hash"), "hex");
        uint8_t hash[1 + TOKEN_HASH_SIZE], other[1 + TOKEN_HASH_SIZE];

        assert_int_equal(cwt_trl_hash(buf_bytes(&token), hash), 0);
        assert_true(bytes_equal(bytes_of(hash, sizeof(hash)), bytes_of(expected.data + 2, expected.size - 2)));
        /* one, two, no bytes in the last group: sha256 of "", "AA", "AAE", "AAEC", "_-8" */
        static const struct {
                struct bytes token;
                const char *hash;
        } rows[] = {
                { BYTES_NONE, "01e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
                { BYTES_LITERAL("\0"), "0158bb119c35513a451d24dc20ef0e9031ec85b35bfc919d263e7e5d9868909cb5" },
                { BYTES_LITERAL("\0\1"), "013665c4d22b27e2e5528753cc5eea6c004d330d30d705ca02e7a2ac9b92a52444" },
                { BYTES_LITERAL("\0\1\2"), "016688ea8f2669ad284d82b62ebd2893d7167cbc941caeead579361676209f70f7" },
                { BYTES_LITERAL("\xff\xef"), "014bc97f30c3f4963501652fefb418ae7a2bd08ef96839a02cba480b457733da20" },
        };

        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                assert_int_equal(cwt_trl_hash(rows[i].token, other), 0);
                assert_hex(bytes_of(other, sizeof(other)), rows[i].hash);
        }
        json_decref(root);
}

static void judge_place(struct bytes mutant, void *context) {
        struct cwt_place place;
        uint8_t hash[1 + TOKEN_HASH_SIZE];
        int r = cwt_find_place(mutant, &place);

        assert_true(r == 0 || r == REFUSE_MALFORMED);
        assert_int_equal(cwt_hash(mutant, hash), 0);
        assert_int_equal(cwt_trl_hash(mutant, hash), 0);
}

static void mutants_have_places_or_none(void **state) {
        static const enum token_format formats[] = { TOKEN_FORMAT_ENCRYPT0, TOKEN_FORMAT_MAC0, TOKEN_FORMAT_SIGN1 };
        struct public_key public_key;
        _cleanup_(sign_key_freep) struct sign_key *signer = new_signer(SIGN_ES384, &public_key);
        struct grant grant = typical_grant();

        for (size_t i = 0; i < N_ELEMENTS(formats); i++) {
                struct cwt_protection protection = protection_of(formats[i], signer);
                _cleanup_(buf_done) struct buf claims = BUF_INIT(CWT_SIZE_MAX), token = BUF_INIT(CWT_SIZE_MAX);

                assert_int_equal(cwt_claims_encode(&grant, ISSUER, &protection, &claims), 0);
                assert_int_equal(cwt_protect(&protection, buf_bytes(&claims), &token), 0);
                mutate(buf_bytes(&token), judge_place, NULL);
        }
}

/* The largest grant there can be fits, in every format. */
static void the_largest_tokens_fit(void **state) {
        static const enum token_format formats[] = { TOKEN_FORMAT_ENCRYPT0, TOKEN_FORMAT_MAC0, TOKEN_FORMAT_SIGN1,
                                                     TOKEN_FORMAT_SIGN_ENCRYPT };
        struct public_key public_key;
        _cleanup_(sign_key_freep) struct sign_key *signer = new_signer(SIGN_ES384, &public_key);
        struct grant grant = typical_grant();
        static const char issuer[129] = { [0 ... 127] = 'i' }; /* as many as aced.conf takes */

        memset(grant.audience, 'a', AUDIENCE_SIZE_MAX);
        memset(grant.scope.data, 's', SCOPE_SIZE_MAX);
        grant.scope.size = SCOPE_SIZE_MAX;
        grant.public_key = (struct public_key){ .curve = CURVE_P384 };
        grant.kid_size = sizeof(grant.kid);
        grant.cnonce_size = sizeof(grant.cnonce);
        grant.nbf_s = grant.expires_s = grant.issued_s = grant.lifetime_s = INT64_MAX;
        grant.number = UINT64_MAX;
        for (size_t i = 0; i < N_ELEMENTS(formats); i++) {
                struct cwt_protection protection = protection_of(formats[i], signer);
                _cleanup_(buf_done) struct buf claims = BUF_INIT(CWT_SIZE_MAX), token = BUF_INIT(CWT_SIZE_MAX);

                assert_int_equal(cwt_claims_encode(&grant, bytes_text(issuer), &protection, &claims), 0);
                assert_int_equal(cwt_protect(&protection, buf_bytes(&claims), &token), 0);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(claims_say_all_of_a_grant),
                cmocka_unit_test(claims_have_exi_for_who_has_no_clock),
                cmocka_unit_test(claims_have_one_key),
                cmocka_unit_test(claims_have_material_where_nobody_reads_it),
                cmocka_unit_test(claims_look_as_the_rfcs_have_them),
                cmocka_unit_test(tokens_have_their_form),
                cmocka_unit_test(nested_tokens_open),
                cmocka_unit_test(what_lacks_a_key_is_refused),
                cmocka_unit_test(tokens_of_rfc_8392_come_back),
                cmocka_unit_test(keys_are_derived_from_all_of_a_token),
                cmocka_unit_test(places_are_found),
                cmocka_unit_test(opaque_tokens_are_found),
                cmocka_unit_test(revocation_lists_name_tokens),
                cmocka_unit_test(mutants_have_places_or_none),
                cmocka_unit_test(the_largest_tokens_fit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
