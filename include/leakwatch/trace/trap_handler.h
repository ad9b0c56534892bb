/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The target's SIGTRAP handler while breakpoints are planted: it outlives a tracer that is killed.
 */
#ifndef LEAKWATCH_TRACE_TRAP_HANDLER_H
#define LEAKWATCH_TRACE_TRAP_HANDLER_H

#include <stddef.h>

#include "leakwatch/arch/trap_handler.h"
#include "leakwatch/trace/remote_call.h"

/*
 * Without a tracer, a thread that runs into a breakpoint gets SIGTRAP, which ends the process
 * unless there is a handler. This one is installed before the first breakpoint is planted, and the
 * program's own action is put back after the last one was taken out. Other SIGTRAPs go where they
 * went before. What it cannot help: a thread that blocks SIGTRAP, since the kernel then takes the
 * handler away (force_sig).
 *
 * Its place is executable memory of the target that the caller provides.
 */

/* Bytes that the place must have for so many pairs. */
size_t lw_trap_handler_size(size_t pairs);

/* Writes the handler, which must not be installed. 0 or a negative errno. */
int lw_trap_handler_write(struct lw_memory *memory, uint64_t place,
                          const struct lw_trap_handler_pair *pairs, size_t count);

/* What SIGTRAP does now. */
int lw_trap_handler_read_action(struct lw_remote_call *call, struct lw_memory *memory,
                                struct lw_signal_action *current);
/* Installs the handler that was written, over the action that was read. */
int lw_trap_handler_install(struct lw_remote_call *call, struct lw_memory *memory, uint64_t place,
                            const struct lw_signal_action *previous);
/* Puts back the action that the program had when the handler at this place was installed, unless it
 * has set another one since. Does nothing where it is not installed. */
int lw_trap_handler_remove(struct lw_remote_call *call, struct lw_memory *memory, uint64_t place);

#endif
