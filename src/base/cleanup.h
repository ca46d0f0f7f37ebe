#pragma once

#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

/* Hand over ownership: the value of p, which becomes NULL. */
#define TAKE_PTR(p)                     \
        ({                              \
                typeof(p) _taken = (p); \
                (p) = NULL;             \
                _taken;                 \
        })

/* Hand over a file descriptor: the value of fd, which becomes -1. */
#define TAKE_FD(fd)              \
        ({                       \
                int _taken = (fd); \
                (fd) = -1;       \
                _taken;          \
        })

/* t_freep(): the cleanup form of t_free(), for a variable that holds a pointer. */
#define DEFINE_FREEP(type, func)                  \
        static inline void func##p(type **p) {    \
                func(*p);                         \
                *p = NULL;                        \
        }

static inline void freep(void *p) {
        free(*(void **)p);
}

static inline void closep(int *fd) {
        if (*fd >= 0)
                close(*fd);
        *fd = -1;
}

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
