/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An immutable picture of the watch at one instant: what every report is made from. */
#ifndef LEAKWATCH_MODEL_SNAPSHOT_H
#define LEAKWATCH_MODEL_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leakwatch/model/ledger.h"
#include "leakwatch/model/stack.h"

/* The common form of all engines. It is taken while the process under watch may be waiting, so it
 * only copies; sorting and naming are the reader's business, on the reader's own time and thread.
 */
struct lw_snapshot_stack {
    const struct lw_stack *stack; /* lives as long as the stack table */
    struct lw_stack_stats stats;
    /* ages, ns: of the expired blocks, 0 when there are none; of all live blocks, likewise */
    uint64_t expired_youngest_ns, expired_oldest_ns;
    uint64_t live_youngest_ns, live_oldest_ns;
    /* standard errors, bytes, of stats.live_bytes and stats.expired_bytes; 0 unless sampled */
    uint64_t live_bytes_error, expired_bytes_error;
    /* live ones that were folded: it is not known whether they have been freed since */
    uint64_t folded_blocks;
    /* those of the live blocks that were marked (see the request); the error is as those above */
    uint64_t marked_bytes, marked_blocks, marked_bytes_error;
    /* this stack's expired blocks, oldest first: blocks[first_block .. + block_count], when asked
     * for; those that were folded are not among them */
    size_t first_block, block_count;
};

struct lw_snapshot_block {
    uint64_t address, size, age_ns;
};

struct lw_snapshot {
    uint64_t taken_ns;  /* lw_clock_now */
    uint64_t cut_ns;    /* see the request; 0: no cut was asked for */
    uint64_t expire_ns; /* the threshold */
    /* Mean bytes between samples. 0: every allocation was seen, and all is exact. Otherwise totals
     * and the stats of stacks are unbiased estimates; blocks are those that were sampled. */
    uint64_t sample_bytes;
    uint64_t live_bytes_error, expired_bytes_error; /* of the totals, as of a stack's */
    struct lw_ledger_totals totals;
    struct lw_event_counts events;
    struct lw_loss_counts losses;
    struct lw_snapshot_stack *stacks; /* those with at least one allocation, by id */
    size_t stack_count;
    struct lw_snapshot_block *blocks; /* NULL unless asked for */
    size_t block_count;
};

/* What a snapshot is to tell beside the figures that it always has. */
struct lw_snapshot_request {
    bool with_blocks;
    /* Cut time in two at this snapshot: blocks that are allocated after it are born after its
     * cut_ns, and those before, which its counts of allocations have in them, not after. (An engine
     * whose target runs on meanwhile may be off by what is allocated in that moment.) */
    bool cut;
    /* Of the live blocks, those that were born after the first and not after the second, in the
     * time of cut_ns, are marked; both 0: none. */
    uint64_t marked_after_ns, marked_until_ns;
};

/* The blocks' stacks must be in `stacks`: what belongs to one that is not is in the totals alone.
 * The owner of the ledger and the stack table makes the snapshot; any thread may then read and
 * destroy it. NULL: out of memory. */
struct lw_snapshot *lw_snapshot_create(struct lw_ledger *ledger,
                                       const struct lw_stack_table *stacks, uint64_t now,
                                       const struct lw_snapshot_request *request);
void lw_snapshot_destroy(struct lw_snapshot *snapshot);

#endif
