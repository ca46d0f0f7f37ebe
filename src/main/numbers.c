#include "main/numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define STATE_SIZE_MAX 1024

static int fault(struct numbers *numbers, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fault(struct numbers *numbers, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(numbers->fault, sizeof(numbers->fault), format, arguments);
        va_end(arguments);
        return -EIO;
}

static int fault_of_file(struct numbers *numbers, const char *what) {
        return fault(numbers, "%s/%s.state cannot be %s: %s", numbers->directory, numbers->name, what,
                     strerror(errno));
}

/* ---- what stands in the file */

struct state {
        uint64_t next;                         /* no number below is free */
        uint8_t digest[NUMBERS_DIGEST_SIZE];   /* of the record whose ID Context this is */
        struct renewed renewed;
};

static bool take_hex(json_t *object, const char *member, uint8_t *data, size_t size, size_t *ret_size) {
        const char *text = json_string_value(json_object_get(object, member));

        return text && bytes_from_hex(text, data, size, ret_size) == 0;
}

static bool state_parse(struct bytes text, struct state *ret) {
        _cleanup_(json_decrefp) json_t *object = json_loadb((const char *)text.data, text.size, 0, NULL);
        const json_t *next = json_object_get(object, "next");
        size_t size;

        *ret = (struct state){ .next = (uint64_t)json_integer_value(next) };
        if (!json_is_integer(next) || ret->next > NUMBERS_END)
                return false;
        if (!json_object_get(object, "id_context_hex"))
                return true;
        ret->renewed.there = true;
        return take_hex(object, "record", ret->digest, sizeof(ret->digest), &size) && size == sizeof(ret->digest) &&
               take_hex(object, "id_context_hex", ret->renewed.id_context, sizeof(ret->renewed.id_context),
                        &ret->renewed.size);
}

/* No such file: none of these numbers was used. */
static int state_read(struct numbers *numbers, int directory, struct state *ret) {
        char name[NAME_MAX + 1], text[STATE_SIZE_MAX];
        _cleanup_(closep) int fd = -1;
        ssize_t n;

        *ret = (struct state){};
        snprintf(name, sizeof(name), "%s.state", numbers->name);
        fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : fault_of_file(numbers, "read");
        n = read(fd, text, sizeof(text));
        if (n < 0)
                return fault_of_file(numbers, "read");
        if (!state_parse(bytes_of(text, (size_t)n), ret))
                return fault(numbers, "%s/%s is damaged: which numbers were used is not known, so make a new record",
                             numbers->directory, name);
        return 0;
}

/* It fits a page: what is not taken at once is not taken. */
static bool write_synced(int fd, const char *text) {
        size_t size = strlen(text);
        ssize_t n = write(fd, text, size);

        if (n >= 0 && (size_t)n != size)
                errno = ENOSPC;
        return n >= 0 && (size_t)n == size && fsync(fd) == 0;
}

/* On disk, name and all, when 0 is returned. A crash leaves the file as it was or as it is to be. */
static int state_write(struct numbers *numbers, int directory, const struct state *state) {
        char text[STATE_SIZE_MAX], digest[2 * NUMBERS_DIGEST_SIZE + 1], id_context[2 * OSCORE_ID_CONTEXT_SIZE_MAX + 1];
        char name[NAME_MAX + 1], fresh[NAME_MAX + 1];
        _cleanup_(closep) int fd = -1;

        bytes_to_hex(bytes_of(state->digest, sizeof(state->digest)), digest, sizeof(digest));
        bytes_to_hex(bytes_of(state->renewed.id_context, state->renewed.size), id_context, sizeof(id_context));
        if (state->renewed.there)
                snprintf(text, sizeof(text), "{\"next\": %ju, \"record\": \"%s\", \"id_context_hex\": \"%s\"}\n",
                         (uintmax_t)state->next, digest, id_context);
        else
                snprintf(text, sizeof(text), "{\"next\": %ju}\n", (uintmax_t)state->next);
        snprintf(name, sizeof(name), "%s.state", numbers->name);
        snprintf(fresh, sizeof(fresh), "%s.state.new", numbers->name);
        unlinkat(directory, fresh, 0); /* of one who was killed; nobody else is here */
        fd = openat(directory, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 || !write_synced(fd, text) || renameat(directory, fresh, directory, name) < 0 ||
            fsync(directory) < 0)
                return fault_of_file(numbers, "written");
        return 0;
}

/* Nobody else reads or writes the state until this is closed. < 0: the fault is told. */
static int lock(struct numbers *numbers) {
        _cleanup_(closep) int fd = open(numbers->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return fault(numbers, "%s: %s", numbers->directory, strerror(errno));
        while (flock(fd, LOCK_EX) < 0)
                if (errno != EINTR)
                        return fault(numbers, "%s cannot be locked: %s", numbers->directory, strerror(errno));
        return TAKE_FD(fd);
}

/* ---- */

int numbers_open(struct numbers *numbers, const char *file, uint64_t block) {
        char *path = realpath(file, NULL), *slash;

        *numbers = (struct numbers){ .block = block };
        if (!path)
                return errno == ENOMEM ? -ENOMEM : fault(numbers, "%s: %s", file, strerror(errno));
        slash = strrchr(path, '/'); /* realpath() begins with one */
        numbers->name = strdup(slash + 1);
        slash[slash == path] = 0;
        numbers->directory = path;
        if (!numbers->name)
                return -ENOMEM;
        if (strlen(numbers->name) + sizeof(".state.new") > NAME_MAX)
                return fault(numbers, "%s: the name is too long to have a .state beside it", file);
        return 0;
}

void numbers_done(struct numbers *numbers) {
        free(numbers->directory);
        free(numbers->name);
        numbers->directory = numbers->name = NULL;
}

int numbers_take(struct numbers *numbers) {
        _cleanup_(closep) int directory = lock(numbers);
        struct state state;
        uint64_t n;
        int r;

        if (directory < 0)
                return directory;
        if ((r = state_read(numbers, directory, &state)) != 0)
                return r;
        n = NUMBERS_END - state.next < numbers->block ? NUMBERS_END - state.next : numbers->block;
        if (n == 0)
                return fault(numbers, "%s/%s: all its sequence numbers are used, so make a new record",
                             numbers->directory, numbers->name);
        state.next += n;
        if ((r = state_write(numbers, directory, &state)) != 0)
                return r;
        numbers->first = state.next - n;
        numbers->end = state.next;
        if (numbers->block < NUMBERS_BLOCK_MAX)
                numbers->block *= 2;
        return 0;
}

int numbers_renewed(struct numbers *numbers, const uint8_t digest[static NUMBERS_DIGEST_SIZE], struct renewed *ret) {
        _cleanup_(closep) int directory = lock(numbers);
        struct state state;
        int r;

        if (directory < 0)
                return directory;
        if ((r = state_read(numbers, directory, &state)) != 0)
                return r;
        /* another record may have stood there then */
        if (!bytes_equal(bytes_of(digest, NUMBERS_DIGEST_SIZE), bytes_of(state.digest, sizeof(state.digest))))
                state.renewed.there = false;
        *ret = state.renewed;
        return 0;
}

int numbers_renew(struct numbers *numbers, const uint8_t digest[static NUMBERS_DIGEST_SIZE],
                  const struct renewed *renewed) {
        _cleanup_(closep) int directory = lock(numbers);
        struct state state;
        int r;

        if (directory < 0)
                return directory;
        if ((r = state_read(numbers, directory, &state)) != 0)
                return r;
        state.renewed = *renewed;
        memcpy(state.digest, digest, sizeof(state.digest));
        return state_write(numbers, directory, &state);
}
