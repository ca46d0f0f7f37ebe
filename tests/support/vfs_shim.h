#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * A disk for SQLite, in memory, that loses power or breaks when told. It is the default VFS while it is registered.
 * What was written and not synced may be lost, wholly or by sectors of 512 bytes, in any combination; a sync that fails
 * loses what it was for even if a later one succeeds.
 */
enum disk_trouble {
        DISK_FINE,
        DISK_CUT,        /* from that operation on there is no power: everything fails until disk_reboot() */
        DISK_ERROR_ONCE, /* that operation fails with an I/O error, maybe half-done */
        DISK_ERROR,      /* that one and all behind it */
        DISK_FULL,       /* from there on nothing that needs room works */
};

void disk_register(void);
void disk_unregister(void);

/* An empty disk. The seed decides what a power cut takes. */
void disk_reset(uint64_t seed);

/*
 * The n-th operation from now (1: the next) meets the trouble. Operations are writes, syncs, truncations, removals, and
 * the making of shared memory.
 */
void disk_arm(enum disk_trouble trouble, unsigned n);
/* No trouble any more. Did any come? */
bool disk_heal(void);

/* Power is back: memory and what the cut took are gone. Only with no file open. */
void disk_reboot(void);

/* Remember the disk as it is, and go back to that. Only with no file open. */
void disk_keep(void);
void disk_return(uint64_t seed);
