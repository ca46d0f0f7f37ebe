/*
 * COSE objects, keys, and what identifies a token: as received, and as the plain text of an object that authenticates,
 * so that nothing behind the tag is out of reach.
 */

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/cose.h"
#include "format/cwt.h"
#include "fuzz.h"

#define OBJECT_MAX (FUZZ_GUARDED_MAX + 256)

static void open_as_received(struct bytes object, struct bytes key) {
        _cleanup_(buf_done) struct buf plain = BUF_INIT(OBJECT_MAX);
        struct cose_encrypt0_parts parts;
        int parsed = cose_encrypt0_parse(object, &parts), opened = cose_encrypt0_open(object, key, &plain);

        MUST(parsed == 0 || parsed == REFUSE_MALFORMED || parsed == REFUSE_WRONG_TYPE);
        MUST(parsed != 0 ? opened == parsed : opened == 0 || opened == REFUSE_MALFORMED);
        MUST(opened == 0 || plain.size == 0);
        if (parsed == 0)
                MUST(parts.nonce.size == aead_info(parts.alg)->nonce_size &&
                     parts.cipher.size >= aead_info(parts.alg)->tag_size);
}

/* A MAC that nobody can guess, a signature by a key that has no owner: nothing verifies. */
static void prove_as_received(struct bytes object) {
        static const uint8_t mac_key[MAC_KEY_SIZE] = "a key no input was made with";
        const struct public_key public_key = { .curve = CURVE_ED25519, .x = { 0xd7, 0x5a } };
        struct cose_signed_parts parts;
        struct bytes payload = BYTES_NONE;
        int parsed = cose_mac0_parse(object, &parts), opened = cose_mac0_open(object, bytes_of(mac_key, 32), &payload);

        MUST(parsed == 0 || parsed == REFUSE_MALFORMED || parsed == REFUSE_WRONG_TYPE);
        MUST(opened == (parsed != 0 ? parsed : REFUSE_MALFORMED) && !payload.data);
        parsed = cose_sign1_parse(object, &parts);
        opened = cose_sign1_open(object, &public_key, &payload);
        MUST(parsed == 0 || parsed == REFUSE_MALFORMED || parsed == REFUSE_WRONG_TYPE);
        MUST(opened == (parsed != 0 ? parsed : REFUSE_MALFORMED) && !payload.data);
}

/* What is a key of ours comes back as it was, and is good: what OpenSSL takes, and what is no small order. */
static void take_key(struct bytes raw) {
        _cleanup_(buf_done) struct buf again = BUF_INIT(SPKI_SIZE_MAX);
        uint8_t spki[SPKI_SIZE_MAX];
        struct public_key other;
        struct cose_key key, twice;
        size_t size;
        int r = cose_key_decode(raw, &key);

        MUST(r == 0 || r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE);
        if (public_key_from_spki(raw, &other) == 0) {
                MUST(public_key_spki(&other, spki, &size) == 0);
                MUST(bytes_equal(bytes_of(spki, size), raw));
        }
        if (r != 0 || key.public_key.curve == CURVE_NONE || key.is_bad)
                return;
        MUST(public_key_check(&key.public_key) == 0);
        MUST(cose_key_encode(&key.public_key, &again) == 0);
        MUST(cose_key_decode(buf_bytes(&again), &twice) == 0 && !twice.is_bad);
        MUST(public_key_equal(&key.public_key, &twice.public_key));
        MUST(public_key_spki(&key.public_key, spki, &size) == 0);
        MUST(public_key_from_spki(bytes_of(spki, size), &other) == 0 && public_key_equal(&key.public_key, &other));
}

static void seal_and_open(struct bytes plain, struct bytes kid, bool tagged) {
        static const uint8_t key[16] = "a key of sixteen", nonce[13] = "thirteen byte";
        _cleanup_(buf_done) struct buf object = BUF_INIT(OBJECT_MAX), again = BUF_INIT(OBJECT_MAX);
        struct cose_encrypt0_parts parts;

        MUST(cose_encrypt0(AEAD_AES_CCM_16_64_128, bytes_of(key, 16), kid, bytes_of(nonce, 13), plain, tagged,
                           &object) == 0);
        MUST(cose_encrypt0_parse(buf_bytes(&object), &parts) == 0);
        MUST(bytes_equal(parts.kid, kid));
        MUST(cose_encrypt0_open(buf_bytes(&object), bytes_of(key, 16), &again) == 0);
        MUST(bytes_equal(buf_bytes(&again), plain));
}

/* The claims of a readable token are anybody's to write. */
static void mac_and_open(struct bytes payload, struct bytes kid, bool all_protected, bool tagged) {
        static const uint8_t key[MAC_KEY_SIZE] = "a key of thirty-two bytes, or so";
        _cleanup_(buf_done) struct buf object = BUF_INIT(OBJECT_MAX);
        struct cwt_place place;
        struct bytes again;

        MUST(cose_mac0(MAC_HMAC_256_64, bytes_of(key, 32), kid, all_protected, payload, tagged, &object) == 0);
        MUST(cose_mac0_open(buf_bytes(&object), bytes_of(key, 32), &again) == 0);
        MUST(bytes_equal(again, payload));
        if (cwt_find_place(buf_bytes(&object), &place) == 0)
                MUST(!place.by_exi || place.number == 0);
}

/* The same token, whatever tags stand around it (AS-173) */
static void identify(struct bytes token) {
        uint8_t hash[1 + TOKEN_HASH_SIZE], core_hash[TOKEN_HASH_SIZE];
        struct bytes core = cwt_core(token);
        struct cwt_place place;
        int r = cwt_find_place(token, &place);

        MUST(r == 0 || r == REFUSE_MALFORMED);
        MUST(cwt_trl_hash(token, hash) == 0);
        if (core.size > 0)
                MUST(core.data >= token.data && core.data + core.size <= token.data + token.size);
        MUST(cwt_hash(token, hash) == 0);
        if (core.size != token.size && cwt_core(core).size == core.size) {
                MUST(cwt_hash(core, core_hash) == 0);
                MUST(memcmp(hash, core_hash, sizeof(core_hash)) == 0);
        }
}

/* The first byte: how long the key, or the kid, is that stands in front of the object; and what is to be done. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes in = fuzz_guarded(bytes_of(data, size));
        uint8_t first = fuzz_take_byte(&in);
        struct bytes name = fuzz_take(&in, first & 0x3f);

        identify(in);
        if (first & 0x80) {
                seal_and_open(in, name.size > 0 ? name : BYTES_NONE, first & 0x40);
                mac_and_open(in, name.size > 0 ? name : BYTES_NONE, first & 1, first & 0x40);
        } else {
                open_as_received(in, name);
                prove_as_received(in);
                take_key(in);
        }
        return 0;
}
