/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a hit breakpoint means: a call entered, a call returned, modules changed. */
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "trap.h"

static struct lw_calls *calls_of(struct lw_thread *thread)
{
    if (!thread->owner)
        thread->owner = calloc(1, sizeof(struct lw_calls));
    return thread->owner;
}

void trap_thread_gone(void *context, struct lw_thread *thread)
{
    struct trap_engine *trap = context;
    if (thread->owner)
        lw_calls_abandon(thread->owner, trap->ledger, lw_clock_now());
    free(thread->owner);
    thread->owner = NULL;
}

static bool is_in_allocator(struct trap_engine *trap, uint64_t address)
{
    const struct lw_module *module = lw_module_table_find(trap->engine.modules, address);
    if (!module)
        return false;
    lw_vector_for_each (set, &trap->engine.attachment.sets)
        if (set->module == module->id)
            return true;
    return false;
}

static uint64_t read_word(struct trap_engine *trap, uint64_t address)
{
    uint64_t word;
    struct lw_memory *memory = &trap->memory.memory;
    return lw_memory_read_all(memory, address, &word, sizeof(word)) == 0 ? word : 0;
}

/* The call that a hit of an exit belongs to, or NULL; *jumps tells that it has not returned yet. */
static struct lw_call *match_exit(struct lw_calls *calls, const struct probe *probe,
                                  const struct lw_registers *registers, bool *jumps)
{
    struct lw_call *call = NULL;
    *jumps = false;
    if (probe->roles & PROBE_RETURN_SITE)
        call = lw_calls_match(calls, lw_registers_returned_slot(registers));
    if (call || !(probe->roles & (PROBE_RETURN | PROBE_JUMP)))
        return call;
    *jumps = probe->roles & PROBE_JUMP;
    return lw_calls_match(calls, lw_registers_return_slot(registers));
}

static bool is_watched_size(const struct trap_engine *trap, uint64_t size)
{
    return size >= trap->engine.options.min_size && size <= trap->engine.options.max_size;
}

static void unwind(struct trap_engine *trap, struct trap_hit *hit,
                   const struct lw_registers *registers)
{
    hit->depth = lw_unwinder_unwind_captured(trap->unwinder, registers, trap->unwound,
                                             trap->engine.options.depth, &hit->truncated);
    hit->unwound = true;
}

/* The call's registers as they were when the function was entered, as far as unwinding needs them.
 */
static struct lw_registers registers_at_entry(const struct lw_call *call,
                                              const struct lw_registers *registers)
{
    struct lw_registers at_entry = *registers;
    lw_registers_set_pc(&at_entry, call->address);
    lw_registers_set_sp(&at_entry, call->slot);
    return at_entry;
}

/* A call has returned, or is about to: reads the result and the stack. */
static void examine_return(struct trap_engine *trap, struct trap_hit *hit,
                           const struct lw_call *call)
{
    hit->result = lw_registers_result(&hit->registers);
    if (call->site->function->act == LW_ACT_STORE)
        hit->result = (uint32_t)hit->result == 0 ? read_word(trap, call->pointer) : 0;
    if (hit->result == 0 || !is_watched_size(trap, call->size))
        return;
    struct lw_registers at_entry = registers_at_entry(call, &hit->registers);
    if (lw_unwinder_capture(trap->unwinder, &at_entry))
        lw_unwinder_thread_runs(trap->unwinder);
    else
        unwind(trap, hit, &at_entry);
}

/* The function ends in a jump to code that is not followed; its caller is where the result will be
 * seen. */
static void examine_jump(struct trap_engine *trap, struct lw_call *call)
{
    uint64_t return_address = read_word(trap, call->slot);
    struct lw_breakpoint *breakpoint = NULL;
    int error = trap_plant(trap, return_address, PROBE_RETURN_SITE, NULL, &breakpoint);
    if (error)
        lw_debug("no breakpoint at return address %#lx: %s", return_address, strerror(-error));
    call->return_site = breakpoint;
}

static void refresh_modules(struct trap_engine *trap)
{
    uint32_t state = RT_CONSISTENT;
    if (trap->linker_state)
        lw_memory_read_all(&trap->memory.memory, trap->linker_state, &state, sizeof(state));
    if (state != RT_CONSISTENT)
        return;
    lw_error *error = trap_refresh_modules(trap);
    if (error)
        lw_warn("%s", lw_error_message(error));
    lw_error_destroy(error);
    if (trap->engine.attachment.sets.count > 0)
        trap->engine.armed = true;
}

static void account_entry(struct trap_engine *trap, const struct trap_hit *hit,
                          struct lw_calls *calls, const struct probe *probe)
{
    const struct lw_call_entry entry = {
        .site = probe->site,
        .address = probe->entry,
        .slot = lw_registers_return_slot(&hit->registers),
        .from_allocator = hit->from_allocator,
        .arguments = {lw_registers_argument(&hit->registers, 0),
                      lw_registers_argument(&hit->registers, 1),
                      lw_registers_argument(&hit->registers, 2)},
    };
    lw_calls_enter(calls, trap->ledger, &entry, hit->now);
}

/* Takes out a breakpoint at a return address that no call under way needs. */
static void lift_return_site(struct trap_engine *trap, struct lw_breakpoint *breakpoint)
{
    lw_vector_for_each (thread, &trap->tracer.threads) {
        const struct lw_calls *calls = (*thread)->owner;
        for (unsigned i = 0; calls && i < calls->count; i++)
            if (calls->calls[i].return_site == breakpoint)
                return;
    }
    struct probe *probe = breakpoint->owner;
    probe->roles &= ~(unsigned)PROBE_RETURN_SITE;
    if (probe->roles == 0)
        lw_breakpoint_lift(trap->breakpoints, breakpoint);
}

void trap_examine_hit(struct trap_engine *trap, struct trap_hit *hit)
{
    const struct probe *probe = hit->breakpoint->owner;
    struct lw_calls *calls = calls_of(hit->thread);
    hit->now = lw_clock_now();
    if (!calls)
        return;
    if (probe->roles & PROBE_MODULES)
        refresh_modules(trap);
    if ((probe->roles & PROBE_ENTRY) && lw_calls_pending(calls))
        hit->from_allocator =
            is_in_allocator(trap, read_word(trap, lw_registers_return_slot(&hit->registers)));
    /* A function whose first instruction is a jump elsewhere: its end is here too. */
    hit->entered = (probe->roles & PROBE_ENTRY) && (probe->roles & PROBE_JUMP);
    if (hit->entered)
        account_entry(trap, hit, calls, probe);
    bool jumps;
    struct lw_call *call = match_exit(calls, probe, &hit->registers, &jumps);
    if (call && jumps)
        examine_jump(trap, call);
    else if (call)
        examine_return(trap, hit, call);
}

/* The stack that was unwound, as frames that stay true when modules are unloaded. */
static const struct lw_stack *intern_stack(struct trap_engine *trap, const struct trap_hit *hit)
{
    for (size_t i = 0; i < hit->depth; i++) {
        uint64_t pc = trap->unwound[i].pc;
        bool is_return = trap->unwound[i].is_return;
        /* A call that never returns may be the last instruction of its module. */
        const struct lw_module *module =
            lw_module_table_find(trap->engine.modules, pc - (is_return ? 1 : 0));
        trap->frames[i] = (struct lw_frame){
            .offset = module ? pc - module->bias : pc,
            .module = module ? module->id : 0,
            .is_return = is_return,
        };
    }
    const struct lw_stack *stack =
        lw_stack_table_intern(trap->stacks, trap->frames, hit->depth, hit->truncated);
    if (stack && stack->truncated)
        lw_ledger_losses(trap->ledger)->truncated_stacks++;
    return stack;
}

static void record_block(struct trap_engine *trap, struct trap_hit *hit, const struct lw_call *call)
{
    uint32_t id = LW_STACK_NONE;
    if (is_watched_size(trap, call->size)) {
        struct lw_registers at_entry = registers_at_entry(call, &hit->registers);
        if (!hit->unwound)
            unwind(trap, hit, &at_entry);
        const struct lw_stack *stack = intern_stack(trap, hit);
        if (!stack) {
            lw_ledger_losses(trap->ledger)->dropped_blocks++;
            return;
        }
        id = stack->id;
    }
    lw_ledger_insert(trap->ledger, hit->result, call->size, id, hit->now);
}

static void account_return(struct trap_engine *trap, struct trap_hit *hit, struct lw_calls *calls,
                           struct lw_call *call)
{
    struct lw_call finished;
    if (lw_calls_finish(calls, trap->ledger, call, hit->result, hit->now, &finished))
        record_block(trap, hit, &finished);
}

void trap_account_hit(struct trap_engine *trap, struct trap_hit *hit)
{
    const struct probe *probe = hit->breakpoint->owner;
    struct lw_calls *calls = hit->thread->owner;
    if (!calls)
        return;
    if ((probe->roles & PROBE_ENTRY) && !hit->entered)
        account_entry(trap, hit, calls, probe);
    bool jumps;
    struct lw_call *call = match_exit(calls, probe, &hit->registers, &jumps);
    if (call && !jumps)
        account_return(trap, hit, calls, call);
    if (probe->roles & PROBE_RETURN_SITE)
        lift_return_site(trap, hit->breakpoint);
}
