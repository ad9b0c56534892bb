/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A copy of the ledger at one instant. */
#include "leakwatch/model/snapshot.h"

#include <stdlib.h>

#include "ledger_state.h"

static uint64_t age_of(const struct lw_ledger *ledger, uint64_t born_ns)
{
    return ledger->now - born_ns;
}

static void set_ages(struct lw_snapshot_stack *to, const struct lw_ledger *ledger,
                     const struct lw_ledger_stack *from)
{
    const struct lw_born_span live = lw_ledger_live_span(ledger, from);
    const struct lw_born_span expired = lw_ledger_expired_span(ledger, from);
    if (from->stats.live_blocks > 0) {
        to->live_youngest_ns = age_of(ledger, live.youngest);
        to->live_oldest_ns = age_of(ledger, live.oldest);
    }
    if (from->stats.expired_blocks > 0) {
        to->expired_youngest_ns = age_of(ledger, expired.youngest);
        to->expired_oldest_ns = age_of(ledger, expired.oldest);
    }
}

/* Copies those of the stack's expired blocks that are known one by one, oldest first, to the end of
 * the snapshot's. */
static void copy_blocks(struct lw_snapshot *snapshot, const struct lw_ledger *ledger,
                        const struct lw_ledger_stack *from, struct lw_snapshot_stack *to)
{
    to->first_block = snapshot->block_count;
    to->block_count = from->stats.expired_blocks - from->folded_expired.blocks;
    uint32_t at = from->blocks.oldest;
    for (size_t i = 0; i < to->block_count; i++) {
        const struct lw_block_record *record = lw_ledger_record(ledger, at);
        snapshot->blocks[snapshot->block_count++] =
            (struct lw_snapshot_block){.address = record->address,
                                       .size = record->size,
                                       .age_ns = age_of(ledger, record->born_ns)};
        at = record->links[LW_LIST_STACK].younger;
    }
}

static void count_marked(struct lw_snapshot_stack *to, const struct lw_ledger *ledger,
                         const struct lw_ledger_stack *from,
                         const struct lw_snapshot_request *request)
{
    for (uint32_t at = from->blocks.oldest; at;) {
        const struct lw_block_record *record = lw_ledger_record(ledger, at);
        if (record->born_ns > request->marked_until_ns)
            return;
        if (record->born_ns > request->marked_after_ns) {
            to->marked_bytes += record->size;
            to->marked_blocks++;
        }
        at = record->links[LW_LIST_STACK].younger;
    }
}

static void copy_stacks(struct lw_snapshot *snapshot, const struct lw_ledger *ledger,
                        const struct lw_stack_table *stacks,
                        const struct lw_snapshot_request *request)
{
    for (size_t id = 1; id < lw_ledger_stack_limit(ledger); id++) {
        const struct lw_ledger_stack *from = lw_ledger_stack_at(ledger, id);
        const struct lw_stack *stack = lw_stack_table_get(stacks, (uint32_t)id);
        if (!stack || from->stats.allocs == 0)
            continue;
        struct lw_snapshot_stack *to = &snapshot->stacks[snapshot->stack_count++];
        *to = (struct lw_snapshot_stack){
            .stack = stack,
            .stats = from->stats,
            .folded_blocks = from->folded_expired.blocks + from->folded_young.blocks,
        };
        set_ages(to, ledger, from);
        if (snapshot->blocks)
            copy_blocks(snapshot, ledger, from, to);
        if (request->marked_until_ns != 0)
            count_marked(to, ledger, from, request);
    }
}

struct lw_snapshot *lw_snapshot_create(struct lw_ledger *ledger,
                                       const struct lw_stack_table *stacks, uint64_t now,
                                       const struct lw_snapshot_request *request)
{
    const bool with_blocks = request->with_blocks;
    struct lw_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    if (!snapshot)
        return NULL;
    lw_ledger_totals(ledger, now, &snapshot->totals);
    snapshot->taken_ns = ledger->now;
    snapshot->cut_ns = request->cut ? ledger->now : 0;
    snapshot->expire_ns = ledger->expire_ns;
    snapshot->events = ledger->events;
    snapshot->losses = ledger->losses;
    /* One more than may be needed, since malloc(0) may return NULL. */
    snapshot->stacks = malloc((lw_stack_table_count(stacks) + 1) * sizeof(*snapshot->stacks));
    if (with_blocks)
        snapshot->blocks = malloc(((size_t)ledger->store.count + 1) * sizeof(*snapshot->blocks));
    if (!snapshot->stacks || (with_blocks && !snapshot->blocks)) {
        lw_snapshot_destroy(snapshot);
        return NULL;
    }
    copy_stacks(snapshot, ledger, stacks, request);
    return snapshot;
}

void lw_snapshot_destroy(struct lw_snapshot *snapshot)
{
    if (!snapshot)
        return;
    free(snapshot->stacks);
    free(snapshot->blocks);
    free(snapshot);
}
