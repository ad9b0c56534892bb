/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Leaving the target: its code restored, no thread in a copy, nobody woken who slept. */
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include "breakpoint_table.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/target/process.h"
#include "threads.h"

/* A thread that does not stop for so long is worth a word. It is waited for all the same: it may
 * stand in a copy, or have a trap on its way (a cgroup that is frozen stops threads anywhere). */
#define WARN_NS (5 * LW_NS_PER_SECOND)

/* Would nothing have broken off a system call here, had the thread not been traced? */
static bool is_our_doing(const struct lw_tracer *tracer, const struct lw_stop *stop,
                         const struct lw_thread *thread)
{
    if (stop->kind == LW_STOP_SIGNAL)
        return !thread->continued && lw_threads_ignores(tracer, stop->tid, stop->signal);
    return stop->kind == LW_STOP_TRAP && !thread->stopped;
}

/* Releases a thread that has stopped, whatever it stopped for, in the state that it would have
 * untraced. */
static void release(struct lw_tracer *tracer, const struct lw_stop *stop, struct lw_thread *thread)
{
    struct lw_registers registers;
    bool again;
    int signal = stop->kind == LW_STOP_SIGNAL ? stop->signal : 0;
    if (signal == 0 && lw_threads_has_trap_pending(stop->tid)) {
        /* It has run into a breakpoint, but the kernel reports our interrupt first. */
        thread->interrupted = true;
        lw_ptrace_continue(stop->tid, 0);
        return;
    }
    if (lw_tracer_hit(tracer, stop, thread, &registers, &again)) {
        lw_registers_write_pc(stop->tid, lw_registers_pc(&registers));
        signal = lw_threads_take_trap(thread);
    } else if (!lw_threads_rewind(tracer, thread) && is_our_doing(tracer, stop, thread)) {
        lw_threads_restart_call(thread);
    }
    lw_ptrace_detach(stop->tid, signal);
    lw_threads_remove(tracer, thread);
}

/* One stop on the way out. */
static void settle(struct lw_tracer *tracer, const struct lw_stop *stop)
{
    if (stop->kind == LW_STOP_EXITED || stop->kind == LW_STOP_KILLED ||
        stop->kind == LW_STOP_EXEC) {
        if (lw_tracer_dispatch(tracer, stop) == LW_TRACE_EXEC)
            lw_tracer_abandon(tracer);
        return;
    }
    struct lw_thread *thread = lw_threads_at_stop(tracer, stop);
    if (!thread)
        return;
    /* A child that was forked before the breakpoints were taken out has them in its memory. */
    if (stop->kind == LW_STOP_CLONE || stop->kind == LW_STOP_FORK)
        lw_threads_expect_child(tracer, thread);
    release(tracer, stop, thread);
}

/* Handles stops until every thread that was interrupted or is being born has been let go. */
static void settle_all(struct lw_tracer *tracer, uint64_t *longest_ns)
{
    uint64_t warn_at = lw_clock_now() + WARN_NS;
    for (;;) {
        struct lw_stop stop = lw_wait_poll(tracer);
        if (stop.kind == LW_STOP_NOBODY)
            return;
        if (stop.kind == LW_STOP_NONE) {
            if (lw_threads_count_awaited(tracer) == 0)
                return;
            stop = lw_tracer_next(tracer, lw_clock_now() + LW_NS_PER_MS);
        }
        if (stop.kind != LW_STOP_NONE) {
            settle(tracer, &stop);
            lw_threads_note_pause(tracer, longest_ns);
        }
        if (lw_clock_now() >= warn_at) {
            lw_threads_warn_of_stuck(tracer);
            warn_at = LW_NEVER;
        }
    }
}

int lw_tracer_leave(struct lw_tracer *tracer, struct lw_leave_result *result)
{
    *result = (struct lw_leave_result){.threads = (unsigned)tracer->threads.count};
    const struct lw_thread *main_thread = lw_tracer_thread(tracer, tracer->pid);
    result->stopped = main_thread && main_thread->stopped;
    int lifted = lw_breakpoint_table_lift_all(tracer->breakpoints);
    if (lifted > 0)
        result->breakpoints = (unsigned)lifted;

    /* Of these it is not certain that the memory is the target's. If it is, a guard that could not
     * be taken out must stay whole. */
    lw_vector_for_each (item, &tracer->threads)
        if ((*item)->foreign && !tracer->breakpoints->guard.installed)
            lw_threads_clean(tracer, (*item)->tid);

    tracer->idle_ns = lw_clock_now();
    lw_threads_interrupt_running(tracer);
    settle_all(tracer, &result->longest_pause_ns);

    int restored = lw_breakpoint_table_restore_padding(tracer->breakpoints);
    return lifted < 0 ? lifted : restored;
}
