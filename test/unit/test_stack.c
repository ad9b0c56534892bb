/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Interning of stacks: equal ones are one, different ones are two, and none ever moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/model/stack.h"

static int setup(void **state)
{
    *state = lw_stack_table_create();
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    lw_stack_table_destroy(*state);
    return 0;
}

static void test_empty_table(void **state)
{
    struct lw_stack_table *table = *state;
    assert_int_equal(lw_stack_table_count(table), 0);
    assert_null(lw_stack_table_get(table, 0));
    assert_null(lw_stack_table_get(table, 1));
    lw_stack_table_destroy(NULL);
}

static void test_equal_stacks_are_one(void **state)
{
    struct lw_stack_table *table = *state;
    struct lw_frame frames[2], same[2];
    /* what lies in the padding must not matter */
    memset(frames, 0x00, sizeof(frames));
    memset(same, 0xff, sizeof(same));
    for (int i = 0; i < 2; i++) {
        frames[i].offset = same[i].offset = 0x1000u + (unsigned)i;
        frames[i].module = same[i].module = 3;
        frames[i].is_return = same[i].is_return = i > 0;
    }
    const struct lw_stack *stack = lw_stack_table_intern(table, frames, 2, false);
    assert_non_null(stack);
    assert_int_equal(stack->id, 1);
    assert_int_equal(stack->depth, 2);
    assert_false(stack->truncated);
    assert_int_equal(stack->frames[1].offset, 0x1001);
    assert_int_equal(stack->frames[1].module, 3);
    assert_true(stack->frames[1].is_return);
    assert_false(stack->frames[0].is_return);
    assert_ptr_equal(lw_stack_table_intern(table, same, 2, false), stack);
    assert_int_equal(lw_stack_table_count(table), 1);
    assert_ptr_equal(lw_stack_table_get(table, 1), stack);
    assert_null(lw_stack_table_get(table, 2));
    assert_null(lw_stack_table_get(table, UINT32_MAX));
}

static void test_every_field_tells_apart(void **state)
{
    struct lw_stack_table *table = *state;
    const struct lw_frame base[3] = {{0x10, 1, false}, {0x20, 2, true}, {0x30, 2, true}};
    struct lw_frame variants[5][3];
    for (int i = 0; i < 5; i++)
        memcpy(variants[i], base, sizeof(base));
    variants[1][1].offset++;
    variants[2][1].module++;
    variants[3][1].is_return = false;
    variants[4][1] = base[2]; /* the same frames in another order */
    variants[4][2] = base[1];
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(lw_stack_table_intern(table, variants[i], 3, false)->id, i + 1);
    }
    assert_int_equal(lw_stack_table_intern(table, base, 3, true)->id, 6);
    assert_int_equal(lw_stack_table_intern(table, base, 2, false)->id, 7);
    assert_int_equal(lw_stack_table_intern(table, base, 3, false)->id, 1);
    assert_int_equal(lw_stack_table_count(table), 7);
}

/* Frames that the hash adds up to the same: only comparing them tells them apart. */
static void test_equal_hashes(void **state)
{
    struct lw_stack_table *table = *state;
    const struct lw_frame frames[] = {
        {0x11, 0, false}, {0x10, 0, true}, {7, 1, false}, {7, 1 + (1u << 24), false}};
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(lw_stack_table_intern(table, &frames[i], 1, false)->id, i + 1);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(lw_stack_table_intern(table, &frames[i], 1, false)->id, i + 1);
}

static void test_no_frames(void **state)
{
    struct lw_stack_table *table = *state;
    const struct lw_stack *stack = lw_stack_table_intern(table, NULL, 0, true);
    assert_non_null(stack);
    assert_int_equal(stack->depth, 0);
    assert_true(stack->truncated);
    assert_ptr_equal(lw_stack_table_intern(table, NULL, 0, true), stack);
    assert_ptr_not_equal(lw_stack_table_intern(table, NULL, 0, false), stack);
}

static void test_too_deep_is_cut(void **state)
{
    struct lw_stack_table *table = *state;
    lw_auto_free struct lw_frame *frames = calloc(LW_STACK_MAX_DEPTH + 1, sizeof(*frames));
    assert_non_null(frames);
    for (size_t i = 0; i <= LW_STACK_MAX_DEPTH; i++)
        frames[i].offset = i;
    const struct lw_stack *whole = lw_stack_table_intern(table, frames, LW_STACK_MAX_DEPTH, false);
    const struct lw_stack *cut =
        lw_stack_table_intern(table, frames, LW_STACK_MAX_DEPTH + 1, false);
    assert_int_equal(whole->depth, LW_STACK_MAX_DEPTH);
    assert_false(whole->truncated);
    assert_int_equal(cut->depth, LW_STACK_MAX_DEPTH);
    assert_true(cut->truncated);
    assert_int_equal(cut->frames[LW_STACK_MAX_DEPTH - 1].offset, LW_STACK_MAX_DEPTH - 1);
    assert_ptr_not_equal(whole, cut);
}

/* The frames of the n-th test stack: from none to some hundred, mostly few. */
static size_t make_frames(unsigned n, struct lw_frame frames[256])
{
    size_t depth = n % 100 == 0 ? n % 256 : n % 12;
    for (size_t i = 0; i < depth; i++)
        frames[i] = (struct lw_frame){.offset = n * 31 + i, .module = n % 5, .is_return = i > 0};
    if (depth > 0)
        frames[depth - 1].offset = n; /* makes each unique */
    return depth;
}

/* Through many chunks and several growths of the index. */
static void test_many_never_move(void **state)
{
    enum { STACKS = 50000 };
    struct lw_stack_table *table = *state;
    struct lw_frame frames[256];
    lw_auto_free const struct lw_stack **seen = calloc(STACKS, sizeof(*seen));
    assert_non_null(seen);
    for (unsigned n = 0; n < STACKS; n++) {
        seen[n] = lw_stack_table_intern(table, frames, make_frames(n, frames), false);
        assert_non_null(seen[n]);
    }
    size_t count = lw_stack_table_count(table);
    for (unsigned n = 0; n < STACKS; n++) {
        size_t depth = make_frames(n, frames);
        assert_ptr_equal(lw_stack_table_intern(table, frames, depth, false), seen[n]);
        assert_ptr_equal(lw_stack_table_get(table, seen[n]->id), seen[n]);
        assert_int_equal(seen[n]->depth, depth);
        for (size_t i = 0; i < depth; i++) {
            assert_int_equal(seen[n]->frames[i].offset, frames[i].offset);
            assert_int_equal(seen[n]->frames[i].module, frames[i].module);
        }
    }
    assert_int_equal(lw_stack_table_count(table), count);
    /* those of no frames are all one stack */
    size_t empty = 0;
    for (unsigned n = 0; n < STACKS; n++)
        empty += make_frames(n, frames) == 0;
    assert_int_equal(count, STACKS - empty + 1);
}

/* Once it is full, new stacks are cut to their innermost frame; what was known stays known. */
static void test_full_table(void **state)
{
    struct lw_stack_table *table = *state;
    struct lw_frame frames[2] = {{.offset = 1}, {.offset = 2}};
    const struct lw_stack *known = lw_stack_table_intern(table, frames, 2, false);
    lw_stack_table_limit(table, 1 << 20, 1 << 16);
    for (size_t i = 0; i < 100; i++) {
        frames[1].offset = 100 + i;
        assert_non_null(lw_stack_table_intern(table, frames, 2, false));
    }
    assert_true(lw_stack_table_count(table) < 20);
    const struct lw_stack *cut = lw_stack_table_intern(table, frames, 2, false);
    assert_int_equal(cut->depth, 1);
    assert_true(cut->truncated);
    assert_int_equal(cut->frames[0].offset, 1);
    frames[1].offset = 2;
    assert_ptr_equal(lw_stack_table_intern(table, frames, 2, false), known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_empty_table, setup, teardown),
        cmocka_unit_test_setup_teardown(test_equal_stacks_are_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_field_tells_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_equal_hashes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_frames, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_deep_is_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_never_move, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_table, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
