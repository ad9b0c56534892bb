/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Judges a stack by its growth and by how long its blocks live. */
#include "leakwatch/report/verdict.h"

#include <math.h>
#include <stdio.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/base/units.h"
#include "text_pen.h"

/* A stack of which fewer steps are known is not judged: what is allocated once, when the watch
 * begins, comes of age in one or two. */
#define LEAST_STEPS 3
/* Growth is steady when it fills so much of the time. */
#define STEADY 0.75
/* Of the later half: what is less is flat, unless it is steady. */
#define LEAST_GROWTH 0.05
/* And it is at least such a part of all ups and downs, since what goes up and down ends higher in
 * one of two cases. */
#define LEAST_TREND 0.5
/* Lifetimes are so much longer in the future, and may be told in steps (engine record). */
#define MARGIN   1.25
#define ROUGH_NS (50 * LW_NS_PER_MS)

/* ---- history --------------------------------------------------------------------------------- */

void lw_growth_add(struct lw_growth *growth, struct lw_growth_point point)
{
    if (growth->stride == 0)
        growth->stride = 1;
    if (growth->skipped > 0) {
        growth->points[growth->count - 1] = point;
    } else {
        if (growth->count == LW_GROWTH_POINTS) {
            for (size_t i = 0; i < LW_GROWTH_POINTS; i += 2)
                growth->points[i / 2] = growth->points[i];
            growth->count = LW_GROWTH_POINTS / 2;
            growth->stride *= 2;
        }
        growth->points[growth->count++] = point;
    }
    if (++growth->skipped >= growth->stride)
        growth->skipped = 0;
}

/* A part of a history: from one of its points to the last. */
struct part {
    unsigned steps, grew;
    double seconds, grew_seconds;
    double change, moved; /* bytes: what is left of all ups and downs, and these together */
    double error;         /* of the change */
};

static struct part part_from(const struct lw_growth *growth, uint32_t first, bool only_grows)
{
    const struct lw_growth_point *points = growth->points;
    struct part part = {0};
    for (uint32_t i = first + 1; i < growth->count; i++) {
        const double change = (double)points[i].bytes - (double)points[i - 1].bytes;
        const double seconds = (double)points[i].seconds - (double)points[i - 1].seconds;
        part.steps++;
        part.seconds += seconds;
        part.change += change;
        part.moved += fabs(change);
        if (change > 0) {
            part.grew++;
            part.grew_seconds += seconds;
        }
    }
    /* What is there at both ends has the same error at both, unless blocks went meanwhile. */
    const double before = points[first].error, after = points[growth->count - 1].error;
    const double both =
        only_grows ? after * after - before * before : after * after + before * before;
    part.error = both > 0 ? sqrt(both) : 0;
    return part;
}

/* The last point of the earlier half of the time. */
static uint32_t middle_of(const struct lw_growth *growth)
{
    const struct lw_growth_point *points = growth->points;
    const float half = (points[0].seconds + points[growth->count - 1].seconds) / 2;
    uint32_t middle = 0;
    while (middle + 2 < growth->count && points[middle + 1].seconds <= half)
        middle++;
    return middle;
}

static bool is_steady(const struct part *part)
{
    return part->grew > 0 && part->grew_seconds >= STEADY * part->seconds;
}

static bool is_growth(const struct part *part, double bytes)
{
    if (part->change <= 2 * part->error || part->change < LEAST_TREND * part->moved)
        return false;
    return part->change > 0 && (part->change >= LEAST_GROWTH * bytes || is_steady(part));
}

/* ---- thresholds ------------------------------------------------------------------------------ */

/* What a person would type. */
static uint64_t round_up(double ns)
{
    static const double steps[] = {1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 45};
    static const uint64_t units[] = {LW_NS_PER_SECOND, 60 * LW_NS_PER_SECOND,
                                     3600 * LW_NS_PER_SECOND};
    const uint64_t day = 24 * 3600 * LW_NS_PER_SECOND;
    if (ns <= 0.95 * (double)LW_NS_PER_SECOND)
        return (uint64_t)ceil(ns / (double)ROUGH_NS) * ROUGH_NS;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        for (size_t j = 0; j < sizeof(steps) / sizeof(steps[0]); j++)
            if (ns <= steps[j] * (double)units[i])
                return (uint64_t)(steps[j] * (double)units[i]);
    return (uint64_t)ceil(ns / (double)day) * day;
}

const char *lw_verdict_threshold(uint64_t ns, char buffer[LW_THRESHOLD_MAX])
{
    static const struct {
        unsigned long long ns;
        const char *name;
    } units[] = {{24 * 3600 * LW_NS_PER_SECOND, "d"},
                 {3600 * LW_NS_PER_SECOND, "h"},
                 {60 * LW_NS_PER_SECOND, "m"},
                 {LW_NS_PER_SECOND, "s"}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (ns % units[i].ns != 0)
            continue;
        snprintf(buffer, LW_THRESHOLD_MAX, "%llu%s", ns / units[i].ns, units[i].name);
        return buffer;
    }
    if (ns > LW_NS_PER_SECOND)
        snprintf(buffer, LW_THRESHOLD_MAX, "%.3gs", (double)ns / (double)LW_NS_PER_SECOND);
    else
        snprintf(buffer, LW_THRESHOLD_MAX, "%llums", ns / LW_NS_PER_MS);
    return buffer;
}

/* ---- the verdict ----------------------------------------------------------------------------- */

/* Not one block lives on that is much older than those that were freed became, though the stack has
 * been there for longer than that: all are freed in the end. A cache that drops by age looks like
 * this too; one whose favourites stay does not. */
static bool is_turned_over(const struct lw_growth *growth, const struct lw_snapshot_stack *facts,
                           uint64_t expire_ns)
{
    const double freed = (double)facts->stats.lifetime_max_ns;
    const double oldest = (double)facts->live_oldest_ns;
    const double longest = freed > oldest ? freed : oldest;
    const float seconds = growth->points[growth->count - 1].seconds - growth->points[0].seconds;
    const double known = (double)seconds * (double)LW_NS_PER_SECOND + (double)expire_ns;
    return facts->stats.late_frees > 0 && oldest <= freed * MARGIN + (double)ROUGH_NS &&
           known > longest * MARGIN;
}

static void suggest(struct lw_verdict *verdict, const struct lw_snapshot_stack *facts)
{
    verdict->kind = LW_VERDICT_SLOW;
    verdict->longest_ns = facts->stats.lifetime_max_ns > facts->live_oldest_ns
                              ? facts->stats.lifetime_max_ns
                              : facts->live_oldest_ns;
    verdict->suggested_ns = round_up((double)verdict->longest_ns * MARGIN);
}

static void tell_part(struct lw_verdict *verdict, const struct part *part, bool recent)
{
    verdict->steps = part->steps;
    verdict->grew = part->grew;
    verdict->change_bytes = (int64_t)part->change;
    verdict->recent = recent;
}

static double height_of(const struct lw_growth *growth)
{
    uint64_t height = 0;
    for (uint32_t i = 0; i < growth->count; i++)
        if (growth->points[i].bytes > height)
            height = growth->points[i].bytes;
    return (double)height;
}

/* By its growth, with steps enough to tell. */
static void judge_growth(struct lw_verdict *verdict, const struct lw_growth *growth,
                         const struct lw_snapshot_stack *facts)
{
    const struct lw_stack_stats *stats = &facts->stats;
    const double bytes = (double)growth->points[growth->count - 1].bytes;
    const bool only_grows = stats->late_frees == 0;
    const struct part whole = part_from(growth, 0, only_grows);
    const struct part later = part_from(growth, middle_of(growth), only_grows);
    const uint64_t ever_expired = stats->expired_blocks + stats->late_frees;
    /* what was folded may have been freed since */
    const bool kept = (stats->late_frees + facts->folded_blocks) * 100 <= ever_expired;
    if (is_growth(&later, bytes)) {
        const bool recent =
            !is_steady(&whole) && later.steps >= LEAST_STEPS && later.grew == later.steps;
        verdict->kind =
            kept && (recent || is_steady(&whole)) ? LW_VERDICT_LEAK : LW_VERDICT_GROWING;
        tell_part(verdict, recent ? &later : &whole, recent);
    } else if (stats->late_frees > 0 && bytes * 2 <= height_of(growth)) {
        verdict->kind = LW_VERDICT_SLOW;
        verdict->change_bytes = (int64_t)(bytes - height_of(growth));
    } else if (2 * later.error <= bytes / 4) { /* else it may have grown by a quarter unseen */
        verdict->kind = LW_VERDICT_CACHE;
        tell_part(verdict, &later, true);
    }
}

struct lw_verdict lw_verdict_judge(const struct lw_growth *growth,
                                   const struct lw_snapshot_stack *facts, uint64_t expire_ns)
{
    const struct lw_stack_stats *stats = &facts->stats;
    struct lw_verdict verdict = {.stride = 1};
    if (growth && growth->count > 0) {
        const struct part whole = part_from(growth, 0, true);
        tell_part(&verdict, &whole, false);
        verdict.stride = growth->stride;
        verdict.has_growth = whole.seconds >= 1; /* of less, a few bytes would make any rate */
        const struct part later = part_from(growth, middle_of(growth), true);
        if (verdict.has_growth)
            verdict.growth_minute = llround(later.change / later.seconds * 60);
    }
    if (stats->expired_blocks == 0 && stats->late_frees > 0)
        suggest(&verdict, facts);
    else if (verdict.steps >= LEAST_STEPS && is_turned_over(growth, facts, expire_ns))
        suggest(&verdict, facts);
    else if (verdict.steps >= LEAST_STEPS)
        judge_growth(&verdict, growth, facts);
    return verdict;
}

/* ---- words ----------------------------------------------------------------------------------- */

const char *lw_verdict_name(enum lw_verdict_kind kind)
{
    static const char *const names[] = {
        [LW_VERDICT_UNCLEAR] = "unclear", [LW_VERDICT_LEAK] = "leak",
        [LW_VERDICT_GROWING] = "growing", [LW_VERDICT_CACHE] = "cache",
        [LW_VERDICT_SLOW] = "slow",
    };
    return names[kind];
}

/* "the last 4 reports", "12 spans of 8 reports" */
static const char *steps_text(const struct lw_verdict *verdict, char buffer[64])
{
    const char *last = verdict->recent ? "the last " : "";
    if (verdict->stride > 1)
        snprintf(buffer, 64, "%s%u spans of %u reports", last, verdict->steps, verdict->stride);
    else
        snprintf(buffer, 64, "%s%u report%s", last, verdict->steps, lw_plural(verdict->steps));
    return buffer;
}

static void explain_growth(const struct lw_verdict *verdict, const struct lw_snapshot_stack *facts,
                           uint64_t expire_ns, char buffer[LW_REASON_MAX])
{
    const struct lw_stack_stats *stats = &facts->stats;
    char steps[64], blocks[LW_UNITS_MAX], expire[LW_UNITS_MAX], late[LW_UNITS_MAX];
    steps_text(verdict, steps);
    lw_format_setting(expire_ns, expire);
    if (facts->folded_blocks > 0)
        snprintf(buffer, LW_REASON_MAX,
                 "grew in %u of %s; whether %s folded block%s freed is not known", verdict->grew,
                 steps, lw_format_count(facts->folded_blocks, blocks),
                 facts->folded_blocks == 1 ? " was" : "s were");
    else if (stats->frees == 0)
        snprintf(buffer, LW_REASON_MAX, "grew in %u of %s; none of %s blocks was freed",
                 verdict->grew, steps, lw_format_count(stats->allocs, blocks));
    else if (stats->late_frees == 0)
        snprintf(buffer, LW_REASON_MAX, "grew in %u of %s; no block that outlived %s was freed",
                 verdict->grew, steps, expire);
    else
        snprintf(buffer, LW_REASON_MAX,
                 "grew in %u of %s; of %s blocks that outlived %s, %s %s freed", verdict->grew,
                 steps, lw_format_count(stats->expired_blocks + stats->late_frees, blocks), expire,
                 lw_format_count(stats->late_frees, late), stats->late_frees == 1 ? "was" : "were");
}

static void explain_slow(const struct lw_verdict *verdict, const struct lw_stack_stats *stats,
                         char buffer[LW_REASON_MAX])
{
    char count[LW_UNITS_MAX], text[LW_UNITS_MAX], threshold[LW_THRESHOLD_MAX];
    lw_format_count(stats->late_frees, count);
    if (verdict->suggested_ns != 0)
        snprintf(buffer, LW_REASON_MAX, "%s late free%s, and no block older than %s; try -e %s",
                 count, lw_plural(stats->late_frees), lw_format_time(verdict->longest_ns, text),
                 lw_verdict_threshold(verdict->suggested_ns, threshold));
    else
        snprintf(buffer, LW_REASON_MAX, "given back by %s late free%s: %s since its height", count,
                 lw_plural(stats->late_frees), lw_format_size_delta(verdict->change_bytes, text));
}

static void explain_unclear(const struct lw_verdict *verdict, const struct lw_stack_stats *stats,
                            uint64_t expire_ns, char buffer[LW_REASON_MAX])
{
    char expire[LW_UNITS_MAX];
    if (stats->expired_blocks + stats->late_frees == 0)
        snprintf(buffer, LW_REASON_MAX, "no block has outlived %s yet",
                 lw_format_setting(expire_ns, expire));
    else if (verdict->steps < LEAST_STEPS)
        snprintf(buffer, LW_REASON_MAX, "too early to tell: %u of the %d reports that it takes",
                 verdict->steps + 1, LEAST_STEPS + 1);
    else
        snprintf(buffer, LW_REASON_MAX, "too few samples to tell");
}

const char *lw_verdict_reason(const struct lw_verdict *verdict,
                              const struct lw_snapshot_stack *facts, uint64_t expire_ns,
                              char buffer[LW_REASON_MAX])
{
    char steps[64], change[LW_UNITS_MAX];
    switch (verdict->kind) {
    case LW_VERDICT_LEAK:
    case LW_VERDICT_GROWING:
        explain_growth(verdict, facts, expire_ns, buffer);
        break;
    case LW_VERDICT_CACHE:
        snprintf(buffer, LW_REASON_MAX, "filled, then flat: %s in %s",
                 lw_format_size_delta(verdict->change_bytes, change), steps_text(verdict, steps));
        break;
    case LW_VERDICT_SLOW:
        explain_slow(verdict, &facts->stats, buffer);
        break;
    case LW_VERDICT_UNCLEAR:
        explain_unclear(verdict, &facts->stats, expire_ns, buffer);
        break;
    }
    return buffer;
}
