/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's clock. */
#include <time.h>

#include "leakwatch/base/clock.h"
#include "record.h"

/* A leakwatch that has not moved the clock for so long is gone, or as good as that. */
#define LAPSE_NS (10 * LW_NS_PER_SECOND)

/* The vdso's clock_gettime, as the target has it; 0 where it has none. */
static uint64_t find_clock(struct lw_module_table *modules)
{
    for (uint32_t id = 1; id <= lw_module_table_count(modules); id++) {
        const struct lw_module *module = lw_module_table_get(modules, id);
        struct lw_elf_symbol symbol;
        if (module->loaded && module->is_vdso && module->image &&
            lw_elf_image_find_symbols(module->image, "__vdso_clock_gettime", &symbol, 1) > 0)
            return module->bias + symbol.address;
    }
    return 0;
}

void record_clock_start(struct record_engine *record)
{
    record->start_ns = lw_clock_now() - LW_AGENT_TICK_NS;
    record->control.lapse_ns = LAPSE_NS;
    record->control.clock = find_clock(record->engine.modules);
    record_clock_advance(record);
}

void record_clock_await(struct record_engine *record)
{
    const uint64_t past = (lw_clock_now() - record->start_ns) % LW_AGENT_TICK_NS;
    struct timespec left = {.tv_nsec = (long)(LW_AGENT_TICK_NS - past)};
    while (nanosleep(&left, &left) != 0)
        ;
    record_clock_advance(record);
}

void record_clock_advance(struct record_engine *record)
{
    uint32_t tick = (uint32_t)((lw_clock_now() - record->start_ns) / LW_AGENT_TICK_NS);
    __atomic_store_n(&record->shared->clock, lw_agent_clock(tick), __ATOMIC_RELEASE);
    __atomic_store_n(&record->shared->tick, tick, __ATOMIC_RELEASE);
}
