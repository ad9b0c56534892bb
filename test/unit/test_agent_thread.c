/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The places of threads in the shared memory. */
#include "agent_under_test.h"

#include <stdlib.h>

/* Threads as far as the agent knows them: memory that a thread pointer points to, with an id. */
struct fake_thread {
    _Alignas(64) uint64_t self;
    uint32_t padding[30], tid;
};

#define FAKES (LW_AGENT_THREADS + 100)
static struct fake_thread fakes[FAKES];

static int set_up(void **state)
{
    int result = make_memory(state);
    agent_control.tid_offset = offsetof(struct fake_thread, tid);
    for (uint32_t i = 0; i < FAKES; i++)
        fakes[i].tid = 1000 + i;
    return result;
}

#define thread_test(function) cmocka_unit_test_setup_teardown(function, set_up, free_memory)

static uint64_t pointer_of(uint32_t fake)
{
    return (uint64_t)&fakes[fake];
}

static struct lw_agent_index *entry_of(uint32_t fake)
{
    for (uint32_t i = 0; i < LW_AGENT_THREAD_INDEX; i++)
        if (shared->thread_index[i].pointer == pointer_of(fake))
            return &shared->thread_index[i];
    return NULL;
}

/* As leakwatch does for a thread that has ended. */
static void reclaim(uint32_t fake)
{
    struct lw_agent_index *entry = entry_of(fake);
    assert_non_null(entry);
    struct lw_agent_thread *thread = (struct lw_agent_thread *)((char *)shared + entry->place);
    entry->place = 0;
    entry->pointer = LW_AGENT_INDEX_GONE;
    thread->used = 0;
}

static uint32_t count_entries(bool gone)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < LW_AGENT_THREAD_INDEX; i++) {
        const uint64_t pointer = shared->thread_index[i].pointer;
        count += gone ? pointer == LW_AGENT_INDEX_GONE : pointer > LW_AGENT_INDEX_GONE;
    }
    return count;
}

static void test_registered_once(void **state)
{
    (void)state;
    struct lw_agent_thread *first = agent_register(pointer_of(0));
    struct lw_agent_thread *second = agent_register(pointer_of(1));
    assert_ptr_equal(first, &shared->threads[0]);
    assert_ptr_equal(second, &shared->threads[1]);
    assert_int_equal(first->tid, 1000);
    assert_int_equal(first->pointer, pointer_of(0));
    assert_int_not_equal(first->random, 0);
    assert_int_equal(shared->thread_count, 2);
    assert_ptr_equal(agent_register(pointer_of(0)), first);
    assert_int_equal(shared->thread_count, 2);
    assert_int_equal(shared->no_thread, 0);
}

/* A thread begins where another has ended: its id is another, and what that one was doing is over.
 */
static void test_new_thread_on_old_memory(void **state)
{
    (void)state;
    struct lw_agent_thread *thread = agent_register(pointer_of(0));
    thread->calls = 7;
    thread->busy = thread->low = thread->high = thread->last_depth = 9;
    fakes[0].tid = 5000;
    assert_ptr_equal(agent_register(pointer_of(0)), thread);
    assert_int_equal(thread->tid, 5000);
    assert_int_equal(thread->busy, 0);
    assert_int_equal(thread->low, 0);
    assert_int_equal(thread->high, 0);
    assert_int_equal(thread->last_depth, 0);
    assert_int_equal(thread->calls, 7); /* counts stay */
}

static void test_places_are_reused(void **state)
{
    (void)state;
    struct lw_agent_thread *first = agent_register(pointer_of(0));
    assert_non_null(agent_register(pointer_of(1)));
    first->reallocs = 3;
    reclaim(0);
    assert_ptr_equal(agent_register(pointer_of(2)), first);
    assert_int_equal(first->tid, 1002);
    assert_int_equal(first->reallocs, 3);
    assert_int_equal(shared->thread_count, 2);
}

static void test_no_place_left(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < LW_AGENT_THREADS; i++)
        assert_non_null(agent_register(pointer_of(i)));
    assert_int_equal(shared->thread_count, LW_AGENT_THREADS);
    for (uint32_t i = LW_AGENT_THREADS; i < FAKES; i++) {
        assert_null(agent_register(pointer_of(i)));
        assert_null(agent_register(pointer_of(i)));
    }
    assert_int_equal(shared->no_thread, 2 * (FAKES - LW_AGENT_THREADS));
    for (uint32_t i = 0; i < LW_AGENT_THREADS; i += 97)
        assert_int_equal(agent_register(pointer_of(i))->tid, 1000 + i);
    reclaim(5);
    assert_ptr_equal(agent_register(pointer_of(FAKES - 1)), &shared->threads[5]);
}

/* Many times more threads, one after another, than the index has entries. */
static void test_tombstones(void **state)
{
    (void)state;
    assert_non_null(agent_register(pointer_of(FAKES - 1)));
    for (uint32_t i = 0; i < 20 * LW_AGENT_THREAD_INDEX; i++) {
        uint32_t fake = i % (FAKES - 1);
        fakes[fake].tid = 10000 + i;
        struct lw_agent_thread *thread = agent_register(pointer_of(fake));
        assert_non_null(thread);
        assert_int_equal(thread->tid, 10000 + i);
        assert_ptr_equal(agent_register(pointer_of(fake)), thread);
        reclaim(fake);
    }
    assert_int_equal(count_entries(false), 1);
    assert_true(count_entries(true) < FAKES); /* they are used again */
    assert_int_equal(shared->no_thread, 0);
    assert_int_equal(shared->thread_count, 2);
}

/* An index without a free entry: a search ends. */
static void test_full_index(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < LW_AGENT_THREAD_INDEX; i++)
        shared->thread_index[i].pointer = 0x1000 + i;
    assert_null(agent_register(pointer_of(0)));
    assert_int_equal(shared->no_thread, 1);
    shared->thread_index[77].pointer = LW_AGENT_INDEX_GONE;
    assert_non_null(agent_register(pointer_of(0)));
}

static struct lw_agent_thread *registered[FAKES];

static void register_quarter(unsigned number)
{
    const uint32_t count = LW_AGENT_THREADS / TEST_THREADS;
    for (uint32_t i = 0; i < count; i++)
        registered[number * count + i] = agent_register(pointer_of(number * count + i));
}

static void test_threads_at_once(void **state)
{
    (void)state;
    uint32_t refused = 0;
    on_threads(register_quarter);
    for (uint32_t i = 0; i < LW_AGENT_THREADS; i++) {
        if (!registered[i]) {
            refused++; /* for once: two have met at one entry */
            registered[i] = agent_register(pointer_of(i));
        }
        assert_non_null(registered[i]);
        assert_int_equal(registered[i]->tid, 1000 + i);
    }
    assert_int_equal(shared->no_thread, refused);
    assert_int_equal(shared->thread_count, LW_AGENT_THREADS);
}

static int64_t kernel_seconds = 1000;

static int read_kernel_clock(int clock, int64_t time[2])
{
    assert_int_equal(clock, CLOCK_MONOTONIC_COARSE);
    time[0] = kernel_seconds;
    time[1] = 999999999;
    return 0;
}

/* leakwatch's clock stands still, and the kernel's does not: whoever wrote the first is gone. */
static void test_heartbeat(void **state)
{
    (void)state;
    struct lw_agent_thread *thread = agent_register(pointer_of(0));
    agent_control.clock = (uint64_t)(uintptr_t)read_kernel_clock;
    agent_control.lapse_ns = 10 * 1000000000ull;
    agent_heartbeat(thread);
    kernel_seconds += 10;
    agent_heartbeat(thread);
    assert_int_equal(agent_control.mode, LW_AGENT_EXACT);
    shared->tick++;
    kernel_seconds += 1;
    agent_heartbeat(thread);
    assert_int_equal(agent_control.mode, LW_AGENT_EXACT);
    kernel_seconds += 11;
    assert_int_equal(shared->lapsed, 0);
    agent_heartbeat(thread);
    assert_int_equal(agent_control.mode, LW_AGENT_OFF);
    assert_int_equal(shared->lapsed, 1);
}

static void test_no_clock_no_heartbeat(void **state)
{
    (void)state;
    struct lw_agent_thread *thread = agent_register(pointer_of(0));
    agent_control.clock = 0;
    agent_control.lapse_ns = 0;
    for (int i = 0; i < 3; i++)
        agent_heartbeat(thread);
    assert_int_equal(agent_control.mode, LW_AGENT_EXACT);
}

/* Threads that run side by side must not push each other out of the places that the sampled malloc
 * looks into: their stacks are a fixed distance apart. */
static void test_neighbours_have_places_of_their_own(void **state)
{
    (void)state;
    static const uint64_t distances[] = {0x801000, 0x21000, 0x101000, 0x401000, 0x9000};
    for (unsigned i = 0; i < sizeof(distances) / sizeof(distances[0]); i++) {
        for (uint64_t first = 0x7f1234567000; first < 0x7f1235567000; first += 0x1000) {
            uint64_t taken = 0;
            for (uint64_t n = 0; n < 8; n++) {
                const uint64_t bit = 1ull << recent_place(first + 0x6c0 + n * distances[i]);
                if (taken & bit)
                    fail_msg("%#lx apart, from %#lx", distances[i], first);
                taken |= bit;
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        thread_test(test_registered_once),
        thread_test(test_new_thread_on_old_memory),
        thread_test(test_places_are_reused),
        thread_test(test_no_place_left),
        thread_test(test_tombstones),
        thread_test(test_full_index),
        thread_test(test_threads_at_once),
        thread_test(test_heartbeat),
        thread_test(test_no_clock_no_heartbeat),
        cmocka_unit_test(test_neighbours_have_places_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
