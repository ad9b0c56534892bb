/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's parts: what they share. */
#ifndef LEAKWATCH_AGENT_PARTS_H
#define LEAKWATCH_AGENT_PARTS_H

#include <stdbool.h>
#include <stddef.h>

#include "leakwatch/agent/agent.h"

/*
 * This code runs in the target, on the target's threads, in the middle of its allocator calls. It
 * calls nothing of the target's, takes no lock, makes no system call (but for one when the linker
 * has loaded a library), allocates nothing, and uses little stack: coroutines and signal handlers
 * may have no more than a few hundred bytes. It may be interrupted anywhere by a signal handler
 * that allocates.
 */
#define INLINE      static inline __attribute__((always_inline))
#define OUTLINE     __attribute__((noinline, cold))
#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#pragma GCC visibility push(hidden)

/* Both lie at fixed distances from the code (agent.lds). */
extern struct lw_agent_control agent_control;
extern struct lw_agent_private agent_private;
extern struct lw_agent_shared agent_shared;
#define control (&agent_control)
#define shared  (&agent_shared)

/* The caller's side of a wrapped call. */
struct call {
    const uint64_t *sp; /* at the return address */
    uint64_t fp;
    const struct lw_agent_site *site;
};

/* One instruction, so that a signal handler that counts the same comes before or after it. */
INLINE void add(uint64_t *counter, uint64_t value)
{
    __asm__("addq %1, %0" : "+m"(*counter) : "er"(value));
}

/* For counters that threads share. */
INLINE uint32_t add_shared(uint32_t *counter, uint32_t value)
{
    return __atomic_fetch_add(counter, value, __ATOMIC_RELAXED);
}

#define GOLDEN LW_AGENT_GOLDEN
/* 2^32 / the golden ratio, rounded to a prime (Knuth, The Art of Computer Programming, 6.4): the
 * highest of the product's 32 bits are the hash. */
#define AGENT_SMALL_HASH 0x9e3779b1

/* A thread's place among the recent ones; enter_malloc_sampled (entries.c) computes the same. */
INLINE uint32_t recent_place(uint64_t pointer)
{
    return (uint32_t)pointer * AGENT_SMALL_HASH >> 26;
}

INLINE uint64_t mix(uint64_t x)
{
    x *= GOLDEN;
    return x ^ (x >> 32);
}

/* thread.c: the place of the thread with this thread pointer; NULL: there is none left. */
struct lw_agent_thread *agent_register(uint64_t pointer);
void agent_heartbeat(struct lw_agent_thread *thread);

/* sample.c: bytes until the next sample, and how many allocations one of this size stands for, in
 * 1/256. */
void agent_draw(struct lw_agent_thread *thread);
uint64_t agent_weight(uint64_t size, uint32_t rate);

/* ledger.c */
struct replaced {
    uint64_t key, value;
};
bool agent_insert_slow(uint64_t key, uint64_t value, struct replaced *replaced);
uint64_t agent_take_slow(uint64_t address, uint64_t *key);
void agent_keep_giant(struct lw_agent_thread *thread, uint64_t address, uint64_t size);
/* The size of a giant, which is forgotten with `clear`. */
uint64_t agent_giant_size(uint64_t address, bool clear);

/* unwind.c: the number of the call's stack, with AGENT_TRUNCATED when it was cut; *memo remembers
 * how it was found. (The call is given in registers, which a hot path is spared storing.) */
#define AGENT_TRUNCATED (1ull << 32)
uint64_t agent_unwind(struct lw_agent_thread *thread, const uint64_t *sp, uint64_t fp,
                      const struct lw_agent_site *site, struct lw_agent_memo *memo);
/* The same from a signal handler that interrupted a wrapper: leaves what that was doing alone. */
uint64_t agent_unwind_plainly(struct lw_agent_thread *thread, const uint64_t *sp, uint64_t fp,
                              const struct lw_agent_site *site);

/* Whether a signal handler runs between here and `busy`, as far as is known. */
bool agent_crosses_signal(const uint64_t *sp, uint64_t busy);

/* modules.c: called before and after libraries come or go. */
void modules_changed(void);

/* stacks.c: the number of the stack with these frames, given outermost first or last. */
struct stack_key {
    uint64_t hash; /* of the frames */
    uint64_t entry;
    const struct lw_agent_frame *frames;
    uint32_t depth;
    bool outermost_first;
    bool truncated;
};
uint32_t agent_intern(const struct stack_key *key);
/* The block of the thread's counts for stacks index * LW_AGENT_COUNTS and following. */
uint32_t agent_counts_block(struct lw_agent_thread *thread, uint32_t index);

/* Where the search for a thread begins in the index. */
INLINE struct lw_agent_index *index_of(uint64_t pointer)
{
    return &shared->thread_index[pointer * GOLDEN >> 51];
}

/* The thread that calls. */
INLINE uint64_t thread_pointer(void)
{
    uint64_t pointer; /* at fs:0 by the x86-64 psABI (TLS variant II) */
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
    return pointer;
}

#pragma GCC visibility pop

#endif
