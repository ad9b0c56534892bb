/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keeps suppressed stacks out of a watch's reports, and counts what it has kept out. */
#ifndef LEAKWATCH_SRC_REPORT_SUPPRESSOR_H
#define LEAKWATCH_SRC_REPORT_SUPPRESSOR_H

#include "leakwatch/base/map.h"
#include "leakwatch/base/vector.h"
#include "leakwatch/report/report.h"

/* What was found out about frames and stacks; all zero but the first three is a new one. The set
 * may be NULL (nothing is suppressed), and the symbolizer and the modules in tests. */
struct lw_suppressor {
    const struct lw_suppressions *set;
    struct lw_symbolizer *symbolizer;
    struct lw_module_table *modules;

    struct lw_map marks;                /* symbol or module -> its words */
    LW_VECTOR(uint32_t) verdicts;       /* by stack id: 0 not looked at yet, 1 none, 2 + index */
    LW_VECTOR(const uint64_t *) frames; /* of the stack that is being looked at */
    size_t operator_new;                /* as in lw_marked_stack */
    uint64_t *joined;                   /* room for the search */
};
void lw_suppressor_deinit(struct lw_suppressor *suppressor);

/* Before the first stack of a report: what it says of suppressions. 0 or -ENOMEM. */
int lw_suppressor_begin(const struct lw_suppressor *suppressor, struct lw_report *report);
/* Whether the stack is suppressed: 1, 0 or -ENOMEM. */
int lw_suppressor_knows(struct lw_suppressor *suppressor, const struct lw_snapshot_stack *facts,
                        const struct lw_report *report);
/* 1: the stack is suppressed, and counted in the report; as one that would have been listed if
 * `listed`. 0: it is not. -ENOMEM. */
int lw_suppressor_hides(struct lw_suppressor *suppressor, const struct lw_snapshot_stack *facts,
                        bool listed, struct lw_report *report);

#endif
