/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a report's text says of suppressed stacks. */
#ifndef LEAKWATCH_SRC_REPORT_TEXT_SUPPRESSED_H
#define LEAKWATCH_SRC_REPORT_TEXT_SUPPRESSED_H

#include "text_pen.h"

/* A line when there are any; a summary also lists the suppressions that were used, and those of
 * the user's files (with a verbose pen, all) that were not. */
void lw_text_print_suppressed(const struct lw_pen *pen, const struct lw_report *report);

#endif
