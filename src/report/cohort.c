/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Follows the blocks of a window: what was allocated, what is left, and where. */
#include "cohort.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "leakwatch/base/clock.h"

typedef LW_VECTOR(struct lw_cohort_sum) sum_vector;

void lw_cohort_deinit(struct lw_cohort *cohort)
{
    lw_vector_deinit(&cohort->before);
    lw_vector_deinit(&cohort->after);
    *cohort = (struct lw_cohort){0};
}

void lw_cohort_init(struct lw_cohort *cohort, uint64_t window_ns)
{
    *cohort = (struct lw_cohort){
        .number = 1, .open = true, .window_ns = window_ns, .until_ns = UINT64_MAX};
}

/* What each stack has allocated, by id. */
static int copy_counts(sum_vector *sums, const struct lw_snapshot *snapshot)
{
    int result = 0;
    for (size_t i = 0; i < snapshot->stack_count && result == 0; i++) {
        const struct lw_snapshot_stack *stack = &snapshot->stacks[i]; /* by id */
        while (sums->count < stack->stack->id && result == 0)
            result = lw_vector_push(sums, (struct lw_cohort_sum){0});
        if (result == 0)
            result = lw_vector_push(
                sums, ((struct lw_cohort_sum){stack->stats.alloc_bytes, stack->stats.allocs}));
    }
    return result;
}

int lw_cohort_renew(struct lw_cohort *cohort, const struct lw_snapshot *cut, uint64_t elapsed_ns)
{
    sum_vector before = {0};
    if (copy_counts(&before, cut) != 0) {
        lw_vector_deinit(&before);
        return -ENOMEM;
    }
    const struct lw_cohort renewed = {
        .number = cohort->number + 1,
        .open = true,
        .window_ns = cohort->window_ns,
        .began_ns = elapsed_ns,
        .after_ns = cut->cut_ns,
        .until_ns = UINT64_MAX,
        .before = {before.items, before.count, before.capacity},
    };
    lw_cohort_deinit(cohort);
    *cohort = renewed;
    return 0;
}

int lw_cohort_close(struct lw_cohort *cohort, const struct lw_snapshot *cut, uint64_t elapsed_ns)
{
    sum_vector after = {0};
    if (copy_counts(&after, cut) != 0) {
        lw_vector_deinit(&after);
        return -ENOMEM;
    }
    cohort->after.items = after.items;
    cohort->after.count = after.count;
    cohort->after.capacity = after.capacity;
    cohort->open = false;
    cohort->ended_ns = elapsed_ns;
    cohort->until_ns = cut->cut_ns;
    return 0;
}

static struct lw_cohort_sum sum_at(const struct lw_cohort_sum *items, size_t count, uint32_t id)
{
    return id < count ? items[id] : (struct lw_cohort_sum){0};
}

static uint64_t between(uint64_t before, uint64_t after)
{
    return after > before ? after - before : 0;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* By the stack, in the window. No less than what is live of it: counts and blocks of a target that
 * runs on are not read at one instant, and estimates are rounded. */
static struct lw_cohort_sum allocated_by(const struct lw_cohort *cohort,
                                         const struct lw_snapshot_stack *facts)
{
    const uint32_t id = facts->stack->id;
    const struct lw_cohort_sum before = sum_at(cohort->before.items, cohort->before.count, id);
    struct lw_cohort_sum after = {facts->stats.alloc_bytes, facts->stats.allocs};
    if (!cohort->open)
        after = sum_at(cohort->after.items, cohort->after.count, id);
    return (struct lw_cohort_sum){
        larger(between(before.bytes, after.bytes), facts->marked_bytes),
        larger(between(before.blocks, after.blocks), facts->marked_blocks),
    };
}

static int compare_marked(const void *left, const void *right)
{
    const struct lw_report_stack *a = left, *b = right;
    if (a->facts.marked_bytes != b->facts.marked_bytes)
        return a->facts.marked_bytes > b->facts.marked_bytes ? -1 : 1;
    if (a->facts.marked_blocks != b->facts.marked_blocks)
        return a->facts.marked_blocks > b->facts.marked_blocks ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

static void add_stack(struct lw_report_cohort *told, const struct lw_snapshot_stack *facts,
                      bool suppressed, double *variance)
{
    const struct lw_cohort_sum allocated = allocated_by(told->cohort, facts);
    told->allocated.bytes += allocated.bytes;
    told->allocated.blocks += allocated.blocks;
    told->live.bytes += facts->marked_bytes;
    told->live.blocks += facts->marked_blocks;
    *variance += (double)facts->marked_bytes_error * (double)facts->marked_bytes_error;
    told->suppressed += facts->marked_blocks > 0 && suppressed;
    if (facts->marked_blocks > 0 && !suppressed)
        told->stacks[told->stack_total++] = (struct lw_report_stack){
            .id = facts->stack->id, .facts = *facts, .allocated_marked = allocated};
}

int lw_cohort_tell(struct lw_report *report, const struct lw_snapshot *snapshot,
                   struct lw_suppressor *suppressor, size_t top)
{
    struct lw_cohort *cohort = report->context.cohort;
    struct lw_report_cohort *told = &report->cohort;
    double variance = 0;
    if (!cohort || cohort->number == 0)
        return 0;
    told->stacks = calloc(snapshot->stack_count + 1, sizeof(*told->stacks));
    if (!told->stacks)
        return -ENOMEM;
    told->cohort = cohort;
    for (size_t i = 0; i < snapshot->stack_count; i++) {
        const int suppressed = lw_suppressor_knows(suppressor, &snapshot->stacks[i], report);
        if (suppressed < 0)
            return suppressed;
        add_stack(told, &snapshot->stacks[i], suppressed, &variance);
    }
    told->live_bytes_error = (uint64_t)llround(sqrt(variance));
    qsort(told->stacks, told->stack_total, sizeof(*told->stacks), compare_marked);
    told->stack_count = top != 0 && top < told->stack_total ? top : told->stack_total;
    if (!cohort->open && !report->context.summary)
        lw_growth_add(&cohort->drain, (struct lw_growth_point){
                                          .bytes = told->live.bytes,
                                          .seconds = (float)((double)report->context.elapsed_ns /
                                                             (double)LW_NS_PER_SECOND),
                                          .error = (float)told->live_bytes_error,
                                      });
    return 0;
}

void lw_report_cohort_deinit(struct lw_report_cohort *cohort)
{
    for (size_t i = 0; i < cohort->stack_count; i++)
        free(cohort->stacks[i].frames);
    free(cohort->stacks);
}
