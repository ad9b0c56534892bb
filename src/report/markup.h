/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text within XML and HTML. */
#ifndef LEAKWATCH_SRC_REPORT_MARKUP_H
#define LEAKWATCH_SRC_REPORT_MARKUP_H

#include <stdio.h>

/* Any text, so that it stays text: names come from the process under watch. 0 or -ENOMEM. */
int lw_markup_text(FILE *stream, const char *text);

#endif
