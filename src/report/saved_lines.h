/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which lines of a file of JSON lines are the wanted reports. */
#ifndef LEAKWATCH_SRC_REPORT_SAVED_LINES_H
#define LEAKWATCH_SRC_REPORT_SAVED_LINES_H

#include <json-c/json.h>
#include <stdio.h>

#include "leakwatch/base/error.h"

struct lw_saved_line {
    char *text; /* the caller's; not terminated */
    size_t length;
    size_t number; /* in the file, from 1 */
};

/* numbers and path as in lw_saved_reports_read. On failure no line is the caller's. */
lw_error *lw_saved_lines_choose(FILE *stream, const char *path, const long numbers[], size_t count,
                                struct lw_saved_line lines[]);

/* The object that the line is; the caller puts it. */
lw_error *lw_saved_line_parse(const struct lw_saved_line *line, const char *path,
                              struct json_object **object);

#endif
