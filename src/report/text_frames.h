/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The frames of a stack as lines of text. */
#ifndef LEAKWATCH_SRC_REPORT_TEXT_FRAMES_H
#define LEAKWATCH_SRC_REPORT_TEXT_FRAMES_H

#include "leakwatch/report/report.h"
#include "outer_frames.h"
#include "text_pen.h"

/* Of stacks[index], after those before it. The first frame that is the program's own doing is
 * marked, outer frames that an earlier stack has shown are counted only, and lines fit the
 * terminal; with pen->verbose all is shown in full. */
void lw_text_frames(const struct lw_pen *pen, struct lw_outer_frames *outer,
                    const struct lw_report *report, size_t index);

/* What a line shows of a frame beside its names. */
struct lw_frame_look {
    bool is_leading; /* from the marked one to the allocator */
    bool is_marked;
    bool no_offset; /* that in the function is not known */
};
void lw_text_frame(const struct lw_pen *pen, const struct lw_report_frame *frame,
                   const struct lw_frame_look *look);

#endif
