/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records of live blocks, found by address: the ledger's memory, without its accounting. */
#ifndef LEAKWATCH_MODEL_BLOCK_STORE_H
#define LEAKWATCH_MODEL_BLOCK_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Records are named by their number, half the size of a pointer; 0 is no record. */
struct lw_block_link {
    uint32_t older, younger;
};

/* The lists in order of age that a record is in: that of all young or all expired blocks, and its
 * stack's. */
enum lw_block_list { LW_LIST_AGE, LW_LIST_STACK, LW_LISTS };

struct lw_block_record {
    uint64_t address, size, born_ns;
    uint32_t stack;
    bool is_expired;
    struct lw_block_link links[LW_LISTS];
};

_Static_assert(sizeof(struct lw_block_record) == 48, "ledger.h promises the memory for each block");

enum { LW_BLOCK_SHARDS = 256, LW_BLOCK_CHUNK = 4096 };

struct lw_block_slot {
    uint32_t hash;   /* kept so that probing, growing and deleting touch no other block's record */
    uint32_t record; /* 0: free */
};

struct lw_block_shard {
    struct lw_block_slot *slots;
    uint32_t count, capacity;
};

/* All zero is a valid, empty store. */
struct lw_block_store {
    struct lw_block_record **chunks; /* of LW_BLOCK_CHUNK records each; they never move */
    size_t chunk_count, chunk_capacity;
    uint32_t used;       /* records that were ever in use, number 0 included */
    uint32_t first_free; /* of those given back, linked through links[0].older */
    uint32_t count;      /* records in use now */
    struct lw_block_shard shards[LW_BLOCK_SHARDS];
};

void lw_block_store_deinit(struct lw_block_store *store);

static inline struct lw_block_record *lw_block_store_at(const struct lw_block_store *store,
                                                        uint32_t record)
{
    return &store->chunks[record / LW_BLOCK_CHUNK][record % LW_BLOCK_CHUNK];
}

/* The record with this address, or 0. */
uint32_t lw_block_store_find(const struct lw_block_store *store, uint64_t address);

/* A new record with this address, which has none yet, and all else zero; 0: out of memory, and
 * nothing has changed. */
uint32_t lw_block_store_add(struct lw_block_store *store, uint64_t address);

/* The record must be in no list. */
void lw_block_store_remove(struct lw_block_store *store, uint32_t record);

#endif
