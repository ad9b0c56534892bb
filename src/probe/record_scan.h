/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The live blocks in the agent's ledger, and which parts of the shared memory exist. */
#ifndef LEAKWATCH_PROBE_RECORD_SCAN_H
#define LEAKWATCH_PROBE_RECORD_SCAN_H

#include <stdbool.h>

#include "leakwatch/agent/agent.h"

/*
 * The shared memory is a sparse file (tmpfs), mapped at `shared`. Reading a page of it that does
 * not exist would make it, so the file is asked before the mapping is read. These functions move
 * the file offset of `fd`. They know neither stacks nor what a size means.
 */

struct record_extent {
    uint64_t start, end; /* bytes of the file */
};

/* The first part of the file's [from, limit) that exists; false when there is none. */
bool record_next_extent(int fd, uint64_t from, uint64_t limit, struct record_extent *extent);

struct record_block {
    uint64_t address, size; /* as requested */
    uint32_t age;           /* ticks */
    uint32_t rate, stack;   /* as the agent has them */
    /* where it was found; it may be another block's by now */
    const struct lw_agent_record *record;
    uint32_t generation;
};

typedef void record_visit_block(void *context, const struct record_block *block);

/*
 * Calls `visit` for each live block, in no order. A record whose address has been given out again
 * is of a block that was freed unseen: it is not live, and *missed is raised. 0 or -ENOMEM (then
 * nothing was visited).
 */
int record_scan_blocks(int fd, const struct lw_agent_shared *shared, uint32_t tick,
                       record_visit_block *visit, void *context, uint64_t *missed);

#endif
