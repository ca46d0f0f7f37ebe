#include "base/heap.h"

#include <errno.h>
#include <stdlib.h>

/* A timer's slot is its index plus one, so that a zeroed timer is one that is not armed. */
static void heap_put(struct heap *heap, size_t at, struct timer *timer) {
        heap->slots[at] = timer;
        timer->slot = at + 1;
}

static void heap_up(struct heap *heap, size_t at) {
        struct timer *timer = heap->slots[at];

        while (at > 0 && heap->slots[(at - 1) / 2]->due_us > timer->due_us) {
                heap_put(heap, at, heap->slots[(at - 1) / 2]);
                at = (at - 1) / 2;
        }
        heap_put(heap, at, timer);
}

static void heap_down(struct heap *heap, size_t at) {
        struct timer *timer = heap->slots[at];

        for (;;) {
                size_t child = 2 * at + 1;

                if (child + 1 < heap->n_slots && heap->slots[child + 1]->due_us < heap->slots[child]->due_us)
                        child++;
                if (child >= heap->n_slots || heap->slots[child]->due_us >= timer->due_us)
                        break;
                heap_put(heap, at, heap->slots[child]);
                at = child;
        }
        heap_put(heap, at, timer);
}

static int heap_grow(struct heap *heap) {
        size_t capacity = heap->capacity ? heap->capacity * 2 : 16;
        struct timer **slots = reallocarray(heap->slots, capacity, sizeof(*slots));

        if (!slots)
                return -ENOMEM;
        heap->slots = slots;
        heap->capacity = capacity;
        return 0;
}

int heap_set(struct heap *heap, struct timer *timer, int64_t due_us) {
        int r;

        if (timer->slot == 0) {
                if (heap->n_slots == heap->capacity && (r = heap_grow(heap)) < 0)
                        return r;
                heap_put(heap, heap->n_slots++, timer);
        }
        timer->due_us = due_us;
        heap_up(heap, timer->slot - 1);
        heap_down(heap, timer->slot - 1);
        return 0;
}

void heap_remove(struct heap *heap, struct timer *timer) {
        struct timer *last;
        size_t at;

        if (timer->slot == 0)
                return;
        at = timer->slot - 1;
        timer->slot = 0;
        last = heap->slots[--heap->n_slots];
        if (last == timer)
                return;
        heap_put(heap, at, last);
        heap_up(heap, at);
        heap_down(heap, last->slot - 1);
}

struct timer *heap_first(const struct heap *heap) {
        return heap->n_slots > 0 ? heap->slots[0] : NULL;
}

void heap_done(struct heap *heap) {
        for (size_t i = 0; i < heap->n_slots; i++)
                heap->slots[i]->slot = 0;
        free(heap->slots);
        *heap = (struct heap){};
}
