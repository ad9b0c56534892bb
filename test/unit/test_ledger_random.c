/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ledger against a naive one: random events, and every number computed anew from plain arrays.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/model/snapshot.h"

/* Addresses are few enough to meet again, and many enough that more blocks come of age at once
 * than one event works off. */
enum { ADDRESSES = 3000, STACKS = 9, TAKEN = 6, STEPS = 200000 };

struct naive {
    struct lw_block live[ADDRESSES];         /* by number of address; */
    bool is_live[ADDRESSES];                 /* when this is set */
    struct lw_stack_stats stats[STACKS + 1]; /* all but live and expired, which are computed */
    struct lw_event_counts events;
};

struct run {
    uint64_t expire_ns, now;
    struct lw_ledger *ledger;
    struct lw_stack_table *stacks;
    struct naive naive;
    struct lw_block taken[TAKEN];
    int taken_count;
};

static uint64_t address_of(unsigned number)
{
    return 0x7f1200000010 + (uint64_t)number * 32;
}

static unsigned number_of(uint64_t address)
{
    return (unsigned)((address - address_of(0)) / 32);
}

static unsigned below(unsigned limit)
{
    return (unsigned)random() % limit;
}

static bool is_expired(const struct run *run, const struct lw_block *block)
{
    return run->now - block->born_ns >= run->expire_ns;
}

static void naive_close(struct run *run, const struct lw_block *block)
{
    struct lw_stack_stats *stats = &run->naive.stats[block->stack];
    uint64_t lifetime = run->now - block->born_ns;
    stats->lifetime_min_ns =
        stats->frees && stats->lifetime_min_ns < lifetime ? stats->lifetime_min_ns : lifetime;
    stats->lifetime_max_ns = stats->lifetime_max_ns > lifetime ? stats->lifetime_max_ns : lifetime;
    stats->lifetime_sum_ns += lifetime;
    stats->frees++;
    stats->late_frees += is_expired(run, block);
}

static void step_insert(struct run *run, unsigned number)
{
    struct naive *naive = &run->naive;
    uint32_t stack = below(STACKS + 1);
    uint64_t size = below(5) == 0 ? 0 : below(100000);
    assert_int_equal(lw_ledger_insert(run->ledger, address_of(number), size, stack, run->now), 0);
    naive->events.allocs++;
    if (naive->is_live[number]) {
        naive_close(run, &naive->live[number]);
        naive->events.missed_frees++;
    }
    naive->is_live[number] = true;
    naive->live[number] = (struct lw_block){
        .address = address_of(number), .size = size, .born_ns = run->now, .stack = stack};
    naive->stats[stack].allocs++;
    naive->stats[stack].alloc_bytes += size;
}

static void step_free(struct run *run, unsigned number)
{
    struct naive *naive = &run->naive;
    bool was_live = naive->is_live[number];
    assert_int_equal(lw_ledger_free(run->ledger, address_of(number), run->now), was_live);
    if (was_live)
        naive_close(run, &naive->live[number]);
    naive->is_live[number] = false;
    naive->events.frees += was_live;
    naive->events.unknown_frees += !was_live;
}

static void check_block(const struct lw_block *block, const struct lw_block *expected)
{
    assert_int_equal(block->address, expected->address);
    assert_int_equal(block->size, expected->size);
    assert_int_equal(block->born_ns, expected->born_ns);
    assert_int_equal(block->stack, expected->stack);
}

static void step_take(struct run *run, unsigned number)
{
    struct naive *naive = &run->naive;
    if (run->taken_count == TAKEN)
        return;
    struct lw_block block;
    bool was_live = naive->is_live[number];
    assert_int_equal(lw_ledger_take(run->ledger, address_of(number), run->now, &block), was_live);
    if (!was_live)
        return;
    check_block(&block, &naive->live[number]);
    naive->is_live[number] = false;
    run->taken[run->taken_count++] = block;
}

/* Ends one of the reallocs that are under way. */
static void step_settle(struct run *run)
{
    struct naive *naive = &run->naive;
    if (run->taken_count == 0)
        return;
    int chosen = (int)below((unsigned)run->taken_count);
    struct lw_block block = run->taken[chosen];
    run->taken[chosen] = run->taken[--run->taken_count];
    unsigned number = number_of(block.address);
    if (below(2)) {
        lw_ledger_close(run->ledger, &block, run->now);
        naive_close(run, &block);
        return;
    }
    assert_int_equal(lw_ledger_put_back(run->ledger, &block, run->now), 0);
    if (naive->is_live[number]) {
        naive->events.missed_frees++;
        naive_close(run, &block);
    } else {
        naive->is_live[number] = true;
        naive->live[number] = block;
    }
}

/* The numbers of a stack that the naive ledger computes anew, and the ages that belong to them. */
static struct lw_snapshot_stack naive_stack(const struct run *run, uint32_t id)
{
    struct lw_snapshot_stack stack = {.stats = run->naive.stats[id],
                                      .expired_youngest_ns = UINT64_MAX,
                                      .live_youngest_ns = UINT64_MAX};
    for (unsigned i = 0; i < ADDRESSES; i++) {
        const struct lw_block *block = &run->naive.live[i];
        if (!run->naive.is_live[i] || block->stack != id)
            continue;
        uint64_t age = run->now - block->born_ns;
        stack.stats.live_blocks++;
        stack.stats.live_bytes += block->size;
        stack.live_youngest_ns = age < stack.live_youngest_ns ? age : stack.live_youngest_ns;
        stack.live_oldest_ns = age > stack.live_oldest_ns ? age : stack.live_oldest_ns;
        if (!is_expired(run, block))
            continue;
        stack.stats.expired_blocks++;
        stack.stats.expired_bytes += block->size;
        stack.expired_youngest_ns =
            age < stack.expired_youngest_ns ? age : stack.expired_youngest_ns;
        stack.expired_oldest_ns = age > stack.expired_oldest_ns ? age : stack.expired_oldest_ns;
    }
    if (stack.stats.live_blocks == 0)
        stack.live_youngest_ns = 0;
    if (stack.stats.expired_blocks == 0)
        stack.expired_youngest_ns = 0;
    return stack;
}

static void check_stats(const struct lw_stack_stats *stats, const struct lw_stack_stats *expected)
{
    assert_int_equal(stats->live_bytes, expected->live_bytes);
    assert_int_equal(stats->live_blocks, expected->live_blocks);
    assert_int_equal(stats->expired_bytes, expected->expired_bytes);
    assert_int_equal(stats->expired_blocks, expected->expired_blocks);
    assert_int_equal(stats->allocs, expected->allocs);
    assert_int_equal(stats->alloc_bytes, expected->alloc_bytes);
    assert_int_equal(stats->frees, expected->frees);
    assert_int_equal(stats->late_frees, expected->late_frees);
    assert_int_equal(stats->lifetime_min_ns, expected->lifetime_min_ns);
    assert_int_equal(stats->lifetime_max_ns, expected->lifetime_max_ns);
    assert_true(stats->lifetime_sum_ns == expected->lifetime_sum_ns);
}

/* The stack's blocks in the snapshot are its expired ones, each once, oldest first. */
static void check_blocks(const struct run *run, const struct lw_snapshot *snapshot,
                         const struct lw_snapshot_stack *stack)
{
    bool seen[ADDRESSES] = {false};
    assert_int_equal(stack->block_count, stack->stats.expired_blocks);
    assert_true(stack->first_block + stack->block_count <= snapshot->block_count);
    uint64_t last_age = UINT64_MAX;
    for (size_t i = 0; i < stack->block_count; i++) {
        const struct lw_snapshot_block *block = &snapshot->blocks[stack->first_block + i];
        unsigned number = number_of(block->address);
        assert_true(number < ADDRESSES && !seen[number] && run->naive.is_live[number]);
        seen[number] = true;
        const struct lw_block *expected = &run->naive.live[number];
        assert_int_equal(expected->stack, stack->stack->id);
        assert_int_equal(block->size, expected->size);
        assert_int_equal(block->age_ns, run->now - expected->born_ns);
        assert_true(block->age_ns <= last_age);
        last_age = block->age_ns;
    }
}

static void check_everything(const struct run *run)
{
    struct lw_snapshot *snapshot = lw_snapshot_create(
        run->ledger, run->stacks, run->now, &(struct lw_snapshot_request){.with_blocks = true});
    assert_non_null(snapshot);
    assert_int_equal(snapshot->taken_ns, run->now);
    assert_memory_equal(&snapshot->events, &run->naive.events, sizeof(snapshot->events));
    struct lw_ledger_totals totals = {0};
    size_t shown = 0;
    for (uint32_t id = 1; id <= STACKS; id++) {
        struct lw_snapshot_stack expected = naive_stack(run, id);
        totals.live_bytes += expected.stats.live_bytes;
        totals.live_blocks += expected.stats.live_blocks;
        totals.expired_bytes += expected.stats.expired_bytes;
        totals.expired_blocks += expected.stats.expired_blocks;
        totals.expired_stacks += expected.stats.expired_blocks > 0;
        uint64_t born_ns = run->now - expected.live_oldest_ns;
        if (expected.stats.live_blocks > 0 &&
            (totals.oldest_born_ns == 0 || born_ns < totals.oldest_born_ns))
            totals.oldest_born_ns = born_ns;
        if (expected.stats.allocs == 0)
            continue;
        assert_true(shown < snapshot->stack_count);
        const struct lw_snapshot_stack *stack = &snapshot->stacks[shown++];
        assert_int_equal(stack->stack->id, id);
        check_stats(&stack->stats, &expected.stats);
        assert_int_equal(stack->expired_youngest_ns, expected.expired_youngest_ns);
        assert_int_equal(stack->expired_oldest_ns, expected.expired_oldest_ns);
        assert_int_equal(stack->live_youngest_ns, expected.live_youngest_ns);
        assert_int_equal(stack->live_oldest_ns, expected.live_oldest_ns);
        check_blocks(run, snapshot, stack);
    }
    assert_int_equal(snapshot->stack_count, shown);
    assert_int_equal(snapshot->block_count, totals.expired_blocks);
    assert_memory_equal(&snapshot->totals, &totals, sizeof(totals));
    lw_snapshot_destroy(snapshot);
}

static void check_addresses(const struct run *run)
{
    for (unsigned i = 0; i < ADDRESSES; i++) {
        struct lw_block block;
        assert_int_equal(lw_ledger_find(run->ledger, address_of(i), &block), run->naive.is_live[i]);
        if (run->naive.is_live[i])
            check_block(&block, &run->naive.live[i]);
    }
}

/* The clock stands still often (equal ages), creeps, and sometimes leaps past the threshold. */
static void advance_clock(struct run *run)
{
    unsigned choice = below(2000);
    if (choice == 0)
        run->now += run->expire_ns / 2 + below(1000);
    else if (choice < 1000)
        run->now += below(3);
}

static void random_steps(struct run *run)
{
    for (int step = 0; step < STEPS; step++) {
        advance_clock(run);
        /* times of growth and times of shrinking */
        unsigned growth = step / 10000 % 2 ? 30 : 60, choice = below(100);
        /* few addresses in use for a while, so that the same one is met again soon */
        unsigned number = below(step / 5000 % 3 ? ADDRESSES : 40);
        if (choice < growth)
            step_insert(run, number);
        else if (choice < 86)
            step_free(run, number);
        else if (choice < 93)
            step_take(run, number);
        else
            step_settle(run);
        /* not too often: it expires all that is due, which the events must do without */
        if (below(150) == 0)
            check_everything(run);
        if (step % 2000 == 0)
            check_addresses(run);
    }
    check_everything(run);
    check_addresses(run);
}

static void run_with_threshold(uint64_t expire_ns, unsigned seed)
{
    lw_auto_free struct run *run = calloc(1, sizeof(*run));
    assert_non_null(run);
    srandom(seed);
    run->expire_ns = expire_ns;
    run->now = 1;
    run->ledger = lw_ledger_create(expire_ns);
    run->stacks = lw_stack_table_create();
    assert_non_null(run->ledger);
    assert_non_null(run->stacks);
    for (uint64_t i = 1; i <= STACKS; i++) {
        struct lw_frame frame = {.offset = i};
        assert_int_equal(lw_stack_table_intern(run->stacks, &frame, 1, false)->id, i);
    }
    random_steps(run);
    lw_ledger_destroy(run->ledger);
    lw_stack_table_destroy(run->stacks);
}

static void test_threshold_of_thousands(void **state)
{
    (void)state;
    run_with_threshold(5000, 1);
}

static void test_threshold_of_a_few(void **state)
{
    (void)state;
    run_with_threshold(7, 2);
}

static void test_threshold_of_nothing(void **state)
{
    (void)state;
    run_with_threshold(0, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threshold_of_thousands),
        cmocka_unit_test(test_threshold_of_a_few),
        cmocka_unit_test(test_threshold_of_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
