#include "domain/steady.h"

#define SECOND_US INT64_C(1000000)

static void go_on_from(struct steady *steady, int64_t believed_s, int64_t monotonic_us) {
        *steady = (struct steady){ .believed_s = believed_s, .at_us = monotonic_us, .ahead_since_us = -1 };
}

void steady_init(struct steady *steady, int64_t known_s, int64_t wall_s, int64_t monotonic_us) {
        int64_t gap_s = wall_s - known_s;

        go_on_from(steady, known_s == 0 || (gap_s >= 0 && gap_s <= STEADY_GAP_S) ? wall_s : known_s, monotonic_us);
        (void)steady_look(steady, wall_s, monotonic_us);
}

static bool agree(int64_t a_s, int64_t b_s) {
        return a_s - b_s <= STEADY_TOLERANCE_S && b_s - a_s <= STEADY_TOLERANCE_S;
}

/* An hour at one distance; another jump in between begins it anew. */
static bool has_held(struct steady *steady, int64_t ahead_s, int64_t monotonic_us) {
        if (steady->ahead_since_us < 0 || !agree(ahead_s, steady->ahead_s)) {
                steady->ahead_since_us = monotonic_us;
                steady->ahead_s = ahead_s;
        }
        return monotonic_us - steady->ahead_since_us >= STEADY_HOLD_S * SECOND_US;
}

int64_t steady_look(struct steady *steady, int64_t wall_s, int64_t monotonic_us) {
        int64_t passed_s = (monotonic_us - steady->at_us) / SECOND_US;

        steady->believed_s += passed_s;
        steady->at_us += passed_s * SECOND_US;
        steady->is_behind = false;
        if (agree(wall_s, steady->believed_s) ||
            (wall_s > steady->believed_s && has_held(steady, wall_s - steady->believed_s, monotonic_us))) {
                go_on_from(steady, wall_s, monotonic_us);
        } else if (wall_s < steady->believed_s) {
                steady->ahead_since_us = -1;
                steady->is_behind = true;
        }
        return steady->believed_s;
}

void steady_accept(struct steady *steady, int64_t wall_s, int64_t monotonic_us) {
        if (steady->is_behind)
                go_on_from(steady, wall_s, monotonic_us);
}
