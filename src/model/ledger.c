/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ledger's accounting: ages, expiry and totals of live blocks. */
#include "leakwatch/model/ledger.h"

#include <stdlib.h>

#include "leakwatch/base/vector.h"
#include "ledger_state.h"

/* At most so many blocks are expired in passing by each event: any number above one keeps up with
 * the insertions, and a bound keeps a burst that comes of age at once from holding up one event.
 * Nothing depends on it: whether a freed block was late is told by its age. */
enum { EXPIRE_IN_PASSING = 32 };

struct lw_ledger *lw_ledger_create(uint64_t expire_ns)
{
    struct lw_ledger *ledger = calloc(1, sizeof(*ledger));
    if (ledger)
        ledger->expire_ns = expire_ns;
    return ledger;
}

void lw_ledger_destroy(struct lw_ledger *ledger)
{
    if (!ledger)
        return;
    lw_block_store_deinit(&ledger->store);
    for (size_t i = 0; i < ledger->stack_chunk_count; i++)
        free(ledger->stack_chunks[i]);
    free(ledger->stack_chunks);
    free(ledger);
}

void lw_ledger_limit(struct lw_ledger *ledger, uint32_t blocks)
{
    ledger->block_limit = blocks;
}

struct lw_event_counts *lw_ledger_events(struct lw_ledger *ledger)
{
    return &ledger->events;
}

struct lw_loss_counts *lw_ledger_losses(struct lw_ledger *ledger)
{
    return &ledger->losses;
}

/* Time never goes backwards here, whatever the caller says: the lists are in order of age. */
static uint64_t advance(struct lw_ledger *ledger, uint64_t now)
{
    if (now > ledger->now)
        ledger->now = now;
    return ledger->now;
}

/* born_ns is never later than the ledger's time. */
static bool is_due(const struct lw_ledger *ledger, uint64_t born_ns)
{
    return ledger->now - born_ns >= ledger->expire_ns;
}

static struct lw_block_record *record_at(struct lw_ledger *ledger, uint32_t record)
{
    return lw_block_store_at(&ledger->store, record);
}

/* Makes sure that the stack has its place; 0 or -ENOMEM. */
static int make_stack(struct lw_ledger *ledger, uint32_t id)
{
    while (id >= lw_ledger_stack_limit(ledger)) {
        if (ledger->stack_chunk_count == ledger->stack_chunk_capacity &&
            lw_vector_grow((void **)&ledger->stack_chunks, &ledger->stack_chunk_capacity,
                           sizeof(*ledger->stack_chunks)) < 0)
            return -ENOMEM;
        struct lw_ledger_stack *chunk = calloc(LW_STACK_CHUNK, sizeof(*chunk));
        if (!chunk)
            return -ENOMEM;
        ledger->stack_chunks[ledger->stack_chunk_count++] = chunk;
    }
    return 0;
}

/* Links the record in behind `older`, or at the old end when that is 0. */
static void list_insert(struct lw_ledger *ledger, struct lw_block_ends *ends,
                        enum lw_block_list list, uint32_t older, uint32_t record)
{
    uint32_t *younger = older ? &record_at(ledger, older)->links[list].younger : &ends->oldest;
    record_at(ledger, record)->links[list] = (struct lw_block_link){older, *younger};
    if (*younger)
        record_at(ledger, *younger)->links[list].older = record;
    else
        ends->youngest = record;
    *younger = record;
}

static void list_remove(struct lw_ledger *ledger, struct lw_block_ends *ends,
                        enum lw_block_list list, uint32_t record)
{
    struct lw_block_link link = record_at(ledger, record)->links[list];
    if (link.older)
        record_at(ledger, link.older)->links[list].younger = link.younger;
    else
        ends->oldest = link.younger;
    if (link.younger)
        record_at(ledger, link.younger)->links[list].older = link.older;
    else
        ends->youngest = link.older;
}

/* From `record` on towards older ones, the first that was born no later than `born_ns`, or 0. */
static uint32_t list_walk_back(struct lw_ledger *ledger, enum lw_block_list list, uint32_t record,
                               uint64_t born_ns)
{
    while (record && record_at(ledger, record)->born_ns > born_ns)
        record = record_at(ledger, record)->links[list].older;
    return record;
}

static void count_live(struct lw_ledger *ledger, struct lw_ledger_stack *stack, uint64_t size)
{
    ledger->live_bytes += size;
    ledger->live_blocks++;
    stack->stats.live_bytes += size;
    stack->stats.live_blocks++;
}

static void uncount_live(struct lw_ledger *ledger, struct lw_ledger_stack *stack, uint64_t size)
{
    ledger->live_bytes -= size;
    ledger->live_blocks--;
    stack->stats.live_bytes -= size;
    stack->stats.live_blocks--;
}

static void count_expired(struct lw_ledger *ledger, struct lw_ledger_stack *stack, uint64_t bytes,
                          uint64_t blocks)
{
    ledger->expired_bytes += bytes;
    ledger->expired_blocks += blocks;
    ledger->expired_stacks += stack->stats.expired_blocks == 0;
    stack->stats.expired_bytes += bytes;
    stack->stats.expired_blocks += blocks;
}

static void uncount_expired(struct lw_ledger *ledger, struct lw_ledger_stack *stack, uint64_t size)
{
    ledger->expired_bytes -= size;
    ledger->expired_blocks--;
    stack->stats.expired_bytes -= size;
    if (--stack->stats.expired_blocks == 0)
        ledger->expired_stacks--;
}

/* Links the record in behind the youngest expired one. (One that was put back after a failed
 * realloc may be older: of the expired blocks the order is that in which they came to be here.) */
static void enter_expired(struct lw_ledger *ledger, uint32_t at)
{
    list_insert(ledger, &ledger->expired, LW_LIST_AGE, ledger->expired.youngest, at);
    record_at(ledger, at)->is_expired = true;
}

/* Expires blocks that are due, oldest first, until none is or `limit` have been. */
static void expire_some(struct lw_ledger *ledger, uint64_t limit)
{
    for (uint32_t at = ledger->young.oldest; at && limit > 0; at = ledger->young.oldest, limit--) {
        struct lw_block_record *record = record_at(ledger, at);
        if (!is_due(ledger, record->born_ns))
            return;
        struct lw_ledger_stack *stack = lw_ledger_stack_at(ledger, record->stack);
        list_remove(ledger, &ledger->young, LW_LIST_AGE, at);
        enter_expired(ledger, at);
        stack->youngest_expired = at;
        count_expired(ledger, stack, record->size, 1);
    }
}

static void add_folded(struct lw_folded *folded, const struct lw_folded *more)
{
    if (folded->blocks == 0 || more->oldest_born_ns < folded->oldest_born_ns)
        folded->oldest_born_ns = more->oldest_born_ns;
    if (folded->blocks == 0 || more->youngest_born_ns > folded->youngest_born_ns)
        folded->youngest_born_ns = more->youngest_born_ns;
    folded->bytes += more->bytes;
    folded->blocks += more->blocks;
}

static void expire_folded(struct lw_ledger *ledger)
{
    for (size_t id = 1; ledger->folded_young > 0 && id < lw_ledger_stack_limit(ledger); id++) {
        struct lw_ledger_stack *stack = lw_ledger_stack_at(ledger, id);
        struct lw_folded *young = &stack->folded_young;
        if (young->blocks == 0 || !is_due(ledger, young->youngest_born_ns))
            continue;
        count_expired(ledger, stack, young->bytes, young->blocks);
        add_folded(&stack->folded_expired, young);
        ledger->folded_young -= young->blocks;
        *young = (struct lw_folded){0};
    }
}

void lw_ledger_expire(struct lw_ledger *ledger, uint64_t now)
{
    advance(ledger, now);
    expire_some(ledger, UINT64_MAX);
    expire_folded(ledger);
}

/* What every event begins with. */
static void tick(struct lw_ledger *ledger, uint64_t now)
{
    advance(ledger, now);
    expire_some(ledger, EXPIRE_IN_PASSING);
}

/* Takes the record, which belongs to a stack, out of all lists. */
static void unlink_record(struct lw_ledger *ledger, uint32_t index)
{
    const struct lw_block_record *record = record_at(ledger, index);
    struct lw_ledger_stack *stack = lw_ledger_stack_at(ledger, record->stack);
    if (stack->youngest_expired == index)
        stack->youngest_expired = record->links[LW_LIST_STACK].older;
    list_remove(ledger, &stack->blocks, LW_LIST_STACK, index);
    list_remove(ledger, record->is_expired ? &ledger->expired : &ledger->young, LW_LIST_AGE, index);
}

/* Removes the record from every list and total and from the store. */
static struct lw_block take_record(struct lw_ledger *ledger, uint32_t index)
{
    struct lw_block_record *record = record_at(ledger, index);
    struct lw_block block = {.address = record->address,
                             .size = record->size,
                             .born_ns = record->born_ns,
                             .stack = record->stack};
    if (block.stack != LW_STACK_NONE) {
        struct lw_ledger_stack *stack = lw_ledger_stack_at(ledger, block.stack);
        unlink_record(ledger, index);
        if (record->is_expired)
            uncount_expired(ledger, stack, block.size);
        uncount_live(ledger, stack, block.size);
    }
    lw_block_store_remove(&ledger->store, index);
    return block;
}

/* Forgets the oldest expired block, or else the oldest, except in the totals; false: there is none.
 */
static bool fold_oldest(struct lw_ledger *ledger)
{
    uint32_t index = ledger->expired.oldest ? ledger->expired.oldest : ledger->young.oldest;
    if (index == 0)
        return false;
    const struct lw_block_record *record = record_at(ledger, index);
    struct lw_ledger_stack *stack = lw_ledger_stack_at(ledger, record->stack);
    const struct lw_folded folded = {.bytes = record->size,
                                     .blocks = 1,
                                     .oldest_born_ns = record->born_ns,
                                     .youngest_born_ns = record->born_ns};
    add_folded(record->is_expired ? &stack->folded_expired : &stack->folded_young, &folded);
    ledger->folded_young += !record->is_expired;
    ledger->losses.folded_blocks++;
    unlink_record(ledger, index);
    lw_block_store_remove(&ledger->store, index);
    return true;
}

/* Whether one block more may be known. */
static bool has_room(struct lw_ledger *ledger, uint32_t stack)
{
    if (ledger->block_limit == 0 || ledger->store.count < ledger->block_limit)
        return true;
    return stack != LW_STACK_NONE && fold_oldest(ledger);
}

/* Counts a block that was taken as freed in its stack. */
static void close_block(struct lw_ledger *ledger, const struct lw_block *block)
{
    if (block->stack == LW_STACK_NONE || block->stack >= lw_ledger_stack_limit(ledger))
        return;
    struct lw_stack_stats *stats = &lw_ledger_stack_at(ledger, block->stack)->stats;
    uint64_t born_ns = block->born_ns < ledger->now ? block->born_ns : ledger->now;
    uint64_t lifetime = ledger->now - born_ns;
    if (stats->frees == 0 || lifetime < stats->lifetime_min_ns)
        stats->lifetime_min_ns = lifetime;
    if (lifetime > stats->lifetime_max_ns)
        stats->lifetime_max_ns = lifetime;
    stats->lifetime_sum_ns += lifetime;
    stats->frees++;
    if (is_due(ledger, born_ns))
        stats->late_frees++;
}

/* Enters a block at its place in order of age; 0 or -ENOMEM (then nothing has changed). Were it
 * expired, all that is due would have to be expired before: see lw_ledger_stack. */
static int enter_block(struct lw_ledger *ledger, const struct lw_block *block, bool is_expired)
{
    if (block->stack != LW_STACK_NONE && make_stack(ledger, block->stack) < 0)
        return -ENOMEM;
    uint32_t index = lw_block_store_add(&ledger->store, block->address);
    if (index == 0)
        return -ENOMEM;
    struct lw_block_record *record = record_at(ledger, index);
    record->size = block->size;
    record->born_ns = block->born_ns;
    record->stack = block->stack;
    if (block->stack == LW_STACK_NONE)
        return 0;
    struct lw_ledger_stack *stack = lw_ledger_stack_at(ledger, block->stack);
    uint32_t start = is_expired ? stack->youngest_expired : stack->blocks.youngest;
    uint32_t older = list_walk_back(ledger, LW_LIST_STACK, start, block->born_ns);
    list_insert(ledger, &stack->blocks, LW_LIST_STACK, older, index);
    count_live(ledger, stack, block->size);
    if (is_expired) {
        enter_expired(ledger, index);
        if (older == stack->youngest_expired)
            stack->youngest_expired = index;
        count_expired(ledger, stack, block->size, 1);
    } else {
        older = list_walk_back(ledger, LW_LIST_AGE, ledger->young.youngest, block->born_ns);
        list_insert(ledger, &ledger->young, LW_LIST_AGE, older, index);
    }
    return 0;
}

int lw_ledger_insert(struct lw_ledger *ledger, uint64_t address, uint64_t size, uint32_t stack,
                     uint64_t now)
{
    tick(ledger, now);
    ledger->events.allocs++;
    uint32_t missed = lw_block_store_find(&ledger->store, address);
    if (missed) {
        struct lw_block old = take_record(ledger, missed);
        close_block(ledger, &old);
        ledger->events.missed_frees++;
    }
    if (!has_room(ledger, stack)) {
        (*(stack == LW_STACK_NONE ? &ledger->losses.folded_blocks
                                  : &ledger->losses.dropped_blocks))++;
        return 0;
    }
    struct lw_block block = {
        .address = address, .size = size, .born_ns = ledger->now, .stack = stack};
    if (enter_block(ledger, &block, false) < 0) {
        ledger->losses.dropped_blocks++;
        return -ENOMEM;
    }
    if (stack != LW_STACK_NONE) {
        struct lw_stack_stats *stats = &lw_ledger_stack_at(ledger, stack)->stats;
        stats->allocs++;
        stats->alloc_bytes += size;
    }
    return 0;
}

bool lw_ledger_take(struct lw_ledger *ledger, uint64_t address, uint64_t now,
                    struct lw_block *block)
{
    tick(ledger, now);
    uint32_t index = lw_block_store_find(&ledger->store, address);
    if (index == 0)
        return false;
    *block = take_record(ledger, index);
    return true;
}

void lw_ledger_close(struct lw_ledger *ledger, const struct lw_block *block, uint64_t now)
{
    tick(ledger, now);
    close_block(ledger, block);
}

bool lw_ledger_free(struct lw_ledger *ledger, uint64_t address, uint64_t now)
{
    struct lw_block block;
    if (!lw_ledger_take(ledger, address, now, &block)) {
        ledger->events.unknown_frees++;
        return false;
    }
    close_block(ledger, &block);
    ledger->events.frees++;
    return true;
}

int lw_ledger_put_back(struct lw_ledger *ledger, const struct lw_block *block, uint64_t now)
{
    lw_ledger_expire(ledger, now);
    /* The address has been given to another: so it was freed in the meantime, unseen. */
    if (lw_block_store_find(&ledger->store, block->address)) {
        close_block(ledger, block);
        ledger->events.missed_frees++;
        return 0;
    }
    struct lw_block restored = *block;
    if (restored.born_ns > ledger->now)
        restored.born_ns = ledger->now;
    if (enter_block(ledger, &restored, is_due(ledger, restored.born_ns)) < 0) {
        ledger->losses.dropped_blocks++;
        return -ENOMEM;
    }
    return 0;
}

bool lw_ledger_find(const struct lw_ledger *ledger, uint64_t address, struct lw_block *block)
{
    uint32_t index = lw_block_store_find(&ledger->store, address);
    if (index == 0)
        return false;
    const struct lw_block_record *record = lw_ledger_record(ledger, index);
    if (block)
        *block = (struct lw_block){.address = record->address,
                                   .size = record->size,
                                   .born_ns = record->born_ns,
                                   .stack = record->stack};
    return true;
}

void lw_ledger_totals(struct lw_ledger *ledger, uint64_t now, struct lw_ledger_totals *totals)
{
    lw_ledger_expire(ledger, now);
    *totals = (struct lw_ledger_totals){.live_bytes = ledger->live_bytes,
                                        .live_blocks = ledger->live_blocks,
                                        .expired_bytes = ledger->expired_bytes,
                                        .expired_blocks = ledger->expired_blocks,
                                        .expired_stacks = ledger->expired_stacks};
    for (size_t id = 1; id < lw_ledger_stack_limit(ledger); id++) {
        uint64_t born_ns = lw_ledger_live_span(ledger, lw_ledger_stack_at(ledger, id)).oldest;
        if (born_ns != UINT64_MAX &&
            (totals->oldest_born_ns == 0 || born_ns < totals->oldest_born_ns))
            totals->oldest_born_ns = born_ns;
    }
}
