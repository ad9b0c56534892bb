/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where reports go: standard output, or a file that can be reopened so that logs rotate. */
#ifndef LEAKWATCH_REPORT_OUTPUT_H
#define LEAKWATCH_REPORT_OUTPUT_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "leakwatch/base/error.h"

struct lw_output {
    FILE *stream;
    char *path; /* NULL: standard output */
};

/*
 * `pattern` NULL or "-": standard output. %p in it is the PID, %% a percent sign. A file is
 * appended to, created with mode 0600 when run as root and 0666 less the umask otherwise,
 * close-on-exec. Opening happens before the target is touched, so that a bad path harms nothing.
 */
lw_error *lw_output_open(struct lw_output *output, const char *pattern, pid_t pid);
/* Opens the same path again (SIGHUP); the old stream stays in use when that fails. */
lw_error *lw_output_reopen(struct lw_output *output);
/* Flushes and closes; the error of a write that failed only now. */
lw_error *lw_output_close(struct lw_output *output);
bool lw_output_is_terminal(const struct lw_output *output);

#endif
