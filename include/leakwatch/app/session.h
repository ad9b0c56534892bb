/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One run of the program: a watch from its beginning to its end, and what is reported of it when.
 */
#ifndef LEAKWATCH_APP_SESSION_H
#define LEAKWATCH_APP_SESSION_H

#include "leakwatch/app/options.h"

/* Runs to the end and returns the program's exit code. Errors have been told on stderr. */
int lw_session_run(const struct lw_options *options);

#endif
