#include "base/siphash.h"

#include <endian.h>
#include <string.h>

struct state {
        uint64_t v0, v1, v2, v3;
};

static uint64_t rotate(uint64_t word, unsigned bits) {
        return word << bits | word >> (64 - bits);
}

static uint64_t little_endian(const uint8_t *data) {
        uint64_t word;

        memcpy(&word, data, sizeof(word));
        return le64toh(word);
}

/* What is left at the end, less than a word, below its size. */
static uint64_t last_word(struct bytes data, size_t whole) {
        uint64_t word = (uint64_t)data.size << 56;

        for (size_t i = 0; i < data.size - whole; i++)
                word |= (uint64_t)data.data[whole + i] << (8 * i);
        return word;
}

static void rounds(struct state *s, unsigned n) {
        while (n-- > 0) {
                s->v0 += s->v1;
                s->v2 += s->v3;
                s->v1 = rotate(s->v1, 13) ^ s->v0;
                s->v3 = rotate(s->v3, 16) ^ s->v2;
                s->v0 = rotate(s->v0, 32);
                s->v2 += s->v1;
                s->v0 += s->v3;
                s->v1 = rotate(s->v1, 17) ^ s->v2;
                s->v3 = rotate(s->v3, 21) ^ s->v0;
                s->v2 = rotate(s->v2, 32);
        }
}

static void compress(struct state *s, uint64_t word) {
        s->v3 ^= word;
        rounds(s, 2);
        s->v0 ^= word;
}

uint64_t siphash(const uint8_t key[static SIPHASH_KEY_SIZE], struct bytes data) {
        uint64_t k0 = little_endian(key), k1 = little_endian(key + 8);
        struct state s = { k0 ^ UINT64_C(0x736f6d6570736575), k1 ^ UINT64_C(0x646f72616e646f6d),
                           k0 ^ UINT64_C(0x6c7967656e657261), k1 ^ UINT64_C(0x7465646279746573) };
        size_t whole = data.size - data.size % 8;

        for (size_t at = 0; at < whole; at += 8)
                compress(&s, little_endian(data.data + at));
        compress(&s, last_word(data, whole));
        s.v2 ^= 0xff;
        rounds(&s, 4);
        return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
