/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The snapshot of what the agent has recorded. */
#include "shared_memory.h"

#include <math.h>

#define LIBRARY 0x7f0000000000ull
#define HEAP    0x560000000000ull

static const struct lw_snapshot_stack *stack_of(const struct lw_snapshot *snapshot, uint32_t number)
{
    const struct lw_stack *stack = view.by_number.items[number];
    for (size_t i = 0; i < snapshot->stack_count; i++)
        if (snapshot->stacks[i].stack == stack)
            return &snapshot->stacks[i];
    fail_msg("no stack %u", number);
    return NULL;
}

static void test_empty(void **state)
{
    (void)state;
    long before = memory_blocks();
    struct lw_snapshot *snapshot = snap(true);
    assert_int_equal(snapshot->taken_ns, NOW);
    assert_int_equal(snapshot->expire_ns, EXPIRE);
    assert_int_equal(snapshot->sample_bytes, 0);
    assert_int_equal(snapshot->stack_count, 0);
    assert_int_equal(snapshot->block_count, 0);
    assert_non_null(snapshot->blocks);
    assert_int_equal(snapshot->totals.live_blocks, 0);
    assert_int_equal(snapshot->totals.oldest_born_ns, 0);
    assert_int_equal(snapshot->events.allocs, 0);
    lw_snapshot_destroy(snapshot);
    assert_int_equal(memory_blocks(), before);
}

/* Two threads, two stacks, blocks on both sides of the threshold. */
static void test_accounts(void **state)
{
    (void)state;
    uint32_t a = agent_stack(0x1000, 0x2000), b = agent_stack(0x1000, 0x3000);
    struct lw_agent_thread *first = agent_thread(0), *second = agent_thread(1);
    agent_alloc(first, HEAP + 0x10, 100, NOW_TICK - 5, a);   /* expired, just */
    agent_alloc(second, HEAP + 0x110, 200, NOW_TICK - 9, a); /* expired */
    agent_alloc(second, HEAP + 0x210, 7, NOW_TICK - 4, a);   /* not yet */
    agent_alloc(first, HEAP + 0x310, 0, NOW_TICK, b);
    struct lw_agent_counts *counts = agent_counts(first, b);
    *counts = (struct lw_agent_counts){.allocs = 4,
                                       .alloc_bytes = 40,
                                       .frees = 3,
                                       .late_frees = 1,
                                       .lifetime_ticks = 11,
                                       .lifetime_min = 1 + 2,
                                       .lifetime_max = 6};
    counts = agent_counts(second, b);
    *counts = (struct lw_agent_counts){.allocs = 1,
                                       .alloc_bytes = 9,
                                       .frees = 1,
                                       .lifetime_ticks = 1,
                                       .lifetime_min = 1 + 1,
                                       .lifetime_max = 1};

    long before = memory_blocks();
    struct lw_snapshot *snapshot =
        record_view_snapshot(&view, NOW + 3, &(struct lw_snapshot_request){.with_blocks = true});
    assert_int_equal(memory_blocks(), before);
    assert_int_equal(snapshot->stack_count, 2);
    const struct lw_snapshot_stack *stack = stack_of(snapshot, a);
    assert_int_equal(stack->stats.live_bytes, 307);
    assert_int_equal(stack->stats.live_blocks, 3);
    assert_int_equal(stack->stats.expired_bytes, 300);
    assert_int_equal(stack->stats.expired_blocks, 2);
    assert_int_equal(stack->stats.allocs, 3);
    assert_int_equal(stack->stats.alloc_bytes, 307);
    assert_int_equal(stack->stats.frees, 0);
    assert_int_equal(stack->stats.lifetime_min_ns, 0);
    assert_int_equal(stack->expired_youngest_ns, 5 * TICK + 3);
    assert_int_equal(stack->expired_oldest_ns, 9 * TICK + 3);
    assert_int_equal(stack->live_youngest_ns, 4 * TICK + 3);
    assert_int_equal(stack->live_oldest_ns, 9 * TICK + 3);
    assert_int_equal(stack->live_bytes_error, 0);
    assert_int_equal(stack->block_count, 2);
    const struct lw_snapshot_block *blocks = snapshot->blocks + stack->first_block;
    assert_int_equal(blocks[0].address, HEAP + 0x110);
    assert_int_equal(blocks[0].size, 200);
    assert_int_equal(blocks[0].age_ns, 9 * TICK + 3);
    assert_int_equal(blocks[1].address, HEAP + 0x10);

    stack = stack_of(snapshot, b);
    assert_int_equal(stack->stats.live_blocks, 1);
    assert_int_equal(stack->stats.expired_blocks, 0);
    assert_int_equal(stack->expired_oldest_ns, 0);
    assert_int_equal(stack->stats.allocs, 5);
    assert_int_equal(stack->stats.alloc_bytes, 49);
    assert_int_equal(stack->stats.frees, 4);
    assert_int_equal(stack->stats.late_frees, 1);
    assert_int_equal(stack->stats.lifetime_min_ns, TICK);
    assert_int_equal(stack->stats.lifetime_max_ns, 6 * TICK);
    assert_true(stack->stats.lifetime_sum_ns == 12 * TICK);
    assert_int_equal(stack->block_count, 0);

    struct lw_ledger_totals totals;
    struct lw_event_counts events;
    record_view_totals(&view, NOW + 3, &totals, &events);
    assert_memory_equal(&totals, &snapshot->totals, sizeof(totals));
    assert_memory_equal(&events, &snapshot->events, sizeof(events));
    assert_int_equal(totals.live_bytes, 307);
    assert_int_equal(totals.live_blocks, 4);
    assert_int_equal(totals.expired_bytes, 300);
    assert_int_equal(totals.expired_blocks, 2);
    assert_int_equal(totals.expired_stacks, 1);
    assert_int_equal(totals.oldest_born_ns, START + (NOW_TICK - 9) * TICK);
    assert_int_equal(events.allocs, 8);
    assert_int_equal(events.frees, 4);
    lw_snapshot_destroy(snapshot);
}

/* Blocks outside the watched sizes are events, and nothing else; blocks whose stack found no room
 * are a stack of their own. */
static void test_no_stack(void **state)
{
    (void)state;
    struct lw_agent_thread *thread = agent_thread(0);
    agent_alloc(thread, HEAP, 100, 1, LW_AGENT_STACK_NONE);
    agent_alloc(thread, HEAP + 32, 10, 1, LW_AGENT_STACK_UNKNOWN);
    struct lw_snapshot *snapshot = snap(true);
    assert_int_equal(snapshot->stack_count, 1);
    assert_int_equal(snapshot->stacks[0].stack->depth, 0);
    assert_true(snapshot->stacks[0].stack->truncated);
    assert_int_equal(snapshot->totals.live_bytes, 10);
    assert_int_equal(snapshot->totals.expired_blocks, 1);
    assert_int_equal(snapshot->block_count, 1);
    assert_int_equal(snapshot->events.allocs, 2);
    lw_snapshot_destroy(snapshot);
}

static void test_events_and_losses(void **state)
{
    (void)state;
    for (uint32_t place = 0; place < 3; place++) {
        struct lw_agent_thread *thread = agent_thread(place * 10);
        thread->reallocs = 1;
        thread->failed_allocs = 2;
        thread->unknown_frees = 3;
        thread->missed_frees = 4;
        thread->dropped_blocks = 5;
        thread->truncated_stacks = 6;
        agent_counts(thread, LW_AGENT_STACK_NONE)->allocs = 50;
        agent_counts(thread, LW_AGENT_STACK_NONE)->frees = 24;
    }
    memory->no_thread = 100;
    memory->no_stack = 1000;
    long before = memory_blocks();
    struct lw_snapshot *snapshot = snap(false);
    assert_int_equal(memory_blocks(), before); /* places 1 .. 9 are holes, and stay so */
    assert_null(snapshot->blocks);
    assert_int_equal(snapshot->events.allocs, 150);
    assert_int_equal(snapshot->events.frees, 3 * (24 - 4)); /* of which unseen: no frees */
    assert_int_equal(snapshot->events.reallocs, 3);
    assert_int_equal(snapshot->events.failed_allocs, 6);
    assert_int_equal(snapshot->events.unknown_frees, 9);
    assert_int_equal(snapshot->events.missed_frees, 12);
    assert_int_equal(snapshot->losses.dropped_blocks, 15 + 100);
    assert_int_equal(snapshot->losses.truncated_stacks, 18 + 1000);
    assert_int_equal(snapshot->losses.missed_returns, 0);
    lw_snapshot_destroy(snapshot);
}

/* Counts lie in the directory's page of their stack, and pages before it need not exist. */
static void test_distant_counts(void **state)
{
    (void)state;
    uint32_t stack = 0;
    for (uint64_t i = 0; i < 70000; i++)
        stack = agent_stack(0x1000, 0x2000 + i * 16);
    struct lw_agent_thread *thread = agent_thread(7);
    agent_counts(thread, stack)->allocs = 3;
    long before = memory_blocks();
    struct lw_snapshot *snapshot = snap(false);
    assert_int_equal(memory_blocks(), before);
    assert_int_equal(snapshot->stack_count, 1);
    assert_int_equal(stack_of(snapshot, stack)->stats.allocs, 3);
    lw_snapshot_destroy(snapshot);
}

/* A block of counts that nobody has been given is not read. */
static void test_wrong_directory(void **state)
{
    (void)state;
    struct lw_agent_thread *thread = agent_thread(0);
    uint32_t stack = agent_stack(0x1000, 0x2000);
    agent_counts(thread, stack)->allocs = 3;
    for (uint32_t i = 1; i <= 100; i++)
        agent_stack(0x1000, 0x2000 + i * 16);
    lw_snapshot_destroy(snap(false)); /* reads all of the block that the agent has begun */
    thread->directory[1] = 1000;
    thread->directory[2] = UINT32_MAX;
    long before = memory_blocks();
    struct lw_snapshot *snapshot = snap(false);
    assert_int_equal(memory_blocks(), before);
    assert_int_equal(snapshot->events.allocs, 3);
    lw_snapshot_destroy(snapshot);
}

/* The blocks of each stack lie together, each stack's oldest first. */
static void test_blocks_of_stacks(void **state)
{
    (void)state;
    enum { STACKS = 5, EACH = 40 };
    struct lw_agent_thread *thread = agent_thread(0);
    uint32_t stacks[STACKS];
    for (uint32_t i = 0; i < STACKS; i++)
        stacks[i] = agent_stack(0x1000, 0x2000 + i * 16);
    for (uint32_t i = 0; i < STACKS * EACH; i++)
        agent_alloc(thread, HEAP + i * 48, i % STACKS, i * 7 % (NOW_TICK - 5), stacks[i % STACKS]);
    struct lw_snapshot *snapshot = snap(true);
    assert_int_equal(snapshot->block_count, STACKS * EACH);
    for (uint32_t i = 0; i < STACKS; i++) {
        const struct lw_snapshot_stack *stack = stack_of(snapshot, stacks[i]);
        const struct lw_snapshot_block *blocks = snapshot->blocks + stack->first_block;
        assert_int_equal(stack->block_count, EACH);
        assert_int_equal(blocks[0].age_ns, stack->expired_oldest_ns);
        assert_int_equal(blocks[EACH - 1].age_ns, stack->expired_youngest_ns);
        for (size_t j = 0; j < EACH; j++) {
            assert_int_equal(blocks[j].size, i);
            assert_true(j == 0 || blocks[j - 1].age_ns >= blocks[j].age_ns);
        }
    }
    lw_snapshot_destroy(snapshot);
}

/* Freed unseen, and given out again when the ledger had grown. */
static void test_missed_free(void **state)
{
    (void)state;
    struct lw_agent_thread *thread = agent_thread(0);
    uint32_t stack = agent_stack(0x1000, 0x2000);
    agent_alloc(thread, HEAP, 10, 1, stack);
    agent_counts(thread, stack)->allocs++;
    memory->ledger[lw_agent_near_bucket(HEAP, 1)][0] = (struct lw_agent_record){
        lw_agent_record_key(HEAP, NOW_TICK), lw_agent_record_value(20, NOW_TICK, 0, stack)};
    struct lw_snapshot *snapshot = snap(true);
    assert_int_equal(snapshot->events.allocs, 2);
    assert_int_equal(snapshot->events.frees, 0);
    assert_int_equal(snapshot->events.missed_frees, 1);
    assert_int_equal(snapshot->totals.live_blocks, 1);
    assert_int_equal(snapshot->totals.live_bytes, 20);
    assert_int_equal(snapshot->totals.expired_blocks, 0);
    lw_snapshot_destroy(snapshot);
}

/* Lost races and libraries loaded again give several numbers to one stack. */
static void test_merged_numbers(void **state)
{
    (void)state;
    struct lw_agent_thread *thread = agent_thread(0);
    load_module(1, LIBRARY, 0x1000);
    assert_int_equal(record_view_note_modules(&view), 0);
    uint32_t old = agent_stack(LIBRARY + 0x10, LIBRARY + 0x20);
    assert_int_equal(record_view_note_modules(&view), 0);
    load_module(1, LIBRARY + 0x100000, 0x1000);
    memory->epoch = 1;
    assert_int_equal(record_view_note_modules(&view), 0);
    uint32_t new = agent_stack(LIBRARY + 0x100010, LIBRARY + 0x100020);
    assert_int_not_equal(old, new);
    agent_alloc(thread, HEAP, 10, NOW_TICK, old);
    agent_alloc(thread, HEAP + 0x100, 20, NOW_TICK - 10, new);
    struct lw_snapshot *snapshot = snap(true);
    assert_int_equal(snapshot->stack_count, 1);
    assert_int_equal(snapshot->stacks[0].stats.allocs, 2);
    assert_int_equal(snapshot->stacks[0].stats.live_bytes, 30);
    assert_int_equal(snapshot->stacks[0].live_youngest_ns, 0);
    assert_int_equal(snapshot->stacks[0].live_oldest_ns, 10 * TICK);
    assert_int_equal(snapshot->stacks[0].stack->frames[0].module, 1);
    lw_snapshot_destroy(snapshot);
}

static void test_times(void **state)
{
    (void)state;
    assert_int_equal(record_expire_ticks(0), 1);
    assert_int_equal(record_expire_ticks(TICK), 1);
    assert_int_equal(record_expire_ticks(TICK + 1), 2);
    assert_int_equal(record_expire_ticks(UINT64_MAX), UINT32_MAX);

    struct lw_agent_thread *thread = agent_thread(0);
    uint32_t ahead = agent_stack(0x1000, 0x2000), wrapped = agent_stack(0x1000, 0x3000);
    memory->tick = LW_AGENT_TICK_MASK + 11; /* 10 after the records' ticks began again */
    const uint64_t now = START + memory->tick * TICK;
    agent_alloc(thread, HEAP, 1, 11, ahead);
    agent_alloc(thread, HEAP + 32, 1, LW_AGENT_TICK_MASK - 1, wrapped);
    struct lw_snapshot *snapshot =
        record_view_snapshot(&view, now, &(struct lw_snapshot_request){0});
    assert_int_equal(stack_of(snapshot, ahead)->live_oldest_ns, 0);
    assert_int_equal(stack_of(snapshot, wrapped)->live_oldest_ns, 12 * TICK);
    assert_int_equal(snapshot->totals.oldest_born_ns, now - 12 * TICK);
    lw_snapshot_destroy(snapshot);
    /* Nothing is older than the watch, whatever its record says. */
    memory->tick = NOW_TICK;
    agent_put(HEAP + 64, 1, NOW_TICK + 1000, 0, wrapped);
    snapshot = snap(false);
    assert_int_equal(snapshot->totals.oldest_born_ns, START);
    lw_snapshot_destroy(snapshot);
    agent_free(HEAP + 64);
    memory->tick = LW_AGENT_TICK_MASK + 11;
    /* The clock was read before the tick was: nothing is younger than now. */
    snapshot = record_view_snapshot(&view, now - TICK, &(struct lw_snapshot_request){0});
    assert_true(snapshot->totals.oldest_born_ns <= now - TICK);
    assert_int_equal(stack_of(snapshot, wrapped)->live_oldest_ns, 12 * TICK);
    lw_snapshot_destroy(snapshot);
}

/* The tick of a cut has just begun: all that was counted is of ticks before it. */
static void test_marked_blocks(void **state)
{
    (void)state;
    const uint32_t stack = agent_stack(0x1000, 0x2000);
    struct lw_agent_thread *thread = agent_thread(0);
    agent_alloc(thread, HEAP, 1, 0, stack); /* in the first tick of all */
    agent_alloc(thread, HEAP + 0x100, 2, NOW_TICK - 1, stack);
    struct lw_snapshot *cut =
        record_view_snapshot(&view, NOW, &(struct lw_snapshot_request){.cut = true});
    assert_int_equal(cut->cut_ns, NOW - TICK);
    assert_int_equal(stack_of(cut, stack)->stats.allocs, 2);
    assert_int_equal(stack_of(cut, stack)->marked_blocks, 0);
    agent_alloc(thread, HEAP + 0x200, 4, NOW_TICK, stack);
    agent_alloc(thread, HEAP + 0x300, 8, NOW_TICK + 1, stack);
    memory->tick = NOW_TICK + 5;
    const struct lw_snapshot_request before = {.marked_until_ns = cut->cut_ns},
                                     after = {.marked_after_ns = cut->cut_ns,
                                              .marked_until_ns = UINT64_MAX},
                                     one = {.marked_after_ns = cut->cut_ns,
                                            .marked_until_ns = cut->cut_ns + TICK};
    lw_snapshot_destroy(cut);
    const struct {
        const struct lw_snapshot_request *request;
        uint64_t bytes, blocks;
    } expected[] = {{&before, 3, 2}, {&after, 12, 2}, {&one, 4, 1}};
    for (size_t i = 0; i < 3; i++) {
        struct lw_snapshot *snapshot =
            record_view_snapshot(&view, NOW + 5 * TICK, expected[i].request);
        assert_int_equal(stack_of(snapshot, stack)->marked_bytes, expected[i].bytes);
        assert_int_equal(stack_of(snapshot, stack)->marked_blocks, expected[i].blocks);
        assert_int_equal(stack_of(snapshot, stack)->stats.allocs, 4);
        assert_int_equal(snapshot->cut_ns, 0);
        lw_snapshot_destroy(snapshot);
    }
}

/* A stack that comes during a snapshot waits for the next one, and one that is not complete too. */
static void test_incomplete_stack(void **state)
{
    (void)state;
    uint32_t stack = agent_stack(0x1000, 0x2000);
    agent_alloc(agent_thread(0), HEAP, 10, NOW_TICK, stack);
    uint16_t depth = memory->stacks[stack].depth;
    memory->stacks[stack].depth = 0;
    struct lw_snapshot *snapshot = snap(true);
    assert_int_equal(snapshot->stack_count, 0);
    assert_int_equal(snapshot->totals.live_blocks, 0);
    lw_snapshot_destroy(snapshot);
    memory->stacks[stack].depth = depth;
    snapshot = snap(true);
    assert_int_equal(snapshot->stack_count, 1);
    assert_int_equal(snapshot->totals.live_blocks, 1);
    lw_snapshot_destroy(snapshot);
}

/* ---- sampling -------------------------------------------------------------------------------- */

#define SAMPLINGS 400
#define BLOCKS    600

static double uniform(uint64_t *random)
{
    return (double)(next_random(random) >> 11 | 1) / 0x1p53;
}

/* Samples the same blocks again and again, as the agent would at two rates: the mean of the
 * estimates is the truth, and they scatter as their standard errors say. */
static void test_sampling_is_unbiased(void **state)
{
    (void)state;
    view.sampled = true;
    memory->sample_mean[0] = 4096;
    memory->sample_mean[1] = 512;
    memory->rate = 1;
    uint32_t stacks[2] = {agent_stack(0x1000, 0x2000), agent_stack(0x1000, 0x3000)};
    agent_counts(agent_thread(0), stacks[0])->allocs = 1;
    uint64_t random = 88172645463325252ull, truth = 0;
    double sum = 0, squares = 0, variance = 0, blocks = 0, expired = 0, expired_truth = 0;
    for (int i = 0; i < SAMPLINGS; i++) {
        truth = 0;
        expired_truth = 0;
        for (uint64_t j = 0; j < BLOCKS; j++) {
            uint64_t size = 16 + j * 37 % 5000, address = HEAP + j * 8192;
            uint32_t rate = j % 2, tick = j % 3 ? 1 : NOW_TICK;
            agent_free(address);
            truth += size;
            expired_truth += tick == 1 ? (double)size : 0;
            if (uniform(&random) < -expm1(-(double)size / (double)memory->sample_mean[rate]))
                agent_put(address, size, tick, rate, stacks[j / 7 % 2]);
        }
        struct lw_snapshot *snapshot = snap(true);
        assert_int_equal(snapshot->sample_bytes, 512);
        double estimate = (double)snapshot->totals.live_bytes;
        sum += estimate;
        squares += estimate * estimate;
        variance += pow((double)snapshot->live_bytes_error, 2);
        blocks += (double)snapshot->totals.live_blocks;
        expired += (double)snapshot->totals.expired_bytes;
        double parts = 0, errors = 0;
        for (size_t k = 0; k < snapshot->stack_count; k++) {
            parts += (double)snapshot->stacks[k].stats.live_bytes;
            errors += pow((double)snapshot->stacks[k].live_bytes_error, 2);
        }
        assert_true(fabs(parts - estimate) < 2);
        assert_true(fabs(sqrt(errors) - (double)snapshot->live_bytes_error) < 3);
        lw_snapshot_destroy(snapshot);
    }
    double mean = sum / SAMPLINGS, scatter = squares / SAMPLINGS - mean * mean;
    double error = sqrt(scatter / SAMPLINGS);
    assert_true(fabs(mean - (double)truth) < 3 * error);
    assert_true(fabs(expired / SAMPLINGS - expired_truth) < 3 * error);
    assert_true(fabs(blocks / SAMPLINGS - BLOCKS) < BLOCKS * 0.03);
    /* The estimated variance is right too, within what 400 samplings can tell. */
    assert_true(fabs(variance / SAMPLINGS / scatter - 1) < 0.3);
}

/* Counts are in 1/256. */
static void test_sampled_counts(void **state)
{
    (void)state;
    view.sampled = true;
    memory->sample_mean[3] = 1024;
    memory->rate = 3;
    struct lw_agent_thread *thread = agent_thread(0);
    thread->missed_frees = 200; /* not scaled, so nothing to take off */
    uint32_t stack = agent_stack(0x1000, 0x2000);
    *agent_counts(thread, stack) = (struct lw_agent_counts){.allocs = 10 * 256 + 200,
                                                            .alloc_bytes = 5000,
                                                            .frees = 4 * 256,
                                                            .late_frees = 256,
                                                            .lifetime_ticks = 20 * 256,
                                                            .lifetime_min = 3,
                                                            .lifetime_max = 9};
    struct lw_snapshot *snapshot = snap(false);
    const struct lw_stack_stats *stats = &stack_of(snapshot, stack)->stats;
    assert_int_equal(stats->allocs, 11);
    assert_int_equal(stats->alloc_bytes, 5000);
    assert_int_equal(stats->frees, 4);
    assert_int_equal(stats->late_frees, 1);
    assert_true(stats->lifetime_sum_ns == 20 * TICK);
    assert_int_equal(stats->lifetime_min_ns, 2 * TICK);
    assert_int_equal(stats->lifetime_max_ns, 9 * TICK);
    assert_int_equal(snapshot->events.allocs, 11);
    assert_int_equal(snapshot->events.frees, 4);
    assert_int_equal(snapshot->sample_bytes, 1024);
    lw_snapshot_destroy(snapshot);
}

/* A block that was bound to be sampled is exact; what the rate's mean was scribbled over with does
 * no harm. */
static void test_sampled_certainties(void **state)
{
    (void)state;
    view.sampled = true;
    memory->sample_mean[0] = 1;
    uint32_t stack = agent_stack(0x1000, 0x2000);
    agent_put(HEAP, 100000, 1, 0, stack);
    agent_put(HEAP + 0x1000, 50, 1, 9, stack); /* mean 0 */
    agent_put(HEAP + 0x2000, 0, 1, 0, stack);  /* cannot be sampled, and yet is there */
    struct lw_snapshot *snapshot = snap(false);
    assert_int_equal(snapshot->totals.live_bytes, 100050);
    assert_int_equal(snapshot->totals.live_blocks, 3);
    assert_int_equal(snapshot->live_bytes_error, 0);
    lw_snapshot_destroy(snapshot);
    memory->sample_mean[0] = UINT64_MAX;
    snapshot = snap(false);
    assert_true(snapshot->totals.live_bytes > 100050);
    lw_snapshot_destroy(snapshot);
}

/* ---- scribbled over -------------------------------------------------------------------------- */

static void scribble(uint64_t *random, void *where, size_t size)
{
    for (size_t i = 0; i + 8 <= size; i += 8) {
        const uint64_t noise = next_random(random);
        memcpy((char *)where + i, &noise, sizeof(noise)); /* not every field is aligned to 8 */
    }
}

static void scribble_all(uint64_t *random)
{
    scribble(random, &memory->newest, 64);
    scribble(random, &memory->epoch, 24);
    scribble(random, memory->sample_mean, sizeof(memory->sample_mean));
    scribble(random, memory->stacks, 4096 * sizeof(memory->stacks[0]));
    scribble(random, memory->giants, sizeof(memory->giants));
    scribble(random, memory->counts[0], 16 * sizeof(memory->counts[0]));
    scribble(random, memory->ledger, 4096 * sizeof(memory->ledger[0]));
    for (uint64_t i = 0; i < 64; i++)
        scribble(random, memory->ledger[next_random(random) % LW_AGENT_BUCKETS], 64);
    for (uint32_t i = 0; i < 3; i++)
        scribble(random, &memory->threads[i], offsetof(struct lw_agent_thread, last));
    memory->thread_count = (uint32_t)next_random(random);
    if (next_random(random) % 2)
        memory->next_stack %= 5000;
    if (next_random(random) % 2)
        memory->next_block %= 64;
    if (next_random(random) % 2)
        memory->next_word = UINT64_MAX;
}

static void test_scribbled_over(void **state)
{
    (void)state;
    uint64_t random = 2463534242u;
    load_module(1, 0x1000, UINT64_MAX - 0x2000);
    for (int i = 0; i < 6; i++) {
        scribble_all(&random);
        view.sampled = i % 2;
        assert_int_equal(record_view_note_modules(&view), 0);
        for (int j = 0; j < 2; j++) {
            view.fold.tried_ns = 0;
            assert_int_equal(record_fold_when_full(&view, memory, 0), 0);
            struct lw_snapshot *snapshot = snap(true);
            uint64_t placed = 0;
            for (size_t k = 0; k < snapshot->stack_count; k++)
                placed += snapshot->stacks[k].block_count;
            assert_int_equal(placed, snapshot->block_count);
            lw_snapshot_destroy(snapshot);
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_empty),
        TEST(test_accounts),
        TEST(test_no_stack),
        TEST(test_events_and_losses),
        TEST(test_distant_counts),
        TEST(test_wrong_directory),
        TEST(test_blocks_of_stacks),
        TEST(test_missed_free),
        TEST(test_merged_numbers),
        TEST(test_times),
        TEST(test_marked_blocks),
        TEST(test_incomplete_stack),
        TEST(test_sampling_is_unbiased),
        TEST(test_sampled_counts),
        TEST(test_sampled_certainties),
        TEST(test_scribbled_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
