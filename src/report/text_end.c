/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the watch ended, and what the detach found, as text. */
#include "text_parts.h"

#include <errno.h>
#include <string.h>

#include "leakwatch/base/units.h"
#include "text_page.h"

int lw_text_end(FILE *stream, const struct lw_writer_options *options,
                const struct lw_report_end *end)
{
    struct lw_text_page page;
    const struct lw_pen *pen = &page.pen;

    if (lw_text_page_begin(&page, stream, options) != 0)
        return -ENOMEM;
    fprintf(pen->stream, "PID %d ", (int)end->pid);
    if (end->kind == LW_END_EXIT && end->status < 0) {
        fputs("ended (status unknown).\n", pen->stream);
    } else if (end->kind == LW_END_EXIT) {
        fprintf(pen->stream, "exited with status %d.\n", end->status);
    } else if (end->kind == LW_END_SIGNAL) {
        const char *name = sigabbrev_np(end->status); /* NULL for real-time signals */
        if (name)
            fprintf(pen->stream, "was killed by SIG%s.\n", name);
        else
            fprintf(pen->stream, "was killed by signal %d.\n", end->status);
    } else {
        fputs("executed ", pen->stream);
        lw_pen_name(pen, end->exe[0] ? end->exe : "another program");
        fputs(": the watch of the old image ends.\n", pen->stream);
    }
    return lw_text_page_end(&page);
}

int lw_text_detach(FILE *stream, const struct lw_writer_options *options,
                   const struct lw_report_detach *detach)
{
    struct lw_text_page page;
    const struct lw_pen *pen = &page.pen;
    char text[LW_UNITS_MAX];

    if (lw_text_page_begin(&page, stream, options) != 0)
        return -ENOMEM;
    fprintf(pen->stream, "Detached from PID %d: ", (int)detach->pid);
    lw_pen_count(pen, detach->threads, "thread");
    fputs(" released, ", pen->stream);
    lw_pen_count(pen, detach->probes_removed, "probe");
    fputs(" removed,\n", pen->stream);
    if (detach->code_verified) {
        fputs("  its code equals the file (", pen->stream);
        lw_pen_count(pen, detach->verified_bytes, "byte");
        fputs(" compared)", pen->stream);
    } else if (detach->verified_bytes == 0) {
        fputs("  its code was not compared with the file", pen->stream);
    } else {
        fprintf(pen->stream, "  %sITS CODE DIFFERS FROM THE FILE%s", pen->bold, pen->plain);
    }
    fputs(",\n  the process is ", pen->stream);
    lw_pen_name(pen, detach->target_state);
    if (detach->pause_ns > 0)
        fprintf(pen->stream, "; it was held up for %s.\n", lw_format_time(detach->pause_ns, text));
    else
        fputs("; no thread was stopped to detach.\n", pen->stream);
    return lw_text_page_end(&page);
}
