/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all wrappers do: know the thread, keep nested calls apart, find the stack, record, forget.
 */
#ifndef LEAKWATCH_AGENT_CALLS_H
#define LEAKWATCH_AGENT_CALLS_H

#include "agent.h"
#include "ledger.h"

#define HEARTBEAT_CALLS 4096

typedef void *(*function_1)(uint64_t);
typedef void *(*function_2)(uint64_t, uint64_t);
typedef void *(*function_3)(uint64_t, uint64_t, uint64_t);
typedef int (*function_store)(void **, uint64_t, uint64_t);

#define GATE(type, call) ((type)(call)->site->gate)

#define CALL_OF(sp, fp, site) ((struct call){(sp), (fp), (site)})
typedef const struct lw_agent_site *site_t;

/* The thread that calls, when it is known already; else NULL. */
INLINE struct lw_agent_thread *known_thread(void)
{
    uint64_t pointer = thread_pointer();
    const struct lw_agent_index *entry = index_of(pointer);
    uint64_t place = entry->place;
    uint32_t offset = control->tid_offset;
    struct lw_agent_thread *thread = (struct lw_agent_thread *)((char *)shared + place);
    /* Without a place, this looks at the magic number, which is nobody's id. */
    if (UNLIKELY(entry->pointer != pointer || thread->tid != *(const uint32_t *)(pointer + offset)))
        return NULL;
    return thread;
}

INLINE struct lw_agent_thread *this_thread(void)
{
    struct lw_agent_thread *thread = known_thread();
    return LIKELY(thread) ? thread : agent_register(thread_pointer());
}

static bool is_allocator(uint64_t address)
{
    for (uint32_t i = 0; i < control->range_count && i < LW_AGENT_RANGES; i++)
        if (address >= control->ranges[i][0] && address < control->ranges[i][1])
            return true;
    return false;
}

/* The least that the kernel puts on the stack for a signal handler: the registers of
 * <asm/sigcontext.h> and the state of the FPU (FXSAVE), besides the red zone. */
#define SIGNAL_FRAME 1024

/*
 * Allocator functions call each other: such a call is part of the one under way. So is, by its
 * address, one that a signal handler makes in the same module, but for the signal's frame between.
 */
OUTLINE static __attribute__((unused)) bool is_nested(const struct lw_agent_thread *thread,
                                                      const uint64_t *sp)
{
    const uint64_t here = (uint64_t)sp;
    return here < thread->busy && is_allocator(*sp) &&
           (thread->busy - here < SIGNAL_FRAME || !agent_crosses_signal(sp, thread->busy));
}

/* The wrapper that this one has interrupted (it runs in a signal handler), or 0 where it was left
 * by a jump out of such a handler. */
OUTLINE static __attribute__((unused)) uint64_t still_busy(const struct lw_agent_thread *thread,
                                                           uint64_t busy, uint64_t busy_return)
{
    if (busy < thread->low || busy >= thread->high)
        return busy; /* on another stack: not to be looked at */
    return *(const uint64_t *)busy == busy_return ? busy : 0;
}

/* What a wrapper keeps while the function runs. */
struct entered {
    struct lw_agent_thread *thread; /* NULL: the call is not to be recorded */
    uint64_t outer, outer_return;   /* the wrapper that was interrupted, 0: none */
};

INLINE struct entered enter(const uint64_t *sp)
{
    struct entered entered = {.thread = this_thread()};
    struct lw_agent_thread *thread = entered.thread;
    if (UNLIKELY(!thread))
        return entered;
    if (UNLIKELY(thread->busy)) {
        if (is_nested(thread, sp)) {
            entered.thread = NULL;
            return entered;
        }
        entered.outer = still_busy(thread, thread->busy, thread->busy_return);
        entered.outer_return = thread->busy_return;
    }
    thread->busy_return = *sp;
    thread->busy = (uint64_t)sp;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (UNLIKELY(++thread->calls % HEARTBEAT_CALLS == 0))
        agent_heartbeat(thread);
    return entered;
}

/* As enter() where nothing is out of the ordinary; NULL: enter() is to be used. */
INLINE struct lw_agent_thread *enter_plainly(const uint64_t *sp)
{
    struct lw_agent_thread *thread = known_thread();
    if (UNLIKELY(!thread || thread->busy != 0 || (thread->calls + 1) % HEARTBEAT_CALLS == 0))
        return NULL;
    thread->calls++;
    thread->busy_return = *sp;
    thread->busy = (uint64_t)sp;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return thread;
}

/* Has a signal handler that came while the function ran forked, and is this the child? It has the
 * control page wiped, no depth among it, and the shared memory is not there. */
INLINE bool is_forked_child(void)
{
    return UNLIKELY(__atomic_load_n(&control->depth, __ATOMIC_RELAXED) == 0);
}

INLINE void leave(const struct entered *entered)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    entered->thread->busy_return = entered->outer_return;
    entered->thread->busy = entered->outer;
}

INLINE bool is_remembered(const struct lw_agent_memo *memo, const struct call *call)
{
    if (memo->return_address != call->sp[0] || memo->sp != (uint64_t)call->sp ||
        memo->site != (uint64_t)call->site || memo->version != shared->version ||
        (memo->uses_fp && memo->fp != call->fp))
        return false;
    /* In the order of unwinding: each word confirms that the next belongs to the stack. */
    for (uint32_t i = 0; i < memo->words; i += 4)
        if (call->sp[memo->offset[i]] != memo->word[i] ||
            call->sp[memo->offset[i + 1]] != memo->word[i + 1] ||
            call->sp[memo->offset[i + 2]] != memo->word[i + 2] ||
            call->sp[memo->offset[i + 3]] != memo->word[i + 3])
            return false;
    return true;
}

#ifdef LW_AGENT_CHECK
static void check_hit(struct lw_agent_thread *thread, const struct call *call, uint32_t stack)
{
    uint64_t again = agent_unwind_plainly(thread, call->sp, call->fp, call->site);
    if ((uint32_t)again != stack)
        add(&thread->mismatches, 1);
}
#else
#define check_hit(thread, call, stack) ((void)0)
#endif

INLINE struct lw_agent_memo *memos_of(struct lw_agent_thread *thread, const struct call *call)
{
    uint64_t hash = (call->sp[0] + ((uint64_t)call->sp << 20)) * GOLDEN;
    return thread->memo[hash >> 58 & (LW_AGENT_MEMO_SETS - 1)];
}

/* What no memo knows. */
OUTLINE static __attribute__((unused)) uint32_t stack_anew(struct lw_agent_thread *thread,
                                                           const uint64_t *sp, uint64_t fp,
                                                           const struct lw_agent_site *site,
                                                           bool plainly)
{
    const struct call call = {.sp = sp, .fp = fp, .site = site};
    struct lw_agent_memo *set = memos_of(thread, &call);
    uint64_t stack = plainly ? agent_unwind_plainly(thread, sp, fp, site)
                             : agent_unwind(thread, sp, fp, site,
                                            &set[thread->memo_misses++ & (LW_AGENT_MEMO_WAYS - 1)]);
    add(&thread->truncated_stacks, stack / AGENT_TRUNCATED);
    return (uint32_t)stack;
}

/* NULL: none knows this stack. */
INLINE struct lw_agent_memo *find_memo(struct lw_agent_thread *thread, const struct call *call)
{
    struct lw_agent_memo *memo = memos_of(thread, call), *end = memo + LW_AGENT_MEMO_WAYS;
    for (; memo < end; memo++)
        if (LIKELY(is_remembered(memo, call)))
            return memo;
    return NULL;
}

INLINE uint32_t stack_of(const struct entered *entered, const struct call *call)
{
    struct lw_agent_thread *thread = entered->thread;
    const struct lw_agent_memo *memo = entered->outer ? NULL : find_memo(thread, call);
    if (!memo)
        return stack_anew(thread, call->sp, call->fp, call->site, entered->outer != 0);
    thread->memo_hits++;
    check_hit(thread, call, memo->stack);
    add(&thread->truncated_stacks, memo->truncated);
    return memo->stack;
}

INLINE struct lw_agent_counts *counts_of(struct lw_agent_thread *thread, uint32_t stack)
{
    uint32_t index = stack >> LW_AGENT_COUNTS_LOG;
    uint32_t block = thread->directory[index];
    if (UNLIKELY(block == 0))
        block = agent_counts_block(thread, index);
    return &shared->counts[block][stack & (LW_AGENT_COUNTS - 1)];
}

/* Of a block that has lived for at least a tick. */
OUTLINE static __attribute__((unused)) void count_age(struct lw_agent_counts *counts, uint64_t key,
                                                      uint64_t value, uint64_t weight)
{
    uint32_t age = (shared->tick - lw_agent_record_tick(key, value)) & LW_AGENT_TICK_MASK;
    add(&counts->lifetime_ticks, age * weight);
    if (age > counts->lifetime_max)
        counts->lifetime_max = age;
    if (counts->lifetime_min == 0 || age + 1 < counts->lifetime_min)
        counts->lifetime_min = age + 1;
    if (age >= control->expire_ticks)
        add(&counts->late_frees, weight);
}

/* Of a block that was given away and taken back within one tick: its age is 0. */
INLINE bool is_of_now(uint64_t key, uint64_t value)
{
    const uint64_t now = __atomic_load_n(&shared->clock, __ATOMIC_RELAXED);
    return (((key ^ now) & ((1u << LW_AGENT_TICK_LOW_BITS) - 1)) |
            ((value ^ now >> 32) & (0x3ffu << 24))) == 0;
}

/* A block's record that was taken out is counted as freed. */
INLINE void count_free(struct lw_agent_thread *thread, uint64_t key, uint64_t value,
                       uint64_t weight)
{
    struct lw_agent_counts *counts = counts_of(thread, lw_agent_record_stack(value));
    add(&counts->frees, weight);
    if (LIKELY(is_of_now(key, value)))
        counts->lifetime_min = 1; /* that is, an age of 0 */
    else
        count_age(counts, key, value, weight);
}

/* Puts a record in the ledger; one that was there for the same address is closed with the same
 * weight, which is about right. */
INLINE void put(struct lw_agent_thread *thread, uint64_t key, uint64_t value, uint64_t weight)
{
    struct replaced replaced = {0};
    if (UNLIKELY(!insert(key, value, &replaced)))
        add(&thread->dropped_blocks, 1);
    if (UNLIKELY(replaced.value)) {
        count_free(thread, replaced.key, replaced.value, weight);
        add(&thread->missed_frees, 1);
    }
}

/* So that the next time they need not be looked for. */
INLINE void remember_counts(struct lw_agent_thread *thread, const struct call *call, uint32_t stack,
                            const struct lw_agent_counts *counts)
{
    struct lw_agent_memo *memo = memos_of(thread, call);
    for (unsigned i = 0; i < LW_AGENT_MEMO_WAYS; i++)
        if (memo[i].stack == stack && counts >= shared->counts[1])
            memo[i].counts = (uint64_t)((const char *)counts - (const char *)shared);
}

INLINE void record(const struct entered *entered, uint64_t block, uint64_t size,
                   const struct call *call, bool sampled)
{
    struct lw_agent_thread *thread = entered->thread;
    uint32_t stack = LW_AGENT_STACK_NONE;
    if (LIKELY(size >= control->min_size && size <= control->max_size))
        stack = stack_of(entered, call);
    struct lw_agent_counts *counts = counts_of(thread, stack);
    remember_counts(thread, call, stack, counts);
    uint32_t rate = sampled ? thread->rate : 0;
    uint64_t weight = sampled ? agent_weight(size, rate) : 1;
    add(&counts->allocs, weight);
    add(&counts->alloc_bytes, sampled ? weight * size / 256 : size);
    thread->released = 0;

    const uint64_t now = __atomic_load_n(&shared->clock, __ATOMIC_RELAXED);
    const uint64_t stored = LIKELY(size < LW_AGENT_SIZE_GIANT - 1) ? size + 1 : LW_AGENT_SIZE_GIANT;
    if (UNLIKELY(stored == LW_AGENT_SIZE_GIANT))
        agent_keep_giant(thread, block, size);
    if (LIKELY(block >> 47 == 0))
        put(thread, block >> 3 << LW_AGENT_TICK_LOW_BITS | (uint32_t)now,
            stored << 34 | now >> 32 | (uint64_t)rate << LW_AGENT_STACK_BITS | stack, weight);
    else
        add(&thread->dropped_blocks, 1);
}

/*
 * A new-handler would be called once by the sibling that does not throw and once more by the
 * operator itself, and what it throws must not get to the sibling at all. So while the program has
 * one, the operator is left alone; what it calls may be recorded instead.
 */
INLINE bool has_new_handler(site_t site)
{
    if (LIKELY(!control->new_handler || *(const uint64_t *)control->new_handler == 0))
        return false;
    struct lw_agent_thread *thread = this_thread();
    if (thread && !site->nests)
        add(&thread->dropped_blocks, 1);
    return true;
}

/* Calls the sibling of an operator new that does not throw; `alignment` is what a second argument
 * would be. */
INLINE void *new_without_throwing(uint64_t size, uint64_t alignment, site_t site)
{
    static const char nothrow[1];
    return site->aligned ? ((function_3)site->nothrow)(size, alignment, (uint64_t)nothrow)
                         : ((function_2)site->nothrow)(size, (uint64_t)nothrow);
}

INLINE void forget_giant(uint64_t address, uint64_t value)
{
    if (UNLIKELY(lw_agent_record_stored_size(value) == LW_AGENT_SIZE_GIANT))
        agent_giant_size(address, true);
}

#endif
