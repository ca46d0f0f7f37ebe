/*
 * The provisioning record of a security context: in CBOR, and as a file has it. What is taken for one comes out as it
 * went in, in either form, and keys can be derived from it.
 */
#include <jansson.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "format/json.h"
#include "format/oscore.h"
#include "format/oscore_record.h"
#include "fuzz.h"

static void must_be_record(const struct oscore_record *record) {
        _cleanup_(buf_wiped) struct buf encoded = BUF_INIT(OSCORE_RECORD_SIZE_MAX), text = BUF_INIT(JSON_TEXT_MAX);
        _cleanup_(diags_done) struct diags faults = {};
        struct oscore_record decoded = {}, read = {};
        const struct oscore_input input = oscore_input_of(&record->parameters, secret_bytes(&record->master_secret));
        struct oscore_keys keys;
        json_t *object = oscore_record_json(record);

        MUST(oscore_record_encode(record, &encoded) == 0);
        MUST(oscore_record_decode(buf_bytes(&encoded), &decoded) == 0);
        MUST(object && json_print(object, &text) == 0);
        MUST(oscore_record_read(buf_bytes(&text), &read, &faults) == 0);
        buf_clear(&text);
        MUST(oscore_record_encode(&read, &text) == 0 && bytes_equal(buf_bytes(&text), buf_bytes(&encoded)));
        buf_clear(&text);
        MUST(oscore_record_encode(&decoded, &text) == 0 && bytes_equal(buf_bytes(&text), buf_bytes(&encoded)));
        MUST(oscore_derive(&input, &keys) == 0);
        oscore_keys_done(&keys);
        json_decref(object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes in = fuzz_guarded(bytes_of(data, size));
        _cleanup_(buf_wiped) struct buf again = BUF_INIT(OSCORE_RECORD_SIZE_MAX);
        _cleanup_(diags_done) struct diags faults = {};
        struct oscore_record record = {};
        int r = oscore_record_decode(in, &record);

        MUST(r == 0 || r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE);
        if (r == 0) {
                MUST(oscore_record_encode(&record, &again) == 0 && bytes_equal(buf_bytes(&again), in));
                must_be_record(&record);
        }
        r = oscore_record_read(in, &record, &faults);
        MUST(r == 0 || r == REFUSE_ADMIN_SYNTAX || r == REFUSE_ADMIN_VALUE);
        MUST((r != 0) == (faults.n_items > 0));
        if (r == 0)
                must_be_record(&record);
        return 0;
}
