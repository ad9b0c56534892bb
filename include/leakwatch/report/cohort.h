/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A cohort: the blocks that were allocated in a window of the watch, and what becomes of them. */
#ifndef LEAKWATCH_REPORT_COHORT_H
#define LEAKWATCH_REPORT_COHORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leakwatch/base/vector.h"
#include "leakwatch/model/snapshot.h"
#include "leakwatch/report/verdict.h"

struct lw_cohort_sum {
    uint64_t bytes, blocks;
};

/* The window and what was allocated in it; what is still live, each snapshot says. Its owner takes
 * the snapshots that cut time at both ends, and passes the cohort to the report builder. All zero:
 * there is none. */
struct lw_cohort {
    unsigned number; /* from 1; the first begins with the watch; 0: there is none */
    bool open;
    uint64_t window_ns;          /* the length that was asked for */
    uint64_t began_ns, ended_ns; /* since the attach; the second is valid once it is not open */
    uint64_t after_ns, until_ns; /* of the snapshot's request */
    /* what each stack had allocated, by id, when the window began and when it ended */
    LW_VECTOR(struct lw_cohort_sum) before, after;
    struct lw_growth drain; /* live bytes at the reports since the window ended */
};

void lw_cohort_deinit(struct lw_cohort *cohort);
/* The one that begins with the watch. */
void lw_cohort_init(struct lw_cohort *cohort, uint64_t window_ns);
/* Forgets the cohort, and begins the next at a snapshot that was asked for a cut. 0 or -ENOMEM
 * (then the old one goes on). */
int lw_cohort_renew(struct lw_cohort *cohort, const struct lw_snapshot *cut, uint64_t elapsed_ns);
/* Its window ends at such a snapshot. 0 or -ENOMEM (then it stays open). */
int lw_cohort_close(struct lw_cohort *cohort, const struct lw_snapshot *cut, uint64_t elapsed_ns);

struct lw_report_stack;

/* What a report says of a cohort. */
struct lw_report_cohort {
    const struct lw_cohort *cohort; /* NULL: there is none */
    struct lw_cohort_sum allocated; /* in the window, or so far */
    struct lw_cohort_sum live;      /* of these */
    uint64_t live_bytes_error;      /* as in the snapshot */
    /* those that hold what is live, the most bytes first: its own, cut to the top */
    struct lw_report_stack *stacks;
    size_t stack_count, stack_total;
    size_t suppressed; /* further ones, which are not to be listed */
};

#endif
