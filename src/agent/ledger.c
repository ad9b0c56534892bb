/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ledger beyond the first look: other places, other generations, giants. */
#include "ledger.h"

static uint64_t take_from(struct lw_agent_record *bucket, uint64_t address, uint64_t *key)
{
    uint64_t value = 0;
    for (unsigned i = 0; value == 0 && i < LW_AGENT_BUCKET_RECORDS; i++)
        value = take_record(&bucket[i], address, key);
    return value;
}

static uint64_t take_in(uint32_t generation, uint64_t address, uint64_t *key)
{
    uint64_t value = take_from(near_bucket(address, generation), address, key);
    return value ? value : take_from(far_bucket(address, generation), address, key);
}

/* Claims a free record of the bucket. */
static bool insert_in(struct lw_agent_record *bucket, uint64_t key, uint64_t value)
{
    for (unsigned i = 0; i < LW_AGENT_BUCKET_RECORDS; i++)
        if (claim(&bucket[i], key, value))
            return true;
    return false;
}

/* Opens the generation after this one, unless another thread has. */
static void open_next(uint64_t geometry)
{
    uint32_t next = (geometry & 0xff) + 1, newest = next - 1;
    __atomic_compare_exchange_n(&shared->geometry, &geometry,
                                lw_agent_first_bucket(next) << 8 | next, false, __ATOMIC_RELAXED,
                                __ATOMIC_RELAXED);
    __atomic_compare_exchange_n(&shared->newest, &newest, next, false, __ATOMIC_RELEASE,
                                __ATOMIC_RELAXED);
}

/* Takes out the record of a block at the address that was freed unseen, since the address is given
 * out again; then looks for room. */
static bool insert_into(uint32_t generation, uint64_t key, uint64_t value,
                        struct replaced *replaced)
{
    uint64_t address = lw_agent_record_address(key), old_key;
    uint64_t old = take_in(generation, address, &old_key);
    if (old)
        *replaced = (struct replaced){.key = old_key, .value = old};
    return insert_in(near_bucket(address, generation), key, value) ||
           insert_in(far_bucket(address, generation), key, value);
}

/* The last generation has no room: those before it may have, of blocks that were freed or folded.
 */
static bool insert_before(uint32_t generation, uint64_t key, uint64_t value,
                          struct replaced *replaced)
{
    while (generation-- > 0)
        if (insert_into(generation, key, value, replaced))
            return true;
    return false;
}

/* A generation is full when one in 32 of as many blocks as it could hold has found it so; that is
 * when it is somewhat more than half full. */
#define FULL(generation) ((1u << (LW_AGENT_BUCKETS_LOG + (generation))) / 8)

OUTLINE bool agent_insert_slow(uint64_t key, uint64_t value, struct replaced *replaced)
{
    for (;;) {
        uint64_t geometry = __atomic_load_n(&shared->geometry, __ATOMIC_RELAXED);
        uint32_t generation = geometry & 0xff;
        if (insert_into(generation, key, value, replaced))
            return true;
        if (generation + 1 + control->barred_generations >= LW_AGENT_GENERATIONS)
            return insert_before(generation, key, value, replaced);
        uint32_t overflows = add_shared(&shared->overflows[generation], 1);
        bool done = insert_into(generation + 1, key, value, replaced);
        if (!done || overflows >= FULL(generation))
            open_next(geometry);
        if (done)
            return true;
    }
}

OUTLINE uint64_t agent_take_slow(uint64_t address, uint64_t *key)
{
    const uint32_t newest = __atomic_load_n(&shared->geometry, __ATOMIC_RELAXED) & 0xff;
    uint64_t value = take_in(newest, address, key);
    if (value == 0 && newest + 1 < LW_AGENT_GENERATIONS && shared->overflows[newest] > 0)
        value = take_in(newest + 1, address, key);
    for (uint32_t generation = newest; value == 0 && generation-- > 0;)
        value = take_in(generation, address, key);
    return value;
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
