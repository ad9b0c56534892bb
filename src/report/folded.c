/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports as folded stacks: a line a stack, outermost function first, and its weight. */
#include "folded.h"

#include <errno.h>
#include <stdio.h>

#include "frame_name.h"
#include "leakwatch/base/cleanup.h"
#include "stream.h"

/* A semicolon, which parts the frames, cannot be in a name. */
static int write_frame(FILE *stream, const struct lw_report_frame *frame)
{
    lw_auto_free char *name = lw_frame_name(frame);

    if (!name)
        return -ENOMEM;
    for (const char *c = name; *c; c++)
        putc(*c == ';' ? ':' : *c, stream);
    return 0;
}

int lw_folded_write_names(FILE *stream, const struct lw_report_stack *stack)
{
    bool truncated = stack->facts.stack && stack->facts.stack->truncated;

    if (truncated || stack->frame_count == 0)
        fputs(truncated ? LW_TRUNCATED_NAME : "[unknown]", stream);
    for (size_t i = stack->frame_count; i > 0; i--) {
        if (i < stack->frame_count || truncated)
            putc(';', stream);
        int result = write_frame(stream, &stack->frames[i - 1]);
        if (result != 0)
            return result;
    }
    return 0;
}

static int write_stack(FILE *stream, const struct lw_report_stack *stack, uint64_t weight)
{
    int result = lw_folded_write_names(stream, stack);

    if (result == 0)
        fprintf(stream, " %llu\n", (unsigned long long)weight);
    return result;
}

static int write_report(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report *report)
{
    for (size_t i = 0; i < report->every_count; i++) {
        const struct lw_report_stack *stack = &report->stacks[i];
        uint64_t weight = lw_report_stack_weight(stack, options->weight);
        int result = weight > 0 ? write_stack(stream, stack, weight) : 0;
        if (result != 0)
            return result;
    }
    return lw_stream_flush(stream);
}

const struct lw_writer lw_folded_writer = {
    .name = "folded",
    .whole_file = true,
    .report = write_report,
};
