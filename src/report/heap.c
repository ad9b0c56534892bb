/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports as the text of gperftools' heap profiler, which google-pprof and jeprof read. */
#include <errno.h>
#include <stdio.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/text.h"
#include "leakwatch/report/report.h"
#include "stream.h"

struct sums {
    uint64_t blocks, bytes, allocs, alloc_bytes;
};

/* What those programs call in use is what the weight says: expired or live. */
static struct sums sums_of(const struct lw_report_stack *stack, enum lw_weight weight)
{
    const struct lw_stack_stats *stats = &stack->facts.stats;
    bool live = lw_weight_is_live(weight);

    return (struct sums){
        .blocks = live ? stats->live_blocks : stats->expired_blocks,
        .bytes = live ? stats->live_bytes : stats->expired_bytes,
        .allocs = stats->allocs,
        .alloc_bytes = stats->alloc_bytes,
    };
}

static void put_sums(FILE *stream, const struct sums *sums)
{
    fprintf(stream, "%6llu: %8llu [%6llu: %8llu] @", (unsigned long long)sums->blocks,
            (unsigned long long)sums->bytes, (unsigned long long)sums->allocs,
            (unsigned long long)sums->alloc_bytes);
}

static void put_stack(FILE *stream, const struct lw_report_stack *stack, enum lw_weight weight)
{
    const struct sums sums = sums_of(stack, weight);

    put_sums(stream, &sums);
    /* one address for a function and all that is inlined into it */
    for (size_t i = 0; i < stack->frame_count; i++)
        if (!stack->frames[i].inlined)
            fprintf(stream, " 0x%llx", (unsigned long long)stack->frames[i].address);
    putc('\n', stream);
}

/* As a line of /proc/PID/maps; device and inode mean nothing where the profile is read. */
static int put_module(FILE *stream, const struct lw_report_module *module)
{
    lw_auto_free char *path = lw_text_escape(module->path);

    if (!path)
        return -ENOMEM;
    if (module->end != 0)
        fprintf(stream, "%llx-%llx r-xp %08llx 00:00 0 %s\n", (unsigned long long)module->start,
                (unsigned long long)module->end, (unsigned long long)module->file_offset, path);
    return 0;
}

static int write_report(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report *report)
{
    struct sums total = {0};

    for (size_t i = 0; i < report->every_count; i++) {
        const struct sums sums = sums_of(&report->stacks[i], options->weight);

        total.blocks += sums.blocks;
        total.bytes += sums.bytes;
        total.allocs += sums.allocs;
        total.alloc_bytes += sums.alloc_bytes;
    }
    fputs("heap profile: ", stream);
    put_sums(stream, &total);
    fputs(" heapprofile\n", stream);
    for (size_t i = 0; i < report->every_count; i++)
        put_stack(stream, &report->stacks[i], options->weight);
    fputs("\nMAPPED_LIBRARIES:\n", stream);
    for (size_t i = 0; i < report->module_count; i++) {
        int result = put_module(stream, &report->modules[i]);
        if (result != 0)
            return result;
    }
    return lw_stream_flush(stream);
}

const struct lw_writer lw_heap_writer = {
    .name = "heap",
    .whole_file = true,
    .report = write_report,
};
