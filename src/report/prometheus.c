/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports as metrics in Prometheus' text format, for node_exporter's textfile collector. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "frame_name.h"
#include "frame_role.h"
#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/text.h"
#include "leakwatch/report/report.h"
#include "stack_hash.h"
#include "stream.h"

/* A time series each, whatever --top says: Prometheus keeps every one of them for weeks. */
#define MAX_STACKS 50

/* Stacks of one hash. */
struct series {
    uint64_t hash;
    const struct lw_report_stack *stack; /* the first of them */
    uint64_t bytes, blocks;              /* expired */
};

struct table {
    struct series listed[MAX_STACKS];
    size_t count;
    uint64_t other_bytes, other_blocks;
};

struct page {
    FILE *stream;
    char *target; /* the labels that every metric has */
};

/* A label's value: first what no text may have, then what this format has a use for. */
static int put_value(FILE *stream, const char *value)
{
    lw_auto_free char *escaped = lw_text_escape(value);

    if (!escaped)
        return -ENOMEM;
    for (const char *c = escaped; *c; c++) {
        if (*c == '\\' || *c == '"')
            putc('\\', stream);
        putc(*c, stream);
    }
    return 0;
}

static int put_label(FILE *stream, const char *name, const char *value)
{
    fprintf(stream, ",%s=\"", name);
    int result = put_value(stream, value);
    putc('"', stream);
    return result;
}

/* 0 or -ENOMEM. page->target is the caller's in any case. */
static int begin_page(struct page *page, FILE *stream, pid_t pid, const char *name)
{
    size_t size;
    FILE *labels = open_memstream(&page->target, &size);

    page->stream = stream;
    if (!labels)
        return -ENOMEM;
    fprintf(labels, "pid=\"%d\"", (int)pid);
    int result = put_label(labels, "comm", name);
    return fclose(labels) == 0 ? result : -ENOMEM;
}

static void put_head(const struct page *page, const char *name, const char *type, const char *help)
{
    fprintf(page->stream, "# HELP leakwatch_%s %s\n# TYPE leakwatch_%s %s\n", name, help, name,
            type);
}

static void put_metric(const struct page *page, const char *name, const char *type,
                       const char *help, uint64_t value)
{
    put_head(page, name, type, help);
    fprintf(page->stream, "leakwatch_%s{%s} %" PRIu64 "\n", name, page->target, value);
}

static void put_seconds(const struct page *page, const char *name, const char *help, uint64_t ns)
{
    put_head(page, name, "gauge", help);
    fprintf(page->stream, "leakwatch_%s{%s} %" PRIu64 ".%03u\n", name, page->target,
            (uint64_t)(ns / LW_NS_PER_SECOND), (unsigned)(ns % LW_NS_PER_SECOND / LW_NS_PER_MS));
}

static int put_watch(const struct page *page, const char *exe, const char *engine, bool watching)
{
    put_metric(page, "watching", "gauge", "1 while the process is watched, 0 once that has ended.",
               watching);
    put_head(page, "watch_info", "gauge", "What is watched, and by what.");
    fprintf(page->stream, "leakwatch_watch_info{%s", page->target);
    int result = put_label(page->stream, "exe", exe);
    if (result == 0)
        result = put_label(page->stream, "engine", engine);
    fprintf(page->stream, ",version=\"%s\"} 1\n", LEAKWATCH_VERSION);
    return result;
}

static void put_times(const struct page *page, const struct lw_report *report)
{
    put_seconds(page, "last_report_timestamp_seconds", "When these figures were taken.",
                report->context.time_ns);
    put_seconds(page, "elapsed_seconds", "How long the process has been watched.",
                report->context.elapsed_ns);
    put_seconds(page, "expire_seconds", "Age from which a block counts as expired.",
                report->expire_ns);
}

static void put_totals(const struct page *page, const struct lw_report *report)
{
    const struct lw_ledger_totals *totals = &report->totals;

    put_metric(page, "live_bytes", "gauge",
               "Bytes allocated since the watch began and not freed, as requested.",
               totals->live_bytes);
    put_metric(page, "live_blocks", "gauge",
               "Blocks allocated since the watch began and not freed.", totals->live_blocks);
    put_metric(page, "expired_bytes", "gauge", "Live bytes in blocks that have expired.",
               totals->expired_bytes);
    put_metric(page, "expired_blocks", "gauge", "Live blocks that have expired.",
               totals->expired_blocks);
    put_metric(page, "expired_stacks", "gauge", "Call stacks with blocks that have expired.",
               totals->expired_stacks);
    if (report->context.rss_bytes != 0)
        put_metric(page, "resident_memory_bytes", "gauge", "Resident set size of the process.",
                   report->context.rss_bytes);
}

static void put_sampling(const struct page *page, const struct lw_report *report)
{
    put_metric(page, "sample_bytes", "gauge",
               "Mean bytes between sampled allocations, 0: every allocation is watched.",
               report->sample_bytes);
    if (report->sample_bytes == 0)
        return;
    put_metric(page, "live_error_bytes", "gauge", "Standard error of leakwatch_live_bytes.",
               report->live_bytes_error);
    put_metric(page, "expired_error_bytes", "gauge", "Standard error of leakwatch_expired_bytes.",
               report->expired_bytes_error);
}

static void put_events(const struct page *page, const struct lw_event_counts *events)
{
    put_metric(page, "allocations_total", "counter", "Blocks allocated.", events->allocs);
    put_metric(page, "frees_total", "counter", "Blocks freed that were allocated while watched.",
               events->frees);
    put_metric(page, "reallocations_total", "counter", "Blocks reallocated.", events->reallocs);
    put_metric(page, "failed_allocations_total", "counter",
               "Allocations that the allocator refused.", events->failed_allocs);
    put_metric(page, "unknown_frees_total", "counter", "Frees of blocks from before the watch.",
               events->unknown_frees);
}

static void put_losses(const struct page *page, const struct lw_report *report)
{
    const struct {
        const char *kind;
        uint64_t count;
    } losses[] = {
        {"missed_frees", report->events.missed_frees},
        {"missed_returns", report->losses.missed_returns},
        {"truncated_stacks", report->losses.truncated_stacks},
        {"dropped_blocks", report->losses.dropped_blocks},
        {"folded_blocks", report->losses.folded_blocks},
    };

    put_head(page, "losses_total", "counter", "What was not seen as it should have been.");
    for (size_t i = 0; i < sizeof(losses) / sizeof(losses[0]); i++)
        fprintf(page->stream, "leakwatch_losses_total{%s,kind=\"%s\"} %" PRIu64 "\n", page->target,
                losses[i].kind, losses[i].count);
}

/* The listed stacks, each with those that differ in nothing that a hash knows of; the others
 * summed. */
static void fill_table(struct table *table, const struct lw_report *report)
{
    for (size_t i = 0; i < report->every_count; i++) {
        const struct lw_report_stack *stack = &report->stacks[i];
        const struct lw_stack_stats *stats = &stack->facts.stats;
        size_t at = 0;

        if (stats->expired_bytes == 0 && stats->expired_blocks == 0)
            continue;
        uint64_t hash = lw_stack_hash(report, stack);
        while (at < table->count && table->listed[at].hash != hash)
            at++;
        if (at == table->count && i < report->stack_count && table->count < MAX_STACKS)
            table->listed[table->count++] = (struct series){.hash = hash, .stack = stack};
        bool listed = at < table->count;
        *(listed ? &table->listed[at].bytes : &table->other_bytes) += stats->expired_bytes;
        *(listed ? &table->listed[at].blocks : &table->other_blocks) += stats->expired_blocks;
    }
}

/* Who asked for the memory; where nobody is known, who is the outermost. */
static const struct lw_report_frame *asking_frame(const struct lw_report_stack *stack)
{
    const size_t own = lw_report_own_frame(stack);

    if (stack->frame_count == 0)
        return NULL;
    return &stack->frames[own < stack->frame_count ? own : stack->frame_count - 1];
}

static int put_stack(const struct page *page, const char *name, const struct series *series,
                     uint64_t value)
{
    const struct lw_report_frame *frame = asking_frame(series->stack);
    lw_auto_free char *function = frame ? lw_frame_name(frame) : strdup("");

    if (!function)
        return -ENOMEM;
    fprintf(page->stream, "leakwatch_%s{%s,stack=\"%016" PRIx64 "\"", name, page->target,
            series->hash);
    int result = put_label(page->stream, "function", function);
    fprintf(page->stream, "} %" PRIu64 "\n", value);
    return result;
}

static void put_other(const struct page *page, const char *name, uint64_t value)
{
    fprintf(page->stream, "leakwatch_%s{%s,stack=\"other\",function=\"\"} %" PRIu64 "\n", name,
            page->target, value);
}

static int put_stacks(const struct page *page, const struct lw_report *report)
{
    struct table table = {0};
    int result = 0;

    fill_table(&table, report);
    put_head(page, "stack_expired_bytes", "gauge",
             "Bytes in expired blocks by the call stack that allocated them.");
    for (size_t i = 0; i < table.count && result == 0; i++)
        result = put_stack(page, "stack_expired_bytes", &table.listed[i], table.listed[i].bytes);
    put_other(page, "stack_expired_bytes", table.other_bytes);
    put_head(page, "stack_expired_blocks", "gauge",
             "Expired blocks by the call stack that allocated them.");
    for (size_t i = 0; i < table.count && result == 0; i++)
        result = put_stack(page, "stack_expired_blocks", &table.listed[i], table.listed[i].blocks);
    put_other(page, "stack_expired_blocks", table.other_blocks);
    return result;
}

/* So that a watch whose first report is still far off is not taken for one that has ended. */
static int write_attach(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report_attach *attach)
{
    lw_auto_free char *target = NULL;
    struct page page = {0};

    (void)options;
    int result = begin_page(&page, stream, attach->pid, attach->name);
    target = page.target;
    if (result == 0)
        result = put_watch(&page, attach->exe, attach->engine, true);
    return result ? result : lw_stream_flush(stream);
}

static int write_report(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report *report)
{
    const struct lw_report_context *context = &report->context;
    lw_auto_free char *target = NULL;
    struct page page = {0};

    (void)options;
    int result = begin_page(&page, stream, context->pid, context->name);
    target = page.target;
    if (result == 0)
        result = put_watch(&page, context->exe, context->engine, !context->summary);
    if (result != 0)
        return result;
    put_times(&page, report);
    put_totals(&page, report);
    put_sampling(&page, report);
    put_events(&page, &report->events);
    put_losses(&page, report);
    result = put_stacks(&page, report);
    return result ? result : lw_stream_flush(stream);
}

const struct lw_writer lw_prometheus_writer = {
    .name = "prometheus",
    .whole_file = true,
    .for_everyone = true,
    .attach = write_attach,
    .report = write_report,
};
