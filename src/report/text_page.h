/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text that is kept within the width of a terminal. */
#ifndef LEAKWATCH_SRC_REPORT_TEXT_PAGE_H
#define LEAKWATCH_SRC_REPORT_TEXT_PAGE_H

#include "leakwatch/report/report.h"
#include "text_pen.h"

/*
 * Where the output has a width, what the pen writes is kept until the end, and lines that are too
 * long are then continued below where their text begins: behind a label ("  live     1.52 MiB") or
 * behind their indentation. Otherwise, and with -v, it is passed on as it is.
 */
struct lw_text_page {
    struct lw_pen pen; /* to write with */
    FILE *stream;      /* where the text goes */
    char *text;
    size_t size;
};

/* 0 or -ENOMEM. */
int lw_text_page_begin(struct lw_text_page *page, FILE *stream,
                       const struct lw_writer_options *options);
/* Writes what was kept, and flushes; 0 or a negative errno. */
int lw_text_page_end(struct lw_text_page *page);

#endif
