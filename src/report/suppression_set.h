/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a set of suppressions consists of: filled by the parser, read by the search. */
#ifndef LEAKWATCH_SRC_REPORT_SUPPRESSION_SET_H
#define LEAKWATCH_SRC_REPORT_SUPPRESSION_SET_H

#include "leakwatch/base/vector.h"
#include "leakwatch/report/suppression.h"

enum lw_pattern_kind {
    LW_PATTERN_FUNCTION,
    LW_PATTERN_MODULE,
    LW_PATTERN_SOURCE,
    LW_PATTERN_ANY_NAME, /* LeakSanitizer's: a function, file or module */
    LW_PATTERN_FRAMES,   /* "...": any number of frames; has no text */
};

struct lw_pattern {
    enum lw_pattern_kind kind;
    int line; /* of a source; 0: any */
    char *text;
};

/* Its patterns are patterns[first .. + count]: of valgrind's syntax a frame each, innermost first;
 * of LeakSanitizer's one, for whichever frame. */
struct lw_rule {
    struct lw_suppression shown; /* owns `name` */
    size_t first, count;
    bool never; /* match-leak-kinds: none */
};

/* A frame's marks take a bit for each pattern; beyond this it is a mistake. */
#define LW_RULES_MAX 10000

struct lw_suppressions {
    LW_VECTOR(struct lw_rule) rules;
    LW_VECTOR(struct lw_pattern) patterns;
    LW_VECTOR(char *) files; /* names of those read */
    size_t skipped;
};

#endif
