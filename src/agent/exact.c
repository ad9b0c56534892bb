/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The wrappers when every allocation is recorded. */
#include "calls.h"

INLINE void finish(const struct entered *entered, void *block, uint64_t size,
                   const struct call *call)
{
    if (is_forked_child())
        return;
    if (LIKELY(block))
        record(entered, (uint64_t)block, size, call, false);
    else
        add(&entered->thread->failed_allocs, 1);
    leave(entered);
}

/* ---- malloc and free without detours: what is out of the ordinary is left to the functions below,
 * which these end in, so that nothing has to be saved for them ---- */

OUTLINE static void *finish_in_full(struct lw_agent_thread *thread, void *block, uint64_t size,
                                    const uint64_t *sp, uint64_t fp, site_t site)
{
    const struct entered entered = {.thread = thread};
    const struct call call = CALL_OF(sp, fp, site);
    finish(&entered, block, size, &call);
    return block;
}

OUTLINE static void *malloc_in_full(uint64_t size, const uint64_t *sp, uint64_t fp, site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct entered entered = enter(sp);
    if (UNLIKELY(!entered.thread))
        return GATE(function_1, &call)(size);
    void *block = GATE(function_1, &call)(size);
    finish(&entered, block, size, &call);
    return block;
}

void *malloc_recorded(uint64_t size, const uint64_t *sp, uint64_t fp, site_t site)
{
    struct lw_agent_thread *thread = enter_plainly(sp);
    if (UNLIKELY(!thread))
        return malloc_in_full(size, sp, fp, site);
    void *block = ((function_1)site->gate)(size);
    if (is_forked_child())
        return block;
    const struct call call = CALL_OF(sp, fp, site);
    const struct lw_agent_memo *memo = find_memo(thread, &call);
    const uint64_t address = (uint64_t)block;
    if (UNLIKELY(!memo || !block || (size >> 29 | address >> 47) != 0 || size < control->min_size ||
                 size > control->max_size || memo->truncated || memo->counts == 0))
        return finish_in_full(thread, block, size, sp, fp, site);
    const uint64_t now = __atomic_load_n(&shared->clock, __ATOMIC_RELAXED);
    if (UNLIKELY(!claim(first_choice(address),
                        address >> 3 << LW_AGENT_TICK_LOW_BITS | (uint32_t)now,
                        (size + 1) << 34 | now >> 32 | memo->stack)))
        return finish_in_full(thread, block, size, sp, fp, site);
    check_hit(thread, &call, memo->stack);
    struct lw_agent_counts *counts = (struct lw_agent_counts *)((char *)shared + memo->counts);
    add(&counts->allocs, 1);
    add(&counts->alloc_bytes, size);
    thread->released = 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread->busy = 0;
    return block;
}

void *calloc_recorded(uint64_t count, uint64_t size, const uint64_t *sp, uint64_t fp, site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct entered entered = enter(sp);
    if (UNLIKELY(!entered.thread))
        return GATE(function_2, &call)(count, size);
    void *block = GATE(function_2, &call)(count, size);
    finish(&entered, block, count * size, &call);
    return block;
}

void *aligned_recorded(uint64_t alignment, uint64_t size, const uint64_t *sp, uint64_t fp,
                       site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct entered entered = enter(sp);
    if (UNLIKELY(!entered.thread))
        return GATE(function_2, &call)(alignment, size);
    void *block = GATE(function_2, &call)(alignment, size);
    finish(&entered, block, size, &call);
    return block;
}

void *sized_recorded(uint64_t size, uint64_t second, uint64_t third, const uint64_t *sp,
                     uint64_t fp, site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct entered entered = enter(sp);
    if (UNLIKELY(!entered.thread))
        return GATE(function_3, &call)(size, second, third);
    void *block = GATE(function_3, &call)(size, second, third);
    finish(&entered, block, size, &call);
    return block;
}

int store_recorded(void **result, uint64_t alignment, uint64_t size, const uint64_t *sp,
                   uint64_t fp, site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct entered entered = enter(sp);
    if (UNLIKELY(!entered.thread))
        return GATE(function_store, &call)(result, alignment, size);
    int error = GATE(function_store, &call)(result, alignment, size);
    finish(&entered, error ? NULL : *result, size, &call);
    return error;
}

INLINE void finish_realloc(const struct entered *entered, uint64_t old, void *block, uint64_t size,
                           bool overflow, uint64_t key, uint64_t value, const struct call *call)
{
    struct lw_agent_thread *thread = entered->thread;
    if (is_forked_child())
        return;
    add(&thread->reallocs, 1);
    if (overflow || (!block && size != 0)) {
        /* Failed: the old block stays what it was. */
        if (value)
            put(thread, key, value, 1);
        add(&thread->failed_allocs, 1);
    } else {
        if (value) {
            forget_giant(old, value);
            count_free(thread, key, value, 1);
        } else if (old) {
            add(&thread->unknown_frees, 1);
        }
        if (block)
            record(entered, (uint64_t)block, size, call, false);
        else if (!old)
            add(&thread->failed_allocs, 1);
    }
    leave(entered);
}

void *realloc_recorded(uint64_t old, uint64_t size, const uint64_t *sp, uint64_t fp, site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct entered entered = enter(sp);
    if (UNLIKELY(!entered.thread))
        return GATE(function_2, &call)(old, size);
    uint64_t key = 0, value = old ? take(old, &key) : 0;
    void *block = GATE(function_2, &call)(old, size);
    finish_realloc(&entered, old, block, size, false, key, value, &call);
    return block;
}

void *reallocarray_recorded(uint64_t old, uint64_t count, uint64_t size, const uint64_t *sp,
                            uint64_t fp, site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct entered entered = enter(sp);
    if (UNLIKELY(!entered.thread))
        return GATE(function_3, &call)(old, count, size);
    uint64_t bytes, key = 0, value = old ? take(old, &key) : 0;
    bool overflow = __builtin_mul_overflow(count, size, &bytes);
    void *block = GATE(function_3, &call)(old, count, size);
    finish_realloc(&entered, old, block, bytes, overflow, key, value, &call);
    return block;
}

/* A block leaves the ledger before the allocator lets go of it: another thread may be given it at
 * once. Then the function is jumped to: it returns to its caller by itself. */
INLINE void forget(uint64_t block, const uint64_t *sp)
{
    struct lw_agent_thread *thread = this_thread();
    uint64_t key, value = take(block, &key);
    if (LIKELY(value))
        forget_giant(block, value);
    if (UNLIKELY(!thread))
        return; /* there is no place to count it, but it lives no more */
    if (LIKELY(value)) {
        count_free(thread, key, value, 1);
    } else if (thread->released != block && !(thread->busy && is_nested(thread, sp))) {
        add(&thread->unknown_frees, 1);
    }
    thread->released = block;
}

OUTLINE static void free_in_full(uint64_t block, uint64_t second, uint64_t third,
                                 const uint64_t *sp, site_t site)
{
    if (LIKELY(block))
        forget(block, sp);
    ((function_3)site->gate)(block, second, third);
}

void free_recorded(uint64_t block, uint64_t second, uint64_t third, const uint64_t *sp, site_t site)
{
    struct lw_agent_thread *thread = known_thread();
    if (UNLIKELY(!thread))
        return free_in_full(block, second, third, sp, site);
    struct lw_agent_record *record = first_choice(block);
    uint64_t key = record->key, value = record->value;
    uint32_t stack = lw_agent_record_stack(value);
    uint32_t counts_block = thread->directory[stack >> LW_AGENT_COUNTS_LOG];
    if (UNLIKELY(key >> LW_AGENT_TICK_LOW_BITS != block >> 3 || block == 0 ||
                 lw_agent_record_stored_size(value) == LW_AGENT_SIZE_GIANT || counts_block == 0 ||
                 !is_of_now(key, value)))
        return free_in_full(block, second, third, sp, site);
    (void)release(record, &key);
    struct lw_agent_counts *counts = &shared->counts[counts_block][stack & (LW_AGENT_COUNTS - 1)];
    add(&counts->frees, 1);
    counts->lifetime_min = 1;
    thread->released = block;
    ((function_3)site->gate)(block, second, third);
}

/* NULL: the operator itself is to be called. */
void *new_recorded(uint64_t size, uint64_t alignment, const uint64_t *sp, uint64_t fp, site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    if (UNLIKELY(has_new_handler(site)))
        return NULL;
    struct entered entered = enter(sp);
    if (UNLIKELY(!entered.thread))
        return NULL;
    void *block = new_without_throwing(size, alignment, site);
    finish(&entered, block, size, &call);
    return block;
}
