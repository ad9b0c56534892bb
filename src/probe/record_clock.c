/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's clock. */
#include "leakwatch/arch/cycles.h"
#include "leakwatch/base/clock.h"
#include "record.h"

/* A leakwatch that has not moved the clock for so long is gone, or as good as that. */
#define LAPSE_NS   (10 * LW_NS_PER_SECOND)
#define MEASURE_NS (2 * LW_NS_PER_MS)

void record_clock_start(struct record_engine *record)
{
    record->start_ns = lw_clock_now() - LW_AGENT_TICK_NS;
    record_clock_advance(record);
}

void record_clock_advance(struct record_engine *record)
{
    uint32_t tick = (uint32_t)((lw_clock_now() - record->start_ns) / LW_AGENT_TICK_NS);
    __atomic_store_n(&record->shared->clock, lw_agent_clock(tick), __ATOMIC_RELEASE);
    __atomic_store_n(&record->shared->tick, tick, __ATOMIC_RELEASE);
}

uint64_t record_lapse_cycles(void)
{
    const uint64_t start = lw_clock_now(), cycles = lw_cycles();
    uint64_t elapsed;
    do
        elapsed = lw_clock_now() - start;
    while (elapsed < MEASURE_NS);
    return (lw_cycles() - cycles) * (LAPSE_NS / MEASURE_NS) * MEASURE_NS / elapsed;
}
