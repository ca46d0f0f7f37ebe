#pragma once

/*
 * uthash as we use it: memory that runs out is told and not fatal, and a table begins with 512 buckets (8 KiB) in place
 * of 32, in which a hundred or two hundred entries stand two to six behind each other, each a miss of the processor's
 * cache on the way. When there are more it grows as uthash does, when ten come to stand in one bucket: sooner would
 * cost memory with every doubling, of which a table gives nothing back until it is empty. Keys that strangers choose
 * are hashed with a key of ours (base/siphash.h) and go through the _BYHASHVALUE forms.
 */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#undef HASH_INITIAL_NUM_BUCKETS
#undef HASH_INITIAL_NUM_BUCKETS_LOG2
#define HASH_INITIAL_NUM_BUCKETS 512U
#define HASH_INITIAL_NUM_BUCKETS_LOG2 9U
