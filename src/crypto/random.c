#include "crypto/random.h"

#include <errno.h>
#include <limits.h>

#include <openssl/err.h>
#include <openssl/rand.h>

int random_bytes(void *data, size_t size) {
        if (size > INT_MAX)
                return -EIO;
        if (RAND_bytes(data, (int)size) == 1)
                return 0;
        ERR_clear_error();
        return -EIO;
}
