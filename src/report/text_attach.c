/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is watched and how, as text: told once when the watch begins. */
#include "text_parts.h"

#include <errno.h>
#include <string.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/base/units.h"
#include "text_page.h"

#define NAME_COLUMN "%-13s"
#define NAME_INDENT 13
#define WRAP_COLUMN 96

/* The words, broken into lines that start below each other. */
static void print_wrapped(const struct lw_pen *pen, const char *const *words, size_t count)
{
    const size_t width =
        pen->columns > 0 && pen->columns < WRAP_COLUMN ? pen->columns : WRAP_COLUMN;
    size_t column = NAME_INDENT;

    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(words[i]);
        if (i > 0 && column + 1 + length > width) {
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

int lw_text_attach(FILE *stream, const struct lw_writer_options *options,
                   const struct lw_report_attach *attach)
{
    struct lw_text_page page;
    const struct lw_pen *pen = &page.pen;

    if (lw_text_page_begin(&page, stream, options) != 0)
        return -ENOMEM;
    fprintf(pen->stream, NAME_COLUMN, "watching");
    lw_pen_name(pen, attach->exe);
    if (has_other_name(attach)) {
        fputs(" (", pen->stream);
        lw_pen_name(pen, attach->name);
        fputs(")", pen->stream);
    }
    fprintf(pen->stream, ", PID %d, ", (int)attach->pid);
    lw_pen_count(pen, attach->threads, "thread");
    fprintf(pen->stream, "%s%s\n", attach->from_start ? ", from its start" : "",
            attach->stopped ? "; it is stopped and stays so" : "");
    for (size_t i = 0; i < attach->allocator_count; i++)
        print_allocator(pen, &attach->allocators[i]);
    print_settings(pen, attach);
    print_sampling(pen, attach);
    print_engine(pen, attach);
    putc('\n', pen->stream);
    return lw_text_page_end(&page);
}
