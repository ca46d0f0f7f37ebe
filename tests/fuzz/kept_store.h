#pragma once

#include "store/store.h"

/*
 * A store in memory that is as it was when it was kept, as often as wanted: the database, and what struct store knows
 * of it, numbers leased included. To make and fill one takes longer than nearly all that is done to it.
 */
struct kept_store;

/* Takes the store over, as it is now: in memory, and in no transaction. */
struct kept_store *kept_store_new(struct store *store);

/* The store as it was then. Nothing may hold on to it: no transaction, no list being walked. */
struct store *kept_store_again(struct kept_store *kept);
