/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `leakwatch diff`: compares reports that were written as JSON. It touches no process. */
#ifndef LEAKWATCH_APP_DIFF_COMMAND_H
#define LEAKWATCH_APP_DIFF_COMMAND_H

/* argv[0] is "diff". Runs to the end and returns the program's exit code; bad usage exits at once,
 * as with lw_options_parse. Errors have been told on stderr. */
int lw_diff_command_run(int argc, char **argv);

#endif
