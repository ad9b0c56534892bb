/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Breakpoints that do the target no harm when the tracer is killed. */
#ifndef LEAKWATCH_TRACE_GUARD_H
#define LEAKWATCH_TRACE_GUARD_H

#include <stdbool.h>

#include "leakwatch/trace/remote_call.h"
#include "leakwatch/trace/tracer.h"

/*
 * The guard of a breakpoint table is the SIGTRAP handler (trace/trap_handler.h) in the padding of a
 * module that is never unloaded, with a list of the breakpoints: each enters it before anything
 * else of it is written, so a later leakwatch finds in it all that is there (trace/leftovers.h).
 * Breakpoints that lw_breakpoint_plant_diverted has planted are not its business.
 */

/* Puts it in, by a thread that is borrowed already; before the first breakpoint is planted. 0;
 * -ENOSPC: no padding has room for it; or another negative errno. Breakpoints can be planted all
 * the same, without a guard. */
int lw_guard_install(struct lw_breakpoint_table *table, struct lw_remote_call *call);

/*
 * Takes the breakpoints out, waits until no thread has a trap on its way or is in the handler, and
 * gives the program its own SIGTRAP back; the padding is lw_tracer_leave's. *lifted is how many
 * were planted; *longest_ns is raised to the longest for which a thread was stopped. Waits for
 * threads that are frozen as long as that takes. 0, -ESRCH as remote calls have it, or another
 * negative errno.
 */
int lw_guard_remove(struct lw_tracer *tracer, unsigned *lifted, uint64_t *longest_ns);

#endif
