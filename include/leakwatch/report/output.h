/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where reports go: standard output, a file that grows and can be reopened so that logs rotate, or
 * one whose contents are replaced. */
#ifndef LEAKWATCH_REPORT_OUTPUT_H
#define LEAKWATCH_REPORT_OUTPUT_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "leakwatch/base/error.h"

struct lw_output {
    FILE *stream;    /* NULL while a replaced file is not being written */
    char *path;      /* NULL: standard output */
    char *temporary; /* of a replaced file: where it is written; NULL: it is not replaced */
};

/*
 * `pattern` NULL or "-": standard output. %p in it is the PID, %% a percent sign. A file is
 * appended to, created with mode 0600 when run as root and 0666 less the umask otherwise,
 * close-on-exec. Opening happens before the target is touched, so that a bad path harms nothing.
 *
 * With `replace`, each contents takes the place of the last at once (a temporary file beside it is
 * renamed), so that readers see whole ones only. That is for regular files: standard output, a pipe
 * or a device are still a stream, which lw_output_is_replaced tells.
 */
lw_error *lw_output_open(struct lw_output *output, const char *pattern, pid_t pid, bool replace);
bool lw_output_is_replaced(const struct lw_output *output);
/* Around all that is written to `stream`. With `complete` false nothing is replaced. On what is no
 * replaced file both do nothing. */
lw_error *lw_output_begin(struct lw_output *output);
lw_error *lw_output_commit(struct lw_output *output, bool complete);
/* Opens the same path again (SIGHUP); the old stream stays in use when that fails. Nothing to be
 * done for a replaced file. */
lw_error *lw_output_reopen(struct lw_output *output);
/* Flushes and closes; the error of a write that failed only now. */
lw_error *lw_output_close(struct lw_output *output);
bool lw_output_is_terminal(const struct lw_output *output);
/* Of the terminal, at this moment; 0: it is none. */
unsigned lw_output_columns(const struct lw_output *output);

#endif
