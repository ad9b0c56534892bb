/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a leakwatch that was killed has left in its target: breakpoints, and calls under way. */
#ifndef LEAKWATCH_TRACE_LEFTOVERS_H
#define LEAKWATCH_TRACE_LEFTOVERS_H

#include <stdbool.h>

#include "leakwatch/base/error.h"
#include "leakwatch/trace/remote_call.h"
#include "leakwatch/trace/tracer.h"

/*
 * Takes out the breakpoints of a guard (trace/guard.h) that is found in the target, the guard
 * itself, and what was written into padding; also in a forked child, which has inherited them. The
 * calling thread does not become the tracer. NULL, with *found telling whether there were any.
 */
lw_error *lw_leftovers_clear(pid_t pid, struct lw_memory *memory, struct lw_module_table *modules,
                             bool *found);

/* Waits until no thread makes a system call for a leakwatch that was killed, which had found the
 * same code as we do. 0; -ETIMEDOUT; or another negative errno. */
int lw_leftovers_await_calls(struct lw_tracer *tracer, struct lw_memory *memory,
                             const struct lw_remote_code *code, uint64_t deadline,
                             uint64_t *longest_ns);

#endif
