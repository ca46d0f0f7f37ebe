#pragma once

#include "base/buf.h"

/* Bytes as unit tests write them: in hexadecimal or as CBOR diagnostic notation. What is written wrongly fails. */
#define SIZE_MAX_TEST 4096

/* data gets the bytes, which the result borrows. */
struct bytes from_hex(const char *hex, uint8_t data[static SIZE_MAX_TEST]);
void assert_hex(struct bytes bytes, const char *hex);

/* To be freed by buf_done(). edn.h says what the notation is. */
struct buf from_edn(const char *text);
