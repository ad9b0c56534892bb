/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finding the agent of another leakwatch. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/target/process.h"
#include "record.h"

/* The landing that a jump leads into: its head is on one of the pages before. */
static struct record_landing *read_landing(struct record_engine *record, uint64_t slot,
                                           uint64_t entry)
{
    struct record_landing *landing = calloc(1, sizeof(*landing));
    struct record_landing_head *head = &landing->image.head;
    uint64_t page = slot & ~(LW_PAGE_SIZE - 1);
    for (unsigned i = 0; landing && i < RECORD_LANDING_SIZE / LW_PAGE_SIZE; i++) {
        landing->address = page - i * LW_PAGE_SIZE;
        if (lw_memory_read_all(&record->memory.memory, landing->address, landing->image.bytes,
                               RECORD_LANDING_SIZE) != 0 ||
            head->magic != LW_AGENT_MAGIC || head->patch_count > RECORD_LANDING_SITES)
            continue;
        for (uint32_t j = 0; j < head->patch_count; j++)
            if (head->patches[j].entry == entry)
                return landing;
    }
    free(landing);
    return NULL;
}

static int add_site(struct record_engine *record, const struct record_landing *landing,
                    uint32_t index)
{
    const struct record_patch *patch = &landing->image.head.patches[index];
    struct record_site *site = calloc(1, sizeof(*site));
    if (!site)
        return -ENOMEM;
    site->module = landing->module;
    site->entry = patch->entry;
    site->slot =
        landing->address + sizeof(struct record_landing_head) + index * sizeof(struct record_slot);
    memcpy(site->original, patch->original, LW_JUMP_SIZE);
    int error = lw_jump_encode(site->entry, site->slot, site->jump);
    site->patched = true;
    if (!error)
        error = lw_vector_push(&record->sites, site);
    if (error)
        free(site);
    return error;
}

static bool is_known(const struct record_engine *record, uint64_t address)
{
    lw_vector_for_each (landing, &record->landings)
        if (address >= (*landing)->address && address < (*landing)->address + RECORD_LANDING_SIZE)
            return true;
    return false;
}

/* Looks at one entry; when it leads to a landing, takes that into account. */
static int look_at(struct record_engine *record, const struct lw_module *module, uint64_t entry)
{
    uint8_t bytes[LW_JUMP_SIZE];
    uint64_t slot;
    if (lw_memory_read_all(&record->memory.memory, entry, bytes, sizeof(bytes)) != 0 ||
        !lw_jump_decode(bytes, entry, &slot) || is_known(record, slot))
        return 0;
    struct record_landing *landing = read_landing(record, slot, entry);
    if (!landing)
        return 0;
    landing->module = module->id;
    landing->mapped = true;
    int error = lw_vector_push(&record->landings, landing);
    if (error)
        free(landing);
    for (uint32_t i = 0; !error && i < landing->image.head.patch_count; i++)
        error = add_site(record, landing, i);
    record->base = landing->image.head.base;
    record->span = landing->image.head.span;
    return error;
}

static int look_everywhere(struct record_engine *record)
{
    int error = 0;
    lw_vector_for_each (set, &record->engine.attachment.sets) {
        const struct lw_module *module = lw_module_table_get(record->engine.modules, set->module);
        lw_vector_for_each (site, &set->sites)
            if (!error && module->loaded)
                error = look_at(record, module, module->bias + site->address);
    }
    const struct lw_module *linker =
        lw_module_table_find(record->engine.modules, record->linker_entry);
    return error || !linker ? error : look_at(record, linker, record->linker_entry);
}

/* The clock of the one who owns it: 0 where there is none (a forked child has not inherited it). */
static uint32_t read_tick(struct record_engine *record)
{
    struct lw_agent_shared *shared = NULL;
    uint32_t tick = 0;
    uint64_t address = record->base + LW_AGENT_SHARED + (uint64_t)(uintptr_t)&shared->tick;
    lw_memory_read_all(&record->memory.memory, address, &tick, sizeof(tick));
    return tick;
}

static bool is_watched(struct record_engine *record)
{
    uint32_t tick = read_tick(record);
    if (tick == 0)
        return false;
    nanosleep(&(struct timespec){.tv_nsec = 5 * (long)LW_AGENT_TICK_NS}, NULL);
    const struct record_landing_head *head = &record->landings.items[0]->image.head;
    return read_tick(record) != tick ||
           lw_process_start_time((pid_t)head->owner) == head->owner_start;
}

lw_error *record_clear_leftovers(struct record_engine *record)
{
    if (look_everywhere(record) != 0)
        return lw_error_create(ENOMEM, "out of memory");
    if (record->landings.count == 0)
        return NULL;
    lw_error *error = NULL;
    if (is_watched(record)) {
        error = lw_error_create(EBUSY, "process %d is being watched by another leakwatch (PID %u)",
                                (int)record->engine.attachment.pid,
                                record->landings.items[0]->image.head.owner);
        record->base = 0;
    } else {
        struct lw_engine_detachment detachment = {0};
        lw_info("removing what a leakwatch that was killed has left in process %d",
                (int)record->engine.attachment.pid);
        error = record_leave(record, &detachment);
        if (!error && (!detachment.restored || record->base != 0))
            error = lw_error_create(EBUSY,
                                    "cannot remove what an earlier leakwatch has left in "
                                    "process %d: restart the process",
                                    (int)record->engine.attachment.pid);
        record->base = 0;
    }
    record_forget_sites(record);
    record->longest_pause_ns = 0;
    return error;
}
