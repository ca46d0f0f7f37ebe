#include "base/secret.h"

#include <errno.h>

/* Copies go through vector registers and stay there: a look at an idle process finds them. Those go as well. */
#if defined(__has_attribute) && __has_attribute(zero_call_used_regs)
__attribute__((zero_call_used_regs("all")))
#endif
void wipe(void *data, size_t size) {
        if (size > 0)
                explicit_bzero(data, size);
}

int secret_set(struct secret *secret, struct bytes bytes) {
        if (bytes.size > SECRET_SIZE_MAX)
                return -EOVERFLOW;
        if (bytes.size > 0)
                memmove(secret->data, bytes.data, bytes.size); /* bytes may be a part of this very secret */
        wipe(secret->data + bytes.size, SECRET_SIZE_MAX - bytes.size);
        secret->size = bytes.size;
        return 0;
}

void secret_move(struct secret *to, struct secret *from) {
        if (to == from)
                return;
        *to = *from;
        secret_done(from);
}

void secret_done(struct secret *secret) {
        wipe(secret, sizeof(*secret));
}
