#include "format/hours.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "base/cleanup.h"

#define DAYS 7
#define DAY_S 86400

static const char *const names[DAYS] = { "mon", "tue", "wed", "thu", "fri", "sat", "sun" };

/* Cut what stands in front of the next separator off *rest; false at the end. */
static bool next_part(struct bytes *rest, char separator, struct bytes *ret) {
        const uint8_t *at;

        if (!rest->data)
                return false;
        at = rest->size > 0 ? memchr(rest->data, separator, rest->size) : NULL;
        *ret = (struct bytes){ rest->data, at ? (size_t)(at - rest->data) : rest->size };
        *rest = at ? (struct bytes){ at + 1, rest->size - ret->size - 1 } : BYTES_NONE;
        return true;
}

static int parse_day(struct bytes text, unsigned *ret) {
        for (unsigned i = 0; i < DAYS; i++)
                if (text.size == 3 && strncasecmp((const char *)text.data, names[i], 3) == 0) {
                        *ret = i;
                        return 0;
                }
        return -EINVAL;
}

int days_parse(struct bytes text, unsigned *ret) {
        unsigned days = 0, first, last;
        struct bytes range, end;

        while (next_part(&text, ',', &range)) {
                if (!next_part(&range, '-', &end) || parse_day(end, &first) != 0)
                        return -EINVAL;
                last = first;
                if (range.data && parse_day(range, &last) != 0)
                        return -EINVAL;
                for (unsigned day = first;; day = (day + 1) % DAYS) {
                        days |= 1u << day;
                        if (day == last)
                                break;
                }
        }
        if (days == 0)
                return -EINVAL;
        *ret = days;
        return 0;
}

void days_print(unsigned days, char text[static DAYS_TEXT_SIZE]) {
        size_t n = 0;

        text[0] = '\0';
        if ((days & DAYS_ALL) == DAYS_ALL)
                return;
        for (unsigned day = 0; day < DAYS; day++) {
                unsigned last = day;

                if ((days >> day & 1) == 0)
                        continue;
                while (last + 1 < DAYS && (days >> (last + 1) & 1) != 0)
                        last++;
                n += (size_t)snprintf(text + n, DAYS_TEXT_SIZE - n, "%s%s%s%s", n > 0 ? "," : "", names[day],
                                      last > day ? "-" : "", last > day ? names[last] : "");
                day = last;
        }
}

static bool two_digits(const uint8_t *at, int *ret) {
        *ret = (at[0] - '0') * 10 + at[1] - '0';
        return at[0] >= '0' && at[0] <= '9' && at[1] >= '0' && at[1] <= '9';
}

/* "08:00", up to "24:00" */
static int parse_time(struct bytes text, int64_t *ret) {
        int hour, minute;

        if (text.size != 5 || text.data[2] != ':' || !two_digits(text.data, &hour) ||
            !two_digits(text.data + 3, &minute) || minute > 59 || hour * 60 + minute > 24 * 60)
                return -EINVAL;
        *ret = hour * 3600 + minute * 60;
        return 0;
}

int hours_parse(struct bytes text, int64_t *ret_from_s, int64_t *ret_until_s) {
        int64_t from_s, until_s;
        struct bytes from;

        if (!next_part(&text, '-', &from) || parse_time(from, &from_s) != 0 || parse_time(text, &until_s) != 0 ||
            from_s == until_s || from_s == DAY_S)
                return -EINVAL;
        if (from_s == 0 && until_s == DAY_S)
                until_s = 0;
        *ret_from_s = from_s;
        *ret_until_s = until_s;
        return 0;
}

void hours_print(int64_t from_s, int64_t until_s, char text[static HOURS_TEXT_SIZE]) {
        unsigned from = (unsigned)from_s % (DAY_S + 1) / 60, until = (unsigned)until_s % (DAY_S + 1) / 60;

        text[0] = '\0';
        if (from_s != 0 || until_s != 0)
                snprintf(text, HOURS_TEXT_SIZE, "%02u:%02u-%02u:%02u", from / 60, from % 60, until / 60, until % 60);
}
