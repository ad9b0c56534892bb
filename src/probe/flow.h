/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control flow of one function, from its entry to every place where it ends. */
#ifndef LEAKWATCH_PROBE_FLOW_H
#define LEAKWATCH_PROBE_FLOW_H

#include <stdbool.h>

#include "leakwatch/probe/allocator.h"
#include "leakwatch/target/elf_image.h"

struct lw_address_list {
    LW_VECTOR(uint64_t) list;
};

struct lw_flow_summary {
    LW_VECTOR(struct lw_allocator_exit) exits;
    bool ends_in_watched; /* may end in a jump to one */
};

/*
 * Follows branches, and jumps into private code of the module (compilers move the cold part of a
 * function away, and share tails). A jump through the PLT, to an exported function or through a
 * register is not followed: it is an exit of the kind LW_EXIT_JUMP, unless it reaches an allocator
 * function, whose own exits serve. Reads the file's bytes, so breakpoints are not in the way. 0 or
 * a negative errno; all addresses are link-time.
 */
int lw_flow_walk(const struct lw_elf_image *image, uint64_t entry,
                 const struct lw_address_list *watched, bool past_watched,
                 struct lw_flow_summary *summary);
void lw_flow_summary_deinit(struct lw_flow_summary *summary);

/*
 * Does a branch, jump or call on the same walk target [entry + 1, entry + window)? What is reached
 * only through a table of addresses is not seen. 0 and *enters, or a negative errno.
 */
int lw_flow_enters(const struct lw_elf_image *image, uint64_t entry, unsigned window, bool *enters);

#endif
