/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Leaving the target: its code restored, no thread in a copy, nobody woken who slept. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/base/text.h"
#include "threads.h"

/* How long to wait for the stop of a thread that was interrupted, before it is told that one is
 * stuck in the kernel (state D); a thread in there cannot be in a copy. */
#define SETTLE_NS (10 * LW_NS_PER_SECOND)

/*
 * A thread asleep in a system call stands behind its syscall instruction, and those are never
 * displaced: it is in no copy and has no trap on its way. /proc/PID/task/TID/syscall says
 * "running", or
 * "-1 SP PC" for one that sleeps elsewhere (a page fault), or "NUMBER ARGS... SP PC".
 */
static bool sleeps_in_system_call(pid_t tid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
    lw_auto_free char *text = lw_text_read_file(path, NULL);
    return text && text[0] >= '0' && text[0] <= '9';
}

/* Releases a thread that has stopped, whatever it stopped for, in the state that it would have
 * untraced. */
static void release(struct lw_tracer *tracer, const struct lw_stop *stop, struct lw_thread *thread)
{
    struct lw_registers registers;
    bool again;
    int signal = stop->kind == LW_STOP_SIGNAL ? stop->signal : 0;
    if (lw_tracer_hit(tracer, stop, thread, &registers, &again)) {
        lw_registers_write_pc(stop->tid, lw_registers_pc(&registers));
        signal = 0;
    } else if (!lw_threads_rewind(tracer, stop->tid, &registers) && stop->kind == LW_STOP_TRAP &&
               lw_registers_read(stop->tid, &registers) == 0 &&
               lw_registers_restart_interrupted(&registers)) {
        lw_registers_write(stop->tid, &registers);
    }
    lw_threads_mend_mask(thread);
    lw_ptrace_detach(stop->tid, signal);
    lw_threads_remove(tracer, thread);
}

/* The number of threads that had to be stopped. */
static size_t interrupt_running(struct lw_tracer *tracer)
{
    size_t count = 0;
    lw_vector_for_each (item, &tracer->threads) {
        struct lw_thread *thread = *item;
        thread->interrupted = !thread->stopped && !sleeps_in_system_call(thread->tid) &&
                              ptrace(PTRACE_INTERRUPT, thread->tid, NULL, NULL) == 0;
        count += thread->interrupted;
    }
    return count;
}

static size_t count_interrupted(const struct lw_tracer *tracer)
{
    size_t count = 0;
    lw_vector_for_each (item, &tracer->threads)
        count += (*item)->interrupted;
    return count;
}

/* One stop on the way out. */
static void settle(struct lw_tracer *tracer, const struct lw_stop *stop)
{
    struct lw_thread *thread = lw_tracer_thread(tracer, stop->tid);
    switch (stop->kind) {
    case LW_STOP_EXITED:
    case LW_STOP_KILLED:
    case LW_STOP_EXEC:
        lw_tracer_dispatch(tracer, stop);
        if (stop->kind == LW_STOP_EXEC && stop->tid == tracer->pid)
            lw_tracer_abandon(tracer);
        break;
    default:
        if (thread) {
            release(tracer, stop, thread);
            break;
        }
        bool foreign;
        if (!lw_threads_release_child(tracer, stop->tid, &foreign))
            lw_ptrace_detach(stop->tid, stop->kind == LW_STOP_SIGNAL ? stop->signal : 0);
        break;
    }
}

/* Handles stops until every interrupted thread and everything that was under way has been let go.
 */
static void settle_all(struct lw_tracer *tracer)
{
    const uint64_t deadline = lw_clock_now() + SETTLE_NS;
    while (lw_clock_now() < deadline) {
        struct lw_stop stop = lw_wait_poll(tracer);
        if (stop.kind == LW_STOP_NOBODY)
            return;
        if (stop.kind == LW_STOP_NONE) {
            if (count_interrupted(tracer) == 0)
                return;
            stop = lw_tracer_next(tracer, lw_clock_now() + LW_NS_PER_MS);
        }
        if (stop.kind != LW_STOP_NONE)
            settle(tracer, &stop);
    }
    lw_warn("%zu threads of process %d are stuck in the kernel; they are released as they are",
            count_interrupted(tracer), (int)tracer->pid);
}

int lw_tracer_leave(struct lw_tracer *tracer, struct lw_leave_result *result)
{
    *result = (struct lw_leave_result){.threads = (unsigned)tracer->threads.count};
    const struct lw_thread *main_thread = lw_tracer_thread(tracer, tracer->pid);
    result->stopped = main_thread && main_thread->stopped;
    int lifted = lw_breakpoint_table_lift_all(tracer->breakpoints);
    if (lifted > 0)
        result->breakpoints = (unsigned)lifted;

    const uint64_t start = lw_clock_now();
    size_t interrupted = interrupt_running(tracer);
    settle_all(tracer);
    if (interrupted > 0)
        result->longest_pause_ns = lw_clock_now() - start;

    int restored = lw_breakpoint_table_restore_padding(tracer->breakpoints);
    return lifted < 0 ? lifted : restored;
}
