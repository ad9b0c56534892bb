/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first report: what is being watched. */
#ifndef LEAKWATCH_APP_ATTACH_REPORT_H
#define LEAKWATCH_APP_ATTACH_REPORT_H

#include <stdio.h>

#include "leakwatch/app/options.h"
#include "leakwatch/app/watch.h"

/* Gathers it from the armed watch and writes it; 0 or a negative errno. */
int lw_attach_report_write(const struct lw_options *options, const struct lw_watch *watch,
                           const struct lw_writer_options *writing, FILE *stream);

#endif
