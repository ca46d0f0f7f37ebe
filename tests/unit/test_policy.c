#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "domain/aif.h"
#include "domain/policy.h"
#include "domain/variable.h"
#include "format/aif.h"
#include "format/hours.h"

/* cases name what is not as usual */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define MONDAY_S INT64_C(1767571200) /* 2026-01-05T00:00:00Z */
#define DAY_S INT64_C(86400)
#define HOUR_S INT64_C(3600)
#define AT(day, hour) (MONDAY_S + (day) * DAY_S + (hour) * HOUR_S)
#define RULES_MAX 4

/* Text, or aif:, or bytes when it starts with '#', or none when NULL. */
static struct scope made(const char *text) {
        struct scope scope = {};

        if (text && strncmp(text, "aif:", 4) == 0)
                assert_int_equal(aif_parse(bytes_text(text), &scope), 0);
        else if (text && text[0] == '#')
                assert_int_equal(scope_set(&scope, SCOPE_BYTES, bytes_text(text + 1)), 0);
        else if (text)
                assert_int_equal(scope_set(&scope, SCOPE_TEXT, bytes_text(text)), 0);
        return scope;
}

static void expect_scope(const char *name, const struct scope *scope, const char *wanted) {
        struct scope other = made(wanted);
        bool same = scope->kind == SCOPE_TEXT ? bytes_equal(scope_bytes(scope), scope_bytes(&other)) :
                                                scope_equal(scope, &other);

        if (scope->kind != other.kind || !same)
                fail_msg("%s: kind %d \"%.*s\" instead of \"%s\"", name, scope->kind, (int)scope->size, scope->data,
                         wanted ? wanted : "none");
}

/* ---- time */

static const struct {
        const char *name;
        struct policy policy;
        int64_t at_s;
        int64_t from_s, until_s; /* both 0: it is over */
} periods[] = {
        { "always", {}, AT(0, 0), INT64_MIN, INT64_MAX },
        { "from", { .valid_from_s = 50 }, 10, 50, INT64_MAX },
        { "until", { .valid_until_s = 50 }, 49, INT64_MIN, 50 },
        { "until has come", { .valid_until_s = 50 }, 50, 0, 0 },
        { "weekdays, on Wednesday", { .weekdays = 0x1f }, AT(2, 9), AT(0, 0), AT(5, 0) },
        { "weekdays, on Saturday", { .weekdays = 0x1f }, AT(5, 0), AT(7, 0), AT(12, 0) },
        { "weekdays, on Sunday's last second", { .weekdays = 0x1f }, AT(7, 0) - 1, AT(7, 0), AT(12, 0) },
        { "Mondays, on Monday evening", { .weekdays = 1 }, AT(0, 23), AT(0, 0), AT(1, 0) },
        { "Mondays, on Tuesday", { .weekdays = 1 }, AT(1, 0), AT(7, 0), AT(8, 0) },
        { "Sundays and Mondays, on Sunday", { .weekdays = 0x41 }, AT(6, 1), AT(6, 0), AT(8, 0) },
        { "hours, before", { .day_from_s = 8 * HOUR_S, .day_until_s = 18 * HOUR_S }, AT(0, 7), AT(0, 8), AT(0, 18) },
        { "hours, at the first second", { .day_from_s = 8 * HOUR_S, .day_until_s = 18 * HOUR_S }, AT(0, 8), AT(0, 8),
          AT(0, 18) },
        { "hours, at the last second", { .day_from_s = 8 * HOUR_S, .day_until_s = 18 * HOUR_S }, AT(0, 18) - 1,
          AT(0, 8), AT(0, 18) },
        { "hours, after", { .day_from_s = 8 * HOUR_S, .day_until_s = 18 * HOUR_S }, AT(0, 18), AT(1, 8), AT(1, 18) },
        { "to midnight", { .day_from_s = 8 * HOUR_S, .day_until_s = DAY_S }, AT(0, 23), AT(0, 8), AT(1, 0) },
        { "over midnight, before", { .day_from_s = 22 * HOUR_S, .day_until_s = 6 * HOUR_S }, AT(0, 23), AT(0, 22),
          AT(1, 6) },
        { "over midnight, behind", { .day_from_s = 22 * HOUR_S, .day_until_s = 6 * HOUR_S }, AT(1, 5), AT(0, 22),
          AT(1, 6) },
        { "over midnight, by day", { .day_from_s = 22 * HOUR_S, .day_until_s = 6 * HOUR_S }, AT(1, 6), AT(1, 22),
          AT(2, 6) },
        { "Fridays over midnight, on Saturday", { .weekdays = 1 << 4, .day_from_s = 22 * HOUR_S,
          .day_until_s = 6 * HOUR_S }, AT(5, 5), AT(4, 22), AT(5, 6) },
        { "Fridays over midnight, on Friday morning", { .weekdays = 1 << 4, .day_from_s = 22 * HOUR_S,
          .day_until_s = 6 * HOUR_S }, AT(4, 5), AT(4, 22), AT(5, 6) },
        { "Saturdays, a week later", { .weekdays = 1 << 5, .day_from_s = HOUR_S, .day_until_s = 2 * HOUR_S }, AT(5, 2),
          AT(12, 1), AT(12, 2) },
        { "a window cut by the end", { .weekdays = 1, .valid_until_s = AT(0, 3) }, AT(0, 1), AT(0, 0), AT(0, 3) },
        { "a window behind the end", { .weekdays = 2, .valid_until_s = AT(0, 3) }, AT(0, 1), 0, 0 },
        { "a window cut by the beginning", { .weekdays = 1, .valid_from_s = AT(0, 3) }, AT(0, 1), AT(0, 3), AT(1, 0) },
        { "windows far ahead", { .weekdays = 1, .valid_from_s = AT(700, 3) }, AT(0, 1), AT(700, 3), AT(701, 0) },
        { "before 1970", { .weekdays = 1 << 3 }, -1, 0, DAY_S },
        { "every day by name", { .weekdays = 0x7f }, AT(0, 1), INT64_MIN, INT64_MAX },
};

static void test_periods(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(periods); i++) {
                struct policy_period period = {};
                bool found = policy_period(&periods[i].policy, periods[i].at_s, &period);

                if (found != (periods[i].from_s != 0 || periods[i].until_s != 0) ||
                    period.from_s != periods[i].from_s || period.until_s != periods[i].until_s)
                        fail_msg("%s: %d, %lld to %lld", periods[i].name, found, (long long)period.from_s,
                                 (long long)period.until_s);
                assert_int_equal(policy_is_active(&periods[i].policy, periods[i].at_s),
                                 found && period.from_s <= periods[i].at_s);
        }
}

/* Whatever the days and hours: what policy_period() says is what going through it hour by hour says. */
static void test_periods_by_hours(void **state) {
        static const int64_t hours[][2] = { { 0, 0 }, { 8, 18 }, { 22, 6 }, { 0, 1 }, { 23, 24 }, { 5, 0 },
                                             { 18, 17 } };

        for (unsigned days = 0; days <= DAYS_ALL; days++)
                for (size_t i = 0; i < N_ELEMENTS(hours); i++) {
                        struct policy policy = { .weekdays = days, .day_from_s = hours[i][0] * HOUR_S,
                                                 .day_until_s = hours[i][1] * HOUR_S };
                        bool all_day = hours[i][0] == 0 && hours[i][1] == 0;

                        for (int64_t hour = 0; hour < 7 * 24; hour++) {
                                int64_t weekday = hour / 24, of_day = hour % 24;
                                bool over_midnight = hours[i][0] > hours[i][1];
                                bool today = days == 0 || (days >> weekday & 1) != 0;
                                bool yesterday = days == 0 || (days >> (weekday + 6) % 7 & 1) != 0;
                                bool wanted = all_day ? today :
                                              over_midnight ? (today && of_day >= hours[i][0]) ||
                                                                      (yesterday && of_day < hours[i][1]) :
                                              today && of_day >= hours[i][0] && of_day < hours[i][1];

                                if (policy_is_active(&policy, AT(0, hour)) != wanted)
                                        fail_msg("days %x, %d to %d, hour %d", days, (int)hours[i][0],
                                                 (int)hours[i][1], (int)hour);
                        }
                }
}

/* ---- decisions */

struct rule {
        const char *scope;   /* of a denial, "": everything; NULL: there is no rule */
        bool deny, shadow;
        enum policy_fit fit;
        int64_t max_s, from_s, until_s, advance_s;
        unsigned days;
};

static const struct {
        const char *name;
        struct rule rules[RULES_MAX];
        const char *known, *asked;
        const char *granted;          /* NULL: nothing */
        bool no_nbf;
        int64_t nbf_s, max_s, until_s; /* of the answer */
        bool closed;                  /* the audience as a whole */
        const char *shadow;           /* with shadows in force; NULL: no different; "": nothing */
} decisions[] = {
        { "one allows", { { "read" } }, NULL, "read", "read" },
        { "nobody does", {}, NULL, "read", .closed = true },
        { "policies unite", { { "a" }, { "b" }, { "c" } }, NULL, "c a", "c a" },
        { "what the server knows", { { "a b" } }, "b c", "a b c", "b" },

        { "one denies", { { "a b" }, { "a", .deny = true } }, NULL, "a b", "b" },
        { "one denies, whatever the order", { { "a", .deny = true }, { "a b" } }, NULL, "b a", "b" },
        { "one denies all that is asked", { { "a b" }, { "a", .deny = true } }, NULL, "a" },
        { "a denial alone", { { "a", .deny = true } }, NULL, "b", .closed = true },
        { "everything is denied", { { "a b" }, { "", .deny = true } }, NULL, "a", .closed = true },
        { "a denial of what nobody allows", { { "a" }, { "b", .deny = true } }, NULL, "a b", "a" },
        { "a denial of another kind", { { "a" }, { "#a", .deny = true } }, NULL, "a", "a" },
        { "bytes denied", { { "#a" }, { "#b" }, { "#a", .deny = true } }, NULL, "#a" },
        { "other bytes denied", { { "#a" }, { "#b" }, { "#a", .deny = true } }, NULL, "#b", "#b" },
        { "denied per object", { { "aif:/a=7;/b=1" }, { "aif:/a=3", .deny = true } }, NULL, "aif:/a=7;/b=1;/c=1",
          "aif:/a=4;/b=1" },
        { "objects that the server knows", { { "aif:/a=7" } }, "aif:/a=1;/b=1", "aif:/a=3;/b=1", "aif:/a=1" },
        { "a denial that is over", { { "a" }, { "a", .deny = true, .until_s = AT(0, 0) } }, NULL, "a", "a" },
        { "a denial that comes", { { "a" }, { "a", .deny = true, .from_s = AT(0, 5) } }, NULL, "a", "a",
          .until_s = AT(0, 5) },
        { "a denial of all that comes", { { "a" }, { "", .deny = true, .from_s = AT(0, 5) } }, NULL, "a", "a",
          .until_s = AT(0, 5) },
        { "a denial of something else that comes", { { "a" }, { "b", .deny = true, .from_s = AT(0, 5) } }, NULL, "a",
          "a" },

        { "the shortest maximum", { { "a", .max_s = 9 }, { "a b", .max_s = 5 }, { "c", .max_s = 1 } }, NULL, "a b",
          "a b", .max_s = 5 },
        { "the maximum of one that is denied counts not", { { "a", .max_s = 9 }, { "b", .max_s = 1 },
          { "b", .deny = true } }, NULL, "a b", "a", .max_s = 9 },
        { "the first end", { { "a", .until_s = AT(0, 5) }, { "a", .until_s = AT(0, 3) } }, NULL, "a", "a",
          .until_s = AT(0, 3) },
        { "the end of the day", { { "a", .days = 1 } }, NULL, "a", "a", .until_s = AT(1, 0) },
        { "another day", { { "a", .days = 2 } }, NULL, "a", .closed = true },

        { "in advance", { { "a", .from_s = AT(0, 3), .advance_s = 3 * HOUR_S } }, NULL, "a", "a", .nbf_s = AT(0, 3) },
        { "too early for that", { { "a", .from_s = AT(0, 3), .advance_s = 3 * HOUR_S - 1 } }, NULL, "a",
          .closed = true },
        { "in advance of a day", { { "a", .days = 2, .advance_s = DAY_S } }, NULL, "a", "a", .nbf_s = AT(1, 0),
          .until_s = AT(2, 0) },
        { "not for those without a clock", { { "a", .from_s = AT(0, 3), .advance_s = 3 * HOUR_S } }, NULL, "a",
          .no_nbf = true, .closed = true },
        { "what holds now is first", { { "a" }, { "a b", .from_s = AT(0, 3), .advance_s = DAY_S } }, NULL, "a b", "a" },
        { "the first that begins", { { "b", .from_s = AT(0, 4), .advance_s = DAY_S },
          { "a", .from_s = AT(0, 3), .advance_s = DAY_S, .max_s = 7 } }, NULL, "a b", "a", .nbf_s = AT(0, 3),
          .max_s = 7 },
        { "not one that has not begun then", { { "b", .from_s = AT(0, 4) },
          { "a", .from_s = AT(0, 3), .advance_s = DAY_S } }, NULL, "b a", "a", .nbf_s = AT(0, 3) },
        { "denied at its beginning", { { "a", .from_s = AT(0, 3), .advance_s = DAY_S },
          { "a", .deny = true, .from_s = AT(0, 2) } }, NULL, "a" },
        { "denied only until its beginning", { { "a", .from_s = AT(0, 3), .advance_s = DAY_S },
          { "", .deny = true, .until_s = AT(0, 3) } }, NULL, "a", "a", .nbf_s = AT(0, 3) },
        { "denied soon after its beginning", { { "a", .from_s = AT(0, 3), .advance_s = DAY_S },
          { "a", .deny = true, .from_s = AT(0, 4) } }, NULL, "a", "a", .nbf_s = AT(0, 3), .until_s = AT(0, 4) },

        { "a shadow would allow", { { "a" }, { "b", .shadow = true } }, NULL, "a b", "a", .shadow = "a b" },
        { "a shadow would open", { { "b", .shadow = true } }, NULL, "b", .closed = true, .shadow = "b" },
        { "a shadow would deny", { { "a b" }, { "a", .deny = true, .shadow = true } }, NULL, "a b", "a b",
          .shadow = "b" },
        { "a shadow would deny everything", { { "a b" }, { "", .deny = true, .shadow = true } }, NULL, "a b", "a b",
          .shadow = "" },
        { "a shadow would shorten", { { "a" }, { "a", .shadow = true, .max_s = 5 } }, NULL, "a", "a", .shadow = "a" },
        { "a shadow would change nothing", { { "a" }, { "a b", .shadow = true } }, NULL, "a", "a" },
        { "a shadow that is over", { { "a" }, { "b", .shadow = true, .until_s = AT(0, 0) } }, NULL, "a b", "a" },
        { "a shadow that is no end", { { "a" }, { "", .deny = true, .shadow = true, .from_s = AT(0, 5) } }, NULL, "a",
          "a", .shadow = "a" },

        { "not for this client", { { "a", .fit = POLICY_LACKS_LABEL } }, NULL, "a", .closed = true },
        { "a denial not for this client", { { "a" }, { "", .deny = true, .fit = POLICY_LACKS_LABEL } }, NULL, "a",
          "a" },
        { "too large to allow", { { "a", .fit = POLICY_TOO_LARGE } }, NULL, "a", .closed = true },
        { "too large to tell what it denies", { { "a" }, { "b", .deny = true, .fit = POLICY_TOO_LARGE } }, NULL, "a",
          .closed = true },
        { "elsewhere", { { "a", .fit = POLICY_ELSEWHERE } }, NULL, "a", .closed = true },
};

static size_t build(const struct rule *rules, struct policy *policies) {
        size_t n = 0;

        for (; n < RULES_MAX && rules[n].scope; n++)
                policies[n] = (struct policy){
                        .id = (int64_t)n + 1,
                        .effect = rules[n].deny ? POLICY_DENY : POLICY_ALLOW,
                        .is_shadow = rules[n].shadow,
                        .fit = rules[n].fit,
                        .scopes = made(rules[n].scope[0] != '\0' ? rules[n].scope : NULL),
                        .max_lifetime_s = rules[n].max_s,
                        .valid_from_s = rules[n].from_s,
                        .valid_until_s = rules[n].until_s,
                        .advance_s = rules[n].advance_s,
                        .weekdays = rules[n].days,
                };
        return n;
}

static void test_decisions(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(decisions); i++) {
                struct scope known = made(decisions[i].known), wanted = made(decisions[i].asked);
                struct policy_answer answer, tried;
                struct policy policies[RULES_MAX];
                const struct policy_question question = {
                        .policies = policies,
                        .n_policies = build(decisions[i].rules, policies),
                        .known = &known,
                        .now_s = AT(0, 0),
                        .takes_nbf = !decisions[i].no_nbf,
                };
                bool differs;

                if (policy_is_open(&question) == decisions[i].closed)
                        fail_msg("%s: open or closed", decisions[i].name);
                assert_int_equal(policy_evaluate(&question, &wanted, &answer), decisions[i].granted != NULL);
                expect_scope(decisions[i].name, &answer.scope, decisions[i].granted);
                if (answer.nbf_s != decisions[i].nbf_s || answer.max_lifetime_s != decisions[i].max_s ||
                    answer.until_s != decisions[i].until_s)
                        fail_msg("%s: nbf %lld, at most %lld, until %lld", decisions[i].name, (long long)answer.nbf_s,
                                 (long long)answer.max_lifetime_s, (long long)answer.until_s);

                differs = policy_try_shadow(&question, &wanted, &answer, &tried);
                if (differs != (decisions[i].shadow != NULL))
                        fail_msg("%s: its shadow differs: %d", decisions[i].name, differs);
                if (differs)
                        expect_scope(decisions[i].name, &tried.scope,
                                     decisions[i].shadow[0] != '\0' ? decisions[i].shadow : NULL);
        }
}

static void test_contributors(void **state) {
        const struct rule rules[RULES_MAX] = { { "a b" }, { "c" }, { "b", .deny = true }, { "b" } };
        struct policy policies[RULES_MAX];
        struct scope known = {}, wanted = made("a b c d");
        struct policy_question question = { policies, build(rules, policies), &known, AT(0, 0) };
        struct policy_answer answer;

        assert_true(policy_evaluate(&question, &wanted, &answer));
        assert_int_equal(answer.n_policies, 2);
        assert_int_equal(answer.policies[0], 1);
        assert_int_equal(answer.policies[1], 2);
        expect_scope("allowed", &answer.allowed, "a c");
}

static void test_parts(void **state) {
        static const struct {
                struct policy policy;
                bool no_nbf;
                enum policy_part part;
        } cases[] = {
                { {}, false, POLICY_IN_FORCE },
                { { .valid_from_s = AT(0, 1) }, false, POLICY_NOT_YET },
                { { .valid_from_s = AT(0, 1), .advance_s = HOUR_S }, false, POLICY_AHEAD },
                { { .valid_from_s = AT(0, 1), .advance_s = HOUR_S }, true, POLICY_NOT_YET },
                { { .valid_until_s = AT(0, 0) }, false, POLICY_OVER },
                { { .weekdays = 2 }, false, POLICY_OUT_OF_HOURS },
                { { .weekdays = 2, .effect = POLICY_DENY }, false, POLICY_OUT_OF_HOURS },
                { { .fit = POLICY_LACKS_LABEL }, false, POLICY_NOT_FITTING },
                { { .fit = POLICY_TOO_LARGE }, false, POLICY_NOT_FITTING },
                { { .fit = POLICY_TOO_LARGE, .effect = POLICY_DENY }, false, POLICY_IN_FORCE },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++)
                assert_int_equal(policy_part(&cases[i].policy, AT(0, 0), !cases[i].no_nbf), cases[i].part);
}

/* ---- what holds for any policies: many random ones, with a seed that is told when they show a fault */

static uint32_t draw(uint64_t *seed, uint32_t below) {
        *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (uint32_t)(*seed >> 33) % below;
}

static struct scope draw_scope(uint64_t *seed, bool is_aif) {
        struct scope scope = {}, one;
        char token[2] = "a";

        for (int i = 0; i < 4; i++) {
                token[0] = (char)('a' + i);
                if (draw(seed, 2) == 0)
                        continue;
                if (is_aif)
                        assert_int_equal(aif_add(&scope, bytes_text(token), 1 + draw(seed, 7)), 0);
                else if (scope_set(&one, SCOPE_TEXT, bytes_text(token)) == 0)
                        assert_int_equal(scope_unite(&scope, &one), 0);
        }
        return scope;
}

static struct policy draw_policy(uint64_t *seed, bool is_aif) {
        struct policy policy = {
                .effect = draw(seed, 4) == 0 ? POLICY_DENY : POLICY_ALLOW,
                .is_shadow = draw(seed, 5) == 0,
                .fit = draw(seed, 8) == 0 ? POLICY_LACKS_LABEL : POLICY_FITS,
                .scopes = draw_scope(seed, is_aif),
                .max_lifetime_s = draw(seed, 3) * 100,
                .valid_from_s = draw(seed, 4) == 0 ? AT(0, draw(seed, 6)) : 0,
                .valid_until_s = draw(seed, 4) == 0 ? AT(0, 7 + draw(seed, 6)) : 0,
                .advance_s = draw(seed, 2) * 3 * HOUR_S,
                .weekdays = draw(seed, 3) == 0 ? draw(seed, 128) : 0,
        };

        if (draw(seed, 3) == 0) {
                policy.day_from_s = draw(seed, 24) * HOUR_S;
                policy.day_until_s = draw(seed, 24) * HOUR_S;
        }
        return policy;
}

static bool is_within(const struct scope *part, const struct scope *whole) {
        struct scope rest = *part;

        return !scope_subtract(&rest, whole);
}

#define DRAWN_MAX 8

static void check_any(uint64_t seed) {
        uint64_t at = seed;
        bool is_aif = draw(&at, 2) == 0;
        struct policy policies[DRAWN_MAX + 1], denial;
        struct scope known = draw_scope(&at, is_aif), wanted = draw_scope(&at, is_aif), allowed = {};
        struct policy_question question = { policies, draw(&at, DRAWN_MAX), &known, AT(draw(&at, 7), draw(&at, 24)),
                                            draw(&at, 2) == 0, false };
        struct policy_answer answer, more, without;
        struct policy enforced[DRAWN_MAX];
        size_t n = 0;

        for (size_t i = 0; i < question.n_policies; i++) {
                policies[i] = draw_policy(&at, is_aif);
                if (policies[i].is_shadow)
                        continue;
                enforced[n++] = policies[i];
                if (policies[i].effect == POLICY_ALLOW)
                        assert_int_equal(scope_unite(&allowed, &policies[i].scopes), 0);
        }
        (void)policy_evaluate(&question, &wanted, &answer);

        /* never more than asked, than known, than some policy allows; nor at a time at which nobody allows it */
        if (!is_within(&answer.scope, &wanted) || (known.kind != SCOPE_NONE && !is_within(&answer.scope, &known)) ||
            !is_within(&answer.scope, &allowed))
                fail_msg("seed %llu: too much", (unsigned long long)seed);
        if (answer.scope.kind != SCOPE_NONE && (answer.n_policies == 0 || !policy_is_open(&question)))
                fail_msg("seed %llu: granted, but by nobody", (unsigned long long)seed);
        if ((answer.nbf_s != 0 && (answer.nbf_s <= question.now_s || !question.takes_nbf)) ||
            (answer.until_s != 0 && answer.until_s <= (answer.nbf_s != 0 ? answer.nbf_s : question.now_s)))
                fail_msg("seed %llu: times", (unsigned long long)seed);

        /* shadows change nothing */
        question.policies = enforced;
        question.n_policies = n;
        (void)policy_evaluate(&question, &wanted, &without);
        if (!scope_equal(&answer.scope, &without.scope) || answer.nbf_s != without.nbf_s ||
            answer.until_s != without.until_s || answer.max_lifetime_s != without.max_lifetime_s)
                fail_msg("seed %llu: a shadow did something", (unsigned long long)seed);

        /* one more denial never adds anything to what is granted now */
        denial = draw_policy(&at, is_aif);
        denial.effect = POLICY_DENY;
        denial.is_shadow = false;
        question.policies = policies;
        memcpy(policies, enforced, n * sizeof(*policies));
        policies[n] = denial;
        question.n_policies = n + 1;
        (void)policy_evaluate(&question, &wanted, &more);
        if (answer.nbf_s == 0 && more.nbf_s == 0 && !is_within(&more.scope, &answer.scope))
                fail_msg("seed %llu: a denial allows", (unsigned long long)seed);
        if (!is_within(&more.scope, &allowed))
                fail_msg("seed %llu: with a denial, too much", (unsigned long long)seed);
}

static void test_any(void **state) {
        for (uint64_t seed = 1; seed <= 20000; seed++)
                check_any(seed);
}

/* ---- variables */

static const struct {
        const char *name;
        const char *audience, *scope; /* of the policy */
        const char *labels[5];
        const char *wanted;           /* NULL: it does not fit */
        enum policy_fit fit;
} expansions[] = {
        { "none", "rs-1", "read", { "a:1" }, "read" },
        { "the client", "rs-1", "${client}:own read", {}, "c1:own read" },
        { "the audience", "rs-1", "${audience}:read", {}, "rs-1:read" },
        { "a label", "rs-1", "${room}:read", { "room:7", "roommate:8" }, "7:read" },
        { "a label in the middle", "rs-1", "a${room}b", { "room:7" }, "a7b" },
        { "two variables in a token", "rs-1", "${room}${client}", { "room:7" }, "7c1" },
        { "a value with a colon", "rs-1", "${room}", { "room:a:b" }, "a:b" },
        { "no such label", "rs-1", "${room}:read", { "room", "rooms:1" }, NULL, POLICY_LACKS_LABEL },
        { "a label without a value", "rs-1", "${room}:read", { "room:" }, NULL, POLICY_LACKS_LABEL },
        { "one of two is missing", "rs-1", "read ${room}", {}, NULL, POLICY_LACKS_LABEL },
        { "several values", "rs-1", "${room}:read log", { "room:7", "room:8" }, "7:read log 8:read" },
        { "several values, together", "rs-1", "${room}:${room}", { "room:7", "room:8" }, "7:7 8:8" },
        { "several of two", "rs-1", "${a}${b}", { "a:1", "a:2", "b:3", "b:4" }, "13 14 23 24" },
        { "the audience by a label", "rs-${room}", "read", { "room:1" }, "read" },
        { "another audience", "rs-${room}", "read", { "room:2" }, NULL, POLICY_ELSEWHERE },
        { "one value's audience", "rs-${room}", "${room}:read", { "room:2", "room:1" }, "1:read" },
        { "the audience by the client", "${client}", "read", {}, NULL, POLICY_ELSEWHERE },
        { "the audience without a label", "rs-${room}", "read", {}, NULL, POLICY_LACKS_LABEL },
        { "objects", "rs-1", "aif:/${room}/led=3;/${client}=1", { "room:7", "room:8" },
          "aif:/7/led=3;/8/led=3;/c1=1" },
        { "objects that meet", "rs-1", "aif:/${room}=1;/7=2", { "room:7" }, "aif:/7=3" },
        { "bytes have none", "rs-1", "#${room}", { "room:7" }, "#${room}" },
        { "half a variable", "rs-1", "${room read", { "room:7" }, "${room read" },
        { "no key", "rs-1", "${} ${a:b} $x {y}", {}, "${} ${a:b} $x {y}" },
        { "not again", "rs-1", "${a}", { "a:b", "b:c" }, "b" },
};

static struct policy policy_with(const char *audience, const char *scope) {
        struct policy policy = { .scopes = made(scope), .audience_varies = variables_in_text(bytes_text(audience)) };

        (void)snprintf(policy.audience, sizeof(policy.audience), "%s", audience);
        return policy;
}

static void test_expansions(void **state) {
        for (size_t i = 0; i < N_ELEMENTS(expansions); i++) {
                struct policy policy = policy_with(expansions[i].audience, expansions[i].scope);
                char labels[5][NAME_SIZE_MAX + 1];
                struct variable_values values = { .client = "c1", .audience = "rs-1", .labels = labels };

                for (; values.n_labels < 5 && expansions[i].labels[values.n_labels]; values.n_labels++)
                        (void)snprintf(labels[values.n_labels], sizeof(labels[0]), "%s",
                                       expansions[i].labels[values.n_labels]);
                variables_expand(&policy, &values);
                if (policy.fit != expansions[i].fit)
                        fail_msg("%s: fit %d", expansions[i].name, policy.fit);
                if (!expansions[i].wanted)
                        continue;
                expect_scope(expansions[i].name, &policy.scopes, expansions[i].wanted);
                assert_string_equal(policy.audience, "rs-1");
        }
}

/* Whatever a value is, it stays in its token, in its object: names cannot be such, but nothing rests on that. */
static void test_no_injection(void **state) {
        static const char *const evil[] = { "x admin", " ", "admin x", "x\"y", "x\x1f" "1\x1e" "admin", "x\x1e", "\x01",
                                            "x;admin=1", "a\tb" };
        struct scope admin = made("admin"), object = made("aif:admin=1;/admin=1"), common;

        for (size_t i = 0; i < N_ELEMENTS(evil); i++) {
                struct policy text = policy_with("rs-1", "${room} read"), aif = policy_with("rs-1", "aif:/${room}=1");
                char labels[1][NAME_SIZE_MAX + 1];
                struct variable_values values = { "c1", "rs-1", labels, 1 };

                (void)snprintf(labels[0], sizeof(labels[0]), "room:%s", evil[i]);
                variables_expand(&text, &values);
                variables_expand(&aif, &values);
                assert_false(text.fit == POLICY_FITS && scope_intersect(&admin, &text.scopes, &common));
                assert_false(aif.fit == POLICY_FITS && scope_intersect(&object, &aif.scopes, &common));
                if (aif.fit == POLICY_FITS)
                        assert_true(aif_is_valid(scope_bytes(&aif.scopes)));
        }
}

static void test_too_large(void **state) {
        char labels[32][NAME_SIZE_MAX + 1];
        struct variable_values values = { "c1", "rs-1", labels, N_ELEMENTS(labels) };
        struct policy policy = policy_with("rs-1", "${a}");

        for (size_t i = 0; i < N_ELEMENTS(labels); i++)
                (void)snprintf(labels[i], sizeof(labels[i]), "%s:%062zu", i < 16 ? "a" : "b", i);
        variables_expand(&policy, &values);
        assert_int_equal(policy.fit, POLICY_TOO_LARGE); /* 16 values of 62 bytes */

        for (size_t i = 0; i < N_ELEMENTS(labels); i++)
                (void)snprintf(labels[i], sizeof(labels[i]), "%s:%zu", i < 16 ? "a" : "b", i % 16);
        policy = policy_with("rs-1", "${a}");
        variables_expand(&policy, &values);
        assert_int_equal(policy.fit, POLICY_FITS);
        policy = policy_with("rs-${a}", "x${b}"); /* 256 ways, 16 of which are this audience's */
        variables_expand(&policy, &values);
        assert_int_equal(policy.fit, POLICY_FITS);
        (void)snprintf(labels[0], sizeof(labels[0]), "b:17"); /* 15 times 17 */
        policy = policy_with("rs-${a}", "x${b}");
        variables_expand(&policy, &values);
        assert_int_equal(policy.fit, POLICY_FITS);
        policy = policy_with("rs-1", "${a}${b}${b2}");
        (void)snprintf(labels[1], sizeof(labels[1]), "b2:1");
        (void)snprintf(labels[2], sizeof(labels[2]), "b2:2");
        variables_expand(&policy, &values);
        assert_int_equal(policy.fit, POLICY_TOO_LARGE); /* 13 times 17 times 2 ways */
}

static void test_validity(void **state) {
        static const struct {
                const char *audience, *scope;
                bool valid;
        } cases[] = {
                { "rs-1", "read", true },
                { "rs-${room}", "${room}:read ${client}", true },
                { "rs-1", "${audience}:read", true },
                { "${audience}", "read", false },
                { "rs-${", "read", false },
                { "rs-${room", "read", false },
                { "rs-${}", "read", false },
                { "rs-${a:b}", "read", false },
                { "rs-1", "${a b}", false },
                { "rs-1", "read ${x", false },
                { "${a}", "${a}${b}${c}${d} ${client}", true },
                { "${a}", "${b}${c}${d} ${e}", false },
                { "rs-1", "aif:/${a}=1", true },
                { "rs-1", "aif:/${a=1", false },
                { "rs-1", "#${", true },
                { "rs-$1", "{a} $b $", true },
                { "rs-1", NULL, true },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct scope scope = made(cases[i].scope);

                if (variables_are_valid(bytes_text(cases[i].audience), &scope) != cases[i].valid)
                        fail_msg("%s, %s", cases[i].audience, cases[i].scope);
        }
}

static void test_needs(void **state) {
        struct policy policy = policy_with("rs-1", "${client} ${audience}");

        assert_true(variables_in_policy(&policy));
        assert_false(variables_need_labels(&policy));
        policy = policy_with("rs-${a}", "read");
        assert_true(variables_need_labels(&policy));
        policy.audience_varies = false; /* one of before there were variables */
        assert_false(variables_in_policy(&policy));
        policy = policy_with("rs-1", "read");
        assert_false(variables_in_policy(&policy));
}

/* ---- days and hours as people write them */

static void test_days(void **state) {
        static const struct {
                const char *text;
                int days; /* -1: refused */
                const char *printed;
        } cases[] = {
                { "mon", 0x01, "mon" },
                { "mon-fri", 0x1f, "mon-fri" },
                { "Mon-FRI,sun", 0x5f, "mon-fri,sun" },
                { "fri-mon", 0x71, "mon,fri-sun" },
                { "mon,tue", 0x03, "mon-tue" },
                { "mon,mon", 0x01, "mon" },
                { "mon-sun", 0x7f, "" },
                { "mon,wed,fri,sun", 0x55, "mon,wed,fri,sun" },
                { "", -1, NULL },
                { "mon,", -1, NULL },
                { ",mon", -1, NULL },
                { "mon-", -1, NULL },
                { "mon-tue-wed", -1, NULL },
                { "monday", -1, NULL },
                { "mo", -1, NULL },
                { "mon tue", -1, NULL },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                char text[DAYS_TEXT_SIZE];
                unsigned days = 0;
                int r = days_parse(bytes_text(cases[i].text), &days);

                if ((r == 0) != (cases[i].days >= 0) || (r == 0 && (int)days != cases[i].days))
                        fail_msg("%s: %d, %x", cases[i].text, r, days);
                if (r != 0)
                        continue;
                days_print(days, text);
                assert_string_equal(text, cases[i].printed);
        }
}

static void test_hours(void **state) {
        static const struct {
                const char *text;
                int from_min, until_min; /* -1: refused */
                const char *printed;
        } cases[] = {
                { "08:00-18:30", 480, 1110, "08:00-18:30" },
                { "22:00-06:00", 1320, 360, "22:00-06:00" },
                { "00:00-24:00", 0, 0, "" },
                { "12:00-24:00", 720, 1440, "12:00-24:00" },
                { "12:00-00:00", 720, 0, "12:00-00:00" },
                { "00:00-00:01", 0, 1, "00:00-00:01" },
                { "00:00-00:00", -1, 0, NULL },
                { "24:00-08:00", -1, 0, NULL },
                { "08:00-24:01", -1, 0, NULL },
                { "08:60-09:00", -1, 0, NULL },
                { "8:00-18:00", -1, 0, NULL },
                { "08:00", -1, 0, NULL },
                { "08:00-", -1, 0, NULL },
                { "08:00-18:00-19:00", -1, 0, NULL },
                { "08.00-18.00", -1, 0, NULL },
                { "", -1, 0, NULL },
        };

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                int64_t from_s = 0, until_s = 0;
                char text[HOURS_TEXT_SIZE];
                int r = hours_parse(bytes_text(cases[i].text), &from_s, &until_s);

                if ((r == 0) != (cases[i].from_min >= 0) ||
                    (r == 0 && (from_s != cases[i].from_min * 60 || until_s != cases[i].until_min * 60)))
                        fail_msg("%s: %d, %lld to %lld", cases[i].text, r, (long long)from_s, (long long)until_s);
                if (r != 0)
                        continue;
                hours_print(from_s, until_s, text);
                assert_string_equal(text, cases[i].printed);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_periods),      cmocka_unit_test(test_periods_by_hours),
                cmocka_unit_test(test_decisions),    cmocka_unit_test(test_contributors),
                cmocka_unit_test(test_parts),        cmocka_unit_test(test_any),
                cmocka_unit_test(test_expansions),   cmocka_unit_test(test_no_injection),
                cmocka_unit_test(test_too_large),    cmocka_unit_test(test_validity),
                cmocka_unit_test(test_needs),        cmocka_unit_test(test_days),
                cmocka_unit_test(test_hours),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
