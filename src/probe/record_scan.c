/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading the ledger that the agent writes at the same time. */
#include "record_scan.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "leakwatch/arch/page.h"

#define BUCKET_SIZE   sizeof(((struct lw_agent_shared *)0)->ledger[0])
#define LEDGER        offsetof(struct lw_agent_shared, ledger)
#define LEDGER_END    (LEDGER + LW_AGENT_BUCKETS * BUCKET_SIZE)
#define LEDGER_PAGE   (LEDGER / LW_PAGE_SIZE)
#define LEDGER_PAGES  ((LEDGER_END + LW_PAGE_SIZE - 1) / LW_PAGE_SIZE - LEDGER_PAGE)
#define ADDRESS_LIMIT (1ull << 47)

_Static_assert(LEDGER % BUCKET_SIZE == 0, "no bucket lies on two pages");

/* The clock may move on during a scan: so many ticks ahead of ours still mean an age of 0. */
#define TICKS_AHEAD 256

struct scan {
    int fd;
    const struct lw_agent_shared *shared;
    uint32_t tick;
    record_visit_block *visit;
    void *context;
    uint64_t missed;
    uint64_t *exists; /* a bit for each page of the ledger */
    uint32_t newest;  /* generation of which there is a page */
    /* A bit, by hash of the address, for each block met so far: newer generations come first, so
     * most blocks of older ones need not be looked for in them. NULL: only one generation. */
    uint64_t *met;
    unsigned met_log; /* of its bits */
};

bool record_next_extent(int fd, uint64_t from, uint64_t limit, struct record_extent *extent)
{
    if (from >= limit)
        return false;
    off_t start = lseek(fd, (off_t)from, SEEK_DATA); /* ENXIO: no more */
    if (start < 0 || (uint64_t)start >= limit)
        return false;
    off_t end = lseek(fd, start, SEEK_HOLE);
    if (end <= start)
        return false; /* the hole has come about in between: the target does not do that */
    extent->start = (uint64_t)start;
    extent->end = (uint64_t)end < limit ? (uint64_t)end : limit;
    return true;
}

static uint64_t page_of(uint64_t bucket)
{
    return (LEDGER + bucket * BUCKET_SIZE) / LW_PAGE_SIZE - LEDGER_PAGE;
}

static bool page_exists(const struct scan *scan, uint64_t page)
{
    return scan->exists[page / 64] >> page % 64 & 1;
}

static uint32_t generation_of(uint64_t bucket)
{
    return 63 - (uint32_t)__builtin_clzll((bucket >> LW_AGENT_BUCKETS_LOG) + 1);
}

/* Finds the ledger's pages; how many there are. */
static uint64_t find_pages(struct scan *scan)
{
    uint64_t count = 0;
    struct record_extent extent = {.end = LEDGER};
    while (record_next_extent(scan->fd, extent.end, LEDGER_END, &extent)) {
        uint64_t first = extent.start / LW_PAGE_SIZE - LEDGER_PAGE;
        uint64_t last = (extent.end - 1) / LW_PAGE_SIZE - LEDGER_PAGE;
        for (uint64_t page = first; page <= last; page++)
            scan->exists[page / 64] |= 1ull << page % 64;
        count += last - first + 1;
        scan->newest = generation_of((extent.end - 1 - LEDGER) / BUCKET_SIZE);
    }
    return count;
}

/* Neighbours' bits are neighbours, in the order of the ledger's buckets: going through a generation
 * is going through this. */
static uint64_t met_index(const struct scan *scan, uint64_t address)
{
    uint64_t page = (address >> 12) * LW_AGENT_GOLDEN;
    return page >> (64 - (scan->met_log - 8)) << 8 | ((address >> 4 ^ page >> 32) & 255);
}

static bool may_have_met(const struct scan *scan, uint64_t address)
{
    uint64_t index = met_index(scan, address);
    return scan->met[index / 64] >> index % 64 & 1;
}

static void meet(struct scan *scan, uint64_t address)
{
    uint64_t index = met_index(scan, address);
    scan->met[index / 64] |= 1ull << index % 64;
}

static bool is_of(const struct lw_agent_record *record, uint64_t address)
{
    uint64_t key = __atomic_load_n(&record->key, __ATOMIC_ACQUIRE);
    return key >> LW_AGENT_TICK_LOW_BITS == address >> 3 &&
           __atomic_load_n(&record->value, __ATOMIC_ACQUIRE) != 0;
}

static bool is_in_bucket(const struct scan *scan, uint64_t bucket, uint64_t address)
{
    if (!page_exists(scan, page_of(bucket)))
        return false;
    for (unsigned i = 0; i < LW_AGENT_BUCKET_RECORDS; i++)
        if (is_of(&scan->shared->ledger[bucket][i], address))
            return true;
    return false;
}

/* The agent puts a block into its own record of the near bucket without looking elsewhere, and
 * otherwise looks in the newest generation alone. */
static bool is_superseded(const struct scan *scan, const struct lw_agent_record *record,
                          uint64_t address, uint32_t generation)
{
    uint64_t near = lw_agent_near_bucket(address, generation);
    const struct lw_agent_record *own =
        &scan->shared->ledger[near][address >> 5 & (LW_AGENT_BUCKET_RECORDS - 1)];
    if (own != record && page_exists(scan, page_of(near)) && is_of(own, address))
        return true;
    if (generation == scan->newest || !may_have_met(scan, address))
        return false;
    for (uint32_t newer = generation + 1; newer <= scan->newest; newer++)
        if (is_in_bucket(scan, lw_agent_near_bucket(address, newer), address) ||
            is_in_bucket(scan, lw_agent_far_bucket(address, newer), address))
            return true;
    return false;
}

/* Where there was no room for it, the least that it can be; the agent has counted that. */
static uint64_t giant_size(const struct scan *scan, uint64_t address)
{
    const uint64_t least = LW_AGENT_SIZE_GIANT - 1;
    const uint64_t start = offsetof(struct lw_agent_shared, giants);
    const uint64_t limit = start + sizeof(scan->shared->giants);
    struct record_extent extent = {.end = start};
    while (record_next_extent(scan->fd, extent.end, limit, &extent)) {
        /* No giant lies on two pages, since the first is at a multiple of its size. */
        uint64_t last = (extent.end - start) / sizeof(struct lw_agent_giant);
        for (uint64_t i = (extent.start - start) / sizeof(struct lw_agent_giant); i < last; i++) {
            const struct lw_agent_giant *giant = &scan->shared->giants[i];
            if (__atomic_load_n(&giant->address, __ATOMIC_ACQUIRE) != address)
                continue;
            uint64_t size = __atomic_load_n(&giant->size, __ATOMIC_RELAXED);
            return size < least || size > ADDRESS_LIMIT ? least : size;
        }
    }
    return least;
}

_Static_assert(offsetof(struct lw_agent_shared, giants) % sizeof(struct lw_agent_giant) == 0,
               "no giant lies on two pages");

static uint32_t age_of(const struct scan *scan, uint64_t key, uint64_t value)
{
    uint32_t age = (scan->tick - lw_agent_record_tick(key, value)) & LW_AGENT_TICK_MASK;
    return age > LW_AGENT_TICK_MASK - TICKS_AHEAD ? 0 : age;
}

static void scan_record(struct scan *scan, const struct lw_agent_record *record,
                        uint32_t generation)
{
    uint64_t key = __atomic_load_n(&record->key, __ATOMIC_ACQUIRE);
    const uint64_t address = lw_agent_record_address(key);
    if (address == 0) /* free, or LW_AGENT_TAKEN */
        return;
    uint64_t value = __atomic_load_n(&record->value, __ATOMIC_ACQUIRE);
    uint32_t stored_size = lw_agent_record_stored_size(value);
    /* The value belongs to the key where that is still there. */
    if (stored_size == 0 || __atomic_load_n(&record->key, __ATOMIC_ACQUIRE) != key)
        return;
    if (is_superseded(scan, record, address, generation)) {
        /* Unless it was freed just now, and the other is a block that came after. */
        if (__atomic_load_n(&record->key, __ATOMIC_ACQUIRE) == key &&
            __atomic_load_n(&record->value, __ATOMIC_ACQUIRE) == value)
            scan->missed++;
        return;
    }
    if (scan->met)
        meet(scan, address);
    const struct record_block block = {
        .address = address,
        .size = stored_size == LW_AGENT_SIZE_GIANT ? giant_size(scan, address) : stored_size - 1,
        .age = age_of(scan, key, value),
        .rate = lw_agent_record_rate(value),
        .stack = lw_agent_record_stack(value),
        .record = record,
        .generation = generation,
    };
    scan->visit(scan->context, &block);
}

static void scan_buckets(struct scan *scan, uint64_t bucket, uint64_t end, uint32_t generation)
{
    for (; bucket < end; bucket++)
        for (unsigned i = 0; i < LW_AGENT_BUCKET_RECORDS; i++)
            scan_record(scan, &scan->shared->ledger[bucket][i], generation);
}

static void scan_generation(struct scan *scan, uint32_t generation)
{
    const uint64_t end = lw_agent_first_bucket(generation + 1);
    uint64_t bucket = lw_agent_first_bucket(generation);
    while (bucket < end) {
        uint64_t page = page_of(bucket);
        uint64_t next = ((page + 1 + LEDGER_PAGE) * LW_PAGE_SIZE - LEDGER) / BUCKET_SIZE;
        uint64_t stop = next < end ? next : end;
        if (page_exists(scan, page))
            scan_buckets(scan, bucket, stop, generation);
        bucket = stop;
    }
}

/* Eight bits for each record that there may be: few of them meet. */
static int make_met(struct scan *scan, uint64_t pages)
{
    uint64_t bits = pages * (LW_PAGE_SIZE / sizeof(struct lw_agent_record)) * 8;
    scan->met_log = 15;
    while (scan->met_log < 27 && 1ull << scan->met_log < bits)
        scan->met_log++;
    scan->met = calloc(1, (1ull << scan->met_log) / 8);
    return scan->met ? 0 : -ENOMEM;
}

int record_scan_blocks(int fd, const struct lw_agent_shared *shared, uint32_t tick,
                       record_visit_block *visit, void *context, uint64_t *missed)
{
    struct scan scan = {
        .fd = fd, .shared = shared, .tick = tick, .visit = visit, .context = context};
    scan.exists = calloc(LEDGER_PAGES / 64 + 1, sizeof(*scan.exists));
    int result = scan.exists ? 0 : -ENOMEM;
    if (result == 0) {
        uint64_t pages = find_pages(&scan);
        if (scan.newest > 0)
            result = make_met(&scan, pages);
        for (uint32_t left = result == 0 && pages > 0 ? scan.newest + 1 : 0; left > 0; left--)
            scan_generation(&scan, left - 1);
    }
    free(scan.met);
    free(scan.exists);
    *missed += scan.missed;
    return result;
}
