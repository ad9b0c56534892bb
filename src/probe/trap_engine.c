/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The trap engine: attaching, the event loop, leaving. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/target/process.h"
#include "leakwatch/trace/guard.h"
#include "trap.h"

static struct trap_engine *trap_of(struct lw_engine *engine)
{
    return (struct trap_engine *)engine; /* its first member */
}

static lw_error *out_of_memory(void)
{
    return lw_error_create(ENOMEM, "out of memory");
}

/* Opens what is read of the process: its memory and its modules. Nothing of it is touched yet. */
static lw_error *open_process(struct trap_engine *trap, pid_t pid)
{
    lw_error *error = lw_process_memory_init(&trap->memory, pid);
    if (error)
        return error;
    trap->memory_open = true;
    trap->engine.modules = lw_module_table_create(pid, &trap->memory.memory);
    if (!trap->engine.modules)
        return out_of_memory();
    int result = lw_module_table_refresh(trap->engine.modules, NULL);
    if (result)
        return lw_error_create(-result, "cannot read the modules of process %d: %s", (int)pid,
                               strerror(-result));
    trap->breakpoints = lw_breakpoint_table_create(&trap->memory.memory, trap->engine.modules);
    if (!trap->breakpoints)
        return out_of_memory();
    lw_masked_memory_init(&trap->masked, &trap->memory.memory, trap->breakpoints);
    trap->unwinder = lw_unwinder_create(&trap->masked.memory, trap->engine.modules);
    trap->tracer.breakpoints = trap->breakpoints;
    if (!trap->unwinder)
        return out_of_memory();
    lw_unwinder_prepare(trap->unwinder); /* while nobody is stopped */
    return trap_find_allocators(trap);
}

static void init_tracer(struct trap_engine *trap, pid_t pid)
{
    lw_tracer_init(&trap->tracer, pid, NULL);
    trap->tracer.thread_gone = trap_thread_gone;
    trap->tracer.context = trap;
}

/*
 * Plants the probes. Until the dynamic linker's breakpoint is there, a library may be closed unseen
 * between the look at the modules and the planting: when that fails, and the modules have changed,
 * it is tried again.
 */
static lw_error *plant(struct trap_engine *trap)
{
    lw_error *error = trap_watch_linker(trap);
    for (int tries = 0; !error && tries < 5; tries++) {
        error = trap_refresh_modules(trap);
        if (error)
            return error;
        error = trap_plant_probes(trap);
        bool changed = false;
        if (!error || lw_module_table_refresh(trap->engine.modules, &changed) != 0 || !changed)
            return error;
        lw_error_destroy(error);
        lw_breakpoint_table_forget_unmapped(trap->breakpoints);
        error = NULL;
    }
    return error;
}

static lw_error *explain_guard(struct trap_engine *trap, int result)
{
    if (result == -ESRCH)
        return lw_error_create(ESRCH, "process %d has ended", (int)trap->tracer.pid);
    lw_info("process %d will not survive a SIGKILL of leakwatch: %s", (int)trap->tracer.pid,
            strerror(-result));
    return NULL;
}

/* What makes a remote call safe, and permitted. */
static int may_call(struct trap_engine *trap, struct lw_remote_code *code)
{
    int result = lw_remote_code_find(code, trap->engine.modules);
    return !result && code->sigreturn == 0 ? -ENOTSUP : result;
}

/* Puts the guard in, by a thread that is borrowed for it; *call is left to be ended, or NULL. */
static lw_error *guard(struct trap_engine *trap, bool hold, struct lw_remote_call **call)
{
    struct lw_remote_code code;
    *call = NULL;
    int result = may_call(trap, &code);
    if (!result && hold)
        lw_tracer_hold(lw_tracer_thread(&trap->tracer, trap->tracer.pid));
    if (!result)
        result = lw_remote_call_begin(&trap->tracer, &code, call);
    if (!result)
        result = lw_guard_install(trap->breakpoints, *call);
    return result ? explain_guard(trap, result) : NULL;
}

static void end_call(struct trap_engine *trap, struct lw_remote_call *call)
{
    uint64_t pause = 0;
    if (call)
        lw_remote_call_end(call, &pause);
    if (pause > trap->tracer.attach_pause_ns)
        trap->tracer.attach_pause_ns = pause;
}

/* The process is traced from here on, and must be left with what is planted. */
static lw_error *arm(struct trap_engine *trap)
{
    lw_error *error = plant(trap);
    trap->engine.attachment.pid = trap->tracer.pid;
    trap->engine.attachment.pause_ns = trap->tracer.attach_pause_ns;
    trap->engine.attachment.threads = (unsigned)trap->tracer.threads.count;
    trap->engine.armed = trap->engine.attachment.sets.count > 0;
    return error;
}

/* Where that cannot be done, planting tells what is in the way, if anything is. */
static void clear_leftovers(pid_t pid)
{
    lw_error *error = lw_engine_clear_leftovers(pid);
    if (error)
        lw_info("%s", lw_error_message(error));
    lw_error_destroy(error);
}

static lw_error *trap_attach(struct lw_engine *engine, pid_t pid)
{
    struct trap_engine *trap = trap_of(engine);
    init_tracer(trap, pid);
    struct lw_task_status
        status; /* as it is untraced: tracing shows a stopped process in another state */
    engine->attachment.stopped = lw_task_status_read(pid, pid, &status) == 0 && status.state == 'T';
    clear_leftovers(pid);
    lw_error *error = open_process(trap, pid);
    if (!error && engine->attachment.sets.count == 0)
        error = lw_allocator_explain_none(pid);
    if (!error)
        error = lw_tracer_seize(&trap->tracer);
    trap->attached = error == NULL;
    struct lw_remote_call *call = NULL;
    if (!error)
        error = guard(trap, false, &call);
    end_call(trap, call);
    return error ? error : arm(trap);
}

static lw_error *trap_launch(struct lw_engine *engine, char *const argv[], const sigset_t *mask)
{
    struct trap_engine *trap = trap_of(engine);
    engine->attachment.from_start = true;
    init_tracer(trap, 0);
    lw_error *error = lw_tracer_spawn(&trap->tracer, argv, mask);
    if (error)
        return error;
    lw_guardian_watch(engine->options.guardian, trap->tracer.pid);
    error = open_process(trap, trap->tracer.pid);
    trap->attached = error == NULL;
    struct lw_remote_call *call = NULL;
    if (!error)
        error = guard(trap, true, &call);
    if (!error)
        error = arm(trap);
    if (!error && !engine->armed && !trap->linker_watched)
        error = lw_allocator_explain_none(trap->tracer.pid); /* nothing will be loaded later */
    if (call)                                                /* and with it the thread runs */
        lw_remote_call_end(call, NULL);
    else if (!error)
        lw_tracer_resume(trap->tracer.pid);
    return error;
}

/* True when the stop was a breakpoint's. */
static bool handle_hit(struct trap_engine *trap, const struct lw_stop *stop,
                       struct lw_thread *thread)
{
    struct trap_hit hit = {.thread = thread};
    bool again = false;
    hit.breakpoint = lw_tracer_hit(&trap->tracer, stop, thread, &hit.registers, &again);
    if (!hit.breakpoint)
        return false;
    bool counts = !again && hit.breakpoint->planted;
    if (counts)
        trap_examine_hit(trap, &hit);
    lw_tracer_pass(thread, hit.breakpoint);
    if (counts)
        trap_account_hit(trap, &hit);
    return true;
}

/* Deals with one stop; what it means for the watch. */
static struct lw_engine_outcome dispatch(struct trap_engine *trap, const struct lw_stop *stop)
{
    struct lw_engine_outcome outcome = {.end = LW_ENGINE_RUNS};
    struct lw_thread *thread = lw_tracer_thread(&trap->tracer, stop->tid);
    if (thread && handle_hit(trap, stop, thread))
        return outcome;
    switch (lw_tracer_dispatch(&trap->tracer, stop)) {
    case LW_TRACE_GOES_ON:
        break;
    case LW_TRACE_EXITED:
        outcome.end = stop->kind == LW_STOP_KILLED ? LW_ENGINE_KILLED : LW_ENGINE_EXITED;
        outcome.status = stop->status;
        outcome.signal = stop->signal;
        break;
    case LW_TRACE_EXEC:
        /* The new image has never had a breakpoint of ours. */
        lw_tracer_abandon(&trap->tracer);
        outcome.end = LW_ENGINE_EXEC;
        break;
    }
    /* A vfork child may still be using the memory of a process that was killed. */
    if (outcome.end != LW_ENGINE_RUNS)
        trap->attached = trap->tracer.threads.count > 0;
    return outcome;
}

static struct lw_engine_outcome trap_run(struct lw_engine *engine, uint64_t deadline)
{
    struct trap_engine *trap = trap_of(engine);
    for (;;) {
        struct lw_stop stop = lw_tracer_next(&trap->tracer, deadline);
        if (stop.kind == LW_STOP_NONE)
            return (struct lw_engine_outcome){.end = LW_ENGINE_RUNS};
        struct lw_engine_outcome outcome = dispatch(trap, &stop);
        if (outcome.end != LW_ENGINE_RUNS)
            return outcome;
    }
}

static void trap_stop(struct lw_engine *engine, struct lw_engine_detachment *detachment)
{
    struct trap_engine *trap = trap_of(engine);
    *detachment = (struct lw_engine_detachment){.restored = true};
    if (trap->attached) {
        struct lw_leave_result left;
        unsigned lifted = 0;
        uint64_t pause = 0;
        int guarded = lw_guard_remove(&trap->tracer, &lifted, &pause);
        int error = lw_tracer_leave(&trap->tracer, &left);
        if (!error)
            error = guarded;
        left.breakpoints += lifted;
        if (pause > left.longest_pause_ns)
            left.longest_pause_ns = pause;
        *detachment = (struct lw_engine_detachment){
            .threads = left.threads,
            .probes_removed = left.breakpoints,
            .pause_ns = left.longest_pause_ns,
            .stopped = left.stopped,
            .restored = error == 0 || error == -ESRCH,
        };
        if (error == -EPERM && error == guarded)
            lw_warn("every thread of process %d filters its system calls by now (seccomp): the "
                    "breakpoints are out, but a handler for SIGTRAP stays, in padding of its code",
                    (int)trap->tracer.pid);
        else if (!detachment->restored)
            lw_log(LW_LOG_ERROR, "cannot restore the code of process %d: %s", (int)trap->tracer.pid,
                   strerror(-error));
    }
    trap->attached = false;
    lw_tracer_deinit(&trap->tracer);
}

static bool trap_verify(struct lw_engine *engine, uint64_t *bytes)
{
    size_t compared = 0;
    bool equal = lw_breakpoint_table_verify(trap_of(engine)->breakpoints, &compared);
    *bytes = compared;
    return equal;
}

static void trap_wake(struct lw_engine *engine)
{
    lw_tracer_wake(&trap_of(engine)->tracer);
}

static struct lw_snapshot *trap_snapshot(struct lw_engine *engine,
                                         const struct lw_snapshot_request *request)
{
    struct trap_engine *trap = trap_of(engine);
    return lw_snapshot_create(trap->ledger, trap->stacks, lw_clock_now(), request);
}

static void trap_totals(struct lw_engine *engine, struct lw_ledger_totals *totals,
                        struct lw_event_counts *events)
{
    struct trap_engine *trap = trap_of(engine);
    lw_ledger_totals(trap->ledger, lw_clock_now(), totals);
    *events = *lw_ledger_events(trap->ledger);
}

static void trap_destroy(struct lw_engine *engine)
{
    struct trap_engine *trap = trap_of(engine);
    lw_vector_for_each (set, &engine->attachment.sets)
        lw_allocator_set_deinit(set);
    lw_vector_deinit(&engine->attachment.sets);
    lw_vector_for_each (probe, &trap->probes)
        free(*probe);
    lw_vector_deinit(&trap->probes);
    lw_unwinder_destroy(trap->unwinder);
    lw_breakpoint_table_destroy(trap->breakpoints);
    lw_module_table_destroy(engine->modules);
    if (trap->memory_open)
        lw_process_memory_deinit(&trap->memory);
    lw_ledger_destroy(trap->ledger);
    lw_stack_table_destroy(trap->stacks);
    free(trap->unwound);
    free(trap->frames);
    free(trap);
}

static const struct lw_engine_ops trap_ops = {
    .name = "trap",
    .attach = trap_attach,
    .launch = trap_launch,
    .run = trap_run,
    .stop = trap_stop,
    .verify = trap_verify,
    .wake = trap_wake,
    .snapshot = trap_snapshot,
    .totals = trap_totals,
    .destroy = trap_destroy,
};

/* A quarter for stacks, whose number the blocks soon exceed. */
static void limit_memory(struct trap_engine *trap, uint64_t bytes)
{
    enum { FIGURES = 384 }; /* of a stack, in the ledger and in the report */
    uint64_t blocks = bytes / 4 * 3 / LW_LEDGER_BLOCK_BYTES;
    if (bytes == 0)
        return;
    lw_stack_table_limit(trap->stacks, bytes / 4, FIGURES);
    lw_ledger_limit(trap->ledger, blocks < UINT32_MAX ? (uint32_t)blocks : UINT32_MAX);
}

struct lw_engine *lw_trap_engine_create(const struct lw_engine_options *options)
{
    struct trap_engine *trap = calloc(1, sizeof(*trap));
    if (!trap)
        return NULL;
    trap->engine.ops = &trap_ops;
    trap->engine.options = *options;
    trap->stacks = lw_stack_table_create();
    trap->ledger = lw_ledger_create(options->expire_ns);
    trap->unwound = calloc(options->depth, sizeof(*trap->unwound));
    trap->frames = calloc(options->depth, sizeof(*trap->frames));
    if (!trap->stacks || !trap->ledger || !trap->unwound || !trap->frames) {
        trap_destroy(&trap->engine);
        return NULL;
    }
    limit_memory(trap, options->max_memory);
    return &trap->engine;
}
