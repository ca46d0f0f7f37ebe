#pragma once

#include "base/bytes.h"

/* Sizes in bytes without the final zero. */
#define NAME_SIZE_MAX 64      /* clients, resource servers, labels */
#define AUDIENCE_SIZE_MAX 128
#define IDENTITY_SIZE_MAX 128 /* PSK identities: any bytes */

/* Names of clients, resource servers and labels: 1 to 64 of A-Z a-z 0-9 . _ : @ + - not starting with '-' or '.'. */
bool name_is_valid(struct bytes name);
/* Audiences: 1 to 128 printable ASCII characters but space, '"' and '\' (URIs fit). */
bool audience_is_valid(struct bytes audience);
