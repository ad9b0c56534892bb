/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Long names of functions, shortened to what tells them apart. */
#ifndef LEAKWATCH_SRC_REPORT_SHORT_NAME_H
#define LEAKWATCH_SRC_REPORT_SHORT_NAME_H

#include <stddef.h>

/*
 * A copy that takes at most so many columns (at least 1); the caller frees it. NULL: out of memory.
 * A name that fits is left as it is. From another one is left out, until it fits: what says little
 * (the long form of std::string, "(anonymous namespace)::", " [clone .cold]"); the return type;
 * the trait of Rust's "<Type as Trait>"; template arguments and lists of parameters, which become
 * `…`, the innermost first, of those parameters first, of those the longest first; scopes on the
 * left; and at last what is on the right. `name` is valid UTF-8 (lw_text_escape).
 */
char *lw_name_shorten(const char *name, size_t columns);

#endif
