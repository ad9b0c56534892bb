/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first report: what is being watched. */
#ifndef LEAKWATCH_APP_ATTACH_REPORT_H
#define LEAKWATCH_APP_ATTACH_REPORT_H

#include "leakwatch/app/options.h"
#include "leakwatch/app/watch.h"
#include "outputs.h"

/* Gathers it from the armed watch and writes it; see lw_outputs_write. */
lw_error *lw_attach_report_write(const struct lw_options *options, const struct lw_watch *watch,
                                 struct lw_outputs *outputs, const sigset_t *ending,
                                 bool *interrupted);

#endif
