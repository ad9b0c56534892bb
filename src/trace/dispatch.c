/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A tracer's duty at each kind of stop (ptrace(2)), and breakpoint hits. */
#include <signal.h>
#include <sys/ptrace.h>

#include "leakwatch/target/process.h"
#include "threads.h"

static bool is_ignored_by_default(int signal)
{
    return signal == SIGCHLD || signal == SIGURG || signal == SIGWINCH || signal == SIGCONT;
}

bool lw_threads_ignores(const struct lw_tracer *tracer, pid_t tid, int signal)
{
    struct lw_task_status status;
    if (lw_task_status_read(tracer->pid, tid, &status) != 0)
        return false;
    const uint64_t bit = 1ull << (signal - 1);
    return (status.signals_ignored & bit) ||
           (!(status.signals_caught & bit) && is_ignored_by_default(signal));
}

/*
 * signal-delivery-stop. The thread may stand in a copy; the handler's frame must not point there,
 * so it is put back before the breakpoint, and will hit it a second time after the handler. A
 * signal that is ignored would not even have woken an untraced thread: the system call that it
 * broke off is made again.
 */
static void deliver_signal(struct lw_tracer *tracer, struct lw_thread *thread, int signal,
                           bool after_group_stop)
{
    const bool was_in_copy = lw_threads_rewind(tracer, thread);
    if (signal == SIGTRAP && lw_guard_deliver(tracer, thread))
        return;
    if (!was_in_copy && !after_group_stop && lw_threads_ignores(tracer, thread->tid, signal)) {
        lw_threads_restart_call(thread);
        lw_threads_let_others_take_signals(tracer, thread->tid);
    }
    lw_ptrace_continue(thread->tid, signal);
}

/*
 * Group-stop: PTRACE_LISTEN keeps the thread stopped as it would be untraced, and tells us of
 * SIGCONT. Its registers cannot be reached any more then, so it leaves the copies now.
 */
static void enter_group_stop(struct lw_tracer *tracer, struct lw_thread *thread)
{
    lw_threads_rewind(tracer, thread);
    thread->stopped = ptrace(PTRACE_LISTEN, thread->tid, NULL, NULL) == 0;
}

/*
 * PTRACE_EVENT_STOP without a group-stop: an interrupt of ours that is reported late, or SIGCONT,
 * of which the kernel tells every thread by waking it. A call that this has broken off is made
 * again; but where the process had been stopped, some calls fail untraced, too (signal(7)).
 */
static void pass_trap(struct lw_thread *thread, bool was_stopped)
{
    if (!was_stopped)
        lw_threads_restart_call(thread);
    thread->continued = was_stopped;
    lw_ptrace_continue(thread->tid, 0);
}

/* Everything of the old image is gone but the one thread, which has the process's id now. */
static enum lw_trace_outcome note_exec(struct lw_tracer *tracer, const struct lw_stop *stop)
{
    struct lw_thread *thread = lw_tracer_thread(tracer, stop->tid);
    if (stop->tid != tracer->pid) {
        /* A vfork child's: it has memory of its own now, which never saw our breakpoints. */
        if (thread)
            lw_threads_remove(tracer, thread);
        lw_ptrace_detach(stop->tid, 0);
        return LW_TRACE_GOES_ON;
    }
    for (size_t i = tracer->threads.count; i-- > 0;)
        if (tracer->threads.items[i]->tid != stop->tid && !tracer->threads.items[i]->foreign)
            lw_threads_remove(tracer, tracer->threads.items[i]);
    return LW_TRACE_EXEC;
}

static enum lw_trace_outcome note_end(struct lw_tracer *tracer, const struct lw_stop *stop)
{
    lw_threads_reap(stop->tid);
    struct lw_thread *thread = lw_tracer_thread(tracer, stop->tid);
    if (thread)
        lw_threads_remove(tracer, thread);
    /* The main thread's end is reported when it is the last: the process has ended with it. */
    return stop->tid == tracer->pid ? LW_TRACE_EXITED : LW_TRACE_GOES_ON;
}

enum lw_trace_outcome lw_tracer_dispatch(struct lw_tracer *tracer, const struct lw_stop *stop)
{
    if (stop->kind == LW_STOP_NONE)
        return LW_TRACE_GOES_ON;
    if (stop->kind == LW_STOP_NOBODY)
        return LW_TRACE_EXITED;
    if (stop->kind == LW_STOP_EXITED || stop->kind == LW_STOP_KILLED)
        return note_end(tracer, stop);
    if (stop->kind == LW_STOP_EXEC)
        return note_exec(tracer, stop);

    struct lw_thread *thread = lw_threads_at_stop(tracer, stop);
    if (!thread)
        return LW_TRACE_GOES_ON;
    const bool was_stopped = thread->stopped, was_continued = thread->continued;
    lw_threads_note_stop(thread);
    switch (stop->kind) {
    case LW_STOP_SIGNAL:
        deliver_signal(tracer, thread, stop->signal, was_continued);
        break;
    case LW_STOP_TRAP:
        pass_trap(thread, was_stopped);
        break;
    case LW_STOP_GROUP:
        enter_group_stop(tracer, thread);
        break;
    case LW_STOP_CLONE:
    case LW_STOP_FORK:
        lw_threads_expect_child(tracer, thread);
        lw_ptrace_continue(thread->tid, 0);
        break;
    default:
        lw_ptrace_continue(thread->tid, 0);
        break;
    }
    return LW_TRACE_GOES_ON;
}

/*
 * Did the kernel raise this SIGTRAP for our instruction? One that somebody sent can only be
 * mistaken for it where a thread can stand behind the breakpoint without having run into it: after
 * its copy of an instruction as short as the breakpoint has led back there. Asking costs as much as
 * reading the pc.
 */
static bool is_trap(const struct lw_breakpoint *breakpoint, const struct lw_thread *thread)
{
    if (thread->passed != breakpoint || thread->blocks_sigtrap)
        return true;
    siginfo_t info;
    return ptrace(PTRACE_GETSIGINFO, thread->tid, NULL, &info) == 0 && info.si_code > 0;
}

struct lw_breakpoint *lw_tracer_hit(struct lw_tracer *tracer, const struct lw_stop *stop,
                                    struct lw_thread *thread, struct lw_registers *registers,
                                    bool *again)
{
    if (stop->kind != LW_STOP_SIGNAL || stop->signal != SIGTRAP ||
        lw_registers_read(stop->tid, registers) != 0)
        return NULL;
    struct lw_breakpoint *breakpoint =
        lw_breakpoint_hit(tracer->breakpoints, lw_registers_pc(registers));
    if (!breakpoint || !is_trap(breakpoint, thread))
        return NULL;
    lw_registers_set_pc(registers, breakpoint->address);
    *again = thread->replaying && lw_registers_equal(registers, &thread->replay);
    thread->replaying = false;
    return breakpoint;
}

void lw_tracer_pass(struct lw_thread *thread, const struct lw_breakpoint *breakpoint)
{
    uint64_t pc = breakpoint->planted ? breakpoint->copy : breakpoint->address;
    thread->passed = breakpoint->is_short ? breakpoint : NULL;
    lw_threads_note_stop(thread);
    lw_registers_write_pc(thread->tid, pc);
    lw_ptrace_continue(thread->tid, lw_threads_take_trap(thread));
}

void lw_tracer_hold(struct lw_thread *thread)
{
    ptrace(PTRACE_INTERRUPT, thread->tid, NULL, NULL);
    lw_ptrace_continue(thread->tid, 0);
}

void lw_tracer_resume(pid_t tid)
{
    lw_ptrace_continue(tid, 0);
}

void lw_tracer_abandon(struct lw_tracer *tracer)
{
    struct lw_thread *thread = lw_tracer_thread(tracer, tracer->pid);
    lw_ptrace_detach(tracer->pid, 0);
    if (thread)
        lw_threads_remove(tracer, thread);
}
