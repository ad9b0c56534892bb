/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the tracer share: the thread table and the ptrace requests they all make. */
#ifndef LEAKWATCH_TRACE_THREADS_H
#define LEAKWATCH_TRACE_THREADS_H

#include <signal.h>

#include "leakwatch/trace/tracer.h"

/* In a signal set as the kernel prints and takes it. */
#define LW_SIGTRAP_BIT (1ull << (SIGTRAP - 1))

/* PTRACE_SEIZE with the events that we follow; 0 or a negative errno. */
int lw_ptrace_seize(pid_t tid);

/* NULL: out of memory. */
struct lw_thread *lw_threads_add(struct lw_tracer *tracer, pid_t tid);
void lw_threads_remove(struct lw_tracer *tracer, struct lw_thread *thread);

/* Takes the exit of a thread off the kernel's hands. */
void lw_threads_reap(pid_t tid);

/* Whatever stop it is, the kernel has taken an interrupt of ours back with it, or reports that
 * next. */
static inline void lw_threads_note_stop(struct lw_thread *thread)
{
    thread->stopped = thread->interrupted = thread->continued = false;
}

/* Each tolerates a thread that is gone (SIGKILL may come at any moment). */
void lw_ptrace_continue(pid_t tid, int signal);
void lw_ptrace_detach(pid_t tid, int signal);

/*
 * The thread is in a breakpoint's stop. Blocks SIGTRAP again where the trap has unblocked it.
 * Returns the signal to resume the thread with: 0, or SIGTRAP where one that somebody had sent was
 * pending, which the kernel then reports for the trap as well; since it is blocked again, it will
 * be pending again.
 */
int lw_threads_take_trap(struct lw_thread *thread);

/* A thread that stopped in a copy is put back into the program itself, so that no signal frame and
 * no detached thread ever points into the copies. Returns whether it was moved. */
bool lw_threads_rewind(struct lw_tracer *tracer, struct lw_thread *thread);

/* Sets up a system call that only our stop has broken off to be made again, unless the kernel does
 * so, by a call that the thread may make; one that a signal with a handler is about to break off is
 * left to fail. */
void lw_threads_restart_call(const struct lw_thread *thread);

/* Would the kernel have thrown this signal away, had the thread not been traced? */
bool lw_threads_ignores(const struct lw_tracer *tracer, pid_t tid, int signal);

/*
 * While this thread stood here, the kernel may have woken another one, asleep in a system call, for
 * the next signal of the process. Should this one run on and take that signal, the other would find
 * none and fail with EINTR without a stop that could be mended. So while there is such a signal,
 * all that are awake are made to stop.
 */
void lw_threads_let_others_take_signals(const struct lw_tracer *tracer, pid_t tid);

/* The creator is stopped in fork, vfork or clone: the child is expected from now on, and inherits
 * what is known of its creator. */
void lw_threads_expect_child(struct lw_tracer *tracer, const struct lw_thread *creator);

/*
 * A thread is in the signal-delivery-stop of a SIGTRAP that is not ours. Where the kernel has taken
 * the program's action for it away (a trap in a thread that blocks the signal), does what the
 * kernel would have done: true, and the thread has been resumed.
 */
bool lw_guard_deliver(struct lw_tracer *tracer, struct lw_thread *thread);
/* Gives a forked process, at its first stop, its own SIGTRAP back, if there is a guard. */
void lw_guard_leave_child(struct lw_tracer *tracer, const struct lw_stop *stop);
/* Takes our bytes out of the memory of another process, if they are there. */
void lw_threads_clean(const struct lw_tracer *tracer, pid_t tid);

/*
 * The thread that a stop is of, known or new. NULL when there is nothing left to do: it was a
 * forked process, with a copy of the target's memory, from which our bytes have been taken before
 * it was let go.
 */
struct lw_thread *lw_threads_at_stop(struct lw_tracer *tracer, const struct lw_stop *stop);

/* Interrupts the threads that are not asleep in a system call, nor stopped: marks them
 * `interrupted`, and returns how many. */
size_t lw_threads_interrupt_running(struct lw_tracer *tracer);
/* The stop that was dealt with just now: raises *longest_ns to how long the thread may have stood.
 */
void lw_threads_note_pause(const struct lw_tracer *tracer, uint64_t *longest_ns);
/* The threads whose stops are still to come: interrupted or newborn. */
size_t lw_threads_count_awaited(const struct lw_tracer *tracer);
/* Tells that they do not stop. */
void lw_threads_warn_of_stuck(const struct lw_tracer *tracer);
/* A SIGTRAP is about to be reported for this thread. */
bool lw_threads_has_trap_pending(pid_t tid);

/*
 * Stops one of the target's threads, that to which it does the least harm (remote_call.h), and
 * leaves it in a PTRACE_EVENT_STOP: *stop, of the kind LW_STOP_TRAP or LW_STOP_GROUP. *since_ns: we
 * have heard of the stop then. 0, -ESRCH, -ETIMEDOUT or -EPERM as lw_remote_call_begin has them.
 */
int lw_threads_borrow(struct lw_tracer *tracer, struct lw_stop *stop, uint64_t *since_ns);

/* The duty at a stop while a certain thread is waited for: dispatches it. 0; -ESRCH: the target has
 * ended or is another program, which is left to be seen again by whoever polls next. */
int lw_threads_settle(struct lw_tracer *tracer, const struct lw_stop *stop);

/* The next stop of this thread, or LW_STOP_NONE at the deadline; no other is looked at. */
struct lw_stop lw_wait_for(pid_t tid, uint64_t deadline);
/* One look at what has happened, without waiting; LW_STOP_NONE when nothing has. */
struct lw_stop lw_wait_poll(struct lw_tracer *tracer);

#endif
