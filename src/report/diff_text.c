/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A comparison as text, for a person. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "frame_role.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/report/diff.h"
#include "text_frames.h"
#include "text_page.h"

#define NAME_COLUMN "  %-9s"

/* "a.json:12: PID 4711 (leakd) at 2026-11-21 17:27:43 +0000, 16.0s into the watch" */
static void print_side(const struct lw_pen *pen, const char *name, const struct lw_diff_side *side)
{
    const struct lw_report_context *context = &side->saved->report.context;
    const char *slash = strrchr(context->exe, '/');
    time_t seconds = (time_t)(context->time_ns / LW_NS_PER_SECOND);
    char day[64], text[LW_UNITS_MAX];
    struct tm tm;

    if (!localtime_r(&seconds, &tm) || strftime(day, sizeof(day), "%F %T %z", &tm) == 0)
        strcpy(day, "(time unknown)");
    fprintf(pen->stream, NAME_COLUMN, name);
    lw_pen_name(pen, side->saved->path);
    fprintf(pen->stream, ":%zu: PID %d", side->saved->line, (int)context->pid);
    if (context->exe[0]) {
        fputs(" (", pen->stream);
        lw_pen_name(pen, slash ? slash + 1 : context->exe);
        fputs(")", pen->stream);
    }
    fprintf(pen->stream, " at %s, %s into the watch\n", day,
            lw_format_time(context->elapsed_ns, text));
}

static void print_amount(const struct lw_pen *pen, const struct lw_diff_amount *amount)
{
    if (amount->error != 0)
        lw_pen_estimate(pen, amount->bytes, amount->error);
    else
        lw_pen_bytes(pen, amount->bytes);
    fputs(" in ", pen->stream);
    lw_pen_count(pen, amount->blocks, "block");
}

/* "+176 KiB ± 4.00 KiB and +1,500 blocks" */
static void print_change(const struct lw_pen *pen, int64_t bytes, int64_t blocks, uint64_t error)
{
    uint64_t count = blocks < 0 ? -(uint64_t)blocks : (uint64_t)blocks;
    char text[LW_UNITS_MAX];

    fprintf(pen->stream, "%s%s%s", pen->bold, lw_format_size_delta(bytes, text), pen->plain);
    if (error != 0)
        fprintf(pen->stream, " ± %s", lw_format_size(error, text));
    fprintf(pen->stream, " and %c", blocks < 0 ? '-' : '+');
    lw_pen_count(pen, count, "block");
}

static void print_rate(const struct lw_pen *pen, const struct lw_diff *diff, int64_t bytes)
{
    char text[LW_UNITS_MAX];
    int64_t rate;

    if (bytes != 0 && lw_diff_per_minute(diff, bytes, &rate))
        fprintf(pen->stream, ", %s a minute", lw_format_size_delta(rate, text));
}

static void print_rss(const struct lw_pen *pen, const struct lw_diff *diff)
{
    const struct lw_report_context *before = &diff->before.saved->report.context;
    const struct lw_report_context *after = &diff->after.saved->report.context;
    int64_t change = (int64_t)after->rss_bytes - (int64_t)before->rss_bytes;
    char text[LW_UNITS_MAX];

    /* by the summary, the memory of the recorder in the process has gone: no change of its own */
    if (before->rss_bytes == 0 || after->rss_bytes == 0 || before->summary != after->summary)
        return;
    fprintf(pen->stream, NAME_COLUMN "%s", "RSS", lw_format_size_delta(change, text));
    print_rate(pen, diff, change);
    fprintf(pen->stream, ": from %s", lw_format_size(before->rss_bytes, text));
    fprintf(pen->stream, " to %s\n", lw_format_size(after->rss_bytes, text));
}

static void print_totals(const struct lw_pen *pen, const struct lw_diff *diff)
{
    const struct lw_diff_amount *from = &diff->before.total, *to = &diff->after.total;
    int64_t bytes = (int64_t)to->bytes - (int64_t)from->bytes;

    fprintf(pen->stream, NAME_COLUMN, lw_weight_is_live(diff->options.weight) ? "live" : "expired");
    print_change(pen, bytes, (int64_t)to->blocks - (int64_t)from->blocks, lw_diff_error(from, to));
    print_rate(pen, diff, bytes);
    fputs(":\n           from ", pen->stream);
    print_amount(pen, from);
    fputs(" to ", pen->stream);
    print_amount(pen, to);
    putc('\n', pen->stream);
}

/* "2 grew, 1 new, 3 unchanged" */
static void print_counts(const struct lw_pen *pen, const struct lw_diff *diff)
{
    char text[LW_UNITS_MAX];
    const char *separator = "";

    fprintf(pen->stream, NAME_COLUMN, "stacks");
    for (int change = 0; change < LW_CHANGE_COUNT; change++) {
        if (diff->changes[change] == 0)
            continue;
        fprintf(pen->stream, "%s%s %s", separator, lw_format_count(diff->changes[change], text),
                lw_change_name((enum lw_change)change));
        separator = ", ";
    }
    fputs(diff->stack_count > 0 ? "\n" : "none\n", pen->stream);
}

static void print_header(const struct lw_pen *pen, const struct lw_diff *diff)
{
    char text[LW_UNITS_MAX];

    fprintf(pen->stream, "%sChange of %s blocks%s", pen->bold,
            lw_weight_is_live(diff->options.weight) ? "live" : "expired", pen->plain);
    if (diff->same_watch)
        fprintf(pen->stream, " in %s of one watch", lw_format_time(diff->apart_ns, text));
    putc('\n', pen->stream);
    print_side(pen, "before", &diff->before);
    print_side(pen, "after", &diff->after);
    for (size_t i = 0; i < diff->note_count; i++) {
        fprintf(pen->stream, NAME_COLUMN, "note");
        lw_pen_name(pen, diff->notes[i]);
        putc('\n', pen->stream);
    }
    print_totals(pen, diff);
    print_rss(pen, diff);
    print_counts(pen, diff);
}

/* As in a report, but with all outer frames: few stacks are looked at here. */
static void print_frames(const struct lw_pen *pen, const struct lw_report_stack *stack)
{
    const size_t own = lw_report_own_frame(stack);
    const bool has_own = own < stack->frame_count;

    for (size_t i = 0; i < stack->frame_count; i++)
        lw_text_frame(pen, &stack->frames[i],
                      &(struct lw_frame_look){.is_leading = has_own && i < own,
                                              .is_marked = i == own,
                                              .no_offset = true});
    if (stack->frame_count == 0)
        fputs("    no frame could be read\n", pen->stream);
    else if (stack->facts.stack->truncated)
        fputs("    (cut short: the outer frames are not known)\n", pen->stream);
}

/* What the stack had in one of the reports. */
static void print_part(const struct lw_pen *pen, const struct lw_diff_amount *amount,
                       const struct lw_diff_side *side, bool unknown)
{
    char text[LW_UNITS_MAX];

    if (unknown)
        fprintf(pen->stream, "at most %s (it is not listed)",
                lw_format_size(side->unlisted.bytes, text));
    else
        print_amount(pen, amount);
}

/* "; stack 23", "; stack 23 (before: 21)" */
static void print_numbers(const struct lw_pen *pen, const struct lw_diff_stack *stack)
{
    fprintf(pen->stream, "; stack %" PRIu32, lw_diff_shown_stack(stack)->id);
    if (stack->before && stack->after && stack->before->id != stack->after->id)
        fprintf(pen->stream, " (before: %" PRIu32 ")", stack->before->id);
    putc('\n', pen->stream);
}

static void print_stack(const struct lw_pen *pen, const struct lw_diff *diff, size_t index)
{
    const struct lw_diff_stack *stack = &diff->stacks[index];
    const struct lw_report_stack *shown = lw_diff_shown_stack(stack);
    bool unknown = stack->from_unknown || stack->to_unknown;

    fprintf(pen->stream, "\n#%zu  %s: %s", index + 1, lw_change_name(stack->change),
            unknown ? "up to " : "");
    print_change(pen, stack->change_bytes, stack->change_blocks,
                 lw_diff_error(&stack->from, &stack->to));
    if (stack->change != LW_CHANGE_UNCLEAR && !unknown)
        print_rate(pen, diff, stack->change_bytes);
    fputs("\n    from ", pen->stream);
    print_part(pen, &stack->from, &diff->before, stack->from_unknown);
    fputs(" to ", pen->stream);
    print_part(pen, &stack->to, &diff->after, stack->to_unknown);
    print_numbers(pen, stack);
    print_frames(pen, shown);
}

static int write_text(FILE *stream, const struct lw_writer_options *options,
                      const struct lw_diff *diff)
{
    struct lw_text_page page;
    const struct lw_pen *pen = &page.pen;
    size_t listed = lw_diff_listed(diff);
    size_t cut = diff->stack_count - diff->changes[LW_CHANGE_NONE] - listed;

    if (lw_text_page_begin(&page, stream, options) != 0)
        return -ENOMEM;
    print_header(pen, diff);
    for (size_t i = 0; i < listed; i++)
        print_stack(pen, diff, i);
    if (cut > 0) {
        putc('\n', pen->stream);
        lw_pen_count(pen, cut, "more stack");
        fprintf(pen->stream, " %s changed, or may have; --top=0 lists all.\n",
                cut == 1 ? "has" : "have");
    }
    return lw_text_page_end(&page);
}

const struct lw_diff_writer lw_diff_text_writer = {
    .name = "text", .has_notes = true, .write = write_text};
