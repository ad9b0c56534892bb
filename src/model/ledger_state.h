/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a ledger is made of, for the ledger and the snapshot alone. */
#ifndef LEAKWATCH_MODEL_LEDGER_STATE_H
#define LEAKWATCH_MODEL_LEDGER_STATE_H

#include "block_store.h"
#include "leakwatch/model/ledger.h"

/* The ends of a list in order of age. */
struct lw_block_ends {
    uint32_t oldest, youngest;
};

/*
 * Of the blocks of one stack, the expired ones come first in order of age and the young ones after
 * them, because blocks expire oldest first: youngest_expired is the boundary, or 0.
 */
struct lw_ledger_stack {
    struct lw_stack_stats stats;
    struct lw_block_ends blocks;
    uint32_t youngest_expired;
};

enum { LW_STACK_CHUNK = 128 };

struct lw_ledger {
    uint64_t expire_ns;
    uint64_t now; /* the latest time that was ever given */
    struct lw_block_store store;
    struct lw_block_ends young;            /* the blocks of all stacks that have not been expired */
    struct lw_ledger_stack **stack_chunks; /* by id, LW_STACK_CHUNK each; they never move */
    size_t stack_chunk_count, stack_chunk_capacity;
    uint64_t live_bytes, live_blocks;
    uint64_t expired_bytes, expired_blocks, expired_stacks;
    struct lw_event_counts events;
    struct lw_loss_counts losses;
};

/* Stack ids run from 1 to below this. */
static inline size_t lw_ledger_stack_limit(const struct lw_ledger *ledger)
{
    return ledger->stack_chunk_count * LW_STACK_CHUNK;
}

/* `id` is below the limit. */
static inline struct lw_ledger_stack *lw_ledger_stack_at(const struct lw_ledger *ledger, size_t id)
{
    return &ledger->stack_chunks[id / LW_STACK_CHUNK][id % LW_STACK_CHUNK];
}

static inline const struct lw_block_record *lw_ledger_record(const struct lw_ledger *ledger,
                                                             uint32_t record)
{
    return lw_block_store_at(&ledger->store, record);
}

#endif
