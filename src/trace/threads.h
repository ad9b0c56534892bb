/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the tracer share: the thread table and the ptrace requests they all make. */
#ifndef LEAKWATCH_TRACE_THREADS_H
#define LEAKWATCH_TRACE_THREADS_H

#include "leakwatch/trace/tracer.h"

/* PTRACE_SEIZE with the events that we follow; 0 or a negative errno. */
int lw_ptrace_seize(pid_t tid);

/* NULL: out of memory. */
struct lw_thread *lw_threads_add(struct lw_tracer *tracer, pid_t tid);
void lw_threads_remove(struct lw_tracer *tracer, struct lw_thread *thread);

/* Takes the exit of a thread off the kernel's hands. */
void lw_threads_reap(pid_t tid);

/* Each tolerates a thread that is gone (SIGKILL may come at any moment). */
void lw_ptrace_continue(struct lw_tracer *tracer, pid_t tid, int signal);
void lw_ptrace_detach(pid_t tid, int signal);

/* Blocks SIGTRAP again where a trap has unblocked it. The thread is stopped. */
void lw_threads_mend_mask(const struct lw_thread *thread);

/* A thread that stopped in a copy is put back into the program itself, so that no signal frame and
 * no detached thread ever points into the copies. Returns whether it was moved; *registers are then
 * the new ones. */
bool lw_threads_rewind(struct lw_tracer *tracer, pid_t tid, struct lw_registers *registers);

/* A new tracee that is a process of its own with a copy of the target's memory: takes our bytes
 * out of it and lets it go. False when it is a thread of the target, or shares its memory. */
bool lw_threads_release_child(struct lw_tracer *tracer, pid_t tid, bool *foreign);

/* One look at what has happened, without waiting; LW_STOP_NONE when nothing has. */
struct lw_stop lw_wait_poll(struct lw_tracer *tracer);

#endif
