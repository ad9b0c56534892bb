/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The outer frames that stacks of one report have in common. */
#include "outer_frames.h"

/* A line that stands for fewer says no less than they do. */
#define MIN_SHARED 3
/* Of the frames of a stack, without those of the allocator, one in so many must be shared: a stack
 * that has only main and what calls it in common with others is shown in full, so that its like can
 * refer to it. */
#define MIN_SHARE 2
/* Callers of the stack's own frame that are always shown. */
#define MIN_CALLERS 2

void lw_outer_frames_deinit(struct lw_outer_frames *outer)
{
    lw_map_deinit(&outer->ends);
}

/* Whether a stack ends elsewhere than others: cut short. */
static bool is_truncated(const struct lw_report_stack *stack)
{
    return stack->facts.stack->truncated;
}

static uint64_t hash_frame(const struct lw_report_frame *frame, uint64_t outer)
{
    uint64_t hash = lw_hash64(outer ^ frame->offset);

    hash = lw_hash64(hash ^ frame->module_number);
    /* inlined functions are at the same offset */
    hash = lw_hash64(hash ^ ((uint64_t)(uint32_t)frame->line << 2 | (uint64_t)frame->inlined << 1 |
                             (uint64_t)frame->is_return));
    return hash == UINT64_MAX ? 0 : hash; /* which a map does not take */
}

static bool is_same_frame(const struct lw_report_frame *a, const struct lw_report_frame *b)
{
    return a->offset == b->offset && a->module_number == b->module_number && a->line == b->line &&
           a->inlined == b->inlined && a->is_return == b->is_return;
}

/* Whether the `count` outermost frames are the same, and not only their hashes. */
static bool ends_alike(const struct lw_report_stack *a, const struct lw_report_stack *b,
                       size_t count)
{
    if (a->frame_count < count || b->frame_count < count || is_truncated(a) != is_truncated(b))
        return false;
    for (size_t i = 1; i <= count; i++)
        if (!is_same_frame(&a->frames[a->frame_count - i], &b->frames[b->frame_count - i]))
            return false;
    return true;
}

/* The most outermost frames that an earlier stack has too. */
static size_t find_shared(const struct lw_outer_frames *outer, const struct lw_report_stack *stack,
                          size_t *as)
{
    uint64_t hash = is_truncated(stack), index = 0;
    size_t shared = 0;

    while (shared < stack->frame_count) {
        hash = hash_frame(&stack->frames[stack->frame_count - shared - 1], hash);
        if (!lw_map_get(&outer->ends, hash, &index))
            break;
        *as = index;
        shared++;
    }
    return shared;
}

static void remember(struct lw_outer_frames *outer, const struct lw_report_stack *stack,
                     size_t index)
{
    uint64_t hash = is_truncated(stack);

    for (size_t i = stack->frame_count; i > 0; i--) {
        hash = hash_frame(&stack->frames[i - 1], hash);
        if (!lw_map_get(&outer->ends, hash, NULL) && lw_map_set(&outer->ends, hash, index) != 0)
            return;
    }
}

size_t lw_outer_frames_shared(struct lw_outer_frames *outer, const struct lw_report *report,
                              size_t index, size_t own, size_t *as)
{
    const struct lw_report_stack *stack = &report->stacks[index];
    const size_t count = stack->frame_count - own;
    const size_t foldable = count > 1 + MIN_CALLERS ? count - 1 - MIN_CALLERS : 0;
    size_t shared = find_shared(outer, stack, as);

    if (shared > foldable)
        shared = foldable;
    if (shared >= MIN_SHARED && shared >= count / MIN_SHARE &&
        ends_alike(stack, &report->stacks[*as], shared))
        return shared;
    remember(outer, stack, index);
    return 0;
}
