/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Columns that text takes on a terminal, and where it may be cut. */
#ifndef LEAKWATCH_SRC_REPORT_TEXT_WIDTH_H
#define LEAKWATCH_SRC_REPORT_TEXT_WIDTH_H

#include <stddef.h>

/* Of valid UTF-8, as lw_text_escape makes it: a character takes one column, an escape sequence for
 * colour none. */
size_t lw_text_width(const char *text);

/* How many bytes of it fit into so many columns: whole characters. */
size_t lw_text_fit(const char *text, size_t columns);

#endif
