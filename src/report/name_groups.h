/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The brackets of a demangled C++ or Rust name, told apart from operators. */
#ifndef LEAKWATCH_SRC_REPORT_NAME_GROUPS_H
#define LEAKWATCH_SRC_REPORT_NAME_GROUPS_H

#include <stdbool.h>
#include <stddef.h>

#include "leakwatch/base/vector.h"

/* What stands in a pair of brackets: name[start] to name[end - 1]. */
struct lw_name_group {
    size_t start, end;
    size_t parent;  /* index + 1 of the group around it; 0: there is none */
    unsigned depth; /* 1: nothing is around it */
    char open;      /* one of ( < { [ */
};

/* By their start. */
typedef LW_VECTOR(struct lw_name_group) lw_name_groups;

/* Finds the pairs of brackets; what has no partner is ordinary text, and so are those of
 * `operator<`, of `->` and of "(anonymous namespace)". The caller deinits `groups`, also on
 * failure: -ENOMEM. Any text is fine. */
int lw_name_find_groups(const char *name, lw_name_groups *groups);

/* Where the qualified name of the function begins: behind the return type, which demanglers put
 * before the names of templates. */
size_t lw_name_start(const char *name, const lw_name_groups *groups);

/* The next byte of `name` after `at` that is in no group; *next is the first group behind it, 0 at
 * first. */
size_t lw_name_step(const lw_name_groups *groups, size_t at, size_t *next);

#endif
