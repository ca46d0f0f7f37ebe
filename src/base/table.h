#pragma once

/*
 * uthash as we use it: memory that runs out is told and not fatal, and chains are short. As it comes it begins with 32
 * buckets and lets ten entries stand in one before it makes more, so that finding one of a hundred walks over several
 * others, each of them a miss of the processor's cache. A table here has 8 KiB when it is made, and up to 64 B an
 * entry when there are very many. Keys that strangers choose are hashed with a key of ours (base/siphash.h) and go
 * through the _BYHASHVALUE forms.
 */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#undef HASH_INITIAL_NUM_BUCKETS
#undef HASH_INITIAL_NUM_BUCKETS_LOG2
#undef HASH_BKT_CAPACITY_THRESH
#define HASH_INITIAL_NUM_BUCKETS 512U
#define HASH_INITIAL_NUM_BUCKETS_LOG2 9U
#define HASH_BKT_CAPACITY_THRESH 6U
