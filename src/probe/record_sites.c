/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which entries the record engine patches, and what their landings hold. */
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "flow.h"
#include "leakwatch/base/cleanup.h"
#include "leakwatch/target/maps.h"
#include "leakwatch/target/process.h"
#include "record.h"

#define REACH   (2ull << 30) /* of a jump, bytes */
#define MARGIN  (16ull << 20)
#define RESERVE (256ull << 20) /* so far from where new mappings are put, where there is room */

static bool is_operator_new(const struct lw_allocator_function *function)
{
    return strncmp(function->symbol, "_Znwm", 5) == 0 || strncmp(function->symbol, "_Znam", 5) == 0;
}

/* Those that do not throw have a sibling's name with the suffix. */
#define NOTHROW "RKSt9nothrow_t"

static bool may_throw(const struct lw_allocator_function *function)
{
    return is_operator_new(function) && !strstr(function->symbol, NOTHROW);
}

static enum lw_agent_wrapper wrapper_for(const struct lw_allocator_function *function)
{
    switch (function->act) {
    case LW_ACT_RELEASE:
        return LW_AGENT_FREE;
    case LW_ACT_STORE:
        return LW_AGENT_STORE;
    case LW_ACT_REALLOCATE:
        return function->count == LW_NO_ARGUMENT ? LW_AGENT_REALLOC : LW_AGENT_REALLOCARRAY;
    case LW_ACT_ALLOCATE:
    default:
        if (may_throw(function))
            return LW_AGENT_NEW;
        if (is_operator_new(function))
            return LW_AGENT_SIZED;
        if (function->count != LW_NO_ARGUMENT)
            return LW_AGENT_CALLOC;
        return function->size == 0 ? LW_AGENT_MALLOC : LW_AGENT_ALIGNED;
    }
}

/* ---- finding ---- */

/* std::get_new_handler() is `mov variable(%rip), %rax; ret`, perhaps behind an endbr64: the
 * variable's address, of which no symbol tells; 0: it is something else. */
static uint64_t find_new_handler(const struct lw_module *module, uint64_t function)
{
    static const uint8_t landing_pad[] = {0xf3, 0x0f, 0x1e, 0xfa}, load[] = {0x48, 0x8b, 0x05};
    uint8_t bytes[12];
    int32_t distance;
    size_t at = 0;
    if (lw_elf_image_read(module->image, function, bytes, sizeof(bytes)) != sizeof(bytes))
        return 0;
    if (memcmp(bytes, landing_pad, sizeof(landing_pad)) == 0)
        at = sizeof(landing_pad);
    memcpy(&distance, bytes + at + sizeof(load), sizeof(distance));
    const size_t end = at + sizeof(load) + sizeof(distance);
    if (memcmp(bytes + at, load, sizeof(load)) != 0 || bytes[end] != 0xc3)
        return 0;
    return module->bias + function + end + (uint64_t)(int64_t)distance;
}

static lw_error *search_module(struct record_engine *record, const struct lw_module *module)
{
    struct lw_allocator_set set;
    int error = lw_allocator_set_find(&set, module);
    if (!error && set.sites.count > 0)
        error = lw_vector_push(&record->engine.attachment.sets, set);
    if (error || set.sites.count == 0)
        lw_allocator_set_deinit(&set);
    if (error)
        return lw_error_create(-error, "cannot search %s for allocator functions: %s", module->name,
                               strerror(-error));
    struct lw_elf_symbol symbol;
    if (!record->linker_entry &&
        lw_elf_image_find_symbols(module->image, "_dl_debug_state", &symbol, 1) > 0) {
        record->linker_entry = module->bias + symbol.address;
        if (lw_elf_image_find_symbols(module->image, "_r_debug", &symbol, 1) > 0)
            record->linker_state =
                module->bias + symbol.address + offsetof(struct r_debug, r_state);
    }
    if (!record->new_handler_module &&
        lw_elf_image_find_symbols(module->image, "_ZSt15get_new_handlerv", &symbol, 1) > 0) {
        record->new_handler_module = module->id;
        record->new_handler = find_new_handler(module, symbol.address);
    }
    return NULL;
}

lw_error *record_find_allocators(struct record_engine *record)
{
    size_t count = lw_module_table_count(record->engine.modules);
    while (record->modules_searched < count) {
        const struct lw_module *module =
            lw_module_table_get(record->engine.modules, ++record->modules_searched);
        lw_error *error = module->image && !module->is_vdso ? search_module(record, module) : NULL;
        if (error)
            return error;
    }
    return NULL;
}

/* ---- landings ---- */

static bool in_reach(uint64_t address, const struct lw_module *module)
{
    uint64_t low = address < module->start ? address : module->start;
    uint64_t high =
        address + RECORD_LANDING_SPAN > module->end ? address + RECORD_LANDING_SPAN : module->end;
    return high - low < REACH;
}

/* Is [start, start + RECORD_LANDING_SPAN) already promised to another landing? */
static bool is_taken(const struct record_engine *record, uint64_t start)
{
    lw_vector_for_each (landing, &record->landings)
        if (start < (*landing)->address + RECORD_LANDING_SPAN &&
            (*landing)->address < start + RECORD_LANDING_SPAN)
            return true;
    return false;
}

/*
 * A place in the gap between two mappings, in nobody's way: new mappings are put at a gap's upper
 * end, the heap grows into one from below, and a stack from above into one that gets none of ours.
 */
static uint64_t place_in_gap(const struct record_engine *record, const struct lw_mapping *below,
                             const struct lw_mapping *above, const struct lw_module *module)
{
    const uint64_t gap = above->start - below->end;
    uint64_t start = gap / 2 < RESERVE ? below->end + gap / 2 : above->start - RESERVE;
    start &= ~(uint64_t)(LW_PAGE_SIZE - 1);
    if (strcmp(above->path, "[stack]") == 0 || gap < 3 * RECORD_LANDING_SPAN)
        return 0;
    while (start >= below->end + RECORD_LANDING_SPAN && is_taken(record, start))
        start -= RECORD_LANDING_SPAN;
    return start >= below->end + RECORD_LANDING_SPAN && in_reach(start, module) ? start : 0;
}

/*
 * Where the agent itself is to be: above the libraries there mostly is much room, which the kernel
 * uses for nothing but the main stack at its end. Landings that lie just below it need no long
 * jumps, which processors predict less well. 0: there is no such room.
 */
static uint64_t place_agent(const struct lw_maps *maps)
{
    for (size_t i = 1; i < maps->list.count; i++) {
        const struct lw_mapping *above = &maps->list.items[i];
        const uint64_t start = (above[-1].end + 2 * MARGIN) & ~(MARGIN - 1);
        if (strcmp(above->path, "[stack]") == 0)
            return start + LW_AGENT_SPAN + REACH < above->start ? start : 0;
    }
    return 0;
}

/* The place nearest to the agent or else to the module that is in reach of all of it, or 0. */
static int find_place(struct record_engine *record, const struct lw_module *module, uint64_t *place)
{
    struct lw_maps maps = {0};
    int error = lw_maps_read(&maps, record->engine.attachment.pid);
    uint64_t nearest = UINT64_MAX;
    *place = 0;
    if (!error && record->base == 0 && record->landings.count == 0)
        record->near = place_agent(&maps);
    const uint64_t below_agent = record->near - (record->landings.count + 1) * RECORD_LANDING_SPAN;
    if (record->near && record->landings.count < MARGIN / 2 / RECORD_LANDING_SPAN &&
        in_reach(below_agent, module)) {
        *place = below_agent;
        nearest = 0;
    }
    for (size_t i = 1; !error && nearest > 0 && i < maps.list.count; i++) {
        uint64_t start = place_in_gap(record, &maps.list.items[i - 1], &maps.list.items[i], module);
        uint64_t distance = start < module->start ? module->start - start : start - module->end;
        if (start != 0 && distance < nearest) {
            nearest = distance;
            *place = start;
        }
    }
    lw_maps_deinit(&maps);
    return error;
}

static lw_error *out_of_memory(void)
{
    return lw_error_create(ENOMEM, "out of memory");
}

static lw_error *create_landing(struct record_engine *record, const struct lw_module *module,
                                struct record_landing **created)
{
    uint64_t place;
    int error = find_place(record, module, &place);
    if (error)
        return lw_error_create(-error, "cannot read the mappings of process %d: %s",
                               (int)record->engine.attachment.pid, strerror(-error));
    if (place == 0)
        return lw_error_create(ENOTSUP, "there is no free address range near %s", module->name);
    struct record_landing *landing = calloc(1, sizeof(*landing));
    if (!landing || lw_vector_push(&record->landings, landing) != 0) {
        free(landing);
        return out_of_memory();
    }
    landing->address = place;
    landing->module = module->id;
    *created = landing;
    return NULL;
}

static struct record_slot *slot_of(struct record_landing *landing, uint64_t address)
{
    return (struct record_slot *)(landing->image.bytes + (address - landing->address));
}

/* ---- sites ---- */

/* May the entry be overwritten? Then *gate is how its function is still reached. */
static int build_gate(const struct lw_module *module, uint64_t entry, uint64_t to,
                      struct record_site *site)
{
    uint8_t bytes[LW_WINDOW_MAX + 1];
    uint64_t address = entry - module->bias;
    size_t size = lw_elf_image_read(module->image, address, bytes, sizeof(bytes));
    bool enters = false;
    int error = size < LW_JUMP_SIZE ? -ENOTSUP : lw_gate_build(bytes, size, entry, to, &site->gate);
    if (!error)
        error =
            lw_flow_enters(module->image, address, site->gate.window + site->gate.slack, &enters);
    if (!error)
        memcpy(site->original, bytes, LW_JUMP_SIZE);
    return enters ? -ENOTSUP : error;
}

/* Fills in a slot of the landing for the function at `entry`. */
static int fill_slot(struct record_landing *landing, const struct lw_module *module,
                     struct record_site *site)
{
    if (landing->slots == RECORD_SLOTS || landing->slots == RECORD_LANDING_SITES)
        return -ENOSPC;
    site->slot = landing->address + sizeof(struct record_landing_head) +
                 landing->slots * sizeof(struct record_slot);
    struct record_slot *slot = slot_of(landing, site->slot);
    const uint64_t gate = site->slot + offsetof(struct record_slot, gate);
    int error = build_gate(module, site->entry, gate, site);
    if (!error)
        error = lw_jump_encode(site->entry, site->slot, site->jump);
    if (error)
        return error;
    slot->site = (struct lw_agent_site){.gate = gate, .entry = site->entry};
    memcpy(slot->gate, site->gate.code, site->gate.size);
    struct record_patch *patch = &landing->image.head.patches[landing->slots];
    patch->entry = site->entry;
    memcpy(patch->original, site->original, LW_JUMP_SIZE);
    landing->slots++;
    landing->image.head.patch_count = landing->slots;
    return 0;
}

static lw_error *explain(int error, const char *what, const struct lw_module *module)
{
    if (error == -ENOMEM)
        return out_of_memory();
    return lw_error_create(ENOTSUP, "%s in %s cannot be patched: %s", what, module->name,
                           error == -ERANGE ? "it is too far from free memory"
                                            : "its first instructions cannot be moved");
}

static lw_error *add_site(struct record_engine *record, struct record_landing *landing,
                          const struct lw_module *module, uint64_t entry,
                          const struct lw_allocator_function *function)
{
    struct record_site *site = calloc(1, sizeof(*site));
    if (!site)
        return out_of_memory();
    site->function = function;
    site->wrapper = function ? wrapper_for(function) : LW_AGENT_MODULES;
    site->module = module->id;
    site->entry = entry;
    int error = fill_slot(landing, module, site);
    if (!error)
        error = lw_vector_push(&record->sites, site);
    if (!error)
        return NULL;
    free(site);
    return explain(error, function ? function->label : "_dl_debug_state", module);
}

/* The gate of the sibling that does not throw, or the sibling itself where it is not patched. */
static uint64_t find_nothrow(const struct record_engine *record, const struct lw_module *module,
                             const struct lw_allocator_function *function)
{
    char name[64];
    struct lw_elf_symbol symbol;
    snprintf(name, sizeof(name), "%s" NOTHROW, function->symbol);
    if (lw_elf_image_find_symbols(module->image, name, &symbol, 1) == 0)
        return 0;
    uint64_t entry = module->bias + symbol.address;
    lw_vector_for_each (site, &record->sites)
        if ((*site)->entry == entry)
            return (*site)->slot + offsetof(struct record_slot, gate);
    return entry;
}

/* One that is set later makes the agent leave operator new alone. */
static bool has_new_handler(struct record_engine *record)
{
    uint64_t handler;
    return record->new_handler &&
           lw_memory_read_all(&record->memory.memory, record->new_handler, &handler,
                              sizeof(handler)) == 0 &&
           handler != 0;
}

static lw_error *link_throwing(struct record_engine *record, struct record_landing *landing,
                               const struct lw_module *module, const struct record_site *site)
{
    struct lw_agent_site *descriptor = &slot_of(landing, site->slot)->site;
    descriptor->aligned = strstr(site->function->symbol, "align_val_t") != NULL;
    descriptor->nothrow = find_nothrow(record, module, site->function);
    /* The C++ library's own ends in malloc and the like. */
    descriptor->nests = module->id == record->new_handler_module;
    if (record->new_handler_module && !record->new_handler)
        return lw_error_create(ENOTSUP, "cannot tell whether there is a new-handler");
    if (!descriptor->nests && has_new_handler(record))
        return lw_error_create(ENOTSUP, "the program has a new-handler, which %s in %s may call",
                               site->function->label, module->name);
    if (descriptor->nothrow)
        return NULL;
    return lw_error_create(ENOTSUP, "%s in %s throws, and has no sibling that does not",
                           site->function->label, module->name);
}

static struct record_landing *landing_of(const struct record_engine *record, uint32_t module)
{
    lw_vector_for_each (landing, &record->landings)
        if ((*landing)->module == module)
            return *landing;
    return NULL;
}

/* The set of a module and, if it is that, the dynamic linker. */
static lw_error *plan_module(struct record_engine *record, const struct lw_module *module,
                             const struct lw_allocator_set *set)
{
    bool is_linker = record->linker_entry >= module->start && record->linker_entry < module->end;
    if (!module->loaded || (!set && !is_linker) || landing_of(record, module->id))
        return NULL;
    struct record_landing *landing = NULL;
    const size_t first = record->sites.count;
    lw_error *error = create_landing(record, module, &landing);
    for (size_t i = 0; !error && set && i < set->sites.count; i++)
        error = add_site(record, landing, module, module->bias + set->sites.items[i].address,
                         set->sites.items[i].function);
    if (!error && is_linker)
        error = add_site(record, landing, module, record->linker_entry, NULL);
    for (size_t i = first; !error && i < record->sites.count; i++)
        if (record->sites.items[i]->wrapper == LW_AGENT_NEW)
            error = link_throwing(record, landing, module, record->sites.items[i]);
    return error;
}

lw_error *record_plan(struct record_engine *record)
{
    size_t count = lw_module_table_count(record->engine.modules);
    lw_error *error = NULL;
    for (uint32_t id = 1; id <= count && !error; id++) {
        const struct lw_allocator_set *its = NULL;
        lw_vector_for_each (set, &record->engine.attachment.sets)
            if (set->module == id)
                its = set;
        error = plan_module(record, lw_module_table_get(record->engine.modules, id), its);
    }
    return error;
}
