/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a report's text says of suppressed stacks. */
#include "text_suppressed.h"

static void print_total(const struct lw_pen *pen, const struct lw_report_hidden *hidden)
{
    char text[LW_UNITS_MAX];

    putc('\n', pen->stream);
    lw_pen_count(pen, hidden->stacks, "stack");
    if (hidden->expired_blocks > 0) {
        fprintf(pen->stream, " with %s in ", lw_format_size(hidden->expired_bytes, text));
        lw_pen_count(pen, hidden->expired_blocks, "expired block");
    } else {
        fputs(" without expired blocks", pen->stream);
    }
    fprintf(pen->stream, " %s suppressed.\n", hidden->stacks == 1 ? "is" : "are");
}

static void print_name(const struct lw_pen *pen, const struct lw_suppression *suppression)
{
    lw_pen_name(pen, suppression->name);
    fprintf(pen->stream, "  %s(", pen->dim);
    lw_pen_name(pen, suppression->file);
    fprintf(pen->stream, ":%u)%s\n", suppression->line, pen->plain);
}

static void print_used(const struct lw_pen *pen, const struct lw_report *report)
{
    char blocks[LW_UNITS_MAX], bytes[LW_UNITS_MAX], stacks[LW_UNITS_MAX];
    bool any = false;

    for (size_t i = 0; i < report->suppression_count; i++) {
        const struct lw_report_hidden *hidden = &report->suppressions[i].hidden;
        if (hidden->stacks == 0)
            continue;
        if (!any)
            fprintf(pen->stream, "\n%10s %13s %7s  used suppressions\n", "blocks", "bytes",
                    "stacks");
        any = true;
        fprintf(pen->stream, "%10s %13s %7s  ", lw_format_count(hidden->expired_blocks, blocks),
                lw_format_count(hidden->expired_bytes, bytes),
                lw_format_count(hidden->stacks, stacks));
        print_name(pen, report->suppressions[i].suppression);
    }
}

static void print_unused(const struct lw_pen *pen, const struct lw_report *report)
{
    bool any = false;

    for (size_t i = 0; i < report->suppression_count; i++) {
        const struct lw_report_suppression *each = &report->suppressions[i];
        if (each->hidden.stacks > 0 || (each->suppression->is_default && !pen->verbose))
            continue;
        if (!any)
            fputs("\nunused suppressions:\n", pen->stream);
        any = true;
        fputs("    ", pen->stream);
        print_name(pen, each->suppression);
    }
}

void lw_text_print_suppressed(const struct lw_pen *pen, const struct lw_report *report)
{
    if (report->suppressed.stacks > 0)
        print_total(pen, &report->suppressed);
    if (!report->context.summary)
        return;
    print_used(pen, report);
    print_unused(pen, report);
}
