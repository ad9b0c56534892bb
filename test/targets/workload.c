/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Random allocator calls of one thread, with a plan of leaks that is known to the byte. */
#include "workload.h"

#include "target.h"

static uint64_t next_random(struct workload *workload)
{
    uint64_t x = workload->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return workload->random = x;
}

/* Mostly small, now and then zero, or large enough for the allocator to use mmap. */
static size_t random_size(struct workload *workload)
{
    uint64_t r = next_random(workload);
    if (r % 199 == 0)
        return 0;
    if (r % 997 == 0)
        return 150000 + (r >> 32) % 100000;
    return 1 + (r >> 32) % 2000;
}

static void fill(struct slot *slot)
{
    for (size_t i = 0; i < slot->size; i++)
        slot->block[i] = (unsigned char)(slot->tag + i);
}

static bool intact(const unsigned char *block, size_t size, unsigned char tag)
{
    for (size_t i = 0; i < size; i++)
        if (block[i] != (unsigned char)(tag + i))
            return false;
    return true;
}

static void seed_random(struct workload *workload, uint64_t seed)
{
    workload->random = seed * 0x9e3779b97f4a7c15u + 1;
}

void workload_init(struct workload *workload, uint64_t seed)
{
    memset(workload, 0, sizeof *workload);
    seed_random(workload, seed);
}

WATCHED static void *churn_malloc(size_t size)
{
    void *block = malloc(size);
    KEEP(block);
    return block;
}

WATCHED static void *churn_calloc(size_t size)
{
    void *block = calloc(size % 2 == 0 ? 2 : 1, size % 2 == 0 ? size / 2 : size);
    KEEP(block);
    return block;
}

WATCHED static void *churn_memalign(size_t size)
{
    void *block = NULL;
    if (posix_memalign(&block, (size_t)16 << size % 4, size) != 0)
        _exit(98);
    KEEP(block);
    return block;
}

WATCHED static void *churn_realloc(void *block, size_t size)
{
    void *moved = realloc(block, size);
    KEEP(moved);
    return moved;
}

WATCHED static void churn_free(void *block)
{
    free(block);
    STAY();
}

static void hash_word(struct workload *workload, uint64_t word)
{
    workload->hash = (workload->hash ^ word) * 0x100000001b3u;
}

static void hash_slot(struct workload *workload, const struct slot *slot)
{
    uint64_t word;
    hash_word(workload, slot->size);
    for (size_t i = 0; i + sizeof word <= slot->size; i += sizeof word) {
        memcpy(&word, slot->block + i, sizeof word);
        hash_word(workload, word);
    }
}

static void check(struct workload *workload, const struct slot *slot)
{
    hash_slot(workload, slot);
    if (!intact(slot->block, slot->size, slot->tag))
        workload->corrupt++;
}

static void take_slot(struct workload *workload, struct slot *slot)
{
    uint64_t r = next_random(workload);
    slot->size = random_size(workload);
    slot->tag = (unsigned char)(r >> 8);
    switch (r % 3) {
    case 0:
        slot->block = churn_malloc(slot->size);
        break;
    case 1:
        slot->block = churn_calloc(slot->size);
        for (size_t i = 0; slot->block && i < slot->size; i++)
            workload->corrupt += slot->block[i] != 0;
        break;
    default:
        slot->block = churn_memalign(slot->size);
    }
    if (slot->block == NULL)
        _exit(98);
    fill(slot);
}

static void resize_slot(struct workload *workload, struct slot *slot)
{
    size_t size = random_size(workload);
    unsigned char *block = churn_realloc(slot->block, size);
    /* realloc(p, 0) frees in glibc and gives a block of no bytes elsewhere. */
    if (block && !intact(block, slot->size < size ? slot->size : size, slot->tag))
        workload->corrupt++;
    slot->block = block;
    slot->size = size;
    if (block)
        fill(slot);
}

static void release_slot(struct workload *workload, struct slot *slot)
{
    check(workload, slot);
    churn_free(slot->block);
    slot->block = NULL;
}

WATCHED static void *leak_malloc(size_t size)
{
    void *block = malloc(size);
    KEEP(block);
    return block;
}

WATCHED static void *leak_calloc(size_t size)
{
    void *block = calloc(1, size);
    KEEP(block);
    return block;
}

WATCHED static void *leak_realloc(void *block, size_t size)
{
    void *moved = realloc(block, size);
    KEEP(moved);
    return moved;
}

WATCHED static void *leak_memalign(size_t size)
{
    void *block = NULL;
    if (posix_memalign(&block, 64, size) != 0)
        _exit(98);
    KEEP(block);
    return block;
}

static void leak(struct workload *workload, enum leak_kind kind)
{
    size_t size = 1 + next_random(workload) % 500;
    void *block = NULL;
    switch (kind) {
    case LEAK_MALLOC:
        block = leak_malloc(size);
        break;
    case LEAK_CALLOC:
        block = leak_calloc(size);
        break;
    case LEAK_REALLOC:
        block = leak_realloc(churn_malloc(size / 2 + 1), size);
        break;
    case LEAK_MEMALIGN:
    default:
        block = leak_memalign(size);
    }
    if (block == NULL)
        _exit(98);
    memset(block, 0x5a, size);
    workload->leaks[kind].bytes += size;
    workload->leaks[kind].blocks++;
}

WATCHED static void work(struct workload *workload)
{
    size_t count = sizeof workload->slots / sizeof workload->slots[0];
    struct slot *slot = &workload->slots[next_random(workload) % count];
    if (slot->block == NULL)
        take_slot(workload, slot);
    else if (next_random(workload) % 3 == 0)
        resize_slot(workload, slot);
    else
        release_slot(workload, slot);
}

void workload_run(struct workload *workload, uint64_t operations, uint64_t leak_every)
{
    for (uint64_t i = 0; i < operations; i++) {
        if (leak_every != 0 && i % leak_every == 0)
            leak(workload, (enum leak_kind)(i / leak_every % LEAK_KINDS));
        else
            work(workload);
        /* read by the thread that talks to the test */
        __atomic_store_n(&workload->operations, workload->operations + 1, __ATOMIC_RELAXED);
    }
}

void workload_drain(struct workload *workload)
{
    size_t count = sizeof workload->slots / sizeof workload->slots[0];
    for (size_t i = 0; i < count; i++)
        if (workload->slots[i].block)
            release_slot(workload, &workload->slots[i]);
}

void workload_run_round(struct workload *workload, uint64_t seed, uint64_t operations)
{
    seed_random(workload, seed);
    workload->hash = 0;
    workload_run(workload, operations, 0);
    workload_drain(workload);
}

void workload_add(struct tally sum[LEAK_KINDS], const struct workload *workload)
{
    for (int kind = 0; kind < LEAK_KINDS; kind++) {
        sum[kind].bytes += workload->leaks[kind].bytes;
        sum[kind].blocks += workload->leaks[kind].blocks;
    }
}

void workload_say(const struct tally leaks[LEAK_KINDS], uint64_t corrupt)
{
    static const char *const names[LEAK_KINDS] = {"leak_malloc", "leak_calloc", "leak_realloc",
                                                  "leak_memalign"};
    char text[1024] = "";
    size_t used = 0;
    for (int kind = 0; kind < LEAK_KINDS; kind++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%s\"%s\":{\"bytes\":%lu,\"blocks\":%lu}", kind ? "," : "",
                                 names[kind], leaks[kind].bytes, leaks[kind].blocks);
    say("{\"leaks\":{%s},\"corrupt\":%lu}", text, corrupt);
}
