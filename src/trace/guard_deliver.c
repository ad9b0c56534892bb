/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SIGTRAPs of the program's own whose handler the kernel has taken away because of our traps. */
#include <signal.h>
#include <sys/ptrace.h>

#include "breakpoint_table.h"
#include "leakwatch/arch/signal_frame.h"
#include "leakwatch/target/process.h"
#include "threads.h"

#define RED_ZONE 128 /* bytes below the stack pointer that belong to the function */
#define IGNORE   1   /* SIG_IGN, as a handler's address */

static bool is_handler_lost(const struct lw_tracer *tracer)
{
    struct lw_task_status status;
    bool lost = tracer->lost_handler;
    lw_vector_for_each (thread, &tracer->threads)
        lost |= (*thread)->unblocked;
    return lost && lw_task_status_read(tracer->pid, tracer->pid, &status) == 0 &&
           !(status.signals_caught & LW_SIGTRAP_BIT);
}

/* Puts the signal frame of the handler below the thread's stack. Whether the program has an
 * alternate stack for it cannot be known from outside. */
static int write_frame(struct lw_memory *memory, pid_t tid, const struct lw_signal_action *action,
                       siginfo_t *info, struct lw_registers *registers, uint64_t mask)
{
    struct lw_signal_frame frame;
    const uint64_t at = (lw_registers_sp(registers) - RED_ZONE - sizeof(*info)) & ~15ull;
    lw_registers_break_off_call(registers, action->flags & LW_SA_RESTART);
    int error = lw_signal_frame_build(&frame, tid, registers, mask, at, action->restorer);
    if (error)
        return error;
    error = lw_memory_write(memory, at, info, sizeof(*info));
    if (!error)
        error = lw_memory_write(memory, frame.address, frame.bytes, frame.size);
    const uint64_t arguments[3] = {SIGTRAP, at, lw_signal_frame_context(&frame)};
    lw_registers_enter_handler(registers, action->handler, arguments, frame.address);
    lw_signal_frame_deinit(&frame);
    return error;
}

static bool call_handler(struct lw_memory *memory, pid_t tid, const struct lw_signal_action *action,
                         siginfo_t *info)
{
    struct lw_registers registers;
    uint64_t mask, during;
    if (lw_registers_read(tid, &registers) != 0 ||
        ptrace(PTRACE_GETSIGMASK, tid, sizeof(mask), &mask) != 0 ||
        write_frame(memory, tid, action, info, &registers, mask) != 0)
        return false;
    during = mask | action->mask | (action->flags & LW_SA_NODEFER ? 0 : LW_SIGTRAP_BIT);
    return ptrace(PTRACE_SETSIGMASK, tid, sizeof(during), &during) == 0 &&
           lw_registers_write(tid, &registers) == 0;
}

bool lw_guard_deliver(struct lw_tracer *tracer, struct lw_thread *thread)
{
    struct lw_breakpoint_table *table = tracer->breakpoints;
    struct lw_signal_action action;
    siginfo_t info;
    if (!table || !table->guard.installed || !is_handler_lost(tracer) ||
        lw_memory_read_all(table->memory, table->guard.place + LW_TRAP_HANDLER_DATA, &action,
                           sizeof(action)) != 0 ||
        ptrace(PTRACE_GETSIGINFO, thread->tid, NULL, &info) != 0)
        return false;
    /* Its own breakpoint ends a program that ignores the signal. */
    if (action.handler == IGNORE && info.si_code <= 0)
        lw_threads_restart_call(thread);
    else if (action.handler <= IGNORE || !call_handler(table->memory, thread->tid, &action, &info))
        return false;
    lw_ptrace_continue(thread->tid, 0);
    return true;
}
