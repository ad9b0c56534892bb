/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Folding the oldest blocks of the agent's ledger while the agent writes it. */
#include "record_fold.h"

#include <errno.h>

#include "leakwatch/base/clock.h"
#include "record_scan.h"
#include "record_view.h"

#define TRY_NS (200 * LW_NS_PER_MS)
/* Ticks. A block may be freed without a compare-and-exchange in the tick that it was made in
 * (free_recorded); so old, such a free would have been under way for all of that time. */
#define LEAST_AGE 25u

void record_fold_deinit(struct record_fold *fold)
{
    lw_vector_deinit(&fold->stacks);
}

static void age_sums(struct record_sums *sums, uint32_t ticks)
{
    sums->youngest += ticks;
    sums->oldest += ticks;
}

void record_fold_age(struct record_fold *fold, uint32_t tick, uint32_t expire_ticks)
{
    const uint32_t ticks = tick - fold->tick;
    fold->tick = tick;
    lw_vector_for_each (stack, &fold->stacks) {
        age_sums(&stack->expired, ticks);
        for (unsigned i = 0; i <= RECORD_FOLD_SPANS; i++) {
            struct record_sums *young = &stack->young[i];
            age_sums(young, ticks);
            if (young->blocks == 0 || young->youngest < expire_ticks)
                continue;
            record_sums_add(&stack->expired, young);
            *young = (struct record_sums){0};
        }
    }
}

/* Where a block of this age counts. A span has been expired when its place is the next one's. */
static struct record_sums *sums_for(struct record_folded *folded, uint32_t tick, uint32_t age,
                                    uint32_t expire_ticks)
{
    const uint32_t span = expire_ticks / RECORD_FOLD_SPANS + 1;
    if (age >= expire_ticks)
        return &folded->expired;
    return &folded->young[(tick - age) / span % (RECORD_FOLD_SPANS + 1)];
}

/* ---- whether it is time ---- */

/* Records of the generation, in use and in all: of its beginning, since they are spread evenly. */
struct load {
    uint64_t used, records;
};

static struct load sample_load(const struct lw_agent_shared *shared, uint32_t generation)
{
    enum { BUCKETS = 512 };
    const struct lw_agent_record(*bucket)[LW_AGENT_BUCKET_RECORDS] =
        &shared->ledger[lw_agent_first_bucket(generation)];
    struct load load = {.records = BUCKETS * LW_AGENT_BUCKET_RECORDS};
    for (unsigned i = 0; i < BUCKETS; i++)
        for (unsigned j = 0; j < LW_AGENT_BUCKET_RECORDS; j++)
            load.used += __atomic_load_n(&bucket[i][j].key, __ATOMIC_RELAXED) != 0;
    return load;
}

static bool is_full(const struct lw_agent_shared *shared, uint32_t last)
{
    /* Before it is the newest, little of it exists. */
    if (__atomic_load_n(&shared->newest, __ATOMIC_ACQUIRE) < last)
        return false;
    const struct load load = sample_load(shared, last);
    return load.used >= load.records / 4 * 3;
}

/* ---- from which age on ---- */

/* Classes of ages: each power of two in 32 parts. */
#define PARTS_LOG 5u
#define PARTS     (1u << PARTS_LOG)
#define CLASSES   ((LW_AGENT_TICK_BITS - PARTS_LOG + 1) * PARTS)

static uint32_t class_of(uint32_t age)
{
    const uint32_t log = age < PARTS ? PARTS_LOG : 31 - (uint32_t)__builtin_clz(age);
    return (log - PARTS_LOG) * PARTS + (age >> (log - PARTS_LOG));
}

static uint32_t youngest_of(uint32_t class)
{
    const uint32_t shift = class < 2 * PARTS ? 0 : class / PARTS - 1;
    return (class - shift * PARTS) << shift;
}

struct ages {
    uint32_t generation;
    uint64_t blocks, by_class[CLASSES];
};

static void note_age(void *context, const struct record_block *block)
{
    struct ages *ages = context;
    if (block->generation != ages->generation)
        return;
    ages->by_class[class_of(block->age)]++;
    ages->blocks++;
}

/* The age from which blocks must go for no more than `keep` to stay in the last generation. */
static uint32_t age_to_fold(const struct ages *ages, uint64_t keep)
{
    uint64_t left = ages->blocks;
    uint32_t class = CLASSES;
    while (class > 0 && left > keep)
        left -= ages->by_class[--class];
    const uint32_t age = youngest_of(class);
    return age > LEAST_AGE ? age : LEAST_AGE;
}

/* ---- folding ---- */

struct folding {
    struct record_view *view;
    struct lw_agent_shared *shared;
    uint32_t tick, expire_ticks, age;
};

/* Takes the record of that key out; false when the target has. */
static bool take(struct lw_agent_record *record, uint64_t key)
{
    uint64_t expected = key;
    if (!__atomic_compare_exchange_n(&record->key, &expected, LW_AGENT_TAKEN, false,
                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return false;
    if (__atomic_load_n(&record->value, __ATOMIC_ACQUIRE) == 0) {
        /* A realloc has failed and puts the block back: the value is about to come. */
        __atomic_store_n(&record->key, key, __ATOMIC_RELEASE);
        return false;
    }
    __atomic_store_n(&record->value, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&record->key, 0, __ATOMIC_RELEASE);
    return true;
}

/* The record, to be written. */
static struct lw_agent_record *record_of(const struct folding *folding,
                                         const struct record_block *block)
{
    struct lw_agent_record *first = folding->shared->ledger[0];
    return first + (block->record - first);
}

static void fold_block(void *context, const struct record_block *block)
{
    const struct folding *folding = context;
    struct record_view *view = folding->view;
    if (block->age < folding->age)
        return;
    /* A giant's size is elsewhere, and there are few; a stack that has come since has no name. */
    const struct lw_stack *stack = record_view_stack(view, block->stack);
    if ((!stack && block->stack != LW_AGENT_STACK_NONE) || block->size >= LW_AGENT_SIZE_GIANT - 1)
        return;
    if (!take(record_of(folding, block),
              lw_agent_record_key(block->address, folding->tick - block->age)))
        return;
    view->fold.blocks++;
    if (!stack)
        return;
    struct record_sums *sums = sums_for(&view->fold.stacks.items[stack->id], folding->tick,
                                        block->age, folding->expire_ticks);
    record_sums_add_block(sums, block->size, block->age, record_view_chance(view, block));
}

/* A place for each stack that has a name. */
static int make_places(struct record_fold *fold, size_t stacks)
{
    while (fold->stacks.count <= stacks)
        if (lw_vector_push(&fold->stacks, (struct record_folded){0}) != 0)
            return -ENOMEM;
    return 0;
}

static int fold_oldest(struct folding *folding, uint32_t last)
{
    struct record_view *view = folding->view;
    struct ages ages = {.generation = last};
    const uint64_t records = (1ull << (LW_AGENT_BUCKETS_LOG + last)) * LW_AGENT_BUCKET_RECORDS;
    uint64_t missed = 0; /* they stay, and are counted by each snapshot */
    int error =
        record_scan_blocks(view->fd, folding->shared, folding->tick, note_age, &ages, &missed);
    if (error)
        return error;
    folding->age = age_to_fold(&ages, records / 2);
    return record_scan_blocks(view->fd, folding->shared, folding->tick, fold_block, folding,
                              &missed);
}

static int fold_now(struct record_view *view, struct lw_agent_shared *shared, uint32_t last)
{
    struct folding folding = {.view = view,
                              .shared = shared,
                              .tick = __atomic_load_n(&shared->tick, __ATOMIC_RELAXED),
                              .expire_ticks = record_expire_ticks(view->options->expire_ns)};
    int error = record_view_name_stacks(view);
    if (!error)
        error = make_places(&view->fold, lw_stack_table_count(view->stacks));
    if (error)
        return error;
    record_fold_age(&view->fold, folding.tick, folding.expire_ticks);
    return fold_oldest(&folding, last);
}

int record_fold_when_full(struct record_view *view, struct lw_agent_shared *shared, uint32_t last)
{
    if (lw_clock_now() - view->fold.tried_ns < TRY_NS || !is_full(shared, last))
        return 0;
    int error = fold_now(view, shared, last);
    /* The target's clock stood meanwhile: blocks look older than they are when it goes on. The next
     * time is far enough from then for frees that were under way to have ended (LEAST_AGE). */
    view->fold.tried_ns = lw_clock_now();
    return error;
}
