/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Putting the agent into the target. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/agent/blob.h"
#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/target/process.h"
#include "leakwatch/trace/visit.h"
#include "record.h"
#include "record_return.h"

/* How long to wait until no thread is in the few bytes that are overwritten. */
#define SETTLE_NS LW_NS_PER_SECOND
/* ... but not before they were looked at so often: on a machine that is overloaded, a thread may
 * have had no processor to leave them on. */
#define ROUNDS_MIN 20
/* How often to look for another place, when the target has taken the one that was chosen. */
#define PLACE_TRIES 5

static lw_error *target_has_ended(const struct record_engine *record)
{
    struct lw_task_status status;
    const pid_t pid = record->engine.attachment.pid;
    bool has_ended = lw_task_status_read(pid, pid, &status) != 0 || lw_task_has_ended(&status);
    return lw_error_create(ESRCH,
                           has_ended ? "process %d has ended"
                                     : "process %d has just started another program: try again, to "
                                       "watch that",
                           (int)pid);
}

static lw_error *not_possible(const char *what, int error)
{
    return lw_error_create(ENOTSUP, "%s: %s", what, strerror(-error));
}

static void note_pause(struct record_engine *record, uint64_t pause_ns)
{
    if (pause_ns > record->longest_pause_ns)
        record->longest_pause_ns = pause_ns;
}

/* ---- the agent's own memory ---- */

/* Where a thread's id is, seen from its thread pointer: both C libraries keep it there. */
static uint32_t find_tid_offset(struct record_engine *record, uint64_t pointer, pid_t tid)
{
    uint32_t words[512];
    uint32_t found = 0;
    if (lw_memory_read_all(&record->memory.memory, pointer, words, sizeof(words)) != 0)
        return 0;
    for (uint32_t i = 1; i < sizeof(words) / sizeof(words[0]); i++) {
        if (words[i] != (uint32_t)tid)
            continue;
        if (found)
            return 0; /* which of them is it? */
        found = i * (uint32_t)sizeof(words[0]);
    }
    return found;
}

static void fill_control(struct record_engine *record)
{
    const struct lw_engine_options *options = &record->engine.options;
    struct lw_agent_control *control = &record->control;
    control->depth =
        options->depth < LW_AGENT_DEPTH_MAX ? (uint32_t)options->depth : LW_AGENT_DEPTH_MAX;
    control->expire_ticks = record_expire_ticks(options->expire_ns);
    control->min_size = options->min_size;
    control->max_size = options->max_size;
    control->linker_state = record->linker_state;
    control->new_handler = record->new_handler;
    /* A gate is called by the agent, and may end in a jump to another function. */
    control->ranges[0][0] = record->base;
    control->ranges[0][1] = record->base + LW_AGENT_CODE_MAX;
    control->range_count = 1;
    lw_vector_for_each (set, &record->engine.attachment.sets) {
        const struct lw_module *module = lw_module_table_get(record->engine.modules, set->module);
        if (!module->loaded || control->range_count == LW_AGENT_RANGES)
            continue;
        control->ranges[control->range_count][0] = module->start;
        control->ranges[control->range_count++][1] = module->end;
    }
}

static int write_control(struct record_engine *record)
{
    return lw_memory_write(&record->memory.memory, record->base + LW_AGENT_CONTROL,
                           &record->control, sizeof(record->control));
}

/* One word, so that all threads begin to record at one moment. */
static int switch_on(struct record_engine *record)
{
    record->control.mode = record_is_sampled(record) ? LW_AGENT_SAMPLED : LW_AGENT_EXACT;
    return lw_memory_write(&record->memory.memory, record->base + LW_AGENT_CONTROL,
                           &record->control.mode, sizeof(record->control.mode));
}

static int prepare_shared(struct record_engine *record)
{
    struct lw_agent_shared *shared = record->shared;
    shared->magic = LW_AGENT_MAGIC;
    shared->version = 1;
    record_clock_start(record);
    int error = record_view_init(&record->view, record->shared_fd, shared, &record->engine.options,
                                 record->engine.modules, record->start_ns);
    record->view_ready = error == 0;
    record_sampling_start(record);
    if (!error)
        error = record_publish_modules(record);
    return error ? error : record_publish_regions(record);
}

static int write_agent(struct record_engine *record)
{
    int error = lw_agent_blob_size > RECORD_HANDLER
                    ? -E2BIG
                    : lw_memory_write(&record->memory.memory, record->base, lw_agent_blob,
                                      lw_agent_blob_size);
    if (!error)
        error = prepare_shared(record);
    fill_control(record);
    return error ? error : write_control(record);
}

/* ---- patches ---- */

static const struct record_site *site_inside(const struct record_engine *record, uint64_t address)
{
    lw_vector_for_each (site, &record->sites)
        if (!(*site)->patched && address > (*site)->entry &&
            address < (*site)->entry + LW_JUMP_SIZE)
            return *site;
    return NULL;
}

/* The place of the gate that is the same as this one of the function; 0: none. */
static uint64_t place_in_gate(const struct record_site *site, uint64_t address)
{
    for (unsigned i = 0; i < site->gate.place_count; i++)
        if (site->gate.places[i].address == address && site->gate.places[i].stack == 0)
            return site->slot + offsetof(struct record_slot, gate) + site->gate.places[i].offset;
    return 0;
}

/* Moves a thread out of what is about to be overwritten; one that will return there later (from a
 * signal handler) is waited for. */
static enum lw_visit_result visit_before_patch(void *context, const struct lw_visit *visit)
{
    struct record_return_search *search = context;
    struct record_engine *record = search->record;
    if (record_may_return(search, visit->sp))
        return LW_VISIT_AGAIN;
    const struct record_site *site = site_inside(record, visit->pc);
    if (!site)
        return LW_VISIT_DONE;
    uint64_t place = place_in_gate(site, visit->pc);
    if (!visit->registers || !place)
        return LW_VISIT_AGAIN;
    lw_registers_set_pc(visit->registers, place);
    return LW_VISIT_CHANGED;
}

/* A word of a stack that is the address of what is about to be overwritten. */
static bool is_in_window(const struct record_engine *record, uint64_t word)
{
    return site_inside(record, word) != NULL;
}

static int plant_all(struct record_engine *record)
{
    int error = 0;
    lw_vector_for_each (item, &record->sites) {
        struct record_site *site = *item;
        if (!error && !site->patched)
            error = lw_breakpoint_plant_diverted(
                record->breakpoints, site->entry, site->original, LW_JUMP_SIZE,
                site->slot + offsetof(struct record_slot, gate), &site->breakpoint);
    }
    return error;
}

static int replace_all(struct record_engine *record)
{
    int error = 0;
    lw_vector_for_each (item, &record->sites) {
        struct record_site *site = *item;
        if (error || site->patched)
            continue;
        error = lw_breakpoint_replace(record->breakpoints, site->breakpoint, site->jump);
        site->patched = error == 0;
    }
    return error;
}

/* Until no thread is, or will return to, where the jumps go. */
static int clear_windows(struct record_engine *record)
{
    const uint64_t deadline = lw_clock_now() + SETTLE_NS;
    uint64_t pause = 0;
    unsigned rounds = 0;
    int left;
    do {
        struct record_return_search search = {.record = record, .is_ours = is_in_window};
        left = lw_tracer_visit(record->tracer, visit_before_patch, &search,
                               lw_clock_now() + 5 * SETTLE_NS, &pause);
        record_return_search_deinit(&search);
    } while (left > 0 && (++rounds < ROUNDS_MIN || lw_clock_now() < deadline));
    note_pause(record, pause);
    return left > 0 ? -ETIMEDOUT : left;
}

static lw_error *explain_patching(const struct record_engine *record, int error)
{
    switch (error) {
    case 0:
        return NULL;
    case -ESRCH:
        return target_has_ended(record);
    case -EBUSY:
        return lw_error_create(EBUSY,
                               "the allocator's code in process %d is not what its file has: "
                               "another tool has patched it; end that one, or restart the process",
                               (int)record->engine.attachment.pid);
    case -ETIMEDOUT:
        return lw_error_create(ENOTSUP, "a thread does not leave the beginning of a function that "
                                        "is to be patched");
    default:
        return not_possible("the allocator's code cannot be patched", error);
    }
}

static lw_error *patch(struct record_engine *record)
{
    int error = record_borrow(record, record_handler_install);
    if (error)
        return explain_patching(record, error);
    error = plant_all(record);
    if (!error)
        error = clear_windows(record);
    if (!error)
        error = replace_all(record);
    /* Also after an error: the handler stays no longer than what it is there for. */
    lw_breakpoint_table_lift_all(record->breakpoints);
    int passed = record_pass_by(record);
    if (!passed)
        passed = record_borrow(record, record_handler_remove);
    return explain_patching(record, error ? error : passed);
}

/* The same for a process whose one thread is where we know, and stays there. */
static lw_error *patch_held(struct record_engine *record, struct lw_remote_call *call)
{
    int error = record_handler_install(record, call);
    if (!error)
        error = plant_all(record);
    if (!error)
        error = replace_all(record);
    lw_breakpoint_table_lift_all(record->breakpoints);
    int removed = record_handler_remove(record, call);
    return explain_patching(record, error ? error : removed);
}

/* ---- the tracer's part ---- */

static lw_error *explain_mapping(const struct record_engine *record, int error)
{
    if (error == -ESRCH)
        return target_has_ended(record);
    if (error == -EEXIST) /* the target has mapped something there meanwhile */
        return lw_error_create(EAGAIN, "the recorder's address range is taken");
    if (error == -ENOLCK)
        return lw_error_create(ENOTSUP, "the target locks its memory (mlockall)");
    return error ? not_possible("the target cannot map the recorder", error) : NULL;
}

/* Maps the agent by a borrowed thread of the target's. */
static lw_error *map_agent(struct record_engine *record, struct lw_remote_call *call)
{
    const struct lw_registers *registers = lw_remote_call_registers(call);
    if (record->base == 0)
        record->control.tid_offset = find_tid_offset(record, lw_registers_thread_pointer(registers),
                                                     lw_remote_call_thread(call));
    int error = record_map(record, call);
    if (error && error != -ESRCH && !record->mapped)
        record_unmap(record, call); /* nothing has been patched yet */
    record->mapped |= error == 0;
    return explain_mapping(record, error);
}

static lw_error *arm(struct record_engine *record, bool hold)
{
    const bool first = !record->mapped;
    struct lw_remote_code code;
    uint64_t pause = 0;
    struct lw_remote_call *call;
    int result = lw_remote_code_find(&code, record->engine.modules);
    if (!result)
        result = lw_remote_call_begin(record->tracer, &code, &call);
    if (result == -EPERM)
        return lw_error_create(ENOTSUP, "the target's filters (seccomp) do not allow the system "
                                        "calls that put the recorder in place");
    if (result)
        return explain_mapping(record, result);
    lw_error *error = map_agent(record, call);
    if (!hold || error)
        lw_remote_call_end(call, &pause);
    if (error)
        return error;
    result = first ? write_agent(record) : record_publish_modules(record);
    if (!first && !result) {
        fill_control(record);
        result = write_control(record);
    }
    if (result)
        error = explain_mapping(record, result);
    else
        error = hold ? patch_held(record, call) : patch(record);
    if (!error && first && switch_on(record) != 0)
        error = target_has_ended(record);
    if (hold)
        lw_remote_call_end(call, &pause);
    note_pause(record, hold ? 0 : pause);
    return error;
}

lw_error *record_arm(struct record_engine *record, void *argument)
{
    const struct record_arming *arming = argument;
    struct lw_tracer tracer;
    struct lw_leave_result left;
    lw_tracer_init(&tracer, record->engine.attachment.pid, NULL);
    record->tracer = &tracer;
    lw_error *error = arming->begin(record, arming);
    if (!error && lw_process_memory_is_gone(&record->memory))
        error = target_has_ended(record);
    record->engine.attachment.threads = (unsigned)tracer.threads.count;
    if (!error)
        error = arm(record, arming->alone);
    note_pause(record, tracer.attach_pause_ns);
    if (record->breakpoints) {
        int result = lw_tracer_leave(&tracer, &left);
        note_pause(record, left.longest_pause_ns);
        if (result && result != -ESRCH && !error)
            error = not_possible("cannot restore the target's code", result);
    }
    lw_tracer_deinit(&tracer);
    record->tracer = NULL;
    return error;
}

lw_error *record_create_breakpoints(struct record_engine *record)
{
    lw_breakpoint_table_destroy(record->breakpoints);
    record->breakpoints =
        lw_breakpoint_table_create(&record->memory.memory, record->engine.modules);
    return record->breakpoints ? NULL : lw_error_create(ENOMEM, "out of memory");
}

static lw_error *begin_attach(struct record_engine *record, const struct record_arming *arming)
{
    (void)arming;
    record->tracer->breakpoints = record->breakpoints;
    return lw_tracer_seize(record->tracer);
}

lw_error *record_attach_new(struct record_engine *record)
{
    const struct record_arming arming = {.begin = begin_attach};
    lw_error *error = record_create_breakpoints(record);
    return error ? error : record_on_tracer_thread(record, record_arm, (void *)&arming);
}

lw_error *record_open_process(struct record_engine *record)
{
    pid_t pid = record->engine.attachment.pid;
    lw_error *error = lw_process_memory_init(&record->memory, pid);
    if (error)
        return error;
    record->memory_open = true;
    record->engine.modules = lw_module_table_create(pid, &record->memory.memory);
    if (!record->engine.modules)
        return lw_error_create(ENOMEM, "out of memory");
    int result = lw_module_table_refresh(record->engine.modules, NULL);
    if (result)
        return lw_error_create(-result, "cannot read the modules of process %d: %s", (int)pid,
                               strerror(-result));
    return record_find_allocators(record);
}

lw_error *record_prepare(struct record_engine *record)
{
    lw_error *error = record_check_limits(record);
    if (!error)
        error = record_plan(record);
    if (!error && record_compile_rows(record) != 0)
        error = lw_error_create(ENOMEM, "out of memory");
    return error;
}

void record_finish_arming(struct record_engine *record)
{
    record->engine.attachment.pause_ns = record->longest_pause_ns;
    record->longest_pause_ns = 0;
    record->engine.armed = true;
    lw_info("the recorder is in; no thread was stopped for more than %llu us",
            (unsigned long long)(record->engine.attachment.pause_ns / LW_NS_PER_US));
}

static lw_error *prepare_and_arm(struct record_engine *record, const struct record_arming *arming)
{
    for (int tries = 1;; tries++) {
        lw_error *error = record_prepare(record);
        if (!error)
            error = record_create_breakpoints(record);
        if (!error)
            error = record_on_tracer_thread(record, record_arm, (void *)arming);
        if (!error || lw_error_code(error) != EAGAIN)
            return error;
        record_forget_sites(record);
        lw_error_destroy(error);
        if (tries == PLACE_TRIES)
            return lw_error_create(ENOTSUP, "the recorder's address range is taken");
    }
}

lw_error *record_attach(struct record_engine *record, pid_t pid)
{
    const struct record_arming arming = {.begin = begin_attach};
    struct lw_task_status status;
    record->engine.attachment.pid = pid;
    record->engine.attachment.stopped =
        lw_task_status_read(pid, pid, &status) == 0 && status.state == 'T';
    lw_error *error = record_open_process(record);
    if (!error && record->engine.attachment.sets.count == 0)
        error = lw_allocator_explain_none(pid);
    if (!error)
        error = record_clear_leftovers(record);
    if (!error)
        error = prepare_and_arm(record, &arming);
    if (!error)
        record_finish_arming(record);
    return error;
}
