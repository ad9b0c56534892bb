/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's stacks and blocks of counts: one number for equal ones, and full tables. */
#include "agent_under_test.h"

#include <stdatomic.h>
#include <stdlib.h>

#define STACKS  30000u
#define DEPTH   5u
#define ENTRIES 3u /* stacks that differ in nothing else */

/* Made of few frames, in all combinations. */
static uint32_t intern(uint32_t which, bool outermost_first)
{
    struct lw_agent_frame frames[DEPTH] = {0};
    struct stack_key key = {.entry = 0x10000 + which % ENTRIES * 16,
                            .frames = frames,
                            .depth = DEPTH,
                            .outermost_first = outermost_first,
                            .truncated = which / ENTRIES % 2};
    for (uint32_t i = 0, rest = which / ENTRIES / 2; i < DEPTH; i++, rest /= 10) {
        uint64_t pc = 0x400000 + rest % 10 * 5;
        frames[outermost_first ? i : DEPTH - 1 - i].pc = pc;
        key.hash = mix(pc) + GOLDEN * key.hash;
    }
    return agent_intern(&key);
}

static void assert_is(uint32_t number, uint32_t which)
{
    const struct lw_agent_stack *stack = &shared->stacks[number];
    const uint64_t *words = &shared->stack_words[stack->first];
    assert_int_equal(stack->depth, DEPTH + 1);
    assert_int_equal(stack->truncated, which / ENTRIES % 2);
    assert_int_equal(words[0], (0x10000 + which % ENTRIES * 16) | LW_AGENT_EXACT_PC);
    for (uint32_t i = 0, rest = which / ENTRIES / 2; i < DEPTH; i++, rest /= 10)
        assert_int_equal(words[DEPTH - i], 0x400000 + rest % 10 * 5);
}

static _Atomic uint32_t numbers[STACKS];
static atomic_uint different;

/* Each thread in an order of its own. */
static void intern_all(unsigned thread)
{
    static const uint32_t steps[TEST_THREADS] = {1, 7, 13, 29999};
    for (uint32_t i = 0, which = 0; i < STACKS; i++, which = (which + steps[thread]) % STACKS) {
        uint32_t none = 0, number = intern(which, thread % 2);
        if (!atomic_compare_exchange_strong(&numbers[which], &none, number) && none != number)
            different++;
    }
}

static void test_equal_stacks_have_one_number(void **state)
{
    (void)state;
    bool *taken = calloc(LW_AGENT_STACKS, sizeof(*taken));
    assert_non_null(taken);
    on_threads(intern_all);
    assert_int_equal(different, 0);
    for (uint32_t i = 0; i < STACKS; i++) {
        assert_in_range(numbers[i], LW_AGENT_FIRST_STACK, LW_AGENT_STACKS - 1);
        assert_false(taken[numbers[i]]);
        taken[numbers[i]] = true;
        assert_is(numbers[i], i);
    }
    assert_int_equal(shared->no_stack, 0);
    /* Where threads meet, a number may be lost to each. */
    assert_true(shared->next_stack < STACKS + STACKS / 100);
    free(taken);
}

/* The same addresses mean something else after libraries were closed. */
static void test_epochs(void **state)
{
    (void)state;
    uint32_t before = intern(1, false);
    shared->epoch++;
    uint32_t after = intern(1, false);
    assert_int_not_equal(before, after);
    assert_int_equal(shared->stacks[before].epoch, 0);
    assert_int_equal(shared->stacks[after].epoch, 1);
    assert_int_equal(intern(1, true), after);
}

static void assert_no_room_for(uint32_t which)
{
    uint32_t before = shared->no_stack, stacks = shared->next_stack;
    assert_int_equal(intern(which, false), LW_AGENT_STACK_UNKNOWN);
    assert_int_equal(shared->no_stack, before + 1);
    assert_int_equal(shared->next_stack, stacks);
}

static void test_no_number_left(void **state)
{
    (void)state;
    uint32_t known = intern(0, false);
    shared->next_stack = LW_AGENT_STACKS - LW_AGENT_FIRST_STACK - LW_AGENT_THREADS - 1;
    uint32_t last = intern(1, false);
    assert_true(last < LW_AGENT_STACKS);
    assert_no_room_for(2);
    assert_no_room_for(3);
    assert_int_equal(intern(0, false), known);
    assert_int_equal(intern(1, false), last);
}

static void test_no_words_left(void **state)
{
    (void)state;
    uint32_t known = intern(0, false);
    shared->next_word = LW_AGENT_STACK_WORDS - (uint64_t)LW_AGENT_THREADS * LW_AGENT_DEPTH_MAX - 1;
    uint32_t last = intern(1, false);
    assert_is(last, 1);
    assert_no_room_for(2);
    assert_int_equal(intern(0, false), known);
}

static void test_less_room(void **state)
{
    (void)state;
    uint32_t known = intern(0, false);
    agent_control.barred_words = LW_AGENT_STACK_WORDS - LW_AGENT_SPARE_WORDS - 1;
    assert_no_room_for(2);
    assert_int_equal(intern(0, false), known);
    agent_control.barred_words = 0;
    intern(2, false);
    assert_int_equal(shared->no_stack, 1);
}

/* Every word of the index is another stack's: a search ends all the same. */
static void test_no_place_in_the_index(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < LW_AGENT_INDEX_WORDS; i++)
        shared->stack_index[i] = UINT64_MAX;
    assert_no_room_for(0);
    assert_no_room_for(1);
}

/* So many that they are in all levels of the index. */
static void test_levels(void **state)
{
    (void)state;
    enum { MANY = 500000 };
    uint32_t *given = calloc(MANY, sizeof(*given));
    assert_non_null(given);
    for (uint32_t i = 0; i < MANY; i++)
        given[i] = intern(i, false);
    for (uint32_t i = 0; i < MANY; i++)
        assert_int_equal(intern(i, true), given[i]);
    assert_int_equal(shared->next_stack, MANY);
    assert_int_equal(shared->no_stack, 0);
    free(given);
}

/* ---- blocks of counts ---- */

static void test_counts_blocks(void **state)
{
    (void)state;
    struct lw_agent_thread *a = &shared->threads[0], *b = &shared->threads[1];
    uint32_t first = agent_counts_block(a, 0), second = agent_counts_block(a, 1);
    uint32_t third = agent_counts_block(b, 0);
    assert_int_equal(first, 1);
    assert_int_equal(second, 2);
    assert_int_equal(third, 3);
    assert_int_equal(a->directory[0], first);
    assert_int_equal(b->directory[0], third);
    /* as after a signal handler that came between the look and this */
    assert_int_equal(agent_counts_block(a, 0), first);
}

static void test_no_counts_left(void **state)
{
    (void)state;
    struct lw_agent_thread *thread = &shared->threads[0];
    shared->next_block = LW_AGENT_COUNT_BLOCKS - LW_AGENT_THREADS - 1;
    uint32_t last = agent_counts_block(thread, 0);
    assert_int_equal(last, LW_AGENT_COUNT_BLOCKS - LW_AGENT_THREADS);
    assert_int_equal(agent_counts_block(thread, 1), 0);
    assert_int_equal(agent_counts_block(thread, 1), 0);
    assert_int_equal(shared->next_block, last);
    assert_int_equal(thread->directory[1], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        agent_test(test_equal_stacks_have_one_number),
        agent_test(test_epochs),
        agent_test(test_no_number_left),
        agent_test(test_no_words_left),
        agent_test(test_less_room),
        agent_test(test_no_place_in_the_index),
        agent_test(test_levels),
        agent_test(test_counts_blocks),
        agent_test(test_no_counts_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
