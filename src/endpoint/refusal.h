#pragma once

#include <stdint.h>

#include "domain/refusal.h"

/* How a refusal looks from outside. */
struct refusal_row {
        const char *name;  /* "unknown-client": in logs, metrics and tests */
        int ace_error;     /* RFC 9200 §5.8.3; 0: not an OAuth error, no payload over CoAP */
        uint8_t coap_code;
        unsigned http_status;
        const char *text;  /* error_description; says nothing about what exists (AS-022) */
};

/*
 * The row of a refusal; of -EBUSY and -ENOSPC the row of a service that is unavailable for a while; of any other number
 * that is none, the row of an internal error. Never NULL.
 */
const struct refusal_row *refusal_row(int refusal);
