/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Folding the oldest blocks of a full ledger: which, how they count from then on, and that each is
 * either folded or freed while the agent writes. */
#include "shared_memory.h"

#include <pthread.h>

#include "leakwatch/base/clock.h"

#define HEAP 0x560000000000ull
#define LAST 1u     /* generation */
#define MANY 42000u /* blocks: it is more than three quarters full of them */

static uint64_t address_of(uint64_t block)
{
    return HEAP + block * 48;
}

static void put_blocks(uint32_t first, uint32_t count, uint32_t age, uint32_t stack)
{
    struct lw_agent_thread *thread = agent_thread(0);
    for (uint32_t i = first; i < first + count; i++)
        agent_alloc(thread, address_of(i), 10, NOW_TICK - age, stack);
}

static void fold(void)
{
    view.fold.tried_ns = 0;
    assert_int_equal(record_fold_when_full(&view, memory, LAST), 0);
}

static void test_the_oldest_go(void **state)
{
    (void)state;
    const uint32_t old = agent_stack(0x1000, 0x2000), young = agent_stack(0x1000, 0x3000);
    put_blocks(0, MANY / 3, 60, old);
    put_blocks(MANY / 3, MANY / 3, 50, old);
    put_blocks(MANY / 3 * 2, MANY / 3, 30, young);
    fold();
    struct lw_snapshot *snapshot = snap(true);
    assert_int_equal(snapshot->losses.folded_blocks, MANY / 3 * 2);
    assert_int_equal(snapshot->totals.live_blocks, MANY);
    assert_int_equal(snapshot->totals.expired_bytes, MANY * 10);
    assert_int_equal(snapshot->totals.expired_stacks, 2);
    assert_int_equal(snapshot->totals.oldest_born_ns, START + (NOW_TICK - 60) * TICK);
    assert_int_equal(snapshot->stacks[0].stats.live_blocks, MANY / 3 * 2);
    assert_int_equal(snapshot->stacks[0].folded_blocks, MANY / 3 * 2);
    assert_int_equal(snapshot->stacks[1].folded_blocks, 0);
    assert_int_equal(snapshot->stacks[0].block_count, 0);
    assert_int_equal(snapshot->stacks[0].expired_youngest_ns, 50 * TICK);
    assert_int_equal(snapshot->stacks[0].expired_oldest_ns, 60 * TICK);
    assert_int_equal(snapshot->stacks[1].block_count, MANY / 3);
    assert_int_equal(snapshot->block_count, MANY / 3);
    lw_snapshot_destroy(snapshot);
    assert_int_equal(agent_free(address_of(0)), 0);
    assert_int_not_equal(agent_free(address_of(MANY - 1)), 0);
}

static void test_only_a_full_ledger(void **state)
{
    (void)state;
    put_blocks(0, MANY / 3, 60, agent_stack(0x1000, 0x2000));
    fold();
    assert_int_equal(view.fold.blocks, 0);
    put_blocks(MANY / 3, MANY / 3 * 2, 60, agent_stack(0x1000, 0x2000));
    fold();
    assert_int_equal(view.fold.blocks, MANY);
}

/* They may be freed without a look at who else takes them. */
static void test_what_is_young_stays(void **state)
{
    (void)state;
    put_blocks(0, MANY, 10, agent_stack(0x1000, 0x2000));
    fold();
    assert_int_equal(view.fold.blocks, 0);
    assert_int_not_equal(agent_free(address_of(0)), 0);
}

static void test_they_expire_with_the_youngest(void **state)
{
    (void)state;
    options.expire_ns = 90 * TICK;
    put_blocks(0, MANY / 2, 60, agent_stack(0x1000, 0x2000));
    put_blocks(MANY / 2, MANY / 2, 50, agent_stack(0x1000, 0x2000));
    fold();
    const uint64_t folded = view.fold.blocks;
    assert_true(folded >= MANY / 2);
    struct lw_snapshot *snapshot = snap(false);
    assert_int_equal(snapshot->totals.live_blocks, MANY);
    assert_int_equal(snapshot->totals.expired_blocks, 0);
    assert_int_equal(snapshot->stacks[0].live_oldest_ns, 60 * TICK);
    lw_snapshot_destroy(snapshot);
    memory->tick += 40;
    snapshot = record_view_snapshot(&view, NOW + 40 * TICK, &(struct lw_snapshot_request){0});
    assert_int_equal(snapshot->totals.expired_blocks, MANY);
    assert_int_equal(snapshot->stacks[0].expired_oldest_ns, 100 * TICK);
    assert_int_equal(snapshot->stacks[0].expired_youngest_ns, 90 * TICK);
    lw_snapshot_destroy(snapshot);
}

static void test_a_leak_that_is_folded_before_it_expires(void **state)
{
    (void)state;
    const uint32_t stack = agent_stack(0x1000, 0x2000);
    options.expire_ns = 90 * TICK;
    for (uint32_t time = 0; time < 400; time += 40) {
        put_blocks(0, MANY, 30 - time, stack); /* of the ticks that have passed */
        memory->tick = NOW_TICK + time;
        fold();
        assert_int_equal(view.fold.blocks, (time / 40 + 1) * MANY);
        struct lw_snapshot *snapshot =
            record_view_snapshot(&view, NOW + time * TICK, &(struct lw_snapshot_request){0});
        assert_int_equal(snapshot->totals.live_blocks, (time / 40 + 1) * MANY);
        /* those from 80 ticks ago: their age is 110 */
        assert_int_equal(snapshot->totals.expired_blocks, time < 80 ? 0 : (time / 40 - 1) * MANY);
        lw_snapshot_destroy(snapshot);
    }
}

/* Those of no stack are not kept; a giant's size is elsewhere, so it stays. */
static void test_no_stack_and_giants(void **state)
{
    (void)state;
    put_blocks(0, MANY, 60, LW_AGENT_STACK_NONE);
    agent_alloc(agent_thread(0), HEAP - 4096, 5ull << 30, NOW_TICK - 60,
                agent_stack(0x1000, 0x2000));
    fold();
    struct lw_snapshot *snapshot = snap(false);
    assert_int_equal(snapshot->losses.folded_blocks, MANY);
    assert_int_equal(snapshot->totals.live_blocks, 1);
    assert_int_equal(snapshot->totals.live_bytes, 5ull << 30);
    lw_snapshot_destroy(snapshot);
    assert_int_not_equal(agent_free(HEAP - 4096), 0);
}

/* A failed realloc is about to put it back. */
static void test_an_incomplete_record_stays(void **state)
{
    (void)state;
    put_blocks(0, MANY, 60, agent_stack(0x1000, 0x2000));
    struct lw_agent_record *record = memory->ledger[lw_agent_first_bucket(LAST)];
    while (record->key == 0)
        record++;
    const uint64_t key = record->key;
    record->value = 0;
    fold();
    assert_int_equal(view.fold.blocks, MANY - 1);
    assert_int_equal(record->key, key);
}

/* ---- while the agent writes ---- */

#define THREADS 3u
#define OWN     20000u /* blocks of a thread */
#define HOT     8u
#define FOLDED  400000u
#define LIMIT   (20 * LW_NS_PER_SECOND)

static _Atomic uint64_t put_count, free_count;
static _Atomic bool finished;
static uint32_t some_stack;

/* Blocks are this thread's alone; records are everybody's. */
static void *free_and_put(void *argument)
{
    const uint64_t number = (uint64_t)(uintptr_t)argument;
    static bool held[THREADS][OWN];
    uint64_t random = 99 + number;
    while (!finished) {
        /* Some of them again and again: those are about to be freed when they are folded. */
        const uint64_t own = (next_random(&random) >> 8) % (random % 4 ? HOT : OWN);
        const uint64_t address = address_of(own * THREADS + number);
        struct replaced replaced;
        if (held[number][own])
            free_count += agent_free(address) != 0;
        else
            put_count += insert(lw_agent_record_key(address, NOW_TICK - 60),
                                lw_agent_record_value(10, NOW_TICK - 60, 0, some_stack), &replaced);
        held[number][own] = !held[number][own];
    }
    return NULL;
}

static void test_while_the_agent_writes(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    some_stack = agent_stack(0x1000, 0x2000);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, free_and_put, (void *)i), 0);
    const uint64_t start = lw_clock_now();
    while (view.fold.blocks < FOLDED && lw_clock_now() - start < LIMIT)
        fold();
    finished = true;
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    struct lw_snapshot *snapshot = snap(false);
    assert_true(view.fold.blocks >= FOLDED);
    assert_int_equal(snapshot->totals.live_blocks, put_count - free_count);
    assert_int_equal(snapshot->totals.live_bytes, (put_count - free_count) * 10);
    lw_snapshot_destroy(snapshot);
}

static int set_up_limit(void **state)
{
    const int result = set_up(state);
    agent_limits.barred_generations = LW_AGENT_GENERATIONS - 1 - LAST;
    return result;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_limit, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_the_oldest_go),          TEST(test_only_a_full_ledger),
        TEST(test_what_is_young_stays),    TEST(test_they_expire_with_the_youngest),
        TEST(test_no_stack_and_giants),    TEST(test_an_incomplete_record_stays),
        TEST(test_while_the_agent_writes), TEST(test_a_leak_that_is_folded_before_it_expires),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
