/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How wide a terminal is. */
#ifndef LEAKWATCH_SRC_REPORT_TERMINAL_H
#define LEAKWATCH_SRC_REPORT_TERMINAL_H

/* Of the terminal that fd is: what it says, else what the environment's COLUMNS says, else 80. */
unsigned lw_terminal_columns(int fd);

#endif
