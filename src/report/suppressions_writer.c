/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports as suppressions, in valgrind's syntax, of the stacks that have expired blocks. */
#include <errno.h>
#include <inttypes.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/units.h"
#include "leakwatch/report/report.h"
#include "stream.h"

/* Callers of the allocator that a suppression is named after. */
#define NAMED_CALLERS 3

/* What a line cannot hold, or a terminal should not be sent, is any character: a ? matches the byte
 * that it stands for. A blank at either end would be taken off. */
static void put_pattern(FILE *stream, const char *name)
{
    size_t length = strlen(name);

    for (size_t i = 0; i < length; i++) {
        bool at_end = i == 0 || i == length - 1;
        putc(name[i] < ' ' || name[i] > '~' || (at_end && name[i] == ' ') ? '?' : name[i], stream);
    }
}

static void put_frame(FILE *stream, const struct lw_report_frame *frame)
{
    const char *function = frame->linkage_name ? frame->linkage_name : frame->function;

    fputs(function ? "   fun:" : "   obj:", stream);
    if (function)
        put_pattern(stream, function);
    else
        put_pattern(stream, frame->module_path ? frame->module_path : "*");
    putc('\n', stream);
}

/* The first frame: where operator new calls malloc, valgrind's stacks begin with the former. */
static size_t first_frame(const struct lw_report_stack *stack)
{
    size_t first = 0;

    while (first + 1 < stack->frame_count &&
           lw_linkage_name_is_new(stack->frames[first + 1].linkage_name))
        first++;
    return first;
}

/* What tells one suppression from another: its frames, as text. Beyond main, where valgrind's
 * stacks end, there is nothing to tell. */
static char *make_frames(const struct lw_report_stack *stack)
{
    char *text = NULL;
    size_t size = 0;
    bool is_main = false;
    FILE *stream = open_memstream(&text, &size);

    if (!stream)
        return NULL;
    for (size_t i = first_frame(stack); i < stack->frame_count && !is_main; i++) {
        const char *function = stack->frames[i].function;
        put_frame(stream, &stack->frames[i]);
        is_main = function && strcmp(function, "main") == 0;
    }
    if (fclose(stream) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static void put_name(FILE *stream, const struct lw_report_stack *stack)
{
    const size_t first = first_frame(stack);
    size_t named = 0;

    fputs("   ", stream);
    for (size_t i = first; i < stack->frame_count && named < NAMED_CALLERS; i++) {
        const struct lw_report_frame *frame = &stack->frames[i];
        const char *name = frame->function ? frame->function : frame->module;

        if (!name ||
            (i == first && first + 1 < stack->frame_count)) /* the allocator's own function */
            continue;
        if (named++ > 0)
            fputs(" < ", stream);
        put_pattern(stream, name);
    }
    fprintf(stream, "%sstack %" PRIu32 "\n", named > 0 ? ", " : "", stack->id);
}

static int compare_texts(const void *left, const void *right)
{
    return strcmp(left, right);
}

/* `known` holds the frames of those that were written: stacks can differ in the places of their
 * calls alone. */
static int write_stack(FILE *stream, const struct lw_report_stack *stack, void **known)
{
    const struct lw_stack_stats *stats = &stack->facts.stats;
    char bytes[LW_UNITS_MAX], blocks[LW_UNITS_MAX];
    lw_auto_free char *frames = make_frames(stack);

    if (!frames)
        return -ENOMEM;
    char *const *found = tsearch(frames, known, compare_texts);
    if (!found)
        return -ENOMEM;
    if (*found != frames)
        return 0;
    fprintf(stream, "# expired: %s bytes in %s block%s\n{\n",
            lw_format_count(stats->expired_bytes, bytes),
            lw_format_count(stats->expired_blocks, blocks), stats->expired_blocks == 1 ? "" : "s");
    put_name(stream, stack);
    fprintf(stream, "   Memcheck:Leak\n%s}\n", frames);
    frames = NULL; /* the tree's now */
    return 0;
}

static int write_report(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report *report)
{
    void *known = NULL;
    int result = 0;

    (void)options;
    fprintf(stream, "# Made by leakwatch from PID %d, for its --suppressions or valgrind's.\n",
            (int)report->context.pid);
    for (size_t i = 0; i < report->every_count && result == 0; i++) {
        const struct lw_report_stack *stack = &report->stacks[i];
        if (stack->facts.stats.expired_blocks > 0 && stack->frame_count > 0)
            result = write_stack(stream, stack, &known);
    }
    tdestroy(known, free);
    return result ? result : lw_stream_flush(stream);
}

const struct lw_writer lw_suppressions_writer = {
    .name = "suppressions",
    .whole_file = true,
    .report = write_report,
};
