/*
 * The coap door: datagrams from some addresses, and time. Nobody is told more than three times what he said, and
 * somebody else is served as if nothing had been.
 *
 * A step is a byte: address (2 bits), batch afterwards, 16-bit length, - , time (3 bits); a length; the datagram.
 */
#include "base/cleanup.h"
#include "fuzz.h"
#include "world.h"

#define ADDRESSES 4
#define STEPS_MAX 256
#define FACTOR 3
#define PROBE_PORT 9

struct scene {
        struct world world;
        size_t said[ADDRESSES], heard[ADDRESSES];
        bool is_served; /* the probe */
};

static struct address address_of(unsigned n) {
        return world_address(n % 2, 100 + n);
}

static void hear(void *context, const struct datagram *datagram) {
        struct address probe = world_address(false, PROBE_PORT);
        struct scene *scene = context;
        struct coap_message message;
        unsigned n = 0;

        world_must_be_answer(datagram->data, &message);
        if (address_equal(&datagram->remote, &probe)) {
                scene->is_served = message.code == CODE_CONTENT && message.payload.size > 0;
                return;
        }
        MUST(message.code == CODE_EMPTY || message.code == CODE_CONTENT || message.code >> 5 > 2);
        while (n < ADDRESSES) {
                struct address address = address_of(n);

                if (address_equal(&datagram->remote, &address))
                        break;
                n++;
        }
        MUST(n < ADDRESSES);
        scene->heard[n] += datagram->data.size;
        MUST(scene->heard[n] <= FACTOR * scene->said[n]);
}

static void step(struct scene *scene, struct bytes *in) {
        uint8_t control = fuzz_take_byte(in);
        struct address from = address_of(control % ADDRESSES);
        struct bytes datagram = fuzz_take(in, control & 8 ? fuzz_take_u16(in) : fuzz_take_byte(in));

        world_wait(&scene->world, control >> 5);
        scene->said[control % ADDRESSES] += datagram.size;
        world_input(&scene->world, DOOR_COAP, &from, fuzz_guarded(datagram));
        if (control & 4)
                world_run(&scene->world);
        world_deliver(&scene->world, hear, scene);
}

static void probe(struct scene *scene) {
        _cleanup_(buf_done) struct buf message = BUF_INIT(256);
        struct address from = world_address(false, PROBE_PORT);

        world_wait_us(&scene->world, INT64_C(3600000000));
        world_discover(1, &message);
        world_input(&scene->world, DOOR_COAP, &from, buf_bytes(&message));
        world_run(&scene->world);
        world_deliver(&scene->world, hear, scene);
        MUST(scene->is_served);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct bytes in = bytes_of(data, size);
        struct scene scene = {};

        world_open(&scene.world);
        for (unsigned i = 0; i < STEPS_MAX && in.size > 0; i++)
                step(&scene, &in);
        world_run(&scene.world);
        world_deliver(&scene.world, hear, &scene);
        probe(&scene);
        world_close(&scene.world);
        return 0;
}
