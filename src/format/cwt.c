#include "format/cwt.h"

#include "crypto/hash.h"
#include "domain/grant.h"
#include "domain/refusal.h"
#include "format/ace.h"
#include "format/cbor.h"
#include "format/cose.h"
#include "format/labels.h"

static void put_cti(struct cbor_writer *w, uint64_t number) {
        uint8_t cti[NUMBER_SIZE_MAX];

        cbor_put_uint(w, CLAIM_CTI);
        cbor_put_bytes(w, bytes_of(cti, number_to_bytes(number, cti)));
}

int cwt_claims_encode(const struct grant *grant, struct bytes issuer, const struct cwt_protection *protection,
                      struct buf *claims) {
        struct cbor_writer w = CBOR_WRITER(claims);

        cbor_hold(&w, issuer.size + ACE_KEY_ROOM);
        cbor_put_map(&w, grant->scope.kind != SCOPE_NONE ? 7 : 6);
        cbor_put_uint(&w, CLAIM_ISS);
        cbor_put_text(&w, issuer);
        cbor_put_uint(&w, CLAIM_AUD);
        cbor_put_text(&w, bytes_text(grant->audience));
        /* RFC 8392 §2: seconds without the epoch tag */
        cbor_put_uint(&w, CLAIM_EXP);
        cbor_put_int(&w, grant->expires_s);
        cbor_put_uint(&w, CLAIM_IAT);
        cbor_put_int(&w, grant->issued_s);
        put_cti(&w, grant->number);
        /*
         * The key by value also when the client named one that it has (RFC 9202 §4): the server may not have got, or
         * may have lost, the token that brought it. The kid tells a server that knows it already.
         */
        cbor_put_uint(&w, CLAIM_CNF);
        ace_put_symmetric_cnf(&w, grant->key_number, secret_bytes(&grant->pop_key));
        ace_put_scope(&w, CLAIM_SCOPE, &grant->scope);
        return cbor_end(&w);
}

static bool is_cose_tag(const struct cbor_item *item) {
        return item->kind == CBOR_TAG && (item->argument == TAG_COSE_ENCRYPT0 || item->argument == TAG_COSE_MAC0 ||
                                          item->argument == TAG_COSE_SIGN1);
}

struct bytes cwt_core(struct bytes token) {
        struct bytes core = token;
        struct cbor_item item;

        if (cbor_item(core, &item) != 0)
                return token;
        if (item.kind == CBOR_TAG && item.argument == TAG_CWT) {
                core = item.content;
                if (cbor_item(core, &item) != 0)
                        return token;
        }
        return is_cose_tag(&item) ? item.content : core;
}

int cwt_find_place(struct bytes token, struct cwt_place *ret) {
        struct cose_encrypt0_parts parts;
        uint64_t number = 0;

        if (cose_encrypt0_parse(cwt_core(token), &parts) != 0 || parts.nonce.size < sizeof(number))
                return REFUSE_MALFORMED;
        for (size_t i = parts.nonce.size - sizeof(number); i < parts.nonce.size; i++)
                number = number << 8 | parts.nonce.data[i];
        *ret = (struct cwt_place){ .number = number };
        return 0;
}

int cwt_hash(struct bytes token, uint8_t ret[static TOKEN_HASH_SIZE]) {
        return sha256(cwt_core(token), ret);
}
