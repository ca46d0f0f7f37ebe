#pragma once

#include "transport/oscore.h"

struct store;

/* Contexts and numbers of the store's credentials. The store is asked outside a transaction. */
struct oscore_callbacks oscore_of_store(struct store *store);
