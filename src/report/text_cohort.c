/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes what was allocated in a window, how it drains, and which stacks hold the rest. */
#include "text_cohort.h"

#include <inttypes.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "outer_frames.h"
#include "text_frames.h"

static void print_live(const struct lw_pen *pen, const struct lw_report *report, uint64_t bytes,
                       uint64_t error)
{
    if (report->sample_bytes != 0)
        lw_pen_estimate(pen, bytes, error);
    else
        lw_pen_bytes(pen, bytes);
}

/* "in the first 10s of the watch", "from 42.3s to 52.3s into the watch" */
static void print_window(const struct lw_pen *pen, const struct lw_report *report)
{
    const struct lw_cohort *cohort = report->cohort.cohort;
    const uint64_t end_ns = cohort->open ? report->context.elapsed_ns : cohort->ended_ns;
    const uint64_t length_ns = end_ns > cohort->began_ns ? end_ns - cohort->began_ns : 0;
    char text[LW_UNITS_MAX];

    if (cohort->number == 1)
        fprintf(pen->stream, "in the first %s of the watch", lw_format_time(length_ns, text));
    else {
        fprintf(pen->stream, "from %s ", lw_format_time(cohort->began_ns, text));
        fprintf(pen->stream, "to %s into the watch",
                lw_format_time(cohort->began_ns + length_ns, text));
    }
    if (!cohort->open)
        return;
    if (length_ns < cohort->window_ns && !report->context.summary)
        fprintf(pen->stream, "; the window is open for %s more",
                lw_format_time(cohort->window_ns - length_ns, text));
    else
        fputs("; the window is still open", pen->stream);
}

static double percent_of(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0 : 100 * (double)part / (double)whole;
}

static void print_drain(const struct lw_pen *pen, const struct lw_report *report)
{
    const struct lw_growth *drain = &report->cohort.cohort->drain;

    /* The last point is that of the report, unless this is the summary. */
    if (drain->count + report->context.summary < 2)
        return;
    fputs("\n           it was ", pen->stream);
    for (uint32_t i = 0; i + !report->context.summary < drain->count; i++)
        fprintf(pen->stream, "%s%.3g%%", i > 0 ? ", " : "",
                percent_of(drain->points[i].bytes, report->cohort.allocated.bytes));
    fputs(" at the reports before", pen->stream);
}

void lw_text_cohort_totals(const struct lw_pen *pen, const struct lw_report *report)
{
    const struct lw_report_cohort *told = &report->cohort;
    char text[LW_UNITS_MAX];

    if (!told->cohort)
        return;
    fputs("  marked   ", pen->stream);
    if (report->sample_bytes != 0) /* an estimate, though of an error that is not known */
        fputs(lw_format_size(told->allocated.bytes, text), pen->stream);
    else
        lw_pen_bytes(pen, told->allocated.bytes);
    fputs(" in ", pen->stream);
    lw_pen_count(pen, told->allocated.blocks, "block");
    fputs(" allocated ", pen->stream);
    print_window(pen, report);
    fputs("\n           ", pen->stream);
    print_live(pen, report, told->live.bytes, told->live_bytes_error);
    fputs(" in ", pen->stream);
    lw_pen_count(pen, told->live.blocks, "block");
    fprintf(pen->stream, " still live, %.3g%%",
            percent_of(told->live.bytes, told->allocated.bytes));
    print_drain(pen, report);
    putc('\n', pen->stream);
}

/* Its place among the stacks that are listed above, from 1; 0: it is not. */
static size_t place_of(const struct lw_report *report, uint32_t id)
{
    for (size_t i = 0; i < report->stack_count; i++)
        if (report->stacks[i].id == id)
            return i + 1;
    return 0;
}

/* A line, or one with frames, which blank lines set off. */
static void print_stack(const struct lw_pen *pen, const struct lw_report *report, size_t index)
{
    const struct lw_report_stack *stack = &report->cohort.stacks[index];
    const size_t place = place_of(report, stack->id);
    const bool follows_frames =
        index > 0 && place_of(report, report->cohort.stacks[index - 1].id) == 0;
    char text[LW_UNITS_MAX];

    fputs(place == 0 || follows_frames ? "\n    " : "    ", pen->stream);
    print_live(pen, report, stack->facts.marked_bytes, stack->facts.marked_bytes_error);
    fprintf(pen->stream, " in %s of ", lw_format_count(stack->facts.marked_blocks, text));
    lw_pen_count(pen, stack->allocated_marked.blocks, "block");
    fprintf(pen->stream, "; stack %" PRIu32, stack->id);
    if (place != 0) {
        fprintf(pen->stream, ", #%zu above\n", place);
        return;
    }
    putc('\n', pen->stream);
    /* in full, as if it were the only one: the numbers are those of the stacks above */
    struct lw_report alone = *report;
    LW_CLEANUP(lw_outer_frames_deinit) struct lw_outer_frames none = {0};
    alone.stacks = report->cohort.stacks;
    lw_text_frames(pen, &none, &alone, index);
}

void lw_text_cohort_stacks(const struct lw_pen *pen, const struct lw_report *report)
{
    const struct lw_report_cohort *told = &report->cohort;

    if (!told->cohort || told->stack_total + told->suppressed == 0)
        return;
    fprintf(pen->stream, "\n%sMarked and still live:%s\n", pen->bold, pen->plain);
    for (size_t i = 0; i < told->stack_count; i++)
        print_stack(pen, report, i);
    if (told->stack_count < told->stack_total) {
        fputs("\n    ", pen->stream);
        lw_pen_count(pen, told->stack_total - told->stack_count, "more stack");
        fputs("; --top=0 lists all.\n", pen->stream);
    }
    if (told->suppressed > 0) {
        fputs(told->stack_count > 0 ? "\n    " : "    ", pen->stream);
        lw_pen_count(pen, told->suppressed, told->stack_total > 0 ? "more stack" : "stack");
        fprintf(pen->stream, " %s suppressed.\n", told->suppressed == 1 ? "is" : "are");
    }
}
