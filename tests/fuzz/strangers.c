#include "strangers.h"

#include "base/cleanup.h"
#include "fuzz.h"

#define FACTOR 3
#define FIRST_PORT 100
#define PROBE_PORT 9
#define HOUR_US INT64_C(3600000000)

static struct address address_of(unsigned n) {
        return n == STRANGERS ? world_address(false, PROBE_PORT) : world_address(n % 2, FIRST_PORT + n);
}

/* Who has this address. */
static unsigned number_of(const struct address *address) {
        for (unsigned n = 0; n <= STRANGERS; n++) {
                struct address one = address_of(n);

                if (address_equal(address, &one))
                        return n;
        }
        MUST(!"said to somebody who never spoke");
}

void strangers_say(struct strangers *strangers, struct world *world, unsigned n, struct bytes datagram) {
        struct address from = address_of(n);

        if (n < STRANGERS)
                strangers->said[n] += datagram.size;
        world_input(world, DOOR_COAP, &from, fuzz_guarded(datagram));
}

bool strangers_hear(struct strangers *strangers, const struct datagram *datagram, const struct coap_message *message) {
        unsigned n = number_of(&datagram->remote);

        if (n == STRANGERS) {
                strangers->is_served = message->code == CODE_CONTENT && message->payload.size > 0;
                return false;
        }
        strangers->heard[n] += datagram->data.size;
        MUST(strangers->heard[n] <= FACTOR * strangers->said[n]);
        return true;
}

void strangers_probe(struct strangers *strangers, struct world *world, uint16_t mid,
                     void (*hear)(void *context, const struct datagram *datagram), void *context) {
        _cleanup_(buf_done) struct buf message = BUF_INIT(256);

        world_wait_us(world, HOUR_US);
        world_discover(mid, &message);
        strangers_say(strangers, world, STRANGERS, buf_bytes(&message));
        world_run(world);
        world_deliver(world, hear, context);
        MUST(strangers->is_served);
}
