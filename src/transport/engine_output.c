#include "transport/engine_private.h"

#include <errno.h>

#define OUTPUT_SIZE_MAX ((size_t)64 << 20)   /* bytes of datagrams in one round; more are dropped */
#define OUTPUT_SIZE_KEPT ((size_t)1 << 20)   /* of memory, from round to round */

static int output_grow(struct output *output) {
        size_t capacity = output->capacity ? output->capacity * 2 : 64;
        struct datagram *items;
        size_t *offsets;

        items = reallocarray(output->items, capacity, sizeof(*items));
        if (!items)
                return -ENOMEM;
        output->items = items;
        offsets = reallocarray(output->offsets, capacity, sizeof(*offsets));
        if (!offsets)
                return -ENOMEM;
        output->offsets = offsets;
        output->capacity = capacity;
        return 0;
}

void output_add(struct engine *engine, const struct datagram *datagram) {
        struct output *output = &engine->output;
        size_t offset = output->bytes.size;

        if ((output->n_items == output->capacity && output_grow(output) < 0) ||
            buf_add(&output->bytes, datagram->data) < 0) {
                engine->figures.n_datagrams_dropped++;
                return;
        }
        output->items[output->n_items] = *datagram;
        output->items[output->n_items].data = bytes_of(NULL, datagram->data.size);
        output->offsets[output->n_items++] = offset;
        engine->figures.n_datagrams_out++;
}

size_t engine_output(struct engine *engine, const struct datagram **ret) {
        struct output *output = &engine->output;

        for (size_t i = 0; i < output->n_items; i++)
                output->items[i].data.data = output->bytes.data + output->offsets[i];
        *ret = output->items;
        return output->n_items;
}

void output_done(struct output *output) {
        free(output->items);
        free(output->offsets);
        buf_done(&output->bytes);
        *output = (struct output){ .bytes = BUF_INIT(OUTPUT_SIZE_MAX) };
}

void engine_sent(struct engine *engine) {
        struct output *output = &engine->output;

        output->n_items = 0;
        buf_clear(&output->bytes);
        if (output->bytes.capacity > OUTPUT_SIZE_KEPT)
                output_done(output); /* a flood's worth is given back */
}
