/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The last report: how the watch ended, and how the target was left. */
#ifndef LEAKWATCH_APP_END_REPORT_H
#define LEAKWATCH_APP_END_REPORT_H

#include "leakwatch/app/watch.h"
#include "leakwatch/report/report.h"

/* How the target ended; false where it has not. */
bool lw_end_report_make(pid_t pid, const struct lw_watch_result *result, struct lw_report_end *end);
/* Of a target that runs on. */
struct lw_report_detach lw_detach_report_make(pid_t pid, const struct lw_watch_result *result);
/* Is the target, if it is still there, as it was? */
bool lw_detach_report_is_good(const struct lw_report_detach *detach);

#endif
