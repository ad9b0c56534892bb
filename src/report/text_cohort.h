/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A cohort, as text. */
#ifndef LEAKWATCH_SRC_REPORT_TEXT_COHORT_H
#define LEAKWATCH_SRC_REPORT_TEXT_COHORT_H

#include "leakwatch/report/report.h"
#include "text_pen.h"

/* In the head of a report; nothing where nothing is marked. */
void lw_text_cohort_totals(const struct lw_pen *pen, const struct lw_report *report);
/* Behind the stacks of a report. */
void lw_text_cohort_stacks(const struct lw_pen *pen, const struct lw_report *report);

#endif
