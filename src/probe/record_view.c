/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A snapshot of what the agent has recorded. */
#include "record_view.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "record_scan.h"

/* One stack, by lw_stack.id. */
struct tally {
    struct record_sums live, expired, marked;
    double folded; /* of the live ones */
    size_t found;  /* expired blocks */
    struct lw_agent_counts counts;
};

struct found_block {
    uint64_t address, size;
    uint32_t age, stack;
};

struct collection {
    struct record_view *view;
    uint64_t now;
    uint32_t tick, expire_ticks;
    struct tally *tallies; /* by lw_stack.id */
    struct record_sums live, expired;
    uint64_t expired_stacks, missed;
    struct lw_snapshot_request request;
    bool out_of_memory;
    LW_VECTOR(struct found_block) blocks;
    struct lw_event_counts events;
    struct lw_loss_counts losses;
};

int record_view_init(struct record_view *view, int fd, const struct lw_agent_shared *shared,
                     const struct lw_engine_options *options, struct lw_module_table *modules,
                     uint64_t start_ns)
{
    *view = (struct record_view){.fd = fd,
                                 .shared = shared,
                                 .options = options,
                                 .modules = modules,
                                 .start_ns = start_ns,
                                 .stacks = lw_stack_table_create()};
    return view->stacks ? 0 : -ENOMEM;
}

void record_view_deinit(struct record_view *view)
{
    lw_vector_for_each (note, &view->epochs)
        lw_vector_deinit(&note->spans);
    lw_vector_deinit(&view->epochs);
    lw_vector_deinit(&view->by_number);
    lw_stack_table_destroy(view->stacks);
    record_fold_deinit(&view->fold);
    *view = (struct record_view){0};
}

uint32_t record_expire_ticks(uint64_t expire_ns)
{
    uint64_t ticks = expire_ns / LW_AGENT_TICK_NS + (expire_ns % LW_AGENT_TICK_NS != 0);
    if (ticks == 0)
        return 1;
    return ticks < UINT32_MAX ? (uint32_t)ticks : UINT32_MAX;
}

/* ---- live blocks ----------------------------------------------------------------------------- */

double record_view_chance(const struct record_view *view, const struct record_block *block)
{
    uint64_t mean = view->sampled ? view->shared->sample_mean[block->rate] : 0;
    return mean == 0 || block->size == 0 ? 1 : -expm1(-(double)block->size / (double)mean);
}

const struct lw_stack *record_view_stack(const struct record_view *view, size_t number)
{
    return number < view->by_number.count ? view->by_number.items[number] : NULL;
}

/* When a tick began, in the time of lw_clock_now. */
static uint64_t tick_ns(const struct record_view *view, uint32_t tick)
{
    return view->start_ns + (uint64_t)tick * LW_AGENT_TICK_NS;
}

static bool is_marked(const struct collection *collection, const struct record_block *block)
{
    const struct lw_snapshot_request *request = &collection->request;
    const uint32_t tick = collection->tick > block->age ? collection->tick - block->age : 0;
    const uint64_t born_ns = tick_ns(collection->view, tick);
    return born_ns > request->marked_after_ns && born_ns <= request->marked_until_ns;
}

static void visit_block(void *context, const struct record_block *block)
{
    struct collection *collection = context;
    const struct lw_stack *stack = record_view_stack(collection->view, block->stack);
    if (!stack)
        return;
    struct tally *tally = &collection->tallies[stack->id];
    double chance = record_view_chance(collection->view, block);
    record_sums_add_block(&tally->live, block->size, block->age, chance);
    if (is_marked(collection, block))
        record_sums_add_block(&tally->marked, block->size, block->age, chance);
    if (block->age < collection->expire_ticks)
        return;
    record_sums_add_block(&tally->expired, block->size, block->age, chance);
    tally->found++;
    if (!collection->request.with_blocks)
        return;
    const struct found_block found = {block->address, block->size, block->age, stack->id};
    collection->out_of_memory |= lw_vector_push(&collection->blocks, found) != 0;
}

/* ---- counts ---------------------------------------------------------------------------------- */

static uint64_t load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void add_counts(struct lw_agent_counts *sum, const struct lw_agent_counts *counts)
{
    sum->allocs += load(&counts->allocs);
    sum->alloc_bytes += load(&counts->alloc_bytes);
    sum->frees += load(&counts->frees);
    sum->late_frees += load(&counts->late_frees);
    sum->lifetime_ticks += load(&counts->lifetime_ticks);
    uint32_t shortest = __atomic_load_n(&counts->lifetime_min, __ATOMIC_RELAXED);
    uint32_t longest = __atomic_load_n(&counts->lifetime_max, __ATOMIC_RELAXED);
    if (shortest != 0 && (sum->lifetime_min == 0 || shortest < sum->lifetime_min))
        sum->lifetime_min = shortest;
    if (longest > sum->lifetime_max)
        sum->lifetime_max = longest;
}

/* A block of counts: of the stacks from number `first` on. */
static void add_count_block(struct collection *collection, uint32_t block, size_t first)
{
    const struct record_view *view = collection->view;
    for (size_t i = 0; i < LW_AGENT_COUNTS && first + i < view->by_number.count; i++) {
        const struct lw_agent_counts *counts = &view->shared->counts[block][i];
        const struct lw_stack *stack = record_view_stack(view, first + i);
        collection->events.allocs += load(&counts->allocs);
        collection->events.frees += load(&counts->frees);
        if (stack)
            add_counts(&collection->tallies[stack->id].counts, counts);
    }
}

static void add_directory(struct collection *collection, const struct lw_agent_thread *thread)
{
    const struct record_view *view = collection->view;
    const uint32_t made = __atomic_load_n(&view->shared->next_block, __ATOMIC_ACQUIRE);
    const uint64_t size = sizeof(thread->directory[0]);
    const uint64_t start = (uint64_t)((const char *)thread->directory - (const char *)view->shared);
    const uint64_t used = (view->by_number.count + LW_AGENT_COUNTS - 1) / LW_AGENT_COUNTS;
    struct record_extent extent = {.end = start};
    while (record_next_extent(view->fd, extent.end, start + used * size, &extent)) {
        for (uint64_t i = (extent.start - start) / size; i < (extent.end - start) / size; i++) {
            uint32_t block = __atomic_load_n(&thread->directory[i], __ATOMIC_ACQUIRE);
            if (block != 0 && block <= made && block < LW_AGENT_COUNT_BLOCKS)
                add_count_block(collection, block, i * LW_AGENT_COUNTS);
        }
    }
}

static void add_thread(struct collection *collection, const struct lw_agent_thread *thread)
{
    const struct record_view *view = collection->view;
    const uint64_t start = (uint64_t)((const char *)thread - (const char *)view->shared);
    const uint64_t end = start + offsetof(struct lw_agent_thread, directory);
    struct record_extent extent;
    if (!record_next_extent(view->fd, start, end, &extent) || extent.start != start ||
        extent.end != end)
        return; /* of no thread yet */
    collection->events.reallocs += load(&thread->reallocs);
    collection->events.failed_allocs += load(&thread->failed_allocs);
    collection->events.unknown_frees += load(&thread->unknown_frees);
    collection->events.missed_frees += load(&thread->missed_frees);
    collection->losses.dropped_blocks += load(&thread->dropped_blocks);
    collection->losses.truncated_stacks += load(&thread->truncated_stacks);
    add_directory(collection, thread);
}

static uint64_t unscale(const struct record_view *view, uint64_t count)
{
    return view->sampled ? (count + 128) / 256 : count;
}

static void add_threads(struct collection *collection)
{
    const struct record_view *view = collection->view;
    const struct lw_agent_shared *shared = view->shared;
    const uint32_t count = __atomic_load_n(&shared->thread_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count && i < LW_AGENT_THREADS; i++)
        add_thread(collection, &shared->threads[i]);
    collection->losses.dropped_blocks += __atomic_load_n(&shared->no_thread, __ATOMIC_RELAXED);
    collection->losses.truncated_stacks += __atomic_load_n(&shared->no_stack, __ATOMIC_RELAXED);

    struct lw_event_counts *events = &collection->events;
    /* The agent counts a block that was freed unseen as freed in its stack. That is no free. */
    if (!view->sampled && events->missed_frees <= events->frees)
        events->frees -= events->missed_frees;
    events->allocs = unscale(view, events->allocs);
    events->frees = unscale(view, events->frees);
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* What is not in the ledger any more. */
static void add_folded(struct collection *collection)
{
    struct record_fold *fold = &collection->view->fold;
    record_fold_age(fold, collection->tick, collection->expire_ticks);
    for (size_t id = 1; id < fold->stacks.count; id++) {
        const struct record_folded *folded = &fold->stacks.items[id];
        struct tally *tally = &collection->tallies[id];
        tally->folded = folded->expired.blocks;
        for (unsigned i = 0; i <= RECORD_FOLD_SPANS; i++) {
            tally->folded += folded->young[i].blocks;
            record_sums_add(&tally->live, &folded->young[i]);
        }
        record_sums_add(&tally->live, &folded->expired);
        record_sums_add(&tally->expired, &folded->expired);
    }
    collection->losses.folded_blocks = fold->blocks;
}

/* Blocks before counts: what is live has then been counted as allocated. For a cut the counts come
 * first: they are those of the moment at which the tick began. */
static int collect(struct collection *collection)
{
    struct record_view *view = collection->view;
    collection->tick = __atomic_load_n(&view->shared->tick, __ATOMIC_RELAXED);
    collection->expire_ticks = record_expire_ticks(view->options->expire_ns);
    if (record_view_name_stacks(view) != 0)
        return -ENOMEM;
    const size_t stacks = lw_stack_table_count(view->stacks);
    collection->tallies = calloc(stacks + 1, sizeof(*collection->tallies));
    if (!collection->tallies)
        return -ENOMEM;
    if (collection->request.cut)
        add_threads(collection);
    if (record_scan_blocks(view->fd, view->shared, collection->tick, visit_block, collection,
                           &collection->missed) != 0 ||
        collection->out_of_memory)
        return -ENOMEM;
    add_folded(collection);
    if (!collection->request.cut)
        add_threads(collection);
    collection->events.missed_frees += collection->missed;
    for (size_t id = 1; id <= stacks; id++) {
        const struct tally *tally = &collection->tallies[id];
        record_sums_add(&collection->live, &tally->live);
        record_sums_add(&collection->expired, &tally->expired);
        collection->expired_stacks += tally->expired.blocks != 0;
    }
    return 0;
}

static void collection_deinit(struct collection *collection)
{
    lw_vector_deinit(&collection->blocks);
    free(collection->tallies);
}

static uint64_t whole(double value)
{
    return value < 0x1p63 ? (uint64_t)(value + 0.5) : UINT64_MAX;
}

/* Ages are whole ticks, and what has passed of the present one. */
static uint64_t age_ns(const struct collection *collection, uint32_t ticks)
{
    const uint64_t start = collection->view->start_ns, now = collection->now;
    const uint64_t watched = now > start ? now - start : 0;
    const uint64_t latest = (uint64_t)collection->tick * LW_AGENT_TICK_NS;
    const uint64_t age =
        (uint64_t)ticks * LW_AGENT_TICK_NS + (watched > latest ? watched - latest : 0);
    return age < watched ? age : watched;
}

static struct lw_ledger_totals make_totals(const struct collection *collection)
{
    const struct record_sums *live = &collection->live, *expired = &collection->expired;
    return (struct lw_ledger_totals){
        .live_bytes = whole(live->bytes),
        .live_blocks = whole(live->blocks),
        .expired_bytes = whole(expired->bytes),
        .expired_blocks = whole(expired->blocks),
        .expired_stacks = collection->expired_stacks,
        .oldest_born_ns =
            live->blocks != 0 ? collection->now - age_ns(collection, live->oldest) : 0,
    };
}

static struct lw_stack_stats make_stats(const struct collection *collection,
                                        const struct tally *tally)
{
    const struct record_view *view = collection->view;
    const struct lw_agent_counts *counts = &tally->counts;
    const unsigned __int128 lifetimes =
        (unsigned __int128)counts->lifetime_ticks * LW_AGENT_TICK_NS;
    return (struct lw_stack_stats){
        .live_bytes = whole(tally->live.bytes),
        .live_blocks = whole(tally->live.blocks),
        .expired_bytes = whole(tally->expired.bytes),
        .expired_blocks = whole(tally->expired.blocks),
        .allocs = unscale(view, counts->allocs),
        .alloc_bytes = counts->alloc_bytes,
        .frees = unscale(view, counts->frees),
        .late_frees = unscale(view, counts->late_frees),
        .lifetime_min_ns = counts->lifetime_min ? (counts->lifetime_min - 1) * LW_AGENT_TICK_NS : 0,
        .lifetime_max_ns = counts->lifetime_max * LW_AGENT_TICK_NS,
        .lifetime_sum_ns = view->sampled ? lifetimes / 256 : lifetimes,
    };
}

static struct lw_snapshot_stack make_stack(const struct collection *collection, uint32_t id)
{
    const struct tally *tally = &collection->tallies[id];
    struct lw_snapshot_stack stack = {
        .stack = lw_stack_table_get(collection->view->stacks, id),
        .stats = make_stats(collection, tally),
        .live_bytes_error = whole(sqrt(tally->live.variance)),
        .expired_bytes_error = whole(sqrt(tally->expired.variance)),
        .folded_blocks = whole(tally->folded),
        .marked_bytes = whole(tally->marked.bytes),
        .marked_blocks = whole(tally->marked.blocks),
        .marked_bytes_error = whole(sqrt(tally->marked.variance)),
    };
    if (tally->live.blocks != 0) {
        stack.live_youngest_ns = age_ns(collection, tally->live.youngest);
        stack.live_oldest_ns = age_ns(collection, tally->live.oldest);
    }
    if (tally->expired.blocks != 0) {
        stack.expired_youngest_ns = age_ns(collection, tally->expired.youngest);
        stack.expired_oldest_ns = age_ns(collection, tally->expired.oldest);
    }
    return stack;
}

static int compare_blocks(const void *left, const void *right)
{
    const struct lw_snapshot_block *a = left, *b = right;
    if (a->age_ns != b->age_ns)
        return a->age_ns > b->age_ns ? -1 : 1;
    return a->address < b->address ? -1 : a->address > b->address;
}

/* Gives each stack its blocks, which are stored side by side, oldest first. */
static void place_blocks(const struct collection *collection, struct lw_snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->stack_count; i++) {
        struct lw_snapshot_stack *stack = &snapshot->stacks[i];
        struct tally *tally = &collection->tallies[stack->stack->id];
        stack->first_block = snapshot->block_count;
        stack->block_count = tally->found;
        snapshot->block_count += tally->found;
        tally->found = stack->first_block; /* from now on, where its next block goes */
    }
    lw_vector_for_each (found, &collection->blocks)
        snapshot->blocks[collection->tallies[found->stack].found++] =
            (struct lw_snapshot_block){.address = found->address,
                                       .size = found->size,
                                       .age_ns = age_ns(collection, found->age)};
    for (size_t i = 0; i < snapshot->stack_count; i++) {
        const struct lw_snapshot_stack *stack = &snapshot->stacks[i];
        if (stack->block_count > 1)
            qsort(snapshot->blocks + stack->first_block, stack->block_count,
                  sizeof(*snapshot->blocks), compare_blocks);
    }
}

static struct lw_snapshot *make_snapshot(const struct collection *collection)
{
    const struct record_view *view = collection->view;
    struct lw_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    if (!snapshot)
        return NULL;
    const size_t stacks = lw_stack_table_count(view->stacks);
    snapshot->stacks = malloc((stacks + 1) * sizeof(*snapshot->stacks));
    if (collection->request.with_blocks)
        snapshot->blocks = malloc((collection->blocks.count + 1) * sizeof(*snapshot->blocks));
    if (!snapshot->stacks || (collection->request.with_blocks && !snapshot->blocks)) {
        lw_snapshot_destroy(snapshot);
        return NULL;
    }
    for (size_t id = 1; id <= stacks; id++) {
        const struct tally *tally = &collection->tallies[id];
        if (tally->counts.allocs != 0 || tally->live.blocks != 0)
            snapshot->stacks[snapshot->stack_count++] = make_stack(collection, (uint32_t)id);
    }
    if (collection->request.with_blocks)
        place_blocks(collection, snapshot);

    const struct lw_agent_shared *shared = view->shared;
    const uint64_t mean = shared->sample_mean[shared->rate % LW_AGENT_RATES];
    snapshot->taken_ns = collection->now;
    if (collection->request.cut)
        snapshot->cut_ns = tick_ns(view, collection->tick - 1);
    snapshot->expire_ns = view->options->expire_ns;
    snapshot->sample_bytes = !view->sampled ? 0 : mean != 0 ? mean : 1;
    snapshot->live_bytes_error = whole(sqrt(collection->live.variance));
    snapshot->expired_bytes_error = whole(sqrt(collection->expired.variance));
    snapshot->totals = make_totals(collection);
    snapshot->events = collection->events;
    snapshot->losses = collection->losses;
    return snapshot;
}

struct lw_snapshot *record_view_snapshot(struct record_view *view, uint64_t now,
                                         const struct lw_snapshot_request *request)
{
    struct collection collection = {.view = view, .now = now, .request = *request};
    struct lw_snapshot *snapshot = collect(&collection) == 0 ? make_snapshot(&collection) : NULL;
    collection_deinit(&collection);
    return snapshot;
}

void record_view_totals(struct record_view *view, uint64_t now, struct lw_ledger_totals *totals,
                        struct lw_event_counts *events)
{
    struct collection collection = {.view = view, .now = now};
    *totals = (struct lw_ledger_totals){0};
    *events = (struct lw_event_counts){0};
    if (collect(&collection) == 0) {
        *totals = make_totals(&collection);
        *events = collection.events;
    }
    collection_deinit(&collection);
}
