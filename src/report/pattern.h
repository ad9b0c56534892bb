/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Comparing names with the patterns of suppressions. */
#ifndef LEAKWATCH_SRC_REPORT_PATTERN_H
#define LEAKWATCH_SRC_REPORT_PATTERN_H

#include <stdbool.h>

/* As valgrind has it: the whole text; * is any characters, ? any one. The time is bounded by the
 * product of the lengths, whatever the pattern. */
bool lw_pattern_glob(const char *pattern, const char *text);

/* As the sanitizers have it: anywhere in the text; * is any characters, ^ in front the text's
 * beginning, $ its end (and the pattern's). Nothing matches the empty text. */
bool lw_pattern_find(const char *pattern, const char *text);

#endif
