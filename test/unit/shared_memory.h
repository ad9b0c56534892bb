/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For tests of the record engine's view: shared memory as the agent leaves it, made by the agent's
 * own functions, and a module table that says what the test wants. Include it once. */
#ifndef TEST_SHARED_MEMORY_H
#define TEST_SHARED_MEMORY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../src/agent/agent.h"
/* The agent finds its memory at a fixed distance from its code; here it is this. */
#undef shared
#undef control
static struct lw_agent_shared *memory;
#define shared memory
static struct lw_agent_control agent_limits; /* none, but for what a test sets */
#define control (&agent_limits)
/* clang-format off: they need what is above them */
#include "../../src/agent/ledger.c"
#include "../../src/agent/stacks.c"
/* clang-format on */
#undef shared
#undef control
#include "../../src/probe/record_view.h"

#define START    1000000000ull
#define TICK     LW_AGENT_TICK_NS
#define EXPIRE   (5 * TICK)
#define NOW_TICK 100u
#define NOW      (START + NOW_TICK * TICK)

/* ---- a module table ---- */

#define MODULES_MAX 8

struct lw_module_table {
    struct lw_module modules[MODULES_MAX]; /* by id - 1 */
    size_t count;
};

static struct lw_module_table modules;

size_t lw_module_table_count(struct lw_module_table *table)
{
    return table->count;
}

const struct lw_module *lw_module_table_get(struct lw_module_table *table, uint32_t id)
{
    return id >= 1 && id <= table->count ? &table->modules[id - 1] : NULL;
}

/* The module is at [start, start + size) now; size 0: it is closed. */
static inline void load_module(uint32_t id, uint64_t start, uint64_t size)
{
    struct lw_module *module = &modules.modules[id - 1];
    module->id = id;
    module->loaded = size != 0;
    module->start = start;
    module->end = start + size;
    module->bias = start;
    if (id > modules.count)
        modules.count = id;
}

/* ---- the memory ---- */

static int memory_fd = -1;
static struct lw_engine_options options;
static struct record_view view;

static int set_up(void **state)
{
    (void)state;
    memory_fd = memfd_create("test", MFD_CLOEXEC);
    if (memory_fd < 0 || ftruncate(memory_fd, sizeof(struct lw_agent_shared)) != 0)
        return -1;
    memory = mmap(NULL, sizeof(*memory), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                  memory_fd, 0);
    if (memory == MAP_FAILED)
        return -1;
    memory->tick = NOW_TICK;
    agent_limits = (struct lw_agent_control){0};
    modules = (struct lw_module_table){0};
    options = (struct lw_engine_options){
        .expire_ns = EXPIRE, .depth = 64, .min_size = 0, .max_size = UINT64_MAX};
    return record_view_init(&view, memory_fd, memory, &options, &modules, START);
}

static int tear_down(void **state)
{
    (void)state;
    record_view_deinit(&view);
    munmap(memory, sizeof(*memory));
    close(memory_fd);
    return 0;
}

/* Pages that exist, in units of 512 bytes. */
static inline long memory_blocks(void)
{
    struct stat status;
    assert_int_equal(fstat(memory_fd, &status), 0);
    return (long)status.st_blocks;
}

/* ---- what the agent does ---- */

/* A stack of the function at `entry`, called from one place. */
static inline uint32_t agent_stack(uint64_t entry, uint64_t return_address)
{
    const struct lw_agent_frame frame = {.pc = return_address};
    const struct stack_key key = {
        .hash = mix(return_address), .entry = entry, .frames = &frame, .depth = 1};
    return agent_intern(&key);
}

static inline struct lw_agent_thread *agent_thread(uint32_t place)
{
    struct lw_agent_thread *thread = &memory->threads[place];
    thread->used = 1;
    if (memory->thread_count <= place)
        memory->thread_count = place + 1;
    return thread;
}

static inline struct lw_agent_counts *agent_counts(struct lw_agent_thread *thread, uint32_t stack)
{
    uint32_t index = stack >> LW_AGENT_COUNTS_LOG;
    uint32_t block = thread->directory[index];
    if (block == 0)
        block = agent_counts_block(thread, index);
    return &memory->counts[block][stack & (LW_AGENT_COUNTS - 1)];
}

/* Puts a record in; true: there was one of the same address. */
static inline bool agent_put(uint64_t address, uint64_t size, uint32_t tick, uint32_t rate,
                             uint32_t stack)
{
    struct replaced replaced = {0};
    assert_true(insert(lw_agent_record_key(address, tick),
                       lw_agent_record_value(size, tick, rate, stack), &replaced));
    return replaced.value != 0;
}

static inline void agent_alloc(struct lw_agent_thread *thread, uint64_t address, uint64_t size,
                               uint32_t tick, uint32_t stack)
{
    struct lw_agent_counts *counts = agent_counts(thread, stack);
    add(&counts->allocs, 1);
    add(&counts->alloc_bytes, size);
    if (size >= LW_AGENT_SIZE_GIANT - 1)
        agent_keep_giant(thread, address, size);
    agent_put(address, size, tick, 0, stack);
}

static inline uint64_t agent_free(uint64_t address)
{
    uint64_t key;
    return take(address, &key);
}

static inline struct lw_snapshot *snap(bool with_blocks)
{
    struct lw_snapshot *snapshot =
        record_view_snapshot(&view, NOW, &(struct lw_snapshot_request){.with_blocks = with_blocks});
    assert_non_null(snapshot);
    return snapshot;
}

/* A repeatable series (xorshift64, Marsaglia 2003). */
static inline uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

#endif
