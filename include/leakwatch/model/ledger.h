/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ledger: every block that is live, how old it is, and totals for each stack. */
#ifndef LEAKWATCH_MODEL_LEDGER_H
#define LEAKWATCH_MODEL_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Pure accounting. It does not know where events come from, reads no clock (`now` is an argument,
 * in nanoseconds; an earlier one than before is taken as that), does no I/O and prints nothing.
 *
 * Memory: at most about 64 bytes for each live block (a record of 48 bytes in chunks that never
 * move, and a sharded open-addressing index that grows shard by shard, so that no single insertion
 * is slow).
 */
struct lw_ledger;

/* A block outside the sizes that are watched: it is known, so that its free is not a surprise,
 * but it belongs to no stack and to no total. */
#define LW_STACK_NONE 0u

struct lw_block {
    uint64_t address;
    uint64_t size; /* bytes, as requested */
    uint64_t born_ns;
    uint32_t stack; /* lw_stack.id, or LW_STACK_NONE */
};

/* Totals of one stack since the watch began. A block is expired once its age has reached the
 * threshold. */
struct lw_stack_stats {
    uint64_t live_bytes, live_blocks;
    uint64_t expired_bytes, expired_blocks; /* live and expired */
    uint64_t allocs, alloc_bytes;
    uint64_t frees;
    uint64_t late_frees; /* freed after they had expired */
    /* of the freed blocks; min is 0 while frees is 0 */
    uint64_t lifetime_min_ns, lifetime_max_ns;
    /* 64 bits would overflow at 584 years, which a million blocks of five hours reach */
    unsigned __int128 lifetime_sum_ns;
};

struct lw_event_counts {
    uint64_t allocs, frees, reallocs;
    uint64_t failed_allocs; /* the allocator returned NULL */
    uint64_t unknown_frees; /* of blocks allocated before the watch */
    uint64_t missed_frees;  /* an allocation at an address that was still live */
};

struct lw_loss_counts {
    uint64_t truncated_stacks; /* allocations whose stack was cut */
    uint64_t dropped_blocks;   /* not recorded: no memory, or no room for more of them */
    uint64_t missed_returns;   /* calls whose return was not seen */
    /* at the limit of memory: live, but from then on counted with their stack alone, for ever */
    uint64_t folded_blocks;
};

/* NULL: out of memory. */
struct lw_ledger *lw_ledger_create(uint64_t expire_ns);
void lw_ledger_destroy(struct lw_ledger *ledger);

/* The most memory that one block may take, its share of what is allocated ahead included. */
#define LW_LEDGER_BLOCK_BYTES 96

/*
 * At most so many blocks are known one by one (0, as at first: no limit). A new one beyond that
 * folds the oldest expired one, or else the oldest: losses.folded_blocks. It stays in the totals of
 * its stack for the rest of the watch, since its free cannot be told from that of an unknown block
 * any more; one that was young counts as expired once all folded with it are. A block of no stack
 * is then not kept at all, and counted as folded too.
 */
void lw_ledger_limit(struct lw_ledger *ledger, uint32_t blocks);

/* The counters of the watch: those that the ledger itself cannot know (failed_allocs, reallocs,
 * truncated_stacks, missed_returns) are the caller's to raise. */
struct lw_event_counts *lw_ledger_events(struct lw_ledger *ledger);
struct lw_loss_counts *lw_ledger_losses(struct lw_ledger *ledger);

/*
 * A new live block. Counts events.allocs. A block still live at the address is closed as freed, at
 * `now`, and events.missed_frees counted. Out of memory: losses.dropped_blocks is counted and
 * -ENOMEM returned.
 */
int lw_ledger_insert(struct lw_ledger *ledger, uint64_t address, uint64_t size, uint32_t stack,
                     uint64_t now);

/* A freed block: take and close in one. Counts events.frees; false, and events.unknown_frees
 * instead, when there was none at the address. */
bool lw_ledger_free(struct lw_ledger *ledger, uint64_t address, uint64_t now);

/*
 * realloc in two steps: at entry the old block is taken out (its address may be handed to another
 * thread at any moment from then on), and when the outcome is known it is closed (counted as freed
 * in its stack, a late free if it had expired; no event is counted) or, when realloc failed, put
 * back as it was, with its age and without any count.
 *
 * An address that take does not know is counted nowhere: unknown_frees is then the caller's to
 * raise, once realloc has succeeded. A block whose address is live again when it is to be put back
 * was freed unseen: it is closed, and events.missed_frees counted. Out of memory is as for
 * lw_ledger_insert.
 */
bool lw_ledger_take(struct lw_ledger *ledger, uint64_t address, uint64_t now,
                    struct lw_block *block);
void lw_ledger_close(struct lw_ledger *ledger, const struct lw_block *block, uint64_t now);
int lw_ledger_put_back(struct lw_ledger *ledger, const struct lw_block *block, uint64_t now);

/* True, and *block (may be NULL), when a block is live at exactly this address. */
bool lw_ledger_find(const struct lw_ledger *ledger, uint64_t address, struct lw_block *block);

/* Moves every block whose age has reached the threshold to expired. Each call above does a little
 * of this itself (bounded, amortised constant; whether a freed block was late never depends on it);
 * lw_ledger_totals, lw_ledger_put_back and lw_snapshot_create do all of it. */
void lw_ledger_expire(struct lw_ledger *ledger, uint64_t now);

/* Totals over all stacks (blocks of LW_STACK_NONE are in none of them). */
struct lw_ledger_totals {
    uint64_t live_bytes, live_blocks;
    uint64_t expired_bytes, expired_blocks, expired_stacks;
    /* of the oldest live block that belongs to a stack; 0 when there is none */
    uint64_t oldest_born_ns;
};
void lw_ledger_totals(struct lw_ledger *ledger, uint64_t now, struct lw_ledger_totals *totals);

#endif
