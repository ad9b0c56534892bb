/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ledger: each rule of its accounting by itself, and what a million blocks cost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/model/ledger.h"
#include "leakwatch/model/snapshot.h"
#include "leakwatch/model/stack.h"

enum { EXPIRE = 100 };

struct fixture {
    struct lw_ledger *ledger;
    struct lw_stack_table *stacks; /* of ids 1 to 3 */
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    *state = fixture;
    if (!fixture)
        return -1;
    fixture->ledger = lw_ledger_create(EXPIRE);
    fixture->stacks = lw_stack_table_create();
    if (!fixture->ledger || !fixture->stacks)
        return -1;
    for (uint64_t i = 1; i <= 3; i++) {
        struct lw_frame frame = {.offset = i};
        if (!lw_stack_table_intern(fixture->stacks, &frame, 1, false))
            return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    lw_ledger_destroy(fixture->ledger);
    lw_stack_table_destroy(fixture->stacks);
    free(fixture);
    return 0;
}

/* The stack as a snapshot shows it; all zero when it is not in it. */
static struct lw_snapshot_stack look(const struct fixture *fixture, uint32_t id, uint64_t now)
{
    struct lw_snapshot_stack found = {0};
    struct lw_snapshot *snapshot =
        lw_snapshot_create(fixture->ledger, fixture->stacks, now, &(struct lw_snapshot_request){0});
    assert_non_null(snapshot);
    for (size_t i = 0; i < snapshot->stack_count; i++) {
        if (snapshot->stacks[i].stack->id == id)
            found = snapshot->stacks[i];
    }
    lw_snapshot_destroy(snapshot);
    return found;
}

static void test_insert_and_free(void **state)
{
    struct fixture *fixture = *state;
    struct lw_ledger *ledger = fixture->ledger;
    assert_int_equal(lw_ledger_insert(ledger, 0x1000, 64, 1, 10), 0);
    assert_int_equal(lw_ledger_insert(ledger, 0x2000, 0, 1, 11), 0); /* malloc(0) is a block */
    struct lw_block block;
    assert_true(lw_ledger_find(ledger, 0x1000, &block));
    assert_int_equal(block.address, 0x1000);
    assert_int_equal(block.size, 64);
    assert_int_equal(block.born_ns, 10);
    assert_int_equal(block.stack, 1);
    assert_true(lw_ledger_find(ledger, 0x2000, NULL));
    assert_false(lw_ledger_find(ledger, 0x1001, NULL)); /* inside is not at */

    assert_true(lw_ledger_free(ledger, 0x1000, 30));
    assert_false(lw_ledger_find(ledger, 0x1000, NULL));
    assert_false(lw_ledger_free(ledger, 0x1000, 31));
    const struct lw_event_counts *events = lw_ledger_events(ledger);
    assert_int_equal(events->allocs, 2);
    assert_int_equal(events->frees, 1);
    assert_int_equal(events->unknown_frees, 1);
    assert_int_equal(events->missed_frees, 0);

    struct lw_snapshot_stack stack = look(fixture, 1, 31);
    assert_int_equal(stack.stats.allocs, 2);
    assert_int_equal(stack.stats.alloc_bytes, 64);
    assert_int_equal(stack.stats.live_blocks, 1);
    assert_int_equal(stack.stats.live_bytes, 0);
    assert_int_equal(stack.stats.frees, 1);
    assert_int_equal(stack.stats.late_frees, 0);
    assert_int_equal(stack.stats.lifetime_min_ns, 20);
    assert_int_equal(stack.stats.lifetime_max_ns, 20);
}

static void test_expiry_boundary(void **state)
{
    struct fixture *fixture = *state;
    struct lw_ledger *ledger = fixture->ledger;
    struct lw_ledger_totals totals;
    lw_ledger_insert(ledger, 0x1000, 8, 1, 50);
    lw_ledger_insert(ledger, 0x2000, 9, 1, 51);
    lw_ledger_totals(ledger, 149, &totals);
    assert_int_equal(totals.expired_blocks, 0);
    assert_int_equal(totals.oldest_born_ns, 50);
    lw_ledger_totals(ledger, 150, &totals);
    assert_int_equal(totals.expired_blocks, 1);
    assert_int_equal(totals.expired_bytes, 8);
    assert_int_equal(totals.expired_stacks, 1);
    assert_int_equal(totals.live_blocks, 2);
    assert_int_equal(totals.live_bytes, 17);
    struct lw_snapshot_stack stack = look(fixture, 1, 150);
    assert_int_equal(stack.expired_youngest_ns, 100);
    assert_int_equal(stack.expired_oldest_ns, 100);
    assert_int_equal(stack.live_youngest_ns, 99);
    assert_int_equal(stack.live_oldest_ns, 100);
    lw_ledger_free(ledger, 0x1000, 150);
    lw_ledger_free(ledger, 0x2000, 150);
    stack = look(fixture, 1, 150);
    assert_int_equal(stack.stats.frees, 2);
    assert_int_equal(stack.stats.late_frees, 1); /* the other was one ns too young */
    lw_ledger_totals(ledger, 1000, &totals);
    assert_int_equal(totals.expired_stacks, 0);
    assert_int_equal(totals.oldest_born_ns, 0);
}

/* Lateness must be exact even for blocks whose expiry is not yet worked off. */
static void test_burst_comes_of_age(void **state)
{
    struct fixture *fixture = *state;
    enum { BURST = 1000 };
    for (uint64_t i = 0; i < BURST; i++)
        lw_ledger_insert(fixture->ledger, 0x1000 + 16 * i, 1, 1, 10);
    for (uint64_t i = BURST; i-- > 0;) /* youngest first */
        lw_ledger_free(fixture->ledger, 0x1000 + 16 * i, 110);
    struct lw_snapshot_stack stack = look(fixture, 1, 110);
    assert_int_equal(stack.stats.late_frees, BURST);
    assert_int_equal(stack.stats.expired_blocks, 0);
    assert_int_equal(stack.stats.live_blocks, 0);
}

static void test_missed_free(void **state)
{
    struct fixture *fixture = *state;
    struct lw_ledger *ledger = fixture->ledger;
    lw_ledger_insert(ledger, 0x1000, 8, 1, 10);
    lw_ledger_insert(ledger, 0x1000, 16, 2, 110);
    assert_int_equal(lw_ledger_events(ledger)->missed_frees, 1);
    assert_int_equal(lw_ledger_events(ledger)->frees, 0);
    assert_int_equal(lw_ledger_events(ledger)->allocs, 2);
    struct lw_snapshot_stack first = look(fixture, 1, 110), second = look(fixture, 2, 110);
    assert_int_equal(first.stats.frees, 1);
    assert_int_equal(first.stats.late_frees, 1);
    assert_int_equal(first.stats.live_blocks, 0);
    assert_int_equal(first.stats.expired_blocks, 0);
    assert_int_equal(second.stats.live_bytes, 16);
}

static void test_no_stack(void **state)
{
    struct fixture *fixture = *state;
    struct lw_ledger *ledger = fixture->ledger;
    struct lw_ledger_totals totals;
    struct lw_block block;
    assert_int_equal(lw_ledger_insert(ledger, 0x1000, 8, LW_STACK_NONE, 10), 0);
    assert_int_equal(lw_ledger_insert(ledger, 0x2000, 8, LW_STACK_NONE, 10), 0);
    lw_ledger_totals(ledger, 1000, &totals);
    assert_int_equal(totals.live_blocks, 0);
    assert_int_equal(totals.expired_blocks, 0);
    assert_int_equal(totals.oldest_born_ns, 0);
    assert_true(lw_ledger_find(ledger, 0x1000, NULL));
    assert_true(lw_ledger_take(ledger, 0x1000, 1000, &block));
    assert_int_equal(block.stack, LW_STACK_NONE);
    assert_int_equal(lw_ledger_put_back(ledger, &block, 1000), 0);
    assert_true(lw_ledger_free(ledger, 0x1000, 1000));
    assert_true(lw_ledger_take(ledger, 0x2000, 1000, &block));
    lw_ledger_close(ledger, &block, 1000);
    assert_false(lw_ledger_free(ledger, 0x2000, 1000));
    assert_int_equal(lw_ledger_events(ledger)->allocs, 2);
    assert_int_equal(lw_ledger_events(ledger)->frees, 1);
    assert_int_equal(lw_ledger_events(ledger)->unknown_frees, 1);
}

static void test_realloc_moves(void **state)
{
    struct fixture *fixture = *state;
    struct lw_ledger *ledger = fixture->ledger;
    struct lw_block block;
    lw_ledger_insert(ledger, 0x1000, 8, 1, 10);
    assert_false(lw_ledger_take(ledger, 0x3000, 20, &block));
    assert_true(lw_ledger_take(ledger, 0x1000, 20, &block));
    assert_int_equal(look(fixture, 1, 20).stats.live_blocks, 0);
    assert_int_equal(look(fixture, 1, 20).stats.frees, 0);
    lw_ledger_insert(ledger, 0x1000, 24, 2, 25); /* in place: no missed free */
    lw_ledger_close(ledger, &block, 110);
    assert_int_equal(look(fixture, 1, 110).stats.frees, 1);
    assert_int_equal(look(fixture, 1, 110).stats.late_frees, 1); /* it lived while realloc ran */
    assert_int_equal(look(fixture, 2, 110).stats.live_bytes, 24);
    const struct lw_event_counts *events = lw_ledger_events(ledger);
    assert_int_equal(events->frees, 0);
    assert_int_equal(events->unknown_frees, 0);
    assert_int_equal(events->missed_frees, 0);
}

/* A failed realloc leaves no trace: the block is where it was in order of age. */
static void test_put_back(void **state)
{
    struct fixture *fixture = *state;
    struct lw_ledger *ledger = fixture->ledger;
    struct lw_block block, again;
    for (uint64_t i = 0; i < 5; i++)
        lw_ledger_insert(ledger, 0x1000 + i, 1u << i, 1, 10 + 10 * i); /* born 10 to 50 */
    /* young, from the middle; while it is out, one before it expires */
    assert_true(lw_ledger_take(ledger, 0x1002, 60, &block));
    assert_int_equal(lw_ledger_put_back(ledger, &block, 115), 0);
    assert_true(lw_ledger_find(ledger, 0x1002, &again));
    assert_int_equal(again.size, 4);
    assert_int_equal(again.born_ns, 30);
    assert_int_equal(again.stack, 1);
    struct lw_snapshot_stack stack = look(fixture, 1, 129);
    assert_int_equal(stack.stats.expired_bytes, 1 + 2);
    assert_int_equal(look(fixture, 1, 130).stats.expired_bytes, 1 + 2 + 4);
    /* expired, first the youngest of them, then the oldest */
    assert_true(lw_ledger_take(ledger, 0x1002, 131, &block));
    assert_int_equal(look(fixture, 1, 131).expired_youngest_ns, 131 - 20);
    assert_int_equal(lw_ledger_put_back(ledger, &block, 131), 0);
    assert_int_equal(look(fixture, 1, 131).expired_youngest_ns, 131 - 30);
    assert_true(lw_ledger_take(ledger, 0x1000, 131, &block));
    assert_int_equal(look(fixture, 1, 131).expired_oldest_ns, 131 - 20);
    assert_int_equal(lw_ledger_put_back(ledger, &block, 131), 0);
    stack = look(fixture, 1, 131);
    assert_int_equal(stack.expired_oldest_ns, 131 - 10);
    assert_int_equal(stack.expired_youngest_ns, 131 - 30);
    assert_int_equal(stack.live_youngest_ns, 131 - 50);
    /* young when taken, expired when it returns */
    assert_true(lw_ledger_take(ledger, 0x1003, 131, &block));
    assert_int_equal(lw_ledger_put_back(ledger, &block, 145), 0);
    stack = look(fixture, 1, 145);
    assert_int_equal(stack.stats.expired_blocks, 4);
    assert_int_equal(stack.expired_youngest_ns, 145 - 40);
    assert_int_equal(stack.stats.frees, 0);
    assert_int_equal(stack.stats.allocs, 5);
    assert_int_equal(lw_ledger_events(ledger)->allocs, 5);
}

static void test_put_back_on_taken_address(void **state)
{
    struct fixture *fixture = *state;
    struct lw_ledger *ledger = fixture->ledger;
    struct lw_block block;
    lw_ledger_insert(ledger, 0x1000, 8, 1, 10);
    assert_true(lw_ledger_take(ledger, 0x1000, 20, &block));
    lw_ledger_insert(ledger, 0x1000, 16, 2, 25);
    assert_int_equal(lw_ledger_put_back(ledger, &block, 30), 0);
    assert_true(lw_ledger_find(ledger, 0x1000, &block));
    assert_int_equal(block.size, 16);
    assert_int_equal(lw_ledger_events(ledger)->missed_frees, 1);
    assert_int_equal(look(fixture, 1, 30).stats.frees, 1);
}

static void test_clock_goes_backwards(void **state)
{
    struct fixture *fixture = *state;
    struct lw_ledger *ledger = fixture->ledger;
    struct lw_ledger_totals totals;
    struct lw_block block;
    lw_ledger_insert(ledger, 0x1000, 8, 1, 1000);
    lw_ledger_insert(ledger, 0x2000, 8, 1, 400);
    assert_true(lw_ledger_find(ledger, 0x2000, &block));
    assert_int_equal(block.born_ns, 1000);
    assert_true(lw_ledger_free(ledger, 0x1000, 3));
    struct lw_snapshot_stack stack = look(fixture, 1, 5);
    assert_int_equal(stack.stats.lifetime_max_ns, 0);
    assert_int_equal(stack.live_oldest_ns, 0);
    lw_ledger_totals(ledger, 0, &totals);
    assert_int_equal(totals.expired_blocks, 0);
    /* a block from the future, from a confused caller */
    block = (struct lw_block){.address = 0x3000, .size = 1, .born_ns = UINT64_MAX, .stack = 1};
    assert_int_equal(lw_ledger_put_back(ledger, &block, 1001), 0);
    lw_ledger_totals(ledger, 1099, &totals);
    assert_int_equal(totals.expired_blocks, 0);
    lw_ledger_totals(ledger, 1101, &totals);
    assert_int_equal(totals.expired_blocks, 2);
}

static void test_thresholds_at_the_ends(void **state)
{
    (void)state;
    struct lw_ledger_totals totals;
    struct lw_ledger *at_once = lw_ledger_create(0);
    lw_ledger_insert(at_once, 0x1000, 8, 1, 5);
    lw_ledger_totals(at_once, 5, &totals);
    assert_int_equal(totals.expired_blocks, 1);
    lw_ledger_destroy(at_once);
    struct lw_ledger *never = lw_ledger_create(UINT64_MAX);
    lw_ledger_insert(never, 0x1000, 8, 1, 5);
    lw_ledger_totals(never, UINT64_MAX, &totals);
    assert_int_equal(totals.expired_blocks, 0);
    lw_ledger_destroy(never);
    lw_ledger_destroy(NULL);
}

/* A sum of lifetimes that 64 bits cannot hold. */
static void test_lifetimes_add_up(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t half = UINT64_MAX / 2;
    for (uint64_t i = 0; i < 4; i++)
        lw_ledger_insert(fixture->ledger, 0x1000 + i, 1, 1, 0);
    for (uint64_t i = 0; i < 4; i++)
        lw_ledger_free(fixture->ledger, 0x1000 + i, half);
    struct lw_stack_stats stats = look(fixture, 1, half).stats;
    assert_true(stats.lifetime_sum_ns == (unsigned __int128)half * 4);
}

/* Addresses at regular distances, as allocators give them, through several growths of the index. */
/* At the limit the oldest expired one is folded, or else the oldest; totals and ages stay. */
static void test_folding(void **state)
{
    struct fixture *fixture = *state;
    struct lw_ledger *ledger = fixture->ledger;
    const struct lw_loss_counts *losses = lw_ledger_losses(ledger);
    struct lw_ledger_totals totals;
    lw_ledger_limit(ledger, 2);
    lw_ledger_insert(ledger, 0x1000, 1, 1, 10);
    lw_ledger_insert(ledger, 0x2000, 2, 1, 20);
    assert_int_equal(losses->folded_blocks, 0);
    lw_ledger_insert(ledger, 0x3000, 4, 2, 30); /* folds the first, which is young */
    assert_int_equal(losses->folded_blocks, 1);
    assert_false(lw_ledger_find(ledger, 0x1000, NULL));
    struct lw_snapshot_stack stack = look(fixture, 1, 109);
    assert_int_equal(stack.stats.live_bytes, 3);
    assert_int_equal(stack.folded_blocks, 1);
    assert_int_equal(stack.stats.expired_blocks, 0);
    assert_int_equal(stack.live_oldest_ns, 99);
    assert_int_equal(stack.live_youngest_ns, 89);
    lw_ledger_totals(ledger, 110, &totals); /* it is due */
    assert_int_equal(totals.expired_bytes, 1);
    assert_int_equal(totals.expired_stacks, 1);
    assert_int_equal(totals.oldest_born_ns, 10);
    lw_ledger_insert(ledger, 0x4000, 8, 2, 125); /* folds the second, which is expired */
    assert_int_equal(losses->folded_blocks, 2);
    stack = look(fixture, 1, 126);
    assert_int_equal(stack.stats.expired_bytes, 3);
    assert_int_equal(stack.expired_oldest_ns, 116);
    assert_int_equal(stack.expired_youngest_ns, 106);

    assert_false(lw_ledger_free(ledger, 0x2000, 127));
    assert_int_equal(lw_ledger_events(ledger)->unknown_frees, 1);
    assert_true(lw_ledger_free(ledger, 0x3000, 128));
    assert_true(lw_ledger_free(ledger, 0x4000, 128));
    lw_ledger_totals(ledger, 129, &totals);
    assert_int_equal(totals.live_blocks, 2);
    assert_int_equal(totals.live_bytes, 3);
    struct lw_snapshot *snapshot = lw_snapshot_create(
        ledger, fixture->stacks, 129, &(struct lw_snapshot_request){.with_blocks = true});
    assert_int_equal(snapshot->block_count, 0); /* none is known one by one */
    lw_snapshot_destroy(snapshot);
}

/* What belongs to no stack is not worth folding another for. */
static void test_folding_and_no_stack(void **state)
{
    struct fixture *fixture = *state;
    struct lw_ledger *ledger = fixture->ledger;
    lw_ledger_limit(ledger, 2);
    lw_ledger_insert(ledger, 0x1000, 1, LW_STACK_NONE, 10);
    lw_ledger_insert(ledger, 0x2000, 2, 1, 20);
    lw_ledger_insert(ledger, 0x3000, 4, LW_STACK_NONE, 30);
    assert_int_equal(lw_ledger_losses(ledger)->folded_blocks, 1);
    assert_true(lw_ledger_find(ledger, 0x2000, NULL));
    assert_true(lw_ledger_free(ledger, 0x2000, 31));
    lw_ledger_insert(ledger, 0x4000, 4, LW_STACK_NONE, 32);
    lw_ledger_insert(ledger, 0x5000, 4, 1, 33); /* and there is nothing to fold */
    assert_int_equal(lw_ledger_losses(ledger)->dropped_blocks, 1);
    assert_int_equal(lw_ledger_events(ledger)->allocs, 5);
}

static void test_million_blocks_memory(void **state)
{
    (void)state;
    enum { BLOCKS = 1000000, LIMIT = 70 * 1000 * 1000 };
    struct lw_ledger *ledger = lw_ledger_create(EXPIRE);
    struct mallinfo2 before = mallinfo2();
    for (uint64_t i = 0; i < BLOCKS; i++)
        assert_int_equal(lw_ledger_insert(ledger, 0x7f0000000000 + i * 48, 40, 1 + i % 500, i), 0);
    struct mallinfo2 after = mallinfo2();
    /* The arena, not what is in use of it: what fragmentation costs counts. AddressSanitizer's
     * allocator says nothing here, so there this can fail only in the other build. */
    size_t used = after.arena + after.hblkhd - before.arena - before.hblkhd;
    if (used > LIMIT)
        fail_msg("a million blocks took %zu bytes", used);
    struct lw_ledger_totals totals;
    lw_ledger_totals(ledger, BLOCKS, &totals);
    assert_int_equal(totals.live_blocks, BLOCKS);
    assert_int_equal(totals.expired_blocks, BLOCKS - EXPIRE + 1);
    for (uint64_t i = 0; i < BLOCKS; i++)
        assert_true(lw_ledger_free(ledger, 0x7f0000000000 + i * 48, BLOCKS));
    /* what was given back is used again */
    for (uint64_t i = 0; i < BLOCKS; i++)
        lw_ledger_insert(ledger, 0x550000000000 + i * 32, 40, 1 + i % 500, 2 * BLOCKS);
    struct mallinfo2 again = mallinfo2();
    assert_true(again.arena + again.hblkhd <= after.arena + after.hblkhd + (1u << 20));
    lw_ledger_destroy(ledger);
}

#define LEDGER_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LEDGER_TEST(test_insert_and_free),
        LEDGER_TEST(test_expiry_boundary),
        LEDGER_TEST(test_burst_comes_of_age),
        LEDGER_TEST(test_missed_free),
        LEDGER_TEST(test_no_stack),
        LEDGER_TEST(test_realloc_moves),
        LEDGER_TEST(test_put_back),
        LEDGER_TEST(test_put_back_on_taken_address),
        LEDGER_TEST(test_clock_goes_backwards),
        LEDGER_TEST(test_lifetimes_add_up),
        LEDGER_TEST(test_folding),
        LEDGER_TEST(test_folding_and_no_stack),
        cmocka_unit_test(test_thresholds_at_the_ends),
        cmocka_unit_test(test_million_blocks_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
