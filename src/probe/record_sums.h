/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sums of blocks, each weighted by how many it stands for. */
#ifndef LEAKWATCH_PROBE_RECORD_SUMS_H
#define LEAKWATCH_PROBE_RECORD_SUMS_H

#include <stdint.h>

/* Doubles hold whole numbers exactly as far as bytes can go. */
struct record_sums {
    double blocks, bytes, variance;
    uint32_t youngest, oldest; /* ages, ticks; valid when blocks is not 0 */
};

static inline void record_sums_add(struct record_sums *sums, const struct record_sums *more)
{
    if (more->blocks == 0)
        return;
    if (sums->blocks == 0 || more->youngest < sums->youngest)
        sums->youngest = more->youngest;
    if (sums->blocks == 0 || more->oldest > sums->oldest)
        sums->oldest = more->oldest;
    sums->blocks += more->blocks;
    sums->bytes += more->bytes;
    sums->variance += more->variance;
}

/* A block that is seen with this chance. The estimator is Horvitz and Thompson's. */
static inline void record_sums_add_block(struct record_sums *sums, uint64_t size, uint32_t age,
                                         double chance)
{
    const struct record_sums block = {
        .blocks = 1 / chance,
        .bytes = (double)size / chance,
        .variance = (double)size * (double)size * (1 - chance) / (chance * chance),
        .youngest = age,
        .oldest = age,
    };
    record_sums_add(sums, &block);
}

#endif
