/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What keeps two reports from being compared, in words. */
#ifndef LEAKWATCH_SRC_REPORT_DIFF_NOTES_H
#define LEAKWATCH_SRC_REPORT_DIFF_NOTES_H

#include "leakwatch/report/diff.h"

/* Fills in the notes of a comparison whose sides and options are set; 0 or -ENOMEM. */
int lw_diff_note(struct lw_diff *diff);

#endif
