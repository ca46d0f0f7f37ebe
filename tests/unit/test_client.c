#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "main/context.h"

/* A device's end of OSCORE: its numbers, and its context against the server's functions. */

#define DATAGRAM_MAX 2048

/* ---- a directory with a record in it */

struct place {
        char directory[64], record[80], state[96];
};

static int setup(void **state) {
        struct place *place = calloc(1, sizeof(*place));
        FILE *file;

        snprintf(place->directory, sizeof(place->directory), "/tmp/aced-client-XXXXXX");
        assert_non_null(mkdtemp(place->directory));
        snprintf(place->record, sizeof(place->record), "%s/record", place->directory);
        snprintf(place->state, sizeof(place->state), "%s.state", place->record);
        file = fopen(place->record, "we");
        assert_non_null(file);
        fclose(file);
        *state = place;
        return 0;
}

static int teardown(void **state) {
        struct place *place = *state;
        const char *names[] = { "link", "record", "record.state", "record.state.new" };
        char path[96];

        for (size_t i = 0; i < N_ELEMENTS(names); i++) {
                snprintf(path, sizeof(path), "%s/%s", place->directory, names[i]);
                unlink(path);
        }
        rmdir(place->directory);
        free(place);
        return 0;
}

static void write_state(const struct place *place, const char *text) {
        FILE *file = fopen(place->state, "we");

        assert_non_null(file);
        fputs(text, file);
        fclose(file);
}

/* ---- numbers */

static void test_blocks_follow_each_other(void **state) {
        const struct place *place = *state;
        const uint64_t ends[] = { 1, 3, 7 };
        _cleanup_(numbers_done) struct numbers one = NUMBERS_INIT, other = NUMBERS_INIT;
        struct stat file;

        assert_int_equal(numbers_open(&one, place->record, 1), 0);
        for (size_t i = 0; i < N_ELEMENTS(ends); i++) {
                assert_int_equal(numbers_take(&one), 0);
                assert_int_equal(one.first, i == 0 ? 0 : ends[i - 1]);
                assert_int_equal(one.end, ends[i]);
        }
        assert_int_equal(numbers_open(&other, place->record, 1), 0);
        assert_int_equal(numbers_take(&other), 0);
        assert_int_equal(other.first, 7);
        assert_int_equal(numbers_take(&one), 0);
        assert_int_equal(one.first, 8);
        assert_int_equal(stat(place->state, &file), 0);
        assert_int_equal(file.st_mode & 0777, 0600);
}

static void test_one_row_by_any_name(void **state) {
        const struct place *place = *state;
        _cleanup_(numbers_done) struct numbers one = NUMBERS_INIT, other = NUMBERS_INIT;
        char link[96];

        snprintf(link, sizeof(link), "%s/link", place->directory);
        assert_int_equal(symlink(place->record, link), 0);
        assert_int_equal(numbers_open(&one, place->record, 5), 0);
        assert_int_equal(numbers_open(&other, link, 5), 0);
        assert_int_equal(numbers_take(&one), 0);
        assert_int_equal(numbers_take(&other), 0);
        assert_int_equal(other.first, 5);
}

/* Whoever comes at the same time gets other numbers. */
static void test_processes_at_once(void **state) {
        enum { PROCESSES = 4, ROUNDS = 50 };
        const struct place *place = *state;
        uint8_t seen[PROCESSES * ROUNDS] = {};
        uint64_t firsts[ROUNDS];
        int ends[2];

        assert_int_equal(pipe(ends), 0);
        for (int i = 0; i < PROCESSES; i++) {
                pid_t child = fork();

                assert_true(child >= 0);
                if (child > 0)
                        continue;
                for (int k = 0; k < ROUNDS; k++) {
                        struct numbers numbers;

                        firsts[k] = numbers_open(&numbers, place->record, 1) == 0 && numbers_take(&numbers) == 0 ?
                                            numbers.first : UINT64_MAX;
                        numbers_done(&numbers);
                }
                _exit(write(ends[1], firsts, sizeof(firsts)) == sizeof(firsts) ? 0 : 1);
        }
        for (int i = 0; i < PROCESSES; i++) {
                int status;

                assert_int_equal(read(ends[0], firsts, sizeof(firsts)), sizeof(firsts));
                for (int k = 0; k < ROUNDS; k++) {
                        assert_true(firsts[k] < sizeof(seen));
                        assert_int_equal(seen[firsts[k]]++, 0);
                }
                assert_true(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
        close(ends[0]);
        close(ends[1]);
}

/* What is not understood is no permission to begin anew. */
static void test_state_that_is_damaged(void **state) {
        static const char *const texts[] = {
                "", "{", "7", "{}", "{\"next\": -1}", "{\"next\": 1099511627777}", "{\"next\": \"7\"}",
                "{\"next\": 7.0}", "{\"next\": 7} {\"next\": 8}", "{\"next\": 7, \"id_context_hex\": \"00\"}",
                "{\"next\": 7, \"record\": \"00\", \"id_context_hex\": \"00\"}",
        };
        const struct place *place = *state;

        for (size_t i = 0; i < N_ELEMENTS(texts); i++) {
                _cleanup_(numbers_done) struct numbers numbers = NUMBERS_INIT;

                write_state(place, texts[i]);
                assert_int_equal(numbers_open(&numbers, place->record, 1), 0);
                assert_int_equal(numbers_take(&numbers), -EIO);
                assert_non_null(strstr(numbers.fault, "damaged"));
        }
}

static void test_state_elsewhere(void **state) {
        const struct place *place = *state;
        _cleanup_(numbers_done) struct numbers numbers = NUMBERS_INIT;

        assert_int_equal(symlink("/dev/null", place->state), 0);
        assert_int_equal(numbers_open(&numbers, place->record, 1), 0);
        assert_int_equal(numbers_take(&numbers), -EIO);
}

/* What a killed process left is in nobody's way. */
static void test_half_written(void **state) {
        const struct place *place = *state;
        _cleanup_(numbers_done) struct numbers numbers = NUMBERS_INIT;
        char path[128];
        FILE *file;

        snprintf(path, sizeof(path), "%s.new", place->state);
        file = fopen(path, "we");
        assert_non_null(file);
        fputs("{\"ne", file);
        fclose(file);
        write_state(place, "{\"next\": 41}\n");
        assert_int_equal(numbers_open(&numbers, place->record, 1), 0);
        assert_int_equal(numbers_take(&numbers), 0);
        assert_int_equal(numbers.first, 41);
}

static void test_no_numbers_left(void **state) {
        const struct place *place = *state;
        _cleanup_(numbers_done) struct numbers numbers = NUMBERS_INIT;

        write_state(place, "{\"next\": 1099511627775}");
        assert_int_equal(numbers_open(&numbers, place->record, 16), 0);
        assert_int_equal(numbers_take(&numbers), 0);
        assert_int_equal(numbers.end - numbers.first, 1);
        assert_int_equal(numbers.first, OSCORE_PIV_MAX);
        assert_int_equal(numbers_take(&numbers), -EIO);
        assert_non_null(strstr(numbers.fault, "all its sequence numbers are used"));
}

static void test_no_record(void **state) {
        _cleanup_(numbers_done) struct numbers numbers = NUMBERS_INIT;

        assert_int_equal(numbers_open(&numbers, "/nonexistent/record", 1), -EIO);
        assert_non_null(strstr(numbers.fault, "/nonexistent/record"));
}

/* ---- a context, and the server's end of it */

static const struct oscore_record plain_record = {
        .parameters = { .alg = AEAD_AES_CCM_16_64_128, .hkdf = OSCORE_HKDF_SHA256, .sender_id = { 1, { 7 } },
                        .recipient_id = { 0 }, .salt_size = 2, .salt = { 1, 2 } },
        .master_secret = { "0123456789abcdef", 16 },
};

struct pair {
        struct numbers numbers;
        struct context context;
        struct oscore_input server;
        struct oscore_keys keys; /* of the server */
        struct aead *aead;
        struct oscore_parameters turned;
        struct buf plain, datagram, response;
};

static void pair_open(struct pair *pair, const struct place *place, const struct oscore_record *record) {
        *pair = (struct pair){ .plain = BUF_INIT(DATAGRAM_MAX), .datagram = BUF_INIT(DATAGRAM_MAX),
                               .response = BUF_INIT(DATAGRAM_MAX), .aead = aead_new() };
        assert_non_null(pair->aead);
        assert_int_equal(numbers_open(&pair->numbers, place->record, 1), 0);
        assert_int_equal(context_open(&pair->context, record, &pair->numbers, pair->aead), 0);
        pair->turned = oscore_parameters_turned(&record->parameters);
        pair->server = oscore_input_of(&pair->turned, secret_bytes(&pair->context.record.master_secret));
        assert_int_equal(oscore_derive(&pair->server, &pair->keys), 0);
}

static void pair_done(struct pair *pair) {
        context_done(&pair->context);
        numbers_done(&pair->numbers);
        aead_free(pair->aead);
        oscore_keys_done(&pair->keys);
        buf_wiped(&pair->plain);
        buf_wiped(&pair->datagram);
        buf_wiped(&pair->response);
}

static struct bytes option_of(const struct coap_message *message) {
        const struct coap_option *option = coap_message_option(message, OPTION_OSCORE, 0);

        assert_non_null(option);
        return option->value;
}

/* A request of the device's as the server sees it; ret_option borrows from pair->datagram. */
static void ask(struct pair *pair, struct oscore_request *ret_request, struct coap_message *ret_outer,
                struct oscore_option *ret_option) {
        struct coap_message inner = { .type = TYPE_CON, .code = CODE_GET, .mid = 3, .token = BYTES_LITERAL("tok") };
        bool header_ok;

        assert_int_equal(coap_message_add(&inner, OPTION_URI_PATH, BYTES_LITERAL("token")), 0);
        buf_clear(&pair->datagram);
        assert_int_equal(context_protect(&pair->context, &inner, ret_request, &pair->datagram), 0);
        assert_int_equal(coap_message_decode(buf_bytes(&pair->datagram), ret_outer, &header_ok), 0);
        assert_int_equal(ret_outer->code, CODE_POST);
        assert_int_equal(ret_outer->mid, 3);
        assert_int_equal(oscore_option_decode(option_of(ret_outer), ret_option), 0);
}

static void server_opens(struct pair *pair, const struct coap_message *outer, const struct oscore_option *option,
                         struct oscore_request *ret_request) {
        struct coap_message inner;

        buf_clear(&pair->plain);
        assert_int_equal(oscore_unprotect_request(&pair->keys, option, outer, &pair->plain, &inner, ret_request), 0);
        assert_int_equal(inner.code, CODE_GET);
}

static void encode_response(struct pair *pair, struct oscore_outer *outer, struct coap_message *ret) {
        bool header_ok;

        buf_clear(&pair->response);
        assert_int_equal(coap_message_encode(&outer->message, &pair->response), 0);
        assert_int_equal(coap_message_decode(buf_bytes(&pair->response), ret, &header_ok), 0);
        buf_done(&outer->payload);
}

/* The server's response to it, as it comes back; it borrows from pair->response. */
static void answer(struct pair *pair, const struct oscore_request *request, const uint64_t *piv, uint8_t code,
                   struct coap_message *ret) {
        const struct coap_message inner = { .type = TYPE_ACK, .code = code, .mid = 3, .token = BYTES_LITERAL("tok"),
                                            .payload = BYTES_LITERAL("hello") };
        struct oscore_outer outer = { .payload = BUF_INIT(DATAGRAM_MAX) };

        assert_int_equal(oscore_protect_response(&pair->keys, request, piv, &inner, &outer), 0);
        encode_response(pair, &outer, ret);
}

static void test_requests_and_responses(void **state) {
        struct oscore_request request, earlier, seen;
        struct coap_message outer, response;
        struct oscore_option option;
        struct context_answer got;
        const uint64_t own = 300;
        struct pair pair;

        pair_open(&pair, *state, &plain_record);
        for (uint64_t n = 0; n < 10; n++) {
                if (n > 0)
                        earlier = request;
                ask(&pair, &request, &outer, &option);
                assert_int_equal(oscore_piv_decode(option.piv), n);
                assert_true(bytes_equal(option.kid, BYTES_LITERAL("\x07")));
                assert_null(option.kid_context.data);
                server_opens(&pair, &outer, &option, &seen);
                answer(&pair, &seen, n % 2 ? &own : NULL, CODE_CONTENT, &response);
                if (n > 0) /* it is to the other request */
                        assert_int_equal(context_unprotect(&pair.context, &earlier, &response, &pair.plain, &got),
                                         CONTEXT_FORGED);
                assert_int_equal(context_unprotect(&pair.context, &request, &response, &pair.plain, &got),
                                 CONTEXT_ANSWER);
                assert_int_equal(got.inner.code, CODE_CONTENT);
                assert_true(bytes_equal(got.inner.payload, BYTES_LITERAL("hello")));
                assert_int_equal(got.has_piv, n % 2);
                assert_int_equal(got.piv, n % 2 ? own : 0);
        }
        pair_done(&pair);
        /* another process: other numbers */
        pair_open(&pair, *state, &plain_record);
        ask(&pair, &request, &outer, &option);
        assert_int_equal(oscore_piv_decode(option.piv), 15);
        pair_done(&pair);
}

static void test_what_is_no_response(void **state) {
        struct coap_message outer, response, changed;
        struct oscore_request request, seen;
        struct oscore_option option;
        struct context_answer got;
        struct pair pair;

        pair_open(&pair, *state, &plain_record);
        ask(&pair, &request, &outer, &option);
        server_opens(&pair, &outer, &option, &seen);
        answer(&pair, &seen, NULL, CODE_CONTENT, &response);
        /* any byte of the ciphertext */
        for (size_t i = 0; i < response.payload.size; i++) {
                uint8_t *byte = (uint8_t *)response.payload.data + i;

                *byte ^= 1;
                assert_int_equal(context_unprotect(&pair.context, &request, &response, &pair.plain, &got),
                                 CONTEXT_FORGED);
                *byte ^= 1;
        }
        changed = response;
        changed.payload.size = 8;
        assert_int_equal(context_unprotect(&pair.context, &request, &changed, &pair.plain, &got), CONTEXT_FORGED);
        changed = response;
        assert_int_equal(coap_message_add(&changed, OPTION_OSCORE, BYTES_LITERAL("")), 0);
        assert_int_equal(context_unprotect(&pair.context, &request, &changed, &pair.plain, &got), CONTEXT_FORGED);
        changed = response;
        changed.options[0].value = BYTES_LITERAL("\x80");
        assert_int_equal(context_unprotect(&pair.context, &request, &changed, &pair.plain, &got), CONTEXT_FORGED);
        changed.n_options = 0;
        assert_int_equal(context_unprotect(&pair.context, &request, &changed, &pair.plain, &got), CONTEXT_UNPROTECTED);
        /* a request sent back is no response */
        assert_int_equal(context_unprotect(&pair.context, &request, &outer, &pair.plain, &got), CONTEXT_FORGED);
        assert_int_equal(context_unprotect(&pair.context, &request, &response, &pair.plain, &got), CONTEXT_ANSWER);
        pair_done(&pair);
}

/* An ID Context is told, also one of no bytes; none is not (RFC 8613 §5.1). */
static void test_id_context_is_told(void **state) {
        struct oscore_record record = plain_record;
        struct oscore_request request, seen;
        struct oscore_option option;
        struct coap_message outer;
        struct pair pair;

        record.parameters.has_id_context = true;
        for (size_t size = 0; size <= OSCORE_ID_CONTEXT_SIZE_MAX; size += 32) {
                record.parameters.id_context_size = size;
                pair_open(&pair, *state, &record);
                ask(&pair, &request, &outer, &option);
                assert_non_null(option.kid_context.data);
                assert_int_equal(option.kid_context.size, size);
                server_opens(&pair, &outer, &option, &seen);
                pair_done(&pair);
        }
}

/* Many contexts on one row of numbers: each may use every number of a block. */
static void test_contexts_share_numbers(void **state) {
        struct oscore_record record = plain_record;
        struct oscore_request request;
        struct oscore_option option;
        struct coap_message outer;
        uint64_t last = 0;
        struct context other;
        struct pair pair;

        pair_open(&pair, *state, &plain_record);
        record.parameters.sender_id.data[0] = 8;
        assert_int_equal(context_open(&other, &record, &pair.numbers, pair.aead), 0);
        for (unsigned n = 0; n < 20; n++) {
                ask(&pair, &request, &outer, &option);
                assert_true(n == 0 || oscore_piv_decode(option.piv) > last);
                last = oscore_piv_decode(option.piv);
        }
        {
                struct context first = pair.context;

                pair.context = other;
                ask(&pair, &request, &outer, &option);
                /* in the block that was taken last, without taking another */
                assert_int_equal(oscore_piv_decode(option.piv), pair.numbers.first);
                assert_true(pair.numbers.first <= last && last < pair.numbers.end);
                context_done(&pair.context);
                pair.context = first;
        }
        pair_done(&pair);
}

static void test_no_number_no_request(void **state) {
        const struct coap_message inner = { .type = TYPE_CON, .code = CODE_GET };
        struct oscore_request request;
        struct pair pair;

        write_state(*state, "{\"next\": 1099511627776}");
        pair_open(&pair, *state, &plain_record);
        assert_int_equal(context_protect(&pair.context, &inner, &request, &pair.datagram), -EIO);
        assert_int_equal(pair.datagram.size, 0);
        assert_string_not_equal(pair.numbers.fault, "");
        pair_done(&pair);
}

/* ---- renewal (Appendix B.2), with the server's part by hand */

static void derive_for(struct pair *pair, struct bytes one, struct bytes two) {
        oscore_keys_done(&pair->keys);
        assert_int_equal(oscore_derive_under(&pair->server, one, two, &pair->keys), 0);
}

/* The server's answer to request 1 with this R2. */
static void answer_renewing(struct pair *pair, const struct oscore_request *request, struct bytes r2, struct bytes r1,
                            struct coap_message *ret) {
        const struct coap_message inner = { .type = TYPE_ACK, .code = CODE_UNAUTHORIZED, .mid = 3,
                                            .token = BYTES_LITERAL("tok") };
        struct oscore_outer outer = { .payload = BUF_INIT(DATAGRAM_MAX) };
        uint8_t space[OSCORE_KID_CONTEXT_SIZE_MAX];
        size_t size = oscore_kid_context_wrap(r2, space);

        derive_for(pair, r2, r1);
        assert_int_equal(oscore_protect_renewing(&pair->keys, request, bytes_of(space, size), &inner, &outer), 0);
        encode_response(pair, &outer, ret);
}

/* From request 1 to response 2; the ID Context that came of it. */
static void renew(struct pair *pair, struct renewed *ret) {
        const struct bytes r2 = BYTES_LITERAL("0123456789abcdef");
        struct oscore_request request, seen;
        struct coap_message outer, response;
        struct bytes r1, both;
        struct oscore_option option;
        struct context_answer got;

        assert_int_equal(context_renew(&pair->context), 0);
        ask(pair, &request, &outer, &option);
        assert_true(oscore_kid_context_unwrap(option.kid_context, &r1));
        assert_int_equal(r1.size, OSCORE_RENEWING_R_SIZE);
        derive_for(pair, r1, BYTES_NONE);
        server_opens(pair, &outer, &option, &seen);
        answer_renewing(pair, &seen, r2, r1, &response);
        assert_int_equal(context_unprotect(&pair->context, &request, &response, &pair->plain, &got), CONTEXT_AGAIN);

        ask(pair, &request, &outer, &option);
        assert_true(oscore_kid_context_unwrap(option.kid_context, &both));
        assert_true(both.size == r2.size + OSCORE_RENEWING_R_SIZE && memcmp(both.data, r2.data, r2.size) == 0);
        *ret = (struct renewed){ .there = true, .size = both.size };
        memcpy(ret->id_context, both.data, both.size);
        derive_for(pair, both, BYTES_NONE);
        server_opens(pair, &outer, &option, &seen);
        answer(pair, &seen, NULL, CODE_CONTENT, &response);
        assert_int_equal(context_unprotect(&pair->context, &request, &response, &pair->plain, &got), CONTEXT_ANSWER);
}

static void test_renewal(void **state) {
        struct oscore_record record = plain_record, other;
        struct oscore_request request, seen;
        struct coap_message outer;
        struct oscore_option option;
        struct renewed renewed;
        struct pair pair;

        record.parameters.renews = true;
        pair_open(&pair, *state, &record);
        ask(&pair, &request, &outer, &option);
        assert_int_equal(oscore_piv_decode(option.piv), 0);
        renew(&pair, &renewed);
        /* from then on the ID Context is the new one, in this process … */
        for (int i = 0; i < 2; i++) {
                ask(&pair, &request, &outer, &option);
                assert_true(bytes_equal(option.kid_context, bytes_of(renewed.id_context, renewed.size)));
                /* numbers go on: none is used twice even under other keys */
                assert_int_equal(oscore_piv_decode(option.piv), i == 0 ? 3 : 7);
                derive_for(&pair, bytes_of(renewed.id_context, renewed.size), BYTES_NONE);
                server_opens(&pair, &outer, &option, &seen);
                pair_done(&pair);
                /* … and in the next */
                pair_open(&pair, *state, &record);
        }
        pair_done(&pair);
        /* but not for another record that stands in its place */
        other = record;
        other.master_secret.data[0] ^= 1;
        pair_open(&pair, *state, &other);
        ask(&pair, &request, &outer, &option);
        assert_null(option.kid_context.data);
        server_opens(&pair, &outer, &option, &seen);
        pair_done(&pair);
}

/* While keys are being made anew, nothing but response 1 goes on with it. */
static void test_renewal_is_not_forged(void **state) {
        struct oscore_record record = plain_record;
        struct oscore_request request, seen;
        struct coap_message outer, response;
        struct oscore_option option;
        struct context_answer got;
        struct bytes r1;
        struct pair pair;

        record.parameters.renews = true;
        pair_open(&pair, *state, &record);
        assert_int_equal(context_renew(&pair.context), 0);
        ask(&pair, &request, &outer, &option);
        assert_true(oscore_kid_context_unwrap(option.kid_context, &r1));
        derive_for(&pair, r1, BYTES_NONE);
        server_opens(&pair, &outer, &option, &seen);
        answer(&pair, &seen, NULL, CODE_UNAUTHORIZED, &response); /* under R1 alone, no kid context */
        assert_int_equal(context_unprotect(&pair.context, &request, &response, &pair.plain, &got), CONTEXT_FORGED);
        answer_renewing(&pair, &seen, BYTES_LITERAL("0123456789abcdef"), r1, &response);
        ((uint8_t *)response.payload.data)[0] ^= 1;
        assert_int_equal(context_unprotect(&pair.context, &request, &response, &pair.plain, &got), CONTEXT_FORGED);
        ((uint8_t *)response.payload.data)[0] ^= 1;
        assert_int_equal(context_unprotect(&pair.context, &request, &response, &pair.plain, &got), CONTEXT_AGAIN);
        /* the same once more is no answer to request 2 */
        ask(&pair, &request, &outer, &option);
        assert_int_equal(context_unprotect(&pair.context, &request, &response, &pair.plain, &got), CONTEXT_FORGED);
        pair_done(&pair);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_blocks_follow_each_other), TEST(test_one_row_by_any_name), TEST(test_processes_at_once),
                TEST(test_state_that_is_damaged), TEST(test_state_elsewhere), TEST(test_half_written),
                TEST(test_no_numbers_left), TEST(test_no_record), TEST(test_requests_and_responses),
                TEST(test_what_is_no_response), TEST(test_id_context_is_told), TEST(test_contexts_share_numbers),
                TEST(test_no_number_no_request), TEST(test_renewal), TEST(test_renewal_is_not_forged),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
