#pragma once

#include "base/bytes.h"

/* Days of the week and hours of the day as people write them: "mon-fri,sun", "08:00-18:00". UTC. */

#define DAYS_ALL 0x7fu
#define DAYS_TEXT_SIZE 32
#define HOURS_TEXT_SIZE 12

/* Bit 0 Monday … bit 6 Sunday. A range may go over Sunday: "fri-mon". 0, -EINVAL. */
int days_parse(struct bytes text, unsigned *ret);
/* "" for none and for all. */
void days_print(unsigned days, char text[static DAYS_TEXT_SIZE]);

/*
 * Seconds of the day. "22:00-06:00" goes over midnight; 24:00 may stand at the end; all of the day, "00:00-24:00",
 * gives 0 and 0. 0, -EINVAL, also for a window of no length.
 */
int hours_parse(struct bytes text, int64_t *ret_from_s, int64_t *ret_until_s);
/* "" for 0 and 0. */
void hours_print(int64_t from_s, int64_t until_s, char text[static HOURS_TEXT_SIZE]);
