/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A name for a stack that outlives the watch. */
#ifndef LEAKWATCH_SRC_REPORT_STACK_HASH_H
#define LEAKWATCH_SRC_REPORT_STACK_HASH_H

#include "leakwatch/report/report.h"

/*
 * Of build-ids and offsets, so that it is the same in each watch of each process of the same build,
 * wherever its modules are loaded. Modules without a build-id count by name; code of no module (a
 * JIT's) is all the same, since its addresses mean nothing elsewhere.
 */
uint64_t lw_stack_hash(const struct lw_report *report, const struct lw_report_stack *stack);

#endif
