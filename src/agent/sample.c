/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sampling by bytes: the gaps between samples are exponential, as between the events of a Poisson
 * process, so that a block's chance depends on its size alone. Integers only: the floating-point
 * registers are the target's. */
#include "agent.h"

/* xorshift64 (Marsaglia, 2003), shifts 13, 7, 17 */
static uint64_t random_bits(struct lw_agent_thread *thread)
{
    uint64_t x = thread->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return thread->random = x;
}

/* -log2(x / 2^53) in 1/65536, for x in 1 .. 2^53. Between powers of two, log2(1 + f) is f + c f (1
 * - f) with c = 0.3431, which is off by less than 0.01. */
static uint64_t negative_log2(uint64_t x)
{
    unsigned exponent = 63 - (unsigned)__builtin_clzll(x);
    uint64_t fraction = exponent == 0 ? 0 : x << (64 - exponent) >> 48;
    uint64_t log = fraction + (22485 * (fraction * (65536 - fraction) >> 16) >> 16);
    return ((uint64_t)(53 - exponent) << 16) - log;
}

OUTLINE void agent_draw(struct lw_agent_thread *thread)
{
    uint32_t rate = __atomic_load_n(&shared->rate, __ATOMIC_RELAXED) % LW_AGENT_RATES;
    uint64_t mean = shared->sample_mean[rate];
    uint64_t log = negative_log2(random_bits(thread) >> 11 | 1);
    thread->rate = rate;
    /* ln 2 = 45426 / 65536 */
    thread->countdown = (int64_t)(((unsigned __int128)mean * log * 45426) >> 32);
}

/* The inverse of the probability that the block is sampled, 1 - exp(-x) where x = size / mean.
 * Below 1, the series of that, 1/x + 1/2 + x/12, is off by less than 0.2%; above, the table's steps
 * are that small. */
OUTLINE uint64_t agent_weight(uint64_t size, uint32_t rate)
{
    uint64_t mean = shared->sample_mean[rate];
    if (size == 0)
        return 0; /* cannot be sampled */
    if (size < mean)
        return mean * 256 / size + 128 + size * 64 / (mean * 3);
    return size < mean * 16 ? shared->weight[size * 256 / mean] : 256;
}
