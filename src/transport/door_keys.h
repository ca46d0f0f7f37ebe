#pragma once

#include <stdbool.h>
#include <stdint.h>

struct dtls;
struct store;

/* Which of the store's keys the DTLS door has been given. Starts as {}. */
struct door_keys {
        bool known;
        uint64_t generation;
        int64_t from_s, until_s; /* as long as the wall clock stands in between, nothing comes into force */
};

/*
 * Give the door the keys that are in force at now_s, if others may be than it has. Costs nothing when not. When
 * something breaks the door keeps what it has, and the next second tries again.
 */
void door_keys_refresh(struct door_keys *door, struct store *store, struct dtls *dtls, int64_t now_s);
