/* Rows: files of them, applying and exporting them, and what the store does for that. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "domain/refusal.h"
#include "format/csv.h"
#include "main/rows.h"
#include "store/clients.h"
#include "store/private.h"
#include "support/fake.h"
#include "support/world.h"

/* ---- CSV */

/* Records as "cell|cell\n", and after a fault "!". */
static char *read_csv(const char *text) {
        _cleanup_(freep) char *copy = strdup(text);
        _cleanup_(buf_done) struct buf out = BUF_INIT(10000);
        struct csv_record record;
        const char *what = NULL;
        struct csv csv;
        int r;

        csv_begin(&csv, copy, strlen(copy));
        while ((r = csv_next(&csv, &record, &what)) == 0) {
                assert_int_equal(buf_printf(&out, "%zu:", record.line), 0);
                for (size_t i = 0; i < record.n_cells; i++)
                        assert_int_equal(buf_printf(&out, "%s%.*s", i > 0 ? "|" : "", (int)record.cells[i].size,
                                                    (const char *)record.cells[i].data), 0);
                assert_int_equal(buf_add_byte(&out, '\n'), 0);
        }
        if (r != REFUSE_ADMIN_UNKNOWN) {
                assert_int_equal(r, REFUSE_ADMIN_SYNTAX);
                assert_non_null(what);
                assert_int_equal(buf_printf(&out, "!%zu", record.line), 0);
        }
        assert_int_equal(buf_add_byte(&out, 0), 0);
        return strdup((const char *)out.data);
}

static void test_csv(void **state) {
        static const struct {
                const char *text, *records;
        } cases[] = {
                { "", "" },
                { "\n\r\n", "" },
                { "a,b\nc,d\n", "1:a|b\n2:c|d\n" },
                { "a,b\r\nc,d", "1:a|b\n2:c|d\n" },
                { "\xef\xbb\xbf" "a;b\n1,5;2\n", "1:a|b\n2:1,5|2\n" },
                { "a\tb\nc;d\te,f\n", "1:a|b\n2:c;d|e,f\n" },
                { "a\nb\n", "1:a\n2:b\n" },
                { "a,,\n,,\n", "1:a||\n2:||\n" },
                { "\"a\",b\n", "1:a|b\n" },
                { "\"a,b\",\"c\"\"d\",\"\"\n", "1:a,b|c\"d|\n" },
                { "\"\"\"\"\"\"\n", "1:\"\"\n" },
                { "\"two\nlines\",b\n\nc,d\n", "1:two\nlines|b\n4:c|d\n" },
                { "\"a;b\";c\nd;\"e,f\"\n", "1:a;b|c\n2:d|e,f\n" },
                { "a\rb,c\n", "1:a\rb|c\n" },
                { "a,b\nc,\"d\n", "1:a|b\n!2" },
                { "a,\"b\"c\n", "!1" },
                { "a,b\"c\n", "!1" },
                { "\"", "!1" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(freep) char *records = read_csv(cases[i].text);

                if (strcmp(records, cases[i].records) != 0)
                        fail_msg("case %zu: %s", i, records);
        }
}

static void test_csv_too_wide(void **state) {
        char text[2 * CSV_CELLS_MAX + 2];
        _cleanup_(freep) char *fits = NULL, *does_not = NULL;

        memset(text, ',', sizeof(text));
        text[CSV_CELLS_MAX - 1] = '\0';
        fits = read_csv(text);
        assert_null(strchr(fits, '!'));
        text[CSV_CELLS_MAX - 1] = ',';
        text[CSV_CELLS_MAX] = '\0';
        does_not = read_csv(text);
        assert_string_equal(does_not, "!1");
}

/* ---- rows of a file */

static int print_row(void *context, json_t *row, size_t line) {
        _cleanup_(freep) char *text = json_dumps(row, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);

        return buf_printf(context, "%zu:%s\n", line, text);
}

static char *read_rows(const char *text) {
        _cleanup_(diags_done) struct diags faults = {};
        _cleanup_(buf_done) struct buf out = BUF_INIT(10000);
        _cleanup_(freep) char *copy = strdup(text);
        int r = rows_read(copy, strlen(copy), ROWS_ANY, print_row, &out, &faults);

        assert_true(r == 0 || (r == REFUSE_ADMIN_SYNTAX && faults.n_items == 1));
        if (r != 0)
                assert_int_equal(buf_printf(&out, "!%u", faults.items[0].line), 0);
        assert_int_equal(buf_add_byte(&out, 0), 0);
        return strdup((const char *)out.data);
}

static void test_rows(void **state) {
        static const struct {
                const char *text, *rows;
        } cases[] = {
                { "", "" },
                { " \n", "" },
                { "{\"kind\":\"client\"}\n\n{\"a\":1}", "1:{\"kind\":\"client\"}\n3:{\"a\":1}\n" },
                { "{\n\"a\":1}{\"b\":2}\n", "1:{\"a\":1}\n2:{\"b\":2}\n" },
                { "[{\"a\":1},5]", "1:{\"a\":1}\n2:5\n" },
                { "{\"policies\":[{\"p\":1}],\"clients\":[{\"a\":1},{\"kind\":\"x\"}]}",
                  "1:{\"a\":1,\"kind\":\"client\"}\n2:{\"kind\":\"x\"}\n3:{\"kind\":\"policy\",\"p\":1}\n" },
                { "{\"clients\":[],\"name\":\"a\"}", "1:{\"clients\":[],\"name\":\"a\"}\n" },
                { "{\"a\":1}\n{\"a\":}\n", "1:{\"a\":1}\n!2" },
                { "{\"a\":1,\"a\":2}", "!1" },
                { "{\"a\":1}\n\n[", "1:{\"a\":1}\n!3" },
                { "kind,name,labels,suspended,tokens_max\nclient,a,x  y,Yes,5\n,b,\"\"\"\"\"\",no,many\n",
                  "2:{\"kind\":\"client\",\"labels\":[\"x\",\"y\"],\"name\":\"a\",\"suspended\":true,"
                  "\"tokens_max\":5}\n"
                  "3:{\"labels\":[],\"name\":\"b\",\"suspended\":false,\"tokens_max\":\"many\"}\n" },
                { "kind,default_audience,unknown\nclient,\"\"\"\"\"\",7\n,,\n",
                  "2:{\"default_audience\":\"\",\"kind\":\"client\",\"unknown\":\"7\"}\n" },
                { "kind\nclient\nclient,a\n", "2:{\"kind\":\"client\"}\n!3" },
                { "kind,kind\n", "!1" },
                { "kind,\n", "!1" },
                { "kind,name\nclient,\xff\n", "!2" },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(freep) char *rows = read_rows(cases[i].text);

                if (strcmp(rows, cases[i].rows) != 0)
                        fail_msg("case %zu: %s", i, rows);
        }
}

static void test_rows_as_csv_come_back(void **state) {
        static const char *const rows[] = {
                "{\"kind\":\"client\",\"name\":\"a\",\"labels\":[],\"default_audience\":\"\",\"suspended\":false}",
                "{\"kind\":\"server\",\"audiences\":[\"a,b\",\"c;d\"],\"token_alg\":\"\",\"max_lifetime_s\":0}",
                "{\"kind\":\"credential\",\"identity\":\" \\\"x\\\", y;\\tz\",\"key_hex\":\"0102\"}",
        };
        _cleanup_(freep) char *text = NULL;
        _cleanup_(freep) char *back = NULL;
        _cleanup_(buf_done) struct buf expected = BUF_INIT(10000);
        const char *member = NULL;
        size_t size;
        FILE *to = open_memstream(&text, &size);
        json_t *row;

        rows_csv_begin(to);
        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                row = json_loads(rows[i], 0, NULL);
                assert_int_equal(rows_csv_write(to, row, &member), 0);
                assert_int_equal(print_row(&expected, row, i + 2), 0);
                json_decref(row);
        }
        fclose(to);
        back = read_rows(text);
        assert_int_equal(strlen(back), expected.size);
        assert_memory_equal(back, expected.data, expected.size);
}

static void test_rows_that_csv_cannot_say(void **state) {
        static const char *const rows[] = {
                "{\"new_member\":1}", "{\"identity\":\"\\\"\\\"\"}", "{\"labels\":[\"a b\"]}", "{\"labels\":[1]}",
                "{\"name\":{}}",
        };

        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                FILE *nowhere = fopen("/dev/null", "w");
                json_t *row = json_loads(rows[i], 0, NULL);
                const char *member = NULL;

                assert_int_equal(rows_csv_write(nowhere, row, &member), -EINVAL);
                assert_non_null(json_object_get(row, member));
                json_decref(row);
                fclose(nowhere);
        }
}

/* ---- applying */

static int setup(void **state) {
        static struct world world;

        log_set_level(LOG_LEVEL_ERROR);
        world_init(&world);
        assert_int_equal(world_open(&world, NULL), 0);
        *state = &world;
        return 0;
}

static int teardown(void **state) {
        world_done(*state);
        return 0;
}

/* Rows with single quotes. The answer, which is the caller's; NULL when it is none of 200. */
static json_t *post(struct world *world, const char *target, const char *rows) {
        _cleanup_(call_done) struct call call;
        _cleanup_(freep) char *text = strdup(rows);
        json_t *answer;

        for (char *quote = text; (quote = strchr(quote, '\'')) != NULL;)
                *quote = '"';
        call_set(&call, &world_admin, METHOD_POST, target, text);
        world_run(world, &call, 1);
        if (!call_is_yes(&call))
                return NULL;
        answer = json_loadb((const char *)call.work.response.payload.data, call.work.response.payload.size, 0, NULL);
        assert_non_null(answer);
        return answer;
}

/* "created unchanged refused:value" */
static void must_result(struct world *world, const char *target, const char *rows, const char *expected) {
        _cleanup_(json_decrefp) json_t *answer = post(world, target, rows);
        _cleanup_(buf_done) struct buf results = BUF_INIT(10000);
        json_t *item;
        size_t i;

        assert_non_null(answer);
        json_array_foreach(json_object_get(answer, "items"), i, item) {
                const char *error = json_string_value(json_object_get(item, "error"));

                assert_int_equal(buf_printf(&results, "%s%s%s%s", i > 0 ? " " : "",
                                            json_string_value(json_object_get(item, "result")), error ? ":" : "",
                                            error ? error : ""), 0);
        }
        assert_int_equal(buf_add_byte(&results, 0), 0);
        if (strcmp((const char *)results.data, expected) != 0)
                fail_msg("%s %s: %s, not %s", target, rows, results.data, expected);
}

static char *export(struct world *world, const char *target) {
        _cleanup_(call_done) struct call call;

        call_set(&call, &world_admin, METHOD_GET, target, NULL);
        world_run(world, &call, 1);
        assert_true(call_is_yes(&call));
        assert_true(call.work.response.payload.size == 0 || call.work.response.content_format == CF_JSON_LINES);
        return strndup((const char *)(call.work.response.payload.data ?: (const uint8_t *)""),
                       call.work.response.payload.size);
}

/* What is there is as it says. */
static void must_be_unchanged(struct world *world, const char *rows) {
        _cleanup_(json_decrefp) json_t *answer = post(world, "/v1/apply", rows);

        assert_non_null(answer);
        assert_int_equal(json_integer_value(json_object_get(answer, "unchanged")),
                         json_integer_value(json_object_get(answer, "rows")));
}

static void test_apply(void **state) {
        static const struct {
                const char *rows, *results;
        } cases[] = {
                { "{'kind':'client','name':'a'}", "created" },
                { "{'kind':'client','name':'a'}", "unchanged" },
                { "{'kind':'client','name':'a','labels':['x','y']}", "changed" },
                { "{'kind':'client','name':'a','labels':['y','x']}", "unchanged" },
                { "{'kind':'client','name':'a','identity':'i'}", "changed" },
                { "{'kind':'client','name':'a','identity':'i'}", "unchanged" },
                { "{'kind':'credential','client':'a','identity_hex':'69'}", "unchanged" },
                { "{'kind':'credential','client':'a','identity':'i','key_hex':'00112233445566778899aabbccddeeff'}",
                  "changed" },
                { "{'kind':'client','name':'a','identity':'i','key_hex':'00112233445566778899AABBCCDDEEFF'}",
                  "unchanged" },
                { "{'kind':'client','name':'b','identity':'i'}", "refused:exists" },
                { "{'kind':'client','name':'b','identity':'b','key_hex':'00112233445566778899aabbccddeeff'}",
                  "refused:exists" },
                { "{'kind':'client','name':'b','absent':true}", "unchanged" },
                { "{'kind':'credential','client':'a','identity':'i','absent':true}", "deleted" },
                { "{'kind':'credential','client':'b','identity':'i'}", "refused:unknown" },
                { "{'kind':'credential','client':'a'}", "refused:value" },
                { "{'kind':'credential','client':'a','credential':'psk'}", "created" },
                { "{'kind':'credential','client':'a','credential':'no'}", "refused:value" },
                { "{'kind':'credential','client':'a','identity':'z','nope':1}", "refused:value" },
                { "{'kind':'credential','client':'a','credential':'x509','match':'dns:A.example'}", "created" },
                { "{'kind':'credential','client':'a','match':'dns:a.example'}", "unchanged" },
                { "{'kind':'server','name':'s','scopes':'r w'}", "created" },
                { "{'kind':'server','name':'s','audiences':['s'],'token_format':'encrypt0'}", "unchanged" },
                { "{'kind':'server','name':'s','token_key_hex':'00112233445566778899aabbccddeeff'}", "changed" },
                { "{'kind':'server','name':'s','token_key_hex':'00112233445566778899aabbccddeeff'}", "unchanged" },
                { "{'kind':'key','server':'s'}", "unchanged" },
                { "{'kind':'key','server':'s','role':'derivation'}", "refused:value" },
                { "{'kind':'key','server':'s','active_from_s':1700001000,'key_hex':'ff112233445566778899aabbccddeeff'}",
                  "created" },
                { "{'kind':'key','server':'s','active_from_s':1700001000,'key_hex':'ff112233445566778899aabbccddeeff'}",
                  "unchanged" },
                { "{'kind':'key','server':'s','active_from_s':'soon'}", "refused:value" },
                { "{'kind':'policy','client':'a','audience':'s','scope':'r w'}", "created" },
                { "{'kind':'policy','client':'a','audience':'s','scope':'w r'}", "unchanged" },
                { "{'kind':'policy','client':'a','audience':'s','scope':'r w','max_lifetime_s':0}", "unchanged" },
                { "{'kind':'policy','client':'a','audience':'s','scope':'r'}", "created" },
                { "{'kind':'policy','label':'a','audience':'s','scope':'r'}", "created" },
                { "{'kind':'policy','label':'a','audience':'s','scope':'r','until_s':5}", "unchanged" },
                { "{'kind':'policy','audience':'s','scope':'r'}", "refused:value" },
                { "{'kind':'policy','client':'a','scope':'r'}", "refused:value" },
                { "{'kind':'policy','client':'a','audience':'t','scope':'r'}", "refused:unknown" },
                { "{'kind':'policy','client':'a','audience':'s','scope':'x'}", "refused:value" },
                { "{'kind':'policy','client':'a','audience':'s','absent':true}", "deleted" },
                { "{'kind':'policy','client':'a','audience':'s','absent':true}", "unchanged" },
                { "{'kind':'server','name':'s','audiences':[]}", "refused:conflict" },
                { "{'kind':'server','name':'s','audiences':['t']}", "refused:conflict" },
                { "{'kind':'client','name':'a','created_s':5}", "refused:value" },
                { "{'kind':'client','name':'a','absent':1}", "refused:value" },
                { "{'kind':'client'}", "refused:value" },
                { "{'kind':'client','name':7}", "refused:value" },
                { "{'kind':'clients','name':'a'}", "refused:value" },
                { "{'name':'a'}", "refused:value" },
                { "[]", "refused:syntax" },
                { "{'kind':'client',", "refused:syntax" },
                { "{'kind':'client','kind':'client','name':'a'}", "refused:syntax" },
                { "\n \r\n\n", "" },
                { "{'kind':'client','name':'c'}\r\n\n{'kind':'credential','client':'c','identity':'c'}\n",
                  "created created" },
                { "{'kind':'client','name':'c','absent':true}\n{'kind':'client','name':'c'}", "deleted created" },
                { "{'kind':'client','name':'e'}\n{'kind':'client','name':'e','nope':1}", "created refused:value" },
                { "{'kind':'client','name':'e','absent':true}", "unchanged" },
        };
        struct world *world = *state;

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                _cleanup_(freep) char *before = export(world, "/v1/export?keys=true"), *after = NULL;
                bool is_refused = strstr(cases[i].results, "refused") != NULL;

                must_result(world, "/v1/apply?dry_run=true", cases[i].rows, cases[i].results);
                must_result(world, "/v1/apply?diff=true", cases[i].rows, cases[i].results);
                after = export(world, "/v1/export?keys=true");
                assert_string_equal(before, after);
                must_result(world, "/v1/apply", cases[i].rows, cases[i].results);
                free(after);
                after = export(world, "/v1/export?keys=true");
                if (is_refused)
                        assert_string_equal(before, after);
                must_be_unchanged(world, after);
        }
}

/* A bad row leaves nothing, a good one beside it stays. */
static void test_apply_each(void **state) {
        struct world *world = *state;
        _cleanup_(freep) char *text = NULL;

        must_result(world, "/v1/apply?each=true",
                    "{'kind':'client','name':'a'}\n{'kind':'client','name':'b','identity':'b','nope':1}\n"
                    "{'kind':'client','name':'c','credential':'x509','match':'?'}\nnope\n"
                    "{'kind':'client','name':'d'}", "created refused:value refused:value refused:syntax created");
        text = export(world, "/v1/export");
        assert_non_null(strstr(text, "\"a\""));
        assert_non_null(strstr(text, "\"d\""));
        assert_null(strstr(text, "\"b\""));
        assert_null(strstr(text, "\"c\""));
}

/* More rows than a batch has numbers for. */
static void test_apply_many(void **state) {
        struct world *world = *state;
        _cleanup_(buf_done) struct buf rows = BUF_INIT(10 << 20);
        _cleanup_(json_decrefp) json_t *answer = NULL;
        _cleanup_(call_done) struct call call;
        const unsigned n = 3 * NUMBERS_PER_BATCH_MAX;

        for (unsigned i = 0; i < n; i++)
                assert_int_equal(buf_printf(&rows, "{\"kind\":\"client\",\"name\":\"c%u\",\"identity\":\"c%u\"}\n",
                                            i, i), 0);
        call_set(&call, &world_admin, METHOD_POST, "/v1/apply", "");
        call.work.request.payload = buf_bytes(&rows);
        world_run(world, &call, 1);
        assert_true(call_is_yes(&call));
        answer = json_loadb((const char *)call.work.response.payload.data, call.work.response.payload.size, 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(answer, "created")), n);
        assert_true(json_is_true(json_object_get(answer, "applied")));
}

static void test_apply_stops_at_too_many_faults(void **state) {
        struct world *world = *state;
        char rows[3 * 1200 + 1];
        _cleanup_(json_decrefp) json_t *answer = NULL;

        for (size_t i = 0; i < 1200; i++)
                memcpy(rows + 3 * i, "{}\n", 4);
        answer = post(world, "/v1/apply?each=true", rows);
        assert_int_equal(json_integer_value(json_object_get(answer, "refused")), 1000);
        assert_int_equal(json_integer_value(json_object_get(answer, "rows")), 1000);
}

/* What breaks in the midst of the rows leaves none of them behind, also when each were to stand for itself. */
static void test_apply_that_breaks_leaves_nothing(void **state) {
        static const char *const targets[] = { "/v1/apply", "/v1/apply?each=true" };

        for (size_t i = 0; i < N_ELEMENTS(targets); i++) {
                fake_random_fail_at(1); /* of the key that is made */
                assert_null(post(*state, targets[i], "{'kind':'client','name':'whole'}\n"
                                 "{'kind':'client','name':'broken','credential':'psk','identity':'id-broken'}"));
                fake_random_fail_at(0);
                must_result(*state, "/v1/apply?dry_run=true", "{'kind':'client','name':'whole'}", "created");
        }
}

/* It may give its transaction up, which nobody else's request is to be in. */
static void test_apply_alone(void **state) {
        struct world *world = *state;
        struct call calls[2];

        call_set(&calls[0], &world_admin, METHOD_POST, "/v1/apply",
                 "{\"kind\":\"client\",\"name\":\"a\"}");
        call_set(&calls[1], &world_admin, METHOD_POST, "/v1/clients", "{\"name\":\"b\"}");
        world_run(world, calls, 2);
        assert_int_equal(calls[0].work.response.refusal, REFUSE_OVERLOAD);
        assert_true(call_is_yes(&calls[1]));
        call_done(&calls[0]);
        call_done(&calls[1]);
}

static void test_queries(void **state) {
        static const char *const targets[] = { "/v1/apply?dry_run=maybe", "/v1/apply?each=", "/v1/apply?all=true",
                                               "/v1/apply?diff=true&diff=true" };

        for (size_t i = 0; i < N_ELEMENTS(targets); i++)
                assert_null(post(*state, targets[i], "{'kind':'client','name':'a'}"));
}

/* ---- the store: reserved numbers, snapshots */

struct folder {
        char path[64], db[96];
};

static int setup_folder(void **state) {
        static struct folder folder;

        snprintf(folder.path, sizeof(folder.path), "%s/aced-bulk-XXXXXX", getenv("TMPDIR") ?: "/tmp");
        assert_non_null(mkdtemp(folder.path));
        snprintf(folder.db, sizeof(folder.db), "%s/aced.db", folder.path);
        *state = &folder;
        return 0;
}

static int teardown_folder(void **state) {
        static const char *const endings[] = { "", "-wal", "-shm", "2", "2-wal", "2-shm" };
        struct folder *folder = *state;
        char path[128];

        for (size_t i = 0; i < N_ELEMENTS(endings); i++) {
                snprintf(path, sizeof(path), "%s%s", folder->db, endings[i]);
                unlink(path);
        }
        rmdir(folder->path);
        return 0;
}

static struct store *open_store(const char *path) {
        static const uint8_t key[32] = { 1 };
        _cleanup_(diags_done) struct diags diags = {};
        struct store *store = NULL;

        assert_int_equal(store_open(&(struct store_options){ .path = path, .seal_key = { key, 32 } }, &store, &diags),
                         0);
        return store;
}

/* The files as a crash would leave them. */
static void copy_files(const struct folder *folder) {
        static const char *const endings[] = { "", "-wal" };

        for (size_t i = 0; i < N_ELEMENTS(endings); i++) {
                char from[128], to[128], piece[65536];
                FILE *in, *out;
                size_t n;

                snprintf(from, sizeof(from), "%s%s", folder->db, endings[i]);
                snprintf(to, sizeof(to), "%s2%s", folder->db, endings[i]);
                in = fopen(from, "r");
                out = fopen(to, "w");
                assert_true(in && out);
                while ((n = fread(piece, 1, sizeof(piece), in)) > 0)
                        assert_int_equal(fwrite(piece, 1, n, out), n);
                fclose(in);
                fclose(out);
        }
}

static void test_reserved_numbers(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *store = open_store(folder->db);
        const uint64_t n = 200000;
        uint64_t number, last = 0;

        for (int round = 0; round < 2; round++) { /* the second has what the first one left, and more */
                store_reserve(store, n);
                assert_int_equal(store_begin(store), 0);
                for (uint64_t i = 0; i < n + NUMBERS_PER_BATCH_MAX; i++) {
                        assert_int_equal(store_number(store, NUMBER_ROW, &number), 0);
                        assert_true(number > last);
                        last = number;
                }
                assert_int_equal(store_number(store, NUMBER_ROW, &number), -EBUSY);
                if (round == 0)
                        store_rollback(store);
        }
        { /* a crash now: what was drawn is not drawn again, though nothing was committed */
                char path[128];
                _cleanup_(store_freep) struct store *copy = NULL;

                copy_files(folder);
                snprintf(path, sizeof(path), "%s2", folder->db);
                copy = open_store(path);
                assert_int_equal(store_begin(copy), 0);
                assert_int_equal(store_number(copy, NUMBER_ROW, &number), 0);
                assert_true(number > last);
        }
        assert_int_equal(store_commit(store), 0);
        /* reserved for one batch only */
        assert_int_equal(store_begin(store), 0);
        for (unsigned i = 0; i < NUMBERS_PER_BATCH_MAX; i++)
                assert_int_equal(store_number(store, NUMBER_ROW, &number), 0);
        assert_int_equal(store_number(store, NUMBER_ROW, &number), -EBUSY);
        /* tokens' numbers stay short */
        assert_int_equal(store_number(store, NUMBER_TOKEN, &number), 0);
        assert_true(number == 1);
}

static int count(void *context, const struct client *client) {
        ++*(unsigned *)context;
        return 0;
}

static unsigned count_clients(struct store *store) {
        unsigned n = 0;

        assert_int_equal(store_client_each(store, BYTES_NONE, 100, count, &n), 0);
        return n;
}

static void add_client(struct store *store, const char *name) {
        struct client client = { .profiles = 2 };

        snprintf(client.name, sizeof(client.name), "%s", name);
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_client_add(store, &client), 0);
        assert_int_equal(store_commit(store), 0);
}

static void test_snapshot(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *store = open_store(folder->db), *snapshot = NULL, *second = NULL;

        add_client(store, "a");
        assert_int_equal(store_snapshot(store, &snapshot), 0);
        assert_int_equal(store_snapshot(store, &second), -EBUSY);
        add_client(store, "b");
        assert_int_equal(count_clients(store), 2);
        assert_int_equal(count_clients(snapshot), 1);
        store_free(TAKE_PTR(snapshot));

        /* also in the midst of a transaction, of which nothing is seen */
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_client_add(store, &(struct client){ .name = "c", .profiles = 2 }), 0);
        assert_int_equal(store_snapshot(store, &snapshot), 0);
        assert_int_equal(store_commit(store), 0);
        assert_int_equal(count_clients(store), 3);
        assert_int_equal(count_clients(snapshot), 2);
        assert_int_equal(store_begin(snapshot), -EIO); /* nothing is written through it */
}

/* The log must not grow for ever on behalf of somebody who does not read on. */
static void test_snapshot_ends(void **state) {
        struct folder *folder = *state;
        _cleanup_(store_freep) struct store *store = open_store(folder->db), *snapshot = NULL;
        unsigned n = 0;

        add_client(store, "a");
        assert_int_equal(store_snapshot(store, &snapshot), 0);
        (void)backup_on_commit(store, store->db, "main", LOG_PAGES_BACKUP - 1);
        assert_int_equal(count_clients(snapshot), 1);
        (void)backup_on_commit(store, store->db, "main", LOG_PAGES_BACKUP);
        assert_int_equal(store_client_each(snapshot, BYTES_NONE, 100, count, &n), -EIO);
        store_free(TAKE_PTR(snapshot));
        assert_int_equal(store_snapshot(store, &snapshot), 0);
        assert_int_equal(count_clients(snapshot), 1);
}

static void test_no_snapshot_in_memory(void **state) {
        _cleanup_(store_freep) struct store *store = open_store(NULL), *snapshot = NULL;

        assert_int_equal(store_snapshot(store, &snapshot), -EOPNOTSUPP);
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup_folder, teardown_folder)

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_csv),
                cmocka_unit_test(test_csv_too_wide),
                cmocka_unit_test(test_rows),
                cmocka_unit_test(test_rows_as_csv_come_back),
                cmocka_unit_test(test_rows_that_csv_cannot_say),
                IN_WORLD(test_apply),
                IN_WORLD(test_apply_each),
                IN_WORLD(test_apply_many),
                IN_WORLD(test_apply_stops_at_too_many_faults),
                IN_WORLD(test_apply_that_breaks_leaves_nothing),
                IN_WORLD(test_apply_alone),
                IN_WORLD(test_queries),
                IN_FOLDER(test_reserved_numbers),
                IN_FOLDER(test_snapshot),
                IN_FOLDER(test_snapshot_ends),
                cmocka_unit_test(test_no_snapshot_in_memory),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
