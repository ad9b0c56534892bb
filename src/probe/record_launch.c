/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting a command with the agent in it from its allocator's first call. */
#include <errno.h>
#include <link.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "leakwatch/base/clock.h"
#include "record.h"

/* The dynamic linker's start, with all its libraries, on however slow a disk. */
#define LOAD_NS (60 * LW_NS_PER_SECOND)

static bool is_consistent(struct record_engine *record)
{
    int state;
    return record->linker_state == 0 ||
           (lw_memory_read_all(&record->memory.memory, record->linker_state, &state,
                               sizeof(state)) == 0 &&
            state == RT_CONSISTENT);
}

static lw_error *look_for_allocator(struct record_engine *record)
{
    int result = lw_module_table_refresh(record->engine.modules, NULL);
    if (result)
        return lw_error_create(-result, "cannot read the modules of process %d: %s",
                               (int)record->engine.attachment.pid, strerror(-result));
    return record_find_allocators(record);
}

static bool has_allocator(const struct record_engine *record)
{
    return record->engine.attachment.sets.count > 0;
}

/* One stop on the way; *thread is set when everything is there, and the thread stands still. */
static lw_error *step(struct record_engine *record, const struct lw_stop *stop,
                      struct lw_thread **thread)
{
    struct lw_registers registers;
    bool again;
    struct lw_thread *its = lw_tracer_thread(record->tracer, stop->tid);
    struct lw_breakpoint *breakpoint =
        its ? lw_tracer_hit(record->tracer, stop, its, &registers, &again) : NULL;
    if (!breakpoint) {
        enum lw_trace_outcome outcome = lw_tracer_dispatch(record->tracer, stop);
        if (outcome == LW_TRACE_EXEC)
            lw_tracer_abandon(record->tracer);
        return outcome == LW_TRACE_GOES_ON
                   ? NULL
                   : lw_error_create(ESRCH, "the command ended before it had an allocator");
    }
    lw_error *error = look_for_allocator(record);
    if (error || !has_allocator(record) || !is_consistent(record)) {
        lw_tracer_pass(its, breakpoint);
        return error;
    }
    int result = lw_breakpoint_lift(record->breakpoints, breakpoint);
    if (!result)
        result = lw_registers_write_pc(its->tid, breakpoint->address);
    *thread = its;
    return result ? lw_error_create(-result, "cannot start the command: %s", strerror(-result))
                  : NULL;
}

/* Lets the dynamic linker load what the command needs; the thread then stands in its
 * _dl_debug_state, before any of the program's own code. */
static lw_error *await_allocator(struct record_engine *record, struct lw_thread **thread)
{
    const uint64_t deadline = lw_clock_now() + LOAD_NS;
    struct lw_breakpoint *breakpoint;
    if (record->linker_entry == 0)
        return lw_allocator_explain_none(record->engine.attachment.pid);
    int result = lw_breakpoint_plant(record->breakpoints, record->linker_entry, NULL, &breakpoint);
    if (result)
        return lw_error_create(ENOTSUP, "cannot follow the loading of libraries: %s",
                               strerror(-result));
    lw_tracer_resume(record->tracer->pid);
    lw_error *error = NULL;
    while (!error && !*thread && lw_clock_now() < deadline && !record->woken) {
        struct lw_stop stop = lw_tracer_next(record->tracer, lw_clock_now() + 10 * LW_NS_PER_MS);
        if (stop.kind != LW_STOP_NONE)
            error = step(record, &stop, thread);
    }
    if (!error && !*thread)
        error = lw_error_create(ETIMEDOUT, "the command does not load an allocator");
    return error;
}

static lw_error *begin_launch(struct record_engine *record, const struct record_arming *arming)
{
    lw_error *error = lw_tracer_spawn(record->tracer, arming->argv, arming->mask);
    if (error)
        return error;
    const pid_t pid = record->tracer->pid;
    record->engine.attachment.pid = record->child = pid;
    lw_guardian_watch(record->engine.options.guardian, pid);
    error = record_open_process(record);
    if (!error)
        error = record_create_breakpoints(record);
    record->tracer->breakpoints = record->breakpoints;
    struct lw_thread *thread = lw_tracer_thread(record->tracer, pid);
    if (!error && !has_allocator(record)) {
        thread = NULL;
        error = await_allocator(record, &thread);
    }
    if (!error)
        error = record_prepare(record);
    /* The linker's function is going to be patched for good. */
    if (!error)
        lw_breakpoint_table_forget(record->breakpoints, record->linker_entry);
    if (!error)
        lw_tracer_hold(thread);
    return error;
}

lw_error *record_launch(struct record_engine *record, char *const argv[], const sigset_t *mask)
{
    const struct record_arming arming = {
        .begin = begin_launch, .argv = argv, .mask = mask, .alone = true};
    record->engine.attachment.from_start = true;
    lw_error *error = record_on_tracer_thread(record, record_arm, (void *)&arming);
    if (!error) {
        record_finish_arming(record);
    } else if (record->child) {
        /* It has run none of its own code yet; another engine may start it again. */
        kill(record->child, SIGKILL);
        waitpid(record->child, NULL, 0);
        record->child = 0;
        record->base = 0;
    }
    return error;
}
