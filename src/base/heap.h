#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * Deadlines in order: a binary heap of nodes embedded in their owners. O(log n) set and remove, O(1) earliest. The
 * heap holds pointers; the owner removes its node before it goes.
 */
struct timer {
        int64_t due_us; /* monotonic */
        size_t slot;    /* 0: not armed; owned by heap.c */
};

struct heap {
        struct timer **slots;
        size_t n_slots;
        size_t capacity;
};

/* Arm, or move when armed. Returns 0 or -ENOMEM (then not armed, or armed as before). */
int heap_set(struct heap *heap, struct timer *timer, int64_t due_us);
void heap_remove(struct heap *heap, struct timer *timer);
/* The earliest, or NULL. */
struct timer *heap_first(const struct heap *heap);
void heap_done(struct heap *heap);

#define timer_owner(timer, type, member) ((type *)((char *)(timer) - offsetof(type, member)))
