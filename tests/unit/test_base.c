#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <cmocka.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/diag.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/secret.h"
#include "crypto/random.h"
#include "support/fake.h"

/* ---- bytes */

static void bytes_compare(void **state) {
        static const struct {
                struct bytes a, b;
                bool equal;
        } cases[] = {
                { BYTES_NONE, BYTES_NONE, true },
                { BYTES_NONE, BYTES_LITERAL(""), true },
                { BYTES_LITERAL("a"), BYTES_NONE, false },
                { BYTES_LITERAL("abc"), BYTES_LITERAL("abc"), true },
                { BYTES_LITERAL("abc"), BYTES_LITERAL("abd"), false },
                { BYTES_LITERAL("abc"), BYTES_LITERAL("ab"), false },
                { BYTES_LITERAL("a\0b"), BYTES_LITERAL("a\0c"), false },
                { BYTES_LITERAL("a\0b"), BYTES_LITERAL("a\0b"), true },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                assert_int_equal(bytes_equal(cases[i].a, cases[i].b), cases[i].equal);
                assert_int_equal(bytes_equal_ct(cases[i].a, cases[i].b), cases[i].equal);
        }
        assert_int_equal(bytes_text(NULL).size, 0);
        assert_int_equal(bytes_text("abc").size, 3);
}

static void bytes_search(void **state) {
        struct bytes text = BYTES_LITERAL("a\0needle");

        assert_ptr_equal(bytes_find(text, BYTES_LITERAL("needle")), text.data + 2);
        assert_ptr_equal(bytes_find(text, BYTES_NONE), text.data);
        assert_null(bytes_find(text, BYTES_LITERAL("needles")));
        assert_null(bytes_find(BYTES_NONE, BYTES_LITERAL("n")));
        assert_null(bytes_find(text, BYTES_LITERAL("a longer one than the haystack")));
}

static void bytes_hexadecimal(void **state) {
        static const struct {
                const char *text;
                size_t room;
                int r;
                size_t size;
        } cases[] = {
                { "", 0, 0, 0 },
                { "00ff", 2, 0, 2 },
                { "aAbBcCdDeEfF", 6, 0, 6 },
                { "0", 8, -EINVAL, 0 },
                { "0g", 8, -EINVAL, 0 },
                { "0x00", 8, -EINVAL, 0 },
                { " 00", 8, -EINVAL, 0 },
                { "00 ", 8, -EINVAL, 0 },
                { "0:", 8, -EINVAL, 0 },
                { "0@", 8, -EINVAL, 0 },
                { "0/", 8, -EINVAL, 0 },
                { "00\xff\xff", 8, -EINVAL, 0 },
                { "0000", 1, -EOVERFLOW, 0 },
                { "00zz", 1, -EINVAL, 0 },
        };
        char text[2 * 256 + 1];
        uint8_t all[256], back[256], data[8];
        size_t size;

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                size = 99;
                assert_int_equal(bytes_from_hex(cases[i].text, data, cases[i].room, &size), cases[i].r);
                assert_int_equal(size, cases[i].r == 0 ? cases[i].size : 99);
        }

        for (size_t i = 0; i < sizeof(all); i++)
                all[i] = (uint8_t)i;
        bytes_to_hex(bytes_of(all, sizeof(all)), text, sizeof(text));
        assert_memory_equal(text, "000102030405060708090a0b0c0d0e0f10", 34);
        assert_int_equal(strlen(text), 512);
        assert_int_equal(bytes_from_hex(text, back, sizeof(back), &size), 0);
        assert_int_equal(size, 256);
        assert_memory_equal(all, back, 256);
        bytes_to_hex(BYTES_NONE, text, 1);
        assert_string_equal(text, "");
}

/* RFC 3629 §3, §4: the least and greatest character of each size, and those next to them that are none. */
static void bytes_utf8(void **state) {
        static const struct {
                struct bytes text;
                size_t size;
        } cases[] = {
                { BYTES_NONE, 0 },
                { BYTES_LITERAL("\0"), 1 },               { BYTES_LITERAL("\x7f\x80"), 1 },
                { BYTES_LITERAL("\x80"), 0 },             { BYTES_LITERAL("\xbf"), 0 },
                { BYTES_LITERAL("\xc1\xbf"), 0 },         { BYTES_LITERAL("\xc2\x80"), 2 },
                { BYTES_LITERAL("\xdf\xbf!"), 2 },        { BYTES_LITERAL("\xdf\xc0"), 0 },
                { BYTES_LITERAL("\xe0\x9f\xbf"), 0 },     { BYTES_LITERAL("\xe0\xa0\x80"), 3 },
                { BYTES_LITERAL("\xed\x9f\xbf"), 3 },     { BYTES_LITERAL("\xed\xa0\x80"), 0 },
                { BYTES_LITERAL("\xee\x80\x80"), 3 },     { BYTES_LITERAL("\xef\xbf\xbf"), 3 },
                { BYTES_LITERAL("\xf0\x8f\xbf\xbf"), 0 }, { BYTES_LITERAL("\xf0\x90\x80\x80"), 4 },
                { BYTES_LITERAL("\xf4\x8f\xbf\xbf"), 4 }, { BYTES_LITERAL("\xf4\x90\x80\x80"), 0 },
                { BYTES_LITERAL("\xf5\x80\x80\x80"), 0 }, { BYTES_LITERAL("\xff"), 0 },
                { BYTES_LITERAL("\xe2\x82"), 0 },         { BYTES_LITERAL("\xf0\x9f\x94"), 0 },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++)
                assert_int_equal(bytes_utf8_size(cases[i].text), cases[i].size);
}

/* Neither what a terminal obeys nor what ends a line: the last ones and their neighbours. */
static void bytes_shown(void **state) {
        static const struct {
                struct bytes text;
                size_t size;
        } cases[] = {
                { BYTES_NONE, 0 },
                { BYTES_LITERAL("\0"), 0 },            { BYTES_LITERAL("\x1b[31m"), 0 },
                { BYTES_LITERAL("\x1f"), 0 },          { BYTES_LITERAL(" "), 1 },
                { BYTES_LITERAL("~"), 1 },             { BYTES_LITERAL("\x7f"), 0 },
                { BYTES_LITERAL("\xc2\x80"), 0 },      { BYTES_LITERAL("\xc2\x9b"), 0 },
                { BYTES_LITERAL("\xc2\x9f"), 0 },      { BYTES_LITERAL("\xc2\xa0"), 2 },
                { BYTES_LITERAL("\xe2\x80\xa7"), 3 },  { BYTES_LITERAL("\xe2\x80\xa8"), 0 },
                { BYTES_LITERAL("\xe2\x80\xa9"), 0 },  { BYTES_LITERAL("\xe2\x80\xaa"), 3 },
                { BYTES_LITERAL("\xf0\x9f\x94\x91"), 4 }, { BYTES_LITERAL("\xff"), 0 },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++)
                assert_int_equal(bytes_shown_size(cases[i].text), cases[i].size);
}

/* ---- buf */

static void buf_grows_to_its_limit(void **state) {
        _cleanup_(buf_done) struct buf buf = BUF_INIT(1000);
        uint8_t *space;

        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(buf_add_byte(&buf, (uint8_t)i), 0);
        assert_int_equal(buf_add_byte(&buf, 1), -EOVERFLOW);
        assert_int_equal(buf_printf(&buf, "x"), -EOVERFLOW);
        assert_int_equal(buf_printf(&buf, "%s", ""), 0);
        assert_int_equal(buf_add(&buf, BYTES_NONE), 0);
        assert_int_equal(buf.size, 1000);
        assert_true(buf.capacity <= 1000);
        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(buf.data[i], (uint8_t)i);

        buf_clear(&buf);
        assert_int_equal(buf.size, 0);
        assert_int_equal(buf_reserve(&buf, 1001, &space), -EOVERFLOW);
        assert_int_equal(buf_reserve(&buf, SIZE_MAX, &space), -EOVERFLOW);
        assert_int_equal(buf_reserve(&buf, 1000, &space), 0);
        memset(space, 7, 1000);
        buf_added(&buf, 10);
        assert_int_equal(buf_bytes(&buf).size, 10);
        assert_int_equal(buf_add(&buf, bytes_of(space, 991)), -EOVERFLOW);
        assert_int_equal(buf.size, 10);
        buf_done(&buf);
        assert_null(buf.data);
        assert_int_equal(buf.limit, 1000);
}

static void buf_prints(void **state) {
        _cleanup_(buf_done) struct buf buf = BUF_INIT(11);

        assert_int_equal(buf_printf(&buf, "%s", "hello"), 0);
        assert_int_equal(buf_printf(&buf, " %d", 1234567), -EOVERFLOW);
        assert_int_equal(buf_printf(&buf, " %d", 12345), 0); /* exactly to the limit */
        assert_true(bytes_equal(buf_bytes(&buf), BYTES_LITERAL("hello 12345")));
}

/* ---- secret */

static void secret_is_wiped(void **state) {
        static const struct secret zero;
        struct secret secret = {}, other = {};
        uint8_t long_one[SECRET_SIZE_MAX + 1] = { 1, 2, 3 };

        assert_int_equal(secret_set(&secret, bytes_of(long_one, SECRET_SIZE_MAX)), 0);
        assert_int_equal(secret_set(&secret, bytes_of(long_one, sizeof(long_one))), -EOVERFLOW);
        assert_int_equal(secret.size, SECRET_SIZE_MAX);

        /* a shorter one leaves nothing of the longer behind */
        memset(long_one, 0xaa, sizeof(long_one));
        assert_int_equal(secret_set(&secret, bytes_of(long_one, SECRET_SIZE_MAX)), 0);
        assert_int_equal(secret_set(&secret, BYTES_LITERAL("key")), 0);
        assert_true(bytes_equal(secret_bytes(&secret), BYTES_LITERAL("key")));
        for (size_t i = 3; i < SECRET_SIZE_MAX; i++)
                assert_int_equal(secret.data[i], 0);

        /* a part of itself */
        assert_int_equal(secret_set(&secret, bytes_of(secret.data + 1, 2)), 0);
        assert_true(bytes_equal(secret_bytes(&secret), BYTES_LITERAL("ey")));

        secret_move(&other, &secret);
        assert_true(bytes_equal(secret_bytes(&other), BYTES_LITERAL("ey")));
        assert_memory_equal(&secret, &zero, sizeof(zero));
        secret_move(&other, &other);
        assert_int_equal(other.size, 2);
        secret_done(&other);
        assert_memory_equal(&other, &zero, sizeof(zero));
        assert_int_equal(secret_set(&other, BYTES_NONE), 0);
        wipe(NULL, 0);
}

/* ---- diag */

static void diags_keep_all(void **state) {
        _cleanup_(diags_done) struct diags diags = {};
        char name[] = "a.conf";

        assert_int_equal(diags_add(&diags, name, 3, "%s is %d", "one", 1), 0);
        name[0] = 'b'; /* names are copied */
        assert_int_equal(diags_add(&diags, NULL, 0, "two"), 0);
        assert_int_equal(diags.n_items, 2);
        assert_string_equal(diags.items[0].file, "a.conf");
        assert_int_equal(diags.items[0].line, 3);
        assert_string_equal(diags.items[0].text, "one is 1");
        assert_null(diags.items[1].file);
        diags_done(&diags);
        assert_int_equal(diags.n_items, 0);
}

/* ---- heap */

struct owner {
        int before;
        struct timer timer;
};

static uint32_t number(void) {
        uint32_t n;

        assert_int_equal(random_bytes(&n, sizeof(n)), 0);
        return n;
}

static const struct timer *earliest(const struct owner *owners, size_t n_owners) {
        const struct timer *first = NULL;

        for (size_t i = 0; i < n_owners; i++)
                if (owners[i].timer.slot != 0 && (!first || owners[i].timer.due_us < first->due_us))
                        first = &owners[i].timer;
        return first;
}

/* Whatever is armed, moved and removed, the first is what a walk over all of them finds. */
static void heap_finds_the_earliest(void **state) {
        _cleanup_(heap_done) struct heap heap = {};
        struct owner owners[100] = {};
        size_t n_armed = 0;

        fake_random_seed(42);
        for (unsigned round = 0; round < 5000; round++) {
                struct owner *owner = &owners[number() % N_ELEMENTS(owners)];
                const struct timer *first;

                if (number() % 3 == 0) {
                        n_armed -= owner->timer.slot != 0;
                        heap_remove(&heap, &owner->timer);
                        assert_int_equal(owner->timer.slot, 0);
                } else {
                        n_armed += owner->timer.slot == 0;
                        assert_int_equal(heap_set(&heap, &owner->timer, number() % 1000), 0);
                }
                first = earliest(owners, N_ELEMENTS(owners));
                assert_int_equal(heap.n_slots, n_armed);
                if (first)
                        assert_int_equal(heap_first(&heap)->due_us, first->due_us);
                else
                        assert_null(heap_first(&heap));
        }
        heap_done(&heap);
        assert_null(earliest(owners, N_ELEMENTS(owners)));
        assert_ptr_equal(timer_owner(&owners[5].timer, struct owner, timer), &owners[5]);
}

static void heap_empties_in_order(void **state) {
        _cleanup_(heap_done) struct heap heap = {};
        struct timer timers[] = { { .due_us = 0 }, { .due_us = 0 }, { .due_us = 0 }, { .due_us = 0 } };
        static const int64_t due[] = { INT64_MAX, 5, INT64_MIN, 5 }, sorted[] = { INT64_MIN, 5, 5, INT64_MAX };

        for (size_t i = 0; i < N_ELEMENTS(timers); i++)
                assert_int_equal(heap_set(&heap, &timers[i], due[i]), 0);
        for (size_t i = 0; i < N_ELEMENTS(timers); i++) {
                assert_int_equal(heap_first(&heap)->due_us, sorted[i]);
                heap_remove(&heap, heap_first(&heap));
        }
        assert_null(heap_first(&heap));
}

/* ---- log */

static struct {
        int stderr_fd, file_fd;
        char journal[8192]; /* fields, each ended by a newline */
        int journal_result;
} capture = { -1, -1, "", 0 };

/* The logger's way to the journal ends here instead. */
int sd_journal_sendv(const struct iovec *iov, int n) {
        for (int i = 0; i < n; i++) {
                assert_true(iov[i].iov_len > 0 && memchr(iov[i].iov_base, '=', iov[i].iov_len));
                strncat(capture.journal, iov[i].iov_base, iov[i].iov_len);
                strcat(capture.journal, "\n");
        }
        return capture.journal_result;
}

static int capture_begin(void **state) {
        char path[] = "/tmp/aced-log-XXXXXX";

        capture.file_fd = mkstemp(path);
        if (capture.file_fd < 0)
                return -1;
        unlink(path);
        fflush(stderr);
        capture.stderr_fd = dup(STDERR_FILENO);
        dup2(capture.file_fd, STDERR_FILENO);
        capture.journal[0] = '\0';
        capture.journal_result = 0;
        unsetenv("JOURNAL_STREAM");
        return 0;
}

static int capture_end(void **state) {
        log_set_level(LOG_LEVEL_INFO);
        unsetenv("JOURNAL_STREAM");
        if (capture.stderr_fd >= 0)
                dup2(capture.stderr_fd, STDERR_FILENO);
        closep(&capture.stderr_fd);
        closep(&capture.file_fd);
        return 0;
}

static const char *captured(char text[static 8192]) {
        ssize_t n = pread(capture.file_fd, text, 8191, 0);

        text[n < 0 ? 0 : n] = '\0';
        (void)!ftruncate(capture.file_fd, 0);
        lseek(capture.file_fd, 0, SEEK_SET);
        return text;
}

static void log_escapes(void **state) {
        static const struct {
                const char *in, *out;
        } cases[] = {
                { "plain", "info: plain\n" },
                { "two\nlines\r", "info: two\\x0alines\\x0d\n" },
                { "\x1b[31mred\x7f", "info: \\x1b[31mred\\x7f\n" },
                { "back\\slash", "info: back\\x5cslash\n" },
                { "\xc3\xbc \xe2\x82\xac \xf0\x9f\x94\x91", "info: \xc3\xbc \xe2\x82\xac \xf0\x9f\x94\x91\n" },
                { "C1 \xc2\x9b", "info: C1 \\xc2\\x9b\n" },                          /* CSI */
                { "separator \xe2\x80\xa8", "info: separator \\xe2\\x80\\xa8\n" },
                { "\xff\xfe", "info: \\xff\\xfe\n" },                                /* never UTF-8 */
                { "cut \xe2\x82", "info: cut \\xe2\\x82\n" },
                { "long \xc0\xaf", "info: long \\xc0\\xaf\n" },                      /* overlong "/" */
                { "long \xe0\x80\xaf", "info: long \\xe0\\x80\\xaf\n" },
                { "half \xed\xa0\x80", "info: half \\xed\\xa0\\x80\n" },             /* a surrogate */
                { "far \xf4\x90\x80\x80", "info: far \\xf4\\x90\\x80\\x80\n" },      /* over U+10FFFF */
                { "long \xf0\x80\x80\xaf", "info: long \\xf0\\x80\\x80\\xaf\n" },
        };
        char text[8192];

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                log_line(LOG_LEVEL_INFO, "%s", cases[i].in);
                assert_string_equal(captured(text), cases[i].out);
        }
}

static void log_has_levels(void **state) {
        char text[8192];

        log_set_level(LOG_LEVEL_WARNING);
        assert_true(log_enabled(LOG_LEVEL_ERROR));
        assert_false(log_enabled(LOG_LEVEL_NOTICE));
        log_line(LOG_LEVEL_ERROR, "e");
        log_line(LOG_LEVEL_WARNING, "w");
        log_line(LOG_LEVEL_NOTICE, "n");
        assert_string_equal(captured(text), "error: e\nwarning: w\n");
}

static const struct log_field fields[] = {
        { "ACED_PEER", "127.0.0.1:5" }, { "ACED_NAME", "x ACED_PEER=forged" }, { "ACED_QUOTE", "a\"b" },
        { "ACED_EMPTY", "" },           { "ACED_NULL", NULL },                 { "ACED_LINE", "a\nACED_PEER=b" },
        {},
};

static void log_fields_cannot_be_forged(void **state) {
        char text[8192];

        log_fields(LOG_LEVEL_INFO, fields, "n %d", 1);
        assert_string_equal(captured(text), "info: n 1 ACED_PEER=127.0.0.1:5 ACED_NAME=\"x ACED_PEER=forged\" "
                                            "ACED_QUOTE=\"a\\x22b\" ACED_EMPTY=\"\" ACED_NULL=\"\" "
                                            "ACED_LINE=\"a\\x0aACED_PEER=b\"\n");
}

static void log_goes_to_the_journal(void **state) {
        char text[8192], stream[64];
        struct stat st;

        assert_int_equal(fstat(STDERR_FILENO, &st), 0);
        snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
        setenv("JOURNAL_STREAM", stream, 1);
        log_fields(LOG_LEVEL_WARNING, fields, "n %d\n", 1);
        assert_string_equal(capture.journal,
                            "MESSAGE=n 1\\x0a\nACED_PEER=127.0.0.1:5\nACED_NAME=x ACED_PEER=forged\n"
                            "ACED_QUOTE=a\"b\nACED_EMPTY=\nACED_NULL=\nACED_LINE=a\\x0aACED_PEER=b\nPRIORITY=4\n");
        assert_string_equal(captured(text), "");

        /* the journal is gone: the line is not lost */
        capture.journal_result = -ECONNREFUSED;
        log_line(LOG_LEVEL_ERROR, "text");
        assert_string_equal(captured(text), "error: text\n");

        /* stderr is not what systemd connected */
        capture.journal[0] = '\0';
        setenv("JOURNAL_STREAM", "1:1", 1);
        log_line(LOG_LEVEL_ERROR, "text");
        assert_string_equal(captured(text), "error: text\n");
        setenv("JOURNAL_STREAM", "nonsense", 1);
        log_line(LOG_LEVEL_ERROR, "text");
        assert_string_equal(captured(text), "error: text\n");
        assert_string_equal(capture.journal, "");
}

/* A line has an end, however long what a peer sent is, and it never ends in half an escape. */
static void log_cuts_long_lines(void **state) {
        char text[8192], longest[6000], stream[64];
        struct log_field many[40] = {};
        struct stat st;

        memset(longest, '\n', sizeof(longest) - 1);
        longest[sizeof(longest) - 1] = '\0';
        log_line(LOG_LEVEL_INFO, "%s", longest);
        captured(text);
        assert_in_range(strlen(text), 4000, 4096);
        assert_memory_equal(text + strlen(text) - 5, "\\x0a\n", 5);

        for (size_t i = 0; i + 1 < N_ELEMENTS(many); i++)
                many[i] = (struct log_field){ "F", i < 30 ? "1" : longest };
        assert_int_equal(fstat(STDERR_FILENO, &st), 0);
        snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
        setenv("JOURNAL_STREAM", stream, 1);
        log_fields(LOG_LEVEL_INFO, many, "%.2000s", longest);
        log_fields(LOG_LEVEL_INFO, many, "short");
        assert_non_null(strstr(capture.journal, "MESSAGE=short\nF=1\n"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(bytes_compare),
                cmocka_unit_test(bytes_search),
                cmocka_unit_test(bytes_hexadecimal),
                cmocka_unit_test(bytes_utf8),
                cmocka_unit_test(bytes_shown),
                cmocka_unit_test(buf_grows_to_its_limit),
                cmocka_unit_test(buf_prints),
                cmocka_unit_test(secret_is_wiped),
                cmocka_unit_test(diags_keep_all),
                cmocka_unit_test(heap_finds_the_earliest),
                cmocka_unit_test(heap_empties_in_order),
                cmocka_unit_test_setup_teardown(log_escapes, capture_begin, capture_end),
                cmocka_unit_test_setup_teardown(log_has_levels, capture_begin, capture_end),
                cmocka_unit_test_setup_teardown(log_fields_cannot_be_forged, capture_begin, capture_end),
                cmocka_unit_test_setup_teardown(log_goes_to_the_journal, capture_begin, capture_end),
                cmocka_unit_test_setup_teardown(log_cuts_long_lines, capture_begin, capture_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
