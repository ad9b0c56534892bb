/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes what the verdict on a stack is, and why. */
#include "text_verdict.h"

/* Where there is colour: from what to look at first to what is well. */
static const char *color_of(enum lw_verdict_kind kind)
{
    switch (kind) {
    case LW_VERDICT_LEAK:
        return "\033[1;31m"; /* red */
    case LW_VERDICT_GROWING:
        return "\033[1;33m"; /* yellow */
    case LW_VERDICT_CACHE:
    case LW_VERDICT_SLOW:
        return "\033[1;32m"; /* green */
    case LW_VERDICT_UNCLEAR:
        break;
    }
    return "\033[1m";
}

void lw_text_verdict(const struct lw_pen *pen, const struct lw_report *report,
                     const struct lw_report_stack *stack)
{
    const enum lw_verdict_kind kind = stack->verdict.kind;
    char reason[LW_REASON_MAX];

    if (stack->verdict.has_growth) {
        lw_pen_delta(pen, stack->verdict.growth_minute);
        fputs(" a minute", pen->stream);
    }
    if (report->has_previous) {
        lw_pen_delta(pen, stack->delta_bytes);
        fputs(" since the last report", pen->stream);
    }
    fprintf(pen->stream, "\n    %s%s%s: %s\n", pen->bold[0] ? color_of(kind) : "",
            lw_verdict_name(kind), pen->plain,
            lw_verdict_reason(&stack->verdict, &stack->facts, report->expire_ns, reason));
}
