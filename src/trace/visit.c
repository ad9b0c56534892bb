/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Visiting threads: those that run are stopped for a moment, one that sleeps is looked at. */
#include "leakwatch/trace/visit.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <time.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/text.h"
#include "leakwatch/target/process.h"
#include "threads.h"

struct round {
    struct lw_tracer *tracer;
    lw_visitor visitor;
    void *context;
    uint64_t *longest_ns;
    int again;
};

/* The stack pointer and pc of a thread that sleeps in a system call (the last two numbers of
 * /proc/PID/syscall); false for one that runs, sleeps elsewhere (the first number is -1), or stands
 * in a stop of which we have not heard yet. */
static bool read_sleeper(pid_t tid, struct lw_visit *visit)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
    lw_auto_free char *text = lw_text_read_file(path, NULL);
    char *pc = text && text[0] != '-' ? strrchr(text, ' ') : NULL;
    if (!pc)
        return false;
    *pc++ = '\0';
    char *sp = strrchr(text, ' ');
    if (!sp)
        return false;
    *visit =
        (struct lw_visit){.tid = tid, .sp = strtoull(sp, NULL, 0), .pc = strtoull(pc, NULL, 0)};
    return visit->sp != 0;
}

bool lw_visit_slept_on(const struct lw_visit *visit)
{
    struct lw_visit now;
    struct lw_task_status status;
    /* The count last: it is what the sleep began with. */
    return read_sleeper(visit->tid, &now) && now.pc == visit->pc && now.sp == visit->sp &&
           lw_task_status_read(visit->tid, visit->tid, &status) == 0 &&
           status.sleeps == visit->sleeps;
}

/* Looks at a thread that sleeps, and has any other stop. */
static void approach(struct round *round, struct lw_thread *thread)
{
    struct lw_visit visit;
    struct lw_task_status status;
    if (lw_task_status_read(thread->tid, thread->tid, &status) != 0 || lw_task_has_ended(&status))
        return;
    if (thread->newborn)
        return; /* it has yet to run its first instruction, far from what matters */
    if (!thread->stopped && read_sleeper(thread->tid, &visit)) {
        visit.sleeps = status.sleeps;
        enum lw_visit_result result = round->visitor(round->context, &visit);
        round->again += result == LW_VISIT_AGAIN;
        if (result != LW_VISIT_STOP)
            return;
    }
    /* One that stands in a stop already, of which we are going to hear, is not interrupted: that
     * would outlast this stop, so that the thread would stop again before it has run, to be found
     * in a stop by the next round, and so on. */
    bool stands = status.state == 't' && !thread->stopped;
    thread->interrupted = stands || ptrace(PTRACE_INTERRUPT, thread->tid, NULL, NULL) == 0;
}

/* The thread is in a stop, of whatever kind. */
static void visit_stopped(struct round *round, struct lw_thread *thread)
{
    struct lw_registers registers;
    if (lw_registers_read(thread->tid, &registers) != 0)
        return;
    struct lw_visit visit = {.tid = thread->tid,
                             .pc = lw_registers_pc(&registers),
                             .sp = lw_registers_sp(&registers),
                             .registers = &registers};
    enum lw_visit_result result = round->visitor(round->context, &visit);
    if (result == LW_VISIT_CHANGED)
        lw_registers_write(thread->tid, &registers);
    round->again += result == LW_VISIT_AGAIN;
}

/* One stop of the round; what it means for the watch. */
static enum lw_trace_outcome settle(struct round *round, const struct lw_stop *stop)
{
    struct lw_tracer *tracer = round->tracer;
    struct lw_thread *thread = lw_tracer_thread(tracer, stop->tid);
    bool awaited = thread && thread->interrupted && stop->kind != LW_STOP_EXITED &&
                   stop->kind != LW_STOP_KILLED && stop->kind != LW_STOP_EXEC;
    if (awaited && stop->kind != LW_STOP_SIGNAL && lw_threads_has_trap_pending(stop->tid)) {
        /* It has run into a breakpoint, but the kernel reports our interrupt first: it stands
         * behind the breakpoint, and will stop again before it runs. */
        lw_ptrace_continue(stop->tid, 0);
        return LW_TRACE_GOES_ON;
    }
    struct lw_registers registers;
    bool again;
    const struct lw_breakpoint *breakpoint =
        thread ? lw_tracer_hit(tracer, stop, thread, &registers, &again) : NULL;
    if (breakpoint)
        lw_registers_write_pc(stop->tid,
                              breakpoint->planted ? breakpoint->copy : breakpoint->address);
    if (awaited) {
        thread->interrupted = false;
        visit_stopped(round, thread);
    }
    enum lw_trace_outcome outcome = LW_TRACE_GOES_ON;
    if (breakpoint) {
        lw_ptrace_continue(stop->tid, lw_threads_take_trap(thread));
    } else {
        outcome = lw_tracer_dispatch(tracer, stop);
    }
    if (awaited)
        lw_threads_note_pause(tracer, round->longest_ns);
    return outcome;
}

/* Waits for the threads that were interrupted. */
static int await(struct round *round, uint64_t deadline)
{
    while (lw_threads_count_awaited(round->tracer) > 0) {
        struct lw_stop stop = lw_tracer_next(round->tracer, lw_clock_now() + LW_NS_PER_MS);
        if (stop.kind == LW_STOP_NONE) {
            if (lw_clock_now() >= deadline)
                return -ETIMEDOUT;
            continue;
        }
        switch (settle(round, &stop)) {
        case LW_TRACE_EXEC:
            lw_tracer_abandon(round->tracer);
            return -ESRCH;
        case LW_TRACE_EXITED:
            return -ESRCH;
        default:
            break;
        }
    }
    return 0;
}

/* Threads come and go during the round, and the list is not kept in order. */
static struct lw_thread *next_unvisited(const struct lw_tracer *tracer)
{
    lw_vector_for_each (item, &tracer->threads)
        if ((*item)->visits != tracer->visits)
            return *item;
    return NULL;
}

int lw_tracer_visit(struct lw_tracer *tracer, lw_visitor visitor, void *context, uint64_t deadline,
                    uint64_t *longest_ns)
{
    struct round round = {
        .tracer = tracer, .visitor = visitor, .context = context, .longest_ns = longest_ns};
    int error;
    tracer->visits++;
    tracer->idle_ns = lw_clock_now();
    do {
        for (struct lw_thread *thread; (thread = next_unvisited(tracer));) {
            thread->visits = tracer->visits;
            approach(&round, thread);
        }
        error = await(&round, deadline);
    } while (!error && next_unvisited(tracer));
    /* Who would be interrupted again at once would stop again before it has run. */
    if (!error && round.again > 0)
        nanosleep(&(struct timespec){.tv_nsec = (long)LW_NS_PER_MS}, NULL);
    return error ? error : round.again;
}
