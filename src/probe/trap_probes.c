/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which breakpoints the trap engine plants, and where. */
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/log.h"
#include "trap.h"

int trap_plant(struct trap_engine *trap, uint64_t address, enum probe_role role,
               const struct lw_allocator_site *site, struct lw_breakpoint **planted)
{
    struct lw_breakpoint *breakpoint;
    int error = lw_breakpoint_plant(trap->breakpoints, address, NULL, &breakpoint);
    if (error)
        return error;
    struct probe *probe = breakpoint->owner;
    if (!probe) {
        probe = calloc(1, sizeof(*probe));
        if (!probe || lw_vector_push(&trap->probes, probe) != 0) {
            free(probe);
            lw_breakpoint_lift(trap->breakpoints, breakpoint);
            return -ENOMEM;
        }
        breakpoint->owner = probe;
    }
    probe->roles |= role;
    if (site) {
        probe->site = site;
        probe->entry = address;
    }
    if (planted)
        *planted = breakpoint;
    return 0;
}

static lw_error *explain(int error, const char *what, const struct lw_module *module)
{
    const char *reason = strerror(-error);
    if (error == -ENOSPC)
        reason = "there is no unused executable memory near it for displaced instructions";
    else if (error == -ENOTSUP)
        reason = "its machine code cannot be displaced";
    else if (error == -EBUSY)
        reason = "its code is not what the file has: another debugger, or a leakwatch that was "
                 "killed, has patched it; end that one, or restart the process";
    return lw_error_create(-error, "cannot watch %s in %s: %s", what, module->name, reason);
}

static lw_error *plant_site(struct trap_engine *trap, const struct lw_module *module,
                            const struct lw_allocator_site *site)
{
    /* Exits first: a call that is seen to begin must be seen to end. A release is over at its
     * entry. */
    int error = 0;
    if (site->function->act != LW_ACT_RELEASE) {
        lw_vector_for_each (exit, &site->exits) {
            enum probe_role role = exit->kind == LW_EXIT_RETURN ? PROBE_RETURN : PROBE_JUMP;
            if (!error)
                error = trap_plant(trap, module->bias + exit->address, role, NULL, NULL);
        }
    }
    if (!error)
        error = trap_plant(trap, module->bias + site->address, PROBE_ENTRY, site, NULL);
    return error ? explain(error, site->function->label, module) : NULL;
}

/* The debugger interface of the dynamic linker (<link.h>): it calls _dl_debug_state before and
 * after every change of the list of modules, with _r_debug.r_state telling which. */
static lw_error *watch_linker(struct trap_engine *trap, const struct lw_module *module)
{
    struct lw_elf_symbol symbol;
    if (lw_elf_image_find_symbols(module->image, "_dl_debug_state", &symbol, 1) == 0)
        return NULL;
    struct lw_elf_symbol state;
    if (lw_elf_image_find_symbols(module->image, "_r_debug", &state, 1) > 0)
        trap->linker_state = module->bias + state.address + offsetof(struct r_debug, r_state);
    int error = trap_plant(trap, module->bias + symbol.address, PROBE_MODULES, NULL, NULL);
    trap->linker_watched = error == 0;
    return error ? explain(error, "the loading of libraries", module) : NULL;
}

lw_error *trap_watch_linker(struct trap_engine *trap)
{
    size_t count = lw_module_table_count(trap->engine.modules);
    lw_error *error = NULL;
    for (uint32_t id = 1; id <= count && !error && !trap->linker_watched; id++) {
        const struct lw_module *module = lw_module_table_get(trap->engine.modules, id);
        if (module->loaded && module->image && !module->is_vdso)
            error = watch_linker(trap, module);
    }
    return error;
}

lw_error *trap_plant_probes(struct trap_engine *trap)
{
    lw_vector_for_each (set, &trap->engine.attachment.sets) {
        const struct lw_module *module = lw_module_table_get(trap->engine.modules, set->module);
        if (!module->loaded)
            continue;
        lw_vector_for_each (site, &set->sites) {
            lw_error *error = plant_site(trap, module, site);
            if (error)
                return error;
        }
    }
    return NULL;
}

static lw_error *search_module(struct trap_engine *trap, const struct lw_module *module)
{
    struct lw_allocator_set set;
    int error = lw_allocator_set_find(&set, module);
    if (!error && set.sites.count > 0)
        error = lw_vector_push(&trap->engine.attachment.sets, set);
    if (error || set.sites.count == 0)
        lw_allocator_set_deinit(&set);
    if (error)
        return lw_error_create(-error, "cannot search %s for allocator functions: %s", module->name,
                               strerror(-error));
    return NULL;
}

lw_error *trap_find_allocators(struct trap_engine *trap)
{
    size_t count = lw_module_table_count(trap->engine.modules);
    while (trap->modules_searched < count) {
        const struct lw_module *module =
            lw_module_table_get(trap->engine.modules, ++trap->modules_searched);
        if (!module->image)
            continue;
        lw_error *error = search_module(trap, module);
        if (error)
            return error;
    }
    return NULL;
}

lw_error *trap_refresh_modules(struct trap_engine *trap)
{
    bool changed;
    int result = lw_module_table_refresh(trap->engine.modules, &changed);
    if (result == -ESRCH || (result == 0 && !changed))
        return NULL;
    if (result != 0)
        return lw_error_create(-result, "cannot read the modules of process %d: %s",
                               (int)trap->tracer.pid, strerror(-result));
    lw_breakpoint_table_forget_unmapped(trap->breakpoints);
    lw_unwinder_flush(trap->unwinder);
    size_t sets = trap->engine.attachment.sets.count;
    lw_error *error = trap_find_allocators(trap);
    if (!error)
        error = trap_plant_probes(trap);
    for (; sets < trap->engine.attachment.sets.count; sets++)
        lw_info("watching %zu allocator functions of %s, which was just loaded",
                trap->engine.attachment.sets.items[sets].sites.count,
                lw_module_table_get(trap->engine.modules,
                                    trap->engine.attachment.sets.items[sets].module)
                    ->path);
    return error;
}
