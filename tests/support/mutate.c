#include "mutate.h"

#include <assert.h>

#include "base/cleanup.h"

struct judging {
        void (*judge)(struct bytes mutant, void *context);
        void *context;
};

/* The first size bytes of valid, with the byte at place (when it is inside) changed to value. */
static void try(const struct judging *judging, struct bytes valid, size_t size, size_t place, uint8_t value) {
        _cleanup_(freep) uint8_t *data = malloc(size > 0 ? size : 1);

        assert(data);
        memcpy(data, valid.data, size < valid.size ? size : valid.size);
        if (place < size)
                data[place] = value;
        judging->judge(bytes_of(data, size), judging->context);
}

void mutate(struct bytes valid, void (*judge)(struct bytes mutant, void *context), void *context) {
        const struct judging judging = { judge, context };

        for (size_t i = 0; i < valid.size; i++) {
                for (unsigned bit = 0; bit < 8; bit++)
                        try(&judging, valid, valid.size, i, (uint8_t)(valid.data[i] ^ 1u << bit));
                try(&judging, valid, valid.size, i, 0x00);
                try(&judging, valid, valid.size, i, 0xff);
                try(&judging, valid, i, i, 0);
        }
        try(&judging, valid, valid.size + 1, valid.size, 0x00);
}
