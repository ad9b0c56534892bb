/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small reports to compare. Include after cmocka.h. */
#ifndef LEAKWATCH_TEST_DIFF_SAMPLE_H
#define LEAKWATCH_TEST_DIFF_SAMPLE_H

#include "leakwatch/report/diff.h"
#include "saved_sample.h"

#define STACKS 8

/* A report of stacks of two frames, malloc in libc and one of the program's. */
struct made {
    struct lw_report report;
    struct lw_report_stack stacks[STACKS];
    struct lw_report_frame frames[STACKS][2];
    struct lw_report_module modules[2];
    struct lw_stack raw;
};

/* Of process 100, `seconds` into its watch, without stacks; `made` must stay where it is. */
static inline void made_init(struct made *made, unsigned seconds)
{
    memset(made, 0, sizeof(*made));
    made->modules[0] = (struct lw_report_module){.path = "/lib/libc.so.6", .build_id = "1c"};
    made->modules[1] =
        (struct lw_report_module){.path = "/bin/app", .build_id = "a0", .is_executable = true};
    made->report = (struct lw_report){
        .context = {.pid = 100,
                    .time_ns = (1700000000ull + seconds) * LW_NS_PER_SECOND,
                    .elapsed_ns = seconds * LW_NS_PER_SECOND,
                    .rss_bytes = 1 << 20},
        .expire_ns = 10 * LW_NS_PER_SECOND,
        .stacks = made->stacks,
        .modules = made->modules,
        .module_count = 2,
    };
}

/* Names `function`, at `offset` of the program; its bytes are in half as many blocks. */
static inline struct lw_report_stack *made_add(struct made *made, const char *function,
                                               uint64_t offset, uint64_t bytes)
{
    struct lw_report *report = &made->report;
    size_t i = report->stack_count++;
    struct lw_stack_stats stats = {.expired_bytes = bytes,
                                   .expired_blocks = bytes / 2,
                                   .live_bytes = bytes,
                                   .live_blocks = bytes / 2};

    report->every_count = report->stack_count;
    made->frames[i][0] = (struct lw_report_frame){.function = "malloc",
                                                  .module = "libc.so.6",
                                                  .module_number = 1,
                                                  .offset = 0x9a0,
                                                  .address = 0x7f009a0};
    made->frames[i][1] = (struct lw_report_frame){.function = function,
                                                  .module = "app",
                                                  .module_number = 2,
                                                  .offset = offset,
                                                  .address = 0x550000 + offset,
                                                  .file = "app.c",
                                                  .line = 7};
    made->stacks[i] = (struct lw_report_stack){.id = (uint32_t)i + 1,
                                               .facts = {.stack = &made->raw, .stats = stats},
                                               .frames = made->frames[i],
                                               .frame_count = 2};
    report->totals.expired_bytes += bytes;
    report->totals.expired_blocks += bytes / 2;
    report->totals.expired_stacks++;
    report->totals.live_bytes += bytes;
    report->totals.live_blocks += bytes / 2;
    return &made->stacks[i];
}

/* What is compared, and the comparison. */
struct compared {
    struct lw_saved_report *before, *after;
    struct lw_diff *diff;
};

static inline struct compared compare(const struct made *before, const struct made *after,
                                      const struct lw_diff_options *options)
{
    static const struct lw_diff_options usual;
    struct compared compared = {save(&before->report), save(&after->report), NULL};

    compared.after->path = "later.json";
    compared.diff = lw_diff_create(compared.before, compared.after, options ? options : &usual);
    assert_non_null(compared.diff);
    return compared;
}

static inline void compared_deinit(struct compared *compared)
{
    lw_diff_destroy(compared->diff);
    lw_saved_report_destroy(compared->before);
    lw_saved_report_destroy(compared->after);
}

#endif
