/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All outputs of a watch: each a format and where it goes. */
#ifndef LEAKWATCH_APP_OUTPUTS_H
#define LEAKWATCH_APP_OUTPUTS_H

#include <signal.h>

#include "leakwatch/app/options.h"
#include "leakwatch/base/error.h"
#include "leakwatch/report/output.h"
#include "leakwatch/report/progress.h"

struct lw_outgoing {
    const struct lw_writer *writer;
    struct lw_writer_options writing;
    struct lw_output output;
};

/* All zero: nothing is open. */
struct lw_outputs {
    struct lw_outgoing list[LW_OUTPUT_MAX];
    size_t count;
    struct lw_progress *progress; /* to tell which file is being written; or NULL */
};

/* Opens all that the options ask for, or none. */
lw_error *lw_outputs_open(struct lw_outputs *outputs, const struct lw_options *options, pid_t pid);
/* Those that grow, again; the error of the last that could not be. */
lw_error *lw_outputs_reopen(struct lw_outputs *outputs);
/* The error of the first that could not be written to its end. */
lw_error *lw_outputs_close(struct lw_outputs *outputs);

/* Whether any is a file; and whether none is a pipe or the like, so that a terminal on standard
 * error shows a person nothing yet, or the reports themselves. */
bool lw_outputs_have_file(const struct lw_outputs *outputs);
bool lw_outputs_leave_terminal(const struct lw_outputs *outputs);

/* One of these is to be told, the others are NULL. */
struct lw_message {
    const struct lw_report_attach *attach;
    const struct lw_report *report;
    const struct lw_report_end *end;
    const struct lw_report_detach *detach;
};

/* Each output is written to, whatever becomes of the others; the first error. `ending`: see
 * lw_draft_send; *interrupted is set when one of those signals came. */
lw_error *lw_outputs_write(struct lw_outputs *outputs, const struct lw_message *message,
                           const sigset_t *ending, bool *interrupted);

#endif
