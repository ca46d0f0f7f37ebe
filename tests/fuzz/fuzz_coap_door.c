/*
 * The coap door: datagrams from some addresses, and time. Nobody is told more than three times what he said, and
 * somebody else is served as if nothing had been.
 *
 * A step is a byte: address (2 bits), batch afterwards, 16-bit length, - , time (3 bits); a length; the datagram.
 */
#include "fuzz.h"
#include "strangers.h"
#include "world.h"

#define STEPS_MAX 256

struct scene {
        struct world world;
        struct strangers strangers;
};

static void hear(void *context, const struct datagram *datagram) {
        struct scene *scene = context;
        struct coap_message message;

        world_must_be_answer(datagram->data, &message);
        if (strangers_hear(&scene->strangers, datagram, &message))
                MUST(message.code == CODE_EMPTY || message.code == CODE_CONTENT || message.code >> 5 > 2);
}

static void step(struct scene *scene, struct bytes *in) {
        uint8_t control = fuzz_take_byte(in);
        struct bytes datagram = fuzz_take(in, control & 8 ? fuzz_take_u16(in) : fuzz_take_byte(in));

        world_wait(&scene->world, control >> 5);
        strangers_say(&scene->strangers, &scene->world, control % STRANGERS, datagram);
        if (control & 4)
                world_run(&scene->world);
        world_deliver(&scene->world, hear, scene);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes in = bytes_of(data, size);
        struct scene scene = {};

        world_open(&scene.world);
        for (unsigned i = 0; i < STEPS_MAX && in.size > 0; i++)
                step(&scene, &in);
        world_run(&scene.world);
        world_deliver(&scene.world, hear, &scene);
        strangers_probe(&scene.strangers, &scene.world, 1, hear, &scene);
        world_close(&scene.world);
        return 0;
}
