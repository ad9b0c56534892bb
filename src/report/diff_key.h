/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which stacks of two reports are the same. */
#ifndef LEAKWATCH_SRC_REPORT_DIFF_KEY_H
#define LEAKWATCH_SRC_REPORT_DIFF_KEY_H

#include "leakwatch/report/diff.h"

/* A stack, the report that names its modules, and how it is compared. */
struct lw_diff_keyed {
    const struct lw_report *report;
    const struct lw_report_stack *stack;
    enum lw_diff_key by;
    bool same_watch; /* as all that it is compared with */
};

/* The same for stacks that are the same; never UINT64_MAX. */
uint64_t lw_diff_key_hash(const struct lw_diff_keyed *keyed);
bool lw_diff_key_equal(const struct lw_diff_keyed *a, const struct lw_diff_keyed *b);

#endif
