/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ledger's records: finding, claiming and releasing one. */
#ifndef LEAKWATCH_AGENT_LEDGER_H
#define LEAKWATCH_AGENT_LEDGER_H

#include "agent.h"

INLINE struct lw_agent_record *near_bucket(uint64_t address, uint32_t generation)
{
    return shared->ledger[lw_agent_near_bucket(address, generation)];
}

INLINE struct lw_agent_record *far_bucket(uint64_t address, uint32_t generation)
{
    return shared->ledger[lw_agent_far_bucket(address, generation)];
}

/* The first choice in the newest generation. */
INLINE struct lw_agent_record *first_choice(uint64_t address)
{
    uint64_t geometry = __atomic_load_n(&shared->geometry, __ATOMIC_RELAXED);
    uint64_t bucket = (address >> 4) * GOLDEN >> (64 - LW_AGENT_BUCKETS_LOG - (geometry & 63));
    return &shared->ledger[(geometry >> 8) + bucket][address >> 4 & 3];
}

INLINE bool claim(struct lw_agent_record *record, uint64_t key, uint64_t value)
{
    uint64_t unused = 0;
    if (record->key != 0 || !__atomic_compare_exchange_n(&record->key, &unused, key, false,
                                                         __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return false;
    __atomic_store_n(&record->value, value, __ATOMIC_RELEASE);
    return true;
}

/* Of a block that is not old, only the thread that frees it does this, before the allocator lets go
 * of it. */
INLINE uint64_t release(struct lw_agent_record *record, uint64_t *key)
{
    uint64_t value = record->value;
    *key = record->key;
    __atomic_store_n(&record->value, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&record->key, 0, __ATOMIC_RELEASE);
    return value;
}

/* The same of any block: 0 when the record is not this address's, or leakwatch takes it out. */
INLINE uint64_t take_record(struct lw_agent_record *record, uint64_t address, uint64_t *key)
{
    uint64_t found = record->key;
    if (found >> LW_AGENT_TICK_LOW_BITS != address >> 3 ||
        !__atomic_compare_exchange_n(&record->key, &found, LW_AGENT_TAKEN, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        return 0;
    *key = found;
    uint64_t value = record->value;
    __atomic_store_n(&record->value, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&record->key, 0, __ATOMIC_RELEASE);
    return value;
}

/* Puts a block's record in; false when there is no room. *replaced is the record that was there for
 * the same address (looked for where it is likely), value 0: none. */
INLINE bool insert(uint64_t key, uint64_t value, struct replaced *replaced)
{
    return LIKELY(claim(first_choice(lw_agent_record_address(key)), key, value)) ||
           agent_insert_slow(key, value, replaced);
}

/* Takes the block's record out: its value, 0 when there is none. */
INLINE uint64_t take(uint64_t address, uint64_t *key)
{
    uint64_t value = take_record(first_choice(address), address, key);
    return LIKELY(value) ? value : agent_take_slow(address, key);
}

#endif
