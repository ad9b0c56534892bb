/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stopping the one thread to which a stop does the least harm. */
#include <errno.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/base/text.h"
#include "leakwatch/target/process.h"
#include "leakwatch/trace/call_filter.h"
#include "threads.h"

/* A thread that has not stopped by then is stuck in the kernel: another one is asked too. */
#define PATIENCE_NS (20 * LW_NS_PER_MS)
#define LIMIT_NS    LW_NS_PER_SECOND

/* What a stop does to a thread, from best to worst. */
enum harm {
    HARM_NONE,      /* it sleeps, and the kernel restarts its call with the time that is left */
    HARM_HELD,      /* it is running, and does not run on before it is given back */
    HARM_RESTARTED, /* as the first, with a signal mask for the time of the call */
    HARM_REPEATED,  /* we do (lw_threads_restart_call), with the whole time limit */
    HARM_CUT_SHORT, /* its system call may return with a part done */
    HARM_STUCK,     /* it cannot stop now */
    HARM_GONE,      /* or out of the question */
};

static enum harm harm_to_call(unsigned long number)
{
    switch (number) {
    case SYS_read:
    case SYS_futex:
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
    case SYS_poll:
    case SYS_select:
    case SYS_pause:
    case SYS_wait4:
    case SYS_waitid:
    case SYS_accept:
    case SYS_accept4:
    case SYS_restart_syscall:
        return HARM_NONE;
    case SYS_ppoll:
    case SYS_pselect6:
    case SYS_rt_sigsuspend:
        return HARM_RESTARTED;
    case SYS_write:
    case SYS_writev:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_recvfrom: /* MSG_WAITALL */
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_sendfile:
    case SYS_splice:
        return HARM_CUT_SHORT;
    default:
        return HARM_REPEATED;
    }
}

/* A filter may have the thread killed for a call that it does not expect, so it is looked at, which
 * is possible once the thread has stopped; so may syscall user dispatch. */
static bool must_not_call(const struct lw_thread *thread, const struct lw_task_status *status)
{
    return thread->asks_leave ||
           (status->seccomp != SECCOMP_MODE_DISABLED &&
            (status->seccomp != SECCOMP_MODE_FILTER || !lw_call_filter_is_visible()));
}

/* The thread has stopped. */
static bool filters_calls(const struct lw_tracer *tracer, pid_t tid)
{
    struct lw_task_status status;
    long refused = -1;
    if (lw_task_status_read(tracer->pid, tid, &status) == 0 &&
        status.seccomp == SECCOMP_MODE_DISABLED)
        return false;
    int error = lw_call_filter_check(tid, &refused);
    if (error)
        lw_info("thread %d of process %d is not asked for system calls: its filters do not allow "
                "number %ld (%s)",
                (int)tid, (int)tracer->pid, refused, strerror(-error));
    return error != 0;
}

/* <linux/ptrace.h>, since Linux 6.4 */
#define GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211
struct dispatch_config {
    uint64_t mode, selector, offset, length;
};

/* The kernel tells it only of a thread that has stopped. */
static bool dispatches_calls(pid_t tid)
{
    struct dispatch_config config = {0};
    return ptrace(GET_SYSCALL_USER_DISPATCH_CONFIG, tid, sizeof(config), &config) == 0 &&
           config.mode != 0;
}

/* /proc/PID/syscall says "running", or "-1 SP PC" for a thread that sleeps outside of system calls,
 * or "NUMBER ARGUMENTS... SP PC". */
static enum harm harm_to(const struct lw_tracer *tracer, const struct lw_thread *thread)
{
    struct lw_task_status status;
    if (thread->foreign || lw_task_status_read(tracer->pid, thread->tid, &status) != 0 ||
        lw_task_has_ended(&status) || must_not_call(thread, &status))
        return HARM_GONE;
    if (thread->stopped)
        return HARM_NONE;
    if (thread->newborn || status.state == 'D')
        return HARM_STUCK;
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", (int)tracer->pid, (int)thread->tid);
    lw_auto_free char *text = lw_text_read_file(path, NULL);
    unsigned long number;
    if (!text)
        return HARM_GONE;
    if (text[0] == '-')
        return HARM_STUCK;
    return sscanf(text, "%lu", &number) == 1 ? harm_to_call(number) : HARM_HELD;
}

/* Interrupts the best of those that have not been yet. */
static void interrupt_best(const struct lw_tracer *tracer)
{
    struct lw_thread *best = NULL;
    enum harm least = HARM_GONE;
    lw_vector_for_each (item, &tracer->threads) {
        enum harm harm = (*item)->interrupted ? HARM_GONE : harm_to(tracer, *item);
        if (harm < least) {
            least = harm;
            best = *item;
        }
        if (least == HARM_NONE)
            break;
    }
    if (best)
        best->interrupted = ptrace(PTRACE_INTERRUPT, best->tid, NULL, NULL) == 0;
}

static bool is_last_stop(const struct lw_tracer *tracer, const struct lw_stop *stop)
{
    bool of_process = stop->tid == tracer->pid;
    return stop->kind == LW_STOP_NOBODY ||
           (of_process && (stop->kind == LW_STOP_EXITED || stop->kind == LW_STOP_KILLED ||
                           stop->kind == LW_STOP_EXEC));
}

int lw_threads_settle(struct lw_tracer *tracer, const struct lw_stop *stop)
{
    if (is_last_stop(tracer, stop))
        return -ESRCH;
    lw_tracer_dispatch(tracer, stop);
    return 0;
}

static bool is_ours(const struct lw_tracer *tracer, const struct lw_stop *stop)
{
    struct lw_thread *thread = lw_tracer_thread(tracer, stop->tid);
    if (!thread || !thread->interrupted || thread->newborn ||
        (stop->kind != LW_STOP_TRAP && stop->kind != LW_STOP_GROUP))
        return false;
    thread->interrupted = false;
    thread->stopped = false;
    return true;
}

/* Can any thread be borrowed, sooner or later? 0; -EPERM: none may make our calls; -ESRCH:
 * there are none but those of processes that only share the target's memory. */
static int may_borrow(const struct lw_tracer *tracer)
{
    struct lw_task_status status;
    int result = -ESRCH;
    lw_vector_for_each (item, &tracer->threads) {
        if ((*item)->foreign)
            continue;
        if (lw_task_status_read(tracer->pid, (*item)->tid, &status) != 0 ||
            !must_not_call(*item, &status))
            return 0;
        result = -EPERM;
    }
    return result;
}

int lw_threads_borrow(struct lw_tracer *tracer, struct lw_stop *stop, uint64_t *since_ns)
{
    const uint64_t start = lw_clock_now();
    uint64_t now = start, next_try = start;
    tracer->idle_ns = start;
    for (; now - start < LIMIT_NS; now = lw_clock_now()) {
        int result = may_borrow(tracer);
        if (result)
            return result;
        if (now >= next_try || lw_threads_count_awaited(tracer) == 0) {
            interrupt_best(tracer);
            next_try = now + PATIENCE_NS;
        }
        *stop = lw_tracer_next(tracer, next_try);
        *since_ns = tracer->idle_ns;
        if (stop->kind == LW_STOP_NONE)
            continue;
        if (is_ours(tracer, stop)) {
            if (!dispatches_calls(stop->tid) && !filters_calls(tracer, stop->tid))
                return 0;
            lw_tracer_thread(tracer, stop->tid)->asks_leave = true; /* it has stopped in vain */
        }
        int error = lw_threads_settle(tracer, stop);
        if (error)
            return error;
    }
    return -ETIMEDOUT;
}
