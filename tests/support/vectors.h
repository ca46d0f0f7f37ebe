#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"

/*
 * Test vectors: tests/vectors/NAME.json under $ACED_SRCDIR (or the current folder). A file or member that is missing or
 * of another kind ends the test program with a message: a test without its data must not pass.
 *
 * path names a member below object: "key.k", "outputs.0.cbor"; a number is an index into an array.
 */
json_t *vectors_load(const char *name); /* the caller's: json_decref() */

/* The member, or NULL when it is not there. */
json_t *vectors_get(const json_t *object, const char *path);
bool vectors_has(const json_t *object, const char *path); /* there and not null */

/* A string in hexadecimal as bytes (buf_done()); null gives no bytes. */
struct buf vectors_bytes(const json_t *object, const char *path);
const char *vectors_text(const json_t *object, const char *path);
int64_t vectors_number(const json_t *object, const char *path);

/* The element of an array whose "name" is name. */
json_t *vectors_find(const json_t *array, const char *name);
