/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stacks merged into a tree: what is one node, its sums, the order of the children. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../src/report/flame_tree.h"

/* Innermost first; a stack is a part of this list. */
static struct lw_report_frame frames[] = {
    {.function = "malloc", .module = "libc"},
    {.function = "keep", .module = "app", .file = "a.c", .line = 5},
    {.function = "main", .module = "app", .file = "a.c", .line = 90},
    {.function = "malloc", .module = "libc"},
    {.function = "keep", .module = "app", .file = "a.c", .line = 7},
    {.function = "main", .module = "app", .file = "a.c", .line = 90},
    {.module = "app", .address = 0x10},
    {.function = "main", .module = "app", .file = "a.c", .line = 90},
    {.module = "app", .address = 0x20},
    {.function = "main", .module = "other", .file = "a.c", .line = 90},
};

static struct lw_report_stack stack_of(size_t first, size_t count, uint64_t bytes, uint64_t blocks)
{
    static const struct lw_stack whole, cut = {.truncated = true};
    bool truncated = first == 8;

    return (struct lw_report_stack){
        .frames = &frames[first],
        .frame_count = count,
        .facts = {.stack = truncated ? &cut : &whole,
                  .stats = {.expired_bytes = bytes,
                            .expired_blocks = blocks,
                            .live_bytes = 2 * bytes,
                            .live_blocks = blocks + 1}},
    };
}

static const struct lw_flame_node *child(const struct lw_flame_tree *tree,
                                         const struct lw_flame_node *node, int number)
{
    uint32_t index = node->first_child;

    for (; number > 0 && index != 0; number--)
        index = tree->nodes.items[index].next_sibling;
    return index != 0 ? &tree->nodes.items[index] : NULL;
}

static void expect_node(const struct lw_flame_node *node, const char *function, uint64_t bytes,
                        uint64_t blocks)
{
    assert_non_null(node);
    if (function)
        assert_string_equal(node->frame->function, function);
    assert_int_equal(node->bytes, bytes);
    assert_int_equal(node->blocks, blocks);
}

static void test_inward(void **state)
{
    struct lw_report_stack stacks[] = {stack_of(0, 3, 100, 1), stack_of(3, 3, 50, 2),
                                       stack_of(6, 2, 400, 1), stack_of(8, 2, 10, 1),
                                       stack_of(0, 3, 0, 0)};
    struct lw_report report = {.stacks = stacks, .every_count = 5};
    struct lw_flame_tree tree;

    (void)state;
    assert_int_equal(lw_flame_tree_build(&tree, &report, LW_WEIGHT_EXPIRED_BYTES, LW_FLAME_INWARD),
                     0);
    const struct lw_flame_node *root = &tree.nodes.items[0];
    expect_node(root, NULL, 560, 5);
    assert_null(root->frame);
    assert_false(root->truncated);
    const struct lw_flame_node *app = child(&tree, root, 0), *cut = child(&tree, root, 1);
    expect_node(app, "main", 550, 4);
    assert_false(app->several_lines);
    assert_int_equal(app->depth, 1);
    expect_node(cut, NULL, 10, 1); /* main of another module */
    assert_true(cut->truncated);
    expect_node(child(&tree, cut, 0), "main", 10, 1);
    assert_null(child(&tree, root, 2));

    const struct lw_flame_node *unnamed = child(&tree, app, 0), *keep = child(&tree, app, 1);
    expect_node(unnamed, NULL, 400, 1); /* the larger one first */
    expect_node(keep, "keep", 150, 3);
    assert_true(keep->several_lines);
    expect_node(child(&tree, keep, 0), "malloc", 150, 3);
    assert_int_equal(tree.max_depth, 3);
    assert_int_equal(lw_flame_node_value(&tree, keep), 150);
    lw_flame_tree_deinit(&tree);
}

static void test_outward_by_live_blocks(void **state)
{
    struct lw_report_stack stacks[] = {stack_of(0, 3, 100, 1), stack_of(3, 3, 50, 2),
                                       stack_of(6, 2, 400, 1), stack_of(8, 2, 10, 1)};
    struct lw_report report = {.stacks = stacks, .every_count = 4};
    struct lw_flame_tree tree;

    (void)state;
    assert_int_equal(lw_flame_tree_build(&tree, &report, LW_WEIGHT_LIVE_BLOCKS, LW_FLAME_OUTWARD),
                     0);
    const struct lw_flame_node *root = &tree.nodes.items[0];
    expect_node(root, NULL, 1120, 9);
    assert_int_equal(lw_flame_node_value(&tree, root), 9);
    expect_node(child(&tree, root, 0), "malloc", 300, 5);
    const struct lw_flame_node *cut = child(&tree, root, 2);
    assert_int_equal(cut->frame->address, 0x20);
    assert_true(child(&tree, child(&tree, cut, 0), 0)->truncated); /* beyond the outermost */
    lw_flame_tree_deinit(&tree);
}

static void test_nothing(void **state)
{
    struct lw_report report = {0};
    struct lw_flame_tree tree;

    (void)state;
    assert_int_equal(lw_flame_tree_build(&tree, &report, LW_WEIGHT_LIVE_BYTES, LW_FLAME_INWARD), 0);
    assert_int_equal(tree.nodes.count, 1);
    assert_int_equal(lw_flame_node_value(&tree, &tree.nodes.items[0]), 0);
    lw_flame_tree_deinit(&tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inward),
        cmocka_unit_test(test_outward_by_live_blocks),
        cmocka_unit_test(test_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
