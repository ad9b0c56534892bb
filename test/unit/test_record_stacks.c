/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names of the agent's stacks, by where modules were in their epochs. */
#include "shared_memory.h"

#define CODE 0x7f0000000000ull

static void note(void)
{
    assert_int_equal(record_view_note_modules(&view), 0);
}

/* The linker has told the agent that libraries are about to be unmapped. */
static void begin_epoch(void)
{
    memory->epoch++;
}

static const struct lw_stack *named(uint32_t number)
{
    assert_int_equal(record_view_name_stacks(&view), 0);
    return view.by_number.items[number];
}

/* A stack whose outer frame returns to `address`; the function itself is in no module. */
static uint32_t stack_in(uint64_t address)
{
    return agent_stack(0x1000, address);
}

static void assert_frame(uint32_t number, uint32_t module, uint64_t offset)
{
    const struct lw_stack *stack = named(number);
    assert_non_null(stack);
    assert_int_equal(stack->depth, 2);
    assert_int_equal(stack->frames[1].module, module);
    assert_int_equal(stack->frames[1].offset, offset);
}

static void test_frames(void **state)
{
    (void)state;
    load_module(1, CODE, 0x1000);
    load_module(2, CODE + 0x1000, 0x1000);
    note();
    uint32_t number = agent_stack(CODE + 0x10, CODE + 0x1000);
    const struct lw_stack *stack = named(number);
    assert_false(stack->truncated);
    assert_int_equal(stack->depth, 2);
    assert_int_equal(stack->frames[0].module, 1);
    assert_int_equal(stack->frames[0].offset, 0x10);
    assert_false(stack->frames[0].is_return);
    /* The call is the last instruction of the first module. */
    assert_int_equal(stack->frames[1].module, 1);
    assert_int_equal(stack->frames[1].offset, 0x1000);
    assert_true(stack->frames[1].is_return);
    /* What is no return address is where it says. */
    assert_int_equal(named(agent_stack(CODE + 0x1000, CODE))->frames[0].module, 2);
    assert_frame(stack_in(CODE), 0, CODE);
    assert_frame(stack_in(CODE + 0x2001), 0, CODE + 0x2001);
    assert_null(view.by_number.items[LW_AGENT_STACK_NONE]);
    assert_true(view.by_number.items[LW_AGENT_STACK_UNKNOWN]->truncated);
    assert_int_equal(view.by_number.items[LW_AGENT_STACK_UNKNOWN]->depth, 0);

    const struct stack_key key = {.hash = 1, .entry = CODE, .truncated = true};
    stack = named(agent_intern(&key));
    assert_int_equal(stack->depth, 1);
    assert_true(stack->truncated);
}

/* What is no ELF file may be mapped in many places, with modules in between. */
static void test_module_within_another(void **state)
{
    (void)state;
    load_module(1, CODE, 0x100000);
    load_module(2, CODE + 0x1000, 0x1000);
    load_module(3, CODE + 0x4000, 0x1000);
    note();
    assert_frame(stack_in(CODE + 0x1800), 2, 0x800);
    assert_frame(stack_in(CODE + 0x3000), 1, 0x3000);
    assert_frame(stack_in(CODE + 0x4800), 3, 0x800);
    assert_frame(stack_in(CODE + 0x8000), 1, 0x8000);
    assert_frame(stack_in(CODE + 0x100800), 0, CODE + 0x100800);
}

/* Another library at the addresses of one that was closed. */
static void test_address_reused(void **state)
{
    (void)state;
    load_module(1, CODE, 0x1000);
    note();
    uint32_t old = stack_in(CODE + 0x100);
    begin_epoch();
    note(); /* it is still mapped */
    load_module(1, 0, 0);
    note();
    load_module(2, CODE, 0x1000);
    note();
    uint32_t new = stack_in(CODE + 0x100);
    assert_int_not_equal(old, new);
    begin_epoch();
    load_module(2, 0, 0);
    load_module(3, CODE, 0x1000);
    note();
    assert_frame(old, 1, 0x100);
    assert_frame(new, 2, 0x100);
    assert_frame(stack_in(CODE + 0x100), 3, 0x100);
}

/* All the changes come before any stack is named. */
static void test_named_late(void **state)
{
    (void)state;
    load_module(1, CODE, 0x1000);
    note();
    uint32_t old = stack_in(CODE + 0x100);
    uint16_t depth = memory->stacks[old].depth;
    memory->stacks[old].depth = 0; /* not complete for long */
    begin_epoch();
    load_module(1, 0, 0);
    load_module(2, CODE, 0x1000);
    note();
    begin_epoch();
    load_module(2, 0, 0);
    note();
    memory->stacks[old].depth = depth;
    assert_frame(old, 1, 0x100);
}

/* Used before the note of it was taken: the name is mended by the note. */
static void test_used_before_note(void **state)
{
    (void)state;
    load_module(1, CODE + 0x10000, 0x1000);
    note();
    uint32_t number = stack_in(CODE + 0x100);
    assert_frame(number, 0, CODE + 0x100);
    load_module(2, CODE, 0x1000);
    note();
    assert_frame(number, 2, 0x100);
}

/* Closed, and another one loaded in its place and used, before the note of it was taken. */
static void test_replaced_before_note(void **state)
{
    (void)state;
    load_module(1, CODE, 0x1000);
    note();
    begin_epoch();
    uint32_t number = stack_in(CODE + 0x100);
    assert_frame(number, 1, 0x100); /* as far as is known */
    load_module(1, 0, 0);
    load_module(2, CODE, 0x1000);
    note();
    assert_frame(number, 2, 0x100);
}

/* The stack comes while the note is being taken: after the maps were read, before it is named. */
static void test_used_during_note(void **state)
{
    (void)state;
    load_module(1, CODE, 0x1000);
    note();
    begin_epoch();
    uint32_t number = stack_in(CODE + 0x100);
    note(); /* of what was there before module 1 was unmapped */
    load_module(1, 0, 0);
    load_module(2, CODE, 0x1000);
    note();
    assert_frame(number, 2, 0x100);
    /* Then it is settled. */
    load_module(2, 0, 0);
    load_module(3, CODE, 0x1000);
    note();
    note();
    assert_frame(number, 2, 0x100);
}

/* The maps were read in one epoch, and the note taken in the next. */
static void test_closed_before_note(void **state)
{
    (void)state;
    load_module(1, CODE + 0x10000, 0x1000);
    note();
    uint32_t number = stack_in(CODE + 0x100);
    load_module(2, CODE, 0x1000);
    begin_epoch();
    note();
    load_module(2, 0, 0);
    note();
    assert_frame(number, 2, 0x100);
    uint32_t later = stack_in(CODE + 0x200);
    note();
    assert_frame(later, 0, CODE + 0x200); /* the epoch's first note had it, but not the last */
}

/* Epochs without a note: the next is the nearest, else the one before. */
static void test_epoch_without_note(void **state)
{
    (void)state;
    load_module(1, CODE, 0x1000);
    load_module(2, CODE + 0x10000, 0x1000);
    note();
    begin_epoch();
    uint32_t replaced = stack_in(CODE + 0x100), closed = stack_in(CODE + 0x10100);
    begin_epoch();
    load_module(1, 0, 0);
    load_module(2, 0, 0);
    load_module(3, CODE, 0x1000);
    note();
    assert_frame(replaced, 3, 0x100);
    assert_frame(closed, 2, 0x100);
}

static void test_bounded(void **state)
{
    (void)state;
    uint32_t numbers[500];
    for (uint32_t i = 0; i < 500; i++) {
        load_module(1 + i % 4, CODE + i * 0x10000, 0x1000);
        note();
        numbers[i] = stack_in(CODE + i * 0x10000 + 0x100);
        note();
        begin_epoch();
    }
    assert_true(view.epochs.count <= 64);
    for (uint32_t i = 0; i < 500; i++)
        assert_frame(numbers[i], 1 + i % 4, 0x100);
    for (size_t i = 1; i < view.epochs.count; i++)
        assert_true(view.epochs.items[i - 1].epoch <= view.epochs.items[i].epoch);
    /* Nothing new to note takes no room. */
    size_t before = view.epochs.count;
    note();
    note();
    note();
    assert_true(view.epochs.count <= before + 1);
}

/* A stack that is beyond the words that were ever used, or that there can be. */
static void test_impossible_stacks(void **state)
{
    (void)state;
    uint32_t beyond_used = stack_in(0x2000), beyond_all = stack_in(0x3000),
             too_deep = stack_in(0x4000);
    memory->stacks[beyond_used].first = (uint32_t)memory->next_word - 1;
    memory->stacks[beyond_all].first = UINT32_MAX;
    memory->stacks[too_deep].depth = LW_AGENT_DEPTH_MAX + 1;
    memory->stacks[too_deep].first = 0;
    assert_ptr_equal(named(beyond_used), named(LW_AGENT_STACK_UNKNOWN));
    assert_ptr_equal(named(too_deep), named(LW_AGENT_STACK_UNKNOWN));
    memory->next_word = UINT64_MAX;
    assert_ptr_equal(named(beyond_all), named(LW_AGENT_STACK_UNKNOWN));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_frames),
        TEST(test_module_within_another),
        TEST(test_address_reused),
        TEST(test_named_late),
        TEST(test_used_before_note),
        TEST(test_replaced_before_note),
        TEST(test_used_during_note),
        TEST(test_closed_before_note),
        TEST(test_epoch_without_note),
        TEST(test_bounded),
        TEST(test_impossible_stacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
