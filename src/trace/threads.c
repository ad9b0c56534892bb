/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The thread table, and ptrace requests with the errors that a tracer must expect. */
#include "threads.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/target/process.h"
#include "leakwatch/trace/call_filter.h"

int lw_ptrace_seize(pid_t tid)
{
    /* No PTRACE_O_EXITKILL: the target outlives us, whatever happens. */
    const unsigned long options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                                  PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD;
    return ptrace(PTRACE_SEIZE, tid, NULL, options) == 0 ? 0 : -errno;
}

struct lw_thread *lw_threads_add(struct lw_tracer *tracer, pid_t tid)
{
    struct lw_thread *thread = calloc(1, sizeof(*thread));
    if (!thread)
        return NULL;
    thread->tid = tid;
    if (lw_vector_push(&tracer->threads, thread) != 0) {
        free(thread);
        return NULL;
    }
    if (lw_map_set(&tracer->by_tid, (uint64_t)tid, (uintptr_t)thread) != 0) {
        tracer->threads.count--;
        free(thread);
        return NULL;
    }
    return thread;
}

void lw_threads_remove(struct lw_tracer *tracer, struct lw_thread *thread)
{
    tracer->lost_handler |= thread->unblocked;
    lw_map_remove(&tracer->by_tid, (uint64_t)thread->tid, NULL);
    for (size_t i = 0; i < tracer->threads.count; i++) {
        if (tracer->threads.items[i] == thread) {
            lw_vector_swap_remove(&tracer->threads, i);
            break;
        }
    }
    if (tracer->thread_gone)
        tracer->thread_gone(tracer->context, thread);
    free(thread);
}

void lw_threads_reap(pid_t tid)
{
    siginfo_t info;
    waitid(P_PID, (id_t)tid, &info, WEXITED | WNOHANG | __WALL);
}

static void report_unexpected(const char *request, pid_t tid)
{
    if (errno != ESRCH)
        lw_warn("cannot %s thread %d: %m", request, (int)tid);
}

void lw_ptrace_continue(pid_t tid, int signal)
{
    if (ptrace(PTRACE_CONT, tid, NULL, (long)signal) != 0)
        report_unexpected("resume", tid);
}

void lw_ptrace_detach(pid_t tid, int signal)
{
    if (ptrace(PTRACE_DETACH, tid, NULL, (long)signal) != 0)
        report_unexpected("detach from", tid);
}

/* Signals that the processor raises, as it does SIGTRAP. */
#define RAISED_BITS                                                                                \
    (1ull << (SIGSEGV - 1) | 1ull << (SIGBUS - 1) | 1ull << (SIGILL - 1) | 1ull << (SIGFPE - 1))

/*
 * A trap unblocks SIGTRAP, so that nobody can tell any more whether the thread had blocked it. It
 * had when we attached, if its mask is still the same; and who blocks all of its kind does it with
 * sigfillset.
 */
static bool blocks_sigtrap(const struct lw_thread *thread, uint64_t mask)
{
    if ((mask | LW_SIGTRAP_BIT) == (thread->mask | LW_SIGTRAP_BIT))
        return thread->blocks_sigtrap;
    return (mask & RAISED_BITS) == RAISED_BITS;
}

static void block_sigtrap(struct lw_thread *thread)
{
    uint64_t mask = thread->mask | LW_SIGTRAP_BIT;
    thread->unblocked = true;
    if (ptrace(PTRACE_SETSIGMASK, thread->tid, sizeof(mask), &mask) != 0)
        report_unexpected("restore the signal mask of", thread->tid);
}

int lw_threads_take_trap(struct lw_thread *thread)
{
    siginfo_t info;
    uint64_t mask;
    if (ptrace(PTRACE_GETSIGMASK, thread->tid, sizeof(mask), &mask) != 0)
        return 0;
    thread->blocks_sigtrap = blocks_sigtrap(thread, mask);
    thread->mask = mask;
    if (!thread->blocks_sigtrap)
        return 0;
    block_sigtrap(thread);
    bool is_sent = ptrace(PTRACE_GETSIGINFO, thread->tid, NULL, &info) == 0 && info.si_code <= 0;
    return is_sent ? SIGTRAP : 0;
}

bool lw_threads_rewind(struct lw_tracer *tracer, struct lw_thread *thread)
{
    uint64_t address;
    unsigned stack;
    struct lw_registers *registers = &thread->replay;
    thread->replaying = false;
    if (!tracer->breakpoints || lw_registers_read(thread->tid, registers) != 0)
        return false;
    uint64_t pc = lw_registers_pc(registers);
    if (!lw_breakpoint_rewind(tracer->breakpoints, pc, &address, &stack))
        return false;
    lw_registers_set_pc(registers, address);
    lw_registers_set_sp(registers, lw_registers_sp(registers) + stack);
    /* At the start of the copy, the breakpoint has been hit already; behind it, another one has
     * not. */
    const struct lw_breakpoint *breakpoint = lw_breakpoint_find(tracer->breakpoints, address);
    thread->replaying = breakpoint && breakpoint->copy == pc;
    return lw_registers_write(thread->tid, registers) == 0;
}

void lw_threads_restart_call(const struct lw_thread *thread)
{
    struct lw_registers registers;
    struct lw_task_status status;
    if (lw_registers_read(thread->tid, &registers) != 0)
        return;
    const bool in_full = lw_registers_restart_in_full(&registers);
    if ((!in_full && !lw_registers_restart_interrupted(&registers)) ||
        lw_task_status_read(thread->tid, thread->tid, &status) != 0 ||
        (status.signals_pending & status.signals_caught & ~status.signals_blocked))
        return;
    /* Better a time limit that begins anew than a call for which the thread may be killed. */
    if (in_full &&
        (status.seccomp == SECCOMP_MODE_DISABLED || lw_call_filter_lets_restart(thread->tid)))
        return;
    lw_registers_write(thread->tid, &registers);
}

void lw_threads_note_pause(const struct lw_tracer *tracer, uint64_t *longest_ns)
{
    const uint64_t pause = lw_clock_now() - tracer->idle_ns;
    if (pause > *longest_ns)
        *longest_ns = pause;
}

void lw_threads_expect_child(struct lw_tracer *tracer, const struct lw_thread *creator)
{
    unsigned long message;
    if (ptrace(PTRACE_GETEVENTMSG, creator->tid, NULL, &message) != 0)
        return;
    pid_t tid = (pid_t)message;
    struct lw_thread *child = lw_tracer_thread(tracer, tid);
    struct lw_task_status status;
    if (!child && lw_task_status_read(tid, tid, &status) == 0 && status.tracer == gettid()) {
        /* Not seen yet; and not seen and released already. */
        child = lw_threads_add(tracer, tid);
        if (child)
            child->newborn = true;
    }
    if (child) {
        child->blocks_sigtrap = creator->blocks_sigtrap;
        child->mask = creator->mask;
    }
}

static void clean(const struct lw_tracer *tracer, pid_t tid,
                  int (*how)(const struct lw_breakpoint_table *, struct lw_memory *))
{
    struct lw_process_memory memory;
    lw_error *error = lw_process_memory_init(&memory, tid);
    int result = error ? -lw_error_code(error) : 0;
    if (!error) {
        result = how(tracer->breakpoints, &memory.memory);
        lw_process_memory_deinit(&memory);
    }
    lw_error_destroy(error);
    if (result != 0 && result != -ESRCH)
        lw_warn("cannot take our breakpoints out of forked process %d: errno %d", (int)tid,
                -result);
}

void lw_threads_clean(const struct lw_tracer *tracer, pid_t tid)
{
    clean(tracer, tid, lw_breakpoint_table_clean_copy);
}

/* A new tracee that is a process of its own, with a copy of the target's memory, is cleaned and let
 * go. False when it is a thread of the target, or shares its memory. */
static bool release_child(struct lw_tracer *tracer, const struct lw_stop *stop, bool *foreign)
{
    const pid_t tid = stop->tid;
    struct lw_task_status status;
    *foreign = false;
    if (lw_task_status_read(tid, tid, &status) != 0 || status.tgid == tracer->pid)
        return false;
    /* Where the kernel cannot tell, the child stays traced, and is cleaned when we leave. When its
     * parent has ended meanwhile (-ESRCH), cleaning is right whether the memory was shared or
     * copied. */
    int shares = lw_process_shares_memory(tracer->pid, tid);
    if (shares != 0 && shares != -ESRCH) {
        *foreign = true;
        return false;
    }
    /* Should we be killed meanwhile, it must not have breakpoints without a handler for them. */
    clean(tracer, tid, lw_breakpoint_table_lift_copy);
    lw_guard_leave_child(tracer, stop);
    clean(tracer, tid, lw_breakpoint_table_clean_copy);
    lw_ptrace_detach(tid, 0);
    return true;
}

struct lw_thread *lw_threads_at_stop(struct lw_tracer *tracer, const struct lw_stop *stop)
{
    struct lw_thread *thread = lw_tracer_thread(tracer, stop->tid);
    if (thread && !thread->newborn)
        return thread;
    bool foreign;
    bool released = release_child(tracer, stop, &foreign);
    if (released && thread)
        lw_threads_remove(tracer, thread);
    if (released)
        return NULL;
    if (!thread)
        thread = lw_threads_add(tracer, stop->tid);
    if (!thread) {
        lw_ptrace_continue(stop->tid, stop->kind == LW_STOP_SIGNAL ? stop->signal : 0);
        return NULL;
    }
    thread->newborn = false;
    thread->foreign = foreign;
    return thread;
}

void lw_threads_warn_of_stuck(const struct lw_tracer *tracer)
{
    lw_warn("waiting for %zu threads of process %d that do not stop (frozen, or stuck in the "
            "kernel): they cannot be released safely yet",
            lw_threads_count_awaited(tracer), (int)tracer->pid);
}
