/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The frames of a report by name: function, file and line, module. */
#ifndef LEAKWATCH_SRC_REPORT_NAMING_H
#define LEAKWATCH_SRC_REPORT_NAMING_H

#include "leakwatch/report/progress.h"
#include "leakwatch/report/report.h"

/* Reads the debug information of all modules that the snapshot's stacks behind the one with the id
 * `after` are in, and tells which. `progress` may be NULL. 0 or -ENOMEM. */
int lw_report_read_modules(const struct lw_snapshot *snapshot, uint32_t after,
                           struct lw_symbolizer *symbolizer, struct lw_module_table *modules,
                           struct lw_progress *progress);

/* Fills in the frames of all of the report's stacks, and the modules that they are in; the report
 * owns them even on failure. 0 or -ENOMEM. */
int lw_report_name_stacks(struct lw_report *report, struct lw_symbolizer *symbolizer,
                          struct lw_module_table *modules, struct lw_progress *progress);

#endif
