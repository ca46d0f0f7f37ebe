#pragma once

#include <stdint.h>

#define POP_KEY_SIZE 16 /* bytes of a symmetric PoP key: the AES_128 suites of RFC 9202 §3.3.2 */

struct aced;
struct buf;
struct grant;
struct response;
struct server;

/*
 * Make the token for a grant as its server, or what stands for its group audience (store_audience_find()), wants it:
 * draws nothing but the random part of an opaque one. grant's number, key_number and, with exi, exi are filled in, and
 * pop_key is, unless the server derives a new one (derives_key and new_key): then it is computed from the token and
 * filled in here (AS-104). Appends to *token (CWT_SIZE_MAX bytes are enough).
 *
 * Returns 0, or -ENOKEY when the server's registration lacks a key: then the response says which and how to make it.
 * -ENOMEM, -EIO, -EOVERFLOW.
 */
int protect_grant(struct aced *as, struct grant *grant, const struct server *server, int64_t now_s,
                  struct response *response, struct buf *token);
