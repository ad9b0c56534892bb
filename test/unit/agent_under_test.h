/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For tests of the agent: its own sources, compiled for this program (agent_under_test in
 * CMakeLists.txt), with memory that is made here. Include it once. */
#ifndef TEST_AGENT_UNDER_TEST_H
#define TEST_AGENT_UNDER_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "../../src/agent/ledger.h"

/* Where the agent's symbols of these names would be at fixed distances from its code. */
struct lw_agent_shared *agent_memory;
struct lw_agent_control agent_control;

static inline int make_memory(void **state)
{
    (void)state;
    agent_memory = mmap(NULL, sizeof(*agent_memory), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    agent_control = (struct lw_agent_control){
        .mode = LW_AGENT_EXACT, .depth = 64, .expire_ticks = 5, .max_size = UINT64_MAX};
    return agent_memory == MAP_FAILED ? -1 : 0;
}

static inline int free_memory(void **state)
{
    (void)state;
    return munmap(agent_memory, sizeof(*agent_memory));
}

#define agent_test(function) cmocka_unit_test_setup_teardown(function, make_memory, free_memory)

static inline uint64_t next_random(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    return *random ^= *random << 17;
}

/* Runs the function on so many threads at once, each with its number. */
#define TEST_THREADS 4
struct test_thread {
    pthread_t thread;
    unsigned number;
    void (*function)(unsigned number);
};

static inline void *run_test_thread(void *argument)
{
    const struct test_thread *thread = argument;
    thread->function(thread->number);
    return NULL;
}

static inline void on_threads(void (*function)(unsigned number))
{
    struct test_thread threads[TEST_THREADS];
    for (unsigned i = 0; i < TEST_THREADS; i++) {
        threads[i] = (struct test_thread){.number = i, .function = function};
        assert_int_equal(pthread_create(&threads[i].thread, NULL, run_test_thread, &threads[i]), 0);
    }
    for (unsigned i = 0; i < TEST_THREADS; i++)
        pthread_join(threads[i].thread, NULL);
}

#endif
