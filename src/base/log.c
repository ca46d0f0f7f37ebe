#include "base/log.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION /* CODE_FILE would always be this file */
#include <systemd/sd-journal.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define LOG_TEXT_SIZE 4096   /* of a whole line; what is longer is cut */
#define LOG_FORMAT_SIZE 2048 /* of a message before control characters are escaped */
#define LOG_FIELDS_MAX 24    /* more are left out */

static enum log_level level_max = LOG_LEVEL_INFO;

/* Text of bounded size: from the first piece on that does not fit all is dropped, so there is never half an escape. */
struct line {
        char text[LOG_TEXT_SIZE];
        size_t size;
        bool full;
};

void log_set_level(enum log_level level) {
        level_max = level;
}

bool log_enabled(enum log_level level) {
        return level <= level_max;
}

static void line_add(struct line *line, const char *text, size_t size) {
        line->full = line->full || size > sizeof(line->text) - 1 - line->size; /* room for the newline is kept */
        if (line->full)
                return;
        memcpy(line->text + line->size, text, size);
        line->size += size;
}

/* Add text with everything that is no printable character as \xNN; quote is escaped too when it is not 0. */
static void line_add_escaped(struct line *line, const char *text, char quote) {
        const uint8_t *at = (const uint8_t *)text, *end = at + strlen(text);

        while (at < end) {
                size_t n = bytes_shown_size(bytes_of(at, (size_t)(end - at)));
                char escape[5];

                if (n > 0 && *at != '\\' && (!quote || *at != (uint8_t)quote)) {
                        line_add(line, (const char *)at, n);
                        at += n;
                        continue;
                }
                snprintf(escape, sizeof(escape), "\\x%02x", *at++);
                line_add(line, escape, 4);
        }
}

/* systemd.exec(5): stderr is the journal when $JOURNAL_STREAM names its device and inode. */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;

        return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
                st.st_dev == device && st.st_ino == inode;
}

/* The fields stand one after the other in one line's memory. */
static bool log_to_journal(enum log_level level, const struct log_field *fields, const char *message) {
        struct iovec iov[2 + LOG_FIELDS_MAX];
        size_t starts[3 + LOG_FIELDS_MAX];
        struct line line = {};
        char priority[] = { 'P', 'R', 'I', 'O', 'R', 'I', 'T', 'Y', '=', (char)('0' + level) };
        int n = 0;

        starts[n++] = 0;
        line_add(&line, "MESSAGE=", 8);
        line_add_escaped(&line, message, 0);
        for (; fields && fields->name && n <= LOG_FIELDS_MAX; fields++) {
                starts[n] = line.size;
                line_add(&line, fields->name, strlen(fields->name));
                line_add(&line, "=", 1);
                if (line.full) {
                        line.size = starts[n]; /* half a field is none */
                        break;
                }
                n++;
                line_add_escaped(&line, fields->value ? fields->value : "", 0);
        }
        starts[n] = line.size;
        for (int i = 0; i < n; i++)
                iov[i] = (struct iovec){ line.text + starts[i], starts[i + 1] - starts[i] };
        iov[n] = (struct iovec){ priority, sizeof(priority) };
        return sd_journal_sendv(iov, n + 1) >= 0;
}

/* A value that could be taken for more than one field is put in quotes. */
static void line_add_field(struct line *line, const struct log_field *field) {
        const char *value = field->value ? field->value : "";
        bool quoted = *value == '\0' || strpbrk(value, " \"=");

        line_add(line, " ", 1);
        line_add(line, field->name, strlen(field->name));
        line_add(line, quoted ? "=\"" : "=", quoted ? 2 : 1);
        line_add_escaped(line, value, '"');
        if (quoted)
                line_add(line, "\"", 1);
}

static void log_to_stderr(enum log_level level, const struct log_field *fields, const char *message) {
        static const char *const names[] = {
                [LOG_LEVEL_ERROR] = "error: ", [LOG_LEVEL_WARNING] = "warning: ", [LOG_LEVEL_NOTICE] = "notice: ",
                [LOG_LEVEL_INFO] = "info: ",   [LOG_LEVEL_DEBUG] = "debug: ",
        };
        const char *name = (size_t)level < N_ELEMENTS(names) && names[level] ? names[level] : "";
        struct line line = {};

        line_add(&line, name, strlen(name));
        line_add_escaped(&line, message, 0);
        for (unsigned n = 0; fields && fields->name && n < LOG_FIELDS_MAX; fields++, n++)
                line_add_field(&line, fields);
        line.text[line.size++] = '\n';
        /* One write a line, so that lines of several processes do not mix. There is nobody to tell that it failed. */
        (void)!write(STDERR_FILENO, line.text, line.size);
}

static void log_va(enum log_level level, const struct log_field *fields, const char *format, va_list args)
        __attribute__((format(printf, 3, 0)));

static void log_va(enum log_level level, const struct log_field *fields, const char *format, va_list args) {
        char message[LOG_FORMAT_SIZE];

        if (!log_enabled(level))
                return;
        if (vsnprintf(message, sizeof(message), format, args) < 0)
                return;
        if (!stderr_is_journal() || !log_to_journal(level, fields, message))
                log_to_stderr(level, fields, message);
}

void log_line(enum log_level level, const char *format, ...) {
        va_list args;

        va_start(args, format);
        log_va(level, NULL, format, args);
        va_end(args);
}

void log_fields(enum log_level level, const struct log_field *fields, const char *format, ...) {
        va_list args;

        va_start(args, format);
        log_va(level, fields, format, args);
        va_end(args);
}
