/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The wrappers when a sample of the allocations is recorded. */
#include "calls.h"

/* enter_free_sampled (entries.c) computes the same. */
INLINE uint8_t *filter_of(uint64_t block)
{
    return &agent_private.filter[(uint32_t)block * AGENT_SMALL_HASH >> 16];
}

/* Whether the next `size` bytes hold a sampling point. Inside another function that was counted
 * already, they do not. */
INLINE bool is_sampled(struct lw_agent_thread *thread, uint64_t size, const uint64_t *sp)
{
    if (UNLIKELY(thread->busy && is_nested(thread, sp)))
        return false;
    return UNLIKELY((thread->countdown -= (int64_t)size) < 0);
}

INLINE void record_sample(const struct entered *entered, void *block, uint64_t size,
                          const struct call *call)
{
    struct lw_agent_thread *thread = entered->thread;
    if (block) {
        uint8_t *filter = filter_of((uint64_t)block);
        if (__atomic_load_n(filter, __ATOMIC_RELAXED) != UINT8_MAX)
            __atomic_fetch_add(filter, 1, __ATOMIC_RELAXED);
        record(entered, (uint64_t)block, size, call, true);
    }
    agent_draw(thread);
}

/* A sampled block, whose record has been taken out, is no more. The thread may be NULL. */
static void end_sample(struct lw_agent_thread *thread, uint64_t block, uint64_t key, uint64_t value)
{
    uint8_t *filter = filter_of(block);
    if (__atomic_load_n(filter, __ATOMIC_RELAXED) != UINT8_MAX)
        __atomic_fetch_sub(filter, 1, __ATOMIC_RELAXED);
    uint64_t stored = lw_agent_record_stored_size(value);
    uint64_t size = stored == LW_AGENT_SIZE_GIANT ? agent_giant_size(block, true) : stored - 1;
    if (thread)
        count_free(thread, key, value, agent_weight(size, lw_agent_record_rate(value)));
}

/* Takes a sampled block's record out; most blocks have none, and the filter says so. */
OUTLINE static void forget_sample(struct lw_agent_thread *thread, uint64_t block)
{
    uint64_t key, value = take(block, &key);
    if (value)
        end_sample(thread, block, key, value);
}

/* A realloc's outcome for the old block, which was sampled. Its address may be another block's by
 * now, unless it failed. */
OUTLINE static void settle_sample(struct lw_agent_thread *thread, uint64_t old, bool failed,
                                  uint64_t key, uint64_t value)
{
    if (failed)
        put(thread, key, value,
            agent_weight(lw_agent_record_stored_size(value) - 1, lw_agent_record_rate(value)));
    else
        end_sample(thread, old, key, value);
}

/* A call that holds a sampling point, or that is out of the ordinary. */
struct chosen {
    struct entered entered;
    struct call call;
};

/* `counted`: its bytes have been taken off the countdown already, and hold a sampling point. */
INLINE struct chosen choose(uint64_t size, const uint64_t *sp, uint64_t fp, site_t site,
                            bool counted)
{
    struct lw_agent_thread *thread = this_thread();
    struct chosen chosen = {.call = CALL_OF(sp, fp, site)};
    if (thread && (counted || is_sampled(thread, size, sp)))
        chosen.entered = enter(sp);
    return chosen;
}

INLINE void finish_chosen(const struct chosen *chosen, void *block, uint64_t size)
{
    if (is_forked_child())
        return;
    record_sample(&chosen->entered, block, size, &chosen->call);
    leave(&chosen->entered);
}

OUTLINE static void *malloc_chosen(uint64_t size, const uint64_t *sp, uint64_t fp, site_t site,
                                   bool counted)
{
    const struct chosen chosen = choose(size, sp, fp, site, counted);
    if (!chosen.entered.thread)
        return ((function_1)site->gate)(size);
    void *block = ((function_1)site->gate)(size);
    finish_chosen(&chosen, block, size);
    return block;
}

/* enter_malloc_sampled (entries.c) has not found the thread among the recent ones: it is new,
 * another has taken its place there, or the agent is off. */
void *malloc_unknown(uint64_t size, const uint64_t *sp, uint64_t fp, site_t site)
{
    if (control->mode == LW_AGENT_OFF)
        return ((function_1)site->gate)(size);
    uint64_t pointer = thread_pointer();
    const uint32_t place = recent_place(pointer);
    struct lw_agent_thread *thread = this_thread();
    if (thread) {
        /* Only this thread looks for this pointer; the order is that of reading. */
        __atomic_store_n(&agent_private.recent_pointer[place], 0, __ATOMIC_RELEASE);
        __atomic_store_n(&agent_private.recent_thread[place], thread, __ATOMIC_RELEASE);
        __atomic_store_n(&agent_private.recent_pointer[place], pointer, __ATOMIC_RELEASE);
    }
    return malloc_chosen(size, sp, fp, site, false);
}

/* The bytes have been counted, and hold a sampling point. */
void *malloc_at_sample(uint64_t size, const uint64_t *sp, uint64_t fp, site_t site)
{
    struct lw_agent_thread *thread = this_thread();
    if (control->mode == LW_AGENT_OFF) {
        if (thread)
            thread->countdown = INT64_MAX;
        return ((function_1)site->gate)(size);
    }
    return malloc_chosen(size, sp, fp, site, true);
}

void *sized_sampled(uint64_t size, uint64_t second, uint64_t third, const uint64_t *sp, uint64_t fp,
                    site_t site)
{
    const struct chosen chosen = choose(size, sp, fp, site, false);
    if (!chosen.entered.thread)
        return ((function_3)site->gate)(size, second, third);
    void *block = ((function_3)site->gate)(size, second, third);
    finish_chosen(&chosen, block, size);
    return block;
}

/* Those that may call malloc are entered whether or not they are sampled, so that it is not counted
 * again. */
struct sampling {
    struct entered entered;
    bool sampled;
    int64_t countdown;
};

INLINE struct sampling enter_sampling(const uint64_t *sp, uint64_t size)
{
    struct sampling sampling = {.entered = enter(sp)};
    struct lw_agent_thread *thread = sampling.entered.thread;
    if (LIKELY(thread))
        sampling.sampled = UNLIKELY((thread->countdown -= (int64_t)size) < 0);
    sampling.countdown = thread ? thread->countdown : 0;
    return sampling;
}

INLINE void leave_sampling(const struct sampling *sampling, void *block, uint64_t size,
                           const struct call *call)
{
    if (is_forked_child())
        return;
    /* What malloc counted in between is part of this. */
    sampling->entered.thread->countdown = sampling->countdown;
    if (UNLIKELY(sampling->sampled))
        record_sample(&sampling->entered, block, size, call);
    leave(&sampling->entered);
}

void *calloc_sampled(uint64_t count, uint64_t size, const uint64_t *sp, uint64_t fp, site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct sampling sampling = enter_sampling(sp, count * size);
    if (UNLIKELY(!sampling.entered.thread))
        return GATE(function_2, &call)(count, size);
    void *block = GATE(function_2, &call)(count, size);
    leave_sampling(&sampling, block, count * size, &call);
    return block;
}

void *aligned_sampled(uint64_t alignment, uint64_t size, const uint64_t *sp, uint64_t fp,
                      site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct sampling sampling = enter_sampling(sp, size);
    if (UNLIKELY(!sampling.entered.thread))
        return GATE(function_2, &call)(alignment, size);
    void *block = GATE(function_2, &call)(alignment, size);
    leave_sampling(&sampling, block, size, &call);
    return block;
}

int store_sampled(void **result, uint64_t alignment, uint64_t size, const uint64_t *sp, uint64_t fp,
                  site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct sampling sampling = enter_sampling(sp, size);
    if (UNLIKELY(!sampling.entered.thread))
        return GATE(function_store, &call)(result, alignment, size);
    int error = GATE(function_store, &call)(result, alignment, size);
    leave_sampling(&sampling, error ? NULL : *result, size, &call);
    return error;
}

/* A sampled block that is resized is freed, and the new one may be sampled again. */
void *realloc_sampled(uint64_t old, uint64_t size, const uint64_t *sp, uint64_t fp, site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct sampling sampling = enter_sampling(sp, size);
    if (UNLIKELY(!sampling.entered.thread))
        return GATE(function_2, &call)(old, size);
    struct lw_agent_thread *thread = sampling.entered.thread;
    uint64_t key = 0, value = 0;
    if (old && UNLIKELY(*filter_of(old)))
        value = take(old, &key);
    void *block = GATE(function_2, &call)(old, size);
    if (UNLIKELY(value) && !is_forked_child())
        settle_sample(thread, old, !block && size != 0, key, value);
    leave_sampling(&sampling, block, size, &call);
    return block;
}

void *reallocarray_sampled(uint64_t old, uint64_t count, uint64_t size, const uint64_t *sp,
                           uint64_t fp, site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct sampling sampling = enter_sampling(sp, count * size);
    if (UNLIKELY(!sampling.entered.thread))
        return GATE(function_3, &call)(old, count, size);
    struct lw_agent_thread *thread = sampling.entered.thread;
    uint64_t key = 0, value = 0;
    if (old && UNLIKELY(*filter_of(old)))
        value = take(old, &key);
    void *block = GATE(function_3, &call)(old, count, size);
    if (UNLIKELY(value) && !is_forked_child())
        settle_sample(thread, old, !block && count * size != 0, key, value);
    leave_sampling(&sampling, block, count * size, &call);
    return block;
}

/* enter_free_sampled has seen that the block may have been sampled. */
void free_maybe_sampled(uint64_t block, uint64_t second, uint64_t third, const uint64_t *sp,
                        site_t site)
{
    (void)sp;
    if (block && control->mode != LW_AGENT_OFF)
        forget_sample(this_thread(), block);
    ((function_3)site->gate)(block, second, third);
}

/* NULL: the operator itself is to be called. */
void *new_sampled(uint64_t size, uint64_t alignment, const uint64_t *sp, uint64_t fp, site_t site)
{
    if (UNLIKELY(has_new_handler(site)))
        return NULL;
    const struct chosen chosen = choose(size, sp, fp, site, false);
    if (!chosen.entered.thread)
        return NULL;
    void *block = new_without_throwing(size, alignment, site);
    finish_chosen(&chosen, block, size);
    return block;
}
