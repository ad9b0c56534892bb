/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ledger beyond the first look: other places, other generations, giants. */
#include "ledger.h"

/* The record of a block that was freed unseen, since its address is given out again. */
static struct lw_agent_record *find_in(struct lw_agent_record *bucket, uint64_t address)
{
    for (unsigned i = 0; i < LW_AGENT_BUCKET_RECORDS; i++)
        if (holds(&bucket[i], address))
            return &bucket[i];
    return NULL;
}

/* Claims a free record of the bucket. */
static bool insert_in(struct lw_agent_record *bucket, uint64_t key, uint64_t value)
{
    for (unsigned i = 0; i < LW_AGENT_BUCKET_RECORDS; i++)
        if (claim(&bucket[i], key, value))
            return true;
    return false;
}

OUTLINE bool agent_insert_slow(uint64_t key, uint64_t value, struct replaced *replaced)
{
    uint64_t address = lw_agent_record_address(key);
    for (;;) {
        uint32_t generation = __atomic_load_n(&shared->newest, __ATOMIC_RELAXED);
        struct lw_agent_record *old = find_in(near_bucket(address, generation), address);
        if (!old)
            old = find_in(far_bucket(address, generation), address);
        if (old)
            replaced->value = release(old, &replaced->key);
        if (insert_in(near_bucket(address, generation), key, value) ||
            insert_in(far_bucket(address, generation), key, value))
            return true;
        if (generation + 1 >= LW_AGENT_GENERATIONS)
            return false;
        __atomic_compare_exchange_n(&shared->newest, &generation, generation + 1, false,
                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    }
}

static uint64_t take_from(struct lw_agent_record *bucket, uint64_t address, uint64_t *key)
{
    struct lw_agent_record *record = find_in(bucket, address);
    return record ? release(record, key) : 0;
}

OUTLINE uint64_t agent_take_slow(uint64_t address, uint64_t *key)
{
    for (uint32_t generation = __atomic_load_n(&shared->newest, __ATOMIC_RELAXED) + 1;
         generation-- > 0;) {
        uint64_t value = take_from(near_bucket(address, generation), address, key);
        if (value == 0)
            value = take_from(far_bucket(address, generation), address, key);
        if (value != 0)
            return value;
    }
    return 0;
}

OUTLINE uint64_t agent_giant_size(uint64_t address, bool clear)
{
    for (uint32_t i = 0; i < LW_AGENT_GIANTS; i++) {
        struct lw_agent_giant *giant = &shared->giants[i];
        if (__atomic_load_n(&giant->address, __ATOMIC_ACQUIRE) != address)
            continue;
        uint64_t size = giant->size;
        if (clear)
            __atomic_store_n(&giant->address, 0, __ATOMIC_RELEASE);
        return size;
    }
    return LW_AGENT_SIZE_GIANT;
}

OUTLINE void agent_keep_giant(struct lw_agent_thread *thread, uint64_t address, uint64_t size)
{
    for (uint32_t i = 0; i < LW_AGENT_GIANTS; i++) {
        struct lw_agent_giant *giant = &shared->giants[i];
        uint64_t none = 0;
        if (giant->address == 0 &&
            __atomic_compare_exchange_n(&giant->address, &none, address, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED)) {
            giant->size = size;
            return;
        }
    }
    add(&thread->dropped_blocks, 1);
}
