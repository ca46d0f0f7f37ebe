#pragma once

#include <stdint.h>

/* The moment of a call into a transport. */
struct engine_time {
        int64_t monotonic_us;
        int64_t wall_s;
};
