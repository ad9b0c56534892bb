/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compares two saved reports: pairs their stacks, and tells what has changed for certain. */
#include "leakwatch/report/diff.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "diff_key.h"
#include "diff_notes.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/map.h"
#include "leakwatch/base/vector.h"

/* Two reports of one process are of the same watch if it began at the same time. The time of day is
 * adjusted now and then. */
#define SAME_START_NS (2 * LW_NS_PER_SECOND)

struct pairing {
    struct lw_diff *diff;
    LW_VECTOR(struct lw_diff_stack) stacks;
    LW_VECTOR(size_t) next; /* of each stack: the next one of the same hash + 1; 0: none */
    struct lw_map first;    /* hash -> the first such stack + 1 */
};

static uint64_t add(uint64_t a, uint64_t b)
{
    return a > INT64_MAX - b ? INT64_MAX : a + b;
}

static uint64_t root_of_squares(uint64_t a, uint64_t b)
{
    double root = hypot((double)a, (double)b);

    return root < (double)INT64_MAX ? (uint64_t)root : INT64_MAX;
}

static void add_amount(struct lw_diff_amount *sum, const struct lw_diff_amount *amount)
{
    sum->bytes = add(sum->bytes, amount->bytes);
    sum->blocks = add(sum->blocks, amount->blocks);
    sum->error = root_of_squares(sum->error, amount->error);
}

static struct lw_diff_amount amount_of(const struct lw_report_stack *stack, bool live)
{
    const struct lw_stack_stats *stats = &stack->facts.stats;

    if (live)
        return (struct lw_diff_amount){stats->live_bytes, stats->live_blocks,
                                       stack->facts.live_bytes_error};
    return (struct lw_diff_amount){stats->expired_bytes, stats->expired_blocks,
                                   stack->facts.expired_bytes_error};
}

static struct lw_diff_amount total_of(const struct lw_report *report, bool live)
{
    const struct lw_ledger_totals *totals = &report->totals;

    if (live)
        return (struct lw_diff_amount){totals->live_bytes, totals->live_blocks,
                                       report->live_bytes_error};
    return (struct lw_diff_amount){totals->expired_bytes, totals->expired_blocks,
                                   report->expired_bytes_error};
}

static uint64_t less(uint64_t whole, uint64_t part)
{
    return whole > part ? whole - part : 0;
}

/* What the report has in all, and how much of that in stacks that it does not list. */
static void sum_side(struct lw_diff_side *side, const struct lw_saved_report *saved, bool live)
{
    const struct lw_report *report = &saved->report;
    struct lw_diff_amount sum = {0};
    uint64_t slack = 0;

    side->saved = saved;
    side->total = total_of(report, live);
    for (size_t i = 0; i < report->stack_count; i++) {
        struct lw_diff_amount amount = amount_of(&report->stacks[i], live);
        add_amount(&sum, &amount);
        side->listed += amount.blocks > 0 || amount.bytes > 0;
    }
    if (!live && side->listed >= report->totals.expired_stacks)
        return;
    if (report->sample_bytes != 0)
        slack = side->listed; /* each estimate was rounded by itself */
    side->unlisted.bytes = less(side->total.bytes, add(sum.bytes, slack));
    side->unlisted.blocks = less(side->total.blocks, add(sum.blocks, slack));
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

/* A report without stacks does not tell the program. */
static bool is_same_watch(const struct lw_report *a, const struct lw_report *b)
{
    const char *x = a->context.exe, *y = b->context.exe;

    return a->context.pid == b->context.pid && (!x[0] || !y[0] || strcmp(x, y) == 0) &&
           distance(a->context.time_ns + b->context.elapsed_ns,
                    b->context.time_ns + a->context.elapsed_ns) <= SAME_START_NS;
}

static struct lw_diff_keyed keyed(const struct lw_diff *diff, const struct lw_report_stack *stack,
                                  bool is_after)
{
    const struct lw_diff_side *side = is_after ? &diff->after : &diff->before;

    return (struct lw_diff_keyed){&side->saved->report, stack, diff->options.by, diff->same_watch};
}

/* That stands for the stack, a new one if there is none yet; NULL: out of memory. */
static struct lw_diff_stack *find_pair(struct pairing *pairing, const struct lw_diff_keyed *wanted)
{
    uint64_t hash = lw_diff_key_hash(wanted), first = 0;

    lw_map_get(&pairing->first, hash, &first);
    for (size_t i = first; i != 0; i = pairing->next.items[i - 1]) {
        struct lw_diff_stack *stack = &pairing->stacks.items[i - 1];
        struct lw_diff_keyed have =
            keyed(pairing->diff, stack->before ? stack->before : stack->after, !stack->before);
        if (lw_diff_key_equal(&have, wanted))
            return stack;
    }
    const struct lw_diff_stack added = {0};
    if (lw_vector_push(&pairing->stacks, added) != 0 ||
        lw_vector_push(&pairing->next, (size_t)first) != 0 ||
        lw_map_set(&pairing->first, hash, pairing->stacks.count) != 0)
        return NULL;
    return &pairing->stacks.items[pairing->stacks.count - 1];
}

static int add_stacks(struct pairing *pairing, bool is_after)
{
    struct lw_diff *diff = pairing->diff;
    const struct lw_diff_side *side = is_after ? &diff->after : &diff->before;

    for (size_t i = 0; i < side->saved->report.stack_count; i++) {
        const struct lw_report_stack *stack = &side->saved->report.stacks[i];
        struct lw_diff_amount amount = amount_of(stack, lw_weight_is_live(diff->options.weight));
        struct lw_diff_keyed wanted = keyed(diff, stack, is_after);
        struct lw_diff_stack *pair = find_pair(pairing, &wanted);

        if (!pair)
            return -ENOMEM;
        add_amount(is_after ? &pair->to : &pair->from, &amount);
        const struct lw_report_stack **shown = is_after ? &pair->after : &pair->before;
        if (!*shown)
            *shown = stack;
    }
    return 0;
}

static int pair_stacks(struct lw_diff *diff)
{
    struct pairing pairing = {.diff = diff};
    int result = add_stacks(&pairing, false);

    if (result == 0)
        result = add_stacks(&pairing, true);
    diff->stacks = pairing.stacks.items;
    diff->stack_count = pairing.stacks.count;
    lw_vector_deinit(&pairing.next);
    lw_map_deinit(&pairing.first);
    return result;
}

/* Of a stack that a sampled report does not have: it may have had blocks none of which was sampled,
 * up to about as many bytes as there are between two samples. */
static void doubt(struct lw_diff_amount *amount, const struct lw_diff_side *side,
                  const struct lw_report_stack *listed)
{
    if (!listed && amount->error < side->saved->report.sample_bytes)
        amount->error = side->saved->report.sample_bytes;
}

static bool is_certain(const struct lw_diff_amount *from, const struct lw_diff_amount *to)
{
    double error = hypot((double)from->error, (double)to->error);

    return error == 0 || (double)distance(from->bytes, to->bytes) > 2 * error;
}

static enum lw_change change_of(const struct lw_diff_amount *from, const struct lw_diff_amount *to,
                                bool blocks)
{
    uint64_t a = blocks ? from->blocks : from->bytes, b = blocks ? to->blocks : to->bytes;

    if (a == b)
        return LW_CHANGE_NONE;
    if (!is_certain(from, to))
        return LW_CHANGE_UNCLEAR;
    if (a < b)
        return from->blocks == 0 && from->bytes == 0 ? LW_CHANGE_NEW : LW_CHANGE_GREW;
    return to->blocks == 0 && to->bytes == 0 ? LW_CHANGE_GONE : LW_CHANGE_SHRANK;
}

/* A stack that is not listed where not all are: whatever it had there, it has changed by at least
 * what exceeds all that is not listed. */
static void judge_bound(struct lw_diff_stack *stack, bool blocks, const struct lw_diff *diff)
{
    bool growth = stack->from_unknown;
    const struct lw_diff_amount *known = growth ? &stack->to : &stack->from;
    const struct lw_diff_amount *most = growth ? &diff->before.unlisted : &diff->after.unlisted;
    uint64_t least = blocks ? less(known->blocks, most->blocks) : less(known->bytes, most->bytes);

    if (stack->change == LW_CHANGE_NONE || stack->change == LW_CHANGE_UNCLEAR)
        return;
    stack->change = least == 0 ? LW_CHANGE_UNCLEAR : growth ? LW_CHANGE_GREW : LW_CHANGE_SHRANK;
    stack->rank = growth ? (int64_t)least : -(int64_t)least;
}

static bool has_unlisted(const struct lw_diff_side *side)
{
    return side->unlisted.bytes > 0 || side->unlisted.blocks > 0;
}

static void judge(struct lw_diff *diff, struct lw_diff_stack *stack)
{
    bool blocks = lw_diff_counts_blocks(diff);

    doubt(&stack->from, &diff->before, stack->before);
    doubt(&stack->to, &diff->after, stack->after);
    stack->change_bytes = (int64_t)stack->to.bytes - (int64_t)stack->from.bytes;
    stack->change_blocks = (int64_t)stack->to.blocks - (int64_t)stack->from.blocks;
    stack->from_unknown = !stack->before && has_unlisted(&diff->before);
    stack->to_unknown = !stack->after && has_unlisted(&diff->after);
    stack->change = change_of(&stack->from, &stack->to, blocks);
    stack->rank = blocks ? stack->change_blocks : stack->change_bytes;
    if (stack->from_unknown || stack->to_unknown)
        judge_bound(stack, blocks, diff);
    if (stack->change == LW_CHANGE_UNCLEAR)
        stack->rank = 0;
    diff->changes[stack->change]++;
}

/* What is certain first, from the most growth to the most shrinkage, what is unclear between them,
 * and at the end what has not changed. */
static int compare(const void *left, const void *right)
{
    const struct lw_diff_stack *a = left, *b = right;
    bool idle_a = a->change == LW_CHANGE_NONE, idle_b = b->change == LW_CHANGE_NONE;

    if (idle_a != idle_b)
        return idle_a ? 1 : -1;
    if (a->rank != b->rank)
        return a->rank > b->rank ? -1 : 1;
    if (a->change_bytes != b->change_bytes)
        return a->change_bytes > b->change_bytes ? -1 : 1;
    const struct lw_report_stack *x = lw_diff_shown_stack(a), *y = lw_diff_shown_stack(b);
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return !a->after - !b->after;
}

struct lw_diff *lw_diff_create(const struct lw_saved_report *before,
                               const struct lw_saved_report *after,
                               const struct lw_diff_options *options)
{
    struct lw_diff *diff = calloc(1, sizeof(*diff));
    bool live = lw_weight_is_live(options->weight);

    if (!diff)
        return NULL;
    diff->options = *options;
    sum_side(&diff->before, before, live);
    sum_side(&diff->after, after, live);
    diff->same_watch = is_same_watch(&before->report, &after->report);
    if (diff->same_watch)
        diff->apart_ns =
            distance(before->report.context.elapsed_ns, after->report.context.elapsed_ns);
    diff->total_change =
        change_of(&diff->before.total, &diff->after.total, lw_diff_counts_blocks(diff));
    if (pair_stacks(diff) != 0 || lw_diff_note(diff) != 0) {
        lw_diff_destroy(diff);
        return NULL;
    }
    for (size_t i = 0; i < diff->stack_count; i++)
        judge(diff, &diff->stacks[i]);
    if (diff->stack_count > 0)
        qsort(diff->stacks, diff->stack_count, sizeof(*diff->stacks), compare);
    return diff;
}

void lw_diff_destroy(struct lw_diff *diff)
{
    if (!diff)
        return;
    for (size_t i = 0; i < diff->note_count; i++)
        free(diff->notes[i]);
    free(diff->notes);
    free(diff->stacks);
    free(diff);
}

const char *lw_change_name(enum lw_change change)
{
    static const char *const names[LW_CHANGE_COUNT] = {
        [LW_CHANGE_GREW] = "grew", [LW_CHANGE_NEW] = "new",        [LW_CHANGE_SHRANK] = "shrank",
        [LW_CHANGE_GONE] = "gone", [LW_CHANGE_NONE] = "unchanged", [LW_CHANGE_UNCLEAR] = "unclear",
    };

    return names[change];
}

bool lw_diff_counts_blocks(const struct lw_diff *diff)
{
    return diff->options.weight == LW_WEIGHT_EXPIRED_BLOCKS ||
           diff->options.weight == LW_WEIGHT_LIVE_BLOCKS;
}

bool lw_diff_has_growth(const struct lw_diff *diff)
{
    return diff->total_change == LW_CHANGE_GREW || diff->total_change == LW_CHANGE_NEW ||
           diff->changes[LW_CHANGE_GREW] > 0 || diff->changes[LW_CHANGE_NEW] > 0;
}

size_t lw_diff_listed(const struct lw_diff *diff)
{
    size_t changed = diff->stack_count - diff->changes[LW_CHANGE_NONE];
    size_t top = diff->options.top;

    return top != 0 && top < changed ? top : changed;
}

const struct lw_report_stack *lw_diff_shown_stack(const struct lw_diff_stack *stack)
{
    return stack->after ? stack->after : stack->before;
}

uint64_t lw_diff_error(const struct lw_diff_amount *from, const struct lw_diff_amount *to)
{
    return root_of_squares(from->error, to->error);
}

bool lw_diff_per_minute(const struct lw_diff *diff, int64_t change, int64_t *per_minute)
{
    if (diff->apart_ns < LW_NS_PER_SECOND)
        return false;
    double rate = (double)change * 60 * (double)LW_NS_PER_SECOND / (double)diff->apart_ns;
    if (fabs(rate) > 1e18)
        return false;
    *per_minute = (int64_t)round(rate);
    return true;
}
