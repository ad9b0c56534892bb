/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports as text, for a person. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/units.h"
#include "leakwatch/report/report.h"
#include "outer_frames.h"
#include "text_cohort.h"
#include "text_frames.h"
#include "text_page.h"
#include "text_parts.h"
#include "text_suppressed.h"
#include "text_verdict.h"

/* Date and time of day where leakwatch runs, with the offset that makes it unambiguous. */
static void print_title(const struct lw_pen *pen, const struct lw_report_context *context)
{
    time_t seconds = (time_t)(context->time_ns / LW_NS_PER_SECOND);
    char day[64], text[LW_UNITS_MAX];
    struct tm tm;

    if (!localtime_r(&seconds, &tm) || strftime(day, sizeof(day), "%F %T %z", &tm) == 0)
        strcpy(day, "(time unknown)");
    if (context->summary)
        fprintf(pen->stream, "%sSummary%s", pen->bold, pen->plain);
    else
        fprintf(pen->stream, "%sReport %u%s", pen->bold, context->number, pen->plain);
    fprintf(pen->stream, " of PID %d at %s, %s into the watch\n", (int)context->pid, day,
            lw_format_time(context->elapsed_ns, text));
}

static void print_bytes(const struct lw_pen *pen, const struct lw_report *report, uint64_t bytes,
                        uint64_t error)
{
    if (report->sample_bytes != 0)
        lw_pen_estimate(pen, bytes, error);
    else
        lw_pen_bytes(pen, bytes);
}

/* Sizes in the header stand with their units below each other. */
static void align_size(const struct lw_pen *pen, uint64_t bytes)
{
    char text[LW_UNITS_MAX];
    const size_t width = strlen("1023 KiB"), length = strlen(lw_format_size(bytes, text));

    fprintf(pen->stream, "%*s", length < width ? (int)(width - length) : 0, "");
}

static void print_totals(const struct lw_pen *pen, const struct lw_report *report)
{
    const struct lw_ledger_totals *totals = &report->totals;
    char text[LW_UNITS_MAX];

    fprintf(pen->stream, "  live     ");
    align_size(pen, totals->live_bytes);
    print_bytes(pen, report, totals->live_bytes, report->live_bytes_error);
    fputs(" in ", pen->stream);
    lw_pen_count(pen, totals->live_blocks, "block");
    if (report->has_previous) {
        lw_pen_delta(pen, report->delta_live_bytes);
        fputs(" since the last report", pen->stream);
    }
    fprintf(pen->stream, "\n  expired  ");
    align_size(pen, totals->expired_bytes);
    print_bytes(pen, report, totals->expired_bytes, report->expired_bytes_error);
    fputs(" in ", pen->stream);
    lw_pen_count(pen, totals->expired_blocks, "block");
    fputs(" from ", pen->stream);
    lw_pen_count(pen, totals->expired_stacks, "stack");
    if (report->has_previous) {
        int64_t blocks = report->delta_expired_blocks;
        lw_pen_delta(pen, report->delta_expired_bytes);
        fprintf(pen->stream, " and %c%s block%s", blocks < 0 ? '-' : '+',
                lw_format_count(blocks < 0 ? -(uint64_t)blocks : (uint64_t)blocks, text),
                blocks == 1 || blocks == -1 ? "" : "s");
    }
    putc('\n', pen->stream);
}

static void print_header(const struct lw_pen *pen, const struct lw_report *report)
{
    char text[LW_UNITS_MAX];

    print_title(pen, &report->context);
    if (report->sample_bytes != 0)
        fprintf(
            pen->stream,
            "  sampled  one allocation in %s on average: bytes and blocks are estimates, ± their "
            "standard error\n",
            lw_format_size(report->sample_bytes, text));
    print_totals(pen, report);
    if (report->context.rss_bytes != 0) {
        fprintf(pen->stream, "  RSS      ");
        align_size(pen, report->context.rss_bytes);
        fprintf(pen->stream, "%s", lw_format_size(report->context.rss_bytes, text));
        if (report->has_rss_trend)
            fprintf(pen->stream, "%s%s a minute%s", report->context.summary ? "; " : ", ",
                    lw_format_size_delta(report->rss_per_minute, text),
                    report->context.summary ? " up to the last report" : "");
        putc('\n', pen->stream);
    }
    lw_text_cohort_totals(pen, report);
    if (report->events.failed_allocs > 0) {
        fprintf(pen->stream, "  failed   ");
        lw_pen_count(pen, report->events.failed_allocs, "allocation");
        fputs(": the allocator had no memory to give\n", pen->stream);
    }
}

static void print_blocks(const struct lw_pen *pen, const struct lw_report_stack *stack)
{
    char age[LW_UNITS_MAX], size[LW_UNITS_MAX];
    size_t widest = 0;

    for (size_t i = 0; i < stack->block_count; i++) {
        const size_t length = strlen(lw_format_count(stack->blocks[i].size, size));
        if (length > widest)
            widest = length;
    }
    for (size_t i = 0; i < stack->block_count; i++) {
        const struct lw_snapshot_block *block = &stack->blocks[i];
        fprintf(pen->stream, "    block %s0x%012" PRIx64 "%s  %*s byte%s  %s old\n", pen->dim,
                block->address, pen->plain, (int)widest, lw_format_count(block->size, size),
                lw_plural(block->size), lw_format_time(block->age_ns, age));
    }
}

/* "12.3s old", "12.3s to 1m 05s old" */
static void print_ages(const struct lw_pen *pen, uint64_t youngest_ns, uint64_t oldest_ns)
{
    char young[LW_UNITS_MAX], old[LW_UNITS_MAX];

    lw_format_time(youngest_ns, young);
    lw_format_time(oldest_ns, old);
    if (strcmp(young, old) != 0)
        fprintf(pen->stream, "%s to ", young);
    fprintf(pen->stream, "%s old", old);
}

static void print_expired(const struct lw_pen *pen, const struct lw_report *report,
                          const struct lw_report_stack *stack)
{
    print_bytes(pen, report, stack->facts.stats.expired_bytes, stack->facts.expired_bytes_error);
    fputs(" in ", pen->stream);
    lw_pen_count(pen, stack->facts.stats.expired_blocks, "block");
}

static void print_stack_facts(const struct lw_pen *pen, const struct lw_report *report,
                              const struct lw_report_stack *stack)
{
    const struct lw_snapshot_stack *facts = &stack->facts;

    print_expired(pen, report, stack);
    lw_text_verdict(pen, report, stack);
    fputs("    ", pen->stream);
    print_ages(pen, facts->expired_youngest_ns, facts->expired_oldest_ns);
    fputs("; ", pen->stream);
    lw_pen_count(pen, facts->stats.late_frees, "late free");
    fprintf(pen->stream, "; stack %" PRIu32 "\n", stack->id);
}

/* What memleax tells of a stack in the end: what came, what went and how long it lived. */
static void print_stack_history(const struct lw_pen *pen, const struct lw_report *report,
                                const struct lw_report_stack *stack)
{
    const struct lw_snapshot_stack *facts = &stack->facts;
    const struct lw_stack_stats *stats = &facts->stats;
    char text[LW_UNITS_MAX], mean[LW_UNITS_MAX], max[LW_UNITS_MAX];

    if (stats->expired_blocks > 0)
        print_expired(pen, report, stack);
    else
        fputs("no block", pen->stream);
    fprintf(pen->stream, " outlived %s", lw_format_setting(report->expire_ns, text));
    if (stats->expired_blocks + stats->late_frees > 0)
        lw_text_verdict(pen, report, stack);
    else
        putc('\n', pen->stream);
    fputs("    ", pen->stream);
    lw_pen_count(pen, stats->allocs, "allocation");
    fprintf(pen->stream, " (%s), ", lw_format_size(stats->alloc_bytes, text));
    lw_pen_count(pen, stats->frees, "free");
    fputs(", ", pen->stream);
    lw_pen_count(pen, stats->late_frees, "late free");
    fprintf(pen->stream, "; stack %" PRIu32 "\n", stack->id);
    if (stats->frees > 0)
        fprintf(pen->stream, "    freed blocks lived %s min, %s mean, %s max\n",
                lw_format_time(stats->lifetime_min_ns, text),
                lw_format_time(stats->lifetime_sum_ns / stats->frees, mean),
                lw_format_time(stats->lifetime_max_ns, max));
    if (stats->live_blocks > 0) {
        fputs("    ", pen->stream);
        lw_pen_count(pen, stats->live_blocks, "block");
        fprintf(pen->stream, " (%s", lw_format_size(stats->live_bytes, text));
        if (report->sample_bytes != 0)
            fprintf(pen->stream, " ± %s", lw_format_size(facts->live_bytes_error, text));
        fputs(") still live, ", pen->stream);
        print_ages(pen, facts->live_youngest_ns, facts->live_oldest_ns);
        putc('\n', pen->stream);
    }
}

static void print_stack(const struct lw_pen *pen, struct lw_outer_frames *outer,
                        const struct lw_report *report, size_t index)
{
    const struct lw_report_stack *stack = &report->stacks[index];

    fprintf(pen->stream, "\n#%zu  ", index + 1);
    if (report->context.summary)
        print_stack_history(pen, report, stack);
    else
        print_stack_facts(pen, report, stack);
    lw_text_frames(pen, outer, report, index);
    print_blocks(pen, stack);
}

static void print_cut(const struct lw_pen *pen, const struct lw_report *report)
{
    char text[LW_UNITS_MAX];
    size_t cut = report->stack_total - report->stack_count;

    if (cut == 0)
        return;
    fputs("\n", pen->stream);
    lw_pen_count(pen, cut, "more stack");
    fprintf(pen->stream, " with %s in ", lw_format_size(report->cut_bytes, text));
    lw_pen_count(pen, report->cut_blocks, "expired block");
    fputs("; --top=0 lists all.\n", pen->stream);
}

/* How far the figures can be relied on; silent when nothing was missed. */
static void print_confidence(const struct lw_pen *pen, const struct lw_report *report)
{
    const struct lw_event_counts *events = &report->events;
    const struct lw_loss_counts *losses = &report->losses;
    const struct {
        uint64_t count;
        const char *noun, *meaning;
    } items[] = {
        {events->unknown_frees, "unknown free", " (of blocks from before the attach)"},
        {events->missed_frees, "missed free", ""},
        {losses->missed_returns, "missed return", ""},
        {losses->truncated_stacks, "truncated stack", ""},
        {losses->dropped_blocks, "dropped block", " (no room for them: see --max-memory)"},
        {losses->folded_blocks, "folded block",
         " (at --max-memory: live in these figures, and their frees are unknown ones)"},
    };
    bool any = false;

    for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++) {
        if (items[i].count == 0)
            continue;
        if (!any) {
            fputs("\nconfidence: ", pen->stream);
            lw_pen_count(pen, events->allocs, "allocation");
            fputs(", ", pen->stream);
            lw_pen_count(pen, events->frees, "free");
            fputs(" and ", pen->stream);
            lw_pen_count(pen, events->reallocs, "realloc");
            fputs(" seen", pen->stream);
        }
        fputs(any ? ", " : "; ", pen->stream);
        lw_pen_count(pen, items[i].count, items[i].noun);
        fputs(items[i].meaning, pen->stream);
        any = true;
    }
    if (any)
        putc('\n', pen->stream);
}

static int write_report(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report *report)
{
    LW_CLEANUP(lw_outer_frames_deinit) struct lw_outer_frames outer = {0};
    struct lw_text_page page;
    const struct lw_pen *pen = &page.pen;
    char text[LW_UNITS_MAX];

    if (lw_text_page_begin(&page, stream, options) != 0)
        return -ENOMEM;
    print_header(pen, report);
    if (report->totals.expired_blocks == 0)
        fprintf(pen->stream, "No block has outlived %s.\n",
                lw_format_setting(report->expire_ns, text));
    for (size_t i = 0; i < report->stack_count; i++)
        print_stack(pen, &outer, report, i);
    print_cut(pen, report);
    lw_text_print_suppressed(pen, report);
    lw_text_cohort_stacks(pen, report);
    print_confidence(pen, report);
    putc('\n', pen->stream);
    return lw_text_page_end(&page);
}

const struct lw_writer lw_text_writer = {
    .name = "text",
    .attach = lw_text_attach,
    .report = write_report,
    .end = lw_text_end,
    .detach = lw_text_detach,
};
