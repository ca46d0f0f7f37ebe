/*
 * COSE_Encrypt0 and what identifies a token: as received, and as the plain text of an object that authenticates, so
 * that nothing behind the tag is out of reach.
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

/* The same token, whatever tags stand around it (AS-173) */
static void identify(struct bytes token) {
        uint8_t hash[TOKEN_HASH_SIZE], core_hash[TOKEN_HASH_SIZE];
        struct bytes core = cwt_core(token);

        if (core.size > 0)
                MUST(core.data >= token.data && core.data + core.size <= token.data + token.size);
        MUST(cwt_hash(token, hash) == 0);
        if (core.size != token.size && cwt_core(core).size == core.size) {
                MUST(cwt_hash(core, core_hash) == 0);
                MUST(memcmp(hash, core_hash, sizeof(hash)) == 0);
        }
}

/* The first byte: how long the key, or the kid, is that stands in front of the object; and what is to be done. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes in = fuzz_guarded(bytes_of(data, size));
        uint8_t first = fuzz_take_byte(&in);
        struct bytes name = fuzz_take(&in, first & 0x3f);

        identify(in);
        if (first & 0x80)
                seal_and_open(in, name.size > 0 ? name : BYTES_NONE, first & 0x40);
        else
                open_as_received(in, name);
        return 0;
}
