/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The histories of all stacks, from which their verdicts come. */
#ifndef LEAKWATCH_SRC_REPORT_GROWTH_H
#define LEAKWATCH_SRC_REPORT_GROWTH_H

#include "leakwatch/report/report.h"

/* Some 300 bytes for each stack that has ever had an expired block, however long the watch. All
 * zero is a valid, empty table. */
struct lw_growth_table {
    struct lw_growth **by_id; /* NULL: nothing has expired yet */
    size_t capacity;
};

void lw_growth_table_deinit(struct lw_growth_table *table);

/* Adds what the stacks of a report have; of a summary nothing, since it changes nothing. 0 or
 * -ENOMEM. */
int lw_growth_table_note(struct lw_growth_table *table, const struct lw_snapshot *snapshot,
                         const struct lw_report_context *context);

/* Of a stack of the report that was noted last, or of a summary. */
struct lw_verdict lw_growth_table_judge(const struct lw_growth_table *table,
                                        const struct lw_snapshot_stack *facts, uint64_t expire_ns,
                                        const struct lw_report_context *context);

#endif
