/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a report says of a cohort: its sums and its stacks. */
#ifndef LEAKWATCH_SRC_REPORT_COHORT_H
#define LEAKWATCH_SRC_REPORT_COHORT_H

#include "leakwatch/report/report.h"
#include "suppressor.h"

/* Fills report->cohort from the context's, when the report says which suppressions there are.
 * Stacks have no frames yet. 0 or -ENOMEM. */
int lw_cohort_tell(struct lw_report *report, const struct lw_snapshot *snapshot,
                   struct lw_suppressor *suppressor, size_t top);
void lw_report_cohort_deinit(struct lw_report_cohort *cohort);

#endif
