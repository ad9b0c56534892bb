/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stacks of a report merged into a tree: each call once, with the sums of all behind it. */
#ifndef LEAKWATCH_SRC_REPORT_FLAME_TREE_H
#define LEAKWATCH_SRC_REPORT_FLAME_TREE_H

#include "leakwatch/base/vector.h"
#include "leakwatch/report/report.h"

struct lw_flame_node {
    const struct lw_report_frame *frame; /* the first that was met; NULL: see `truncated` */
    bool truncated;     /* stands for the unknown callers of a stack that was cut; else the root */
    bool several_lines; /* frames at other lines of the function were merged into it */
    uint32_t depth;     /* of the root 0 */
    uint64_t bytes, blocks;             /* expired or live ones */
    uint32_t first_child, next_sibling; /* indices, 0: none; the largest first */
};

/* From the outermost functions inward, or from the innermost outward. */
enum lw_flame_direction { LW_FLAME_INWARD, LW_FLAME_OUTWARD };

/* All zero is a tree of nothing. Frames are the report's, which outlives it. */
struct lw_flame_tree {
    LW_VECTOR(struct lw_flame_node) nodes; /* the first is the root */
    enum lw_weight weight;
    uint32_t max_depth;
};

/* Over all stacks that have any of `weight`. 0 or -ENOMEM, and then only to be deinitialised. */
int lw_flame_tree_build(struct lw_flame_tree *tree, const struct lw_report *report,
                        enum lw_weight weight, enum lw_flame_direction direction);
void lw_flame_tree_deinit(struct lw_flame_tree *tree);

/* What the node's width is: bytes or blocks, as the tree's weight says. */
uint64_t lw_flame_node_value(const struct lw_flame_tree *tree, const struct lw_flame_node *node);

#endif
