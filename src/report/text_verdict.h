/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verdict on a stack, as text. */
#ifndef LEAKWATCH_SRC_REPORT_TEXT_VERDICT_H
#define LEAKWATCH_SRC_REPORT_TEXT_VERDICT_H

#include "leakwatch/report/report.h"
#include "text_pen.h"

/* A line: "    leak: grew in 7 of 7 reports; none of 20,803 blocks was freed" */
void lw_text_verdict(const struct lw_pen *pen, const struct lw_report *report,
                     const struct lw_report_stack *stack);
/* ", +1.29 MiB a minute"; nothing where too little is known. */
void lw_text_growth(const struct lw_pen *pen, const struct lw_report_stack *stack);

#endif
