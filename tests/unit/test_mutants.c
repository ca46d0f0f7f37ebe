#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/refusal.h"
#include "domain/scope.h"
#include "domain/token.h"
#include "format/ace.h"
#include "format/cbor.h"
#include "format/coap.h"
#include "format/cose.h"
#include "format/cwt.h"
#include "format/describe.h"
#include "support/mutate.h"
#include "support/vectors.h"
#include "transport/translate.h"

/*
 * Every byte string of every file of tests/vectors, whatever it is an example of, with each bit flipped and cut at each
 * length, to every decoder: a clean refusal, or something sound. A file that is added there is met here by itself.
 */
#define SIZE_MIN 4     /* shorter strings are numbers, not messages */
#define TEXT_MAX 16384 /* notation of the longest */
#define PAYLOAD_MAX 1024

struct tally {
        size_t n_strings, n_mutants, n_sound;
};

static void must_be_refusal(int r) {
        assert_true(r == 0 || r == REFUSE_MALFORMED || r == REFUSE_WRONG_TYPE || r == REFUSE_MISSING);
}

static int as_message(struct bytes mutant) {
        struct coap_message message;
        struct request request;
        struct block_asks asks;
        bool header_ok;
        uint16_t bad;
        int r = coap_message_decode(mutant, &message, &header_ok);

        must_be_refusal(r);
        if (r != 0)
                return r;
        r = coap_request_check_options(&message, &bad);
        assert_true(r == 0 || r == REFUSE_BAD_OPTION);
        assert_in_range(translate_request(&message, PAYLOAD_MAX, &request, &asks), 0, REFUSALS - 1);
        return 0;
}

static int as_cbor(struct bytes mutant) {
        _cleanup_(buf_done) struct buf text = BUF_INIT(TEXT_MAX);
        json_t *value = NULL;
        int r = cbor_print(mutant, &text), described = describe_cbor(mutant, VOCABULARY_CLAIMS, &value);

        assert_true(r == 0 || r == REFUSE_MALFORMED);
        assert_true(described == 0 || described == REFUSE_MALFORMED);
        assert_true(r == 0 || described != 0);
        json_decref(value);
        return r;
}

static int as_token(struct bytes mutant) {
        static const uint8_t key[16] = "not the true key";
        _cleanup_(buf_done) struct buf plain = BUF_INIT(TEXT_MAX);
        struct cose_encrypt0_parts parts;
        uint8_t hash[TOKEN_HASH_SIZE];
        int r = cose_encrypt0_parse(mutant, &parts);

        must_be_refusal(r);
        assert_int_equal(cwt_hash(mutant, hash), 0);
        assert_int_not_equal(cose_encrypt0_open(mutant, bytes_of(key, sizeof(key)), &plain), 0);
        assert_int_equal(plain.size, 0);
        return r;
}

static int as_question(struct bytes mutant) {
        struct introspect_ask introspect;
        struct token_ask ask;
        int r = token_ask_decode(mutant, &ask);

        must_be_refusal(r);
        must_be_refusal(introspect_ask_decode(mutant, &introspect));
        return r;
}

static int as_small_thing(struct bytes mutant) {
        struct scope scope;
        uint64_t number;
        int r = scope_set(&scope, SCOPE_TEXT, mutant);

        assert_true(r == 0 || r == REFUSE_SCOPE);
        r = number_from_bytes(mutant, &number);
        assert_true(r == 0 || r == -EINVAL);
        return r;
}

static void judge(struct bytes mutant, void *context) {
        static int (*const readers[])(struct bytes) = { as_message, as_cbor, as_token, as_question, as_small_thing };
        struct tally *tally = context;

        tally->n_mutants++;
        for (size_t i = 0; i < N_ELEMENTS(readers); i++)
                tally->n_sound += readers[i](mutant) == 0;
}

static void try_string(const char *text, struct tally *tally) {
        _cleanup_(freep) uint8_t *bytes = malloc(strlen(text) + 1);
        size_t size;

        assert_non_null(bytes);
        if (bytes_from_hex(text, bytes, strlen(text), &size) != 0 || size < SIZE_MIN)
                return; /* words, or not worth it */
        tally->n_strings++;
        mutate(bytes_of(bytes, size), judge, tally);
}

/* Each string once, wherever it stands. */
static void try_value(const json_t *value, json_t *seen, struct tally *tally) {
        const char *key;
        json_t *member;
        size_t i;

        json_object_foreach((json_t *)value, key, member)
                try_value(member, seen, tally);
        json_array_foreach(value, i, member)
                try_value(member, seen, tally);
        if (!json_is_string(value) || json_object_get(seen, json_string_value(value)))
                return;
        json_object_set_new(seen, json_string_value(value), json_true());
        try_string(json_string_value(value), tally);
}

static void every_vector_survives_mutation(void **state) {
        const char *root = getenv("ACED_SRCDIR");
        json_t *seen = json_object();
        char folder[4096], name[300];
        struct dirent *entry;
        size_t n_files = 0;
        DIR *files;

        snprintf(folder, sizeof(folder), "%s/tests/vectors", root ? root : ".");
        files = opendir(folder);
        assert_non_null(files);
        while ((entry = readdir(files))) {
                struct tally tally = {};
                const char *dot = strrchr(entry->d_name, '.');
                json_t *file;

                if (!dot || strcmp(dot, ".json") != 0)
                        continue;
                snprintf(name, sizeof(name), "%.*s", (int)(dot - entry->d_name), entry->d_name);
                file = vectors_load(name);
                try_value(file, seen, &tally);
                json_decref(file);
                print_message("%s: %zu byte strings, %zu mutants, %zu times something sound\n", name, tally.n_strings,
                              tally.n_mutants, tally.n_sound);
                assert_true(tally.n_strings >= 10);
                assert_true(tally.n_sound > 0 && tally.n_sound < 5 * tally.n_mutants);
                n_files++;
        }
        closedir(files);
        json_decref(seen);
        assert_true(n_files >= 4);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_vector_survives_mutation),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
