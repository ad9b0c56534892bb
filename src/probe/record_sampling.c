/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rate of sampling, and --sample=auto, which keeps the overhead within what was asked for. */
#include <math.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/target/process.h"
#include "record.h"

/* --sample=auto begins with every 64 KiB, and may go up to 2 GiB in steps of two. */
#define AUTO_FIRST (64ull << 10)
#define JUDGE_NS   LW_NS_PER_SECOND
/* What a sampled allocation and its release cost, most of which is unwinding; measured by
 * scripts/bench on the machines that it was written on, in ns. What all other calls cost does not
 * depend on the rate. */
#define SAMPLE_COST 400.0

static uint64_t mean_of(uint32_t rate, uint64_t first)
{
    return rate < 40 && first << rate >> rate == first ? first << rate : UINT64_MAX >> 16;
}

void record_sampling_start(struct record_engine *record)
{
    const struct lw_engine_options *options = &record->engine.options;
    struct lw_engine_attachment *attachment = &record->engine.attachment;
    const uint64_t first = options->sample_auto ? AUTO_FIRST : options->sample_bytes;
    attachment->sample_auto = options->sample_auto;
    attachment->sample_bytes = first;
    record->view.sampled = first != 0;
    for (uint32_t i = 0; first && i < LW_AGENT_RATES; i++)
        record->shared->sample_mean[i] = mean_of(i, first);
    for (uint32_t i = 1; i < LW_AGENT_WEIGHTS; i++)
        record->shared->weight[i] = (uint32_t)lround(-256.0 / expm1(-(double)i / 256.0));
    record->judged_ns = lw_clock_now();
}

/* Samples and CPU time so far. */
static struct record_effort measure(const struct record_engine *record)
{
    struct record_effort effort = {.cpu_ns = lw_process_cpu_ns(record->engine.attachment.pid)};
    for (uint32_t i = 0; i < record->shared->thread_count && i < LW_AGENT_THREADS; i++) {
        const struct lw_agent_thread *thread = &record->shared->threads[i];
        effort.samples += thread->memo_hits + thread->memo_misses;
    }
    return effort;
}

void record_sampling_adjust(struct record_engine *record)
{
    const uint64_t now = lw_clock_now();
    if (!record->engine.options.sample_auto || now - record->judged_ns < JUDGE_NS)
        return;
    const struct record_effort effort = measure(record), before = record->effort;
    record->judged_ns = now;
    record->effort = effort;
    const double spent = (double)(effort.samples - before.samples) * SAMPLE_COST;
    const double cpu = (double)(effort.cpu_ns - before.cpu_ns);
    const double allowed = record->engine.options.max_overhead / 100 * cpu;
    uint32_t rate = record->shared->rate;
    if (before.cpu_ns == 0 || cpu <= 0)
        return;
    /* Twice as many samples must still be allowed before there are more of them. */
    if (spent > allowed && rate + 1 < LW_AGENT_RATES)
        rate++;
    else if (spent * 2.5 < allowed && rate > 0)
        rate--;
    __atomic_store_n(&record->shared->rate, rate, __ATOMIC_RELAXED);
}
