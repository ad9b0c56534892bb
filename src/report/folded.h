/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names of a stack as folded stacks have them. */
#ifndef LEAKWATCH_SRC_REPORT_FOLDED_H
#define LEAKWATCH_SRC_REPORT_FOLDED_H

#include <stdio.h>

#include "leakwatch/report/report.h"

/* From the outermost to the innermost, parted by semicolons; 0 or -ENOMEM. */
int lw_folded_write_names(FILE *stream, const struct lw_report_stack *stack);

#endif
