/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Remembers how the expired bytes of each stack have grown. */
#include "growth.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/clock.h"

void lw_growth_table_deinit(struct lw_growth_table *table)
{
    for (size_t i = 0; i < table->capacity; i++)
        free(table->by_id[i]);
    free(table->by_id);
    *table = (struct lw_growth_table){0};
}

static int reserve(struct lw_growth_table *table, size_t id)
{
    if (id < table->capacity)
        return 0;
    const size_t capacity = id + id / 2 + 1;
    struct lw_growth **grown = realloc(table->by_id, capacity * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    memset(grown + table->capacity, 0, (capacity - table->capacity) * sizeof(*grown));
    table->by_id = grown;
    table->capacity = capacity;
    return 0;
}

static struct lw_growth_point point_of(const struct lw_snapshot_stack *facts,
                                       const struct lw_report_context *context)
{
    return (struct lw_growth_point){
        .bytes = facts->stats.expired_bytes,
        .seconds = (float)((double)context->elapsed_ns / (double)LW_NS_PER_SECOND),
        .error = (float)facts->expired_bytes_error,
    };
}

static const struct lw_growth *growth_of(const struct lw_growth_table *table, uint32_t id)
{
    return id < table->capacity ? table->by_id[id] : NULL;
}

int lw_growth_table_note(struct lw_growth_table *table, const struct lw_snapshot *snapshot,
                         const struct lw_report_context *context)
{
    if (context->summary)
        return 0;
    for (size_t i = 0; i < snapshot->stack_count; i++) {
        const struct lw_snapshot_stack *facts = &snapshot->stacks[i];
        const uint32_t id = facts->stack->id;
        if (!growth_of(table, id)) {
            if (facts->stats.expired_blocks == 0)
                continue;
            if (reserve(table, id) != 0)
                return -ENOMEM;
            table->by_id[id] = calloc(1, sizeof(*table->by_id[id]));
            if (!table->by_id[id])
                return -ENOMEM;
        }
        lw_growth_add(table->by_id[id], point_of(facts, context));
    }
    return 0;
}

/* Most summaries follow a report within moments: they have nothing to add. */
static bool is_step(const struct lw_growth *growth, const struct lw_growth_point *point)
{
    const struct lw_growth_point *points = growth->points;
    if (growth->count < 2)
        return true;
    const float mean =
        (points[growth->count - 1].seconds - points[0].seconds) / (float)(growth->count - 1);
    return point->seconds - points[growth->count - 1].seconds >= mean / 2;
}

struct lw_verdict lw_growth_table_judge(const struct lw_growth_table *table,
                                        const struct lw_snapshot_stack *facts, uint64_t expire_ns,
                                        const struct lw_report_context *context)
{
    const struct lw_growth *growth = growth_of(table, facts->stack->id);
    if (!context->summary)
        return lw_verdict_judge(growth, facts, expire_ns);
    struct lw_growth last = growth ? *growth : (struct lw_growth){0};
    const struct lw_growth_point point = point_of(facts, context);
    if (facts->stats.expired_blocks > 0 && is_step(&last, &point))
        lw_growth_add(&last, point);
    return lw_verdict_judge(&last, facts, expire_ns);
}
