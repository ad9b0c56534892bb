/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records in chunks that never move, and a sharded index over their addresses. */
#include "block_store.h"

#include <stdlib.h>

#include "leakwatch/base/map.h"
#include "leakwatch/base/vector.h"

/* A shard grows by half once it is 13/16 full, so a block costs at most 48 + 8 / (13/16 / 1.5) = 63
 * bytes. Growing copies one shard of 256, from its own slots alone: with ten million blocks that is
 * 40 000 slots, some tens of microseconds. */
enum { FIRST_CAPACITY = 16, FULL_NUMERATOR = 13, FULL_DENOMINATOR = 16 };

void lw_block_store_deinit(struct lw_block_store *store)
{
    for (size_t i = 0; i < store->chunk_count; i++)
        free(store->chunks[i]);
    free(store->chunks);
    for (size_t i = 0; i < LW_BLOCK_SHARDS; i++)
        free(store->shards[i].slots);
    *store = (struct lw_block_store){0};
}

/* The shard is chosen by other bits of the hash than those that a slot keeps. */
static size_t shard_of(uint64_t hash)
{
    return hash >> 32 & (LW_BLOCK_SHARDS - 1);
}

/* Scales the hash to the capacity, which therefore need not be a power of two. */
static uint32_t home_of(const struct lw_block_shard *shard, uint32_t hash)
{
    return (uint32_t)((uint64_t)hash * shard->capacity >> 32);
}

static uint32_t next_of(const struct lw_block_shard *shard, uint32_t at)
{
    return at + 1 == shard->capacity ? 0 : at + 1;
}

static uint32_t free_slot(const struct lw_block_shard *shard, uint32_t hash)
{
    uint32_t at = home_of(shard, hash);
    while (shard->slots[at].record != 0)
        at = next_of(shard, at);
    return at;
}

static int make_room(struct lw_block_shard *shard)
{
    uint64_t full = (uint64_t)shard->capacity * FULL_NUMERATOR / FULL_DENOMINATOR;
    if (shard->count < full)
        return 0;
    uint64_t capacity = shard->capacity ? shard->capacity * 3ull / 2 : FIRST_CAPACITY;
    if (capacity > UINT32_MAX)
        return -ENOMEM;
    struct lw_block_shard grown = {.count = shard->count, .capacity = (uint32_t)capacity};
    grown.slots = calloc(capacity, sizeof(*grown.slots));
    if (!grown.slots)
        return -ENOMEM;
    for (uint32_t i = 0; i < shard->capacity; i++) {
        if (shard->slots[i].record != 0)
            grown.slots[free_slot(&grown, shard->slots[i].hash)] = shard->slots[i];
    }
    free(shard->slots);
    *shard = grown;
    return 0;
}

/* Makes sure that there is a chunk for the record that has never been in use and is next. */
static int make_chunk(struct lw_block_store *store)
{
    if (store->used / LW_BLOCK_CHUNK < store->chunk_count)
        return 0;
    if (store->used > UINT32_MAX - LW_BLOCK_CHUNK)
        return -ENOMEM;
    if (store->chunk_count == store->chunk_capacity &&
        lw_vector_grow((void **)&store->chunks, &store->chunk_capacity, sizeof(*store->chunks)) < 0)
        return -ENOMEM;
    struct lw_block_record *chunk = malloc(LW_BLOCK_CHUNK * sizeof(*chunk));
    if (!chunk)
        return -ENOMEM;
    store->chunks[store->chunk_count++] = chunk;
    return 0;
}

static uint32_t allocate(struct lw_block_store *store)
{
    uint32_t record = store->first_free;
    if (record != 0) {
        store->first_free = lw_block_store_at(store, record)->links[0].older;
        return record;
    }
    if (store->used == 0)
        store->used = 1; /* number 0 means none */
    return make_chunk(store) < 0 ? 0 : store->used++;
}

/* The slot of the block at this address, or NULL. */
static struct lw_block_slot *find_slot(const struct lw_block_store *store, uint64_t address)
{
    uint64_t hash = lw_hash64(address);
    const struct lw_block_shard *shard = &store->shards[shard_of(hash)];
    if (shard->count == 0)
        return NULL;
    for (uint32_t at = home_of(shard, (uint32_t)hash);; at = next_of(shard, at)) {
        struct lw_block_slot *slot = &shard->slots[at];
        if (slot->record == 0)
            return NULL;
        if (slot->hash == (uint32_t)hash &&
            lw_block_store_at(store, slot->record)->address == address)
            return slot;
    }
}

uint32_t lw_block_store_find(const struct lw_block_store *store, uint64_t address)
{
    const struct lw_block_slot *slot = find_slot(store, address);
    return slot ? slot->record : 0;
}

uint32_t lw_block_store_add(struct lw_block_store *store, uint64_t address)
{
    uint64_t hash = lw_hash64(address);
    struct lw_block_shard *shard = &store->shards[shard_of(hash)];
    if (make_room(shard) < 0)
        return 0;
    uint32_t record = allocate(store);
    if (record == 0)
        return 0;
    *lw_block_store_at(store, record) = (struct lw_block_record){.address = address};
    shard->slots[free_slot(shard, (uint32_t)hash)] =
        (struct lw_block_slot){.hash = (uint32_t)hash, .record = record};
    shard->count++;
    store->count++;
    return record;
}

/* Closes the gap without tombstones: a slot further on moves back into it unless that would put it
 * before its home. */
static void shift_back(struct lw_block_shard *shard, uint32_t gap)
{
    for (uint32_t at = next_of(shard, gap); shard->slots[at].record != 0; at = next_of(shard, at)) {
        uint32_t home = home_of(shard, shard->slots[at].hash);
        uint32_t from_home = at >= home ? at - home : at + shard->capacity - home;
        uint32_t from_gap = at >= gap ? at - gap : at + shard->capacity - gap;
        if (from_home >= from_gap) {
            shard->slots[gap] = shard->slots[at];
            gap = at;
        }
    }
    shard->slots[gap].record = 0;
}

void lw_block_store_remove(struct lw_block_store *store, uint32_t record)
{
    struct lw_block_record *block = lw_block_store_at(store, record);
    struct lw_block_slot *slot = find_slot(store, block->address);
    struct lw_block_shard *shard = &store->shards[shard_of(lw_hash64(block->address))];
    shift_back(shard, (uint32_t)(slot - shard->slots));
    shard->count--;
    store->count--;
    block->links[0].older = store->first_free;
    store->first_free = record;
}
