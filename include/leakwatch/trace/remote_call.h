/* SPDX-License-Identifier: GPL-2.0-or-later */
/* System calls made by a thread of the target on our behalf. */
#ifndef LEAKWATCH_TRACE_REMOTE_CALL_H
#define LEAKWATCH_TRACE_REMOTE_CALL_H

#include <stdint.h>

#include "leakwatch/trace/tracer.h"

/*
 * One thread is borrowed: the one to whom it does the least harm (it is running; or asleep in a
 * call that the kernel restarts by itself; or in another, which is then made again). Its signals
 * are blocked meanwhile, and its registers, its mask and an interrupted system call are given back,
 * so that the program cannot tell. All other threads run on: their stops are dispatched here, and
 * nobody else polls the tracer until the end. The calls are made by a small program, which lies in
 * padding of the target's code meanwhile and ends with a signal to the thread itself, that its
 * tracer takes away: so the thread goes through one stop for any number of calls. Where the signal
 * is refused, the thread waits to be stopped. Where all of that is not possible, the calls run from
 * system call stop to system call stop (PTRACE_SYSCALL), at a system call instruction that the
 * target has anyway. A call that sleeps with a time limit (nanosleep, poll) must not be made: it
 * would overwrite the kernel's note of how to restart the thread's own. A thread that filters its
 * system calls (seccomp) is asked only where all of its filters allow all that is ever asked
 * (trace/call_filter.h), and makes no other calls; one with syscall user dispatch is not asked.
 *
 * A stop by SIGSTOP that comes meanwhile stops the other threads at once, and the borrowed one when
 * it is given back; of a stopped process, the thread is stopped again afterwards.
 *
 * When we are killed meanwhile, the thread finds its way back: below its stack lies a signal frame
 * (arch/signal_frame.h), to which it returns after the system call that it is in.
 */
struct lw_remote_call; /* a borrowed thread */

/* Addresses of code that the target has anyway. */
struct lw_remote_code {
    uint64_t call;      /* a system call instruction, followed by a return where there is such */
    uint64_t sigreturn; /* the system call rt_sigreturn; 0: none */
    uint64_t program;   /* (leakwatch/arch/remote_program.h) while it is there; 0: it is not */
};

/* Everything that is planted must be planted later. 0; -ESRCH: the target has ended or become
 * another program, whose stop is left to be seen by the next lw_tracer_next; -EFAULT: there is no
 * such instruction there; -ETIMEDOUT: no thread could be stopped within a second (all are stuck in
 * the kernel); -EPERM: no thread is allowed to make our calls; -ENOMEM. */
int lw_remote_call_begin(struct lw_tracer *tracer, const struct lw_remote_code *code,
                         struct lw_remote_call **call);

/* The same by a thread that stands in a PTRACE_EVENT_STOP (LW_STOP_TRAP, LW_STOP_GROUP) and is not,
 * or not yet, one of the target's. Nobody else's stops are looked at, and in the end it stands
 * there as before. */
int lw_remote_call_begin_alone(struct lw_tracer *tracer, const struct lw_remote_code *code,
                               const struct lw_stop *stop, struct lw_remote_call **call);

struct lw_remote_request {
    long number;
    uint64_t arguments[6];
    /* Requests in front of this one, counted from 1, whose results are added to the first and the
     * fifth argument; 0: nothing. */
    unsigned first_plus, fifth_plus;
    /* The requests behind it are made whatever its result is; without this, an error ends it, */
    bool may_fail;
    bool is_fixed;  /* and so does any other result than the first argument */
    int64_t result; /* a negative errno of the target's on failure; -ECANCELED: it was not made */
};

/* As the kernel returns them. */
static inline bool lw_remote_result_is_error(int64_t result)
{
    return result < 0 && result >= -4095;
}

/* Makes system calls, one after the other: 0 and the results, or an error as above; -EPERM: the
 * thread may neither send itself a signal nor wait, so it has gone its way, and the results are not
 * known. */
int lw_remote_call_make_all(struct lw_remote_call *call, struct lw_remote_request *requests,
                            size_t count);

/* Makes one system call: 0 and *result (a negative errno of the target's on failure), or an error
 * as above. */
int lw_remote_call_make(struct lw_remote_call *call, long number, const uint64_t arguments[6],
                        int64_t *result);

/* Copies `size` bytes (at most 256, and at most eight times) into the thread's memory, below its
 * stack pointer and the red zone, or where there is no room on a page that is mapped for it. They
 * stay until the end, when what was there before is back. `memory` is the target's, and outlives
 * the call. 0 and *address; -E2BIG; or a negative errno. */
int lw_remote_call_store(struct lw_remote_call *call, struct lw_memory *memory, const void *bytes,
                         size_t size, uint64_t *address);

/* Who was borrowed, and its own registers. */
pid_t lw_remote_call_thread(const struct lw_remote_call *call);
const struct lw_registers *lw_remote_call_registers(const struct lw_remote_call *call);
const struct lw_remote_code *lw_remote_call_code(const struct lw_remote_call *call);

/* Gives the thread back, running or stopped as before, and frees `call`, also on errors. *pause_ns
 * (may be NULL): for how long it was held. 0, or -ESRCH as above. */
int lw_remote_call_end(struct lw_remote_call *call, uint64_t *pause_ns);

/* Looks for it in the modules' code; -ENOENT: there is no system call instruction. */
int lw_remote_code_find(struct lw_remote_code *code, struct lw_module_table *modules);

/* Is this thread, stopped with these registers, in a call for a leakwatch that was killed? It makes
 * the call, and is on its way back, as soon as it runs. */
bool lw_remote_call_is_under_way(const struct lw_remote_code *code, struct lw_memory *memory,
                                 const struct lw_registers *registers);

#endif
