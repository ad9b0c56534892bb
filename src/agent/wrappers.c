/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What runs in place of the watched functions. */
#include "agent.h"
#include "ledger.h"

#define HEARTBEAT_CALLS 4096

typedef void *(*function_1)(uint64_t);
typedef void *(*function_2)(uint64_t, uint64_t);
typedef void *(*function_3)(uint64_t, uint64_t, uint64_t);
typedef int (*function_store)(void **, uint64_t, uint64_t);

#define GATE(type, call) ((type)(call)->site->gate)

/*
 * A patched entry leads here with the site in r11 and everything else as the caller left it. Each
 * wrapper's C function gets the arguments, and after them the caller's stack pointer, frame pointer
 * and the site. What the function itself might have clobbered by the calling convention, the
 * wrapper may.
 */
#define ENTER(name, recorded, sampled, sp, fp, site)                                               \
    __asm__(".section .text.hot,\"ax\"\n"                                                          \
            ".balign 16\n"                                                                         \
            ".globl " #name "\n" #name ":\n"                                                       \
            "    cmpl $1, agent_control(%rip)\n" /* LW_AGENT_EXACT */                              \
            "    jne 1f\n"                                                                         \
            "    mov %rsp, %" sp "\n"                                                              \
            "    mov %rbp, %" fp "\n"                                                              \
            "    mov %r11, %" site "\n"                                                            \
            "    jmp " #recorded "\n"                                                              \
            "1:  jb 2f\n"                                                                          \
            "    mov %rsp, %" sp "\n"                                                              \
            "    mov %rbp, %" fp "\n"                                                              \
            "    mov %r11, %" site "\n"                                                            \
            "    jmp " #sampled "\n"                                                               \
            "2:  jmp *(%r11)\n"                                                                    \
            ".text\n")

ENTER(agent_malloc, malloc_recorded, malloc_sampled, "rsi", "rdx", "rcx");
ENTER(agent_calloc, calloc_recorded, calloc_sampled, "rdx", "rcx", "r8");
ENTER(agent_aligned, aligned_recorded, aligned_sampled, "rdx", "rcx", "r8");
ENTER(agent_sized, sized_recorded, sized_sampled, "rcx", "r8", "r9");
ENTER(agent_store, store_recorded, store_sampled, "rcx", "r8", "r9");
ENTER(agent_realloc, realloc_recorded, realloc_sampled, "rdx", "rcx", "r8");
ENTER(agent_reallocarray, reallocarray_recorded, reallocarray_sampled, "rcx", "r8", "r9");
ENTER(agent_free, free_recorded, free_sampled, "rcx", "r9", "r8");

/*
 * An operator new that throws must find no frame of the agent's on the stack, for which there is no
 * unwind information. So its sibling that returns NULL instead is called, and when that fails, the
 * operator itself is jumped to, to throw.
 */
__asm__(".section .text.hot,\"ax\"\n"
        ".balign 16\n"
        ".globl agent_new\nagent_new:\n"
        "    cmpl $0, agent_control(%rip)\n"
        "    je 1f\n"
        "    mov %rsp, %rdx\n"
        "    mov %rbp, %rcx\n"
        "    push %rdi\n"
        "    push %rsi\n"
        "    push %r11\n"
        "    mov %r11, %r8\n"
        "    call new_recorded\n"
        "    pop %r11\n"
        "    pop %rsi\n"
        "    pop %rdi\n"
        "    test %rax, %rax\n"
        "    jz 1f\n"
        "    ret\n"
        "1:  jmp *(%r11)\n"
        ".text\n");

#define OFFSET(name) "    .long " #name " - agent_head\n"
__asm__(".section .text.head,\"ax\"\n"
        ".globl agent_head\nagent_head:\n" /* struct lw_agent_head */
        OFFSET(agent_malloc) OFFSET(agent_calloc) OFFSET(agent_aligned) OFFSET(agent_sized)
            OFFSET(agent_new) OFFSET(agent_store) OFFSET(agent_realloc) OFFSET(agent_reallocarray)
                OFFSET(agent_free) OFFSET(agent_modules) ".text\n");

INLINE struct lw_agent_thread *this_thread(void)
{
    uint64_t pointer = thread_pointer();
    uint64_t word = shared->thread_index[pointer / 64 * GOLDEN >> 51];
    if (LIKELY(word >> 16 == pointer >> 4)) {
        struct lw_agent_thread *thread = &shared->threads[word & 0xffff];
        uint32_t offset = control->tid_offset;
        if (LIKELY(offset == 0 || thread->tid == *(const uint32_t *)(pointer + offset)))
            return thread;
    }
    return agent_register(pointer);
}

static bool is_allocator(uint64_t address)
{
    for (uint32_t i = 0; i < control->range_count && i < LW_AGENT_RANGES; i++)
        if (address >= control->ranges[i][0] && address < control->ranges[i][1])
            return true;
    return false;
}

/* Allocator functions call each other: such a call is part of the one under way. */
OUTLINE static bool is_nested(const struct lw_agent_thread *thread, const uint64_t *sp)
{
    return (uint64_t)sp < thread->busy && is_allocator(*sp);
}

/* The wrapper that this one has interrupted (it runs in a signal handler), or 0 where it was left
 * by a jump out of such a handler. */
OUTLINE static uint64_t still_busy(const struct lw_agent_thread *thread, uint64_t busy,
                                   uint64_t busy_return)
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
    for (uint32_t i = 0; i < memo->words; i++)
        if (call->sp[memo->offset[i]] != memo->word[i])
            return false;
    return true;
}

#ifdef LW_AGENT_CHECK
static void check_hit(struct lw_agent_thread *thread, const struct call *call, uint32_t stack)
{
    bool truncated;
    if (agent_unwind_plainly(thread, call, &truncated) != stack)
        add(&thread->mismatches, 1);
}
#else
#define check_hit(thread, call, stack) ((void)0)
#endif

INLINE uint32_t stack_of(const struct entered *entered, const struct call *call)
{
    struct lw_agent_thread *thread = entered->thread;
    bool truncated = false;
    uint32_t stack;
    if (UNLIKELY(entered->outer)) {
        stack = agent_unwind_plainly(thread, call, &truncated);
        add(&thread->truncated_stacks, truncated);
        return stack;
    }
    uint64_t hash = mix(call->sp[0] ^ (uint64_t)call->sp * 0xc2b2ae3d27d4eb4full);
    struct lw_agent_memo *set = thread->memo[hash >> 40 & (LW_AGENT_MEMO_SETS - 1)];
    for (unsigned i = 0; i < LW_AGENT_MEMO_WAYS; i++) {
        if (LIKELY(is_remembered(&set[i], call))) {
            thread->memo_hits++;
            check_hit(thread, call, set[i].stack);
            if (UNLIKELY(set[i].truncated))
                add(&thread->truncated_stacks, 1);
            return set[i].stack;
        }
    }
    stack = agent_unwind(thread, call, &set[thread->memo_misses++ & (LW_AGENT_MEMO_WAYS - 1)],
                         &truncated);
    add(&thread->truncated_stacks, truncated);
    return stack;
}

INLINE struct lw_agent_counts *counts_of(struct lw_agent_thread *thread, uint32_t stack)
{
    uint32_t index = stack >> LW_AGENT_COUNTS_LOG;
    uint32_t block = thread->directory[index];
    if (UNLIKELY(block == 0))
        block = agent_counts_block(thread, index);
    return &shared->counts[block][stack & (LW_AGENT_COUNTS - 1)];
}

/* A block's record that was taken out is counted as freed. */
INLINE void count_free(struct lw_agent_thread *thread, uint64_t key, uint64_t value,
                       uint64_t weight)
{
    struct lw_agent_counts *counts = counts_of(thread, lw_agent_record_stack(value));
    uint32_t age = (shared->tick - lw_agent_record_tick(key, value)) & LW_AGENT_TICK_MASK;
    add(&counts->frees, weight);
    if (age != 0) {
        add(&counts->lifetime_ticks, age * weight);
        if (age > counts->lifetime_max)
            counts->lifetime_max = age;
        if (age >= control->expire_ticks)
            add(&counts->late_frees, weight);
    }
    if (counts->lifetime_min == 0 || age + 1 < counts->lifetime_min)
        counts->lifetime_min = age + 1;
}

/* Puts a record in the ledger. */
INLINE void put(struct lw_agent_thread *thread, uint64_t key, uint64_t value)
{
    struct replaced replaced = {0};
    if (UNLIKELY(!insert(key, value, &replaced)))
        add(&thread->dropped_blocks, 1);
    if (UNLIKELY(replaced.value)) {
        count_free(thread, replaced.key, replaced.value, 1);
        add(&thread->missed_frees, 1);
    }
}

INLINE void record(const struct entered *entered, uint64_t block, uint64_t size,
                   const struct call *call, bool sampled)
{
    struct lw_agent_thread *thread = entered->thread;
    uint32_t stack = LW_AGENT_STACK_NONE;
    if (LIKELY(size >= control->min_size && size <= control->max_size))
        stack = stack_of(entered, call);
    struct lw_agent_counts *counts = counts_of(thread, stack);
    uint32_t rate = sampled ? thread->rate : 0;
    uint64_t weight = sampled ? agent_weight(size, rate) : 1;
    add(&counts->allocs, weight);
    add(&counts->alloc_bytes, sampled ? weight * size / 256 : size);
    thread->released = 0;

    uint32_t tick = shared->tick & LW_AGENT_TICK_MASK;
    uint64_t value = lw_agent_record_value(size, tick, rate, stack);
    if (UNLIKELY(lw_agent_record_stored_size(value) == LW_AGENT_SIZE_GIANT))
        agent_keep_giant(thread, block, size);
    if (LIKELY(block >> 47 == 0))
        put(thread, lw_agent_record_key(block, tick), value);
    else
        add(&thread->dropped_blocks, 1);
}

INLINE void forget_giant(uint64_t address, uint64_t value)
{
    if (UNLIKELY(lw_agent_record_stored_size(value) == LW_AGENT_SIZE_GIANT))
        agent_giant_size(address, true);
}

/* ---- every allocation ------------------------------------------------------------------------ */

INLINE void finish(const struct entered *entered, void *block, uint64_t size,
                   const struct call *call)
{
    if (LIKELY(block))
        record(entered, (uint64_t)block, size, call, false);
    else
        add(&entered->thread->failed_allocs, 1);
    leave(entered);
}

#define CALL_OF(sp, fp, site) ((struct call){(sp), (fp), (site)})
typedef const struct lw_agent_site *site_t;

void *malloc_recorded(uint64_t size, const uint64_t *sp, uint64_t fp, site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct entered entered = enter(sp);
    if (UNLIKELY(!entered.thread))
        return GATE(function_1, &call)(size);
    void *block = GATE(function_1, &call)(size);
    finish(&entered, block, size, &call);
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
    add(&thread->reallocs, 1);
    if (overflow || (!block && size != 0)) {
        /* Failed: the old block stays what it was. */
        if (value)
            put(thread, key, value);
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
    if (UNLIKELY(!thread))
        return;
    uint64_t key, value = take(block, &key);
    if (LIKELY(value)) {
        forget_giant(block, value);
        count_free(thread, key, value, 1);
    } else if (thread->released != block && !(thread->busy && is_nested(thread, sp))) {
        add(&thread->unknown_frees, 1);
    }
    thread->released = block;
}

void free_recorded(uint64_t block, uint64_t second, uint64_t third, const uint64_t *sp, site_t site)
{
    if (LIKELY(block))
        forget(block, sp);
    ((function_3)site->gate)(block, second, third);
}

/* ---- a sample -------------------------------------------------------------------------------- */

INLINE uint8_t *filter_of(uint64_t block)
{
    return &shared->filter[(block >> 3) * GOLDEN >> 48];
}

/* Whether the next `size` bytes hold a sampling point. Inside another function that was counted
 * already, they do not. */
INLINE bool is_sampled(struct lw_agent_thread *thread, uint64_t size, const uint64_t *sp)
{
    if (UNLIKELY(thread->busy && is_nested(thread, sp)))
        return false;
    thread->calls++;
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

/* Takes a sampled block's record out; most blocks have none, and the filter says so. */
OUTLINE static void forget_sample(struct lw_agent_thread *thread, uint64_t block)
{
    uint64_t key, value = take(block, &key);
    if (value == 0)
        return;
    uint8_t *filter = filter_of(block);
    if (__atomic_load_n(filter, __ATOMIC_RELAXED) != UINT8_MAX)
        __atomic_fetch_sub(filter, 1, __ATOMIC_RELAXED);
    uint64_t stored = lw_agent_record_stored_size(value);
    uint64_t size = stored == LW_AGENT_SIZE_GIANT ? agent_giant_size(block, true) : stored - 1;
    count_free(thread, key, value, agent_weight(size, lw_agent_record_rate(value)));
}

/* A realloc's outcome for the old block, which was sampled. */
OUTLINE static void settle_sample(struct lw_agent_thread *thread, uint64_t old, bool failed,
                                  uint64_t key, uint64_t value)
{
    put(thread, key, value);
    if (!failed)
        forget_sample(thread, old);
}

#define IF_SAMPLED(sp, size, gate_call)                                                            \
    struct lw_agent_thread *thread = this_thread();                                                \
    if (LIKELY(!thread || !is_sampled(thread, size, sp)))                                          \
        return gate_call;                                                                          \
    const struct call call = CALL_OF(sp, fp, site);                                                \
    struct entered entered = enter(sp);                                                            \
    if (UNLIKELY(!entered.thread))                                                                 \
    return gate_call

void *malloc_sampled(uint64_t size, const uint64_t *sp, uint64_t fp, site_t site)
{
    IF_SAMPLED(sp, size, ((function_1)site->gate)(size));
    void *block = GATE(function_1, &call)(size);
    record_sample(&entered, block, size, &call);
    leave(&entered);
    return block;
}

void *sized_sampled(uint64_t size, uint64_t second, uint64_t third, const uint64_t *sp, uint64_t fp,
                    site_t site)
{
    IF_SAMPLED(sp, size, ((function_3)site->gate)(size, second, third));
    void *block = GATE(function_3, &call)(size, second, third);
    record_sample(&entered, block, size, &call);
    leave(&entered);
    return block;
}

/* Those that may call malloc are entered whether or not they are sampled, so that it is not counted
 * again. */
struct sampling {
    struct entered entered;
    bool sampled;
};

INLINE struct sampling enter_sampling(const uint64_t *sp, uint64_t size)
{
    struct sampling sampling = {.entered = enter(sp)};
    struct lw_agent_thread *thread = sampling.entered.thread;
    if (LIKELY(thread))
        sampling.sampled = UNLIKELY((thread->countdown -= (int64_t)size) < 0);
    return sampling;
}

INLINE void leave_sampling(const struct sampling *sampling, void *block, uint64_t size,
                           const struct call *call)
{
    if (!sampling->entered.thread)
        return;
    if (UNLIKELY(sampling->sampled))
        record_sample(&sampling->entered, block, size, call);
    leave(&sampling->entered);
}

void *calloc_sampled(uint64_t count, uint64_t size, const uint64_t *sp, uint64_t fp, site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct sampling sampling = enter_sampling(sp, count * size);
    void *block = GATE(function_2, &call)(count, size);
    leave_sampling(&sampling, block, count * size, &call);
    return block;
}

void *aligned_sampled(uint64_t alignment, uint64_t size, const uint64_t *sp, uint64_t fp,
                      site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct sampling sampling = enter_sampling(sp, size);
    void *block = GATE(function_2, &call)(alignment, size);
    leave_sampling(&sampling, block, size, &call);
    return block;
}

int store_sampled(void **result, uint64_t alignment, uint64_t size, const uint64_t *sp, uint64_t fp,
                  site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct sampling sampling = enter_sampling(sp, size);
    int error = GATE(function_store, &call)(result, alignment, size);
    leave_sampling(&sampling, error ? NULL : *result, size, &call);
    return error;
}

/* A sampled block that is resized is freed, and the new one may be sampled again. */
void *realloc_sampled(uint64_t old, uint64_t size, const uint64_t *sp, uint64_t fp, site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct sampling sampling = enter_sampling(sp, size);
    struct lw_agent_thread *thread = sampling.entered.thread;
    uint64_t key = 0, value = 0;
    if (old && thread && UNLIKELY(*filter_of(old)))
        value = take(old, &key);
    void *block = GATE(function_2, &call)(old, size);
    if (UNLIKELY(value))
        settle_sample(thread, old, !block && size != 0, key, value);
    leave_sampling(&sampling, block, size, &call);
    return block;
}

void *reallocarray_sampled(uint64_t old, uint64_t count, uint64_t size, const uint64_t *sp,
                           uint64_t fp, site_t site)
{
    const struct call call = CALL_OF(sp, fp, site);
    struct sampling sampling = enter_sampling(sp, count * size);
    struct lw_agent_thread *thread = sampling.entered.thread;
    uint64_t key = 0, value = 0;
    if (old && thread && UNLIKELY(*filter_of(old)))
        value = take(old, &key);
    void *block = GATE(function_3, &call)(old, count, size);
    if (UNLIKELY(value))
        settle_sample(thread, old, !block && count * size != 0, key, value);
    leave_sampling(&sampling, block, count * size, &call);
    return block;
}

void free_sampled(uint64_t block, uint64_t second, uint64_t third, const uint64_t *sp, site_t site)
{
    (void)sp;
    if (UNLIKELY(*filter_of(block)) && block) {
        struct lw_agent_thread *thread = this_thread();
        if (thread)
            forget_sample(thread, block);
    }
    ((function_3)site->gate)(block, second, third);
}

/* ---- operators that throw, and the dynamic linker -------------------------------------------- */

/* NULL: the operator itself is to be called. `alignment` is what a second argument would be. */
void *new_recorded(uint64_t size, uint64_t alignment, const uint64_t *sp, uint64_t fp, site_t site)
{
    static const char nothrow[1];
    const struct call call = CALL_OF(sp, fp, site);
    bool sampled = control->mode == LW_AGENT_SAMPLED;
    struct sampling sampling = {.entered = enter(sp)};
    struct lw_agent_thread *thread = sampling.entered.thread;
    if (UNLIKELY(!thread))
        return NULL;
    if (sampled && LIKELY((thread->countdown -= (int64_t)size) >= 0)) {
        leave(&sampling.entered);
        return NULL;
    }
    void *block = site->aligned ? ((function_3)site->nothrow)(size, alignment, (uint64_t)nothrow)
                                : ((function_2)site->nothrow)(size, (uint64_t)nothrow);
    if (sampled)
        record_sample(&sampling.entered, block, size, &call);
    else if (block)
        record(&sampling.entered, (uint64_t)block, size, &call, false);
    else
        add(&thread->failed_allocs, 1);
    leave(&sampling.entered);
    return block;
}

__asm__(".section .text.hot,\"ax\"\n"
        ".balign 16\n"
        ".globl agent_modules\nagent_modules:\n"
        "    cmpl $0, agent_control(%rip)\n"
        "    je 1f\n"
        "    push %r11\n"
        "    call modules_changed\n"
        "    pop %r11\n"
        "1:  jmp *(%r11)\n"
        ".text\n");
