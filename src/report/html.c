/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports as one page for a browser: its data are a report as JSON and the history of the watch. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "assets.h"
#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/report/report.h"
#include "markup.h"
#include "stream.h"

/* Stacks on a page; the browser holds all of their frames. */
#define MAX_STACKS 1000

/* The page may load nothing from anywhere, whatever its data are. */
static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n<title>";

/* What the page's own stacks leave out. */
struct left_out {
    size_t stacks;
    uint64_t expired_bytes, live_bytes;
};

static int compare_stacks(const void *left, const void *right)
{
    const struct lw_report_stack *a = left, *b = right;
    const struct lw_stack_stats *x = &a->facts.stats, *y = &b->facts.stats;

    if (x->expired_bytes != y->expired_bytes)
        return x->expired_bytes > y->expired_bytes ? -1 : 1;
    if (x->live_bytes != y->live_bytes)
        return x->live_bytes > y->live_bytes ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

/* The largest stacks that have anything live, in `stacks`, which has room for all; their number. */
static size_t choose_stacks(const struct lw_report *report, struct lw_report_stack *stacks,
                            struct left_out *left)
{
    size_t count = 0;

    for (size_t i = 0; i < report->every_count; i++)
        if (report->stacks[i].facts.stats.live_blocks > 0)
            stacks[count++] = report->stacks[i];
    qsort(stacks, count, sizeof(stacks[0]), compare_stacks);
    *left = (struct left_out){0};
    for (size_t i = MAX_STACKS; i < count; i++) {
        left->stacks++;
        left->expired_bytes += stacks[i].facts.stats.expired_bytes;
        left->live_bytes += stacks[i].facts.stats.live_bytes;
    }
    return count - left->stacks;
}

/* JSON within a script element: a '<' is never outside of a string, and there it can be escaped. */
static void put_json(FILE *stream, const char *json, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (json[i] == '<')
            fputs("\\u003c", stream);
        else
            putc(json[i], stream);
    }
}

/* The report over the stacks of the page, as the format of that name has it. */
static int put_report(FILE *stream, const struct lw_report *report,
                      const struct lw_writer_options *options, struct lw_report_stack *stacks,
                      size_t count)
{
    lw_auto_free char *json = NULL;
    size_t size = 0;
    struct lw_report chosen = *report;
    FILE *memory = open_memstream(&json, &size);

    if (!memory)
        return -ENOMEM;
    chosen.stacks = stacks;
    chosen.stack_count = chosen.every_count = count;
    int result = lw_json_writer.report(memory, options, &chosen);
    if (fclose(memory) != 0 && result == 0)
        result = -ENOMEM;
    if (result == 0)
        put_json(stream, json, size);
    return result;
}

/* [seconds, live, expired, RSS or null] of each report. */
static void put_history(FILE *stream, const struct lw_report *report)
{
    for (size_t i = 0; i < report->history_count; i++) {
        const struct lw_report_point *point = &report->history[i];

        fprintf(stream, "%s[%llu.%03llu,%llu,%llu,", i > 0 ? "," : "",
                point->elapsed_ns / LW_NS_PER_SECOND,
                point->elapsed_ns % LW_NS_PER_SECOND / LW_NS_PER_MS,
                (unsigned long long)point->live_bytes, (unsigned long long)point->expired_bytes);
        if (point->rss_bytes != 0)
            fprintf(stream, "%llu]", (unsigned long long)point->rss_bytes);
        else
            fputs("null]", stream);
    }
}

static int put_data(FILE *stream, const struct lw_writer_options *options,
                    const struct lw_report *report)
{
    struct left_out left;
    lw_auto_free struct lw_report_stack *stacks = calloc(report->every_count + 1, sizeof(*stacks));

    if (!stacks)
        return -ENOMEM;
    size_t count = choose_stacks(report, stacks, &left);
    fprintf(stream,
            "{\"weight\":\"%s\",\"left_out\":{\"stacks\":%zu,\"expired_bytes\":%llu,"
            "\"live_bytes\":%llu},\"history\":[",
            lw_weight_name(options->weight), left.stacks, (unsigned long long)left.expired_bytes,
            (unsigned long long)left.live_bytes);
    put_history(stream, report);
    fputs("],\"report\":", stream);
    int result = put_report(stream, report, options, stacks, count);
    fputs("}", stream);
    return result;
}

static int write_report(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report *report)
{
    fputs(head, stream);
    int result = lw_markup_text(stream, report->context.exe ? report->context.exe : "");
    fprintf(stream, " (PID %d)</title>\n<style>\n%s%s</style>\n</head>\n%s",
            (int)report->context.pid, lw_asset_flame_css, lw_asset_page_css, lw_asset_page_html);
    fputs("<script type=\"application/json\" id=\"data\">", stream);
    if (result == 0)
        result = put_data(stream, options, report);
    fprintf(stream, "</script>\n<script>\n%s%s%s</script>\n</body>\n</html>\n", lw_asset_flame_js,
            lw_asset_plot_js, lw_asset_page_js);
    return result ? result : lw_stream_flush(stream);
}

const struct lw_writer lw_html_writer = {
    .name = "html",
    .whole_file = true,
    .report = write_report,
};
