#pragma once

#include <stdbool.h>

/*
 * One line to the journal, with fields, when stderr is the journal; else one line of text to stderr. Only the
 * router, housekeeping, the doors, the control socket and the mains log. Keys never come here: struct secret cannot be formatted.
 */
enum log_level {
        LOG_LEVEL_ERROR = 3,
        LOG_LEVEL_WARNING = 4,
        LOG_LEVEL_NOTICE = 5,
        LOG_LEVEL_INFO = 6,
        LOG_LEVEL_DEBUG = 7,
};

/* One structured field: name in journal form ("ACED_PEER"), value as text. */
struct log_field {
        const char *name;
        const char *value;
};

void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* Control characters in the result are escaped, so that a peer cannot forge a line. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same with fields; in text form they follow as name=value. fields ends with a row whose name is NULL. */
void log_fields(enum log_level level, const struct log_field *fields, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
