#include "fake.h"

#include <errno.h>

#include "base/clock.h"
#include "crypto/random.h"

static int64_t wall_s = 1700000000, monotonic_us = 1000000;
static uint64_t state = 1;
static unsigned fail_at;

void fake_clock_set(int64_t wall, int64_t monotonic) {
        wall_s = wall;
        monotonic_us = monotonic;
}

void fake_clock_advance_us(int64_t us) {
        int64_t before_s = monotonic_us / 1000000;

        monotonic_us += us;
        wall_s += monotonic_us / 1000000 - before_s;
}

int64_t clock_wall_s(void) {
        return wall_s;
}

int64_t clock_monotonic_us(void) {
        return monotonic_us;
}

void fake_random_seed(uint64_t seed) {
        state = seed;
}

void fake_random_fail_at(unsigned n) {
        fail_at = n;
}

/* splitmix64: good enough to be different every time, and the same in every run */
static uint64_t next(void) {
        uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

int random_bytes(void *data, size_t size) {
        uint8_t *at = data;

        if (fail_at == 1)
                return -EIO;
        if (fail_at > 1)
                fail_at--;
        while (size-- > 0)
                *at++ = (uint8_t)next();
        return 0;
}
