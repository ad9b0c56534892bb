/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The outer frames that stacks of one report have in common. */
#ifndef LEAKWATCH_SRC_REPORT_OUTER_FRAMES_H
#define LEAKWATCH_SRC_REPORT_OUTER_FRAMES_H

#include "leakwatch/base/map.h"
#include "leakwatch/report/report.h"

/* Which stacks have been shown to their end, by each of the ends. All zero: none. */
struct lw_outer_frames {
    struct lw_map ends; /* hash of the outermost frames -> stack's index in the report */
};

void lw_outer_frames_deinit(struct lw_outer_frames *outer);

/*
 * How many of the outermost frames of stacks[index] need not be shown, because they are in an
 * earlier stack of the report that was shown in full: stacks[*as]. frames[own] and two of its
 * callers are none of them. So few that it would not shorten the stack much are none either: 0, and
 * this stack is then one that is shown in full. To be asked for each stack, in their order. Without
 * memory, less is found.
 */
size_t lw_outer_frames_shared(struct lw_outer_frames *outer, const struct lw_report *report,
                              size_t index, size_t own, size_t *as);

#endif
