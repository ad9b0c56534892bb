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

/* Blocks of one stack that were folded: they count, but are not known one by one. */
struct lw_folded {
    uint64_t bytes, blocks;
    uint64_t oldest_born_ns, youngest_born_ns; /* valid when blocks is not 0 */
};

/*
 * Of the blocks of one stack, the expired ones come first in order of age and the young ones after
 * them, because blocks expire oldest first: youngest_expired is the boundary, or 0.
 */
struct lw_ledger_stack {
    struct lw_stack_stats stats;
    struct lw_block_ends blocks;
    uint32_t youngest_expired;
    struct lw_folded folded_young, folded_expired;
};

enum { LW_STACK_CHUNK = 128 };

struct lw_ledger {
    uint64_t expire_ns;
    uint64_t now; /* the latest time that was ever given */
    struct lw_block_store store;
    uint32_t block_limit;                  /* 0: none */
    struct lw_block_ends young, expired;   /* the blocks of all stacks */
    uint64_t folded_young;                 /* blocks, of all stacks */
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

/* The times between which blocks were born. */
struct lw_born_span {
    uint64_t oldest, youngest; /* UINT64_MAX and 0: there is none */
};

static inline void lw_born_span_add(struct lw_born_span *span, uint64_t oldest, uint64_t youngest)
{
    span->oldest = oldest < span->oldest ? oldest : span->oldest;
    span->youngest = youngest > span->youngest ? youngest : span->youngest;
}

static inline struct lw_born_span lw_ledger_expired_span(const struct lw_ledger *ledger,
                                                         const struct lw_ledger_stack *stack)
{
    const struct lw_folded *folded = &stack->folded_expired;
    struct lw_born_span span = {.oldest = UINT64_MAX};
    if (folded->blocks > 0)
        lw_born_span_add(&span, folded->oldest_born_ns, folded->youngest_born_ns);
    if (stack->youngest_expired)
        lw_born_span_add(&span, lw_ledger_record(ledger, stack->blocks.oldest)->born_ns,
                         lw_ledger_record(ledger, stack->youngest_expired)->born_ns);
    return span;
}

static inline struct lw_born_span lw_ledger_live_span(const struct lw_ledger *ledger,
                                                      const struct lw_ledger_stack *stack)
{
    const struct lw_folded *folded = &stack->folded_young;
    struct lw_born_span span = lw_ledger_expired_span(ledger, stack);
    if (folded->blocks > 0)
        lw_born_span_add(&span, folded->oldest_born_ns, folded->youngest_born_ns);
    if (stack->blocks.oldest)
        lw_born_span_add(&span, lw_ledger_record(ledger, stack->blocks.oldest)->born_ns,
                         lw_ledger_record(ledger, stack->blocks.youngest)->born_ns);
    return span;
}

#endif
