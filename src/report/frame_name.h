/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a frame is called where there is room for one name only. */
#ifndef LEAKWATCH_SRC_REPORT_FRAME_NAME_H
#define LEAKWATCH_SRC_REPORT_FRAME_NAME_H

#include "leakwatch/report/report.h"

/* The function; else module+0xoffset, or the bare address. Escaped; the caller frees it. NULL: out
 * of memory. */
char *lw_frame_name(const struct lw_report_frame *frame);

/* Stands at the outer end of a stack that could not be followed to its outermost frame. */
#define LW_TRUNCATED_NAME "[truncated]"

#endif
