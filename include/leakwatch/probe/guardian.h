/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A process that takes everything out of the target when leakwatch dies without having done so. */
#ifndef LEAKWATCH_PROBE_GUARDIAN_H
#define LEAKWATCH_PROBE_GUARDIAN_H

#include <sys/types.h>

#include "leakwatch/base/error.h"

/*
 * The target lives without it (trace/guard.h), but slowly: each breakpoint costs it a signal. The
 * guardian is a child of ours in a session of its own, which no signal but SIGKILL ends and which
 * keeps no file open. It needs to know nothing but the target's PID: what is there to be taken out,
 * it finds in the target.
 */
struct lw_guardian;

/* Before the process has a second thread. `clear` takes out what is there
 * (lw_engine_clear_leftovers). NULL: there could be none. */
struct lw_guardian *lw_guardian_start(lw_error *(*clear)(pid_t pid));
/* From now on it guards this process; before anything is planted there. NULL is no guardian. */
void lw_guardian_watch(struct lw_guardian *guardian, pid_t pid);
/* It is not needed any more: ends it. */
void lw_guardian_end(struct lw_guardian *guardian);

#endif
