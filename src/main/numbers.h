#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "domain/oscore.h"

/*
 * A device's Sender Sequence Numbers (RFC 8613 §7.5): one must never protect two messages, whatever happens to the
 * process or the machine. Which ones are free stands in a file beside the device's record, FILE.state. They are taken
 * from there in blocks: the file says that a block is taken, and is on disk, before its first number is used; what is
 * left of it when the process ends is never used.
 *
 * The numbers go up for as long as there is the file, whichever record stands in FILE: one row of numbers is enough for
 * any number of contexts. The file also has the ID Context since the last renewal (Appendix B.2), with a digest of the
 * record that it belongs to.
 *
 * The file is replaced as a whole, under a lock on its directory; so processes at the same time get different blocks.
 */
#define NUMBERS_BLOCK_MAX (UINT64_C(1) << 24)
#define NUMBERS_DIGEST_SIZE 32
#define NUMBERS_END (UINT64_C(1) << 40) /* OSCORE has no numbers from here on */

struct numbers {
        char *directory, *name;       /* of FILE, symbolic links followed; the state is name.state */
        uint64_t block;               /* how many to take next: twice as many each time */
        uint64_t first, end;          /* taken: [first, end) */
        char fault[320];              /* why there are none, for people */
};

/* The ID Context that is in force since a renewal. */
struct renewed {
        bool there;
        size_t size;
        uint8_t id_context[OSCORE_ID_CONTEXT_SIZE_MAX];
};

#define NUMBERS_INIT ((struct numbers){})

/*
 * For what stands in file, which is there. block: how many numbers are taken at first. 0; -EIO with numbers->fault;
 * -ENOMEM. numbers_done() whatever comes.
 */
int numbers_open(struct numbers *numbers, const char *file, uint64_t block);
void numbers_done(struct numbers *numbers);

/*
 * Take the next block: numbers->first and end are new, all below first are not to be used any more. 0; -EIO with
 * numbers->fault: the file cannot be read or written, or is damaged, or there are none left.
 */
int numbers_take(struct numbers *numbers);

/*
 * What the file says of the record with this digest; there is none: ret->there is false. Results as
 * numbers_take().
 */
int numbers_renewed(struct numbers *numbers, const uint8_t digest[static NUMBERS_DIGEST_SIZE], struct renewed *ret);
/* Say so. */
int numbers_renew(struct numbers *numbers, const uint8_t digest[static NUMBERS_DIGEST_SIZE],
                  const struct renewed *renewed);
