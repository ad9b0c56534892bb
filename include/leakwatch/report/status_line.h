/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The line at the bottom of a terminal that shows a person that the watch works. */
#ifndef LEAKWATCH_REPORT_STATUS_LINE_H
#define LEAKWATCH_REPORT_STATUS_LINE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct lw_status {
    uint64_t elapsed_ns;
    uint64_t next_report_ns; /* until the next report; LW_NEVER: none is due */
    double events_per_second;
    uint64_t live_blocks, live_bytes;
    uint64_t oldest_age_ns; /* 0: no live block */
    uint64_t rss_bytes;
};

/* Drawn on `stream` (stderr) only when that is a terminal, cut to its width, redrawn in place with
 * \r and erase-to-end-of-line; a call on a disabled line does nothing. */
struct lw_status_line {
    FILE *stream;
    bool enabled;
    bool drawn;
};

void lw_status_line_init(struct lw_status_line *line, FILE *stream, bool enabled);
void lw_status_line_draw(struct lw_status_line *line, const struct lw_status *status);
/* Any text, which is escaped; not while the terminal takes none (Ctrl-S). */
void lw_status_line_show(struct lw_status_line *line, const char *text);
/* Before anything else is printed. */
void lw_status_line_clear(struct lw_status_line *line);
/* The text alone, for tests: no control characters, cut to `columns`. */
void lw_status_line_format(const struct lw_status *status, unsigned columns, char *buffer,
                           size_t size);

#endif
