/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Builds a report from a snapshot: chooses stacks, sorts them, compares with the last report, names
 * frames. */
#include "leakwatch/report/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cohort.h"
#include "growth.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/vector.h"
#include "naming.h"
#include "suppressor.h"

/* A line through (time, RSS) points, updated point by point (Welford), so that a watch of weeks
 * costs no memory and does not lose digits to the size of the sums. */
struct trend {
    double count, mean_x, mean_y, xx, xy;
};

/* Variance of the times, s^2, that a trend takes: of two that are a second apart. */
#define MIN_SPREAD 0.25
/* Of the history: as many as a plot can show. */
#define MAX_POINTS 2048

struct remembered {
    uint64_t bytes, blocks;
};

struct lw_report_builder {
    struct lw_report_options options;
    struct lw_symbolizer *symbolizer;
    struct lw_module_table *modules;
    struct lw_progress *progress; /* NULL: nobody is to be told */
    struct lw_suppressor suppressor;
    uint32_t read_stacks; /* up to this id, the modules that stacks are in have been read */

    bool has_previous;
    struct lw_ledger_totals totals; /* of the last report */
    struct remembered *expired;     /* of the last report, by stack id (ids are dense) */
    size_t expired_capacity;
    struct lw_growth_table growth; /* of each stack */
    struct trend rss;
    LW_VECTOR(struct lw_report_point) history;
    unsigned stride, skipped; /* of so many reports one becomes a point; since the last one */
};

struct lw_report_builder *lw_report_builder_create(const struct lw_report_options *options,
                                                   struct lw_symbolizer *symbolizer,
                                                   struct lw_module_table *modules)
{
    struct lw_report_builder *builder = calloc(1, sizeof(*builder));

    if (!builder)
        return NULL;
    builder->options = *options;
    builder->symbolizer = symbolizer;
    builder->modules = modules;
    builder->suppressor = (struct lw_suppressor){
        .set = options->suppressions, .symbolizer = symbolizer, .modules = modules};
    builder->stride = 1;
    return builder;
}

void lw_report_builder_destroy(struct lw_report_builder *builder)
{
    if (!builder)
        return;
    free(builder->expired);
    lw_growth_table_deinit(&builder->growth);
    lw_vector_deinit(&builder->history);
    lw_suppressor_deinit(&builder->suppressor);
    free(builder);
}

void lw_report_builder_tell(struct lw_report_builder *builder, struct lw_progress *progress)
{
    builder->progress = progress;
}

static void trend_add(struct trend *trend, double x, double y)
{
    double dx = x - trend->mean_x;

    trend->count += 1;
    trend->mean_x += dx / trend->count;
    trend->mean_y += (y - trend->mean_y) / trend->count;
    trend->xx += dx * (x - trend->mean_x);
    trend->xy += dx * (y - trend->mean_y);
}

/* RSS against time. A summary has no point of its own: the recorder's memory is gone by then. */
static void add_rss(struct lw_report_builder *builder, struct lw_report *report)
{
    const struct lw_report_context *context = &report->context;
    struct trend *trend = &builder->rss;

    if (context->rss_bytes != 0 && !context->summary)
        trend_add(trend, (double)context->elapsed_ns / LW_NS_PER_SECOND,
                  (double)context->rss_bytes);
    /* Two points closer than a second together can make any slope of a few pages. */
    if (trend->count < 2 || trend->xx < trend->count * MIN_SPREAD)
        return;
    report->has_rss_trend = true;
    double slope = trend->xy / trend->xx * 60;
    report->rss_per_minute = (int64_t)(slope + (slope < 0 ? -0.5 : 0.5));
}

/* Makes room for one more point by leaving out every second one. */
static void thin_history(struct lw_report_builder *builder)
{
    if (builder->history.count < MAX_POINTS)
        return;
    for (size_t i = 0; i < builder->history.count; i += 2)
        builder->history.items[i / 2] = builder->history.items[i];
    builder->history.count = (builder->history.count + 1) / 2;
    builder->stride *= 2;
}

/* The last point is always that of this report: one that is not to stay is written over by the
 * next. */
static int add_point(struct lw_report_builder *builder, struct lw_report *report)
{
    const struct lw_report_point point = {
        .elapsed_ns = report->context.elapsed_ns,
        .live_bytes = report->totals.live_bytes,
        .expired_bytes = report->totals.expired_bytes,
        /* by the summary, the recorder in the process and its memory are gone: no growth of its own
         */
        .rss_bytes = report->context.summary ? 0 : report->context.rss_bytes,
        .suppressed_live_bytes = report->suppressed.live_bytes,
        .suppressed_expired_bytes = report->suppressed.expired_bytes,
    };
    int result = 0;

    if (builder->skipped > 0 && builder->history.count > 0) {
        builder->history.items[builder->history.count - 1] = point;
    } else {
        thin_history(builder);
        result = lw_vector_push(&builder->history, point);
    }
    if (++builder->skipped >= builder->stride)
        builder->skipped = 0;
    report->history = builder->history.items;
    report->history_count = builder->history.count;
    return result;
}

static struct remembered previous_of(const struct lw_report_builder *builder, uint32_t id,
                                     bool summary)
{
    if (summary || id >= builder->expired_capacity)
        return (struct remembered){0};
    return builder->expired[id];
}

static bool has_something_to_say(const struct lw_stack_stats *stats, bool summary)
{
    if (stats->expired_blocks > 0)
        return true;
    return summary && (stats->live_blocks > 0 || stats->late_frees > 0);
}

/* Unsigned subtraction wraps and the conversion back is the signed difference. */
static int64_t difference(uint64_t now, uint64_t before)
{
    return (int64_t)(now - before);
}

/* Behind those that are there; `report` has room. */
static void add_stack(const struct lw_report_builder *builder, const struct lw_snapshot *snapshot,
                      const struct lw_snapshot_stack *facts, struct lw_report *report)
{
    struct lw_report_stack *stack = &report->stacks[report->every_count++];
    struct remembered before = previous_of(builder, facts->stack->id, report->context.summary);

    stack->id = facts->stack->id;
    stack->facts = *facts;
    stack->delta_bytes = difference(facts->stats.expired_bytes, before.bytes);
    stack->delta_blocks = difference(facts->stats.expired_blocks, before.blocks);
    stack->verdict =
        lw_growth_table_judge(&builder->growth, facts, snapshot->expire_ns, &report->context);
    if (builder->options.show_blocks && snapshot->blocks && facts->block_count > 0) {
        stack->blocks = snapshot->blocks + facts->first_block;
        stack->block_count = facts->block_count;
    }
}

/* Adds those stacks that have something to say (`listed`), or the others; but not suppressed ones.
 */
static int add_stacks(struct lw_report_builder *builder, const struct lw_snapshot *snapshot,
                      bool listed, struct lw_report *report)
{
    for (size_t i = 0; i < snapshot->stack_count; i++) {
        const struct lw_snapshot_stack *facts = &snapshot->stacks[i];

        if (has_something_to_say(&facts->stats, report->context.summary) != listed)
            continue;
        int hidden = lw_suppressor_hides(&builder->suppressor, facts, listed, report);
        if (hidden < 0)
            return hidden;
        if (!hidden)
            add_stack(builder, snapshot, facts, report);
    }
    return 0;
}

static int choose_stacks(struct lw_report_builder *builder, const struct lw_snapshot *snapshot,
                         struct lw_report *report)
{
    report->stacks = calloc(snapshot->stack_count + 1, sizeof(*report->stacks));
    if (!report->stacks || lw_suppressor_begin(&builder->suppressor, report) != 0)
        return -ENOMEM;
    /* Suppressions go by names, those of stacks that are not listed too. */
    if (report->suppression_count > 0 && snapshot->stack_count > 0) {
        if (lw_report_read_modules(snapshot, builder->read_stacks, builder->symbolizer,
                                   builder->modules, builder->progress) != 0)
            return -ENOMEM;
        builder->read_stacks = snapshot->stacks[snapshot->stack_count - 1].stack->id;
    }
    int result = add_stacks(builder, snapshot, true, report);
    report->stack_total = report->stack_count = report->every_count;
    if (result == 0 && builder->options.every_stack)
        result = add_stacks(builder, snapshot, false, report);
    return result;
}

static uint64_t sort_key(const struct lw_report_stack *stack, enum lw_report_sort sort)
{
    switch (sort) {
    case LW_SORT_BLOCKS:
        return stack->facts.stats.expired_blocks;
    case LW_SORT_AGE:
        return stack->facts.expired_oldest_ns;
    case LW_SORT_GROWTH: /* signed order as unsigned order */
        return (uint64_t)stack->delta_bytes ^ (1ull << 63);
    case LW_SORT_BYTES:
        break;
    }
    return stack->facts.stats.expired_bytes;
}

/* Among stacks that the key holds equal; only a summary has stacks with nothing expired. */
static uint64_t live_key(const struct lw_report_stack *stack, enum lw_report_sort sort)
{
    if (sort == LW_SORT_BLOCKS)
        return stack->facts.stats.live_blocks;
    if (sort == LW_SORT_AGE)
        return stack->facts.live_oldest_ns;
    return stack->facts.stats.live_bytes;
}

struct sort_order {
    enum lw_report_sort sort;
    bool summary;
};

static int compare_stacks(const void *left, const void *right, void *data)
{
    const struct lw_report_stack *a = left, *b = right;
    const struct sort_order *order = data;
    uint64_t key_a = sort_key(a, order->sort), key_b = sort_key(b, order->sort);

    if (key_a == key_b && order->summary) {
        key_a = live_key(a, order->sort);
        key_b = live_key(b, order->sort);
    }
    if (key_a != key_b)
        return key_a > key_b ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

static void sort_and_cut(const struct lw_report_builder *builder, struct lw_report *report)
{
    struct sort_order order = {builder->options.sort, report->context.summary};
    size_t top = builder->options.top;

    qsort_r(report->stacks, report->stack_count, sizeof(*report->stacks), compare_stacks, &order);
    if (top == 0 || report->stack_count <= top)
        return;
    for (size_t i = top; i < report->stack_count; i++) {
        report->cut_bytes += report->stacks[i].facts.stats.expired_bytes;
        report->cut_blocks += report->stacks[i].facts.stats.expired_blocks;
    }
    report->stack_count = top;
    if (!builder->options.every_stack)
        report->every_count = top;
}

/* Makes room to remember every stack of the snapshot; done first, so that a report which fails
 * leaves the builder as it was. */
static int reserve_memory(struct lw_report_builder *builder, const struct lw_snapshot *snapshot)
{
    size_t needed = 1;

    for (size_t i = 0; i < snapshot->stack_count; i++)
        if (snapshot->stacks[i].stack->id >= needed)
            needed = (size_t)snapshot->stacks[i].stack->id + 1;
    if (needed <= builder->expired_capacity)
        return 0;
    needed += needed / 2;
    struct remembered *grown = realloc(builder->expired, needed * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    memset(grown + builder->expired_capacity, 0,
           (needed - builder->expired_capacity) * sizeof(*grown));
    builder->expired = grown;
    builder->expired_capacity = needed;
    return 0;
}

static void remember(struct lw_report_builder *builder, const struct lw_snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->stack_count; i++) {
        const struct lw_snapshot_stack *stack = &snapshot->stacks[i];

        builder->expired[stack->stack->id] =
            (struct remembered){stack->stats.expired_bytes, stack->stats.expired_blocks};
    }
    builder->totals = snapshot->totals;
    builder->has_previous = true;
}

static void compare_totals(const struct lw_report_builder *builder, struct lw_report *report)
{
    struct lw_ledger_totals before = {0};

    report->has_previous = builder->has_previous && !report->context.summary;
    if (report->has_previous)
        before = builder->totals;
    report->delta_live_bytes = difference(report->totals.live_bytes, before.live_bytes);
    report->delta_expired_bytes = difference(report->totals.expired_bytes, before.expired_bytes);
    report->delta_expired_blocks = difference(report->totals.expired_blocks, before.expired_blocks);
}

struct lw_report *lw_report_build(struct lw_report_builder *builder,
                                  const struct lw_snapshot *snapshot,
                                  const struct lw_report_context *context)
{
    struct lw_report *report = calloc(1, sizeof(*report));

    if (!report)
        return NULL;
    report->context = *context;
    report->expire_ns = snapshot->expire_ns;
    report->totals = snapshot->totals;
    report->events = snapshot->events;
    report->losses = snapshot->losses;
    report->sample_bytes = snapshot->sample_bytes;
    report->live_bytes_error = snapshot->live_bytes_error;
    report->expired_bytes_error = snapshot->expired_bytes_error;
    if (reserve_memory(builder, snapshot) != 0 ||
        lw_growth_table_note(&builder->growth, snapshot, context) != 0 ||
        choose_stacks(builder, snapshot, report) != 0)
        goto fail;
    sort_and_cut(builder, report);
    if (lw_cohort_tell(report, snapshot, &builder->suppressor, builder->options.top) != 0 ||
        lw_report_name_stacks(report, builder->symbolizer, builder->modules, builder->progress) !=
            0 ||
        add_point(builder, report) != 0)
        goto fail;
    compare_totals(builder, report);
    add_rss(builder, report);
    if (!context->summary)
        remember(builder, snapshot);
    return report;

fail:
    lw_report_destroy(report);
    return NULL;
}

/* What is in the totals alone (blocks without a stack) counts too; but of estimates, a part is not
 * taken from the whole. */
bool lw_report_has_leaks(const struct lw_report *report)
{
    bool expired = report->cut_blocks > 0;

    for (size_t i = 0; i < report->stack_count; i++)
        expired |= report->stacks[i].facts.stats.expired_blocks > 0;
    if (report->suppressed.expired_blocks == 0 || report->sample_bytes == 0)
        expired |= report->totals.expired_blocks > report->suppressed.expired_blocks;
    return expired;
}

const char *lw_weight_name(enum lw_weight weight)
{
    static const char *const names[] = {
        [LW_WEIGHT_EXPIRED_BYTES] = "expired-bytes",
        [LW_WEIGHT_EXPIRED_BLOCKS] = "expired-blocks",
        [LW_WEIGHT_LIVE_BYTES] = "live-bytes",
        [LW_WEIGHT_LIVE_BLOCKS] = "live-blocks",
    };

    return names[weight];
}

bool lw_weight_is_live(enum lw_weight weight)
{
    return weight == LW_WEIGHT_LIVE_BYTES || weight == LW_WEIGHT_LIVE_BLOCKS;
}

uint64_t lw_report_stack_weight(const struct lw_report_stack *stack, enum lw_weight weight)
{
    const struct lw_stack_stats *stats = &stack->facts.stats;

    switch (weight) {
    case LW_WEIGHT_EXPIRED_BLOCKS:
        return stats->expired_blocks;
    case LW_WEIGHT_LIVE_BYTES:
        return stats->live_bytes;
    case LW_WEIGHT_LIVE_BLOCKS:
        return stats->live_blocks;
    case LW_WEIGHT_EXPIRED_BYTES:
        break;
    }
    return stats->expired_bytes;
}

void lw_report_destroy(struct lw_report *report)
{
    if (!report)
        return;
    for (size_t i = 0; i < report->every_count; i++)
        free(report->stacks[i].frames);
    free(report->stacks);
    lw_report_cohort_deinit(&report->cohort);
    free(report->modules);
    free(report->suppressions);
    free(report);
}
