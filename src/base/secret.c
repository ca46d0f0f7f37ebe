#include "base/secret.h"

#include <errno.h>

/*
 * Copies go through vector registers and stay there: a look at an idle process finds them. So those go as well, among
 * them the ones that only the C library's copying uses, where the processor has them.
 */
#if __has_attribute(zero_call_used_regs)
#define FORGETS_REGISTERS __attribute__((zero_call_used_regs("all")))
#else
#define FORGETS_REGISTERS
#endif

#if defined(__x86_64__) && __has_attribute(zero_call_used_regs)
__attribute__((noinline, target("avx512f,avx512vl"))) FORGETS_REGISTERS static void forget_wide_registers(void) {
        __asm__ volatile("");
}

static void forget_more_registers(void) {
        if (__builtin_cpu_supports("avx512vl"))
                forget_wide_registers();
}
#else
static void forget_more_registers(void) {
}
#endif

FORGETS_REGISTERS void wipe(void *data, size_t size) {
        if (size > 0)
                explicit_bzero(data, size);
        forget_more_registers();
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
