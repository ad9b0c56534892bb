/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a stack's figures over the watch so far say about it: a leak, a cache, ..., and why. */
#ifndef LEAKWATCH_REPORT_VERDICT_H
#define LEAKWATCH_REPORT_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leakwatch/model/snapshot.h"

/* Pure: nothing here reads a clock or knows the process. Bytes are always those of expired blocks.
 */

/* Of a long history every second, fourth, ... report is kept. */
#define LW_GROWTH_POINTS 16

struct lw_growth_point {
    uint64_t bytes;
    float seconds; /* since the attach */
    float error;   /* standard error of `bytes`; 0: exact */
};

/* The expired bytes of one stack at the reports since the first that had any. The last point is
 * always that of the latest report: one that is not to stay is written over by the next. All zero
 * is a valid, empty history. */
struct lw_growth {
    struct lw_growth_point points[LW_GROWTH_POINTS];
    uint32_t count;
    uint32_t stride, skipped; /* of so many reports one stays (0 as 1); since the last that did */
};

void lw_growth_add(struct lw_growth *growth, struct lw_growth_point point);

enum lw_verdict_kind {
    /* not enough to go by: too few reports, or too few samples */
    LW_VERDICT_UNCLEAR,
    /* grows steadily, and what has expired is not freed any more (one in a hundred at most) */
    LW_VERDICT_LEAK,
    /* grows, but not steadily, or a part of what has expired is freed, or may have been since it
     * was folded */
    LW_VERDICT_GROWING,
    /* has not grown over the later half of its time */
    LW_VERDICT_CACHE,
    /* all blocks are freed within some time that is longer than the threshold; or what there was is
     * being given back */
    LW_VERDICT_SLOW,
};

struct lw_verdict {
    enum lw_verdict_kind kind;
    /* From one point of the history to the next: steps, and those by which the bytes grew; of all
     * of them or, with `recent`, of the later half alone. Each is of `stride` reports. */
    unsigned steps, grew, stride;
    bool recent;
    int64_t change_bytes;  /* over these steps */
    bool has_growth;       /* the history is a second long at least */
    int64_t growth_minute; /* bytes a minute, over the later half of it */
    /* LW_VERDICT_SLOW: no block lived longer, and the threshold at which the stack would vanish; 0:
     * that does not follow from what was seen */
    uint64_t longest_ns, suggested_ns;
};

/* `growth` holds a point for the snapshot that `facts` are of; NULL: nothing has ever expired. */
struct lw_verdict lw_verdict_judge(const struct lw_growth *growth,
                                   const struct lw_snapshot_stack *facts, uint64_t expire_ns);

/* "leak" and so on. */
const char *lw_verdict_name(enum lw_verdict_kind kind);

#define LW_REASON_MAX 160
/* The figures that the verdict rests on, as in "grew in 7 of 7 reports; none of 20,803 blocks was
 * freed". Returns `buffer`. */
const char *lw_verdict_reason(const struct lw_verdict *verdict,
                              const struct lw_snapshot_stack *facts, uint64_t expire_ns,
                              char buffer[LW_REASON_MAX]);

/* The threshold as --expire takes it: "650ms", "1.5s", "45s", "5m". Returns `buffer`. */
#define LW_THRESHOLD_MAX 24
const char *lw_verdict_threshold(uint64_t ns, char buffer[LW_THRESHOLD_MAX]);

#endif
