/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The snapshot: what it shows, that it never changes, and every allocation of the model failing
 * once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "leakwatch/model/snapshot.h"

/* The modules under test are compiled into this program with allocators of which one call fails:
 * the one after so many others. */
static long calls_until_failure = -1; /* -1: none fails */

static bool may_allocate(void)
{
    return calls_until_failure < 0 || calls_until_failure-- > 0;
}

static void *test_malloc_(size_t size)
{
    return may_allocate() ? malloc(size) : NULL;
}

static void *test_calloc_(size_t count, size_t size)
{
    return may_allocate() ? calloc(count, size) : NULL;
}

static void *test_realloc_(void *pointer, size_t size)
{
    return may_allocate() ? realloc(pointer, size) : NULL;
}

#define malloc  test_malloc_
#define calloc  test_calloc_
#define realloc test_realloc_
/* clang-format off: one needs what is above it */
#include "../../src/base/vector.c"
#include "../../src/model/block_store.c"
#include "../../src/model/ledger.c"
#include "../../src/model/snapshot.c"
/* clang-format on */
#undef malloc
#undef calloc
#undef realloc

enum { EXPIRE = 100 };

static struct lw_stack_table *make_stacks(uint64_t count)
{
    struct lw_stack_table *stacks = lw_stack_table_create();
    assert_non_null(stacks);
    for (uint64_t i = 1; i <= count; i++) {
        struct lw_frame frame = {.offset = i};
        assert_int_equal(lw_stack_table_intern(stacks, &frame, 1, false)->id, i);
    }
    return stacks;
}

static void test_empty(void **state)
{
    (void)state;
    struct lw_ledger *ledger = lw_ledger_create(EXPIRE);
    struct lw_stack_table *stacks = make_stacks(0);
    struct lw_snapshot *snapshot =
        lw_snapshot_create(ledger, stacks, 77, &(struct lw_snapshot_request){.with_blocks = true});
    assert_non_null(snapshot);
    assert_int_equal(snapshot->taken_ns, 77);
    assert_int_equal(snapshot->expire_ns, EXPIRE);
    assert_int_equal(snapshot->sample_bytes, 0); /* a ledger is exact */
    assert_int_equal(snapshot->stack_count, 0);
    assert_int_equal(snapshot->block_count, 0);
    assert_non_null(snapshot->blocks);
    lw_snapshot_destroy(snapshot);
    lw_snapshot_destroy(NULL);
    lw_stack_table_destroy(stacks);
    lw_ledger_destroy(ledger);
}

/* Stacks far apart, one without allocations between them, one whose blocks are all gone. */
static void test_contents(void **state)
{
    (void)state;
    struct lw_ledger *ledger = lw_ledger_create(EXPIRE);
    struct lw_stack_table *stacks = make_stacks(1000);
    lw_ledger_insert(ledger, 0x1000, 10, 999, 5);
    lw_ledger_insert(ledger, 0x2000, 20, 2, 6);
    lw_ledger_insert(ledger, 0x3000, 30, 2, 7);
    lw_ledger_insert(ledger, 0x4000, 40, 2, 50);
    lw_ledger_insert(ledger, 0x5000, 50, 3, 51);
    lw_ledger_insert(ledger, 0x6000, 60, LW_STACK_NONE, 52);
    lw_ledger_free(ledger, 0x5000, 53);
    lw_ledger_events(ledger)->reallocs = 4;
    lw_ledger_losses(ledger)->missed_returns = 3;

    struct lw_snapshot *snapshot =
        lw_snapshot_create(ledger, stacks, 110, &(struct lw_snapshot_request){.with_blocks = true});
    struct lw_snapshot *plain =
        lw_snapshot_create(ledger, stacks, 110, &(struct lw_snapshot_request){0});
    assert_null(plain->blocks);
    assert_int_equal(plain->block_count, 0);
    assert_int_equal(plain->stack_count, 3);
    assert_int_equal(plain->stacks[0].block_count, 0);
    lw_snapshot_destroy(plain);

    /* what happens later is not seen */
    lw_ledger_free(ledger, 0x2000, 111);
    lw_ledger_insert(ledger, 0x7000, 70, 7, 112);
    lw_ledger_events(ledger)->reallocs = 5;

    assert_int_equal(snapshot->events.reallocs, 4);
    assert_int_equal(snapshot->events.allocs, 6);
    assert_int_equal(snapshot->losses.missed_returns, 3);
    assert_int_equal(snapshot->totals.expired_bytes, 60);
    assert_int_equal(snapshot->totals.expired_stacks, 2);
    assert_int_equal(snapshot->totals.live_bytes, 100);
    assert_int_equal(snapshot->totals.oldest_born_ns, 5);
    assert_int_equal(snapshot->stack_count, 3);
    const struct lw_snapshot_stack *two = &snapshot->stacks[0];
    assert_ptr_equal(two->stack, lw_stack_table_get(stacks, 2));
    assert_int_equal(two->stats.live_bytes, 90);
    assert_int_equal(two->stats.expired_bytes, 50);
    assert_int_equal(two->expired_oldest_ns, 104);
    assert_int_equal(two->expired_youngest_ns, 103);
    assert_int_equal(two->live_youngest_ns, 60);
    assert_int_equal(two->block_count, 2);
    assert_int_equal(snapshot->blocks[two->first_block].address, 0x2000);
    assert_int_equal(snapshot->blocks[two->first_block].size, 20);
    assert_int_equal(snapshot->blocks[two->first_block].age_ns, 104);
    assert_int_equal(snapshot->blocks[two->first_block + 1].address, 0x3000);
    const struct lw_snapshot_stack *three = &snapshot->stacks[1];
    assert_int_equal(three->stack->id, 3);
    assert_int_equal(three->stats.frees, 1);
    assert_int_equal(three->stats.live_blocks, 0);
    assert_int_equal(three->live_oldest_ns, 0);
    assert_int_equal(three->block_count, 0);
    assert_int_equal(snapshot->stacks[2].stack->id, 999);
    assert_int_equal(snapshot->block_count, 3);

    lw_ledger_destroy(ledger); /* it owns nothing of the snapshot */
    assert_int_equal(snapshot->blocks[2].address, 0x1000);
    lw_snapshot_destroy(snapshot);
    lw_stack_table_destroy(stacks);
}

static void test_unknown_stack_is_left_out(void **state)
{
    (void)state;
    struct lw_ledger *ledger = lw_ledger_create(EXPIRE);
    struct lw_stack_table *stacks = make_stacks(1);
    lw_ledger_insert(ledger, 0x1000, 10, 1, 5);
    lw_ledger_insert(ledger, 0x2000, 10, 2, 5);
    struct lw_snapshot *snapshot =
        lw_snapshot_create(ledger, stacks, 200, &(struct lw_snapshot_request){.with_blocks = true});
    assert_int_equal(snapshot->stack_count, 1);
    assert_int_equal(snapshot->block_count, 1);
    assert_int_equal(snapshot->totals.expired_blocks, 2);
    lw_snapshot_destroy(snapshot);
    lw_stack_table_destroy(stacks);
    lw_ledger_destroy(ledger);
}

static void test_marked_blocks(void **state)
{
    (void)state;
    struct lw_ledger *ledger = lw_ledger_create(EXPIRE);
    struct lw_stack_table *stacks = make_stacks(2);
    const struct lw_snapshot_request all = {.marked_until_ns = UINT64_MAX};
    lw_ledger_insert(ledger, 0x1000, 1, 1, 10);
    lw_ledger_insert(ledger, 0x2000, 2, 1, 20);
    struct lw_snapshot *cut =
        lw_snapshot_create(ledger, stacks, 25, &(struct lw_snapshot_request){.cut = true});
    assert_int_equal(cut->cut_ns, 25);
    assert_int_equal(cut->stacks[0].marked_blocks, 0); /* nothing was asked for */
    lw_snapshot_destroy(cut);
    lw_ledger_insert(ledger, 0x3000, 4, 1, 30);
    lw_ledger_insert(ledger, 0x4000, 8, 1, 40);
    lw_ledger_insert(ledger, 0x5000, 16, 2, 40);
    lw_ledger_insert(ledger, 0x6000, 32, 1, 50);
    lw_ledger_free(ledger, 0x3000, 60);
    struct lw_snapshot *snapshot = lw_snapshot_create(ledger, stacks, 200, &all);
    assert_int_equal(snapshot->stacks[0].marked_bytes, 1 + 2 + 8 + 32);
    assert_int_equal(snapshot->cut_ns, 0);
    lw_snapshot_destroy(snapshot);
    /* after the first, and not after the second */
    snapshot = lw_snapshot_create(
        ledger, stacks, 200,
        &(struct lw_snapshot_request){.marked_after_ns = 20, .marked_until_ns = 40});
    assert_int_equal(snapshot->stacks[0].marked_bytes, 8);
    assert_int_equal(snapshot->stacks[0].marked_blocks, 1);
    assert_int_equal(snapshot->stacks[1].marked_bytes, 16);
    lw_snapshot_destroy(snapshot);
    lw_stack_table_destroy(stacks);
    lw_ledger_destroy(ledger);
}

static void test_snapshot_out_of_memory(void **state)
{
    (void)state;
    struct lw_ledger *ledger = lw_ledger_create(EXPIRE);
    struct lw_stack_table *stacks = make_stacks(1);
    lw_ledger_insert(ledger, 0x1000, 10, 1, 5);
    for (long allowed = 0; allowed < 3; allowed++) {
        calls_until_failure = allowed;
        assert_null(lw_snapshot_create(ledger, stacks, 200,
                                       &(struct lw_snapshot_request){.with_blocks = true}));
    }
    calls_until_failure = 0;
    assert_null(lw_ledger_create(EXPIRE));
    assert_int_equal(calls_until_failure, -1); /* it has failed */
    lw_stack_table_destroy(stacks);
    lw_ledger_destroy(ledger);
}

/* Whichever allocation fails, the block is dropped and counted and the ledger remains whole. */
static void test_insert_out_of_memory(void **state)
{
    (void)state;
    for (long allowed = 0; allowed < 6; allowed++) {
        struct lw_ledger *ledger = lw_ledger_create(EXPIRE);
        struct lw_ledger_totals totals;
        calls_until_failure = allowed;
        uint64_t entered = 0, dropped = 0;
        for (uint64_t i = 0; i < 5000; i++) {
            int result = lw_ledger_insert(ledger, 0x1000 + 16 * i, 1, 1, i);
            assert_true(result == 0 || result == -ENOMEM);
            assert_int_equal(lw_ledger_find(ledger, 0x1000 + 16 * i, NULL), result == 0);
            entered += result == 0;
            dropped += result != 0;
        }
        assert_int_equal(calls_until_failure, -1); /* it has failed */
        assert_true(dropped > 0);
        assert_int_equal(lw_ledger_losses(ledger)->dropped_blocks, dropped);
        assert_int_equal(lw_ledger_events(ledger)->allocs, 5000);
        lw_ledger_totals(ledger, 5000, &totals);
        assert_int_equal(totals.live_blocks, entered);
        for (uint64_t i = 0; i < 5000; i++)
            lw_ledger_free(ledger, 0x1000 + 16 * i, 5000);
        assert_int_equal(lw_ledger_events(ledger)->frees, entered);
        assert_int_equal(lw_ledger_events(ledger)->unknown_frees, dropped);
        lw_ledger_totals(ledger, 5000, &totals);
        assert_int_equal(totals.live_blocks, 0);
        lw_ledger_destroy(ledger);
    }
}

/* The old block of a missed free is closed although the new one cannot be recorded. */
static void test_missed_free_out_of_memory(void **state)
{
    (void)state;
    struct lw_ledger *ledger = lw_ledger_create(EXPIRE);
    struct lw_ledger_totals totals;
    assert_int_equal(lw_ledger_insert(ledger, 0x1000, 1, 1, 5), 0);
    calls_until_failure = 0;
    assert_int_equal(lw_ledger_insert(ledger, 0x1000, 2, 1000, 6), -ENOMEM); /* a far stack */
    assert_int_equal(calls_until_failure, -1);                               /* it has failed */
    assert_false(lw_ledger_find(ledger, 0x1000, NULL));
    assert_int_equal(lw_ledger_events(ledger)->missed_frees, 1);
    lw_ledger_totals(ledger, 7, &totals);
    assert_int_equal(totals.live_blocks, 0);
    lw_ledger_destroy(ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_unknown_stack_is_left_out),
        cmocka_unit_test(test_marked_blocks),
        cmocka_unit_test(test_snapshot_out_of_memory),
        cmocka_unit_test(test_insert_out_of_memory),
        cmocka_unit_test(test_missed_free_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
