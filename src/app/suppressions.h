/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The suppressions that the options ask for. */
#ifndef LEAKWATCH_SRC_APP_SUPPRESSIONS_H
#define LEAKWATCH_SRC_APP_SUPPRESSIONS_H

#include "leakwatch/app/options.h"
#include "leakwatch/report/suppression.h"

/* Reads the files in their order, and then the default set, into *set, which is the caller's even
 * after an error. Touches no process. */
lw_error *lw_suppressions_load(const struct lw_options *options, struct lw_suppressions **set);

#endif
