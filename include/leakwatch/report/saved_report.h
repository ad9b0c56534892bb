/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports that were written as JSON lines, read back from their files. */
#ifndef LEAKWATCH_REPORT_SAVED_REPORT_H
#define LEAKWATCH_REPORT_SAVED_REPORT_H

#include <stddef.h>

#include "leakwatch/base/error.h"
#include "leakwatch/report/report.h"

struct json_object;

/* `report` is as it was written: what JSON does not tell (history, blocks, lifetimes, changes since
 * the last report) is 0. Figures of bytes and blocks are at most INT64_MAX. */
struct lw_saved_report {
    struct lw_report report;
    const char *path;         /* the caller's, as given */
    size_t line;              /* in the file, from 1 */
    struct json_object *json; /* owns the names */
};

/*
 * Reads the reports (and summaries, which count as reports) with these numbers from a file in one
 * pass: 1 is the first, -1 the last. `path` may be "-", standard input. The other lines are not
 * looked into. A last line that is not complete, as in a file that is still being written, is
 * passed over with a warning. The files may be anybody's: whatever is in them leads to reports or
 * to an error, which names file and line. On success each of reports[0 .. count) is the caller's,
 * else none.
 */
lw_error *lw_saved_reports_read(const char *path, const long numbers[], size_t count,
                                struct lw_saved_report *reports[]);
void lw_saved_report_destroy(struct lw_saved_report *report);

#endif
