/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Random allocator calls of one thread, with a plan of leaks that is known to the byte. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <stddef.h>
#include <stdint.h>

enum leak_kind { LEAK_MALLOC, LEAK_CALLOC, LEAK_REALLOC, LEAK_MEMALIGN, LEAK_KINDS };

struct tally {
    uint64_t bytes, blocks;
};

/* Every block carries a pattern made from its tag, which is checked before the block goes, so that
 * a target harmed by being watched finds out. */
struct slot {
    unsigned char *block;
    size_t size;
    unsigned char tag;
};

struct workload {
    uint64_t random;
    struct slot slots[48];
    struct tally leaks[LEAK_KINDS];
    uint64_t operations;
    uint64_t corrupt; /* blocks that did not hold what was written */
    uint64_t hash;    /* of the order, sizes and contents of the blocks given back */
};

void workload_init(struct workload *workload, uint64_t seed);
/* `operations` random calls; every 50th leaks when leak_every is 50, none when it is 0. */
void workload_run(struct workload *workload, uint64_t operations, uint64_t leak_every);
/* Frees every block that is not leaked. */
void workload_drain(struct workload *workload);

/* From no block to no block, so many random calls from a seed on: with the same hash at the end
 * each time. */
void workload_run_round(struct workload *workload, uint64_t seed, uint64_t operations);

void workload_add(struct tally sum[LEAK_KINDS], const struct workload *workload);
/* Prints {"leaks":{"leak_malloc":{"bytes":N,"blocks":N},...},"corrupt":N}. */
void workload_say(const struct tally leaks[LEAK_KINDS], uint64_t corrupt);

#endif
