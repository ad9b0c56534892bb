/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sampling by bytes: gaps are exponential, and weights are the inverse of the chances. */
#include "agent_under_test.h"

#include <math.h>

#undef shared
#undef control
#include "../../src/probe/record.h"

#define DRAWS 2000000

/* The table of weights and the means, as leakwatch writes them. */
static void start_sampling(uint64_t mean)
{
    static struct record_engine record;
    record = (struct record_engine){.shared = agent_memory};
    record.engine.options.sample_bytes = mean;
    record_sampling_start(&record);
}

static void assert_near(double found, double expected, double part)
{
    if (!(fabs(found - expected) <= part * expected))
        fail_msg("%.9g is not within %g of %.9g", found, part, expected);
}

static void test_gaps(void **state)
{
    (void)state;
    static const uint64_t means[] = {64, 4096, 512 << 10, 1ull << 40};
    struct lw_agent_thread *thread = &agent_memory->threads[0];
    for (unsigned i = 0; i < sizeof(means) / sizeof(means[0]); i++) {
        double sum = 0, squares = 0, mean = (double)means[i];
        uint32_t beyond[4] = {0}; /* gaps of more than so many means */
        start_sampling(means[i]);
        thread->random = 88172645463325252ull;
        for (uint32_t j = 0; j < DRAWS; j++) {
            agent_draw(thread);
            double gap = (double)thread->countdown / mean;
            assert_true(gap >= 0);
            sum += gap;
            squares += gap * gap;
            for (unsigned k = 0; k < 4; k++)
                beyond[k] += gap > k + 1;
        }
        /* where a gap is some bytes only, half a byte is cut off it */
        assert_near(sum / DRAWS, 1 - 0.5 / mean, 0.01);
        assert_near(squares / DRAWS - sum / DRAWS * sum / DRAWS, 1, 0.02);
        for (unsigned k = 0; k < 4; k++)
            assert_near((double)beyond[k] / DRAWS, exp(-(double)(k + 1)), 0.05);
    }
}

static void test_weights(void **state)
{
    (void)state;
    static const uint64_t means[] = {4096, 65536, 512 << 10, 1ull << 31};
    for (unsigned i = 0; i < sizeof(means) / sizeof(means[0]); i++) {
        start_sampling(means[i]);
        for (uint64_t size = 1; size < means[i] * 40; size += 1 + size / 200) {
            double chance = -expm1(-(double)size / (double)means[i]);
            assert_near((double)agent_weight(size, 0) / 256, 1 / chance, 0.01);
        }
        assert_int_equal(agent_weight(UINT64_MAX / 2, 0), 256);
        assert_int_equal(agent_weight(0, 0), 0); /* no byte of it can be met */
    }
}

/* What is drawn and what is weighed fit together: bytes are estimated right. */
static void test_estimates(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {8, 24, 100, 700, 4000, 30000};
    struct lw_agent_thread *thread = &agent_memory->threads[0];
    start_sampling(4096);
    thread->random = 0x123456789abcdefull;
    agent_draw(thread);
    double estimated = 0;
    uint64_t bytes = 0, samples = 0;
    for (uint32_t i = 0; i < 3000000; i++) {
        uint64_t size = sizes[i % 6];
        bytes += size;
        if ((thread->countdown -= (int64_t)size) >= 0)
            continue;
        estimated += (double)agent_weight(size, thread->rate) / 256 * (double)size;
        samples++;
        agent_draw(thread);
    }
    assert_true(samples > 500000);
    assert_near(estimated, (double)bytes, 0.005);
}

static void test_rates(void **state)
{
    (void)state;
    struct lw_agent_thread *thread = &agent_memory->threads[0];
    start_sampling(4096);
    thread->random = 1;
    agent_draw(thread);
    assert_int_equal(thread->rate, 0);
    agent_memory->rate = 3;
    agent_draw(thread);
    assert_int_equal(thread->rate, 3);
    assert_int_equal(agent_memory->sample_mean[3], 8 * 4096);
    assert_near((double)agent_weight(100, 3) / 256, 8 * 4096 / 100.0, 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        agent_test(test_gaps),
        agent_test(test_weights),
        agent_test(test_estimates),
        agent_test(test_rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
