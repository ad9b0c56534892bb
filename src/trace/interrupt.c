/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stopping as few threads as possible: those that may be on their way to something. */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/text.h"
#include "leakwatch/target/process.h"
#include "threads.h"

/* Does this call make a process with a copy of the caller's memory? */
static bool copies_memory(unsigned long number, unsigned long first_argument)
{
    return number == SYS_fork || number == SYS_clone3 ||
           (number == SYS_clone && !(first_argument & CLONE_VM));
}

/*
 * A thread asleep in a system call stands behind its syscall instruction, and those are never
 * displaced: it is in no copy and has no trap on its way. /proc/PID/syscall says "running", or "-1
 * SP PC" for one that sleeps elsewhere (a page fault), or "NUMBER ARGUMENTS... SP PC". One that is
 * just forking may be making a child with our breakpoints in it, and must be heard of it.
 */
static bool sleeps_in_system_call(pid_t tid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
    lw_auto_free char *text = lw_text_read_file(path, NULL);
    unsigned long number, first_argument;
    return text && text[0] != '-' && sscanf(text, "%lu %lx", &number, &first_argument) == 2 &&
           !copies_memory(number, first_argument);
}

static bool has_ended(pid_t tid)
{
    struct lw_task_status status;
    return lw_task_status_read(tid, tid, &status) != 0 || lw_task_has_ended(&status);
}

/*
 * An interrupt or a group-stop is reported before a signal that is pending, so a thread that has
 * just run into a breakpoint may be seen to stop behind it first. Only a breakpoint raises SIGTRAP
 * for the thread alone and unblocks it.
 */
bool lw_threads_has_trap_pending(pid_t tid)
{
    struct lw_task_status status;
    return lw_task_status_read(tid, tid, &status) == 0 &&
           (status.signals_directed & LW_SIGTRAP_BIT) && !(status.signals_blocked & LW_SIGTRAP_BIT);
}

/* Is the thread where it is neither on its way into a trap nor in a copy, or will it stop by
 * itself? */
static bool is_idle(const struct lw_thread *thread)
{
    if (thread->newborn)
        return true;
    if (thread->stopped)
        return !lw_threads_has_trap_pending(thread->tid);
    return sleeps_in_system_call(thread->tid) || has_ended(thread->tid);
}

size_t lw_threads_interrupt_running(struct lw_tracer *tracer)
{
    size_t count = 0;
    lw_vector_for_each (item, &tracer->threads) {
        struct lw_thread *thread = *item;
        thread->interrupted =
            thread->interrupted ||
            (!is_idle(thread) && ptrace(PTRACE_INTERRUPT, thread->tid, NULL, NULL) == 0);
        count += thread->interrupted;
    }
    return count;
}

void lw_threads_let_others_take_signals(const struct lw_tracer *tracer, pid_t tid)
{
    struct lw_task_status status;
    if (tracer->threads.count < 2 || lw_task_status_read(tracer->pid, tid, &status) != 0 ||
        (status.signals_pending & ~status.signals_blocked) == 0)
        return;
    lw_vector_for_each (item, &tracer->threads) {
        struct lw_thread *thread = *item;
        if (thread->tid != tid && !thread->interrupted && !is_idle(thread))
            thread->interrupted = ptrace(PTRACE_INTERRUPT, thread->tid, NULL, NULL) == 0;
    }
}

size_t lw_threads_count_awaited(const struct lw_tracer *tracer)
{
    size_t count = 0;
    lw_vector_for_each (item, &tracer->threads)
        count += (*item)->interrupted || (*item)->newborn;
    return count;
}
