#pragma once

#include "base/bytes.h"

#define SIPHASH_KEY_SIZE 16

/* SipHash-2-4: for hash tables whose keys a peer chooses. The key is random and never leaves the process. */
uint64_t siphash(const uint8_t key[static SIPHASH_KEY_SIZE], struct bytes data);
