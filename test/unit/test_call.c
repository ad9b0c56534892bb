/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls under way, on made-up stacks, and what they leave in a real ledger. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "leakwatch/model/snapshot.h"
#include "leakwatch/probe/call.h"

#define EXPIRE 1000ull
#define SLOT   0x7ffe0000ull /* of most calls: where the return address lies */
#define STACK  1u            /* of every block */

struct thread {
    struct lw_ledger *ledger;
    struct lw_calls calls;
    struct lw_allocator_site sites[LW_CALLS_MAX + 2]; /* of the latest entries */
    unsigned site_count;
    uint64_t now;
};

static int setup(void **state)
{
    static struct thread thread;
    thread = (struct thread){.ledger = lw_ledger_create(EXPIRE), .now = 1};
    assert_non_null(thread.ledger);
    *state = &thread;
    return 0;
}

static int teardown(void **state)
{
    lw_ledger_destroy(((struct thread *)*state)->ledger);
    return 0;
}

/* How a function is entered, beside its arguments. */
struct manner {
    uint64_t slot;
    bool from_allocator, ends_in_watched;
};

#define at(address) ((struct manner){.slot = (address)})

static bool enter(struct thread *thread, const char *symbol, struct manner manner, uint64_t a,
                  uint64_t b, uint64_t c)
{
    struct lw_allocator_site *site = &thread->sites[thread->site_count++ % (LW_CALLS_MAX + 2)];
    *site = (struct lw_allocator_site){.function = lw_allocator_function_named(symbol),
                                       .ends_in_watched = manner.ends_in_watched};
    assert_non_null(site->function);
    const struct lw_call_entry entry = {.site = site,
                                        .slot = manner.slot,
                                        .address = 0x401000,
                                        .from_allocator = manner.from_allocator,
                                        .arguments = {a, b, c}};
    return lw_calls_enter(&thread->calls, thread->ledger, &entry, thread->now);
}

/* The function returns: `block` is what the engine has found to be the new block. False when the
 * return is of no call under way. */
static bool leave(struct thread *thread, uint64_t slot, uint64_t block)
{
    struct lw_call *call = lw_calls_match(&thread->calls, slot), finished;
    if (!call)
        return false;
    if (lw_calls_finish(&thread->calls, thread->ledger, call, block, thread->now, &finished))
        assert_int_equal(lw_ledger_insert(thread->ledger, block, finished.size, STACK, thread->now),
                         0);
    assert_int_equal(finished.slot, slot);
    return true;
}

/* A call from its entry to its return. */
static void call(struct thread *thread, const char *symbol, uint64_t a, uint64_t b, uint64_t c,
                 uint64_t block)
{
    assert_true(enter(thread, symbol, at(SLOT), a, b, c));
    assert_true(leave(thread, SLOT, block));
    assert_false(lw_calls_pending(&thread->calls));
}

static void release(struct thread *thread, const char *symbol, uint64_t block)
{
    assert_false(enter(thread, symbol, at(SLOT), block, 0, 0));
    assert_false(leave(thread, SLOT, 0));
}

static void check_events(const struct thread *thread, struct lw_event_counts expected)
{
    assert_memory_equal(lw_ledger_events(thread->ledger), &expected, sizeof(expected));
}

static uint64_t missed_returns(const struct thread *thread)
{
    return lw_ledger_losses(thread->ledger)->missed_returns;
}

static void check_block(const struct thread *thread, uint64_t address, uint64_t size,
                        uint64_t born_ns)
{
    struct lw_block block;
    assert_true(lw_ledger_find(thread->ledger, address, &block));
    assert_int_equal(block.size, size);
    assert_int_equal(block.born_ns, born_ns);
}

static bool is_live(const struct thread *thread, uint64_t address)
{
    return lw_ledger_find(thread->ledger, address, NULL);
}

/* How many blocks the one stack has seen freed, counted as events or not. */
static uint64_t freed_blocks(const struct thread *thread)
{
    struct lw_stack_table *stacks = lw_stack_table_create();
    assert_int_equal(lw_stack_table_intern(stacks, NULL, 0, false)->id, STACK);
    struct lw_snapshot *snapshot =
        lw_snapshot_create(thread->ledger, stacks, thread->now, &(struct lw_snapshot_request){0});
    uint64_t frees = snapshot->stacks[0].stats.frees;
    lw_snapshot_destroy(snapshot);
    lw_stack_table_destroy(stacks);
    return frees;
}

static void test_allocations(void **state)
{
    struct thread *thread = *state;
    static const struct {
        const char *symbol;
        uint64_t a, b, c, size;
    } cases[] = {
        {"malloc", 24, 7, 7, 24},
        {"malloc", 0, 7, 7, 0}, /* a block all the same */
        {"calloc", 3, 5, 7, 15},
        {"calloc", 0, 5, 7, 0},
        {"realloc", 0, 40, 7, 40},
        {"reallocarray", 0, 6, 7, 42},
        {"memalign", 64, 100, 7, 100},
        {"aligned_alloc", 64, 128, 7, 128},
        {"posix_memalign", 0x7fff1000, 64, 200, 200},
        {"valloc", 9, 7, 7, 9},
        {"_Znwm", 11, 7, 7, 11},
        {"_ZnwmSt11align_val_t", 14, 64, 7, 14},
    };
    uint64_t count = sizeof(cases) / sizeof(cases[0]);
    for (uint64_t i = 0; i < count; i++) {
        thread->now = 10 + i;
        call(thread, cases[i].symbol, cases[i].a, cases[i].b, cases[i].c, 0x1000 * (i + 1));
        check_block(thread, 0x1000 * (i + 1), cases[i].size, 10 + i);
    }
    check_events(thread, (struct lw_event_counts){.allocs = count, .reallocs = 2});
}

static void test_failed_allocations(void **state)
{
    struct thread *thread = *state;
    call(thread, "malloc", 1ull << 60, 0, 0, 0);
    call(thread, "calloc", 1ull << 40, 1ull << 40, 0, 0); /* does not fit */
    call(thread, "posix_memalign", 0x7fff1000, 64, 1ull << 60, 0);
    call(thread, "realloc", 0, 1ull << 60, 0, 0);
    call(thread, "malloc", 0, 0, 0, 0); /* AIX's malloc(0) */
    call(thread, "realloc", 0, 0, 0, 0);
    check_events(thread, (struct lw_event_counts){.failed_allocs = 6, .reallocs = 2});
}

static void test_releases(void **state)
{
    struct thread *thread = *state;
    call(thread, "malloc", 24, 0, 0, 0x1000);
    release(thread, "free", 0x1000);
    assert_false(is_live(thread, 0x1000));
    release(thread, "free", 0);
    release(thread, "_ZdlPv", 0);
    check_events(thread, (struct lw_event_counts){.allocs = 1, .frees = 1});
    release(thread, "free", 0x5000); /* from before the watch */
    check_events(thread, (struct lw_event_counts){.allocs = 1, .frees = 1, .unknown_frees = 1});
}

/* operator delete(p, size) -> operator delete(p) -> free(p): one release. */
static void test_a_chain_of_releases(void **state)
{
    struct thread *thread = *state;
    call(thread, "_Znwm", 24, 0, 0, 0x1000);
    release(thread, "_ZdlPvm", 0x1000);
    release(thread, "_ZdlPv", 0x1000);
    release(thread, "free", 0x1000);
    check_events(thread, (struct lw_event_counts){.allocs = 1, .frees = 1});
    release(thread, "_ZdlPvm", 0x2000);
    release(thread, "free", 0x2000);
    check_events(thread, (struct lw_event_counts){.allocs = 1, .frees = 1, .unknown_frees = 1});

    /* The address in use again: that is another block. */
    call(thread, "malloc", 8, 0, 0, 0x2000);
    release(thread, "free", 0x2000);
    call(thread, "malloc", 0, 0, 0, 0); /* fails; the next two are not known */
    release(thread, "free", 0x2000);
    release(thread, "free", 0x3000);
    release(thread, "free", 0x2000);
    check_events(thread, (struct lw_event_counts){
                             .allocs = 2, .frees = 2, .failed_allocs = 1, .unknown_frees = 4});
}

/* Another thread was given the block that this one has just released, and it came back to this one:
 * its release is no echo of the first. */
static void test_a_block_that_came_back_from_another_thread(void **state)
{
    struct thread *thread = *state;
    call(thread, "malloc", 24, 0, 0, 0x1000);
    release(thread, "free", 0x1000);
    assert_int_equal(lw_ledger_insert(thread->ledger, 0x1000, 8, STACK, thread->now), 0);
    release(thread, "free", 0x1000);
    assert_false(is_live(thread, 0x1000));
    check_events(thread, (struct lw_event_counts){.allocs = 2, .frees = 2});
}

static void test_realloc_moves_or_stays(void **state)
{
    struct thread *thread = *state;
    call(thread, "malloc", 24, 0, 0, 0x1000);
    thread->now = 50;
    call(thread, "realloc", 0x1000, 48, 0, 0x2000);
    assert_false(is_live(thread, 0x1000));
    check_block(thread, 0x2000, 48, 50);
    check_events(thread, (struct lw_event_counts){.allocs = 2, .frees = 1, .reallocs = 1});
    thread->now = 60;
    call(thread, "reallocarray", 0x2000, 5, 20, 0x2000);
    check_block(thread, 0x2000, 100, 60);
    check_events(thread, (struct lw_event_counts){.allocs = 3, .frees = 2, .reallocs = 2});
}

static void test_realloc_to_nothing(void **state)
{
    struct thread *thread = *state;
    call(thread, "malloc", 24, 0, 0, 0x1000);
    call(thread, "realloc", 0x1000, 0, 0, 0); /* glibc frees */
    assert_false(is_live(thread, 0x1000));
    check_events(thread, (struct lw_event_counts){.allocs = 1, .frees = 1, .reallocs = 1});
    call(thread, "malloc", 24, 0, 0, 0x1000);
    call(thread, "realloc", 0x1000, 0, 0, 0x2000); /* musl gives a block of no bytes */
    assert_false(is_live(thread, 0x1000));
    check_block(thread, 0x2000, 0, 1);
    check_events(thread, (struct lw_event_counts){.allocs = 3, .frees = 2, .reallocs = 2});
}

static void test_failed_realloc_changes_nothing(void **state)
{
    struct thread *thread = *state;
    call(thread, "malloc", 24, 0, 0, 0x1000);
    thread->now = 500;
    call(thread, "realloc", 0x1000, 1ull << 60, 0, 0);
    check_block(thread, 0x1000, 24, 1);
    /* 0 in 64 bits, and still no release. */
    call(thread, "reallocarray", 0x1000, 1ull << 32, 1ull << 32, 0);
    check_block(thread, 0x1000, 24, 1);
    check_events(thread, (struct lw_event_counts){.allocs = 1, .failed_allocs = 2, .reallocs = 2});

    struct lw_ledger_totals totals;
    lw_ledger_totals(thread->ledger, 1 + EXPIRE, &totals); /* it is as old as it was */
    assert_int_equal(totals.expired_blocks, 1);
}

static void test_realloc_of_an_unknown_block(void **state)
{
    struct thread *thread = *state;
    call(thread, "realloc", 0x5000, 1ull << 60, 0, 0);
    check_events(thread, (struct lw_event_counts){.failed_allocs = 1, .reallocs = 1});
    call(thread, "realloc", 0x5000, 8, 0, 0x6000);
    check_events(thread, (struct lw_event_counts){
                             .allocs = 1, .unknown_frees = 1, .failed_allocs = 1, .reallocs = 2});
    call(thread, "realloc", 0x7000, 0, 0, 0);
    check_events(thread, (struct lw_event_counts){
                             .allocs = 1, .unknown_frees = 2, .failed_allocs = 1, .reallocs = 3});
}

/* The old block is gone from the entry on: another thread may be given its address. */
static void test_the_address_is_free_while_realloc_runs(void **state)
{
    struct thread *thread = *state;
    call(thread, "malloc", 24, 0, 0, 0x1000);
    assert_true(enter(thread, "realloc", at(SLOT), 0x1000, 48, 0));
    assert_false(is_live(thread, 0x1000));
    assert_int_equal(lw_ledger_insert(thread->ledger, 0x1000, 8, STACK, thread->now), 0);
    assert_true(leave(thread, SLOT, 0x2000));
    check_block(thread, 0x1000, 8, 1);
    check_block(thread, 0x2000, 48, 1);
    check_events(thread, (struct lw_event_counts){.allocs = 3, .frees = 1, .reallocs = 1});
    call(thread, "malloc", 4, 0, 0, 0x1000); /* whose free was not seen */
    check_block(thread, 0x1000, 4, 1);
    assert_int_equal(lw_ledger_events(thread->ledger)->missed_frees, 1);
}

static void test_nested_calls_count_once(void **state)
{
    struct thread *thread = *state;
    const struct manner outer = {.slot = SLOT};
    const struct manner inner = {.slot = SLOT - 0x40, .from_allocator = true};
    assert_true(enter(thread, "_Znwm", outer, 24, 0, 0));
    assert_false(enter(thread, "malloc", inner, 32, 0, 0));
    assert_false(leave(thread, inner.slot, 0x1000));
    assert_true(leave(thread, outer.slot, 0x1000));
    check_block(thread, 0x1000, 24, 1);

    assert_true(enter(thread, "realloc", outer, 0x1000, 48, 0));
    assert_false(enter(thread, "malloc", inner, 48, 0, 0));
    assert_false(leave(thread, inner.slot, 0x2000));
    assert_false(enter(thread, "free", inner, 0x1000, 0, 0));
    assert_true(leave(thread, outer.slot, 0x2000));
    check_events(thread, (struct lw_event_counts){.allocs = 2, .frees = 1, .reallocs = 1});
    assert_int_equal(missed_returns(thread), 0);
}

/* operator new calls the program's new handler, which calls malloc: a call of its own. */
static void test_a_call_by_the_program_within_a_call(void **state)
{
    struct thread *thread = *state;
    const struct manner handler = {.slot = SLOT - 0x100};
    assert_true(enter(thread, "_Znwm", at(SLOT), 24, 0, 0));
    assert_false(enter(thread, "free", handler, 0x5000, 0, 0));
    assert_true(enter(thread, "malloc", handler, 8, 0, 0));
    assert_true(leave(thread, handler.slot, 0x1000));
    assert_true(leave(thread, SLOT, 0x2000));
    check_block(thread, 0x1000, 8, 1);
    check_block(thread, 0x2000, 24, 1);
    check_events(thread, (struct lw_event_counts){.allocs = 2, .unknown_frees = 1});
    assert_int_equal(missed_returns(thread), 0);
}

/* A signal handler on a stack of its own interrupts an allocator function, and allocates. */
static void test_a_signal_handler_on_another_stack(void **state)
{
    struct thread *thread = *state;
    const uint64_t slots[] = {SLOT + (1ull << 20), SLOT + (1ull << 40), SLOT - (1ull << 40)};
    for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
        /* On a stack above, also when it calls strdup, which calls malloc. */
        const struct manner handler = {.slot = slots[i], .from_allocator = slots[i] > SLOT};
        uint64_t block = 0x10000 * (i + 1);
        assert_true(enter(thread, "malloc", at(SLOT), 24, 0, 0));
        assert_true(enter(thread, "malloc", handler, 8, 0, 0));
        assert_true(leave(thread, handler.slot, block));
        assert_false(enter(thread, "free", handler, block, 0, 0));
        assert_true(leave(thread, SLOT, block + 0x1000));
        assert_false(is_live(thread, block));
        check_block(thread, block + 0x1000, 24, 1);
    }
    check_events(thread, (struct lw_event_counts){.allocs = 6, .frees = 3});
    assert_int_equal(missed_returns(thread), 0);
}

static const struct manner jumping = {.slot = SLOT, .ends_in_watched = true};

/* calloc, once it has checked for overflow, jumps to malloc: malloc's return is calloc's. */
static void test_a_jump_to_another_watched_function(void **state)
{
    struct thread *thread = *state;
    assert_true(enter(thread, "calloc", jumping, 3, 5, 0));
    assert_false(enter(thread, "malloc", at(SLOT), 16, 0, 0));
    assert_true(leave(thread, SLOT, 0x1000));
    check_block(thread, 0x1000, 15, 1);
    check_events(thread, (struct lw_event_counts){.allocs = 1});
    assert_int_equal(missed_returns(thread), 0);
}

/* The jump goes to code that is not followed, with a breakpoint at the return address; that code
 * jumps to malloc. */
static void test_a_jump_through_foreign_code(void **state)
{
    struct thread *thread = *state;
    assert_true(enter(thread, "calloc", at(SLOT), 3, 5, 0));
    lw_calls_match(&thread->calls, SLOT)->return_site = thread;
    assert_false(enter(thread, "malloc", at(SLOT), 16, 0, 0));
    assert_true(leave(thread, SLOT, 0x1000));
    check_block(thread, 0x1000, 15, 1);
    assert_int_equal(missed_returns(thread), 0);
}

static void test_realloc_that_ends_in_a_jump_to_free(void **state)
{
    struct thread *thread = *state;
    call(thread, "malloc", 24, 0, 0, 0x1000);
    assert_true(enter(thread, "realloc", jumping, 0x1000, 0, 0));
    assert_false(enter(thread, "free", at(SLOT), 0x1000, 0, 0));
    assert_false(lw_calls_pending(&thread->calls));
    assert_false(is_live(thread, 0x1000));
    check_events(thread, (struct lw_event_counts){.allocs = 1, .frees = 1, .reallocs = 1});
    assert_int_equal(missed_returns(thread), 0);
}

/* bad_alloc was thrown out of operator new: nothing of that call returns. */
static void test_a_call_left_by_an_exception(void **state)
{
    struct thread *thread = *state;
    assert_true(enter(thread, "_Znwm", at(SLOT), 1ull << 60, 0, 0));
    assert_true(enter(thread, "malloc", at(SLOT + 0x100), 8, 0, 0));
    assert_int_equal(missed_returns(thread), 1);
    assert_null(lw_calls_match(&thread->calls, SLOT));
    assert_true(leave(thread, SLOT + 0x100, 0x1000));
    check_events(thread, (struct lw_event_counts){.allocs = 1});

    /* Caught and tried again, from the same frame. */
    assert_true(enter(thread, "_Znwm", at(SLOT), 1ull << 60, 0, 0));
    assert_true(enter(thread, "_Znwm", at(SLOT), 16, 0, 0));
    assert_int_equal(missed_returns(thread), 2);
    assert_true(leave(thread, SLOT, 0x2000));
    check_block(thread, 0x2000, 16, 1);
}

/* A release, too, shows that a call was left; and realloc's old block stays closed. */
static void test_a_realloc_left_by_a_longjmp(void **state)
{
    struct thread *thread = *state;
    call(thread, "malloc", 24, 0, 0, 0x1000);
    call(thread, "malloc", 8, 0, 0, 0x2000);
    assert_true(enter(thread, "realloc", at(SLOT), 0x1000, 48, 0));
    assert_false(enter(thread, "free", at(SLOT + 8), 0x2000, 0, 0));
    assert_false(lw_calls_pending(&thread->calls));
    assert_int_equal(missed_returns(thread), 1);
    assert_false(is_live(thread, 0x1000) || is_live(thread, 0x2000));
    check_events(thread, (struct lw_event_counts){.allocs = 2, .frees = 1});
    assert_int_equal(freed_blocks(thread), 2);
}

static void test_calls_above_the_one_that_returns(void **state)
{
    struct thread *thread = *state;
    call(thread, "malloc", 24, 0, 0, 0x1000);
    assert_true(enter(thread, "_Znwm", at(SLOT), 16, 0, 0));
    assert_true(enter(thread, "malloc", at(SLOT - 0x40), 8, 0, 0));
    assert_true(enter(thread, "realloc", at(SLOT - 0x80), 0x1000, 8, 0));
    assert_true(leave(thread, SLOT, 0x2000));
    assert_false(lw_calls_pending(&thread->calls));
    assert_int_equal(missed_returns(thread), 2);
    assert_false(is_live(thread, 0x1000));
    check_block(thread, 0x2000, 16, 1);
}

static void test_more_calls_than_there_is_room_for(void **state)
{
    struct thread *thread = *state;
    call(thread, "malloc", 24, 0, 0, 0x1000);
    assert_true(enter(thread, "realloc", at(SLOT), 0x1000, 48, 0));
    for (unsigned i = 1; i < LW_CALLS_MAX; i++)
        assert_true(enter(thread, "malloc", at(SLOT - 0x100 * i), i, 0, 0));
    assert_int_equal(missed_returns(thread), 0);
    assert_true(enter(thread, "malloc", at(SLOT - 0x100 * LW_CALLS_MAX), LW_CALLS_MAX, 0, 0));
    assert_int_equal(missed_returns(thread), 1); /* the outermost */
    assert_int_equal(thread->calls.count, LW_CALLS_MAX);
    for (unsigned i = LW_CALLS_MAX; i > 0; i--) {
        assert_true(leave(thread, SLOT - 0x100 * i, 0x1000 * (i + 1)));
        check_block(thread, 0x1000 * (i + 1), i, 1);
    }
    assert_false(leave(thread, SLOT, 0x9000));
    assert_false(is_live(thread, 0x1000));
    check_events(thread, (struct lw_event_counts){.allocs = 1 + LW_CALLS_MAX});
}

static void test_abandoned_calls(void **state)
{
    struct thread *thread = *state;
    call(thread, "malloc", 24, 0, 0, 0x1000);
    assert_true(enter(thread, "realloc", at(SLOT), 0x1000, 48, 0));
    assert_true(enter(thread, "malloc", at(SLOT - 0x40), 8, 0, 0));
    lw_calls_abandon(&thread->calls, thread->ledger, thread->now);
    assert_false(lw_calls_pending(&thread->calls) || is_live(thread, 0x1000));
    assert_int_equal(freed_blocks(thread), 1);
    check_events(thread, (struct lw_event_counts){.allocs = 1});
    assert_int_equal(missed_returns(thread), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_allocations),
        TEST(test_failed_allocations),
        TEST(test_releases),
        TEST(test_a_chain_of_releases),
        TEST(test_a_block_that_came_back_from_another_thread),
        TEST(test_realloc_moves_or_stays),
        TEST(test_realloc_to_nothing),
        TEST(test_failed_realloc_changes_nothing),
        TEST(test_realloc_of_an_unknown_block),
        TEST(test_the_address_is_free_while_realloc_runs),
        TEST(test_nested_calls_count_once),
        TEST(test_a_call_by_the_program_within_a_call),
        TEST(test_a_signal_handler_on_another_stack),
        TEST(test_a_jump_to_another_watched_function),
        TEST(test_a_jump_through_foreign_code),
        TEST(test_realloc_that_ends_in_a_jump_to_free),
        TEST(test_a_call_left_by_an_exception),
        TEST(test_a_realloc_left_by_a_longjmp),
        TEST(test_calls_above_the_one_that_returns),
        TEST(test_more_calls_than_there_is_room_for),
        TEST(test_abandoned_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
