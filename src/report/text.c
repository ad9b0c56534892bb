/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports as text, for a person. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/base/units.h"
#include "leakwatch/report/report.h"
#include "stream.h"
#include "text_pen.h"

#define NAME_COLUMN "%-13s"
#define NAME_INDENT 13
#define WRAP_COLUMN 96

/* The words, broken into lines that start below each other. */
static void print_wrapped(const struct lw_pen *pen, const char *const *words, size_t count)
{
    size_t column = NAME_INDENT;

    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(words[i]);
        if (i > 0 && column + 1 + length > WRAP_COLUMN) {
            fprintf(pen->stream, "\n%*s", NAME_INDENT, "");
            column = NAME_INDENT;
        } else if (i > 0) {
            putc(' ', pen->stream);
            column++;
        }
        lw_pen_name(pen, words[i]);
        column += length;
    }
    putc('\n', pen->stream);
}

static void print_allocator(const struct lw_pen *pen, const struct lw_report_allocator *allocator)
{
    fprintf(pen->stream, NAME_COLUMN, "allocator");
    lw_pen_name(pen, allocator->module);
    if (allocator->version[0]) {
        fputs(", version ", pen->stream);
        lw_pen_name(pen, allocator->version);
    }
    if (allocator->build_id[0]) {
        fprintf(pen->stream, ", %sbuild-id ", pen->dim);
        lw_pen_name(pen, allocator->build_id);
        fputs(pen->plain, pen->stream);
    }
    fprintf(pen->stream, "\n%*s", NAME_INDENT, "");
    print_wrapped(pen, allocator->functions, allocator->function_count);
}

static void print_settings(const struct lw_pen *pen, const struct lw_report_attach *attach)
{
    char text[LW_UNITS_MAX];

    fprintf(pen->stream, NAME_COLUMN "blocks that outlive %s", "reporting",
            lw_format_setting(attach->expire_ns, text));
    if (attach->interval_ns != 0 && attach->interval_ns != LW_NEVER)
        fprintf(pen->stream, ", every %s", lw_format_setting(attach->interval_ns, text));
    if (attach->min_size > 0)
        fprintf(pen->stream, ", of %s bytes or more", lw_format_count(attach->min_size, text));
    if (attach->max_size < UINT64_MAX)
        fprintf(pen->stream, ", of %s bytes or fewer", lw_format_count(attach->max_size, text));
    putc('\n', pen->stream);
    if (!attach->from_start)
        fprintf(pen->stream, NAME_COLUMN "blocks allocated before the attach are not seen\n",
                "note");
}

static void print_sampling(const struct lw_pen *pen, const struct lw_report_attach *attach)
{
    char text[LW_UNITS_MAX];

    if (attach->sample_auto)
        fprintf(pen->stream,
                NAME_COLUMN "as few allocations as keep the cost within %g%%; where not all are "
                            "watched, figures are estimates\n",
                "sampling", attach->max_overhead);
    else if (attach->sample_bytes != 0)
        fprintf(pen->stream, NAME_COLUMN "one allocation in %s on average: figures are estimates\n",
                "sampling", lw_format_size(attach->sample_bytes, text));
}

/* Programs are often links to one executable (redis-server to redis-check-rdb), or rename
 * themselves. */
static bool has_other_name(const struct lw_report_attach *attach)
{
    const char *slash = strrchr(attach->exe, '/');
    const char *base = slash ? slash + 1 : attach->exe;
    size_t length = strlen(attach->name);
    return length > 0 && strncmp(base, attach->name, length) != 0;
}

/* "trap (breakpoints); not record: REASON; the attach held the process up for 1.8ms" */
static void print_engine(const struct lw_pen *pen, const struct lw_report_attach *attach)
{
    static const struct {
        const char *name, *meaning;
    } engines[] = {
        {"record", " (inside the target; no stops)"},
        {"trap", " (breakpoints)"},
    };
    char text[LW_UNITS_MAX];

    fprintf(pen->stream, NAME_COLUMN, "engine");
    lw_pen_name(pen, attach->engine);
    for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++)
        if (strcmp(engines[i].name, attach->engine) == 0)
            fputs(engines[i].meaning, pen->stream);
    if (attach->engine_reason[0]) {
        fputs("; not record: ", pen->stream);
        lw_pen_name(pen, attach->engine_reason);
    }
    if (attach->pause_ns > 0)
        fprintf(pen->stream, "; the attach held the process up for %s",
                lw_format_time(attach->pause_ns, text));
    else if (!attach->from_start)
        fputs("; no thread was stopped to attach", pen->stream);
    putc('\n', pen->stream);
}

static int write_attach(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report_attach *attach)
{
    struct lw_pen pen = lw_pen_init(stream, options);

    fprintf(stream, NAME_COLUMN, "watching");
    lw_pen_name(&pen, attach->exe);
    if (has_other_name(attach)) {
        fputs(" (", stream);
        lw_pen_name(&pen, attach->name);
        fputs(")", stream);
    }
    fprintf(stream, ", PID %d, ", (int)attach->pid);
    lw_pen_count(&pen, attach->threads, "thread");
    fprintf(stream, "%s%s\n", attach->from_start ? ", from its start" : "",
            attach->stopped ? "; it is stopped and stays so" : "");
    for (size_t i = 0; i < attach->allocator_count; i++)
        print_allocator(&pen, &attach->allocators[i]);
    print_settings(&pen, attach);
    print_sampling(&pen, attach);
    print_engine(&pen, attach);
    putc('\n', stream);
    return lw_stream_flush(stream);
}

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

static void print_totals(const struct lw_pen *pen, const struct lw_report *report)
{
    const struct lw_ledger_totals *totals = &report->totals;
    char text[LW_UNITS_MAX];

    fprintf(pen->stream, "  live     ");
    print_bytes(pen, report, totals->live_bytes, report->live_bytes_error);
    fputs(" in ", pen->stream);
    lw_pen_count(pen, totals->live_blocks, "block");
    if (report->has_previous) {
        lw_pen_delta(pen, report->delta_live_bytes);
        fputs(" since the last report", pen->stream);
    }
    fprintf(pen->stream, "\n  expired  ");
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
        fprintf(pen->stream, "  RSS      %s", lw_format_size(report->context.rss_bytes, text));
        if (report->has_rss_trend)
            fprintf(pen->stream, ", %s a minute",
                    lw_format_size_delta(report->rss_per_minute, text));
        putc('\n', pen->stream);
    }
    if (report->events.failed_allocs > 0) {
        fprintf(pen->stream, "  failed   ");
        lw_pen_count(pen, report->events.failed_allocs, "allocation");
        fputs(": the allocator had no memory to give\n", pen->stream);
    }
}

/* An address is shown where there is no name to show, and always under -v. */
static void print_frame(const struct lw_pen *pen, const struct lw_report_frame *frame)
{
    fputs("    ", pen->stream);
    if (pen->verbose || !frame->function)
        fprintf(pen->stream, "%s0x%012" PRIx64 "%s%s", pen->dim, frame->address, pen->plain,
                frame->function ? "  " : "");
    if (frame->function) {
        lw_pen_name(pen, frame->function);
        if (frame->inlined)
            fputs(" [inlined]", pen->stream);
        else
            fprintf(pen->stream, "+0x%" PRIx64, frame->function_offset);
    }
    if (frame->file) {
        fputs("  ", pen->stream);
        lw_pen_name(pen, frame->file);
        if (frame->line > 0)
            fprintf(pen->stream, ":%d", frame->line);
    }
    fprintf(pen->stream, "  %s(", pen->dim);
    if (!frame->module)
        fputs("no module", pen->stream);
    else
        lw_pen_name(pen, pen->verbose && frame->module_path ? frame->module_path : frame->module);
    /* what addr2line wants */
    if (frame->module && (pen->verbose || !frame->function))
        fprintf(pen->stream, "+0x%" PRIx64, frame->offset);
    fprintf(pen->stream, ")%s\n", pen->plain);
}

static void print_blocks(const struct lw_pen *pen, const struct lw_report_stack *stack)
{
    char age[LW_UNITS_MAX], size[LW_UNITS_MAX];

    for (size_t i = 0; i < stack->block_count; i++) {
        const struct lw_snapshot_block *block = &stack->blocks[i];
        fprintf(pen->stream, "    block %s0x%012" PRIx64 "%s  %s byte%s  %s old\n", pen->dim,
                block->address, pen->plain, lw_format_count(block->size, size),
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
    if (report->has_previous) {
        lw_pen_delta(pen, stack->delta_bytes);
        fputs(" since the last report", pen->stream);
    }
    fputs("\n    ", pen->stream);
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
    fprintf(pen->stream, " outlived %s\n    ", lw_format_setting(report->expire_ns, text));
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

static void print_stack(const struct lw_pen *pen, const struct lw_report *report, size_t index)
{
    const struct lw_report_stack *stack = &report->stacks[index];

    fprintf(pen->stream, "\n#%zu  ", index + 1);
    if (report->context.summary)
        print_stack_history(pen, report, stack);
    else
        print_stack_facts(pen, report, stack);
    for (size_t i = 0; i < stack->frame_count; i++)
        print_frame(pen, &stack->frames[i]);
    if (stack->frame_count == 0)
        fputs("    no frame could be read\n", pen->stream);
    else if (stack->facts.stack->truncated)
        fputs("    (cut short: the outer frames are not known)\n", pen->stream);
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
    struct lw_pen pen = lw_pen_init(stream, options);
    char text[LW_UNITS_MAX];

    print_header(&pen, report);
    if (report->totals.expired_blocks == 0)
        fprintf(stream, "No block has outlived %s.\n", lw_format_setting(report->expire_ns, text));
    for (size_t i = 0; i < report->stack_count; i++)
        print_stack(&pen, report, i);
    print_cut(&pen, report);
    print_confidence(&pen, report);
    putc('\n', stream);
    return lw_stream_flush(stream);
}

static int write_end(FILE *stream, const struct lw_writer_options *options,
                     const struct lw_report_end *end)
{
    struct lw_pen pen = lw_pen_init(stream, options);

    fprintf(stream, "PID %d ", (int)end->pid);
    if (end->kind == LW_END_EXIT && end->status < 0) {
        fputs("ended (status unknown).\n", stream);
    } else if (end->kind == LW_END_EXIT) {
        fprintf(stream, "exited with status %d.\n", end->status);
    } else if (end->kind == LW_END_SIGNAL) {
        const char *name = sigabbrev_np(end->status); /* NULL for real-time signals */
        if (name)
            fprintf(stream, "was killed by SIG%s.\n", name);
        else
            fprintf(stream, "was killed by signal %d.\n", end->status);
    } else {
        fputs("executed ", stream);
        lw_pen_name(&pen, end->exe[0] ? end->exe : "another program");
        fputs(": the watch of the old image ends.\n", stream);
    }
    return lw_stream_flush(stream);
}

static int write_detach(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report_detach *detach)
{
    struct lw_pen pen = lw_pen_init(stream, options);
    char text[LW_UNITS_MAX];

    fprintf(stream, "Detached from PID %d: ", (int)detach->pid);
    lw_pen_count(&pen, detach->threads, "thread");
    fputs(" released, ", stream);
    lw_pen_count(&pen, detach->probes_removed, "probe");
    fputs(" removed,\n", stream);
    if (detach->code_verified) {
        fputs("  its code equals the file (", stream);
        lw_pen_count(&pen, detach->verified_bytes, "byte");
        fputs(" compared)", stream);
    } else if (detach->verified_bytes == 0) {
        fputs("  its code was not compared with the file", stream);
    } else {
        fprintf(stream, "  %sITS CODE DIFFERS FROM THE FILE%s", pen.bold, pen.plain);
    }
    fputs(", the process is ", stream);
    lw_pen_name(&pen, detach->target_state);
    if (detach->pause_ns > 0)
        fprintf(stream, "; it was held up for %s.\n", lw_format_time(detach->pause_ns, text));
    else
        fputs("; no thread was stopped to detach.\n", stream);
    return lw_stream_flush(stream);
}

const struct lw_writer lw_text_writer = {
    .name = "text",
    .attach = write_attach,
    .report = write_report,
    .end = write_end,
    .detach = write_detach,
};
