/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the text of a report is composed of: names, counts, sizes and times. */
#ifndef LEAKWATCH_SRC_REPORT_TEXT_PEN_H
#define LEAKWATCH_SRC_REPORT_TEXT_PEN_H

#include <stdint.h>
#include <stdio.h>

#include "leakwatch/base/units.h"
#include "leakwatch/report/report.h"

/* Where the text goes and how it looks there: escape sequences, or empty strings. */
struct lw_pen {
    FILE *stream;
    const char *bold, *dim, *plain;
    const char *mark;  /* of the frame to look at first */
    const char *grown; /* of what has become more */
    bool verbose;
    unsigned columns; /* 0: lines may be long */
};

struct lw_pen lw_pen_init(FILE *stream, const struct lw_writer_options *options);

/* Escaped: names come from the process under watch and its files. */
void lw_pen_name(const struct lw_pen *pen, const char *name);
/* "1 block", "3 blocks" */
void lw_pen_count(const struct lw_pen *pen, uint64_t count, const char *noun);
/* "1.50 KiB (1,540 bytes)": the first to grasp, the second to rely on. */
void lw_pen_bytes(const struct lw_pen *pen, uint64_t bytes);
/* "1.50 KiB ± 310 B": no exact bytes, since none are known. */
void lw_pen_estimate(const struct lw_pen *pen, uint64_t bytes, uint64_t error);
/* ", +1.50 KiB" */
void lw_pen_delta(const struct lw_pen *pen, int64_t bytes);

const char *lw_plural(uint64_t count);
/* As lw_format_duration, but what is below a second keeps its digits. */
const char *lw_format_time(uint64_t ns, char buffer[LW_UNITS_MAX]);
/* A time that a person chose, exactly: "10s", not "10.0s", and "1.25s", not "1.2s". */
const char *lw_format_setting(uint64_t ns, char buffer[LW_UNITS_MAX]);

#endif
