#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "domain/name.h"

/* ACE profiles by their registered numbers (RFC 9202 §9, RFC 9203 §9.1, RFC 9431 §7.3); 0 is none of them. */
enum { PROFILE_COAP_DTLS = 1, PROFILE_COAP_OSCORE = 2, PROFILE_MQTT_TLS = 3 };

/* A set of them: bit n stands for profile n. */
typedef uint32_t profile_set;
#define PROFILE_BIT(profile) (UINT32_C(1) << (profile))

/* Who asks for tokens. */
struct client {
        int64_t id; /* 0: nobody */
        char name[NAME_SIZE_MAX + 1];
        bool suspended;
        profile_set profiles;
        char default_audience[AUDIENCE_SIZE_MAX + 1]; /* "" none */
        int64_t max_lifetime_s;     /* of its tokens; 0: no own maximum */
        int64_t tokens_max;         /* live ones; 0: the configured maximum */
        int64_t refresh_lifetime_s; /* of its refresh tokens; 0: it gets none */
        bool may_introspect;        /* its own tokens (RFC 9200 §5.9) */
        int64_t created_s;
};
