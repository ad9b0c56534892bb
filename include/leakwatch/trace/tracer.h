/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The threads under ptrace: attaching, waiting, a tracer's duty at each stop, leaving. */
#ifndef LEAKWATCH_TRACE_TRACER_H
#define LEAKWATCH_TRACE_TRACER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "leakwatch/arch/registers.h"
#include "leakwatch/base/error.h"
#include "leakwatch/base/map.h"
#include "leakwatch/base/vector.h"
#include "leakwatch/trace/breakpoint.h"
#include "leakwatch/trace/stop.h"

/*
 * Knows nothing of allocators: what a breakpoint means is its caller's business.
 *
 * ptrace binds a tracee to the thread that attached it, so all of this runs on one thread, the
 * tracer's own, with SIGCHLD blocked in the whole process and not ignored (lw_tracer_wake
 * excepted).
 *
 * As few threads as possible are stopped, and none that sleeps in a system call: an interrupted
 * epoll_wait or semop would fail with EINTR. PTRACE_SEIZE stops nothing, and breakpoints are
 * written without a stop; threads that are running are stopped once to attach, to be sure that no
 * fork is under way, and once to leave. Those asleep are released by the end of the tracer's
 * thread, which the kernel turns into a detach that wakes nobody. So a watch is over when
 * lw_tracer_leave has returned and the thread has ended.
 *
 * A stop is looked at with WNOWAIT and never consumed: what a thread reported is cleared by its own
 * resumption, and by nothing else.
 */
struct lw_thread {
    pid_t tid;
    bool foreign;        /* of another process that shares the target's memory (vfork, CLONE_VM) */
    bool asks_leave;     /* it was seen to have system calls that we need turned into SIGSYS
                            (prctl(2)), or not to be allowed them (seccomp(2)) */
    bool newborn;        /* its creator has told of it, and its first stop is still to come */
    bool stopped;        /* in a group-stop (PTRACE_LISTEN) */
    bool blocks_sigtrap; /* a trap unblocks SIGTRAP (force_sig), and this thread wants it blocked */
    uint64_t mask;       /* of signals, as last seen */
    bool unblocked;      /* a trap has unblocked it, which also takes the program's handler away */
    bool interrupted;    /* by us: its stop is still to come */
    bool continued;      /* the latest stop was the end of a group-stop, by SIGCONT */
    bool replaying; /* was put back before a breakpoint for a signal handler's sake, with `replay`:
                       the same hit again is not a new one */
    struct lw_registers replay;
    const struct lw_breakpoint *passed; /* the latest, when it is_short */
    void *owner;     /* what the caller keeps for the thread; thread_gone releases it */
    unsigned visits; /* the latest round of visits (trace/visit.h) that it was part of */
};

enum lw_wait_way { LW_WAIT_SPIN, LW_WAIT_SLEEP };

struct lw_tracer {
    pid_t pid;
    pthread_t self;
    struct lw_breakpoint_table *breakpoints;
    uint64_t attach_pause_ns; /* longest for which lw_tracer_seize stopped a thread */
    struct lw_map by_tid;
    LW_VECTOR(struct lw_thread *) threads;
    bool lost_handler; /* a thread that is gone was `unblocked` */

    void (*thread_gone)(void *context, struct lw_thread *thread); /* may be NULL */
    void *context;

    _Atomic bool woken;
    /* When it was last known that no thread was standing in a stop: at every one since, it has
     * not stood for longer. Written by waiting, and by whoever is about to interrupt threads. */
    uint64_t idle_ns;
    /* private to waiting */
    uint64_t last_stop_ns;
    uint64_t gap_ns[2]; /* by enum lw_wait_way: moving average of the time from stop to stop */
    unsigned stops, since_sweep;
    size_t sweep;
    unsigned visits;
};

/* What a stop did to the watch. */
enum lw_trace_outcome {
    LW_TRACE_GOES_ON,
    LW_TRACE_EXITED, /* the target has ended: the stop's kind, status and signal say how */
    LW_TRACE_EXEC,   /* the target runs another program; its thread is still stopped */
};

/* The calling thread is the tracer from here on. The breakpoints, which may be set later, outlive
 * it. */
void lw_tracer_init(struct lw_tracer *tracer, pid_t pid, struct lw_breakpoint_table *breakpoints);
void lw_tracer_deinit(struct lw_tracer *tracer);

/* Attaches to every thread of the process, and to processes that share its memory (vfork). Stops
 * only threads that are running at this moment, once, to be sure that no fork is under way. */
lw_error *lw_tracer_seize(struct lw_tracer *tracer);

/*
 * Starts argv as a child of ours, under ptrace, with the signal mask `mask`; returns when it stands
 * at the first instruction of the new program, stopped. *pid is its process id, also on errors
 * after the fork (it has ended then).
 */
lw_error *lw_tracer_spawn(struct lw_tracer *tracer, char *const argv[], const sigset_t *mask);

/*
 * The next stop, or LW_STOP_NONE at the deadline (lw_clock_now; LW_NEVER: none) or when woken.
 * Spins for a moment after a stop as long as stops come quickly (a blocking wait on another
 * processor triples the cost of one), and sleeps else.
 */
struct lw_stop lw_tracer_next(struct lw_tracer *tracer, uint64_t deadline);
/* Makes lw_tracer_next return at once. From any thread. */
void lw_tracer_wake(struct lw_tracer *tracer);

/* Runs a tracer's whole life on a thread of its own, and returns when its tracees are free. 0, or a
 * negative errno when there is no such thread. */
int lw_tracer_run(void *(*life)(void *), void *argument);

/* NULL when the thread is not (yet) known. */
struct lw_thread *lw_tracer_thread(const struct lw_tracer *tracer, pid_t tid);

/*
 * The breakpoint that the thread has run into, or NULL when the stop is of another kind. *registers
 * are the thread's, with the pc at the breakpoint's own address; *again tells that this very hit
 * was reported before (a signal handler came between). The thread stays stopped until
 * lw_tracer_pass. The breakpoint may have been lifted meanwhile.
 */
struct lw_breakpoint *lw_tracer_hit(struct lw_tracer *tracer, const struct lw_stop *stop,
                                    struct lw_thread *thread, struct lw_registers *registers,
                                    bool *again);
/* Lets the thread run on past the breakpoint. */
void lw_tracer_pass(struct lw_thread *thread, const struct lw_breakpoint *breakpoint);

/* Moves a thread from the stop it is in to one in which it can be borrowed (trace/remote_call.h),
 * without an instruction between. */
void lw_tracer_hold(struct lw_thread *thread);
/* Lets a spawned process run its first instruction. */
void lw_tracer_resume(pid_t tid);

/* A tracer's duty at every stop that is not a breakpoint's; the thread has been resumed or released
 * afterwards, except on LW_TRACE_EXEC. */
enum lw_trace_outcome lw_tracer_dispatch(struct lw_tracer *tracer, const struct lw_stop *stop);

struct lw_leave_result {
    unsigned threads;          /* released, or to be released by the end of this thread */
    unsigned breakpoints;      /* taken out */
    uint64_t longest_pause_ns; /* of a thread that had to be stopped */
    bool stopped;              /* the process is in a group-stop, and stays so */
};
/*
 * Takes the breakpoints out, brings every thread out of the copies, gives the padding back. The
 * caller's thread must end next. 0, or a negative errno when some of the code could not be
 * restored.
 */
int lw_tracer_leave(struct lw_tracer *tracer, struct lw_leave_result *result);

/* The target's new program (LW_TRACE_EXEC) or a spawned one that is not to be watched runs on,
 * untraced. */
void lw_tracer_abandon(struct lw_tracer *tracer);

#endif
