/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of `leakwatch diff`, parsed and checked. */
#ifndef LEAKWATCH_SRC_APP_DIFF_OPTIONS_H
#define LEAKWATCH_SRC_APP_DIFF_OPTIONS_H

#include "leakwatch/app/options.h"
#include "leakwatch/report/diff.h"

struct lw_diff_command {
    const char *paths[2];                /* the second one NULL: both reports are in the first */
    long numbers[2];                     /* of the reports, as lw_saved_reports_read takes them */
    const struct lw_diff_writer *writer; /* default text */
    const char *output;                  /* a pattern as lw_output_open takes it; or NULL */
    struct lw_diff_options diff;
    int error_exitcode; /* 0: growth does not change the exit code */
    bool quiet, verbose;
    enum lw_color color;
};

/* As lw_options_parse. */
void lw_diff_options_parse(struct lw_diff_command *command, int argc, char **argv);

#endif
