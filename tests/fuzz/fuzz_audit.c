/* Records of the audit trail: as somebody with the database may have written them, for who lists and exports them. */
#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/audit.h"
#include "fuzz.h"

#define ENCODED_MAX (FUZZ_GUARDED_MAX + 256)

static bool same_numbers(const struct audit_record *a, const struct audit_record *b) {
        return a->decision == b->decision && a->credential_id == b->credential_id && a->has_uid == b->has_uid &&
               a->uid == b->uid && a->code == b->code && a->token == b->token && a->n_policies == b->n_policies &&
               a->n_more_policies == b->n_more_policies && a->expires_s == b->expires_s && a->is_cut == b->is_cut &&
               a->has_shadow == b->has_shadow && a->asked_kind == b->asked_kind &&
               a->granted_kind == b->granted_kind && a->shadow_kind == b->shadow_kind;
}

static bool same_texts(const struct audit_record *a, const struct audit_record *b) {
        return bytes_equal(a->peer, b->peer) && bytes_equal(a->party, b->party) && bytes_equal(a->action, b->action) &&
               bytes_equal(a->refusal, b->refusal) && bytes_equal(a->why, b->why) &&
               bytes_equal(a->object, b->object) && bytes_equal(a->asked, b->asked) &&
               bytes_equal(a->granted, b->granted) && bytes_equal(a->body, b->body) &&
               bytes_equal(a->shadow, b->shadow);
}

/* What is read and written is read again as it was. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes in = bytes_of(data, size < FUZZ_GUARDED_MAX ? size : FUZZ_GUARDED_MAX);
        _cleanup_(buf_done) struct buf encoded = BUF_INIT(ENCODED_MAX);
        struct audit_record record, again;
        int r = audit_record_decode(in, &record);

        MUST(r == 0 || r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE);
        if (r != 0)
                return 0;
        MUST(audit_record_encode(&record, &encoded) == 0);
        MUST(audit_record_decode(buf_bytes(&encoded), &again) == 0);
        MUST(same_numbers(&record, &again) && same_texts(&record, &again));
        return 0;
}
