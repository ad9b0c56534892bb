/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One made-up report, for the tests of the writers. */
#ifndef LEAKWATCH_TEST_REPORT_SAMPLE_H
#define LEAKWATCH_TEST_REPORT_SAMPLE_H

#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/report/report.h"

struct sample {
    struct lw_report report;
    struct lw_report_stack stack;
    struct lw_report_frame frames[4];
    struct lw_snapshot_block blocks[2];
    struct lw_stack raw;
    struct lw_report_module modules[3];
};

/* 3 000 bytes in 2 expired blocks; `sample` must stay where it is. */
static inline void sample_init(struct sample *sample)
{
    memset(sample, 0, sizeof(*sample));
    sample->raw = (struct lw_stack){.id = 17, .depth = 3};
    sample->frames[0] = (struct lw_report_frame){.function = "malloc",
                                                 .function_offset = 0x1a,
                                                 .module = "libc.so.6",
                                                 .module_path = "/lib/libc.so.6",
                                                 .module_number = 1,
                                                 .offset = 0x9a01a,
                                                 .address = 0x7f000009a01a};
    sample->frames[1] = (struct lw_report_frame){.function = "keep",
                                                 .module = "app",
                                                 .module_path = "/bin/app",
                                                 .module_number = 2,
                                                 .is_return = true,
                                                 .offset = 0x1201,
                                                 .address = 0x5501201,
                                                 .file = "src/app.c",
                                                 .line = 42,
                                                 .inlined = true};
    sample->frames[2] = (struct lw_report_frame){.function = "serve",
                                                 .function_offset = 0x31,
                                                 .module = "app",
                                                 .module_path = "/bin/app",
                                                 .module_number = 2,
                                                 .is_return = true,
                                                 .offset = 0x1201,
                                                 .address = 0x5501201,
                                                 .file = "src/app.c",
                                                 .line = 99};
    sample->frames[3] = (struct lw_report_frame){.module = "libx.so",
                                                 .module_path = "/lib/libx.so",
                                                 .module_number = 3,
                                                 .is_return = true,
                                                 .offset = 0x777,
                                                 .address = 0x7f1234567777};
    sample->modules[0] = (struct lw_report_module){.id = 4,
                                                   .path = "/lib/libc.so.6",
                                                   .build_id = "abc123",
                                                   .start = 0x7f0000026000,
                                                   .end = 0x7f000017b000,
                                                   .file_offset = 0x26000};
    sample->modules[1] = (struct lw_report_module){.id = 1,
                                                   .path = "/bin/app",
                                                   .build_id = "",
                                                   .is_executable = true,
                                                   .start = 0x5501000,
                                                   .end = 0x5503000,
                                                   .file_offset = 0x1000};
    sample->modules[2] =
        (struct lw_report_module){.id = 9, .path = "/lib/libx.so", .build_id = "fed"};
    sample->blocks[0] = (struct lw_snapshot_block){0x55550000, 2000, 75 * LW_NS_PER_SECOND};
    sample->blocks[1] = (struct lw_snapshot_block){0x55551000, 1000, 12500 * LW_NS_PER_MS};
    sample->stack = (struct lw_report_stack){
        .id = 17,
        .facts = {.stack = &sample->raw,
                  .stats = {.live_bytes = 3500,
                            .live_blocks = 3,
                            .expired_bytes = 3000,
                            .expired_blocks = 2,
                            .allocs = 10,
                            .alloc_bytes = 9000,
                            .frees = 7,
                            .late_frees = 1,
                            .lifetime_min_ns = 2 * LW_NS_PER_MS,
                            .lifetime_max_ns = 11 * LW_NS_PER_SECOND,
                            .lifetime_sum_ns = 14 * LW_NS_PER_SECOND},
                  .expired_youngest_ns = 12500 * LW_NS_PER_MS,
                  .expired_oldest_ns = 75 * LW_NS_PER_SECOND,
                  .live_youngest_ns = 300 * LW_NS_PER_MS,
                  .live_oldest_ns = 75 * LW_NS_PER_SECOND},
        .delta_bytes = -512,
        .delta_blocks = -1,
        .verdict = {.kind = LW_VERDICT_GROWING,
                    .steps = 7,
                    .grew = 5,
                    .stride = 1,
                    .has_growth = true,
                    .growth_minute = 1536},
        .frames = sample->frames,
        .frame_count = 4,
    };
    sample->report = (struct lw_report){
        .context = {.pid = 4711,
                    .time_ns = 1700000000ull * LW_NS_PER_SECOND + 7 * LW_NS_PER_MS,
                    .elapsed_ns = 80500 * LW_NS_PER_MS,
                    .rss_bytes = 4 << 20,
                    .number = 3},
        .expire_ns = 10 * LW_NS_PER_SECOND,
        .totals = {.live_bytes = 3500,
                   .live_blocks = 3,
                   .expired_bytes = 3000,
                   .expired_blocks = 2,
                   .expired_stacks = 1},
        .events = {.allocs = 10, .frees = 7, .reallocs = 2},
        .has_previous = true,
        .delta_live_bytes = 100,
        .delta_expired_bytes = -512,
        .delta_expired_blocks = -1,
        .has_rss_trend = true,
        .rss_per_minute = 1 << 20,
        .stack_total = 1,
        .stacks = &sample->stack,
        .stack_count = 1,
        .every_count = 1,
        .modules = sample->modules,
        .module_count = 3,
    };
}

static const char *const sample_functions[] = {"malloc", "calloc", "free"};
static const struct lw_report_allocator sample_allocator = {
    .module = "/lib/libc.so.6",
    .version = "2.36",
    .build_id = "abc123",
    .functions = sample_functions,
    .function_count = 3,
};

static inline struct lw_report_attach sample_attach(void)
{
    return (struct lw_report_attach){
        .pid = 4711,
        .exe = "/bin/app",
        .name = "app",
        .engine = "trap",
        .engine_reason = "",
        .threads = 5,
        .pause_ns = 1800 * LW_NS_PER_US,
        .expire_ns = 10 * LW_NS_PER_SECOND,
        .interval_ns = 1500 * LW_NS_PER_MS,
        .max_size = UINT64_MAX,
        .allocators = &sample_allocator,
        .allocator_count = 1,
    };
}

/* Adds a cohort of 4 000 bytes in 4 blocks, allocated in the first ten seconds, of which the
 * sample's stack holds 3 in 3 000 bytes. */
struct sample_cohort {
    struct lw_cohort cohort;
    struct lw_report_stack stack;
};

static inline void sample_add_cohort(struct sample *sample, struct sample_cohort *with)
{
    lw_cohort_init(&with->cohort, 10 * LW_NS_PER_SECOND);
    with->cohort.open = false;
    with->cohort.ended_ns = 10 * LW_NS_PER_SECOND;
    with->cohort.drain.count = 3;
    with->cohort.drain.points[0] = (struct lw_growth_point){4000, 20.5f, 0};
    with->cohort.drain.points[1] = (struct lw_growth_point){3500, 40, 0};
    with->cohort.drain.points[2] = (struct lw_growth_point){3000, 80.5f, 0};
    with->stack = sample->stack;
    with->stack.facts.marked_bytes = 3000;
    with->stack.facts.marked_blocks = 3;
    with->stack.allocated_marked = (struct lw_cohort_sum){3200, 4};
    sample->report.cohort = (struct lw_report_cohort){
        .cohort = &with->cohort,
        .allocated = {4000, 5},
        .live = {3000, 3},
        .live_bytes_error = 99,
        .stacks = &with->stack,
        .stack_count = 1,
        .stack_total = 2,
    };
}

#endif
