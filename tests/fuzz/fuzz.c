#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void fuzz_fail(const char *condition, const char *file, int line) {
        fprintf(stderr, "%s:%d: must be so and is not: %s\n", file, line, condition);
        abort();
}

/* ---- memory */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_reallocarray(void *memory, size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_reallocarray(void *memory, size_t n, size_t size);

void *__wrap_malloc(size_t size) {
        MUST(size <= FUZZ_ALLOCATION_MAX);
        return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
        MUST(size == 0 || n <= FUZZ_ALLOCATION_MAX / size);
        return __real_calloc(n, size);
}

void *__wrap_realloc(void *memory, size_t size) {
        MUST(size <= FUZZ_ALLOCATION_MAX);
        return __real_realloc(memory, size);
}

void *__wrap_reallocarray(void *memory, size_t n, size_t size) {
        MUST(size == 0 || n <= FUZZ_ALLOCATION_MAX / size);
        return __real_reallocarray(memory, n, size);
}

static uint8_t *guarded_end(void) {
        static uint8_t *end;
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        uint8_t *start;

        if (end)
                return end;
        start = mmap(NULL, FUZZ_GUARDED_MAX + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        MUST(start != MAP_FAILED);
        MUST(mprotect(start + FUZZ_GUARDED_MAX, page, PROT_NONE) == 0);
        end = start + FUZZ_GUARDED_MAX;
        return end;
}

struct bytes fuzz_guarded(struct bytes bytes) {
        uint8_t *start;

        if (bytes.size > FUZZ_GUARDED_MAX)
                bytes.size = FUZZ_GUARDED_MAX;
        start = guarded_end() - bytes.size;
        if (bytes.size > 0)
                memmove(start, bytes.data, bytes.size);
        return bytes_of(start, bytes.size);
}

/* ---- parts of an input */

struct bytes fuzz_take(struct bytes *in, size_t size) {
        struct bytes taken = bytes_of(in->data, size < in->size ? size : in->size);

        if (taken.size > 0)
                *in = bytes_of(in->data + taken.size, in->size - taken.size);
        return taken;
}

uint8_t fuzz_take_byte(struct bytes *in) {
        struct bytes taken = fuzz_take(in, 1);

        return taken.size == 1 ? taken.data[0] : 0;
}

uint16_t fuzz_take_u16(struct bytes *in) {
        uint8_t high = fuzz_take_byte(in);

        return (uint16_t)(high << 8 | fuzz_take_byte(in));
}
