/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking the agent out of the target: ours, or what a leakwatch that was killed has left. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/target/process.h"
#include "leakwatch/trace/leftovers.h"
#include "leakwatch/trace/visit.h"
#include "leakwatch/unwind/unwinder.h"
#include "record.h"
#include "record_return.h"

/* How long to wait for threads to leave the agent; then its memory stays, and is told of. */
#define SETTLE_NS (5 * LW_NS_PER_SECOND)
/* ... but not before they were looked at so often: on a machine that is overloaded, a thread may
 * have had no processor to leave it on. */
#define ROUNDS_MIN 20
#define FRAMES     1024
/* How long to wait for another tracer to let go, and how often to look. */
#define TRACER_NS (30 * LW_NS_PER_SECOND)
#define RETRY_NS  (100 * LW_NS_PER_MS)

struct leaving {
    struct record_return_search search;
    struct lw_unwinder *unwinder;
    struct lw_unwound_frame *frames;
};

/* In the agent's code, or in a landing (its slots and gates). */
static bool is_agent(const struct record_engine *record, uint64_t address)
{
    if (address >= record->base && address < record->base + LW_AGENT_CODE_MAX)
        return true;
    lw_vector_for_each (landing, &record->landings)
        if ((*landing)->mapped && address >= (*landing)->address &&
            address < (*landing)->address + RECORD_LANDING_SIZE)
            return true;
    return false;
}

/* A word on the stack may be left over from a call that is long done: unwinding tells. */
static bool returns_to_agent(struct leaving *leaving, const struct lw_registers *registers)
{
    bool truncated;
    size_t count =
        lw_unwinder_unwind(leaving->unwinder, registers, leaving->frames, FRAMES, &truncated);
    for (size_t i = 0; i < count; i++)
        if (is_agent(leaving->search.record, leaving->frames[i].pc))
            return true;
    return truncated;
}

/*
 * The same of a thread that sleeps in a system call, without waking it: true also where that cannot
 * be told. Stacks of sleepers are often full of old words of ours, since little but the allocator
 * is called between one sleep and the next; and to stop them is not free (lw_threads_restart_call).
 */
static bool may_return_asleep(struct leaving *leaving, const struct lw_visit *visit)
{
    struct lw_registers registers;
    lw_registers_of_sleeper(&registers, visit->pc, visit->sp);
    return returns_to_agent(leaving, &registers) || !lw_visit_slept_on(visit);
}

/*
 * The entries are the program's own again, so nobody comes in any more: who was seen outside once
 * stays outside.
 */
static enum lw_visit_result visit_to_leave(void *context, const struct lw_visit *visit)
{
    struct leaving *leaving = context;
    if (is_agent(leaving->search.record, visit->pc))
        return visit->registers ? LW_VISIT_AGAIN : LW_VISIT_STOP;
    if (!record_may_return(&leaving->search, visit->sp) &&
        !record_is_noted(leaving->search.record, visit->tid))
        return LW_VISIT_DONE;
    if (!visit->registers)
        return may_return_asleep(leaving, visit) ? LW_VISIT_STOP : LW_VISIT_DONE;
    return returns_to_agent(leaving, visit->registers) ? LW_VISIT_AGAIN : LW_VISIT_DONE;
}

/* A module that was closed has taken our jump along. */
static bool is_loaded(struct record_engine *record, const struct record_site *site)
{
    const struct lw_module *module = lw_module_table_find(record->engine.modules, site->entry);
    return module && module->id == site->module;
}

/* True also where nothing is mapped any more. */
static bool is_original(struct record_engine *record, const struct record_site *site)
{
    uint8_t bytes[LW_JUMP_SIZE];
    return lw_memory_read_all(&record->memory.memory, site->entry, bytes, sizeof(bytes)) != 0 ||
           memcmp(bytes, site->original, sizeof(bytes)) == 0;
}

/* A breakpoint where the jump is, or the one that a leakwatch that was killed has left. */
static int stop_at_entry(struct record_engine *record, struct record_site *site)
{
    const uint64_t gate = site->slot + offsetof(struct record_slot, gate);
    int error = site->is_trap
                    ? lw_breakpoint_adopt(record->breakpoints, site->entry, site->original,
                                          LW_JUMP_SIZE, gate, &site->breakpoint)
                    : lw_breakpoint_plant_diverted(record->breakpoints, site->entry, site->jump,
                                                   LW_JUMP_SIZE, gate, &site->breakpoint);
    if (error != -EFAULT && error != -EBUSY)
        return error;
    /* It was closed meanwhile, and may have been loaded again, without our jump. */
    site->breakpoint = NULL;
    site->patched = !is_original(record, site);
    return 0;
}

/* Puts the program's own bytes back where the jumps are. */
static int restore_entries(struct record_engine *record, unsigned *count)
{
    int error = 0;
    lw_vector_for_each (item, &record->sites) {
        struct record_site *site = *item;
        site->breakpoint = NULL;
        if (!error && site->patched && is_loaded(record, site))
            error = stop_at_entry(record, site);
    }
    if (!error)
        error = record_pass_by(record);
    lw_vector_for_each (item, &record->sites) {
        struct record_site *site = *item;
        if (error || !site->breakpoint)
            continue;
        error = lw_breakpoint_replace(record->breakpoints, site->breakpoint, site->original);
        site->patched = error != 0;
        *count += error == 0;
    }
    return error;
}

/* Until no thread is in the agent or will return to it. */
static int await_threads(struct record_engine *record)
{
    const uint64_t deadline = lw_clock_now() + SETTLE_NS;
    struct leaving leaving = {
        .search = {.record = record, .is_ours = is_agent},
        .unwinder = lw_unwinder_create(&record->memory.memory, record->engine.modules),
        .frames = calloc(FRAMES, sizeof(struct lw_unwound_frame)),
    };
    int left = leaving.unwinder && leaving.frames ? 1 : -ENOMEM;
    for (unsigned rounds = 0; left > 0 && (rounds < ROUNDS_MIN || lw_clock_now() < deadline);
         rounds++) {
        left = lw_tracer_visit(record->tracer, visit_to_leave, &leaving, lw_clock_now() + SETTLE_NS,
                               &record->longest_pause_ns);
        record_return_search_deinit(&leaving.search);
    }
    lw_unwinder_destroy(leaving.unwinder);
    free(leaving.frames);
    return left > 0 ? -ETIMEDOUT : left;
}

/* Nothing is planted any more, and every thread has been seen since. */
static int remove_handler_and_unmap(struct record_engine *record, struct lw_remote_call *call)
{
    int error = record_handler_remove(record, call);
    if (!error)
        error = record_unmap(record, call);
    return error || !record->clearing ? error : record_close_leftovers(record, call);
}

static void switch_off(struct record_engine *record)
{
    const uint32_t mode = LW_AGENT_OFF;
    record->control.mode = mode;
    (void)lw_memory_write(&record->memory.memory, record->base + LW_AGENT_CONTROL, &mode,
                          sizeof(mode));
}

/* Until no thread makes a system call any more for the leakwatch that was killed. */
static int await_calls(struct record_engine *record)
{
    struct lw_remote_code code;
    int error = lw_remote_code_find(&code, record->engine.modules);
    return error ? error
                 : lw_leftovers_await_calls(record->tracer, &record->memory.memory, &code,
                                            lw_clock_now() + SETTLE_NS, &record->longest_pause_ns);
}

static bool is_patched(const struct record_engine *record)
{
    lw_vector_for_each (site, &record->sites)
        if ((*site)->patched)
            return true;
    return false;
}

/* Takes everything out, as far as threads let us. */
static int clear(struct record_engine *record, unsigned *restored)
{
    int error = is_patched(record) ? record_borrow(record, record_handler_install) : 0;
    if (error && error != -EPERM) /* then we must not be killed; and the memory will stay */
        return error;
    error = restore_entries(record, restored);
    if (!error)
        error = await_threads(record);
    if (!error)
        return record_borrow(record, remove_handler_and_unmap);
    lw_breakpoint_table_lift_all(record->breakpoints);
    if (record_pass_by(record) == 0)
        record_borrow(record, record_handler_remove);
    return error;
}

/* On the tracer's thread. */
static lw_error *take_out(struct record_engine *record, void *argument)
{
    struct lw_engine_detachment *detachment = argument;
    struct lw_tracer tracer;
    struct lw_leave_result left;
    lw_tracer_init(&tracer, record->engine.attachment.pid, record->breakpoints);
    record->tracer = &tracer;
    if (!record->clearing)
        switch_off(record);
    lw_error *error = lw_tracer_seize(&tracer);
    int result = 0;
    if (!error && lw_process_memory_is_gone(&record->memory)) /* what is there now is not ours */
        error = lw_error_create(ESRCH, "process %d has ended", (int)tracer.pid);
    if (!error && record->clearing) {
        result = await_calls(record);
        error = record_find_leftovers(record);
        if (!error)
            switch_off(record);
    }
    if (!error && !result)
        result = clear(record, &detachment->probes_removed);
    if (result == -ETIMEDOUT)
        lw_warn("a thread of process %d has been inside an allocator function for %d s: the "
                "recorder is switched off and out of its way, but its memory stays mapped",
                (int)tracer.pid, (int)(SETTLE_NS / LW_NS_PER_SECOND));
    else if (result == -EPERM)
        lw_warn(
            "every thread of process %d filters its system calls by now (seccomp): the recorder "
            "is switched off, but its memory stays mapped",
            (int)tracer.pid);
    else if (result && result != -ESRCH)
        lw_warn("cannot take the recorder's memory out of process %d: %s", (int)tracer.pid,
                strerror(-result));
    int restored = lw_tracer_leave(&tracer, &left);
    if (left.longest_pause_ns > record->longest_pause_ns)
        record->longest_pause_ns = left.longest_pause_ns;
    detachment->threads = left.threads;
    detachment->stopped = left.stopped;
    const bool is_gone =
        (error && lw_error_code(error) == ESRCH) || lw_process_memory_is_gone(&record->memory);
    detachment->restored = is_gone || (!error && (restored == 0 || restored == -ESRCH));
    lw_vector_for_each (site, &record->sites)
        detachment->restored &= is_gone || !(*site)->patched || !is_loaded(record, *site);
    lw_tracer_deinit(&tracer);
    record->tracer = NULL;
    return error;
}

/* A debugger that has attached meanwhile must let go first; the recorder is off already. */
static bool wait_for_tracer(const struct record_engine *record, const lw_error *error,
                            unsigned tries)
{
    struct lw_task_status status;
    const pid_t pid = record->engine.attachment.pid;
    if (!error || tries >= TRACER_NS / RETRY_NS || lw_task_status_read(pid, pid, &status) != 0 ||
        status.tracer == 0)
        return false;
    if (tries == 0)
        lw_warn("process %d is being traced by process %d: waiting until that detaches, to take "
                "the recorder out",
                (int)pid, (int)status.tracer);
    nanosleep(&(struct timespec){.tv_nsec = (long)RETRY_NS}, NULL);
    return true;
}

lw_error *record_leave(struct record_engine *record, struct lw_engine_detachment *detachment)
{
    lw_error *error = NULL;
    for (unsigned tries = 0; tries == 0 || wait_for_tracer(record, error, tries - 1); tries++) {
        lw_error_destroy(error);
        *detachment = (struct lw_engine_detachment){0};
        record->longest_pause_ns = 0;
        (void)lw_module_table_refresh(record->engine.modules, NULL);
        error = record_create_breakpoints(record);
        if (!error)
            error = record_on_tracer_thread(record, take_out, detachment);
        detachment->pause_ns = record->longest_pause_ns;
    }
    return error;
}
