/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the agent, which runs in the target, and leakwatch have in common: the memory they share. */
#ifndef LEAKWATCH_AGENT_AGENT_H
#define LEAKWATCH_AGENT_AGENT_H

#include <stdint.h>

#include "leakwatch/unwind/row.h"

/*
 * The target maps one span:
 *
 *     base                        the agent's code, private, read and execute
 *     base + LW_AGENT_CONTROL     the control page, private; a forked child's is wiped, which
 *                                 switches the agent off there
 *     base + LW_AGENT_PRIVATE     what the agent keeps for itself when it samples, likewise
 *     base + LW_AGENT_SHARED      the shared memory, not inherited by children
 *
 * and, within reach of a jump from each watched module, a landing: private, read and execute, with
 * the gates and what leads from the patched entries to the agent.
 *
 * Shared memory is a sparse file: tables are as large as they may ever become, and what is not used
 * is never touched. Who writes what is said at each part; a word is written whole, so no reader
 * sees half of one. The agent takes no lock: where threads compete, one atomic instruction decides.
 */
#define LW_AGENT_CODE_MAX 0x10000u
#define LW_AGENT_CONTROL  0x10000u
#define LW_AGENT_PRIVATE  0x11000u
#define LW_AGENT_END      0x22000u /* of what is the target's own */
#define LW_AGENT_SHARED   0x200000u
#define LW_AGENT_MAGIC    0x746e65676177656cull /* "lewagent" */

/* ---- the blob ------------------------------------------------------------------------------ */

/* How the agent stands in for a function, by where its arguments are. */
enum lw_agent_wrapper {
    LW_AGENT_MALLOC,       /* (size) */
    LW_AGENT_CALLOC,       /* (count, size) */
    LW_AGENT_ALIGNED,      /* (alignment, size) */
    LW_AGENT_SIZED,        /* (size, more): operator new that does not throw */
    LW_AGENT_NEW,          /* (size) and (size, alignment): operator new, which may throw */
    LW_AGENT_STORE,        /* (pointer, alignment, size): posix_memalign */
    LW_AGENT_REALLOC,      /* (block, size) */
    LW_AGENT_REALLOCARRAY, /* (block, count, size) */
    LW_AGENT_FREE,         /* (block, ...) */
    LW_AGENT_MODULES,      /* (): the dynamic linker's _dl_debug_state */
    LW_AGENT_WRAPPERS
};

/* The blob begins with this. */
struct lw_agent_head {
    uint32_t recorded[LW_AGENT_WRAPPERS]; /* offsets from base: for LW_AGENT_EXACT */
    uint32_t sampled[LW_AGENT_WRAPPERS];  /* for LW_AGENT_SAMPLED */
};

/* One watched function; lies in its module's landing. The agent gets its address in r11. */
struct lw_agent_site {
    uint64_t gate;
    uint64_t wrapper; /* address in the agent */
    uint64_t entry;   /* the function itself: the innermost frame of its stacks */
    uint64_t nothrow; /* LW_AGENT_NEW: the gate of the same operator that does not throw */
    uint64_t aligned; /* LW_AGENT_NEW: not 0 when it takes an alignment */
    uint64_t nests;   /* LW_AGENT_NEW: not 0 when it calls another watched function */
};

/* ---- control page: written by leakwatch, read by the agent --------------------------------- */

/* Which of the wrappers are used is settled when they are patched in; this switches them on. */
enum lw_agent_mode {
    LW_AGENT_OFF, /* a jump to the gate and nothing else */
    LW_AGENT_EXACT,
    LW_AGENT_SAMPLED,
};

#define LW_AGENT_RANGES 16

struct lw_agent_control {
    uint32_t mode;
    uint32_t depth;        /* frames kept of a stack, the function's own among them */
    uint32_t expire_ticks; /* freed at this age or later: a late free */
    uint32_t tid_offset; /* where a thread's id is, from its thread pointer; 0: not known, and what
                            is there (a part of the thread pointer) is taken for it */
    uint64_t min_size, max_size;
    uint64_t lapse_ns;           /* without a tick: leakwatch is gone */
    uint64_t clock;              /* the clock_gettime of the vdso, or 0 */
    uint64_t linker_state;       /* address of the dynamic linker's r_debug.r_state, or 0 */
    uint64_t new_handler;        /* address of what std::set_new_handler sets, or 0 */
    uint32_t barred_generations; /* of the ledger: so many of the last are not to be used */
    uint32_t range_count;
    uint64_t barred_words; /* of stacks, likewise */
    /* the agent, and modules with allocator functions: what they call inside a watched function is
     * nested; [start, end) */
    uint64_t ranges[LW_AGENT_RANGES][2];
};

/* ---- the agent's own, when it samples ------------------------------------------------------- */

#define LW_AGENT_RECENT (1u << 6)
#define LW_AGENT_FILTER (1u << 16)

struct lw_agent_thread;

/* In a forked child all of this is zero, so that nothing is found here, and what happens then asks
 * the control page. */
struct lw_agent_private {
    /* threads that called of late, by a hash of the thread pointer */
    uint64_t recent_pointer[LW_AGENT_RECENT];
    struct lw_agent_thread *recent_thread[LW_AGENT_RECENT];
    uint8_t filter[LW_AGENT_FILTER]; /* live samples by a hash of their address; 255 sticks */
};

/* ---- shared memory -------------------------------------------------------------------------- */

#define LW_AGENT_TICK_NS 20000000ull

/*
 * The ledger. A record is two words, four records a bucket of one cache line. An address has two
 * buckets in each generation, which is twice as large as the one before. What finds both full in
 * the newest goes to the next one, and when that has happened often enough, that one is the newest.
 * What finds the last one full goes to an older one. A block is looked for from the newest but one
 * generation down to the oldest.
 *
 *     word 0: address / 8 (44 bits), tick (low 20 bits); 0: free
 *     word 1: size + 1 (30), tick (high 10 bits), rate (4), stack (20); 0: not complete
 *
 * Word 0 is claimed first, word 1 written after, and both are cleared in the opposite order. What
 * is old may be taken out by leakwatch too, at the limit of memory: whoever changes word 0 to
 * LW_AGENT_TAKEN by compare-and-exchange has the record, and clears it.
 */
#define LW_AGENT_TAKEN       1ull
#define LW_AGENT_BUCKETS_LOG 12 /* of generation 0 */
#define LW_AGENT_GENERATIONS 13
#define LW_AGENT_BUCKETS                                                                           \
    ((1ull << (LW_AGENT_BUCKETS_LOG + LW_AGENT_GENERATIONS)) - (1ull << LW_AGENT_BUCKETS_LOG))
#define LW_AGENT_BUCKET_RECORDS 4
#define LW_AGENT_BUCKET_BYTES   (LW_AGENT_BUCKET_RECORDS * sizeof(struct lw_agent_record))
#define LW_AGENT_TICK_LOW_BITS  20
#define LW_AGENT_TICK_BITS      30
#define LW_AGENT_TICK_MASK      ((1u << LW_AGENT_TICK_BITS) - 1)
#define LW_AGENT_SIZE_GIANT     ((1u << 30) - 1) /* size + 1 that does not fit: see `giants` */
#define LW_AGENT_STACK_BITS     20
#define LW_AGENT_STACKS         (1u << LW_AGENT_STACK_BITS)
#define LW_AGENT_RATES          16

struct lw_agent_record {
    uint64_t key, value;
};

static inline uint64_t lw_agent_record_key(uint64_t address, uint32_t tick)
{
    return address >> 3 << LW_AGENT_TICK_LOW_BITS | (tick & ((1u << LW_AGENT_TICK_LOW_BITS) - 1));
}

/* The parts of a tick that are put into a record's two words: the value's above the key's. */
static inline uint64_t lw_agent_clock(uint32_t tick)
{
    return (tick & ((1u << LW_AGENT_TICK_LOW_BITS) - 1)) |
           (uint64_t)(tick >> LW_AGENT_TICK_LOW_BITS & 0x3ff) << (32 + 24);
}

static inline uint64_t lw_agent_record_address(uint64_t key)
{
    return key >> LW_AGENT_TICK_LOW_BITS << 3;
}

static inline uint64_t lw_agent_record_value(uint64_t size, uint32_t tick, uint32_t rate,
                                             uint32_t stack)
{
    uint64_t stored = size < LW_AGENT_SIZE_GIANT - 1 ? size + 1 : LW_AGENT_SIZE_GIANT;
    return stored << 34 | (uint64_t)(tick >> LW_AGENT_TICK_LOW_BITS & 0x3ff) << 24 |
           (uint64_t)rate << LW_AGENT_STACK_BITS | stack;
}

static inline uint32_t lw_agent_record_tick(uint64_t key, uint64_t value)
{
    return (uint32_t)(key & ((1u << LW_AGENT_TICK_LOW_BITS) - 1)) | (uint32_t)(value >> 24 & 0x3ff)
                                                                        << LW_AGENT_TICK_LOW_BITS;
}

static inline uint32_t lw_agent_record_stack(uint64_t value)
{
    return (uint32_t)value & (LW_AGENT_STACKS - 1);
}

static inline uint32_t lw_agent_record_rate(uint64_t value)
{
    return (uint32_t)(value >> LW_AGENT_STACK_BITS) & (LW_AGENT_RATES - 1);
}

/* size + 1, or LW_AGENT_SIZE_GIANT */
static inline uint32_t lw_agent_record_stored_size(uint64_t value)
{
    return (uint32_t)(value >> 34);
}

/* Fibonacci hashing (Knuth, TAOCP 3, 6.4): the golden ratio's bits. */
#define LW_AGENT_GOLDEN 0x9e3779b97f4a7c15ull

/* The buckets of an address in a generation. Any two are as good as each other: neighbouring blocks
 * are spread, since what is dense in the heap would be too dense here. */
static inline uint64_t lw_agent_first_bucket(uint32_t generation)
{
    return ((1ull << generation) - 1) << LW_AGENT_BUCKETS_LOG;
}

static inline uint64_t lw_agent_near_bucket(uint64_t address, uint32_t generation)
{
    return lw_agent_first_bucket(generation) +
           ((address >> 4) * LW_AGENT_GOLDEN >> (64 - LW_AGENT_BUCKETS_LOG - generation));
}

/* The second choice (an odd constant of xxHash's, unrelated to the first). */
static inline uint64_t lw_agent_far_bucket(uint64_t address, uint32_t generation)
{
    return lw_agent_first_bucket(generation) +
           ((address >> 4) * 0xc2b2ae3d27d4eb4full >> (64 - LW_AGENT_BUCKETS_LOG - generation));
}

/* Blocks of a gigabyte and more: their sizes. address 0: free. */
#define LW_AGENT_GIANTS 4096
struct lw_agent_giant {
    uint64_t address, size;
};

/*
 * Stacks. Numbers are given in the order of first use, from 1; 0 is "none" (a block outside the
 * sizes that are watched). A stack's words are its frames, innermost first: program counters, with
 * LW_AGENT_EXACT_PC set where it is no return address.
 */
#define LW_AGENT_STACK_NONE    0u
#define LW_AGENT_STACK_UNKNOWN 1u /* no room for another stack: no frames, truncated */
#define LW_AGENT_FIRST_STACK   2u
#define LW_AGENT_EXACT_PC      (1ull << 63)
#define LW_AGENT_STACK_WORDS   (1ull << 27)
#define LW_AGENT_DEPTH_MAX     1024

struct lw_agent_stack {
    uint64_t hash;
    uint32_t first; /* word */
    uint16_t depth; /* written last: 0 until the rest is there */
    uint16_t truncated;
    uint32_t epoch; /* of the address space: counts libraries being closed */
    uint32_t reserved;
};

/* Hash -> stack: levels of open addressing, each eight times as large as the one before. A word is
 * the hash's upper 44 bits and the stack's number. */
#define LW_AGENT_INDEX_LEVELS 4
#define LW_AGENT_INDEX_LOG    12 /* of level 0, words */
#define LW_AGENT_INDEX_PROBES 8
#define LW_AGENT_INDEX_WORDS  ((1u << 12) + (1u << 15) + (1u << 18) + (1u << 21))

/* Counts of one thread for one stack. They only grow, and stay when the thread's place is given to
 * another thread, so that the sum over all places is right. */
struct lw_agent_counts {
    uint64_t allocs, alloc_bytes;        /* sampled: weighted, allocs in 1/256 */
    uint64_t frees, late_frees;          /* likewise in 1/256 */
    uint64_t lifetime_ticks;             /* sum over frees */
    uint32_t lifetime_min, lifetime_max; /* ticks, min + 1; valid when frees is not 0 */
    uint64_t reserved[2];                /* one cache line each */
};

/* A thread's counts come in blocks of neighbouring stacks, which are handed out when first used. */
#define LW_AGENT_COUNTS_LOG   5
#define LW_AGENT_COUNTS       (1u << LW_AGENT_COUNTS_LOG)
#define LW_AGENT_COUNT_BLOCKS (1u << 20)
#define LW_AGENT_DIRECTORY    (LW_AGENT_STACKS >> LW_AGENT_COUNTS_LOG)

/*
 * The memo: a stack that was unwound before, with every word of the stack that its unwinding read.
 * Where all of them still hold the same, unwinding again would do the same, step by step.
 */
#define LW_AGENT_MEMO_WORDS 100
#define LW_AGENT_MEMO_SETS  64
#define LW_AGENT_MEMO_WAYS  4

struct lw_agent_memo {
    uint64_t return_address, sp, fp, site;
    uint32_t version; /* of the rows; 0: empty */
    uint32_t stack;
    uint16_t words;   /* a multiple of 4 */
    uint16_t uses_fp; /* the unwinding depends on the frame pointer at the call */
    uint16_t truncated;
    uint16_t reserved;
    uint64_t
        counts; /* of the thread for this stack: byte offset in the shared memory, 0: unknown */
    uint16_t offset[LW_AGENT_MEMO_WORDS]; /* from sp, in words */
    uint64_t word[LW_AGENT_MEMO_WORDS];
};

/* One frame of an unwound stack. */
struct lw_agent_frame {
    uint64_t sp, pc, fp; /* as the frame has them */
    uint64_t slot;       /* where its caller's frame pointer was read, 0: not read */
    uint64_t hash;       /* of this frame and all outer ones */
    uint32_t live_fp;    /* fp matters to the unwinding of the outer frames */
    uint32_t reserved;
};

struct lw_agent_thread {
    /* the thread that has this place; `used` is taken by the agent, given back by leakwatch */
    uint32_t used;
    uint32_t tid; /* changed by compare-and-exchange; LW_AGENT_TID_GONE: leakwatch takes it back */
    uint64_t pointer; /* thread pointer */
    uint64_t calls;
    uint64_t busy;        /* stack pointer of the wrapper under way, 0: none */
    uint64_t busy_return; /* the return address there */
    uint32_t level;       /* recordings under way: 2 in a signal handler that interrupted one */
    uint32_t heartbeat_tick;
    uint64_t heartbeat_ns;
    uint64_t released;     /* the block that the latest free was of */
    uint64_t low, high;    /* the stack it runs on, as far as known */
    int64_t countdown;     /* sampled: bytes until the next sample */
    uint32_t rate, unused; /* at which that was drawn */
    uint64_t random;
    /* counts of events; allocs and frees are in the counts of stacks */
    uint64_t reallocs, failed_allocs, unknown_frees, missed_frees;
    uint64_t dropped_blocks, truncated_stacks;
    /* for measurements and tests */
    uint64_t memo_hits, memo_misses, merges, frames, mismatches;
    uint32_t last_depth;                    /* frames of `last`, outermost first; 0: none */
    uint32_t last_version;                  /* of the rows that led to them */
    uint32_t directory[LW_AGENT_DIRECTORY]; /* stack / LW_AGENT_COUNTS -> block of counts */
    struct lw_agent_frame last[LW_AGENT_DEPTH_MAX];
    struct lw_agent_frame fresh[2][LW_AGENT_DEPTH_MAX]; /* by level */
    struct lw_agent_memo memo[LW_AGENT_MEMO_SETS][LW_AGENT_MEMO_WAYS];
};

#define LW_AGENT_TID_GONE     UINT32_MAX
#define LW_AGENT_THREADS      2048
#define LW_AGENT_THREAD_INDEX 8192
/* Thread pointer -> place. `pointer` is claimed first; `place` is the byte offset of the thread's
 * place in the shared memory, 0 until it has one. */
struct lw_agent_index {
    uint64_t pointer; /* or one of these: */
    uint64_t place;
};
#define LW_AGENT_INDEX_FREE 0ull
#define LW_AGENT_INDEX_GONE 1ull

/* A module's rows: row_start[first .. first + count) are its addresses less `base`. */
struct lw_agent_module {
    uint64_t start, end, base;
    uint32_t first, count;
};
struct lw_agent_region {
    uint64_t start, end;
};
#define LW_AGENT_MODULES_MAX 16384
#define LW_AGENT_REGIONS_MAX 16384
/* Lists are published in turn in so many places: a reader that is held up for so many changes may
 * see a wrong one, and then at worst a wrong stack. */
#define LW_AGENT_LISTS     8
#define LW_AGENT_ROWS      (1u << 26)
#define LW_AGENT_ROW_CACHE (1u << 14)
#define LW_AGENT_WEIGHTS   4096

/* Threads that find the last room for a stack at once still have some. */
#define LW_AGENT_SPARE_WORDS ((uint64_t)LW_AGENT_THREADS * LW_AGENT_DEPTH_MAX)

struct lw_agent_module_list {
    uint64_t count;
    struct lw_agent_module list[LW_AGENT_MODULES_MAX]; /* by start */
};
struct lw_agent_region_list {
    uint64_t count;
    struct lw_agent_region list[LW_AGENT_REGIONS_MAX]; /* by start */
};

struct lw_agent_shared {
    /* written by leakwatch */
    uint64_t magic;
    uint32_t tick;    /* the clock: LW_AGENT_TICK_NS each, since the watch began, from 1 */
    uint32_t rate;    /* sampled: which of the means below is to be used */
    uint32_t version; /* of the rows and lists: raised with every change; by the agent too */
    uint32_t module_list, region_list;    /* which of the lists is valid */
    uint32_t modules_seen;                /* of module_events: dealt with up to here */
    uint64_t clock;                       /* the same tick as records have it, see lw_agent_clock */
    uint64_t sample_mean[LW_AGENT_RATES]; /* bytes between samples, not 0 */
    /* written by the agent; on lines of their own */
    _Alignas(64) uint64_t geometry; /* of the newest generation: first bucket << 8 | generation */
    uint32_t overflows[LW_AGENT_GENERATIONS]; /* blocks that found the generation full */
    uint32_t newest;                          /* generation of the ledger */
    uint32_t next_stack;                      /* number, less LW_AGENT_FIRST_STACK */
    uint32_t next_block;                      /* of counts, less 1 */
    uint32_t lapsed;                          /* the agent has switched itself off */
    uint64_t next_word;
    uint32_t thread_count;       /* places that were ever used */
    _Alignas(64) uint32_t epoch; /* libraries that were being closed */
    uint32_t module_events;      /* calls of the dynamic linker's _dl_debug_state */
    uint32_t row_requests;       /* program counters in no module: leakwatch should look */
    uint32_t region_requests;    /* stacks in no region */
    uint32_t no_stack;           /* stacks that found no room */
    uint32_t no_thread;          /* calls of threads that found no place */

    _Alignas(64) struct lw_agent_index thread_index[LW_AGENT_THREAD_INDEX];
    uint64_t row_cache[LW_AGENT_ROW_CACHE]; /* program counter / 2^14 << 31 | row */
    uint32_t
        weight[LW_AGENT_WEIGHTS]; /* sampled: 1 / probability in 1/256, by size in mean / 256 */
    struct lw_agent_giant giants[LW_AGENT_GIANTS];
    uint64_t stack_index[LW_AGENT_INDEX_WORDS];
    struct lw_agent_stack stacks[LW_AGENT_STACKS];
    uint64_t stack_words[LW_AGENT_STACK_WORDS];
    struct lw_agent_counts counts[LW_AGENT_COUNT_BLOCKS][LW_AGENT_COUNTS];
    struct lw_agent_module_list modules[LW_AGENT_LISTS];
    struct lw_agent_region_list regions[LW_AGENT_LISTS];
    uint32_t row_start[LW_AGENT_ROWS];
    lw_row row[LW_AGENT_ROWS];
    struct lw_agent_thread threads[LW_AGENT_THREADS];
    _Alignas(64) struct lw_agent_record ledger[LW_AGENT_BUCKETS][LW_AGENT_BUCKET_RECORDS];
};

/* All that is mapped from base on. */
#define LW_AGENT_SPAN (LW_AGENT_SHARED + sizeof(struct lw_agent_shared))

#endif
