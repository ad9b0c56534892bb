/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stacks of a report merged into a tree: each call once, with the sums of all behind it. */
#include "flame_tree.h"

#include <errno.h>
#include <string.h>

static bool is_same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* One function, wherever in it; without a name, one address. */
static bool is_same_function(const struct lw_report_frame *a, const struct lw_report_frame *b)
{
    if (!a || !b)
        return a == b;
    if (!a->function && !b->function)
        return a->address == b->address;
    return is_same_text(a->function, b->function) && is_same_text(a->module, b->module);
}

static bool is_same_line(const struct lw_report_frame *a, const struct lw_report_frame *b)
{
    return !a || !b || (a->line == b->line && is_same_text(a->file, b->file));
}

/* *index, of a node, becomes that of its child for the frame (NULL: of a truncated stack). */
static int descend(struct lw_flame_tree *tree, uint32_t *index, const struct lw_report_frame *frame)
{
    struct lw_flame_node *parent = &tree->nodes.items[*index];
    uint32_t child = parent->first_child;

    while (child != 0 && !is_same_function(tree->nodes.items[child].frame, frame))
        child = tree->nodes.items[child].next_sibling;
    if (child != 0) {
        struct lw_flame_node *node = &tree->nodes.items[child];
        node->several_lines |= !is_same_line(node->frame, frame);
        *index = child;
        return 0;
    }
    const struct lw_flame_node added = {
        .frame = frame,
        .truncated = !frame,
        .depth = parent->depth + 1,
        .next_sibling = parent->first_child,
    };
    child = (uint32_t)tree->nodes.count;
    int result = lw_vector_push(&tree->nodes, added);
    if (result != 0)
        return result;
    tree->nodes.items[*index].first_child = child; /* the nodes may have moved */
    if (added.depth > tree->max_depth)
        tree->max_depth = added.depth;
    *index = child;
    return 0;
}

static void add_to(struct lw_flame_tree *tree, uint32_t index, const struct lw_report_stack *stack)
{
    struct lw_flame_node *node = &tree->nodes.items[index];
    bool live = lw_weight_is_live(tree->weight);

    node->bytes +=
        lw_report_stack_weight(stack, live ? LW_WEIGHT_LIVE_BYTES : LW_WEIGHT_EXPIRED_BYTES);
    node->blocks +=
        lw_report_stack_weight(stack, live ? LW_WEIGHT_LIVE_BLOCKS : LW_WEIGHT_EXPIRED_BLOCKS);
}

/* A cut stack's unknown callers are beyond its outermost frame. */
static int add_stack(struct lw_flame_tree *tree, const struct lw_report_stack *stack,
                     enum lw_flame_direction direction)
{
    bool truncated = stack->facts.stack && stack->facts.stack->truncated;
    size_t count = stack->frame_count + truncated;
    uint32_t index = 0;
    int result = 0;

    add_to(tree, index, stack);
    for (size_t i = 0; i < count && result == 0; i++) {
        size_t number = direction == LW_FLAME_OUTWARD ? i : count - 1 - i;

        result = descend(tree, &index, number < stack->frame_count ? &stack->frames[number] : NULL);
        add_to(tree, index, stack);
    }
    return result;
}

struct sibling {
    uint64_t value;
    uint32_t index;
};

static int compare_siblings(const void *left, const void *right)
{
    const struct sibling *a = left, *b = right;

    if (a->value != b->value)
        return a->value > b->value ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

typedef LW_VECTOR(struct sibling) sibling_vector;

static int sort_children(struct lw_flame_tree *tree, struct lw_flame_node *node,
                         sibling_vector *siblings)
{
    lw_vector_clear(siblings);
    for (uint32_t i = node->first_child; i != 0; i = tree->nodes.items[i].next_sibling) {
        const struct sibling sibling = {lw_flame_node_value(tree, &tree->nodes.items[i]), i};
        int result = lw_vector_push(siblings, sibling);
        if (result != 0)
            return result;
    }
    if (siblings->count < 2)
        return 0;
    qsort(siblings->items, siblings->count, sizeof(siblings->items[0]), compare_siblings);
    uint32_t *link = &node->first_child;
    lw_vector_for_each (sibling, siblings) {
        *link = sibling->index;
        link = &tree->nodes.items[sibling->index].next_sibling;
    }
    *link = 0;
    return 0;
}

int lw_flame_tree_build(struct lw_flame_tree *tree, const struct lw_report *report,
                        enum lw_weight weight, enum lw_flame_direction direction)
{
    const struct lw_flame_node root = {0};
    sibling_vector siblings = {0};

    *tree = (struct lw_flame_tree){.weight = weight};
    int result = lw_vector_push(&tree->nodes, root);
    for (size_t i = 0; i < report->every_count && result == 0; i++)
        if (lw_report_stack_weight(&report->stacks[i], weight) > 0)
            result = add_stack(tree, &report->stacks[i], direction);
    for (size_t i = 0; i < tree->nodes.count && result == 0; i++)
        result = sort_children(tree, &tree->nodes.items[i], &siblings);
    lw_vector_deinit(&siblings);
    return result;
}

void lw_flame_tree_deinit(struct lw_flame_tree *tree)
{
    lw_vector_deinit(&tree->nodes);
}

uint64_t lw_flame_node_value(const struct lw_flame_tree *tree, const struct lw_flame_node *node)
{
    bool blocks = tree->weight == LW_WEIGHT_EXPIRED_BLOCKS || tree->weight == LW_WEIGHT_LIVE_BLOCKS;

    return blocks ? node->blocks : node->bytes;
}
