/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When blocks are marked (--mark), and what the watch is asked for that. */
#ifndef LEAKWATCH_SRC_APP_MARK_H
#define LEAKWATCH_SRC_APP_MARK_H

#include "leakwatch/app/watch.h"
#include "leakwatch/report/cohort.h"

/* All zero: nothing is to be marked. */
struct lw_mark {
    uint64_t due_ns; /* lw_clock_now when the window is to end; LW_NEVER: none is open */
    struct lw_snapshot_request request; /* what every snapshot is to tell */
    struct lw_cohort cohort;
};

/* Before the watch begins: the first window is open from then on (window_ns 0: none is), and due
 * once that has begun. */
void lw_mark_init(struct lw_mark *mark, uint64_t window_ns, bool with_blocks);
void lw_mark_deinit(struct lw_mark *mark);
bool lw_mark_is_wanted(const struct lw_mark *mark);

void lw_mark_begin(struct lw_mark *mark, uint64_t armed_ns);
/* Ends the window that is due; begins a new one now. Neither does anything where the target has
 * just ended. NULL unless memory has run out. */
lw_error *lw_mark_end(struct lw_mark *mark, struct lw_watch *watch, uint64_t armed_ns);
lw_error *lw_mark_renew(struct lw_mark *mark, struct lw_watch *watch, uint64_t armed_ns);

#endif
