#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/*
 * What the fuzz targets share. A target is one LLVMFuzzerTestOneInput(): with configure --enable-fuzzing libFuzzer
 * calls it, else replay.c with each file of tests/fuzz/corpus/TARGET. It says that an input was met wrongly by MUST().
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* End the process when what must be so is not so. Never compiled out. */
#define MUST(condition) ((condition) ? (void)0 : fuzz_fail(#condition, __FILE__, __LINE__))
void fuzz_fail(const char *condition, const char *file, int line) __attribute__((noreturn));

/*
 * No allocation of ours is larger: what a peer claims in a length must not become memory. Checked for all of
 * libaced.a and the targets (the linker wraps malloc() and its kin); libFuzzer's -malloc_limit_mb sees the libraries'.
 */
#define FUZZ_ALLOCATION_MAX ((size_t)2 << 20)

/*
 * The same bytes, at the end of readable memory: a read behind them ends the process also in libraries that no
 * sanitizer has seen. One at a time: the next call takes the memory back.
 */
#define FUZZ_GUARDED_MAX ((size_t)64 << 10) /* longer ones are cut */
struct bytes fuzz_guarded(struct bytes bytes);

/* Take from the front; what is not there any more reads as zero, or as fewer bytes. */
uint8_t fuzz_take_byte(struct bytes *in);
uint16_t fuzz_take_u16(struct bytes *in);
struct bytes fuzz_take(struct bytes *in, size_t size);
