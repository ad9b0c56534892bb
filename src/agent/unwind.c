/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unwinding the stack of the calling thread by rows, and merging with its stack before. */
#include "agent.h"

#define PAGE        4096u
#define STACK_MAX   (16u << 20) /* bytes: a new thread's stack ends at its thread pointer */
#define MERGE_TRIES 3
#define LOWEST_CODE 0x10000u /* below, nothing is mapped (vm.mmap_min_addr) */

/* Where the kernel puts the interrupted registers (struct ucontext, <asm/sigcontext.h>), from the
 * stack pointer at the trampoline. */
#define CONTEXT_FP   120
#define CONTEXT_SP   160
#define CONTEXT_PC   168
#define CONTEXT_SIZE 176

/* Of a return address, the instruction before it counts: the call. */
struct walk {
    struct lw_agent_thread *thread;
    uint64_t sp, pc, fp;
    uint64_t high; /* end of the stack */
    uint64_t slot; /* where the latest step read fp, 0: it did not */
    bool exact;    /* pc is no return address */
    bool used_fp;  /* by the latest step */
    bool plain;    /* a step read what memo and merge do not follow */
};

enum step { STEP_ON, STEP_END, STEP_CUT };

static uint64_t word_at(uint64_t address)
{
    return *(const uint64_t *)address;
}

/* The last element of a sorted list that starts at or below the address. */
#define LAST_AT_OR_BELOW(items, count, field, address)                                             \
    ({                                                                                             \
        uint64_t low_ = 0, high_ = (count);                                                        \
        while (low_ < high_) {                                                                     \
            uint64_t middle_ = (low_ + high_) / 2;                                                 \
            if ((items)[middle_] field <= (address))                                               \
                low_ = middle_ + 1;                                                                \
            else                                                                                   \
                high_ = middle_;                                                                   \
        }                                                                                          \
        (int64_t) low_ - 1;                                                                        \
    })

/* Where leakwatch has seen memory that may be a stack; NULL: `sp` is in none of it. */
static const struct lw_agent_region *find_region(uint64_t sp)
{
    const struct lw_agent_region_list *regions =
        &shared->regions[__atomic_load_n(&shared->region_list, __ATOMIC_ACQUIRE) % LW_AGENT_LISTS];
    uint64_t count = regions->count < LW_AGENT_REGIONS_MAX ? regions->count : LW_AGENT_REGIONS_MAX;
    int64_t i = LAST_AT_OR_BELOW(regions->list, count, .start, sp);
    if (i >= 0 && sp < regions->list[i].end)
        return &regions->list[i];
    add_shared(&shared->region_requests, 1);
    return NULL;
}

/*
 * The end of the stack that `sp` is on, as far as is known; *start is an address below `sp` for
 * which the same holds. Nothing beyond may be read: behind the stack of a coroutine may lie a guard
 * page.
 *
 * The stack of a thread that leakwatch has yet to see ends at its thread pointer. Where that is
 * known and `sp` is not, they lie apart: `sp` is on a stack of another kind, of which a page is
 * certain.
 */
OUTLINE static uint64_t find_stack_end(const struct lw_agent_thread *thread, uint64_t sp,
                                       uint64_t *start)
{
    const struct lw_agent_region *region = find_region(sp);
    *start = region ? region->start : sp & ~(uint64_t)(PAGE - 1);
    if (region)
        return region->end;
    if (sp < thread->pointer && thread->pointer - sp < STACK_MAX && !find_region(thread->pointer))
        return thread->pointer;
    return *start + PAGE;
}

/* Of code that belongs to no module: it was made at run time, or leakwatch has yet to hear of it.
 */
#define ROW_FOREIGN 7u

static lw_row row_of_foreign(uint64_t pc)
{
    add_shared(&shared->row_requests, 1);
    return pc < LOWEST_CODE ? 0 : ROW_FOREIGN;
}

static const struct lw_agent_module *find_module(uint64_t pc)
{
    const struct lw_agent_module_list *modules =
        &shared->modules[__atomic_load_n(&shared->module_list, __ATOMIC_ACQUIRE) % LW_AGENT_LISTS];
    uint64_t count = modules->count < LW_AGENT_MODULES_MAX ? modules->count : LW_AGENT_MODULES_MAX;
    int64_t i = LAST_AT_OR_BELOW(modules->list, count, .start, pc);
    return i < 0 || pc >= modules->list[i].end ? NULL : &modules->list[i];
}

OUTLINE static lw_row find_row(uint64_t pc, uint64_t *cached)
{
    const struct lw_agent_module *module = find_module(pc);
    if (!module)
        return row_of_foreign(pc);
    const uint32_t *start = &shared->row_start[module->first];
    if (pc < module->base || module->first > LW_AGENT_ROWS - module->count)
        return 0;
    int64_t j = LAST_AT_OR_BELOW(start, module->count, , pc - module->base);
    lw_row row = j < 0 ? 0 : shared->row[module->first + (uint64_t)j];
    if (lw_row_kind(row) != LW_ROW_NONE)
        __atomic_store_n(cached, pc >> 14 << 31 | row, __ATOMIC_RELAXED);
    return row;
}

static lw_row row_at(uint64_t pc)
{
    uint64_t *cached = &shared->row_cache[(pc ^ pc >> 14) % LW_AGENT_ROW_CACHE];
    uint64_t value = __atomic_load_n(cached, __ATOMIC_RELAXED);
    return LIKELY(value >> 31 == pc >> 14) ? (lw_row)(value & 0x7fffffff) : find_row(pc, cached);
}

/* No allocator function needs so much stack, in bytes. */
#define CALL_MAX 65536u

OUTLINE bool agent_crosses_signal(const uint64_t *sp, uint64_t busy)
{
    const struct lw_agent_region *region = find_region((uint64_t)sp);
    if (!region)
        return false;
    if (busy >= region->end || busy - (uint64_t)sp > CALL_MAX)
        return true; /* that is another stack */
    for (; (uint64_t)sp < busy; sp++)
        if (find_module(*sp) && lw_row_kind(row_at(*sp)) == LW_ROW_SIGNAL)
            return true;
    return false;
}

static bool is_readable(const struct walk *walk, uint64_t address)
{
    return address >= walk->sp && address <= walk->high - 8 && address % 8 == 0;
}

/* To the frame that a signal interrupted, perhaps on another stack: one that is known, since what
 * looks like a signal's context may be something else. */
OUTLINE static enum step step_signal(struct walk *walk)
{
    walk->plain = true;
    if (walk->sp % 8 != 0 || walk->sp + CONTEXT_SIZE > walk->high)
        return STEP_CUT;
    uint64_t context = walk->sp;
    walk->sp = word_at(context + CONTEXT_SP);
    walk->fp = word_at(context + CONTEXT_FP);
    walk->pc = word_at(context + CONTEXT_PC);
    walk->exact = true;
    if (walk->sp <= context || walk->sp >= walk->high) {
        const struct lw_agent_region *region = find_region(walk->sp);
        if (!region)
            return STEP_CUT;
        walk->high = region->end;
    }
    return walk->pc < LOWEST_CODE ? STEP_CUT : STEP_ON;
}

/* The CFA of the unusual kinds; 0 when it cannot be had. */
OUTLINE static uint64_t unusual_cfa(struct walk *walk, lw_row row)
{
    walk->plain = true;
    if (lw_row_kind(row) == LW_ROW_PLT) /* the entry's push is its second instruction */
        return walk->sp + (walk->pc % 16 >= 11 ? 16 : 8);
    uint64_t address = walk->fp + lw_row_offset(row) - LW_ROW_DEREF_BIAS;
    walk->used_fp = true;
    return is_readable(walk, address) ? word_at(address) : 0;
}

/* Foreign code is taken to keep a frame pointer. It may keep anything else there, so only what is
 * known to be a stack is looked at. */
OUTLINE static enum step step_foreign(struct walk *walk)
{
    walk->used_fp = true;
    if (!is_readable(walk, walk->fp) || walk->fp + 16 > walk->high || !find_region(walk->fp))
        return STEP_CUT;
    walk->slot = walk->fp;
    walk->sp = walk->fp + 16;
    walk->pc = word_at(walk->fp + 8);
    walk->fp = word_at(walk->fp);
    walk->exact = false;
    return STEP_ON;
}

/* From a frame to its caller. */
static inline enum step step(struct walk *walk)
{
    lw_row row = row_at(walk->exact ? walk->pc : walk->pc - 1);
    enum lw_row_kind kind = lw_row_kind(row);
    uint64_t cfa;
    walk->used_fp = false;
    walk->slot = 0;
    if (LIKELY(kind == LW_ROW_SP)) {
        cfa = walk->sp + lw_row_offset(row);
    } else if (kind == LW_ROW_FP) {
        cfa = walk->fp + lw_row_offset(row);
        walk->used_fp = true;
    } else if (kind == LW_ROW_SIGNAL) {
        return step_signal(walk);
    } else if (kind == LW_ROW_DEREF || kind == LW_ROW_PLT) {
        cfa = unusual_cfa(walk, row);
    } else if (row == ROW_FOREIGN) {
        return step_foreign(walk);
    } else {
        return kind == LW_ROW_END ? STEP_END : STEP_CUT;
    }
    if (UNLIKELY(cfa < walk->sp + 8 || cfa > walk->high || cfa % 8 != 0))
        return STEP_CUT;
    uint32_t slot = lw_row_slot(row);
    if (slot) {
        walk->plain |= slot == LW_ROW_SLOT_AT_FP;
        walk->slot = slot == LW_ROW_SLOT_AT_FP ? walk->fp : cfa - 8 * slot;
        if (UNLIKELY(!is_readable(walk, walk->slot)))
            return STEP_CUT;
        walk->fp = word_at(walk->slot);
    }
    walk->sp = cfa;
    walk->pc = word_at(cfa - 8);
    walk->exact = false;
    return STEP_ON;
}

/* Whether the frames outside of last[top] are still what they were. */
static bool is_unchanged(const struct lw_agent_thread *thread, uint32_t top, uint64_t high)
{
    const struct lw_agent_frame *frames = thread->last;
    if (frames[0].sp > high)
        return false;
    /* In the order of unwinding: what one word does not confirm, the next is not read by. */
    for (uint32_t i = top; i > 0; i--) {
        const struct lw_agent_frame *inner = &frames[i], *outer = inner - 1;
        if (word_at(outer->sp - 8) != outer->pc ||
            (inner->slot && outer->live_fp && word_at(inner->slot) != outer->fp))
            return false;
    }
    return true;
}

/*
 * The number of frames of the thread's last stack, counted from the outermost, that this one has
 * too, when the walk has come to the innermost of them; else 0. Equal frames and equal words lead
 * the same way. `*next` is the innermost that was not passed yet.
 */
static inline uint32_t find_merge(const struct walk *walk, uint32_t *next, unsigned *tries)
{
    const struct lw_agent_frame *last = walk->thread->last;
    while (*next > 0 && last[*next - 1].sp < walk->sp)
        (*next)--;
    if (*next == 0 || *tries == 0)
        return 0;
    const struct lw_agent_frame *frame = &last[*next - 1];
    if (frame->sp != walk->sp || frame->pc != walk->pc || (frame->live_fp && frame->fp != walk->fp))
        return 0;
    (*tries)--;
    return is_unchanged(walk->thread, *next - 1, walk->high) ? *next : 0;
}

struct unwound {
    uint32_t fresh;  /* frames, innermost first, in the thread's `fresh` */
    uint32_t merged; /* frames of `last`, outermost first, that follow them */
    bool truncated, plain;
};

static struct walk begin(struct lw_agent_thread *thread, const struct call *call)
{
    uint64_t sp = (uint64_t)call->sp;
    if (sp < thread->low || sp >= thread->high)
        thread->high = find_stack_end(thread, sp, &thread->low);
    return (struct walk){
        .thread = thread, .sp = sp + 8, .pc = call->sp[0], .fp = call->fp, .high = thread->high};
}

static struct unwound unwind(struct walk *walk, struct lw_agent_frame *fresh, bool merge)
{
    const uint32_t limit = control->depth - 1;
    struct unwound result = {0};
    uint32_t next = merge ? walk->thread->last_depth : 0;
    unsigned tries = MERGE_TRIES;
    for (;;) {
        if ((result.merged = find_merge(walk, &next, &tries)) > 0)
            break;
        if (result.fresh == limit && walk->pc != 0) {
            result.truncated = true;
            break;
        }
        struct lw_agent_frame *frame = &fresh[result.fresh++];
        frame->sp = walk->sp;
        frame->pc = walk->exact ? walk->pc | LW_AGENT_EXACT_PC : walk->pc;
        frame->fp = walk->fp;
        if (walk->pc == 0) {
            frame->slot = frame->live_fp = 0;
            break;
        }
        enum step went = step(walk);
        frame->slot = walk->slot;
        frame->live_fp = walk->used_fp;
        if (went != STEP_ON) {
            result.truncated = went == STEP_CUT;
            break;
        }
    }
    result.plain = walk->plain;
    add(&walk->thread->frames, result.fresh);
    return result;
}

/* Brings `last` up to date: the frames that are new, on top of those that stay. */
static void push_fresh(struct lw_agent_thread *thread, const struct lw_agent_frame *fresh,
                       uint32_t count, uint32_t merged)
{
    struct lw_agent_frame *last = thread->last;
    uint64_t hash = merged ? last[merged - 1].hash : 0;
    uint32_t live = merged ? last[merged - 1].live_fp : 0;
    for (uint32_t i = 0; i < count; i++) {
        struct lw_agent_frame *to = &last[merged + i];
        *to = fresh[count - 1 - i];
        live = to->live_fp || (to->slot == 0 && live);
        to->live_fp = live;
        to->hash = hash = mix(to->pc) + GOLDEN * hash;
    }
}

/* More frames than are kept: only the innermost count, and these were not unwound in one go. */
static uint32_t cut_merged(struct lw_agent_thread *thread, uint32_t merged, uint32_t excess)
{
    struct lw_agent_frame *last = thread->last;
    uint64_t hash = 0;
    for (uint32_t i = 0; i < merged - excess; i++) {
        last[i] = last[i + excess];
        last[i].hash = hash = mix(last[i].pc) + GOLDEN * hash;
    }
    return merged - excess;
}

/* All that the memo is recognised by, but for the version: false when there is too much of it. */
static bool remember(struct lw_agent_memo *memo, const struct call *call,
                     const struct lw_agent_frame *frames, uint32_t count)
{
    uint64_t base = (uint64_t)call->sp;
    uint32_t words = 0;
    for (uint32_t i = count - 1; i > 0; i--) {
        const struct lw_agent_frame *inner = &frames[i], *outer = inner - 1;
        if (words + 2 > LW_AGENT_MEMO_WORDS - 3 || outer->sp - base > 65535 * 8)
            return false;
        memo->offset[words] = (uint16_t)((outer->sp - 8 - base) / 8);
        memo->word[words++] = outer->pc;
        if (inner->slot && outer->live_fp) {
            memo->offset[words] = (uint16_t)((inner->slot - base) / 8);
            memo->word[words++] = outer->fp;
        }
    }
    /* The return address itself fills up. */
    for (; words % 4 != 0; words++) {
        memo->offset[words] = 0;
        memo->word[words] = call->sp[0];
    }
    memo->return_address = call->sp[0];
    memo->sp = base;
    memo->fp = call->fp;
    memo->uses_fp = (uint16_t)frames[count - 1].live_fp;
    memo->site = (uint64_t)call->site;
    memo->words = (uint16_t)words;
    return true;
}

static uint32_t intern_plainly(const struct lw_agent_frame *fresh, const struct unwound *unwound,
                               const struct call *call)
{
    struct stack_key key = {.entry = call->site->entry,
                            .frames = fresh,
                            .depth = unwound->fresh,
                            .truncated = unwound->truncated};
    if (key.depth > 0 && fresh[key.depth - 1].pc == 0)
        key.depth--;
    for (uint32_t i = key.depth; i-- > 0;)
        key.hash = mix(fresh[i].pc) + GOLDEN * key.hash;
    return agent_intern(&key);
}

static uint64_t result_of(uint32_t stack, bool truncated)
{
    return stack | (truncated || stack == LW_AGENT_STACK_UNKNOWN ? AGENT_TRUNCATED : 0);
}

#ifdef LW_AGENT_CHECK
/* The checking build unwinds everything a second time, without memo and merge. */
static void check(struct lw_agent_thread *thread, const struct call *call, uint32_t stack)
{
    uint64_t again = agent_unwind_plainly(thread, call->sp, call->fp, call->site);
    if ((uint32_t)again != stack)
        add(&thread->mismatches, 1);
}
#else
#define check(thread, call, stack) ((void)0)
#endif

OUTLINE uint64_t agent_unwind(struct lw_agent_thread *thread, const uint64_t *sp, uint64_t fp,
                              const struct lw_agent_site *site, struct lw_agent_memo *memo)
{
    const struct call its = {.sp = sp, .fp = fp, .site = site}, *call = &its;
    struct walk walk = begin(thread, call);
    struct lw_agent_frame *fresh = thread->fresh[0];
    const uint32_t version = __atomic_load_n(&shared->version, __ATOMIC_ACQUIRE);
    thread->level = 0;
    memo->version = 0;
    struct unwound unwound = unwind(&walk, fresh, thread->last_version == version);
    thread->last_version = version;
    if (unwound.plain) {
        thread->last_depth = 0;
        walk = begin(thread, call);
        unwound = unwind(&walk, fresh, false);
        return intern_plainly(fresh, &unwound, call) | (unwound.truncated ? AGENT_TRUNCATED : 0);
    }
    add(&thread->merges, unwound.merged > 0);
    /* Not valid until it is whole: a signal handler may jump out of here. */
    thread->last_depth = 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    const uint32_t limit = control->depth - 1;
    uint32_t merged = unwound.merged, total = merged + unwound.fresh;
    uint32_t outermost = merged ? thread->last[0].pc == 0 : 0;
    if (merged && total - outermost > limit) {
        merged = cut_merged(thread, merged, total - limit);
        unwound.truncated = true;
        total = limit;
    }
    push_fresh(thread, fresh, unwound.fresh, merged);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread->last_depth = unwound.truncated ? 0 : total;

    const struct lw_agent_frame *frames = thread->last;
    outermost = total > 0 && frames[0].pc == 0;
    const struct stack_key key = {.hash = total ? frames[total - 1].hash : 0,
                                  .entry = call->site->entry,
                                  .frames = frames + outermost,
                                  .depth = total - outermost,
                                  .outermost_first = true,
                                  .truncated = unwound.truncated};
    uint32_t stack = agent_intern(&key);
    bool remembered = total > 0 && remember(memo, call, frames, total);
    memo->stack = stack;
    memo->counts = 0;
    memo->truncated = unwound.truncated || stack == LW_AGENT_STACK_UNKNOWN;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    memo->version = remembered ? version : 0;
    check(thread, call, stack);
    return result_of(stack, unwound.truncated);
}

OUTLINE uint64_t agent_unwind_plainly(struct lw_agent_thread *thread, const uint64_t *sp,
                                      uint64_t fp, const struct lw_agent_site *site)
{
    const struct call call = {.sp = sp, .fp = fp, .site = site};
    if (thread->level) /* a handler that interrupted a handler here */
        return LW_AGENT_STACK_UNKNOWN | AGENT_TRUNCATED;
    thread->level = 1;
    struct walk walk = begin(thread, &call);
    struct unwound unwound = unwind(&walk, thread->fresh[1], false);
    uint32_t stack = intern_plainly(thread->fresh[1], &unwound, &call);
    thread->level = 0;
    return result_of(stack, unwound.truncated);
}
