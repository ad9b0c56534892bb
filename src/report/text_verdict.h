/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verdict on a stack, as text. */
#ifndef LEAKWATCH_SRC_REPORT_TEXT_VERDICT_H
#define LEAKWATCH_SRC_REPORT_TEXT_VERDICT_H

#include "leakwatch/report/report.h"
#include "text_pen.h"

/* The rest of the headline, and a line of its own:
 * ", +1.29 MiB a minute, +176 KiB since the last report" (what of it is known)
 * "    leak: grew in 7 of 7 reports; none of 20,803 blocks was freed" */
void lw_text_verdict(const struct lw_pen *pen, const struct lw_report *report,
                     const struct lw_report_stack *stack);

#endif
